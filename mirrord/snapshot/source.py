"""What stands in the source right now?

One walk, which opens no file: names come from the folders, and from `lstat` the five numbers by which a change is
known. Everything that must not be published, or that cannot be read the same way twice, is refused here in one
sentence that names the path and the way out. Whether what was found may replace what is published is decided by
`mirrord.plan`; reading the bytes is `mirrord.snapshot.store`'s.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mirrord.errors import Braked, Cancelled
from mirrord.manifest import LONGEST_NAME, LONGEST_PATH, OWN_FOLDER, quote
from mirrord.snapshot.excludes import Excludes

Key = tuple[int, int, int, int, int]
"""Device, inode, size in bytes, mtime and ctime in nanoseconds: while these stay, the bytes stay."""

_GONE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ESTALE))
"""It was there a moment ago: the next walk tells what became of it."""
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Source:
    """Where the content is kept, what is left out of it (as in .gitignore), and what it must have at least."""

    path: Path
    exclude: tuple[str, ...] = ()
    must_exist: tuple[str, ...] = ()
    check_siblings: bool = True
    """Packed copies (`a.html.gz`) must unpack to the page beside them."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What one walk found."""

    root: bytes
    """The folder itself, links resolved."""
    files: dict[bytes, Key]
    """Path below the root -> its key; links to files and folders inside stand here as what they point to."""
    warnings: tuple[str, ...]
    """What was left out without having been asked for, a sentence each."""


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to be walked: where it stands among the published paths, and where it really is."""

    prefix: bytes
    real: bytes
    via: tuple[bytes, ...]
    """The real folders in which the links stood that led here."""


def key_of(found: os.stat_result) -> Key:
    """Return the five numbers."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def look(source: Source, excludes: Excludes, stop: threading.Event, before: Mapping[bytes, Key] | None = None) -> Sight:
    """Walk the source once; what is as it was in an earlier walk's files shares their memory.

    Raises Braked (unreadable, a link that leads out or nowhere, a path that cannot be published, our own folder) and
    Cancelled. What vanishes during the walk is not there.
    """
    return _Walk(source, excludes, stop, before or {}).sight()


