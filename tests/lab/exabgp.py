"""ExaBGP as a real BGP speaker, in the network namespace of its machine.

There are two of it: Debian's package is ExaBGP 4, and ExaBGP 5 stands among what the tests are run with. Each is
started by its own path, so that neither stands for the other, whatever is on PATH.
"""

from __future__ import annotations

import getpass
import itertools
import os
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from tests.lab.processes import Server

PROGRAMS = {4: Path("/usr/sbin/exabgp"), 5: Path(sysconfig.get_path("scripts"), "exabgp")}
"""By the release's first number."""

_numbers = itertools.count(1)


class ExaBgp(Server):
    """ExaBGP with a configuration of the test's; `pipes` is its two pipes' path, without `.in` and `.out`."""

    def __init__(self, folder: Path, text: str, prefix: Sequence[str] = (), *, release: int = 4) -> None:
        super().__init__(f"exabgp{release}", folder, prefix)
        self.text = text
        self.release = release
        self.program = PROGRAMS[release]
        assert self.program.exists(), f"{self.program} is not installed; `make servers` and `make venv` do it"
        self.pipes = folder / "run" / f"mirrord-{os.getpid()}-{next(_numbers)}"
        self.pipes.parent.mkdir()
        for end in (".in", ".out"):
            os.mkfifo(f"{self.pipes}{end}", 0o600)

    def prepare(self) -> None:
        """Write its configuration."""
        (self.folder / "exabgp.conf").write_text(self.text)
        self.log.unlink(missing_ok=True)

    def command(self) -> list[str]:
        """Return `exabgp` in the foreground."""
        settings = {
            "api_cli": "true",
            "api_pipename": self.pipes.name,
            "daemon_user": getpass.getuser(),
            "log_destination": "stdout",
            "tcp_bind": "",
        }
        told = [f"exabgp_{key}={value}" for key, value in settings.items()]
        where = ["--root", str(self.folder)] if self.release < 5 else []
        told += [] if where else [f"EXABGP_ROOT={self.folder}"]
        return ["env", *told, str(self.program), *where, str(self.folder / "exabgp.conf")]

    def ready(self) -> bool:
        """Return whether it runs by its configuration, and listens at its pipes."""
        if "loaded new configuration successfully" not in self.log.read_text(errors="replace"):
            return False
        os.close(os.open(f"{self.pipes}.in", os.O_WRONLY | os.O_NONBLOCK))
        return True
