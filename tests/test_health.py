"""Judging: from looks to verdicts, content classes and what can be acted on."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from mirrord.health import ContentClass, FaultKind, Reference, Standing, Target, Thresholds, Verdict
from tests.watching import GONE, OTHER_V4, V4, V6, WELL, Sight, Watch, sight
from tests.world import DAY, HOUR, SERVICE, Mirror, World, card, references

UP, DOWN, UNKNOWN = Verdict.UP, Verdict.DOWN, Verdict.UNKNOWN
NOT_OUR_DOING = [kind for kind in FaultKind if kind not in (FaultKind.REFUSED_US, FaultKind.STALE, FaultKind.NETWORK)]

# -- what goes on as it was


def test_a_mirror_that_goes_on_as_it_was_is_judged_as_if_everything_were_looked_into_again() -> None:
    """
    A mirror whose addresses say what they said before is not put together anew, for most rounds bring nothing new.
    Through many outages of every kind that must never tell.
    """
    dice = random.Random(7)
    world = World(
        names=("milan", "lyon"),
        mirrors={
            "milan": Mirror("milan", "dc-milan", (V4, V6, "192.0.2.7")),
            "lyon": Mirror("lyon", "dc-lyon", (OTHER_V4, "192.0.2.8")),
        },
        promises=None,
        thresholds=Thresholds(max_lag=600.0, refused_for=120.0),
    )

    for _ in range(1500):
        _something_happens(world, dice)
        before = world.standing
        world.run(rounds=1)
        assert world.latest is not None
        anew = replace(before, latest=None).after(world.latest, world.thresholds)
        assert world.standing.healths == anew.healths


def test_a_mirror_that_a_round_left_out_was_not_judged_by_it() -> None:
    """A look that was given up tells nothing: what was held true before must not pass for what was just seen."""
    lyon = sight(mirror="lyon", address=OTHER_V4)
    watch = Watch().see(WELL, lyon, times=3)
    told = [watch.health("lyon").judged]

    for seen in ([WELL], [WELL], [WELL, lyon]):
        watch.see(*seen)
        told.append(watch.health("lyon").judged)
    assert told == [True, False, False, True]


def _something_happens(world: World, dice: random.Random) -> None:
    """In one round of three something changes at a mirror, or for us."""
    mirror = world.mirrors[dice.choice(world.names)]
    address = dice.choice(mirror.addresses)
    match dice.randrange(36):
        case 0:
            mirror.alive = not mirror.alive
        case 1 | 2:
            mirror.dark ^= {address}
        case 3:
            mirror.tls = not mirror.tls
        case 4:
            mirror.signed = not mirror.signed
        case 5:
            mirror.altered ^= {world.files[0]}
        case 6:
            mirror.refuses_us_since = None if mirror.refuses_us_since is not None else world.now
        case 7:
            mirror.serial += 1
        case 8:
            mirror.certificate_until = world.wall + dice.choice((-1, 5, 50)) * DAY
        case 9:
            world.reachable[dice.choice((4, 6))] ^= True
        case 10 | 11:
            world.heal(mirror.name, serial=max(each.serial for each in world.mirrors.values()))


# -- fall and rise


@pytest.mark.parametrize(
    ("looks", "verdict"),
    [
        pytest.param("", UNKNOWN, id="never looked at"),
        pytest.param("+", UNKNOWN, id="one good look proves nothing"),
        pytest.param("++", UP, id="two good ones make it up"),
        pytest.param("++--", UP, id="two bad ones do not make it down"),
        pytest.param("++---", DOWN, id="three do"),
        pytest.param("---", DOWN, id="three bad ones at the start do"),
        pytest.param("++--+-", UP, id="a good one in between starts the count again"),
        pytest.param("---+", DOWN, id="one good one does not bring it back"),
        pytest.param("---++", UP, id="two do"),
        pytest.param("---+-+", DOWN, id="two good ones must come in a row"),
        pytest.param("++++--+--+--", DOWN, id="six of the last ten are down"),
        pytest.param("++--------++-", UP, id="one bad look after a long outage"),
        pytest.param("++--------++--+--+--", DOWN, id="six of the last few since it was well again"),
        pytest.param("++++--+--+-", UP, id="five of the last ten are not"),
        pytest.param("++--+--++++++--", UP, id="bad ones older than ten looks are forgotten"),
    ],
)
def test_verdicts_fall_and_rise(looks: str, verdict: Verdict) -> None:
    """One failed look says little: it takes `fall` in a row, or 6 of the last 10; and `rise` good ones to return."""
    watch = Watch()

    for look in looks:
        watch.see(WELL if look == "+" else GONE)

    assert watch.verdict is verdict


def test_a_longer_fall_is_not_cut_short_by_six_of_ten() -> None:
    """Who asks for eight bad looks in a row gets eight: the rule for flapping mirrors grows with it."""
    watch = Watch(Thresholds(fall=8)).see(WELL, times=4)

    watch.see(GONE, times=7)
    assert watch.verdict is UP

    watch.see(GONE)
    assert watch.verdict is DOWN


@pytest.mark.parametrize("kind", NOT_OUR_DOING, ids=lambda kind: kind.value)
def test_whatever_readers_would_meet_makes_a_mirror_down(kind: FaultKind) -> None:
    """A status proves nothing: redirects, TLS, slowness and content count as much as silence; the cause is named."""
    watch = Watch().see(WELL, times=2).see(sight(kind, text="does something odd"), times=3)

    health = watch.health()
    assert (health.verdict, health.cause and health.cause.kind, health.cause and health.cause.text) == (
        DOWN,
        kind,
        "does something odd",
    )


def test_a_failed_look_does_not_change_what_is_known_of_the_content() -> None:
    """While a mirror is not judged down, it is of the class last seen; then its content is anybody's guess."""
    watch = Watch().see(WELL, times=2).see(GONE, times=2)
    assert (watch.verdict, watch.health().content) == (UP, ContentClass.CURRENT)

    watch.see(GONE)
    assert (watch.verdict, watch.health().content) == (DOWN, None)


