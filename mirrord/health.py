"""Turn single looks at mirrors into judgements that can be acted on.

One failed look says little. `fall` of them in a row say that a mirror is down, but only if our own
network was seen to work before and after each of them; one altered page says a lot, but only if it
stays altered. What is held true of every mirror, why, and since when, is the `Standing`; it grows by
one `Round` of observations at a time. This module opens no socket, reads no clock and logs nothing:
`mirrord.probe` looks, `mirrord.looks` tells what of it counts, `mirrord.decide` draws the conclusion.

All times are seconds of one monotonic clock unless they say wall (Unix seconds).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from operator import attrgetter
from typing import Any, Self

from mirrord.looks import (
    GAP,
    Circumstances,
    ContentClass,
    Fault,
    FaultKind,
    Observation,
    Reference,
    Round,
    Sample,
    Target,
    Thresholds,
    Wanted,
    by_address,
    family,
    lasting,
    oldest,
    slept_within,
    take_sample,
    warnings_of,
    wrong_files,
)
from mirrord.manifest import Snapshot, SnapshotId

__all__ = [
    "ContentClass",
    "Fault",
    "FaultKind",
    "Fresh",
    "Health",
    "Observation",
    "Reference",
    "Round",
    "Standing",
    "Target",
    "Thresholds",
    "Verdict",
    "Wanted",
    "family",
    "freshly",
    "lasting",
]

SEVERAL = 6
"""Bad looks among the last few judged that make a mirror down even if never `fall` came in a row..."""
WINDOW = 10
"""... and how many are the last few. Both grow with a `fall` above `SEVERAL`."""


class Verdict(Enum):
    """What we hold true of a mirror; unknown is not down."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Streak:
    """The verdict on one address, or one file, with hysteresis."""

    verdict: Verdict = Verdict.UNKNOWN
    row: int = 0
    """How many looks in a row agreed: above zero good ones, below zero bad ones."""
    recent: tuple[bool, ...] = ()
    """The last few judged looks, newest last."""

    def after(self, *, good: bool, rules: Thresholds) -> "Streak":
        """Return the streak that follows one more judged look."""
        several = max(SEVERAL, rules.fall)
        recent = (*self.recent, good)[-(several + WINDOW - SEVERAL) :]
        if good:
            row = max(self.row, 0) + 1
            if row < rules.rise:
                return Streak(self.verdict, row, recent)
            # What it did before it was well again is over: one bad look more must not make it down at once.
            return Streak(Verdict.UP, row, recent if self.verdict is Verdict.UP else recent[-row:])
        row = min(self.row, 0) - 1
        fell = -row >= rules.fall or recent.count(False) >= several
        return Streak(Verdict.DOWN if fell else self.verdict, row, recent)

    def broken(self) -> "Streak":
        """Return the streak after a look that was neither good nor bad enough to count."""
        return Streak(self.verdict, 0, self.recent)


@dataclass(frozen=True, slots=True)
class Suspect:
    """A file that was seen wrong: asked for again in every round until it was right `rise` times in a row."""

    streak: Streak
    why: str

    @property
    def convicted(self) -> bool:
        """Whether it was wrong so often that its mirror is bad."""
        return self.streak.verdict is Verdict.DOWN


