from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.manifest import Entry, Manifest, Snapshot, SnapshotId
from mirrord.snapshot.numbering import GONE_KEPT, LAST_MTIME, Found, Gone, gone_after, next_snapshot, publish_times

NOW = 1_795_298_400.0
OLD, NEW = b"\1" * 32, b"\2" * 32


def published(own: float, before: int | None, *, same: bool = False, gone: int | None = None, now: float = NOW) -> int:
    """Return the published mtime of one file."""
    held = {} if before is None else {b"p": Entry(OLD, 1, before)}
    left = {} if gone is None else {b"p": (1, gone)}
    found = {b"p": Found(OLD if same else NEW, 1, own)}
    return publish_times(found, held, left, now).entries[b"p"].mtime


@pytest.mark.parametrize(
    ("mtime", "wanted"),
    [
        pytest.param(published(100.9, None), 100, id="new: its own, whole seconds"),
        pytest.param(published(NOW + 99, None), int(NOW), id="from the future: now"),
        pytest.param(published(-5.0, None), 1, id="before 1970: 1"),
        pytest.param(published(0.0, None), 1, id="never: 1"),
        pytest.param(published(2.0**40, None, now=2.0**41), LAST_MTIME, id="too far: the last that SFTP can say"),
        pytest.param(published(500.0, 100, same=True), 100, id="touched, same bytes: as before"),
        pytest.param(published(500.0, 100), 500, id="new bytes, later: its own"),
        pytest.param(published(100.0, 100), 101, id="new bytes, same time: a second later"),
        pytest.param(published(50.0, 100), 101, id="new bytes, an older time: later than before"),
        pytest.param(published(50.0, None, gone=100), 101, id="back after it was removed: later than before"),
        pytest.param(published(500.0, None, gone=100), 500, id="back, later: its own"),
    ],
)
def test_published_times(mtime: int, wanted: int) -> None:
    """Time and size are the ETag of nginx and Apache: same bytes keep theirs, new bytes never carry an old one."""
    assert mtime == wanted


@pytest.mark.parametrize(
    ("path", "own", "wanted"),
    [
        pytest.param(b"new", 500.0, 100, id="moved: as it was there"),
        pytest.param(b"older", 500.0, 100, id="over a page that is older: as it was there"),
        pytest.param(b"younger", 500.0, 500, id="over a page that is younger: its own"),
        pytest.param(b"gone", 50.0, 201, id="to where one was younger: later than that"),
    ],
)
def test_bytes_that_moved_keep_their_time_where_it_is_new_there(path: bytes, own: float, wanted: int) -> None:
    """
    Generators touch whatever they write; a folder that was renamed is linked on every mirror all the same. What is new
    at a path is younger than what was there.
    """
    before = {b"was": Entry(NEW, 1, 100), b"older": Entry(OLD, 1, 99), b"younger": Entry(OLD, 1, 100)}
    moved = publish_times({path: Found(NEW, 1, own)}, before, {b"gone": (1, 200)}, NOW)

    assert moved.entries[path].mtime == wanted


@given(
    history=st.lists(
        st.tuples(st.sampled_from([None, b"A" * 32, b"B" * 32, b"C" * 32]), st.integers(-10, 2**33)), max_size=12
    )
)
def test_no_two_contents_of_a_path_ever_share_a_time(history: list[tuple[bytes | None, int]]) -> None:
    """Through any history of edits, reverts, removals and returns: what differs from before is younger."""
    manifest = Manifest({})
    gone: Gone = {}
    last: tuple[bytes, int] | None = None
    for serial, (digest, own) in enumerate(history, 1):
        files = {} if digest is None else {b"p": Found(digest, 1, float(own))}
        after = publish_times(files, manifest.entries, gone, NOW)
        gone = gone_after(gone, manifest.entries, after.entries, serial)
        manifest = after
        if digest is not None:
            entry = manifest.entries[b"p"]
            if last is not None and last[0] != digest:
                assert entry.mtime > last[1]
            last = (digest, entry.mtime)


def test_what_is_remembered_of_removed_paths_has_an_end() -> None:
    """A site that makes new names daily must not carry all of them for ever; the latest count most."""
    early = {b"early": Entry(OLD, 1, 5)}
    many = {b"%06d" % number: Entry(OLD, 1, 7) for number in range(GONE_KEPT)}

    gone = gone_after(gone_after({}, early, {}, 1), many, {}, 2)

    assert len(gone) == GONE_KEPT
    assert b"early" not in gone


FILES = Manifest.of({b"a": Entry(OLD, 5, 1)})


def follow(before: Snapshot | None, now: float = NOW, highest: int = 0, newest: SnapshotId | None = None) -> Snapshot:
    return next_snapshot(
        "example", FILES, before, now=now, next_expected_in=3600, highest_seen=highest, newest_seen=newest
    )


def test_the_first_snapshot_has_serial_one_and_the_time() -> None:
    """What its card says is what a person expects."""
    first = follow(None)

    assert (first.serial, first.previous, first.files, first.size) == (1, None, 1, 5)
    assert first.created == datetime(2026, 11, 21, 22, tzinfo=UTC)
    assert first.id.startswith("20261121T220000Z-")
    assert (first.next_expected - first.created).total_seconds() == 3600


def test_a_serial_is_above_our_own_and_every_one_seen_on_mirrors() -> None:
    """A lost or restored state folder does not publish backwards."""
    assert follow(follow(None)).serial == 2
    assert follow(None, highest=41).serial == 42
    assert follow(replace(follow(None), serial=50), highest=41).serial == 51


@given(steps=st.lists(st.floats(-1e7, 1e7), min_size=1, max_size=8))
def test_ids_sort_as_serials_whatever_the_clock_does(steps: list[float]) -> None:
    """A clock set back an hour, or two snapshots in one second, must not make the newer one look older."""
    found = [follow(None)]
    for step in steps:
        found.append(follow(found[-1], now=NOW + step))

    assert [each.id for each in found] == sorted({each.id for each in found})
    assert [each.serial for each in found] == list(range(1, len(found) + 1))


def test_an_id_is_younger_than_the_newest_on_any_mirror() -> None:
    """After a restored backup, with a clock that is wrong, ids still sort as serials."""
    seen = SnapshotId("20270101T000000Z-00000000")

    assert follow(None, highest=9, newest=seen).id > seen
    assert follow(None, newest=SnapshotId("20269999T000000Z-00000000")).serial == 1  # no time: passed over
