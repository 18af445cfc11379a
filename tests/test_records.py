"""A decision that was written down is made again: the same, by the same rules, from the same values."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings

from mirrord.decide import Policy, Stay, View, decide, explain
from mirrord.health import FaultKind
from mirrord.records import read_back, signature, told, write_down
from tests.test_decide import POLICY, down, up, view
from tests.test_properties import policies, steady, views
from tests.world import World


@settings(steady, max_examples=200)
@given(views(), policies)
def test_whatever_a_decision_rested_on_gives_it_again(seen: View, policy: Policy) -> None:
    """Through JSON and back: decision and reasons are the same, word for word."""
    decision = decide(seen, policy)
    document = json.loads(json.dumps(write_down(seen, policy, decision, 1_700_000_000.0)))

    again, same_policy = read_back(document)
    assert same_policy == policy
    assert decide(again, same_policy) == decision
    assert explain(again, same_policy) == explain(seen, policy)
    assert told(decide(again, same_policy)) == document["decided"]


def test_a_decision_of_a_real_outage_is_written_down_with_the_looks_behind_it() -> None:
    """Who wonders next week sees what mirrord saw: where it looked, when, and what was wrong there."""
    world = World()
    world.run(minutes=10)
    world.lose("milan")
    world.run(minutes=1)
    world.run(rounds=1)
    seen = world.view()
    document = write_down(seen, world.policy, decide(seen, world.policy), world.wall)

    milan = document["view"]["mirrors"]["milan"]
    assert milan["verdict"] == "down"
    assert [look["fault"][0] for look in milan["looks"]] == ["unreachable"] * 3
    assert len(json.dumps(document)) < 20_000


def test_fifty_mirrors_fit_into_the_journal() -> None:
    """What is too long for an event is left out of it."""
    world = World(names=tuple(f"mirror-{number}" for number in range(50)))
    world.run(minutes=5)
    world.lose(*world.names[:20])
    world.run(minutes=5)
    seen = world.view()

    document = write_down(seen, world.policy, decide(seen, world.policy), world.wall)
    assert len(json.dumps(document)) < 65_536


def test_a_decision_about_a_defaced_site_fits_into_the_journal() -> None:
    """Every page of it is suspected in the end; just that decision will be asked about afterwards."""
    world = World(pages=1_500, sample=500)
    world.alter("milan", *world.files)
    world.run(minutes=5)
    seen = world.view()
    decision = decide(seen, world.policy)

    document = write_down(seen, world.policy, decision, world.wall)
    assert len(seen.standing.suspects("milan", world.policy.service)) > 1_000
    assert len(json.dumps(document)) < 20_000
    assert decide(*read_back(json.loads(json.dumps(document)))) == decision


def test_only_what_changed_is_worth_writing_down_again() -> None:
    """Time passes each second; verdicts, orders and the zone do not change each second."""
    before, later = view(), view(milan=up(well=9030.0))
    stays = Stay(service="web", rule="well", reason="milan serves and is up")

    def of(seen: View) -> str:
        return signature(seen, POLICY, stays)

    assert of(before) == of(later)
    assert len({of(before), of(view(lyon=down())), of(view(lyon=down(FaultKind.TLS))), of(view(pending=True))}) == 4


@pytest.mark.parametrize("document", [{}, {"version": 2}, {"version": 1, "service": "web", "view": {}}])
def test_what_is_no_such_document_is_no_decision(document: dict[str, object]) -> None:
    """A journal of another version, or one that somebody edited, is not guessed at."""
    with pytest.raises((KeyError, TypeError, ValueError)):
        read_back(document)
