"""Which files does a snapshot have, and which of them can be asked of any web server?

A manifest of a hundred thousand files is not sorted out anew at every look: what was read once is kept, the
latest few of them, for all threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mirrord.errors import MirrordError
from mirrord.manifest import Manifest, SnapshotId, is_plain

LARGEST_SAMPLE = 1_000_000
"""Bytes; larger files are not sampled."""
INDEX = b"index.html"

Known = Callable[[SnapshotId], Manifest | None]
"""Looks a manifest up where we keep our own snapshots."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One snapshot's files, as a probe needs them."""

    manifest_sha256: str
    digests: Mapping[bytes, bytes]
    """Path -> raw SHA-256."""
    sizes: Mapping[bytes, int] | None
    """Path -> bytes; None where only the signed text is known, which has no sizes."""
    plain: tuple[bytes, ...]
    """The paths that a web server serves plainly, and that are small as far as is known."""

    @classmethod
    def of(cls, manifest: Manifest) -> Listing:
        """Make a listing from a manifest of our own."""
        digests = {path: entry.digest for path, entry in manifest.entries.items()}
        sizes = {path: entry.size for path, entry in manifest.entries.items()}
        plain = tuple(path for path in digests if is_plain(path) and sizes[path] <= LARGEST_SAMPLE)
        return cls(manifest.sha256, digests, sizes, plain)

    @classmethod
    def read(cls, manifest_sha256: str, digests: Mapping[bytes, bytes]) -> Listing:
        """Make a listing from what a verified SHA256SUMS says."""
        return cls(manifest_sha256, digests, None, tuple(filter(is_plain, digests)))

    def size(self, path: bytes) -> int | None:
        """Return a file's size in bytes, where it is known."""
        return None if self.sizes is None else self.sizes.get(path)


class Listings:
    """The listings used last, at most `keep` of them; for all threads."""

    def __init__(self, keep: int = 6) -> None:
        """Start empty."""
        self._keep = keep
        self._lock = threading.Lock()
        self._kept: OrderedDict[SnapshotId, Listing] = OrderedDict()

    def get(self, snapshot: SnapshotId) -> Listing | None:
        """Return what was kept."""
        with self._lock:
            listing = self._kept.get(snapshot)
            if listing is not None:
                self._kept.move_to_end(snapshot)
            return listing

    def keep(self, snapshot: SnapshotId, listing: Listing) -> None:
        """Keep one, and drop those that were not used for longest."""
        with self._lock:
            self._kept[snapshot] = listing
            self._kept.move_to_end(snapshot)
            while len(self._kept) > self._keep:
                self._kept.popitem(last=False)

    def own(self, snapshot: SnapshotId, known: Known) -> Listing | None:
        """Return a kept one, or ours, or None where we never had it or cannot read it now."""
        listing = self.get(snapshot)
        if listing is None:
            try:
                manifest = known(snapshot)
            except MirrordError:
                return None  # a damaged store is no reason to stop looking: the mirror's own manifest is signed too
            if manifest is None:
                return None
            listing = Listing.of(manifest)
            self.keep(snapshot, listing)
        return listing
