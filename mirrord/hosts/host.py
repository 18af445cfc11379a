"""How does an account with files become a mirror with releases?

`FilesHost` runs what the layout asks for on any `Files`: it sends the flights, keeps the lock alive while they
are under way, stops between them when told to, and remembers what a hold has seen. What is asked, and in which
order it is safe, is decided in `releases`, `staging` and `lock`; how it travels, in the `Files`.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import BytesIO
from itertools import chain
from typing import TypeVar

from mirrord.errors import Cancelled, Full, MirrordError, Unavailable, Unverified
from mirrord.hosts import (
    NO_GRACE,
    READ_BACK,
    Content,
    Findings,
    Holder,
    Inspected,
    Known,
    Linger,
    Mended,
    Progress,
    Pruned,
    Staged,
    Switched,
)
from mirrord.hosts.choosing import choose_layout
from mirrord.hosts.files import (
    Files,
    Kind,
    Op,
    Outcome,
    Pulse,
    Put,
    Read,
    Remove,
    Rewrite,
    Space,
    Stat,
    Traits,
    Trouble,
    Walk,
)
from mirrord.hosts.layout import STAGING, TRASH, Layout, Turn, by_op, id_in
from mirrord.hosts.lingering import NOTHING, Lingering, beside, left_lately, left_with, over, places_in, take_away
from mirrord.hosts.lock import BEAT, DOUBT, OWN, Liveness, Lock, is_alive
from mirrord.hosts.naming import refuse_names
from mirrord.hosts.remembered import TRAITS, Server
from mirrord.hosts.staging import Mending, Source, Staging, list_base
from mirrord.hosts.standing import AUTO, Standing
from mirrord.hosts.steps import Flight, Pause, Steps, need
from mirrord.hosts.trees import Comparison, Tree, gather, list_tree, tree_of
from mirrord.hosts.trying import Trial
from mirrord.hosts.verifying import Proving, inspected, prove
from mirrord.manifest import OWN_FOLDER, Signed, SnapshotId, show, weigh
from mirrord.plan import Plan, Survey

T = TypeVar("T")

_AT_ONCE, _ONE_BY_ONE = 2048, 64
"""Operations between two looks at the lock: that travel together, and that each take a round trip. Both are even: where
a file is taken away and another put there, the two stay together."""
_LEAST = 16384
"""Bytes without which not even a lock can be written."""


def uptime() -> float:
    """Return seconds that also pass while this machine sleeps, where it can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class FilesHost:
    """A mirror on some `Files`; implements `Host`.

    `clock` counts seconds, `wait` lets some pass: both are arguments so that a minute's watch takes no minute in a
    test. `alive` tells whether the holder of a lock lives.
    """

    def __init__(
        self,
        files: Files,
        mirror: str,
        serve: str = "current",
        *,
        layout: str = AUTO,
        follows: bool | None = None,
        trial: Trial | None = None,
        clock: Callable[[], float] = uptime,
        wait: Callable[[float], object] = time.sleep,
        alive: Liveness = is_alive,
        dice: random.Random | None = None,
    ) -> None:
        """Nothing is asked yet. Where there is a `trial`, what the account can do is found out by the first hold.

        `follows`: whether the web server was seen to follow a link, where somebody looked. `dice` choose what is read
        back of much.
        """
        self._files = files
        self._trial = trial
        self._mirror = mirror
        self._standing = Standing(mirror, serve.encode(), files.traits, layout, follows)
        self._found: tuple[Layout, str] | None = None
        self._clock = clock
        self._wait = wait
        self._dice = dice or random.SystemRandom()  # no server should foresee it
        self._alive = alive
        self._current: SnapshotId | None = None

    @property
    def server(self) -> Server | None:
        """Who answers, as far as a login shows; None for a folder of this machine."""
        found = getattr(self._files, "server", None)
        return found if isinstance(found, Server) else None

    @property
    def traits(self) -> Traits:
        """What the account can do, as far as is known."""
        return self._files.traits

    def round_trip(self) -> float:
        """Return the seconds that the smallest question takes."""
        began = self._clock()
        for outcome in self._files.carry_out([Stat(b"")]):
            del outcome
        return self._clock() - began

    def survey(self) -> Survey:
        """Look, change nothing, need no lock."""
        crew = self._crew(None, None)
        answers = by_op(crew.run(_ask(self._standing.questions())))
        if self._found is None:
            self._found = self._standing.layout(answers)
        layout, why = self._found
        found = replace(crew.run(layout.survey(answers)), why=why)
        self._current = found.current
        return found

    @property
    def _layout(self) -> Layout:
        """How the account is laid out, as the first look showed."""
        if self._found is None:
            self.survey()
        assert self._found is not None
        return self._found[0]

    @contextmanager
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
    ) -> Iterator[FilesHold]:
        """Take the lock for as long as the context lasts."""
        nonce = secrets.token_hex(6)
        lock = Lock(me, nonce, self._layout.mirror, self._clock, self._alive, patient=patient)
        crew = self._crew(lock, stop)
        hold = FilesHold(self._layout, crew, lock, nonce, known, found, self._files.traits, self._dice, linger)
        try:
            hold.enter(ahead)
            self._find_out(crew, nonce)
            yield hold
        except BaseException:
            with suppress(MirrordError):
                hold.leave()
            raise
        else:
            hold.leave()
        finally:
            lock.dropped()

    def _find_out(self, crew: _Crew, nonce: str) -> None:
        """Try what the account can do, once. Raises Unavailable where it is not what this host was opened for."""
        trial, self._trial = self._trial, None
        if trial is None:
            return
        try:
            traits = crew.run(trial.run(nonce))
        except Cancelled:
            trial.broken_off()
            raise
        said = self._files.traits
        less = any(getattr(said, name) and not getattr(traits, name) for name in TRAITS)
        if less or choose_layout(traits).layout != choose_layout(said).layout:
            differ = [name for name in TRAITS if getattr(said, name) != getattr(traits, name)]
            raise Unavailable(
                f"{self._mirror}: finding out what the account can do: it is not what the server announces"
                f" ({', '.join(differ)}); the next try goes by what was found"
            )

    def read(self, release: SnapshotId, path: bytes, limit: int) -> Iterator[bytes]:
        """Read one file of a release."""
        doing = f"{self._layout.mirror}: reading {show(path)} of {release}"
        (outcome,) = self._files.carry_out([Read(self._layout.stands_at(release, self._current) + b"/" + path, limit)])
        if outcome.trouble in (Trouble.MISSING, Trouble.FAILED):
            raise Unverified(f"{doing}: there is no such file of at most {limit} bytes")
        yield need(outcome, doing).value

    def bytes_moved(self) -> tuple[int, int]:
        """Return payload bytes sent and received so far."""
        return self._files.bytes_moved()

    def abort(self) -> None:
        """Break off, from any thread, at once."""
        self._files.abort()

    def close(self) -> None:
        """Let go of the connection."""
        self._files.close()

    def _crew(self, lock: Lock | None, stop: threading.Event | None) -> _Crew:
        return _Crew(self._files, lock, stop, self._mirror, self._wait)


