"""Which files of earlier snapshots does a verification accept?"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirrord.manifest import CLOSED_SET, OWN_FOLDER, PREVIOUS, Entry, Manifest, Signed, Snapshot, snapshot_id
from mirrord.trust.copy import Asked, CopyVerdict, Kind, verify_copy
from mirrord.trust.keys import Signers, new_signing_key
from mirrord.trust.snapshots import sign_snapshot

WHO = "www.example.org"
KEY = new_signing_key()
CREATED = datetime(2026, 11, 22, 1, tzinfo=UTC)
NOW = CREATED.timestamp() + 1800
ASKED = Asked(Signers.of([KEY.public]), WHO, NOW, site="example")

A = {b"index.html": b"a", b"gone.html": b"withdrawn", b"css/a.css": b"1", b"x.css": b"old", b"logo.png": b"1"}
B = {b"index.html": b"b", b"css/a.css": b"2", b"css/b.css": b"b", b"x.css": b"x"}
C = {b"index.html": b"c", b"x.css": b"x"}


def sign(files: Mapping[bytes, bytes], serial: int, *, site: str = "example", key: object = KEY) -> Signed:
    assert isinstance(key, type(KEY))
    manifest = Manifest.of({p: Entry(hashlib.sha256(d).digest(), len(d), 1) for p, d in files.items()})
    created = CREATED - timedelta(minutes=10 * (9 - serial))
    card = Snapshot(
        site=site,
        serial=serial,
        id=snapshot_id(created, manifest.sha256),
        created=created,
        next_expected=CREATED + timedelta(days=2),
        previous=None,
        manifest_sha256=manifest.sha256,
        files=len(files),
        size=manifest.size,
    )
    return sign_snapshot(card, manifest, key, 1)


def own(signed: Signed) -> dict[bytes, bytes]:
    return {**signed.fixed_files(), **signed.changing_files()}


def previous(signed: Signed) -> dict[bytes, bytes]:
    """Return what of an earlier snapshot lies in `previous/`: path -> bytes."""
    return {PREVIOUS + b"/" + signed.snapshot.id.encode() + b"/" + name: data for name, data in own(signed).items()}


SIGNED_A, SIGNED_B, SIGNED_C = sign(A, 7), sign(B, 8), sign(C, 9)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """C, and what lingers of A and B."""
    lay_out(tmp_path, {**C, **{OWN_FOLDER + b"/" + name: data for name, data in own(SIGNED_C).items()}})
    lay_out(tmp_path, {**previous(SIGNED_A), **previous(SIGNED_B)})
    return lay_out(tmp_path, {b"css/a.css": b"2", b"css/b.css": b"b", b"logo.png": b"1"})


def lay_out(folder: Path, files: Mapping[bytes, bytes]) -> Path:
    for path, data in files.items():
        where = folder / os.fsdecode(path)
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(data)
    return folder


def drop(folder: Path, *paths: bytes) -> None:
    for path in paths:
        (folder / os.fsdecode(path)).unlink()


def verify(copy: Path, asked: Asked = ASKED) -> CopyVerdict:
    return verify_copy(copy, asked)


def test_assets_of_earlier_snapshots_are_accepted_and_counted(copy: Path) -> None:
    """A page that was opened before the switch needs them; who verifies sees how many there are, and of what."""
    verdict = verify(copy)

    assert (verdict.kind, verdict.extra, verdict.remarks) == (Kind.INTACT, (), ())
    assert [(one.snapshot.serial, one.files) for one in verdict.lingering] == [(8, 2), (7, 1)]
    assert "linger beside it: 2 of snapshot 8 and 1 of snapshot 7" in verdict.text


def test_machines_are_told_which_files_linger(copy: Path) -> None:
    """`verify --json` names the earlier snapshots, so that a withdrawn picture does not lie there unseen."""
    said = json.loads(json.dumps(verify(copy).as_json()))

    assert [(one["serial"], one["id"], one["files"]) for one in said["lingering"]] == [
        (8, SIGNED_B.snapshot.id, 2),
        (7, SIGNED_A.snapshot.id, 1),
    ]


@pytest.mark.parametrize(
    ("path", "data"),
    [
        pytest.param(b"gone.html", b"withdrawn", id="a page of an earlier snapshot"),
        pytest.param(b"css/a.css", b"1", id="the bytes of an older snapshot than the newest that has the path"),
        pytest.param(b"logo.png", b"2", id="other bytes"),
        pytest.param(b"logo.jpg", b"1", id="a path that no snapshot has"),
        pytest.param(b"x.css.gz", b"old", id="a compressed sibling of a file of today"),
        pytest.param(b"x.html.png", b"1", id="a page in disguise"),
        pytest.param(PREVIOUS + b"/evil.js", b"x", id="a file in previous/"),
        pytest.param(PREVIOUS + b"/x/evil.js", b"x", id="a folder of nothing signed"),
        pytest.param(PREVIOUS + b"/x/y/evil.js", b"x", id="a folder in a folder"),
        pytest.param(OWN_FOLDER + b"/evil.js", b"x", id="a file beside previous/"),
    ],
)
def test_any_other_extra_file_is_altered(copy: Path, path: bytes, data: bytes) -> None:
    """The time of grace is no hole: what a hostile host could slip in is named."""
    lay_out(copy, {path: data})

    verdict = verify(copy)

    assert (verdict.kind, verdict.extra) == (Kind.ALTERED, (path,))


def test_a_compressed_sibling_lingers_with_its_file(tmp_path: Path) -> None:
    """The old sibling of a file of today would be sent for the new file; of a lingering one, it is right."""
    old = {b"index.html": b"a", b"x.css": b"old", b"x.css.gz": b"old", b"y.css": b"y", b"y.css.gz": b"y"}
    signed = sign(old, 7)
    today = {**C, **{OWN_FOLDER + b"/" + name: data for name, data in own(SIGNED_C).items()}}
    copy = lay_out(tmp_path, {**today, **previous(signed), b"y.css": b"y", b"y.css.gz": b"y", b"x.css.gz": b"old"})

    verdict = verify(copy)

    assert verdict.extra == (b"x.css.gz",)


def folder_of(signed: Signed) -> bytes:
    return PREVIOUS + b"/" + signed.snapshot.id.encode()


def forged() -> dict[str, dict[bytes, bytes]]:
    """Return what a hostile host could put in `previous/` to have `logo.png` accepted."""
    stranger, other = sign(A, 7, key=new_signing_key()), sign(A, 7, site="other")
    newer, same = sign(A, 10), sign(A, 9)
    right = previous(SIGNED_A)
    unsigned = dict(right)
    unsigned[folder_of(SIGNED_A) + b"/SHA256SUMS"] = right[folder_of(SIGNED_A) + b"/SHA256SUMS"] + b"0" * 64 + b"  z\n"
    crossed = {**right, folder_of(SIGNED_A) + b"/SHA256SUMS": SIGNED_B.manifest.text}
    crossed[folder_of(SIGNED_A) + b"/SHA256SUMS.sig"] = SIGNED_B.manifest_sig
    renamed = {
        path.replace(SIGNED_A.snapshot.id.encode(), b"20261122T004000Z-00000000"): d for path, d in right.items()
    }
    halves = {path: data for path, data in right.items() if not path.endswith(b"SHA256SUMS.sig")}
    more = {**right, folder_of(SIGNED_A) + b"/more": b"x"}
    return {
        "by none of the given keys": previous(stranger),
        "of another site": previous(other),
        "newer than what is served": previous(newer),
        "of the serial that is served": previous(same),
        "a manifest that was changed": unsigned,
        "the manifest of another snapshot": crossed,
        "a folder with the name of another": renamed,
        "without a signature": halves,
        "with one file more": more,
    }


@pytest.mark.parametrize("how", list(forged()))
def test_only_a_manifest_that_is_signed_for_this_site_and_of_before_excuses_files(tmp_path: Path, how: str) -> None:
    """Else anybody could write an excuse for a file of his own; each is named with its reason."""
    excuse = forged()[how]
    today = {**C, **{OWN_FOLDER + b"/" + name: data for name, data in own(SIGNED_C).items()}}
    copy = lay_out(tmp_path, {**today, **excuse, b"logo.png": b"1"})

    verdict = verify(copy)

    assert verdict.kind is Kind.ALTERED
    assert verdict.extra == tuple(sorted([*excuse, b"logo.png"]))
    assert verdict.lingering == ()
    assert len(verdict.remarks) == 1
    assert "excuses no file" in verdict.remarks[0]


def test_the_manifest_of_the_snapshot_itself_is_no_earlier_one(copy: Path) -> None:
    """What is served is not its own past."""
    lay_out(copy, previous(SIGNED_C))

    verdict = verify(copy)

    assert verdict.extra == tuple(sorted(previous(SIGNED_C)))


@pytest.mark.parametrize("order", ["a", "b", "both"])
def test_files_may_go_before_their_manifest_does(copy: Path, order: str) -> None:
    """When their time is over the files go first: a look in the middle of that finds nothing wrong."""
    drop(copy, *{"a": [b"logo.png"], "b": [b"css/a.css"], "both": [b"logo.png", b"css/a.css", b"css/b.css"]}[order])

    verdict = verify(copy)

    assert verdict.kind is Kind.INTACT


def test_a_lingering_file_that_is_a_link_is_altered(copy: Path, tmp_path: Path) -> None:
    """A link may be led elsewhere tomorrow; and nothing but plain files is ever opened."""
    drop(copy, b"logo.png", b"css/b.css")
    (copy / "logo.png").symlink_to(tmp_path / "x.css")
    os.mkfifo(copy / "css/b.css")

    verdict = verify(copy)

    assert verdict.extra == (b"css/b.css", b"logo.png")


def test_files_that_linger_for_long_call_for_a_remark(copy: Path) -> None:
    """A host that keeps a withdrawn picture is at least seen; a mirror that was away for days is no alarm."""
    late = replace(ASKED, now=CREATED.timestamp() + 3 * 3600)

    verdict = verify(copy, late)

    assert verdict.kind is Kind.INTACT
    (remark,) = verdict.remarks
    assert remark.startswith("files of earlier snapshots are there 3 hours after snapshot 9 was made; as a rule")


def test_openssh_itself_believes_the_earlier_manifests(copy: Path, tmp_path: Path) -> None:
    """Any reader can check what lingers with `ssh-keygen` and `sha256sum`, without a tool of ours."""
    allowed = tmp_path / "allowed"
    allowed.write_text(f"{WHO} {KEY.public}\n")
    folder = copy / os.fsdecode(folder_of(SIGNED_A))
    command = ["ssh-keygen", "-Y", "verify", "-f", str(allowed), "-I", WHO, "-n", "manifest@mirrord"]

    done = subprocess.run(
        [*command, "-s", str(folder / "SHA256SUMS.sig")],
        input=(folder / "SHA256SUMS").read_bytes(),
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == sorted(os.fsdecode(name) for name in CLOSED_SET)
