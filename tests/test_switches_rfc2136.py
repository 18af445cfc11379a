from __future__ import annotations

import importlib
import pkgutil
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import dns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from mirrord.errors import BadConfig, MirrordError, Refused, Unavailable
from mirrord.journal import Journal
from mirrord.switches import (
    Change,
    Endpoint,
    Expected,
    Following,
    Rrsets,
    SentKind,
    Zone,
    ZoneState,
    open_switch,
    plan_change,
)
from mirrord.switches.asking import door
from mirrord.switches.rfc2136 import Rfc2136, build_update
from mirrord.switches.transaction import new_nonce
from tests.conftest import Lab
from tests.lab.bind import Bind
from tests.lab.knot import Knot
from tests.lab.nameserver import Key, NameServer, zone_text
from tests.lab.ports import free_port
from tests.switching import (
    KINDS,
    MIRRORS,
    NAMES,
    SILENCE,
    TEXT,
    Desk,
    Road,
    answer_to,
    desk,
    endpoint,
    every_kind,
    human,
    settings,
)

PLAN = "0123456789abcdef" * 2


@pytest.fixture(params=[Bind, Knot], ids=["bind", "knot"])
def primary(request: pytest.FixtureRequest, lab: Lab) -> NameServer:
    """The zone's primary; both kinds must do, and where a test says so every kind."""
    kind: type[NameServer] = request.param
    return lab._keep(kind(lab.folder("primary"), text=TEXT), start=True)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal."""
    journal = Journal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


@pytest.fixture
def at_milan(primary: NameServer, journal: Journal) -> Desk:
    """A controller that has taken the zone over, as it stood, at milan."""
    controller = desk(journal, primary, key=primary.key)
    assert controller.move("milan").kind.value == "done"
    return controller


def served(server: NameServer) -> dict[str, tuple[set[str], set[str]]]:
    """What readers are answered: A and AAAA by name."""
    return {name: (server.query(name, "A"), server.query(name, "AAAA")) for name in NAMES}


# -- one update


@every_kind
def test_one_update_moves_all_names_of_a_service(primary: NameServer, at_milan: Desk) -> None:
    """Readers of any name go to the same mirror; a target without IPv6 takes AAAA away, and one with it brings it."""
    at_milan.move("lyon")
    to_lyon = served(primary)
    at_milan.move("oslo")

    assert to_lyon == dict.fromkeys(NAMES, ({"198.51.100.20"}, set()))
    assert served(primary) == dict.fromkeys(NAMES, ({"203.0.113.30", "203.0.113.31"}, {"2001:db8::30"}))
    for name in NAMES:
        (text,) = primary.query(f"_mirrord.{name}", "TXT")
        assert text.startswith('"v=1 epoch=3 target=oslo plan=')
        assert text.endswith(' by=home"')


def test_the_update_is_written_as_this() -> None:
    """The text that is sent, compared whole: what must stand, then each set anew, and nothing else."""
    before = Expected({"www.example.org": Rrsets(a=frozenset({"192.0.2.10"}), fence=frozenset({("a b", '"')}))})
    change = plan_change("web", before, "oslo", MIRRORS, nonce=PLAN, by="home", ttl=60, was_ttl=300)

    update = build_update(change, "example.org")
    sections = [[rrset.to_text() for rrset in section] for section in (update.prerequisite, update.update)]
    fence = f'"v=1 epoch=1 target=oslo plan={PLAN} by=home"'
    assert sections == [
        [
            "www.example.org. NONE CNAME",
            "_mirrord.www.example.org. NONE CNAME",
            "www.example.org. 0 IN A 192.0.2.10",
            "www.example.org. NONE AAAA",
            '_mirrord.www.example.org. 0 IN TXT "a b" "\\""',
        ],
        [
            "www.example.org. ANY A",
            "www.example.org. 60 IN A 203.0.113.30",
            "www.example.org. 60 IN A 203.0.113.31",
            "www.example.org. ANY AAAA",
            "www.example.org. 60 IN AAAA 2001:db8::30",
            "_mirrord.www.example.org. ANY TXT",
            f"_mirrord.www.example.org. 60 IN TXT {fence}",
        ],
    ]


@every_kind
@pytest.mark.parametrize(
    "meddling",
    [
        pytest.param([("replace", "www", 60, "A", "192.0.2.99")], id="A changed, TXT left"),
        pytest.param([("add", "www", 60, "A", "192.0.2.99")], id="A added"),
        pytest.param([("replace", "www", 60, "AAAA", "2001:db8::99")], id="AAAA changed"),
        pytest.param([("delete", "@", "AAAA")], id="AAAA dropped at the other name"),
        pytest.param([("delete", "_mirrord.www", "TXT")], id="TXT dropped"),
        pytest.param([("replace", "_mirrord", 60, "TXT", '"v=1 epoch=9"')], id="TXT changed"),
        pytest.param([("add", "_mirrord.www", 60, "TXT", '"more"')], id="TXT added"),
        pytest.param([("delete", "www"), ("add", "www", 60, "CNAME", "cdn.example.net.")], id="CNAME"),
        pytest.param(
            [("delete", "_mirrord.www"), ("add", "_mirrord.www", 60, "CNAME", "t.example.net.")],
            id="CNAME at the fence",
        ),
    ],
)
def test_the_server_refuses_a_plan_if_anybody_was_there(
    primary: NameServer, at_milan: Desk, meddling: list[tuple[Any, ...]]
) -> None:
    """The fence holds where the change is made, for every set of every name, however late somebody meddled."""
    change = at_milan.plan("lyon")
    human(primary, *meddling)
    before = primary.serial()

    sent = at_milan.switch.send(change)
    assert sent.kind is SentKind.FENCED
    assert "the zone is not as mirrord left it" in sent.text
    assert primary.serial() == before


@every_kind
def test_a_plan_applies_once_however_often_it_is_sent(primary: NameServer, at_milan: Desk) -> None:
    """It changes the TXT that it requires: so sending it again, over any road, is safe."""
    change = at_milan.plan("lyon")

    kinds = [at_milan.switch.send(change).kind for _ in range(3)]
    assert kinds == [SentKind.ACCEPTED, SentKind.FENCED, SentKind.FENCED]


# -- the key


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        pytest.param({"name": "mirrors"}, "BADKEY: no key mirrors (hmac-sha256)", id="name"),
        pytest.param({"algorithm": "hmac-sha512"}, "BADKEY: no key mirrord (hmac-sha512)", id="algorithm"),
        pytest.param({"secret": "c2VjcmV0"}, "BADSIG: the secret of the key mirrord is another one", id="secret"),
    ],
)
def test_a_key_that_does_not_fit_is_one_clear_sentence(
    primary: NameServer, journal: Journal, wrong: dict[str, str], says: str
) -> None:
    """The operator is told what to compare, and nothing was changed."""
    key = replace(primary.key, **wrong)
    controller = desk(journal, primary, key=key)

    sent = controller.switch.send(controller.plan("lyon", adopt=True))
    assert sent.kind is SentKind.REFUSED
    assert says in sent.text
    assert sent.text.endswith("; nothing was changed")
    assert key.secret not in sent.text
    assert served(primary)["www.example.org"] == ({"192.0.2.10"}, {"2001:db8::10"})


@pytest.mark.parametrize(
    ("ahead", "says"),
    [
        pytest.param(-3600, "its clock is 3600 s ahead of ours", id="ours is behind"),
        pytest.param(7200, "its clock is 7200 s behind ours", id="ours is ahead"),
    ],
)
def test_a_wrong_clock_is_told_by_how_much(primary: NameServer, journal: Journal, ahead: int, says: str) -> None:
    """With a wrong clock no date can be judged: the server's answer says by how much it is wrong."""
    switch = Rfc2136(settings(primary, key=primary.key), clock=lambda: time.time() + ahead)
    controller = Desk(switch, journal)

    sent = switch.send(controller.plan("lyon", adopt=True))
    assert sent.kind is SentKind.REFUSED
    assert sent.clock_difference == pytest.approx(-ahead, abs=5)
    assert says in sent.text.replace("3601", "3600").replace("3599", "3600").replace("7199", "7200").replace(
        "7201", "7200"
    )


