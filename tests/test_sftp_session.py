"""An account over SFTP, on a real OpenSSH server."""

from __future__ import annotations

import gc
import hashlib
import importlib
import inspect
import io
import logging
import os
import pkgutil
import random
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import paramiko
import pytest
from paramiko.buffered_pipe import BufferedPipe

from mirrord.demo.sftpd import SftpHost, new_key
from mirrord.errors import BadConfig, Cancelled, MirrordError, Refused, Silent, Unavailable
from mirrord.hosts.account import Account
from mirrord.hosts.bandwidth import Bandwidth, Window
from mirrord.hosts.files import (
    Attributes,
    Create,
    Kind,
    Link,
    List,
    MakeFolder,
    Op,
    Outcome,
    Pulse,
    Put,
    Read,
    ReadLink,
    Remove,
    RemoveFolder,
    Rename,
    Rewrite,
    SetMode,
    Space,
    Stat,
    Symlink,
    Trouble,
    Walk,
)
from mirrord.hosts.sftp.session import MEANINGS, SftpFiles, _Bell, translate
from tests.conftest import Lab
from tests.lab.proxy import Proxy
from tests.lab.sftp import make_key, public_line
from tests.lab.sshd import Sshd
from tests.lab.waiting import until

MTIME = 1_234_567_890


def account_of(host: Sshd, proxy: Proxy | None = None) -> Account:
    """Return the way into a host's account."""
    return Account(
        mirror="lyon",
        host=host.host,
        port=proxy.port if proxy else host.port,
        user=host.user,
        key=host.client_key_path.read_bytes,
        host_key=host.host_key_line,
        root=host.remote_root,
    )


@pytest.fixture(scope="module")
def host(module_lab: Lab) -> Sshd:
    """A host that the quiet tests share."""
    return module_lab.sshd(chroot=True)


@pytest.fixture
def files(host: Sshd) -> Iterator[SftpFiles]:
    """The account's files, in a new folder of its own."""
    folder = f"{host.remote_root}/{os.urandom(4).hex()}"
    files = SftpFiles.open(replace(account_of(host), root=folder))
    assert files.in_order([MakeFolder(b"")])[0].good
    yield files
    files.close()


def here(host: Sshd, files: SftpFiles) -> Path:
    """Return where the account's folder lies on this disk."""
    return host.root / Path(files._account.root).name


def put(path: bytes, data: bytes, mode: int = 0o644) -> Put:
    """Return the writing of a file."""
    return Put(path, len(data), MTIME, mode, lambda: io.BytesIO(data), hashlib.sha256(data).digest())


def do(files: SftpFiles, *ops: Op) -> list[Outcome]:
    """Carry out operations and return their outcomes in the same order."""
    outcomes = list(files.carry_out(ops))
    return [next(outcome for outcome in outcomes if outcome.op is op) for op in ops]


def troubles(outcomes: list[Outcome]) -> list[Trouble | None]:
    return [outcome.trouble for outcome in outcomes]


# Files --------------------------------------------------------------------------------------------------

NAMES = [
    b"plain",
    b"with space",
    b"new\nline",
    b"quote'\"",
    b"\xff\xfe not UTF-8",
    b"n\xc3\xa9",
    b"ne\xcc\x81",
    b"-",
    b"\\",
]


def test_files_arrive_with_bytes_mode_and_time_whatever_their_names(host: Sshd, files: SftpFiles) -> None:
    """A name is bytes: both normal forms of an accent are two files, and a newline is nothing special."""
    outcomes = do(files, *(put(name, b"I am " + name, 0o640) for name in NAMES), put(b"empty", b""))

    assert [outcome for outcome in outcomes if not outcome.good] == []
    folder = os.fsencode(here(host, files))
    assert sorted(entry.name for entry in os.scandir(folder)) == sorted([*NAMES, b"empty"])
    for name in NAMES:
        path = folder + b"/" + name
        with open(path, "rb") as file:  # noqa: PTH123 - a name of bytes
            assert file.read() == b"I am " + name
        about = os.stat(path)  # noqa: PTH116 - a name of bytes
        assert (stat.S_IMODE(about.st_mode), about.st_mtime) == (0o640, MTIME)


