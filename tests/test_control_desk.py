"""The verbs, as far as they need no servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrord.errors import Unavailable
from tests.controlling import Controller, controller


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Controller]:
    """A controller whose hosts are all gone."""
    with controller(tmp_path) as made:
        yield made


def test_an_order_stands_in_the_history_once(home: Controller) -> None:
    """Who reads the history must not take one order for two."""
    home.verb("hold", what="web", reason="new disks")
    home.verb("unhold", what="web")
    home.verb("drain", mirror="lyon", reason="loud fan")
    home.verb("undrain", mirror="lyon")

    assert [text.partition(":")[0] for text in home.told()] == ["web", "web", "lyon", "lyon"]


def test_status_leaves_to_config_check_what_config_check_says(home: Controller) -> None:
    """What is in every status is read by nobody."""
    assert home.works.settings.warnings

    assert not set(home.works.settings.warnings) & set(home.verb("status")["warnings"])


def test_a_zone_that_cannot_be_read_is_to_be_tried_again_later(home: Controller) -> None:
    """Exit 75: nothing was done, and nobody has to change anything before the next try."""
    with pytest.raises(Unavailable, match="nothing was changed"):
        home.verb("switch", service="web", mirror="lyon", dry_run=True)
