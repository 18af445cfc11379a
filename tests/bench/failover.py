"""Measure how long readers are sent to a dead primary: from its death to the new answer where updates are committed.

Real hosts, Knot, and the daemon as a process. The primary dies in two ways: killed (connections are refused) and frozen
(they are accepted and never answered). The bar is what being sure takes, `fall x every`, with `timeout` for a host that
says nothing, and one second.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.conftest import Lab
from tests.lab.ca import Authority
from tests.lab.publisher import Publisher, publisher
from tests.lab.waiting import until

EVERY, TIMEOUT, FALL = 2.0, 1.0, 3
RUNS = 3
ALLOWED = 1.0
"""Seconds beside detection: the last fresh look, the update, its commit."""


def measure(lab: Lab, *, frozen: bool) -> float:
    """Return the seconds from the primary's death to the new answer."""
    how: dict[str, Any] = {"probe_every": f"{EVERY}s", "probe_timeout": f"{TIMEOUT}s", "fall": FALL}
    with publisher(lab, ("milan", "lyon"), **how) as site:
        site.verb("sync")
        site.daemon.start()
        until(lambda: site.service()["protected"]["ok"], 30, "protection")
        return _die(site, frozen=frozen)


def _die(site: Publisher, *, frozen: bool) -> float:
    milan = site.hosts["milan"]
    began = time.monotonic()
    if frozen:
        milan.nginx.pause()
    else:
        milan.kill()
    until(lambda: site.served_at("lyon"), 60, "readers to be moved")
    took = time.monotonic() - began
    if frozen:
        milan.nginx.resume()
    return took


def main() -> int:
    """Measure, print the medians against their bars, return 1 if one is missed."""
    met = True
    with tempfile.TemporaryDirectory() as folder:
        ca = Authority(Path(folder))
        for name, frozen in (("killed", False), ("frozen", True)):
            runs = []
            for _ in range(RUNS):
                lab = Lab(ca)
                try:
                    runs.append(measure(lab, frozen=frozen))
                finally:
                    lab.close()
            detection = FALL * EVERY + (TIMEOUT if frozen else 0.0)
            median = statistics.median(runs)
            good = median <= detection + ALLOWED
            met = met and good
            print(
                f"primary {name}: new answer after {median:.2f} s ({' '.join(f'{run:.2f}' for run in runs)});"
                f" detection takes {detection:.0f} s, bar {detection + ALLOWED:.0f} s: {'met' if good else 'MISSED'}"
            )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
