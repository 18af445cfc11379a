"""What does mirrord do for a publisher whose datacentre goes away?

The whole job on this machine, in half a minute: three hosts and a name server in this process, a real daemon
beside it, a site, an outage, an article published meanwhile, the way home. Nothing is installed, nobody
has to be root, nothing leaves the loopback addresses. Each step waits for what it announces and says how
long that took; what does not happen in time ends the demo with an error, never with a friendly line.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rdatatype

from mirrord.control.client import Client, is_there
from mirrord.demo.named import NameServer
from mirrord.demo.plug import Plugged, free_port, stop_all
from mirrord.demo.sftpd import SftpHost, new_key
from mirrord.demo.webd import WebHost
from mirrord.errors import Refused, Unavailable
from mirrord.trust.copy import Asked, verify_copy
from mirrord.trust.keys import Signers

ZONE, NAME = "example.org", "www.example.org"
PLACES = {"milan": "127.0.0.2", "lyon": "127.0.0.3", "oslo": "127.0.0.4"}
"""The three hosts and their addresses; every system with the whole of 127.0.0.0/8 on loopback has them."""
EVERY, FALL, TIMEOUT = 0.5, 2, 2.0
"""The rhythm of the looks: quick, so that nobody waits; a real site does well with 30 s and 3."""
PATIENCE = 20.0
"""Seconds that a step may take."""
ARTICLE = "news/outage.html"

Say = Callable[[str], None]


@dataclass(slots=True)
class Host:
    """One small host: an SFTP account and a web server."""

    name: str
    account: Path
    sftp: SftpHost
    web: WebHost

    def unplug(self) -> None:
        """Take it off the net."""
        self.sftp.unplug()
        self.web.unplug()


@dataclass(slots=True)
class Stage:
    """Everything that the demo set up."""

    folder: Path
    port: int
    hosts: dict[str, Host]
    named: NameServer
    public_key: str
    servers: list[Plugged] = field(default_factory=list)

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "mirrord.toml"

    @property
    def source(self) -> Path:
        """Where the maintainers keep the content."""
        return self.folder / "source"

    @property
    def socket(self) -> Path:
        """Where the daemon listens."""
        return self.folder / "control.sock"

    @property
    def log(self) -> Path:
        """What the daemon says."""
        return self.folder / "daemon.log"

    @property
    def url(self) -> str:
        """What readers type."""
        return f"http://{NAME}:{self.port}/"

    def resolve(self) -> str:
        """Return the address that the name server gives readers."""
        question = dns.message.make_query(NAME, dns.rdatatype.A)
        try:
            answer = dns.query.udp(question, self.named.address, port=self.named.port, timeout=2)
        except (OSError, dns.exception.DNSException) as e:
            raise Unavailable(f"the demo's name server: asking for {NAME}: {e}") from e
        return next((data.to_text() for rrset in answer.answer for data in rrset), "")

    def serving(self) -> str:
        """Return the host that readers are sent to."""
        address = self.resolve()
        return next((name for name, known in PLACES.items() if known == address), address)

    def read(self, path: str) -> bytes:
        """Read a page as a reader does: ask the name server, then the host. Raises MirrordError."""
        address = self.resolve()
        connection = http.client.HTTPConnection(address, self.port, timeout=2)
        try:
            connection.request("GET", f"/{path}", headers={"Host": f"{NAME}:{self.port}"})
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as e:
            raise Unavailable(f"the demo's reader: {self.url}{path} at {address}: {str(e) or type(e).__name__}") from e
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise Unavailable(f"the demo's reader: {self.url}{path} at {address}: status {answer.status}")
        return body

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Have the daemon do a verb."""
        return Client(self.socket).call(verb, arguments, lambda _: None)

    def mirror(self, name: str) -> dict[str, Any]:
        """Return what the daemon holds true of a host."""
        found: dict[str, Any] = next(line for line in self.ask("status")["mirrors"] if line["name"] == name)
        return found


