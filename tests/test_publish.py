"""What publishing to one mirror does, refuses, and reports."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest

from mirrord.errors import Braked, Cancelled, Conflict, Locked, MirrordError, PutOff, Refused, Silent, Unavailable
from mirrord.hosts import Host, Progress
from mirrord.hosts.files import Create, Link, Op, Put, Remove, Rename
from mirrord.hosts.host import FilesHost
from mirrord.hosts.lock import this_process
from mirrord.hosts.memory import Cut, Disk, Killed, MemoryFiles, Node
from mirrord.manifest import Signed
from mirrord.plan import Guard
from mirrord.publish import Published, publish, publish_with_retries
from mirrord.trust.keys import Signers
from tests.publishing import (
    IDENTITY,
    NO_GUARD,
    OWN,
    Publisher,
    host_on,
    litter,
    release_of,
    releases,
    served,
    whole,
)

SITE = {b"page-%02d.html" % n: b"page %d" % n for n in range(20)}
NEXT = {**SITE, b"page-00.html": b"changed"}
WRITES = (Create, Put, Link, Rename, Remove)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


def another(publisher: Publisher) -> Publisher:
    """A controller with the same key and content, and a store of its own."""
    return Publisher(key=publisher.key, content=publisher.content, clock=publisher.clock, name="other")


def writes(files: MemoryFiles) -> list[Op]:
    return [op for op in files.done if isinstance(op, WRITES)]


def sent(files: MemoryFiles) -> set[bytes]:
    """The names of the site's files whose content travelled."""
    paths = [op.path for op in files.done if isinstance(op, Put)]
    return {path.rpartition(b"/")[2] for path in paths if path.endswith(b".html")}


def retrying(publisher: Publisher, open_host: Callable[[], Host], signed: Signed, **terms: Any) -> Published:
    """Publish with retries that cost no time."""
    usual: dict[str, Any] = {"keep": 5, "guard": NO_GUARD, "pause": lambda _: None}
    return publish_with_retries(
        open_host,
        this_process("home"),
        "lyon",
        signed,
        publisher.content,
        publisher.known,
        signers=publisher.signers,
        identity=IDENTITY,
        **{**usual, **terms},
    )


def test_a_first_publish_sends_everything_and_a_second_look_nothing(disk: Disk, publisher: Publisher) -> None:
    """The figures are what `sync` shows and what an operator compares with a bill."""
    signed = publisher.take(SITE)
    first = publisher.publish(MemoryFiles(disk), signed)
    files = MemoryFiles(disk)
    second = publisher.publish(files, signed)

    own = sum(len(data) for path, data in release_of(signed, publisher.content).items() if path.startswith(OWN))
    assert (first.result, first.files_sent, first.files_linked, first.files_removed) == ("published", 20, 0, 0)
    assert first.bytes_sent == signed.manifest.size + own
    assert (second.result, second.files_sent, second.bytes_sent) == ("unchanged", 0, 0)
    assert writes(files) == []


def test_a_change_sends_what_changed_and_links_the_rest(disk: Disk, publisher: Publisher) -> None:
    """One page costs one page."""
    publisher.publish(MemoryFiles(disk), publisher.take(SITE))
    second = publisher.take({path: data for path, data in NEXT.items() if path != b"page-19.html"})
    result = publisher.publish(MemoryFiles(disk), second)

    assert (result.files_sent, result.files_linked, result.files_removed) == (1, 18, 1)
    assert whole(disk, second, publisher.content)


def test_a_card_that_was_signed_again_is_posted_and_nothing_else(disk: Disk, publisher: Publisher) -> None:
    """A quiet site must not look overdue; its content is as it was."""
    signed = publisher.take(SITE)
    publisher.publish(MemoryFiles(disk), signed)
    again = publisher.sign_again(signed)
    files = MemoryFiles(disk)
    result = publisher.publish(files, again)

    assert result.result == "unchanged"
    assert result.bytes_sent == len(again.card) + len(again.card_sig)
    assert whole(disk, again, publisher.content)
    assert len(releases(disk)) == 1
    assert litter(disk) == []
    assert not [op for op in files.done if isinstance(op, Link)]


