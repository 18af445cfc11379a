"""`mirrord mirror check`: what a mirror can do, and whether its web server serves what is put there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirrord.hosts.exhibit import Exhibit
from mirrord.hosts.lock import this_process
from mirrord.hosts.memory import Disk, MemoryFiles
from mirrord.hosts.remembered import TRAITS, Finding, How, Remembered, Whose
from mirrord.journal import Journal
from tests.conftest import Lab
from tests.controlling import controller
from tests.lab.publisher import Publisher, publisher
from tests.publishing import Publisher as Small
from tests.publishing import host_on, litter, whole


@pytest.fixture(scope="module")
def site(module_lab: Lab) -> Iterator[Publisher]:
    """Return a publisher with one mirror; tests take what others left."""
    with publisher(module_lab, ["milan"]) as made:
        yield made


def everything(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return what stands in an account: path -> mode, mtime in whole seconds (of files), content or link."""
    found: dict[str, tuple[int, int, bytes]] = {}
    for path in sorted(root.rglob("*")):
        about = path.lstat()
        what = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(root))] = (about.st_mode, int(about.st_mtime) if path.is_file() else 0, what)
    return found


def check(site: Publisher, name: str = "milan") -> dict[str, Any]:
    return site.verb("mirror", "check", name)


def test_a_mirror_is_tried_and_seen_through_its_web_server(lab: Lab) -> None:
    """
    From a new account to a served release: at first two trees are shown for a moment, later the release shows
    itself. Readers see no difference, and nothing stays behind.
    """
    with publisher(lab, ["milan"]) as site:
        from_nothing_to_a_release(site)


def from_nothing_to_a_release(site: Publisher) -> None:
    host = site.hosts["milan"]

    first = check(site)
    assert (first["exit"], first["schema"], first["serving"]) == (0, 1, None)
    assert {row["trait"] for row in first["traits"] if not row["works"]} == {"hashes"}
    assert [row["trait"] for row in first["traits"]] == list(TRAITS)
    assert first["layout"]["auto"] == "releases"
    assert [(proof["serves"], proof["follows"]) for proof in first["web"]] == [("yes", "yes")]
    assert "OpenSSH" in first["server"]["banner"]
    assert set(everything(host.root)) == {".mirrord"}

    assert site.run("sync").returncode == 0
    before = everything(host.root)
    second = check(site)
    assert (second["exit"], second["serving"]) == (0, host.serves)
    assert [(proof["serves"], proof["follows"]) for proof in second["web"]] == [("yes", "unproven")]
    assert everything(host.root) == before

    site.write("index.html", "<h1>New</h1>")
    assert site.run("sync").returncode == 0
    third = check(site)
    assert [(proof["serves"], proof["follows"]) for proof in third["web"]] == [("yes", "yes")]

    shown = site.run("mirror", "check", "milan")
    assert shown.returncode == 0
    assert 'layout "auto" is releases' in shown.stdout
    assert "hard links" in shown.stdout
    assert "Traceback" not in shown.stderr


def test_a_web_server_that_serves_another_folder_is_found_out(site: Publisher) -> None:
    """The commonest mistake of all: everything is published, and readers get something else."""
    nginx = site.hosts["milan"].nginx
    root, nginx.document_root = nginx.document_root, site.folder / "elsewhere"
    nginx.document_root.mkdir(mode=0o755, exist_ok=True)
    nginx.reload()
    try:
        found = check(site)
    finally:
        nginx.document_root = root
        nginx.reload()

    assert found["exit"] == 1
    assert [proof["serves"] for proof in found["web"]] == ["no"]
    assert "its root must be the account's 'current'" in found["web"][0]["text"]


def test_a_copy_of_what_was_published_is_not_taken_for_it(site: Publisher) -> None:
    """Every byte is right today, and the next publish will not be seen: only a change made by SFTP tells."""
    host = site.hosts["milan"]
    assert site.run("sync").returncode == 0
    root, host.nginx.document_root = host.nginx.document_root, site.folder / "copy"
    shutil.copytree(host.root / "current", host.nginx.document_root)
    host.nginx.reload()
    before = everything(host.root)
    try:
        found = check(site)
    finally:
        host.nginx.document_root = root
        host.nginx.reload()

    assert found["exit"] == 1
    assert "a change made by SFTP is not seen" in found["web"][0]["text"]
    assert everything(host.root) == before