def test_listings_tell_names_kinds_sizes_times_and_modes(files: SftpFiles) -> None:
    """What is staged is compared with the plan by these."""
    do(files, *(put(name, name * 3) for name in NAMES), MakeFolder(b"folder", 0o750), Symlink(b"plain", b"link"))
    do(files, put(b"folder/inner", b"x"), MakeFolder(b"folder/deep"))
    do(files, *(put(b"folder/deep/%d" % n, b"") for n in range(350)))

    listing, walk, inner = do(files, List(b""), Walk(b""), Walk(b"folder"))

    assert set(listing.value) == {*NAMES, b"folder", b"link"}
    assert listing.value[b"plain"] == Attributes(Kind.FILE, 15, MTIME, 0o644)
    assert listing.value[b"link"].kind is Kind.LINK
    assert (listing.value[b"folder"].kind, listing.value[b"folder"].mode) == (Kind.FOLDER, 0o750)
    deep = {b"folder/deep/%d" % n for n in range(350)}
    assert set(walk.value) == {*listing.value, b"folder/inner", b"folder/deep"} | deep
    assert {b"folder/" + path for path in inner.value} == {b"folder/inner", b"folder/deep"} | deep


def test_five_thousand_small_files_arrive(host: Sshd, files: SftpFiles) -> None:
    """A site is thousands of small files; they are pulled as room is."""
    dice = random.Random(5)
    content = {b"%d/%d" % (n % 50, n): dice.randbytes(dice.randrange(3000)) for n in range(5000)}
    assert all(o.good for o in files.in_order([MakeFolder(b"%d" % n) for n in range(50)]))

    outcomes = list(files.carry_out(put(path, data) for path, data in content.items()))

    assert len(outcomes) == 5000
    assert all(outcome.good for outcome in outcomes)
    folder = here(host, files)
    assert all((folder / os.fsdecode(path)).read_bytes() == data for path, data in content.items())
    assert files.bytes_moved() == (sum(map(len, content.values())), 0)


def test_a_large_file_arrives_beside_small_ones_and_comes_back(host: Sshd, files: SftpFiles) -> None:
    """More than any window and any block."""
    data = random.Random(7).randbytes(30_000_000)
    do(files, put(b"large", data), *(put(b"%d" % n, b"small") for n in range(100)))

    (outcome,) = do(files, Read(b"large", len(data)))

    assert outcome.value == data
    assert (here(host, files) / "large").read_bytes() == data
    assert files.bytes_moved()[1] == len(data)


def test_reading_minds_its_limit(files: SftpFiles) -> None:
    """A hostile host may offer a card without end."""
    do(files, put(b"f", b"12345"), put(b"empty", b""))

    whole, longer, empty, missing = do(files, Read(b"f", 5), Read(b"f", 4), Read(b"empty", 0), Read(b"none", 9))

    assert (whole.value, empty.value) == (b"12345", b"")
    assert troubles([longer, missing]) == [Trouble.FAILED, Trouble.MISSING]


def test_links_and_renames_do_what_layouts_stand_on(host: Sshd, files: SftpFiles) -> None:
    """Unchanged files are linked; `current` is a link that is replaced in one step."""
    do(files, put(b"a", b"old"), MakeFolder(b"one"), MakeFolder(b"two"))

    outcomes = files.in_order(
        [
            Link(b"a", b"b"),
            Symlink(b"one", b"current"),
            Symlink(b"two", b"next"),
            Rename(b"next", b"current", over=True),
            ReadLink(b"current"),
            Stat(b"current"),
            Rename(b"a", b"b"),
            Rename(b"one", b"uno"),
        ]
    )

    assert troubles(outcomes) == [None, None, None, None, None, None, Trouble.FAILED, None]
    assert outcomes[4].value == b"two"
    assert outcomes[5].value.kind is Kind.LINK
    folder = here(host, files)
    assert (folder / "b").stat().st_nlink == 2
    assert (folder / "uno").is_dir()


def test_what_exists_is_neither_made_again_nor_truncated(host: Sshd, files: SftpFiles) -> None:
    """A lock is made by exactly one; a late request of an old connection harms nothing."""
    assert do(files, Create(b"lock", b"mine", 0o600))[0].good

    second, over, beat, lost = do(
        files, Create(b"lock", b"theirs"), put(b"lock", b"x"), Rewrite(b"lock", b"MI"), Rewrite(b"gone", b"x")
    )

    assert troubles([second, over, beat, lost]) == [Trouble.FAILED, Trouble.FAILED, None, Trouble.MISSING]
    assert (here(host, files) / "lock").read_bytes() == b"MIne"
    assert stat.S_IMODE((here(host, files) / "lock").stat().st_mode) == 0o600
    assert not (here(host, files) / "gone").exists()


