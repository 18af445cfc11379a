"""What did one round see of the mirrors, and what of it counts?

A look is made at one mirror, under one name of a service, at one address; `mirrord.probe` makes it and
passes no judgement. A round is one look at everything, between two looks at the references that tell
whether our own network works. Here the looks at one address, under all names of a service, become one
`Sample`: good, bad, or not to be held against anybody (it was refused to us, we had just published, our
clock is wrong). What samples add up to over time is held in `mirrord.health`.

All times are seconds of one monotonic clock unless they say wall (Unix seconds).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from statistics import median

from mirrord.manifest import Snapshot, SnapshotId, show, stamp

SOON = 14.0
"""Days: a certificate that expires within them is worth a warning."""
GAP = 3.0
"""Times `every`: after a longer gap verdicts start anew."""


class ContentClass(Enum):
    """What kind of content a mirror was last seen to serve, best first."""

    CURRENT = "current"
    """Signed, and at least as new as the wanted snapshot."""
    SETTLING = "settling"
    """Between two manifests of ours, just after we published."""
    BEHIND = "behind"
    """Signed and older than wanted, for less than `max_lag`."""
    UNVERIFIED = "unverified"
    """Not ours to publish (`content = "markers"`): its markers are there, more cannot be proven."""
    STALE = "stale"
    """Signed and older than wanted for longer than `max_lag`: down."""
    BAD = "bad"
    """Unsigned, altered, incomplete or mixed: down."""

    rank: int
    """0 for the best."""

    def __init__(self, _text: str) -> None:
        """Rank it behind those that stand before it."""
        self.rank = len(type(self).__members__)


class FaultKind(Enum):
    """What went wrong, sorted by what follows from it."""

    UNREACHABLE = "unreachable"
    """No connection, or it broke off."""
    TLS = "tls"
    """The certificate or the handshake is wrong, dates excepted."""
    CLOCK = "clock"
    """The certificate is right but for its dates: expired or not yet valid by our clock. All else was looked at."""
    STATUS = "status"
    """An HTTP status other than 200, or no HTTP."""
    REDIRECT = "redirect"
    """It redirects to where we may not follow."""
    CONTENT = "content"
    """The card or the manifest is missing, unsigned, for another site, or does not belong together."""
    MARKER = "marker"
    """A marker of a `markers` mirror is missing."""
    SLOW = "slow"
    """Not looked through within the deadline."""
    REFUSED_US = "refused-us"
    """429, or 503 with Retry-After: refused to us, which says nothing about other readers."""
    STALE = "stale"
    """Well, but outdated for too long. Given by judgement only, never by a probe."""
    NETWORK = "network"
    """Not judged: our own network is in doubt. Given by judgement only, never by a probe."""


@dataclass(frozen=True, slots=True)
class Target:
    """What one observation looks at: one mirror, under one name of one service, at one address."""

    mirror: str
    service: str
    name: str
    """The host name that is sent as Host and SNI."""
    address: str
    """IPv4 or IPv6, in text, without brackets."""
    port: int = 443
    https: bool = True
    markers: bool = False
    """True where the mirror's content is not ours (`content = "markers"`)."""

    @property
    def family(self) -> int:
        """4 or 6."""
        return family(self.address)


def family(address: str) -> int:
    """Return 4 or 6."""
    return 6 if ":" in address else 4


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong, in words that follow a mirror's name: `cannot be reached: connection refused`."""

    kind: FaultKind
    text: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What one look saw; facts, no judgement."""

    target: Target
    started: float
    ended: float
    wall: float
    """Our wall clock at the start."""
    fault: Fault | None = None
    """The first thing that went wrong beyond single files; None if all was looked through."""
    snapshot: Snapshot | None = None
    """The card, only if validly signed and for this site."""
    right: frozenset[bytes] = frozenset()
    """Files asked for that match the manifest of what the mirror says it serves."""
    wrong: Mapping[bytes, str] = field(default_factory=dict)
    """Files asked for that do not, and why: `is missing (404)`, `has other bytes`."""
    settling: frozenset[bytes] = frozenset()
    """Files that match another manifest that was allowed just now (`settle_content`)."""
    dropped: frozenset[bytes] = frozenset()
    """Suspects that the manifest no longer names: there is nothing left to ask."""
    certificate_days: float | None = None
    """Days until the certificate expires, by our clock."""
    date_offset: float | None = None
    """The server's Date less our wall clock, in seconds; wanted also where the certificate's dates failed."""
    evidence: Mapping[str, str] = field(default_factory=dict)
    """Age, Via and the like."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Whether one reference could be reached by TCP; `address` as configured, `family` 4 or 6."""

    address: str
    family: int
    reachable: bool


