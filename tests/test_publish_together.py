"""All mirrors as one: staged everywhere, then switched everywhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from mirrord.errors import Cancelled, Locked, Unavailable
from mirrord.hosts.files import Kind
from mirrord.hosts.lock import BEAT
from mirrord.hosts.memory import Disk, MemoryFiles
from mirrord.publish import publish, publish_with_retries
from tests.conftest import Lab
from tests.fleet import Fleet, fleet
from tests.lab.sshd import Sshd
from tests.lab.waiting import steadily, until
from tests.publishing import IDENTITY, NO_GUARD, Clock, Publisher, host_on, litter, release_of, served, whole

SITE = {b"index.html": b"<h1>Home</h1>", b"news.html": b"<h1>News</h1>"}
NEWER = {**SITE, b"news.html": b"<h1>Newer</h1>", b"photo.png": os.urandom(5000)}


class Waiting:
    """A meeting at which things happen before it lets go."""

    def __init__(self, happen: Callable[[Callable[[], None]], None]) -> None:
        self.happen = happen
        self.switches = 0

    def ready(self, beat: Callable[[], None]) -> None:
        """Let them happen."""
        self.happen(beat)

    def switched(self) -> None:
        """Count."""
        self.switches += 1


def locks(disk: Disk) -> dict[bytes, bytes]:
    """The lock files, and what they say."""
    own = disk.tree(b".mirrord")
    return {path: bytes(node.data) for path, node in own.items() if path.startswith(b"lock.")}


def test_while_a_mirror_waits_readers_see_what_they_saw_and_afterwards_the_new_whole() -> None:
    """The tree is staged and verified then, and nothing of it is served."""
    disk, publisher = Disk(), Publisher()
    first, second = publisher.take(SITE), publisher.take(NEWER)
    publisher.publish(MemoryFiles(disk), first)
    seen: list[dict[bytes, bytes]] = []
    meeting = Waiting(lambda _: seen.append(served(disk)))

    publisher.publish(MemoryFiles(disk), second, meeting=meeting)

    assert seen == [release_of(first, publisher.content)]
    assert whole(disk, second, publisher.content)
    assert meeting.switches == 1


def test_the_lock_of_a_mirror_that_waits_is_kept_alive() -> None:
    """An hour's wait for a slow line: another controller that watches for a minute must not take it for dead."""
    disk, publisher, clock = Disk(), Publisher(), Clock()
    signed = publisher.take(SITE)
    told: list[bytes] = []

    def wait(beat: Callable[[], None]) -> None:
        for _ in range(720):
            clock.wait(5.0)
            beat()
            told.extend(text for text in locks(disk).values() if text not in told)

    publisher.publish(MemoryFiles(disk), signed, clock=clock, meeting=Waiting(wait))

    assert len(told) >= 3600 / (BEAT + 5.0)
    assert whole(disk, signed, publisher.content)
    assert litter(disk) == []


def test_another_controller_finds_a_waiting_mirror_locked() -> None:
    """It watches the lock for a minute, sees it beat, and says who holds it."""
    disk, publisher, clock = Disk(), Publisher(), Clock()
    signed = publisher.take(SITE)
    refused: list[Locked] = []

    def wait(beat: Callable[[], None]) -> None:
        rival = Clock()
        rival.waits += [lambda: clock.wait(5.0), beat]
        with pytest.raises(Locked) as caught:
            publisher.publish(MemoryFiles(disk), signed, alive=None, clock=rival)
        refused.append(caught.value)

    publisher.publish(MemoryFiles(disk), signed, clock=clock, meeting=Waiting(wait))

    assert len(refused) == 1
    assert whole(disk, signed, publisher.content)


def test_a_lock_that_was_taken_over_while_waiting_stops_the_switch() -> None:
    """This machine slept through the wait: whoever took over may be switching just now."""
    disk, publisher, clock = Disk(), Publisher(), Clock()
    first, second = publisher.take(SITE), publisher.take(NEWER)
    publisher.publish(MemoryFiles(disk), first)

    def wait(beat: Callable[[], None]) -> None:
        clock.wait(BEAT + 1.0)
        beat()
        (path,) = locks(disk)
        folder = disk.find(b".mirrord")
        assert folder is not None
        folder.names[b"lock.999"] = folder.names[path]

    with pytest.raises(Locked, match="took the lock over"):
        publisher.publish(MemoryFiles(disk), second, clock=clock, meeting=Waiting(wait))
    assert whole(disk, first, publisher.content)


def test_a_wait_that_is_broken_off_leaves_readers_where_they_were() -> None:
    """Ctrl-C in the middle of the wait: nothing is half, and the next try continues."""
    disk, publisher = Disk(), Publisher()
    first, second = publisher.take(SITE), publisher.take(NEWER)
    publisher.publish(MemoryFiles(disk), first)

    def stop(_: Callable[[], None]) -> None:
        raise Cancelled("told to stop")

    with pytest.raises(Cancelled):
        publisher.publish(MemoryFiles(disk), second, meeting=Waiting(stop))
    assert whole(disk, first, publisher.content)
    assert publisher.publish(MemoryFiles(disk), second).result == "published"


