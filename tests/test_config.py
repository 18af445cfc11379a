"""A bad configuration is answered with every fault in its own terms; a good one hands out plain values."""

from __future__ import annotations

import re
import socket
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.config import DEFAULT_FILE, Settings, find, load
from mirrord.config.lines import lines_of
from mirrord.config.loading import instance_of
from mirrord.config.units import read_duration, read_endpoint, read_public_key, read_size, show_duration, show_size
from mirrord.decide import Policy
from mirrord.errors import BadConfig, BadUsage
from mirrord.health import Target, Thresholds
from mirrord.hosts.account import Account
from mirrord.plan import Guard
from mirrord.publish import Together
from mirrord.snapshot.source import Source
from mirrord.switches import DnsSettings, Endpoint, LexiconSettings
from mirrord.trust.keys import Signers

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEvaMCCyPdqJ8ASe1QDgg2Fi3NEKkCQfIgj8JNK/q0Yo"

GOOD = f"""\
[site]
name = "example"
url = "https://www.example.org/"
[controller]
name = "home"
place = "office"
[source]
path = "public"
[signing]
key = {{ file = "signing_ed25519" }}
[state]
directory = "/var/lib/mirrord"

[[mirror]]
name = "milan"
role = "primary"
place = "dc-milan"
addresses = ["192.0.2.10"]
[mirror.sftp]
host = "192.0.2.10"
user = "mirror"
key = {{ file = "sftp_ed25519" }}
host_key = "{KEY}"

[[mirror]]
name = "lyon"
place = "dc-lyon"
addresses = ["198.51.100.20"]
[mirror.http]
port = 8443
[mirror.sftp]
host = "198.51.100.20"
user = "mirror"
key = {{ file = "sftp_ed25519" }}
host_key = "{KEY}"
root = "/srv/www"

[probe]
references = ["9.9.9.9:53"]

[[service]]
name = "web"
order = ["milan", "lyon"]
[service.dns]
zone = "example.org"
names = ["www.example.org"]
servers = ["203.0.113.53"]
tsig = {{ name = "mirrord", secret = {{ file = "tsig" }} }}
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        file = tmp_path / "mirrord.toml"
        file.write_text(text)
        return file

    return write


def by_lexicon(more: str) -> str:
    """The good file with its names at a provider."""
    text = changed('servers = ["203.0.113.53"]\n', "")
    row = f'provider = "lexicon"\nlexicon = {{ provider = "cloudflare", {more} }}\n'
    return text.replace('tsig = { name = "mirrord", secret = { file = "tsig" } }\n', row)


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) >= 1, old
    return GOOD.replace(old, new, 1)


def without(table: str) -> str:
    """GOOD without one `[table]`, up to the next."""
    return re.sub(rf"(?ms)^\[{re.escape(table)}\]\n.*?(?=^\[|\Z)", "", GOOD)


def faults(file: Path) -> list[str]:
    with pytest.raises(BadConfig) as caught:
        load(file)
    return [fault.removeprefix(f"{file.parent}/") for fault in caught.value.faults]


def test_a_good_configuration_loads_without_a_warning(write: Write) -> None:
    """Warnings that come with every configuration are read by nobody."""
    settings = load(write(GOOD))

    assert settings.warnings == ()


def test_a_fault_reads_in_the_files_own_terms(write: Write) -> None:
    """File, line, table by its name, key, what is wrong, what was meant: nothing has to be looked up at night."""
    file = write(changed('root = "/srv/www"', "prot = 22"))

    assert faults(file) == ['mirrord.toml:36: mirror "lyon": sftp.prot: unknown key; did you mean "port"?']


def test_all_faults_are_given_at_once(write: Write) -> None:
    """Each run that finds only one more fault costs a tired person another round."""
    text = changed('name = "example"', 'name = "My Site"').replace('order = ["milan"', 'order = ["milano"')
    text = text.replace('role = "primary"', 'role = "primry"').replace(
        'addresses = ["198', 'addresses = ["192.0.2.10", "198'
    )

    assert faults(write(text)) == [
        'mirrord.toml:2: site.name: should be made of a-z, 0-9 and -, at most 63 of them, is "My Site"',
        'mirrord.toml:16: mirror "milan": role: should be "primary" or "mirror", is "primry"; did you mean "primary"?',
        'mirrord.toml:43: service "web": order: entry 1: there is no mirror "milano"; did you mean "milan"?',
    ]


def test_faults_between_tables_and_within_them_are_told_together(write: Write) -> None:
    """One bad table must not hide what is wrong between the others."""
    text = changed("port = 8443", 'port = "8443"').replace('"9.9.9.9:53"', '"9.9.9.9:0"')
    text = text.replace('names = ["www.example.org"]', 'names = ["www.example.net"]')

    assert faults(write(text)) == [
        'mirrord.toml:30: mirror "lyon": http.port: should be a whole number, is "8443"',
        (
            "mirrord.toml:39: probe.references: entry 1: should be an address and a port such as"
            ' "192.0.2.1:53" or "[2001:db8::1]:53", is "9.9.9.9:0"'
        ),
        'mirrord.toml:46: service "web": dns.names: entry 1: www.example.net is not in the zone example.org',
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param(changed("[probe]", "[prob]"), '38: prob: unknown table; did you mean "probe"?', id="near table"),
        pytest.param("colour = 1\n" + GOOD, "1: colour: unknown table; known are: site,", id="far table"),
        pytest.param(
            "every = '3s'\n" + GOOD, "1: every: unknown key outside of any table; it belongs in", id="no table"
        ),
        pytest.param(
            changed("[probe]\n", '[probe]\nmax_lag = "1h"\n'), "it belongs in [snapshot]", id="other table's key"
        ),
        pytest.param(changed("[probe]\n", "[probe]\nx9 = 1\n"), "unknown key; known here: every, fall,", id="far key"),
        pytest.param(changed("[[mirror]]", "[mirror]").split("[[mirror]]")[0], "write [[mirror]]", id="single mirror"),
        pytest.param(changed("[site]", "[[site]]"), "1: site: stands once: write [site]", id="double site"),
        pytest.param(without("site"), "mirrord.toml: [site] is missing", id="no site"),
        pytest.param(changed('name = "milan"\n', ""), "14: mirror number 1: name: is missing", id="no name"),
        pytest.param(changed('user = "mirror"\n', ""), '19: mirror "milan": sftp.user: is missing', id="no user"),
        pytest.param(
            GOOD.split("[[mirror]]", maxsplit=1)[0], "there is no [[mirror]]: at least one is needed", id="no mirror"
        ),
        pytest.param(changed("https://", "ftp://"), "3: site.url: should be what readers type", id="scheme"),
        pytest.param(changed("example.org/", "example.org/blog"), "more than a site", id="url with a path"),
        pytest.param(changed('["192.0.2.10"]', "[]"), '18: mirror "milan": addresses: is empty', id="no address"),
        pytest.param(changed('["192.0.2.10"]', '["www.example.org"]'), "(no name, no port)", id="name as address"),
        pytest.param(changed('["192.0.2.10"]', '["0.0.0.0"]'), "cannot be given to readers", id="any address"),
        pytest.param(changed('["192.0.2.10"]', '"192.0.2.10"'), "should be a list in [ ], is", id="not a list"),
        pytest.param(changed('root = "/srv/www"', 'layout = "relases"'), 'did you mean "releases"?', id="layout slip"),
        pytest.param(changed('root = "/srv/www"', 'serve = "a/b"'), "should be one name inside root", id="serve"),
        pytest.param(changed('root = "/srv/www"', 'bandwidth = "1 Mbit"'), 'such as "0", "10MB"', id="size"),
        pytest.param(
            changed('root = "/srv/www"', 'bandwidth = "1MB, 22:00-07:00 0, 05:00-06:00 2MB"'),
            '"lyon": sftp.bandwidth: 22:00-07:00 and 05:00-06:00 overlap',
            id="bandwidth windows",
        ),
        pytest.param(
            changed("[probe]\n", '[publish]\ntogether = "some"\n[probe]\n'),
            'publish.together: should be "all", "none" or a number of mirrors such as 2, is "some"',
            id="together",
        ),
        pytest.param(
            changed("[probe]\n", "[publish]\ntogether = 9\n[probe]\n"),
            "publish.together: is 9, but mirrord publishes to",
            id="together more than there are",
        ),
        pytest.param(
            changed("[probe]\n", '[publish]\ngrace = "8d"\n[probe]\n'),
            'publish.grace: should be at most 7d, is "8d"',
            id="a grace of more than a week",
        ),
        pytest.param(changed('host = "192.0.2.10"', 'host = "me@192.0.2.10"'), "without user or port", id="sftp host"),
        pytest.param(changed(KEY, KEY[:-20]), "not a", id="host key cut short"),
        pytest.param(changed(KEY, "ssh-dss " + KEY.split()[1]), "has the key type 'ssh-dss'", id="host key type"),
        pytest.param(changed(KEY, "ssh-rsa " + KEY.split()[1]), "not a key of type ssh-rsa", id="host key mismatch"),
        pytest.param(changed('{ file = "tsig" }', '"c2VjcmV0"'), "never the secret itself", id="secret in the file"),
        pytest.param(changed('{ file = "tsig" }', "{ }"), "one of the two", id="secret nowhere"),
        pytest.param(
            changed('zone = "ex', 'mx = { milan = ["10 mail.example.org"] }\nzone = "ex'),
            'dns.mx: "lyon" has no MX',
            id="mail of one mirror only",
        ),
        pytest.param(
            changed('zone = "ex', 'mx = { milan = ["mail.example.org"] }\nzone = "ex'),
            "should be an MX record",
            id="MX",
        ),
        pytest.param(by_lexicon('options = {} }\nhttps = true\nmx = { x = ["1 y"]'), "only", id="hints at a provider"),
        pytest.param(changed('servers = ["203.0.113.53"]\n', ""), "dns.servers: is missing", id="no servers"),
        pytest.param(
            changed('zone = "ex', 'provider = "lexicon"\nzone = "ex'), "dns.lexicon: is missing", id="lexicon"
        ),
        pytest.param(
            changed('zone = "ex', 'lexicon = { provider = "gandi" }\nzone = "ex'),
            'dns.lexicon: has no effect with provider = "rfc2136"',
            id="lexicon with rfc2136",
        ),
        pytest.param(
            by_lexicon('options = { auth_token = "c2VjcmV0" }'), "auth_token looks like a secret", id="inline token"
        ),
        pytest.param(by_lexicon('secrets = { auth_token = "x" }'), "never the secret itself", id="lexicon's secret"),
        pytest.param(
            changed('name = "mirrord",', 'name = "mirrord", algorithm = "hmac-md5",'), '"hmac-sha512"', id="md5"
        ),
        pytest.param(
            changed("[probe]\n", '[probe]\nevery = "30"\n'), 'such as "10s", "15m", "2h" or "7d", is "30"', id="no unit"
        ),
        pytest.param(
            changed("[probe]\n", "[probe]\nfall = 0\n"), "39: probe.fall: should be at least 1, is 0", id="too small"
        ),
        pytest.param(changed("[probe]\n", "[probe]\nfall = true\n"), "should be a whole number, is true", id="bool"),
        pytest.param(changed('"203.0.113.53"', '"ns.example.org"'), "names are not looked up", id="server by name"),
        pytest.param(
            without("source"),
            '17: mirror "milan": sftp: says where to publish, but there is no [source]',
            id="no source",
        ),
        pytest.param(without("signing"), 'is a "snapshot" mirror, but there is no [signing]', id="no signing"),
        pytest.param(changed('key = { file = "signing_ed25519" }', ""), "needs key =", id="no signing key"),
        pytest.param(changed('name = "lyon"', 'name = "milan"'), "stands already at mirror number 1", id="name twice"),
        pytest.param(
            changed('name = "web"', 'name = "publishing"'), "`mirrord hold publishing`", id="a service named publishing"
        ),
        pytest.param(
            changed('name = "lyon"', 'name = "lyon"\nrole = "primary"'),
            '"milan" is the primary already',
            id="two primaries",
        ),
        pytest.param(
            changed('["198.51.100.20"]', '["192.0.2.10"]'),
            '192.0.2.10 is an address of "milan" too',
            id="address twice",
        ),
        pytest.param(
            changed('["192.0.2.10"]', '["192.0.2.10", "192.0.2.10"]'), "stands here twice", id="address again"
        ),
        pytest.param(
            changed('host = "198.51.100.20"', 'host = "192.0.2.10"').replace('root = "/srv/www"\n', ""),
            'is the same account and root as that of "milan"',
            id="account twice",
        ),
        pytest.param(
            changed('name = "lyon"', 'name = "lyon"\ncontent = "markers"'), "leave one of them out", id="cms with sftp"
        ),
        pytest.param(changed('["milan", "lyon"]', '["milan", "milan"]'), '"milan" stands here twice', id="order twice"),
        pytest.param(
            changed('["198.51.100.20"]', '["2001:db8::1"]'),
            "never leaves a name without IPv4",
            id="no IPv4 on one side",
        ),
        pytest.param(
            changed('["9.9.9.9:53"]', '["[2620:fe::fe]:53"]'),
            "could ever be found down by IPv4",
            id="no IPv4 reference",
        ),
        pytest.param(
            changed('names = ["www.example.org"]', 'names = ["www.example.org", "WWW.example.org."]'),
            "www.example.org stands here already",
            id="name twice in a service",
        ),
        pytest.param(
            GOOD + GOOD[GOOD.index("[[service]]") :].replace('"web"', '"mail"'),
            'www.example.org stands in service "web" already',
            id="name in two services",
        ),
        pytest.param(
            changed('place = "office"', 'place = "dc-milan"').replace('["9.9.9.9:53"]', "[]"),
            'controller.place: "dc-milan" is the place of "milan" too',
            id="beside the primary without references",
        ),
        pytest.param(
            changed('"/var/lib/mirrord"', '"public/state"'), "own state would be published", id="state in source"
        ),
        pytest.param(
            changed('path = "public"', 'path = "/var/lib/mirrord/x"'), "is mirrord's own", id="source in state"
        ),
        pytest.param(
            GOOD + f'[control]\nsocket = "/run/{"x" * 120}/s"\n', "107 bytes that a unix socket", id="long socket path"
        ),
    ],
)
def test_each_fault_is_refused_with_its_sentence(write: Write, text: str, fault: str) -> None:
    """What cannot work is found before anything is started, and told so that it can be mended."""
    found = faults(write(text))

    assert any(fault in line for line in found), found


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        pytest.param(changed('["milan", "lyon"]', '["milan"]'), "there is nowhere to go", id="one mirror"),
        pytest.param(changed('"dc-lyon"', '"dc-milan"'), "fail together", id="one place"),
        pytest.param(
            changed('place = "office"', 'place = "dc-milan"'), 'is the place of "milan" too', id="beside the primary"
        ),
        pytest.param(changed('place = "office"\n', ""), "has no place", id="controller nowhere"),
        pytest.param(changed('["9.9.9.9:53"]', "[]"), "every mirror looks down", id="no references"),
        pytest.param(changed('role = "primary"\n', ""), 'no mirror has role = "primary"', id="no primary"),
        pytest.param(
            changed('["192.0.2.10"]', '["192.0.2.10", "2001:db8::1"]'), "readers with only IPv6", id="IPv6 on one side"
        ),
        pytest.param(
            changed('["192.0.2.10"]', '["192.0.2.10", "2001:db8::1"]'), "never judged", id="no IPv6 reference"
        ),
        pytest.param(changed('zone = "example.org"', 'zone = "example.org"\nttl = 5'), "below 30 s", id="short ttl"),
        pytest.param(
            changed('zone = "example.org"', 'zone = "example.org"\nttl = 7200'), "for up to 2h", id="long ttl"
        ),
        pytest.param(
            changed('["www.example.org"]', '["w.example.org"]'),
            "its readers are not moved",
            id="site's name in no service",
        ),
        pytest.param(
            changed("https:", "http:").replace("port = 8443", 'ca_file = "/x"'), "without TLS", id="ca without tls"
        ),
        pytest.param(
            changed("port = 8443", 'ca_file = "/nowhere/ca.pem"'), "/nowhere/ca.pem is not there", id="no ca file"
        ),
        pytest.param(changed("port = 8443", "port = 80"), "TLS is expected there", id="port 80"),
        pytest.param(
            changed("port = 8443", 'markers = [{ contains = "x" }]'), "have no effect", id="markers on a snapshot"
        ),
        pytest.param(
            changed("[probe]\n", '[probe]\ntimeout = "40s"\n'), "one slow mirror stretches", id="timeout beyond every"
        ),
        pytest.param(
            changed("[probe]\n", '[probe]\nsuspicious_every = "40s"\n'),
            'has no effect: probe.every = "30s" is sooner',
            id="no hurry",
        ),
        pytest.param(
            changed('name = "web"', 'name = "web"\ndwell = "2h"'),
            "has no effect: the dwell begins with 2h",
            id="dwell beyond its longest",
        ),
        pytest.param(GOOD + '[snapshot]\nmax_lag = "15m"\n', "has no time to follow", id="lag as short as every"),
        pytest.param(GOOD + '[web]\nlisten = "127.0.0.1:8420"\n', "no operator's page yet", id="web"),
        pytest.param(GOOD.split("[[service]]", maxsplit=1)[0], "moves nobody", id="no service"),
        pytest.param(
            changed('key = { file = "signing_ed25519" }', f'accept = ["{KEY}"]'), "not publish", id="no signing key"
        ),
        pytest.param(
            GOOD + '[[mirror]]\nname = "cms"\naddresses = ["203.0.113.9"]\n',
            "it will never be given readers",
            id="in no order",
        ),
        pytest.param(
            GOOD + '[[mirror]]\nname = "cms"\naddresses = ["203.0.113.9"]\n',
            'any page with status 200 at "/"',
            id="no markers",
        ),
    ],
)
def test_what_a_person_should_know_is_a_warning(write: Write, text: str, warning: str) -> None:
    """What works, but not as one might believe, is told and lived with."""
    settings = load(write(text))

    assert any(warning in line for line in settings.warnings), settings.warnings
    assert all(re.match(r".*/mirrord\.toml(:\d+)?: ", line) for line in settings.warnings)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param('[site]\nname = "x\n', "2: is not TOML: Illegal character", id="quote"),
        pytest.param("[probe]\nevery = 15m\n", '; put the value in quotes: key = "value"', id="no quotes"),
        pytest.param("[site]\n[site]\n", "mirrord.toml:2: is not TOML: [site] stands twice", id="twice"),
        pytest.param("[probe]\nrise = 2\nrise = 3\n", "mirrord.toml:3: is not TOML: rise stands twice", id="key twice"),
        pytest.param("[mirror]\n[[mirror]]\n", "2: is not TOML: [[mirror]] stands above already", id="two kinds"),
        pytest.param(
            '[[mirror]]\nname = "milan"\n[mirror.sftp]\n\n[mirror.sftp]\n',
            "5: is not TOML: [mirror.sftp] stands twice; each mirror and each service begins with",
            id="a forgotten head",
        ),
        pytest.param("[site]\nx = [1,\n", "mirrord.toml:2: is not TOML:", id="end of file"),
        pytest.param("", "mirrord.toml: [site] is missing", id="empty"),
    ],
)
def test_a_file_that_is_no_toml_is_refused_with_its_line(write: Write, text: str, fault: str) -> None:
    """The commonest slip is a missing quote; the line is what helps."""
    assert fault in faults(write(text))[0]


def test_a_mark_in_front_of_the_text_is_passed_over(tmp_path: Path) -> None:
    """Editors on other systems write one; nobody sees it."""
    file = tmp_path / "mirrord.toml"
    file.write_text(GOOD, encoding="utf-8-sig")

    assert load(file).site.name == "example"


def test_a_file_that_is_not_there_says_how_to_begin(tmp_path: Path) -> None:
    """The first thing anybody types is a verb without a configuration."""
    [fault] = faults(tmp_path / "mirrord.toml")

    assert fault == (
        "mirrord.toml: no such file; name the configuration with -c FILE or MIRRORD_CONFIG, or begin with:"
        f" mirrord config example > {tmp_path}/mirrord.toml"
    )


def test_a_file_that_is_not_utf_8_names_the_line(tmp_path: Path) -> None:
    """TOML is UTF-8; an old editor's Latin-1 must not end in a traceback."""
    (tmp_path / "mirrord.toml").write_bytes(b'[site]\nname = "caf\xe9"\n')

    assert faults(tmp_path / "mirrord.toml") == ["mirrord.toml:2: is not UTF-8 text"]


