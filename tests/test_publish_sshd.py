"""Publishing to real OpenSSH accounts, on lines that break and disks that fill up."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from itertools import count

import pytest

from mirrord.errors import Full, MirrordError, Refused, Unavailable
from mirrord.hosts import Progress
from mirrord.hosts.account import Account
from mirrord.hosts.bandwidth import Bandwidth
from mirrord.hosts.files import Kind, Walk
from mirrord.hosts.host import FilesHost
from mirrord.hosts.lock import this_process
from mirrord.hosts.opening import open_host
from mirrord.hosts.sftp.session import SftpFiles
from mirrord.publish import publish, publish_with_retries
from tests.conftest import Lab
from tests.grounds import Ground, account_on
from tests.lab.disks import SmallDisk
from tests.lab.folders import is_root
from tests.lab.proxy import Proxy
from tests.lab.sshd import Sshd
from tests.lab.waiting import until
from tests.publish_to_be_killed import Victims
from tests.publishing import IDENTITY, NO_GUARD, Clock, Publisher, release_of

FIVE = {
    b"index.html": b"<h1>one</h1>",
    b"a/b/deep.txt": b"deep",
    b"a/empty": b"",
    b"img/photo.png": os.urandom(60_000),
    b"odd \xff\nname": b"odd",
}
CHANGED = {**FIVE, b"index.html": b"<h1>two</h1>", b"img/new.png": os.urandom(60_000)}
POINTS = 20

_numbers = count(1)


@pytest.fixture(scope="module")
def sshd(module_lab: Lab) -> Sshd:
    """Return a chrooted account with a mean umask."""
    return module_lab.sshd(chroot=True, umask="077")


@pytest.fixture(scope="module")
def line(module_lab: Lab, sshd: Sshd) -> Proxy:
    """Return the line to it."""
    return module_lab.proxy(sshd.host, sshd.port)


@pytest.fixture(scope="module")
def slow_line(module_lab: Lab, sshd: Sshd) -> Proxy:
    """Return a longer line to it, on which things take their time."""
    return module_lab.proxy(sshd.host, sshd.port, round_trip=0.03)


@pytest.fixture
def here(sshd: Sshd) -> Ground:
    """Return an account of its own."""
    name = f"site-{next(_numbers)}"
    return Ground("sshd", lambda: SftpFiles.open(account_on(sshd, name)), sshd.root / name)


def account(sshd: Sshd, here: Ground, port: int | None = None) -> Account:
    assert here.root is not None
    return account_on(sshd, here.root.name, port=port)


def once(publisher: Publisher, account: Account, number: int) -> None:
    """Publish one of the publisher's snapshots; nobody waits for a minute if a lock was cut in half."""
    clock = Clock()
    files = SftpFiles.open(account)
    try:
        signed = publisher.taken[sorted(publisher.taken)[number]]
        task = publisher.task(signed)
        publish(FilesHost(files, "lyon", clock=clock, wait=clock.wait, alive=lambda *_: False), task)
    finally:
        files.close()


def litter(here: Ground) -> list[str]:
    files = here.connect()
    (outcome,) = files.carry_out([Walk(b"")])
    files.close()
    inside = [path for path in outcome.value if path.startswith((b"staging/", b".mirrord/"))]
    return sorted(os.fsdecode(path) for path in inside if not path.startswith((b".mirrord/left.", b".mirrord/trash")))


