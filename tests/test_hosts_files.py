"""What every `Files` promises, asked of memory, of a folder, and of every SFTP server that can do it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from mirrord.delta import Copy, gaps
from mirrord.errors import Cancelled
from mirrord.hosts.files import (
    Attributes,
    Create,
    Files,
    Hash,
    Kind,
    Link,
    List,
    MakeFolder,
    Op,
    Outcome,
    Patch,
    Put,
    Read,
    ReadLink,
    ReadPart,
    Remove,
    RemoveFolder,
    Rename,
    Rewrite,
    SetMode,
    Stat,
    Symlink,
    Trouble,
    Walk,
)
from tests.conftest import Lab
from tests.grounds import Ground, ask_able_grounds, ground, needs
from tests.lab.sftp import SftpServer

STANDS = (Trouble.EXISTS, Trouble.FAILED)  # SFTP version 3 does not tell them apart


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Ask each ground that can be asked."""
    ask_able_grounds(metafunc)


@pytest.fixture(scope="module")
def servers() -> dict[str, SftpServer]:
    """Keep the servers that the tests share."""
    return {}


@pytest.fixture
def here(
    request: pytest.FixtureRequest, module_lab: Lab, servers: dict[str, SftpServer], tmp_path: Path
) -> Iterator[Ground]:
    """Return an account whose root does not exist yet, but for memory."""
    yield from ground(request.param, module_lab, servers, tmp_path)


@pytest.fixture
def files(here: Ground) -> Files:
    """Return a connection to an account that is empty."""
    connected = here.connect()
    assert one(connected, MakeFolder(b"")).good
    return connected


def one(files: Files, op: Op) -> Outcome:
    (outcome,) = files.carry_out([op])
    return outcome


def all_good(files: Files, ops: Sequence[Op]) -> None:
    for outcome in files.in_order(ops):
        assert outcome.good, outcome


def put(path: bytes, data: bytes, *, mtime: int | None = 1_600_000_000, digest: bytes | None = None) -> Put:
    return Put(path, len(data), mtime, 0o644, lambda: BytesIO(data), digest or hashlib.sha256(data).digest())


def test_an_account_without_its_root_is_empty_until_the_root_is_made(here: Ground) -> None:
    """A new account has nothing, not even the folder that the configuration names: looking is no error."""
    files = here.connect()
    if here.root is not None:
        assert one(files, List(b"releases")).trouble is Trouble.MISSING
        assert one(files, Stat(b"")).trouble is Trouble.MISSING

    assert one(files, MakeFolder(b"")).good
    assert one(files, Stat(b"")).value.kind is Kind.FOLDER
    assert one(files, List(b"")).value == {}


def test_a_put_file_has_its_bytes_mode_and_mtime_whatever_the_umask(files: Files) -> None:
    """What a web server reads and how a later publish recognises a finished file."""
    big = bytes(range(256)) * 3000

    all_good(files, [put(b"big", big), put(b"empty", b""), put("odd \\ näme".encode(), b"x")])
    assert one(files, Read(b"big", len(big))).value == big
    assert one(files, List(b"")).value == {
        b"big": Attributes(Kind.FILE, len(big), 1_600_000_000, 0o644),
        b"empty": Attributes(Kind.FILE, 0, 1_600_000_000, 0o644),
        "odd \\ näme".encode(): Attributes(Kind.FILE, 1, 1_600_000_000, 0o644),
    }


@needs("any_name", "control_names")
def test_names_are_bytes_and_nothing_is_done_to_them(files: Files) -> None:
    """A site's links are to the name as it was written; two that only look alike are two."""
    names = [b"odd \xff\n\\ name", "é".encode(), "e\u0301".encode(), b"\x01\x7f*?", b" a", b"a ", b"~", b"n" * 255]
    all_good(files, [put(name, name) for name in names])

    assert sorted(one(files, List(b"")).value) == sorted(names)
    assert [one(files, Read(name, 300)).value for name in names] == names


