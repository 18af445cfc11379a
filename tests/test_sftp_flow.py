"""How operations become requests: order, bounds, round trips, and what is made of bad answers."""

from __future__ import annotations

import hashlib
import io
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrord.delta import Copy, gaps
from mirrord.errors import Damaged
from mirrord.hosts.files import (
    Create,
    Kind,
    Link,
    List,
    MakeFolder,
    Op,
    Outcome,
    Patch,
    Put,
    Read,
    ReadLink,
    ReadPart,
    Remove,
    Rename,
    Rewrite,
    SetMode,
    Space,
    Stat,
    Trouble,
    Walk,
)
from mirrord.hosts.sftp import wire
from mirrord.hosts.sftp.dialogue import COPY_DATA, HARD_LINK, LARGEST_COPY, POSIX_RENAME, STATVFS, Terms
from mirrord.hosts.sftp.flow import LARGEST_TREE, Flow
from mirrord.hosts.sftp.wire import Attrs, Code, Malformed, OpenFlags, Reply, Request, Status

ALL = frozenset({COPY_DATA, HARD_LINK, POSIX_RENAME, STATVFS})
TERMS = Terms(extensions=ALL, handles=1000, ordered=True)
GOOD = Status(Code.OK)
BAD = Status(Code.FAILURE, b"Failure")
DENIED = Status(Code.PERMISSION_DENIED, b"Permission denied")


@dataclass
class File:
    """What stands at a path on the peer."""

    data: bytearray = field(default_factory=bytearray)
    mode: int = stat.S_IFREG | 0o600
    mtime: int = 0


@dataclass
class Peer:
    """A small honest SFTP server in memory, one channel, in order; `refuse` makes it less honest."""

    files: dict[bytes, File] = field(default_factory=dict)
    folders: dict[bytes, int] = field(default_factory=lambda: {b".": 0o755})
    refuse: Callable[[Request], Reply | None] = lambda _: None
    handle_limit: int = 1000
    longest_read: int = 1 << 20
    names_at_once: int = 100
    tells_attributes: bool = True
    asked: list[Request] = field(default_factory=list)
    _open: dict[bytes, tuple[bytes, list[bytes]]] = field(default_factory=dict)
    _frames: wire.Frames = field(default_factory=wire.Frames)
    _count: int = 0

    def answer(self, stream: bytes) -> bytes:
        """Read requests and return the replies."""
        replies = []
        for packet in self._frames.feed(stream):
            number, request = wire.decode_request(packet)
            self.asked.append(request)
            replies.append(wire.encode(number, self.refuse(request) or self._reply(request)))
        return b"".join(replies)

    def of_kind(self, *kinds: type[Request]) -> list[Request]:
        """Return the requests of some kinds that came so far."""
        return [request for request in self.asked if isinstance(request, kinds)]

    @property
    def handles(self) -> int:
        """Return how many handles are open."""
        return len(self._open)

    def _reply(self, request: Request) -> Reply:
        match request:
            case wire.Open(path, flags):
                return self._open_file(path, flags)
            case wire.OpenDir(path):
                if path not in self.folders:
                    return Status(Code.NO_SUCH_FILE)
                inside = b"" if path == b"." else path + b"/"
                names = [p for p in (*self.files, *self.folders) if p.startswith(inside) and p not in (b".", path)]
                return self._handle(path, [p for p in names if b"/" not in p[len(inside) :]])
            case wire.ReadDir(handle):
                path, names = self._open[handle]
                some, names[:] = names[: self.names_at_once], names[self.names_at_once :]
                found = [wire.Name(n.rpartition(b"/")[2], b"", self._attrs(n, self.tells_attributes)) for n in some]
                return wire.Names(tuple(found)) if found else Status(Code.EOF)
            case wire.Read(handle, offset, length):
                data = self.files[self._open[handle][0]].data[offset : offset + min(length, self.longest_read)]
                return wire.Data(bytes(data)) if data else Status(Code.EOF)
            case wire.Write(handle, offset, data):
                written = self.files[self._open[handle][0]].data
                written.extend(bytes(max(0, offset - len(written))))
                written[offset : offset + len(data)] = data
                return GOOD
            case wire.CopyData(handle, offset, length, to, to_offset):
                assert self._open[handle][0] != self._open[to][0]
                data = self.files[self._open[handle][0]].data[offset : offset + length]
                new = self.files[self._open[to][0]].data
                new.extend(bytes(max(0, to_offset - len(new))))
                new[to_offset : to_offset + len(data)] = data
                return GOOD if len(data) == length else Status(Code.EOF)
            case wire.FStat(handle):
                return wire.Attributes(self._attrs(self._open[handle][0]))
            case wire.FSetStat(handle, attrs):
                file = self.files[self._open[handle][0]]
                file.mode = stat.S_IFREG | (attrs.mode or 0)
                file.mtime = attrs.times[1] if attrs.times else file.mtime
                return GOOD
            case wire.Close(handle):
                del self._open[handle]
                return GOOD
            case wire.LStat(path):
                known = path in self.files or path in self.folders
                return wire.Attributes(self._attrs(path)) if known else Status(Code.NO_SUCH_FILE)
            case wire.MakeDir(path, attrs):
                if path in self.folders or path in self.files:
                    return BAD
                self.folders[path] = (attrs.mode or 0) & 0o700  # umask 077
                return GOOD
            case wire.SetStat(path, attrs):
                path = path.removesuffix(b"/.")
                if path not in self.folders:
                    return Status(Code.NO_SUCH_FILE)
                self.folders[path] = attrs.mode or 0
                return GOOD
            case wire.Rename(old, new) | wire.PosixRename(old, new):
                self.files[new] = self.files.pop(old)
                return GOOD
            case wire.Remove(path):
                return GOOD if self.files.pop(path, None) else Status(Code.NO_SUCH_FILE, b"No such file")
            case wire.HardLink(existing, path):
                self.files[path] = self.files[existing]
                return GOOD
            case wire.StatVfs():
                return wire.ExtendedReply(wire.Space(4096, 512, 0, 0, 7, 0, 0, 0, 0, 0, 0).encode())
            case _:
                return Status(Code.OP_UNSUPPORTED)

    def _open_file(self, path: bytes, flags: int) -> Reply:
        if path in self.files:
            return BAD if flags & OpenFlags.EXCLUSIVE else self._handle(path, [])
        if not flags & OpenFlags.CREATE:
            return Status(Code.NO_SUCH_FILE, b"No such file")
        reply = self._handle(path, [])
        if isinstance(reply, wire.Handle):
            self.files[path] = File()
        return reply

    def _handle(self, path: bytes, names: list[bytes]) -> Reply:
        if len(self._open) >= self.handle_limit:
            return BAD
        self._count += 1
        handle = b"%d" % self._count
        self._open[handle] = (path, names)
        return wire.Handle(handle)

    def _attrs(self, path: bytes, tell: bool = True) -> Attrs:
        if not tell:
            return Attrs()
        if path in self.folders:
            return Attrs(mode=stat.S_IFDIR | self.folders[path], size=4096, times=(5, 5))
        file = self.files[path]
        return Attrs(mode=file.mode, size=len(file.data), times=(file.mtime, file.mtime))


