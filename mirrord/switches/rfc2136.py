"""How are a zone's name servers read, and asked to change it?

DNS UPDATE (RFC 2136) signed with TSIG (RFC 8945), over TCP. This is the only import of dnspython; its exceptions become
ours here. What may be written is planned in `change`; whether it came to stand is found out in `transaction`,
which reads: NOERROR proves nothing.

The prerequisites name every set that stands at a name and at its fence, and that there is no CNAME: at a CNAME,
BIND and Knot answer NOERROR to an address, move the TXT and leave the name as it was. A plan applies at most
once, since it changes the TXT that it requires; so sending it again is safe, and believing that it was
not applied is the only danger.

What servers answer to an update that they will not have (seen on BIND 9.18, Knot 3.2, PowerDNS 4.7):

    a zone that it does not hold     NOTAUTH, signed; Knot: not signed
    a key that may not               REFUSED, signed; Knot: BADKEY
    unknown key, wrong secret        BADKEY, BADSIG, which are never signed (RFC 8945, 5.2)
    a wrong clock                    BADTIME, with its own time
    any of the last three, PowerDNS  REFUSED, not signed

A refusal without a signature is no reason to try the next road, and is believed only after reading. So that a
server which does not hold the zone, or hangs, costs no doubt, each road is asked for the zone's SOA before
the update is sent over the same connection: until then nothing was sent, and the next road is free.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import socket
import struct
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Literal, Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TSIG
import dns.resolver
import dns.tsig
import dns.update

from mirrord.errors import BadConfig, Refused, Unavailable
from mirrord.switches import (
    Change,
    DnsSettings,
    Endpoint,
    Follow,
    Following,
    Found,
    NameServers,
    Rrsets,
    Sent,
    SentKind,
    Zone,
    fence_name,
)

FUDGE = 60
"""Seconds by which the clocks may differ."""
CONNECT_WITHIN = 3.0
"""Seconds for a connection, where `timeout` is not shorter."""
SHUN_FOR = 20.0
"""Seconds for which a road that was silent is asked after the others."""
DNS_PORT = 53

_NOT_HERE = frozenset({dns.rcode.NOTAUTH, dns.rcode.REFUSED, dns.rcode.NOTIMP})
_FENCED = frozenset({dns.rcode.NXRRSET, dns.rcode.YXRRSET, dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN})
_NEVER = frozenset({dns.rcode.NOTZONE, dns.rcode.FORMERR})


class BadAnswer(ValueError):
    """A server's answer is not the zone's own word; `door` makes it Unavailable, with the server's name."""


@contextlib.contextmanager
def door(doing: str) -> Iterator[None]:
    """Turn everything that dnspython and the socket raise into Unavailable, with `doing` before it."""
    try:
        yield
    except dns.exception.DNSException as e:
        raise Unavailable(f"{doing}: {_sentence(e)}") from e
    except (OSError, EOFError, ValueError, struct.error) as e:
        raise Unavailable(f"{doing}: {_sentence(e)}") from e


def _sentence(error: Exception) -> str:
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


