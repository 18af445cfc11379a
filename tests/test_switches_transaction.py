from __future__ import annotations

import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from mirrord.errors import Braked, Refused, Unavailable
from mirrord.journal import Journal
from mirrord.switches import (
    Change,
    Endpoint,
    Following,
    Kind,
    NameServers,
    Result,
    SentKind,
    Switch,
    ZoneState,
    open_switch,
)
from mirrord.switches.rfc2136 import Rfc2136
from mirrord.switches.transaction import Patience, followed, remember_name_servers
from tests.conftest import Lab
from tests.lab.bind import Bind
from tests.lab.knot import Knot
from tests.lab.nameserver import NameServer
from tests.lab.ports import free_port
from tests.lab.waiting import until
from tests.switching import (
    KINDS,
    SILENCE,
    TEXT,
    Desk,
    Road,
    answer_to,
    desk,
    endpoint,
    every_kind,
    human,
    settings,
)

LYON = "198.51.100.20"
MILAN = "192.0.2.10"
WWW = "www.example.org"


@pytest.fixture(params=[Bind, Knot], ids=["bind", "knot"])
def primary(request: pytest.FixtureRequest, lab: Lab) -> NameServer:
    """The zone's primary; both kinds must do, and where a test says so every kind."""
    kind: type[NameServer] = request.param
    return lab._keep(kind(lab.folder("primary"), text=TEXT), start=True)


@pytest.fixture
def bind(lab: Lab) -> Bind:
    """A primary, where its kind does not matter."""
    return lab.bind(text=TEXT)


@pytest.fixture
def new_journal(tmp_path: Path) -> Iterator[Callable[[], Journal]]:
    """Opens journals: each another controller's."""
    opened: list[Journal] = []

    def make() -> Journal:
        opened.append(Journal(tmp_path / f"journal{len(opened)}.sqlite"))
        return opened[-1]

    yield make
    for journal in opened:
        journal.close()


@pytest.fixture
def journal(new_journal: Callable[[], Journal]) -> Journal:
    """An empty journal."""
    return new_journal()


def at_milan(journal: Journal, *roads: NameServer | Road, key_of: NameServer, timeout: float = 2.0) -> Desk:
    """A controller that took the zone over as it stood, and now goes over these roads."""
    assert desk(journal, key_of, key=key_of.key).move("milan").kind is Kind.DONE
    return desk(journal, *(roads or (key_of,)), key=key_of.key, authoritative=[key_of], timeout=timeout)


def wait_for(secondary: NameServer) -> None:
    """Wait until a secondary has the zone as it was first."""
    until(lambda: secondary.holds(WWW, "A", MILAN))


# -- how a switch ends


def test_a_switch_that_every_server_follows_is_done(lab: Lab, new_journal: Callable[[], Journal]) -> None:
    """The primary and a secondary that follows by NOTIFY have the new data, and readers know until when to wait."""
    for kind in KINDS:
        first, second = lab.followed(kind, kind, text=TEXT)
        wait_for(second)
        controller = desk(new_journal(), first, key=first.key, authoritative=[first, second])

        result = controller.move("lyon")
        assert (result.kind, result.exit_code) == (Kind.DONE, 0)
        assert second.holds(WWW, "A", LYON)
        assert result.text == "web: moved from milan to lyon (epoch 1)"
        assert result.committed is not None
        assert result.follow_by == result.committed + 300


def test_a_server_that_cannot_be_asked_is_named_and_blocks_nothing(bind: Bind, journal: Journal) -> None:
    """The other name server stood in the datacentre that is gone."""
    dead = Endpoint("127.0.0.1", free_port())
    controller = desk(journal, bind, key=bind.key, authoritative=[bind, dead])

    result = controller.move("lyon")
    assert result.kind is Kind.DONE
    assert result.text.endswith(f"; not to be asked: 127.0.0.1:{dead.port}: connection refused")


def test_a_server_that_still_gives_the_old_data_makes_it_partial(lab: Lab, bind: Bind, journal: Journal) -> None:
    """It is committed and cannot be taken back: the rest is watched on, and the next move may start."""
    behind = lab.bind(text=TEXT)
    controller = desk(journal, bind, key=bind.key, authoritative=[bind, behind])
    controller.patience = Patience(follow=0.2)

    result = controller.move("lyon")
    assert (result.kind, result.exit_code) == (Kind.PARTIAL, 3)
    assert f"some still give the old data: 127.0.0.1:{behind.port}" in result.text
    assert journal.intent("web") is None
    assert controller.move("oslo").kind is Kind.PARTIAL


def test_a_switch_that_no_authoritative_server_confirms_is_not_done(bind: Bind, journal: Journal) -> None:
    """Committed at a hidden primary, but nobody whom readers ask was seen to have it."""
    controller = desk(journal, bind, key=bind.key, authoritative=[Endpoint("127.0.0.1", free_port())])

    result = controller.move("lyon")
    assert result.kind is Kind.PARTIAL
    assert "no authoritative server was seen to have it" in result.text
    assert not followed(result.followers)


def test_readers_follow_by_the_ttl_that_was_served_before(primary: NameServer, journal: Journal) -> None:
    """Resolvers keep the old answer for as long as it told them, not as long as the new one tells."""
    controller = at_milan(journal, key_of=primary)
    human(primary, ("replace", "www", 900, "A", MILAN))

    result = controller.move("lyon")
    assert result.kind is Kind.DONE
    assert result.committed is not None
    assert result.follow_by == result.committed + 900


