import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mirrord.errors import Unverified
from mirrord.manifest import Entry, Manifest, Snapshot, snapshot_id
from mirrord.trust.keys import Signers, new_signing_key
from mirrord.trust.snapshots import check_manifest, check_signed, sign_card, sign_snapshot
from mirrord.trust.sshsig import sign

WHO = "www.example.org"
KEY = new_signing_key()
SIGNERS = Signers.of([KEY.public])
MANIFEST = Manifest.of({path: Entry(hashlib.sha256(path).digest(), len(path), 1) for path in (b"a", b"b/c")})
CREATED = datetime(2026, 11, 21, tzinfo=UTC)
CARD = Snapshot(
    site="example",
    serial=1,
    id=snapshot_id(CREATED, MANIFEST.sha256),
    created=CREATED,
    next_expected=CREATED + timedelta(days=2),
    previous=None,
    manifest_sha256=MANIFEST.sha256,
    files=2,
    size=MANIFEST.size,
)
SIGNED = sign_snapshot(CARD, MANIFEST, KEY, 1_795_219_200)


def test_what_was_signed_is_believed_whole() -> None:
    """Card, manifest and their signatures together are enough to check every byte of a copy."""
    snapshot = check_signed(SIGNED.card, SIGNED.card_sig, SIGNERS, WHO, "example")
    files = check_manifest(SIGNED.manifest.text, SIGNED.manifest_sig, snapshot, SIGNERS, WHO)

    assert snapshot == CARD
    assert files == {path: entry.digest for path, entry in MANIFEST.entries.items()}


def test_a_card_of_another_site_is_refused() -> None:
    """One publisher may sign two sites with one key; one must not stand in for the other."""
    with pytest.raises(Unverified, match="site 'example', not 'shop'"):
        check_signed(SIGNED.card, SIGNED.card_sig, SIGNERS, WHO, "shop")


def test_whoever_knows_no_site_name_takes_the_cards() -> None:
    """`verify` with a public key alone."""
    assert check_signed(SIGNED.card, SIGNED.card_sig, SIGNERS, None, None) == CARD


def test_the_manifest_of_another_snapshot_is_refused_though_it_is_signed() -> None:
    """Two true halves are a mixture: yesterday's list under today's card."""
    other = Manifest.of({b"a": Entry(b"\0" * 32, 1, 1)})
    sig = sign(KEY, other.text, "manifest@mirrord")

    with pytest.raises(Unverified, match=r"not the one that snapshot\.json names"):
        check_manifest(other.text, sig, CARD, SIGNERS, WHO)


def test_a_manifest_with_a_strangers_signature_is_refused() -> None:
    """`sha256sum -c` and `ssh-keygen` must come to the same end as we: the file's own signature counts as well."""
    stranger = sign(new_signing_key(), MANIFEST.text, "manifest@mirrord")

    with pytest.raises(Unverified, match="none of the given keys"):
        check_manifest(MANIFEST.text, stranger, CARD, SIGNERS, WHO)


def test_the_two_signatures_cannot_be_exchanged() -> None:
    """Each namespace is for one kind of text."""
    with pytest.raises(Unverified, match="another purpose"):
        check_signed(SIGNED.card, sign(KEY, SIGNED.card, "manifest@mirrord"), SIGNERS, WHO, "example")
    with pytest.raises(Unverified, match="another purpose"):
        check_manifest(MANIFEST.text, sign(KEY, MANIFEST.text, "snapshot@mirrord"), CARD, SIGNERS, WHO)


def test_a_card_that_counts_other_files_than_the_manifest_is_refused() -> None:
    """The counts are what people read; they must be true."""
    with pytest.raises(Unverified, match="has 2 files"):
        check_manifest(MANIFEST.text, SIGNED.manifest_sig, replace(CARD, files=3), SIGNERS, WHO)


def test_signing_a_card_again_changes_only_the_expectation() -> None:
    """A quiet site is signed again daily: same serial, id and manifest."""
    later = CARD.expecting(CARD.next_expected + timedelta(days=1))

    card, sig = sign_card(later, KEY)

    again = check_signed(card, sig, SIGNERS, WHO, "example")
    assert (again.serial, again.id, again.manifest_sha256) == (CARD.serial, CARD.id, CARD.manifest_sha256)
    assert again.next_expected == CARD.next_expected + timedelta(days=1)
