"""How does the source's content get to all mirrors?

A snapshot is taken, then every mirror gets it on a worker of its own: one that is slow, full or dead
delays no other. Automatic publishing has brakes that a person's `sync` lifts: a publishing hold, and a
mirror that serves a higher serial than our store knows (a restored or copied state folder). What a
snapshot is, is said in `mirrord.snapshot`; how one mirror is published to, in `mirrord.publish`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from mirrord.config import Settings
from mirrord.control.pulse import Pulse
from mirrord.control.works import Works
from mirrord.errors import Braked, Cancelled, Locked, MirrordError, PutOff
from mirrord.hosts import Host, Progress
from mirrord.hosts.opening import open_host
from mirrord.journal import PUBLISHING, SNAPSHOTS, Event, Held
from mirrord.manifest import Difference, Manifest, Signed, Snapshot, SnapshotId, difference, snapshot_id
from mirrord.publish import Published, look, object_to, publish_with_retries
from mirrord.snapshot import Progress as Reading
from mirrord.snapshot.store import Scanned, Taken

_log = logging.getLogger(__name__)

RESIGN_AFTER = 12 * 3600.0
"""Seconds: a card is signed again at least daily; twice as often leaves room for a day's trouble."""
STANDSTILL = 1800.0
"""Seconds without any progress after which a publish counts as stuck; SFTP itself gives up a silent peer earlier..."""
SLOWEST = 16_384
"""... and more on a slow line, on which one large file is no progress for long: bytes a second."""
PATIENCE = 30.0
"""Seconds for which a person's order waits for a snapshot that is being taken."""
Seen = Callable[[str, Progress | Reading], None]
"""(mirror, progress); mirror "" is the snapshot being taken."""


def take(works: Works, *, by_hand: bool, allow_deletions: bool, seen: Seen) -> Taken:
    """Take a snapshot if the source changed. Raises what `Store.take` raises, and Braked when not by hand.

    A person's order waits a while for one that is being taken already. Not by hand, nothing is taken while that is
    held: PutOff.
    """
    settings = works.settings
    with _one_at_a_time(works, PATIENCE if by_hand else 0.0):
        if not by_hand and (why := why_no_snapshot(works)) is not None:
            raise PutOff(f"{settings.site.name}: taking a snapshot: {why}")
        check_state(works, by_hand=by_hand)
        highest, latest = highest_seen(works)
        return works.store.take(
            settings.source_value(),
            settings.signing_key(),
            settings.guard(),
            now_wall=time.time(),
            next_expected_in=settings.snapshot.next_expected,
            allow_deletions=allow_deletions,
            highest_seen=highest,
            newest_seen=latest,
            seen=lambda done: seen("", done),
            stop=works.stop,
        )


def check_state(works: Works, *, by_hand: bool) -> None:
    """Raise Braked where our store is older than what the mirrors serve: the source may be as old as the state.

    Only a controller that lost its store altogether goes on, by hand, above the highest serial seen.
    """
    highest, _ = highest_seen(works)
    newest = works.store.newest()
    own = works.store.card(newest).serial if newest is not None else 0
    if highest > own and (newest is not None or not by_hand):
        way = f"`mirrord rollback {newest}`" if newest is not None else "`mirrord sync`"
        raise Braked(
            f"{works.settings.site.name}: publishing: a mirror serves serial {highest}, our store ends at {own}: this"
            " state folder is older than what was published, and the source may be so too; look at the source, and if"
            f" it is the right content, {way} publishes it above that",
            "older-state",
        )


@contextlib.contextmanager
def _one_at_a_time(works: Works, patience: float) -> Iterator[None]:
    """Take, roll back or tidy alone on this machine; raises Locked after so many seconds."""
    deadline = time.monotonic() + patience
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(works.locked("snapshots"))
                break
            except Locked:
                if time.monotonic() >= deadline:
                    raise
            if works.stop.wait(0.1):
                raise Cancelled(f"{works.settings.site.name}: waiting for another snapshot: stopped")
        yield


def scan(works: Works, *, allow_deletions: bool, seen: Seen) -> Scanned:
    """Find out what `take` would do. Raises what it would."""
    settings = works.settings
    return works.store.scan(
        settings.source_value(),
        settings.guard(),
        now_wall=time.time(),
        allow_deletions=allow_deletions,
        seen=lambda done: seen("", done),
        stop=works.stop,
    )


def highest_seen(works: Works) -> tuple[int, SnapshotId | None]:
    """Return the highest validly signed serial and the latest id that any mirror was seen to serve."""
    seen = works.journal.last_seen().values()
    return max((last.serial for last in seen), default=0), max((SnapshotId(last.id) for last in seen), default=None)


