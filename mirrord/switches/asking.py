"""What do a zone's name servers answer, and how are they told that there is something new?

They are asked over TCP, all questions about a service's names at once, and believed only where they speak with
authority for that zone. This is what switches by DNS share, however they change the zone; `rfc2136` sends updates
over the same links. Exceptions of dnspython and of sockets become ours in `door`.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.resolver

from mirrord.errors import Unavailable
from mirrord.switches import (
    Change,
    Endpoint,
    Follow,
    Following,
    Found,
    NameServers,
    Rrsets,
    Zone,
    fence_name,
    parse_fence,
)
from mirrord.switches.change import Txt

CONNECT_WITHIN = 3.0
"""Seconds for a connection, where `timeout` is not shorter."""
DNS_PORT = 53
_WILDCARD = dns.name.Name([b"*"])


class BadAnswer(ValueError):
    """A server's answer is not the zone's own word; `door` makes it Unavailable, with the server's name."""


@contextlib.contextmanager
def door(doing: str) -> Iterator[None]:
    """Turn everything that dnspython and the socket raise into Unavailable, with `doing` before it."""
    try:
        yield
    except dns.exception.DNSException as e:
        raise Unavailable(f"{doing}: {sentence(e)}") from e
    except (OSError, EOFError, ValueError, struct.error) as e:
        raise Unavailable(f"{doing}: {sentence(e)}") from e


def sentence(error: Exception) -> str:
    """Say in words what a foreign exception means; never empty."""
    if isinstance(error, BadAnswer | EOFError) and str(error):
        return str(error)
    if isinstance(error, TimeoutError | dns.exception.Timeout):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class Link:
    """One TCP connection to a name server; messages are framed as in RFC 1035, section 4.2.2."""

    def __init__(self, endpoint: Endpoint, timeout: float, monotonic: Callable[[], float]) -> None:
        """Connect; raises OSError. `timeout` in seconds is for each exchange."""
        self._timeout = timeout
        self._monotonic = monotonic
        self._left = b""
        self._socket = socket.create_connection(endpoint, timeout=min(timeout, CONNECT_WITHIN))

    def __enter__(self) -> Self:
        """Use the connection in a block, and close it at its end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._socket.close()

    def send(self, wires: Iterable[bytes]) -> float:
        """Send messages in one go; return the monotonic time by which their answers must be there."""
        deadline = self._monotonic() + self._timeout
        self._socket.settimeout(self._timeout)
        self._socket.sendall(b"".join(struct.pack("!H", len(wire)) + wire for wire in wires))
        return deadline

    def receive(self, deadline: float) -> bytes:
        """Return the next message; raises TimeoutError, EOFError or OSError."""
        while len(self._left) < 2 or len(self._left) < 2 + self._length():
            remaining = deadline - self._monotonic()
            if remaining <= 0:
                raise TimeoutError
            self._socket.settimeout(remaining)
            read = self._socket.recv(65536)
            if not read:
                raise EOFError("the connection was closed before the answer")
            self._left += read
        end = 2 + self._length()
        wire, self._left = self._left[2:end], self._left[end:]
        return wire

    def _length(self) -> int:
        return int.from_bytes(self._left[:2], "big")


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked for: a name and a type."""

    name: dns.name.Name
    kind: dns.rdatatype.RdataType


