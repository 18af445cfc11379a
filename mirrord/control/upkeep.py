"""What is published without a person, and when?

The source is looked at in a fixed rhythm, and every mirror is brought up to the newest snapshot. A mirror that was
away, or that a look found with old or wrong content, catches up, with growing pauses between the tries. A card is
signed again before readers would miss it. One thread owns all this, the daemon's; the work itself is
`syncing`'s and `publishing`'s, on crews: a source that hangs holds up no mirror, and no mirror another.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from mirrord.control import syncing
from mirrord.control.crew import make_crew
from mirrord.control.mind import Mind
from mirrord.control.works import Works
from mirrord.errors import Cancelled, Locked, MirrordError
from mirrord.health import FaultKind, Health, Verdict
from mirrord.journal import Event, Run
from mirrord.manifest import Signed, SnapshotId
from mirrord.publish import Published
from mirrord.snapshot.store import Taken

_log = logging.getLogger(__name__)

RENEW_EVERY = 3600.0
"""Seconds between two visits that bring every mirror what is new, however seldom the source is looked at."""
_WRONG = frozenset((FaultKind.CONTENT, FaultKind.STATUS))
"""Faults of a mirror that publishing may put right."""


class Later(Protocol):
    """Has the owning thread take in what a worker brings: its result, or why there is none."""

    def __call__(self, future: Future[Any], then: Callable[[Any], None], /) -> None:
        """Call `then` in the owning thread once the future is done."""
        ...


class Publisher(Protocol):
    """Publishes to one mirror at a time; `publishing.Publishing` is one."""

    def start(
        self, mirror: str, signed: Signed, *, seen: syncing.Seen, mend: bool = ..., suspects: frozenset[bytes] = ...
    ) -> Future[Published]:
        """Publish to a mirror; raises Locked where another snapshot is on its way there."""
        ...

    def gather(self, snapshot: SnapshotId, mirrors: Collection[str]) -> object:
        """Let runs that are about to start for these mirrors meet before they switch."""
        ...

    def stays_away(self, snapshot: SnapshotId, mirror: str) -> None:
        """Let nobody wait for a mirror for which no run could be started."""
        ...

    def busy(self, mirror: str) -> bool:
        """Tell whether a run is under way."""
        ...


@dataclass(frozen=True, slots=True)
class Need:
    """Why a mirror is to be published to."""

    mend: bool = False
    """It serves something that its snapshot does not have so."""
    suspects: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Rest:
    """A mirror is left alone after a try; monotonic seconds."""

    until: float
    length: float


class Upkeep:
    """All publishing that nobody asked for; only the owning thread touches it."""

    def __init__(
        self,
        works: Works,
        mind: Mind,
        publisher: Publisher,
        later: Later,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing under way."""
        self._works = works
        self._mind = mind
        self._publisher = publisher
        self._later = later
        self._monotonic = monotonic
        self._taking = make_crew("snapshot", 1)
        self._starting = make_crew("publish", 1)
        self._under_way = False
        self._due = False
        self._rests: dict[str, Rest] = {}
        self._doubts: dict[str, frozenset[bytes]] = {}  # files that a reader got wrong just after a switch
        self._mended: dict[str, str] = {}  # the release for which that was put right once; then probes have to convict
        self._silent: set[str] = set()  # mirrors that did not answer when they were last looked at

    def take(self) -> None:
        """Take a snapshot if the source changed, and bring every mirror up to the newest."""
        if self._under_way or self._works.settings.source is None or self._stopped():
            return
        if self._mind.round is None:
            self._due = True  # what the mirrors serve tells first whether our state is older than it
            return
        self._due = False
        if syncing.why_no_snapshot(self._works) is not None:
            return
        self._under_way = True
        take = self._taking.submit(
            syncing.take, self._works, by_hand=False, allow_deletions=False, seen=lambda *_: None
        )
        self._later(take, self._taken)

    def _taken(self, taken: Taken | MirrordError) -> None:
        self._under_way = False
        if isinstance(taken, Locked | Cancelled):
            return  # a person is at it, and publishes what comes of it; or we are told to stop
        self._mind.hindered("snapshot", taken if isinstance(taken, MirrordError) else None)
        if isinstance(taken, Taken):
            for warning in taken.warnings:
                _log.warning("%s", warning)
            if taken.changed:
                text = f"took {taken.snapshot.id}, serial {taken.snapshot.serial}"
                self._mind.note(Event("snapshot", text, why="the source changed"))
        self.bring()
        self._later(self._taking.submit(syncing.tidy, self._works), lambda _: None)

    def bring(self) -> None:
        """Bring every mirror the newest snapshot, and its newest card, now."""
        self._rests.clear()
        if self._works.settings.source is None or self._mind.round is None or self._stopped():
            return
        published = self._works.settings.published()
        self._publish({mirror.name: self._need(mirror.name, None, None) or Need() for mirror in published})

    def looked(self) -> None:
        """After a round: publish to mirrors that were seen with old or wrong content.

        One that answers again is brought forward at once: what it missed counts more than how often it was tried.
        """
        for name in self._answer_again():
            self._rests.pop(name, None)
        if self._due:
            self.take()
        if self._stopped():
            return
        newest = self._works.store.newest()
        if newest is None:
            return
        runs = self._works.journal.publishes()
        needs: dict[str, Need] = {}
        for mirror in self._works.settings.published():
            need = self._need(mirror.name, newest, runs.get(mirror.name))
            rest = self._rests.get(mirror.name)
            if need is None:
                self._rests.pop(mirror.name, None)
            elif rest is None or self._monotonic() >= rest.until:
                needs[mirror.name] = need
        self._publish(needs)

    def _answer_again(self) -> set[str]:
        """Return the mirrors that answered in this round and had not done so before."""
        answered: dict[str, bool] = {}
        for seen in self._mind.round.observations if self._mind.round is not None else ():
            reached = seen.fault is None or seen.fault.kind is not FaultKind.UNREACHABLE
            answered[seen.target.mirror] = answered.get(seen.target.mirror, False) or reached
        again = {mirror for mirror in self._silent if answered.get(mirror)}
        self._silent -= again
        self._silent |= {mirror for mirror, any_of_it in answered.items() if not any_of_it}
        return again

    def _need(self, mirror: str, newest: SnapshotId | None, run: Run | None) -> Need | None:
        """Say what a mirror needs by what is held true of it; None for nothing."""
        healths = list(self._mind.health(mirror).values())
        wrong = [health for health in healths if _is_wrong(health)]
        if wrong:
            return Need(mend=True, suspects=frozenset(path for health in wrong for path in health.suspects))
        if mirror in self._doubts:
            return Need(mend=True, suspects=self._doubts[mirror])
        old = any(health.snapshot is not None and health.snapshot.id != newest for health in healths)
        failed = run is not None and run.result == "failed"
        return Need() if newest is not None and (old or failed) else None

    def _publish(self, needs: Mapping[str, Need]) -> None:
        settings = self._works.settings
        idle = {mirror: need for mirror, need in needs.items() if not self._publisher.busy(mirror)}
        for mirror in idle:
            rest = self._rests.get(mirror)
            length = min(2 * (rest.length if rest is not None else settings.probe.every), settings.snapshot.every)
            self._rests[mirror] = Rest(self._monotonic() + length, length)
        if idle:
            self._later(self._starting.submit(self._start, idle), self._started)

    def _start(self, needs: Mapping[str, Need]) -> None:
        """Begin to publish, on a worker; raises Braked where our state is older than what the mirrors serve."""
        works = self._works
        syncing.check_state(works, by_hand=False)
        newest = works.store.newest()
        if newest is None:
            return
        trouble: MirrordError | None = None
        try:
            syncing.renew(works)
        except MirrordError as e:
            trouble = e  # an old card is better than an old site
        signed = works.store.load(newest)
        self._publisher.gather(newest, needs)
        for mirror, need in needs.items():
            try:
                self._publisher.start(mirror, signed, seen=lambda *_: None, mend=need.mend, suspects=need.suspects)
            except MirrordError as e:
                self._publisher.stays_away(newest, mirror)
                trouble = trouble or (None if isinstance(e, Locked) else e)
        if trouble is not None:
            raise trouble

    def _started(self, outcome: MirrordError | None) -> None:
        if not isinstance(outcome, Locked | Cancelled):
            self._mind.hindered("publish", outcome)

    def ended(self, published: Published) -> None:
        """Take in how publishing to a mirror ended, whoever began it."""
        self._mind.published(published)
        if published.result not in ("published", "unchanged"):
            return
        seen_wrong = frozenset(path.encode("utf-8", "surrogateescape") for path in published.seen_wrong)
        self._doubts.pop(published.mirror, None)
        if seen_wrong and self._mended.get(published.mirror) != published.release:
            self._doubts[published.mirror] = seen_wrong
            self._mended[published.mirror] = published.release

    def adopt(self) -> None:
        """Go on with another configuration: what could not be published may be so now."""
        self._rests.clear()

    def _stopped(self) -> bool:
        return (
            self._works.stop.is_set()
            or self._mind.publishing_stopped is not None
            or syncing.why_no_publish(self._works) is not None
        )


def _is_wrong(health: Health) -> bool:
    """Tell whether a mirror was convicted of serving what it should not."""
    return health.verdict is Verdict.DOWN and (
        bool(health.suspects) or (health.cause is not None and health.cause.kind in _WRONG)
    )
