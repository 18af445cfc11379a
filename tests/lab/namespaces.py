"""Two machines with a wire between them, as network namespaces: for tests that lose a network.

Nothing outside them is touched: the test's own processes stay where they are, and only what is started with a
namespace's `prefix` lives in it. Servers of the lab take that prefix, and are asked from there. Needs root, directly
or through `sudo -n`.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.lab.folders import is_root
from tests.lab.processes import as_root, root_prefix
from tests.lab.waiting import until

Family = Literal[4, 6]

# Addresses that are for documentation and go nowhere: they exist only in the namespaces.
HERE = {4: "192.0.2.1", 6: "2001:db8::1"}
THERE = {4: "192.0.2.2", 6: "2001:db8::2"}
LENGTH = {4: 24, 6: 64}

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Namespace:
    """One machine. `prefix` before a command runs it there."""

    name: str
    address: str
    address6: str

    @property
    def prefix(self) -> list[str]:
        """Return what must stand before a command to run it in the namespace, as the user that we are."""
        enter = [*root_prefix(), "ip", "netns", "exec", self.name]
        if is_root():
            return enter
        return [*enter, "setpriv", f"--reuid={os.geteuid()}", f"--regid={os.getegid()}", "--init-groups"]

    def run(self, command: Sequence[str], *, check: bool = True) -> str:
        """Run a short command there and return what it prints."""
        return as_root(["ip", "netns", "exec", self.name, *command], check=check)


class Wire:
    """Two namespaces, `here` and `there`, each with an IPv4 and an IPv6 address, and a wire between; a context manager.

    `here` is usually the controller's, `there` everyone else's. More addresses of `there` (one for each mirror, say)
    are given in `also_there`.
    """

    def __init__(self, *, also_there: Sequence[str] = ()) -> None:
        stem = f"mirrord-{os.getpid()}-{next(_numbers)}"
        self.here = Namespace(f"{stem}-a", HERE[4], HERE[6])
        self.there = Namespace(f"{stem}-b", THERE[4], THERE[6])
        self.also_there = tuple(also_there)

    def start(self) -> Self:
        """Make the namespaces and the wire; return when their IPv6 addresses are usable."""
        try:
            for space in (self.here, self.there):
                as_root(["ip", "netns", "add", space.name])
                space.run(["ip", "link", "set", "lo", "up"])
            ends = ["peer", "name", "wire", "netns", self.there.name]
            as_root(["ip", "link", "add", "wire", "netns", self.here.name, "type", "veth", *ends])
            for space in (self.here, self.there):
                space.run(["sysctl", "-qw", "net.ipv6.conf.wire.keep_addr_on_down=1"])
                space.run(["ip", "link", "set", "wire", "up"])
            self._address(self.here, [HERE[4], HERE[6]])
            self._address(self.there, [THERE[4], THERE[6], *self.also_there])
            until(lambda: "tentative" not in self.there.run(["ip", "-6", "addr", "show", "dev", "wire"]))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Remove the namespaces; what still runs in them must be stopped by who started it."""
        for space in (self.here, self.there):
            if Path("/run/netns", space.name).exists():
                as_root(["ip", "netns", "del", space.name])

    def unplug(self) -> None:
        """Take the wire out: at `here` the network is gone, and known to be gone."""
        self.here.run(["ip", "link", "set", "wire", "down"])

    def plug(self) -> None:
        """Put the wire back; return when packets pass again."""
        self.here.run(["ip", "link", "set", "wire", "up"])
        until(lambda: "state UP" in self.here.run(["ip", "link", "show", "dev", "wire"]), what="the wire to be up")
        until(lambda: self._reaches(4) and self._reaches(6), what="packets to pass")

    def silence(self, family: Family) -> None:
        """Lose one address family: what `here` sends arrives, and no answer comes back."""
        self.there.run(["ip", f"-{family}", "route", "replace", "blackhole", f"{HERE[family]}/{_host(family)}"])
        with contextlib.suppress(AssertionError):
            self.there.run(["ip", f"-{family}", "route", "flush", "cache"])

    def heal(self, family: Family) -> None:
        """End `silence`."""
        self.there.run(["ip", f"-{family}", "route", "del", "blackhole", f"{HERE[family]}/{_host(family)}"])
        until(lambda: self._reaches(family), what=f"IPv{family} to pass")

    def cut(self, *addresses: str) -> None:
        """Lose only what these addresses of `there` send to `here`: everybody else reaches them as before."""
        for address in addresses:
            self._rule("add", address)

    def mend(self, *addresses: str) -> None:
        """End `cut`."""
        for address in addresses:
            self._rule("del", address)

    def _rule(self, verb: str, address: str) -> None:
        family: Family = 6 if ":" in address else 4
        self.there.run(["ip", f"-{family}", "rule", verb, "from", address, "to", HERE[family], "blackhole"])

    def __enter__(self) -> Self:
        """Make them."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove them."""
        self.stop()

    def _address(self, space: Namespace, addresses: Sequence[str]) -> None:
        for address in addresses:
            family: Family = 6 if ":" in address else 4
            known = ["nodad"] if family == 6 else []  # no waiting for duplicates on a wire of two
            space.run(["ip", "addr", "add", f"{address}/{LENGTH[family]}", "dev", "wire", *known])

    def _reaches(self, family: Family) -> bool:
        """Return whether a packet gets there and one comes back: nobody listens at the port, so we are refused."""
        script = (
            "import socket\n"
            f"s = socket.socket(socket.AF_INET{'6' if family == 6 else ''})\n"
            "s.settimeout(0.5)\n"
            f"print(s.connect_ex(({THERE[family]!r}, 9)))\n"
        )
        return self.here.run(["/usr/bin/python3", "-c", script]).strip() == str(errno.ECONNREFUSED)


def _host(family: Family) -> int:
    return 128 if family == 6 else 32
