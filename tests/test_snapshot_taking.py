"""How the source becomes a snapshot: what is read, what is not, and what becomes of it."""

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import pytest

from mirrord.errors import BadUsage, Braked, Cancelled, PutOff
from mirrord.manifest import Manifest
from mirrord.snapshot import Progress
from mirrord.snapshot.objects import Intake
from mirrord.trust.keys import Signers
from mirrord.trust.snapshots import check_manifest, check_signed
from tests.snapshotting import DAY, NOW, Ground, rest


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    """An empty source and an empty store."""
    return Ground.at(tmp_path)


def age(ground: Ground, seconds: float = 3600) -> None:
    """Let everything have been written a while ago; only the mtimes can be set, the ctimes are the kernel's."""
    for path in ground.site.rglob("*"):
        os.utime(path, (time.time() - seconds,) * 2, follow_symlinks=False)


def test_a_snapshot_holds_every_file_of_the_source(ground: Ground) -> None:
    """The first promise: what maintainers see in their folder is what is published, and it is signed."""
    files = {b"index.html": b"home", b"a/b/c.txt": b"deep", b"empty": b"", b"big": os.urandom(3 << 20)}
    ground.write(files)

    taken = ground.take()

    signed = ground.store.load(taken.snapshot.id)
    assert taken.changed
    assert ground.content(taken) == files
    card = check_signed(signed.card, signed.card_sig, Signers.of([ground.key.public]), "www.example.org", "example")
    digests = check_manifest(signed.manifest.text, signed.manifest_sig, card, Signers.of([ground.key.public]), None)
    assert digests == {path: hashlib.sha256(data).digest() for path, data in files.items()}
    assert card == taken.snapshot == ground.store.snapshots()[0]
    assert (card.files, card.size, card.serial) == (4, sum(map(len, files.values())), 1)


def test_everything_is_on_the_disk_before_a_snapshot_has_its_name(ground: Ground) -> None:
    """A power cut must not leave a snapshot whose pages are empty: contents, records and folders are synced first."""
    ground.write({f"{number}.html": b"%d" % number for number in range(20)})
    synced: list[bool] = []

    def listen(frame: FrameType, event: str, what: object) -> None:
        if event == "c_return" and what is os.fsync:
            synced.append(ground.store.newest() is not None)

    sys.setprofile(listen)
    try:
        taken = ground.take()
    finally:
        sys.setprofile(None)

    assert taken.changed
    assert synced.count(False) > 40, "each content and the folder that it stands in"
    assert synced[-1], "and at last the folder in which the name stands"


def test_any_name_that_is_not_empty_is_published(ground: Ground) -> None:
    """Accents in both forms, newlines, blanks, bytes that are no text: nothing is left behind for its name."""
    names = [b" ", b"new\nline", b"cr\r", b"\xff\xfe", b"\\", b"-", b"caf\xc3\xa9", b"cafe\xcc\x81", b"*", b"x" * 255]
    files = {name: b"1" + name for name in [*names, *(b"folder \n \xff/" + name for name in names)]}
    ground.write(files)

    assert ground.content(ground.take()) == files


def test_names_that_differ_only_by_case_stay_two_files(ground: Ground) -> None:
    """The source's file system tells them apart, and so do mirrors."""
    ground.write({b"About.html": b"1", b"about.html": b"2"})

    assert ground.content(ground.take()) == {b"About.html": b"1", b"about.html": b"2"}


def test_nothing_changed_is_no_new_snapshot(ground: Ground) -> None:
    """A look every quarter of an hour must not make a hundred snapshots a day."""
    ground.write({"index.html": b"home"})
    first = ground.take()

    second = ground.take()

    assert not second.changed
    assert second.snapshot == first.snapshot
    assert len(ground.store.snapshots()) == 1


