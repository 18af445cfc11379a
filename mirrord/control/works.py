"""What does one controller stand on?

The settings in force, the journal, the store of snapshots, the crews, the locks between processes of
this machine, and the switches: opened once, handed to whoever works with them. What is done with
them is said in `syncing`, `publishing`, `looking` and `moving`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from io import FileIO
from pathlib import Path
from threading import Event as Flag

from mirrord.comparing import Comparer
from mirrord.config import Settings
from mirrord.control.accounts import Accounts
from mirrord.control.crew import make_crew
from mirrord.errors import Locked, MirrordError, Refused
from mirrord.hosts import Holder
from mirrord.hosts.lock import this_process
from mirrord.journal import Journal
from mirrord.snapshot.store import Store
from mirrord.switches import Switch, open_switch

JOURNAL = "journal.sqlite"
STORE = "store"
LOCKS = "locks"
MOST_LOOKS = 256
"""Looks that are made at once at most."""
_UNWRITABLE = frozenset((errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOENT))

_log = logging.getLogger(__name__)


class Works:
    """Everything that one controller works with, in one process."""

    def __init__(self, settings: Settings) -> None:
        """Open the state folder; raises Refused where it does not let us, Damaged where the journal is broken."""
        self.settings = settings
        self.stop = Flag()
        self.directory = settings.state.directory
        become_owner(self.directory)
        _make(self.directory, self.directory)
        _make(self.directory / LOCKS, self.directory)
        self.journal = Journal(self.directory / JOURNAL)
        self.accounts = Accounts(self.journal)
        self.store = Store(self.directory / STORE, settings.site.name)
        # One for all mirrors: what two versions of a file have in common is found out once.
        self.compare = Comparer(self.store.content(), self.stop)
        self.switches: dict[str, Switch] = {}
        self._hire()

    def adopt(self, settings: Settings) -> None:
        """Go on with another configuration of the same state folder.

        The crews are as large as the new one needs; who works in an old one ends that work, and leaves.
        """
        self.settings = settings
        self.switches = {}
        self._hire()

    def _hire(self) -> None:
        """Make crews in which nobody waits for another: workers are only started as they are needed."""
        settings = self.settings
        looks = len(settings.targets()) + len(settings.probe.references)
        # A round, beside it the fresh look of a move or a `check`, and one at every mirror that was just switched.
        self.probing: Executor = make_crew("probe", min(3 * looks, MOST_LOOKS))
        # A publish to each mirror, and a rehearsal beside it.
        self.uploading: Executor = make_crew("upload", 2 * len(settings.mirrors))
        # Of each service: its zone is read, its name servers are remembered, its readers are moved.
        self.naming: Executor = make_crew("names", 3 * len(settings.services))
        self.asking: Executor = make_crew("followers", 16)

    def me(self) -> Holder:
        """Return who takes a lock on a mirror."""
        return this_process(self.settings.controller.name)

    def switch(self, service: str) -> Switch:
        """Return what moves a service's readers."""
        switches = self.switches  # that of one configuration, should another be adopted meanwhile
        if service not in switches:
            switches[service] = open_switch(self.settings.switch(service))
        return switches[service]

    def free(self) -> int | None:
        """Return how many bytes the state folder's disk has left; None where it does not say."""
        try:
            found = os.statvfs(self.directory)
        except OSError:
            return None
        return found.f_bavail * found.f_frsize

    def jot(self, write: Callable[[], object]) -> None:
        """Write into the journal what merely happened; one that cannot be written stops nothing."""
        try:
            write()
        except MirrordError as e:
            _log.warning("%s", e)

    @contextlib.contextmanager
    def locked(self, what: str, note: str = "") -> Iterator[None]:
        """Hold a lock among this machine's processes; raises Locked with what the holder noted."""
        with contextlib.ExitStack() as stack:
            file = self._lock_file(what)
            if file is None:  # the mirror's own lock and the zone's fence still hold
                yield
                return
            stack.enter_context(file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                file.seek(0)
                pid, _, holders_note = file.read().decode("utf-8", "replace").strip().partition(" ")
                raise Locked(
                    f"{what}: another mirrord of this machine (process {pid or 'unknown'}) is at it; wait for it",
                    holder=holders_note,
                ) from e
            _note(file, f"{os.getpid()} {note}")
            try:
                yield
            finally:
                _note(file, "")

    def _lock_file(self, what: str) -> FileIO | None:
        """Open a lock; None where there is none and the disk is full or broken, which must keep nobody from moving."""
        path = self.directory / LOCKS / f"{what}.lock"
        try:
            return path.open("ab+", buffering=0)
        except OSError as e:
            if e.errno not in _UNWRITABLE:
                raise Refused(f"{what}: locking {path.parent}: {e.strerror or e}; mend the folder") from e
            why = e.strerror
        try:
            return path.open("rb", buffering=0)
        except OSError:
            _log.warning("%s: locking %s: %s; going on without that lock", what, path.parent, why)
            return None

    def is_at_work(self, what: str) -> bool:
        """Tell whether a process that still lives holds a lock; taking it to find out would get in others' way."""
        try:
            text = (self.directory / LOCKS / f"{what}.lock").read_text(encoding="utf-8")
            os.kill(int(text.partition(" ")[0]), 0)
        except PermissionError:
            return True
        except (OSError, ValueError):
            return False
        return True

    def close(self) -> None:
        """Let go of everything that can be let go of at once."""
        self.stop.set()
        for crew in (self.probing, self.uploading, self.naming, self.asking):
            crew.shutdown(wait=False, cancel_futures=True)
        self.journal.close()


def _note(file: FileIO, text: str) -> None:
    """Write who holds a lock; the lock holds without it, also where the disk is full.

    The file has no buffer: what could not be written would be tried again, and fail, where the lock is let go.
    """
    with contextlib.suppress(OSError):
        file.truncate(0)
        file.write(text.encode())


def become_owner(directory: Path) -> None:
    """As root with a state folder that belongs to another user, become that user before anything is written.

    A verb typed as root must not leave files behind that the daemon cannot write.
    """
    if os.geteuid() != 0:
        return
    try:
        there = directory.stat()
    except FileNotFoundError:
        return
    if there.st_uid == 0:
        return
    with contextlib.suppress(KeyError):
        import pwd

        os.initgroups(pwd.getpwuid(there.st_uid).pw_name, there.st_gid)
    os.setgid(there.st_gid)
    os.setuid(there.st_uid)


def _make(directory: Path, state: Path) -> None:
    """Make a folder in the state folder, or that itself. Raises Refused."""
    try:
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as e:
        raise Refused(
            f"{directory}: opening the state folder: a file stands there; name a folder in state.directory"
        ) from e
    except OSError as e:
        raise Refused(f"{directory}: opening the state folder: {e.strerror or e}; {_way_in(state)}") from e


def _way_in(state: Path) -> str:
    """Say what to do where we may not write there: `doctor` by a member of the daemon's group, say."""
    with contextlib.suppress(OSError, KeyError):
        import pwd

        owner = state.stat().st_uid
        if owner != os.geteuid():
            return f"it belongs to {pwd.getpwuid(owner).pw_name}; use sudo"
    return "give it to the user who runs mirrord, or set state.directory"