class Teller:
    """Says each step with the time that passed, and keeps it for machines."""

    def __init__(self, say: Say) -> None:
        """Start the clock."""
        self._say = say
        self._began = time.monotonic()
        self.steps: list[dict[str, Any]] = []

    def tell(self, text: str, **figures: Any) -> None:
        """Say one step."""
        seconds = time.monotonic() - self._began
        self.steps.append({"seconds": round(seconds, 2), "text": text, **figures})
        self._say(f"{seconds:5.1f} s  {text}")

    def until(self, what: str, condition: Callable[[], Any]) -> float:
        """Wait for a condition and return how long it took; raises Unavailable if it does not come."""
        began = time.monotonic()
        while True:
            with contextlib.suppress(Unavailable):
                if condition():
                    return time.monotonic() - began
            if time.monotonic() - began > PATIENCE:
                raise Unavailable(f"the demo: waiting for {what}: it did not come within {PATIENCE:.0f} s")
            time.sleep(0.02)


def run_demo(say: Say, *, keep: bool = False) -> dict[str, Any]:
    """Tell the whole story; returns its steps and figures. Raises MirrordError where a step does not come about.

    With `keep` everything stays up at the end until Ctrl-C.
    """
    with _clean_end(), tempfile.TemporaryDirectory(prefix="mirrord-demo-") as folder:
        stage = _set_up(Path(folder))
        try:
            with _daemon(stage) as daemon:
                teller = Teller(say)
                figures = _story(stage, teller)
                if keep:
                    _stay(stage, daemon, say)
        finally:
            stop_all(stage.servers)
    return {"steps": teller.steps, **figures}


def _story(stage: Stage, teller: Teller) -> dict[str, Any]:
    milan, lyon = stage.hosts["milan"], stage.hosts["lyon"]
    teller.tell(f"Three hosts, a name server and a publisher's machine are up, all on this computer: {stage.folder}")
    teller.until("the first publish", lambda: all((h.account / "current").is_symlink() for h in stage.hosts.values()))
    card = json.loads(stage.read(".well-known/mirrord/snapshot.json"))
    teller.tell(f"The site is signed and stands on all three: {card['files']} files, snapshot {card['id']}")
    teller.until("protection", lambda: stage.ask("status")["protected"]["ok"])
    teller.tell(f"mirrord looks at every host as a reader would; readers of {stage.url} are sent to {stage.serving()}")

    milan.unplug()
    teller.tell("The datacentre of milan is gone: its web server and its account answer nobody")
    moved = teller.until("the move", lambda: stage.serving() == "lyon")
    stage.read("")
    detection = FALL * EVERY + TIMEOUT
    teller.tell(
        f"DNS sends readers to lyon, {moved:.1f} s after the loss (at most {detection:.1f} s of it to be sure),"
        " and they read on",
        moved_after=round(moved, 2),
    )

    _write_article(stage)
    during = stage.ask("sync")
    rows = {row["name"]: row["result"] for row in during["mirrors"]}
    stage.read(ARTICLE)
    teller.tell(
        f"The publisher writes an article about it: {', '.join(f'{name} {result}' for name, result in rows.items())};"
        " readers have it"
    )

    milan.web.plug()
    teller.until("milan to be seen again", lambda: stage.mirror("milan")["class"] == "behind")
    teller.tell(f"milan's web server is back, with the pages of before; readers stay with {stage.serving()}")
    milan.sftp.plug()
    wanted = during["snapshot"]["id"]
    caught = teller.until("milan to catch up", lambda: stage.mirror("milan")["class"] == "current")
    teller.tell(f"Its account is back too: milan catches up with {wanted} after {caught:.1f} s; readers still stay")

    shown = stage.ask("switch", service="web", mirror="milan", dry_run=True)
    stage.ask("switch", service="web", mirror="milan", plan=shown["change"])
    teller.until("the way home", lambda: stage.serving() == "milan")
    teller.tell("The operator says `mirrord switch web milan`: readers are home again")

    asked = Asked(Signers.of([stage.public_key]), NAME, time.time())
    copy = verify_copy(lyon.account / "current", asked)
    teller.tell(f"Anyone can check a copy with the public key alone: lyon's is {copy.kind.value}, {copy.checked} files")
    return {"moved_after": round(moved, 2), "detection": detection, "verified": copy.kind.value}


