"""How does a layout ask for work without doing any?

A layout is a generator: it yields flights of operations, is sent their outcomes, and returns what it found.
Between two flights lies a barrier: all of one is answered before the next is sent. Within one flight that is
not `ordered`, operations are done in any order, so any subset of them must be a state that a crash may leave.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from mirrord.errors import Full, Refused, Unavailable
from mirrord.hosts.files import Op, Outcome, Trouble
from mirrord.manifest import show

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Flight:
    """Operations that are sent together; the answer is their outcomes, in the ops' order where `ordered`."""

    ops: Iterable[Op]
    ordered: bool = False
    each: Callable[[Outcome], object] | None = None
    """Called with every outcome as it arrives; then they are not collected."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for so many seconds; the answer is empty."""

    seconds: float


Steps = Generator[Flight | Pause, list[Outcome], T]
"""What a layout's verbs are: generators of flights that return a `T`."""


def need(outcome: Outcome, doing: str) -> Outcome:
    """Return the outcome if it is good, else raise what its trouble means to the caller."""
    if not outcome.good:
        give_up(outcome, doing)
    return outcome


def give_up(outcome: Outcome, doing: str) -> NoReturn:
    """Raise Unavailable where something vanished under our hands, Full, and Refused where a person must look."""
    words = outcome.text or (outcome.trouble.value if outcome.trouble else "no reason given")
    what = f"{doing}: {name_of(outcome.op)}: the server says {words!r}"
    if outcome.trouble is Trouble.MISSING:
        raise Unavailable(f"{what}; it vanished while we worked, the next try looks again")
    if outcome.trouble is Trouble.FULL:
        raise Full(f"{what}; its disk or the account's quota is full, most likely: make room there")
    if outcome.trouble is Trouble.DENIED:
        raise Refused(f"{what}; give the account the right to write there")
    raise Refused(f"{what}; look there, and at the account's quota")


def name_of(op: Op) -> str:
    """Name the path that an operation is about, for people."""
    path: bytes = op.new if hasattr(op, "new") else op.path
    return show(path) or "the account's root"