@needs("exclusive")
def test_a_put_never_writes_over_what_stands_there(files: Files) -> None:
    """A late request of a connection that was given up must not truncate what its successor wrote."""
    all_good(files, [put(b"file", b"first")])

    assert one(files, put(b"file", b"second")).trouble in STANDS
    assert one(files, Read(b"file", 100)).value == b"first"


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(put(b"file", b"abc", digest=bytes(32)), id="another digest"),
        pytest.param(Put(b"file", 3, 1_600_000_000, 0o644, lambda: BytesIO(b"ab")), id="too short"),
        pytest.param(Put(b"file", 3, 1_600_000_000, 0o644, lambda: BytesIO(b"abcd")), id="too long"),
    ],
)
def test_bytes_that_are_not_the_recorded_ones_get_no_commit_mark(files: Files, wrong: Put) -> None:
    """A damaged store must not be published: without the mtime no later publish takes the file for finished."""
    outcome = one(files, wrong)

    assert outcome.trouble is Trouble.DAMAGED
    stood = one(files, Stat(b"file"))
    assert not stood.good or stood.value.mtime != 1_600_000_000


OLD = bytes(range(256)) * 4000
NEW = OLD[:300_000] + b"a new passage" + OLD[300_000:900_000] + OLD[:100_000]
COPIES = (Copy(0, 0, 300_000), Copy(300_000, 300_013, 600_000), Copy(0, 900_013, 100_000))


def patch(path: bytes, new: bytes = NEW, copies: tuple[Copy, ...] = COPIES, **terms: Any) -> Patch:
    """Make `new` of the file `base`; what is copied is read back in full unless `check` says otherwise."""
    sent = b"".join(new[at : at + size] for at, size in gaps(copies, len(new)))
    usual = {"digest": hashlib.sha256(sent).digest(), "check": tuple((at, 4096) for at in range(0, 200_000, 4096))}
    return Patch(
        path, len(new), 1_600_000_007, 0o644, lambda: BytesIO(new), base=b"base", copies=copies, **{**usual, **terms}
    )


def test_a_patched_file_is_a_new_one_with_its_bytes_mode_and_mtime_and_costs_what_was_sent(files: Files) -> None:
    """The base belongs to the release that readers see: it is read, and stays what it is."""
    all_good(files, [put(b"base", OLD)])
    before = files.bytes_moved()

    outcome = one(files, patch(b"new"))
    if not files.traits.copy_data:
        assert outcome.trouble is Trouble.UNSUPPORTED
        return
    assert outcome.good, outcome
    assert files.bytes_moved()[0] - before[0] == len(b"a new passage") == patch(b"new").sent
    assert one(files, Read(b"new", len(NEW))).value == NEW
    assert one(files, Stat(b"new")).value == Attributes(Kind.FILE, len(NEW), 1_600_000_007, 0o644)
    assert one(files, Read(b"base", len(OLD))).value == OLD
    assert one(files, Stat(b"base")).value == Attributes(Kind.FILE, len(OLD), 1_600_000_000, 0o644)


@pytest.mark.parametrize(
    ("wrong", "trouble"),
    [
        pytest.param(patch(b"new", digest=bytes(32)), (Trouble.DAMAGED,), id="what we send is not what was recorded"),
        pytest.param(patch(b"new", copies=(Copy(900_000, 0, 500_000),)), (Trouble.FAILED,), id="the base is too short"),
        pytest.param(patch(b"new", copies=(Copy(7, 0, 300_000),)), (Trouble.FAILED,), id="the base was altered"),
        pytest.param(patch(b"none/new"), (Trouble.MISSING,), id="no such folder"),
        pytest.param(patch(b"taken"), STANDS, id="something stands there"),
    ],
)
def test_a_patch_that_goes_wrong_gets_no_commit_mark(files: Files, wrong: Patch, trouble: tuple[Trouble, ...]) -> None:
    """A file of the right size and mtime is taken for whole by every later publish: only a good one may look so."""
    all_good(files, [put(b"base", OLD), put(b"taken", b"x")])

    outcome = one(files, wrong)
    if not files.traits.copy_data:
        assert outcome.trouble is Trouble.UNSUPPORTED
        return
    assert outcome.trouble in trouble
    stood = one(files, Stat(wrong.path))
    assert not stood.good or stood.value.mtime != wrong.mtime
    assert one(files, Read(b"taken", 9)).value == b"x"


