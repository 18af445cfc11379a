"""What is published without a person, and what is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mirrord.control import syncing
from mirrord.control.upkeep import Upkeep
from mirrord.errors import Braked, Locked, MirrordError
from mirrord.health import FaultKind
from mirrord.journal import PUBLISHING, SNAPSHOTS
from mirrord.manifest import Signed
from mirrord.publish import Published
from tests.controlling import Controller, controller, seen
from tests.watching import sight

MILAN, LYON = "127.0.0.11", "127.0.0.12"
GONE = -1


@dataclass
class Recorder:
    """A publisher that notes what it is asked for and ends at once."""

    began: list[tuple[str, int, bool]] = field(default_factory=list)
    """(mirror, serial, mend)"""
    suspects: list[frozenset[bytes]] = field(default_factory=list)
    """What was to be sent again, of each."""
    gathered: list[list[str]] = field(default_factory=list)
    """Who was to meet, each time."""
    locked: str = ""
    """A mirror that is being published to by somebody else."""

    def start(
        self,
        mirror: str,
        signed: Signed,
        *,
        mend: bool = False,
        suspects: frozenset[bytes] = frozenset(),
        **_: object,
    ) -> Future[Published]:
        """Note it."""
        if mirror == self.locked:
            raise Locked(f"{mirror}: somebody is at it")
        self.began.append((mirror, signed.snapshot.serial, mend))
        self.suspects.append(suspects)
        return Future()

    def gather(self, snapshot: str, mirrors: Collection[str]) -> None:  # noqa: ARG002 (there is only one)
        """Note it."""
        self.gathered.append(sorted(mirrors))

    def stays_away(self, snapshot: str, mirror: str) -> None:  # noqa: ARG002 (the same)
        """Note it."""
        self.gathered[-1].remove(mirror)

    def busy(self, mirror: str) -> bool:  # noqa: ARG002 (its answer is the same for all)
        """Nothing is ever under way."""
        return False


def at_once(future: Future[Any], then: Callable[[Any], None]) -> None:
    """Wait for the worker here and now."""
    try:
        result = future.result(60)
    except MirrordError as e:
        result = e
    then(result)


@dataclass
class Keeper:
    """An upkeep, its publisher, and a clock that is a variable."""

    home: Controller
    published: Recorder
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.upkeep = Upkeep(self.home.works, self.home.mind, self.published, at_once, lambda: self.now)

    def look(self, **serials: int | None) -> None:
        """Take in a round in which mirrors serve these serials; None: something altered, GONE: they do not answer."""
        sights = []
        for mirror, serial in serials.items():
            address = MILAN if mirror == "milan" else LYON
            fault = FaultKind.UNREACHABLE if serial == GONE else None if serial is not None else FaultKind.CONTENT
            sights.append(sight(fault, mirror=mirror, address=address, serial=serial, name="www.example.org"))
        self.home.mind.saw(seen(*sights), self.home.works.settings.thresholds(), {})
        self.upkeep.looked()

    def mirrors(self) -> list[str]:
        """Return who was published to since the last call."""
        names = [mirror for mirror, _, _ in self.published.began]
        self.published.began.clear()
        return names


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    """An upkeep over a controller of two mirrors that were looked at once and serve nothing yet."""
    with controller(tmp_path, daemon=True) as home:
        yield Keeper(home, Recorder())


def test_nothing_is_published_before_the_mirrors_were_looked_at(keeper: Keeper) -> None:
    """A controller restored from a backup must see how far the mirrors are before it says where they shall be."""
    keeper.upkeep.take()
    assert not keeper.mirrors()

    keeper.look(milan=9, lyon=9)
    assert not keeper.mirrors()


def test_the_first_snapshot_goes_to_every_mirror(keeper: Keeper) -> None:
    """The rule above delays it by one round only."""
    keeper.upkeep.take()

    keeper.look()
    assert sorted(keeper.mirrors()) == ["lyon", "milan"]


def test_an_older_state_publishes_to_nobody_not_even_to_who_is_older_still(keeper: Keeper) -> None:
    """A second history of snapshots with the same serials would begin there."""
    keeper.home.verb("snapshot")

    keeper.look(milan=9, lyon=0)
    assert not keeper.mirrors()
    assert "older" in keeper.home.verb("status")["warnings"][0]


def test_a_mirror_that_serves_old_content_catches_up_with_growing_pauses(tmp_path: Path) -> None:
    """One login each round for days would be an attack on the host."""
    with controller(tmp_path, daemon=True, every="30s", snapshot_every="15m") as home:
        keeper = Keeper(home, Recorder())
        home.verb("snapshot")
        tries = 0
        for _ in range(480):
            keeper.look(lyon=0)
            tries += len(keeper.mirrors())
            keeper.now += 30

    assert 16 < tries < 25


def test_an_altered_mirror_is_mended(keeper: Keeper) -> None:
    """An altered card or a lost manifest leaves no suspect file, and is to be put right all the same."""
    keeper.home.verb("snapshot")

    keeper.look(lyon=None)
    assert keeper.published.began == [("lyon", 1, True)]


def test_what_a_reader_got_wrong_after_a_switch_is_mended_once(keeper: Keeper) -> None:
    """A look after the switch names the files: they are sent again. If that does not help, the probes have to judge."""
    keeper.home.verb("snapshot")
    newest = keeper.home.works.store.newest()
    assert newest is not None
    saw = Published("lyon", "published", newest, 1, seen_wrong={"odd \udcff.html.gz": "has other bytes"})

    keeper.upkeep.ended(saw)
    keeper.look()
    first = list(keeper.published.began), list(keeper.published.suspects)
    keeper.published.began.clear()
    keeper.upkeep.ended(saw)
    keeper.now += 100_000
    keeper.look()

    assert first == ([("lyon", 1, True)], [frozenset({b"odd \xff.html.gz"})])
    assert not keeper.mirrors()


def test_a_stop_stops_everything_that_nobody_asked_for(keeper: Keeper) -> None:
    """After `refused: a higher serial` the newest of ours is perhaps the wrong content, on every mirror."""
    keeper.home.verb("snapshot")
    signed = keeper.home.works.store.load(keeper.home.works.store.snapshots()[0].id)
    refused = Published.failure("milan", signed, Braked("milan: it serves serial 12", "serial"), 0.1)
    keeper.look()
    keeper.upkeep.ended(refused)

    keeper.upkeep.take()
    keeper.upkeep.bring()
    keeper.look(lyon=0)
    assert not keeper.mirrors()
    keeper.home.mind.publish_again()
    keeper.upkeep.take()
    assert sorted(keeper.mirrors()) == ["lyon", "milan"]


def test_a_hold_on_publishing_leaves_mirrors_as_they_are(keeper: Keeper) -> None:
    """Somebody works on the hosts."""
    keeper.home.verb("snapshot")
    keeper.look()
    keeper.home.works.journal.hold(PUBLISHING, "audit", "anna")

    keeper.upkeep.take()
    keeper.upkeep.bring()
    keeper.look(lyon=0)
    assert not keeper.mirrors()


def test_after_a_rollback_who_was_away_still_gets_what_was_rolled_back_to(keeper: Keeper) -> None:
    """A mirror that comes back with the pages that had to go must not keep them until somebody types sync."""
    keeper.home.verb("snapshot")
    (keeper.home.folder / "source" / "index.html").write_text("to be taken back")
    keeper.home.verb("snapshot")
    syncing.rollback(keeper.home.works, keeper.home.works.store.snapshots()[0].id, "anna", allow_deletions=False)
    keeper.look()

    keeper.upkeep.take()
    assert keeper.home.works.store.snapshots()[-1].serial == 3
    keeper.look(lyon=2)
    assert ("lyon", 3, False) in keeper.published.began


def test_a_quiet_site_is_signed_again_however_seldom_the_source_is_looked_at(tmp_path: Path) -> None:
    """Readers would be told that the publisher is overdue."""
    with controller(tmp_path, daemon=True, snapshot_every="7d") as home:
        keeper = Keeper(home, Recorder())
        settings, yesterday = home.works.settings, time.time() - 86_400
        newest = home.works.store.take(
            settings.source_value(), settings.signing_key(), settings.guard(), now_wall=yesterday, next_expected_in=1.0
        ).snapshot.id
        keeper.look()

        keeper.upkeep.bring()
        assert sorted(keeper.mirrors()) == ["lyon", "milan"]
        assert home.works.store.signed_at(newest) > yesterday + 86_000


def test_a_person_who_takes_a_snapshot_meanwhile_is_no_trouble(keeper: Keeper) -> None:
    """Status must not warn of what is in order."""
    keeper.look()
    with keeper.home.works.locked("snapshots"):
        keeper.upkeep.take()

    assert not keeper.home.verb("status")["warnings"]
    with keeper.home.works.locked("snapshots"), pytest.raises(Locked):
        syncing.take(keeper.home.works, by_hand=False, allow_deletions=False, seen=lambda *_: None)


def test_a_rollback_that_fails_holds_nothing(keeper: Keeper) -> None:
    """Else the site would stand still without a word."""
    for number in range(30):
        (keeper.home.folder / "source" / f"{number}.html").write_text("page")
    keeper.home.verb("snapshot")
    for number in range(30, 90):
        (keeper.home.folder / "source" / f"{number}.html").write_text("page")
    keeper.home.verb("snapshot")

    with pytest.raises(Braked):
        keeper.home.verb("rollback", snapshot="1")
    assert keeper.home.works.journal.held(SNAPSHOTS) is None


def test_all_mirrors_that_get_a_snapshot_are_gathered_before_the_first_starts(keeper: Keeper) -> None:
    """Else the first would be alone when it is asked whom it waits for."""
    keeper.upkeep.take()

    keeper.look()
    assert keeper.published.gathered == [["lyon", "milan"]]


def test_nobody_waits_for_a_mirror_to_which_somebody_else_publishes(keeper: Keeper) -> None:
    """An earlier snapshot is on its way there; this one comes with the next visit."""
    keeper.upkeep.take()
    keeper.published.locked = "milan"

    keeper.look()
    assert (keeper.published.gathered, keeper.mirrors()) == ([["lyon"]], ["lyon"])


def test_a_mirror_that_answers_again_is_brought_forward_at_once(keeper: Keeper) -> None:
    """
    The pauses between tries have grown to a quarter of an hour while it was away; readers may be sent there as soon
    as it is up.
    """
    keeper.upkeep.take()
    keeper.look()
    for _ in range(12):
        keeper.now += 3600
        keeper.look(milan=1, lyon=0)
    keeper.mirrors()
    keeper.look(milan=1, lyon=0)
    assert keeper.mirrors() == []

    keeper.look(milan=1, lyon=GONE)
    keeper.look(milan=1, lyon=GONE)
    assert keeper.mirrors() == []
    keeper.look(milan=1, lyon=0)
    assert keeper.mirrors() == ["lyon"]
