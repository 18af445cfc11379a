"""How is something written whole or not at all, and by one at a time?

The few calls to the operating system that the store stands on, and the only place where its errors become ours: a
full disk is Full, whatever call met it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mirrord.errors import Full, Locked, MirrordError, Refused
from mirrord.manifest import weigh

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_REFUSED = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))
_FICLONE = 0x40049409  # ioctl_ficlone(2)
_FEW = 64
"""Up to so many files are synced one by one; more, with one call for the whole file system."""


@contextlib.contextmanager
def door(who: str, doing: str, folder: Path) -> Iterator[None]:
    """Turn the disk's errors into ours; `who: doing:` begins their sentences."""
    try:
        yield
    except OSError as e:
        why = e.strerror or type(e).__name__
        where = f" ({os.fsdecode(e.filename)})" if e.filename else ""
        if e.errno in _FULL:
            free = free_bytes(folder)
            left = "" if free is None else f", {weigh(free)} are free"
            raise Full(
                f"{who}: {doing}: the disk of {folder} is full ({why}){left}; make room there", None, free
            ) from e
        if e.errno in _REFUSED:
            raise Refused(f"{who}: {doing}: {why}{where}; give mirrord's user its rights on {folder}") from e
        raise MirrordError(f"{who}: {doing}: {why}{where}; look at the disk of {folder}") from e


def free_bytes(folder: Path) -> int | None:
    """Return the bytes that we may still write below `folder`; None where that cannot be told."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def write_new(path: Path, data: bytes) -> None:
    """Write a file that must not be there yet, and sync it. Raises OSError."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Put a file in place, whole or not at all; one at a time. Raises OSError."""
    beside = path.with_name(f".{path.name}.new")
    try:
        with beside.open("wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


def sync_folder(folder: Path | bytes) -> None:
    """Make the names in a folder outlive a power cut. Raises OSError."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(held)
    finally:
        os.close(held)


class Syncing:
    """Makes files that are written from now on outlive a power cut, all at once, when `finish` is called.

    One fsync a file makes the disk commit thousands of times (7,884 files: 1.4 s, and 6 s where each follows its
    write); syncfs(2) commits once (0.1 s). It reports what failed to be written since the folder was opened (Linux
    5.8), so it is opened first.
    """

    def __init__(self, folder: Path) -> None:
        """Begin; raises OSError."""
        self._held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def finish(self, files: Sequence[bytes], folders: Sequence[bytes] = ()) -> None:
        """Return when all these files, and then these folders, are on the disk. Raises OSError."""
        if len(files) > _FEW and _syncfs is not None:
            if _syncfs(self._held) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            return
        for path in (*files, *folders):
            held = os.open(path, os.O_RDONLY)
            try:
                os.fsync(held)
            finally:
                os.close(held)

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._held)


_syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


def clone(source: int, target: int) -> bool:
    """Make the open file `target` share the bytes of `source` (reflink); False where the file system cannot."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def exclusive(lock: Path, who: str, doing: str, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock file alone; raises Locked unless told to `wait`, naming who does what since when. Raises OSError."""
    held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _locked(held, who, doing) from None
        note = json.dumps({"pid": os.getpid(), "doing": doing, "since": int(time.time())}).encode()
        os.ftruncate(held, 0)
        os.pwrite(held, note, 0)
        yield
    finally:
        os.close(held)


def _locked(held: int, who: str, doing: str) -> Locked:
    holder, since = "another process", None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        note = json.loads(os.pread(held, 4096, 0))
        holder, since = f"process {note['pid']} ({note['doing']})", float(note["since"])
    when = "" if since is None else time.strftime(", since %Y-%m-%d %H:%M:%S UTC", time.gmtime(since))
    return Locked(f"{who}: {doing}: {holder} is at it{when}; wait for it to end", holder, since)


@contextlib.contextmanager
def shared(folder: Path) -> Iterator[bool]:
    """Keep a folder from being taken away; gives False where it is not there (any more). Raises OSError."""
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        yield False
        return
    try:
        fcntl.flock(held, fcntl.LOCK_SH)
        yield _stands(held, folder)
    finally:
        os.close(held)


@contextlib.contextmanager
def unshared(folder: Path) -> Iterator[bool]:
    """Hold a folder that nobody else holds; gives False where somebody does. Raises OSError."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(held)


def _stands(held: int, folder: Path) -> bool:
    """Tell whether the folder that we hold is still the one of that name: it may have gone while we waited."""
    try:
        return os.path.samestat(os.fstat(held), folder.stat())
    except FileNotFoundError:
        return False


def remove(folders: Iterable[Path]) -> None:
    """Remove folders with all that is in them; those that are not there are no trouble. Raises OSError."""
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
