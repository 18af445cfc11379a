"""Does everything get on that should?

Whoever works says until when he will be heard of again. A watchdog that is fed while something is overdue would keep
a daemon alive that has stopped doing what it is for.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Pulse:
    """Pieces of work, and when each must be heard of again; from any thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Expect nothing yet."""
        self._monotonic = monotonic
        self._due: dict[str, float] = {}

    def expect(self, what: str, within: float) -> None:
        """Expect to hear of something within so many seconds from now: of its end, or of its getting on."""
        self._due[what] = self._monotonic() + within

    def ended(self, what: str) -> None:
        """Expect nothing of it any more."""
        self._due.pop(what, None)

    def overdue(self) -> list[str]:
        """Return what should have been heard of by now."""
        now = self._monotonic()
        return sorted(what for what, due in list(self._due.items()) if now > due)
