"""Measure what judging costs: a round of 50 mirrors of which 20 are dead, the decision, thirty simulated days.

    python -m tests.bench.judging

Every mirror is really looked at, by TLS, at an address of its own: one nginx serves a signed site at thirty of them. Of
the dead, ten refuse, five take connections and never say anything, five swallow whatever comes. A round is judged and
decided on as the daemon does it, and what is counted is all that our process did meanwhile, in every thread.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirrord.control.crew import make_crew
from mirrord.decide import Move, Policy, View, decide
from mirrord.health import Round, Standing, Target, Thresholds, Verdict
from mirrord.probe import Listings, Look, look_around
from tests.bench.figures import BUSY, others_busy
from tests.conftest import Lab
from tests.lab.ca import Authority
from tests.lab.ports import free_port
from tests.probing import NAME, Account
from tests.world import World

MIRRORS, DEAD = 50, 20
EVERY, TIMEOUT = 30.0, 10.0
ROUNDS = 6
ALLOWED = 1.0
"""Seconds beside the timeout of one look."""
SHARE = 0.03
"""Of one core, at a round every 30 s."""
DECISION = 0.005
DAYS, SIMULATED = 30, 10.0
PAGES, PAGE = 400, 20_000
SERVICE = "web"


@dataclass(frozen=True)
class Place:
    """A reference to connect to."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass
class Fleet:
    """Fifty mirrors, thirty alive, and what stands beside them."""

    looks: list[Look]
    reference: Place
    crew: Executor
    standing: Standing = field(default_factory=Standing)
    rules: Thresholds = field(default_factory=lambda: Thresholds(every=EVERY, timeout=TIMEOUT))

    @property
    def policy(self) -> Policy:
        """One service on all of them, each in a place of its own."""
        names = tuple(look.target.mirror for look in self.looks)
        return Policy(
            service=SERVICE,
            order=names,
            places={name: f"dc-{name}" for name in names},
            addresses={look.target.mirror: (look.target.address,) for look in self.looks},
        )

    def view(self, serving: str) -> View:
        """What a decision rests on now."""
        now = self.standing.latest or 0.0
        return View(now=now, standing=self.standing, serving=serving, meant=serving)

    def round(self) -> Round:
        """Look at all of them once, judge what was seen, and decide."""
        seen = look_around(
            [replace(look, suspects=self.standing.suspects(look.target.mirror, SERVICE)) for look in self.looks],
            [self.reference],
            self.crew,
            timeout=TIMEOUT,
            dice=random.Random(1),
        )
        self.standing = self.standing.after(seen, self.rules)
        decide(self.view(self.looks[0].target.mirror), self.policy)
        return seen


def address(number: int) -> str:
    """Return the address of a mirror, one for each and for each process that measures."""
    return f"127.0.{100 + os.getpid() % 100}.{11 + number}"


def silent(where: str, port: int) -> list[socket.socket]:
    """Take connections there, and never say anything."""
    listening = socket.create_server((where, port), backlog=128)
    return [listening]


def swallowing(where: str, port: int) -> list[socket.socket]:
    """Swallow all that comes: a server whose queue is full drops what asks to be connected."""
    held = [socket.create_server((where, port), backlog=0)]
    for _ in range(3):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex((where, port))
        held.append(filler)
    return held


@contextlib.contextmanager
def fleet(lab: Lab) -> Iterator[Fleet]:
    """Start fifty mirrors; two of five are dead, in each of three ways."""
    account = Account(lab.folder("site"))
    dice = random.Random(50)
    pages = {f"page-{number:03}.html".encode(): dice.randbytes(PAGE) for number in range(PAGES)}
    account.publish({b"index.html": b"<h1>Home</h1>\n", **pages})
    port = free_port()
    dead = [number for number in range(MIRRORS) if number % 5 in (2, 4)]
    alive = [address(number) for number in range(MIRRORS) if number not in dead]
    assert len(dead) == DEAD
    nginx = lab.nginx(account.current, certificate=lab.ca.issue([NAME]), addresses=alive, port=port)
    listings = Listings()
    with contextlib.ExitStack() as stack:
        for number in dead[1::4]:
            for held in silent(address(number), port):
                stack.enter_context(held)
        for number in dead[3::4]:
            for held in swallowing(address(number), port):
                stack.enter_context(held)
        looks = [
            replace(
                account.look(port, ca_file=str(lab.ca.file), timeout=TIMEOUT, sample=4, listings=listings),
                target=Target(f"mirror-{number:02}", SERVICE, NAME, address(number), port, https=True),
            )
            for number in range(MIRRORS)
        ]
        with make_crew("probe", 3 * (len(looks) + 1)) as crew:
            yield Fleet(looks, Place(nginx.address, port), crew)


