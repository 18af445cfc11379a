"""What can a controller do, and how is it asked to?

crew.py       the one place that makes workers
works.py      what one controller stands on: settings, journal, store, crews, locks, switches
accounts.py   what is known of the mirrors' accounts
syncing.py    a snapshot is taken, or an earlier one taken up again
plans.py      what a publish would do, shown first and then carried out exactly
gathering.py  mirrors that stand ready wait for each other, where that is wanted
publishing.py it gets to all mirrors, to each in a run of its own
examining.py  what one mirror can do, and what its web server serves, found out by trying
looking.py    one round of looks at everything, or one fresh look at a target
viewing.py    what a reader gets of what was just published
upkeep.py     what is published without a person, and when
inbox.py      how other threads reach the one that owns everything
mind.py       all that changes while mirrord runs, owned by one thread
moving.py     readers are moved: fresh look, intent, change, proof
showing.py    how the answers of verbs are worded
outgoing.py   the verbs that send content out
desk.py       the verbs, the same with a daemon and without
server.py     the daemon's ear: HTTP on a unix socket
client.py     the other end of it
alone.py      the desk in the verb's own process, where no daemon runs
pulse.py      does everything get on that should?
notify.py     what systemd has to know
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mirrord.config import Settings


class Caller(Protocol):
    """Whoever does verbs: the daemon, or this process."""

    alone: bool
    """True: in this process; stopping it stops the work."""

    def call(self, verb: str, arguments: Mapping[str, Any], talk: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Do one verb; `talk` gets what is said meanwhile. Raises MirrordError."""
        ...


def reach(settings: Settings) -> Caller:
    """Return the daemon if one runs, else what works alone; raises NoAnswer, and Refused where we may not connect."""
    from mirrord.control.client import Client, is_there

    if is_there(settings.control.socket):
        return Client(settings.control.socket)
    from mirrord.control.alone import Alone

    return Alone(settings)