@dataclass(frozen=True, slots=True)
class Address:
    """What we hold true of one mirror's one address for one service."""

    verdict: Verdict = Verdict.UNKNOWN
    streak: Streak = Streak()
    cause: Fault | None = None
    """Why it is down, or what stands in the way of judging it."""
    fault: Fault | None = None
    """What was wrong lately; that it is merely outdated must be seen `rise` times before it hides anything worse."""
    outdated: int = 0
    """Looks in a row in which it was well but outdated."""
    content: ContentClass | None = None
    snapshot: Snapshot | None = None
    """The card last seen, validly signed."""
    suspects: Mapping[bytes, Suspect] = field(default_factory=dict)
    refused_since: float | None = None
    refused: int = 0
    """Looks in a row that were refused to us."""
    looked: float | None = None
    """End of the last round that looked here."""
    judged: float | None = None
    """End of the last round that judged what it saw here."""
    good: bool = False
    """Whether the last look that was judged was good."""
    well_since: float | None = None
    """Since when every look was good."""
    trail: tuple[tuple[Observation, ...], ...] = ()
    """The last few judged looks."""
    behind: tuple[Observation, ...] = ()
    """The observations that made the verdict."""
    warnings: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether the latest looks speak against the verdict, or a file is suspected: a few more will tell."""
        against = self.streak.row > 0 if self.verdict is Verdict.DOWN else self.streak.row < 0
        return against or any(not suspect.convicted for suspect in self.suspects.values())

    def anew(self, cause: Fault | None = None) -> "Address":
        """Return it unknown, streaks at zero; what is remembered only tells what to ask and what to show."""
        return Address(
            cause=cause,
            snapshot=self.snapshot,
            suspects={path: Suspect(Streak(), suspect.why) for path, suspect in self.suspects.items()},
            looked=self.looked,
            warnings=self.warnings,
        )


@dataclass(frozen=True, slots=True)
class Health:
    """What we hold true of one mirror for one service."""

    verdict: Verdict = Verdict.UNKNOWN
    since: float = 0.0
    """When the verdict began."""
    content: ContentClass | None = None
    """None where nothing is known of it, or it is down for another cause than its content."""
    cause: Fault | None = None
    """Why it is down, or why it is unknown where something stands in the way."""
    cause_since: float | None = None
    """Since when it has been this kind of cause: a mirror that is gone may come back with a wrong certificate."""
    snapshot: Snapshot | None = None
    """The card last seen, validly signed; the oldest where addresses differ."""
    judged: bool = False
    """Whether the latest round judged it completely: every address that counts, good or bad."""
    failing: bool = False
    """Whether the latest round judged it completely and saw nothing good."""
    outdated: bool = False
    """Whether the latest round found some address that counts well but for outdated content, whatever the cause is."""
    well_since: float | None = None
    """Since when every look at the addresses that count was good; None if the latest was not."""
    good: tuple[str, ...] = ()
    """Addresses that readers can be sent to, in configured order: not bad ones."""
    degraded: Mapping[str, Fault] = field(default_factory=dict)
    """Bad addresses of a mirror that is not down, and why."""
    suspects: Mapping[bytes, str] = field(default_factory=dict)
    """Files seen wrong and not yet acquitted, and why."""
    warnings: tuple[str, ...] = ()
    """Certificates that expire soon and the like: nothing that moves anybody."""
    behind: tuple[Observation, ...] = ()
    """The observations that made the verdict."""


UNKNOWN = Health()
"""What we hold true of a mirror that was never looked at."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """What one fresh, full look at a target found, judged by itself (no streaks)."""

    mirror: str
    service: str
    ok: bool
    """Usable: some address that counts (IPv4, or IPv6 where it has none) was well under every name."""
    content: ContentClass | None
    """STALE can be `ok`: whether it will do depends on what is being left. None if it is not `ok`."""
    good: tuple[str, ...]
    """The addresses that were well."""
    bad: Mapping[str, Fault]
    """Those that were not, and why; a switch leaves them out."""
    unjudged: Mapping[str, Fault] = field(default_factory=dict)
    """Those of which this look proves nothing, and why."""
    snapshot: Snapshot | None = None
    """The card seen; the oldest where addresses differ."""


@dataclass(frozen=True, slots=True)
class Standing:
    """All judgement: what is held true of every mirror, and what the latest rounds suggest."""

    lineage: tuple[Wanted, ...] = ()
    """Snapshots that were seen served, oldest first, as far back as they tell who is outdated."""
    unjudged: Mapping[int, str] = field(default_factory=dict)
    """Address families (4, 6) that cannot be judged now, and why."""
    clock: str | None = None
    """By how much our clock is off, in words, while it is too far off to act; None while it is not."""
    clocks: Mapping[str, float] = field(default_factory=dict)
    """Mirror -> its wall clock less our monotonic one, when last heard."""
    addresses: Mapping[tuple[str, str], Mapping[str, Address]] = field(default_factory=dict)
    """(mirror, service) -> address -> what we hold true of it."""
    healths: Mapping[tuple[str, str], Health] = field(default_factory=dict)
    """(mirror, service) -> what we hold true of it."""
    latest: float | None = None
    """End of the latest round."""
    latest_wall: float = 0.0
    """The same, on the wall clock."""
    began: float | None = None
    """Beginning of the latest round; None where nothing was looked at yet, or it is only supposed what was seen."""

    @property
    def wanted(self) -> Wanted | None:
        """The newest snapshot that at least one mirror was seen to serve."""
        return self.lineage[-1] if self.lineage else None

    def health(self, mirror: str, service: str) -> Health:
        """Return what is held true of a mirror for a service; unknown if it was never looked at."""
        return self.healths.get((mirror, service), UNKNOWN)

    def rhythm(self, rules: Thresholds) -> float:
        """Return from the beginning of one round to that of the next, in seconds: sooner while something is open."""
        open_ = any(state.is_open for states in self.addresses.values() for state in states.values())
        return min(rules.hurried, rules.every) if open_ else rules.every

    def supposing(self, mirror: str, service: str, health: Health) -> Self:
        """Return the standing as it would be if one mirror were as given: to tell what would follow."""
        return replace(self, healths={**self.healths, (mirror, service): health}, began=None)

    def suspects(self, mirror: str, service: str) -> frozenset[bytes]:
        """Return the files that the next look has to ask for again, at every address."""
        return frozenset(self.health(mirror, service).suspects)

    def after(
        self,
        seen: Round,
        rules: Thresholds,
        *,
        published: Mapping[str, float] | None = None,
        badtime: float | None = None,
    ) -> Self:
        """Return the standing that follows one more complete round (fresh looks at one target are not fed).

        `published` is mirror -> the latest moment at which we changed, or were changing, what it serves.
        `badtime` is by how many seconds the name server's clock is ahead of ours while it says that ours is
        off (TSIG BADTIME, RFC 8945 5.2.3), None while it does not.
        """
        awake = self.asleep(seen.started) if self._slept_before(seen, rules) else self
        if slept_within(seen, rules):
            asleep = awake.asleep(seen.ended)
            return replace(asleep, latest=seen.ended, latest_wall=seen.wall_ended, began=seen.started)
        given = Circumstances.of(
            seen,
            rules,
            lineage=awake.lineage,
            clocks=awake.clocks,
            published=published,
            badtime=badtime,
        )
        addresses = {
            key: {a: _after(a, awake.addresses.get(key, {}).get(a), looks, given) for a, looks in at.items()}
            for key, at in by_address(seen, awake.addresses).items()
        }
        return type(self)(
            lineage=given.lineage,
            unjudged=given.unjudged,
            clock=given.clock,
            clocks=given.clocks,
            addresses=addresses,
            healths={key: _health_after(awake, key, states, given.now) for key, states in addresses.items()},
            latest=seen.ended,
            latest_wall=seen.wall_ended,
            began=seen.started,
        )

    def _slept_before(self, seen: Round, rules: Thresholds) -> bool:
        """Whether the round comes after a gap. A suspended machine's monotonic clock stands still; the wall tells."""
        if self.latest is None:
            return False
        gap = max(seen.started - self.latest, seen.wall_started - self.latest_wall)
        return gap > GAP * rules.every

    def overslept(self, now: float, wall: float, rules: Thresholds) -> float:
        """Return for how long we were suspended since the latest round; 0.0 where its verdicts still count."""
        slept = 0.0 if self.latest is None else (wall - self.latest_wall) - (now - self.latest)
        return slept if slept > GAP * rules.every else 0.0

    def asleep(self, now: float) -> Self:
        """Return the standing after a gap (suspended, or stopped): verdicts and streaks start anew, wanted stays."""
        addresses = {key: {a: state.anew() for a, state in states.items()} for key, states in self.addresses.items()}
        healths = {key: _mirror(self.health(*key), states, now) for key, states in addresses.items()}
        return replace(self, clocks={}, addresses=addresses, healths=healths)

    def only(self, targets: Iterable[Target]) -> Self:
        """Return the standing without what is no longer configured; what stays keeps its verdict."""
        stay = {(t.mirror, t.service, t.address) for t in targets}
        left = {
            key: {a: state for a, state in states.items() if (*key, a) in stay}
            for key, states in self.addresses.items()
        }
        addresses = {key: states for key, states in left.items() if states}
        healths = {
            key: self.healths[key]
            if states == self.addresses[key]
            else _mirror(self.healths[key], states, self.latest or 0.0)
            for key, states in addresses.items()
        }
        clocks = {mirror: c for mirror, c in self.clocks.items() if any(mirror == key[0] for key in addresses)}
        return replace(self, addresses=addresses, healths=healths, clocks=clocks)

    def remember(self, now: float, wall: float) -> list[dict[str, Any]]:
        """Return what must outlive a restart, ready for JSON: which snapshots were seen served, and since when."""
        return [{"id": w.id, "serial": w.serial, "age": max(now - w.since, 0.0), "wall": wall} for w in self.lineage]

    @classmethod
    def recall(cls, kept: Iterable[Mapping[str, Any]], now: float, wall: float) -> Self:
        """Start from what `remember` wrote: verdicts unknown; ages grew by the wall clock, never backwards."""
        lineage = [Wanted(SnapshotId(k["id"]), k["serial"], now - k["age"] - max(wall - k["wall"], 0.0)) for k in kept]
        return cls(lineage=tuple(sorted(lineage, key=lambda w: w.serial)))