def test_a_verdict_knows_since_when_and_from_what_it_was_made() -> None:
    """A person who doubts a verdict sees when it began and the looks it rests on."""
    watch = Watch().see(WELL, times=2)
    fell = watch.now + 2 * 30 + 0.5
    watch.see(GONE, times=5)

    health = watch.health()
    assert health.since == fell
    assert [look.started for look in health.behind] == [1060.0, 1090.0, 1120.0]


def test_a_missing_marker_is_a_bad_look_at_a_mirror_whose_content_is_not_ours() -> None:
    """A CMS is judged by reachability, TLS, status and its markers."""
    watch = Watch().see(sight(markers=True), times=2)
    assert (watch.verdict, watch.health().content) == (UP, ContentClass.UNVERIFIED)

    watch.see(sight(FaultKind.MARKER, markers=True), times=3)
    assert watch.verdict is DOWN


def test_a_look_without_a_signed_card_is_bad_unless_the_content_is_not_ours() -> None:
    """Should a probe find no fault and no card, nothing was proven: only a markers mirror may be so."""
    watch = Watch().see(sight(serial=None), times=3)

    assert (watch.verdict, watch.health().content) == (DOWN, ContentClass.BAD)


# -- content classes


@pytest.mark.parametrize(
    ("serial", "hours", "content", "verdict"),
    [
        pytest.param(7, 0.0, ContentClass.CURRENT, UP, id="the wanted one"),
        pytest.param(8, 0.0, ContentClass.CURRENT, UP, id="a newer one than anybody was seen to serve"),
        pytest.param(6, 0.0, ContentClass.BEHIND, UP, id="a little behind"),
        pytest.param(6, 23.9, ContentClass.BEHIND, UP, id="behind for almost a day"),
        pytest.param(6, 24.1, ContentClass.STALE, DOWN, id="behind for more than a day"),
        pytest.param(1, 24.1, ContentClass.STALE, DOWN, id="far behind"),
    ],
)
def test_content_is_classed_against_what_was_seen_served(
    serial: int, hours: float, content: ContentClass, verdict: Verdict
) -> None:
    """A mirror that is a little behind is up, one that is long outdated is down, however well it answers."""
    lyon = sight(mirror="lyon", address=OTHER_V4, serial=7)
    watch = Watch().see(sight(serial=min(serial, 6)), lyon, times=2)
    watch.sleep(hours * HOUR)

    watch.see(sight(serial=serial), lyon, times=4)
    assert (watch.health().content, watch.verdict) == (content, verdict)


def test_a_snapshot_that_reached_nobody_condemns_nobody() -> None:
    """Only what a mirror was seen to serve is wanted: a taken snapshot that could not be published changes nothing."""
    watch = Watch().see(sight(serial=3), sight(mirror="lyon", address=OTHER_V4, serial=3), times=3)
    watch.sleep(3 * DAY).see(sight(serial=3), sight(mirror="lyon", address=OTHER_V4, serial=3), times=3)

    wanted = watch.standing.wanted
    assert wanted is not None
    assert (wanted.serial, watch.health().content, watch.verdict) == (3, ContentClass.CURRENT, UP)


@pytest.mark.parametrize(
    "where",
    [
        pytest.param(sight(FaultKind.CONTENT, mirror="lyon", address=OTHER_V4, serial=9), id="not validly signed"),
        pytest.param(sight(mirror="lyon", address=OTHER_V4, serial=9, wrong=[b"a.html"]), id="with wrong files"),
    ],
)
def test_content_that_is_not_right_is_not_wanted(where: Sight) -> None:
    """A mirror that serves a newer card without what it promises makes nobody else outdated."""
    watch = Watch().see(sight(serial=3), where, times=3)

    wanted = watch.standing.wanted
    assert wanted is not None
    assert wanted.serial == 3


def test_content_is_wanted_whatever_a_certificates_dates_say() -> None:
    """A signature does not grow wrong with a certificate."""
    watch = Watch().see(sight(serial=3), sight(FaultKind.CLOCK, mirror="lyon", address=OTHER_V4, serial=9))

    assert watch.standing.wanted is not None
    assert watch.standing.wanted.serial == 9


