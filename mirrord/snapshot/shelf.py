"""How does a snapshot stand in its folder, and is it still what it was?

    SHA256SUMS, SHA256SUMS.sig   the signed manifest, as readers get it
    entries                      each file's size and published mtime, line by line with the manifest
    gone                         paths that were removed earlier, with their last published mtimes
    card.json                    the card, its signature and when it was signed: one file, replaced whole
    pinned                       there where a person wants it kept

A folder comes to the shelf by one rename and is only ever read after that, but for its card. What is read is checked
against the digests that it carries: a torn or rotten record is Damaged, never another content.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mirrord.errors import BadUsage, Damaged, Unverified
from mirrord.manifest import (
    Entry,
    Manifest,
    Signed,
    Snapshot,
    SnapshotId,
    is_snapshot_id,
    parse_manifest,
    parse_snapshot,
)
from mirrord.snapshot import disk
from mirrord.snapshot.numbering import Gone
from mirrord.trust import sshsig
from mirrord.trust.snapshots import CARD, MANIFEST

_MANIFEST, _MANIFEST_SIG = "SHA256SUMS", "SHA256SUMS.sig"
_ENTRIES, _GONE, _CARD, _PINNED = "entries", "gone", "card.json", "pinned"
_HEX_DIGESTS = re.compile(rb"^\\?([0-9a-f]{64})  ", re.MULTILINE)
_MANIFESTS_KEPT = 4
"""So many are kept in memory: the newest, and those that mirrors are led away from."""


@dataclass(frozen=True, slots=True)
class Card:
    """A card as it was signed last: its text, signature, and when, in Unix seconds."""

    snapshot: Snapshot
    text: bytes
    sig: bytes
    signed_at: int

    def pack(self) -> bytes:
        """Write it as one JSON text."""
        said = {"card": self.text.decode(), "sig": self.sig.decode(), "signed_at": self.signed_at}
        return json.dumps(said).encode() + b"\n"

    @classmethod
    def unpack(cls, text: bytes) -> Card:
        """Read what `pack` wrote; raises ValueError, KeyError, TypeError or Unverified."""
        said = json.loads(text)
        card, sig = said["card"].encode(), said["sig"].encode()
        sshsig.check_whole(card, sig, CARD)
        return cls(parse_snapshot(card), card, sig, int(said["signed_at"]))


def pack_entries(manifest: Manifest) -> bytes:
    """Write sizes and published mtimes, line by line with the manifest; the last line is a digest of those before."""
    body = b"".join(b"%d %d\n" % (entry.size, entry.mtime) for entry in manifest.entries.values())
    return body + hashlib.sha256(body).hexdigest().encode() + b"\n"


def unpack_entries(digests: Mapping[bytes, bytes], text: bytes) -> Manifest:
    """Put a manifest together again; raises ValueError where `text` is not what `pack_entries` wrote for it."""
    body, digest = text[:-65], text[-65:-1]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError("sizes and times are not what was written")
    one_of_each: dict[int, int] = {}  # most files share their time and size with others: kept once
    numbers = [one_of_each.setdefault(number, number) for number in map(int, body.split())]
    sizes, mtimes = numbers[::2], numbers[1::2]
    return Manifest(
        {
            path: Entry(digest, size, mtime)
            for (path, digest), size, mtime in zip(digests.items(), sizes, mtimes, strict=True)
        }
    )


def pack_gone(gone: Gone) -> bytes:
    """Write removed paths, each ending with a NUL."""
    return b"".join(b"%d %d %b\0" % (serial, mtime, path) for path, (serial, mtime) in gone.items())


def unpack_gone(text: bytes) -> Gone:
    """Read what `pack_gone` wrote; a torn record is passed over: it only makes an mtime less sure."""
    found: dict[bytes, tuple[int, int]] = {}
    for record in text.split(b"\0")[:-1]:
        with contextlib.suppress(ValueError):
            serial, mtime, path = record.split(b" ", 2)
            found[path] = (int(serial), int(mtime))
    return found


class Shelf:
    """All snapshots of one site; any number of threads and processes."""

    def __init__(self, folder: Path, who: str) -> None:
        """Stand on `folder`, which need not be there yet; `who` begins the sentences."""
        self.folder = folder
        self._who = who
        self._kept: OrderedDict[SnapshotId, Manifest] = OrderedDict()
        self._kept_lock = threading.Lock()

    def ids(self) -> list[SnapshotId]:
        """Return all ids, oldest first."""
        with self._door("listing snapshots"):
            try:
                names = [found.name for found in self.folder.iterdir()]
            except FileNotFoundError:
                return []
        return sorted(SnapshotId(name) for name in names if is_snapshot_id(name))

    def card(self, snapshot: SnapshotId) -> Card:
        """Return a card. Raises BadUsage where the snapshot is not here, Damaged."""
        text = self._read(snapshot, _CARD)
        try:
            card = Card.unpack(text)
        except (ValueError, KeyError, TypeError, AttributeError, Unverified) as e:
            raise self._damaged(snapshot, f"{_CARD}: {e}") from e
        if card.snapshot.id != snapshot:
            raise self._damaged(snapshot, f"{_CARD} is of {card.snapshot.id}")
        return card

    def newest(self) -> Card | None:
        """Return the newest snapshot's card; None where there is none. Raises Damaged."""
        ids = self.ids()
        return self.card(ids[-1]) if ids else None

    def load(self, snapshot: SnapshotId) -> Signed:
        """Return a snapshot whole. Raises BadUsage where it is not here, Damaged."""
        card = self.card(snapshot)
        manifest, sig = self.manifest(card.snapshot), self._read(snapshot, _MANIFEST_SIG)
        try:
            sshsig.check_whole(manifest.text, sig, MANIFEST)
        except Unverified as e:
            raise self._damaged(snapshot, f"{_MANIFEST_SIG}: {e}") from e
        return Signed(
            snapshot=card.snapshot,
            manifest=manifest,
            manifest_sig=sig,
            card=card.text,
            card_sig=card.sig,
            signed_at=card.signed_at,
        )

    def manifest(self, card: Snapshot) -> Manifest:
        """Return a snapshot's manifest. Raises BadUsage where it is not here, Damaged."""
        with self._kept_lock:
            if card.id in self._kept:
                self._kept.move_to_end(card.id)
                return self._kept[card.id]
        text = self._manifest_text(card)
        try:
            manifest = unpack_entries(parse_manifest(text), self._read(card.id, _ENTRIES))
        except (ValueError, Unverified) as e:
            raise self._damaged(card.id, str(e)) from e
        self._keep(card.id, manifest)
        return manifest

    def gone(self, snapshot: SnapshotId) -> Gone:
        """Return what is remembered of paths that were removed. Raises BadUsage where it is not here, Damaged."""
        return unpack_gone(self._read(snapshot, _GONE))

    def hex_digests(self, snapshot: SnapshotId) -> list[bytes]:
        """Return the digests of all contents of a snapshot, in hex. Raises BadUsage where it is not here, Damaged."""
        return _HEX_DIGESTS.findall(self._manifest_text(self.card(snapshot).snapshot))

    def put(self, signed: Signed, gone: Gone, incoming: Path) -> None:
        """Write a new snapshot into `incoming`, sync it, and rename it to its place: from then on it is there."""
        with self._door(f"writing {signed.snapshot.id}"):
            folder = incoming / signed.snapshot.id
            folder.mkdir()
            disk.write_new(folder / _MANIFEST, signed.manifest.text)
            disk.write_new(folder / _MANIFEST_SIG, signed.manifest_sig)
            disk.write_new(folder / _ENTRIES, pack_entries(signed.manifest))
            disk.write_new(folder / _GONE, pack_gone(gone))
            card = Card(signed.snapshot, signed.card, signed.card_sig, signed.signed_at)
            disk.write_new(folder / _CARD, card.pack())
            disk.sync_folder(folder)
            self.folder.mkdir(exist_ok=True)
            folder.rename(self.folder / signed.snapshot.id)
            disk.sync_folder(self.folder)
            disk.sync_folder(self.folder.parent)
        self._keep(signed.snapshot.id, signed.manifest)

    def put_card(self, card: Card) -> None:
        """Replace a card by one that was signed again; only while holding the lock for signing."""
        with self._door(f"signing {card.snapshot.id} again"):
            disk.replace(self.folder / card.snapshot.id / _CARD, card.pack())

    def take_away(self, snapshot: SnapshotId, trash: Path) -> bool:
        """Move a snapshot into `trash`; False where somebody holds it, or a person wants it kept."""
        folder = self.folder / snapshot
        with self._door(f"dropping {snapshot}"), disk.unshared(folder) as ours:
            ours = ours and not (folder / _PINNED).exists()  # whoever pins it holds it meanwhile
            if ours:
                trash.mkdir(exist_ok=True)
                folder.rename(trash / snapshot)
                disk.sync_folder(self.folder)
            return ours

    @contextlib.contextmanager
    def reading(self, snapshot: SnapshotId) -> Iterator[None]:
        """Keep a snapshot from being taken away meanwhile. Raises BadUsage where it is not here."""
        with contextlib.ExitStack() as stack:
            with self._door(f"holding {snapshot}"):
                stands = is_snapshot_id(snapshot) and stack.enter_context(disk.shared(self.folder / snapshot))
            if not stands:
                raise self._unknown(snapshot)
            yield

    def pin(self, snapshot: SnapshotId, *, pinned: bool) -> bool:
        """Mark a snapshot as wanted whatever its age, or not; tell whether that is news.

        Raises BadUsage where it is not here.
        """
        mark = self.folder / snapshot / _PINNED
        with self.reading(snapshot), self._door(f"pinning {snapshot}"):
            if mark.exists() is pinned:
                return False
            if pinned:
                mark.touch()
            else:
                mark.unlink(missing_ok=True)
            disk.sync_folder(mark.parent)
            return True

    def pinned(self) -> frozenset[SnapshotId]:
        """Return the ids of those that are pinned."""
        return frozenset(snapshot for snapshot in self.ids() if (self.folder / snapshot / _PINNED).exists())

    def _keep(self, snapshot: SnapshotId, manifest: Manifest) -> None:
        with self._kept_lock:
            self._kept[snapshot] = manifest
            while len(self._kept) > _MANIFESTS_KEPT:
                self._kept.popitem(last=False)

    def _manifest_text(self, card: Snapshot) -> bytes:
        text = self._read(card.id, _MANIFEST)
        if hashlib.sha256(text).hexdigest() != card.manifest_sha256:
            raise self._damaged(card.id, f"{_MANIFEST} is not what was signed")
        return text

    def _read(self, snapshot: SnapshotId, name: str) -> bytes:
        if not is_snapshot_id(snapshot):
            raise self._unknown(snapshot)
        with self._door(f"reading {snapshot}"):
            try:
                return (self.folder / snapshot / name).read_bytes()
            except FileNotFoundError:
                if (self.folder / snapshot).is_dir():
                    raise self._damaged(snapshot, f"{name} is missing") from None
                raise self._unknown(snapshot) from None

    def _damaged(self, snapshot: SnapshotId, what: str) -> Damaged:
        return Damaged(
            f"{self._who}: reading {snapshot}: the record in {self.folder / snapshot} is damaged ({what}); bring that"
            " folder back from a backup, or remove it"
        )

    def _unknown(self, snapshot: str) -> BadUsage:
        return BadUsage(f"{self._who}: snapshot {snapshot}: is not in the store; `mirrord snapshots` lists what is")

    def _door(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return disk.door(self._who, doing, self.folder.parent)
