"""Measure the first publish of 100,000 small files (or a million) beside rsync, and the memory that it takes us.

The publish is done by a process that has not taken the snapshot, and by one that has, as `mirrord sync` does both.
Also: the memory that a file of 10 GB takes, of which the first part is enough to see that it does not grow.
"""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path

from tests.bench.contenders import Line, Rsync, Server, same
from tests.bench.crew import Crew
from tests.bench.figures import Table
from tests.bench.many import make_site
from tests.lab.folders import new_folder, remove

FILES, MILLION = 100_000, 1_000_000
ROUND_TRIP = 50
BAR = 1.1
"""What part of rsync's time we may take."""
MEMORY_BAR = 200_000_000
BIG = 10_000_000_000
BIG_MEMORY_BAR = 150_000_000
"""Bytes resident."""


def large(runs: int, files: int = FILES) -> bool:
    """Measure; tell whether the bars are met. A million files are measured once, without bars."""
    folder = new_folder("large")
    try:
        site = make_site(folder / "site", files)
        server = Server(folder / "server")
        with server.start(), Line(server, ROUND_TRIP) as line:
            table = Table(f"{files:,} small files, {ROUND_TRIP} ms")
            task = "first publish"
            rsync = Rsync(line, site)
            timed = partial(table.time, line=lambda: line.cpu)
            taken = 0
            for run in range(
                runs
            ):  # nothing is removed in between: ext4 goes around inodes that were freed just before
                with Crew(site, folder / f"state-{run}") as taker:
                    taken = max(taken, taker.take()["resident"])
                with Crew(site, folder / f"state-{run}") as crew:
                    timed(task, rsync.name, partial(rsync.publish, run))
                    timed(task, crew.name, partial(crew.publish, [line], [f"{server.root}/mirrord-{run}"]))
                assert same(site, server.root / f"mirrord-{run}" / "current", [".well-known"])
            table.show(task)
            ours, theirs = table.of(task, Crew.name), table.of(task, rsync.name)
            print(f"  taking the snapshot: at most {taken / 1e6:.0f} MB resident")
            text = f"{ours.median / theirs.median:.2f} x rsync"
            memory = f"{ours.resident / 1e6:.0f} MB resident"
            if files > FILES:
                per_file = statistics.median(ours.ours) / files * 1e6
                print(f"  => {text}, {memory}, {per_file:.0f} us of processor for a file")
                return True
            if not table.judge(f"{text}, bar {BAR}", good=ours.median <= BAR * theirs.median):
                table.limits(task, Crew.name)
            table.judge(f"{memory}, bar {MEMORY_BAR / 1e6:.0f} MB", good=ours.resident <= MEMORY_BAR)
            return table.met
    finally:
        remove(folder)


def big(size: int = BIG) -> bool:
    """Publish one sparse file of 10 GB without delay, and judge the memory."""
    folder = new_folder("big")
    try:
        site = folder / "site"
        site.mkdir()
        with (site / "film.mp4").open("wb") as film:
            film.truncate(size)
        return _publish_big(folder, site, size)
    finally:
        remove(folder)


def _publish_big(folder: Path, site: Path, size: int) -> bool:
    server = Server(folder / "server")
    with server.start(), Line(server, 0) as line, Crew(site, folder / "state") as crew:
        table = Table(f"one file of {size / 1e9:g} GB")
        table.time("taking the snapshot", crew.name, crew.take)
        table.time("first publish", crew.name, partial(crew.publish, [line], [f"{server.root}/mirrord-0"]))
        for task in table.figures:
            table.show(task)
        resident = max(table.of(task, crew.name).resident for task in table.figures)
        return table.judge(
            f"{resident / 1e6:.0f} MB resident, bar {BIG_MEMORY_BAR / 1e6:.0f} MB", good=resident <= BIG_MEMORY_BAR
        )
