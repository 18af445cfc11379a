"""The same publisher with ExaBGP in BIRD's place: told by pipes, believed by what it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.announcing import PORT, Announced, announced
from tests.conftest import Lab
from tests.lab.processes import Server
from tests.lab.routing import reading
from tests.lab.waiting import steadily


@pytest.fixture(scope="module")
def made(module_lab: Lab) -> Iterator[Announced]:
    """Readers are at milan; ExaBGP announces."""
    with announced(module_lab, "exabgp") as made:
        yield made


def killed(server: Server) -> None:
    """As by a power failure."""
    server.kill()
    server.start()


def restarted(server: Server) -> None:
    """On purpose."""
    server.restart()


def test_a_planned_switch_loses_nobody(made: Announced) -> None:
    """
    One route takes the other's place: nothing is withdrawn first. A connection that stands in that very moment goes on
    to a mirror that never heard of it, and is reset: whoever asks again at once is answered.
    """
    with reading(made.net, PORT) as reader:
        moved = made.switch("lyon")
        back = made.switch("milan")

    assert (moved["result"], back["result"]) == ("done", "done"), moved
    assert reader.answered_by == ["milan", "lyon", "milan"]
    assert reader.lost == []


@pytest.mark.parametrize("restart", [killed, restarted])
def test_exabgp_loses_no_reader_by_a_restart(made: Announced, restart: Callable[[Server], None]) -> None:
    """With the settings of the document: its process announces what the file says before the sessions stand."""
    with reading(made.net, PORT) as reader:
        restart(made.speaker)
        made.established()
        steadily(lambda: made.net.leads_to("milan"), 1, "the route to stay")

    assert reader.answered_by == ["milan"]
    assert (reader.lost, reader.cut) == ([], [])
