"""Where the lab's servers keep their files.

Not in pytest's temporary folders: those are closed to all but their owner, and servers run as other users;
and `sshd` locks accounts only into folders whose every parent belongs to root and is writable by nobody else.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from pathlib import Path

ROOT_BASE = Path("/var/lib/mirrord-lab")

_numbers = itertools.count(1)


def is_root() -> bool:
    """Return whether we may do as we like on this machine."""
    return os.geteuid() == 0


def new_folder(name: str) -> Path:
    """Make a folder that other users may enter; its path is short enough for a Unix socket in it."""
    if not is_root():
        folder = Path(tempfile.mkdtemp(prefix=f"mirrord-lab-{name}-"))
        folder.chmod(0o755)
        return folder
    if not ROOT_BASE.exists():
        ROOT_BASE.mkdir(mode=0o755, exist_ok=True)
        ROOT_BASE.chmod(0o755)  # whatever our umask is
    number = next(_numbers)
    if number == 1:
        _sweep()
    folder = ROOT_BASE / f"{os.getpid()}-{number}-{name}"
    folder.mkdir()
    folder.chmod(0o755)
    return folder


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it, whoever owns it."""
    shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Remove what test runs left that were killed."""
    for left in ROOT_BASE.iterdir():
        owner = left.name.partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            with contextlib.suppress(OSError):
                remove(left)
