"""How a release comes to stand on a mirror, and how it goes: every rule of the layout, on a disk in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from mirrord.errors import Braked, Conflict, Damaged, Full, Refused, Unavailable
from mirrord.hosts.files import (
    Create,
    Kind,
    Link,
    MakeFolder,
    Op,
    Outcome,
    Put,
    Remove,
    Rename,
    Rewrite,
    SetMode,
    Symlink,
    Traits,
    Trouble,
)
from mirrord.hosts.layout import SERVED_LATELY
from mirrord.hosts.memory import Cut, Disk, Killed, MemoryFiles, Node
from mirrord.hosts.releases import Releases
from mirrord.manifest import Entry, Manifest, Signed, SnapshotId
from mirrord.plan import Survey
from tests.publishing import OWN, Publisher, half_releases, litter, releases, served, whole

SITE = {
    b"index.html": b"<h1>one</h1>",
    b"a/b/deep.txt": b"deep",
    b"a/empty": b"",
    b"photo.png": b"\x89PNG" * 99,
}
NEXT = {**SITE, b"index.html": b"<h1>two</h1>"}


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


def release(signed: Signed) -> bytes:
    return b"releases/" + signed.snapshot.id.encode()


def node(disk: Disk, path: bytes) -> Node:
    found = disk.find(path, follow=False)
    assert found is not None, path
    return found


def sent(files: MemoryFiles) -> set[bytes]:
    """The paths within the site whose content travelled."""
    paths = {op.path.split(b"/", 2)[2] for op in files.done if isinstance(op, Put) and op.path.startswith(b"staging/")}
    return {path for path in paths if not path.startswith(OWN)}


def linked(files: MemoryFiles) -> set[bytes]:
    """The paths within the base that were linked."""
    return {op.existing.split(b"/", 2)[2] for op in files.done if isinstance(op, Link)}


def killed_while_staging(disk: Disk, publisher: Publisher, signed: Signed, after: bytes) -> None:
    """Publish until just after one file of the release was sent whole."""
    done = False

    def cut(op: Op) -> bool:
        nonlocal done
        ready = done and not (isinstance(op, Put) and op.path.endswith(after))
        done = done or (isinstance(op, Put) and op.path.endswith(after))
        return ready

    with pytest.raises(Killed):
        publisher.publish(MemoryFiles(disk, cut=Cut(cut, killed=True)), signed)


# The base


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda file: file.data.extend(b"<script>"), id="its size"),
        pytest.param(lambda file: setattr(file, "mtime", file.mtime + 1), id="its mtime"),
        pytest.param(lambda file: setattr(file, "kind", Kind.LINK), id="its type"),
    ],
)
def test_nothing_is_linked_from_a_base_file_that_the_host_altered(
    disk: Disk, publisher: Publisher, alter: object
) -> None:
    """A base that somebody changed would carry the change into every release to come."""
    assert callable(alter)
    first, second = publisher.take(SITE), publisher.take(NEXT)
    publisher.publish(MemoryFiles(disk), first)
    alter(node(disk, release(first) + b"/photo.png"))

    files = MemoryFiles(disk)
    publisher.publish(files, second)
    assert sent(files) == {b"index.html", b"photo.png"}
    assert linked(files) == {b"a/b/deep.txt", b"a/empty"}
    assert whole(disk, second, publisher.content)


def test_nothing_is_linked_from_behind_a_link_that_the_host_put_into_the_base(disk: Disk, publisher: Publisher) -> None:
    """What lies behind a link is not the release, whatever it looks like from here."""
    first, second = publisher.take(SITE), publisher.take(NEXT)
    publisher.publish(MemoryFiles(disk), first)
    moved: list[Op] = [
        Rename(release(first) + b"/a", b"elsewhere"),
        Symlink(b"../../elsewhere", release(first) + b"/a"),
    ]
    MemoryFiles(disk).in_order(moved)

    files = MemoryFiles(disk)
    publisher.publish(files, second)
    assert linked(files) == {b"photo.png"}
    assert whole(disk, second, publisher.content)


def test_paths_that_readers_saw_to_be_wrong_are_not_linked(disk: Disk, publisher: Publisher) -> None:
    """Bytes can be altered under the same size and mtime: no listing shows it, but a probe read them."""
    first, second = publisher.take(SITE), publisher.take(NEXT)
    publisher.publish(MemoryFiles(disk), first)
    node(disk, release(first) + b"/photo.png").data[:4] = b"EVIL"

    files = MemoryFiles(disk)
    publisher.publish(files, second, suspects=frozenset({b"photo.png"}))
    assert sent(files) == {b"index.html", b"photo.png"}
    assert whole(disk, second, publisher.content)


def test_new_bytes_are_sent_even_if_size_and_mtime_are_the_old_ones(disk: Disk, publisher: Publisher) -> None:
    """Only the digest says that two files are the same; what a listing shows proves nothing."""
    first = publisher.take(SITE)
    second = publisher.take({**SITE, b"photo.png": b"\x89GIF" * 99})
    old = first.manifest.entries[b"photo.png"]
    same = {**second.manifest.entries, b"photo.png": second.manifest.entries[b"photo.png"]._replace(mtime=old.mtime)}
    second = replace(second, manifest=Manifest(same))
    publisher.publish(MemoryFiles(disk), first)

    files = MemoryFiles(disk)
    publisher.publish(files, second)
    assert sent(files) == {b"photo.png"}
    assert served(disk)[b"photo.png"] == b"\x89GIF" * 99


@pytest.mark.parametrize("why", ["too many links", "no extension"])
def test_what_cannot_be_linked_is_sent(publisher: Publisher, why: str) -> None:
    """EMLINK, EPERM, or a server that has no hard links: the release is as good, it only takes longer."""
    disk = Disk(most_links=1 if why == "too many links" else 9)
    traits = Traits(ordered=True, symlink=True, hard_link=why != "no extension", replace=True, space=True)
    first, second = publisher.take(SITE), publisher.take(NEXT)
    publisher.publish(MemoryFiles(disk, traits=traits), first)

    files = MemoryFiles(disk, traits=traits)
    result = publisher.publish(files, second)
    assert sent(files) == set(SITE)
    assert (result.files_sent, result.files_linked) == (4, 0)
    assert whole(disk, second, publisher.content)


def test_what_comes_to_stand_where_a_file_should_be_linked_is_not_written_to(disk: Disk, publisher: Publisher) -> None:
    """It may be another name of a file that readers see elsewhere: it is removed, and a new file is made."""
    first, second = publisher.take({b"a": b"1", b"b": b"2"}), publisher.take({b"a": b"1", b"b": b"22"})
    publisher.publish(MemoryFiles(disk), first)
    files = MemoryFiles(disk)

    def come(number: int) -> None:
        if any(isinstance(op, Put) for op in files.done):
            disk.tick = None
            (top,) = (b"staging/" + name for name in disk.find(b"staging").names)  # type: ignore[union-attr]
            (made,) = MemoryFiles(disk).in_order([Link(release(first) + b"/b", top + b"/a")])
            assert made.good

    disk.tick = come
    publisher.publish(files, second)

    assert whole(disk, second, publisher.content)
    assert half_releases(disk, publisher) == []


def test_a_moved_file_is_linked_from_its_old_place(disk: Disk, publisher: Publisher) -> None:
    """Renaming a folder of pictures costs no upload."""
    first = publisher.take(SITE)
    photo = first.manifest.entries[b"photo.png"]
    moved = publisher.take({**{p: d for p, d in SITE.items() if p != b"photo.png"}, b"img/2.png": SITE[b"photo.png"]})
    moved = replace(moved, manifest=Manifest.of({**moved.manifest.entries, b"img/2.png": photo}))
    publisher.publish(MemoryFiles(disk), first)

    files = MemoryFiles(disk)
    publisher.publish(files, moved)
    assert sent(files) == set()
    assert served(disk)[b"img/2.png"] == SITE[b"photo.png"]


def test_a_content_that_stands_at_several_paths_is_sent_once(disk: Disk, publisher: Publisher) -> None:
    """The same pictures in twelve languages, the same empty files: half of a real site need not travel."""
    signed = publisher.take({**SITE, b"de/photo.png": SITE[b"photo.png"], b"fr/photo.png": SITE[b"photo.png"]})
    files = MemoryFiles(disk)
    result = publisher.publish(files, signed)

    assert len([path for path in sent(files) if path.endswith(b"photo.png")]) == 1
    assert (result.files_sent, result.files_linked) == (4, 2)
    assert result.bytes_sent < 2 * len(SITE[b"photo.png"]) + 3000
    assert whole(disk, signed, publisher.content)


def test_paths_with_the_same_bytes_and_other_mtimes_share_no_inode(disk: Disk, publisher: Publisher) -> None:
    """Every file keeps the mtime it was published with, on all mirrors: a link would give both the same."""
    signed = publisher.take({b"one": b"same", b"two": b"same"})
    entries = signed.manifest.entries
    older = entries[b"two"]._replace(mtime=entries[b"two"].mtime - 60)
    signed = replace(signed, manifest=Manifest.of({**entries, b"two": older}))
    files = MemoryFiles(disk)
    publisher.publish(files, signed)

    assert sent(files) == {b"one", b"two"}
    assert node(disk, b"current/two").mtime == older.mtime


def test_nothing_is_linked_from_a_file_that_did_not_arrive_whole(disk: Disk, publisher: Publisher) -> None:
    """Where the first of several equal files is refused, the others wait until it was sent again."""
    signed = publisher.take({**SITE, b"a/photo.png": SITE[b"photo.png"], b"b/photo.png": SITE[b"photo.png"]})

    def stand_in_the_way(number: int) -> None:
        top = disk.find(b"staging/" + b"".join(node(disk, b"staging").names)) if disk.find(b"staging") else None
        if top is not None and b"a" in top.names and b"b" in top.names:
            top.names[b"a"].names[b"photo.png"] = Node(Kind.FILE, 0o644, 0)
            disk.tick = None

    disk.tick = stand_in_the_way
    files = MemoryFiles(disk)
    result = publisher.publish(files, signed)

    tries = [op for op in files.done if isinstance(op, Put) and op.path.endswith(b"photo.png")]
    assert [op.path.endswith(b"/a/photo.png") for op in tries] == [True, True]
    assert result.files_linked == 2
    before = files.done[: max(n for n, op in enumerate(files.done) if op in tries)]
    assert not [op for op in before if isinstance(op, Link)]
    assert whole(disk, signed, publisher.content)


def test_what_an_earlier_try_sent_is_linked_to_where_the_same_bytes_are_missing(
    disk: Disk, publisher: Publisher
) -> None:
    """A first publish that broke off between a file and its twin has nothing left to send of it."""
    signed = publisher.take({**SITE, b"twin.png": SITE[b"photo.png"]})
    killed_while_staging(disk, publisher, signed, after=b"photo.png")
    files = MemoryFiles(disk)
    publisher.publish(files, signed)

    assert b"photo.png" not in sent(files)
    assert b"twin.png" not in sent(files)
    assert whole(disk, signed, publisher.content)


def test_nothing_that_stands_in_a_release_is_ever_written_to(disk: Disk, publisher: Publisher) -> None:
    """A file may be linked into ten releases: changing it in place would change them all, under readers' eyes."""
    done: list[Op] = []
    for number in range(4):
        signed = publisher.take({**SITE, b"index.html": b"%d" % number})
        for again in (signed, publisher.sign_again(signed)):
            files = MemoryFiles(disk)
            publisher.publish(files, again)
            done += files.done
            node(disk, b"current/photo.png").data.clear()
            files = MemoryFiles(disk)
            publisher.publish(files, again, mend=True)
            done += files.done

    written = {op.path for op in done if isinstance(op, Put | Create | Rewrite | SetMode)}
    assert written
    assert not [path for path in written if path.startswith((b"releases/", b"current"))]


