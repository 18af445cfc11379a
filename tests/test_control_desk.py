"""The verbs, as far as they need no servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrord.control.desk import Desk
from mirrord.errors import BadUsage, Locked, Unavailable
from tests.controlling import Controller, controller
from tests.lab.processes import as_root
from tests.lab.waiting import steadily, until


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Controller]:
    """A controller whose hosts are all gone."""
    with controller(tmp_path) as made:
        yield made


def test_an_order_stands_in_the_history_once(home: Controller) -> None:
    """Who reads the history must not take one order for two."""
    home.verb("hold", what="web", reason="new disks")
    home.verb("unhold", what="web")
    home.verb("drain", mirror="lyon", reason="loud fan")
    home.verb("undrain", mirror="lyon")

    assert [text.partition(":")[0] for text in home.told()] == ["web", "web", "lyon", "lyon"]


def test_status_leaves_to_config_check_what_config_check_says(home: Controller) -> None:
    """What is in every status is read by nobody."""
    assert home.works.settings.warnings

    assert not set(home.works.settings.warnings) & set(home.verb("status")["warnings"])


def test_a_zone_that_cannot_be_read_is_to_be_tried_again_later(home: Controller) -> None:
    """Exit 75: nothing was done, and nobody has to change anything before the next try."""
    with pytest.raises(Unavailable, match="nothing was changed"):
        home.verb("switch", service="web", mirror="lyon", dry_run=True)


def test_a_sync_by_hand_goes_ahead_during_a_hold_and_says_so(home: Controller) -> None:
    """The hold is for what nobody asked for; it stays."""
    home.verb("hold", what="publishing", reason="audit")

    home.verb("sync")
    assert [said["text"] for said in home.said if said["event"] == "warn"] == [
        "publishing is held by anna: audit; a sync by hand goes ahead all the same"
    ]
    assert home.verb("status")["publishing"]["held"]["reason"] == "audit"


def test_a_sync_ends_what_a_rollback_held_and_no_order_of_a_person(home: Controller) -> None:
    """The audit goes on although somebody rolled back and published again in between."""
    home.verb("snapshot")
    home.verb("hold", what="publishing", reason="audit")
    home.verb("rollback", snapshot="1")
    assert home.works.journal.held("automatic snapshots") is not None

    home.verb("sync")
    assert home.works.journal.held("automatic snapshots") is None
    assert home.works.journal.held("publishing") is not None


def test_a_snapshot_is_pinned_and_unpinned_by_any_of_its_names(home: Controller) -> None:
    """Once is enough, and what is done twice is no second entry in the history."""
    snapshot = home.verb("snapshot")["snapshot"]["id"]

    assert home.verb("pin", snapshot="1") == {"snapshot": snapshot, "pinned": True, "changed": True}
    assert home.verb("pin", snapshot=snapshot[:12])["changed"] is False
    assert home.verb("snapshots")["snapshots"][0]["pinned"] is True
    assert home.verb("unpin", snapshot=snapshot)["changed"] is True
    assert home.verb("unpin", snapshot="1")["changed"] is False
    assert home.verb("snapshots")["snapshots"][0]["pinned"] is False
    assert home.told("pin") == [f"{snapshot} is pinned", f"{snapshot} is no longer pinned"]
    with pytest.raises(BadUsage, match="7: there is no such snapshot; `mirrord snapshots` lists them"):
        home.verb("pin", snapshot="7")


@pytest.mark.parametrize("seconds", [0, -5, 1e15, float("inf"), float("nan")])
def test_a_hold_has_an_end_that_can_be_told(home: Controller, seconds: float) -> None:
    """One that nobody can put into words would be in the way of every decision, and of its own end."""
    with pytest.raises(BadUsage, match="for how long"):
        home.verb("hold", what="web", seconds=seconds)

    assert home.works.journal.held("web") is None


def test_unhold_publishing_ends_what_a_rollback_held_too(home: Controller) -> None:
    """Status shows one hold; one word ends it."""
    home.verb("snapshot")
    home.verb("rollback", snapshot="1")

    assert "rolled back" in home.verb("status")["publishing"]["held"]["reason"]
    assert home.verb("unhold", what="publishing")["ended"]
    assert home.verb("status")["publishing"]["held"] is None


def test_an_order_waits_for_the_snapshot_that_is_being_taken(home: Controller) -> None:
    """A maintainer's sync in the wrong second must not end with `locked`."""
    busy = home.works.locked("snapshots")
    busy.__enter__()
    ends: list[dict[str, object]] = []
    person = threading.Thread(target=lambda: ends.append(home.verb("snapshot")))
    person.start()
    steadily(lambda: not ends, 0.3)

    busy.__exit__(None, None, None)
    person.join(20)
    assert ends


