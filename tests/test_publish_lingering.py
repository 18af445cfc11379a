"""Assets of earlier releases linger beside a new one for a while, with what was signed of them, and then they go."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from mirrord.errors import Unavailable
from mirrord.hosts import Linger
from mirrord.hosts.files import Kind, List, Op, Outcome
from mirrord.hosts.lingering import foretell
from mirrord.hosts.memory import Cut, Disk, Killed, MemoryFiles, Node
from mirrord.manifest import OWN_FOLDER, PREVIOUS, Signed, extra_files, parse_snapshot
from mirrord.plan import make_plan
from mirrord.publish import Published
from mirrord.trust.previous import Believed, check_earlier, in_previous, may_linger
from tests.publishing import IDENTITY, Publisher, host_on, litter, releases, served

HOUR = 3600.0
A = {
    b"index.html": b"<h1>one</h1>",
    b"gone.html": b"withdrawn",
    b"css/main.1.css": b"one",
    b"css/main.1.css.gz": b"gz of one",
    b"old/deep/logo.png": b"logo",
    b"same.js": b"same",
}
B = {b"index.html": b"<h1>two</h1>", b"css/main.2.css": b"two", b"same.js": b"same", b"b.js": b"b"}
C = {b"index.html": b"<h1>three</h1>", b"css/main.3.css": b"three", b"same.js": b"same"}
OF_A = {b"css/main.1.css", b"css/main.1.css.gz", b"old/deep/logo.png"}
OF_B = {b"css/main.2.css", b"b.js"}


@dataclass
class Site:
    """A mirror in memory with its own clock, a publisher, and readers who look at every request."""

    publisher: Publisher = field(default_factory=Publisher)
    time: float = 1_700_000_000.0
    grace: float = HOUR
    looks: bool = True
    layout: str = "auto"
    lacks: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Let readers look whenever something is asked of the mirror."""
        self.disk = Disk(clock=lambda: self.time, tick=lambda _: self.look())
        self.wrong = 0.0  # by how much our own clock is wrong
        self.seen: set[frozenset[tuple[bytes, bytes]]] = set()

    def take(self, *sites: Mapping[bytes, bytes]) -> list[Signed]:
        """Take a snapshot of each."""
        return [self.publisher.take(site) for site in sites]

    def publish(self, signed: Signed, cut: Cut | None = None, **terms: Any) -> Published:
        """Publish; raises what `publish` raises."""
        linger = Linger(self.grace, self.publisher.taken.get)
        usual: dict[str, Any] = {"linger": linger, "wall": lambda: self.time + self.wrong, "allow_deletions": True}
        files = MemoryFiles(self.disk, cut=cut)
        files.traits = replace(files.traits, **self.lacks)
        return self.publisher.publish(files, signed, layout=self.layout, **{**usual, **terms})

    def passes(self, seconds: float) -> None:
        """Let time pass."""
        self.time += seconds

    def look(self) -> None:
        """See a whole release, and beside it nothing that is not signed for: a mixture is never seen."""
        if not self.looks:
            return
        seen = served(self.disk)
        key = frozenset(seen.items())
        if seen and key not in self.seen:
            self.seen.add(key)
            assert self.strange(seen) == [], "readers saw a file that nobody signed for"

    def strange(self, seen: Mapping[bytes, bytes]) -> list[bytes]:
        """Return the extra files that a verification of what is served would name."""
        card = parse_snapshot(seen[OWN_FOLDER + b"/snapshot.json"])
        signed = self.publisher.taken[card.id]
        files = {path: entry.digest for path, entry in signed.manifest.entries.items()}
        assert all(hashlib.sha256(seen[path]).digest() == digest for path, digest in files.items()), "not whole"
        extra = extra_files(seen, files)
        believed = Believed(self.publisher.signers, IDENTITY)
        earlier = [
            check_earlier(folder, names, lambda path, _: seen[path], card, believed)
            for folder, names in in_previous(extra).items()
        ]
        allowed = may_linger(files, earlier)
        strange = [path for path in extra if path not in allowed and not path.startswith(PREVIOUS)]
        return strange + [p for p in extra if p in allowed and hashlib.sha256(seen[p]).digest() != allowed[p][1]]

    @property
    def lingering(self) -> set[bytes]:
        """The paths of files that linger."""
        seen = served(self.disk)
        card = parse_snapshot(seen[OWN_FOLDER + b"/snapshot.json"])
        extra = extra_files(seen, self.publisher.taken[card.id].manifest.entries)
        return {path for path in extra if not path.startswith(PREVIOUS)}

    @property
    def previous(self) -> list[bytes]:
        """The names in `previous/`."""
        return sorted(in_previous(served(self.disk)))


