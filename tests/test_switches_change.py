from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mirrord.errors import Braked
from mirrord.switches import (
    Change,
    Expected,
    Fence,
    Found,
    Rrsets,
    Seen,
    Zone,
    ZoneState,
    compare,
    families,
    parse_fence,
    plan_advance,
    plan_change,
    served_by,
)
from mirrord.switches.change import word
from tests.switching import MIRRORS, NAMES

PLAN = "0123456789abcdef" * 2
OTHER_PLAN = "fedcba9876543210" * 2


def rrsets(mirror: str, fence: Fence | None = None) -> Rrsets:
    """All of a mirror's addresses."""
    return Rrsets(*families(MIRRORS[mirror]), fence.records if fence else frozenset())


def state(mirror: str, epoch: int = 0, plan: str = PLAN, by: str = "home", names: Iterable[str] = NAMES) -> Expected:
    """Every name at one mirror, as a plan of ours leaves it; epoch 0 is before us."""
    fence = Fence(epoch, mirror, plan, by) if epoch else None
    return Expected(dict.fromkeys(names, rrsets(mirror, fence)), epoch)


def zone(expected: Expected, **more: object) -> Zone:
    """A zone that stands exactly so."""
    found = {name: Found(stands, ttl=300) for name, stands in expected.names.items()}
    return Zone(found, serial=7, server="127.0.0.1:53", **more)  # type: ignore[arg-type] # named by Zone


def altered(stands: Zone, name: str, **fields: object) -> Zone:
    """The same zone, changed by somebody at one name."""
    found = stands.names[name]
    changed = replace(found, rrsets=replace(found.rrsets, **fields))  # type: ignore[arg-type] # named by Rrsets
    return replace(stands, names={**stands.names, name: changed})


def plan(stands: Expected, target: str, leave_out: Iterable[str] = (), epoch_above: int = 0) -> Change:
    """Plan a move."""
    return plan_change(
        "web",
        stands,
        target,
        MIRRORS,
        nonce=OTHER_PLAN,
        by="home",
        ttl=60,
        was_ttl=300,
        leave_out=frozenset(leave_out),
        epoch_above=epoch_above,
    )


# -- the fence's text


def test_the_fence_is_read_as_it_was_written() -> None:
    """The TXT is the record of who moved the service, when the journal is gone."""
    fence = Fence(17, "lyon", PLAN, "home.example")

    assert fence.text == f"v=1 epoch=17 target=lyon plan={PLAN} by=home.example"
    assert parse_fence(fence.records) == fence


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([], id="none"),
        pytest.param([("v=spf1 -all",)], id="somebody else's"),
        pytest.param([(Fence(n, "lyon", PLAN, "home").text,) for n in (1, 2)], id="two records"),
        pytest.param([("v=1 epoch=1 ", f"target=lyon plan={PLAN} by=home")], id="two strings"),
        pytest.param([()], id="no string"),
        pytest.param([("",)], id="empty string"),
        pytest.param([(f"v=2 epoch=1 target=lyon plan={PLAN} by=home",)], id="another version"),
        pytest.param([(f"v=1 epoch=01 target=lyon plan={PLAN} by=home",)], id="a number in another spelling"),
        pytest.param([(f"v=1 epoch=-1 target=lyon plan={PLAN} by=home",)], id="a negative number"),
        pytest.param([(f"v=1 epoch={'9' * 200} target=lyon plan={PLAN} by=home",)], id="a huge number"),
        pytest.param([(f"v=1 epoch=\u0661 target=lyon plan={PLAN} by=home",)], id="digits of another script"),
        pytest.param([(f"v=1 epoch=1 target=lyon plan={PLAN} by=home\n",)], id="a newline after it"),
        pytest.param([(f"v=1 epoch=1 target=ly on plan={PLAN} by=home",)], id="a space in a name"),
        pytest.param([(f"v=1 epoch=1 target=lyon plan={PLAN.upper()} by=home",)], id="upper case"),
        pytest.param([(f"v=1 epoch=1 target=lyon plan={PLAN} by=home x=1",)], id="one field more"),
        pytest.param([(f"v=1  epoch=1 target=lyon plan={PLAN} by=home",)], id="two spaces"),
        pytest.param([("\xff\x00\x1b[2J",)], id="bytes"),
    ],
)
def test_nothing_else_is_read_as_a_fence(records: list[tuple[str, ...]]) -> None:
    """Anybody may write a TXT; only what mirrord writes, to the letter, may say that a move was ours."""
    assert parse_fence(frozenset(records)) is None