def test_told_to_stop_it_does_not_wait_for_followers(lab: Lab, bind: Bind, journal: Journal) -> None:
    """The daemon must end within seconds; the change is committed and written down before."""
    behind = lab.bind(text=TEXT)
    controller = desk(journal, bind, key=bind.key, authoritative=[bind, behind])
    controller.patience = Patience(follow=60.0)
    stop = threading.Event()
    stop.set()

    result = controller.run(controller.plan("lyon"), stop=stop)
    assert result.kind is Kind.PARTIAL
    assert journal.expected("web") == result.change.to


@every_kind
def test_a_human_who_changed_a_and_left_the_txt_is_not_overwritten(primary: NameServer, journal: Journal) -> None:
    """An epoch alone is no fence: the addresses themselves are compared, by the server, in the same step."""
    controller = at_milan(journal, key_of=primary)
    change = controller.plan("lyon")
    human(primary, ("replace", "www", 60, "A", "192.0.2.99"))

    result = controller.run(change)
    assert (result.kind, result.exit_code) == (Kind.UNCHANGED, 5)
    assert f"{WWW}: A is 192.0.2.99 where we left {MILAN}" in result.text
    assert "`mirrord switch web --adopt`" in result.text
    assert primary.holds(WWW, "A", "192.0.2.99")
    assert journal.intent("web") is None
    assert controller.look().comparison.state is ZoneState.FOREIGN


@every_kind
def test_a_cname_at_the_name_stops_the_move(primary: NameServer, journal: Journal) -> None:
    """BIND and Knot would answer NOERROR, move the TXT, and leave the name as it was."""
    controller = at_milan(journal, key_of=primary)
    change = controller.plan("lyon")
    human(primary, ("delete", "www"), ("add", "www", 60, "CNAME", "ns1"))
    fence = primary.query(f"_mirrord.{WWW}", "TXT")

    assert controller.run(change).kind is Kind.UNCHANGED
    assert primary.query(f"_mirrord.{WWW}", "TXT") == fence
    assert controller.look().comparison.state is ZoneState.FOREIGN


def test_a_wrong_key_changes_nothing_and_closes_the_plan(primary: NameServer, journal: Journal) -> None:
    """A person must act; until then nothing is pending."""
    controller = at_milan(journal, key_of=primary)
    wrong = desk(journal, primary, key=replace(primary.key, secret="c2VjcmV0"))

    result = wrong.move("lyon")
    assert (result.kind, result.exit_code) == (Kind.UNCHANGED, 5)
    assert "BADSIG" in result.text
    assert journal.intent("web") is None
    assert controller.move("lyon").kind is Kind.DONE


def test_a_wrong_clock_changes_nothing_and_is_reported(primary: NameServer, journal: Journal) -> None:
    """The difference travels with the result: with such a clock nothing is to be decided."""
    at_milan(journal, key_of=primary)
    switch = Rfc2136(settings(primary, key=primary.key), clock=lambda: time.time() + 3600)

    result = Desk(switch, journal).move("lyon")
    assert result.kind is Kind.UNCHANGED
    assert result.sent is not None
    assert result.sent.clock_difference == pytest.approx(-3600, abs=5)


@pytest.mark.parametrize("wrong", ["name", "algorithm", "secret", "clock"])
def test_powerdns_refuses_what_does_not_fit_without_a_signature(lab: Lab, journal: Journal, wrong: str) -> None:
    """It says REFUSED for a wrong key and for a wrong clock alike: the sentence names all that may be wrong."""
    primary = lab.powerdns(text=TEXT)
    controller = at_milan(journal, key_of=primary)
    others = {"name": "mirrors", "algorithm": "hmac-sha512", "secret": "c2VjcmV0"}
    key = replace(primary.key, **{wrong: others[wrong]}) if wrong in others else primary.key
    ahead = 3600 if wrong == "clock" else 0
    misfit = Rfc2136(settings(primary, key=key), clock=lambda: time.time() + ahead)

    result = Desk(misfit, journal).move("lyon")
    assert (result.kind, result.exit_code) == (Kind.UNCHANGED, 5)
    assert "the TSIG name, algorithm, secret or the clock do not fit" in result.text
    assert journal.intent("web") is None
    assert controller.move("lyon").kind is Kind.DONE


def test_a_refusal_that_nobody_signed_is_believed_after_reading(primary: NameServer, journal: Journal) -> None:
    """PowerDNS refuses a wrong key so. What stands says whether it was applied."""
    with Road(primary) as road:
        controller = at_milan(journal, road, key_of=primary)
        road.on_update = lambda wire: answer_to(wire, dns.rcode.REFUSED)
        refused = controller.move("lyon")

        def lie(wire: bytes) -> bytes:
            road.forward(wire)
            return answer_to(wire, dns.rcode.REFUSED)

        road.on_update = lie
        applied = controller.move("lyon")

    assert (refused.kind, applied.kind) == (Kind.UNCHANGED, Kind.DONE)


def test_a_refusal_that_nobody_signed_is_not_believed_without_reading(bind: Bind, journal: Journal) -> None:
    """The server refuses, and then says nothing more: whether it was applied is unknown."""
    with Road(bind) as road:
        controller = at_milan(journal, road, key_of=bind, timeout=1.5)

        def refuse_and_fall_silent(wire: bytes) -> bytes:
            road.on_query = lambda _: SILENCE
            return answer_to(wire, dns.rcode.REFUSED)

        road.on_update = refuse_and_fall_silent
        result = controller.move("lyon")

    assert result.kind is Kind.UNKNOWN
    assert "reading what stands" in result.text


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_a_refusal_of_what_was_sent_before_says_nothing_about_the_first_time(
    bind: Bind, journal: Journal, signed: bool
) -> None:
    """The first update may still sit in a queue: that the second one is refused does not close the plan."""
    with Road(bind, on_update=lambda _: None) as road:
        controller = at_milan(journal, road, key_of=bind)
        controller.patience = Patience(commit=0.1)
        controller.move("lyon")
        road.on_update = lambda wire: answer_to(wire, dns.rcode.REFUSED, bind.key if signed else None)
        found = controller.resolve(again=True)

    assert found is not None
    assert (found.kind, found.exit_code) == (Kind.UNKNOWN, 75)
    assert journal.intent("web") is not None


