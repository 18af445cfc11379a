"""Small disks that fill up. Needs root, directly or through `sudo -n`."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.processes import as_root


class SmallDisk:
    """A file system of a few `kibibytes` at `folder`, and so many `names`; a context manager.

    Whatever hides in the folder is back after.
    """

    def __init__(self, folder: Path, kibibytes: int, names: int | None = None) -> None:
        self.folder = folder
        self.kibibytes = kibibytes
        self.names = names
        self._filler = folder / ".filler"
        self._mounted = False

    def start(self) -> Self:
        """Mount it, with the owner and mode that the folder has."""
        self.folder.mkdir(parents=True, exist_ok=True)
        now = self.folder.stat()
        options = f"size={self.kibibytes}k,uid={now.st_uid},gid={now.st_gid},mode={now.st_mode & 0o7777:o}"
        options += f",nr_inodes={self.names}" if self.names is not None else ""
        as_root(["mount", "-t", "tmpfs", "-o", options, "mirrord-lab", str(self.folder)])
        self._mounted = True
        return self

    def stop(self) -> None:
        """Unmount it; what was on it is gone."""
        if self._mounted:
            as_root(["umount", "--lazy", str(self.folder)])
            self._mounted = False

    def fill(self, *, leave: int = 0) -> None:
        """Fill it up, but for `leave` bytes."""
        room = os.statvfs(self.folder)
        size = room.f_bavail * room.f_frsize - leave
        with self._filler.open("ab", buffering=0) as filler:
            while size > 0:
                try:
                    size -= filler.write(b"\0" * min(size, 1 << 16))
                except OSError:
                    return

    def free(self) -> None:
        """Make room again."""
        self._filler.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        """Mount it."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unmount it."""
        self.stop()
