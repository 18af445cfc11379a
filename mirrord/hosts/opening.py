"""Which kind of host is behind an account?"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mirrord.errors import BadConfig
from mirrord.hosts import Host
from mirrord.hosts.account import Account
from mirrord.hosts.files import Files
from mirrord.hosts.host import FilesHost
from mirrord.hosts.remembered import Remembered, recall
from mirrord.hosts.standing import AUTO, LAYOUTS
from mirrord.hosts.trying import Trial


def open_host(account: Account, *, timeout: float = 30.0) -> Host:
    """Log in (`timeout` in seconds for each step), or look into a folder of this machine.

    What the account's memory knows of what it can do is believed; where it knows nothing, the host's first hold finds
    out, and has it remembered. Raises Unavailable, Silent, Refused, and BadConfig for a layout that this version does
    not have.
    """
    if account.layout not in (AUTO, *LAYOUTS):
        has = ", ".join((AUTO, *LAYOUTS))
        raise BadConfig([f'mirror "{account.mirror}": layout = "{account.layout}": this mirrord has {has}'])
    files, known = _open_files(account, timeout)
    trial = None
    if account.memory is not None and known is not None and not known.tried_at:
        dare = getattr(files, "dare", None)
        trial = Trial(account.mirror, files.traits, known, account.memory.remember, time.time, dare)
    return FilesHost(
        files,
        account.mirror,
        account.serve,
        layout=account.layout,
        follows=known.follows if known is not None else None,
        trial=trial,
    )


def _open_files(account: Account, timeout: float) -> tuple[Files, Remembered | None]:
    """Return the account's files, and what is known of them where anybody keeps it."""
    if account.directory is not None:
        from mirrord.hosts.directory import DirectoryFiles  # only for who publishes on this machine

        return DirectoryFiles(account.directory / account.root), None
    with without("invoke"):  # paramiko would load it for commands in ssh_config, which it never reads for us
        from mirrord.hosts.sftp.session import SftpFiles  # paramiko, only for who logs in
    files = SftpFiles.open(account, timeout=timeout)
    if account.memory is None:
        return files, None
    known = recall(account.memory, account.whose(files.server.banner, files.server.extensions))
    if known.tried_at:
        files.believe(known.traits(files.traits))
    return files, known


@contextmanager
def without(module: str) -> Iterator[None]:
    """Let imports find a module that they can do without missing, where nobody has loaded it: it costs 45 ms."""
    modules: dict[str, object] = vars(sys)["modules"]
    absent = module not in modules
    if absent:
        modules[module] = None
    try:
        yield
    finally:
        if absent:
            modules.pop(module, None)