def test_without_its_base_nothing_is_patched(files: Files) -> None:
    """Who pruned the base meanwhile has not made the publish fail: the whole file is sent then."""
    outcome = one(files, patch(b"new"))

    assert outcome.trouble is (Trouble.MISSING if files.traits.copy_data else Trouble.UNSUPPORTED)


def test_many_patches_and_puts_at_once_all_arrive(files: Files) -> None:
    """A patch has two files open, and waits where others have them: none may wait for ever."""
    all_good(files, [put(b"base", OLD)])
    ops: list[Op] = [patch(b"new-%d" % n) if n % 3 else put(b"new-%d" % n, b"%d" % n) for n in range(90)]

    outcomes = list(files.carry_out(ops))
    assert len(outcomes) == len(ops)
    assert all(outcome.good or not files.traits.copy_data for outcome in outcomes)


@needs("exclusive")
def test_creating_is_exclusive(files: Files) -> None:
    """Of two who want the same lock one gets it, and learns what time it is there."""
    made = one(files, Create(b"lock", b"mine", 0o600))
    assert made.good
    assert made.value.mtime <= one(files, Stat(b"lock")).value.mtime

    assert one(files, Create(b"lock", b"yours")).trouble in STANDS
    assert one(files, Read(b"lock", 100)).value == b"mine"
    assert one(files, Stat(b"lock")).value.mode == 0o600


@needs("rewrite")
def test_rewriting_changes_the_start_of_a_file_and_makes_none(files: Files) -> None:
    """A heartbeat must not bring a lock back that another one removed."""
    all_good(files, [Create(b"lock", b"one one"), Rewrite(b"lock", b"two")])

    assert one(files, Read(b"lock", 100)).value == b"two one"
    assert one(files, Rewrite(b"gone", b"x")).trouble is Trouble.MISSING
    assert one(files, Stat(b"gone")).trouble is Trouble.MISSING


def test_a_new_file_without_an_mtime_has_the_servers_own(files: Files) -> None:
    """The lock and the notes tell the mirror's own time."""
    all_good(files, [Create(b"lock", b"one")])

    lock = one(files, Stat(b"lock")).value
    assert lock.mtime > 1_600_000_001


@needs("modes")
def test_folders_have_exactly_their_mode_and_may_be_made_again(files: Files) -> None:
    """Under umask 077 readers would be locked out; a resumed publish makes all its folders again."""
    all_good(files, [MakeFolder(b"a", 0o700), MakeFolder(b"a/b"), MakeFolder(b"a", 0o755), put(b"a/b/file", b"x")])

    assert one(files, Stat(b"a")).value.mode & 0o777 == 0o755
    assert one(files, Stat(b"a/b")).value.mode & 0o777 == 0o755
    assert not one(files, MakeFolder(b"a/b/file")).good
    assert one(files, Stat(b"a/b/file")).value.mode == 0o644
    assert one(files, MakeFolder(b"none/c")).trouble is Trouble.MISSING


@needs("hard_link")
def test_a_hard_link_shares_bytes_and_outlives_the_first_name(files: Files) -> None:
    """Releases share what did not change; dropping the old one takes nothing from the new."""
    all_good(files, [put(b"first", b"bytes"), Link(b"first", b"second"), Remove(b"first")])

    assert one(files, Read(b"second", 100)).value == b"bytes"
    assert one(files, Link(b"gone", b"third")).trouble is Trouble.MISSING
    assert one(files, Link(b"second", b"second")).trouble in STANDS