@dataclass(frozen=True, slots=True)
class Round:
    """One look at everything: every (mirror, service, name, address), between two looks at the references."""

    started: float
    ended: float
    wall_started: float
    wall_ended: float
    observations: tuple[Observation, ...]
    before: tuple[Reference, ...]
    after: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When single looks become a judgement; durations in seconds."""

    fall: int = 3
    """Bad looks in a row before an address, or a file, is bad."""
    rise: int = 2
    """Good ones in a row before it is good again."""
    every: float = 30.0
    """From the beginning of one round to that of the next..."""
    hurried: float = 15.0
    """... and while something is suspicious."""
    timeout: float = 10.0
    max_lag: float = 86_400.0
    """How long a mirror may serve an older snapshot than wanted."""
    settle_content: float = 120.0
    """How long after a publish of ours old or new content are both right."""
    refused_for: float = 300.0
    """How long "refused to us" is not held against a mirror."""
    references: bool = True
    """False where the operator opted out (`references = []`): every family counts as judged."""
    clock_limit: float = 300.0
    """How far our wall clock may be from the mirrors' before certificates' dates prove nothing."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A snapshot that at least one mirror was seen to serve."""

    id: SnapshotId
    serial: int
    since: float
    """When it was first seen served, on our clock; the lag of whoever is older runs from here."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What one round is judged by, besides what it saw of each mirror."""

    rules: Thresholds
    now: float
    """The round's end."""
    lineage: tuple[Wanted, ...]
    """Snapshots that were seen served, oldest first, this round's included."""
    published: Mapping[str, float]
    """Mirror -> the latest moment at which we changed, or were changing, what it serves."""
    clocks: Mapping[str, float]
    """Mirror -> its wall clock less our monotonic one, when last heard."""
    clock: str | None
    """By how much our clock is off, in words, while it is too far off to act; None while it is not."""
    unjudged: Mapping[int, str]
    """Address families (4, 6) that cannot be judged in this round, and why."""

    @classmethod
    def of(
        cls,
        seen: Round,
        rules: Thresholds,
        *,
        lineage: tuple[Wanted, ...] = (),
        clocks: Mapping[str, float] | None = None,
        published: Mapping[str, float] | None = None,
        badtime: float | None = None,
    ) -> "Circumstances":
        """Find out by what a round is judged, from what was known before it."""
        heard = {**(clocks or {}), **_clocks(seen)}
        return cls(
            rules=rules,
            now=seen.ended,
            lineage=_lineage(lineage, seen, rules),
            published=published or {},
            clocks=heard,
            clock=_clock_trouble(heard, seen, rules, badtime),
            unjudged=_unjudged(seen, rules),
        )

    def settling(self, look: Observation) -> bool:
        """Whether old and new content were both right when this look began."""
        when = self.published.get(look.target.mirror)
        return when is not None and look.started <= when + self.rules.settle_content

    def newer_since(self, serial: int) -> Wanted | None:
        """Return the first wanted snapshot that was newer than this one: its lag runs from there."""
        return next((wanted for wanted in self.lineage if wanted.serial > serial), None)


def _lineage(old: tuple[Wanted, ...], seen: Round, rules: Thresholds) -> tuple[Wanted, ...]:
    """Add what was seen served, by a look that found nothing wrong; drop what no longer tells anything."""
    newest: Snapshot | None = None
    for look in seen.observations:
        card = look.snapshot
        if card is not None and (newest is None or card.serial > newest.serial) and _clean(look):
            newest = card
    lineage = old
    if newest is not None and (not old or newest.serial > old[-1].serial):
        lineage = (*old, Wanted(newest.id, newest.serial, seen.ended))
    while len(lineage) > 1 and seen.ended - lineage[1].since >= rules.max_lag:
        lineage = lineage[1:]
    return lineage


