"""Choose, for one service, between leaving readers where they are, moving them, and asking a person.

Everything that can make an outage worse is decided here, from values: a `View` of what is held true
and what the operators ordered, and the service's `Policy`. The answer carries its reason and the facts
it rests on. This module opens no socket, reads no clock and logs nothing: `mirrord.health` judges,
`mirrord.daemon` carries out, `mirrord.switches` writes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from mirrord.health import ContentClass, Fresh, Standing

Zone = Literal["new", "ours", "reverted", "foreign", "unread"]
"""How the zone stands to the journal (`mirrord.switches` compares; `unread`: no server answered)."""


@dataclass(frozen=True, slots=True)
class Held:
    """An operator's order to leave a service as it is, still in force."""

    reason: str
    by: str
    until: float | None = None
    """Wall clock; None is until somebody ends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How one service wants to be served; durations in seconds."""

    service: str
    order: tuple[str, ...]
    """Mirrors that may serve it, best first."""
    failback: Literal["manual", "auto"] = "manual"
    settle: float = 3600.0
    """How long a preferred mirror must have been well before readers return to it by themselves."""
    dwell: float = 120.0
    """The least time between two automatic moves."""
    markers: frozenset[str] = frozenset()
    """Mirrors whose content is not ours (`content = "markers"`)."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Mirror -> place."""
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Mirror -> its configured addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything that a decision about one service may rest on."""

    now: float
    standing: Standing
    serving: str | None
    """The mirror whose addresses readers are given now; None where that is nobody of ours or unknown."""
    zone: Zone = "ours"
    meant: str | None = None
    """Where our own last plan sent readers, by the journal; differs from `serving` where the zone went back."""
    held: Held | None = None
    drained: frozenset[str] = frozenset()
    last_move: float | None = None
    """Seconds since this service's last automatic move; None if there never was one."""
    pending: bool = False
    """A plan of ours is open: nobody knows yet whether it was carried out."""
    acked: frozenset[str] = frozenset()
    """Ids of questions that an operator has answered with yes."""
    trouble: str | None = None
    """Why the switch could not be worked now, where that is known: no credentials, say."""


class Why(Enum):
    """What a move is for."""

    FAILOVER = "failover"
    FAILBACK = "failback"
    DRAIN = "drain"
    REASSERT = "reassert"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mirror that could serve, and the class of what it serves."""

    mirror: str
    content: ContentClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """Leave readers where they are."""

    service: str
    rule: str
    """The name of the rule that decided, for machines: `well`, `held`, `dwell`..."""
    reason: str
    facts: tuple[str, ...] = ()
    alarm: bool = False
    """Somebody should look at this now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Send readers from `source` to `target`, once a fresh, full look at `target` was passed (`passes`)."""

    service: str
    source: str
    target: str
    content: ContentClass
    """The class of what the target serves; the fresh look must find nothing worse."""
    why: Why
    reason: str
    facts: tuple[str, ...] = ()
    fallbacks: tuple[Candidate, ...] = ()
    """Who comes next if the fresh look fails (`next_after`)."""

    @property
    def automatic(self) -> bool:
        """Whether mirrord moves by itself (counts for the dwell), not because a person said so."""
        return self.why in (Why.FAILOVER, Why.FAILBACK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Leave readers where they are and ask a person; `ack ID` answers yes."""

    service: str
    id: str
    """Made from the service, the rule and the facts: it lapses when they change."""
    rule: str
    question: str
    facts: tuple[str, ...]
    move: Move | None
    """What a yes carries out."""
    alarm: bool = False


Decision = Stay | Move | Ask


def decide(view: View, policy: Policy) -> Decision:
    """Choose between leaving readers where they are, moving them, and asking."""
    raise NotImplementedError


def passes(move: Move, fresh: Fresh) -> str | None:
    """Say why the fresh look forbids this move, or None where it may go ahead."""
    raise NotImplementedError


def next_after(move: Move, failed: Mapping[str, str]) -> Move | Stay:
    """Return the same move to the next candidate that is not in `failed` (mirror -> why), or Stay if none is left."""
    raise NotImplementedError


def planned_drain(view: View, policy: Policy) -> Move | Stay:
    """Return the move that draining the serving mirror calls for, as an operator's order."""
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Brake:
    """Why a switch by hand may not go ahead."""

    name: str
    """`down`, `stale`, `bad-content`, `tls`, `foreign`, `no-network`; or `empty`, `unconfigured`, `pending`."""
    text: str
    liftable: bool
    """Whether `--override NAME` lifts it."""


@dataclass(frozen=True, slots=True)
class Permission:
    """What stands between an operator and a switch by hand."""

    brakes: tuple[Brake, ...]
    """Still holding, after the one that was overridden."""
    lifted: Brake | None
    """The one that was overridden: ask twice, write it down."""
    remarks: tuple[str, ...]
    """What has to be said and asked before going ahead: a hold in force, catch-up that cannot be proven."""

    @property
    def ok(self) -> bool:
        """Whether nothing holds any more."""
        return not self.brakes


def may_switch(
    view: View, policy: Policy, target: str, fresh: Fresh | None, *, override: str | None = None, adopt: bool = False
) -> Permission:
    """Tell whether an operator may move readers to `target`, of which `fresh` was just seen (None: it could not be looked at)."""
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Protection:
    """Whether mirrord could help if the serving mirror died now."""

    ok: bool
    why: str


def protected(view: View, policy: Policy) -> Protection:
    """Tell whether mirrord could help right now, and if not, why not."""
    raise NotImplementedError


def explain(view: View, policy: Policy) -> list[str]:
    """Say why readers are where they are, and what would have to happen for them to move; plain sentences."""
    raise NotImplementedError
