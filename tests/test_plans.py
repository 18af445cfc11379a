"""What a dry run shows is what is carried out, or nothing is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirrord.control.plans import KEPT, Offer, Offers, Rehearsed, fingerprint
from mirrord.delta import Copy, Delta
from mirrord.errors import BadUsage, Braked
from mirrord.manifest import Manifest, SnapshotId
from mirrord.plan import Patching, Plan
from mirrord.publish import Published
from tests.conftest import Lab
from tests.fleet import Fleet, fleet
from tests.lab.publisher import publisher
from tests.lab.sshd import Sshd

OLD, NEW = SnapshotId("20261121T120000Z-00000001"), SnapshotId("20261121T130000Z-00000002")
DELTA = Delta(5000, (Copy(0, 0, 4000),), bytes(32))
PLAN = Plan(
    mirror="lyon",
    target=NEW,
    instead_of=OLD,
    base=OLD,
    link={b"a": b"a", b"b": b"a"},
    send=(b"c", b"d"),
    removed=(b"e",),
    bytes_to_send=1234,
    patch={b"f": Patching(b"f", 5000, 1, DELTA)},
)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(replace(PLAN, mirror="milan"), id="another mirror"),
        pytest.param(replace(PLAN, instead_of=None), id="served"),
        pytest.param(replace(PLAN, base=None), id="base"),
        pytest.param(replace(PLAN, link={b"a": b"a", b"b": b"b"}), id="linked from elsewhere"),
        pytest.param(replace(PLAN, link={b"a": b"a"}), id="less is linked"),
        pytest.param(replace(PLAN, send=(b"c",)), id="less is sent"),
        pytest.param(replace(PLAN, send=(b"c", b"d", b"b"), link={b"a": b"a"}), id="sent instead of linked"),
        pytest.param(replace(PLAN, removed=()), id="nothing is removed"),
        pytest.param(replace(PLAN, patch={}), id="nothing is patched"),
        pytest.param(
            replace(PLAN, patch={b"f": Patching(b"f", 5000, 1, replace(DELTA, copies=(Copy(0, 0, 3999),)))}),
            id="patched of less",
        ),
    ],
)
def test_a_plan_that_does_anything_else_is_another_plan(other: Plan) -> None:
    """A person said yes to what was shown, to no more and no less."""
    assert fingerprint(other) != fingerprint(PLAN)


def test_what_the_snapshot_will_be_called_makes_no_other_plan() -> None:
    """The name has the time in it, and is known only when the snapshot is taken."""
    assert fingerprint(replace(PLAN, target=SnapshotId("20261122T130000Z-00000002"))) == fingerprint(PLAN)
    assert fingerprint(replace(PLAN, send=(b"d", b"c"))) == fingerprint(PLAN)


def offer(result: str = "planned", plan: Plan | None = PLAN, *, allow: bool = False) -> Offer:
    """An offer for one mirror."""
    rehearsed = Rehearsed(Published("lyon", result, NEW, 2, error=None if plan else "lyon: it is dead"), plan)
    return Offer.of(Manifest.of({}), [rehearsed], allow_deletions=allow, made=1000.0)


def test_a_mirror_that_serves_something_else_now_is_refused() -> None:
    """Another controller, or a person, was there."""
    offer().hold_to("lyon", PLAN)

    with pytest.raises(Braked, match=f"it serves nothing now, and served {OLD} when the plan was shown"):
        offer().hold_to("lyon", replace(PLAN, instead_of=None))
    with pytest.raises(Braked, match="not what was shown"):
        offer().hold_to("lyon", replace(PLAN, send=()))


def test_a_mirror_that_served_it_and_does_no_longer_is_refused() -> None:
    """Nobody was shown what it would take."""
    with pytest.raises(Braked):
        offer("unchanged").hold_to("lyon", PLAN)


def test_a_mirror_for_which_nothing_could_be_planned_is_left_out() -> None:
    """It was dead when the plan was made; nobody has seen what would happen there."""
    refused = offer("failed", None).left_out("lyon")

    assert refused is not None
    assert "it has nothing for this mirror: lyon: it is dead" in str(refused)
    assert offer().left_out("lyon") is None


def test_offers_are_kept_and_found_and_the_oldest_go(tmp_path: Path) -> None:
    """They outlive the process that made them; nobody carries out one of last year."""
    offers = Offers(tmp_path / "plans")
    made = [replace(offer(allow=True), id=f"{number:012x}") for number in range(KEPT + 2)]
    for number, one in enumerate(made):
        offers.keep(one)
        os.utime(tmp_path / "plans" / f"{one.id}.json", (number, number))

    assert offers.find(made[-1].id) == made[-1]
    assert len(list((tmp_path / "plans").iterdir())) == KEPT
    with pytest.raises(BadUsage, match="there is no plan"):
        offers.find(made[0].id)


@pytest.mark.parametrize("name", ["0123456789ab", "../journal", "", "none", "0123456789AB"])
def test_an_unknown_plan_is_answered_with_a_sentence(tmp_path: Path, name: str) -> None:
    """A slip of the hand, or a plan that is too old; nothing outside the folder is looked at."""
    (tmp_path / "journal.json").write_text("{}")

    with pytest.raises(BadUsage, match=r"there is no plan .*`mirrord sync --dry-run` makes one"):
        Offers(tmp_path / "plans").find(name)


def test_a_broken_plan_is_none(tmp_path: Path) -> None:
    """A disk that was full, or an earlier version's."""
    (tmp_path / "0123456789ab.json").write_text('{"id": 7')
    (tmp_path / "0123456789ac.json").write_text("[]")

    for name in ("0123456789ab", "0123456789ac"):
        with pytest.raises(BadUsage):
            Offers(tmp_path).find(name)


