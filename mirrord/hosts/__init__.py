"""What can a mirror be asked to do?

The seam to a mirror is the release, not the file: a host is asked to stage a plan, inspect it, serve it,
post, prune. How it packs ten thousand files into a few round trips is its own affair.

    files.py      the few file operations, as values, and the Files protocol
    memory.py     Files in a dictionary, which can be cut before or after any request (tests and properties)
    directory.py  Files on a local folder
    sftp/         Files over SFTP v3: wire (codec), flow (pipelining), session (paramiko)
    steps.py      flights of operations, and the barriers between them
    lock.py       who may write on a mirror
    trees.py      what a whole release looks like in listings, and what is wrong with one
    layout.py     what stands where in every account, and what each layout decides for itself
    releases.py   the layout `releases`: readers follow a link from one whole tree to the next
    served.py     which release stands in a real folder that readers see, and what was left in the middle there
    renaming.py   the layout `rename`: two folders change places
    inplace.py    the layout `inplace`: files are replaced one by one
    moving.py     in which order that does no harm, how it is gone on with, and gone back from
    standing.py   which layout an account has already, and which it gets
    patching.py   how a file is made on a mirror of one that it has
    verifying.py  does what was sent stand on the mirror as it was sent?
    lingering.py  which files of earlier releases linger beside a new one, and how they go
    staging.py    how a whole tree comes to stand where no reader sees it, and how a broken one is mended
    host.py       Host and Hold on top of Files
    remembered.py what is known of an account, and how it came to be known
    trying.py     what can an account do? it is tried, and looked at afterwards
    choosing.py   which layout suits what an account can do, and why
    naming.py     which names of a snapshot an account cannot hold
    account.py    what it takes to log in to a mirror's account
    bandwidth.py  how many bytes a second may be sent to it, by the time of day
    opening.py    an account becomes a Host
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import BinaryIO, Protocol

from mirrord.hosts.files import Traits
from mirrord.manifest import Manifest, Signed, SnapshotId
from mirrord.plan import Plan, Survey

Known = Callable[[SnapshotId], Manifest | None]
"""What we know of a snapshot's files; None where we never saw it."""
READ_BACK = 4_000_000
"""Bytes of what was sent that are read back where nobody says otherwise."""


class Content(Protocol):
    """Where a snapshot's bytes come from."""

    def open(self, digest: bytes) -> BinaryIO:
        """Open the bytes with this raw SHA-256; raises Damaged where they are missing."""
        ...


@dataclass(frozen=True, slots=True)
class Linger:
    """For how long the assets of earlier releases linger beside a new one."""

    grace: float = 0.0
    """Seconds from the moment when readers were led away from a release; 0: nothing lingers."""
    earlier: Callable[[SnapshotId], Signed | None] = lambda _: None
    """What we know of an earlier release; None where we never had it, or do not any more."""
    doubted: frozenset[bytes] = frozenset()
    """Paths of what is served whose bytes somebody saw to be wrong: they are not linked from there."""

    def know(self, releases: Iterable[SnapshotId]) -> list[Signed]:
        """Return what we know of some releases."""
        return [one for release in releases if (one := self.earlier(release)) is not None]