@needs("symlink")
def test_a_link_tells_the_text_that_it_was_made_with(files: Files) -> None:
    """By its text we know which release is served; some servers tell where it leads instead."""
    all_good(files, [MakeFolder(b"releases"), MakeFolder(b"releases/one"), MakeFolder(b"deep"), put(b"deep/f", b"")])
    texts = {b"current": b"releases/one", b"deep/link": b"../releases/one", b"dangling": b"releases/gone"}
    all_good(files, [Symlink(text, path) for path, text in texts.items()])

    assert {path: one(files, ReadLink(path)).value for path in texts} == texts
    assert not one(files, ReadLink(b"deep/f")).good
    assert not one(files, ReadLink(b"gone")).good


@needs("symlink", "replace_link", "rename_link")
def test_a_link_is_replaced_in_one_step_and_its_text_is_kept(files: Files) -> None:
    """This is how readers are led from one release to the next."""
    all_good(files, [Symlink(b"releases/one", b"current"), Symlink(b"../releases/two", b"next")])

    all_good(files, [Rename(b"next", b"current", over=True)])
    assert one(files, ReadLink(b"current")).value == b"../releases/two"
    assert one(files, Stat(b"current")).value.kind is Kind.LINK
    assert one(files, Stat(b"next")).trouble is Trouble.MISSING


@needs("refuse_files")
def test_a_plain_rename_moves_trees_and_never_onto_something(files: Files) -> None:
    """A release enters releases/ by a rename, and must not swallow one that stands there."""
    all_good(files, [MakeFolder(b"a"), put(b"a/file", b"x"), MakeFolder(b"b"), put(b"c", b"c"), put(b"d", b"d")])

    assert one(files, Rename(b"a", b"b")).trouble in STANDS
    assert one(files, Rename(b"c", b"d")).trouble in STANDS
    all_good(files, [Rename(b"a", b"e")])
    assert one(files, Read(b"e/file", 100)).value == b"x"
    assert one(files, Rename(b"gone", b"f")).trouble is Trouble.MISSING


@needs("symlink")
def test_a_rename_over_a_folder_is_refused(files: Files) -> None:
    """A real folder where the link should be is somebody's site: it is never replaced."""
    all_good(files, [MakeFolder(b"current"), Symlink(b"releases/one", b"next")])

    assert not one(files, Rename(b"next", b"current", over=True)).good
    assert one(files, Stat(b"current")).value.kind is Kind.FOLDER


@needs("symlink", "remove_kinds")
def test_removing_tells_files_links_and_folders_apart(files: Files) -> None:
    """A folder goes only when it is empty, and a link goes without what it points to."""
    all_good(files, [MakeFolder(b"a"), put(b"a/file", b"x"), Symlink(b"a", b"link")])

    assert not one(files, RemoveFolder(b"a")).good
    assert not one(files, Remove(b"a")).good
    all_good(files, [Remove(b"link"), Remove(b"a/file"), RemoveFolder(b"a")])
    assert one(files, List(b"")).value == {}
    assert one(files, Remove(b"a/file")).trouble is Trouble.MISSING
    assert one(files, RemoveFolder(b"a")).trouble is Trouble.MISSING


@needs("symlink")
def test_walking_shows_every_depth_and_follows_no_link(files: Files) -> None:
    """What lies behind a link that somebody put there is not ours to list or to delete."""
    all_good(files, [MakeFolder(b"a"), MakeFolder(b"a/b"), put(b"a/b/file", b"x"), MakeFolder(b"other")])
    all_good(files, [put(b"other/secret", b"s"), Symlink(b"../other", b"a/link")])

    walked = one(files, Walk(b"a")).value
    assert {path: attributes.kind for path, attributes in walked.items()} == {
        b"b": Kind.FOLDER,
        b"b/file": Kind.FILE,
        b"link": Kind.LINK,
    }
    assert one(files, Walk(b"gone")).trouble is Trouble.MISSING