def test_names_in_our_folder_never_derive_from_names_of_the_site(disk: Disk, publisher: Publisher) -> None:
    """A file called like a lock, or 250 bytes long, must not matter to what we make for a moment."""
    long = b"n" * 250
    signed = publisher.take({long: b"x", b"lock.1": b"y", b"current.x": b"z"})
    files = MemoryFiles(disk)
    publisher.publish(files, signed)
    node(disk, b"current/" + long).data.clear()
    publisher.publish(files, signed, mend=True)

    paths = [op.new if isinstance(op, Rename) else op.path for op in files.done]
    ours = [path for path in paths if path.startswith(b".mirrord/")]
    assert ours
    assert not [path for path in ours if long in path]
    assert whole(disk, signed, publisher.content)


# What an earlier try left


def test_a_finished_file_of_a_broken_off_try_is_not_sent_again(disk: Disk, publisher: Publisher) -> None:
    """Large first publishes over bad lines must get on, however often they break off."""
    first = publisher.take(SITE)
    killed_while_staging(disk, publisher, first, after=b"a/empty")

    files = MemoryFiles(disk)
    result = publisher.publish(files, first)
    assert sent(files) == {b"index.html", b"photo.png"}
    assert result.files_sent == 2
    assert whole(disk, first, publisher.content)


