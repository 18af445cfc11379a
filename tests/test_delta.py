"""What two versions of a file have in common is found to the byte, whatever was done to it, and in bounded time."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrord.delta import LEAST_COPY, MOST_COPIES, Copy, Delta, find_copies, gaps

RANDOM = random.Random(7).randbytes(1_000_000)
WORDS = [b"the", b"mirror", b"of", b"a", b"page", b"that", b"readers", b"see\n"]
TEXT = b" ".join(random.Random(8).choice(WORDS) for _ in range(200_000))
ZEROS = bytes(500_000)
ROWS = [b"%07d,%d,row\n" % (n, random.Random(n).randrange(10**6)) for n in range(40_000)]


def rebuilt(copies: tuple[Copy, ...], old: bytes, new: bytes) -> bytes:
    """Do what a mirror does."""
    made = bytearray(len(new))
    for at, size in gaps(copies, len(new)):
        made[at : at + size] = new[at : at + size]
    for copy in copies:
        made[copy.new : copy.end] = old[copy.old : copy.old + copy.size]
    return bytes(made)


def sent(old: bytes, new: bytes) -> int:
    """Return how much has to be sent, once it is sure that the rest comes out right."""
    copies = find_copies(old, new)
    assert rebuilt(copies, old, new) == new
    return sum(size for _, size in gaps(copies, len(new)))


def test_bytes_replaced_in_place_are_all_that_is_sent() -> None:
    """The case that a site has daily: a database file or an archive of which some places changed."""
    new = bytearray(RANDOM)
    for at in (0, 250_000, 600_001, 999_000):
        new[at : at + 1000] = bytes(byte ^ 1 for byte in new[at : at + 1000])

    assert sent(RANDOM, bytes(new)) == 4000


@pytest.mark.parametrize(
    ("old", "new", "most"),
    [
        pytest.param(RANDOM, RANDOM[:400_000] + b"inserted" + RANDOM[400_000:], 8, id="an insertion"),
        pytest.param(RANDOM, RANDOM[:400_000] + RANDOM[400_007:], 0, id="a deletion"),
        pytest.param(RANDOM, b"head" + RANDOM + b"tail", 8, id="at both ends"),
        pytest.param(RANDOM, RANDOM[500_000:] + RANDOM[:500_000], 0, id="halves swapped"),
        pytest.param(RANDOM, RANDOM[:300_000] * 3, 0, id="a block repeated"),
        pytest.param(RANDOM, RANDOM[:70_000], 0, id="cut short"),
        pytest.param(TEXT, TEXT[:100_000] + b"EDIT" + TEXT[120_000:500_000] + b"MORE" + TEXT[500_001:], 8, id="text"),
        pytest.param(ZEROS, ZEROS + b"x" + ZEROS, 500_000, id="one byte repeated"),
        pytest.param(
            b"".join(ROWS), b"".join(row for n, row in enumerate(ROWS) if n % 4000), 9 * 2048, id="lines deleted"
        ),
        pytest.param(RANDOM, RANDOM, 0, id="the same"),
    ],
)
def test_what_moved_or_was_shifted_is_found_again(old: bytes, new: bytes, most: int) -> None:
    """Neither a line more in a feed nor a chapter moved makes a file travel whole."""
    assert sent(old, new) <= most


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b"", RANDOM, id="nothing before"),
        pytest.param(RANDOM, b"", id="nothing after"),
        pytest.param(RANDOM, random.Random(9).randbytes(900_000), id="another file"),
        pytest.param(RANDOM, RANDOM[: LEAST_COPY - 1], id="too little in common"),
    ],
)
def test_files_that_have_nothing_in_common_are_sent(old: bytes, new: bytes) -> None:
    """There is nothing to copy, and nothing is copied."""
    assert find_copies(old, new) == ()


def test_a_file_changed_everywhere_has_no_more_copies_than_are_worth_it() -> None:
    """A plan that holds thousands of such files must not fill the memory."""
    new = bytearray(random.Random(10).randbytes(9 << 20))
    old = bytes(new)
    for at in range(0, len(new), 8192):
        new[at] ^= 1

    copies = find_copies(old, bytes(new))
    assert len(copies) == MOST_COPIES
    assert rebuilt(copies, old, bytes(new)) == new


class Watched:
    """Bytes that count how much is taken of them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.taken = 0
        self.longest = 0

    def __len__(self) -> int:
        """As bytes."""
        return len(self.data)

    def __getitem__(self, part: slice, /) -> bytes:
        """As bytes."""
        found = self.data[part]
        self.taken += len(found)
        self.longest = max(self.longest, len(found))
        return found


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: random.Random(11).randbytes(n), id="unlike"),
        pytest.param(bytes, id="one byte"),
        pytest.param(lambda n: b"\0\1" * (n // 2), id="two bytes"),
        pytest.param(lambda n: RANDOM[: LEAST_COPY - 1] * (n // (LEAST_COPY - 1)), id="short runs"),
    ],
)
def test_work_and_memory_are_bounded_by_the_size_of_the_files(make: Callable[[int], bytes]) -> None:
    """An unlucky or a hostile file is sent whole; it does not stop a publish."""
    old, new = Watched(make(2_000_000)), Watched(RANDOM + make(1_000_000) + RANDOM[::-1])

    find_copies(old, new)
    assert old.taken + new.taken < 12 * (len(old) + len(new))
    assert max(old.longest, new.longest) <= 1 << 20


def test_work_ends_where_it_is_told_to() -> None:
    """A daemon that stops does not wait until ten gigabytes are compared."""

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        find_copies(RANDOM, RANDOM, stop)


Edit = Callable[[bytes], bytes]
places = st.floats(0, 1)
edits = st.one_of(
    st.tuples(st.just("insert"), places, st.binary(max_size=40)),
    st.tuples(st.just("delete"), places, st.integers(0, 4000)),
    st.tuples(st.just("replace"), places, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("move"), places, st.integers(1, 9000)),
)
bases = st.sampled_from([RANDOM[:50_000], TEXT[:50_000], ZEROS[:50_000], b"ab" * 20_000, b"".join(ROWS[:2000])])


def edited(data: bytes, what: str, place: float, by: bytes | int) -> bytes:
    """Do one thing to a file."""
    at = int(place * len(data))
    if isinstance(by, bytes):
        return data[:at] + by + data[at + (len(by) if what == "replace" else 0) :]
    if what == "delete":
        return data[:at] + data[at + by :]
    rest = data[:at] + data[at + by :]
    return rest[: len(rest) // 2] + data[at : at + by] + rest[len(rest) // 2 :]


@settings(max_examples=150, deadline=None)
@given(old=bases, changes=st.lists(edits, max_size=6))
def test_whatever_was_edited_the_new_file_comes_out_and_little_is_sent(
    old: bytes, changes: list[tuple[str, float, bytes | int]]
) -> None:
    """Right always; and no edit costs more than itself and what lies near it."""
    new = old
    for change in changes:
        new = edited(new, *change)

    copies = find_copies(old, new)
    assert rebuilt(copies, old, new) == new
    assert all(copy.size >= LEAST_COPY for copy in copies)
    assert all(a.end <= b.new for a, b in pairwise(copies))
    assert all(copy.old >= 0 and copy.old + copy.size <= len(old) for copy in copies)
    assert sum(size for _, size in gaps(copies, len(new))) <= 20_000 * len(changes)


@settings(max_examples=200, deadline=None)
@given(old=st.binary(max_size=3000), new=st.binary(max_size=3000), same=st.binary(max_size=3000))
def test_small_and_strange_files_come_out_right(old: bytes, new: bytes, same: bytes) -> None:
    """No size, and no place of what they share, is an exception."""
    a, b = old + same + new, new + same + same + old

    assert rebuilt(find_copies(a, b), a, b) == b


def test_a_file_that_is_copied_whole_sends_nothing() -> None:
    """A move inside a site on a mirror without hard links."""
    assert (Delta.of_same(7).sent, Delta.of_same(0).copies) == (0, ())
