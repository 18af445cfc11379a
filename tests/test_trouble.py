"""Trouble on the controller's own machine during an outage, and mistakes in its configuration."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mirrord.config import load
from mirrord.control.works import Works
from mirrord.errors import Refused
from tests.conftest import Lab
from tests.lab.processes import halt, send
from tests.lab.publisher import Publisher, publisher
from tests.lab.sftp import make_key, public_line
from tests.lab.waiting import steadily, until
from tests.test_config import GOOD

FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


@pytest.fixture
def site(lab: Lab) -> Iterator[Publisher]:
    """A publisher of a small site on two hosts."""
    with publisher(lab, ("milan", "lyon")) as made:
        yield made


def watch(site: Publisher) -> Publisher:
    """Publish, and have a daemon watch until it could help."""
    assert site.verb("sync")["exit"] == 0
    site.daemon.start()
    until(lambda: site.service()["protected"]["ok"], 20, "protection")
    return site


def test_a_full_disk_under_the_journal_keeps_nobody_from_being_moved(site: Publisher, lab: Lab) -> None:
    """The disk fills up when everything goes wrong at once; the zone's own record is enough for a move."""
    disk = lab.small_disk(8_192)
    site.settings["state"] = str(disk.folder / "state")
    site.configure()
    watch(site)
    disk.fill()

    site.hosts["milan"].kill()
    until(lambda: site.served_at("lyon"), 30, "readers to be moved")
    disk.free()
    until(lambda: site.service()["target"] == "lyon" and site.service()["zone"]["state"] == "ours", 20, "the record")


def test_a_state_folder_that_is_gone_keeps_nobody_from_being_moved(site: Publisher) -> None:
    """Its disk fell off: what the daemon knows and the zone's own record are enough for a move."""
    watch(site)
    site.state.rename(site.folder / "elsewhere")

    site.hosts["milan"].kill()
    until(lambda: site.served_at("lyon"), 30, "readers to be moved")


