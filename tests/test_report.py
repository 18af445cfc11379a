"""The status is one value, with what matters most first, built from what is held true."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mirrord.decide import Ask, Move, Protection, Stay, Why
from mirrord.health import ContentClass, Fault, FaultKind, Health, Verdict, Wanted
from mirrord.journal import Asked, Drained, Held, LastSeen, Run
from mirrord.manifest import Snapshot, SnapshotId
from mirrord.report.status import Daemon, Facts, MirrorState, Moment, ServiceState, status
from mirrord.switches import Change, Comparison, Expected, Intent, ZoneState

WALL = datetime(2026, 11, 21, 22, 0, 0, tzinfo=UTC).timestamp()
NOW = Moment(monotonic=5000.0, wall=WALL)
ID = SnapshotId("20261121T210000Z-0a1b2c3d")
CARD = Snapshot(
    site="example",
    serial=12,
    id=ID,
    created=datetime(2026, 11, 21, 21, 0, 0, tzinfo=UTC),
    next_expected=datetime(2026, 11, 23, 21, 0, 0, tzinfo=UTC),
    previous=None,
    manifest_sha256="0a1b2c3d" + "0" * 56,
    files=3,
    size=100,
)
UP = Health(Verdict.UP, since=4400.0, content=ContentClass.CURRENT, snapshot=CARD)
DOWN = Health(Verdict.DOWN, since=4940.0, cause=Fault(FaultKind.UNREACHABLE, "connect timed out"))
MIRROR = MirrorState("lyon", "mirror", "dc-lyon", "snapshot", {"web": UP})
SERVICE = ServiceState(
    name="web",
    serving="lyon",
    since=WALL - 3600,
    protection=Protection(True, "milan could take over"),
    decision=Stay(service="web", rule="well", reason="lyon is up"),
    zone=Comparison(ZoneState.OURS, "as we left it at epoch 3", "lyon"),
    zone_text="as we left it at epoch 3",
    epoch=3,
)
FACTS = Facts(
    site="example",
    url="https://www.example.org/",
    controller="home",
    place="office",
    now=NOW,
    daemon=Daemon(running=True, pid=7, since=WALL - 60),
    mirrors=[MIRROR],
    services=[SERVICE],
    snapshot=CARD,
    wanted=Wanted(ID, 12, 4000.0),
)


def service(**changes: Any) -> dict[str, Any]:
    [found] = status(replace(FACTS, services=[replace(SERVICE, **changes)]))["services"]
    assert isinstance(found, dict)
    return found


def mirror(**changes: Any) -> dict[str, Any]:
    [found] = status(replace(FACTS, mirrors=[replace(MIRROR, **changes)]))["mirrors"]
    assert isinstance(found, dict)
    return found


def test_the_status_has_the_keys_that_the_contract_names() -> None:
    """Scripts and other controllers read them; none of them may vanish or change its meaning."""
    found = status(FACTS)

    assert {"site", "protected", "snapshot", "mirrors", "services"} <= found.keys()
    assert found["protected"].keys() == {"ok", "why"}
    assert {"id", "serial", "created"} <= found["snapshot"].keys()
    named = "name role place verdict class cause since release serial"
    assert set(named.split()) <= found["mirrors"][0].keys()
    named = "name target since held reason decision fence epoch pending ask readers_follow_by"
    assert set(named.split()) <= found["services"][0].keys()


def test_all_is_well_is_told_so() -> None:
    """The whole value, once, when nothing is wrong."""
    found = status(FACTS)

    assert found["protected"] == {"ok": True, "why": "milan could take over"}
    assert found["snapshot"] | {"files": 3} == {
        "id": ID,
        "serial": 12,
        "created": "2026-11-21T21:00:00Z",
        "next_expected": "2026-11-23T21:00:00Z",
        "overdue": False,
        "files": 3,
        "bytes": 100,
        "restores": None,
    }
    assert found["wanted"] == {"id": ID, "serial": 12, "since": "2026-11-21T21:43:20Z"}
    assert found["mirrors"][0] | {"seen": None} == {
        "name": "lyon",
        "role": "mirror",
        "place": "dc-lyon",
        "content": "snapshot",
        "verdict": "up",
        "class": "current",
        "cause": None,
        "cause_kind": None,
        "cause_since": None,
        "since": "2026-11-21T21:50:00Z",
        "release": ID,
        "serial": 12,
        "seen": None,
        "drained": None,
        "suspects": [],
        "degraded": {},
        "warnings": [],
        "published": None,
    }
    assert found["services"][0] == {
        "name": "web",
        "target": "lyon",
        "since": "2026-11-21T21:00:00Z",
        "held": None,
        "reason": "lyon is up",
        "decision": "stay",
        "move_to": None,
        "facts": [],
        "alarm": False,
        "protected": {"ok": True, "why": "milan could take over"},
        "zone": {"state": "ours", "text": "as we left it at epoch 3"},
        "fence": "atomic",
        "epoch": 3,
        "pending": None,
        "ask": None,
        "readers_follow_by": None,
        "lagging": [],
    }


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (replace(FACTS, daemon=Daemon(running=False)), "no daemon is running"),
        (replace(FACTS, services=[]), "no [[service]] is configured"),
        (
            replace(FACTS, services=[replace(SERVICE, protection=Protection(False, "held by anna"))]),
            "held by anna",
        ),
        (
            replace(
                FACTS,
                services=[SERVICE, replace(SERVICE, name="mail", protection=Protection(False, "down"))],
            ),
            "mail: down",
        ),
    ],
    ids=["no daemon", "no service", "one service", "one of two"],
)
def test_whoever_would_not_be_helped_makes_the_site_unprotected(facts: Facts, why: str) -> None:
    """It leads the screen: nothing else matters as much, and it must never be rosier than the worst service."""
    found = status(facts)["protected"]

    assert found["ok"] is False
    assert found["why"].startswith(why)


def test_a_mirrors_verdict_is_the_worst_over_its_services() -> None:
    """One line a mirror: it must show what is wrong, whichever service it is wrong for."""
    found = mirror(healths={"mail": UP, "web": DOWN})

    assert (found["verdict"], found["cause"], found["since"]) == ("down", "connect timed out", "2026-11-21T21:59:00Z")


def test_unknown_stands_between_down_and_up() -> None:
    """Not known is not well."""
    assert mirror(healths={"mail": UP, "web": Health()})["verdict"] == "unknown"
    assert mirror(healths={"mail": DOWN, "web": Health()})["verdict"] == "down"


def test_the_worst_class_of_content_is_shown() -> None:
    """Behind for one service is behind."""
    found = mirror(healths={"mail": UP, "web": replace(UP, content=ContentClass.BEHIND)})

    assert found["class"] == "behind"


def test_before_the_first_look_what_was_last_seen_is_shown() -> None:
    """After a restart during an outage the last known release is all there is."""
    found = mirror(healths={"web": Health()}, last=LastSeen("lyon", 11, "20261120T000000Z-00000000", WALL - 60))

    assert (found["verdict"], found["since"]) == ("unknown", None)
    assert (found["serial"], found["release"]) == (11, "20261120T000000Z-00000000")
    assert found["seen"] == "2026-11-21T21:59:00Z"


def test_whatever_is_not_well_with_a_mirror_is_there() -> None:
    """Suspects, bad addresses, drains, failed publishes, certificates."""
    troubled = replace(
        UP,
        suspects={b"caf\xe9.html": "has other bytes"},
        degraded={"2001:db8::1": Fault(FaultKind.UNREACHABLE, "connection refused")},
        warnings=("its certificate expires in 9 days",),
    )
    failed = Run("lyon", ID, 12, WALL - 60, 50.0, WALL - 50, "failed", {"error": "disk full"})

    found = mirror(healths={"web": troubled}, drained=Drained("lyon", "racks", "anna", WALL), published=failed)

    assert found["suspects"] == ["caf\udce9.html"]
    assert found["degraded"] == {"2001:db8::1": "connection refused"}
    assert found["warnings"] == ["its certificate expires in 9 days"]
    assert found["drained"] == {"reason": "racks", "by": "anna", "since": "2026-11-21T22:00:00Z"}
    assert found["published"] == {
        "result": "failed",
        "id": ID,
        "serial": 12,
        "at": "2026-11-21T21:59:10Z",
        "error": "disk full",
    }


def test_decisions_carry_their_reasons() -> None:
    """Stay, move or ask, each as a word and a sentence."""
    move = Move(
        service="web",
        source="lyon",
        target="milan",
        content=ContentClass.CURRENT,
        why=Why.FAILOVER,
        reason="lyon is down",
        facts=("3 looks failed",),
    )
    ask = Ask(
        service="web", id="3f2a", rule="reverted", question="Write it again?", facts=("epoch 3",), move=None, alarm=True
    )

    found = service(decision=move)
    assert (found["decision"], found["reason"], found["move_to"]) == ("move", "lyon is down", "milan")
    assert found["facts"] == ["3 looks failed"]
    found = service(decision=ask, ask="3f2a")
    assert (found["decision"], found["reason"], found["ask"]) == ("ask", "Write it again?", "3f2a")
    assert found["alarm"] is True
    found = service(decision=None)
    assert (found["decision"], found["reason"]) == (None, None)


def test_a_plan_whose_outcome_is_unknown_is_shown() -> None:
    """Nothing else of the service moves until it is known."""
    nothing = Expected({})
    change = Change("web", "ab", 4, "milan", "home", nothing, nothing, 60, 300)

    found = service(pending=Intent(change, WALL - 10))

    assert found["pending"] == {"plan": "ab", "target": "milan", "since": "2026-11-21T21:59:50Z"}


def test_holds_and_asks_and_warnings_wait_for_a_person() -> None:
    """A hold that is forgotten is an outage later."""
    held = Held("publishing", "rolled back", "anna", WALL - 60, WALL + 3600)
    asked = Asked("3f2a", "web", "Write it again?", {"facts": ["epoch 3"]}, WALL - 5)

    found = status(replace(FACTS, publishing=held, asks=[asked], warnings=["our clock is off"]))

    assert found["publishing"]["held"] == {
        "what": "publishing",
        "reason": "rolled back",
        "by": "anna",
        "since": "2026-11-21T21:59:00Z",
        "until": "2026-11-21T23:00:00Z",
    }
    assert found["asks"] == [
        {
            "id": "3f2a",
            "service": "web",
            "question": "Write it again?",
            "facts": ["epoch 3"],
            "since": "2026-11-21T21:59:55Z",
        }
    ]
    assert found["warnings"] == ["our clock is off"]


def test_a_zone_that_was_never_read_is_unread() -> None:
    """Nothing is known of it, which is not the same as ours."""
    assert service(zone=None, zone_text="no server answered")["zone"] == {
        "state": "unread",
        "text": "no server answered",
    }


def test_a_broken_promise_is_overdue() -> None:
    """Readers were told when the next signature comes."""
    late = replace(CARD, next_expected=datetime(2026, 11, 21, 21, 59, 59, tzinfo=UTC))

    assert status(replace(FACTS, snapshot=late))["snapshot"]["overdue"] is True


def test_a_moment_of_the_monotonic_clock_is_never_in_the_future() -> None:
    """A round that ended while the status was put together must not have begun tomorrow."""
    assert NOW.at(5001.0) == "2026-11-21T22:00:00Z"


def test_whatever_stands_in_it_json_can_write_it() -> None:
    """A file name that is not UTF-8 becomes an escape, not an error."""
    found = status(replace(FACTS, mirrors=[replace(MIRROR, healths={"web": replace(UP, suspects={b"\xff": "x"})})]))

    assert '"\\udcff"' in json.dumps(found)
