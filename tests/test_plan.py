"""What is linked, what is sent, and what a person is asked about: decided without looking at any host."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.delta import Copy, Delta
from mirrord.manifest import Entry, Manifest, SnapshotId
from mirrord.plan import LEAST_COPIED, Guard, Patching, Survey, brake, foreign_manifest, make_plan

OLD, NEW = SnapshotId("20261121T120000Z-00000000"), SnapshotId("20261121T130000Z-11111111")


def entry(text: str, mtime: int = 1) -> Entry:
    data = text.encode()
    return Entry(hashlib.sha256(data).digest(), len(data), mtime)


def manifest(**files: str) -> Manifest:
    return Manifest.of({name.encode(): entry(text) for name, text in files.items()})


def test_unchanged_files_are_linked_and_changed_ones_sent() -> None:
    """The plan names both, and what vanishes, so that it can be shown before it is carried out."""
    had, wanted = manifest(same="s", changed="1", gone="g"), manifest(same="s", changed="22", added="333")

    plan = make_plan("lyon", NEW, wanted, OLD, OLD, had)
    assert plan.link == {b"same": b"same"}
    assert plan.send == (b"added", b"changed")
    assert plan.removed == (b"gone",)
    assert plan.bytes_to_send == 5
    assert (plan.mirror, plan.target, plan.instead_of, plan.base) == ("lyon", NEW, OLD, OLD)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(entry("s", mtime=2), id="another mtime"),
        pytest.param(Entry(entry("s").digest, 2, 1), id="another size"),
        pytest.param(Entry(entry("t").digest, 1, 1), id="another digest under the same size and mtime"),
    ],
)
def test_only_a_file_that_is_the_same_in_every_way_is_linked(other: Entry) -> None:
    """Size and mtime are the ETag of nginx and Apache: new bytes never go out under an old one."""
    plan = make_plan("lyon", NEW, manifest(file="s"), OLD, OLD, Manifest({b"file": other}))

    assert plan.link == {}
    assert plan.send == (b"file",)


def test_a_file_that_moved_is_linked_from_where_it_was() -> None:
    """Renaming a folder of pictures costs nothing; of several places the first is taken, so plans are repeatable."""
    had, wanted = manifest(a="pic", b="pic"), manifest(c="pic")

    plan = make_plan("lyon", NEW, wanted, OLD, OLD, had)
    assert plan.link == {b"c": b"a"}
    assert plan.send == ()


def test_nothing_is_linked_from_what_readers_saw_to_be_wrong() -> None:
    """Not at its own path, and not at another that holds the same content."""
    had, wanted = manifest(a="pic", b="pic"), manifest(a="pic", b="pic")

    plan = make_plan("lyon", NEW, wanted, OLD, OLD, had, suspects={b"a"})
    assert plan.link == {b"a": b"b", b"b": b"b"}


def all_but_one(old: Entry, new: Entry) -> Delta | None:
    """Compare as if a byte had been added to whatever is one byte longer."""
    return Delta(new.size, (Copy(0, 0, old.size),), b"") if new.size == old.size + 1 else None


def test_what_changed_in_places_is_patched_and_its_exact_cost_is_known() -> None:
    """A person who asks for a rehearsal is shown what would travel, to the byte."""
    had, wanted = manifest(a="12345", b="12345", c="c"), manifest(a="123456", b="other", c="c", d="dd")

    plan = make_plan("lyon", NEW, wanted, OLD, OLD, had, compare=all_but_one)
    assert plan.patch == {b"a": Patching(b"a", 5, 1, Delta(6, (Copy(0, 0, 5),), b""))}
    assert plan.send == (b"b", b"d")
    assert plan.link == {b"c": b"c"}
    assert plan.bytes_to_send == 1 + 5 + 2


def test_nothing_is_patched_from_what_readers_saw_to_be_wrong() -> None:
    """Their bytes would go into the new file."""
    had, wanted = manifest(a="12345"), manifest(a="123456")

    plan = make_plan("lyon", NEW, wanted, OLD, OLD, had, {b"a"}, compare=all_but_one)
    assert (dict(plan.patch), plan.send) == ({}, (b"a",))


def test_where_nothing_can_be_linked_the_mirror_copies_what_it_has() -> None:
    """A move costs no content there either; what is tiny is sent, and all is where nothing can be copied."""
    large = "x" * LEAST_COPIED
    had, wanted = manifest(a=large, b="tiny"), manifest(a=large, moved=large, b="tiny")

    plan = make_plan("lyon", NEW, wanted, OLD, OLD, had, links=False, compare=all_but_one)
    same = Patching(b"a", LEAST_COPIED, 1, Delta.of_same(LEAST_COPIED))
    assert (plan.patch, dict(plan.link)) == ({b"a": same, b"moved": same}, {})
    assert (plan.send, plan.bytes_to_send) == ((b"b",), 4)
    plan = make_plan("lyon", NEW, wanted, OLD, OLD, had, links=False)
    assert (dict(plan.patch), plan.send) == ({}, (b"a", b"b", b"moved"))


def test_bytes_that_the_mirror_has_under_another_time_are_copied_there() -> None:
    """A draft that is moved over an older page, say: a link would bring its time along, but its content is there."""
    large = "x" * LEAST_COPIED
    had = Manifest.of({b"page": entry("old", 7), b"draft": entry(large, 5), b"note": entry("n", 5)})
    wanted = Manifest.of({b"page": entry(large, 8), b"memo": entry("n", 9)})

    plan = make_plan("lyon", NEW, wanted, OLD, OLD, had, compare=all_but_one)
    assert plan.patch == {b"page": Patching(b"draft", LEAST_COPIED, 5, Delta.of_same(LEAST_COPIED))}
    assert (plan.send, plan.bytes_to_send) == ((b"memo",), 1)
    assert make_plan("lyon", NEW, wanted, OLD, OLD, had, {b"draft"}, compare=all_but_one).send == (b"memo", b"page")


@pytest.mark.parametrize(("base", "held"), [(None, None), (OLD, None), (None, manifest(same="s"))])
def test_without_a_base_everything_is_sent(base: SnapshotId | None, held: Manifest | None) -> None:
    """What the mirror holds is unknown, or nothing."""
    plan = make_plan("lyon", NEW, manifest(same="s"), None, base, held)

    assert plan.send == (b"same",)
    assert plan.link == {}
    assert plan.removed == ()


small = st.dictionaries(
    st.sampled_from([b"a", b"b", b"c", b"d/e"]),
    st.builds(entry, st.sampled_from(["", "1", "22"]), st.integers(1, 2)),
    max_size=4,
).map(Manifest.of)


@given(had=small, wanted=small, suspects=st.frozensets(st.sampled_from([b"a", b"b"])))
def test_a_plan_is_complete_and_links_only_the_same_bytes(
    had: Manifest, wanted: Manifest, suspects: frozenset[bytes]
) -> None:
    """Every wanted file is linked or sent, once; every link leads to the very same entry."""
    plan = make_plan("lyon", NEW, wanted, OLD, OLD, had, suspects)

    assert {*plan.link, *plan.send} == set(wanted.entries)
    assert not set(plan.link) & set(plan.send)
    assert all(had.entries[old] == wanted.entries[path] for path, old in plan.link.items())
    assert not suspects.intersection(plan.link.values())
    assert set(plan.removed) == set(had.entries) - set(wanted.entries)


def numbered(count: int, text: str = "text") -> Manifest:
    return Manifest.of({b"%05d" % n: entry(text) for n in range(count)})


def without(whole: Manifest, gone: int, emptied: int = 0) -> Manifest:
    """Remove some files, empty some more."""
    kept = list(whole.entries.items())[gone:]
    return Manifest.of({path: entry("") if n < emptied else was for n, (path, was) in enumerate(kept)})


@pytest.mark.parametrize(
    ("had", "gone", "emptied", "says"),
    [
        pytest.param(1000, 0, 0, None, id="nothing gone"),
        pytest.param(1000, 100, 0, None, id="a tenth, which is the limit"),
        pytest.param(1000, 101, 0, "101 of 1000 files", id="more than both limits"),
        pytest.param(50, 10, 0, None, id="a fifth, but only ten files"),
        pytest.param(50, 11, 0, "11 of 50 files (22 %)", id="eleven files and more than a tenth"),
        pytest.param(1000, 60, 60, "120 of 1000 files", id="emptied files are gone too"),
        pytest.param(4, 2, 0, None, id="half of a tiny site"),
        pytest.param(4, 3, 0, "more than half of the site", id="more than half, at any count"),
        pytest.param(0, 0, 0, None, id="there was nothing"),
    ],
)
def test_a_person_is_asked_when_much_would_vanish(had: int, gone: int, emptied: int, says: str | None) -> None:
    """An unmounted disk or a broken build looks like a wish to delete; both limits keep small sites usable."""
    before = numbered(had)

    why = brake(before, without(before, gone, emptied), Guard())
    assert (why is None) if says is None else (says in (why or ""))


def test_more_than_half_of_the_bytes_is_too_much_though_few_files_go() -> None:
    """One archive may be most of a site."""
    before = Manifest.of({**numbered(99).entries, b"big": entry("x" * 1000)})
    after = Manifest.of({**numbered(99).entries, b"big": entry("x")})

    assert "shrink from 1.4 kB to 397 B" in (brake(before, after, Guard()) or "")


def test_a_foreign_manifest_links_what_we_have_too_and_weighs_what_the_card_says() -> None:
    """`sha256sum` text has no sizes: ours are taken where the bytes are ours, the rest shares the signed total."""
    wanted = manifest(same="four", other="x")
    digests = {
        b"same": entry("four").digest,
        b"b": entry("strange").digest,
        b"c": entry("stranger").digest,
        b"d": entry("").digest,
    }

    foreign = foreign_manifest(digests, 100, wanted)
    assert foreign.entries[b"same"] == wanted.entries[b"same"]
    assert foreign.entries[b"d"].size == 0
    assert foreign.size == 100
    assert make_plan("lyon", NEW, wanted, OLD, OLD, foreign).link == {b"same": b"same"}


@given(sizes=st.lists(st.integers(1, 50), max_size=9), strange=st.integers(0, 9))
def test_a_foreign_manifest_never_weighs_less_than_its_files(sizes: list[int], strange: int) -> None:
    """Whatever a card claims, the brake compares with something that can be."""
    wanted = Manifest.of({b"%d" % n: entry("x" * size) for n, size in enumerate(sizes)})
    digests = {path: known.digest for path, known in wanted.entries.items()}
    digests |= {b"s%d" % n: hashlib.sha256(b"strange %d" % n).digest() for n in range(strange)}

    foreign = foreign_manifest(digests, wanted.size + 7 * strange, wanted)
    assert foreign.size == wanted.size + 7 * strange
    assert list(foreign.entries) == sorted(digests)


def test_a_survey_is_tidy_only_without_leftovers() -> None:
    """Whatever waits to be cleaned up is a reason to take the lock, and nothing else is."""
    at_rest = Survey(OLD, None, None, None, (OLD,), (), (), None)
    left = [
        Survey(OLD, None, None, None, (OLD,), (b"x",), (), None),
        Survey(OLD, None, None, None, (OLD,), (), (b"x",), None),
        Survey(OLD, None, None, None, (OLD,), (), (), None, temps=(b"current.x",)),
        Survey(OLD, None, None, None, (OLD,), (), (), None, locks=(1,)),
    ]

    assert at_rest.tidy
    assert not any(survey.tidy for survey in left)
    assert at_rest.whole
    assert not Survey(NEW, None, None, None, (OLD,), (), (), None).whole
    assert not Survey(None, None, None, None, (OLD,), (), (), None).whole
