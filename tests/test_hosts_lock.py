"""The lock on a mirror: who gets it, who keeps it, and what a deposed holder can still do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from mirrord.errors import Locked, MirrordError, Unavailable
from mirrord.hosts import Holder
from mirrord.hosts.files import Create, MakeFolder, Op, Put, Read, Remove, Rename, Rewrite, Symlink
from mirrord.hosts.host import FilesHold, FilesHost
from mirrord.hosts.lock import DEAD, Record, is_alive, parse_record, this_process
from mirrord.hosts.memory import Cut, Disk, Killed, MemoryFiles
from mirrord.manifest import Signed
from mirrord.plan import make_plan
from tests.publishing import Clock, Publisher, host_on, litter, releases, whole

SITE = {b"index.html": b"one", b"a/b": b"b"}
ELSEWHERE = Holder("away", "there", "boot-9", 7, "1", 1_700_000_000.0)


def left_lock(disk: Disk, holder: Holder = ELSEWHERE, number: int = 1) -> Record:
    """Leave a lock on a mirror, as a holder that died."""
    record = Record(holder, f"nonce-{number}")
    files = MemoryFiles(disk)
    files.in_order([MakeFolder(b".mirrord", 0o700), Create(b".mirrord/lock.%d" % number, record.text(0))])
    return record


def beat(disk: Disk, record: Record, beats: int = 1, number: int = 1) -> None:
    """Let a holder show that it lives."""
    MemoryFiles(disk).in_order([Rewrite(b".mirrord/lock.%d" % number, record.text(beats))])


def lock_text(disk: Disk, number: int = 1) -> bytes | None:
    return disk.read(b".mirrord/lock.%d" % number)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


def held(stack: ExitStack, host: FilesHost, publisher: Publisher, *, patient: bool = True) -> FilesHold:
    return stack.enter_context(host.hold(publisher.me(), publisher.known, host.survey(), patient=patient))


def test_the_lock_says_who_holds_it_since_when_and_is_gone_afterwards(disk: Disk, publisher: Publisher) -> None:
    """A person who finds a mirror locked wants to know by whom."""
    host = host_on(MemoryFiles(disk))
    with ExitStack() as stack:
        held(stack, host, publisher)
        record = parse_record(lock_text(disk) or b"")

    assert record is not None
    assert (record.holder.controller, record.holder.host, record.holder.boot_id) == ("home", "here", "boot-1")
    assert record.holder.pid == publisher.pid
    assert record.holder.since == publisher.clock.timestamp()
    assert litter(disk) == []


def test_a_dead_process_of_this_machine_is_succeeded_at_once(disk: Disk, publisher: Publisher) -> None:
    """After a crash or a power cut the next try must not wait a minute for a process that cannot come back."""
    left_lock(disk)
    clock = Clock()
    with ExitStack() as stack:
        held(stack, host_on(MemoryFiles(disk), alive=False, clock=clock), publisher)
        assert lock_text(disk, 1) is None
        assert lock_text(disk, 2) is not None

    assert clock.now == Clock().now
    assert litter(disk) == []


def test_a_living_process_of_this_machine_is_respected_at_once(disk: Disk, publisher: Publisher) -> None:
    """Two syncs by hand: the second says so immediately, and names the first."""
    left_lock(disk)
    clock = Clock()
    with pytest.raises(Locked, match=r"lyon: .*away \(process 7 on there\) publishes there since 2023-11-14") as locked:
        held(ExitStack(), host_on(MemoryFiles(disk), alive=True, clock=clock), publisher)

    assert clock.now == Clock().now
    assert locked.value.since == ELSEWHERE.since
    assert lock_text(disk) is not None


@pytest.mark.parametrize("text", [None, b"", b"{", b'{"controller": 1}', b"\xff" * 600], ids=repr)
def test_a_silent_lock_of_another_machine_is_dead_after_a_minute_of_our_own_clock(
    disk: Disk, publisher: Publisher, text: bytes | None
) -> None:
    """No clock but our own counts, and a lock that says nothing (a kill while it was written) is no lock for ever."""
    left_lock(disk)
    if text is not None:
        node = disk.find(b".mirrord/lock.1")
        assert node is not None
        node.data[:] = text
    clock = Clock()
    with ExitStack() as stack:
        held(stack, host_on(MemoryFiles(disk), alive=None, clock=clock), publisher)

    assert 60 <= clock.now - Clock().now <= 70
    assert litter(disk) == []


def test_what_another_holder_did_while_we_watched_is_looked_at_again(disk: Disk, publisher: Publisher) -> None:
    """It switched and went after our first look: the plan rests on what stands when the lock is ours."""
    first, second, third = (publisher.take({**SITE, b"index.html": b"%d" % n}) for n in range(3))
    publisher.publish(MemoryFiles(disk), first)
    lost = MemoryFiles(disk, cut=Cut(lambda op: isinstance(op, Rename) and op.new == b"current"))
    with pytest.raises(Unavailable):
        publisher.publish(lost, second)
    clock = Clock()
    clock.waits.append(lost.arrive)

    result = publisher.publish(MemoryFiles(disk), third, alive=None, clock=clock)
    assert lost.late == []
    assert result.result == "published"
    assert whole(disk, third, publisher.content)
    assert litter(disk) == []


def test_a_lock_that_changes_while_we_watch_belongs_to_the_living(disk: Disk, publisher: Publisher) -> None:
    """Its holder rewrites it every 20 s: we hear of it within a few seconds more."""
    record = left_lock(disk)
    clock = Clock()
    clock.waits.append(lambda: beat(disk, record) if clock.now - 1000 >= 20 else None)
    with pytest.raises(Locked):
        held(ExitStack(), host_on(MemoryFiles(disk), alive=None, clock=clock), publisher)

    assert clock.now - 1000 <= 30
    assert lock_text(disk) == record.text(1)


def test_a_lock_that_is_dropped_while_we_watch_is_taken_properly(disk: Disk, publisher: Publisher) -> None:
    """Nobody is deposed then, and who comes third must find one lock, not two."""
    left_lock(disk)
    clock = Clock()
    clock.waits.append(lambda: MemoryFiles(disk).in_order([Remove(b".mirrord/lock.1")]))
    with ExitStack() as stack:
        held(stack, host_on(MemoryFiles(disk), alive=None, clock=clock), publisher)
        assert lock_text(disk, 1) is not None
        assert lock_text(disk, 2) is None

    assert clock.now - 1000 <= 10


def test_who_only_wants_to_clean_up_does_not_watch(disk: Disk, publisher: Publisher) -> None:
    """Nothing to publish is answered in a moment, even if somebody else's lock lies there."""
    left_lock(disk)
    clock = Clock()
    with pytest.raises(Locked):
        held(ExitStack(), host_on(MemoryFiles(disk), alive=None, clock=clock), publisher, patient=False)

    assert clock.now == 1000