def used() -> float:
    """Return the seconds of processor that this process has used so far."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


def said(what: str, value: str, bar: str, *, met: bool) -> bool:
    """Print a figure beside its bar."""
    print(f"{what}: {value}, bar {bar}: {'met' if met else 'MISSED'}", flush=True)
    return met


def rounds(mirrors: Fleet) -> bool:
    """Judge some rounds; the first of them warms up."""
    mirrors.round()
    took, cost = [], []
    for _ in range(ROUNDS):
        began, before = time.monotonic(), used()
        mirrors.round()
        took.append(time.monotonic() - began)
        cost.append(used() - before)
    verdicts = [mirrors.standing.health(look.target.mirror, SERVICE).verdict for look in mirrors.looks]
    judged = (verdicts.count(Verdict.UP), verdicts.count(Verdict.DOWN))
    if judged != (MIRRORS - DEAD, DEAD):
        raise AssertionError(f"{judged} of {MIRRORS} mirrors were judged up and down")
    longest, share = max(took), statistics.median(cost) / EVERY
    limit = TIMEOUT + ALLOWED
    in_time = said(
        f"a round of {MIRRORS} mirrors, {DEAD} of them dead, timeout {TIMEOUT:.0f} s",
        f"{statistics.median(took):.2f} s, the longest {longest:.2f} s",
        f"{limit:.0f} s",
        met=longest <= limit,
    )
    cheap = said(
        f"its processor, at a round every {EVERY:.0f} s",
        f"{share:.2%} of one core ({statistics.median(cost):.3f} s a round)",
        f"{SHARE:.0%}",
        met=share <= SHARE,
    )
    return in_time and cheap


def decisions(mirrors: Fleet) -> bool:
    """Decide over what was judged, where the serving mirror is well (the least preferred) and where it is dead."""
    met = True
    for serve in ("first", "all"):
        policy = replace(mirrors.policy, serve=serve, failback="auto", settle=0.0)
        for what, serving in (("well", "mirror-48"), ("dead", "mirror-02")):
            view = mirrors.view(serving)
            took = []
            decision = decide(view, policy)
            for _ in range(200):
                began = time.perf_counter()
                decision = decide(view, policy)
                took.append(time.perf_counter() - began)
            if what == "dead" and not (isinstance(decision, Move) and decision.source == serving):
                raise AssertionError(f"{serving} is dead and serves, and it is decided: {decision}")
            median = statistics.median(took)
            met &= said(
                f"the decision, {MIRRORS} mirrors, serve = {serve}, who serves is {what}",
                f"{median * 1000:.2f} ms",
                f"{DECISION * 1000:.0f} ms",
                met=median <= DECISION,
            )
    return met


def simulated() -> bool:
    """Let thirty days pass for three mirrors looked at every 30 s, a promise to readers checked at each round."""
    world = World()
    began, before = time.monotonic(), used()
    for day in range(DAYS):
        world.run(hours=24)
        if day % 10 == 3:
            world.lose("lyon")
        if day % 10 == 4:
            world.heal("lyon")
        world.publish()
    took = time.monotonic() - began
    figure = f"{took:.2f} s ({used() - before:.2f} s of processor)"
    return said(f"{DAYS} simulated days", figure, f"{SIMULATED:.0f} s", met=took <= SIMULATED)


def judging() -> bool:
    """Measure; print every figure beside its bar."""
    idle = others_busy()
    print(f"\n== judging  (others keep {idle:.0%} of the cores busy)")
    if idle > BUSY:
        print("   the machine is not idle: times are doubtful")
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Authority(Path(folder)))
        try:
            with fleet(lab) as mirrors:
                met = [rounds(mirrors), decisions(mirrors)]
        finally:
            lab.close()
    met.append(simulated())
    return all(met)


if __name__ == "__main__":
    sys.exit(not judging())
