"""How is a small server started, taken off the net and brought back, in this process?

A `Plugged` server listens on a port of its own and serves each connection on a thread of its own. Unplugged it refuses
connections and breaks those that are open, as a lost datacentre does; plugged in again it is found at the same port.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

JOIN = 5.0
"""Seconds to wait for a thread that was told to end."""


def free_port(*addresses: str) -> int:
    """Return a TCP port that is free at every one of these addresses just now. Raises OSError."""
    for _ in range(100):
        with contextlib.ExitStack() as stack:
            port = 0
            try:
                for address in addresses:
                    family = socket.AF_INET6 if ":" in address else socket.AF_INET
                    sock = stack.enter_context(socket.socket(family))
                    sock.bind((address, port))
                    port = sock.getsockname()[1]
            except OSError as e:
                if e.errno != errno.EADDRINUSE:
                    raise
                continue
            return port
    raise OSError(f"no port is free at {', '.join(addresses)}")


class Plugged(ABC):
    """A server on TCP; a context manager that starts and stops it. Its verbs are called from one thread."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        """Choose where to listen; a port of 0 is any that is free, and is kept from then on."""
        self.address = address
        self.port = port
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}

    @abstractmethod
    def serve(self, connection: socket.socket) -> None:
        """Serve one connection, on its own thread, until it ends; an OSError ends it as well."""

    @property
    def running(self) -> bool:
        """Tell whether it can be reached."""
        return self._listener is not None

    def start(self) -> Self:
        """Listen; it can be reached when this returns. Raises OSError where the port is taken."""
        if self._listener is None:
            family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
            self._listener = socket.create_server((self.address, self.port), family=family, backlog=128)
            self.port = self._listener.getsockname()[1]
            self._accepting = self.thread("accepting", self._accept, self._listener)
        return self

    def stop(self) -> None:
        """Listen no more, and break what is open."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`; closing alone does not
        if self._accepting is not None:
            self._accepting.join(JOIN)
        listener.close()
        with self._lock:
            served = dict(self._open)
        for connection in served:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in served.values():
            thread.join(JOIN)

    unplug = stop
    plug = start

    def __enter__(self) -> Self:
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def thread(self, what: str, target: object, *args: object) -> threading.Thread:
        """Start a thread that keeps nobody from leaving."""
        assert callable(target)
        thread = threading.Thread(target=target, args=args, name=f"{type(self).__name__}-{what}", daemon=True)
        thread.start()
        return thread

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                if self._listener is listener:
                    continue  # this one connection broke before it was accepted
                return
            with self._lock:
                self._open[connection] = self.thread("serving", self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.serve(connection)
        except OSError:
            pass  # whoever it was went away
        finally:
            with self._lock:
                self._open.pop(connection, None)
            connection.close()


def stop_all(servers: Sequence[Plugged]) -> None:
    """Stop them, the last one first."""
    for server in reversed(servers):
        server.stop()