def test_only_the_mtime_marks_a_file_as_finished(disk: Disk, publisher: Publisher) -> None:
    """All bytes may have arrived and the last reply may still have been an error: the mark comes after it."""
    first = publisher.take(SITE)
    killed_while_staging(disk, publisher, first, after=b"photo.png")
    (name,) = node(disk, b"staging").names
    node(disk, b"staging/" + name + b"/a/b/deep.txt").mtime += 1

    files = MemoryFiles(disk)
    publisher.publish(files, first)
    assert sent(files) == {b"a/b/deep.txt"}


def test_a_leftover_file_counts_only_where_both_manifests_name_its_digest(disk: Disk, publisher: Publisher) -> None:
    """
    Two controllers with histories of their own can give two contents the same path, size and mtime. What stands in
    another snapshot's staging is what that snapshot's manifest says, never what ours would like it to be.
    """
    first = publisher.take(SITE)
    killed_while_staging(disk, publisher, first, after=b"photo.png")
    second = publisher.take({**SITE, b"a/b/deep.txt": b"DEEP"})
    old = first.manifest.entries[b"a/b/deep.txt"]
    entries = {**second.manifest.entries, b"a/b/deep.txt": Entry(publisher.content.add(b"DEEP"), 4, old.mtime)}
    second = replace(second, manifest=Manifest(entries))

    files = MemoryFiles(disk)
    publisher.publish(files, second)
    assert b"a/b/deep.txt" in sent(files)
    assert b"photo.png" not in sent(files)
    assert served(disk)[b"a/b/deep.txt"] == b"DEEP"


