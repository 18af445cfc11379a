from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mirrord.errors import BadConfig, Refused, Unavailable
from mirrord.journal import Journal
from mirrord.switches import Kind, LexiconSettings, SentKind, ZoneState, open_switch
from mirrord.switches.lexicon import _value
from mirrord.switches.transaction import Patience
from tests.conftest import Lab
from tests.lab.api import ApiDoor
from tests.lab.nameserver import NameServer
from tests.lab.ports import free_port
from tests.lab.powerdns import PowerDns
from tests.lexicon_to_be_killed import WWW, lexicon
from tests.switching import NAMES, TEXT, Desk, endpoint, human

ROOT = Path(__file__).resolve().parent.parent
MILAN, LYON = "192.0.2.10", "198.51.100.20"
WRITES = 5
"""Of a move from milan to lyon: our TXT comes, an address comes, A and AAAA go, the old TXT goes."""


@pytest.fixture(scope="module")
def servers(module_lab: Lab) -> tuple[NameServer, ...]:
    """PowerDNS with its interface, and a secondary that follows it; every test puts its zone back."""
    return module_lab.followed(PowerDns, PowerDns, text=TEXT)


@pytest.fixture
def pdns(servers: tuple[NameServer, ...]) -> PowerDns:
    """The primary, as if mirrord was never there."""
    primary = servers[0]
    assert isinstance(primary, PowerDns)
    for name in ("www", "@"):
        human(primary, ("replace", name, 300, "A", MILAN), ("replace", name, 300, "AAAA", "2001:db8::10"))
    human(primary, ("delete", "_mirrord.www"), ("delete", "_mirrord"))
    return primary


@pytest.fixture
def door(pdns: PowerDns) -> Iterator[ApiDoor]:
    """The way to the interface."""
    with ApiDoor(pdns.api_port) as door:
        yield door


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal."""
    journal = Journal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


def controller_of(journal: Journal, door: ApiDoor, pdns: PowerDns, timeout: float = 20.0) -> Desk:
    """A controller that moves `www` through the door."""
    settings = lexicon(door.url, pdns.token, endpoint(pdns), timeout=timeout)
    return Desk(open_switch(settings), journal, patience=Patience(commit=0.2, follow=5.0))


@pytest.fixture
def at_milan(journal: Journal, door: ApiDoor, pdns: PowerDns) -> Desk:
    """A controller that has taken the name over, as it stood, at milan."""
    controller = controller_of(journal, door, pdns)
    assert controller.move("milan").kind is Kind.DONE
    door.writes = 0
    return controller


def fences(server: NameServer) -> list[str]:
    """Return the targets that stand in the TXT beside `www`."""
    texts = server.query(f"_mirrord.{WWW}", "TXT")
    return sorted(word.removeprefix("target=") for text in texts for word in text.split() if word.startswith("target="))


# -- a whole switch


def test_names_are_moved_through_a_providers_interface(
    servers: tuple[NameServer, ...], door: ApiDoor, journal: Journal, pdns: PowerDns
) -> None:
    """The primary's interface takes it, the secondary follows, and both are asked by DNS what readers get."""
    followers = tuple(endpoint(server) for server in servers)
    both = replace(lexicon(door.url, pdns.token), authoritative=followers, names=NAMES)
    controller = Desk(open_switch(both), journal)
    first = controller.move("milan")
    moved = controller.move("lyon")
    back = controller.move("oslo")

    assert (first.kind, moved.kind, back.kind) == (Kind.DONE, Kind.DONE, Kind.DONE)
    assert set(back.followers) == {str(endpoint(server)) for server in servers}
    for server in servers:
        for name in NAMES:
            assert server.query(name, "A") == {"203.0.113.30", "203.0.113.31"}
            assert server.query(name, "AAAA") == {"2001:db8::30"}
        assert fences(server) == ["oslo"]
    assert controller.look().comparison.state is ZoneState.OURS
    assert moved.follow_by == (moved.committed or 0) + 300


def test_at_no_moment_is_a_name_without_an_address(at_milan: Desk, door: ApiDoor, pdns: PowerDns) -> None:
    """What is new is put beside what stands before that is taken away, and our TXT stands beside all that is mixed."""
    seen: list[tuple[set[str], list[str]]] = []

    def watch(method: str, writes: int) -> None:
        if method == "PATCH":
            seen.append((pdns.query(WWW, "A"), fences(pdns)))

    door.on_request = watch
    result = at_milan.move("lyon")

    assert result.kind is Kind.DONE
    assert seen == [
        ({MILAN}, ["milan"]),
        ({MILAN}, ["lyon", "milan"]),
        ({MILAN, LYON}, ["lyon", "milan"]),
        ({LYON}, ["lyon", "milan"]),
        ({LYON}, ["lyon", "milan"]),
    ]
    assert len(seen) == WRITES


# -- killed, failed, refused


