"""Where does a copy lie, and how are its files read?

In a folder, or behind a web server. What a copy holds is hostile until proven otherwise: every answer is bounded, and
what is neither file nor folder is never opened. How bytes come over HTTP is said by whoever gives a `Fetch`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import quote_from_bytes

from mirrord.errors import Cancelled, MirrordError, Unavailable
from mirrord.manifest import is_plain, quote

INDEX = b"index.html"
_PIECE = 1 << 20


class Fetch(Protocol):
    """How files of a copy come over HTTP; called from any number of threads at once."""

    def __call__(self, path: bytes, limit: int) -> Iterator[bytes]:
        """Yield the bytes that stand at a path (raw, relative to the copy's root; `x/` is a folder), at most `limit`.

        Raises FileNotFoundError where the server has nothing for readers there (404, 410, 401, 403), Unavailable where
        that cannot be told (no connection, a redirect to somewhere else, any other status).
        """
        ...


def url_path(path: bytes) -> str:
    """Write a raw path as it stands in a URL: every byte that is not plain is percent-encoded (RFC 3986, 2.1)."""
    return quote_from_bytes(path, safe="/")


class Absent(Exception):
    """Nothing stands there."""


class Odd(Exception):
    """What stands there is no file of a snapshot; the argument says what it is."""


class Copy(Protocol):
    """A place with a copy."""

    extra_visible: bool

    def read(self, path: bytes, limit: int) -> Iterator[bytes]:
        """Yield a file's bytes, at most `limit`. Raises Absent, Odd, Unavailable."""
        ...

    def ways(self, path: bytes) -> Sequence[bytes]:
        """Return what a reader asks for to get this path, the most usual first; else the next."""
        ...

    def shows(self, path: bytes) -> bool:
        """Tell whether the bytes of a path can be seen here at all."""
        ...

    def everything(self) -> Iterable[bytes]:
        """Return all paths that stand here, where that can be told. Raises Unavailable."""
        ...


class Folder:
    """A copy in a folder; links in it are not followed: they may be led elsewhere tomorrow."""

    extra_visible = True

    def __init__(self, root: Path) -> None:
        self._root = os.fsencode(root)

    def ways(self, path: bytes) -> Sequence[bytes]:
        """The path itself."""
        return (path,)

    def shows(self, path: bytes) -> bool:  # noqa: ARG002
        """Every one can be read."""
        return True

    def read(self, path: bytes, limit: int) -> Iterator[bytes]:
        """Read a plain file."""
        held = self._open(path)
        try:
            if not stat.S_ISREG(os.fstat(held).st_mode):
                raise Odd("is no plain file")
            while limit > 0 and (piece := os.read(held, min(_PIECE, limit))):
                limit -= len(piece)
                yield piece
        except OSError as e:
            raise Unavailable(f"cannot be read ({e.strerror})") from e
        finally:
            os.close(held)

    def _open(self, path: bytes) -> int:
        """Open a file below the root, following no link on the way, and nothing that is neither file nor folder."""
        try:
            held = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as e:
            raise Unavailable(f"the folder {os.fsdecode(self._root)} cannot be read ({e.strerror})") from e
        try:
            for name in path.split(b"/"):
                held = _step(held, name)
        except (FileNotFoundError, NotADirectoryError) as e:
            raise Absent from e
        except OSError as e:
            raise Unavailable(f"cannot be read ({e.strerror})") from e
        return held

    def everything(self) -> Iterable[bytes]:
        """Walk the folder."""
        found: list[bytes] = []
        todo = [b""]
        while todo:
            prefix = todo.pop()
            try:
                with os.scandir(self._root + b"/" + prefix) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            todo.append(prefix + entry.name + b"/")
                        else:
                            found.append(prefix + entry.name)
            except OSError as e:
                where = quote(prefix[:-1]) if prefix else "the folder"
                raise Unavailable(f"{where} cannot be read ({e.strerror})") from e
        return found


def _step(held: int, name: bytes) -> int:
    """Go from an open folder to what stands in it. Raises Odd, OSError."""
    try:
        mode = os.stat(name, dir_fd=held, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            raise Odd("is a symbolic link, or lies behind one")
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise Odd("is no plain file")
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=held)
    finally:
        os.close(held)


class Web:
    """A copy behind a web server; a page `x/index.html` is what readers get at `x/`."""

    extra_visible = False

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    def ways(self, path: bytes) -> Sequence[bytes]:
        """A page at its folder first."""
        if path == INDEX or path.endswith(b"/" + INDEX):
            return (path[: -len(INDEX)], path)
        return (path,)

    def shows(self, path: bytes) -> bool:
        """Only what web servers hand out as it is."""
        return is_plain(path)

    def read(self, path: bytes, limit: int) -> Iterator[bytes]:
        """Fetch it."""
        try:
            for piece in self._fetch(path, limit):
                if len(piece) >= limit:
                    yield piece[:limit]
                    return
                limit -= len(piece)
                yield piece
        except FileNotFoundError as e:
            raise Absent from e
        except Cancelled:
            raise
        except (MirrordError, OSError) as e:
            raise Unavailable(str(e)) from e

    def everything(self) -> Iterable[bytes]:
        """Nobody can list what lies behind a web server."""
        return ()
