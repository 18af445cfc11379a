"""Publishing that breaks off: at every request, in every order, with requests that arrive late."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirrord.errors import MirrordError, Unavailable
from mirrord.hosts.files import Op, Rename
from mirrord.hosts.memory import Cut, Disk, Killed, MemoryFiles
from mirrord.manifest import Signed
from tests.publishing import Publisher, half_releases, litter, release_of, releases, served, whole

FIVE = {
    b"index.html": b"<h1>one</h1>",
    b"a/b/deep.txt": b"deep",
    b"a/empty": b"",
    b"img/photo.png": b"\x89PNG" * 9,
    b"odd \xff\nname": b"odd",
}
CHANGED = {
    b"index.html": b"<h1>two</h1>",
    b"a/b/deep.txt": b"deep",
    b"moved/empty": b"",
    b"img/photo.png": b"\x89PNG" * 9,
    b"img/new.png": b"\x89PNG" * 5,
}


class Watched:
    """A disk whose readers look at every request: they see one whole release or another, and nothing else."""

    def __init__(self, publisher: Publisher, *allowed: Signed, room: int | None = None) -> None:
        self.publisher = publisher
        self.time = 1_700_000_000.0
        self.disk = Disk(clock=lambda: self.time, tick=self.look, room=room)
        self.allowed: list[dict[bytes, bytes]] = [{}]
        self.allow(*allowed)
        self.happen: Callable[[int], None] = lambda _: None

    def allow(self, *snapshots: Signed) -> None:
        """Let readers see these too."""
        self.allowed += [release_of(signed, self.publisher.content) for signed in snapshots]

    def only(self, signed: Signed) -> None:
        """From now on readers see this, or what is allowed later."""
        self.allowed = [release_of(signed, self.publisher.content)]

    def look(self, number: int) -> None:
        """Look as a reader, and at what is whole by its name."""
        self.happen(number)
        assert served(self.disk) in self.allowed, "readers saw a mixture"
        assert half_releases(self.disk, self.publisher) == [], "half a release stood in releases/"

    def an_hour_passes(self) -> None:
        """Let so much time pass that nothing was served lately."""
        self.time += 2 * 3600


def break_off(publisher: Publisher, files: MemoryFiles, signed: Signed, **terms: Any) -> bool:
    """Publish on a connection that may be cut; return whether it was."""
    try:
        publisher.publish(files, signed, **terms)
    except (Unavailable, Killed):
        return True
    return False


@pytest.mark.parametrize("killed", [False, True], ids=["connection cut", "process killed"])
@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it, unanswered"])
def test_a_publish_cut_at_any_request_is_never_seen_half_and_is_finished_by_the_next(after: bool, killed: bool) -> None:
    """
    The promise of rule 1 and rule 11: wherever it ends, readers see one whole release, and publishing again
    leads them to the new one and leaves nothing behind.
    """
    at = 0
    cut = True
    while cut:
        publisher = Publisher()
        first, second = publisher.take(FIVE), publisher.take(CHANGED)
        watched = Watched(publisher, first)
        publisher.publish(MemoryFiles(watched.disk), first)
        watched.only(first)
        watched.allow(second)

        files = MemoryFiles(watched.disk, cut=Cut(at, after=after, killed=killed), umask=0o077)
        cut = break_off(publisher, files, second)
        publisher.publish(MemoryFiles(watched.disk), second)

        assert whole(watched.disk, second, publisher.content)
        assert litter(watched.disk) == []
        at += 1
    assert at > 80, "the publish was cut at all of its requests"


@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it, unanswered"])
def test_a_first_publish_cut_at_any_request_is_finished_by_the_next(after: bool) -> None:
    """A mirror that holds nothing yet is the longest publish there is, and the likeliest to break off."""
    at = 0
    cut = True
    while cut:
        publisher = Publisher()
        first = publisher.take(FIVE)
        watched = Watched(publisher, first)

        cut = break_off(publisher, MemoryFiles(watched.disk, cut=Cut(at, after=after)), first)
        publisher.publish(MemoryFiles(watched.disk), first)

        assert whole(watched.disk, first, publisher.content)
        assert litter(watched.disk) == []
        at += 1
    assert at > 80


def test_a_resume_that_meets_a_newer_snapshot_takes_over_what_is_the_same() -> None:
    """What was sent of a snapshot that is outdated by now is not sent again, and none of its other files slips in."""
    at = 0
    cut, kept = True, 0
    while cut:
        publisher = Publisher()
        first, second = publisher.take(FIVE), publisher.take(CHANGED)
        third = publisher.take({**CHANGED, b"index.html": b"<h1>six</h1>", b"img/new.png": b"\x89PNG" * 6})
        watched = Watched(publisher, first)
        publisher.publish(MemoryFiles(watched.disk), first)
        watched.only(first)
        watched.allow(second, third)

        cut = break_off(publisher, MemoryFiles(watched.disk, cut=Cut(at, killed=True)), second)
        before = MemoryFiles(watched.disk)
        result = publisher.publish(before, third)

        assert whole(watched.disk, third, publisher.content)
        assert litter(watched.disk) == []
        kept = max(kept, len(CHANGED) - result.files_sent - result.files_linked)
        at += 1
    assert kept == 3, "all that both snapshots have in common was kept in the best case"


def test_a_kill_inside_prune_leaves_whole_releases_and_the_next_publish_cleans_up() -> None:
    """A release that is being deleted has left releases/ before: a kill leaves no half one there, nor any litter."""
    at = 0
    cut, pruned = True, set()
    while cut:
        publisher = Publisher()
        first, second, third = publisher.take(FIVE), publisher.take(CHANGED), publisher.take(FIVE | {b"z": b"z"})
        watched = Watched(publisher, first, second, third)
        for signed in (first, second):
            publisher.publish(MemoryFiles(watched.disk), signed)
            watched.an_hour_passes()

        cut = break_off(publisher, MemoryFiles(watched.disk, cut=Cut(at, killed=True)), third, keep=1)
        pruned.add(len(releases(watched.disk)))
        publisher.publish(MemoryFiles(watched.disk), third, keep=1)

        assert whole(watched.disk, third, publisher.content)
        assert litter(watched.disk) == []
        at += 1
    assert pruned == {2, 3}, "it was cut before and after releases had left their place"


def test_a_kill_while_a_dead_holders_lock_is_taken_over_is_taken_over_again() -> None:
    """A take-over is a change like any other: whoever comes after the second dead one finds a way on."""
    at = 0
    cut = True
    while cut:
        publisher = Publisher()
        first, second = publisher.take(FIVE), publisher.take(CHANGED)
        watched = Watched(publisher, first, second)
        publisher.publish(MemoryFiles(watched.disk), first)
        break_off(publisher, MemoryFiles(watched.disk, cut=Cut(60, killed=True)), second)

        cut = break_off(publisher, MemoryFiles(watched.disk, cut=Cut(at, killed=True)), second)
        publisher.publish(MemoryFiles(watched.disk), second)

        assert whole(watched.disk, second, publisher.content)
        assert litter(watched.disk) == []
        at += 1
    assert at > 80


def test_requests_of_a_lost_connection_that_arrive_late_change_nothing_for_readers() -> None:
    """
    A lost connection may still have requests on its way. Whenever they arrive while another publish of a newer
    snapshot goes on, readers see whole releases, and in the end the newer one.
    """
    publisher = Publisher()
    first, second = publisher.take(FIVE), publisher.take(CHANGED)
    third = publisher.take({**CHANGED, b"index.html": b"<h1>six</h1>"})
    rng = random.Random(1)
    late = 0
    for at in range(0, 130, 2):
        for moment in rng.sample(range(120), 4):
            watched = Watched(publisher, first)
            publisher.publish(MemoryFiles(watched.disk), first)
            watched.only(first)
            watched.allow(second, third)
            lost = MemoryFiles(watched.disk, cut=Cut(at), order=random.Random(at))
            if not break_off(publisher, lost, second):
                continue
            start = watched.disk.requests
            late += len(lost.late)

            def arrive(number: int, lost: MemoryFiles = lost, due: int = start + moment) -> None:
                if number >= due:
                    lost.arrive()

            watched.happen = arrive
            try:
                publisher.publish(MemoryFiles(watched.disk), third)
            except MirrordError:
                publisher.publish(MemoryFiles(watched.disk), third)  # what arrived stood in the way: try again
            lost.arrive()
            watched.look(0)

            assert whole(watched.disk, third, publisher.content)
    assert late > 200, "there were requests on their way"


def test_the_switch_of_a_lost_connection_that_arrives_late_does_not_take_readers_back() -> None:
    """
    The one request that readers see is the rename of `current`. On its way while its sender is given up and a newer
    snapshot is published, it must find nothing to rename, whenever it arrives: readers never go back.
    """
    arrived = sum(arrives_late(moment) for moment in range(120))

    assert arrived > 100


def arrives_late(moment: int) -> bool:
    """Let a lost switch arrive after so many requests of the next publish; return whether it did."""
    publisher = Publisher()
    first, second, third = (publisher.take(FIVE | {b"n": b"%d" % n}) for n in range(3))
    watched = Watched(publisher, first, second, third)
    publisher.publish(MemoryFiles(watched.disk), first)
    lost = MemoryFiles(watched.disk, cut=Cut(switches))
    assert break_off(publisher, lost, second)
    due = watched.disk.requests + moment

    def arrive(number: int) -> None:
        if number == due:
            lost.arrive()
            if served(watched.disk) == release_of(second, publisher.content):
                watched.only(second)
                watched.allow(third)

    watched.happen = arrive
    try:
        publisher.publish(MemoryFiles(watched.disk), third)
    except MirrordError:
        publisher.publish(MemoryFiles(watched.disk), third)
    assert whole(watched.disk, third, publisher.content)
    return not lost.late


def switches(op: Op) -> bool:
    """Whether an operation is the one that readers see."""
    return isinstance(op, Rename) and op.new == b"current"


names = st.sampled_from([b"a", b"b", b"c.html", b"dir", b"\xc3\xa9", b"-", b"x y"])
paths = st.lists(names, min_size=1, max_size=3).map(b"/".join)
contents = st.sampled_from([b"", b"1", b"22", b"333", b"page" * 20])


def tree(draw_from: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Leave out what would be a file and a folder at once."""
    return {
        path: data for path, data in draw_from.items() if not any(other.startswith(path + b"/") for other in draw_from)
    }


