"""PowerDNS as a zone's primary, which takes updates and has an HTTP API, or as a secondary.

Its zones live in SQLite. It is told whom to notify by address and port: left to itself it would resolve the zone's NS
names after each update, and stall for seconds with the update applied (`only-notify=`).
"""

from __future__ import annotations

import contextlib
import re
import secrets
import sqlite3
import subprocess
from collections.abc import Sequence
from pathlib import Path

import dns.rdatatype
import dns.zone

from tests.lab.nameserver import Key, NameServer
from tests.lab.ports import free_port
from tests.lab.processes import unconfined

SCHEMA = Path("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")


class PowerDns(NameServer):
    """One `pdns_server`. Updates signed with `key` are taken by the primary; its API is at `url`, with `token`.

    `signed`: it signs the zone with DNSSEC.
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
        signed: bool = False,
    ) -> None:
        super().__init__(folder, zone, text, key=key, address=address, port=port, primary=primary, prefix=prefix)
        self.signed = signed
        self.token = secrets.token_hex(16)
        self.api_port = free_port()

    @property
    def url(self) -> str:
        """Return where its HTTP API is."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def database(self) -> Path:
        """Return where its zone is kept."""
        return self.folder / "pdns.sqlite"

    def command(self) -> list[str]:
        """Run in the foreground."""
        return [unconfined("pdns_server"), f"--config-dir={self.folder}"]

    def prepare(self) -> None:
        """Write its configuration, and at the first start its zone into a new database."""
        if self.primary is None and not self.zone_file.exists():
            self.zone_file.write_text(self._text)
        (self.folder / "pdns.conf").write_text(self.configuration())
        if not self.database.exists():
            self._fill()
            if self.signed:
                here = [unconfined("pdnsutil"), f"--config-dir={self.folder}"]
                subprocess.run([*here, "secure-zone", self.zone], check=True, capture_output=True)
                subprocess.run([*here, "rectify-zone", self.zone], check=True, capture_output=True)

    def configuration(self) -> str:
        """Return its pdns.conf."""
        also = ",".join(f"{server.address}:{server.port}" for server in self.followers)
        return f"""\
launch=gsqlite3
gsqlite3-database={self.database}
gsqlite3-pragma-synchronous=0
socket-dir={self.folder}
local-address={self.address}
local-port={self.port}
guardian=no
daemon=no
disable-syslog=yes
log-timestamp=no
receiver-threads=1
distributor-threads=1
security-poll-suffix=
cache-ttl=0
query-cache-ttl=0
negquery-cache-ttl=0
zone-cache-refresh-interval=0
zone-metadata-cache-ttl=0
dnsupdate=yes
allow-dnsupdate-from=127.0.0.0/8,::1
allow-axfr-ips=0.0.0.0/0,::/0
allow-notify-from=0.0.0.0/0,::/0
{"secondary" if self.primary else "primary"}=yes
gsqlite3-dnssec=yes
xfr-cycle-interval=1
only-notify=
also-notify={also}
api=yes
api-key={self.token}
webserver-address=127.0.0.1
webserver-port={self.api_port}
webserver-allow-from=127.0.0.1
"""

    def forget_updates(self) -> None:
        """Put what it was started with back; it must be stopped."""
        assert not self.running, f"{self.name} still runs"
        for left in self.folder.glob("pdns.sqlite*"):
            left.unlink()
        self.zone_file.unlink(missing_ok=True)

    def _fill(self) -> None:
        """Make the database, with the key and the zone in it."""
        with contextlib.closing(sqlite3.connect(self.database)) as database, database:
            database.executescript(SCHEMA.read_text())
            master = f"{self.primary.address}:{self.primary.port}" if self.primary else ""
            kind = "SLAVE" if self.primary else "MASTER"
            row = "INSERT INTO domains (id, name, master, type, notified_serial) VALUES (1, ?, ?, ?, 0)"
            database.execute(row, (self.zone, master, kind))
            algorithm = re.sub(r"\.$", "", self.key.algorithm)
            row = "INSERT INTO tsigkeys (name, algorithm, secret) VALUES (?, ?, ?)"
            database.execute(row, (self.key.name, algorithm, self.key.secret))
            metadata = {"TSIG-ALLOW-DNSUPDATE": self.key.name, "SOA-EDIT-DNSUPDATE": "INCREASE"}
            metadata |= {"SOA-EDIT-API": "INCREASE", "NOTIFY-DNSUPDATE": "1"}
            for what, value in metadata.items():
                row = "INSERT INTO domainmetadata (domain_id, kind, content) VALUES (1, ?, ?)"
                database.execute(row, (what, value))
            if self.primary is None:
                self._fill_records(database)

    def _fill_records(self, database: sqlite3.Connection) -> None:
        zone = dns.zone.from_text(self.zone_file.read_text(), origin=self.zone, relativize=False)
        for name, ttl, data in zone.iterate_rdatas():
            content = data.to_text()
            priority = 0
            kind = dns.rdatatype.to_text(data.rdtype)
            if kind in ("MX", "SRV"):
                first, _, content = content.partition(" ")
                priority = int(first)
            if kind in ("SOA", "NS", "MX", "CNAME"):
                content = content.replace(". ", " ").removesuffix(".")
            if kind == "HTTPS":
                content = content.replace('"', "")  # as PowerDNS itself writes it
            row = (
                "INSERT INTO records (domain_id, name, type, content, ttl, prio, disabled, auth) "
                "VALUES (1, ?, ?, ?, ?, ?, 0, 1)"
            )
            database.execute(row, (name.to_text(omit_final_dot=True).lower(), kind, content, ttl, priority))
