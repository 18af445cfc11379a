"""Which rules stand between readers and a mistake?

What a decision about one service may rest on is a `View`, what it may be is a `Decision`, and between them
stand small functions in a table, `RULES`: what forbids any decision at all, who is fit to take readers, who is
tried first, when readers return, and what stops mirrord from moving by itself. Each can be taken out, to
see what it is for. `mirrord.decide` asks them. Pure, as all that decides.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from hashlib import sha256
from math import ldexp
from typing import Literal

from mirrord.health import ContentClass, FaultKind, Health, Standing, Verdict, lasting

DAY = 86400.0
"""Seconds."""

TOGETHER = "+"
"""Stands between the names of mirrors that share a service's readers: `milan+lyon`."""

Zone = Literal["new", "ours", "reverted", "foreign", "unread"]
"""How the zone stands to the journal (`mirrord.switches` compares; `unread`: no server answered)."""


@dataclass(frozen=True, slots=True)
class Held:
    """An operator's order to leave a service as it is, still in force."""

    reason: str
    by: str
    until: float | None = None
    """Wall clock; None is until somebody ends it."""

    def __str__(self) -> str:
        """Say it: `held by anna until 2026-11-21 22:00 UTC: moving house`."""
        until = f" until {datetime.fromtimestamp(self.until, UTC):%Y-%m-%d %H:%M} UTC" if self.until else ""
        return f"held by {self.by}{until}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How one service wants to be served; durations in seconds."""

    service: str
    order: tuple[str, ...]
    """Mirrors that may serve it, best first."""
    serve: Literal["first", "all"] = "first"
    """One mirror, in order of preference; or all good ones side by side, up to `answers`."""
    answers: int = 8
    """How many mirrors share the readers at most."""
    failback: Literal["manual", "auto"] = "manual"
    settle: float = 3600.0
    """How long a preferred mirror must have been well before readers return to it by themselves."""
    dwell: float = 120.0
    """The least time between two automatic moves; `dwell_after` tells how it grows."""
    longest_dwell: float = 3600.0
    """What it grows to at most."""
    moves_a_day: int = 3
    """After so many automatic moves within 24 h a person is asked."""
    ack_after: float = 6 * 3600.0
    """For so long after an automatic move, readers leave a mirror that serves them only with a person's yes."""
    on_revert: Literal["ask", "reassert"] = "ask"
    """What to do when the zone goes back to an older plan of ours: ask, or send the last plan again."""
    markers: frozenset[str] = frozenset()
    """Mirrors whose content is not ours (`content = "markers"`)."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Mirror -> place."""
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Mirror -> its configured addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything that a decision about one service may rest on."""

    now: float
    standing: Standing
    serving: str | None
    """The mirror whose addresses readers are given, or several (`members`); None for nobody of ours, or unknown."""
    zone: Zone = "ours"
    zone_text: str = ""
    """The zone's state in words, for people."""
    meant: str | None = None
    """Where our own last plan sent readers, by the journal; differs from `serving` where the zone went back."""
    held: Held | None = None
    drained: frozenset[str] = frozenset()
    moves: tuple[float, ...] = ()
    """How many seconds ago this service's automatic moves were, the latest first."""
    by_hand: bool = False
    """A person sent readers to where they are, not mirrord itself."""
    placed: float | None = None
    """How many seconds ago readers were last sent anywhere, by whomever."""
    pending: bool = False
    """A plan of ours is open: nobody knows yet whether it was carried out."""
    acked: frozenset[str] = frozenset()
    """Ids of questions that an operator has answered with yes."""
    trouble: str | None = None
    """Why the switch could not be worked now, where that is known: no credentials, say."""

    @property
    def last_move(self) -> float | None:
        """Seconds since this service's last automatic move; None if there never was one."""
        return self.moves[0] if self.moves else None


