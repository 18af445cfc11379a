"""Which requests go out when, so that ten thousand operations take a few round trips?

Pure: bytes that came in go in, bytes that may go out come out, and outcomes; time is an argument. `dialogue` knows what
one operation asks; a `Lane` is one SFTP channel with many conversations at once: it numbers requests, ties replies to
them and holds back what would not fit. `Flow` spreads operations over lanes. `session` carries bytes and errors.

What is kept in mind:
- A server answers the requests of one channel in order, OpenSSH strictly; those of two channels in no order at all.
- If both windows fill, both sides wait for ever: the bytes that were not answered yet are bounded, and so are the
  replies to be expected.
- What is on its way delays whatever is sent next. A lock's heartbeat cannot wait for minutes, so a lane that answers
  late sends less ahead.
- Handles are few on some servers, and how few they do not say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mirrord.hosts import files
from mirrord.hosts.files import Attributes, Kind, Op, Outcome, Trouble
from mirrord.hosts.sftp import wire
from mirrord.hosts.sftp.dialogue import Last, Talk, Terms, burden, is_good, listing, talk
from mirrord.hosts.sftp.wire import Code, Malformed, Reply, Request, Status

LEAST_IN_FLIGHT = 128 * 1024
FIRST_IN_FLIGHT = 1024 * 1024
"""Bytes of requests that may be unanswered on a lane, at least and at first."""
LATE, BRISK = 3.0, 1.5
"""Seconds from request to reply: past the first a lane sends less ahead, below the second more."""
UNSENT_ENOUGH = 128 * 1024
"""Bytes waiting to be sent on a lane past which nothing new is begun."""
MOST_TALKS = 2000
"""Conversations at once on a lane."""
MOST_TRIES = 12
"""How often a file is opened anew because handles may be short."""
HANDLES_GROW_AFTER = 64
"""Files opened in a row before one handle more is tried."""
LONGEST_PATH = 4096
LARGEST_TREE = 5_000_000
"""Bytes of a path, and paths in a tree; a tree without end is a hostile one."""

_HANDLES = dict.fromkeys(
    (files.Put, files.Create, files.Rewrite, files.Read, files.ReadPart, files.List, files.Walk), 1
)
_HANDLES[files.Patch] = 2
"""Files and folders that an operation has open at once."""
_OPENS = {wire.Open: 1, wire.OpenDir: 1, wire.Close: -1}
_REPLY_SIZES = {wire.ReadDir: 32 * 1024, wire.ReadLink: 8 * 1024}
_USUAL_REPLY = 256


class _Job:
    """One conversation, and where it stands."""

    __slots__ = (
        "asked",
        "asked_last",
        "begun",
        "done",
        "draining",
        "foreseen",
        "make",
        "op",
        "opened",
        "owed",
        "problem",
        "replies",
        "single",
        "talk",
        "tries",
        "urgent",
    )

    def __init__(self, op: Op, make: Callable[[], Talk], done: Callable[[Outcome], None]) -> None:
        self.op = op
        self.make = make
        self.done = done
        self.talk = make()
        self.replies: list[Reply] = []  # to the flight that is out
        self.asked = 0  # replies that the flight still waits for
        self.single = 0  # single requests not answered yet
        self.problem: list[Reply] = []  # the first bad reply to one of them
        self.draining = False
        self.owed = self.foreseen = 0
        if isinstance(op, files.Put):
            self.owed = op.size
        elif isinstance(op, files.Patch):
            self.owed = op.sent
        # Bytes that it will ask for once it has its handle: a thousand files may be opened before the first is read.
        elif isinstance(op, files.ReadPart):
            self.foreseen = op.size
        elif isinstance(op, files.Read):
            self.foreseen = op.limit
        self.begun = False  # it has sent content
        self.opened = False  # it has a handle already
        self.tries = 0
        self.urgent = False
        self.asked_last: Callable[[], None] | None = None  # told when it has asked the last it has to ask


class _Asked:
    """A request that was not answered yet."""

    __slots__ = ("at", "cost", "expected", "job", "opens", "place")

    def __init__(self, job: _Job, place: int, cost: int, expected: int, opens: int, at: float) -> None:
        self.job = job
        self.place = place  # in the flight; -1 for a single request
        self.cost = cost  # bytes of the request
        self.expected = expected  # bytes of the reply, at most or so
        self.opens = opens  # 1: a handle, -1: closes one
        self.at = at


class Lane:
    """One channel: conversations become a stream of bytes, and a stream of bytes their replies."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.talks = 0
        """Conversations begun and not ended."""
        self.payload_sent = 0
        self.payload_received = 0
        self._most = terms.in_flight
        self._limit = min(self._most, FIRST_IN_FLIGHT)
        self._limit_cut = float("-inf")
        self._in_flight = 0
        self._owed = 0
        self._expected = 0
        self._foreseen = 0
        self._handles = 0
        self._handle_limit = terms.handles
        self._handles_cut = float("-inf")
        self._opened_in_a_row = 0
        self._number = 0
        self._asked: dict[int, _Asked] = {}
        self._frames = wire.Frames()
        self._out: deque[bytes | memoryview] = deque()
        self._unsent = 0
        self._parked: deque[tuple[_Job, int]] = deque()  # until bytes may be sent
        self._waiting: deque[_Job] = deque()  # until a handle is free

    @property
    def unsent(self) -> int:
        """Bytes that may go out."""
        return self._unsent

    @property
    def unanswered(self) -> int:
        """Requests that were not answered yet."""
        return len(self._asked)

    @property
    def load(self) -> int:
        """Bytes that stand before whatever is begun next."""
        return self._in_flight + self._owed

    @property
    def full(self) -> bool:
        """Tell whether the window is what holds it back, rather than a slow line or server."""
        return self.load >= self._limit >= min(FIRST_IN_FLIGHT, self.terms.in_flight)

    def bound(self, in_flight: int | None) -> None:
        """Have so many bytes under way at most from now on; None: as many as the terms allow."""
        self._most = min(self.terms.in_flight, in_flight) if in_flight is not None else self.terms.in_flight
        self._limit = min(self._limit, self._most)

    def has_room(self, op: Op) -> bool:
        """Tell whether one more operation may be begun."""
        return (
            self._unsent < UNSENT_ENOUGH
            and self.load < 2 * self._limit
            and self._expected + self._foreseen < self.terms.replies
            and self.talks < MOST_TALKS
            and not self._waiting
            and self._has_handles(op)
        )

    def _has_handles(self, op: Op) -> bool:
        """Tell whether an operation finds the handles that it needs; where it is alone it may try in any case."""
        needed = _HANDLES.get(type(op), 0)
        return not needed or self._handles + needed <= self._handle_limit or (needed > 1 and not self._handles)

    def begin(self, job: _Job, now: float) -> None:
        """Begin a conversation; unless it is urgent, it waits where no handle is to be had."""
        self.talks += 1
        self._owed += job.owed
        self._foreseen += job.foreseen
        if job.urgent or self._has_handles(job.op):
            self._resume(job, None, now)
        else:
            self._waiting.append(job)
        self._go_on(now)

    def take(self, most: int) -> bytes:
        """Return what is to be sent next, at most so many bytes."""
        pieces: list[bytes | memoryview] = []
        left = most
        while left and self._out:
            piece = self._out.popleft()
            if len(piece) > left:
                view = memoryview(piece)
                self._out.appendleft(view[left:])
                piece = view[:left]
            pieces.append(piece)
            left -= len(piece)
        self._unsent -= most - left
        return b"".join(pieces)

    def feed(self, data: bytes, now: float) -> None:
        """Take in what the server sent, and go on with the conversations. Raises Malformed."""
        decode, waiting, answer = wire.decode_reply, self._asked, self._answer
        for packet in self._frames.feed(data):
            number, reply = decode(packet)
            asked = waiting.pop(number, None)
            if asked is None:
                raise Malformed(f"the server answered a request that was not asked, number {number}")
            self._in_flight -= asked.cost
            self._expected -= asked.expected
            if self._limit < self._most or now - asked.at > LATE:
                self._pace(asked, now)
            answer(asked, reply, now)
        self._go_on(now)

    # Requests

    def _resume(self, job: _Job, replies: list[Reply] | None, now: float) -> None:
        """Let a conversation go on until it waits for something."""
        while True:
            try:
                step: Any = next(job.talk) if replies is None else job.talk.send(replies)
            except StopIteration as end:
                self.talks -= 1
                self._owed -= job.owed
                self._foreseen -= job.foreseen
                job.owed = job.foreseen = 0
                job.done(end.value)
                return
            kind = type(step)
            if kind is int:
                if not self._fits(job, step):
                    return
                replies = []
            elif kind is not tuple and kind is not Last:  # requests are tuples of another kind
                job.single += 1
                self._ask(job, step, -1, now)
                replies = job.problem
            elif step:
                job.asked = len(step)
                job.replies = [_NO_REPLY] * len(step)
                for place, request in enumerate(step):
                    self._ask(job, request, place, now)
                if kind is Last and job.asked_last is not None:
                    job.asked_last()
                return
            elif job.single:
                job.draining = True
                return
            else:
                replies = job.problem

    def _fits(self, job: _Job, need: int) -> bool:
        """Tell whether so many bytes may be sent; else the conversation is put aside until they may.

        One that has begun to send goes first: it holds a file of ours open, and a handle of theirs.
        """
        room = not self._in_flight or self._in_flight + need <= self._limit
        if room and (job.begun or not self._parked):
            return True
        if job.begun:
            self._parked.appendleft((job, need))
        else:
            self._parked.append((job, need))
        return False

    def _ask(self, job: _Job, request: Request, place: int, now: float) -> None:
        kind: type[Any] = type(request)
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        pieces = wire.encode_in_pieces(number, request)
        cost = size = sum(map(len, pieces))
        expected, opens = _REPLY_SIZES.get(kind, _USUAL_REPLY), 0
        if isinstance(request, wire.Write):
            job.begun = True
            content = len(request.data)
            self.payload_sent += content
            paid = min(content, job.owed)
            job.owed -= paid
            self._owed -= paid
        elif kind in _OPENS:
            opens = _OPENS[kind]
            if opens > 0:
                self._handles += 1
        elif isinstance(request, wire.CopyData):
            job.begun = True
            cost += burden(request)
        elif isinstance(request, wire.Read):
            expected = request.length
            paid = min(expected, job.foreseen)
            job.foreseen -= paid
            self._foreseen -= paid
        self._asked[number] = _Asked(job, place, cost, expected, opens, now)
        self._in_flight += cost
        self._expected += expected
        self._unsent += size
        self._out += pieces

    # Replies

    def _answer(self, asked: _Asked, reply: Reply, now: float) -> None:
        job = asked.job
        if asked.opens and self._count_handles(asked, reply, now):
            return
        if isinstance(reply, wire.Data):
            self.payload_received += len(reply.data)
        if asked.place >= 0:
            job.replies[asked.place] = reply
            job.asked -= 1
            if not job.asked:
                replies, job.replies = job.replies, []  # its last CLOSE may be long in coming: listings need not stay
                self._resume(job, replies, now)
            return
        job.single -= 1
        if not job.problem and not is_good(reply):
            job.problem = [reply]
        if job.draining and not job.single:
            job.draining = False
            self._resume(job, job.problem, now)

    def _pace(self, asked: _Asked, now: float) -> None:
        """Send less ahead where replies come late, more where they come at once."""
        took = now - asked.at
        if took > LATE:
            if asked.at >= self._limit_cut:
                self._limit = min(self._limit, max(LEAST_IN_FLIGHT, self._limit // 2))
                self._limit_cut = now
        elif took < BRISK and self._limit < self._most:
            self._limit = min(self._most, self._limit + asked.cost)

    def _count_handles(self, asked: _Asked, reply: Reply, now: float) -> bool:
        """Keep count; tell whether a refused OPEN is tried anew, as it may be for want of handles only.

        That is the plain status Failure, like so much else. So fewer are opened at once, down to one, and the few
        that still fail have another reason.
        """
        if asked.opens < 0:
            self._handles -= 1
            return False
        job = asked.job
        if isinstance(reply, wire.Handle):
            job.opened = True
            self._opened_in_a_row += 1
            if self._opened_in_a_row >= HANDLES_GROW_AFTER and self._handle_limit < self.terms.handles:
                self._handle_limit += 1
                self._opened_in_a_row = 0
            return False
        self._handles -= 1
        refused = isinstance(reply, Status) and reply.code == Code.FAILURE
        if not refused or not self._handles or job.tries >= MOST_TRIES:
            return False
        self._opened_in_a_row = 0
        if asked.at >= self._handles_cut:
            self._handle_limit = max(1, min(self._handle_limit, self._handles) // 2)
            self._handles_cut = now
        if job.opened or len(job.replies) > 1:
            return False
        job.tries += 1
        job.talk = job.make()
        if job.urgent:
            self._waiting.appendleft(job)
        else:
            self._waiting.append(job)
        return True

    def _go_on(self, now: float) -> None:
        """Let those go on that waited for room or for a handle."""
        while True:
            if self._parked and self._may_unpark():
                self._resume(self._parked.popleft()[0], [], now)
            elif self._waiting and self._has_handles(self._waiting[0].op):
                self._resume(self._waiting.popleft(), None, now)
            else:
                return

    def _may_unpark(self) -> bool:
        return not self._in_flight or self._in_flight + self._parked[0][1] <= self._limit


_NO_REPLY = Status(Code.NO_CONNECTION)


class _Tree:
    """A walk under way: what it found, and how many folders are still to be listed."""

    __slots__ = ("done", "found", "left", "op", "over")

    def __init__(self, op: files.Walk, done: Callable[[Outcome], None]) -> None:
        self.op = op
        self.done = done
        self.found: dict[bytes, Attributes] = {}
        self.left = 1
        self.over = False

    def end(self, outcome: Outcome) -> None:
        self.over = True
        self.done(outcome)


class _Queue:
    """Operations that are done one after the other, and how far they are."""

    __slots__ = ("_asking", "_next", "_ops", "_unfinished", "lane", "outcomes")

    def __init__(self, ops: Sequence[Op], lane: Lane) -> None:
        self.lane = lane
        self.outcomes: list[Outcome | None] = [None] * len(ops)
        self._ops = ops
        self._next = 0
        self._asking = False  # the last one begun may still ask something
        self._unfinished = 0

    def take(self) -> int | None:
        """Return the place of the next operation, if it may be begun now."""
        ordered = self.lane.terms.ordered
        if self._next == len(self._ops) or (self._asking if ordered else self._unfinished):
            return None
        self._next += 1
        self._asking = True
        self._unfinished += 1
        return self._next - 1

    def op(self, place: int) -> Op:
        """Return the operation at a place."""
        return self._ops[place]

    def asked_last(self) -> None:
        """The operation begun last has asked all that matters to the next."""
        self._asking = False

    def end(self, place: int, outcome: Outcome) -> None:
        """An operation has ended."""
        self.outcomes[place] = outcome
        self._unfinished -= 1
        if place == self._next - 1:
            self._asking = False


class Flow:
    """Operations over several lanes of one account.

    `outcomes` fills as replies are fed; whoever drives takes them from there.
    """

    def __init__(self, terms: Sequence[Terms]) -> None:
        self.lanes = tuple(Lane(of_lane) for of_lane in terms)
        self.outcomes: deque[Outcome] = deque()
        self._folders: deque[tuple[_Tree, bytes]] = deque()
        self._queues: deque[_Queue] = deque()
        """Those that may go on, for a reply that came."""

    @property
    def busy(self) -> bool:
        """Tell whether an operation is under way, or something is still to be sent."""
        return bool(self._folders) or any(lane.talks or lane.unsent for lane in self.lanes)

    @property
    def unanswered(self) -> int:
        """Requests that were not answered yet, on all lanes."""
        return sum(lane.unanswered for lane in self.lanes)

    @property
    def crowded(self) -> bool:
        """Tell whether every lane has as much under way as it may, and gets its answers in good time."""
        return all(lane.full for lane in self.lanes)

    def add(self, terms: Terms) -> None:
        """Spread what comes over one lane more."""
        self.lanes = (*self.lanes, Lane(terms))

    def bound(self, in_flight: int | None) -> None:
        """Have so many bytes under way on each lane at most from now on; None: as many as the terms allow."""
        for lane in self.lanes:
            lane.bound(in_flight)

    def offer(self, op: Op, now: float) -> bool:
        """Begin an operation where there is room; False where there is none, and nothing happened."""
        lane = None if self._folders else self._roomiest(op)
        if lane is None:
            return False
        self._begin(op, lane, now, self.outcomes.append)
        self._advance(now)
        return True

    def slip_in(self, op: Op, now: float) -> None:
        """Begin an operation at once, room or not."""
        self._begin(op, self._idlest(), now, self.outcomes.append, urgent=True)
        self._advance(now)

    def in_order(self, ops: Sequence[Op], now: float) -> list[Outcome | None]:
        """Begin operations one after the other, on one lane; returns a list that fills with their outcomes.

        Where the server keeps order one is begun as soon as the one before has asked the last it has to ask.
        """
        queue = _Queue(ops, self._idlest())
        self._queues.append(queue)
        self._advance(now)
        return queue.outcomes

    def feed(self, place: int, data: bytes, now: float) -> None:
        """Take in what came on the lane with this place. Raises Malformed."""
        self.lanes[place].feed(data, now)
        self._advance(now)

    def _roomiest(self, op: Op) -> Lane | None:
        lane = self._idlest()  # asked for every file, and mostly has room
        if lane.has_room(op):
            return lane
        return min((lane for lane in self.lanes if lane.has_room(op)), key=_load, default=None)

    def _idlest(self) -> Lane:
        """Return the lane with the least before it, in bytes and then in conversations."""
        best = self.lanes[0]
        least = best.load
        for lane in self.lanes:
            load = lane.load
            if load < least or (load == least and lane.talks < best.talks):
                best, least = lane, load
        return best

    def _begin(
        self,
        op: Op,
        lane: Lane,
        now: float,
        done: Callable[[Outcome], None],
        *,
        asked_last: Callable[[], None] | None = None,
        urgent: bool = False,
    ) -> None:
        if isinstance(op, files.Walk):
            self._folders.append((_Tree(op, done), b""))
            return
        job = _Job(op, lambda: talk(op, lane.terms), done)
        job.asked_last, job.urgent = asked_last, urgent
        lane.begin(job, now)

    def _advance(self, now: float) -> None:
        """Begin what had to wait: who comes next in a queue, and the listings that walks ask for, as room is."""
        while True:
            if self._queues:
                self._go_on(self._queues.popleft(), now)
            elif self._folders and (lane := self._roomiest(self._folders[0][0].op)) is not None:
                self._list(*self._folders.popleft(), lane, now)
            else:
                return

    def _go_on(self, queue: _Queue, now: float) -> None:
        while (place := queue.take()) is not None:

            def done(outcome: Outcome, place: int = place) -> None:
                queue.end(place, outcome)
                self._queues.append(queue)

            def asked_last() -> None:
                queue.asked_last()
                self._queues.append(queue)

            self._begin(queue.op(place), queue.lane, now, done, asked_last=asked_last)

    def _list(self, tree: _Tree, path: bytes, lane: Lane, now: float) -> None:
        if not tree.over:
            whole = b"/".join(part for part in (tree.op.path, path) if part)
            job = _Job(
                tree.op,
                lambda: listing(tree.op, whole, lane.terms),
                lambda outcome: self._listed(tree, path, outcome),
            )
            lane.begin(job, now)

    def _listed(self, tree: _Tree, path: bytes, outcome: Outcome) -> None:
        """Add a folder's listing to its tree; the folders in it come next."""
        tree.left -= 1
        if tree.over:
            return
        if not outcome.good:
            where = path.decode("utf-8", "replace") + ": " if path else ""
            tree.end(replace(outcome, text=where + outcome.text))
            return
        for name, attributes in outcome.value.items():
            inner = path + b"/" + name if path else name
            tree.found[inner] = attributes
            if attributes.kind is Kind.FOLDER:
                tree.left += 1
                self._folders.append((tree, inner))
        if len(path) > LONGEST_PATH or len(tree.found) > LARGEST_TREE:
            tree.end(Outcome(tree.op, trouble=Trouble.FAILED, text="the tree has no end"))
        elif not tree.left:
            tree.end(Outcome(tree.op, tree.found))


def _load(lane: Lane) -> tuple[int, int]:
    return lane.load, lane.talks
