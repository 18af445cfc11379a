"""The layouts `rename` and `inplace`, broken off at every request, in every order, and seen by readers at each."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirrord.errors import Braked, Full, MirrordError, Refused, Unavailable
from mirrord.hosts.files import (
    Create,
    Kind,
    List,
    MakeFolder,
    Op,
    Outcome,
    Pulse,
    Put,
    Remove,
    RemoveFolder,
    Rename,
    Symlink,
    Traits,
    Trouble,
    Walk,
)
from mirrord.hosts.memory import Cut, Disk, Killed, MemoryFiles
from mirrord.hosts.moving import rank
from mirrord.manifest import Signed
from tests.publishing import OWN, Publisher, half_releases, host_on, litter, release_of, releases, served, whole
from tests.test_publish_cuts import trees

POOR = Traits(ordered=True, symlink=False, hard_link=True, replace=True, space=True)
BLIND = Traits(ordered=False, symlink=False, hard_link=False, replace=False, space=False)
BARE = Traits(ordered=True, symlink=False, hard_link=False, replace=False, space=False, rename_folder=False)
SITE = {
    b"index.html": b"1 a.css one.html",
    b"one.html": b"1 a.css img/1.png",
    b"gone.html": b"1 a.css",
    b"a.css": b"1 img/1.png",
    b"img/1.png": b"1",
    b"same/page.html": b"0 a.css",
    b"odd \xff\nname": b"0",
}
NEXT = {
    b"index.html": b"22 a.css one.html deep/er/new.html",
    b"one.html": b"22 a.css img/2.png",
    b"deep/er/new.html": b"22 b.css",
    b"a.css": b"22 img/2.png",
    b"b.css": b"22 img/2.png img/2.png",
    b"img/2.png": b"22",
    b"same/page.html": b"0 a.css",
    b"odd \xff\nname": b"0",
}
"""A page names, after its version, what it needs."""


class Eyes:
    """Readers who look at every request."""

    def __init__(self, publisher: Publisher, *allowed: Signed) -> None:
        self.publisher = publisher
        self.time = 1_700_000_000.0
        self.disk = Disk(clock=lambda: self.time, tick=self.look)
        self.allowed = [release_of(signed, publisher.content) for signed in allowed]
        self.holes = 0
        self.mixtures = 0
        self.gap = True
        """Whether nothing may be served now."""

    def look(self, _: int) -> None:
        """Look as a reader."""
        seen = served(self.disk)
        if seen in self.allowed:
            self.gap = False
            return
        self.judge(seen)

    def judge(self, seen: dict[bytes, bytes]) -> None:
        """What is neither the one release nor the other."""
        raise NotImplementedError

    def an_hour_passes(self) -> None:
        """Let so much time pass that nothing was served lately."""
        self.time += 2 * 3600


class SeesTrees(Eyes):
    """They see one release, or for a moment nothing."""

    def judge(self, seen: dict[bytes, bytes]) -> None:
        """Nothing, then; and what is in releases/ is whole."""
        assert seen == {}, "readers saw a mixture"
        self.holes += 1
        assert half_releases(self.disk, self.publisher) == []


class SeesTreesOrNoCard(SeesTrees):
    """Where files cannot be replaced in one step, a card that is posted is missing for a moment."""

    def judge(self, seen: dict[bytes, bytes]) -> None:
        """A release, with or without its card."""
        card = {OWN + b"snapshot.json", OWN + b"snapshot.json.sig"}
        if not any(seen.items() <= one.items() and one.keys() - seen.keys() <= card for one in self.allowed):
            super().judge(seen)


class SeesFiles(Eyes):
    """They see files of two releases, in an order that does no harm."""

    holes_allowed = False

    def judge(self, seen: dict[bytes, bytes]) -> None:
        """Every file is one of either release; what a page needs is there; the home page, then the card, come last."""
        old, new = self.allowed
        self.mixtures += 1
        wrong = [path for path, data in seen.items() if data not in (old.get(path), new.get(path))]
        assert wrong == []
        if not self.holes_allowed:
            both = [path for path in old if path in new and path not in seen]
            assert both == [] or old == {}, "a file that both have was missing"
            needed = {n for p, data in seen.items() if not p.startswith(OWN) for n in data.split()[1:]}
            assert needed <= seen.keys(), "a page needs what is not there"
        if b"index.html" in seen and seen[b"index.html"] == new[b"index.html"] != old.get(b"index.html"):
            pages = [path for path in new if path.endswith(b".html")]
            assert all(seen.get(path) == new[path] for path in pages), "the home page came too early"
        card = OWN + b"snapshot.json"
        withdrawn = [path for path in old if path not in new and path not in seen and rank(path) < 2]
        assert withdrawn == [] or seen.get(card) == new[card], "an asset went before all else was there"
        if card in seen and seen[card] == new[card]:
            assert all(seen.get(path) == data for path, data in new.items()), "the card came too early"
            assert not [path for path in seen if path not in new and rank(path) >= 2], "a withdrawn page was there"


class SeesFilesAndGaps(SeesFiles):
    """Where files cannot be replaced in one step, each is missing for a moment."""

    holes_allowed = True


LAYOUTS = [
    pytest.param(("rename", POOR, SeesTrees), id="rename"),
    pytest.param(("rename", BLIND,
                  SeesTreesOrNoCard),
                 id="rename, no order, links nor replacing"),
    pytest.param(("inplace", POOR, SeesFiles), id="inplace"),
    pytest.param(("inplace", BARE, SeesFilesAndGaps), id="inplace, nothing but plain renames of files"),
]  # fmt: skip


def break_off(publisher: Publisher, files: MemoryFiles, signed: Signed, **terms: Any) -> bool:
    """Publish on a connection that may be cut; return whether it was."""
    try:
        publisher.publish(files, signed, **terms)
    except (Unavailable, Killed):
        return True
    return False


@pytest.fixture(params=LAYOUTS)
def way(request: pytest.FixtureRequest) -> tuple[str, Traits, type[Eyes]]:
    """Return a layout, what the account can do, and what its readers may see."""
    found: tuple[str, Traits, type[Eyes]] = request.param
    return found


Way = tuple[str, Traits, type[Eyes]]


@pytest.mark.parametrize("after", [False, True], ids=["one by one, cut before", "in any order, cut after"])
def test_a_publish_cut_at_any_request_is_finished_by_the_next(way: Way, after: bool) -> None:
    """Rule 11 for all layouts: wherever it ends, nothing half is left, and readers saw what the layout promises."""
    layout, traits, eyes = way
    at = int(after)
    cut = True
    while cut:
        publisher = Publisher()
        first, second = publisher.take(SITE), publisher.take(NEXT)
        seen = eyes(publisher, first, second)
        order = random.Random(at) if after else None

        def connect(cut: Cut | None = None, seen: Eyes = seen, order: random.Random | None = order) -> MemoryFiles:
            return MemoryFiles(seen.disk, traits=traits, cut=cut, order=order, umask=0o077)

        seen.disk.tick = None
        publisher.publish(connect(), first, layout=layout)
        seen.disk.tick = seen.look

        cut = break_off(publisher, connect(Cut(at, after=after, killed=at % 2 == 0)), second, layout=layout)
        publisher.publish(connect(), second, layout=layout)

        assert whole(seen.disk, second, publisher.content)
        assert litter(seen.disk) == []
        survey = host_on(connect(), layout=layout).survey()
        assert (survey.current, survey.half, survey.tidy) == (second.snapshot.id, None, True)
        at += 3
    assert at > 60, "the publish was cut at all of its requests"


def connect(seen: Eyes, traits: Traits, **terms: Any) -> MemoryFiles:
    """Open the account once more."""
    return MemoryFiles(seen.disk, traits=traits, umask=0o077, **terms)


def stand(publisher: Publisher, way: Way, *later: Mapping[bytes, bytes]) -> tuple[Eyes, list[Signed]]:
    """Return an account that serves the first snapshot of some, and all of them."""
    layout, traits, eyes = way
    taken = [publisher.take(site) for site in (SITE, *later)]
    seen = eyes(publisher, taken[0], taken[-1])
    seen.disk.tick = None
    publisher.publish(connect(seen, traits), taken[0], layout=layout)
    seen.disk.tick = seen.look
    return seen, taken


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sites=st.lists(trees, min_size=2, max_size=3),
    cuts=st.lists(st.tuples(st.integers(0, 160), st.booleans(), st.booleans()), min_size=1, max_size=3),
    seed=st.integers(0, 2**16),
    which=st.integers(0, 3),
)
def test_whatever_is_published_and_wherever_it_breaks_off_the_next_one_makes_it_whole(
    sites: list[dict[bytes, bytes]], cuts: list[tuple[int, bool, bool]], seed: int, which: int
) -> None:
    """Any trees (files become folders and back), any cuts, any order: what the next publish leaves is one snapshot."""
    layout, traits = [("rename", POOR), ("rename", BLIND), ("inplace", POOR), ("inplace", BARE)][which]
    publisher, order, time = Publisher(), random.Random(seed), [1_700_000_000.0]
    disk = Disk(clock=lambda: time[0])
    for signed in [publisher.take(site) for site in sites]:
        for at, after, killed in cuts:
            files = MemoryFiles(disk, traits=traits, cut=Cut(at, after=after, killed=killed), order=order, umask=0o077)
            break_off(publisher, files, signed, layout=layout, keep=2, allow_deletions=True)
        time[0] += 7200
        publisher.publish(
            MemoryFiles(disk, traits=traits, order=order), signed, layout=layout, keep=2, allow_deletions=True
        )

        assert whole(disk, signed, publisher.content)
        assert litter(disk) == []


class Careless(MemoryFiles):
    """A server that removes a file when it is told to remove a folder, as rclone does."""

    def in_order(self, ops: Sequence[Op]) -> list[Outcome]:
        """Do them one by one: what stands there counts when its turn comes."""
        return [outcome for op in ops for outcome in super(Careless, self).in_order([self.misread(op)])]

    def misread(self, op: Op) -> Op:
        """Return what is done in place of it."""
        node = self._disk.find(op.path) if isinstance(op, RemoveFolder) else None
        return Remove(op.path) if isinstance(op, RemoveFolder) and node and node.kind is Kind.FILE else op


@pytest.mark.parametrize("connection", [MemoryFiles, Careless])
def test_a_file_that_becomes_a_folder_is_gone_on_with_wherever_it_breaks_off(connection: type[MemoryFiles]) -> None:
    """What stands there under the old file's name may be the new folder, and the other way round: neither goes away."""
    site, changed = {b"a": b"", b"b/a": b""}, {b"a/a": b"", b"b": b"1"}
    at, cut = 60, True  # before that nothing is moved yet
    while cut:
        publisher, disk = Publisher(), Disk()
        terms: dict[str, Any] = {"layout": "inplace", "allow_deletions": True}
        first, second = publisher.take(site), publisher.take(changed)
        publisher.publish(connection(disk, traits=POOR), first, layout="inplace")

        cut = break_off(publisher, connection(disk, traits=POOR, cut=Cut(at)), second, **terms)
        publisher.publish(connection(disk, traits=POOR), second, **terms)

        assert whole(disk, second, publisher.content), f"cut at {at}"
        assert litter(disk) == []
        at += 1
    assert at > 100


