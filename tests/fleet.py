"""A controller in this process that publishes to several real accounts, each over a line of its own.

All accounts are folders of one OpenSSH server; no web server, no name server. Verbs are done as the command line does
them where no daemon runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirrord.config import Settings, load
from mirrord.control.alone import Alone
from mirrord.journal import Event, Journal
from tests.conftest import Lab
from tests.lab.proxy import Proxy
from tests.lab.sftp import make_key
from tests.lab.sshd import Sshd


@dataclass
class Fleet:
    """A source, a state folder, and mirrors."""

    folder: Path
    sshd: Sshd
    lines: dict[str, Proxy]
    said: list[dict[str, Any]] = field(default_factory=list)
    """What the last verb said meanwhile."""
    lines_of: dict[str, str] = field(default_factory=dict)
    """More lines for a mirror's [mirror.sftp]."""
    more: str = ""

    def write(self, name: str, data: bytes) -> None:
        """Write a page as a maintainer does."""
        path = self.folder / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def settings(self) -> Settings:
        """Write the configuration and read it."""
        file = self.folder / "mirrord.toml"
        file.write_text(self._configuration())
        return load(file)

    def verb(self, verb: str, **asked: Any) -> dict[str, Any]:
        """Do a verb; raises MirrordError."""
        self.said.clear()
        return Alone(self.settings()).call(verb, asked, self.said.append)

    def root(self, mirror: str) -> Path:
        """Return a mirror's folder on this disk."""
        return self.sshd.root / f"{self.folder.name}-{mirror}"

    def serves(self, mirror: str) -> str | None:
        """Return the release that a mirror serves."""
        link = self.root(mirror) / "current"
        return link.readlink().name if link.is_symlink() else None

    def events(self, kind: str) -> list[Event]:
        """Return what the journal has of a kind, oldest first."""
        journal = Journal(self.folder / "state" / "journal.sqlite")
        with contextlib.closing(journal):
            return [one.event for one in reversed(journal.history(kinds=(kind,)))]

    def _configuration(self) -> str:
        text = f"""
[site]
name = "example"
url = "http://www.example.org/"
[source]
path = "{self.folder}/source"
[signing]
key = {{ file = "{self.folder}/signing" }}
[state]
directory = "{self.folder}/state"
[control]
socket = "{self.folder}/control.sock"
[probe]
references = []
{self.more}
"""
        for number, (name, line) in enumerate(self.lines.items()):
            text += f"""
[[mirror]]
name = "{name}"
addresses = ["127.0.0.{11 + number}"]
[mirror.sftp]
host = "127.0.0.1"
port = {line.port}
user = "{self.sshd.user}"
key = {{ file = "{self.sshd.client_key_path}" }}
host_key = "{self.sshd.host_key_line}"
root = "{self.sshd.remote_root}/{self.folder.name}-{name}"
{self.lines_of.get(name, "")}
"""
        return text


def fleet(lab: Lab, sshd: Sshd, **round_trips: float) -> Iterator[Fleet]:
    """Make one with a mirror for each keyword, at the end of a line with so many seconds there and back."""
    folder = lab.folder("fleet")
    make_key(folder / "signing")
    lines = {name: lab.proxy(sshd.host, sshd.port, round_trip=seconds) for name, seconds in round_trips.items()}
    made = Fleet(folder, sshd, lines)
    made.write("index.html", b"<h1>Home</h1>")
    made.write("about/index.html", b"<h1>About</h1>")
    yield made
