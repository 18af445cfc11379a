"""The demo's SFTP host: who may come in, how far, and what becomes of a publish that it breaks off."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from mirrord.demo.sftpd import Cut, Session, SftpHost, new_key
from mirrord.errors import MirrordError, Refused, Unavailable
from mirrord.hosts.files import List, MakeFolder, Outcome, Put, Read, Stat, Symlink, Trouble
from mirrord.hosts.sftp import wire
from mirrord.hosts.sftp.session import SftpFiles
from mirrord.manifest import Signed
from tests.demo_hosts import PRIVATE, account_of, host_of
from tests.grounds import Ground
from tests.lab.processes import program
from tests.lab.waiting import until
from tests.publish_to_be_killed import Victims
from tests.publishing import Publisher, release_of

SITE = {
    b"index.html": b"<h1>one</h1>",
    b"a/b/deep.txt": b"deep",
    b"a/empty": b"",
    b"odd \xff\nname": b"odd",
    b"photo.png": b"\x89PNG" * 99,
}
NEXT = {**SITE, b"index.html": b"<h1>two</h1>", b"new/page": b"new"}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SftpHost]:
    with host_of(tmp_path / "account") as host:
        yield host


@pytest.fixture
def files(host: SftpHost) -> Iterator[SftpFiles]:
    files = SftpFiles.open(account_of(host))
    yield files
    files.close()


def one(files: SftpFiles, op: List | MakeFolder | Put | Read | Stat | Symlink) -> Outcome:
    (outcome,) = files.in_order([op])
    return outcome


# Who comes in


def test_openssh_finds_an_ordinary_sftp_host(host: SftpHost, tmp_path: Path) -> None:
    """Client and host share a codec here: only another client shows that it is SFTP."""
    key = tmp_path / "key"
    key.write_bytes(PRIVATE)
    key.chmod(0o600)
    known = tmp_path / "known_hosts"
    known.write_text(f"[{host.address}]:{host.port} {host.host_key}\n")
    (tmp_path / "page.html").write_bytes(b"page\n" * 30_000)
    orders = [
        "mkdir folder",
        f"put -p {tmp_path}/page.html folder/page.html",
        "rename folder/page.html folder/new.html",
        "ln folder/new.html folder/hard.html",
        "ln -s folder link",
        "chmod 600 folder/hard.html",
        "ls -la folder",
        "df",
        "get link/new.html " + str(tmp_path / "back.html"),
        "rm folder/hard.html",
        "rmdir folder",  # it is not empty: refused, and the rest goes on
    ]
    command = [program("sftp"), "-b", "-", "-P", str(host.port), "-i", str(key), "-F", "none"]
    options = ["-o", f"UserKnownHostsFile={known}", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes"]

    done = subprocess.run(
        [*command, *options, f"{host.user}@{host.address}"],
        input="\n".join(f"-{order}" for order in orders) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "back.html").read_bytes() == b"page\n" * 30_000
    assert (host.folder / "link").readlink() == Path("folder")
    assert [path.name for path in (host.folder / "folder").iterdir()] == ["new.html"]
    assert "hard.html" in done.stdout


def test_a_strangers_key_is_refused(host: SftpHost) -> None:
    """The demo shows what a real host does."""
    stranger, _ = new_key()

    with pytest.raises(Refused, match="does not take our key"):
        SftpFiles.open(replace(account_of(host), key=lambda: stranger))


def test_another_users_name_is_refused(host: SftpHost) -> None:
    """One account, one user."""
    with pytest.raises(Refused, match="does not take our key"):
        SftpFiles.open(replace(account_of(host), user="root"))


def test_each_host_has_a_key_of_its_own(host: SftpHost, tmp_path: Path) -> None:
    """A pinned key that fits every host would pin nothing."""
    with host_of(tmp_path / "other") as other, pytest.raises(Refused, match="its key is not the pinned one"):
        SftpFiles.open(replace(account_of(other), host_key=host.host_key))


def test_there_is_sftp_and_nothing_else(host: SftpHost) -> None:
    """No shell, no command, no forwarding: an account as hosters give it."""
    transport = paramiko.Transport((host.address, host.port))
    key = paramiko.Ed25519Key.from_private_key_file(_written(host.folder.parent / "key"))
    transport.connect(username=host.user, pkey=key)
    try:
        for verb, *what in (("exec_command", "id"), ("invoke_shell",), ("get_pty",), ("invoke_subsystem", "netconf")):
            with pytest.raises(paramiko.SSHException):
                getattr(transport.open_session(), verb)(*what)
        with pytest.raises(paramiko.ChannelException):
            transport.open_channel("direct-tcpip", ("127.0.0.1", 22), ("127.0.0.1", 1))
    finally:
        transport.close()


def _written(path: Path) -> str:
    path.write_bytes(PRIVATE)
    return str(path)


# How far


@pytest.mark.parametrize("path", [b"../secret", b"/../secret", b"a/../../secret", b"../../../../etc/passwd"])
def test_dots_do_not_lead_out(host: SftpHost, files: SftpFiles, path: bytes) -> None:
    """Whoever tries the demo has files of his own beside it."""
    (host.folder.parent / "secret").write_text("secret")

    assert one(files, Read(path, 100)).trouble is Trouble.MISSING


@pytest.mark.parametrize("target", [b"..", b"../secret", b"/", b"/etc", b"/etc/passwd"])
def test_links_do_not_lead_out(host: SftpHost, files: SftpFiles, target: bytes) -> None:
    """A link may say what it likes; nothing is read, listed, written or changed through it."""
    (host.folder.parent / "secret").write_text("secret")
    one(files, Symlink(target, b"out"))

    for path in (b"out", b"out/secret", b"out/passwd", b"out/account/../secret"):
        assert one(files, Read(path, 100)).trouble is not None
    assert one(files, List(b"out")).trouble is Trouble.DENIED
    assert one(files, MakeFolder(b"out/new")).trouble is Trouble.DENIED
    assert not (host.folder.parent / "new").exists()


def test_links_within_are_followed(host: SftpHost, files: SftpFiles) -> None:
    """`current` is one."""
    (host.folder / "releases" / "1").mkdir(parents=True)
    (host.folder / "releases" / "1" / "page").write_bytes(b"page")
    one(files, Symlink(b"releases/1", b"current"))

    assert one(files, Read(b"current/page", 100)).value == b"page"
    assert list(one(files, List(b"current")).value) == [b"page"]


# What cannot be understood


def session_in(folder: Path) -> Session:
    return Session(os.fsencode(folder))


def ask(session: Session, request: wire.Request) -> wire.Reply:
    return session.answer(wire.encode(7, request)[4:])[1]


@pytest.mark.parametrize(
    "packet",
    [b"\x63\0\0\0\x07", b"\x03\0\0\0\x07\0\0\0\xff", b"\x06\0\0\0\x07", b"\x03\0\0\0\x07" + b"\xff" * 40],
    ids=["unknown type", "broken off", "nothing in it", "lengths that lie"],
)
def test_a_packet_that_makes_no_sense_is_refused_by_its_number(tmp_path: Path, packet: bytes) -> None:
    """One bad request is answered, and the next one is done."""
    session = session_in(tmp_path)

    number, reply = session.answer(packet)
    assert number == 7
    assert isinstance(reply, wire.Status)
    assert reply.code == wire.Code.BAD_MESSAGE
    assert isinstance(ask(session, wire.OpenDir(b".")), wire.Handle)


@pytest.mark.parametrize(
    "request_",
    [
        wire.Close(b"9"),
        wire.Read(b"9", 0, 10),
        wire.Write(b"9", 0, b"x"),
        wire.ReadDir(b"9"),
        wire.FStat(b"9"),
        wire.FSetStat(b"9", wire.Attrs(mode=0o600)),
        wire.FSync(b"9"),
    ],
    ids=lambda request: type(request).__name__,
)
def test_a_handle_that_is_not_open_is_a_failure(tmp_path: Path, request_: wire.Request) -> None:
    """A client's mistake must not end the session."""
    reply = ask(session_in(tmp_path), request_)

    assert isinstance(reply, wire.Status)
    assert reply.code == wire.Code.FAILURE


