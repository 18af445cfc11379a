"""`mirrord doctor` on real servers: whom it asks, what it finds, and that nothing is changed by it."""

from __future__ import annotations

import http.server
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from mirrord.control.doctoring import CERTIFICATES, note_certificates
from mirrord.health import Observation, Round, Target
from mirrord.journal import Journal
from mirrord.probe.registration import registered_until
from tests.conftest import Lab
from tests.lab.publisher import Publisher, publisher
from tests.lab.waiting import until


@pytest.fixture(scope="module")
def site(module_lab: Lab) -> Iterator[Publisher]:
    """A publisher of a small site on two hosts, published, and the zone taken over; no daemon."""
    with publisher(module_lab, ("milan", "lyon")) as made:
        assert made.verb("sync")["exit"] == 0
        assert made.verb("switch", "web", "milan", "--adopt", "--yes")["exit"] == 0
        yield made


def examined(site: Publisher) -> dict[str, Any]:
    """Return what the doctor finds, by what it looked at and whom it is about, with the exit code."""
    found = site.verb("doctor")
    rows = {(one["what"], one["about"]): one for one in found["findings"]}
    return {"rows": rows, "exit": found["exit"], "order": [one["level"] for one in found["findings"]]}


def test_everybody_is_asked_and_nothing_is_changed(site: Publisher) -> None:
    """Certificates, accounts, switch, zone, places, clock, disk, store and drills: one look at all, worst first."""
    serial, answers = site.primary.serial(), site.answers()

    found = examined(site)
    rows = found["rows"]
    # The zone names one name server only, and that is bad indeed.
    assert [where for where, one in rows.items() if one["level"] == "bad"] == [("name-server-place", "name servers")]
    assert found["exit"] == 1
    for what, about, level in (
        ("certificate", "milan", "good"),
        ("certificate", "lyon", "good"),
        ("sftp", "milan", "good"),
        ("sftp", "lyon", "good"),
        ("switch", "web", "good"),
        ("clock", "controller", "good"),
        ("snapshot", "controller", "good"),
        ("drill", "web", "warn"),
        ("soa-expire", site.primary.endpoint, "good"),
        ("soa-expire", site.secondary.endpoint, "good"),
        ("controller-place", "controller", "good"),
        ("disk", "lyon", "good"),
    ):
        assert rows[what, about]["level"] == level, rows[what, about]
    assert found["order"] == sorted(found["order"], key=["bad", "warn", "unknown", "good"].index)
    assert (site.primary.serial(), site.answers()) == (serial, answers)
    assert not list((site.hosts["lyon"].root / ".mirrord").glob("lock.*"))


def test_what_is_broken_is_named_and_ends_with_one(site: Publisher) -> None:
    """A dead account, a dead web server, a silent name server and a key that was withdrawn."""
    tsig = site.folder / "tsig"
    good = tsig.read_text()
    tsig.write_text("d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmc=\n")
    site.secondary.stop()
    site.hosts["lyon"].kill()
    try:
        found = examined(site)
    finally:
        tsig.write_text(good)
        site.secondary.start()
        site.hosts["lyon"].start()

    rows = found["rows"]
    assert found["exit"] == 1
    assert rows["certificate", "lyon"]["level"] == "bad"
    assert rows["switch", "web"]["level"] == "bad"
    assert rows["name-server", site.secondary.endpoint]["days"] == 0
    assert good.strip() not in json.dumps(list(rows.values()))


def test_accounts_that_are_found_by_the_same_name_servers_are_told(site: Publisher) -> None:
    """Two hosts of one hoster: while its name servers are gone neither can be published to."""
    site.configure(resolvers=[site.resolver.endpoint])
    text = site.config.read_text()
    for name in site.hosts:
        text = text.replace('\nhost = "127.0.0.1"', f'\nhost = "ssh.{name}.example.org"', 1)
    site.config.write_text(text)
    try:
        found = examined(site)
    finally:
        site.configure(resolvers=[])

    told = found["rows"]["together", "milan"]
    assert told["level"] == "warn"
    assert "the accounts of milan and lyon are found by the same name servers, ns1.example.org" in told["text"]


