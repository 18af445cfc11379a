"""Is what a mirror serves what its signature promises?

The card says which snapshot the mirror serves; the manifest that belongs to it says what every file must be.
The home page, the suspects and some files drawn by lot are asked for as a reader would ask. A mirror may be
switched to another release while we look: the card is read before and after, and only what was seen between two
equal cards is held against a file.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mirrord.errors import Unverified
from mirrord.health import Fault, FaultKind
from mirrord.manifest import CARD_NAME, LONGEST_PATH, MANIFEST_NAME, OWN_FOLDER, SIGNATURE_SUFFIX, Snapshot
from mirrord.probe.door import Door, Failed, Page, refuse_unless_served, refused_us
from mirrord.probe.listings import INDEX, LARGEST_SAMPLE, Listing
from mirrord.trust import snapshots

if TYPE_CHECKING:
    from mirrord.probe.looking import Look

LARGEST_CARD = 65_536
LARGEST_MANIFEST = 1 << 26
_LONGEST_LINE = 2 * LONGEST_PATH + 100
LARGEST_FILE = 16_000_000
"""Bytes; of files whose size we do not know, and that have to be asked for whatever it is."""

ENOUGH = 16
"""So many wrong files convict a mirror; the rest need not be asked for."""

_CROSSINGS = 10
"""How often card and signature may be read from two releases before we take it that they do not belong together."""


@dataclass(slots=True)
class Findings:
    """What one look found out about a mirror's content; filled as the look goes on."""

    snapshot: Snapshot | None = None
    redirect: Fault | None = None
    """The first file that led elsewhere."""
    right: set[bytes] = field(default_factory=set)
    wrong: dict[bytes, str] = field(default_factory=dict)
    settling: set[bytes] = field(default_factory=set)
    dropped: set[bytes] = field(default_factory=set)

    def begin(self, snapshot: Snapshot) -> None:
        """Start from the beginning, with another release."""
        self.snapshot = snapshot
        self.redirect = None
        for seen in (self.right, self.wrong, self.settling, self.dropped):
            seen.clear()

    def unconfirmed(self) -> None:
        """Take back what is held against files: the mirror may have been switched before they were read."""
        self.redirect = None
        self.wrong.clear()

    def moving(self) -> None:
        """Count it as settling: the mirror was switched, forward, in between."""
        self.settling |= self.wrong.keys()
        self.unconfirmed()


@dataclass(frozen=True, slots=True)
class _Card:
    text: bytes
    snapshot: Snapshot


def examine(door: Door, look: Look, dice: random.Random, found: Findings) -> None:
    """Fill `found`. Raises Failed where the look could not be finished; nothing is held against a file then."""
    card = read_card(door, look)
    for last in (False, True):
        found.begin(card.snapshot)
        mixed: Unverified | None = None
        try:
            try:
                _ask_for_files(door, look, dice, found)
            except Unverified as e:
                mixed = e
            unchanged = _own_file(door, CARD_NAME, LARGEST_CARD) == card.text
            now = card if unchanged else read_card(door, look)
        except Failed:
            found.unconfirmed()
            raise
        if now.snapshot.id == card.snapshot.id:  # nothing changed, or the same release was signed anew
            if mixed:
                raise Failed(Fault(FaultKind.CONTENT, f"its SHA256SUMS is not what its card promises: {mixed}"))
            return
        if last and now.snapshot.serial > card.snapshot.serial:
            found.moving()  # published twice while we looked: which file is of which release, who knows
        card = now


def read_card(door: Door, look: Look) -> _Card:
    """Read the card and its signature, both of one release. Raises Failed."""
    before = fault = None
    for _ in range(_CROSSINGS):
        text = _own_file(door, CARD_NAME, LARGEST_CARD)
        signature = _own_file(door, CARD_NAME + SIGNATURE_SUFFIX, LARGEST_CARD)
        try:
            return _Card(text, snapshots.check_signed(text, signature, look.signers, look.identity, look.site))
        except Unverified as e:
            fault = Fault(FaultKind.CONTENT, f"is not signed as it should be: {e}")
        if before == (text, signature):
            break
        before = (text, signature)
    assert fault is not None
    raise Failed(fault)


def _own_file(door: Door, name: bytes, limit: int) -> bytes:
    """Read a file from `.well-known/mirrord/`. Raises Failed."""
    where = f"/{OWN_FOLDER.decode()}/{name.decode()}"
    page = door.ask(where, limit)
    if page.status in (404, 410):
        raise Failed(Fault(FaultKind.CONTENT, f"serves nothing that is signed: {where} is missing ({page.status})"))
    if page.status in (401, 403):
        text = f"answers {page.status} for {where}; let its web server serve /.well-known/"
        raise Failed(Fault(FaultKind.STATUS, text))
    refuse_unless_served(page, where)
    if page.broken:
        raise Failed(Fault(FaultKind.UNREACHABLE, f"{where} {page.broken}"))
    body = page.plain(limit)
    if page.longer or body is None:
        why = f"has more than {limit} bytes" if page.longer else "is packed in a way that nobody asked for"
        raise Failed(Fault(FaultKind.CONTENT, f"serves nothing that is signed: {where} {why}"))
    return body


