"""Outages, played in a simulated world; each is a story that somebody has lived through or will."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from mirrord.decide import Ask, Policy, Why
from mirrord.health import ContentClass, FaultKind, Thresholds, Verdict
from tests.world import DAY, HOUR, MINUTE, SERVICE, Mirror, World

AUTO = Policy(service=SERVICE, order=(), failback="auto", ack_after=0.0)


@pytest.fixture
def world() -> World:
    """Three mirrors in three places that have been well for ten minutes; milan serves."""
    calm = World()
    calm.run(minutes=10)
    assert calm.moves == []
    return calm


# -- the story


@pytest.mark.parametrize(
    "thresholds",
    [
        pytest.param(Thresholds(), id="as configured by default"),
        pytest.param(Thresholds(fall=2, every=5.0, hurried=5.0, timeout=2.0), id="quick, without hurry"),
        pytest.param(Thresholds(fall=6, every=60.0, hurried=20.0, timeout=20.0), id="slow"),
    ],
)
def test_readers_are_moved_within_detection_time(thresholds: Thresholds) -> None:
    """When the primary's datacentre goes, readers follow within the time that being sure takes, and one look."""
    world = World(thresholds=thresholds)
    world.run(minutes=10)
    world.run(seconds=1)
    gone = world.now
    world.lose("milan")

    world.run(minutes=15)
    assert world.moves == ["lyon"]
    sure = thresholds.every + (thresholds.fall - 1) * thresholds.hurried + thresholds.timeout
    assert world.history[0].at - gone <= sure + 1.0


def test_what_is_suspicious_is_looked_at_more_often_until_it_is_known(world: World) -> None:
    """One bad look hurries the next ones; once it is settled, mirrors are left in peace again."""
    seen = [world.standing.rhythm(world.thresholds)]
    for happens in (world.lose, world.heal):
        happens("oslo")
        for rounds in (1, 20):
            world.run(rounds=rounds)
            seen.append(world.standing.rhythm(world.thresholds))

    assert seen == [30.0, 15.0, 30.0, 15.0, 30.0]


def test_nothing_returns_to_the_primary_until_it_caught_up_and_the_operator_switched() -> None:
    """
    The story that all this is for: the datacentre is back after a month, with the pages of a month ago.
    Readers stay where the news is, however well the primary answers, until a person takes them home.
    """
    world = World(thresholds=Thresholds(every=5 * MINUTE))
    world.run(hours=1)
    world.lose("milan")
    for _ in range(30):
        world.run(hours=24)
        world.publish("lyon", "oslo")
    world.heal("milan", serial=1)

    world.run(hours=2)
    assert world.moves == ["lyon"]
    assert world.health("milan").content is ContentClass.STALE
    refused = world.switch("milan")
    assert [brake.name for brake in refused.brakes] == ["stale"]

    world.publish()
    world.run(hours=48)
    assert world.moves == ["lyon"]
    assert world.health("milan").content is ContentClass.CURRENT
    assert "gets its readers back by hand: `mirrord switch web milan`" in world.reason

    assert world.switch("milan").ok
    world.run(hours=1)
    assert world.moves == ["lyon", "milan"]


def test_readers_return_by_themselves_where_that_is_wanted_but_only_to_a_primary_that_caught_up() -> None:
    """With `failback = "auto"`: caught up, and every look good for as long as it must settle."""
    world = World(policy=AUTO)
    world.run(minutes=10)
    world.lose("milan")
    world.run(minutes=10)
    world.publish("lyon", "oslo")
    world.heal("milan")

    world.run(hours=5)
    assert world.moves == ["lyon"]

    world.publish()
    world.run(minutes=30)
    assert world.moves == ["lyon", "milan"]
    assert world.history[1].move is not None
    assert world.history[1].move.why is Why.FAILBACK


def test_a_primary_that_stumbles_while_it_settles_waits_from_the_beginning() -> None:
    """One bad look in the fiftieth minute, and the hour starts anew."""
    world = World(policy=AUTO)
    world.run(minutes=10)
    world.lose("milan")
    world.run(minutes=5)
    world.heal("milan")
    world.run(minutes=50)
    world.lose("milan")
    world.run(rounds=1)
    world.heal("milan")

    world.run(minutes=55)
    assert world.moves == ["lyon"]

    world.run(minutes=10)
    assert world.moves == ["lyon", "milan"]


