"""Publishes in processes of their own, for tests that kill them.

`Victims` is what tests use; it runs this module as a script, which forks a process for each publish, so that Python
need not start anew for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mirrord.errors import MirrordError
from mirrord.hosts.account import Account
from mirrord.hosts.host import FilesHost
from mirrord.hosts.lock import this_process
from mirrord.hosts.sftp.session import SftpFiles
from mirrord.manifest import Signed
from mirrord.publish import Published, publish
from mirrord.trust.keys import load_signing_key
from tests.publishing import Clock, Publisher, Site

_PLAIN = ("mirror", "host", "port", "user", "host_key", "root")


class Victims:
    """A publisher whose publishes can be processes; a context manager.

    Here and in each process, it takes the same snapshots of the `sites`, of which it publishes one by its number.
    """

    def __init__(self, sites: Sequence[Site], layout: str = "auto", can: Mapping[str, Any] | None = None) -> None:
        """`can` is what the account was found to do: names of `Traits`."""
        self._key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        self._sites = sites
        self._how: dict[str, Any] = {"layout": layout, "can": dict(can or {})}
        self.publisher, self.taken = _taken(self._key, sites)
        self.watched = 0
        """Publishes from this process that had to watch a lock."""

    def begin(self, account: Account, number: int) -> int:
        """Publish in a process; return its number. There is one at a time: `ended` comes before the next."""
        order = {
            "signing": _text(self._key),
            "login": _text(account.key()),
            "account": {name: getattr(account, name) for name in _PLAIN},
            "how": self._how,
            "sites": [{_text(path): _text(data) for path, data in site.items()} for site in self._sites],
            "number": number,
        }
        print(json.dumps(order), file=self._orders, flush=True)
        return int(self._answers.readline())

    def ended(self) -> int:
        """Wait for its end; return its exit code, or minus the signal that killed it."""
        return int(self._answers.readline())

    def publish(self, account: Account, number: int) -> Published:
        """Publish from this process, as whoever finds what a killed one left: who lives is asked of the machine.

        Only a minute's watch over a lock that does not say whose it is passes at once.
        """
        clock = Clock()
        began = clock()
        published = _publish(account, self.publisher, self.taken[number], clock, **self._how)
        self.watched += clock() > began
        return published

    def __enter__(self) -> Self:
        """Start the script."""
        command = [sys.executable, "-m", __name__]
        pipe = subprocess.PIPE
        here = Path(__file__).parent.parent
        self._script = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=here)
        assert self._script.stdin is not None
        assert self._script.stdout is not None
        self._orders, self._answers = self._script.stdin, self._script.stdout
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._script.communicate(timeout=20)


def _taken(key: bytes, sites: Sequence[Site]) -> tuple[Publisher, list[Signed]]:
    publisher = Publisher(load_signing_key(key, "a key of the tests"))
    return publisher, [publisher.take(site) for site in sites]


def _publish(
    account: Account, publisher: Publisher, signed: Signed, clock: Clock, layout: str, can: Mapping[str, Any]
) -> Published:
    files = SftpFiles.open(account, channels=1)
    try:
        if can:
            files.believe(replace(files.traits, **can))
        task = replace(publisher.task(signed), me=this_process("home"))
        return publish(FilesHost(files, "lyon", layout=layout, clock=clock, wait=clock.wait), task)
    finally:
        files.close()


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def _run(order: dict[str, Any]) -> int:
    sites = [{b64decode(path): b64decode(data) for path, data in site.items()} for site in order["sites"]]
    publisher, taken = _taken(b64decode(order["signing"]), sites)
    login = b64decode(order["login"])
    account = Account(**order["account"], key=lambda: login)
    try:
        _publish(account, publisher, taken[order["number"]], Clock(), **order["how"])
    except MirrordError as e:
        print(e, file=sys.stderr)
        return 1
    return 0


def main() -> None:
    """Publish what comes in, each in a fork."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(_run(json.loads(line)))
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
