"""A host that says yes to what is written there, and does otherwise."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from mirrord.hosts.sftp import wire

Lie = Callable[[Path], None]
"""Does something to a file that was just written and closed."""


class Liar:
    """Makes a lie of every file whose name ends so, the first `times` of them; a gate of `SftpHost`."""

    def __init__(self, folder: Path, lie: Lie, ending: bytes = b".html", times: int = 1_000_000) -> None:
        self.told = 0
        self._folder = folder
        self._lie = lie
        self._ending = ending
        self._times = times
        self._lock = threading.Lock()
        self._open: dict[tuple[int, bytes], bytes] = {}

    def __call__(self, request: wire.Request, reply: wire.Reply | None) -> None:
        """Note what is written, and lie once it is closed."""
        me = threading.get_ident()  # a channel's own: its handles mean nothing on others
        match request, reply:
            case wire.Open(path, flags, _), wire.Handle(handle) if flags & wire.OpenFlags.WRITE:
                self._open[me, handle] = path
            case wire.Close(handle), wire.Status(wire.Code.OK):
                path = self._open.pop((me, handle), b"")
                if path.endswith(self._ending) and self._may():
                    self._lie(self._folder / os.fsdecode(path))

    def _may(self) -> bool:
        with self._lock:
            self.told += 1
            return self.told <= self._times


def loses(file: Path) -> None:
    """The write was acknowledged, and the file is gone."""
    file.unlink()


def truncates(file: Path) -> None:
    """Only the half is there, dated as it should be."""
    _change(file, file.read_bytes()[: file.stat().st_size // 2])


def garbles(file: Path) -> None:
    """One byte is another; size and date are right."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    _change(file, bytes(data))


def zeroes(file: Path) -> None:
    """What a file system has that lost its last writes: a file of zeros, as long and as old as it should be."""
    _change(file, bytes(file.stat().st_size))


def dates_wrongly(file: Path) -> None:
    """The date was acknowledged, and is another."""
    os.utime(file, (1, 1))


def _change(file: Path, data: bytes) -> None:
    found = file.stat()
    file.write_bytes(data)
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
