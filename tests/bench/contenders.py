"""Who is measured: each brings the same folder to the same account over the same line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, Self

import mirrord.hosts.sftp.session  # noqa: F401 - a daemon has it loaded already
from mirrord.hosts import Holder
from mirrord.hosts.account import Account
from mirrord.hosts.opening import open_host
from mirrord.manifest import Signed
from mirrord.plan import Guard
from mirrord.publish import Published, publish_with_retries
from mirrord.snapshot.source import Source
from mirrord.snapshot.store import Store
from mirrord.trust.keys import Signers, new_signing_key
from tests.lab.ports import free_port
from tests.lab.processes import program
from tests.lab.sshd import Sshd
from tests.lab.waiting import until


class Server(Sshd):
    """An OpenSSH account with SFTP, and with a shell too: rsync needs one. It is the one who runs the benchmark."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.user = os.environ.get("LOGNAME") or os.environ.get("USER") or "root"
        self.root.chmod(0o755)
        shutil.chown(self.root, os.geteuid())

    def configuration(self) -> str:
        """Return its sshd_config."""
        lines = (
            f"ListenAddress {self.host}:{self.port}",
            f"HostKey {self.folder / 'host_key'}",
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}",
            "PidFile none",
            "StrictModes no",
            "UsePAM no",
            "UseDNS no",
            "PermitRootLogin prohibit-password",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "Subsystem sftp internal-sftp",
        )
        return "\n".join(lines) + "\n"


class Line:
    """The way to a server, so many milliseconds long; a process of its own, so that it takes no time from anybody."""

    def __init__(self, server: Server, round_trip_ms: float) -> None:
        self.server = server
        self.port = free_port()
        command = [sys.executable, "-m", "tests.lab.proxy", str(self.port), str(server.port), f"{round_trip_ms:g}"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        """Wait until it carries."""
        assert self._process.stdout is not None
        until(self._process.stdout.readline, what="the proxy to listen")
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.terminate()
        self._process.communicate()

    @property
    def cpu(self) -> float:
        """Seconds of a core that it has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Straight(Line):
    """No way at all: the server itself."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.port = server.port

    def __enter__(self) -> Self:
        """Nothing is to be waited for."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is to be ended."""

    @property
    def cpu(self) -> float:
        """Nothing."""
        return 0.0


class Contender(Protocol):
    """Brings a folder to an account; every verb is timed as a whole."""

    name: str

    def publish(self, run: int) -> None:
        """Bring the folder as it is now to where run `run` keeps it, for the first time or again."""
        ...

    def publish_beside(self, run: int) -> None:
        """Bring the folder as it is now beside what stands there, unchanged files linked to it."""
        ...


class Rsync:
    """`rsync -a -e ssh`, and with `--link-dest`."""

    name = "rsync -a"

    def __init__(self, line: Line, source: Path) -> None:
        server = line.server
        known = server.folder / "known_hosts"
        known.write_text(f"[127.0.0.1]:{line.port} {server.host_key_line}\n")
        options = ("StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "BatchMode=yes", f"UserKnownHostsFile={known}")
        self._ssh = " ".join(
            ["ssh", "-F", "none", "-p", str(line.port), "-i", str(server.client_key_path)]
            + [f"-o {option}" for option in options]
        )
        self._source = source
        self._root = server.root
        self._target = f"{server.user}@127.0.0.1:{server.root}"
        self._last: dict[int, str] = {}

    def publish(self, run: int) -> None:
        """See Contender."""
        self._last[run] = f"rsync-{run}"
        self._run(f"{self._target}/rsync-{run}/")

    def publish_beside(self, run: int) -> None:
        """See Contender."""
        self._run(f"{self._target}/rsync-{run}.next/", f"--link-dest={self._root}/rsync-{run}")

    def _run(self, target: str, *more: str) -> None:
        subprocess.run([program("rsync"), "-a", "-e", self._ssh, *more, f"{self._source}/", target], check=True)


class Rclone:
    """`rclone sync --transfers 32`; it cannot link."""

    name = "rclone sync --transfers 32"

    def __init__(self, line: Line, source: Path) -> None:
        self.stopped = False
        server = line.server
        self._source = source
        self._root = server.root
        self._config = server.folder / "rclone.conf"
        lines = ("[host]", "type = sftp", "host = 127.0.0.1", f"port = {line.port}", f"user = {server.user}")
        self._config.write_text("\n".join([*lines, f"key_file = {server.client_key_path}"]) + "\n")

    def publish(self, run: int) -> None:
        """See Contender."""
        self.publish_within(run, None)

    def publish_within(self, run: int, seconds: float | None) -> None:
        """Publish, and give it up after so many seconds; `stopped` tells."""
        command = [program("rclone"), "--config", str(self._config), "--transfers", "32", "--log-level", "ERROR"]
        try:
            subprocess.run(
                [*command, "sync", str(self._source), f"host:{self._root}/rclone-{run}"], check=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            self.stopped = True


class Mirrord:
    """We: from connecting to the answer that readers see the snapshot."""

    name = "mirrord"

    def __init__(self, line: Line, source: Path, state: Path) -> None:
        server = line.server
        self._source = Source(source)
        self._key = new_signing_key()
        self._store = Store(state, "bench")
        self._account = Account(
            "bench",
            "127.0.0.1",
            line.port,
            server.user,
            server.client_key_path.read_bytes,
            server.host_key_line,
            root=str(server.root),
        )
        self.last: Published | None = None

    def take(self) -> None:
        """Take a snapshot; that is not timed, as every mirror gets the same one."""
        guard = Guard(removed_percent=100.0, removed_files=10**9)
        self._store.take(self._source, self._key, guard, now_wall=time.time(), next_expected_in=86400.0)

    def publish(self, run: int) -> None:
        """See Contender."""
        self._publish(run)

    def publish_beside(self, run: int) -> None:
        """See Contender; that is what every publish does."""
        self._publish(run)

    def _publish(self, run: int) -> None:
        newest = self._store.newest()
        assert newest is not None
        signed: Signed = self._store.load(newest)
        account = replace(self._account, root=f"{self._account.root}/mirrord-{run}")
        me = Holder("bench", "here", "boot", os.getpid(), "0", time.time())
        self.last = publish_with_retries(
            lambda: open_host(account),
            me,
            "bench",
            signed,
            self._store.content(),
            self._store.manifest,
            signers=Signers.of([self._key.public]),
            identity=None,
            keep=5,
            guard=Guard(),
        )
        assert self.last.error is None, self.last.error


def same(left: Path, right: Path, leave_out: Sequence[str] = ()) -> bool:
    """Tell whether two folders hold the same files with the same bytes."""
    command = [program("diff"), "-rq", *(f"--exclude={name}" for name in leave_out), str(left), str(right)]
    return subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode == 0
