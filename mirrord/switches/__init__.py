"""What sends a service's readers to a mirror?

    change.py       pure: what stands, what we expect to stand, what should: `compare`, `plan_change`
    rfc2136.py      the zone's name servers, by DNS UPDATE with TSIG
    asking.py       what the zone's name servers answer, for both
    lexicon.py      a DNS provider's own interface; lexicon_calls.py is a program, the only import of lexicon
    command.py      the operator's own program
    bgp.py          a prefix, announced by a speaker beside us: bird.py, exabgp.py; announcing.py (pure)
    resolving.py    what resolvers that readers use answer
    transaction.py  one plan from its intent in the journal to what the servers answer afterwards

A `Switch` reads and sends; it decides nothing and remembers nothing. A transaction keeps its intents and
what it left in a `Ledger`, which `mirrord.journal` implements. Whether to move, and where, is decided
in `mirrord.decide`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, NamedTuple, Protocol

from mirrord.switches.change import (
    Change,
    Comparison,
    Expected,
    Fence,
    Found,
    Mirrors,
    Rrsets,
    Seen,
    Zone,
    ZoneState,
    compare,
    differences,
    families,
    fence_name,
    parse_fence,
    plan_advance,
    plan_change,
    served_by,
)

__all__ = [
    "BgpSettings",
    "Change",
    "CommandSettings",
    "Comparison",
    "DnsSettings",
    "Endpoint",
    "Expected",
    "Fence",
    "Follow",
    "Following",
    "Found",
    "Intent",
    "Kind",
    "Ledger",
    "LexiconSettings",
    "Mirrors",
    "NameServers",
    "Result",
    "Rrsets",
    "Seen",
    "Sent",
    "SentKind",
    "Switch",
    "SwitchSettings",
    "Tsig",
    "Zone",
    "ZoneState",
    "compare",
    "differences",
    "families",
    "fence_name",
    "open_switch",
    "parse_fence",
    "plan_advance",
    "plan_change",
    "served_by",
]


class Endpoint(NamedTuple):
    """A name server's IP address and TCP port."""

    address: str
    port: int

    def __str__(self) -> str:
        """Write `192.0.2.1:53` or `[2001:db8::1]:53`."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Tsig:
    """The key that signs updates (RFC 8945)."""

    name: str
    algorithm: str
    """`hmac-sha256` and its like."""
    secret: Callable[[], str] = field(repr=False)
    """Reads the secret, base64 as in name servers' own key files; raises MirrordError. Called for each update."""

    def octets(self) -> bytes:
        """Read the secret as it signs. Raises MirrordError, and ValueError where it is not base64."""
        try:
            found = base64.b64decode("".join(self.secret().split()), validate=True)
        except (binascii.Error, ValueError):
            found = b""
        if not found:
            raise ValueError("is not base64; it is the value of `secret` in the server's own key")
        return found


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """`[service.dns]` as a plain value."""

    service: str
    zone: str
    names: tuple[str, ...]
    ttl: int
    """Seconds."""
    servers: tuple[Endpoint, ...]
    """Roads to the zone's one primary, tried in order."""
    tsig: Tsig
    authoritative: tuple[Endpoint, ...] = ()
    """Who must follow; empty: the zone's NS at port 53."""
    timeout: float = 5.0
    """Seconds for one connection or one answer."""
    notify: bool = True
    """Whether those who must follow are told of a change by us, besides by the zone's primary."""
    https: bool = False
    """Whether the address hints of the names' HTTPS records are kept in step."""
    mx: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Mirror -> MX records as `10 mail.example.org.`: mail follows the readers; empty: MX is left alone."""


@dataclass(frozen=True, slots=True)
class LexiconSettings:
    """`[service.dns]` with `provider = "lexicon"`, as a plain value."""

    service: str
    zone: str
    names: tuple[str, ...]
    ttl: int
    """Seconds; of sets that do not stand yet."""
    provider: str
    """As lexicon names it."""
    options: Mapping[str, str]
    secrets: Mapping[str, Callable[[], str]] = field(repr=False)
    """Options that are secrets: each reads one; raises MirrordError. Called for each change and look."""
    authoritative: tuple[Endpoint, ...] = ()
    """Who must follow; empty: the zone's NS at port 53."""
    timeout: float = 20.0
    """Seconds after which a call is killed."""
    notify: bool = True
    """Whether those in `authoritative` are told of a change by us, besides by the provider."""


