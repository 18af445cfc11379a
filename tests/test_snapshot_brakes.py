"""When a source publishes nothing: every refusal names the path and the way out."""

import os
from pathlib import Path

import pytest

from mirrord.errors import Braked
from mirrord.snapshot.source import Source
from mirrord.snapshot.store import Store
from tests.snapshotting import Ground


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    """A source of thirty pages, taken once."""
    ground = Ground.at(tmp_path)
    ground.write({f"page-{number}.html": b"x" * 100 for number in range(30)})
    ground.write({"index.html": b"home"})
    ground.take()
    return ground


def refused(ground: Ground, brake: str, match: str) -> None:
    """Assert that a take is refused by this brake, whatever is allowed, and that nothing came of it."""
    before = ground.store.newest()
    for allow in (False, True):
        with pytest.raises(Braked, match=match) as caught:
            ground.take(allow_deletions=allow)
        assert (caught.value.brake, caught.value.exit_code) == (brake, 5)
        assert "nothing is published" in str(caught.value)
        assert str(ground.site) in str(caught.value)
    assert (ground.store.newest(), ground.litter()) == (before, [])


def empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def test_an_empty_source_publishes_nothing(ground: Ground) -> None:
    """A mount that vanished leaves an empty folder; no flag makes that a site."""
    empty(ground.site)

    refused(ground, "empty-source", "has no files; is it mounted")


def test_a_source_with_nothing_but_excluded_files_is_empty(ground: Ground) -> None:
    """An exclude pattern too many is the same accident."""
    ground.exclude("*.html")

    refused(ground, "empty-source", "has no files")


def test_a_missing_source_publishes_nothing(ground: Ground) -> None:
    """The disk is not there today."""
    ground.site.rename(ground.folder / "elsewhere")

    refused(ground, "no-source", "is not there.*is it mounted")


def test_a_source_that_is_a_file_publishes_nothing(ground: Ground) -> None:
    """A path with one component too many."""
    ground.source = Source(ground.site / "index.html")

    with pytest.raises(Braked, match="is no folder"):
        ground.take()


def test_a_source_without_what_must_exist_publishes_nothing(ground: Ground) -> None:
    """A build that failed half-way has everything but the home page."""
    ground.must_exist("index.html")
    (ground.site / "index.html").unlink()

    refused(ground, "must-exist", r"'index\.html' is missing, and source\.must_exist names it")


def test_what_must_exist_may_be_a_folder_with_something_in_it(ground: Ground) -> None:
    """`images/` is there if an image is."""
    ground.must_exist("images/", "./index.html")
    (ground.site / "images").mkdir()
    refused(ground, "must-exist", "'images' is missing")
    ground.write({"images/a.png": b"x"})

    assert ground.take().changed


def test_a_new_demand_is_checked_though_nothing_changed(ground: Ground) -> None:
    """Who adds a line to the configuration wants to hear at once that it does not hold."""
    ground.must_exist("imprint.html")

    refused(ground, "must-exist", "'imprint.html' is missing")


def test_many_removed_files_want_an_explicit_yes(ground: Ground) -> None:
    """Eleven of thirty-one is beyond both limits of the guard; with a yes it goes."""
    for number in range(11):
        (ground.site / f"page-{number}.html").unlink()

    with pytest.raises(Braked, match=r"11 of 31 files.*--allow-deletions") as caught:
        ground.take()
    assert caught.value.brake == "deletions"
    assert ground.take(allow_deletions=True).snapshot.files == 20


def test_emptied_files_count_as_removed(ground: Ground) -> None:
    """A generator that writes empty pages takes as much away as one that deletes them."""
    ground.write({f"page-{number}.html": b"" for number in range(11)})

    with pytest.raises(Braked, match="removed or emptied"):
        ground.take()
    assert ground.take(allow_deletions=True).changed


def test_a_few_removed_files_need_no_yes(ground: Ground) -> None:
    """Ten of thirty-one exceed one limit only."""
    for number in range(10):
        (ground.site / f"page-{number}.html").unlink()

    assert ground.take().snapshot.files == 21


def test_half_of_a_small_site_wants_a_yes_too(tmp_path: Path) -> None:
    """Two of three files are no large number, and most of the site."""
    ground = Ground.at(tmp_path)
    ground.write({"a": b"1", "b": b"2", "c": b"3"})
    ground.take()
    (ground.site / "a").unlink()
    (ground.site / "b").unlink()

    with pytest.raises(Braked, match="more than half"):
        ground.take()


def test_the_brake_holds_before_a_byte_is_read(ground: Ground) -> None:
    """A hundred gigabytes are not copied first to say no in the end."""
    for number in range(11):
        (ground.site / f"page-{number}.html").unlink()
    ground.write({"large": b"x" * 1000})

    with pytest.raises(Braked):
        ground.take()
    assert ground.reads == 0