class Line:
    """Lanes of a flow joined with peers; a round trip carries what waits, `carries` bytes at most, there and back."""

    def __init__(self, *peers: Peer, terms: Terms = TERMS, pause: float = 0.05, carries: int = 1 << 30) -> None:
        self.flow = Flow([terms] * len(peers))
        self.peers = peers
        self.pause = pause
        self.carries = carries
        self.now = 0.0
        self.rounds = 0
        self.most_in_flight = 0
        self.most_answered = 0

    def round_trip(self) -> None:
        """Carry everything there and back."""
        self.rounds += 1
        self.now += self.pause
        sent = [lane.take(self.carries) for lane in self.flow.lanes]
        self.most_in_flight = max([self.most_in_flight, *map(len, sent)])
        for place, (peer, data) in enumerate(zip(self.peers, sent, strict=True)):
            answer = peer.answer(data)
            self.most_answered = max(self.most_answered, len(answer))
            self.flow.feed(place, answer, self.now)

    def carry_out(self, ops: Iterable[Op]) -> list[Outcome]:
        """Carry out all, as `session` does."""
        source = iter(ops)
        held = next(source, None)
        while held is not None or self.flow.busy:
            while held is not None and self.flow.offer(held, self.now):
                held = next(source, None)
            self.round_trip()
            assert self.rounds < 10_000, "it never ends"
        outcomes = list(self.flow.outcomes)
        self.flow.outcomes.clear()
        return outcomes

    def one(self, op: Op) -> Outcome:
        """Carry out one operation."""
        (outcome,) = self.carry_out([op])
        return outcome


def put(path: bytes, data: bytes, *, size: int | None = None, digest: bytes | None = None) -> Put:
    """Return the writing of a file."""
    return Put(path, len(data) if size is None else size, 1234, 0o644, lambda: io.BytesIO(data), digest)


def test_a_thousand_small_files_take_a_few_round_trips() -> None:
    """Latency decides: a file at a time is five files a second at 50 ms."""
    peer = Peer()
    line = Line(peer)
    files = {b"%d.html" % n: b"page %d" % n for n in range(1000)}

    outcomes = line.carry_out(put(path, data, digest=hashlib.sha256(data).digest()) for path, data in files.items())

    assert all(outcome.good for outcome in outcomes)
    assert len(outcomes) == 1000
    assert line.rounds <= 6
    assert {path: bytes(file.data) for path, file in peer.files.items()} == files
    assert {(file.mode & 0o777, file.mtime) for file in peer.files.values()} == {(0o644, 1234)}
    assert peer.handles == 0