def test_the_file_is_found_by_flag_then_environment_then_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person types wins over what the shell has, and that over the system's place."""
    monkeypatch.delenv("MIRRORD_CONFIG", raising=False)
    assert find(None) == DEFAULT_FILE == Path("/etc/mirrord/mirrord.toml")

    monkeypatch.setenv("MIRRORD_CONFIG", "/env/mirrord.toml")
    assert find(None) == Path("/env/mirrord.toml")
    assert find(Path("flag.toml")) == Path("flag.toml")


def test_defaults_come_from_where_mirrord_runs(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit file says once where state and socket are; the configuration need not repeat it."""
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/mirrord/blog")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/mirrord-blog")

    settings = load(write(without("state").replace('name = "home"\n', "")))

    assert settings.state.directory == Path("/var/lib/mirrord/blog")
    assert settings.control.socket == Path("/run/mirrord-blog/control.sock")
    assert settings.controller.name == socket.gethostname()


def test_without_systemd_the_usual_places_are_taken(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb typed in a shell must find the state and the socket of the daemon."""
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)

    settings = load(write(without("state")))

    assert settings.state.directory == Path("/var/lib/mirrord")
    assert settings.control.socket == Path("/run/mirrord/control.sock")


@pytest.mark.parametrize(
    ("file", "instance"),
    [
        ("/etc/mirrord/mirrord.toml", None),
        ("/etc/mirrord/blog.toml", "blog"),
        ("/etc/mirrord/blog.toml.bak", None),
        ("/home/anna/blog.toml", None),
    ],
)
def test_a_site_of_its_own_unit_is_known_by_its_file(file: str, instance: str | None) -> None:
    """`mirrord@blog` and a verb typed for it must meet; two sites in one state folder would overwrite each other."""
    assert instance_of(Path(file)) == instance


