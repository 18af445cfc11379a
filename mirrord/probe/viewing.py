"""What does a reader get from one address of what was just published?

For whoever switched a mirror a moment ago: the card, the home page, files that were sent, and pages as most readers
take them, packed. A web server with `gzip_static` sends `page.html.gz` in place of `page.html`; it must unpack to the
page. What was seen is told as it was; whether it counts is for the caller, who knows when the mirror was switched.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mirrord.health import Fault, FaultKind
from mirrord.manifest import SnapshotId, quote
from mirrord.probe.content import Findings, ask_for, folder_of, read_card, what_is_wrong
from mirrord.probe.door import Door, Failed, Page, refused_us
from mirrord.probe.line import Line
from mirrord.probe.listings import LARGEST_SAMPLE, Listing
from mirrord.probe.looking import Look
from mirrord.siblings import Badly, base_of, encoding_of, unpacked


@dataclass(frozen=True, slots=True)
class Viewed:
    """What a reader got from one address."""

    fault: Fault | None = None
    """Why not all could be looked at, in words that follow a mirror's name."""
    snapshot: SnapshotId | None = None
    """What the mirror's card says that it serves; None where there is none that is signed."""
    right: frozenset[bytes] = frozenset()
    """Files that came as they were published; a packed copy counts if the page came packed and unpacks to itself."""
    old: frozenset[bytes] = frozenset()
    """Files that came as they were before: what a cache keeps for a while."""
    wrong: Mapping[bytes, str] = field(default_factory=dict)
    """Files that came as neither, and how."""
    plain: frozenset[bytes] = frozenset()
    """Packed copies in whose place the page itself came: right, and no reader gets the copy."""


def view(
    asked: Look, wanted: SnapshotId, before: SnapshotId | None, paths: Sequence[bytes], copies: Sequence[bytes]
) -> Viewed:
    """Look once at one address for the snapshot `wanted`, which replaced `before`, within the look's time.

    `paths` are files of it to ask for, `copies` packed copies of pages of it that are asked for packed. Both
    snapshots' manifests must be known; one with a file too large to be sampled is passed over.
    """
    new = asked.listings.own(wanted, asked.known)
    old = asked.listings.own(before, asked.known) if before is not None else None
    if new is None:
        return Viewed(fault=Fault(FaultKind.CONTENT, f"cannot be looked at: {wanted} is not in our store"))
    found = Findings()
    plain: set[bytes] = set()
    with Door(Line(asked.target, asked.url, asked.ca_file, time.monotonic() + asked.timeout), asked.names) as door:
        fault: Fault | None = None
        try:
            card = read_card(door, asked)
            found.begin(card.snapshot)
            if card.snapshot.id == wanted:
                _ask(door, new, old, paths, copies, found, plain)
        except Failed as e:
            fault = e.fault
        return Viewed(
            fault or found.redirect or door.date_fault,
            None if found.snapshot is None else found.snapshot.id,
            frozenset(found.right),
            frozenset(found.settling),
            dict(found.wrong),
            frozenset(plain),
        )


def _ask(
    door: Door,
    new: Listing,
    old: Listing | None,
    paths: Sequence[bytes],
    copies: Sequence[bytes],
    found: Findings,
    plain: set[bytes],
) -> None:
    others = [old] if old is not None else []
    for path in paths:
        if path in new.digests and (new.size(path) or 0) <= LARGEST_SAMPLE:
            ask_for(door, path, new, others, found, by_lot=False)
    for copy in copies:
        base = base_of(copy)
        if base is None or base not in new.digests or (new.size(base) or 0) > LARGEST_SAMPLE:
            continue
        _ask_packed(door, copy, base, new, old, found, plain)


def _ask_packed(
    door: Door, copy: bytes, base: bytes, new: Listing, old: Listing | None, found: Findings, plain: set[bytes]
) -> None:
    """Ask for a page in the packing of one of its copies, and note what it unpacks to."""
    encoding = encoding_of(copy)
    sizes = [listing.size(path) or 0 for listing in (new, old) if listing is not None for path in (base, copy)]
    limit = max(sizes)
    page = door.get(folder_of(base), limit + 4096 + limit // 256, encoding)
    if page.refuses_us:
        raise Failed(refused_us(page))
    if page.status != 200 or page.longer or page.broken:
        found.wrong[copy] = what_is_wrong(page)
        return
    came = page.headers.get("Content-Encoding", "").strip().lower()
    digest, why = _unpacked(page, came, limit)
    if digest == new.digests[base]:
        (found.right if came == encoding else plain).add(copy)
    elif old is not None and digest is not None and digest == old.digests.get(base):
        found.settling.add(copy)
    else:
        how = f"packed ({came})" if came else "not packed"
        found.wrong[copy] = f"is asked for as {quote(base)} and comes {how}, and {why or 'has other bytes'}"


def _unpacked(page: Page, encoding: str, limit: int) -> tuple[bytes | None, str]:
    """Return the digest of what came, unpacked; or None, and why it cannot be."""
    if encoding in ("", "identity"):
        return hashlib.sha256(page.body).digest(), ""
    held = hashlib.sha256()
    try:
        for part in unpacked([page.body], encoding, limit):
            held.update(part)
    except Badly as e:
        return None, str(e)
    return held.digest(), ""