def test_the_time_of_a_file_is_set_only_after_every_write_was_answered() -> None:
    """The mtime is the mark of a whole file: a crash before it must leave none."""
    peer = Peer()
    line = Line(peer)
    line.flow.offer(put(b"f", b"x" * 100_000), 0.0)

    line.round_trip()
    writes = line.flow.lanes[0].take(1 << 30)
    assert line.flow.lanes[0].unsent == 0
    answers = peer.answer(writes)
    assert peer.of_kind(wire.FSetStat, wire.Close) == []
    line.flow.feed(0, answers[:-30], line.now)  # all answers but the last
    assert line.flow.lanes[0].unsent == 0
    line.flow.feed(0, answers[-30:], line.now)
    line.round_trip()
    assert [type(request) for request in peer.asked[-2:]] == [wire.FSetStat, wire.Close]


@pytest.mark.parametrize("refused", range(4), ids=lambda n: f"block {n}")
def test_one_refused_block_fails_the_file(refused: int) -> None:
    """Elsewhere a refused block went unnoticed and a corrupt file was called good."""
    peer = Peer(refuse=lambda r: BAD if isinstance(r, wire.Write) and r.offset == refused * 32768 else None)
    line = Line(peer)

    outcome = line.one(put(b"f", b"x" * 4 * 32768))
    line.round_trip()

    assert (outcome.trouble, outcome.text) == (Trouble.FULL, "Failure")
    assert peer.of_kind(wire.FSetStat) == []
    assert peer.handles == 0


@pytest.mark.parametrize("kind", [wire.Open, wire.FSetStat, wire.Close])
def test_every_other_refused_request_fails_the_file_too(kind: type[Request]) -> None:
    """A disk can be found full at any of them."""
    line = Line(Peer(refuse=lambda r: BAD if isinstance(r, kind) else None))

    assert line.one(put(b"f", b"data")).trouble is Trouble.FAILED


def test_a_disk_that_fills_up_stops_a_large_file_early() -> None:
    """Nobody wants to send ten gigabytes into a full disk."""
    peer = Peer(refuse=lambda r: BAD if isinstance(r, wire.Write) and r.offset >= 1 << 20 else None)
    line = Line(peer)

    outcome = line.one(Put(b"f", 1 << 30, 1, 0o644, Endless))

    assert outcome.trouble is Trouble.FULL
    assert len(peer.of_kind(wire.Write)) < 100


class Endless(io.BytesIO):
    """Content without end."""

    def read(self, size: int | None = -1) -> bytes:
        """Return as much as is asked for."""
        return b"x" * (size or 0)


def broken() -> BinaryIO:
    """Content that is not there."""
    raise Damaged("the store has lost it")


@pytest.mark.parametrize(
    "op",
    [
        pytest.param(put(b"f", b"data", digest=hashlib.sha256(b"date").digest()), id="other bytes"),
        pytest.param(put(b"f", b"data", size=5), id="shorter"),
        pytest.param(put(b"f", b"data", size=3), id="longer"),
        pytest.param(put(b"f", b"", size=1), id="empty"),
        pytest.param(put(b"f", b"x", size=0), id="should be empty"),
        pytest.param(Put(b"f", 4, 1, 0o644, broken), id="not there"),
    ],
)
def test_our_own_damaged_copy_is_noticed_as_it_is_sent(op: Put) -> None:
    """What we promised in the manifest is what goes out, or nothing is called good."""
    peer = Peer()
    line = Line(peer)

    outcome = line.one(op)
    line.round_trip()

    assert outcome.trouble is Trouble.DAMAGED
    assert outcome.text
    assert peer.of_kind(wire.FSetStat) == []
    assert peer.handles == 0


@settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(0, 300_000), max_size=30),
    in_flight=st.integers(70_000, 600_000),
    lanes=st.integers(1, 3),
    block=st.sampled_from([32768, 65536]),
)
def test_what_is_unanswered_stays_within_the_window(sizes: list[int], in_flight: int, lanes: int, block: int) -> None:
    """A server that does not read because we do not read: both would wait for ever."""
    peers = [Peer() for _ in range(lanes)]
    line = Line(*peers, terms=Terms(in_flight=in_flight, block=block, extensions=ALL))

    outcomes = line.carry_out(put(b"%d" % n, bytes(size)) for n, size in enumerate(sizes))

    assert all(outcome.good for outcome in outcomes)
    assert line.most_in_flight <= in_flight + 100 * len(sizes)  # what ends files is let through
    assert sorted(len(f.data) for peer in peers for f in peer.files.values()) == sorted(sizes)


@pytest.mark.parametrize("size", [1_000, 32_768, 131_072])
@pytest.mark.parametrize("kind", [Read, ReadPart])
def test_no_more_is_asked_for_than_can_be_taken_in(kind: type[Read | ReadPart], size: int) -> None:
    """Opening takes a hundred bytes and reading a hundred thousand: a thousand open files are not read at once."""
    peer = Peer(files={b"%d" % n: File(bytearray(size)) for n in range(1000)})
    line = Line(peer, terms=Terms(in_flight=2_000_000, handles=1000, extensions=ALL, replies=1_000_000))

    outcomes = line.carry_out(
        Read(path, size) if kind is Read else ReadPart(path, 0, size) for path in list(peer.files)
    )

    assert all(len(outcome.value) == size for outcome in outcomes)
    assert line.most_answered <= 1_000_000 + 2 * size + 1000 * 30  # a last one, and what is not content
    assert line.rounds <= 10 + 4 * 1000 * size // 1_000_000


