"""Would it work, if the mirror that serves died now?

A drill does everything that a failover does, on a name that no reader uses: `drill.<name>` beside each of a service's
names, with a fence of its own. It supposes that the serving mirror is down and has the rules decide, looks freshly at
the target, leads the shadow name there, waits for the name servers, and fetches pages at the addresses that they now
answer, as a reader would with the service's own name. Then it leads the shadow name back. What was done, and how long
each step took, is the report. No reader is moved, and what a drill leaves behind is in nobody's way.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, TypeVar

from mirrord.control import moving
from mirrord.control.looking import Looker
from mirrord.control.works import Works
from mirrord.decide import Move, Policy, Stay, View, reason_of, who_would_take_over
from mirrord.errors import BadUsage, Braked, MirrordError, Unavailable
from mirrord.health import Target, freshly
from mirrord.journal import Event
from mirrord.manifest import stamp
from mirrord.rules import members
from mirrord.sharing import still_good
from mirrord.switches import (
    Change,
    DnsSettings,
    Expected,
    Found,
    Kind,
    LexiconSettings,
    Switch,
    Zone,
    ZoneState,
    open_switch,
    plan_change,
    transaction,
)

_log = logging.getLogger(__name__)

SHADOW = "drill"
"""The label before a service's name that makes a name for drills."""
OVERDUE = 90 * 86_400.0
"""Seconds after which `status` says that a service was not drilled for long."""
KEEP_REPORTS = 24
_DAY = 86_400.0

T = TypeVar("T")
Seen = Callable[[str], None]
"""Is told what is done next."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a drill: what was done, for how many seconds, and how it ended."""

    name: str
    ok: bool
    seconds: float
    text: str


@dataclass(slots=True)
class Report:
    """How a drill went; plain values, as it is written and shown."""

    service: str
    names: tuple[str, ...]
    """The shadow names."""
    at: float
    """Unix seconds when it began."""
    who: str
    source: str = ""
    target: str = ""
    steps: list[Step] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether readers would have been helped."""
        return bool(self.steps) and all(step.ok for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """Return a value that `json` can write."""
        return {
            "service": self.service,
            "names": list(self.names),
            "when": stamp(datetime.fromtimestamp(self.at, UTC)),
            "at": self.at,
            "who": self.who,
            "from": self.source,
            "to": self.target,
            "ok": self.ok,
            "seconds": round(sum(step.seconds for step in self.steps), 3),
            "steps": [asdict(step) for step in self.steps],
        }


def shadow_of(settings: DnsSettings | LexiconSettings) -> DnsSettings | LexiconSettings:
    """Return the settings of the shadow names beside a service's own."""
    names = tuple(f"{SHADOW}.{name}" for name in settings.names)
    return replace(settings, service=f"{settings.service}/{SHADOW}", names=names)


def without_shadow(works: Works, services: Iterable[str]) -> dict[str, str]:
    """Return the services that cannot be rehearsed, each with the reason."""
    return {
        service: _why_no_shadow(service)
        for service in services
        if not isinstance(works.settings.switch(service), DnsSettings | LexiconSettings)
    }


def _why_no_shadow(service: str) -> str:
    return f"{service}: a drill needs a name beside the service's own, so it works with DNS only"


def rehearse(works: Works, looker: Looker, view: View, policy: Policy, who: str, seen: Seen = lambda _: None) -> Report:
    """Go through a whole failover on the shadow names, and back; write the report down.

    Raises BadUsage for a service that has no shadow, Braked where something stands there that is not ours, and Locked
    where another drill of it is under way.
    """
    settings = works.settings.switch(policy.service)
    if not isinstance(settings, DnsSettings | LexiconSettings):
        raise BadUsage(_why_no_shadow(policy.service))
    shadow = shadow_of(settings)
    with works.locked(f"drill-{policy.service}"):
        drill = _Drill(works, looker, view, policy, shadow, open_switch(shadow), who, seen)
        report = drill.run()
        _write(works, report)
    return report


