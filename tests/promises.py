"""What is promised to readers, held against the truth of a simulated world.

Nothing here asks the rules what they think: a promise is kept or broken by what the mirrors really serve. So a rule
that is taken out shows, by the promise that breaks, what it was for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mirrord.decide import Move, Why
from mirrord.health import ContentClass, Verdict
from mirrord.rules import members

if TYPE_CHECKING:
    from tests.world import World


PATIENCE = 300.0
"""How long a mirror may turn us away before readers may be taken from it."""


class Broken(AssertionError):
    """A promise to readers was broken."""


@dataclass
class Promises:
    """What has to be remembered to hold a world against its promises."""

    good_since: dict[str, float] = field(default_factory=dict)
    """Since when each mirror has really been well, and could be seen to be."""
    rows: dict[str, int] = field(default_factory=dict)
    """How many rounds in a row each mirror was there (above zero) or plainly gone (below)."""
    fallen: set[str] = field(default_factory=set)
    """Mirrors that were gone `fall` times in a row, and not yet back `rise` times."""
    waiting_since: dict[str, float] = field(default_factory=dict)
    """Since when readers have waited at mirrors that are plainly gone, with nothing in the way of helping them."""

    def note(self, world: World) -> None:
        """Note the truth after a round."""
        for name in world.names:
            if reads_well(world, name) and in_sight(world, name):
                self.good_since.setdefault(name, world.now)
            else:
                self.good_since.pop(name, None)
            self._count(world, name)

    def _count(self, world: World, name: str) -> None:
        if not in_sight_at_all(world):
            self.rows.clear()
            return
        row = self.rows.get(name, 0)
        self.rows[name] = min(row, 0) - 1 if plainly_gone(world, name) else max(row, 0) + 1
        if self.rows[name] >= world.thresholds.rise:
            self.fallen.discard(name)
        elif -self.rows[name] >= world.thresholds.fall:
            self.fallen.add(name)

    def forget(self) -> None:
        """The controller starts anew: so does what it can be held to."""
        self.rows.clear()
        self.fallen.clear()
        self.waiting_since.clear()

    def of_move(self, world: World, move: Move) -> None:
        """Raise Broken if this move, made now, breaks a promise."""
        if not members(move.target) or not all(world.mirrors[name].addresses for name in members(move.target)):
            raise Broken("readers got an empty answer")
        joining = joining_in(world, move)
        for target in joining:
            _to_a_usable_target(world, target)
            if target in self.fallen:
                raise Broken(f"readers were sent to {target}, which had only just come back")
        if not any(usable(world, name) for name in members(move.target)):
            raise Broken(f"readers were left with {move.target}, where nobody serves them")
        if world.zone == "foreign":
            raise Broken("readers were moved though somebody else changed the zone")
        if world.pending:
            raise Broken("readers were moved while a plan was open")
        if move.automatic:
            _with_clear_sight(world)
            _not_against_operators(world)
            for source in leaving_in(world, move):
                self._away_from_a_bad_one(world, move, source)
            for target in joining:
                if move.why is Why.FAILBACK:
                    self._back_to_who_is_ready(world, target)
                self._to_the_best(world, move, target)
            _as_ordered(world, move)
            _not_hastily(world, move)

    def of_help(self, world: World) -> None:
        """Raise Broken if readers wait longer than detection and dwell while a good mirror stays good and in sight."""
        impeded = world.held or world.pending or world.zone != "ours" or world.standing.clock or asks_today(world)
        waiting = [] if impeded or not in_sight_at_all(world) else [n for n in world.here if plainly_gone(world, n)]
        self.waiting_since = {name: self.waiting_since.get(name, world.now) for name in waiting}
        if not waiting:
            return
        rules = world.thresholds
        in_time = rules.fall * rules.every + dwell(world) + (1 + len(world.names)) * rules.timeout + 2 * rules.every
        since = world.now - in_time
        stayed_good = [
            name
            for name, good in self.good_since.items()
            if good < since and name not in world.drained and class_of(world, name) is not ContentClass.STALE
        ]
        if stayed_good and any(began < since for began in self.waiting_since.values()):
            raise Broken(f"readers waited too long for {stayed_good[0]}, which was good all the time")

    def _to_the_best(self, world: World, move: Move, target: str) -> None:
        """Only the last plan itself is put in force again whatever the class."""
        content = class_of(world, target)
        for name in () if move.why is Why.REASSERT else world.policy.order:
            seen_well = world.verdict(name) is Verdict.UP and world.health(name).judged and name in self.good_since
            passed_over = name not in {*world.drained, *world.here, *members(move.target)}
            if seen_well and passed_over and class_of(world, name).rank < content.rank:
                raise Broken(f"readers were sent to {target} ({content.value}) though {name} was better")

    def _away_from_a_bad_one(self, world: World, move: Move, name: str) -> None:
        """Whoever serves well is left only for a preferred mirror, for the last plan, or because it is drained."""
        source = world.mirrors[name]
        refused = source.refuses_us_since is not None
        if refused and world.now - (source.refuses_us_since or 0.0) >= PATIENCE:
            return
        if not reads_well(world, name) or move.why in (Why.FAILBACK, Why.REASSERT) or _pruned(world, name):
            return
        if class_of(world, name) is not ContentClass.STALE:
            raise Broken(f"readers were taken from {name}, which served them well")
        if all(class_of(world, target) is ContentClass.STALE for target in members(move.target)):
            raise Broken(f"readers were sent from outdated content to outdated content on {move.target}")

    def _back_to_who_is_ready(self, world: World, target: str) -> None:
        if world.mirrors[target].markers:
            raise Broken(f"readers were returned to {target}, which cannot prove that it caught up")
        if class_of(world, target) is not ContentClass.CURRENT:
            raise Broken(f"readers were returned to {target} before it caught up")
        if world.now - self.good_since.get(target, world.now) < world.policy.settle:
            raise Broken(f"readers were returned to {target} before it had settled")


def joining_in(world: World, move: Move) -> tuple[str, ...]:
    """Whom readers are newly sent to."""
    return move.joining if world.policy.serve == "all" else (move.target,)


def leaving_in(world: World, move: Move) -> tuple[str, ...]:
    """Whom readers leave."""
    return tuple(name for name in world.here if name not in members(move.target))


def _pruned(world: World, name: str) -> bool:
    """Whether a mirror among several was drained: it goes with whoever goes next."""
    return world.policy.serve == "all" and name in world.drained


def _as_ordered(world: World, move: Move) -> None:
    """What nobody ordered is not done: returning by itself, undoing a person's choice, putting a zone right."""
    policy = world.policy
    if move.why is Why.REASSERT and (policy.on_revert == "ask" or move.target != world.meant):
        raise Broken("the zone was put right, and nobody was asked")
    if move.joining and len(members(move.target)) > policy.answers:
        raise Broken("more mirrors were in the answer than are wanted")
    if move.why is not Why.FAILBACK:
        return
    preferred = policy.serve == "all" or policy.order.index(move.target) < policy.order.index(move.source)
    if policy.failback == "manual" or not preferred:
        raise Broken(f"readers were taken from {move.source}, which served them well")
    if world.by_hand and policy.serve == "first":
        raise Broken(f"readers were taken from {move.source}, where a person had sent them")