@pytest.fixture
def site() -> Site:
    return Site()


def name(signed: Signed) -> bytes:
    return signed.snapshot.id.encode()


def test_assets_of_the_release_before_are_there_with_the_switch(site: Site) -> None:
    """A page that was opened before the switch finds its style sheet; a page that was withdrawn is gone."""
    a, b = site.take(A, B)
    site.publish(a)

    done = site.publish(b)

    assert (done.result, done.warnings) == ("published", ())
    assert site.lingering == OF_A
    assert site.previous == [name(a)]
    assert litter(site.disk) == []


def test_they_cost_no_content(site: Site) -> None:
    """They are links to what the mirror has, and so is the list of what was signed: only cards travel."""
    a, b = site.take(A, B)
    site.publish(a)
    site.publish(b)

    inode = site.disk.find(b"releases/" + name(a) + b"/old/deep/logo.png")
    listed = site.disk.find(b"releases/" + name(a) + b"/" + OWN_FOLDER + b"/SHA256SUMS")

    assert site.disk.find(b"current/old/deep/logo.png") is inode
    assert site.disk.find(b"current/" + PREVIOUS + b"/" + name(a) + b"/SHA256SUMS") is listed


def test_releases_in_quick_succession_linger_together(site: Site) -> None:
    """Readers of any release of the last hour find what their page needs."""
    a, b, c = site.take(A, B, C)
    for signed in (a, b, c):
        site.publish(signed)
        site.passes(600)

    assert site.lingering == OF_A | OF_B
    assert site.previous == [name(a), name(b)]


def test_a_release_that_was_left_long_ago_does_not_linger_with_the_next(site: Site) -> None:
    """A's time is over when C comes two hours after B; B was left just now."""
    a, b, c = site.take(A, B, C)
    site.publish(a)
    site.publish(b)
    site.passes(2 * HOUR)

    site.publish(c)

    assert site.lingering == OF_B
    assert site.previous == [name(b)]


def test_nothing_lies_in_previous_where_no_asset_is_gone(site: Site) -> None:
    """Most publishes change pages only: nothing is sent, linked or to be cleaned up for them."""
    a, b = site.take(A, {**A, b"index.html": b"new", b"more.css": b"x"})
    site.publish(a)

    site.publish(b)

    assert (site.lingering, site.previous) == (set(), [])
    assert site.disk.find(b"current/" + PREVIOUS) is None


def test_a_sync_after_the_grace_takes_them_away(site: Site) -> None:
    """The regular sync of an unchanged site cleans up; what is served is the release, and nothing else."""
    a, b = site.take(A, B)
    site.publish(a)
    site.publish(b)

    site.passes(HOUR - 60)
    early = site.publish(b)
    assert site.lingering == OF_A
    site.passes(120)
    late = site.publish(b)

    assert (early.result, late.result, late.warnings) == ("unchanged", "unchanged", ())
    assert (site.lingering, site.previous) == (set(), [])
    folders = {path for path, node in site.disk.tree(b"current").items() if node.kind is Kind.FOLDER}
    assert folders == {b".well-known", b".well-known/mirrord", b"css"}
    assert litter(site.disk) == []


def test_of_two_releases_each_goes_when_its_own_time_is_over(site: Site) -> None:
    """A was left ten minutes before B."""
    a, b, c = site.take(A, B, C)
    for signed in (a, b, c):
        site.publish(signed)
        site.passes(600)

    site.passes(HOUR - 1000)
    site.publish(c)

    assert site.lingering == OF_B
    assert site.previous == [name(b)]