@pytest.mark.parametrize("secret", ["", "\n", "no base64!", "key mirrord { secret x; };"])
def test_a_secret_that_is_none_is_said_before_anything_is_sent(primary: NameServer, secret: str) -> None:
    """A file with the wrong content is the operator's slip; its content is not repeated."""
    switch = open_switch(settings(primary, key=replace(primary.key, secret=secret)))
    change = plan_change("web", switch.read().stands, "lyon", MIRRORS, nonce=PLAN, by="home", ttl=60, was_ttl=60)

    with pytest.raises(Refused, match="TSIG secret is not base64") as caught:
        switch.send(change)
    assert "no base64!" not in str(caught.value)


def test_the_secret_is_in_no_settings_text(primary: NameServer) -> None:
    """Settings are printed in errors and logs."""
    assert primary.key.secret not in repr(settings(primary, key=primary.key))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        pytest.param("zone", "exa..mple", "is none", id="zone"),
        pytest.param("names", ("www.example.net",), "www.example.net is not in the zone example.org", id="name"),
        pytest.param("servers", (), "no servers", id="no servers"),
    ],
)
def test_settings_that_cannot_be_used_are_told_when_the_switch_is_opened(field: str, value: Any, says: str) -> None:
    """Not in the middle of an outage."""
    with pytest.raises(BadConfig, match=says):
        open_switch(replace(replace(settings(key=Key()), servers=(Endpoint("127.0.0.1", 1),)), **{field: value}))