def _after(address: str, known: Address | None, looks: Sequence[Observation], given: Circumstances) -> Address:
    """Return one address after one more round, whether or not it was looked at."""
    old = known or Address()
    if (why := given.unjudged.get(family(address))) is not None:
        return replace(old.anew(Fault(FaultKind.NETWORK, why)), looked=given.now)
    if looks:
        return _looked(old, take_sample(looks, given), given)
    forgotten = old.looked is None or given.now - old.looked > GAP * given.rules.every
    return old.anew() if forgotten else old


def _looked(old: Address, sample: Sample, given: Circumstances) -> Address:
    """Return an address after one more sample."""
    suspects = _suspects(old.suspects, sample, given.rules)
    if sample.good is None and not sample.wrong:
        seen = replace(
            old,
            looked=given.now,
            snapshot=sample.snapshot or old.snapshot,
            suspects=suspects,
            content=sample.content or old.content,
            warnings=warnings_of(sample, given),
        )
        return _refused(seen, sample, given) if sample.refused else seen
    streak = old.streak.broken() if sample.good is None else old.streak.after(good=sample.good, rules=given.rules)
    convicted = {path: s.why for path, s in suspects.items() if s.convicted}
    verdict = Verdict.DOWN if convicted else streak.verdict
    stale = sample.fault is not None and sample.fault.kind is FaultKind.STALE
    outdated = old.outdated + 1 if stale else 0
    fault = old.fault if stale and old.fault and outdated < given.rules.rise else sample.fault or old.fault
    cause = wrong_files(convicted) if streak.verdict is not Verdict.DOWN and convicted else fault
    changed = verdict is not old.verdict
    trail = _trail(old, sample, given.rules)
    return Address(
        verdict=verdict,
        streak=streak,
        cause=cause if verdict is Verdict.DOWN else None,
        fault=None if streak.verdict is Verdict.UP and sample.good else fault,
        outdated=outdated,
        content=ContentClass.BAD if convicted else _content_after(old, sample, verdict),
        snapshot=sample.snapshot or old.snapshot,
        suspects=suspects,
        looked=given.now,
        judged=given.now,
        good=sample.good is True,
        well_since=(given.now if old.well_since is None else old.well_since) if sample.good else None,
        trail=trail,
        behind=_flat(trail) if changed else old.behind,
        warnings=warnings_of(sample, given),
    )


