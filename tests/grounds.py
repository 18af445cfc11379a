"""The grounds that releases stand on, each fresh for a test: memory, a folder of this machine, OpenSSH accounts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from mirrord.hosts.account import Account
from mirrord.hosts.directory import DirectoryFiles
from mirrord.hosts.files import Files
from mirrord.hosts.memory import Disk, MemoryFiles
from mirrord.hosts.sftp.session import SftpFiles
from tests.conftest import Lab
from tests.lab.sshd import Sshd

_numbers = count(1)


@dataclass
class Ground:
    """One account: `connect` opens it once more. `root` is its folder on this machine, None for memory."""

    name: str
    connect: Callable[[], Files]
    root: Path | None


def account_on(sshd: Sshd, root: str = "", *, port: int | None = None) -> Account:
    """Describe an account, with a folder of its own in it."""
    return Account(
        mirror="lyon",
        host=sshd.host,
        port=port or sshd.port,
        user=sshd.user,
        key=sshd.client_key_path.read_bytes,
        host_key=sshd.host_key_line,
        root=f"{sshd.remote_root}/{root}" if root else sshd.remote_root,
    )


def ground(kind: str, lab: Lab, servers: dict[str, Sshd], tmp_path: Path) -> Iterator[Ground]:
    """Make a ground of a kind in `KINDS`; `servers` keeps the sshd that one module's tests share."""
    if kind == "memory":
        disk = Disk()
        yield Ground(kind, lambda: MemoryFiles(disk, umask=0o077), None)
        return
    if kind == "directory":
        yield Ground(kind, lambda: DirectoryFiles(tmp_path / "not" / "yet"), tmp_path / "not" / "yet")
        return
    if kind not in servers:
        servers[kind] = lab.sshd(chroot="chrooted" in kind, umask="077")
    sshd = servers[kind]
    name = f"site-{next(_numbers)}/www"
    opened: list[SftpFiles] = []

    def connect() -> Files:
        opened.append(SftpFiles.open(account_on(sshd, name)))
        return opened[-1]

    yield Ground(kind, connect, sshd.root / name)
    for files in opened:
        files.close()


KINDS = ["memory", "directory", "sshd", "sshd chrooted"]