def test_each_site_has_its_own_state_and_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `mirrord@.service` gives them, also to verbs that systemd does not start."""
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    text = tomllib.loads(without("state"))

    settings = Settings.model_validate(text, context={"folder": Path("/etc/mirrord"), "instance": "blog"})

    assert settings.state.directory == Path("/var/lib/mirrord/blog")
    assert settings.control.socket == Path("/run/mirrord-blog/control.sock")


def test_relative_paths_start_at_the_files_folder(write: Write, tmp_path: Path) -> None:
    """The daemon's working folder is /, the operator's is anywhere; the file's own folder is the same for both."""
    settings = load(write(GOOD))

    assert settings.source_value() == Source(tmp_path / "public")


def test_a_machine_without_a_source_says_so(write: Write) -> None:
    """A laptop that only switches is asked to publish by a slip only."""
    text = re.sub(r"(?ms)^\[mirror\.sftp\]\n.*?(?=^\[)", "", without("source"))

    with pytest.raises(BadConfig, match=r"there is no \[source\]: this machine has nothing to take snapshots of"):
        load(write(text)).source_value()


@pytest.mark.parametrize(
    ("url", "port"),
    [("https://www.example.org/", 443), ("http://www.example.org", 80), ("https://www.example.org:8443/", 8443)],
)
def test_the_port_to_look_at_follows_the_sites_url(write: Write, url: str, port: int) -> None:
    """What readers type says where mirrors are looked at, unless a mirror says otherwise."""
    settings = load(write(changed("https://www.example.org/", url)))

    assert {target.mirror: target.port for target in settings.targets()} == {"milan": port, "lyon": 8443}


