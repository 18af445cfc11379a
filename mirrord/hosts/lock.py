"""Who may write on a mirror?

Whoever made the lock file with the highest number: `.mirrord/lock.<n>`, made by exclusive creation, rewritten
every 20 s while its holder lives. A lock that its holder cannot give back any more is taken over by creating
the next number. A process of this machine that is gone is dead at once; of another machine we only know what we
see: a lock that stays unchanged for 60 s by our own clock is dead.

Nobody can make sure to be alive at the very moment of a change. So a change of what readers see is made in three
steps that a deposed holder cannot complete: first a temporary name is made, then the lock is read again, then the
temporary name is renamed to its place. Who takes over removes all temporary names before it looks around, so the
rename of a deposed holder finds nothing.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mirrord.errors import Locked, Refused, Unavailable
from mirrord.hosts import Holder
from mirrord.hosts.files import (
    Attributes,
    Create,
    List,
    MakeFolder,
    Op,
    Outcome,
    Read,
    Remove,
    Rename,
    Rewrite,
    Trouble,
)
from mirrord.hosts.steps import Flight, Pause, Steps, give_up, need

OWN = b".mirrord"
"""The folder in the account that is ours alone."""
BEAT = 20.0
"""Seconds between two heartbeats."""
DEAD = 60.0
"""Seconds without a change after which a holder that we cannot ask is dead."""
DOUBT = 40.0
"""Seconds without a heartbeat after which a holder must ask whether it still is one."""
_POLL = 5.0
_RECORD = 512
"""Bytes of a lock file, always the same: a heartbeat is written over the last one."""
_LONGEST = 4096
SWAP = b"swap."
"""Beginning of the folders by way of which a holder exchanges what readers see."""
TRIAL = b"try."
"""How the names of the folders begin in which it is tried what the account can do."""
_PREFIX = b"lock."
_TEMPS = (b"current.", b"temp.")
_TRIES = 3

_held: set[str] = set()
"""Locks that this process holds just now, by nonce: what it left on a lost connection is not among them."""


def lock_path(number: int) -> bytes:
    """Name the lock file with this number."""
    return OWN + b"/" + _PREFIX + str(number).encode()


def lock_number(name: bytes) -> int | None:
    """Return the number of a lock file, None for any other name in `.mirrord/`."""
    digits = name.removeprefix(_PREFIX)
    return int(digits) if digits != name and digits.isdigit() and len(digits) < 10 else None


def is_temp(name: bytes) -> bool:
    """Tell whether a name in `.mirrord/` is one that a publish makes for a moment."""
    return name.startswith(_TEMPS)


def is_trial(name: bytes) -> bool:
    """Tell whether a name in `.mirrord/` is a folder in which something was tried."""
    return name.startswith(TRIAL)


@dataclass(frozen=True, slots=True)
class Record:
    """What a lock file says."""

    holder: Holder
    nonce: str
    """Different for every hold, also of one process."""

    def text(self, beat: int) -> bytes:
        """Write it: one JSON object, padded so that a later heartbeat covers it."""
        says = {**asdict(self.holder), "nonce": self.nonce, "beat": beat}
        return json.dumps(says).encode().ljust(_RECORD - 1) + b"\n"


def parse_record(text: bytes) -> Record | None:
    """Read a lock file; None where it says nothing that we understand (it may be in the making)."""
    try:
        says = json.loads(text)
        holder = Holder(
            controller=str(says["controller"]),
            host=str(says["host"]),
            boot_id=str(says["boot_id"]),
            pid=int(says["pid"]),
            start=str(says["start"]),
            since=float(says["since"]),
        )
        return Record(holder, str(says["nonce"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


Liveness = Callable[[Record, Holder], bool | None]
"""Whether a record's holder lives, asked by another: False means it is surely gone, None that it cannot be told."""


def this_process(controller: str) -> Holder:
    """Describe this process as the holder of a lock."""
    return Holder(controller, socket.gethostname(), _boot_id(), os.getpid(), _start_of(os.getpid()), time.time())


def is_alive(record: Record, me: Holder) -> bool | None:
    """Tell whether the holder lives; None where it is not of this machine, or of another container on it."""
    holder = record.holder
    if (holder.host, holder.boot_id) != (me.host, me.boot_id) or not me.boot_id:
        return None
    if (holder.pid, holder.start) == (me.pid, me.start):
        return record.nonce in _held
    try:
        os.kill(holder.pid, 0)
    except (ProcessLookupError, OverflowError, ValueError):
        return False
    except PermissionError:
        pass  # somebody else's process, but one that is there
    start = _start_of(holder.pid)
    return start in ("", holder.start)


