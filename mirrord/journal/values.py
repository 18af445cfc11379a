"""What does the journal answer with? The values that its verbs take and return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PUBLISHING = "publishing"
"""What `hold` calls the holding of publishes; every other hold is of a service by its name."""
SNAPSHOTS = "automatic snapshots"
"""What is held after a rollback: the source is not taken by itself; what was published last still is."""


UNTOLD = ("basis",)
"""Kinds of events that are kept for machines: what decisions rested on."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, for `record`."""

    kind: str
    """A word to look for: `move`, `switch`, `publish`, `hold`, `verdict`, ..."""
    what: str
    """The sentence."""
    why: str = ""
    by: str = ""
    """A person, or the controller."""
    about: str = ""
    """The service or mirror."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Whatever `json` can write."""


@dataclass(frozen=True, slots=True)
class Happened:
    """An event as the history has it."""

    number: int
    at: float
    """Unix seconds."""
    event: Event


@dataclass(frozen=True, slots=True)
class Held:
    """An operator's hold."""

    what: str
    """A service, or `publishing`."""
    reason: str
    by: str
    since: float
    """Unix seconds."""
    until: float | None
    """Unix seconds on today's clock; None: until `unhold`."""


@dataclass(frozen=True, slots=True)
class Drained:
    """A mirror taken out of consideration."""

    mirror: str
    reason: str
    by: str
    since: float


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to the operator, and its answer."""

    id: str
    about: str
    question: str
    facts: Mapping[str, Any]
    since: float
    answered_by: str | None = None
    """Who answered it, None while it is open."""
    agreed: bool = False
    """Whether the answer was yes."""


@dataclass(frozen=True, slots=True)
class LastMove:
    """The last move of a service."""

    age: float
    """Seconds ago: by the monotonic clock within one boot, else by the wall clock, never negative."""
    at: float
    """Unix seconds."""
    source: str | None
    target: str
    by_hand: bool = False
    """A person moved readers, not the controller."""


@dataclass(frozen=True, slots=True)
class LastSeen:
    """What a mirror was last seen to serve."""

    mirror: str
    serial: int
    id: str
    at: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Run:
    """The last publish of one mirror."""

    mirror: str
    id: str
    serial: int
    began: float
    """Unix seconds."""
    age: float
    """Seconds since it ended, or since it began where it has not (as in `LastMove`)."""
    ended: float | None
    result: str
    """As in `publish.Published`; "running" until it ended."""
    details: Mapping[str, Any]
    changed: float | None = None
    """Seconds since a publish last changed what is served, perhaps an earlier one; None if none did."""
    instead_of: str | None = None
    """The snapshot that was served before this change, or before this run while it runs."""
