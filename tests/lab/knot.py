"""Knot DNS as a zone's primary, which takes updates, or as a secondary."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.lab.nameserver import Key, NameServer
from tests.lab.processes import unconfined


class Knot(NameServer):
    """One `knotd`. Updates signed with `key` are taken by the primary; a secondary follows NOTIFY from anyone here.

    `signed`: the primary signs the zone with DNSSEC.
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

    def command(self) -> list[str]:
        """Run in the foreground."""
        return [unconfined("knotd"), "-c", str(self.folder / "conf")]

    def prepare(self) -> None:
        """Make the folder of its journal; without it updates fail."""
        (self.folder / "data").mkdir(exist_ok=True)
        super().prepare()

    def configuration(self) -> str:
        """Return its knot.conf."""
        upstream = [self.primary] if self.primary else []
        remotes = [
            f"  - id: port{server.port}\n    address: {server.address}@{server.port}"
            for server in [*upstream, *self.followers]
        ]
        if self.primary:
            role = f"    master: port{self.primary.port}\n    acl: [notify, transfer]"
        else:
            role = "    acl: [update, transfer]" + ("\n    dnssec-signing: on" if self.signed else "")
        notify = (
            f"\n    notify: [{', '.join(f'port{server.port}' for server in self.followers)}]" if self.followers else ""
        )
        return f"""\
server:
    rundir: "{self.folder}"
    listen: {self.address}@{self.port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 2
log:
  - target: stderr
    any: info
database:
    storage: "{self.folder / "data"}"
    journal-db-max-size: 64M
    timer-db-max-size: 16M
    kasp-db-max-size: 16M
key:
  - id: {self.key.name}
    algorithm: {self.key.algorithm}
    secret: {self.key.secret}
{chr(10).join(["remote:", *remotes]) if remotes else ""}
acl:
  - id: update
    key: {self.key.name}
    action: update
  - id: notify
    action: notify
  - id: transfer
    action: transfer
zone:
  - domain: {self.zone}
    storage: "{self.folder}"
    file: "zone"
    zonefile-sync: 0
    refresh-min-interval: 2
    retry-max-interval: 1
{role}{notify}
"""

    def forget_updates(self) -> None:
        """Put its first zone file back and drop its journal; it must be stopped."""
        assert not self.running, f"{self.name} still runs"
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        self.zone_file.unlink(missing_ok=True)
