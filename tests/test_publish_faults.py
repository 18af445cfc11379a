"""Publishing to servers of every make over lines that are cut, end, stall, drip or garble what they carry.

What happens to the line, in which direction, and after how many bytes is spread over the whole of a publish: login,
listing, sending, the switch, cleaning up. Somebody reads the mirror's disk all the while.
"""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import count, product
from pathlib import Path
from typing import Self

import pytest

from mirrord.errors import Refused, Unavailable
from mirrord.hosts import Host, Linger
from mirrord.hosts.account import Account
from mirrord.hosts.remembered import TRAITS
from mirrord.hosts.sftp.session import SftpFiles
from mirrord.manifest import Signed
from mirrord.publish import Published, publish, publish_with_retries
from tests.conftest import Lab
from tests.grounds import LACKS, SERVERS, Ground, account_on
from tests.lab.proxy import Direction, Fault, Proxy
from tests.lab.sftp import SftpServer
from tests.lab.waiting import until
from tests.publish_to_be_killed import Victims
from tests.publishing import IDENTITY, KEPT, NO_GUARD, Publisher, host_on, release_of
from tests.test_publish_layouts import Eyes, SeesFiles, SeesFilesAndGaps, SeesTrees

SITE = {
    b"index.html": b"1 a.css one.html img/1.png",
    b"one.html": b"1 a.css img/1.png",
    b"gone.html": b"1 a.css",
    b"a.css": b"1 img/1.png",
    b"img/1.png": b"1" * 9_000,
    b"same/page.html": b"0 a.css",
}
NEXT = {
    b"index.html": b"22 a.css one.html deep/er/new.html",
    b"one.html": b"22 a.css img/2.png",
    b"deep/er/new.html": b"22 b.css",
    b"a.css": b"22 img/2.png",
    b"b.css": b"22 img/2.png img/2.png",
    b"img/2.png": b"2" * 7_000,
    b"same/page.html": b"0 a.css",
}
"""A page names, after its version, what it needs."""
HOUR = 3600.0
GOLDEN = 0.618034
FAULTS: tuple[Fault, ...] = ("cut", "end", "stall", "drip", "garble")
PLACES = {
    ("sshd", "releases"): 2,
    ("sshd", "rename"): 1,
    ("sshd", "inplace"): 2,
    ("sshd plain", "rename"): 1,
    ("sshd plain", "inplace"): 1,
    ("proftpd", "rename"): 1,
    ("proftpd", "inplace"): 1,
    ("rclone", "rename"): 1,
    ("rclone", "inplace"): 1,
    ("asyncssh", "releases"): 2,
    ("paramiko", "releases"): 2,
}
"""Server and layout -> how often each fault happens in each direction."""


def spread() -> Iterator[object]:
    """Spread the faults of each kind on each server evenly over all that a publish sends, or receives."""
    turns: Counter[tuple[str, str]] = Counter()
    for (kind, layout), times in PLACES.items():
        for fault, direction, number in product(FAULTS, ("up", "down"), range(times)):
            turns[kind, fault] += 1
            share = (FAULTS.index(fault) / 5 + turns[kind, fault] * GOLDEN) % 1 * 0.96 + 0.01
            name = f"{kind}-{layout}-{fault}-{direction}-{number}"
            yield pytest.param((kind, layout), fault, direction, share, id=name)


NONCE = re.compile(r"\.[0-9a-f]{12}(?=/|$)")
NUMBER = re.compile(r"(?<=^\.mirrord/serves\.)\d+")
_numbers = count(1)

Tree = dict[bytes, bytes]


def litter(root: Path) -> list[str]:
    """Return what a publish should not leave behind."""
    inside = [path.relative_to(root) for path in (*root.glob("staging/*"), *root.glob(".mirrord/*"))]
    kept = (*(kept.decode() for kept in KEPT), "trash")
    return sorted(str(path) for path in inside if not path.name.startswith(kept)) + [
        str(path) for path in root.glob(".mirrord/trash/*")
    ]


class SeesReleases(Eyes):
    """They see one whole release or the other, at every moment."""

    def judge(self, seen: Tree) -> None:
        """Neither: not even nothing."""
        raise AssertionError(f"readers saw neither release, but {sorted(seen)}")


def tree(top: Path) -> Tree:
    """Read what is served, as somebody does who resolves its name once; empty where nothing is."""
    try:
        folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return {}
    found = {}
    try:
        for inside, _, names, at in os.fwalk(b".", dir_fd=folder):
            for name in names:
                try:
                    handle = os.open(name, os.O_RDONLY, dir_fd=at)
                except FileNotFoundError:
                    continue
                with os.fdopen(handle, "rb") as file:
                    found[inside.removeprefix(b".").removeprefix(b"/") + b"/" * (inside != b".") + name] = file.read()
    finally:
        os.close(folder)
    return found


