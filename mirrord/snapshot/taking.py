"""What are the source's bytes, when nobody changes them under us?

What the walk before saw unchanged is not read. The rest is read, and then the source is walked again: what is not
the same by then is read again, three rounds long. A source that is never still is put off, naming what moves, so
that a log file in the site does not silently stop it from ever being published.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mirrord.errors import Braked, Cancelled, PutOff
from mirrord.manifest import SnapshotId, quote
from mirrord.snapshot import Progress
from mirrord.snapshot.excludes import Excludes
from mirrord.snapshot.numbering import Found
from mirrord.snapshot.objects import Intake, Keeper
from mirrord.snapshot.seen import Seen
from mirrord.snapshot.source import Key, Sight, Source, key_of, look, unreadable

ROUNDS = 3
"""How often what changed while it was read is read again."""
FRESH = 2.0
"""Seconds: what was touched so shortly before a walk may change again without its times showing it."""

_VANISHED = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ELOOP, errno.ENXIO))


@dataclass(frozen=True, slots=True)
class Reading:
    """The source as it was read: twice the same."""

    sight: Sight
    digests: Mapping[bytes, bytes]
    """Path -> raw digest, of every file of the sight."""
    began: float
    """When the first walk began, Unix seconds by the clock that sets the files' times."""

    def found(self) -> dict[bytes, Found]:
        """Return every file with its digest, size and own mtime."""
        digests = self.digests
        return {path: Found(digests[path], key[2], key[3] / 1e9) for path, key in self.sight.files.items()}

    def seen(self, snapshot: SnapshotId | None) -> Seen:
        """Return what the next walk may rely on: all but what was touched shortly before the first walk, or since.

        Where something is left out, what is kept is not all of the snapshot: a walk that finds exactly that finds that
        the rest is gone.
        """
        limit = int((self.began - FRESH) * 1e9)
        files = self.sight.files
        fresh = {path for path, key in files.items() if is_fresh(key, limit)}
        keys = {path: key for path, key in files.items() if path not in fresh} if fresh else files
        return Seen(keys, {path: self.digests[path] for path in keys}, None if fresh else snapshot)


def is_fresh(key: Key, limit: int) -> bool:
    """Tell whether a file was touched at `limit` (nanoseconds) or later.

    The ctime is the kernel's own. An mtime is anybody's word: one in the far future is no sign of a change, one of
    these seconds is, where a file system keeps no ctime.
    """
    _, _, _, mtime, ctime = key
    return ctime >= limit or limit <= mtime <= time.time_ns()


