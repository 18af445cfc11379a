"""How are a zone's name servers read, and asked to change it?

DNS UPDATE (RFC 2136) signed with TSIG (RFC 8945), over TCP. What may be written is planned in `change`; whether it
came to stand is found out in `transaction`, which reads: NOERROR proves nothing. How answers are read is in `asking`.

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

import contextlib
import struct
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Literal

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TSIG
import dns.tsig
import dns.update

from mirrord.errors import BadConfig, Refused, Unavailable
from mirrord.switches import (
    Change,
    DnsSettings,
    Endpoint,
    Expected,
    Follow,
    Following,
    NameServers,
    Rrsets,
    Sent,
    SentKind,
    Zone,
    fence_name,
)
from mirrord.switches.asking import Asking, door, sentence

FUDGE = 60
"""Seconds by which the clocks may differ."""
SHUN_FOR = 20.0
"""Seconds for which a road that was silent is asked after the others, when reading: the next look tries it again."""
SHUN_SENDING_FOR = 60.0
"""The same for updates: a move that is due between two looks does not try it before they do."""

_NOT_HERE = frozenset({dns.rcode.NOTAUTH, dns.rcode.REFUSED, dns.rcode.NOTIMP})
_FENCED = frozenset({dns.rcode.NXRRSET, dns.rcode.YXRRSET, dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN})
_NEVER = frozenset({dns.rcode.NOTZONE, dns.rcode.FORMERR})


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
        self._silent: dict[Endpoint, float] = {}
        try:
            self._asking = Asking(
                settings.zone,
                settings.names,
                authoritative=settings.authoritative,
                https=settings.https,
                mx=bool(settings.mx),
                notify=settings.notify,
                timeout=settings.timeout,
                monotonic=monotonic,
                resolve=resolve,
            )
            self._key_name = dns.name.from_text(settings.tsig.name)
            self._algorithm = dns.name.from_text(settings.tsig.algorithm)
        except dns.exception.DNSException as e:
            faults.append(f"service {settings.service}: a name of its DNS settings is none: {sentence(e)}")
        else:
            outside = self._asking.outside()
            faults += [f"service {settings.service}: {name} is not in the zone {settings.zone}" for name in outside]
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
                names, serial = self._asking.read_at(road)
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
                return self._asking.name_servers_at(road)
            except Unavailable as e:
                failed.append(str(e))
        raise Unavailable(
            f"{self._settings.service}: finding the name servers of {self._settings.zone}: "
            f"no road answers: {'; '.join(failed)}"
        )

    def nudge(self, known: NameServers) -> None:
        """Send every authoritative server a NOTIFY."""
        self._asking.nudge(known)

    def followers(self, change: Change, known: NameServers, executor: Executor | None = None) -> Mapping[str, Follow]:
        """Ask every authoritative server for all names; the executor's workers ask them at once."""
        return _told_who_never_follows(self._asking.followers(change, known, executor))

    def _roads(self, first: str, shun_for: float = SHUN_FOR) -> list[Endpoint]:
        """Return the roads in order: the one asked for, those not lately silent, the others."""
        now = self._monotonic()

        def shunned(road: Endpoint) -> bool:
            return now - self._silent.get(road, -shun_for) < shun_for

        return sorted(self._settings.servers, key=lambda road: (str(road) != first, shunned(road)))

    def _avoid(self, road: Endpoint, error: Unavailable) -> None:
        """Remember a road that took no connection or gave no answer; one that answers wrongly costs no time."""
        if isinstance(error.__cause__, OSError):
            self._silent[road] = self._monotonic()

    # -- changing

    def send(self, change: Change) -> Sent:
        """Send the change over the first road that takes it. Raises Refused where the secret cannot be used."""
        return self._send(build_update(change, self._settings.zone))

    def _send(self, update: dns.update.UpdateMessage) -> Sent:
        key = self._key()
        passed: list[Sent] = []
        for road in self._roads("", SHUN_SENDING_FOR):
            sent, next_is_free = self._send_over(road, update, key)
            if not next_is_free:
                return sent
            passed.append(sent)
        refusals = [sent for sent in passed if sent.kind is SentKind.REFUSED]
        if refusals:
            return refusals[-1]
        why = "; ".join(sent.text for sent in passed)
        return Sent(SentKind.UNSENT, f"{self._doing}: no road can be used, nothing was sent: {why}")

    def keep(self, expected: Expected) -> None:
        """Do nothing: name servers keep what they were given."""

    def prove(self) -> None:
        """Delete records that are not there (RFC 2136, 3.4.2.4): the server shows whether it lets us in.

        Records that are there would have to be written with some TTL, and each keeps the one that it has. Where our TXT
        does not stand yet nothing of the zone is ours to write. Raises Refused, Unavailable.
        """
        stands = self.read().stands
        if not stands.epoch:
            raise Unavailable(f"{self._doing}: nothing of ours stands there yet, so nothing can be tried")
        sent = self._send(build_proof(stands, self._settings.zone))
        if sent.kind is SentKind.REFUSED:
            raise Refused(sent.text)
        if sent.kind is not SentKind.ACCEPTED:
            raise Unavailable(sent.text)

    @property
    def _doing(self) -> str:
        return f"{self._settings.service}: updating {self._settings.zone}"

    def _key(self) -> dns.tsig.Key:
        try:
            secret = self._settings.tsig.octets()
        except ValueError as e:
            raise Refused(f"{self._doing}: the TSIG secret {e}") from None
        return dns.tsig.Key(self._key_name, secret, self._algorithm)

    def _send_over(self, road: Endpoint, update: dns.update.UpdateMessage, key: dns.tsig.Key) -> tuple[Sent, bool]:
        """Send over one road; also tell whether the next may be tried: nothing can have been done here."""
        now = self._clock()
        wire, mac = sign(update, key, int(now))
        with contextlib.ExitStack() as closing:
            try:
                with door(str(road)):
                    link = closing.enter_context(self._asking.connect(road))
                    self._asking.soa(link)
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
            mail = ", or an MX would name a host of the zone that has no address" if self._settings.mx else ""
            what = {
                dns.rcode.NOTAUTH: "it does not hold the zone",
                dns.rcode.NOTIMP: "it takes no updates, or does not forward them",
            }.get(rcode, f"the key {self._settings.tsig.name} may not update the zone there{mail}")
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


