"""Which serial, id and published times follow those of the snapshot before?

Pure: the time is an argument. Serials and ids only grow, so that whoever sees two snapshots knows which is newer. A
file's published mtime is a field of its own: mtime and size are the ETag of nginx and Apache, so the same bytes keep
their mtime on all mirrors alike, and new bytes never carry an old one, whatever times a generator sets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from mirrord.manifest import Entry, Manifest, Snapshot, SnapshotId, snapshot_id

FIRST_MTIME, LAST_MTIME = 1, 2**32 - 1
"""Whole Unix seconds that SFTP v3 can say and that no server takes for "unknown"."""
GONE_KEPT = 100_000
"""Removed paths whose last published mtime is remembered, the latest removed first."""


class Found(NamedTuple):
    """One file of the source: raw digest, size in bytes, its own mtime in Unix seconds."""

    digest: bytes
    size: int
    mtime: float


Gone = Mapping[bytes, tuple[int, int]]
"""Removed path -> (serial of the snapshot that lacked it first, last published mtime)."""


def publish_times(files: Mapping[bytes, Found], before: Mapping[bytes, Entry], gone: Gone, now: float) -> Manifest:
    """Give every file its published mtime.

    Same digest as `before`: the same mtime. Other bytes: max(min(own mtime, now), the previous one + 1), where a path
    that was removed earlier still has a previous one; bytes that stood elsewhere before keep the mtime that they had
    there, where that is later than the previous one of the path. So what was moved is the same to every mirror.
    """
    entries: dict[bytes, Entry] = {}
    elsewhere: dict[bytes, int] = {}
    for entry in before.values():
        elsewhere[entry.digest] = max(entry.mtime, elsewhere.get(entry.digest, 0))
    for path in sorted(files):
        file, old = files[path], before.get(path)
        if old is not None and old.digest == file.digest:
            entries[path] = old
            continue
        least = old.mtime + 1 if old is not None else gone[path][1] + 1 if path in gone else FIRST_MTIME
        had = elsewhere.get(file.digest, 0)
        mtime = had if had >= least else max(math.floor(min(file.mtime, now)), least)
        entries[path] = Entry(file.digest, file.size, min(max(mtime, FIRST_MTIME), LAST_MTIME))
    return Manifest(entries)


def gone_after(gone: Gone, before: Mapping[bytes, Entry], after: Mapping[bytes, Entry], serial: int) -> Gone:
    """Return what is to be remembered of removed paths after the snapshot `serial`."""
    left = {path: last for path, last in gone.items() if path not in after}
    left.update({path: (serial, entry.mtime) for path, entry in before.items() if path not in after})
    if len(left) <= GONE_KEPT:
        return left
    latest = sorted(left, key=lambda path: (-left[path][0], path))[:GONE_KEPT]
    return {path: left[path] for path in latest}


def next_snapshot(
    site: str,
    manifest: Manifest,
    before: Snapshot | None,
    *,
    now: float,
    next_expected_in: float,
    highest_seen: int = 0,
    newest_seen: SnapshotId | None = None,
    restores: SnapshotId | None = None,
) -> Snapshot:
    """Make the card of the snapshot that follows `before`; `now` in Unix seconds, `next_expected_in` in seconds.

    `serial` = 1 + the highest of our own and of every validly signed one seen on the mirrors (`highest_seen`); the
    id's time is at least a second after our own previous id's, and after that of `newest_seen` on the mirrors. So a
    lost or restored state folder, or a clock that was set back, does not publish backwards.
    """
    created = datetime.fromtimestamp(math.floor(now), UTC)
    own = before.id if before is not None else None
    for earlier in (own, newest_seen):
        if earlier is not None and (taken := time_of(earlier)) is not None:
            created = max(created, taken + timedelta(seconds=1))
    return Snapshot(
        site=site,
        serial=1 + max(highest_seen, before.serial if before else 0),
        id=snapshot_id(created, manifest.sha256),
        created=created,
        next_expected=created + timedelta(seconds=math.ceil(next_expected_in)),
        previous=own,
        manifest_sha256=manifest.sha256,
        files=len(manifest.entries),
        size=manifest.size,
        restores=restores,
    )


def time_of(snapshot: SnapshotId) -> datetime | None:
    """Return the time in an id; None where it is no time."""
    try:
        return datetime.strptime(snapshot[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
