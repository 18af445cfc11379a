"""What has to be sent, linked and dropped so that a mirror serves a snapshot, and may it be?

A survey says what one look found on a mirror. A plan is a value: it can be printed, stored and carried
out later, and names what the mirror must still serve then. The brake is decided here, before a byte is
sent. Nothing here talks to a host: `mirrord.hosts` surveys and stages, `mirrord.publish` carries out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mirrord.manifest import Manifest, SnapshotId, difference


@dataclass(frozen=True, slots=True)
class Survey:
    """What one look found in a mirror's account."""

    current: SnapshotId | None
    """The release that `serve` points to; None where nothing is served yet."""
    obstacle: str | None
    """Why nothing can be served here: a real folder or foreign file stands at `serve`, in a person's words."""
    card: bytes | None
    """`snapshot.json` of the served release as it stands, not verified; None where there is none."""
    card_sig: bytes | None
    releases: tuple[SnapshotId, ...]
    """Whole releases, oldest first."""
    staging: tuple[bytes, ...]
    """Names of unfinished trees."""
    trash: tuple[bytes, ...]
    free: int | None
    """Bytes that we may still write, where the server says."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one mirror comes to hold one snapshot."""

    mirror: str
    target: SnapshotId
    instead_of: SnapshotId | None
    """What the mirror must be serving when this is carried out; anything else is a conflict."""
    base: SnapshotId | None
    """The release on the mirror whose unchanged files are hard-linked."""
    link: Mapping[bytes, bytes]
    """Path -> path in the base that holds the same bytes with the same published mtime."""
    send: tuple[bytes, ...]
    """Paths whose content travels."""
    removed: tuple[bytes, ...]
    """Paths of the base that the target does not have."""
    bytes_to_send: int


def make_plan(
    mirror: str,
    target: SnapshotId,
    wanted: Manifest,
    instead_of: SnapshotId | None,
    base: SnapshotId | None = None,
    held: Manifest | None = None,
) -> Plan:
    """Plan `wanted` on a mirror that holds the release `base` with the files `held` (None: nothing known).

    A file is linked where the base has the same digest, size and published mtime, at its own path or
    another (a rename or move inside the site costs no content).
    """
    link: dict[bytes, bytes] = {}
    send: list[bytes] = []
    have = held.entries if held is not None and base is not None else {}
    by_entry = {entry: path for path, entry in reversed(list(have.items()))}
    for path, entry in wanted.entries.items():
        if have.get(path) == entry:
            link[path] = path
        elif entry in by_entry:
            link[path] = by_entry[entry]
        else:
            send.append(path)
    return Plan(
        mirror=mirror,
        target=target,
        instead_of=instead_of,
        base=base if held is not None else None,
        link=link,
        send=tuple(send),
        removed=tuple(path for path in have if path not in wanted.entries),
        bytes_to_send=sum(wanted.entries[path].size for path in send),
    )


@dataclass(frozen=True, slots=True)
class Guard:
    """How much may vanish before a person is asked: both limits must be exceeded."""

    removed_percent: float = 10.0
    removed_files: int = 10


def brake(before: Manifest, after: Manifest, guard: Guard) -> str | None:
    """Say why a person must confirm this much deletion, or None.

    Two brakes: removed or emptied files beyond both limits of the guard; more than half of the files
    or of the bytes gone, at any count.
    """
    change = difference(before, after)
    gone = len(change.removed) + len(change.emptied)
    had = len(before.entries)
    if not had:
        return None
    percent = 100 * gone / had
    if percent > guard.removed_percent and gone > guard.removed_files:
        return (
            f"{gone} of {had} files ({percent:.0f} %) would be removed or emptied, more than"
            f" guard.removed_percent = {guard.removed_percent:g} and guard.removed_files = {guard.removed_files} allow"
        )
    if 2 * gone > had:
        return f"{gone} of {had} files would be removed or emptied, more than half of the site"
    if 2 * after.size < before.size:
        return f"the site would shrink from {before.size} to {after.size} bytes, by more than half"
    return None
