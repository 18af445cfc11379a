"""Measure the store: a first take beside `cp -a` and `sha256sum`, and a look at 100,000 files that did not change.

`python -m tests.bench.snapshot [FOLDER]`; FOLDER is where the work is done, on the disk that is meant. Medians of three
alternating runs. A take returns when its bytes are on the disk; copying leaves them in memory, so that a `sync` of the
file system belongs to it.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mirrord.plan import Guard
from mirrord.snapshot.source import Source
from mirrord.snapshot.store import Store, Taken
from mirrord.trust.keys import new_signing_key
from tests.lab import handbook
from tests.snapshotting import rest

RUNS = 3
FILES = 100_000
FIRST_BAR = 1.3
"""How many times the time of copying and hashing a first take may need."""
LOOK_BAR = 2.0
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


def fresh(folder: Path) -> Path:
    """Remove what stands there, and wait until the disk is done with it."""
    shutil.rmtree(folder, ignore_errors=True)
    os.sync()
    return folder


def first_take(work: Path, source: Path) -> tuple[list[float], list[float]]:
    """Return the seconds of takes, and of copying and hashing."""
    ours, theirs = [], []
    for _ in range(RUNS):
        store, copy = fresh(work / "store"), fresh(work / "copy")
        ours.append(timed(partial(take, source, store)))
        theirs.append(timed(partial(copy_and_hash, source, copy)))
    return ours, theirs


def second_look(work: Path) -> list[float]:
    """Return the seconds of looks at 100,000 unchanged files, each by a process that knows nothing yet."""
    source = work / "many"
    for folder in range(FILES // 100):
        where = source / f"section-{folder // 40}" / f"page-{folder}"
        where.mkdir(parents=True)
        for number in range(100):
            (where / f"{number}.html").write_bytes(b"%d %d" % (folder, number))
    store = work / "store-of-many"
    rest()  # what was touched shortly before a take is read again
    take(source, store)
    found = []
    for _ in range(RUNS):
        found.append(timed(lambda: take(source, store)))
        assert not take(source, store).changed
    return found


def main() -> int:
    """Print the figures; return 1 where a bar is missed."""
    base = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=base, prefix="mirrord-bench-") as name:
        work = Path(name)
        ours, theirs = first_take(work, handbook.package_root())
        ratio = statistics.median(ours) / statistics.median(theirs)
        print(f"first take of debian-handbook  {statistics.median(ours):6.2f} s  ({said(ours)})")
        print(f"cp -a, sha256sum, sync         {statistics.median(theirs):6.2f} s  ({said(theirs)})")
        print(f"    ratio {ratio:.2f}, at most {FIRST_BAR}")
        looks = second_look(work)
        print(f"a look at {FILES} files        {statistics.median(looks):6.2f} s  ({said(looks)}), at most {LOOK_BAR}")
    return int(ratio > FIRST_BAR or statistics.median(looks) > LOOK_BAR)


def said(seconds: list[float]) -> str:
    """Write the runs."""
    return " ".join(f"{each:.2f}" for each in seconds)


if __name__ == "__main__":
    sys.exit(main())
