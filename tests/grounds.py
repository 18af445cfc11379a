"""The grounds that releases stand on, each fresh for a test: memory, a folder of this machine, OpenSSH accounts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from mirrord.hosts.account import Account
from mirrord.hosts.directory import DirectoryFiles
from mirrord.hosts.files import Files, Kind, Walk
from mirrord.hosts.memory import Disk, MemoryFiles
from mirrord.hosts.sftp.session import SftpFiles
from tests.conftest import Lab
from tests.lab.sshd import Sshd
from tests.publishing import served

_numbers = count(1)


@dataclass
class Ground:
    """One account: `connect` opens it once more. Its files are in `root` on this machine, or in memory on `disk`."""

    name: str
    connect: Callable[[], Files]
    root: Path | None
    disk: Disk | None = None

    def served(self, serve: str = "current") -> dict[bytes, bytes]:
        """What a reader gets who resolves `serve` once: path -> bytes."""
        if self.disk is not None:
            return served(self.disk, serve.encode())
        assert self.root is not None
        top = (self.root / serve).resolve()
        return {os.fsencode(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}

    def modes(self, path: str = "") -> dict[bytes, tuple[Kind, int]]:
        """Kind and permission bits of everything below a folder, links not followed."""
        (outcome,) = self.connect().carry_out([Walk(path.encode())])
        return {name: (a.kind, a.mode & 0o777) for name, a in outcome.value.items()}

    def an_hour_passes(self) -> None:
        """Make every note of when a release was served two hours older."""
        if self.disk is not None:
            for node in self.disk.tree(b".mirrord").values():
                node.mtime -= 7200
            return
        assert self.root is not None
        for note in (self.root / ".mirrord").glob("left.*"):
            past = note.lstat().st_mtime - 7200
            os.utime(note, (past, past), follow_symlinks=False)

    def litter(self) -> list[str]:
        """What a publish should not leave behind."""
        (outcome,) = self.connect().carry_out([Walk(b"")])
        inside = [path for path in outcome.value if path.startswith((b"staging/", b".mirrord/"))]
        return sorted(
            os.fsdecode(path) for path in inside if not path.startswith((b".mirrord/left.", b".mirrord/trash"))
        )


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
        yield Ground(kind, lambda: MemoryFiles(disk, umask=0o077), None, disk)
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
