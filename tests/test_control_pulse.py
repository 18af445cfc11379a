"""Whether the daemon notices that something stands still, that it slept, and that the clock was set."""

from __future__ import annotations

from dataclasses import dataclass

from mirrord.control.pulse import Pulse
from mirrord.daemon import Clocks, Turns, Watch


@dataclass
class Time:
    """Clocks that are variables."""

    wall: float = 1_800_000_000.0
    monotonic: float = 1000.0
    boot: float = 1000.0

    def clocks(self) -> Clocks:
        """Return them as a daemon takes them."""
        return Clocks(lambda: self.wall, lambda: self.monotonic, lambda: self.boot)


def test_what_is_not_heard_of_in_time_is_overdue_until_it_gets_on_or_ends() -> None:
    """A watchdog must not be fed while looking, publishing or the reading of a zone stands still."""
    time = Time()
    pulse = Pulse(lambda: time.monotonic)
    pulse.expect("publishing to lyon", 100)
    pulse.expect("looking", 30)

    time.monotonic += 50
    assert pulse.overdue() == ["looking"]
    pulse.expect("looking", 30)
    assert pulse.overdue() == []
    time.monotonic += 60
    assert pulse.overdue() == ["looking", "publishing to lyon"]
    pulse.ended("publishing to lyon")
    pulse.ended("looking")
    assert pulse.overdue() == []


def test_a_machine_that_slept_is_told_from_a_clock_that_was_set() -> None:
    """The wall clock is ahead after both; only one of them is a fault of the clock."""
    time = Time()
    watch = Watch(time.clocks())

    time.wall, time.monotonic, time.boot = time.wall + 3601, time.monotonic + 1, time.boot + 3601
    assert watch.look() == (0.0, 3600.0)
    time.wall, time.monotonic, time.boot = time.wall - 3599, time.monotonic + 1, time.boot + 1
    assert watch.look() == (-3600.0, 0.0)


def test_a_round_that_falls_due_while_another_runs_begins_when_that_has_ended() -> None:
    """A dead host stretches every round to its deadline: with a quick rhythm each second tick would be lost."""
    rounds = Turns()

    assert rounds.begin()
    assert not rounds.begin()
    assert rounds.end()
    assert rounds.begin()
    assert not rounds.end()