def test_losing_the_refuge_too_soon_waits_for_things_to_settle() -> None:
    """
    When the mirror we moved to fails a minute later, traffic stays there until the dwell has
    passed: moving twice in a row is worse than one slow mirror.
    """
    world = World(policy=Policy(service=SERVICE, order=(), dwell=10 * MINUTE))
    world.run(minutes=10)
    world.lose("milan")
    world.run(minutes=3)
    world.lose("lyon")

    world.run(minutes=6)
    assert (world.moves, world.rule) == (["lyon"], "dwell")

    world.run(minutes=5)
    assert world.moves == ["lyon", "oslo"]
    assert world.history[1].at - world.history[0].at >= 10 * MINUTE


# -- everything looks down


def test_when_everything_is_down_nothing_moves(world: World) -> None:
    """Then any change could only be for the worse; and it is an alarm."""
    world.lose("milan", "lyon", "oslo")

    world.run(hours=5)
    assert (world.moves, world.rule) == ([], "all-down")
    assert not world.protected


def test_the_first_that_comes_back_takes_the_readers(world: World) -> None:
    """After everything was down, whoever is good again is good for readers."""
    world.lose("milan", "lyon", "oslo")
    world.run(hours=5)
    world.heal("oslo")

    world.run(minutes=3)
    assert world.moves == ["oslo"]


def test_tls_that_fails_everywhere_is_its_own_alarm(world: World) -> None:
    """One authority expired, not three datacentres burnt down."""
    for mirror in world.mirrors.values():
        mirror.tls = False

    world.run(hours=1)
    assert (world.moves, world.rule) == ([], "tls-everywhere")


def test_one_mirror_has_nowhere_to_go() -> None:
    """It is watched all the same, and said."""
    world = World(names=("milan",))
    world.run(minutes=5)
    world.lose("milan")

    world.run(minutes=10)
    assert (world.moves, world.rule) == ([], "one-mirror")


def test_mirrors_that_die_together_are_passed_over(world: World) -> None:
    """What died a moment after the primary is still thought well of; the fresh look knows better, at once."""
    world.lose("milan")
    world.run(rounds=2)
    world.lose("lyon")

    world.run(rounds=1)
    assert world.moves == ["oslo"]


# -- our own network


def test_a_controller_that_lost_its_network_moves_nothing(world: World) -> None:
    """It sees an outage of everything, and knows that it is its own."""
    world.isolate()

    world.run(hours=3)
    assert (world.moves, world.rule) == ([], "no-network")
    assert not world.protected

    world.reconnect()
    world.run(hours=1)
    assert world.moves == []


def test_a_controller_that_sees_only_the_mirror_beside_it_moves_nothing(world: World) -> None:
    """Its own line is cut, and lyon stands in the same room: that is no reason to send all readers there."""
    world.isolate(still_seen=["lyon"])

    world.run(hours=3)
    assert world.moves == []


def test_references_that_flap_within_a_round_make_it_void(world: World) -> None:
    """There before and gone after it: what failed in between may have failed for us alone."""
    world.flapping = True
    world.lose("milan")
    world.run(hours=1)
    assert (world.moves, world.rule) == ([], "no-network")

    world.flapping = False
    world.run(rounds=2)
    assert world.moves == []
    world.run(rounds=1)
    assert world.moves == ["lyon"]


@pytest.fixture
def dual() -> World:
    """Two mirrors with an address of each family."""
    mirrors = {
        name: Mirror(name, f"dc-{name}", (f"192.0.2.{n}", f"2001:db8::{n}"))
        for n, name in enumerate(("milan", "lyon"), 1)
    }
    world = World(names=("milan", "lyon"), mirrors=mirrors)
    world.run(minutes=10)
    return world


def test_a_lost_family_condemns_nobody_and_hides_nobody(dual: World) -> None:
    """Without IPv6 at home nothing moves; and a primary that is dead on IPv4 is left as ever."""
    dual.isolate(6)
    dual.run(hours=1)
    assert dual.moves == []
    assert dual.health("milan").degraded == {}

    dual.lose("milan")
    dual.run(minutes=3)
    assert dual.moves == ["lyon"]


def test_a_lost_ipv4_judges_nobody_even_if_ipv6_works(dual: World) -> None:
    """IPv4 is what counts for a mirror that has it: without it nothing is known."""
    dual.isolate(4)
    dual.lose("milan")

    dual.run(hours=1)
    assert (dual.moves, dual.rule) == ([], "no-network")