@dataclass(frozen=True, slots=True)
class CommandSettings:
    """`[service.command]` as a plain value."""

    service: str
    names: tuple[str, ...]
    program: tuple[str, ...]
    """The program and its arguments."""
    timeout: float = 60.0
    """Seconds after which a call is killed."""
    fence: Literal["atomic", "best-effort"] = "best-effort"
    """`atomic` where the program itself changes nothing unless exactly what the plan replaces stands."""


@dataclass(frozen=True, slots=True)
class BgpSettings:
    """`[service.bgp]` as a plain value."""

    service: str
    speaker: Literal["bird", "exabgp"]
    prefixes: tuple[str, ...]
    file: str
    """What the speaker reads when it starts: BIRD includes it, ExaBGP is given its lines."""
    socket: str = ""
    """BIRD's control socket."""
    pipes: str = ""
    """ExaBGP's pipes, without `.in` and `.out`."""
    neighbour: tuple[str, ...] = ()
    """A command that shows what a router has for the prefix that it is given; empty: none can be asked."""
    timeout: float = 5.0
    """Seconds for one conversation."""

    @property
    def fence(self) -> Literal["atomic", "best-effort"]:
        """BIRD does what its file says, which we change under a lock; anybody can tell ExaBGP something else."""
        return "atomic" if self.speaker == "bird" else "best-effort"


SwitchSettings = DnsSettings | LexiconSettings | CommandSettings | BgpSettings
"""What moves one service's readers."""


class SentKind(Enum):
    """What became of sending a change; only reading the zone afterwards shows what stands."""

    ACCEPTED = "accepted"
    """The server said NOERROR."""
    FENCED = "fenced"
    """A prerequisite did not hold: the zone is not as expected, nothing was changed."""
    REFUSED = "refused"
    """The server would not have it from us (key, clock, rights): nothing was changed."""
    UNSENT = "unsent"
    """No road could be reached: nothing was sent."""
    UNKNOWN = "unknown"
    """Sent, and no answer that could be believed: applied, not applied, or applied later."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The answer to an update: its kind, the sentence for people, and the road it came over."""

    kind: SentKind
    text: str
    server: str = ""
    clock_difference: float | None = None
    """Seconds that the server's clock is ahead of ours, where it said BADTIME."""
    signed: bool = False
    """A refusal that the server signed can be believed; others are believed after reading the zone."""


class Following(Enum):
    """Whether an authoritative server has the change."""

    FOLLOWS = "follows"
    OLD = "old"
    """Answers, but not (only) what the change made."""
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Follow:
    """One authoritative server after a change: what it has, its SOA serial, and why it cannot be asked."""

    following: Following
    serial: int | None = None
    text: str = ""


NameServers = Mapping[str, tuple[str, ...]]
"""The zone's NS: host name -> its addresses."""


class Switch(Protocol):
    """The mechanism that moves one service's readers. Every verb may be called from any thread."""

    fence: Literal["atomic", "best-effort"]
    """`atomic` where a change is compare-and-set; else somebody may come between our look and our change."""

    def read(self, first: str = "") -> Zone:
        """Read all names where updates are committed: the first road that answers with authority.

        `first` (a `Sent.server` or `Zone.server`) is asked before the other roads. Raises Unavailable, naming
        each road and why it gave no answer.
        """
        ...

    def send(self, change: Change) -> Sent:
        """Send the change once, to be applied whole or not at all, only if exactly `from_` stands.

        Sending the same change again is safe: it applies once. Raises MirrordError only where the secret
        cannot be read, before anything was sent.
        """
        ...

    def name_servers(self) -> NameServers:
        """Find the zone's NS and their addresses; raises Unavailable. Worth remembering in good times.

        Empty where it is configured who must follow: nothing needs to be remembered then.
        """
        ...

    def nudge(self, known: NameServers) -> None:
        """Tell those who must follow that there is something new, so that they need not wait to be told; never raises.

        Nobody is waited for, and whoever does not listen to us hears of it by the usual way. `known` is as in
        `followers`.
        """
        ...

    def followers(self, change: Change, known: NameServers, executor: Executor | None = None) -> Mapping[str, Follow]:
        """Ask every authoritative server, all at once on the executor, whether it has the change; never raises.

        `known` are the NS to ask where none are configured. The result's keys are `address:port`.
        """
        ...

    def keep(self, expected: Expected) -> None:
        """Give again what we left, where what shows it to readers lost it with a restart; never raises.

        What somebody else put in its place is left alone. Most switches have nothing to do.
        """
        ...

    def prove(self) -> None:
        """Show by something harmless that a change would be let in, here and now; nothing is different afterwards.

        Raises Refused where it would not be, Unavailable where that cannot be told.
        """
        ...


