"""Which snapshot are the mirrors to serve, and may it be taken?

The source is read, alone on this machine, under brakes that a person's `sync` lifts: a hold, and a mirror that
serves a higher serial than our store knows (a restored or copied state folder). A rollback makes an earlier content
the newest. What a snapshot is, is said in `mirrord.snapshot`; `publishing` brings it to the mirrors.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from mirrord.control.works import Works
from mirrord.errors import Braked, Cancelled, Locked, MirrordError, PutOff
from mirrord.hosts import Progress
from mirrord.journal import PUBLISHING, SNAPSHOTS, Held
from mirrord.manifest import Difference, Manifest, SnapshotId, difference
from mirrord.snapshot import Progress as Reading
from mirrord.snapshot.store import Scanned, Taken

_log = logging.getLogger(__name__)

RESIGN_AFTER = 12 * 3600.0
"""Seconds: a card is signed again at least daily; twice as often leaves room for a day's trouble."""
PATIENCE = 30.0
"""Seconds for which a person's order waits for a snapshot that is being taken, or published to the same mirror."""
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


def _contested(works: Works) -> bool:
    """Tell whether a mirror was seen to serve something else under the serial of our newest snapshot."""
    newest = works.store.newest()
    if newest is None:
        return False
    serial = works.store.card(newest).serial
    return any(last.serial == serial and last.id != newest for last in works.journal.last_seen().values())


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
                contested=_contested(works),
            )
        except MirrordError:
            if held_before is None:
                works.jot(lambda: journal.unhold(SNAPSHOTS, who))
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


def why_no_publish(works: Works) -> str | None:
    """Say why nothing is published without a person now, or None."""
    return _said(works.journal.held(PUBLISHING))


def why_no_snapshot(works: Works) -> str | None:
    """Say why no snapshot is taken without a person now, or None."""
    return why_no_publish(works) or _said(works.journal.held(SNAPSHOTS))


def _said(held: Held | None) -> str | None:
    return None if held is None else f"{held.what} is held by {held.by}: {held.reason}"