@given(st.text())
def test_any_controllers_name_makes_a_fence_that_is_read_again(name: str) -> None:
    """The controller's name is the machine's, whatever that is; it must not break the record."""
    fence = Fence(1, "lyon", PLAN, word(name))

    assert parse_fence(fence.records) == fence
    assert len(fence.text) <= 255


# -- what stands, held against the journal


@pytest.mark.parametrize(
    ("stands", "expected", "past", "judged", "says"),
    [
        pytest.param(zone(state("milan")), None, [], ZoneState.NEW, "answers milan's addresses", id="never moved"),
        pytest.param(
            zone(state("milan", 3)), None, [], ZoneState.FOREIGN, "knows nothing of it", id="empty journal, TXT there"
        ),
        pytest.param(
            altered(zone(state("milan")), "example.org", a=frozenset({"192.0.2.99"})),
            None,
            [],
            ZoneState.FOREIGN,
            "example.org answers 192.0.2.99",
            id="empty journal, other addresses",
        ),
        pytest.param(
            altered(zone(state("milan")), "example.org", aaaa=frozenset()),
            None,
            [],
            ZoneState.FOREIGN,
            "not exactly one mirror's",
            id="empty journal, half of the addresses",
        ),
        pytest.param(
            zone(Expected(dict.fromkeys(NAMES, Rrsets()))), None, [], ZoneState.FOREIGN, "answers nothing", id="empty"
        ),
        pytest.param(zone(state("lyon", 3)), state("lyon", 3), [], ZoneState.OURS, "epoch 3", id="as we left it"),
        pytest.param(
            zone(state("milan", 2, OTHER_PLAN)),
            state("lyon", 3),
            [state("milan"), state("milan", 2, OTHER_PLAN), state("lyon", 3)],
            ZoneState.REVERTED,
            "back to what we left at epoch 2",
            id="an older plan of ours",
        ),
        pytest.param(
            zone(state("milan")),
            state("lyon", 3),
            [state("milan"), state("lyon", 3)],
            ZoneState.REVERTED,
            "what stood there before us",
            id="before our first plan",
        ),
        pytest.param(
            altered(zone(state("milan", 2)), "example.org", a=frozenset({"192.0.2.99"})),
            state("lyon", 3),
            [state("milan", 2)],
            ZoneState.FOREIGN,
            "192.0.2.99",
            id="an older plan, but not exactly",
        ),
        pytest.param(
            zone(state("oslo", 4, OTHER_PLAN)),
            state("lyon", 3),
            [state("oslo", 4, OTHER_PLAN)],
            ZoneState.OURS,
            "took effect late",
            id="a plan that was given up",
        ),
        pytest.param(
            zone(state("oslo", 9, OTHER_PLAN)), state("lyon", 3), [], ZoneState.OURS, "by its TXT", id="not journalled"
        ),
        pytest.param(
            zone(state("oslo", 9, OTHER_PLAN, by="laptop")),
            state("lyon", 3),
            [],
            ZoneState.FOREIGN,
            "epoch 9 for oslo by laptop",
            id="another controller",
        ),
        pytest.param(
            zone(state("oslo", 2, OTHER_PLAN)),
            state("lyon", 3),
            [],
            ZoneState.FOREIGN,
            "epoch 2 for oslo",
            id="by us, but older and unknown",
        ),
        pytest.param(
            altered(zone(state("oslo", 9)), "www.example.org", a=frozenset({"198.51.100.20"}), aaaa=frozenset()),
            state("lyon", 3),
            [],
            ZoneState.FOREIGN,
            "where we left",
            id="by us and newer, but the addresses are not the target's",
        ),
        pytest.param(
            altered(zone(state("lyon", 3)), "www.example.org", a=frozenset({"192.0.2.99"})),
            state("lyon", 3),
            [],
            ZoneState.FOREIGN,
            "www.example.org: A is 192.0.2.99 where we left 198.51.100.20",
            id="a human changed A and left the TXT",
        ),
        pytest.param(
            altered(zone(state("lyon", 3)), "www.example.org", aaaa=frozenset({"2001:db8::1"})),
            state("lyon", 3),
            [],
            ZoneState.FOREIGN,
            "AAAA is 2001:db8::1 where we left nothing",
            id="a human added AAAA",
        ),
        pytest.param(
            altered(zone(state("lyon", 3)), "www.example.org", fence=frozenset()),
            state("lyon", 3),
            [],
            ZoneState.FOREIGN,
            "_mirrord.www.example.org: no TXT where we left epoch 3",
            id="a human dropped the TXT",
        ),
    ],
)
def test_the_zone_is_held_against_the_journal(
    stands: Zone, expected: Expected | None, past: list[Expected], judged: ZoneState, says: str
) -> None:
    """Only what we left may be moved by itself; anything else is somebody's, and a human must say so."""
    found = compare(stands, expected, MIRRORS, past=past, by="home")

    assert found.state is judged
    assert says in found.text
    assert (found.stands is not None) == (judged in (ZoneState.NEW, ZoneState.OURS))


