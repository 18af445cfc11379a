"""What a reader gets just after a switch: a real account, nginx before it, and verbs as an operator types them."""

from __future__ import annotations

import contextlib
import gzip
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import brotli
import pytest
from backports import zstd

from mirrord.config import load
from mirrord.control.desk import Desk, inline
from mirrord.control.looking import Looker
from mirrord.control.mind import Mind
from mirrord.control.publishing import Publishing
from mirrord.control.viewing import choose
from mirrord.control.works import Works
from mirrord.manifest import Entry, Manifest
from tests.conftest import Lab
from tests.lab.nginx import Nginx
from tests.lab.sftp import make_key
from tests.lab.sshd import Sshd

NAME = "www.example.org"
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda data: gzip.compress(data, mtime=0),
    "br": lambda data: bytes(brotli.compress(data)),
    "zst": zstd.compress,
}


def packed(name: str, data: bytes, *suffixes: str) -> dict[str, bytes]:
    """A page and its packed copies."""
    return {name: data, **{f"{name}.{suffix}": PACK[suffix](data) for suffix in suffixes or PACK}}


class Site:
    """A source, a mirror with its web server, and the verbs of one controller."""

    def __init__(self, folder: Path, sshd: Sshd, web: Nginx, root: str, **how: Any) -> None:
        self.folder = folder
        self.web = web
        self.account = sshd.root / root
        (folder / "source").mkdir()
        make_key(folder / "signing")
        (folder / "sftp").write_bytes(sshd.client_key_path.read_bytes())
        (folder / "mirrord.toml").write_text(_configuration(folder, sshd, web, root, **how))
        self.works = Works(load(folder / "mirrord.toml"))
        mind = Mind(self.works.settings, self.works.journal, now=time.monotonic(), wall=time.time(), watching=False)
        publishing = Publishing(self.works)
        self.desk = Desk(self.works, mind, Looker(self.works), publishing, ask=inline)
        self.said: list[dict[str, Any]] = []

    def write(self, files: dict[str, bytes]) -> None:
        """Write pages as a maintainer does."""
        for name, data in files.items():
            path = self.folder / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def sync(self, files: dict[str, bytes]) -> dict[str, Any]:
        """Write, and publish as a person does; return the mirror's row."""
        self.write(files)
        self.said.clear()
        (row,) = self.desk.call("sync", {"allow_deletions": True}, self.said.append, "anna")["mirrors"]
        return dict(row)

    def told(self) -> list[str]:
        """What was said as a warning meanwhile."""
        return [event["text"] for event in self.said if event["event"] == "warn"]


def _configuration(
    folder: Path, sshd: Sshd, web: Nginx, root: str, *, timeout: str = "5s", siblings: str = "check"
) -> str:
    return f"""
[site]
name = "example"
url = "http://{NAME}/"
[source]
path = "{folder}/source"
siblings = "{siblings}"
[signing]
key = {{ file = "{folder}/signing" }}
[state]
directory = "{folder}/state"
[control]
socket = "{folder}/control.sock"
[probe]
timeout = "{timeout}"
references = []
[[mirror]]
name = "lyon"
addresses = ["{web.address}"]
[mirror.http]
port = {web.port}
[mirror.sftp]
host = "{sshd.host}"
port = {sshd.port}
user = "{sshd.user}"
key = {{ file = "{folder}/sftp" }}
host_key = "{sshd.host_key_line}"
root = "{sshd.remote_root}/{root}"
"""


@pytest.fixture(scope="module")
def sshd(module_lab: Lab) -> Sshd:
    """Return the mirror's account."""
    return module_lab.sshd()


