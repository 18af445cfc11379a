"""What are the few things that a mirror's account can be asked to do with files?

`Files` is the ground that layouts stand on: operations are values, many are carried out at once, and
every reply is counted. What is done to whom, and in which order it is safe, is the layout's affair;
how thousands of operations become a few round trips is the implementation's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, BinaryIO, Protocol

from mirrord.delta import Copy

MOST_CHECKED = 256 * 1024
"""Bytes of a patched file that are read back at most."""


class Kind(Enum):
    """What stands at a path."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Attributes:
    """What lstat says: size in bytes, mtime in whole Unix seconds, permission bits."""

    kind: Kind
    size: int
    mtime: int
    mode: int


@dataclass(frozen=True, slots=True)
class Put:
    """Write a whole new file; mode and mtime are set, in this order, after every WRITE reply was good.

    The path must be free (EXCL; Trouble.EXISTS or FAILED where it is not): a late request of a connection that we
    gave up can then never truncate what a later one wrote. `open` gives the bytes (it may raise Damaged); they must
    be `size` many and, where `digest` (raw SHA-256) is given, hash to it: the outcome is Trouble.DAMAGED otherwise,
    and the mtime is not set. `mtime` None leaves the server's own clock.
    """

    path: bytes
    size: int
    mtime: int | None
    mode: int
    open: Callable[[], BinaryIO]
    digest: bytes | None = None


@dataclass(frozen=True, slots=True)
class Patch:
    """Write a whole new file of which the other side has parts already; what `Put` says of path, mode and mtime holds.

    `copies`, in the new file's order and without overlap, are taken from the file `base`, which we wrote, verified
    and never write to again; what lies between them is ours, given by `open` (it may raise Damaged), and must hash to
    `digest` (raw SHA-256 of what is sent, one piece after the other): Trouble.DAMAGED otherwise.
    As the rest rests on the other side's bytes, the ranges `check` (offset, size; `MOST_CHECKED` bytes in all at most)
    are read back before mode and mtime are set: Trouble.FAILED where they are not what `open` has there, or where the
    base is too short. Trouble.UNSUPPORTED where the other side does not copy.
    """

    path: bytes
    size: int
    mtime: int
    mode: int
    open: Callable[[], BinaryIO]
    digest: bytes
    base: bytes
    copies: tuple[Copy, ...]
    check: tuple[tuple[int, int], ...] = ()

    @property
    def sent(self) -> int:
        """Bytes of content that travel."""
        return self.size - sum(copy.size for copy in self.copies)


@dataclass(frozen=True, slots=True)
class Create:
    """Write a small file that must not exist (EXCL); Trouble.EXISTS or FAILED where it does.

    Value: its Attributes, whose mtime is the time by the server's clock; None where it does not say.
    """

    path: bytes
    data: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Write `data` over the start of a small file that must exist, neither made nor truncated: a heartbeat.

    Trouble.MISSING where it does not exist. The server's clock gives the mtime.
    """

    path: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class MakeFolder:
    """Make a folder with exactly this mode; good as well where a folder stands there already (its mode is then set).

    The path `b""` is the mirror's root: it is made together with the folders above it.
    """

    path: bytes
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class SetMode:
    """Set the permission bits."""

    path: bytes
    mode: int


@dataclass(frozen=True, slots=True)
class Link:
    """Make `path` a hard link of the file `existing`."""

    existing: bytes
    path: bytes


@dataclass(frozen=True, slots=True)
class Symlink:
    """Make `path` a symbolic link with the text `target`."""

    target: bytes
    path: bytes


@dataclass(frozen=True, slots=True)
class Rename:
    """Rename; `over` replaces a file or link atomically (posix-rename), else an existing target is an error."""

    old: bytes
    new: bytes
    over: bool = False


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a file or link."""

    path: bytes


@dataclass(frozen=True, slots=True)
class RemoveFolder:
    """Remove an empty folder."""

    path: bytes


@dataclass(frozen=True, slots=True)
class ReadLink:
    """Value: the link's text, bytes."""

    path: bytes


@dataclass(frozen=True, slots=True)
class Stat:
    """Value: `Attributes` of what stands there, links not followed."""

    path: bytes


@dataclass(frozen=True, slots=True)
class List:
    """Value: dict of name (bytes) -> `Attributes`, without `.` and `..`; links not followed."""

    path: bytes


