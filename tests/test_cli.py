"""What is typed reaches the desk, what comes back is shown, and the exit code says how it went."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mirrord.cli import screens
from mirrord.cli.ending import configuration_of, run
from mirrord.errors import Braked, Conflict, Locked, MirrordError, NoAnswer, PutOff
from tests.lab.desk import ScriptedDesk
from tests.test_config import GOOD

NOW = "2026-11-21T22:00:00Z"
SNAP = {
    "id": "20261121T210000Z-0a1b2c3d",
    "serial": 12,
    "created": NOW,
    "files": 7884,
    "bytes": 98_300_000,
    "changed": True,
    "previous": None,
    "restores": None,
}
HOLD = {"what": "web", "reason": "moving racks", "by": "anna", "since": NOW, "until": None}
PROGRESS = {
    "event": "progress",
    "mirror": "lyon",
    "files_done": 10,
    "files_total": 100,
    "bytes_done": 1000,
    "bytes_total": 10_000,
}


def row(name: str, result: str = "published", code: int = 0, error: str | None = None) -> dict[str, Any]:
    """One mirror of `sync --json`."""
    return {
        "name": name,
        "result": result,
        "release": SNAP["id"],
        "serial": 12,
        "files_sent": 3,
        "files_linked": 7881,
        "files_patched": 0,
        "files_removed": 1,
        "bytes_sent": 4096,
        "verified": "seen" if result == "published" else None,
        "files_hashed": 0,
        "files_read_back": 7,
        "bytes_read_back": 4096,
        "seconds": 2.5,
        "layout": "releases",
        "layout_why": "",
        "mixture_seconds": 0.0,
        "gap_seconds": 0.0,
        "error": error,
        "error_code": code,
        "warnings": [],
    }


def synced(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"snapshot": SNAP, "mirrors": list(rows), "dry_run": False, "warnings": []}


def plan(**changes: Any) -> dict[str, Any]:
    """What a switch shows before it is made."""
    side = {"a": ["192.0.2.10"], "aaaa": [], "fence": None, "ttl": 300}
    after = {"a": ["198.51.100.20"], "aaaa": [], "fence": "v=1 epoch=1 target=lyon plan=ab by=home", "ttl": 60}
    return {
        "service": "web",
        "serving": "milan",
        "target": "lyon",
        "zone": {"state": "ours", "text": "as we left it"},
        "fence": "atomic",
        "epoch": 0,
        "before": {"www.example.org": side},
        "after": {"www.example.org": after},
        "brakes": [],
        "notes": [],
        "readers_follow_in": 300,
        "change": {"plan": "ab", "epoch": 1},
        **changes,
    }


def moved(result: str = "done") -> dict[str, Any]:
    return {
        "service": "web",
        "result": result,
        "serving_before": "milan",
        "target": "lyon",
        "epoch": 1,
        "fence": "atomic",
        "text": "lyon serves web",
        "servers": [{"address": "203.0.113.54:53", "state": "old", "serial": 7, "text": ""}],
        "readers_follow_by": NOW,
        "notes": [],
    }


class Typed:
    """What a verb wrote, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> dict[str, Any]:
        """The one object on standard output."""
        found: dict[str, Any] = json.loads(self.out)
        return found


Type = Callable[..., Typed]


@pytest.fixture(scope="module")
def open_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedDesk]:
    desk = ScriptedDesk(tmp_path_factory.mktemp("desk") / "control.sock")
    yield desk
    desk.stop()


@pytest.fixture
def desk(open_desk: ScriptedDesk) -> ScriptedDesk:
    open_desk.tidy()
    return open_desk


@pytest.fixture
def configured(tmp_path: Path, open_desk: ScriptedDesk) -> Path:
    """A configuration whose daemon is the scripted desk."""
    (tmp_path / "public").mkdir()
    file = tmp_path / "mirrord.toml"
    file.write_text(GOOD.replace("/var/lib/mirrord", "state") + f'[control]\nsocket = "{open_desk.path}"\n')
    return file


