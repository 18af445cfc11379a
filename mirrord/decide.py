"""Choose, for one service, between leaving readers where they are, moving them, and asking a person.

Everything that can make an outage worse is decided here, from values: a `View` of what is held true
and what the operators ordered, and the service's `Policy`. The answer carries its reason and the facts
it rests on; operators' questions (may I switch by hand, could mirrord help now, why is it so) are answered from
the same rules. This module opens no socket, reads no clock and logs nothing: `mirrord.health` judges,
`mirrord.rules` holds the rules, `mirrord.daemon` carries out, `mirrord.switches` writes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mirrord import sharing
from mirrord.health import ContentClass, Fault, FaultKind, Fresh, Health, Verdict, family, lasting
from mirrord.heirs import ask_unless_agreed, candidates, move_to, nowhere, preferred, unless_agreed, why_unfit
from mirrord.rules import (
    RULES,
    Ask,
    Candidate,
    Decision,
    Held,
    Move,
    Policy,
    Rules,
    Stay,
    View,
    Why,
    Zone,
    cause_of,
    dwell_left,
    facts_of,
    health_of,
    in_brackets,
    members,
    stay,
)

__all__ = [
    "RULES",
    "Ask",
    "Brake",
    "Candidate",
    "Decision",
    "Held",
    "Move",
    "Permission",
    "Policy",
    "Protection",
    "Rules",
    "Stay",
    "View",
    "Why",
    "Zone",
    "decide",
    "explain",
    "may_switch",
    "next_after",
    "passes",
    "planned_drain",
    "protected",
]


def decide(view: View, policy: Policy, rules: Rules = RULES) -> Decision:
    """Choose between leaving readers where they are, moving them, and asking."""
    for standstill in rules.standstill:
        if (still := standstill(view, policy)) is not None:
            return still
    decision = _propose(view, policy, rules)
    if isinstance(decision, Move) and decision.automatic:
        return _guarded(view, policy, decision, rules)
    return decision


def _guarded(view: View, policy: Policy, move: Move, rules: Rules) -> Decision:
    """Hold a move that nobody has agreed to against all that stops mirrord from moving by itself."""
    for guard in rules.guards:
        found = guard(view, policy, move)
        if isinstance(found, Stay):
            return found
        if isinstance(found, Ask) and not move.agreed:  # one yes to a move is enough, however many ask for it
            answer = unless_agreed(view, found)
            if isinstance(answer, Ask):
                return answer
            move = answer
    return move


def _propose(view: View, policy: Policy, rules: Rules) -> Decision:
    """Say what the state of the mirrors calls for, were nothing in the way of acting by ourselves."""
    assert view.serving is not None
    if view.zone == "reverted":
        return _reassert(view, policy, view.serving, rules)
    if policy.serve == "all":
        return sharing.share(view, policy, view.serving, rules)
    health = health_of(view, policy, view.serving)
    if health.verdict is Verdict.DOWN:
        return _fail_over(view, policy, view.serving, rules)
    if view.serving in view.drained:
        return _ask_to_drain(view, policy, view.serving, rules)
    return _fail_back(view, policy, view.serving, rules) or _stay_put(view, policy, view.serving, rules)


def _fail_over(view: View, policy: Policy, source: str, rules: Rules) -> Move | Stay:
    heirs = candidates(view, policy, rules)
    if not heirs:
        return nowhere(view, policy, source, rules)
    reason = f"{source} is down{cause_of(health_of(view, policy, source))}"
    return move_to(view, policy, source, heirs, Why.FAILOVER, reason)


def _ask_to_drain(view: View, policy: Policy, source: str, rules: Rules) -> Decision:
    move = _drain(view, policy, source, rules)
    if isinstance(move, Stay):
        return move
    question = f"{source} is drained and still serves {policy.service}: move readers to {move.target}?"
    facts = (f"{source} is drained", f"{source} serves", f"{move.target} is the best of the others")
    return ask_unless_agreed(view, policy, "drained", question, facts, move)


def _drain(view: View, policy: Policy, source: str, rules: Rules) -> Move | Stay:
    heirs = candidates(view, policy, rules)
    if heirs:
        return move_to(view, policy, source, heirs, Why.DRAIN, f"{source} is drained")
    why = [f"{m} {why_unfit(view, policy, m, rules.fitness)}" for m in policy.order if m != source]
    reason = f"{source} is drained and serves on, for nobody else can: {'; '.join(why) or 'there is no other mirror'}"
    return stay(view, policy, "drained", reason, alarm=True)


def _reassert(view: View, policy: Policy, source: str, rules: Rules) -> Decision:
    """The name server went back to an older plan of ours: ask, loudly."""
    meant = view.meant or source
    move = _as_meant(view, policy, source, meant, rules)
    question = (
        f"the zone of {policy.service} went back to an older plan of ours{in_brackets(view.zone_text)}: readers are"
    )
    question += f" sent to {source}, where our last plan says {meant}"
    facts = (f"the zone sends readers to {source}", f"our last plan says {meant}")
    if move is None:
        question += "; nobody else could take them now: look at the name server"
        return ask_unless_agreed(view, policy, "reverted", question, (*facts, "nobody can take readers"), None)
    if policy.on_revert == "reassert" and move.target == meant:
        # The last plan or nothing: whoever else could take readers from `source` was not planned, nor is that one
        # judged to be down.
        reason = f"the zone went back to an older plan of ours{in_brackets(view.zone_text)}"
        return replace(move, reason=reason, fallbacks=())
    question += f"; send them to {move.target}?"
    return ask_unless_agreed(view, policy, "reverted", question, (*facts, f"{move.target} would take them"), move)


def _as_meant(view: View, policy: Policy, source: str, meant: str, rules: Rules) -> Move | None:
    """Return the move to where our last plan sent readers, or, if that is not fit, to the best of the others."""
    if policy.serve == "all":
        return sharing.restore(view, policy, source, meant, rules)
    heirs = candidates(view, policy, rules)
    if meant == source:
        fit = source in policy.order and why_unfit(view, policy, source, rules.fitness) is None
        itself = Candidate(source, health_of(view, policy, source).content or ContentClass.BAD)
        heirs = (itself, *heirs) if fit else heirs
    else:
        heirs = tuple(sorted(heirs, key=lambda c: (c.mirror != meant, heirs.index(c))))
    reason = "an operator says that our last plan holds, not the older one that the zone went back to"
    return move_to(view, policy, source, heirs, Why.REASSERT, reason) if heirs else None


def _fail_back(view: View, policy: Policy, source: str, rules: Rules) -> Move | None:
    """Return to a preferred mirror, if that is wanted without a person and it is fit for it."""
    for mirror in preferred(policy, source):
        if why_unfit(view, policy, mirror, (*rules.fitness, *rules.failback)) is None:
            content = health_of(view, policy, mirror).content or ContentClass.BAD
            well = health_of(view, policy, mirror).well_since or view.now
            reason = f"{mirror} is preferred, caught up, and has been well for {lasting(view.now - well)}"
            return move_to(view, policy, source, (Candidate(mirror, content),), Why.FAILBACK, reason)
    return None


def _stay_put(view: View, policy: Policy, source: str, rules: Rules) -> Stay:
    health = health_of(view, policy, source)
    if health.verdict is Verdict.UNKNOWN:
        why = health.cause.text if health.cause else "it was not looked at often enough yet"
        gone = health.cause is not None and health.cause.kind is FaultKind.NETWORK
        rule = "no-network" if gone else "unjudged"
        return stay(view, policy, rule, f"{source} serves and is not judged now: {why}", alarm=gone)
    reason = f"{source} serves and is up"
    if health.degraded:
        reason += f", less {', '.join(health.degraded)}"
    for mirror in preferred(policy, source):
        reason += f"; {mirror} {why_unfit(view, policy, mirror, (*rules.fitness, *rules.failback))}"
    return stay(view, policy, "well", reason)


# -- carrying a decision out


def passes(move: Move, fresh: Fresh) -> str | None:
    """Say why the fresh look at its target forbids a move, or None where it may go ahead."""
    if fresh.mirror != move.target or fresh.service != move.service:
        return f"the fresh look was at {fresh.mirror} for {fresh.service}"
    if not fresh.ok or fresh.content is None:
        faults = [f"{address}: {fault.text}" for address, fault in {**fresh.unjudged, **fresh.bad}.items()]
        return f"the fresh look failed: {'; '.join(faults) or 'it has no address'}"
    if move.why is Why.FAILBACK and fresh.content.rank > move.content.rank:
        return f"it is {fresh.content.value} in the fresh look"
    worse = fresh.content.rank > max(move.content.rank, ContentClass.SETTLING.rank)
    better_left = any(c.content.rank < fresh.content.rank for c in move.fallbacks)
    if worse and (better_left or fresh.content is ContentClass.STALE):
        return f"it was {move.content.value} and is {fresh.content.value} in the fresh look"
    return None


def next_after(move: Move, failed: Mapping[str, str]) -> Move | Stay:
    """Return the same move to the next candidate that is not in `failed` (mirror -> why), or Stay if none is left."""
    left = [candidate for candidate in move.fallbacks if candidate.mirror not in failed]
    tried = "; ".join(f"{mirror}: {why}" for mirror, why in failed.items())
    if not left:
        reason = f"{move.reason}, but nobody passed a fresh look: {tried}"
        return Stay(service=move.service, rule="fresh", reason=reason, facts=move.facts, alarm=True)
    return replace(
        move, target=left[0].mirror, content=left[0].content, fallbacks=tuple(left[1:]), facts=(*move.facts, tried)
    )


def planned_drain(view: View, policy: Policy, rules: Rules = RULES) -> Move | Stay:
    """Return the move that draining the serving mirror calls for, as an operator's order (a hold does not stop it)."""
    for standstill in rules.standstill:
        if (still := standstill(view, policy)) is not None:
            return still
    assert view.serving is not None
    if view.zone == "reverted":
        return stay(
            view, policy, "reverted", f"the zone went back to an older plan of ours{in_brackets(view.zone_text)}"
        )
    if policy.serve == "all":
        return sharing.without(
            view, policy, view.serving, [m for m in members(view.serving) if m in view.drained], rules
        )
    return _drain(view, policy, view.serving, rules)