@pytest.mark.parametrize("after", [False, True], ids=["cut before", "cut after"])
def test_a_first_publish_cut_at_any_request_is_finished_by_the_next(way: Way, after: bool) -> None:
    """Nobody is asked to adopt what mirrord made itself, a moment before it could say so."""
    layout, traits, _ = way
    at, cut = 0, True
    while cut:
        publisher, disk = Publisher(), Disk()
        signed = publisher.take(SITE)
        cut = break_off(publisher, MemoryFiles(disk, traits=traits, cut=Cut(at, after=after)), signed, layout=layout)
        publisher.publish(MemoryFiles(disk, traits=traits), signed, layout=layout)

        assert whole(disk, signed, publisher.content), f"cut at {at}"
        assert litter(disk) == [], f"cut at {at}"
        at += 1
    assert at > 60


@pytest.mark.parametrize("killed", [False, True], ids=["connection cut", "process killed"])
def test_the_hole_that_a_dead_holder_left_is_filled_before_all_else(killed: bool) -> None:
    """Readers have nothing: whoever comes next gives them something whole before it does its own work."""
    publisher = Publisher()
    seen, (_, second, third) = stand(publisher, ("rename", POOR, SeesTrees), NEXT, {**NEXT, b"more": b"0"})
    seen.allowed.append(release_of(second, publisher.content))
    cut = Cut(lambda op: isinstance(op, Rename) and op.new == b"current", killed=killed)
    assert break_off(publisher, connect(seen, POOR, cut=cut), second, layout="rename")
    assert served(seen.disk) == {}
    survey = host_on(connect(seen, POOR), layout="rename").survey()

    files = connect(seen, POOR)
    filled = []
    seen.disk.tick = lambda _: filled.append(served(seen.disk) != {})
    publisher.publish(files, third, layout="rename")
    assert survey.current is None
    assert survey.half is not None
    assert "it serves nothing" in survey.half
    writes = [n for n, op in enumerate(files.done) if isinstance(op, Put)]
    moves = [n for n, op in enumerate(files.done) if isinstance(op, Rename) and op.new == b"current"]
    assert moves[0] < writes[0], "nothing is sent while readers have nothing"
    assert filled.index(True) < 70
    assert whole(seen.disk, third, publisher.content)


