"""How does a snapshot get to all mirrors?

Every mirror gets it in a run of its own, on a worker of its own: one that is slow, full or dead delays no other. A
run goes to its end whatever befalls it, and says how it ended to the journal, the watch and whoever waits. How one
mirror is published to is said in `mirrord.publish`; which snapshot, and when, in `syncing` and `upkeep`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from typing import Any

from mirrord.config import Settings
from mirrord.control.gathering import Gathering, Seat
from mirrord.control.pulse import Pulse
from mirrord.control.syncing import Seen
from mirrord.control.viewing import Viewer
from mirrord.control.works import Works
from mirrord.errors import Cancelled, Locked, MirrordError
from mirrord.hosts import Host, Linger, Progress
from mirrord.hosts.opening import open_host
from mirrord.journal import Event
from mirrord.manifest import Signed, SnapshotId
from mirrord.publish import Agreed, Published, publish_with_retries

_log = logging.getLogger(__name__)

STANDSTILL = 1800.0
"""Seconds without any progress after which a publish counts as stuck; SFTP itself gives up a silent peer earlier..."""
SLOWEST = 16_384
"""... and more on a slow line, on which one large file is no progress for long: bytes a second."""


@dataclass(slots=True, eq=False)
class _Run:
    """One run, and on which terms."""

    snapshot: SnapshotId
    allow_deletions: bool
    agreed: Agreed | None
    before: _Run | None = None
    """Which one it waits for."""
    future: Future[Published] = field(default_factory=Future)
    over: bool = False

    def does_for(self, other: _Run) -> bool:
        """Tell whether who began the other may as well wait for this one: it is hindered by nothing that he lifts.

        Nor is another plan carried out for one that he agreed to.
        """
        lifted = self.allow_deletions or not other.allow_deletions
        return self.snapshot == other.snapshot and lifted and other.agreed is None


class Publishing:
    """The runs of publishing, at most one a mirror; `start` and `abort` from any thread."""

    def __init__(
        self, works: Works, ended: Callable[[Published], None] = lambda _: None, pulse: Pulse | None = None
    ) -> None:
        """`ended` is called on the run's own worker when a mirror is finished, however; `pulse` hears of progress."""
        self._works = works
        self._pulse = pulse or Pulse()
        self._ended = ended
        self._viewer = Viewer(works)
        self._lock = threading.RLock()  # a run that is joined may end that very moment
        self._runs: dict[str, _Run] = {}
        self._hosts: dict[str, Host] = {}
        self._told: dict[str, str] = {}
        self._gatherings: dict[SnapshotId, Gathering] = {}

    def gather(self, snapshot: SnapshotId, mirrors: Collection[str]) -> Gathering:
        """Let runs that are about to start for these mirrors meet before they switch.

        Whoever calls it starts them all, or calls `stays_away` for one that he could not start.
        """
        with self._lock:
            gathering = self._gatherings.get(snapshot)
            if gathering is None or gathering.over:
                gathering = self._gatherings[snapshot] = Gathering(self._works.settings.together())
            gathering.expect(mirrors)
            return gathering

    def _joined(self, snapshot: SnapshotId, mirror: str, run: Future[Published]) -> None:
        """Take in how a run ended that may have told its gathering before somebody gathered anew."""
        with self._lock:
            gathering = self._gatherings.get(snapshot)
        if gathering is not None and not run.cancelled():
            gathering.ended(mirror, serves=_serves(run.result()))
            self._disperse(snapshot, gathering)

    def stays_away(self, snapshot: SnapshotId, mirror: str) -> None:
        """Let nobody wait for a mirror: no run was started for it."""
        with self._lock:
            gathering = self._gatherings.get(snapshot)
        if gathering is not None:
            gathering.ended(mirror, serves=False)
            self._disperse(snapshot, gathering)

    def start(
        self,
        mirror: str,
        signed: Signed,
        *,
        seen: Seen,
        allow_deletions: bool = False,
        mend: bool = False,
        suspects: Collection[bytes] = (),
        agreed: Agreed | None = None,
        patience: float = 0.0,
    ) -> Future[Published]:
        """Publish to a mirror; a run under way that does the same is joined, another raises Locked.

        With `patience` the end of that other run is waited for, on a worker and for so many seconds, before this one is
        locked out. `agreed` raises Braked where a plan, or what became of it, is not what a person agreed to.
        """
        mine = _Run(signed.snapshot.id, allow_deletions, agreed)
        with self._lock:
            before = self._runs.get(mirror)
            if before is not None and not before.future.done():
                if before.does_for(mine):
                    before.future.add_done_callback(lambda run: self._joined(mine.snapshot, mirror, run))
                    return before.future
                if not patience:
                    raise _locked(mirror, signed)
                mine.before = before
            mine.future = self._works.uploading.submit(
                self._attend,
                mine,
                mirror,
                signed,
                seen,
                mend=mend,
                suspects=suspects,
                patience=patience,
            )
            self._runs[mirror] = mine
            return mine.future

    def busy(self, mirror: str) -> bool:
        """Tell whether a run is under way."""
        with self._lock:
            return mirror in self._runs and not self._runs[mirror].future.done()

    def any_busy(self) -> bool:
        """Tell whether any run is under way."""
        with self._lock:
            return any(not run.future.done() for run in self._runs.values())

    def abort(self) -> None:
        """Break every run off; returns at once."""
        with self._lock:
            hosts = list(self._hosts.values())
            gatherings = list(self._gatherings.values())
        for gathering in gatherings:
            gathering.cancel()
        for host in hosts:
            host.abort()

    def _attend(self, run: _Run, mirror: str, signed: Signed, seen: Seen, **how: Any) -> Published:
        """Run with the others that bring the same snapshot, and tell them how it ended: for the last of two runs."""
        gathering = self.gather(signed.snapshot.id, [mirror])
        published: Published | None = None
        try:
            published = self._run(run, mirror, signed, seen, gathering, **how)
        finally:
            with self._lock:
                run.over = True
                others = [other for other in (run.before, self._runs[mirror]) if other is not None]
                run.before = None
            if all(other.over or other.snapshot != run.snapshot for other in others):
                gathering.ended(mirror, serves=_serves(published))
                self._disperse(signed.snapshot.id, gathering)
        self._ended(published)
        return published

    def _disperse(self, snapshot: SnapshotId, gathering: Gathering) -> None:
        """Once every run has ended, say how far apart the switches were."""
        with self._lock:
            if not gathering.over or self._gatherings.get(snapshot) is not gathering:
                return
            del self._gatherings[snapshot]
        if gathering.skew is None:
            return
        switches = gathering.switches()
        text = f"{len(switches)} mirrors switched to {snapshot} within {gathering.skew:.2f} s"
        details = {"snapshot": snapshot, "skew_seconds": round(gathering.skew, 3), "after_seconds": switches}
        works = self._works
        works.jot(
            lambda: works.journal.record(Event("publish", text, by=works.settings.controller.name, details=details))
        )

    def _run(
        self,
        run: _Run,
        mirror: str,
        signed: Signed,
        seen: Seen,
        gathering: Gathering,
        *,
        mend: bool,
        suspects: Collection[bytes],
        patience: float,
    ) -> Published:
        works, settings = self._works, self._works.settings
        began = time.monotonic()
        doing = f"publishing to {mirror}"

        def got_on(done: Progress) -> None:
            self._pulse.expect(doing, STANDSTILL + (done.bytes_total - done.bytes_done) / SLOWEST)
            if done.bytes_done:
                self._viewer.get_ready()
            seen(mirror, done)

        self._pulse.expect(doing, STANDSTILL + signed.manifest.size / SLOWEST)
        try:
            if run.before is not None:
                self._wait_for(run.before.future, patience, mirror, signed)
            with self._alone(mirror, signed.snapshot.id), works.store.reading(signed.snapshot.id):
                works.jot(lambda: works.journal.publish_began(mirror, signed.snapshot.id, signed.snapshot.serial))
                published = publish_with_retries(
                    lambda: self._open(settings, mirror, gathering),
                    works.me(),
                    mirror,
                    signed,
                    works.store.content(),
                    works.store.manifest,
                    signers=settings.signers(),
                    identity=settings.identity,
                    keep=settings.keep(mirror),
                    pinned=works.store.pinned,
                    guard=settings.guard(),
                    allow_deletions=run.allow_deletions,
                    mend=mend,
                    suspects=suspects,
                    seen=got_on,
                    stop=works.stop,
                    compare=works.compare,
                    agreed=run.agreed or (lambda _plan, _whole: None),
                    read_back=settings.publish.read_back,
                    linger=Linger(settings.publish.grace, works.store.earlier),
                    meeting=Seat(gathering, mirror, lambda: self._pulse.expect(doing, STANDSTILL)),
                )
        except MirrordError as e:
            published = Published.failure(mirror, signed, e, time.monotonic() - began)
        except Exception as e:  # noqa: BLE001 (a run that never ends would count as one under way, for ever)
            _log.exception("%s: publishing %s: something that nobody foresaw", mirror, signed.snapshot.id)
            fault = MirrordError(
                f"{mirror}: publishing {signed.snapshot.id}: a fault of mirrord: {type(e).__name__}: {e}"
            )
            published = Published.failure(mirror, signed, fault, time.monotonic() - began)
        with self._lock:
            self._hosts.pop(mirror, None)
        if published.result == "published":
            published = self._viewer.view(published, suspects)
        self._pulse.ended(doing)
        works.jot(lambda: works.journal.publish_ended(mirror, published.result, asdict(published)))
        if published.serves is not None:  # the way out that the refusal names has to go above that
            serial, found = published.serves
            works.jot(lambda: works.journal.seen_serving(mirror, serial, found))
        self._note(published)
        return published

    def _wait_for(self, before: Future[Published], patience: float, mirror: str, signed: Signed) -> None:
        """Wait for another run at the same mirror to end. Raises Locked where it does not, and Cancelled."""
        deadline = time.monotonic() + patience
        while not before.done():
            if time.monotonic() >= deadline:
                raise _locked(mirror, signed)
            if self._works.stop.wait(0.1):
                raise Cancelled(f"{mirror}: waiting for another publish: stopped")

    @contextlib.contextmanager
    def _alone(self, mirror: str, snapshot: SnapshotId) -> Iterator[None]:
        """Keep other processes of this machine away; one that publishes the same snapshot is waited for."""
        while True:
            try:
                with self._works.locked(f"publish-{mirror}", snapshot):
                    yield
                return
            except Locked as e:
                if e.holder != snapshot:
                    raise
            self._pulse.expect(f"publishing to {mirror}", STANDSTILL)
            if self._works.stop.wait(0.1):
                raise Cancelled(f"{mirror}: waiting for another publish: stopped")

    def _open(self, settings: Settings, mirror: str, gathering: Gathering) -> Host:
        try:
            host = open_host(self._works.accounts.account(settings, mirror))
        except MirrordError:
            gathering.missed(mirror)
            raise
        gathering.reached(mirror)
        with self._lock:
            self._hosts[mirror] = host
        if self._works.stop.is_set():
            host.abort()
        return host

    def _note(self, published: Published) -> None:
        if published.error is None:
            self._told.pop(published.mirror, None)
        elif self._told.get(published.mirror) == published.error:
            return
        else:
            self._told[published.mirror] = published.error
        if published.result == "unchanged":
            return
        text = f"{published.mirror}: {published.result} {published.release}"
        text += f": {published.error}" if published.error else f" in {published.seconds:.1f} s"
        text += f", verified: {published.verified}" if published.verified is not None else ""
        (_log.warning if published.error else _log.info)("%s", text)
        self._works.jot(
            lambda: self._works.journal.record(
                Event("publish", text, about=published.mirror, by=self._works.settings.controller.name)
            )
        )


def _locked(mirror: str, signed: Signed) -> Locked:
    return Locked(f"{mirror}: publishing {signed.snapshot.id}: another one is being published there; wait for it")


def _serves(published: Published | None) -> bool:
    return published is not None and published.result in ("published", "unchanged")