def test_a_mirror_that_was_away_for_days_is_cleaned_by_its_next_publish(site: Site) -> None:
    """Changed or not: what lingered there had its time."""
    a, b, c = site.take(A, B, {**B, b"index.html": b"three"})
    site.publish(a)
    site.publish(b)
    site.passes(48 * HOUR)

    site.publish(c)

    assert (site.lingering, site.previous) == (set(), [])


def test_without_grace_nothing_lingers_and_what_did_goes(site: Site) -> None:
    """Who must be rid of a picture at once says `grace = "0s"` and syncs."""
    a, b, c = site.take(A, B, C)
    site.publish(a)
    site.publish(b)
    site.grace = 0.0

    site.publish(b)
    assert (site.lingering, site.previous) == (set(), [])
    site.publish(c)

    assert (site.lingering, site.previous) == (set(), [])


@pytest.mark.parametrize("wrong", [-5 * HOUR, 5 * HOUR], ids=["ours is behind", "ours is ahead"])
def test_the_mirrors_own_clock_decides(site: Site, wrong: float) -> None:
    """Notes and time are read off one clock; when ours differs, the mirror is asked for its time."""
    a, b = site.take(A, B)
    site.wrong = wrong
    site.publish(a)
    site.publish(b)

    site.passes(HOUR - 60)
    site.publish(b)
    assert site.lingering == OF_A
    site.passes(120)
    site.publish(b)

    assert site.lingering == set()


def test_notes_of_releases_that_are_pruned_are_kept_for_the_grace(site: Site) -> None:
    """A grace of a day outlives the release itself, which need not stay for it."""
    site.grace = 24 * HOUR
    a, b, c = site.take(A, B, C)
    site.publish(a, keep=1)
    site.publish(b, keep=1)
    site.passes(2 * HOUR)
    site.publish(c, keep=1)
    assert releases(site.disk) == [name(b), name(c)]
    assert site.lingering == OF_A | OF_B

    site.passes(21 * HOUR)
    site.publish(c, keep=1)
    assert site.lingering == OF_A | OF_B
    site.passes(2 * HOUR)
    site.publish(c, keep=1)

    assert site.lingering == OF_B


def test_an_asset_that_comes_back_is_the_new_ones_own(site: Site) -> None:
    """What the next release has itself is never the old bytes."""
    a, b, c = site.take(A, B, {**C, b"css/main.1.css": b"new one"})
    for signed in (a, b, c):
        site.publish(signed)

    assert served(site.disk)[b"css/main.1.css"] == b"new one"
    assert site.lingering == OF_B | {b"old/deep/logo.png"}


def test_where_there_are_no_links_they_are_sent(site: Site) -> None:
    """Poor hosts keep the promise too, at the cost of content."""
    a, b = site.take(A, B)
    site.lacks = {"hard_link": False}
    site.publish(a)
    site.publish(b)

    assert site.lingering == OF_A


def test_what_can_be_had_nowhere_is_left_out_with_a_warning(site: Site) -> None:
    """A kindness must not fail a publish: our store swept it, and the mirror altered it."""
    a, b = site.take(A, B)
    site.publish(a)
    node = site.disk.find(b"current/old/deep/logo.png")
    assert node is not None
    node.mtime += 1
    del site.publisher.content.by_digest[hashlib.sha256(b"logo").digest()]

    done = site.publish(b)

    assert done.result == "published"
    assert site.lingering == OF_A - {b"old/deep/logo.png"}
    assert "1 files of earlier releases ('old/deep/logo.png' first) are lost" in done.warnings[0]


def test_a_release_that_we_know_nothing_of_does_not_linger(site: Site) -> None:
    """Another controller's release: what was signed of it is not ours to hand out."""
    a, b = site.take(A, B)
    site.publish(a)

    site.publish(b, linger=Linger(HOUR, lambda _: None))

    assert (site.lingering, site.previous) == (set(), [])


