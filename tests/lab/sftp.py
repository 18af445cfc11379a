"""What every SFTP host of the lab is: an address, one account that logs in by key, and the account's folder."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from tests.lab.folders import is_root
from tests.lab.ports import free_port
from tests.lab.processes import Server, knock, program

# The account that every Debian has, without shell or home; we can only become another user as root.
ACCOUNT = "nobody"


class SftpServer(Server):
    """A server with one SFTP account.

    host, port, user, client_key_path: how to log in. `client_key_path` is an unencrypted OpenSSH private key.
    host_key_line: the pinned key, as in known_hosts, `ssh-ed25519 AAAA...`.
    root: the account's writable folder on this disk; remote_root: how the configuration names it.
    """

    host: str
    port: int
    user: str
    root: Path
    remote_root: str
    client_key_path: Path
    host_key_line: str

    def ready(self) -> bool:
        """Return whether it greets."""
        return knock(self.host, self.port, self.prefix, greeting=4) == b"SSH-"


class FolderServer(SftpServer):
    """A server whose account is one folder that it leads nobody out of: what is "/" to the client is `root`.

    It runs as whoever runs the tests, under a umask of its own.
    """

    def __init__(self, folder: Path, *, address: str = "127.0.0.1", umask: str = "077") -> None:
        super().__init__(f"{type(self).__name__.lower()}-{folder.name}", folder)
        self.host = address
        self.port = free_port()
        self.user = "mirror"
        self.umask = umask
        self.root = folder / "account"
        self.remote_root = "."
        self.client_key_path = make_key(folder / "client_key")
        self.host_key_line = public_line(make_key(folder / "host_key"))
        self.root.mkdir(mode=0o755)

    def prepare(self) -> None:
        """Say whose key opens the account."""
        (self.folder / "authorized_keys").write_text(public_line(self.client_key_path) + "\n")

    def command(self) -> list[str]:
        """Run what `serve` says, under the umask."""
        return ["/bin/sh", "-c", 'umask "$0" && exec "$@"', self.umask, *self.serve()]

    @abstractmethod
    def serve(self) -> Sequence[str]:
        """Return the program and its arguments."""


def account_user() -> str:
    """Return who an account's files belong to where a server may become another user: as root, nobody."""
    return ACCOUNT if is_root() else pwd.getpwuid(os.geteuid()).pw_name


def give_to_account(folder: Path) -> None:
    """Make a folder the account's own."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    if is_root():
        shutil.chown(folder, ACCOUNT)


def make_key(path: Path) -> Path:
    """Make an Ed25519 key without passphrase at `path`, its public half beside it; leave one that is there."""
    if not path.exists():
        command = [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def public_line(key: Path) -> str:
    """Return the public half as `ssh-ed25519 AAAA...`, without a comment."""
    return " ".join(key.with_name(key.name + ".pub").read_text().split()[:2])
