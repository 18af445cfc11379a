"""unbound as the resolver of readers: it asks our name servers and caches what they say."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.lab.nameserver import NameServer, ask, texts
from tests.lab.ports import free_port
from tests.lab.processes import Server, program, unconfined


class Unbound(Server):
    """One unbound that resolves the zones of the given servers, and nothing else.

    Time to live is respected as given, also when it is a second.
    """

    def __init__(
        self,
        folder: Path,
        servers: Sequence[NameServer],
        *,
        address: str = "127.0.0.1",
        port: int | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        super().__init__(f"unbound-{folder.name}", folder, prefix)
        self.servers = tuple(servers)
        self.address = address
        self.port = port or free_port()

    @property
    def endpoint(self) -> str:
        """Return `127.0.0.1:5353`."""
        return f"{self.address}:{self.port}"

    def command(self) -> list[str]:
        """Run in the foreground, say what happens on standard error."""
        return [unconfined("unbound"), "-d", "-p", "-c", str(self.folder / "conf")]

    def prepare(self) -> None:
        """Write its configuration."""
        (self.folder / "conf").write_text(self.configuration())

    def configuration(self) -> str:
        """Return its unbound.conf."""
        stubs = []
        for zone in dict.fromkeys(server.zone for server in self.servers):
            addresses = [f"{server.address}@{server.port}" for server in self.servers if server.zone == zone]
            stubs += ["stub-zone:", f'  name: "{zone}"', *(f"  stub-addr: {address}" for address in addresses)]
        opened = [f'  local-zone: "{server.zone}." transparent' for server in self.servers]
        return "\n".join(
            [
                "server:",
                f'  directory: "{self.folder}"',
                '  chroot: ""',
                '  username: ""',
                '  pidfile: ""',
                '  logfile: ""',
                "  use-syslog: no",
                "  verbosity: 1",
                f"  interface: {self.address}@{self.port}",
                "  access-control: 0.0.0.0/0 allow",
                "  access-control: ::/0 allow",
                "  num-threads: 1",
                "  do-not-query-localhost: no",
                '  module-config: "iterator"',
                "  cache-min-ttl: 0",
                "  infra-host-ttl: 1",
                "  qname-minimisation: no",
                "  outbound-msg-retry: 1",  # a dead server is left for the next one at once
                *dict.fromkeys(opened),
                *stubs,
                "remote-control:",
                "  control-enable: yes",
                f'  control-interface: "{self.folder / "control"}"',
                "  control-use-cert: no",
                "",
            ]
        )

    def ready(self) -> bool:
        """Return whether it answers at all."""
        ask(self.address, self.port, "localhost", "A", recurse=True, timeout=0.1, prefix=self.prefix)
        return True

    def query(self, name: str, kind: str) -> set[str]:
        """Return the data of the records, as a reader gets them.

        Raises:
            NoReply: no answer, or an error for an answer.
        """
        return texts(ask(self.address, self.port, name, kind, recurse=True, timeout=5.0, prefix=self.prefix), kind)

    def flush(self) -> None:
        """Forget everything that it has cached, also which servers did not answer."""
        for command in (["flush_zone", "."], ["flush_infra", "all"]):
            self.control(*command)

    def control(self, *arguments: str) -> str:
        """Run one `unbound-control` command and return what it says."""
        command = [program("unbound-control"), "-c", str(self.folder / "conf"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr or done.stdout}"
        return done.stdout