def test_a_leftover_of_a_snapshot_that_we_do_not_know_is_emptied(disk: Disk, publisher: Publisher) -> None:
    """Whose files they are nobody can tell, so none of them is taken."""
    first = publisher.take(SITE)
    killed_while_staging(disk, publisher, first, after=b"photo.png")
    stranger = Publisher(key=publisher.key, content=publisher.content, clock=publisher.clock)
    second = stranger.take({**SITE, b"a/b/deep.txt": b"DEEP"})
    mtimes = {path: entry.mtime for path, entry in first.manifest.entries.items()}
    entries = {path: entry._replace(mtime=mtimes[path]) for path, entry in second.manifest.entries.items()}
    second = replace(second, manifest=Manifest(entries))

    files = MemoryFiles(disk)
    stranger.publish(files, second)
    assert sent(files) == set(SITE)
    assert whole(disk, second, publisher.content)
    assert litter(disk) == []


def test_folders_files_and_links_that_are_in_the_way_of_a_resume_are_cleared(disk: Disk, publisher: Publisher) -> None:
    """The site changed its shape meanwhile, and the host is not the tidiest."""
    first = publisher.take(SITE)
    killed_while_staging(disk, publisher, first, after=b"photo.png")
    (name,) = node(disk, b"staging").names
    top = b"staging/" + name
    mess: list[Op] = [
        MakeFolder(top + b"/x"),
        MakeFolder(top + b"/x/y"),
        Create(top + b"/x/y/z", b"z"),
        Create(top + b"/x-ray", b"x"),
        Symlink(b"/etc", top + b"/etc"),
        Remove(top + b"/photo.png"),
        MakeFolder(top + b"/photo.png"),
        Create(top + b"/photo.png/inside", b"i"),
    ]
    assert all(outcome.good for outcome in MemoryFiles(disk).in_order(mess))
    second = publisher.take({b"a": b"now a file", b"index.html/x": b"now a folder", b"photo.png": SITE[b"photo.png"]})

    publisher.publish(MemoryFiles(disk), second, allow_deletions=True)
    assert whole(disk, second, publisher.content)
    assert litter(disk) == []


def test_modes_are_right_after_a_resume_under_a_mean_umask() -> None:
    """Killed between making a folder and setting its mode, it would stay closed to readers for ever."""
    at = 0
    cut = True
    while cut:
        publisher, disk = Publisher(), Disk()
        signed = publisher.take(SITE)
        try:
            publisher.publish(MemoryFiles(disk, cut=Cut(at, killed=True), umask=0o077), signed)
            cut = False
        except Killed:
            publisher.publish(MemoryFiles(disk, umask=0o077), signed)

        found = disk.tree(b"current")
        assert {n.mode for n in found.values() if n.kind is Kind.FILE} == {0o644}
        assert {n.mode for n in found.values() if n.kind is Kind.FOLDER} == {0o755}
        assert node(disk, release(signed)).mode == node(disk, b"releases").mode == 0o755
        assert node(disk, b"staging").mode == node(disk, b".mirrord").mode == 0o700
        at += 3


def test_a_finished_tree_is_closed_to_others_until_it_gets_its_name(disk: Disk, publisher: Publisher) -> None:
    """Nobody browses half a release, even where a web server shows the whole account."""
    signed = publisher.take(SITE)
    with pytest.raises(Killed):
        publisher.publish(MemoryFiles(disk, cut=Cut(lambda op: isinstance(op, SetMode), killed=True)), signed)

    (name,) = node(disk, b"staging").names
    assert node(disk, b"staging").mode == 0o700
    assert node(disk, b"staging/" + name).mode == 0o700


def test_a_whole_release_that_is_not_served_yet_is_served_without_sending(disk: Disk, publisher: Publisher) -> None:
    """Killed between naming the release and the switch: all the work is done already."""
    first = publisher.take(SITE)
    switch = Cut(lambda op: isinstance(op, Rename) and op.new == b"current", killed=True)
    with pytest.raises(Killed):
        publisher.publish(MemoryFiles(disk, cut=switch), first)
    again = publisher.sign_again(first)

    files = MemoryFiles(disk)
    result = publisher.publish(files, again)
    assert result.result == "published"
    assert sent(files) == set()
    assert whole(disk, again, publisher.content), "with the card of today"


def test_a_release_that_was_altered_before_it_was_served_is_made_anew(disk: Disk, publisher: Publisher) -> None:
    """That it stands in releases/ says that it was whole once, not what happened to it since."""
    first = publisher.take(SITE)
    switch = Cut(lambda op: isinstance(op, Rename) and op.new == b"current", killed=True)
    with pytest.raises(Killed):
        publisher.publish(MemoryFiles(disk, cut=switch), first)
    node(disk, release(first) + b"/index.html").data.extend(b"<script>")

    publisher.publish(MemoryFiles(disk), first)
    assert whole(disk, first, publisher.content)
    assert litter(disk) == []


def test_a_served_release_that_vanished_is_made_anew(disk: Disk, publisher: Publisher) -> None:
    """Somebody cleaned up by hand and took what `current` points to: that it is served already is not enough."""
    first, second = publisher.take(SITE), publisher.take(NEXT)
    for signed in (first, second):
        publisher.publish(MemoryFiles(disk), signed)
    del node(disk, b"releases").names[second.snapshot.id.encode()]

    assert publisher.publish(MemoryFiles(disk), second).result == "published"
    assert whole(disk, second, publisher.content)