def test_requests_that_arrive_late_never_take_readers_back_nor_leave_them_with_nothing(way: Way) -> None:
    """
    What a lost connection still has on its way arrives at any moment of the next publish, of a newer snapshot: in the
    end that one is served, whole.
    """
    layout, traits, _ = way
    late = 0
    rng = random.Random(3)
    for at in range(30, 200, 5):
        publisher = Publisher()
        seen, (_, second, third) = stand(publisher, way, NEXT, {**NEXT, b"index.html": b"333 a.css"})
        seen.disk.tick = None
        lost = connect(seen, traits, cut=Cut(at), order=random.Random(at) if at % 2 else None)
        if not break_off(publisher, lost, second, layout=layout):
            continue
        due = seen.disk.requests + rng.randrange(120)
        late += len(lost.late)

        def arrive(number: int, lost: MemoryFiles = lost, due: int = due) -> None:
            if number >= due:
                lost.arrive()

        seen.disk.tick = arrive
        try:
            publisher.publish(connect(seen, traits), third, layout=layout)
        except MirrordError:
            publisher.publish(connect(seen, traits), third, layout=layout)  # what arrived stood in the way
        lost.arrive()
        seen.disk.tick = None
        publisher.publish(connect(seen, traits), third, layout=layout)

        assert whole(seen.disk, third, publisher.content), at
        assert litter(seen.disk) == []
    assert late > 60, "there were requests on their way"


