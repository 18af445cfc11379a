"""How do things stand, in one value that JSON can write?

`protected` comes first: whether readers would be helped if the serving mirror died now. Then what is published, what
every mirror serves and whether it is well, where each service's readers are sent and why they are left there, and
what waits for a person. Pure: times are arguments, and whoever has a journal and a standing puts the facts together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mirrord.decide import Ask, Decision, Move, Protection
from mirrord.health import ContentClass, Fault, Health, Verdict, Wanted
from mirrord.journal import Asked, Drained, Held, LastSeen, Run
from mirrord.manifest import Snapshot, show, stamp
from mirrord.switches import Comparison, Intent

_BAD_FIRST = (Verdict.DOWN, Verdict.UNKNOWN, Verdict.UP)
_WORST_FIRST = tuple(reversed(ContentClass))


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, by both clocks: what is held true counts monotonic seconds, people read Unix time."""

    monotonic: float
    wall: float

    def at(self, monotonic: float) -> str:
        """Return when that was, as people read it; never later than now."""
        return text_of(self.wall - max(0.0, self.monotonic - monotonic))


@dataclass(frozen=True, slots=True)
class Daemon:
    """The running controller, if there is one."""

    running: bool
    pid: int | None = None
    since: float | None = None
    """Unix seconds."""
    text: str = ""
    """What it is doing, or why there is none."""


@dataclass(frozen=True, slots=True)
class MirrorState:
    """One mirror: what the configuration says, what is held true of it, what it was last seen to serve."""

    name: str
    role: str
    place: str
    content: str
    """`snapshot` or `markers`."""
    healths: Mapping[str, Health]
    """By service; for a mirror of no service, under ""."""
    last: LastSeen | None = None
    drained: Drained | None = None
    published: Run | None = None


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One service: where its readers are sent, and what is concluded."""

    name: str
    serving: str | None
    """The mirror whose addresses readers are given; None where that is nobody of ours or unknown."""
    since: float | None
    """Unix seconds of the last move, None where there never was one."""
    protection: Protection
    decision: Decision | None
    """None where nothing was concluded yet."""
    zone: Comparison | None
    zone_text: str
    """What the last reading of the zone said; also why there was none."""
    epoch: int = 0
    fence: str = "atomic"
    """`atomic` where a change is compare-and-set, else `best-effort`."""
    held: Held | None = None
    pending: Intent | None = None
    ask: str | None = None
    follow_by: float | None = None
    """Unix seconds by which readers follow the last move."""
    lagging: Sequence[str] = ()
    """Name servers that still give the data of before the last move."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a status rests on."""

    site: str
    url: str
    controller: str
    place: str
    now: Moment
    daemon: Daemon
    mirrors: Sequence[MirrorState]
    services: Sequence[ServiceState]
    snapshot: Snapshot | None = None
    """The newest one taken."""
    wanted: Wanted | None = None
    publishing: Held | None = None
    """The hold on publishing, if there is one."""
    asks: Sequence[Asked] = ()
    warnings: Sequence[str] = ()
    """Of the configuration, the clock, the journal: sentences."""


def status(facts: Facts) -> dict[str, Any]:
    """Put the facts into the order of `status --json` (without `schema`)."""
    return {
        "site": facts.site,
        "url": facts.url,
        "at": text_of(facts.now.wall),
        "protected": _protected(facts),
        "controller": facts.controller,
        "place": facts.place or None,
        "daemon": {
            "running": facts.daemon.running,
            "pid": facts.daemon.pid,
            "since": _maybe(facts.daemon.since),
            "text": facts.daemon.text,
        },
        "snapshot": _snapshot(facts.snapshot, facts.now),
        "wanted": None
        if facts.wanted is None
        else {"id": facts.wanted.id, "serial": facts.wanted.serial, "since": facts.now.at(facts.wanted.since)},
        "publishing": {"held": None if facts.publishing is None else hold(facts.publishing)},
        "mirrors": [_mirror(mirror, facts) for mirror in facts.mirrors],
        "services": [_service(service) for service in facts.services],
        "asks": [_ask(asked) for asked in facts.asks],
        "warnings": list(facts.warnings),
    }


def _protected(facts: Facts) -> dict[str, Any]:
    if not facts.daemon.running:
        return {"ok": False, "why": "no daemon is running: nobody would notice, and nobody would move readers"}
    if not facts.services:
        return {"ok": False, "why": "no [[service]] is configured: nobody would move readers"}
    lacking = [service for service in facts.services if not service.protection.ok]
    if lacking:
        several = len(facts.services) > 1
        whys = [f"{s.name}: {s.protection.why}" if several else s.protection.why for s in lacking]
        return {"ok": False, "why": "; ".join(whys)}
    whys = [service.protection.why for service in facts.services]
    return {"ok": True, "why": "; ".join(dict.fromkeys(why for why in whys if why))}


