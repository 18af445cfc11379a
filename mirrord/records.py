"""How is a decision written down so that it can be made again?

What a decision about one service rested on is its `View` and its `Policy`. Both become a document that outlives the
process, with the looks behind each verdict; read back, they give the same decision by the same rules, and what other
rules would have decided can be tried. The journal keeps the documents; `mirrord explain --at` replays them. Pure.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from mirrord.health import ContentClass, Fault, FaultKind, Health, Observation, Standing, Verdict, Wanted
from mirrord.manifest import SnapshotId, parse_snapshot, show
from mirrord.rules import Decision, Held, Move, Policy, View, health_of, members

KIND = "basis"
"""The kind of the journal's events that hold such documents."""
VERSION = 1
LONGEST_TRAIL = 6
"""Looks behind one verdict that are written down."""
MOST_SUSPECTS = 20
"""Files of one mirror that are named: no decision asks which they are, and all those of a defaced site are too many."""


def write_down(view: View, policy: Policy, decision: Decision, wall: float) -> dict[str, Any]:
    """Return everything that a decision rested on, ready for JSON; `wall` is the Unix time of `view.now`."""
    mirrors = sorted({*policy.order, *members(view.serving), *members(view.meant)})
    return {
        "version": VERSION,
        "wall": wall,
        "decided": told(decision),
        "view": {
            "now": view.now,
            "serving": view.serving,
            "zone": view.zone,
            "zone_text": view.zone_text,
            "meant": view.meant,
            "held": None if view.held is None else [view.held.reason, view.held.by, view.held.until],
            "drained": sorted(view.drained),
            "moves": list(view.moves),
            "by_hand": view.by_hand,
            "placed": view.placed,
            "began": view.standing.began,
            "pending": view.pending,
            "acked": sorted(view.acked),
            "trouble": view.trouble,
            "clock": view.standing.clock,
            "wanted": None if view.standing.wanted is None else [view.standing.wanted.id, view.standing.wanted.serial],
            "mirrors": {mirror: _health(health_of(view, policy, mirror)) for mirror in mirrors},
        },
        "policy": {
            field.name: _plain(getattr(policy, field.name)) for field in fields(Policy) if field.name != "service"
        },
        "service": policy.service,
    }


def read_back(document: Mapping[str, Any]) -> tuple[View, Policy]:
    """Return what `write_down` was given. Raises KeyError, TypeError or ValueError for what is no such document."""
    if document["version"] != VERSION:
        raise ValueError(f"it was written by another version of mirrord ({document['version']})")
    was, service = document["view"], document["service"]
    wanted = () if was["wanted"] is None else (Wanted(SnapshotId(was["wanted"][0]), was["wanted"][1], was["now"]),)
    standing = Standing(
        lineage=wanted,
        clock=was["clock"],
        healths={(mirror, service): _read_health(health) for mirror, health in was["mirrors"].items()},
        began=was.get("began"),
    )
    view = View(
        now=was["now"],
        standing=standing,
        serving=was["serving"],
        zone=was["zone"],
        zone_text=was["zone_text"],
        meant=was["meant"],
        held=None if was["held"] is None else Held(*was["held"]),
        drained=frozenset(was["drained"]),
        moves=tuple(was["moves"]),
        by_hand=was.get("by_hand", False),
        placed=was.get("placed"),
        pending=was["pending"],
        acked=frozenset(was["acked"]),
        trouble=was["trouble"],
    )
    given = dict(document["policy"])
    policy = Policy(
        service=service,
        order=tuple(given.pop("order")),
        markers=frozenset(given.pop("markers")),
        addresses={mirror: tuple(addresses) for mirror, addresses in given.pop("addresses").items()},
        **given,
    )
    return view, policy


def told(decision: Decision) -> dict[str, Any]:
    """Return a decision in a few words for machines and people."""
    if isinstance(decision, Move):
        return {"kind": "move", "rule": decision.why.value, "target": decision.target, "reason": decision.reason}
    kind = type(decision).__name__.lower()
    reason = decision.reason if kind == "stay" else decision.question  # type: ignore[union-attr] # one of the two
    return {"kind": kind, "rule": decision.rule, "target": None, "reason": reason}


def signature(view: View, policy: Policy, decision: Decision) -> str:
    """Return what has to change before a decision is worth writing down again: anything but the time that passed."""
    mirrors = sorted({*policy.order, *members(view.serving)})
    healths = [health_of(view, policy, mirror) for mirror in mirrors]
    said = told(decision)
    return repr(
        (
            said["kind"],
            said["rule"],
            said["target"],
            view.serving,
            view.zone,
            view.held,
            sorted(view.drained),
            len(view.moves),
            view.by_hand,
            view.pending,
            view.trouble,
            view.standing.clock,
            [
                (h.verdict, h.content, h.cause and h.cause.kind, h.judged, h.snapshot and h.snapshot.serial, h.good)
                for h in healths
            ],
        )
    )


def _health(health: Health) -> dict[str, Any]:
    return {
        "verdict": health.verdict.value,
        "since": health.since,
        "content": None if health.content is None else health.content.value,
        "cause": _fault(health.cause),
        "cause_since": health.cause_since,
        "snapshot": None if health.snapshot is None else health.snapshot.text().decode("utf-8"),
        "judged": health.judged,
        "failing": health.failing,
        "outdated": health.outdated,
        "well_since": health.well_since,
        "good": list(health.good),
        "degraded": {address: _fault(fault) for address, fault in health.degraded.items()},
        "suspects": {show(path): why for path, why in list(health.suspects.items())[:MOST_SUSPECTS]},
        "looks": [_look(look) for look in health.behind[-LONGEST_TRAIL:]],
    }


def _read_health(told: Mapping[str, Any]) -> Health:
    return Health(
        verdict=Verdict(told["verdict"]),
        since=told["since"],
        content=None if told["content"] is None else ContentClass(told["content"]),
        cause=_read_fault(told["cause"]),
        cause_since=told["cause_since"],
        snapshot=None if told["snapshot"] is None else parse_snapshot(told["snapshot"].encode()),
        judged=told["judged"],
        failing=told["failing"],
        outdated=told["outdated"],
        well_since=told["well_since"],
        good=tuple(told["good"]),
        degraded={a: fault for a, said in told["degraded"].items() if (fault := _read_fault(said)) is not None},
        suspects={path.encode("utf-8", "surrogateescape"): why for path, why in told["suspects"].items()},
    )


def _fault(fault: Fault | None) -> list[str] | None:
    return None if fault is None else [fault.kind.value, fault.text]


def _read_fault(told: list[str] | None) -> Fault | None:
    return None if told is None else Fault(FaultKind(told[0]), told[1])


def _look(look: Observation) -> dict[str, Any]:
    return {
        "address": look.target.address,
        "name": look.target.name,
        "wall": look.wall,
        "took": round(look.ended - look.started, 3),
        "fault": _fault(look.fault),
        "wrong": {show(path): why for path, why in list(look.wrong.items())[:LONGEST_TRAIL]},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return list(value) if isinstance(value, tuple) else value