def test_an_unknown_algorithm_is_told_when_the_switch_is_opened() -> None:
    """The same."""
    with pytest.raises(BadConfig, match="algorithm hmac-sha3 is unknown"):
        open_switch(settings(key=Key(algorithm="hmac-sha3")))


class Policed(Bind):
    """A BIND that lets the key do what the document says, and nothing else."""

    def configuration(self) -> str:
        """Put the document's line in place of a key that may do anything."""
        page = (Path(__file__).parent.parent / "docs" / "hosts.md").read_text()
        (policy,) = re.findall(r"`(update-policy \{.*\};)`", page)
        allowed = f'allow-update {{ key "{self.key.name}"; }};'
        text = super().configuration()
        assert allowed in text
        return text.replace(allowed, policy)


def test_the_policy_of_the_document_lets_one_name_be_moved_and_no_other(lab: Lab, tmp_path: Path) -> None:
    """A key that may write the whole zone is worth more to a thief than one that may move `www`."""
    primary = lab._keep(Policed(lab.folder("policed"), text=TEXT), start=True)
    ends = {}
    for name, moves in (("www.example.org", ("milan", "lyon")), ("example.org", ("milan",))):
        journal = Journal(tmp_path / f"{name}.sqlite")
        controller = desk(journal, primary, key=primary.key, names=[name])
        ends[name] = [controller.move(mirror).kind.value for mirror in moves]
        if ends[name][-1] == "done":
            controller.switch.prove()
        journal.close()

    assert ends == {"www.example.org": ["done", "done"], "example.org": ["unchanged"]}


# -- roads


def test_the_next_road_is_taken_where_connecting_fails(primary: NameServer, journal: Journal) -> None:
    """The first road died with its datacentre."""
    dead = Endpoint("127.0.0.1", free_port())
    controller = desk(journal, dead, primary, key=primary.key, authoritative=[primary])

    result = controller.move("lyon", adopt=True)
    assert result.kind.value == "done"
    assert served(primary)["www.example.org"] == ({"198.51.100.20"}, set())


@pytest.mark.parametrize(
    "rcode", [dns.rcode.NOTAUTH, dns.rcode.REFUSED, dns.rcode.NOTIMP], ids=["NOTAUTH", "REFUSED", "NOTIMP"]
)
def test_the_next_road_is_taken_where_a_server_proves_that_it_will_not(
    primary: NameServer, journal: Journal, rcode: dns.rcode.Rcode
) -> None:
    """A secondary that does not forward says so, signed: nothing was done there."""
    with Road(primary, on_update=lambda wire: answer_to(wire, rcode, primary.key)) as unwilling:
        controller = desk(journal, unwilling, primary, key=primary.key)
        sent = controller.switch.send(controller.plan("lyon", adopt=True))

    assert sent.kind is SentKind.ACCEPTED
    assert sent.server == str(endpoint(primary))
    assert len(unwilling.updates) == 1