def test_an_older_card_does_not_replace_a_newer_one(disk: Disk, publisher: Publisher) -> None:
    """A controller that was asleep must not make the site look older than it is."""
    signed = publisher.take(SITE)
    again = publisher.sign_again(signed)
    publisher.publish(MemoryFiles(disk), again)
    files = MemoryFiles(disk)

    assert publisher.publish(files, signed).result == "unchanged"
    assert writes(files) == []
    assert whole(disk, again, publisher.content)


def test_a_card_that_the_host_altered_is_posted_again(disk: Disk, publisher: Publisher) -> None:
    """Its signature does not hold, so it cannot be a newer one of ours."""
    signed = publisher.take(SITE)
    publisher.publish(MemoryFiles(disk), signed)
    card = disk.find(b"current/" + OWN + b"snapshot.json")
    assert card is not None
    card.data[:] = card.data.replace(b'"serial": 1', b'"serial": 9')

    publisher.publish(MemoryFiles(disk), signed)
    assert whole(disk, signed, publisher.content)


# What is refused before a byte is sent


def test_a_mirror_with_a_higher_serial_is_left_alone_and_stops_automatic_publishing(
    disk: Disk, publisher: Publisher
) -> None:
    """A controller that was restored from an old backup must not lead readers back to last month."""
    other = another(publisher)
    other.serial = 14
    theirs = other.take(SITE)
    other.publish(MemoryFiles(disk), theirs)
    ours = publisher.take(NEXT)
    files = MemoryFiles(disk)
    result = retrying(publisher, lambda: host_on(files), ours)

    assert (result.result, result.error_code, result.halts) == ("refused", 5, True)
    assert result.error is not None
    assert f"it serves {theirs.snapshot.id} with serial 15" in result.error
    assert f"`mirrord rollback {ours.snapshot.id}`" in result.error, "the way out is named"
    assert writes(files) == []


def test_a_mirror_with_our_serial_and_another_content_is_left_alone_too(disk: Disk, publisher: Publisher) -> None:
    """Two controllers count from the same number: neither knows better than the other."""
    other = another(publisher)
    other.publish(MemoryFiles(disk), other.take(SITE))
    with pytest.raises(Braked) as braked:
        publisher.publish(MemoryFiles(disk), publisher.take(NEXT))

    assert braked.value.brake == "serial"


def test_a_newer_snapshot_that_comes_between_is_called_by_its_name(disk: Disk, publisher: Publisher) -> None:
    """What was looked at before the lock counts no more: it is read again under it."""
    publisher.publish(MemoryFiles(disk), publisher.take(SITE))
    other = another(publisher)
    other.taken, other.serial = dict(publisher.taken), 7
    ours, theirs = publisher.take(NEXT), other.take({**NEXT, b"new": b"new"})
    files = MemoryFiles(disk)

    def come(number: int) -> None:
        if isinstance(files.done[-1], Create):
            disk.tick = None
            other.publish(MemoryFiles(disk), theirs)

    disk.tick = come
    with pytest.raises(Braked, match="serial 8") as braked:
        publisher.publish(files, ours)
    assert braked.value.brake == "serial"
    assert whole(disk, theirs, publisher.content)


def test_an_older_snapshot_that_comes_between_is_a_conflict(disk: Disk, publisher: Publisher) -> None:
    """The plan that was shown is not carried out on something else."""
    publisher.publish(MemoryFiles(disk), publisher.take(SITE))
    middle, ours = publisher.take(NEXT), publisher.take({**NEXT, b"new": b"new"})
    files = MemoryFiles(disk)

    def come(number: int) -> None:
        if isinstance(files.done[-1], Create):
            disk.tick = None
            publisher.publish(MemoryFiles(disk), middle)

    disk.tick = come
    with pytest.raises(Conflict) as conflict:
        publisher.publish(files, ours)
    assert conflict.value.found == middle.snapshot.id
    publisher.publish(MemoryFiles(disk), ours)
    assert whole(disk, ours, publisher.content)
    assert litter(disk) == []


@pytest.mark.parametrize("whose", ["another key", "another site"])
def test_a_card_that_we_do_not_believe_stops_nobody(disk: Disk, publisher: Publisher, whose: str) -> None:
    """Who can write to one mirror must not be able to stop publishing there for good."""
    theirs = Publisher(content=publisher.content, serial=98) if whose == "another key" else another(publisher)
    theirs.serial = 98
    signed = theirs.take(SITE)
    theirs.publish(MemoryFiles(disk), signed)
    ours = publisher.take(NEXT)
    task = replace(publisher.task(ours), signed=ours)
    if whose == "another site":
        ours = replace(ours, snapshot=replace(ours.snapshot, site="another"))
        task = replace(task, signed=ours)

    assert publish(host_on(MemoryFiles(disk)), task).result == "published"
    assert served(disk)[b"page-00.html"] == b"changed"


