"""What the store keeps, drops and gives back, and who may do it at the same time."""

import hashlib
import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import cast

import pytest

from mirrord.errors import BadUsage, Braked, Cancelled, Damaged, Full, Locked, MirrordError, Refused
from mirrord.manifest import SnapshotId, stamp
from mirrord.snapshot import Progress
from mirrord.snapshot.store import Taken
from mirrord.trust.keys import Signers
from mirrord.trust.snapshots import check_signed
from tests.conftest import Lab
from tests.lab.folders import is_root
from tests.snapshotting import DAY, Ground, rest, tree


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    """An empty source and an empty store."""
    return Ground.at(tmp_path)


def publish(ground: Ground, *versions: bytes) -> list[SnapshotId]:
    """Take a snapshot of each version of the home page."""
    found = []
    for version in versions:
        ground.write({"index.html": version, "same": b"same"})
        found.append(ground.take().snapshot.id)
    return found


def ids(ground: Ground) -> list[SnapshotId]:
    return [card.id for card in ground.store.snapshots()]


# -- the sweep


def test_the_sweep_keeps_the_newest(ground: Ground) -> None:
    """And drops the contents that only the others had, so that the disk does not fill."""
    taken = publish(ground, b"1", b"2", b"3", b"4")

    dropped = ground.store.sweep(2, frozenset())

    assert list(dropped) == taken[:2]
    assert ids(ground) == taken[2:]
    assert ground.kept() == ground.needed()
    assert ground.litter() == []


def test_the_sweep_keeps_what_is_served_pinned_or_in_use(ground: Ground) -> None:
    """What a mirror serves may be wanted as a base, what a person pinned is wanted, and what is held is being sent."""
    taken = publish(ground, b"1", b"2", b"3", b"4", b"5")
    ground.store.pin(taken[1])

    with ground.store.reading(taken[2]):
        dropped = ground.store.sweep(1, frozenset({taken[0]}))

    assert list(dropped) == [taken[3]]
    assert ids(ground) == [taken[0], taken[1], taken[2], taken[4]]
    assert ground.kept() == ground.needed()
    assert ground.store.pinned() == {taken[1]}
    ground.store.unpin(taken[1])
    assert set(ground.store.sweep(1, frozenset())) == {taken[0], taken[1], taken[2]}


def test_what_is_pinned_in_the_middle_of_a_sweep_stays(ground: Ground) -> None:
    """`mirrord pin` said that it is kept."""
    taken = publish(ground, b"1", b"2", b"3")

    class PinnedJustNow(frozenset[SnapshotId]):
        def __contains__(self, snapshot: object) -> bool:
            return snapshot == taken[0] and not ground.store.pin(taken[0])

    assert ground.store.sweep(1, PinnedJustNow()) == (taken[1],)
    assert ids(ground) == [taken[0], taken[2]]


def test_the_newest_is_never_swept(ground: Ground) -> None:
    """Not even by `keep = 0`: it is what the next take and the mirrors go by."""
    taken = publish(ground, b"1", b"2")

    ground.store.sweep(0, frozenset())

    assert ids(ground) == [taken[1]]


def test_what_was_swept_cannot_be_held(ground: Ground) -> None:
    """Who comes too late hears that it is gone, and does not publish from an empty folder."""
    first, _ = publish(ground, b"1", b"2")
    ground.store.sweep(1, frozenset())

    with pytest.raises(BadUsage, match="is not in the store"), ground.store.reading(first):
        pass
    for verb in (ground.store.pin, ground.store.unpin, ground.store.load):
        with pytest.raises(BadUsage, match="is not in the store"):
            verb(first)


def test_several_may_hold_one_snapshot(ground: Ground) -> None:
    """Three mirrors are published to at once."""
    taken = publish(ground, b"1", b"2")

    with ground.store.reading(taken[0]), ground.store.reading(taken[0]):
        assert ground.store.sweep(1, frozenset()) == ()


