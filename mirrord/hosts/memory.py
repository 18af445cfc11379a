"""How does an account behave that is honest, fast, and breaks off exactly when it is told to?

A disk in a dictionary with the semantics that matter to a layout: inodes, hard links, links that are not
followed at the end of a path, a rename that replaces, exclusive creation, a umask, room that runs out. Every
operation is a few requests, as it is over SFTP, and the connection can be cut before or after any of them,
on an interleaving of the caller's choice. Tests and properties stand on it; `directory` and `sftp` are the
same seam on real ground.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar

from mirrord.delta import gaps
from mirrord.errors import Cancelled, Damaged, Unavailable
from mirrord.hosts.files import (
    Attributes,
    Create,
    Hash,
    Kind,
    Link,
    List,
    MakeFolder,
    Op,
    Outcome,
    Patch,
    Pulse,
    Put,
    Read,
    ReadLink,
    ReadPart,
    Remove,
    RemoveFolder,
    Rename,
    Rewrite,
    SetMode,
    Space,
    Stat,
    Symlink,
    Traits,
    Trouble,
    Walk,
)

_LONGEST_CHAIN = 40
"""Links followed in one path before it is a loop, as Linux does."""


class Killed(BaseException):
    """This process is dead: whoever catches this cheats."""


class _No(Exception):  # an answer, not an error of ours
    def __init__(self, trouble: Trouble, text: str) -> None:
        super().__init__(text)
        self.trouble = trouble
        self.text = text


@dataclass(eq=False)
class Node:
    """One inode."""

    kind: Kind
    mode: int
    mtime: int
    data: bytearray = field(default_factory=bytearray)
    target: bytes = b""
    names: dict[bytes, Node] = field(default_factory=dict)
    links: int = 1

    def attributes(self) -> Attributes:
        """Return what lstat would say."""
        size = len(self.target) if self.kind is Kind.LINK else len(self.data)
        return Attributes(self.kind, size, self.mtime, self.mode)


class Disk:
    """A file system; any number of connections share it.

    `clock` gives its own Unix seconds, `room` the bytes of file content that it holds, `most_links` the hard links
    of one inode. `tick` is called before every request is carried out, with the request's number.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] | None = None,
        room: int | None = None,
        most_links: int = 32000,
        tick: Callable[[int], None] | None = None,
    ) -> None:
        """An empty disk, whose root exists."""
        ticks = count(1_700_000_000)
        self.clock = clock or (lambda: next(ticks))
        self.room = room
        self.most_links = most_links
        self.tick = tick
        self.requests = 0
        self.lock = threading.RLock()
        self.root = Node(Kind.FOLDER, 0o755, self.now())

    def now(self) -> int:
        """Whole Unix seconds by the disk's clock."""
        return int(self.clock())

    # What a reader or a test sees.

    def find(self, path: bytes, *, follow: bool = True) -> Node | None:
        """Return what stands at `path`, or None."""
        with self.lock:
            try:
                return self.locate(path, follow=follow)
            except _No:
                return None

    def read(self, path: bytes) -> bytes | None:
        """Read a file as a web server would, through any link; None where there is none."""
        with self.lock:
            node = self.find(path)
            return bytes(node.data) if node is not None and node.kind is Kind.FILE else None

    def tree(self, path: bytes = b"") -> dict[bytes, Node]:
        """Return everything below what `path` leads to, by relative path; links are shown, not followed."""
        with self.lock:
            top = self.find(path)
            return dict(_below(top)) if top is not None else {}

    def used(self) -> int:
        """Return the bytes of content, each inode once."""
        seen = {id(node): len(node.data) for _, node in _below(self.root)}
        return sum(seen.values())

    # What the requests are made of.

    def locate(self, path: bytes, *, follow: bool) -> Node:
        """Return what stands at `path`, a link in the end followed or not; links on the way always are."""
        todo = deque(name for name in path.split(b"/") if name not in (b"", b"."))
        trail = [self.root]
        chain = 0
        while todo:
            name = todo.popleft()
            if name == b"..":
                trail = trail[:-1] or [self.root]
                continue
            here = trail[-1]
            if here.kind is not Kind.FOLDER or name not in here.names:
                raise _No(Trouble.MISSING, "No such file")
            node = here.names[name]
            if node.kind is Kind.LINK and (todo or follow):
                chain += 1
                if chain > _LONGEST_CHAIN:
                    raise _No(Trouble.MISSING, "Too many levels of symbolic links")
                todo.extendleft(reversed([part for part in node.target.split(b"/") if part not in (b"", b".")]))
                if node.target.startswith(b"/"):
                    trail = [self.root]
                continue
            trail.append(node)
        return trail[-1]

    def place(self, path: bytes) -> tuple[Node, bytes]:
        """Return the folder that holds `path`, and its name there."""
        above, _, name = path.rpartition(b"/")
        folder = self.locate(above, follow=True)
        if folder.kind is not Kind.FOLDER:
            raise _No(Trouble.MISSING, "Not a directory")
        if not name:
            raise _No(Trouble.FAILED, "Failure")
        return folder, name

    def add(self, path: bytes, node: Node) -> None:
        """Give an inode a name that is free."""
        folder, name = self.place(path)
        if name in folder.names:
            raise _No(Trouble.FAILED, "Failure")
        folder.names[name] = node
        folder.mtime = self.now()

    def take_room(self, more: int) -> None:
        """Make sure that `more` bytes fit."""
        if self.room is not None and self.used() + more > self.room:
            raise _No(Trouble.FULL, "Failure")


