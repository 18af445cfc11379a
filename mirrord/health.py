"""Turn single looks at mirrors into judgements that can be acted on.

One failed look says little. `fall` of them in a row say that a mirror is down, but only if our own
network was seen to work before and after each of them; one altered page says a lot, but only if it
stays altered. What is held true of every mirror, why, and since when, is the `Standing`; it grows by
one `Round` of observations at a time. This module opens no socket, reads no clock and logs nothing:
`mirrord.probe` looks, `mirrord.decide` draws the conclusion.

All times are seconds of one monotonic clock unless they say wall (Unix seconds).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from mirrord.manifest import Snapshot, SnapshotId

_NOTHING: Mapping[str, str] = {}


class Verdict(Enum):
    """What we hold true of a mirror; unknown is not down."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


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


class FaultKind(Enum):
    """What went wrong, sorted by what follows from it."""

    UNREACHABLE = "unreachable"
    """No connection, or it broke off."""
    TLS = "tls"
    """The certificate or the handshake is wrong, dates excepted."""
    CLOCK = "clock"
    """The certificate is right but for its dates: expired or not yet valid by our clock."""
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
        return 6 if ":" in self.address else 4


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong, in a person's words that follow a mirror's name: `connect timed out`."""

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
    """When it was first seen served, on our clock; lag runs from here."""


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
    snapshot: Snapshot | None = None
    """The card last seen, validly signed."""
    judged: bool = False
    """Whether the latest round judged it completely: every address that counts, good or bad."""
    failing: bool = False
    """Whether the latest round saw nothing good of it."""
    well_since: float | None = None
    """Since when every look at it was good; None if the latest was not."""
    good: tuple[str, ...] = ()
    """Addresses that readers can be sent to, in configured order: not bad ones."""
    degraded: Mapping[str, Fault] = field(default_factory=dict)
    """Bad addresses of a mirror that is not down, and why."""
    suspects: Mapping[bytes, str] = field(default_factory=dict)
    """Files seen wrong and not yet acquitted, and why."""
    warnings: tuple[str, ...] = ()
    """Certificates that expire soon and the like: nothing that moves anybody."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """What one fresh, full look at a target found, judged by itself (no streaks)."""

    mirror: str
    service: str
    ok: bool
    """Usable: some address that counts (IPv4, or IPv6 where it has none) was well under every name."""
    content: ContentClass | None
    """STALE can be `ok`: whether it will do depends on what is being left."""
    good: tuple[str, ...]
    """The addresses that were well."""
    bad: Mapping[str, Fault]
    """The others, and why."""


@dataclass(frozen=True, slots=True)
class Standing:
    """All judgement: what is held true of every mirror, and what the latest rounds suggest."""

    def after(
        self,
        seen: Round,
        rules: Thresholds,
        *,
        published: Mapping[str, float] = {},  # noqa: B006  (a mapping that nobody writes to)
        badtime: bool = False,
    ) -> "Standing":
        """Return the standing that follows one more complete round (fresh looks at one target are not fed).

        `published` is mirror -> the latest moment at which we changed, or were changing, what it serves.
        `badtime` is true while the name server says that our clock is off (TSIG BADTIME, RFC 8945 5.2.3).
        """
        raise NotImplementedError

    def health(self, mirror: str, service: str) -> Health:
        """Return what is held true of a mirror for a service; unknown if it was never looked at."""
        raise NotImplementedError

    def suspects(self, mirror: str, service: str) -> frozenset[bytes]:
        """Return the files that the next look has to ask for again, at every address."""
        raise NotImplementedError

    @property
    def wanted(self) -> Wanted | None:
        """The newest snapshot that at least one mirror was seen to serve."""
        raise NotImplementedError

    @property
    def clock(self) -> str | None:
        """By how much our clock is off, in words, while it is too far off to act; None while it is not."""
        raise NotImplementedError

    @property
    def unjudged(self) -> Mapping[int, str]:
        """Address families (4, 6) that cannot be judged now, and why."""
        raise NotImplementedError

    def asleep(self, now: float) -> "Standing":
        """Return the standing after a gap (suspended, or stopped): verdicts and streaks start anew, wanted stays."""
        raise NotImplementedError

    def remember(self, now: float, wall: float) -> list[dict[str, object]]:
        """Return what must outlive a restart, ready for JSON: which snapshots were seen served, and since when."""
        raise NotImplementedError

    @classmethod
    def recall(cls, kept: list[dict[str, object]], now: float, wall: float) -> "Standing":
        """Start from what `remember` wrote: verdicts unknown; ages by the wall clock, never below zero."""
        raise NotImplementedError


def freshly(
    seen: Round,
    standing: Standing,
    mirror: str,
    service: str,
    rules: Thresholds,
    *,
    published: Mapping[str, float] = {},  # noqa: B006  (a mapping that nobody writes to)
) -> Fresh:
    """Judge one fresh, full look at a target, made after the decision to move there."""
    raise NotImplementedError
