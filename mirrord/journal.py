"""What must outlive a restart, and what happened when?

One SQLite file in the state folder, the only use of `sqlite3`. It keeps orders (holds, drains, acks),
what we left in each service's zone and the plan that is still open (`mirrord.switches.Ledger`), the last
moves, what each mirror was last seen to serve, and the history that people read. It judges nothing.

Where the disk is full, writing raises JournalUnwritable, and what was to be written is remembered
by this process: readers and moves go on. Secrets are never stored here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirrord.switches import Change, Expected, Intent, NameServers

PUBLISHING = "publishing"
"""What `hold` calls the holding of publishes; every other hold is of a service by its name."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the journal takes its time from: the wall for people, the monotonic clock for intervals."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    boot: str = ""
    """The boot that `monotonic` counts from; empty: the kernel's own."""


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
    """Who acknowledged it, None while it is open."""


@dataclass(frozen=True, slots=True)
class LastMove:
    """The last move of a service."""

    age: float
    """Seconds ago: by the monotonic clock within one boot, else by the wall clock, never negative."""
    at: float
    """Unix seconds."""
    automatic: bool
    source: str | None
    target: str


@dataclass(frozen=True, slots=True)
class LastSeen:
    """What a mirror was last seen to serve."""

    mirror: str
    serial: int
    id: str
    at: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The newest snapshot that at least one mirror was seen to serve."""

    serial: int
    id: str
    age: float
    """Seconds since it was first seen, on our clock (as in `LastMove`)."""
    at: float


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


class Journal:
    """The journal of one controller; every method may be called from any thread and any process.

    Reading works on a full disk, and answers from what this process remembers where the file does not have it.
    Writing raises JournalUnwritable there, after the new value was remembered. A file that is no journal, or is
    damaged, raises Damaged with what to do; one of a newer mirrord raises BadConfig.
    """

    def __init__(self, path: Path, clock: Clock = Clock()) -> None:
        """Open the journal or make it (mode 0640, in a folder that is there)."""
        ...

    def close(self) -> None:
        """Close every thread's connection; the journal cannot be used afterwards."""
        ...

    def writable(self) -> bool:
        """Try whether it can be written now; what was remembered meanwhile is then written first."""
        ...

    # -- history

    def record(self, event: Event) -> None:
        """Write down that something happened; old events are dropped beyond an age and a count."""
        ...

    def history(
        self,
        limit: int = 100,
        *,
        since: float | None = None,
        before: int | None = None,
        kinds: Collection[str] = (),
        about: str = "",
    ) -> list[Happened]:
        """Return the newest events first: at most `limit`, from `since` (Unix seconds), numbered below `before`."""
        ...

    # -- the operator's orders

    def hold(self, what: str, reason: str, by: str, seconds: float | None = None) -> Held:
        """Hold a service or `publishing`, for so many seconds or until `unhold`; replaces an earlier hold of it."""
        ...

    def unhold(self, what: str, by: str) -> bool:
        """End a hold; False where there was none."""
        ...

    def held(self, what: str) -> Held | None:
        """Return the hold of a service or of `publishing` that has not run out."""
        ...

    def holds(self) -> dict[str, Held]:
        """Return every hold that has not run out."""
        ...

    def drain(self, mirror: str, reason: str, by: str) -> Drained:
        """Take a mirror out of consideration."""
        ...

    def undrain(self, mirror: str, by: str) -> bool:
        """Take it back; False where it was not drained."""
        ...

    def drained(self) -> dict[str, Drained]:
        """Return the drained mirrors."""
        ...

    def ask(self, id: str, about: str, question: str, facts: Mapping[str, Any]) -> Asked:
        """Put a question; the same id again keeps its first time and its answer."""
        ...

    def ack(self, id: str, by: str) -> bool:
        """Answer a question; False where no such question is open."""
        ...

    def asked(self, id: str) -> Asked | None:
        """Return a question, answered or not, that has not lapsed."""
        ...

    def asks(self) -> list[Asked]:
        """Return the open questions, oldest first."""
        ...

    def lapse(self, id: str) -> None:
        """Drop a question, answered or not: its facts changed."""
        ...

    # -- what we left in zones (mirrord.switches.Ledger)

    def intent(self, service: str) -> Intent | None:
        """Return the open plan of a service."""
        ...

    def intents(self) -> list[Intent]:
        """Return every open plan: start-up resolves them before anything else."""
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

    def expected(self, service: str) -> Expected | None:
        """Return what we left in the zone, None if we never wrote there."""
        ...

    def past(self, service: str) -> Sequence[Expected]:
        """Return earlier states of ours, what they replaced, and what given-up plans would have made."""
        ...

    def highest_epoch(self, service: str) -> int:
        """Return the highest epoch that was ever planned for a service, 0 for none."""
        ...

    def name_servers(self, zone: str) -> NameServers:
        """Return the zone's NS as last remembered; empty where they never were."""
        ...

    def remember_name_servers(self, zone: str, servers: NameServers) -> None:
        """Remember the zone's NS and their addresses."""
        ...

    # -- moves, mirrors, publishes

    def moved(self, service: str, source: str | None, target: str, *, automatic: bool) -> None:
        """Remember that readers were moved now."""
        ...

    def last_move(self, service: str, *, automatic: bool = True) -> LastMove | None:
        """Return the last automatic move (the dwell runs from it), or the last of any kind."""
        ...

    def seen_serving(self, mirror: str, serial: int, id: str) -> None:
        """Remember what a mirror was just seen to serve; writes at most once a minute where nothing changed."""
        ...

    def last_seen(self) -> dict[str, LastSeen]:
        """Return what each mirror was last seen to serve."""
        ...

    def want(self, serial: int, id: str) -> Wanted:
        """Remember the newest snapshot seen on a mirror; the same one again keeps its first moment."""
        ...

    def wanted(self) -> Wanted | None:
        """Return the wanted snapshot, None where no mirror was ever seen to serve one."""
        ...

    def publish_began(self, mirror: str, id: str, serial: int) -> None:
        """Remember that a publish of this mirror begins."""
        ...

    def publish_ended(self, mirror: str, result: str, details: Mapping[str, Any]) -> None:
        """Remember how the publish of this mirror ended; `details` for people and JSON."""
        ...

    def publishes(self) -> dict[str, Run]:
        """Return the last publish of each mirror."""
        ...
