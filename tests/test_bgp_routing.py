"""Readers of a publisher with its own prefix: a router, mirrors, a speaker beside mirrord, and who is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.announcing import PORT, Announced, announced
from tests.conftest import Lab
from tests.lab.bird import Bird
from tests.lab.routing import ADDRESSES, reading
from tests.lab.waiting import steadily, until


@pytest.fixture(scope="module")
def made(module_lab: Lab) -> Iterator[Announced]:
    """Readers are at milan; BIRD announces."""
    with announced(module_lab) as made:
        yield made


def test_a_planned_switch_loses_nobody(made: Announced) -> None:
    """
    One route takes the other's place: nothing is withdrawn first. A connection that stands in that very moment goes on
    to a mirror that never heard of it, and is reset: whoever asks again at once is answered.
    """
    with reading(made.net, PORT) as reader:
        moved = made.switch("lyon")
        back = made.switch("milan")

    assert (moved["result"], back["result"]) == ("done", "done"), moved
    assert [one["ok"] for one in moved["evidence"]] == [True, True]
    assert reader.answered_by == ["milan", "lyon", "milan"]
    assert reader.lost == []


def test_a_mirror_without_the_services_address_is_found_out(made: Announced) -> None:
    """It serves well at its own address, and drops whatever is sent to the announced one: BIRD's word is not enough."""
    lyon = made.net.mirrors["lyon"]
    lyon.run(["ip", "addr", "del", f"{ADDRESSES[0]}/32", "dev", "lo"])
    try:
        moved = made.switch("lyon")
    finally:
        lyon.run(["ip", "addr", "add", ADDRESSES[0], "dev", "lo"])
        back = made.switch("milan")

    assert (moved["result"], moved["exit"], back["result"]) == ("partial", 3, "done")
    assert f"not seen to work through the announced address: {ADDRESSES[0]}: " in moved["text"]
    assert {one["where"]: one["ok"] for one in moved["evidence"]} == {ADDRESSES[0]: False, ADDRESSES[1]: True}


def killed(server: Bird) -> None:
    """As by a power failure, and started again as the document says."""
    server.kill()
    server.recovers = True
    server.start()


def restarted(server: Bird) -> None:
    """On purpose, as the document says."""
    server.ask("graceful", "restart")
    until(lambda: not server.running, 10, "BIRD to end")
    server.stop()
    server.recovers = True
    server.start()


def test_a_speaker_that_hangs_for_long_loses_nobody(lab: Lab) -> None:
    """Neither when the router takes it for dead, nor when it no longer expects it back soon: the last route stays."""
    with announced(lab, sooner=True) as made, reading(made.net, PORT) as reader:
        made.established()
        made.speaker.pause()
        until(lambda: "Established" not in made.router.ask("show", "protocols"), 20, "the router to lose patience")
        until(lambda: "(65535,6)" in made.router.ask("show", "route", "all"), 20, "the route to be long lived")
        steadily(lambda: made.net.leads_to("milan"), 2, "the route to stay")
        made.speaker.resume()

    assert reader.answered_by == ["milan"]
    assert (reader.lost, reader.cut) == ([], [])


@pytest.mark.parametrize("who", ["speaker", "router"])
@pytest.mark.parametrize("restart", [killed, restarted])
def test_neither_bird_loses_a_reader_by_a_restart(made: Announced, who: str, restart: Callable[[Bird], None]) -> None:
    """With the settings of the document, on both sides."""
    server = made.router if who == "router" else made.speaker
    assert isinstance(server, Bird)
    with reading(made.net, PORT) as reader:
        restart(server)
        made.established()
        steadily(lambda: made.net.leads_to("milan"), 1, "the route to stay")

    assert reader.answered_by == ["milan"]
    assert (reader.lost, reader.cut) == ([], [])


def test_no_reader_needs_mirrord(made: Announced) -> None:
    """It is killed, and it starts again: the route stays, and nothing moves."""
    with reading(made.net, PORT) as reader:
        made.daemon.start()
        made.daemon.restart()
        made.daemon.kill()
        made.daemon.start()
        until(lambda: made.service()["protected"]["ok"], 20, "protection")

    assert reader.answered_by == ["milan"]
    assert (reader.lost, reader.cut) == ([], [])


def test_a_speaker_whose_file_was_lost_is_given_it_again(made: Announced) -> None:
    """What is announced is intent: the journal has it, and giving it again moves nobody."""
    if not made.daemon.running:
        made.daemon.start()
    before = made.file.read_text()
    made.file.write_text("")
    made.speaker.kill()
    made.speaker.start()

    until(lambda: made.file.read_text() == before, 10, "the file to be there again")
    made.leads_to("milan")
    assert made.service()["epoch"] == int(before.partition("epoch=")[2].split()[0])


def test_when_the_primary_goes_dark_nobody_is_lost_once_the_route_has_moved(made: Announced) -> None:
    """Nothing says goodbye: until it is seen readers are lost, and not one of them afterwards."""
    made.established()
    with reading(made.net, PORT) as reader:
        made.net.darken("milan")
        made.leads_to("lyon")
        moved = reader.now()
        steadily(lambda: made.net.leads_to("lyon"), 2, "the route to stay")

    assert reader.answered_by == ["milan", "lyon"]
    assert [visit for visit in reader.lost if visit.at > moved] == []
    assert reader.lost  # somebody asked while milan was dark and not yet known to be