class Why(Enum):
    """What a move is for."""

    FAILOVER = "failover"
    FAILBACK = "failback"
    DRAIN = "drain"
    REASSERT = "reassert"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mirror that could serve, and the class of what it serves."""

    mirror: str
    content: ContentClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """Leave readers where they are."""

    service: str
    rule: str
    """The name of what decided, for machines: `well`, `held`, `dwell`..."""
    reason: str
    facts: tuple[str, ...] = ()
    alarm: bool = False
    """Somebody should look at this now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Send readers from `source` to `target`, once a fresh, full look at `target` was passed (`passes`)."""

    service: str
    source: str
    target: str
    content: ContentClass
    """The class of what the target serves."""
    why: Why
    reason: str
    facts: tuple[str, ...] = ()
    fallbacks: tuple[Candidate, ...] = ()
    """Who comes next if the fresh look fails (`next_after`)."""
    leaving: tuple[str, ...] = ()
    """Which mirrors readers leave, where several share them; empty: `source`."""
    joining: tuple[str, ...] = ()
    """Which mirrors they are newly sent to, where several share them."""
    agreed: bool = False
    """A person said yes to it."""

    @property
    def automatic(self) -> bool:
        """Whether mirrord moves by itself (counts for the dwell), not because a person said so."""
        return not self.agreed and self.why is not Why.DRAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Leave readers where they are and ask a person; `ack ID` answers yes."""

    service: str
    id: str
    """Made from the service, the rule and the facts: it lapses when they change."""
    rule: str
    question: str
    facts: tuple[str, ...]
    move: Move | None
    """What a yes carries out; None where nobody could take readers now."""
    alarm: bool = False


Decision = Stay | Move | Ask


Rule = Callable[[View, Policy], Stay | None]
"""Says why nothing at all is decided, or None."""


Fitness = Callable[[View, Policy, str], str | None]
"""Says why a mirror may not take readers, in words that follow its name, or None."""


Guard = Callable[[View, Policy, Move], Stay | Ask | None]
"""Says why mirrord does not make this move by itself, or asks whether it may, or None."""


Rank = Callable[[View, Policy, str], tuple[int, ...]]
"""The lowest is tried first."""


def members(serving: str | None) -> tuple[str, ...]:
    """Return the mirrors that a service's readers are sent to."""
    return tuple(serving.split(TOGETHER)) if serving else ()


def together(policy: Policy, mirrors: Collection[str]) -> str:
    """Name mirrors that share readers, in the service's order."""
    known = [mirror for mirror in policy.order if mirror in mirrors]
    return TOGETHER.join((*known, *sorted(set(mirrors).difference(known))))


def addresses_of(policy: Policy, target: str) -> tuple[str, ...]:
    """Return the configured addresses of one mirror, or of all that share readers."""
    return tuple(address for mirror in members(target) for address in policy.addresses.get(mirror, ()))


def health_of(view: View, policy: Policy, mirror: str) -> Health:
    """Return what is held true of a mirror for this service."""
    return view.standing.health(mirror, policy.service)


# -- what forbids any decision


def plan_is_open(view: View, policy: Policy) -> Stay | None:
    """An open plan may still be applied, later: nothing else of the service starts before it is known."""
    if not view.pending:
        return None
    reason = f"a plan of ours for {policy.service} is open: whether it was carried out is not known yet"
    return stay(view, policy, "open-plan", reason, alarm=True)


def zone_is_foreign(view: View, policy: Policy) -> Stay | None:
    """Somebody else changed the zone: they may have had their reasons."""
    if view.zone != "foreign":
        return None
    reason = (
        f"somebody else changed the zone of {policy.service}{in_brackets(view.zone_text)};"
        f" `mirrord switch {policy.service} [MIRROR] --adopt` takes it as it is and may move readers in one step"
    )
    return stay(view, policy, "foreign", reason, alarm=True)


def nobody_serves(view: View, policy: Policy) -> Stay | None:
    """Where readers are sent is not known: whether they are well served cannot be known either."""
    if view.serving is not None:
        return None
    reason = f"nobody knows which mirror serves {policy.service}{in_brackets(view.zone_text)}"
    if view.zone == "ours":
        reason += f"; `mirrord switch {policy.service} MIRROR` sends readers to one"
    return stay(view, policy, "nobody", reason, alarm=True)