# -- what operators ask

_BRAKES = {
    FaultKind.TLS: "tls",
    FaultKind.CLOCK: "tls",
    FaultKind.CONTENT: "bad-content",
    FaultKind.MARKER: "bad-content",
    FaultKind.NETWORK: "no-network",
}
"""Every other fault of a target is `down`."""

LIFTABLE = ("down", "stale", "bad-content", "tls", "foreign", "no-network")
"""Brakes that `switch --override NAME` lifts; `open-plan`, `empty-answer` and `not-configured` never are."""


@dataclass(frozen=True, slots=True)
class Brake:
    """Why a switch by hand may not go ahead."""

    name: str
    text: str

    @property
    def liftable(self) -> bool:
        """Whether `--override NAME` lifts it."""
        return self.name in LIFTABLE


@dataclass(frozen=True, slots=True)
class Permission:
    """What stands between an operator and a switch by hand."""

    brakes: tuple[Brake, ...]
    """Still holding, after the one that was overridden."""
    lifted: Brake | None
    """The one that was overridden: ask twice, write it down."""
    remarks: tuple[str, ...]
    """What has to be said and asked before going ahead: a hold in force, catch-up that cannot be proven."""

    @property
    def ok(self) -> bool:
        """Whether nothing holds any more."""
        return not self.brakes