def test_lag_runs_on_our_clock_from_the_moment_that_something_newer_was_seen() -> None:
    """
    Dates in a card prove nothing, and a mirror that is stuck must not be excused by each newer snapshot: its
    lag runs from the first one that it missed.
    """
    watch = Watch().see(sight(serial=1), sight(mirror="lyon", address=OTHER_V4, serial=2))
    for serial in range(3, 28):
        watch.see(sight(serial=1), sight(mirror="lyon", address=OTHER_V4, serial=serial), every=HOUR)
    assert watch.health().content is ContentClass.STALE

    watch.see(sight(serial=26), sight(mirror="lyon", address=OTHER_V4, serial=27))
    assert watch.health().content is ContentClass.BEHIND


def test_what_tells_nothing_any_more_is_forgotten() -> None:
    """A year of snapshots every quarter of an hour must not pile up; who is outdated is known all the same."""
    watch = Watch()
    for serial in range(1, 400):
        watch.see(sight(serial=serial), sight(mirror="lyon", address=OTHER_V4, serial=1), every=900.0)

    assert len(watch.standing.lineage) <= 24 * 4 + 2
    assert watch.health("lyon").content is ContentClass.STALE


def test_the_primary_may_die_when_only_it_had_the_newest_snapshot() -> None:
    """Nobody else could have it: the others are behind, and up."""
    lyon = sight(mirror="lyon", address=OTHER_V4, serial=4)
    watch = Watch().see(sight(serial=5), lyon, times=3).see(GONE, lyon, times=3)

    assert watch.verdict is DOWN
    assert (watch.health("lyon").verdict, watch.health("lyon").content) == (UP, ContentClass.BEHIND)


def test_what_is_wanted_outlives_a_restart_and_its_age_goes_on() -> None:
    """A controller that is restarted every day would otherwise never find anybody outdated."""
    lyon = sight(mirror="lyon", address=OTHER_V4, serial=5)
    before = Watch().see(sight(serial=4), lyon, times=2).sleep(20 * HOUR)
    kept = json.loads(json.dumps(before.standing.remember(before.now, before.wall)))

    after = Watch(standing=Standing.recall(kept, 50.0, before.wall + 5 * HOUR), now=50.0, wall=before.wall + 5 * HOUR)
    assert after.standing.health("milan", SERVICE).verdict is UNKNOWN
    after.see(sight(serial=4), lyon, times=3)
    assert (after.health().content, after.verdict) == (ContentClass.STALE, DOWN)


def test_a_wall_clock_that_was_set_back_makes_nothing_younger_than_it_was() -> None:
    """Ages across a restart are by the wall clock, and never shrink."""
    before = Watch().see(sight(serial=4), times=2).sleep(2 * HOUR)
    kept = before.standing.remember(before.now, before.wall)

    after = Standing.recall(kept, 50.0, before.wall - 30 * DAY)
    assert after.wanted is not None
    assert 50.0 - after.wanted.since == pytest.approx(2 * HOUR, abs=120)


def test_a_mirror_that_is_back_with_old_content_is_merely_outdated_only_after_a_while() -> None:
    """
    Outdated content may be all that is left for readers; whoever serves it must have been seen to be there again
    as often as anybody else.
    """
    lyon = sight(mirror="lyon", address=OTHER_V4, serial=2)
    watch = Watch().see(WELL, lyon).sleep(25 * HOUR).see(GONE, lyon, times=3)

    watch.see(WELL, lyon)
    first = watch.health()
    watch.see(WELL, lyon)
    second = watch.health()
    assert (first.verdict, first.cause and first.cause.kind) == (DOWN, FaultKind.UNREACHABLE)
    assert first.outdated
    assert (second.verdict, second.cause and second.cause.kind) == (DOWN, FaultKind.STALE)


# -- single files


def test_one_wrong_look_at_a_file_makes_nobody_bad() -> None:
    """A page that was cut short once is asked for again, no more."""
    watch = Watch().see(WELL, times=2).see(sight(wrong=[b"a.html"]))

    assert watch.verdict is UP
    assert watch.standing.suspects("milan", SERVICE) == {b"a.html"}


def test_a_file_that_stays_wrong_convicts_its_mirror() -> None:
    """Asked again in every round, one altered page among thousands that are right makes the mirror bad."""
    watch = Watch().see(WELL, times=2).see(sight(right=[b"b.html", b"c.html"], wrong=[b"a.html"]), times=3)

    health = watch.health()
    assert (health.verdict, health.content) == (DOWN, ContentClass.BAD)
    assert health.cause is not None
    assert health.cause.text == "/a.html has other bytes"


@pytest.mark.parametrize(
    ("looks", "suspected"),
    [
        pytest.param("-", True, id="wrong"),
        pytest.param("-+", True, id="right once"),
        pytest.param("-++", False, id="right twice"),
        pytest.param("-+-+", True, id="right, but not in a row"),
        pytest.param("-.+", True, id="not asked for in between"),
        pytest.param("-.++", False, id="right twice, whatever was between"),
        pytest.param("---+", True, id="convicted, right once"),
        pytest.param("---++", False, id="convicted, right twice"),
    ],
)
def test_a_suspect_is_asked_for_until_it_was_right_often_enough(looks: str, suspected: bool) -> None:
    """A server that alternates between right and wrong must not be acquitted by one lucky look."""
    watch = Watch().see(WELL, times=2)
    sights = {"-": sight(wrong=[b"a.html"]), "+": sight(right=[b"a.html"]), ".": sight(right=[b"b.html"])}

    for look in looks:
        watch.see(sights[look])
    assert (b"a.html" in watch.standing.suspects("milan", SERVICE)) is suspected