def test_a_bad_address_among_several_moves_nobody(dual: World) -> None:
    """The mirror is degraded; a switch leaves the address out."""
    dual.mirrors["milan"].dark.add("2001:db8::1")

    dual.run(hours=1)
    assert dual.moves == []
    assert list(dual.health("milan").degraded) == ["2001:db8::1"]
    assert dual.health("milan").good == ("192.0.2.1",)


# -- time


def test_a_machine_that_slept_for_an_hour_judges_anew(world: World) -> None:
    """All connections were cut, and what was true an hour ago is not known to be true: no haste on waking."""
    world.lose("milan")
    world.run(rounds=2)
    world.suspend(HOUR)

    world.run(rounds=2)
    assert (world.moves, world.rule) == ([], "unjudged")

    world.run(rounds=1)
    assert world.moves == ["lyon"]


def test_a_machine_that_slept_wakes_without_moving_readers_of_a_good_mirror(world: World) -> None:
    """Waking up is no event for readers."""
    for _ in range(5):
        world.suspend(HOUR)
        world.run(minutes=5)

    assert world.moves == []
    assert world.verdict("milan") is Verdict.UP


def test_a_wall_clock_that_is_a_day_ahead_moves_nobody(world: World) -> None:
    """Certificates look expired and are not; until the clock is right again nothing moves by itself, and it is said."""
    for mirror in world.mirrors.values():
        mirror.certificate_until = world.true + DAY / 2
    world.step_clock(DAY)

    world.run(minutes=30)
    assert world.moves == []
    assert world.verdict("milan") is Verdict.UP
    assert "our clock is 24 h fast" in world.explain()

    world.lose("milan")
    world.run(minutes=5)
    assert (world.moves, world.rule) == ([], "clock")

    world.step_clock(-DAY)
    world.run(minutes=5)
    assert world.moves == ["lyon"]


def test_a_wall_clock_that_is_a_day_behind_moves_nobody(world: World) -> None:
    """Set back, the clock makes no verdict older and no dwell longer; it is only wrong."""
    world.step_clock(-DAY)
    world.run(minutes=30)
    world.lose("milan")
    world.run(minutes=5)
    assert (world.moves, world.rule) == ([], "clock")
    assert "our clock is 24 h slow" in world.reason

    world.step_clock(DAY)
    world.run(minutes=5)
    assert world.moves == ["lyon"]


def test_the_clock_of_one_mirror_stops_nobody(world: World) -> None:
    """It is wrong by an hour on lyon; readers are sent there all the same when milan dies."""
    world.mirrors["lyon"].clock_error = HOUR
    world.run(minutes=5)
    world.lose("milan")

    world.run(minutes=5)
    assert world.moves == ["lyon"]


def test_a_name_server_that_refuses_our_time_stops_automatic_moves(world: World) -> None:
    """BADTIME: an update would be refused, and our judgement of dates is worth nothing."""
    world.badtime = -3600.0
    world.lose("milan")

    world.run(minutes=5)
    assert (world.moves, world.rule) == ([], "clock")
    assert "60 min fast" in world.reason


# -- restarts


def test_a_restart_in_the_middle_of_an_outage_detects_anew(world: World) -> None:
    """Verdicts start unknown at every start: a restart delays help, and never hastens it."""
    world.lose("milan")
    world.run(rounds=2)
    world.restart()

    world.run(rounds=2)
    assert world.moves == []
    world.run(rounds=1)
    assert world.moves == ["lyon"]


def test_the_dwell_survives_a_restart() -> None:
    """A controller that is restarted by its watchdog must not move readers each time."""
    world = World(policy=Policy(service=SERVICE, order=(), dwell=HOUR))
    world.run(minutes=10)
    world.lose("milan")
    world.run(minutes=5)
    world.restart()
    world.lose("lyon")

    world.run(minutes=30)
    assert (world.moves, world.rule) == (["lyon"], "dwell")

    world.run(minutes=40)
    assert world.moves == ["lyon", "oslo"]


def test_who_is_outdated_is_known_after_a_restart(world: World) -> None:
    """Restarted every few hours, the controller still finds out that a mirror has been stuck for a day."""
    world.mirrors["milan"].serial = 1
    world.publish("lyon", "oslo")
    for _ in range(6):
        world.run(hours=5)
        world.restart()

    world.run(minutes=5)
    assert world.moves == ["lyon"]
    assert world.history[0].move is not None
    assert "snapshot 1" in world.history[0].move.reason