def may_switch(
    view: View,
    policy: Policy,
    target: str,
    fresh: Fresh | None,
    *,
    override: str | None = None,
    adopt: bool = False,
    rules: Rules = RULES,
) -> Permission:
    """Tell whether an operator may move readers to `target`.

    `fresh` is what a look just found; None only to ask beforehand, by what is held true. `override` names the one
    brake to lift; `adopt` takes the zone as it stands, whoever wrote it.
    """
    brakes = (
        *_brakes_of_the_plan(view, policy, target, adopt=adopt),
        *_brakes_of_the_target(view, policy, target, fresh, rules),
    )
    lifted = next((brake for brake in brakes if brake.name == override and brake.liftable), None)
    return Permission(
        brakes=tuple(brake for brake in brakes if brake is not lifted),
        lifted=lifted,
        remarks=tuple(_remarks(view, policy, target, fresh)),
    )


def _brakes_of_the_plan(view: View, policy: Policy, target: str, *, adopt: bool) -> list[Brake]:
    found = []
    if view.pending:
        found.append(Brake("open-plan", f"a plan of ours for {policy.service} is open; it has to be settled first"))
    if target not in policy.order:
        found.append(Brake("not-configured", f"{target} is not in the order of {policy.service}"))
    elif target in policy.addresses and not policy.addresses[target]:
        found.append(Brake("empty-answer", f"{target} has no address: readers would get an empty answer"))
    if view.zone in ("foreign", "reverted") and not adopt:
        whose = "somebody else changed" if view.zone == "foreign" else "an older plan of ours stands in"
        text = f"{whose} the zone of {policy.service}{in_brackets(view.zone_text)}; --adopt takes it as it is"
        found.append(Brake("foreign", text))
    return found