def test_a_secret_that_cannot_be_read_leaves_no_plan_open(bind: Bind, journal: Journal) -> None:
    """Nothing was sent: the next try, with the file mended, starts afresh."""
    controller = at_milan(journal, key_of=bind)
    broken = desk(journal, bind, key=replace(bind.key, secret="?"))

    with pytest.raises(Refused):
        broken.move("lyon")
    assert journal.intent("web") is None
    assert controller.move("lyon").kind is Kind.DONE


def test_with_every_server_dead_nothing_is_sent_and_it_is_tried_later(bind: Bind, journal: Journal) -> None:
    """The sentence names each road; the exit code says: try again later."""
    controller = at_milan(journal, key_of=bind)
    change = controller.plan("lyon")
    bind.stop()

    result = controller.run(change)
    assert (result.kind, result.exit_code) == (Kind.UNCHANGED, 75)
    assert f"no road can be used, nothing was sent: 127.0.0.1:{bind.port}: connection refused" in result.text
    assert journal.intent("web") is None
    with pytest.raises(Unavailable, match="no road answers"):
        controller.look()


# -- whatever is lost on the way


@every_kind
def test_an_answer_that_is_lost_does_not_matter_where_the_zone_has_our_nonce(
    primary: NameServer, journal: Journal
) -> None:
    """Applied, and the answer dropped: what stands is the result."""
    with Road(primary) as road:
        controller = at_milan(journal, road, key_of=primary)

        def lose(wire: bytes) -> None:
            road.forward(wire)

        road.on_update = lose
        result = controller.move("lyon")

    assert result.kind is Kind.DONE
    assert result.sent is not None
    assert result.sent.kind is SentKind.UNKNOWN
    assert len(road.updates) == 1


@every_kind
def test_a_server_that_dies_between_the_update_and_its_answer_is_asked_when_it_is_back(
    primary: NameServer, journal: Journal
) -> None:
    """It took the update with it, or lost it: either is found out, and readers are where it says in both cases."""
    with Road(primary) as road:
        controller = at_milan(journal, road, key_of=primary, timeout=1.0)
        controller.patience = Patience(commit=0.1)

        def die(wire: bytes) -> None:
            road.forward(wire)
            primary.kill()

        road.on_update = die
        result = controller.move("lyon")
        gone = controller.resolve()
        road.on_update = None
        primary.start()
        found = controller.resolve(again=False)
        state = controller.look().comparison.state

    assert gone is not None
    assert (result.kind, gone.kind) == (Kind.UNKNOWN, Kind.UNKNOWN)
    assert found is not None
    assert found.kind in (Kind.DONE, Kind.UNCHANGED)
    assert primary.holds(WWW, "A", LYON if found.kind is Kind.DONE else MILAN)
    assert state is ZoneState.OURS


@every_kind
def test_a_plan_that_a_stopped_server_applies_after_we_gave_up_waiting_is_found_out(
    primary: NameServer, journal: Journal
) -> None:
    """The server hangs with the update in its queue: unknown, nothing else starts, and when it wakes we know."""
    with Road(primary) as road:
        controller = at_milan(journal, road, key_of=primary, timeout=1.5)
        controller.patience = Patience(commit=0.5)
        with socket.create_connection(("127.0.0.1", primary.port)) as queue:

            def stop_with_it(wire: bytes) -> bytes:
                primary.pause()
                queue.sendall(struct.pack("!H", len(wire)) + wire)
                return SILENCE

            road.on_update = stop_with_it
            result = controller.move("lyon")
            asleep = controller.resolve()
            intent = journal.intent("web")
            assert intent is not None
            with pytest.raises(Braked, match="nothing else starts") as braked:
                controller.run(controller.plan_from(intent.change.from_, "oslo"))
            primary.resume()
            until(lambda: primary.holds(WWW, "A", LYON))
        found = controller.resolve()

    assert (result.kind, result.exit_code) == (Kind.UNKNOWN, 75)
    assert asleep is not None
    assert asleep.kind is Kind.UNKNOWN
    assert braked.value.brake == "open-plan"
    assert found is not None
    assert found.kind is Kind.DONE
    assert journal.intent("web") is None


def test_a_plan_that_was_lost_is_sent_again(primary: NameServer, journal: Journal) -> None:
    """The zone stands as before: the very same plan goes out again, with the same nonce."""
    with Road(primary, on_update=lambda _: None) as road:
        controller = at_milan(journal, road, key_of=primary)
        controller.patience = Patience(commit=0.1)
        lost = controller.move("lyon")
        road.on_update = None
        found = controller.resolve(again=True)

    assert lost.kind is Kind.UNKNOWN
    assert found is not None
    assert (found.kind, found.change) == (Kind.DONE, lost.change)
    assert primary.holds(WWW, "A", LYON)


