"""Room on a mirror: asked for before anything is sent and meanwhile; made once, never by taking what readers need."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest

from mirrord.errors import Full
from mirrord.hosts import Progress
from mirrord.hosts.files import Op, Outcome, Pulse, Put, Space, Traits
from mirrord.hosts.memory import Cut, Disk, MemoryFiles, Node
from mirrord.hosts.sftp.session import SftpFiles
from mirrord.manifest import Signed, SnapshotId
from tests.conftest import Lab
from tests.grounds import Ground, account_on
from tests.lab.disks import SmallDisk
from tests.lab.folders import is_root
from tests.publishing import Publisher, litter, release_of, releases, whole
from tests.test_publish_cuts import Watched, break_off

ALL = Traits(ordered=True, symlink=True, hard_link=True, replace=True, space=True, copy_data=True)
MEGABYTE = 1_000_000


def site(number: int, size: int = 50_000) -> dict[bytes, bytes]:
    """Return a site that has nothing in common with others."""
    return {b"index.html": b"<h1>%d</h1>" % number, b"film": bytes([number]) * size}


def stocked(publisher: Publisher, count: int = 3, *, free: int = 60_000) -> tuple[Watched, list[Signed]]:
    """Return a mirror with so many releases, served one after the other hours ago, and so many bytes free."""
    watched = Watched(publisher)
    taken = [publisher.take(site(number)) for number in range(count)]
    watched.allow(*taken)
    for signed in taken:
        publisher.publish(MemoryFiles(watched.disk), signed)
        watched.an_hour_passes()
    watched.only(taken[-1])
    watched.disk.room = watched.disk.used() + free
    return watched, taken


def ids(*snapshots: Signed) -> list[bytes]:
    return [signed.snapshot.id.encode() for signed in snapshots]


@pytest.fixture
def publisher() -> Publisher:
    """Return a publisher."""
    return Publisher()


def test_the_oldest_release_makes_room_and_the_result_says_so(publisher: Publisher) -> None:
    """A disk that is full of old releases is no reason to leave readers with an old one."""
    watched, (first, second, third) = stocked(publisher)
    fourth = publisher.take(site(4))
    watched.allow(fourth)

    result = publisher.publish(MemoryFiles(watched.disk), fourth)
    assert result.result == "published"
    assert whole(watched.disk, fourth, publisher.content)
    assert releases(watched.disk) == ids(second, third, fourth)
    (warning,) = result.warnings
    assert warning.startswith(f"lyon: its disk was full: its oldest release, {first.snapshot.id}, was dropped")
    assert litter(watched.disk) == []


def test_a_pinned_release_stays_and_the_next_one_goes(publisher: Publisher) -> None:
    """What a person pinned is kept for a reason that mirrord does not know."""
    watched, (first, second, third) = stocked(publisher)
    fourth = publisher.take(site(4))
    watched.allow(fourth)

    publisher.publish(MemoryFiles(watched.disk), fourth, pinned=lambda: frozenset({first.snapshot.id}))
    assert releases(watched.disk) == ids(first, third, fourth)
    assert second.snapshot.id.encode() not in releases(watched.disk)


def test_a_pinned_release_outlives_those_that_are_kept_by_their_number(publisher: Publisher) -> None:
    """Going back to it is to cost nothing as long as a person wants that; it takes no place from the others."""
    watched, (first, second, third) = stocked(publisher, free=1_000_000)
    fourth = publisher.take(site(4))
    watched.allow(fourth)

    publisher.publish(MemoryFiles(watched.disk), fourth, keep=2, pinned=lambda: frozenset({first.snapshot.id}))
    assert releases(watched.disk) == ids(first, third, fourth)
    assert second.snapshot.id.encode() not in releases(watched.disk)


def test_a_pin_that_comes_while_it_is_sent_holds_at_once(publisher: Publisher) -> None:
    """A person who looks at a release and pins it must not lose it to a publish that began a moment before."""
    watched, taken = stocked(publisher, free=1_000_000)
    fourth = publisher.take(site(4))
    watched.allow(fourth)
    pins: set[SnapshotId] = set()

    pin: Callable[[Progress], None] = lambda _: pins.add(taken[0].snapshot.id)  # noqa: E731
    publisher.publish(MemoryFiles(watched.disk), fourth, keep=1, seen=pin, pinned=lambda: frozenset(pins))
    assert releases(watched.disk) == ids(taken[0], taken[2], fourth)


@pytest.mark.parametrize("why", ["pinned", "served within the hour"])
def test_where_nothing_may_go_it_is_full_and_readers_keep_what_they_have(publisher: Publisher, why: str) -> None:
    """Somebody may still be reading what was served a moment ago: a full disk takes it from nobody."""
    watched = Watched(publisher)
    first, second = publisher.take(site(1)), publisher.take(site(2))
    watched.allow(first, second)
    publisher.publish(MemoryFiles(watched.disk), first)
    if why == "pinned":
        watched.an_hour_passes()
    publisher.publish(MemoryFiles(watched.disk), second)
    if why == "pinned":
        watched.an_hour_passes()
    watched.only(second)
    watched.disk.room = watched.disk.used() + 30_000

    pinned = frozenset({first.snapshot.id} if why == "pinned" else ())
    with pytest.raises(Full, match="its disk is full") as full:
        publisher.publish(MemoryFiles(watched.disk), publisher.take(site(3)), pinned=lambda: pinned)
    assert (full.value.needed or 0) > 50_000
    assert releases(watched.disk) == ids(first, second)
    assert whole(watched.disk, second, publisher.content)


def test_room_is_made_once_and_no_more(publisher: Publisher) -> None:
    """A snapshot that is too large for the disk must not cost the mirror all that it could go back to."""
    watched, (first, second, third) = stocked(publisher)

    with pytest.raises(Full, match=rf"its oldest release, {first.snapshot.id}, was dropped"):
        publisher.publish(MemoryFiles(watched.disk), publisher.take(site(4, 500_000)))
    assert releases(watched.disk) == ids(second, third)
    assert whole(watched.disk, third, publisher.content)


class Filling(MemoryFiles):
    """An account in which somebody else fills the disk once the first file has come."""

    left = 40_000

    def carry_out(self, ops: Iterable[Op], pulse: Pulse | None = None) -> Iterator[Outcome]:
        """As ever, but for that."""
        for outcome in super().carry_out(ops, pulse):
            if isinstance(outcome.op, Put) and self.left >= 0:
                self._disk.room = self._disk.used() + self.left
                self.left = -1
            yield outcome


@pytest.mark.parametrize("tells", [True, False], ids=["statvfs", "no statvfs"])
def test_a_disk_that_fills_up_meanwhile_is_made_room_on_too(publisher: Publisher, tells: bool) -> None:
    """The failure itself is the sign, also where the server does not tell how much is free."""
    watched, (_, second, third) = stocked(publisher)
    watched.disk.room = None
    fourth = publisher.take({b"a": b"a" * 1000, **site(4)})
    watched.allow(fourth)

    result = publisher.publish(Filling(watched.disk, traits=replace(ALL, space=tells)), fourth)
    assert result.result == "published"
    assert len(result.warnings) == 1
    assert releases(watched.disk) == ids(second, third, fourth)
    assert whole(watched.disk, fourth, publisher.content)
    assert litter(watched.disk) == []


class Quota(MemoryFiles):
    """An account with a quota: the disk has room, it is only not for us."""

    def carry_out(self, ops: Iterable[Op], pulse: Pulse | None = None) -> Iterator[Outcome]:
        """Tell of the disk's room, whatever we may write."""
        for outcome in super().carry_out(ops, pulse):
            yield replace(outcome, value=10**12, trouble=None) if isinstance(outcome.op, Space) else outcome


