"""What the controller holds true, and what it concludes from it, with zones that are written by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mirrord.control import moving
from mirrord.control.desk import Desk
from mirrord.control.looking import Looker
from mirrord.control.mind import Reading
from mirrord.decide import Ask, Move, Stay
from mirrord.errors import BadUsage, Conflict, Locked, Unavailable
from mirrord.health import ContentClass, Fault, FaultKind, Fresh, Health, Standing, Verdict
from mirrord.switches import (
    Change,
    Comparison,
    Expected,
    Found,
    Kind,
    Result,
    Rrsets,
    Sent,
    SentKind,
    Zone,
    ZoneState,
    plan_change,
)
from mirrord.switches.transaction import new_nonce
from tests.controlling import NAME, Controller, controller, seen
from tests.watching import Sight, sight

MILAN, LYON = "127.0.0.11", "127.0.0.12"
STANDS = Expected({NAME: Rrsets(frozenset({MILAN}))})


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Controller]:
    """A daemon's desk and mind: milan is seen to serve, by the zone."""
    with controller(tmp_path, daemon=True) as made:
        made.mind.read("web", reading())
        yield made


def reading(epoch: int = 0) -> Reading:
    """The zone as it was read: readers are sent to milan."""
    zone = Zone({NAME: Found(STANDS.names[NAME], ttl=60)}, server="192.0.2.53:53")
    return Reading(Comparison(ZoneState.OURS, "as we left it", "milan", STANDS), zone, "as we left it", epoch)


def up(mirror: str) -> Sight:
    """A good look."""
    return sight(mirror=mirror, address=MILAN if mirror == "milan" else LYON, name=NAME)


def down(mirror: str) -> Sight:
    """A mirror that is gone."""
    return sight(FaultKind.UNREACHABLE, mirror=mirror, address=MILAN if mirror == "milan" else LYON, name=NAME)


def look(home: Controller, *sights: Sight, ago: float = 0.0) -> None:
    """Take in a round."""
    home.mind.saw(seen(*sights, ago=ago), home.works.settings.thresholds(), {})


def moved_to_lyon(home: Controller) -> Change:
    """Have somebody move readers to lyon: the journal knows, the last reading does not."""
    change = plan_change("web", STANDS, "lyon", {"milan": (MILAN,), "lyon": (LYON,)},
                         nonce=new_nonce(), by="home", ttl=60, was_ttl=60)  # fmt: skip
    home.works.journal.intend(change)
    home.works.journal.settle(change, change.to, "moved")
    return change


def test_a_reading_from_before_our_last_plan_says_nothing_about_who_serves(home: Controller) -> None:
    """
    An operator moves readers away from a failing mirror; the round that convicts it must not move them once more, for
    they are no longer there.
    """
    moved_to_lyon(home)
    look(home, down("milan"), up("lyon"))

    view = home.mind.view("web", now=0.0)
    assert (view.zone, view.serving) == ("unread", "lyon")
    assert isinstance(home.mind.conclude("web", now=0.0), Stay)


def test_what_was_seen_before_readers_came_does_not_send_them_away(home: Controller) -> None:
    """A mirror is back, and a person sends readers there: the next round may say otherwise, the last one may not."""
    look(home, up("milan"), down("lyon"), ago=2.0)
    change = moved_to_lyon(home)
    stands = Comparison(ZoneState.OURS, "as we left it", "lyon", change.to)
    zone = Zone({NAME: Found(change.to.names[NAME], ttl=60)}, server="192.0.2.53:53")
    home.mind.read("web", Reading(stands, zone, "as we left it", home.works.journal.highest_epoch("web")))

    decision = home.mind.conclude("web", now=time.monotonic())
    assert isinstance(decision, Stay)
    assert decision.rule == "just-came"

    look(home, up("milan"), down("lyon"), ago=-1.0)
    assert isinstance(home.mind.conclude("web", now=time.monotonic()), Move)


def test_a_decision_from_before_somebody_else_moved_readers_is_not_carried_out(home: Controller) -> None:
    """The fence would let it pass: what it expects is what the journal knows, and the journal knows the other move."""
    look(home, down("milan"), up("lyon"))
    move = home.mind.conclude("web", now=0.0)
    assert isinstance(move, Move)
    moved_to_lyon(home)

    with pytest.raises(Conflict, match="since this was decided"):
        moving.carry_out(home.works, home.looker, home.mind.standing, move, home.mind.policy("web"), reading())


@dataclass
class Slow(Looker):
    """Looks that find everybody well, and while which something happens."""

    meanwhile: Callable[[], object]

    def fresh(self, standing: Standing, mirror: str, service: str) -> Fresh:
        """Have it happen, and find the target well."""
        del standing
        self.meanwhile()
        address = MILAN if mirror == "milan" else LYON
        return Fresh(mirror, service, ok=True, content=ContentClass.CURRENT, good=(address,), bad={})


