"""ProFTPD's SFTP, as many shared hosters run it: a virtual user, locked into a folder, login by key only."""

from __future__ import annotations

import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.lab.folders import is_root
from tests.lab.ports import free_port
from tests.lab.processes import program
from tests.lab.sftp import SftpServer, account_user, give_to_account, make_key, public_line


class ProFtpd(SftpServer):
    """One `proftpd` with mod_sftp. Locked in where we are root: only root may."""

    def __init__(
        self,
        folder: Path,
        *,
        address: str = "127.0.0.1",
        umask: str = "077",
        settings: Sequence[str] = (),
    ) -> None:
        """`settings` are more lines for proftpd.conf."""
        super().__init__(f"proftpd-{folder.name}", folder)
        self.host = address
        self.port = free_port()
        self.user = "mirror"
        self.umask = umask
        self.settings = tuple(settings)
        self.root = folder / "account"
        self.remote_root = "."
        self.client_key_path = make_key(folder / "client_key")
        self.host_key_line = public_line(make_key(folder / "host_key"))
        give_to_account(self.root)

    def command(self) -> list[str]:
        """Run in the foreground."""
        return [program("proftpd"), "--nodaemon", "--config", str(self.folder / "proftpd.conf")]

    def prepare(self) -> None:
        """Write its configuration, the account, and the account's key in the format of RFC 4716."""
        public = self.client_key_path.with_name("client_key.pub")
        told = subprocess.run([program("ssh-keygen"), "-e", "-f", public], capture_output=True, text=True, check=True)
        (self.folder / "authorized_keys").write_text(told.stdout)
        account = pwd.getpwnam(account_user())
        users = self.folder / "users"
        users.write_text(f"{self.user}:*:{account.pw_uid}:{account.pw_gid}::{self.root}:/bin/false\n")
        users.chmod(0o600)
        (self.folder / "proftpd.conf").write_text(self.configuration())

    def configuration(self) -> str:
        """Return its proftpd.conf."""
        lines = [
            "ModulePath /usr/lib/proftpd",
            "LoadModule mod_sftp.c",
            "ServerType standalone",
            'ServerName "lab"',
            f"DefaultAddress {self.host}",
            "SocketBindTight on",
            f"Port {self.port}",
            f"UseIPv6 {'on' if ':' in self.host else 'off'}",
            "UseReverseDNS off",
            f"PidFile {self.folder / 'pid'}",
            f"ScoreboardFile {self.folder / 'scoreboard'}",
            f"DelayTable {self.folder / 'delay'}",
            "DelayEngine off",
            f"SystemLog {self.folder / 'system.log'}",
            "TransferLog none",
            "WtmpLog off",
            "AuthPAM off",
            "AuthOrder mod_auth_file.c",
            f"AuthUserFile {self.folder / 'users'}",
            "RequireValidShell off",
            *([f"User {account_user()}", "Group nogroup", "DefaultRoot ~"] if is_root() else []),
            f"Umask {self.umask} {self.umask}",
            "AllowOverwrite on",
            "SFTPEngine on",
            f"SFTPLog {self.folder / 'sftp.log'}",
            f"SFTPHostKey {self.folder / 'host_key'}",
            "SFTPAuthMethods publickey",
            f"SFTPAuthorizedUserKeys file:{self.folder / 'authorized_keys'}",
            *self.settings,
        ]
        return "\n".join(lines) + "\n"