@every_kind
def test_a_plan_that_is_given_up_can_never_apply_any_more(primary: NameServer, journal: Journal) -> None:
    """The epoch goes on with unchanged addresses first: what then wakes up in some queue meets the fence."""
    held: list[bytes] = []
    with Road(primary, on_update=held.append) as road:
        controller = at_milan(journal, road, key_of=primary)
        controller.patience = Patience(commit=0.1)
        lost = controller.move("lyon")
        road.on_update = None
        given_up = controller.resolve(again=False)
        late = road.forward(held[0])
        after = controller.look()
        still_at_milan = primary.holds(WWW, "A", MILAN)
        next_move = controller.move("oslo")

    assert lost.kind is Kind.UNKNOWN
    assert given_up is not None
    assert given_up.kind is Kind.UNCHANGED
    assert "was given up: the epoch went on to 3" in given_up.text
    assert dns.rcode.to_text(dns.rcode.Rcode(late[3] & 15)) == "NXRRSET"
    assert still_at_milan
    assert after.comparison.state is ZoneState.OURS
    assert next_move.change.epoch == 4


def test_giving_up_that_is_unknown_itself_goes_on_with_the_same_plan(bind: Bind, journal: Journal) -> None:
    """Once begun it is finished, never turned back into sending the old plan again."""
    with Road(bind, on_update=lambda _: None) as road:
        controller = at_milan(journal, road, key_of=bind)
        controller.patience = Patience(commit=0.1)
        controller.move("lyon")
        first = controller.resolve(again=False)
        begun = journal.intent("web")
        second = controller.resolve(again=True)
        still = journal.intent("web")
        road.on_update = None
        third = controller.resolve(again=True)

    assert [r.kind for r in (first, second, third) if r] == [Kind.UNKNOWN, Kind.UNKNOWN, Kind.UNCHANGED]
    assert begun is not None
    assert still is not None
    assert begun.advance is not None
    assert begun.advance == still.advance
    assert bind.holds(WWW, "A", MILAN)


def test_an_old_open_plan_is_given_up_and_a_young_one_sent_again(bind: Bind, journal: Journal) -> None:
    """What was decided an hour ago may be wrong by now; what was decided a moment ago is still meant."""
    kinds: list[Kind] = []
    for again in (60.0, 0.0):
        with Road(bind, on_update=lambda _: None) as road:
            controller = desk(journal, road, key=bind.key, authoritative=[bind])
            controller.patience = Patience(commit=0.1, again=again)
            controller.move("lyon" if again else "oslo")
            road.on_update = None
            found = controller.resolve()
            assert found is not None
            kinds.append(found.kind)

    assert kinds == [Kind.DONE, Kind.UNCHANGED]
    assert bind.holds(WWW, "A", LYON)


def test_noerror_proves_nothing(primary: NameServer, journal: Journal) -> None:
    """A server that says NOERROR and does nothing is found out; the plan stays open until it is true or given up."""
    with Road(primary) as road:
        controller = at_milan(journal, road, key_of=primary)
        controller.patience = Patience(commit=0.1)
        road.on_update = lambda wire: answer_to(wire, dns.rcode.NOERROR, primary.key)
        lied = controller.move("lyon")
        road.on_update = None
        found = controller.resolve()

    assert (lied.kind, lied.exit_code) == (Kind.UNKNOWN, 75)
    assert "accepted, and 127.0.0.1" in lied.text
    assert "still answers the old data" in lied.text
    assert found is not None
    assert found.kind is Kind.DONE


def test_a_server_that_applies_a_plan_in_part_is_found_out(primary: NameServer, journal: Journal) -> None:
    """It says NOERROR, moves a TXT and leaves the addresses: our nonce alone proves nothing either."""
    with Road(primary) as road:
        controller = at_milan(journal, road, key_of=primary)
        change = controller.plan("lyon")
        ((fence,),) = change.to.names[WWW].fence

        def move_the_txt(wire: bytes) -> bytes:
            human(primary, ("replace", "_mirrord.www", 60, "TXT", f'"{fence}"'))
            return answer_to(wire, dns.rcode.NOERROR, primary.key)

        road.on_update = move_the_txt
        result = controller.run(change)
        looked = controller.look()

    assert (result.kind, result.exit_code) == (Kind.PARTIAL, 3)
    assert f"but not all of it stands: {WWW}: A is {MILAN} where we left {LYON}" in result.text
    assert journal.intent("web") is None
    assert looked.comparison.state is ZoneState.FOREIGN


def test_a_plan_that_was_applied_and_altered_while_it_was_unknown_is_told_so(
    primary: NameServer, journal: Journal
) -> None:
    """The answer was lost, and a human changed A before we could read: the nonce says that the plan was there."""
    with Road(primary) as road:
        controller = at_milan(journal, road, key_of=primary)

        def apply_and_alter(wire: bytes) -> None:
            road.forward(wire)
            human(primary, ("replace", "www", 60, "A", "192.0.2.99"))

        road.on_update = apply_and_alter
        result = controller.move("lyon")

    assert result.kind is Kind.PARTIAL
    assert f"{WWW}: A is 192.0.2.99 where we left {LYON}" in result.text
    assert journal.expected("web") == result.change.to


def test_a_human_who_was_faster_closes_the_open_plan(primary: NameServer, journal: Journal) -> None:
    """The lost plan can never apply to what stands now: nothing is pending, and the zone is foreign."""
    with Road(primary, on_update=lambda _: None) as road:
        controller = at_milan(journal, road, key_of=primary)
        controller.patience = Patience(commit=0.1)
        controller.move("lyon")
        human(primary, ("replace", "www", 60, "A", "192.0.2.99"))
        found = controller.resolve()

    assert found is not None
    assert found.kind is Kind.UNCHANGED
    assert journal.intent("web") is None
    assert desk(journal, primary, key=primary.key).look().comparison.state is ZoneState.FOREIGN