@dataclass(slots=True)
class _Drill:
    """One drill on its way."""

    works: Works
    looker: Looker
    view: View
    policy: Policy
    shadow: DnsSettings | LexiconSettings
    switch: Switch
    who: str
    seen: Seen
    report: Report = field(init=False)

    def __post_init__(self) -> None:
        self.report = Report(self.policy.service, self.shadow.names, time.time(), self.who)

    def run(self) -> Report:
        """Do one step after the other; what was led away is led back, however the rest ends.

        Raises Braked "foreign" where something stands there from the beginning that is not ours: nothing was written.
        """
        self._settle()
        move = self._step("decide", self._decide)
        if move is None:
            return self.report
        self.report.source, self.report.target = move.source, move.target
        with contextlib.suppress(Unavailable):  # the next step says so
            self._stands()
        if not self._step("prepare", lambda: self._lead(move.source)):
            return self.report
        found = self._step("look", lambda: self._look(move))
        if found is not None:
            target, bad = found
            self.report.target = target
            if self._step("switch", lambda: self._lead(target, bad)):
                self._step("fetch", lambda: self._fetch(target))
            self._step("back", lambda: self._back(move.source))
        return self.report

    def _step(self, name: str, work: Callable[[], tuple[T, str]]) -> T | None:
        """Time a step and note how it ended; an error of ours ends it, and not the drill."""
        self.seen(name)
        began = time.monotonic()
        try:
            value, text = work()
        except MirrordError as e:
            self.report.steps.append(Step(name, ok=False, seconds=time.monotonic() - began, text=str(e)))
            return None
        self.report.steps.append(Step(name, ok=True, seconds=time.monotonic() - began, text=text))
        return value

    def _settle(self) -> None:
        """Find out what became of a plan that a killed drill left open, or nothing could be led anywhere again."""
        transaction.resolve(
            self.switch,
            self.works.journal,
            self.shadow.service,
            by=self._by,
            executor=self.works.asking,
            stop=self.works.stop,
        )

    def _decide(self) -> tuple[Move, str]:
        """Suppose that the serving mirror was just judged down, and have the rules decide.

        A hold is an order, and no fault of what is to be proven; nor does a drill move anybody whom it keeps.
        """
        service = self.policy.service
        if self.view.serving is None:
            raise Unavailable(f"nobody knows which mirror serves {service}")
        dead = members(self.view.serving)[0]
        decision = who_would_take_over(replace(self.view, held=None), self.policy, dead)
        if not isinstance(decision, Move):
            raise Unavailable(f"if {dead} went down, readers would stay: {reason_of(decision)}")
        asked = ", once a person said yes" if decision.agreed else ""
        held = "" if self.view.held is None else f"; but now they would stay: {service} is {self.view.held}"
        return decision, f"if {dead} went down, readers would go to {decision.target}{asked}{held}"

    def _stands(self) -> Expected:
        """Return what stands at the shadow names; raises Braked where it is somebody else's."""
        looked = transaction.look(
            self.switch,
            self.works.journal,
            self.shadow.service,
            self.policy.addresses,
            by=self._by,
            shared=self._shared,
        )
        if looked.comparison.state is not ZoneState.FOREIGN or _is_empty(looked.zone):
            return looked.zone.stands
        own = self._without_wildcards(looked.zone)
        if _is_empty(own):
            return own.stands
        raise Braked(
            f"{self.policy.service}: a drill at {', '.join(self.shadow.names)}: {looked.comparison.text}; that is not"
            " mirrord's: take it out of the zone",
            "foreign",
        )

    def _without_wildcards(self, zone: Zone) -> Zone:
        """Leave out what stands alike at a name that nobody has: a wildcard gives it, and it goes when ours stand."""
        nobody = transaction.new_nonce()
        beside = {name: f"{nobody}.{name.removeprefix(f'{SHADOW}.')}" for name in zone.names}
        given = open_switch(replace(self.shadow, names=tuple(beside.values()))).read().names
        own = {name: Found() if found == given[beside[name]] else found for name, found in zone.names.items()}
        return replace(zone, names=own)

    def _lead(self, target: str, bad: Sequence[str] = ()) -> tuple[bool, str]:
        """Lead the shadow names to a mirror, as readers would be led, and wait for all name servers."""
        change = self._plan(self._stands(), target, bad)
        began = time.time()
        result = transaction.run(
            self.switch, self.works.journal, change, executor=self.works.asking, stop=self.works.stop
        )
        if result.kind is not Kind.DONE:
            raise Unavailable(result.text)
        committed = (result.committed or began) - began
        return True, f"{result.text}; committed after {committed:.2f} s, all name servers followed"

    def _back(self, source: str) -> tuple[bool, str]:
        """Lead the shadow names back, after finding out what became of a switch whose outcome was not known."""
        self._settle()
        return self._lead(source)

    def _plan(self, stands: Expected, target: str, bad: Sequence[str]) -> Change:
        return plan_change(
            self.shadow.service,
            stands,
            target,
            self.policy.addresses,
            nonce=transaction.new_nonce(),
            by=self._by,
            ttl=self.shadow.ttl,
            was_ttl=self.shadow.ttl,
            leave_out=bad,
            epoch_above=self.works.journal.highest_epoch(self.shadow.service),
            who=self.who,
            why="a drill",
            shared=self._shared,
        )

    def _look(self, move: Move) -> tuple[tuple[str, tuple[str, ...]], str]:
        """Look freshly, as before every move; return who passed, the next one where need be, and addresses left out."""
        standing = self.view.standing
        step, looks, failed = moving.look_freshly(self.looker, standing, move, self.policy)
        if isinstance(step, Stay):
            raise Unavailable(step.reason)
        bad = moving.bad_addresses(self.policy, step.target, looks, standing)
        instead = "".join(f"{mirror}: {why}; " for mirror, why in failed.items())
        without = f", but not at {' and '.join(bad)}" if bad else ""
        return (step.target, bad), f"{instead}{step.target} is well in a fresh look{without}"

    def _fetch(self, target: str) -> tuple[bool, str]:
        """Fetch pages at the addresses that the names yield, as readers of the service do."""
        zone = self.switch.read()
        addresses = sorted({address for found in zone.names.values() for address in found.rrsets.addresses})
        for address in addresses:
            self._fetch_at(address, members(target))
        names = ", ".join(self.works.settings.service(self.policy.service).names)
        return True, f"{', '.join(addresses)}: serves {names}, signed pages and all"

    def _fetch_at(self, address: str, mirrors: tuple[str, ...]) -> None:
        known = [t for t in self.works.settings.targets() if t.service == self.policy.service and t.mirror in mirrors]
        wanted = [target for target in known if _same(target, address)]
        if not wanted:
            raise Unavailable(f"{address} is answered, and is no address of {' or '.join(mirrors)}")
        standing, mirror = self.view.standing, wanted[0].mirror
        seen = self.looker.at(standing, wanted)
        thresholds = self.works.settings.thresholds()
        fresh = freshly(seen, standing, mirror, self.policy.service, thresholds, published=self.looker.published())
        if (why := still_good(fresh)) is not None:
            raise Unavailable(f"{address}: {why}")

    @property
    def _by(self) -> str:
        return self.works.settings.controller.name

    @property
    def _shared(self) -> bool:
        return self.policy.serve == "all"


