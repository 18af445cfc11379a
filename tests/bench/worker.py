"""mirrord in a process of its own, as the daemon is one: told what to do line by line, it says what that took.

Each line on its input is a JSON object: `do` is `take`, `publish` (to one account or to several at once) or `stop`.
Each line of its output is one too: `seconds`, the processor's `user` and `system` seconds, and `resident`, the most
bytes of memory that it had so far. With `profile` it tells in `slow` which functions took longest.
"""

from __future__ import annotations

import cProfile
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import mirrord.hosts.sftp.session  # noqa: F401 - a daemon has it loaded already
from mirrord.cli import collect_less_often
from mirrord.hosts import Holder
from mirrord.hosts.account import Account
from mirrord.hosts.opening import open_host
from mirrord.manifest import Signed
from mirrord.plan import Guard
from mirrord.publish import Published, publish_with_retries
from mirrord.snapshot.source import Source
from mirrord.snapshot.store import Store
from mirrord.trust.keys import Signers, new_signing_key
from tests.large_site import most_resident

MOST_SHOWN = 8
"""Functions of a profile that are told."""

_ANYTHING = Guard(removed_percent=100.0, removed_files=10**9)


class Publisher:
    """One controller with its store and key."""

    def __init__(self, source: Path, state: Path) -> None:
        self._source = Source(source)
        self._key = new_signing_key()
        self._store = Store(state, "bench")

    def take(self) -> dict[str, Any]:
        """Take a snapshot."""
        self._store.take(self._source, self._key, _ANYTHING, now_wall=time.time(), next_expected_in=86400.0)
        return {}

    def publish(self, accounts: Sequence[Mapping[str, Any]], *, profile: bool = False) -> dict[str, Any]:
        """Publish the newest snapshot to all of them at once, each by a thread of its own as in the daemon."""
        profiler = cProfile.Profile() if profile else None
        newest = self._store.newest()
        assert newest is not None
        signed = self._store.load(newest)
        if profiler is not None:
            results = [profiler.runcall(self._publish_to, signed, accounts[0])]
        else:
            with ThreadPoolExecutor(len(accounts)) as crew:
                results = list(crew.map(partial(self._publish_to, signed), accounts))
        wrong = [result.error for result in results if result.error is not None]
        assert not wrong, wrong
        return {
            "bytes_sent": sum(result.bytes_sent for result in results),
            "result": results[0].result,
            "slow": slowest(profiler) if profiler is not None else [],
        }

    def _publish_to(self, signed: Signed, said: Mapping[str, Any]) -> Published:
        account = Account(
            said["mirror"],
            "127.0.0.1",
            said["port"],
            said["user"],
            Path(said["key"]).read_bytes,
            said["host_key"],
            root=said["root"],
        )
        return publish_with_retries(
            lambda: open_host(account),
            Holder("bench", "here", "boot", os.getpid(), "0", time.time()),
            account.mirror,
            signed,
            self._store.content(),
            self._store.manifest,
            signers=Signers.of([self._key.public]),
            identity=None,
            keep=5,
            guard=_ANYTHING,
        )


def slowest(profiler: cProfile.Profile) -> list[tuple[str, float]]:
    """Return the functions that took longest by themselves, waiting and all, with their seconds."""
    found = sorted(profiler.getstats(), key=lambda entry: -entry.inlinetime)[:MOST_SHOWN]
    return [(_name(entry.code), entry.inlinetime) for entry in found]


def _name(code: Any) -> str:
    if isinstance(code, str):
        return code
    return f"{Path(code.co_filename).parent.name}/{Path(code.co_filename).name}:{code.co_name}"


def measured(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do it, and tell what it took."""
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    said = work()
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
    return {
        **said,
        "seconds": seconds,
        "user": after.ru_utime - before.ru_utime,
        "system": after.ru_stime - before.ru_stime,
        "resident": most_resident(),
    }


def main() -> None:
    """Work until told to stop; the arguments are the folder of the site, and that of the state."""
    collect_less_often()
    publisher = Publisher(Path(sys.argv[1]), Path(sys.argv[2]))
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "stop":
            return
        work = (
            publisher.take
            if order["do"] == "take"
            else partial(publisher.publish, order["accounts"], profile=order.get("profile", False))
        )
        print(json.dumps(measured(work)), flush=True)


if __name__ == "__main__":
    main()