def test_who_moves_readers_by_hand_on_a_full_disk_is_told_that_they_were_moved(site: Publisher, lab: Lab) -> None:
    """A lock without its note is no reason to call a move failed that was made."""
    disk = lab.small_disk(8_192)
    site.settings["state"] = str(disk.folder / "state")
    site.configure()
    assert site.verb("sync")["exit"] == 0
    assert site.verb("switch", "web", "milan", "--yes")["exit"] == 0
    disk.fill()

    moved = site.verb("switch", "web", "lyon", "--yes")
    assert (moved["exit"], moved.get("result")) == (0, "done"), moved
    assert site.served_at("lyon")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where the state folder of a configuration should be."""
    (tmp_path / "mirrord.toml").write_text(GOOD.replace("/var/lib/mirrord", "state"))
    return tmp_path / "state"


def test_a_file_in_place_of_the_state_folder_is_called_that(state: Path) -> None:
    """The advice to give it to another user would lead nowhere."""
    state.write_text("")

    with pytest.raises(Refused, match="opening the state folder: a file stands there; name a folder"):
        Works(load(state.parent / "mirrord.toml"))


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed")
def test_who_may_not_enter_the_state_folder_is_told_whose_it_is(state: Path) -> None:
    """A member of the daemon's group types `mirrord doctor`: the folder is well as it is."""
    state.mkdir(mode=0o750)
    state.parent.chmod(0o711)
    settings = load(state.parent / "mirrord.toml")
    child = os.fork()
    if child == 0:
        os.chdir(state.parent)  # the folders above it are for nobody but us
        os.setresuid(65534, 65534, 65534)
        try:
            Works(settings.model_copy(update={"state": settings.state.model_copy(update={"directory": Path("state")})}))
        except Refused as e:
            os._exit(0 if str(e).endswith("Permission denied; it belongs to root; use sudo") else 3)
        os._exit(2)

    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_wall_clock_set_a_day_forward_stops_automatic_moves_and_set_back_stops_no_job(
    site: Publisher, tmp_path: Path
) -> None:
    """
    With a wrong clock certificates look expired everywhere: nobody is condemned for that, and it is said by how much
    we are off. After the clock is set back, the schedule must not wait a day to catch up with itself.
    """
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    site.environment |= {
        "LD_PRELOAD": str(FAKETIME[0]),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    watch(site)
    offset.write_text("+1d\n")
    warned = until(lambda: [text for text in site.verb("status")["warnings"] if "clock" in text], 20, "the clock")
    assert "24" in warned[0] or "day" in warned[0], warned
    assert not site.service()["protected"]["ok"]

    offset.write_text("+0\n")
    until(lambda: site.service()["protected"]["ok"], 20, "protection, with the clock set back")
    site.hosts["milan"].kill()
    until(lambda: site.served_at("lyon"), 20, "readers to be moved by a schedule that goes on")


def test_a_daemon_that_slept_judges_anew_before_it_acts(site: Publisher) -> None:
    """A laptop wakes up an hour later: what it knew is old, and its network may not be back yet."""
    watch(site)

    def judged_anew_after_a_nap() -> bool:
        """Between two looks, that is; in the middle of one so short a nap is a slow look."""
        halt([site.daemon.pid])
        slept = time.monotonic()
        until(lambda: time.monotonic() - slept > 1.5, 5, "more than three times `probe.every` to pass")
        send(signal.SIGCONT, [site.daemon.pid])
        until(lambda: time.monotonic() - slept > 2.5, 5, "the next look")
        return any("milan (web): up -> unknown" in what for what in told(site))

    until(judged_anew_after_a_nap, 30, "milan to be judged anew")
    until(lambda: site.service()["protected"]["ok"], 20, "protection")
    assert site.served_at("milan")
    assert not [what for what in told(site) if "moved from" in what]


def told(site: Publisher) -> list[str]:
    """Return what the history tells, oldest first."""
    return [event["what"] for event in site.verb("history")["events"]]


def test_a_publish_that_takes_longer_than_detection_moves_nobody(site: Publisher) -> None:
    """A large change on a thin line is under way for many rounds: each look finds one whole release or the other."""
    site.config.write_text(site.config.read_text().replace("[mirror.sftp]", '[mirror.sftp]\nbandwidth = "300KB"'))
    watch(site)
    site.write("big.bin", os.urandom(1_200_000))
    site.write("index.html", "<h1>New</h1>")
    began = time.monotonic()
    assert site.verb("sync")["exit"] == 0

    assert time.monotonic() - began > 5 * 2 * 0.3, "it took several times `fall` x `every`"
    until(lambda: site.mirror("milan")["release"] == site.hosts["milan"].serves, 20, "the new release to be seen")
    steadily(lambda: site.service()["protected"]["ok"], 1, "protection")
    assert not [what for what in told(site) if "-> down" in what or "moved from" in what]


def test_the_name_server_may_die_with_the_datacentre(site: Publisher) -> None:
    """
    The road to the zone goes through the burning room: nothing can be moved, and that is said. The name server comes
    back long before the host does, and readers are moved at once.
    """
    site.configure(references=[site.secondary.endpoint])
    watch(site)
    site.primary.kill()
    site.hosts["milan"].kill()
    until(lambda: site.mirror("milan")["verdict"] == "down", 20, "milan to be judged down")
    until(lambda: site.primary.endpoint in site.service()["protected"]["why"], 20, "the alarm to name it")
    assert not site.service()["protected"]["ok"]
    assert site.secondary.query("www.example.org", "A") == {site.hosts["milan"].address}

    site.primary.start()
    until(lambda: site.served_at("lyon"), 20, "readers to be moved")


def test_a_quiet_site_is_signed_again_by_itself(site: Publisher) -> None:
    """Nobody wrote an article for a day; readers who check must not think that the site was abandoned."""
    site.verb("sync")
    card = site.hosts["lyon"].root / "current/.well-known/mirrord/snapshot.json"
    before = json.loads(card.read_text())
    site.environment |= {"LD_PRELOAD": str(FAKETIME[0]), "FAKETIME": "+13h", "DONT_FAKE_MONOTONIC": "1"}
    site.daemon.start()

    until(lambda: json.loads(card.read_text())["next_expected"] > before["next_expected"], 20, "a new promise")
    after = json.loads(card.read_text())
    assert {**after, "next_expected": ""} == {**before, "next_expected": ""}
    until(lambda: site.mirror("lyon")["class"] == "current", 20, "lyon to be seen well with it")


def test_a_primary_that_we_do_not_publish_to_is_watched_by_its_markers(site: Publisher) -> None:
    """A CMS in the primary datacentre: it is well when it says so, copies take over, and nothing goes back unasked."""
    milan = site.hosts["milan"]
    site.verb("sync")
    text = site.config.read_text()
    begin = text.index("[mirror.sftp]")
    end = text.index("[[mirror]]", begin)
    site.config.write_text(text[:begin] + text[end:])
    (milan.root / "current").unlink()
    (milan.root / "current").mkdir()
    (milan.root / "current" / "index.html").write_text("a CMS, other bytes at each look")
    site.daemon.start()
    until(lambda: site.mirror("milan")["class"] == "unverified", 20, "milan to be seen well")
    until(lambda: site.service()["protected"]["ok"], 20, "protection")

    milan.kill()
    until(lambda: site.served_at("lyon"), 20, "readers to be moved")
    milan.start()
    until(lambda: site.mirror("milan")["verdict"] == "up", 20, "milan to be well again")
    steadily(lambda: site.served_at("lyon"), 2, "readers to stay")


def other_host_key(site: Publisher) -> str:
    """Pin another key than lyon has."""
    make_key(site.folder / "other")
    return site.config.read_text().replace(site.hosts["lyon"].sshd.host_key_line, public_line(site.folder / "other"))


def other_login_key(site: Publisher) -> str:
    """Log in to lyon with a key that it does not know."""
    make_key(site.folder / "other")
    return site.config.read_text().replace(str(site.hosts["lyon"].sshd.client_key_path), str(site.folder / "other"))


def no_login_key(site: Publisher) -> str:
    """Name a key file that is not there."""
    return site.config.read_text().replace(str(site.hosts["lyon"].sshd.client_key_path), "/nowhere/key")


@pytest.mark.parametrize(
    ("mistake", "said", "code"),
    [
        pytest.param(other_host_key, "its key is not the pinned one", 3, id="wrong host key"),
        pytest.param(other_login_key, "lyon", 3, id="wrong login key"),
        pytest.param(no_login_key, "/nowhere/key", 78, id="no key file"),
    ],
)
def test_a_mistake_about_one_mirror_is_one_sentence_and_the_others_are_published(
    site: Publisher, mistake: Callable[[Publisher], str], said: str, code: int
) -> None:
    """Partly done is exit 3, our own configuration 78; the row says what is wrong with whom and what to do."""
    site.config.write_text(mistake(site))

    done = site.verb("sync")
    rows = {row["name"]: row for row in done["mirrors"]}
    assert (done["exit"], rows["milan"]["result"], rows["lyon"]["result"]) == (code, "published", "failed")
    assert said in rows["lyon"]["error"]
    assert "Traceback" not in done["stderr"]
    assert "\n" not in rows["lyon"]["error"]


def test_a_wrong_certificate_takes_a_mirror_out_in_one_sentence(site: Publisher, lab: Lab) -> None:
    """A standby's certificate rots unseen unless somebody looks with the site's own name."""
    site.verb("sync")
    lyon = site.hosts["lyon"].nginx
    lyon.certificate = lab.ca.issue(["other.example.org"])
    lyon.reload()

    done = site.verb("check", "lyon")
    assert done["exit"] == 1
    assert "www.example.org" in done["mirrors"][0]["cause"]


def test_a_wrong_tsig_secret_is_one_sentence_and_changes_nothing(site: Publisher) -> None:
    """The name server refuses, the zone stays, exit 5."""
    site.verb("sync")
    (site.folder / "tsig").write_text("bm90IHRoZSByaWdodCBzZWNyZXQgYXQgYWxsISEhISE=\n")

    done = site.run("switch", "web", "lyon", "--yes")
    assert done.returncode == 5
    assert "the secret of the key mirrord is another one there; compare the secrets" in done.stdout
    assert "Traceback" not in done.stderr
    assert site.served_at("milan")


def test_two_syncs_at_once_are_one_publish(site: Publisher) -> None:
    """A maintainer's impatience must not be a conflict: the second joins the first, or says who is at it."""
    site.write("big.bin", b"x" * 30_000_000)
    ends: list[dict[str, object]] = []
    crew = [threading.Thread(target=lambda: ends.append(site.verb("sync"))) for _ in range(2)]
    for one in crew:
        one.start()
    for one in crew:
        one.join()

    assert {end["exit"] for end in ends} <= {0, 10}
    assert 0 in {end["exit"] for end in ends}
    assert {host.serves for host in site.hosts.values()} == {site.verb("snapshots")["snapshots"][0]["id"]}


def test_a_move_that_could_not_be_made_alarms_nobody_once_it_could(site: Publisher) -> None:
    """
    The name server was gone when a move was due, and the host came back first: then nothing is due any more, and no
    next move would show that the road is there again. An alarm that stays for months hides the next one.
    """
    site.configure(references=[site.secondary.endpoint])
    watch(site)
    site.primary.kill()
    site.hosts["milan"].kill()
    until(lambda: "no road" in site.service()["protected"]["why"], 20, "a move that cannot be made")
    site.hosts["milan"].start()
    until(lambda: site.mirror("milan")["verdict"] == "up", 20, "milan to be well again")

    site.primary.start()
    until(lambda: site.service()["protected"]["ok"], 20, "protection")
    assert site.served_at("milan")


def test_a_move_that_cannot_be_made_for_long_is_told_by_its_cause_alone(site: Publisher, lab: Lab) -> None:
    """
    The road to the zone swallows everything, so that reading the zone takes longer than a round of looks: what is known
    of the zone is older than our last try, which moved nobody, and nobody else did.
    """
    road = lab.proxy("127.0.0.1", site.primary.port)
    site.configure(servers=[f"127.0.0.1:{road.port}"])
    watch(site)
    road.stall()
    site.hosts["milan"].kill()
    until(lambda: "no road" in site.service()["protected"]["why"], 30, "a move that cannot be made")

    steadily(lambda: "no road" in site.service()["protected"]["why"], 12, "the cause")
    assert not [what for what in told(site) if "since this was decided" in what]
    road.resume()
    until(lambda: site.served_at("lyon"), 30, "readers to be moved")


def test_a_name_server_that_refused_us_is_asked_again_whether_it_does(site: Publisher) -> None:
    """
    The host came back before anybody mended the key: nothing is due any more, so only a proof can show that the next
    move would be taken.
    """
    right = (site.folder / "tsig").read_bytes()
    watch(site)
    (site.folder / "tsig").write_text("bm90IHRoZSByaWdodCBzZWNyZXQgYXQgYWxsISEhISE=\n")
    site.hosts["milan"].kill()
    until(lambda: "is another one there" in site.service()["protected"]["why"], 20, "a move that is refused")
    site.hosts["milan"].start()
    until(lambda: site.mirror("milan")["verdict"] == "up", 20, "milan to be well again")
    steadily(lambda: not site.service()["protected"]["ok"], 4, "no protection while we are refused")

    (site.folder / "tsig").write_bytes(right)
    until(lambda: site.service()["protected"]["ok"], 20, "protection")
    assert site.served_at("milan")


def test_a_mirror_that_is_taken_out_of_the_configuration_while_it_serves_is_told(site: Publisher) -> None:
    """Somebody tidies up during an outage, before readers were moved: who is nobody's to judge is left to a person."""
    watch(site)
    site.verb("hold", "web", "--reason", "let me see")
    site.hosts["milan"].kill()
    until(lambda: site.mirror("milan")["verdict"] == "down", 20, "milan to be judged down")
    text = site.config.read_text()
    begin = text.index("[[mirror]]")
    rest = text[text.index("[[mirror]]", begin + 1) :].replace('order = ["milan", "lyon"]', 'order = ["lyon"]')
    site.config.write_text(text[:begin] + rest)
    site.tell(signal.SIGHUP)

    answer = f"www.example.org answers {site.hosts['milan'].address}"
    until(lambda: answer in site.service()["protected"]["why"], 20, "it to be told")
    assert "`mirrord switch web MIRROR` sends readers to one" in site.service()["protected"]["why"]
    assert site.verb("switch", "web", "lyon", "--yes")["exit"] == 0
    assert site.served_at("lyon")
