"""What will break next?

Needs no daemon: this process asks everybody itself, with the configuration and the keys. What is found is sorted by how
soon it breaks.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from mirrord.cli import outcome
from mirrord.cli.talk import Talk, row
from mirrord.config import find, load
from mirrord.control import doctoring
from mirrord.control.looking import Looker
from mirrord.control.works import Works
from mirrord.report.forecast import Level

_STYLES = {Level.BAD: "red", Level.WARN: "yellow", Level.UNKNOWN: "dim", Level.GOOD: "green"}


def examine(talk: Talk, flag: Path | None) -> int:
    """Ask everybody, show what was found, worst first; return the exit code."""
    works = Works(load(find(flag)))
    with contextlib.closing(works), talk.working():
        found = doctoring.examine(works, Looker(works), lambda who: talk.say(who, "dim"))
    bad = any(finding.level is Level.BAD for finding in found)
    if talk.as_json:
        talk.result({"ok": not bad, "findings": [finding.to_json() for finding in found]})
        return outcome.FAILED if bad else outcome.OK
    table = talk.table("", "DAYS", "WHAT", "TO DO")
    for finding in found:
        days = "" if finding.days is None else f"{max(finding.days, 0):.0f}"
        row(table, finding.level.value, days, finding.text, finding.advice)
    talk.show(table)
    worst = sum(finding.level is Level.BAD for finding in found)
    soon = sum(finding.level is Level.WARN for finding in found)
    talk.line(f"{worst} broken, {soon} that a long outage would break", _STYLES[Level.BAD if bad else Level.GOOD])
    return outcome.FAILED if bad else outcome.OK