@pytest.mark.parametrize(
    ("verb", "asked", "why"),
    [
        pytest.param("hold", {"what": "web", "reason": "new disks"}, "held by anna: new disks", id="held"),
        pytest.param("drain", {"mirror": "lyon"}, "lyon was drained", id="its target drained"),
    ],
)
def test_an_order_that_comes_while_a_move_is_on_its_way_stops_it(
    home: Controller, verb: str, asked: dict[str, str], why: str
) -> None:
    """Whoever was told that the service is held begins to work on it: nothing may move a few seconds later."""
    look(home, down("milan"), up("lyon"))
    move = home.mind.conclude("web", now=0.0)
    assert isinstance(move, Move)
    looker = Slow(lambda: home.verb(verb, **asked))

    with pytest.raises(Conflict, match=why):
        moving.carry_out(home.works, looker, home.mind.standing, move, home.mind.policy("web"), reading())
    assert home.works.journal.highest_epoch("web") == 0


def test_a_move_that_a_suspended_machine_slept_through_is_decided_anew(home: Controller) -> None:
    """The laptop was shut between the decision and the update: what made it is hours old."""
    look(home, down("milan"), up("lyon"))
    move = home.mind.conclude("web", now=0.0)
    assert isinstance(move, Move)
    hours_ago = replace(home.mind.standing, latest_wall=time.time() - 8 * 3600)

    with pytest.raises(Conflict, match="slept for 8 h"):
        moving.carry_out(home.works, Slow(list), hours_ago, move, home.mind.policy("web"), reading())


def test_where_a_person_sent_readers_is_known_to_the_rules(home: Controller) -> None:
    """Or `failback = "auto"` would undo within seconds what a person did."""
    change = plan_change("web", STANDS, "lyon", {"milan": (MILAN,), "lyon": (LYON,)},
                         nonce=new_nonce(), by="home", who="anna", ttl=60, was_ttl=60)  # fmt: skip
    before = home.mind.view("web", now=0.0).by_hand
    home.works.journal.intend(change)
    home.works.journal.settle(change, change.to, "moved")

    assert (before, home.mind.view("web", now=0.0).by_hand) == (False, True)


def test_who_stays_is_not_given_back_an_address_that_is_bad(home: Controller) -> None:
    """Where several share readers, only who joins is looked at anew: of the others, what the last rounds found."""
    bad = Health(Verdict.UP, degraded={LYON: Fault(FaultKind.UNREACHABLE, "cannot be reached")})
    standing = Standing(healths={("lyon", "web"): bad})
    wide = replace(home.mind.policy("web"), serve="all", addresses={"milan": (MILAN,), "lyon": ("192.0.2.22", LYON)})

    change = moving.plan(
        home.works, "web", "milan+lyon", reading(), wide, None, adopt=False, who="anna", standing=standing
    )
    assert change is not None
    assert change.to.names[NAME].a == {MILAN, "192.0.2.22"}


def test_one_bad_look_leaves_nobody_out_who_is_to_share_readers(home: Controller) -> None:
    """A blip, or an operator who knows better: the plan says milan and lyon, and so does the answer."""
    shared = replace(home.mind.policy("web"), serve="all")
    gone = Fault(FaultKind.UNREACHABLE, "cannot be reached")
    blip = Fresh("lyon", "web", ok=False, content=None, good=(), bad={LYON: gone})

    change = moving.plan(home.works, "web", "milan+lyon", reading(), shared, blip, adopt=False, who="anna")
    assert change is not None
    assert change.to.names[NAME].a == {MILAN, LYON}


def test_one_mover_at_a_time(home: Controller) -> None:
    """The daemon keeps its hands off while a person moves readers, and the other way round."""
    home.mind.claim("web", "anna is moving readers to lyon")

    with pytest.raises(Locked, match="anna is moving"):
        home.mind.claim("web", "moving readers to lyon")
    home.mind.release("web")
    home.mind.claim("web", "moving readers to lyon")


def test_a_plan_is_carried_out_as_it_was_shown_or_not_at_all(home: Controller) -> None:
    """Whoever may connect to the socket may move readers, and to configured addresses only."""
    policy = home.mind.policy("web")

    def plan(given: Mapping[str, object] | None) -> Change:
        change = moving.plan(home.works, "web", "lyon", reading(), policy, None, adopt=False, who="anna", given=given)
        assert change is not None
        return change

    shown = plan(None)
    assert plan(shown.to_json()) == replace(shown, who="anna")
    elsewhere = replace(shown, to=Expected({NAME: replace(shown.to.names[NAME], a=frozenset({"192.0.2.66"}))}, 1))
    with pytest.raises(Conflict):
        plan(elsewhere.to_json())
    with pytest.raises(BadUsage):
        plan({"plan": "none"})


@dataclass(frozen=True)
class Attempt:
    """How an attempt to move ended."""

    result: Result | None
    text: str = "web: refused: our clock is wrong"
    trouble: str | None = None
    failed: Mapping[str, str] = field(default_factory=dict)