@dataclass(frozen=True, slots=True)
class Intent:
    """A plan whose outcome is not known yet. Nothing else of the service may start."""

    change: Change
    since: float
    """Unix seconds."""
    advance: Change | None = None
    """The plan that gives it up, once that was begun."""


class Ledger(Protocol):
    """What a transaction writes down before and after; `mirrord.journal.Journal` is one.

    Writing raises JournalUnwritable where the disk is full; what was to be written is remembered by this
    process all the same, so that the next call answers rightly.
    """

    def intent(self, service: str) -> Intent | None:
        """Return the open plan of a service."""
        ...

    def intend(self, change: Change) -> None:
        """Write down, before it is sent, what is about to be sent. Raises Braked "open-plan" if a plan is open."""
        ...

    def give_up(self, change: Change, advance: Change) -> None:
        """Write down, before it is sent, the plan that ends the open plan `change`."""
        ...

    def settle(self, change: Change, stands: Expected | None, text: str) -> None:
        """Close the open plan; `stands` is what is expected from now on, None for: as before `change`."""
        ...

    def take(self, service: str, stands: Expected, text: str) -> None:
        """Take over what stands in the zone as what we left there, without a plan."""
        ...

    def expected(self, service: str) -> Expected | None:
        """Return what we left in the zone, None if we never wrote there."""
        ...

    def past(self, service: str) -> Sequence[Expected]:
        """Return earlier states of ours, what they replaced, and what given-up plans would have made."""
        ...

    def name_servers(self, service: str) -> NameServers:
        """Return the NS of a service's zone as last remembered."""
        ...

    def remember_name_servers(self, service: str, servers: NameServers) -> None:
        """Remember the NS of a service's zone and their addresses."""
        ...


class Kind(Enum):
    """How a switch ended."""

    DONE = "done"
    """Every authoritative server that answers has the new data, and at least one answers."""
    PARTIAL = "partial"
    """Committed; some servers still give the old data. To be watched on; blocks nothing."""
    UNCHANGED = "unchanged"
    """Refused: the zone is as it was, or as somebody else made it."""
    UNKNOWN = "unknown"
    """The plan stays open until `transaction.resolve` finds out."""

    @property
    def exit_code(self) -> int:
        """The exit code of `mirrord switch`."""
        return {"done": 0, "partial": 3, "unchanged": 5, "unknown": 75}[self.value]


@dataclass(frozen=True, slots=True)
class Result:
    """How a switch ended, in values and in a sentence."""

    kind: Kind
    change: Change
    text: str
    sent: Sent | None = None
    """The last answer to the update, None where only the zone was read."""
    zone: Zone | None = None
    """What stood there afterwards, as far as it could be read."""
    followers: Mapping[str, Follow] = field(default_factory=dict)
    committed: float | None = None
    """Unix seconds when the change was seen committed."""
    journalled: bool = True
    """False: the journal could not be written; the TXT in the zone is the record."""

    @property
    def exit_code(self) -> int:
        """The exit code of `mirrord switch`: its kind's, or 75 where no road could be used and nothing was sent."""
        unsent = self.sent is not None and self.sent.kind is SentKind.UNSENT
        return 75 if unsent else self.kind.exit_code

    @property
    def follow_by(self) -> float | None:
        """Unix seconds by which readers follow: commit plus the TTL that was served before."""
        return None if self.committed is None else self.committed + self.change.was_ttl


def open_switch(settings: SwitchSettings) -> Switch:
    """Return the switch of a service; opens no connection yet. Raises BadConfig where the settings cannot be used."""
    if isinstance(settings, CommandSettings):
        from mirrord.switches.command import Command

        return Command(settings)
    if isinstance(settings, BgpSettings):
        from mirrord.switches.bgp import Bgp

        return Bgp(settings)
    if isinstance(settings, LexiconSettings):
        from mirrord.switches.lexicon import Lexicon

        return Lexicon(settings)
    from mirrord.switches.rfc2136 import Rfc2136  # only who switches loads dnspython

    return Rfc2136(settings)
