"""What does systemd have to know of us?

The notification protocol of sd_notify(3): a datagram of `KEY=value` lines to the socket that the
environment names. Without systemd, nothing is sent. Which moments are worth telling is the daemon's
affair.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time


class Notifier:
    """Tells the service manager how we are."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        """Take NOTIFY_SOCKET and WATCHDOG_USEC from the environment, if they are there and meant for us."""
        known = dict(os.environ) if environment is None else environment
        self._address = known.get("NOTIFY_SOCKET", "")
        mine = known.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog: float | None = int(known["WATCHDOG_USEC"]) / 1e6 if mine and "WATCHDOG_USEC" in known else None
        """Seconds within which systemd wants a sign of life; None where it does not watch."""

    def ready(self, status: str) -> None:
        """Say that we are up (again)."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def reloading(self) -> None:
        """Say that the configuration is being read again; `ready` ends it (systemd 253 wants the time as well)."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that we are on the way out."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Give the watchdog its sign of life."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Say how things are, for `systemctl status`."""
        self._send(f"STATUS={_line(text)}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1)
            sock.sendto(message.encode(), address)


def _line(text: str) -> str:
    return " ".join(text.split())