def test_content_follows_from_sftp(write: Write) -> None:
    """A mirror that we do not publish to cannot be held to our snapshots, unless the file says so."""
    cms = '[[mirror]]\nname = "cms"\naddresses = ["203.0.113.9"]\n'
    signed = '[[mirror]]\nname = "friend"\ncontent = "snapshot"\naddresses = ["203.0.113.8"]\n'

    settings = load(write(GOOD + cms + signed))

    assert [mirror.content for mirror in settings.mirrors] == ["snapshot", "snapshot", "markers", "snapshot"]
    assert [mirror.name for mirror in settings.published()] == ["milan", "lyon"]


def test_plain_values_are_handed_out(write: Write) -> None:
    """The core knows nothing of files: it gets values that its own modules define."""
    settings = load(write(changed('["192.0.2.10"]', '["192.0.2.10", "2001:DB8::1"]')))

    assert settings.identity == "www.example.org"
    assert settings.guard() == Guard(removed_percent=10, removed_files=10)
    assert settings.thresholds() == Thresholds()
    assert settings.policy("web") == Policy(
        service="web",
        order=("milan", "lyon"),
        places={"milan": "dc-milan", "lyon": "dc-lyon"},
        addresses={"milan": ("192.0.2.10", "2001:db8::1"), "lyon": ("198.51.100.20",)},
    )
    assert settings.targets() == (
        Target("milan", "web", "www.example.org", "192.0.2.10"),
        Target("milan", "web", "www.example.org", "2001:db8::1"),
        Target("lyon", "web", "www.example.org", "198.51.100.20", port=8443),
    )


