"""What did a run take, how busy was the machine meanwhile, and is a bar met?

Other people's work on the same cores lengthens every second on the clock, and a contender's more than another's. So
contenders take turns, what counts are medians and their ratio in one run, and it is said what else was going on.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUSY = 0.25
"""What part of the cores others may take before the figures are called doubtful."""


@dataclass
class Figures:
    """The runs of one contender at one task."""

    seconds: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    """What part of this machine's cores was busy meanwhile, whoever kept them so."""
    line: list[float] = field(default_factory=list)
    """What part of one core the line itself took."""
    ours: list[float] = field(default_factory=list)
    """Seconds of processor that our process used."""
    resident: int = 0
    """The most bytes of memory that our process had."""
    over: bool = False
    """It was stopped: it takes longer than that."""

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        runs = " ".join(f"{seconds:.2f}" for seconds in self.seconds)
        busy, line = statistics.median(self.busy), statistics.median(self.line)
        ours = f", our process {statistics.median(self.ours):.2f} s of one" if self.ours else ""
        memory = f", at most {self.resident / 1e6:.0f} MB resident" if self.resident else ""
        more = ">" if self.over else " "
        return f"{more}{self.median:7.2f} s   ({runs}; cores {busy:.0%} busy, the line {line:.0%} of one{ours}{memory})"


def cores_busy() -> tuple[float, float]:
    """Return seconds that the machine's cores were busy, and all their seconds."""
    ticks = [int(tick) for tick in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def others_busy(seconds: float = 1.0) -> float:
    """Return what part of the cores is busy while we do nothing."""
    busy, whole = cores_busy()
    time.sleep(seconds)
    busy_after, whole_after = cores_busy()
    return (busy_after - busy) / max(1.0, whole_after - whole)


class Table:
    """The figures of one part, by task and contender."""

    def __init__(self, part: str) -> None:
        self.figures: dict[str, dict[str, Figures]] = {}
        self.met = True
        self._idle = others_busy()
        print(f"\n== {part}  (others keep {self._idle:.0%} of the cores busy)", flush=True)
        if self._idle > BUSY:
            print("   the machine is not idle: times and ratios are doubtful")

    def of(self, task: str, who: str) -> Figures:
        """Return the runs so far."""
        return self.figures.setdefault(task, {}).setdefault(who, Figures())

    def time(
        self, task: str, who: str, work: Callable[[], Mapping[str, Any] | None], line: Callable[[], float] = lambda: 0.0
    ) -> None:
        """Time one piece of work; what was written before is on the disk first. `line` tells its seconds of processor.

        Where the work says itself what it took (see `worker`), that counts.
        """
        os.sync()
        (busy, whole), line_before, began = cores_busy(), line(), time.monotonic()
        said = work() or {}
        seconds = time.monotonic() - began
        busy_after, whole_after = cores_busy()
        figures = self.of(task, who)
        figures.seconds.append(said.get("seconds", seconds))
        figures.busy.append((busy_after - busy) / max(1.0, whole_after - whole))
        figures.line.append((line() - line_before) / seconds)
        if "user" in said:
            figures.ours.append(said["user"] + said["system"])
            figures.resident = max(figures.resident, said["resident"])
        print(f"   {task}: {who}: {figures.seconds[-1]:.2f} s", file=sys.stderr, flush=True)

    def show(self, task: str) -> None:
        """Print the figures of one task."""
        print(f"{task}")
        for who, figures in self.figures[task].items():
            print(f"  {who:30}{figures}")

    def judge(self, text: str, *, good: bool) -> bool:
        """Print a verdict, and keep it."""
        print(f"  => {text}: {'met' if good else 'MISSED'}", flush=True)
        self.met &= good
        return good

    def limits(self, task: str, who: str, slow: Callable[[], list[tuple[str, float]]] | None = None) -> None:
        """Say what kept a task from being quicker: whose processor time it was."""
        figures = self.of(task, who)
        median, cores = figures.median, os.cpu_count() or 1
        ours = statistics.median(figures.ours) / median if figures.ours else 0.0
        busy, line = statistics.median(figures.busy), statistics.median(figures.line)
        rest = max(0.0, busy * cores - ours - line)
        print(
            f"     limited by: our process {ours:.0%} of one core (one thread at a time holds Python's lock), the line"
            f" {line:.0%}, the server and all others {rest:.0%}; {1 - busy:.0%} of {cores} cores idle (waiting for"
            " round trips, windows and the disk)"
        )
        for where, seconds in slow() if slow is not None else ():
            print(f"       {seconds:6.2f} s under a profiler in {where}")
