"""Where is every content kept, once?

One file for each content, named by its SHA-256. A new one is written beside and hashed from the very bytes that were
written; it comes to its place only after it is on the disk, so whatever stands in its place is whole, also after a
power cut. On btrfs and xfs it shares its bytes with the source (reflink); elsewhere it is a copy. It is never a hard
link to the source: who edits the source in place would edit the past.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from mirrord.errors import Cancelled, Damaged
from mirrord.snapshot import disk

SMALL = 1 << 20
"""Bytes; up to so many are read at once."""
_PIECE = 1 << 20
_TAKEN = frozenset((errno.ENOTEMPTY, errno.EEXIST))
_LOST = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EIO))
_ACCESS = os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_BLOCK = 4096
"""A smaller file is never shared with the source: there is nothing to be saved."""


class Keeper(Protocol):
    """What becomes of the bytes that are read from the source."""

    def keep(self, source: int, size: int, device: int, seen: Callable[[int], None]) -> bytes | None:
        """Return the raw digest of the open file `source`, or None where it has not `size` bytes any more.

        Raises OSError where the source cannot be read, Cancelled; trouble with the store comes as our own errors.
        """
        ...


class Hashing:
    """A keeper that keeps nothing."""

    def __init__(self, stop: threading.Event) -> None:
        """Stop when told."""
        self._stop = stop

    def keep(self, source: int, size: int, device: int, seen: Callable[[int], None]) -> bytes | None:  # noqa: ARG002
        """Read and hash."""
        return hash_file(source, size, self._stop, seen)


class Objects:
    """All contents, by digest."""

    def __init__(self, folder: Path, who: str) -> None:
        """Stand on `folder`, which need not be there yet; `who` begins the sentences."""
        self.folder = folder
        self.who = who
        self._base = os.fsencode(folder) + b"/"

    def path(self, digest: bytes) -> bytes:
        """Return where a content is kept."""
        return self._base + place_of(digest)

    def has(self, digest: bytes, size: int) -> bool:
        """Tell whether a content of this size is here."""
        try:
            return os.stat(self.path(digest)).st_size == size  # noqa: PTH116 - asked for each file
        except OSError:
            return False

    def open(self, digest: bytes) -> BinaryIO:
        """Open a content; raises Damaged where it is missing or the disk has lost it, others of ours else."""
        try:
            return cast("BinaryIO", _Opened(os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)))
        except OSError as e:
            if e.errno in _LOST:
                raise self._lost(digest, e) from e
            with disk.door(self.who, f"reading the content {digest.hex()[:12]}...", self.folder):
                raise

    def _lost(self, digest: bytes, error: OSError) -> Damaged:
        return Damaged(
            f"{self.who}: reading the content {digest.hex()[:12]}...: {error.strerror}; the store is damaged: bring"
            f" {self.folder.parent} back from a backup, or have what the source still has read anew"
        )

    def groups(self) -> frozenset[bytes]:
        """Return the folders that are there: the first two digits of every content's digest. Raises OSError."""
        try:
            return frozenset(os.listdir(self._base))  # noqa: PTH208 - bytes; Path knows only text
        except FileNotFoundError:
            return frozenset()

    def names(self) -> Iterator[tuple[str, Path]]:
        """Yield every content's digest in hex, and its file."""
        if not self.folder.is_dir():
            return
        for group in sorted(self.folder.iterdir()):
            for file in group.iterdir():
                yield group.name + file.name, file


class _Opened(io.RawIOBase):
    """A content that is read; unbuffered, as it is read in large pieces, and it closes what it holds.

    A small page is opened, read and closed in half the time that Python's own files take; a site has many.
    """

    def __init__(self, held: int) -> None:
        self._held = held

    def read(self, size: int = -1, /) -> bytes:
        return os.read(self._held, size) if size >= 0 else self.readall()

    def readinto(self, buffer: Any, /) -> int:
        return os.readv(self._held, [buffer])

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return os.lseek(self._held, offset, whence)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._held

    def close(self) -> None:
        held, self._held = self._held, -1
        if held >= 0:
            os.close(held)
        super().close()