def test_a_mirror_is_up_again_when_the_altered_page_is_right_again() -> None:
    """The conviction ends with the suspicion."""
    watch = Watch().see(WELL, times=2).see(sight(wrong=[b"a.html"]), times=4)

    watch.see(sight(right=[b"a.html"]))
    assert watch.verdict is DOWN

    watch.see(sight(right=[b"a.html"]))
    assert (watch.verdict, watch.health().content) == (UP, ContentClass.CURRENT)


def test_other_files_that_are_wrong_each_once_convict_nobody_but_help_nobody_up() -> None:
    """Content failures are counted per file; a look with a wrong file is no good look either."""
    watch = Watch()
    for number in range(6):
        watch.see(sight(right=[b"x"], wrong=[f"{number}.html".encode()]))

    assert watch.verdict is UNKNOWN
    assert watch.health().well_since is None


def test_a_file_that_is_wrong_under_one_name_is_wrong() -> None:
    """The other name's readers being served well acquits nobody."""
    both = [sight(right=[b"a.html"]), sight(name="example.test", wrong=[b"a.html"])]
    watch = Watch().see(WELL, times=2).see(*both, times=3)

    assert (watch.verdict, watch.health().content) == (DOWN, ContentClass.BAD)


def test_a_suspect_that_is_no_longer_published_is_let_go() -> None:
    """What the manifest no longer names cannot be asked for, and must not be suspected for ever."""
    watch = Watch().see(WELL, times=2).see(sight(wrong=[b"a.html"]), times=3)

    watch.see(sight(dropped=[b"a.html"]))
    assert watch.standing.suspects("milan", SERVICE) == frozenset()
    assert watch.verdict is UP


def test_files_are_counted_by_address() -> None:
    """Two servers behind one name may differ: the one that is altered is degraded, the other keeps readers."""
    bad = sight(address=OTHER_V4, wrong=[b"a.html"])
    watch = Watch().see(WELL, bad, times=4)

    assert watch.verdict is UP
    assert list(watch.health().degraded) == [OTHER_V4]
    assert watch.health().good == (V4,)


# -- settling


def test_files_of_either_snapshot_are_right_just_after_a_publish_of_ours() -> None:
    """A reader may meet old and new files while we switch: that is settling, and up."""
    watch = Watch().see(WELL, times=2)
    watch.published = {"milan": watch.now}
    watch.see(sight(serial=2, right=[b"b"], settling=[b"a"]), times=3)

    assert (watch.verdict, watch.health().content) == (UP, ContentClass.SETTLING)
    assert watch.standing.suspects("milan", SERVICE) == frozenset()


def test_what_settles_on_an_older_snapshot_is_behind() -> None:
    """Of two mirrors that we are publishing to, the one that is given the newer snapshot is the better."""
    watch = Watch().see(WELL, times=2)
    watch.published = {"milan": watch.now, "lyon": watch.now}
    lyon = sight(mirror="lyon", address=OTHER_V4, serial=3, settling=[b"a"])

    watch.see(sight(serial=2, settling=[b"a"]), lyon, times=2)
    assert (watch.verdict, watch.health().content) == (UP, ContentClass.BEHIND)
    assert watch.health("lyon").content is ContentClass.SETTLING


def test_files_of_another_snapshot_are_wrong_once_things_should_have_settled() -> None:
    """Old and new are both right for `settle_content` only; a mixture that stays is bad."""
    watch = Watch().see(WELL, times=2)
    watch.published = {"milan": watch.now}
    watch.sleep(125)

    watch.see(sight(serial=2, right=[b"b"], settling=[b"a"]), times=3)
    assert (watch.verdict, watch.health().content) == (DOWN, ContentClass.BAD)


def test_a_card_that_does_not_fit_is_not_held_against_a_mirror_that_we_just_switched() -> None:
    """A switch of `current` in mid-look may show a card and a manifest of two releases."""
    watch = Watch().see(WELL, times=2)
    watch.published = {"milan": watch.now}

    watch.see(sight(FaultKind.CONTENT), times=4)
    assert (watch.verdict, watch.health().content) == (UP, ContentClass.SETTLING)

    watch.sleep(30).see(sight(FaultKind.CONTENT), times=3)
    assert watch.verdict is DOWN


def test_a_publish_excuses_only_content_and_only_the_mirror_published_to() -> None:
    """A mirror that dies while we publish to another, or to it, is down all the same."""
    watch = Watch().see(WELL, times=2)
    watch.published = {"lyon": watch.now}
    watch.see(sight(FaultKind.CONTENT), times=3)
    assert watch.verdict is DOWN

    watch.published = {"milan": watch.now}
    watch.see(WELL, times=2).see(GONE, times=3)
    assert watch.verdict is DOWN


def test_an_altered_file_is_wrong_even_while_things_settle() -> None:
    """Settling allows two manifests, not any content."""
    watch = Watch().see(WELL, times=2)
    watch.published = {"milan": watch.now}

    watch.see(sight(serial=2, wrong=[b"a"]), times=3)
    assert (watch.verdict, watch.health().content) == (DOWN, ContentClass.BAD)


# -- addresses and names