def _is_empty(zone: Zone) -> bool:
    return all(
        found.cname is None and not found.rrsets.addresses and not found.rrsets.fence for found in zone.names.values()
    )


def _same(target: Target, address: str) -> bool:
    return ip_address(target.address) == ip_address(address)


def _write(works: Works, report: Report) -> None:
    """Write the report beside the journal, and that there was a drill into it."""
    document = report.to_json()
    folder = works.directory / "drills"
    name = f"{report.service}-{datetime.fromtimestamp(report.at, UTC):%Y%m%dT%H%M%SZ}.json"
    try:
        folder.mkdir(mode=0o750, exist_ok=True)
        (folder / f"{name}.new").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        (folder / f"{name}.new").replace(folder / name)
        for old in sorted(folder.glob(f"{report.service}-*.json"))[:-KEEP_REPORTS]:
            old.unlink(missing_ok=True)
    except OSError as e:
        _log.warning("%s: writing the report of a drill: %s", folder, e.strerror or e)
    verdict = "passed" if report.ok else "failed"
    failed = next((step.text for step in report.steps if not step.ok), "")
    text = f"{report.service}: drill {verdict}{': ' + failed if failed else ''}"
    works.jot(lambda: works.journal.record(Event("drill", text, by=report.who, about=report.service, details=document)))
    works.jot(lambda: works.journal.keep(f"drill {report.service}", {"at": report.at, "ok": report.ok}))


def last(works: Works, service: str) -> Mapping[str, Any] | None:
    """Return when a service was drilled last (`at`, Unix seconds) and how (`ok`); None where it never was."""
    found: Mapping[str, Any] | None = works.journal.kept(f"drill {service}")
    return found


def overdue(works: Works, now: float) -> list[str]:
    """Say which services were not drilled for long, or failed their last drill; `now` in Unix seconds."""
    said = []
    for service in works.settings.services:
        if service.dns is None:
            continue
        found = last(works, service.name)
        way = f"`mirrord drill {service.name}`"
        if found is not None and not found["ok"]:
            said.append(
                f"{service.name}: the last drill failed: `mirrord history --kind drill` says why; {way} tries again"
            )
        elif now - (_begun(works, now) if found is None else found["at"]) > OVERDUE:
            days = "never" if found is None else f"{(now - found['at']) / _DAY:.0f} days ago"
            said.append(f"{service.name}: last drilled {days}: nobody knows whether a failover would work; {way}")
    return said


def _begun(works: Works, now: float) -> float:
    """Return since when somebody could have drilled: since this was first asked."""
    begun = works.journal.kept("begun")
    if begun is None:
        works.jot(lambda: works.journal.keep("begun", now))
    return now if begun is None else float(begun)


def due(works: Works, service: str, now: float) -> bool:
    """Tell whether the schedule wants a drill of a service now."""
    every = works.settings.service(service).drill_every
    if every <= 0:
        return False
    found = last(works, service)
    return found is None or now - found["at"] >= every
