"""How many bytes a second may be sent to a mirror at this time of day?

A usual rate, and windows of the day in which another holds. The time is an argument, so that nothing here reads a
clock: `sftp.road` asks while it sends. It is local time, which may be set, and runs through some hours twice a year
twice or not at all: a rate follows the clock on the wall, whichever way that came to say what it says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations

DAY = 24 * 60
"""Minutes."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of every day; minutes since midnight. It may run past midnight: its end is not after its start then."""

    start: int
    end: int
    """The first minute that does not belong to it; 24:00 is `DAY`."""
    rate: int
    """Bytes a second; 0 is no limit."""

    def __contains__(self, minute: int) -> bool:
        """Tell whether a minute of the day belongs to it."""
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def overlaps(self, other: Window) -> bool:
        """Tell whether some minute belongs to both."""
        return self.start in other or other.start in self


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """The most bytes a second, by the time of day; 0 is no limit. Windows do not overlap."""

    usual: int = 0
    windows: tuple[Window, ...] = ()

    def rate_at(self, local: datetime) -> int:
        """Return the rate at a local time; only its hour and minute count."""
        minute = 60 * local.hour + local.minute
        return next((window.rate for window in self.windows if minute in window), self.usual)

    @property
    def least(self) -> int:
        """The lowest limit of any time; 0 where there is none."""
        return min({self.usual, *(window.rate for window in self.windows)} - {0}, default=0)

    def least_within(self, local: datetime, ahead: timedelta) -> int:
        """Return the lowest limit that holds now or at the end of that time; 0 where neither is one."""
        limits = {self.rate_at(local), self.rate_at(local + ahead)} - {0}
        return min(limits, default=0)

    def overlapping(self) -> Iterator[tuple[Window, Window]]:
        """Yield the windows that leave open which of them counts."""
        return ((one, other) for one, other in combinations(self.windows, 2) if one.overlaps(other))


UNLIMITED = Bandwidth()
"""As much as the line takes."""