def test_content_is_opened_only_when_there_is_room_to_send_it() -> None:
    """A thousand files are under way, but not a thousand of ours open, nor all their bytes in memory."""
    opened = 0

    class Counted(io.BytesIO):
        def __init__(self) -> None:
            nonlocal opened
            opened += 1
            super().__init__(bytes(70_000))

        def close(self) -> None:
            nonlocal opened
            opened -= not self.closed
            super().close()

    line, most = Line(Peer(), carries=40_000), 0
    ops: Iterator[Op] = (Put(b"%d" % n, 70_000, 1, 0o644, Counted) for n in range(200))
    held = next(ops, None)
    while held is not None or line.flow.busy:
        while held is not None and line.flow.offer(held, line.now):
            held = next(ops, None)
        line.round_trip()
        most = max(most, opened)

    assert len(line.flow.outcomes) == 200
    assert most <= 2
    assert opened == 0


def test_operations_are_pulled_as_room_is() -> None:
    """A site of a hundred thousand files is not held in memory twice."""
    pulled = 0
    peer = Peer(files={b"base": File()})
    line = Line(peer)

    def links() -> Iterator[Link]:
        nonlocal pulled
        for n in range(20_000):
            pulled += 1
            yield Link(b"base", b"%d" % n)

    assert sum(line.flow.offer(put(b"p%d" % n, bytes(1_000_000)), 0.0) for n in range(100)) < 5
    line.carry_out([])
    source = links()
    while line.flow.offer(next(source), 0.0):
        pass
    assert pulled < 3000
    outcomes = line.carry_out(source)
    assert all(outcome.good for outcome in outcomes)
    assert (
        sum(not path.startswith(b"p") for path in peer.files) == 20_000
    )  # the base, and all but the one that was pulled when there was no room


@pytest.mark.parametrize("limit", [1, 5, 40])
def test_a_host_with_few_handles_gets_as_many_as_it_takes(limit: int) -> None:
    """Some hosters allow one open file, and say only "Failure"; that must not fail a site."""
    peer = Peer(handle_limit=limit)
    line = Line(peer)

    outcomes = line.carry_out(put(b"%d" % n, b"data") for n in range(200))

    assert [outcome for outcome in outcomes if not outcome.good] == []
    assert len(peer.files) == 200


def test_a_file_that_cannot_be_made_fails_beside_others_that_can() -> None:
    """The status "Failure" means so much: where fewer handles do not help, it is said of that file only."""
    peer = Peer(files={b"taken": File(bytearray(b"old"))})
    line = Line(peer)

    outcomes = line.carry_out(put(path, b"data") for path in [b"a", b"taken", *(b"%d" % n for n in range(50))])

    assert [outcome.op.path for outcome in outcomes if not outcome.good] == [b"taken"]  # type: ignore[union-attr]
    assert bytes(peer.files[b"taken"].data) == b"old"


def test_creating_what_exists_fails_at_once() -> None:
    """The lock of another mirrord is no shortage of handles."""
    line = Line(Peer(files={b"lock": File()}))

    outcome = line.one(Create(b"lock", b"me"))

    assert outcome.trouble is Trouble.FAILED
    assert line.rounds == 1


def test_less_is_under_way_from_the_moment_it_is_asked_for() -> None:
    """A limit that begins while a large file travels: what is sent ahead would stand before the next heartbeat."""
    line = Line(Peer(), terms=replace(TERMS, in_flight=1_000_000, block=32_768))
    line.flow.offer(put(b"a", bytes(20_000_000)), line.now)

    def under_way() -> int:
        for _ in range(8):
            line.round_trip()
        return line.flow.lanes[0].unsent

    before = under_way()
    line.flow.bound(100_000)
    bounded = under_way()
    line.flow.bound(None)
    after = under_way()

    assert bounded <= 100_000 < min(before, after)


def test_a_heartbeat_goes_out_while_a_large_file_fills_the_window() -> None:
    """A lock that is not rewritten for a minute is taken for dead, and a large file takes longer."""
    peer = Peer(files={b"lock": File(bytearray(b"old"))})
    line = Line(peer)
    line.flow.offer(Put(b"large", 1 << 24, 1, 0o644, Endless), 0.0)
    for _ in range(3):
        line.round_trip()

    line.flow.slip_in(Rewrite(b"lock", b"new"), line.now)
    line.round_trip()
    line.round_trip()

    assert bytes(peer.files[b"lock"].data) == b"new"
    assert line.flow.busy
    line.round_trip()
    assert [outcome.op for outcome in line.flow.outcomes] == [Rewrite(b"lock", b"new")]