def test_each_trouble_is_told_apart(host: Sshd, files: SftpFiles) -> None:
    """That one operation failed is an outcome, and the others are done all the same."""
    closed = here(host, files) / "closed"
    closed.mkdir(mode=0o555)
    files.in_order([MakeFolder(b"full"), put(b"full/f", b"x")])

    outcomes = do(
        files,
        put(b"closed/f", b"x"),
        Remove(b"none"),
        List(b"none"),
        RemoveFolder(b"full"),
        put(b"none/f", b"x"),
        MakeFolder(b"none/f"),
        ReadLink(b"none"),
        Stat(b"none"),
        put(b"good", b"x"),
    )

    assert troubles(outcomes) == [
        Trouble.DENIED,
        Trouble.MISSING,
        Trouble.MISSING,
        Trouble.FAILED,
        Trouble.MISSING,
        Trouble.MISSING,
        Trouble.MISSING,
        Trouble.MISSING,
        None,
    ]
    assert outcomes[0].text == "Permission denied"


def test_free_space_is_that_of_the_disk(host: Sshd, files: SftpFiles) -> None:
    """Asked before a byte is sent."""
    (outcome,) = do(files, Space(b""))

    about = os.statvfs(host.root)
    assert abs(outcome.value - about.f_bavail * about.f_frsize) < 1 << 30


def test_modes_are_set_in_spite_of_the_hosts_umask(lab: Lab) -> None:
    """With umask 077 the web server could read nothing."""
    host = lab.sshd(umask="077")
    files = SftpFiles.open(account_of(host))
    outcomes = files.in_order([MakeFolder(b"d", 0o755), put(b"d/f", b"x", 0o644), Create(b"c", b"x", 0o640)])
    outcomes += files.in_order([MakeFolder(b"s"), SetMode(b"s", 0o711)])
    files.close()

    assert all(outcome.good for outcome in outcomes)
    modes = {path: stat.S_IMODE((host.root / path).stat().st_mode) for path in ("d", "d/f", "c", "s")}
    assert modes == {"d": 0o755, "d/f": 0o644, "c": 0o640, "s": 0o711}


def test_a_damaged_copy_of_ours_is_noticed_and_leaves_no_mark(host: Sshd, files: SftpFiles) -> None:
    """The mtime marks a whole and right file; this one must not look like one."""
    op = replace(put(b"f", b"data"), digest=hashlib.sha256(b"date").digest())

    (outcome,) = do(files, op)

    assert outcome.trouble is Trouble.DAMAGED
    assert (here(host, files) / "f").stat().st_mtime != MTIME


def test_what_the_host_does_not_offer_is_unsupported_and_seen_in_the_traits(lab: Lab) -> None:
    """The layouts then choose another way."""
    host = lab.sshd(denied=["hardlink", "posix-rename", "statvfs", "limits"])
    files = SftpFiles.open(account_of(host))
    do(files, put(b"a", b"x" * 100_000))

    outcomes = do(files, Link(b"a", b"b"), Rename(b"a", b"c", over=True), Space(b""))
    files.close()

    assert not any(outcome.good for outcome in outcomes)
    assert files.traits.ordered


def test_fewer_channels_are_used_where_fewer_are_granted(lab: Lab) -> None:
    """MaxSessions 1 is common with hosters; it is slower, and works."""
    host = lab.sshd(max_sessions=1)
    files = SftpFiles.open(account_of(host))

    outcomes = list(files.carry_out(put(b"%d" % n, b"x") for n in range(300)))
    files.close()

    assert all(outcome.good for outcome in outcomes)
    assert len(files._channels) == 1


class HangsUp(SftpHost):
    """A host that closes the connection when SFTP is started a second time on it."""

    def begin(self, channel: paramiko.Channel) -> None:
        """Start SFTP, or hang up."""
        if channel.chanid:
            channel.get_transport().close()
        else:
            super().begin(channel)