def test_a_quota_counts_as_a_full_disk(publisher: Publisher) -> None:
    """Hosters set quotas; a server tells of the whole disk, and says "Failure" to a write."""
    watched, (first, _, third) = stocked(publisher)

    with pytest.raises(Full, match=r"the account's quota is full, most likely: it says 'Failure' to a write") as full:
        publisher.publish(Quota(watched.disk), publisher.take(site(4, 500_000)))
    assert full.value.free == 10**12
    fourth = publisher.take(site(4))
    watched.allow(fourth)
    result = publisher.publish(Quota(watched.disk), fourth)
    assert result.result == "published"
    assert whole(watched.disk, fourth, publisher.content)
    assert first.snapshot.id.encode() not in releases(watched.disk)
    assert set(ids(third, fourth)) <= set(releases(watched.disk))


class Shrinking(Filling):
    """What is left after the first file is too little for the rest, which would be found out late."""

    left = 45 * MEGABYTE


def test_a_long_publish_asks_again_and_sends_no_more_than_fits(publisher: Publisher) -> None:
    """An hour of uploading to a disk that others fill is an hour lost, and their room with it."""
    watched = Watched(publisher)
    first = publisher.take(site(1))
    watched.allow(first)
    publisher.publish(MemoryFiles(watched.disk), first)
    second = publisher.take({**site(1), **{b"%d" % n: bytes([n]) * 40 * MEGABYTE for n in range(4)}})
    watched.disk.tick = None
    files = Shrinking(watched.disk)

    with pytest.raises(Full) as full:
        publisher.publish(files, second)
    large = [op for op in files.done if isinstance(op, Put) and op.size == 40 * MEGABYTE]
    assert len(large) == 2
    assert full.value.needed == 80 * MEGABYTE
    assert (full.value.free or 0) < 6 * MEGABYTE
    assert whole(watched.disk, first, publisher.content)