def test_a_signed_refusal_of_every_road_is_told(primary: NameServer, journal: Journal) -> None:
    """The key is known and may not: a person must act."""
    with Road(primary, on_update=lambda wire: answer_to(wire, dns.rcode.REFUSED, primary.key)) as unwilling:
        controller = desk(journal, unwilling, key=primary.key)
        sent = controller.switch.send(controller.plan("lyon", adopt=True))

    assert (sent.kind, sent.signed) == (SentKind.REFUSED, True)
    assert "the key mirrord may not update the zone there" in sent.text


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(lambda wire, _: answer_to(wire, dns.rcode.REFUSED), SentKind.REFUSED, id="REFUSED, unsigned"),
        pytest.param(lambda wire, _: answer_to(wire, dns.rcode.NOTAUTH), SentKind.REFUSED, id="NOTAUTH, unsigned"),
        pytest.param(lambda wire, _: answer_to(wire, dns.rcode.REFUSED, Key()), SentKind.REFUSED, id="REFUSED, forged"),
        pytest.param(lambda wire, key: answer_to(wire, dns.rcode.SERVFAIL, key), SentKind.UNKNOWN, id="SERVFAIL"),
        pytest.param(lambda wire, _: answer_to(wire, dns.rcode.NOERROR), SentKind.UNKNOWN, id="NOERROR, unsigned"),
        pytest.param(lambda wire, _: answer_to(wire, dns.rcode.NXRRSET), SentKind.UNKNOWN, id="NXRRSET, unsigned"),
        pytest.param(lambda wire, _: answer_to(wire, dns.rcode.NOERROR, Key()), SentKind.UNKNOWN, id="NOERROR, forged"),
        pytest.param(lambda *_: SILENCE, SentKind.UNKNOWN, id="silence"),
        pytest.param(lambda *_: None, SentKind.UNKNOWN, id="closed"),
        pytest.param(lambda *_: b"\x00" * 5, SentKind.UNKNOWN, id="rubbish"),
        pytest.param(
            lambda wire, _: answer_to(b"\xff\xff" + wire[2:], dns.rcode.NOERROR), SentKind.UNKNOWN, id="another id"
        ),
    ],
)
def test_after_any_other_answer_no_other_road_is_taken(
    primary: NameServer, journal: Journal, answer: Any, kind: SentKind
) -> None:
    """It may have been applied, or may be yet: only reading tells, and what is not signed proves nothing."""
    with Road(primary, on_update=lambda wire: answer(wire, primary.key)) as first, Road(primary) as second:
        controller = desk(journal, first, second, key=primary.key, timeout=1.5)
        sent = controller.switch.send(controller.plan("lyon", adopt=True))

    assert (sent.kind, sent.signed) == (kind, False)
    assert sent.server == str(endpoint(first))
    assert (len(first.updates), len(second.updates)) == (1, 0)


def test_a_road_that_hangs_before_anything_was_sent_is_passed_over(primary: NameServer, journal: Journal) -> None:
    """A stopped server takes connections and says nothing: it is asked for the SOA first, so nothing is in doubt."""
    with Road(primary, on_query=lambda _: SILENCE) as hangs:
        controller = desk(journal, hangs, primary, key=primary.key, timeout=2.0)
        sent = controller.switch.send(controller.plan("lyon", adopt=True))

    assert sent.kind is SentKind.ACCEPTED
    assert hangs.updates == []


@every_kind
def test_a_road_that_does_not_hold_the_zone_is_passed_over(lab: Lab, primary: NameServer, journal: Journal) -> None:
    """Knot says NOTAUTH without a signature for a zone that it does not hold; nothing is sent to such a server."""
    other = type(primary)(lab.folder("other"), "example.net", key=primary.key)
    with other:
        controller = desk(journal, other, primary, key=primary.key)
        sent = controller.switch.send(controller.plan("lyon", adopt=True))

    assert (sent.kind, sent.server) == (SentKind.ACCEPTED, str(endpoint(primary)))


def test_no_road_at_all_sends_nothing_and_names_them(primary: NameServer, at_milan: Desk) -> None:
    """All servers dead: the sentence says which, and why each."""
    change = at_milan.plan("lyon")
    primary.stop()

    sent = at_milan.switch.send(change)
    assert sent.kind is SentKind.UNSENT
    assert sent.text.endswith(f"no road can be used, nothing was sent: 127.0.0.1:{primary.port}: connection refused")