@pytest.fixture(scope="module")
def traffic(sshd: Sshd, line: Proxy) -> dict[str, int]:
    """Return how many bytes one publish of the change moves, login and all."""
    publisher = Publisher()
    publisher.take(FIVE), publisher.take(CHANGED)
    here = Ground("sshd", lambda: SftpFiles.open(account_on(sshd, "measured")), sshd.root / "measured")
    once(publisher, account(sshd, here), 0)
    before = line.passed("up"), line.passed("down")
    once(publisher, account(sshd, here, line.port), 1)
    return {"up": line.passed("up") - before[0], "down": line.passed("down") - before[1]}


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("point", range(POINTS // 2))
def test_a_line_that_breaks_at_any_point_leaves_a_whole_release_and_the_next_publish_finishes(
    sshd: Sshd, line: Proxy, here: Ground, traffic: dict[str, int], direction: str, point: int
) -> None:
    """
    A real server goes on with what it has received when the line is cut, while the next publish begins: readers see
    whole releases throughout, and nothing is left behind.
    """
    assert direction in ("up", "down")
    publisher = Publisher()
    first, second = publisher.take(FIVE), publisher.take(CHANGED)
    once(publisher, account(sshd, here), 0)
    line.cut_after(traffic[direction] * (point + 1) // (POINTS // 2 + 1), "up" if direction == "up" else "down")
    before = line.accepted
    try:
        once(publisher, account(sshd, here, line.port), 1)
    except Unavailable:
        pass
    else:
        assert line.accepted == before + 2, "cut while it logged in, it logged in again with fewer channels"
    allowed = [release_of(signed, publisher.content) for signed in (first, second)]

    assert here.served() in allowed
    try:
        once(publisher, account(sshd, here, line.port), 1)
    except MirrordError:
        once(publisher, account(sshd, here, line.port), 1)  # what the cut line had left got in the way
    assert here.served() == allowed[1]
    assert litter(here) == []
    modes = {kind: mode for path, (kind, mode) in here.modes("releases").items()}
    assert modes == {Kind.FILE: 0o644, Kind.FOLDER: 0o755}


@pytest.mark.parametrize("share", [0.35, 0.5, 0.65, 0.8, 0.9])
def test_a_killed_publish_leaves_a_whole_release_and_the_next_one_finishes(
    sshd: Sshd, slow_line: Proxy, here: Ground, traffic: dict[str, int], share: float
) -> None:
    """The machine goes down in the middle; started again, it knows that the process which holds the lock is gone."""
    idle = sshd.sessions  # some stay logged in for all tests here
    with Victims([FIVE, CHANGED]) as victims:
        allowed = [release_of(signed, victims.publisher.content) for signed in victims.taken]
        victims.publish(account(sshd, here), 0)
        before = slow_line.passed("up")
        victim = victims.begin(account(sshd, here, slow_line.port), 1)
        until(lambda: slow_line.passed("up") - before > traffic["up"] * share, 20, "so much to be sent")
        os.kill(victim, signal.SIGKILL)

        assert victims.ended() == -signal.SIGKILL
        assert here.served() in allowed
        until(lambda: sshd.sessions <= idle, 20, "the server to notice")
        victims.publish(account(sshd, here), 1)
        assert here.served() == allowed[1]
        assert litter(here) == []


def test_publishing_retries_by_itself_over_a_line_that_breaks(
    sshd: Sshd, line: Proxy, here: Ground, traffic: dict[str, int]
) -> None:
    """The operator sees one result, not the accidents on the way; our own lock is no obstacle to us."""
    publisher = Publisher()
    signed = publisher.take(FIVE)
    line.cut_after(traffic["up"] * 3 // 4)

    result = publish_with_retries(
        lambda: open_host(account(sshd, here, line.port)),
        this_process("home"),
        "lyon",
        signed,
        publisher.content,
        publisher.known,
        signers=publisher.signers,
        identity=IDENTITY,
        keep=5,
        guard=NO_GUARD,
        pause=lambda _: None,
    )
    assert (result.result, result.error) == ("published", None)
    assert here.served() == release_of(signed, publisher.content)
    assert litter(here) == []


def test_a_full_disk_is_named_with_figures_and_what_was_sent_is_kept(lab: Lab) -> None:
    """The server says "Failure"; the operator reads how much is missing, and readers keep what they have."""
    sshd = lab.sshd()
    folder = sshd.root / "small"
    folder.mkdir()
    if is_root():
        shutil.chown(folder, sshd.user)
    publisher = Publisher()
    first = publisher.take(FIVE)
    second = publisher.take({**FIVE, **{b"new-%02d" % n: os.urandom(20_000) for n in range(20)}})
    with SmallDisk(folder, 1024) as disk:
        here = Ground("sshd", lambda: SftpFiles.open(account_on(sshd, "small")), folder)
        once(publisher, account(sshd, here), 0)
        disk.fill(leave=200_000)
        with pytest.raises(Full, match=r"lyon: .* its disk is full") as before:
            once(publisher, account(sshd, here), 1)
        disk.free()

        def fill_up(progress: Progress) -> None:
            if progress.bytes_done > 100_000:
                disk.fill()

        # Slow, so that much is still to come when it is full.
        slow = replace(account(sshd, here), bandwidth=Bandwidth(300_000))
        files = SftpFiles.open(slow)
        clock = Clock()
        with pytest.raises(Full) as meanwhile:
            publish(
                FilesHost(files, "lyon", clock=clock, wait=clock.wait, alive=lambda *_: False),
                publisher.task(second, seen=fill_up),
            )
        files.close()
        served_when_full = here.served()
        disk.free()
        once(publisher, account(sshd, here), 1)

        assert (before.value.needed or 0) > 400_000
        assert (before.value.free or 0) < 210_000
        assert (meanwhile.value.free or 0) < 1 << 20
        assert served_when_full == release_of(first, publisher.content)
        assert here.served() == release_of(second, publisher.content)
        assert litter(here) == []


def test_a_thousand_files_are_published_to_an_account_and_changed_by_links(sshd: Sshd, here: Ground) -> None:
    """More files than one window, one listing or one table of handles holds."""
    publisher = Publisher()
    site = {b"%d/%d/%04d.html" % (n % 7, n % 3, n): b"%d" % n * (n % 90) for n in range(1200)}
    first = publisher.take(site)
    second = publisher.take({**site, b"0/0/0000.html": b"new"})
    files = SftpFiles.open(account(sshd, here))
    publisher.publish(files, first)
    result = publisher.publish(files, second)
    files.close()

    assert (result.files_sent, result.files_linked) == (1, 1199)
    assert here.served() == release_of(second, publisher.content)


def test_an_account_that_may_not_write_is_a_persons_affair(sshd: Sshd) -> None:
    """A wrong owner is not cured by trying again: the message says what is missing, and where."""
    folder = sshd.root / "readonly"
    folder.mkdir()
    folder.chmod(0o555)
    publisher = Publisher()
    publisher.take(FIVE)
    here = Ground("sshd", lambda: SftpFiles.open(account_on(sshd, "readonly")), folder)

    with pytest.raises(Refused, match=r"^lyon: .*\.mirrord: .*give the account the right to write"):
        once(publisher, account(sshd, here), 0)


def test_a_server_that_forbids_hard_links_gets_every_file(lab: Lab) -> None:
    """Some hosters forbid what their server offers: what is offered is not always granted."""
    sshd = lab.sshd(denied=["hardlink"])
    publisher = Publisher()
    publisher.take(FIVE)
    second = publisher.take(CHANGED)
    here = Ground("sshd", lambda: SftpFiles.open(account_on(sshd, "site")), sshd.root / "site")

    once(publisher, account(sshd, here), 0)
    once(publisher, account(sshd, here), 1)
    assert here.served() == release_of(second, publisher.content)
    assert {path.stat().st_nlink for path in (sshd.root / "site").glob("releases/*/img/photo.png")} == {1}
    assert litter(here) == []
