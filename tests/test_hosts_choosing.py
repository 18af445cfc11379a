"""Which layout `auto` takes for what an account can do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mirrord.hosts.choosing import choose_layout, obstacle, what_follows
from mirrord.hosts.files import Traits
from mirrord.hosts.host import FilesHost
from mirrord.hosts.memory import Disk, MemoryFiles
from mirrord.hosts.remembered import TRAITS

ALL = Traits(ordered=True, symlink=True, hard_link=True, replace=True, space=True)


@pytest.mark.parametrize(
    ("lacks", "follows", "layout", "word"),
    [
        pytest.param({}, None, "releases", "whole releases", id="everything"),
        pytest.param({}, True, "releases", "whole releases", id="and the web server follows"),
        pytest.param({"hard_link": False, "space": False}, None, "releases", "whole", id="what only costs"),
        pytest.param({"symlink": False}, None, "rename", "links cannot be made", id="no links"),
        pytest.param({"replace_link": False}, None, "rename", "cannot be replaced", id="links that stay"),
        pytest.param({}, False, "rename", "does not follow", id="a web server that follows no link"),
        pytest.param({"symlink": False, "ordered": False}, None, "rename", "after the first", id="no order"),
        pytest.param({"rename_folder": False}, None, "inplace", "one by one", id="no renaming of folders"),
        pytest.param({"symlink": False, "rename_folder": False}, None, "inplace", "links cannot", id="neither"),
    ],
)
def test_auto_takes_the_best_that_works_and_says_why(
    lacks: dict[str, Any], follows: bool | None, layout: str, word: str
) -> None:
    """A person who reads the reason knows what to ask the hoster for."""
    choice = choose_layout(replace(ALL, **lacks), follows)

    assert choice.layout == layout
    assert word in choice.why


def test_only_what_nothing_can_do_without_is_an_obstacle() -> None:
    """Poor hosts are published to as well as they let us."""
    lacks: dict[str, Any] = dict.fromkeys(set(TRAITS) - {"mtime", "hashes"}, False)
    poor = replace(ALL, **lacks)

    assert obstacle(poor) is None
    assert "mtime" in (obstacle(replace(ALL, mtime=False)) or "")


@pytest.mark.parametrize("trait", TRAITS)
def test_each_trait_says_what_follows_from_it(trait: str) -> None:
    """A table of yes and no helps nobody who does not know what it is for."""
    assert what_follows(trait, works=True, keep=5) != what_follows(trait, works=False, keep=5)


def test_without_hard_links_the_price_of_keeping_is_named() -> None:
    """Space is what small accounts have least of."""
    assert "keep = 7 costs 7 times" in what_follows("hard_link", works=False, keep=7)


@pytest.mark.parametrize(("follows", "layout"), [(None, "releases"), (True, "releases"), (False, "rename")])
def test_a_web_server_that_was_seen_to_follow_no_link_gets_none(follows: bool | None, layout: str) -> None:
    """Everything would be published well, and readers would see nothing of it."""
    host = FilesHost(MemoryFiles(Disk()), "lyon", follows=follows)

    assert host.survey().layout == layout
