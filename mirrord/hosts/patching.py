"""How is a file made on a mirror of one that it has, and how is that believed?

A plan says which files are patched and of what. Here that becomes operations: only where the base is listed with the
size and mtime that it was published with, and with ranges of the result that are read back. The result rests on bytes
that lay on the host since they were sent: of what was copied a sample is drawn by lot, and the ends of each run, where
a server that copies wrongly shows it.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from mirrord.delta import Delta, gaps
from mirrord.hosts.files import MOST_CHECKED, Attributes
from mirrord.hosts.trees import agrees
from mirrord.plan import Patching, Plan

_Range = tuple[int, int]

SHARE = 400
"""One byte of so many is read back..."""
LEAST_CHECKED = 8192
"""... and at least so many."""
MOST_RANGES = 128
_PIECE = 256
_LONGEST = 4096


def usable(
    plan: Plan, listed: Mapping[bytes, Attributes], wanted: Collection[bytes], but: Collection[bytes] = ()
) -> dict[bytes, Patching]:
    """Return what is patched of the files `wanted`, `but` for some: those whose base is listed as it should be."""
    return {
        path: patching
        for path, patching in plan.patch.items()
        if path in wanted and path not in but and agrees(listed.get(patching.base), (patching.size, patching.mtime))
    }


def ranges_to_check(delta: Delta, dice: random.Random) -> tuple[tuple[int, int], ...]:
    """Choose (offset, size) of what is read back: what was sent, ends of what was copied, and some of its inside."""
    budget = min(MOST_CHECKED, max(LEAST_CHECKED, delta.size // SHARE))
    copied = [(copy.new, copy.size) for copy in delta.copies]
    sent = list(gaps(delta.copies, delta.size))
    all_of_it = delta.sent <= budget // 2 and len(sent) <= MOST_RANGES // 4
    chosen = _fitting(_cut(sent) if all_of_it else _by_lot(sent, dice), budget // 2, MOST_RANGES // 2)
    chosen += _fitting(_ends(copied, dice), budget // 4, MOST_RANGES // 4)
    left = budget - sum(size for _, size in chosen)
    return (*chosen, *_fitting(_by_lot(copied, dice), left, MOST_RANGES - len(chosen)))


def _fitting(ranges: Iterable[_Range], budget: int, most: int) -> list[_Range]:
    """Take so many, of so many bytes in all."""
    taken: list[_Range] = []
    for at, size in ranges:
        budget -= size
        if budget < 0 or len(taken) >= most:
            break
        taken.append((at, size))
    return taken


def _cut(runs: Sequence[_Range]) -> Iterator[_Range]:
    for start, whole in runs:
        for part in range(0, whole, _LONGEST):
            yield start + part, min(_LONGEST, whole - part)


def _ends(runs: Sequence[_Range], dice: random.Random) -> Iterator[_Range]:
    for start, whole in dice.sample(runs, min(len(runs), MOST_RANGES)):
        size = min(_PIECE // 2, whole)
        yield start, size
        yield start + whole - size, size


def _by_lot(runs: Sequence[_Range], dice: random.Random) -> Iterator[_Range]:
    """Draw ranges, each byte as likely as any other."""
    weights = [size for _, size in runs]
    for start, whole in dice.choices(runs, weights, k=MOST_RANGES) if runs else ():
        size = min(_PIECE, whole)
        yield start + dice.randrange(whole - size + 1), size
