"""The layouts `rename` and `inplace`, broken off at every request, in every order, and seen by readers at each."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mirrord.errors import Unavailable
from mirrord.hosts.files import Traits
from mirrord.hosts.memory import Cut, Disk, Killed, MemoryFiles
from mirrord.hosts.moving import rank
from mirrord.manifest import Signed
from tests.publishing import OWN, Publisher, half_releases, litter, release_of, served, whole

POOR = Traits(ordered=True, symlink=False, hard_link=True, replace=True, space=True)
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
    b"b.css": b"22 img/2.png",
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
        if card in seen and seen[card] == new[card]:
            assert all(seen.get(path) == data for path, data in new.items()), "the card came too early"
            assert not [path for path in seen if path not in new and rank(path) >= 2], "a withdrawn page was there"


class SeesFilesAndGaps(SeesFiles):
    """Where files cannot be replaced in one step, each is missing for a moment."""

    holes_allowed = True


LAYOUTS = [
    pytest.param(("rename", POOR, SeesTrees), id="rename"),
    pytest.param(("rename", Traits(ordered=False, symlink=False, hard_link=False, replace=False, space=False),
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

        cut = break_off(publisher, connect(Cut(at, after=after, killed=at % 4 < 2)), second, layout=layout)
        publisher.publish(connect(), second, layout=layout)

        assert whole(seen.disk, second, publisher.content)
        assert litter(seen.disk) == []
        at += 2
    assert at > 60, "the publish was cut at all of its requests"
