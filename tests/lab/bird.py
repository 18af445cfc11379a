"""BIRD as a real BGP speaker or router, in the network namespace of its machine."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from tests.lab.processes import Server, as_root, program


class Bird(Server):
    """BIRD with a configuration of the test's; its control socket is `control`."""

    def __init__(self, name: str, folder: Path, text: str, prefix: Sequence[str] = ()) -> None:
        super().__init__(name, folder, prefix)
        self.text = text
        self.control = folder / "bird.ctl"
        self.recovers = False
        """Start as after a graceful restart (`-R`)."""

    def prepare(self) -> None:
        """Write its configuration."""
        (self.folder / "bird.conf").write_text(self.text)

    def command(self) -> list[str]:
        """Return `bird` in the foreground."""
        where = ["-c", str(self.folder / "bird.conf"), "-s", str(self.control), "-P", str(self.folder / "bird.pid")]
        return [program("bird"), "-f", *where, *(["-R"] if self.recovers else [])]

    def ready(self) -> bool:
        """Return whether it answers at its control socket."""
        with socket.socket(socket.AF_UNIX) as link:
            return link.connect_ex(str(self.control)) == 0

    def ask(self, *words: str) -> str:
        """Have `birdc` ask it something."""
        return as_root([program("birdc"), "-s", str(self.control), *words], check=False)