def test_what_several_services_have_in_common_is_told_once(site: Publisher) -> None:
    """Two services of one zone: its only name server is one broken thing, not two."""
    text = site.config.read_text()
    other = (
        text[text.index("[[service]]") :]
        .replace('name = "web"', 'name = "shop"')
        .replace("www.example", "shop.example")
    )
    site.config.write_text(text + other)
    try:
        found = site.verb("doctor")["findings"]
    finally:
        site.configure()

    told = [one["text"] for one in found]
    assert sorted(told) == sorted(set(told))
    assert {"web", "shop"} <= {one["about"] for one in found}


def test_an_interrupt_leaves_no_lock_behind(site: Publisher, lab: Lab) -> None:
    """A lock that is half written is nobody's: the next publish there would watch it for a minute."""
    lyon = site.hosts["lyon"]
    far = lab.proxy("127.0.0.1", lyon.sshd.port, round_trip=0.2)
    config = site.folder / "far.toml"
    config.write_text(site.config.read_text().replace(f"port = {lyon.publish_port}\n", f"port = {far.port}\n"))
    command = [sys.executable, "-m", "mirrord", "-c", str(config), "doctor"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as verb:
        until(lambda: list((lyon.root / ".mirrord").glob("lock.*")), 30, "the lock to be made")
        verb.send_signal(signal.SIGINT)
        verb.communicate(timeout=30)

    assert (verb.returncode, far.accepted > 0) == (130, True)
    assert not list((lyon.root / ".mirrord").glob("lock.*"))


def test_whether_a_certificate_was_ever_renewed_is_remembered(journal: Journal) -> None:
    """A standby's certificate rots unseen: only who remembers the last one knows that another came."""
    look = Observation(Target("lyon", "web", "www", "192.0.2.1"), 0.0, 1.0, wall=1_700_000_000.0, certificate_days=20.0)

    def seen(days: float, wall: float) -> Any:
        one = replace(look, certificate_days=days, wall=wall)
        note_certificates(journal, Round(0.0, 1.0, wall, wall, (one,), (), ()), wall)
        return journal.kept(CERTIFICATES)["lyon 192.0.2.1 www"]

    first = seen(20.0, 1_700_000_000.0)
    later = seen(19.0, 1_700_086_400.0)
    renewed = seen(89.0, 1_700_172_800.0)
    assert (first["renewed"], later["renewed"], renewed["renewed"]) == (False, False, True)
    assert later["ends"] == first["ends"]
    assert renewed["since"] == first["since"]


class Registry(http.server.BaseHTTPRequestHandler):
    """An RDAP service that knows one domain."""

    def do_GET(self) -> None:
        """Answer as RFC 9083 says."""
        known = self.path == "/domain/example.org"
        events = [{"eventAction": "expiration", "eventDate": "2027-03-01T00:00:00Z"}]
        body = json.dumps({"events": events} if known else {"errorCode": 404}).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[str]:
    """The address of an RDAP service."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=partial(server.serve_forever, 0.05), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_the_registry_says_until_when_a_domain_is_registered(registry: str) -> None:
    """A month's outage may cover the day on which nobody renewed it; a zone below it belongs to the same domain."""
    assert registered_until("example.org", registry) == 1_803_859_200.0
    assert registered_until("news.example.org", registry) == 1_803_859_200.0


def test_a_registry_that_says_nothing_is_no_reason_to_fail(registry: str) -> None:
    """It is one answer among many."""
    assert registered_until("example.net", registry) is None
    assert registered_until("example.org", "http://127.0.0.1:1/") is None


@pytest.fixture
def journal(tmp_path: Any) -> Iterator[Journal]:
    """An empty journal."""
    made = Journal(tmp_path / "journal.sqlite")
    yield made
    made.close()
