"""How long does a zone live on when its primary is gone, and what would readers' resolvers keep?

Facts for whoever wants to know what will break next: the SOA's EXPIRE, after which secondaries fall silent; the end of
the signatures (DNSSEC); the TTLs of addresses, name servers and delegation; and where the name servers stand. They
are asked of the servers themselves. What follows from it is `report.forecast`'s to say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from ipaddress import ip_address

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset

from mirrord.switches import Endpoint

PATIENCE = 3.0
"""Seconds for one answer."""
_ADDRESSES = (dns.rdatatype.A, dns.rdatatype.AAAA)


@dataclass(frozen=True, slots=True)
class ServerCare:
    """What one authoritative server says of its zone; a text and nothing else where it gave no answer."""

    server: str
    """`address:port`."""
    serial: int | None = None
    expire: int | None = None
    """Seconds after which a secondary that cannot reach the primary stops answering (RFC 1035, 3.3.13)."""
    signed_until: float | None = None
    """Unix seconds at which the first signature runs out; None where the zone is not signed."""
    text: str = ""


@dataclass(frozen=True, slots=True)
class ZoneCare:
    """What was found out about one zone; TTLs in seconds."""

    zone: str
    servers: tuple[ServerCare, ...] = ()
    hosts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The zone's NS: host name -> addresses, as the zone or the resolver gives them."""
    ttl: int | None = None
    """The longest TTL of the service's addresses."""
    ns_ttl: int | None = None
    """The TTL of the NS set in the zone itself."""
    delegation_ttl: int | None = None
    """The TTL of the NS set at the parent; None where it could not be asked."""
    hints: tuple[str, ...] = ()
    """Names with HTTPS records that carry addresses of their own (RFC 9460)."""


def look_after(
    zone: str,
    names: Collection[str],
    servers: Sequence[Endpoint],
    executor: Executor,
    *,
    resolver: Endpoint | None = None,
    timeout: float = PATIENCE,
) -> ZoneCare:
    """Ask the servers of a zone all at once, and a resolver (None: the machine's own) for its parent; never raises."""
    if not servers:
        return ZoneCare(zone)
    runs = [executor.submit(_care, server, zone, names, timeout) for server in servers]
    parent = executor.submit(_delegation_ttl, zone, resolver, timeout)
    cares = tuple(run.result() for run in runs)
    whole = next((server for server, care in zip(servers, cares, strict=True) if not care.text), None)
    if whole is None:
        return ZoneCare(zone, cares, delegation_ttl=parent.result())
    hosts, ns_ttl = _name_servers(whole, zone, resolver, timeout)
    ttls = [_ttl(whole, name, kind, timeout) for name in names for kind in _ADDRESSES]
    hints = tuple(name for name in names if _has_hints(whole, name, timeout))
    return ZoneCare(zone, cares, hosts, max(ttls, default=0), ns_ttl, parent.result(), hints)


def _care(server: Endpoint, zone: str, names: Collection[str], timeout: float) -> ServerCare:
    try:
        soa = _ask(server, zone, dns.rdatatype.SOA, timeout)
        records = [record for rrset in soa if rrset.rdtype == dns.rdatatype.SOA for record in rrset]
        if not records:
            return ServerCare(str(server), text=f"{server}: does not answer for {zone}")
        # The keys are often signed by another key than the rest, for another time.
        answers = [soa, _ask(server, zone, dns.rdatatype.DNSKEY, timeout)]
        answers += [_ask(server, name, kind, timeout) for name in names for kind in _ADDRESSES]
    except (dns.exception.DNSException, OSError, EOFError, _NoAnswer) as e:
        return ServerCare(str(server), text=f"{server}: gives no answer: {str(e) or type(e).__name__}")
    ends = [float(r.expiration) for sets in answers for s in sets if s.rdtype == dns.rdatatype.RRSIG for r in s]
    return ServerCare(str(server), records[0].serial, records[0].expire, min(ends, default=None))


class _NoAnswer(Exception):
    pass


def _ask(server: Endpoint, name: str, kind: dns.rdatatype.RdataType, timeout: float) -> list[dns.rrset.RRset]:
    """Ask an authoritative server for a set with its signatures; an empty list where there is none."""
    query = dns.message.make_query(name, kind, want_dnssec=True, flags=0)
    answer, _ = dns.query.udp_with_fallback(query, server.address, timeout, server.port)
    if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise _NoAnswer(dns.rcode.to_text(answer.rcode()))
    return list(answer.answer)


def _ttl(server: Endpoint, name: str, kind: dns.rdatatype.RdataType, timeout: float) -> int:
    try:
        found = _ask(server, name, kind, timeout)
    except (dns.exception.DNSException, OSError, EOFError, _NoAnswer):
        return 0
    return max((rrset.ttl for rrset in found if rrset.rdtype == kind), default=0)


