"""What holds in every world, whatever happens in whatever order; and which rule each promise rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from mirrord import sharing
from mirrord.decide import (
    RULES,
    Ask,
    Held,
    Move,
    Policy,
    Rules,
    Stay,
    View,
    Why,
    decide,
    explain,
    may_switch,
    protected,
)
from mirrord.health import ContentClass, Fault, FaultKind, Health, Reference, Standing, Thresholds, Verdict
from mirrord.rules import (
    catch_up_can_be_proven,
    caught_up,
    dwelt_long_enough,
    facts_of,
    judged_completely,
    judged_in_this_round,
    leaving_was_agreed_to,
    looked_at_since_readers_came,
    members,
    no_person_chose_otherwise,
    nobody_serves,
    not_down,
    not_drained,
    not_held,
    not_too_often,
    our_clock_is_right,
    plan_is_open,
    returning_is_automatic,
    shows_its_class,
    stale_only_for_worse,
    stayed_well,
    zone_is_foreign,
)
from tests.promises import Broken
from tests.watching import GONE, OTHER_V4, V6, WELL, Sight, Watch, sight
from tests.world import DAY, HOUR, MINUTE, SERVICE, Mirror, World, card, references

# Reproducible in every run; the counts are chosen for a suite that is run often.
steady = settings(derandomize=True, deadline=None, database=None, max_examples=60)

# -- any order of looks


@steady
@given(st.lists(st.booleans(), max_size=40), st.integers(1, 8), st.integers(1, 4))
def test_a_verdict_changes_only_in_the_direction_of_the_latest_look(looks: list[bool], fall: int, rise: int) -> None:
    """A good look never makes a mirror down, nor a bad one up; and it takes as many as were asked for."""
    watch = Watch(Thresholds(fall=fall, rise=rise))
    before, row, bad = watch.verdict, 0, 0

    for good in looks:
        watch.see(WELL if good else GONE)
        row = max(row, 0) + 1 if good else min(row, 0) - 1
        bad += not good
        if watch.verdict is not before:
            assert watch.verdict is (Verdict.UP if good else Verdict.DOWN)
            assert row >= rise if good else (-row >= fall or bad >= 6)
        if row >= rise:
            assert watch.verdict is Verdict.UP
        if -row >= fall:
            assert watch.verdict is Verdict.DOWN
        before = watch.verdict


faults = st.sampled_from([None, None, None, *(k for k in FaultKind if k not in (FaultKind.STALE, FaultKind.NETWORK))])
paths = st.frozensets(st.sampled_from([b"a", b"b", b"c"]), max_size=2)


@st.composite
def sights(draw: st.DrawFn) -> Sight:
    """Any look at any mirror."""
    wrong = draw(paths)
    return sight(
        draw(faults),
        mirror=draw(st.sampled_from(["milan", "lyon"])),
        address=draw(st.sampled_from(["192.0.2.1", OTHER_V4, V6])),
        name=draw(st.sampled_from(["www.example.test", "example.test"])),
        serial=draw(st.integers(1, 5)),
        markers=draw(st.booleans()),
        right=draw(paths) - wrong,
        wrong=wrong,
        settling=draw(paths) - wrong,
        dropped=draw(paths),
        ahead=draw(st.sampled_from([None, 0.0, 400.0, -DAY])),
        days=draw(st.sampled_from([None, 3.0, 80.0])),
    )


any_references = st.builds(references, v4=st.sampled_from([True, True, False, None]), v6=st.sampled_from([True, False]))
any_round = st.tuples(
    st.lists(sights(), max_size=8), any_references, any_references, st.sampled_from([1.0, 30.0, 30.0, 200.0, 2 * DAY])
)


@steady
@given(st.lists(any_round, max_size=12), st.sampled_from([{}, {"milan": 1000.0}]))
def test_whatever_is_seen_can_be_judged(
    rounds: list[tuple[list[Sight], tuple[Reference, ...], tuple[Reference, ...], float]], published: dict[str, float]
) -> None:
    """No order of looks confuses the judgement: down always has a cause, wanted only grows, all of it can be kept."""
    watch = Watch(published=published)

    for looks, before, after, pause in rounds:
        watch.see(*looks, before=before, after=after, every=pause)
        serials = [wanted.serial for wanted in watch.standing.lineage]
        assert serials == sorted(set(serials))
        for key, health in watch.standing.healths.items():
            assert (health.verdict is not Verdict.DOWN) or health.cause is not None
            assert health.verdict is not Verdict.UP or health.content not in (
                None,
                ContentClass.BAD,
                ContentClass.STALE,
            )
            assert not health.failing or health.judged
            assert set(health.degraded).isdisjoint(health.good)
            assert watch.standing.suspects(*key) == frozenset(health.suspects)
        again = Standing.recall(watch.standing.remember(watch.now, watch.wall), watch.now, watch.wall)
        assert [w.serial for w in again.lineage] == serials


@steady
@given(st.lists(st.lists(sights(), max_size=6), max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_looks_within_a_round_does_not_matter(rounds: list[list[Sight]], dice: Any) -> None:
    """They were made at the same time by many workers."""
    one, other = Watch(), Watch()

    for looks in rounds:
        mixed = list(looks)
        dice.shuffle(mixed)
        one.see(*looks)
        other.see(*mixed)
    for mirror in ("milan", "lyon"):
        assert one.health(mirror).verdict is other.health(mirror).verdict
        assert one.health(mirror).content is other.health(mirror).content


# -- any view of things

NAMES = ("milan", "lyon", "oslo", "bonn")


# What stands in the way of a decision is drawn rarely, or nearly every example would be about that.
rarely = st.integers(0, 9).map(lambda number: number == 7)


@st.composite
def healths(draw: st.DrawFn) -> Health:
    """Anything that may be held true of a mirror."""
    verdict = draw(st.sampled_from([Verdict.UP, Verdict.DOWN, Verdict.UP, Verdict.DOWN, Verdict.UNKNOWN]))
    kind = draw(st.sampled_from(list(FaultKind)))
    stale = verdict is Verdict.DOWN and kind is FaultKind.STALE
    well = [c for c in ContentClass if c not in (ContentClass.STALE, ContentClass.BAD)]
    content = draw(st.sampled_from(well if verdict is Verdict.UP else [None, ContentClass.BAD]))
    judged = not draw(rarely)
    return Health(
        verdict=verdict,
        content=ContentClass.STALE if stale else content,
        cause=None if verdict is Verdict.UP else Fault(kind, "has trouble"),
        snapshot=draw(st.sampled_from([None, card(1), card(2)])),
        judged=judged,
        failing=judged and verdict is not Verdict.UP and not draw(rarely),
        well_since=draw(st.sampled_from([None, 0.0, 9000.0])),
    )


@st.composite
def views(draw: st.DrawFn) -> View:
    """Anything that a decision may have to rest on."""
    return View(
        now=10_000.0,
        standing=Standing(
            healths={(name, SERVICE): draw(healths()) for name in NAMES},
            clock="our clock is 24 h fast" if draw(rarely) else None,
        ),
        serving=None if draw(rarely) else draw(st.sampled_from(NAMES)),
        zone=draw(st.sampled_from(["reverted", "foreign", "unread", "new"])) if draw(rarely) else "ours",
        meant=draw(st.sampled_from([None, *NAMES])),
        held=Held("moving house", "anna") if draw(rarely) else None,
        drained=draw(st.frozensets(st.sampled_from(NAMES), max_size=2)),
        moves=tuple(sorted(draw(st.lists(st.sampled_from([10.0, 500.0, 5000.0, 25_000.0, 90_000.0]), max_size=5)))),
        pending=draw(rarely) and draw(rarely),
        trouble=draw(st.sampled_from([None, "no credentials"])),
    )


policies = st.builds(
    Policy,
    service=st.just(SERVICE),
    order=st.sampled_from([NAMES, NAMES[:3], NAMES[1:], NAMES[:1]]),
    failback=st.sampled_from(["manual", "auto"]),
    markers=st.sampled_from([frozenset(), frozenset({"milan"})]),
    places=st.just({"milan": "dc-1", "lyon": "dc-1", "oslo": "dc-2"}),
)


@settings(steady, max_examples=250)
@given(views(), policies)
def test_no_decision_breaks_a_rule_whatever_is_held_true(view: View, policy: Policy) -> None:
    """Held, drained, open, foreign, dwelling or unjudged: whoever is moved to was fit, and the best that was."""
    decision = decide(view, policy)

    assert decide(view, policy) == decision
    if isinstance(decision, Stay):
        assert decision.reason
        return
    assert view.zone != "foreign"
    assert not view.pending
    move = decision.move if isinstance(decision, Ask) else decision
    if move is None:
        return
    target = view.standing.health(move.target, SERVICE)
    assert move.target in policy.order
    assert move.target not in view.drained
    assert target.judged
    assert target.verdict is Verdict.UP or target.content is ContentClass.STALE
    assert all(move.content.rank <= c.content.rank or move.why is Why.REASSERT for c in move.fallbacks)
    if isinstance(decision, Ask):
        return
    assert move.automatic
    assert view.held is None
    assert view.standing.clock is None
    assert view.last_move is None or view.last_move >= policy.dwell
    assert sum(age < DAY for age in view.moves) < policy.moves_a_day
    assert move.why is not Why.FAILBACK or not view.moves or view.moves[0] >= policy.ack_after
    if move.content is ContentClass.STALE:
        cause = view.standing.health(move.source, SERVICE).cause
        assert cause is not None
        assert cause.kind is not FaultKind.STALE


@settings(steady, max_examples=120)
@given(views(), policies, st.sampled_from(NAMES))
def test_every_situation_can_be_put_into_words(view: View, policy: Policy, target: str) -> None:
    """Whoever asks gets sentences, whole ones, in every situation."""
    found = protected(view, policy)
    said = [*explain(view, policy), found.why, *(brake.text for brake in may_switch(view, policy, target, None).brakes)]

    assert all(sentence and "\n" not in sentence and "None" not in sentence for sentence in said)
    assert all(sentence.endswith((".", "?")) for sentence in explain(view, policy))


@settings(steady, max_examples=120)
@given(views(), policies)
def test_protected_is_true_only_where_a_dead_mirror_would_be_left(view: View, policy: Policy) -> None:
    """What the status screen promises is what would be decided."""
    if view.serving is None or not protected(view, policy).ok:
        return
    was = view.standing.health(view.serving, SERVICE)
    dead = replace(was, verdict=Verdict.DOWN, cause=Fault(FaultKind.UNREACHABLE, "is gone"), judged=True, failing=True)
    after = replace(view, standing=view.standing.supposing(view.serving, SERVICE, dead), moves=())

    assert isinstance(decide(after, policy), Move)


# -- any world


numbers, rounds = st.integers(0, 5), st.sampled_from([0, 1, 2, 4, 7])
troubles = st.sampled_from(
    ["gone", "gone", "gone", "flaps", "tls", "signed", "redirects", "altered", "dark", "refuses"]
)
# Most troubles of the controller pass: worlds in which nothing can be done prove little.
passes = st.sampled_from([True, True, True, False])


SIX = ("milan", "lyon", "oslo", "bonn", "graz", "bern")


class Worlds(RuleBasedStateMachine):
    """Worlds of two to six mirrors in which anything may happen between any two steps; `Broken` ends the game."""

    world: World
    serve: ClassVar[Literal["first", "all"]] = "first"
    reached: ClassVar[Counter[str]] = Counter()
    """How often what is promised about really happened, in all worlds so far."""

    @initialize(
        number=st.integers(2, 6),
        answers=st.sampled_from([1, 2, 8]),
        on_revert=st.sampled_from(["ask", "reassert"]),
        failback=st.sampled_from(["auto", "manual", "auto"]),
        dwell=st.sampled_from([0.0, 120.0, 900.0]),
        ack_after=st.sampled_from([0.0, 6 * HOUR]),
        fall=st.integers(2, 4),
        rise=st.integers(1, 3),
        cms=st.booleans(),
    )
    def begin(
        self,
        number: int,
        answers: int,
        on_revert: Any,
        failback: Any,
        dwell: float,
        ack_after: float,
        fall: int,
        rise: int,
        cms: bool,
    ) -> None:
        """Put up mirrors: the first may be a CMS, the second has two addresses, the third both families."""
        names = SIX[:number]
        mirrors = {name: Mirror(name, f"dc-{name}", (f"192.0.2.{n}",)) for n, name in enumerate(names, 1)}
        mirrors["milan"].markers = cms
        mirrors["lyon"].addresses = ("192.0.2.2", "192.0.2.22")
        if "oslo" in mirrors:
            mirrors["oslo"].addresses = ("192.0.2.3", "2001:db8::3")
        self.world = World(
            names=names,
            thresholds=Thresholds(fall=fall, rise=rise, max_lag=45 * MINUTE),
            policy=Policy(
                service=SERVICE,
                order=(),
                serve=self.serve,
                answers=answers,
                on_revert=on_revert,
                failback=failback,
                settle=20 * MINUTE,
                dwell=dwell,
                ack_after=ack_after,
            ),
            pages=4,
            sample=4,
            mirrors=mirrors,
            **self.mutation,
        )
        self.world.run(minutes=3)

    def teardown(self) -> None:
        """Count what happened."""
        if not hasattr(self, "world"):
            return
        self.reached.update(f"decided: {rule_}" for rule_ in self.world.decided)
        for moved in self.world.history:
            move = moved.move
            self.reached["by hand" if move is None else move.why.value] += 1
            self.reached["after a yes"] += move is not None and move.agreed
            self.reached["shrank"] += move is not None and bool(move.leaving) and not move.joining
            self.reached["grew"] += move is not None and bool(move.joining) and not move.leaving

    mutation: ClassVar[dict[str, Any]] = {}
    """What is taken out of the world, to see whether this game finds out."""

    def one(self, number: int) -> str:
        """Return the name of a mirror."""
        return self.world.names[number % len(self.world.names)]

    def spoil(self, name: str, trouble: str) -> None:
        """A mirror is gone, or answers and serves wrong."""
        mirror = self.world.mirrors[name]
        match trouble:
            case "gone":
                mirror.alive = False
            case "flaps":
                mirror.flaps = True
            case "altered" if not mirror.markers:
                mirror.altered.add(self.world.files[0])
            case "dark":
                mirror.dark.add(mirror.addresses[-1])
            case "refuses":
                mirror.refuses_us_since = mirror.refuses_us_since or self.world.now
            case "redirects":
                mirror.redirects = True
            case "tls":
                mirror.tls = False
            case _:
                mirror.signed = False

    def calm(self) -> None:
        """Everything about the controller is in order again."""
        self.world.reconnect()
        self.world.flapping = self.world.pending = False
        self.world.held, self.world.zone = None, "ours"
        self.world.drained.clear()
        if self.world.clock_error:
            self.world.step_clock(-self.world.clock_error)

    def rest(self) -> None:
        """Everything is well again, and a day has passed since the last move: what happens now can be acted on."""
        self.calm()
        self.world.heal(*self.world.names, serial=self.world.newest)
        self.world.restart(DAY)
        self.world.run(minutes=3)
        self.world.switch(self.world.names[0])

    @rule(number=numbers, tied=st.sampled_from(["held", "foreign", "pending", "drained", "clock"]), here=st.booleans())
    def outage_with_tied_hands(self, number: int, tied: str, here: bool) -> None:
        """The mirror that serves is gone for long, and something forbids to move readers, or to move them to one."""
        self.rest()
        match tied:
            case "clock":
                self.world.step_clock(-HOUR)
            case "held":
                self.world.hold()
            case "foreign":
                self.world.zone = "foreign"
            case "pending":
                self.world.pending = True
            case _:
                self.world.drained.add(self.one(number))
        self.world.lose(self.world.here[0] if here else self.one(number))
        self.world.run(minutes=5)

    @rule(number=numbers, old=st.sampled_from([True, True, False]), by_hand=st.sampled_from([False, False, True]))
    def way_back(self, number: int, old: bool, by_hand: bool) -> None:
        """Readers leave a mirror, which comes back later, perhaps with the content of before."""
        self.rest()
        name = self.world.here[0]
        if by_hand:
            self.world.switch(self.one(number))
        else:
            self.world.lose(name)
            self.world.run(minutes=5)
            self.world.publish(*(other for other in self.world.names if other != name))
            self.world.heal(name, serial=self.world.newest - old)
        self.world.run(minutes=30)

    @rule(number=numbers, wait=rounds)
    def another_dies_a_moment_later(self, number: int, wait: int) -> None:
        """It is still thought well of when readers are to be moved."""
        self.rest()
        self.world.lose(self.world.here[0])
        self.world.run(rounds=wait)
        self.world.lose(self.one(number))
        self.world.run(minutes=5)

    @rule(times=st.integers(2, 5))
    def one_after_the_other(self, times: int) -> None:
        """Whoever serves dies soon, and is back when the next one is dead."""
        self.rest()
        for _ in range(times):
            name = self.world.here[0]
            self.world.lose(name)
            self.world.run(hours=1)
            self.world.heal(name, serial=self.world.newest)

    @rule(numbers=st.lists(numbers, min_size=1, max_size=3, unique=True))
    def nobody_was_published_to(self, numbers: list[int]) -> None:
        """Some mirrors get outdated, the one that serves perhaps among them; then the others die."""
        self.rest()
        behind = {self.one(number) for number in numbers}
        others = [name for name in self.world.names if name not in behind]
        if others:
            self.world.publish(*others)
        self.world.run(minutes=50)
        self.world.lose(*others)
        self.world.run(minutes=5)

    @rule(trouble=troubles, here=st.booleans(), number=numbers, wait=rounds)
    def trouble(self, trouble: str, here: bool, number: int, wait: int) -> None:
        """The mirror that serves is in trouble, or any other."""
        here_now = self.world.here
        self.spoil(here_now[number % len(here_now)] if here else self.one(number), trouble)
        self.world.run(rounds=wait)

    @rule(number=numbers, trouble=st.sampled_from(["gone", "gone", "tls", "redirects"]), lasting=st.booleans())
    def outage(self, number: int, trouble: str, lasting: bool) -> None:
        """A mirror that serves is plainly gone for longer than anybody can miss; perhaps it comes back for good."""
        self.calm()
        name = self.world.here[number % len(self.world.here)]
        self.spoil(name, trouble)
        self.world.run(minutes=10)
        if not lasting:
            self.world.heal(name, serial=self.world.newest)
            self.world.run(minutes=30)
            self.world.ack()

    @rule(number=numbers, everybody=st.booleans(), old=st.booleans(), wait=rounds)
    def heal(self, number: int, everybody: bool, old: bool, wait: int) -> None:
        """Mirrors are back, one perhaps with the content of long ago; with all of them everything is in order again."""
        if everybody:
            self.world.heal(*self.world.names)
            self.calm()
        self.world.heal(self.one(number), serial=1 if old else None)
        self.world.run(rounds=wait)

    @rule(minutes=st.sampled_from([10, 25, 50]))
    def wait_long(self, minutes: int) -> None:
        """Much time passes."""
        self.world.run(minutes=minutes)

    @rule(number=numbers, lasting=st.sampled_from([0.0, 300.0]), everywhere=st.booleans(), wait=rounds)
    def publish(self, number: int, lasting: float, everywhere: bool, wait: int) -> None:
        """A new snapshot reaches one mirror, or all that live; perhaps slowly."""
        self.world.publish(*(() if everywhere else (self.one(number),)), lasting=lasting)
        self.world.run(rounds=wait)

    @rule(
        what=st.sampled_from(["isolated", "isolated", "IPv4", "IPv6", "flapping", "foreign", "pending", "reverted"]),
        number=numbers,
        wait=rounds,
        over=passes,
    )
    def around(self, what: str, number: int, wait: int, over: bool) -> None:
        """Our own network is in trouble, or the zone; perhaps that passes."""
        match what:
            case "isolated":
                self.world.isolate(still_seen=[self.one(number)])
            case "IPv4" | "IPv6":
                self.world.isolate(int(what[-1]))
            case "flapping":
                self.world.flapping = True
            case "foreign":
                self.world.zone = "foreign"
            case "pending":
                self.world.pending = True
            case _:
                self.world.revert_zone(self.one(number))
        self.world.run(rounds=wait)
        self.world.ack()
        if over:
            self.calm()

    @rule(what=st.sampled_from(["hold", "drain", "switch"]), number=numbers, wait=rounds, over=passes)
    def operate(self, what: str, number: int, wait: int, over: bool) -> None:
        """An operator holds, drains and says yes, or switches by hand; a hold and a drain may end."""
        match what:
            case "hold":
                self.world.hold()
            case "drain":
                self.world.drained.add(self.one(number))
            case _:
                self.world.switch(self.one(number), adopt=over)
        self.world.run(rounds=wait)
        self.world.ack()
        self.world.run(rounds=1)
        if over and what == "hold":
            self.world.unhold()
        elif over:
            self.world.drained.clear()

    @rule(what=st.sampled_from(["restart", "sleep", "set"]), seconds=st.sampled_from([60.0, HOUR, DAY]), wait=rounds)
    def time(self, what: str, seconds: float, wait: int) -> None:
        """The daemon is restarted, the machine sleeps, or somebody sets its clock."""
        match what:
            case "restart":
                self.world.restart(seconds)
            case "sleep":
                self.world.suspend(seconds)
            case _:
                self.world.step_clock(seconds if self.world.clock_error < 0 else -seconds)
        self.world.run(rounds=wait)


class SharedWorlds(Worlds):
    """The same, where all good mirrors share the readers."""

    serve = "all"
    reached: ClassVar[Counter[str]] = Counter()


game = settings(steady, max_examples=50, stateful_step_count=30, suppress_health_check=list(HealthCheck))
hunt = settings(game, max_examples=500, phases=[Phase.generate], report_multiple_bugs=False)
"""Ends with the first promise that is broken."""

USUAL = {"failover": 30, "failback": 3, "by hand": 1, "after a yes": 1, "decided: too-often": 2}


@pytest.mark.parametrize(
    ("worlds", "least"),
    [
        pytest.param(Worlds, {**USUAL, "decided: moved-lately": 1}, id="one serves"),
        pytest.param(SharedWorlds, {**USUAL, "shrank": 15, "grew": 3}, id="all serve"),
    ],
)
def test_no_order_of_events_breaks_a_promise(worlds: type[Worlds], least: dict[str, int]) -> None:
    """Lost and healed networks, stale and lying mirrors, operators, clocks, and restarts between any two steps.

    A game in which little happens proves little: what the promises are about must have been reached so often at least.
    """
    worlds.reached.clear()
    run_state_machine_as_test(worlds, settings=game)

    assert {what: worlds.reached[what] for what, number in least.items() if worlds.reached[what] < number} == {}


@pytest.mark.parametrize(
    ("mutation", "promise"),
    [
        pytest.param({"rules": RULES.without(rule_)}, promise, id=rule_.__name__)
        for rule_, promise in (
            (plan_is_open, "while a plan was open"),
            (not_down, "only just come back"),
            (stale_only_for_worse, "to outdated content"),
            (stayed_well, "before it had settled"),
            (our_clock_is_right, "whose clock was wrong"),
            (not_held, "against a hold"),
            (dwelt_long_enough, "within the dwell"),
            (leaving_was_agreed_to, "within hours of a move"),
            (not_too_often, "a fourth time within a day"),
        )
    ]
    + [pytest.param({"look_again": False}, "which does not serve them", id="the fresh look")],
)
def test_the_game_finds_out_what_is_taken_out(mutation: dict[str, Any], promise: str) -> None:
    """
    A game in which a missing rule goes unnoticed would not notice one that fails. Rules that matter in rarer situations
    only are taken out in the stories below.
    """
    worlds = type("Mutated", (Worlds,), {"mutation": mutation, "reached": Counter()})

    with pytest.raises(Broken, match=promise):
        run_state_machine_as_test(worlds, settings=hunt)


# -- which rule each promise rests on

Story = Callable[[World], None]
AUTO = Policy(service=SERVICE, order=(), failback="auto", ack_after=0.0)


def milan_dies(world: World) -> None:
    world.lose("milan")
    world.run(minutes=5)


def milan_dies_held(world: World) -> None:
    world.hold()
    milan_dies(world)


def milan_comes_back_old(world: World) -> None:
    milan_dies(world)
    world.publish("lyon", "oslo")
    world.heal("milan")
    world.run(hours=2)


def milan_comes_back(world: World) -> None:
    milan_dies(world)
    world.heal("milan")
    world.run(minutes=30)


def milan_comes_back_for_hours(world: World) -> None:
    milan_dies(world)
    world.heal("milan")
    world.run(hours=2)


def two_die_in_turn(world: World) -> None:
    milan_dies(world)
    world.lose("lyon")
    world.run(minutes=30)


def all_die_and_one_comes_back(world: World) -> None:
    world.lose("milan", "lyon", "oslo")
    world.run(minutes=10)
    world.heal("lyon")
    world.run(rounds=1)


def a_hold_ends_as_milan_comes_back(world: World) -> None:
    milan_dies_held(world)
    world.heal("milan")
    world.unhold()
    world.run(rounds=1)


def all_that_is_left_is_outdated(world: World) -> None:
    world.publish("oslo")
    world.run(hours=20)
    world.lose("oslo")
    world.run(hours=5)


def drained_lyon(world: World) -> None:
    world.drained.add("lyon")
    milan_dies(world)


def foreign_zone(world: World) -> None:
    world.zone = "foreign"
    milan_dies(world)


def open_plan(world: World) -> None:
    world.pending = True
    milan_dies(world)


def wrong_clock(world: World) -> None:
    world.step_clock(-DAY)
    milan_dies(world)


def lyon_is_behind(world: World) -> None:
    world.publish("milan", "oslo")
    world.run(minutes=5)
    milan_dies(world)


def lyon_dies_a_moment_later(world: World) -> None:
    world.lose("milan")
    world.run(rounds=2)
    world.lose("lyon")
    world.run(rounds=1)


def cut_off_beside_lyon(world: World) -> None:
    world.isolate(still_seen=["lyon"])
    world.run(hours=1)


def a_slow_publish(world: World) -> None:
    world.publish("milan", lasting=10 * MINUTE)
    world.run(minutes=30)


def a_rate_limit(world: World) -> None:
    world.mirrors["milan"].refuses_us_since = world.now
    world.run(minutes=4)


def cms_comes_back(world: World) -> None:
    milan_dies(world)
    world.heal("milan")
    world.run(hours=2)


def all_die_in_turn(world: World) -> None:
    """Six mirrors, each of which dies soon after readers came to it."""
    for name in world.names[:-1]:
        world.lose(name)
        world.run(hours=1)


def milan_is_left_by_hand(world: World) -> None:
    world.switch("lyon")
    world.run(minutes=10)


def milan_is_back_and_a_person_sends_readers_there(world: World) -> None:
    milan_dies(world)
    world.run(hours=1)
    world.heal("milan")
    world.switch("milan")
    world.run(rounds=1)


def the_zone_goes_back_while_held(world: World) -> None:
    world.hold()
    world.revert_zone("milan")
    world.run(rounds=3)


def milan_recovers_slowly_while_lyon_is_gone(world: World) -> None:
    world.hold()
    world.lose("milan", "lyon")
    world.run(minutes=5)
    world.heal("milan")
    world.run(rounds=1)
    world.unhold()
    world.run(minutes=10)


def without(rule_: object) -> dict[str, Any]:
    """Take one rule out of the table."""
    return {"rules": RULES.without(rule_)}


def in_configured_order(view: View, policy: Policy, mirror: str) -> tuple[int, ...]:
    """Rank without looking at content."""
    del view
    return (policy.order.index(mirror),)


def never(view: View, policy: Policy, move: Move) -> Stay:
    """Be too careful to help anybody."""
    del view, move
    return Stay(service=policy.service, rule="never", reason="it might be dangerous")


MUTATIONS = [
    pytest.param(milan_dies_held, without(not_held), "against a hold", {}, id="hold"),
    pytest.param(
        two_die_in_turn,
        without(dwelt_long_enough),
        "within the dwell",
        {"policy": Policy(service=SERVICE, order=(), dwell=20 * MINUTE)},
        id="dwell",
    ),
    pytest.param(
        all_die_in_turn,
        without(not_too_often),
        "a fourth time within a day",
        {"names": ("milan", "lyon", "oslo", "bonn", "graz", "bern")},
        id="too often",
    ),
    pytest.param(
        milan_comes_back_for_hours,
        without(leaving_was_agreed_to),
        "within hours of a move",
        {"policy": replace(AUTO, ack_after=6 * HOUR)},
        id="moved lately",
    ),
    pytest.param(wrong_clock, without(our_clock_is_right), "whose clock was wrong", {}, id="clock"),
    pytest.param(
        a_hold_ends_as_milan_comes_back,
        without(judged_completely),
        "from milan, which served them well",
        {},
        id="recovering",
    ),
    pytest.param(drained_lyon, without(not_drained), "lyon, which is drained", {}, id="drained"),
    pytest.param(all_die_and_one_comes_back, without(not_down), "only just come back", {}, id="rise"),
    pytest.param(
        all_that_is_left_is_outdated, without(stale_only_for_worse), "to outdated content on lyon", {}, id="stale"
    ),
    pytest.param(foreign_zone, without(zone_is_foreign), "somebody else changed the zone", {}, id="foreign"),
    pytest.param(open_plan, without(plan_is_open), "while a plan was open", {}, id="open plan"),
    pytest.param(milan_comes_back_old, without(caught_up), "before it caught up", {"policy": AUTO}, id="catch-up"),
    pytest.param(milan_comes_back, without(stayed_well), "before it had settled", {"policy": AUTO}, id="settle"),
    pytest.param(
        milan_comes_back,
        without(returning_is_automatic),
        "from lyon, which served them well",
        {"policy": replace(AUTO, failback="manual", settle=600.0)},
        id="by hand",
    ),
    pytest.param(
        milan_is_left_by_hand,
        without(no_person_chose_otherwise),
        "where a person had sent them",
        {"policy": replace(AUTO, settle=300.0)},
        id="chosen by a person",
    ),
    pytest.param(
        milan_is_back_and_a_person_sends_readers_there,
        without(looked_at_since_readers_came),
        "from milan, which served them well",
        {},
        id="seen before readers came",
    ),
    pytest.param(
        the_zone_goes_back_while_held,
        without(not_held),
        "against a hold",
        {"policy": Policy(service=SERVICE, order=(), on_revert="reassert"), "serving": "lyon"},
        id="put right in spite of a hold",
    ),
    pytest.param(
        cms_comes_back,
        without(catch_up_can_be_proven),
        "cannot prove that it caught up",
        {"policy": AUTO, "mirrors": {"milan": Mirror("milan", "dc-milan", ("192.0.2.1",), markers=True)}},
        id="CMS",
    ),
    pytest.param(
        lyon_is_behind,
        {"rules": replace(RULES, rank=in_configured_order)},
        "though oslo was better",
        {},
        id="class first",
    ),
    pytest.param(
        lyon_dies_a_moment_later, {"look_again": False}, "lyon, which does not serve them", {}, id="the fresh look"
    ),
    pytest.param(
        cut_off_beside_lyon,
        {"thresholds": Thresholds(references=False)},
        "own network was in doubt",
        {},
        id="references",
    ),
    pytest.param(
        a_slow_publish,
        {"thresholds": Thresholds(settle_content=-3600.0)},
        "from milan, which served",
        {},
        id="settling",
    ),
    pytest.param(
        a_rate_limit, {"thresholds": Thresholds(refused_for=0.0)}, "from milan, which served", {}, id="refused to us"
    ),
    pytest.param(
        milan_dies,
        {"rules": replace(RULES, guards=(never,))},
        "waited too long",
        {"thresholds": Thresholds(fall=1, every=10.0)},
        id="help in time",
    ),
]


SHARED = Policy(service=SERVICE, order=(), serve="all")
ONE = {"policy": replace(SHARED, answers=1)}
SHARED_AUTO = {"policy": replace(SHARED, failback="auto", ack_after=0.0)}

# The same, where all good mirrors share the readers.
MUTATIONS += [
    pytest.param(milan_dies_held, without(not_held), "against a hold", {"policy": SHARED}, id="all: hold"),
    pytest.param(
        two_die_in_turn,
        without(dwelt_long_enough),
        "within the dwell",
        {"policy": replace(SHARED, dwell=20 * MINUTE)},
        id="all: dwell",
    ),
    pytest.param(
        all_die_in_turn,
        without(not_too_often),
        "a fourth time within a day",
        {"names": SIX, "policy": SHARED},
        id="all: too often",
    ),
    pytest.param(
        milan_comes_back_for_hours,
        without(leaving_was_agreed_to),
        "within hours of a move",
        {"policy": replace(SHARED, failback="auto")},
        id="all: moved lately",
    ),
    pytest.param(wrong_clock, without(our_clock_is_right), "clock was wrong", {"policy": SHARED}, id="all: clock"),
    pytest.param(
        a_hold_ends_as_milan_comes_back,
        without(judged_completely),
        "from milan, which served them well",
        {"policy": SHARED},
        id="all: recovering",
    ),
    pytest.param(drained_lyon, without(not_drained), "lyon, which is drained", ONE, id="all: drained"),
    pytest.param(all_die_and_one_comes_back, without(not_down), "only just come back", ONE, id="all: rise"),
    pytest.param(foreign_zone, without(zone_is_foreign), "changed the zone", {"policy": SHARED}, id="all: foreign"),
    pytest.param(open_plan, without(plan_is_open), "while a plan was open", {"policy": SHARED}, id="all: open plan"),
    pytest.param(milan_comes_back_old, without(caught_up), "before it caught up", SHARED_AUTO, id="all: catch-up"),
    pytest.param(milan_comes_back, without(stayed_well), "before it had settled", SHARED_AUTO, id="all: settle"),
    pytest.param(
        milan_comes_back,
        without(returning_is_automatic),
        "readers were taken from",
        {"policy": replace(SHARED, settle=600.0, ack_after=0.0)},
        id="all: by hand",
    ),
    pytest.param(
        lyon_is_behind, {"rules": replace(RULES, rank=in_configured_order)}, "oslo was better", ONE, id="all: class"
    ),
    pytest.param(
        lyon_dies_a_moment_later, {"look_again": False}, "lyon, which does not serve", ONE, id="all: the fresh look"
    ),
    pytest.param(
        cut_off_beside_lyon,
        {"thresholds": Thresholds(references=False)},
        "own network was in doubt",
        {"policy": SHARED},
        id="all: references",
    ),
    pytest.param(
        milan_dies,
        {"rules": replace(RULES, guards=(never,))},
        "waited too long",
        {"policy": SHARED, "thresholds": Thresholds(fall=1, every=10.0)},
        id="all: help in time",
    ),
    pytest.param(
        milan_recovers_slowly_while_lyon_is_gone,
        {"rules": replace(RULES, guards=(never,))},
        "waited too long",
        {"policy": SHARED, "thresholds": Thresholds(fall=2, rise=60, every=10.0)},
        id="all: nobody waits for who recovers",
    ),
]


@pytest.mark.parametrize(("story", "mutation", "promise", "setting"), MUTATIONS)
def test_each_promise_rests_on_its_rule(
    story: Story, mutation: dict[str, Any], promise: str, setting: dict[str, Any]
) -> None:
    """With all rules the story ends well; without one of them it breaks just the promise that the rule is for."""
    whole = World(**_copied(setting))
    whole.run(minutes=10)
    story(whole)

    lesser = World(**{**_copied(setting), **mutation})
    lesser.run(minutes=10)
    with pytest.raises(Broken, match=promise):
        story(lesser)


def all_die(world: World) -> None:
    world.lose(*world.names)
    world.run(minutes=10)


def leave_them_all(view: View, policy: Policy, serving: str, rules: Rules) -> Move:
    """Take everybody who is down out of the answer, whoever is left."""
    del rules
    return Move(
        service=policy.service,
        source=serving,
        target="",
        content=ContentClass.BAD,
        why=Why.FAILOVER,
        reason="all are down",
        facts=facts_of(view, policy),
        leaving=members(serving),
    )


def test_never_an_empty_answer_rests_on_leaving_all_where_nobody_is_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two things see to it: nobody is pruned for nobody, and a move that nobody stood a fresh look for is none."""
    kept = World(policy=SHARED)
    kept.run(minutes=10)
    all_die(kept)
    assert (kept.here, kept.moves) == (kept.names, [])

    monkeypatch.setattr(sharing, "nowhere", leave_them_all)
    looked = World(policy=SHARED)
    looked.run(minutes=10)
    all_die(looked)
    assert (looked.here, looked.rule) == (looked.names, "fresh")

    emptied = World(policy=SHARED, look_again=False)
    emptied.run(minutes=10)
    with pytest.raises(Broken, match="an empty answer"):
        all_die(emptied)


def _copied(setting: dict[str, Any]) -> dict[str, Any]:
    """Mirrors change in a story: each world gets its own."""
    mirrors = {name: replace(mirror) for name, mirror in setting.get("mirrors", {}).items()}
    return {**setting, "mirrors": mirrors}


def test_no_rule_is_without_a_story() -> None:
    """A new rule needs a story here, or, if it only speaks of how things are known, a row in the table of decisions."""
    told = {rule_ for param in MUTATIONS for rule_ in _taken_out(param.values[1].get("rules", RULES))}  # type: ignore[union-attr]
    # Without these nothing can be decided, and the fresh look stands behind them.
    others = {nobody_serves, judged_in_this_round, shows_its_class}

    assert told | others == {*RULES.standstill, *RULES.fitness, *RULES.failback, *RULES.guards}


def _taken_out(rules: Rules) -> set[Any]:
    every = {*RULES.standstill, *RULES.fitness, *RULES.failback, *RULES.guards}
    left = {*rules.standstill, *rules.fitness, *rules.failback, *rules.guards}
    return every - left if len(every - left) == 1 else set()