def test_what_our_store_forgot_is_taken_away_all_the_same(site: Site) -> None:
    """The store kept only so many snapshots: the mirror's own tree is listed then."""
    a, b = site.take(A, B)
    site.publish(a)
    site.publish(b)
    site.passes(2 * HOUR)

    site.publish(b, linger=Linger(HOUR, lambda _: None))

    assert (site.lingering, site.previous) == (set(), [])


def test_suspects_are_not_linked_from_what_is_served(site: Site) -> None:
    """A file whose bytes the host altered under its time and size would be served on, and no one signed for it."""
    a, b = site.take(A, B)
    site.publish(a)
    node = site.disk.find(b"current/old/deep/logo.png")
    assert node is not None
    node.data[:] = b"evil"
    site.looks = False

    site.publish(b, suspects=frozenset({b"old/deep/logo.png"}))

    assert served(site.disk)[b"old/deep/logo.png"] == b"logo"


def test_mending_leaves_what_may_linger_and_drops_what_may_not(site: Site) -> None:
    """A served release that the host meddled with is put right; the style sheet of open pages stays."""
    a, b = site.take(A, B)
    site.publish(a)
    site.publish(b)
    site.looks = False
    folder = site.disk.find(b"current/old/deep")
    home = site.disk.find(b"current/index.html")
    assert folder is not None
    assert home is not None
    folder.names[b"evil.png"] = home
    folder.names[b"gone.html"] = home
    logo = site.disk.find(b"current/css/main.1.css.gz")
    assert logo is not None
    logo.mtime += 5
    (forged,) = in_previous(served(site.disk))
    lists = site.disk.find(b"current/" + PREVIOUS + b"/" + forged)
    assert lists is not None
    del lists.names[b"SHA256SUMS.sig"]

    done = site.publish(b, mend=True)

    assert done.result == "published"
    site.looks = True
    site.look()
    assert site.lingering == OF_A - {b"css/main.1.css.gz"}


def test_a_forged_folder_in_previous_is_taken_away(site: Site) -> None:
    """A host that puts something of its own there finds it gone at the next sync."""
    a, b = site.take(A, B)
    site.publish(a)
    site.publish(b)
    site.looks = False
    previous = site.disk.find(b"current/" + PREVIOUS)
    assert previous is not None
    evil = Node(Kind.FILE, 0o644, 0, bytearray(b"evil"))
    previous.names[b"20261121T120100Z-00000000"] = Node(Kind.FOLDER, 0o755, 0, names={b"SHA256SUMS": evil})
    previous.names[b"evil"] = evil

    site.publish(b)

    site.looks = True
    site.look()
    assert site.previous == [name(a)]
    assert site.lingering == OF_A


def test_what_does_not_go_away_keeps_its_excuse_and_is_named(site: Site) -> None:
    """Without what was signed of it, a file that stays would be one that nobody can explain."""
    a, b = site.take(A, B)
    site.publish(a)
    site.publish(b)
    site.looks = False
    folder = site.disk.find(b"current/old/deep")
    assert folder is not None
    folder.names[b"logo.png"] = Node(Kind.FOLDER, 0o755, 0)  # which no REMOVE takes away
    site.passes(2 * HOUR)

    done = site.publish(b)

    assert done.warnings == ("old/deep/logo.png: it does not go away",)
    assert site.previous == [name(a)]


def test_a_rollback_makes_assets_its_own_again(site: Site) -> None:
    """The old content comes back as a new snapshot; what lingers then is what was wrong with the one between."""
    a, b, again = site.take(A, B, A)
    for signed in (a, b, again):
        site.publish(signed)

    assert site.lingering == OF_B
    assert site.previous == [name(b)]


@pytest.mark.parametrize("back", [False, True], ids=["in time", "late"])
def test_a_release_that_is_led_to_again_has_what_lingers_now(site: Site, back: bool) -> None:
    """Somebody led readers back by hand, and the next sync leads them on again, to a release that stands."""
    a, b = site.take(A, B)
    site.publish(a)
    site.publish(b)
    if back:
        site.passes(2 * HOUR)
    link = site.disk.find(b"current", follow=False)
    assert link is not None
    link.target = b"releases/" + name(a)

    done = site.publish(b)

    assert done.result == "published"
    assert site.lingering == OF_A
    assert litter(site.disk) == []


