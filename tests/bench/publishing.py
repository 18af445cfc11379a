"""Measure publishing a real site to an OpenSSH account, beside rsync and rclone: over lines of 0, 50 and 150 ms.

Medians of alternating runs. A line is a proxy in a process of its own; its bandwidth is not capped; without delay
there is none. What is timed of us is from connecting to the answer, switched and verified; of the others the whole
command, as a person would wait for it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.contenders import Line, Rclone, Rsync, Server, Straight, same
from tests.bench.crew import Crew
from tests.bench.figures import Table
from tests.lab.folders import new_folder, remove

FIRST, NOTHING, FEW = "first publish", "nothing changed", "1 % of files changed"
BARS = {(FIRST, 0): 1.3, (FIRST, 50): 0.55, (FIRST, 150): 0.5, (NOTHING, 50): 0.4, (FEW, 50): 0.8}
"""What part of rsync's time we may take, by task and round trip in ms."""
RCLONE_BAR = 50
"""How many times faster than rclone a first publish is."""
FLEET_BAR = 2.0
"""How many times as long as one mirror four may take."""
MARGIN = 1.05


@dataclass
class Bench:
    """One server, one line, one copy of the site that may be changed."""

    work: Path
    original: Path
    round_trip: int

    def __post_init__(self) -> None:
        """Copy the site."""
        self.source = self.work / "site"
        self.server = Server(self.work / "server")
        self.changes = 0

    def restore(self) -> None:
        """Put the site back as it was."""
        shutil.rmtree(self.source, ignore_errors=True)
        shutil.copytree(self.original, self.source)

    def change(self) -> None:
        """Change every hundredth file."""
        self.changes += 1
        for path in sorted(path for path in self.source.rglob("*") if path.is_file())[::100]:
            with path.open("ab") as file:
                file.write(f"\n<!-- change {self.changes} -->\n".encode())


def at_a_line(part: str, site: Path, round_trip: int, work: Callable[[Table, Bench, Line, Crew], None]) -> bool:
    """Set the table, a server, a line and mirrord; tell whether all bars are met."""
    folder = new_folder("bench")
    bench = Bench(folder, site, round_trip)
    bench.restore()
    with bench.server.start():
        line = Line(bench.server, round_trip) if round_trip else Straight(bench.server)
        try:
            with line, Crew(bench.source, folder / "state") as crew:
                table = Table(part)
                work(table, bench, line, crew)
        finally:
            remove(folder)
    return table.met


def publishing(site: Path, round_trip: int, runs: int) -> bool:
    """Measure first publish, nothing changed and 1 % changed against rsync."""

    def work(table: Table, bench: Bench, line: Line, crew: Crew) -> None:
        rsync = Rsync(line, bench.source)
        timed = partial(table.time, line=lambda: line.cpu)
        for run in range(runs):
            root = f"{bench.server.root}/mirrord-{run}"
            ours: Callable[[], Any] = partial(crew.publish, [line], [root])
            bench.restore()
            crew.take()
            for task in (FIRST, NOTHING):
                timed(task, rsync.name, partial(rsync.publish, run))
                timed(task, crew.name, ours)
            bench.change()
            crew.take()
            timed(FEW, rsync.name + " --link-dest", partial(rsync.publish_beside, run))
            timed(FEW, crew.name, ours)
            served = bench.server.root / f"mirrord-{run}" / "current"
            assert same(bench.source, served, [".well-known"]), "what was published is not what was to be published"
            assert same(bench.source, bench.server.root / f"rsync-{run}.next")
        for task, by_name in table.figures.items():
            table.show(task)
            theirs, ours_took = (figures.median for figures in by_name.values())
            bar = BARS.get((task, round_trip))
            text = f"{ours_took / theirs:.2f} x rsync"
            if bar is None:
                print(f"  => {text}")
            elif not table.judge(f"{text}, bar {bar}", good=ours_took <= bar * theirs):
                table.limits(task, crew.name, partial(slow, bench, line, crew))

    return at_a_line(f"publishing, {round_trip} ms", site, round_trip, work)


def slow(bench: Bench, line: Line, crew: Crew) -> list[tuple[str, float]]:
    """Publish for the first time once more, and return the functions that took longest."""
    bench.restore()
    crew.take()
    said = crew.publish([line], [f"{bench.server.root}/profiled"], profile=True)
    found: list[tuple[str, float]] = said["slow"]
    return found


def against_rclone(site: Path, round_trip: int, runs: int) -> bool:
    """Measure a first publish against rclone, which is stopped once it has lost."""

    def work(table: Table, bench: Bench, line: Line, crew: Crew) -> None:
        timed = partial(table.time, line=lambda: line.cpu)
        crew.take()
        for run in range(runs):
            timed(FIRST, crew.name, partial(crew.publish, [line], [f"{bench.server.root}/mirrord-{run}"]))
        ours = table.of(FIRST, crew.name).median
        rclone = Rclone(line, bench.source)
        timed(FIRST, rclone.name, partial(rclone.publish_within, 0, RCLONE_BAR * MARGIN * ours))
        theirs = table.of(FIRST, rclone.name)
        theirs.over = rclone.stopped
        table.show(FIRST)
        times = theirs.median / ours
        how = f"more than {times:.0f}" if theirs.over else f"{times:.0f}"
        if not table.judge(f"{how} times faster than rclone, bar {RCLONE_BAR}", good=times >= RCLONE_BAR):
            table.limits(FIRST, crew.name, partial(slow, bench, line, crew))

    return at_a_line(f"rclone, {round_trip} ms", site, round_trip, work)


def fleet(site: Path, round_trip: int, runs: int) -> bool:
    """Measure four mirrors at once against one."""

    def work(table: Table, bench: Bench, line: Line, crew: Crew) -> None:
        timed = partial(table.time, line=lambda: line.cpu)
        crew.take()
        for run in range(runs):
            for task, count in (("one mirror", 1), ("four mirrors at once", 4)):
                roots = [f"{bench.server.root}/fleet-{run}-{count}-{number}" for number in range(count)]
                timed(task, crew.name, partial(crew.publish, [line] * count, roots))
            for left in bench.server.root.glob("fleet-*"):
                remove(left)
        for task in table.figures:
            table.show(task)
        one, four = (table.of(task, crew.name).median for task in table.figures)
        if not table.judge(f"{four / one:.2f} x one, bar {FLEET_BAR}", good=four <= FLEET_BAR * one):
            table.limits("four mirrors at once", crew.name, partial(slow, bench, line, crew))

    return at_a_line(f"four mirrors, {round_trip} ms", site, round_trip, work)


def describe(site: Path) -> str:
    """Say what is published."""
    sizes = [path.stat() for path in site.rglob("*") if path.is_file()]
    inodes = {found.st_ino: found.st_size for found in sizes}
    size, distinct = sum(found.st_size for found in sizes) / 1e6, sum(inodes.values()) / 1e6
    return f"{len(sizes)} files, {size:.0f} MB, without repetitions {distinct:.0f} MB; {os.cpu_count()} cores"
