"""How does a plan become what the servers answer, whatever breaks on the way?

The intent is written down before it is sent. It is sent once. Then the zone is read where updates are committed, and
only what stands there counts. As long as that cannot be told the plan stays open, and no other plan of the service
starts: `resolve` finds out later, in this process or in the next. What is to be changed, and why, is
decided elsewhere; how a change travels is the switch's affair.

    the zone has our nonce            done, whatever was answered or not; partial if not all of it stands
    some of its steps were done       open: it is sent again, which finishes it (where changes are made in steps)
    it stands as before the plan      open: the same plan is sent again, or it is given up by first
                                      advancing the epoch with unchanged addresses, after which it can never apply
    it has something else             refused by the fence: nothing of ours was changed
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from mirrord.errors import JournalUnwritable, MirrordError, Unavailable
from mirrord.switches import (
    Change,
    Comparison,
    Follow,
    Following,
    Kind,
    Ledger,
    Mirrors,
    NameServers,
    Result,
    Seen,
    Sent,
    SentKind,
    Switch,
    Zone,
    compare,
    differences,
    plan_advance,
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for what was sent, in seconds."""

    commit: float = 5.0
    """Until a road answers the new data: a secondary that forwarded the update hears of it by NOTIFY."""
    follow: float = 10.0
    """Until every authoritative server that answers has the new data."""
    again: float = 60.0
    """So old may an open plan be to be sent again; an older one is given up."""


