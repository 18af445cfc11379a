"""Measure what a large file that changed in four places costs on the line: all bytes, both directions, login and all.

A real OpenSSH account behind a proxy that counts. The bar is a share of the file. rsync, which has a program of its own
on the other side, stands beside it for comparison.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tests.bench.contenders import Line, Mirrord, Rsync, Server
from tests.lab.proxy import Proxy

SIZE = 20_000_000
BAR = 0.02
"""What share of the file's bytes may pass."""
PLACES = (0, 5_000_000, 12_345_678, SIZE - 8192)
CASES: dict[str, int] = {"four places of 100 bytes": 100, "four places of 8 kB": 8192}
ROUND_TRIP = 0.05


@dataclass(frozen=True, slots=True)
class Cost:
    """What one publish took: bytes up and down, and seconds from connecting to the answer."""

    up: int
    down: int
    seconds: float

    @property
    def share(self) -> float:
        """Of the file's size."""
        return (self.up + self.down) / SIZE

    def __str__(self) -> str:
        return f"{self.up:9,} up {self.down:9,} down  {self.share:7.2%}  {self.seconds:5.2f} s"


def measure(work: Path, changed: int) -> dict[str, Cost]:
    """Publish a file, change so many bytes in each place, publish it again; return the second's cost by contender."""
    source = work / "site"
    source.mkdir(parents=True)
    film = source / "film.mp4"
    film.write_bytes(random.Random(1).randbytes(SIZE))
    server = Server(work / "server")
    found: dict[str, Cost] = {}
    with server.start(), Proxy((server.host, server.port), round_trip=ROUND_TRIP) as line:
        way = cast("Line", _Way(server, line.port))
        us = Mirrord(way, source, work / "state")
        rsync = Rsync(way, source) if shutil.which("rsync") else None
        us.take()
        us.publish(0)
        if rsync is not None:
            rsync.publish(0)
        with film.open("r+b") as file:
            for place in PLACES:
                file.seek(place)
                file.write(os.urandom(changed))
        us.take()
        found["mirrord"] = _cost(line, lambda: us.publish(0))
        assert us.last is not None
        assert us.last.files_patched == 1, us.last
        served = server.root / "mirrord-0" / "current" / "film.mp4"
        assert served.read_bytes() == film.read_bytes()
        if rsync is not None:
            again = rsync
            found["rsync -a"] = _cost(line, lambda: again.publish(0))
    return found


@dataclass(frozen=True, slots=True)
class _Way:
    """As `Line`, over a proxy of this process, which counts."""

    server: Server
    port: int


def _cost(line: Proxy, publish: Callable[[], None]) -> Cost:
    up, down, began = line.passed("up"), line.passed("down"), time.monotonic()
    publish()
    return Cost(line.passed("up") - up, line.passed("down") - down, time.monotonic() - began)


def main() -> int:
    """Measure, print each cost against the bar, return 1 if it is missed."""
    met = True
    for name, changed in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            costs = measure(Path(folder), changed)
        good = costs["mirrord"].share <= BAR
        met = met and good
        print(f"20 MB file, {name}: bar {BAR:.0%} of its bytes: {'met' if good else 'MISSED'}")
        for who, cost in costs.items():
            print(f"    {who:10} {cost}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