def test_a_cname_makes_the_zone_foreign_whatever_the_journal_says() -> None:
    """At a CNAME name servers answer NOERROR to an update and leave the name as it was."""
    stands = zone(state("lyon", 3))
    aliased = replace(
        stands,
        names={**stands.names, "www.example.org": replace(stands.names["www.example.org"], cname="cdn.\x1b[2J.")},
    )

    found = compare(aliased, state("lyon", 3), MIRRORS)
    assert found.state is ZoneState.FOREIGN
    assert found.serving is None
    assert "www.example.org: a CNAME for 'cdn.\\x1b[2J.' stands there" in found.text


def test_a_name_that_became_a_cname_is_neither_before_nor_after_a_plan() -> None:
    """A fence that is an alias now shows no TXT: that must not pass for the absence that was expected."""
    stands = zone(state("milan"))
    change = plan(state("milan"), "lyon")
    aliased = replace(stands, names={name: replace(found, cname="t.") for name, found in stands.names.items()})

    assert (change.seen_in(stands), change.seen_in(aliased)) == (Seen.BEFORE, Seen.OTHER)


@pytest.mark.parametrize(
    ("stands", "seen"),
    [
        pytest.param(zone(plan(state("milan"), "lyon").to), Seen.APPLIED, id="all of it"),
        pytest.param(zone(state("milan")), Seen.BEFORE, id="none of it"),
        pytest.param(
            altered(zone(plan(state("milan"), "lyon").to), "example.org", a=frozenset({"192.0.2.99"})),
            Seen.ALTERED,
            id="its nonce, and another address",
        ),
        pytest.param(
            altered(zone(plan(state("milan"), "lyon").to), "example.org", fence=frozenset()),
            Seen.ALTERED,
            id="its nonce at one name of two",
        ),
        pytest.param(zone(state("lyon", 1, PLAN)), Seen.OTHER, id="its addresses, and another nonce"),
    ],
)
def test_what_stands_says_what_became_of_a_plan(stands: Zone, seen: Seen) -> None:
    """NOERROR proves nothing: what stands afterwards, exactly, is the result."""
    assert plan(state("milan"), "lyon").seen_in(stands) is seen