@pytest.fixture
def mirrord(configured: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Type]:
    """Type a command line."""
    monkeypatch.setenv("MIRRORD_CONFIG", str(configured))
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def typed(*words: str) -> Typed:
        code = run(list(words))
        return Typed(code, *capsys.readouterr())

    yield typed
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    ("typed", "verb", "arguments"),
    [
        ("sync", "sync", {"mirrors": [], "dry_run": False, "allow_deletions": False}),
        ("sync lyon milan -n", "sync", {"mirrors": ["lyon", "milan"], "dry_run": True, "allow_deletions": False}),
        ("sync --allow-deletions", "sync", {"mirrors": [], "dry_run": False, "allow_deletions": True}),
        (
            "sync --plan 0123456789ab",
            "sync",
            {"mirrors": [], "dry_run": False, "allow_deletions": False, "plan": "0123456789ab"},
        ),
        ("snapshot --dry-run", "snapshot", {"dry_run": True, "allow_deletions": False}),
        ("snapshots", "snapshots", {}),
        ("pin 11", "pin", {"snapshot": "11"}),
        ("unpin 20261121T21", "unpin", {"snapshot": "20261121T21"}),
        (
            "rollback 11 lyon",
            "rollback",
            {"snapshot": "11", "mirrors": ["lyon"], "dry_run": False, "allow_deletions": False},
        ),
        ("check milan", "check", {"mirrors": ["milan"]}),
        ("status", "status", {}),
        ("explain", "explain", {"service": None}),
        ("explain web", "explain", {"service": "web"}),
        ("explain web --at @1700000000.5", "explain", {"service": "web", "at": 1700000000.5}),
        ("explain --at 2026-11-22T03:15:00Z", "explain", {"service": None, "at": 1795317300.999}),
        ("explain --at 2026-11-22T03:15Z", "explain", {"service": None, "at": 1795317359.999}),
        ("explain --at 2026-11-22T03:15:00.5Z", "explain", {"service": None, "at": 1795317300.5}),
        ("hold", "hold", {"what": None, "reason": "", "seconds": None}),
        ("hold web -r racks --for 2h", "hold", {"what": "web", "reason": "racks", "seconds": 7200}),
        ("unhold publishing", "unhold", {"what": "publishing"}),
        ("undrain lyon", "undrain", {"mirror": "lyon"}),
        ("ack 3f2a", "ack", {"id": "3f2a", "answer": "yes"}),
        ("ack 3f2a --no", "ack", {"id": "3f2a", "answer": "no"}),
        ("history", "history", {"limit": 50, "seconds": None, "kinds": []}),
        (
            "history -l 5 --since 1h --kind move --kind hold",
            "history",
            {"limit": 5, "seconds": 3600, "kinds": ["move", "hold"]},
        ),
    ],
)
def test_each_verb_asks_the_desk_for_what_was_typed(
    mirrord: Type, desk: ScriptedDesk, typed: str, verb: str, arguments: dict[str, Any]
) -> None:
    """The same arguments reach the daemon and a desk of our own."""
    desk.answers[verb] = MirrordError("that will do")

    mirrord(*typed.split())

    assert desk.asked == [(verb, arguments)]


def test_json_is_one_object_with_its_schema_and_nothing_else(mirrord: Type, desk: ScriptedDesk) -> None:
    """Scripts read standard output; everything for people goes elsewhere."""
    desk.meanwhile = [{"event": "say", "text": "reading the source"}, PROGRESS]
    desk.answers["sync"] = synced(row("lyon"))

    typed = mirrord("sync", "--json")

    assert typed.json == {"schema": 1, **synced(row("lyon"))}
    assert next(iter(typed.json)) == "schema"
    assert "reading the source" in typed.err


def test_json_may_stand_before_the_verb(mirrord: Type, desk: ScriptedDesk) -> None:
    """Where an option stands is nothing to remember at night."""
    desk.answers["snapshots"] = {"snapshots": []}

    assert mirrord("--json", "snapshots").json == {"schema": 1, "snapshots": []}


def test_errors_are_one_object_too(mirrord: Type, desk: ScriptedDesk) -> None:
    """A script that reads JSON must not have to read sentences when things go wrong."""
    desk.answers["sync"] = Locked("lyon: publishing: locked by other", holder="other", since=12.5)

    typed = mirrord("sync", "--json")

    assert (typed.code, typed.json["schema"]) == (10, 1)
    assert typed.json["error"] == {
        "kind": "Locked",
        "message": "lyon: publishing: locked by other",
        "exit_code": 10,
        "holder": "other",
        "since": 12.5,
    }
    assert typed.err == "mirrord: lyon: publishing: locked by other\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["swtch"], "No such command 'swtch'"),
        (["switch"], "Missing argument 'SERVICE'"),
        (["sync", "--dryrun"], "No such option: --dryrun"),
        (["history", "--limit", "many"], "Invalid value for '--limit'"),
        (["hold", "--for", "2 hours"], "--for: should be a duration such as"),
        (["hold", "--for", "0s"], "--for: should be longer than that"),
        (["hold", "--for", "99999999999d"], "--for: should be at most 36500d"),
        (["history", "--limit", "9" * 30], "Invalid value for '--limit'"),
        (["explain", "--at", "@1e30"], "--at: should be a time such as"),
        (["explain", "--at", "@nan"], "--at: should be a time such as"),
        ([], ""),
    ],
)
def test_a_usage_error_is_a_sentence_and_exit_code_2(mirrord: Type, words: list[str], message: str) -> None:
    """What was typed wrong, and where the help is."""
    typed = mirrord(*words)

    assert typed.code == 2
    assert message in typed.err
    if words:
        assert mirrord(*words, "--json").json["error"]["exit_code"] == 2


def test_a_bad_configuration_is_exit_code_78_before_anything_else(mirrord: Type, configured: Path) -> None:
    """Its lines begin with file and line, so that an editor can jump there."""
    configured.write_text(GOOD.replace('role = "primary"', 'rule = "primary"'))

    typed = mirrord("sync")

    assert typed.code == 78
    assert typed.err == f'{configured}:16: mirror "milan": rule: unknown key; did you mean "role"?\n'