@pytest.mark.parametrize(
    ("dead", "verdict", "degraded"),
    [
        pytest.param([V4], UP, [V4], id="one of two IPv4"),
        pytest.param([V6], UP, [V6], id="IPv6"),
        pytest.param([V4, OTHER_V4], DOWN, [], id="all IPv4"),
        pytest.param([V4, OTHER_V4, V6], DOWN, [], id="all"),
    ],
)
def test_a_mirror_is_down_when_all_its_ipv4_addresses_are(
    dead: list[str], verdict: Verdict, degraded: list[str]
) -> None:
    """One bad address among several moves nobody: a switch leaves it out. IPv4 counts, for all readers have it."""
    every = [V4, OTHER_V4, V6]
    watch = Watch().see(*(sight(address=a) for a in every), times=2)

    watch.see(*(sight(FaultKind.UNREACHABLE if a in dead else None, address=a) for a in every), times=3)
    assert (watch.verdict, list(watch.health().degraded)) == (verdict, degraded)
    assert watch.health().good == tuple(a for a in every if a not in dead)


def test_a_mirror_without_ipv4_is_judged_by_ipv6() -> None:
    """Where there is no IPv4 address, the others count."""
    watch = Watch().see(sight(address=V6), times=2)
    assert watch.verdict is UP

    watch.see(sight(FaultKind.UNREACHABLE, address=V6), times=3)
    assert watch.verdict is DOWN


def test_an_address_that_refuses_us_keeps_a_mirror_from_being_down() -> None:
    """Unknown is not down: the other address may serve readers well."""
    watch = Watch().see(WELL, sight(address=OTHER_V4), times=2)

    watch.see(GONE, sight(FaultKind.REFUSED_US, address=OTHER_V4), times=4)
    assert watch.verdict is UNKNOWN


def test_a_fault_under_any_name_is_the_addresss_fault() -> None:
    """A certificate that lacks one of the service's names fails the readers of that name."""
    watch = Watch().see(WELL, sight(FaultKind.TLS, name="example.test", text="is not in the certificate"), times=3)

    health = watch.health()
    assert health.verdict is DOWN
    assert health.cause is not None
    assert health.cause.text == "example.test: is not in the certificate"


def test_addresses_with_different_faults_are_named_each() -> None:
    """The cause says which address has which trouble; the mildest kind is the mirror's, for that much still works."""
    old = sight(address=OTHER_V4, serial=1)
    lyon = sight(mirror="lyon", address="192.0.2.9", serial=2)
    watch = Watch().see(GONE, old, lyon, times=2).sleep(25 * HOUR).see(GONE, old, lyon, times=3)

    health = watch.health()
    assert health.cause is not None
    assert (health.verdict, health.cause.kind, health.content) == (DOWN, FaultKind.STALE, ContentClass.STALE)
    assert health.good == (OTHER_V4,)


# -- our own network


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        pytest.param(references(), references(), DOWN, id="references answer"),
        pytest.param(references(v4=False), references(v4=False), UNKNOWN, id="none answers"),
        pytest.param(references(), references(v4=False), UNKNOWN, id="gone during the round"),
        pytest.param(references(v4=False), references(), UNKNOWN, id="back during the round"),
        pytest.param(references(v6=False), references(v6=False), DOWN, id="the other family is gone"),
        pytest.param(references(v4=None), references(v4=None), UNKNOWN, id="none configured for the family"),
        pytest.param(
            references() + references(v4=False), references(v4=False) + references(), DOWN, id="one is enough"
        ),
    ],
)
def test_failures_are_void_where_no_reference_answers_before_and_after(
    before: tuple[Reference, ...], after: tuple[Reference, ...], verdict: Verdict
) -> None:
    """Unknown is not down: who cannot reach the world cannot tell that a mirror is gone from it."""
    watch = Watch().see(WELL, times=2)

    watch.see(GONE, times=5, before=before, after=after)
    assert watch.verdict is verdict


def test_without_references_everything_counts_if_the_operator_said_so() -> None:
    """`references = []` is an explicit opt-out."""
    watch = Watch(Thresholds(references=False))

    watch.see(GONE, times=3, before=(), after=())
    assert watch.verdict is DOWN
    assert watch.standing.unjudged == {}


def test_a_family_without_references_says_so() -> None:
    """It is the configuration that lacks something then, not the network."""
    watch = Watch().see(WELL, before=references(v6=None), after=references(v6=None))

    assert watch.standing.unjudged == {6: "no reference over IPv6 is configured"}


def test_a_lost_family_is_named_and_the_other_is_judged() -> None:
    """IPv6 gone at home must neither condemn a mirror nor hide one that is dead on IPv4."""
    dead_v6 = sight(FaultKind.UNREACHABLE, address=V6)
    gone = references(v6=False)
    watch = Watch().see(WELL, sight(address=V6), times=2).see(WELL, dead_v6, times=5, before=gone, after=gone)

    assert watch.verdict is UP
    assert watch.health().degraded == {}
    assert watch.health().good == (V4, V6)
    assert "IPv6" in watch.standing.unjudged[6]


