"""Which parts of a file does somebody have already who has another version of it?

A delta says how a new file is made: runs of bytes copied from the old one, and between them bytes that have to be
sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Copy:
    """`size` bytes (at least one) that the old file has at `old` stand in the new one at `new`."""

    old: int
    new: int
    size: int

    @property
    def end(self) -> int:
        """Where in the new file it ends."""
        return self.new + self.size


def gaps(copies: tuple[Copy, ...], size: int) -> Iterator[tuple[int, int]]:
    """Yield (offset, size) of what is not copied of a new file of so many bytes: what has to be sent."""
    at = 0
    for copy in copies:
        if copy.new > at:
            yield at, copy.new - at
        at = copy.end
    if at < size:
        yield at, size - at