def test_a_change_is_a_new_snapshot_that_follows_the_one_before(ground: Ground) -> None:
    """Serial by one, a later id, the previous one named, and what changed is told."""
    ground.write({"index.html": b"home", "gone": b"x", "stays": b"y"})
    first = ground.take()
    ground.write({"index.html": b"news", "fresh": b"z"})
    (ground.site / "gone").unlink()

    second = ground.take()

    assert second.snapshot.serial == first.snapshot.serial + 1
    assert second.snapshot.id > first.snapshot.id
    assert second.snapshot.previous == first.snapshot.id
    assert second.difference.added == (b"fresh",)
    assert second.difference.changed == (b"index.html",)
    assert second.difference.removed == (b"gone",)
    assert ground.store.newest() == second.snapshot.id


def test_two_snapshots_in_one_second_still_sort_by_their_ids(ground: Ground) -> None:
    """Id time = max(now, the previous one's + 1 s), also when the clock was set back."""
    ground.write({"a": b"1"})
    first = ground.take()
    ground.write({"a": b"2"})
    ground.now -= 3600

    second = ground.take()

    assert (second.snapshot.created - first.snapshot.created).total_seconds() == 1


def test_touching_every_file_changes_nothing(ground: Ground) -> None:
    """Generators touch everything; content counts, and published mtimes stay, so ETags do too."""
    ground.write({"a": b"1", "b": b"2"})
    first = ground.take()
    age(ground, 50)

    second = ground.take()

    assert not second.changed
    assert ground.manifest(second) == ground.manifest(first)


def test_new_bytes_with_the_old_size_and_time_get_a_later_time(ground: Ground) -> None:
    """The ETag of nginx is made of both: readers' caches would keep the old page."""
    ground.write({"a": b"1"})
    os.utime(ground.site / "a", (1000, 1000))
    first = ground.take()
    ground.write({"a": b"2"})
    os.utime(ground.site / "a", (1000, 1000))

    second = ground.take()

    assert ground.manifest(first).entries[b"a"].mtime == 1000
    assert ground.manifest(second).entries[b"a"].mtime == 1001


def test_a_page_that_comes_back_with_other_bytes_is_younger_than_it_was(ground: Ground) -> None:
    """A build that sets all times alike must not give two contents of one name the same ETag, even with a gap."""
    ground.write({"a": b"1", "b": b"x"})
    os.utime(ground.site / "a", (1000, 1000))
    ground.take()
    (ground.site / "a").unlink()
    ground.take()
    ground.write({"b": b"y"})
    ground.take()
    ground.write({"a": b"2"})
    os.utime(ground.site / "a", (1000, 1000))

    last = ground.take()

    assert ground.manifest(last).entries[b"a"].mtime == 1001


def test_one_content_is_kept_once(ground: Ground) -> None:
    """Twenty languages share their images."""
    ground.write({f"{language}/logo.png": b"logo" for language in ("de", "en", "it")})
    ground.take()

    assert len(ground.objects()) == 1


def test_contents_are_never_hard_links_to_the_source(ground: Ground) -> None:
    """Who edits a file in place would edit all its snapshots."""
    ground.write({"small": b"1", "large": b"x" * (2 << 20)})
    taken = ground.take()
    with (ground.site / "large").open("r+b") as file:
        file.write(b"edited")

    assert {file.stat().st_nlink for file in ground.objects()} == {1}
    assert ground.content(taken)[b"large"] == b"x" * (2 << 20)


# -- what is read again


def test_a_second_look_at_100_000_unchanged_files_reads_none_of_them(ground: Ground) -> None:
    """A look every quarter of an hour must not wear the disk; the kernel counts the reads of the process."""
    ground.write({f"section-0/{number}.html": b"%d" % (number % 50) for number in range(1000)})
    for section in range(1, 100):
        (ground.site / f"section-{section}").symlink_to("section-0")  # a thousand more paths, quicker made than files
    rest()
    assert ground.take().snapshot.files == 100_000

    before = reads_of_this_process()
    looked = ground.take()

    assert not looked.changed
    assert reads_of_this_process() - before < 100
    assert ground.reads == 0


def reads_of_this_process() -> int:
    """Return how many read calls this process has made, proc(5)."""
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["syscr"])