def test_deletions_that_happen_while_it_is_read_are_braked_too(ground: Ground) -> None:
    """The brake judges what would be published, not what stood there a moment before."""
    ground.write({"new": b"x"})

    def delete(_: object) -> None:
        for number in range(11):
            (ground.site / f"page-{number}.html").unlink(missing_ok=True)

    with pytest.raises(Braked, match="11 of 31 files"):
        ground.take(seen=delete)


def test_a_dry_run_is_braked_alike(ground: Ground) -> None:
    """It says what would happen."""
    empty(ground.site)
    ground.write({"index.html": b"home"})

    with pytest.raises(Braked, match="removed or emptied"):
        ground.store.scan(ground.source, ground.guard, now_wall=ground.now)
    assert ground.store.scan(ground.source, ground.guard, now_wall=ground.now, allow_deletions=True).difference


def test_our_own_folder_cannot_come_from_the_source(ground: Ground) -> None:
    """A copy of a mirror used as a source would publish old signatures as content."""
    (ground.site / ".well-known/mirrord").mkdir(parents=True)

    refused(ground, "own-folder", r"'\.well-known/mirrord' is written by mirrord.*exclude it")
    ground.exclude(".well-known/mirrord")
    assert not ground.take().changed


def test_a_file_in_place_of_our_own_folder_is_refused(ground: Ground) -> None:
    """On a mirror it would stand where the signatures must."""
    ground.write({".well-known/mirrord": b"x"})

    refused(ground, "own-folder", "'.well-known/mirrord'")


def test_neighbours_of_our_own_folder_are_published(ground: Ground) -> None:
    """`security.txt` and ACME live there too."""
    ground.write({".well-known/security.txt": b"x", ".well-known/mirrord-notes": b"x"})

    assert ground.take().snapshot.files == 33


@pytest.mark.parametrize(
    ("target", "match"),
    [
        ("/etc/passwd", "'link' is a link that leads out of the source, to '/etc/passwd'; .*exclude the link"),
        ("../elsewhere", "leads out of the source"),
        ("/etc", "leads out of the source"),
        ("nowhere", "'link' is a link that points to nothing; mend it, remove it or exclude it"),
        ("link", "leads round in a circle"),
        (".", "'link' is a link to a folder that it stands in, without end"),
    ],
)
def test_links_that_lead_out_nowhere_or_round_are_refused(ground: Ground, target: str, match: str) -> None:
    """The link is named, and the way out."""
    (ground.folder / "elsewhere").write_bytes(b"x")
    (ground.site / "link").symlink_to(target)

    refused(ground, "link", match)


def test_a_folder_beside_the_source_with_its_name_in_front_is_outside(ground: Ground) -> None:
    """`/srv/site-old` is not in `/srv/site`."""
    beside = ground.site.with_name(ground.site.name + "-old")
    beside.mkdir()
    (beside / "a").write_bytes(b"x")
    (ground.site / "link").symlink_to(beside / "a")

    refused(ground, "link", "leads out of the source")


def test_loops_of_several_links_are_refused(ground: Ground) -> None:
    """Each of them is harmless alone."""
    (ground.site / "a").mkdir()
    (ground.site / "b").mkdir()
    (ground.site / "a/to-b").symlink_to("../b")
    (ground.site / "b/to-a").symlink_to("../a")

    refused(ground, "link", "without end")


def test_a_link_to_a_folder_further_up_is_refused_at_once(ground: Ground) -> None:
    """Not only after going round until the path is too long."""
    (ground.site / "a/b/c").mkdir(parents=True)
    (ground.site / "a/b/c/up").symlink_to("../..")

    refused(ground, "link", "'a/b/c/up' is a link to a folder that it stands in")


@pytest.mark.parametrize("depth", [38, 45])
def test_a_path_that_no_server_can_hold_is_refused(ground: Ground, depth: int) -> None:
    """It would fail on every mirror, one after the other, for ever; 45 is more than we can ourselves open by name."""
    here = os.open(ground.site, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * 100, dir_fd=here)
        above, here = here, os.open("d" * 100, os.O_RDONLY, dir_fd=here)
        os.close(above)
    os.close(os.open("f" * 80, os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)

    refused(ground, "path", r"'dddd.* bytes long, its longest name 100; .*: shorten or exclude it")


def test_our_own_state_is_not_published(ground: Ground) -> None:
    """It changes while it is taken, and holds every earlier version: a wrong `state.directory` is told at once."""
    ground.store = Store(ground.site / "var/state", "example")

    refused(ground, "own-state", r"var/state, lies in it and would be published; .*or exclude it")
    ground.exclude("/var/")
    assert ground.take().snapshot.files == 31