class Rfc2136:
    """The switch of one service whose zone takes DNS UPDATE; a `mirrord.switches.Switch`.

    It holds no connection between calls. The one thing that it remembers is which roads were silent a moment ago:
    they are asked after the others, so that the move after the look does not wait for them again.
    """

    fence: Literal["atomic", "best-effort"] = "atomic"

    def __init__(
        self,
        settings: DnsSettings,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        resolve: Callable[[str], Collection[str]] | None = None,
    ) -> None:
        """Check the settings; opens no connection. Raises BadConfig.

        `clock` (Unix seconds) dates signatures; `resolve` finds a host's addresses, by the machine's resolver if None.
        """
        faults = []
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._resolve = resolve or resolve_host
        self._silent: dict[Endpoint, float] = {}
        self._names: dict[str, dns.name.Name] = {}
        try:
            self._zone = dns.name.from_text(settings.zone)
            self._key_name = dns.name.from_text(settings.tsig.name)
            self._algorithm = dns.name.from_text(settings.tsig.algorithm)
            for name in settings.names:
                self._names[name] = dns.name.from_text(name)
                dns.name.from_text(fence_name(name))
                if not self._names[name].is_subdomain(self._zone):
                    faults.append(f"service {settings.service}: {name} is not in the zone {settings.zone}")
        except dns.exception.DNSException as e:
            faults.append(f"service {settings.service}: a name of its DNS settings is none: {_sentence(e)}")
        else:
            if self._algorithm == dns.tsig.GSS_TSIG or self._algorithm not in dns.tsig.mac_sizes:
                faults.append(
                    f"service {settings.service}: TSIG algorithm {settings.tsig.algorithm} is unknown; take hmac-sha256"
                )
        if not settings.servers:
            faults.append(f"service {settings.service}: no servers are configured")
        if faults:
            raise BadConfig(faults)

    # -- reading

    def read(self, first: str = "") -> Zone:
        """Read all names at the first road that answers with authority. Raises Unavailable, naming every road."""
        failed: list[str] = []
        for road in self._roads(first):
            try:
                names, serial = self._read_at(road)
            except Unavailable as e:
                self._avoid(road, e)
                failed.append(str(e))
                continue
            self._silent.pop(road, None)
            return Zone(names, serial, str(road), road != self._settings.servers[0], tuple(failed))
        raise Unavailable(
            f"{self._settings.service}: reading {self._settings.zone}: no road answers: {'; '.join(failed)}"
        )

    def name_servers(self) -> NameServers:
        """Find the zone's NS; addresses inside the zone from the same server, others from the machine's resolver.

        Raises Unavailable. Empty where `authoritative` is configured.
        """
        if self._settings.authoritative:
            return {}
        failed: list[str] = []
        for road in self._roads(""):
            try:
                return self._name_servers_at(road)
            except Unavailable as e:
                failed.append(str(e))
        raise Unavailable(
            f"{self._settings.service}: finding the name servers of {self._settings.zone}: "
            f"no road answers: {'; '.join(failed)}"
        )

    def nudge(self, known: NameServers) -> None:
        """Send every authoritative server a NOTIFY (RFC 1996) by UDP, once; the primary sends its own, seconds later.

        Measured: a secondary that accepts ours has the change after 8-12 ms, where BIND's own takes 3 to 5 s.
        """
        if not self._settings.notify:
            return
        message = dns.message.make_query(self._zone, dns.rdatatype.SOA, flags=dns.flags.AA)
        message.set_opcode(dns.opcode.NOTIFY)
        wire = message.to_wire()
        for endpoint in self._endpoints(known):
            family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sender:
                sender.settimeout(0.0)
                sender.sendto(wire, (endpoint.address, endpoint.port))

    def _endpoints(self, known: NameServers) -> list[Endpoint]:
        """Return who must follow."""
        found = (Endpoint(address, DNS_PORT) for addresses in known.values() for address in addresses)
        return list(dict.fromkeys(self._settings.authoritative or found))

    def followers(self, change: Change, known: NameServers, executor: Executor | None = None) -> Mapping[str, Follow]:
        """Ask every authoritative server for all names; the executor's workers ask them at once."""
        endpoints = self._endpoints(known)
        found: dict[str, Follow] = {
            name: Follow(Following.UNREACHABLE, text=f"{name}: no address is known")
            for name, addresses in known.items()
            if not addresses and not self._settings.authoritative
        }
        if executor is None:
            return found | {str(endpoint): self._follow(endpoint, change) for endpoint in endpoints}
        asked = {str(endpoint): executor.submit(self._follow, endpoint, change) for endpoint in endpoints}
        return found | {endpoint: answer.result() for endpoint, answer in asked.items()}

    def _follow(self, endpoint: Endpoint, change: Change) -> Follow:
        try:
            names, serial = self._read_at(endpoint)
        except Unavailable as e:
            return Follow(Following.UNREACHABLE, text=str(e))
        if change.to.matches(Zone(names)):
            return Follow(Following.FOLLOWS, serial, f"{endpoint}: has the new data (serial {serial})")
        return Follow(Following.OLD, serial, f"{endpoint}: does not have the new data yet (serial {serial})")

    def _roads(self, first: str) -> list[Endpoint]:
        """Return the roads in order: the one asked for, those not lately silent, the others."""
        now = self._monotonic()

        def shunned(road: Endpoint) -> bool:
            return now - self._silent.get(road, -SHUN_FOR) < SHUN_FOR

        return sorted(self._settings.servers, key=lambda road: (str(road) != first, shunned(road)))

    def _avoid(self, road: Endpoint, error: Unavailable) -> None:
        """Remember a road that took no connection or gave no answer; one that answers wrongly costs no time."""
        if isinstance(error.__cause__, OSError):
            self._silent[road] = self._monotonic()

    def _connect(self, endpoint: Endpoint) -> Link:
        return Link(endpoint, self._settings.timeout, self._monotonic)

    def _read_at(self, endpoint: Endpoint) -> tuple[dict[str, Found], int]:
        """Read every name and the serial from one server, in one state of the zone. Raises Unavailable."""
        before: dict[str, Found] | None = None
        with door(str(endpoint)), self._connect(endpoint) as link:
            for _ in range(5):
                serial, names = self._read_once(link)
                after, _ = self._soa(link)
                if serial == after or names == before:
                    return names, after
                before = names
        raise Unavailable(f"{endpoint}: the zone changed under every look")

    def _read_once(self, link: Link) -> tuple[int, dict[str, Found]]:
        questions = [_Question(self._zone, dns.rdatatype.SOA)]
        for name in self._names.values():
            fence = dns.name.from_text(fence_name(name.to_text()))
            questions += [_Question(name, kind) for kind in (dns.rdatatype.CNAME, dns.rdatatype.A, dns.rdatatype.AAAA)]
            questions += [_Question(fence, kind) for kind in (dns.rdatatype.CNAME, dns.rdatatype.TXT)]
        answers = iter(self._ask(link, questions))
        serial = _serial(next(answers), self._zone)
        return serial, {name: _found(*(next(answers) for _ in range(5))) for name in self._names}

    def _soa(self, link: Link) -> tuple[int, dns.message.Message]:
        (answer,) = self._ask(link, [_Question(self._zone, dns.rdatatype.SOA)])
        return _serial(answer, self._zone), answer

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
            _check_authority(queries[number], answer, self._zone)
        return [answers[number] for number in queries]

    def _name_servers_at(self, endpoint: Endpoint) -> NameServers:
        with door(str(endpoint)), self._connect(endpoint) as link:
            (answer,) = self._ask(link, [_Question(self._zone, dns.rdatatype.NS)])
            hosts = [rdata.target for rdata in _records(answer)]
            found = {host: self._addresses(link, host) or self._resolve(host.to_text()) for host in hosts}
        return {host.to_text(omit_final_dot=True): tuple(sorted(addresses)) for host, addresses in found.items()}

    def _addresses(self, link: Link, host: dns.name.Name) -> set[str]:
        """Return a host's addresses as the zone itself has them; empty where it lies elsewhere."""
        if not host.is_subdomain(self._zone):
            return set()
        try:
            answers = self._ask(link, [_Question(host, kind) for kind in (dns.rdatatype.A, dns.rdatatype.AAAA)])
        except BadAnswer:  # delegated to a zone below ours
            return set()
        return {record.address for answer in answers for record in _records(answer)}

    # -- changing

    def send(self, change: Change) -> Sent:
        """Send the change over the first road that takes it. Raises Refused where the secret cannot be used."""
        key = self._key()
        update = build_update(change, self._settings.zone)
        passed: list[Sent] = []
        for road in self._roads(""):
            sent, next_is_free = self._send_over(road, update, key)
            if not next_is_free:
                return sent
            passed.append(sent)
        refusals = [sent for sent in passed if sent.kind is SentKind.REFUSED]
        if refusals:
            return refusals[-1]
        why = "; ".join(sent.text for sent in passed)
        return Sent(SentKind.UNSENT, f"{self._doing}: no road can be used, nothing was sent: {why}")

    def prove(self) -> None:
        """Write what stands once more, in its place: the server shows whether it lets us in, and nothing changes.

        It applies only while exactly that stands, so a late one undoes no move. Where our TXT does not stand yet
        nothing of the zone is ours to write. Raises Refused, Unavailable.
        """
        zone = self.read()
        stands = zone.stands
        if not stands.epoch:
            raise Unavailable(f"{self._doing}: nothing of ours stands there yet that could be written once more")
        same = Change(
            service=self._settings.service,
            plan="",
            epoch=stands.epoch,
            target="",
            by="",
            from_=stands,
            to=stands,
            ttl=zone.ttl,
            was_ttl=zone.ttl,
        )
        sent = self.send(same)
        if sent.kind is SentKind.REFUSED:
            raise Refused(sent.text)
        if sent.kind is not SentKind.ACCEPTED:
            raise Unavailable(sent.text)

    @property
    def _doing(self) -> str:
        return f"{self._settings.service}: updating {self._settings.zone}"

    def _key(self) -> dns.tsig.Key:
        text = "".join(self._settings.tsig.secret().split())
        try:
            secret = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if not secret:
            raise Refused(
                f"{self._doing}: the TSIG secret is not base64; it is the value of `secret` in the server's own key"
            )
        return dns.tsig.Key(self._key_name, secret, self._algorithm)

    def _send_over(self, road: Endpoint, update: dns.update.UpdateMessage, key: dns.tsig.Key) -> tuple[Sent, bool]:
        """Send over one road; also tell whether the next may be tried: nothing can have been done here."""
        now = self._clock()
        wire, mac = sign(update, key, int(now))
        with contextlib.ExitStack() as closing:
            try:
                with door(str(road)):
                    link = closing.enter_context(self._connect(road))
                    self._soa(link)
            except Unavailable as e:
                self._avoid(road, e)
                return Sent(SentKind.UNSENT, str(e), str(road)), True
            doing = f"{self._doing} at {road}"
            try:
                with door(doing):
                    answer = link.receive(link.send([wire]))
                    plain = dns.message.from_wire(answer, keyring=False)
                    unsigned = _unsigned(answer, key, mac)
            except Unavailable as e:
                return Sent(SentKind.UNKNOWN, f"{e}; whether it was applied is unknown", str(road)), False
        if not update.is_response(plain):
            text = f"{doing}: the answer is to something else; whether it was applied is unknown"
            return Sent(SentKind.UNKNOWN, text, str(road)), False
        if plain.tsig is not None and plain.tsig[0].error:
            return self._tsig_error(plain.tsig[0], doing, road, now), False
        return self._judge(plain.rcode(), unsigned, doing, road)

    def _judge(self, rcode: dns.rcode.Rcode, unsigned: str, doing: str, road: Endpoint) -> tuple[Sent, bool]:
        """Judge an answer by its code; `unsigned` says why it cannot be believed, empty where it can."""
        said = dns.rcode.to_text(rcode)
        if unsigned:
            if rcode not in _NOT_HERE:
                text = f"{doing}: the answer {said} {unsigned}; whether it was applied is unknown"
                return Sent(SentKind.UNKNOWN, text, str(road)), False
            text = (
                f"{doing}: it said {said}, which {unsigned}; PowerDNS does so where the TSIG name, algorithm, "
                "secret or the clock do not fit: compare them, and whether the key may update the zone"
            )
            return Sent(SentKind.REFUSED, text, str(road)), False
        if rcode == dns.rcode.NOERROR:
            return Sent(SentKind.ACCEPTED, f"{doing}: accepted", str(road)), False
        if rcode in _FENCED:
            text = f"{doing}: refused by the fence ({said}): the zone is not as mirrord left it; nothing was changed"
            return Sent(SentKind.FENCED, text, str(road)), False
        if rcode in _NOT_HERE:
            what = {
                dns.rcode.NOTAUTH: "it does not hold the zone",
                dns.rcode.NOTIMP: "it takes no updates, or does not forward them",
            }.get(rcode, f"the key {self._settings.tsig.name} may not update the zone there")
            return Sent(SentKind.REFUSED, f"{doing}: {said}: {what}; nothing was changed", str(road), signed=True), True
        if rcode in _NEVER:
            what = "a name lies outside of the zone" if rcode == dns.rcode.NOTZONE else "it cannot read the update"
            return Sent(
                SentKind.REFUSED, f"{doing}: {said}: {what}; nothing was changed", str(road), signed=True
            ), False
        text = f"{doing}: the server failed ({said}); whether it was applied is unknown"
        return Sent(SentKind.UNKNOWN, text, str(road)), False

    def _tsig_error(self, tsig: Any, doing: str, road: Endpoint, now: float) -> Sent:
        """Say what the server did not like about our signature (RFC 8945, section 5.2)."""
        key, algorithm = self._settings.tsig.name, self._settings.tsig.algorithm
        difference = None
        if tsig.error == dns.rcode.BADTIME and len(tsig.other) == 6:
            difference = int.from_bytes(tsig.other, "big") - now
        said = {
            dns.rcode.BADKEY: f"BADKEY: no key {key} ({algorithm}) may do this there; compare name and algorithm",
            dns.rcode.BADSIG: f"BADSIG: the secret of the key {key} is another one there; compare the secrets",
            dns.rcode.BADTIME: f"BADTIME: {_clocks(difference)}; set the clock right",
            dns.rcode.BADTRUNC: f"BADTRUNC: it does not take signatures as short as {algorithm}'s",
        }.get(tsig.error, f"TSIG error {tsig.error}")
        return Sent(SentKind.REFUSED, f"{doing}: {said}; nothing was changed", str(road), difference)


