"""The demo's name server: held against BIND, question by question, and moved by mirrord's own switch."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.opcode
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.update
import pytest

from mirrord.demo.named import NameServer
from mirrord.journal import Journal
from mirrord.switches import Kind, open_switch
from tests.conftest import Lab
from tests.lab.bind import Bind
from tests.lab.nameserver import Key, ask, texts, zone_text
from tests.lab.waiting import until
from tests.switching import TEXT, Desk, endpoint, settings, tsig_key

KEY = Key()
RECORDS = [
    "www 300 A 192.0.2.10",
    "www 300 A 192.0.2.11",
    "www 300 AAAA 2001:db8::10",
    "alias 60 CNAME www",
    "away 60 CNAME www.example.net.",
    "a.b.deep 60 A 192.0.2.20",
    '_mirrord.www 60 TXT "v=1 epoch=1"',
]


def make(text: str = TEXT, **how: Any) -> NameServer:
    return NameServer("example.org", text, key_name=KEY.name, secret=KEY.secret, **how)


@pytest.fixture
def server() -> Iterator[NameServer]:
    with make() as server:
        yield server


def tell(port: int, update: dns.update.UpdateMessage) -> dns.message.Message:
    return dns.query.tcp(update, "127.0.0.1", 5.0, port)


def update(*orders: tuple[Any, ...]) -> dns.update.UpdateMessage:
    """Make an update from calls of dnspython's own: ("absent", "www", "A"), ("add", "www", 60, "A", "192.0.2.1")."""
    made = dns.update.UpdateMessage("example.org", keyring=tsig_key(KEY))
    for verb, *what in orders:
        getattr(made, verb)(*what)
    return made


# Beside BIND

QUESTIONS = [
    ("www.example.org", "A"),
    ("WWW.Example.ORG", "A"),
    ("www.example.org", "AAAA"),
    ("www.example.org", "TXT"),
    ("www.example.org", "MX"),
    ("nobody.example.org", "A"),
    ("alias.example.org", "A"),
    ("alias.example.org", "CNAME"),
    ("alias.example.org", "MX"),
    ("away.example.org", "A"),
    ("b.deep.example.org", "A"),
    ("deep.example.org", "A"),
    ("a.b.deep.example.org", "A"),
    ("example.org", "SOA"),
    ("example.org", "NS"),
    ("example.org", "A"),
    ("_mirrord.www.example.org", "TXT"),
    ("www.example.net", "A"),
]

# What comes one after the other: each is sent to both servers, which must say and then hold the same.
UPDATES: list[tuple[tuple[Any, ...], ...]] = [
    (("present", "www"), ("add", "new", 60, "A", "192.0.2.1")),
    (("present", "nobody"), ("add", "new", 60, "A", "192.0.2.2")),
    (("absent", "nobody"), ("add", "new", 60, "A", "192.0.2.3")),
    (("absent", "www"), ("delete", "www")),
    (("present", "www", "A"), ("add", "new", 60, "TXT", "there")),
    (("present", "www", "MX"), ("delete", "www")),
    (("absent", "www", "MX"), ("add", "new", 60, "TXT", "more")),
    (("absent", "www", "A"), ("delete", "www")),
    (("present", "www", "A", "192.0.2.10", "192.0.2.11"), ("delete", "new", "TXT", "there")),
    (("present", "www", "A", "192.0.2.11", "192.0.2.10"), ("add", "new", 30, "A", "192.0.2.4")),
    (("present", "www", "A", "192.0.2.10"), ("delete", "www")),
    (("present", "www", "A", "192.0.2.10", "192.0.2.12"), ("delete", "www")),
    (("present", "www", "A", "192.0.2.10", "192.0.2.11", "192.0.2.12"), ("delete", "www")),
    (("absent", "alias", "CNAME"), ("replace", "alias", 60, "A", "192.0.2.5")),
    (("replace", "alias", 60, "A", "192.0.2.5"),),
    (("replace", "www", 60, "CNAME", "alias"),),
    (("add", "deep", 60, "CNAME", "www"), ("add", "deep", 60, "A", "192.0.2.6")),
    (("replace", "www", 60, "A", "198.51.100.20"), ("delete", "www", "AAAA")),
    (("present", "_mirrord.www", "TXT", '"v=1 epoch=1"'), ("replace", "_mirrord.www", 60, "TXT", '"v=1 epoch=2"')),
    (("present", "_mirrord.www", "TXT", '"v=1 epoch=1"'), ("replace", "www", 60, "A", "192.0.2.9")),
    (("add", "www", 60, "A", "198.51.100.20"),),
    (("add", "www", 61, "A", "198.51.100.20"),),
    (("delete", "www", "A", "203.0.113.9"),),
    (("add", "x", 60, "A", "192.0.2.1"), ("delete", "x"), ("add", "x", 60, "A", "192.0.2.2")),
    (("delete", "x"), ("delete", "nobody", "A")),
    (("delete", "@"),),
    (("delete", "@", "NS"),),
    (("delete", "@", "NS", "ns1"),),
    (("add", "@", 60, "SOA", "ns1 hostmaster 500 300 30 4000000 5"),),
    (("add", "@", 60, "SOA", "ns1 hostmaster 400 300 30 4000000 5"),),
    (("delete", "@", "SOA"),),
    (("delete", "www"),),
]