def test_a_plan_that_took_effect_after_it_was_refused_without_a_signature_is_taken_as_ours(
    primary: NameServer, journal: Journal
) -> None:
    """The refusal was forged, and the update kept back: when it arrives the journal knows its nonce."""
    held: list[bytes] = []
    with Road(primary) as road:
        controller = at_milan(journal, road, key_of=primary)

        def keep_back(wire: bytes) -> bytes:
            held.append(wire)
            return answer_to(wire, dns.rcode.REFUSED)

        road.on_update = keep_back
        refused = controller.move("lyon")
        road.forward(held[0])
        looked = controller.look()
        road.on_update = None
        next_move = controller.move("oslo")

    assert refused.kind is Kind.UNCHANGED
    assert looked.comparison.state is ZoneState.OURS
    assert "took effect late" in looked.comparison.text
    assert journal.expected("web") == next_move.change.to
    assert next_move.kind is Kind.DONE


def test_a_look_from_another_terminal_takes_no_plan_for_a_stranger_that_is_just_being_committed(
    primary: NameServer, journal: Journal
) -> None:
    """The update is there and its outcome not yet written down: who sent it does that, and history tells it once."""
    with Road(primary) as road:
        controller = at_milan(journal, road, key_of=primary)
        left = journal.expected("web")

        def look_meanwhile(wire: bytes) -> bytes:
            answer = road.forward(wire)
            controller.look()
            assert journal.expected("web") == left
            return answer

        road.on_update = look_meanwhile
        moved = controller.move("lyon")

    assert moved.kind is Kind.DONE
    assert not journal.history(10, kinds=("take over",))


# -- killed, and started again