@pytest.fixture
def site_with(lab: Lab, sshd: Sshd, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Return what makes a site whose mirror has a web server with these lines."""
    with contextlib.ExitStack() as stack:

        def make(*lines: str, start: bool = True, **how: Any) -> Site:
            root = tmp_path.name
            web = lab.nginx(sshd.root / root / "current", lines=["gzip_static on;", *lines], start=start)
            site = Site(tmp_path, sshd, web, root, **how)
            stack.callback(site.works.close)
            return site

        yield make


def test_a_publish_that_readers_see_says_so(site_with: Callable[..., Site]) -> None:
    """The whole way was looked at, from our disk to what a browser gets, packed pages as well."""
    site = site_with()

    first = site.sync({**packed("index.html", b"home"), **packed("a/b.css", b"body{}", "gz"), "photo.png": b"\x89"})
    second = site.sync(packed("index.html", b"new home"))

    assert (first["verified"], first["warnings"]) == ("seen", [])
    assert (second["verified"], second["warnings"]) == ("seen", [])
    assert site.told() == []
    assert site.works.journal.history(kinds=["publish"])[0].event.what.endswith(", verified: seen")


def test_a_packed_page_that_is_not_its_page_is_seen(site_with: Callable[..., Site]) -> None:
    """`gzip_static` sends what lies beside the page: whoever accepts gzip, which is everybody, reads the old one."""
    site = site_with(siblings="ignore", timeout="1s")
    site.sync(packed("index.html", b"home", "gz"))

    row = site.sync({"index.html": b"new home", "index.html.gz": gzip.compress(b"somebody else's")})

    assert (row["result"], row["verified"]) == ("published", "read")
    assert "'index.html.gz' is asked for as 'index.html' and comes packed (gzip), and has other bytes" in site.told()[0]


def test_a_page_that_a_cache_keeps_is_waited_for_and_told(site_with: Callable[..., Site]) -> None:
    """Caches may lag for a while, which is no fault of the mirror; only who waits in vain is told."""
    site = site_with('location = /about.html { return 200 "about"; }', timeout="1s")
    site.sync({"index.html": b"home", "about.html": b"about"})
    began = time.monotonic()

    row = site.sync({"about.html": b"new"})

    assert (row["result"], row["verified"]) == ("published", "read")
    assert "'about.html' is still the one of" in site.told()[0]
    assert site.works.journal.publishes()["lyon"].details["seen_wrong"] == {}
    assert 0.4 < time.monotonic() - began < 8


def test_what_readers_get_wrong_goes_into_the_history_with_its_names(site_with: Callable[..., Site]) -> None:
    """Whoever looks later must find what was seen, and which files it was."""
    site = site_with("location = /about.html { return 404; }", timeout="1s")

    row = site.sync({"index.html": b"home", "about.html": b"about"})

    assert row["verified"] == "read"
    (seen,) = site.works.journal.history(kinds=["view"])
    assert seen.event.details == {"wrong": {"about.html": "is missing (404)"}}
    assert seen.event.about == "lyon"
    assert site.works.journal.publishes()["lyon"].details["seen_wrong"] == {"about.html": "is missing (404)"}


def test_a_web_server_that_is_not_there_fails_no_publish_and_costs_no_time(site_with: Callable[..., Site]) -> None:
    """The account is right, and that is what a publish promises; the probes have their own say."""
    site = site_with(start=False, timeout="20s")
    began = time.monotonic()

    row = site.sync({"index.html": b"home"})

    assert (row["result"], row["verified"], row["error"]) == ("published", "read", None)
    assert "cannot be reached" in site.told()[0]
    assert time.monotonic() - began < 10


def test_a_web_server_that_serves_another_folder_is_told(site_with: Callable[..., Site]) -> None:
    """The commonest slip when a mirror is set up: its root is not what mirrord serves."""
    site = site_with()
    site.web.document_root = site.account
    site.web.reload()

    row = site.sync({"index.html": b"home"})

    assert row["verified"] == "read"
    assert "serves nothing that is signed" in site.told()[0]


def test_nothing_is_looked_at_where_nothing_was_published(site_with: Callable[..., Site]) -> None:
    """A sync that finds nothing to do is as quick as it was."""
    site = site_with()
    site.sync({"index.html": b"home"})
    site.web.stop()

    row = site.sync({})

    assert (row["result"], row["verified"], row["warnings"]) == ("unchanged", None, [])


def manifest(files: dict[bytes, bytes]) -> Manifest:
    """A manifest with these digests."""
    return Manifest.of({path: Entry(digest, 1, 1) for path, digest in files.items()})


def test_what_changed_is_looked_at_before_what_did_not() -> None:
    """A release of 100,000 pages in which three changed: these three, and the home page."""
    pages = {b"%d.html" % n: b"1" for n in range(1000)} | {b"%d.html.gz" % n: b"1" for n in range(1000)}
    old = manifest({b"index.html": b"1", **pages})
    new = manifest({b"index.html": b"1", **pages, b"7.html": b"2", b"8.html.gz": b"2", b"9.html": b"2", b".ht": b"2"})

    chosen = choose(new, old, 4, random.Random(1))

    assert chosen.paths[0] == b"index.html"
    assert {b"7.html", b"9.html"} < set(chosen.paths)
    assert len(chosen.paths) == 5
    assert {b"7.html.gz", b"8.html.gz", b"9.html.gz"} < set(chosen.copies)
    assert len(chosen.copies) == 4
    assert b".ht" not in chosen.paths


def test_what_somebody_saw_wrong_is_looked_at_first() -> None:
    """After mending, whether it helped."""
    pages = {b"%d.html" % n: b"1" for n in range(1000)}

    chosen = choose(manifest(pages), None, 2, random.Random(1), suspects={b"7.html", b"8.html"})

    assert set(chosen.paths) == {b"7.html", b"8.html"}