def test_a_rotten_record_keeps_all_contents(ground: Ground) -> None:
    """Whose list cannot be read may need any of them; and no sweep makes that worse."""
    taken = publish(ground, b"1", b"2", b"3")
    before = ground.kept()
    (ground.store.directory / "snapshots" / taken[2] / "SHA256SUMS").write_bytes(b"rotten")

    with pytest.raises(Damaged, match="SHA256SUMS is not what was signed"):
        ground.store.sweep(1, frozenset())
    assert ground.kept() == before


def test_content_that_came_back_after_a_rollback_and_a_sweep_is_read_again(ground: Ground) -> None:
    """What the last look remembers may have been swept meanwhile: a snapshot must never name bytes that are gone."""
    first, _ = publish(ground, b"1", b"2")
    rest()
    ground.take()
    rollback(ground, first)
    ground.store.sweep(1, frozenset())

    taken = ground.take()

    assert taken.changed
    assert ground.content(taken)[b"index.html"] == b"2"


# -- the way back


def rollback(ground: Ground, to: SnapshotId, *, allow_deletions: bool = False, highest_seen: int = 0) -> Taken:
    ground.now += 60
    return ground.store.rollback(
        to,
        ground.key,
        ground.guard,
        now_wall=ground.now,
        next_expected_in=DAY,
        allow_deletions=allow_deletions,
        highest_seen=highest_seen,
    )


def test_a_rollback_is_a_new_snapshot_with_the_old_content(ground: Ground) -> None:
    """Serials only grow, so mirrors and readers can tell that it is newer; `restores` says what it is."""
    first, second = publish(ground, b"1", b"2")

    back = rollback(ground, first)

    assert back.changed
    assert (back.snapshot.serial, back.snapshot.previous, back.snapshot.restores) == (3, second, first)
    assert back.snapshot.id > second
    assert ground.content(back) == ground.content_of(first)
    assert back.snapshot.manifest_sha256 == ground.store.load(first).snapshot.manifest_sha256
    assert back.difference.changed == (b"index.html",)


def test_what_a_rollback_brings_back_is_younger_than_what_it_replaces(ground: Ground) -> None:
    """Readers' caches hold the newer page under its ETag; the same rule as for new bytes."""
    first, second = publish(ground, b"1", b"2")
    entry = ground.store.load(second).manifest.entries

    back = ground.manifest(rollback(ground, first)).entries

    assert back[b"index.html"].mtime > entry[b"index.html"].mtime
    assert back[b"same"].mtime == entry[b"same"].mtime


def test_a_rollback_to_what_is_newest_anyway_takes_nothing(ground: Ground) -> None:
    """Repeating it does no harm."""
    first, _ = publish(ground, b"1", b"2")
    back = rollback(ground, first)

    again = rollback(ground, first)

    assert (again.changed, again.snapshot) == (False, back.snapshot)
    assert rollback(ground, first, highest_seen=9).snapshot.serial == 10


def test_a_rollback_that_removes_much_wants_a_yes(ground: Ground) -> None:
    """The site has grown since; going back may be meant or not."""
    first, _ = publish(ground, b"1", b"2")
    ground.write({f"page-{number}": b"x" for number in range(20)})
    ground.take()

    with pytest.raises(Braked, match=r"20 of 22 files.*--allow-deletions"):
        rollback(ground, first)
    assert rollback(ground, first, allow_deletions=True).changed


def test_a_rollback_to_lost_content_names_the_files(ground: Ground) -> None:
    """Better before it is signed than on three mirrors."""
    first, _ = publish(ground, b"1", b"2")
    lose(ground, b"1")

    with pytest.raises(Damaged, match=r"'index\.html'") as caught:
        rollback(ground, first)
    assert caught.value.paths == (b"index.html",)
    assert ground.litter() == []


