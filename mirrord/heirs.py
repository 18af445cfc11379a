"""Who could take a service's readers, and what is said where nobody can?

From the table of rules and what is held true: the candidates, best first, and the parts of which decisions are made.
`mirrord.decide` and `mirrord.sharing` choose among them. Pure, as all that decides.
"""

from dataclasses import replace

from mirrord.health import ContentClass, FaultKind, Verdict
from mirrord.rules import (
    RULES,
    Ask,
    Candidate,
    Fitness,
    Move,
    Policy,
    Rules,
    Stay,
    View,
    Why,
    ask,
    cause_of,
    facts_of,
    health_of,
    members,
    stay,
)


def candidates(view: View, policy: Policy, rules: Rules = RULES) -> tuple[Candidate, ...]:
    """Return who could take readers from those that serve, the best first."""
    fit = [
        mirror
        for mirror in policy.order
        if mirror not in members(view.serving) and why_unfit(view, policy, mirror, rules.fitness) is None
    ]
    fit.sort(key=lambda mirror: rules.rank(view, policy, mirror))
    return tuple(Candidate(m, health_of(view, policy, m).content or ContentClass.BAD) for m in fit)


def why_unfit(view: View, policy: Policy, mirror: str, table: tuple[Fitness, ...]) -> str | None:
    """Return the first reason in a table why a mirror may not take readers, or None."""
    return next((why for rule in table if (why := rule(view, policy, mirror)) is not None), None)


def nowhere(view: View, policy: Policy, source: str, rules: Rules) -> Stay:
    """Say why nobody can take readers; nothing moves, for any change could only be for the worse."""
    gone = [m for m in members(source) if health_of(view, policy, m).verdict is Verdict.DOWN]
    down = "; ".join(f"{mirror} is down{cause_of(health_of(view, policy, mirror))}" for mirror in gone)
    others = [mirror for mirror in policy.order if mirror not in gone]
    if len({*policy.order, *members(source)}) == 1:
        reason = f"nowhere to go: {down}, and {policy.service} has no other mirror"
        return stay(view, policy, "one-mirror", reason, alarm=True)
    healths = [health_of(view, policy, m) for m in policy.order if m not in view.drained]
    kinds = {h.cause.kind if h.cause and h.verdict is Verdict.DOWN else None for h in healths}
    if kinds and kinds <= {FaultKind.TLS, FaultKind.CLOCK}:
        reason = (
            f"TLS fails on every mirror, as if one thing were wrong with all certificates or with our trust: {down}"
        )
        return stay(view, policy, "tls-everywhere", reason, alarm=True)
    if kinds and None not in kinds:
        return stay(view, policy, "all-down", f"everything looks down, so nothing moves: {down}", alarm=True)
    why = [f"{m} {why_unfit(view, policy, m, rules.fitness)}" for m in others]
    return stay(view, policy, "nowhere", f"nowhere to go: {down}; {'; '.join(why)}", alarm=True)


def preferred(policy: Policy, source: str) -> tuple[str, ...]:
    """Return the mirrors that are preferred to the one that serves."""
    return policy.order[: policy.order.index(source)] if source in policy.order else policy.order


def move_to(view: View, policy: Policy, source: str, heirs: tuple[Candidate, ...], why: Why, reason: str) -> Move:
    """Send readers to the first of the heirs; the others come next if its fresh look fails."""
    return Move(
        service=policy.service,
        source=source,
        target=heirs[0].mirror,
        content=heirs[0].content,
        why=why,
        reason=reason,
        facts=facts_of(view, policy),
        fallbacks=heirs[1:],
    )


def ask_unless_agreed(
    view: View, policy: Policy, rule: str, question: str, facts: tuple[str, ...], move: Move | None
) -> Ask | Move:
    """Ask, unless the same question, resting on the same facts, was answered with yes."""
    return unless_agreed(view, ask(policy, rule, question, facts, move, alarm=rule == "reverted"))


def unless_agreed(view: View, question: Ask) -> Ask | Move:
    """Return the move that a question is about where it was answered with yes."""
    if question.move is not None and question.id in view.acked:
        return replace(question.move, agreed=True)
    return question