def test_a_lost_swap_that_arrives_late_never_leaves_readers_with_nothing_while_a_publish_goes_on() -> None:
    """
    The dead holder's two renames may arrive at any moment of the next publish. From when that begins to send, they
    must find nothing to rename: half of them would take away what readers see, for as long as the sending lasts.
    """
    arrived = 0
    for moment in range(0, 110, 2):
        publisher = Publisher()
        seen, (_, second, third) = stand(publisher, ("rename", POOR, SeesTrees), NEXT, {**NEXT, b"more": b"0"})
        lost = connect(seen, POOR, cut=Cut(lambda op: isinstance(op, Rename) and op.old == b"current"))
        assert break_off(publisher, lost, second, layout="rename")
        away, *rest = lost.late
        lost.late = [away]
        files, due, empty = connect(seen, POOR), seen.disk.requests + moment, []

        def arrive(
            number: int, lost: MemoryFiles = lost, due: int = due, files: MemoryFiles = files, seen: Eyes = seen
        ) -> None:
            if number == due:
                lost.arrive()
            if files.done and isinstance(files.done[-1], Put) and served(seen.disk) == {}:
                empty.append(number)  # noqa: B023 (used within its round)

        seen.disk.tick = arrive
        try:
            publisher.publish(files, third, layout="rename")
        except MirrordError:
            publisher.publish(connect(seen, POOR), third, layout="rename")
        arrived += not lost.late
        seen.disk.tick = None

        assert empty == [], moment
        lost.late = rest
        lost.arrive()
        assert whole(seen.disk, third, publisher.content)
    assert arrived > 50


@pytest.mark.parametrize("what", ["folder", "file", "link"])
@pytest.mark.parametrize("layout", ["rename", "inplace"])
def test_what_stands_where_readers_look_and_is_not_ours_is_never_touched(layout: str, what: str) -> None:
    """It is somebody's site, and may be the only copy of it."""
    publisher, disk = Publisher(), Disk()
    made: dict[str, list[Op]] = {
        "folder": [MakeFolder(b"current"), Create(b"current/page", b"x")],
        "file": [Create(b"current", b"x")],
        "link": [Symlink(b"../old-site", b"current")],
    }
    MemoryFiles(disk).in_order(made[what])
    before = dict(disk.tree())
    with pytest.raises(Braked) as braked:
        publisher.publish(MemoryFiles(disk), publisher.take(SITE), layout=layout)

    assert braked.value.brake == "adopt"
    assert disk.tree() == before


