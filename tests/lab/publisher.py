"""A whole publisher: a site, hosts in three places, name servers, readers, and mirrord as a process.

Mirrors stand at addresses of their own (127.0.0.x) with one port for all, as on the internet; the primary's name
server is followed by a secondary elsewhere. `verb` runs a command of mirrord as an operator types it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.ca import Authority
from tests.lab.knot import Knot
from tests.lab.nameserver import NameServer, zone_text
from tests.lab.namespaces import Wire
from tests.lab.nginx import Nginx
from tests.lab.ports import free_port
from tests.lab.processes import Server, send
from tests.lab.sftp import make_key
from tests.lab.sshd import Sshd
from tests.lab.unbound import Unbound

NAME = "www.example.org"
FAR = [(f"192.0.2.{11 + number}", f"2001:db8::{11 + number}") for number in range(3)]
"""Addresses of hosts at the far end of a wire."""
ADDRESSES = [address for pair in FAR for address in pair]
ZONE = "example.org"


@dataclass
class Host:
    """One mirror: an SFTP account and the web server that serves it."""

    name: str
    addresses: tuple[str, ...]
    sshd: Sshd
    nginx: Nginx
    publish_port: int
    """Where mirrord logs in: the server's own port, or a proxy's."""

    @property
    def address(self) -> str:
        """Return its first address."""
        return self.addresses[0]

    @property
    def root(self) -> Path:
        """Return the account's folder on this disk."""
        return self.sshd.root

    def kill(self) -> None:
        """Take the host away, as a datacentre goes: nothing says goodbye."""
        self.sshd.kill()
        self.nginx.kill()

    def start(self) -> None:
        """Bring the host back as it was."""
        self.sshd.start()
        self.nginx.start()

    @property
    def serves(self) -> str | None:
        """Return the release that readers get."""
        link = self.root / "current"
        return link.readlink().name if link.is_symlink() else None


class Process(Server):
    """`mirrord run` as a process of its own."""

    def __init__(self, folder: Path, config: Path, prefix: Sequence[str], environment: Mapping[str, str]) -> None:
        super().__init__(f"mirrord-{folder.name}", folder, prefix)
        self.config = config
        self.environment = dict(environment)

    def prepare(self) -> None:
        """Nothing: the configuration is the publisher's."""

    def command(self) -> list[str]:
        """Run in the foreground."""
        settings = [f"{name}={value}" for name, value in self.environment.items()]
        return ["env", *settings, sys.executable, "-m", "mirrord", "-c", str(self.config), "run"]

    def ready(self) -> bool:
        """Return whether its socket is there."""
        return (self.config.parent / "run" / "control.sock").is_socket()


