"""Measure mirrord beside the other tools, in one run on this machine, and judge every figure by its bar.

    python -m tests.bench                  everything
    python -m tests.bench PART...          some of it
    python -m tests.bench --million many   a million files, which takes half an hour

Exit code 1: a bar is missed; what limits it is printed beside it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.bench import delta, failover, judging, large, publishing, snapshot, starting
from tests.lab import handbook


def parts(options: argparse.Namespace) -> dict[str, Callable[[], bool]]:
    """Return what can be measured, by name, in the order in which it is done."""
    site: Path = options.site or handbook.package_root()
    runs: int = options.runs
    many = partial(large.large, 1, large.MILLION) if options.million else partial(large.large, runs)
    return {
        "start": starting.starting,
        "publish-0": partial(publishing.publishing, site, 0, runs),
        "publish-50": partial(publishing.publishing, site, 50, runs),
        "publish-150": partial(publishing.publishing, site, 150, runs),
        "fleet": partial(publishing.fleet, site, 50, runs),
        "delta": lambda: delta.main() == 0,
        "many": many,
        "big": large.big,
        "snapshot": lambda: snapshot.main(["--million"] if options.million else []) == 0,
        "rclone": partial(publishing.against_rclone, site, 50, runs),
        "judging": judging.judging,
        "failover": failover.failover,
    }


def main() -> int:
    """Run what was asked for; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="*", help="see the list that an unknown name brings")
    parser.add_argument("--runs", type=int, default=3, help="alternating runs of the contenders")
    parser.add_argument("--site", type=Path, help="another folder than debian-handbook")
    parser.add_argument("--million", action="store_true", help="a million files where there are 100,000")
    options = parser.parse_args()
    known = parts(options)
    strange = [name for name in options.part if name not in known]
    if strange:
        parser.error(f"there is no part {strange[0]!r}; there are {', '.join(known)}")
    print(publishing.describe(options.site or handbook.package_root()))
    missed = [name for name in options.part or known if not known[name]()]
    print(f"\nmissed: {', '.join(missed)}" if missed else "\nall bars are met")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