def _told_who_never_follows(found: Mapping[str, Follow]) -> Mapping[str, Follow]:
    """Say so of a secondary whose serial is not below that of who has the change, which was restored from an old zone.

    Serials are compared as RFC 1982 has it. Who signs what it copies has serials of its own, hence the "if".
    """
    has = next(((where, one.serial) for where, one in found.items() if one.following is Following.FOLLOWS), None)
    if has is None or has[1] is None:
        return found
    told = dict(found)
    for where, one in found.items():
        if one.following is Following.OLD and one.serial is not None and (one.serial - has[1]) % 2**32 < 2**31:
            text = (
                f"{one.text}; if it copies the zone from {has[0]}, it takes nothing until the serial there, {has[1]},"
            )
            told[where] = replace(one, text=f"{text} is above its own: raise that one")
    return told


def _clocks(difference: float | None) -> str:
    if difference is None:
        return f"its clock and ours differ by more than {FUDGE} s"
    return f"its clock is {abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} ours"


def build_update(change: Change, zone: str) -> dns.update.UpdateMessage:
    """Write the one UPDATE of a change: for every name what must stand (RFC 2136, 2.4), then what shall (2.5).

    Only A and AAAA of the names, TXT of their fences, and of the names HTTPS and MX where these are looked after, are
    written, each set whole, with our TTL.
    """
    update = _only_where(change.from_, zone)
    for owner, kind, records in _all_sets(change.to):
        update.delete(owner, kind)
        for record in records:
            update.add(owner, change.ttl, record)
    return update


def build_proof(stands: Expected, zone: str) -> dns.update.UpdateMessage:
    """Write an UPDATE of the same sets as a change has, under the same conditions, that changes nothing."""
    update = _only_where(stands, zone)
    for owner, kind, records in _all_sets(stands):
        absent = dns.rdata.from_text(dns.rdataclass.IN, kind, _NOBODYS[kind])
        if absent not in records:
            update.delete(owner, absent)
    return update


_NOBODYS = {
    dns.rdatatype.A: "255.255.255.255",
    dns.rdatatype.AAAA: "::",
    dns.rdatatype.TXT: "mirrord",
    dns.rdatatype.HTTPS: "65535 mirrord.invalid.",
    dns.rdatatype.MX: "65535 mirrord.invalid.",
}
"""Records that stand nowhere."""


def _only_where(stands: Expected, zone: str) -> dns.update.UpdateMessage:
    """Return an UPDATE without changes that holds only where exactly this stands."""
    update = dns.update.UpdateMessage(dns.name.from_text(zone))
    for text in stands.names:
        for name in (text, fence_name(text)):
            update.absent(dns.name.from_text(name), dns.rdatatype.CNAME)
    for owner, kind, records in _all_sets(stands):
        if records:
            update.present(owner, *records)
        else:
            update.absent(owner, kind)
    return update


def _all_sets(
    state: Expected,
) -> Iterator[tuple[dns.name.Name, dns.rdatatype.RdataType, list[dns.rdata.Rdata]]]:
    for text, rrsets in state.names.items():
        yield from _sets(dns.name.from_text(text), dns.name.from_text(fence_name(text)), rrsets)


def _sets(
    name: dns.name.Name, fence: dns.name.Name, rrsets: Rrsets
) -> Iterator[tuple[dns.name.Name, dns.rdatatype.RdataType, list[dns.rdata.Rdata]]]:
    """Return the sets of a name that are looked after: owner, type, records in a fixed order."""
    for kind, addresses in ((dns.rdatatype.A, rrsets.a), (dns.rdatatype.AAAA, rrsets.aaaa)):
        records = [dns.rdata.from_text(dns.rdataclass.IN, kind, address) for address in sorted(addresses)]
        yield name, kind, records
    for kind, texts_of in ((dns.rdatatype.HTTPS, rrsets.https), (dns.rdatatype.MX, rrsets.mx)):
        if texts_of is not None:
            yield name, kind, [dns.rdata.from_text(dns.rdataclass.IN, kind, text) for text in sorted(texts_of)]
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
