"""How are the answers of verbs worded?

Values of the core become plain JSON: the same for a terminal, for `--json` and for the socket. Nothing is
concluded here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mirrord import records
from mirrord.config.model import Mirror
from mirrord.control.mind import Mind, Reading
from mirrord.control.plans import Offer, Rehearsed
from mirrord.control.works import Works
from mirrord.decide import Decision, Move, Permission, Policy, Protection, View, decide, explain, may_switch
from mirrord.errors import MirrordError
from mirrord.health import Health, Observation, Round, Standing, Verdict
from mirrord.journal import PUBLISHING, SNAPSHOTS, Happened
from mirrord.manifest import Difference, Snapshot, show, stamp
from mirrord.publish import Published
from mirrord.report.status import Daemon, Facts, MirrorState, Moment, ServiceState, hold, kind, reason, text_of
from mirrord.report.status import status as build_status
from mirrord.rules import members
from mirrord.switches import Change, Expected, Following

if TYPE_CHECKING:
    from mirrord.control.moving import Moved

__all__ = [
    "change",
    "check",
    "explained",
    "hold",
    "moved",
    "next_of",
    "offer",
    "planned",
    "rehearsed",
    "replayed",
    "row",
    "snapshot",
    "status",
    "unmoved",
]

FIRST = 20
"""Paths that are named of each kind of change."""
FIRST_PLANNED = 100
"""Paths that are named of each kind of work on a mirror."""


def snapshot(card: Snapshot, *, changed: bool) -> dict[str, Any]:
    """Show a snapshot."""
    return {
        "id": card.id,
        "serial": card.serial,
        "created": stamp(card.created),
        "files": card.files,
        "bytes": card.size,
        "changed": changed,
        "previous": card.previous,
        "restores": card.restores,
    }


def change(found: Difference | None) -> dict[str, Any] | None:
    """Show what changes, with the first paths of each kind."""
    if found is None:
        return None
    return {
        "added": len(found.added),
        "changed": len(found.changed),
        "removed": len(found.removed),
        "emptied": len(found.emptied),
        "paths": {
            "added": [show(path) for path in found.added[:FIRST]],
            "changed": [show(path) for path in found.changed[:FIRST]],
            "removed": [show(path) for path in found.removed[:FIRST]],
        },
    }


# -- looks


def check(wanted: Sequence[Mirror], standing: Standing, seen: Round) -> dict[str, Any]:
    """Show what a round saw, and what is held true of each mirror."""
    return {
        "mirrors": [_checked(mirror, standing, seen) for mirror in wanted],
        "references": [
            {"address": one.address, "family": one.family, "reachable": one.reachable}
            for one in (*seen.before, *seen.after)
        ],
        "warnings": blind(standing, [address for mirror in wanted for address in mirror.addresses]),
    }


def blind(standing: Standing, addresses: Sequence[str]) -> list[str]:
    """Say what of these addresses cannot be judged now, and why; and that our clock is off, if it is."""
    families = {6 if ":" in address else 4 for address in addresses}
    whys = [why for family, why in standing.unjudged.items() if family in families]
    return [*whys, *([standing.clock] if standing.clock else [])]


def _checked(mirror: Mirror, standing: Standing, seen: Round) -> dict[str, Any]:
    looks = [one for one in seen.observations if one.target.mirror == mirror.name]
    healths = [standing.health(mirror.name, service) for service in sorted({one.target.service for one in looks})]
    worst = min(healths, key=lambda health: _BAD_FIRST.index(health.verdict), default=Health())
    return {
        "name": mirror.name,
        "verdict": worst.verdict.value,
        "class": None if worst.content is None else worst.content.value,
        "cause": None if worst.cause is None else worst.cause.text,
        "looks": [_look(one) for one in looks],
    }


_BAD_FIRST = (Verdict.DOWN, Verdict.UNKNOWN, Verdict.UP)


def _look(one: Observation) -> dict[str, Any]:
    card = one.snapshot
    ok = one.fault is None and not one.wrong
    if one.fault is not None:
        text = one.fault.text
    elif one.wrong:
        path, why = min(one.wrong.items())
        text = f"{show(path)} {why}" + (f" (and {len(one.wrong) - 1} more)" if len(one.wrong) > 1 else "")
    else:
        text = f"serves {card.id}, serial {card.serial}" if card is not None else "its markers are there"
    return {
        "service": one.target.service,
        "name": one.target.name,
        "address": one.target.address,
        "port": one.target.port,
        "ok": ok,
        "text": text,
        "seconds": round(one.ended - one.started, 3),
        "serial": None if card is None else card.serial,
        "id": None if card is None else card.id,
        "files_right": len(one.right),
        "files_wrong": [{"path": show(path), "why": why} for path, why in sorted(one.wrong.items())],
        "certificate_days": None if one.certificate_days is None else round(one.certificate_days, 1),
        "evidence": dict(one.evidence),
    }


# -- decisions


def explained(mind: Mind, service: str, view: View, policy: Policy) -> dict[str, Any]:
    """Show why readers are where they are, and what would have to happen for them to move."""
    decision = mind.affairs[service].decision or mind.judge(service, view)
    held = mind.journal.held(service)
    reading = mind.affairs[service].reading
    protection = mind.protected(service, now=view.now)
    halted = mind.affairs[service].halted
    return {
        "name": service,
        "serving": view.serving,
        "decision": kind(decision),
        "target": decision.target if isinstance(decision, Move) else None,
        "reason": reason(decision),
        "facts": [*explain(view, policy), *([f"The last try moved nobody: {halted}."] if halted else [])],
        "order": list(policy.order),
        "held": None if held is None else hold(held),
        "zone": {"state": view.zone, "text": reading.text},
        "mirrors": [_candidate(name, service, view, policy) for name in policy.order],
        "protected": {"ok": protection.ok, "why": protection.why},
    }


def replayed(service: str, at: float, kept: Happened) -> dict[str, Any]:
    """Show a decision of some time ago, made again by today's rules; raises KeyError, TypeError, ValueError."""
    document = kept.event.details
    view, policy = records.read_back(document)
    again = records.told(decide(view, policy))
    mirrors = document["view"]["mirrors"]
    return {
        "name": service,
        "at": stamp(datetime.fromtimestamp(at, UTC)),
        "kept": stamp(datetime.fromtimestamp(kept.at, UTC)),
        "serving": view.serving,
        "decided": document["decided"],
        "again": again,
        "same": again == document["decided"],
        "facts": explain(view, policy),
        "looks": {mirror: told["looks"] for mirror, told in mirrors.items()},
        "zone": {"state": view.zone, "text": view.zone_text},
    }