def test_counting_starts_anew_when_our_network_is_back() -> None:
    """What was counted before the doubt is not added to what comes after it, and up is not taken for granted either."""
    watch = Watch().see(WELL, times=5).see(GONE, times=2)
    watch.see(GONE, after=references(v4=False))
    assert watch.verdict is UNKNOWN

    watch.see(GONE, times=2)
    assert watch.verdict is UNKNOWN

    watch.see(GONE)
    assert watch.verdict is DOWN


def test_a_verdict_without_network_says_so() -> None:
    """A person at the status screen sees that it is our own network that is in doubt."""
    watch = Watch().see(WELL, times=2).see(GONE, before=references(v4=False))

    cause = watch.health().cause
    assert cause is not None
    assert cause.kind is FaultKind.NETWORK
    assert "our own network" in cause.text


# -- refused to us


def test_refused_to_us_is_unknown_and_in_the_end_down() -> None:
    """429 says nothing of other readers, until it has lasted for `refused_for`."""
    watch = Watch().see(WELL, times=2)
    refused = sight(FaultKind.REFUSED_US, text="refuses us (429)")

    watch.see(refused)
    assert watch.verdict is UNKNOWN
    watch.see(refused, times=9)
    assert watch.verdict is UNKNOWN

    watch.see(refused)
    assert watch.verdict is DOWN
    assert watch.health().cause is not None
    assert "refuses us (429), for 5 min" in str(watch.health().cause)

    watch.see(WELL, times=2)
    assert watch.verdict is UP


def test_a_few_refusals_are_not_enough_however_far_apart() -> None:
    """With a slow rhythm two of them span `refused_for`; `fall` looks are the least for any verdict."""
    watch = Watch(Thresholds(every=400.0)).see(WELL, times=2, every=400.0)

    watch.see(sight(FaultKind.REFUSED_US), times=2, every=400.0)
    assert watch.verdict is UNKNOWN
    watch.see(sight(FaultKind.REFUSED_US))
    assert watch.verdict is DOWN


def test_refusals_with_answers_in_between_do_not_add_up() -> None:
    """A host that limits our rate now and then serves its readers."""
    watch = Watch().see(WELL, times=2)

    for _ in range(20):
        watch.see(sight(FaultKind.REFUSED_US), times=2).see(WELL)
    assert watch.verdict is UNKNOWN


# -- gaps


@pytest.mark.parametrize(
    ("monotonic", "wall", "verdict"),
    [
        pytest.param(60, 60, UP, id="a slow round"),
        pytest.param(120, 120, UNKNOWN, id="we were stopped"),
        pytest.param(1, 3600, UNKNOWN, id="suspended: the monotonic clock stood still"),
        pytest.param(1, -3600, UP, id="the wall clock was set back"),
        pytest.param(120, -3600, UNKNOWN, id="we were stopped, and the wall clock was set back"),
    ],
)
def test_verdicts_start_anew_after_a_gap(monotonic: float, wall: float, verdict: Verdict) -> None:
    """What was true an hour ago is not known to be true now; streaks start at zero."""
    watch = Watch().see(WELL, times=5)
    watch.now += monotonic
    watch.wall += wall

    watch.see(WELL)
    assert watch.verdict is verdict


def test_bad_looks_before_and_after_a_gap_do_not_add_up() -> None:
    """Two before the machine slept and one after it are not three in a row."""
    watch = Watch().see(WELL, times=2).see(GONE, times=2)
    watch.wall += HOUR

    watch.see(GONE, times=2)
    assert watch.verdict is UNKNOWN
    watch.see(GONE)
    assert watch.verdict is DOWN


def test_a_round_in_the_middle_of_which_we_slept_proves_nothing() -> None:
    """Connections that were cut by our own sleep are no failures of the mirrors."""
    watch = Watch().see(WELL, times=2).see(GONE, times=2)

    standing = watch.standing.after(watch.round(GONE, asleep=HOUR), watch.thresholds)
    assert standing.health("milan", SERVICE).verdict is UNKNOWN


def test_a_mirror_that_is_no_longer_looked_at_is_unknown_in_the_end() -> None:
    """A probe that hangs must not leave an old verdict standing."""
    lyon = sight(mirror="lyon", address=OTHER_V4)
    watch = Watch().see(WELL, lyon, times=2)

    watch.see(lyon, times=3)
    assert watch.verdict is UP
    watch.see(lyon)
    assert watch.verdict is UNKNOWN
    assert watch.health("lyon").verdict is UP


def test_suspects_are_still_asked_for_after_a_gap() -> None:
    """An altered page is not forgotten because the machine slept; its count starts anew."""
    watch = Watch().see(WELL, times=2).see(sight(wrong=[b"a.html"]), times=2)
    watch.wall += HOUR

    watch.see(sight(right=[b"b.html"]))
    assert watch.standing.suspects("milan", SERVICE) == {b"a.html"}
    watch.see(sight(wrong=[b"a.html"]), times=2)
    assert watch.verdict is UNKNOWN
    watch.see(sight(wrong=[b"a.html"]))
    assert watch.verdict is DOWN


# -- clocks


def fleet(*ahead: float | None, fault: FaultKind | None = None) -> list[Sight]:
    """Mirrors whose clocks are so far ahead of ours; None is one that cannot be reached."""
    return [
        sight(FaultKind.UNREACHABLE if a is None else fault, mirror=name, address=f"192.0.2.{n}", ahead=a)
        for n, (name, a) in enumerate(zip(("milan", "lyon", "oslo", "bonn"), ahead, strict=False), 1)
    ]


