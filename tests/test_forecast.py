"""What will break next: each thing by its own limits, worst first, and in words that say what to do."""

from __future__ import annotations

import pytest

from mirrord.report.forecast import (
    Certificate,
    Finding,
    Level,
    Stand,
    address_ttl,
    certificate,
    clock,
    credentials,
    days_text,
    delegation_ttl,
    disk,
    drill,
    hints,
    name_server_places,
    name_servers_together,
    registration,
    signatures,
    snapshots,
    soa_expire,
    together,
    worst_first,
)

MILAN = Certificate("milan", "www.example.org", 60.0, renewed=True, seen_for=100.0)


@pytest.mark.parametrize(
    ("finding", "level", "says"),
    [
        pytest.param(soa_expire("ns2", 604_800), Level.WARN, "7 days after it lost", id="a week: silent in our story"),
        pytest.param(soa_expire("ns2", 3_600_000), Level.GOOD, "42 days", id="longer than our story"),
        pytest.param(soa_expire("ns2", 86_400), Level.BAD, "1 days", id="a day"),
        pytest.param(signatures("ns1", 14.0), Level.WARN, "in 14 days", id="BIND's signatures"),
        pytest.param(signatures("ns1", -2.0), Level.BAD, "2 days ago", id="signatures that ended"),
        pytest.param(signatures("ns1", 60.0), Level.GOOD, "in 60 days", id="long signatures"),
        pytest.param(address_ttl("web", 3600, 60), Level.WARN, "3600 s", id="readers stay for an hour"),
        pytest.param(address_ttl("web", 300, 60), Level.WARN, "60 s is configured", id="not what is configured"),
        pytest.param(address_ttl("web", 60, 60), Level.GOOD, "60 s", id="as configured"),
        pytest.param(delegation_ttl("example.org", 86_400), Level.GOOD, "24 h", id="a day's delegation"),
        pytest.param(delegation_ttl("example.org", 604_800), Level.WARN, "168 h", id="a week's delegation"),
        pytest.param(delegation_ttl("example.org", None), Level.UNKNOWN, "could not", id="a parent that is silent"),
        pytest.param(certificate(MILAN), Level.GOOD, "in 60 days", id="a good certificate"),
        pytest.param(
            certificate(Certificate("milan", "www", 20.0, renewed=True, seen_for=100.0)),
            Level.WARN, "in 20 days", id="not renewed in time",
        ),
        pytest.param(
            certificate(Certificate("lyon", "www", 25.0, renewed=False, seen_for=60.0)),
            Level.WARN, "never saw one renewed there", id="a standby's, never renewed",
        ),
        pytest.param(
            certificate(Certificate("lyon", "www", 10.0, renewed=False, seen_for=60.0)),
            Level.BAD, "never saw one renewed there", id="a standby's, rotten soon",
        ),
        pytest.param(
            certificate(Certificate("lyon", "www", None, renewed=False, seen_for=0.0, fault="connection refused")),
            Level.BAD, "connection refused", id="none to be seen",
        ),
        pytest.param(credentials("lyon", "sftp", None), Level.GOOD, "let in just now", id="credentials"),
        pytest.param(credentials("lyon", "sftp", "lyon: no key"), Level.BAD, "lyon: no key", id="dead credentials"),
        pytest.param(clock(None), Level.UNKNOWN, "no mirror told the time", id="no clock"),
        pytest.param(clock(3.0), Level.GOOD, "3 s", id="a good clock"),
        pytest.param(clock(-45.0), Level.WARN, "45 s", id="a clock that drifts"),
        pytest.param(clock(400.0), Level.BAD, "400 s", id="a clock too far off"),
        pytest.param(disk("lyon", 10**9, 10**8), Level.GOOD, "1 GB are free", id="room"),
        pytest.param(disk("lyon", 10**6, 10**8), Level.WARN, "100 MB", id="no room"),
        pytest.param(disk("controller", 0, 0), Level.BAD, "0 B are free", id="a full disk under an empty store"),
        pytest.param(disk("lyon", None, 10**8), Level.UNKNOWN, "does not say", id="nobody says"),
        pytest.param(snapshots(None, None, 2.0), Level.BAD, "no snapshot", id="an empty store"),
        pytest.param(snapshots(30.0, 0.3, 2.0), Level.GOOD, "30 days old", id="a quiet site, signed today"),
        pytest.param(snapshots(30.0, 3.0, 2.0), Level.BAD, "1 days ago", id="nobody signs any more"),
        pytest.param(drill("web", None, ok=True), Level.WARN, "never rehearsed", id="never drilled"),
        pytest.param(drill("web", 20.0, ok=True), Level.GOOD, "20 days ago", id="drilled lately"),
        pytest.param(drill("web", 100.0, ok=True), Level.WARN, "100 days ago", id="drilled long ago"),
        pytest.param(drill("web", 2.0, ok=False), Level.BAD, "failed", id="a drill that failed"),
        pytest.param(registration("example.org", 400.0), Level.GOOD, "in 400 days", id="registered for long"),
        pytest.param(registration("example.org", 30.0), Level.WARN, "in 30 days", id="registration ends"),
        pytest.param(registration("example.org", None), Level.UNKNOWN, "could not", id="nobody says until when"),
    ],
)  # fmt: skip
def test_each_thing_has_its_limits(finding: Finding, level: Level, says: str) -> None:
    """The table is the specification; what is not good says what to do."""
    assert finding.level is level
    assert says in finding.text
    assert bool(finding.advice) == (level is not Level.GOOD) or level is Level.UNKNOWN


