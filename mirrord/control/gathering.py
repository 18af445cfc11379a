"""When may the mirrors that stand ready switch, so that all go over as one?

The runs that bring one snapshot to several mirrors meet here, each with its tree staged and verified. How many must
stand ready is the operator's choice (`publish.together`); whom nobody can reach is not waited for, and nobody waits
longer than he allows: content is never withheld for ever. By default nobody waits at all, so that one slow, full,
hostile or dead mirror delays no other. How far apart the switches were is measured. How a mirror is published to is
said in `mirrord.publish`; who is, in `publishing`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from mirrord.errors import Cancelled
from mirrord.publish import Together

BREATH = 5.0
"""Seconds between two signs of life of a mirror that waits; its lock is rewritten only when that is due."""


class Stage(Enum):
    """How far the run of one mirror is."""

    COMING = "coming"
    """It is under way, and waited for."""
    AWAY = "away"
    """It cannot be reached just now: it is not waited for."""
    READY = "ready"
    """Staged and verified."""
    SERVES = "serves"
    FAILED = "failed"


def enough(stages: Mapping[str, Stage], needed: int | None, late: Collection[str] = ()) -> bool:
    """Tell whether those that stand ready may switch.

    A mirror that was away in between, one of the `late`, counts only once it serves the snapshot.
    """
    if needed == 0 or Stage.COMING not in stages.values():
        return True
    counted = [
        mirror
        for mirror, stage in stages.items()
        if stage is Stage.SERVES or (stage is Stage.READY and mirror not in late)
    ]
    return needed is not None and len(counted) >= needed


class Gathering:
    """The runs that bring one snapshot to several mirrors; from any thread."""

    def __init__(self, together: Together, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Expect nobody yet."""
        self._together = together
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._stages: dict[str, Stage] = {}
        self._late: set[str] = set()
        self._waits_since: float | None = None
        self._open = False
        self._cancelled = False
        self._switched: dict[str, float] = {}

    def expect(self, mirrors: Collection[str]) -> None:
        """Wait for these, too, from now on."""
        with self._changed:
            for mirror in mirrors:
                if self._stages.get(mirror) in (None, Stage.SERVES, Stage.FAILED):
                    self._stages[mirror] = Stage.COMING

    def reached(self, mirror: str) -> None:
        """Wait for a mirror (again): we are connected."""
        self._move(mirror, Stage.COMING)

    def missed(self, mirror: str) -> None:
        """Wait for a mirror no longer: it cannot be reached."""
        with self._changed:
            self._late.add(mirror)
        self._move(mirror, Stage.AWAY)

    def ended(self, mirror: str, *, serves: bool) -> None:
        """Take in how the run of a mirror ended, or that there is none."""
        self._move(mirror, Stage.SERVES if serves else Stage.FAILED)

    def _move(self, mirror: str, stage: Stage) -> None:
        with self._changed:
            self._stages[mirror] = stage
            self._changed.notify_all()

    def ready(self, mirror: str, beat: Callable[[], None]) -> None:
        """Return when a mirror may switch; calls `beat` meanwhile, and passes on what it raises. Raises Cancelled."""
        with self._changed:
            self._waits_since = self._monotonic() if self._waits_since is None else self._waits_since
        self._move(mirror, Stage.READY)
        try:
            while not self._goes(mirror):
                beat()
        except BaseException:
            self._move(mirror, Stage.COMING)
            raise

    def _goes(self, mirror: str) -> bool:
        """Wait a moment, or until things change; tell whether it may switch."""
        with self._changed:
            if not self._may_go(mirror):
                left = self._left()
                self._changed.wait(min(BREATH, max(0.0, left)))
            return self._may_go(mirror)

    def _may_go(self, mirror: str) -> bool:
        if self._cancelled:
            raise Cancelled(f"{mirror}: waiting for the other mirrors: told to stop; the next try continues")
        if not self._open and (self._left() <= 0.0 or enough(self._stages, self._together.needed, self._late)):
            self._open = True  # for good: who stands ready later goes at once
            self._changed.notify_all()
        return self._open

    def _left(self) -> float:
        since = self._monotonic() if self._waits_since is None else self._waits_since
        return since + self._together.wait - self._monotonic()

    def switched(self, mirror: str) -> None:
        """Take note that readers of a mirror were led over just now."""
        with self._changed:
            self._switched.setdefault(mirror, self._monotonic())

    def cancel(self) -> None:
        """Wake all who wait: nobody switches any more."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    @property
    def over(self) -> bool:
        """Tell whether every run has ended."""
        with self._changed:
            return all(stage in (Stage.SERVES, Stage.FAILED) for stage in self._stages.values())

    def switches(self) -> dict[str, float]:
        """Return who switched how long after the first, in seconds."""
        with self._changed:
            first = min(self._switched.values(), default=0.0)
            return {mirror: at - first for mirror, at in sorted(self._switched.items(), key=lambda item: item[1])}

    @property
    def skew(self) -> float | None:
        """Seconds between the first and the last switch; None where fewer than two mirrors switched."""
        switches = self.switches()
        return max(switches.values()) if len(switches) > 1 else None


@dataclass(frozen=True, slots=True)
class Seat:
    """One mirror's place in a gathering; a `publish.Meeting`."""

    gathering: Gathering
    mirror: str
    alive: Callable[[], None]
    """Called at each sign of life of who waits."""

    def ready(self, beat: Callable[[], None]) -> None:
        """Return when this mirror may switch."""

        def live() -> None:
            self.alive()
            beat()

        self.gathering.ready(self.mirror, live)

    def switched(self) -> None:
        """Take note of the moment."""
        self.gathering.switched(self.mirror)
