"""What people order, and what becomes of it: on real servers, with the daemon as a process."""

from __future__ import annotations

import getpass
import json
import subprocess
import sys
from collections.abc import Iterator

import dns.rcode
import pytest

from tests.conftest import Lab
from tests.lab.proxy import Proxy
from tests.lab.publisher import Publisher, publisher
from tests.lab.waiting import steadily, until
from tests.switching import Road, answer_to, human


@pytest.fixture
def site(lab: Lab) -> Iterator[Publisher]:
    """A publisher of a small site on two hosts."""
    with publisher(lab, ("milan", "lyon")) as made:
        yield made


def watched(site: Publisher) -> Publisher:
    """Have a daemon watch until it could help."""
    site.daemon.start()
    until(lambda: site.service()["protected"]["ok"], 20, "protection")
    return site


def begun(site: Publisher, *words: str) -> subprocess.Popen[str]:
    """Begin a verb, and do not wait for its end."""
    command = [sys.executable, "-m", "mirrord", "-c", str(site.config), *words, "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_rollback_stands_until_a_person_syncs(site: Publisher) -> None:
    """
    The content goes back, the numbers go on: no mirror takes it for old. What is wrong still stands in the source, so
    nothing is taken from there by itself until somebody has mended it and says so.
    """
    good = site.verb("sync")["snapshot"]
    site.write("index.html", "<h1>Mistake</h1>")
    assert site.verb("sync")["exit"] == 0

    back = site.verb("rollback", good["id"])
    assert (back["exit"], back["restores"], back["snapshot"]["serial"]) == (0, good["id"], 3)
    pages = [host.root / "current/index.html" for host in site.hosts.values()]
    assert {page.read_text() for page in pages} == {"<h1>Home</h1>"}

    site.configure(snapshot_every="1s")
    watched(site)
    steadily(lambda: {page.read_text() for page in pages} == {"<h1>Home</h1>"}, 2, "the earlier content")
    assert good["id"] in site.verb("status")["publishing"]["held"]["reason"]

    site.write("index.html", "<h1>Mended</h1>")
    assert site.verb("sync")["exit"] == 0
    assert {page.read_text() for page in pages} == {"<h1>Mended</h1>"}
    assert site.verb("status")["publishing"]["held"] is None


@pytest.mark.parametrize("published", [1, 2], ids=["the same serial", "a higher serial"])
def test_the_way_out_that_a_refusal_names_leads_out(site: Publisher, published: int) -> None:
    """
    The state folder was lost, so mirrors have newer numbers than we would give: nobody publishes backwards by himself.
    What a person is told to type then has to publish.
    """
    for number in range(published):
        site.write("about.html", f"<h1>{number}</h1>")
        assert site.verb("sync")["exit"] == 0
    site.configure(state=str(site.folder / "state-2"))
    site.write("about.html", "<h1>Since then</h1>")
    refused = site.verb("sync")
    assert {mirror["result"] for mirror in refused["mirrors"]} == {"refused"}
    way = f"rollback {refused['snapshot']['id']}"
    assert f"`mirrord {way}`" in refused["mirrors"][0]["error"]

    back = site.verb(*way.split())
    assert (back["exit"], back["snapshot"]["serial"]) == (0, published + 1)
    assert {(host.root / "current/about.html").read_text() for host in site.hosts.values()} == {"<h1>Since then</h1>"}


def test_draining_asks_and_the_answer_moves_readers(site: Publisher) -> None:
    """A host is to be worked on: mirrord asks before it moves anybody, and the history says who wanted it."""
    site.verb("sync")
    watched(site)
    assert site.verb("drain", "milan", "--stay", "--reason", "new disks")["exit"] == 0
    ask = until(lambda: site.service()["ask"], 20, "the question")
    assert site.served_at("milan")

    assert site.verb("ack", ask)["exit"] == 0
    until(lambda: site.served_at("lyon"), 20, "readers to be moved")
    assert site.verb("undrain", "milan")["exit"] == 0
    steadily(lambda: site.served_at("lyon"), 1, "readers to stay where they are")
    orders = [event for event in site.verb("history")["events"] if event["kind"] in ("drain", "ack")]
    assert orders
    assert {event["by"] for event in orders} == {getpass.getuser()}


def test_explain_says_why_readers_are_where_they_are_with_a_daemon_and_without(site: Publisher) -> None:
    """The question of every night: why does it do nothing?"""
    site.verb("sync")
    alone = site.run("explain", "web")
    watched(site)
    assert site.verb("hold", "web", "--reason", "the registrar is moving")["exit"] == 0
    site.hosts["milan"].kill()
    until(lambda: site.mirror("milan")["verdict"] == "down", 20, "milan to be judged down")
    asked = site.run("explain", "web")

    said = [" ".join(done.stdout.split()) for done in (alone, asked)]
    assert all("milan serves web" in text for text in said)
    assert "If milan is judged down, readers move to lyon (current)" in said[0]
    assert "the registrar is moving" in said[1]
    assert "connection refused" in said[1].lower()


def test_any_laptop_with_configuration_and_keys_can_move_readers(site: Publisher) -> None:
    """The controller burnt with the datacentre. An empty journal is no leave to overwrite what stands: `--adopt` is."""
    site.verb("sync")
    assert site.verb("switch", "web", "milan", "--adopt", "--yes")["exit"] == 0
    site.hosts["milan"].kill()
    site.configure(controller="laptop", state=str(site.folder / "laptop"))

    refused = site.verb("switch", "web", "lyon", "--yes")
    assert (refused["exit"], refused["error"]["brake"]) == (5, "foreign")
    assert site.served_at("milan")
    assert site.verb("switch", "web", "lyon", "--adopt", "--yes")["exit"] == 0
    assert site.served_at("lyon")


def test_lifting_the_brake_of_a_foreign_zone_moves_readers_from_what_stands_there(site: Publisher) -> None:
    """It is offered where that brake holds: what somebody else wrote is replaced, and the service is held."""
    site.verb("sync")
    assert site.verb("switch", "web", "milan", "--adopt", "--yes")["exit"] == 0
    human(site.primary, ("replace", "www", 1, "A", "192.0.2.77"))
    refused = site.verb("switch", "web", "lyon", "--yes")
    assert "--override foreign lifts this brake" in refused["error"]["message"]

    lifted = site.verb("switch", "web", "lyon", "--override", "foreign", "--yes")
    assert (lifted["exit"], site.served_at("lyon")) == (0, True)
    assert "against the brake foreign" in site.service()["held"]["reason"]


@pytest.fixture
def line(site: Publisher, lab: Lab) -> Proxy:
    """The line to lyon's account, stalled, with a snapshot that everybody else serves."""
    lyon = site.hosts["lyon"]
    proxy = lab.proxy("127.0.0.1", lyon.sshd.port)
    lyon.publish_port = proxy.port
    site.configure()
    site.verb("sync")
    site.write("big.bin", b"x" * 1_000_000)
    proxy.stall()
    return proxy


def on_milan(site: Publisher) -> bool:
    """Whether milan serves the newest snapshot."""
    taken = site.verb("snapshots")["snapshots"]
    return len(taken) == 2 and site.hosts["milan"].serves == taken[-1]["id"]


def logins(site: Publisher) -> int:
    """How often somebody logged in to milan's account."""
    return site.hosts["milan"].sshd.tail(10_000).count("Accepted publickey")


def test_a_second_sync_of_the_same_snapshot_joins_the_first(site: Publisher, line: Proxy) -> None:
    """A maintainer's impatience is no conflict: both see the same end."""
    with begun(site, "sync") as first:
        until(lambda: on_milan(site), 20, "the first to have published to milan")
        before = logins(site)
        with begun(site, "sync") as second:
            until(lambda: logins(site) > before, 20, "the second to be at work, on both mirrors at once")
            steadily(lambda: second.poll() is None, 1, "the second to wait")
            line.resume()
            said = [json.loads(verb.communicate(timeout=60)[0]) for verb in (first, second)]

    assert (first.returncode, second.returncode) == (0, 0)
    assert {row["result"] for each in said for row in each["mirrors"]} <= {"published", "unchanged"}
    assert site.hosts["lyon"].serves == said[1]["snapshot"]["id"]


def test_a_second_sync_of_another_snapshot_is_told_that_it_is_locked(site: Publisher, line: Proxy) -> None:
    """Two contents cannot be on their way to one host; the others get the newer one meanwhile."""
    with begun(site, "sync") as first:
        until(lambda: on_milan(site), 20, "the first to have published to milan")
        site.write("index.html", "<h1>Newer</h1>")
        second = site.verb("sync")
        line.resume()
        first.communicate(timeout=60)

    rows = {row["name"]: row for row in second["mirrors"]}
    assert second["exit"] == 10
    assert (rows["milan"]["result"], rows["lyon"]["result"]) == ("published", "failed")
    assert "wait for it" in rows["lyon"]["error"]
    assert site.verb("sync")["exit"] == 0


def test_a_sync_waits_for_what_the_daemon_publishes_by_itself(site: Publisher, line: Proxy) -> None:
    """A maintainer who corrects a page the moment after must not be turned away by a run that nobody asked for."""
    line.resume()
    assert site.verb("sync")["exit"] == 0
    watched(site)
    line.stall()
    site.write("index.html", "<h1>Wrong</h1>")
    wrong = site.verb("snapshot")["snapshot"]["id"]
    until(lambda: site.hosts["milan"].serves == wrong, 20, "the daemon to have brought milan forward")
    site.write("index.html", "<h1>Corrected</h1>")

    with begun(site, "sync") as mine:
        steadily(lambda: mine.poll() is None, 1, "the sync to wait for lyon")
        line.resume()
        said = json.loads(mine.communicate(timeout=60)[0])
    assert (mine.returncode, {row["result"] for row in said["mirrors"]}) == (0, {"published"})
    assert {host.serves for host in site.hosts.values()} == {said["snapshot"]["id"]}


def test_deletions_that_a_person_allows_are_not_refused_with_a_run_that_the_daemon_began(
    site: Publisher, line: Proxy
) -> None:
    """The daemon brings forward what was just taken, on its own terms: joining it would mean to be refused with it."""
    for number in range(40):
        site.write(f"page-{number}.html", "text")
    line.resume()
    assert site.verb("sync")["exit"] == 0
    watched(site)
    line.stall()
    for number in range(30):
        (site.source / f"page-{number}.html").unlink()
    taken = site.verb("snapshot", "--allow-deletions")["snapshot"]["id"]
    refused = f"milan: refused {taken}"
    until(lambda: any(refused in event["what"] for event in site.verb("history")["events"]), 20, "the daemon's run")

    with begun(site, "sync", "--allow-deletions") as mine:
        steadily(lambda: mine.poll() is None, 1, "the sync to wait for lyon")
        line.resume()
        said = json.loads(mine.communicate(timeout=60)[0])
    assert (mine.returncode, {row["result"] for row in said["mirrors"]}) == (0, {"published"}), said
    assert {host.serves for host in site.hosts.values()} == {taken}
    met = f"2 mirrors switched to {taken} within"
    until(lambda: any(met in event["what"] for event in site.verb("history")["events"]), 10, "the gathering to be told")


def test_a_plan_is_carried_out_by_no_run_that_the_daemon_began(site: Publisher, line: Proxy) -> None:
    """That run goes by no plan: who agreed to one waits for its end, and then holds what is left to his own."""
    line.resume()
    assert site.verb("sync")["exit"] == 0
    watched(site)
    site.write("index.html", "<h1>Agreed</h1>")
    plan = site.verb("sync", "--dry-run")["plan"]["id"]
    line.stall()
    taken = site.verb("snapshot")["snapshot"]["id"]
    until(lambda: site.hosts["milan"].serves == taken, 20, "the daemon to have brought milan forward")

    with begun(site, "sync", "--plan", plan) as mine:
        steadily(lambda: mine.poll() is None, 1, "the sync to wait for lyon")
        line.resume()
        said = json.loads(mine.communicate(timeout=60)[0])
    assert (mine.returncode, {row["result"] for row in said["mirrors"]}) == (0, {"unchanged"}), said
    assert {host.serves for host in site.hosts.values()} == {taken}


def test_a_hold_that_comes_while_an_overriding_switch_is_refused_stays(site: Publisher) -> None:
    """An override brings a hold of its own, and takes it back where nobody was moved: that one, and no other's."""
    assert site.verb("sync")["exit"] == 0
    assert site.verb("switch", "web", "milan", "--adopt", "--yes")["exit"] == 0
    site.hosts["lyon"].kill()
    with Road(site.primary) as road:

        def hold_and_refuse(wire: bytes) -> bytes:
            assert site.verb("hold", "web", "--reason", "hands off")["exit"] == 0
            return answer_to(wire, dns.rcode.REFUSED, site.primary.key)

        road.on_update = hold_and_refuse
        site.configure(servers=[f"127.0.0.1:{road.port}"])
        assert site.verb("switch", "web", "lyon", "--override", "down", "--yes")["exit"] == 5

    held = site.service()["held"]
    assert held is not None
    assert held["reason"] == "hands off"