def renew(works: Works) -> None:
    """Sign the newest card again where it was not signed lately; raises Damaged, Full, Refused."""
    newest = works.store.newest()
    if newest is None or not works.settings.signing_key_is_here():
        return
    if time.time() - works.store.signed_at(newest) > RESIGN_AFTER:
        works.store.sign_again(newest, works.settings.signing_key(), time.time(), works.settings.snapshot.next_expected)


def rollback(works: Works, to: SnapshotId, who: str, *, allow_deletions: bool) -> tuple[Taken, Held]:
    """Take a new snapshot with an earlier one's content, and hold the automatic ones until a person syncs.

    Raises what `Store.rollback` raises; nothing new is held then.
    """
    settings, journal = works.settings, works.journal
    with _one_at_a_time(works, PATIENCE):
        highest, latest = highest_seen(works)
        reason = f"rolled back to the content of {to}; `mirrord sync` publishes the source again"
        held_before = journal.held(SNAPSHOTS)
        # Held first: killed after the snapshot and before the hold, the source would be published again.
        held = journal.hold(SNAPSHOTS, reason, who)
        try:
            taken = works.store.rollback(
                to,
                settings.signing_key(),
                settings.guard(),
                now_wall=time.time(),
                next_expected_in=settings.snapshot.next_expected,
                allow_deletions=allow_deletions,
                highest_seen=highest,
                newest_seen=latest,
            )
        except MirrordError:
            if held_before is None:
                _try(lambda: journal.unhold(SNAPSHOTS, who))
            raise
    return taken, held


def change_since(works: Works, before: SnapshotId | None, after: SnapshotId) -> Difference | None:
    """Return what changed between two snapshots of the store."""
    new = works.store.manifest(after)
    old = works.store.manifest(before) if before is not None else Manifest.of({})
    return difference(old, new) if old is not None and new is not None else None


def tidy(works: Works) -> None:
    """Drop snapshots that nobody needs any more; what is in use, or cannot be read, is left for the next time."""
    try:
        mirrors = {mirror.name for mirror in works.settings.mirrors}
        served = [last.id for last in works.journal.last_seen().values() if last.mirror in mirrors]
        protected = frozenset(map(SnapshotId, served))
        with _one_at_a_time(works, 0.0):
            works.store.sweep(works.settings.snapshot.keep, protected)
    except Locked:
        return
    except MirrordError as e:
        _log.warning("old snapshots stay: %s", e)


def rehearse(
    works: Works, mirrors: Sequence[str], wanted: Manifest, current: SnapshotId | None, *, allow_deletions: bool
) -> list[dict[str, Any]]:
    """Show what publishing `wanted` would do on each mirror; `current` is its snapshot where it was taken already."""
    if current is not None:
        signed = works.store.load(current)
    else:
        now = datetime.now(UTC)
        own = [snapshot.serial for snapshot in works.store.snapshots()]
        card = Snapshot(
            site=works.settings.site.name,
            serial=1 + max(own, default=0),
            id=snapshot_id(now, wanted.sha256),
            created=now,
            next_expected=now,
            previous=works.store.newest(),
            manifest_sha256=wanted.sha256,
            files=len(wanted.entries),
            size=wanted.size,
        )
        signed = Signed(card, wanted, b"", card.text(), b"", 0)  # never leaves this process
    runs = {
        mirror: works.uploading.submit(_rehearse, works, mirror, signed, allow_deletions=allow_deletions)
        for mirror in mirrors
    }
    return [row(run.result()) for run in runs.values()]


def _rehearse(works: Works, mirror: str, signed: Signed, *, allow_deletions: bool) -> Published:
    settings = works.settings
    began = time.monotonic()
    card = signed.snapshot
    try:
        with contextlib.closing(open_host(settings.account(mirror))) as host:
            outlook = look(
                host,
                signed.manifest,
                works.store.manifest,
                signers=settings.signers(),
                identity=settings.identity,
                site=settings.site.name,
            )
            object_to(mirror, outlook, signed, settings.guard(), allow_deletions=allow_deletions)
            plan = outlook.plan(mirror, card.id, signed.manifest)
    except MirrordError as e:
        return Published.failure(mirror, signed, e, time.monotonic() - began)
    served = outlook.served is not None and outlook.served.manifest_sha256 == card.manifest_sha256
    return Published(
        mirror,
        "unchanged" if served and outlook.survey.current == card.id else "planned",
        card.id,
        card.serial,
        files_sent=len(plan.send),
        files_linked=len(plan.link),
        files_removed=len(plan.removed),
        bytes_sent=plan.bytes_to_send,
        seconds=time.monotonic() - began,
    )


