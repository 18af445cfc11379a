"""The daemon as a process, on real servers: it watches, moves, publishes, and comes and goes cleanly."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrord.journal import Journal
from tests.conftest import Lab
from tests.lab.publisher import NAME, Publisher, publisher
from tests.lab.waiting import steadily, until


@pytest.fixture
def site(lab: Lab) -> Iterator[Publisher]:
    """A publisher of a small site on two hosts."""
    with publisher(lab, ("milan", "lyon")) as made:
        yield made


def watched(site: Publisher) -> Publisher:
    """Publish, and have a daemon watch until it could help."""
    assert site.verb("sync")["exit"] == 0
    site.daemon.start()
    until(lambda: site.service()["protected"]["ok"], 20, "protection")
    return site


def test_the_death_of_the_primary_moves_readers_and_is_written_down(site: Publisher) -> None:
    """Who looks the next morning finds what happened, when and why."""
    watched(site)

    site.hosts["milan"].kill()
    until(lambda: site.served_at("lyon"), 20, "readers to be moved")
    until(lambda: _with(site.service(), target="lyon"), 10, "status to say so")
    assert site.service()["readers_follow_by"] is not None
    events = site.verb("history")["events"]
    assert any("milan (web): up -> down" in event["what"] for event in events)
    assert any("moved from milan to lyon" in event["what"] for event in events)
    # What was decided then is decided again from what was kept of it.
    (decided,) = [event["at"] for event in events if "is to move from milan to lyon" in event["what"]]
    (then,) = site.verb("explain", "web", "--at", f"@{decided + 0.05}")["services"]
    assert (then["decided"]["target"], then["same"], then["serving"]) == ("lyon", True, "milan")
    assert any(look["fault"] and look["fault"][0] == "unreachable" for look in then["looks"]["milan"])


def test_what_looks_dead_is_looked_at_again_at_once(lab: Lab) -> None:
    """`suspicious_every`: a slow rhythm in good times costs nothing when it matters."""
    with publisher(lab, ("milan", "lyon"), probe_every="4s", suspicious_every="0.2s", fall=6) as site:
        watched(site)

        site.hosts["milan"].kill()
        until(lambda: site.served_at("lyon"), 15, "readers to be moved long before six looks of 4 s each")


def test_rounds_that_a_silent_host_stretches_follow_each_other_at_once(lab: Lab) -> None:
    """Each lasts for the timeout, longer than the rhythm: 14 looks take 14 timeouts, not 14 times two ticks."""
    with publisher(
        lab, ("milan", "lyon"), probe_every="0.9s", suspicious_every="0.9s", probe_timeout="1s", fall=14
    ) as site:
        watched(site)

        site.hosts["milan"].nginx.pause()
        until(lambda: site.served_at("lyon"), 21, "readers to be moved before 28 ticks have passed")


def test_readers_who_are_shared_lose_whoever_dies_and_never_the_last(lab: Lab) -> None:
    """`serve = "all"`: health only prunes the answer; a mirror that is back joins by hand."""
    with publisher(lab, ("milan", "lyon", "oslo"), serve="all", dwell="0.1s") as site:
        watched(site)
        assert site.verb("switch", "web", "lyon", "--yes")["exit"] == 0
        assert site.verb("switch", "web", "oslo", "--yes")["target"] == "milan+lyon+oslo"
        assert site.served_at("milan", "lyon", "oslo")

        site.hosts["milan"].kill()
        until(lambda: site.served_at("lyon", "oslo"), 20, "milan to leave the answer")
        site.hosts["oslo"].kill()
        until(lambda: site.served_at("lyon"), 20, "oslo to leave it as well")
        site.hosts["lyon"].kill()
        until(lambda: site.mirror("lyon")["verdict"] == "down", 20, "lyon to be judged down")
        steadily(lambda: site.served_at("lyon"), 1.5, "the last address to stay")
        site.hosts["milan"].start()
        until(lambda: site.served_at("milan"), 20, "readers to go to the one that is back")


def test_a_switch_shows_what_resolvers_answer_and_pages_at_the_new_answer(site: Publisher) -> None:
    """Evidence for who switched: what readers' resolvers still say and for how long, and that pages come from there."""
    assert site.verb("sync")["exit"] == 0
    site.configure(resolvers=[site.resolver.endpoint, "127.0.0.1:1"])

    found = site.verb("switch", "web", "lyon", "--yes")
    page, resolver, silent = sorted(found["evidence"], key=lambda one: (one["what"], one["where"] == "127.0.0.1:1"))
    assert (page["what"], page["where"], page["ok"]) == ("page", site.hosts["lyon"].address, True)
    assert resolver["ok"], resolver
    assert not silent["ok"]
    assert "gives no answer" in silent["text"]
    assert len(site.verb("history", "--kind", "evidence")["events"]) == 3