@pytest.mark.parametrize("make", [SftpHost, HangsUp])
def test_a_server_of_another_make_is_worked_with(tmp_path: Path, make: type[SftpHost]) -> None:
    """It promises less order, and may not like several channels; everything else is the same."""
    private, public = new_key()
    with make(tmp_path, public_key=public) as host:
        account = Account("lyon", "127.0.0.1", host.port, host.user, lambda: private, host.host_key, root="site")
        files = SftpFiles.open(account)
        made = files.in_order(
            [MakeFolder(b""), MakeFolder(b"d", 0o750), put(b"d/f", b"x" * 100_000), Rename(b"d", b"e")]
        )
        sent = list(files.carry_out(put(b"%d" % n, b"y") for n in range(200)))
        walk, read, beat = do(files, Walk(b""), Read(b"e/f", 100_000), Rewrite(b"1", b"z"))
        channels = len(files._channels)
        files.close()

    assert all(outcome.good for outcome in (*made, *sent, beat))
    assert set(walk.value) == {b"e", b"e/f", *(b"%d" % n for n in range(200))}
    assert walk.value[b"e"].mode == 0o750
    assert read.value == b"x" * 100_000
    assert not files.traits.ordered
    assert channels == (1 if make is HangsUp else 4)


def test_a_host_that_allows_one_open_file_is_worked_with(lab: Lab) -> None:
    """Some do, and none does once it has no more names to give: what was read is closed before the next is opened."""
    files = SftpFiles.open(account_of(lab.sshd()))
    for lane in files._flow.lanes:
        lane._handle_limit = 1
    do(files, MakeFolder(b""), *(MakeFolder(b"%d" % n) for n in range(20)))
    began = time.monotonic()

    sent = do(files, *(put(b"%d/f" % (n % 20), b"%d" % n) for n in range(20)))
    listed = do(files, *(List(b"%d" % n) for n in range(20)))
    read = do(files, *(Read(b"%d/f" % n, 10) for n in range(20)))
    (walked,) = do(files, Walk(b""))
    files.close()

    assert all(outcome.good for outcome in (*sent, *listed, *read))
    assert len(walked.value) == 40
    assert [lane._handle_limit for lane in files._flow.lanes] == [1] * 4
    assert time.monotonic() - began < 10.0


def test_new_keys_in_the_middle_of_the_work_go_unnoticed(lab: Lab) -> None:
    """Either side may ask for new keys at any time; a long upload meets it."""
    host = lab.sshd(settings=["RekeyLimit 1M"])
    files = SftpFiles.open(account_of(host))
    data = random.Random(3).randbytes(300_000)

    outcomes = list(files.carry_out(put(b"%d" % n, data) for n in range(60)))
    (back,) = do(files, Read(b"59", len(data)))
    files.close()

    assert all(outcome.good for outcome in outcomes)
    assert back.value == data


def test_a_heartbeat_beats_while_one_large_file_is_sent(host: Sshd, files: SftpFiles) -> None:
    """A lock that is not rewritten is taken for dead."""
    do(files, Create(b"lock", b"0000"))
    beats = 0

    def beat() -> Op:
        nonlocal beats
        beats += 1
        return Rewrite(b"lock", b"%04d" % beats)

    data = bytes(60_000_000)
    outcomes = list(files.carry_out([put(b"large", data)], Pulse(0.02, beat)))

    assert beats > 3
    assert len(outcomes) == beats + 1
    assert all(outcome.good for outcome in outcomes)
    assert (here(host, files) / "lock").read_bytes() == b"%04d" % beats


def test_the_bandwidth_limit_holds(host: Sshd) -> None:
    """A publisher's own line has other users."""
    files = SftpFiles.open(replace(account_of(host), bandwidth=Bandwidth(1_000_000)))
    began = time.monotonic()
    name = os.urandom(4).hex().encode()

    outcomes = do(files, put(name, bytes(700_000)))
    files.close()

    assert outcomes[0].good
    assert 0.3 < time.monotonic() - began < 10.0


def test_a_transfer_that_runs_into_another_rate_goes_on_with_it(host: Sshd) -> None:
    """What began in the evening must not crawl on through the whole night."""
    hours = [datetime(2026, 11, 22, 21, 59, tzinfo=UTC)]
    evening = Bandwidth(100_000, (Window(22 * 60, 7 * 60, 0),))
    files = SftpFiles.open(replace(account_of(host), bandwidth=evening), local=lambda: hours[0])
    puts = [put(os.urandom(4).hex().encode(), bytes(100_000)) for _ in range(40)]
    began = time.monotonic()

    done = 0
    for outcome in files.carry_out(puts):
        assert outcome.good
        done += 1
        hours[0] = datetime(2026, 11, 22, 22, 0, tzinfo=UTC)
    files.close()

    assert done == 40
    assert 0.2 < time.monotonic() - began < 10.0  # at the rate of the evening, 40 s


# What goes wrong ----------------------------------------------------------------------------------------