def test_a_thousand_handles_are_enough(tmp_path: Path) -> None:
    """A client that never closes gets an error, and this process keeps its descriptors."""
    session = session_in(tmp_path)
    (tmp_path / "page").write_bytes(b"")

    replies = [ask(session, wire.Open(b"page", int(wire.OpenFlags.READ))) for _ in range(1001)]
    session.close()
    assert all(isinstance(reply, wire.Handle) for reply in replies[:1000])
    assert isinstance(replies[1000], wire.Status)


def test_an_extension_that_it_does_not_know_is_unsupported(tmp_path: Path) -> None:
    """Clients try, and go another way."""
    reply = ask(session_in(tmp_path), wire.Extended(b"space-available", b""))

    assert isinstance(reply, wire.Status)
    assert reply.code == wire.Code.OP_UNSUPPORTED


def test_a_plain_rename_never_replaces(tmp_path: Path) -> None:
    """As version 3 has it: what replaces is an extension of its own."""
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "new").write_bytes(b"new")
    session = session_in(tmp_path)

    plain = ask(session, wire.Rename(b"old", b"new"))
    assert isinstance(plain, wire.Status)
    assert plain.code == wire.Code.FAILURE
    assert ask(session, wire.PosixRename(b"old", b"new")) == wire.Status(0, b"Success")
    assert (tmp_path / "new").read_bytes() == b"old"


# Taken off the net


def test_unplugged_it_breaks_off_and_plugged_in_it_is_found_again(host: SftpHost, files: SftpFiles) -> None:
    """A lost datacentre: open connections break, new ones are refused; later the same host is back."""
    port = host.port
    host.unplug()

    with pytest.raises(Unavailable):
        one(files, Stat(b"."))
    with pytest.raises(Unavailable, match="Connection refused"):
        SftpFiles.open(account_of(host))
    host.plug()
    again = SftpFiles.open(account_of(host))
    assert host.port == port
    assert one(again, Stat(b"")).good
    again.close()