def test_only_what_changed_is_read(ground: Ground) -> None:
    """By device, inode, size and both times; each of these alone is a reason to read."""
    ground.write({f"{number}": b"%d" % number for number in range(10)})
    rest()
    ground.take()

    ground.write({"1": b"other"})
    (ground.site / "2").chmod(0o600)  # only its ctime
    ground.write({"new": b"3"})
    (ground.site / "new").replace(ground.site / "3")  # another inode, same bytes
    ground.take()

    assert ground.reads == 3


def test_an_entry_touched_just_now_is_hashed_again_next_time(ground: Ground) -> None:
    """Within one tick of the clock a file can change twice and show it once; two seconds are a wide berth."""
    ground.write({"old": b"1"})
    rest()
    ground.write({"fresh": b"2"})
    ground.take()

    ground.take()
    assert ground.reads == 1
    rest()
    ground.take()
    assert ground.reads == 1
    ground.take()
    assert ground.reads == 0


def test_a_page_that_was_published_just_after_it_was_written_can_be_withdrawn(ground: Ground) -> None:
    """What was too fresh to be relied on is not remembered; that it went must be seen all the same, or it stays up."""
    ground.write({"index.html": b"home", "about.html": b"us"})
    ground.take()
    rest()
    ground.take()
    ground.write({"wrong.html": b"a slip"})
    assert ground.take().changed

    (ground.site / "wrong.html").unlink()
    assert ground.take().difference.removed == (b"wrong.html",)


def test_a_time_in_the_far_future_does_not_make_a_file_fresh_for_ever(ground: Ground) -> None:
    """An archive unpacked with a wrong clock is read once, as any other."""
    ground.write({"a": b"1"})
    os.utime(ground.site / "a", (time.time() + 10 * 365 * DAY,) * 2)
    rest()
    ground.take()

    ground.take()

    assert ground.reads == 0


@pytest.mark.parametrize("harm", [b"", b"garbage", b"mirrord seen 2\n{}\n" + b"\0" * 32])
def test_a_torn_memory_of_the_last_look_is_only_read_anew(ground: Ground, harm: bytes) -> None:
    """It is a memory, not a record: a power cut may tear it."""
    ground.write({"a": b"1"})
    rest()
    ground.take()
    (ground.store.directory / "seen").write_bytes(harm)

    looked = ground.take()

    assert (looked.changed, ground.reads) == (False, 1)


# -- a source that moves


def test_a_file_that_changes_while_it_is_read_is_read_again(ground: Ground) -> None:
    """What is published stood in the source at one moment, all of it."""
    ground.write({"a": b"1", "b": b"1"})
    told: list[Progress] = []

    def edit_once(progress: Progress) -> None:
        if not told:
            ground.write({"a": b"22", "new": b"3"})
            (ground.site / "b").unlink()
        told.append(progress)

    taken = ground.take(seen=edit_once)

    assert ground.content(taken) == {b"a": b"22", b"new": b"3"}


def test_a_file_that_never_stands_still_puts_the_snapshot_off(ground: Ground) -> None:
    """After three more rounds; the path and `exclude` are named: a log file must not block silently for ever."""
    ground.write({"a": b"1", "logs/access.log": b""})
    rounds = []

    def log(progress: Progress) -> None:
        rounds.append(progress.files_total)
        with (ground.site / "logs/access.log").open("ab") as file:
            file.write(b"GET /\n")

    with pytest.raises(PutOff, match=r"'logs/access\.log' changed each time.*exclude") as caught:
        ground.take(seen=log)
    assert rounds == [2, 1, 1, 1]
    assert caught.value.exit_code == 75
    assert ground.store.newest() is None
    ground.exclude("logs/")
    assert ground.take(seen=log).snapshot.files == 1


