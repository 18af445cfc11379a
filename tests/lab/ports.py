"""Port numbers that are free, and stay ours while this process lives.

Asking the kernel for a free port and closing it again is a race between tests that run side by side. Here a
number is reserved by binding an abstract Unix socket of that name: the kernel gives each name to one process at a
time, and takes it back when the process ends, however it ends.
"""

from __future__ import annotations

import errno
import os
import random
import socket

# Below the range from which the kernel takes ports for outgoing connections, so that none of those is in the way.
FIRST, LAST = 10_240, 32_000

_held: list[socket.socket] = []
_dice = random.Random(os.getpid())


def free_port() -> int:
    """Return a port number that nobody listens on, by TCP or UDP, at any address; no other test gets it."""
    while True:
        port = _dice.randint(FIRST, LAST)
        reservation = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            reservation.bind(f"\0mirrord-lab-port-{port}")
        except OSError as e:
            reservation.close()
            if e.errno != errno.EADDRINUSE:
                raise
            continue
        _held.append(reservation)
        if _is_free(port):
            return port


def _is_free(port: int) -> bool:
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104 - closed at once
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            try:
                probe = socket.socket(family, kind)
            except OSError:
                continue  # a machine without IPv6
            with probe:
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((address, port))
                except OSError:
                    return False
    return True