def place_of(digest: bytes) -> bytes:
    """Return where a content stands below the folder of all: two digits, then the others."""
    name = digest.hex().encode()
    return b"%b/%b" % (name[:2], name[2:])


class Intake:
    """New contents of one snapshot, written into `incoming` until `settle` puts them all in their places.

    There they stand in the same folders as in their places: a folder that is new goes to its place as a whole, which
    spares a first take a rename for each file.
    """

    def __init__(
        self,
        objects: Objects,
        incoming: Path,
        stop: threading.Event,
        likely: Callable[[int], bool],
        clone: Callable[[int, int], bool] = disk.clone,
    ) -> None:
        """`likely` tells whether some content of a size may be here already, so that it is worth reading twice.

        `clone` is asked to share the bytes of one open file with another, and tells whether it could.
        """
        self._objects = objects
        self._incoming = incoming
        self._base = os.fsencode(incoming) + b"/"
        self._stop = stop
        self._likely = likely
        self._clone = clone
        self._cloning: dict[int, bool] = {}
        self._new: set[bytes] = set()
        self._groups: dict[bytes, list[bytes]] = {}
        self._count = 0
        with self._door():
            self._there = objects.groups()
            incoming.mkdir(parents=True)
            self._syncing = disk.Syncing(incoming)

    def keep(self, source: int, size: int, device: int, seen: Callable[[int], None]) -> bytes | None:
        """Read, hash, and write what is not here yet."""
        if size >= _BLOCK and self.can_clone(source, device):
            return self._keep_clone(source, size, device, seen)
        if size <= SMALL:
            return self._keep_small(source, size, seen)
        if self._likely(size):
            digest = hash_file(source, size, self._stop, seen)
            if digest is None or self._known(digest, size):
                return digest
            os.lseek(source, 0, os.SEEK_SET)
            seen(-size)
        return self._keep_large(source, size, seen)

    def can_clone(self, source: int, device: int) -> bool:
        """Tell whether files of this device can share their bytes with ours; tried once, by doing."""
        if device not in self._cloning:
            with self._door():
                target, file = self._new_file()
                try:
                    self._cloning[device] = self._clone(source, target)
                finally:
                    os.close(target)
                    _unlink(file)
        return self._cloning[device]

    def settle(self) -> None:
        """Sync everything that was written, then put it in its place; raises Full and others of ours."""
        with self._door():
            self._syncing.finish([self._base + place_of(digest) for digest in self._new])
            if not self._groups:
                return
            self._objects.folder.mkdir(parents=True, exist_ok=True)
            objects = os.fsencode(self._objects.folder)
            for group, names in self._groups.items():
                self._settle_group(self._base + group, b"%b/%b" % (objects, group), names)
            self._syncing.finish([*(b"%b/%b" % (objects, group) for group in sorted(self._groups)), objects])

    @staticmethod
    def _settle_group(new: bytes, place: bytes, names: list[bytes]) -> None:
        """Put one folder in its place, or its files where the place has others already."""
        try:
            os.rename(new, place)  # noqa: PTH104 - bytes, as all that is done for many files
        except OSError as e:
            if e.errno not in _TAKEN:
                raise
            for name in names:
                os.rename(b"%b/%b" % (new, name), b"%b/%b" % (place, name))  # noqa: PTH104 - the same

    def close(self) -> None:
        """Drop whatever was not settled."""
        self._syncing.close()
        with self._door():
            disk.remove([self._incoming])

    def _keep_small(self, source: int, size: int, seen: Callable[[int], None]) -> bytes | None:
        data = os.read(source, size + 1)
        while len(data) < size and (more := os.read(source, size + 1 - len(data))):
            data += more
        if len(data) != size:
            return None
        digest = hashlib.sha256(data).digest()
        seen(size)
        if not self._known(digest, size):
            self._write(digest, data)
        return digest

    def _write(self, digest: bytes, data: bytes) -> None:
        with self._door():
            target = os.open(self._base + self._enlist(digest), _ACCESS | os.O_WRONLY, 0o444)
            try:
                write_all(target, data)
            finally:
                os.close(target)

    def _keep_clone(self, source: int, size: int, device: int, seen: Callable[[int], None]) -> bytes | None:
        with self._door():
            target, file = self._new_file(readable=True)
        try:
            if not self._clone(source, target):
                self._cloning[device] = False
                _unlink(file)
                return self.keep(source, size, device, seen)
            with self._door():
                digest = hash_file(target, size, self._stop, seen)
        finally:
            os.close(target)
        self._put(digest, size, file)
        return digest

    def _keep_large(self, source: int, size: int, seen: Callable[[int], None]) -> bytes | None:
        with self._door():
            target, file = self._new_file()
        sink = self._sink(target)
        try:
            digest = hash_file(source, size, self._stop, seen, sink)
        finally:
            os.close(target)
        self._put(digest, size, file)
        return digest

    def _sink(self, target: int) -> Callable[[memoryview], None]:
        def write(data: memoryview) -> None:
            with self._door():
                write_all(target, data)

        return write

    def _put(self, digest: bytes | None, size: int, file: bytes) -> None:
        """Keep a written file, or drop it where it is torn or here already."""
        with self._door():
            if digest is None or self._known(digest, size):
                _unlink(file)
            else:
                os.rename(file, self._base + self._enlist(digest))  # noqa: PTH104 - bytes, as for small files

    def _known(self, digest: bytes, size: int) -> bool:
        if digest in self._new:
            return True
        return bool(self._there) and self._objects.has(digest, size)

    def _enlist(self, digest: bytes) -> bytes:
        """Take a content down as new; return where it is to stand below `incoming`."""
        place = place_of(digest)
        group, _, name = place.partition(b"/")
        if group not in self._groups:
            os.mkdir(self._base + group)  # noqa: PTH102 - bytes, as all that is done for each file
            self._groups[group] = []
        self._groups[group].append(name)
        self._new.add(digest)
        return place

    def _new_file(self, *, readable: bool = False) -> tuple[int, bytes]:
        """Create a file whose digest is not known yet; its name is longer than any group's."""
        self._count += 1
        file = b"%bunnamed-%d" % (self._base, self._count)
        return os.open(file, _ACCESS | (os.O_RDWR if readable else os.O_WRONLY), 0o444), file

    def _door(self) -> AbstractContextManager[None]:
        return disk.door(self._objects.who, "storing what was read", self._objects.folder.parent)


def _unlink(file: bytes) -> None:
    os.unlink(file)  # noqa: PTH108 - bytes, as all that is done for each file


def hash_file(
    source: int,
    size: int,
    stop: threading.Event,
    seen: Callable[[int], None],
    sink: Callable[[memoryview], None] | None = None,
) -> bytes | None:
    """Return the digest of an open file from where it stands, passing its bytes to `sink`.

    None where it has not exactly `size` bytes. Raises OSError, Cancelled.
    """
    hashed, done = hashlib.sha256(), 0
    room = memoryview(bytearray(min(_PIECE, size + 1)))
    while got := os.readv(source, [room]):
        if stop.is_set():
            raise Cancelled("reading files: stopped")
        done += got
        if done > size:
            return None
        hashed.update(room[:got])
        if sink is not None:
            sink(room[:got])
        seen(got)
    return hashed.digest() if done == size else None


def no_count(_: int) -> None:
    """Count nothing."""


def write_all(target: int, data: bytes | memoryview) -> None:
    """Write all of it. Raises OSError."""
    written = os.write(target, data)
    while written < len(data):
        data = data[written:]
        written = os.write(target, data)