def test_too_many_deletions_are_refused_before_anything_is_sent(disk: Disk, publisher: Publisher) -> None:
    """What the mirror serves counts, also where it missed the snapshots between."""
    publisher.publish(MemoryFiles(disk), publisher.take(SITE))
    shrunken = publisher.take({path: SITE[path] for path in sorted(SITE)[:12]})
    files = MemoryFiles(disk)
    guard = Guard(removed_percent=10, removed_files=5)
    with pytest.raises(Braked, match=r"8 of 20 files .*--allow-deletions") as braked:
        publisher.publish(files, shrunken, guard=guard)

    assert braked.value.brake == "deletions"
    assert writes(files) == []
    assert publisher.publish(files, shrunken, guard=guard, allow_deletions=True).result == "published"


# What another controller, or nobody, published


def test_what_another_controller_published_is_the_base_and_counts_for_the_brake(
    disk: Disk, publisher: Publisher
) -> None:
    """
    A second controller takes over with an empty store: it must not send 98 MB again, nor delete what it never knew.
    The mirror's own manifest, if it is signed, says what is there.
    """
    other = another(publisher)
    theirs = other.take(SITE)
    other.publish(MemoryFiles(disk), theirs)
    publisher.serial = 1
    publisher.taken = {}
    ours = publisher.take(NEXT)
    entries = {
        path: entry._replace(mtime=theirs.manifest.entries[path].mtime + (path == b"page-00.html"))
        for path, entry in ours.manifest.entries.items()
    }
    ours = replace(ours, manifest=replace(ours.manifest, entries=entries))
    files = MemoryFiles(disk)
    result = publisher.publish(files, ours)

    assert sent(files) == {b"page-00.html"}
    assert (result.files_sent, result.files_linked) == (1, 19)
    other.serial = 5
    other.taken = {}
    shrunken = other.take({b"page-01.html": SITE[b"page-01.html"]})
    with pytest.raises(Braked, match="19 of 20 files"):
        other.publish(MemoryFiles(disk), shrunken)


def test_what_nobody_signed_is_replaced_without_linking_from_it(disk: Disk, publisher: Publisher) -> None:
    """A manifest that the host could have written itself is no base."""
    other = another(publisher)
    other.publish(MemoryFiles(disk), other.take(SITE))
    sums = disk.find(b"current/" + OWN + b"SHA256SUMS")
    assert sums is not None
    sums.data.extend(b"0" * 64 + b"  z\n")
    publisher.serial = 1
    signed = publisher.take(NEXT)
    files = MemoryFiles(disk)
    publisher.publish(files, signed)

    assert sent(files) == set(SITE)
    assert whole(disk, signed, publisher.content)


def test_an_altered_card_does_not_hide_what_we_know_ourselves(disk: Disk, publisher: Publisher) -> None:
    """Our own store knows the served release by its id: base and brake need no card."""
    publisher.publish(MemoryFiles(disk), publisher.take(SITE))
    card = disk.find(b"current/" + OWN + b"snapshot.json")
    assert card is not None
    card.data.extend(b" ")
    files = MemoryFiles(disk)
    publisher.publish(files, publisher.take(NEXT))

    assert sent(files) == {b"page-00.html"}
    with pytest.raises(Braked, match="19 of 20"):
        publisher.publish(MemoryFiles(disk), publisher.take({b"page-01.html": b"alone"}))


# After a verdict


