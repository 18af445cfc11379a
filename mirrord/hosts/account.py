"""What does it take to log in to a mirror's account, and where in it may we work?

A plain value: the configuration makes it, `opening` and `sftp.session` read it. The private key is fetched by a
call when somebody logs in, so that no repr, log or error can show it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mirrord.hosts.bandwidth import UNLIMITED, Bandwidth
from mirrord.hosts.remembered import Memory, Whose


@dataclass(frozen=True, slots=True)
class Account:
    """One mirror's account: over SFTP, or a folder of this machine where `directory` is set."""

    mirror: str
    """The mirror's name, for messages."""
    host: str = ""
    """Host name or address."""
    port: int = 22
    user: str = ""
    key: Callable[[], bytes] = field(default=bytes, repr=False)
    """Gives the private key: OpenSSH or PEM text, without a passphrase."""
    host_key: str = ""
    """The pinned public key of the host, as in known_hosts: `ssh-ed25519 AAAA...`."""
    root: str = "."
    """The folder that is ours, relative to the login folder or absolute."""
    layout: str = "auto"
    serve: str = "current"
    """The name inside `root` that the web server serves."""
    bandwidth: Bandwidth = UNLIMITED
    """Bytes a second that we send at most, by the time of day."""
    memory: Memory | None = field(default=None, repr=False, compare=False)
    """Keeps what is known of the account; without it, what the server announces is believed."""
    directory: Path | None = None
    """A folder of this machine in place of a login; `root` lies in it."""

    def whose(self, banner: str, extensions: tuple[str, ...]) -> Whose:
        """Name the account together with the server that answered: what is known of it holds for these."""
        return Whose(f"{self.user}@{self.host}:{self.port}/{self.root}", self.host_key, banner, extensions)