class Asking:
    """Questions to the name servers of one service's zone. It holds no connection between calls."""

    def __init__(
        self,
        zone: str,
        names: Iterable[str],
        *,
        authoritative: Collection[Endpoint] = (),
        https: bool = False,
        mx: bool = False,
        notify: bool = True,
        timeout: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
        resolve: Callable[[str], Collection[str]] | None = None,
    ) -> None:
        """Take names as text. Raises dns.exception.DNSException where one is none.

        `https`, `mx`: look after these sets as well.
        `authoritative` are those who must follow, where that is configured; `notify`: tell them; `timeout` in
        seconds is for one connection or one answer; `resolve` finds a host's addresses, by the machine's resolver
        if None.
        """
        self.zone = dns.name.from_text(zone)
        self._names = {name: dns.name.from_text(name) for name in names}
        for name in names:
            dns.name.from_text(fence_name(name))
        self._authoritative = tuple(authoritative)
        self._notify = notify
        self._more = [kind for kind, wanted in ((dns.rdatatype.HTTPS, https), (dns.rdatatype.MX, mx)) if wanted]
        self._timeout = timeout
        self._monotonic = monotonic
        self._resolve = resolve or resolve_host

    def outside(self) -> list[str]:
        """Return the names that are not in the zone."""
        return [text for text, name in self._names.items() if not name.is_subdomain(self.zone)]

    def connect(self, endpoint: Endpoint) -> Link:
        """Connect to a server; raises OSError."""
        return Link(endpoint, self._timeout, self._monotonic)

    def nudge(self, known: NameServers) -> None:
        """Send every authoritative server a NOTIFY (RFC 1996) by UDP, once; the primary sends its own, seconds later.

        Measured: a secondary that accepts ours has the change after 8-12 ms, where BIND's own takes 3 to 5 s.
        """
        if not self._notify:
            return
        message = dns.message.make_query(self.zone, dns.rdatatype.SOA, flags=dns.flags.AA)
        message.set_opcode(dns.opcode.NOTIFY)
        wire = message.to_wire()
        for endpoint in self.endpoints(known):
            family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sender:
                sender.settimeout(0.0)
                sender.sendto(wire, (endpoint.address, endpoint.port))

    def endpoints(self, known: NameServers) -> list[Endpoint]:
        """Return who must follow."""
        found = (Endpoint(address, DNS_PORT) for addresses in known.values() for address in addresses)
        return list(dict.fromkeys(self._authoritative or found))

    def followers(self, change: Change, known: NameServers, executor: Executor | None = None) -> Mapping[str, Follow]:
        """Ask every authoritative server for all names; the executor's workers ask them at once."""
        endpoints = self.endpoints(known)
        found: dict[str, Follow] = {
            name: Follow(Following.UNREACHABLE, text=f"{name}: no address is known")
            for name, addresses in known.items()
            if not addresses and not self._authoritative
        }
        if executor is None:
            return found | {str(endpoint): self._follow(endpoint, change) for endpoint in endpoints}
        asked = {str(endpoint): executor.submit(self._follow, endpoint, change) for endpoint in endpoints}
        return found | {endpoint: answer.result() for endpoint, answer in asked.items()}

    def _follow(self, endpoint: Endpoint, change: Change) -> Follow:
        try:
            names, serial = self.read_at(endpoint)
        except Unavailable as e:
            return Follow(Following.UNREACHABLE, text=str(e))
        if change.to.matches(Zone(names)):
            return Follow(Following.FOLLOWS, serial, f"{endpoint}: has the new data (serial {serial})")
        return Follow(Following.OLD, serial, f"{endpoint}: does not have the new data yet (serial {serial})")

    def read_at(self, endpoint: Endpoint) -> tuple[dict[str, Found], int]:
        """Read every name and the serial from one server, in one state of the zone. Raises Unavailable."""
        before: dict[str, Found] | None = None
        with door(str(endpoint)), self.connect(endpoint) as link:
            for _ in range(5):
                serial, names = self._read_once(link)
                after, _ = self.soa(link)
                if serial == after or names == before:
                    return names, after
                before = names
        raise Unavailable(f"{endpoint}: the zone changed under every look")

    def _read_once(self, link: Link) -> tuple[int, dict[str, Found]]:
        questions = [_Question(self.zone, dns.rdatatype.SOA)]
        for name in self._names.values():
            fence = dns.name.from_text(fence_name(name.to_text()))
            questions += [_Question(name, kind) for kind in (dns.rdatatype.CNAME, dns.rdatatype.A, dns.rdatatype.AAAA)]
            questions += [_Question(fence, kind) for kind in (dns.rdatatype.CNAME, dns.rdatatype.TXT)]
            questions += [_Question(name, kind) for kind in self._more]
        answers = iter(self._ask(link, questions))
        serial = _serial(next(answers), self.zone)
        return serial, {text: self._found(link, name, answers) for text, name in self._names.items()}

    def _found(self, link: Link, name: dns.name.Name, answers: Iterator[dns.message.Message]) -> Found:
        """Take one name's answers."""
        alias, a, aaaa, fence_alias, fence = (next(answers) for _ in range(5))
        aliases, texts = _aliases(fence_alias), _texts(fence)
        if aliases or (texts and parse_fence(texts) is None):
            below = _WILDCARD.concatenate(name)
            kinds = (dns.rdatatype.CNAME, dns.rdatatype.TXT)
            wild_alias, wild = self._ask(link, [_Question(below, kind) for kind in kinds])
            # What a wildcard gives does not stand at the fence (RFC 4592, 3.3.2), nor do prerequisites see it there.
            aliases, texts = aliases - _aliases(wild_alias), frozenset() if texts == _texts(wild) else texts
        more = {kind: next(answers) for kind in self._more}
        told = {kind: frozenset(record.to_text() for record in _records(answer)) for kind, answer in more.items()}
        https, mx = told.get(dns.rdatatype.HTTPS), told.get(dns.rdatatype.MX)
        mx = None if mx is None else frozenset(map(str.lower, mx))
        ttl = max(_ttl(a), _ttl(aaaa), _ttl(more[dns.rdatatype.HTTPS]) if https else 0)
        rrsets = Rrsets(_addresses(a), _addresses(aaaa), texts, https, mx)
        return Found(rrsets, next(iter([*_aliases(alias), *aliases]), None), ttl)

    def soa(self, link: Link) -> tuple[int, dns.message.Message]:
        """Ask for the zone's SOA; return its serial and the answer. Raises as `door` knows."""
        (answer,) = self._ask(link, [_Question(self.zone, dns.rdatatype.SOA)])
        return _serial(answer, self.zone), answer

    def _ask(self, link: Link, questions: Collection[_Question]) -> list[dns.message.Message]:
        """Ask everything at once (RFC 7766, section 6.2.1.1); return the answers in order of the questions."""
        queries = {}
        for number, question in enumerate(questions):
            query = dns.message.make_query(question.name, question.kind, flags=0)
            query.id = number
            queries[number] = query
        deadline = link.send(query.to_wire() for query in queries.values())
        answers: dict[int, dns.message.Message] = {}
        while len(answers) < len(queries):
            answer = dns.message.from_wire(link.receive(deadline))
            asked = queries.get(answer.id)
            if asked is None or answer.id in answers or not asked.is_response(answer):
                raise BadAnswer("it answered what was not asked")
            answers[answer.id] = answer
        for number, answer in answers.items():
            _check_authority(queries[number], answer, self.zone)
        return [answers[number] for number in queries]

    def name_servers_at(self, endpoint: Endpoint) -> NameServers:
        """Return the zone's NS as one server has them; addresses outside of the zone by the machine's resolver."""
        with door(str(endpoint)), self.connect(endpoint) as link:
            (answer,) = self._ask(link, [_Question(self.zone, dns.rdatatype.NS)])
            hosts = [rdata.target for rdata in _records(answer)]
            found = {host: self._addresses(link, host) or self._resolve(host.to_text()) for host in hosts}
        return {host.to_text(omit_final_dot=True): tuple(sorted(addresses)) for host, addresses in found.items()}

    def name_servers_at_large(self) -> NameServers:
        """Return the zone's NS and their addresses as the machine's resolver finds them. Raises Unavailable."""
        with door(f"finding the name servers of {self.zone.to_text(omit_final_dot=True)}"):
            hosts = [str(record.target) for record in dns.resolver.resolve(self.zone, dns.rdatatype.NS, lifetime=5.0)]
        return {host.rstrip("."): tuple(sorted(self._resolve(host))) for host in hosts}

    def _addresses(self, link: Link, host: dns.name.Name) -> set[str]:
        """Return a host's addresses as the zone itself has them; empty where it lies elsewhere."""
        if not host.is_subdomain(self.zone):
            return set()
        try:
            answers = self._ask(link, [_Question(host, kind) for kind in (dns.rdatatype.A, dns.rdatatype.AAAA)])
        except BadAnswer:  # delegated to a zone below ours
            return set()
        return {record.address for answer in answers for record in _records(answer)}


