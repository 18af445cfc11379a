"""Measure the store: first takes beside `cp -a` and `sha256sum`, and a look at 100,000 files that did not change.

`python -m tests.bench.snapshot [FOLDER] [--million]`; FOLDER is where the work is done, on the disk that is meant.
Medians of three alternating runs. A take returns when its bytes are on the disk; copying leaves them in memory, so
that a `sync` of the file system belongs to it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from mirrord.plan import Guard
from mirrord.snapshot.source import Source
from mirrord.snapshot.store import Store, Taken
from mirrord.trust.keys import new_signing_key
from tests.bench.figures import cores_busy, others_busy
from tests.bench.large import FILES, MILLION
from tests.bench.many import make_site
from tests.lab import handbook
from tests.snapshotting import rest

RUNS = 3
FIRST_BAR = 1.3
"""How many times the time of copying and hashing a first take may need."""
LOOK_BAR = 1.0
"""Seconds for a look at 100,000 unchanged files."""

_KEY = new_signing_key()


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def take(source: Path, store: Path) -> Taken:
    """Take a snapshot."""
    return Store(store, "bench").take(Source(source), _KEY, Guard(), now_wall=time.time(), next_expected_in=86400.0)


def copy_and_hash(source: Path, target: Path) -> None:
    """Do what a person would do without us."""
    script = 'cp -a "$0" "$1" && cd "$1" && find . -type f -print0 | xargs -0 sha256sum > "$1.sums" && sync -f "$1"'
    subprocess.run(["sh", "-c", script, source, target], check=True)


def first_take(work: Path, source: Path) -> tuple[list[float], list[float]]:
    """Return the seconds of takes, and of copying and hashing.

    Each has new folders, and nothing is removed in between: ext4 goes around inodes that were freed just before.
    """
    ours, theirs = [], []
    for run in range(RUNS):
        os.sync()
        ours.append(timed(partial(take, source, work / f"store-{source.name}-{run}")))
        os.sync()
        theirs.append(timed(partial(copy_and_hash, source, work / f"copy-{source.name}-{run}")))
    return ours, theirs


def looks(work: Path, source: Path) -> list[float]:
    """Return the seconds of looks at unchanged files, each by a process that knows nothing yet."""
    store = work / "store"
    rest()  # what was touched shortly before a take is read again
    take(source, store)
    found = []
    for _ in range(RUNS):
        found.append(timed(lambda: take(source, store)))
        assert not take(source, store).changed
    return found


def judge(what: str, seconds: float, text: str, bar: float, value: float) -> bool:
    """Print a figure beside its bar."""
    print(f"{what:44} {seconds:7.2f} s  {text}, bar {bar:g}: {'met' if value <= bar else 'MISSED'}", flush=True)
    return value <= bar


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; return 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.snapshot", description=__doc__)
    parser.add_argument("folder", nargs="?", help="where the work is done")
    parser.add_argument("--million", action="store_true", help="a million files where there are 100,000")
    options = parser.parse_args(arguments)
    files = MILLION if options.million else FILES
    met = True
    print(f"\n== snapshots  (others keep {others_busy():.0%} of the cores busy)")
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="mirrord-bench-") as name:
        work = Path(name)
        many = make_site(work / "many", files)
        for what, source in (("debian-handbook", handbook.package_root()), (f"{files:,} files", many)):
            busy, whole = cores_busy()
            used, began = time.process_time(), time.monotonic()
            ours, theirs = first_take(work, source)
            mine, yours = statistics.median(ours), statistics.median(theirs)
            text = f"({said(ours)}), {mine / yours:.2f} x cp -a, sha256sum, sync of {yours:.2f} s ({said(theirs)})"
            if not judge(f"first take of {what}", mine, text, FIRST_BAR, mine / yours):
                met = False
                spent, seconds = time.process_time() - used, time.monotonic() - began
                share = (cores_busy()[0] - busy) / (cores_busy()[1] - whole)
                print(
                    f"     limited by: our process {spent / sum(ours):.0%} of one core while taking; all cores"
                    f" {share:.0%} busy over {seconds:.0f} s; the rest is the disk"
                )
        found = looks(work, many)
        median = statistics.median(found)
        if options.million:
            print(f"a look at {files:,} unchanged files: {median:.2f} s ({said(found)})")
        else:
            met &= judge(f"a look at {files:,} unchanged files", median, f"({said(found)})", LOOK_BAR, median)
    return int(not met)


def said(seconds: list[float]) -> str:
    """Write the runs."""
    return " ".join(f"{each:.2f}" for each in seconds)


if __name__ == "__main__":
    sys.exit(main())