def _snapshot(snapshot: Snapshot | None, now: Moment) -> dict[str, Any] | None:
    if snapshot is None:
        return None
    return {
        "id": snapshot.id,
        "serial": snapshot.serial,
        "created": stamp(snapshot.created),
        "next_expected": stamp(snapshot.next_expected),
        "overdue": snapshot.next_expected.timestamp() < now.wall,
        "files": snapshot.files,
        "bytes": snapshot.size,
        "restores": snapshot.restores,
    }


def _mirror(mirror: MirrorState, facts: Facts) -> dict[str, Any]:
    worst = _worst(mirror.healths)
    seen = worst.snapshot
    return {
        "name": mirror.name,
        "role": mirror.role,
        "place": mirror.place or None,
        "content": mirror.content,
        "verdict": worst.verdict.value,
        "class": _class(mirror.healths),
        "cause": _cause(worst.cause),
        "cause_kind": None if worst.cause is None else worst.cause.kind.value,
        "cause_since": None if worst.cause_since is None else facts.now.at(worst.cause_since),
        "since": facts.now.at(worst.since) if worst.since else None,
        "release": seen.id if seen is not None else mirror.last.id if mirror.last is not None else None,
        "serial": seen.serial if seen is not None else mirror.last.serial if mirror.last is not None else None,
        "seen": _maybe(mirror.last.at if mirror.last is not None else None),
        "drained": None
        if mirror.drained is None
        else {"reason": mirror.drained.reason, "by": mirror.drained.by, "since": text_of(mirror.drained.since)},
        "suspects": sorted({show(path) for health in mirror.healths.values() for path in health.suspects}),
        "degraded": {
            address: fault.text for health in mirror.healths.values() for address, fault in health.degraded.items()
        },
        "warnings": list(dict.fromkeys(text for health in mirror.healths.values() for text in health.warnings)),
        "published": None if mirror.published is None else _run(mirror.published),
    }


def _worst(healths: Mapping[str, Health]) -> Health:
    """Return the health of the service for which the mirror is worst off."""
    return min(healths.values(), key=lambda health: _BAD_FIRST.index(health.verdict), default=Health())


def _class(healths: Mapping[str, Health]) -> str | None:
    known = [health.content for health in healths.values() if health.content is not None]
    return min(known, key=_WORST_FIRST.index).value if known else None


def _cause(cause: Fault | None) -> str | None:
    return None if cause is None else cause.text


def _run(run: Run) -> dict[str, Any]:
    return {
        "result": run.result,
        "id": run.id,
        "serial": run.serial,
        "at": text_of(run.began if run.ended is None else run.ended),
        "error": run.details.get("error"),
    }


def _service(service: ServiceState) -> dict[str, Any]:
    decision = service.decision
    return {
        "name": service.name,
        "target": service.serving,
        "since": _maybe(service.since),
        "held": None if service.held is None else hold(service.held),
        "reason": reason(decision),
        "decision": kind(decision),
        "move_to": decision.target if isinstance(decision, Move) else None,
        "facts": list(decision.facts) if decision is not None else [],
        "alarm": getattr(decision, "alarm", False),
        "protected": {"ok": service.protection.ok, "why": service.protection.why},
        "zone": {"state": "unread" if service.zone is None else service.zone.state.value, "text": service.zone_text},
        "fence": service.fence,
        "epoch": service.epoch,
        "pending": None
        if service.pending is None
        else {
            "plan": service.pending.change.plan,
            "target": service.pending.change.target,
            "since": text_of(service.pending.since),
        },
        "ask": service.ask,
        "readers_follow_by": _maybe(service.follow_by),
        "lagging": list(service.lagging),
    }


def kind(decision: Decision | None) -> str | None:
    """Name a decision for machines."""
    if decision is None:
        return None
    return "ask" if isinstance(decision, Ask) else "move" if isinstance(decision, Move) else "stay"


def reason(decision: Decision | None) -> str | None:
    """Return why, in a sentence."""
    if decision is None:
        return None
    return decision.question if isinstance(decision, Ask) else decision.reason


def hold(held: Held) -> dict[str, Any]:
    """Return an operator's hold as JSON has it."""
    return {
        "what": held.what,
        "reason": held.reason,
        "by": held.by,
        "since": text_of(held.since),
        "until": _maybe(held.until),
    }


def _ask(asked: Asked) -> dict[str, Any]:
    return {
        "id": asked.id,
        "service": asked.about,
        "question": asked.question,
        "facts": list(asked.facts.get("facts", [])),
        "since": text_of(asked.since),
    }


def text_of(wall: float) -> str:
    """Write Unix seconds as `2026-11-21T22:00:00Z`."""
    return stamp(datetime.fromtimestamp(wall, UTC))


def _maybe(wall: float | None) -> str | None:
    return None if wall is None else text_of(wall)
