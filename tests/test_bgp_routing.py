"""Readers of a publisher with its own prefix: a router, mirrors, a speaker beside mirrord, and who is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.announcing import PORT, Announced, announced, killed, restarted
from tests.conftest import Lab
from tests.lab.bird import Bird
from tests.lab.routing import ADDRESSES, MIRRORS, reading
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
        made.stays_at("milan")

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


@pytest.mark.parametrize("how", ["hangs", "is cut off"])
def test_a_speaker_that_is_not_heard_for_long_loses_nobody(lab: Lab, how: str) -> None:
    """
    Neither when the router takes it for dead, nor when it no longer expects it back soon: the last route stays. One
    that hung is killed, and comes back as after a restart. One that was cut off does not say that it kept its routes,
    and the router takes them anew (RFC 4724, section 4.2): the document says so.
    """
    with announced(lab, sooner=True) as made, reading(made.net, PORT) as reader:
        made.established()
        if how == "hangs":
            made.speaker.pause()
        else:
            made.net.darken("speaker")
        until(lambda: "Established" not in made.router.ask("show", "protocols"), 20, "the router to lose patience")
        until(lambda: "(65535,6)" in made.router.ask("show", "route", "all"), 20, "the route to be long lived")
        made.stays_at("milan", 2)
        back = reader.now()
        if how == "hangs":
            killed(made.speaker)
        else:
            made.net.light("speaker")
        made.established()
        made.leads_to("milan")
        made.stays_at("milan")

    assert reader.answered_by == ["milan"]
    assert [visit for visit in reader.lost if how == "hangs" or visit.at < back - reader.patience] == []


@pytest.mark.parametrize("who", ["speaker", "router"])
@pytest.mark.parametrize("restart", [killed, restarted])
def test_neither_bird_loses_a_reader_by_a_restart(made: Announced, who: str, restart: Callable[[Bird], None]) -> None:
    """With the settings of the document, on both sides."""
    server = made.router if who == "router" else made.speaker
    assert isinstance(server, Bird)
    with reading(made.net, PORT) as reader:
        restart(server)
        made.established()
        made.stays_at("milan")

    assert reader.answered_by == ["milan"]
    assert (reader.lost, reader.cut) == ([], [])


def test_no_reader_needs_mirrord(made: Announced) -> None:
    """It is killed, and it starts again: the route stays, and nothing moves."""
    with reading(made.net, PORT) as reader:
        made.daemon.start()
        made.daemon.restart()
        made.daemon.kill()
        made.watching()

    assert reader.answered_by == ["milan"]
    assert (reader.lost, reader.cut) == ([], [])


def test_the_doctor_has_the_speaker_show_that_it_would_obey(made: Announced) -> None:
    """On a quiet day: it listens, it could read its file, and a session stands."""
    made.established()

    found = {(one["what"], one["about"]): one for one in made.verb("doctor")["findings"]}
    assert found["switch", "web"]["level"] == "good", found["switch", "web"]


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


def test_when_everything_looks_down_the_last_route_stays(made: Announced) -> None:
    """More likely we are cut off than all of them gone; and a route to a dead mirror harms nobody."""
    made.watching()
    for mirror in MIRRORS:
        made.net.darken(mirror)
    try:
        until(lambda: {line["verdict"] for line in made.verb("status")["mirrors"]} == {"down"}, 20, "both to be down")
        made.stays_at("milan", 2)
    finally:
        made.light(*MIRRORS)


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


def test_readers_notice_a_gap(made: Announced) -> None:
    """
    Had they missed it, no other test here would prove anything: a route that is gone for a moment, so that one request
    at each address falls into it.
    """
    assert isinstance(made.speaker, Bird)
    made.daemon.stop()  # it would give the announcement again
    with reading(made.net, PORT) as reader:
        made.speaker.ask("disable", '"mirrord_web_*"')
        until(lambda: not made.net.routes(), 10, "the routes to go")
        steadily(lambda: not made.net.routes(), 2 * reader.every, "the gap")
        made.speaker.ask("enable", '"mirrord_web_*"')
        made.leads_to("milan")
        until(lambda: all(map(made.answers, ADDRESSES)), 10, "pages")

    assert reader.lost
    assert (reader.answered_by, reader.cut) == (["milan"], [])