def _brakes_of_the_target(view: View, policy: Policy, target: str, fresh: Fresh | None, rules: Rules) -> list[Brake]:
    if fresh is None:
        return _brakes_held_true(view, policy, target, rules)
    if fresh.ok:
        stale = fresh.content is ContentClass.STALE and not _stale_would_do(view, policy, target, rules)
        return [_too_stale(target)] if stale else []
    everything = {**fresh.bad, **fresh.unjudged}
    if not everything:
        return [Brake("empty-answer", f"{target} has no address: readers would get an empty answer")]
    counted = {a: f for a, f in everything.items() if family(a) == 4} or everything
    named = {_brake_of(fault): f"{target} at {address}: {fault.text}" for address, fault in reversed(counted.items())}
    return [Brake(name, text) for name, text in named.items()]


def _brakes_held_true(view: View, policy: Policy, target: str, rules: Rules) -> list[Brake]:
    health = health_of(view, policy, target)
    if health.verdict is Verdict.UP or health.cause is None:
        return []
    if health.cause.kind is FaultKind.STALE:
        return [] if _stale_would_do(view, policy, target, rules) else [_too_stale(target)]
    return [Brake(_brake_of(health.cause), f"{target} is {health.verdict.value}: {health.cause.text}")]


def _brake_of(fault: Fault) -> str:
    return _BRAKES.get(fault.kind, "down")


def _too_stale(target: str) -> Brake:
    return Brake("stale", f"{target} serves outdated content, and readers would be no better off")


def _stale_would_do(view: View, policy: Policy, target: str, rules: Rules) -> bool:
    """Whether the rules would themselves send readers to outdated content, for want of anything better."""
    fit = candidates(view, policy, rules)
    best = fit[0].content if fit else None
    return best is ContentClass.STALE and any(c.mirror == target for c in fit)