def test_a_silent_socket_is_exit_code_11(mirrord: Type, desk: ScriptedDesk) -> None:
    """A second mirrord beside a hung one could only do harm."""
    desk.answers["status"] = NoAnswer("control.sock: asking the daemon: it does not answer")

    assert mirrord("status").code == 11


def test_what_nobody_foresaw_is_a_sentence_too(mirrord: Type, desk: ScriptedDesk) -> None:
    """A traceback helps the one who mends it, not the one who reads it at night."""
    desk.answers["snapshots"] = {"unexpected": True}

    typed = mirrord("snapshots")

    assert typed.code == 1
    assert typed.err.startswith("mirrord: a fault of mirrord itself, please report it (-v shows where it happened): ")
    assert "Traceback" not in typed.err
    assert "Traceback" in mirrord("-v", "snapshots").err


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([row("a"), row("b", "unchanged")], 0),
        ([row("a"), row("b", "failed", 75, "connect timed out")], 3),
        ([row("a", "failed", 1, "no"), row("b", "failed", 75, "no")], 1),
        ([row("a"), row("b", "refused", 5, "brake")], 5),
        ([row("a", "refused", 5, "brake"), row("b", "failed", 10, "locked")], 10),
        ([row("a", "failed", 10, "locked"), row("b", "failed", 130, "stopped")], 130),
        ([row("a"), row("b", "failed", 78, "the SFTP key of b is not there"), row("c", "failed", 130, "stopped")], 78),
        ([], 0),
    ],
    ids=[
        "all",
        "some",
        "none",
        "a brake",
        "a lock before a brake",
        "an interrupt before a lock",
        "a key that is not there",
        "nobody",
    ],
)
def test_syncing_ends_with_the_code_that_matters_most(
    mirrord: Type, desk: ScriptedDesk, rows: list[dict[str, Any]], code: int
) -> None:
    """Interrupted, locked, braked: a person must know; else it is counted."""
    desk.answers["sync"] = synced(*rows)

    assert mirrord("sync").code == code
    assert mirrord("sync", "--json").code == code


def test_syncing_shows_each_mirror_with_its_figures(mirrord: Type, desk: ScriptedDesk) -> None:
    """What went where, and why one did not."""
    desk.answers["sync"] = synced(row("lyon"), row("milan", "failed", 75, "milan: logging in: connect timed out"))

    out = mirrord("sync").out

    assert "took snapshot 20261121T210000Z-0a1b2c3d, serial 12: 7,884 files, 98.3 MB" in out
    assert re.search(r"lyon +published +seen +3 +7,881 +0 +1 +4.1 kB", out)
    assert re.search(r"milan +failed .* milan: logging in: connect timed out", out)


def test_a_dry_run_shows_what_would_go(mirrord: Type, desk: ScriptedDesk) -> None:
    """The paths that would vanish are what a person has to see."""
    change = {
        "added": 1,
        "changed": 2,
        "removed": 30,
        "emptied": 1,
        "paths": {
            "added": ["new.html"],
            "changed": ["a.html", "b.html"],
            "removed": [f"old/{n}.html" for n in range(20)],
        },
    }
    desk.answers["sync"] = {
        **synced(row("lyon", "planned")),
        "snapshot": {**SNAP, "id": None, "serial": None},
        "change": change,
        "dry_run": True,
    }

    out = mirrord("sync", "-n").out

    assert "1 file added, 2 changed (1 of them emptied), 30 removed" in out
    assert "  + new.html\n" in out
    assert "  - old/7.html\n  - old/8.html\n" in out
    assert "  - and 10 more\n" in out
    assert "nothing was changed (--dry-run)" in out


PLAN = {
    "instead_of": "20261120T210000Z-0a1b2c3d",
    "base": "20261120T210000Z-0a1b2c3d",
    "sent": {"files": 3, "paths": ["index.html", "new.html"]},
    "moved": {"files": 1, "paths": ["here.html"]},
    "patched": {"files": 1, "paths": ["big.bin"]},
    "removed": {"files": 1, "paths": ["old.html"]},
}


def test_a_dry_run_says_how_to_have_exactly_that_done(mirrord: Type, desk: ScriptedDesk) -> None:
    """The id, the command, and whether it will remove more than the guard allows."""
    plan = {"id": "0123456789ab", "allow_deletions": True, "carry_out": "mirrord sync --plan 0123456789ab"}
    desk.answers["sync"] = {**synced({**row("lyon", "planned"), "plan": PLAN}), "dry_run": True, "plan": plan}

    out = mirrord("sync", "-n").out

    assert "plan 0123456789ab, removals allowed: `mirrord sync --plan 0123456789ab` does exactly this" in out
    assert "old.html" not in out


def test_a_dry_run_names_the_files_when_asked_to_say_more(mirrord: Type, desk: ScriptedDesk) -> None:
    """By mirror: they may have different releases to begin with."""
    desk.answers["sync"] = {**synced({**row("lyon", "planned"), "plan": PLAN}), "dry_run": True}

    out = mirrord("sync", "-n", "-v").out

    assert "lyon: in place of 20261120T210000Z-0a1b2c3d\n  + index.html\n  + new.html\n  + and 1 more\n" in out
    assert "  ~ big.bin\n  > here.html\n  - old.html\n" in out