def _ask(ops: Iterable[Op]) -> Steps[list[Outcome]]:
    return (yield Flight(ops))


class _Crew:
    """Sends flights, and between them keeps the lock alive and looks whether it should stop."""

    def __init__(
        self,
        files: Files,
        lock: Lock | None,
        stop: threading.Event | None,
        mirror: str,
        wait: Callable[[float], object],
    ) -> None:
        self._files = files
        self._lock = lock
        self._stop = stop
        self._mirror = mirror
        self._wait = stop.wait if stop is not None and wait is time.sleep else wait

    def run(self, steps: Steps[T], *, stoppable: bool = True) -> T:
        """Do what `steps` asks for; raises Cancelled between two flights once it should stop."""
        answer: list[Outcome] | None = None
        while True:
            try:
                step = steps.send(answer) if answer is not None else next(steps)
            except StopIteration as done:
                result: T = done.value
                return result
            if stoppable:
                self._go_on()
            if isinstance(step, Pause):
                self._wait(step.seconds)
                answer = []
            else:
                self._keep_alive()
                answer = self._send(step, stoppable=stoppable)

    def _send(self, flight: Flight, *, stoppable: bool) -> list[Outcome]:
        if flight.ordered:
            return self._send_in_order(list(flight.ops), stoppable=stoppable)
        outcomes: list[Outcome] = []
        held = self._lock is not None and self._lock.held
        pulse = Pulse(BEAT, self._lock.beat) if self._lock is not None and held else None
        ops = self._until_stopped(flight.ops) if stoppable else flight.ops
        for outcome in self._files.carry_out(ops, pulse):
            if self._lock is not None and isinstance(outcome.op, Rewrite):
                self._lock.heard(outcome)
            elif flight.each is not None:
                flight.each(outcome)
            else:
                outcomes.append(outcome)
        if stoppable:
            self._go_on()
        return outcomes

    def _send_in_order(self, ops: Sequence[Op], *, stoppable: bool) -> list[Outcome]:
        """Send a long flight in parts: no sign of life can be slipped in among operations that keep an order."""
        most = _AT_ONCE if self._files.traits.ordered else _ONE_BY_ONE
        outcomes = self._files.in_order(ops[:most])
        for start in range(most, len(ops), most):
            if stoppable:
                self._go_on()
            self._keep_alive()
            outcomes += self._files.in_order(ops[start : start + most])
        return outcomes

    def keep_alive(self) -> bool:
        """Beat between short flights too; ask whether we still hold after a silence (this machine slept, say).

        Tells whether it was due. Raises Cancelled once it should stop.
        """
        self._go_on()
        return self._keep_alive()

    def _keep_alive(self) -> bool:
        lock = self._lock
        if lock is None or not lock.held or lock.silent_for < BEAT:
            return False
        if lock.silent_for >= DOUBT:
            lock.confirmed(list(self._files.carry_out(lock.confirm_ops())))
        for outcome in self._files.in_order([lock.beat()]):
            lock.heard(outcome)
        return True

    def _until_stopped(self, ops: Iterable[Op]) -> Iterator[Op]:
        for op in ops:
            if self._stop is not None and self._stop.is_set():
                return
            yield op

    def _go_on(self) -> None:
        if self._stop is not None and self._stop.is_set():
            raise Cancelled(f"{self._mirror}: publishing: told to stop; the next try continues")