def test_a_source_from_which_files_go_one_by_one_puts_the_snapshot_off(ground: Ground) -> None:
    """A deletion under way is a change as well: what is left of it at some moment is nobody's site."""
    ground.write({f"{number:03}": b"x" for number in range(400)})

    class Deleting(threading.Event):
        """Deletes a file at each walk after the reading: it is asked once a walk, and once for each file read."""

        asked = 0

        def is_set(self) -> bool:
            """Be asked."""
            self.asked += 1
            if self.asked > 1 + 400:
                next(ground.site.iterdir()).unlink()
            return False

    with pytest.raises(PutOff, match="changed each time it was read"):
        ground.take(allow_deletions=True, stop=Deleting())


def test_a_source_that_vanishes_while_it_is_read_publishes_nothing(ground: Ground) -> None:
    """Half of a site that is being deleted is no snapshot."""
    ground.write({f"{number}": b"x" for number in range(5)})

    def delete(progress: Progress) -> None:
        for file in ground.site.iterdir():
            file.unlink()

    with pytest.raises(Braked, match="has no files"):
        ground.take(seen=delete)
    assert ground.store.newest() is None


# -- links and other things


def test_links_inside_are_published_as_what_they_point_to(ground: Ground) -> None:
    """Mirrors get plain files: not every host allows links, and none could lead out."""
    ground.write({"index.html": b"home", "images/logo.png": b"logo"})
    (ground.site / "start.html").symlink_to("index.html")
    (ground.site / "de").mkdir()
    (ground.site / "de/images").symlink_to("../images")
    (ground.site / "absolute").symlink_to(ground.site / "images")
    (ground.site / "twice").symlink_to("start.html")

    assert ground.content(ground.take()) == {
        b"index.html": b"home",
        b"start.html": b"home",
        b"twice": b"home",
        b"images/logo.png": b"logo",
        b"de/images/logo.png": b"logo",
        b"absolute/logo.png": b"logo",
    }


def test_a_change_behind_a_link_is_seen(ground: Ground) -> None:
    """The link itself stays as it is; what it points to counts."""
    ground.write({"v1": b"1", "v2": b"2", "other": b"x"})
    (ground.site / "current").symlink_to("v1")
    ground.take()
    (ground.site / "current").unlink()
    (ground.site / "current").symlink_to("v2")

    assert ground.content(ground.take())[b"current"] == b"2"


def test_the_source_itself_may_be_a_link_that_is_swapped(ground: Ground) -> None:
    """Many build tools deploy that way."""
    for name in ("build-1", "build-2"):
        (ground.folder / name).mkdir()
        (ground.folder / name / "index.html").write_bytes(name.encode())
    ground.site.rmdir()
    ground.site.symlink_to("build-1")
    ground.take()
    ground.site.unlink()
    ground.site.symlink_to("build-2")

    assert ground.content(ground.take()) == {b"index.html": b"build-2"}


