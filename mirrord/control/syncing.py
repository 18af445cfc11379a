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
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any

from mirrord.config import Settings
from mirrord.control.works import Works
from mirrord.errors import Braked, Cancelled, Locked, MirrordError
from mirrord.hosts import Host, Progress
from mirrord.hosts.opening import open_host
from mirrord.journal import PUBLISHING, Event
from mirrord.manifest import Difference, Manifest, Signed, SnapshotId, difference
from mirrord.publish import Published, publish_with_retries
from mirrord.snapshot.store import Taken

_log = logging.getLogger(__name__)

RESIGN_AFTER = 12 * 3600.0
"""Seconds: a card is signed again at least daily; twice as often leaves room for a day's trouble."""
Seen = Callable[[str, Progress], None]
"""(mirror, progress); mirror "" is the snapshot being taken."""


def take(works: Works, *, by_hand: bool, allow_deletions: bool, seen: Seen) -> Taken:
    """Take a snapshot if the source changed. Raises what `Store.take` raises, and Braked when not by hand.

    A controller whose store is older than what the mirrors serve does not publish by itself: its source may be as
    old as its state. A person's sync goes on above the highest serial seen.
    """
    settings = works.settings
    highest = highest_seen(works)
    newest = works.store.newest()
    own = works.store.load(newest).snapshot.serial if newest is not None else 0
    if not by_hand and highest > own:
        raise Braked(
            f"{settings.site.name}: publishing by itself: a mirror serves serial {highest}, our store ends at {own}, so"
            " this state folder is older than what was published; look at the source, then run `mirrord sync` once to"
            " publish above it",
            "older-state",
        )
    return works.store.take(
        settings.source_value(),
        settings.signing_key(),
        settings.guard(),
        now_wall=time.time(),
        next_expected_in=settings.snapshot.next_expected,
        allow_deletions=allow_deletions,
        highest_seen=highest,
        seen=lambda done: seen("", done),
        stop=works.stop,
    )


def highest_seen(works: Works) -> int:
    """Return the highest validly signed serial that any mirror was seen to serve, 0 for none."""
    return max((last.serial for last in works.journal.last_seen().values()), default=0)


def newest(works: Works) -> Signed | None:
    """Return the newest snapshot, its card signed lately; None where none was taken yet."""
    wanted = works.store.newest()
    if wanted is None:
        return None
    signed = works.store.load(wanted)
    if time.time() - signed.signed_at > RESIGN_AFTER and works.settings.signing_key_is_here():
        return works.store.sign_again(
            wanted, works.settings.signing_key(), time.time(), works.settings.snapshot.next_expected
        )
    return signed


def rollback(works: Works, to: SnapshotId, *, allow_deletions: bool) -> Taken:
    """Take a new snapshot with an earlier one's content. Raises what `Store.rollback` raises."""
    settings = works.settings
    return works.store.rollback(
        to,
        settings.signing_key(),
        settings.guard(),
        now_wall=time.time(),
        next_expected_in=settings.snapshot.next_expected,
        allow_deletions=allow_deletions,
        highest_seen=highest_seen(works),
    )


def change_since(works: Works, before: SnapshotId | None, after: SnapshotId) -> Difference | None:
    """Return what changed between two snapshots of the store."""
    new = works.store.manifest(after)
    old = works.store.manifest(before) if before is not None else Manifest.of({})
    return difference(old, new) if old is not None and new is not None else None


def tidy(works: Works) -> None:
    """Drop snapshots that nobody needs any more; one that is in use is left for the next time."""
    protected = frozenset(SnapshotId(last.id) for last in works.journal.last_seen().values())
    try:
        works.store.sweep(works.settings.snapshot.keep, protected)
    except Locked:
        return


class Publishing:
    """The runs of publishing, at most one a mirror; `start` and `abort` from any thread."""

    def __init__(self, works: Works, ended: Callable[[Published], None] = lambda _: None) -> None:
        """`ended` is called on the run's own worker when a mirror is finished, however."""
        self._works = works
        self._ended = ended
        self._lock = threading.Lock()
        self._runs: dict[str, tuple[SnapshotId, Future[Published]]] = {}
        self._hosts: set[Host] = set()

    def start(
        self, mirror: str, signed: Signed, *, seen: Seen, allow_deletions: bool = False, mend: bool = False
    ) -> Future[Published]:
        """Publish to a mirror; a run under way for the same snapshot is joined, for another raises Locked."""
        with self._lock:
            if mirror in self._runs and not self._runs[mirror][1].done():
                under_way, future = self._runs[mirror]
                if under_way == signed.snapshot.id:
                    return future
                raise Locked(f"{mirror}: publishing {signed.snapshot.id}: {under_way} is being published; wait for it")
            future = self._works.uploading.submit(self._run, mirror, signed, seen, allow_deletions, mend)
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
            hosts = list(self._hosts)
        for host in hosts:
            host.abort()

    def _run(self, mirror: str, signed: Signed, seen: Seen, allow_deletions: bool, mend: bool) -> Published:  # noqa: FBT001
        works, settings = self._works, self._works.settings
        began = time.monotonic()
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
                    seen=lambda done: seen(mirror, done),
                    stop=works.stop,
                )
        except MirrordError as e:
            published = Published.failure(mirror, signed, e, time.monotonic() - began)
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
            if self._works.stop.wait(0.1):
                raise Cancelled(f"{mirror}: waiting for another publish: stopped")

    def _open(self, settings: Settings, mirror: str) -> Host:
        host = open_host(settings.account(mirror))
        with self._lock:
            self._hosts = {*self._hosts, host}
        if self._works.stop.is_set():
            host.abort()
        return host

    def _note(self, published: Published) -> None:
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


def why_not_by_itself(works: Works) -> str | None:
    """Say why nothing is published without a person now, or None."""
    held = works.journal.held(PUBLISHING)
    return None if held is None else f"publishing is held by {held.by}: {held.reason}"


def _try(write: Callable[[], object]) -> None:
    """Write into the journal; one that cannot be written stops no publish."""
    try:
        write()
    except MirrordError as e:
        _log.warning("%s", e)