def test_stopping_leaves_no_thread_behind(tmp_path: Path) -> None:
    """The demo cleans up."""
    before = set(threading.enumerate())
    with host_of(tmp_path / "account") as host:
        files = SftpFiles.open(account_of(host))
        assert one(files, Stat(b"")).good

    files.close()
    until(lambda: set(threading.enumerate()) <= before)


# Broken off


class Breaking:
    """Counts what the host does, and breaks the connection when it did one thing and has not said so."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.passed = 0
        self._lock = threading.Lock()

    def __call__(self, _: wire.Request, reply: wire.Reply | None) -> None:
        """Let a request that was done be answered, or not."""
        with self._lock:
            self.passed += reply is not None
            here = reply is not None and self.passed == self.at
        if here:
            raise Cut


def publish(host: SftpHost, publisher: Publisher, signed: Signed) -> bool:
    """Publish once; tell whether that went well."""
    try:
        files = SftpFiles.open(account_of(host), channels=1)
    except MirrordError:
        return False
    try:
        return publisher.publish(files, signed).result == "published"
    except MirrordError:
        return False
    finally:
        files.close()


def read(host: SftpHost) -> dict[bytes, bytes]:
    """Return what a reader gets."""
    return Ground("demo", lambda: SftpFiles.open(account_of(host)), host.folder).served()


def test_a_publish_broken_off_at_any_point_shows_readers_the_old_or_the_new(tmp_path: Path) -> None:
    """
    After each request that was done and not answered, so before the next one: readers see one whole release or
    the other, the next publish succeeds, and nothing is left behind.
    """
    publisher = Publisher()
    old, new = publisher.take(SITE), publisher.take(NEXT)
    before, after = release_of(old, publisher.content), release_of(new, publisher.content)
    with host_of(tmp_path / "first") as host:
        assert publish(host, publisher, old)
        shutil.copytree(host.folder, tmp_path / "old", symlinks=True)
        host.gate = counting = Breaking()
        assert publish(host, publisher, new)
        usual = _left(host.folder)

    for point in range(1, counting.passed + 1):
        shutil.copytree(tmp_path / "old", tmp_path / "account", symlinks=True)
        with host_of(tmp_path / "account", gate=Breaking(point)) as host:
            publish(host, publisher, new)
            host.gate = None
            assert read(host) in (before, after), f"broken off at {point}"
            publish(host, publisher, new)
            assert read(host) == after, f"broken off at {point}"
            assert _left(host.folder) == usual, f"broken off at {point}"
        shutil.rmtree(tmp_path / "account")


class Killing:
    """Counts what the host is asked to do, and kills who asks before it does one thing."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.passed = 0
        self.victim = 0
        self.known = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, _: wire.Request, reply: wire.Reply | None) -> None:
        """Let a request be done, or not."""
        with self._lock:
            self.passed += reply is None
            here = reply is None and self.passed == self.at
        if here:
            self.known.wait()
            os.kill(self.victim, signal.SIGKILL)
            raise Cut


def test_a_publish_killed_at_any_point_leaves_a_lock_that_is_in_nobodys_way(tmp_path: Path) -> None:
    """
    Before each request, so after each reply: the lock of the killed process is taken over at once, for this machine
    knows that it is gone. Readers see one whole release or the other, and nothing is left behind.
    """
    with Victims([SITE, NEXT]) as victims:
        before, after = (release_of(signed, victims.publisher.content) for signed in victims.taken)
        with host_of(tmp_path / "first") as host:
            victims.publish(account_of(host), 0)
            shutil.copytree(host.folder, tmp_path / "old", symlinks=True)
            host.gate = counting = Killing()
            victims.begin(account_of(host), 1)
            assert victims.ended() == 0
            usual = _left(host.folder)

        for point in range(1, counting.passed + 1):
            shutil.copytree(tmp_path / "old", tmp_path / "account", symlinks=True)
            with host_of(tmp_path / "account", gate=(killing := Killing(point))) as host:
                killing.victim = victims.begin(account_of(host), 1)
                killing.known.set()
                assert victims.ended() == -signal.SIGKILL, f"killed at {point}"
                host.gate = None
                assert read(host) in (before, after), f"killed at {point}"
                victims.publish(account_of(host), 1)
                assert read(host) == after, f"killed at {point}"
                assert _left(host.folder) == usual, f"killed at {point}"
            shutil.rmtree(tmp_path / "account")
        assert victims.watched < counting.passed // 10, "only a lock file that was not yet written is nobody's"


def _left(account: Path) -> list[str]:
    """Return what stands in an account beside the content of its releases."""
    found = (str(path.relative_to(account)) for path in account.rglob("*"))
    kept = (".mirrord/left.", ".mirrord/trash")  # when something was served last; the empty folder of what is dropped
    return sorted(path for path in found if path.count("/") < 2 and not path.startswith(kept))
