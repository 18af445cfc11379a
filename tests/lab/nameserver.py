"""What the lab's name servers have in common: a zone, a key for updates, followers, questions."""

from __future__ import annotations

import base64
import contextlib
import secrets
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from tests.lab.ports import free_port
from tests.lab.processes import TOP, Server


class NoReply(OSError):
    """A server that was asked said nothing, or that it cannot answer."""


@dataclass(frozen=True, slots=True)
class Key:
    """A TSIG key; `secret` in base64."""

    name: str = "mirrord"
    algorithm: str = "hmac-sha256"
    secret: str = field(default_factory=lambda: base64.b64encode(secrets.token_bytes(32)).decode(), repr=False)

    def write_secret(self, path: Path) -> Path:
        """Write the secret alone, as mirrord's configuration wants it."""
        path.touch(mode=0o600)
        path.write_text(self.secret + "\n")
        return path

    def write_nsupdate(self, path: Path) -> Path:
        """Write the key as `nsupdate -k` reads it."""
        path.touch(mode=0o600)
        path.write_text(f'key "{self.name}" {{ algorithm {self.algorithm}; secret "{self.secret}"; }};\n')
        return path


def zone_text(zone: str, records: Sequence[str] = (), *, serial: int = 1, ttl: int = 60) -> str:
    """Return a zone file with SOA, one NS, and `records` as in a zone file (`www 60 A 127.0.0.1`)."""
    return "\n".join(
        [
            f"$ORIGIN {zone}.",
            f"$TTL {ttl}",
            f"@ SOA ns1 hostmaster {serial} 300 30 4000000 5",
            "@ NS ns1",
            "ns1 A 127.0.0.1",
            *records,
            "",
        ]
    )


def ask(
    address: str,
    port: int,
    name: str,
    kind: str,
    *,
    recurse: bool = False,
    timeout: float = 2.0,
    prefix: Sequence[str] = (),
) -> dns.message.Message:
    """Ask one question by UDP, by TCP where the answer is cut short; return whatever answer comes.

    With a `prefix`, from where that leads.

    Raises:
        NoReply: none came within `timeout` seconds.
    """
    if prefix:
        return _ask_from(prefix, address, port, name, kind, recurse=recurse, timeout=timeout)
    question = dns.message.make_query(name, kind)
    if not recurse:
        question.flags &= ~dns.flags.RD
    try:
        return dns.query.udp_with_fallback(question, address, timeout, port)[0]
    except (OSError, dns.exception.DNSException) as e:
        raise NoReply(f"{address}:{port} does not answer for {name} {kind}: {str(e) or type(e).__name__}") from e


def _ask_from(
    prefix: Sequence[str], address: str, port: int, name: str, kind: str, *, recurse: bool, timeout: float
) -> dns.message.Message:
    script = "import sys; from tests.lab.nameserver import ask; a, p, n, k, r, t = sys.argv[1:]; "
    script += "sys.stdout.buffer.write(ask(a, int(p), n, k, recurse=r == 'True', timeout=float(t)).to_wire())"
    there = [*prefix, sys.executable, "-c", script, address, str(port), name, kind, str(recurse), str(timeout)]
    done = subprocess.run(there, cwd=TOP, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise NoReply(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
    return dns.message.from_wire(done.stdout)


def texts(answer: dns.message.Message, kind: str) -> set[str]:
    """Return the data of the records of one type, as in a zone file.

    Raises:
        NoReply: the answer is an error (a name that is not there is none).
    """
    if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise NoReply(f"answered {dns.rcode.to_text(answer.rcode())}")
    wanted = dns.rdatatype.from_text(kind)
    return {data.to_text() for rrset in answer.answer if rrset.rdtype == wanted for data in rrset}


class NameServer(Server):
    """One authoritative server for one zone: its primary, or a secondary that follows another server of the lab.

    A secondary is made by `following(primary)`, before the primary is started, so that the primary's configuration
    names it. `endpoint` is `address:port` as mirrord's configuration wants it.
    """

    def __init__(
        self,
        folder: Path,
        zone: str = "example.org",
        text: str = "",
        *,
        key: Key | None = None,
        address: str = "127.0.0.1",
        port: int | None = None,
        primary: NameServer | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        super().__init__(f"{type(self).__name__.lower()}-{folder.name}", folder, prefix)
        self.zone = zone.rstrip(".")
        self.key: Key = key or (primary.key if primary else Key())
        self.address = address
        self.port = port or free_port()
        self.primary = primary
        self.followers: list[NameServer] = []
        self._text = text or zone_text(self.zone)
        if primary is not None:
            primary.followers.append(self)

    @classmethod
    def following(cls, primary: NameServer, folder: Path, **more: object) -> Self:
        """Return a secondary of `primary`, not started; it shares its zone and key."""
        return cls(folder, primary.zone, primary=primary, **more)  # type: ignore[arg-type]  # named by __init__

    @property
    def endpoint(self) -> str:
        """Return `127.0.0.1:5353` or `[::1]:5353`."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def zone_file(self) -> Path:
        """Return where its zone file stands."""
        return self.folder / "zone"

    def prepare(self) -> None:
        """Write its configuration, and at the first start its zone."""
        if self.primary is None and not self.zone_file.exists():
            self.zone_file.write_text(self._text)
        (self.folder / "conf").write_text(self.configuration())

    @abstractmethod
    def configuration(self) -> str:
        """Return its configuration file."""

    @abstractmethod
    def forget_updates(self) -> None:
        """Put its first zone file back and drop its journal, as a restored backup does; it must be stopped."""

    def restart_with_old_zone(self) -> Self:
        """Stop it, put back what it was started with, and start it: all updates are gone."""
        self.stop()
        self.forget_updates()
        return self.start()

    def ready(self) -> bool:
        """Return whether it answers for its zone."""
        return bool(texts(ask(self.address, self.port, self.zone, "SOA", timeout=0.1, prefix=self.prefix), "SOA"))

    def query(self, name: str, kind: str) -> set[str]:
        """Return the data of the records, as in a zone file; empty if there are none.

        Raises:
            NoReply: no answer, or an error for an answer.
        """
        return texts(ask(self.address, self.port, name, kind, prefix=self.prefix), kind)

    def serial(self) -> int:
        """Return the serial of its zone's SOA."""
        (soa,) = self.query(self.zone, "SOA")
        return int(soa.split()[2])

    def holds(self, name: str, kind: str, *data: str) -> bool:
        """Return whether it answers exactly `data`; no answer is no."""
        with contextlib.suppress(NoReply):
            return self.query(name, kind) == set(data)
        return False
