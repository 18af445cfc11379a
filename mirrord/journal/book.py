"""What must outlive a restart, and what happened when?

One SQLite file in the state folder (`documents`, the only use of `sqlite3`) keeps orders (holds, drains, acks),
what we left in each service's zone and the plan that is still open (`mirrord.switches.Ledger`), the last
moves, what each mirror was last seen to serve, and the history that people read. It judges nothing.

Where the disk is full, writing raises JournalUnwritable, and what was to be written is remembered
by this process until it can be: looking and moving go on. Secrets are never stored here.

What is kept is a table of small JSON documents by kind and name, and the history beside it. Times are kept
on two clocks: the wall's for people, and the boot's, by which intervals are measured as long as the
machine was not restarted, so that a clock set a day forward ends no hold and a clock set back no dwell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirrord.errors import Braked, JournalUnwritable
from mirrord.journal.documents import Document, Documents, Draft
from mirrord.journal.values import Asked, Drained, Event, Happened, Held, LastMove, LastSeen, Run
from mirrord.switches import Change, Expected, Intent, NameServers

KEEP_STATES = 20
"""So many earlier states of a service's zone are remembered."""
TELL_AGAIN_AFTER = 86_400.0
"""Seconds: a plan that comes to nothing for the same reason, tried anew with each look, is told no more often."""
KEEP_MOVES = 32
"""So many automatic moves of a service are remembered."""
SEEN_EVERY = 60.0
"""Seconds: a mirror that serves the same is written down no more often."""


def _boot_clock() -> float:
    """Seconds since the machine started, also those that it was suspended for."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the journal takes its time from: the wall for people, the time since boot for intervals."""

    wall: Callable[[], float] = time.time
    since_boot: Callable[[], float] = _boot_clock
    boot: str = field(default_factory=_boot_id)


