"""Rounds of looks made by hand, for tests of what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from mirrord.health import (
    Fault,
    FaultKind,
    Fresh,
    Health,
    Observation,
    Reference,
    Round,
    Standing,
    Target,
    Thresholds,
    Verdict,
    freshly,
)
from tests.world import NAME, SERVICE, START, card, references

Sight = Callable[[float, float], Observation]
"""What a look finds, given our monotonic and our wall clock."""

V4, OTHER_V4, V6 = "192.0.2.1", "192.0.2.2", "2001:db8::1"


def sight(
    fault: FaultKind | None = None,
    *,
    mirror: str = "milan",
    address: str = V4,
    name: str = NAME,
    serial: int | None = 1,
    markers: bool = False,
    right: Iterable[bytes] = (b"index.html",),
    wrong: Iterable[bytes] = (),
    settling: Iterable[bytes] = (),
    dropped: Iterable[bytes] = (),
    ahead: float | None = None,
    days: float | None = None,
    text: str = "does not do",
) -> Sight:
    """Say what a look finds; any fault but the certificate's dates hides the content. `ahead` is the mirror's clock."""
    seen_through = fault in (None, FaultKind.CLOCK)

    def at(now: float, wall: float) -> Observation:
        return Observation(
            target=Target(mirror, SERVICE, name, address, markers=markers),
            started=now,
            ended=now + 0.2,
            wall=wall,
            fault=None if fault is None else Fault(fault, text),
            snapshot=card(serial) if serial is not None and seen_through and not markers else None,
            right=frozenset(right) if seen_through else frozenset(),
            wrong=dict.fromkeys(wrong, "has other bytes"),
            settling=frozenset(settling),
            dropped=frozenset(dropped),
            certificate_days=days,
            date_offset=ahead,
        )

    return at


GONE = sight(FaultKind.UNREACHABLE)
WELL = sight()


@dataclass
class Watch:
    """Shows rounds to a standing, one every 30 s."""

    thresholds: Thresholds = field(default_factory=Thresholds)
    standing: Standing = field(default_factory=Standing)
    now: float = 1000.0
    wall: float = START.timestamp()
    published: Mapping[str, float] = field(default_factory=dict)
    badtime: float | None = None

    def see(
        self,
        *sights: Sight,
        times: int = 1,
        before: tuple[Reference, ...] | None = None,
        after: tuple[Reference, ...] | None = None,
        every: float = 30.0,
    ) -> Self:
        """Show the same sights in so many rounds; references answer unless told otherwise."""
        for _ in range(times):
            seen = self.round(*sights, before=before, after=after)
            self.standing = self.standing.after(seen, self.thresholds, published=self.published, badtime=self.badtime)
            self.sleep(every)
        return self

    def round(
        self,
        *sights: Sight,
        before: tuple[Reference, ...] | None = None,
        after: tuple[Reference, ...] | None = None,
        lasting: float = 0.5,
        asleep: float = 0.0,
    ) -> Round:
        """Make one round that ends `lasting` later, in the middle of which the machine slept for `asleep`."""
        return Round(
            started=self.now,
            ended=self.now + lasting,
            wall_started=self.wall,
            wall_ended=self.wall + lasting + asleep,
            observations=tuple(at(self.now, self.wall) for at in sights),
            before=references() if before is None else before,
            after=references() if after is None else after,
        )

    def sleep(self, seconds: float) -> Self:
        """Let time pass without a look."""
        self.now += seconds
        self.wall += seconds
        return self

    def fresh(self, *sights: Sight, before: tuple[Reference, ...] | None = None, mirror: str = "milan") -> Fresh:
        """Make one fresh look."""
        seen = self.round(*sights, before=before)
        return freshly(seen, self.standing, mirror, SERVICE, self.thresholds, published=self.published)

    def health(self, mirror: str = "milan") -> Health:
        """What is held true of a mirror."""
        return self.standing.health(mirror, SERVICE)

    @property
    def verdict(self) -> Verdict:
        """The verdict on milan."""
        return self.health().verdict