@pytest.mark.parametrize("layout", ["rename", "inplace"])
def test_somebodys_copy_of_our_own_site_is_not_ours_either(layout: str) -> None:
    """A card proves who signed it, not who put it there: only a note of ours says that the folder is ours."""
    publisher, disk = Publisher(), Disk()
    signed = publisher.take(SITE)
    MemoryFiles(disk).in_order([MakeFolder(b"current"), MakeFolder(b"current/.well-known")])
    MemoryFiles(disk).in_order([MakeFolder(b"current/.well-known/mirrord")])
    MemoryFiles(disk).in_order([Create(b"current/" + OWN + b"snapshot.json", signed.card)])

    with pytest.raises(Braked, match="adopt it first"):
        publisher.publish(MemoryFiles(disk), signed, layout=layout)
    assert set(disk.tree(b"current")) >= {OWN + b"snapshot.json"}


@pytest.mark.parametrize("layout", ["rename", "inplace"])
def test_a_folder_that_somebody_put_in_the_place_of_ours_is_not_ours(layout: str) -> None:
    """A note outlives what it tells of: what is in the folder has to bear it out."""
    publisher = Publisher()
    seen, (_, second) = stand(publisher, (layout, POOR, SeesTrees), NEXT)
    seen.disk.tick = None
    by_hand: list[Op] = [Rename(b"current", b"old"), MakeFolder(b"current"), Create(b"current/page", b"theirs")]
    MemoryFiles(seen.disk).in_order(by_hand)

    with pytest.raises(Braked, match="adopt it first"):
        publisher.publish(connect(seen, POOR), second, layout=layout)
    assert served(seen.disk) == {b"page": b"theirs"}


@pytest.mark.parametrize("layout", ["rename", "inplace"])
def test_a_site_that_comes_to_stand_there_while_we_stage_is_not_touched_either(layout: str) -> None:
    """The look before is not the look that counts."""
    publisher, disk = Publisher(), Disk()
    files = MemoryFiles(disk, traits=POOR)

    def come(_: int) -> None:
        if any(isinstance(op, Put) for op in files.done):
            disk.tick = None
            MemoryFiles(disk).in_order([MakeFolder(b"current"), Create(b"current/page", b"theirs")])

    disk.tick = come
    with pytest.raises((Braked, Refused), match="adopt it first"):
        publisher.publish(files, publisher.take(SITE), layout=layout)
    assert served(disk) == {b"page": b"theirs"}


def test_a_site_that_comes_to_stand_there_just_before_the_switch_is_put_back() -> None:
    """Two renames ask no questions: what was taken away turns out to be somebody's, and returns to its place."""
    publisher = Publisher()
    seen, (_, second) = stand(publisher, ("rename", POOR, SeesTrees), NEXT)
    files = connect(seen, POOR)

    def come(number: int) -> None:
        op = files.done[-1] if files.done else None
        if isinstance(op, Rename) and op.old == b"current":
            seen.disk.tick = None
            by_hand: list[Op] = [Rename(b"current", b"mine"), MakeFolder(b"current"), Create(b"current/page", b"new")]
            MemoryFiles(seen.disk).in_order(by_hand)

    seen.disk.tick = come
    with pytest.raises(Braked, match="adopt it first"):
        publisher.publish(files, second, layout="rename")
    assert served(seen.disk) == {b"page": b"new"}


@pytest.mark.parametrize("layout", ["rename", "inplace"])
def test_an_empty_folder_where_readers_look_is_no_obstacle(layout: str) -> None:
    """Hosters make it with the account. Its mode is theirs where the folder itself is kept."""
    publisher, disk = Publisher(), Disk()
    MemoryFiles(disk).in_order([MakeFolder(b"public_html", 0o750)])
    signed = publisher.take(SITE)

    publisher.publish(MemoryFiles(disk, traits=POOR), signed, layout=layout, serve="public_html")
    assert whole(disk, signed, publisher.content, b"public_html")
    assert (disk.locate(b"public_html", follow=False).mode == 0o750) is (layout == "inplace")


