"""Any order of moves, lost and late messages, crashes, meddling and restarts, on a name server that is a variable."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Literal

from hypothesis import HealthCheck
from hypothesis import settings as how
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mirrord.errors import Braked, Unavailable
from mirrord.journal import Journal
from mirrord.switches import (
    Change,
    Expected,
    Follow,
    Following,
    Found,
    Kind,
    NameServers,
    Result,
    Rrsets,
    Sent,
    SentKind,
    Zone,
    ZoneState,
    families,
)
from mirrord.switches.transaction import Patience
from tests.switching import MIRRORS, NAMES, Desk

OURS = frozenset().union(*families(address for addresses in MIRRORS.values() for address in addresses))
FAULTS = ("none", "unreachable", "request lost", "answer lost", "late", "late, and dark")


class NameServer:
    """A name server with RFC 2136's rules and the next fault; a `Switch`. It keeps updates that it was too slow for."""

    fence: Literal["atomic", "best-effort"] = "atomic"

    def __init__(self) -> None:
        self.state = Expected(dict.fromkeys(NAMES, Rrsets(*families(MIRRORS["milan"]))))
        self.fault = "none"
        self.dark = False
        self.queue: list[Change] = []
        self.applied: list[Change] = []

    def read(self, first: str = "") -> Zone:  # noqa: ARG002 - the protocol's
        """Answer with authority, unless all is dark."""
        if self.dark:
            raise Unavailable("web: reading: dark")
        return Zone({name: Found(stands, ttl=60) for name, stands in self.state.names.items()}, 1, "sim")

    def send(self, change: Change) -> Sent:
        """Apply it, lose it, keep it: as the fault wants."""
        if self.fault == "unreachable" or self.dark:
            return Sent(SentKind.UNSENT, "unreachable")
        if self.fault.startswith("late"):
            self.queue.append(change)
            self.dark = self.fault == "late, and dark"
        if self.fault == "request lost" or self.fault.startswith("late"):
            return Sent(SentKind.UNKNOWN, "silence", "sim")
        accepted = self.apply(change)
        if self.fault == "answer lost":
            return Sent(SentKind.UNKNOWN, "silence", "sim")
        return Sent(SentKind.ACCEPTED if accepted else SentKind.FENCED, "answered", "sim")

    def apply(self, change: Change) -> bool:
        """Compare and set (RFC 2136, 3.2 and 3.4)."""
        if change.from_.names != self.state.names:
            return False
        self.state = change.to
        self.applied.append(change)
        return True

    def name_servers(self) -> NameServers:
        """It is the only one."""
        return {}

    def nudge(self, known: NameServers) -> None:
        """Nobody else follows."""

    def keep(self, expected: Expected) -> None:
        """It loses nothing."""

    def prove(self) -> None:
        """It always lets us in."""

    def followers(
        self,
        change: Change,  # noqa: ARG002 - the protocol's
        known: NameServers,  # noqa: ARG002 - the same
        executor: Executor | None = None,  # noqa: ARG002 - the same
    ) -> Mapping[str, Follow]:
        """It follows itself."""
        return {"sim": Follow(Following.FOLLOWS)}


