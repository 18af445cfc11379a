"""Which parts of a file does somebody have already who has another version of it?

Both versions lie here, so nobody has to be asked: `find_copies` compares them and names runs of bytes that the new file
has in common with the old one, to the byte; what lies between them has to be sent. Edits in place, insertions,
deletions and blocks that moved are found. Where files have little in common it costs a pass over each, never more: all
that is done byte by byte is done in C, on pieces of bounded size. It opens nothing: a version is whatever can be cut.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

LEAST_COPY = 512
"""Bytes in common that are worth a request of their own."""
MOST_COPIES = 1024
"""Runs of one file; what would be more is sent."""
MOST_PIECES = 65536
"""Pieces into which a large file is cut to find what moved in it..."""
LEAST_PIECE = 2048
"""... and their mean size in bytes, in a small one."""
PATIENCE = 8
"""Pieces that are not where they were, after which they are looked for everywhere."""

_AT_ONCE = 1 << 20
_END = 64
_NOTHING = sha256(b"").digest()


@dataclass(frozen=True, slots=True)
class Copy:
    """`size` bytes (at least one) that the old file has at `old` stand in the new one at `new`."""

    old: int
    new: int
    size: int

    @property
    def end(self) -> int:
        """Where in the new file it ends."""
        return self.new + self.size


@dataclass(frozen=True, slots=True)
class Delta:
    """How a file of `size` bytes is made of another one and of what is sent, which hashes to `digest` (raw SHA-256)."""

    size: int
    copies: tuple[Copy, ...]
    """In the new file's order, without overlap."""
    digest: bytes

    @property
    def sent(self) -> int:
        """Bytes that are not copied."""
        return self.size - sum(copy.size for copy in self.copies)

    @classmethod
    def of_same(cls, size: int) -> Delta:
        """Return how a file is made of one with the same bytes."""
        return cls(size, (Copy(0, 0, size),) if size else (), _NOTHING)


