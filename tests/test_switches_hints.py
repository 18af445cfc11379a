from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rdatatype
import pytest

from mirrord.journal import Journal
from mirrord.switches import Expected, Kind, Rrsets, SentKind, ZoneState, open_switch
from mirrord.switches.change import hinted
from tests.conftest import Lab
from tests.lab.nameserver import NameServer, zone_text
from tests.switching import KINDS, Desk, human, settings

WWW = "www.example.org"
TEXT = zone_text(
    "example.org",
    [
        "www 300 A 192.0.2.10",
        "www 300 AAAA 2001:db8::10",
        'www 600 HTTPS 1 . alpn="h2,h3" ipv4hint=192.0.2.10 ipv6hint=2001:db8::10',
        "www 300 MX 10 mail.example.org.",
        "mail 300 A 192.0.2.25",
        "mail.lyon 300 A 198.51.100.25",
    ],
)
AT_MILAN = '1 . alpn="h2,h3" ipv4hint="192.0.2.10" ipv6hint="2001:db8::10"'
AT_LYON = '1 . alpn="h2,h3" ipv4hint="198.51.100.20"'
MX = {"milan": ("10 mail.example.org.",), "lyon": ("10 mail.lyon.example.org.", "20 backup.example.net.")}


@pytest.fixture(params=KINDS, ids=["bind", "knot", "powerdns"])
def primary(request: pytest.FixtureRequest, lab: Lab) -> NameServer:
    """The zone's primary; every kind must do."""
    kind: type[NameServer] = request.param
    return lab._keep(kind(lab.folder("primary"), text=TEXT), start=True)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal."""
    journal = Journal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


def told(journal: Journal, server: NameServer, **more: Any) -> Desk:
    """A controller that was told to look after these sets."""
    return Desk(open_switch(replace(settings(server, key=server.key, names=[WWW]), **more)), journal)


def answered(server: NameServer, kind: str) -> set[str]:
    """Return the records of a type at `www`, as readers get them."""
    answer = dns.query.tcp(dns.message.make_query(WWW, kind), "127.0.0.1", 5.0, server.port)
    wanted = dns.rdatatype.from_text(kind)
    return {record.to_text() for rrset in answer.answer if rrset.rdtype == wanted for record in rrset}


def test_address_hints_move_with_the_addresses(primary: NameServer, journal: Journal) -> None:
    """A browser connects to the hint before it asks for A: a stale one leads readers to the dead mirror."""
    controller = told(journal, primary, https=True)
    adopted = controller.move("milan")
    unchanged = answered(primary, "HTTPS")
    moved = controller.move("lyon")
    at_lyon = answered(primary, "HTTPS")

    assert (adopted.kind, moved.kind) == (Kind.DONE, Kind.DONE), (adopted.text, moved.text)
    assert (unchanged, at_lyon) == ({AT_MILAN}, {AT_LYON})
    assert controller.look().comparison.state is ZoneState.OURS
    assert adopted.follow_by == (adopted.committed or 0) + 600
    assert answered(primary, "MX") == {"10 mail.example.org."}


def test_hints_that_somebody_changed_meanwhile_stop_the_move(primary: NameServer, journal: Journal) -> None:
    """They are compared by the server in the same step as the addresses."""
    controller = told(journal, primary, https=True)
    controller.move("milan")
    change = controller.plan("lyon")
    human(primary, ("replace", "www", 60, "HTTPS", "1 . alpn=h2 ipv4hint=192.0.2.10"))

    assert controller.switch.send(change).kind is SentKind.FENCED
    looked = controller.look().comparison
    assert looked.state is ZoneState.FOREIGN
    assert "HTTPS is" in looked.text
    assert controller.move("lyon", adopt=True).kind is Kind.DONE
    assert answered(primary, "HTTPS") == {'1 . alpn="h2" ipv4hint="198.51.100.20"'}


def test_hints_that_nobody_was_told_to_keep_are_left_alone(primary: NameServer, journal: Journal) -> None:
    """Only what is configured is written; told later, they are taken over from what stands, without alarm."""
    controller = told(journal, primary)
    controller.move("milan")
    controller.move("lyon")
    untouched = answered(primary, "HTTPS")
    later = told(journal, primary, https=True)
    state = later.look().comparison.state

    assert untouched == {AT_MILAN}
    assert state is ZoneState.OURS
    assert later.move("oslo").kind is Kind.DONE
    hints = '1 . alpn="h2,h3" ipv4hint="203.0.113.30,203.0.113.31" ipv6hint="2001:db8::30"'
    assert answered(primary, "HTTPS") == {hints}


def test_mail_follows_the_readers_where_that_is_configured(primary: NameServer, journal: Journal) -> None:
    """MX of a move's target comes in the same update; taking over what stands changes none."""
    controller = told(journal, primary, mx=MX)
    controller.run(controller.plan("milan", mx=MX))
    taken = answered(primary, "MX")
    there = controller.run(controller.plan("lyon", mx=MX))
    at_lyon = answered(primary, "MX")
    back = controller.run(controller.plan("milan", mx=MX))

    assert (there.kind, back.kind) == (Kind.DONE, Kind.DONE), (there.text, back.text)
    assert (taken, at_lyon) == (set(MX["milan"]), set(MX["lyon"]))
    assert answered(primary, "MX") == set(MX["milan"])