def _suspects(old: Mapping[bytes, Suspect], sample: Sample, rules: Thresholds) -> Mapping[bytes, Suspect]:
    """Count each suspected file by itself; let go of those that were right often enough, or are no more."""
    if not old and not sample.wrong:
        return old
    now: dict[bytes, Suspect] = {path: s for path, s in old.items() if path not in sample.dropped}
    for path, why in sample.wrong.items():
        before = now[path].streak if path in now else Streak()
        now[path] = Suspect(before.after(good=False, rules=rules), why)
    for path in sample.right & now.keys():
        streak = now[path].streak.after(good=True, rules=rules)
        now[path] = Suspect(streak, now[path].why)
        if streak.verdict is Verdict.UP:
            del now[path]
    return now


def _content_after(old: Address, sample: Sample, verdict: Verdict) -> ContentClass | None:
    if sample.content is not None:
        return sample.content
    if verdict is not Verdict.DOWN:
        return old.content
    bad = sample.fault is not None and sample.fault.kind is FaultKind.CONTENT
    return ContentClass.BAD if bad else None


def _trail(old: Address, sample: Sample, rules: Thresholds) -> tuple[tuple[Observation, ...], ...]:
    return (*old.trail, sample.looks)[-max(rules.fall, rules.rise) :]


def _flat(trail: tuple[tuple[Observation, ...], ...]) -> tuple[Observation, ...]:
    return tuple(look for looks in trail for look in looks)