def _clean(look: Observation) -> bool:
    """Whether a look found nothing wrong with the content; what the clock says has no part in that."""
    return not look.wrong and (look.fault is None or look.fault.kind is FaultKind.CLOCK)


def _unjudged(seen: Round, rules: Thresholds) -> Mapping[int, str]:
    """Tell which families cannot be judged: no reference of theirs answered both before and after the round."""
    if not rules.references:
        return {}
    asked = {reference.family for refs in (seen.before, seen.after) for reference in refs}
    before = {reference.family for reference in seen.before if reference.reachable}
    answered = {reference.family for reference in seen.after if reference.reachable and reference.family in before}
    why = {}
    for number in (4, 6):
        if number not in asked:
            why[number] = f"no reference over IPv{number} is configured"
        elif number not in answered:
            why[number] = f"no reference answers over IPv{number}, so our own network is in doubt"
    return why


def _clocks(seen: Round) -> dict[str, float]:
    """Return each mirror's wall clock less our monotonic one, by the Date of its answers."""
    heard: dict[str, list[float]] = {}
    for look in seen.observations:
        if look.date_offset is not None:
            heard.setdefault(look.target.mirror, []).append(look.wall + look.date_offset - look.started)
    return {mirror: clocks[0] if len(clocks) == 1 else median(clocks) for mirror, clocks in heard.items()}