def test_folders_of_others_with_names_like_ours_are_left_alone(disk: Disk, publisher: Publisher) -> None:
    """Many accounts have a `staging` or `releases` of their own; only what is named like a snapshot is ours."""
    theirs: list[Op] = [
        MakeFolder(b"staging", 0o755),
        MakeFolder(b"staging/shop"),
        Create(b"staging/shop/index.php", b"<?php"),
        MakeFolder(b"releases"),
        MakeFolder(b"releases/20260101120000"),
        Create(b"notes.txt", b"mine"),
    ]
    MemoryFiles(disk).in_order(theirs)
    for site in (SITE, NEXT, SITE):
        publisher.publish(MemoryFiles(disk), publisher.take(site), keep=1)

    assert disk.read(b"staging/shop/index.php") == b"<?php"
    assert node(disk, b"staging").mode == 0o755
    assert disk.read(b"notes.txt") == b"mine"
    assert b"20260101120000" in releases(disk)


# What stops it


def test_a_full_disk_is_called_by_its_name_before_anything_is_sent(publisher: Publisher) -> None:
    """SFTP says "Failure" for everything: the figures help, and the mirror is left as it was."""
    disk = Disk(room=20000)
    signed = publisher.take({b"big": b"x" * 19000})
    files = MemoryFiles(disk)
    with pytest.raises(Full, match=r"lyon: publishing .*: its disk is full") as full:
        publisher.publish(files, signed)

    assert full.value.free is not None
    assert full.value.needed is not None
    assert full.value.free < 24576 < full.value.needed
    assert not [op for op in files.done if isinstance(op, Put)]
    assert served(disk) == {}
    assert ".mirrord" not in str(litter(disk)), "the lock was dropped"


def test_a_disk_that_fills_up_meanwhile_is_called_by_its_name_and_the_next_try_continues(
    publisher: Publisher,
) -> None:
    """Others write there too. What was sent is kept, and what readers see does not change."""
    disk = Disk(room=1 << 20)
    first = publisher.take(SITE)
    publisher.publish(MemoryFiles(disk), first)
    second = publisher.take({**SITE, **{b"new-%d" % n: b"%04d" % n * 200 for n in range(20)}})

    def fill(number: int) -> None:
        if disk.find(b"staging") and any(path.endswith(b"new-15") for path in disk.tree(b"staging")):
            disk.room = disk.used() + 10

    disk.tick = fill
    with pytest.raises(Full) as full:
        publisher.publish(MemoryFiles(disk), second)
    assert full.value.free is not None
    assert full.value.free <= 10
    assert whole(disk, first, publisher.content)

    disk.tick, disk.room = None, 1 << 20
    files = MemoryFiles(disk)
    publisher.publish(files, second)
    assert b"new-10" not in sent(files)
    assert whole(disk, second, publisher.content)


def test_a_damaged_store_publishes_nothing_and_names_the_file(disk: Disk, publisher: Publisher) -> None:
    """Our own disk may rot: what is sent is hashed on the way, and what is missing is missed before the switch."""
    first, second = publisher.take(SITE), publisher.take({**SITE, b"a/new": b"new", b"b/new": b"newer"})
    publisher.publish(MemoryFiles(disk), first)
    publisher.content.by_digest[second.manifest.entries[b"a/new"].digest] = b"wen"
    with pytest.raises(Damaged, match="'a/new'") as damaged:
        publisher.publish(MemoryFiles(disk), second)

    assert damaged.value.paths == (b"a/new",)
    assert whole(disk, first, publisher.content)


def test_a_host_that_alters_what_is_staged_serves_the_old_release(disk: Disk, publisher: Publisher) -> None:
    """A scanner that "cleans" files as they come: readers keep what was good, and a person is told the names."""
    first, second = publisher.take(SITE), publisher.take(NEXT)
    publisher.publish(MemoryFiles(disk), first)

    def clean(number: int) -> None:
        for path, found in disk.tree(b"staging").items():
            if path.endswith(b"index.html") and found.data:
                found.data[:] = b"cleaned"

    disk.tick = clean
    with pytest.raises(Refused, match="1 paths are not as sent"):
        publisher.publish(MemoryFiles(disk), second)
    assert whole(disk, first, publisher.content)


def test_something_that_went_wrong_once_in_staging_is_put_right(disk: Disk, publisher: Publisher) -> None:
    """One odd finding is no reason to wake anybody: it is sent again before the switch."""
    first, second = publisher.take(SITE), publisher.take(NEXT)
    publisher.publish(MemoryFiles(disk), first)
    files = MemoryFiles(disk)

    def spoil(number: int) -> None:
        stale = [p for p, found in disk.tree(b"staging").items() if p.endswith(b"index.html") and found.mtime < 2e9]
        if stale and any(isinstance(op, Link) for op in files.done):
            node(disk, b"staging/" + stale[0]).data[:] = b"spoiled"
            disk.tick = None

    disk.tick = spoil
    publisher.publish(files, second)
    assert whole(disk, second, publisher.content)
    assert litter(disk) == []


