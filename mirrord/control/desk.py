"""What does each verb do?

One method a verb, the same whether a daemon runs (its server calls the desk) or not (the command line
does). Arguments and results are plain JSON values. The desk orders work and words the answers; what is
judged and decided is said in `mirrord.health` and `mirrord.decide`, and whatever changes is asked of the
thread that owns it. What only one verb needs it loads itself, so that `sync` waits for none of it; the daemon has all
of it loaded from the start, since an upgrade may change the files under it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from mirrord import records
from mirrord.config.units import LONGEST
from mirrord.control import showing
from mirrord.control.looking import Looker
from mirrord.control.mind import Mind, Reading
from mirrord.control.outgoing import Outgoing
from mirrord.control.publishing import Publishing
from mirrord.control.server import Talk
from mirrord.control.works import Works
from mirrord.decide import Permission, Policy, View, may_switch, planned_drain
from mirrord.errors import BadUsage, Braked, Damaged, JournalUnwritable, Unavailable
from mirrord.health import Round, Standing, Thresholds
from mirrord.journal import PUBLISHING, SNAPSHOTS, Event
from mirrord.manifest import stamp
from mirrord.rules import members
from mirrord.sharing import joined_by
from mirrord.switches import Change, Kind

_log = logging.getLogger(__name__)

T = TypeVar("T")
Ask = Callable[[Callable[[], Any]], Any]
"""Runs a question in the thread that owns the mind, and returns the answer."""

HISTORY = 50
"""Events that `history` shows unless it is asked for more."""


def inline(question: Callable[[], T]) -> T:
    """Answer at once: without a daemon, the caller owns everything."""
    return question()


class Desk:
    """The verbs of one controller."""

    def __init__(
        self,
        works: Works,
        mind: Mind,
        looker: Looker,
        publishing: Publishing,
        *,
        ask: Ask = inline,
        tell: Callable[[Callable[[], None]], None] = inline,
        daemon: bool = False,
        ordered: Callable[[], None] = lambda: None,
    ) -> None:
        """`daemon`: somebody looks all the time, so verdicts are known; otherwise one look has to do.

        `ask` and `tell` have the owner of the mind answer, or do something, whenever he gets round to it.
        `ordered` is called after every order that a decision may rest on, from any thread.
        """
        self.works = works
        self.mind = mind
        self.looker = looker
        self.publishing = publishing
        self._ask = ask
        self._tell = tell
        self._daemon = daemon
        self._ordered = ordered
        self._since = time.time()
        self.outgoing = Outgoing(works, publishing, note=self._note, again=lambda: self._tell(self.mind.publish_again))

    def call(self, verb: str, arguments: Mapping[str, Any], talk: Talk, who: str) -> dict[str, Any]:
        """Do one verb on behalf of `who`. Raises MirrordError."""
        act = _VERBS.get(verb)
        if act is None:
            raise BadUsage(f"{verb}: there is no such verb here; the daemon may be of another version than the command")
        try:
            return act(self, dict(arguments), talk, who)
        finally:
            if verb in _ORDERS and not arguments.get("dry_run"):
                self._ordered()

    # -- attention comes back

    def check(self, asked: dict[str, Any], talk: Talk, who: str) -> dict[str, Any]:  # noqa: ARG002
        """Look now, and judge."""
        names = [self.works.settings.mirror(name).name for name in asked.get("mirrors") or []]
        standing, seen = self._look(names)
        wanted = [mirror for mirror in self.works.settings.mirrors if not names or mirror.name in names]
        return showing.check(wanted, standing, seen)

    def _look(self, names: list[str]) -> tuple[Standing, Round]:
        """Look now; with a daemon, what it holds true counts, alone this one look does."""
        before: Standing = self._ask(lambda: self.mind.standing)
        seen = self.looker.round(before, names)
        if self._daemon:
            return before, seen
        return before.after(seen, self._alone_rules(), published=self.looker.published()), seen

    def _alone_rules(self) -> Thresholds:
        return replace(self.works.settings.thresholds(), fall=1, rise=1)

    def mirror_check(self, asked: dict[str, Any], talk: Talk, who: str) -> dict[str, Any]:  # noqa: ARG002
        """Try what one mirror can do, and whether its web server serves what is put there."""
        from mirrord.control import examining

        (name,) = self.outgoing.publishable([str(asked.get("mirror", ""))])
        return examining.examine(self.works, name, lambda text: talk({"event": "say", "text": text}))

    def explain(self, asked: dict[str, Any], talk: Talk, who: str) -> dict[str, Any]:  # noqa: ARG002
        """Say what would be decided now, and why."""
        services = self._services(asked.get("service"))
        if asked.get("at") is not None:
            return {"services": [self._replayed(service, float(asked["at"])) for service in services]}
        if not self._daemon:
            self._one_look(services)
        return {"services": self._ask(lambda: [self._explained(service) for service in services])}

    def _replayed(self, service: str, at: float) -> dict[str, Any]:
        """Make the last decision before a moment again, from what the journal keeps of it."""
        kept = self.works.journal.history(1, kinds=(records.KIND,), about=service, until=at)
        if not kept:
            raise BadUsage(f"{service}: nothing is kept of that time; `mirrord history` goes back as far as there is")
        try:
            return showing.replayed(service, at, kept[0])
        except (KeyError, TypeError, ValueError) as e:
            raise Damaged(f"{service}: what was kept of that time cannot be read: {type(e).__name__}: {e}") from e

    def _explained(self, service: str) -> dict[str, Any]:
        now = time.monotonic()
        return showing.explained(self.mind, service, self.mind.view(service, now=now), self.mind.policy(service))

    def _one_look(self, services: list[str]) -> None:
        """Without a daemon, look once at everything and read the zones: it has to do."""
        from mirrord.control import moving

        seen = self.looker.round(self.mind.standing)
        self.mind.saw(seen, self._alone_rules(), self.looker.published())
        for service in services:
            attended = moving.attend(self.works, service, None, self.mind.policy(service), settle=False, adopt=False)
            self.mind.read(service, attended.reading)

    def status(self, asked: dict[str, Any], talk: Talk, who: str) -> dict[str, Any]:  # noqa: ARG002
        """Say how everything is, from what is known; looks at nothing."""
        shown: dict[str, Any] = self._ask(
            lambda: showing.status(self.works, self.mind, running=self._daemon, since=self._since)
        )
        return shown

    # -- traffic moves

    def switch(self, asked: dict[str, Any], talk: Talk, who: str) -> dict[str, Any]:
        """Move readers by hand: show it (dry_run), or carry out exactly what was shown."""
        from mirrord.control import moving

        settings = self.works.settings
        service = settings.service(str(asked.get("service", ""))).name
        adopt, override = bool(asked.get("adopt")), asked.get("override")
        target = asked.get("mirror")
        if target is None and not adopt:
            raise BadUsage(f"{service}: where to? `mirrord switch {service} MIRROR`")
        policy = self.mind.policy(service)
        if target is not None and target not in policy.order:
            settings.mirror(target)
            raise BadUsage(f"{target} does not serve {service}; its order is: {', '.join(policy.order)}")
        if not self._daemon:
            talk({"event": "say", "text": "no daemon runs here: looking once at everything"})
            self._one_look([service])
        view, reading = self._read_for_switch(service, policy, asked)
        target = target or next(iter(members(view.serving)), None)
        if target is None:
            raise BadUsage(
                f"{service}: what stands in the zone is no mirror's; `mirrord switch {service} MIRROR --adopt`"
            )
        fresh = self.looker.fresh(view.standing, target, service)
        permission = may_switch(view, policy, target, fresh, override=override, adopt=adopt)
        target = joined_by(view, policy, target)
        lifted = permission.lifted
        plan = moving.plan(
            self.works,
            service,
            target,
            reading,
            policy,
            fresh,
            adopt=adopt or (lifted is not None and lifted.name == "foreign"),
            who=who,
            given=asked.get("plan"),
            standing=view.standing,
        )
        fence = settings.service(service).fence
        if asked.get("dry_run"):
            return showing.planned(service, target, view, reading, plan, permission, fence=fence)
        if permission.brakes:
            brake = permission.brakes[0]
            way = f"; `--override {brake.name}` lifts this brake" if brake.liftable else ""
            raise Braked(f"{service}: moving to {target}: {brake.text}{way}", brake.name)
        if plan is None:
            return showing.unmoved(service, target, view, fence=fence)
        return self._carry_out(plan, view, permission, who)

    def _read_for_switch(self, service: str, policy: Policy, asked: dict[str, Any]) -> tuple[View, Reading]:
        """Read the zone now, find out first what became of an open plan, and put the view together."""
        from mirrord.control import moving

        settle = bool(asked.get("settle", not asked.get("dry_run")))
        attended = moving.attend(self.works, service, None, policy, settle=settle, adopt=False)
        if (resolved := attended.resolved) is not None:
            self._tell(lambda: self.mind.take_in(service, resolved))
        if attended.reading.comparison is None:
            raise Unavailable(f"{attended.reading.text}; nothing was changed")
        self._ask(lambda: self.mind.read(service, attended.reading))
        return self._ask(lambda: self.mind.view(service, now=time.monotonic())), attended.reading

    def _carry_out(self, plan: Change, view: View, permission: Permission, who: str) -> dict[str, Any]:
        from mirrord.control import moving

        service, target = plan.service, plan.target
        # While a person moves readers the daemon does not, nor does it take what it reads meanwhile for news.
        self._ask(lambda: self.mind.claim(service, f"{who} is moving readers to {target}"))
        try:
            with self._overriding(service, target, permission, who) as kept:
                moved = moving.commit(self.works, plan)
                moved = moving.see(self.works, self.looker, view.standing, moved, self.mind.policy(service))
                kept.append(moved.result is not None and moved.result.kind is not Kind.UNCHANGED)
            self._tell(lambda: self.mind.take_in(service, moved))
        finally:
            self._tell(lambda: self.mind.release(service))
        fence = self.works.settings.service(service).fence
        return showing.moved(service, target, view, moved, permission, fence=fence)

    @contextlib.contextmanager
    def _overriding(self, service: str, target: str, permission: Permission, who: str) -> Iterator[list[bool]]:
        """Hold a service that is moved against a brake, or the next round would undo it; only if it is moved."""
        kept: list[bool] = []
        lifted = permission.lifted
        if lifted is not None:
            self._note("override", f"{service}: the brake {lifted.name} was lifted: {lifted.text}", who)
        if lifted is None or self.works.journal.held(service) is not None:
            yield kept
            return
        reason = f"moved to {target} against the brake {lifted.name}"
        ours = self._lastly(lambda: self.works.journal.hold(service, reason, who))
        try:
            yield kept
        finally:
            if not any(kept):
                self._lastly(lambda: self.works.journal.unhold(service, who, only=ours))

    def drill(self, asked: dict[str, Any], talk: Talk, who: str) -> dict[str, Any]:
        """Rehearse a failover of services on shadow names; of all, those that have such names."""
        from mirrord.control import drilling

        services = self._services(asked.get("service"))
        without = {} if len(services) == 1 else drilling.without_shadow(self.works, services)
        services = [service for service in services if service not in without]
        if not services:
            raise BadUsage("; ".join(without.values()))
        if not self._daemon:
            self._one_look(services)
        reports = []
        for service in services:
            view, policy = self._ask(functools.partial(self._view_and_policy, service))
            say = functools.partial(_say_step, talk, service)
            reports.append(drilling.rehearse(self.works, self.looker, view, policy, who, say).to_json())
        return {"drills": reports, "left_out": [{"service": name, "why": why} for name, why in without.items()]}

    def _view_and_policy(self, service: str) -> tuple[View, Policy]:
        return self.mind.view(service, now=time.monotonic()), self.mind.policy(service)

    def drain(self, asked: dict[str, Any], talk: Talk, who: str) -> dict[str, Any]:  # noqa: ARG002
        """Take a mirror out of consideration, and say which services it serves now."""
        mirror = self.works.settings.mirror(str(asked.get("mirror", ""))).name
        if not asked.get("dry_run"):
            self.works.journal.drain(mirror, str(asked.get("reason") or "no reason given"), who)
        elif not self._daemon:
            self._one_look(list(self.mind.affairs))
        return {"mirror": mirror, "drained": True, "serves": self._ask(lambda: self._served_by(mirror))}

    def _served_by(self, mirror: str) -> list[dict[str, Any]]:
        serves = []
        for service in self.mind.affairs:
            view = self.mind.view(service, now=time.monotonic())
            if mirror in members(view.serving):
                drained = replace(view, drained=view.drained | {mirror})
                serves.append(showing.next_of(service, planned_drain(drained, self.mind.policy(service))))
        return serves

    def undrain(self, asked: dict[str, Any], talk: Talk, who: str) -> dict[str, Any]:  # noqa: ARG002
        """Take a mirror back into consideration."""
        mirror = self.works.settings.mirror(str(asked.get("mirror", ""))).name
        changed = self.works.journal.undrain(mirror, who)
        return {"mirror": mirror, "drained": False, "changed": changed}

    # -- orders

    def hold(self, asked: dict[str, Any], talk: Talk, who: str) -> dict[str, Any]:  # noqa: ARG002
        """Stop automatic acts."""
        reason, seconds = str(asked.get("reason") or "no reason given"), asked.get("seconds")
        if seconds is not None and not 0 < seconds <= LONGEST:
            raise BadUsage(f"for how long? {seconds:.15g} s are no time that a hold can last")
        holds, unwritten = [], None
        for what in self._holdable(asked.get("what")):
            try:
                holds.append(self.works.journal.hold(what, reason, who, seconds))
            except JournalUnwritable as e:  # this process remembers it; what else is to be held must be, too
                unwritten = e
        if unwritten is not None:
            raise unwritten
        return {"holds": [showing.hold(held) for held in holds]}

    def unhold(self, asked: dict[str, Any], talk: Talk, who: str) -> dict[str, Any]:  # noqa: ARG002
        """Resume automatic acts."""
        ended = []
        for what in self._holdable(
            asked.get("what"), *([SNAPSHOTS] if asked.get("what") in (None, PUBLISHING) else [])
        ):
            held = self.works.journal.held(what)
            if held is not None and self.works.journal.unhold(what, who):
                ended.append(showing.hold(held))
        return {"ended": ended}

    def _holdable(self, what: str | None, *more: str) -> list[str]:
        if what is None:
            return [PUBLISHING, *more, *self.mind.affairs]
        return [what if what == PUBLISHING else self.works.settings.service(what).name, *more]

    def ack(self, asked: dict[str, Any], talk: Talk, who: str) -> dict[str, Any]:  # noqa: ARG002
        """Answer a question of mirrord's."""
        wanted, answer = str(asked.get("id", "")), str(asked.get("answer", "yes"))
        question = self.works.journal.asked(wanted)
        if question is None or question.answered_by is not None:
            open_ones = ", ".join(f"{q.id} ({q.about})" for q in self.works.journal.asks()) or "none is open"
            raise BadUsage(f"{wanted}: there is no such open question; {open_ones}")
        if not self._daemon:  # the next one asks anew: what it starts with is not known to be as it was
            raise Unavailable(
                f"{wanted}: no daemon runs here that would act on an answer; one that is started asks again where that"
                f" still stands, and `mirrord switch {question.about} MIRROR` moves readers now"
            )
        self.works.journal.ack(wanted, who, agreed=answer == "yes")
        no = "nothing is done; it is asked again if the facts change"
        text = "it is carried out now" if answer == "yes" else no
        return {"id": wanted, "question": question.question, "answer": answer, "text": text}

    def history(self, asked: dict[str, Any], talk: Talk, who: str) -> dict[str, Any]:  # noqa: ARG002
        """Say what happened, oldest first."""
        seconds = asked.get("seconds")
        happened = self.works.journal.history(
            int(asked.get("limit") or HISTORY),
            since=None if seconds is None else time.time() - float(seconds),
            kinds=tuple(asked.get("kinds") or ()),
        )
        return {
            "events": [
                {
                    "when": stamp(datetime.fromtimestamp(one.at, UTC)),
                    "at": one.at,
                    "kind": one.event.kind,
                    "what": one.event.what,
                    "why": one.event.why,
                    "by": one.event.by,
                    "details": dict(one.event.details),
                }
                for one in reversed(happened)
            ]
        }

    def _services(self, name: str | None) -> list[str]:
        if name is not None:
            return [self.works.settings.service(name).name]
        if not self.mind.affairs:
            raise BadUsage(f"{self.works.settings.file}: there is no [[service]]: nothing is ever moved")
        return list(self.mind.affairs)

    def _lastly(self, write: Callable[[], T]) -> T | None:
        """Write down what follows from a thing done; a journal that cannot be written does not undo the thing."""
        try:
            return write()
        except JournalUnwritable as e:
            _log.error("%s", e)
            return None

    def _note(self, kind: str, what: str, who: str) -> None:
        self.mind.note(Event(kind, what, by=who))


def _say_step(talk: Talk, service: str, step: str) -> None:
    talk({"event": "say", "text": f"{service}: {step}"})


_ORDERS = frozenset(("switch", "drain", "undrain", "hold", "unhold", "ack"))

_VERBS: Mapping[str, Callable[[Desk, dict[str, Any], Talk, str], dict[str, Any]]] = {
    "sync": lambda desk, *asked: desk.outgoing.sync(*asked),
    "snapshot": lambda desk, *asked: desk.outgoing.snapshot(*asked),
    "snapshots": lambda desk, *asked: desk.outgoing.snapshots(*asked),
    "pin": lambda desk, *asked: desk.outgoing.pin(*asked),
    "unpin": lambda desk, *asked: desk.outgoing.unpin(*asked),
    "rollback": lambda desk, *asked: desk.outgoing.rollback(*asked),
    "check": Desk.check,
    "mirror_check": Desk.mirror_check,
    "explain": Desk.explain,
    "status": Desk.status,
    "switch": Desk.switch,
    "drain": Desk.drain,
    "drill": Desk.drill,
    "undrain": Desk.undrain,
    "hold": Desk.hold,
    "unhold": Desk.unhold,
    "ack": Desk.ack,
    "history": Desk.history,
}