def _clocks(difference: float | None) -> str:
    if difference is None:
        return f"its clock and ours differ by more than {FUDGE} s"
    return f"its clock is {abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} ours"


def build_update(change: Change, zone: str) -> dns.update.UpdateMessage:
    """Write the one UPDATE of a change: for every name what must stand (RFC 2136, 2.4), then what shall (2.5).

    Only A and AAAA of the names and TXT of their fences are written, each set whole, with our TTL.
    """
    update = dns.update.UpdateMessage(dns.name.from_text(zone))
    for text, stands in change.from_.names.items():
        name, fence = dns.name.from_text(text), dns.name.from_text(fence_name(text))
        for owner in (name, fence):
            update.absent(owner, dns.rdatatype.CNAME)
        for owner, kind, records in _sets(name, fence, stands):
            if records:
                update.present(owner, *records)
            else:
                update.absent(owner, kind)
    for text, shall in change.to.names.items():
        name, fence = dns.name.from_text(text), dns.name.from_text(fence_name(text))
        for owner, kind, records in _sets(name, fence, shall):
            update.delete(owner, kind)
            for record in records:
                update.add(owner, change.ttl, record)
    return update


def _sets(
    name: dns.name.Name, fence: dns.name.Name, rrsets: Rrsets
) -> Iterator[tuple[dns.name.Name, dns.rdatatype.RdataType, list[dns.rdata.Rdata]]]:
    """Return the three sets of a name: owner, type, records in a fixed order."""
    for kind, addresses in ((dns.rdatatype.A, rrsets.a), (dns.rdatatype.AAAA, rrsets.aaaa)):
        records = [dns.rdata.from_text(dns.rdataclass.IN, kind, address) for address in sorted(addresses)]
        yield name, kind, records
    texts = [
        dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.TXT, wire, 0, len(wire))
        for wire in (_txt_wire(record) for record in sorted(rrsets.fence))
    ]
    yield fence, dns.rdatatype.TXT, texts


