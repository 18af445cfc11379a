"""With which exit code does a verb end?

An error carries its own code. Where several mirrors were at work, what a person must know of wins: the configuration
(78), the command line (2), interrupted (130), locked (10), a brake (5); else it is counted how many are good: all 0,
some 3, none 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mirrord.errors import BadConfig, Locked

OK, FAILED, USAGE, PARTLY, BRAKED, LATER, INTERRUPTED = 0, 1, 2, 3, 5, 75, 130
_FIRST = (BadConfig.exit_code, USAGE, INTERRUPTED, Locked.exit_code, BRAKED)
_SWITCHED = {"done": OK, "partial": PARTLY, "unchanged": BRAKED, "unknown": LATER}


def counted(good: Iterable[bool]) -> int:
    """Return 0 where all are good, 3 for some, 1 for none; nothing to do is good."""
    found = list(good)
    return OK if all(found) else PARTLY if any(found) else FAILED


def of_rows(rows: Iterable[Mapping[str, Any]]) -> int:
    """Return the code for mirrors that were published to; each row has an `error_code`, 0 for none."""
    codes = [int(row["error_code"]) for row in rows]
    return next((code for code in _FIRST if code in codes), None) or counted(code == OK for code in codes)


def of_switch(result: str) -> int:
    """Return the code for how a switch ended."""
    return _SWITCHED.get(result, FAILED)