class FilesHold:
    """The lock on one mirror, and what this hold has seen and done so far; implements `Hold`."""

    def __init__(
        self,
        layout: Layout,
        crew: _Crew,
        lock: Lock,
        nonce: str,
        known: Known,
        found: Survey,
        traits: Traits,
        dice: random.Random,
        linger: Linger,
    ) -> None:
        self.found = found
        self._layout = layout
        self._crew = crew
        self._lock = lock
        self._nonce = nonce
        self._known = known
        self._traits = traits
        self._links = traits.hard_link
        self._copies = traits.copy_data
        self._hashes = traits.hashes
        self._dice = dice
        self._linger = linger
        self._base: tuple[SnapshotId | None, list[Outcome]] | None = None
        self._staging: Staging | None = None
        self._verified: SnapshotId | None = None
        self._armed: SnapshotId | None = None
        self._temp = False
        self._sure = False
        self._served = found.current
        self._left: set[SnapshotId | None] = set()
        self._trashed: list[bytes] = []
        self._unproven: frozenset[bytes] = frozenset()
        self._altered: set[bytes] = set()
        self._wrong = False
        self._lingers = NOTHING
        self._tree = Tree({}, ())

    def enter(self, ahead: Plan | None) -> None:
        """Take the lock; list what `ahead` links from meanwhile."""
        if self.found.free is not None and self.found.free < _LEAST:
            raise Full(
                f"{self._layout.mirror}: taking the lock: its disk is full: {weigh(self.found.free)} are free;"
                " make room there, or keep fewer releases (mirror.sftp.keep)",
                _LEAST,
                self.found.free,
            )
        listed: list[Outcome] = []
        asked = self._list_base(ahead) if ahead is not None and (self._links or self._copies) else []
        missing = self._layout.missing_folders(self.found, OWN) if OWN not in self.found.folders else []
        self._crew.run(self._lock.take(self.found.locks, missing, asked, listed.append))
        if ahead is not None:
            self._base = (ahead.base, listed)
        if self._lock.overtaken or self.found.half is not None:
            self.found = self._look_again()
            if self.found.half is not None:
                self._crew.run(self._layout.settle(self.found, self._nonce), stoppable=False)
                self.found = self._look_again()
            self._served = self.found.current
            self._base = None

    def _look_again(self) -> Survey:
        return replace(self._crew.run(self._layout.survey()), why=self.found.why)

    def _list_base(self, plan: Plan) -> list[Op]:
        if plan.base is None:
            return []
        return [*list_base(plan, self._layout.stands_at(plan.base, self.found.current), self._places(plan))]

    def _places(self, plan: Plan) -> list[bytes]:
        """Return the folders of the base in which files may stand that will linger beside the plan's target."""
        if self._linger.grace <= 0:
            return []
        base = self._linger.earlier(plan.base) if plan.base is not None and self.found.previous else None
        before = beside(base, self._earlier(self.found.previous)) if base is not None else NOTHING
        return places_in(plan.removed, before)

    def _earlier(self, names: Iterable[bytes]) -> list[Signed]:
        """Return what we know of the releases with these names."""
        return self._linger.know(release for name in names if (release := id_in(name)) is not None)

    def _lingering(self, signed: Signed, plan: Plan) -> Lingering:
        """Say which files of earlier releases will linger beside one that is led to now."""
        grace = self._linger.grace
        if grace > 0 and not self._lock.server_time and self.found.left.keys() - {plan.instead_of}:
            self._crew.run(self._confirm())  # its server does not say what time it is when a file is made
        releases = left_with(plan, self.found.left, self._lock.server_time, grace)
        return beside(signed, self._linger.know(releases))

    def _lacking(self, lingering: Lingering) -> Steps[Lingering]:
        """Return what of it has to be laid out: all, or what does not stand where readers will look for it."""
        if not self._layout.in_place or not lingering.own:
            return lingering
        top = self._layout.serve
        return lingering.lacking(gather(top, (yield Flight(list_tree(top, lingering.folders)))))

    def leave(self) -> None:
        """Drop the lock, and what was made only for a moment."""
        self._crew.run(self._drop(), stoppable=False)

    def _drop(self) -> Steps[None]:
        if self._lock.silent_for >= DOUBT and self._lock.held:
            yield from self._confirm()
        if not self._lock.held:
            return
        armed = self._layout.disarm(self._nonce) if self._temp else []
        outcomes = yield Flight([*armed, Remove(self._lock.path)], ordered=True)
        if outcomes[-1].trouble is not Trouble.MISSING:
            need(outcomes[-1], f"{self._layout.mirror}: dropping the lock")

    def stage(self, plan: Plan, signed: Signed, content: Content, seen: Callable[[Progress], None]) -> Staged:
        """Lay the snapshot out in staging/."""
        refuse_names(self._layout.mirror, plan.target, self._traits, signed.manifest.entries)
        again = self._staging is not None and self._staging.plan.target == plan.target
        if not again:
            self._unproven, self._altered, self._wrong = frozenset(), set(), False
        stands = self._crew.run(self._layout.beside(plan, signed))
        lingering = self._lingering(signed, plan)
        self._staging = Staging(
            layout=self._layout,
            plan=plan,
            source=Source.of(signed, content, stands, self._crew.run(self._lacking(lingering))),
            found=self.found,
            known=self._known,
            nonce=self._nonce,
            links=self._links,
            copies=self._copies and not self._wrong,  # the base may be what was wrong
            dice=self._dice,
            base=self._base[1] if self._base is not None and self._base[0] == plan.base else None,
            again=again,
            distrusted=frozenset(self._altered),
            doubted=self._linger.doubted,
            sure=self._confirm,
            trashed=self._trashed,
        )
        self._verified = None
        self._sure = False
        self._temp = True
        staged = self._crew.run(self._staging.run(seen))
        source = self._staging.source
        self._lingers = lingering.without(staged.left_out)
        laid = source.lingering.without(staged.left_out)
        self._staging = replace(self._staging, source=replace(source, lingering=laid))
        self._tree = self._lingers.beside(tree_of(signed))
        if staged.stood:
            self._staging = None
        else:
            self._armed = plan.target
        return replace(staged, files_linked=staged.files_linked + len(stands))

    def inspect(self, staged: Staged, signed: Signed, read_back: int = READ_BACK) -> Inspected:
        """List the staged tree and read back what was sent; read the lock again meanwhile."""
        assert staged.stood or self._staging is not None, "what is inspected was staged in this hold"
        top, tree = self._layout.stands_at(staged.release, self._served), self._lingers.beside(tree_of(signed))
        proving = None
        if self._staging is not None:
            top, tree = self._staging.top, self._staging.source.tree()
            self._unproven = self._unproven | staged.unproven if self._unproven else staged.unproven
            proving = Proving.of(
                self._staging.source,
                top,
                self._unproven,
                read_back,
                self._dice,
                first=self._altered,
                hashes="sha256" in self._hashes,
            )
        findings = self._crew.run(self._inspect(top, tree, proving))
        if staged.stood:
            changing = {OWN_FOLDER + b"/" + name for name in signed.changing_files()}
            findings = Findings(
                tuple(path for path in findings.missing if path not in changing),
                findings.extra,
                tuple(path for path in findings.different if path not in changing),
            )
        self._altered |= set(findings.altered)
        self._wrong = bool(findings)
        self._verified = None if findings else staged.release
        return inspected(findings, proving)

    def beat(self) -> None:
        """Rewrite the lock if its last sign of life is old; then it is read again before readers are led on."""
        if self._crew.keep_alive():
            self._sure = False

    def serve(
        self, release: SnapshotId, instead_of: SnapshotId | None, keep: frozenset[SnapshotId] | None = None
    ) -> Switched:
        """Lead readers to the staged tree, or to a release that stands, as the layout does it."""
        assert release in (self._verified, *self.found.releases), "what is served was inspected"
        return self._crew.run(self._serve(release, instead_of, keep), stoppable=False)

    def _serve(
        self, release: SnapshotId, instead_of: SnapshotId | None, keep: frozenset[SnapshotId] | None
    ) -> Steps[Switched]:
        if self._armed != release:
            self._sure = False
            self._temp = True
            for outcome in (yield Flight(self._layout.arm(release, self._nonce), ordered=True)):
                if not isinstance(outcome.op, Remove):
                    need(outcome, f"{self._layout.mirror}: switching to {release}")
            self._armed = release
        if not self._sure:
            yield from self._confirm()
        staged = self._staging.top if self._staging is not None and self._verified == release else None
        self._left.update({instead_of} - {None, release})
        last = [Remove(self._lock.path)] if keep is not None and not self._work_left(keep, release) else []
        turn = Turn(release, staged, instead_of, self._nonce, self._tree, self._confirm, last)
        turned = yield from self._layout.turn(turn)
        self._staging = None
        if not turned.already:
            self._armed = None
            self._temp = False
            if turned.last and turned.last[0].good:
                self._lock.held = False
        self._served = release
        return Switched(release, instead_of, turned.mixture, turned.gap)

    def mend(
        self,
        signed: Signed,
        content: Content,
        suspects: Collection[bytes],
        seen: Callable[[Progress], None],
        read_back: int = READ_BACK,
    ) -> Mended:
        """Put the served release right."""
        source = Source.of(signed, content, lingering=beside(signed, self._earlier(self.found.previous)))
        mending = Mending(self._layout, source, self.found, self._nonce, self._confirm, self._trashed)
        mended = self._crew.run(mending.run(suspects, seen))
        if not mended.wrong:
            return mended
        release = signed.snapshot.id
        top = self._layout.stands_at(release, release)
        hashes = "sha256" in self._hashes
        proving = Proving.of(source, top, mended.rewritten, read_back, self._dice, hashes=hashes)
        return replace(mended, inspected=self._crew.run(prove(proving)))

    def do(self, steps: Steps[T], *, stoppable: bool = True) -> T:
        """Do what some steps ask for, under this lock."""
        return self._crew.run(steps, stoppable=stoppable)

    def post(self, files: Mapping[bytes, bytes], mtime: int) -> None:
        """Write files beside `.mirrord/`, then rename them into what is served now."""
        self._crew.run(self._post(files, mtime))

    def _post(self, files: Mapping[bytes, bytes], mtime: int) -> Steps[None]:
        doing = f"{self._layout.mirror}: posting"
        temps = {OWN + b"/temp." + self._nonce.encode() + b".p%d" % n: name for n, name in enumerate(files)}
        puts = [_put(temp, files[name], mtime) for temp, name in temps.items()]
        for outcome in (yield Flight([Remove(temp) for temp in temps])):
            if outcome.trouble is not Trouble.MISSING:
                need(outcome, doing)
        for outcome in (yield Flight(puts)):
            need(outcome, doing)
        outcomes = yield Flight(dict.fromkeys((*self._lock.confirm_ops(), *self._layout.look())))
        self._lock.confirmed(outcomes)
        # A card in the release of another snapshot would make it forged.
        current = self._layout.check_current(outcomes, self._served)
        if current is not None:
            yield from self._layout.post(current, temps)

    def expire(self, signed: Signed) -> tuple[bytes, ...]:
        """Take away what lingers in the served release and had its time."""
        return self._crew.run(self._expire(signed))

    def _expire(self, signed: Signed) -> Steps[tuple[bytes, ...]]:
        names = self.found.previous
        if not names or self._served != signed.snapshot.id:
            return ()
        yield from self._confirm()
        stay = self._noted() if self._linger.grace > 0 else frozenset()
        if all(id_in(name) in stay for name in names):
            return ()
        earlier = self._earlier(names)
        release = signed.snapshot.id
        top = self._layout.stands_at(release, release)
        stands = None
        if len(earlier) < len(names):
            (walked,) = yield Flight((Walk(top),))
            listed = need(walked, f"{self._layout.mirror}: cleaning up").value
            stands = [path for path, told in listed.items() if told.kind is not Kind.FOLDER]
        gone = over(signed, names, stay, earlier, stands)
        folders = self._layout.missing_folders(self.found, OWN, TRASH)
        delete = None if self._layout.traits.rename_folder else self._layout.delete
        return (yield from take_away(gone, top, self._trash, folders, delete))

    def _trash(self, name: bytes) -> bytes:
        name += b"." + self._nonce.encode()
        self._trashed.append(name)
        return TRASH + b"/" + name

    def _noted(self) -> frozenset[SnapshotId]:
        """Return the releases whose files may still linger."""
        return left_lately(self.found.left, self._lock.server_time, self._linger.grace)

    def make_room(self, spare: frozenset[SnapshotId]) -> tuple[SnapshotId, ...] | None:
        """Drop what broken-off tries left; where there is nothing of that, the oldest release that may go."""
        return self._crew.run(self._make_room(spare))

    def _make_room(self, spare: frozenset[SnapshotId]) -> Steps[tuple[SnapshotId, ...] | None]:
        yield from self._confirm()
        litter = self.found.trash or self._trashed or len(self.found.staging) > 1  # one of them is ours by now
        oldest = [] if litter else sorted(self._prunable(spare, self._served))[:1]
        if not (litter or oldest):
            return None
        ours = self._staging.top.removeprefix(STAGING + b"/") if self._staging is not None else b""
        found = replace(self.found, current=self._served, trash=(*self.found.trash, *self._trashed))
        pruned = yield from self._layout.clean(found, oldest, [ours], self._nonce, self._known, self._noted())
        self._trashed.clear()
        (space,) = yield Flight((Space(b""),))
        left = tuple(release for release in self.found.releases if release not in pruned.releases)
        self.found = replace(self.found, releases=left, staging=(), trash=(), temps=(), free=space.value)
        return pruned.releases

    def prune(self, keep: frozenset[SnapshotId]) -> Pruned:
        """Drop what nobody wants any more."""
        return self._crew.run(self._prune(keep))

    def _prune(self, keep: frozenset[SnapshotId]) -> Steps[Pruned]:
        if not self._work_left(keep, self._served):
            return Pruned()
        if not self._sure:
            yield from self._confirm()
        unfinished = [self._staging.top.removeprefix(STAGING + b"/")] if self._staging is not None else []
        drop = self._prunable(keep, self._served)
        found = replace(self.found, current=self._served, trash=(*self.found.trash, *self._trashed))
        return (yield from self._layout.clean(found, drop, unfinished, self._nonce, self._known, self._noted()))

    def _work_left(self, keep: frozenset[SnapshotId], served: SnapshotId | None) -> bool:
        """Tell whether pruning has anything to do, as far as we know without asking."""
        found = self.found
        litter = bool(found.staging or found.trash or found.temps or self._trashed)
        litter = litter or bool(self._layout.litter(replace(found, current=served)))
        beyond = [release for release in found.releases if release not in keep and release != served]
        return litter or bool(self._prunable(keep, served) if self._sure else beyond)

    def _prunable(self, keep: frozenset[SnapshotId], served: SnapshotId | None) -> list[SnapshotId]:
        left = {release for release in self._left if release is not None}
        return self._layout.prunable(replace(self.found, current=served), keep | left, self._lock.server_time)

    def _confirm(self) -> Steps[None]:
        self._lock.confirmed((yield Flight(self._lock.confirm_ops())))
        self._sure = True

    def _inspect(self, top: bytes, tree: Tree, proving: Proving | None) -> Steps[Findings]:
        """List a tree, read back what was sent and read the lock again, in one flight."""
        outcomes: list[Outcome] = []
        comparison = Comparison(tree, top)

        def take(outcome: Outcome) -> None:
            if not comparison.take(outcome) and (proving is None or not proving.take(outcome)):
                outcomes.append(outcome)

        proofs = proving.ops() if proving is not None else ()
        yield Flight(chain(self._lock.confirm_ops(), list_tree(top, tree.folders), proofs), each=take)
        self._lock.confirmed(outcomes)
        self._sure = True
        wrong = comparison.findings()
        listed_wrong = {*wrong.missing, *wrong.different}
        altered = proving.altered - listed_wrong if proving is not None else ()
        return replace(wrong, altered=tuple(sorted(altered)))


def _put(path: bytes, data: bytes, mtime: int) -> Put:
    return Put(path, len(data), mtime, 0o644, lambda: BytesIO(data))