def _txt_wire(record: tuple[str, ...]) -> bytes:
    strings = [text.encode("latin-1") for text in record]
    return b"".join(bytes([len(string)]) + string for string in strings)


def sign(update: dns.update.UpdateMessage, key: dns.tsig.Key, now: int) -> tuple[bytes, bytes]:
    """Return the message signed at `now` (Unix seconds), and the MAC that the answer's signature covers.

    The TSIG record is put at the end of the message by hand (RFC 8945, 4.2): dnspython would date it by its own clock.
    """
    empty = dns.rdtypes.ANY.TSIG.TSIG(  # type: ignore[no-untyped-call] # dnspython leaves its rdata untyped
        dns.rdataclass.ANY, dns.rdatatype.TSIG, key.algorithm, 0, FUDGE, b"", update.id, 0, b""
    )
    plain = update.to_wire()
    tsig, _ = dns.tsig.sign(plain, key, empty, now)  # type: ignore[no-untyped-call] # the same
    rdata = tsig.to_wire()
    head = struct.pack("!HHIH", dns.rdatatype.TSIG, dns.rdataclass.ANY, 0, len(rdata))
    additional = int.from_bytes(plain[10:12], "big") + 1
    record = (key.name.to_wire() or b"") + head + rdata
    return plain[:10] + additional.to_bytes(2, "big") + plain[12:] + record, tsig.mac