@pytest.mark.parametrize("how", ["dead", "hung"])
def test_a_road_that_was_silent_a_moment_ago_is_asked_last(primary: NameServer, how: str) -> None:
    """A datacentre that is gone swallows seconds with each try: the move after the look does not wait again."""
    now = 0.0
    with Road(primary, on_query=lambda _: SILENCE) as hung:
        first = hung if how == "hung" else Endpoint("127.0.0.1", free_port())
        switch = Rfc2136(
            settings(first, primary, key=primary.key, timeout=2.0),
            monotonic=lambda: now + (time.monotonic() - began),
        )
        began = time.monotonic()
        zones = [switch.read(), switch.read()]
        now = 21.0
        zones.append(switch.read())

    assert [len(zone.passed_over) for zone in zones] == [1, 0, 1]
    assert [zone.may_lag for zone in zones] == [True, True, True]


def test_a_move_between_two_looks_does_not_wait_for_a_road_that_the_last_look_found_silent(
    primary: NameServer, journal: Journal
) -> None:
    """Looks are half a minute apart, and each tries the road again; the move that is due must not do it before them."""
    now, asked = 0.0, 0

    def hang(_: bytes) -> bytes:
        nonlocal asked
        asked += 1
        return SILENCE

    change = desk(journal, primary, key=primary.key).plan("lyon", adopt=True)
    with Road(primary, on_query=hang) as hung:
        switch = Rfc2136(settings(hung, primary, key=primary.key, timeout=0.3), monotonic=lambda: now)
        switch.read()
        looked = asked
        now = 35.0
        sent = switch.send(change)

    assert looked > 0
    assert (sent.kind, sent.server) == (SentKind.ACCEPTED, str(endpoint(primary)))
    assert asked == looked


# -- reading


def test_reading_gives_all_sets_the_ttl_and_the_serial(primary: NameServer) -> None:
    """What a plan may expect, and how long readers may keep it."""
    human(primary, ("add", "_mirrord.www", 60, "TXT", '"\\255\\000" "two"'), ("add", "_mirrord.www", 60, "TXT", '"b"'))

    zone = open_switch(settings(primary, key=primary.key)).read()
    assert zone.names["www.example.org"].rrsets == Rrsets(
        frozenset({"192.0.2.10"}), frozenset({"2001:db8::10"}), frozenset({("\xff\x00", "two"), ("b",)})
    )
    assert (zone.ttl, zone.serial, zone.server) == (300, primary.serial(), str(endpoint(primary)))
    assert not zone.may_lag


def test_a_hostile_txt_can_be_taken_over(primary: NameServer, journal: Journal) -> None:
    """Whatever bytes stand at the fence, they are named exactly in the prerequisites, and so can be replaced."""
    human(
        primary, ("add", "_mirrord.www", 60, "TXT", '"\\255\\000" "two"'), ("add", "_mirrord.www", 60, "TXT", '"\\""')
    )
    controller = desk(journal, primary, key=primary.key)

    assert controller.move("lyon", adopt=True).kind.value == "done"


def test_a_cname_is_read_at_the_name_and_at_its_fence(primary: NameServer) -> None:
    """Nothing can be moved there, and the operator is told where."""
    human(
        primary,
        ("delete", "www"),
        ("add", "www", 60, "CNAME", "ns1"),
        ("add", "_mirrord", 60, "CNAME", "ns1"),
    )

    zone = open_switch(settings(primary, key=primary.key)).read()
    assert {name: found.cname for name, found in zone.names.items()} == dict.fromkeys(NAMES, "ns1.example.org.")
    assert zone.names["www.example.org"].rrsets.a == frozenset()


def test_a_name_that_is_not_there_is_read_as_empty(primary: NameServer) -> None:
    """NXDOMAIN is an answer: a new name has nothing yet."""
    zone = open_switch(settings(primary, key=primary.key, names=["new.example.org"])).read()

    assert zone.names["new.example.org"].rrsets == Rrsets()


def without_authority(answer: bytes) -> bytes:
    """The same answer, as a resolver would give it."""
    message = dns.message.from_wire(answer)
    message.flags &= ~dns.flags.AA
    return message.to_wire()


