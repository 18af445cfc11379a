"""OpenSSH's server with accounts as hosters give them: SFTP only, login by key, no shell."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from pathlib import Path

from tests.lab.folders import ROOT_BASE, is_root
from tests.lab.ports import free_port
from tests.lab.processes import as_root, knock, program, root_prefix
from tests.lab.sftp import ACCOUNT, SftpServer, account_user, give_to_account, make_key, public_line

EXTENSIONS = (
    "posix-rename",
    "statvfs",
    "fstatvfs",
    "hardlink",
    "fsync",
    "lsetstat",
    "limits",
    "expand-path",
    "copy-data",
    "home-directory",
    "users-groups-by-id",
)
"""What OpenSSH 9.2 can do beyond version 3, by the names that `sftp-server -P` takes; denied, it announces none."""


class Sshd(SftpServer):
    """One `sshd` with one SFTP account.

    Chrooted, the login folder belongs to root and holds only `www`, which is the account's (`remote_root` is "www");
    otherwise the login folder is the account's own (`remote_root` is ".").
    """

    def __init__(
        self,
        folder: Path,
        *,
        address: str = "127.0.0.1",
        port: int | None = None,
        account: Path | None = None,
        chroot: bool = False,
        umask: str | None = None,
        denied: Sequence[str] = (),
        password_login: bool = False,
        max_sessions: int = 10,
        max_startups: str = "100",
        settings: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> None:
        """`denied` are SFTP requests refused, as in `sftp-server -P`; `settings` more lines for sshd_config."""
        super().__init__(f"sshd-{folder.name}", folder, [*(root_prefix() if chroot and not prefix else ()), *prefix])
        self.lives_in = tuple(prefix)
        self.host = address
        self.port = port or free_port()
        self.user = ACCOUNT if chroot else account_user()
        self.chroot = chroot
        self.login = account or (jail(folder) if chroot else folder / "account")
        self.root = self.login / "www" if chroot else self.login
        self.remote_root = "www" if chroot else "."
        self.umask = umask
        self.denied = tuple(denied)
        self.password_login = password_login
        self.max_sessions = max_sessions
        self.max_startups = max_startups
        self.settings = tuple(settings)
        self.client_key_path = make_key(folder / "client_key")
        self.host_key_line = public_line(make_key(folder / "host_key"))
        self._make_account()

    def command(self) -> list[str]:
        """Run in the foreground, say what happens on standard error."""
        return [program("sshd"), "-D", "-e", "-f", str(self.folder / "sshd_config")]

    def prepare(self) -> None:
        """Write its configuration, and make the folder that it locks its unprivileged half into."""
        if is_root():
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        elif self.chroot:
            as_root(["install", "-d", "-m", "0755", "/run/sshd"])
        (self.folder / "authorized_keys").write_text(public_line(self.client_key_path) + "\n")
        (self.folder / "sshd_config").write_text(self.configuration())

    def configuration(self) -> str:
        """Return its sshd_config."""
        sftp = "internal-sftp"
        sftp += f" -u {self.umask}" if self.umask else ""
        sftp += f" -P {','.join(self.denied)}" if self.denied else ""
        sftp += "" if self.chroot else f" -d {self.login}"
        lines = [
            f"ListenAddress [{self.host}]:{self.port}"
            if ":" in self.host
            else f"ListenAddress {self.host}:{self.port}",
            f"HostKey {self.folder / 'host_key'}",
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}",
            "PidFile none",
            "StrictModes no",
            "UsePAM no",
            "UseDNS no",
            "LogLevel VERBOSE",
            "PubkeyAuthentication yes",
            "KbdInteractiveAuthentication no",
            f"PasswordAuthentication {'yes' if self.password_login else 'no'}",
            f"AllowUsers {self.user}",
            "DisableForwarding yes",
            "PermitTTY no",
            "PrintMotd no",
            f"MaxSessions {self.max_sessions}",
            f"MaxStartups {self.max_startups}",
            "Subsystem sftp internal-sftp",
            f"ForceCommand {sftp}",
            *([f"ChrootDirectory {self.login}"] if self.chroot else []),
            *self.settings,
        ]
        return "\n".join(lines) + "\n"

    def ready(self) -> bool:
        """Return whether it greets."""
        return knock(self.host, self.port, self.lives_in, greeting=4) == b"SSH-"

    @property
    def sessions(self) -> int:
        """Return how many connections it serves just now."""
        return len({pid for pid in self._family()[1:] if _is_session(pid)})

    def _make_account(self) -> None:
        """Make the account's folders, with the owners that a hoster gives them."""
        if self.chroot:
            as_root(["install", "-d", "-m", "0755", "-o", "root", "-g", "root", str(self.login)])
            as_root(["install", "-d", "-m", "0755", "-o", self.user, str(self.root)])
            return
        give_to_account(self.root)


def jail(folder: Path) -> Path:
    """Return where to lock an account in: every parent must belong to root and be writable by nobody else."""
    if is_root():
        return folder / "account"
    place = ROOT_BASE / f"{os.getpid()}-{folder.name}"
    atexit.register(as_root, ["rm", "-rf", str(place)], check=False)
    return place


def _is_session(pid: int) -> bool:
    """Return whether the process is the privileged half of a connection."""
    try:
        return b"sshd: " in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
