"""How are readers moved, once it is decided, and what is known of the zone meanwhile?

A move begins with one fresh look at its target, made after the decision; if that fails, the next candidate
is tried. Then the plan is written down, sent, and proven by what the name servers answer. One at a
time for each service, on this machine: a lock sees to it. What may be decided is said in
`mirrord.decide`; how a plan is sent safely, in `mirrord.switches.transaction`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import ip_address
from typing import Any

from mirrord.config.model import Bgp, Dns
from mirrord.control.looking import Looker
from mirrord.control.mind import Reading
from mirrord.control.works import Works
from mirrord.decide import Move, Policy, Stay, Why, next_after, passes
from mirrord.errors import BadUsage, Braked, Conflict, Locked, MirrordError, Unavailable
from mirrord.health import Fresh, Health, Standing, Verdict, freshly, lasting
from mirrord.journal import Event
from mirrord.rules import members
from mirrord.sharing import after_looks, speaks_against, to_look_at
from mirrord.switches import (
    Change,
    Expected,
    Follow,
    Following,
    Kind,
    Result,
    Zone,
    ZoneState,
    plan_change,
    transaction,
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that was seen of a committed change: by a resolver, or by fetching a page where readers are sent."""

    what: str
    """`resolver` or `page`."""
    where: str
    """The resolver, or the address that was fetched from."""
    ok: bool
    """The new answer, or pages as they should be."""
    text: str


@dataclass(frozen=True, slots=True)
class Moved:
    """How an attempt to move a service ended."""

    service: str
    target: str
    text: str
    result: Result | None = None
    """None where nothing was sent: no candidate stood the fresh look."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Candidates whose fresh look failed -> why."""
    evidence: tuple[Evidence, ...] = ()
    """What was seen of a change that was committed, besides the name servers."""

    @property
    def trouble(self) -> str | None:
        """Why the switch cannot be worked, where this attempt showed it."""
        if self.result is None or self.result.kind in (Kind.DONE, Kind.PARTIAL):
            return None
        return self.result.text


@dataclass(frozen=True, slots=True)
class Attended:
    """What a look at a service's zone brought."""

    reading: Reading
    resolved: Moved | None = None
    """What became of a plan that was open."""
    followers: Mapping[str, Follow] | None = None


def carry_out(works: Works, looker: Looker, standing: Standing, move: Move, policy: Policy, reading: Reading) -> Moved:
    """Carry an automatic or acknowledged move out; raises MirrordError where nothing was sent.

    Looks take seconds: what was ordered meanwhile counts.
    """
    with works.locked(f"switch-{move.service}"):
        if works.journal.highest_epoch(move.service) != reading.epoch:
            # What is expected comes from the journal, so the fence would not notice what it knows already.
            raise Conflict(f"{move.service}: its readers were moved since this was decided; the next look decides anew")
        step, looked, failed = look_freshly(looker, standing, move, policy)
        if isinstance(step, Stay):
            return Moved(move.service, move.target, step.reason, failed=failed)
        _see_that_it_still_holds(works, standing, step, policy)
        change = _plan(
            works,
            step.service,
            step.target,
            reading,
            policy,
            looked,
            standing=standing,
            as_it_stands=move.why is Why.REASSERT,
            automatic=move.automatic,
            who=works.settings.controller.name,
            why=move.reason,
        )
        moved = replace(_commit(works, change), failed=failed)
    return see(works, looker, standing, moved, policy)


def _see_that_it_still_holds(works: Works, standing: Standing, move: Move, policy: Policy) -> None:
    """Raise Conflict where an order came since a move was decided, or this machine was suspended since."""
    doing = f"{move.service}: moving to {move.target}"
    drained = works.journal.drained()
    for mirror in move.joining if policy.serve == "all" else members(move.target):
        if mirror in drained:
            raise Conflict(f"{doing}: {mirror} was drained since this was decided; the next look decides anew")
    if not move.automatic:
        return
    held = works.journal.held(move.service)
    if held is not None:
        raise Conflict(f"{doing}: since this was decided, it is held by {held.by}: {held.reason}")
    slept = standing.overslept(time.monotonic(), time.time(), works.settings.thresholds())
    if slept:
        raise Conflict(f"{doing}: this machine slept for {lasting(slept)} since this was decided; it judges anew")


