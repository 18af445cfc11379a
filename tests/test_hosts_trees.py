"""How a release differs from what was listed: whatever stands there, and however its listings come."""

from __future__ import annotations

import random
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from mirrord.hosts.files import Attributes, Kind, List, Outcome, Trouble
from mirrord.hosts.trees import Comparison, Expected, Tree, compare, gather, list_tree
from mirrord.manifest import Entry, Manifest

NAMES = st.sampled_from([b"a", b"b", b"c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)
FILE = Attributes(Kind.FILE, 1, 2, 0o644)
FOLDER = Attributes(Kind.FOLDER, 4096, 2, 0o755)
STANDING = st.sampled_from([FILE, FOLDER, Attributes(Kind.LINK, 1, 2, 0o777), Attributes(Kind.FILE, 1, 3, 0o644)])


def tree(files: set[bytes], more: set[bytes]) -> Tree:
    """A tree of files that are one byte long and of second 2; nothing is both file and folder."""
    folders = {*Manifest({path: Entry(b"", 0, 0) for path in files}).folders(), *more}
    folders |= {path.rpartition(b"/")[0] for path in more} - {b""}
    return Tree(dict.fromkeys(files - folders, (1, 2)), tuple(sorted(folders)))


def answers(wanted: Tree, stands: Mapping[bytes, Attributes]) -> list[Outcome]:
    """Answer the question for a tree: a folder that is none, or a link to one, may be listed all the same."""
    found = []
    for asked in list_tree(b"top", wanted.folders):
        folder = asked.path[4:]
        inside = {path.rpartition(b"/")[2]: a for path, a in stands.items() if path.rpartition(b"/")[0] == folder}
        missing = folder != b"" and folder not in stands
        found.append(Outcome(asked, trouble=Trouble.MISSING) if missing else Outcome(asked, inside))
    return found


@given(
    st.sets(PATHS, max_size=8), st.sets(PATHS, max_size=3), st.dictionaries(PATHS, STANDING, max_size=14), st.randoms()
)
def test_folder_by_folder_the_same_is_found_as_in_the_whole(
    files: set[bytes], more: set[bytes], stands: dict[bytes, Attributes], dice: random.Random
) -> None:
    """A tree of a hundred thousand files is compared without keeping its listings; the findings must not change."""
    wanted = tree(files, more)
    stands = {path: FILE for path in wanted.files if dice.random() < 0.7} | stands
    stands |= {path: FOLDER for path in wanted.folders if dice.random() < 0.8}
    told = answers(wanted, stands)
    comparison = Comparison(wanted, b"top")
    for outcome in dice.sample(told, len(told)):
        assert comparison.take(outcome)

    assert comparison.findings() == compare(wanted, gather(b"top", told))


def test_only_what_was_asked_about_the_tree_is_taken() -> None:
    """In the same flight other folders are listed, the lock's among them: their answers belong to somebody else."""
    comparison = Comparison(tree({b"a/b"}, set()), b"top")

    assert not comparison.take(Outcome(List(b".mirrord"), {}))
    assert not comparison.take(Outcome(List(b"topless"), {}))
    assert not comparison.take(Outcome(List(b"top/x"), {}))
    assert comparison.take(Outcome(List(b"top/a"), {}))


def test_of_several_mappings_the_first_that_has_a_path_counts() -> None:
    """A snapshot's own file stands where an earlier one had another: that one is what readers should get."""
    entries = {b"page": Entry(b"d", 5, 50), b"old": Entry(b"e", 6, 60)}
    expected = Expected(Expected({b"page": (1, 10)}), entries)

    assert dict(expected) == {b"page": (1, 10), b"old": (6, 60)}
    assert len(expected) == 2
    assert b"new" not in expected
