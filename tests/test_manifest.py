import hashlib
import json
import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mirrord.errors import Unverified
from mirrord.manifest import (
    LONGEST_PATH,
    Entry,
    Manifest,
    Snapshot,
    SnapshotId,
    difference,
    extra_files,
    is_snapshot_id,
    parse_manifest,
    parse_snapshot,
    quote,
    show,
    snapshot_id,
    stamp,
    why_not_a_path,
)

NASTY = [
    b"index.html",
    b"-",
    b"sub/-",
    b"--help",
    b" leading",
    b"  two leading",
    b"*star",
    b" *blank and star",
    b"trailing ",
    b"new\nline",
    b"\n",
    b"carriage\rreturn",
    b"ends in cr\r",
    b"back\\slash",
    b"\\",
    b"\\n",
    b"all \\ of \n them \r.html",
    b"tab\there",
    "accents-\u00e9.html".encode(),
    "accents-e\u0301.html".encode(),
    b"latin1-\xe9.html",
    b"\xff\xfe",
    b"#comment",
    b"SHA256 (x) = y",
    b"a.b/c",
    b"a/b",
    b"a-b",
    b".hidden",
    b"...",
    b"deep/er/and/er/x",
    b"'quoted' \"twice\"",
    b"\x01\x7f",
]


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def manifest_of(files: dict[bytes, bytes]) -> Manifest:
    return Manifest.of({path: Entry(digest(data), len(data), 1) for path, data in files.items()})


def lay_out(folder: Path, files: dict[bytes, bytes]) -> None:
    for path, data in files.items():
        where = folder / os.fsdecode(path)
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(data)


def sha256sum(folder: Path, *arguments: bytes, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [b"sha256sum", *arguments], cwd=folder, input=stdin, capture_output=True, check=False, env={"LC_ALL": "C"}
    )


NAMES = st.binary(min_size=1, max_size=40).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(b"/".join).filter(lambda path: why_not_a_path(path) is None)
NASTY_NAMES = st.lists(st.sampled_from(b"a\\\n\r -*n"), min_size=1, max_size=6).map(bytes)


def test_real_sha256sum_finds_every_file_whatever_its_name_is(tmp_path: Path) -> None:
    """A reader checks a copy with `sha256sum -c` and no tool of ours: no name may be lost on the way."""
    files = {path: b"content of " + path for path in NASTY}
    lay_out(tmp_path, files)

    checked = sha256sum(tmp_path, b"--check", b"--strict", b"--quiet", stdin=manifest_of(files).text)

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_real_sha256sum_notices_each_single_altered_file(tmp_path: Path) -> None:
    """A name that `sha256sum -c` passed over in silence would be a file that nobody checks."""
    files = {path: b"content of " + path for path in NASTY}
    lay_out(tmp_path, {path: data + b"!" for path, data in files.items()})

    checked = sha256sum(tmp_path, b"--check", b"--strict", stdin=manifest_of(files).text)

    assert checked.stdout.count(b": FAILED\n") == len(files)


def test_the_text_is_what_real_sha256sum_writes(tmp_path: Path) -> None:
    """The manifest is GNU's own format, so a person may also make it by hand and compare."""
    files = {path: b"content of " + path for path in NASTY}
    lay_out(tmp_path, files)
    names = [b"./-" if path == b"-" else path for path in sorted(files)]

    written = sha256sum(tmp_path, b"--", *names).stdout

    assert manifest_of(files).text == written