def test_rewriting_neither_makes_nor_truncates() -> None:
    """A late heartbeat must not bring a lost lock back."""
    peer = Peer(files={b"lock": File(bytearray(b"longer than before"))})
    line = Line(peer)

    assert line.one(Rewrite(b"gone", b"x")).trouble is Trouble.MISSING
    assert line.one(Rewrite(b"lock", b"LONGER")).good
    assert bytes(peer.files[b"lock"].data) == b"LONGER than before"
    assert b"gone" not in peer.files


def test_a_slow_line_has_less_on_its_way() -> None:
    """Over a slow line two megabytes are a minute, and a heartbeat waits behind them."""
    fast, slow = Line(Peer(), pause=0.05), Line(Peer(), pause=10.0)

    for line in (fast, slow):
        line.flow.offer(Put(b"f", 1 << 26, 1, 0o644, Endless), line.now)
        for _ in range(8):
            line.round_trip()

    assert fast.flow.lanes[0].unsent > 500_000
    assert slow.flow.lanes[0].unsent < 200_000


def test_small_operations_in_order_are_one_flight_where_the_server_keeps_order() -> None:
    """The switch of `current` is rename, look, look again: 50 ms, not 150."""
    line = Line(Peer(files={b"a": File()}))

    ops: list[Op] = [Rename(b"a", b"b"), Remove(b"nothing"), Stat(b"b"), Rename(b"b", b"c"), Stat(b"b")]
    outcomes = line.flow.in_order(ops, 0.0)

    line.round_trip()
    assert [o and o.trouble for o in outcomes] == [None, Trouble.MISSING, None, None, Trouble.MISSING]
    assert not line.flow.busy


def test_folders_in_order_are_one_flight_and_have_their_modes_before_what_follows() -> None:
    """A folder is made with its mode in spite of the umask, then given its final one, then moved: all in 50 ms."""
    peer = Peer()
    line = Line(peer)

    outcomes = line.flow.in_order([MakeFolder(b"d"), MakeFolder(b"d/e", 0o750), SetMode(b"d", 0o711), Stat(b"d")], 0.0)

    line.round_trip()
    assert not line.flow.busy
    assert [outcome and outcome.trouble for outcome in outcomes] == [None] * 4
    assert peer.folders == {b".": 0o755, b"d": 0o711, b"d/e": 0o750}


def test_operations_in_order_wait_for_each_other_where_the_server_promises_nothing() -> None:
    """Other servers keep the order of one file's requests only."""
    line = Line(Peer(files={b"a": File()}), terms=Terms(extensions=ALL))

    outcomes = line.flow.in_order([Rename(b"a", b"b"), Rename(b"b", b"c"), Stat(b"c")], 0.0)

    for done in (1, 2, 3):
        line.round_trip()
        assert sum(outcome is not None for outcome in outcomes) == done
    assert all(outcome and outcome.good for outcome in outcomes)


def test_a_new_file_can_be_renamed_in_the_flight_that_finishes_it() -> None:
    """Cards are posted as a temporary file and a rename; the rename need not wait for the file's last reply."""
    peer = Peer()
    line = Line(peer)

    outcomes = line.flow.in_order([put(b"t", b"card"), Rename(b"t", b"card.json", over=True)], 0.0)
    while line.flow.busy:
        line.round_trip()

    assert all(outcome and outcome.good for outcome in outcomes)
    assert line.rounds == 3
    assert bytes(peer.files[b"card.json"].data) == b"card"


def test_a_thousand_folders_in_order_do_not_exhaust_the_stack() -> None:
    """Who comes next is begun from a line, not from within who came before."""
    line = Line(Peer())

    outcomes = line.flow.in_order([MakeFolder(b"%d" % n) for n in range(3000)], 0.0)
    while line.flow.busy:
        line.round_trip()

    assert all(outcome and outcome.good for outcome in outcomes)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_folder_gets_its_mode_in_spite_of_the_umask(*, ordered: bool) -> None:
    """With umask 077 the web server could not enter."""
    peer = Peer()
    line = Line(peer, terms=Terms(ordered=ordered))

    assert line.one(MakeFolder(b"site", 0o755)).good
    assert line.one(MakeFolder(b"private", 0o700)).good
    assert peer.folders == {b".": 0o755, b"site": 0o755, b"private": 0o700}


@pytest.mark.parametrize("ordered", [True, False])
def test_a_folder_that_is_there_is_good_and_a_file_in_its_place_is_not(*, ordered: bool) -> None:
    """Making folders is repeated whenever an interrupted publish goes on; a file there keeps its mode."""
    peer = Peer(files={b"file": File()}, folders={b".": 0o755, b"old": 0o700})
    line = Line(peer, terms=Terms(ordered=ordered))

    assert line.one(MakeFolder(b"old", 0o755)).good
    assert peer.folders[b"old"] == 0o755
    assert line.one(MakeFolder(b"file")).trouble is Trouble.FAILED
    assert peer.files[b"file"].mode & 0o777 == 0o600


