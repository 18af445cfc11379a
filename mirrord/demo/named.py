"""How does a name server answer for one zone, and let itself be changed?

Small, and authoritative for one zone in memory: queries by UDP and TCP (RFC 1035), changes by DNS UPDATE (RFC 2136)
signed with TSIG (RFC 8945), applied whole or not at all, with every prerequisite that the RFC names. No zone
transfers, no DNSSEC, no wildcards, no delegation.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
import socket
import struct
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rdtypes.ANY.SOA
import dns.rrset
import dns.tsig
import dns.update
import dns.zone

from mirrord.demo.plug import Plugged

FUDGE = 60
"""Seconds by which the clocks may differ."""

_META = {dns.rdatatype.ANY, dns.rdatatype.AXFR, dns.rdatatype.IXFR, dns.rdatatype.MAILA, dns.rdatatype.MAILB}
_ALONE = {dns.rdatatype.CNAME, dns.rdatatype.DNAME}
_LONGEST_UDP = 1232

Records = dict[tuple[dns.name.Name, dns.rdatatype.RdataType], dns.rdataset.Rdataset]
"""A zone: owner and type -> what stands there."""


class Refusal(Exception):
    """The answer is this response code and nothing else."""

    def __init__(self, rcode: dns.rcode.Rcode) -> None:
        """Keep the code."""
        super().__init__(dns.rcode.to_text(rcode))
        self.rcode = rcode


class NameServer(Plugged):
    """Answers for one zone, by UDP and TCP at the same port; a context manager.

    `key_name` and `secret` (base64, hmac-sha256) are who may change it. Its records can be read at any time.
    """

    def __init__(
        self,
        zone: str,
        text: str,
        *,
        key_name: str = "mirrord",
        secret: str | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """Read the zone from master-file text (RFC 1035, 5), which has its SOA. Raises ValueError for a bad one."""
        super().__init__(address, port)
        self.key_name = key_name
        self.secret = secret or base64.b64encode(secrets.token_bytes(32)).decode()
        self._key = dns.tsig.Key(key_name, self.secret, dns.tsig.HMAC_SHA256)
        self._zone_lock = threading.Lock()
        try:
            read = dns.zone.from_text(text, origin=zone, relativize=False)
        except dns.exception.DNSException as e:
            raise ValueError(f"the zone {zone}: {e}") from e
        self.origin = dns.name.from_text(zone)
        self._records: Records = {
            (name, rdataset.rdtype): rdataset for name, node in read.nodes.items() for rdataset in node.rdatasets
        }
        self._udp: socket.socket | None = None

    @property
    def serial(self) -> int:
        """The zone's SOA serial now."""
        with self._zone_lock:
            return int(_soa(self._records, self.origin)[0].serial)

    def records(self, name: str, kind: str) -> list[str]:
        """Return what stands at a name, as text, sorted."""
        with self._zone_lock:
            found = self._records.get((dns.name.from_text(name), dns.rdatatype.from_text(kind)))
        return sorted(rdata.to_text() for rdata in found or ())

    def start(self) -> Self:
        """Listen at both. Raises OSError where a port is taken."""
        while self._udp is None:
            any_port = not self.port
            super().start()
            udp = socket.socket(socket.AF_INET6 if ":" in self.address else socket.AF_INET, socket.SOCK_DGRAM)
            try:
                udp.bind((self.address, self.port))
            except OSError:
                udp.close()
                super().stop()
                if not any_port:
                    raise
                self.port = 0  # somebody else has it by UDP: try another
                continue
            self._udp = udp
            self.thread("udp", self._listen, udp)
        return self

    def stop(self) -> None:
        """Listen no more."""
        udp, self._udp = self._udp, None
        if udp is not None:
            with contextlib.suppress(OSError):
                udp.shutdown(socket.SHUT_RDWR)  # wakes `recvfrom`, though it says that nothing is connected
            udp.close()
        super().stop()

    unplug = stop
    plug = start

    def _listen(self, udp: socket.socket) -> None:
        while True:
            try:
                wire, client = udp.recvfrom(65535)
                answer = self.answer(wire, longest=_LONGEST_UDP)
                if answer is not None:
                    udp.sendto(answer, client)
            except OSError:
                if self._udp is not udp:
                    return

    def serve(self, connection: socket.socket) -> None:
        """Answer what comes over one TCP connection."""
        connection.settimeout(30.0)
        with connection.makefile("rb") as stream:
            while len(head := stream.read(2)) == 2:
                wire = stream.read(struct.unpack("!H", head)[0])
                answer = self.answer(wire)
                if answer is None:
                    return
                connection.sendall(struct.pack("!H", len(answer)) + answer)

    def answer(self, wire: bytes, longest: int = 65535) -> bytes | None:
        """Return the answer to one message, at most `longest` bytes; None where there is nobody to answer."""
        try:
            asked = dns.message.from_wire(wire, keyring=self._key, one_rr_per_rrset=True)
        except (dns.message.UnknownTSIGKey, dns.tsig.BadKey, dns.tsig.BadAlgorithm):
            return _unsigned(wire, dns.rcode.NOTAUTH, dns.rcode.BADKEY)
        except dns.tsig.BadTime:
            return self._bad_time(wire)
        except dns.tsig.BadSignature:
            return _unsigned(wire, dns.rcode.NOTAUTH, dns.rcode.BADSIG)
        except (dns.exception.DNSException, ValueError):
            return _unsigned(wire, dns.rcode.FORMERR)
        if asked.flags & dns.flags.QR:
            return None
        answer = dns.message.make_response(asked, our_payload=_LONGEST_UDP, fudge=FUDGE)
        try:
            if isinstance(asked, dns.update.UpdateMessage):
                self._update(asked)
            elif asked.opcode() == dns.opcode.QUERY:
                self._look_up(asked, answer)
            else:
                answer.set_rcode(dns.rcode.NOTIMP)
        except Refusal as e:
            answer.set_rcode(e.rcode)
        return _packed(answer, longest if asked.edns >= 0 or longest == 65535 else 512)

    def _bad_time(self, wire: bytes) -> bytes:
        """Say, signed, what time it is here (RFC 8945, 5.2.3)."""
        asked = dns.message.from_wire(wire, keyring=False)
        answer = dns.message.make_response(asked)
        answer.set_rcode(dns.rcode.NOTAUTH)
        now = int(time.time()).to_bytes(6, "big")
        answer.use_tsig(self._key, fudge=FUDGE, tsig_error=dns.rcode.BADTIME, other_data=now)
        answer.request_mac = asked.mac or b""
        return bytes(answer.to_wire())

    # Queries

    def _look_up(self, asked: dns.message.Message, answer: dns.message.Message) -> None:
        if len(asked.question) != 1:
            raise Refusal(dns.rcode.FORMERR)
        (question,) = asked.question
        if not question.name.is_subdomain(self.origin) or question.rdclass != dns.rdataclass.IN:
            raise Refusal(dns.rcode.REFUSED)
        if question.rdtype in (dns.rdatatype.AXFR, dns.rdatatype.IXFR):
            raise Refusal(dns.rcode.REFUSED)
        with self._zone_lock:
            records = dict(self._records)
        answer.flags |= dns.flags.AA
        name, wanted = question.name, question.rdtype
        every = wanted == dns.rdatatype.ANY
        for _ in range(8):  # a chain of names within the zone
            found = [stands for (owner, kind), stands in records.items() if owner == name and (every or kind == wanted)]
            answer.answer += [_rrset(name, stands) for stands in found]
            alias = records.get((name, dns.rdatatype.CNAME))
            if found or alias is None:
                break
            answer.answer.append(_rrset(name, alias))
            name = alias[0].target
            if not name.is_subdomain(self.origin):
                return
        if not answer.answer or (answer.answer[-1].rdtype != wanted and not every):
            soa = _soa(records, self.origin)
            answer.authority.append(_rrset(self.origin, soa, ttl=min(soa.ttl, soa[0].minimum)))
            if not _stands(records, name):
                answer.set_rcode(dns.rcode.NXDOMAIN)

    # Changes

    def _update(self, asked: dns.update.UpdateMessage) -> None:
        """Apply all of it or nothing (RFC 2136, 3). Raises Refusal."""
        if len(asked.zone) != 1 or asked.zone[0].rdtype != dns.rdatatype.SOA:
            raise Refusal(dns.rcode.FORMERR)
        if asked.zone[0].name != self.origin or asked.zone[0].rdclass != dns.rdataclass.IN:
            raise Refusal(dns.rcode.NOTAUTH)
        if not asked.had_tsig:
            raise Refusal(dns.rcode.REFUSED)
        with self._zone_lock:
            self._require(asked.prerequisite)
            self._scan(asked.update)
            records = dict(self._records)  # the sets in it are replaced, never written to
            for change in asked.update:
                _apply(records, change, self.origin)
            if _changed(self._records, records):
                if _soa(records, self.origin)[0].serial == _soa(self._records, self.origin)[0].serial:
                    _count_up(records, self.origin)
                self._records = records

    def _inside(self, name: dns.name.Name) -> None:
        if not name.is_subdomain(self.origin):
            raise Refusal(dns.rcode.NOTZONE)

    def _require(self, prerequisites: Iterable[dns.rrset.RRset]) -> None:
        """Check the prerequisites (RFC 2136, 3.2). Raises Refusal."""
        values: dict[tuple[dns.name.Name, dns.rdatatype.RdataType], set[dns.rdata.Rdata]] = {}
        for wanted in prerequisites:
            if wanted.ttl:
                raise Refusal(dns.rcode.FORMERR)
            self._inside(wanted.name)
            key = (wanted.name, wanted.rdtype)
            match wanted.deleting, wanted.rdtype == dns.rdatatype.ANY:
                case dns.rdataclass.ANY, True:
                    if not _stands(self._records, wanted.name):
                        raise Refusal(dns.rcode.NXDOMAIN)
                case dns.rdataclass.ANY, False:
                    if key not in self._records:
                        raise Refusal(dns.rcode.NXRRSET)
                case dns.rdataclass.NONE, True:
                    if _stands(self._records, wanted.name):
                        raise Refusal(dns.rcode.YXDOMAIN)
                case dns.rdataclass.NONE, False:
                    if key in self._records:
                        raise Refusal(dns.rcode.YXRRSET)
                case _:
                    values.setdefault(key, set()).update(wanted)
        for key, rdatas in values.items():
            if set(self._records.get(key, ())) != rdatas:
                raise Refusal(dns.rcode.NXRRSET)

    def _scan(self, changes: Iterable[dns.rrset.RRset]) -> None:
        """Refuse what must not stand in an update before anything is applied (RFC 2136, 3.4.1). Raises Refusal."""
        for change in changes:
            self._inside(change.name)
            if change.deleting is None:
                bad = change.rdtype in _META
            elif change.deleting == dns.rdataclass.ANY:
                bad = bool(change.ttl) or bool(len(change)) or change.rdtype in _META - {dns.rdatatype.ANY}
            else:
                bad = bool(change.ttl) or change.rdtype in _META
            if bad:
                raise Refusal(dns.rcode.FORMERR)