def test_a_mirror_that_was_seen_altered_is_listed_and_mended(disk: Disk, publisher: Publisher) -> None:
    """The host injected a page and truncated another: its current snapshot is put right, not sent as a whole."""
    signed = publisher.take(SITE)
    publisher.publish(MemoryFiles(disk), signed)
    top = disk.find(b"current")
    assert top is not None
    top.names[b"injected.html"] = Node(top.names[b"page-03.html"].kind, 0o644, 5)
    top.names[b"page-03.html"].data.clear()
    top.names[b"page-04.html"].mode = 0o600
    assert publisher.publish(MemoryFiles(disk), signed).result == "unchanged", "nobody asked to look"
    files = MemoryFiles(disk)
    result = publisher.publish(files, signed, mend=True)

    assert (result.result, result.files_sent, result.files_removed) == ("published", 2, 1)
    assert whole(disk, signed, publisher.content)
    mended = disk.find(b"current/page-04.html")
    assert mended is not None
    assert mended.mode == 0o644
    assert publisher.publish(MemoryFiles(disk), signed, mend=True).result == "unchanged"
    assert litter(disk) == []


def test_bytes_that_readers_saw_to_be_wrong_are_replaced_though_they_list_well(
    disk: Disk, publisher: Publisher
) -> None:
    """Same size, same mtime, other bytes: only a reader can tell, and what he saw is a reason to act."""
    signed = publisher.take(SITE)
    publisher.publish(MemoryFiles(disk), signed)
    node = disk.find(b"current/page-03.html")
    assert node is not None
    node.data[:] = b"PAGE 3"
    publisher.publish(MemoryFiles(disk), signed, suspects=frozenset({b"page-03.html", b"no-such-page"}))

    assert whole(disk, signed, publisher.content)


def test_without_a_name_everything_that_lists_well_is_read_back(disk: Disk, publisher: Publisher) -> None:
    """Readers were served something wrong and no listing shows what: then the bytes themselves are compared."""
    signed = publisher.take(SITE)
    publisher.publish(MemoryFiles(disk), signed)
    node = disk.find(b"current/page-07.html")
    assert node is not None
    node.data[:] = b"PAGE 7"
    result = publisher.publish(MemoryFiles(disk), signed, mend=True)

    assert (result.result, result.files_sent) == ("published", 1)
    assert whole(disk, signed, publisher.content)


# Stopping, locking, cleaning up


def test_told_to_stop_it_ends_what_is_on_its_way_and_leaves_the_mirror_free(disk: Disk, publisher: Publisher) -> None:
    """A daemon that is stopped in the middle of an upload must not keep others out, nor lose what it sent."""
    first, second = publisher.take(SITE), publisher.take({path: b"new " + data for path, data in SITE.items()})
    publisher.publish(MemoryFiles(disk), first)
    stop = threading.Event()
    files = MemoryFiles(disk)

    def look(progress: Progress) -> None:
        if progress.files_done == 5:
            stop.set()

    with pytest.raises(Cancelled):
        publisher.publish(files, second, seen=look, stop=stop)
    assert len(sent(files)) == 5
    assert disk.find(b".mirrord/lock.1") is None
    assert whole(disk, first, publisher.content)

    files = MemoryFiles(disk)
    publisher.publish(files, second)
    assert len(sent(files)) == 15
    assert whole(disk, second, publisher.content)
    assert litter(disk) == []


def test_of_two_publishes_at_once_the_second_is_told_that_it_is_locked(disk: Disk, publisher: Publisher) -> None:
    """By the daemon and by hand, in one process or two: one works, the other says so with exit code 10."""
    first = publisher.take(SITE)
    files = MemoryFiles(disk)
    results: list[Published] = []

    def come(number: int) -> None:
        if any(isinstance(op, Put) for op in files.done):
            disk.tick = None
            results.append(retrying(publisher, lambda: FilesHost(MemoryFiles(disk), "lyon"), first))

    disk.tick = come
    results.append(retrying(publisher, lambda: FilesHost(files, "lyon"), first))
    assert [(result.result, result.error_code) for result in results] == [("failed", 10), ("published", 0)]
    assert whole(disk, first, publisher.content)
    assert litter(disk) == []


def test_what_a_kill_after_the_switch_left_is_cleaned_up_though_nothing_is_published(
    disk: Disk, publisher: Publisher
) -> None:
    """The snapshot is served already; its lock must not wait for the next one to be dropped."""
    signed = publisher.take(SITE)
    switch = Cut(lambda op: isinstance(op, Rename) and op.new == b"current", after=True, killed=True)
    with pytest.raises(Killed):
        publisher.publish(MemoryFiles(disk, cut=switch), signed)
    left = litter(disk)

    assert publisher.publish(MemoryFiles(disk), signed).result == "unchanged"
    assert left == [b".mirrord/lock.1"]
    assert litter(disk) == []