@pytest.fixture(scope="module")
def bind(module_lab: Lab) -> Bind:
    found: Bind = module_lab.bind(text=zone_text("example.org", RECORDS, serial=7), key=KEY)
    return found


def said(answer: dns.message.Message) -> dict[str, object]:
    """Return what counts of an answer."""
    return {
        "rcode": dns.rcode.to_text(answer.rcode()),
        "authoritative": bool(answer.flags & dns.flags.AA),
        "answer": {(str(r.name).lower(), r.rdtype, r.ttl, d.to_text()) for r in answer.answer for d in r},
        "soa": [(str(r.name).lower(), r.ttl) for r in answer.authority if r.rdtype == dns.rdatatype.SOA],
    }


def test_it_answers_and_changes_as_bind_does(bind: Bind) -> None:
    """
    The demo must not teach a name server's manners that no real one has: every question is answered, and every
    update received, as BIND 9.18 does it, in the same order and with the same serials.
    """
    with make(zone_text("example.org", RECORDS, serial=7)) as server:
        for step in [None, *UPDATES]:
            if step is not None:
                theirs, ours = tell(bind.port, update(*step)), tell(server.port, update(*step))
                assert dns.rcode.to_text(ours.rcode()) == dns.rcode.to_text(theirs.rcode()), step
            for name, kind in QUESTIONS:
                wanted = said(ask("127.0.0.1", bind.port, name, kind))
                assert said(ask("127.0.0.1", server.port, name, kind)) == wanted, (step, name, kind)
            soa = texts(ask("127.0.0.1", bind.port, "example.org", "SOA"), "SOA")
            assert texts(ask("127.0.0.1", server.port, "example.org", "SOA"), "SOA") == soa, step


def test_keys_are_refused_as_bind_refuses_them(bind: Bind, server: NameServer) -> None:
    """A wrong secret, an unknown key and no key at all each have an answer of their own."""
    wrong = dns.update.UpdateMessage("example.org", keyring=tsig_key(Key()))
    unknown = dns.update.UpdateMessage("example.org", keyring=tsig_key(Key("stranger")))
    unsigned = dns.update.UpdateMessage("example.org")
    for each in (wrong, unknown, unsigned):
        each.add("new", 60, "A", "192.0.2.1")

    for each in (wrong, unknown):
        raised = []
        for port in (bind.port, server.port):
            with pytest.raises(dns.tsig.PeerError) as caught:
                tell(port, each)
            raised.append(type(caught.value))
        assert raised[0] is raised[1]
    assert tell(server.port, unsigned).rcode() == tell(bind.port, unsigned).rcode() == dns.rcode.REFUSED


def test_a_wrong_clock_is_told_with_the_right_time(server: NameServer) -> None:
    """BADTIME is the one error that comes signed: it says by how much the clock is off (RFC 8945, 5.2.3)."""
    plain = dns.update.UpdateMessage("example.org")
    plain.add("new", 60, "A", "192.0.2.1")
    signed = update(("add", "new", 60, "A", "192.0.2.1"))
    signed.to_wire()
    assert signed.tsig is not None
    sign: Any = dns.tsig.sign
    rdata, _ = sign(plain.to_wire(), tsig_key(KEY), signed.tsig[0], time=1_000_000_000)

    answer = server.answer(signed_with(plain.to_wire(), tsig_key(KEY), rdata))
    assert answer is not None
    back = dns.message.from_wire(answer, keyring=False)
    assert back.rcode() == dns.rcode.NOTAUTH
    assert back.tsig is not None
    assert back.tsig[0].error == dns.rcode.BADTIME
    assert len(back.tsig[0].other) == 6
    assert back.tsig[0].mac
    assert not server.records("new.example.org", "A")


def signed_with(plain: bytes, key: dns.tsig.Key, rdata: Any) -> bytes:
    """Add a signature to a message that has none."""
    record: bytes = rdata.to_wire()
    name: Any = key.name.to_wire()
    head: bytes = name + struct.pack("!HHIH", dns.rdatatype.TSIG, dns.rdataclass.ANY, 0, len(record))
    return plain[:10] + struct.pack("!H", struct.unpack("!H", plain[10:12])[0] + 1) + plain[12:] + head + record


# By mirrord