def _soa(records: Records, origin: dns.name.Name) -> dns.rdataset.Rdataset:
    return records[origin, dns.rdatatype.SOA]


def _stands(records: Records, name: dns.name.Name) -> bool:
    """Tell whether anything stands at a name, or below it (RFC 8020)."""
    return any(owner.is_subdomain(name) for owner, _ in records)


def _apply(records: Records, change: dns.rrset.RRset, origin: dns.name.Name) -> None:
    """Make one change (RFC 2136, 3.4.2)."""
    name, kind = change.name, change.rdtype
    at_apex = name == origin
    if change.deleting is None:
        _add(records, change, origin)
    elif change.deleting == dns.rdataclass.ANY:
        for key in [key for key in records if key[0] == name and kind in (key[1], dns.rdatatype.ANY)]:
            if not (at_apex and key[1] in (dns.rdatatype.SOA, dns.rdatatype.NS)):
                del records[key]
    else:
        stands = records.get((name, kind))
        if stands is None or kind == dns.rdatatype.SOA:
            return
        left = [rdata for rdata in stands if rdata not in change]
        if at_apex and kind == dns.rdatatype.NS and not left:
            return
        del records[name, kind]
        if left:
            records[name, kind] = dns.rdataset.from_rdata_list(stands.ttl, left)