def _below(top: Node, prefix: bytes = b"") -> Iterator[tuple[bytes, Node]]:
    for name, node in list(top.names.items()):
        yield prefix + name, node
        if node.kind is Kind.FOLDER:
            yield from _below(node, prefix + name + b"/")


@dataclass(frozen=True, slots=True)
class Cut:
    """Where it ends: at request number `at` of one connection (from 0), or of the first operation that `at` picks.

    Before the request is carried out, or `after` it, unanswered. `killed` ends our own process with it; otherwise only
    the connection is lost.
    """

    at: int | Callable[[Op], bool]
    after: bool = False
    killed: bool = False

    def hits(self, number: int, op: Op) -> bool:
        """Tell whether it is now."""
        return self.at == number if isinstance(self.at, int) else self.at(op)


_Request = Generator[None, None, Any]
"""One operation under way: it stops before each of its requests, and returns the operation's value."""


class MemoryFiles:
    """`Files` on a `Disk`: one connection.

    Without `order` operations are carried out one after the other; with it, requests of all operations of one
    call are mixed at random, so that a cut leaves any subset of them done. `requests` counts what was asked, `flights`
    how many round trips a client would wait for that sends all it can at once.
    """

    def __init__(
        self,
        disk: Disk,
        *,
        cut: Cut | None = None,
        order: random.Random | None = None,
        umask: int = 0o022,
        traits: Traits | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Connect; nothing is asked yet."""
        self.traits = traits or Traits(
            ordered=True, symlink=True, hard_link=True, replace=True, space=True, copy_data=True
        )
        self.requests = 0
        self.flights = 0
        self.done: list[Op] = []
        """Every operation that was begun, in this order."""
        self.late: list[_Request] = []
        """What was under way when the connection was lost; `arrive` lets the other side do it all the same."""
        self._disk = disk
        self._cut = cut
        self._order = order
        self._umask = umask
        self._clock = clock
        self._moved = [0, 0]
        self._ended: BaseException | None = None

    def carry_out(self, ops: Iterable[Op], pulse: Pulse | None = None) -> Iterator[Outcome]:
        """Do all, in any order."""
        source = iter(ops)
        if self._order is not None:
            mixed = list(source)
            self._order.shuffle(mixed)
            source = iter(mixed)
        under_way: list[tuple[Op, _Request]] = []
        deepest = 0
        beaten = self._clock() if self._clock else 0.0
        while True:
            if pulse is not None and self._clock is not None and self._clock() - beaten >= pulse.every:
                beaten = self._clock()
                under_way.append(self._begin(pulse.make()))
            while not under_way or self._order is not None:
                if (op := next(source, None)) is None:
                    break
                under_way.append(self._begin(op))
            if not under_way:
                return
            at = self._order.randrange(len(under_way)) if self._order is not None else 0
            op, request = under_way[at]
            self.flights += max(0, _depth(op) - deepest)
            deepest = max(deepest, _depth(op))
            outcome = self._advance(op, request, [other for _, other in under_way])
            if outcome is not None:
                del under_way[at]
                yield outcome

    def in_order(self, ops: Sequence[Op]) -> list[Outcome]:
        """Do one after the other."""
        depths = [_depth(op) for op in ops]
        self.flights += 1 + sum(depth - 1 for depth in depths) if self.traits.ordered else sum(depths)
        outcomes = []
        for index, op in enumerate(ops):
            begun, request = self._begin(op)
            rest = [self._start(later) for later in ops[index + 1 :]] if self.traits.ordered else []
            while (outcome := self._advance(begun, request, [request, *rest])) is None:
                pass
            outcomes.append(outcome)
        return outcomes

    def bytes_moved(self) -> tuple[int, int]:
        """Return payload bytes sent and received."""
        return self._moved[0], self._moved[1]

    def abort(self) -> None:
        """Break off; whoever works here gets Cancelled."""
        self._ended = Cancelled("memory: broken off")

    def close(self) -> None:
        """Let go; nothing is asked any more."""
        self._ended = self._ended or Unavailable("memory: the connection is closed")

    def arrive(self) -> None:
        """Let the other side carry out what was on its way when the connection was lost."""
        late, self.late = self.late, []
        for request in late:
            try:
                with self._disk.lock:
                    next(request)
            except (StopIteration, _No):
                continue

    def _begin(self, op: Op) -> tuple[Op, _Request]:
        self.done.append(op)
        return op, self._start(op)

    def _start(self, op: Op) -> _Request:
        request = self._requests[type(op)](self, op)
        next(request)
        return request

    def _advance(self, op: Op, request: _Request, under_way: list[_Request]) -> Outcome | None:
        """Carry out one request; return the operation's outcome after its last."""
        if self._ended is not None:
            raise self._ended
        number = self.requests
        self.requests += 1
        hit = self._cut is not None and self._cut.hits(number, op)
        if hit and self._cut is not None and not self._cut.after:
            self._end(under_way)
        with self._disk.lock:
            if self._disk.tick is not None:
                self._disk.tick(self._disk.requests)
            self._disk.requests += 1
            outcome: Outcome | None = None
            try:
                next(request)
            except StopIteration as done:
                outcome = Outcome(op, done.value)
            except _No as no:
                outcome = Outcome(op, trouble=no.trouble, text=no.text)
        if hit:
            self._end([other for other in under_way if other is not request])
        return outcome

    def _end(self, under_way: list[_Request]) -> None:
        self.late = under_way
        assert self._cut is not None
        self._ended = Killed() if self._cut.killed else Unavailable("memory: the connection was lost")
        raise self._ended

    # The operations. Each stops before every request; the first `yield` is before the first request.

    def _put(self, op: Put) -> _Request:
        yield
        node = Node(Kind.FILE, op.mode & ~self._umask, self._disk.now())
        self._disk.add(op.path, node)
        try:
            with op.open() as source:
                data = source.read()
        except Damaged as e:
            raise _No(Trouble.DAMAGED, str(e)) from e
        half = (len(data) + 1) // 2
        for part in (data[:half], data[half:]):
            yield
            self._write(node, len(node.data), part)
        if len(data) != op.size or (op.digest is not None and hashlib.sha256(data).digest() != op.digest):
            raise _No(Trouble.DAMAGED, "the bytes are not the recorded ones")
        yield
        node.mode = op.mode
        if op.mtime is not None:
            node.mtime = op.mtime

    def _patch(self, op: Patch) -> _Request:
        yield
        if not self.traits.copy_data:
            raise _No(Trouble.UNSUPPORTED, "Operation unsupported")
        base = self._disk.locate(op.base, follow=True)
        yield
        node = Node(Kind.FILE, op.mode & ~self._umask, self._disk.now())
        self._disk.add(op.path, node)
        try:
            with op.open() as source:
                data = source.read()
        except Damaged as e:
            raise _No(Trouble.DAMAGED, str(e)) from e
        digest = hashlib.sha256()
        for at, size in gaps(op.copies, op.size):
            yield
            digest.update(data[at : at + size])
            self._write(node, at, data[at : at + size])
        if digest.digest() != op.digest:
            raise _No(Trouble.DAMAGED, "the bytes are not the recorded ones")
        for copy in op.copies:
            yield
            if base.kind is not Kind.FILE or copy.old + copy.size > len(base.data):
                raise _No(Trouble.FAILED, "End of file")
            self._write(node, copy.new, bytes(base.data[copy.old : copy.old + copy.size]), sent=False)
        yield
        for at, size in op.check:
            self._moved[1] += size
            if node.data[at : at + size] != data[at : at + size]:
                raise _No(Trouble.FAILED, "what was copied is not what we had written")
        yield
        node.mode = op.mode
        node.mtime = op.mtime

    def _create(self, op: Create) -> _Request:
        yield
        node = Node(Kind.FILE, op.mode & ~self._umask, self._disk.now())
        self._disk.add(op.path, node)
        yield
        self._write(node, 0, op.data)
        node.mode = op.mode
        return node.attributes()

    def _rewrite(self, op: Rewrite) -> _Request:
        yield
        node = self._disk.locate(op.path, follow=True)
        yield
        self._write(node, 0, op.data)

    def _write(self, node: Node, offset: int, data: bytes, *, sent: bool = True) -> None:
        self._disk.take_room(max(0, offset + len(data) - len(node.data)))
        node.data.extend(bytes(max(0, offset - len(node.data))))
        node.data[offset : offset + len(data)] = data
        node.mtime = self._disk.now()
        self._moved[0] += len(data) if sent else 0

    def _make_folder(self, op: MakeFolder) -> _Request:
        yield
        try:
            if op.path:
                self._disk.add(op.path, Node(Kind.FOLDER, op.mode & ~self._umask, self._disk.now()))
        except _No as why:
            node = self._disk.find(op.path, follow=False)
            if node is None or node.kind is not Kind.FOLDER:
                raise why from None
        yield
        self._disk.locate(op.path, follow=False).mode = op.mode

    def _set_mode(self, op: SetMode) -> _Request:
        yield
        self._disk.locate(op.path, follow=True).mode = op.mode

    def _link(self, op: Link) -> _Request:
        yield
        if not self.traits.hard_link:
            raise _No(Trouble.UNSUPPORTED, "Operation unsupported")
        node = self._disk.locate(op.existing, follow=False)
        if node.kind is not Kind.FILE or node.links >= self._disk.most_links:
            raise _No(Trouble.FAILED, "Failure")
        self._disk.add(op.path, node)
        node.links += 1

    def _symlink(self, op: Symlink) -> _Request:
        yield
        if not self.traits.symlink:
            raise _No(Trouble.UNSUPPORTED, "Operation unsupported")
        self._disk.add(op.path, Node(Kind.LINK, 0o777, self._disk.now(), target=op.target))

    def _rename(self, op: Rename) -> _Request:
        yield
        disk = self._disk
        node = disk.locate(op.old, follow=False)
        folder, name = disk.place(op.new)
        there = folder.names.get(name)
        self._refuse_rename(op, node, there)
        if there is not None and (not op.over or (there.kind is Kind.FOLDER) is not (node.kind is Kind.FOLDER)):
            raise _No(Trouble.FAILED, "Failure")
        if there is not None and there.names:
            raise _No(Trouble.FAILED, "Failure")
        if there is node:
            return
        if node is folder or any(below is folder for _, below in _below(node)):
            raise _No(Trouble.FAILED, "Failure")
        if there is not None:
            there.links -= 1
        above, old_name = disk.place(op.old)
        del above.names[old_name]
        folder.names[name] = node
        above.mtime = folder.mtime = disk.now()

    def _refuse_rename(self, op: Rename, node: Node, there: Node | None) -> None:
        """Refuse what this account cannot do."""
        can = self.traits
        if op.over and not can.replace and not (can.replace_link and node.kind is Kind.LINK):
            raise _No(Trouble.UNSUPPORTED, "Operation unsupported")
        if there is not None and there.kind is Kind.LINK and not can.replace_link:
            raise _No(Trouble.FAILED, "Failure")
        if node.kind is Kind.FOLDER and not can.rename_folder:
            raise _No(Trouble.FAILED, "Failure")

    def _remove(self, op: Remove) -> _Request:
        yield
        node = self._disk.locate(op.path, follow=False)
        if node.kind is Kind.FOLDER:
            raise _No(Trouble.FAILED, "Failure")
        folder, name = self._disk.place(op.path)
        del folder.names[name]
        node.links -= 1
        folder.mtime = self._disk.now()

    def _remove_folder(self, op: RemoveFolder) -> _Request:
        yield
        node = self._disk.locate(op.path, follow=False)
        if node.kind is not Kind.FOLDER or node.names:
            raise _No(Trouble.FAILED, "Failure")
        folder, name = self._disk.place(op.path)
        del folder.names[name]
        folder.mtime = self._disk.now()

    def _read_link(self, op: ReadLink) -> _Request:
        yield
        node = self._disk.locate(op.path, follow=False)
        if node.kind is not Kind.LINK:
            raise _No(Trouble.FAILED, "Failure")
        return node.target

    def _stat(self, op: Stat) -> _Request:
        yield
        return self._disk.locate(op.path, follow=False).attributes()

    def _list(self, op: List) -> _Request:
        yield
        node = self._disk.locate(op.path, follow=True)
        if node.kind is not Kind.FOLDER:
            raise _No(Trouble.MISSING, "Not a directory")
        yield
        return {name: entry.attributes() for name, entry in node.names.items()}

    def _walk(self, op: Walk) -> _Request:
        yield
        node = self._disk.locate(op.path, follow=True)
        if node.kind is not Kind.FOLDER:
            raise _No(Trouble.MISSING, "Not a directory")
        yield
        return {path: entry.attributes() for path, entry in _below(node)}

    def _read(self, op: Read) -> _Request:
        yield
        node = self._disk.locate(op.path, follow=True)
        yield
        if node.kind is not Kind.FILE or len(node.data) > op.limit:
            raise _No(Trouble.FAILED, "Failure")
        self._moved[1] += len(node.data)
        return bytes(node.data)

    def _read_part(self, op: ReadPart) -> _Request:
        yield
        node = self._disk.locate(op.path, follow=True)
        yield
        if node.kind is not Kind.FILE:
            raise _No(Trouble.FAILED, "Failure")
        data = bytes(node.data[op.offset : op.offset + op.size])
        self._moved[1] += len(data)
        return data

    def _hash(self, op: Hash) -> _Request:
        yield
        if "sha256" not in self.traits.hashes:
            raise _No(Trouble.UNSUPPORTED, "Operation unsupported")
        node = self._disk.locate(op.path, follow=True)
        if node.kind is not Kind.FILE:
            raise _No(Trouble.FAILED, "Failure")
        return hashlib.sha256(node.data).digest()

    def _space(self, op: Space) -> _Request:
        yield
        self._disk.locate(op.path, follow=True)
        if self._disk.room is None or not self.traits.space:
            raise _No(Trouble.UNSUPPORTED, "Operation unsupported")
        return max(0, self._disk.room - self._disk.used())

    _requests: ClassVar[dict[type, Callable[[Any, Any], _Request]]] = {
        Put: _put,
        Patch: _patch,
        Create: _create,
        Rewrite: _rewrite,
        MakeFolder: _make_folder,
        SetMode: _set_mode,
        Link: _link,
        Symlink: _symlink,
        Rename: _rename,
        Remove: _remove,
        RemoveFolder: _remove_folder,
        ReadLink: _read_link,
        Stat: _stat,
        List: _list,
        Walk: _walk,
        Read: _read,
        ReadPart: _read_part,
        Hash: _hash,
        Space: _space,
    }


_DEPTHS: dict[type, int] = {Put: 3, Patch: 3, Create: 2, Rewrite: 2, List: 2, Walk: 4, Read: 2, ReadPart: 2}


def _depth(op: Op) -> int:
    """Return how many round trips one operation takes: requests that need a handle wait for it."""
    return _DEPTHS.get(type(op), 1)