def test_a_disk_without_room_for_a_lock_is_full_too(publisher: Publisher) -> None:
    """Not a byte fits: that must not look like a lock of somebody else, to be watched for a minute."""
    disk = Disk(room=100)
    with pytest.raises(Full, match="its disk is full: 100 B are free"):
        publisher.publish(MemoryFiles(disk), publisher.take(SITE))

    assert disk.tree() == {}


@pytest.mark.parametrize("what", ["folder", "file", "link"])
def test_what_stands_where_readers_look_and_is_not_ours_is_never_touched(
    disk: Disk, publisher: Publisher, what: str
) -> None:
    """It is somebody's site. Moving it away is a person's decision."""
    made: dict[str, Op] = {
        "folder": MakeFolder(b"current"),
        "file": Create(b"current", b"x"),
        "link": Symlink(b"../old-site", b"current"),
    }
    MemoryFiles(disk).in_order([made[what]])
    before = node(disk, b"current")
    with pytest.raises(Braked, match="adopt it first") as braked:
        publisher.publish(MemoryFiles(disk), publisher.take(SITE))

    assert braked.value.brake == "adopt"
    assert node(disk, b"current") is before
    assert releases(disk) == []


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_comes_to_stand_there_while_we_stage_is_not_touched_either(
    disk: Disk, publisher: Publisher, what: str
) -> None:
    """The look before is not the look that counts."""
    files = MemoryFiles(disk)

    def come(number: int) -> None:
        if any(isinstance(op, Put) for op in files.done):
            disk.tick = None
            MemoryFiles(disk).in_order([MakeFolder(b"current") if what == "folder" else Create(b"current", b"x")])

    disk.tick = come
    with pytest.raises(Braked, match="adopt it first"):
        publisher.publish(files, publisher.take(SITE))
    assert node(disk, b"current").kind is (Kind.FOLDER if what == "folder" else Kind.FILE)


@pytest.mark.parametrize("what", ["folder", "file", "link"])
def test_what_comes_just_before_the_first_switch_stays(disk: Disk, publisher: Publisher, what: str) -> None:
    """Where nothing stood nothing is replaced; what is left to do is to say what happened."""
    files = MemoryFiles(disk)
    made: dict[str, Op] = {
        "folder": MakeFolder(b"current"),
        "file": Create(b"current", b"theirs"),
        "link": Symlink(b"../old-site", b"current"),
    }

    def come(number: int) -> None:
        if isinstance(files.done[-1], Rename) and files.done[-1].new == b"current":
            disk.tick = None
            MemoryFiles(disk).in_order([made[what]])

    disk.tick = come
    with pytest.raises(Braked, match="adopt it first"):
        publisher.publish(files, publisher.take(SITE))
    assert node(disk, b"current").kind is {"folder": Kind.FOLDER, "file": Kind.FILE, "link": Kind.LINK}[what]
    assert served(disk) == {}
    assert litter(disk) == []


def test_a_folder_that_comes_in_place_of_our_link_just_before_the_switch_stays(
    disk: Disk, publisher: Publisher
) -> None:
    """A rename cannot put a link over a folder, also where readers were led somewhere before."""
    publisher.publish(MemoryFiles(disk), publisher.take(SITE))
    files = MemoryFiles(disk)

    def come(number: int) -> None:
        if isinstance(files.done[-1], Rename) and files.done[-1].new == b"current":
            disk.tick = None
            MemoryFiles(disk).in_order([Remove(b"current"), MakeFolder(b"current")])

    disk.tick = come
    with pytest.raises(Braked, match="adopt it first"):
        publisher.publish(files, publisher.take(NEXT))
    assert node(disk, b"current").kind is Kind.FOLDER
    assert litter(disk) == []


def test_a_server_that_only_replaces_is_asked_to(disk: Disk, publisher: Publisher) -> None:
    """Some rename a link itself by posix-rename alone: where nothing stands there is then nothing to lose."""
    files = RefusesPlainRenames(disk)

    signed = publisher.take(SITE)
    publisher.publish(files, signed)
    assert whole(disk, signed, publisher.content)
    assert litter(disk) == []


class RefusesPlainRenames(MemoryFiles):
    """An account on which a link is moved by posix-rename only."""

    def in_order(self, ops: Sequence[Op]) -> list[Outcome]:
        """Do all else."""
        no = {n for n, op in enumerate(ops) if isinstance(op, Rename) and op.new == b"current" and not op.over}
        done = iter(super().in_order([op for n, op in enumerate(ops) if n not in no]))
        return [Outcome(op, trouble=Trouble.FAILED) if n in no else next(done) for n, op in enumerate(ops)]


def test_a_person_who_leads_readers_elsewhere_while_we_stage_is_not_overruled(disk: Disk, publisher: Publisher) -> None:
    """Somebody at the host went back by hand, without our lock: the plan is of another day, and says so."""
    first, second, third = (publisher.take({**SITE, b"index.html": b"%d" % n}) for n in range(3))
    publisher.publish(MemoryFiles(disk), first)
    publisher.publish(MemoryFiles(disk), second)
    files = MemoryFiles(disk)

    def go_back(number: int) -> None:
        if any(isinstance(op, Put) for op in files.done):
            disk.tick = None
            by_hand: list[Op] = [Symlink(release(first), b"new"), Rename(b"new", b"current", over=True)]
            assert all(outcome.good for outcome in MemoryFiles(disk).in_order(by_hand))

    disk.tick = go_back
    with pytest.raises(Conflict):
        publisher.publish(files, third)
    assert whole(disk, first, publisher.content)


