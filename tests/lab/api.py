"""A door in front of a provider's HTTP interface: it counts what is written, and fails as a test tells it to."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Answer = int | None
"""A status to answer with in place of the server, or None: carry it there."""


class ApiDoor:
    """Carries requests to a server on this machine; a context manager.

    `on_request` gets the method and how many writes (all but GET) came before it: it may return a status that is
    answered without asking the server, or 0 for no answer at all, until the door is closed.
    """

    def __init__(self, port: int) -> None:
        self.writes = 0
        self.on_request: Callable[[str, int], Answer] = lambda _method, _writes: None
        self._target = port
        self._end = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        """Begin to serve."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._end.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10.0)

    def _carry(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        writes = handler.command == "PATCH"
        status = self.on_request(handler.command, self.writes)
        if status == 0:
            self._end.wait()
            return
        self.writes += writes
        if status is not None:
            handler.send_response(status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        there = http.client.HTTPConnection("127.0.0.1", self._target, timeout=20)
        there.request(handler.command, handler.path, body, {k: v for k, v in handler.headers.items() if k != "Host"})
        answer = there.getresponse()
        text = answer.read()
        there.close()
        handler.send_response(answer.status)
        handler.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        door = self

        class Handler(BaseHTTPRequestHandler):
            """One request."""

            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                door._carry(self)

            do_GET = do_PATCH = do_PUT = _any  # noqa: N815 - named there

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named there
                """Say nothing."""

        return Handler
