"""A drill of names that are moved through a DNS provider's interface: PowerDNS and its API, by lexicon."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Lab
from tests.lab.api import ApiDoor
from tests.lab.powerdns import PowerDns
from tests.lab.publisher import NAME, Publisher, publisher

SHADOW = f"drill.{NAME}"


@pytest.fixture(scope="module")
def made(module_lab: Lab) -> Iterator[tuple[Publisher, ApiDoor]]:
    """A publisher without a daemon, published, at milan; beside its site a shop that a program moves."""
    shop = f"""
[[service]]
name = "shop"
order = ["milan", "lyon"]
[service.command]
program = ["{sys.executable}"]
names = ["shop.example.org"]
"""
    with publisher(module_lab, ("milan", "lyon"), kind=PowerDns, more=shop) as site:
        assert isinstance(site.primary, PowerDns)
        (site.folder / "token").write_text(site.primary.token)
        with ApiDoor(site.primary.api_port) as door:
            site.configure(lexicon=door.url)
            assert site.verb("sync")["exit"] == 0
            yield site, door


@pytest.fixture
def site(made: tuple[Publisher, ApiDoor]) -> Publisher:
    """The publisher."""
    return made[0]


@pytest.fixture
def door(made: tuple[Publisher, ApiDoor]) -> Iterator[ApiDoor]:
    """The way to the interface, open again after each test."""
    yield made[1]
    made[1].on_request = lambda _method, _writes: None


def drilled(site: Publisher, *words: str) -> dict[str, Any]:
    """Drill, and return the one report with all that was said."""
    found = site.verb("drill", *words, "--yes")
    (report,) = found["drills"]
    return {**report, "said": found}


def test_a_drill_goes_all_the_way_through_a_providers_interface_and_back(site: Publisher, door: ApiDoor) -> None:
    """
    The shadow name does not stand yet, and the interface cannot compare and set: it is made, led to lyon, fetched from
    there, and led back, seen at both name servers. The site's own name is not touched.
    """
    before = site.answers()

    report = drilled(site, "web")
    assert report["said"]["exit"] == 0, report
    assert [step["name"] for step in report["steps"]] == ["decide", "prepare", "look", "switch", "fetch", "back"]
    assert (report["ok"], report["from"], report["to"], report["names"]) == (True, "milan", "lyon", [SHADOW])
    for server in (site.primary, site.secondary):
        assert server.query(SHADOW, "A") == {site.hosts["milan"].address}
        (fence,) = server.query(f"_mirrord.{SHADOW}", "TXT")
        assert "target=milan" in fence
    assert site.answers() == before
    assert not site.primary.query(f"_mirrord.{NAME}", "TXT")
    assert door.writes > 0


def test_a_drill_of_all_services_leaves_out_what_has_no_shadow(site: Publisher) -> None:
    """A program of the operator's own moves the shop: there is no name beside it that could be moved."""
    report = drilled(site)

    assert (report["service"], report["ok"], report["said"]["exit"]) == ("web", True, 0)
    assert [one["service"] for one in report["said"]["left_out"]] == ["shop"]
    alone = site.verb("drill", "shop", "--yes")
    assert alone["exit"] == 2
    assert "works with DNS only" in alone["error"]["message"]


def test_an_interface_that_fails_half_way_fails_the_drill_which_says_so(site: Publisher, door: ApiDoor) -> None:
    """The plan stays open, as an outage would have met it. That is written down, and the next drill finishes it."""
    drilled(site, "web")  # the shadow stands
    door.writes = 0
    # Two writes make it ready, one is the claim of the switch: then nothing is taken any more.
    door.on_request = lambda method, writes: 500 if method == "PATCH" and writes >= 3 else None

    report = drilled(site, "web")
    assert report["said"]["exit"] == 1
    assert [(step["name"], step["ok"]) for step in report["steps"]][-2:] == [("switch", False), ("back", False)]
    assert "finished with the next try" in report["steps"][-2]["text"]
    assert any("last drill failed" in text for text in site.verb("status")["warnings"])

    door.on_request = lambda _method, _writes: None
    again = drilled(site, "web")
    assert (again["ok"], again["said"]["exit"]) == (True, 0)
    assert not any("last drill failed" in text for text in site.verb("status")["warnings"])


def test_a_drill_during_which_the_interface_recovers_leads_the_shadow_back(site: Publisher, door: ApiDoor) -> None:
    """One failed write leaves the switch open; it is found out what became of it before anything else is written."""
    drilled(site, "web")
    door.writes = 0
    failed: list[int] = []

    def fail_once(method: str, writes: int) -> int | None:
        if method == "PATCH" and writes == 3 and not failed:
            failed.append(writes)
            return 500
        return None

    door.on_request = fail_once
    report = drilled(site, "web")

    assert failed == [3]
    assert [(step["name"], step["ok"]) for step in report["steps"]][-2:] == [("switch", False), ("back", True)], report
    assert site.primary.query(SHADOW, "A") == {site.hosts["milan"].address}