def test_syncing_says_how_far_apart_the_switches_were(mirrord: Type, desk: ScriptedDesk) -> None:
    """What `together` is for."""
    desk.answers["sync"] = {**synced(row("lyon"), row("milan"), row("oslo", "failed")), "skew_seconds": 0.034}

    assert "readers of 2 mirrors were led over within 0.03 s" in mirrord("sync").out


@pytest.mark.parametrize(
    ("layout", "mixture", "gap", "said"),
    [
        ("inplace", 2.34, 0.0, "lyon: readers could see files of two releases for 2.3 s (layout inplace: it is so)"),
        ("inplace", 2.34, 0.004, "files of two releases for 2.3 s and a file missing for 4.0 ms"),
        ("rename", 0.0, 0.0006, "lyon: readers could see nothing for 0.6 ms (layout rename: it is so)"),
    ],
)
def test_syncing_says_what_readers_could_notice(
    mirrord: Type, desk: ScriptedDesk, layout: str, mixture: float, gap: float, said: str
) -> None:
    """A switch that is not one step is no secret, nor is why."""
    lyon = {**row("lyon"), "layout": layout, "layout_why": "it is so", "mixture_seconds": mixture, "gap_seconds": gap}
    desk.answers["sync"] = synced(lyon, row("milan"))

    out = " ".join(mirrord("sync").out.split())
    assert said in out
    assert "milan: readers" not in out


def test_a_put_off_snapshot_is_exit_code_75(mirrord: Type, desk: ScriptedDesk) -> None:
    """The next regular try does it; a timer may pass over it."""
    desk.answers["snapshot"] = PutOff("example: taking a snapshot: log.txt keeps changing; add it to exclude")

    assert mirrord("snapshot").code == 75


def test_snapshots_are_listed_with_who_serves_them(mirrord: Type, desk: ScriptedDesk) -> None:
    """Which one to go back to, and which must not vanish."""
    one = {**SNAP, "pinned": True, "served_by": ["lyon", "milan"], "restores": "20261101T000000Z-00000000"}
    desk.answers["snapshots"] = {"snapshots": [one]}

    out = mirrord("snapshots").out

    assert re.search(r"12 +20261121T210000Z-0a1b2c3d .* 7,884 +98.3 MB +served by lyon and milan; brings back", out)


@pytest.mark.parametrize(
    ("verb", "changed", "says"),
    [
        ("pin", True, "20261121T210000Z-0a1b2c3d is pinned\n"),
        ("pin", False, "20261121T210000Z-0a1b2c3d was pinned already\n"),
        ("unpin", True, "20261121T210000Z-0a1b2c3d is no longer pinned\n"),
        ("unpin", False, "20261121T210000Z-0a1b2c3d was not pinned\n"),
    ],
)
def test_pinning_says_which_snapshot_was_meant(
    mirrord: Type, desk: ScriptedDesk, verb: str, changed: bool, says: str
) -> None:
    """A serial was typed; the id is what stays in the scroll-back."""
    desk.answers[verb] = {"snapshot": SNAP["id"], "pinned": verb == "pin", "changed": changed}

    assert mirrord(verb, "12").out == says


def test_a_rollback_says_that_automatic_snapshots_are_held(mirrord: Type, desk: ScriptedDesk) -> None:
    """Otherwise the next quarter of an hour would publish again what was just taken back."""
    desk.answers["rollback"] = {**synced(row("lyon")), "restores": SNAP["id"], "held": {**HOLD, "what": "publishing"}}

    out = mirrord("rollback", "11").out

    assert f"brings back the content of {SNAP['id']}" in out
    assert "automatic snapshots are held; `mirrord sync` publishes the source again" in out


def look(**changes: Any) -> dict[str, Any]:
    return {
        "service": "web",
        "name": "www.example.org",
        "address": "192.0.2.10",
        "port": 443,
        "ok": True,
        "text": "serves 20261121T210000Z-0a1b2c3d, serial 12",
        "seconds": 0.21,
        "serial": 12,
        "id": SNAP["id"],
        "files_right": 9,
        "files_wrong": [],
        "certificate_days": 60.5,
        "evidence": {},
        **changes,
    }


def checked(*verdicts: str) -> dict[str, Any]:
    mirrors = [
        {"name": f"m{number}", "verdict": verdict, "class": None, "cause": None, "looks": [look()]}
        for number, verdict in enumerate(verdicts)
    ]
    return {
        "mirrors": mirrors,
        "references": [{"address": "9.9.9.9:53", "family": 4, "reachable": False}] * 2,
        "warnings": [],
    }


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [(["up", "up"], 0), (["up", "down"], 3), (["down", "unknown"], 1), (["unknown"], 1)],
)
def test_checking_counts_who_is_up(mirrord: Type, desk: ScriptedDesk, verdicts: list[str], code: int) -> None:
    """Unknown is not up."""
    desk.answers["check"] = checked(*verdicts)

    assert mirrord("check").code == code