def test_opting_out_of_references_reaches_the_judgement(write: Write) -> None:
    """Without references every family counts as judged; that must be what the operator wrote, never a slip."""
    settings = load(write(changed('["9.9.9.9:53"]', "[]")))

    assert settings.thresholds().references is False


def test_a_mirror_of_no_service_is_looked_at_under_the_sites_name(write: Write) -> None:
    """A mirror that is being prepared can be checked before readers are sent there."""
    settings = load(write(changed('["milan", "lyon"]', '["milan"]')))

    assert settings.targets()[1] == Target("lyon", "", "www.example.org", "198.51.100.20", port=8443)


def test_a_service_knows_its_zone(write: Write, tmp_path: Path) -> None:
    """What moves readers gets plain values; the secret is read when an update is sent, never before."""
    dns = load(write(GOOD)).switch("web")
    assert isinstance(dns, DnsSettings)

    assert (dns.zone, dns.names, dns.ttl) == ("example.org", ("www.example.org",), 60)
    assert (dns.servers, dns.authoritative) == ((Endpoint("203.0.113.53", 53),), ())
    assert (dns.tsig.name, dns.tsig.algorithm) == ("mirrord", "hmac-sha256")
    (tmp_path / "tsig").write_text("c2VjcmV0\n")
    assert dns.tsig.secret() == "c2VjcmV0"