NO_GRACE = Linger()
"""Nothing lingers."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a mirror's lock: enough to tell whether that process still lives."""

    controller: str
    host: str
    boot_id: str
    """The boot of the machine, and its space of process numbers where it has several."""
    pid: int
    start: str
    """Start time of the process in clock ticks since boot (`/proc/<pid>/stat`, field 22)."""
    since: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a staging is; counts of files and payload bytes."""

    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int


@dataclass(frozen=True, slots=True)
class Staged:
    """A whole tree that no reader sees yet."""

    release: SnapshotId
    files_sent: int
    files_linked: int
    files_kept: int
    """Files that an earlier, broken-off try had finished."""
    bytes_sent: int
    stood: bool = False
    """The release stood whole on the mirror before; its changing files may be of another day."""
    unproven: frozenset[bytes] = frozenset()
    """Paths of the tree that this or an earlier, broken-off try sent: nobody has looked at their bytes yet."""
    files_patched: int = 0
    whole: frozenset[bytes] = frozenset()
    """Paths that travelled whole though the plan has them linked or patched: what they were to be made of is not on the
    mirror as it was published, or it did not link or copy it."""
    left_out: frozenset[bytes] = frozenset()
    """Assets of earlier releases that should have lingered, and could be had neither there nor here."""


class Step(Enum):
    """How far it was verified that readers get what was published; each step holds the ones above it."""

    STATUS = "status"
    """The server said of every request that it was done."""
    LISTED = "listed"
    """Paths, types, sizes and mtimes of everything; nothing missing, nothing else."""
    HASHED = "hashed"
    """The server itself hashed what was sent (`check-file`), and the hashes are right."""
    READ = "read"
    """What was sent was read back and compared: all of it up to a limit, a sample beyond."""
    SEEN = "seen"
    """After the switch it was seen by HTTP, as a reader sees it."""

    @property
    def rank(self) -> int:
        """0 for the least."""
        return _RANKS[self]


_RANKS = {step: rank for rank, step in enumerate(Step)}


@dataclass(frozen=True, slots=True)
class Findings:
    """What an inspection found wrong; empty is verified. Paths are sorted."""

    missing: tuple[bytes, ...] = ()
    extra: tuple[bytes, ...] = ()
    different: tuple[bytes, ...] = ()
    """Listed with another type, size or mtime."""
    altered: tuple[bytes, ...] = ()
    """Listed as they should be, and yet with other bytes, or none to be had."""

    def __bool__(self) -> bool:
        """Tell whether anything is wrong."""
        return bool(self.missing or self.extra or self.different or self.altered)


@dataclass(frozen=True, slots=True)
class Inspected:
    """What an inspection came to: what is wrong, and how closely was looked at what is not."""

    wrong: Findings = field(default_factory=Findings)
    reached: Step = Step.LISTED
    files_hashed: int = 0
    """By the server itself."""
    files_read_back: int = 0
    """Files of which something was read back."""
    bytes_read_back: int = 0


@dataclass(frozen=True, slots=True)
class Switched:
    """A mirror serves another release now."""

    release: SnapshotId
    instead_of: SnapshotId | None
    mixture: float = 0.0
    """Seconds in which readers could have seen files of two releases, as seen from here; 0.0 where the switch is
    atomic."""
    gap: float = 0.0
    """Seconds for which they were given nothing, as seen from here; the longest for any one file."""


@dataclass(frozen=True, slots=True)
class Mended:
    """What had been wrong with a served release, and what putting it right took."""

    wrong: Findings
    files_sent: int
    bytes_sent: int
    rewritten: tuple[bytes, ...] = ()
    """Paths of the release that were sent again."""
    inspected: Inspected | None = None
    """What reading them back came to; None where there was nothing to mend."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What pruning dropped."""

    releases: tuple[SnapshotId, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    """Name -> why it could not be dropped; tried again next time."""


class Hold(Protocol):
    """The right to change one mirror, while the lock is ours."""

    found: Survey
    """What stood there. Taken anew after the lock was taken over; else what the caller had seen before, of which
    `stage` and `serve` look again at what counts."""

    def stage(self, plan: Plan, signed: Signed, content: Content, seen: Callable[[Progress], None]) -> Staged:
        """Lay the snapshot out where no reader sees it; resumes what an earlier try left.

        Raises Conflict(found) where the mirror does not serve `plan.instead_of` any more, Full, Damaged.
        """
        ...

    def inspect(self, staged: Staged, signed: Signed, read_back: int = READ_BACK) -> Inspected:
        """Compare the staged tree with the snapshot; where nothing is wrong it is verified.

        Of what was sent, so many bytes are read back, and hashed by the server where it can. What is found wrong, the
        next `stage` sends again.
        """
        ...

    def serve(
        self, release: SnapshotId, instead_of: SnapshotId | None, keep: frozenset[SnapshotId] | None = None
    ) -> Switched:
        """Make readers see `release`, which was inspected or stood whole before.

        Raises Conflict(found) if it is not `instead_of` that is served. Served already: a no-op. `keep` promises
        that only `prune(keep)` follows: where it has nothing to do, the lock is dropped in the switch's own flight.
        """
        ...

    def beat(self) -> None:
        """Keep the lock alive where that is due; for who waits between two verbs."""
        ...

    def mend(
        self,
        signed: Signed,
        content: Content,
        suspects: Collection[bytes],
        seen: Callable[[Progress], None],
        read_back: int = READ_BACK,
    ) -> Mended:
        """Put the *served* release right, with new inodes and renames.

        Wrong is what a listing shows, and `suspects`: paths whose bytes a reader saw to be wrong. Of what was sent
        again, so many bytes are read back.
        """
        ...

    def post(self, files: Mapping[bytes, bytes], mtime: int) -> None:
        """Write files into `.well-known/mirrord/` of what is served now, each by rename; repeatable."""
        ...

    def expire(self, signed: Signed) -> tuple[bytes, ...]:
        """Take away what lingers in the served release of `signed` and had its time; return what does not go away.

        Repeatable. `prune` has to follow.
        """
        ...

    def make_room(self, spare: frozenset[SnapshotId]) -> tuple[SnapshotId, ...] | None:
        """Drop what broken-off tries left; where there is nothing of that, the oldest release that may go.

        That is one which is not in `spare`, nor served now or within the last hour. Returns which; None: nothing went.
        `stage` may be called again then.
        """
        ...

    def prune(self, keep: frozenset[SnapshotId]) -> Pruned:
        """Drop all releases but these and those served now or within the last hour, and what broken-off tries left.

        Repeatable.
        """
        ...


class Host(Protocol):
    """One mirror's releases behind one login; one thread at a time, only abort() from others.

    Every verb may raise Unavailable (state unknown: repeat on a fresh Host, it continues), Refused (key,
    login, rights: a person must act) or Cancelled.
    """

    @property
    def traits(self) -> Traits:
        """What the account can do, as far as it is known."""
        ...

    def survey(self) -> Survey:
        """Look, change nothing, need no lock."""
        ...

    def hold(
        self,
        me: Holder,
        known: Known,
        found: Survey,
        ahead: Plan | None = None,
        stop: threading.Event | None = None,
        *,
        patient: bool = True,
        linger: Linger = NO_GRACE,
    ) -> AbstractContextManager[Hold]:
        """Take the lock; raises Locked(holder, since). Entering undoes a dead holder's half switch.

        Where only a minute's watch can tell that a holder is dead, it is watched, unless not `patient`.
        `found` is the last survey. What the plan `ahead` links from is listed while the lock is being taken.
        `linger` says for how long assets of earlier releases stay beside one that is staged in this hold.
        Once `stop` is set, no more is begun, what is on its way is answered, and Cancelled is raised.
        """
        ...

    def read(self, release: SnapshotId, path: bytes, limit: int) -> Iterator[bytes]:
        """Read one file of a release, at most `limit` bytes; raises Unverified where there is no such file."""
        ...

    def bytes_moved(self) -> tuple[int, int]:
        """Return payload bytes sent and received so far."""
        ...

    def abort(self) -> None:
        """Break off, from any thread, at once."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...