def test_a_hostile_txt_is_shown_harmlessly_and_short() -> None:
    """Whoever can write into the zone must not write to the operator's terminal."""
    hostile = frozenset({("\x1b[2J" + "A" * 250,)})
    stands = altered(zone(state("lyon", 3)), "www.example.org", fence=hostile)

    text = compare(stands, state("lyon", 3), MIRRORS).text
    assert text.isprintable()
    assert len(text) < 300


def test_a_name_added_to_the_configuration_joins_where_it_answers_the_same() -> None:
    """A service grows by a name: it is taken in by itself if it stands at the serving mirror, else by a human."""
    ours = state("lyon", 3, names=["www.example.org"])
    joined = zone(Expected({**ours.names, "example.org": rrsets("lyon")}))
    elsewhere = zone(Expected({**ours.names, "example.org": rrsets("milan")}))

    assert compare(joined, ours, MIRRORS).state is ZoneState.NEW
    assert compare(elsewhere, ours, MIRRORS).state is ZoneState.FOREIGN


def test_a_name_taken_out_of_the_configuration_is_no_longer_looked_at() -> None:
    """What the operator took out is the operator's; it is neither written nor held against us."""
    ours = state("lyon", 3)
    found = compare(zone(state("lyon", 3, names=["www.example.org"])), ours, MIRRORS)

    assert found.state is ZoneState.OURS
    assert found.stands is not None
    assert list(found.stands.names) == ["www.example.org"]


def test_what_we_left_at_addresses_that_are_no_mirrors_any_more_says_where_readers_go() -> None:
    """The mirror that serves got another address in the configuration, or was taken out of it."""
    ours = state("lyon", 4, names=NAMES[:1])

    found = compare(zone(ours), ours, {"milan": MIRRORS["milan"]})
    assert (found.state, found.serving) == (ZoneState.OURS, None)
    assert found.text == (
        "as we left it at epoch 4, but www.example.org answers 198.51.100.20: not exactly one mirror's addresses"
    )


def test_a_road_that_may_lag_is_named_beside_the_alarm() -> None:
    """A secondary that has not heard of our latest change looks like a zone that was reverted."""
    stands = zone(state("milan", 2, OTHER_PLAN), may_lag=True)

    found = compare(stands, state("lyon", 3), MIRRORS, past=[state("milan", 2, OTHER_PLAN)])
    assert found.state is ZoneState.REVERTED
    assert "read at 127.0.0.1:53, which may lag" in found.text


def test_a_mirror_without_one_of_its_addresses_still_serves() -> None:
    """A bad address is left out of a switch; the service is that mirror's all the same."""
    some = zone(Expected(dict.fromkeys(NAMES, Rrsets(a=frozenset({"203.0.113.31"})))))
    mixed = zone(Expected({NAMES[0]: rrsets("milan"), NAMES[1]: rrsets("lyon")}))

    assert served_by(some, MIRRORS) == "oslo"
    assert served_by(mixed, MIRRORS) is None


# -- what is planned


def test_a_plan_says_exactly_what_it_replaces_and_what_it_makes() -> None:
    """A plan is a value: printed, stored, replayed, and compared by the name server itself."""
    change = plan(state("milan", 4), "lyon")

    fence = Fence(5, "lyon", OTHER_PLAN, "home")
    assert change.from_ == state("milan", 4)
    assert change.to == Expected(dict.fromkeys(NAMES, Rrsets(a=frozenset({"198.51.100.20"}), fence=fence.records)), 5)
    assert (change.source, change.target, change.moves) == ("milan", "lyon", True)


def test_the_epoch_is_above_every_epoch_that_was_ever_planned() -> None:
    """A plan that was given up may still sit in a server's queue: its epoch is never used again."""
    assert plan(state("milan", 4), "lyon", epoch_above=11).epoch == 12
    assert plan(state("milan", 14), "lyon", epoch_above=11).epoch == 15