def test_a_folder_that_is_not_ours_is_good_if_its_mode_is() -> None:
    """A hoster's own folder, which we may write into: only what has to be changed must be ours to change."""
    peer = Peer(folders={b".": 0o755, b"www": 0o2755}, refuse=lambda r: DENIED if isinstance(r, wire.SetStat) else None)
    line = Line(peer)

    assert line.one(MakeFolder(b"www", 0o755)).good
    assert line.one(MakeFolder(b"www", 0o700)).trouble is Trouble.DENIED


def test_the_root_is_made_with_the_folders_above_it() -> None:
    """A new account is empty."""
    peer = Peer()
    line = Line(peer, terms=Terms(root=b"sites/www/"))

    assert line.one(MakeFolder(b"")).good
    assert line.one(put(b"index.html", b"hello")).good
    assert [*peer.folders, *peer.files] == [b".", b"sites", b"sites/www", b"sites/www/index.html"]


@pytest.mark.parametrize("block", [10, 32768])
@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 1000])
@pytest.mark.parametrize("longest", [7, 1 << 20], ids=["short answers", "whole answers"])
def test_a_file_is_read_whole_however_the_server_cuts_it(block: int, size: int, longest: int) -> None:
    """Some servers give less than was asked, although more is there."""
    data = bytes(range(256)) * 4
    peer = Peer(files={b"f": File(bytearray(data[:size]))}, longest_read=longest)
    line = Line(peer, terms=Terms(block=block))

    outcome = line.one(Read(b"f", 1000))

    assert outcome.value == data[:size]
    line.round_trip()
    assert peer.handles == 0


def test_a_small_file_is_read_in_two_round_trips() -> None:
    """The answer "nothing changed" waits for the card."""
    line = Line(Peer(files={b"card": File(bytearray(b"{}"))}))
    line.flow.offer(Read(b"card", 10_000), 0.0)

    line.round_trip()
    line.round_trip()
    assert [outcome.value for outcome in line.flow.outcomes] == [b"{}"]


@pytest.mark.parametrize("size", [11, 100_000, 10_000_000])
def test_a_file_longer_than_the_limit_is_not_read(size: int) -> None:
    """A hostile host may offer a card without end."""
    peer = Peer(files={b"f": File(bytearray(size))})
    line = Line(peer)

    outcome = line.one(Read(b"f", 10))

    assert (outcome.trouble, outcome.value) == (Trouble.FAILED, None)
    assert len(peer.of_kind(wire.Read)) == 1


PATHS = st.lists(st.binary(min_size=1, max_size=3).filter(lambda n: not set(n) & set(b"/\0.")), min_size=1, max_size=4)


@settings(max_examples=50)
@given(paths=st.lists(PATHS, max_size=20), lanes=st.integers(1, 3), at_once=st.integers(1, 4), tells=st.booleans())
def test_a_walk_finds_every_path_at_every_depth(
    paths: list[list[bytes]], lanes: int, at_once: int, *, tells: bool
) -> None:
    """What is staged is compared with the plan, path by path, and names may be any bytes."""
    folders = {b".": 0o755, b"top": 0o755}
    for path in paths:
        for depth in range(1, len(path) + 1):
            folders[b"/".join([b"top", *path[:depth]])] = 0o755
    files = {path + b"/f.f": File(bytearray(b"abc"), mtime=9) for path in folders if path != b"."}
    peers = [Peer(dict(files), dict(folders), names_at_once=at_once, tells_attributes=tells) for _ in range(lanes)]

    found = Line(*peers).one(Walk(b"top")).value

    wanted = {path.removeprefix(b"top/") for path in (*folders, *files)} - {b".", b"top"}
    assert set(found) == wanted
    assert {a.kind for p, a in found.items() if p.endswith(b"f.f")} <= {Kind.FILE}
    assert found[b"f.f"].size == 3
    assert found[b"f.f"].mtime == 9


def test_a_walk_goes_down_all_branches_at_once() -> None:
    """A tree of thousands of files is listed in two round trips for each level, however wide it is."""
    folders = {b".": 0o755} | {b"/".join([b"%d" % n, *[b"d"] * depth]): 0o755 for n in range(50) for depth in range(3)}
    line = Line(Peer(folders=folders))

    assert len(line.one(Walk(b"")).value) == 150
    assert line.rounds <= 9


@pytest.mark.parametrize("name", [b"..\\x/../../etc", b"a/b", b"", b"a\0b"])
def test_a_listing_with_an_impossible_name_fails(name: bytes) -> None:
    """Paths from outside never leave their root."""
    entry = wire.Name(name, b"", Attrs(mode=stat.S_IFREG))
    line = Line(Peer(refuse=lambda r: wire.Names((entry,)) if isinstance(r, wire.ReadDir) else None))

    assert "impossible name" in line.one(List(b"")).text
    assert line.one(Walk(b"")).trouble is Trouble.FAILED