def test_a_folder_that_cannot_be_renamed_is_said_to_need_another_layout() -> None:
    """The hoster keeps it there: the way out is named."""
    publisher = Publisher()
    seen, (_, second) = stand(publisher, ("rename", POOR, SeesTrees), NEXT)

    class KeepsIt(MemoryFiles):
        def in_order(self, ops: Sequence[Op]) -> list[Outcome]:
            stays = [isinstance(op, Rename) and op.old == b"current" for op in ops]
            done = iter(super().in_order([op for op, kept in zip(ops, stays, strict=True) if not kept]))
            return [Outcome(op, trouble=Trouble.DENIED, text="busy") if kept else next(done)
                    for op, kept in zip(ops, stays, strict=True)]  # fmt: skip

    with pytest.raises(Refused, match='layout = "inplace"'):
        publisher.publish(KeepsIt(seen.disk, traits=POOR), second, layout="rename")
    seen.disk.tick = None
    publisher.publish(connect(seen, POOR), second, layout="inplace")
    assert whole(seen.disk, second, publisher.content)
    assert litter(seen.disk) == []


@pytest.mark.parametrize(
    ("trouble", "error", "said"),
    [
        (Trouble.DENIED, Refused, r"one\.html.*not yours.*moved back"),
        (Trouble.FULL, Full, r"one\.html.*not yours.*make room"),
    ],
)
def test_what_cannot_be_moved_on_is_moved_back(trouble: Trouble, error: type[MirrordError], said: str) -> None:
    """One file belongs to somebody else: readers keep the release before, and a person is told its name."""
    publisher = Publisher()
    seen, (first, second) = stand(publisher, ("inplace", POOR, SeesFiles), NEXT)

    refused: list[Op] = []

    class Stubborn(MemoryFiles):
        def carry_out(self, ops: Iterable[Op], pulse: Pulse | None = None) -> Iterator[Outcome]:
            yield from super().carry_out([op for op in ops if not moves_page(op)], pulse)
            for op in refused:
                yield Outcome(op, trouble=trouble, text="not yours")
            refused.clear()

    def moves_page(op: Op) -> bool:
        hit = isinstance(op, Rename) and op.new == b"current/one.html" and op.old.startswith(b"staging/")
        if hit:
            refused.append(op)
        return hit

    seen.disk.tick = None  # going back has an order of its own
    with pytest.raises(error, match=said):
        publisher.publish(Stubborn(seen.disk, traits=POOR), second, layout="inplace")
    assert whole(seen.disk, first, publisher.content)
    publisher.publish(connect(seen, POOR), second, layout="inplace")
    assert whole(seen.disk, second, publisher.content)
    assert litter(seen.disk) == []


@pytest.mark.parametrize("traits", [POOR, BARE], ids=["links and replacing", "neither"])
def test_a_file_that_was_to_become_a_folder_is_moved_back_and_stays(traits: Traits) -> None:
    """It is kept as any other, and so is what stood in a folder that became a file."""
    publisher, disk = Publisher(), Disk()
    first = publisher.take({b"index.html": b"1", b"a.css": b"1", b"b.css/c.css": b"1"})
    second = publisher.take({b"index.html": b"22", b"a.css/c.css": b"22", b"b.css": b"22"})
    terms: dict[str, Any] = {"layout": "inplace", "allow_deletions": True}
    publisher.publish(Careless(disk, traits=traits), first, **terms)

    class Stubborn(Careless):
        def carry_out(self, ops: Iterable[Op], pulse: Pulse | None = None) -> Iterator[Outcome]:
            for op in ops:
                yield from [refused(op)] if is_home(op) else super().carry_out([op], pulse)

        def in_order(self, ops: Sequence[Op]) -> list[Outcome]:
            return [refused(op) if is_home(op) else super(Stubborn, self).in_order([op])[0] for op in ops]

    def refused(op: Op) -> Outcome:
        return Outcome(op, trouble=Trouble.DENIED, text="not yours")

    def is_home(op: Op) -> bool:
        return isinstance(op, Rename) and op.old.startswith(b"staging/") and op.new == b"current/index.html"

    with pytest.raises(Refused, match="moved back"):
        publisher.publish(Stubborn(disk, traits=traits), second, **terms)
    assert whole(disk, first, publisher.content)
    publisher.publish(Careless(disk, traits=traits), second, **terms)
    assert whole(disk, second, publisher.content)
    kept = {name.partition(b"/")[2] for name, node in disk.tree(b".mirrord").items() if node.kind is Kind.FILE}
    assert {b"a.css", b"b.css/c.css"} <= kept