def test_a_rollback_to_an_unknown_snapshot_is_a_usage_error(ground: Ground) -> None:
    """A typing mistake."""
    publish(ground, b"1")

    with pytest.raises(BadUsage, match="is not in the store"):
        rollback(ground, SnapshotId("20200101T000000Z-00000000"))


def lose(ground: Ground, data: bytes) -> None:
    """Lose one content."""
    name = hashlib.sha256(data).hexdigest()
    next(file for found, file in ground.store.content().names() if found == name).unlink()


# -- signing again


def test_a_quiet_site_is_signed_again(ground: Ground) -> None:
    """Same serial, id and manifest, a new date: readers see that somebody is still there."""
    (only,) = publish(ground, b"1")
    before = ground.store.load(only)

    again = ground.store.sign_again(only, ground.key, ground.now + DAY, 2 * DAY)

    assert again.snapshot == before.snapshot.expecting(again.snapshot.next_expected)
    assert again.snapshot.next_expected.timestamp() == ground.now + 3 * DAY
    assert (again.manifest, again.manifest_sig) == (before.manifest, before.manifest_sig)
    assert check_signed(again.card, again.card_sig, Signers.of([ground.key.public]), "x", "example") == again.snapshot
    assert stamp(again.snapshot.next_expected).encode() in again.card
    assert ground.store.load(only) == again


def test_each_signing_is_younger_than_every_one_before(ground: Ground) -> None:
    """The card has one name on the mirrors and often one size: its time is what makes its ETag new."""
    (first,) = publish(ground, b"1")
    times = [ground.store.load(first).signed_at]
    times += [ground.store.sign_again(first, ground.key, ground.now, DAY).signed_at for _ in range(3)]
    ground.now -= 300
    (second,) = publish(ground, b"2")
    times.append(ground.store.load(second).signed_at)
    times.append(ground.store.sign_again(first, ground.key, ground.now, DAY).signed_at)

    assert times == sorted(set(times))


def test_signing_again_is_possible_during_a_take_and_a_publish(ground: Ground) -> None:
    """A first take of hours must not make the site overdue."""
    (first,) = publish(ground, b"1")
    ground.write({"index.html": b"2"})
    signed = []

    def sign(_: Progress) -> None:
        signed.append(ground.store.sign_again(first, ground.key, ground.now, DAY))

    with ground.store.reading(first):
        ground.take(seen=sign)

    assert signed


# -- one at a time


def test_two_takes_at_once_are_not_possible(ground: Ground) -> None:
    """The second is told who is at it, and since when."""
    ground.write({"index.html": b"1"})
    said: list[str] = []

    def take_again(_: Progress) -> None:
        with pytest.raises(Locked, match="taking a snapshot") as caught:
            ground.take()
        assert caught.value.exit_code == 10
        assert caught.value.since is not None
        with pytest.raises(Locked):
            ground.store.sweep(1, frozenset())
        said.append(str(caught.value))

    ground.take(seen=take_again)

    assert f"process {os.getpid()} (taking a snapshot) is at it, since " in said[0]


def test_another_process_is_kept_out_too(ground: Ground) -> None:
    """A `mirrord sync` beside a daemon that is not asked."""
    ground.write({"index.html": b"1"})
    script = (
        "import sys; from pathlib import Path; from mirrord.snapshot.store import Store\n"
        "from mirrord.errors import Locked\n"
        "try: Store(Path(sys.argv[1]), 'example').sweep(1, frozenset())\n"
        "except Locked as e: print(e)\n"
    )
    said: list[str] = []

    def sweep_elsewhere(_: Progress) -> None:
        command = [sys.executable, "-c", script, str(ground.store.directory)]
        said.append(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)

    ground.take(seen=sweep_elsewhere)

    assert f"sweeping: process {os.getpid()} (taking a snapshot) is at it" in said[0]