@dataclass
class Publisher:
    """Everything that a small publisher has."""

    folder: Path
    ca: Authority
    hosts: dict[str, Host]
    primary: NameServer
    secondary: NameServer
    resolver: Unbound
    port: int
    settings: dict[str, Any] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    _daemon: Process | None = None

    @property
    def source(self) -> Path:
        """Return the folder where the maintainers keep the content."""
        return self.folder / "source"

    @property
    def config(self) -> Path:
        """Return the configuration file."""
        return self.folder / "mirrord.toml"

    @property
    def state(self) -> Path:
        """Return the state folder."""
        return Path(self.settings.get("state", self.folder / "state"))

    @property
    def signer(self) -> str:
        """Return the public key that readers have."""
        return (self.folder / "signing.pub").read_text().strip()

    @property
    def url(self) -> str:
        """Return what readers type."""
        return f"https://{NAME}:{self.port}/"

    def write(self, name: str, text: str | bytes) -> Path:
        """Write a page as a maintainer does."""
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def configure(self, **changes: Any) -> None:
        """Write the configuration; keywords replace single settings: `probe_fall=2`."""
        self.settings |= changes
        self.config.write_text(configuration(self))

    @property
    def daemon(self) -> Process:
        """Return the daemon's process, made once."""
        if self._daemon is None:
            folder = self.folder / "daemon"
            self._daemon = Process(folder, self.config, self.prefix, self.environment)
        return self._daemon

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end, without a terminal."""
        command = [*self.prefix, sys.executable, "-m", "mirrord", "-c", str(self.config), *words]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self.environment, "NO_COLOR": "1", **environment},
        )

    def verb(self, *words: str) -> dict[str, Any]:
        """Run a verb with `--json` and return what it says, `exit` among it."""
        done = self.run(*words, "--json")
        try:
            said: dict[str, Any] = json.loads(done.stdout)
        except ValueError as e:
            raise AssertionError(f"{words}: exit {done.returncode}: {done.stdout}{done.stderr}") from e
        return {**said, "exit": done.returncode, "stderr": done.stderr}

    def mirror(self, name: str) -> dict[str, Any]:
        """Return one mirror's line of `status`."""
        return next(line for line in self.verb("status")["mirrors"] if line["name"] == name)

    def service(self) -> dict[str, Any]:
        """Return the service's line of `status`."""
        line: dict[str, Any] = self.verb("status")["services"][0]
        return line

    def answers(self) -> set[str]:
        """Return what the committing name server answers for the site's name."""
        return self.primary.query(NAME, "A")

    def served_at(self, *names: str) -> bool:
        """Return whether the zone sends readers to these mirrors."""
        return self.answers() == {self.hosts[name].address for name in names}

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to the daemon."""
        send(number, [self.daemon.pid])


def configuration(publisher: Publisher) -> str:
    """Return the configuration file of a publisher; quick rhythms, so that an outage takes seconds."""
    how: dict[str, Any] = {
        "snapshot_every": "1h",
        "probe_every": "0.3s",
        "suspicious_every": "0.15s",
        "probe_timeout": "3s",
        "fall": 2,
        "rise": 2,
        "references": [publisher.primary.endpoint],
        "settle_content": "2s",
        "max_lag": "24h",
        "dwell": "1s",
        "servers": [publisher.primary.endpoint],
        "resolvers": [],
        "rdap": "",
        "authoritative": [publisher.primary.endpoint, publisher.secondary.endpoint],
        "order": list(publisher.hosts),
        "exclude": [],
        "guard_files": 10,
        "serve": "first",
        "failback": "manual",
        "drill_every": "0s",
        "lexicon": "",
        "controller": "home",
        "controller_lines": "",
        "more": "",
    } | publisher.settings
    mirrors = "".join(
        _mirror(publisher, host, primary=number == 0) for number, host in enumerate(publisher.hosts.values())
    )
    return f"""
[site]
name = "example"
url = "{publisher.url}"
[controller]
name = "{how["controller"]}"
place = "office"
[source]
path = "{publisher.source}"
exclude = {json.dumps(how["exclude"])}
must_exist = ["index.html"]
[snapshot]
every = "{how["snapshot_every"]}"
max_lag = "{how["max_lag"]}"
[guard]
removed_files = {how["guard_files"]}
[signing]
key = {{ file = "{publisher.folder}/signing" }}
[state]
directory = "{publisher.state}"
[control]
socket = "{publisher.folder}/run/control.sock"
[doctor]
rdap = "{how["rdap"]}"
[probe]
every = "{how["probe_every"]}"
suspicious_every = "{how["suspicious_every"]}"
timeout = "{how["probe_timeout"]}"
fall = {how["fall"]}
rise = {how["rise"]}
references = {json.dumps(how["references"])}
settle_content = "{how["settle_content"]}"
{mirrors}
[[service]]
name = "web"
order = {json.dumps(how["order"])}
serve = "{how["serve"]}"
failback = "{how["failback"]}"
drill_every = "{how["drill_every"]}"
dwell = "{how["dwell"]}"
[service.dns]
zone = "{ZONE}"
names = ["{NAME}"]
ttl = 1
authoritative = {json.dumps(how["authoritative"])}
resolvers = {json.dumps(how["resolvers"])}
{_lexicon(publisher, how["lexicon"]) if how["lexicon"] else _updates(publisher, how["servers"])}
{how["more"]}
"""


def _updates(publisher: Publisher, servers: Sequence[str]) -> str:
    key = publisher.primary.key
    return f"""\
