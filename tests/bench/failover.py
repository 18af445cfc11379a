"""Measure how long readers are sent to a dead primary: from its death to the new answer, with 2 and with 50 mirrors.

    python -m tests.bench.failover [MIRRORS...]

Real hosts, each with an SFTP account and a web server at an address of its own, and the daemon as a process. The zone
stands on a primary (Knot) that notifies nobody, and on two secondaries, Knot and BIND, that take our own NOTIFY. The
primary mirror dies just after it was looked at, which is when it takes longest to notice: killed (connections are
refused) or frozen (they are accepted and never answered). The bar is what being sure takes, `every` and then
`suspicious_every` for each further look, with `timeout` for a host that says nothing, and one second; then a tenth of
a second to the last authoritative server.
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dns.flags
import dns.message

from tests.bench.figures import BUSY, others_busy
from tests.bench.judging import SHARE, said
from tests.conftest import Lab
from tests.lab.bind import Bind
from tests.lab.ca import Authority
from tests.lab.nameserver import NameServer
from tests.lab.publisher import NAME, Publisher, publisher
from tests.lab.waiting import steadily, until

EVERY, HURRIED, TIMEOUT, FALL = 4.0, 2.0, 1.0, 3
RUNS = {2: 3, 50: 1}
"""Mirrors -> how many publishers of so many are tried; in each the primary dies in both ways."""
ALLOWED = 1.0
"""Seconds beside detection: the last fresh look, the update, its commit."""
FOLLOWED = 0.1
"""Seconds from there to the last authoritative server."""
ROUNDS = 5
"""Calm rounds over which the daemon's processor is measured."""