class Outages(RuleBasedStateMachine):
    """What may happen to one service, and what must hold whatever happens."""

    @initialize()
    def start(self) -> None:
        """A first start, and the zone is taken over by itself."""
        self.folder = Path(tempfile.mkdtemp(prefix="mirrord-outages-"))
        self.server = NameServer()
        self.meddled = 0
        self.reverted = False
        self.states = [self.server.state]
        self.closed: dict[str, int] = {}
        self.open_journal()
        assert self.desk.look().comparison.state is ZoneState.NEW
        assert self.desk.move("milan").kind is Kind.DONE

    def open_journal(self) -> None:
        """Begin as a process that starts."""
        self.journal = Journal(self.folder / "journal.sqlite")
        self.desk = Desk(self.server, self.journal, patience=Patience(commit=0.0, follow=0.0))

    def teardown(self) -> None:
        """Everything answers again: whatever is open is found out."""
        if hasattr(self, "folder"):
            self.server.fault, self.server.dark = "none", False
            found = self.desk.resolve()
            assert found is None or found.kind is not Kind.UNKNOWN
            assert self.journal.intents() == []
            state = self.desk.look().comparison.state
            allowed = {ZoneState.OURS}
            allowed |= {ZoneState.FOREIGN} if self.meddled else set()
            allowed |= {ZoneState.REVERTED} if self.reverted else set()
            assert state in allowed
            self.journal.close()
            shutil.rmtree(self.folder)

    def note(self, result: Result) -> None:
        """Remember which plans can never apply any more."""
        if result.kind is Kind.UNCHANGED:
            self.closed[result.change.plan] = len(self.server.applied)
        if result.kind is Kind.PARTIAL:
            assert self.meddled
            assert result.change in self.server.applied
        if result.kind is Kind.DONE:
            assert self.server.state == result.change.to
        if result.kind is not Kind.UNKNOWN:
            self.states.append(self.server.state)
        assert (self.journal.intent("web") is not None) == (result.kind is Kind.UNKNOWN)

    @rule(mirror=st.sampled_from(sorted(MIRRORS)), fault=st.sampled_from(FAULTS), adopt=st.booleans())
    def move(self, mirror: str, fault: str, adopt: bool) -> None:
        """Decide, send, and see."""
        try:
            looked = self.desk.look()
        except Unavailable:
            return
        stands = looked.zone.stands if adopt else looked.comparison.stands
        if stands is None:
            return
        change = self.desk.plan_from(stands, mirror)
        self.server.fault = fault
        was_open = self.journal.intent("web")
        try:
            result = self.desk.run(change)
        except Braked:
            assert was_open is not None
            return
        finally:
            self.server.fault = "none"
        assert was_open is None
        self.note(result)

    @rule(fault=st.sampled_from(FAULTS), again=st.sampled_from([True, False, None]))
    def resolve(self, fault: str, again: bool | None) -> None:
        """Find out about what is open."""
        self.server.fault = fault
        result = self.desk.resolve(again=again)
        self.server.fault = "none"
        if result is not None:
            self.note(result)

    @precondition(lambda self: self.server.queue)
    @rule(which=st.integers(0, 3))
    def deliver(self, which: int) -> None:
        """A stopped server goes on with what it had in its queue."""
        self.server.apply(self.server.queue.pop(which % len(self.server.queue)))

    @rule()
    def light(self) -> None:
        """The server answers again."""
        self.server.dark = False

    @rule(name=st.sampled_from(NAMES), what=st.sampled_from(["a", "aaaa", "fence"]))
    def meddle(self, name: str, what: str) -> None:
        """A human changes one set, to something that was never there."""
        self.meddled += 1
        stood = self.server.state.names[name]
        if what == "a":
            stands = replace(stood, a=frozenset({f"192.0.2.{100 + self.meddled % 100}"}))
        elif what == "aaaa":
            stands = replace(stood, aaaa=frozenset({f"2001:db8:f::{self.meddled}"}))
        else:
            stands = replace(stood, fence=frozenset({(f"note {self.meddled}",)}))
        self.server.state = Expected({**self.server.state.names, name: stands}, self.server.state.epoch)

    @precondition(lambda self: len(self.states) > 1)
    @rule(which=st.integers(0, 20))
    def restart_with_old_zone(self, which: int) -> None:
        """The name server comes back with an earlier zone file; what it had in its queue is gone."""
        self.server.state = self.states[which % len(self.states)]
        self.server.queue.clear()
        self.reverted = True

    @rule()
    def crash(self) -> None:
        """We are killed, and start again."""
        self.journal.close()
        self.open_journal()

    @invariant()
    def no_name_is_empty(self) -> None:
        """Rule: no name without an address, and A is never emptied."""
        if hasattr(self, "server"):
            assert all(stands.a for stands in self.server.state.names.values())

    @invariant()
    def only_configured_addresses_are_written(self) -> None:
        """Rule: whatever a human wrote stays or is replaced whole by a mirror's addresses."""
        if hasattr(self, "server"):
            for change in self.server.applied:
                if change.moves:
                    assert all(stands.addresses <= OURS for stands in change.to.names.values())

    @invariant()
    def what_was_given_up_never_applies(self) -> None:
        """A plan that was told to be unchanged stays so."""
        if hasattr(self, "server"):
            for plan, since in self.closed.items():
                assert plan not in {change.plan for change in self.server.applied[since:]}


TestOutages = Outages.TestCase
TestOutages.settings = how(
    max_examples=80, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