servers = {json.dumps(servers)}
[service.dns.tsig]
name = "{key.name}"
algorithm = "{key.algorithm}"
secret = {{ file = "{publisher.folder}/tsig" }}"""


def _lexicon(publisher: Publisher, url: str) -> str:
    """Move names through PowerDNS' interface at a URL; its token is in a file."""
    return f"""\
provider = "lexicon"
[service.dns.lexicon]
provider = "powerdns"
options = {{ pdns_server = "{url}" }}
secrets = {{ auth_token = {{ file = "{publisher.folder}/token" }} }}"""


def _mirror(publisher: Publisher, host: Host, *, primary: bool) -> str:
    role = '\nrole = "primary"' if primary else ""
    return f"""
[[mirror]]
name = "{host.name}"{role}
place = "dc-{host.name}"
addresses = {json.dumps(host.addresses)}
[mirror.http]
port = {publisher.port}
ca_file = "{publisher.ca.file}"
[mirror.sftp]
host = "{host.sshd.host}"
port = {host.publish_port}
user = "{host.sshd.user}"
key = {{ file = "{host.sshd.client_key_path}" }}
host_key = "{host.sshd.host_key_line}"
root = "{host.sshd.remote_root}"
"""


@contextlib.contextmanager
def publisher(
    lab: Any,
    names: Sequence[str] = ("milan", "lyon", "oslo"),
    *,
    wire: Wire | None = None,
    kind: type[NameServer] = Knot,
    **how: Any,
) -> Iterator[Publisher]:
    """Make a publisher in a lab, hosts and name servers (of a kind) running, nothing published, no daemon.

    With a `wire` (made with `also_there=ADDRESSES`), mirrord stands at its near end and everything else at its far end;
    hosts have IPv4 and IPv6 then, and the name servers IPv6 alone.
    """
    folder = lab.folder("publisher")
    (folder / "source").mkdir()
    port = free_port()
    certificate = lab.ca.issue([NAME])
    there = {"prefix": wire.there.prefix} if wire is not None else {}
    hosts = {}
    for number, name in enumerate(names):
        addresses = [f"127.0.{100 + os.getpid() % 100}.{11 + number}"] if wire is None else list(FAR[number])
        sshd = lab.sshd(
            chroot=bool(number % 2) and wire is None, address=addresses[-1] if wire else "127.0.0.1", **there
        )
        document_root = sshd.root / "current"
        nginx = lab.nginx(document_root, certificate=certificate, addresses=addresses, port=port, **there)
        hosts[name] = Host(name, tuple(addresses), sshd, nginx, sshd.port)
    first = next(iter(hosts.values()))
    records = [f"www 1 {'AAAA' if ':' in address else 'A'} {address}" for address in first.addresses]
    near = {} if wire is None else {"address": wire.there.address6, **there}
    primary, secondary = lab.followed(kind, kind, zone=ZONE, text=zone_text(ZONE, records), **near)
    resolver = lab.unbound(primary, secondary, start=wire is None)
    make_key(folder / "signing")
    primary.key.write_secret(folder / "tsig")
    made = Publisher(folder, lab.ca, hosts, primary, secondary, resolver, port, settings=dict(how))
    made.prefix = tuple(wire.here.prefix) if wire is not None else ()
    made.write("index.html", "<h1>Home</h1>")
    made.write("about/index.html", "<h1>About</h1>")
    made.write("style.css", "h1 { color: navy }")
    made.configure()
    try:
        yield made
    finally:
        if made._daemon is not None:
            made._daemon.stop()