class Seen(threading.Thread):
    """Asks one name server again and again, and notes when it first gives a new answer."""

    def __init__(self, server: NameServer, address: str) -> None:
        super().__init__(daemon=True)
        question = dns.message.make_query(NAME, "A")
        question.flags &= ~dns.flags.RD
        self._question = question.to_wire()
        self._where = (server.address, server.port)
        self._wanted = socket.inet_aton(address)
        self.at: float | None = None

    def run(self) -> None:
        """Ask until the address is in the answer."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(0.5)
            asking.connect(self._where)
            while self.at is None:
                with contextlib.suppress(OSError):
                    asking.send(self._question)
                    if self._wanted in asking.recv(4096):
                        self.at = time.monotonic()
                time.sleep(0.003)


@dataclass
class Took:
    """How long one kind of death took, run by run, in seconds."""

    committed: list[float] = field(default_factory=list)
    """To the new answer where updates are committed."""
    followed: list[float] = field(default_factory=list)
    """From there to the last authoritative server."""


@contextlib.contextmanager
def watched(lab: Lab, mirrors: int) -> Iterator[tuple[Publisher, list[NameServer]]]:
    """Make a publisher of so many mirrors, watched by the daemon, and its name servers, the committing one first."""
    names = ["milan", "lyon", *(f"mirror-{number:02}" for number in range(2, mirrors))]
    rhythm: dict[str, Any] = {
        "probe_every": f"{EVERY}s",
        "suspicious_every": f"{HURRIED}s",
        "probe_timeout": f"{TIMEOUT}s",
    }
    with publisher(lab, names, fall=FALL, **rhythm) as site:
        third = lab.following(Bind, site.primary)
        third.start()
        site.primary.stop()
        site.primary.followers.clear()  # it tells nobody from now on
        site.primary.start()
        servers = [site.primary, site.secondary, third]
        site.configure(authoritative=[server.endpoint for server in servers])
        done = site.verb("sync")
        if done["exit"] != 0:
            raise AssertionError(f"publishing to {mirrors} mirrors: {done}")
        site.daemon.start()
        until(lambda: site.service()["protected"]["ok"], 90, "protection")
        yield site, servers


def die(site: Publisher, servers: list[NameServer], took: Took, *, frozen: bool) -> None:
    """Let the primary die, note how long it took until its readers were moved, and bring all back as it was."""
    milan, lyon = site.hosts["milan"], site.hosts["lyon"]
    seen = [Seen(server, lyon.address) for server in servers]
    _just_looked_at(site)
    began = time.monotonic()
    if frozen:
        milan.nginx.pause()
    else:
        milan.kill()
    for each in seen:
        each.start()
    until(lambda: all(each.at is not None for each in seen), 60, "readers to be moved")
    moments = [each.at or 0.0 for each in seen]
    took.committed.append(moments[0] - began)
    took.followed.append(max(moments) - moments[0])
    if frozen:
        milan.nginx.resume()
    else:
        milan.start()
    until(lambda: site.mirror("milan")["verdict"] == "up", 60, "milan to be well again")
    until(lambda: site.verb("switch", "web", "milan", "--yes")["exit"] == 0, 60, "the way back")
    until(lambda: site.service()["protected"]["ok"], 60, "protection")


def _just_looked_at(site: Publisher) -> None:
    """Wait until a look at the primary is over."""
    log = site.hosts["milan"].nginx.folder / "access.log"
    size = log.stat().st_size
    until(lambda: log.stat().st_size > size, 3 * EVERY, "a look at the primary")
    size = log.stat().st_size
    with contextlib.suppress(AssertionError):
        while True:
            steadily(lambda: log.stat().st_size == size, 0.15)
            return
    _just_looked_at(site)


def used(pid: int) -> float:
    """Return the seconds of processor that a process has used so far."""
    spent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(int(ticks) for ticks in spent) / os.sysconf("SC_CLK_TCK")


def calm(site: Publisher) -> float:
    """Return the seconds of processor that the whole daemon takes for a round, whatever it does beside looking."""
    before = used(site.daemon.pid)
    time.sleep(ROUNDS * EVERY)
    return (used(site.daemon.pid) - before) / ROUNDS


def measure(ca: Authority, mirrors: int) -> bool:
    """Measure with so many mirrors; return whether all bars are met."""
    took = {"killed": Took(), "frozen": Took()}
    rounds = []
    for _ in range(RUNS.get(mirrors, 1)):
        lab = Lab(ca)
        try:
            with watched(lab, mirrors) as (site, servers):
                rounds.append(calm(site))
                for how, runs in took.items():
                    die(site, servers, runs, frozen=how == "frozen")
        finally:
            lab.close()
    met = True
    for how, runs in took.items():
        detection = EVERY + (FALL - 1) * HURRIED + (TIMEOUT if how == "frozen" else 0.0)
        met &= _judge(f"{mirrors} mirrors, primary {how}: new answer after", runs.committed, detection + ALLOWED)
        met &= _judge("   the last authoritative server after that", runs.followed, FOLLOWED)
    # Two mirrors are looked at as often as fifty: what a round costs is held against one round in 30 s.
    share = statistics.median(rounds) / 30.0
    met &= said(
        f"   the daemon's processor, nothing happens, a round in {EVERY:.0f} s",
        f"{statistics.median(rounds):.3f} s a round, {share:.2%} of one core at a round in 30 s",
        f"{SHARE:.0%}",
        met=share <= SHARE,
    )
    return met


def _judge(what: str, runs: list[float], bar: float) -> bool:
    median = statistics.median(runs)
    figure = f"{median:.2f} s ({' '.join(f'{run:.2f}' for run in runs)})"
    return said(what, figure, f"{bar:.1f} s", met=median <= bar)


def failover(*mirrors: int) -> bool:
    """Measure with so many mirrors (default: 2, then 50); print the medians beside their bars."""
    idle = others_busy()
    print(f"\n== failover  (others keep {idle:.0%} of the cores busy)", flush=True)
    if idle > BUSY:
        print("   the machine is not idle: times are doubtful")
    with tempfile.TemporaryDirectory() as folder:
        ca = Authority(Path(folder))
        met = [measure(ca, number) for number in mirrors or RUNS]
    return all(met)


if __name__ == "__main__":
    sys.exit(not failover(*map(int, sys.argv[1:])))
