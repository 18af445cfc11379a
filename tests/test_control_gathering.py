"""All mirrors as one: who waits for whom before the switch, and for how long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from mirrord.control.gathering import Gathering, Stage, enough
from mirrord.errors import Cancelled, Unavailable
from mirrord.publish import Together

ALL, EACH, TWO = None, 0, 2
C, A, R, S, F = Stage.COMING, Stage.AWAY, Stage.READY, Stage.SERVES, Stage.FAILED


@pytest.mark.parametrize(
    ("needed", "stages", "go"),
    [
        pytest.param(EACH, (R, C, C), True, id="nobody waits unless told to"),
        pytest.param(ALL, (R, R, C), False, id="all: one is coming"),
        pytest.param(ALL, (R, R, R), True, id="all: everybody stands ready"),
        pytest.param(ALL, (R, S, F), True, id="all: one failed, one served it before"),
        pytest.param(ALL, (R, R, A), True, id="all: one cannot be reached"),
        pytest.param(ALL, (R, A, C), False, id="all: one is coming, one cannot be reached"),
        pytest.param(TWO, (R, C, C), False, id="two: the first"),
        pytest.param(TWO, (R, R, C), True, id="two: the second"),
        pytest.param(TWO, (R, S, C), True, id="two: one serves it already"),
        pytest.param(TWO, (R, F, C), False, id="two: another may still come"),
        pytest.param(TWO, (R, F, F), True, id="two: nobody else can come"),
        pytest.param(5, (R, R, R), True, id="more than there are"),
    ],
)
def test_those_that_stand_ready_go_when_enough_do(needed: int | None, stages: tuple[Stage, ...], go: bool) -> None:
    """Content is never withheld for somebody who cannot come."""
    assert enough(dict(zip("abc", stages, strict=True)), needed) is go


def test_who_was_away_counts_only_once_he_serves() -> None:
    """A mirror that comes back has proved nothing yet."""
    assert not enough({"a": R, "b": R, "c": C}, 2, late={"b"})
    assert enough({"a": R, "b": S, "c": C}, 2, late={"b"})
    assert enough({"a": R, "b": R, "c": F}, 2, late={"b"})


class Runs:
    """The runs of a few mirrors, each in a thread that tells when it waits and when it went."""

    def __init__(self, crew: ThreadPoolExecutor, gathering: Gathering, *mirrors: str) -> None:
        self.crew = crew
        self.gathering = gathering
        self.waiting = {mirror: threading.Event() for mirror in mirrors}
        gathering.expect(mirrors)

    def stand_ready(self, mirror: str, beat: Callable[[], None] = lambda: None) -> Future[None]:
        """Let a mirror stand ready; returns once it waits, or went."""

        def live() -> None:
            self.waiting[mirror].set()
            beat()

        went = self.crew.submit(self.gathering.ready, mirror, live)
        went.add_done_callback(lambda _: self.waiting[mirror].set())
        return went


@pytest.fixture
def crew() -> Iterator[ThreadPoolExecutor]:
    """Enough workers for all."""
    made = ThreadPoolExecutor(8)
    yield made
    made.shutdown(wait=False)


def wake(runs: Runs, *mirrors: str) -> None:
    """Have those that wait look up once, and wait until they did."""
    for mirror in mirrors:
        runs.waiting[mirror].clear()
    runs.gathering.reached("nobody")
    runs.gathering.ended("nobody", serves=False)
    for mirror in mirrors:
        assert runs.waiting[mirror].wait(10)


def test_all_go_at_once_when_the_last_stands_ready(crew: ThreadPoolExecutor) -> None:
    """Readers of two mirrors must not see two different days for the hour that the third takes."""
    runs = Runs(crew, Gathering(Together(ALL, 600)), "milan", "lyon", "oslo")
    early = [runs.stand_ready("milan"), runs.stand_ready("lyon")]
    wake(runs, "milan", "lyon")
    assert not any(went.done() for went in early)

    runs.stand_ready("oslo").result(10)
    assert [went.result(10) for went in early] == [None, None]


def test_a_run_that_fails_lets_the_others_go(crew: ThreadPoolExecutor) -> None:
    """A full disk in Oslo is no reason to withhold the news in Milan."""
    runs = Runs(crew, Gathering(Together(ALL, 600)), "milan", "oslo")
    milan = runs.stand_ready("milan")
    wake(runs, "milan")
    assert not milan.done()

    runs.gathering.ended("oslo", serves=False)
    milan.result(10)


def test_who_cannot_be_reached_costs_no_waiting_and_joins_when_he_can(crew: ThreadPoolExecutor) -> None:
    """A dead mirror is tried several times; the others need not watch that."""
    runs = Runs(crew, Gathering(Together(ALL, 600)), "milan", "lyon", "oslo")
    milan = runs.stand_ready("milan")
    runs.gathering.missed("oslo")
    wake(runs, "milan")
    assert not milan.done()

    runs.gathering.reached("oslo")
    lyon = runs.stand_ready("lyon")
    wake(runs, "milan", "lyon")
    assert not lyon.done()
    runs.gathering.missed("oslo")
    assert [went.result(10) for went in (milan, lyon)] == [None, None]


def test_nobody_waits_longer_than_allowed(crew: ThreadPoolExecutor) -> None:
    """A mirror on a slow line may take hours: content is never withheld for ever."""
    now = [1000.0]
    runs = Runs(crew, Gathering(Together(ALL, 600), lambda: now[0]), "milan", "lyon")
    now[0] += 5000  # staging takes as long as it takes
    milan = runs.stand_ready("milan")
    now[0] += 599
    wake(runs, "milan")
    assert not milan.done()

    now[0] += 1
    runs.gathering.reached("lyon")
    milan.result(10)


def test_as_soon_as_two_stand_ready_they_go_and_the_others_as_they_come(crew: ThreadPoolExecutor) -> None:
    """`together = "2"`: readers find the news at two places, and the slow line catches up."""
    runs = Runs(crew, Gathering(Together(TWO, 600)), "milan", "lyon", "oslo")
    milan = runs.stand_ready("milan")
    wake(runs, "milan")
    assert not milan.done()

    lyon = runs.stand_ready("lyon")
    assert [went.result(10) for went in (milan, lyon)] == [None, None]
    runs.stand_ready("oslo").result(10)


def test_a_mirror_whose_line_is_cut_while_it_waits_is_waited_for_again(crew: ThreadPoolExecutor) -> None:
    """After a long wait the connection may be dead; what was staged is kept, and the next try stands ready soon."""

    def cut() -> None:
        raise Unavailable("the line is cut")

    runs = Runs(crew, Gathering(Together(ALL, 600)), "milan", "lyon")
    lyon = runs.stand_ready("lyon", cut)
    wake(runs, "lyon")
    with pytest.raises(Unavailable):
        lyon.result(10)
    again = runs.stand_ready("lyon")
    wake(runs, "lyon")
    assert not again.done()

    runs.stand_ready("milan").result(10)
    again.result(10)


def test_who_waits_stops_at_once(crew: ThreadPoolExecutor) -> None:
    """Ctrl-C, or the daemon's stop: not after the wait."""
    runs = Runs(crew, Gathering(Together(ALL, 600)), "milan", "lyon")
    milan = runs.stand_ready("milan")
    wake(runs, "milan")

    runs.gathering.cancel()
    with pytest.raises(Cancelled):
        milan.result(10)


def test_how_far_apart_the_switches_were_is_known() -> None:
    """The first switch counts: a second one is the same readers again."""
    now = [0.0]
    gathering = Gathering(Together(ALL, 600), lambda: now[0])
    gathering.expect(["milan", "lyon", "oslo"])
    for mirror, at in (("lyon", 5.0), ("milan", 5.25), ("lyon", 9.0)):
        now[0] = at
        gathering.switched(mirror)

    assert gathering.switches() == {"lyon": 0.0, "milan": 0.25}
    assert gathering.skew == 0.25


def test_one_switch_alone_has_no_skew() -> None:
    """0 would say that two were at the same moment."""
    gathering = Gathering(Together())
    gathering.switched("milan")

    assert gathering.skew is None
