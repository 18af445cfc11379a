"""What every host promises: on memory, on a folder, and on every SFTP server that can do what the layout asks for.

The accounts have umask 077, as the meanest hosters set it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrord.errors import Cancelled, Conflict, Locked, Unverified
from mirrord.hosts import Hold, Staged
from mirrord.hosts.files import Create, Kind, Link, MakeFolder, Op, Put, Remove, Rename, Symlink
from mirrord.hosts.host import FilesHost
from mirrord.manifest import Signed, SnapshotId
from mirrord.plan import Plan, make_plan
from tests.conftest import Lab
from tests.grounds import Ground, ask_able_layouts, ground, needs
from tests.lab.sftp import SftpServer
from tests.publishing import OWN, Publisher, release_of

SITE = {
    b"index.html": b"<h1>one</h1>",
    b"a/b/deep.txt": b"deep",
    b"a/empty": b"",
    "odd \\ näme".encode(): b"odd",
    b"photo.png": b"\x89PNG" * 999,
}
NEXT = {**SITE, b"index.html": b"<h1>two</h1>", b"new/page": b"new"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Ask each ground and layout that can be asked."""
    ask_able_layouts(metafunc)


@pytest.fixture(scope="module")
def servers() -> dict[str, SftpServer]:
    """Keep the servers that the tests share."""
    return {}


@pytest.fixture
def here(
    request: pytest.FixtureRequest, module_lab: Lab, servers: dict[str, SftpServer], tmp_path: Path
) -> Iterator[Ground]:
    """Return an account without anything in it."""
    kind, layout = request.param
    yield from ground(kind, module_lab, servers, tmp_path, layout)


@pytest.fixture
def publisher() -> Publisher:
    """Return a controller."""
    return Publisher()


def plan_on(host: FilesHost, publisher: Publisher, signed: Signed) -> Plan:
    """Plan a snapshot on what a host holds."""
    found = host.survey()
    held = publisher.known(found.current) if found.current else None
    return make_plan("lyon", signed.snapshot.id, signed.manifest, found.current, found.current, held)


def stage(hold: Hold, publisher: Publisher, signed: Signed, plan: Plan) -> Staged:
    """Stage a snapshot, and see that it is verified."""
    staged = hold.stage(plan, signed, publisher.content, lambda _: None)
    assert not hold.inspect(staged, signed).wrong
    return staged


def lead_to(here: Ground, publisher: Publisher, signed: Signed, serve: str = "current") -> Staged:
    """Publish by the seam's own verbs."""
    host = here.host(serve=serve)
    plan = plan_on(host, publisher, signed)
    with host.hold(publisher.me(), publisher.known, host.survey(), plan) as hold:
        staged = stage(hold, publisher, signed, plan)
        hold.serve(signed.snapshot.id, plan.instead_of)
    return staged


def test_a_survey_of_a_new_account_finds_nothing_and_makes_nothing(here: Ground) -> None:
    """Looking changes nothing: whoever surveys has no right yet to write."""
    survey = here.host().survey()

    assert (survey.current, survey.obstacle, survey.releases, survey.card) == (None, None, (), None)
    assert survey.tidy
    if here.root is not None:
        assert not here.root.exists()


def test_what_is_staged_is_seen_by_readers_only_once_it_is_served(here: Ground, publisher: Publisher) -> None:
    """Rule 1: until the switch everything is as before, and after it everything is new."""
    first, second = publisher.take(SITE), publisher.take(NEXT)
    lead_to(here, publisher, first)
    host = here.host()
    plan = plan_on(host, publisher, second)
    with host.hold(publisher.me(), publisher.known, host.survey(), plan) as hold:
        staged = stage(hold, publisher, second, plan)
        before = here.served()
        switched = hold.serve(second.snapshot.id, first.snapshot.id)

    assert before == release_of(first, publisher.content)
    assert here.served() == release_of(second, publisher.content)
    links = host.traits.hard_link or here.layout == "inplace"
    assert (staged.files_sent, staged.files_linked) == ((2, 4) if links else (6, 0))
    assert (switched.mixture > 0.0) is (here.layout == "inplace")
    assert here.litter() == []