# -- who is fit to take readers


def not_drained(view: View, policy: Policy, mirror: str) -> str | None:
    """An operator took it out of consideration."""
    del policy
    return "is drained" if mirror in view.drained else None


def not_down(view: View, policy: Policy, mirror: str) -> str | None:
    """It is up, or down for nothing worse than staleness."""
    health = health_of(view, policy, mirror)
    if health.verdict is Verdict.UNKNOWN:
        return f"is not judged{cause_of(health)}" if health.cause else "was not looked at often enough yet"
    if health.verdict is Verdict.DOWN and not _only_stale(health):
        return f"is down{cause_of(health)}"
    return None


def judged_in_this_round(view: View, policy: Policy, mirror: str) -> str | None:
    """What is compared was seen in one and the same round."""
    return None if health_of(view, policy, mirror).judged else "was not judged in the latest round"


def shows_its_class(view: View, policy: Policy, mirror: str) -> str | None:
    """What it serves is known, and not bad."""
    content = health_of(view, policy, mirror).content
    return "does not show what it serves" if content in (None, ContentClass.BAD) else None


def stale_only_for_worse(view: View, policy: Policy, mirror: str) -> str | None:
    """Pages of yesterday are better than none, but not better than other pages of yesterday."""
    if health_of(view, policy, mirror).content is not ContentClass.STALE or view.serving is None:
        return None
    serving = [health_of(view, policy, member) for member in members(view.serving)]
    if all(s.verdict is Verdict.DOWN and not _only_stale(s) and not s.outdated for s in serving):
        return None
    return "serves outdated content, which is better than nothing only"


def _only_stale(health: Health) -> bool:
    return health.cause is not None and health.cause.kind is FaultKind.STALE


def by_class_then_order(view: View, policy: Policy, mirror: str) -> tuple[int, ...]:
    """Current, settling, behind, unverified, stale; then as configured; among stale ones the newest."""
    health = health_of(view, policy, mirror)
    content = health.content or ContentClass.BAD
    serial = health.snapshot.serial if health.snapshot and content is ContentClass.STALE else 0
    return (content.rank, -serial, policy.order.index(mirror))


# -- when readers return to a preferred mirror by themselves


def returning_is_automatic(view: View, policy: Policy, mirror: str) -> str | None:
    """By hand unless configured otherwise."""
    del view
    hand = f"`mirrord switch {policy.service} {mirror}`"
    return f"gets its readers back by hand: {hand}" if policy.failback == "manual" else None


def no_person_chose_otherwise(view: View, policy: Policy, mirror: str) -> str | None:
    """Where a person sent readers to one mirror, a person returns them."""
    if not view.by_hand or policy.serve == "all":
        return None
    hand = f"`mirrord switch {policy.service} {mirror}`"
    return f"gets its readers back by hand, for a person sent them to {view.serving}: {hand}"


def catch_up_can_be_proven(view: View, policy: Policy, mirror: str) -> str | None:
    """Whether a mirror whose content is not ours has caught up is for a person to see."""
    del view
    hand = f"`mirrord switch {policy.service} {mirror}`"
    return f"cannot prove that it caught up, so by hand: {hand}" if mirror in policy.markers else None


def caught_up(view: View, policy: Policy, mirror: str) -> str | None:
    """It serves the wanted snapshot, where it is for us to publish there."""
    current = health_of(view, policy, mirror).content is ContentClass.CURRENT
    return None if current or mirror in policy.markers else "has not caught up with the wanted snapshot"


def stayed_well(view: View, policy: Policy, mirror: str) -> str | None:
    """Every look at it was good for `settle`."""
    since = health_of(view, policy, mirror).well_since
    well = 0.0 if since is None else view.now - since
    if since is not None and well >= policy.settle:
        return None
    return f"has been well for {lasting(well)} of the {lasting(policy.settle)} that it must settle"


# -- what stops mirrord from moving by itself


