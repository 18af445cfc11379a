"""One switch in a process of its own, which kills itself before a given call to the switch or the journal.

    python -m tests.switch_to_be_killed JOURNAL PORT KEY_FILE move|give-up CALL

CALL 0 is the first; between two calls nothing leaves the process. Exits with 3 if it came to the end alive.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mirrord.journal import Journal
from mirrord.switches import Endpoint, open_switch
from mirrord.switches.transaction import resolve, run
from tests.lab.nameserver import Key
from tests.switching import QUICK, Desk, settings


class Counted:
    """Anything whose calls are counted, and of which one is the last."""

    calls = 0

    def __init__(self, real: Any, last: int) -> None:
        self._real = real
        self._last = last

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return the real verb, or death before it."""

        def call(*arguments: Any) -> Any:
            if Counted.calls == self._last:
                os.kill(os.getpid(), signal.SIGKILL)
            Counted.calls += 1
            return getattr(self._real, name)(*arguments)

        return call


def main(path: str, port: str, key_file: str, what: str, last: str) -> int:
    """Plan a move to lyon and carry it out; or give the open plan up."""
    key = Key(secret=Path(key_file).read_text(encoding="ascii").strip())
    there = Endpoint("127.0.0.1", int(port))
    switch = open_switch(settings(there, key=key))
    journal = Journal(Path(path))
    dying: Any = Counted(switch, int(last))
    ledger: Any = Counted(journal, int(last))
    if what == "move":
        run(dying, ledger, Desk(switch, journal).plan("lyon"), patience=QUICK)
    else:
        resolve(dying, ledger, "web", by="home", again=False, patience=QUICK)
    return 3


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