# -- what answers say


def _check_authority(query: dns.message.Message, answer: dns.message.Message, zone: dns.name.Name) -> None:
    """Refuse what is not the zone's own word. Raises BadAnswer."""
    asked = query.question[0]  # an answer that is an error may leave it out
    what = f"{asked.name.to_text(omit_final_dot=True)} {dns.rdatatype.to_text(asked.rdtype)}"
    if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise BadAnswer(f"asked for {what} it said {dns.rcode.to_text(answer.rcode())}")
    if answer.flags & dns.flags.TC:  # over TCP there is nothing left to ask by: half a set is no set
        raise BadAnswer(f"asked for {what} it cut its answer short")
    if not answer.flags & dns.flags.AA:
        raise BadAnswer(f"asked for {what} it does not speak with authority")
    for rrset in answer.authority:
        if rrset.rdtype == dns.rdatatype.SOA and rrset.name != zone:
            other = rrset.name.to_text(omit_final_dot=True)
            raise BadAnswer(f"asked for {what} it answered from the zone {other}")


def _records(answer: dns.message.Message) -> list[Any]:
    """Return the records that answer the question itself, not those of an alias."""
    asked = answer.question[0]
    return [
        record
        for rrset in answer.answer
        if rrset.name == asked.name and rrset.rdtype == asked.rdtype
        for record in rrset
    ]


def _ttl(answer: dns.message.Message) -> int:
    asked = answer.question[0]
    return max((r.ttl for r in answer.answer if r.name == asked.name and r.rdtype == asked.rdtype), default=0)


def _serial(answer: dns.message.Message, zone: dns.name.Name) -> int:
    records = _records(answer)
    if len(records) != 1:
        raise BadAnswer(f"it has no SOA of {zone.to_text(omit_final_dot=True)}")
    return int(records[0].serial)


def _aliases(answer: dns.message.Message) -> frozenset[str]:
    return frozenset(record.target.to_text() for record in _records(answer))


def _addresses(answer: dns.message.Message) -> frozenset[str]:
    return frozenset(str(ip_address(record.address)) for record in _records(answer))


def _texts(answer: dns.message.Message) -> frozenset[Txt]:
    return frozenset(tuple(part.decode("latin-1") for part in record.strings) for record in _records(answer))


def resolve_host(host: str) -> set[str]:
    """Ask the machine's resolver for a host's addresses; empty where it has no answer."""
    found: set[str] = set()
    with contextlib.suppress(dns.exception.DNSException, OSError):
        resolver = dns.resolver.Resolver()
        for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
            with contextlib.suppress(dns.resolver.NoAnswer):
                found |= {record.address for record in resolver.resolve(host, kind, lifetime=3.0)}
    return found
