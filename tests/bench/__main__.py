"""Measure publishing a real site to an OpenSSH account over a line of 50 ms, beside rsync and rclone, in one run.

Medians of alternating runs. The line is a proxy in a process of its own; its bandwidth is not capped. What is timed of
us is from connecting to the answer; of the others the whole command, as a person would wait for it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.bench.contenders import Line, Mirrord, Rclone, Rsync, Server, same
from tests.lab import handbook
from tests.lab.folders import new_folder, remove

BARS = {"first publish": 0.8, "nothing changed": 0.4, "1 % changed": 0.9}
"""What part of rsync's time we may take."""
RCLONE_BAR = 30.0
"""How many times faster than rclone a first publish is."""


@dataclass
class Figures:
    """The runs of one contender at one task."""

    seconds: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    """What part of this machine's cores was busy meanwhile, whoever kept them so."""
    line: list[float] = field(default_factory=list)
    """What part of one core the line itself took."""

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        runs = " ".join(f"{seconds:.2f}" for seconds in self.seconds)
        busy, line = statistics.median(self.busy), statistics.median(self.line)
        return f"{self.median:7.2f} s   ({runs}; cores {busy:.0%} busy, the line {line:.0%} of one)"


def cores_busy() -> tuple[float, float]:
    """Return seconds that the machine's cores were busy, and all their seconds."""
    ticks = [int(tick) for tick in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


class Bench:
    """One server, one line, one folder; results by task and contender."""

    def __init__(self, work: Path, source: Path, round_trip: float) -> None:
        self.figures: dict[str, dict[str, Figures]] = {}
        self.source = work / "site"
        self.server = Server(work / "server")
        self.line = Line(self.server.start(), round_trip)
        self._work = work
        self._original = source
        self._change = 0
        self.restore()

    def restore(self) -> None:
        """Put the site back as it was."""
        shutil.rmtree(self.source, ignore_errors=True)
        shutil.copytree(self._original, self.source)

    def change(self) -> None:
        """Change every hundredth file."""
        self._change += 1
        for path in sorted(path for path in self.source.rglob("*") if path.is_file())[::100]:
            with path.open("ab") as file:
                file.write(f"\n<!-- change {self._change} -->\n".encode())

    def time(self, task: str, name: str, work: Callable[[], None]) -> None:
        """Time one piece of work; what was written before is on the disk first."""
        os.sync()
        busy, whole, line, began = *cores_busy(), self.line.cpu, time.monotonic()
        work()
        seconds = time.monotonic() - began
        busy_after, whole_after = cores_busy()
        figures = self.figures.setdefault(task, {}).setdefault(name, Figures())
        figures.seconds.append(seconds)
        figures.busy.append((busy_after - busy) / max(0.01, whole_after - whole))
        figures.line.append((self.line.cpu - line) / seconds)
        print(f"  {task}: {name}: {seconds:.2f} s", file=sys.stderr, flush=True)

    def run(self, runs: int, rclone_runs: int) -> None:
        """Measure everything."""
        rsync, mirrord = Rsync(self.line, self.source), Mirrord(self.line, self.source, self._work / "state")
        for run in range(runs):
            self.restore()
            mirrord.take()
            for task in ("first publish", "nothing changed"):
                self.time(task, rsync.name, partial(rsync.publish, run))
                self.time(task, mirrord.name, partial(mirrord.publish, run))
            self.change()
            mirrord.take()
            self.time("1 % changed", rsync.name, partial(rsync.publish_beside, run))
            self.time("1 % changed", mirrord.name, partial(mirrord.publish_beside, run))
            ours = self.server.root / f"mirrord-{run}" / "current"
            assert same(self.source, ours, [".well-known"]), "what was published is not what was to be published"
            assert same(self.source, self.server.root / f"rsync-{run}.next")
        rclone = Rclone(self.line, self.source)
        for run in range(rclone_runs):
            self.time("first publish", rclone.name, partial(rclone.publish, run))

    def report(self) -> bool:
        """Print everything beside its bar; tell whether all bars are met."""
        met = True
        for task, by_name in self.figures.items():
            print(f"\n{task}")
            for name, figures in by_name.items():
                print(f"  {name:28}{figures}")
            ours, theirs = by_name[Mirrord.name].median, by_name[Rsync.name].median
            met &= _judge(f"{ours / theirs:.2f} x rsync, bar {BARS[task]:.2f}", good=ours <= BARS[task] * theirs)
            if Rclone.name in by_name:
                times = by_name[Rclone.name].median / ours
                met &= _judge(f"{times:.0f} times faster than rclone, bar {RCLONE_BAR:.0f}", good=times >= RCLONE_BAR)
        return met


def _judge(text: str, *, good: bool) -> bool:
    print(f"  => {text}: {'met' if good else 'MISSED'}")
    return good


def main() -> int:
    """Run the benchmark; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="alternating runs of rsync and mirrord")
    parser.add_argument(
        "--rclone-runs", type=int, default=1, help="runs of rclone, which takes minutes; 0 leaves it out"
    )
    parser.add_argument("--round-trip", type=float, default=50.0, metavar="MS", help="length of the line")
    parser.add_argument("--site", type=Path, help="another folder than debian-handbook")
    options = parser.parse_args()
    source = options.site or handbook.package_root()
    work = new_folder("bench")
    bench = None
    try:
        bench = Bench(work, source, options.round_trip)
        files = [path for path in bench.source.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        with bench.line:
            bench.run(options.runs, options.rclone_runs)
        print(f"{len(files)} files, {size / 1e6:.0f} MB, {options.round_trip:g} ms, {os.cpu_count()} cores")
        return 0 if bench.report() else 1
    finally:
        if bench is not None:
            bench.server.stop()
        remove(work)


if __name__ == "__main__":
    sys.exit(main())