def look_freshly(
    looker: Looker, standing: Standing, move: Move, policy: Policy
) -> tuple[Move | Stay, list[Fresh], dict[str, str]]:
    """Look once more before a move; return what is left of it, what was seen, and who failed, and why."""
    failed: dict[str, str] = {}
    if policy.serve == "all":
        looks = [looker.fresh(standing, mirror, move.service) for mirror in to_look_at(move)]
        failed = {fresh.mirror: why for fresh in looks if (why := speaks_against(move, fresh)) is not None}
        return after_looks(move, policy, failed), looks, failed
    step: Move | Stay = move
    while isinstance(step, Move):
        fresh = looker.fresh(standing, step.target, step.service)
        why_not = passes(step, fresh)
        if why_not is None:
            return step, [fresh], failed
        failed[step.target] = why_not
        step = next_after(move, failed)
    return step, [], failed


def plan(
    works: Works,
    service: str,
    target: str,
    reading: Reading,
    policy: Policy,
    fresh: Fresh | None,
    *,
    adopt: bool,
    who: str,
    given: Mapping[str, Any] | None = None,
    standing: Standing | None = None,
) -> Change | None:
    """Plan a switch by hand; None where there is nothing to change.

    `given` is the plan that a person was shown: exactly that is returned, or Conflict is raised if it no longer fits.
    """
    comparison = reading.comparison
    assert comparison is not None
    assert reading.zone is not None
    looks = [fresh] if fresh is not None else []
    change = _plan(
        works, service, target, reading, policy, looks, standing=standing, as_it_stands=adopt, who=who, why="by hand"
    )
    if comparison.state is ZoneState.OURS and not change.moves and not adopt:
        return None
    if given is None:
        return change
    try:
        shown = replace(Change.from_json(given), who=who)
    except (KeyError, TypeError, ValueError) as e:
        raise BadUsage(f"{service}: moving to {target}: the plan is none: {type(e).__name__}: {e}") from e
    if _shape(shown) != _shape(change):
        raise Conflict(f"{service}: moving to {target}: things are no longer as they were shown; look again")
    return shown


def _shape(change: Change) -> object:
    """Return what a person agreed to; only the plan's name differs between two plannings of the same."""
    addresses = {name: rrsets.addresses for name, rrsets in change.to.names.items()}
    return change.service, change.target, change.from_, change.to.epoch, addresses, change.ttl


def commit(works: Works, change: Change) -> Moved:
    """Carry out a plan that a person wanted; raises MirrordError where nothing was sent."""
    with works.locked(f"switch-{change.service}"):
        return _commit(works, change)


def attend(
    works: Works, service: str, following: Change | None, policy: Policy, *, settle: bool, adopt: bool
) -> Attended:
    """Read a service's zone; settle an open plan first, and adopt by itself what is new and one mirror's.

    Both are left to others without `settle` and `adopt`. Never raises for the name servers' doing: the reading says
    what went wrong.
    """
    resolved = _settle_open_plan(works, service) if settle else None
    if settle:
        _keep(works, service)
    reading = _read(works, service, policy)
    new = reading.comparison is not None and reading.comparison.state is ZoneState.NEW
    if new and adopt and works.journal.held(service) is None:
        resolved = _adopt(works, service, reading, policy) or resolved
        reading = _read(works, service, policy)
    followers = None
    if following is not None:
        followers = transaction.follow(works.switch(service), works.journal, following, works.asking)
    return Attended(reading, resolved, followers)


def is_let_in(works: Works, service: str) -> bool:
    """Tell whether the switch lets us do something that changes nothing. Never raises."""
    try:
        with works.locked(f"switch-{service}"):
            works.switch(service).prove()
    except MirrordError:
        return False
    return True


def see(works: Works, looker: Looker, standing: Standing, moved: Moved, policy: Policy) -> Moved:
    """Look at a change that was committed as readers will: what resolvers answer, and pages where readers are sent.

    What is found is written down and changes nothing; never raises.
    """
    result = moved.result
    if result is None or result.committed is None or not result.change.moves:
        return moved
    if isinstance(works.settings.service(moved.service).way, Bgp):
        found: tuple[Evidence, ...] = tuple(_through(works, looker, standing, result))
        moved = _as_seen(moved, result, found)
    else:
        found = (*_resolvers(works, result), *_pages(looker, standing, result, policy))
    for one in found:
        event = Event(
            "evidence", f"{moved.service}: {one.text}", by=works.settings.controller.name, about=moved.service
        )
        works.jot(partial(works.journal.record, event))
    return replace(moved, evidence=found)