def all_of(root: Path) -> dict[str, bytes | str]:
    """Everything in an account, but for what differs each time; where names are the same but for that, one of them."""
    found: dict[str, bytes | str] = {}
    for path in sorted(root.rglob("*")):
        name = NONCE.sub("", path.relative_to(root).as_posix())
        mode = path.lstat().st_mode
        if name == ".mirrord/trash":  # made when it is needed
            continue
        what = str(path.readlink()) if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else path.read_bytes()
        found[NUMBER.sub("N", name)] = what
    return found


@dataclass
class Place:
    """An account that serves the first release; and how publishing the second goes where nothing goes wrong."""

    kind: str
    layout: str
    server: SftpServer
    publisher: Publisher = field(default_factory=Publisher)
    length: dict[Direction, int] = field(default_factory=dict)
    served: Tree = field(default_factory=dict)
    all: dict[str, bytes | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Publish the first, and the second to a copy."""
        self.first, self.second = self.publisher.take(SITE), self.publisher.take(NEXT)
        self.template = f"site-{next(_numbers)}"
        self.sync(self.template, self.first)
        copy = self.copy()
        with Proxy((self.server.host, self.server.port)) as line:
            self.once(copy, self.second, line.port)
            until(lambda: line.connections == 0)
            self.length = {"up": line.passed("up"), "down": line.passed("down")}
        self.served = tree(self.root(copy) / "current")
        self.all = all_of(self.root(copy))

    def root(self, name: str) -> Path:
        """Return an account's folder."""
        return self.server.root / name

    def copy(self) -> str:
        """Make one more account like the first."""
        name = f"site-{next(_numbers)}"
        subprocess.run(["cp", "-a", self.root(self.template), self.root(name)], check=True)
        return name

    def login(self, name: str, port: int | None = None, patience: float = 30.0) -> SftpFiles:
        """Log in with what is known of the server."""
        account = account_on(self.server, name, port=port)
        files = Ground(self.kind, lambda: SftpFiles.open(account, timeout=2 * patience, stall=patience), None).connect()
        assert isinstance(files, SftpFiles)
        return files

    def once(self, name: str, signed: Signed, port: int, patience: float = 30.0) -> Published:
        """Publish, on one connection; raises what publishing raises."""
        files = self.login(name, port, patience)
        try:
            return publish(host_on(files, layout=self.layout), self.publisher.task(signed, linger=self.linger))
        finally:
            files.close()

    def sync(self, name: str, signed: Signed) -> Published:
        """Publish on a healthy line, as `mirrord sync` does."""

        def open_host() -> Host:
            return host_on(self.login(name), layout=self.layout)

        published = publish_with_retries(
            open_host,
            self.publisher.me(),
            "lyon",
            signed,
            self.publisher.content,
            self.publisher.known,
            signers=self.publisher.signers,
            identity=IDENTITY,
            keep=5,
            guard=NO_GUARD,
            pause=lambda _: None,
            linger=self.linger,
        )
        assert (published.error, published.warnings) == (None, ())
        return published

    @property
    def linger(self) -> Linger:
        """Assets of the first stay for those who have a page of it open."""
        return Linger(HOUR, self.publisher.taken.get)

    def eyes(self, before: Tree, after: Tree) -> Eyes:
        """Return who says what readers may see."""
        kinds = {"releases": SeesReleases, "rename": SeesTrees, "inplace": SeesFiles}
        if self.layout == "inplace" and LACKS.get(self.kind, frozenset()) & {"replace", "hard_link"}:
            kinds["inplace"] = SeesFilesAndGaps
        eyes = kinds[self.layout](self.publisher)
        eyes.allowed = [before, after]
        return eyes


class Reader(threading.Thread):
    """Reads what is served all the time."""

    def __init__(self, root: Path, eyes: Eyes) -> None:
        super().__init__(name="reader")
        self.top = root / "current"
        self.eyes = eyes
        self.twice = isinstance(eyes, SeesFiles)
        self.enough = threading.Event()
        self.wrong: list[str] = []
        self.looks = 0

    def run(self) -> None:
        """Look; what is wrong is kept for the test."""
        while not self.enough.wait(0.005):
            self.look()

    def look(self) -> None:
        """Look once. Where files come one by one, twice the same is what was there at one moment."""
        seen = tree(self.top)
        if self.twice and tree(self.top) != seen:
            return
        self.looks += 1
        try:
            if seen not in self.eyes.allowed:
                self.eyes.judge(seen)
        except AssertionError as e:
            self.wrong.append(str(e))

    def __enter__(self) -> Self:
        """Begin."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self.enough.set()
        self.join()


Where = tuple[str, str]
"""A kind of server, and a layout."""
Places = Callable[[Where], Place]


@pytest.fixture(scope="module")
def places(module_lab: Lab) -> Places:
    """Return what makes the places that the tests share."""
    servers: dict[str, SftpServer] = {}
    made: dict[Where, Place] = {}

    def place(of: Where) -> Place:
        kind, layout = of
        if kind not in servers:
            servers[kind] = SERVERS[kind](module_lab)
        if of not in made:
            made[of] = Place(kind, layout, servers[kind])
        return made[of]

    return place


@pytest.mark.parametrize(("where", "fault", "direction", "share"), list(spread()))
def test_whatever_happens_to_the_line_readers_see_whole_releases_and_the_next_sync_finishes(
    places: Places,
    where: Where,
    fault: Fault,
    direction: Direction,
    share: float,
) -> None:
    """
    The promise of all layouts, on real servers of all makes: a fault costs time, and nothing else. What a stalled line
    still carries when it goes on again, long after, does no harm either.
    """
    place = places(where)
    name = place.copy()
    eyes = place.eyes(release_of(place.first, place.publisher.content), place.served)
    patience = 0.7 if fault in ("stall", "garble") else 30.0
    with Proxy((place.server.host, place.server.port)) as line, Reader(place.root(name), eyes) as reader:
        line.harm(int(place.length[direction] * share), direction, fault)
        try:
            place.once(name, place.second, line.port, patience)
        except Unavailable:
            assert fault != "drip"
        except Refused:
            assert fault == "garble"
        harmed = line.harmed
        reader.look()
        place.sync(name, place.second)
        reader.look()
        then = tree(reader.top)
        line.resume()
        until(lambda: line.connections == 0, what="what is left on the line")
        late = tree(reader.top)
        if fault == "stall":
            place.sync(name, place.second)

    assert harmed
    assert reader.wrong == []
    assert reader.looks > 2
    assert then == late == place.served
    assert all_of(place.root(name)) == place.all


@dataclass
class Doomed:
    """A place where publishes are processes of their own."""

    place: Place
    victims: Victims
    up: int = 0
    """Bytes that publishing the second release sends."""

    def __post_init__(self) -> None:
        """Publish both, and measure."""
        account = self.account()
        self.victims.publish(account, 0)
        with Proxy((account.host, account.port)) as line:
            self.victims.publish(replace(account, port=line.port), 1)
            self.up = line.passed("up")

    def account(self) -> Account:
        """Return one in which nothing is yet."""
        return account_on(self.place.server, f"site-{next(_numbers)}")

    def eyes(self) -> Eyes:
        """Return who says what readers may see."""
        return self.place.eyes(*(release_of(signed, self.victims.publisher.content) for signed in self.victims.taken))


@pytest.fixture(scope="module")
def doomed(places: Places) -> Iterator[Callable[[Where], Doomed]]:
    """Return what makes such places."""
    made: dict[Where, Doomed] = {}
    with ExitStack() as stack:

        def doom(where: Where) -> Doomed:
            if where not in made:
                can = {name: name not in LACKS.get(where[0], ()) for name in TRAITS if name != "hashes"}
                victims = stack.enter_context(Victims([SITE, NEXT], where[1], can))
                made[where] = Doomed(places(where), victims)
            return made[where]

        yield doom


@pytest.mark.parametrize("share", [0.5, 0.75, 0.9])
@pytest.mark.parametrize(
    "where",
    [("proftpd", "rename"), ("proftpd", "inplace"), ("asyncssh", "releases")],
    ids="-".join,
)
def test_a_killed_process_leaves_what_the_next_sync_finishes_on_servers_of_other_makes(
    doomed: Callable[[Where], Doomed], where: Where, share: float
) -> None:
    """Started again, it knows that the process which holds the lock is gone, whatever that has left in the middle."""
    here = doomed(where)
    victims, account = here.victims, here.account()
    root = here.place.root(account.root.rpartition("/")[2])
    victims.publish(account, 0)
    with Proxy((account.host, account.port), round_trip=0.01) as line, Reader(root, here.eyes()) as reader:
        victim = victims.begin(replace(account, port=line.port), 1)
        until(lambda: line.passed("up") > here.up * share, 20, "so much to be sent")
        os.kill(victim, signal.SIGKILL)
        ended = victims.ended()
        until(lambda: line.connections == 0, what="the server to notice")
        reader.look()
        victims.publish(account, 1)

    assert ended == -signal.SIGKILL
    assert reader.wrong == []
    assert tree(reader.top) == reader.eyes.allowed[1]
    assert litter(root) == []
