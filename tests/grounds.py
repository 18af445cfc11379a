"""The grounds that releases stand on, each fresh for a test: memory, a folder, accounts on SFTP servers.

What each kind of ground lacks is written down in `LACKS`. A test says what it `needs`, and is asked of the grounds
that have it; so is a layout.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mirrord.hosts.account import Account
from mirrord.hosts.directory import DirectoryFiles
from mirrord.hosts.files import Files, Kind, Walk
from mirrord.hosts.host import FilesHost
from mirrord.hosts.memory import Disk, MemoryFiles
from mirrord.hosts.remembered import TRAITS
from mirrord.hosts.sftp.session import SftpFiles
from mirrord.manifest import SnapshotId
from tests.conftest import Lab
from tests.lab.sftp import SftpServer
from tests.lab.sshd import EXTENSIONS
from tests.publishing import KEPT, host_on, served

_numbers = count(1)
_Test = TypeVar("_Test", bound=Callable[..., object])

SERVERS: Mapping[str, Callable[[Lab], SftpServer]] = {
    "sshd": lambda lab: lab.sshd(umask="077"),
    "sshd chrooted": lambda lab: lab.sshd(chroot=True, umask="077"),
    "sshd plain": lambda lab: lab.sshd(umask="077", denied=EXTENSIONS),
    "proftpd": lambda lab: lab.proftpd(),
    "rclone": lambda lab: lab.rclone(),
    "asyncssh": lambda lab: lab.asyncssh(),
    "asyncssh chrooted": lambda lab: lab.asyncssh(chroot=True),
    "paramiko": lambda lab: lab.paramiko(),
}
"""Accounts on real servers; umask 077 but for rclone, as the meanest hosters set it."""

KINDS = ("memory", "directory", *SERVERS)

LACKS: Mapping[str, frozenset[str]] = {
    "sshd plain": frozenset({"hard_link", "replace", "replace_link", "space", "copy_data"}),
    # Renaming a link renames what it leads to, and renaming onto a link replaces what that leads to.
    "proftpd": frozenset({"rename_link", "replace_link", "copy_data"}),
    # It says OK to a hard link, an exclusive OPEN, a MKDIR of what stands and a mode, and does nothing of it. Only the
    # rename of a folder fails where something stands.
    "rclone": frozenset(
        {"symlink", "rename_link", "replace_link", "hard_link", "exclusive", "modes", "rewrite", "space"}
        | {"refuse_files", "remove_kinds", "control_names", "copy_data"}
    ),
    # It makes links and follows them, and cannot say where they lead.
    "asyncssh chrooted": frozenset({"symlink", "replace_link"}),
    # Paths that are no UTF-8 fail. It does not announce that it replaces, and does.
    "paramiko": frozenset({"hard_link", "any_name", "space", "copy_data"}),
}
"""What an account on a kind of ground cannot do: names of `Traits`, and some that no layout asks for:

    rename_link    a plain rename of a link moves the link
    modes          modes that are set are kept
    rewrite        a file that is opened for writing keeps what is not written over, and must exist
    control_names  names keep their control characters
    refuse_files   a plain rename of a file fails where a file stands
    remove_kinds   REMOVE takes no folder, RMDIR no file