def test_a_listing_without_end_fails() -> None:
    """A host that repeats itself must not hold us for ever."""
    entry = wire.Name(b"again", b"", Attrs(mode=stat.S_IFREG))
    line = Line(Peer(refuse=lambda r: wire.Names((entry,)) if isinstance(r, wire.ReadDir) else None))

    assert line.one(List(b"")).trouble is Trouble.FAILED


def test_a_tree_without_end_fails() -> None:
    """A folder that always holds another one ends where paths end."""
    inner = wire.Name(b"deeper" * 40, b"", Attrs(mode=stat.S_IFDIR | 0o755))
    states: dict[bytes, int] = {}

    def refuse(request: Request) -> Reply | None:
        if isinstance(request, wire.OpenDir):
            return wire.Handle(b"%d" % len(request.path))
        if isinstance(request, wire.ReadDir):
            states[request.handle] = states.get(request.handle, 0) + 1
            return wire.Names((inner,)) if states[request.handle] == 1 else Status(Code.EOF)
        return GOOD

    assert LARGEST_TREE > 1_000_000
    assert Line(Peer(refuse=refuse)).one(Walk(b"")).text == "the tree has no end"


def test_a_folder_that_cannot_be_listed_is_named() -> None:
    """A walk is whole or it fails."""
    line = Line(
        Peer(
            folders={b".": 0, b"a": 0, b"a/b": 0},
            refuse=lambda r: DENIED if r == wire.OpenDir(b"a/b") else None,
        )
    )

    outcome = line.one(Walk(b""))

    assert (outcome.trouble, outcome.text) == (Trouble.DENIED, "a/b: Permission denied")
    assert line.one(Walk(b"nothing")).trouble is Trouble.MISSING


def test_what_the_server_does_not_offer_is_not_asked() -> None:
    """Without extensions the layouts choose another way."""
    peer = Peer(files={b"a": File()})
    line = Line(peer, terms=Terms())

    troubles = [line.one(op).trouble for op in (Link(b"a", b"b"), Rename(b"a", b"b", over=True), Space(b""))]

    assert troubles == [Trouble.UNSUPPORTED] * 3
    assert peer.asked == []


def test_free_space_counts_in_fragments_what_we_may_use() -> None:
    """bavail, not bfree: what is kept for root is not ours."""
    assert Line(Peer()).one(Space(b"")).value == 7 * 512


@pytest.mark.parametrize(
    ("code", "trouble"),
    [
        (Code.NO_SUCH_FILE, Trouble.MISSING),
        (Code.PERMISSION_DENIED, Trouble.DENIED),
        (Code.OP_UNSUPPORTED, Trouble.UNSUPPORTED),
        (Code.FILE_ALREADY_EXISTS, Trouble.EXISTS),
        (Code.FAILURE, Trouble.FAILED),
        (12345, Trouble.FAILED),
        (Code.NO_SPACE, Trouble.FULL),
        (Code.QUOTA_EXCEEDED, Trouble.FULL),
    ],
)
def test_statuses_keep_what_the_server_said(code: int, trouble: Trouble) -> None:
    """The words are often all there is to go by."""
    line = Line(Peer(refuse=lambda _: Status(code, b"Sorry \xff no")))

    outcome = line.one(Remove(b"f"))

    assert (outcome.trouble, outcome.text) == (trouble, "Sorry \ufffd no")


@pytest.mark.parametrize("words", [b"No space left on device", b"Disk quota exceeded", b"write f: disk quota exceeded"])
def test_a_server_that_says_that_there_is_no_room_is_believed(words: bytes) -> None:
    """SFTP version 3 has no code for it, but servers pass on what their system says."""
    line = Line(Peer(refuse=lambda _: Status(Code.FAILURE, words)))

    assert line.one(put(b"f", b"x")).trouble is Trouble.FULL


@pytest.mark.parametrize(
    ("op", "reply"),
    [
        pytest.param(Remove(b"f"), wire.Handle(b"1"), id="a handle for a removal"),
        pytest.param(put(b"f", b"x"), GOOD, id="well done, without a handle"),
        pytest.param(Stat(b"f"), GOOD, id="well done, without attributes"),
        pytest.param(ReadLink(b"f"), wire.Names(()), id="no name"),
        pytest.param(Space(b""), wire.ExtendedReply(b"short"), id="half a reply"),
    ],
)
def test_an_answer_that_makes_no_sense_is_malformed(op: Op, reply: Reply) -> None:
    """Whoever answers so cannot be worked with."""
    with pytest.raises(Malformed):
        Line(Peer(refuse=lambda _: reply)).one(op)


def test_an_answer_to_nothing_is_malformed() -> None:
    """Counting replies is worth nothing if they can be invented."""
    line = Line(Peer())
    line.flow.offer(Remove(b"f"), 0.0)

    with pytest.raises(Malformed, match="not asked"):
        line.flow.feed(0, wire.encode(999, GOOD), 0.0)


