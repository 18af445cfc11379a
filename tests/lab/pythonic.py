"""SFTP servers written in Python, as small services and appliances run them: asyncssh's and paramiko's."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.lab.sftp import FolderServer


class _Script(FolderServer):
    """A server that is a script beside this file."""

    script = ""

    def serve(self) -> Sequence[str]:
        """Tell the script where it listens and what it serves."""
        program = Path(__file__).with_name(self.script)
        where = [self.host, str(self.port), str(self.folder), str(self.root)]
        return [sys.executable, str(program), *where, self.user]


class AsyncSsh(_Script):
    """`asyncssh.SFTPServer`; with its own `chroot` it reads no link that is relative."""

    script = "serve_asyncssh.py"

    def __init__(self, folder: Path, *, chroot: bool = False, **how: str) -> None:
        super().__init__(folder, **how)
        self.chroot = chroot

    def serve(self) -> Sequence[str]:
        """Say whether the account is locked in."""
        return [*super().serve(), *(["chroot"] if self.chroot else [])]


class Paramiko(_Script):
    """`paramiko.SFTPServer` with a `SFTPServerInterface` on a folder."""

    script = "serve_paramiko.py"