def _resolvers(works: Works, result: Result) -> list[Evidence]:
    way = works.settings.service(result.change.service).way
    resolvers = way.resolvers if isinstance(way, Dns) else ()
    if not resolvers:
        return []
    from mirrord.switches.resolving import ask_resolvers  # dnspython, only for who asks

    seen = []
    for answer in ask_resolvers(resolvers, way.names, works.asking):
        new = answer.addresses == result.change.to.names[answer.name].addresses
        stands = ", ".join(sorted(answer.addresses)) or "nothing"
        old = f"{answer.resolver}: {answer.name} is still {stands}, for {answer.ttl} s at most"
        text = answer.text or (f"{answer.resolver}: {answer.name} is {stands}" if new else old)
        seen.append(Evidence("resolver", answer.resolver, new, text))
    return seen


def _pages(looker: Looker, standing: Standing, result: Result, policy: Policy) -> Iterator[Evidence]:
    """Fetch at the addresses that the names have now, with the service's own names."""
    change = result.change
    addresses = {address for rrsets in change.to.names.values() for address in rrsets.addresses}
    for mirror in members(change.target):
        fresh = looker.fresh(standing, mirror, change.service)
        for address in sorted(addresses.intersection(map(canonical, policy.addresses.get(mirror, ())))):
            fault = {canonical(a): f for a, f in {**fresh.bad, **fresh.unjudged}.items()}.get(address)
            text = f"{address}: serves {', '.join(change.to.names)} as it should" if fault is None else None
            yield Evidence("page", address, fault is None, text or f"{address}: {fault.text if fault else ''}")


def _through(works: Works, looker: Looker, standing: Standing, result: Result) -> Iterator[Evidence]:
    """Fetch at the announced addresses, where readers come to whoever serves now."""
    change = result.change
    seen = looker.at(standing, works.settings.through(change.service, change.target))
    fresh = freshly(seen, standing, change.target, change.service, works.settings.thresholds())
    faults = {**fresh.bad, **fresh.unjudged}
    for address in sorted({target.address for target in works.settings.through(change.service, change.target)}):
        ok = address in fresh.good
        why = faults[address].text if address in faults else "nothing could be judged there"
        text = f"{address}: readers of {change.service} find pages there as they should" if ok else f"{address}: {why}"
        yield Evidence("page", address, ok, text)


def _as_seen(moved: Moved, result: Result, found: Sequence[Evidence]) -> Moved:
    """Take a change for done only where pages came through the announced address, or a neighbour has it."""
    neighbour = result.followers.get("neighbour")
    if all(one.ok for one in found) or (neighbour is not None and neighbour.following is Following.FOLLOWS):
        return moved
    failed = "; ".join(one.text for one in found if not one.ok)
    text = f"{result.text}; not seen to work through the announced address: {failed}"
    kind = Kind.PARTIAL if result.kind is Kind.DONE else result.kind
    return replace(moved, text=text, result=replace(result, kind=kind, text=text))


def canonical(address: str) -> str:
    """Write an address as name servers do."""
    return str(ip_address(address))


def remember_name_servers(works: Works, service: str) -> None:
    """Remember in good times who must follow, for when the names of name servers cannot be resolved any more."""
    try:
        transaction.remember_name_servers(works.switch(service), works.journal, service)
    except Unavailable:
        return


def _read(works: Works, service: str, policy: Policy) -> Reading:
    epoch = works.journal.highest_epoch(service)
    try:
        looked = transaction.look(
            works.switch(service),
            works.journal,
            service,
            policy.addresses,
            by=works.settings.controller.name,
            shared=policy.serve == "all",
        )
    except MirrordError as e:
        return Reading(None, None, str(e), epoch)
    stands = looked.comparison.stands
    epoch = max(epoch, stands.epoch if stands is not None else 0)
    return Reading(looked.comparison, looked.zone, looked.comparison.text, epoch)


def _keep(works: Works, service: str) -> None:
    """Have what we left given again, should it be lost: a speaker that started anew. That is no move, and no news."""
    expected = works.journal.expected(service)
    if expected is None or works.journal.intent(service) is not None:
        return
    try:
        with works.locked(f"switch-{service}"):
            if works.journal.expected(service) == expected:
                works.switch(service).keep(expected)
    except MirrordError:
        return  # somebody moves it just now, or the switch cannot be opened, which reading it tells