trees = st.dictionaries(paths, contents, min_size=1, max_size=7).map(tree)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sites=st.lists(trees, min_size=2, max_size=4),
    cuts=st.lists(st.tuples(st.integers(0, 140), st.booleans(), st.booleans()), min_size=1, max_size=4),
    seed=st.integers(0, 2**16),
)
def test_whatever_is_published_and_wherever_it_breaks_off_readers_see_whole_releases(
    sites: list[dict[bytes, bytes]], cuts: list[tuple[int, bool, bool]], seed: int
) -> None:
    """Any trees, any cuts, requests mixed in any order: the promise does not hang on five friendly files."""
    publisher = Publisher()
    order = random.Random(seed)
    snapshots = [publisher.take(site) for site in sites]
    watched = Watched(publisher, *snapshots)
    for signed in snapshots:
        for at, after, killed in cuts:
            files = MemoryFiles(watched.disk, cut=Cut(at, after=after, killed=killed), order=order, umask=0o077)
            break_off(publisher, files, signed, keep=2, allow_deletions=True)
        watched.an_hour_passes()

        publisher.publish(MemoryFiles(watched.disk, order=order), signed, keep=2, allow_deletions=True)
        assert whole(watched.disk, signed, publisher.content)
        if litter(watched.disk):
            # Cut after the switch, and again while it took the lock to clean up: of a lock that says nothing only a
            # minute's watch tells that nobody holds it. That is spent where there is more to do than to clean up.
            assert [path for path in litter(watched.disk) if not path.startswith(b".mirrord/lock.")] == []
            publisher.publish(MemoryFiles(watched.disk, order=order), signed, mend=True, keep=2)
        assert litter(watched.disk) == []
        watched.only(signed)
        watched.allow(*snapshots)
