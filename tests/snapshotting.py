"""A store and a source to take snapshots of, for the tests of `mirrord.snapshot`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirrord.manifest import Manifest, SnapshotId
from mirrord.plan import Guard
from mirrord.snapshot import Progress
from mirrord.snapshot.source import Source
from mirrord.snapshot.store import Store, Taken
from mirrord.snapshot.taking import FRESH
from mirrord.trust.keys import SigningKey, new_signing_key
from tests.lab.waiting import until

NOW = 1_795_298_400.0
"""2026-11-21 22:00:00 UTC."""
DAY = 86400.0


def write(folder: Path, files: Mapping[str, bytes] | Mapping[bytes, bytes]) -> None:
    """Write files by their paths below a folder."""
    for path, data in files.items():
        where = folder / os.fsdecode(path)
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(data)


def rest() -> None:
    """Let so much time pass that what was written before is not fresh any more."""
    began = time.time()
    until(lambda: time.time() > began + FRESH + 0.1)


def tree(folder: Path) -> dict[bytes, bytes]:
    """Return every file below a folder: path -> bytes."""
    files = (found for found in folder.rglob("*") if found.is_file())
    return {os.fsencode(found.relative_to(folder)): found.read_bytes() for found in files}


@dataclass
class Ground:
    """One source, one store, one key, and a clock that is a variable."""

    folder: Path
    source: Source
    store: Store
    key: SigningKey
    guard: Guard = field(default_factory=Guard)
    now: float = NOW
    reads: int = 0
    """How many files the last take read."""

    @classmethod
    def at(cls, folder: Path) -> Ground:
        """Make one below a folder."""
        (folder / "source").mkdir()
        return cls.on(folder, new_signing_key())

    @classmethod
    def on(cls, folder: Path, key: SigningKey) -> Ground:
        """Stand on one that was made earlier."""
        return cls(folder, Source(folder / "source"), Store(folder / "store", "example"), key)

    @property
    def site(self) -> Path:
        """The source's folder."""
        return self.source.path

    def write(self, files: Mapping[str, bytes] | Mapping[bytes, bytes]) -> None:
        """Write files into the source."""
        write(self.site, files)

    def exclude(self, *patterns: str) -> None:
        """Leave these out of the source."""
        self.source = replace(self.source, exclude=patterns)

    def must_exist(self, *paths: str) -> None:
        """Say what the source must have."""
        self.source = replace(self.source, must_exist=paths)

    def take(
        self,
        *,
        allow_deletions: bool = False,
        highest_seen: int = 0,
        newest_seen: SnapshotId | None = None,
        seen: Callable[[Progress], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Taken:
        """Take a snapshot a minute after the last."""
        self.now += 60
        self.reads = 0

        def count(progress: Progress) -> None:
            if progress.files_done == progress.files_total:
                self.reads += progress.files_total
            if seen is not None:
                seen(progress)

        return self.store.take(
            self.source,
            self.key,
            self.guard,
            now_wall=self.now,
            next_expected_in=2 * DAY,
            allow_deletions=allow_deletions,
            highest_seen=highest_seen,
            newest_seen=newest_seen,
            seen=count,
            stop=stop,
        )

    def manifest(self, taken: Taken) -> Manifest:
        """Return what a snapshot holds."""
        manifest = self.store.manifest(taken.snapshot.id)
        assert manifest is not None
        return manifest

    def content(self, taken: Taken) -> dict[bytes, bytes]:
        """Return what a snapshot holds: path -> bytes, as the store has them."""
        return self.content_of(taken.snapshot.id)

    def content_of(self, snapshot: SnapshotId) -> dict[bytes, bytes]:
        """Return the same by its id."""
        found: dict[bytes, bytes] = {}
        for path, entry in self.store.load(snapshot).manifest.entries.items():
            with self.store.content().open(entry.digest) as file:
                found[path] = file.read()
        return found

    def needed(self) -> set[str]:
        """Return the digests in hex of all contents that some snapshot has."""
        manifests = [self.store.load(card.id).manifest for card in self.store.snapshots()]
        return {entry.digest.hex() for manifest in manifests for entry in manifest.entries.values()}

    def kept(self) -> set[str]:
        """Return the digests in hex of all contents that are kept."""
        return {name for name, _ in self.store.content().names()}

    def objects(self) -> list[Path]:
        """Return the files of all contents."""
        return [file for _, file in self.store.content().names()]

    def litter(self) -> list[str]:
        """Return what stands in the store beside snapshots, contents and locks."""
        known = {"snapshots", "objects", "seen", "store.lock", "signing.lock"}
        if not self.store.directory.exists():
            return []
        return sorted(found.name for found in self.store.directory.iterdir() if found.name not in known)