# -- content


def test_a_publish_that_takes_longer_than_detection_moves_nobody(world: World) -> None:
    """A layout that cannot switch at once shows a mixture of ours for ten minutes: that is settling, not bad."""
    world.publish(lasting=10 * MINUTE)

    world.run(minutes=5)
    assert world.health("milan").content is ContentClass.SETTLING
    world.run(minutes=30)
    assert world.moves == []
    assert world.health("milan").content is ContentClass.CURRENT


def test_a_thousand_publishes_call_nobody_bad(world: World) -> None:
    """Each round sees another release, now here, now there."""
    for number in range(1000):
        world.publish(lasting=7.0 if number % 3 else 0.0)
        world.run(seconds=17)
        assert all(world.verdict(name) is Verdict.UP for name in world.names)

    assert world.moves == []


def test_one_altered_page_of_ten_thousand_is_convicted() -> None:
    """Once a sample met it, it is asked for in every round: convicted after `fall`, not diluted by what is right."""
    world = World(pages=10_000, sample=20)
    world.run(minutes=10)
    world.alter("milan", world.files[7_777])
    while not world.standing.suspects("milan", SERVICE):
        world.run(rounds=1)

    world.run(rounds=world.thresholds.fall - 1)
    assert world.moves == ["lyon"]
    assert world.health("milan").content is ContentClass.BAD
    assert world.history[0].move is not None
    assert "/page-07777.html has other bytes" in world.history[0].move.reason


def test_an_altered_refuge_is_passed_over(world: World) -> None:
    """A page of lyon was changed, and it stands convicted: readers go to oslo."""
    world.alter("lyon", *world.files)
    world.run(minutes=5)
    world.lose("milan")

    world.run(minutes=5)
    assert world.moves == ["oslo"]


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param({"redirects": True}, id="redirects to the canonical name"),
        pytest.param({"signed": False}, id="serves 200 with the tree gone"),
        pytest.param({"tls": False}, id="shows another certificate"),
        pytest.param({"certificate_until": 0.0}, id="shows an expired certificate"),
    ],
)
def test_what_answers_well_and_serves_wrong_is_down(world: World, trouble: dict[str, Any]) -> None:
    """A status code proves nothing."""
    world.mirrors["milan"] = replace(world.mirrors["milan"], **trouble)

    world.run(minutes=5)
    assert world.moves == ["lyon"]


def test_a_primary_that_serves_yesterday_for_too_long_is_left(world: World) -> None:
    """A little behind is fine for a day; then it is outdated, and others are not."""
    world.publish("lyon", "oslo")
    world.run(hours=23)
    assert world.moves == []
    assert world.health("milan").content is ContentClass.BEHIND

    world.run(hours=2)
    assert world.moves == ["lyon"]


def test_the_primary_dies_when_only_it_had_the_newest_snapshot(world: World) -> None:
    """Yesterday's pages on lyon are a little behind: readers get them, and the next publish mends it."""
    world.publish("milan")
    world.run(minutes=5)
    world.lose("milan")
    world.run(minutes=5)
    assert world.moves == ["lyon"]
    assert world.health("lyon").content is ContentClass.BEHIND

    world.publish("lyon", "oslo")
    world.run(minutes=5)
    assert world.health("lyon").content is ContentClass.CURRENT


def test_pages_of_yesterday_are_better_than_none(world: World) -> None:
    """Publishing to the refuges failed for two days; when the primary dies they are all there is, the newest first."""
    world.publish("milan", "oslo")
    world.run(hours=1)
    world.publish("milan")
    world.run(hours=48)
    assert world.verdict("lyon") is Verdict.DOWN
    world.lose("milan")

    world.run(minutes=5)
    assert world.moves == ["oslo"]


def test_a_cms_is_left_when_it_dies_and_not_returned_to_by_itself() -> None:
    """A primary whose content is not ours is judged by its markers; whether it caught up is for a person to see."""
    mirrors = {"milan": Mirror("milan", "dc-milan", ("192.0.2.1",), markers=True)}
    world = World(policy=AUTO, mirrors=mirrors)
    world.run(minutes=10)
    assert world.health("milan").content is ContentClass.UNVERIFIED
    assert world.moves == []

    world.lose("milan")
    world.run(minutes=5)
    assert world.moves == ["lyon"]

    world.heal("milan")
    world.run(hours=24)
    assert world.moves == ["lyon"]
    by_hand = world.switch("milan")
    assert by_hand.ok
    assert "cannot be proven" in by_hand.remarks[0]


