"""How does a person move readers?

What will change is shown before anybody is asked, and what was shown is what is carried out: the plan goes back to the
desk as it came. A brake that is lifted is asked about a second time.
"""

from __future__ import annotations

from typing import Any

from mirrord.cli import outcome, screens
from mirrord.cli.asking import Asking, agree
from mirrord.cli.talk import Talk
from mirrord.control.drilling import SHADOW
from mirrord.decide import LIFTABLE
from mirrord.errors import BadUsage, Braked

Found = dict[str, Any]


def switch_readers(
    asking: Asking, service: str, mirror: str | None, *, yes: bool, dry_run: bool, adopt: bool, override: str | None
) -> int:
    """Show, ask, move; return the exit code."""
    if override is not None and override not in LIFTABLE:
        known = ", ".join(LIFTABLE)
        raise BadUsage(f'--override: there is no brake "{override}" that can be lifted; there are: {known}')
    wanted = {"service": service, "mirror": mirror, "adopt": adopt, "override": override}
    # Who is about to move readers finds out first what became of an open plan; who only looks changes nothing.
    plan = asking.call("switch", **wanted, dry_run=True, settle=not dry_run, plan=None)
    held = [brake for brake in plan["brakes"] if not brake["lifted"]]
    if dry_run:
        asking.show(plan, lambda talk, found: screens.planned(found, talk.line))
        return outcome.BRAKED if held else outcome.OK
    screens.planned(plan, asking.talk.say)
    if held:
        brake = held[0]
        way = f"; --override {brake['brake']} lifts this brake" if brake["liftable"] else ""
        raise Braked(f"{service}: moving readers to {plan['target']}: {brake['text']}{way}", brake["brake"])
    if plan["change"] is not None:
        agree(asking.talk, f"Move the readers of {service} to {plan['target']}?", yes=yes)
        for brake in plan["brakes"]:
            agree(asking.talk, f"{brake['text']}. Move readers there all the same?", yes=yes)
    found = asking.call("switch", **wanted, dry_run=False, plan=plan["change"])
    asking.show(found, screens.moved)
    return outcome.of_switch(found["result"])


def drill_services(asking: Asking, service: str | None, *, yes: bool) -> int:
    """Say what a drill writes, ask, rehearse; return the exit code."""
    settings = asking.settings
    named = [] if service is None else [settings.service(service)]
    services = named or [one for one in settings.services if one.dns is not None]
    names = [f"{SHADOW}.{name}" for s in services for name in s.names]
    asking.talk.say(
        f"a drill writes addresses of mirrors, and its own TXT, at {', '.join(names)}; no reader is moved", ""
    )
    agree(asking.talk, "Rehearse a failover there?", yes=yes)
    found = asking.call("drill", service=service)
    asking.show(found, screens.drilled)
    return outcome.OK if all(one["ok"] for one in found["drills"]) else outcome.FAILED


def drain_mirror(asking: Asking, mirror: str, reason: str, *, yes: bool, stay: bool) -> int:
    """Drain a mirror; move its readers away if the person wants that. Return the exit code."""
    before = asking.call("drain", mirror=mirror, reason=reason, dry_run=True)
    movable = [] if stay else [serves for serves in before["serves"] if serves["next"]]
    if movable and not yes:
        moves = ", ".join(f"{serves['service']} to {serves['next']}" for serves in movable)
        if not asking.talk.ask(f"{mirror} serves readers now. Move {moves} (--stay leaves them)?"):
            movable = []
    found = asking.call("drain", mirror=mirror, reason=reason, dry_run=False)
    moved = [_move(asking, serves) for serves in movable]
    asking.show({**found, "moves": moved}, lambda talk, _: _drained(talk, mirror, before, moved))
    return max((outcome.of_switch(one["result"]) for one in moved), default=outcome.OK)


def _move(asking: Asking, serves: Found) -> Found:
    wanted = {"service": serves["service"], "mirror": serves["next"], "adopt": False, "override": None}
    plan = asking.call("switch", **wanted, dry_run=True, plan=None)
    screens.planned(plan, asking.talk.say)
    return asking.call("switch", **wanted, dry_run=False, plan=plan["change"])


def _drained(talk: Talk, mirror: str, before: Found, moved: list[Found]) -> None:
    talk.line(f"{mirror} is drained: mirrord sends nobody there; `mirrord undrain {mirror}` takes it back")
    for one in moved:
        screens.moved(talk, one)
    gone = {one["service"] for one in moved}
    for serves in before["serves"]:
        if serves["service"] not in gone:
            why = "" if serves["next"] else f", nobody can take over: {serves['why']}"
            talk.line(f"{serves['service']} is still served by {mirror}{why}", "yellow")
