import random
import subprocess
from pathlib import Path

import pytest

from mirrord.snapshot.excludes import Excludes

ATOMS = [
    *(
        "a",
        "b",
        "x",
        "*",
        "**",
        "***",
        "?",
        "/",
        "[ab]",
        "[!a]",
        "[^b-c]",
        "\\*",
        "\\",
        ".",
        "[[:digit:]]",
        "[[:foo:]]",
    ),
    *("[", "[]a]", "-", " ", "\\ ", "!", "[a-]", "1", "[a\\-c]", "[z-a]", "#"),
]
NAMES = [
    *(b"a", b"b", b"ab", b".x", b"x", b"a*", b"-", b"1", b"\xff", b"a\nb", b"b\n", b"a ", b" ", b"#a", b"!a", b"["),
    *(b"]", b"\\", b"c"),
]


def leaves_out(patterns: list[str], path: bytes) -> bool:
    """Ask as the walk does: about each folder on the way first."""
    excludes = Excludes(patterns)
    names = path.split(b"/")
    above = (b"/".join(names[:at]) for at in range(1, len(names)))
    return any(excludes.folder(each, each.split(b"/")[-1]) for each in above) or excludes.file(path, names[-1])


@pytest.mark.parametrize("seed", range(4))
def test_patterns_mean_what_git_says_they_mean(tmp_path: Path, seed: int) -> None:
    """The configuration promises "as in .gitignore"; git itself is the judge, over names of any bytes."""
    dice = random.Random(seed)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    matched = 0
    for _ in range(75):
        patterns = ["".join(dice.choices(ATOMS, k=dice.randint(1, 6))) for _ in range(dice.randint(1, 3))]
        paths = [b"/".join(dice.choices(NAMES, k=dice.randint(1, 4))) for _ in range(12)]
        (tmp_path / ".git/info/exclude").write_text("\n".join(patterns) + "\n")
        command = ["git", "-C", str(tmp_path), "check-ignore", "--no-index", "-z", "--stdin"]
        theirs = subprocess.run(command, input=b"\0".join(paths) + b"\0", capture_output=True, check=False).stdout

        assert {path for path in paths if leaves_out(patterns, path)} == set(theirs.split(b"\0")) - {b""}, patterns
        matched += theirs.count(b"\0")
    assert matched > 50


@pytest.mark.parametrize(
    ("patterns", "path", "left_out"),
    [
        ([".git/", "*.swp"], b".git/config", True),
        ([".git/", "*.swp"], b"deep/.git/config", True),
        ([".git/", "*.swp"], b".gitignore", False),
        ([".git/", "*.swp"], b"a/b.swp", True),
        (["*.swp"], b"new\nline.swp", True),
        (["*.swp"], b"a.swp\n", False),
        (["/drafts"], b"drafts/x", True),
        (["/drafts"], b"a/drafts/x", False),
        (["drafts/*", "!drafts/done.html"], b"drafts/done.html", False),
        (["drafts/*", "!drafts/done.html"], b"drafts/other.html", True),
        (["drafts/", "!drafts/done.html"], b"drafts/done.html", True),
        (["a/**/z"], b"a/b\nc/d/z", True),
        (["caf\u00e9"], "caf\u00e9".encode(), True),
        (["caf\u00e9"], "cafe\u0301".encode(), False),
        (["", "  ", "# all"], b"anything", False),
    ],
)
def test_the_patterns_that_people_write(patterns: list[str], path: bytes, left_out: bool) -> None:
    """The usual ones at a glance, and those where a library for text goes wrong."""
    assert leaves_out(patterns, path) is left_out