@settings(max_examples=60, deadline=None)
@given(names=st.sets(NASTY_NAMES.filter(lambda name: why_not_a_path(name) is None), min_size=1, max_size=20))
def test_names_made_of_nothing_but_trouble_pass_real_sha256sum(
    names: set[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The escapes of two programs agree on every mixture, not only on those that somebody thought of."""
    folder = tmp_path_factory.mktemp("site")
    lay_out(folder, {name: name for name in names})

    text = manifest_of({name: name for name in names}).text

    assert sha256sum(folder, b"-c", b"--strict", b"--quiet", stdin=text).returncode == 0
    assert sha256sum(folder, b"--", *(b"./-" if name == b"-" else name for name in sorted(names))).stdout == text


@given(paths=st.sets(PATHS, max_size=20))
@example(paths={b"-", b"a\\", b"a\n", b"a\r"})
@example(paths=set())
def test_what_is_written_is_read_back(paths: set[bytes]) -> None:
    """Any path that can be published comes back as the same bytes with the same digest."""
    manifest = manifest_of({path: path for path in paths})

    assert parse_manifest(manifest.text) == {path: digest(path) for path in sorted(paths)}


@given(text=st.binary(max_size=200), at=st.integers(0, 10_000), change=st.integers(1, 255))
def test_a_text_that_is_read_is_the_only_one_for_its_content(text: bytes, at: int, change: int) -> None:
    """Two texts for one content would be two digests for one snapshot, and room to be read in two ways."""
    good = bytearray(manifest_of({path: path for path in NASTY}).text)
    good[at % len(good)] ^= change

    for candidate in (text, bytes(good)):
        try:
            found = parse_manifest(candidate)
        except Unverified:
            continue
        assert Manifest.of({path: Entry(d, 0, 1) for path, d in found.items()}).text == candidate


HEX = b"ab" * 32


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(HEX + b"  a", id="breaks off"),
        pytest.param(HEX + b" *a\n", id="binary marker"),
        pytest.param(HEX.upper() + b"  a\n", id="capital digits"),
        pytest.param(HEX + b"  \n", id="no name"),
        pytest.param(HEX + b"  /etc/passwd\n", id="absolute"),
        pytest.param(HEX + b"  a/../../etc/passwd\n", id="leaves its root"),
        pytest.param(HEX + b"  ./a\n", id="dot"),
        pytest.param(HEX + b"  a//b\n", id="empty component"),
        pytest.param(HEX + b"  a/\n", id="folder"),
        pytest.param(HEX + b"  a\0b\n", id="NUL"),
        pytest.param(HEX + b"  -\n", id="standard input"),
        pytest.param(b"\\" + HEX + b"  a\n", id="needless escape"),
        pytest.param(b"\\" + HEX + b"  a\\t\n", id="unknown escape"),
        pytest.param(b"\\" + HEX + b"  a\\\\\\\n", id="escape of nothing"),
        pytest.param(b"\\" + HEX + b"  ..\\n/../..\n", id="leaves its root, escaped"),
        pytest.param(HEX + b"  a\\b\n", id="escape forgotten"),
        pytest.param(HEX + b"  a\r\n", id="carriage return"),
        pytest.param(HEX + b"  b\n" + HEX + b"  a\n", id="out of order"),
        pytest.param(HEX + b"  a\n" + HEX + b"  a\n", id="twice"),
        pytest.param(HEX + b"  a\n\n", id="empty line"),
        pytest.param(HEX + b"  .well-known/mirrord/SHA256SUMS\n", id="ours"),
        pytest.param(HEX + b"  " + b"a/" * 1950 + b"a\n", id="too long"),
        pytest.param(HEX + b"  " + b"a" * 256 + b"\n", id="a name too long"),
        pytest.param(HEX + b"  b/.\n", id="a dot at the end"),
        pytest.param(b"SHA256 (a) = " + HEX + b"\n", id="BSD"),
    ],
)
def test_a_manifest_that_mirrord_would_not_write_is_refused(text: bytes) -> None:
    """A mirror is not trusted: what is not exactly a manifest must not be read as some manifest."""
    with pytest.raises(Unverified):
        parse_manifest(text)


@pytest.mark.parametrize(
    ("path", "well"),
    [
        (b"a", True),
        (b"a" * 255, True),
        (b"a" * 256, False),
        (b"/".join([b"a" * 99] * 39), True),
        (b"a/" * (LONGEST_PATH // 2 - 1) + b"aa", True),
        (b"a/" * (LONGEST_PATH // 2) + b"a", False),
        (b"", False),
        (b".", False),
        (b"..", False),
        (b"a/..", False),
        (b"/a", False),
        (b".well-known/mirrord", False),
        (b".well-known/mirrord/x", False),
        (b".well-known/mirrord-x", True),
        (b".well-known/security.txt", True),
    ],
)
def test_which_paths_can_be_published(path: bytes, well: bool) -> None:
    """Every server must be able to hold the path below the account's folders, and nothing leaves the root."""
    assert (why_not_a_path(path) is None) is well


def test_folders_stand_before_what_is_in_them() -> None:
    """Folders are made in this order."""
    manifest = manifest_of({b"a/b/c/x": b"", b"a/b-c/x": b"", b"y": b"", b"a/b/z": b""})

    assert manifest.folders() == [b"a", b"a/b", b"a/b-c", b"a/b/c"]


def test_a_difference_tells_added_changed_removed_and_emptied() -> None:
    """Emptying a page loses as much as removing it; the brake counts both."""
    old = manifest_of({b"same": b"1", b"new bytes": b"1", b"gone": b"1", b"emptied": b"1", b"was empty": b""})
    new = manifest_of({b"same": b"1", b"new bytes": b"2", b"fresh": b"1", b"emptied": b"", b"was empty": b"1"})

    found = difference(old, new)

    assert found.added == (b"fresh",)
    assert found.changed == (b"emptied", b"new bytes", b"was empty")
    assert found.removed == (b"gone",)
    assert found.emptied == (b"emptied",)
    assert not difference(old, old)


def test_a_touched_file_is_no_difference() -> None:
    """Generators touch every file; only bytes count."""
    old = Manifest.of({b"a": Entry(digest(b"1"), 1, 100)})
    new = Manifest.of({b"a": Entry(digest(b"1"), 1, 200)})

    assert not difference(old, new)


def test_extra_files_are_those_that_nothing_explains() -> None:
    """`sha256sum -c` passes with an injected page; the set of our own names is closed."""
    files = manifest_of({b"a": b""}).entries
    found = [b"a", b"injected.html", b".well-known/mirrord/snapshot.json", b".well-known/mirrord/evil.html"]

    assert extra_files(found, files) == [b".well-known/mirrord/evil.html", b"injected.html"]


CREATED = datetime(2026, 11, 21, 22, 0, 0, tzinfo=UTC)
CARD = Snapshot(
    site="example",
    serial=7,
    id=snapshot_id(CREATED, HEX.decode()),
    created=CREATED,
    next_expected=CREATED + timedelta(days=2),
    previous=SnapshotId("20261120T220000Z-0123abcd"),
    manifest_sha256=HEX.decode(),
    files=3,
    size=12345,
)


def test_the_id_is_made_of_the_time_and_the_manifests_digest() -> None:
    """A person reads from it when a snapshot was taken, and can compare it with SHA256SUMS."""
    assert CARD.id == "20261121T220000Z-abababab"
    assert is_snapshot_id(CARD.id)


@pytest.mark.parametrize(
    "text",
    ["", "20261121T220000Z", "20261121T220000Z-ABABABAB", "20261121T220000Z-abababab\n", "٢0261121T220000Z-abababab"],
)
def test_what_is_no_id_is_not_taken_for_one(text: str) -> None:
    """Ids become names of folders."""
    assert not is_snapshot_id(text)


@pytest.mark.parametrize("restores", [None, SnapshotId("20261101T000000Z-00000000")])
def test_a_card_is_read_back(restores: SnapshotId | None) -> None:
    """What the controller says of a snapshot is what everyone else reads."""
    card = replace(CARD, restores=restores)

    assert parse_snapshot(card.text()) == card


def test_unknown_keys_of_a_card_are_passed_over() -> None:
    """An older mirrord still judges what a newer one publishes."""
    card = json.loads(CARD.text()) | {"colour": "green"}

    assert parse_snapshot(json.dumps(card).encode()) == CARD


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"schema": 2}, id="schema"),
        pytest.param({"serial": "7"}, id="serial is text"),
        pytest.param({"serial": True}, id="serial is true"),
        pytest.param({"serial": -1}, id="serial below zero"),
        pytest.param({"serial": 1.0}, id="serial is a fraction"),
        pytest.param({"id": "20261121T220000Z-00000000"}, id="id of another manifest"),
        pytest.param({"id": "../../etc"}, id="id is a path"),
        pytest.param({"created": "2026-11-21"}, id="no time"),
        pytest.param({"created": "2026-11-21T1:0:0Z"}, id="sloppy time"),
        pytest.param({"created": None}, id="null"),
        pytest.param({"manifest_sha256": "abababab"}, id="short digest"),
        pytest.param({"previous": 5}, id="previous is a number"),
        pytest.param({"restores": "x"}, id="restores is no id"),
    ],
)
def test_a_card_that_says_nonsense_is_refused(change: dict[str, object]) -> None:
    """A number that is text, or an id that is a path, must not travel on into decisions."""
    card = json.loads(CARD.text()) | change

    with pytest.raises(Unverified, match=r"snapshot\.json"):
        parse_snapshot(json.dumps(card).encode())


@given(
    text=st.one_of(st.binary(max_size=100), st.recursive(st.none() | st.integers(), st.lists).map(str).map(str.encode))
)
@example(b"[" * 100_000)
@example(b'{"schema": 1' + b"0" * 5000 + b"}")
@example(b"\xff")
def test_no_text_at_all_makes_reading_a_card_fail_otherwise(text: bytes) -> None:
    """A hostile mirror's card is unverified, never a traceback."""
    with pytest.raises(Unverified):
        parse_snapshot(text)


def test_times_are_written_in_utc_and_whole_seconds() -> None:
    """Machines in other zones, and file systems of whole seconds, agree on it."""
    assert stamp(CREATED.replace(microsecond=999_999)) == "2026-11-21T22:00:00Z"


@given(path=PATHS)
@example(path=b"\xff\n")
def test_paths_are_shown_without_loss_and_named_without_harm(path: bytes) -> None:
    """JSON must bring back the very bytes; a sentence must stay on one line and be printable anywhere."""
    shown, named = show(path), quote(path)

    assert json.loads(json.dumps(shown)).encode("utf-8", "surrogateescape") == path
    assert named.isprintable()
    assert named.encode()