"""

LAYOUTS: Mapping[str, frozenset[str]] = {
    "releases": frozenset({"symlink", "replace_link", "rename_folder", "exclusive", "mtime"}),
    "rename": frozenset({"rename_folder", "mtime"}),
    "inplace": frozenset({"mtime"}),
}
"""What each layout asks of an account, the best first."""

LAYOUT_LACKS: Mapping[str, frozenset[str]] = {
    "rename": frozenset({"serves_link"}),
    "inplace": frozenset({"serves_link", "keeps_releases"}),
}
"""What no account can do by a layout: lead readers by a link, keep whole releases beside the served one."""

EVERY_LAYOUT = ("memory", "sshd", "proftpd")
"""Kinds of ground that are asked of all layouts which work there; the others of the best one."""


@dataclass
class Ground:
    """One account: `login` opens it once more. Its files are in `root` on this machine, or in memory on `disk`."""

    name: str
    login: Callable[[], Files]
    root: Path | None
    disk: Disk | None = None
    layout: str = "releases"

    def connect(self) -> Files:
        """Open the account, with what is known of it when it was tried."""
        files = self.login()
        if isinstance(files, SftpFiles) and self.name in SERVERS:
            found: dict[str, Any] = {name: name not in LACKS.get(self.name, ()) for name in TRAITS if name != "hashes"}
            files.believe(replace(files.traits, **found))
        return files

    def host(self, **how: Any) -> FilesHost:
        """Open it as a mirror; see `host_on`."""
        return host_on(self.connect(), layout=self.layout, **how)

    def served(self, serve: str = "current") -> dict[bytes, bytes]:
        """What a reader gets who resolves `serve` once: path -> bytes."""
        if self.disk is not None:
            return served(self.disk, serve.encode())
        assert self.root is not None
        top = (self.root / serve).resolve()
        return {os.fsencode(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}

    def place(self, release: SnapshotId, *, is_served: bool) -> str:
        """Tell where a release stands."""
        return "current" if is_served and self.layout != "releases" else f"releases/{release}"

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
            os.fsdecode(path) for path in inside if not path.removeprefix(b".mirrord/").startswith((*KEPT, b"trash"))
        )


def needs(*abilities: str) -> Callable[[_Test], _Test]:
    """Mark a test that is asked only of grounds with all of these abilities (see `LACKS`)."""

    def mark(test: _Test) -> _Test:
        vars(test)["needs"] = frozenset(abilities)
        return test

    return mark


def kinds(needed: frozenset[str] = frozenset()) -> list[str]:
    """Return the kinds of ground that have all of these abilities."""
    return [kind for kind in KINDS if not LACKS.get(kind, frozenset()) & needed]


def layouts(kind: str) -> list[str]:
    """Return the layouts that are asked of a kind of ground."""
    able = [layout for layout, asks in LAYOUTS.items() if not LACKS.get(kind, frozenset()) & asks]
    return able if kind in EVERY_LAYOUT else able[:1]


def ask_able_grounds(metafunc: pytest.Metafunc) -> None:
    """Parametrize `here` with the grounds that a test may be asked of."""
    if "here" in metafunc.fixturenames:
        metafunc.parametrize("here", kinds(getattr(metafunc.function, "needs", frozenset())), indirect=True)


def ask_able_layouts(metafunc: pytest.Metafunc) -> None:
    """Parametrize `here` with pairs of a ground and a layout that works there."""
    if "here" in metafunc.fixturenames:
        needed: frozenset[str] = getattr(metafunc.function, "needs", frozenset())
        pairs = [
            pytest.param((kind, layout), id=f"{kind}-{layout}")
            for kind in kinds(needed - {"serves_link", "keeps_releases"})
            for layout in layouts(kind)
            if not LAYOUT_LACKS.get(layout, frozenset()) & needed
        ]
        metafunc.parametrize("here", pairs, indirect=True)


def account_on(sshd: SftpServer, root: str = "", *, port: int | None = None) -> Account:
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


def ground(
    kind: str, lab: Lab, servers: dict[str, SftpServer], tmp_path: Path, layout: str = "releases"
) -> Iterator[Ground]:
    """Make a ground of a kind in `KINDS`; `servers` keeps those that one module's tests share."""
    if kind == "memory":
        disk = Disk()
        yield Ground(kind, lambda: MemoryFiles(disk, umask=0o077), None, disk, layout)
        return
    if kind == "directory":
        folder = tmp_path / "not" / "yet"
        yield Ground(kind, lambda: DirectoryFiles(folder), folder, layout=layout)
        return
    if kind not in servers:
        servers[kind] = SERVERS[kind](lab)
    server = servers[kind]
    name = f"site-{next(_numbers)}/www"
    opened: list[SftpFiles] = []

    def connect() -> Files:
        opened.append(SftpFiles.open(account_on(server, name)))
        return opened[-1]

    yield Ground(kind, connect, server.root / name, layout=layout)
    for files in opened:
        files.close()