def _boot_id() -> str:
    """Name this boot, and the process-number space that we live in: containers share the one, not the other."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """Return when a process started, in ticks since boot; empty where this may not be seen."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


class Lock:
    """Our lock on one mirror: taken, beaten, asked for, dropped. Pure: every verb asks for work by `Steps`."""

    def __init__(
        self,
        me: Holder,
        nonce: str,
        mirror: str,
        clock: Callable[[], float] = time.monotonic,
        alive: Liveness = is_alive,
        *,
        patient: bool = True,
    ) -> None:
        """Nothing is held yet. `clock` in seconds, goes on while this machine sleeps, if it can.

        Not `patient`: where it takes a minute's watch to tell that a holder is dead, it counts as alive.
        """
        self.number = 0
        self.held = False
        """Whether the lock file is ours, as far as we know: nobody removes another's."""
        self.overtaken = False
        """Whether others were at it before we came to hold it: what the caller saw may be old."""
        self.server_time = 0
        """When we last saw our lock change, by the mirror's clock: never later than its now; 0 where it did not say."""
        self._record = Record(me, nonce)
        self._doing = f"{mirror}: taking the lock"
        self._clock = clock
        self._alive = alive
        self._patient = patient
        self._beats = 0
        self._beaten = clock()

    @property
    def path(self) -> bytes:
        """Our lock file."""
        return lock_path(self.number)

    @property
    def silent_for(self) -> float:
        """Seconds since the mirror last took a sign of life from us."""
        return self._clock() - self._beaten

    def take(
        self,
        numbers: Sequence[int],
        missing: Sequence[Op] = (),
        ahead: Sequence[Op] = (),
        told: Callable[[Outcome], None] | None = None,
    ) -> Steps[None]:
        """Become the holder; raises Locked where another one lives.

        `numbers` are the lock files seen last. `missing` makes the folders that have to be there. `ahead` is asked
        for in the same flight, and `told` its outcomes: what only looks need not wait for the lock.
        """
        _held.add(self._record.nonce)
        for _ in range(_TRIES):
            if missing:
                for outcome in (yield Flight(missing, ordered=True)):
                    need(outcome, self._doing)
            highest = max(numbers, default=0)
            judged: bytes | None = None
            if highest and (judged := (yield from self._watch(highest))) is None:
                numbers = yield from self._look()  # dropped meanwhile: others may be at it already
                continue
            self.number = highest + 1
            create = Create(self.path, self._record.text(0), mode=0o600)
            made: list[Outcome] = []

            def sort(outcome: Outcome, create: Create = create, made: list[Outcome] = made) -> None:
                if outcome.op is create:
                    made.append(outcome)
                elif told is not None:
                    told(outcome)

            yield Flight((create, *ahead), each=sort)
            if made[0].good:
                self.held = True
                self._beaten = self._clock()
                self.server_time = made[0].value.mtime if made[0].value is not None else 0
                if judged is not None:
                    yield from self._take_over(highest, judged)
                return
            if made[0].trouble is Trouble.MISSING:
                missing = (MakeFolder(OWN, 0o700),)
            numbers = yield from self._look()
            if made[0].trouble is not Trouble.MISSING and self.number not in numbers:
                # Nothing stands there, and a name that is free is refused without a reason: mostly for want of room.
                full = made[0].trouble is Trouble.FAILED
                give_up(replace(made[0], trouble=Trouble.FULL) if full else made[0], self._doing)
        raise Unavailable(f"{self._doing}: others were quicker {_TRIES} times; the next try looks again")

    def _look(self) -> Steps[list[int]]:
        self.overtaken = True
        (listing,) = yield Flight((List(OWN),))
        return _numbers(listing)

    def _watch(self, number: int) -> Steps[bytes | None]:
        """Return what a dead holder's lock says, or None once there is no lock; raise Locked where its holder lives."""
        seen: tuple[bytes, Attributes | None] | None = None
        until = self._clock() + DEAD
        while True:
            outcomes = yield Flight((Read(lock_path(number), _LONGEST), List(OWN)))
            text, attributes = _content(outcomes, number)
            if text is None:
                return None
            record = parse_record(text)
            alive = self._alive(record, self._record.holder) if record is not None else None
            if alive is False:
                return text
            if alive or not self._patient or (seen is not None and seen != (text, attributes)):
                raise self._locked(record)
            if self._clock() >= until:
                return text
            seen = (text, attributes)
            yield Pause(_POLL)

    def _take_over(self, deposed: int, judged: bytes) -> Steps[None]:
        """Make sure that we deposed the dead one, and break the arm of what it may still do."""
        outcomes = yield Flight((List(OWN), Read(lock_path(deposed), _LONGEST)))
        listing = next(outcome for outcome in outcomes if isinstance(outcome.op, List))
        text, _ = _content(outcomes, deposed)
        numbers = _numbers(listing)
        if max(numbers, default=0) != self.number or text not in (None, judged):
            raise self._locked(parse_record(text or b""))
        names = need(listing, self._doing).value
        stale = [OWN + b"/" + name for name in names if is_temp(name)]
        stale += [lock_path(number) for number in numbers if number != self.number]
        # What a deposed holder has on its way by its own folder does not find that any more; what is in it stays.
        swaps = [OWN + b"/" + name for name in names if name.startswith(SWAP)]
        ours = OWN + b"/" + SWAP + self._record.nonce.encode()
        taken = [Rename(path, ours + b".%d" % number) for number, path in enumerate(swaps)]
        for outcome in (yield Flight([*taken, *(Remove(path) for path in stale)])):
            if outcome.trouble is not Trouble.MISSING:
                need(outcome, self._doing)
        self.overtaken = True

    def beat(self) -> Rewrite:
        """Make the next sign of life; its outcome belongs to `heard`."""
        self._beats += 1
        return Rewrite(self.path, self._record.text(self._beats))

    def heard(self, outcome: Outcome) -> None:
        """Take the outcome of a heartbeat; raises Unavailable where our lock is gone."""
        if outcome.trouble is Trouble.MISSING:
            self.held = False
            raise self._lost()
        if outcome.good:
            self._beaten = self._clock()

    def confirm_ops(self) -> tuple[Op, ...]:
        """What has to be asked to know that we still hold; any order, the answers belong to `confirmed`."""
        return (List(OWN), Read(self.path, _LONGEST))

    def confirmed(self, outcomes: Sequence[Outcome]) -> None:
        """Take the answers to `confirm_ops`; raises Locked or Unavailable where we do not hold any more."""
        listing = next(outcome for outcome in outcomes if outcome.op == List(OWN))
        text, attributes = _content(outcomes, self.number)
        record = parse_record(text) if text is not None else None
        self.held = record is not None and record.nonce == self._record.nonce
        if max(_numbers(listing), default=0) > self.number:
            raise Locked(
                f"{self._doing}: another mirrord took the lock over, since it heard nothing of us for {DEAD:g} s"
            )
        if not self.held:
            raise self._lost()
        self.server_time = attributes.mtime if attributes is not None else 0
        self._beaten = self._clock()

    def dropped(self) -> None:
        """Note that we hold nothing any more: a lock of ours that is found later is a leftover."""
        self.held = False
        _held.discard(self._record.nonce)

    def _lost(self) -> Unavailable:
        return Unavailable(f"{self._doing}: our lock is gone; the next try looks again")

    def _locked(self, record: Record | None) -> Locked:
        if record is None:
            return Locked(f"{self._doing}: another mirrord is just taking it; try again in a minute")
        holder = record.holder
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(holder.since))
        who = f"{holder.controller} (process {holder.pid} on {holder.host})"
        return Locked(
            f"{self._doing}: {who} publishes there since {since}; wait until it has finished",
            holder=who,
            since=holder.since,
        )


def _numbers(listing: Outcome) -> list[int]:
    if listing.trouble is Trouble.DENIED:
        raise Refused(f"listing {OWN.decode()}: the server says {listing.text!r}; the account must own it")
    names = listing.value if listing.good else {}
    return sorted(number for name in names if (number := lock_number(name)) is not None)


def _content(outcomes: Sequence[Outcome], number: int) -> tuple[bytes | None, Attributes | None]:
    """Return what a lock file says and how it is listed; (None, None) where it is not there."""
    text: bytes | None = None
    attributes: Attributes | None = None
    for outcome in outcomes:
        if isinstance(outcome.op, Read) and outcome.op.path == lock_path(number):
            text = outcome.value if outcome.good else None if outcome.trouble is Trouble.MISSING else b""
        elif outcome.op == List(OWN) and outcome.good:
            attributes = outcome.value.get(lock_path(number).rpartition(b"/")[2])
    return text, attributes