def _set_up(folder: Path) -> Stage:
    """Start the hosts and the name server, and write the configuration; raises Refused where an address is missing."""
    try:
        port = free_port(*PLACES.values())
    except OSError as e:
        raise Refused(
            f"the demo: listening at {', '.join(PLACES.values())}: {e.strerror or e}; it needs all of 127.0.0.0/8 on"
            " loopback, as Linux has it"
        ) from e
    login, public = new_key()
    signing, signer = new_key()
    _secret(folder / "sftp_ed25519", login)
    _secret(folder / "signing_ed25519", signing)
    hosts: dict[str, Host] = {}
    servers: list[Plugged] = []
    for name, address in PLACES.items():
        account = folder / name
        account.mkdir()
        sftp = SftpHost(account, public_key=public, address=address)
        web = WebHost(account / "current", address=address, port=port)
        hosts[name] = Host(name, account, sftp, web)
        servers += [sftp.start(), web.start()]
    zone = (
        f"$TTL 60\n@ SOA ns1.{ZONE}. hostmaster.{ZONE}. 1 300 60 4000000 5\n@ NS ns1.{ZONE}.\n"
        f"ns1 A 127.0.0.1\nwww 60 A {PLACES['milan']}\n"
    )
    named = NameServer(ZONE, zone)
    servers.append(named.start())
    _secret(folder / "tsig", named.secret.encode())
    stage = Stage(folder, port, hosts, named, signer, servers)
    with as_file(files("mirrord.demo") / "site") as site:
        shutil.copytree(site, stage.source)
    stage.config.write_text(configuration(stage), encoding="utf-8")
    return stage


def _secret(path: Path, secret: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(secret)


def configuration(stage: Stage) -> str:
    """Return the demo's configuration file; a real one looks the same."""
    mirrors = ""
    for name, host in stage.hosts.items():
        role = 'role = "primary"\n' if name == "milan" else ""
        mirrors += f"""
[[mirror]]
name = "{name}"
{role}place = "dc-{name}"
addresses = ["{host.web.address}"]
[mirror.sftp]
host = "{host.sftp.address}"
port = {host.sftp.port}
user = "{host.sftp.user}"
key = {{ file = "{stage.folder}/sftp_ed25519" }}
host_key = "{host.sftp.host_key}"
"""
    return f"""# The demo's configuration: small numbers, so that nobody waits.
[site]
name = "demo"
url = "{stage.url}"
[controller]
name = "demo"
place = "office"
[source]
path = "{stage.source}"
must_exist = ["index.html"]
[snapshot]
every = "1h"
[signing]
key = {{ file = "{stage.folder}/signing_ed25519" }}
[state]
directory = "{stage.folder}/state"
[control]
socket = "{stage.socket}"
[probe]
every = "{EVERY}s"
timeout = "{TIMEOUT}s"
fall = {FALL}
references = ["{stage.named.address}:{stage.named.port}"]
settle_content = "2s"
{mirrors}
[[service]]
name = "web"
order = {json.dumps(list(stage.hosts))}
dwell = "1s"
[service.dns]
zone = "{ZONE}"
names = ["{NAME}"]
ttl = 60
servers = ["{stage.named.address}:{stage.named.port}"]
authoritative = ["{stage.named.address}:{stage.named.port}"]
tsig = {{ name = "{stage.named.key_name}", secret = {{ file = "{stage.folder}/tsig" }} }}
"""


@contextlib.contextmanager
def _daemon(stage: Stage) -> Iterator[subprocess.Popen[bytes]]:
    """Run the daemon beside us; raises Unavailable with its last words if it does not come up."""
    with stage.log.open("wb") as log:
        command = [sys.executable, "-m", "mirrord", "-c", str(stage.config), "run"]
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        began = time.monotonic()
        while not is_there(stage.socket):
            if daemon.poll() is not None or time.monotonic() - began > PATIENCE:
                last = stage.log.read_text(errors="replace").strip().splitlines()[-3:]
                raise Unavailable(f"the demo: starting the daemon: it did not come up: {' / '.join(last)}")
            time.sleep(0.02)
        yield daemon
    finally:
        daemon.terminate()
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


@contextlib.contextmanager
def _clean_end() -> Iterator[None]:
    """Have SIGTERM end the demo as Ctrl-C does, so that nothing is left behind."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _write_article(stage: Stage) -> None:
    """Lay the article about the outage over the source, as a maintainer saves it."""
    with as_file(files("mirrord.demo") / "outage") as outage:
        shutil.copytree(outage, stage.source, dirs_exist_ok=True)


def _stay(stage: Stage, daemon: subprocess.Popen[bytes], say: Say) -> None:
    """Leave everything up until Ctrl-C or until the daemon ends."""
    with contextlib.suppress(KeyboardInterrupt):
        say("")
        say(f"Everything stays up until Ctrl-C. In another terminal: mirrord -c {stage.config} status")
        for host in stage.hosts.values():
            say(f"  {host.name}: {host.web.url}")
        daemon.wait()
