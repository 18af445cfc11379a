"""One controller without servers: its settings name hosts and name servers at which nobody listens."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirrord.config import Settings, load
from mirrord.control.desk import Desk, inline
from mirrord.control.looking import Looker
from mirrord.control.mind import Mind
from mirrord.control.publishing import Publishing
from mirrord.control.works import Works
from mirrord.health import Observation, Reference, Round
from tests.lab.ports import free_port
from tests.lab.sftp import make_key
from tests.watching import Sight

NAME = "www.example.org"


def configuration(folder: Path, *, mirrors: Sequence[str] = ("milan", "lyon"), port: int = 0, **how: Any) -> str:
    """Return a configuration file; nobody listens at any address in it."""
    nobody = f"127.0.0.1:{port or free_port()}"
    said: dict[str, Any] = {"every": "1h", "snapshot_every": "1h", "order": list(mirrors), "services": 1} | how
    text = f"""
[site]
name = "example"
url = "https://{NAME}/"
[source]
path = "{folder}/source"
[snapshot]
every = "{said["snapshot_every"]}"
[signing]
key = {{ file = "{folder}/signing" }}
[state]
directory = "{folder}/state"
[control]
socket = "{folder}/control.sock"
[probe]
every = "{said["every"]}"
timeout = "1s"
fall = 1
rise = 1
references = ["{nobody}"]
"""
    for number, mirror in enumerate(mirrors):
        text += f"""
[[mirror]]
name = "{mirror}"
addresses = ["127.0.0.{11 + number}"]
[mirror.sftp]
host = "127.0.0.1"
port = {nobody.rpartition(":")[2]}
user = "{mirror}"
key = {{ file = "{folder}/signing" }}
host_key = "{(folder / "signing.pub").read_text().strip()}"
root = "/"
"""
    for number in range(said["services"]):
        text += f"""
[[service]]
name = "web{number or ""}"
order = {json.dumps(said["order"])}
[service.dns]
zone = "example.org"
names = ["{NAME if not number else f"www{number}.example.org"}"]
servers = ["{nobody}"]
authoritative = ["{nobody}"]
tsig = {{ name = "mirrord", algorithm = "hmac-sha256", secret = {{ file = "{folder}/tsig" }} }}
"""
    return text


@dataclass
class Controller:
    """Everything that verbs stand on."""

    folder: Path
    works: Works
    mind: Mind
    looker: Looker
    publishing: Publishing
    desk: Desk

    def __post_init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def verb(self, verb: str, **asked: Any) -> dict[str, Any]:
        """Do a verb as anna."""
        return self.desk.call(verb, asked, self.said.append, "anna")

    def reconfigure(self, **how: Any) -> Settings:
        """Write the configuration anew and read it."""
        (self.folder / "mirrord.toml").write_text(configuration(self.folder, **how))
        return load(self.folder / "mirrord.toml")

    def told(self, *kinds: str) -> list[str]:
        """Return the history's sentences, oldest first."""
        return [one.event.what for one in reversed(self.works.journal.history(kinds=kinds))]


@contextlib.contextmanager
def controller(
    folder: Path, *, daemon: bool = False, ask: Callable[[Any], Any] = inline, **how: Any
) -> Iterator[Controller]:
    """Set one up in a folder: a source of two pages, keys, nothing published."""
    (folder / "source").mkdir()
    (folder / "source" / "index.html").write_text("<h1>Home</h1>")
    (folder / "source" / "about.html").write_text("<h1>About</h1>")
    make_key(folder / "signing")
    (folder / "tsig").write_text("c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IQ==\n")
    (folder / "mirrord.toml").write_text(configuration(folder, **how))
    settings = load(folder / "mirrord.toml")
    works = Works(settings)
    mind = Mind(settings, works.journal, now=time.monotonic(), wall=time.time(), watching=daemon)
    looker, publishing = Looker(works), Publishing(works)
    desk = Desk(works, mind, looker, publishing, ask=ask, daemon=daemon)
    try:
        yield Controller(folder, works, mind, looker, publishing, desk)
    finally:
        works.close()


def seen(*sights: Sight, ago: float = 0.0, reachable: bool = True) -> Round:
    """Make a round that ended just now (or so many seconds ago) of these sights."""
    now, wall = time.monotonic() - ago, time.time() - ago
    references = (Reference("192.0.2.99:53", 4, reachable),)
    looks: tuple[Observation, ...] = tuple(at(now - 0.3, wall - 0.3) for at in sights)
    return Round(now - 0.4, now, wall - 0.4, wall, looks, references, references)