def _add(records: Records, change: dns.rrset.RRset, origin: dns.name.Name) -> None:
    name, kind = change.name, change.rdtype
    others = {key[1] for key in records if key[0] == name} - {kind}
    if (kind in _ALONE and others) or (kind not in _ALONE and others & _ALONE):
        return  # passed over in silence, as the RFC has it
    if kind == dns.rdatatype.SOA:
        newer = (change[0].serial - _soa(records, origin)[0].serial) % 2**32
        if name != origin or not 0 < newer < 2**31:
            return
    replaces = kind in _ALONE or kind == dns.rdatatype.SOA
    before: Sequence[dns.rdata.Rdata] = [] if replaces else list(records.get((name, kind), ()))
    records[name, kind] = dns.rdataset.from_rdata_list(change.ttl, [*before, *change])


def _changed(before: Records, after: Records) -> bool:
    """Tell whether anything changed; two sets are equal to dnspython whatever their TTL is."""
    return before != after or any(before[key].ttl != rdataset.ttl for key, rdataset in after.items())


def _count_up(records: Records, origin: dns.name.Name) -> None:
    soa = _soa(records, origin)
    serial = (soa[0].serial + 1) % 2**32 or 1
    records[origin, dns.rdatatype.SOA] = dns.rdataset.from_rdata(soa.ttl, soa[0].replace(serial=serial))