# -- refused to us


def test_a_rate_limit_moves_nobody_until_it_has_lasted(world: World) -> None:
    """429 for four minutes is our own doing; for six it may be everybody's trouble."""
    world.mirrors["milan"].refuses_us_since = world.now
    world.run(minutes=4)
    assert (world.moves, world.rule) == ([], "unjudged")

    world.run(minutes=2)
    assert world.moves == ["lyon"]


# -- operators


def test_a_hold_stops_moves_and_not_judgement(world: World) -> None:
    """Held through an outage, readers stay; when the hold ends they are moved at once."""
    world.hold()
    world.lose("milan")
    world.run(hours=2)
    assert (world.moves, world.rule) == ([], "held")
    assert world.verdict("milan") is Verdict.DOWN

    world.unhold()
    world.run(rounds=1)
    assert world.moves == ["lyon"]


def test_a_switch_by_hand_during_a_hold_is_possible_and_says_so(world: World) -> None:
    """A hold binds mirrord, not its operators."""
    world.hold("the registrar is moving")

    allowed = world.switch("oslo")
    assert allowed.ok
    assert "held by anna: the registrar is moving" in allowed.remarks[0]
    world.run(hours=1)
    assert world.moves == ["oslo"]


def test_a_move_by_hand_does_not_start_the_dwell(world: World) -> None:
    """If what the operator chose dies at once, mirrord helps within detection time."""
    world.switch("lyon")
    world.lose("lyon")

    world.run(minutes=2)
    assert world.moves == ["lyon", "milan"]


def test_a_drained_mirror_is_left_when_somebody_says_so(world: World) -> None:
    """Draining the serving mirror asks; the answer moves; undrained and well, it is not returned to by itself."""
    world.drained.add("milan")
    world.run(minutes=5)
    assert world.moves == []
    assert isinstance(world.decision, Ask)

    world.ack()
    world.run(rounds=1)
    assert world.moves == ["lyon"]

    world.drained.clear()
    world.run(hours=3)
    assert world.moves == ["lyon"]


def test_a_drained_refuge_is_never_moved_to(world: World) -> None:
    """It is under maintenance, whatever it answers."""
    world.drained.add("lyon")
    world.lose("milan")

    world.run(minutes=5)
    assert world.moves == ["oslo"]


# -- the zone


def test_a_zone_that_somebody_changed_is_left_alone(world: World) -> None:
    """A person pointed the name elsewhere, perhaps for the same outage: mirrord waits until it is told."""
    world.zone = "foreign"
    world.lose("milan")
    world.run(hours=1)
    assert (world.moves, world.rule) == ([], "foreign")

    assert not world.switch("lyon").ok
    assert world.switch("lyon", adopt=True).ok
    world.run(minutes=5)
    assert world.moves == ["lyon"]


def test_a_name_server_that_went_back_is_put_right_on_a_yes(world: World) -> None:
    """Restarted with its old zone file it sends readers to the dead primary again: a loud alarm, and a question."""
    world.lose("milan")
    world.run(minutes=5)
    world.revert_zone(to="milan")
    world.run(hours=1)
    assert world.moves == ["lyon"]
    assert isinstance(world.decision, Ask)
    assert (world.rule, world.decision.alarm) == ("reverted", True)

    world.ack()
    world.run(rounds=1)
    assert (world.moves, world.serving, world.zone) == (["lyon", "lyon"], "lyon", "ours")


def test_nothing_starts_while_a_plan_is_open(world: World) -> None:
    """It may still be applied; whoever sends another one may undo the one that comes through."""
    world.pending = True
    world.lose("milan")
    world.run(hours=1)
    assert (world.moves, world.rule) == ([], "open-plan")

    world.pending = False
    world.run(rounds=1)
    assert world.moves == ["lyon"]


def test_a_flapping_primary_does_not_take_readers_along(world: World) -> None:
    """Up for five minutes, down for five, for half a day: readers are moved once and stay."""
    for _ in range(72):
        world.lose("milan")
        world.run(minutes=5)
        world.heal("milan")
        world.run(minutes=5)

    assert world.moves == ["lyon"]


