"""What the tests of the demo's SFTP host share: a host's account, and the grounds for contract suites."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from mirrord.demo.sftpd import SftpHost, new_key
from mirrord.hosts.account import Account
from mirrord.hosts.files import Files
from mirrord.hosts.sftp.session import SftpFiles
from tests.grounds import Ground

PRIVATE, PUBLIC = new_key()
_numbers = count(1)


def host_of(folder: Path, **how: Any) -> SftpHost:
    """Make a host whose account is this folder."""
    folder.mkdir(exist_ok=True)
    return SftpHost(folder, public_key=PUBLIC, **how)


def account_of(host: SftpHost, root: str = ".") -> Account:
    """Describe the account as the configuration does."""
    return Account(
        mirror="lyon",
        host=host.address,
        port=host.port,
        user=host.user,
        key=lambda: PRIVATE,
        host_key=host.host_key,
        root=root,
    )


def demo_ground(host: SftpHost) -> Iterator[Ground]:
    """Make a ground in a new folder of a host's account."""
    name = f"site-{next(_numbers)}/www"
    opened: list[SftpFiles] = []

    def connect() -> Files:
        opened.append(SftpFiles.open(account_of(host, name)))
        return opened[-1]

    yield Ground("demo", connect, host.folder / name)
    for files in opened:
        files.close()
