"""What has to be sent, linked and dropped so that a mirror serves a snapshot, and may it be?

A survey says what one look found on a mirror. A plan is a value: it can be printed, stored and carried
out later, and names what the mirror must still serve then. The brake is decided here, before a byte is
sent. Nothing here talks to a host: `mirrord.hosts` surveys and stages, `mirrord.publish` carries out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from mirrord.delta import Delta
from mirrord.manifest import Entry, Manifest, SnapshotId, difference, weigh

Compare = Callable[[Entry, Entry], Delta | None]
"""How the second file is made of the first; None where it is better sent whole."""
LEAST_COPIED = 8 * 1024
"""Bytes; where nothing can be linked, a file that is smaller is sent rather than copied on the mirror."""
_NOTHING = hashlib.sha256(b"").digest()


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
    temps: tuple[bytes, ...] = ()
    """Names in `.mirrord/` that a publish makes for a moment; found at rest, one was broken off."""
    locks: tuple[int, ...] = ()
    """Numbers of the lock files, ascending; the highest holds."""
    left: Mapping[SnapshotId, int] = field(default_factory=dict)
    """When readers were last led away from a release: Unix seconds by the mirror's own clock."""
    folders: frozenset[bytes] = frozenset()
    """Those of the folders that we need outside of releases that stand; `b""` is the account's root."""
    own: frozenset[bytes] = frozenset()
    """Names in `.mirrord/`."""
    layout: str = "releases"
    why: str = ""
    """Why this layout and no other, for people."""
    half: str | None = None
    """What a dead holder left in the middle, for people; whoever holds the lock next settles it first."""
    previous: tuple[bytes, ...] = ()
    """Names in `.well-known/mirrord/previous/` of what is served: earlier releases whose assets linger beside it."""

    @property
    def whole(self) -> bool:
        """Tell whether what `serve` points to is among the whole releases."""
        return self.current in self.releases

    @property
    def tidy(self) -> bool:
        """Tell whether nothing waits to be cleaned up; a lock may also belong to a publish that goes on just now."""
        return not (self.staging or self.trash or self.temps or self.locks or self.half)


@dataclass(frozen=True, slots=True)
class Patching:
    """How a file is made on the mirror of the one that stands at `base` in the plan's base, and of what is sent."""

    base: bytes
    size: int
    mtime: int
    """What the base must be listed with, as it was published."""
    delta: Delta


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
    """Paths whose whole content travels."""
    removed: tuple[bytes, ...]
    """Paths of the base that the target does not have."""
    bytes_to_send: int
    """Content of files that are sent, and what is sent of patched ones; without our own files."""
    patch: Mapping[bytes, Patching] = field(default_factory=dict)
    """Path -> how the mirror makes it of a file that it has, and of a part that travels."""


def make_plan(
    mirror: str,
    target: SnapshotId,
    wanted: Manifest,
    instead_of: SnapshotId | None,
    base: SnapshotId | None = None,
    held: Manifest | None = None,
    suspects: Collection[bytes] = (),
    *,
    links: bool = True,
    stays: bool = False,
    compare: Compare | None = None,
) -> Plan:
    """Plan `wanted` on a mirror that holds the release `base` with the files `held` (None: nothing known).

    A file is linked where the base has the same digest, size and published mtime, at its own path or
    another (a rename or move inside the site costs no content). Nothing is linked from `suspects`: paths
    of the base whose bytes somebody saw to be wrong. `links` is False where the mirror makes no hard links;
    with `stays` an unchanged file is not linked but left where it stands.
    Where it copies between files, `compare` is given: a file that changed is patched if that spares enough, and
    what cannot be linked, or stands in the base with another mtime, is copied.
    """
    link: dict[bytes, bytes] = {}
    patch: dict[bytes, Patching] = {}
    send: list[bytes] = []
    held_entries = held.entries if held is not None and base is not None else {}
    have = {path: entry for path, entry in held_entries.items() if path not in suspects}
    by_entry = {entry: path for path, entry in reversed(list(have.items()))}
    by_digest = {entry.digest: path for entry, path in reversed(list(by_entry.items()))} if compare is not None else {}
    for path, entry in wanted.entries.items():
        same = path if have.get(path) == entry else by_entry.get(entry)
        there = same if same is not None else by_digest.get(entry.digest)
        if same is not None and (links or (stays and same == path)):
            link[path] = same
        elif there is not None and compare is not None and entry.size >= LEAST_COPIED:
            patch[path] = Patching(there, entry.size, have[there].mtime, Delta.of_same(entry.size))
        elif compare is not None and path in have and (delta := compare(have[path], entry)) is not None:
            patch[path] = Patching(path, have[path].size, have[path].mtime, delta)
        else:
            send.append(path)
    return Plan(
        mirror=mirror,
        target=target,
        instead_of=instead_of,
        base=base if held is not None else None,
        link=link,
        send=tuple(send),
        removed=tuple(path for path in held_entries if path not in wanted.entries),
        bytes_to_send=sum(wanted.entries[path].size for path in send)
        + sum(patching.delta.sent for patching in patch.values()),
        patch=patch,
    )


def foreign_manifest(digests: Mapping[bytes, bytes], total: int, wanted: Manifest) -> Manifest:
    """Make a manifest of a release that another controller published, from what its signatures vouch for.

    `sha256sum` text tells neither size nor mtime. Where `wanted` has the same bytes, both are taken from there:
    a file that the mirror lists with them can be linked. Other files share what is left of `total`, the bytes
    that the card names, so that the brake sees how much there was.
    """
    known = {entry.digest: entry for entry in wanted.entries.values()}
    known.setdefault(_NOTHING, Entry(_NOTHING, 0, 0))
    strange = [path for path, digest in digests.items() if digest not in known]
    left = max(0, total - sum(known[digest].size for digest in digests.values() if digest in known))
    share, rest = divmod(left, len(strange)) if strange else (0, 0)
    entries = {path: known.get(digest) or Entry(digest, max(1, share), 0) for path, digest in digests.items()}
    if rest:
        entries[strange[0]] = Entry(digests[strange[0]], share + rest, 0)
    return Manifest.of(entries)


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
        return f"the site would shrink from {weigh(before.size)} to {weigh(after.size)}, by more than half"
    return None
