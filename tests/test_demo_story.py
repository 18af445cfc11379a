"""The demo as whoever hears of mirrord runs it first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.processes import descendants
from tests.lab.waiting import until

DEMO = [sys.executable, "-m", "mirrord", "demo"]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder with a short name: the path of a socket has 107 bytes at most, and pytest's own grow with every run."""
    with tempfile.TemporaryDirectory(prefix="demos-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """An environment whose temporary files can be counted."""
    return {**os.environ, "TMPDIR": str(tmp_path), "NO_COLOR": "1"}


def test_the_demo_tells_the_whole_story_and_leaves_nothing_behind(surroundings: dict[str, str], tmp_path: Path) -> None:
    """Each step is a plain sentence with its time; a step that did not come about would have ended it."""
    done = subprocess.run(DEMO, env=surroundings, capture_output=True, text=True, check=False, timeout=100)

    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert all(" s  " in line for line in lines)
    for part in (
        "stands on all three",
        "is gone",
        "to lyon",
        "article",
        "is back",
        "catches up",
        "home again",
        "intact",
    ):
        assert part in done.stdout, done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_demo_speaks_to_machines_too(surroundings: dict[str, str]) -> None:
    """One object, with what was measured."""
    done = subprocess.run([*DEMO, "--json"], env=surroundings, capture_output=True, text=True, check=False, timeout=100)

    told = json.loads(done.stdout)
    assert (told["schema"], told["verified"], done.returncode) == (1, "intact", 0)
    assert 0 < told["moved_after"] < 100
    assert len(told["steps"]) >= 9


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_cleans_up(
    surroundings: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    """No host, no daemon and no key stays behind, and it says 130 as an interrupted command should."""
    with subprocess.Popen(DEMO, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        assert "up" in demo.stdout.readline()
        children = until(lambda: descendants(demo.pid), 20, "its daemon")

        demo.send_signal(number)
        demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert list(tmp_path.iterdir()) == []
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_a_demo_that_is_kept_can_be_played_with(surroundings: dict[str, str], tmp_path: Path) -> None:
    """`--keep` leaves it running, and names the configuration with which every verb can be tried."""
    with subprocess.Popen(
        [*DEMO, "--keep"], env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        invitation = next(line for line in demo.stdout if "mirrord -c" in line)
        config = invitation.split("mirrord -c ")[1].split()[0]
        status = subprocess.run(
            [sys.executable, "-m", "mirrord", "-c", config, "status", "--json"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=30)
    assert json.loads(status.stdout)["protected"]["ok"]
    assert list(tmp_path.iterdir()) == []