def _remarks(view: View, policy: Policy, target: str, fresh: Fresh | None) -> list[str]:
    said = []
    if view.held is not None:
        said.append(f"{policy.service} is {view.held}; a switch by hand goes ahead all the same")
    if target in view.drained:
        said.append(f"{target} is drained")
    if target in policy.markers:
        said.append(f"the content of {target} is not published by mirrord: that it caught up cannot be proven")
    if fresh is not None and fresh.content is ContentClass.BEHIND and fresh.snapshot is not None:
        wanted = view.standing.wanted
        newest = f", the newest is {wanted.serial}" if wanted else ""
        said.append(f"{target} is behind: it serves snapshot {fresh.snapshot.serial}{newest}")
    health = health_of(view, policy, target)
    if fresh is not None and fresh.ok and health.verdict is Verdict.DOWN and fresh.content is not ContentClass.STALE:
        said.append(f"{target} was just found well, but is judged down{cause_of(health)}")
    if fresh is not None and fresh.ok and fresh.bad:
        said.append(f"{', '.join(fresh.bad)} of {target} would be left out: {next(iter(fresh.bad.values())).text}")
    if view.standing.clock is not None:
        said.append(view.standing.clock)
    return said


def _supposing(mirror: str, why: str) -> str:
    """Take out of a reason what was only supposed: read at night, "milan is down" would be believed."""
    return why.removeprefix(f"{mirror} is down, but ")


@dataclass(frozen=True, slots=True)
class Protection:
    """Whether mirrord could help if the serving mirror died now."""

    ok: bool
    why: str


def protected(view: View, policy: Policy, rules: Rules = RULES) -> Protection:
    """Tell whether mirrord could help right now, and if not, why not."""
    why = _cannot_act(view, policy, rules)
    if why is not None:
        return Protection(ok=False, why=why)
    here = members(view.serving)
    last = ""
    if any(health_of(view, policy, mirror).verdict is Verdict.DOWN for mirror in here):
        decision = decide(view, policy, rules)
        return Protection(ok=isinstance(decision, Move), why=reason_of(decision))
    for mirror in here:
        decision = if_it_went_down(view, policy, mirror, rules)
        if not isinstance(decision, Move):
            why = decision.question if isinstance(decision, Ask) else reason_of(decision)
            return Protection(ok=False, why=f"readers would stay if {mirror} went down: {_supposing(mirror, why)}")
        place = policy.places.get(mirror)
        heirs = (*members(decision.target), *(c.mirror for c in decision.fallbacks))
        if place and all(policy.places.get(heir) == place for heir in heirs):
            return Protection(ok=False, why=f"whoever could take the readers of {mirror} stands where it does: {place}")
        last = f"if {mirror} went down, {decision.target} ({decision.content.value}) would take its readers"
    several = f"if one of {' and '.join(here)} went down, the others would take its readers"
    return Protection(ok=True, why=last if len(here) == 1 else several)


def _cannot_act(view: View, policy: Policy, rules: Rules) -> str | None:
    """Say why mirrord could not do anything at all for this service now."""
    if view.trouble is not None:
        return view.trouble
    if view.zone == "unread":
        return f"the zone of {policy.service} cannot be read{in_brackets(view.zone_text)}"
    if view.serving is None or view.zone in ("foreign", "reverted") or view.pending:
        return reason_of(decide(view, policy, rules))
    healths = [health_of(view, policy, mirror) for mirror in members(view.serving)]
    if all(health.verdict is Verdict.UNKNOWN for health in healths):
        why = healths[0].cause.text if healths[0].cause else "it was not looked at often enough yet"
        return f"{view.serving} serves {policy.service}, and cannot be judged: {why}"
    return None


def if_it_went_down(view: View, policy: Policy, mirror: str, rules: Rules = RULES) -> Decision:
    """Decide as if a serving mirror had just been judged down, and the dwell were over."""
    down = Health(verdict=Verdict.DOWN, since=view.now, judged=True, failing=True)
    standing = view.standing.supposing(mirror, policy.service, down)
    left = dwell_left(view, policy)
    return decide(replace(view, standing=standing, moves=tuple(age + left for age in view.moves)), policy, rules)


