"""How many bytes a second may be sent at which time of day."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from mirrord.config.units import read_bandwidth, show_bandwidth
from mirrord.hosts.bandwidth import Bandwidth, Window
from mirrord.hosts.sftp.road import Allowance

NIGHT = Bandwidth(500_000, (Window(22 * 60, 7 * 60, 0), Window(12 * 60, 13 * 60, 2_000_000)))


def at(text: str) -> datetime:
    """Some day's local time."""
    return datetime.combine(date(2026, 11, 22), time.fromisoformat(text), UTC)


@pytest.mark.parametrize(
    ("moment", "rate"),
    [
        pytest.param("21:59:59", 500_000, id="before the window"),
        pytest.param("22:00:00", 0, id="its first second"),
        pytest.param("23:59:59", 0, id="the end of the day"),
        pytest.param("00:00:00", 0, id="midnight"),
        pytest.param("06:59:59", 0, id="its last second"),
        pytest.param("07:00:00", 500_000, id="after it"),
        pytest.param("12:30:00", 2_000_000, id="the other window"),
        pytest.param("13:00:00", 500_000, id="after the other window"),
    ],
)
def test_the_rate_is_that_of_the_time_of_day(moment: str, rate: int) -> None:
    """The office has the line by day, the mirror by night."""
    assert NIGHT.rate_at(at(moment)) == rate


@pytest.mark.parametrize(
    ("day", "hours"),
    [
        pytest.param(date(2026, 11, 22), 9, id="a day like others"),
        pytest.param(date(2026, 3, 28), 8, id="the night in which an hour is left out"),
        pytest.param(date(2026, 10, 24), 10, id="the night that has an hour twice"),
    ],
)
def test_the_clock_on_the_wall_counts_when_summer_time_begins_and_ends(day: date, hours: int) -> None:
    """People wrote down what the clock in the office shows, and it shows seven when they come."""
    here = ZoneInfo("Europe/Berlin")
    noon = datetime(day.year, day.month, day.day, 13, tzinfo=here).astimezone(UTC)

    free = [minute for minute in range(24 * 60 - 60) if _free(noon + timedelta(minutes=minute), here)]
    assert len(free) == hours * 60


def _free(instant: datetime, here: ZoneInfo) -> bool:
    return NIGHT.rate_at(instant.astimezone(here)) == 0


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        pytest.param("0", Bandwidth(), id="no limit"),
        pytest.param("10MB", Bandwidth(10_000_000), id="all day"),
        pytest.param("500kB, 22:00-07:00 0, 12:00-13:00 2MB", NIGHT, id="windows"),
        pytest.param("1kB, 9:00-24:00 1KiB", Bandwidth(1000, (Window(540, 1440, 1024),)), id="to midnight"),
        pytest.param(
            "0, 08:00-12:00 1MB, 12:00-18:00 2MB",
            Bandwidth(0, (Window(480, 720, 1_000_000), Window(720, 1080, 2_000_000))),
            id="windows that touch",
        ),
    ],
)
def test_a_schedule_is_read_as_it_is_written(text: str, meant: Bandwidth) -> None:
    """And written again as it is read: `config show` prints what can stand in the file."""
    assert read_bandwidth(text) == meant
    assert read_bandwidth(show_bandwidth(meant)) == meant


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("fast", 'such as "0", "10MB" or "500kB, 22:00-07:00 0"', id="no rate"),
        pytest.param("22:00-07:00 0", 'such as "0", "10MB" or "500kB, 22:00-07:00 0"', id="no usual rate"),
        pytest.param("1MB, at night 0", 'such as "22:00-07:00 2MB", not "at night 0"', id="no window"),
        pytest.param("1MB,", 'such as "22:00-07:00 2MB", not ""', id="an empty window"),
        pytest.param("1MB, 22:00-25:00 0", "times go from 00:00 to 24:00", id="hour"),
        pytest.param("1MB, 22:60-23:00 0", "times go from 00:00 to 24:00", id="minute"),
        pytest.param("1MB, 24:00-07:00 0", "times go from 00:00 to 24:00", id="begins at 24:00"),
        pytest.param("1MB, 07:00-07:00 0", "begins where it ends", id="nothing"),
        pytest.param("1MB, 00:00-24:00 0", "begins where it ends", id="all day"),
        pytest.param("1MB, 22:00-07:00 quick", '"quick" is no rate', id="the window's rate"),
        pytest.param(
            "1MB, 22:00-07:00 0, 06:59-08:00 2MB", "22:00-07:00 and 06:59-08:00 overlap", id="windows that overlap"
        ),
    ],
)
def test_each_fault_of_a_schedule_has_its_sentence(text: str, sentence: str) -> None:
    """Who wrote it must see which part is not understood."""
    with pytest.raises(ValueError, match=r".") as caught:
        read_bandwidth(text)
    assert sentence in str(caught.value)