# On real servers ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sshd(module_lab: Lab) -> Sshd:
    """Return one server for all accounts."""
    return module_lab.sshd()


@pytest.fixture
def two(lab: Lab, sshd: Sshd) -> Iterator[Fleet]:
    """Two mirrors that serve a site, and a source that has changed since in every way."""
    for made in fleet(lab, sshd, milan=0.0, lyon=0.0):
        big = bytearray(os.urandom(300_000))
        made.write("big.bin", bytes(big))
        made.write("old.html", b"<h1>Old</h1>")
        made.write("old.css", b"h1 {}")
        made.write("moved.html", b"<h1>Moved</h1>" * 20)
        assert {row["result"] for row in made.verb("sync")["mirrors"]} == {"published"}
        big[1000:1010] = b"0123456789"
        made.write("big.bin", bytes(big))
        (made.folder / "source" / "old.html").unlink()
        (made.folder / "source" / "old.css").unlink()
        (made.folder / "source" / "moved.html").rename(made.folder / "source" / "here.html")
        made.write("twice/a.html", b"<h1>Twice</h1>")
        made.write("index.html", b"<h1>New</h1>")
        yield made


FIGURES = ("name", "files_sent", "files_linked", "files_patched", "files_removed", "bytes_sent", "layout")


def figures(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What both a plan and its carrying out say of each mirror."""
    return [tuple(row[name] for name in FIGURES) for row in found["mirrors"]]


def test_what_is_carried_out_is_what_was_shown_to_the_last_byte(two: Fleet) -> None:
    """A person decides by these figures."""
    shown = two.verb("sync", dry_run=True)
    carried_out = two.verb("sync", plan=shown["plan"]["id"])

    assert figures(carried_out) == figures(shown)
    assert {row["result"] for row in carried_out["mirrors"]} == {"published"}
    assert {two.serves(mirror) for mirror in two.lines} == {carried_out["snapshot"]["id"]}
    assert carried_out["plan"]["id"] == shown["plan"]["id"]


def test_a_dry_run_shows_which_files_and_changes_nothing(two: Fleet) -> None:
    """Names besides figures: nobody recognises a mistake in a number."""
    before = [two.serves(mirror) for mirror in two.lines]

    shown = two.verb("sync", dry_run=True)
    again = two.verb("sync", dry_run=True)
    plan = shown["mirrors"][0]["plan"]

    assert plan["sent"]["paths"] == ["index.html", "twice/a.html"]
    assert plan["moved"] == {"files": 1, "paths": ["here.html"]}
    assert plan["patched"] == {"files": 1, "paths": ["big.bin"]}
    assert plan["removed"]["paths"] == ["moved.html", "old.css", "old.html"]
    assert (plan["instead_of"], plan["base"]) == (before[0], before[0])
    assert shown["mirrors"][0]["bytes_sent"] < 20_000
    assert again["plan"] == shown["plan"]
    assert [two.serves(mirror) for mirror in two.lines] == before


def test_a_source_that_changed_since_stops_everything(two: Fleet) -> None:
    """What would be published is nothing that anybody saw."""
    before = [two.serves(mirror) for mirror in two.lines]
    shown = two.verb("sync", dry_run=True)
    two.write("index.html", b"<h1>Newer</h1>")

    with pytest.raises(Braked, match=f"plan {shown['plan']['id']}: the source changed since"):
        two.verb("sync", plan=shown["plan"]["id"])
    assert [two.serves(mirror) for mirror in two.lines] == before
    assert len(two.verb("snapshots")["snapshots"]) == 1
    again = two.verb("sync", dry_run=True)
    assert again["plan"]["id"] != shown["plan"]["id"]
    assert {row["result"] for row in two.verb("sync", plan=again["plan"]["id"])["mirrors"]} == {"published"}


def test_a_mirror_that_changed_since_is_refused_and_the_others_go_on(two: Fleet) -> None:
    """One that was published to from elsewhere, or whose link somebody took away."""
    shown = two.verb("sync", dry_run=True)
    before = two.serves("lyon")
    (two.root("lyon") / "current").unlink()

    found = two.verb("sync", plan=shown["plan"]["id"])
    rows = {row["name"]: row for row in found["mirrors"]}
    assert (rows["milan"]["result"], rows["lyon"]["result"]) == ("published", "refused")
    assert rows["lyon"]["error_code"] == 5
    assert f"it serves nothing now, and served {before}" in rows["lyon"]["error"]
    assert not list((two.root("lyon") / "staging").iterdir())


def test_a_file_that_the_host_altered_makes_it_another_plan(two: Fleet) -> None:
    """It has to be sent, and was shown as linked, however often it is tried; a sync without a plan publishes it."""
    shown = two.verb("sync", dry_run=True)
    before = two.serves("lyon")
    (two.root("lyon") / "current" / "about" / "index.html").write_bytes(b"<h1>Not theirs</h1>")

    for result in ("published", "unchanged"):
        rows = {row["name"]: row for row in two.verb("sync", plan=shown["plan"]["id"])["mirrors"]}
        assert (rows["milan"]["result"], rows["lyon"]["result"]) == (result, "refused")
        assert rows["lyon"]["error_code"] == 5
        assert "1 files ('about/index.html' first) had to be sent whole" in rows["lyon"]["error"]
        assert two.serves("lyon") == before
    rows = {row["name"]: row for row in two.verb("sync")["mirrors"]}
    assert rows["lyon"]["result"] == "published"
    assert (two.root("lyon") / "current" / "about" / "index.html").read_bytes() == b"<h1>About</h1>"


def test_a_mirror_that_was_dead_when_the_plan_was_made_gets_nothing_of_it(two: Fleet) -> None:
    """Nobody saw what would happen there."""
    two.lines["lyon"].down()
    shown = two.verb("sync", dry_run=True)
    two.lines["lyon"].up()

    rows = {row["name"]: row for row in two.verb("sync", plan=shown["plan"]["id"])["mirrors"]}
    assert (rows["milan"]["result"], rows["lyon"]["result"]) == ("published", "refused")
    assert "it has nothing for this mirror" in rows["lyon"]["error"]


def test_a_plan_remembers_that_removals_were_allowed(two: Fleet) -> None:
    """Who saw the figures and carries the plan out has said yes to them."""
    for number in range(40):
        two.write(f"page-{number}.html", b"page %d" % number)
    two.verb("sync")
    for number in range(40):
        (two.folder / "source" / f"page-{number}.html").unlink()
    with pytest.raises(Braked):
        two.verb("sync", dry_run=True)

    shown = two.verb("sync", dry_run=True, allow_deletions=True)
    assert shown["plan"]["allow_deletions"] is True
    found = two.verb("sync", plan=shown["plan"]["id"])
    assert figures(found) == figures(shown)
    assert found["mirrors"][0]["files_removed"] == 40


def test_where_nothing_is_to_be_done_there_is_no_plan(two: Fleet) -> None:
    """An id would look as if there were something to carry out."""
    two.verb("sync")

    shown = two.verb("sync", dry_run=True)
    assert (shown["plan"], {row["result"] for row in shown["mirrors"]}) == (None, {"unchanged"})


@pytest.mark.parametrize("more", [{"dry_run": True}, {"allow_deletions": True}, {"mirrors": ["milan"]}])
def test_a_plan_takes_no_further_words(two: Fleet, more: dict[str, Any]) -> None:
    """It would no longer be what was shown."""
    with pytest.raises(BadUsage, match="stands alone"):
        two.verb("sync", plan="0123456789ab", **more)


def test_a_plan_is_carried_out_by_the_daemon_as_well(lab: Lab) -> None:
    """Over its socket; and what became of it is in the exit code."""
    with publisher(lab, ("milan",), order=["milan"]) as site:
        assert site.verb("sync")["exit"] == 0
        site.verb("hold", "publishing", "--reason", "only what a person has seen")
        site.daemon.start()
        site.write("news.html", "<h1>News</h1>")
        shown = site.verb("sync", "--dry-run")

        done = site.verb("sync", "--plan", shown["plan"]["id"])
        assert (done["exit"], figures(done)) == (0, figures(shown))
        site.write("news.html", "<h1>Newer</h1>")
        again = site.verb("sync", "--dry-run")
        site.write("news.html", "<h1>Newest</h1>")
        refused = site.verb("sync", "--plan", again["plan"]["id"])
        assert (refused["exit"], refused["error"]["brake"]) == (5, "plan")
        assert site.verb("sync", "--plan", "0123456789ab")["exit"] == 2
