"""How does a verb typed by a person reach the running daemon?

The other end of `mirrord.control.server`: one request, a stream of lines. A socket that nobody listens
on means that there is no daemon; a socket that takes the request and stays silent is an error of its
own (exit 11), because a second mirrord beside a hung one could only do harm.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mirrord.errors
from mirrord.control.server import PREFIX, Talk, user_name
from mirrord.errors import MirrordError, NoAnswer, Refused

CONNECT = 5.0
"""Seconds until the daemon must have taken the connection and said hello."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, patience: float) -> None:
        super().__init__("mirrord", timeout=patience)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def is_there(path: Path) -> bool:
    """Tell whether a daemon listens on the socket; raises NoAnswer, or Refused where we may not connect."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(CONNECT)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return False
        except PermissionError as e:
            raise Refused(f"{path}: reaching the daemon: permission denied; use sudo or join the socket's group") from e
        except OSError as e:
            raise _no_answer(path) from e
    return True


class Client:
    """The daemon, as seen by a verb."""

    alone = False

    def __init__(self, path: Path, patience: float = CONNECT) -> None:
        """Name the socket; nothing is connected yet. `patience`: seconds until the daemon must say hello."""
        self.path = path
        self._patience = patience

    def call(self, verb: str, arguments: Mapping[str, Any], talk: Talk) -> dict[str, Any]:
        """Have the daemon do one verb; `talk` gets what it says meanwhile. Raises what the verb raised."""
        connection = _Connection(self.path, self._patience)
        try:
            connection.request("POST", PREFIX + verb, json.dumps(dict(arguments)))
            sock = connection.sock  # the answer takes it away from the connection
            with contextlib.closing(sock), contextlib.closing(connection.getresponse()) as answer:
                if answer.status != http.client.OK:
                    raise MirrordError(f"the daemon: {verb}: {answer.reason}")
                if not answer.readline():
                    raise _no_answer(self.path)
                sock.settimeout(None)  # a sync may take hours; the daemon answers at its end
                return self._listen(answer, talk)
        except (OSError, http.client.HTTPException, ValueError) as e:
            raise _no_answer(self.path) from e
        finally:
            connection.close()

    def _listen(self, answer: http.client.HTTPResponse, talk: Talk) -> dict[str, Any]:
        for line in iter(answer.readline, b""):
            message = json.loads(line)
            if "result" in message:
                result: dict[str, Any] = message["result"]
                return result
            if "error" in message:
                raise rebuilt(message["error"])
            talk(message)
        raise _no_answer(self.path)


def _no_answer(path: Path) -> NoAnswer:
    return NoAnswer(
        f"{path}: asking the daemon: it does not answer; look at `systemctl status mirrord`, restart it if it hangs"
    )


def rebuilt(error: Mapping[str, Any]) -> MirrordError:
    """Make the error again that the daemon met, of the same class and with the same figures."""
    kind = getattr(mirrord.errors, str(error.get("kind")), MirrordError)
    if not (isinstance(kind, type) and issubclass(kind, MirrordError)):
        kind = MirrordError
    made: MirrordError = kind.__new__(kind)
    Exception.__init__(made, str(error.get("message", "")))
    for name, value in error.items():
        if name not in ("kind", "message", "exit_code"):
            setattr(made, name, value)
    return made


def own_name() -> str:
    """Return who is typing, for the journal of verbs that work alone."""
    return user_name(os.getuid())