def test_a_part_of_a_file_is_read_and_no_more(files: Files) -> None:
    """What was sent is read back in pieces, of large files only some: over the end there is nothing, not an error."""
    data = bytes(range(251)) * 2789
    all_good(files, [put(b"file", data)])

    parts = [ReadPart(b"file", 0, 5), ReadPart(b"file", 33_000, 600_000), ReadPart(b"file", len(data) - 1, 9)]
    assert [one(files, part).value for part in parts] == [data[:5], data[33_000:633_000], data[-1:]]
    assert one(files, ReadPart(b"file", 800_000, 9)).value == b""
    assert one(files, ReadPart(b"file", 5, 0)).value == b""
    assert one(files, ReadPart(b"gone", 0, 5)).trouble is Trouble.MISSING


@needs("symlink")
def test_reading_follows_the_served_link_and_stops_at_its_limit(files: Files) -> None:
    """The served card is read in the same flight as the link; a giant is no reason to run out of memory."""
    all_good(files, [MakeFolder(b"releases"), MakeFolder(b"releases/one"), put(b"releases/one/card", b"12345")])
    all_good(files, [Symlink(b"releases/one", b"current")])

    assert one(files, Read(b"current/card", 5)).value == b"12345"
    assert one(files, Read(b"current/card", 4)).trouble is Trouble.FAILED
    assert one(files, Read(b"current/gone", 4)).trouble is Trouble.MISSING
    assert not one(files, Read(b"releases", 4)).good


@needs("symlink")
def test_a_file_is_hashed_where_it_lies_or_the_server_says_that_it_cannot(files: Files) -> None:
    """What was sent can be proved without reading it back, on the servers that hash."""
    all_good(files, [put(b"file", b"bytes"), Symlink(b"file", b"link")])

    told = one(files, Hash(b"file"))
    if "sha256" in files.traits.hashes:
        assert told.value == one(files, Hash(b"link")).value == hashlib.sha256(b"bytes").digest()
        assert one(files, Hash(b"gone")).trouble is Trouble.MISSING
    else:  # nobody asked yet whether it can
        assert told.trouble is Trouble.UNSUPPORTED or told.value == hashlib.sha256(b"bytes").digest()


@needs("modes")
def test_setting_a_mode_touches_nothing_else(files: Files) -> None:
    """A finished tree is opened to readers just before it gets its name."""
    all_good(files, [MakeFolder(b"a", 0o700), put(b"a/file", b"x"), SetMode(b"a", 0o755)])

    assert one(files, Stat(b"a")).value.mode & 0o777 == 0o755
    assert one(files, Stat(b"a/file")).value == Attributes(Kind.FILE, 1, 1_600_000_000, 0o644)


def test_order_is_kept_and_later_operations_are_tried_after_a_failure(files: Files) -> None:
    """A flight of dependent steps is one round trip, and its answer says which of them were done."""
    ops: list[Op] = [MakeFolder(b"a"), Remove(b"gone"), MakeFolder(b"a/b"), put(b"a/b/c", b"c"), Read(b"a/b/c", 9)]

    outcomes = files.in_order(ops)
    assert [outcome.op for outcome in outcomes] == ops
    assert [outcome.good for outcome in outcomes] == [True, False, True, True, True]
    assert outcomes[-1].value == b"c"


def test_every_operation_of_a_large_flight_is_answered(files: Files) -> None:
    """Replies are counted one by one: none may be lost among hundreds."""
    ops = [put(b"file-%d" % n, b"%d" % n * (n % 50)) for n in range(300)]

    outcomes = list(files.carry_out(ops))
    assert sorted(outcome.op.path for outcome in outcomes if outcome.good) == sorted(op.path for op in ops)  # type: ignore[union-attr]  # all are puts
    assert len(one(files, List(b"")).value) == 300
    assert files.bytes_moved()[0] == sum(op.size for op in ops)


def test_after_abort_nothing_more_is_done(files: Files) -> None:
    """Stopping must not wait for a peer that never answers."""
    started = time.monotonic()
    files.abort()

    with pytest.raises(Cancelled):
        one(files, Stat(b""))
    assert time.monotonic() - started < 5.0