def _unsigned(answer: bytes, key: dns.tsig.Key, mac: bytes) -> str:
    """Say why an answer cannot be believed, as the end of a sentence; empty where its signature holds."""
    try:
        message = dns.message.from_wire(answer, keyring=key, request_mac=mac)
    except dns.tsig.BadTime:
        return "is dated by a clock that differs too much from ours"
    except dns.exception.DNSException:
        return "has no signature that holds"
    return "" if message.had_tsig else "has no signature"


# -- what answers say


def _check_authority(query: dns.message.Message, answer: dns.message.Message, zone: dns.name.Name) -> None:
    """Refuse what is not the zone's own word. Raises BadAnswer."""
    asked = query.question[0]  # an answer that is an error may leave it out
    what = f"{asked.name.to_text(omit_final_dot=True)} {dns.rdatatype.to_text(asked.rdtype)}"
    if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise BadAnswer(f"asked for {what} it said {dns.rcode.to_text(answer.rcode())}")
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


def _found(
    alias: dns.message.Message,
    a: dns.message.Message,
    aaaa: dns.message.Message,
    fence_alias: dns.message.Message,
    fence: dns.message.Message,
) -> Found:
    """Put one name's five answers together."""
    aliases = [record.target.to_text() for answer in (alias, fence_alias) for record in _records(answer)]
    rrsets = Rrsets(
        frozenset(str(ip_address(record.address)) for record in _records(a)),
        frozenset(str(ip_address(record.address)) for record in _records(aaaa)),
        frozenset(tuple(part.decode("latin-1") for part in record.strings) for record in _records(fence)),
    )
    return Found(rrsets, aliases[0] if aliases else None, max(_ttl(a), _ttl(aaaa)))


def resolve_host(host: str) -> set[str]:
    """Ask the machine's resolver for a host's addresses; empty where it has no answer."""
    found: set[str] = set()
    with contextlib.suppress(dns.exception.DNSException, OSError):
        resolver = dns.resolver.Resolver()
        for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
            with contextlib.suppress(dns.resolver.NoAnswer):
                found |= {record.address for record in resolver.resolve(host, kind, lifetime=3.0)}
    return found
