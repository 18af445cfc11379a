"""What do resolvers that readers use answer just now?

Beside the name servers themselves, some resolvers can be asked after a change: they say for how long they will still
give the old answer. What they say is evidence for people; nothing is decided by it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from mirrord.switches import Endpoint

PATIENCE = 2.0
"""Seconds for one answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one resolver answers at one name; no addresses and a text where it gave none."""

    resolver: str
    """`address:port`."""
    name: str
    addresses: frozenset[str] = frozenset()
    ttl: int = 0
    """For how many seconds it will go on answering this."""
    text: str = ""


def ask_resolvers(
    resolvers: Sequence[Endpoint], names: Collection[str], executor: Executor, timeout: float = PATIENCE
) -> list[Answer]:
    """Ask every resolver for A and AAAA of every name, all at once; never raises. In the order given."""
    asked = [executor.submit(_ask, resolver, name, timeout) for resolver in resolvers for name in names]
    return [answer.result() for answer in asked]


def _ask(resolver: Endpoint, name: str, timeout: float) -> Answer:
    found: set[str] = set()
    ttls: list[int] = []
    for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
        query = dns.message.make_query(name, kind)
        try:
            answer, _ = dns.query.udp_with_fallback(query, resolver.address, timeout, resolver.port)
        except (dns.exception.DNSException, OSError, EOFError) as e:
            return Answer(str(resolver), name, text=f"{resolver}: gives no answer: {str(e) or type(e).__name__}")
        if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return Answer(str(resolver), name, text=f"{resolver}: says {dns.rcode.to_text(answer.rcode())}")
        sets = [rrset for rrset in answer.answer if rrset.rdtype == kind]
        ttls += [rrset.ttl for rrset in sets]
        found |= {record.address for rrset in sets for record in rrset}
    return Answer(str(resolver), name, frozenset(found), max(ttls, default=0))