class _Walk:
    """One walk under way."""

    def __init__(self, source: Source, excludes: Excludes, stop: threading.Event, before: Mapping[bytes, Key]) -> None:
        self._source = source
        self._before = before
        self._excludes = excludes
        self._stop = stop
        self._root = _root(source)
        self._files: dict[bytes, Key] = {}
        self._warnings: list[str] = []
        self._todo: list[_Folder] = []

    def sight(self) -> Sight:
        self._todo.append(_Folder(b"", self._root, ()))
        while self._todo:
            if self._stop.is_set():
                raise Cancelled(f"source {self._source.path}: looking: stopped")
            self._enter(self._todo.pop())
        if OWN_FOLDER in self._files:
            raise self._own()
        return Sight(self._root, self._files, tuple(self._warnings))

    def _enter(self, folder: _Folder) -> None:
        if folder.prefix == OWN_FOLDER + b"/":
            raise self._own()
        files, left_out, before = self._files, self._excludes, self._before
        for entry in self._list(folder):
            name = entry.name
            path = folder.prefix + name
            if entry.is_file(follow_symlinks=False):
                if left_out.file(path, name):
                    continue
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError as e:
                    self._untellable(path, e)
                    continue
                key = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
                known = before.get(path)
                files[path] = known if known == key else key
                if len(path) > LONGEST_NAME:
                    self._check_length(path, name)
            elif entry.is_dir(follow_symlinks=False):
                if not left_out.folder(path, name):
                    self._todo.append(_Folder(path + b"/", folder.real + b"/" + name, folder.via))
            elif entry.is_symlink():
                self._follow(folder, path, name)
            elif not left_out.file(path, name):
                self._leave_out(path, "a socket, pipe or device")

    def _list(self, folder: _Folder) -> Iterator[os.DirEntry[bytes]]:
        try:
            with os.scandir(folder.real) as entries:
                yield from entries
        except OSError as e:
            if not folder.prefix:
                raise _no_source(self._source, e) from e
            self._untellable(folder.prefix[:-1], e)

    def _follow(self, folder: _Folder, path: bytes, name: bytes) -> None:
        """Take a link for what it points to, inside the source."""
        if self._excludes.file(path, name):
            return
        try:
            real = os.path.realpath(folder.real + b"/" + name, strict=True)
            found = os.stat(real)  # noqa: PTH116 - bytes; Path knows only text
        except OSError as e:
            if e.errno == errno.EACCES:
                raise self._unreadable(path, e) from e
            looping = e.errno == errno.ELOOP
            why = "leads round in a circle" if looping else "points to nothing"
            raise self._brake("link", path, f"is a link that {why}; mend it, remove it or exclude it") from e
        if stat.S_ISDIR(found.st_mode) and self._excludes.folder(path, name):
            return
        if real != self._root and not real.startswith(self._root.rstrip(b"/") + b"/"):
            raise self._brake(
                "link",
                path,
                f"is a link that leads out of the source, to {quote(real)}; put what is meant into the source, or"
                " exclude the link",
            )
        if stat.S_ISREG(found.st_mode):
            self._files[path] = key_of(found)
            self._check_length(path, name)
        elif stat.S_ISDIR(found.st_mode):
            via = (*folder.via, folder.real)
            if any(step == real or step.startswith(real.rstrip(b"/") + b"/") for step in via):
                raise self._brake(
                    "link", path, "is a link to a folder that it stands in, without end; remove it or exclude it"
                )
            self._todo.append(_Folder(path + b"/", real, via))
        else:
            self._leave_out(path, "a link to a socket, pipe or device")

    def _check_length(self, path: bytes, name: bytes) -> None:
        if len(path) > LONGEST_PATH or len(name) > LONGEST_NAME:
            raise self._too_long(path)

    def _too_long(self, path: bytes) -> Braked:
        longest = max(map(len, path.split(b"/")))
        shown = path if len(path) <= _SHOWN else path[:_SHOWN] + b"..."
        return self._brake(
            "path",
            shown,
            f"is {len(path)} bytes long, its longest name {longest}; servers can hold {LONGEST_PATH} and"
            f" {LONGEST_NAME}: shorten or exclude it",
        )

    def _own(self) -> Braked:
        text = "is written by mirrord on every mirror and cannot come from the source; remove it there, or exclude it"
        return self._brake("own-folder", OWN_FOLDER, text)

    def _leave_out(self, path: bytes, what: str) -> None:
        self._warnings.append(f"source {self._source.path}: {quote(path)} is {what} and is left out")

    def _untellable(self, path: bytes, error: OSError) -> None:
        """Pass over what has vanished; refuse what is there and cannot be looked at."""
        if error.errno == errno.ENAMETOOLONG:
            raise self._too_long(path) from error
        if error.errno not in _GONE:
            raise self._unreadable(path, error) from error

    def _unreadable(self, path: bytes, error: OSError) -> Braked:
        return unreadable(self._source, path, error)

    def _brake(self, brake: str, path: bytes, text: str) -> Braked:
        return Braked(f"source {self._source.path}: {quote(path)} {text}; nothing is published", brake)


def unreadable(source: Source, path: bytes, error: OSError) -> Braked:
    """Say that a path is there and cannot be read."""
    why = error.strerror or type(error).__name__
    return Braked(
        f"source {source.path}: {quote(path)} cannot be read ({why}); give mirrord's user the right to read it, or"
        " exclude it; nothing is published",
        "unreadable",
    )


def _root(source: Source) -> bytes:
    """Resolve the source's folder; it may be a link, which maintainers swap."""
    try:
        return os.path.realpath(os.fsencode(source.path), strict=True)
    except OSError as e:
        raise _no_source(source, e) from e


def _no_source(source: Source, error: OSError) -> Braked:
    if error.errno == errno.EACCES:
        return Braked(
            f"source {source.path}: cannot be read (Permission denied); give mirrord's user the right to read it;"
            " nothing is published",
            "unreadable",
        )
    why = "is no folder" if error.errno == errno.ENOTDIR else f"is not there ({error.strerror})"
    return Braked(
        f"source {source.path}: {why}; is it mounted, and is source.path right? nothing is published", "no-source"
    )
