"""Every command in the documents does what the page says, typed as it stands there.

The shell lines of a page run in order, on a publisher's machine with real hosts and a daemon, in a shell where
`mirrord` finds this publisher's configuration. What the README says of installing is carried out in test_installation.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Lab
from tests.lab.publisher import Publisher, publisher
from tests.lab.waiting import until

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def site(module_lab: Lab) -> Iterator[Publisher]:
    """A publisher as in the pages: `web` on milan and lyon, watched."""
    with publisher(module_lab, ("milan", "lyon"), dwell="10m") as made:
        assert made.verb("sync")["exit"] == 0
        made.daemon.start()
        until(lambda: made.service()["protected"]["ok"], 20, "protection")
        yield made


@pytest.fixture
def desk(site: Publisher, tmp_path: Path) -> Path:
    """A folder to type in: with `mirrord` on the path, the public key, and a copy of the site."""
    words = tmp_path / "bin" / "mirrord"
    words.parent.mkdir()
    words.write_text(f'#!/bin/sh\nexec {sys.executable} -m mirrord -c "{site.config}" "$@"\n')
    words.chmod(0o755)
    folder = tmp_path / "copy"
    shutil.copytree(site.hosts["lyon"].root / "current", folder)
    shutil.copy(site.folder / "signing.pub", folder / "signing.pub")
    return folder


def commands(page: str) -> list[str]:
    """Return a page's shell lines that are mirrord's or need only a reader's own tools."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if not line.startswith(("sudo", "make")) and "| sudo" not in line]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_works(page: str, site: Publisher, desk: Path) -> None:
    """Somebody types them at night, with trembling hands."""
    for line in commands(page):
        here = line.replace("/srv/restored", str(desk.parent / f"restored-{PAGES.index(page)}"))
        here = here.replace("/srv/mirror/www/current", str(site.hosts["lyon"].root / "current"))
        if "https://www.example.org/" in here:
            continue  # a reader's own resolver knows no such host here; test_cli_verify asks a web server
        shell = subprocess.run(
            ["bash", "-c", here],
            cwd=desk,
            env={**os.environ, "PATH": f"{desk.parent / 'bin'}:{os.environ['PATH']}", "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=100,
        )
        if "sha256sum" in here:
            (desk / "signing.pub").unlink()  # it was never part of the site
        assert shell.returncode == 0, f"{page}: {line}: exit {shell.returncode}: {shell.stdout}{shell.stderr}"


def test_the_pages_have_commands_to_test() -> None:
    """A pattern that finds nothing would make the test above a promise about nothing."""
    assert sum(len(commands(page)) for page in PAGES) > 25


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_of_ours_leads_somewhere(page: str) -> None:
    """A dead link in a runbook costs the minute that there is not."""
    text = (ROOT / page).read_text()
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)

    missing = [target for target in targets if not ((ROOT / page).parent / target).exists()]
    assert not missing


def test_every_verb_that_the_pages_name_exists() -> None:
    """Renaming a verb must reach the documents."""
    said = {verb for page in PAGES for verb in re.findall(r"`mirrord ([a-z]+)", (ROOT / page).read_text())}
    help_text = subprocess.run(
        [sys.executable, "-m", "mirrord", "--help"], capture_output=True, text=True, check=True, timeout=60
    ).stdout

    assert said
    assert not {verb for verb in said if not re.search(rf"\b{verb}\b", help_text)}
