"""Measure what a cold process adds to a verb: Python's start and all that publishing imports, before it connects."""

from __future__ import annotations

import resource
import subprocess
import sys

from tests.bench.figures import Table

BAR = 0.45
"""Seconds."""
RUNS = 7
EVERYTHING = """
from mirrord.cli import collect_less_often, collect_nothing_yet
collect_nothing_yet()
from mirrord.hosts.opening import without
with without("invoke"):
    import mirrord.hosts.sftp.session
import mirrord.cli.app, mirrord.control.alone, mirrord.control.publishing
collect_less_often()
"""


def starting() -> bool:
    """Measure; tell whether the bar is met."""
    table = Table("cold start")
    for _ in range(RUNS):
        table.time("start, imports and end of a process", "mirrord sync", lambda: _run(EVERYTHING))
        table.time("start, imports and end of a process", "python alone", lambda: _run("pass"))
    for task in table.figures:
        table.show(task)
    median = table.of("start, imports and end of a process", "mirrord sync").median
    return table.judge(f"{median:.2f} s, bar {BAR} s", good=median <= BAR)


def _run(code: str) -> dict[str, float]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"user": after.ru_utime - before.ru_utime, "system": after.ru_stime - before.ru_stime, "resident": 0}
