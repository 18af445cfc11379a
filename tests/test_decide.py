"""Deciding: stay, move or ask, from what is held true and what the operators ordered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mirrord.decide import (
    RULES,
    Ask,
    Candidate,
    Decision,
    Held,
    Move,
    Policy,
    Stay,
    View,
    Why,
    decide,
    explain,
    if_it_went_down,
    may_switch,
    next_after,
    passes,
    planned_drain,
    protected,
    who_would_take_over,
)
from mirrord.health import ContentClass, Fault, FaultKind, Fresh, Health, Standing, Verdict
from mirrord.rules import DAY, dwell_after, judged_in_this_round, not_held, shows_its_class
from tests.world import HOUR, SERVICE, card

CURRENT, BEHIND, STALE = ContentClass.CURRENT, ContentClass.BEHIND, ContentClass.STALE
UNVERIFIED, SETTLING = ContentClass.UNVERIFIED, ContentClass.SETTLING
NOW = 10_000.0
POLICY = Policy(service=SERVICE, order=("milan", "lyon", "oslo"))
HELD = Held("moving house", "anna")


def up(content: ContentClass = CURRENT, *, well: float | None = 9000.0, judged: bool = True, serial: int = 7) -> Health:
    """A mirror that has been well for so many seconds."""
    return Health(
        verdict=Verdict.UP,
        since=NOW - 9000.0,
        content=content,
        snapshot=card(serial),
        judged=judged,
        well_since=None if well is None else NOW - well,
    )


def down(
    kind: FaultKind = FaultKind.UNREACHABLE, *, judged: bool = True, failing: bool = True, serial: int | None = None
) -> Health:
    """A mirror that is down, for a minute now."""
    return Health(
        verdict=Verdict.DOWN,
        since=NOW - 60.0,
        content={FaultKind.STALE: STALE, FaultKind.CONTENT: ContentClass.BAD}.get(kind),
        cause=Fault(kind, f"has {kind.value} trouble"),
        snapshot=None if serial is None else card(serial),
        judged=judged,
        failing=failing,
    )


def stale(serial: int = 3) -> Health:
    """A mirror whose content is outdated."""
    return down(FaultKind.STALE, serial=serial)


def unknown(kind: FaultKind | None = None) -> Health:
    """A mirror that is not judged."""
    return Health(cause=None if kind is None else Fault(kind, f"has {kind.value} trouble"))


def view(
    milan: Health | None = None,
    lyon: Health | None = None,
    oslo: Health | None = None,
    *,
    clock: str | None = None,
    began: float | None = None,
    **more: Any,
) -> View:
    """Make a view; a mirror of which nothing is said is up and current, and milan serves."""
    said = {"milan": milan, "lyon": lyon, "oslo": oslo, "bonn": None}
    healths = {(name, SERVICE): health or up() for name, health in said.items()}
    seen = {"serving": "milan", "zone": "ours", "meant": "milan", **more}
    return View(now=NOW, standing=Standing(healths=healths, clock=clock, began=began), **seen)


def told(decision: Decision) -> str:
    """Return a decision in a word: where to, or which rule."""
    return f"-> {decision.target}" if isinstance(decision, Move) else decision.rule


# -- one row for each situation


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(view(), "well", id="all well"),
        pytest.param(view(milan=down()), "-> lyon", id="the serving one is down"),
        pytest.param(view(milan=down(), lyon=down()), "-> oslo", id="the next one is down too"),
        pytest.param(view(milan=down(), lyon=down(), oslo=down()), "all-down", id="everything looks down"),
        pytest.param(
            view(milan=down(FaultKind.TLS), lyon=down(FaultKind.CLOCK), oslo=down(FaultKind.TLS)),
            "tls-everywhere",
            id="TLS fails everywhere",
        ),
        pytest.param(
            view(milan=down(FaultKind.TLS), lyon=down(FaultKind.TLS), oslo=down()),
            "all-down",
            id="TLS fails here and there",
        ),
        pytest.param(view(milan=down(), lyon=unknown(), oslo=unknown()), "nowhere", id="nobody else is judged"),
        pytest.param(view(milan=unknown()), "unjudged", id="the serving one is not judged"),
        pytest.param(view(*(unknown(FaultKind.NETWORK) for _ in range(3))), "no-network", id="our own network is gone"),
        pytest.param(view(milan=down(judged=False, failing=False)), "incomplete", id="not judged completely"),
        pytest.param(view(milan=down(failing=False)), "recovering", id="the latest look at it was good"),
        pytest.param(
            view(milan=down(), lyon=up(judged=False)), "-> oslo", id="the next one was not judged in this round"
        ),
        pytest.param(view(milan=down(), drained=frozenset({"lyon"})), "-> oslo", id="the next one is drained"),
        pytest.param(
            view(milan=down(), lyon=down(), drained=frozenset({"oslo"})),
            "all-down",
            id="all that are not drained are down",
        ),
        pytest.param(
            view(milan=down(), lyon=down(), drained=frozenset({"milan", "oslo"})), "all-down", id="drained and down"
        ),
        pytest.param(
            view(milan=down(), drained=frozenset({"milan", "lyon", "oslo"})), "nowhere", id="everything is drained"
        ),
        pytest.param(view(milan=down(), placed=4.0, began=NOW - 5.0), "just-came", id="seen before readers came"),
        pytest.param(view(milan=down(), placed=6.0, began=NOW - 5.0), "-> lyon", id="seen since readers came"),
        pytest.param(view(milan=down(), placed=4.0), "-> lyon", id="nobody knows when it was seen"),
        pytest.param(view(milan=down(), held=HELD), "held", id="held"),
        pytest.param(view(held=HELD), "well", id="held and well"),
        pytest.param(view(milan=down(), moves=(119.0,)), "dwell", id="moved a moment ago"),
        pytest.param(view(milan=down(), moves=(120.0,)), "-> lyon", id="moved long enough ago"),
        pytest.param(view(milan=down(), moves=(239.0, 400.0)), "dwell", id="moved twice today: twice the dwell"),
        pytest.param(view(milan=down(), moves=(240.0, 400.0)), "-> lyon", id="moved twice today, long enough ago"),
        pytest.param(view(milan=down(), moves=(5000.0, 6000.0, 7000.0)), "too-often", id="moved three times today"),
        pytest.param(view(milan=down(), moves=(5000.0, 6000.0, 90_000.0)), "-> lyon", id="twice, and once yesterday"),
        pytest.param(view(milan=down(), clock="our clock is 24 h fast"), "clock", id="our clock is wrong"),
        pytest.param(view(milan=down(), pending=True), "open-plan", id="a plan is open"),
        pytest.param(view(milan=down(), zone="foreign"), "foreign", id="somebody changed the zone"),
        pytest.param(view(milan=down(), zone="foreign", serving=None), "foreign", id="somebody points it elsewhere"),
        pytest.param(view(zone="unread", serving=None), "nobody", id="nobody knows who serves"),
        pytest.param(view(milan=down(), zone="unread"), "-> lyon", id="the zone cannot be read: the fence will tell"),
        pytest.param(view(milan=down(), zone="new"), "-> lyon", id="the zone is new"),
        pytest.param(view(zone="reverted", meant="lyon"), "reverted", id="the zone went back"),
        pytest.param(view(milan=down(), zone="reverted", meant="lyon"), "reverted", id="it went back to a dead mirror"),
        pytest.param(view(drained=frozenset({"milan"})), "drained", id="the serving one is drained"),
        pytest.param(view(milan=down(), drained=frozenset({"milan"})), "-> lyon", id="drained, and down by now"),
        pytest.param(view(milan=down(), serving="lyon", lyon=up()), "well", id="a preferred one is down"),
        pytest.param(view(serving="lyon"), "well", id="a preferred one is well: by hand"),
    ],
)
def test_every_situation_has_its_decision(seen: View, expected: str) -> None:
    """The table is the specification: what is held true, and what follows."""
    assert told(decide(seen, POLICY)) == expected


@pytest.mark.parametrize("rule", ["open-plan", "foreign", "all-down", "tls-everywhere", "held", "clock", "reverted"])
def test_what_needs_a_person_is_an_alarm(rule: str) -> None:
    """A state in which mirrord does not help by itself must not be read in passing."""
    tls = down(FaultKind.TLS)
    found: dict[str, View] = {
        "open-plan": view(pending=True),
        "foreign": view(zone="foreign"),
        "all-down": view(down(), down(), down()),
        "tls-everywhere": view(tls, tls, tls),
        "held": view(down(), held=HELD),
        "clock": view(down(), clock="our clock is 24 h fast"),
        "reverted": view(zone="reverted", meant="lyon"),
    }
    decision = decide(found[rule], POLICY)

    assert not isinstance(decision, Move)
    assert (decision.rule, decision.alarm) == (rule, True)


def test_with_one_mirror_only_there_is_nowhere_to_go() -> None:
    """It is said in these words, whatever is wrong with the mirror."""
    decision = decide(view(milan=down(FaultKind.TLS)), replace(POLICY, order=("milan",)))

    assert isinstance(decision, Stay)
    assert decision.rule == "one-mirror"
    assert decision.reason == "nowhere to go: milan is down: has tls trouble, and web has no other mirror"


def test_a_decision_carries_its_reason_and_the_facts() -> None:
    """A person who is woken at night reads why, and what it rests on, in sentences."""
    seen = view(milan=down(), oslo=up(BEHIND, serial=6), drained=frozenset({"oslo"}))

    decision = decide(seen, POLICY)
    assert isinstance(decision, Move)
    assert decision.reason == "milan is down: has unreachable trouble"
    assert decision.facts == (
        "milan (serves): down for 60 s: has unreachable trouble",
        "lyon: up for 2.5 h, current, snapshot 7",
        "oslo: up for 2.5 h, behind, snapshot 6, drained",
    )


# -- who comes first


@pytest.mark.parametrize(
    ("lyon", "oslo", "order"),
    [
        pytest.param(up(), up(), ["lyon", "oslo"], id="as configured"),
        pytest.param(up(BEHIND), up(), ["oslo", "lyon"], id="current before behind"),
        pytest.param(up(SETTLING), up(), ["oslo", "lyon"], id="current before settling"),
        pytest.param(up(BEHIND), up(SETTLING), ["oslo", "lyon"], id="settling before behind"),
        pytest.param(up(UNVERIFIED), up(BEHIND), ["oslo", "lyon"], id="behind before unverified"),
        pytest.param(stale(), up(UNVERIFIED), ["oslo", "lyon"], id="unverified before stale"),
        pytest.param(stale(3), stale(4), ["oslo", "lyon"], id="among stale ones the newest"),
        pytest.param(up(BEHIND, serial=3), up(BEHIND, serial=4), ["lyon", "oslo"], id="among others the order"),
        pytest.param(stale(), down(FaultKind.CONTENT), ["lyon"], id="bad content never"),
        pytest.param(stale(), down(FaultKind.TLS), ["lyon"], id="bad TLS never"),
        pytest.param(stale(), unknown(), ["lyon"], id="unjudged never"),
    ],
)
def test_the_best_that_is_left_comes_first(lyon: Health, oslo: Health, order: list[str]) -> None:
    """Content first, then the configured order."""
    decision = decide(view(milan=down(), lyon=lyon, oslo=oslo), POLICY)

    assert isinstance(decision, Move)
    assert [decision.target, *(c.mirror for c in decision.fallbacks)] == order


@pytest.mark.parametrize(
    ("serving", "moves"),
    [
        pytest.param(down(), True, id="nothing is served"),
        pytest.param(down(FaultKind.CONTENT), True, id="altered pages are served"),
        pytest.param(stale(2), False, id="outdated pages are served, even older ones"),
        pytest.param(replace(down(), outdated=True), False, id="outdated pages are served again, since a moment ago"),
        pytest.param(unknown(), False, id="nobody knows"),
        pytest.param(up(BEHIND), False, id="all is well"),
    ],
)
def test_pages_of_yesterday_are_better_than_none_and_than_nothing_else(serving: Health, moves: bool) -> None:
    """Outdated content takes readers only from a mirror that is down for another cause than staleness."""
    decision = decide(view(milan=serving, lyon=stale(3), oslo=stale(4)), POLICY)

    assert isinstance(decision, Move) is moves


def test_outdated_content_is_left_for_content_that_is_not() -> None:
    """A stale mirror is down."""
    assert told(decide(view(milan=stale(), lyon=up(BEHIND), oslo=stale()), POLICY)) == "-> lyon"


# -- the way back

AUTO = replace(POLICY, failback="auto")


@pytest.mark.parametrize(
    ("milan", "policy", "expected"),
    [
        pytest.param(up(), AUTO, "-> milan", id="caught up and stayed well"),
        pytest.param(up(), POLICY, "well", id="by hand"),
        pytest.param(up(BEHIND), AUTO, "well", id="not caught up"),
        pytest.param(up(SETTLING), AUTO, "well", id="just published to"),
        pytest.param(up(well=3599.0), AUTO, "well", id="not settled yet"),
        pytest.param(up(well=None), AUTO, "well", id="the latest look was not good"),
        pytest.param(up(judged=False), AUTO, "well", id="not judged in this round"),
        pytest.param(
            up(UNVERIFIED), replace(AUTO, markers=frozenset({"milan"})), "well", id="cannot prove that it caught up"
        ),
        pytest.param(down(), AUTO, "well", id="down"),
        pytest.param(stale(), AUTO, "well", id="outdated"),
    ],
)
def test_readers_return_to_a_mirror_that_caught_up_and_stayed_well(
    milan: Health, policy: Policy, expected: str
) -> None:
    """Returning is a planned swap: nothing hurries, for readers are well where they are."""
    assert told(decide(view(milan=milan, serving="lyon", meant="lyon"), policy)) == expected


@pytest.mark.parametrize(
    ("moves", "dwell"),
    [
        pytest.param((), 120.0, id="never moved"),
        pytest.param((5.0,), 120.0, id="once: as configured"),
        pytest.param((5.0, 10.0), 240.0, id="twice: doubled"),
        pytest.param((5.0, 10.0, 15.0), 480.0, id="thrice: doubled again"),
        pytest.param(tuple(float(n) for n in range(20)), 3600.0, id="up to a limit"),
        pytest.param((5.0, DAY + 10.0), 120.0, id="a quiet day between: halved, then doubled"),
        pytest.param((DAY + 1.0, DAY + 2.0, DAY + 3.0), 240.0, id="a quiet day since: halved"),
        pytest.param((9 * DAY, 9 * DAY + 1.0, 9 * DAY + 2.0), 120.0, id="never below what is configured"),
    ],
)
def test_the_dwell_grows_with_each_move_and_shrinks_with_each_quiet_day(moves: tuple[float, ...], dwell: float) -> None:
    """Flapping damps itself, and old trouble is forgiven."""
    assert dwell_after(POLICY, moves) == dwell


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        pytest.param({"moves": (HOUR,)}, "moved-lately", id="moved an hour ago"),
        pytest.param({"by_hand": True}, "well", id="a person sent readers there: what people do is not undone"),
        pytest.param({"held": HELD}, "held", id="held"),
        pytest.param({"moves": (5.0,)}, "dwell", id="moved a moment ago"),
        pytest.param({"clock": "our clock is 24 h fast"}, "clock", id="clock"),
        pytest.param({"drained": frozenset({"milan"})}, "well", id="drained"),
    ],
)
def test_returning_obeys_what_all_automatic_moves_obey(more: dict[str, Any], rule: str) -> None:
    """It is a move that mirrord makes by itself."""
    assert told(decide(view(serving="lyon", meant="lyon", **more), AUTO)) == rule


def test_a_way_back_has_no_second_choice() -> None:
    """If the preferred mirror does not stand the fresh look, readers stay where they are well."""
    move = decide(view(serving="oslo", meant="oslo"), AUTO)
    assert isinstance(move, Move)
    assert (move.target, move.why, move.fallbacks) == ("milan", Why.FAILBACK, ())

    assert isinstance(next_after(move, {"milan": "is gone again"}), Stay)


def test_a_less_preferred_mirror_that_is_ready_is_not_kept_waiting() -> None:
    """With the first one still behind, the second is returned to."""
    assert told(decide(view(milan=up(BEHIND), serving="oslo", meant="oslo"), AUTO)) == "-> lyon"


@pytest.mark.parametrize(
    ("milan", "why_not"),
    [
        pytest.param(up(), "milan gets its readers back by hand: `mirrord switch web milan`", id="ready"),
        pytest.param(up(BEHIND), "milan has not caught up with the wanted snapshot", id="behind"),
        pytest.param(down(), "milan is down: has unreachable trouble", id="down"),
        pytest.param(unknown(), "milan was not looked at often enough yet", id="new"),
    ],
)
def test_staying_away_from_a_preferred_mirror_says_why(milan: Health, why_not: str) -> None:
    """Whoever wonders why readers are not at home reads it in the status."""
    decision = decide(view(milan=milan, serving="lyon", meant="lyon"), POLICY)

    assert isinstance(decision, Stay)
    assert decision.reason == f"lyon serves and is up; {why_not}"


# -- drained mirrors


def test_a_drained_mirror_that_serves_is_asked_about() -> None:
    """Draining is planned work: readers are moved when a person says so, and to the best."""
    asked = decide(view(drained=frozenset({"milan"}), lyon=up(BEHIND)), POLICY)

    assert isinstance(asked, Ask)
    assert asked.question == "milan is drained and still serves web: move readers to oslo?"
    assert asked.move is not None
    assert (asked.move.target, asked.move.why, asked.move.automatic) == ("oslo", Why.DRAIN, False)


def test_a_yes_moves_even_against_hold_and_dwell() -> None:
    """A hold stops what mirrord does by itself, not what a person orders."""
    seen = view(drained=frozenset({"milan"}), held=HELD, moves=(1.0,))
    asked = decide(seen, POLICY)
    assert isinstance(asked, Ask)

    assert told(decide(replace(seen, acked=frozenset({asked.id})), POLICY)) == "-> lyon"


def test_a_yes_to_one_question_is_none_to_another() -> None:
    """An answer lapses when the facts change: who agreed to lyon did not agree to oslo."""
    asked = decide(view(drained=frozenset({"milan"})), POLICY)
    assert isinstance(asked, Ask)

    changed = view(lyon=down(), drained=frozenset({"milan"}), acked=frozenset({asked.id}))
    again = decide(changed, POLICY)
    assert isinstance(again, Ask)
    assert again.id != asked.id


def test_one_yes_is_enough_however_many_rules_ask() -> None:
    """Two questions about one move would take turns for ever, each answer making the other one lapse."""
    seen = view(serving="lyon", meant="lyon", moves=(HOUR, 2 * HOUR, 3 * HOUR))
    asked = decide(seen, AUTO)
    assert isinstance(asked, Ask)

    assert told(decide(replace(seen, acked=frozenset({asked.id})), AUTO)) == "-> milan"


def test_a_question_keeps_its_id_while_its_facts_stand() -> None:
    """What merely passes, as seconds do, must not make an answer void."""
    asked = decide(view(drained=frozenset({"milan"})), POLICY)
    later = decide(replace(view(lyon=up(well=20.0), drained=frozenset({"milan"})), now=NOW + 500), POLICY)

    assert isinstance(asked, Ask)
    assert isinstance(later, Ask)
    assert asked.id == later.id


def test_a_drained_mirror_serves_on_if_nobody_else_can() -> None:
    """Being drained is no outage."""
    decision = decide(view(lyon=down(), oslo=stale(), drained=frozenset({"milan"})), POLICY)

    assert isinstance(decision, Stay)
    assert (decision.rule, decision.alarm) == ("drained", True)
    assert "lyon is down" in decision.reason
    assert "oslo serves outdated content" in decision.reason


def test_draining_shows_where_readers_will_go() -> None:
    """The verb `drain` asks with this move in hand, hold or not; it may be shown before the drain is written down."""
    move = planned_drain(view(held=HELD), POLICY)
    assert isinstance(move, Move)
    assert (move.target, move.why) == ("lyon", Why.DRAIN)

    assert told(planned_drain(view(pending=True), POLICY)) == "open-plan"
    assert told(planned_drain(view(zone="foreign"), POLICY)) == "foreign"
    assert told(planned_drain(view(zone="reverted"), POLICY)) == "reverted"


# -- a zone that went back


def test_a_zone_that_went_back_is_asked_about_and_put_right_on_a_yes() -> None:
    """A name server restarted from its old zone file: our last plan is sent again only if a person says so."""
    seen = view(zone="reverted", meant="lyon", zone_text="back to what we left at epoch 3")
    asked = decide(seen, POLICY)
    assert isinstance(asked, Ask)
    assert asked.question == (
        "the zone of web went back to an older plan of ours (back to what we left at epoch 3): readers are sent to"
        " milan, where our last plan says lyon; send them to lyon?"
    )

    move = decide(replace(seen, acked=frozenset({asked.id})), POLICY)
    assert isinstance(move, Move)
    assert (move.target, move.why, move.automatic) == ("lyon", Why.REASSERT, False)


@pytest.mark.parametrize(
    ("seen", "target"),
    [
        pytest.param(view(zone="reverted", meant="oslo"), "oslo", id="what was meant, though another comes first"),
        pytest.param(
            view(zone="reverted", meant="oslo", oslo=down()), "lyon", id="the best, if what was meant is down"
        ),
        pytest.param(view(zone="reverted", meant="milan"), "milan", id="the same mirror, an older record"),
        pytest.param(view(milan=down(), zone="reverted", meant="milan"), "lyon", id="the same mirror, down by now"),
        pytest.param(view(lyon=down(), oslo=down(), zone="reverted", meant="lyon"), None, id="nobody else can serve"),
        pytest.param(
            view(zone="reverted", serving="bonn", meant="bonn"), "milan", id="a mirror no longer in the order"
        ),
    ],
)
def test_putting_a_zone_right_sends_readers_to_somebody_fit(seen: View, target: str | None) -> None:
    """What our last plan said counts only while it is good for readers."""
    asked = decide(seen, POLICY)

    assert isinstance(asked, Ask)
    assert (asked.move.target if asked.move else None) == target


# -- the fresh look


def fresh(content: ContentClass | None = CURRENT, mirror: str = "lyon", **more: Any) -> Fresh:
    """A look at a target that was well, or (None) was not."""
    ok = content is not None
    bad = {} if ok else {"192.0.2.2": Fault(FaultKind.UNREACHABLE, "cannot be reached")}
    seen: dict[str, Any] = {"good": ("192.0.2.2",) if ok else (), "bad": bad, "snapshot": card(6), **more}
    return Fresh(mirror=mirror, service=SERVICE, ok=ok, content=content, **seen)


def move(content: ContentClass = CURRENT, *fallbacks: Candidate, why: Why = Why.FAILOVER) -> Move:
    """A move from milan to lyon."""
    return Move(
        service=SERVICE,
        source="milan",
        target="lyon",
        content=content,
        why=why,
        reason="milan is down",
        fallbacks=fallbacks,
    )


OSLO, OSLO_BEHIND = Candidate("oslo", CURRENT), Candidate("oslo", BEHIND)


@pytest.mark.parametrize(
    ("decided", "seen", "why_not"),
    [
        pytest.param(move(), fresh(), None, id="as it was"),
        pytest.param(move(), fresh(None), "the fresh look failed: 192.0.2.2: cannot be reached", id="gone"),
        pytest.param(move(), fresh(mirror="oslo"), "the fresh look was at oslo for web", id="a look at somebody else"),
        pytest.param(move(CURRENT, OSLO), fresh(SETTLING), None, id="settling will do"),
        pytest.param(move(BEHIND), fresh(CURRENT), None, id="better than it was"),
        pytest.param(move(CURRENT), fresh(BEHIND), None, id="worse, but nobody is better"),
        pytest.param(move(CURRENT, OSLO_BEHIND), fresh(BEHIND), None, id="no worse than the next"),
        pytest.param(
            move(CURRENT, OSLO),
            fresh(BEHIND),
            "it was current and is behind in the fresh look",
            id="worse than the next",
        ),
        pytest.param(move(STALE), fresh(STALE), None, id="outdated, as was known"),
        pytest.param(move(BEHIND), fresh(STALE), "it was behind and is stale in the fresh look", id="outdated by now"),
        pytest.param(
            move(CURRENT, why=Why.FAILBACK), fresh(BEHIND), "it is behind in the fresh look", id="no way back to behind"
        ),
        pytest.param(
            move(CURRENT, why=Why.FAILBACK), fresh(SETTLING), "it is settling in the fresh look", id="nor to settling"
        ),
    ],
)
def test_a_move_goes_ahead_only_on_a_fresh_look(decided: Move, seen: Fresh, why_not: str | None) -> None:
    """What was good half a minute ago may be gone with the same power line."""
    assert passes(decided, seen) == why_not


def test_a_target_that_fails_the_fresh_look_gives_way_to_the_next() -> None:
    """Candidates are tried one after the other, and what failed is among the facts."""
    decided = move(CURRENT, Candidate("oslo", BEHIND), Candidate("bonn", STALE))

    second = next_after(decided, {"lyon": "is gone"})
    assert isinstance(second, Move)
    assert (second.target, second.content, second.facts) == ("oslo", BEHIND, ("lyon: is gone",))

    third = next_after(decided, {"lyon": "is gone", "oslo": "is gone too"})
    assert isinstance(third, Move)
    assert (third.target, third.fallbacks) == ("bonn", ())

    last = next_after(third, {"lyon": "is gone", "oslo": "is gone too", "bonn": "as well"})
    assert isinstance(last, Stay)
    assert (last.rule, last.alarm) == ("fresh", True)
    assert last.reason == (
        "milan is down, but nobody passed a fresh look: lyon: is gone; oslo: is gone too; bonn: as well"
    )


# -- switching by hand


def failed(kind: FaultKind) -> Fresh:
    """A look that found this fault."""
    return fresh(None, bad={"192.0.2.2": Fault(kind, f"has {kind.value} trouble")})


NO_NETWORK = fresh(None, bad={}, unjudged={"192.0.2.2": Fault(FaultKind.NETWORK, "no reference answers over IPv4")})
REFUSED = fresh(None, bad={}, unjudged={"192.0.2.2": Fault(FaultKind.REFUSED_US, "refuses us (429)")})


@pytest.mark.parametrize(
    ("seen", "looked", "brakes"),
    [
        pytest.param(view(), fresh(), [], id="nothing in the way"),
        pytest.param(view(), fresh(BEHIND), [], id="a little behind"),
        pytest.param(view(), fresh(UNVERIFIED), [], id="unverified"),
        pytest.param(view(), failed(FaultKind.UNREACHABLE), ["down"], id="unreachable"),
        pytest.param(view(), failed(FaultKind.REDIRECT), ["down"], id="redirects"),
        pytest.param(view(), failed(FaultKind.SLOW), ["down"], id="too slow"),
        pytest.param(view(), REFUSED, ["down"], id="refuses us"),
        pytest.param(view(), failed(FaultKind.TLS), ["tls"], id="TLS"),
        pytest.param(view(), failed(FaultKind.CLOCK), ["tls"], id="expired"),
        pytest.param(view(), failed(FaultKind.CONTENT), ["bad-content"], id="altered"),
        pytest.param(view(), failed(FaultKind.MARKER), ["bad-content"], id="a marker is missing"),
        pytest.param(view(), NO_NETWORK, ["no-network"], id="our own network is gone"),
        pytest.param(view(), fresh(STALE), ["stale"], id="outdated, and readers are well"),
        pytest.param(view(milan=down()), fresh(STALE), ["stale"], id="outdated, and somebody is better"),
        pytest.param(
            view(milan=stale(2), lyon=stale(), oslo=down()), fresh(STALE), ["stale"], id="from outdated to outdated"
        ),
        pytest.param(
            view(milan=down(), lyon=stale(), oslo=down()), fresh(STALE), [], id="outdated is better than none"
        ),
        pytest.param(view(zone="foreign"), fresh(), ["foreign"], id="somebody changed the zone"),
        pytest.param(view(zone="reverted"), fresh(), ["foreign"], id="the zone went back"),
        pytest.param(view(pending=True), fresh(), ["open-plan"], id="a plan is open"),
        pytest.param(view(pending=True), failed(FaultKind.TLS), ["open-plan", "tls"], id="two brakes"),
        pytest.param(view(), fresh(None, bad={}), ["empty-answer"], id="no address"),
        pytest.param(view(held=HELD, moves=(1.0,)), fresh(), [], id="held, and moved a moment ago"),
        pytest.param(view(lyon=down()), fresh(), [], id="judged down, but just found well"),
    ],
)
def test_brakes_of_a_switch_by_hand_have_names(seen: View, looked: Fresh, brakes: list[str]) -> None:
    """An operator is told what would go wrong, by the name that lifts it."""
    assert [brake.name for brake in may_switch(seen, POLICY, "lyon", looked).brakes] == brakes


def test_each_fault_of_a_target_with_several_addresses_is_a_brake_of_its_own() -> None:
    """IPv4 counts where there is some: a dead IPv6 beside it is no brake."""
    faults = {
        "192.0.2.2": Fault(FaultKind.TLS, "its certificate is for another name"),
        "192.0.2.3": Fault(FaultKind.UNREACHABLE, "cannot be reached"),
        "2001:db8::2": Fault(FaultKind.CONTENT, "is not signed"),
    }
    allowed = may_switch(view(), POLICY, "lyon", fresh(None, bad=faults))

    assert {brake.name: brake.text for brake in allowed.brakes} == {
        "tls": "lyon at 192.0.2.2: its certificate is for another name",
        "down": "lyon at 192.0.2.3: cannot be reached",
    }


@pytest.mark.parametrize("name", ["down", "stale", "bad-content", "tls", "foreign", "no-network"])
def test_an_override_lifts_exactly_the_brake_that_it_names(name: str) -> None:
    """With two brakes on, lifting one does not lift the other."""
    looked = {
        "down": failed(FaultKind.UNREACHABLE),
        "stale": fresh(STALE),
        "bad-content": failed(FaultKind.CONTENT),
        "tls": failed(FaultKind.TLS),
        "foreign": fresh(),
        "no-network": NO_NETWORK,
    }[name]
    seen = view(zone="foreign") if name == "foreign" else view()

    lifted = may_switch(seen, POLICY, "lyon", looked, override=name)
    assert lifted.ok
    assert lifted.lifted is not None
    assert lifted.lifted.name == name
    assert not may_switch(replace(seen, pending=True), POLICY, "lyon", looked, override=name).ok
    assert not may_switch(seen, POLICY, "lyon", looked, override="stale" if name != "stale" else "tls").ok


@pytest.mark.parametrize(
    ("seen", "target", "looked", "name"),
    [
        pytest.param(view(pending=True), "lyon", fresh(), "open-plan", id="an open plan"),
        pytest.param(view(), "bonn", fresh(mirror="bonn"), "not-configured", id="a mirror outside the order"),
        pytest.param(view(), "lyon", fresh(None, bad={}), "empty-answer", id="an empty answer"),
    ],
)
def test_some_brakes_are_never_lifted(seen: View, target: str, looked: Fresh, name: str) -> None:
    """No name is ever left without an address, only configured addresses are written, one plan at a time."""
    allowed = may_switch(seen, POLICY, target, looked, override=name, adopt=True)

    assert [(brake.name, brake.liftable) for brake in allowed.brakes] == [(name, False)]
    assert allowed.lifted is None


def test_a_mirror_without_configured_addresses_is_never_switched_to() -> None:
    """Even if nothing was looked at, an empty answer is not given."""
    nowhere = replace(POLICY, addresses={"lyon": ()})

    assert [brake.name for brake in may_switch(view(), nowhere, "lyon", None).brakes] == ["empty-answer"]


@pytest.mark.parametrize("zone", ["foreign", "reverted"])
def test_adopting_takes_the_zone_as_it_stands(zone: Any) -> None:
    """`--adopt` says that the operator knows who changed it; it lifts nothing else."""
    assert may_switch(view(zone=zone, serving=None), POLICY, "lyon", fresh(), adopt=True).ok
    assert not may_switch(view(zone=zone), POLICY, "lyon", failed(FaultKind.TLS), adopt=True).ok


@pytest.mark.parametrize(
    ("seen", "policy", "looked", "said"),
    [
        pytest.param(view(held=HELD), POLICY, fresh(), "held by anna: moving house", id="a hold"),
        pytest.param(view(drained=frozenset({"lyon"})), POLICY, fresh(), "lyon is drained", id="drained"),
        pytest.param(
            view(),
            replace(POLICY, markers=frozenset({"lyon"})),
            fresh(UNVERIFIED),
            "caught up cannot be proven",
            id="markers",
        ),
        pytest.param(view(), POLICY, fresh(BEHIND), "it serves snapshot 6", id="behind"),
        pytest.param(view(lyon=down()), POLICY, fresh(), "is judged down: has unreachable trouble", id="judged down"),
        pytest.param(
            view(),
            POLICY,
            fresh(bad={"192.0.2.3": Fault(FaultKind.TLS, "is expired")}),
            "192.0.2.3 of lyon",
            id="left out",
        ),
        pytest.param(view(clock="our clock is 24 h fast"), POLICY, fresh(), "24 h fast", id="clock"),
    ],
)
def test_a_switch_by_hand_says_what_should_be_known(seen: View, policy: Policy, looked: Fresh, said: str) -> None:
    """None of this forbids it, and all of it is said before the question."""
    allowed = may_switch(seen, policy, "lyon", looked)

    assert allowed.ok
    assert any(said in remark for remark in allowed.remarks)


@pytest.mark.parametrize(
    ("lyon", "brakes"),
    [
        pytest.param(up(), [], id="up"),
        pytest.param(unknown(), [], id="not judged yet"),
        pytest.param(unknown(FaultKind.NETWORK), ["no-network"], id="no network"),
        pytest.param(down(), ["down"], id="down"),
        pytest.param(down(FaultKind.TLS), ["tls"], id="TLS"),
        pytest.param(down(FaultKind.CONTENT), ["bad-content"], id="bad"),
        pytest.param(stale(), ["stale"], id="stale"),
    ],
)
def test_brakes_are_known_beforehand_from_what_is_held_true(lyon: Health, brakes: list[str]) -> None:
    """`explain` shows for every mirror what a switch would meet, without a look at each."""
    assert [brake.name for brake in may_switch(view(lyon=lyon), POLICY, "lyon", None).brakes] == brakes


# -- could mirrord help now?

PLACES = {"milan": "dc-milan", "lyon": "dc-lyon", "oslo": "dc-oslo"}


@pytest.mark.parametrize(
    ("seen", "why_not"),
    [
        pytest.param(view(), None, id="yes"),
        pytest.param(view(moves=(5.0,)), None, id="in a moment, when the dwell is over"),
        pytest.param(view(lyon=stale(), oslo=down()), None, id="with pages of yesterday, better than none"),
        pytest.param(view(moves=(5.0, 600.0, 1200.0)), "moved 3 times within 24 hours", id="it would only ask"),
        pytest.param(view(milan=down()), None, id="it is about to"),
        pytest.param(view(milan=unknown()), "cannot be judged: it was not looked at often enough", id="not judged yet"),
        pytest.param(view(milan=unknown(FaultKind.NETWORK)), "has network trouble", id="no references"),
        pytest.param(view(lyon=down(), oslo=down()), "lyon is down: has unreachable trouble", id="nobody is eligible"),
        pytest.param(view(drained=frozenset({"lyon", "oslo"})), "lyon is drained", id="all others are drained"),
        pytest.param(view(held=HELD), "web is held by anna", id="held"),
        pytest.param(view(clock="our clock is 24 h fast"), "24 h fast", id="clock"),
        pytest.param(view(zone="foreign", zone_text="A is 192.0.2.77"), "A is 192.0.2.77", id="foreign"),
        pytest.param(view(zone="reverted", meant="lyon"), "went back", id="reverted"),
        pytest.param(view(zone="unread", zone_text="no road answers"), "no road answers", id="the zone cannot be read"),
        pytest.param(view(serving=None), "nobody knows which mirror", id="nobody knows who serves"),
        pytest.param(view(pending=True), "a plan of ours", id="a plan is open"),
        pytest.param(view(trouble="the TSIG key cannot be read"), "the TSIG key cannot be read", id="no credentials"),
        pytest.param(view(milan=down(), held=HELD), "held by anna", id="down and held"),
        pytest.param(view(milan=down(), moves=(5.0,)), "not again for", id="down within the dwell"),
    ],
)
def test_protected_is_false_whenever_mirrord_could_not_help(seen: View, why_not: str | None) -> None:
    """The first line of the status screen: if the serving mirror died now, would readers be helped?"""
    found = protected(seen, replace(POLICY, places=PLACES))

    assert found.ok is (why_not is None)
    assert (why_not or "") in found.why


def test_a_drill_goes_on_where_an_outage_would_wait_for_a_yes() -> None:
    """After three moves in a day mirrord asks; that is no flaw of what a drill is to prove."""
    often = view(moves=(600.0, 1200.0, 1800.0))
    found = who_would_take_over(often, POLICY, "milan")

    assert isinstance(if_it_went_down(often, POLICY, "milan"), Ask)
    assert isinstance(found, Move)
    assert (found.target, found.agreed) == ("lyon", True)
    assert isinstance(who_would_take_over(view(held=HELD), POLICY, "milan"), Stay)


def test_mirrors_that_stand_together_do_not_protect_each_other() -> None:
    """What takes the primary takes them too."""
    together = replace(POLICY, places=dict.fromkeys(PLACES, "dc-milan"))
    found = protected(view(), together)
    assert (found.ok, found.why) == (False, "whoever could take the readers of milan stands where it does: dc-milan")

    assert protected(view(), replace(together, places={**PLACES, "lyon": "dc-milan"})).ok


def test_protected_says_who_would_help() -> None:
    """And by what class of content."""
    assert protected(view(lyon=up(BEHIND), oslo=down()), POLICY).why == (
        "if milan went down, lyon (behind) would take its readers"
    )
    assert protected(view(held=HELD), POLICY).why.startswith(
        "readers would stay if milan went down: web is held by anna"
    ), "what was only supposed is not told as if it were so"


# -- why is it so?


def test_explain_says_why_and_what_would_have_to_happen() -> None:
    """Compared whole: these sentences are read by somebody who has little time."""
    seen = view(
        lyon=up(BEHIND, serial=6), oslo=stale(3), held=HELD, moves=(30.0,), zone_text="as we left it at epoch 4"
    )

    assert explain(seen, POLICY) == [
        "milan serves web (as we left it at epoch 4).",
        "milan (serves): up for 2.5 h, current, snapshot 7.",
        "lyon: up for 2.5 h, behind, snapshot 6.",
        "oslo: down for 60 s, stale, snapshot 3: has stale trouble.",
        "Readers stay: milan serves and is up.",
        "No automatic move: web is held by anna: moving house.",
        "No automatic move for 90 s: readers were moved 30 s ago.",
        (
            "If milan is judged down, readers stay all the same: web is held by anna: moving house;"
            " `mirrord unhold web` ends it."
        ),
    ]


@pytest.mark.parametrize(
    ("seen", "policy", "sentence"),
    [
        pytest.param(
            view(lyon=up(BEHIND)),
            POLICY,
            "If milan is judged down, readers move to oslo (current), then lyon (behind),"
            " once a fresh look found it well.",
            id="who is next",
        ),
        pytest.param(
            view(milan=down()),
            POLICY,
            "Readers move: from milan to lyon, for milan is down: has unreachable trouble.",
            id="moving",
        ),
        pytest.param(
            view(milan=up(well=600.0), serving="lyon", meant="lyon"),
            AUTO,
            "Readers do not return to milan yet: it has been well for 10 min of the 60 min that it must settle.",
            id="not settled",
        ),
        pytest.param(
            view(serving="lyon", meant="lyon"),
            POLICY,
            "Readers do not return to milan yet: it gets its readers back by hand: `mirrord switch web milan`.",
            id="by hand",
        ),
        pytest.param(view(serving=None), POLICY, "Nobody knows who serves web.", id="nobody serves"),
        pytest.param(
            view(moves=(HOUR, 2 * HOUR, 3 * HOUR)),
            POLICY,
            "If milan is judged down, a person is asked: readers of web were moved 3 times within 24 hours"
            " by mirrord itself: move them to lyon all the same?",
            id="moved often today",
        ),
        pytest.param(
            view(serving="lyon", meant="lyon", by_hand=True),
            AUTO,
            "Readers do not return to milan yet: it gets its readers back by hand, for a person sent them to lyon:"
            " `mirrord switch web milan`.",
            id="a person chose",
        ),
        pytest.param(
            view(clock="our clock is 24 h fast, by the mirrors'"),
            POLICY,
            "No automatic move: our clock is 24 h fast, by the mirrors'.",
            id="clock",
        ),
        pytest.param(
            view(trouble="the TSIG key cannot be read"), POLICY, "No move: the TSIG key cannot be read.", id="trouble"
        ),
    ],
)
def test_explain_names_what_stands_in_the_way(seen: View, policy: Policy, sentence: str) -> None:
    """Each in a sentence of its own."""
    assert sentence in explain(seen, policy)


def test_explain_asks_with_the_words_that_answer() -> None:
    """The id stands in the command that answers."""
    seen = view(drained=frozenset({"milan"}))
    asked = decide(seen, POLICY)

    assert isinstance(asked, Ask)
    assert f"A person is asked: {asked.question} (`mirrord ack {asked.id}`)." in explain(seen, POLICY)


# -- the table of rules


def test_a_rule_can_be_taken_out_and_only_it() -> None:
    """So that a test can show what each is for."""
    less = RULES.without(not_held)

    assert not_held not in less.guards
    assert len(less.guards) == len(RULES.guards) - 1
    assert (less.standstill, less.fitness, less.failback, less.rank) == (
        RULES.standstill,
        RULES.fitness,
        RULES.failback,
        RULES.rank,
    )
    assert told(decide(view(milan=down(), held=HELD), POLICY, less)) == "-> lyon"


@pytest.mark.parametrize(
    ("rule", "seen", "instead"),
    [
        pytest.param(judged_in_this_round, view(milan=down(), lyon=up(judged=False)), "-> oslo", id="one round"),
        pytest.param(
            shows_its_class, view(milan=down(), lyon=replace(up(), content=None), oslo=down()), "nowhere", id="class"
        ),
    ],
)
def test_rules_about_what_is_known_matter_too(rule: Any, seen: View, instead: str) -> None:
    """The fresh look stands behind them, but nobody is looked at who cannot be thought well of."""
    assert told(decide(seen, POLICY)) == instead
    assert told(decide(seen, POLICY, RULES.without(rule))) == "-> lyon"


def test_a_rule_that_is_not_in_the_table_cannot_be_taken_out() -> None:
    """A test that takes out nothing would prove nothing."""
    with pytest.raises(ValueError, match="no such rule"):
        RULES.without(decide)