class Bytes(Protocol):
    """The bytes of one version: `bytes` will do, and anything that is cut like them."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def __getitem__(self, part: slice, /) -> bytes:
        """Return those from `part.start` up to `part.stop`, as far as there are any."""
        ...


def gaps(copies: tuple[Copy, ...], size: int) -> Iterator[tuple[int, int]]:
    """Yield (offset, size) of what is not copied of a new file of so many bytes: what has to be sent."""
    at = 0
    for copy in copies:
        if copy.new > at:
            yield at, copy.new - at
        at = copy.end
    if at < size:
        yield at, size - at


def find_copies(old: Bytes, new: Bytes, go_on: Callable[[], None] = lambda: None) -> tuple[Copy, ...]:
    """Return what `new` has in common with `old`, in its order, at most `MOST_COPIES` runs.

    `go_on` is called at least every few megabytes; what it raises ends the work.
    """
    cutter = _Cutter.of(old)
    index: dict[int, int] | None = None
    copies: list[Copy] = []
    shift = 0  # from a place in the new file to that in the old one, as found last
    done = at = missed = 0  # what is decided; where the next piece begins
    while at < len(new) and len(copies) < MOST_COPIES:
        go_on()
        piece = cutter.piece(new, at)
        shifts = (shift, 0, len(old) - len(new))
        found = _found(old, piece, at, shifts, index)
        if found is None:  # changed at its start only?
            tail = piece[-_END:]
            if (found := _found(old, tail, at + len(piece) - len(tail), shifts)) is not None:
                at, piece = at + len(piece) - len(tail), tail
        if found is None:
            at += len(piece)
            missed += 1
            if missed >= PATIENCE and index is None:
                index, at = _index(old, cutter, go_on), done
            continue
        back = _alike_before(old, at + found, new, at, at - done)
        end = at + len(piece)
        end += _alike(old, end + found, new, end, go_on)
        if end - at + back >= LEAST_COPY:
            copies.append(Copy(at - back + found, at - back, end - at + back))
            done, shift, missed = end, found, 0
        at = end
    return tuple(copies)


def _found(
    old: Bytes, piece: bytes, at: int, shifts: tuple[int, ...], index: dict[int, int] | None = None
) -> int | None:
    """Return how far from its place a piece stands in the old file; None where it does not."""
    for shift in shifts:
        if at + shift >= 0 and old[at + shift : at + shift + len(piece)] == piece:
            return shift
    if index is not None and (there := index.get(hash(piece))) is not None:
        return there - at if old[there : there + len(piece)] == piece else None
    return None


def _index(old: Bytes, cutter: _Cutter, go_on: Callable[[], None]) -> dict[int, int]:
    """Return hash of a piece -> where it stands first."""
    found: dict[int, int] = {}
    at = 0
    while at < len(old):
        go_on()
        piece = cutter.piece(old, at)
        found.setdefault(hash(piece), at)
        at += len(piece)
    return found


@dataclass(frozen=True, slots=True)
class _Cutter:
    """Cuts where the bytes say so, not at round offsets: what moved is cut as before, from a little after its start."""

    end: re.Pattern[bytes]
    least: int
    most: int

    @classmethod
    def of(cls, data: Bytes) -> _Cutter:
        """Choose pairs of bytes with one first byte that together stand about once in a mean piece of this file."""
        mean = max(LEAST_PIECE, len(data) // MOST_PIECES)
        some = b"".join(data[at : at + 4096] for at in range(0, len(data), max(4096, len(data) // 16)))
        wanted = max(1, len(some) // mean)
        # Neither the commonest nor so rare that it stands in one corner only.
        first = min(Counter(some).items(), key=lambda item: (item[1] < wanted, item[1], item[0]), default=(0, 0))[0]
        after = Counter(some[at.end()] for at in re.finditer(re.escape(bytes((first,))), some[:-1]))
        seconds: list[int] = []
        for byte, count in sorted(after.items(), key=lambda item: (-item[1], item[0])):
            if count <= wanted:
                seconds.append(byte)
                wanted -= count
        seconds = seconds or [min(after.items(), key=lambda item: (item[1], item[0]), default=(0, 0))[0]]
        pairs = b"\\x%02x[%s]" % (first, b"".join(b"\\x%02x" % byte for byte in seconds))
        return cls(re.compile(pairs), mean // 4, 4 * mean)

    def piece(self, data: Bytes, at: int) -> bytes:
        """Return the piece that begins at `at`; empty only at the end."""
        ahead = data[at : at + self.most]
        end = self.end.search(ahead, self.least)
        return ahead[: end.end()] if end is not None else ahead


def _alike(old: Bytes, i: int, new: Bytes, j: int, go_on: Callable[[], None]) -> int:
    """Return how many bytes are the same from two places on."""
    done, step = 0, 256
    while True:
        a, b = old[i + done : i + done + step], new[j + done : j + done + step]
        size = min(len(a), len(b))
        a, b = a[:size], b[:size]
        if a != b:
            return done + _same_at_start(a, b)
        done += size
        if size < step:
            return done
        step = min(2 * step, _AT_ONCE)
        go_on()


def _alike_before(old: Bytes, i: int, new: Bytes, j: int, most: int) -> int:
    """Return how many bytes before two places are the same, at most so many."""
    most = min(most, i)
    done, step = 0, 256
    while done < most:
        step = min(step, most - done)
        a, b = old[i - done - step : i - done], new[j - done - step : j - done]
        if a != b:
            return done + _same_at_end(a, b)
        done += step
        step = min(2 * step, _AT_ONCE)
    return done


def _same_at_start(a: bytes, b: bytes) -> int:
    """Return where two different pieces of one length differ first."""
    low, high = 0, len(a)
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _same_at_end(a: bytes, b: bytes) -> int:
    """Return how many bytes at the end of two different pieces of one length are the same."""
    low, high = 0, len(a)
    while high - low > 1:
        middle = (low + high) // 2
        if a[middle:high] == b[middle:high]:
            high = middle
        else:
            low = middle
    return len(a) - high