def test_a_silent_host_is_given_up(lab: Lab) -> None:
    """A stalled upload must end, and TCP alone waits for a quarter of an hour."""
    host = lab.sshd()
    files = SftpFiles.open(account_of(host), stall=0.5)
    do(files, put(b"a", b"x"))

    host.pause()
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"lyon: .*no answer for"):
        do(files, put(b"b", bytes(50_000_000)))
    assert 0.4 < time.monotonic() - began < 10.0
    with pytest.raises(Unavailable):
        do(files, Stat(b"a"))
    files.close()
    host.resume()


def test_a_silent_host_is_given_up_where_the_bandwidth_is_limited_too(lab: Lab) -> None:
    """What is still to be paid for, of what was sent, is no reason to wait for an answer without end."""
    host = lab.sshd()
    files = SftpFiles.open(replace(account_of(host), bandwidth=Bandwidth(2_000_000)), stall=0.5)
    do(files, put(b"a", b"x"))

    host.pause()
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"lyon: .*no answer for"):
        do(files, *(Stat(b"%d/" % n + b"x" * 3000) for n in range(300)))
    assert 0.4 < time.monotonic() - began < 10.0
    files.close()
    host.resume()


def test_a_host_that_takes_the_connection_and_never_says_a_word_is_called_silent(lab: Lab) -> None:
    """Asking again would take as long again; one that said anything may have had a bad moment."""
    host = lab.sshd()
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(Silent, match="no answer in time"):
        SftpFiles.open(replace(account_of(host), host="127.0.0.1", port=server.getsockname()[1]), timeout=0.3)
    host.pause()
    with pytest.raises(Silent):
        SftpFiles.open(account_of(host), timeout=0.3)
    host.resume()


def test_a_host_that_falls_silent_after_its_greeting_is_not_called_so(lab: Lab) -> None:
    """Something came: the next moment may be better."""
    host = lab.sshd()
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as other_side:
        greeted = other_side.submit(lambda: server.accept()[0])
        account = replace(account_of(host), host="127.0.0.1", port=server.getsockname()[1])
        opened = other_side.submit(lambda: greeted.result().sendall(b"SSH-2.0-OpenSSH_9.2\r\n"))
        with pytest.raises(Unavailable) as caught:
            SftpFiles.open(account, timeout=0.5)
        opened.result()
        greeted.result().close()
    assert not isinstance(caught.value, Silent)


def test_an_idle_line_is_kept_alive(lab: Lab) -> None:
    """A mirror that stands ready may wait minutes for the others, and routers forget a line on which nothing passes."""
    host = lab.sshd()
    proxy = lab.proxy(host.host, host.port)
    files = SftpFiles.open(account_of(host, proxy), keepalive=0.2)
    do(files, put(b"a", b"x"))
    idle = proxy.passed("up")

    until(lambda: proxy.passed("up") > idle + 100, what="a few signs of life")
    files.close()


def test_a_host_that_takes_nothing_is_given_up(lab: Lab) -> None:
    """Where the line itself is full the sending waits, not the reading."""
    host = lab.sshd()
    proxy = lab.proxy(host.host, host.port)
    files = SftpFiles.open(account_of(host, proxy), stall=0.5)
    host.pause()

    with pytest.raises(Unavailable, match=r"no answer|timed out|closed"):
        list(files.carry_out(put(b"%d" % n, bytes(10_000_000)) for n in range(50)))
    files.close()
    host.resume()


def test_a_host_that_answers_late_is_not_given_up(lab: Lab) -> None:
    """Only silence counts: time that we spent elsewhere does not."""
    host = lab.sshd()
    files = SftpFiles.open(account_of(host), stall=0.5)
    elsewhere = threading.Event()

    outcomes = []
    for outcome in files.carry_out(put(b"%d" % n, b"x") for n in range(3)):
        elsewhere.wait(0.7)
        outcomes.append(outcome)
    files.close()

    assert len(outcomes) == 3


@pytest.mark.parametrize("way", ["working", "waiting"])
def test_aborting_returns_at_once_and_the_worker_is_told(lab: Lab, way: str) -> None:
    """A daemon that stops has five seconds for everything."""
    host = lab.sshd()
    files = SftpFiles.open(account_of(host))
    if way == "waiting":
        host.pause()
    raised: list[BaseException] = []

    def work() -> None:
        try:
            list(files.carry_out(put(b"%d" % n, bytes(1_000_000)) for n in range(1000)))
        except MirrordError as e:
            raised.append(e)

    worker = threading.Thread(target=work)
    worker.start()
    until(lambda: files.bytes_moved()[0] > 0 or way == "waiting")

    began = time.monotonic()
    files.abort()
    took = time.monotonic() - began
    worker.join(5.0)
    assert took < 2.0
    assert [type(error) for error in raised] == [Cancelled]
    with pytest.raises(Cancelled):
        do(files, Stat(b""))
    host.resume()