def test_of_two_who_succeed_a_dead_one_at_once_one_holds(disk: Disk, publisher: Publisher) -> None:
    """Both judged the same lock dead; the next number can be made only once."""
    left_lock(disk)
    done = False

    def alive(record: Record, me: Holder) -> bool | None:
        return record.holder.host == "here"

    with ExitStack() as stack:
        rival = FilesHost(MemoryFiles(disk), "lyon", clock=Clock(), wait=Clock().wait, alive=alive)

        def tick(number: int) -> None:
            nonlocal done
            if not done and lock_text(disk, 2) is None and slow.done and isinstance(slow.done[-1], Create):
                done = True
                held(stack, rival, publisher)

        disk.tick = tick
        slow = MemoryFiles(disk)
        with pytest.raises(Locked):
            held(stack, FilesHost(slow, "lyon", clock=Clock(), wait=Clock().wait, alive=alive), publisher)
        assert done
        assert lock_text(disk, 2) is not None
        assert lock_text(disk, 3) is None
    assert litter(disk) == []


def test_who_deposed_a_living_one_by_mistake_steps_back(disk: Disk, publisher: Publisher) -> None:
    """
    The lock that we judged dead was succeeded and dropped, and a third took a new one of the same number, all before
    our take-over: it is the third who lives and holds.
    """
    left_lock(disk)
    third = Record(Holder("third", "far", "boot-3", 3, "1", 1.0), "third")
    files = MemoryFiles(disk)

    def tick(number: int) -> None:
        if files.done and isinstance(files.done[-1], Create) and files.done[-1].path == b".mirrord/lock.2":
            disk.tick = None
            MemoryFiles(disk).in_order([Remove(b".mirrord/lock.1"), Create(b".mirrord/lock.1", third.text(0))])

    disk.tick = tick
    with pytest.raises(Locked, match="third"):
        held(ExitStack(), host_on(files, alive=False), publisher)
    assert lock_text(disk, 1) == third.text(0)
    assert lock_text(disk, 2) is None