def test_a_line_that_dies_while_waiting_costs_no_second_upload() -> None:
    """What was staged and verified is kept on the mirror; the next try only looks."""
    disk, publisher = Disk(), Publisher()
    signed = publisher.take(NEWER)
    tries: list[int] = []

    def die_once(_: Callable[[], None]) -> None:
        tries.append(sum(node.kind is Kind.FILE for node in disk.tree(b"staging").values()))
        if len(tries) == 1:
            raise Unavailable("the line is dead")

    published = publish_with_retries(
        lambda: host_on(MemoryFiles(disk)), publisher.me(), "lyon", signed, publisher.content, publisher.known,
        signers=publisher.signers, identity=IDENTITY, keep=5, guard=NO_GUARD, pause=lambda _: None,
        meeting=Waiting(die_once),
    )  # fmt: skip

    assert (published.result, published.files_sent, len(tries)) == ("published", 0, 2)
    assert whole(disk, signed, publisher.content)


def test_a_mirror_that_serves_the_snapshot_already_meets_nobody() -> None:
    """It has nothing to switch."""
    disk, publisher = Disk(), Publisher()
    signed = publisher.take(SITE)
    publisher.publish(MemoryFiles(disk), signed)
    meeting = Waiting(lambda _: pytest.fail("nobody waits"))

    assert publish(host_on(MemoryFiles(disk)), publisher.task(signed, meeting=meeting)).result == "unchanged"
    assert meeting.switches == 0


# On real servers ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sshd(module_lab: Lab) -> Sshd:
    """Return one server for all accounts."""
    return module_lab.sshd()


@pytest.fixture
def three(lab: Lab, sshd: Sshd) -> Iterator[Fleet]:
    """Three mirrors on lines of different lengths, the last one a slow one."""
    for made in fleet(lab, sshd, milan=0.0, lyon=0.04, oslo=0.1):
        made.write("photo.png", os.urandom(800_000))
        made.lines_of["oslo"] = 'bandwidth = "400kB"'
        yield made


def rows(found: dict[str, object]) -> dict[str, dict[str, object]]:
    """A sync's rows by mirror."""
    mirrors = found["mirrors"]
    assert isinstance(mirrors, list)
    return {row["name"]: row for row in mirrors}


def test_each_switches_when_it_is_ready_unless_told_otherwise(three: Fleet) -> None:
    """One slow mirror delays nobody."""
    found = three.verb("sync")

    assert {row["result"] for row in rows(found).values()} == {"published"}
    assert found["skew_seconds"] > 0.8


def test_all_switch_together_when_the_slow_one_is_ready(three: Fleet) -> None:
    """Readers of three mirrors see the news in the same moment, whatever the lines."""
    three.more = '[publish]\ntogether = "all"'

    found = three.verb("sync")
    assert {three.serves(mirror) for mirror in three.lines} == {found["snapshot"]["id"]}
    assert found["skew_seconds"] < 1.2
    (event,) = [event for event in three.events("publish") if "skew_seconds" in event.details]
    assert "3 mirrors switched to" in event.what
    assert min(event.details["after_seconds"].values()) == 0.0


def test_two_go_together_and_the_slow_one_as_it_comes(three: Fleet) -> None:
    """`together = 2`."""
    three.more = "[publish]\ntogether = 2"

    found = rows(three.verb("sync"))
    assert {row["result"] for row in found.values()} == {"published"}
    (event,) = [event for event in three.events("publish") if "skew_seconds" in event.details]
    after = event.details["after_seconds"]
    assert after["lyon"] - after["milan"] < 0.8
    assert after["oslo"] > 0.8


def test_a_dead_mirror_is_not_waited_for(three: Fleet) -> None:
    """It fails by itself, after several tries; the others have long switched then."""
    three.more = '[publish]\ntogether = "all"'
    three.lines_of["oslo"] = ""
    three.lines["oslo"].down()

    found = rows(three.verb("sync"))
    assert [found[name]["result"] for name in three.lines] == ["published", "published", "failed"]
    assert found["milan"]["seconds"] < found["oslo"]["seconds"] - 1.0  # type: ignore[operator]
    three.lines["oslo"].up()
    assert rows(three.verb("sync"))["oslo"]["result"] == "published"


def test_content_is_not_withheld_longer_than_allowed(three: Fleet) -> None:
    """The slow line takes as long as it takes."""
    three.more = '[publish]\ntogether = "all"\ntogether_wait = "0.3s"'

    found = three.verb("sync")
    assert {row["result"] for row in rows(found).values()} == {"published"}
    assert found["skew_seconds"] > 0.6


def test_an_interrupt_ends_the_wait_at_once(three: Fleet) -> None:
    """Ctrl-C while the fast ones wait for the slow one: readers stay where they are, and the next sync continues."""
    three.more = '[publish]\ntogether = "all"'
    three.lines_of["oslo"] = 'bandwidth = "20kB"'
    command = [sys.executable, "-m", "mirrord", "-c", str(three.settings().file), "sync"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as sync:
        for mirror in ("milan", "lyon"):
            until(lambda mirror=mirror: staged(three, mirror), 20, f"{mirror} to be staged")  # type: ignore[misc]
        steadily(lambda: three.serves("milan") is None, 1.0, "milan to wait for oslo")

        began = time.monotonic()
        sync.send_signal(signal.SIGINT)
        assert sync.wait(20) == 130
        assert time.monotonic() - began < 5.0
    assert three.serves("milan") is None
    three.lines_of["oslo"] = ""
    assert {row["result"] for row in rows(three.verb("sync")).values()} == {"published"}


def staged(made: Fleet, mirror: str) -> bool:
    """Whether the whole content lies on a mirror, unseen."""
    return any(photo.stat().st_size == 800_000 for photo in made.root(mirror).glob("staging/*/photo.png"))
