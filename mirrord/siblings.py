"""Which files are packed copies of which, and does a packed copy hold what its page holds?

Generators write `page.html.gz`, `.br` and `.zst` beside `page.html`, and web servers (`gzip_static` of nginx,
`MultiViews` of Apache) send them in its place to whoever can unpack them: most readers. A page and its packed copies
are therefore one thing to readers: they are replaced together, and a copy that does not unpack to its page shows an
old page beside new ones. What follows from that is said where it is found: when a snapshot is taken, and when a
mirror is looked at as a reader would.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Protocol

ENCODINGS: Mapping[bytes, str] = {b".gz": "gzip", b".br": "br", b".zst": "zstd"}
"""Suffix -> the name by which HTTP knows the packing (RFC 9110, 8.4.1; RFC 7932; RFC 8878)."""
PIECE = 1 << 18
"""Bytes; what is unpacked at once is never much longer."""

_SUFFIXES = tuple(ENCODINGS)
_ZSTD_WINDOW_LOG = 23
"""8 MiB: what readers must be able to unpack (RFC 9659); browsers refuse more."""


class Badly(Exception):
    """Something is not packed as it says; the text follows the file's name: `is cut short`."""


def base_of(path: bytes) -> bytes | None:
    """Return the path of which this would be a packed copy, by its name alone: `a.html` of `a.html.gz`."""
    if not path.endswith(_SUFFIXES):
        return None
    base = path[: path.rindex(b".")]
    return base if base and not base.endswith(b"/") else None


def encoding_of(path: bytes) -> str:
    """Return the packing of a packed copy, as HTTP names it."""
    return ENCODINGS[path[path.rindex(b".") :]]


def groups(paths: Collection[bytes]) -> dict[bytes, tuple[bytes, ...]]:
    """Return every page of `paths` that has packed copies among them -> these, sorted.

    Each of the copies has one page, so no two groups share a path: what replaces files one by one renames each group
    in one flight. `a.gz.br` is a copy of `a.gz`, and `a.gz` no page then where it is a copy of `a` itself: it stays
    with `a`, and so does `a.gz.br`.
    """
    held = paths if isinstance(paths, set | frozenset | dict | Mapping) else frozenset(paths)
    found: dict[bytes, list[bytes]] = {}
    for path in paths:
        base = base_of(path)
        if base is None or base not in held:
            continue
        while (above := base_of(base)) is not None and above in held:
            base = above
        found.setdefault(base, []).append(path)
    return {base: tuple(sorted(copies)) for base, copies in sorted(found.items())}


class Unpacker(Protocol):
    """Unpacks what is given piece by piece, never much at once."""

    def more(self, data: bytes) -> Iterator[bytes]:
        """Yield what follows from the next piece, in parts of `PIECE` bytes at most. Raises Badly."""
        ...

    def end(self) -> None:
        """Raise Badly unless what was given is whole."""
        ...


def unpacker(encoding: str) -> Unpacker | None:
    """Return what undoes a packing as HTTP names it; None where it is none that we know."""
    match encoding:
        case "gzip" | "x-gzip":
            return _Members(lambda: _Zlib(zlib.MAX_WBITS | 16))
        case "deflate":
            return _Members(lambda: _Zlib(zlib.MAX_WBITS))
        case "br":
            return _Brotli()
        case "zstd":
            return _Members(_Zstd)
    return None


def unpacked(pieces: Iterable[bytes], encoding: str, limit: int) -> Iterator[bytes]:
    """Yield what `pieces` unpack to. Raises Badly, also where it is more than `limit` bytes: a few may become many."""
    undo = unpacker(encoding)
    if undo is None:
        raise Badly(f"is packed by {encoding!r}, which we cannot unpack")
    for piece in pieces:
        for part in undo.more(piece):
            limit -= len(part)
            if limit < 0:
                raise Badly("unpacks to more than its page holds")
            yield part
    undo.end()


class _Members:
    """Any number of packed streams, one after the other, as `gzip` and `zstd` allow."""

    def __init__(self, fresh: Any) -> None:
        self._fresh = fresh
        self._now = fresh()
        self._begun = False

    def more(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._now.eof:
                self._now = self._fresh()
            self._begun = True
            yield from self._now.more(data)
            data = self._now.unused_data if self._now.eof else b""

    def end(self) -> None:
        if not (self._begun and self._now.eof):
            raise Badly("is cut short")


class _Zlib:
    """One stream of gzip or zlib."""

    def __init__(self, bits: int) -> None:
        self._undo = zlib.decompressobj(bits)

    @property
    def eof(self) -> bool:
        return self._undo.eof

    @property
    def unused_data(self) -> bytes:
        return self._undo.unused_data

    def more(self, data: bytes) -> Iterator[bytes]:
        try:
            while True:
                if part := self._undo.decompress(data, PIECE):
                    yield part
                data = self._undo.unconsumed_tail
                if self._undo.eof or (not data and len(part) < PIECE):
                    return
        except zlib.error as e:
            raise Badly("is no good gzip") from e


class _Zstd:
    """One frame of zstd."""

    def __init__(self) -> None:
        try:
            from compression import zstd  # only Python 3.14 has it; few sites need it
        except ImportError:
            from backports import zstd
        self._error = zstd.ZstdError
        window = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        self._undo = zstd.ZstdDecompressor(options=window)

    @property
    def eof(self) -> bool:
        return bool(self._undo.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._undo.unused_data)

    def more(self, data: bytes) -> Iterator[bytes]:
        try:
            while True:
                if part := self._undo.decompress(data, PIECE):
                    yield part
                data = b""
                if self._undo.eof or self._undo.needs_input:
                    return
        except self._error as e:
            raise Badly("is no good zstd, or needs more memory than browsers give it (RFC 9659)") from e


class _Brotli:
    """One stream of brotli, which has no members and no checksum."""

    def __init__(self) -> None:
        import brotli  # few sites need it

        self._error = brotli.error
        self._undo = brotli.Decompressor()

    def more(self, data: bytes) -> Iterator[bytes]:
        try:
            while True:
                if self._undo.is_finished() and data:
                    raise Badly("has more after its end")
                if part := self._undo.process(data, output_buffer_limit=PIECE):
                    yield part
                data = b""
                if self._undo.can_accept_more_data() and len(part) < PIECE:
                    return
        except self._error as e:
            raise Badly("is no good brotli") from e

    def end(self) -> None:
        if not self._undo.is_finished():
            raise Badly("is cut short")