def killed(journal: Path, port: int, what: str, last: int, key_file: Path) -> bool:
    """Run a switch in a process that kills itself at a step; return whether it died of that."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.switch_to_be_killed", str(journal), str(port), str(key_file), what, str(last)],
        check=False,
        cwd=Path(__file__).parent.parent,
        timeout=60,
    )
    assert child.returncode in (-signal.SIGKILL, 3)
    return child.returncode == -signal.SIGKILL


def settled(journal: Path, server: NameServer) -> str:
    """Start up again: resolve, look, move on; return the mirror at which the zone was found."""
    again = Journal(journal)
    try:
        controller = desk(again, server, key=server.key)
        result = controller.resolve()
        assert result is None or result.kind is not Kind.UNKNOWN
        looked = controller.look()
        assert looked.comparison.state is ZoneState.OURS
        assert looked.comparison.stands == again.expected("web")
        assert again.intent("web") is None
        assert controller.move("oslo").kind is Kind.DONE
        assert looked.comparison.serving is not None
        return looked.comparison.serving
    finally:
        again.close()


@pytest.mark.parametrize("what", ["move", "give-up"])
def test_killed_at_any_step_of_a_switch_the_next_start_finds_out(lab: Lab, tmp_path: Path, what: str) -> None:
    """SIGKILL before every call and at the end: no plan stays open, the journal is right, and the next move works."""
    server = lab.bind(text=TEXT)
    key_file = server.key.write_secret(tmp_path / "secret")
    found: list[str] = []
    for last in range(40):
        path = tmp_path / f"journal-{what}-{last}.sqlite"
        journal = Journal(path)
        controller = desk(journal, server, key=server.key)
        controller.move("milan", adopt=True)
        if what == "give-up":
            with Road(server, on_update=lambda _: None) as road:
                losing = desk(journal, road, key=server.key, authoritative=[server])
                losing.patience = Patience(commit=0.0)
                assert losing.move("lyon").kind is Kind.UNKNOWN
        journal.close()
        if not killed(path, server.port, what, last, key_file):
            break
        found.append(settled(path, server))

    assert len(found) >= 6
    assert set(found) == ({"milan", "lyon"})


@pytest.mark.parametrize("when", ["before it arrives", "after it was applied"])
def test_killed_while_the_update_is_on_its_way_the_next_start_finds_out(
    primary: NameServer, tmp_path: Path, when: str
) -> None:
    """The process dies between sending and hearing: the update is applied all the same, before the restart or after."""
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    at_milan(journal, key_of=primary)
    journal.close()
    key_file = primary.key.write_secret(tmp_path / "secret")
    children: list[subprocess.Popen[bytes]] = []
    with Road(primary) as road:

        def kill_and_carry_on(wire: bytes) -> None:
            if when == "after it was applied":
                road.forward(wire)
            children[0].kill()
            children[0].wait()
            if when == "before it arrives":
                road.forward(wire)

        road.on_update = kill_and_carry_on
        command = ["-m", "tests.switch_to_be_killed", str(path), str(road.port), str(key_file), "move", "999"]
        children.append(subprocess.Popen([sys.executable, *command], cwd=Path(__file__).parent.parent))
        until(lambda: children[0].poll() is not None, 30.0)
        until(lambda: primary.holds(WWW, "A", LYON))

    assert settled(path, primary) == "lyon"


# -- the name server's own accidents


@every_kind
def test_a_name_server_restarted_with_its_old_zone_file_is_a_revert(primary: NameServer, journal: Journal) -> None:
    """All our updates are gone and readers are back at the old address: the loudest alarm, and no move by itself."""
    controller = at_milan(journal, key_of=primary)
    controller.move("lyon")

    primary.restart_with_old_zone()
    looked = controller.look()
    assert looked.comparison.state is ZoneState.REVERTED
    assert looked.comparison.stands is None
    assert "back to what stood there before us, where epoch 2 is expected" in looked.comparison.text
    assert controller.move("lyon", adopt=True).change.epoch == 3
    assert controller.look().comparison.state is ZoneState.OURS


def test_a_secondary_that_is_ahead_of_a_restored_name_server_is_said_not_to_follow_by_itself(
    lab: Lab, journal: Journal
) -> None:
    """It takes a zone only with a higher serial than its own, so waiting helps nobody: a person has to."""
    primary, secondary = lab.followed(Knot, Knot, text=TEXT)
    controller = desk(journal, primary, key=primary.key, authoritative=[primary, secondary])
    for target in ("milan", "lyon", "milan"):
        assert controller.move(target).kind is Kind.DONE
    ahead = secondary.serial()
    primary.restart_with_old_zone()
    controller.patience = Patience(follow=0.2)

    result = controller.move("lyon", adopt=True)
    assert result.kind is Kind.PARTIAL
    (told,) = (follow.text for follow in result.followers.values() if follow.following is Following.OLD)
    assert told.startswith(f"{secondary.endpoint}: does not have the new data yet (serial {ahead}); if it copies ")
    assert f"{primary.endpoint}, it takes nothing until the serial there, {primary.serial()}, is above its own" in told


def test_a_month_of_plans_that_came_to_nothing_makes_nobody_forget_what_stood(
    primary: NameServer, journal: Journal
) -> None:
    """
    The name server burnt with its datacentre; a move was tried with each look, and it is back from an old backup. That
    is a revert, not a stranger's work, and the history is not made of one sentence.
    """
    controller = at_milan(journal, key_of=primary)
    controller.move("lyon")
    stands = controller.look().zone.stands
    nowhere = desk(journal, Endpoint("127.0.0.1", free_port()), key=primary.key)
    kinds = [nowhere.run(nowhere.plan_from(stands, "oslo")).kind for _ in range(30)]

    primary.restart_with_old_zone()
    assert set(kinds) == {Kind.UNCHANGED}
    assert controller.look().comparison.state is ZoneState.REVERTED
    assert len(journal.history(kinds=("no switch",))) == 1


def test_a_name_server_restarted_in_good_order_is_ours(primary: NameServer, journal: Journal) -> None:
    """An upgrade of the name server is no accident."""
    controller = at_milan(journal, key_of=primary)
    controller.move("lyon")

    primary.restart()
    assert controller.look().comparison.state is ZoneState.OURS


@pytest.mark.parametrize("kind", [Bind, Knot], ids=["bind", "knot"])
def test_a_secondary_that_forwards_is_a_road(lab: Lab, journal: Journal, kind: type[NameServer]) -> None:
    """We cannot reach the primary, its secondary can: the update goes through it, and is read back when it followed."""
    first = lab._keep(kind(lab.folder("first"), "example.org", TEXT), start=False)
    second = Bind.following(first, lab.folder("second"), forwards=True)
    lab._keep(first, start=True)
    lab._keep(second, start=True)
    wait_for(second)
    unreachable = Endpoint("127.0.0.1", free_port())
    controller = desk(journal, unreachable, second, key=first.key, authoritative=[second])

    result = controller.move("lyon")
    assert result.kind is Kind.DONE
    assert result.sent is not None
    assert result.sent.server == str(endpoint(second))
    assert first.holds(WWW, "A", LYON)


def test_with_the_primary_dead_a_secondary_cannot_help_and_the_plan_stays_open(lab: Lab, journal: Journal) -> None:
    """It forwards to nobody: SERVFAIL or silence is unknown, and what the secondary has is only as new as it heard."""
    first = lab.bind(text=TEXT, start=False)
    second = Bind.following(first, lab.folder("second"), forwards=True)
    first.start()
    lab._keep(second, start=True)
    wait_for(second)
    at_milan(journal, key_of=first)
    until(lambda: second.serial() == first.serial())
    first.stop()
    controller = desk(journal, first, second, key=first.key, authoritative=[second], timeout=1.0)
    controller.patience = Patience(commit=0.2)

    result = controller.move("lyon")
    assert (result.kind, result.exit_code) == (Kind.UNKNOWN, 75)
    assert second.holds(WWW, "A", MILAN)


def test_a_lagging_secondary_does_not_close_an_open_plan(lab: Lab, bind: Bind, journal: Journal) -> None:
    """It shows neither before nor after, because it has not heard of either: the plan may have been applied."""
    behind = lab.bind(text=TEXT)
    controller = at_milan(journal, key_of=bind)
    with Road(bind, on_update=lambda _: None) as road:
        losing = desk(journal, road, behind, key=bind.key, authoritative=[bind])
        losing.patience = Patience(commit=0.1)
        losing.move("lyon")
        road.on_query = lambda _: None
        found = losing.resolve()

    assert found is not None
    assert found.kind is Kind.UNKNOWN
    assert "which may lag" in found.text
    assert controller.resolve() is not None
    assert bind.holds(WWW, "A", LYON)


def test_a_fence_that_a_lagging_secondary_cannot_explain_does_not_close_an_open_plan(
    lab: Lab, bind: Bind, journal: Journal
) -> None:
    """Sent again, the plan meets the fence because it was applied: the secondary has only not heard of it yet."""
    behind = lab.bind(text=TEXT, key=bind.key)
    adoption = desk(journal, bind, key=bind.key)
    first = adoption.plan("milan")
    adoption.run(first)
    open_switch(settings(behind, key=bind.key)).send(first)
    with Road(bind, on_query=Road(behind).forward) as forwarder:
        unreachable = Endpoint("127.0.0.1", free_port())
        controller = desk(journal, unreachable, forwarder, key=bind.key, authoritative=[bind])
        controller.patience = Patience(commit=0.1)

        def lose(wire: bytes) -> None:
            forwarder.forward(wire)

        forwarder.on_update = lose
        lost = controller.move("lyon")
        forwarder.on_update = None
        fenced = controller.resolve(again=True)
        forwarder.on_query = None
        found = controller.resolve(again=True)

    assert lost.kind is Kind.UNKNOWN
    assert fenced is not None
    assert fenced.sent is not None
    assert (fenced.sent.kind, fenced.kind) == (SentKind.FENCED, Kind.UNKNOWN)
    assert found is not None
    assert found.kind is Kind.DONE


def test_what_was_sent_is_read_back_where_it_was_sent(lab: Lab, bind: Bind, journal: Journal) -> None:
    """The first road is a secondary that forwards nothing and lags: the primary behind the second one knows."""
    behind = lab.bind(text=TEXT, key=bind.key)
    unwilling = Road(behind, on_update=lambda wire: answer_to(wire, dns.rcode.REFUSED, bind.key))
    with unwilling:
        controller = desk(journal, unwilling, bind, key=bind.key, authoritative=[bind])
        controller.patience = Patience(commit=0.1)
        result = controller.move("lyon")

    assert result.kind is Kind.DONE
    assert result.zone is not None
    assert result.zone.server == str(endpoint(bind))


# -- taking over


def test_a_zone_that_stands_at_one_mirror_is_taken_over_by_itself_with_our_ttl(
    primary: NameServer, journal: Journal
) -> None:
    """The first start: nothing moves, the fence is set, and readers come to a TTL with which they can be moved."""
    controller = desk(journal, primary, key=primary.key)
    looked = controller.look()
    result = controller.move(looked.comparison.serving or "")

    assert looked.comparison.state is ZoneState.NEW
    assert result.kind is Kind.DONE
    assert not result.change.moves
    assert result.text == "web: is at milan (epoch 1), addresses unchanged"
    after = controller.look()
    assert (after.comparison.state, after.zone.ttl) == (ZoneState.OURS, 60)
    assert journal.last_move("web") is None


def test_with_an_empty_journal_during_an_outage_adopting_moves_in_one_step(
    primary: NameServer, new_journal: Callable[[], Journal]
) -> None:
    """The controller died with the datacentre: configuration and keys on any laptop move the readers."""
    at_milan(new_journal(), key_of=primary)
    laptop = replace_by(desk(new_journal(), primary, key=primary.key), "laptop")

    looked = laptop.look()
    result = laptop.move("lyon", adopt=True)
    assert looked.comparison.state is ZoneState.FOREIGN
    assert "epoch 1 for milan by home, and our journal knows nothing of it" in looked.comparison.text
    assert (result.kind, result.change.epoch) == (Kind.DONE, 2)
    assert primary.holds(WWW, "A", LYON)
    assert laptop.look().comparison.state is ZoneState.OURS


def replace_by(controller: Desk, by: str) -> Desk:
    """The same controller under another name."""
    controller.by = by
    return controller


def race(plans: list[tuple[Desk, Change]]) -> dict[str, Result]:
    """Let controllers carry their plans out at the same moment; return the results by controller."""
    start = threading.Barrier(len(plans))
    results: dict[str, Result] = {}

    def run(controller: Desk, change: Change) -> None:
        start.wait()
        results[controller.by] = controller.run(change)

    racers = [threading.Thread(target=run, args=plan) for plan in plans]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(30.0)
    return results


@every_kind
def test_of_two_controllers_that_move_at_once_one_wins_and_the_other_changes_nothing(
    primary: NameServer, new_journal: Callable[[], Journal]
) -> None:
    """Both expect the same state; the server lets one plan through, whole."""
    home = at_milan(new_journal(), key_of=primary)
    laptop = replace_by(desk(new_journal(), primary, key=primary.key), "laptop")
    wins: list[str] = []
    for _ in range(8):
        for controller in (home, laptop):
            stands = controller.look().zone.stands
            controller.journal.take("web", stands, "for the race")
        plans = [(home, home.plan("lyon")), (laptop, laptop.plan("oslo"))]
        results = race(plans)
        winner = next(by for by, result in results.items() if result.kind is Kind.DONE)
        wins.append(winner)
        assert sorted(result.kind.value for result in results.values()) == ["done", "unchanged"]
        address = LYON if winner == "home" else "203.0.113.30"
        assert address in primary.query(WWW, "A")
        assert address in primary.query("example.org", "A")

    assert len(wins) == 8


# -- a journal that cannot be written


def test_a_full_disk_stops_no_move_and_the_txt_is_the_record(lab: Lab, bind: Bind) -> None:
    """In the outage the controller's disk fills up: readers are moved, and the next start takes it from the zone."""
    disk = lab.small_disk(2048)
    journal = Journal(disk.folder / "journal.sqlite")
    controller = at_milan(journal, key_of=bind)
    disk.fill()
    result = controller.move("lyon")
    meanwhile = controller.look()
    journal.close()
    disk.free()
    restarted = Journal(disk.folder / "journal.sqlite")
    forgotten = restarted.expected("web")
    after = desk(restarted, bind, key=bind.key).look()

    assert (result.kind, result.journalled) == (Kind.DONE, False)
    assert meanwhile.comparison.state is ZoneState.OURS
    assert forgotten is not None
    assert forgotten.epoch == 1
    assert after.comparison.state is ZoneState.OURS
    assert "epoch 2 is ours by its TXT" in after.comparison.text
    assert restarted.expected("web") == result.change.to
    restarted.close()