def test_checking_shows_every_address_and_every_wrong_file(mirrord: Type, desk: ScriptedDesk) -> None:
    """One altered page has to be named."""
    found = checked("down")
    found["mirrors"][0]["cause"] = "has other bytes"
    wrong = [{"path": "a.html", "why": "has other bytes"}]
    found["mirrors"][0]["looks"].append(look(ok=False, address="2001:db8::1", text="is wrong", files_wrong=wrong))
    desk.answers["check"] = found

    out = mirrord("check").out

    assert "references that do not answer: 9.9.9.9:53\n" in out
    assert "m0: down: has other bytes" in out
    assert "  www.example.org at 192.0.2.10: serves 20261121T210000Z-0a1b2c3d, serial 12, 9 files right (0.2 s)" in out
    assert "    a.html: has other bytes" in out


def status(**changes: Any) -> dict[str, Any]:
    mirror = {
        "name": "milan",
        "role": "primary",
        "place": "dc-milan",
        "content": "snapshot",
        "verdict": "down",
        "class": None,
        "cause": "connect timed out",
        "since": NOW,
        "release": SNAP["id"],
        "serial": 12,
        "seen": NOW,
        "drained": {"reason": "racks", "by": "anna", "since": NOW},
        "suspects": ["a.html"],
        "degraded": {"2001:db8::1": "connection refused"},
        "warnings": ["its certificate expires in 9 days"],
        "published": {"result": "failed", "id": SNAP["id"], "serial": 12, "at": NOW, "error": "disk full"},
    }
    service = {
        "name": "web",
        "target": "milan",
        "since": NOW,
        "held": HOLD,
        "reason": "milan is down, and the operator holds web",
        "decision": "stay",
        "move_to": None,
        "facts": [],
        "alarm": True,
        "protected": {"ok": False, "why": "held"},
        "zone": {"state": "reverted", "text": "back to what we left at epoch 3"},
        "fence": "atomic",
        "epoch": 4,
        "pending": {"plan": "ab", "target": "lyon", "since": NOW},
        "ask": "3f2a",
        "readers_follow_by": "2999-01-01T00:00:00Z",
        "lagging": ["203.0.113.54:53"],
    }
    return {
        "site": "example",
        "url": "https://www.example.org/",
        "at": NOW,
        "protected": {"ok": False, "why": "web is held by anna"},
        "controller": "home",
        "place": "office",
        "daemon": {"running": True, "pid": 7, "since": NOW, "text": "watching"},
        "snapshot": {**SNAP, "next_expected": NOW, "overdue": True},
        "wanted": None,
        "publishing": {"held": {**HOLD, "what": "publishing"}},
        "mirrors": [mirror],
        "services": [service],
        "asks": [{"id": "3f2a", "service": "web", "question": "Write it again?", "facts": ["epoch 4"], "since": NOW}],
        "warnings": ["our clock is 6 min ahead"],
        **changes,
    }


def test_the_status_says_first_whether_anybody_would_help(mirrord: Type, desk: ScriptedDesk) -> None:
    """It is the one question behind all others."""
    desk.answers["status"] = status()

    lines = mirrord("status").out.splitlines()

    assert lines[0].startswith("example  https://www.example.org/  seen from home at office, ")
    assert lines[1] == "NOT PROTECTED: web is held by anna"


@pytest.mark.parametrize(
    "said",
    [
        "newest snapshot 20261121T210000Z-0a1b2c3d, serial 12, taken",
        "the next one was promised for",
        "publishing is held by anna since",
        "connect timed out; drained by anna: racks; 2001:db8::1 is bad: connection refused; ",
        "1 file under suspicion: a.html; ",
        "disk full; its certificate expires in 9 days",
        "a move to lyon was sent",
        "the zone is reverted: back to what we left at epoch 3",
        "stays: milan is down, and the operator holds web",
        "held by anna since",
        "moving racks",
        "still the old data at 203.0.113.54:53",
        "readers follow by 1 Jan 2999",
        "web asks since",
        "yes: mirrord ack 3f2a    no: mirrord ack 3f2a --no",
        "warning: our clock is 6 min ahead",
    ],
)
def test_the_status_says_why_anything_is_not_well(mirrord: Type, desk: ScriptedDesk, said: str) -> None:
    """One screen has to do: nobody looks for a second one at night."""
    desk.answers["status"] = status()

    assert said in mirrord("status").out


def test_the_status_without_a_daemon_says_what_it_is_worth(mirrord: Type, desk: ScriptedDesk) -> None:
    """What was last written down may be long out of date."""
    daemon = {"running": False, "pid": None, "since": None, "text": "no daemon"}
    desk.answers["status"] = status(daemon=daemon, snapshot=None, protected={"ok": True, "why": ""})

    out = mirrord("status").out

    assert "no daemon: this is what was last written down; `mirrord check` looks now" in out
    assert "no snapshot was taken on this machine yet" in out