@pytest.mark.parametrize(
    ("bad", "a", "aaaa"),
    [
        pytest.param([], {"203.0.113.30", "203.0.113.31"}, {"2001:db8::30"}, id="all are good"),
        pytest.param(["203.0.113.30"], {"203.0.113.31"}, {"2001:db8::30"}, id="one of two"),
        pytest.param(["2001:0db8:0::30"], {"203.0.113.30", "203.0.113.31"}, set(), id="IPv6, spelt otherwise"),
        pytest.param(MIRRORS["oslo"], {"203.0.113.30", "203.0.113.31"}, set(), id="all are bad"),
        pytest.param(["192.0.2.10"], {"203.0.113.30", "203.0.113.31"}, {"2001:db8::30"}, id="another mirror's"),
    ],
)
def test_bad_addresses_are_left_out_but_never_all(bad: list[str], a: set[str], aaaa: set[str]) -> None:
    """One dead address of several is not offered to readers; a name without an address is worse than that."""
    change = plan(state("milan", 1), "oslo", leave_out=bad)

    assert {(r.a, r.aaaa) for r in change.to.names.values()} == {(frozenset(a), frozenset(aaaa))}


@pytest.mark.parametrize(
    ("addresses", "says"),
    [
        pytest.param([], "without an address", id="none"),
        pytest.param(["2001:db8::99"], "without an IPv4 address", id="only IPv6"),
    ],
)
def test_a_name_that_has_ipv4_is_never_left_without(addresses: list[str], says: str) -> None:
    """Rule: no name without an address, and A is never emptied; no override lifts it."""
    with pytest.raises(Braked, match=says) as caught:
        plan_change(
            "web", state("milan", 1), "new", {**MIRRORS, "new": addresses}, nonce=PLAN, by="home", ttl=60, was_ttl=60
        )

    assert caught.value.brake == "empty-answer"


def test_a_name_that_never_had_ipv4_may_stay_without() -> None:
    """A service on IPv6 alone moves from AAAA to AAAA."""
    six = {"one": ["2001:db8::1"], "two": ["2001:db8::2"]}
    stands = Expected({"www.example.org": Rrsets(aaaa=frozenset({"2001:db8::1"}))})

    change = plan_change("web", stands, "two", six, nonce=PLAN, by="home", ttl=60, was_ttl=60)
    assert change.to.names["www.example.org"].addresses == {"2001:db8::2"}


def test_only_a_configured_mirror_can_be_a_target() -> None:
    """Only addresses from the configuration are written; no override lifts it."""
    with pytest.raises(Braked, match="no configured mirror") as caught:
        plan(state("milan", 1), "nice\x1b[2J")

    assert caught.value.brake == "not-configured"
    assert str(caught.value).isprintable()


def test_giving_up_changes_the_fence_and_no_address() -> None:
    """The plan that ends another one requires the same state, so that only one of both can ever apply."""
    change = plan(state("milan", 4), "lyon")

    advance = plan_advance(change, nonce=PLAN, by="home")
    assert advance.from_ == change.from_
    assert not advance.moves
    assert advance.epoch == change.epoch + 1
    assert served_by(advance.to, MIRRORS) == "milan"
    assert change.seen_in(zone(advance.to)) is Seen.OTHER


def test_a_plan_is_stored_and_read_again_as_the_same_value() -> None:
    """The journal keeps open plans as JSON across restarts."""
    change = plan(state("milan", 4), "oslo", leave_out=["203.0.113.30"])

    assert Change.from_json(json.loads(json.dumps(change.to_json()))) == change


# -- properties