def test_flapping_damps_itself_and_a_person_is_asked_in_the_end() -> None:
    """
    Each automatic move doubles the dwell, and after three within a day mirrord asks: what was moved again and again
    is not mended by moving once more.
    """
    world = World(names=("milan", "lyon", "oslo", "bonn", "graz"))
    world.run(minutes=10)
    for name in ("milan", "lyon", "oslo", "bonn"):
        world.lose(name)
        world.run(minutes=15)

    assert world.moves == ["lyon", "oslo", "bonn"]
    assert (world.rule, isinstance(world.decision, Ask)) == ("too-often", True)

    world.ack()
    world.run(rounds=1)
    assert world.moves == ["lyon", "oslo", "bonn", "graz"]


def test_after_a_quiet_day_mirrord_moves_by_itself_again() -> None:
    """Three moves of yesterday are no reason to ask today."""
    world = World(names=("milan", "lyon", "oslo", "bonn", "graz"))
    world.run(minutes=10)
    for name in ("milan", "lyon", "oslo"):
        world.lose(name)
        world.run(minutes=15)
    world.run(hours=24)

    world.lose("bonn")
    world.run(minutes=3)
    assert world.moves == ["lyon", "oslo", "bonn", "graz"]


def test_readers_that_were_moved_lately_return_only_with_a_yes() -> None:
    """Within hours of a failover nobody knows yet what happened; the way back is asked for, and hurries nobody."""
    world = World(policy=replace(AUTO, ack_after=6 * HOUR))
    world.run(minutes=10)
    world.lose("milan")
    world.run(minutes=5)
    world.heal("milan")
    world.run(hours=2)
    assert (world.moves, world.rule) == (["lyon"], "moved-lately")

    world.ack()
    world.run(rounds=1)
    assert world.moves == ["lyon", "milan"]


def test_readers_that_were_moved_lately_are_helped_if_their_refuge_dies() -> None:
    """Nobody is asked while readers see nothing."""
    world = World(policy=replace(AUTO, ack_after=6 * HOUR))
    world.run(minutes=10)
    world.lose("milan")
    world.run(minutes=30)
    world.lose("lyon")

    world.run(minutes=5)
    assert world.moves == ["lyon", "oslo"]


def test_a_name_server_that_went_back_is_put_right_by_itself_where_that_is_wanted() -> None:
    """`on_revert = "reassert"`: the last plan is sent again, under everything that holds for automatic moves."""
    world = World(policy=Policy(service=SERVICE, order=(), on_revert="reassert"))
    world.lose("milan")
    world.run(minutes=5)
    world.revert_zone(to="milan")

    world.run(minutes=5)
    assert (world.moves, world.serving, world.zone) == (["lyon", "lyon"], "lyon", "ours")


@pytest.mark.parametrize("serve", ["first", "all"])
def test_by_itself_the_last_plan_is_put_in_force_again_or_nothing(serve: Literal["first", "all"]) -> None:
    """
    The mirror of the last plan died a moment ago, and only the fresh look knows: where readers go instead was neither
    planned nor judged, so a person is asked once that is certain.
    """
    world = World(policy=Policy(service=SERVICE, order=(), on_revert="reassert", serve=serve))
    world.lose("milan")
    world.run(minutes=5)
    refuge = world.serving
    world.lose("lyon")
    world.revert_zone(to="milan")

    world.run(rounds=1)
    assert (world.serving, world.rule) == ("milan", "fresh")
    world.run(minutes=5)
    assert (world.serving, world.rule) == ("milan", "reverted")
    world.ack()
    world.run(minutes=1)
    assert (refuge, world.serving) == ({"first": "lyon", "all": "lyon+oslo"}[serve], "oslo")


def test_causes_are_kept_apart_each_with_its_own_time(world: World) -> None:
    """It was gone for ten minutes and has had a wrong certificate since: two troubles, and who mends them differs."""
    world.lose("oslo")
    world.run(minutes=10)
    gone = world.health("oslo")
    world.heal("oslo")
    world.mirrors["oslo"].tls = False
    world.run(rounds=1)
    tls = world.health("oslo")

    assert gone.cause is not None
    assert tls.cause is not None
    assert (gone.cause.kind, tls.cause.kind) == (FaultKind.UNREACHABLE, FaultKind.TLS)
    assert gone.cause_since == gone.since == tls.since
    assert tls.cause_since == world.standing.latest
