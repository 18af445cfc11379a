"""Which snapshots do we have, and how does the next one come about?

    store.lock   held by whoever takes, rolls back, sweeps or scrubs
    snapshots/   a folder for each snapshot (`mirrord.snapshot.shelf`)
    objects/     every content once (`mirrord.snapshot.objects`)
    seen         what the last walk over the source found (`mirrord.snapshot.seen`)
    incoming/    what is being taken        trash/   what is being dropped

First every content is on the disk, then the snapshot's folder, then one rename makes it a snapshot. Killed before
that, it never was; the next verb that holds the lock clears up. A publish holds a shared lock on its snapshot, and
the sweep passes over what it cannot lock.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mirrord.errors import BadUsage, Braked, Cancelled, Damaged, Full, MirrordError
from mirrord.manifest import Difference, Manifest, Signed, Snapshot, SnapshotId, difference, quote, weigh
from mirrord.plan import Guard, brake
from mirrord.snapshot import Progress, disk
from mirrord.snapshot.numbering import Found, Gone, gone_after, next_snapshot, publish_times
from mirrord.snapshot.objects import Hashing, Intake, Objects, hash_file, no_count
from mirrord.snapshot.packed import check as check_packed
from mirrord.snapshot.restoring import restore
from mirrord.snapshot.seen import Seen
from mirrord.snapshot.shelf import Card, Shelf
from mirrord.snapshot.source import Source
from mirrord.snapshot.taking import Reading, Taking
from mirrord.trust.keys import SigningKey
from mirrord.trust.snapshots import sign_card, sign_snapshot

NOTHING_CHANGED = Difference((), (), (), ())

_BLOCK = 4096
_ROOM_FOR_RECORDS = 1 << 20
"""Bytes that are asked for beside the contents."""
_SHORTEST_BEGINNING = 8
"""Letters of an id that name it, its day at least: a mistyped serial must not be taken for the century."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What taking a snapshot came to: the newest snapshot, which is a new one where `changed`."""

    snapshot: Snapshot
    changed: bool
    warnings: tuple[str, ...] = ()
    """What a person should know, a sentence each: what was left out of the snapshot, and why."""
    difference: Difference = NOTHING_CHANGED
    """What changed from the newest snapshot before."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a snapshot would hold if it were taken now, and what that would change."""

    manifest: Manifest
    difference: Difference
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What reading all contents found: how many there are, and by snapshot the paths whose bytes are lost."""

    objects: int
    damaged: Mapping[SnapshotId, tuple[bytes, ...]]


def _tell_nobody(_: Progress) -> None:
    """Say nothing."""


class Store:
    """The snapshots of one site in one folder; any number of threads and processes."""

    def __init__(self, directory: Path, site: str) -> None:
        """Stand on `directory`, which need not be there yet; `site` is the site's name."""
        self.directory = directory
        self.site = site
        self._shelf = Shelf(directory / "snapshots", site)
        self._objects = Objects(directory / "objects", site)
        self._seen = directory / "seen"
        self._incoming = directory / "incoming"
        self._trash = directory / "trash"

    # -- what is there

    def newest(self) -> SnapshotId | None:
        """Return the newest snapshot's id; None where none was taken yet."""
        ids = self._shelf.ids()
        return ids[-1] if ids else None

    def snapshots(self) -> list[Snapshot]:
        """Return all snapshots' cards, oldest first. Raises Damaged."""
        found: list[Snapshot] = []
        for snapshot in self._shelf.ids():
            with contextlib.suppress(BadUsage):  # swept meanwhile
                found.append(self._shelf.card(snapshot).snapshot)
        return found

    def named(self, text: str) -> SnapshotId:
        """Find a snapshot by its id, the beginning of it, or its serial, whatever became of others. Raises BadUsage."""
        ids = self._shelf.ids()
        found = [one for one in ids if text == one or text == self._serial(one)]
        found = found or [one for one in ids if len(text) >= _SHORTEST_BEGINNING and one.startswith(text)]
        if len(found) != 1:
            why = f"{len(found)} snapshots begin so" if found else "there is no such snapshot"
            raise BadUsage(f"{text}: {why}; `mirrord snapshots` lists them")
        return found[0]

    def _serial(self, snapshot: SnapshotId) -> str | None:
        """Return a serial in figures; None where the card is damaged, or was swept meanwhile."""
        try:
            return str(self._shelf.card(snapshot).snapshot.serial)
        except (BadUsage, Damaged):
            return None

    def card(self, snapshot: SnapshotId) -> Snapshot:
        """Return a snapshot's card alone. Raises BadUsage where it is not in the store, Damaged."""
        return self._shelf.card(snapshot).snapshot

    def signed_at(self, snapshot: SnapshotId) -> int:
        """Return when a card was signed last, Unix seconds. Raises BadUsage where it is not in the store, Damaged."""
        return self._shelf.card(snapshot).signed_at

    def load(self, snapshot: SnapshotId) -> Signed:
        """Return a snapshot with its manifest and signatures. Raises BadUsage where it is not in the store, Damaged."""
        return self._shelf.load(snapshot)

    def earlier(self, snapshot: SnapshotId) -> Signed | None:
        """Return a snapshot as `load` does; None where it is not in the store, or not whole any more."""
        try:
            return self._shelf.load(snapshot)
        except (BadUsage, Damaged):
            return None

    def manifest(self, snapshot: SnapshotId) -> Manifest | None:
        """Return a snapshot's manifest; None where it is not in the store. Raises Damaged."""
        try:
            return self._shelf.manifest(self._shelf.card(snapshot).snapshot)
        except BadUsage:
            return None

    def content(self) -> Objects:
        """Return where the bytes come from (`mirrord.hosts.Content`)."""
        return self._objects

    def reading(self, snapshot: SnapshotId) -> contextlib.AbstractContextManager[None]:
        """Keep a snapshot from being swept meanwhile. Entering raises BadUsage where it is not in the store."""
        return self._shelf.reading(snapshot)

    # -- the next one

    def take(
        self,
        source: Source,
        key: SigningKey,
        guard: Guard,
        *,
        now_wall: float,
        next_expected_in: float,
        allow_deletions: bool = False,
        highest_seen: int = 0,
        newest_seen: SnapshotId | None = None,
        seen: Callable[[Progress], None] = _tell_nobody,
        stop: threading.Event | None = None,
    ) -> Taken:
        """Take a snapshot if the source changed since the newest one, or a mirror was seen above it.

        `now_wall` in Unix seconds, `next_expected_in` in seconds; `highest_seen` and `newest_seen` are the highest
        serial and the latest id that validly signed cards on mirrors had. `allow_deletions` lifts the two brakes on
        removal, no other. `seen` is told how far the reading is.

        Raises Braked (`no-source`, `empty-source`, `must-exist`, `unreadable`, `link`, `path`, `own-folder`,
        `own-state`, `deletions`), PutOff (the source does not stand still, or a packed copy is not of its
        page), Full, Locked, Damaged, Refused (our own folder), and Cancelled; after the rename that makes it a
        snapshot, nothing any more.
        """
        stop = stop or threading.Event()
        with self._alone("taking a snapshot") as warnings:
            before, remembered = self._before(), self._load_seen()
            taking = self._look(source, remembered, stop, seen)
            ahead = highest_seen > before.serial
            if before.card and not ahead and remembered.snapshot == before.card.id and taking.unchanged():
                return Taken(before.card, changed=False, warnings=(*taking.sight.warnings, *warnings))
            old = before.manifest()
            if old.entries and not allow_deletions:
                self._check_removal(source, old, _outline(taking, old), guard, allow_deletions=False)
            intake = self._intake(taking, old, stop)
            try:
                reading = taking.read(intake, self._trust(old))
                manifest = publish_times(reading.found(), old.entries, before.gone(), now_wall)
                self._check_removal(source, old, manifest, guard, allow_deletions=allow_deletions)
                self._check_siblings(source, reading, old, manifest, stop)
                intake.settle()
                warnings = (*reading.sight.warnings, *warnings)
                change = difference(old, manifest)
                if before.card and not ahead and not change:
                    taken = Taken(before.card, changed=False, warnings=warnings)
                else:
                    numbers = _Numbers(now_wall, next_expected_in, highest_seen, newest_seen)
                    card = self._commit(before, manifest, key, numbers, None, stop)
                    taken = Taken(card, changed=True, warnings=warnings, difference=change)
                self._save_seen(reading.seen(taken.snapshot.id), remembered)
            finally:
                intake.close()
        return taken

    def scan(
        self,
        source: Source,
        guard: Guard,
        *,
        now_wall: float,
        allow_deletions: bool = False,
        seen: Callable[[Progress], None] = _tell_nobody,
        stop: threading.Event | None = None,
    ) -> Scanned:
        """Find out what `take` would do, and write nothing. Raises what `take` would, but Full and Locked."""
        stop = stop or threading.Event()
        before = self._before()
        taking = self._look(source, self._load_seen(), stop, seen)
        old = before.manifest()
        reading = taking.read(Hashing(stop), lambda _path, _digest, _size: True)
        manifest = publish_times(reading.found(), old.entries, before.gone(), now_wall)
        self._check_removal(source, old, manifest, guard, allow_deletions=allow_deletions)
        self._check_siblings(source, reading, old, manifest, stop)
        return Scanned(manifest, difference(old, manifest), reading.sight.warnings)

    def rollback(
        self,
        to: SnapshotId,
        key: SigningKey,
        guard: Guard,
        *,
        now_wall: float,
        next_expected_in: float,
        allow_deletions: bool = False,
        highest_seen: int = 0,
        newest_seen: SnapshotId | None = None,
        contested: bool = False,
    ) -> Taken:
        """Take a new snapshot with the content of an earlier one; none where the newest has that content already.

        But one all the same where a mirror was seen above it, or, `contested`, with another content under its serial.
        Serial, id and published mtimes go on growing. Raises BadUsage (not in the store), Braked (`deletions`), Damaged
        (`paths` names the files whose content is lost), Full, Locked, Refused.
        """
        doing = f"rolling back to {to}"
        with self._alone(doing) as warnings, self.reading(to):
            wanted, before = self.load(to).manifest, self._before()
            old = before.manifest()
            ahead = contested or highest_seen > before.serial
            if lost := self._lost(wanted):
                raise self._damaged(doing, lost)
            if before.card and before.card.manifest_sha256 == wanted.sha256 and not ahead:
                return Taken(before.card, changed=False, warnings=warnings)
            if not allow_deletions and (why := brake(old, wanted, guard)):
                raise Braked(f"{self.site}: {doing}: {why}; if that is meant, add --allow-deletions", "deletions")
            files = {path: Found(entry.digest, entry.size, entry.mtime) for path, entry in wanted.entries.items()}
            manifest = publish_times(files, old.entries, before.gone(), now_wall)
            numbers = _Numbers(now_wall, next_expected_in, highest_seen, newest_seen)
            with self._door(doing):
                self._incoming.mkdir()
            try:
                card = self._commit(before, manifest, key, numbers, to, threading.Event())
            finally:
                with self._door(doing):
                    disk.remove([self._incoming])
        return Taken(card, changed=True, warnings=warnings, difference=difference(old, manifest))

    def sign_again(self, snapshot: SnapshotId, key: SigningKey, now_wall: float, next_expected_in: float) -> Signed:
        """Sign a snapshot's card with a new date for the next one; serial, id and manifest stay.

        `signed_at` grows with each signing. Raises BadUsage where it is not in the store, Damaged, Full, Refused.
        """
        doing = f"signing {snapshot} again"
        with self.reading(snapshot), contextlib.ExitStack() as stack:
            with self._door(doing):
                stack.enter_context(disk.exclusive(self.directory / "signing.lock", self.site, doing, wait=True))
            held = self._shelf.card(snapshot)
            expected = datetime.fromtimestamp(math.floor(now_wall), UTC) + timedelta(
                seconds=math.ceil(next_expected_in)
            )
            renewed = held.snapshot.expecting(expected)
            text, sig = sign_card(renewed, key)
            signed_at = max(math.floor(now_wall), held.signed_at + 1, self._last_signing() + 1)
            self._shelf.put_card(Card(renewed, text, sig, signed_at))
            return self.load(snapshot)

    # -- keeping, dropping, getting back

    def pin(self, snapshot: SnapshotId) -> bool:
        """Keep a snapshot whatever its age; False where it was pinned. Raises BadUsage where it is not in the store."""
        return self._shelf.pin(snapshot, pinned=True)

    def unpin(self, snapshot: SnapshotId) -> bool:
        """Keep a snapshot no longer than others; False where it was not pinned. Raises as `pin` does."""
        return self._shelf.pin(snapshot, pinned=False)

    def pinned(self) -> frozenset[SnapshotId]:
        """Return the ids of the pinned snapshots."""
        return self._shelf.pinned()

    def sweep(self, keep: int, protected: frozenset[SnapshotId]) -> tuple[SnapshotId, ...]:
        """Drop all snapshots but the newest `keep` (one at least), the protected and pinned ones, and those in use.

        Contents that no snapshot has any more go with them. Returns what was dropped, oldest first. Raises Locked, and
        Damaged where a record cannot be read: nobody knows then which contents are needed, and all of them stay.
        """
        with self._alone("sweeping"):
            dropped = tuple(
                snapshot
                for snapshot in self._shelf.ids()[: -max(keep, 1)]
                if snapshot not in protected and self._shelf.take_away(snapshot, self._trash)
            )
            if dropped:
                with self._door("sweeping"):
                    self._collect()
                    disk.remove([self._trash])
        return dropped

    def restore(
        self,
        snapshot: SnapshotId,
        into: Path,
        *,
        seen: Callable[[Progress], None] = _tell_nobody,
        stop: threading.Event | None = None,
    ) -> None:
        """Lay a snapshot's files out in `into`, an empty or a new folder, whole or not at all.

        Every byte is checked. Raises BadUsage, Damaged (`paths` names the files that are lost; `into` stays as it was),
        Full, Cancelled, Refused.
        """
        doing = f"{self.site}: restoring {snapshot}"
        with self.reading(snapshot):
            manifest = self.load(snapshot).manifest
            with disk.door(self.site, f"restoring {snapshot}", into.absolute().parent):
                lost = restore(manifest, self._objects, into, doing, seen, stop or threading.Event())
        if lost:
            raise self._damaged(f"restoring {snapshot}", lost)

    def scrub(self, stop: threading.Event | None = None) -> Scrubbed:
        """Read every content and compare it with its digest.

        What is not right is moved into `damaged/`, and what was seen of the source is forgotten, so that the next take
        reads everything anew and fills up what the source still has. Raises Locked, Damaged (a record), Cancelled.
        """
        stop = stop or threading.Event()
        count = 0
        with self._alone("scrubbing"), self._door("scrubbing"):
            for name, file in list(self._objects.names()):
                count += 1
                with file.open("rb") as held:
                    digest = hash_file(held.fileno(), os.fstat(held.fileno()).st_size, stop, no_count)
                if digest != bytes.fromhex(name):
                    aside = self.directory / "damaged"
                    aside.mkdir(exist_ok=True)
                    file.rename(aside / name)
            lost = {card.id: self._lost(self._shelf.manifest(card)) for card in self.snapshots()}
            damaged = {snapshot: paths for snapshot, paths in lost.items() if paths}
            if damaged:
                self._seen.unlink(missing_ok=True)
        return Scrubbed(count, damaged)

    # -- the steps of a take

    def _before(self) -> _Before:
        newest = self._shelf.newest()
        return _Before(self._shelf, newest.snapshot if newest else None)

    def _look(
        self, source: Source, remembered: Seen, stop: threading.Event, seen: Callable[[Progress], None]
    ) -> Taking:
        """Walk the source; raises Braked where we would find ourselves in it."""
        taking = Taking(source, remembered, stop, seen)
        root, here = taking.sight.root + b"/", os.path.realpath(os.fsencode(self.directory)) + b"/"
        if here.startswith(root) and any(path.startswith(here[len(root) :]) for path in taking.sight.files):
            raise Braked(
                f"source {source.path}: mirrord's own state, {self.directory}, lies in it and would be published; move"
                " one of the two, or exclude it; nothing is published",
                "own-state",
            )
        return taking

    def _intake(self, taking: Taking, old: Manifest, stop: threading.Event) -> Intake:
        """Make ready for new contents; raises Full where there is no room for those that are certainly new."""
        sizes = {entry.size for entry in old.entries.values()}
        intake = Intake(self._objects, self._incoming, stop, sizes.__contains__)
        new = taking.certainly_new({path: entry.size for path, entry in old.entries.items()})
        needed = sum(-(-size // _BLOCK) * _BLOCK for size in new.values()) + _ROOM_FOR_RECORDS
        free = disk.free_bytes(self.directory)
        try:
            if free is None or needed <= free or (new and taking.can_share(intake, max(new, key=new.__getitem__))):
                return intake
        except MirrordError:
            intake.close()
            raise
        intake.close()
        raise Full(
            f"{self.site}: taking a snapshot: {weigh(needed)} are needed in {self.directory}, {weigh(free)} are"
            " free; make room there, or keep fewer snapshots (snapshot.keep)",
            needed,
            free,
        )

    def _trust(self, old: Manifest) -> Callable[[bytes, bytes, int], bool]:
        """Return what tells whether the content of a path with a known digest is kept."""
        entries = old.entries

        def trusted(path: bytes, digest: bytes, size: int) -> bool:
            entry = entries.get(path)
            return (entry is not None and entry.digest == digest) or self._objects.has(digest, size)

        return trusted

    def _check_removal(
        self, source: Source, old: Manifest, new: Manifest, guard: Guard, *, allow_deletions: bool
    ) -> None:
        if not allow_deletions and (why := brake(old, new, guard)):
            raise Braked(
                f"source {source.path}: {why}; nothing is published; if it is meant, `mirrord sync --allow-deletions`",
                "deletions",
            )

    def _check_siblings(
        self, source: Source, reading: Reading, old: Manifest, new: Manifest, stop: threading.Event
    ) -> None:
        if source.check_siblings:
            check_packed(source, reading.sight.root, new.entries, old.entries, stop)

    def _commit(
        self,
        before: _Before,
        manifest: Manifest,
        key: SigningKey,
        numbers: _Numbers,
        restores: SnapshotId | None,
        stop: threading.Event,
    ) -> Snapshot:
        """Number, sign and write the next snapshot; its contents are on the disk already."""
        card = next_snapshot(
            self.site,
            manifest,
            before.card,
            now=numbers.now,
            next_expected_in=numbers.next_expected_in,
            highest_seen=numbers.highest_seen,
            newest_seen=numbers.newest_seen,
            restores=restores,
        )
        signed = sign_snapshot(card, manifest, key, max(math.floor(numbers.now), self._last_signing() + 1))
        gone = gone_after(before.gone(), before.manifest().entries, manifest.entries, card.serial)
        if stop.is_set():
            raise Cancelled(f"{self.site}: taking a snapshot: stopped")
        self._shelf.put(signed, gone, self._incoming)
        return card

    def _last_signing(self) -> int:
        newest = self._shelf.newest()
        return newest.signed_at if newest else 0

    def _load_seen(self) -> Seen:
        with self._door("reading what was seen last"):
            try:
                return Seen.unpack(self._seen.read_bytes())
            except FileNotFoundError:
                return Seen()

    def _save_seen(self, seen: Seen, before: Seen) -> None:
        if seen != before:
            with self._door("writing what was seen"):
                disk.replace(self._seen, seen.pack(), sync=False)

    # -- order and sentences

    @contextlib.contextmanager
    def _alone(self, doing: str) -> Iterator[tuple[str, ...]]:
        """Hold store.lock, after clearing up behind whoever was killed holding it; gives warnings. Raises Locked."""
        with contextlib.ExitStack() as stack:
            with self._door(doing):
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                stack.enter_context(disk.exclusive(self.directory / "store.lock", self.site, doing))
                warnings = self._clear_up()
            yield warnings

    def _clear_up(self) -> tuple[str, ...]:
        """Remove what a killed take or sweep left. Raises OSError."""
        if not self._incoming.exists() and not self._trash.exists():
            return ()
        try:
            self._collect()
        except Damaged as e:
            return (f"{e}; until then contents that nobody needs stay",)
        finally:
            disk.remove([self._incoming])
        disk.remove([self._trash])
        return ()

    def _collect(self) -> None:
        """Remove contents that no snapshot has. Raises Damaged where a record cannot be read, OSError."""
        needed: set[bytes] = set()
        for snapshot in self._shelf.ids():
            needed.update(self._shelf.hex_digests(snapshot))
        for name, file in self._objects.names():
            if name.encode() not in needed:
                file.unlink()

    def _lost(self, manifest: Manifest) -> tuple[bytes, ...]:
        """Return the paths whose content is not here."""
        return tuple(
            path for path, entry in manifest.entries.items() if not self._objects.has(entry.digest, entry.size)
        )

    def _damaged(self, doing: str, paths: tuple[bytes, ...]) -> Damaged:
        names = ", ".join(quote(path) for path in paths[:3])
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        return Damaged(
            f"{self.site}: {doing}: the store has not the bytes that were recorded for {names}{more}; nothing was done;"
            f" choose another snapshot, or bring {self.directory} back from a backup",
            paths,
        )

    def _door(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return disk.door(self.site, doing, self.directory)


@dataclass(frozen=True, slots=True)
class _Numbers:
    """What the next snapshot's numbers are made of, beside the snapshot before."""

    now: float
    next_expected_in: float
    highest_seen: int
    newest_seen: SnapshotId | None


@dataclass(frozen=True, slots=True)
class _Before:
    """The newest snapshot, from which the next one goes on; its lists are read when they are wanted."""

    shelf: Shelf
    card: Snapshot | None

    @property
    def serial(self) -> int:
        """Its serial; 0 where there is none."""
        return self.card.serial if self.card else 0

    def manifest(self) -> Manifest:
        """Its manifest; empty where there is none."""
        return self.shelf.manifest(self.card) if self.card else Manifest({})

    def gone(self) -> Gone:
        """What is remembered of paths that were removed before it."""
        return self.shelf.gone(self.card.id) if self.card else {}


def _outline(taking: Taking, old: Manifest) -> Manifest:
    """Return what the walk alone tells of the next manifest: paths and sizes; digests only where they are known."""
    known = taking.known()
    files = {path: Found(known.get(path, b""), key[2], 0.0) for path, key in taking.sight.files.items()}
    return publish_times(files, old.entries, {}, 0.0)