class Clocks:
    """Two clocks that are set by hand."""

    def __init__(self, local: str) -> None:
        self.local = at(local)
        self.monotonic = 1000.0

    def pass_by(self, seconds: float) -> None:
        """Let both go on."""
        self.local += timedelta(seconds=seconds)
        self.monotonic += seconds


def sent_within(allowance: Allowance, clocks: Clocks, seconds: float) -> int:
    """Send 1,000 bytes whenever that is allowed; return how much it came to."""
    sent, until = 0, clocks.monotonic + seconds
    while clocks.monotonic < until:
        granted = allowance.grant(1000)
        sent += granted
        if not granted:
            clocks.pass_by(max(allowance.pause, 0.001))
    return sent


def test_an_allowance_follows_the_schedule_while_it_is_used() -> None:
    """A publish that takes hours meets other hours."""
    clocks = Clocks("11:59:50")
    allowance = Allowance(NIGHT, lambda: clocks.local, lambda: clocks.monotonic)

    before = sent_within(allowance, clocks, 10.0)
    clocks.pass_by(1.0)
    after = sent_within(allowance, clocks, 10.0)

    assert before == pytest.approx(5_000_000, rel=0.05)
    assert after == pytest.approx(20_000_000, rel=0.05)


def test_a_limit_that_ends_ends_at_once() -> None:
    """What is owed at the rate of the evening is not waited for at night."""
    clocks = Clocks("21:59:59")
    allowance = Allowance(NIGHT, lambda: clocks.local, lambda: clocks.monotonic)
    allowance.grant(100_000_000)
    assert not allowance.grant(1)
    assert allowance.pause == 1.0  # then it looks at the clock again

    clocks.pass_by(1.0)
    assert allowance.grant(10**12) == 10**12
    assert allowance.pause == 0.0


@pytest.mark.parametrize("step", [-7200.0, 600.0, 86400.0 * 365])
def test_a_clock_that_is_set_gives_nothing_away_and_owes_nothing(step: float) -> None:
    """Seconds are not counted by the wall clock: a step would pay for hours at once, or stop everything."""
    clocks = Clocks("09:00:00")
    allowance = Allowance(NIGHT, lambda: clocks.local, lambda: clocks.monotonic)
    sent_within(allowance, clocks, 2.0)

    clocks.local += timedelta(seconds=step)
    assert sent_within(allowance, clocks, 4.0) == pytest.approx(2_000_000, rel=0.2)


def test_less_is_sent_ahead_a_minute_before_a_lower_rate() -> None:
    """A heartbeat must not wait behind megabytes that go out at a few kilobytes a second."""
    clocks = Clocks("06:58:59")
    allowance = Allowance(NIGHT, lambda: clocks.local, lambda: clocks.monotonic)
    assert allowance.least == 0

    clocks.pass_by(1.0)
    assert allowance.grant(10**12) == 10**12  # still without a limit
    assert allowance.least == 500_000
