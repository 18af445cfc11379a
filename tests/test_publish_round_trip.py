"""What a site is made of (names, sizes, trees) arrives byte for byte on every server, as drawn by Hypothesis."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mirrord.errors import Refused
from mirrord.manifest import LONGEST_PATH
from tests.conftest import Lab
from tests.grounds import LACKS, SERVERS, Ground, ground, layouts
from tests.lab.sftp import SftpServer
from tests.publishing import Publisher, release_of

PAIRS = [pytest.param(kind, layout, id=f"{kind}-{layout}") for kind in SERVERS for layout in layouts(kind)[:1]]
"""Each server by the best layout that works there."""

# Reproducible in every run; each example is two publishes to a real server.
steady = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=8,
    phases=[Phase.explicit, Phase.generate],  # to make an example smaller takes hundreds of publishes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

SIZES = [0, 1, 255, 32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1, 128 * 1024, 128 * 1024 + 1, 261_120, 300_001]
"""Around the blocks in which content is sent, and beyond the packets of some servers."""
ODD = [
    "é",
    "e\u0301",
    "Å",
    "A\u030a",
    "-",
    "~",
    "*",
    "\\",
    " ",
    "a b",
    "a\nb",
    "\x7f",
    "%41",
    ".hidden",
    "x.",
    "a" * 255,
]
WORDS = st.one_of(
    st.sampled_from(ODD), st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=20)
)
ANY_BYTES = st.one_of(
    WORDS.map(str.encode),
    st.binary(min_size=1, max_size=12).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_")),
)


UTF_8 = WORDS.map(str.encode)
# rclone writes control characters as pictures of them, and its mark for that as two marks.
PRINTED = WORDS.filter(lambda name: all(c >= " " and c != "\x7f" and not "\u2400" <= c <= "\u2421" for c in name))
NAMES = {"paramiko": UTF_8, "rclone": PRINTED.filter(lambda name: "\u201b" not in name).map(str.encode)}
"""What the kinds of server that hold less can hold."""


def held(name: bytes) -> bool:
    """Tell whether a file system can hold a name."""
    return 0 < len(name) <= 255 and name not in (b".", b"..")


def trees(names: st.SearchStrategy[bytes]) -> st.SearchStrategy[dict[bytes, int]]:
    """Draw sites: path -> size; nothing is both a file and a folder."""
    paths = st.lists(names.filter(held), min_size=1, max_size=4).map(tuple)

    def site(sizes: dict[tuple[bytes, ...], int]) -> dict[bytes, int]:
        folders = {path[:depth] for path in sizes for depth in range(1, len(path))}
        return {b"/".join(path): size for path, size in sizes.items() if path not in folders}

    return st.dictionaries(paths, st.sampled_from(SIZES), min_size=1, max_size=8).map(site)


def content(path: bytes, size: int) -> bytes:
    """Make a content that is no other path's."""
    return (hashlib.sha256(path).digest() * (size // 32 + 1))[:size]


@pytest.fixture(scope="module")
def servers() -> dict[str, SftpServer]:
    """Keep the servers that the tests share."""
    return {}


@pytest.fixture
def new_ground(module_lab: Lab, servers: dict[str, SftpServer]) -> Iterator[Callable[[str, str], Ground]]:
    """Return what makes a ground of a kind, with an account that is empty."""
    made: list[Iterator[Ground]] = []

    def make(kind: str, layout: str) -> Ground:
        made.append(ground(kind, module_lab, servers, Path("/nowhere"), layout))
        return next(made[-1])

    yield make
    for grounds in made:
        assert next(grounds, None) is None


@pytest.mark.parametrize(("kind", "layout"), PAIRS)
def test_any_site_that_a_server_can_hold_arrives_byte_for_byte(
    kind: str, layout: str, new_ground: Callable[[str, str], Ground]
) -> None:
    """Names in both normal forms and in no encoding at all, sizes at the borders of blocks, folders of any depth."""
    assert (kind in NAMES) is bool({"any_name", "control_names"} & LACKS.get(kind, frozenset()))
    sites = trees(NAMES.get(kind, ANY_BYTES))

    @steady
    @given(first=sites, second=sites)
    def check(first: dict[bytes, int], second: dict[bytes, int]) -> None:
        here, publisher = new_ground(kind, layout), Publisher()
        for sizes in (first, second):
            site = {path: content(path, size) for path, size in sizes.items()}
            signed = publisher.take({**site, b"index.html/home": b"home"})
            files = here.connect()
            publisher.publish(files, signed, layout=layout, allow_deletions=True)
            files.close()
            assert here.served() == release_of(signed, publisher.content)

    check()


@pytest.mark.parametrize(("kind", "layout"), PAIRS)
def test_the_longest_path_arrives_and_is_replaced(
    kind: str, layout: str, new_ground: Callable[[str, str], Ground]
) -> None:
    """A path of 3,900 bytes, with what stands before it in an account, is nearly all that systems take."""
    here, publisher = new_ground(kind, layout), Publisher()
    path = (b"x" * 200 + b"/") * 19 + b"y" * (LONGEST_PATH - 19 * 201)
    for data in (b"one", b"and two"):
        signed = publisher.take({b"index.html": b"home", path: data})
        files = here.connect()
        publisher.publish(files, signed, layout=layout)
        files.close()

        assert here.served() == release_of(signed, publisher.content)


def test_a_name_that_a_server_cannot_hold_is_named_before_anything_is_sent(
    new_ground: Callable[[str, str], Ground],
) -> None:
    """Half a site is worse than yesterday's, and a server's own word for it is `Failure`."""
    here, publisher = new_ground("paramiko", "rename"), Publisher()
    publisher.publish(here.connect(), publisher.take({b"index.html": b"home"}), layout="rename")
    before = here.served()
    site = {b"index.html": b"home", b"caf\xe9/menu.html": b"menu", b"a": bytes(100_000)}
    files = here.connect()

    with pytest.raises(Refused) as refused:
        publisher.publish(files, publisher.take(site), layout="rename")
    assert str(refused.value).startswith("lyon: publishing 2026")
    assert r"'caf\udce9/menu.html' is not one; rename it, or leave it out" in str(refused.value)
    assert files.bytes_moved()[0] < 10_000
    assert here.served() == before
    assert here.litter() == []