LAYOUTS = [
    pytest.param("releases", {}, id="releases"),
    pytest.param("rename", {"symlink": False}, id="rename"),
    pytest.param("inplace", {"symlink": False}, id="inplace"),
    pytest.param(
        "inplace",
        {"symlink": False, "hard_link": False, "replace": False, "rename_folder": False, "copy_data": False},
        id="inplace on the poorest host",
    ),
]


@pytest.mark.parametrize(("layout", "lacks"), LAYOUTS)
def test_in_every_layout_assets_linger_and_go(layout: str, lacks: dict[str, bool]) -> None:
    """Where files are replaced one by one they stay where they are; elsewhere they come with the tree."""
    site = Site(looks=layout != "inplace", layout=layout, lacks=lacks)
    a, b, c = site.take(A, B, C)
    for signed in (a, b, c):
        site.publish(signed)
        site.passes(600)
    assert site.strange(served(site.disk)) == []
    assert site.lingering == OF_A | OF_B
    assert site.previous == [name(a), name(b)]

    site.passes(HOUR - 1000)
    site.publish(c)
    assert site.strange(served(site.disk)) == []
    assert (site.lingering, site.previous) == (OF_B, [name(b)])
    site.passes(HOUR)
    site.publish(c)

    assert (site.lingering, site.previous) == (set(), [])


@pytest.mark.parametrize(("layout", "lacks"), LAYOUTS)
def test_in_every_layout_what_had_its_time_goes_with_the_next_release(layout: str, lacks: dict[str, bool]) -> None:
    """A mirror that was away for days holds what lingered then; the release that comes now does not."""
    site = Site(looks=layout != "inplace", layout=layout, lacks=lacks)
    a, b, c = site.take(A, B, C)
    site.publish(a)
    site.publish(b)
    site.passes(48 * HOUR)

    site.publish(c)

    assert site.strange(served(site.disk)) == []
    assert (site.lingering, site.previous) == (OF_B, [name(b)])


@pytest.mark.parametrize(("layout", "lacks"), LAYOUTS)
def test_what_travels_for_them_is_foretold_to_the_last_byte(layout: str, lacks: dict[str, Any]) -> None:
    """A dry run shows what a publish will send; on poor hosts these files are a part of it."""
    site = Site(looks=False, layout=layout, lacks=lacks)
    a, b, c = site.take(A, B, C)
    site.publish(a)
    linger = Linger(HOUR, site.publisher.taken.get)
    for before, signed in ((a, b), (b, c)):
        files = MemoryFiles(site.disk)
        files.traits = replace(files.traits, **lacks)
        found = host_on(files, layout=layout).survey()
        held = before.manifest
        plan = make_plan("lyon", signed.snapshot.id, signed.manifest, found.current, found.current, held)
        links = files.traits.hard_link

        foretold = foretell(signed, plan, found, linger, site.time, links=links)
        sent = site.publish(signed).bytes_sent

        lacking = [signed.manifest.entries[path].size for path in plan.send]
        if not links and layout != "inplace":
            lacking += [signed.manifest.entries[path].size for path in plan.link]
        own = {**signed.fixed_files(), **signed.changing_files()}
        assert foretold == sent - sum(lacking) - sum(map(len, own.values())) > 0
        site.passes(60)


def test_where_files_stay_in_place_they_are_not_sent_again() -> None:
    """The poorest hosts have the slowest lines: a picture that is gone from the site must not travel for it."""
    site = Site(looks=False, layout="inplace", lacks={"symlink": False, "hard_link": False, "copy_data": False})
    a, b = site.take({**A, b"big.png": bytes(200_000)}, B)
    site.publish(a)

    done = site.publish(b)

    assert b"big.png" in site.lingering
    assert done.bytes_sent < 100_000