def from_the_child(answer: bytes) -> bytes:
    """The same answer, if www were a zone of its own on the same server."""
    message = dns.message.from_wire(answer)
    for number, rrset in enumerate(message.authority):
        if rrset.rdtype != dns.rdatatype.SOA:
            continue
        message.authority[number] = dns.rrset.from_text("www.example.org.", 60, "IN", "SOA", rrset[0].to_text())
    return message.to_wire()


def for_another_question(answer: bytes) -> bytes:
    """The same answer, to another question."""
    message = dns.message.from_wire(answer)
    message.question = [dns.rrset.RRset(dns.name.from_text("example.net."), *_kind(message))]
    return message.to_wire()


def _kind(message: dns.message.Message) -> Any:
    return message.question[0].rdclass, message.question[0].rdtype


def failing(answer: bytes) -> bytes:
    """No answer, as a secondary gives when its zone has expired."""
    message = dns.message.from_wire(answer)
    message.set_rcode(dns.rcode.SERVFAIL)
    return message.to_wire()


def half(answer: bytes) -> bytes:
    """An answer that says of itself that it is not whole, as some middle box leaves it."""
    message = dns.message.from_wire(answer)
    message.flags |= dns.flags.TC
    if message.question[0].rdtype != dns.rdatatype.SOA:
        message.answer.clear()
    return message.to_wire()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(half, "it cut its answer short", id="cut short, and says so"),
        pytest.param(without_authority, "it does not speak with authority", id="a resolver"),
        pytest.param(from_the_child, "it answered from the zone www.example.org", id="another zone"),
        pytest.param(for_another_question, "it answered what was not asked", id="another question"),
        pytest.param(failing, "it said SERVFAIL", id="expired"),
        pytest.param(lambda answer: answer[:20], "FormError", id="cut short"),
        pytest.param(lambda answer: answer[:2] + b"\x84\x01" + bytes(8), "it said FORMERR", id="an error and no more"),
        pytest.param(lambda _: None, "closed before the answer|reset by peer", id="closed"),
        pytest.param(lambda _: SILENCE, "no answer in time", id="silent"),
    ],
)
def test_what_is_not_the_zones_own_word_is_no_answer(primary: NameServer, spoil: Any, says: str) -> None:
    """A look that is not the zone's own must not be held against the journal."""
    with Road(primary) as road:
        road.on_query = lambda wire: spoil(road.forward(wire))
        switch = open_switch(settings(road, key=primary.key, timeout=0.5))
        with pytest.raises(Unavailable) as caught:
            switch.read()

    said = str(caught.value)
    assert said.startswith(f"web: reading example.org: no road answers: 127.0.0.1:{road.port}: ")
    assert re.search(says, said)


def test_a_resolver_is_no_road(lab: Lab, primary: NameServer) -> None:
    """Somebody configured a resolver for a name server: it answers from a cache, or not at all."""
    resolver = lab.unbound(primary)

    with pytest.raises(Unavailable, match=f"127.0.0.1:{resolver.port}: asked for example.org SOA it said REFUSED"):
        open_switch(replace(settings(primary, key=primary.key), servers=(Endpoint("127.0.0.1", resolver.port),))).read()


def test_names_are_read_in_one_state_of_the_zone(primary: NameServer) -> None:
    """A change between two questions must not show a mixture, which nobody wrote."""
    changed = False
    with Road(primary) as road:

        def change_in_the_middle(wire: bytes) -> bytes:
            nonlocal changed
            answer = road.forward(wire)
            if not changed and dns.message.from_wire(wire).question[0].rdtype.name == "AAAA":
                changed = True
                human(primary, ("replace", "www", 60, "A", "192.0.2.99"), ("replace", "@", 60, "A", "192.0.2.99"))
            return answer

        road.on_query = change_in_the_middle
        zone = open_switch(settings(road, key=primary.key)).read()

    assert {tuple(found.rrsets.a) for found in zone.names.values()} == {("192.0.2.99",)}


# -- followers


def moved(primary: NameServer, **more: Any) -> tuple[Any, Change]:
    """Move to lyon over the primary, by hand; return the switch and the change."""
    switch = open_switch(settings(primary, key=primary.key, **more))
    change = plan_change("web", switch.read().stands, "lyon", MIRRORS, nonce=PLAN, by="home", ttl=60, was_ttl=60)
    assert switch.send(change).kind is SentKind.ACCEPTED
    return switch, change


