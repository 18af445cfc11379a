"""Any history of edits, takes, rollbacks, signings and sweeps keeps the promises that the single tests make."""

import os
import random
from pathlib import Path

import pytest

from mirrord.manifest import SnapshotId
from tests.snapshotting import DAY, Ground

PATHS = [b"index.html", b"a", b"a b/\xff", b"a b/c", b"deep/er/x"]
CONTENTS = [b"", b"1", b"2", b"22", b"x" * 5000]


@pytest.mark.parametrize("seed", range(5))
def test_every_snapshot_of_a_random_history_stays_what_it_was(tmp_path: Path, seed: int) -> None:
    """What was published once can be had again byte for byte; numbers only grow; ETags are never used twice."""
    dice, ground = random.Random(seed), Ground.at(tmp_path)
    content: dict[SnapshotId, dict[bytes, bytes]] = {}
    site = {b"keep": b"1"}
    for _ in range(40):
        act = dice.choice(["edit", "edit", "edit", "remove", "take", "take", "rollback", "sign", "sweep"])
        held = [card.id for card in ground.store.snapshots()]
        if act == "edit":
            site[dice.choice(PATHS)] = dice.choice(CONTENTS)
        elif act == "remove" and len(site) > 1:
            del site[dice.choice([path for path in site if path != b"keep"])]
        elif act == "take":
            lay_out(ground, site, dice)
            taken = ground.take(allow_deletions=True)
            assert taken.changed is (not held or content[held[-1]] != site)
            content[taken.snapshot.id] = dict(site)
        elif act == "rollback" and held:
            to = dice.choice(held)
            ground.now += 60
            back = ground.store.rollback(
                to, ground.key, ground.guard, now_wall=ground.now, next_expected_in=DAY, allow_deletions=True
            )
            assert back.changed is (content[held[-1]] != content[to])
            content[back.snapshot.id] = content[to]
        elif act == "sign" and held:
            ground.store.sign_again(held[-1], ground.key, ground.now, DAY)
        elif act == "sweep":
            ground.store.sweep(dice.randint(1, 6), frozenset())

        held = [card.id for card in ground.store.snapshots()]
        assert held == sorted(held)
        assert {each: ground.content_of(each) for each in held} == {each: content[each] for each in held}
        assert ground.kept() >= ground.needed()
        assert ground.litter() == []
    etags_are_never_used_twice(ground, content)


def lay_out(ground: Ground, site: dict[bytes, bytes], dice: random.Random) -> None:
    """Make the source what it should be; a generator that sets all times alike, or not."""
    for path in [path for path in ground.site.rglob("*") if path.is_file()]:
        if os.fsencode(path.relative_to(ground.site)) not in site:
            path.unlink()
    ground.write(site)
    if dice.random() < 0.7:
        for path in ground.site.rglob("*"):
            os.utime(path, (1_700_000_000, 1_700_000_000))


def etags_are_never_used_twice(ground: Ground, content: dict[SnapshotId, dict[bytes, bytes]]) -> None:
    """Assert that a path never has two contents with one size and time, over all snapshots that are left."""
    seen: dict[tuple[bytes, int, int], bytes] = {}
    for card in ground.store.snapshots():
        for path, entry in ground.store.load(card.id).manifest.entries.items():
            assert seen.setdefault((path, entry.size, entry.mtime), entry.digest) == entry.digest
            assert entry.size == len(content[card.id][path])
