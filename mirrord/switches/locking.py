"""How do processes of mirrord take turns at what a speaker reads or hears?"""

from __future__ import annotations

import fcntl
import time

from mirrord.errors import Unavailable


def hold(descriptor: int, within: float, why_not: str) -> None:
    """Take a lock on an open file, waiting for at most so many seconds. Raises Unavailable."""
    deadline = time.monotonic() + within
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Unavailable(why_not) from None
            time.sleep(0.02)
        else:
            return
