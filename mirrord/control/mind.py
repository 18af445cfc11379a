"""What does this controller hold true, and what does it conclude?

The `Mind` is all that changes while mirrord runs: the standing of every mirror, what each zone was last
read to say, which service is being moved, which question is open. One thread owns it; others hand it
events. It looks at nothing and moves nobody: `looking` brings rounds, `moving` carries decisions out,
`mirrord.decide` draws the conclusions from the view that is put together here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from mirrord import records
from mirrord.config import Settings
from mirrord.decide import Ask, Decision, Held, Move, Policy, Protection, Stay, View, decide, protected
from mirrord.errors import BadUsage, Conflict, Locked, MirrordError, Unavailable
from mirrord.health import Health, Round, Standing, Thresholds, Verdict
from mirrord.journal import Event, Journal
from mirrord.manifest import Snapshot, SnapshotId
from mirrord.publish import Published
from mirrord.switches import (
    Change,
    Comparison,
    Follow,
    Following,
    Kind,
    Result,
    SentKind,
    Zone,
    ZoneState,
    parse_fence,
    served_by,
)

_log = logging.getLogger(__name__)

BADTIME_FOR = 300.0
"""Seconds for which a name server's word on our clock counts: only the next update can show that it was set right."""
STANDING_EVERY = 60.0
"""Seconds: what does not change is written down no more often."""
RECORD_EVERY = 30.0
"""Seconds: what a decision rests on is written down no more often, unless the decision itself changed."""
ASK_AGAIN = 10
"""Rounds between two questions to whoever refused us, whether it still does."""
STANDING = "standing"
"""The journal's key for what the standing remembers across restarts."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reading of a service's zone brought."""

    comparison: Comparison | None
    """None where no road answered with authority."""
    zone: Zone | None
    text: str
    """A sentence in either case."""
    epoch: int = 0
    """The highest epoch that was planned when this was read: a later plan of ours makes it old."""


UNREAD = Reading(None, None, "not read yet")


@dataclass(slots=True)
class Affair:
    """What is going on with one service."""

    reading: Reading = UNREAD
    decision: Decision | None = None
    recorded: str = ""
    """The signature of what was written down last, and when, monotonic."""
    recorded_at: float = float("-inf")
    clock: float | None = None
    """Seconds that the name server's clock is ahead of ours, where it said that ours is off (RFC 8945, 5.2.3)."""
    clock_at: float = 0.0
    """When it said so, monotonic."""
    ask: str | None = None
    """The id of the question that is open, or that was answered and is being acted on."""
    busy: str = ""
    """What is being done to it just now, in words; empty for nothing."""
    trouble: str | None = None
    """Why the switch cannot be worked, where the last try showed it."""
    passing: bool = False
    """It may end by itself: nobody refused us for who we are, so a zone that is ours to read shows that it did."""
    asked_again_at: float = float("-inf")
    """When whoever refused us was last asked whether it still does, monotonic."""
    halted: str = ""
    """Why the last try of what is decided sent nothing: a sentence, empty where there was none."""
    following: Change | None = None
    """The last change, while some authoritative server still gives the old data, or may."""
    followers: Mapping[str, Follow] = field(default_factory=dict)


class Outcome(Protocol):
    """How an attempt to move a service ended, as `moving` tells it."""

    @property
    def text(self) -> str:
        """The sentence."""

    @property
    def result(self) -> Result | None:
        """What the name servers made of it; None where nothing was sent."""

    @property
    def failed(self) -> Mapping[str, str]:
        """Candidates whose fresh look failed -> why."""

    @property
    def trouble(self) -> str | None:
        """Why the switch cannot be worked, where this attempt showed it."""