def _candidate(mirror: str, service: str, view: View, policy: Policy) -> dict[str, Any]:
    health = view.standing.health(mirror, service)
    brakes = [] if mirror in members(view.serving) else may_switch(view, policy, mirror, None).brakes
    moment = Moment(view.now, time.time())
    return {
        "name": mirror,
        "verdict": health.verdict.value,
        "class": None if health.content is None else health.content.value,
        "cause": None if health.cause is None else health.cause.text,
        "since": moment.at(health.since) if health.since else None,
        "drained": mirror in view.drained,
        "brakes": [{"brake": brake.name, "text": brake.text} for brake in brakes],
    }


def next_of(service: str, decision: Decision) -> dict[str, Any]:
    """Show where readers of a drained mirror would go."""
    target = decision.target if isinstance(decision, Move) else None
    return {"service": service, "next": target, "why": reason(decision)}


# -- switches


def planned(
    service: str, target: str, view: View, reading: Reading, plan: Change | None, permission: Permission, *, fence: str
) -> dict[str, Any]:
    """Show a switch before it is made."""
    zone = reading.zone
    ttl = zone.ttl if zone is not None else 0
    stands = zone.stands if zone is not None else Expected({})
    return {
        "service": service,
        "serving": view.serving,
        "target": target,
        "zone": {"state": view.zone, "text": reading.text},
        "fence": fence,
        "epoch": stands.epoch,
        "before": _names(stands, ttl),
        "after": _names(plan.to, plan.ttl) if plan is not None else _names(stands, ttl),
        "brakes": [
            {"brake": brake.name, "text": brake.text, "liftable": brake.liftable, "lifted": brake is permission.lifted}
            for brake in (*permission.brakes, *([permission.lifted] if permission.lifted else []))
        ],
        "notes": list(permission.remarks),
        "readers_follow_in": plan.was_ttl if plan is not None and plan.moves else 0,
        "change": plan.to_json() if plan is not None else None,
    }


def _names(expected: Expected, ttl: int) -> dict[str, Any]:
    return {
        name: {
            "a": sorted(rrsets.a),
            "aaaa": sorted(rrsets.aaaa),
            "fence": "".join(min(rrsets.fence)) if rrsets.fence else None,
            "ttl": ttl,
        }
        | {
            kind: sorted(records)
            for kind, records in (("https", rrsets.https), ("mx", rrsets.mx))
            if records is not None
        }
        for name, rrsets in expected.names.items()
    }


def moved(service: str, target: str, view: View, ended: Moved, permission: Permission, *, fence: str) -> dict[str, Any]:
    """Show how a switch ended."""
    result = ended.result
    assert result is not None  # a switch by hand has no candidates that could fail it
    return {
        "service": service,
        "result": result.kind.value,
        "serving_before": view.serving,
        "target": target,
        "epoch": result.change.epoch,
        "fence": fence,
        "text": result.text,
        "servers": [
            {"address": address, "state": _FOLLOWS[follow.following], "serial": follow.serial, "text": follow.text}
            for address, follow in sorted(result.followers.items())
        ],
        "evidence": [asdict(one) for one in ended.evidence],
        "readers_follow_by": None if result.follow_by is None else text_of(result.follow_by),
        "notes": list(permission.remarks),
    }


_FOLLOWS = {Following.FOLLOWS: "new", Following.OLD: "old", Following.UNREACHABLE: "unreachable"}