def test_followers_are_told_apart(lab: Lab, primary: NameServer) -> None:
    """Who has the new data, who gives the old, who cannot be asked: each by its address, with its serial."""
    old = type(primary)(lab.folder("old"), "example.org", TEXT)
    dead = Endpoint("127.0.0.1", free_port())
    with old:
        switch, change = moved(primary, authoritative=[primary, old, dead])
        follows = switch.followers(change, {})

    assert [follow.following for follow in follows.values()] == [
        Following.FOLLOWS,
        Following.OLD,
        Following.UNREACHABLE,
    ]
    assert follows[str(endpoint(primary))].serial == primary.serial()
    assert follows[str(endpoint(dead))].text == f"127.0.0.1:{dead.port}: connection refused"


def test_followers_are_asked_all_at_once(primary: NameServer) -> None:
    """Two that hang cost one timeout: what is slow delays nothing else."""
    with (
        Road(primary, on_query=lambda _: SILENCE) as one,
        Road(primary, on_query=lambda _: SILENCE) as two,
        ThreadPoolExecutor(3) as crew,
    ):
        switch, change = moved(primary, authoritative=[one, two, primary], timeout=2.0)
        began = time.monotonic()
        follows = switch.followers(change, {}, crew)
        took = time.monotonic() - began

    assert len(follows) == 3
    assert took < 3.8


def test_the_zones_own_name_servers_must_follow_where_none_are_configured(primary: NameServer) -> None:
    """They are found where updates are committed, and asked at port 53 of the addresses that were remembered."""
    switch, change = moved(primary, authoritative=[])

    found = switch.name_servers()
    assert found == {"ns1.example.org": ("127.0.0.1",)}
    follows = switch.followers(change, {**found, "gone.example.net": ()})
    assert set(follows) == {"127.0.0.1:53", "gone.example.net"}
    assert follows["gone.example.net"].following is Following.UNREACHABLE


def test_name_servers_elsewhere_are_resolved_and_hide_no_other(lab: Lab) -> None:
    """Outside of the zone and below a cut this server is no authority; what cannot be resolved stays empty."""
    names = ["@ NS a.sub", "@ NS ns.example.net.", "sub NS elsewhere.example.net."]
    cut = lab.bind(text=zone_text("example.org", names))
    resolved = {"ns.example.net.": {"192.0.2.54", "192.0.2.53"}}
    switch = Rfc2136(settings(cut, key=cut.key, authoritative=[]), resolve=lambda host: resolved.get(host, set()))

    assert switch.name_servers() == {
        "ns1.example.org": ("127.0.0.1",),
        "a.sub.example.org": (),
        "ns.example.net": ("192.0.2.53", "192.0.2.54"),
    }


def test_roads_may_be_ipv6(lab: Lab, journal: Journal) -> None:
    """The primary is reached by IPv6 alone."""
    six = lab.bind(text=TEXT, address="::1")
    road = Endpoint("::1", six.port)
    result = desk(journal, road, key=six.key).move("lyon")

    assert result.kind.value == "done"
    assert set(result.followers) == {f"[::1]:{six.port}"}


def test_names_may_have_ipv6_alone(lab: Lab, journal: Journal) -> None:
    """Mirrors without IPv4 move readers who have none: A stays absent, and that it is absent is part of the fence."""
    six = {"milan": ("2001:db8::10",), "lyon": ("2001:db8::20", "2001:db8::21")}
    primary = lab.bind(text=zone_text("example.org", ["www 300 AAAA 2001:db8::10"]))
    switch = open_switch(settings(primary, key=primary.key, names=["www.example.org"]))
    controller = Desk(switch, journal)

    def plan(target: str) -> Change:
        return plan_change("web", switch.read().stands, target, six, nonce=new_nonce(), by="home", ttl=60, was_ttl=300)

    assert controller.run(plan("lyon")).kind.value == "done"
    assert primary.query("www.example.org", "AAAA") == set(six["lyon"])
    back = plan("milan")
    human(primary, ("add", "www", 60, "A", "192.0.2.99"))
    assert controller.run(back).kind.value == "unchanged"
    assert primary.query("www.example.org", "A") == {"192.0.2.99"}


