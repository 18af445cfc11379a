"""How is everything looked at at once, so that nobody delays anybody?

References are tried before the looks and after them: what failed between two failures of our own network says
nothing about a mirror. Looks run on a crew that the caller gives; each has its own deadline, and one that does not
come back all the same is given up, not waited for.
"""

from __future__ import annotations

import logging
import random
import socket
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from dataclasses import dataclass
from typing import Protocol

from mirrord.errors import Cancelled
from mirrord.health import Fault, FaultKind, Observation, Reference, Round, family
from mirrord.probe.looking import Look, look

GRACE = 0.5
"""Seconds beyond its deadline after which a look is given up: it is stuck where no deadline reaches."""
PATIENCE = 2.0
"""Seconds at most for a connection to a reference: they are well connected, or of no use."""

log = logging.getLogger(__name__)


class Endpoint(Protocol):
    """A reference to connect to by TCP; its `str` is how the configuration writes it."""

    @property
    def address(self) -> str:
        """IPv4 or IPv6, without brackets."""
        ...

    @property
    def port(self) -> int:
        """The port."""
        ...


@dataclass(slots=True)
class _Running:
    """One look on its way; `begun` is None until a worker takes it up."""

    asked: Look
    dice: random.Random
    begun: float | None = None
    wall: float = 0.0

    def run(self) -> Observation:
        self.begun, self.wall = time.monotonic(), time.time()
        try:
            return look(self.asked, self.dice)
        except Exception as e:
            # Whatever a mirror says must not end the round for all others; the fault is ours and has to be seen.
            log.exception("%s: looking at %s", self.asked.target.mirror, self.asked.target.address)
            return self.failed(Fault(FaultKind.UNREACHABLE, f"cannot be looked at, by a fault of mirrord: {e!r}"))

    def overdue(self, now: float, grace: float) -> bool:
        return self.begun is not None and now > self.begun + self.asked.timeout + grace

    def failed(self, fault: Fault) -> Observation:
        begun = time.monotonic() if self.begun is None else self.begun
        return Observation(self.asked.target, begun, time.monotonic(), self.wall or time.time(), fault)


def look_around(
    looks: Sequence[Look],
    references: Sequence[Endpoint],
    executor: Executor,
    *,
    timeout: float,
    dice: random.Random,
    grace: float = GRACE,
) -> Round:
    """Look at everything, on the executor's workers, and at the references before and after it.

    With a worker for each look it ends with the slowest look, at most its `timeout + grace` after it began, plus what
    an answer of a reference takes (at most `timeout`). A look given up counts as too slow; one that no worker took up,
    since all of them are stuck, is missing from the round: nothing is known of that mirror. Raises Cancelled where
    the executor was shut down.
    """
    started, wall_started = time.monotonic(), time.time()
    patience = min(timeout, PATIENCE)
    try:
        before = _try_references(references, executor, patience)
        runs = [_Running(asked, random.Random(dice.random())) for asked in looks]  # noqa: S311 - lots, no secrets
        observations = _all({executor.submit(run.run): run for run in runs}, grace)
        after = _try_references(references, executor, patience)
    except RuntimeError as e:
        raise Cancelled("looking at the mirrors: told to stop") from e
    seen_before, seen_after = _answers(before, patience), _answers(after, patience)
    return Round(
        started=started,
        ended=time.monotonic(),
        wall_started=wall_started,
        wall_ended=time.time(),
        observations=observations,
        before=seen_before,
        after=seen_after,
    )


def _all(runs: dict[Future[Observation], _Running], grace: float) -> tuple[Observation, ...]:
    """Wait for all looks, in the order asked for; give up those that are stuck."""
    pending = set(runs)
    idle_since = time.monotonic()
    longest = max((running.asked.timeout for running in runs.values()), default=0.0) + grace
    while pending:
        _, pending = wait(pending, _until_next(pending, runs, grace), FIRST_COMPLETED)
        now = time.monotonic()
        stuck = {future for future in pending if runs[future].overdue(now, grace)}
        waiting = {future for future in pending if runs[future].begun is None}
        if pending - stuck - waiting:
            idle_since = now  # somebody works, so those who wait will have their turn
        elif not waiting or now > idle_since + longest:
            break
    return tuple(seen for future, running in runs.items() if (seen := _outcome(future, running)) is not None)


def _until_next(pending: set[Future[Observation]], runs: dict[Future[Observation], _Running], grace: float) -> float:
    """Return the seconds after which one more look is overdue, if none is done before."""
    now = time.monotonic()
    limits = [run.begun + run.asked.timeout + grace - now for f in pending if (run := runs[f]).begun is not None]
    return max(0.01, min((limit for limit in limits if limit > 0), default=0.2) + 0.01)


def _outcome(future: Future[Observation], running: _Running) -> Observation | None:
    """Return what a look found, or that it is stuck; None where it never began."""
    if future.cancel():
        return None
    if not future.done():
        return running.failed(Fault(FaultKind.SLOW, "is too slow: the look at it did not end, and was given up"))
    try:
        return future.result()
    except CancelledError:
        return None


def _try_references(
    references: Sequence[Endpoint], executor: Executor, patience: float
) -> dict[Future[bool], Reference]:
    """Begin to connect to each."""
    begun: dict[Future[bool], Reference] = {}
    for each in references:
        future = executor.submit(_reach, each.address, each.port, patience)
        begun[future] = Reference(str(each), family(each.address), reachable=False)
    return begun


def _answers(begun: dict[Future[bool], Reference], patience: float) -> tuple[Reference, ...]:
    """Return who could be reached. A family of which one answered is not waited for: its silent ones are left out."""
    deadline = time.monotonic() + patience + GRACE
    pending = set(begun)
    answered = {begun[future].family for future in begun if _reached(future)}
    while (pending := {f for f in pending if begun[f].family not in answered}) and deadline > time.monotonic():
        done, pending = wait(pending, deadline - time.monotonic(), FIRST_COMPLETED)
        answered |= {begun[future].family for future in done if _reached(future)}
    return tuple(
        Reference(each.address, each.family, _reached(future))
        for future, each in begun.items()
        if future.done() or each.family not in answered
    )


def _reached(future: Future[bool]) -> bool:
    return future.done() and not future.cancelled() and future.result()


def _reach(address: str, port: int, patience: float) -> bool:
    """Tell whether a TCP connection comes about."""
    try:
        socket.create_connection((address, port), patience).close()
    except OSError:
        return False
    return True