def _to_a_usable_target(world: World, target: str) -> None:
    mirror = world.mirrors[target]
    if not usable(world, target) or mirror.altered & world.standing.suspects(target, world.policy.service):
        raise Broken(f"readers were sent to {target}, which does not serve them")
    if target in world.drained:
        raise Broken(f"readers were sent to {target}, which is drained")


def _with_clear_sight(world: World) -> None:
    if not in_sight_at_all(world):
        raise Broken("readers were moved by a controller whose own network was in doubt")
    if abs(world.clock_error) > world.thresholds.clock_limit:
        raise Broken("readers were moved by a controller whose clock was wrong")


def _not_against_operators(world: World) -> None:
    if world.held:
        raise Broken("readers were moved against a hold")


def _not_hastily(world: World, move: Move) -> None:
    """Moving again and again is worse than one slow mirror; so is coming and going within a few hours."""
    if not world.moved_at:
        return
    ago = world.now - world.moved_at[0][0]
    if ago < dwell(world, today=True):
        raise Broken("readers were moved again within the dwell")
    if asks_today(world):
        raise Broken("readers were moved a fourth time within a day, and nobody was asked")
    if move.why is Why.FAILBACK and ago < world.policy.ack_after:
        raise Broken("readers were taken back within hours of a move, and nobody was asked")


def asks_today(world: World) -> bool:
    """Whether readers were moved so often today that a person has to look."""
    return sum(world.now - moved < 86400.0 for moved, _ in world.moved_at) >= world.policy.moves_a_day


def dwell(world: World, *, today: bool = False) -> float:
    """How long there is nothing but waiting after an automatic move: at most, or at least, by the moves of today."""
    moves = [moved for moved, _ in world.moved_at if not today or world.now - moved < 86400.0]
    doubled = world.policy.dwell * 2.0 ** max(len(moves) - 1, 0)
    return min(doubled, max(world.policy.longest_dwell, world.policy.dwell))


def plainly_gone(world: World, name: str) -> bool:
    """Whether a mirror is in trouble that nobody can take for anything else."""
    mirror = world.mirrors[name]
    return not mirror.alive or not mirror.tls or (mirror.redirects and mirror.refuses_us_since is None)


def usable(world: World, name: str) -> bool:
    """Whether one look would find a mirror usable, in truth: single altered pages aside."""
    mirror = world.mirrors[name]
    lit = [address for address in mirror.counting if address not in mirror.dark]
    dated = world.true < mirror.certificate_until
    return bool(
        mirror.alive and lit and mirror.tls and dated and not mirror.redirects and (mirror.signed or mirror.markers)
    )


def reads_well(world: World, name: str) -> bool:
    """Whether readers are served what they should be, in truth; outdated content, too, is well served."""
    return usable(world, name) and not world.mirrors[name].altered


def in_sight_at_all(world: World) -> bool:
    """Whether the controller can tell anything at all."""
    return world.reachable[4] and not world.flapping


def in_sight(world: World, name: str) -> bool:
    """Whether the controller can see that a mirror is well."""
    return in_sight_at_all(world) and name not in world.cut_off and world.mirrors[name].refuses_us_since is None


def class_of(world: World, name: str) -> ContentClass:
    """What class of content a mirror serves, in truth; wanted is what was seen served."""
    if world.mirrors[name].markers:
        return ContentClass.UNVERIFIED
    newer = [wanted for wanted in world.standing.lineage if wanted.serial > world.mirrors[name].serial]
    if not newer:
        return ContentClass.CURRENT
    return ContentClass.BEHIND if world.now - newer[0].since < world.thresholds.max_lag else ContentClass.STALE
