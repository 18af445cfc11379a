"""A publisher in miniature: snapshots from dictionaries, and mirrors to publish them to.

The snapshots follow the rules of the real store: ids and serials grow, unchanged bytes keep their published mtime,
new bytes never carry an old one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any, BinaryIO

from mirrord.errors import Damaged
from mirrord.hosts import Holder
from mirrord.hosts.files import Files, Kind
from mirrord.hosts.host import FilesHost
from mirrord.hosts.lock import Record
from mirrord.hosts.memory import Disk
from mirrord.manifest import Entry, Manifest, Signed, Snapshot, SnapshotId, snapshot_id
from mirrord.plan import Guard
from mirrord.publish import Published, Task, publish
from mirrord.trust.keys import Signers, SigningKey, new_signing_key
from mirrord.trust.snapshots import sign_card, sign_snapshot

IDENTITY = "www.example.org"
SITE = "example"
BEGAN = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
OWN = b".well-known/mirrord/"
NO_GUARD = Guard(removed_percent=100.0, removed_files=10**9)

KEPT = (b"left.", b"serves.", b"undo.")
"""Beginning of the names in `.mirrord/` that stand there at rest."""

Site = Mapping[bytes, bytes]


class Blobs:
    """The content of every snapshot so far, by digest; what is dropped is missing."""

    def __init__(self) -> None:
        self.by_digest: dict[bytes, bytes] = {}

    def add(self, data: bytes) -> bytes:
        """Keep some bytes; return their digest."""
        digest = hashlib.sha256(data).digest()
        self.by_digest[digest] = data
        return digest

    def open(self, digest: bytes) -> BinaryIO:
        """As `hosts.Content` does."""
        try:
            return BytesIO(self.by_digest[digest])
        except KeyError:
            raise Damaged("the store has lost it") from None


@dataclass
class Publisher:
    """One controller with its store, key and clock."""

    key: SigningKey = field(default_factory=new_signing_key)
    content: Blobs = field(default_factory=Blobs)
    taken: dict[SnapshotId, Signed] = field(default_factory=dict)
    serial: int = 0
    clock: datetime = BEGAN
    name: str = "home"
    pid: int = 100

    def take(self, site: Site, *, serial: int | None = None) -> Signed:
        """Take a snapshot a minute after the last one."""
        self.clock += timedelta(minutes=1)
        self.serial = serial if serial is not None else self.serial + 1
        manifest = self._manifest(site)
        name = snapshot_id(self.clock, manifest.sha256)
        snapshot = Snapshot(
            site=SITE,
            serial=self.serial,
            id=name,
            created=self.clock,
            next_expected=self.clock + timedelta(days=2),
            previous=max(self.taken, default=None),
            manifest_sha256=manifest.sha256,
            files=len(manifest.entries),
            size=manifest.size,
        )
        signed = sign_snapshot(snapshot, manifest, self.key, int(self.clock.timestamp()))
        self.taken[name] = signed
        return signed

    def _manifest(self, site: Site) -> Manifest:
        last = self.taken[max(self.taken)].manifest.entries if self.taken else {}
        now = int(self.clock.timestamp())
        entries = {}
        for path, data in site.items():
            digest = self.content.add(data)
            old = last.get(path)
            mtime = old.mtime if old is not None and old.digest == digest else now - 3600
            if old is not None and old.digest != digest:
                mtime = max(mtime, old.mtime + 1)
            entries[path] = Entry(digest, len(data), mtime)
        return Manifest.of(entries)

    def sign_again(self, signed: Signed) -> Signed:
        """Sign the card of a snapshot an hour later, as happens daily."""
        self.clock += timedelta(hours=1)
        snapshot = signed.snapshot.expecting(self.clock + timedelta(days=2))
        card, sig = sign_card(snapshot, self.key)
        again = replace(signed, snapshot=snapshot, card=card, card_sig=sig, signed_at=int(self.clock.timestamp()))
        self.taken[snapshot.id] = again
        return again

    def known(self, release: SnapshotId) -> Manifest | None:
        """The manifests of our own snapshots."""
        return self.taken[release].manifest if release in self.taken else None

    @property
    def signers(self) -> Signers:
        """Who is believed."""
        return Signers.of([self.key.public])

    def me(self) -> Holder:
        """This controller's process; each call is another process on the same machine."""
        self.pid += 1
        return Holder(self.name, "here", "boot-1", self.pid, "1", self.clock.timestamp())

    def task(self, signed: Signed, **terms: Any) -> Task:
        """Publish this to the mirror lyon."""
        usual: dict[str, Any] = {"keep": 5, "guard": NO_GUARD}
        return Task(
            self.me(),
            "lyon",
            signed,
            self.content,
            self.known,
            self.signers,
            IDENTITY,
            **{**usual, **terms},
        )

    def publish(
        self,
        files: Files,
        signed: Signed,
        *,
        alive: bool | None = False,
        clock: Clock | None = None,
        serve: str = "current",
        layout: str = "auto",
        **terms: Any,
    ) -> Published:
        """Publish once on an open connection; raises what `publish` raises. `alive`: what other holders seem to be."""
        return publish(host_on(files, alive=alive, clock=clock, serve=serve, layout=layout), self.task(signed, **terms))


