"""How does a small host show its folder to readers?

A folder by HTTP/1.1, as any web server does it: `current` is looked up anew for each request, so that a switch of
releases is seen at once, and each answer is of one file that was opened once.
"""

from __future__ import annotations

import email.utils
import mimetypes
import os
import shutil
import socket
import stat
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote_to_bytes, urlsplit

from mirrord.demo.plug import Plugged

IDLE = 30.0
"""Seconds after which a connection without a request is closed."""


class WebHost(Plugged):
    """A web server of one folder, usually `<account>/current`; a context manager."""

    def __init__(self, folder: Path, *, address: str = "127.0.0.1", port: int = 0) -> None:
        """Serve `folder`, which may come to be later."""
        super().__init__(address, port)
        self.folder = folder

    @property
    def url(self) -> str:
        """`http://127.0.0.1:8080/` or the like."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}/"

    def serve(self, connection: socket.socket) -> None:
        """Answer one connection's requests."""
        _Handler(connection, self.folder)


class _Handler(BaseHTTPRequestHandler):
    """The requests of one connection."""

    protocol_version = "HTTP/1.1"
    server_version = "mirrord-demo"
    sys_version = ""
    timeout = IDLE

    def __init__(self, connection: socket.socket, folder: Path) -> None:
        self._folder = os.fsencode(folder)
        super().__init__(connection, ("", 0), None)  # type: ignore[arg-type]  # it asks nothing of a server

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by http.server
        """Say nothing: the story is told elsewhere."""

    def _answer(self, *, with_body: bool) -> None:
        path = unquote_to_bytes(urlsplit(self.path).path)
        names = [name for name in path.split(b"/") if name]
        if b"\0" in path or b".." in names or b"." in names:
            return self._refuse(HTTPStatus.BAD_REQUEST)
        where = os.path.join(self._folder, *names)  # noqa: PTH118 - of bytes
        try:
            if os.path.isdir(where):  # noqa: PTH112 - of bytes
                if not path.endswith(b"/"):
                    return self._redirect(path + b"/")
                where = os.path.join(where, b"index.html")  # noqa: PTH118 - of bytes
            elif path.endswith(b"/"):
                return self._refuse(HTTPStatus.NOT_FOUND)
            file = open(where, "rb")  # noqa: PTH123, SIM115 - of bytes, closed below
        except PermissionError:
            return self._refuse(HTTPStatus.FORBIDDEN)
        except OSError:
            return self._refuse(HTTPStatus.NOT_FOUND)
        with file:
            return self._send(file, where, with_body=with_body)

    def _send(self, file: BinaryIO, where: bytes, *, with_body: bool) -> None:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            return self._refuse(HTTPStatus.NOT_FOUND)
        tag = f'"{int(found.st_mtime):x}-{found.st_size:x}"'
        if self.headers.get("If-None-Match") == tag:
            self.send_response(HTTPStatus.NOT_MODIFIED)
            self.send_header("ETag", tag)
            return self.end_headers()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", _kind(where))
        self.send_header("Content-Length", str(found.st_size))
        self.send_header("Last-Modified", email.utils.formatdate(found.st_mtime, usegmt=True))
        self.send_header("ETag", tag)
        self.end_headers()
        if with_body:
            shutil.copyfileobj(file, self.wfile)
        return None

    def _redirect(self, path: bytes) -> None:
        self.send_response(HTTPStatus.MOVED_PERMANENTLY)
        self.send_header("Location", quote(b"/" + path.lstrip(b"/")))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _refuse(self, status: HTTPStatus) -> None:
        body = f"{status.value} {status.phrase}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _kind(where: bytes) -> str:
    kind = mimetypes.guess_type(os.fsdecode(where))[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
