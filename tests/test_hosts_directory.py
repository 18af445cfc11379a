"""A folder of this machine as an account: nothing outside of it is ever touched."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest

from mirrord.hosts.directory import DirectoryFiles
from mirrord.hosts.files import (
    Create,
    Link,
    List,
    MakeFolder,
    Op,
    Put,
    Read,
    ReadLink,
    Remove,
    Rename,
    Rewrite,
    SetMode,
    Stat,
    Symlink,
    Walk,
)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a file beside the account, in a folder that a link in the account leads to."""
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "file").write_text("not yours")
    (beside / "file").chmod(0o640)
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to("../beside")
    (root / "absolute").symlink_to(beside)
    (root / "file-link").symlink_to("../beside/file")
    (root / "mine").write_text("mine")
    return beside / "file"


@pytest.mark.parametrize("way", [b"link", b"absolute", b"..", b"../beside", b"link/../../beside"])
@pytest.mark.parametrize(
    "op",
    [
        pytest.param(lambda way: Put(way + b"/new", 1, 1, 0o644, lambda: BytesIO(b"x")), id="put"),
        pytest.param(lambda way: Create(way + b"/new", b"x"), id="create"),
        pytest.param(lambda way: Rewrite(way + b"/file", b"x"), id="rewrite"),
        pytest.param(lambda way: MakeFolder(way + b"/new"), id="make a folder"),
        pytest.param(lambda way: SetMode(way + b"/file", 0o777), id="set a mode"),
        pytest.param(lambda way: Link(b"mine", way + b"/new"), id="link"),
        pytest.param(lambda way: Link(way + b"/file", b"new"), id="link from there"),
        pytest.param(lambda way: Symlink(b"x", way + b"/new"), id="symlink"),
        pytest.param(lambda way: Rename(b"mine", way + b"/new", over=True), id="rename"),
        pytest.param(lambda way: Rename(way + b"/file", b"stolen"), id="rename from there"),
        pytest.param(lambda way: Remove(way + b"/file"), id="remove"),
        pytest.param(lambda way: Stat(way + b"/file"), id="stat"),
        pytest.param(List, id="list"),
        pytest.param(Walk, id="walk"),
        pytest.param(lambda way: Read(way + b"/file", 100), id="read"),
    ],
)
def test_no_way_leads_out_of_the_root(outside: Path, op: object, way: bytes) -> None:
    """Rule 13: whatever stands in a mirror's folder, and whatever a path says, the rest of the disk is not ours."""
    assert callable(op)
    before = outside.stat()

    (outcome,) = DirectoryFiles(outside.parent.parent / "root").carry_out([op(way)])
    assert not outcome.good
    assert [path.name for path in outside.parent.iterdir()] == ["file"]
    assert {path.name for path in outside.parent.parent.iterdir()} == {"beside", "root"}
    assert (outside.stat().st_mode, outside.stat().st_nlink, outside.read_text()) == (
        before.st_mode,
        before.st_nlink,
        "not yours",
    )


@pytest.mark.parametrize(
    "op",
    [Rewrite(b"file-link", b"x"), SetMode(b"file-link", 0o777), Link(b"file-link", b"new"), Read(b"file-link", 100)],
    ids=["rewrite", "set a mode", "link", "read"],
)
def test_a_link_in_the_end_is_not_followed_either(outside: Path, op: Op) -> None:
    """A file's name may be a link to somewhere else as well as a folder's."""
    (outcome,) = DirectoryFiles(outside.parent.parent / "root").carry_out([op])

    assert not outcome.good
    assert outside.read_text() == "not yours"
    assert outside.stat().st_mode & 0o777 == 0o640


def test_the_root_itself_may_be_a_link_and_the_text_of_links_is_read(outside: Path, tmp_path: Path) -> None:
    """An operator may keep the account on another disk; what a link inside says is no secret."""
    (tmp_path / "door").symlink_to("root")

    (outcome,) = DirectoryFiles(tmp_path / "door").carry_out([ReadLink(b"link")])
    assert outcome.value == b"../beside"