ADDRESSES = [*(a for addresses in MIRRORS.values() for a in addresses), "192.0.2.99", "2001:db8::99"]
FOURS, SIXES = families(ADDRESSES)
fences = st.one_of(
    st.builds(
        lambda epoch, target, nonce, by: Fence(epoch, target, nonce, by).records,
        st.integers(1, 50),
        st.sampled_from(sorted(MIRRORS)),
        st.sampled_from([PLAN, OTHER_PLAN]),
        st.sampled_from(["home", "laptop"]),
    ),
    st.frozensets(st.tuples(st.text(st.characters(max_codepoint=255), max_size=20)), max_size=2),
)
sets = st.builds(
    Rrsets, st.frozensets(st.sampled_from(sorted(FOURS))), st.frozensets(st.sampled_from(sorted(SIXES))), fences
)
zones = st.builds(
    lambda sets, aliases: Zone(
        {name: Found(r, alias, 300) for name, r, alias in zip(NAMES, sets, aliases, strict=True)}, 1, "127.0.0.1:53"
    ),
    st.tuples(sets, sets),
    st.tuples(st.none(), st.sampled_from([None, None, None, "elsewhere.example."])),
)


@given(zones, st.sampled_from(sorted(MIRRORS)), st.frozensets(st.sampled_from(ADDRESSES)))
def test_from_any_zone_a_plan_leaves_no_name_empty_and_writes_only_configured_addresses(
    stands: Zone, target: str, bad: frozenset[str]
) -> None:
    """Whatever stands, adopted or not, and whatever is held bad: the two rules that no override lifts."""
    change = plan(stands.stands, target, leave_out=bad)

    assert set(change.to.names) == set(NAMES)
    for name, made in change.to.names.items():
        assert made.addresses
        assert made.addresses <= frozenset().union(*families(MIRRORS[target]))
        assert made.a or not change.from_.names[name].a
    assert change.to.epoch > stands.stands.epoch


@given(zones, st.one_of(st.none(), zones), st.lists(zones, max_size=3))
def test_any_zone_has_a_state_and_a_sentence(stands: Zone, left: Zone | None, past: list[Zone]) -> None:
    """Nothing that stands in a zone may stop the judgement, and only what is ours or new may be replaced."""
    found = compare(
        stands, left.stands if left else None, MIRRORS, past=[earlier.stands for earlier in past], by="home"
    )

    assert found.text.isprintable()
    assert (found.stands is not None) == (found.state in (ZoneState.NEW, ZoneState.OURS))
    if found.stands is not None:
        assert all(stands.names[name].rrsets == r for name, r in found.stands.names.items())


@given(
    zones,
    st.lists(st.tuples(st.sampled_from(sorted(MIRRORS)), st.sampled_from(["apply", "human", "revert"])), max_size=8),
)
def test_any_order_of_moves_reverts_and_meddling_is_told_apart(stands: Zone, steps: list[tuple[str, str]]) -> None:
    """What we made is ours until somebody touches it; what stood earlier, exactly, is a revert; the rest is foreign."""
    assume(all(found.cname is None for found in stands.names.values()))
    expected, past = stands.stands, [stands.stands]
    epoch = 50
    for target, what in steps:
        change = plan(expected, target, epoch_above=epoch)
        epoch = change.epoch
        unique = Fence(epoch, target, f"{epoch:032x}", "home").records
        to = Expected({name: replace(r, fence=unique) for name, r in change.to.names.items()}, epoch)
        if what == "apply":
            past.append(to)
            expected = to
            assert compare(zone(expected), expected, MIRRORS, past=past, by="home").state is ZoneState.OURS
        elif what == "human":
            meddled = altered(zone(expected), NAMES[0], a=frozenset({"192.0.2.77"}))
            assert compare(meddled, expected, MIRRORS, past=past, by="home").state is ZoneState.FOREIGN
        elif len(past) > 1 and past[-2] != expected:
            assert compare(zone(past[-2]), expected, MIRRORS, past=past, by="home").state is ZoneState.REVERTED


# -- several mirrors that share readers