def test_a_card_is_posted_only_into_the_release_that_it_is_of(disk: Disk, publisher: Publisher) -> None:
    """Somebody at the host led readers back by hand just now: today's card there would forge yesterday's pages."""
    first, second = publisher.take(SITE), publisher.take(NEXT)
    publisher.publish(MemoryFiles(disk), first)
    publisher.publish(MemoryFiles(disk), second)
    files = MemoryFiles(disk)

    def go_back(number: int) -> None:
        if any(isinstance(op, Put) for op in files.done):
            disk.tick = None
            by_hand: list[Op] = [Symlink(release(first), b"new"), Rename(b"new", b"current", over=True)]
            assert all(outcome.good for outcome in MemoryFiles(disk).in_order(by_hand))

    disk.tick = go_back
    with pytest.raises(Conflict):
        publisher.publish(files, publisher.sign_again(second))
    assert whole(disk, first, publisher.content)
    publisher.publish(MemoryFiles(disk), second)
    assert litter(disk) == []


class SaysYes(MemoryFiles):
    """A host that answers well to the switch, and does not do it."""

    def in_order(self, ops: Sequence[Op]) -> list[Outcome]:
        """Do all else."""
        switches = {n for n, op in enumerate(ops) if isinstance(op, Rename) and op.new == b"current"}
        done = iter(super().in_order([op for n, op in enumerate(ops) if n not in switches]))
        return [Outcome(op) if n in switches else next(done) for n, op in enumerate(ops)]


def test_a_switch_is_believed_when_it_was_read_back(disk: Disk, publisher: Publisher) -> None:
    """An answer proves nothing: what readers are led to does."""
    first, second = publisher.take(SITE), publisher.take(NEXT)
    publisher.publish(MemoryFiles(disk), first)

    with pytest.raises(Unavailable, match="afterwards it served"):
        publisher.publish(SaysYes(disk), second)
    assert whole(disk, first, publisher.content)
    publisher.publish(MemoryFiles(disk), second)
    assert whole(disk, second, publisher.content)


# What is dropped

NOW = 1_700_000_000
A, B, C, D = (SnapshotId(f"2026112{n}T000000Z-00000000") for n in range(4))


@pytest.mark.parametrize(
    ("left", "keep", "current", "dropped"),
    [
        pytest.param({}, {D}, D, [A, B, C], id="what was never served may go"),
        pytest.param({}, {B, D}, D, [A, C], id="what is to be kept stays"),
        pytest.param({}, {D}, B, [A, C], id="what is served stays, kept or not"),
        pytest.param({C: NOW - 60}, {D}, D, [A, B], id="what was served a minute ago stays"),
        pytest.param({C: NOW - 3599}, {D}, D, [A, B], id="what was served within the hour stays"),
        pytest.param({C: NOW - SERVED_LATELY}, {D}, D, [A, B, C], id="what was served earlier may go"),
        pytest.param({C: NOW + 60}, {D}, D, [A, B], id="our clock is the lock's last change, never late"),
        pytest.param({C: NOW + 10**8}, {D}, D, [A, B, C], id="a note of a clock gone mad keeps nothing for ever"),
    ],
)
def test_what_may_be_dropped(
    left: dict[SnapshotId, int], keep: set[SnapshotId], current: SnapshotId, dropped: list[SnapshotId]
) -> None:
    """Readers who load a page just before a switch load its pictures after it."""
    found = Survey(current, None, None, None, (A, B, C, D), (), (), None, left=left)

    assert Releases("lyon", b"current", MemoryFiles(Disk()).traits).prunable(found, keep, NOW) == dropped


def test_as_many_releases_as_configured_stay_once_the_hour_is_over(publisher: Publisher) -> None:
    """Disks fill up: what nobody reads any more goes by itself."""
    time = 1_700_000_000.0
    disk = Disk(clock=lambda: time)
    taken = [publisher.take({**SITE, b"n": b"%d" % n}) for n in range(6)]
    for signed in taken:
        publisher.publish(MemoryFiles(disk), signed, keep=3)
        time += 7200

    assert releases(disk) == [signed.snapshot.id.encode() for signed in taken[3:]]
    notes = [path for path in disk.tree(b".mirrord") if path.startswith(b"left.")]
    assert sorted(notes) == [b"left." + signed.snapshot.id.encode() for signed in taken[3:5]]


def test_another_controller_spares_what_was_served_lately_too(publisher: Publisher) -> None:
    """When a release was last served is noted on the mirror, by the mirror's clock: whoever prunes knows it."""
    time = 1_700_000_000.0
    disk = Disk(clock=lambda: time)
    first, second = publisher.take(SITE), publisher.take(NEXT)
    publisher.publish(MemoryFiles(disk), first)
    time += 7200
    publisher.publish(MemoryFiles(disk), second)
    time += 600
    other = Publisher(key=publisher.key, content=publisher.content, taken=dict(publisher.taken), serial=2, name="b")
    other.clock = publisher.clock
    third = other.take({**NEXT, b"n": b"n"})

    other.publish(MemoryFiles(disk), third, keep=1)
    assert first.snapshot.id.encode() in releases(disk), "it was left ten minutes ago, though served for two hours"
    time += 7200
    other.publish(MemoryFiles(disk), other.take(SITE), keep=1)
    assert first.snapshot.id.encode() not in releases(disk)