class Publishing:
    """The runs of publishing, at most one a mirror; `start` and `abort` from any thread."""

    def __init__(
        self, works: Works, ended: Callable[[Published], None] = lambda _: None, pulse: Pulse | None = None
    ) -> None:
        """`ended` is called on the run's own worker when a mirror is finished, however; `pulse` hears of progress."""
        self._works = works
        self._pulse = pulse or Pulse()
        self._ended = ended
        self._lock = threading.Lock()
        self._runs: dict[str, tuple[SnapshotId, Future[Published]]] = {}
        self._hosts: dict[str, Host] = {}
        self._told: dict[str, str] = {}

    def start(
        self,
        mirror: str,
        signed: Signed,
        *,
        seen: Seen,
        allow_deletions: bool = False,
        mend: bool = False,
        suspects: Collection[bytes] = (),
    ) -> Future[Published]:
        """Publish to a mirror; a run under way for the same snapshot is joined, for another raises Locked."""
        with self._lock:
            if mirror in self._runs and not self._runs[mirror][1].done():
                under_way, future = self._runs[mirror]
                if under_way == signed.snapshot.id:
                    return future
                raise Locked(f"{mirror}: publishing {signed.snapshot.id}: {under_way} is being published; wait for it")
            future = self._works.uploading.submit(
                self._run, mirror, signed, seen, allow_deletions=allow_deletions, mend=mend, suspects=suspects
            )
            self._runs[mirror] = (signed.snapshot.id, future)
            return future

    def busy(self, mirror: str) -> bool:
        """Tell whether a run is under way."""
        with self._lock:
            return mirror in self._runs and not self._runs[mirror][1].done()

    def any_busy(self) -> bool:
        """Tell whether any run is under way."""
        with self._lock:
            return any(not future.done() for _, future in self._runs.values())

    def abort(self) -> None:
        """Break every run off; returns at once."""
        with self._lock:
            hosts = list(self._hosts.values())
        for host in hosts:
            host.abort()

    def _run(
        self,
        mirror: str,
        signed: Signed,
        seen: Seen,
        *,
        allow_deletions: bool,
        mend: bool,
        suspects: Collection[bytes],
    ) -> Published:
        works, settings = self._works, self._works.settings
        began = time.monotonic()
        doing = f"publishing to {mirror}"

        def got_on(done: Progress) -> None:
            self._pulse.expect(doing, STANDSTILL + (done.bytes_total - done.bytes_done) / SLOWEST)
            seen(mirror, done)

        self._pulse.expect(doing, STANDSTILL + signed.manifest.size / SLOWEST)
        try:
            with self._alone(mirror, signed.snapshot.id), works.store.reading(signed.snapshot.id):
                _try(lambda: works.journal.publish_began(mirror, signed.snapshot.id, signed.snapshot.serial))
                published = publish_with_retries(
                    lambda: self._open(settings, mirror),
                    works.me(),
                    mirror,
                    signed,
                    works.store.content(),
                    works.store.manifest,
                    signers=settings.signers(),
                    identity=settings.identity,
                    keep=settings.keep(mirror),
                    guard=settings.guard(),
                    allow_deletions=allow_deletions,
                    mend=mend,
                    suspects=suspects,
                    seen=got_on,
                    stop=works.stop,
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
        self._pulse.ended(doing)
        _try(lambda: works.journal.publish_ended(mirror, published.result, asdict(published)))
        self._note(published)
        self._ended(published)
        return published

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

    def _open(self, settings: Settings, mirror: str) -> Host:
        host = open_host(settings.account(mirror))
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
        (_log.warning if published.error else _log.info)("%s", text)
        _try(
            lambda: self._works.journal.record(
                Event("publish", text, about=published.mirror, by=self._works.settings.controller.name)
            )
        )


def row(published: Published) -> dict[str, Any]:
    """Return one mirror's line of `sync --json`."""
    return {
        "name": published.mirror,
        "result": published.result,
        "release": published.release,
        "serial": published.serial,
        "files_sent": published.files_sent,
        "files_linked": published.files_linked,
        "files_patched": published.files_patched,
        "files_removed": published.files_removed,
        "bytes_sent": published.bytes_sent,
        "seconds": round(published.seconds, 3),
        "error": published.error,
        "error_code": published.error_code,
    }


def why_no_publish(works: Works) -> str | None:
    """Say why nothing is published without a person now, or None."""
    return _said(works.journal.held(PUBLISHING))


def why_no_snapshot(works: Works) -> str | None:
    """Say why no snapshot is taken without a person now, or None."""
    return why_no_publish(works) or _said(works.journal.held(SNAPSHOTS))


def _said(held: Held | None) -> str | None:
    return None if held is None else f"{held.what} is held by {held.by}: {held.reason}"


def _try(write: Callable[[], object]) -> None:
    """Write into the journal; one that cannot be written stops no publish."""
    try:
        write()
    except MirrordError as e:
        _log.warning("%s", e)
