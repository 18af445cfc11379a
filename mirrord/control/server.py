"""How does a verb reach the daemon?

HTTP/1.1 on a unix socket with mode 0660: `POST /v1/VERB` with a JSON object of arguments. The answer is a
stream of JSON lines: what the verb says while it works, each an object with `event`; last either
`{"result": ...}` or `{"error": {...}}`. The user at the other end is taken from the socket itself
(SO_PEERCRED, unix(7)) and recorded as who did it. What a verb does is the desk's affair.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pwd
import select
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from mirrord.errors import BadUsage, MirrordError, Refused

Talk = Callable[[dict[str, Any]], None]
Call = Callable[[str, Mapping[str, Any], Talk, str], dict[str, Any]]
"""(verb, arguments, talk, who) -> result; raises MirrordError."""

PREFIX = "/v1/"
LARGEST_REQUEST = 1 << 20
"""Bytes; no verb has arguments anywhere near this."""
IDLE = 30.0
"""Seconds that a client may take to send its request."""

_log = logging.getLogger(__name__)


def describe(error: BaseException) -> dict[str, Any]:
    """Turn an error into the object that travels, the same for the socket and for `--json`."""
    if isinstance(error, MirrordError):
        detail: dict[str, Any] = {"kind": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
        for extra in ("brake", "found", "holder", "since", "needed", "free", "faults"):
            if (value := getattr(error, extra, None)) is not None:
                detail[extra] = value
        return detail
    return {"kind": type(error).__name__, "message": f"{type(error).__name__}: {error}", "exit_code": 1}


class ControlServer:
    """The daemon's ear: answers each request in a thread of its own."""

    def __init__(self, path: Path, call: Call) -> None:
        """Bind the socket; raises Refused where its folder does not let us."""
        self.path = path
        _make_room(path)
        before = os.umask(0o117)  # the socket is born 0660: no moment in which others may connect
        try:
            self._server = _Server(str(path), call)
        except OSError as e:
            raise Refused(
                f"{path}: listening for verbs: {e.strerror or e}; make its folder writable or set control.socket"
            ) from e
        finally:
            os.umask(before)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="control", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and remove the socket; requests under way are not waited for."""
        self._server.shutdown()
        self._server.server_close()
        with contextlib.suppress(OSError):
            self.path.unlink()


def _make_room(path: Path) -> None:
    """Remove what a dead daemon left; a live one's socket stays and binding fails on it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise Refused(f"{path.parent}: making the socket's folder: {e.strerror or e}; set control.socket") from e
    if path.exists() and not path.is_socket():
        raise Refused(f"{path}: listening for verbs: something that is no socket stands there; set control.socket")
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError:
            return


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: str, call: Call) -> None:
        self.call = call
        super().__init__(path, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 (the base class calls it so)
        _log.debug("a client of the control socket went away", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE
    server: _Server

    def address_string(self) -> str:
        return "control"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class names it so)
        _log.debug(format, *args)

    def do_POST(self) -> None:
        self.close_connection = True
        try:
            verb, arguments = self._request()
        except (ValueError, BadUsage) as e:
            self.send_error(400, str(e))
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Connection", "close")
        self.end_headers()
        self._say({"event": "hello", "pid": os.getpid()})
        try:
            result = self.server.call(verb, arguments, self._say, self._who())
        except MirrordError as e:
            self._say({"error": describe(e)})
        except Exception as e:  # noqa: BLE001 (one bad verb must not take the daemon with it)
            _log.exception("the verb %s failed in a way that nobody foresaw", verb)
            self._say({"error": describe(e)})
        else:
            self._say({"result": result})

    def _request(self) -> tuple[str, dict[str, Any]]:
        if not self.path.startswith(PREFIX):
            raise BadUsage(f"no such thing here: {self.path}")
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 <= length <= LARGEST_REQUEST:
            raise BadUsage("the request is too large")
        arguments = json.loads(self.rfile.read(length) or b"{}")
        if not isinstance(arguments, dict):
            raise BadUsage("the arguments must be one JSON object")
        return self.path.removeprefix(PREFIX), arguments

    def setup(self) -> None:
        super().setup()
        self._speaking = threading.Lock()
        self._gone = False

    def _say(self, message: dict[str, Any]) -> None:
        """Send one line, from any thread; a client that went away or was stopped holds up nothing that it asked for."""
        with self._speaking:
            if self._gone or (message.get("event") == "progress" and not self._takes_more()):
                return
            try:
                self.wfile.write(json.dumps(message).encode() + b"\n")
                self.wfile.flush()
            except (OSError, ValueError):
                self._gone = True

    def _takes_more(self) -> bool:
        """Tell whether the client reads: progress that nobody reads is not worth a worker's waiting."""
        poll = select.poll()
        poll.register(self.connection, select.POLLOUT)
        return bool(poll.poll(0))

    def _who(self) -> str:
        peer = self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return user_name(struct.unpack("3i", peer)[1])


def user_name(uid: int) -> str:
    """Return the user's name, or `uid N` where the machine knows none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
