"""Services whose readers are shared by all good mirrors: who is in the answer, who leaves it, and who comes back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrord.decide import (
    Ask,
    Decision,
    Move,
    Policy,
    Stay,
    View,
    Why,
    decide,
    explain,
    may_switch,
    planned_drain,
    protected,
)
from mirrord.health import ContentClass, Health, Verdict
from mirrord.rules import DAY, RULES, dwelt_long_enough, judged_completely, members, not_held
from mirrord.sharing import after_looks, joined_by, speaks_against, to_look_at
from tests.test_decide import BEHIND, HELD, STALE, down, fresh, stale, unknown, up, view
from tests.test_properties import policies, steady, views
from tests.world import SERVICE

ALL = Policy(service=SERVICE, order=("milan", "lyon", "oslo"), serve="all")
AUTO = replace(ALL, failback="auto", ack_after=0.0)
EVERYBODY = "milan+lyon+oslo"


def shared(*args: Health | None, serving: str = EVERYBODY, **more: Any) -> View:
    """Make a view in which several mirrors serve."""
    return view(*args, **{"serving": serving, "meant": serving, **more})


def told(decision: Decision) -> str:
    """Return a decision in a word: who would serve, or which rule."""
    return decision.target if isinstance(decision, Move) else decision.rule


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(shared(), "well", id="all well"),
        pytest.param(shared(milan=down()), "lyon+oslo", id="one is down"),
        pytest.param(shared(milan=down(), lyon=down()), "oslo", id="two are down"),
        pytest.param(shared(milan=down(), lyon=down(), oslo=down()), "all-down", id="everything looks down"),
        pytest.param(shared(milan=unknown()), "well", id="one is not judged: unknown is not down"),
        pytest.param(shared(unknown(), unknown(), unknown()), "unjudged", id="none is judged"),
        pytest.param(shared(milan=down(), lyon=unknown()), "lyon+oslo", id="who is not judged stays"),
        pytest.param(shared(milan=down(), lyon=unknown(), oslo=unknown()), "nowhere", id="nobody who stays is fit"),
        pytest.param(shared(milan=down(failing=False)), "recovering", id="the latest look at it was good"),
        pytest.param(
            shared(milan=down(), lyon=down(failing=False)), "lyon+oslo", id="who recovers keeps nobody in who is gone"
        ),
        pytest.param(shared(milan=down(judged=False, failing=False)), "incomplete", id="not judged completely"),
        pytest.param(shared(milan=stale()), "lyon+oslo", id="one is outdated"),
        pytest.param(shared(milan=stale(3), lyon=stale(4), oslo=stale(2)), "all-down", id="all are outdated"),
        pytest.param(shared(milan=down(), serving="milan"), "lyon+oslo", id="the only one is down: to all others"),
        pytest.param(
            shared(milan=down(), lyon=up(BEHIND), serving="milan"), "oslo", id="the only one is down: the best class"
        ),
        pytest.param(
            shared(milan=down(), lyon=stale(3), oslo=stale(4), serving="milan"),
            "oslo",
            id="only outdated ones",
        ),
        pytest.param(shared(milan=down(), held=HELD), "held", id="held"),
        pytest.param(shared(milan=down(), moves=(5.0,)), "dwell", id="moved a moment ago"),
        pytest.param(shared(milan=down(), moves=(5000.0, 6000.0, 7000.0)), "too-often", id="moved three times today"),
        pytest.param(shared(milan=down(), pending=True), "open-plan", id="a plan is open"),
        pytest.param(shared(milan=down(), zone="foreign"), "foreign", id="somebody changed the zone"),
        pytest.param(shared(drained=frozenset({"milan"})), "drained", id="one is drained"),
        pytest.param(shared(milan=down(), drained=frozenset({"lyon"})), "oslo", id="one is down, another drained"),
        pytest.param(shared(serving="lyon+oslo"), "well", id="one is well again: by hand"),
        pytest.param(shared(zone="reverted", serving="milan", meant="lyon+oslo"), "reverted", id="the zone went back"),
    ],
)
def test_every_situation_has_its_decision(seen: View, expected: str) -> None:
    """Health only prunes; never below one, never empty."""
    assert told(decide(seen, ALL)) == expected


@pytest.mark.parametrize(
    ("seen", "policy", "expected"),
    [
        pytest.param(shared(serving="lyon+oslo"), AUTO, EVERYBODY, id="caught up and settled"),
        pytest.param(shared(milan=up(BEHIND), serving="lyon+oslo"), AUTO, "well", id="not caught up"),
        pytest.param(shared(milan=up(well=60.0), serving="lyon+oslo"), AUTO, "well", id="not settled"),
        pytest.param(shared(serving="lyon+oslo"), replace(AUTO, answers=2), "well", id="the answer is full"),
        pytest.param(shared(serving="oslo"), replace(AUTO, answers=2), "milan+oslo", id="one has room: the preferred"),
        pytest.param(
            shared(serving="lyon+oslo", drained=frozenset({"milan"})), AUTO, "well", id="drained ones stay out"
        ),
        pytest.param(
            shared(serving="lyon+oslo", moves=(3600.0,)),
            replace(AUTO, ack_after=DAY),
            "moved-lately",
            id="moved lately",
        ),
    ],
)
def test_who_is_well_again_comes_back_as_elsewhere(seen: View, policy: Policy, expected: str) -> None:
    """By hand, or after it caught up and stayed well; up to so many answers."""
    assert told(decide(seen, policy)) == expected


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(shared(milan=down(), lyon=unknown(), serving="milan+lyon"), "lyon+oslo", id="one has room"),
        pytest.param(shared(milan=down(), lyon=down(), serving="milan+lyon"), "oslo+bonn", id="two have room"),
        pytest.param(
            shared(milan=down(), lyon=unknown(), serving="milan+lyon", drained=frozenset({"oslo"})),
            "lyon+bonn",
            id="who is drained takes none",
        ),
    ],
)
def test_who_steps_in_beside_those_that_stay_finds_room_for_so_many_only(seen: View, expected: str) -> None:
    """Nobody who stays is fit, so others join; with those that stay they are no more than `answers`."""
    assert told(decide(seen, replace(ALL, order=(*ALL.order, "bonn"), answers=2))) == expected


def test_draining_one_takes_nobody_else_out_who_is_merely_not_judged() -> None:
    """Unknown is not down: somebody fit joins, and who serves goes on; one that is down goes along."""
    drained = frozenset({"milan"})
    unjudged = planned_drain(shared(lyon=unknown(), serving="milan+lyon", drained=drained), ALL)
    gone = planned_drain(shared(lyon=down(), serving="milan+lyon", drained=drained), ALL)

    assert isinstance(unjudged, Move)
    assert isinstance(gone, Move)
    assert (unjudged.target, unjudged.leaving) == ("lyon+oslo", ("milan",))
    assert (gone.target, gone.leaving) == ("oslo", ("milan", "lyon"))


def test_draining_one_asks_and_a_yes_takes_it_out() -> None:
    """Planned work on one host of three: the others go on."""
    seen = shared(drained=frozenset({"lyon"}))
    asked = decide(seen, ALL)
    assert isinstance(asked, Ask)

    moved = decide(replace(seen, acked=frozenset({asked.id})), ALL)
    assert isinstance(moved, Move)
    assert (moved.target, moved.leaving, moved.joining, moved.automatic) == ("milan+oslo", ("lyon",), (), False)


def test_the_last_one_is_never_taken_out() -> None:
    """An empty answer helps nobody."""
    seen = shared(milan=down(), lyon=down(), serving="oslo", drained=frozenset({"oslo"}))

    decision = decide(seen, ALL)
    assert isinstance(decision, Stay)
    assert decision.alarm


def test_who_joins_must_pass_a_fresh_look_and_who_stays_is_not_driven_out_by_one() -> None:
    """Readers are sent only to what a fresh look found well; a blip of one look prunes nobody."""
    back = decide(shared(serving="oslo"), AUTO)
    pruned = decide(shared(milan=down()), ALL)
    assert isinstance(back, Move)
    assert isinstance(pruned, Move)
    assert (to_look_at(back), to_look_at(pruned)) == (("milan", "lyon"), ("lyon", "oslo"))

    less = after_looks(back, AUTO, {"milan": "is gone"})
    none = after_looks(back, AUTO, {"milan": "is gone", "lyon": "is gone"})
    blip = after_looks(pruned, ALL, {"lyon": "was slow"})
    assert isinstance(less, Move)
    assert (less.target, less.joining) == ("lyon+oslo", ("lyon",))
    assert isinstance(none, Stay)
    assert blip == pruned
    assert isinstance(after_looks(pruned, ALL, {"lyon": "was slow", "oslo": "was slow"}), Stay)


@pytest.mark.parametrize(
    ("changed", "speaks"),
    [
        pytest.param({}, None, id="as it was"),
        pytest.param({"content": BEHIND}, "it is behind in the fresh look", id="no way back before it caught up"),
        pytest.param({"content": STALE}, "it is stale in the fresh look", id="nor with outdated content"),
        pytest.param({"ok": False, "content": None}, "the fresh look failed", id="gone"),
        pytest.param({"mirror": "oslo", "content": BEHIND}, None, id="who stays is held against nothing"),
    ],
)
def test_who_joins_must_be_in_the_fresh_look_what_it_was_held_to_be(
    changed: dict[str, Any], speaks: str | None
) -> None:
    """Never a worse class beside a better one, also where it became so a moment ago."""
    back = decide(shared(serving="lyon+oslo"), AUTO)
    assert isinstance(back, Move)
    seen = replace(fresh(mirror="milan"), **changed)

    assert (speaks_against(back, seen) or "")[: len(speaks or "")] == (speaks or "")
    assert (speaks_against(back, seen) is None) is (speaks is None)


def test_outdated_content_joins_only_if_it_was_known_to_be() -> None:
    """For want of anything better, and decided so; not because it became so between decision and look."""
    over = decide(shared(milan=down(), lyon=up(BEHIND), oslo=down(), serving="milan"), ALL)
    best = decide(shared(milan=down(), serving="milan"), ALL)
    known = decide(shared(milan=down(), lyon=stale(), oslo=down(), serving="milan"), ALL)
    assert isinstance(over, Move)
    assert isinstance(best, Move)
    assert isinstance(known, Move)

    assert speaks_against(over, fresh(BEHIND)) is None
    assert speaks_against(over, fresh(STALE)) == "it was behind and is stale in the fresh look"
    assert speaks_against(best, fresh(BEHIND)) == "it was current and is behind in the fresh look"
    assert speaks_against(known, fresh(STALE)) is None


def test_by_hand_a_mirror_joins_the_others() -> None:
    """`switch web milan` brings milan in; whoever is down or drained is left behind."""
    assert joined_by(shared(serving="lyon+oslo"), ALL, "milan") == EVERYBODY
    assert joined_by(shared(lyon=down(), serving="lyon+oslo"), ALL, "milan") == "milan+oslo"
    assert joined_by(shared(serving="oslo", drained=frozenset({"oslo"})), ALL, "milan") == "milan"
    assert joined_by(view(), replace(ALL, serve="first"), "lyon") == "lyon"
    assert joined_by(shared(serving="milan+lyon"), replace(ALL, answers=2), "oslo") == "milan+oslo"
    assert joined_by(shared(serving="milan+lyon"), replace(ALL, answers=2), "lyon") == "milan+lyon"
    assert joined_by(shared(serving="milan"), replace(ALL, answers=1), "lyon") == "lyon"


def test_protection_needs_somebody_who_stays() -> None:
    """Whoever shares readers with a mirror of the same place does not protect them."""
    apart = replace(ALL, places={"milan": "dc-1", "lyon": "dc-1", "oslo": "dc-2"})

    assert (
        protected(shared(), apart).why
        == "if one of milan and lyon and oslo went down, the others would take its readers"
    )
    assert not protected(shared(serving="milan+lyon", oslo=down()), apart).ok
    assert not protected(shared(unknown(), unknown(), unknown()), ALL).ok


def test_the_reasons_name_everybody() -> None:
    """What `explain` says of shared readers are whole sentences about each mirror."""
    said = explain(shared(serving="lyon+oslo"), ALL)

    assert said[0] == "lyon and oslo share the readers of web."
    assert any(text.startswith("If lyon is judged down, readers move to oslo") for text in said)
    assert any(text.startswith("Readers do not return to milan yet: it gets its readers back by hand") for text in said)


def test_who_serves_and_is_not_judged_is_named_in_a_sentence() -> None:
    """Just after a start, say, where one shares readers with nobody for the time being."""
    nobody = [unknown() for _ in range(3)]

    alone, two = (decide(shared(*nobody, serving=serving), ALL) for serving in ("lyon", "lyon+oslo"))
    assert isinstance(alone, Stay)
    assert isinstance(two, Stay)
    assert alone.reason == "lyon serves and is not judged now"
    assert two.reason == "lyon and oslo serve and none of them is judged now"


combinations = st.lists(st.sampled_from(["milan", "lyon", "oslo", "bonn"]), min_size=1, max_size=4, unique=True)


@settings(steady, max_examples=250)
@given(views(), policies, combinations, st.integers(1, 4))
def test_no_decision_breaks_a_rule_whatever_is_held_true(
    seen: View, policy: Policy, serving: list[str], answers: int
) -> None:
    """Never an empty answer, never one that is down beside one that is not, never against a hold or the dwell."""
    policy = replace(policy, serve="all", answers=answers)
    here = [mirror for mirror in policy.order if mirror in serving] or list(policy.order[:1])
    seen = replace(seen, serving="+".join(here), meant="+".join(here))

    decision = decide(seen, policy)
    assert explain(seen, policy)
    if not isinstance(decision, Move):
        return
    after = members(decision.target)
    health = {mirror: seen.standing.health(mirror, SERVICE) for mirror in {*here, *after}}
    assert after
    assert len(set(after)) == len(after)
    assert set(after) <= set(policy.order)
    assert decision.leaving == tuple(mirror for mirror in here if mirror not in after)
    assert seen.held is None
    assert seen.standing.clock is None
    assert sum(age < DAY for age in seen.moves) < policy.moves_a_day
    assert any(health[m].verdict is Verdict.UP or health[m].content is STALE for m in after)
    for mirror in decision.leaving:
        assert health[mirror].failing or mirror in seen.drained
    for mirror in decision.joining:
        assert mirror not in seen.drained
        assert health[mirror].judged
        assert health[mirror].verdict is Verdict.UP or len(decision.joining) == 1
    if decision.why is Why.FAILBACK:
        assert len(after) <= answers
        assert not decision.leaving
        assert all(health[m].content is ContentClass.CURRENT for m in decision.joining if m not in policy.markers)


@pytest.mark.parametrize("rule", [not_held, dwelt_long_enough, judged_completely])
def test_each_promise_rests_on_its_rule(rule: Any) -> None:
    """Taken out of the table, the rule is missed: readers are pruned where they should not be."""
    seen = {
        not_held: shared(milan=down(), held=HELD),
        dwelt_long_enough: shared(milan=down(), moves=(5.0,)),
        judged_completely: shared(milan=down(failing=False)),
    }[rule]

    assert isinstance(decide(seen, ALL), Stay)
    assert isinstance(decide(seen, ALL, RULES.without(rule)), Move)


def test_a_switch_by_hand_to_a_dead_mirror_is_refused_here_too() -> None:
    """Sharing lifts no brake."""
    assert [b.name for b in may_switch(shared(milan=down(), serving="lyon"), ALL, "milan", None).brakes] == ["down"]
