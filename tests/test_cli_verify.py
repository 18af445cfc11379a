"""`mirrord verify` gives the four-way verdict with only a public key; `mirrord restore` brings the content back."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrord.control.works import STORE
from mirrord.manifest import SnapshotId
from mirrord.plan import Guard
from mirrord.snapshot.source import Source
from mirrord.snapshot.store import Store
from mirrord.trust.keys import SigningKey, load_signing_key
from tests.conftest import Lab
from tests.lab.ports import free_port
from tests.test_cli import Type, configured, desk, mirrord, open_desk
from tests.test_config import KEY

__all__ = ["configured", "desk", "mirrord", "open_desk"]


@pytest.fixture
def key(configured: Path) -> SigningKey:
    """The publisher's key, where the configuration says."""
    file = configured.parent / "signing_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    return load_signing_key(file.read_bytes(), str(file))


@pytest.fixture
def store(configured: Path) -> Store:
    return Store(configured.parent / "state" / STORE, "example")


@pytest.fixture
def take(configured: Path, store: Store, key: SigningKey) -> Callable[[dict[str, str]], SnapshotId]:
    """Write the source anew and take a snapshot of it."""
    public = configured.parent / "public"

    def take(files: dict[str, str]) -> SnapshotId:
        shutil.rmtree(public, ignore_errors=True)
        for name, text in files.items():
            (public / name).parent.mkdir(parents=True, exist_ok=True)
            (public / name).write_text(text)
        taken = store.take(
            Source(public), key, Guard(), now_wall=time.time(), next_expected_in=86400, allow_deletions=True
        )
        return taken.snapshot.id

    return take


@pytest.fixture
def copy(tmp_path: Path, store: Store, take: Callable[[dict[str, str]], SnapshotId]) -> Path:
    """A copy of the site in a folder, as anybody may have it."""
    snapshot = take({"index.html": "home", "a/page.html": "page", "caf\udce9.html": "accents"})
    folder = tmp_path / "copy"
    store.restore(snapshot, folder)
    own = folder / ".well-known/mirrord"
    own.mkdir(parents=True)
    signed = store.load(snapshot)
    for name, data in (signed.fixed_files() | signed.changing_files()).items():
        (own / os.fsdecode(name)).write_bytes(data)
    return folder


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader's machine: no configuration there."""
    monkeypatch.setenv("MIRRORD_CONFIG", str(tmp_path / "there-is-none.toml"))


def test_a_reader_verifies_a_folder_with_only_the_public_key(
    mirrord: Type, copy: Path, key: SigningKey, stranger: None
) -> None:
    """No configuration, no daemon, no state: a line from the publisher's letterhead is enough."""
    typed = mirrord("verify", str(copy), "--key", str(key.public))

    assert typed.code == 0
    assert typed.out.startswith("intact: every file is as it was signed (snapshot 1 of ")
    assert f'signed by {key.public.fingerprint} for the site "example"\n' in typed.out


def test_assets_that_linger_are_counted_for_the_reader(
    mirrord: Type, store: Store, take: Callable[[dict[str, str]], SnapshotId], key: SigningKey, tmp_path: Path
) -> None:
    """A reader sees that a picture of before is there, and of which snapshot; machines see it, too."""
    before, now = take({"index.html": "1", "logo.png": "logo"}), take({"index.html": "2"})
    folder = tmp_path / "mirror"
    store.restore(now, folder)
    (folder / "logo.png").write_text("logo")
    for snapshot, where in ((now, ""), (before, f"previous/{before}/")):
        signed = store.load(snapshot)
        for name, data in (signed.fixed_files() | signed.changing_files()).items():
            file = folder / ".well-known/mirrord" / where / os.fsdecode(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)

    typed = mirrord("verify", str(folder), "--key", str(key.public))
    shown = mirrord("verify", str(folder), "--key", str(key.public), "--json").json

    assert typed.code == 0
    assert "files of earlier snapshots that linger beside it: 1 of snapshot 1" in typed.out
    assert [(one["id"], one["files"]) for one in shown["lingering"]] == [(before, 1)]
    (folder / "logo.png").write_text("evil")
    assert mirrord("verify", str(folder), "--key", str(key.public)).code == 4


def test_the_key_may_be_in_a_file(mirrord: Type, copy: Path, configured: Path, stranger: None) -> None:
    """As ssh-keygen wrote it, with its comment."""
    assert mirrord("verify", str(copy), "--key", str(configured.parent / "signing_ed25519.pub")).code == 0


def test_allowed_signers_are_taken_as_ssh_keygen_takes_them(
    mirrord: Type, copy: Path, key: SigningKey, tmp_path: Path, stranger: None
) -> None:
    """The same file as for `ssh-keygen -Y verify -f`."""
    signers = tmp_path / "allowed_signers"
    signers.write_text(f"www.example.org {key.public}\n")
    typed = ("verify", str(copy), "--signers", str(signers))

    assert mirrord(*typed, "--identity", "www.example.org").code == 0
    assert mirrord(*typed, "--identity", "www.example.net").code == 4


def test_the_configurations_own_key_is_taken_where_none_is_named(mirrord: Type, copy: Path) -> None:
    """The operator has the key: it must not have to be looked for."""
    typed = mirrord("verify", str(copy), "--json")

    assert (typed.code, typed.json["verdict"], typed.json["snapshot"]["serial"]) == (0, "intact", 1)
    assert (typed.json["schema"], typed.json["where"]) == (1, str(copy))


@pytest.fixture
def served(lab: Lab, copy: Path) -> tuple[Path, str]:
    """The copy behind a web server with TLS: its folder, and its URL."""
    root = lab.folder("copy") / "root"
    shutil.copytree(copy, root)
    nginx = lab.nginx(root, certificate=lab.ca.issue(["localhost"]))
    return root, f"https://localhost:{nginx.port}/"


