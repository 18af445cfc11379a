"""How is a folder of this machine an account?

`Files` on a local folder: for the demo, for tests, and for a mirror whose disk is mounted here. Every step is
taken from the root by folder handles that follow no link, so that nothing outside of the root is ever touched;
reading alone follows links, and only while they stay inside.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from mirrord.delta import gaps
from mirrord.errors import Cancelled, Damaged, Unavailable
from mirrord.hosts.files import (
    Attributes,
    Create,
    Hash,
    Kind,
    Link,
    List,
    MakeFolder,
    Op,
    Outcome,
    Patch,
    Pulse,
    Put,
    Read,
    ReadLink,
    ReadPart,
    Remove,
    RemoveFolder,
    Rename,
    Rewrite,
    SetMode,
    Space,
    Stat,
    Symlink,
    Traits,
    Trouble,
    Walk,
)

_CHUNK = 1 << 18
_LONGEST_CHAIN = 40
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC

_TROUBLES = {
    errno.ENOENT: Trouble.MISSING,
    errno.ENOTDIR: Trouble.MISSING,
    errno.ELOOP: Trouble.MISSING,
    errno.EACCES: Trouble.DENIED,
    errno.EPERM: Trouble.DENIED,
    errno.EROFS: Trouble.DENIED,
    errno.EEXIST: Trouble.EXISTS,
    errno.ENOTEMPTY: Trouble.EXISTS,
    errno.EOPNOTSUPP: Trouble.UNSUPPORTED,
    errno.ENOSYS: Trouble.UNSUPPORTED,
    errno.ENOSPC: Trouble.FULL,
    errno.EDQUOT: Trouble.FULL,
}


class DirectoryFiles:
    """`Files` on the folder `root`, which need not exist yet."""

    traits = Traits(
        ordered=True,
        symlink=True,
        hard_link=True,
        replace=True,
        space=True,
        copy_data=True,
        hashes=("sha256",),
    )

    def __init__(self, root: Path) -> None:
        """Nothing is opened before it is needed."""
        self._root = os.fsencode(root)
        self._sent = 0
        self._read_so_far = 0
        self._broken_off = threading.Event()

    def carry_out(self, ops: Iterable[Op], pulse: Pulse | None = None) -> Iterator[Outcome]:
        """Do one after the other: a local folder has no round trips to save."""
        beaten = time.monotonic()
        for op in ops:
            if pulse is not None and time.monotonic() - beaten >= pulse.every:
                beaten = time.monotonic()
                yield self._do(pulse.make())
            yield self._do(op)

    def in_order(self, ops: Sequence[Op]) -> list[Outcome]:
        """Do one after the other."""
        return [self._do(op) for op in ops]

    def bytes_moved(self) -> tuple[int, int]:
        """Return payload bytes written and read."""
        return self._sent, self._read_so_far

    def abort(self) -> None:
        """Break off before the next operation, or in the middle of a file."""
        self._broken_off.set()

    def close(self) -> None:
        """Nothing is held open between operations."""

    def _do(self, op: Op) -> Outcome:
        self._go_on()
        try:
            return Outcome(op, self._verbs[type(op)](self, op))
        except Damaged as e:
            return Outcome(op, trouble=Trouble.DAMAGED, text=str(e))
        except OSError as e:
            if e.errno in (errno.EIO, errno.ESTALE, errno.ENOTCONN):
                raise Unavailable(f"{os.fsdecode(self._root)}: {e.strerror}") from e
            trouble = _TROUBLES.get(e.errno or 0, Trouble.FAILED)
            return Outcome(op, trouble=trouble, text=e.strerror or str(e))

    def _go_on(self) -> None:
        if self._broken_off.is_set():
            raise Cancelled(f"{os.fsdecode(self._root)}: broken off")

    # Where things stand.

    @contextmanager
    def _folder(self, path: bytes) -> Iterator[int]:
        handle = os.open(self._root, _FOLDER & ~os.O_NOFOLLOW)
        try:
            for name in _names(path):
                if name == b"..":
                    raise OSError(errno.EACCES, "leads out of the root")
                inner = os.open(name, _FOLDER, dir_fd=handle)
                os.close(handle)
                handle = inner
            yield handle
        finally:
            os.close(handle)

    @contextmanager
    def _place(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        above, _, name = path.rpartition(b"/")
        if name in (b"", b".", b".."):
            raise OSError(errno.EINVAL, "not a name")
        with self._folder(above) as handle:
            yield handle, name

    def _resolve(self, path: bytes) -> bytes:
        """Return where `path` leads to without any link in it; raises OSError where it leaves the root."""
        todo = deque(_names(path))
        trail: list[bytes] = []
        chain = 0
        while todo:
            name = todo.popleft()
            if name == b"..":
                if not trail:
                    raise OSError(errno.EACCES, "leads out of the root")
                trail.pop()
                continue
            with self._folder(b"/".join(trail)) as handle:
                try:
                    target = os.readlink(name, dir_fd=handle)
                except OSError:
                    trail.append(name)
                    continue
            chain += 1
            if target.startswith(b"/") or chain > _LONGEST_CHAIN:
                raise OSError(errno.EACCES, "leads out of the root")
            todo.extendleft(reversed([part for part in target.split(b"/") if part not in (b"", b".")]))
        return b"/".join(trail)

    # The operations.

    def _put(self, op: Put) -> None:
        with op.open() as source, self._place(op.path) as (handle, name):
            out = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, op.mode, dir_fd=handle)
            try:
                digest = hashlib.sha256()
                size = 0
                while data := source.read(_CHUNK):
                    self._go_on()
                    digest.update(data)
                    size += len(data)
                    self._write(out, data)
                if size != op.size or (op.digest is not None and digest.digest() != op.digest):
                    raise Damaged("the bytes are not the recorded ones")
                os.fchmod(out, op.mode)
                if op.mtime is not None:
                    os.utime(out, (op.mtime, op.mtime))
            finally:
                os.close(out)

    def _patch(self, op: Patch) -> None:
        with op.open() as source, self._place(op.base) as (there, base), self._place(op.path) as (handle, name):
            old = os.open(base, os.O_RDONLY | _FILE, dir_fd=there)
            try:
                out = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE, op.mode, dir_fd=handle)
                try:
                    self._fill(op, source, old, out)
                    os.fchmod(out, op.mode)
                    os.utime(out, (op.mtime, op.mtime))
                finally:
                    os.close(out)
            finally:
                os.close(old)

    def _fill(self, op: Patch, source: BinaryIO, old: int, out: int) -> None:
        digest = hashlib.sha256()
        for at, size in gaps(op.copies, op.size):
            source.seek(at)
            os.lseek(out, at, os.SEEK_SET)
            for length in _blocks(size):
                self._go_on()
                if len(data := source.read(length)) < length:
                    raise Damaged("our copy is too short")
                digest.update(data)
                self._write(out, data)
        if digest.digest() != op.digest:
            raise Damaged("the bytes are not the recorded ones")
        for copy in op.copies:
            at = copy.old
            for length in _blocks(copy.size):
                self._go_on()
                if len(data := os.pread(old, length, at)) < length:
                    raise OSError(errno.EINVAL, "the base is too short")
                os.pwrite(out, data, copy.new + at - copy.old)
                at += length
        for at, size in op.check:
            source.seek(at)
            if os.pread(out, size, at) != source.read(size):
                raise OSError(errno.EINVAL, "what was copied is not what we had written")

    def _write(self, handle: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            done = os.write(handle, view)
            view = view[done:]
            self._sent += done

    def _create(self, op: Create) -> Attributes:
        with self._place(op.path) as (handle, name):
            out = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, op.mode, dir_fd=handle)
            try:
                self._write(out, op.data)
                os.fchmod(out, op.mode)
                return _attributes(os.fstat(out))
            finally:
                os.close(out)

    def _rewrite(self, op: Rewrite) -> None:
        with self._place(op.path) as (handle, name):
            out = os.open(name, os.O_WRONLY | _FILE, dir_fd=handle)
            try:
                self._write(out, op.data)
            finally:
                os.close(out)

    def _make_folder(self, op: MakeFolder) -> None:
        if not op.path:
            root = Path(os.fsdecode(self._root))
            root.mkdir(parents=True, exist_ok=True)
            root.chmod(op.mode)
            return
        with self._place(op.path) as (handle, name):
            with suppress(FileExistsError):
                os.mkdir(name, op.mode, dir_fd=handle)
            made = os.open(name, _FOLDER, dir_fd=handle)
            try:
                os.fchmod(made, op.mode)
            finally:
                os.close(made)

    def _set_mode(self, op: SetMode) -> None:
        with self._place(op.path) as (handle, name):
            found = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _FILE, dir_fd=handle)
            try:
                os.fchmod(found, op.mode)
            finally:
                os.close(found)

    def _link(self, op: Link) -> None:
        with self._place(op.existing) as (there, old), self._place(op.path) as (here, new):
            if not stat.S_ISREG(os.stat(old, dir_fd=there, follow_symlinks=False).st_mode):
                raise OSError(errno.EINVAL, "not a file")
            os.link(old, new, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)

    def _symlink(self, op: Symlink) -> None:
        with self._place(op.path) as (handle, name):
            os.symlink(op.target, name, dir_fd=handle)

    def _rename(self, op: Rename) -> None:
        with self._place(op.old) as (there, old), self._place(op.new) as (here, new):
            if not op.over and _stands(new, here):
                raise FileExistsError(errno.EEXIST, "exists already")
            os.rename(old, new, src_dir_fd=there, dst_dir_fd=here)

    def _remove(self, op: Remove) -> None:
        with self._place(op.path) as (handle, name):
            os.unlink(name, dir_fd=handle)

    def _remove_folder(self, op: RemoveFolder) -> None:
        with self._place(op.path) as (handle, name):
            os.rmdir(name, dir_fd=handle)

    def _read_link(self, op: ReadLink) -> bytes:
        with self._place(op.path) as (handle, name):
            return os.readlink(name, dir_fd=handle)

    def _stat(self, op: Stat) -> Attributes:
        if not op.path:
            return _attributes(Path(os.fsdecode(self._root)).stat())
        with self._place(op.path) as (handle, name):
            return _attributes(os.stat(name, dir_fd=handle, follow_symlinks=False))

    def _list(self, op: List) -> dict[bytes, Attributes]:
        with self._folder(op.path) as handle:
            return _listing(handle)

    def _walk(self, op: Walk) -> dict[bytes, Attributes]:
        found: dict[bytes, Attributes] = {}
        todo = [b""]
        while todo:
            below = todo.pop()
            with self._folder(op.path + (b"/" + below if below else b"")) as handle:
                for name, attributes in _listing(handle).items():
                    path = below + b"/" + name if below else name
                    found[path] = attributes
                    if attributes.kind is Kind.FOLDER:
                        todo.append(path)
        return found

    @contextmanager
    def _file(self, path: bytes) -> Iterator[int]:
        """Open a file to be read, through links that stay inside the root."""
        with self._place(self._resolve(path)) as (handle, name):
            found = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _FILE, dir_fd=handle)
            try:
                if not stat.S_ISREG(os.fstat(found).st_mode):
                    raise OSError(errno.EINVAL, "not a file")
                yield found
            finally:
                os.close(found)

    def _hash(self, op: Hash) -> bytes:
        digest = hashlib.sha256()
        with self._file(op.path) as found:
            while data := os.read(found, _CHUNK):
                self._go_on()
                digest.update(data)
        return digest.digest()

    def _read(self, op: Read) -> bytes:
        with self._file(op.path) as found:
            parts = []
            left = op.limit + 1
            while left and (data := os.read(found, min(left, _CHUNK))):
                parts.append(data)
                left -= len(data)
            if not left:
                raise OSError(errno.EFBIG, "longer than it may be")
        self._read_so_far += op.limit + 1 - left
        return b"".join(parts)

    def _read_part(self, op: ReadPart) -> bytes:
        with self._file(op.path) as found:
            data = b""
            while len(data) < op.size and (more := os.pread(found, op.size - len(data), op.offset + len(data))):
                data += more
        self._read_so_far += len(data)
        return data

    def _space(self, op: Space) -> int:
        with self._folder(op.path) as handle:
            room = os.fstatvfs(handle)
        return room.f_bavail * room.f_frsize

    _verbs: ClassVar[dict[type, Callable[[Any, Any], Any]]] = {
        Put: _put,
        Patch: _patch,
        Create: _create,
        Rewrite: _rewrite,
        MakeFolder: _make_folder,
        SetMode: _set_mode,
        Link: _link,
        Symlink: _symlink,
        Rename: _rename,
        Remove: _remove,
        RemoveFolder: _remove_folder,
        ReadLink: _read_link,
        Stat: _stat,
        List: _list,
        Walk: _walk,
        Read: _read,
        ReadPart: _read_part,
        Hash: _hash,
        Space: _space,
    }


def _blocks(size: int) -> Iterator[int]:
    """Cut a run of bytes into lengths that are handled at once."""
    for at in range(0, size, _CHUNK):
        yield min(_CHUNK, size - at)


def _names(path: bytes) -> list[bytes]:
    return [name for name in path.split(b"/") if name not in (b"", b".")]


def _stands(name: bytes, handle: int) -> bool:
    try:
        os.stat(name, dir_fd=handle, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _listing(handle: int) -> dict[bytes, Attributes]:
    found: dict[bytes, Attributes] = {}
    for name in os.listdir(handle):
        with suppress(FileNotFoundError):
            found[os.fsencode(name)] = _attributes(os.stat(name, dir_fd=handle, follow_symlinks=False))
    return found


def _attributes(found: os.stat_result) -> Attributes:
    mode = found.st_mode
    if stat.S_ISREG(mode):
        kind = Kind.FILE
    elif stat.S_ISDIR(mode):
        kind = Kind.FOLDER
    elif stat.S_ISLNK(mode):
        kind = Kind.LINK
    else:
        kind = Kind.OTHER
    return Attributes(kind, found.st_size, int(found.st_mtime), stat.S_IMODE(mode))