def test_explaining_gives_reason_facts_and_who_could_serve(mirrord: Type, desk: ScriptedDesk) -> None:
    """Why nothing moves is asked more often than why something did."""
    mirror = {
        "name": "lyon",
        "verdict": "up",
        "class": "behind",
        "cause": None,
        "since": NOW,
        "drained": True,
        "brakes": [{"brake": "stale", "text": "two days behind"}],
    }
    desk.answers["explain"] = {
        "services": [
            {
                "name": "web",
                "serving": None,
                "decision": "ask",
                "target": None,
                "reason": "Adopt what stands there?",
                "facts": ["epoch 4", "epoch 4"],
                "order": ["lyon"],
                "held": HOLD,
                "zone": {"state": "foreign", "text": "a CNAME"},
                "mirrors": [mirror],
                "protected": {"ok": False, "why": "the zone is foreign"},
            }
        ]
    }

    typed = mirrord("explain")

    assert typed.code == 0
    assert "web: readers are sent to nobody of ours\nwould ask: Adopt what stands there?\n  epoch 4\nheld" in typed.out
    assert "NOT PROTECTED: the zone is foreign" in typed.out
    assert re.search(r"1 +lyon +up, behind .* drained; brake stale: two days behind", typed.out)


def test_a_switch_carries_out_exactly_what_was_shown(mirrord: Type, desk: ScriptedDesk) -> None:
    """Between the question and the yes the world may change; then it is refused, not done otherwise."""
    desk.answers["switch"] = lambda asked: plan() if asked["dry_run"] else moved()

    typed = mirrord("switch", "web", "lyon", "--yes")

    asked = {"service": "web", "mirror": "lyon", "adopt": False, "override": None}
    assert desk.asked == [
        ("switch", {**asked, "dry_run": True, "settle": True, "plan": None}),
        ("switch", {**asked, "dry_run": False, "plan": {"plan": "ab", "epoch": 1}}),
    ]
    assert typed.code == 0


def test_a_switch_shows_before_and_after(mirrord: Type, desk: ScriptedDesk) -> None:
    """The plan goes to the person, the result to standard output."""
    desk.answers["switch"] = lambda asked: plan(notes=["web is held by anna"]) if asked["dry_run"] else moved("partial")

    typed = mirrord("switch", "web", "lyon", "--yes")

    assert "web: from milan to lyon\n" in typed.err
    assert "  www.example.org A: 192.0.2.10 -> 198.51.100.20\n" in typed.err
    assert "  www.example.org TTL: 300 s -> 60 s\n" in typed.err
    assert "  _mirrord.www.example.org TXT: none -> v=1 epoch=1 target=lyon plan=ab by=home\n" in typed.err
    assert "  note: web is held by anna\n" in typed.err
    assert "  readers follow within 5 min\n" in typed.err
    assert "partial: lyon serves web\n  203.0.113.54:53: still gives the old data\n" in typed.out


@pytest.mark.parametrize("fence", ["best-effort", "atomic"])
def test_plan_result_and_status_say_where_nothing_compares_and_sets(
    mirrord: Type, desk: ScriptedDesk, fence: str
) -> None:
    """Whoever moves readers there should know that somebody else could have come between, and look twice."""
    desk.answers["switch"] = lambda asked: (plan() if asked["dry_run"] else moved()) | {"fence": fence}
    desk.answers["status"] = status(services=[{**status()["services"][0], "fence": fence}])
    said = "  fence = best-effort: this system cannot compare and set"

    typed, shown = mirrord("switch", "web", "lyon", "--yes"), mirrord("status")
    assert [said in text for text in (typed.err, typed.out, shown.out)] == [fence == "best-effort"] * 3


@pytest.mark.parametrize(("result", "code"), [("done", 0), ("partial", 3), ("unchanged", 5), ("unknown", 75)])
def test_how_a_switch_ended_is_the_exit_code(mirrord: Type, desk: ScriptedDesk, result: str, code: int) -> None:
    """A script must tell "done" from "nobody knows"."""
    desk.answers["switch"] = lambda asked: plan() if asked["dry_run"] else moved(result)

    assert mirrord("switch", "web", "lyon", "-y").code == code
    assert mirrord("switch", "web", "lyon", "-y", "--json").json["result"] == result


@pytest.mark.parametrize("brake", ["nosuch", "open-plan", "empty-answer"])
def test_a_brake_that_cannot_be_lifted_is_a_usage_error(mirrord: Type, desk: ScriptedDesk, brake: str) -> None:
    """A slip in its name must not pass as if there were nothing to lift."""
    typed = mirrord("switch", "web", "lyon", "--yes", "--override", brake)

    assert typed.code == 2
    assert (
        f'--override: there is no brake "{brake}" that can be lifted; there are: down, stale, bad-content,' in typed.err
    )
    assert desk.asked == []