def test_a_cut_line_is_said_and_another_login_goes_on(lab: Lab) -> None:
    """The state is unknown then; whoever asked repeats it on a fresh connection."""
    host = lab.sshd()
    proxy = lab.proxy(host.host, host.port)
    files = SftpFiles.open(account_of(host, proxy))
    proxy.cut_after(500_000)

    with pytest.raises(Unavailable, match="lyon: "):
        list(files.carry_out(put(b"%d" % n, bytes(100_000)) for n in range(100)))
    files.close()
    again = SftpFiles.open(account_of(host, proxy))
    assert len(do(again, List(b""))[0].value) > 0
    again.close()


def test_leaving_early_makes_the_connection_unusable(files: SftpFiles) -> None:
    """What was under way is unknown; pretending otherwise would mix two pieces of work."""
    work = files.carry_out(put(b"%d" % n, b"x") for n in range(100))
    next(work)
    work.close()  # type: ignore[attr-defined]  # a generator

    with pytest.raises(Unavailable, match="broken off"):
        do(files, Stat(b""))


# Logging in ---------------------------------------------------------------------------------------------


def other_key(lab: Lab) -> Path:
    """Make a key that nobody knows."""
    return make_key(lab.folder("key") / "key")


def test_another_host_key_is_refused_before_we_log_in(lab: Lab, host: Sshd) -> None:
    """There is no trust on first use, nor on second."""
    account = replace(account_of(host), host_key=public_line(other_key(lab)))

    with pytest.raises(
        Refused, match=r"lyon: connecting to .*: its key is not the pinned one.*re-installed, update host_key"
    ):
        SftpFiles.open(account)
    assert "publickey" not in host.tail(2)


def test_a_host_without_a_key_of_the_pinned_type_is_refused_likewise(host: Sshd) -> None:
    """A re-installed host may have other types of keys; falling back to one of them would be trust on first use."""
    wanted = paramiko.ECDSAKey.generate()
    account = replace(account_of(host), host_key=f"{wanted.get_name()} {wanted.get_base64()}")

    with pytest.raises(Refused, match=r"its key is not the pinned one \(ecdsa-sha2-nistp256\)"):
        SftpFiles.open(account)


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_any_one_key_of_the_host_can_be_the_pinned_one(lab: Lab, kind: str) -> None:
    """A host has several; the library's favourite must not decide which one it shows."""
    key = lab.folder("key") / kind
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(key)], check=True)
    host = lab.sshd(settings=[f"HostKey {key}"])

    files = SftpFiles.open(replace(account_of(host), host_key=public_line(key)))
    assert do(files, Stat(b""))[0].good
    files.close()


def test_a_key_that_the_host_does_not_take_is_refused_with_the_way_out(lab: Lab, host: Sshd) -> None:
    """The line to add is said, so that nobody has to look for it."""
    key = other_key(lab)

    with pytest.raises(Refused, match=r"lyon: logging in as .*authorized_keys") as caught:
        SftpFiles.open(replace(account_of(host), key=key.read_bytes))
    assert public_line(key) in str(caught.value)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_every_usual_kind_of_key_logs_in(lab: Lab, kind: str) -> None:
    """Operators have the keys they have."""
    host = lab.sshd()
    key = host.folder / kind
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(key)], check=True)
    with (host.folder / "authorized_keys").open("a") as file:
        file.write(public_line(key) + "\n")

    files = SftpFiles.open(replace(account_of(host), key=key.read_bytes))
    assert do(files, Stat(b""))[0].good
    files.close()


def test_an_encrypted_key_is_refused_with_the_way_out(lab: Lab, host: Sshd) -> None:
    """Nobody is there to type a passphrase at night."""
    key = lab.folder("key") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret words", "-f", str(key)], check=True)

    with pytest.raises(Refused, match=r"lyon: reading the private key: it is encrypted.*ssh-keygen"):
        SftpFiles.open(replace(account_of(host), key=key.read_bytes))


