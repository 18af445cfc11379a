"""Which mirrors share a service's readers, where all good ones do?

With `serve = "all"` every good mirror is in the answer, up to `answers`. Health only prunes: who is down leaves, as
long as one stays that is fit; who is down together with all others stays, for an empty answer helps nobody. Who is
well again comes back as a preferred mirror does elsewhere, by hand or after it settled. `mirrord.decide` asks here, and
holds what is proposed against everything that stops an automatic move. Pure, as all that decides.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from mirrord.health import ContentClass, Fresh, Verdict, lasting
from mirrord.heirs import ask_unless_agreed, candidates, nowhere, why_unfit
from mirrord.rules import (
    Candidate,
    Decision,
    Move,
    Policy,
    Rules,
    Stay,
    View,
    Why,
    cause_of,
    facts_of,
    health_of,
    members,
    stay,
    together,
)


def share(view: View, policy: Policy, serving: str, rules: Rules) -> Decision:
    """Say what the state of the mirrors calls for, were nothing in the way of acting by ourselves."""
    here = members(serving)
    down = [mirror for mirror in here if health_of(view, policy, mirror).verdict is Verdict.DOWN]
    if down:
        return _prune(view, policy, serving, down, rules)
    drained = [mirror for mirror in here if mirror in view.drained]
    if drained:
        return _ask_to_drain(view, policy, serving, drained, rules)
    return _take_back(view, policy, serving, rules) or _as_they_are(view, policy, serving, rules)


def _prune(view: View, policy: Policy, serving: str, down: Collection[str], rules: Rules) -> Move | Stay:
    """Leave those that are down: to those that stay if one of them is fit, else to the best of the others as well."""
    # Who is down and may be recovering leaves later: it must not keep those in the answer that are gone.
    gone = [mirror for mirror in down if health_of(view, policy, mirror).failing or mirror in view.drained]
    down = gone or down
    reason = "; ".join(f"{mirror} is down{cause_of(health_of(view, policy, mirror))}" for mirror in down)
    left = [m for m in members(serving) if m not in down and m not in view.drained]
    if any(why_unfit(view, policy, mirror, rules.fitness) is None for mirror in left):
        return _change(view, policy, serving, left, Why.FAILOVER, reason)
    heirs = _heirs_beside(view, policy, left, rules)
    if not heirs:
        return nowhere(view, policy, serving, rules)
    return _change(view, policy, serving, [*left, *heirs], Why.FAILOVER, reason)


def _heirs_beside(view: View, policy: Policy, stay_here: Collection[str], rules: Rules) -> list[str]:
    """Return who could join those that stay, of whom nobody is fit: as many as there is room for, at least one."""
    return _best_of(candidates(view, policy, rules), max(policy.answers - len(stay_here), 1))


def _best_of(found: tuple[Candidate, ...], most: int) -> list[str]:
    """Return the candidates of the best class; of outdated ones only the first, which is the newest."""
    if not found:
        return []
    if found[0].content is ContentClass.STALE:
        return [found[0].mirror]
    best = max(found[0].content.rank, ContentClass.SETTLING.rank)
    return [candidate.mirror for candidate in found if candidate.content.rank <= best][:most]


def _ask_to_drain(view: View, policy: Policy, serving: str, drained: Collection[str], rules: Rules) -> Decision:
    move = without(view, policy, serving, drained, rules)
    if isinstance(move, Stay):
        return move
    names = " and ".join(drained)
    question = f"{names}: drained, and still among those who serve {policy.service}: leave readers to {move.target}?"
    facts = (f"{names}: drained", f"{serving} serves", f"{move.target} would stay")
    return ask_unless_agreed(view, policy, "drained", question, facts, move)


def without(view: View, policy: Policy, serving: str, drained: Collection[str], rules: Rules) -> Move | Stay:
    """Return the move that draining some of those who serve calls for."""
    left = [mirror for mirror in members(serving) if mirror not in drained]
    fit = [mirror for mirror in left if why_unfit(view, policy, mirror, rules.fitness) is None]
    if not fit:  # who is merely not judged stays
        left = [mirror for mirror in left if health_of(view, policy, mirror).verdict is not Verdict.DOWN]
    heirs = [] if fit else _heirs_beside(view, policy, left, rules)
    stay_here = [*left, *heirs]
    names = " and ".join(drained)
    if fit or heirs:
        return _change(view, policy, serving, stay_here, Why.DRAIN, f"{names}: drained")
    why = [f"{m} {why_unfit(view, policy, m, rules.fitness)}" for m in policy.order if m not in drained]
    reason = f"{names}: drained, serving on, for nobody else can: {'; '.join(why) or 'there is no other mirror'}"
    return stay(view, policy, "drained", reason, alarm=True)


def _take_back(view: View, policy: Policy, serving: str, rules: Rules) -> Move | None:
    """Let those in again that caught up and stayed well, where that is wanted without a person."""
    here = members(serving)
    room = max(policy.answers - len(here), 0)
    well = [m for m in policy.order if m not in here and _why_not_back(view, policy, m, rules) is None][:room]
    if not well:
        return None
    since = max(health_of(view, policy, mirror).well_since or view.now for mirror in well)
    reason = f"{' and '.join(well)} caught up, well for {lasting(view.now - since)}"
    return _change(view, policy, serving, [*here, *well], Why.FAILBACK, reason)


def _why_not_back(view: View, policy: Policy, mirror: str, rules: Rules) -> str | None:
    return why_unfit(view, policy, mirror, (*rules.fitness, *rules.failback))


def _as_they_are(view: View, policy: Policy, serving: str, rules: Rules) -> Stay:
    here = members(serving)
    unknown = [m for m in here if health_of(view, policy, m).verdict is Verdict.UNKNOWN]
    if len(unknown) == len(here):
        several = f"{' and '.join(here)} serve and none of them is judged now"
        reason = f"{serving} serves and is not judged now" if len(here) == 1 else several
        return stay(view, policy, "unjudged", reason, alarm=True)
    reason = f"{serving} serves and is up" if len(here) == 1 else f"{' and '.join(here)} serve"
    reason += f", {' and '.join(unknown)} not judged now" if unknown else ""
    full = len(here) >= policy.answers
    for mirror in policy.order:
        if mirror not in here:
            reason += f"; {mirror} {'is one too many' if full else _why_not_back(view, policy, mirror, rules)}"
    return stay(view, policy, "well", reason)


def _change(view: View, policy: Policy, serving: str, stay_here: Collection[str], why: Why, reason: str) -> Move:
    """Have exactly these mirrors share the readers."""
    joining = tuple(mirror for mirror in stay_here if mirror not in members(serving))
    classes = [health_of(view, policy, mirror).content or ContentClass.BAD for mirror in joining or stay_here]
    return Move(
        service=policy.service,
        source=serving,
        target=together(policy, stay_here),
        content=min(classes, key=lambda content: content.rank),
        why=why,
        reason=reason,
        facts=facts_of(view, policy),
        leaving=tuple(mirror for mirror in members(serving) if mirror not in stay_here),
        joining=joining,
    )


def joined_by(view: View, policy: Policy, target: str) -> str:
    """Return who would serve once a person sent readers to a mirror: it alone, or it beside those that are not down.

    Where there is no room for all, the least preferred make way.
    """
    if policy.serve != "all":
        return target
    stay_here = [
        mirror
        for mirror in members(view.serving)
        if mirror in policy.order
        and mirror not in (target, *view.drained)
        and health_of(view, policy, mirror).verdict is not Verdict.DOWN
    ]
    return together(policy, [*stay_here[: max(policy.answers - 1, 0)], target])


def restore(view: View, policy: Policy, serving: str, meant: str, rules: Rules) -> Move | None:
    """Return the move to those of the mirrors of our last plan that are fit; None where none is."""
    fit = [mirror for mirror in members(meant) if why_unfit(view, policy, mirror, rules.fitness) is None]
    reason = "the zone went back to an older plan of ours"
    return _change(view, policy, serving, fit, Why.REASSERT, reason) if fit else None


def to_look_at(move: Move) -> tuple[str, ...]:
    """Return which mirrors a move needs fresh looks at: those that join; where none does, all that stay."""
    return move.joining or members(move.target)


def after_looks(move: Move, policy: Policy, unfit: Mapping[str, str]) -> Move | Stay:
    """Return what is left of a move after the fresh looks: `unfit` are the mirrors that failed them, and why.

    Who joins and failed is left out. Who stays is not driven out by one look, but one of all must have been found well.
    Our last plan is put in force again by itself as a whole, or not.
    """
    looked = to_look_at(move)
    failed = {mirror: why for mirror, why in unfit.items() if mirror in looked}
    told = "; ".join(f"{mirror}: {why}" for mirror, why in failed.items())
    if len(failed) == len(looked):
        reason = f"{move.reason}, but nobody passed a fresh look: {told}"
        return Stay(service=move.service, rule="fresh", reason=reason, facts=move.facts, alarm=True)
    out = [mirror for mirror in failed if mirror in move.joining]
    if not out:
        return move
    if move.why is Why.REASSERT and move.automatic:
        reason = f"{move.reason}, but not all of the last plan passed a fresh look: {told}"
        return Stay(service=move.service, rule="fresh", reason=reason, facts=move.facts, alarm=True)
    target = together(policy, [mirror for mirror in members(move.target) if mirror not in out])
    return replace(
        move,
        target=target,
        joining=tuple(mirror for mirror in move.joining if mirror not in out),
        facts=(*move.facts, told),
    )


def speaks_against(move: Move, fresh: Fresh) -> str | None:
    """Say why a fresh look speaks against a mirror in this move, or None: who joins is to be what it was held to be."""
    why = still_good(fresh)
    if why is not None or fresh.mirror not in move.joining or fresh.content is None or move.why is Why.REASSERT:
        return why
    if move.why is Why.FAILBACK and fresh.content.rank > move.content.rank:
        return f"it is {fresh.content.value} in the fresh look"
    worse = fresh.content.rank > max(move.content.rank, ContentClass.SETTLING.rank)
    if worse and (len(move.joining) > 1 or fresh.content is ContentClass.STALE):
        return f"it was {move.content.value} and is {fresh.content.value} in the fresh look"
    return None


def still_good(fresh: Fresh) -> str | None:
    """Say why one fresh look speaks against a mirror, or None."""
    if fresh.ok and fresh.content is not None:
        return None
    faults = [f"{address}: {fault.text}" for address, fault in {**fresh.unjudged, **fresh.bad}.items()]
    return f"the fresh look failed: {'; '.join(faults) or 'it has no address'}"