def test_a_move_that_nobody_stood_the_fresh_look_for_is_not_told_as_if_it_were_made(home: Controller) -> None:
    """Milan is down and lyon died a moment later: who asks at night must not read that readers move."""
    look(home, down("milan"), up("lyon"))
    assert isinstance(home.mind.conclude("web", now=0.0), Move)
    failed = "milan is down, but nobody passed a fresh look: lyon: cannot be reached"
    home.mind.take_in("web", Attempt(None, failed))

    (told,) = home.verb("explain", service="web")["services"]
    assert told["facts"][-1] == f"The last try moved nobody: {failed}."
    assert (told["protected"]["ok"], told["protected"]["why"]) == (False, failed)
    (shown,) = home.verb("status")["services"]
    assert not shown["protected"]["ok"]

    look(home, up("milan"), up("lyon"))
    assert isinstance(home.mind.conclude("web", now=0.0), Stay)
    (told,) = home.verb("explain", service="web")["services"]
    assert failed not in " ".join(told["facts"])


def test_a_wrong_clock_is_believed_in_for_some_minutes_only(home: Controller) -> None:
    """Only the next update can show that it was set right, and nothing moves as long as it is believed to be wrong."""
    change = moved_to_lyon(home)
    sent = Sent(SentKind.REFUSED, "BADTIME", clock_difference=400.0)
    home.mind.take_in("web", Attempt(Result(Kind.UNCHANGED, change, "refused", sent)))

    look(home, up("milan"), up("lyon"))
    assert "BADTIME" in (home.mind.standing.clock or "")
    look(home, up("milan"), up("lyon"), ago=-400)
    assert home.mind.standing.clock is None


def test_what_is_no_longer_configured_is_no_longer_judged(home: Controller) -> None:
    """An address that a mirror gave up would keep it `unknown` for ever, and readers on it."""
    gone = sight(mirror="milan", address="127.0.0.99", name=NAME)
    look(home, down("milan"), gone, up("lyon"))

    assert home.mind.health("milan")["web"].verdict is Verdict.DOWN
    home.mind.adopt(home.reconfigure(mirrors=("milan", "oslo")))
    assert {mirror for mirror, _ in home.mind.standing.healths} == {"milan"}


def asked(home: Controller) -> Ask:
    """Have mirrord ask whether to leave milan, which is drained."""
    home.verb("drain", mirror="milan", reason="loud fan")
    look(home, up("milan"), up("lyon"))
    question = home.mind.conclude("web", now=0.0)
    assert isinstance(question, Ask)
    return question


def test_a_no_is_an_answer(home: Controller) -> None:
    """The same question must not be back with the next round; it is put again if the facts change."""
    question = asked(home)
    home.verb("ack", id=question.id, answer="no")

    assert isinstance(home.mind.conclude("web", now=0.0), Ask)
    assert not home.verb("status")["asks"]
    assert home.told("ask", "ack")[1:] == [f"{question.id}: declined"]


def test_a_yes_is_carried_out(home: Controller) -> None:
    """What was asked, and nothing else."""
    question = asked(home)
    home.verb("ack", id=question.id)

    decision = home.mind.conclude("web", now=0.0)
    assert isinstance(decision, Move)
    assert decision.target == "lyon"


def test_a_yes_of_another_time_carries_nothing_out(home: Controller) -> None:
    """Killed between the answer and the act, mirrord must not take the answer up a month later."""
    question = asked(home)
    home.works.journal.ack(question.id, "anna")
    home.verb("undrain", mirror="milan")
    home.mind.affairs["web"].ask = None  # another process begins

    home.mind.conclude("web", now=0.0)
    assert isinstance(asked(home), Ask)


def test_a_yes_that_nobody_would_carry_out_is_not_taken(home: Controller) -> None:
    """Whoever starts a daemon later is asked anew; a person who believes that readers are on their way does nothing."""
    question = asked(home)
    alone = Desk(home.works, home.mind, home.looker, home.publishing)

    with pytest.raises(Unavailable, match="no daemon runs here"):
        alone.call("ack", {"id": question.id}, home.said.append, "anna")
    assert [asked.id for asked in home.works.journal.asks()] == [question.id]


def test_what_comes_in_for_a_service_that_is_gone_is_dropped(home: Controller) -> None:
    """A reading, a move or a name server's answer may be under way while the configuration is read again."""
    change = moved_to_lyon(home)
    home.mind.adopt(home.reconfigure(services=0))

    home.mind.read("web", reading())
    home.mind.take_in("web", Attempt(Result(Kind.DONE, change, "moved")))
    home.mind.follows("web", {})
    home.mind.release("web")
    with pytest.raises(BadUsage):
        home.mind.claim("web", "anna is moving readers to lyon")
    assert home.verb("status")["services"] == []
