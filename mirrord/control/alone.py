"""What does a verb do where no daemon runs?

The same as the daemon's, in this process: the desk on its own works, under the same locks. What only
watching can know (verdicts over several looks) is unknown then; one look has to do, and the verb says so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from mirrord.config import Settings
from mirrord.control.client import own_name
from mirrord.control.desk import Desk
from mirrord.control.looking import Looker
from mirrord.control.mind import Mind
from mirrord.control.publishing import Publishing
from mirrord.control.server import Talk
from mirrord.control.works import Works


class Alone:
    """A desk of one's own."""

    alone = True

    def __init__(self, settings: Settings) -> None:
        """Name the settings; nothing is opened yet."""
        self._settings = settings

    def call(self, verb: str, arguments: Mapping[str, Any], talk: Talk) -> dict[str, Any]:
        """Do one verb. Raises MirrordError; on Ctrl-C whatever runs is broken off and KeyboardInterrupt goes on."""
        who = own_name()
        works = Works(self._settings)
        publishing = Publishing(works)
        try:
            mind = Mind(self._settings, works.journal, now=time.monotonic(), wall=time.time(), watching=False)
            desk = Desk(works, mind, Looker(works), publishing)
            return desk.call(verb, arguments, talk, who)
        finally:
            works.stop.set()
            publishing.abort()
            works.close()
