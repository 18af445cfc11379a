"""`[service.bgp]`: what cannot be announced is found by `config check`, and not in the night of the outage."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mirrord.config import load
from mirrord.errors import BadConfig
from mirrord.switches import BgpSettings

GOOD = """\
[site]
name = "example"
url = "https://www.example.org/"
[controller]
name = "home"
place = "office"
[[mirror]]
name = "milan"
role = "primary"
place = "dc-milan"
addresses = ["198.51.100.10", "2001:db8:1::10"]
http = { markers = [{ path = "/", contains = "Example" }] }
[[mirror]]
name = "lyon"
place = "dc-lyon"
addresses = ["198.51.100.20", "2001:db8:1::20"]
http = { markers = [{ path = "/", contains = "Example" }] }
[[service]]
name = "web"
order = ["milan", "lyon"]
[service.bgp]
speaker = "bird"
names = ["www.example.org"]
prefixes = ["203.0.113.0/24", "2001:db8:80::/48"]
addresses = ["203.0.113.80", "2001:db8:80::80"]
file = "/etc/bird/mirrord/web.conf"
[service.bgp.mirrors]
milan = { next_hops = ["198.51.100.10", "2001:db8:1::10"] }
lyon = { next_hops = ["198.51.100.20", "2001:db8:1::20"], med = 20, communities = ["64501:1:2", "64501:2"] }
"""
LYON = 'lyon = { next_hops = ["198.51.100.20", "2001:db8:1::20"], med = 20, communities = ["64501:1:2", "64501:2"] }'


def faults(folder: Path, old: str, new: str) -> str:
    """Return what is said of the configuration with one place changed."""
    assert GOOD.count(old) >= 1, old
    file = folder / "mirrord.toml"
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(BadConfig) as bad:
        load(file)
    return "\n".join(bad.value.faults)


def test_what_is_announced_is_a_plain_value(tmp_path: Path) -> None:
    """The switch and the decision get texts; what the service's mirrors are looked at by stays their own."""
    file = tmp_path / "mirrord.toml"
    file.write_text(GOOD)
    settings = load(file)
    service = settings.service("web")

    assert settings.warnings == ()
    assert (service.fence, service.ttl, service.names) == ("atomic", 0, ("www.example.org",))
    assert settings.switch("web") == BgpSettings(
        service="web",
        speaker="bird",
        prefixes=("203.0.113.0/24", "2001:db8:80::/48"),
        file="/etc/bird/mirrord/web.conf",
        socket="/run/bird/bird.ctl",
        pipes="/run/exabgp/exabgp",
    )
    assert settings.policy("web").addresses == {
        "milan": ("198.51.100.10", "2001:db8:1::10"),
        "lyon": (
            "198.51.100.20 med 20 community 64501:2 64501:1:2",
            "2001:db8:1::20 med 20 community 64501:2 64501:1:2",
        ),
    }
    assert {target.address for target in settings.targets()} == {
        "198.51.100.10", "198.51.100.20", "2001:db8:1::10", "2001:db8:1::20",
    }  # fmt: skip
    through = [(target.mirror, target.name, target.address) for target in settings.through("web", "lyon")]
    assert through == [("lyon", "www.example.org", address) for address in ("203.0.113.80", "2001:db8:80::80")]


def test_a_prefix_of_one_address_needs_no_other(tmp_path: Path) -> None:
    """A /32 says it all."""
    file = tmp_path / "mirrord.toml"
    text = GOOD.replace("203.0.113.0/24", "203.0.113.7/32").replace("2001:db8:80::/48", "2001:db8:80::7/128")
    file.write_text(re.sub(r"(?m)^addresses = \[\"203.*\n", "", text))

    found = load(file).service("web").bgp
    assert found is not None
    assert found.service_addresses == ("203.0.113.7", "2001:db8:80::7")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        pytest.param(LYON, "", 'does not say what is announced where "lyon" serves', id="a mirror is missing"),
        pytest.param(
            LYON,
            LYON + '\noslo = { next_hops = ["198.51.100.30"] }',
            "oslo: does not stand in the service's order",
            id="a mirror too many",
        ),
        pytest.param(
            LYON,
            'lyon = { next_hops = ["198.51.100.10", "2001:db8:1::10"] }',
            'announces the same as "milan": the two could not be told apart',
            id="told apart by nothing",
        ),
        pytest.param(
            LYON,
            'lyon = { next_hops = ["198.51.100.20"] }',
            "has none for 2001:db8:80::/48",
            id="no next hop of a family",
        ),
        pytest.param(
            LYON,
            'lyon = { next_hops = ["198.51.100.20", "198.51.100.21"] }',
            "should be one next hop for each family",
            id="two of a family",
        ),
        pytest.param(
            LYON,
            'lyon = { next_hops = ["203.0.113.9", "2001:db8:1::20"] }',
            "203.0.113.9 is in the prefix that leads to it",
            id="next hop in the prefix",
        ),
        pytest.param('"64501:2"', '"64501"', 'should be a community such as "65000:1"', id="no community"),
        pytest.param('"64501:2"', '"70000:2"', 'should be a community such as "65000:1"', id="community too large"),
        pytest.param(
            '["198.51.100.20", "2001:db8:1::20"]\nhttp',
            '["203.0.113.20", "2001:db8:1::20"]\nhttp',
            "which leads to whoever serves",
            id="a mirror looked at by the announced address",
        ),
        pytest.param('"203.0.113.0/24"', '"203.0.113.1/24"', "without host bits", id="host bits"),
        pytest.param('"203.0.113.0/24"', '"0.0.0.0/0"', "is the whole Internet", id="default route"),
        pytest.param(
            '["203.0.113.0/24"', '["203.0.113.0/24", "203.0.113.0/25"', "overlaps another one", id="overlapping"
        ),
        pytest.param('"203.0.113.80", ', "", "has none in 203.0.113.0/24", id="nothing to fetch from"),
        pytest.param('"203.0.113.80"', '"203.0.112.80"', "is in none of the prefixes", id="address elsewhere"),
        pytest.param('"bird"', '"birdd"', 'did you mean "bird"', id="no such speaker"),
        pytest.param("web.conf", "web;.conf", "speakers read it", id="a file name with a meaning"),
        pytest.param('order = ["milan", "lyon"]', 'order = ["milan", "lyon"]\nserve = "all"', "one mirror at a time",
                     id="shared"),
        pytest.param('order = ["milan", "lyon"]', 'order = ["milan", "lyon"]\ndrill_every = "30d"', "names in DNS",
                     id="drilled"),
        pytest.param("milan = {", "Milan = {", "should be made of a-z", id="no name"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_its_sentence(tmp_path: Path, old: str, new: str, fault: str) -> None:
    """Each of these would have readers lost, or nobody able to tell who serves."""
    assert fault in faults(tmp_path, old, new)


def test_a_prefix_of_two_services_is_refused(tmp_path: Path) -> None:
    """Each would take it from the other."""
    second = GOOD[GOOD.index("[[service]]") :].replace('"web"', '"shop"').replace("www.", "shop.")

    said = faults(tmp_path, GOOD, GOOD + second)
    assert '203.0.113.0/24 is announced by service "web" already' in said


def test_a_speaker_in_a_mirrors_place_is_a_warning(tmp_path: Path) -> None:
    """Where both fail together nobody is left who could announce another way."""
    file = tmp_path / "mirrord.toml"
    file.write_text(GOOD.replace('place = "office"', 'place = "dc-milan"'))

    assert any("bgp.speaker: stands with mirrord in" in warning for warning in load(file).warnings)