def test_pruning_deletes_nothing_behind_a_link_that_somebody_put_into_a_release(publisher: Publisher) -> None:
    """An admin moved the pictures to a larger disk and left a link: the pictures are not ours to delete."""
    time = 1_700_000_000.0
    disk = Disk(clock=lambda: time)
    first, second = publisher.take(SITE), publisher.take(NEXT)
    publisher.publish(MemoryFiles(disk), first)
    moved: list[Op] = [Rename(release(first) + b"/a", b"large"), Symlink(b"../../large", release(first) + b"/a")]
    MemoryFiles(disk).in_order(moved)
    publisher.publish(MemoryFiles(disk), second)
    time += 7200
    third = publisher.take({**NEXT, b"n": b"n"})

    publisher.publish(MemoryFiles(disk), third, keep=1)
    assert releases(disk) == [second.snapshot.id.encode(), third.snapshot.id.encode()]
    assert set(disk.tree(b"large")) == {b"b", b"b/deep.txt", b"empty"}
    assert litter(disk) == []


def test_what_does_not_go_away_is_named_and_tried_again(disk: Disk, publisher: Publisher) -> None:
    """A file that only root can delete must not keep readers from the new release."""
    first, second = publisher.take(SITE), publisher.take(NEXT)
    publisher.publish(MemoryFiles(disk), first)
    top = node(disk, b".mirrord")
    top.names[b"trash"] = Node(Kind.FOLDER, 0o700, 0, names={b"stuck": Node(Kind.FOLDER, 0o700, 0)})
    grow = node(disk, b".mirrord/trash/stuck").names

    def regrow(number: int) -> None:
        if disk.find(b".mirrord/trash/stuck") is not None:
            grow[b"again"] = Node(Kind.FILE, 0o644, 0)

    disk.tick = regrow
    result = publisher.publish(MemoryFiles(disk), second)
    assert result.result == "published"
    assert ".mirrord/trash/stuck" in result.warnings[0]

    disk.tick = None
    publisher.publish(MemoryFiles(disk), second)
    assert litter(disk) == []


# How much it asks


def test_a_publish_of_few_changes_takes_a_dozen_round_trips_and_none_too_many_for_nothing(
    disk: Disk, publisher: Publisher
) -> None:
    """Latency decides: at 50 ms a round trip too many for each of the 139 folders would cost seven seconds."""
    site = {b"%d/%d/%d" % (n % 7, n % 3, n): b"%d" % n for n in range(300)}
    first, second = publisher.take(site), publisher.take({**site, b"0/0/0": b"new"})
    publisher.publish(MemoryFiles(disk), first)

    changed = MemoryFiles(disk)
    publisher.publish(changed, second)
    assert changed.flights <= 12
    unchanged = MemoryFiles(disk)
    assert publisher.publish(unchanged, second).result == "unchanged"
    assert unchanged.flights <= 2


def test_an_unchanged_mirror_is_not_locked(disk: Disk, publisher: Publisher) -> None:
    """The daemon looks every quarter of an hour; most of the time there is nothing to do."""
    signed = publisher.take(SITE)
    publisher.publish(MemoryFiles(disk), signed)

    files = MemoryFiles(disk)
    publisher.publish(files, signed)
    assert not [op for op in files.done if isinstance(op, Create | Put | Rename | Remove | MakeFolder | Symlink)]


def test_a_publish_without_an_order_of_requests_is_as_good(disk: Disk, publisher: Publisher) -> None:
    """Some servers answer requests in any order: then dependent steps wait for each other."""
    traits = Traits(ordered=False, symlink=True, hard_link=True, replace=True, space=True)
    for site in (SITE, NEXT):
        signed = publisher.take(site)
        publisher.publish(MemoryFiles(disk, traits=traits), signed)

        assert whole(disk, signed, publisher.content)
    assert litter(disk) == []


def test_a_base_that_vanishes_while_we_stage_costs_only_time(disk: Disk, publisher: Publisher) -> None:
    """Somebody cleaned up by hand just now: what cannot be linked any more is sent."""
    first, second = publisher.take(SITE), publisher.take(NEXT)
    publisher.publish(MemoryFiles(disk), first)
    files = MemoryFiles(disk)

    def vanish(number: int) -> None:
        if any(isinstance(op, MakeFolder) for op in files.done) and disk.find(release(first)) is not None:
            disk.tick = None
            del node(disk, b"releases").names[first.snapshot.id.encode()]

    disk.tick = vanish
    try:
        publisher.publish(files, second)
    except Unavailable:
        publisher.publish(MemoryFiles(disk), second)
    assert whole(disk, second, publisher.content)