def test_sockets_pipes_and_devices_are_left_out_with_a_warning(ground: Ground) -> None:
    """They are no content; nor do they make a look wait for ever."""
    ground.write({"index.html": b"home"})
    os.mkfifo(ground.site / "pipe")
    (ground.site / "link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(ground.site / "end.sock"))
        taken = ground.take()

    assert list(ground.content(taken)) == [b"index.html"]
    assert len(taken.warnings) == 3
    assert any("'pipe' is a socket, pipe or device and is left out" in warning for warning in taken.warnings)
    assert ground.take().warnings  # and says it again while it is so


def test_excluded_paths_are_not_published_nor_looked_into(ground: Ground) -> None:
    """As in .gitignore; what is excluded may be as odd as it likes."""
    ground.write({"index.html": b"home", ".git/config": b"x", "a/.index.html.swp": b"x", "cache/x": b"x"})
    (ground.site / "out").symlink_to("/etc")
    os.mkfifo(ground.site / "pipe")
    ground.exclude(".git/", "*.swp", "cache", "/out/", "pipe")

    taken = ground.take()

    assert (list(ground.content(taken)), taken.warnings) == ([b"index.html"], ())


# -- stopping, dry runs, numbers


def test_stopping_ends_a_take_quickly_and_leaves_nothing(ground: Ground) -> None:
    """The daemon stops within seconds even in the middle of a first take; a large file is no excuse."""
    ground.write({"a": b"1", "large": b"x" * (64 << 20)})
    stop = CountingStop(5)

    with pytest.raises(Cancelled):
        ground.take(stop=stop)

    assert (ground.store.newest(), ground.litter(), ground.objects()) == (None, [], [])
    assert ground.take().changed


class CountingStop(threading.Event):
    """Is set from the n-th time on that it is asked."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def is_set(self) -> bool:
        """Count."""
        self.left -= 1
        return self.left < 0


def test_progress_ends_with_all_files_and_bytes(ground: Ground) -> None:
    """A bar that stops at 99 % is a question."""
    ground.write({"a": b"12345", "b": b"x" * (3 << 20)})
    told: list[Progress] = []

    ground.take(seen=told.append)

    assert told[-1] == Progress(2, 2, (3 << 20) + 5, (3 << 20) + 5)
    assert [each.bytes_done for each in told] == sorted(each.bytes_done for each in told)


def test_a_scan_tells_what_a_take_would_do_and_writes_nothing(ground: Ground) -> None:
    """`sync --dry-run`: the same plan, no trace."""
    ground.write({"a": b"1", "b": b"1"})
    ground.take()
    ground.write({"a": b"2", "c": b"3"})
    before = {path: path.stat().st_mtime_ns for path in ground.store.directory.rglob("*")}

    scanned = ground.store.scan(ground.source, ground.guard, now_wall=ground.now + 60)

    assert scanned.difference.changed == (b"a",)
    assert scanned.difference.added == (b"c",)
    assert before == {path: path.stat().st_mtime_ns for path in ground.store.directory.rglob("*")}
    assert ground.manifest(ground.take()) == scanned.manifest


def test_a_scan_before_the_first_take_needs_no_store(ground: Ground) -> None:
    """Looking comes before anything is set up."""
    ground.write({"a": b"1"})

    scanned = ground.store.scan(ground.source, ground.guard, now_wall=NOW)

    assert scanned.difference.added == (b"a",)
    assert not ground.store.directory.exists()


def test_a_serial_seen_on_a_mirror_is_passed_even_if_nothing_changed(ground: Ground) -> None:
    """A restored state folder: the same content must be published above what mirrors serve, not below."""
    ground.write({"a": b"1"})
    ground.take()

    taken = ground.take(highest_seen=41)

    assert (taken.changed, taken.snapshot.serial) == (True, 42)
    assert not ground.take(highest_seen=42).changed


def test_an_unknown_snapshot_is_a_usage_error(ground: Ground) -> None:
    """A mistyped id gets a sentence, also if it looks like a path."""
    for wrong in ("20260101T000000Z-00000000", "../../etc", ""):
        assert ground.store.manifest(wrong) is None  # type: ignore[arg-type] # on purpose
        with pytest.raises(BadUsage, match="is not in the store"):
            ground.store.load(wrong)  # type: ignore[arg-type] # on purpose


def test_an_empty_store_has_nothing(tmp_path: Path) -> None:
    """Reading comes before the first take."""
    store = Ground.at(tmp_path).store

    assert (store.newest(), store.snapshots(), store.pinned()) == (None, [], frozenset())


def test_files_on_a_file_system_that_shares_blocks_are_cloned(ground: Ground) -> None:
    """On btrfs and xfs the store takes no room of its own; here an honest copy stands in for FICLONE."""
    cloned: list[int] = []

    def clone(source: int, target: int) -> bool:
        size = os.fstat(source).st_size
        cloned.append(size)
        os.pwrite(target, os.pread(source, size, 0), 0)
        return True

    intake = Intake(ground.store.content(), ground.folder / "incoming", threading.Event(), lambda _: False, clone)
    ground.write({"small": b"x", "large": b"y" * 10_000})
    digests = []
    for name in ("small", "large", "large"):
        with (ground.site / name).open("rb") as file:
            found = os.fstat(file.fileno())
            digests.append(intake.keep(file.fileno(), found.st_size, found.st_dev, lambda _: None))
    intake.settle()
    intake.close()

    assert digests[1:] == [hashlib.sha256(b"y" * 10_000).digest()] * 2
    assert 10_000 in cloned
    assert 1 not in cloned
    assert len(ground.objects()) == 2
    assert {hashlib.sha256(each.read_bytes()).hexdigest() for each in ground.objects()} == {
        each.hex() for each in digests if each is not None
    }


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_a_file_that_is_not_as_long_as_the_walk_saw_it_is_not_kept(ground: Ground, size: int) -> None:
    """It is being written just now: what could be read of it is nobody's page."""
    ground.write({"a": b"x" * size})
    incoming = ground.folder / "incoming"
    intake = Intake(ground.store.content(), incoming, threading.Event(), lambda _: False)

    for wrong in (size - 1, size + 1):
        with (ground.site / "a").open("rb") as file:
            assert intake.keep(file.fileno(), wrong, 0, lambda _: None) is None
    intake.settle()
    intake.close()
    assert ground.objects() == []


def test_a_content_that_comes_twice_is_written_once(ground: Ground) -> None:
    """Twenty languages with the same images must not fill the disk for a moment."""
    ground.write({"a": b"same", "b": b"same"})
    incoming = ground.folder / "incoming"
    intake = Intake(ground.store.content(), incoming, threading.Event(), lambda _: False)

    for name in ("a", "b"):
        with (ground.site / name).open("rb") as file:
            intake.keep(file.fileno(), 4, 0, lambda _: None)

    assert len(list(incoming.iterdir())) == 1
    intake.close()


def test_an_unreadable_file_is_refused_by_its_name(ground: Ground) -> None:
    """A page that silently stayed away would be worse; the way out is named."""
    ground.write({"index.html": b"home", "a/secret": b"x"})
    (ground.site / "a/secret").chmod(0)

    said = as_nobody(ground)

    assert "Braked" in said
    assert "'a/secret' cannot be read (Permission denied)" in said
    assert "exclude it" in said


def test_an_unreadable_folder_is_refused_by_its_name(ground: Ground) -> None:
    """It might hold half of the site."""
    ground.write({"index.html": b"home", "closed/page": b"x"})
    (ground.site / "closed").chmod(0)

    said = as_nobody(ground)

    (ground.site / "closed").chmod(0o755)
    assert "'closed' cannot be read (Permission denied)" in said


def as_nobody(ground: Ground) -> str:
    """Look at the source as a user without special rights; return what is raised."""
    script = (
        "import sys, threading, mirrord.snapshot.taking as t; from mirrord.snapshot.objects import Hashing;"
        "from mirrord.snapshot.seen import Seen; from pathlib import Path; from mirrord.errors import MirrordError\n"
        "stop = threading.Event()\n"
        "import os\n"
        "if os.geteuid() == 0: os.chdir(sys.argv[1]); os.setgid(65534); os.setuid(65534)\n"
        "try: t.Taking(t.Source(Path(sys.argv[1])), Seen(), stop, print).read(Hashing(stop), lambda *a: True)\n"
        "except MirrordError as e: print(type(e).__name__, e)\n"
    )
    for folder in (ground.folder, *ground.folder.parents):
        if folder.owner() == ground.folder.owner() and len(folder.parts) > 2:
            folder.chmod(folder.stat().st_mode | 0o055)
    command = [sys.executable, "-c", script, str(ground.site)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_the_manifest_is_what_sha256sum_says_of_the_source(ground: Ground) -> None:
    """A person can check a snapshot against the source with nothing but coreutils."""
    ground.write({"index.html": b"home", "a b/c\\d": b"x"})
    text = ground.manifest(ground.take()).text

    checked = subprocess.run(["sha256sum", "-c", "--quiet"], cwd=ground.site, input=text, check=False)

    assert checked.returncode == 0


def test_manifests_of_equal_content_are_equal(ground: Ground) -> None:
    """Sanity of what the other tests compare."""
    ground.write({"a": b"1"})

    assert isinstance(ground.manifest(ground.take()), Manifest)
