"""BIND as a zone's primary, which takes updates, or as a secondary, which may forward them.

BIND binds only addresses that an interface has: servers differ by port, not by address.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.lab.nameserver import Key, NameServer
from tests.lab.processes import unconfined


class Bind(NameServer):
    """One `named`. Updates signed with `key` are taken by the primary, and by a secondary if it `forwards` them.

    `delays` leaves BIND's own delays before it notifies secondaries (seconds); they are set to nothing otherwise.
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
        forwards: bool = False,
        delays: bool = False,
        signed: bool = False,
    ) -> None:
        super().__init__(folder, zone, text, key=key, address=address, port=port, primary=primary, prefix=prefix)
        self.forwards = forwards
        self.delays = delays
        self.signed = signed

    def command(self) -> list[str]:
        """Run in the foreground, with one thread, say what happens on standard error."""
        return [unconfined("named"), "-g", "-n", "1", "-c", str(self.folder / "conf")]

    def configuration(self) -> str:
        """Return its named.conf."""
        also = " ".join(f"{server.address} port {server.port};" for server in self.followers)
        if self.primary:
            role = f"type secondary;\n    primaries {{ {self.primary.address} port {self.primary.port}; }};"
            role += "\n    masterfile-format text;\n    allow-notify { any; };"
            role += "\n    allow-update-forwarding { any; };" if self.forwards else ""
            role += "\n    min-retry-time 1;\n    max-retry-time 1;"
        else:
            role = f'type primary;\n    allow-update {{ key "{self.key.name}"; }};'
            role += "\n    dnssec-policy default;" if self.signed else ""
        quick = "" if self.delays else "notify-delay 0;\n  "
        rates = "notify-rate 1000;\n  startup-notify-rate 1000;\n  serial-query-rate 1000;"
        listen = f"listen-on-v6 port {self.port} {{ {self.address}; }};\n  listen-on {{ none; }};"
        if ":" not in self.address:
            listen = f"listen-on port {self.port} {{ {self.address}; }};\n  listen-on-v6 {{ none; }};"
        return f"""\
key "{self.key.name}" {{ algorithm {self.key.algorithm}; secret "{self.key.secret}"; }};
controls {{ }};
options {{
  directory "{self.folder}";
  managed-keys-directory "{self.folder}";
  pid-file none;
  lock-file none;
  session-keyfile none;
  {listen}
  recursion no;
  dnssec-validation no;
  empty-zones-enable no;
  allow-query {{ any; }};
  allow-transfer {{ any; }};
  notify explicit;
  also-notify {{ {also} }};
  {quick}{"" if self.delays else rates}
}};
zone "{self.zone}" {{
    {role}
    file "{self.zone_file}";
}};
"""

    def forget_updates(self) -> None:
        """Put its first zone file back and drop its journal; it must be stopped."""
        assert not self.running, f"{self.name} still runs"
        for left in (self.zone_file, self.zone_file.with_name("zone.jnl")):
            left.unlink(missing_ok=True)
