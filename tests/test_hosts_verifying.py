"""What is read back of what was sent, and what it proves."""

import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.hosts import Findings, Inspected, Step
from mirrord.hosts.files import Create, MakeFolder
from mirrord.hosts.memory import Disk, MemoryFiles
from mirrord.hosts.staging import Source
from mirrord.hosts.verifying import MOST_PIECES, PIECE, Piece, Proving, draw, inspected
from tests.publishing import Publisher

SIZES = st.dictionaries(st.binary(min_size=1, max_size=3), st.integers(0, 5 * PIECE), max_size=12)


@given(sizes=SIZES, seed=st.integers())
def test_up_to_the_limit_every_byte_is_read_once(sizes: dict[bytes, int], seed: int) -> None:
    """A usual change is small: all of it is looked at, and nothing is left to chance."""
    pieces = draw(sizes, sum(sizes.values()) or 1, random.Random(seed))

    for path, size in sizes.items():
        mine = sorted((piece.offset, piece.size) for piece in pieces if piece.path == path)
        assert [offset for offset, _ in mine] == list(range(0, size, PIECE))
        assert sum(length for _, length in mine) == size


@given(sizes=SIZES, limit=st.integers(0, 8 * PIECE), seed=st.integers())
def test_beyond_the_limit_pieces_are_drawn_and_the_limit_is_kept(
    sizes: dict[bytes, int], limit: int, seed: int
) -> None:
    """Reading back costs the line: never more than the operator allowed, never a piece twice, never past an end."""
    pieces = draw(sizes, limit, random.Random(seed))

    assert len(set(pieces)) == len(pieces)
    assert sum(piece.size for piece in pieces) <= max(limit, PIECE if limit else 0)
    assert all(0 <= piece.offset < sizes[piece.path] for piece in pieces)
    assert all(piece.offset + piece.size <= sizes[piece.path] for piece in pieces)
    assert bool(pieces) == bool(limit and any(sizes.values()))


def test_every_piece_is_drawn_as_often_as_every_other() -> None:
    """The odds of finding k wrong pieces of n with s reads hold only then: large files must not hide in few draws."""
    sizes = {b"large": 8 * PIECE, b"small": PIECE, b"tiny": PIECE}
    dice = random.Random(7)
    count = Counter(piece for _ in range(3000) for piece in draw(sizes, 2 * PIECE, dice))

    assert len(count) == 10
    assert all(480 < drawn < 720 for drawn in count.values())


def test_however_small_the_files_only_so_many_are_read() -> None:
    """A hundred thousand tiny files fit into any limit of bytes, and each costs four requests."""
    pieces = draw({b"%d" % n: 1 for n in range(5000)}, 4_000_000, random.Random(1))

    assert len(pieces) == MOST_PIECES


def test_what_was_wrong_before_is_read_first() -> None:
    """A file that was sent again is looked at again, whatever the lot says."""
    sizes = {b"%d" % n: PIECE for n in range(100)}

    pieces = draw(sizes, 3 * PIECE, random.Random(1), first=[b"42"])

    assert pieces[0] == Piece(b"42", 0, PIECE)
    assert len(pieces) == 3


def test_a_limit_of_nothing_reads_nothing() -> None:
    """Who pays for each byte turns it off."""
    assert draw({b"a": 1}, 0, random.Random(1)) == ()


def test_a_terabyte_is_drawn_from_without_being_listed() -> None:
    """The pieces of a large site are never all held in memory."""
    pieces = draw({b"film": 1 << 40}, 10 * PIECE, random.Random(1))

    assert len(pieces) == 10


FILM = os.urandom(3 * PIECE + 5)
PAGES = {b"index.html": b"<h1>home</h1>", b"empty": b"", b"film": FILM}


def prove(
    stands: Mapping[bytes, bytes], *, asks_hashes: bool = False, hashes: tuple[str, ...] = (), limit: int = 1 << 20
) -> tuple[Inspected, set[bytes]]:
    """Ask a mirror on which these bytes stand about all of `PAGES`; return what was reached, and what is altered."""
    publisher = Publisher()
    source = Source.of(publisher.take(PAGES), publisher.content)
    files = MemoryFiles(Disk())
    files.traits = replace(files.traits, hashes=hashes)
    made = files.in_order(
        [MakeFolder(b""), MakeFolder(b"x"), *(Create(b"x/" + path, data) for path, data in stands.items())]
    )
    assert all(outcome.good for outcome in made)
    proving = Proving.of(source, b"x", list(PAGES), limit, random.Random(1), hashes=asks_hashes)
    answers = list(files.carry_out(proving.ops()))
    assert all(proving.take(outcome) for outcome in answers)
    return inspected(Findings(), proving), proving.altered


def test_what_stands_as_it_was_sent_is_proven_by_reading_it() -> None:
    """The usual case: everything that was sent comes back as it went."""
    reached, altered = prove(PAGES)

    assert altered == set()
    assert (reached.reached, reached.files_read_back, reached.bytes_read_back) == (
        Step.READ,
        2,
        len(FILM) + len(PAGES[b"index.html"]),
    )


@pytest.mark.parametrize("at", [0, PIECE, len(FILM) - 1])
def test_one_wrong_byte_anywhere_is_found(at: int) -> None:
    """Also in the last, short piece of a long file."""
    film = bytearray(FILM)
    film[at] ^= 1

    assert prove({**PAGES, b"film": bytes(film)})[1] == {b"film"}


def test_a_file_that_is_short_or_gone_is_found_without_any_listing() -> None:
    """A server may list what it does not have."""
    assert prove({b"empty": b"", b"film": FILM[:-1]})[1] == {b"film", b"index.html"}


def test_a_server_that_hashes_is_asked_about_everything_however_little_is_read() -> None:
    """Its hashes cost no content on the line: with nothing read back they are the step that is reached."""
    reached, altered = prove(PAGES, asks_hashes=True, hashes=("sha256",), limit=0)

    assert (reached.reached, reached.files_hashed, altered) == (Step.HASHED, 2, set())
    assert prove({**PAGES, b"film": FILM[::-1]}, asks_hashes=True, hashes=("sha256",), limit=0)[1] == {b"film"}


def test_a_server_that_only_says_that_it_hashes_has_proven_nothing() -> None:
    """What it advertises and cannot do is no finding against the files, and no step either."""
    reached, altered = prove(PAGES, asks_hashes=True, limit=0)

    assert (reached.reached, reached.files_hashed, altered) == (Step.LISTED, 0, set())


def test_where_nothing_was_sent_the_listing_is_all_there_is_to_prove() -> None:
    """A release that only drops pages, say, or one that stood on the mirror already."""
    assert inspected(Findings(), None) == Inspected(Findings(), Step.LISTED)


def test_each_step_holds_those_before_it() -> None:
    """Operators and scripts ask for "at least read"."""
    assert [step.value for step in sorted(Step, key=lambda step: step.rank)] == [
        "status",
        "listed",
        "hashed",
        "read",
        "seen",
    ]