class Journal:
    """The journal of one controller; every method may be called from any thread, and the file by any process.

    Reading works on a full disk: what could not be written comes from this process's memory. Writing raises
    JournalUnwritable there, after the new value was remembered; the next write that succeeds writes it too.
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        """Open the journal, or make it (mode 0640) in a folder that is there.

        Raises Damaged for a file that is no journal or has broken pages, BadConfig for a newer mirrord's, Refused
        where the file may not be opened. On a full disk it opens all the same.
        """
        self._clock = clock or Clock()
        self._file = Documents(path, self._clock.wall)
        self._anchors: dict[tuple[str, float, float], float] = {}

    def close(self) -> None:
        """Close every thread's connection; the journal cannot be used afterwards."""
        self._file.close()

    def writable(self) -> bool:
        """Try whether it can be written now; what was remembered meanwhile is written then."""
        try:
            self._file.change("trying the journal", lambda draft: draft.put("tried", "", self._clock.wall()))
        except JournalUnwritable:
            return False
        return True

    # -- history

    def record(self, event: Event) -> None:
        """Write down that something happened; old events are dropped beyond an age and a count."""
        self._file.change("writing history", lambda draft: draft.tell(event))

    def history(
        self,
        limit: int = 100,
        *,
        since: float | None = None,
        before: int | None = None,
        kinds: Collection[str] = (),
        about: str = "",
        until: float | None = None,
    ) -> list[Happened]:
        """Return the newest events first: at most `limit`, between two moments (Unix seconds), numbered below `before`.

        Events that could not be written yet are not among them; nor, without `kinds`, those kept for machines only.
        """
        return self._file.history(limit, since, before, kinds, about, until)

    # -- the operator's orders

    def hold(self, what: str, reason: str, by: str, seconds: float | None = None) -> Held:
        """Hold a service or `publishing`, for so many seconds or until `unhold`; replaces an earlier hold of it."""
        moment = self._moment()

        def work(draft: Draft) -> None:
            draft.put("hold", what, {"reason": reason, "by": by, "seconds": seconds, **moment})
            limit = f" for {seconds:.0f} s" if seconds is not None else ""
            draft.tell(Event("hold", f"{what}: held{limit}", reason, by, what))

        self._file.change(f"holding {what}", work)
        until = None if seconds is None else moment["wall"] + seconds
        return Held(what, reason, by, moment["wall"], until)

    def unhold(self, what: str, by: str, *, only: Held | None = None) -> bool:
        """End a hold, `only` that one if another took its place meanwhile; False where there was none."""

        def work(draft: Draft) -> bool:
            found = self._hold(what, draft.get("hold", what))
            if found is not None and only is not None and found != only:
                return False
            draft.drop("hold", what)
            if found is not None:
                draft.tell(Event("unhold", f"{what}: no longer held", "", by, what))
            return found is not None

        return self._file.change(f"ending the hold of {what}", work)

    def held(self, what: str) -> Held | None:
        """Return the hold of a service or of `publishing` that has not run out."""
        return self._hold(what, self._file.get("hold", what))

    def holds(self) -> dict[str, Held]:
        """Return every hold that has not run out."""
        found = {what: self._hold(what, document) for what, document in self._file.all("hold").items()}
        return {what: hold for what, hold in found.items() if hold is not None}

    def _hold(self, what: str, document: Document) -> Held | None:
        if document is None:
            return None
        until = None
        if document["seconds"] is not None:
            remaining = document["seconds"] - self._age(document)
            if remaining <= 0:
                return None
            until = self._clock.wall() + remaining
        return Held(what, document["reason"], document["by"], document["wall"], until)

    def drain(self, mirror: str, reason: str, by: str) -> Drained:
        """Take a mirror out of consideration."""
        since = self._clock.wall()

        def work(draft: Draft) -> None:
            draft.put("drain", mirror, {"reason": reason, "by": by, "since": since})
            draft.tell(Event("drain", f"{mirror}: drained", reason, by, mirror))

        self._file.change(f"draining {mirror}", work)
        return Drained(mirror, reason, by, since)

    def undrain(self, mirror: str, by: str) -> bool:
        """Take it back; False where it was not drained."""

        def work(draft: Draft) -> bool:
            found = draft.get("drain", mirror) is not None
            draft.drop("drain", mirror)
            if found:
                draft.tell(Event("undrain", f"{mirror}: no longer drained", "", by, mirror))
            return found

        return self._file.change(f"ending the drain of {mirror}", work)

    def drained(self) -> dict[str, Drained]:
        """Return the drained mirrors."""
        return {
            mirror: Drained(mirror, found["reason"], found["by"], found["since"])
            for mirror, found in self._file.all("drain").items()
        }

    def ask(self, ask_id: str, about: str, question: str, facts: Mapping[str, Any]) -> Asked:
        """Put a question; the same id again keeps its first time and its answer."""
        since = self._clock.wall()

        def work(draft: Draft) -> Document:
            found = draft.get("ask", ask_id)
            if found is None:
                found = {"about": about, "question": question, "facts": dict(facts), "since": since, "answer": None}
                draft.put("ask", ask_id, found)
                draft.tell(Event("ask", question, "", "", about, {"id": ask_id, **facts}))
            return found

        found = self._file.get("ask", ask_id)
        return _asked(ask_id, found if found is not None else self._file.change(f"asking {ask_id}", work))

    def ack(self, ask_id: str, by: str, *, agreed: bool = True) -> bool:
        """Answer a question with yes or no; False where no such question is open.

        A no is kept as long as the facts stand: the same question is not put again.
        """

        def work(draft: Draft) -> bool:
            found = draft.get("ask", ask_id)
            if found is None or found["answer"] is not None:
                return False
            draft.put("ask", ask_id, {**found, "answer": by, "agreed": agreed})
            what = f"{ask_id}: {'acknowledged' if agreed else 'declined'}"
            draft.tell(Event("ack", what, found["question"], by, found["about"]))
            return True

        return self._file.change(f"acknowledging {ask_id}", work)

    def asked(self, ask_id: str) -> Asked | None:
        """Return a question, answered or not, that has not lapsed."""
        found = self._file.get("ask", ask_id)
        return None if found is None else _asked(ask_id, found)

    def asks(self) -> list[Asked]:
        """Return the open questions, oldest first."""
        found = [_asked(ask_id, document) for ask_id, document in self._file.all("ask").items()]
        return sorted((ask for ask in found if ask.answered_by is None), key=lambda ask: (ask.since, ask.id))

    def lapse(self, ask_id: str) -> None:
        """Drop a question, answered or not: its facts changed."""
        if self._file.get("ask", ask_id) is not None:
            self._file.change(f"dropping the question {ask_id}", lambda draft: draft.drop("ask", ask_id))

    def lapse_others(self, about: str, keep: str | None) -> None:
        """Drop every question about a service, answered or not, but one."""
        old = [id_ for id_, found in self._file.all("ask").items() if found["about"] == about and id_ != keep]

        def work(draft: Draft) -> None:
            for id_ in old:
                draft.drop("ask", id_)

        if old:
            self._file.change(f"dropping questions about {about}", work)

    # -- what we left in zones (mirrord.switches.Ledger)

    def intent(self, service: str) -> Intent | None:
        """Return the open plan of a service."""
        found = self._file.get("intent", service)
        return None if found is None else _intent(found)

    def intents(self) -> list[Intent]:
        """Return every open plan: start-up resolves them before anything else."""
        return [_intent(found) for found in self._file.all("intent").values()]

    def intend(self, change: Change) -> None:
        """Write down, before it is sent, what is about to be sent. Raises Braked "open-plan" if a plan is open."""
        since = self._clock.wall()

        def work(draft: Draft) -> None:
            found = draft.get("intent", change.service)
            if found is not None and found["change"]["plan"] != change.plan:
                raise Braked(
                    f"{change.service}: moving to {change.target}: the outcome of plan {found['change']['epoch']} "
                    f"({found['change']['target']}) is not known yet, and nothing else starts before it is; "
                    f"it is looked for as soon as the name server answers",
                    "open-plan",
                )
            draft.put("intent", change.service, {"change": change.to_json(), "since": since, "advance": None})
            self._raise_epoch(draft, change)

        self._file.change(f"{change.service}: writing down the plan", work)

    def give_up(self, change: Change, advance: Change) -> None:
        """Write down, before it is sent, the plan that ends the open plan `change`."""

        def work(draft: Draft) -> None:
            found = draft.get("intent", change.service)
            if found is not None and found["change"]["plan"] == change.plan:
                draft.put("intent", change.service, {**found, "advance": advance.to_json()})
            self._raise_epoch(draft, advance)

        self._file.change(f"{change.service}: writing down that plan {change.epoch} is given up", work)

    def settle(self, change: Change, stands: Expected | None, text: str) -> None:
        """Close the open plan; `stands` is what is expected from now on, None for: as before `change`.

        What it replaced and what it would have made are remembered; a move is dated, and told in the history.
        """
        moment = self._moment()

        def work(draft: Draft) -> None:
            found = draft.get("intent", change.service)
            if found is not None and found["change"]["plan"] == change.plan:
                draft.drop("intent", change.service)
            self._raise_epoch(draft, change)
            replaced = () if stands is None else (change.from_,)
            applied = stands is not None and stands == change.to
            self._expect(draft, change.service, stands, *replaced)
            self._remember(draft, "past" if applied else "never stood", change.service, change.to)
            if applied:
                told = {"seconds": change.was_ttl, "change": change.to_json(), **moment}
                draft.put("told", change.service, told)
            if applied and change.moves:
                move = {"source": change.source, "target": change.target, "by_hand": change.by_hand, **moment}
                draft.put("move", change.service, move)
                if change.automatic:
                    before = _moves(
                        draft.get("automatic moves", change.service), draft.get("automatic move", change.service)
                    )
                    draft.put("automatic moves", change.service, [move, *before][:KEEP_MOVES])
            last = draft.get("no switch", change.service)
            same = last is not None and last["text"] == text and self._age(last) < TELL_AGAIN_AFTER
            if same and not applied and not change.by_hand:
                return
            draft.put("no switch", change.service, None if applied else {"text": text, **moment})
            kind = "switch" if applied else "no switch"
            draft.tell(Event(kind, text, change.why, change.who, change.service, change.to_json()))

        self._file.change(f"{change.service}: writing down the outcome of plan {change.epoch}", work)

    def take(self, service: str, stands: Expected, text: str) -> None:
        """Take over what stands in the zone as what we left there, without a plan."""

        def work(draft: Draft) -> None:
            self._expect(draft, service, stands)
            draft.put("epoch", service, max(draft.get("epoch", service) or 0, stands.epoch))
            draft.tell(Event("take over", f"{service}: {text}", "", "", service))

        self._file.change(f"{service}: taking over what stands", work)

    def expected(self, service: str) -> Expected | None:
        """Return what we left in the zone, None if we never wrote there."""
        found = self._file.get("expected", service)
        return None if found is None else Expected.from_json(found)

    def past(self, service: str) -> Sequence[Expected]:
        """Return earlier states of ours, what they replaced, and what given-up plans would have made.

        Those two are kept apart: plans that come to nothing are made with each look while a name server is gone, and
        must not push out what stood, which is what it may come back with.
        """
        found = [*(self._file.get("past", service) or []), *(self._file.get("never stood", service) or [])]
        return [Expected.from_json(state) for state in found]

    def highest_epoch(self, service: str) -> int:
        """Return the highest epoch that was ever planned for a service, 0 for none."""
        return int(self._file.get("epoch", service) or 0)

    def _raise_epoch(self, draft: Draft, change: Change) -> None:
        draft.put("epoch", change.service, max(draft.get("epoch", change.service) or 0, change.epoch))

    def _expect(self, draft: Draft, service: str, stands: Expected | None, *replaced: Expected) -> None:
        """Expect `stands` from now on, and remember what was expected, and what it replaced."""
        known = draft.get("expected", service)
        before = [] if known is None else [Expected.from_json(known)]
        self._remember(draft, "past", service, *before, *replaced)
        if stands is not None:
            draft.put("expected", service, stands.to_json())

    def _remember(self, draft: Draft, where: str, service: str, *states: Expected) -> None:
        kept: list[Document] = list(draft.get(where, service) or [])
        new = [document for state in states if (document := state.to_json()) not in kept]
        draft.put(where, service, [*kept, *new][-KEEP_STATES:])

    def name_servers(self, service: str) -> NameServers:
        """Return the NS of a service's zone as last remembered; empty where they never were."""
        return {host: tuple(addresses) for host, addresses in (self._file.get("ns", service) or {}).items()}

    def remember_name_servers(self, service: str, servers: NameServers) -> None:
        """Remember the NS of a service's zone and their addresses."""
        document = {host: list(addresses) for host, addresses in servers.items()}
        self._file.change(f"{service}: remembering name servers", lambda draft: draft.put("ns", service, document))

    # -- moves, mirrors, publishes

    def last_move(self, service: str) -> LastMove | None:
        """Return the last move of any kind."""
        found = self._file.get("move", service)
        return None if found is None else self._move(found)

    def readers_follow_in(self, service: str) -> float | None:
        """Return in how many seconds nobody may give an answer any more that was given before the last change.

        Below zero since that is so, None where nothing was ever changed.
        """
        found = self._file.get("told", service)
        return None if found is None else float(found["seconds"]) - self._age(found)

    def last_change(self, service: str) -> Change | None:
        """Return the plan that made what we expect to stand; None where it was taken over, or nothing was."""
        found, expected = self._file.get("told", service), self.expected(service)
        change = None if found is None else Change.from_json(found["change"])
        return change if change is not None and change.to == expected else None

    def automatic_moves(self, service: str) -> list[LastMove]:
        """Return the automatic moves, the latest first, as many as are remembered: dwell and damping rest on them."""
        found = _moves(self._file.get("automatic moves", service), self._file.get("automatic move", service))
        return [self._move(move) for move in found]

    def _move(self, found: Mapping[str, Any]) -> LastMove:
        return LastMove(self._age(found), found["wall"], found["source"], found["target"], found.get("by_hand", False))

    def seen_serving(self, mirror: str, serial: int, snapshot: str) -> None:
        """Remember what a mirror was just seen to serve; writes at most once a minute where nothing changed."""
        now = self._clock.wall()
        known = self._file.get("seen", mirror)
        if known is not None and known["id"] == snapshot and 0 <= now - known["at"] < SEEN_EVERY:
            return
        document = {"serial": serial, "id": snapshot, "at": now}
        self._file.change(f"remembering what {mirror} serves", lambda draft: draft.put("seen", mirror, document))

    def last_seen(self) -> dict[str, LastSeen]:
        """Return what each mirror was last seen to serve."""
        return {
            mirror: LastSeen(mirror, found["serial"], found["id"], found["at"])
            for mirror, found in self._file.all("seen").items()
        }

    def publish_began(self, mirror: str, snapshot: str, serial: int) -> None:
        """Remember that a publish of this mirror begins."""
        moment = self._moment()

        def work(draft: Draft) -> None:
            seen, last = draft.get("seen", mirror), draft.get("publish", mirror) or {}
            document = {
                "id": snapshot,
                "serial": serial,
                "began": moment["wall"],
                "ended": None,
                "result": "running",
                "details": {},
                "before": None if seen is None else seen["id"],
                "changed": last.get("changed"),
                **moment,
            }
            draft.put("publish", mirror, document)

        self._file.change(f"{mirror}: noting a publish", work)

    def publish_ended(self, mirror: str, result: str, details: Mapping[str, Any]) -> None:
        """Remember how the publish of this mirror ended; `details` for people and JSON."""
        moment = self._moment()

        def work(draft: Draft) -> None:
            began = draft.get("publish", mirror) or {"id": "", "serial": 0, "began": moment["wall"]}
            ended = {"ended": moment["wall"], "result": result, "details": dict(details)}
            if result == "published":
                ended["changed"] = {**moment, "instead_of": began.get("before")}
            draft.put("publish", mirror, {**began, **ended, **moment})

        self._file.change(f"{mirror}: noting how a publish ended", work)

    def publishes(self) -> dict[str, Run]:
        """Return the last publish of each mirror."""
        return {mirror: self._run(mirror, found) for mirror, found in self._file.all("publish").items()}

    def _run(self, mirror: str, found: Document) -> Run:
        changed = found.get("changed")
        return Run(
            mirror=mirror,
            id=found["id"],
            serial=found["serial"],
            began=found["began"],
            age=self._age(found),
            ended=found["ended"],
            result=found["result"],
            details=found["details"],
            changed=None if changed is None else self._age(changed),
            instead_of=changed["instead_of"] if changed and found["ended"] is not None else found.get("before"),
        )

    # -- whatever else must outlive a restart

    def keep(self, name: str, value: Any) -> None:
        """Keep a value that `json` can write, under a name."""
        self._file.change(f"keeping {name}", lambda draft: draft.put("kept", name, value))

    def kept(self, name: str) -> Any:
        """Return what was kept under a name, None for nothing."""
        return self._file.get("kept", name)

    # -- time

    def _moment(self) -> dict[str, Any]:
        """Return now on both clocks, to be kept."""
        return {"wall": self._clock.wall(), "boot": self._clock.boot, "since_boot": self._clock.since_boot()}

    def _age(self, moment: Mapping[str, Any]) -> float:
        """Return how many seconds ago a kept moment was; never negative.

        Within one boot the wall clock does not matter. A moment of an earlier boot is dated by the wall clock once,
        when this process first meets it; where that lies ahead (the clock was set back) it counts as just now.
        """
        now = self._clock.since_boot()
        if moment["boot"] == self._clock.boot:
            return max(0.0, now - float(moment["since_boot"]))
        key = (moment["boot"], moment["since_boot"], moment["wall"])
        elapsed = max(0.0, self._clock.wall() - moment["wall"])
        return now - self._anchors.setdefault(key, now - elapsed)


def _moves(found: Document, only: Document) -> list[Any]:
    """Return moves as they are kept, the latest first; an earlier version kept the last one only."""
    return list(found) if found is not None else [] if only is None else [only]


def _asked(ask_id: str, document: Document) -> Asked:
    return Asked(
        id=ask_id,
        about=document["about"],
        question=document["question"],
        facts=document["facts"],
        since=document["since"],
        answered_by=document["answer"],
        agreed=document["answer"] is not None and document.get("agreed", True),
    )


def _intent(document: Document) -> Intent:
    advance = document["advance"]
    return Intent(
        change=Change.from_json(document["change"]),
        since=document["since"],
        advance=None if advance is None else Change.from_json(advance),
    )