def deposed_before(disk: Disk, publisher: Publisher, when: Callable[[Op], bool]) -> MirrordError | None:
    """Publish, and be deposed by another controller just before the first request that `when` picks."""
    first, second = publisher.take(SITE), publisher.take({**SITE, b"index.html": b"two"})
    publisher.publish(MemoryFiles(disk), first)
    files = MemoryFiles(disk)
    other = Publisher(key=publisher.key, content=publisher.content, taken=dict(publisher.taken), serial=2, name="other")
    other.clock = publisher.clock
    third = other.take({**SITE, b"index.html": b"three"})

    def tick(number: int) -> None:
        if files.done and when(files.done[-1]):
            disk.tick = None
            other.publish(MemoryFiles(disk), third)

    disk.tick = tick
    error: MirrordError | None = None
    try:
        publisher.publish(files, second)
    except MirrordError as e:
        error = e
    assert not disk_ticks(disk), "the moment came"
    assert whole(disk, third, publisher.content), "readers stay where the living holder led them"
    assert third.snapshot.id.encode() in releases(disk)
    return error


def test_a_deposed_holder_cannot_switch_to_what_stood_already(disk: Disk, publisher: Publisher) -> None:
    """
    A whole release that only waits to be served is switched to in a moment; deposed in this moment, its temporary link
    would be made after those were removed. So the lock is read once more.
    """
    first, second = publisher.take(SITE), publisher.take({**SITE, b"index.html": b"two"})
    publisher.publish(MemoryFiles(disk), first)
    cut = Cut(lambda op: isinstance(op, Rename) and op.new == b"current", killed=True)
    with pytest.raises(Killed):
        publisher.publish(MemoryFiles(disk, cut=cut), second)
    other = Publisher(key=publisher.key, content=publisher.content, taken=dict(publisher.taken), serial=2, name="other")
    other.clock = publisher.clock
    third = other.take({**SITE, b"index.html": b"three"})
    files = MemoryFiles(disk)

    def tick(number: int) -> None:
        if files.done and isinstance(files.done[-1], Symlink) and files.done[-1].path.startswith(b".mirrord/current."):
            disk.tick = None
            other.publish(MemoryFiles(disk), third)

    disk.tick = tick
    with pytest.raises((Locked, Unavailable)):
        publisher.publish(files, second)
    assert not disk_ticks(disk), "the moment came"
    assert whole(disk, third, publisher.content)


def test_a_deposed_holder_posts_no_card_into_the_release_of_another(disk: Disk, publisher: Publisher) -> None:
    """A card of one snapshot in the release of another is a forgery to every reader."""
    first = publisher.take(SITE)
    publisher.publish(MemoryFiles(disk), first)
    again = publisher.sign_again(first)
    other = Publisher(key=publisher.key, content=publisher.content, taken=dict(publisher.taken), serial=1, name="other")
    other.clock = publisher.clock
    second = other.take({**SITE, b"index.html": b"two"})
    files = MemoryFiles(disk)

    def tick(number: int) -> None:
        if files.done and isinstance(files.done[-1], Put) and files.done[-1].path.startswith(b".mirrord/temp."):
            disk.tick = None
            other.publish(MemoryFiles(disk), second)

    disk.tick = tick
    with pytest.raises((Locked, Unavailable)):
        publisher.publish(files, again)
    assert not disk_ticks(disk), "the moment came"
    assert whole(disk, second, publisher.content)


def disk_ticks(disk: Disk) -> bool:
    return disk.tick is not None


@pytest.mark.parametrize(
    "when",
    [
        pytest.param(lambda op: isinstance(op, Rename) and op.new == b"current", id="before the switch itself"),
        pytest.param(
            lambda op: isinstance(op, Rename) and op.new.startswith(b"releases/"), id="before the tree is named"
        ),
        pytest.param(lambda op: isinstance(op, Read) and b"lock" in op.path, id="before the lock is read again"),
    ],
)
def test_a_deposed_holder_cannot_switch_whenever_it_was_deposed(
    disk: Disk, publisher: Publisher, when: Callable[[Op], bool]
) -> None:
    """
    Reading the lock again leaves a moment between reading and switching. The temporary link closes it: who takes
    over removes it, so the deposed one's rename has nothing to rename.
    """
    error = deposed_before(disk, publisher, when)

    assert isinstance(error, Locked | Unavailable)


def test_a_heartbeat_is_seen_while_one_long_flight_goes_on(disk: Disk, publisher: Publisher) -> None:
    """An upload of an hour is one flight: without a sign of life others would take over after a minute."""
    clock = Clock()
    files = MemoryFiles(disk, clock=clock)
    texts: set[bytes] = set()

    def tick(number: int) -> None:
        clock.now += 1.0
        texts.add(lock_text(disk) or b"")

    signed = publisher.take({b"%d" % n: b"%d" % n for n in range(60)})
    disk.tick = tick

    publisher.publish(files, signed, clock=clock)
    assert len(texts) > 10
    assert whole(disk, signed, publisher.content)