def _refused(seen: Address, sample: Sample, given: Circumstances) -> Address:
    """Being turned away says nothing of other readers, until it has lasted."""
    assert sample.fault is not None
    began = min(look.started for look in sample.looks) if seen.refused_since is None else seen.refused_since
    lasted, times = given.now - began, seen.refused + 1
    down = lasted >= given.rules.refused_for and times >= given.rules.fall
    verdict = Verdict.DOWN if down else Verdict.UNKNOWN
    changed = verdict is not seen.verdict
    trail = _trail(seen, sample, given.rules)
    return replace(
        seen,
        verdict=verdict,
        streak=Streak(verdict),
        cause=Fault(FaultKind.REFUSED_US, f"{sample.fault.text}, for {lasting(lasted)} now") if down else sample.fault,
        content=None,
        refused_since=began,
        refused=times,
        judged=given.now if down else seen.judged,
        good=False,
        well_since=None,
        trail=trail,
        behind=_flat(trail) if changed else seen.behind,
    )


_told = attrgetter(
    "verdict", "cause", "outdated", "content", "snapshot", "suspects", "good", "well_since", "behind", "warnings"
)
"""All that `_mirror` takes from an address, besides whether the latest round judged it."""


def _health_after(before: Standing, key: tuple[str, str], states: Mapping[str, Address], now: float) -> Health:
    """Put a mirror's addresses together, unless all of them say what they said before: then nothing changed."""
    known = before.addresses.get(key)
    if known is None or known.keys() != states.keys():
        return _mirror(before.health(*key), states, now)
    for address, state in states.items():
        was = known[address]
        if (was.judged == before.latest) is not (state.judged == now) or _told(was) != _told(state):
            return _mirror(before.health(*key), states, now)
    return before.healths[key]