def test_a_service_at_a_provider_knows_how_to_reach_it(write: Write, tmp_path: Path) -> None:
    """Options are plain, secrets are read when the provider is asked, and the fence is no more than it is."""
    settings = load(write(by_lexicon('options = { zone_id = "7" }, secrets = { auth_token = { file = "token" } }')))
    found = settings.switch("web")
    assert isinstance(found, LexiconSettings)

    assert (found.provider, found.options, found.timeout) == ("cloudflare", {"zone_id": "7"}, 20.0)
    (tmp_path / "token").write_text("c2VjcmV0\n")
    assert found.secrets["auth_token"]() == "c2VjcmV0"
    assert settings.service("web").fence == "best-effort"


def test_an_account_has_all_it_takes_to_log_in(write: Write, tmp_path: Path) -> None:
    """The key is fetched when somebody logs in; until then nobody holds it."""
    account = load(write(GOOD)).account("lyon")

    (tmp_path / "sftp_ed25519").write_text("key")
    assert account.key() == b"key"
    assert account == Account(
        mirror="lyon", host="198.51.100.20", user="mirror", host_key=KEY, root="/srv/www", key=account.key
    )


def test_nobody_publishes_to_a_mirror_without_an_account(write: Write) -> None:
    """A CMS has no account; asking for it is a slip of the command line."""
    settings = load(write(GOOD + '[[mirror]]\nname = "cms"\naddresses = ["203.0.113.9"]\n'))

    with pytest.raises(BadUsage, match=r"cms: publishing there: .* has no \[mirror.sftp\] for it"):
        settings.account("cms")