@pytest.mark.parametrize(
    "text", [b"", b"rubbish", b"\xff\xfe", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", "public", "half"]
)
def test_what_is_no_private_key_is_refused_without_showing_it(host: Sshd, text: bytes | str) -> None:
    """The message may go to a log; the key may not."""
    whole = host.client_key_path.read_bytes()
    text = {"public": public_line(host.client_key_path).encode(), "half": whole[: len(whole) // 2]}.get(str(text), text)
    assert isinstance(text, bytes)

    with pytest.raises(Refused, match="not a private key") as caught:
        SftpFiles.open(replace(account_of(host), key=lambda: text))
    assert text == b"" or text.decode("utf-8", "replace") not in str(caught.value)


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-dss AAAA", "ssh-ed25519 !!!!", "AAAA ssh-ed25519"])
def test_what_is_no_public_key_is_a_fault_of_the_configuration(host: Sshd, line: str) -> None:
    """It is found before anybody is asked for anything."""
    with pytest.raises(BadConfig, match="lyon: host_key"):
        SftpFiles.open(replace(account_of(host), host_key=line))


def test_nobody_at_the_port_is_unavailable(host: Sshd, lab: Lab) -> None:
    """That is repeated later; nobody has to act."""
    gone = lab.sshd(start=False)

    with pytest.raises(Unavailable, match=r"lyon: connecting to .*: Connection refused"):
        SftpFiles.open(replace(account_of(host), port=gone.port))
    with pytest.raises(Unavailable, match=r"lyon: connecting to nowhere.invalid port"):
        SftpFiles.open(replace(account_of(host), host="nowhere.invalid"))


def test_the_quickest_cipher_is_asked_for_first(host: Sshd) -> None:
    """A host takes the first that it knows (RFC 4253, 7.1): AES-GCM needs no digest beside it."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as crew:

        def listen() -> bytes:
            heard = b""
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"SSH-2.0-listener\r\n")
                while b"aes256-ctr" not in heard and (piece := connection.recv(65536)):
                    heard += piece
            return heard

        listening = crew.submit(listen)
        with pytest.raises(Unavailable):
            SftpFiles.open(replace(account_of(host), port=listener.getsockname()[1]))
        said = listening.result(10)

    assert 0 < said.index(b"aes128-gcm@openssh.com") < said.index(b"aes256-ctr")


@pytest.mark.parametrize("moment", ["on the line", "at the host"])
def test_a_host_that_says_nothing_is_given_up_in_time(lab: Lab, moment: str) -> None:
    """A login has a deadline as a whole, whatever it hangs in."""
    host = lab.sshd()
    proxy = lab.proxy(host.host, host.port)
    if moment == "on the line":
        proxy.stall()
    account = account_of(host, proxy)
    if moment == "at the host":
        host.pause()

    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"lyon: .*in time"):
        SftpFiles.open(account, timeout=0.7)
    assert time.monotonic() - began < 10.0
    host.resume()


def test_an_account_without_sftp_is_refused(lab: Lab) -> None:
    """A shell account whose administrator took the subsystem away."""
    host = lab.sshd(settings=["Match all", "ForceCommand /bin/echo This account is not for you"])
    with pytest.raises(MirrordError, match="lyon: starting SFTP: ") as caught:
        SftpFiles.open(account_of(host), timeout=5.0)
    assert type(caught.value) in (Refused, Unavailable)


def test_few_round_trips_lead_to_the_first_answer(lab: Lab) -> None:
    """The answer "nothing changed" is a login and a look; each round trip counts."""
    host = lab.sshd()
    proxy = lab.proxy(host.host, host.port, round_trip=0.2)
    began = time.monotonic()

    files = SftpFiles.open(account_of(host, proxy))
    (outcome,) = do(files, Stat(b""))
    took = time.monotonic() - began
    files.close()

    assert outcome.good
    # Versions and keys: 2, login and channels: 1, SFTP: 1, its greeting: 1, the look: 1.
    assert took / 0.2 < 7.0


# Manners ------------------------------------------------------------------------------------------------


def test_the_bell_rings_for_all_channels() -> None:
    """A channel that was emptied must not silence another that has something; the wait would last until the stall."""
    bell, one, other = _Bell(), BufferedPipe(), BufferedPipe()
    for pipe in (one, other):
        pipe.set_event(bell)  # type: ignore[arg-type]  # as session does
        pipe.feed("x")

    one.read(1)

    began = time.monotonic()
    bell.wait(5.0)
    assert time.monotonic() - began < 4.0


def test_every_exception_of_paramiko_becomes_one_of_ours() -> None:
    """One that is forgotten would reach the operator as a traceback."""
    found = set()
    for module in pkgutil.iter_modules(paramiko.__path__):
        if module.name in ("_winapi", "win_pageant", "win_openssh"):
            continue
        names = importlib.import_module(f"paramiko.{module.name}")
        for kind in vars(names).values():
            if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__.startswith("paramiko"):
                found.add(kind)

    assert len(found) > 15
    assert found - set(MEANINGS) == set()


@pytest.mark.parametrize(
    "error", [EOFError(), OSError(113, "No route to host"), paramiko.SSHException(), TimeoutError()]
)
def test_a_translated_error_says_who_and_what(error: Exception) -> None:
    """Even where the library says nothing."""
    text = str(translate(error, "lyon: connecting"))

    assert text.startswith("lyon: connecting: ")
    assert len(text) > len("lyon: connecting: ")


def test_the_library_does_not_talk_to_the_operator(host: Sshd, caplog: pytest.LogCaptureFixture) -> None:
    """It logs errors with tracebacks; what matters of them is in our own error."""
    caplog.set_level(logging.INFO)

    with pytest.raises(Refused):
        SftpFiles.open(replace(account_of(host), user="nobody-knows"))
    files = SftpFiles.open(account_of(host))
    files.close()

    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


def test_who_wants_to_hear_more_is_not_told_every_packet(host: Sshd, caplog: pytest.LogCaptureFixture) -> None:
    """`sync --dry-run -v` names files: a hundred lines about algorithms for each mirror would hide them."""
    caplog.set_level(logging.DEBUG)

    SftpFiles.open(account_of(host)).close()

    assert 0 < len(caplog.records) < 5


def test_the_key_shows_in_no_repr(host: Sshd) -> None:
    """Values are printed in logs and reports."""
    secret = host.client_key_path.read_text().splitlines()[1]
    account = replace(account_of(host), key=secret.encode)

    assert secret not in repr(account)
    assert "built-in" not in repr(account)


PROGRAM = """
import sys
from mirrord.errors import MirrordError
from mirrord.hosts.account import Account
from mirrord.hosts.files import Stat
from mirrord.hosts.sftp.session import SftpFiles

host, port, user, key, host_key, way = sys.argv[1:]
account = Account("lyon", host, int(port), user, open(key, "rb").read, host_key)
try:
    files = SftpFiles.open(account, timeout=10.0)
    print(list(files.carry_out([Stat(b"")]))[0].good, flush=True)
except MirrordError as e:
    print(e, flush=True)
if way == "paused":
    sys.stdin.readline()
"""


@pytest.mark.parametrize("way", ["open", "paused", "wrong key", "wrong type"])
def test_a_process_ends_although_a_connection_is_open(lab: Lab, way: str) -> None:
    """Threads of the library must not hold a verb back, not even with a host that hangs."""
    host = lab.sshd()
    other = paramiko.ECDSAKey.generate()
    wrong = {"wrong key": public_line(other_key(lab)), "wrong type": f"{other.get_name()} {other.get_base64()}"}
    pinned = wrong.get(way, host.host_key_line)
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        host.host,
        str(host.port),
        host.user,
        str(host.client_key_path),
        pinned,
        way,
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        began = time.monotonic()
        if way == "paused":
            host.pause()
            process.communicate("\n", timeout=10.0)
        process.wait(10.0)
    host.resume()

    assert ("not the pinned one" if way in wrong else "True") in said
    assert process.returncode == 0
    assert time.monotonic() - began < 5.0


def test_nothing_is_left_open(lab: Lab) -> None:
    """A daemon logs in some hundred times a day."""
    host = lab.sshd()

    def used() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir())) + threading.active_count()

    other = paramiko.ECDSAKey.generate()
    stranger = replace(account_of(host), user="nobody-knows")
    impostor = replace(account_of(host), host_key=f"{other.get_name()} {other.get_base64()}")
    SftpFiles.open(account_of(host)).close()
    before = until(used)
    for _ in range(5):
        files = SftpFiles.open(account_of(host))
        do(files, Stat(b""))
        files.close()
        for refused in (stranger, impostor):
            with pytest.raises(Refused):
                SftpFiles.open(refused)

    until(lambda: used() <= before, what="sockets and threads to go")
    until(lambda: host.sessions == 0, what="the host's sessions to end")
