"""Readers are moved through a real name server, with everything that can come between the decision and the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mirrord.control import moving, showing
from mirrord.control.mind import Mind
from mirrord.control.moving import Attended, Moved
from mirrord.decide import Permission
from mirrord.manifest import unstamp
from mirrord.switches import Change, Following, Kind, open_switch, plan_change
from mirrord.switches.transaction import Patience, new_nonce, run
from tests.conftest import Lab
from tests.controlling import NAME, Controller, controller
from tests.lab.bind import Bind
from tests.lab.nameserver import zone_text
from tests.switching import Road, human, settings

MILAN, LYON = "127.0.0.11", "127.0.0.12"


@pytest.fixture
def bind(lab: Lab) -> Bind:
    """The zone's primary, with readers at milan."""
    return lab.bind(text=zone_text("example.org", [f"www 60 A {MILAN}"]))


@pytest.fixture
def road(bind: Bind) -> Iterator[Road]:
    """The only road to it."""
    with Road(bind) as road:
        yield road


@pytest.fixture
def home(tmp_path: Path, bind: Bind, road: Road) -> Iterator[Controller]:
    """A controller that has taken the name over, at milan."""
    with controller(tmp_path) as home:
        told = settings(road, key=bind.key, names=[NAME], authoritative=[bind])
        home.works.switches["web"] = open_switch(told)
        attended = attend(home)
        assert attended.resolved is not None
        assert attended.resolved.trouble is None
        yield home


def attend(home: Controller) -> Attended:
    """Look at the zone as the daemon does with each round."""
    return moving.attend(home.works, "web", None, home.mind.policy("web"), settle=True, adopt=True)


def lose(home: Controller, road: Road, *, who: str = "") -> Change:
    """Send a plan to lyon that never arrives: decided by mirrord, unless somebody is named who wanted it."""
    by = home.works.settings.controller.name
    expected = home.works.journal.expected("web")
    assert expected is not None
    change = plan_change("web", expected, "lyon", home.mind.policy("web").addresses, nonce=new_nonce(), by=by, ttl=60,
                         was_ttl=60, automatic=not who, who=who, why="milan is down")  # fmt: skip
    road.on_update = lambda _: None
    lost = run(home.works.switch("web"), home.works.journal, change, patience=Patience(commit=0.1))
    assert lost.kind is Kind.UNKNOWN
    road.on_update = None
    return change


def fence_of(change: Change) -> str:
    """Return the text of a plan's TXT."""
    ((text,),) = change.to.names[NAME].fence
    return text


def outcome(attended: Attended) -> Moved:
    """Return what became of the open plan."""
    assert attended.resolved is not None
    return attended.resolved


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(lambda home: home.verb("hold", what="web", reason="we look first"), id="the service is held"),
        pytest.param(lambda home: home.verb("drain", mirror="lyon", reason="loud fan"), id="its target is drained"),
    ],
)
def test_a_lost_plan_that_an_order_speaks_against_is_given_up(
    home: Controller, bind: Bind, road: Road, order: Callable[[Controller], object]
) -> None:
    """Sending it again would move readers against an order that came meanwhile."""
    lose(home, road)
    order(home)

    found = outcome(attend(home))
    assert found.result is not None
    assert found.result.kind is Kind.UNCHANGED
    assert "was given up" in found.text
    assert bind.query(NAME, "A") == {MILAN}
    assert home.works.journal.intent("web") is None


def test_a_lost_plan_of_a_person_is_sent_again_during_a_hold(home: Controller, bind: Bind, road: Road) -> None:
    """A hold stops what mirrord does by itself, and nothing else."""
    change = lose(home, road, who="anna")
    home.verb("hold", what="web", reason="nobody but me")

    found = outcome(attend(home))
    assert found.result is not None
    assert (found.result.kind, found.result.change) == (Kind.DONE, change)
    assert bind.query(NAME, "A") == {LYON}


def test_readers_follow_by_what_they_were_told_before_mirrord_came(tmp_path: Path, lab: Lab) -> None:
    """The TTL was a day, mirrord made it a minute, and the host burns within the hour: many keep the old answer."""
    day = lab.bind(text=zone_text("example.org", [f"www 86400 A {MILAN}"]))
    with controller(tmp_path) as home:
        home.works.switches["web"] = open_switch(settings(day, key=day.key, names=[NAME]))
        attend(home)
        reading = attend(home).reading
        home.mind.read("web", reading)
        change = moving.plan(home.works, "web", "lyon", reading, home.mind.policy("web"), None, adopt=False, who="anna")
        assert change is not None
        moved = moving.commit(home.works, change)
        shown = home.verb("status")["services"][0]["readers_follow_by"]

    assert reading.zone is not None
    assert moved.result is not None
    assert (reading.zone.ttl, moved.result.kind) == (60, Kind.DONE)
    assert (moved.result.follow_by or 0) - time.time() == pytest.approx(86400, abs=60)
    assert unstamp(shown).timestamp() == pytest.approx(moved.result.follow_by, abs=60)


def test_a_result_says_what_every_server_has_and_how_sure_it_is(home: Controller, bind: Bind) -> None:
    """Evidence is for programs too: the serial at each server, and whether anybody could have come between."""
    reading = attend(home).reading
    policy = home.mind.policy("web")
    change = moving.plan(home.works, "web", "lyon", reading, policy, None, adopt=False, who="anna")
    assert change is not None
    moved = moving.commit(home.works, change)
    view = home.mind.view("web", now=0.0)

    shown = showing.moved("web", "lyon", view, moved, Permission((), None, ()), fence="best-effort")
    assert shown["fence"] == "best-effort"
    (server,) = shown["servers"]
    assert (server["state"], server["serial"]) == ("new", bind.serial())


def test_a_server_that_still_gives_the_old_data_is_watched_after_a_restart(
    home: Controller, bind: Bind, road: Road, lab: Lab
) -> None:
    """The daemon was updated a minute after the move: half of the readers are at the old address all the same."""
    behind = lab.bind(text=zone_text("example.org", [f"www 60 A {MILAN}"]))
    told = settings(road, key=bind.key, names=[NAME], authoritative=[bind, behind])
    home.works.switches["web"] = open_switch(told)
    change = moving.plan(
        home.works, "web", "lyon", attend(home).reading, home.mind.policy("web"), None, adopt=False, who="anna"
    )
    assert change is not None
    run(home.works.switch("web"), home.works.journal, change, patience=Patience(follow=0.1))

    again = Mind(home.works.settings, home.works.journal, now=0.0, wall=time.time())
    following = again.affairs["web"].following
    attended = moving.attend(home.works, "web", following, again.policy("web"), settle=True, adopt=True)
    again.follows("web", attended.followers or {})
    lagging = [where for where, found in again.affairs["web"].followers.items() if found.following is Following.OLD]
    assert lagging == [f"127.0.0.1:{behind.port}"]
    human(behind, ("replace", "www", 60, "A", LYON), ("replace", "_mirrord.www", 60, "TXT", f'"{fence_of(change)}"'))
    attended = moving.attend(home.works, "web", following, again.policy("web"), settle=True, adopt=True)
    again.follows("web", attended.followers or {})
    assert again.affairs["web"].following is None