def test_a_survey_names_what_is_served_and_shows_its_card(here: Ground, publisher: Publisher) -> None:
    """The next publish decides by this one look."""
    first, second = publisher.take(SITE), publisher.take(NEXT)
    lead_to(here, publisher, first)
    lead_to(here, publisher, second)

    survey = here.host().survey()
    assert survey.current == second.snapshot.id
    assert survey.releases[-1] == second.snapshot.id
    assert survey.releases[:-1] == ((first.snapshot.id,) if here.layout != "inplace" else ())
    assert (survey.card, survey.card_sig) == (second.card, second.card_sig)
    assert list(survey.left) == [first.snapshot.id]
    assert survey.tidy


@needs("modes")
def test_readers_may_read_everything_and_only_we_what_is_ours(here: Ground, publisher: Publisher) -> None:
    """Under umask 077 a web server of another user would see nothing: modes are set, not hoped for."""
    lead_to(here, publisher, publisher.take(SITE))
    lead_to(here, publisher, publisher.take(NEXT))

    outside = {b".mirrord": 0o700, b"staging": 0o700, b"releases": 0o755}
    found = here.modes()
    assert {path: mode for path, (_, mode) in found.items() if path in outside} == outside
    inside = {path: told for path, told in found.items() if path.startswith((b"releases/", b"current/"))}
    assert {mode for kind, mode in inside.values() if kind is Kind.FILE} == {0o644}
    assert {mode for kind, mode in inside.values() if kind is Kind.FOLDER} == {0o755}
    if here.root is not None:
        assert here.root.stat().st_mode & 0o777 == 0o755


@needs("hard_link", "keeps_releases")
def test_unchanged_files_share_their_inode_and_keep_their_mtime(here: Ground, publisher: Publisher) -> None:
    """A release costs what changed, and an ETag changes only with the bytes."""
    first, second = publisher.take(SITE), publisher.take(NEXT)
    lead_to(here, publisher, first)
    lead_to(here, publisher, second)

    if here.root is not None:
        one, two = (
            here.root / here.place(signed.snapshot.id, is_served=signed is second) for signed in (first, second)
        )
        assert (one / "photo.png").stat().st_ino == (two / "photo.png").stat().st_ino
        assert (one / "index.html").stat().st_ino != (two / "index.html").stat().st_ino
        for path, entry in second.manifest.entries.items():
            assert int(Path(os.fsdecode(os.fsencode(two) + b"/" + path)).stat().st_mtime) == entry.mtime
        own = OWN.decode() + "snapshot.json"
        assert (two / own).stat().st_nlink == 1


def test_an_inspection_finds_what_is_missing_extra_and_different(here: Ground, publisher: Publisher) -> None:
    """Nothing is served that is not exactly what was signed: not one page less, and not one more."""
    signed = publisher.take(SITE)
    host = here.host()
    plan = plan_on(host, publisher, signed)
    with host.hold(publisher.me(), publisher.known, host.survey(), plan) as hold:
        staged = hold.stage(plan, signed, publisher.content, lambda _: None)
        files = here.connect()
        top = b"staging/" + host.survey().staging[0]
        tampering: list[Op] = [
            Remove(top + b"/a/empty"),
            MakeFolder(top + b"/a/empty"),
            Remove(top + b"/index.html"),
            Put(top + b"/injected.php", 1, 1, 0o644, lambda: publisher.content.open(publisher.content.add(b"<"))),
            MakeFolder(top + b"/more"),
            Remove(top + b"/photo.png"),
            Symlink(b"index.html", top + b"/photo.png") if host.traits.symlink else MakeFolder(top + b"/photo.png"),
        ]
        assert all(outcome.good for outcome in files.in_order(tampering))
        findings = hold.inspect(staged, signed).wrong

    assert findings.missing == (b"index.html",)
    assert findings.extra == (b"injected.php", b"more")
    assert findings.different == (b"a/empty", b"photo.png")


