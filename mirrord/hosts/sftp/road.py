"""How do bytes get to a host's port, and how many a second may they be?

What lies under SSH: a TCP connection made before a deadline, which notices a peer that takes nothing any more, and
an allowance where the operator limits the bandwidth. It knows nothing of SSH.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from mirrord.hosts.bandwidth import Bandwidth

_AHEAD = 256 * 1024
"""Bytes read at once: a call of the system brings many packets, and each call lets another thread run."""
_HEAD_START = 3.0
"""Seconds for which one address is tried alone before the next is tried beside it: a name may have one that swallows
everything (IPv6, say), and a host counts connections on which nobody logs in. TCP asks three times meanwhile."""
_LOOK = 1.0
"""Seconds between two looks at the clock on the wall."""
_AHEAD_OF_TIME = timedelta(minutes=1)
"""So long before a lower rate begins less is sent ahead, so that a sign of life does not queue behind it."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock before which something must be done."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the moment so many seconds from now."""
        return cls(time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds from now; never less than a moment, as 0 means "never" to some."""
        return max(0.001, self.at - time.monotonic())

    @property
    def over(self) -> bool:
        """Tell whether it has passed."""
        return time.monotonic() >= self.at


class Road:
    """A connection, with as much of a socket's manners as an SSH library asks for.

    It reads ahead, and gives up on a peer that takes nothing for `stall` seconds (`send` raises OSError then).
    """

    def __init__(self, sock: socket.socket, stall: float) -> None:
        self._sock = sock
        self._stall = stall
        self._ahead = memoryview(b"")
        self._stuck_since: float | None = None
        self.heard = False
        """The other side said something."""
        self.gave_up = False
        """The other side took nothing for too long."""
        self._closed = False  # the name is a socket's own; paramiko looks here

    @classmethod
    def to(cls, host: str, port: int, deadline: Deadline, stall: float) -> Road:
        """Connect to the first address of a name that answers. Raises OSError."""
        sock = first_to_answer(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), deadline)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock, stall)

    def recv(self, most: int) -> bytes:
        """Return some bytes, b"" at the end. Raises OSError, TimeoutError."""
        if not self._ahead:
            self._ahead = memoryview(self._sock.recv(_AHEAD))
            self.heard = self.heard or bool(self._ahead)
        data = bytes(self._ahead[:most])
        self._ahead = self._ahead[most:]
        return data

    def send(self, data: bytes) -> int:
        """Send some bytes and return how many. Raises OSError, TimeoutError."""
        try:
            sent = self._sock.send(data)
        except TimeoutError:
            now = time.monotonic()
            if self._stuck_since is None:
                self._stuck_since = now
            if now - self._stuck_since < self._stall:
                raise  # paramiko tries again then, for ever
            self.gave_up = True
            raise ConnectionAbortedError(f"the other side took nothing for {self._stall:g} s") from None
        self._stuck_since = None
        return sent

    def settimeout(self, seconds: float | None) -> None:
        """Bound every call."""
        self._sock.settimeout(seconds)

    def getpeername(self) -> Any:
        """Return whom it leads to."""
        return self._sock.getpeername()

    def close(self) -> None:
        """Close; a thread that waits in `recv` or `send` wakes at once."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


def first_to_answer(addresses: Sequence[Any], deadline: Deadline, *, head_start: float = _HEAD_START) -> socket.socket:
    """Connect to one of the addresses, as `socket.getaddrinfo` tells them; each has a head start before the next.

    What was begun goes on beside the next (RFC 8305, with more patience). Raises OSError, TimeoutError.
    """
    problem: OSError = ConnectionError("the name has no address")
    left = deque(addresses)
    with contextlib.ExitStack() as sockets, selectors.DefaultSelector() as tried:
        while (left or tried.get_map()) and not deadline.over:
            if left:
                try:
                    tried.register(sockets.enter_context(_begin(*left.popleft())), selectors.EVENT_WRITE)
                except OSError as e:
                    problem = e
            turn = Deadline.after(min(head_start, deadline.left)) if left else deadline
            while tried.get_map() and not turn.over:
                for key, _ in tried.select(turn.left):
                    sock = cast("socket.socket", key.fileobj)
                    if not (failed := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                        taken = socket.socket(fileno=sock.detach())
                        taken.settimeout(deadline.left)
                        return taken
                    tried.unregister(sock)
                    problem = OSError(failed, os.strerror(failed))
        if tried.get_map():
            problem = TimeoutError("timed out")
    raise problem


def _begin(family: int, kind: int, protocol: int, _: str, address: Any) -> socket.socket:
    """Begin to connect to an address. Raises OSError."""
    sock = socket.socket(family, kind, protocol)
    sock.settimeout(0)
    failed = sock.connect_ex(address)
    if failed not in (0, errno.EINPROGRESS):
        sock.close()
        raise OSError(failed, os.strerror(failed))
    return sock


def here_and_now() -> datetime:
    """Return the local time."""
    return datetime.now(UTC).astimezone()


class Allowance:
    """How much may be sent now. What was sent is paid for afterwards, at the rate of that time.

    Seconds are counted by the monotonic clock; the clock on the wall, looked at each second, only says which rate
    holds. So one that is set changes the rate at most.
    """

    def __init__(
        self,
        bandwidth: Bandwidth,
        local: Callable[[], datetime] = here_and_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bandwidth = bandwidth
        self._local = local
        self._monotonic = monotonic
        self._debt = 0.0
        self._rate = self._least = 0
        self._at = self._looked_at = monotonic()
        self._look()

    @property
    def pause(self) -> float:
        """Seconds until something may be sent, or until the rate is to be looked up again; 0 where it may be now."""
        if not self._rate:
            return 0.0
        pause = max(0.0, self._debt / self._rate - (self._monotonic() - self._at))
        return min(pause, _LOOK) if self._bandwidth.windows else pause

    @property
    def least(self) -> int:
        """The lowest rate that holds now or in a minute; 0 is no limit."""
        return self._least

    def grant(self, size: int) -> int:
        """Return how many of `size` bytes may be sent now: all or none."""
        now = self._monotonic()
        if self._bandwidth.windows and now - self._looked_at >= _LOOK:
            self._looked_at = now
            self._look()
        if not self._rate or size <= 0:
            self._debt, self._at = (self._debt, self._at) if self._rate else (0.0, now)
            return size
        # What was not used for a quarter of a second is lost: a limit is no average over an hour.
        self._debt = max(-self._rate / 4, self._debt - (now - self._at) * self._rate)
        self._at = now
        if self._debt > 0:
            return 0
        self._debt += size
        return size

    def _look(self) -> None:
        local = self._local()
        self._rate = self._bandwidth.rate_at(local)
        self._least = self._bandwidth.least_within(local, _AHEAD_OF_TIME)