# -- small things


@pytest.mark.parametrize(("kind", "code"), [(Kind.DONE, 0), (Kind.PARTIAL, 3), (Kind.UNCHANGED, 5), (Kind.UNKNOWN, 75)])
def test_every_end_has_its_exit_code(kind: Kind, code: int) -> None:
    """Scripts go by them."""
    assert kind.exit_code == code


class Naming:
    """A switch of which only the name servers are asked."""

    def __init__(self, found: NameServers) -> None:
        self._found = found

    def name_servers(self) -> NameServers:
        """Return what it was made with."""
        return self._found


def test_name_servers_keep_the_addresses_of_good_times(journal: Journal) -> None:
    """In the outage their names do not resolve: the addresses that were known are asked."""
    good: Switch = Naming({"ns1.example.org": ("192.0.2.1",), "ns2.example.net": ("192.0.2.2",)})  # type: ignore[assignment] # asked for nothing else
    bad: Switch = Naming({"ns1.example.org": ("192.0.2.3",), "ns2.example.net": ()})  # type: ignore[assignment] # the same
    remember_name_servers(good, journal, "web")
    remember_name_servers(bad, journal, "web")

    assert journal.name_servers("web") == {"ns1.example.org": ("192.0.2.3",), "ns2.example.net": ("192.0.2.2",)}