def test_a_mail_host_without_an_address_is_named_as_a_reason(lab: Lab, journal: Journal) -> None:
    """BIND refuses the whole update for it, with the word that it has for a key without rights."""
    controller = told(journal, lab.bind(text=TEXT), mx=MX)
    nowhere = {**MX, "lyon": ("10 nowhere.example.org.",)}

    result = controller.run(controller.plan("lyon", mx=nowhere))
    assert result.kind is Kind.UNCHANGED
    assert "or an MX would name a host of the zone that has no address" in result.text


@pytest.mark.parametrize(
    ("record", "a", "aaaa", "becomes"),
    [
        pytest.param(AT_MILAN, {"198.51.100.20"}, set(), AT_LYON, id="a family goes"),
        pytest.param("1 .", {"198.51.100.20"}, {"2001:db8::1"}, "1 .", id="none is added"),
        pytest.param(
            '1 svc.example.net. mandatory="alpn,ipv6hint" alpn="h2" ipv6hint="::1"',
            {"198.51.100.20"},
            set(),
            '1 svc.example.net. mandatory="alpn" alpn="h2"',
            id="mandatory names nothing that is gone",
        ),
        pytest.param(
            r'1 . key667="a \" ipv4hint=\"b" ipv4hint="192.0.2.1"',
            {"198.51.100.20"},
            set(),
            r'1 . key667="a \" ipv4hint=\"b" ipv4hint="198.51.100.20"',
            id="what is quoted is no parameter",
        ),
        pytest.param("0 svc.example.net.", {"198.51.100.20"}, set(), "0 svc.example.net.", id="alias"),
    ],
)
def test_only_hints_of_a_record_change(record: str, a: set[str], aaaa: set[str], becomes: str) -> None:
    """Everything else of it is the operator's."""
    assert hinted(record, frozenset(a), frozenset(aaaa)) == becomes


def test_a_journal_from_before_is_read_as_it_was_written() -> None:
    """Whoever updates mirrord keeps what was left in the zone; what was never looked after is not made up."""
    before = {"epoch": 3, "names": {WWW: {"a": ["192.0.2.10"], "aaaa": [], "fence": [["x"]]}}}

    found = Expected.from_json(before)
    assert found.names[WWW] == Rrsets(frozenset({"192.0.2.10"}), fence=frozenset({("x",)}))
    assert found.to_json() == before
    kept = replace(found.names[WWW], https=frozenset({AT_LYON}), mx=frozenset())
    assert Rrsets.from_json(kept.to_json()) == kept
