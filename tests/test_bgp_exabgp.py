"""The same publisher with ExaBGP in BIRD's place: told by pipes, believed by what it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.announcing import PORT, Announced, announced, killed, restarted
from tests.conftest import Lab
from tests.lab.processes import Server
from tests.lab.routing import reading


@pytest.fixture(scope="module", params=[4, 5])
def made(module_lab: Lab, request: pytest.FixtureRequest) -> Iterator[Announced]:
    """Readers are at milan; ExaBGP announces: each of the releases that the document names."""
    with announced(module_lab, "exabgp", release=request.param) as made:
        yield made


def test_a_planned_switch_loses_nobody(made: Announced) -> None:
    """
    One route takes the other's place: nothing is withdrawn first. A connection that stands in that very moment goes on
    to a mirror that never heard of it, and is reset: whoever asks again at once is answered.
    """
    with reading(made.net, PORT) as reader:
        moved = made.switch("lyon")
        back = made.switch("milan")
        made.stays_at("milan")

    assert (moved["result"], back["result"]) == ("done", "done"), moved
    assert reader.answered_by == ["milan", "lyon", "milan"]
    assert reader.lost == []


@pytest.mark.parametrize("who", ["speaker", "router"])
@pytest.mark.parametrize("restart", [killed, restarted])
def test_no_reader_is_lost_by_a_restart(made: Announced, who: str, restart: Callable[[Server], None]) -> None:
    """With the settings of the document: its process announces what the file says before the sessions stand."""
    with reading(made.net, PORT) as reader:
        restart(made.router if who == "router" else made.speaker)
        made.established()
        made.stays_at("milan")

    assert reader.answered_by == ["milan"]
    assert (reader.lost, reader.cut) == ([], [])


def test_the_doctor_has_the_speaker_show_that_it_would_obey(made: Announced) -> None:
    """On a quiet day: it listens, it could read its file, and a session stands."""
    made.established()

    found = {(one["what"], one["about"]): one for one in made.verb("doctor")["findings"]}
    assert found["switch", "web"]["level"] == "good", found["switch", "web"]


def test_no_reader_needs_mirrord(made: Announced) -> None:
    """It is killed, and it starts again: the route stays, and nothing moves."""
    with reading(made.net, PORT) as reader:
        made.watching()
        made.daemon.restart()
        made.daemon.kill()
        made.watching()

    assert reader.answered_by == ["milan"]
    assert (reader.lost, reader.cut) == ([], [])


def test_when_the_primary_goes_dark_nobody_is_lost_once_the_route_has_moved(made: Announced) -> None:
    """Nothing says goodbye: until it is seen readers are lost, and not one of them afterwards."""
    made.established()
    made.watching()
    try:
        with reading(made.net, PORT) as reader:
            made.net.darken("milan")
            made.leads_to("lyon")
            moved = reader.now()
            made.stays_at("lyon", 2)
    finally:
        made.light("milan")

    assert reader.answered_by == ["milan", "lyon"]
    assert [visit for visit in reader.lost if visit.at > moved] == []
    assert reader.lost  # somebody asked while milan was dark and not yet known to be