def our_clock_is_right(view: View, policy: Policy, move: Move) -> Stay | None:
    """With a wrong clock certificates cannot be judged, and updates are refused."""
    clock = view.standing.clock
    if clock is None:
        return None
    reason = f"{move.reason}, but {clock}: until it is set right nothing moves by itself"
    return stay(view, policy, "clock", reason, alarm=True)


def judged_completely(view: View, policy: Policy, move: Move) -> Stay | None:
    """The latest round looked at every address of the serving mirror, and saw nothing good."""
    if move.why is not Why.FAILOVER:
        return None
    for mirror in move.leaving or (move.source,):
        health = health_of(view, policy, mirror)
        if health.failing or mirror in view.drained:
            continue
        if health.judged:
            return stay(view, policy, "recovering", f"{mirror} is down, but the latest look at it was good")
        reason = f"{mirror} is down, but the latest round did not judge it completely"
        return stay(view, policy, "incomplete", reason)
    return None


def looked_at_since_readers_came(view: View, policy: Policy, move: Move) -> Stay | None:
    """They were sent there after a fresh look: what was seen before that look does not send them away again."""
    began = view.standing.began
    if move.why is not Why.FAILOVER or view.placed is None or began is None or view.now - began <= view.placed:
        return None
    reason = f"{move.reason}, but readers came {lasting(view.placed)} ago, after the latest round began: the next tells"
    return stay(view, policy, "just-came", reason)


def not_held(view: View, policy: Policy, move: Move) -> Stay | None:
    """A hold stops automatic moves, not judgement."""
    if view.held is None:
        return None
    reason = f"{move.reason}, but {policy.service} is {view.held}; `mirrord unhold {policy.service}` ends it"
    return stay(view, policy, "held", reason, alarm=True)


def dwelt_long_enough(view: View, policy: Policy, move: Move) -> Stay | None:
    """Moving twice in a row is worse than one slow mirror, and flapping damps itself."""
    left = dwell_left(view, policy)
    if not left:
        return None
    reason = f"{move.reason}, but readers were moved {lasting(view.moves[0])} ago: not again for {lasting(left)}"
    return stay(view, policy, "dwell", reason)


def dwell_after(policy: Policy, moves: tuple[float, ...]) -> float:
    """Return the least time, in seconds, between the latest of these automatic moves and the next.

    The configured dwell after the first, twice as long after each further one, up to a limit; every day without a
    move halves it again, down to what is configured. `moves` are ages in seconds, the latest first.
    """
    longest = max(policy.longest_dwell, policy.dwell)
    dwell, before = policy.dwell / 2, 0.0
    for age in reversed(moves):
        dwell = min(2 * _halved(dwell, before - age, policy.dwell / 2), longest)
        before = age
    return _halved(dwell, moves[0], policy.dwell) if moves else policy.dwell