def test_a_publish_that_was_killed_does_not_excuse_a_mirror_for_ever(home: Controller) -> None:
    """What is wrong there is settling for two minutes after the kill, and wrong from then on."""
    home.works.journal.publish_began("lyon", "20261121T120000Z-00000000", 1)
    began = time.monotonic()
    with home.works.locked("publish-lyon"):
        until(lambda: home.looker.published()["lyon"] > began + 0.2)

    assert home.looker.published()["lyon"] < began + 0.2


def test_a_publish_that_changed_nothing_excuses_nothing(home: Controller) -> None:
    """A mirror that is visited every minute would else never be found wrong."""
    for result in ("unchanged", "failed", "refused"):
        home.works.journal.publish_began("lyon", "20261121T120000Z-00000000", 1)
        home.works.journal.publish_ended("lyon", result, {})
        assert "lyon" not in home.looker.published()

    home.works.journal.publish_ended("lyon", "published", {})
    when = home.looker.published()["lyon"]
    home.works.journal.publish_began("lyon", "20261121T120000Z-00000000", 1)
    home.works.journal.publish_ended("lyon", "unchanged", {})
    assert abs(home.looker.published()["lyon"] - when) < 0.1


def test_a_host_that_fails_each_time_is_told_of_once(home: Controller) -> None:
    """The history of a month's outage must still show what else happened."""
    home.verb("sync", mirrors=["lyon"])
    home.verb("sync", mirrors=["lyon"])

    assert len(home.told("publish")) == 1


def test_a_disk_that_nobody_can_write_keeps_nobody_from_being_moved(home: Controller) -> None:
    """A disk that breaks is mounted read-only; locks that are there still lock, others are done without."""
    locks = home.works.directory / "locks"
    with home.works.locked("switch-web"):
        pass
    as_root(["mount", "--bind", str(locks), str(locks)])
    as_root(["mount", "-o", "remount,ro,bind", str(locks)])
    try:
        with home.works.locked("switch-web"), pytest.raises(Locked), home.works.locked("switch-web"):
            pass
        with home.works.locked("switch-other"):
            pass
    finally:
        as_root(["umount", str(locks)])


def test_a_new_configuration_gets_crews_of_its_size(home: Controller) -> None:
    """A mirror that is added to a running daemon must not wait until another one's look or upload ends."""
    begun = threading.Barrier(9)
    home.works.adopt(home.reconfigure(mirrors=("milan", "lyon", "oslo", "bergen")))
    for _ in range(8):
        home.works.uploading.submit(begun.wait, 20)

    begun.wait(10)


def test_a_damaged_store_does_not_hide_how_everything_else_is(home: Controller) -> None:
    """In an outage status is what people look at first; it says what is wrong and shows the rest."""
    home.verb("snapshot")
    for card in (home.works.directory / "store" / "snapshots").glob("*/*"):
        card.write_bytes(b"damaged")

    status = home.verb("status")
    assert status["snapshot"] is None
    assert any("damaged" in warning or "store" in warning for warning in status["warnings"])
    assert [mirror["name"] for mirror in status["mirrors"]] == ["milan", "lyon"]


def test_an_order_is_acted_on_at_once_and_a_rehearsal_is_none(home: Controller) -> None:
    """A yes at night must not wait for the next round."""
    obeyed: list[int] = []
    desk = Desk(home.works, home.mind, home.looker, home.publishing, ordered=lambda: obeyed.append(1))

    desk.call("hold", {"what": "web"}, home.said.append, "anna")
    desk.call("status", {}, home.said.append, "anna")
    desk.call("drain", {"mirror": "lyon", "dry_run": True}, home.said.append, "anna")
    assert len(obeyed) == 1