def _rrset(name: dns.name.Name, rdataset: dns.rdataset.Rdataset, ttl: int | None = None) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(name, rdataset.ttl if ttl is None else ttl, list(rdataset))


def _packed(answer: dns.message.Message, longest: int) -> bytes:
    try:
        return bytes(answer.to_wire(max_size=longest))
    except dns.exception.TooBig:
        answer.flags |= dns.flags.TC
        answer.answer, answer.authority, answer.additional = [], [], []
        return bytes(answer.to_wire())


def _unsigned(wire: bytes, rcode: dns.rcode.Rcode, tsig_error: dns.rcode.Rcode | None = None) -> bytes | None:
    """Answer what cannot be believed or read: the id, the code, and for TSIG its error without a signature."""
    if len(wire) < 12 or wire[2] & 0x80:
        return None
    flags = 0x8000 | (struct.unpack_from("!H", wire, 2)[0] & 0x7900)
    head = wire[:2] + struct.pack("!H", flags | int(rcode))
    if tsig_error is None:
        return head + b"\0" * 8
    try:
        asked = dns.message.from_wire(wire, keyring=False, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return head + b"\0" * 8
    assert asked.tsig is not None
    theirs = asked.tsig[0]
    error = theirs.replace(mac=b"", error=int(tsig_error), other=b"")
    record = dns.rrset.from_rdata(asked.tsig.name, 0, error)
    return head + struct.pack("!HHHH", 0, 0, 0, 1) + _record(record)


def _record(rrset: dns.rrset.RRset) -> bytes:
    rdata, name = rrset[0].to_wire(), rrset.name.to_wire()
    assert isinstance(rdata, bytes)
    assert isinstance(name, bytes)
    return name + struct.pack("!HHIH", dns.rdatatype.TSIG, dns.rdataclass.ANY, 0, len(rdata)) + rdata
