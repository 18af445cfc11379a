from __future__ import annotations

from pathlib import Path

import dns.dnssec
import dns.message
import dns.name
import dns.query
import dns.rdatatype
import dns.rrset
import pytest

from mirrord.journal import Journal
from mirrord.switches import Kind, SentKind
from tests.conftest import Lab
from tests.lab.nameserver import NameServer
from tests.lab.waiting import until
from tests.switching import KINDS, NAMES, TEXT, desk, human

LYON = "198.51.100.20"


def answered(server: NameServer, name: str, kind: str) -> tuple[dns.rrset.RRset, dns.rrset.RRset]:
    """Return a set and its signatures, as a validating resolver gets them."""
    question = dns.message.make_query(name, kind, want_dnssec=True)
    answer = dns.query.tcp(question, server.address, 5.0, server.port)
    wanted = dns.rdatatype.from_text(kind)
    (found,) = (rrset for rrset in answer.answer if rrset.rdtype == wanted)
    (signatures,) = (rrset for rrset in answer.answer if rrset.rdtype == dns.rdatatype.RRSIG)
    return found, signatures


def valid(server: NameServer, name: str, kind: str) -> bool:
    """Tell whether what a server answers is signed by its zone's key."""
    keys, _ = answered(server, server.zone, "DNSKEY")
    dns.dnssec.validate(*answered(server, name, kind), {dns.name.from_text(server.zone): keys})
    return True


@pytest.mark.parametrize("kind", KINDS, ids=["bind", "knot", "powerdns"])
def test_a_signed_zone_is_switched_and_stays_signed(lab: Lab, tmp_path: Path, kind: type[NameServer]) -> None:
    """The server signs what we change: resolvers that validate must believe the new answers everywhere."""
    first = kind(lab.folder("first"), text=TEXT, signed=True)  # type: ignore[call-arg] # each of the kinds knows it
    second = lab.following(kind, first)
    for server in (first, second):
        lab._keep(server, start=True)
    until(lambda: all(valid(server, "www.example.org", "A") for server in (first, second)))
    journal = Journal(tmp_path / "journal.sqlite")
    controller = desk(journal, first, key=first.key, authoritative=[first, second])

    result = controller.move("lyon")
    assert result.kind is Kind.DONE, result.text
    for server in (first, second):
        assert server.holds("www.example.org", "A", LYON)
        assert all(valid(server, name, "A") and valid(server, f"_mirrord.{name}", "TXT") for name in NAMES)
    controller.switch.prove()
    stale = controller.plan("oslo")
    human(first, ("replace", "www", 60, "A", "192.0.2.99"))
    assert controller.switch.send(stale).kind is SentKind.FENCED
    journal.close()