def test_our_own_signature_counts_and_the_accepted_ones(write: Write, tmp_path: Path) -> None:
    """After a change of keys what was signed with the old one is still ours."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "signing_ed25519"], check=True)
    own = " ".join((tmp_path / "signing_ed25519.pub").read_text().split()[:2])

    settings = load(write(changed("[signing]\n", f'[signing]\naccept = ["{KEY} old"]\n')))

    assert settings.signers() == Signers.of([KEY, own])
    assert settings.signing_key_is_here()


def test_a_signing_key_that_is_gone_is_an_error_not_a_stranger(write: Write) -> None:
    """Without its own key every mirror would look altered; no judgement is better than that one."""
    settings = load(write(changed("[signing]\n", f'[signing]\naccept = ["{KEY}"]\n')))

    with pytest.raises(BadConfig, match="the signing key is not there"):
        settings.signers()
    assert not settings.signing_key_is_here()


def test_a_machine_that_only_looks_needs_no_private_key(write: Write) -> None:
    """A laptop in an outage checks and switches with the public half."""
    settings = load(write(changed('key = { file = "signing_ed25519" }', f'accept = ["{KEY}"]')))

    assert settings.signers() == Signers.of([KEY])
    with pytest.raises(BadConfig, match="this machine cannot sign snapshots"):
        settings.signing_key()


def test_an_unknown_mirror_or_service_names_the_known_ones(write: Write) -> None:
    """A verb's argument is mistyped more often than the configuration."""
    settings = load(write(GOOD))

    with pytest.raises(BadUsage, match=r'there is no mirror "lyons" in .*; there are: milan, lyon'):
        settings.mirror("lyons")
    with pytest.raises(BadUsage, match=r'there is no service "www" in .*; there are: web'):
        settings.service("www")


def test_settings_are_frozen(write: Write) -> None:
    """What was checked is what runs."""
    settings = load(write(GOOD))

    with pytest.raises(ValueError, match="frozen"):
        settings.probe.fall = 1


def test_what_is_shown_loads_again_and_means_the_same(write: Write) -> None:
    """`config show` prints the settings in force in the file's own terms."""
    first = load(write(GOOD))

    second = Settings.model_validate(first.shown())

    assert second.shown() == first.shown()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("15m", 900), ("2h", 7200), ("7d", 604800), ("0.5s", 0.5), (" 3 m ", 180), ("0s", 0)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """The contract's four units."""
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", 10, "1h30m", "-1s", "1w", "s", None, True, "1e3s"])
def test_what_is_no_duration_is_refused(text: object) -> None:
    """A number without a unit is milliseconds to one and minutes to another."""
    with pytest.raises(ValueError, match="should be a duration"):
        read_duration(text)


@pytest.mark.parametrize("text", ["36501d", "99999999999999d", "9" * 400 + "s"])
def test_a_duration_that_no_calendar_has_room_for_is_refused(text: str) -> None:
    """A hold until the year 273,790,922 could not be shown, so neither could anything else."""
    with pytest.raises(ValueError, match="should be at most 36500d"):
        read_duration(text)


@given(st.integers(0, 10**7))
def test_a_duration_shown_is_read_back(seconds: int) -> None:
    """What `config show` prints can be pasted into the file."""
    assert read_duration(show_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), (0, 0), ("10MB", 10**7), ("1GiB", 2**30), ("1.5 kB", 1500), ("3KB", 3000), ("7B", 7), ("2TiB", 2**41)],
)
def test_sizes_are_read(text: object, size: int) -> None:
    """Powers of ten without an i, of two with it."""
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", -1, "10Mb/s", True, None, 1.5])
def test_what_is_no_size_is_refused(text: object) -> None:
    """A bit is not a byte."""
    with pytest.raises(ValueError, match="should be a size"):
        read_size(text)


