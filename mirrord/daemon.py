"""When does what happen, and who does it?

The daemon is the shell around everything else. One thread, this one, owns all that changes and decides;
it is woken by what others bring: a round of looks, a zone that was read, a publish that ended, a verb from
the socket, a signal. Looking, publishing and switching run on crews of their own, so that a slow upload
never delays a probe or a move. The schedule only puts work into this thread's hands.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from mirrord.config import Settings, load
from mirrord.control import doctoring, drilling, examining, moving  # noqa: F401 - examining: see `control.desk`
from mirrord.control.crew import make_crew
from mirrord.control.desk import Desk
from mirrord.control.inbox import Inbox
from mirrord.control.looking import Looker
from mirrord.control.mind import Mind, Reading
from mirrord.control.notify import Notifier
from mirrord.control.publishing import Publishing
from mirrord.control.pulse import Pulse
from mirrord.control.server import ControlServer, Talk
from mirrord.control.upkeep import RENEW_EVERY, Upkeep
from mirrord.control.works import Works
from mirrord.decide import Move, Stay
from mirrord.errors import BadConfig, MirrordError
from mirrord.health import Round
from mirrord.journal import Event

_log = logging.getLogger(__name__)

T = TypeVar("T")
_SIGNALS = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGHUP))

STEP = 2.0
"""Seconds: a larger difference between what the wall and the monotonic clock advanced is a step of the wall clock."""
LEAVE = 3.0
"""Seconds that work under way gets to end after a stop; then the process goes without it."""
GONE = 4.0
"""Seconds after a stop by which the process is gone, whatever the owning thread waits for: a disk, a locked journal."""
NOTE_EVERY = 3600.0
"""Seconds between two times that certificates are written down."""
NAMES_TAKE = 300.0
"""Seconds that reading or changing a zone takes at most: every wait in it has its own limit, far below."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where time comes from."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    boot: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    """Goes on while the machine is suspended; the monotonic clock does not."""


class Watch:
    """Notices when the wall clock is set and when the machine was suspended."""

    def __init__(self, clocks: Clocks) -> None:
        """Remember where the clocks stand."""
        self._clocks = clocks
        self._wall, self._monotonic, self._boot = clocks.wall(), clocks.monotonic(), clocks.boot()

    def look(self) -> tuple[float, float]:
        """Return by how many seconds the wall clock was set, and how long we slept, since the last look."""
        wall, monotonic, boot = self._clocks.wall(), self._clocks.monotonic(), self._clocks.boot()
        ran = monotonic - self._monotonic
        slept = max((boot - self._boot) - ran, 0.0)
        stepped = (wall - self._wall) - ran - slept
        self._wall, self._monotonic, self._boot = wall, monotonic, boot
        return stepped, slept


class Turns:
    """One round at a time: what falls due while one runs begins as soon as that has ended."""

    def __init__(self) -> None:
        """Start with none running."""
        self._running = False
        self._due = False

    def begin(self) -> bool:
        """Take note that a round is due; return whether it may begin now."""
        self._due = self._running
        may, self._running = not self._running, True
        return may

    def end(self) -> bool:
        """Take note that the round has ended; return whether another one fell due meanwhile."""
        due, self._due, self._running = self._due, False, False
        return due


