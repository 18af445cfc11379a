"""Killed at any instant, the store goes on with the next verb: nothing is lost, and nothing is left lying about."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mirrord.manifest import SnapshotId
from mirrord.trust.keys import new_signing_key
from tests import verb_to_be_killed
from tests.snapshotting import DAY, NOW, Ground, tree

CONTENT = {b"index.html": b"news", b"a/same": b"same", b"a/twin": b"same", b"large": b"x" * 1_100_000}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a `base`: a store of three snapshots, and a source that has changed since."""
    (tmp_path / "base").mkdir()
    ground = Ground.at(tmp_path / "base")
    for version in (b"1", b"2", b"3"):
        ground.write({"index.html": b"home " + version, "a/same": b"same"})
        ground.take()
    ground.write(CONTENT)
    return tmp_path


def killed(folder: Path, verb: str) -> list[Ground]:
    """Kill a verb at every step; return what each of them left."""
    command = [sys.executable, "-m", verb_to_be_killed.__name__, str(folder), verb]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    last, code = map(int, done.stdout.split())
    assert code == 0, done.stderr
    assert last > 10
    key = new_signing_key()
    grounds = [Ground.on(folder / str(step), key) for step in range(1, last + 1)]
    for ground in grounds:
        ground.now = NOW + 2 * DAY
    return grounds


def whole(ground: Ground) -> None:
    """Assert that every snapshot is whole and that nothing else is there."""
    assert ground.store.scrub().damaged == {}
    assert ground.kept() == ground.needed()
    assert ground.litter() == []


def test_a_killed_take_leaves_the_next_one_a_clean_start(folder: Path) -> None:
    """The rename of its folder makes a snapshot: before it there is none, after it there is one, whole."""
    serials = set()
    for ground in killed(folder, "take"):
        ids = [card.id for card in ground.store.snapshots()]
        serials.add(len(ids))
        for snapshot in ids:
            ground.store.load(snapshot)

        taken = ground.take()

        assert taken.snapshot.serial == 4
        assert ground.content(taken) == CONTENT
        whole(ground)
    assert serials == {3, 4}


def test_a_killed_rollback_leaves_no_half_snapshot(folder: Path) -> None:
    """It is a take with another source."""
    for ground in killed(folder, "rollback"):
        first = ground.store.snapshots()[0]

        back = ground.store.rollback(first.id, ground.key, ground.guard, now_wall=ground.now, next_expected_in=DAY)

        assert back.snapshot.serial == 4
        assert back.snapshot.restores == first.id
        whole(ground)


def test_a_killed_sweep_loses_nothing_that_is_kept(folder: Path) -> None:
    """Contents go only after the snapshots that need them; the next sweep ends what was begun."""
    for ground in killed(folder, "sweep"):
        newest = ground.store.newest()
        assert newest is not None
        assert ground.content_of(newest)[b"index.html"] == b"home 3"

        ground.store.sweep(1, frozenset())

        assert [card.id for card in ground.store.snapshots()] == [newest]
        whole(ground)


def test_a_killed_signing_leaves_the_old_or_the_new_card(folder: Path) -> None:
    """Card and signature change together, never one without the other."""
    for ground in killed(folder, "sign"):
        newest = SnapshotId(ground.store.newest() or "")
        before = ground.store.load(newest)

        again = ground.store.sign_again(newest, ground.key, ground.now, DAY)

        assert again.snapshot.serial == before.snapshot.serial
        assert again.signed_at > before.signed_at
        whole(ground)


def test_a_killed_restore_leaves_no_half_folder(folder: Path) -> None:
    """Whole, or not there; the next try clears up and succeeds."""
    for ground in killed(folder, "restore"):
        target = ground.folder / "restored"
        newest = SnapshotId(ground.store.newest() or "")
        if target.exists():
            assert tree(target) == ground.content_of(newest)
            shutil.rmtree(target)

        ground.store.restore(newest, target)

        assert tree(target) == ground.content_of(newest)
        assert sorted(found.name for found in ground.folder.iterdir()) == ["restored", "source", "store"]