def test_mirrords_switch_moves_readers_on_it(server: NameServer, tmp_path: Path) -> None:
    """The whole way of a switch: fence, compare-and-set, reading back, following."""
    journal = Journal(tmp_path / "journal.sqlite")
    here = endpoint(server)  # type: ignore[arg-type]  # it has a port, which is all that is asked
    desk = Desk(open_switch(settings(here, key=KEY, timeout=5.0)), journal)
    before = server.serial

    assert desk.move("milan").kind is Kind.DONE
    assert desk.move("lyon").kind is Kind.DONE
    journal.close()
    assert server.records("www.example.org", "A") == ["198.51.100.20"]
    assert server.records("www.example.org", "AAAA") == []
    assert server.records("example.org", "A") == ["198.51.100.20"]
    assert server.records("_mirrord.www.example.org", "TXT")[0].startswith('"v=1 epoch=2 target=lyon plan=')
    assert server.serial == before + 2


def test_of_two_movers_one_wins(server: NameServer) -> None:
    """A compare-and-set is worth nothing if two at once can pass it."""

    def claim(number: int) -> int:
        mine = update(("absent", "won"), ("add", "won", 60, "TXT", str(number)))
        return int(tell(server.port, mine).rcode())

    with ThreadPoolExecutor(8) as crew:
        rcodes = list(crew.map(claim, range(24)))

    assert rcodes.count(dns.rcode.NOERROR) == 1
    assert rcodes.count(dns.rcode.YXDOMAIN) == 23


# In itself


def test_all_of_an_update_is_applied_or_nothing(server: NameServer) -> None:
    """A fault in the last record must not leave the first one behind."""
    bad = update(("add", "new", 60, "A", "192.0.2.1"))
    bad.find_rrset(bad.update, dns.name.from_text("new.example.net."), dns.rdataclass.IN, dns.rdatatype.A, create=True)
    bad.update[-1].add(dns.rdata.from_text("IN", "A", "192.0.2.1"), 60)

    assert tell(server.port, bad).rcode() == dns.rcode.NOTZONE
    assert server.records("new.example.org", "A") == []


def test_updates_for_another_zone_are_not_its_own(server: NameServer) -> None:
    """NOTAUTH lets the client take the next road."""
    other = dns.update.UpdateMessage("example.net", keyring=tsig_key(KEY))
    other.add("new", 60, "A", "192.0.2.1")

    assert tell(server.port, other).rcode() == dns.rcode.NOTAUTH


@pytest.mark.parametrize("noise", [b"", b"\0" * 11, b"\xff" * 40, bytes(range(256)), b"\x12\x34\x01\0" + b"\xff" * 8])
def test_noise_is_answered_with_an_error_or_not_at_all(server: NameServer, noise: bytes) -> None:
    """Whatever comes over the net, the server goes on."""
    answer = server.answer(noise)

    assert answer is None or answer[3] & 0x0F == dns.rcode.FORMERR
    assert ask("127.0.0.1", server.port, "www.example.org", "A").answer


def test_an_opcode_that_it_does_not_know_is_not_implemented(server: NameServer) -> None:
    """NOTIFY and STATUS are none of its business."""
    message = dns.message.make_query("example.org", "SOA")
    message.set_opcode(dns.opcode.NOTIFY)

    assert dns.query.udp(message, "127.0.0.1", 2.0, server.port).rcode() == dns.rcode.NOTIMP


def test_a_long_answer_is_cut_by_udp_and_whole_by_tcp() -> None:
    """What does not fit into a datagram is asked for again over TCP."""
    many = [f'many TXT "{number:03d}{"x" * 200}"' for number in range(40)]
    with make(zone_text("example.org", many)) as server:
        asked = dns.message.make_query("many.example.org", "TXT")
        short = dns.query.udp(asked, "127.0.0.1", 2.0, server.port)
        whole = dns.query.tcp(asked, "127.0.0.1", 2.0, server.port)

    assert short.flags & dns.flags.TC
    assert not short.answer
    assert len(whole.answer[0]) == 40


def test_unplugged_it_is_silent_and_plugged_in_it_knows_what_it_knew(server: NameServer) -> None:
    """A name server in the lost datacentre: gone, and back at the same address with the same zone."""
    tell(server.port, update(("add", "new", 60, "A", "192.0.2.1")))
    server.unplug()
    with pytest.raises(OSError, match="does not answer"):
        ask("127.0.0.1", server.port, "www.example.org", "A", timeout=0.2)
    server.plug()

    assert until(lambda: texts(ask("127.0.0.1", server.port, "new.example.org", "A"), "A")) == {"192.0.2.1"}


def test_a_zone_that_cannot_be_read_is_told() -> None:
    """One sentence, with what the zone is called."""
    with pytest.raises(ValueError, match=r"the zone example\.org: "):
        make("@ A 192.0.2.1\n")