def test_a_service_on_hold_is_judged_and_left_alone(site: Publisher) -> None:
    """An operator at work on a host must not be surprised by a move."""
    watched(site)
    assert site.verb("hold", "web", "--reason", "new disks in milan")["exit"] == 0

    site.hosts["milan"].kill()
    until(lambda: site.mirror("milan")["verdict"] == "down", 20, "milan to be judged down")
    steadily(lambda: site.served_at("milan"), 2, "readers to stay")
    assert "new disks in milan" in site.service()["reason"]
    assert site.verb("unhold", "web")["exit"] == 0
    until(lambda: site.served_at("lyon"), 20, "readers to be moved after the hold")


def test_a_stalled_upload_delays_neither_a_probe_nor_a_move(site: Publisher, lab: Lab) -> None:
    """One dead mirror must never delay the others, the probes or the decision."""
    lyon = site.hosts["lyon"]
    proxy = lab.proxy("127.0.0.1", lyon.sshd.port)
    lyon.publish_port = proxy.port
    site.configure()
    watched(site)
    proxy.stall()
    site.write("big.bin", os.urandom(5_000_000))
    with subprocess.Popen([*_command(site), "sync"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as upload:
        until(
            lambda: site.hosts["milan"].serves == site.verb("snapshots")["snapshots"][-1]["id"], 20, "milan's publish"
        )

        site.hosts["milan"].kill()
        until(lambda: site.served_at("lyon"), 15, "readers to be moved although the upload hangs")
        assert upload.poll() is None
        upload.kill()


def test_sigterm_in_the_middle_of_an_upload_to_a_stalled_peer_stops_within_five_seconds(
    site: Publisher, lab: Lab
) -> None:
    """systemd would kill it otherwise, and whoever restarts it at night would wait."""
    lyon = site.hosts["lyon"]
    proxy = lab.proxy("127.0.0.1", lyon.sshd.port)
    lyon.publish_port = proxy.port
    site.configure()
    watched(site)
    site.write("big.bin", os.urandom(50_000_000))
    proxy.harm(1_000_000, "up", "stall")
    with subprocess.Popen([*_command(site), "sync"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as verb:
        until(lambda: proxy.harmed, 20, "the upload to be under way")

        started = time.monotonic()
        site.tell(signal.SIGTERM)
        until(lambda: not site.daemon.running, 10, "the daemon to end")
        assert time.monotonic() - started < 5
        verb.communicate(timeout=20)
    assert not (site.folder / "run" / "control.sock").exists()

    proxy.resume()
    proxy.cut()
    after = site.verb("sync")
    assert (after["exit"], {host.serves for host in site.hosts.values()}) == (0, {after["snapshot"]["id"]})
    assert not list((lyon.root / "staging").iterdir())


def test_sighup_takes_a_new_configuration_and_keeps_the_old_one_if_the_new_one_is_bad(site: Publisher) -> None:
    """A typing error at night must not end the watch."""
    watched(site)
    good = site.config.read_text()
    site.config.write_text(good + '[web]\nlissten = ""\n')
    site.tell(signal.SIGHUP)
    until(lambda: "lissten" in site.daemon.tail(), 10, "the fault to be told")
    site.config.write_text(good)
    assert site.service()["protected"]["ok"]

    site.configure(order=["lyon", "milan"])
    site.tell(signal.SIGHUP)
    until(lambda: site.verb("explain", "web")["services"][0]["order"] == ["lyon", "milan"], 10, "the new order")


def test_a_killed_daemon_goes_on_where_it_was(site: Publisher) -> None:
    """Hold, target and history are there after a SIGKILL; the dead one's socket is in nobody's way."""
    watched(site)
    site.verb("hold", "publishing", "--reason", "audit")
    site.hosts["milan"].kill()
    until(lambda: site.served_at("lyon"), 20, "readers to be moved")

    site.daemon.kill()
    assert "no daemon" in site.verb("status")["daemon"]["text"]
    site.daemon.start()
    until(lambda: _with(site.service(), target="lyon", decision="stay"), 20, "the watch to go on")
    assert site.verb("status")["publishing"]["held"]["reason"] == "audit"
    steadily(lambda: site.served_at("lyon"), 1)


def test_systemd_is_told_of_readiness_reloading_life_and_stopping(site: Publisher, tmp_path: Path) -> None:
    """Type=notify and WatchdogSec stand on it."""
    path = tmp_path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(20)
        site.environment |= {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "30000000"}
        said: list[str] = []

        def heard(word: str) -> bool:
            while not any(word in message for message in said):
                said.append(manager.recv(4096).decode())
            return True

        site.verb("sync")
        site.daemon.start()
        assert heard("READY=1")
        assert heard("WATCHDOG=1")
        site.tell(signal.SIGHUP)
        assert heard("RELOADING=1")
        assert heard("MONOTONIC_USEC=")
        said.clear()
        assert heard("READY=1")
        site.tell(signal.SIGTERM)
        assert heard("STOPPING=1")


def test_what_changes_in_the_source_is_published_by_itself(site: Publisher) -> None:
    """The scheduled service: maintainers save a page, readers see it, nobody types anything."""
    site.configure(snapshot_every="1s")
    watched(site)

    site.write("news.html", "<h1>News</h1>")
    until(lambda: all((host.root / "current/news.html").exists() for host in site.hosts.values()), 20, "the page")
    assert site.verb("snapshots")["snapshots"][-1]["serial"] == 2


def test_a_mirror_that_comes_back_is_brought_forward_with_the_next_look(lab: Lab) -> None:
    """The pauses between tries have grown while it was away; readers may be sent there the moment it is up."""
    with publisher(lab, ("milan", "lyon"), probe_every="2s", suspicious_every="0.5s") as site:
        lyon = site.hosts["lyon"]
        proxy = lab.proxy("127.0.0.1", lyon.sshd.port)
        lyon.publish_port = proxy.port
        site.configure()
        watched(site)
        lyon.nginx.kill()
        proxy.down()
        site.write("news.html", "<h1>News</h1>")
        news = site.verb("sync")["snapshot"]["id"]
        failed: set[float] = set()
        with contextlib.closing(Journal(site.state / "journal.sqlite")) as journal:
            until(lambda: _tries(journal, "lyon", failed) > 2, 40, "tries that fail, with growing pauses")

        proxy.up()
        lyon.nginx.start()
        until(lambda: lyon.serves == news, 4, "lyon to be brought forward")


def test_a_shrunken_source_publishes_nothing_and_says_so(site: Publisher) -> None:
    """An unmounted disk must not empty every mirror."""
    for number in range(40):
        site.write(f"page-{number}.html", "text")
    site.configure(snapshot_every="1s")
    watched(site)
    for number in range(30):
        (site.source / f"page-{number}.html").unlink()

    until(lambda: any("--allow-deletions" in text for text in site.verb("status")["warnings"]), 20, "the brake")
    assert (site.hosts["lyon"].root / "current/page-0.html").exists()
    refused = site.run("sync")
    assert (refused.returncode, "--allow-deletions" in refused.stderr) == (5, True)
    assert site.run("sync", "--allow-deletions").returncode == 0
    assert not (site.hosts["lyon"].root / "current/page-0.html").exists()


def test_a_page_that_a_host_alters_takes_it_out_and_is_put_right(site: Publisher) -> None:
    """Whoever carries a copy must be unable to alter it unseen; what is altered is mended from our own copy."""
    watched(site)
    page = site.hosts["lyon"].root / "current/about/index.html"
    page.write_text("<h1>Send money here</h1>")

    until(lambda: page.read_text() == "<h1>About</h1>", 20, "the page to be mended")
    told = [event["what"] for event in site.verb("history")["events"]]
    assert any("lyon (web): up -> down" in what and "about/index.html" in what for what in told), told
    until(lambda: site.mirror("lyon")["verdict"] == "up", 20, "lyon to be well again")


def test_two_daemons_on_one_state_folder_are_one_too_many(site: Publisher) -> None:
    """Two deciders would fight; the second says who is first and ends."""
    watched(site)

    second = site.run("run")
    assert second.returncode == 10
    assert "another mirrord" in second.stderr


def test_a_restored_older_controller_is_kept_from_publishing(site: Publisher) -> None:
    """A state folder from a backup must not bring readers old pages as new ones."""
    site.verb("sync")
    backup = site.folder / "backup"
    subprocess.run(["cp", "-a", str(site.state), str(backup)], check=True)
    site.write("news.html", "new")
    site.verb("sync")
    subprocess.run(["rm", "-rf", str(site.state)], check=True)
    backup.rename(site.state)
    site.write("other.html", "also new")

    refused = site.verb("sync")
    assert refused["exit"] == 5
    assert (site.hosts["lyon"].root / "current/news.html").exists()
    site.configure(snapshot_every="1s")
    site.daemon.start()
    until(lambda: any("older" in text for text in site.verb("status")["warnings"]), 20, "the stop to be told")
    assert (site.hosts["lyon"].root / "current/news.html").exists()


def test_readers_are_moved_home_only_to_what_caught_up(site: Publisher) -> None:
    """A switch by hand to a mirror with altered pages is refused, and one brake at a time can be lifted."""
    watched(site)
    (site.hosts["lyon"].root / "current/index.html").write_text("altered")
    site.hosts["lyon"].sshd.kill()
    until(lambda: site.mirror("lyon")["verdict"] == "down", 20, "lyon to be judged down")

    refused = site.verb("switch", "web", "lyon", "--yes")
    assert (refused["exit"], refused["error"]["brake"]) == (5, "bad-content")
    assert site.served_at("milan")
    lifted = site.verb("switch", "web", "lyon", "--yes", "--override", "bad-content")
    assert (lifted["exit"], site.served_at("lyon")) == (0, True)
    steadily(lambda: site.served_at("lyon"), 2, "the order to stand")
    assert "bad-content" in site.service()["held"]["reason"]


def test_a_human_who_moved_the_name_meanwhile_is_left_in_peace(site: Publisher) -> None:
    """An automatic move over a person's change made during an outage would make two outages of one."""
    watched(site)
    key = site.primary.key.write_nsupdate(site.folder / "nsupdate.key")
    commands = f"server {site.primary.address} {site.primary.port}\nzone example.org\n"
    commands += f"update delete {NAME} A\nupdate add {NAME} 1 A 127.0.0.99\nsend\n"
    subprocess.run(["nsupdate", "-k", str(key)], input=commands, text=True, check=True)

    site.hosts["milan"].kill()
    until(lambda: site.mirror("milan")["verdict"] == "down", 20, "milan to be judged down")
    until(lambda: site.service()["zone"]["state"] == "foreign", 10, "the zone to be seen foreign")
    steadily(lambda: site.answers() == {"127.0.0.99"}, 2, "the person's change to stay")
    adopted = site.verb("switch", "web", "lyon", "--adopt", "--yes")
    assert (adopted["exit"], site.served_at("lyon")) == (0, True)


def _with(found: dict[str, object], **wanted: object) -> bool:
    """Tell whether what was found says what is wanted."""
    return all(found.get(name) == value for name, value in wanted.items())


def _tries(journal: Journal, mirror: str, failed: set[float]) -> int:
    """Count the publishes to a mirror that failed."""
    last = journal.publishes()[mirror]
    failed |= {last.began} if last.result == "failed" else set()
    return len(failed)


def _command(site: Publisher) -> list[str]:
    """Return the words that every verb begins with."""
    return [sys.executable, "-m", "mirrord", "-c", str(site.config)]


def test_json_is_one_object_on_standard_output(site: Publisher) -> None:
    """Machines read it; talk goes elsewhere."""
    done = site.run("sync", "--json")

    assert json.loads(done.stdout)["schema"] == 1