def test_name_servers_are_not_looked_for_where_it_is_configured_who_must_follow(primary: NameServer) -> None:
    """There is nothing to remember then."""
    assert open_switch(settings(primary, key=primary.key)).name_servers() == {}


# -- the door


def exceptions() -> list[type[dns.exception.DNSException]]:
    """Every exception class that dnspython has, wherever it is defined."""
    for module in pkgutil.iter_modules(dns.__path__, "dns."):
        try:
            importlib.import_module(module.name)
        except ImportError:
            continue  # needs a library that is not there
    found: list[type[dns.exception.DNSException]] = []
    waiting = [dns.exception.DNSException]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += [child for child in one.__subclasses__() if child not in found]
    return found


def test_every_exception_of_dnspython_becomes_ours() -> None:
    """None is forgotten, whatever release of the library: walked, not listed."""
    kinds = exceptions()
    for kind in kinds:
        error = kind.__new__(kind)
        Exception.__init__(error, "what it says")
        error.kwargs = {}
        with pytest.raises(MirrordError) as caught, door("127.0.0.1:53"):
            raise error
        assert str(caught.value).startswith("127.0.0.1:53: ")
        assert caught.value.__cause__ is error

    assert len(kinds) > 50


@pytest.mark.parametrize(
    "error",
    [TimeoutError(), ConnectionResetError(104, "Connection reset by peer"), EOFError(), OSError("x"), ValueError("y")],
    ids=lambda error: type(error).__name__,
)
def test_every_failure_of_the_network_becomes_ours(error: Exception) -> None:
    """The same for what the socket raises; the sentence is never empty."""
    with pytest.raises(Unavailable, match=r"road: \w"), door("road"):
        raise error


def test_what_is_read_of_a_zone_is_a_plain_value(primary: NameServer) -> None:
    """Nothing of dnspython leaves its door: texts, numbers and sets only."""
    zone = open_switch(settings(primary, key=primary.key)).read()

    assert isinstance(zone, Zone)
    for found in zone.names.values():
        for value in (*found.rrsets.a, *found.rrsets.aaaa):
            assert type(value) is str
        assert type(found.ttl) is int


def test_a_wildcard_is_not_the_names_own_record(lab: Lab, journal: Journal) -> None:
    """Prerequisites see exact names: what a wildcard answers is refused by the server, and the hint says why."""
    wild = lab.bind(text=zone_text("example.org", ["* 60 A 192.0.2.10", "* 60 AAAA 2001:db8::10"]))
    controller = desk(journal, wild, key=wild.key, names=["www.example.org"])

    result = controller.move("lyon")
    assert result.kind.value == "unchanged"
    assert "perhaps they come from a wildcard" in result.text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wild", ["CNAME example.org.", 'TXT "v=spf1 -all"', "A 192.0.2.10"])
def test_what_a_wildcard_gives_for_the_fence_is_nobodys_record(
    lab: Lab, journal: Journal, kind: type[NameServer], wild: str
) -> None:
    """`* CNAME` and `* TXT` of a zone answer at `_mirrord.example.org`, too, until our TXT stands there."""
    text = zone_text("example.org", ["@ 60 A 192.0.2.10", "@ 60 AAAA 2001:db8::10", f"* 60 {wild}"])
    (server,) = lab.followed(kind, text=text)
    controller = desk(journal, server, key=server.key, names=["example.org"])

    assert controller.look().comparison.state is ZoneState.NEW
    assert controller.move("lyon").kind.value == "done"
    assert controller.look().comparison.state is ZoneState.OURS


def test_what_somebody_put_at_the_fence_beside_a_wildcard_is_theirs(lab: Lab, journal: Journal) -> None:
    """Only what the wildcard gives is nobody's."""
    records = ["@ 60 A 192.0.2.10", "@ 60 AAAA 2001:db8::10", '* 60 TXT "v=spf1 -all"', '_mirrord 60 TXT "mine"']
    server = lab.bind(text=zone_text("example.org", records))
    controller = desk(journal, server, key=server.key, names=["example.org"])

    assert controller.look().comparison.state is ZoneState.FOREIGN
