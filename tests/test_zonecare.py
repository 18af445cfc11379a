"""What is found out about a zone by asking its servers, and nobody else's word for it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import dns.dnssec
import dns.name
import dns.rdataset
import dns.transaction
import dns.zone
import pytest
from dns.dnssectypes import Algorithm
from dns.rdtypes.dnskeybase import Flag

from mirrord.switches import Endpoint
from mirrord.switches.zonecare import look_after, name_servers_of
from tests.conftest import Lab
from tests.lab.nameserver import NameServer, zone_text
from tests.lab.processes import root_prefix
from tests.switching import human

DAY = 86_400
ZONE, WWW = "example.org", "www.example.org"
TEXT = zone_text(ZONE, ["www 300 A 192.0.2.10", "www 60 AAAA 2001:db8::10", "www 60 HTTPS 1 . ipv4hint=192.0.2.10"])


@pytest.fixture
def executor() -> Iterator[Executor]:
    """Who asks."""
    with ThreadPoolExecutor(4) as pool:
        yield pool


def signed(text: str, *, days: float, keys_days: float) -> str:
    """Return a zone signed for so many days, its keys' own set for others, as where the key of keys lies in a safe."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    key = dns.dnssec.make_dnskey(private.public_key(), Algorithm.ED25519, flags=Flag.ZONE | Flag.SEP)
    zone, origin = dns.zone.from_text(text, origin=ZONE, relativize=False), dns.name.from_text(ZONE)
    now = int(time.time())

    def sign(to: dns.transaction.Transaction, rrset: dns.rrset.RRset) -> None:
        lasts = keys_days if rrset.rdtype == dns.rdatatype.DNSKEY else days
        rrsig = dns.dnssec.sign(
            rrset, private, origin, key, inception=now - DAY, expiration=now + int(lasts * DAY), verify=True
        )
        to.add(rrset.name, dns.rdataset.from_rdata(rrset.ttl, rrsig))

    dns.dnssec.sign_zone(zone, keys=[(private, key)], dnskey_ttl=60, rrset_signer=sign)
    written: str = zone.to_text(relativize=False)
    return written


@pytest.mark.parametrize(("days", "keys_days"), [(5.0, 30.0), (30.0, 5.0)], ids=["the records'", "the keys'"])
def test_the_first_signature_that_ends_is_found(lab: Lab, executor: Executor, days: float, keys_days: float) -> None:
    """A zone whose keys' signature has ended is as gone as one whose addresses' has."""
    server = lab.knot(ZONE, signed(TEXT, days=days, keys_days=keys_days))

    care = look_after(ZONE, [WWW], [Endpoint(server.address, server.port)], executor, timeout=2.0)
    (found,) = care.servers
    assert found.signed_until is not None
    assert (found.signed_until - time.time()) / DAY == pytest.approx(5.0, abs=0.01)


def test_a_zones_figures_are_those_that_its_server_gives(lab: Lab, executor: Executor) -> None:
    """EXPIRE, the longest TTL of the addresses, the name servers with their addresses, and names with address hints."""
    server = lab.knot(ZONE, TEXT)

    care = look_after(ZONE, [WWW], [Endpoint(server.address, server.port)], executor, timeout=2.0)
    assert [(found.expire, found.signed_until, found.text) for found in care.servers] == [(4_000_000, None, "")]
    assert (care.ttl, care.ns_ttl, care.hosts) == (300, 60, {"ns1.example.org": ("127.0.0.1",)})
    assert care.hints == (WWW,)


def test_a_silent_server_is_told_and_the_others_speak(lab: Lab, executor: Executor) -> None:
    """What it would have said is not made up."""
    server, gone = lab.knot(ZONE, TEXT), lab.knot(ZONE, TEXT, start=False)
    both = [Endpoint(one.address, one.port) for one in (gone, server)]

    care = look_after(ZONE, [WWW], both, executor, timeout=1.0)
    assert "gives no answer" in care.servers[0].text
    assert care.servers[1].expire == 4_000_000
    assert care.ttl == 300


def test_the_name_servers_of_a_hosts_name_are_found(lab: Lab) -> None:
    """Below a zone as at its top; an address needs none."""
    resolver = lab.unbound(lab.knot(ZONE, TEXT))
    where = Endpoint(resolver.address, resolver.port)

    found = [name_servers_of(host, resolver=where) for host in ("ssh.lyon.example.org", ZONE, "192.0.2.1", "::1")]
    assert found == [frozenset({"ns1.example.org"})] * 2 + [frozenset()] * 2
    assert name_servers_of("www.example.net", resolver=Endpoint("127.0.0.1", 1), timeout=0.5) == frozenset()


@dataclass
class Above:
    """A zone's parent at port 53, where everybody looks for it, and a resolver that knows both."""

    parent: NameServer
    child: NameServer
    resolver: Endpoint


@pytest.fixture
def above(lab: Lab) -> Callable[..., Above]:
    """Return what makes a parent `org` that delegates a zone for three days, and the zone, which says a minute."""
    address = f"127.0.{100 + os.getpid() % 100}.53"

    def make(zone: str, *records: str) -> Above:
        delegation = [f"{zone}. 259200 NS ns1.{zone}.", f"ns1.{zone}. 259200 A 127.0.0.1"]
        text = zone_text("org", delegation).replace("ns1 A 127.0.0.1", f"ns1 A {address}")
        parent = lab.knot("org", text, address=address, port=53, prefix=root_prefix())
        child = lab.knot(zone, zone_text(zone, records))
        resolver = lab.unbound(parent, child)
        return Above(parent, child, Endpoint(resolver.address, resolver.port))

    return make


@pytest.mark.parametrize("zone", [ZONE, "press.example.org"], ids=["just below", "two labels below"])
def test_for_how_long_a_zone_is_delegated_is_asked_of_its_parent(
    above: Callable[..., Above], executor: Executor, zone: str
) -> None:
    """The zone itself says what it likes; a change of name servers takes as long as the parent has it."""
    made = above(zone, "www 60 A 192.0.2.10")
    server = Endpoint(made.child.address, made.child.port)

    care = look_after(zone, [f"www.{zone}"], [server], executor, resolver=made.resolver, timeout=2.0)
    assert (care.ns_ttl, care.delegation_ttl) == (60, 259_200)


def test_a_referral_to_another_zone_is_not_the_delegation(above: Callable[..., Above], executor: Executor) -> None:
    """A name server that is named for a zone and does not hold it refers to somewhere above."""
    made = above(ZONE)
    human(made.child, ("replace", "@", 60, "NS", "ns1.org."))
    server = Endpoint(made.child.address, made.child.port)

    care = look_after(f"press.{ZONE}", [], [server], executor, resolver=made.resolver, timeout=2.0)
    assert care.delegation_ttl is None