@pytest.mark.parametrize("traits", [POOR, BARE], ids=["links and replacing", "neither"])
def test_what_a_dead_holder_moved_is_moved_back_where_the_rest_is_gone(traits: Traits) -> None:
    """Somebody cleaned up by hand: what was to be moved is not there any more, but what was replaced is."""
    publisher = Publisher()
    seen, (first, second, third) = stand(publisher, ("inplace", traits, SeesFiles), NEXT, {**NEXT, b"more": b"0"})
    seen.disk.tick = None
    cut = Cut(lambda op: isinstance(op, Rename) and op.new == b"current/index.html", killed=True)
    assert break_off(publisher, connect(seen, traits, cut=cut), second, layout="inplace")
    mixture = served(seen.disk)
    (tree,) = seen.disk.locate(b"staging", follow=False).names.values()
    del tree.names[b"index.html"]

    host = host_on(connect(seen, traits), layout="inplace")
    with host.hold(publisher.me(), publisher.known, host.survey()):
        went_back = whole(seen.disk, first, publisher.content)
    publisher.publish(connect(seen, traits), third, layout="inplace")
    assert mixture not in seen.allowed
    assert went_back
    assert whole(seen.disk, third, publisher.content)
    assert litter(seen.disk) == []


def test_only_what_changed_is_sent_and_what_was_replaced_is_kept(way: Way) -> None:
    """A mirror with little room holds the site once, and what one step back needs."""
    layout, traits, _ = way
    publisher = Publisher()
    seen, (_, second) = stand(publisher, way, NEXT)
    seen.disk.tick = None

    files = connect(seen, traits)
    result = publisher.publish(files, second, layout=layout)
    if layout == "inplace":
        assert result.files_sent == 6
        assert result.files_linked == 2
        (undo,) = [name for name in seen.disk.locate(b".mirrord", follow=False).names if name.startswith(b"undo.")]
        kept = {path: seen.disk.read(b".mirrord/" + undo + b"/" + path) for path in (b"a.css", b"gone.html")}
        assert kept == {path: SITE[path] for path in kept}
        assert releases(seen.disk) == []
    elif traits.hard_link:
        assert (result.files_sent, result.files_linked) == (6, 2)
    assert result.layout == layout


def test_looking_at_a_mirror_lists_no_folder_of_the_site(way: Way) -> None:
    """A site may have fifty thousand files in one folder: naming them takes hundreds of round trips."""
    _, traits, _ = way
    publisher = Publisher()
    seen, (first,) = stand(publisher, way)

    files = connect(seen, traits)
    result = publisher.publish(files, first, layout="auto")
    listed = {op.path for op in files.done if isinstance(op, List | Walk) and op.path.startswith(b"current")}
    assert result.result == "unchanged"
    assert {path for path in listed if not path.startswith(b"current/.well-known/mirrord")} == set()
    assert files.flights <= 2
    assert not [op for op in files.done if isinstance(op, Create | Put | Rename | MakeFolder)], "nor takes the lock"


def test_the_time_of_a_switch_is_measured(way: Way) -> None:
    """What readers could notice is part of the result, in seconds by our own clock."""
    layout, traits, _ = way
    publisher = Publisher()
    seen, (_, second) = stand(publisher, way, NEXT)
    seen.disk.tick = None

    result = publisher.publish(connect(seen, traits), second, layout=layout)
    assert (result.mixture_seconds > 0) is (layout == "inplace")
    assert (result.gap_seconds > 0) is (layout == "rename" or not traits.replace)


def test_a_release_that_readers_left_within_the_hour_stays() -> None:
    """Whoever reads a page just now still needs its pictures from the release before."""
    publisher = Publisher()
    seen, _ = stand(publisher, ("rename", POOR, SeesTrees))
    seen.disk.tick = None
    others = [publisher.take({**SITE, b"n": b"%d" % n}) for n in range(3)]
    for signed in others:
        publisher.publish(connect(seen, POOR), signed, layout="rename", keep=1)
    stayed = len(releases(seen.disk))
    seen.an_hour_passes()
    last = publisher.take(NEXT)

    publisher.publish(connect(seen, POOR), last, layout="rename", keep=1)
    assert stayed == 3, "all three that were served lately"
    assert releases(seen.disk) == [others[-1].snapshot.id.encode()]
    assert whole(seen.disk, last, publisher.content)


