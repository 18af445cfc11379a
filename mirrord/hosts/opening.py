"""Which kind of host is behind an account?"""

from __future__ import annotations

from mirrord.errors import BadConfig
from mirrord.hosts import Host
from mirrord.hosts.account import Account
from mirrord.hosts.directory import DirectoryFiles
from mirrord.hosts.files import Files
from mirrord.hosts.host import FilesHost

_LAYOUTS = ("auto", "releases")


def open_host(account: Account, *, timeout: float = 30.0) -> Host:
    """Log in (`timeout` in seconds for each step), or look into a folder of this machine.

    Raises Unavailable, Refused, and BadConfig for a layout that this version does not have.
    """
    if account.layout not in _LAYOUTS:
        raise BadConfig([f'mirror "{account.mirror}": layout = "{account.layout}": this mirrord has {_LAYOUTS}'])
    return FilesHost(_open_files(account, timeout), account.mirror, account.serve)


def _open_files(account: Account, timeout: float) -> Files:
    if account.directory is not None:
        return DirectoryFiles(account.directory / account.root)
    from mirrord.hosts.sftp.session import SftpFiles  # paramiko, only for who logs in

    return SftpFiles.open(account, timeout=timeout)
