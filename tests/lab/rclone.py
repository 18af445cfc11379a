"""Go's SFTP server, pkg/sftp, as rclone serves a folder by it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.lab.processes import program
from tests.lab.sftp import FolderServer


class Rclone(FolderServer):
    """`rclone serve sftp` on a folder of this machine."""

    def __init__(self, folder: Path, *, umask: str = "022", flags: Sequence[str] = (), **how: str) -> None:
        """`flags` are more of its options. The modes it shows are the umask's doing: it takes others and sets none."""
        super().__init__(folder, umask=umask, **how)
        self.flags = tuple(flags)

    def serve(self) -> Sequence[str]:
        """Serve what is on the disk, and write through to it."""
        return [
            program("rclone"),
            "serve",
            "sftp",
            str(self.root),
            f"--addr={self.host}:{self.port}",
            f"--user={self.user}",
            f"--authorized-keys={self.folder / 'authorized_keys'}",
            f"--key={self.folder / 'host_key'}",
            f"--config={self.folder / 'rclone.conf'}",
            f"--cache-dir={self.folder / 'cache'}",
            "--vfs-cache-mode=off",
            "--dir-cache-time=0",
            "--poll-interval=0",
            *self.flags,
        ]