class Daemon:
    """One controller, running."""

    def __init__(self, settings: Settings, notifier: Notifier, clocks: Clocks = Clocks()) -> None:
        """Open everything; nothing is looked at or moved yet."""
        self._clocks = clocks
        self._watch = Watch(clocks)
        self._notifier = notifier
        self._inbox = Inbox()
        self._post = self._inbox.post
        self._leaving: str | None = None
        self._gone = threading.Event()
        self._scheduler = BackgroundScheduler(
            timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        )
        self._coordinators = make_crew("round", 2)
        self._noted = float("-inf")
        """When certificates were written down last, monotonic."""
        self._drills = make_crew("drill", 1)
        self._drilling: set[str] = set()
        self.pulse = Pulse(clocks.monotonic)
        self._overdue: list[str] = []
        self._rounds = Turns()
        self._rhythm = 0.0
        """Seconds from the beginning of one round to that of the next, as scheduled."""
        self._reading: set[str] = set()
        self._ticked = clocks.monotonic()
        self._open(settings)
        self._alone = contextlib.ExitStack()
        self._alone.enter_context(self.works.locked("daemon"))
        self.mind = Mind(settings, self.works.journal, now=clocks.monotonic(), wall=clocks.wall())
        self.upkeep = Upkeep(self.works, self.mind, self.publishing, self._later, clocks.monotonic)
        self._make_desk()
        self._server = ControlServer(settings.control.socket, self._call)

    def _open(self, settings: Settings) -> None:
        self.works = Works(settings)
        self.looker = Looker(self.works)
        self.publishing = Publishing(
            self.works, lambda published: self._post(lambda: self.upkeep.ended(published)), self.pulse
        )

    def _make_desk(self) -> None:
        self.desk = Desk(
            self.works,
            self.mind,
            self.looker,
            self.publishing,
            ask=self._inbox.ask,
            tell=self._post,
            daemon=True,
            ordered=lambda: self._post(self._obey),
        )

    def _call(self, verb: str, arguments: Mapping[str, Any], talk: Talk, who: str) -> dict[str, Any]:
        return self.desk.call(verb, arguments, talk, who)

    # -- the owning thread

    def run(self) -> None:
        """Work until told to stop."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # before any thread is made: they all inherit it
        threading.Thread(target=self._listen, name="signals", daemon=True).start()
        self._server.start()
        self._arm()
        self._scheduler.start()
        self._notifier.ready(self._watching())
        self.mind.note(Event("start", f"mirrord started, process {os.getpid()}"))
        while self._leaving is None:
            self._turn()

    def _listen(self) -> None:
        """Take signals in a thread of its own: the owning one may wait for a disk just then."""
        while (got := signal.sigwait(_SIGNALS)) == signal.SIGHUP:
            self._post(self._reload)
        name = signal.Signals(got).name
        self.works.stop.set()
        self.publishing.abort()
        self._post(lambda: self._leave(name))
        if not self._gone.wait(GONE):
            os._exit(0)

    def _turn(self) -> None:
        self._take_up(max(0.0, self._ticked + 1.0 - self._clocks.monotonic()))
        if self._clocks.monotonic() >= self._ticked + 1.0:
            self._ticked = self._clocks.monotonic()
            self._each_second()

    def _take_up(self, patience: float) -> None:
        """Do the next thing that was brought, if one is within so many seconds."""
        act = self._inbox.next(patience)
        if act is not None:
            self._safely(act)

    def _safely(self, act: Callable[[], None]) -> None:
        try:
            act()
        except MirrordError as e:
            _log.error("%s", e)
        except Exception:  # noqa: BLE001 (one event that goes wrong must not end the watch)
            _log.exception("something that nobody foresaw; the daemon goes on")

    def _each_second(self) -> None:
        stepped, slept = self._watch.look()
        if slept > 3 * self.works.settings.probe.every:
            _log.warning("the machine slept for %.0f s: judging anew", slept)
            self.mind.slept(self._clocks.monotonic())
        if abs(stepped) > STEP:
            _log.warning("the wall clock was set by %+.0f s: the schedule starts anew", stepped)
        if max(abs(stepped), slept) > STEP:
            self._arm()
        overdue = self.pulse.overdue()
        for what in overdue:
            if what not in self._overdue:
                _log.error("%s does not get on; the watchdog is told nothing as long as it does not", what)
        self._overdue = overdue
        if not overdue:
            self._notifier.alive()

    def _expect_rounds(self) -> None:
        """Expect the next round to begin and end in time; also of the schedule that begins it."""
        probe = self.works.settings.probe
        self.pulse.expect("looking at the mirrors", 3 * (probe.every + probe.timeout) + 10)

    def _arm(self) -> None:
        """(Re)start every job from now on."""
        settings = self.works.settings
        self._expect_rounds()
        for name, every, act in (
            ("names", settings.probe.every, self._read_zones),  # first: a plan may have been open when we died
            ("look", self._due_rhythm(), self._look),
            ("sync", settings.snapshot.every, self.upkeep.take),
            ("renew", RENEW_EVERY, self.upkeep.bring),
            ("remember", 3600.0, self._remember_name_servers),
        ):
            self._schedule(name, every, act, datetime.now(UTC))
        self._rhythm = self._due_rhythm()

    def _schedule(self, name: str, every: float, act: Callable[[], None], first: datetime) -> None:
        self._scheduler.add_job(
            self._job,
            IntervalTrigger(seconds=max(every, 0.05), timezone=UTC),
            args=(act,),
            id=name,
            replace_existing=True,
            next_run_time=first,
        )

    def _due_rhythm(self) -> float:
        return self.mind.standing.rhythm(self.works.settings.thresholds())

    def _hurry_or_rest(self, seen: Round) -> bool:
        """Look again sooner while something is suspicious, as usual once it is known; return whether that changed."""
        rhythm = self._due_rhythm()
        if rhythm == self._rhythm:
            return False
        left = max(seen.started + rhythm - self._clocks.monotonic(), 0.0)
        self._schedule("look", rhythm, self._look, datetime.now(UTC) + timedelta(seconds=left))
        self._rhythm = rhythm
        return True

    def _job(self, act: Callable[[], None]) -> None:
        self._post(lambda: act() if self._leaving is None else None)

    # -- looking

    def _look(self) -> None:
        if not self._rounds.begin():
            return  # a dead host stretches the last round; this one follows at once
        standing, looker = self.mind.standing, self.looker
        self._later(self._coordinators.submit(looker.round, standing), self._looked)

    def _looked(self, seen: Round | MirrordError) -> None:
        late = self._rounds.end()
        self._expect_rounds()
        if self._leaving is not None:
            return
        self.mind.hindered("look", seen if isinstance(seen, MirrordError) else None)
        if isinstance(seen, MirrordError):
            return
        self.mind.saw(seen, self.works.settings.thresholds(), self.looker.published())
        if not self._hurry_or_rest(seen) and late:
            self._look()
        for service in self.mind.affairs:  # what goes wrong with one must not keep the others waiting
            self._safely(partial(self._conclude, service))
        self.upkeep.looked()
        self._drill()
        if seen.ended - self._noted >= NOTE_EVERY:
            self._noted = seen.ended
            doctoring.note_certificates(self.works.journal, seen, seen.wall_ended)

    # -- deciding and moving

    def _conclude(self, service: str) -> None:
        affair = self.mind.affairs[service]
        if affair.busy or self._leaving is not None:
            return
        decision = self.mind.conclude(service, now=self._clocks.monotonic())
        if isinstance(decision, Move) and not self._is_read_anew(service):
            self._start_move(service, decision)

    def _is_read_anew(self, service: str) -> bool:
        """Tell whether the zone, of which no more is known than before our last plan, is just being read.

        Where the road is silent that takes longer than a round, and a move would be refused for that plan of our own.
        """
        known = self.mind.affairs[service].reading.epoch
        return service in self._reading and known < self.works.journal.highest_epoch(service)

    def _start_move(self, service: str, move: Move) -> None:
        affair = self.mind.affairs[service]
        self.mind.claim(service, f"moving readers to {move.target}")
        reading, works, looker, standing = affair.reading, self.works, self.looker, self.mind.standing
        policy = self.mind.policy(service)
        self.pulse.expect(f"moving readers of {service}", NAMES_TAKE)
        future = works.naming.submit(moving.carry_out, works, looker, standing, move, policy, reading)
        self._later(future, lambda moved: self._moved(service, move, moved))

    def _obey(self) -> None:
        """Act on an order at once, not with the next round."""
        for service in self.mind.affairs if self.mind.round is not None else ():
            self._safely(partial(self._conclude, service))
        self._read_zones()

    def _moved(self, service: str, move: Move, moved: moving.Moved | MirrordError) -> None:
        self.pulse.ended(f"moving readers of {service}")
        self.mind.release(service)
        if isinstance(moved, MirrordError):
            self.mind.not_moved(service, move, moved)
        else:
            self.mind.take_in(service, moved)
        self._read_zone(service)

    def _read_zones(self) -> None:
        for service in self.mind.affairs:
            self._read_zone(service)

    def _read_zone(self, service: str) -> None:
        """Read what the zone says; first find out what became of a plan that is open."""
        affair = self.mind.affairs.get(service)
        if affair is None or service in self._reading or affair.busy:
            return
        self._reading.add(service)
        self.pulse.expect(f"reading the zone of {service}", NAMES_TAKE)
        future = self.works.naming.submit(
            moving.attend,
            self.works,
            service,
            affair.following,
            self.mind.policy(service),
            settle=True,
            adopt=True,
        )
        self._later(future, lambda attended: self._attended(service, attended))

    def _attended(self, service: str, attended: moving.Attended | MirrordError) -> None:
        self._reading.discard(service)
        self.pulse.ended(f"reading the zone of {service}")
        if isinstance(attended, MirrordError):
            epoch = self.works.journal.highest_epoch(service)
            self.mind.read(service, Reading(None, None, str(attended), epoch))
            return
        if attended.resolved is not None:
            self.mind.take_in(service, attended.resolved)
        if attended.followers is not None:
            self.mind.follows(service, attended.followers)
        self.mind.read(service, attended.reading)
        if attended.reading.epoch < self.works.journal.highest_epoch(service):
            self._read_zone(service)  # a plan of ours came meanwhile
        if self.mind.asks_again(service, self._clocks.monotonic()):
            future = self.works.naming.submit(moving.is_let_in, self.works, service)
            self._later(future, lambda let_in: self.mind.lets_us_in(service) if let_in is True else None)

    def _remember_name_servers(self) -> None:
        for service in self.mind.affairs:
            self._later(self.works.naming.submit(moving.remember_name_servers, self.works, service), lambda _: None)

    def _drill(self) -> None:
        """Rehearse a failover of each service that is due, while it is well and nobody is at it."""
        for service, affair in self.mind.affairs.items():
            well = isinstance(affair.decision, Stay) and affair.decision.rule == "well" and not affair.busy
            if well and service not in self._drilling and drilling.due(self.works, service, self._clocks.wall()):
                self._drilling.add(service)
                by = self.works.settings.controller.name
                future = self._drills.submit(self._call, "drill", {"service": service}, lambda _: None, by)
                self._later(future, partial(self._drilled, service))

    def _drilled(self, service: str, outcome: Mapping[str, Any] | MirrordError) -> None:
        self._drilling.discard(service)
        self.mind.hindered(f"drill {service}", outcome if isinstance(outcome, MirrordError) else None)

    # -- coming and going

    def _reload(self) -> None:
        self._notifier.reloading()
        try:
            self._adopt(load(self.works.settings.file))
        except MirrordError as e:
            _log.error("the new configuration is not used, the old one stays:\n%s", e)
            self.mind.note(
                Event("reload", "the new configuration is bad, the old one stays", details={"faults": str(e)})
            )
        finally:
            self._notifier.ready(self._watching())

    def _adopt(self, settings: Settings) -> None:
        """Go on with another configuration; raises BadConfig where it takes more than that."""
        old = self.works.settings
        fixed = {
            "state.directory": (settings.state.directory, old.state.directory),
            "control.socket": (settings.control.socket, old.control.socket),
            "site.name": (settings.site.name, old.site.name),
        }
        changed = [f"{settings.file}: {key} takes effect at a restart only" for key, (a, b) in fixed.items() if a != b]
        if changed:
            raise BadConfig(changed)
        for warning in settings.warnings:
            _log.warning("%s", warning)
        self.works.adopt(settings)
        self.mind.adopt(settings)
        self.desk.looker = self.looker = Looker(self.works)
        self.upkeep.adopt()
        self._arm()
        self.mind.note(Event("reload", f"{settings.file} was read again"))
        _log.info("%s was read again", settings.file)

    def _watching(self) -> str:
        return f"watching {len(self.works.settings.mirrors)} mirrors"

    def _leave(self, why: str) -> None:
        self._leaving = why

    def close(self) -> None:
        """Stop all work; never waits longer than LEAVE for any of it."""
        self._notifier.stopping()
        self.works.stop.set()
        self._server.stop()
        with contextlib.suppress(Exception):
            self._scheduler.shutdown(wait=False)
        self.publishing.abort()
        deadline = self._clocks.monotonic() + LEAVE
        while self._busy() and self._clocks.monotonic() < deadline:
            self._take_up(0.05)
        self.mind.note(Event("stop", f"mirrord stopped: {self._leaving}"))
        self.works.close()
        self._gone.set()

    def _busy(self) -> bool:
        """Tell whether anything is under way that is better ended than broken off."""
        return self.publishing.any_busy() or any(affair.busy for affair in self.mind.affairs.values())

    def _later(self, future: Future[T], then: Callable[[T | MirrordError], None]) -> None:
        """Have the owning thread take in what a worker brings."""

        def bring(done: Future[T]) -> None:
            if done.cancelled():
                return
            error = done.exception()
            if error is None:
                result = done.result()
                self._post(lambda: then(result))
            elif isinstance(error, MirrordError):
                self._post(lambda: then(error))
            else:
                _log.error("something that nobody foresaw", exc_info=error)
                self._post(lambda: then(MirrordError(f"{type(error).__name__}: {error}")))

        future.add_done_callback(bring)


def serve(file: Path) -> int:
    """Run the daemon in the foreground until it is told to stop; return the exit code.

    Ends the process's life by `os._exit` once everything is written: workers may hang in a resolver or in
    a peer that says nothing, and the interpreter would wait for them.
    """
    settings = load(file)
    for warning in settings.warnings:
        _log.warning("%s", warning)
    notifier = Notifier()
    daemon = Daemon(settings, notifier)
    try:
        daemon.run()
    finally:
        daemon.close()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)