def test_a_switch_away_from_something_else_is_a_conflict_and_changes_nothing(
    here: Ground, publisher: Publisher
) -> None:
    """The plan names what it replaces; whoever came between is not overwritten unseen."""
    first, second, third = publisher.take(SITE), publisher.take(NEXT), publisher.take(SITE)
    lead_to(here, publisher, first)
    late = here.host()
    plan = plan_on(late, publisher, third)
    lead_to(here, publisher, second)

    with (
        pytest.raises(Conflict) as conflict,
        late.hold(publisher.me(), publisher.known, late.survey(), plan) as hold,
    ):
        hold.stage(plan, third, publisher.content, lambda _: None)
    assert conflict.value.found == second.snapshot.id
    assert here.served() == release_of(second, publisher.content)


def test_serving_what_is_served_does_nothing(here: Ground, publisher: Publisher) -> None:
    """Repeating a switch whose answer was lost is no error."""
    signed = publisher.take(SITE)
    lead_to(here, publisher, signed)

    host = here.host()
    with host.hold(publisher.me(), publisher.known, host.survey()) as hold:
        hold.serve(signed.snapshot.id, SnapshotId("20200101T000000Z-00000000"))
        hold.prune(frozenset())
    assert here.served() == release_of(signed, publisher.content)
    assert here.litter() == []


@needs("exclusive")
def test_only_one_holds_a_mirror_and_the_other_is_told_who(here: Ground, publisher: Publisher) -> None:
    """Two publishes at once would tear each other's work apart."""
    one, two = here.host(alive=True), here.host(alive=True)

    with one.hold(publisher.me(), publisher.known, one.survey()):
        with pytest.raises(Locked) as locked, two.hold(publisher.me(), publisher.known, two.survey()):
            pass
        assert here.host().survey().locks == (1,), "the loser took nothing away"
    assert "home" in locked.value.holder
    assert str(locked.value).startswith("lyon: ")
    assert here.litter() == []


@needs("serves_link")
def test_a_dead_holders_half_switch_is_undone(here: Ground, publisher: Publisher) -> None:
    """What its lost connection may still send must find nothing to rename."""
    signed = publisher.take(SITE)
    lead_to(here, publisher, signed)
    files = here.connect()
    assert all(
        outcome.good
        for outcome in files.in_order(
            [Create(b".mirrord/lock.1", b"{}"), Symlink(b"releases/x", b".mirrord/current.dead")]
        )
    )

    host = here.host(alive=None)
    with host.hold(publisher.me(), publisher.known, host.survey()):
        (late,) = files.carry_out([Rename(b".mirrord/current.dead", b"current", over=True)])
    assert not late.good
    assert here.served() == release_of(signed, publisher.content)
    assert here.litter() == []


def test_posted_files_replace_those_of_what_is_served(here: Ground, publisher: Publisher) -> None:
    """A card that was signed again reaches readers without a new release, and no older release changes with it."""
    first, second = publisher.take(SITE), publisher.take(NEXT)
    lead_to(here, publisher, first)
    lead_to(here, publisher, second)
    again = publisher.sign_again(second)

    host = here.host()
    with host.hold(publisher.me(), publisher.known, host.survey()) as hold:
        for _ in range(2):
            hold.post(again.changing_files(), again.signed_at)
    assert here.served() == release_of(again, publisher.content)
    if here.layout != "inplace":
        assert here.served(f"releases/{first.snapshot.id}") == release_of(first, publisher.content)
    assert here.litter() == []


@needs("keeps_releases")
def test_pruning_spares_what_is_kept_served_or_was_served_within_the_hour(here: Ground, publisher: Publisher) -> None:
    """Whoever reads a page just now still needs its pictures from the release before."""
    snapshots = [publisher.take({**SITE, b"n": b"%d" % n}) for n in range(5)]
    for signed in snapshots[:3]:
        lead_to(here, publisher, signed)
    here.an_hour_passes()
    for signed in snapshots[3:]:
        lead_to(here, publisher, signed)
    ids = [signed.snapshot.id for signed in snapshots]

    host = here.host()
    with host.hold(publisher.me(), publisher.known, host.survey()) as hold:
        pruned = hold.prune(frozenset({ids[0]}))
        again = hold.prune(frozenset({ids[0]}))
    assert (pruned.releases, dict(pruned.failed)) == ((ids[1],), {})
    assert again.releases == ()
    assert here.host().survey().releases == (ids[0], *ids[2:])
    assert here.served(f"releases/{ids[0]}") == release_of(snapshots[0], publisher.content)
    assert here.litter() == []


