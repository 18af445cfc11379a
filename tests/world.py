"""A simulated world: mirrors in their places, networks, a name server, an operator, and a clock that is a variable.

The judging and deciding are the real ones; what they look at and what they move is simulated, so half a day takes no
time. The world knows the truth, and `tests.promises` holds every move against it.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from mirrord.decide import (
    RULES,
    Ask,
    Decision,
    Held,
    Move,
    Permission,
    Policy,
    Rules,
    Stay,
    View,
    Zone,
    decide,
    explain,
    may_switch,
    next_after,
    passes,
    protected,
)
from mirrord.health import (
    Fault,
    FaultKind,
    Fresh,
    Health,
    Observation,
    Reference,
    Round,
    Standing,
    Target,
    Thresholds,
    Verdict,
    freshly,
)
from mirrord.manifest import Snapshot, SnapshotId
from mirrord.rules import members, together
from mirrord.sharing import after_looks, joined_by, speaks_against, to_look_at
from tests.promises import PATIENCE, Promises

SERVICE = "web"
NAME = "www.example.test"
START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0


@lru_cache(maxsize=4096)
def card(serial: int, next_expected: datetime = START + timedelta(days=4000)) -> Snapshot:
    """Make the card of the snapshot with this serial; a card is all that judging knows of a snapshot."""
    created = START + timedelta(seconds=serial)
    digest = f"{serial:064x}"[::-1]
    return Snapshot(
        site="example",
        serial=serial,
        id=SnapshotId(f"{created:%Y%m%dT%H%M%SZ}-{digest[:8]}"),
        created=created,
        next_expected=next_expected,
        previous=None,
        manifest_sha256=digest,
        files=1,
        size=1,
    )


@lru_cache(maxsize=64)
def references(*, v4: bool | None = True, v6: bool | None = True) -> tuple[Reference, ...]:
    """Make one reference for each family, reachable or not; None leaves a family without."""
    configured = ((v4, "192.0.2.253:53", 4), (v6, "[2001:db8:ffff::53]:53", 6))
    return tuple(Reference(address, number, up) for up, address, number in configured if up is not None)


@lru_cache(maxsize=1024)
def target(mirror: str, address: str, *, markers: bool) -> Target:
    """Make what a look at one address of a mirror looks at."""
    return Target(mirror, SERVICE, NAME, address, markers=markers)


@dataclass
class Mirror:
    """One simulated mirror, as it really is."""

    name: str
    place: str
    addresses: tuple[str, ...]
    markers: bool = False
    serial: int = 1
    alive: bool = True
    flaps: bool = False
    """It is there in every second round only."""
    dark: set[str] = field(default_factory=set)
    """Addresses of it that answer nobody."""
    tls: bool = True
    signed: bool = True
    redirects: bool = False
    refuses_us_since: float | None = None
    altered: set[bytes] = field(default_factory=set)
    published: float | None = None
    """When we last began to change what it serves; readers see a mixture until `whole`."""
    whole: float = 0.0
    clock_error: float = 0.0
    certificate_until: float = START.timestamp() + 3000 * DAY

    @property
    def counting(self) -> list[str]:
        """Addresses that count: IPv4, or IPv6 where there is no IPv4."""
        return [a for a in self.addresses if ":" not in a] or list(self.addresses)


@dataclass(frozen=True)
class Moved:
    """A move that was carried out; `move` is what was decided, None where an operator switched."""

    at: float
    source: str | None
    target: str
    move: Move | None


@dataclass
class World:
    """Mirrors in this order, each with one IPv4 address unless given otherwise; the first one serves, or all share."""

    names: tuple[str, ...] = ("milan", "lyon", "oslo")
    thresholds: Thresholds = field(default_factory=Thresholds)
    policy: Policy = field(default_factory=lambda: Policy(service=SERVICE, order=()))
    rules: Rules = RULES
    pages: int = 40
    sample: int = 4
    look_again: bool = True
    """False leaves the fresh look before a move out."""
    mirrors: dict[str, Mirror] = field(default_factory=dict)
    standing: Standing = field(default_factory=Standing)
    now: float = 1000.0
    """Our monotonic clock."""
    true: float = START.timestamp()
    """What the time really is."""
    clock_error: float = 0.0
    serving: str | None = None
    zone: Zone = "ours"
    meant: str | None = None
    pending: bool = False
    badtime: float | None = None
    held: Held | None = None
    drained: set[str] = field(default_factory=set)
    acked: set[str] = field(default_factory=set)
    moved_at: list[tuple[float, float]] = field(default_factory=list)
    """Our monotonic and our wall clock at each automatic move, the latest first."""
    reachable: dict[int, bool] = field(default_factory=lambda: {4: True, 6: True})
    """Whether our own network works, by family."""
    flapping: bool = False
    """References answer before a round and not after it."""
    cut_off: set[str] = field(default_factory=set)
    """Mirrors that we cannot reach though readers can."""
    newest: int = 1
    decision: Decision | None = None
    history: list[Moved] = field(default_factory=list)
    decided: Counter[str] = field(default_factory=Counter)
    """How often each rule decided, `move` among them."""
    by_hand: bool = False
    """An operator sent readers to where they are."""
    placed_at: float | None = None
    """Our monotonic clock when readers were last sent anywhere."""
    latest: Round | None = None
    next_round: float = 1000.0
    promises: Promises | None = field(default_factory=Promises)

    def __post_init__(self) -> None:
        """Put the mirrors in their places."""
        self.dice = random.Random(1)
        self.files = [f"page-{number:05}.html".encode() for number in range(self.pages)]
        for number, name in enumerate(self.names, 1):
            self.mirrors.setdefault(name, Mirror(name, f"dc-{name}", (f"192.0.2.{number}",)))
        self.policy = replace(
            self.policy,
            order=self.policy.order or self.names,
            markers=frozenset(m.name for m in self.mirrors.values() if m.markers),
            places={m.name: m.place for m in self.mirrors.values()},
            addresses={m.name: m.addresses for m in self.mirrors.values()},
        )
        at_first = together(self.policy, self.policy.order[: self.policy.answers])
        self.serving = self.meant = self.serving or (at_first if self.policy.serve == "all" else self.names[0])

    # -- what tests ask

    @property
    def moves(self) -> list[str]:
        """Where readers were moved, one after the other."""
        return [moved.target for moved in self.history]

    @property
    def wall(self) -> float:
        """Our wall clock."""
        return self.true + self.clock_error

    def health(self, name: str) -> Health:
        """What is held true of a mirror."""
        return self.standing.health(name, SERVICE)

    def verdict(self, name: str) -> Verdict:
        """The verdict on a mirror."""
        return self.health(name).verdict

    @property
    def here(self) -> tuple[str, ...]:
        """Where readers are sent."""
        return members(self.serving)

    @property
    def rule(self) -> str:
        """The name of what decided last."""
        return self.decision.rule if isinstance(self.decision, Stay | Ask) else "move"

    @property
    def reason(self) -> str:
        """The reason of what was decided last."""
        assert self.decision is not None
        return self.decision.question if isinstance(self.decision, Ask) else self.decision.reason

    def view(self) -> View:
        """What a decision rests on now."""
        return View(
            now=self.now,
            standing=self.standing,
            serving=self.serving,
            zone=self.zone,
            meant=self.meant,
            held=self.held,
            drained=frozenset(self.drained),
            moves=tuple(self.now - moved for moved, _ in self.moved_at),
            by_hand=self.by_hand,
            placed=None if self.placed_at is None else self.now - self.placed_at,
            pending=self.pending,
            acked=frozenset(self.acked),
        )

    def explain(self) -> str:
        """Why it is so, as a person reads it."""
        return "\n".join(explain(self.view(), self.policy, self.rules))

    @property
    def protected(self) -> bool:
        """Whether mirrord could help now."""
        return protected(self.view(), self.policy, self.rules).ok

    # -- what happens to mirrors and networks

    def lose(self, *names: str) -> None:
        """Their datacentre is gone."""
        for name in names:
            self.mirrors[name].alive = False

    def heal(self, *names: str, serial: int | None = None) -> None:
        """They are back and well, with this content (default: what they had)."""
        for name in names:
            was = self.mirrors[name]
            self.mirrors[name] = Mirror(
                name,
                was.place,
                was.addresses,
                markers=was.markers,
                serial=was.serial if serial is None else serial,
                published=was.published,
                whole=was.whole,
            )

    def alter(self, name: str, *files: bytes) -> None:
        """Somebody changed these pages on a mirror."""
        self.mirrors[name].altered.update(files)

    def publish(self, *names: str, lasting: float = 0.0) -> None:
        """Take a new snapshot and publish it to these mirrors (default: all); a long one shows a mixture meanwhile."""
        self.newest += 1
        for name in names or self.names:
            mirror = self.mirrors[name]
            if mirror.alive and not mirror.markers:
                mirror.serial = self.newest
                mirror.altered.clear()
                mirror.published, mirror.whole = self.now, self.now + lasting

    def isolate(self, family: int | None = None, *, still_seen: Iterable[str] = ()) -> None:
        """Our own network is gone (or one family of it), but for the way to mirrors that stand beside us."""
        for number in (4, 6) if family is None else (family,):
            self.reachable[number] = False
        self.cut_off = set() if family == 6 else set(self.names) - set(still_seen)

    def reconnect(self) -> None:
        """Our own network is back."""
        self.reachable = {4: True, 6: True}
        self.cut_off.clear()

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: its monotonic clock stands still, the world goes on."""
        self.true += seconds
        self._forget()

    def step_clock(self, seconds: float) -> None:
        """Somebody sets our wall clock."""
        self.clock_error += seconds
        self._forget()

    def restart(self, down: float = 1.0) -> None:
        """Stop and start, as at a reboot: only what is written down survives, ages by the wall clock."""
        kept = json.loads(json.dumps(self.standing.remember(self.now, self.wall)))
        self.true += down
        ages = [max(self.wall - wall, 0.0) for _, wall in self.moved_at]
        self.placed_at = None
        self.now = self.next_round = 5000.0
        for mirror in self.mirrors.values():
            mirror.published, mirror.whole = None, 0.0
            mirror.refuses_us_since = None if mirror.refuses_us_since is None else self.now - PATIENCE
        self.standing = Standing.recall(kept, self.now, self.wall)
        self.moved_at = [(self.now - age, wall) for age, (_, wall) in zip(ages, self.moved_at, strict=True)]
        self.decision = None
        if self.promises is not None:
            self.promises.good_since.clear()
        self._forget()

    def _forget(self) -> None:
        if self.promises is not None:
            self.promises.forget()

    # -- what operators do

    def hold(self, reason: str = "moving house") -> None:
        """Stop automatic moves."""
        self.held = Held(reason, "anna")

    def unhold(self) -> None:
        """Resume them."""
        self.held = None

    def ack(self) -> None:
        """Answer yes to what is asked."""
        if isinstance(self.decision, Ask):
            self.acked.add(self.decision.id)

    def switch(self, target: str, override: str | None = None, *, adopt: bool = False) -> Permission:
        """Move readers by hand, if nothing forbids it."""
        fresh = self.look_freshly(target)
        allowed = may_switch(self.view(), self.policy, target, fresh, override=override, adopt=adopt, rules=self.rules)
        target = joined_by(self.view(), self.policy, target)
        if allowed.ok and target != self.serving:
            self._commit(target, None)
            self._decide()
        return allowed

    def revert_zone(self, to: str) -> None:
        """The name server restarts from an old zone file."""
        self.zone, self.serving = "reverted", to

    # -- time passes

    def run(self, *, hours: float = 0.0, minutes: float = 0.0, seconds: float = 0.0, rounds: int = 0) -> None:
        """Let time pass, and the controller do its work."""
        until = self.now + hours * HOUR + minutes * MINUTE + seconds
        for _ in range(rounds):
            self._round()
        while rounds == 0 and self.next_round <= until:
            self._round()
        self._pass_until(until)

    def _pass_until(self, moment: float) -> None:
        self.true += max(moment - self.now, 0.0)
        self.now = max(moment, self.now)

    def _round(self) -> None:
        self._pass_until(self.next_round)
        began = self.now
        for mirror in self.mirrors.values():
            mirror.alive ^= mirror.flaps
        self.latest = self.look_around(self.names)
        self.standing = self.standing.after(
            self.latest, self.thresholds, published=self._published(), badtime=self.badtime
        )
        self.next_round = max(began + self.standing.rhythm(self.thresholds), self.now)
        if self.promises is not None:
            self.promises.note(self)
        self._decide()
        self.decided[self.rule] += 1
        if self.promises is not None:
            self.promises.of_help(self)

    def _decide(self) -> None:
        """As after each round, and after each order."""
        self.decision = decide(self.view(), self.policy, self.rules)
        if isinstance(self.decision, Move):
            self._carry_out(self.decision)

    def _carry_out(self, decided: Move) -> None:
        """Look freshly at one candidate after the other, and move to the first that is found well."""
        step = self._look_before(decided) if self.look_again else decided
        if isinstance(step, Stay):
            self.decision = step
            return
        if self.promises is not None:
            self.promises.of_move(self, step)
        if step.automatic:
            self.moved_at.insert(0, (self.now, self.wall))
        self._commit(step.target, step)

    def _look_before(self, decided: Move) -> Move | Stay:
        """Return what is left of a move after the fresh looks."""
        failed: dict[str, str] = {}
        if self.policy.serve == "all":
            for mirror in to_look_at(decided):
                if (why := speaks_against(decided, self.look_freshly(mirror))) is not None:
                    failed[mirror] = why
            return after_looks(decided, self.policy, failed)
        step: Move | Stay = decided
        while isinstance(step, Move):
            why = passes(step, self.look_freshly(step.target))
            if why is None:
                return step
            failed[step.target] = why
            step = next_after(decided, failed)
        return step

    def _commit(self, target: str, move: Move | None) -> None:
        self.history.append(Moved(self.now, self.serving, target, move))
        self.serving = self.meant = target
        self.zone, self.by_hand, self.placed_at = "ours", move is None, self.now
        if self.promises is not None:
            self.promises.waiting_since.clear()

    # -- looking

    def _published(self) -> dict[str, float]:
        """When we last changed what each mirror serves: now, while we are at it."""
        return {
            mirror.name: min(self.now, max(mirror.whole, mirror.published))
            for mirror in self.mirrors.values()
            if mirror.published is not None
        }

    def look_around(self, names: Iterable[str]) -> Round:
        """Look at these mirrors once, between two looks at the references."""
        started, wall_started = self.now, self.wall
        looks = tuple(self._look(self.mirrors[name], a) for name in names for a in self.mirrors[name].addresses)
        self._pass_until(max(look.ended for look in looks))
        return Round(
            started=started,
            ended=self.now,
            wall_started=wall_started,
            wall_ended=self.wall,
            observations=looks,
            before=references(v4=self.reachable[4], v6=self.reachable[6]),
            after=references(v4=self.reachable[4] and not self.flapping, v6=self.reachable[6] and not self.flapping),
        )

    def look_freshly(self, target: str) -> Fresh:
        """Look at one target, and judge that look by itself."""
        seen = self.look_around([target])
        return freshly(seen, self.standing, target, SERVICE, self.thresholds, published=self._published())

    def _look(self, mirror: Mirror, address: str) -> Observation:
        fault = self._fault(mirror, address)
        at = target(mirror.name, address, markers=mirror.markers)
        if fault is not None and fault.kind is FaultKind.UNREACHABLE:
            return Observation(at, self.now, self.now + self.thresholds.timeout, self.wall, fault)
        ended, wall = self.now + 0.2, self.wall
        if fault is not None and fault.kind is FaultKind.TLS:
            return Observation(at, self.now, ended, wall, fault)
        days = (mirror.certificate_until - wall) / DAY
        offset = self.true + mirror.clock_error - wall
        if fault is not None or mirror.markers:
            fault = fault or self._date_fault(mirror)
            return Observation(at, self.now, ended, wall, fault, certificate_days=days, date_offset=offset)
        right, wrong, mixed = self._ask_for_files(mirror)
        return Observation(
            target=at,
            started=self.now,
            ended=ended,
            wall=wall,
            fault=self._date_fault(mirror),
            snapshot=card(mirror.serial),
            right=right,
            wrong=wrong,
            settling=mixed,
            certificate_days=days,
            date_offset=offset,
        )

    def _ask_for_files(self, mirror: Mirror) -> tuple[frozenset[bytes], dict[bytes, str], frozenset[bytes]]:
        """Return the files that were right, those that were wrong, and those from another snapshot."""
        asked = frozenset(self.dice.sample(self.files, min(self.sample, self.pages)))
        asked |= self.standing.suspects(mirror.name, SERVICE)
        wrong = asked & mirror.altered if mirror.altered else frozenset()
        mixed = frozenset(sorted(asked - wrong)[:2]) if self.now < mirror.whole else frozenset()
        return asked - wrong - mixed, dict.fromkeys(wrong, "has other bytes"), mixed

    def _date_fault(self, mirror: Mirror) -> Fault | None:
        if self.wall < mirror.certificate_until:
            return None
        return Fault(FaultKind.CLOCK, "its certificate is past its date")

    def _fault(self, mirror: Mirror, address: str) -> Fault | None:
        unseen = mirror.name in self.cut_off or (":" in address and not self.reachable[6])
        if not mirror.alive or address in mirror.dark or unseen:
            return Fault(FaultKind.UNREACHABLE, "cannot be reached: no answer")
        if not mirror.tls:
            return Fault(FaultKind.TLS, "its certificate is for another name")
        if mirror.refuses_us_since is not None:
            return Fault(FaultKind.REFUSED_US, "refuses us (429)")
        if mirror.redirects:
            return Fault(FaultKind.REDIRECT, "redirects to https://canonical.example.test/")
        if not mirror.signed and not mirror.markers:
            return Fault(FaultKind.CONTENT, "is not signed as it should be")
        return None