def test_the_worst_comes_first_and_among_equals_what_breaks_first() -> None:
    """Whoever has five minutes reads from the top."""
    found = [certificate(MILAN), soa_expire("ns2", 604_800), clock(None), credentials("lyon", "sftp", "dead")]
    found.append(signatures("ns1", 4.0))

    assert [f.what for f in worst_first(found)] == ["sftp", "rrsig", "soa-expire", "clock", "certificate"]


def test_what_stands_together_falls_together() -> None:
    """One place, one network, or the controller beside a mirror."""
    milan, lyon = Stand("milan", "dc-1", ("192.0.2.10",)), Stand("lyon", "dc-1", ("198.51.100.1",))
    oslo = Stand("oslo", "dc-2", ("192.0.2.77", "2001:db8::1"))

    found = together([milan, lyon, oslo], "dc-2")
    assert [f.text for f in found] == [
        "milan and lyon stand in one place, dc-1",
        "milan and oslo have addresses in one network",
        "this controller stands where oslo does, in dc-2",
    ]
    assert together([milan], "office")[0].level is Level.GOOD
    assert together([milan], "")[0].level is Level.UNKNOWN


def test_name_servers_in_a_mirrors_network_or_all_in_one_are_told() -> None:
    """Serve-stale resolvers keep the dead address when the name servers go with the datacentre."""
    mirrors = {"milan": ("192.0.2.10",), "lyon": ("198.51.100.1",)}

    near = name_server_places({"ns1": ("192.0.2.53",), "ns2": ("203.0.113.53",)}, mirrors)
    one = name_server_places({"ns1": ("203.0.113.53",), "ns2": ("203.0.113.54",)}, mirrors)
    only = name_server_places({"ns1": ("203.0.113.53",)}, mirrors)
    well = name_server_places({"ns1": ("203.0.113.53",), "ns2": ("198.18.0.1",)}, mirrors)
    assert [f.text for f in near] == ["ns1 stands in the network of milan: it may go down with it"]
    assert [f.text for f in one] == ["all name servers (ns1, ns2) stand in one network"]
    assert [f.level for f in only] == [Level.BAD]
    assert well == []


def test_mirrors_whose_accounts_the_same_name_servers_know_are_told() -> None:
    """Two hosters behind one DNS provider: while it is gone neither is published to. Addresses need nobody."""
    one, other = frozenset({"ns1.example.net", "ns2.example.net"}), frozenset({"ns.example.com"})
    found = name_servers_together(
        {"milan": one, "lyon": one, "oslo": other, "bergen": frozenset(), "kyiv": frozenset()}
    )

    assert [(f.about, f.what, f.level) for f in found] == [("milan", "together", Level.WARN)]
    assert "milan and lyon are found by the same name servers, ns1.example.net, ns2.example.net" in found[0].text
    assert name_servers_together({"milan": one, "lyon": other}) == []


def test_address_hints_that_a_switch_would_leave_are_told() -> None:
    """A browser that takes the hint goes to the dead mirror."""
    assert hints(["www.example.org"], told=False)[0].level is Level.WARN
    assert hints(["www.example.org"], told=True) == hints([], told=False) == []


@pytest.mark.parametrize(
    ("days", "text"),
    [(12.4, "in 12 days"), (0.2, "today"), (-0.2, "since today"), (-3.0, "3 days ago")],
)
def test_days_are_told_as_people_do(days: float, text: str) -> None:
    """Nobody wants -3.0 days."""
    assert days_text(days) == text
