"""Does what was sent stand on the mirror as it was sent?

A listing shows sizes and times, which a server can have right while the bytes are wrong or lost. So what was sent is
read back, all of it up to a limit, beyond that pieces drawn by lot: where k of n pieces are wrong, s of them find it
with odds of 1 - (1 - k/n)^s. A server that can hash its files is asked for that too. Which files were sent, and what
follows from a finding, is said by others; this only chooses what to ask, and compares.
"""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from mirrord.hosts import Findings, Inspected, Step
from mirrord.hosts.files import Hash, Op, Outcome, ReadPart, Trouble
from mirrord.hosts.staging import Source
from mirrord.hosts.steps import Flight, Steps

PIECE = 128 * 1024
"""Bytes that are read at once; a longer file has several pieces, each drawn by itself."""
MOST_PIECES = 1000
"""Each costs four requests, as sending a small file does."""
MOST_HASHED = 10_000
LARGEST_HASHED = 64_000_000
"""Bytes; while a server reads a file to hash it, it answers nothing else."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of one file of a release; `offset` and `size` in bytes."""

    path: bytes
    offset: int
    size: int


def draw(
    sizes: Mapping[bytes, int], limit: int, dice: random.Random, first: Collection[bytes] = ()
) -> tuple[Piece, ...]:
    """Choose what to read back of files with these sizes: all up to `limit` bytes, else pieces by lot.

    Files named in `first` come before all others. A limit of 0 reads nothing; else one piece is read at least.
    """
    doubtful = {path: sizes[path] for path in sorted(first) if path in sizes}
    others = {path: size for path, size in sizes.items() if path not in doubtful} if doubtful else sizes
    chosen: list[Piece] = []
    left = limit
    for group in (doubtful, others):
        for piece in _by_lot(group, left, MOST_PIECES - len(chosen), dice):
            if limit <= 0 or (chosen and piece.size > left):
                return tuple(chosen)
            chosen.append(piece)
            left -= piece.size
    return tuple(chosen)


def _by_lot(sizes: Mapping[bytes, int], limit: int, most: int, dice: random.Random) -> Iterator[Piece]:
    """Yield pieces, all in order where they fit, else so many by lot."""
    paths = list(sizes)
    ends = list(accumulate([(size + PIECE - 1) // PIECE for size in sizes.values()]))
    total = ends[-1] if ends else 0
    fit = total <= most and sum(sizes.values()) <= limit
    for number in range(total) if fit else dice.sample(range(total), min(total, max(most, 0))):
        at = bisect_right(ends, number)
        path = paths[at]
        offset = (number - (ends[at - 1] if at else 0)) * PIECE
        yield Piece(path, offset, min(PIECE, sizes[path] - offset))


@dataclass(slots=True)
class Proving:
    """What is asked of the files that were sent below the folder `top`, and what came of it.

    Give every outcome of the flight to `take`; then the rest can be read.
    """

    source: Source
    top: bytes
    pieces: tuple[Piece, ...]
    hashed: tuple[bytes, ...]
    altered: set[bytes] = field(default_factory=set)
    read: set[bytes] = field(default_factory=set)
    bytes_read: int = 0
    right_hashes: int = 0

    @classmethod
    def of(
        cls,
        source: Source,
        top: bytes,
        unproven: Collection[bytes],
        limit: int,
        dice: random.Random,
        *,
        first: Collection[bytes] = (),
        hashes: bool = False,
    ) -> Proving:
        """Choose what to ask of the files `unproven`; `hashes`: the server hashes files itself (SHA-256)."""
        sizes = {path: source.size(path) for path in sorted(unproven)}
        # ProFTPD hashes no empty file; a listing says all about one.
        small = [path for path, size in sizes.items() if 0 < size <= LARGEST_HASHED] if hashes else []
        few = small if len(small) <= MOST_HASHED else dice.sample(small, MOST_HASHED)
        return cls(source, top, draw(sizes, limit, dice, first), tuple(few))

    def ops(self) -> Iterator[Op]:
        """Yield what to ask."""
        for path in self.hashed:
            yield Hash(self.top + b"/" + path)
        for piece in self.pieces:
            yield ReadPart(self.top + b"/" + piece.path, piece.offset, piece.size)

    def take(self, outcome: Outcome) -> bool:
        """Judge an answer to one of `ops`; False where it is to something else."""
        op = outcome.op
        if not isinstance(op, Hash | ReadPart):
            return False
        path = op.path[len(self.top) + 1 :]
        if isinstance(op, Hash):
            self._take_hash(path, outcome)
        else:
            self._take_part(path, op, outcome)
        return True

    def _take_hash(self, path: bytes, outcome: Outcome) -> None:
        if outcome.trouble is Trouble.MISSING or (outcome.good and outcome.value != self.source.digest(path)):
            self.altered.add(path)
        elif outcome.good:
            self.right_hashes += 1  # anything else says of the server only that it cannot do it after all

    def _take_part(self, path: bytes, op: ReadPart, outcome: Outcome) -> None:
        if not outcome.good:
            self.altered.add(path)
            return
        self.read.add(path)
        self.bytes_read += len(outcome.value)
        if not self._is_right(path, op, outcome.value):
            self.altered.add(path)

    def _is_right(self, path: bytes, op: ReadPart, data: bytes) -> bool:
        if op.offset == 0 and op.size == self.source.size(path):
            return len(data) == op.size and hashlib.sha256(data).digest() == self.source.digest(path)
        return data == self.source.part(path, op.offset, op.size)

    @property
    def all_hashed(self) -> bool:
        """Tell whether the server gave the right hash of everything it was asked to hash, and that was something."""
        return bool(self.hashed) and self.right_hashes == len(self.hashed)


def inspected(wrong: Findings, proving: Proving | None) -> Inspected:
    """Say how closely was looked; `proving` None: nothing was sent, so a listing is all there is to be looked at."""
    if proving is None:
        return Inspected(wrong)
    read = bool(proving.read)
    return Inspected(
        wrong,
        Step.READ if read else Step.HASHED if proving.all_hashed else Step.LISTED,
        files_hashed=proving.right_hashes,
        files_read_back=len(proving.read),
        bytes_read_back=proving.bytes_read,
    )


def prove(proving: Proving) -> Steps[Inspected]:
    """Ask by itself, where there is no listing to do it beside."""
    for outcome in (yield Flight(proving.ops())):
        proving.take(outcome)
    return inspected(Findings(altered=tuple(sorted(proving.altered))), proving)
