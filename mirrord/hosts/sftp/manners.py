"""What has a host refused us lately, so that the next login does not ask for it again?

Hosters cap the channels of a connection and the connections of an account, and some shut out who asks too often. What
one login was refused is kept in this process for an hour: the cap may have been somebody else's traffic.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

FORGOTTEN_AFTER = 3600.0
"""Seconds."""
NO_LIMIT = 1_000


@dataclass(frozen=True, slots=True)
class Manner:
    """How much may be asked for at most."""

    channels: int = NO_LIMIT
    """On one connection."""
    connections: int = NO_LIMIT
    """At the same time."""
    at: float = 0.0
    """When it was last refused, on the clock of `Manners`."""


class Manners:
    """What is known of each account; may be used from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[Hashable, Manner] = {}
        self._lock = threading.Lock()

    def of(self, account: Hashable) -> Manner:
        """Return how much may be asked for."""
        with self._lock:
            return self._fresh(account)

    def granted(self, account: Hashable, *, channels: int = NO_LIMIT, connections: int = NO_LIMIT) -> None:
        """Note that no more than this was granted (at least one of each, or nothing can be done)."""
        with self._lock:
            known = self._fresh(account)
            self._known[account] = replace(
                known,
                channels=max(1, min(known.channels, channels)),
                connections=max(1, min(known.connections, connections)),
                at=self._clock(),
            )

    def _fresh(self, account: Hashable) -> Manner:
        known = self._known.get(account)
        if known is None or self._clock() - known.at >= FORGOTTEN_AFTER:
            return Manner()
        return known