def test_what_another_finished_while_we_took_a_dead_holders_lock_is_not_done_again(
    disk: Disk, publisher: Publisher
) -> None:
    """After a take-over what we saw before counts no more: all is looked at again."""
    first, second = publisher.take(SITE), publisher.take(NEXT)
    publisher.publish(MemoryFiles(disk), first)
    MemoryFiles(disk).in_order([Create(b".mirrord/lock.1", b"of a dead one")])
    files = MemoryFiles(disk)

    def finish(number: int) -> None:
        if isinstance(files.done[-1], Create):
            disk.tick = None
            publisher.publish(MemoryFiles(disk), second, alive=None)

    disk.tick = finish
    result = publisher.publish(files, second, alive=None)
    assert (result.result, sent(files)) == ("unchanged", set())
    assert whole(disk, second, publisher.content)
    assert litter(disk) == []


@pytest.mark.parametrize("alive", [True, None], ids=["of this machine", "of another"])
def test_a_mirror_that_somebody_else_works_on_is_unchanged_if_it_serves_our_snapshot(
    disk: Disk, publisher: Publisher, alive: bool | None
) -> None:
    """There is nothing for us to do, and nothing to wait for."""
    signed = publisher.take(SITE)
    publisher.publish(MemoryFiles(disk), signed)
    MemoryFiles(disk).in_order([Create(b".mirrord/lock.1", b"somebody")])

    result = publisher.publish(MemoryFiles(disk), signed, alive=alive)
    assert result.result == "unchanged"
    assert disk.read(b".mirrord/lock.1") == b"somebody"


# Trying again


class Line:
    """Connections to a disk of which the first few are cut."""

    def __init__(self, disk: Disk, *cuts: Cut | MirrordError) -> None:
        self.disk = disk
        self.cuts = list(cuts)
        self.opened = 0

    def __call__(self) -> Host:
        """Open one more."""
        self.opened += 1
        cut = self.cuts.pop(0) if self.cuts else None
        if isinstance(cut, MirrordError):
            raise cut
        return FilesHost(MemoryFiles(self.disk, cut=cut), "lyon")


def test_a_connection_that_breaks_is_opened_again_and_the_work_goes_on(disk: Disk, publisher: Publisher) -> None:
    """
    Lines break. Our own lock from the lost connection is no obstacle: this process knows that it does not hold it
    any more.
    """
    signed = publisher.take(SITE)
    line = Line(disk, Unavailable("lyon: connecting: refused"), Cut(40), Cut(60, after=True))
    result = retrying(publisher, line, signed)

    assert (result.result, result.error) == ("published", None)
    assert line.opened == 4
    assert whole(disk, signed, publisher.content)
    assert litter(disk) == []


def test_a_line_that_keeps_breaking_is_left_for_the_next_time(disk: Disk, publisher: Publisher) -> None:
    """Four tries in a few seconds; then the regular publish is near enough."""
    waits: list[float] = []
    line = Line(disk, *(Unavailable("lyon: connecting: refused") for _ in range(9)))
    result = retrying(publisher, line, publisher.take(SITE), pause=waits.append)

    assert (result.result, result.error_code, result.error) == ("failed", 75, "lyon: connecting: refused")
    assert line.opened == 4
    assert 0 < sum(waits) < 15


@pytest.mark.parametrize(
    ("tries", "opened"),
    [
        pytest.param([Silent("lyon: not a word")] * 9, 2, id="never a word"),
        pytest.param([Unavailable("lyon: refused"), *[Silent("lyon: not a word")] * 9], 4, id="it said no before"),
        pytest.param([Cut(40), *[Silent("lyon: not a word")] * 9], 4, id="the line broke in the middle"),
        pytest.param([Silent("lyon: not a word"), *[Unavailable("lyon: refused")] * 9], 4, id="it said no afterwards"),
    ],
)
def test_a_host_that_never_said_a_word_is_not_asked_again_and_again(
    disk: Disk, publisher: Publisher, tries: list[Cut | MirrordError], opened: int
) -> None:
    """Whoever typed `sync` waits half a minute for each silence; a line that only breaks is worth more tries."""
    line = Line(disk, *tries)
    result = retrying(publisher, line, publisher.take(SITE))

    assert line.opened == opened
    assert (result.result, result.error_code) == ("failed", 75)