@dataclass(frozen=True, slots=True)
class Walk:
    """Value: dict of path below `path` (bytes) -> `Attributes`, at every depth; links not followed."""

    path: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """Value: the file's bytes, at most `limit` of them; a longer file is Trouble.FAILED.

    Links on the way are followed as the other side does it (a folder of this machine: only inside the root).
    """

    path: bytes
    limit: int


@dataclass(frozen=True, slots=True)
class ReadPart:
    """Value: so many bytes of a file from `offset` on, fewer where it ends before. Links are followed as by `Read`."""

    path: bytes
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Hash:
    """Value: the raw SHA-256 of a whole file, as the other side itself reads it: its content does not travel.

    Trouble.UNSUPPORTED (or another) where `traits.hashes` does not name `sha256`, and for an empty file on some servers
    (ProFTPD). Links are followed.
    """

    path: bytes


@dataclass(frozen=True, slots=True)
class Space:
    """Value: int, bytes that we may still write on the file system of `path`."""

    path: bytes


Op = (
    Put | Patch | Create | Rewrite | MakeFolder | SetMode | Link | Symlink | Rename | Remove | RemoveFolder
    | ReadLink | Stat | List | Walk | Read | ReadPart | Hash | Space
)  # fmt: skip


class Trouble(Enum):
    """Why an operation failed, as far as the other side tells (SFTP v3 knows little more than this)."""

    MISSING = "no such file"
    DENIED = "permission denied"
    EXISTS = "exists already"
    UNSUPPORTED = "not supported"
    FULL = "no room, or no quota"
    """The other side says so, or refuses a write to a file that it let us make without a reason: mostly this one."""
    FAILED = "failed"
    DAMAGED = "our own copy is damaged"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one operation ended: a value where it asks for one, or a trouble with the server's own words."""

    op: Op
    value: Any = None
    trouble: Trouble | None = None
    text: str = ""
    at: float = field(default_factory=time.monotonic, compare=False)
    """When the answer was here, by our own monotonic clock."""

    @property
    def good(self) -> bool:
        """Tell whether the operation was done."""
        return self.trouble is None


@dataclass(frozen=True, slots=True)
class Pulse:
    """An operation to slip in whenever `every` seconds have passed during one `carry_out` (a lock's heartbeat).

    Its outcome is yielded among the others.
    """

    every: float
    make: Callable[[], Op]


@dataclass(frozen=True, slots=True)
class Traits:
    """What an account can do, as found out by doing; `ordered` alone is known of the server's kind."""

    ordered: bool
    """Operations given to `in_order` are done strictly one after the other, in one flight."""
    symlink: bool
    hard_link: bool
    replace: bool
    """`Rename(over=True)` replaces a file atomically."""
    space: bool
    """`Space` is answered (statvfs)."""
    replace_link: bool = True
    """`Rename(over=True)` replaces a symbolic link atomically, and the link itself, not what it leads to."""
    rename_folder: bool = True
    """`Rename` moves a folder with all that is in it."""
    exclusive: bool = True
    """`Create` and `Put` fail where the path is taken."""
    mtime: bool = True
    """A file keeps the mtime that `Put` sets, in whole seconds."""
    any_name: bool = True
    """Names are bytes: both Unicode normal forms are two names, and bytes that are no UTF-8 are kept."""
    copy_data: bool = False
    """`Patch` works: the server copies ranges of one file into another (copy-data)."""
    hashes: tuple[str, ...] = ()
    """Algorithms in which the server hashes a file itself (check-file), as SFTP names them: `sha256`."""


class Files(Protocol):
    """One account's files; paths are bytes relative to the mirror's root.

    One thread at a time, only `abort` from others.
    A verb raises Unavailable (the connection broke or stalled: state unknown), Refused (rights) or Cancelled
    (after `abort`). That a single operation failed is an Outcome, never an exception.
    """

    traits: Traits

    def carry_out(self, ops: Iterable[Op], pulse: Pulse | None = None) -> Iterator[Outcome]:
        """Do all, in any order, many at once; yield every outcome. `ops` is pulled lazily, as room is.

        Leaving the iteration early leaves the connection unusable: drain it, or abort.
        """
        ...

    def in_order(self, ops: Sequence[Op]) -> list[Outcome]:
        """Do one after the other, in one flight where `traits.ordered`; later ones are tried even if one failed."""
        ...

    def bytes_moved(self) -> tuple[int, int]:
        """Return payload bytes sent and received so far, for progress and results."""
        ...

    def abort(self) -> None:
        """Break off, from any thread, at once; the working thread gets Cancelled."""
        ...

    def close(self) -> None:
        """Let go of the connection; never blocks on a stalled peer."""
        ...
