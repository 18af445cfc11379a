"""What the tests of switching share: a zone, mirrors, a desk that moves readers, and roads that play tricks."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.tsig
import dns.update
import pytest

from mirrord.journal import Journal
from mirrord.switches import (
    Change,
    DnsSettings,
    Endpoint,
    Ledger,
    Result,
    Switch,
    Tsig,
    open_switch,
    plan_change,
    transaction,
)
from mirrord.switches.transaction import Looked, Patience
from tests.lab.bind import Bind
from tests.lab.knot import Knot
from tests.lab.nameserver import Key, NameServer, zone_text
from tests.lab.powerdns import PowerDns

MIRRORS = {
    "milan": ("192.0.2.10", "2001:db8::10"),
    "lyon": ("198.51.100.20",),
    "oslo": ("203.0.113.30", "203.0.113.31", "2001:db8::30"),
}
NAMES = ("www.example.org", "example.org")
TEXT = zone_text(
    "example.org",
    ["www 300 A 192.0.2.10", "www 300 AAAA 2001:db8::10", "@ 300 A 192.0.2.10", "@ 300 AAAA 2001:db8::10"],
)
"""Both names answer milan's addresses, for 300 s; mirrord was never there."""

QUICK = Patience(commit=2.0, follow=5.0)


KINDS: list[type[NameServer]] = [Bind, Knot, PowerDns]
"""Every kind of name server that takes updates."""

every_kind = pytest.mark.parametrize("primary", KINDS, ids=["bind", "knot", "powerdns"], indirect=True)
"""On a test with a `primary`: PowerDNS must do as well. The other tests leave it out, for time."""


def endpoint(server: NameServer | Road | Endpoint) -> Endpoint:
    """Return a server as mirrord's settings have it."""
    return server if isinstance(server, Endpoint) else Endpoint("127.0.0.1", server.port)


def settings(
    *roads: NameServer | Road | Endpoint,
    key: Key,
    names: Iterable[str] = NAMES,
    authoritative: Iterable[NameServer | Road | Endpoint] | None = None,
    timeout: float = 2.0,
) -> DnsSettings:
    """Return a service's settings; the first road must follow, where nothing else is said."""
    return DnsSettings(
        service="web",
        zone="example.org",
        names=tuple(names),
        ttl=60,
        servers=tuple(endpoint(road) for road in roads),
        tsig=Tsig(key.name, key.algorithm, lambda: key.secret + "\n"),
        authoritative=tuple(endpoint(server) for server in (roads[:1] if authoritative is None else authoritative)),
        timeout=timeout,
    )


@dataclass
class Desk:
    """A controller at work on one service."""

    switch: Switch
    journal: Ledger
    by: str = "home"
    patience: Patience = QUICK

    def look(self) -> Looked:
        """Read the zone and hold it against the journal."""
        return transaction.look(self.switch, self.journal, "web", MIRRORS, by=self.by)

    def plan(self, target: str, *, adopt: bool = False, **more: Any) -> Change:
        """Plan a move from what stands, which must be ours or new unless adopted."""
        looked = self.look()
        stands = looked.zone.stands if adopt else looked.comparison.stands
        assert stands is not None, looked.comparison.text
        return self.plan_from(stands, target, was_ttl=looked.zone.ttl, **more)

    def plan_from(self, stands: Any, target: str, *, was_ttl: int = 60, **more: Any) -> Change:
        """Plan a move from a state."""
        above = self.journal.highest_epoch("web") if isinstance(self.journal, Journal) else 0
        return plan_change(
            "web",
            stands,
            target,
            MIRRORS,
            nonce=transaction.new_nonce(),
            by=self.by,
            ttl=60,
            was_ttl=was_ttl,
            epoch_above=above,
            **more,
        )

    def run(self, change: Change, **more: Any) -> Result:
        """Carry a plan out."""
        return transaction.run(self.switch, self.journal, change, patience=self.patience, **more)

    def move(self, target: str, *, adopt: bool = False, **more: Any) -> Result:
        """Plan a move, and carry it out."""
        return self.run(self.plan(target, adopt=adopt, **more))

    def resolve(self, *, again: bool | None = None) -> Result | None:
        """Find out about the open plan."""
        return transaction.resolve(self.switch, self.journal, "web", by=self.by, again=again, patience=self.patience)