def test_a_copy_on_the_web_is_verified_like_a_folder(
    mirrord: Type, served: tuple[Path, str], lab: Lab, key: SigningKey, stranger: None
) -> None:
    """Anyone, anywhere, with the public key."""
    root, url = served
    typed = ("verify", url, "--key", str(key.public), "--ca-file", str(lab.ca.file))

    whole = mirrord(*typed)
    (root / "a/page.html").write_text("altered")
    altered = mirrord(*typed)

    assert (whole.code, altered.code) == (0, 4)
    assert whole.out.startswith("intact: every file is as it was signed")
    assert altered.out.startswith("altered: 1 file altered, 'a/page.html' first (")
    assert "  altered: a/page.html has other bytes\n" in altered.out


def test_a_copy_that_answers_nobody_is_unverifiable(mirrord: Type, key: SigningKey, stranger: None) -> None:
    """It is a verdict, with its reason: nobody can tell."""
    typed = mirrord("verify", f"http://127.0.0.1:{free_port()}/", "--key", str(key.public))

    assert typed.code == 4
    assert typed.out.startswith("unverifiable: ")


def test_an_altered_copy_is_exit_code_4_and_names_the_files(
    mirrord: Type, copy: Path, key: SigningKey, stranger: None
) -> None:
    """Whoever carries a copy must be unable to alter it unseen: changed, taken away, slipped in."""
    (copy / "a/page.html").write_text("other")
    (copy / "index.html").unlink()
    (copy / "extra.html").write_text("slipped in")

    typed = mirrord("verify", str(copy), "--key", str(key.public))

    assert typed.code == 4
    assert typed.out.startswith("altered: ")
    assert "  altered: a/page.html has other bytes\n" in typed.out
    assert "  missing: index.html\n" in typed.out
    assert "  does not belong there: extra.html\n" in typed.out


def test_a_copy_signed_by_somebody_else_is_unverifiable(mirrord: Type, copy: Path, stranger: None) -> None:
    """A signature is worth what its key is worth."""
    typed = mirrord("verify", str(copy), "--key", KEY, "--json")

    assert (typed.code, typed.json["verdict"]) == (4, "unverifiable")


def test_an_outdated_copy_is_whole_and_said_to_be_old(
    mirrord: Type, copy: Path, take: Callable[[dict[str, str]], SnapshotId]
) -> None:
    """Old pages are better than none: it is told, and no failure."""
    take({"index.html": "newer", "a/page.html": "page", "caf\udce9.html": "accents"})

    typed = mirrord("verify", str(copy))

    assert typed.code == 0
    assert typed.out.startswith("outdated: every file is as it was signed, but snapshot 2 is known")


def test_without_any_key_it_says_what_is_needed(mirrord: Type, copy: Path, stranger: None) -> None:
    """A key fetched from the copy itself would prove nothing."""
    typed = mirrord("verify", str(copy))

    assert typed.code == 2
    assert "Give the publisher's public key" in typed.err
    assert mirrord("verify", str(copy), "--key", "a", "--signers", "b").code == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["/nowhere/at/all", "--key", KEY], 2, "is no folder, and no URL that begins with http:// or https://"),
        ([".", "--key", "ssh-ed25519 AAAA"], 78, "--key"),
        ([".", "--key", "/nowhere/key.pub"], 78, "/nowhere/key.pub: cannot be read: No such file or directory"),
        ([".", "--signers", "/nowhere/signers"], 78, "cannot be read"),
    ],
)
def test_what_cannot_be_verified_is_one_sentence(
    mirrord: Type, stranger: None, words: list[str], code: int, message: str
) -> None:
    """A slip of the command line is no verdict on the copy."""
    typed = mirrord("verify", *words)

    assert (typed.code, typed.out) == (code, "")
    assert message in typed.err


@pytest.mark.parametrize("name", ["1", "whole id", "beginning"])
def test_a_snapshot_is_restored_by_id_or_serial(
    mirrord: Type, copy: Path, store: Store, tmp_path: Path, name: str
) -> None:
    """The content comes back as a folder, without a daemon."""
    snapshot = store.newest()
    assert snapshot is not None
    typed = mirrord(
        "restore", {"1": "1", "whole id": snapshot, "beginning": snapshot[:20]}[name], str(tmp_path / "back")
    )

    assert typed.code == 0
    assert f"back: 3 files, 15 B, as in {snapshot}, serial 1\n" in typed.out
    assert (tmp_path / "back/a/page.html").read_text() == "page"


def test_restoring_tells_scripts_what_came_back(mirrord: Type, copy: Path, tmp_path: Path) -> None:
    """Where it is, and how much."""
    found = mirrord("restore", "1", str(tmp_path / "back"), "--json").json

    assert (found["schema"], found["serial"], found["files"], found["bytes"]) == (1, 1, 3, 15)
    assert found["directory"] == str(tmp_path / "back")


def test_restoring_overwrites_nothing(mirrord: Type, copy: Path) -> None:
    """A folder with something in it is not ours to fill."""
    typed = mirrord("restore", "1", str(copy))

    assert typed.code == 2
    assert "is not empty; name an empty or a new folder" in typed.err


def test_an_unknown_snapshot_is_a_usage_error(mirrord: Type, copy: Path, tmp_path: Path) -> None:
    """It says where to find the names."""
    typed = mirrord("restore", "77", str(tmp_path / "back"))

    assert (typed.code, typed.err) == (2, "mirrord: 77: there is no such snapshot; `mirrord snapshots` lists them\n")