def who_would_take_over(view: View, policy: Policy, mirror: str, rules: Rules = RULES) -> Move | Stay | Ask:
    """Decide so, and as if a person, where one is asked, had said yes to the move; Ask is left where there is none."""
    decision = if_it_went_down(view, policy, mirror, rules)
    if isinstance(decision, Ask) and decision.move is not None:
        return replace(decision.move, agreed=True)
    return decision


def reason_of(decision: Decision) -> str:
    """Return a decision's reason, or its question, as one sentence without a full stop."""
    match decision:
        case Stay():
            return decision.reason
        case Move():
            return f"from {decision.source} to {decision.target}, for {decision.reason}"
        case Ask():
            return f"{decision.question} (`mirrord ack {decision.id}`)"


def explain(view: View, policy: Policy, rules: Rules = RULES) -> list[str]:
    """Say why readers are where they are, and what would have to happen for them to move; plain sentences."""
    here = members(view.serving)
    serves = f"{' and '.join(here)} {'serves' if len(here) == 1 else 'share the readers of'} {policy.service}"
    where = serves if here else f"Nobody knows who serves {policy.service}"
    decision = decide(view, policy, rules)
    said = [
        f"{where}{in_brackets(view.zone_text)}.",
        *(f"{fact}." for fact in facts_of(view, policy)),
    ]
    verb = {Stay: "Readers stay", Move: "Readers move", Ask: "A person is asked"}[type(decision)]
    said.append(f"{verb}: {reason_of(decision)}.")
    said += _in_the_way(view, policy, decision)
    if isinstance(decision, Stay) and not any(health_of(view, policy, m).verdict is Verdict.DOWN for m in here):
        for mirror in here:
            said += _what_would_move(view, policy, mirror, rules)
        said += _who_stays_out(view, policy, rules)
    return said


def _in_the_way(view: View, policy: Policy, decision: Decision) -> list[str]:
    """Say what else would stop an automatic move now, beyond what has decided."""
    said = []
    decided = decision.rule if isinstance(decision, Stay) else ""
    if view.held is not None and decided != "held":
        said.append(f"No automatic move: {policy.service} is {view.held}.")
    if view.standing.clock is not None and decided != "clock":
        said.append(f"No automatic move: {view.standing.clock}.")
    if (left := dwell_left(view, policy)) and decided != "dwell":
        said.append(f"No automatic move for {lasting(left)}: readers were moved {lasting(view.moves[0])} ago.")
    if view.trouble is not None:
        said.append(f"No move: {view.trouble}.")
    return said


def _what_would_move(view: View, policy: Policy, source: str, rules: Rules) -> list[str]:
    after = if_it_went_down(view, policy, source, rules)
    if isinstance(after, Move):
        heirs = [f"{c.mirror} ({c.content.value})" for c in after.fallbacks]
        then = f", then {', '.join(heirs)}" if heirs else ""
        where = f"{after.target} ({after.content.value}){then}, once a fresh look found it well"
        return [f"If {source} is judged down, readers move to {where}."]
    if isinstance(after, Stay):
        return [f"If {source} is judged down, readers stay all the same: {_supposing(source, after.reason)}."]
    return [f"If {source} is judged down, a person is asked: {_supposing(source, after.question)}"]


def _who_stays_out(view: View, policy: Policy, rules: Rules) -> list[str]:
    """Say of each mirror that readers could return to why they do not."""
    here = members(view.serving)
    out = [m for m in policy.order if m not in here] if policy.serve == "all" else preferred(policy, view.serving or "")
    whys = {mirror: why_unfit(view, policy, mirror, (*rules.fitness, *rules.failback)) for mirror in out if here}
    return [f"Readers do not return to {mirror} yet: it {why}." for mirror, why in whys.items() if why is not None]