def test_killed_between_any_two_calls_the_next_start_finishes_it(
    at_milan: Desk, door: ApiDoor, pdns: PowerDns, tmp_path: Path
) -> None:
    """SIGKILL as each write is about to arrive: what stands is recognised as this plan's, and comes to its end."""
    wrong: list[str] = []
    stood: list[set[str]] = []
    targets = ["lyon", "milan"] * WRITES
    for fatal, target in zip(range(WRITES), targets, strict=False):
        door.writes = 0
        command = [sys.executable, "-m", "tests.lexicon_to_be_killed", str(tmp_path / "journal.sqlite")]
        child = subprocess.Popen([*command, door.url, pdns.token, str(pdns.port), target], cwd=ROOT)

        def kill(method: str, writes: int, fatal: int = fatal, pid: int = child.pid) -> int | None:
            if method != "PATCH" or writes != fatal:
                return None
            os.kill(pid, signal.SIGKILL)
            return 500

        door.on_request = kill
        died = child.wait(30.0)
        door.on_request = lambda _method, _writes: None
        stood.append(pdns.query(WWW, "A"))
        found = at_milan.resolve()
        good = found is not None and (found.kind, found.change.target) == (Kind.DONE, target)
        if died != -signal.SIGKILL or not good:
            wrong.append(f"killed before write {fatal}: {died}, {found}")

    assert not wrong
    assert stood == [{MILAN}, {LYON}, {MILAN, LYON}, {MILAN, LYON}, {LYON}]
    assert at_milan.look().comparison.state is ZoneState.OURS
    assert (pdns.query(WWW, "A"), fences(pdns)) == ({LYON}, ["lyon"])


@pytest.mark.parametrize(
    ("status", "after"),
    [(500, 0), (401, 0), (500, 2), (0, 2)],
    ids=["500 at the first write", "401 at the first write", "500 half way", "silence half way"],
)
def test_an_interface_that_fails_leaves_nothing_unknown_for_long(
    journal: Journal, at_milan: Desk, door: ApiDoor, pdns: PowerDns, status: int, after: int
) -> None:
    """Before anything was taken the plan is closed or tried again; half way it stays open, and the next try ends it."""
    controller = controller_of(journal, door, pdns, timeout=1.0 if status == 0 else 20.0)
    started = time.monotonic()
    controller.look()
    start_up = time.monotonic() - started
    door.on_request = lambda method, writes: status if method == "PATCH" and writes >= after else None

    began = time.monotonic()
    result = controller.move("lyon")
    took = time.monotonic() - began
    assert result.kind is (Kind.UNCHANGED if (status, after) == (401, 0) else Kind.UNKNOWN), result.text
    assert took < 12 + 6 * start_up
    assert pdns.token not in result.text
    assert MILAN in pdns.query(WWW, "A")
    door.on_request = lambda _method, _writes: None
    found = controller.resolve()
    assert (found.kind if found else controller.move("lyon").kind) is Kind.DONE
    assert (pdns.query(WWW, "A"), fences(pdns)) == ({LYON}, ["lyon"])


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [(500, SentKind.UNSENT, 75), (401, SentKind.REFUSED, 5), (0, SentKind.UNSENT, 75)],
    ids=["500", "401", "silence"],
)
def test_an_interface_that_is_down_when_a_move_begins_changes_nothing(
    journal: Journal, at_milan: Desk, door: ApiDoor, pdns: PowerDns, status: int, kind: SentKind, code: int
) -> None:
    """A control plane that fails just now is the usual thing in an outage: it is said, and tried again later."""
    controller = controller_of(journal, door, pdns, timeout=1.0 if status == 0 else 20.0)
    change = at_milan.plan("lyon")
    door.on_request = lambda _method, _writes: status

    result = controller.run(change)
    assert result.sent is not None
    assert (result.kind, result.sent.kind, result.exit_code) == (Kind.UNCHANGED, kind, code)
    assert journal.intent("web") is None
    with pytest.raises(Unavailable, match=r"web: reading example\.org"):
        controller.switch.read()


def test_an_interface_that_is_not_there_is_told(journal: Journal, pdns: PowerDns) -> None:
    """Connection refused, in one sentence, without the library's own words about sockets filling a screen."""
    gone = open_switch(lexicon(f"http://127.0.0.1:{free_port()}", pdns.token))

    with pytest.raises(Unavailable, match="powerdns by lexicon: ConnectionError"):
        gone.read()


# -- somebody else


def test_what_somebody_changed_before_is_not_overwritten(at_milan: Desk, door: ApiDoor, pdns: PowerDns) -> None:
    """The plan expects what we left: at anything else nothing is written, not even a claim."""
    change = at_milan.plan("lyon")
    human(pdns, ("replace", "www", 60, "A", "192.0.2.99"))

    result = at_milan.run(change)
    assert (result.kind, result.exit_code) == (Kind.UNCHANGED, 5)
    assert "A is 192.0.2.99 where we left 192.0.2.10" in result.text
    assert (pdns.query(WWW, "A"), fences(pdns), door.writes) == ({"192.0.2.99"}, ["milan"], 0)


