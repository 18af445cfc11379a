"""A site of very many pages, published by a process of its own that tells what that took.

No page stands on a disk of ours: its bytes are made when they are asked for, so that what is measured is the publish.
"""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from mirrord.cli import collect_less_often
from mirrord.hosts.account import Account
from mirrord.hosts.opening import open_host
from mirrord.manifest import Entry, Manifest, Signed, Snapshot, snapshot_id
from mirrord.publish import publish
from mirrord.trust.snapshots import sign_snapshot
from tests.publishing import BEGAN, SITE, Publisher

IN_A_FOLDER = 100


@dataclass(frozen=True, slots=True)
class Took:
    """What a publish took of its process: seconds of processor, and the most bytes resident, before it and in all."""

    cpu: float
    idle: int
    resident: int


class Pages:
    """As `hosts.Content`: page n is its number."""

    def __init__(self, count: int) -> None:
        self.paths = [b"section-%d/page-%d/%d.html" % (n // 4000, n // IN_A_FOLDER, n) for n in range(count)]
        self._numbers: dict[bytes, int] = {}

    def manifest(self) -> Manifest:
        """Describe all of them."""
        entries = {}
        for number, path in enumerate(self.paths):
            data = self._page(number)
            digest = hashlib.sha256(data).digest()
            self._numbers[digest] = number
            entries[path] = Entry(digest, len(data), int(BEGAN.timestamp()) - number)
        return Manifest.of(entries)

    def open(self, digest: bytes) -> BinaryIO:
        """Make one."""
        return BytesIO(self._page(self._numbers[digest]))

    @staticmethod
    def _page(number: int) -> bytes:
        return b"<p>%d</p>\n" % number


def signed(publisher: Publisher, manifest: Manifest) -> Signed:
    """Sign a snapshot of these files."""
    card = Snapshot(
        site=SITE,
        serial=1,
        id=snapshot_id(BEGAN, manifest.sha256),
        created=BEGAN,
        next_expected=BEGAN.replace(year=BEGAN.year + 1),
        previous=None,
        manifest_sha256=manifest.sha256,
        files=len(manifest.entries),
        size=manifest.size,
    )
    return sign_snapshot(card, manifest, publisher.key, int(BEGAN.timestamp()))


def published_by_a_process(account: Account, count: int) -> Took:
    """Publish so many pages to an account."""
    told = {name: getattr(account, name) for name in ("mirror", "host", "port", "user", "host_key", "root")}
    order = json.dumps({"account": told, "key": account.key().decode(), "count": count})
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, input=order, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Took(**json.loads(done.stdout))


def most_resident() -> int:
    """Return the most bytes that this program had resident; getrusage tells those of whoever started it as well."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def main() -> None:
    """Do what standard input says, print what it took."""
    collect_less_often()
    order = json.loads(sys.stdin.read())
    account = Account(key=order["key"].encode, **order["account"])
    host = open_host(account)
    publisher = Publisher()
    idle = most_resident()
    pages = Pages(order["count"])
    snapshot = signed(publisher, pages.manifest())
    task = replace(publisher.task(snapshot), content=pages)
    before = resource.getrusage(resource.RUSAGE_SELF)
    publish(host, task)
    after = resource.getrusage(resource.RUSAGE_SELF)
    host.close()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"cpu": cpu, "idle": idle, "resident": most_resident()}))


if __name__ == "__main__":
    main()
