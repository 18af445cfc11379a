"""How many channels and connections a host is asked for, and what it takes to work with servers of all makes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from io import BytesIO

import pytest

from mirrord.errors import Unavailable
from mirrord.hosts.files import MakeFolder, Put, Read, Stat
from mirrord.hosts.sftp.manners import FORGOTTEN_AFTER, Manner, Manners
from mirrord.hosts.sftp.session import SftpFiles
from tests.conftest import Lab
from tests.grounds import SERVERS, account_on
from tests.lab.sftp import SftpServer

MAKES = ("sshd", "sshd plain", "proftpd", "rclone", "asyncssh", "paramiko")
BLOCK = bytes(range(256)) * 2048


def puts(count: int, size: int = len(BLOCK)) -> list[Put]:
    """Files that each begin with their number."""
    contents = [b"%08d" % n + BLOCK[: size - 8] for n in range(count)]
    return [
        Put(b"%d" % n, size, 1_600_000_000, 0o644, lambda data=data: BytesIO(data), hashlib.sha256(data).digest())  # type: ignore[misc]  # the default binds it
        for n, data in enumerate(contents)
    ]


def fill(files: SftpFiles, count: int) -> None:
    """Send so much that a window is what limits it, and see that all of it arrived."""
    (made,) = files.carry_out([MakeFolder(b"")])
    ops = puts(count)
    outcomes = list(files.carry_out(ops))
    assert made.good
    assert [outcome.text for outcome in outcomes if not outcome.good] == []
    assert len(outcomes) == count
    for op in ops[::7]:
        (read,) = files.carry_out([Read(op.path, len(BLOCK))])
        assert hashlib.sha256(read.value).digest() == op.digest


def test_a_host_with_one_channel_a_connection_is_asked_for_more_connections_when_there_is_much(lab: Lab) -> None:
    """MaxSessions 1: on one window a first publish takes three times as long as it needs to."""
    host = lab.sshd(max_sessions=1)
    proxy = lab.proxy(host.host, host.port)
    files = SftpFiles.open(account_on(host, "much", port=proxy.port))
    before = proxy.accepted
    fill(files, 40)

    assert before == 1
    assert proxy.accepted == len(files._channels) == 4
    files.close()


def test_little_work_opens_no_second_connection(lab: Lab) -> None:
    """Nothing has changed, most of the time: a host counts connections."""
    host = lab.sshd(max_sessions=1)
    proxy = lab.proxy(host.host, host.port)
    files = SftpFiles.open(account_on(host, "little", port=proxy.port))
    (made,) = files.carry_out([MakeFolder(b"")])
    outcomes = list(files.carry_out(puts(200, 100)))

    assert made.good
    assert all(outcome.good for outcome in outcomes)
    assert proxy.accepted == 1
    files.close()


@pytest.mark.parametrize("connections", [1, 2])
def test_a_host_that_says_no_is_worked_with_and_not_asked_again(lab: Lab, connections: int) -> None:
    """Hosters cap connections, and shut out who keeps asking."""
    host = lab.proftpd(settings=[f"MaxClientsPerHost {connections}"])
    proxy = lab.proxy(host.host, host.port)
    got, asked = [], []
    for root in ("first", "second"):
        files = SftpFiles.open(account_on(host, root, port=proxy.port))
        fill(files, 30)
        got.append((len(files._channels), len(files._lines)))
        asked.append(proxy.accepted)
        files.close()

    assert got == [(connections, connections)] * 2
    assert asked == [connections + 1, connections + 1 + connections]


def test_a_connection_that_is_lost_again_is_not_opened_the_next_time(lab: Lab) -> None:
    """Some hosts let a second connection in and cut it when it works."""
    host = lab.sshd(max_sessions=1)
    account = account_on(host, "lost")
    files = SftpFiles.open(account)
    fill(files, 40)
    files._lines[1].road.close()
    with pytest.raises(Unavailable):
        list(files.carry_out(puts(9)))
    files.close()
    files = SftpFiles.open(account_on(host, "next"))
    fill(files, 40)

    assert len(files._lines) == 1
    files.close()


def test_what_was_refused_is_asked_for_again_after_an_hour() -> None:
    """The cap may have been somebody else's traffic, and a daemon runs for months."""
    now = [100.0]
    manners = Manners(lambda: now[0])
    manners.granted("lyon", channels=1)
    manners.granted("lyon", connections=2)

    assert manners.of("lyon") == Manner(1, 2, 100.0)
    assert manners.of("oslo") == Manner()
    now[0] += FORGOTTEN_AFTER
    assert manners.of("lyon") == Manner()


# Servers of all makes -----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=MAKES)
def server(request: pytest.FixtureRequest, module_lab: Lab) -> Iterator[SftpServer]:
    """Return a server of one make."""
    server = SERVERS[request.param](module_lab)
    yield server
    server.stop()


def test_the_quickest_cipher_is_agreed_on(server: SftpServer) -> None:
    """AES-GCM is half as much work again as what some servers name first."""
    files = SftpFiles.open(account_on(server))

    assert "gcm" in files.server.cipher
    files.close()


def test_a_large_amount_arrives_whole_over_several_channels(server: SftpServer) -> None:
    """Windows and packets are of all sizes; ProFTPD mixes up the channels of one connection, and dies of it."""
    files = SftpFiles.open(account_on(server, "large"))
    fill(files, 40)

    assert len(files._channels) == 4
    assert len(files._lines) == (4 if "mod_sftp" in files.server.banner else 1)
    assert max(lane.terms.in_flight for lane in files._flow.lanes) <= 8 * 1024 * 1024
    files.close()


def test_a_server_that_falls_silent_is_given_up_whatever_its_make(server: SftpServer) -> None:
    """The timer is ours: nothing that a server promises is needed for it."""
    files = SftpFiles.open(account_on(server), stall=0.4)
    server.pause()
    began = time.monotonic()
    try:
        with pytest.raises(Unavailable, match="no answer for"):
            list(files.carry_out([Stat(b"x")]))
        took = time.monotonic() - began
    finally:
        files.close()
        server.resume()

    assert 0.3 < took < 10.0


def test_a_server_that_offers_to_tell_its_limits_is_asked(lab: Lab) -> None:
    """Larger blocks are less work on both sides; who does not offer it might hang up over the question."""
    told = SftpFiles.open(account_on(lab.asyncssh()))
    silent = SftpFiles.open(account_on(lab.paramiko()))

    assert (told.server.told, told.server.block > 32768, told.server.handles > 256) == (True, True, True)
    assert (silent.server.told, silent.server.block) == (False, 32768)
    told.close()
    silent.close()


def test_a_mode_that_is_not_kept_is_said_where_it_would_keep_readers_out(lab: Lab) -> None:
    """rclone says OK to every mode and sets none: under its own umask a web server may or may not get in."""
    open_to_all = SftpFiles.open(account_on(lab.rclone(umask="022")))
    closed = SftpFiles.open(account_on(lab.rclone(umask="077")))
    (private,) = open_to_all.carry_out([MakeFolder(b"d", 0o700)])
    (public,) = closed.carry_out([MakeFolder(b"d", 0o755)])

    assert private.good
    assert (public.good, public.text) == (False, "its mode stays 700 although the server says that it is now 755")
    open_to_all.close()
    closed.close()
