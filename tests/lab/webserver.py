"""A web server that says exactly what a test tells it to: hostile, broken or slow mirrors.

It adds nothing to an answer: headers, lengths and dates are as the test wrote them.
"""

from __future__ import annotations

import contextlib
import email.utils
import mimetypes
import socket
import socketserver
import ssl
import struct
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.client import responses
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.ca import Certificate
from tests.lab.ports import free_port


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked: `path` as on the wire, header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    address: str  # the client's


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered. `Content-Length`, `Date` and `Connection: close` are added where `headers` lack them.

    piece, pause: the body goes out `piece` bytes at a time with `pause` seconds between. cut_after: the connection is
    reset after so many bytes of the body. silent: nothing is answered at all, and the connection stays open.
    without: headers (in lower case) that are not to be added.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    piece: int | None = None
    pause: float = 0.0
    cut_after: int | None = None
    silent: bool = False
    without: frozenset[str] = frozenset()

    def slowly(self, piece: int, pause: float) -> Answer:
        """Return the same answer, dripped."""
        return replace(self, piece=piece, pause=pause)

    def head(self) -> bytes:
        """Return the status line and headers as they go out."""
        headers = dict(self.headers)
        given = {name.lower() for name in headers} | self.without
        added = {
            "Content-Length": str(len(self.body)),
            "Date": email.utils.formatdate(usegmt=True),
            "Connection": "close",
        }
        headers |= {name: value for name, value in added.items() if name.lower() not in given}
        lines = [f"HTTP/1.1 {self.status} {responses.get(self.status, '')}", *(f"{n}: {v}" for n, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


Script = Callable[[Request], Answer]


def redirect(to: str, status: int = 301) -> Answer:
    """Return an answer that sends the reader elsewhere."""
    return Answer(status, b"moved\n", {"Location": to, "Content-Type": "text/plain"})


def files(root: Path) -> Script:
    """Return a script that serves a folder as any web server does; scripts of tests fall back on it."""

    def answer(request: Request) -> Answer:
        name = urllib.parse.unquote_to_bytes(request.path.partition("?")[0]).lstrip(b"/")
        path = Path(
            root, *(part.decode("utf-8", "surrogateescape") for part in name.split(b"/") if part not in (b"", b".."))
        )
        if path.is_dir():
            path /= "index.html"
        if not path.is_file():
            return Answer(404, b"not found\n", {"Content-Type": "text/plain"})
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        body = path.read_bytes()
        headers = {"Content-Type": kind}
        if request.method == "HEAD":
            return Answer(200, b"", headers | {"Content-Length": str(len(body))})
        return Answer(200, body, headers)

    return answer


class WebServer:
    """A threaded HTTP or HTTPS server whose `script` may be exchanged while it runs; a context manager.

    `requests` is what it was asked so far, oldest first.
    """

    def __init__(
        self,
        script: Script,
        *,
        certificate: Certificate | None = None,
        address: str = "127.0.0.1",
        port: int | None = None,
    ) -> None:
        self.script = script
        self.address = address
        self.port = port or free_port()
        self.requests: list[Request] = []
        self._certificate = certificate
        self._stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._server: _Listener | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Return `https://127.0.0.1:8443/` or the like."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{'https' if self._certificate else 'http'}://{host}:{self.port}/"

    def start(self) -> Self:
        """Listen; it serves when this returns."""
        self._stopping.clear()
        context = None
        if self._certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate.certificate, self._certificate.key)
        self._server = _Listener(self, context)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name=f"web-{self.port}", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Reset what is open and listen no more."""
        if self._server is None or self._thread is None:
            return
        self._stopping.set()
        self._server.shutdown()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join(5.0)
        self._server = self._thread = None

    def __enter__(self) -> Self:
        """Listen, where it does not yet."""
        return self if self._server is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Listen no more."""
        self.stop()

    def serve(self, connection: socket.socket, context: ssl.SSLContext | None, client: str) -> None:
        """Serve one connection: one request, one answer."""
        connection.settimeout(60.0)
        self._open.add(connection)
        spoken: socket.socket = connection
        try:
            if context is not None:
                spoken = context.wrap_socket(connection, server_side=True)  # takes the connection over
                self._open.add(spoken)
            request = _read(spoken, client)
            if request is None:
                return
            self.requests.append(request)
            self._answer(spoken, self.script(request))
        except (OSError, ValueError):
            pass  # the reader went away, or spoke no HTTP: its affair
        finally:
            self._open -= {connection, spoken}
            with contextlib.suppress(OSError):
                spoken.close()

    def _answer(self, connection: socket.socket, answer: Answer) -> None:
        if answer.silent:
            self._stopping.wait()
            return
        connection.sendall(answer.head())
        body = answer.body if answer.cut_after is None else answer.body[: answer.cut_after]
        size = answer.piece or max(1, len(body))
        for start in range(0, len(body), size):
            connection.sendall(body[start : start + size])
            if answer.pause and self._stopping.wait(answer.pause):
                return
        if answer.cut_after is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class _Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, owner: WebServer, context: ssl.SSLContext | None) -> None:
        self.address_family = socket.AF_INET6 if ":" in owner.address else socket.AF_INET
        self._owner = owner
        self._context = context
        super().__init__((owner.address, owner.port), socketserver.BaseRequestHandler)

    def finish_request(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: tuple[str, int] | str
    ) -> None:
        assert isinstance(request, socket.socket)
        self._owner.serve(request, self._context, str(client_address[0]))

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        assert isinstance(request, socket.socket)
        request.close()


def _read(connection: socket.socket, client: str) -> Request | None:
    """Read one request without a body."""
    with connection.makefile("rb") as stream:
        first = stream.readline(65536).decode("latin-1").split()
        if len(first) != 3:
            return None
        headers: dict[str, str] = {}
        while line := stream.readline(65536).strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
    return Request(first[0], first[1], headers, client)