@pytest.mark.parametrize(
    "error", [Refused("lyon: wrong key"), PutOff("lyon: not now"), Locked("lyon: taken")], ids=repr
)
def test_what_no_quick_try_can_cure_is_not_tried_again(disk: Disk, publisher: Publisher, error: MirrordError) -> None:
    """A host counts failed logins: asking again with the wrong key locks us out for longer."""
    line = Line(disk, error)
    result = retrying(publisher, line, publisher.take(SITE))

    assert line.opened == 1
    assert (result.result, result.error_code, result.error) == ("failed", error.exit_code, str(error))


def test_told_to_stop_it_does_not_try_again(disk: Disk, publisher: Publisher) -> None:
    """SIGTERM ends it within seconds."""
    stop = threading.Event()

    def open_host() -> Host:
        stop.set()
        raise Unavailable("lyon: connecting: refused")

    result = retrying(publisher, open_host, publisher.take(SITE), stop=stop)
    assert result.result == "failed"


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param(lambda op: isinstance(op, Rename) and op.new == b"current", id="of the switch"),
        pytest.param(lambda op: isinstance(op, Remove) and op.path == b".mirrord/lock.1", id="of the lock's end"),
        pytest.param(lambda op: isinstance(op, Remove) and op.path == b".mirrord/temp.old", id="of cleaning up"),
    ],
)
def test_a_switch_whose_answer_was_lost_still_counts_as_published(
    disk: Disk, publisher: Publisher, lost: Callable[[Op], bool]
) -> None:
    """The second try finds the snapshot served; the operator asked what this run did, and it published."""
    publisher.publish(MemoryFiles(disk), publisher.take(SITE))
    MemoryFiles(disk).in_order([Create(b".mirrord/temp.old", b"")])  # something to clean up after the switch
    line = Line(disk, Cut(lost, after=True))
    result = retrying(publisher, line, publisher.take(NEXT))

    assert line.opened == 2
    assert (result.result, result.files_sent, result.files_linked) == ("published", 1, 19)
    assert litter(disk) == []


def test_trouble_after_the_switch_is_a_warning(disk: Disk, publisher: Publisher) -> None:
    """Readers see the new release: that an old one could not be deleted is no failure to publish."""
    publisher.publish(MemoryFiles(disk), publisher.take(SITE))
    MemoryFiles(disk).in_order([Create(b".mirrord/temp.old", b"")])
    second = publisher.take(NEXT)
    cuts = [Cut(lambda op: isinstance(op, Remove) and op.path == b".mirrord/temp.old")]
    result = retrying(publisher, Line(disk, *cuts), second, attempts=1)

    assert (result.result, result.error) == ("published", None)
    assert result.warnings == ("memory: the connection was lost",)


# What is reported


def test_progress_grows_to_the_whole(disk: Disk, publisher: Publisher) -> None:
    """A bar that stops at 93 % or runs past the end is worse than none."""
    publisher.publish(MemoryFiles(disk), publisher.take(SITE))
    seen: list[Progress] = []
    publisher.publish(MemoryFiles(disk), publisher.take(NEXT), seen=seen.append)

    assert [progress.files_done for progress in seen] == sorted(progress.files_done for progress in seen)
    assert seen[-1].files_done == seen[-1].files_total == 24
    assert seen[-1].bytes_done == seen[-1].bytes_total > 0


def test_a_result_is_plain_values(disk: Disk, publisher: Publisher) -> None:
    """It goes into the journal and over the socket as JSON."""
    result = retrying(publisher, Line(disk), publisher.take(SITE))

    assert json.loads(json.dumps(asdict(result)))["result"] == "published"
    assert result.seconds > 0


def test_a_key_that_is_not_ours_any_more_signs_nothing_that_stops_us(disk: Disk, publisher: Publisher) -> None:
    """After a key was lost and replaced, what it signed is nobody's word; our own store still knows its releases."""
    publisher.publish(MemoryFiles(disk), publisher.take(SITE))
    task = publisher.task(publisher.take(NEXT))
    nobody = replace(task, signers=Signers.of([Publisher().key.public]))
    files = MemoryFiles(disk)

    assert publish(host_on(files), nobody).result == "published"
    assert sent(files) == {b"page-00.html"}