def unmoved(service: str, target: str, view: View, *, fence: str) -> dict[str, Any]:
    """Say that there is nothing to change."""
    return {
        "service": service,
        "result": "done",
        "serving_before": view.serving,
        "target": target,
        "epoch": None,
        "fence": fence,
        "text": f"{target} serves {service} already; nothing was changed",
        "servers": [],
        "readers_follow_by": None,
        "notes": [],
    }


# -- status


def status(works: Works, mind: Mind, *, running: bool, since: float) -> dict[str, Any]:
    """Put together everything that `status` rests on."""
    from mirrord.control import drilling

    now, wall = time.monotonic(), time.time()
    settings, journal = works.settings, works.journal
    warnings = mind.troubles()
    newest = _newest(works, warnings)
    warnings += drilling.overdue(works, time.time())
    warnings += blind(mind.standing, [address for mirror in settings.mirrors for address in mirror.addresses])
    drained, last, runs = journal.drained(), journal.last_seen(), journal.publishes()
    return build_status(
        Facts(
            site=settings.site.name,
            url=settings.site.url,
            controller=settings.controller.name,
            place=settings.controller.place,
            now=Moment(now, wall),
            daemon=Daemon(running, os.getpid(), since, "watching")
            if running
            else Daemon(running=False, text="no daemon"),
            mirrors=[
                MirrorState(
                    name=mirror.name,
                    role=mirror.role,
                    place=mirror.place,
                    content=mirror.content,
                    healths=mind.health(mirror.name),
                    last=last.get(mirror.name),
                    drained=drained.get(mirror.name),
                    published=runs.get(mirror.name),
                )
                for mirror in settings.mirrors
            ],
            services=[_service_state(mind, service, now) for service in mind.affairs],
            snapshot=newest,
            wanted=mind.standing.wanted,
            publishing=journal.held(PUBLISHING) or journal.held(SNAPSHOTS),
            asks=journal.asks(),
            warnings=warnings,
        )
    )


def _newest(works: Works, warnings: list[str]) -> Snapshot | None:
    """Return the newest snapshot's card; what is wrong with the store must not hide how everything else is."""
    try:
        newest = works.store.newest()
        return works.store.card(newest) if newest is not None else None
    except MirrordError as e:
        warnings.append(str(e))
        return None


def _service_state(mind: Mind, service: str, now: float) -> ServiceState:
    affair, journal = mind.affairs[service], mind.journal
    view = mind.view(service, now=now)
    last = journal.last_move(service)
    expected = journal.expected(service)
    follow_in = journal.readers_follow_in(service)
    return ServiceState(
        name=service,
        serving=view.serving,
        since=None if last is None else last.at,
        protection=mind.protected(service, now=now)
        if mind.round is not None
        else Protection(ok=False, why="nothing was looked at yet"),
        decision=affair.decision,
        zone=affair.reading.comparison,
        zone_text=affair.reading.text,
        epoch=expected.epoch if expected is not None else 0,
        fence=mind.settings.service(service).fence,
        held=journal.held(service),
        pending=journal.intent(service),
        ask=affair.ask,
        follow_by=None if follow_in is None else time.time() + follow_in,
        lagging=[address for address, follow in affair.followers.items() if follow.following is Following.OLD],
    )


def rehearsed(one: Rehearsed) -> dict[str, Any]:
    """Return one mirror's line of `sync --dry-run --json`: the figures, and which files they are."""
    plan, outlook = one.plan, one.outlook
    shown: dict[str, Any] | None = None
    if plan is not None and outlook is not None and one.published.result == "planned":
        shown = {
            "instead_of": plan.instead_of,
            "base": plan.base,
            "sent": _some(one.sent),
            "moved": _some([path for path, base in plan.link.items() if path != base]),
            "patched": _some(list(plan.patch)),
            "removed": _some(plan.removed),
        }
    return {**row(one.published), "plan": shown}


def _some(paths: Sequence[bytes]) -> dict[str, Any]:
    """Show how many paths there are, and the first."""
    return {"files": len(paths), "paths": [show(path) for path in sorted(paths)[:FIRST_PLANNED]]}


def offer(made: Offer) -> dict[str, Any]:
    """Show how to have carried out what was shown."""
    return {"id": made.id, "allow_deletions": made.allow_deletions, "carry_out": f"mirrord sync --plan {made.id}"}


def row(published: Published) -> dict[str, Any]:
    """Return one mirror's line of `sync --json`."""
    return {
        "name": published.mirror,
        "result": published.result,
        "release": published.release,
        "serial": published.serial,
        "files_sent": published.files_sent,
        "files_linked": published.files_linked,
        "files_patched": published.files_patched,
        "files_removed": published.files_removed,
        "bytes_sent": published.bytes_sent,
        "verified": published.verified,
        "files_hashed": published.files_hashed,
        "files_read_back": published.files_read_back,
        "bytes_read_back": published.bytes_read_back,
        "layout": published.layout,
        "layout_why": published.layout_why,
        "mixture_seconds": round(published.mixture_seconds, 4),
        "gap_seconds": round(published.gap_seconds, 4),
        "seconds": round(published.seconds, 3),
        "error": published.error,
        "error_code": published.error_code,
        "warnings": list(published.warnings),
    }