def test_the_remembered_name_servers_are_asked_whether_they_follow(bind: Bind, journal: Journal) -> None:
    """Without `authoritative` the zone's NS at port 53 must follow; those of good times are asked and named."""
    journal.remember_name_servers("web", {"ns9.example.org": ("127.0.0.1",), "ns8.example.org": ()})
    controller = desk(journal, bind, key=bind.key, authoritative=[])

    result = controller.move("lyon")
    assert set(result.followers) == {"127.0.0.1:53", "ns8.example.org"}
    assert result.followers["ns8.example.org"].following is Following.UNREACHABLE


class Telling(Rfc2136):
    """The same switch, which notes who was told of a change."""

    told: NameServers | None = None

    def nudge(self, known: NameServers) -> None:
        """Note it."""
        self.told = known


def test_name_servers_are_told_of_a_change_though_nothing_was_remembered(bind: Bind, journal: Journal) -> None:
    """A laptop with an empty journal, in the outage: the others hear of it from us all the same, not seconds later."""
    switch = Telling(settings(bind, key=bind.key, authoritative=[]))
    controller = Desk(switch, journal)

    controller.run(controller.plan("lyon", adopt=True))
    assert switch.told == {"ns1.example.org": ("127.0.0.1",)}


def test_nothing_open_resolves_to_nothing(bind: Bind, journal: Journal) -> None:
    """Start-up asks for every service."""
    assert at_milan(journal, key_of=bind).resolve() is None


# -- whether a switch could be worked


@every_kind
def test_credentials_are_proven_without_changing_anything(primary: NameServer, journal: Journal) -> None:
    """The server shows that it lets us in, and the zone stays as it is, each TTL that somebody gave it among that."""
    controller = at_milan(journal, key_of=primary)
    human(primary, ("replace", "www", 300, "A", MILAN))
    before, serial = controller.look().zone.names, primary.serial()

    controller.switch.prove()
    assert controller.look().zone.names == before
    assert primary.serial() == serial


def test_a_key_that_was_withdrawn_is_found_out_before_it_is_needed(primary: NameServer, journal: Journal) -> None:
    """A token that rots for a year is found dead in the night of the outage, unless somebody tries it."""
    at_milan(journal, key_of=primary)
    other = replace(primary.key, secret="d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmc=")

    with pytest.raises(Refused, match=r"web: updating example\.org"):
        open_switch(settings(primary, key=other)).prove()


@every_kind
def test_a_proof_that_arrives_late_undoes_no_move(primary: NameServer, journal: Journal) -> None:
    """It is for exactly what stood when it was sent, and would change nothing even then."""
    held: list[bytes] = []
    with Road(primary) as road:
        controller = at_milan(journal, road, key_of=primary)

        def keep_back(wire: bytes) -> bytes:
            held.append(wire)
            return answer_to(wire, dns.rcode.SERVFAIL, primary.key)

        road.on_update = keep_back
        with pytest.raises(Unavailable):
            controller.switch.prove()
        road.on_update = None
        controller.move("lyon")
        late = dns.message.from_wire(road.forward(held[0]), keyring=False)

    assert late.rcode() == dns.rcode.NXRRSET
    assert primary.holds(WWW, "A", LYON)


def test_where_nothing_is_ours_yet_nothing_can_be_proven(bind: Bind) -> None:
    """A zone that mirrord never wrote to is not written to for a try."""
    with pytest.raises(Unavailable, match="nothing of ours stands there yet"):
        open_switch(settings(bind, key=bind.key)).prove()


# -- telling those who follow


@pytest.mark.parametrize(("notify", "kind"), [(True, Kind.DONE), (False, Kind.PARTIAL)], ids=["told by us", "not told"])
def test_those_who_follow_are_told_at_once(lab: Lab, journal: Journal, notify: bool, kind: Kind) -> None:
    """BIND's own NOTIFY takes seconds; readers at the secondary need not wait for it."""
    first, second = lab.followed(Bind, Bind, text=TEXT, delays=True)
    wait_for(second)
    told = replace(settings(first, key=first.key, authoritative=[first, second]), notify=notify)
    controller = Desk(open_switch(told), journal, patience=Patience(commit=2.0, follow=1.0))

    assert controller.move("lyon").kind is kind


def test_a_notify_to_nobody_stops_nothing(bind: Bind, journal: Journal) -> None:
    """A name server that is gone, and one that cannot be reached at all, are no reason to wait."""
    gone = [Endpoint("127.0.0.1", free_port()), Endpoint("2001:db8::53", 53)]
    controller = desk(journal, bind, key=bind.key, authoritative=[bind, *gone])

    assert controller.move("lyon").kind is Kind.DONE