def _clock_trouble(clocks: Mapping[str, float], seen: Round, rules: Thresholds, badtime: float | None) -> str | None:
    """Say by how much our wall clock is off, if it is too much."""
    if badtime is not None:
        return f"our clock is {_off(badtime)}, by the name server's (TSIG BADTIME)"
    ours = seen.wall_ended - seen.ended
    offsets = sorted(clock - ours for clock in clocks.values())
    if not offsets:
        return None
    # Of two in the middle the one nearer to us: one mirror with a wrong clock must not stop us.
    middle = min(offsets[(len(offsets) - 1) // 2 : len(offsets) // 2 + 1], key=abs)
    return f"our clock is {_off(middle)}, by the mirrors'" if abs(middle) > rules.clock_limit else None


def _off(ahead: float) -> str:
    return f"{lasting(abs(ahead))} {'slow' if ahead > 0 else 'fast'}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One round's looks at one address, under all names of a service, put together."""

    looks: tuple[Observation, ...]
    good: bool | None
    """None: neither counts as good nor as bad."""
    fault: Fault | None = None
    """Why it is not good."""
    content: ContentClass | None = None
    snapshot: Snapshot | None = None
    right: frozenset[bytes] = frozenset()
    wrong: Mapping[bytes, str] = field(default_factory=dict)
    dropped: frozenset[bytes] = frozenset()

    @property
    def refused(self) -> bool:
        """Whether we were turned away."""
        return self.good is None and self.fault is not None and self.fault.kind is FaultKind.REFUSED_US


def take_sample(looks: Sequence[Observation], given: Circumstances) -> Sample:
    """Put together one round's looks at one address: a fault under any name is the address's fault."""
    wrong: dict[bytes, str] = {}
    for look in looks:
        if look.wrong:
            wrong.update(look.wrong)
        if look.settling and not given.settling(look):
            wrong.update(dict.fromkeys(look.settling, "is from another snapshot"))
    snapshot = oldest([look.snapshot for look in looks])
    good, fault, content = _weigh(looks, wrong, snapshot, given)
    right = _all_of([look.right for look in looks])
    return Sample(
        looks=tuple(looks),
        good=good,
        fault=fault,
        content=content,
        snapshot=snapshot,
        right=right - wrong.keys() if wrong else right,
        wrong=wrong,
        dropped=_all_of([look.dropped for look in looks]),
    )


def oldest(cards: Sequence[Snapshot | None]) -> Snapshot | None:
    """Return the card with the lowest serial; None where there is none."""
    found: Snapshot | None = None
    for card in cards:
        if card is not None and (found is None or card.serial < found.serial):
            found = card
    return found


def _all_of(parts: Sequence[frozenset[bytes]]) -> frozenset[bytes]:
    return parts[0] if len(parts) == 1 else frozenset().union(*parts)


def _weigh(
    looks: Sequence[Observation], wrong: Mapping[bytes, str], snapshot: Snapshot | None, given: Circumstances
) -> tuple[bool | None, Fault | None, ContentClass | None]:
    """Tell whether looks at one address are good, why not, and the class of what it serves."""
    faults = [(look, fault) for look in looks if (fault := _fault_of(look, given)) is not None]
    for look, fault in faults:
        if not _void(look, fault, given):
            several = len({look.target.name for look in looks}) > 1
            return False, Fault(fault.kind, f"{look.target.name}: {fault.text}") if several else fault, None
    for _, fault in faults:
        return None, fault, ContentClass.SETTLING if fault.kind is FaultKind.CONTENT else None
    if wrong:
        return None, wrong_files(wrong), None
    if snapshot is None:
        return True, None, ContentClass.UNVERIFIED
    newer = given.newer_since(snapshot.serial)
    if newer is None:
        settling = any(look.settling for look in looks)
        return True, None, ContentClass.SETTLING if settling else ContentClass.CURRENT
    lag = given.now - newer.since
    if lag < given.rules.max_lag:
        return True, None, ContentClass.BEHIND
    text = f"serves snapshot {snapshot.serial}, and elsewhere a newer one has been served for {lasting(lag)}"
    return False, Fault(FaultKind.STALE, text), ContentClass.STALE


def _fault_of(look: Observation, given: Circumstances) -> Fault | None:
    """Return a look's fault, if it is one: dates prove nothing while our own clock is off."""
    if look.fault is not None and not (look.fault.kind is FaultKind.CLOCK and given.clock):
        return look.fault
    if look.snapshot is None and not look.target.markers:
        return look.fault or Fault(FaultKind.CONTENT, "shows no signed snapshot.json")
    return None


def _void(look: Observation, fault: Fault, given: Circumstances) -> bool:
    """Whether a fault must not be held against the mirror."""
    if fault.kind is FaultKind.CONTENT:
        return given.settling(look)
    return fault.kind is FaultKind.REFUSED_US or (fault.kind is FaultKind.CLOCK and given.clock is not None)


def wrong_files(wrong: Mapping[bytes, str]) -> Fault:
    """Name files that are wrong (path -> why), the first of them in full."""
    first = min(wrong)
    others = f", and {len(wrong) - 1} more files are wrong" if len(wrong) > 1 else ""
    return Fault(FaultKind.CONTENT, f"/{show(first)} {wrong[first]}{others}")


def warnings_of(sample: Sample, given: Circumstances) -> tuple[str, ...]:
    """What will need a person soon, and moves nobody."""
    said = []
    days = [look.certificate_days for look in sample.looks if look.certificate_days is not None]
    if days and 0 <= min(days) < SOON:
        said.append(f"its certificate expires in {min(days):.0f} days")
    card, wall = sample.snapshot, max([look.wall for look in sample.looks])
    if card is not None and wall > card.next_expected.timestamp() and not given.clock:
        said.append(f"the snapshot it serves promised a newer card by {stamp(card.next_expected)}")
    return tuple(said)


def by_address(
    seen: Round, known: Mapping[tuple[str, str], Iterable[str]]
) -> dict[tuple[str, str], dict[str, list[Observation]]]:
    """Sort a round's looks by (mirror, service) and address; addresses known before may have had none."""
    found: dict[tuple[str, str], dict[str, list[Observation]]] = {
        key: {address: [] for address in addresses} for key, addresses in known.items()
    }
    for look in seen.observations:
        at = found.setdefault((look.target.mirror, look.target.service), {})
        at.setdefault(look.target.address, []).append(look)
    return found


def slept_within(seen: Round, rules: Thresholds) -> bool:
    """Whether we were suspended, or far too slow, in the middle of a round: what it saw is not of one moment."""
    lasted = max(seen.ended - seen.started, seen.wall_ended - seen.wall_started)
    return lasted > GAP * (rules.every + rules.timeout)


def lasting(seconds: float) -> str:
    """Write a duration for people: `45 s`, `12 min`, `2.5 h`, `5 days`."""
    for least, unit, name in ((172_800, 86_400, "days"), (7_200, 3_600, "h"), (120, 60, "min")):
        if seconds >= least:
            amount = seconds / unit
            return f"{amount:.0f} {name}" if amount >= 10 or name == "min" else f"{round(amount, 1):g} {name}"
    return f"{max(seconds, 0):.0f} s"