def _halved(dwell: float, seconds: float, least: float) -> float:
    return max(ldexp(dwell, -int(max(seconds, 0.0) // DAY)), least)


def dwell_left(view: View, policy: Policy) -> float:
    """Return for how many seconds more nothing moves by itself; 0.0 where the dwell is over."""
    if not view.moves:
        return 0.0
    return max(dwell_after(policy, view.moves) - view.moves[0], 0.0)


def not_too_often(view: View, policy: Policy, move: Move) -> Ask | None:
    """What was moved again and again today is not mended by moving once more: somebody should look."""
    today = sum(age < DAY for age in view.moves)
    if today < policy.moves_a_day:
        return None
    question = (
        f"{move.reason}, but readers of {policy.service} were moved {today} times within 24 hours by mirrord itself:"
        f" move them to {move.target} all the same?"
    )
    facts = (f"{move.source} serves", f"{move.target} would take its readers: {move.why.value}", "moved often today")
    return ask(policy, "too-often", question, facts, move, alarm=True)


def leaving_was_agreed_to(view: View, policy: Policy, move: Move) -> Ask | None:
    """Soon after an automatic move, readers leave a mirror that serves them only where a person has looked."""
    if move.why is not Why.FAILBACK or not view.moves or view.moves[0] >= policy.ack_after:
        return None
    question = (
        f"{move.reason}; readers of {policy.service} were moved {lasting(view.moves[0])} ago by mirrord itself: move"
        f" them from {move.source} to {move.target} already?"
    )
    facts = (f"{move.source} serves", f"{move.target} would take its readers: {move.why.value}", "moved lately")
    return ask(policy, "moved-lately", question, facts, move)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All rules, in the order in which they are asked."""

    standstill: tuple[Rule, ...] = (plan_is_open, zone_is_foreign, nobody_serves)
    fitness: tuple[Fitness, ...] = (
        not_drained,
        not_down,
        judged_in_this_round,
        shows_its_class,
        stale_only_for_worse,
    )
    failback: tuple[Fitness, ...] = (
        catch_up_can_be_proven,
        caught_up,
        returning_is_automatic,
        no_person_chose_otherwise,
        stayed_well,
    )
    guards: tuple[Guard, ...] = (
        our_clock_is_right,
        judged_completely,
        looked_at_since_readers_came,
        not_held,
        dwelt_long_enough,
        leaving_was_agreed_to,
        not_too_often,
    )
    rank: Rank = by_class_then_order

    def without(self, rule: object) -> "Rules":
        """Return the rules less one: what goes wrong without it shows what it is for. Raises ValueError."""
        if rule not in (*self.standstill, *self.fitness, *self.failback, *self.guards):
            raise ValueError(f"there is no such rule: {rule}")
        return Rules(
            standstill=tuple(r for r in self.standstill if r is not rule),
            fitness=tuple(r for r in self.fitness if r is not rule),
            failback=tuple(r for r in self.failback if r is not rule),
            guards=tuple(r for r in self.guards if r is not rule),
            rank=self.rank,
        )


RULES = Rules()


# -- building decisions


def stay(view: View, policy: Policy, rule: str, reason: str, *, alarm: bool = False) -> Stay:
    """Leave readers where they are, with the facts of the moment."""
    return Stay(service=policy.service, rule=rule, reason=reason, facts=facts_of(view, policy), alarm=alarm)


def ask(
    policy: Policy, rule: str, question: str, facts: tuple[str, ...], move: Move | None, *, alarm: bool = False
) -> Ask:
    """Ask a person; the question's id is made from the service, the rule and the facts."""
    return Ask(
        service=policy.service,
        id=sha256(json.dumps([policy.service, rule, *facts]).encode()).hexdigest()[:8],
        rule=rule,
        question=question,
        facts=facts,
        move=move,
        alarm=alarm,
    )


def facts_of(view: View, policy: Policy) -> tuple[str, ...]:
    """Return what a decision rests on: a sentence on each mirror, in the service's order."""
    here = members(view.serving)
    mirrors = dict.fromkeys((*policy.order, *here))
    return tuple([_describe(view, policy, mirror, serves=mirror in here) for mirror in mirrors])


def _describe(view: View, policy: Policy, mirror: str, *, serves: bool) -> str:
    health = health_of(view, policy, mirror)
    said = f"{mirror}{' (serves)' if serves else ''}: {health.verdict.value}"
    if health.verdict is not Verdict.UNKNOWN:
        said += f" for {lasting(view.now - health.since)}"
    if health.content is not None:
        said += f", {health.content.value}"
    if health.snapshot is not None:
        said += f", snapshot {health.snapshot.serial}"
    if mirror in view.drained:
        said += ", drained"
    if health.degraded:
        said += f", degraded ({'; '.join(f'{a}: {fault.text}' for a, fault in health.degraded.items())})"
    return said + cause_of(health)


def in_brackets(text: str) -> str:
    """Return a text as an aside, or nothing."""
    return f" ({text})" if text else ""


def cause_of(health: Health) -> str:
    """Return why a mirror is not up, to follow that sentence, or nothing."""
    return f": {health.cause.text}" if health.cause else ""
