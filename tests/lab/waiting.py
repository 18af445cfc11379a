"""Wait for what a test expects, and for no longer: the only sleep there is in the tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

PAUSE = 0.01


def until(condition: Callable[[], Found], within: float = 10.0, what: str = "") -> Found:
    """Call `condition` until it returns something true, and return that.

    An `OSError` (nobody listens yet, no answer yet, no such file yet) means not yet; `requests` and the lab's own
    `NoReply` are among them.

    Raises:
        TimeoutError: it stayed false for `within` seconds; the message says `what` was waited for.
    """
    deadline = time.monotonic() + within
    while True:
        trouble: OSError | None = None
        try:
            found = condition()
        except OSError as e:
            trouble = e
        else:
            if found:
                return found
        if time.monotonic() >= deadline:
            wanted = what or getattr(condition, "__name__", "the condition")
            raise TimeoutError(f"waited {within:g} s for {wanted}" + (f": {trouble}" if trouble else "")) from trouble
        time.sleep(PAUSE)


def steadily(condition: Callable[[], object], during: float = 1.0, what: str = "") -> None:
    """Assert that `condition` holds now and keeps holding for `during` seconds."""
    deadline = time.monotonic() + during
    while True:
        assert condition(), f"did not last: {what or getattr(condition, '__name__', 'the condition')}"
        if time.monotonic() >= deadline:
            return
        time.sleep(PAUSE)
