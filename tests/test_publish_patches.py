"""Files that changed in places: they are made on the mirror of what it has, come out right, and cost what changed."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from mirrord.hosts.files import Create, Link, Op, Outcome, Patch, Pulse, Put, Traits, Trouble
from mirrord.hosts.memory import Cut, Disk, MemoryFiles
from mirrord.hosts.sftp.session import SftpFiles
from mirrord.manifest import Signed
from mirrord.publish import Agreed
from tests.conftest import Lab
from tests.grounds import account_on
from tests.publishing import Publisher, litter, served, whole
from tests.test_publish_cuts import Watched, break_off

LARGE = random.Random(3).randbytes(150_000)
SITE = {b"index.html": b"<h1>one</h1>", b"data/large.bin": LARGE, b"data/other.bin": LARGE[::-1]}
EDITED = LARGE[:40_000] + b"a passage" + LARGE[40_000:120_000] + LARGE[120_500:]
CHANGED = {**SITE, b"index.html": b"<h1>two</h1>", b"data/large.bin": EDITED}
ALL = Traits(ordered=True, symlink=True, hard_link=True, replace=True, space=True, copy_data=True)


@pytest.fixture
def publisher() -> Publisher:
    """Return a publisher whose mirror is to be changed in places."""
    return Publisher()


def published(publisher: Publisher, disk: Disk, *sites: dict[bytes, bytes], **terms: object) -> list[Signed]:
    """Publish one site after the other."""
    taken = [publisher.take(site) for site in sites]
    for signed in taken:
        publisher.publish(MemoryFiles(disk, **terms), signed)  # type: ignore[arg-type]  # as MemoryFiles takes them
    return taken


def test_a_file_that_changed_in_places_costs_what_changed(publisher: Publisher) -> None:
    """The result says what travelled, and a rehearsal would have said the same."""
    disk = Disk()
    (first,) = published(publisher, disk, SITE)
    second = publisher.take(CHANGED)
    files = MemoryFiles(disk)

    result = publisher.publish(files, second)
    assert (result.files_sent, result.files_patched, result.files_linked) == (1, 1, 1)
    own = sum(len(data) for data in {**second.fixed_files(), **second.changing_files()}.values())
    assert result.bytes_sent == len(b"a passage") + len(b"<h1>two</h1>") + own
    assert whole(disk, second, publisher.content)
    assert served(disk, b"releases/" + first.snapshot.id.encode())[b"data/large.bin"] == LARGE
    (patch,) = [op for op in files.done if isinstance(op, Patch)]
    assert files.bytes_moved()[1] < 20_000 + sum(size for _, size in patch.check)


def test_a_mirror_that_does_not_copy_gets_the_whole_file(publisher: Publisher) -> None:
    """Older servers have no copy-data; they are served as well, only not as cheaply."""
    disk = Disk()
    traits = replace(ALL, copy_data=False)
    _, second = published(publisher, disk, SITE, CHANGED, traits=traits)

    files = MemoryFiles(disk, traits=traits)
    third = publisher.take({**CHANGED, b"data/large.bin": LARGE + b"!"})
    result = publisher.publish(files, third)
    assert (result.files_sent, result.files_patched) == (1, 0)
    assert not any(isinstance(op, Patch) for op in files.done)
    assert whole(disk, third, publisher.content)
    assert second.snapshot.serial == 2


class Boaster(MemoryFiles):
    """Says that it copies, and cannot: what it leaves is an empty file."""

    def carry_out(self, ops: Iterable[Op], pulse: Pulse | None = None) -> Iterator[Outcome]:
        """Do all but patches."""
        patches: list[Patch] = []

        def others() -> Iterator[Op]:
            for op in ops:
                if isinstance(op, Patch):
                    patches.append(op)
                else:
                    yield op

        yield from super().carry_out(others(), pulse)
        for patch in patches:
            assert self.in_order([Create(patch.path, b"")])[0].good
            yield Outcome(patch, trouble=Trouble.FAILED, text="Failure")


def test_a_mirror_that_only_says_that_it_copies_gets_the_whole_file_in_the_same_publish(publisher: Publisher) -> None:
    """Advertised does not mean working; no publish fails because of it."""
    disk = Disk()
    published(publisher, disk, SITE)
    second = publisher.take(CHANGED)

    result = publisher.publish(Boaster(disk), second)
    assert (result.files_sent, result.files_patched) == (2, 0)
    assert whole(disk, second, publisher.content)
    assert litter(disk) == []


def test_a_base_that_the_host_altered_is_noticed_and_the_file_is_sent(publisher: Publisher) -> None:
    """A patched file rests on bytes that lie on the host: a sample is read back before it counts as finished."""
    disk = Disk()
    (first,) = published(publisher, disk, SITE)
    base = disk.find(b"releases/" + first.snapshot.id.encode() + b"/data/large.bin")
    assert base is not None
    base.data[50_000:] = bytes(100_000)
    second = publisher.take(CHANGED)

    result = publisher.publish(MemoryFiles(disk), second)
    assert (result.files_sent, result.files_patched) == (2, 0)
    assert whole(disk, second, publisher.content)


def test_a_file_that_the_host_edited_in_place_is_sent_anew_and_named(publisher: Publisher) -> None:
    """It is put right with the next release; that somebody alters files there is what a person must know."""
    disk = Disk()
    (first,) = published(publisher, disk, SITE)
    node = disk.find(b"releases/" + first.snapshot.id.encode() + b"/data/other.bin")
    assert node is not None
    node.data, node.mtime = bytearray(b"edited"), node.mtime + 60

    second = publisher.take(CHANGED)
    result = publisher.publish(MemoryFiles(disk), second)
    (warning,) = result.warnings
    assert "1 files ('data/other.bin' first) were sent whole" in warning
    assert whole(disk, second, publisher.content)
    again = publisher.publish(MemoryFiles(disk), publisher.take(SITE))
    assert again.warnings == ()


@pytest.mark.parametrize("killed", [False, True], ids=["cut", "killed"])
def test_what_was_sent_for_a_file_that_the_host_edited_is_named_by_the_try_that_ends_it(killed: bool) -> None:
    """
    A try that broke off had sent it, and the next finds it there, finished: a person who agreed to a plan in which it
    is linked has to hear of it all the same.
    """
    at, cut = 0, True
    while cut:
        publisher, disk, told = Publisher(), Disk(), list[frozenset[bytes]]()
        (first,) = published(publisher, disk, SITE)
        node = disk.find(b"releases/" + first.snapshot.id.encode() + b"/data/other.bin")
        assert node is not None
        node.data, node.mtime = bytearray(b"edited"), node.mtime + 60
        second = publisher.take(CHANGED)
        agreed: Agreed = lambda _plan, sent, told=told: told.append(sent)  # type: ignore[misc]  # noqa: E731
        cut = break_off(publisher, MemoryFiles(disk, cut=Cut(at, killed=killed)), second, agreed=agreed)
        publisher.publish(MemoryFiles(disk), second, agreed=agreed)
        assert whole(disk, second, publisher.content)
        assert set(told) == {frozenset(), frozenset({b"data/other.bin"})}
        at += 3
    assert at > 40


@pytest.mark.parametrize("how", ["touched", "gone", "suspected", "shorter"])
def test_a_base_that_is_not_as_it_was_published_is_none(publisher: Publisher, how: str) -> None:
    """As with links: size and mtime must be those that we set, and nobody may have seen wrong bytes in it."""
    disk = Disk()
    (first,) = published(publisher, disk, SITE)
    folder = disk.find(b"releases/" + first.snapshot.id.encode() + b"/data")
    assert folder is not None
    if how == "touched":
        folder.names[b"large.bin"].mtime += 1
    elif how == "shorter":
        del folder.names[b"large.bin"].data[-1:]
    elif how == "gone":
        del folder.names[b"large.bin"]
    second = publisher.take(CHANGED)
    files = MemoryFiles(disk)

    suspects = frozenset({b"data/large.bin"} if how == "suspected" else ())
    result = publisher.publish(files, second, suspects=suspects)
    assert (result.files_sent, result.files_patched) == (2, 0)
    assert not any(isinstance(op, Patch) for op in files.done)
    assert whole(disk, second, publisher.content)


@pytest.mark.parametrize("why", ["no hard links", "too many links"])
def test_what_cannot_be_linked_is_copied_where_it_lies(publisher: Publisher, why: str) -> None:
    """A move costs no content on an account without hard links either."""
    disk = Disk(most_links=1)
    traits = replace(ALL, hard_link=why != "no hard links")
    site = {**SITE, b"tiny.txt": b"tiny"}
    published(publisher, disk, site, traits=traits)
    second = publisher.take({**site, b"index.html": b"<h1>two</h1>"})
    files = MemoryFiles(disk, traits=traits)

    result = publisher.publish(files, second)
    assert (result.files_sent, result.files_patched, result.files_linked) == (2, 2, 0)
    assert {op.size for op in files.done if isinstance(op, Put)}.isdisjoint({len(LARGE)})
    assert any(isinstance(op, Link) for op in files.done) is (why == "too many links")
    assert whole(disk, second, publisher.content)


@pytest.mark.parametrize("layout", ["releases", "rename", "inplace"])
def test_every_layout_patches(publisher: Publisher, layout: str) -> None:
    """The poor hosts have the slow lines."""
    disk = Disk()
    first, second = publisher.take(SITE), publisher.take(CHANGED)
    publisher.publish(MemoryFiles(disk), first, layout=layout)

    result = publisher.publish(MemoryFiles(disk), second, layout=layout)
    assert (result.layout, result.files_sent, result.files_patched) == (layout, 1, 1)
    assert whole(disk, second, publisher.content)


@pytest.mark.parametrize("after", [False, True], ids=["before the request", "after it, unanswered"])
@pytest.mark.parametrize("mixed", [False, True], ids=["in order", "mixed"])
def test_a_publish_with_patches_cut_at_any_request_is_finished_by_the_next(after: bool, mixed: bool) -> None:
    """A half patched file has its full size early: it must not be taken for finished, whatever was lost."""
    content: Publisher | None = None
    at, cut = 0, True
    while cut:
        publisher = Publisher()
        publisher.key = content.key if content is not None else publisher.key
        content = publisher
        first, second = publisher.take(SITE), publisher.take(CHANGED)
        watched = Watched(publisher, first)
        publisher.publish(MemoryFiles(watched.disk), first)
        watched.only(first)
        watched.allow(second)

        order = random.Random(at) if mixed else None
        files = MemoryFiles(watched.disk, cut=Cut(at, after=after, killed=bool(at % 2)), umask=0o077, order=order)
        cut = break_off(publisher, files, second)
        result = publisher.publish(MemoryFiles(watched.disk), second)

        assert result.files_patched + result.files_sent <= 2
        assert whole(watched.disk, second, publisher.content)
        assert litter(watched.disk) == []
        at += 1 if at < 20 or at > 60 else 2
    assert at > 60


def test_a_large_file_that_changed_in_four_places_costs_two_hundredths_of_it(lab: Lab) -> None:
    """All that passes on the line counts, in both directions, from the first byte of the login to the last."""
    sshd = lab.sshd()
    line = lab.proxy(sshd.host, sshd.port)
    publisher = Publisher()
    old = random.Random(4).randbytes(8_000_000)
    new = bytearray(old)
    for at in (0, 2_000_000, 5_000_001, 7_999_000):
        new[at : at + 1000] = os.urandom(1000)
    sites = ({b"film.mp4": old, b"index.html": b"one"}, {b"film.mp4": bytes(new), b"index.html": b"two"})
    taken = [publisher.take(site) for site in sites]
    files = SftpFiles.open(account_on(sshd, "site"))
    publisher.publish(files, taken[0])
    files.close()

    files = SftpFiles.open(account_on(sshd, "site", port=line.port))
    result = publisher.publish(files, taken[1])
    files.close()
    assert result.files_patched == 1
    assert (sshd.root / "site" / "current" / "film.mp4").read_bytes() == new
    assert line.passed("up") + line.passed("down") <= 0.02 * len(old)