def test_a_question_without_a_terminal_is_a_usage_error(mirrord: Type, desk: ScriptedDesk) -> None:
    """A verb in a timer that waits for an answer waits for ever."""
    desk.answers["switch"] = plan()

    typed = mirrord("switch", "web", "lyon")

    assert typed.code == 2
    assert "Move the readers of web to lyon? There is no terminal to answer on; --yes answers it" in typed.err
    assert [asked["dry_run"] for _, asked in desk.asked] == [True]


def test_a_brake_ends_a_switch_before_any_question(mirrord: Type, desk: ScriptedDesk) -> None:
    """What cannot be done is not asked; the way out is named."""
    brake = {"brake": "stale", "text": "lyon is two days behind", "liftable": True, "lifted": False}
    desk.answers["switch"] = plan(brakes=[brake])

    typed = mirrord("switch", "web", "lyon", "--yes")

    assert typed.code == 5
    assert "lyon is two days behind; --override stale lifts this brake" in typed.err
    assert [asked["dry_run"] for _, asked in desk.asked] == [True]
    assert mirrord("switch", "web", "lyon", "--dry-run").code == 5


def test_a_dry_run_of_a_switch_is_its_plan(mirrord: Type, desk: ScriptedDesk) -> None:
    """A plan is a value that can be kept."""
    desk.answers["switch"] = plan()

    typed = mirrord("switch", "web", "lyon", "--dry-run", "--json")

    assert typed.code == 0
    assert typed.json == {"schema": 1, **plan()}
    assert len(desk.asked) == 1


def test_a_conflict_found_while_switching_is_exit_code_5(mirrord: Type, desk: ScriptedDesk) -> None:
    """Somebody else was faster."""
    answers: Iterator[dict[str, Any] | Exception] = iter([plan(), Conflict("web: the zone is not as it was shown")])

    def answer(_: dict[str, Any]) -> dict[str, Any]:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    desk.answers["switch"] = answer

    assert mirrord("switch", "web", "lyon", "--yes").code == 5


def test_nothing_to_change_needs_no_answer(mirrord: Type, desk: ScriptedDesk) -> None:
    """Asking for what is so already is no reason for a question."""
    desk.answers["switch"] = lambda asked: plan(change=None) if asked["dry_run"] else moved()

    assert mirrord("switch", "web", "lyon").code == 0


def serves(*services: tuple[str, str | None]) -> dict[str, Any]:
    return {
        "mirror": "milan",
        "drained": True,
        "serves": [{"service": name, "next": target, "why": "it is down"} for name, target in services],
    }


def test_draining_a_mirror_that_serves_nobody_asks_nothing(mirrord: Type, desk: ScriptedDesk) -> None:
    """A standby can be taken out from a script."""
    desk.answers["drain"] = serves()

    typed = mirrord("drain", "milan", "-r", "racks")

    assert typed.code == 0
    assert [asked["dry_run"] for _, asked in desk.asked] == [True, False]
    assert "milan is drained: mirrord sends nobody there; `mirrord undrain milan` takes it back" in typed.out


def test_draining_the_serving_mirror_without_a_terminal_is_refused_before_it_is_done(
    mirrord: Type, desk: ScriptedDesk
) -> None:
    """The question comes before the act, or half of it would be done."""
    desk.answers["drain"] = serves(("web", "lyon"))

    typed = mirrord("drain", "milan")

    assert typed.code == 2
    assert [asked["dry_run"] for _, asked in desk.asked] == [True]


def test_draining_with_yes_moves_the_readers(mirrord: Type, desk: ScriptedDesk) -> None:
    """A planned move to the next in order, shown like any other."""
    desk.answers |= {
        "drain": serves(("web", "lyon")),
        "switch": lambda asked: plan() if asked["dry_run"] else moved(),
    }

    typed = mirrord("drain", "milan", "--yes", "--json")

    assert [verb for verb, _ in desk.asked] == ["drain", "drain", "switch", "switch"]
    assert typed.json["moves"] == [moved()]


def test_draining_with_stay_leaves_the_readers(mirrord: Type, desk: ScriptedDesk) -> None:
    """It will not be chosen again, and nobody is moved in the middle of the day."""
    desk.answers["drain"] = serves(("web", "lyon"))

    typed = mirrord("drain", "milan", "--stay")

    assert (typed.code, [verb for verb, _ in desk.asked]) == (0, ["drain", "drain"])
    assert "web is still served by milan" in typed.out


def test_draining_says_where_nobody_can_take_over(mirrord: Type, desk: ScriptedDesk) -> None:
    """A drain that moved nobody must not look as if it had."""
    desk.answers["drain"] = serves(("web", None))

    assert "web is still served by milan, nobody can take over: it is down" in mirrord("drain", "milan").out


def test_holds_are_told_with_how_they_end(mirrord: Type, desk: ScriptedDesk) -> None:
    """A hold that is forgotten is an outage later."""
    desk.answers |= {"hold": {"holds": [HOLD]}, "unhold": {"ended": []}}

    assert "`mirrord unhold web` ends it" in mirrord("hold", "web").out
    assert mirrord("unhold").out == "nothing was held\n"
    desk.answers["unhold"] = {"ended": [HOLD]}
    assert mirrord("unhold").out == "web is no longer held (it was by anna: moving racks)\n"


