"""The demo's own site: whole, readable by everybody, and nothing that could trip a copy of it."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

DEMO = Path(str(files("mirrord.demo")))
LANGUAGES = {"": "en", "it": "it", "cs": "cs", "ar": "ar", "zh": "zh-Hans"}
VOID = {"meta", "link", "img", "br"}


@dataclass
class Page(HTMLParser):
    """What a test asks of a page."""

    path: str
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    unbalanced: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin as parsers do."""
        HTMLParser.__init__(self)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close it."""
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of every such element."""
        return [attributes for name, attributes in self.elements if name == tag]

    def links(self) -> list[str]:
        """Return every URL in it, from the root of the site."""
        found = [str(a[name]) for _, a in self.elements for name in ("href", "src") if name in a]
        return [urljoin(f"/{self.path}", link) for link in found]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the site as it is once the article was published."""
    root = tmp_path_factory.mktemp("site") / "www"
    shutil.copytree(DEMO / "site", root)
    shutil.copytree(DEMO / "outage", root, dirs_exist_ok=True)
    return root


@pytest.fixture(scope="module")
def pages(site: Path) -> list[Page]:
    found = []
    for path in sorted(site.rglob("*.html")):
        page = Page(str(path.relative_to(site)))
        page.feed(path.read_text(encoding="utf-8"))
        found.append(page)
    return found


def test_every_page_is_there_in_every_language(site: Path) -> None:
    """A site in five languages is one site, not five."""
    names = {folder: {path.name for path in (site / folder).glob("*.html")} for folder in LANGUAGES}

    assert set(map(frozenset, names.values())) == {frozenset({"index.html", "two-lamps.html"})}


def test_pages_say_their_language_and_direction(pages: list[Page]) -> None:
    """Screen readers choose a voice by it, and Arabic runs from right to left."""
    for page in pages:
        (html,) = page.all("html")
        folder = page.path.rpartition("/")[0]
        assert html["lang"] == LANGUAGES.get(folder, "en"), page.path
        assert html["dir"] == ("rtl" if html["lang"] == "ar" else "ltr"), page.path
        for _, attributes in page.elements:
            if attributes.get("lang") == "ar":
                assert attributes["dir"] == "rtl", page.path


def test_pages_are_well_formed_and_can_be_found_one_s_way_in(pages: list[Page]) -> None:
    """One heading, landmarks, a way past the menu, words for pictures, a menu with a name."""
    for page in pages:
        assert not page.unbalanced, page.path
        assert not page.open, page.path
        assert len(page.all("h1")) == len(page.all("main")) == len(page.all("footer")) == 1, page.path
        assert page.all("a")[0]["href"] == "#content", page.path
        assert page.all("main")[0]["id"] == "content", page.path
        assert all(image["alt"] for image in page.all("img")), page.path
        assert all(nav["aria-label"] for nav in page.all("nav")), page.path
        assert {"charset": "utf-8"} in page.all("meta"), page.path


def test_every_link_leads_to_a_file_of_the_site(site: Path, pages: list[Page]) -> None:
    """Nothing of it lies elsewhere: when the world is down, the copy is whole."""
    own = {"/.well-known/mirrord/snapshot.json"}  # mirrord adds it
    for page in pages:
        for link in page.links():
            parts = urlsplit(link)
            assert not parts.netloc, (page.path, link)
            if parts.path in own:
                continue
            where = site / parts.path.lstrip("/")
            target = where / "index.html" if parts.path.endswith("/") else where
            assert target.is_file(), (page.path, link)
            if parts.fragment:
                assert f'id="{parts.fragment}"' in target.read_text(encoding="utf-8"), (page.path, link)


def test_the_article_changes_one_page_and_adds_one() -> None:
    """What is published during the outage is small, and shows both kinds of change."""
    before = {str(path.relative_to(DEMO / "site")) for path in (DEMO / "site").rglob("*") if path.is_file()}
    more = {str(path.relative_to(DEMO / "outage")) for path in (DEMO / "outage").rglob("*") if path.is_file()}

    assert more & before == {"news/index.html"}
    assert more - before == {"news/outage.html"}


def test_names_are_plain_and_the_whole_is_small() -> None:
    """It is shipped in a package and unpacked on any file system, which may fold accents or case."""
    shipped = [path for top in ("site", "outage") for path in (DEMO / top).rglob("*")]

    assert all(re.fullmatch(r"[a-z0-9-]+(\.[a-z]+)?", path.name) for path in shipped)
    assert sum(path.stat().st_size for path in shipped if path.is_file()) < 64 * 1024


def luminance(color: str) -> float:
    """Return the relative luminance of `#rrggbb` (WCAG 2.2)."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_by_day_and_by_night(scheme: str) -> None:
    """WCAG asks for 4.5 to 1; light and dark have colours of their own."""
    style = (DEMO / "site" / "style.css").read_text()
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6});", block)) for block in style.split("prefers-color-scheme: dark")[:2]
    )
    colors: dict[str, Any] = light if scheme == "light" else {**light, **dark}

    assert contrast(colors["ink"], colors["paper"]) > 7
    assert contrast(colors["link"], colors["paper"]) > 4.5
    assert contrast("#f6f1e6", colors["sea"]) > 7
    assert contrast("#1c1203", colors["lamp"]) > 7