@pytest.mark.parametrize(
    ("ahead", "trouble"),
    [
        pytest.param([0.0, 0.0, 0.0], None, id="all agree"),
        pytest.param([200.0, 250.0, 290.0], None, id="a little off"),
        pytest.param([600.0, 600.0, 600.0], "our clock is 10 min slow, by the mirrors'", id="ours is slow"),
        pytest.param([-DAY, -DAY, -DAY], "our clock is 24 h fast, by the mirrors'", id="ours is a day fast"),
        pytest.param([0.0, 0.0, 9000.0], None, id="one mirror's is wrong"),
        pytest.param([0.0, 9000.0], None, id="one of two is ahead"),
        pytest.param([0.0, -9000.0], None, id="one of two is behind"),
        pytest.param([9000.0, 9000.0, 0.0], "our clock is 2.5 h slow, by the mirrors'", id="most say so"),
        pytest.param([None, None], None, id="nobody says"),
    ],
)
def test_our_clock_is_held_against_the_mirrors(ahead: list[float | None], trouble: str | None) -> None:
    """With a clock more than 5 minutes off, certificates cannot be judged: say by how much, and let nothing move."""
    watch = Watch().see(*fleet(*ahead))

    assert watch.standing.clock == trouble


def test_a_dead_mirrors_clock_still_bears_witness() -> None:
    """When the primary dies, one mirror that is left with a wrong clock must not keep readers from it."""
    watch = Watch().see(*fleet(0.0, 9000.0))
    watch.see(*fleet(None, 9000.0), times=3)

    assert watch.standing.clock is None


def test_what_clocks_said_before_a_gap_is_forgotten() -> None:
    """After a sleep our monotonic clock stands in another relation to everybody's wall clock."""
    watch = Watch().see(*fleet(0.0, 0.0, 0.0))
    watch.wall += HOUR

    watch.see(*fleet(None, None, 0.0))
    assert watch.standing.clock is None


def test_dates_of_certificates_prove_nothing_while_our_clock_is_wrong() -> None:
    """A day ahead, our clock makes every certificate look expired that has a day to live."""
    watch = Watch().see(*fleet(0.0, 0.0), times=2)

    watch.see(*fleet(-DAY, -DAY, fault=FaultKind.CLOCK), times=4)
    assert (watch.verdict, watch.health().content) == (UP, ContentClass.CURRENT)


def test_dates_of_certificates_count_while_our_clock_is_right() -> None:
    """An expired certificate turns readers away."""
    watch = Watch().see(*fleet(0.0, 0.0), times=2)

    watch.see(*fleet(0.0, 0.0, fault=FaultKind.CLOCK), times=3)
    assert watch.verdict is DOWN


def test_other_tls_faults_count_even_while_our_clock_is_wrong() -> None:
    """Only what the clock decides is void."""
    watch = Watch().see(*fleet(0.0, 0.0), times=2)

    watch.see(*fleet(-DAY, -DAY, fault=FaultKind.TLS), times=3)
    assert watch.verdict is DOWN


def test_the_name_server_may_say_that_our_clock_is_wrong() -> None:
    """BADTIME says it as well as the mirrors do, and ends when it is no longer said."""
    watch = Watch(badtime=400.0).see(*fleet(0.0, 0.0))
    assert watch.standing.clock == "our clock is 7 min slow, by the name server's (TSIG BADTIME)"

    watch.badtime = None
    watch.see(*fleet(0.0, 0.0))
    assert watch.standing.clock is None


# -- what decisions need


@pytest.mark.parametrize(
    ("sights", "judged", "failing"),
    [
        pytest.param([GONE, sight(FaultKind.TLS, address=OTHER_V4)], True, True, id="all bad"),
        pytest.param([GONE, sight(address=OTHER_V4)], True, False, id="one good"),
        pytest.param([GONE], False, False, id="one not looked at"),
        pytest.param([GONE, sight(FaultKind.REFUSED_US, address=OTHER_V4)], False, False, id="one refused"),
        pytest.param([GONE, sight(address=OTHER_V4, wrong=[b"a"])], True, True, id="one with a wrong file"),
    ],
)
def test_a_judgement_is_complete_when_every_address_that_counts_was_judged(
    sights: list[Sight], judged: bool, failing: bool
) -> None:
    """Readers are moved only away from a mirror of which the latest round saw everything, and nothing good."""
    watch = Watch().see(WELL, sight(address=OTHER_V4), times=2)

    watch.see(*sights)
    assert (watch.health().judged, watch.health().failing) == (judged, failing)


@pytest.mark.parametrize(
    "interruption",
    [
        pytest.param(GONE, id="a failure"),
        pytest.param(sight(wrong=[b"a.html"]), id="a wrong file"),
        pytest.param(sight(FaultKind.REFUSED_US), id="a refusal"),
    ],
)
def test_being_well_starts_anew_after_anything_that_was_not_good(interruption: Sight) -> None:
    """Readers return to a mirror that stayed well, not to one that is well at last."""
    watch = Watch().see(WELL, times=4)
    assert watch.health().well_since == 1000.5

    watch.see(interruption)
    assert watch.health().well_since is None

    began = watch.now + 0.5
    watch.see(WELL, times=3)
    assert watch.health().well_since == began