def new_nonce() -> str:
    """Return a plan's name: 128 random bits, in hex."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Looked:
    """The zone, and what the journal makes of it."""

    zone: Zone
    comparison: Comparison


def look(switch: Switch, ledger: Ledger, service: str, mirrors: Mirrors, *, by: str, shared: bool = False) -> Looked:
    """Read the zone and hold it against the ledger; raises Unavailable where it cannot be read.

    Where the zone has a later state of ours than the ledger knows (a plan that took effect late, or a move that the
    journal could not write down), the ledger takes it over from the zone; not so what an open plan just made, whose
    outcome is for the one to write down who sent it.
    """
    zone = switch.read()
    expected = ledger.expected(service)
    comparison = compare(zone, expected, mirrors, past=ledger.past(service), by=by, shared=shared)
    stands = comparison.stands
    later = stands is not None and expected is not None and stands.epoch > expected.epoch
    # Asked in this order: a plan that was settled since has changed what is expected.
    if later and ledger.intent(service) is None and ledger.expected(service) == expected:
        _written(lambda: ledger.take(service, zone.stands, comparison.text))
    return Looked(zone, comparison)


def remember_name_servers(switch: Switch, ledger: Ledger, service: str) -> NameServers:
    """Find the zone's NS and remember them; those without an answer keep the addresses of better times.

    Raises Unavailable where they cannot be asked for.
    """
    known = ledger.name_servers(service)
    found = {host: addresses or known.get(host, ()) for host, addresses in switch.name_servers().items()}
    if found and found != dict(known):
        _written(lambda: ledger.remember_name_servers(service, found))
    return found


def run(
    switch: Switch,
    ledger: Ledger,
    change: Change,
    *,
    executor: Executor | None = None,
    patience: Patience = Patience(),
    stop: threading.Event | None = None,
    clock: Callable[[], float] = time.time,
) -> Result:
    """Carry one plan out: write the intent down, send it, and see what stands afterwards.

    Raises Braked "open-plan" where another plan of the service is open, and what the switch raises before anything is
    sent. With `stop` set nothing more is waited for. The executor's workers ask the followers; this
    function must not run on one of them. A journal that cannot be written stops nothing: the TXT is the record.
    """
    journalled = _written(lambda: ledger.intend(change))
    try:
        sent = switch.send(change)
    except MirrordError as e:
        why = str(e)
        _written(lambda: ledger.settle(change, None, why))
        raise
    plan = _Plan(switch, ledger, change, executor, patience, stop or threading.Event(), clock, journalled)
    return plan.conclude(sent)


def resolve(
    switch: Switch,
    ledger: Ledger,
    service: str,
    *,
    by: str,
    again: bool | None = None,
    executor: Executor | None = None,
    patience: Patience = Patience(),
    stop: threading.Event | None = None,
    clock: Callable[[], float] = time.time,
    nonce: Callable[[], str] = new_nonce,
) -> Result | None:
    """Find out what became of the open plan of a service; None where none is open. Raises as `run` does.

    If the zone stands as before it, the plan is sent again (`again`; None: if it is younger than
    `patience.again`) or given up. Once begun, giving up is finished.
    """
    intent = ledger.intent(service)
    if intent is None:
        return None
    change, advance = intent.change, intent.advance
    plan = _Plan(switch, ledger, change, executor, patience, stop or threading.Event(), clock)
    try:
        zone = switch.read()
    except Unavailable as e:
        return plan.unknown(f"plan {change.epoch} stays open: {e}")
    settled = plan.settle(zone, advance)
    if settled is not None:
        return settled
    if change.seen_in(zone) is Seen.UNDERWAY:
        return plan.conclude(switch.send(change), repeated=True)  # a mixture is worse than either state
    if change.seen_in(zone) is Seen.OTHER and not (advance is not None and advance.seen_in(zone) is Seen.UNDERWAY):
        return plan.unknown(f"plan {change.epoch} stays open: {zone.server}, which may lag, has something else")
    if again is None:
        again = 0 <= clock() - intent.since < patience.again
    if again and advance is None:
        return plan.conclude(switch.send(change), repeated=True)
    if advance is None:
        advance = plan_advance(change, nonce=nonce(), by=by)
        plan.wrote(_written(lambda: ledger.give_up(change, advance)))
    return plan.conclude(switch.send(advance), repeated=True, advance=advance)


def follow(switch: Switch, ledger: Ledger, change: Change, executor: Executor | None = None) -> Mapping[str, Follow]:
    """Ask every authoritative server once whether it has a committed change; to watch on after `partial`."""
    return switch.followers(change, _known(switch, ledger, change.service), executor)


def _known(switch: Switch, ledger: Ledger, service: str) -> NameServers:
    """Return the NS that are remembered; where none are, those that can be found now."""
    known = ledger.name_servers(service)
    if not known:
        try:
            known = remember_name_servers(switch, ledger, service)
        except Unavailable:
            known = {}
    return known


def followed(followers: Mapping[str, Follow]) -> bool:
    """Tell whether every server that answers has the new data, and at least one does."""
    states = {follow.following for follow in followers.values()}
    return Following.FOLLOWS in states and Following.OLD not in states


@dataclass(slots=True)
class _Plan:
    """One open plan on its way to a result."""

    _switch: Switch
    _ledger: Ledger
    _change: Change
    _executor: Executor | None
    _patience: Patience
    _stop: threading.Event
    _clock: Callable[[], float]
    _journalled: bool = True

    def wrote(self, written: bool) -> None:
        """Remember whether the journal took everything."""
        self._journalled = self._journalled and written

    def conclude(self, sent: Sent, *, repeated: bool = False, advance: Change | None = None) -> Result:
        """Judge a plan by its last answer and by what stands.

        `repeated`: an earlier sending of it may have been applied, or may be yet, whatever was answered now.
        """
        if sent.kind is SentKind.UNSENT or (sent.kind is SentKind.REFUSED and sent.signed):
            return self.unknown(sent.text, sent) if repeated else self._unchanged(sent.text, sent)
        zone, unread = self._read_back(sent, advance, repeated=repeated)
        settled = self.settle(zone, advance, sent) if zone is not None else None
        if settled is not None:
            return settled
        before = zone is not None and self._change.seen_in(zone) is Seen.BEFORE
        if sent.kind is SentKind.FENCED and (not repeated or (before and zone is not None and not zone.may_lag)):
            return self._unchanged(_why_fenced(sent, zone, self._change), sent, zone)
        if sent.kind is SentKind.REFUSED and before and not repeated:
            return self._unchanged(sent.text, sent, zone)
        return self.unknown(_why_unknown(sent, unread, zone, self._change), sent, zone)

    def settle(self, zone: Zone, advance: Change | None, sent: Sent | None = None) -> Result | None:
        """Close the plan if what stands decides it; None if it stands as before, or cannot be told there."""
        change = self._change
        if change.seen_in(zone) is Seen.APPLIED:
            committed = self._clock()
            text = _moved(change)
            self.wrote(_written(lambda: self._ledger.settle(change, change.to, text)))
            result = Result(Kind.PARTIAL, change, text, sent, zone, {}, committed, self._journalled)
            return self._see_followers(result)
        if advance is not None and advance.seen_in(zone) is Seen.APPLIED:
            text = f"plan {change.epoch} was given up: the epoch went on to {advance.epoch}, the addresses stayed"
            self.wrote(_written(lambda: self._ledger.settle(change, advance.to, text)))
            return Result(Kind.UNCHANGED, change, text, sent, zone, {}, None, self._journalled)
        if advance is not None and advance.seen_in(zone) is Seen.UNDERWAY:
            return None
        if change.seen_in(zone) is Seen.ALTERED:
            text = f"{_moved(change)}, but not all of it stands: {differences(zone, change.to)}"
            self.wrote(_written(lambda: self._ledger.settle(change, change.to, text)))
            return Result(Kind.PARTIAL, change, text, sent, zone, {}, self._clock(), self._journalled)
        if change.seen_in(zone) is Seen.OTHER and not zone.may_lag:
            return self._unchanged(_why_fenced(sent, zone, change), sent, zone)
        return None

    def unknown(self, text: str, sent: Sent | None = None, zone: Zone | None = None) -> Result:
        """Leave the plan open."""
        return Result(Kind.UNKNOWN, self._change, text, sent, zone, {}, None, self._journalled)

    def _unchanged(self, text: str, sent: Sent | None, zone: Zone | None = None) -> Result:
        self.wrote(_written(lambda: self._ledger.settle(self._change, None, text)))
        return Result(Kind.UNCHANGED, self._change, text, sent, zone, {}, None, self._journalled)

    def _read_back(self, sent: Sent, advance: Change | None, *, repeated: bool) -> tuple[Zone | None, str]:
        """Read what stands, where it was sent; wait for the change where it may still come."""
        waits = sent.kind in (SentKind.ACCEPTED, SentKind.UNKNOWN) or (sent.kind is SentKind.FENCED and repeated)
        zone: Zone | None = None
        unread = ""
        for _ in self._tries(self._patience.commit if waits else 0.0):
            try:
                zone, unread = self._switch.read(sent.server), ""
            except Unavailable as e:
                unread = str(e)
                continue
            seen = {plan.seen_in(zone) for plan in (self._change, advance) if plan is not None}
            if seen & {Seen.APPLIED, Seen.ALTERED}:
                break
            if not zone.may_lag and (Seen.OTHER in seen or sent.kind is SentKind.FENCED):
                break
        return zone, unread

    def _see_followers(self, result: Result) -> Result:
        """Wait until the authoritative servers follow, and say which do not."""
        followers: Mapping[str, Follow] = {}
        self._switch.nudge(_known(self._switch, self._ledger, self._change.service))
        for _ in self._tries(self._patience.follow):
            followers = follow(self._switch, self._ledger, self._change, self._executor)
            if not any(state.following is Following.OLD for state in followers.values()):
                break
        text = result.text + _follow_text(followers)
        return replace(result, kind=Kind.DONE if followed(followers) else Kind.PARTIAL, text=text, followers=followers)

    def _tries(self, within: float) -> Iterator[None]:
        """Yield at once, and again with growing pauses until the time is up or we are told to stop."""
        deadline = time.monotonic() + within
        pause = 0.05
        while True:
            yield
            remaining = deadline - time.monotonic()
            if remaining <= 0 or self._stop.wait(min(pause, remaining)):
                return
            pause = min(pause * 1.5, 1.0)


def _written(write: Callable[[], object]) -> bool:
    """Write to the ledger; False where it cannot be written, which stops nothing."""
    try:
        write()
    except JournalUnwritable:
        return False
    return True


def _moved(change: Change) -> str:
    """Say what a committed change did."""
    if not change.moves:
        return f"{change.service}: is at {change.target} (epoch {change.epoch}), addresses unchanged"
    source = f" from {change.source}" if change.source is not None else ""
    return f"{change.service}: moved{source} to {change.target} (epoch {change.epoch})"


def _follow_text(followers: Mapping[str, Follow]) -> str:
    """Name the servers that do not follow yet, and those that cannot be asked."""
    lag = [follow.text for follow in followers.values() if follow.following is Following.OLD]
    gone = [follow.text for follow in followers.values() if follow.following is Following.UNREACHABLE]
    parts = (["some still give the old data: " + "; ".join(lag)] if lag else []) + (
        ["not to be asked: " + "; ".join(gone)] if gone else []
    )
    if not any(follow.following is Following.FOLLOWS for follow in followers.values()):
        parts.append("no authoritative server was seen to have it")
    return "".join(f"; {part}" for part in parts)


def _why_fenced(sent: Sent | None, zone: Zone | None, change: Change) -> str:
    """Say why the fence refused a plan, from what stands in the zone."""
    doing = f"{change.service}: moving to {change.target}" if change.moves else f"{change.service}: taking over"
    if zone is None:
        return sent.text if sent is not None else f"{doing}: refused by the fence"
    if change.seen_in(zone) is Seen.BEFORE:
        return (
            f"{doing}: the server says that its records are others than it answers; perhaps they come from a "
            f"wildcard: give each name its own records; nothing was changed"
        )
    return (
        f"{doing}: the zone is not as mirrord left it: {differences(zone, change.from_)}; it was left as it is; "
        f"`mirrord switch {change.service} --adopt` takes over what stands"
    )


def _why_unknown(sent: Sent, unread: str, zone: Zone | None, change: Change) -> str:
    """Say why a plan stays open."""
    if unread:
        return f"{sent.text}; reading what stands: {unread}"
    if zone is not None and change.seen_in(zone) is Seen.UNDERWAY:
        return f"{sent.text}; half of it stands; the plan stays open, and is finished with the next try"
    if sent.kind is SentKind.ACCEPTED:
        return f"{sent.text}, and {sent.server} still answers the old data; the plan stays open"
    return f"{sent.text}; {sent.server} still answers the old data; the plan stays open"
