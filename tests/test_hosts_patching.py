"""What is read back of a patched file: little, unforeseeable, and of each kind of bytes in it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.delta import Copy, Delta, gaps
from mirrord.hosts.files import MOST_CHECKED
from mirrord.hosts.patching import LEAST_CHECKED, MOST_RANGES, SHARE, ranges_to_check

runs = st.lists(st.tuples(st.integers(0, 100_000), st.integers(1, 3_000_000)), max_size=200)


def delta_of(runs: list[tuple[int, int]], tail: int) -> Delta:
    """Make a delta of (bytes sent, then bytes copied) pairs."""
    copies, at = [], 0
    for sent, copied in runs:
        copies.append(Copy(7, at + sent, copied))
        at += sent + copied
    return Delta(at + tail, tuple(copies), b"")


@given(runs=runs, tail=st.integers(0, 50_000), seed=st.integers(0, 99))
def test_what_is_read_back_lies_in_the_file_and_is_a_small_share_of_it(
    runs: list[tuple[int, int]], tail: int, seed: int
) -> None:
    """Checking must not cost what patching spared, nor more requests than one flight takes."""
    delta = delta_of(runs, tail)

    ranges = ranges_to_check(delta, random.Random(seed))
    assert all(at >= 0 and size > 0 and at + size <= delta.size for at, size in ranges)
    assert sum(size for _, size in ranges) <= min(MOST_CHECKED, max(LEAST_CHECKED, delta.size // SHARE))
    assert len(ranges) <= MOST_RANGES
    assert bool(ranges) is bool(delta.size)


def test_all_that_was_sent_is_read_back_where_it_is_little_and_the_ends_of_each_run() -> None:
    """A server that copies from the wrong place, or too little, shows it there."""
    delta = delta_of([(500, 5_000_000), (1500, 9_000_000), (0, 6_000_000)], 0)

    read = ranges_to_check(delta, random.Random(1))

    def covered(at: int) -> bool:
        return any(start <= at < start + size for start, size in read)

    assert all(covered(at) for start, size in gaps(delta.copies, delta.size) for at in (start, start + size - 1))
    assert all(covered(copy.new) and covered(copy.end - 1) for copy in delta.copies)


def test_nobody_can_foresee_what_is_read_back_of_what_was_copied() -> None:
    """A host that altered the base knows its bytes; it must not know which of them are looked at."""
    delta = delta_of([(100, 20_000_000)], 0)

    one, other = (set(ranges_to_check(delta, random.Random(seed))) for seed in (1, 2))
    assert len(one - other) > 50


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_odds_of_missing_an_altered_share_are_as_said(share: float) -> None:
    """1 - (1 - share)^s with s ranges: dozens find what is a tenth of the file nearly always."""
    delta = delta_of([(10, 20_000_000)], 0)
    start = 3_000_000

    def finds(seed: int) -> bool:
        altered = range(start, start + int(share * delta.size))
        return any(at in altered for at, _ in ranges_to_check(delta, random.Random(seed)))

    assert sum(finds(seed) for seed in range(200)) >= 198
