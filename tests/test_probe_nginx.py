"""Looks at a real web server, as it stands on most mirrors."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mirrord.health import FaultKind, Observation
from tests.conftest import Lab
from tests.lab.waiting import until
from tests.probing import NAME, PAGES, Account, signed


@pytest.fixture
def account(lab: Lab) -> Account:
    account = Account(lab.folder("account"))
    account.publish(PAGES)
    return account


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_mirror_on_nginx_is_right_by_tls_on_both_families(account: Account, lab: Lab, address: str) -> None:
    """The usual mirror: nginx, a certificate, IPv4 and IPv6."""
    server = lab.nginx(account.current, certificate=lab.ca.issue(NAME), addresses=("127.0.0.1", "::1"))

    seen = account.seen(server.port, address=address, ca_file=str(lab.ca.file))
    assert seen.fault is None
    assert seen.right == PAGES.keys()
    assert seen.certificate_days is not None
    assert seen.date_offset is not None
    assert abs(seen.date_offset) < 2


def test_one_connection_does_for_a_whole_look(account: Account, lab: Lab) -> None:
    """A handshake for every page would be a load on the host, and half of the time allowed."""
    server = lab.nginx(account.current, certificate=lab.ca.issue(NAME), start=False)
    firsts = server.folder / "firsts.log"
    first = ('set $first "";', "if ($connection_requests = 1) { set $first 1; }")
    server.lines = (*first, f"access_log {server.folder / 'access.log'};", f"access_log {firsts} combined if=$first;")
    server.start()

    seen = account.seen(server.port, ca_file=str(lab.ca.file))
    assert seen.fault is None
    until(lambda: len(server.requests()) == len(PAGES) + 3)
    assert len(firsts.read_text().splitlines()) == 1


def test_file_names_of_any_bytes_are_found_on_nginx(lab: Lab) -> None:
    """What we encode, nginx must decode to the same name."""
    names = [
        b"a b.html",
        b"50%.html",
        b"%41.html",
        b"why?.html",
        b"#1.html",
        b"two\nlines.html",
        b"cr\r.html",
        b"tab\t.html",
        b"\xff\xfe.html",
        b"caf\xc3\xa9.html",
        b"cafe\xcc\x81.html",
        b"back\\slash",
        b"quo\"te's",
        b"a+b&c=d;e,f@g:h!$*()[]{}|^~`<>",
        b"it/due parole/index.html",
        b"it/\xe4\xb8\xad/index.html",
        b"-",
    ]
    account = Account(lab.folder("account"))
    account.publish({b"index.html": b"home\n", **{name: name for name in names}})
    server = lab.nginx(account.current)

    seen = account.seen(server.port, sample=100)
    assert seen.fault is None
    assert not seen.wrong
    assert seen.right == {b"index.html", *names}


def test_nginx_packing_and_labelling_does_no_harm(account: Account, lab: Lab) -> None:
    """`gzip on` for all types, and charsets, are common; identity was asked for and comes."""
    server = lab.nginx(account.current, lines=("gzip on;", "gzip_types *;", "gzip_min_length 0;", "charset utf-8;"))

    seen = account.seen(server.port)
    assert seen.right == PAGES.keys()


def test_an_expired_certificate_on_nginx_is_told_and_a_new_one_seen(account: Account, lab: Lab) -> None:
    """A standby's certificate rots unseen; renewed and reloaded, it is right at the next look."""
    server = lab.nginx(account.current, certificate=lab.ca.expired(NAME))
    before = account.seen(server.port, ca_file=str(lab.ca.file))
    server.certificate = lab.ca.issue(NAME)
    server.reload()

    after = account.seen(server.port, ca_file=str(lab.ca.file))
    assert before.fault is not None
    assert before.fault.kind is FaultKind.CLOCK
    assert before.certificate_days is not None
    assert before.certificate_days < 0
    assert after.fault is None


def test_a_stopped_nginx_times_out_and_comes_back(account: Account, lab: Lab) -> None:
    """A hung server accepts connections and answers nothing."""
    server = lab.nginx(account.current)
    server.pause()
    hung = account.seen(server.port, timeout=0.5)
    server.resume()

    assert hung.fault is not None
    assert hung.fault.kind is FaultKind.SLOW
    assert account.seen(server.port).fault is None


def test_a_release_that_lost_its_tree_is_told(account: Account, lab: Lab) -> None:
    """The web server is up and answers 404 for everything."""
    server = lab.nginx(account.current)
    account.current.unlink()

    seen = account.seen(server.port)
    assert seen.fault is not None
    assert seen.fault.kind is FaultKind.CONTENT


def test_a_thousand_switches_under_probing_without_one_false_alarm(lab: Lab) -> None:
    """
    A publish must never look like an alteration: each look falls between two switches, upon one, or upon several, and
    not one page is ever held against the mirror.
    """
    account = Account(lab.folder("account"))
    releases = []
    for serial in range(1, 1002):
        pages = {b"index.html": b"%d\n" % serial, b"news.html": b"%d.\n" % serial, b"style.css": b"p {}\n"}
        snapshot = signed(pages, serial)
        account.lay_out(snapshot, pages)
        releases.append(snapshot.snapshot.id)
    account.switch(releases[0])
    server = lab.nginx(account.current)
    switching = threading.Event()
    pause = threading.Event()
    dice = random.Random(7)

    def look_on(seed: int) -> list[Observation]:
        found: list[Observation] = []
        while not switching.is_set():
            found.append(account.seen(server.port, seed=seed + len(found), sample=3))
        return found

    with ThreadPoolExecutor(2) as crew:
        looking = [crew.submit(look_on, seed) for seed in (0, 10_000)]
        for release in releases[1:]:
            account.switch(release)
            pause.wait(dice.choice([0.001, 0.004, 0.016]))
        switching.set()
    looks = [seen for each in looking for seen in each.result()]

    assert not [seen.fault for seen in looks if seen.fault]
    assert not [seen.wrong for seen in looks if seen.wrong]
    assert len(looks) > 50
    assert any(seen.settling for seen in looks)
    assert len({seen.snapshot.serial for seen in looks if seen.snapshot}) > 20
