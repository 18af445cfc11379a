"""Versions of a file are compared once, from copies that are what they should be, and only where it pays."""

from __future__ import annotations

import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import BinaryIO

import pytest

from mirrord.comparing import LEAST_FILE, Comparer
from mirrord.delta import Copy
from mirrord.errors import Cancelled
from mirrord.manifest import Entry
from tests.publishing import Blobs

OLD = random.Random(1).randbytes(200_000)
NEW = OLD[:100_000] + b"new" + OLD[100_000:]


class Counted(Blobs):
    """A store that counts how often it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0

    def open(self, digest: bytes) -> BinaryIO:
        """As `hosts.Content` does."""
        self.opened += 1
        return super().open(digest)


@pytest.fixture
def store() -> Counted:
    """Return a store without content."""
    return Counted()


def entry(store: Blobs, data: bytes) -> Entry:
    return Entry(store.add(data), len(data), 1)


def test_a_delta_says_what_is_copied_and_vouches_for_what_is_sent(store: Counted) -> None:
    """What is sent later must be what was compared now: its digest is part of the delta."""
    delta = Comparer(store)(entry(store, OLD), entry(store, NEW))

    assert delta is not None
    assert delta.copies == (Copy(0, 0, 100_000), Copy(100_000, 100_003, 100_000))
    assert (delta.size, delta.sent) == (200_003, 3)
    assert delta.digest == hashlib.sha256(b"new").digest()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(OLD[: LEAST_FILE - 1], OLD, id="the old one is small"),
        pytest.param(OLD, OLD[: LEAST_FILE - 1], id="the new one is small"),
        pytest.param(OLD, random.Random(2).randbytes(200_000), id="nothing in common"),
        pytest.param(OLD, OLD[:50_000] + random.Random(3).randbytes(150_000), id="too little in common"),
    ],
)
def test_what_is_as_cheap_to_send_is_sent_whole(store: Counted, old: bytes, new: bytes) -> None:
    """Each copy costs the server a request and the reader of the result a doubt."""
    assert Comparer(store)(entry(store, old), entry(store, new)) is None


@pytest.mark.parametrize("damaged", ["old", "new"])
@pytest.mark.parametrize("how", ["altered", "missing", "longer"])
def test_damaged_copies_are_not_compared(store: Counted, damaged: str, how: str) -> None:
    """The mirror holds what was recorded, not what our disk has made of it since."""
    entries = {"old": entry(store, OLD), "new": entry(store, NEW)}
    digest = entries[damaged].digest
    if how == "missing":
        del store.by_digest[digest]
    else:
        store.by_digest[digest] = b"x" + store.by_digest[digest][how == "altered" :]

    assert Comparer(store)(entries["old"], entries["new"]) is None


def test_four_mirrors_wait_for_one_comparison(store: Counted) -> None:
    """What is the same for all is not done four times on two cores."""
    old, new = entry(store, OLD), entry(store, NEW)
    gate = threading.Barrier(4)
    comparer = Comparer(store)

    def ask(_: int) -> object:
        gate.wait(10)
        return comparer(old, new)

    with ThreadPoolExecutor(4) as crew:
        found = list(crew.map(ask, range(4)))
    assert len({id(delta) for delta in found}) == 1
    assert store.opened == 2
    assert comparer(new, old) is not None
    assert store.opened == 4


def test_comparing_ends_when_mirrord_does(store: Counted) -> None:
    """Ten gigabytes are no reason to stop late."""
    stop = threading.Event()
    stop.set()

    with pytest.raises(Cancelled):
        Comparer(store, stop)(entry(store, OLD), entry(store, NEW))


def test_a_file_that_shrinks_while_it_is_compared_is_sent_whole() -> None:
    """Whatever happens on our own disk, comparing comes to an end."""

    class Shrinking(BytesIO):
        reads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.reads += 1
            return super().read(size) if self.reads < 5 else b""

    class Store(Blobs):
        def open(self, digest: bytes) -> BinaryIO:
            return Shrinking(self.by_digest[digest])

    store = Store()

    assert Comparer(store)(entry(store, OLD), entry(store, NEW)) is None