def test_work_is_spread_over_all_lanes() -> None:
    """One channel's window is 40 MB/s at 50 ms."""
    peers = [Peer() for _ in range(4)]
    line = Line(*peers)

    line.carry_out(put(b"%d" % n, bytes(10_000)) for n in range(1000))

    assert min(len(peer.files) for peer in peers) > 150


BASE = bytes(range(256)) * 400


def patch(path: bytes, *, check: tuple[tuple[int, int], ...] = ((0, 100), (60_000, 100)), size: int = 100_000) -> Patch:
    """Return the making of a file of the one that stands at `base`, with ten new bytes in it."""
    new = BASE[:50_000] + b"0123456789" + BASE[50_000 : size - 10]
    copies = (Copy(0, 0, 50_000), Copy(50_000, 50_010, size - 50_010))
    sent = b"".join(new[at : at + length] for at, length in gaps(copies, len(new)))
    digest = hashlib.sha256(sent).digest()
    return Patch(path, size, 1234, 0o644, lambda: io.BytesIO(new), digest, b"base", copies, check)


def with_base(**how: Any) -> Peer:
    """Return a peer that has the base."""
    return Peer(files={b"base": File(bytearray(BASE))}, **how)


@pytest.mark.parametrize("ordered", [True, False])
def test_many_patches_take_a_few_round_trips_and_leave_nothing_open(ordered: bool) -> None:
    """What the other side copies is asked for at once, as what it is sent."""
    peer = with_base()
    line = Line(peer, terms=replace(TERMS, ordered=ordered))

    outcomes = line.carry_out(patch(b"%d" % n) for n in range(200))
    assert [outcome for outcome in outcomes if not outcome.good] == []
    assert line.rounds <= (8 if ordered else 10)
    assert peer.files[b"7"].data[49_999:50_011] == BASE[49_999:50_000] + b"0123456789" + BASE[50_000:50_001]
    assert peer.handles == 0


@pytest.mark.parametrize("limit", [2, 3, 7])
def test_patches_wait_for_the_two_handles_that_each_needs(limit: int) -> None:
    """Two that hold one handle each and wait for another would wait for ever."""
    peer = with_base(handle_limit=limit)
    line = Line(peer, terms=replace(TERMS, handles=limit))

    outcomes = line.carry_out(patch(b"%d" % n) if n % 2 else put(b"%d" % n, b"x") for n in range(60))
    assert [outcome for outcome in outcomes if not outcome.good] == []
    assert peer.handles == 0


@pytest.mark.parametrize("ordered", [True, False])
def test_where_there_is_one_handle_only_a_patch_fails_and_a_put_does_not(ordered: bool) -> None:
    """The file is sent whole then; what matters is that all comes to an end."""
    peer = with_base(handle_limit=1)
    line = Line(peer, terms=replace(TERMS, ordered=ordered))

    outcomes = line.carry_out([patch(b"a"), put(b"b", b"x"), patch(b"c"), put(b"d", b"y")])
    assert {outcome.op.path: outcome.good for outcome in outcomes if isinstance(outcome.op, Put)} == {
        b"b": True,
        b"d": True,
    }
    assert {outcome.trouble for outcome in outcomes if isinstance(outcome.op, Patch)} == {Trouble.FAILED}
    assert peer.handles == 0
    assert ordered or b"a" not in peer.files


def test_a_giant_is_copied_in_pieces_that_do_not_pile_up() -> None:
    """While a server copies it answers nothing, a heartbeat neither: little is asked of it ahead."""
    peer = with_base(refuse=lambda request: GOOD if isinstance(request, wire.CopyData) else None)
    line = Line(peer)
    giant = 100 * LARGEST_COPY + 1
    whole = Patch(b"f", giant, 1, 0o644, io.BytesIO, hashlib.sha256(b"").digest(), b"base", (Copy(0, 0, giant),))

    outcome = line.one(whole)
    copies = [request for request in peer.asked if isinstance(request, wire.CopyData)]
    assert outcome.good
    assert sum(copy.length for copy in copies) == giant
    assert all(0 < copy.length <= LARGEST_COPY and copy.offset == copy.to_offset for copy in copies)
    assert line.rounds > 15


@pytest.mark.parametrize("kind", [wire.CopyData, wire.Write, wire.Read, wire.FSetStat])
def test_one_refused_request_fails_a_patch(kind: type[Request]) -> None:
    """As with a file that is sent: every reply counts."""
    peer = with_base(refuse=lambda request: BAD if isinstance(request, kind) else None)

    outcome = Line(peer).one(patch(b"f"))
    assert outcome.trouble is Trouble.FAILED
    assert peer.files[b"f"].mtime == 0
    assert peer.handles == 0


def test_a_patch_is_read_back_and_what_came_out_wrong_is_not_committed() -> None:
    """A server that copies from the wrong place says that all went well."""
    peer = with_base()
    peer.files[b"base"].data[60_050] ^= 1

    outcome = Line(peer).one(patch(b"f"))
    assert outcome.trouble is Trouble.FAILED
    assert outcome.text == "what was copied is not what we had written, at byte 60000"
    assert peer.of_kind(wire.FSetStat) == []
