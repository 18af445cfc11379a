"""How are times, amounts and foreign texts said to a person?

Ages in words, sizes in the unit that fits, moments on the clock of the person who reads. Foreign texts (file names,
what servers say) lose what could play tricks on a terminal.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from itertools import pairwise

from mirrord.manifest import unstamp, weigh

_TRICKS = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_STEPS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def age(seconds: float) -> str:
    """Say how long: `12 s`, `3 min`, `2 h 5 min`, `4 d`; the second unit only where it matters."""
    left = max(0, round(seconds))
    for (unit, length), (lower, below) in pairwise(_STEPS):
        if left >= length:
            many, rest = divmod(left, length)
            small = rest // below
            return f"{many} {unit} {small} {lower}" if small and many < 10 and unit != "min" else f"{many} {unit}"
    return f"{left} s"


def ago(stamped: str | None, now: float | None = None) -> str:
    """Say how long ago a stamped moment was; an empty text for none."""
    if stamped is None:
        return ""
    return age((time.time() if now is None else now) - unstamp(stamped).timestamp())


def clock(stamped: str, now: datetime | None = None) -> str:
    """Say when, on the reader's own clock: `22:14`, or `21 Nov 22:14` on another day."""
    moment = unstamp(stamped).astimezone()
    today = (now or datetime.now(UTC)).astimezone().date()
    if moment.date() == today:
        return f"{moment:%H:%M}"
    return f"{moment.day} {moment:%b %H:%M}" if moment.year == today.year else f"{moment.day} {moment:%b %Y %H:%M}"


def size(count: float) -> str:
    """Say an amount of bytes: `98.3 MB`."""
    return weigh(count)


def many(count: int, what: str) -> str:
    """Say `1 file`, `7,884 files`, `no files`."""
    return f"1 {what}" if count == 1 else f"{count:,} {what}s" if count else f"no {what}s"


def clean(text: str) -> str:
    """Show what could move a terminal's cursor or turn a line around as escapes; newlines too."""
    return _TRICKS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def listed(words: list[str]) -> str:
    """Say `a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "none"