class Mind:
    """All that changes while mirrord runs; only the owning thread touches it."""

    def __init__(self, settings: Settings, journal: Journal, *, now: float, wall: float, watching: bool = True) -> None:
        """Start from what the journal kept: orders and what is wanted; verdicts are unknown.

        `watching`: verdicts are a daemon's, over many looks, and a change of one is told; not so a verb's own look.
        """
        self._watching = watching
        self.settings = settings
        self.journal = journal
        self.standing = Standing.recall(journal.kept(STANDING) or [], now, wall)
        self.affairs = {  # whether all follow was perhaps not known yet when the last process ended
            service.name: Affair(following=journal.last_change(service.name)) for service in settings.services
        }
        self.round: Round | None = None
        self.publishing_stopped: str | None = None
        """Why nothing is published by itself until a person syncs."""
        self._hindered: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self._kept: tuple[list[SnapshotId], float] = ([], 0.0)

    def adopt(self, settings: Settings) -> None:
        """Go on with another configuration: what is known of mirrors and services that stay is kept."""
        self.settings = settings
        self.affairs = {service.name: self.affairs.get(service.name, Affair()) for service in settings.services}
        for affair in self.affairs.values():
            affair.trouble = None  # a key that was mended, say: the next try tells
        self.standing = self.standing.only(settings.targets())

    # -- events

    def saw(self, seen: Round, rules: Thresholds, published: Mapping[str, float]) -> None:
        """Take in one complete round."""
        before = self.standing
        # A round that was under way while the configuration changed looked at what is no longer configured, too.
        after = before.after(seen, rules, published=published, badtime=self._badtime(seen.ended))
        self.standing = after.only(self.settings.targets())
        self.round = seen
        if self._watching:
            self._tell_verdicts(before)
        self._keep_standing(seen)

    def _badtime(self, now: float) -> float | None:
        """Return by how much the name servers lately said that our clock is off."""
        said = [a.clock for a in self.affairs.values() if a.clock is not None and now - a.clock_at < BADTIME_FOR]
        return said[0] if said else None

    def read(self, service: str, reading: Reading) -> None:
        """Take in what the zone of a service says."""
        affair = self.affairs.get(service)
        if affair is None:
            return  # another configuration came meanwhile
        if reading.comparison is not None and reading.comparison.state.value in ("reverted", "foreign"):
            self._change_of_mind(
                f"zone {service}",
                f"{service}: the zone is {reading.comparison.state.value}: {reading.text}",
                "zone",
                service,
            )
        else:
            self._told.pop(f"zone {service}", None)
        affair.reading = reading
        if self._shows_that_trouble_ended(affair, service):
            affair.trouble = None

    def _shows_that_trouble_ended(self, affair: Affair, service: str) -> bool:
        """Tell whether the last reading does: where a move is due, only the next try can; what refused us may still."""
        comparison = affair.reading.comparison
        ours = comparison is not None and comparison.state in (ZoneState.NEW, ZoneState.OURS)
        return affair.passing and ours and not self._is_due(affair, service)

    def _is_due(self, affair: Affair, service: str) -> bool:
        return isinstance(affair.decision, Move) or self.journal.intent(service) is not None

    def asks_again(self, service: str, now: float) -> bool:
        """Tell whether to ask whoever refused us whether it still does: now and then, while nothing is to be moved."""
        affair = self.affairs.get(service)
        if affair is None or affair.trouble is None or affair.passing or affair.busy or self._is_due(affair, service):
            return False
        if now - affair.asked_again_at < ASK_AGAIN * self.settings.probe.every:
            return False
        affair.asked_again_at = now
        return True

    def lets_us_in(self, service: str) -> None:
        """Take in that the switch took something harmless: whatever was wrong with our rights there was mended."""
        affair = self.affairs.get(service)
        if affair is not None and not affair.passing and not self._is_due(affair, service):
            affair.trouble = None

    def follows(self, service: str, followers: Mapping[str, Follow]) -> None:
        """Take in which authoritative servers have the last change."""
        affair = self.affairs.get(service)
        if affair is None:
            return
        affair.followers = followers
        if all(follow.following is not Following.OLD for follow in followers.values()) and any(
            follow.following is Following.FOLLOWS for follow in followers.values()
        ):
            affair.following = None

    def take_in(self, service: str, moved: Outcome) -> None:
        """Take in how an attempt to move a service ended."""
        affair = self.affairs.get(service)
        if affair is None:
            return
        affair.trouble = moved.trouble
        affair.halted = moved.text if moved.result is None and isinstance(affair.decision, Move) else ""
        result = moved.result
        affair.passing = result is None or result.sent is None or result.sent.kind is not SentKind.REFUSED
        if result is not None:
            affair.clock = result.sent.clock_difference if result.sent is not None else None
            affair.clock_at = time.monotonic()
            affair.followers = result.followers
            affair.following = result.change if result.kind is Kind.PARTIAL else None
        failed = "; ".join(f"{mirror}: {why}" for mirror, why in moved.failed.items())
        text = moved.text + (f" (not {failed})" if failed else "")
        if result is None:
            self._change_of_mind(f"move {service}", text, "move", service)
        elif self._told.get(f"move {service}") != text:
            self._told[f"move {service}"] = text  # the journal has it already, from the transaction
            _log.warning("%s", text)

    def not_moved(self, service: str, move: Move, error: MirrordError) -> None:
        """Take in why a move was not even tried."""
        affair = self.affairs.get(service)
        if affair is None:
            return
        affair.halted = str(error)
        if not isinstance(error, Conflict | Locked):  # those end by themselves
            affair.trouble, affair.passing = str(error), isinstance(error, Unavailable)
        self._change_of_mind(f"move {service}", f"{service}: not moved to {move.target}: {error}", "move", service)

    def claim(self, service: str, doing: str) -> None:
        """Have nobody else move a service until `release`; raises Locked where somebody is at it, or BadUsage."""
        affair = self.affairs.get(service)
        if affair is None:
            raise BadUsage(f'there is no service "{service}" any more')
        if affair.busy:
            raise Locked(f"{service}: {doing}: {affair.busy}; wait for it", holder=affair.busy)
        affair.busy = doing

    def release(self, service: str) -> None:
        """Let others move the service again."""
        if service in self.affairs:
            self.affairs[service].busy = ""

    def hindered(self, what: str, error: MirrordError | None) -> None:
        """Take in why a step of publishing by itself could not be done; None: it could."""
        if error is None:
            self._hindered.pop(what, None)
            self._told.pop(what, None)
        else:
            self._hindered[what] = str(error)
            self._change_of_mind(what, str(error), what, "")

    def published(self, published: Published) -> None:
        """Take in how publishing to a mirror ended; a mirror that is ahead of us stops all automatic publishing."""
        if published.halts and published.error is not None and published.error != self.publishing_stopped:
            self.publishing_stopped = published.error
            self.note(Event("publish", f"nothing is published by itself any more: {published.error}"))

    def publish_again(self) -> None:
        """Go on publishing by itself: a person has looked."""
        self.publishing_stopped = None

    def troubles(self) -> list[str]:
        """Return what stands in the way of publishing, in sentences."""
        stopped = [self.publishing_stopped] if self.publishing_stopped is not None else []
        return list(dict.fromkeys((*stopped, *self._hindered.values())))

    def slept(self, now: float) -> None:
        """Forget verdicts after a gap: the machine was suspended, or stopped."""
        self.standing = self.standing.asleep(now)

    # -- conclusions

    def view(self, service: str, *, now: float) -> View:
        """Put together everything that a decision about a service may rest on."""
        affair = self.affairs[service]
        held = self.journal.held(service)
        comparison = affair.reading.comparison
        if affair.reading.epoch < self.journal.highest_epoch(service):
            comparison = None  # read before our last plan: what the journal knows is newer
        meant = self._meant(service)
        last = self.journal.last_move(service)
        return View(
            now=now,
            standing=self.standing,
            serving=comparison.serving if comparison is not None else meant,
            zone=comparison.state.value if comparison is not None else "unread",
            zone_text="" if _is_as_it_should_be(comparison) else affair.reading.text,
            meant=meant,
            held=None if held is None else Held(held.reason, held.by, held.until),
            drained=frozenset(self.journal.drained()),
            moves=tuple(move.age for move in self.journal.automatic_moves(service)),
            by_hand=last is not None and last.by_hand,
            placed=None if last is None else last.age,
            pending=self.journal.intent(service) is not None,
            acked=self._acked(service),
            trouble=affair.trouble,
        )

    def _meant(self, service: str) -> str | None:
        expected = self.journal.expected(service)
        policy = self.policy(service)
        if expected is not None and policy.serve == "all":
            return served_by(expected, policy.addresses, shared=True)
        for rrsets in expected.names.values() if expected is not None else ():
            fence = parse_fence(rrsets.fence)
            if fence is not None:
                return fence.target
        return None

    def _acked(self, service: str) -> frozenset[str]:
        ask = self.affairs[service].ask
        asked = self.journal.asked(ask) if ask is not None else None
        return frozenset({asked.id} if asked is not None and asked.agreed else ())

    def policy(self, service: str) -> Policy:
        """Return how a service wants to be served."""
        return self.settings.policy(service)

    def judge(self, service: str, view: View) -> Decision:
        """Decide about a service without a consequence."""
        return decide(view, self.policy(service))

    def conclude(self, service: str, *, now: float) -> Decision:
        """Decide about a service, write down a change of mind, and keep the question that is open."""
        affair = self.affairs[service]
        view, policy = self.view(service, now=now), self.policy(service)
        decision = decide(view, policy)
        self._ask(affair, service, decision)
        self._tell_decision(service, decision)
        self._write_down(affair, view, policy, decision)
        affair.decision = decision
        affair.halted = affair.halted if isinstance(decision, Move) else ""
        return decision

    def _write_down(self, affair: Affair, view: View, policy: Policy, decision: Decision) -> None:
        """Keep what a decision rested on, where anything but the time has changed, so that it can be made again."""
        now = records.signature(view, policy, decision)
        changed = affair.decision is None or _kind(affair.decision) != _kind(decision)
        if now == affair.recorded or (not changed and view.now - affair.recorded_at < RECORD_EVERY):
            return
        affair.recorded, affair.recorded_at = now, view.now
        document = records.write_down(view, policy, decision, time.time())
        text = f"{policy.service}: what {_kind(decision)} rested on"
        self.note(Event(records.KIND, text, about=policy.service, details=document))

    def _ask(self, affair: Affair, service: str, decision: Decision) -> None:
        """Put the question, or let the one lapse whose facts are gone."""
        wanted = decision.id if isinstance(decision, Ask) else affair.ask if isinstance(decision, Move) else None
        # Also those of an earlier process: a yes of last month must not carry out what is asked next month.
        self._try(lambda: self.journal.lapse_others(service, wanted))
        if isinstance(decision, Ask):
            ask = decision
            self._try(lambda: self.journal.ask(ask.id, service, ask.question, {"facts": list(ask.facts)}))
        affair.ask = wanted

    def protected(self, service: str, *, now: float) -> Protection:
        """Tell whether readers of a service would be helped if its serving mirror died now."""
        halted = self.affairs[service].halted
        if halted:  # they need help, and the last try gave none
            return Protection(ok=False, why=halted)
        return protected(self.view(service, now=now), self.policy(service))

    def health(self, mirror: str) -> dict[str, Health]:
        """Return what is held true of a mirror, by service."""
        services = {service.name for service in self.settings.services if mirror in service.order} or {""}
        return {service: self.standing.health(mirror, service) for service in sorted(services)}

    # -- changes of mind are told once

    def _tell_decision(self, service: str, decision: Decision) -> None:
        if isinstance(decision, Stay):
            loud = decision.alarm
            text = f"{service}: stays: {decision.reason}"
        elif isinstance(decision, Move):
            loud = True
            text = f"{service}: is to move from {decision.source} to {decision.target}: {decision.reason}"
        else:
            loud = True
            text = f"{service}: asks: {decision.question} (mirrord ack {decision.id})"
        if self._told.get(f"decision {service}") == _kind(decision):
            return
        self._told[f"decision {service}"] = _kind(decision)
        (_log.warning if loud else _log.info)("%s", text)
        self.note(Event("decision", text, about=service, details={"facts": list(decision.facts)}))

    def _tell_verdicts(self, before: Standing) -> None:
        for mirror in self.settings.mirrors:
            for service, health in self.health(mirror.name).items():
                was = before.health(mirror.name, service)
                if was.verdict is health.verdict:
                    continue
                where = f"{mirror.name} ({service})" if service else mirror.name
                why = health.cause.text if health.cause is not None else _well(health)
                text = f"{where}: {was.verdict.value} -> {health.verdict.value}: {why}"
                (_log.warning if health.verdict is Verdict.DOWN else _log.info)("%s", text)
                self.note(Event("verdict", text, about=mirror.name))

    def _change_of_mind(self, key: str, text: str, kind: str, about: str) -> None:
        if self._told.get(key) == text:
            return
        self._told[key] = text
        _log.warning("%s", text)
        self.note(Event(kind, text, about=about))

    def note(self, event: Event) -> None:
        """Write into the history; a journal that cannot be written stops nothing."""
        self._try(lambda: self.journal.record(replace(event, by=event.by or self.settings.controller.name)))

    def _keep_standing(self, seen: Round) -> None:
        lineage = [wanted.id for wanted in self.standing.lineage]
        if lineage != self._kept[0] or seen.ended - self._kept[1] >= STANDING_EVERY:
            kept = self.standing.remember(seen.ended, seen.wall_ended)
            self._try(lambda: self.journal.keep(STANDING, kept))
            self._kept = lineage, seen.ended
        for mirror in self.settings.mirrors:
            for health in self.health(mirror.name).values():
                card = health.snapshot
                if card is not None:
                    self._seen_serving(mirror.name, card)

    def _seen_serving(self, mirror: str, card: Snapshot) -> None:
        self._try(lambda: self.journal.seen_serving(mirror, card.serial, card.id))

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except MirrordError as e:
            if self._told.get("journal") != str(e):
                self._told["journal"] = str(e)
                _log.error("%s", e)


def _is_as_it_should_be(comparison: Comparison | None) -> bool:
    return comparison is not None and comparison.state is ZoneState.OURS and comparison.serving is not None


def _kind(decision: Decision) -> str:
    if isinstance(decision, Stay):
        return f"stay {decision.rule}"
    if isinstance(decision, Move):
        return f"move {decision.source} {decision.target}"
    return f"ask {decision.id}"


def _well(health: Health) -> str:
    return f"serves {health.snapshot.id}" if health.snapshot is not None else "looked through"