def test_many_threads_may_read_while_one_takes(ground: Ground) -> None:
    """Probes ask for manifests all the time."""
    publish(ground, b"0")
    trouble: list[MirrordError] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                for card in ground.store.snapshots():
                    ground.store.manifest(card.id)
        except MirrordError as e:
            trouble.append(e)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(10):
        publish(ground, b"%d" % number)
        ground.store.sweep(2, frozenset())
    done.set()
    for reader in readers:
        reader.join()

    assert trouble == []


# -- disks


def test_free_space_is_asked_first(ground: Ground, lab: Lab) -> None:
    """A hundred gigabytes are not half copied to learn that they do not fit; both figures are named."""
    disk = lab.small_disk(2048)
    ground.store.directory.symlink_to(disk.folder)
    ground.write({"large": b"x" * (4 << 20)})

    with pytest.raises(Full, match=r"MB are needed in .* are free; make room there") as caught:
        ground.take()
    assert ground.reads == 0
    assert caught.value.needed is not None
    assert caught.value.free is not None
    assert caught.value.needed > (4 << 20) > caught.value.free
    assert ground.litter() == []


def test_a_disk_that_fills_up_meanwhile_is_called_full_and_left_clean(ground: Ground, lab: Lab) -> None:
    """Others write there too. With room again the next take works; nothing is half there."""
    disk = lab.small_disk(8192)
    ground.store.directory.symlink_to(disk.folder)
    publish(ground, b"1")
    ground.write({"large": b"x" * (3 << 20)})

    def fill(progress: Progress) -> None:
        if progress.bytes_done > (2 << 20):
            disk.fill()

    with pytest.raises(Full, match="is full"):
        ground.take(seen=fill)
    assert len(ids(ground)) == 1
    assert set(ground.litter()) <= {".filler"}
    disk.free()
    assert ground.content(ground.take())[b"large"] == b"x" * (3 << 20)


def test_touched_files_need_no_new_room(ground: Ground, lab: Lab) -> None:
    """A build that rewrites all files as they were must not fail on a disk that holds them once."""
    disk = lab.small_disk(6144)
    ground.store.directory.symlink_to(disk.folder)
    ground.write({"large": b"x" * (3 << 20)})
    ground.take()
    ground.write({"large": b"x" * (3 << 20), "small": b"new"})

    assert ground.take().difference.added == (b"small",)


