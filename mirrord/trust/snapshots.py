"""What of a snapshot is signed, and what makes a card or a manifest from a mirror believable?

Two texts are signed, in two namespaces: the manifest once, when the snapshot is taken, and the card again at least
daily, so that a quiet site is not overdue. The card names the manifest by its digest: believing a card decides which
manifest belongs to it, and two halves of two snapshots do not pass for a whole.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from mirrord.errors import Unverified
from mirrord.manifest import Manifest, Signed, Snapshot, parse_manifest, parse_snapshot
from mirrord.trust import sshsig
from mirrord.trust.keys import Signers, SigningKey

MANIFEST = "manifest@mirrord"
CARD = "snapshot@mirrord"


def sign_snapshot(snapshot: Snapshot, manifest: Manifest, key: SigningKey, signed_at: int) -> Signed:
    """Sign both texts of a new snapshot; `signed_at` in Unix seconds."""
    card = snapshot.text()
    return Signed(
        snapshot=snapshot,
        manifest=manifest,
        manifest_sig=sshsig.sign(key, manifest.text, MANIFEST),
        card=card,
        card_sig=sshsig.sign(key, card, CARD),
        signed_at=signed_at,
    )


def sign_card(snapshot: Snapshot, key: SigningKey) -> tuple[bytes, bytes]:
    """Return a card's text and its signature."""
    card = snapshot.text()
    return card, sshsig.sign(key, card, CARD)


def check_signed(
    card: bytes,
    card_sig: bytes,
    signers: Signers,
    identity: str | None,
    site: str | None,
    at: datetime | None = None,
) -> Snapshot:
    """Return the snapshot that a card names, once its signature holds and it is of this site (None: any).

    `at` as in `sshsig.verify`. Raises Unverified.
    """
    sshsig.verify(signers, card, card_sig, CARD, identity, at)
    snapshot = parse_snapshot(card)
    if site is not None and snapshot.site != site:
        raise Unverified(f"snapshot.json is signed, but of the site {snapshot.site!r}, not {site!r}")
    return snapshot


def check_manifest(
    text: bytes,
    sig: bytes,
    snapshot: Snapshot,
    signers: Signers,
    identity: str | None,
    at: datetime | None = None,
) -> dict[bytes, bytes]:
    """Return path -> raw digest, once the text is the one that the (believed) card names and is itself signed.

    Raises Unverified.
    """
    if hashlib.sha256(text).hexdigest() != snapshot.manifest_sha256:
        raise Unverified("SHA256SUMS is not the one that snapshot.json names")
    sshsig.verify(signers, text, sig, MANIFEST, identity, at)
    files = parse_manifest(text)
    if len(files) != snapshot.files:
        raise Unverified(f"SHA256SUMS has {len(files)} files, snapshot.json says {snapshot.files}")
    return files
