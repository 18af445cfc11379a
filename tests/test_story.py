"""The main job, end to end, on real servers: OpenSSH, nginx, Knot, unbound, and mirrord as processes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.conftest import Lab
from tests.lab.publisher import Publisher, publisher
from tests.lab.reader import Reader
from tests.lab.waiting import steadily, until

ARTICLE = "news/the-fire.html"


@pytest.fixture
def site(lab: Lab, handbook: Path) -> Iterator[Publisher]:
    """A publisher of a real site of thousands of files, with a home page."""
    with publisher(lab) as made:
        for language in sorted(handbook.iterdir())[:12]:
            shutil.copytree(language, made.source / language.name)
        yield made


def pages(source: Path) -> list[Path]:
    """Return every file of a site."""
    return [Path(folder) / name for folder, _, names in os.walk(source) for name in names]


def assert_read_whole(site: Publisher, reader: Reader) -> None:
    """Read the whole site through the resolver, and compare every byte with the source."""
    files = pages(site.source)
    for file in files:
        path = file.relative_to(site.source).as_posix()
        assert reader.get(site.url + quote(path)) == file.read_bytes(), path


def test_readers_go_on_reading_the_same_bytes_while_the_primary_is_gone(site: Publisher, lab: Lab) -> None:
    """
    The whole case: a datacentre goes, readers follow to the next host, articles go on appearing, and a primary
    that comes back with month-old content gets no reader until it caught up and a person says so.
    """
    milan, lyon, oslo = site.hosts.values()
    reader = lab.reader(site.resolver)

    # A first publish, by hand, and the daemon.
    first = site.verb("sync")
    assert [line["result"] for line in first["mirrors"]] == ["published"] * 3
    assert len(pages(site.source)) > 3000
    site.daemon.start()
    until(lambda: site.service()["protected"]["ok"], 20, "protection")
    assert_read_whole(site, reader)

    # The primary's datacentre goes away, its content stays what it was for a month.
    milan.kill()
    until(lambda: site.served_at("lyon"), 20, "readers to be moved to lyon")
    until(lambda: site.secondary.query("www.example.org", "A") == {lyon.address}, 10, "the secondary to follow")
    until(lambda: site.resolver.query("www.example.org", "A") == {lyon.address}, 10, "readers to follow")
    assert_read_whole(site, reader)

    # The publisher goes on publishing.
    article = site.write(ARTICLE, "<h1>Our host burned</h1>")
    during = site.verb("sync")
    assert {line["name"]: line["result"] for line in during["mirrors"]} == {
        "milan": "failed",
        "lyon": "published",
        "oslo": "published",
    }
    assert during["exit"] == 3
    assert reader.get(site.url + ARTICLE) == article.read_bytes()

    # The primary comes back with its old content; mirrord cannot reach its account yet.
    milan.nginx.start()
    until(lambda: site.mirror("milan")["class"] == "behind", 20, "milan to be seen with old content")
    steadily(lambda: site.served_at("lyon"), 2, "readers to stay")

    # Its account is reachable again: it catches up by itself, and readers still stay.
    milan.sshd.start()
    until(lambda: milan.serves == during["snapshot"]["id"], 40, "milan to catch up")
    until(lambda: site.mirror("milan")["class"] == "current", 20, "milan to be seen current")
    steadily(lambda: site.served_at("lyon"), 2, "readers to stay")

    # A person returns readers to it.
    home = site.verb("switch", "web", "milan", "--yes")
    assert (home["exit"], home["result"]) == (0, "done")
    until(lambda: site.resolver.query("www.example.org", "A") == {milan.address}, 10, "readers to return")
    assert_read_whole(site, reader)
    assert oslo.serves == during["snapshot"]["id"]


def test_a_reader_checks_a_mirror_with_tools_of_their_own(site: Publisher, tmp_path: Path) -> None:
    """Whoever carries a copy must be unable to alter it unseen; ssh-keygen and sha256sum are enough to see it."""
    site.verb("sync")
    copy = site.hosts["oslo"].root / "current"
    own = copy / ".well-known/mirrord"
    signers = tmp_path / "allowed_signers"
    signers.write_text(f"www.example.org {site.signer}\n")
    verify = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", "www.example.org"]

    for name, namespace in (("SHA256SUMS", "manifest@mirrord"), ("snapshot.json", "snapshot@mirrord")):
        with (own / name).open("rb") as text:
            command = [*verify, "-n", namespace, "-s", str(own / f"{name}.sig")]
            subprocess.run(command, stdin=text, check=True, capture_output=True)
    check = ["sha256sum", "--check", "--quiet", ".well-known/mirrord/SHA256SUMS"]
    summed = subprocess.run(check, cwd=copy, check=False, capture_output=True)
    assert (summed.returncode, summed.stdout) == (0, b"")
