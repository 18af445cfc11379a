from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.assets import is_page, lingering


@pytest.mark.parametrize(
    "path",
    [
        b"index.html",
        b"INDEX.HTM",
        b"about",
        b"docs/about",
        b"v1.2/about",
        b"index.html.de",
        b"index.de.html",
        b"index.html.gz",
        b"index.html.gz.br",
        b"feed.xml",
        b"feed.atom",
        b"blog/rss.RSS",
        b"sitemap.xml.gz",
        b"robots.txt",
        b"llms.txt",
        b"README.md",
        b"form.php",
        b".htaccess",
        b"img/.hidden.png",
        b".git/logo.png",
        b".well-known/security.png",
        b"ends-in-a-dot.",
        b"LICENSE.gz",
        b".gz",
        b"a/.gz",
    ],
)
def test_what_readers_and_machines_go_to_of_themselves_is_a_page(path: bytes) -> None:
    """
    A page that was withdrawn must be gone with the switch, and where files are replaced one by one pages come after
    what they need. In doubt a file is a page: then it does not linger.
    """
    page = is_page(path)

    assert page


@pytest.mark.parametrize(
    "path",
    [
        b"style.css",
        b"css/main.3f2a.css.gz",
        b"js/app.min.js",
        b"js/app.js.map",
        b"logo.SVG",
        b"fonts/a.woff2",
        b"img/caf\xc3\xa9 1.jpg",
        b"\xff\xfe.png",
        b"book.pdf",
        b"release-1.2.tar.gz",
        b"html/style.css",
        b"index.html/style.css",
        b"search.json",
        b"site.webmanifest",
    ],
)
def test_what_pages_need_is_an_asset(path: bytes) -> None:
    """A page opened before a switch asks for these after it; folders have no say in what a file is."""
    page = is_page(path)

    assert not page


def files(*paths: bytes) -> dict[bytes, bytes]:
    return dict.fromkeys(paths, b"")


def test_assets_of_earlier_releases_linger_and_their_pages_do_not() -> None:
    """The style sheet of an open page must be found; the page that was withdrawn must not."""
    old = files(b"index.html", b"gone.html", b"a.css", b"b.css")

    found = lingering(files(b"index.html", b"b.css"), [("B", old)])

    assert found == {b"a.css": ("B", b"")}


def test_the_newest_of_several_releases_wins_a_path() -> None:
    """Most open pages are of the release that was left last."""
    newest, oldest = {b"a.css": b"2"}, {b"a.css": b"1", b"b.css": b"1"}

    found = lingering(files(), [("B", newest), ("A", oldest)])

    assert found == {b"a.css": ("B", b"2"), b"b.css": ("A", b"1")}


@pytest.mark.parametrize(
    ("wanted", "old", "may"),
    [
        pytest.param((b"a.css",), (b"a.css.gz",), (), id="an old sibling beside the new file"),
        pytest.param((b"a.css.gz",), (b"a.css", b"a.css.br"), (), id="an old file beside a new sibling"),
        pytest.param((b"b.css",), (b"a.css", b"a.css.gz"), (b"a.css", b"a.css.gz"), id="both gone"),
        pytest.param((b"a.css",), (b"a.css.gz.br",), (), id="an old copy of a copy"),
        pytest.param((b"a.css/x.png",), (b"a.css",), (), id="a folder stands there now"),
        pytest.param((b"a",), (b"a/b.css",), (), id="a file stands where its folder was"),
    ],
)
def test_nothing_lingers_in_the_way_of_a_new_file(
    wanted: tuple[bytes, ...], old: tuple[bytes, ...], may: tuple[bytes, ...]
) -> None:
    """An old `.gz` would be sent for the new style sheet; and a path is a file or a folder, not both."""
    found = lingering(files(*wanted), [("B", files(*old))])

    assert tuple(found) == may


def test_a_file_and_its_siblings_linger_from_one_release() -> None:
    """The compressed form of another day must not be sent for a lingering file either."""
    newest, oldest = files(b"a.css"), files(b"a.css", b"a.css.gz")

    found = lingering(files(), [("B", newest), ("A", oldest)])

    assert found == {b"a.css": ("B", b"")}


def test_files_of_two_earlier_releases_do_not_stand_in_each_others_way() -> None:
    """What is a folder in one release may be a file in another."""
    newest, oldest = files(b"x.d/a.css", b"y.d"), files(b"x.d", b"y.d/b.css")

    found = lingering(files(), [("B", newest), ("A", oldest)])

    assert {release for release, _ in found.values()} == {"B"}


NAMES = st.sampled_from([b"a", b"b.css", b"b.css.gz", b"b.css.gz.br", b"c.html", b"d.png"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)


def trees() -> st.SearchStrategy[dict[bytes, bytes]]:
    """Draw the files of a release: no path is a file and a folder."""
    return st.sets(PATHS, max_size=6).map(
        lambda paths: {p: b"" for p in paths if not any(other.startswith(p + b"/") for other in paths)}
    )


@given(trees(), st.lists(trees(), max_size=3))
def test_wanted_and_lingering_files_make_a_tree(wanted: dict[bytes, bytes], earlier: list[dict[bytes, bytes]]) -> None:
    """Whatever the releases were, what is laid out is a tree, keeps every wanted file, and adds assets alone."""
    found = lingering(wanted, list(enumerate(earlier)))

    every = {*wanted, *found}
    assert not any(other.startswith(path + b"/") for path in every for other in every)
    assert not any(path in wanted or is_page(path) for path in found)


@given(trees(), st.lists(trees(), max_size=3))
def test_releases_of_which_nothing_lingers_change_nothing(
    wanted: dict[bytes, bytes], earlier: list[dict[bytes, bytes]]
) -> None:
    """Who verifies sees the manifests of only those releases whose files linger, and must come to the same answer."""
    releases = list(enumerate(earlier))
    found = lingering(wanted, releases)
    named = {release for release, _ in found.values()}

    again = lingering(wanted, [one for one in releases if one[0] in named])

    assert again == found