class Taking:
    """The reading of one source."""

    def __init__(
        self,
        source: Source,
        before: Seen,
        stop: threading.Event,
        progress: Callable[[Progress], None],
    ) -> None:
        """Walk the source once; `before` is what was seen last. Raises Braked, Cancelled."""
        self.source = source
        self._before = before
        self._stop = stop
        self._progress = progress
        self._excludes = Excludes(source.exclude)
        self.began = time.time()
        self.sight = look(source, self._excludes, stop, before.keys)
        check_whole(source, self.sight.files)

    def unchanged(self) -> bool:
        """Tell whether everything is as it was seen last, by the five numbers alone."""
        return self.sight.files == self._before.keys

    def known(self) -> dict[bytes, bytes]:
        """Return path -> digest of what is as it was seen last."""
        keys, digests = self._before.keys, self._before.digests
        return {path: digests[path] for path, key in self.sight.files.items() if keys.get(path) == key}

    def certainly_new(self, sizes: Mapping[bytes, int]) -> dict[bytes, int]:
        """Return path -> size of what must be read and cannot be what the newest snapshot has, by its sizes."""
        keys = self._before.keys
        files = self.sight.files.items()
        return {path: key[2] for path, key in files if keys.get(path) != key and sizes.get(path) != key[2]}

    def can_share(self, intake: Intake, path: bytes) -> bool:
        """Tell whether what is stored of this file shares its bytes with the source, and so takes no room."""
        try:
            held = os.open(self.sight.root + b"/" + path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            return False
        try:
            return intake.can_clone(held, self.sight.files[path][0])
        finally:
            os.close(held)

    def read(self, keeper: Keeper, trusted: Callable[[bytes, bytes, int], bool]) -> Reading:
        """Read what is not known, until the source is twice the same.

        `trusted` tells whether a known (path, digest, size) needs no reading: its content is kept. Raises Braked,
        PutOff, Cancelled, and what the keeper raises.
        """
        files = self.sight.files
        digests = {path: digest for path, digest in self.known().items() if trusted(path, digest, files[path][2])}
        moved: set[bytes] = set()
        for _ in range(1 + ROUNDS):
            moved = self._read_missing(keeper, digests)
            again = look(self.source, self._excludes, self._stop, self.sight.files)
            moved |= {path for path, key in again.files.items() if self.sight.files.get(path) != key}
            moved |= self.sight.files.keys() - again.files.keys()
            self.sight = again
            if not moved:
                check_whole(self.source, again.files)
                return Reading(again, digests, self.began)
            for path in moved:
                digests.pop(path, None)
        raise self._put_off(moved)

    def _read_missing(self, keeper: Keeper, digests: dict[bytes, bytes]) -> set[bytes]:
        """Read every file whose digest is missing; return the paths that changed meanwhile."""
        files = self.sight.files
        # In the order of inodes, which is roughly that of the disk: on one that turns, names would have it seek.
        todo = sorted((path for path in files if path not in digests), key=lambda path: files[path][:2])
        counter = _Counter(len(todo), sum(files[path][2] for path in todo), self._progress)
        moved: set[bytes] = set()
        root = self.sight.root + b"/"
        for path in todo:
            if self._stop.is_set():
                raise Cancelled(f"source {self.source.path}: reading: stopped")
            digest = self._read(keeper, root + path, path, files[path], counter.more)
            if digest is None:
                moved.add(path)
            else:
                digests[path] = digest
            counter.next()
        return moved

    def _read(self, keeper: Keeper, where: bytes, path: bytes, key: Key, seen: Callable[[int], None]) -> bytes | None:
        """Return one file's digest, or None where it is not what the walk saw."""
        try:
            held = os.open(where, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as e:
            if e.errno in _VANISHED:
                return None
            raise unreadable(self.source, path, e) from e
        try:
            if key_of(os.fstat(held)) != key:
                return None
            return keeper.keep(held, key[2], key[0], seen)
        except OSError as e:
            if e.errno in _VANISHED:
                return None
            raise unreadable(self.source, path, e) from e
        finally:
            os.close(held)

    def _put_off(self, moving: Iterable[bytes]) -> PutOff:
        names = sorted(moving)
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return PutOff(
            f"source {self.source.path}: taking a snapshot: {quote(names[0])}{more} changed each time it was read; the"
            " next try will do it once the source is still; what never is, a log say, belongs into source.exclude"
        )


class _Counter:
    """Counts what was read, and tells."""

    def __init__(self, files: int, size: int, tell: Callable[[Progress], None]) -> None:
        self._files, self._size, self._tell = files, size, tell
        self._files_done = self._size_done = 0

    def more(self, size: int) -> None:
        self._size_done += size
        if abs(size) > _LARGE:
            self._say()

    def next(self) -> None:
        self._files_done += 1
        if self._files_done % _OFTEN == 0 or self._files_done == self._files:
            self._say()

    def _say(self) -> None:
        self._tell(Progress(self._files_done, self._files, self._size_done, self._size))


_LARGE = 1 << 19
_OFTEN = 100


def check_whole(source: Source, files: Mapping[bytes, object]) -> None:
    """Raise Braked where the source is empty or lacks what it must have; no flag lifts that."""
    if not files:
        raise Braked(
            f"source {source.path}: has no files; is it mounted, and is source.path right? nothing is published",
            "empty-source",
        )
    for wanted in source.must_exist:
        path = wanted.encode("utf-8", "surrogateescape").removeprefix(b"./").rstrip(b"/")
        if path in files or any(each.startswith(path + b"/") for each in files):
            continue
        raise Braked(
            f"source {source.path}: {quote(path)} is missing, and source.must_exist names it; bring it back, or change"
            " source.must_exist; nothing is published",
            "must-exist",
        )