def test_a_real_folder_where_readers_look_is_never_touched(here: Ground, publisher: Publisher) -> None:
    """It is somebody's site: a person has to move it away first."""
    files = here.connect()
    page = publisher.content.add(b"old site")
    made: list[Op] = [
        MakeFolder(b""),
        MakeFolder(b"current"),
        Put(b"current/page", 8, 5, 0o644, lambda: publisher.content.open(page)),
    ]
    assert all(outcome.good for outcome in files.in_order(made))

    survey = here.host().survey()
    assert survey.current is None
    assert survey.obstacle is not None
    assert "adopt it first" in survey.obstacle
    assert here.served() == {b"page": b"old site"}


def test_the_served_name_may_lie_deeper_in_the_account(here: Ground, publisher: Publisher) -> None:
    """Some panels prescribe where the web server looks; the link is relative, as a chrooted account needs it."""
    first, second = publisher.take(SITE), publisher.take(NEXT)
    lead_to(here, publisher, first, "web/example/htdocs")
    lead_to(here, publisher, second, "web/example/htdocs")

    assert here.served("web/example/htdocs") == release_of(second, publisher.content)
    if here.root is not None and here.layout == "releases":
        assert (here.root / "web/example/htdocs").readlink() == Path("../../releases") / second.snapshot.id


@needs("hard_link", "keeps_releases")
def test_a_served_release_is_mended_with_new_files_and_nothing_else_is_touched(
    here: Ground, publisher: Publisher
) -> None:
    """The host altered what readers see: it is put right, and other releases that share inodes are left alone."""
    first, second = publisher.take(SITE), publisher.take(NEXT)
    lead_to(here, publisher, first)
    lead_to(here, publisher, second)
    files = here.connect()
    top = here.place(second.snapshot.id, is_served=True).encode()
    damage: list[Op] = [
        Remove(top + b"/index.html"),
        Remove(top + b"/a/b/deep.txt"),
        MakeFolder(top + b"/a/b/deep.txt"),
        MakeFolder(top + b"/extra"),
        Link(top + b"/photo.png", top + b"/extra/photo.png"),
        Rename(top + b"/new", top + b"/old"),
        Remove(top + b"/" + OWN + b"SHA256SUMS.sig"),
    ]
    assert all(outcome.good for outcome in files.in_order(damage))

    host = here.host()
    with host.hold(publisher.me(), publisher.known, host.survey()) as hold:
        mended = hold.mend(second, publisher.content, {b"photo.png"}, lambda _: None)
        clean = hold.mend(second, publisher.content, (), lambda _: None)
        hold.prune(frozenset({first.snapshot.id}))
    assert here.served() == release_of(second, publisher.content)
    assert here.served(f"releases/{first.snapshot.id}") == release_of(first, publisher.content)
    assert not clean.wrong
    assert mended.wrong.extra == (b"extra", b"extra/photo.png", b"old", b"old/page")
    assert mended.wrong.different == (b"a/b/deep.txt", b"photo.png")
    assert here.litter() == []


def test_a_file_of_a_release_is_read_and_a_missing_one_is_named(here: Ground, publisher: Publisher) -> None:
    """What a mirror holds may be needed back, or checked, without publishing anything."""
    signed = publisher.take(SITE)
    lead_to(here, publisher, signed)
    host = here.host()

    assert b"".join(host.read(signed.snapshot.id, b"a/b/deep.txt", 10)) == b"deep"
    with pytest.raises(Unverified, match="lyon: reading a/none"):
        list(host.read(signed.snapshot.id, b"a/none", 10))
    with pytest.raises(Unverified):
        list(host.read(signed.snapshot.id, b"a/b/deep.txt", 3))


def test_after_abort_every_verb_is_cancelled(here: Ground) -> None:
    """The daemon stops in seconds, whatever a mirror does."""
    host = here.host()
    host.abort()

    with pytest.raises(Cancelled):
        host.survey()
    host.close()