def _settle_open_plan(works: Works, service: str) -> Moved | None:
    intent = works.journal.intent(service)
    if intent is None:
        return None
    again = False if _is_no_longer_wanted(works, intent.change) else None
    try:
        with works.locked(f"switch-{service}"):
            result = transaction.resolve(
                works.switch(service),
                works.journal,
                service,
                by=works.settings.controller.name,
                again=again,
                executor=works.asking,
                stop=works.stop,
            )
    except Locked:
        return None
    return None if result is None else _ended(result)


def _is_no_longer_wanted(works: Works, change: Change) -> bool:
    """Tell whether an order came since a plan was sent that would have kept it from being decided: then it is given up.

    What a person wanted is still wanted: moving by hand is possible during a hold, and to a drained mirror.
    """
    if change.by_hand or not change.moves:
        return False
    drained = works.journal.drained()
    held = works.journal.held(change.service) is not None
    return held or any(mirror in drained for mirror in members(change.target))


def _adopt(works: Works, service: str, reading: Reading, policy: Policy) -> Moved | None:
    """Put our fence and our TTL beside addresses that are one mirror's already; no address changes."""
    assert reading.comparison is not None
    serving = reading.comparison.serving
    if serving is None:
        return None
    try:
        with works.locked(f"switch-{service}"):
            who = works.settings.controller.name
            change = _plan(works, service, serving, reading, policy, [], as_it_stands=True, who=who, why="new here")
            return _commit(works, change)
    except (Locked, Braked):
        return None
    except MirrordError as e:
        return Moved(service, serving, str(e))


def _plan(
    works: Works,
    service: str,
    target: str,
    reading: Reading,
    policy: Policy,
    looks: Sequence[Fresh],
    *,
    standing: Standing | None = None,
    as_it_stands: bool,
    automatic: bool = False,
    who: str,
    why: str,
) -> Change:
    """Write the plan down as a value; what is expected comes from the journal unless a person adopts what stands."""
    zone = reading.zone
    expected = works.journal.expected(service)
    if expected is None or as_it_stands:
        if zone is None:
            raise Unavailable(f"{service}: planning a move to {target}: the zone could not be read: {reading.text}")
        expected = zone.stands
    elif zone is not None:
        expected = _for_all_names(expected, zone)
    announced = isinstance(works.settings.service(service).way, Bgp)  # a next hop is none of the addresses looked at
    return plan_change(
        service,
        expected,
        target,
        policy.addresses,
        nonce=transaction.new_nonce(),
        by=works.settings.controller.name,
        ttl=works.settings.service(service).ttl,
        was_ttl=_longest_kept(works, service, zone),
        leave_out=() if announced else bad_addresses(policy, target, looks, standing),
        mx=works.settings.mx(service),
        shared=policy.serve == "all",
        epoch_above=works.journal.highest_epoch(service),
        automatic=automatic,
        who=who,
        why=why,
    )


def _longest_kept(works: Works, service: str, zone: Zone | None) -> int:
    """Return for how many seconds readers may keep what they were told, also before the last change.

    With a TTL of a day before mirrord came, and of a minute since, an outage in the first hour is long for many.
    """
    ttl = zone.ttl if zone is not None else works.settings.service(service).ttl
    return max(ttl, math.ceil(works.journal.readers_follow_in(service) or 0.0))


def bad_addresses(policy: Policy, target: str, looks: Sequence[Fresh], standing: Standing | None) -> tuple[str, ...]:
    """Return which addresses to leave out: bad in the fresh looks, or, of who was not looked at, in earlier ones.

    Where several share readers, a mirror that is to be among them is not left out altogether for one bad look.
    """
    bad = [address for fresh in looks if fresh.ok or policy.serve == "first" for address in fresh.bad]
    for mirror in set(members(target)).difference(fresh.mirror for fresh in looks):
        health = standing.health(mirror, policy.service) if standing is not None else Health()
        bad += health.degraded if health.verdict is Verdict.UP else ()
    return tuple(bad)


def _for_all_names(expected: Expected, zone: Zone) -> Expected:
    """Expect what the journal says, and of names and kinds that are new in the configuration what stands there."""
    stands = zone.stands.names
    known = {name: expected.names.get(name, stands[name]).filled(stands[name]) for name in stands}
    return Expected(known, expected.epoch)


def _commit(works: Works, change: Change) -> Moved:
    return _ended(
        transaction.run(works.switch(change.service), works.journal, change, executor=works.asking, stop=works.stop)
    )


def _ended(result: Result) -> Moved:
    return Moved(result.change.service, result.change.target, result.text, result)