def test_a_store_that_cannot_be_written_is_one_sentence(ground: Ground) -> None:
    """Wrong owner of the state folder, most often."""
    ground.write({"index.html": b"1"})
    ground.store.directory.mkdir()
    ground.store.directory.chmod(0o500)
    script = (
        "import os, sys, time; from pathlib import Path; from mirrord.snapshot.store import Store\n"
        "from mirrord.errors import MirrordError\n"
        "if os.geteuid() == 0: os.chdir('/'); os.setgid(65534); os.setuid(65534)\n"
        "try: Store(Path(sys.argv[1]), 'example').sweep(1, frozenset())\n"
        "except MirrordError as e: print(type(e).__name__, e)\n"
    )
    if is_root():
        for folder in (ground.folder, ground.folder.parent, ground.folder.parent.parent):
            folder.chmod(0o755)
        ground.store.directory.chmod(0o555)

    command = [sys.executable, "-c", script, str(ground.store.directory)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    assert said.startswith(f"{Refused.__name__} example: sweeping: Permission denied")
    assert "give mirrord's user its rights on" in said


# -- damage


def test_a_damaged_card_keeps_nobody_from_the_other_snapshots(ground: Ground) -> None:
    """One is to be brought back, and another is torn: they are found by every name all the same."""
    taken = publish(ground, b"1", b"2", b"3")
    (ground.store.directory / "snapshots" / taken[1] / "card.json").write_text("torn")

    found = [ground.store.named(text) for text in ("1", "3", taken[0], taken[2], taken[1])]
    assert found == [taken[0], taken[2], taken[0], taken[2], taken[1]]
    with pytest.raises(BadUsage, match=f"{taken[0][:8]}: 3 snapshots begin so"):
        ground.store.named(taken[0][:8])
    for text in ("2", "", "nothing"):
        with pytest.raises(BadUsage, match=f"{text}: there is no such snapshot"):
            ground.store.named(text)


def test_a_mistyped_serial_names_no_snapshot(ground: Ground) -> None:
    """All ids begin with the century: 2 must not mean the only snapshot there is, whose serial is 1."""
    (only,) = publish(ground, b"1")

    assert ground.store.named(only[:8]) == only
    with pytest.raises(BadUsage, match="there is no such snapshot"):
        ground.store.named("2")


@pytest.mark.parametrize("name", ["SHA256SUMS", "SHA256SUMS.sig", "entries", "gone", "card.json"])
@pytest.mark.parametrize("harm", ["missing", "torn", "other", "one digit"])
def test_a_damaged_record_is_called_so_or_does_no_harm(ground: Ground, name: str, harm: str) -> None:
    """Bit rot and half-restored backups end in a sentence that names the folder, never in another content."""
    taken = publish(ground, b"1", b"2")
    ground.store = type(ground.store)(ground.store.directory, "example")  # nothing in memory
    before = ground.store.load(taken[1])
    ground.store = type(ground.store)(ground.store.directory, "example")
    file = ground.store.directory / "snapshots" / taken[1] / name
    data = file.read_bytes()
    digit = data.replace(b"1", b"2", 1)
    file.write_bytes({"torn": data[: len(data) // 2], "other": data[::-1], "one digit": digit}.get(harm, b""))
    if harm == "missing":
        file.unlink()

    try:
        found = ground.store.load(taken[1])
    except Damaged as e:
        assert str(file.parent) in str(e)  # noqa: PT017 - damage is one of two good ends
    else:
        assert found == before


def test_lost_and_altered_contents_are_found_by_a_scrub_and_filled_up_from_the_source(ground: Ground) -> None:
    """A disk rots in silence; while the source still has the bytes, the next take heals it."""
    (only,) = publish(ground, b"1")
    for file in ground.objects():
        file.chmod(0o644)
        file.write_bytes(b"same!"[: file.stat().st_size][::-1])

    scrubbed = ground.store.scrub()
    taken = ground.take()

    assert scrubbed.damaged == {only: (b"index.html", b"same")}
    assert not taken.changed
    assert ground.store.scrub().damaged == {}
    assert ground.content_of(only) == {b"index.html": b"1", b"same": b"same"}
    assert ground.litter() == ["damaged"]


def test_a_content_is_read_like_any_file_and_closes_what_it_holds(ground: Ground) -> None:
    """A site has more pages than a process may have open: none may be left behind, even by who forgets it."""
    publish(ground, b"0123456789")
    here = Path("/proc/self/fd")
    digest, before = hashlib.sha256(b"0123456789").digest(), len(list(here.iterdir()))

    with ground.store.content().open(digest) as content:
        assert (content.read(3), content.tell(), content.seek(8)) == (b"012", 3, 8)
        assert (content.read(), content.read(1), content.seek(-4, os.SEEK_END)) == (b"89", b"", 6)
        assert io.BufferedReader(cast("io.RawIOBase", content)).readline() == b"6789"
    content = ground.store.content().open(digest)
    assert os.pread(content.fileno(), 2, 0) == b"01"
    content.close()
    with pytest.raises(ValueError, match="closed"):
        content.__enter__()
    ground.store.content().open(digest)
    assert len(list(here.iterdir())) == before


def test_missing_content_is_damage_when_it_is_opened(ground: Ground) -> None:
    """Who sends it to a mirror hears what is wrong with our side, not with the mirror's."""
    publish(ground, b"1")
    lose(ground, b"1")

    with pytest.raises(Damaged, match="the store is damaged"):
        ground.store.content().open(hashlib.sha256(b"1").digest())


# -- restoring

FILES = {b"index.html": b"home", b"a/b/c": b"deep", b"empty": b"", b"large": b"x" * (3 << 20), b"odd \xff\n": b"odd"}


@pytest.mark.parametrize("target", ["new", "empty"])
def test_a_restored_folder_is_the_snapshot_byte_for_byte(ground: Ground, target: str) -> None:
    """The publisher's own copy of every page, with the times that readers' caches know."""
    ground.write(FILES)
    taken = ground.take()
    into = ground.folder / "restored"
    if target == "empty":
        into.mkdir(mode=0o750)
    told: list[Progress] = []

    ground.store.restore(taken.snapshot.id, into, seen=told.append)

    assert tree(into) == FILES
    entries = ground.manifest(taken).entries
    times = {os.fsencode(f.relative_to(into)): f.stat().st_mtime for f in into.rglob("*") if f.is_file()}
    assert times == {path: entry.mtime for path, entry in entries.items()}
    assert told[-1] == Progress(5, 5, taken.snapshot.size, taken.snapshot.size)
    assert {f.stat().st_nlink for f in into.rglob("*") if f.is_file()} == {1}
    assert target == "new" or into.stat().st_mode & 0o777 == 0o750


def test_a_restored_folder_can_be_the_source_again(ground: Ground) -> None:
    """After the source's disk died: the same content, so no new snapshot, and the times stay."""
    ground.write(FILES)
    taken = ground.take()
    ground.site.rename(ground.folder / "dead")
    ground.store.restore(taken.snapshot.id, ground.site)

    assert not ground.take().changed


def test_nothing_is_restored_over_what_stands_there(ground: Ground) -> None:
    """The wrong folder typed in a hurry must not cost its content."""
    (only,) = publish(ground, b"1")
    into = ground.folder / "full"
    into.mkdir()
    (into / "precious").write_bytes(b"x")
    (ground.folder / "file").write_bytes(b"x")
    (ground.folder / "link").symlink_to("full")

    for target, why in (("full", "is not empty"), ("file", "is no folder"), ("link", "is no folder")):
        with pytest.raises(BadUsage, match=why):
            ground.store.restore(only, ground.folder / target)
    with pytest.raises(BadUsage, match="make it first"):
        ground.store.restore(only, ground.folder / "no/where")
    assert tree(into) == {b"precious": b"x"}


def test_damaged_content_is_not_restored_and_each_file_is_named(ground: Ground) -> None:
    """A restored page with other bytes would be published as ours; all damaged ones are told at once."""
    ground.write(FILES)
    taken = ground.take()
    for file in ground.objects():
        if file.stat().st_size == 4:
            file.chmod(0o644)
            file.write_bytes(b"evil")
    into = ground.folder / "restored"

    with pytest.raises(Damaged, match=r"'a/b/c', 'index\.html'") as caught:
        ground.store.restore(taken.snapshot.id, into)
    assert caught.value.paths == (b"a/b/c", b"index.html")
    assert sorted(found.name for found in ground.folder.iterdir()) == ["source", "store"]


def test_stopping_a_restore_leaves_nothing(ground: Ground) -> None:
    """Half a site in the target would look like a whole one."""
    ground.write({f"{number}": b"x" for number in range(300)})
    taken = ground.take()
    stop = threading.Event()

    with pytest.raises(Cancelled):
        ground.store.restore(taken.snapshot.id, ground.folder / "restored", seen=lambda _: stop.set(), stop=stop)
    assert sorted(found.name for found in ground.folder.iterdir()) == ["source", "store"]


def test_a_target_without_room_is_called_full_before_anything_is_written(ground: Ground, lab: Lab) -> None:
    """Both figures are named, and the target stays as it was."""
    ground.write({"large": b"x" * (3 << 20)})
    taken = ground.take()
    disk = lab.small_disk(1024)

    with pytest.raises(Full, match="are needed"):
        ground.store.restore(taken.snapshot.id, disk.folder / "restored")
    assert list(disk.folder.iterdir()) == []