def test_a_card_is_posted_and_an_altered_file_mended_where_readers_see_them(way: Way) -> None:
    """The served tree stands elsewhere than in `releases`; what is done to it is the same."""
    layout, traits, _ = way
    publisher = Publisher()
    seen, (first,) = stand(publisher, way)
    seen.disk.tick = None
    again = publisher.sign_again(first)

    posted = publisher.publish(connect(seen, traits), again, layout=layout)
    as_posted = whole(seen.disk, again, publisher.content)
    seen.disk.locate(b"current/one.html", follow=False).data[:] = b"evil"
    MemoryFiles(seen.disk).in_order([MakeFolder(b"current/more"), Create(b"current/more/x.php", b"x")])
    publisher.publish(connect(seen, traits), again, layout=layout, mend=True)
    assert posted.result == "unchanged"
    assert as_posted
    assert whole(seen.disk, again, publisher.content)
    assert litter(seen.disk) == []


# Which layout an account has


@pytest.mark.parametrize(
    ("traits", "layout"),
    [
        pytest.param(
            Traits(ordered=True, symlink=True, hard_link=True, replace=True, space=True), "releases", id="all"
        ),
        pytest.param(POOR, "rename", id="no links"),
        pytest.param(BARE, "inplace", id="hardly anything"),
    ],
)
def test_the_best_layout_that_works_is_chosen_and_said(traits: Traits, layout: str) -> None:
    """Nobody has to know what a hoster's server can do."""
    publisher, disk = Publisher(), Disk()
    signed = publisher.take(SITE)

    result = publisher.publish(MemoryFiles(disk, traits=traits), signed)
    unchanged = publisher.publish(MemoryFiles(disk, traits=traits), signed)
    assert result.layout == layout
    assert result.layout_why
    assert (unchanged.result, unchanged.layout) == ("unchanged", layout)
    assert unchanged.layout_why


def test_an_account_keeps_the_layout_that_it_has() -> None:
    """A server that learned to make links overnight is no reason to leave readers with nothing for a while."""
    publisher = Publisher()
    seen, (_, second) = stand(publisher, ("rename", POOR, SeesTrees), NEXT)

    result = publisher.publish(MemoryFiles(seen.disk), second)
    assert result.layout == "rename"
    assert result.layout_why == "it serves a real folder of ours already"
    assert whole(seen.disk, second, publisher.content)


def test_the_layouts_with_a_real_folder_can_take_turns() -> None:
    """They keep the same notes: what one left in its middle, the other settles."""
    publisher, disk = Publisher(), Disk()
    for at in range(40, 150, 5):
        for layout, other in (("rename", "inplace"), ("inplace", "rename")):
            signed = publisher.take({**NEXT, b"n": b"%d %s" % (at, layout.encode())})
            broken = MemoryFiles(disk, traits=POOR, cut=Cut(at, killed=True))
            break_off(publisher, broken, signed, layout=layout, allow_deletions=True)
            after = publisher.take({**SITE, b"n": b"%d %s" % (at, other.encode())})
            publisher.publish(MemoryFiles(disk, traits=POOR), after, layout=other, allow_deletions=True)

            assert whole(disk, after, publisher.content)
            assert [path for path in litter(disk) if b"undo." not in path] == []


@pytest.mark.parametrize("layout", ["rename", "inplace"])
def test_changing_from_links_to_folders_and_back_is_a_persons_affair(layout: str) -> None:
    """Readers would find nothing meanwhile: it is refused, and the way is named."""
    publisher, linked, folder = Publisher(), Disk(), Disk()
    first, second = publisher.take(SITE), publisher.take(NEXT)
    publisher.publish(MemoryFiles(linked), first, layout="releases")
    publisher.publish(MemoryFiles(folder), first, layout=layout)

    with pytest.raises(Braked, match="laid out as `releases`"):
        publisher.publish(MemoryFiles(linked), second, layout=layout)
    with pytest.raises(Braked, match="Leave the layout as it was"):
        publisher.publish(MemoryFiles(folder), second, layout="releases")
    assert whole(linked, first, publisher.content)
    assert whole(folder, first, publisher.content)


@pytest.mark.parametrize(
    ("path", "turn"),
    [
        (b"img/a.png", 0),
        (b"fonts/x.woff2", 0),
        (b"a.css", 1),
        (b"a.css.gz", 1),
        (b"app.js", 1),
        (b"a/b.html", 2),
        (b"a/index.html", 2),
        (b"feed.xml", 2),
        (b"index.html", 3),
        (b"index.html.gz", 3),
        (b".well-known/mirrord/snapshot.json", 4),
    ],
)
def test_what_others_refer_to_comes_first(path: bytes, turn: int) -> None:
    """Pictures, style sheets, pages, the home page, the card."""
    assert rank(path) == turn