def cut_everywhere(make: Callable[[], tuple[Site, Signed]], *, after: bool, killed: bool) -> int:
    """Break the publish of what `make` gives off at each of its requests; finish it; return how many there were."""
    at = 0
    while True:
        site, signed = make()
        site.looks = True
        try:
            site.publish(signed, Cut(at, after=after, killed=killed))
            return at
        except (Unavailable, Killed):
            site.publish(signed)
        assert parse_snapshot(served(site.disk)[OWN_FOLDER + b"/snapshot.json"]).id == signed.snapshot.id
        assert litter(site.disk) == []
        at += 1


@pytest.mark.parametrize(
    ("after", "killed"),
    [
        pytest.param(False, True, id="killed before the request"),
        pytest.param(True, False, id="cut after it, unanswered"),
    ],
)
def test_a_chain_cut_at_any_request_shows_no_file_without_its_excuse(after: bool, killed: bool) -> None:
    """Readers look at every request of leading from B, beside which A lingers, to C."""

    def make() -> tuple[Site, Signed]:
        site = Site(looks=False)
        a, b, c = site.take(A, B, C)
        site.publish(a)
        site.publish(b)
        return site, c

    at = cut_everywhere(make, after=after, killed=killed)

    assert at > 60


@pytest.mark.parametrize(
    ("after", "killed"),
    [
        pytest.param(False, True, id="killed before the request"),
        pytest.param(True, False, id="cut after it, unanswered"),
    ],
)
def test_cleaning_up_cut_at_any_request_shows_no_file_without_its_excuse(after: bool, killed: bool) -> None:
    """First the files go, then what excuses them; whatever is left, the next sync takes away."""

    def make() -> tuple[Site, Signed]:
        site = Site(looks=False)
        a, b, c = site.take(A, B, C)
        for signed in (a, b, c):
            site.publish(signed)
        site.passes(2 * HOUR)
        return site, c

    at = cut_everywhere(make, after=after, killed=killed)

    assert at > 15


@pytest.mark.parametrize(("layout", "lacks"), LAYOUTS[1:])
@pytest.mark.parametrize("over", [False, True], ids=["leading on", "cleaning up"])
def test_in_every_layout_a_cut_publish_is_finished_by_the_next(layout: str, lacks: dict[str, Any], over: bool) -> None:
    """Whatever was on its way, the next publish makes the same of it: no file without its excuse, none too few."""
    at, broken = int(over), True
    while broken:
        site = Site(looks=False, layout=layout, lacks=lacks)
        a, b, c = site.take(A, B, C)
        for signed in (a, b, c) if over else (a, b):
            site.publish(signed)
        site.passes(HOUR + 60 if over else 60)
        try:
            site.publish(c, Cut(at, after=bool(at % 2)))
            broken = False
        except Unavailable:
            site.publish(c)

        assert site.strange(served(site.disk)) == []
        assert site.lingering == (set() if over else OF_A | OF_B)
        at += 5  # before and after requests in turn


def flights(site: Site, signed: Signed) -> list[list[Op]]:
    """Publish, and return what was asked in each round trip."""
    asked: list[list[Op]] = []

    class Counting(MemoryFiles):
        def carry_out(self, ops: Any, *more: Any) -> Any:
            asked.append(list(ops))
            return super().carry_out(asked[-1], *more)

        def in_order(self, ops: Any) -> list[Outcome]:
            asked.append(list(ops))
            return super().in_order(ops)

    linger = Linger(site.grace, site.publisher.taken.get)
    site.publisher.publish(Counting(site.disk), signed, linger=linger, wall=lambda: site.time, allow_deletions=True)
    return asked


def test_lingering_takes_no_round_trip_of_its_own(site: Site) -> None:
    """At 150 ms each would be felt: what is asked for them goes with what is asked anyway."""
    a, b, c = site.take(A, B, C)
    site.publish(a)
    site.publish(b)
    plain = Site(grace=0.0)
    d, e, f = plain.take(A, B, C)
    plain.publish(d)
    plain.publish(e)

    with_them, without = flights(site, c), flights(plain, f)

    assert len(with_them) == len(without)
    assert len(flights(site, c)) == 1  # unchanged: one look
    assert site.lingering == OF_A | OF_B
    assert any(isinstance(op, List) for op in with_them[0])
