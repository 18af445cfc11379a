"""A drill: the whole failover on a name that no reader uses, on real servers, and what it says when help would fail."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirrord.control.drilling import due, overdue
from mirrord.journal import Journal
from mirrord.switches import plan_change
from tests.conftest import Lab
from tests.controlling import controller
from tests.lab.nameserver import zone_text
from tests.lab.publisher import NAME, ZONE, Publisher, publisher
from tests.lab.waiting import until
from tests.switching import human

SHADOW = f"drill.{NAME}"


@pytest.fixture(scope="module")
def site(module_lab: Lab) -> Iterator[Publisher]:
    """A publisher of a small site on two hosts, published, with a daemon that watches."""
    with publisher(module_lab, ("milan", "lyon")) as made:
        assert made.verb("sync")["exit"] == 0
        made.daemon.start()
        until(lambda: made.service()["protected"]["ok"], 20, "protection")
        yield made


def drilled(site: Publisher) -> dict[str, Any]:
    """Drill, and return the one report with the exit code."""
    found = site.verb("drill", "web", "--yes")
    (report,) = found["drills"]
    return {**report, "exit": found["exit"]}


def test_without_a_yes_and_without_a_terminal_nothing_is_written(site: Publisher) -> None:
    """It writes into the zone: a plan is shown before it is carried out."""
    found = site.verb("drill", "web")

    assert found["exit"] == 2
    assert not site.primary.query(SHADOW, "A")


def test_a_drill_goes_all_the_way_and_back_and_moves_no_reader(site: Publisher) -> None:
    """Decided, looked at, switched, followed by every name server, fetched as a reader would, and led back."""
    report = drilled(site)

    assert report["exit"] == 0, report
    assert [step["name"] for step in report["steps"]] == ["decide", "prepare", "look", "switch", "fetch", "back"]
    assert (report["ok"], report["from"], report["to"], report["names"]) == (True, "milan", "lyon", [SHADOW])
    assert all(step["seconds"] >= 0 for step in report["steps"])
    assert site.served_at("milan")
    for server in (site.primary, site.secondary):
        assert server.holds(SHADOW, "A", site.hosts["milan"].address)
    assert any("lyon" in event["what"] for event in site.verb("history", "--kind", "switch")["events"])
    newest = max((site.state / "drills").iterdir())
    assert json.loads(newest.read_text())["ok"] is True
    assert drilled(site)["ok"], "a second drill begins where the first ended"


def test_a_plan_that_a_killed_drill_left_open_is_settled_by_the_next(site: Publisher) -> None:
    """It was written down and perhaps sent: nothing else is led anywhere before that is known."""
    assert drilled(site)["ok"]
    with contextlib.closing(Journal(site.state / "journal.sqlite")) as journal:
        stands = journal.expected("web/drill")
        assert stands is not None
        mirrors = {name: (host.address,) for name, host in site.hosts.items()}
        left = plan_change("web/drill", stands, "lyon", mirrors, nonce="a" * 32, by="home", ttl=1, was_ttl=1)
        journal.intend(left)

    report = drilled(site)
    assert report["ok"], report


def test_a_hold_stops_no_drill(site: Publisher) -> None:
    """
    It keeps readers where they are, and a drill moves none: what it is to prove is not less true while somebody moves
    house. That readers would stay is said, here and in the first line of the status.
    """
    assert site.verb("hold", "web", "--reason", "moving house")["exit"] == 0
    until(lambda: not site.service()["protected"]["ok"], 10, "the hold to be known")
    try:
        report = drilled(site)
    finally:
        assert site.verb("unhold", "web")["exit"] == 0

    assert (report["ok"], report["exit"]) == (True, 0)
    assert "readers would go to lyon; but now they would stay: web is held by " in report["steps"][0]["text"]
    assert "moving house" in report["steps"][0]["text"]


def test_what_somebody_else_keeps_at_the_shadow_name_is_left_alone(site: Publisher) -> None:
    """Whoever has a service of that name had reasons."""
    human(site.primary, ("add", SHADOW + ".", 60, "A", "192.0.2.77"), zone=ZONE)

    found = site.verb("drill", "web", "--yes")
    assert found["exit"] == 5
    assert "take it out of the zone" in found["error"]["message"]
    assert "192.0.2.77" in site.primary.query(SHADOW, "A")


@pytest.mark.parametrize("wild", ["A 192.0.2.77", f"CNAME {NAME}."])
def test_what_a_wildcard_gives_at_the_shadow_name_is_nobodys(lab: Lab, wild: str) -> None:
    """It is no record that anybody could take out, and it is gone from there as soon as ours stand."""
    with publisher(lab, ("milan", "lyon")) as site:
        human(site.primary, ("add", f"*.{NAME}.", 60, *wild.split()), zone=ZONE)
        assert site.verb("sync")["exit"] == 0
        site.daemon.start()
        until(lambda: site.service()["protected"]["ok"], 20, "protection")

        report = drilled(site)
        assert (report.get("ok"), report["exit"]) == (True, 0), report
        assert site.primary.holds(SHADOW, "A", site.hosts["milan"].address)


def test_a_mirror_that_would_not_serve_the_service_fails_the_drill(site: Publisher) -> None:
    """A standby whose certificate rotted unseen is found out on a quiet day."""
    site.hosts["lyon"].kill()
    until(lambda: site.mirror("lyon")["verdict"] == "down", 20, "lyon to be judged down")

    report = drilled(site)
    assert report["exit"] == 1
    assert (report["ok"], [step["ok"] for step in report["steps"]]) == (False, [False])
    assert "readers would stay" in report["steps"][0]["text"]
    until(lambda: any("last drill failed" in text for text in site.verb("status")["warnings"]), 5, "status to say so")


def test_where_the_first_to_take_over_fails_its_fresh_look_the_next_is_drilled(lab: Lab) -> None:
    """As in a real failover: who died a moment ago, and is still held to be well, keeps nobody from being helped."""
    with publisher(lab, fall=100, rise=1) as site:
        assert site.verb("sync")["exit"] == 0
        site.daemon.start()
        until(lambda: site.service()["protected"]["ok"], 20, "protection")
        site.hosts["lyon"].kill()

        report = drilled(site)

        assert (report["exit"], report["ok"], report["to"]) == (0, True, "oslo"), report
        texts = {step["name"]: step["text"] for step in report["steps"]}
        assert "readers would go to lyon" in texts["decide"]
        assert texts["look"].startswith("lyon: ")
        assert "oslo is well in a fresh look" in texts["look"]
        assert site.hosts["oslo"].address in texts["fetch"]


def test_a_name_server_that_does_not_follow_fails_the_drill(lab: Lab) -> None:
    """Half of the readers would be sent to a dead mirror, and nobody would know."""
    stale = lab.knot(ZONE, text=zone_text(ZONE, ["www 1 A 192.0.2.10"]))
    with publisher(lab, ("milan", "lyon")) as site:
        assert site.verb("sync")["exit"] == 0
        site.configure(authoritative=[site.primary.endpoint, stale.endpoint])

        report = drilled(site)
        assert report["exit"] == 1
        assert [(step["name"], step["ok"]) for step in report["steps"]] == [("decide", True), ("prepare", False)]
        assert "some still give the old data" in report["steps"][1]["text"]


def test_where_mirrors_share_the_readers_the_others_are_drilled(lab: Lab) -> None:
    """With `serve = "all"` no single mirror takes over: the shadow name gets the addresses of all that are left."""
    with publisher(lab, serve="all") as site:
        assert site.verb("sync")["exit"] == 0

        report = drilled(site)
        assert (report["exit"], report["ok"], report["to"]) == (0, True, "lyon+oslo"), report
        fetched = next(step["text"] for step in report["steps"] if step["name"] == "fetch")
        assert all(site.hosts[name].address in fetched for name in ("lyon", "oslo"))


def test_the_schedule_drills_by_itself(lab: Lab) -> None:
    """Monthly, while all is well; a minute's look decides whether it is due."""
    with publisher(lab, ("milan", "lyon"), drill_every="30d") as site:
        assert site.verb("sync")["exit"] == 0
        site.daemon.start()
        until(lambda: site.primary.holds(SHADOW, "A", site.hosts["milan"].address), 80, "a drill")


def test_status_nags_after_ninety_days_and_after_a_failed_drill(tmp_path: Path) -> None:
    """A way out that nobody tried for a season is a hope; one that failed is less."""
    day, begun = 86_400.0, 1_795_000_000.0
    with controller(tmp_path, daemon=True) as home:
        at_first = [overdue(home.works, begun), overdue(home.works, begun + 89 * day)]
        never = overdue(home.works, begun + 91 * day)
        home.works.journal.keep("drill web", {"at": begun, "ok": True})
        lately, long_ago = overdue(home.works, begun + 89 * day), overdue(home.works, begun + 91 * day)
        home.works.journal.keep("drill web", {"at": begun, "ok": False})
        failed = overdue(home.works, begun + day)
        scheduled = due(home.works, "web", begun + 91 * day)

    assert at_first == [[], []]
    assert [text[:24] for text in never] == ["web: last drilled never:"]
    assert lately == []
    assert [text[:30] for text in long_ago] == ["web: last drilled 91 days ago:"]
    assert [text[:26] for text in failed] == ["web: the last drill failed"]
    assert not scheduled, "nobody asked for drills by themselves"