def test_what_cannot_be_checked_is_one_sentence(site: Publisher) -> None:
    """A name mistyped, a host that is down: no traceback, and the exit code of the contract."""
    unknown = site.run("mirror", "check", "paris")
    host = site.hosts["milan"]
    host.sshd.kill()
    try:
        down = site.run("mirror", "check", "milan")
    finally:
        host.sshd.start()
    nobody = site.run("mirror", "check")

    assert (unknown.returncode, down.returncode, nobody.returncode) == (2, 75, 2)
    assert unknown.stderr.count("\n") == 1
    assert "milan" in unknown.stderr
    assert down.stderr.splitlines()[-1].startswith("mirrord: milan: connecting to 127.0.0.1 port")


def test_a_mirror_with_another_key_is_refused(site: Publisher) -> None:
    """Nothing is tried on a host that is not the one that was pinned."""
    line = site.hosts["milan"].sshd.host_key_line
    text = site.config.read_text()
    site.config.write_text(text.replace(line, (site.folder / "signing.pub").read_text().strip()))
    try:
        found = site.run("mirror", "check", "milan")
    finally:
        site.config.write_text(text)

    assert found.returncode == 1
    assert "its key is not the pinned one" in found.stderr


def test_what_was_found_is_kept_and_garbled_notes_are_not_believed(site: Publisher, tmp_path: Path) -> None:
    """A publish after the check tries nothing any more; a corrupt note is made anew."""
    check(site)
    with controller(tmp_path) as home:
        notes = home.works.accounts.notes("lyon")
        home.works.journal.keep("account lyon", {"findings": "garbage"})
        assert notes.recall() is None
    with closing(Journal(site.state / "journal.sqlite")) as journal:
        kept = journal.kept("account milan")
    assert kept["tried_at"] > 0
    assert kept["risking"] == []
    assert kept["follows"] in (True, None)


def test_an_account_that_was_tried_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What follows from it changes how a mirror is published to: the log says when that came to be known."""
    caplog.set_level("INFO")
    findings = {name: Finding(works=name != "hashes", how=How.TRIED) for name in TRAITS}
    known = Remembered(Whose("a", "b", "c", ()), 1_700_000_000.0, findings)
    with controller(tmp_path) as home:
        notes = home.works.accounts.notes("lyon")
        notes.remember(replace(known, tried_at=0.0))
        notes.remember(known)
        notes.remember(replace(known, follows=True))
        assert notes.recall() == replace(known, follows=True)

    told = [record.getMessage() for record in caplog.records if "tried" in record.getMessage()]
    assert told == ["lyon: tried what its account can do: not hashes"]


def test_what_a_killed_check_showed_is_swept_up_by_the_next_publish() -> None:
    """Killed while the link led to what was shown: it counts as nothing, and no operator has to clear it away."""
    small, disk = Small(), Disk()
    host = host_on(MemoryFiles(disk))
    exhibit = Exhibit("lyon", b"current", "abc")
    with host.hold(this_process("home"), small.known, host.survey()) as hold:
        assert hold.do(exhibit.put_up()) == ""
    assert disk.read(b"current/" + exhibit.name) == exhibit.content("a")

    signed = small.take({b"index.html": b"home"})
    small.publish(MemoryFiles(disk), signed)
    assert whole(disk, signed, small.content)
    assert litter(disk) == []
    assert sorted(disk.root.names) == [b".mirrord", b"current", b"releases", b"staging"]


def test_what_was_shown_is_taken_down_whole_and_nothing_else() -> None:
    """The link is put back to nothing; what somebody put there meanwhile stays."""
    small, disk = Small(), Disk()
    host = host_on(MemoryFiles(disk))
    exhibit = Exhibit("lyon", b"web/current", "abc")
    with host.hold(this_process("home"), small.known, host.survey()) as hold:
        hold.do(exhibit.put_up())
        hold.do(exhibit.swap())
        assert disk.read(b"web/current/" + exhibit.name) == exhibit.content("b")
        hold.do(exhibit.take_down())

    assert sorted(disk.tree()) == [b".mirrord", b"web"]


def test_nothing_is_shown_where_something_stands() -> None:
    """A folder of the operator's own is not touched, not even for a moment."""
    small, disk = Small(), Disk()
    signed = small.take({b"index.html": b"home"})
    small.publish(MemoryFiles(disk), signed)
    host = host_on(MemoryFiles(disk))
    with host.hold(this_process("home"), small.known, host.survey()) as hold:
        why = hold.do(Exhibit("lyon", b"current", "abc").put_up())
        other = hold.do(Exhibit("lyon", b"releases", "abc").put_up())

    assert (why, other) == ("something stands there", "a folder stands there")
    assert whole(disk, signed, small.content)