def _ask_for_files(door: Door, look: Look, dice: random.Random, found: Findings) -> None:
    """Ask for the home page, the suspects and some files by lot. Raises Failed, Unverified."""
    assert found.snapshot is not None
    listing = listing_of(door, look, found.snapshot)
    others = [other for snapshot in look.allowed if (other := look.listings.own(snapshot, look.known))]
    found.dropped |= look.suspects - listing.digests.keys()
    suspects = sorted(look.suspects & listing.digests.keys() - {INDEX})
    dice.shuffle(suspects)
    musts = [path for path in (INDEX, *suspects) if path in listing.digests]
    for path in musts:
        ask_for(door, path, listing, others, found, by_lot=False)
        if len(found.wrong) >= ENOUGH:
            return
    judged = 0
    for path in dice.sample(listing.plain, min(len(listing.plain), len(musts) + 4 * look.sample)):
        if judged >= look.sample or len(found.wrong) >= ENOUGH:
            return
        if path not in musts:
            judged += ask_for(door, path, listing, others, found, by_lot=True)


def listing_of(door: Door, look: Look, snapshot: Snapshot) -> Listing:
    """Return the files of the snapshot that the mirror says it serves: from our own store, else from the mirror.

    Raises Failed, Unverified.
    """
    listing = look.listings.own(snapshot.id, look.known)
    if listing is None or listing.manifest_sha256 != snapshot.manifest_sha256:
        limit = min(LARGEST_MANIFEST, snapshot.files * _LONGEST_LINE)
        text = _own_file(door, MANIFEST_NAME, limit)
        signature = _own_file(door, MANIFEST_NAME + SIGNATURE_SUFFIX, LARGEST_CARD)
        digests = snapshots.check_manifest(text, signature, snapshot, look.signers, look.identity)
        listing = Listing.read(snapshot.manifest_sha256, digests)
        look.listings.keep(snapshot.id, listing)
    return listing


def folder_of(path: bytes) -> bytes:
    """Return what readers ask for who want a file: of a folder's page, the folder."""
    return path[: -len(INDEX)] if path == INDEX or path.endswith(b"/" + INDEX) else path


def ask_for(
    door: Door, path: bytes, listing: Listing, others: Sequence[Listing], found: Findings, *, by_lot: bool
) -> bool:
    """Ask for one file and note what it is; return False where it cannot be told. Raises Failed."""
    sizes = [size for each in (listing, *others) if (size := each.size(path)) is not None]
    limit = max(sizes) if sizes else LARGEST_SAMPLE if by_lot else LARGEST_FILE
    try:
        page = door.get(folder_of(path), limit + 4096 + limit // 256)  # what is packed unasked may be a little longer
    except Failed as e:
        if e.fault.kind is not FaultKind.REDIRECT:
            raise
        found.redirect = found.redirect or e.fault
        found.wrong[path] = e.fault.text
        return True
    if page.refuses_us:
        raise Failed(refused_us(page))
    digests = _digests(page, limit)
    if listing.digests[path] in digests:
        found.right.add(path)
    elif any(_agrees(page, digests, other.digests.get(path)) for other in others):
        found.settling.add(path)
    elif page.status == 200 and page.longer and by_lot and not sizes:
        return False  # larger than what is sampled; nobody told us before
    else:
        found.wrong[path] = what_is_wrong(page)
    return True


def _digests(page: Page, limit: int) -> set[bytes]:
    """Return the digests of what a reader gets: of the bytes as they came, and of what they unpack to."""
    if page.status != 200 or page.longer or page.broken:
        return set()
    return {hashlib.sha256(body).digest() for body in (page.body, page.plain(limit + 1)) if body is not None}


def _agrees(page: Page, digests: set[bytes], digest: bytes | None) -> bool:
    """Tell whether an answer is right by another manifest, which has no such file where `digest` is None."""
    return page.status in (404, 410) if digest is None else digest in digests


def what_is_wrong(page: Page) -> str:
    """Say how an answer is not what was asked for, as it follows the file's name."""
    if page.status in (404, 410):
        return f"is missing ({page.status})"
    if page.status != 200:
        return f"is answered with {page.status}"
    return page.broken or "has other bytes"