def desk(journal: Ledger, *roads: NameServer | Road | Endpoint, key: Key, **more: Any) -> Desk:
    """Return a controller that reaches the zone over the roads."""
    return Desk(open_switch(settings(*roads, key=key, **more)), journal)


def human(server: NameServer, *orders: tuple[Any, ...], zone: str = "example.org") -> None:
    """Change the zone as a person with `nsupdate` does: ("delete", "www", "A"), ("add", "www", 60, "A", "...")."""
    update = dns.update.UpdateMessage(zone, keyring=tsig_key(server.key))
    for verb, *what in orders:
        getattr(update, verb)(*what)
    answer = dns.query.tcp(update, "127.0.0.1", 5.0, server.port)
    assert answer.rcode() == dns.rcode.NOERROR, dns.rcode.to_text(answer.rcode())


def tsig_key(key: Key) -> dns.tsig.Key:
    """Return a key as dnspython has it."""
    return dns.tsig.Key(key.name, key.secret, key.algorithm)


Handler = Callable[[bytes], bytes | None]
SILENCE = b""
"""A handler's answer: none, and the connection stays open. None closes it."""


@dataclass
class Road:
    """A TCP road to a name server, which may lose, hold, change or make up what passes; a context manager.

    `on_query` and `on_update` get each message and return what goes back; unless set, both carry it to `target`.
    """

    target: NameServer | None = None
    on_query: Handler | None = None
    on_update: Handler | None = None
    updates: list[bytes] = field(default_factory=list)
    """Every update that came over this road."""

    def __enter__(self) -> Self:
        """Listen on a port that the kernel chooses."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything."""
        self._end.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10.0)

    def forward(self, wire: bytes) -> bytes:
        """Carry a message to the target, and its answer back."""
        assert self.target is not None
        with socket.create_connection(("127.0.0.1", self.target.port), 30.0) as link:
            link.sendall(struct.pack("!H", len(wire)) + wire)
            answer = _receive(link)
            assert answer is not None
            return answer

    def _accept(self) -> None:
        while not self._end.is_set():
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(link,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, link: socket.socket) -> None:
        with link, contextlib.suppress(OSError):
            while (wire := _receive(link)) is not None:
                is_update = (wire[2] >> 3) & 15 == 5
                if is_update:
                    self.updates.append(wire)
                handler = (self.on_update if is_update else self.on_query) or self.forward
                answer = handler(wire)
                if answer is None:
                    return
                if answer == SILENCE:
                    link.settimeout(0.05)
                    while not self._end.is_set():
                        with contextlib.suppress(TimeoutError):
                            if not link.recv(1):
                                return
                    return
                link.sendall(struct.pack("!H", len(answer)) + answer)


def _receive(link: socket.socket) -> bytes | None:
    """Receive one framed message, None at the end."""
    data = b""
    while len(data) < 2 or len(data) < 2 + struct.unpack("!H", data[:2])[0]:
        wanted = 2 - len(data) if len(data) < 2 else 2 + int(struct.unpack("!H", data[:2])[0]) - len(data)
        read = link.recv(wanted)
        if not read:
            return None
        data += read
    return data[2:]


def answer_to(wire: bytes, rcode: dns.rcode.Rcode, key: Key | None = None) -> bytes:
    """Make an answer to a message up; signed with `key`, where one is given."""
    query = dns.message.from_wire(wire, keyring=False)
    response = dns.message.make_response(query)
    response.set_rcode(rcode)
    if key is not None:
        response.use_tsig(tsig_key(key), fudge=300)
        response.request_mac = query.mac or b""
    return response.to_wire()