def _mirror(old: Health, addresses: Mapping[str, Address], now: float) -> Health:
    """Put a mirror's addresses together: IPv4 counts, or IPv6 where it has no IPv4."""
    counted = {a: s for a, s in addresses.items() if family(a) == 4} or addresses
    states = list(counted.values())
    verdicts = [state.verdict for state in states]
    verdict = next(v for v in (Verdict.UP, Verdict.UNKNOWN, Verdict.DOWN) if v in verdicts)
    judged = all(state.judged == now for state in states)
    down = {a: s.cause for a, s in addresses.items() if s.verdict is Verdict.DOWN and s.cause is not None}
    stale = {a: cause for a, cause in down.items() if a in counted and cause.kind is FaultKind.STALE}
    usable = [s for s in states if s.verdict is not Verdict.DOWN] or [counted[a] for a in stale] or states
    well = [state.well_since for state in states]
    cause = _cause(verdict, counted, stale)
    same = cause is not None and old.cause is not None and cause.kind is old.cause.kind
    return Health(
        verdict=verdict,
        since=old.since if verdict is old.verdict else now,
        content=_worst([s.content for s in usable]),
        cause=cause,
        cause_since=None if cause is None else old.cause_since if same else now,
        snapshot=oldest([s.snapshot for s in usable]),
        judged=judged,
        failing=judged and not any(state.good for state in states),
        outdated=any(state.outdated and state.judged == now for state in states),
        well_since=None if None in well else max(w for w in well if w is not None),
        good=tuple(a for a in addresses if a not in down or (verdict is Verdict.DOWN and a in stale)),
        degraded={} if verdict is Verdict.DOWN else down,
        suspects={path: s.why for state in addresses.values() for path, s in state.suspects.items()},
        warnings=tuple(dict.fromkeys([w for state in addresses.values() for w in state.warnings])),
        behind=tuple([o for s in states if s.verdict is verdict for o in s.behind]),
    )


def _worst(contents: Sequence[ContentClass | None]) -> ContentClass | None:
    known = [content for content in contents if content is not None]
    return max(known, key=lambda content: content.rank) if len(known) > 1 else known[0] if known else None


def _cause(verdict: Verdict, counted: Mapping[str, Address], stale: Mapping[str, Fault]) -> Fault | None:
    """Name why a mirror is not up; of several causes the mildest, for it says what could still be served."""
    if verdict is Verdict.UP:
        return None
    causes = stale or {a: s.cause for a, s in counted.items() if s.verdict is verdict and s.cause is not None}
    first = next(iter(causes.values()), None)
    texts = dict.fromkeys(cause.text for cause in causes.values())
    if first is None or len(texts) == 1:
        return first
    return Fault(first.kind, "; ".join(f"{a}: {cause.text}" for a, cause in causes.items()))


def freshly(
    seen: Round,
    standing: Standing,
    mirror: str,
    service: str,
    rules: Thresholds,
    *,
    published: Mapping[str, float] | None = None,
) -> Fresh:
    """Judge one fresh, full look at a target, made after the decision to move there."""
    given = Circumstances.of(seen, rules, lineage=standing.lineage, clocks=standing.clocks, published=published)
    given = replace(given, clock=given.clock or standing.clock)
    good: dict[str, Sample] = {}
    bad: dict[str, Fault] = {}
    unjudged: dict[str, Fault] = {}
    for address, looks in by_address(seen, {}).get((mirror, service), {}).items():
        sample = take_sample(looks, given)
        if (why := given.unjudged.get(family(address))) is not None:
            unjudged[address] = Fault(FaultKind.NETWORK, why)
        elif sample.content is not None and sample.content is not ContentClass.BAD and sample.good is not None:
            good[address] = sample
        elif sample.fault is not None:
            (bad if sample.good is False or sample.wrong else unjudged)[address] = sample.fault
    counted = {a for a in (*good, *bad, *unjudged) if family(a) == 4} or {*good, *bad, *unjudged}
    ok = any(a in good for a in counted)
    return Fresh(
        mirror=mirror,
        service=service,
        ok=ok,
        content=_worst([s.content for s in good.values()]) if ok else None,
        good=tuple(good),
        bad=bad,
        unjudged=unjudged,
        snapshot=oldest([s.snapshot for s in good.values()]),
    )
