"""A publisher with a prefix of its own: a router, two mirrors, a reader behind the router, and the speaker's machine.

Five network namespaces. Mirrors, speaker and mirrord stand in one network with the router; the reader in another.
Addresses are those of docs/switching.md, from which the settings of router and speaker are taken.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.namespaces import Namespace
from tests.lab.processes import as_root

ROUTER, SPEAKER, READER = (
    ("198.51.100.1", "2001:db8:1::1"),
    ("198.51.100.5", "2001:db8:1::5"),
    ("192.0.2.2", "2001:db8:2::2"),
)
MIRRORS = {"milan": ("198.51.100.10", "2001:db8:1::10"), "lyon": ("198.51.100.20", "2001:db8:1::20")}
PREFIXES = ("203.0.113.0/24", "2001:db8:80::/48")
ADDRESSES = ("203.0.113.80", "2001:db8:80::80")
"""What readers use, in the prefixes."""

_numbers = itertools.count(1)


class Net:
    """The five machines and their wires; a context manager."""

    def __init__(self) -> None:
        stem = f"mirrord-{os.getpid()}-r{next(_numbers)}"
        self.router = Namespace(f"{stem}-router", *ROUTER)
        self.speaker = Namespace(f"{stem}-speaker", *SPEAKER)
        self.reader = Namespace(f"{stem}-reader", *READER)
        self.mirrors = {name: Namespace(f"{stem}-{name}", *addresses) for name, addresses in MIRRORS.items()}

    def start(self) -> Self:
        """Make them; the router has no route to the service's prefixes yet."""
        inside = {"speaker": self.speaker, **self.mirrors}
        for space in (self.router, self.reader, *inside.values()):
            as_root(["ip", "netns", "add", space.name])
            space.run(["ip", "link", "set", "lo", "up"])
        # A bridge that snoops, and does not know yet who listens, drops IPv6's questions for neighbours.
        self.router.run(["ip", "link", "add", "inside", "type", "bridge", "mcast_snooping", "0"])
        self.router.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
        for name, space in {"outside": self.reader, **inside}.items():
            ends = ["peer", "name", "wire", "netns", space.name]
            as_root(["ip", "link", "add", name, "netns", self.router.name, "type", "veth", *ends])
            if name != "outside":
                self.router.run(["ip", "link", "set", name, "master", "inside"])
            self.router.run(["ip", "link", "set", name, "up"])
            _address(space, "wire", space.address, space.address6)
        self.router.run(["ip", "link", "set", "inside", "up"])
        _address(self.router, "inside", *ROUTER)
        _address(self.router, "outside", "192.0.2.1", "2001:db8:2::1")
        for space in inside.values():
            _default(space, *ROUTER)
        _default(self.reader, "192.0.2.1", "2001:db8:2::1")
        for space in self.mirrors.values():
            for address in ADDRESSES:
                space.run(["ip", "addr", "add", address, "dev", "lo"])
        return self

    def stop(self) -> None:
        """Remove the namespaces; what still runs in them must be stopped by who started it."""
        for space in (self.router, self.speaker, self.reader, *self.mirrors.values()):
            if Path("/run/netns", space.name).exists():
                as_root(["ip", "netns", "del", space.name])

    def darken(self, mirror: str) -> None:
        """Have a mirror's place gone: nothing comes from there, nobody says goodbye."""
        self.router.run(["ip", "link", "set", mirror, "down"])

    def light(self, mirror: str) -> None:
        """Have it back as it was."""
        self.router.run(["ip", "link", "set", mirror, "up"])

    def routes(self) -> dict[str, str]:
        """Return where the router's kernel sends what goes to each prefix."""
        found = {}
        for prefix in PREFIXES:
            shown = self.router.run(["ip", "-6" if ":" in prefix else "-4", "route", "show", prefix]).split()
            if "via" in shown:
                found[prefix] = shown[shown.index("via") + 1]
        return found

    def leads_to(self, mirror: str) -> bool:
        """Return whether the router sends both families to a mirror."""
        return self.routes() == dict(zip(PREFIXES, MIRRORS[mirror], strict=True))

    def __enter__(self) -> Self:
        """Make them."""
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove them."""
        self.stop()


def _address(space: Namespace, device: str, v4: str, v6: str) -> None:
    space.run(["ip", "addr", "add", f"{v4}/24", "dev", device])
    space.run(["ip", "addr", "add", f"{v6}/64", "dev", device, "nodad"])
    space.run(["ip", "link", "set", device, "up"])


def _default(space: Namespace, v4: str, v6: str) -> None:
    space.run(["ip", "route", "add", "default", "via", v4])
    space.run(["ip", "-6", "route", "add", "default", "via", v6])


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of a reader: when it began (Unix seconds), how long it took, who answered; None: nobody.

    `cut`: its connection stood and was then reset, as by a mirror that never heard of it, so that it was asked again,
    at once and once, as a client may (RFC 9110, section 9.2.2). `why` says what went wrong last.
    """

    at: float
    seconds: float
    by: str | None
    cut: bool
    why: str