@given(st.integers(0, 2**50))
def test_a_size_shown_is_read_back(size: int) -> None:
    """What `config show` prints can be pasted into the file."""
    assert read_size(show_size(size)) == size


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("192.0.2.1:853", Endpoint("192.0.2.1", 853)),
        ("192.0.2.1", Endpoint("192.0.2.1", 53)),
        ("[2001:DB8::1]:5353", Endpoint("2001:db8::1", 5353)),
        ("[2001:db8::1]", Endpoint("2001:db8::1", 53)),
        ("2001:db8::1", Endpoint("2001:db8::1", 53)),
    ],
)
def test_endpoints_are_read(text: str, endpoint: Endpoint) -> None:
    """IPv6 with a port needs brackets (RFC 3986 section 3.2.2), without one it may go without."""
    assert read_endpoint(text) == endpoint


@pytest.mark.parametrize("text", ["", ":53", "ns1:53", "192.0.2.1:", "192.0.2.1:65536", "[192.0.2.1", "1.2.3:5", 53])
def test_what_is_no_endpoint_is_refused(text: object) -> None:
    """A name here would need DNS just when DNS is what is broken."""
    with pytest.raises(ValueError, match="should be an address and a port"):
        read_endpoint(text)


@pytest.mark.parametrize(
    "line", [KEY, f"{KEY} comment", f"[192.0.2.10]:2222 {KEY}", f"example.org,192.0.2.10 {KEY} root@example"]
)
def test_a_host_key_is_taken_as_known_hosts_and_keyscan_write_it(line: str) -> None:
    """People paste whole lines."""
    assert read_public_key(line) == KEY


def every_place(value: Any, place: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The place of everything in a parsed document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, below in inner for found in [(*place, key), *every_place(below, (*place, key))]]


TRICKY = '''\
# [not.a.table]
top = "a # no comment"  # a comment
"quoted key" = 'x = 1'
a.b.c = 1
[table] # [no]
text = """
[not.a.table]
no = \\"key\\"
"""
raw = \'\'\'
x = 1\'\'\'
numbers = [ 1, # one
  [2, 3], ]
inline = { a = [ { b = "}" } ], c.d = 2 }
[[list]]
[list.inner]
k = 1979-05-27T07:32:00Z
[[list.rows]]
r = 1
[[list.rows]]
r = 2
[[list]]
[list.inner]
k = 3
'''


def test_every_key_is_found_on_its_line() -> None:
    """A fault on the wrong line is worse than one without a line."""
    lines = lines_of(TRICKY)

    assert set(every_place(tomllib.loads(TRICKY))) == set(lines)
    rows = TRICKY.splitlines()
    for place, line in lines.items():
        names = [step for step in place if isinstance(step, str)]
        if place[:1] != ("table",) or len(place) == 1:
            assert names[-1] in rows[line - 1], place
    assert lines["list", 1, "inner", "k"] == 24
    assert lines["list", 0, "rows", 1, "r"] == 21
    assert lines["table", "numbers", 1] == 13
    assert lines["table", "inline", "a", 0, "b"] == 14


_KEYS = st.text("abcxyz-_", min_size=1, max_size=4)
_VALUES = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.text("a\"'#=[]{},.\\\n é", max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=8,
)


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[\n" + ",".join(toml(inner) + " # ]\n" for inner in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    return str(value)


@given(st.dictionaries(_KEYS, st.dictionaries(_KEYS, _VALUES, max_size=3), max_size=3))
def test_no_document_confuses_the_line_index(document: dict[str, dict[str, Any]]) -> None:
    """Whatever tomllib reads, each of its keys has a line and nothing else has one."""
    text = ""
    for name, table in document.items():
        text += f"[{name}]\n"
        for key, value in table.items():
            # an inline table must stay on one line: TOML 1.0
            written = toml(value)
            text += (
                f"{key} = " + (written.replace(" # ]\n", "").replace("[\n", "[") if "{" in written else written) + "\n"
            )
    parsed = tomllib.loads(text)

    assert set(lines_of(text)) == set(every_place(parsed))


@pytest.mark.parametrize(
    ("said", "needed"),
    [
        pytest.param('"none"', 0, id="none"),
        pytest.param('"all"', None, id="all"),
        pytest.param("1", 1, id="a number"),
        pytest.param('"1"', 1, id="a number in quotes"),
    ],
)
def test_who_waits_for_whom_is_read(write: Write, said: str, needed: int | None) -> None:
    """A number may stand in quotes, as the other two values do."""
    settings = load(write(changed("[probe]\n", f'[publish]\ntogether = {said}\ntogether_wait = "5m"\n[probe]\n')))

    assert settings.together() == Together(needed, 300.0)