@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it, unanswered"])
def test_a_publish_that_makes_room_cut_at_any_request_is_finished_by_the_next(after: bool) -> None:
    """What is dropped leaves its place by one rename, and no reader ever meets half of anything."""
    at, cut = 0, True
    while cut:
        publisher = Publisher()
        watched, (_, second, third) = stocked(publisher)
        fourth = publisher.take(site(4))
        watched.allow(fourth)

        files = MemoryFiles(watched.disk, cut=Cut(at, after=after, killed=bool(at % 2)))
        cut = break_off(publisher, files, fourth)
        publisher.publish(MemoryFiles(watched.disk), fourth)

        assert whole(watched.disk, fourth, publisher.content)
        assert releases(watched.disk) == ids(second, third, fourth)
        assert litter(watched.disk) == []
        at += 1
    assert at > 80


def test_a_full_disk_of_a_real_server_is_made_room_on(lab: Lab) -> None:
    """OpenSSH says "Failure", a file system says how much is free: together they are enough."""
    sshd = lab.sshd()
    folder = sshd.root / "small"
    folder.mkdir()
    if is_root():
        shutil.chown(folder, sshd.user)
    publisher = Publisher()
    with SmallDisk(folder, 1024) as disk:
        here = Ground("sshd", lambda: SftpFiles.open(account_on(sshd, "small")), folder)
        taken = [publisher.take({b"index.html": b"%d" % n, b"film": os.urandom(300_000)}) for n in range(3)]
        for signed in taken[:2]:
            publisher.publish(here.connect(), signed)
            here.an_hour_passes()
        disk.fill(leave=100_000)

        result = publisher.publish(here.connect(), taken[2])
        assert result.warnings[0].startswith("lyon: its disk was full: its oldest release, ")
        assert here.served() == release_of(taken[2], publisher.content)
        names = sorted(path.name for path in (folder / "releases").iterdir())
        assert names == [signed.snapshot.id for signed in taken[1:]]
        assert here.litter() == []


def test_a_disk_that_holds_no_more_names_is_full_too(lab: Lab) -> None:
    """Small accounts run out of files long before bytes; OpenSSH says "Failure" to that as to everything."""
    sshd = lab.sshd()
    folder = sshd.root / "few"
    folder.mkdir()
    if is_root():
        shutil.chown(folder, sshd.user)
    publisher = Publisher()
    with SmallDisk(folder, 8192, names=200):
        here = Ground("sshd", lambda: SftpFiles.open(account_on(sshd, "few")), folder)
        taken = [publisher.take({b"%d/%d" % (n % 7, n): os.urandom(100) for n in range(60)}) for _ in range(3)]
        for signed in taken[:2]:
            publisher.publish(here.connect(), signed)
            here.an_hour_passes()

        result = publisher.publish(here.connect(), taken[2])
        assert result.warnings[0].startswith("lyon: its disk was full: its oldest release, ")
        assert here.served() == release_of(taken[2], publisher.content)
        more = publisher.take({b"%d" % n: b"%d" % n for n in range(300)})
        with pytest.raises(Full, match=r"its disk is full|most likely"):
            publisher.publish(here.connect(), more, allow_deletions=True)
        assert here.served() == release_of(taken[2], publisher.content)


class Brim(Disk):
    """A disk that may have no room for anything any more: neither for a byte nor for a name."""

    full = False

    def take_room(self, more: int) -> None:
        """Take nothing where it is full."""
        self.room = 0 if self.full and more > 0 else None
        super().take_room(more)

    def add(self, path: bytes, node: Node) -> None:
        """Make nothing where it is full."""
        self.take_room(1)
        super().add(path, node)


POOR = replace(ALL, symlink=False, replace_link=False)
BARE = replace(POOR, hard_link=False, replace=False, copy_data=False, rename_folder=False)


@pytest.mark.parametrize(
    ("layout", "traits"),
    [("releases", ALL), ("rename", POOR), ("inplace", POOR), ("inplace", BARE)],
    ids=["releases", "rename", "inplace", "inplace, nothing but plain renames of files"],
)
def test_a_disk_that_is_full_from_any_request_on_is_called_that(layout: str, traits: Traits) -> None:
    """Readers have one whole release then, also where files are replaced one by one; with room again all goes on."""
    at, full = 20, True
    while full:
        publisher, disk = Publisher(), Brim()
        old = {**site(1), b"old.css": b"old", b"a/b.css": b"1"}
        new = {**site(2), b"a/b.css": b"22", b"new/c.css": b"3", b"a/d": b""}
        first, second = publisher.take(old), publisher.take(new)
        publisher.publish(MemoryFiles(disk, traits=traits), first, layout=layout)
        start = disk.requests

        def fill_up(number: int, disk: Brim = disk, start: int = start, at: int = at) -> None:
            disk.full = number - start >= at

        disk.tick = fill_up
        with contextlib.suppress(Full):
            publisher.publish(MemoryFiles(disk, traits=traits), second, layout=layout)
        full, disk.full, disk.tick = disk.full, False, None

        assert whole(disk, first, publisher.content) or whole(disk, second, publisher.content), f"full from {at} on"
        disk.room = None
        publisher.publish(MemoryFiles(disk, traits=traits), second, layout=layout)
        assert whole(disk, second, publisher.content)
        assert litter(disk) == []
        at += 1
    assert at > 80
