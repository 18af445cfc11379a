"""What the tests of BGP share: a publisher with a prefix of its own, and its settings as the document gives them."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import Lab
from tests.lab.bird import Bird
from tests.lab.nginx import Nginx
from tests.lab.processes import Server
from tests.lab.publisher import Process
from tests.lab.routing import ADDRESSES, MIRRORS, ROUTER, Net
from tests.lab.waiting import steadily, until

PAGE = Path(__file__).parent.parent / "docs" / "switching.md"
PORT = 8080


def settings_of(what: str) -> str:
    """Return the settings of the document's block whose first line says `what`."""
    blocks = re.findall(r"```[a-z]+\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return next(str(block) for block in blocks if what in block.partition("\n")[0])


def killed(server: Server) -> None:
    """End a speaker or router as by a power failure, and start it again as the document says."""
    server.kill()
    if isinstance(server, Bird):
        server.recovers = True
    server.start()


def restarted(server: Server) -> None:
    """End a speaker or router on purpose, as the document says, and start it again."""
    if isinstance(server, Bird):
        server.ask("graceful", "restart")
        until(lambda: not server.running, 10, "BIRD to end")
        server.recovers = True
    server.restart()


@dataclass
class Announced:
    """A publisher whose prefixes are announced."""

    net: Net
    folder: Path
    router: Bird
    speaker: Server
    mirrors: dict[str, Nginx]
    file: Path
    settings: dict[str, Any]
    changes: dict[str, Any] = field(default_factory=dict)
    _daemon: Process | None = None

    @property
    def config(self) -> Path:
        """Return mirrord's configuration file."""
        return self.folder / "mirrord.toml"

    @property
    def daemon(self) -> Process:
        """Return the daemon's process, made once."""
        if self._daemon is None:
            self._daemon = Process(self.folder / "daemon", self.config, self.net.speaker.prefix, {})
        return self._daemon

    def verb(self, *words: str) -> dict[str, Any]:
        """Run a verb with `--json` on the speaker's machine; return what it says, `exit` among it."""
        command = [*self.net.speaker.prefix, sys.executable, "-m", "mirrord", "-c", str(self.config), *words, "--json"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL
        )
        try:
            said: dict[str, Any] = json.loads(done.stdout)
        except ValueError as e:
            raise AssertionError(f"{words}: exit {done.returncode}: {done.stdout}{done.stderr}") from e
        return {**said, "exit": done.returncode}

    def switch(self, mirror: str, *words: str) -> dict[str, Any]:
        """Move readers by hand."""
        return self.verb("switch", "web", mirror, "--yes", *words)

    def service(self) -> dict[str, Any]:
        """Return the service's line of `status`."""
        line: dict[str, Any] = self.verb("status")["services"][0]
        return line

    def answers(self, address: str) -> bool:
        """Return whether a reader gets a page at an announced address."""
        host = f"[{address}]" if ":" in address else address
        command = [*self.net.reader.prefix, "curl", "-s", "-m", "2", f"http://{host}:{PORT}/"]
        return b"Example" in subprocess.run(command, capture_output=True, check=False).stdout

    def established(self) -> None:
        """Wait until the router is told of both prefixes, by sessions that stand and over which all was said."""
        until(lambda: self.router.ask("show", "protocols").count("Established") == 2, 30, "the sessions")
        until(lambda: "stale" not in self.router.ask("show", "route", "all"), 30, "the routes to be told again")

    def leads_to(self, mirror: str) -> None:
        """Wait until the router sends readers to a mirror."""
        until(lambda: self.net.leads_to(mirror), 20, f"the route to {mirror}")

    def stays_at(self, mirror: str, during: float = 1.0) -> None:
        """Assert that the router goes on sending readers to a mirror."""
        steadily(lambda: self.net.leads_to(mirror), during, f"the route to {mirror}")

    def watching(self) -> None:
        """Have a daemon run that could help."""
        if not self.daemon.running:
            self.daemon.start()
        until(lambda: self.service()["protected"]["ok"], 20, "protection")

    def light(self, *mirrors: str) -> None:
        """Bring mirrors back, and their readers to milan."""
        for mirror in mirrors:
            self.net.light(mirror)
        until(lambda: self.switch("milan")["exit"] == 0, 20, "the readers to be back at milan")
        until(lambda: all(map(self.answers, ADDRESSES)), 20, "pages at the announced addresses")


def configuration(made: Announced) -> str:
    """Return mirrord's configuration: quick rhythms, and the document's `[service.bgp]`."""
    mirrors = "".join(
        f"""
[[mirror]]
name = "{name}"
place = "dc-{name}"
addresses = {json.dumps(addresses)}
[mirror.http]
markers = [{{ path = "/", contains = "Example" }}]
"""
        for name, addresses in MIRRORS.items()
    )
    return f"""
[site]
name = "example"
url = "http://www.example.org:{PORT}/"
[controller]
name = "home"
place = "office"
[state]
directory = "{made.folder}/state"
[control]
socket = "{made.folder}/run/control.sock"
[probe]
every = "0.4s"
suspicious_every = "0.2s"
timeout = "1s"
fall = 2
rise = 1
references = ["{made.net.router.address}:{PORT}", "[{made.net.router.address6}]:{PORT}"]
{mirrors}
[[service]]
name = "web"
order = ["milan", "lyon"]
dwell = "1s"
{made.settings["service"]}
"""


@contextlib.contextmanager
def announced(lab: Lab, kind: str = "bird", *, sooner: bool = False, release: int = 4) -> Iterator[Announced]:
    """Make a publisher whose readers are at milan, without a daemon; `release` is ExaBGP's.

    `sooner`: the router loses patience with a silent neighbour after seconds, not minutes; all else is the document's.
    """

    def bird(text: str) -> str:
        patience = "graceful restart on;\n\tgraceful restart time 1;\n\thold time 3;"
        return text.replace("\tgraceful restart on;", f"\t{patience}") if sooner else text

    with Net() as net:
        folder = lab.folder("announced")
        file = folder / "own" / "web.conf"
        file.parent.mkdir()
        router = lab.bird("router", bird(settings_of("The router's")), prefix=net.router.prefix)
        # Answers unless our network is gone. Not the router's BGP port: a knock there looks like a restart of ours.
        lab.nginx(lab.folder("empty"), addresses=list(ROUTER), port=PORT, prefix=net.router.prefix)
        mirrors = {}
        for name, space in net.mirrors.items():
            root = lab.folder(name)
            (root / "index.html").write_text(f"Example from {name}\n")
            listening = [*MIRRORS[name], *ADDRESSES]
            mirrors[name] = lab.nginx(root, addresses=listening, port=PORT, prefix=space.prefix)
        service = settings_of("[service.bgp]").replace("/etc/bird/mirrord/web.conf", str(file))
        file.touch()
        speaker: Server
        if kind == "bird":
            text = settings_of("The speaker's").replace("/etc/bird/mirrord/web.conf", str(file))
            speaker = speaks = lab.bird("speaker", bird(text), prefix=net.speaker.prefix)
            more = f'socket = "{speaks.control}"'
        else:
            text = settings_of("exabgp.conf").replace("/etc/exabgp/mirrord/web.routes", str(file))
            speaker = exabgp = lab.exabgp(text, prefix=net.speaker.prefix, release=release)
            more = f'pipes = "{exabgp.pipes}"'
            service = service.replace('"bird"', '"exabgp"')
        service = service.replace("\n[service.bgp.mirrors]", f"\n{more}\n[service.bgp.mirrors]")
        made = Announced(net, folder, router, speaker, mirrors, file, {"service": service})
        made.config.write_text(configuration(made))
        first = made.switch("milan", "--adopt")
        # On a slow machine the sessions may take longer than a look at the page: then the route is still on its way.
        assert first.get("result") in ("done", "partial"), first
        made.leads_to("milan")
        until(lambda: all(map(made.answers, ADDRESSES)), 20, "pages at the announced addresses")
        try:
            yield made
        finally:
            made.daemon.stop()
