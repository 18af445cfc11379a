"""A server as an ordinary process: started, awaited, paused, stopped, all by process id.

A server's children (the sessions of `sshd`, the workers of `nginx`) share its fate: they are found by their parents'
ids, since some of them leave the process group.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.folders import is_root, new_folder
from tests.lab.waiting import until

TOP = Path(__file__).resolve().parents[2]

started: list[Server] = []  # every server that this test run started, for the logs in a report and for the end
_copies: dict[str, Path] = {}


class Server(ABC):
    """One server with its own folder; a context manager that starts and stops it.

    `folder` holds its configuration, data and `log`. `prefix` is put before its command, to run it in a network
    namespace, say.
    """

    def __init__(self, name: str, folder: Path, prefix: Sequence[str] = ()) -> None:
        self.name = name
        self.folder = folder
        self.prefix = tuple(prefix)
        self.log = folder / "log"
        self._child: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def prepare(self) -> None:
        """Write what the server reads when it starts; called before every start."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the program and its arguments; it must stay in the foreground."""

    @abstractmethod
    def ready(self) -> bool:
        """Return whether it serves."""

    @property
    def running(self) -> bool:
        """Return whether its process is there (paused counts)."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        """Return the process id of the running server."""
        assert self._child is not None, f"{self.name} was not started"
        return self._child.pid

    def start(self, within: float = 10.0) -> Self:
        """Start it and wait until it serves.

        Raises:
            AssertionError: it ended instead, or did not serve `within` seconds; with the end of its log.
        """
        assert not self.running, f"{self.name} runs already"
        self.prepare()
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [*self.prefix, *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if self not in started:
            started.append(self)
        try:
            until(lambda: not self.running or self.ready(), within, f"{self.name} to serve")
        except TimeoutError as e:
            self.kill()
            raise AssertionError(f"{e}\n{self.tail()}") from e
        if (ended := self._child.poll()) is not None:
            raise AssertionError(f"{self.name} ended with {ended}\n{self.tail()}")
        return self

    def stop(self, within: float = 5.0) -> None:
        """End it as an administrator would, with all its children; kill what does not end."""
        self._end(signal.SIGTERM, within)

    def kill(self) -> None:
        """End it as a power failure would, with all its children."""
        self._end(signal.SIGKILL, 5.0)

    def pause(self) -> None:
        """Let it hang: connections stay open, nothing is answered any more when this returns."""
        halt([self.pid])  # nothing is born while we count
        halt(self._family())

    def resume(self) -> None:
        """Let it go on after `pause`."""
        send(signal.SIGCONT, self._family())

    def restart(self) -> Self:
        """Stop it and start it again."""
        self.stop()
        return self.start()

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to the server itself."""
        send(number, [self._main()])

    def tail(self, lines: int = 40) -> str:
        """Return the end of its log."""
        if not self.log.exists():
            return f"{self.name} left no log"
        last = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        return "\n".join([f"the end of {self.log}:", *last])

    def __enter__(self) -> Self:
        """Start it, where it does not run yet."""
        return self if self.running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def _main(self) -> int:
        """Return the id of the server itself: below `sudo`, its child."""
        pid = self.pid
        if self.prefix and self.prefix[0] == "sudo":
            return next(iter(descendants(pid)), pid)
        return pid

    def _family(self) -> list[int]:
        return [self.pid, *descendants(self.pid)] if self.running else []

    def _end(self, how: signal.Signals, within: float) -> None:
        if self._child is None:
            return
        if self.running:
            halt([self.pid])  # nothing is born while we count
            family = self._family()
            send(how, family)
            send(signal.SIGCONT, family)
            try:
                self._child.wait(within)
            except subprocess.TimeoutExpired:
                send(signal.SIGKILL, family)
                self._child.wait(5.0)
            try:
                until(lambda: not any(map(alive, family)), within)
            except TimeoutError:
                send(signal.SIGKILL, family)
                until(lambda: not any(map(alive, family)), 5.0, f"all of {self.name} to end")
        self._child = None


def descendants(pid: int) -> list[int]:
    """Return the ids of the process's children, their children and so on, elders first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (found := _state_and_parent(int(entry.name))):
            children.setdefault(found[1], []).append(int(entry.name))
    family = [pid]
    for member in family:
        family.extend(children.get(member, ()))
    return family[1:]


def alive(pid: int) -> bool:
    """Return whether the process is there and has not ended."""
    found = _state_and_parent(pid)
    return found is not None and found[0] not in "ZX"


def send(number: signal.Signals, pids: Iterable[int]) -> None:
    """Send a signal to each process that is still there; through sudo where it belongs to another user."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        except PermissionError:
            as_root(["kill", f"-{number.value}", str(pid)], check=False)


def halt(pids: Iterable[int]) -> None:
    """Stop each process that is still there until SIGCONT, and wait until none of its threads runs any more.

    A signal is taken by one thread; another one of a busy machine can go on for a moment, and answer.
    """
    pids = list(pids)
    send(signal.SIGSTOP, pids)
    until(lambda: all(map(_halted, pids)), 10.0, f"processes {pids} to halt")


def as_root(command: Sequence[str], *, check: bool = True) -> str:
    """Run a short command as root, directly or through `sudo -n`, and return what it prints.

    Raises:
        AssertionError: it failed; with what it said.
    """
    done = subprocess.run(
        [*root_prefix(), *command], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if check:
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}"
    return done.stdout


def knock(address: str, port: int, prefix: Sequence[str] = (), *, greeting: int = 0) -> bytes:
    """Connect by TCP, from where `prefix` leads, and return the first `greeting` bytes that are said.

    Raises:
        OSError: nobody took the connection, or nothing was said.
    """
    if prefix:
        script = "import sys; from tests.lab.processes import knock; a, p, n = sys.argv[1:]; "
        script += "sys.stdout.buffer.write(knock(a, int(p), greeting=int(n)))"
        there = [*prefix, sys.executable, "-c", script, address, str(port), str(greeting)]
        done = subprocess.run(there, cwd=TOP, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            raise OSError(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
        return done.stdout
    with socket.create_connection((address, port), 1.0) as connection:
        connection.settimeout(2.0)
        return connection.recv(greeting) if greeting else b""


def root_prefix() -> list[str]:
    """Return what must stand before a command for root to run it."""
    return [] if is_root() else ["sudo", "-n"]


def program(name: str) -> str:
    """Return the path of a server's program, which ordinary users' PATH may leave out.

    Raises:
        AssertionError: it is not installed. A test that needs it fails: it is never skipped.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin")
    assert found is not None, f"{name} is not installed; `make servers` installs what the tests need"
    return found


def unconfined(name: str) -> str:
    """Return the path of a copy of the program: AppArmor, where it is on, confines the original by its path."""
    if name not in _copies:
        folder = new_folder("bin")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        _copies[name] = Path(shutil.copy2(program(name), folder / name))
    return str(_copies[name])


def _halted(pid: int) -> bool:
    try:
        threads = [Path("task", entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return True  # it ended
    states = [found[0] for thread in threads if (found := _state_and_parent(pid, thread))]
    return all(state in "TtZX" for state in states)


def _state_and_parent(pid: int, thread: Path = Path()) -> tuple[str, int] | None:
    """Return a process's state letter and its parent's id (proc(5)), or those of one of its threads."""
    try:
        text = Path(f"/proc/{pid}", thread, "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, parent = text.rpartition(")")[2].split()[:2]
    return state, int(parent)


@atexit.register
def _leave_nothing_running() -> None:
    for server in started:
        with contextlib.suppress(Exception):
            server.kill()