def _has_hints(server: Endpoint, name: str, timeout: float) -> bool:
    try:
        found = _ask(server, name, dns.rdatatype.HTTPS, timeout)
    except (dns.exception.DNSException, OSError, EOFError, _NoAnswer):
        return False
    texts = [record.to_text() for rrset in found if rrset.rdtype == dns.rdatatype.HTTPS for record in rrset]
    return any("hint=" in text for text in texts)


def _name_servers(
    server: Endpoint, zone: str, resolver: Endpoint | None, timeout: float
) -> tuple[dict[str, tuple[str, ...]], int | None]:
    try:
        found = [s for s in _ask(server, zone, dns.rdatatype.NS, timeout) if s.rdtype == dns.rdatatype.NS]
    except (dns.exception.DNSException, OSError, EOFError, _NoAnswer):
        return {}, None
    origin = dns.name.from_text(zone)
    hosts = {}
    for record in (record for rrset in found for record in rrset):
        host = record.target.to_text(omit_final_dot=True)
        inside = record.target.is_subdomain(origin)
        own = _addresses_at(server, host, timeout) if inside else set()
        hosts[host] = tuple(sorted(own or _resolved(host, resolver, timeout)))
    return hosts, max((rrset.ttl for rrset in found), default=None)


def _addresses_at(server: Endpoint, host: str, timeout: float) -> set[str]:
    found: set[str] = set()
    for kind in _ADDRESSES:
        try:
            sets = _ask(server, host, kind, timeout)
        except (dns.exception.DNSException, OSError, EOFError, _NoAnswer):
            continue
        found |= {record.address for rrset in sets if rrset.rdtype == kind for record in rrset}
    return found


def name_servers_of(host: str, *, resolver: Endpoint | None = None, timeout: float = PATIENCE) -> frozenset[str]:
    """Return the NS of the zone that a host is in, as a resolver finds them; none for an address; never raises."""
    with contextlib.suppress(ValueError):
        ip_address(host)
        return frozenset()
    try:
        zone = dns.resolver.zone_for_name(host, resolver=_resolver(resolver), lifetime=timeout)
    except (dns.exception.DNSException, OSError):
        return frozenset()
    return frozenset(name.rstrip(".").lower() for name in _look_up(zone.to_text(), "NS", resolver, timeout))


def _resolver(endpoint: Endpoint | None) -> dns.resolver.Resolver:
    """Return a resolver of our choice, or the machine's. Raises DNSException where it has none."""
    asked = dns.resolver.Resolver(configure=endpoint is None)
    if endpoint is not None:
        asked.nameservers = [endpoint.address]
        asked.port = endpoint.port
    return asked


def _resolved(host: str, resolver: Endpoint | None, timeout: float) -> set[str]:
    return {address for kind in ("A", "AAAA") for address in _look_up(host, kind, resolver, timeout)}


def _look_up(name: str, kind: str, resolver: Endpoint | None, timeout: float) -> list[str]:
    """Ask a resolver; an empty list where it has nothing, or does not answer."""
    try:
        answer = _resolver(resolver).resolve(name, kind, lifetime=timeout, search=False)
    except (dns.exception.DNSException, OSError):
        return []
    return [record.to_text() for record in answer]


def _delegation_ttl(zone: str, resolver: Endpoint | None, timeout: float) -> int | None:
    """Ask one of the parent's servers what it tells of the zone's NS; None where none could be found or asked."""
    name = dns.name.from_text(zone)
    try:  # not always one label up: `press.example.org` may be delegated by `org`
        parent = dns.resolver.zone_for_name(name.parent(), resolver=_resolver(resolver), lifetime=timeout)
    except (dns.exception.DNSException, OSError):
        return None
    for host in _look_up(parent.to_text(), "NS", resolver, timeout)[:3]:
        for address in sorted(_resolved(host, resolver, timeout), key=lambda a: ip_address(a).version)[:2]:
            query = dns.message.make_query(zone, dns.rdatatype.NS, flags=0)
            try:
                answer, _ = dns.query.udp_with_fallback(query, address, timeout)
            except (dns.exception.DNSException, OSError, EOFError):
                continue
            if (ttl := _told_of(name, [*answer.answer, *answer.authority])) is not None:
                return ttl
    return None


def _told_of(zone: dns.name.Name, sets: Iterable[dns.rrset.RRset]) -> int | None:
    """Return the TTL of a zone's own NS, not that of a referral to elsewhere."""
    return max((rrset.ttl for rrset in sets if rrset.rdtype == dns.rdatatype.NS and rrset.name == zone), default=None)
