"""How do other threads reach the one that owns everything?

They bring it acts, which it takes up one after the other. Who needs an answer waits for it, but not for ever; an
act whose asker has given up is not done any more, or it would be done behind his back.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from mirrord.errors import NoAnswer

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds until who waits for an answer gives up."""


class Inbox:
    """Acts for the owning thread; `post` and `ask` from any other one."""

    def __init__(self, patience: float = PATIENCE) -> None:
        """Begin empty; `patience` in seconds."""
        self._acts: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._patience = patience

    def post(self, act: Callable[[], None]) -> None:
        """Have the owning thread do something, soon."""
        self._acts.put(act)

    def ask(self, question: Callable[[], T]) -> T:
        """Have the owning thread answer, and wait for it; raises NoAnswer if it does not begin to in time."""
        answer: Future[T] = Future()

        def act() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(question())
            except BaseException as e:  # noqa: BLE001 (it belongs to the asker)
                answer.set_exception(e)

        self.post(act)
        try:
            return answer.result(self._patience)
        except TimeoutError as e:
            if answer.cancel():
                raise NoAnswer("the daemon: it is there and does not get round to answering; try again") from e
        return answer.result()  # it has begun meanwhile, so its end is near

    def next(self, within: float) -> Callable[[], None] | None:
        """Return the next act for the owning thread to do, None if none comes within so many seconds."""
        try:
            return self._acts.get(timeout=within)
        except queue.Empty:
            return None