READING = """
import http.client, json, sys, threading, time
addresses, port, every, patience = sys.argv[1].split(","), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
lines, lock, end = [], threading.Lock(), threading.Event()
def ask(address):
    link = http.client.HTTPConnection(address, port, timeout=patience)
    try:
        link.request("GET", "/", headers={"Host": "www.example.org", "Connection": "close"})
        answer = link.getresponse()
        text = answer.read().decode()
        return (text.split()[-1], "") if answer.status == 200 else (None, str(answer.status))
    except (OSError, http.client.HTTPException) as e:
        return None, type(e).__name__ + ": " + str(e)
    finally:
        link.close()
def visit(address):
    at, cut = time.time(), False
    by, why = ask(address)
    # Who is refused a connection gets another error: a reset means that one stood, if only for an instant.
    if why.startswith(("ConnectionResetError", "BrokenPipeError")):
        cut = True
        by, again = ask(address)
        why = again or why
    with lock:
        lines.append([at, time.time() - at, by, cut, why])
threading.Thread(target=lambda: (sys.stdin.read(), end.set()), daemon=True).start()
visit(addresses[0])
print("ready", flush=True)
threads, number, due = [], 1, time.monotonic()
while not end.is_set():
    thread = threading.Thread(target=visit, args=(addresses[number % len(addresses)],))
    thread.start()
    threads.append(thread)
    number += 1
    due += every
    time.sleep(max(0, due - time.monotonic()))
for thread in threads:
    thread.join()
print(json.dumps(lines))
"""


class Reading:
    """A reader that asks for a page twenty times a second, over both families in turn, while the context lasts."""

    def __init__(self, net: Net, port: int, *, every: float = 0.05, patience: float = 0.9) -> None:
        """`patience`: a request is lost after so many seconds (a SYN that was lost is sent again after 1 s)."""
        command = [*net.reader.prefix, sys.executable, "-c", READING, ",".join(ADDRESSES), str(port), str(every)]
        self.every = every
        self.patience = patience
        self._process = subprocess.Popen(
            [*command, str(patience)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()
        self.visits: list[Visit] = []

    @staticmethod
    def now() -> float:
        """Return the time by the clock of the visits."""
        return time.time()

    def end(self) -> list[Visit]:
        """Stop asking; return all visits, oldest first."""
        if not self.visits:
            said, _ = self._process.communicate(timeout=20)
            self.visits = sorted((Visit(*line) for line in json.loads(said)), key=lambda visit: visit.at)
        return self.visits

    @property
    def lost(self) -> list[Visit]:
        """Return the visits that nobody answered."""
        return [visit for visit in self.end() if visit.by is None]

    @property
    def cut(self) -> list[Visit]:
        """Return the visits whose connection was reset, whoever answered the second time."""
        return [visit for visit in self.end() if visit.cut]

    @property
    def answered_by(self) -> list[str]:
        """Return who answered, in the order in which that changed."""
        return [by for by, _ in itertools.groupby(visit.by for visit in self.end() if visit.by is not None)]


@contextlib.contextmanager
def reading(net: Net, port: int) -> Iterator[Reading]:
    """Have a reader ask while the context lasts."""
    reader = Reading(net, port)
    try:
        yield reader
    finally:
        reader.end()