def answering(*mirrors: str, leave_out: Iterable[str] = (), fence: Fence | None = None) -> Expected:
    """Every name with the addresses of several mirrors."""
    a, aaaa = families(address for mirror in mirrors for address in MIRRORS[mirror] if address not in leave_out)
    return Expected(dict.fromkeys(NAMES, Rrsets(a, aaaa, fence.records if fence else frozenset())), 0)


@pytest.mark.parametrize(
    ("stands", "serving"),
    [
        pytest.param(answering("milan", "lyon"), "milan+lyon", id="two"),
        pytest.param(answering("milan", "lyon", "oslo"), "milan+lyon+oslo", id="all"),
        pytest.param(answering("lyon"), "lyon", id="one"),
        pytest.param(answering("milan", "oslo", leave_out=["203.0.113.31"]), "milan+oslo", id="one address left out"),
        pytest.param(
            Expected({NAMES[0]: Rrsets(frozenset({"192.0.2.10", "192.0.2.77"}))}), None, id="a stranger's too"
        ),
        pytest.param(Expected({NAMES[0]: rrsets("milan"), NAMES[1]: rrsets("lyon")}), None, id="not alike"),
    ],
)
def test_those_who_share_readers_are_known_by_their_addresses(stands: Expected, serving: str | None) -> None:
    """Whoever has an address in every name's answer serves, if nobody else's stands there."""
    assert served_by(stands, MIRRORS, shared=True) == serving


def test_a_plan_for_several_makes_the_union_of_their_addresses() -> None:
    """One update; the fence names them all."""
    change = plan_change(
        "web", state("milan", 3), "milan+oslo", MIRRORS, nonce=PLAN, by="home", ttl=60, was_ttl=60, shared=True
    )

    assert change.to.names == answering("milan", "oslo", fence=Fence(4, "milan+oslo", PLAN, "home")).names
    assert (change.source, change.target) == ("milan", "milan+oslo")
    assert compare(zone(change.to), change.to, MIRRORS, shared=True).serving == "milan+oslo"


def test_a_plan_for_several_names_only_configured_mirrors() -> None:
    """An address that is not configured is never written, however it is asked for."""
    for target, shared in (("milan+nowhere", True), ("milan+oslo", False), ("", True)):
        with pytest.raises(Braked) as caught:
            plan_change(
                "web", state("milan"), target, MIRRORS, nonce=PLAN, by="home", ttl=60, was_ttl=60, shared=shared
            )
        assert caught.value.brake == "not-configured"


def test_a_bad_address_of_one_is_left_out_where_others_stay() -> None:
    """What a fresh look found bad is not handed to readers."""
    change = plan_change(
        "web", state("milan"), "milan+oslo", MIRRORS, nonce=PLAN, by="home", ttl=60, was_ttl=60, shared=True,
        leave_out=["203.0.113.31"],
    )  # fmt: skip

    assert change.to.names[NAMES[0]].a == {"192.0.2.10", "203.0.113.30"}


def test_a_zone_that_answers_several_mirrors_is_new_where_they_may_share() -> None:
    """It is adopted by itself then, as one mirror's is elsewhere; otherwise a person looks."""
    stands = zone(answering("milan", "lyon"))

    assert compare(stands, None, MIRRORS, shared=True).state is ZoneState.NEW
    assert compare(stands, None, MIRRORS).state is ZoneState.FOREIGN


def test_a_fence_of_many_mirrors_is_still_one_that_is_read_again() -> None:
    """Fifty names do not fit into a word: the fence has as much of them as fits."""
    many = {f"mirror-{number}": (f"192.0.2.{number}",) for number in range(50)}
    target = "+".join(many)
    stands = Expected(dict.fromkeys(NAMES, Rrsets(frozenset({"192.0.2.1"}))), 0)

    change = plan_change("web", stands, target, many, nonce=PLAN, by="home", ttl=60, was_ttl=60, shared=True)
    fence = parse_fence(change.to.names[NAMES[0]].fence)
    assert fence is not None
    assert target.startswith(fence.target)
    assert served_by(change.to, many, shared=True) == target