class Clock:
    """Seconds that pass when somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[Callable[[], object]] = []

    def __call__(self) -> float:
        """Tell the time."""
        return self.now

    def wait(self, seconds: float) -> None:
        """Let time pass; then do what was to happen meanwhile."""
        self.now += seconds
        for happen in self.waits:
            happen()


def host_on(
    files: Files,
    *,
    alive: bool | None = False,
    clock: Clock | None = None,
    serve: str = "current",
    layout: str = "auto",
) -> FilesHost:
    """Make a host on a connection; nobody sleeps in it."""
    clock = clock or Clock()

    def judge(record: Record, me: Holder) -> bool | None:
        return alive

    return FilesHost(files, "lyon", serve, layout=layout, clock=clock, wait=clock.wait, alive=judge)


def served(disk: Disk, serve: bytes = b"current") -> dict[bytes, bytes]:
    """What a reader gets who resolves `serve` once: path -> bytes; empty where nothing is served."""
    return {path: bytes(node.data) for path, node in disk.tree(serve).items() if node.kind is Kind.FILE}


def whole(disk: Disk, signed: Signed, content: Blobs, serve: bytes = b"current") -> bool:
    """Whether exactly this snapshot is served, with our own files."""
    return served(disk, serve) == release_of(signed, content)


def release_of(signed: Signed, content: Blobs) -> dict[bytes, bytes]:
    """Every file of a release: path -> bytes."""
    files = {path: content.by_digest[entry.digest] for path, entry in signed.manifest.entries.items()}
    own = {**signed.fixed_files(), **signed.changing_files()}
    return {**files, **{OWN + name: data for name, data in own.items()}}


def litter(disk: Disk) -> list[bytes]:
    """What a publish should not leave behind: anything in staging or trash, temporary names, locks."""
    own = [path for path in disk.tree(b".mirrord") if not path.startswith(KEPT) and path != b"trash"]
    return sorted([b"staging/" + path for path in disk.tree(b"staging")] + [b".mirrord/" + path for path in own])


def releases(disk: Disk) -> list[bytes]:
    """The names of whole releases."""
    folder = disk.find(b"releases")
    return sorted(folder.names) if folder is not None else []


def half_releases(disk: Disk, publisher: Publisher) -> list[bytes]:
    """Releases that are not whole: there must never be one, served or not."""
    wrong = []
    for name in releases(disk):
        signed = publisher.taken[SnapshotId(name.decode())]
        if not _same_but_for_the_card(served(disk, b"releases/" + name), release_of(signed, publisher.content)):
            wrong.append(name)
    return wrong


def _same_but_for_the_card(found: dict[bytes, bytes], wanted: dict[bytes, bytes]) -> bool:
    card = {OWN + b"snapshot.json", OWN + b"snapshot.json.sig"}
    return found.keys() == wanted.keys() and all(found[path] == wanted[path] for path in wanted if path not in card)