def test_a_lock_is_not_silent_while_hundreds_of_folders_are_made_one_by_one(disk: Disk, publisher: Publisher) -> None:
    """Where a server keeps no order each takes a round trip; others would take over in the middle of it."""
    clock = Clock()
    files = MemoryFiles(disk, clock=clock)
    files.traits = replace(files.traits, ordered=False)
    silences: list[float] = []
    began: dict[bytes | None, float] = {}

    def tick(number: int) -> None:
        clock.now += 0.4
        text = lock_text(disk)
        silences.append(clock.now - began.setdefault(text, clock.now) if text else 0.0)

    signed = publisher.take({b"%d/index.html" % n: b"" for n in range(400)})
    disk.tick = tick

    publisher.publish(files, signed, clock=clock)
    assert max(silences) < DEAD
    assert whole(disk, signed, publisher.content)


def test_a_heartbeat_does_not_bring_a_lost_lock_back(disk: Disk, publisher: Publisher) -> None:
    """Whoever removed our lock may hold the mirror now: we stop, and leave no lock that nobody holds."""
    clock = Clock()
    files = MemoryFiles(disk, clock=clock)

    def tick(number: int) -> None:
        clock.now += 1.0
        if number == 60:
            folder = disk.find(b".mirrord")
            assert folder is not None
            del folder.names[b"lock.1"]

    signed = publisher.take({b"%d" % n: b"%d" % n for n in range(60)})
    disk.tick = tick

    with pytest.raises(Unavailable, match="our lock is gone"):
        publisher.publish(files, signed, clock=clock)
    assert lock_text(disk) is None


def test_a_machine_that_slept_asks_whether_it_still_holds(disk: Disk, publisher: Publisher) -> None:
    """A laptop wakes after an hour with its connection alive: somebody else may publish by now."""
    first, second = publisher.take(SITE), publisher.take({**SITE, b"index.html": b"two"})
    publisher.publish(MemoryFiles(disk), first)
    clock = Clock()
    host = host_on(MemoryFiles(disk), clock=clock)
    with pytest.raises(Locked, match="took the lock over"):
        sleep_before_the_switch(disk, host, clock, publisher, second)

    assert whole(disk, first, publisher.content)
    assert lock_text(disk, 2) is not None


def sleep_before_the_switch(disk: Disk, host: FilesHost, clock: Clock, publisher: Publisher, signed: Signed) -> None:
    """Publish, but sleep for an hour at the last moment, in which another one takes the lock over."""
    found = host.survey()
    plan = make_plan("lyon", signed.snapshot.id, signed.manifest, found.current)
    with host.hold(publisher.me(), publisher.known, found, plan) as hold:
        hold.inspect(hold.stage(plan, signed, publisher.content, lambda _: None), signed)
        clock.now += 3600
        left_lock(disk, number=2)
        hold.serve(signed.snapshot.id, found.current)


def test_a_machine_that_slept_and_lost_nothing_goes_on(disk: Disk, publisher: Publisher) -> None:
    """Nobody came meanwhile: the work of an hour ago is not thrown away."""
    first = publisher.take(SITE)
    publisher.publish(MemoryFiles(disk), first)
    again = publisher.sign_again(first)
    clock = Clock()
    host = host_on(MemoryFiles(disk), clock=clock)
    with ExitStack() as stack:
        hold = held(stack, host, publisher)
        clock.now += 3600
        hold.post(again.changing_files(), again.signed_at)

    assert whole(disk, again, publisher.content)
    assert litter(disk) == []


def test_this_process_lives_while_it_holds_and_its_lost_connections_do_not() -> None:
    """After a broken connection our own lock lies there: the next try takes it at once, a parallel one does not."""
    me = this_process("home")

    assert is_alive(Record(me, "not held just now"), me) is False


def test_a_process_that_ended_is_dead_and_another_with_its_number_too() -> None:
    """Process numbers are used again: the start time tells them apart."""
    me = this_process("home")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert is_alive(Record(replace(me, pid=ended.pid), "x"), me) is False
    assert is_alive(Record(replace(me, pid=os.getppid(), start="1"), "x"), me) is False
    assert is_alive(Record(replace(me, pid=2**40), "x"), me) is False


def test_a_living_process_is_alive_also_when_it_is_somebody_elses() -> None:
    """We may not signal another user's process, but it is there."""
    me = this_process("home")
    start = Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19]
    assert is_alive(Record(replace(me, pid=1, start=start), "x"), me) is True


def test_nothing_is_known_of_processes_elsewhere() -> None:
    """Another machine, another boot, or a container that sees other processes: only watching tells."""
    me = this_process("home")
    for other in (replace(me, host="there"), replace(me, boot_id="another")):
        assert is_alive(Record(other, "x"), me) is None