def test_who_comes_between_the_look_and_the_claim_is_seen_and_the_claim_taken_back(
    at_milan: Desk, door: ApiDoor, pdns: PowerDns
) -> None:
    """Another controller was as quick as we: no address was touched, and the claim goes."""

    def meddle(method: str, writes: int) -> None:
        if method == "PATCH" and writes == 0:
            human(pdns, ("replace", "www", 60, "A", "192.0.2.99"))

    door.on_request = meddle
    result = at_milan.move("lyon")

    assert result.kind is Kind.UNCHANGED
    assert result.sent is not None
    assert "our claim was taken back" in result.sent.text
    assert (pdns.query(WWW, "A"), fences(pdns)) == ({"192.0.2.99"}, ["milan"])


def test_what_somebody_adds_half_way_stays_and_is_told(at_milan: Desk, door: ApiDoor, pdns: PowerDns) -> None:
    """Without compare-and-set nobody can keep them out: what they wrote is not ours to remove, and it is told."""

    def meddle(method: str, writes: int) -> None:
        if method == "PATCH" and writes == WRITES - 1:
            human(pdns, ("add", "www", 60, "A", "192.0.2.99"))

    door.on_request = meddle
    result = at_milan.move("lyon")

    assert (result.kind, result.exit_code) == (Kind.PARTIAL, 3)
    assert "not all of it stands" in result.text
    assert pdns.query(WWW, "A") == {LYON, "192.0.2.99"}
    assert at_milan.look().comparison.state is ZoneState.FOREIGN


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("v=1 epoch=2 target=lyon", "v=1 epoch=2 target=lyon"),
        ('"v=1 epoch=2 target=lyon"', "v=1 epoch=2 target=lyon"),
        ('"v=1 epoch=2 " "target=lyon"', "v=1 epoch=2 target=lyon"),
        (r'"say \"lyon\""', 'say "lyon"'),
    ],
    ids=["plain", "quoted", "in pieces", "with quotes inside"],
)
def test_a_txt_is_read_however_a_provider_writes_it(written: str, read: str) -> None:
    """Each has its own way with quotes; taken at its word, our own TXT would be a stranger's."""
    assert _value("TXT", written) == (read,)


# -- credentials and settings


def test_credentials_are_proven_by_writing_what_stands(at_milan: Desk, door: ApiDoor, pdns: PowerDns) -> None:
    """A token that may only read is found out before it is needed."""
    before = at_milan.look().zone

    at_milan.switch.prove()
    assert at_milan.look().zone.names == before.names
    assert door.writes == 1
    door.on_request = lambda method, _writes: 403 if method == "PATCH" else None
    with pytest.raises(Refused, match="403"):
        at_milan.switch.prove()


def test_a_wrong_token_is_refused_and_stands_in_no_sentence(journal: Journal, door: ApiDoor) -> None:
    """The library's own sentences carry what they were given."""
    wrong = open_switch(lexicon(door.url, "no-such-token-1234"))

    with pytest.raises(Unavailable) as caught:
        wrong.read()
    assert "401" in str(caught.value)
    assert "no-such-token" not in str(caught.value)
    assert "no-such-token" not in repr(lexicon(door.url, "no-such-token-1234"))


def test_a_provider_for_which_something_is_missing_is_told_what_to_install() -> None:
    """Some providers need more libraries; lexicon alone would only say that a name is not defined."""
    lacking = open_switch(replace(lexicon("", "x"), provider="route53", options={}, secrets={}))

    with pytest.raises(Unavailable, match=r"pip install 'dns-lexicon\[route53\]'"):
        lacking.read()


def test_a_secret_that_the_library_repeats_is_taken_out_of_its_sentence(door: ApiDoor) -> None:
    """Providers put tokens into addresses, and `requests` puts addresses into its errors."""
    door.on_request = lambda _method, _writes: 500
    settings = lexicon(door.url, "token")
    secrets = {**settings.secrets, "pdns_server": lambda: f"{door.url}/s3cret"}

    with pytest.raises(Unavailable, match=r"500 Server Error.*\*\*\*") as caught:
        open_switch(replace(settings, options={}, secrets=secrets)).read()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("provider", "says"),
    [
        ("ddns", 'use provider = "rfc2136"'),
        ("auto", "say which provider it is"),
        ("nosuch", 'lexicon knows no provider "nosuch"'),
        ("os.path", 'lexicon knows no provider "os.path"'),
    ],
)
def test_a_provider_that_cannot_be_used_is_told_when_the_switch_is_opened(provider: str, says: str) -> None:
    """Not in the middle of an outage."""
    settings: LexiconSettings = replace(lexicon("http://127.0.0.1:1", "token"), provider=provider)

    with pytest.raises(BadConfig, match=says):
        open_switch(settings)