def test_a_mirror_is_well_when_all_its_addresses_that_count_are() -> None:
    """The last of them to recover says since when."""
    other = sight(address=OTHER_V4)
    watch = Watch().see(WELL, other, times=2).see(WELL, sight(FaultKind.STATUS, address=OTHER_V4))
    assert watch.health().well_since is None

    began = watch.now + 0.5
    watch.see(WELL, other, times=2)
    assert watch.health().well_since == began


def test_what_will_need_a_person_soon_is_a_warning() -> None:
    """A certificate that expires within 14 days, or a card that promised a successor, moves nobody."""
    watch = Watch().see(sight(days=13.2), times=2)

    assert watch.verdict is UP
    assert watch.health().warnings == ("its certificate expires in 13 days",)


def test_a_snapshot_that_is_overdue_warns_and_never_blocks() -> None:
    """Signed lists with a hard expiry have locked users out for days."""
    watch = Watch(wall=card(1).next_expected.timestamp() + 1).see(WELL, times=2)

    assert watch.verdict is UP
    assert "promised a newer card by" in watch.health().warnings[0]


def test_what_is_no_longer_configured_is_forgotten_and_the_rest_is_kept() -> None:
    """A new configuration must not make the controller blind for the time of a few rounds."""
    lyon = sight(mirror="lyon", address=OTHER_V4)
    watch = Watch().see(WELL, sight(address=V6), lyon, times=2)

    kept = watch.standing.only([Target("milan", SERVICE, "www.example.test", V4)])
    assert kept.health("milan", SERVICE).verdict is UP
    assert kept.health("milan", SERVICE).good == (V4,)
    assert kept.health("lyon", SERVICE).verdict is UNKNOWN


# -- a fresh look


def test_a_fresh_look_needs_no_streak() -> None:
    """Readers are moved to what one full look just found good, and it says what was found."""
    watch = Watch().see(GONE, times=5)

    fresh = watch.fresh(sight(serial=5))
    assert (fresh.ok, fresh.content, fresh.good) == (True, ContentClass.CURRENT, (V4,))


@pytest.mark.parametrize("kind", [*NOT_OUR_DOING, FaultKind.REFUSED_US], ids=lambda kind: kind.value)
def test_a_fresh_look_that_found_a_fault_is_not_ok(kind: FaultKind) -> None:
    """Whatever went wrong in it, the target was not found good; a refusal is not called bad."""
    fresh = Watch().see(WELL, times=3).fresh(sight(kind))

    assert (fresh.ok, fresh.content, fresh.good) == (False, None, ())
    assert (V4 in fresh.bad) is (kind is not FaultKind.REFUSED_US)


def test_a_fresh_look_that_found_a_wrong_file_is_not_ok() -> None:
    """There is no second look to convict it, so one wrong file is enough here."""
    fresh = Watch().see(WELL, times=3).fresh(sight(wrong=[b"a.html"]))

    assert not fresh.ok
    assert fresh.bad[V4].kind is FaultKind.CONTENT


def test_a_fresh_look_leaves_bad_addresses_out() -> None:
    """Readers are given the addresses that were well; IPv6 goes if it is bad."""
    fresh = Watch().fresh(WELL, sight(FaultKind.TLS, address=OTHER_V4), sight(FaultKind.STATUS, address=V6))

    assert (fresh.ok, fresh.good, list(fresh.bad)) == (True, (V4,), [OTHER_V4, V6])


def test_a_fresh_look_with_ipv6_only_is_not_ok_for_a_mirror_that_has_ipv4() -> None:
    """Most readers come by IPv4."""
    assert not Watch().fresh(GONE, sight(address=V6)).ok
    assert Watch().fresh(sight(address=V6)).ok


def test_a_fresh_look_without_our_network_proves_nothing() -> None:
    """Not even that the target is bad."""
    fresh = Watch().see(WELL, times=2).fresh(WELL, before=references(v4=False))

    assert (fresh.ok, fresh.bad) == (False, {})
    assert fresh.unjudged[V4].kind is FaultKind.NETWORK


def test_a_lost_family_takes_no_address_from_readers() -> None:
    """That we have no IPv6 today is no reason to take AAAA away from those who have."""
    fresh = Watch().fresh(WELL, sight(FaultKind.UNREACHABLE, address=V6), before=references(v6=False))

    assert (fresh.ok, fresh.bad, list(fresh.unjudged)) == (True, {}, [V6])


def test_a_fresh_look_tells_outdated_content_from_bad() -> None:
    """Pages of yesterday are better than none: whether they will do depends on what is being left."""
    lyon = sight(mirror="lyon", address=OTHER_V4, serial=2)
    watch = Watch().see(WELL, lyon, times=2).sleep(25 * HOUR)

    fresh = watch.fresh(WELL)
    assert (fresh.ok, fresh.content) == (True, ContentClass.STALE)


def test_a_fresh_look_knows_what_settles() -> None:
    """A target that we have just published to is usable."""
    watch = Watch().see(WELL, times=2)
    watch.published = {"milan": watch.now}

    fresh = watch.fresh(sight(serial=2, settling=[b"a"]))
    assert (fresh.ok, fresh.content) == (True, ContentClass.SETTLING)