def test_history_tells_when_what_why_and_by_whom(mirrord: Type, desk: ScriptedDesk) -> None:
    """What happened while nobody looked."""
    event = {
        "when": NOW,
        "kind": "move",
        "what": "web: milan -> lyon",
        "why": "milan is down",
        "by": "home",
        "details": {},
    }
    desk.answers["history"] = {"events": [event]}

    assert re.search(r"web: milan -> lyon \(milan is down\) +home", mirrord("history").out)
    desk.answers["history"] = {"events": []}
    assert mirrord("history").out == "nothing is written down for that time\n"


def test_foreign_texts_play_no_tricks_on_the_terminal(mirrord: Type, desk: ScriptedDesk) -> None:
    """A file name or a server's words may hold escape sequences, newlines, turned-around letters."""
    tricks = "\x1b[2Jgone\nmirrord: all is well\u202e\udcff"
    desk.answers["sync"] = synced(row("lyon", "failed", 1, tricks))

    typed = mirrord("sync")

    assert "\\x1b[2Jgone\\nmirrord: all is well\\u202e\\udcff" in typed.out
    desk.answers["sync"] = Braked(f"lyon: {tricks[:10]}", "down")
    assert "\x1b" not in mirrord("sync").err


@pytest.mark.parametrize(
    ("typed", "file", "rest"),
    [
        ("status -c x", "x", "status"),
        ("-c x status", "x", "status"),
        ("config check --config x -v", "x", "-v config check"),
        ("sync --config=x lyon", "x", "sync lyon"),
        ("restore 1 -- -c", None, "restore 1 -- -c"),
        ("status", None, "status"),
    ],
)
def test_the_configuration_may_be_named_after_the_verb(typed: str, file: str | None, rest: str) -> None:
    """It is one option too much to remember where it stands."""
    assert configuration_of(typed.split()) == (None if file is None else Path(file), rest.split())


def test_an_option_without_its_file_is_a_usage_error(mirrord: Type) -> None:
    """It must not take the verb for the file, nor the default file."""
    assert (mirrord("status", "-c").code, mirrord("status", "-c").err) == (
        2,
        "mirrord: -c needs a file; see: mirrord --help\n",
    )


def test_every_verb_of_the_contract_is_there(mirrord: Type) -> None:
    """With its help and its --json."""
    verbs = (
        "run status sync snapshot snapshots rollback check verify explain switch hold unhold drain undrain ack history",
        "restore demo drill doctor pin unpin",
    )

    for verb in [*" ".join(verbs).split(), "config check", "config show", "config example", "mirror check"]:
        typed = mirrord(*verb.split(), "--help")
        assert typed.code == 0, verb
        assert "--json" in typed.out, verb


def test_every_screen_stands_a_mirror_that_was_never_seen(mirrord: Type, desk: ScriptedDesk) -> None:
    """The first start is when the screen is read most."""
    nothing: dict[str, Any] = {
        "verdict": "unknown",
        "class": None,
        "cause": None,
        "since": None,
        "release": None,
        "serial": None,
        "seen": None,
        "drained": None,
        "suspects": [],
        "degraded": {},
        "warnings": [],
        "published": None,
    }
    mirror = {"name": "lyon", "role": "mirror", "place": None, "content": "snapshot", **nothing}
    service = {
        **status()["services"][0],
        "target": None,
        "since": None,
        "held": None,
        "decision": None,
        "reason": None,
        "pending": None,
        "zone": {"state": "unread", "text": "not read yet"},
        "lagging": [],
        "readers_follow_by": None,
    }
    desk.answers["status"] = status(mirrors=[mirror], services=[service], asks=[], warnings=[])

    out = mirrord("status").out

    assert re.search(r"lyon +unknown", out)
    assert "web -> nobody knows whom\n  the zone is unread: not read yet\n" in out
    assert not [line for line in out.splitlines() if line != line.rstrip()]
    assert screens.__doc__


def test_a_drill_asks_first_shows_its_steps_and_fails_where_readers_would_not_be_helped(
    mirrord: Type, desk: ScriptedDesk
) -> None:
    """It writes into the zone, on a name of its own; what it found out is a table of steps."""
    step = {"name": "decide", "ok": True, "seconds": 0.01, "text": "if milan went down, readers would go to lyon"}
    bad = {"name": "look", "ok": False, "seconds": 1.2, "text": "lyon: the certificate has expired"}
    told = {"service": "web", "from": "milan", "to": "lyon", "seconds": 1.21, "steps": [step, bad], "ok": False}
    desk.answers["drill"] = {"drills": [told]}

    unasked = mirrord("drill", "web")
    wrong = mirrord("drill", "wep")
    typed = mirrord("drill", "web", "--yes")
    assert unasked.code == 2
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    assert 'there is no service "wep"' in wrong.err
    assert "drill.www.example.org" in unasked.err
    assert typed.code == 1
    assert "web: a failover from milan to lyon would NOT have helped readers (1.2 s)" in typed.out
    assert "FAILED: lyon: the certificate has expired" in typed.out
