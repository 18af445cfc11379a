"""On a terminal there are questions, colours and progress; in a pipe there is none of it, and nothing waits."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Lab
from tests.lab.desk import ScriptedDesk
from tests.lab.publisher import publisher
from tests.lab.waiting import until
from tests.test_cli import HOLD, PROGRESS, moved, plan, row, serves, status, synced
from tests.test_config import GOOD

MIRRORD = [sys.executable, "-m", "mirrord"]
_MEDDLING = ("NO_COLOR", "FORCE_COLOR", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "PYTHONUNBUFFERED")
HEAVY = {"paramiko", "pydantic", "requests", "dns", "cryptography", "apscheduler"}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ScriptedDesk]:
    desk = ScriptedDesk(tmp_path / "control.sock")
    yield desk
    desk.stop()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    file = tmp_path / "mirrord.toml"
    file.write_text(GOOD.replace("/var/lib/mirrord", "state") + '[control]\nsocket = "control.sock"\n')
    own = {key: value for key, value in os.environ.items() if key not in _MEDDLING}
    return {**own, "MIRRORD_CONFIG": str(file), "TERM": "xterm", "PYTHONPATH": str(Path(__file__).parent.parent)}


def in_pipes(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return ended(environment, [*MIRRORD, *words])


def ended(environment: dict[str, str], command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


class Terminal:
    """A verb that was typed on a terminal of 100 columns, where nothing else is said."""

    def __init__(self, environment: dict[str, str], *words: str, columns: int = 100) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self._process = subprocess.Popen(
            [*MIRRORD, *words], env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.shown = ""

    def wait_for(self, text: str, within: float = 30.0) -> None:
        """Read until `text` was shown."""
        deadline = time.monotonic() + within
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if not self._read(0.2) and self._process.poll() is not None:
                assert text in self.shown, self.shown

    def answer(self, text: str) -> None:
        """Type a line."""
        os.write(self._ours, f"{text}\n".encode())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def end(self, within: float = 30.0) -> int:
        """Read to the end; return the exit code."""
        deadline = time.monotonic() + within
        while self._process.poll() is None:
            assert time.monotonic() < deadline, self.shown
            self._read(0.1)
        while self._read(0.1):
            pass
        os.close(self._ours)
        return self._process.wait()

    def _read(self, patience: float) -> bool:
        if not select.select([self._ours], [], [], patience)[0]:
            return False
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # the other end is closed
            return False
        self.shown += data.decode()
        return bool(data)


@pytest.mark.parametrize("words", [["--help"], ["sync", "--help"], ["switch", "--help"], ["--version"], ["swtch"]])
def test_help_loads_no_library(environment: dict[str, str], words: list[str]) -> None:
    """Help must answer at once, also on a machine where half of the installation is broken."""
    script = (
        "import sys, json\n"
        "from mirrord.cli.ending import run\n"
        f"run({words!r})\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )

    found = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=60
    )

    assert HEAVY & set(json.loads(found.stdout.splitlines()[-1])) == set()


def test_publishing_loads_nothing_that_only_looking_and_switching_need() -> None:
    """A `sync` of a small site takes less time than these libraries take to load."""
    script = (
        "import sys, json\n"
        "import mirrord.control.alone, mirrord.control.publishing\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )

    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)

    unwanted = {"requests", "urllib3", "dns", "apscheduler", "pydantic_settings", "typer", "rich"}
    assert unwanted & set(json.loads(found.stdout)) == set()


def test_help_shows_no_value_where_a_flag_takes_none(environment: dict[str, str]) -> None:
    """Who reads `--dry-run <bool>` types `--dry-run true`, and is told that there is no mirror of that name."""
    for words in (["--help"], ["sync", "--help"], ["switch", "--help"], ["demo", "--help"]):
        options = [line for line in in_pipes(environment, *words).stdout.splitlines() if "--" in line]

        assert len(options) > 2
        assert not [line for line in options if "bool" in line and "--help" not in line]


def test_a_question_on_a_terminal_is_answered_there(environment: dict[str, str], desk: ScriptedDesk) -> None:
    """The plan is on the screen when the question comes."""
    desk.answers["switch"] = lambda asked: plan() if asked["dry_run"] else moved()

    terminal = Terminal(environment, "switch", "web", "lyon")
    terminal.wait_for("Move the readers of web to lyon? [y/N] ")
    assert "192.0.2.10 -> 198.51.100.20" in terminal.shown
    terminal.answer("y")

    assert terminal.end() == 0
    assert [asked["dry_run"] for _, asked in desk.asked] == [True, False]


@pytest.mark.parametrize("answer", ["n", "", "yesterday"])
def test_anything_but_yes_is_no(environment: dict[str, str], desk: ScriptedDesk, answer: str) -> None:
    """Nobody moves readers by pressing return."""
    desk.answers["switch"] = plan()

    terminal = Terminal(environment, "switch", "web", "lyon")
    terminal.wait_for("[y/N] ")
    terminal.answer(answer)

    assert terminal.end() == 1
    assert "you said no; nothing was changed" in terminal.shown
    assert [asked["dry_run"] for _, asked in desk.asked] == [True]


def test_a_lifted_brake_is_asked_about_twice(environment: dict[str, str], desk: ScriptedDesk) -> None:
    """The second question names what was lifted."""
    brake = {"brake": "stale", "text": "lyon is two days behind", "liftable": True, "lifted": True}
    desk.answers["switch"] = lambda asked: plan(brakes=[brake]) if asked["dry_run"] else moved()

    terminal = Terminal(environment, "switch", "web", "lyon", "--override", "stale")
    terminal.wait_for("Move the readers of web to lyon? [y/N] ")
    terminal.answer("y")
    terminal.wait_for("lyon is two days behind. Move readers there all the same? [y/N] ")
    assert [asked["dry_run"] for _, asked in desk.asked] == [True]
    terminal.answer("yes")

    assert terminal.end() == 0


def test_draining_asks_before_it_moves_anybody(environment: dict[str, str], desk: ScriptedDesk) -> None:
    """No to the move is no to the move: the mirror is drained all the same."""
    desk.answers["drain"] = serves(("web", "lyon"))

    terminal = Terminal(environment, "drain", "milan")
    terminal.wait_for("milan serves readers now. Move web to lyon (--stay leaves them)? [y/N] ")
    terminal.answer("n")

    assert terminal.end() == 0
    assert [verb for verb, _ in desk.asked] == ["drain", "drain"]


def test_progress_is_shown_on_a_terminal(environment: dict[str, str], desk: ScriptedDesk) -> None:
    """A bar a mirror, while it lasts."""
    desk.meanwhile = [PROGRESS]
    desk.go_on.clear()
    desk.answers["sync"] = synced(row("lyon"))

    terminal = Terminal(environment, "sync")
    terminal.wait_for("10/100 files")
    desk.go_on.set()

    assert terminal.end() == 0
    assert "took snapshot" in terminal.shown


def test_in_a_pipe_there_are_no_bars_and_no_colours(environment: dict[str, str], desk: ScriptedDesk) -> None:
    """What is read by grep is plain text, on lines as long as they are."""
    desk.meanwhile = [PROGRESS]
    desk.answers["sync"] = synced(row("lyon", "failed", 1, "x" * 300))

    found = in_pipes(environment, "sync")

    assert "\x1b" not in found.stdout + found.stderr
    assert "x" * 300 in found.stdout
    assert "10/100 files" not in found.stderr


def test_colours_are_for_terminals_that_want_them(environment: dict[str, str], desk: ScriptedDesk) -> None:
    """NO_COLOR is respected (no-color.org)."""
    desk.answers["status"] = status()

    coloured, plain = Terminal(environment, "status"), Terminal({**environment, "NO_COLOR": "1"}, "status")

    assert (coloured.end(), plain.end()) == (0, 0)
    assert "\x1b[1;31mNOT PROTECTED" in coloured.shown
    assert "\x1b[1;31m" not in plain.shown
    assert "NOT PROTECTED" in plain.shown


def test_ctrl_c_ends_the_verb_and_says_what_the_daemon_does(environment: dict[str, str], desk: ScriptedDesk) -> None:
    """The daemon goes on with a publish that it was asked for: that has to be known."""
    desk.go_on.clear()
    desk.meanwhile = [{"event": "say", "text": "working"}]
    desk.answers["sync"] = synced(row("lyon"))

    terminal = Terminal(environment, "sync")
    terminal.wait_for("working")
    terminal.interrupt()

    assert terminal.end(within=5) == 130
    assert "the daemon goes on with what it was asked for" in terminal.shown
    assert "Traceback" not in terminal.shown


def test_ctrl_c_breaks_off_what_this_process_does_itself(lab: Lab) -> None:
    """Without a daemon the work ends with the verb, at once, also in the middle of an upload to a peer that stalls."""
    with publisher(lab, ("milan", "lyon")) as site:
        lyon = site.hosts["lyon"]
        proxy = lab.proxy("127.0.0.1", lyon.sshd.port)
        lyon.publish_port = proxy.port
        site.configure()
        site.write("big.bin", os.urandom(30_000_000))
        proxy.harm(1_000_000, "up", "stall")
        command = [*MIRRORD, "-c", str(site.config), "sync"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as verb:
            until(lambda: proxy.harmed, 30, "the upload to be under way")
            began = time.monotonic()

            verb.send_signal(signal.SIGINT)
            _, told = verb.communicate(timeout=20)
        assert (verb.returncode, time.monotonic() - began < 5) == (130, True)
        assert told == "mirrord: sync: interrupted; the next try continues where this one stopped\n"


def test_a_narrow_terminal_cuts_nothing_short(environment: dict[str, str], desk: ScriptedDesk) -> None:
    """An operator at night has a telephone; "1" in place of 12 is worse than a line that is folded."""
    desk.answers["status"] = status()
    terminal = Terminal({**environment, "NO_COLOR": "1"}, "status", columns=30)

    assert terminal.end() == 0
    wide = in_pipes(environment, "status").stdout
    cells = {cell.strip() for line in wide.splitlines() for cell in line.split("  ") if len(cell) <= 20}
    assert {"MIRROR", "VERDICT", "serial 12"} <= cells
    assert {cell for cell in cells if cell not in terminal.shown} == set()


def test_an_interrupt_before_there_is_a_verb_is_no_fault(environment: dict[str, str], tmp_path: Path) -> None:
    """Whoever mistypes presses Ctrl-C at once, while the libraries are being loaded."""
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    path = f"{tmp_path / 'early'}:{environment['PYTHONPATH']}"

    found = in_pipes({**environment, "PYTHONPATH": path}, "status")
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "")


def test_a_reader_that_went_away_ends_it_quietly(environment: dict[str, str], desk: ScriptedDesk) -> None:
    """`mirrord history | head -1` is no fault of anybody."""
    event: dict[str, Any] = {
        "when": HOLD["since"],
        "kind": "move",
        "what": "moved",
        "why": "",
        "by": "home",
        "details": {},
    }
    desk.answers["history"] = {"events": [event] * 3}

    for words in (["history"], ["history", "--json"], ["config", "example"]):
        reader, writer = os.pipe()
        os.close(reader)
        found = subprocess.run(
            [*MIRRORD, *words], env=environment, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=30
        )
        os.close(writer)

        assert (found.returncode, found.stderr) == (128 + signal.SIGPIPE, b"")


def shell(environment: dict[str, str], command: str) -> subprocess.CompletedProcess[str]:
    """Have a shell run a command of mirrord; Python would not close the streams, or lead them elsewhere."""
    return ended(environment, ["sh", "-c", f'exec "{sys.executable}" -m mirrord {command}'])


@pytest.mark.parametrize("command", ["history", "history --json", "config example", "--help"])
def test_a_result_that_cannot_be_written_is_told(environment: dict[str, str], desk: ScriptedDesk, command: str) -> None:
    """A full disk under `mirrord history > FILE` is no fault of mirrord, and half a result is none."""
    desk.answers["history"] = {"events": []}

    found = shell(environment, f"{command} > /dev/full")
    told = "mirrord: the result cannot be written to standard output: No space left on device\n"
    assert (found.returncode, found.stderr) == (1, told)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-", "2> /dev/full"])
def test_readers_are_moved_also_where_nothing_can_be_said(
    environment: dict[str, str], desk: ScriptedDesk, closed: str
) -> None:
    """Whatever a script of somebody's closes, or leads to a full disk: the order is carried out, and the code true."""
    desk.answers["switch"] = lambda asked: plan() if asked["dry_run"] else moved("partial")

    found = shell(environment, f"switch web lyon --yes {closed}")
    assert [asked["dry_run"] for _, asked in desk.asked] == [True, False]
    assert (found.returncode, "Traceback" in found.stderr) == (3, False)


def test_names_that_are_not_utf_8_break_no_terminal(environment: dict[str, str], desk: ScriptedDesk) -> None:
    """Nor does the C locale, which cron gives."""
    desk.answers["sync"] = synced(row("lyon", "failed", 1, "caf\udce9 \u00e9"))

    found = in_pipes({**environment, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "sync")

    assert "caf\\udce9 \\xe9" in found.stdout
    assert found.returncode == 1


def test_a_verb_that_is_done_does_not_wait_for_its_workers(environment: dict[str, str]) -> None:
    """A worker that hangs in a resolver must not keep the result from whoever waits for the verb's end."""
    script = (
        "import threading\n"
        "from mirrord.cli.ending import leave\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "print('done')\n"
        "leave(3)\n"
    )

    found = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=20
    )

    assert (found.returncode, found.stdout) == (3, "done\n")


def test_a_daemon_that_hangs_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    """The socket is there, nobody answers: exit code 11, in seconds."""
    import socket

    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_path / "control.sock"))
        hung.listen(8)
        began = time.monotonic()

        found = in_pipes(environment, "status", "--json")

    assert (found.returncode, json.loads(found.stdout)["error"]["kind"]) == (11, "NoAnswer")
    assert time.monotonic() - began < 15


def test_the_program_is_the_module(environment: dict[str, str]) -> None:
    """`python -m mirrord` does what `mirrord` does."""
    assert in_pipes(environment, "--version").stdout.startswith("mirrord ")


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        ("8:123", "<4>lyon: up -> down\n<4>\\x1b[2J\n<6>well\n"),
        (None, "WARNING lyon: up -> down\n\\x1b[2J\n"),
    ],
    ids=["journal", "elsewhere"],
)
def test_log_lines_are_for_the_journal_or_for_people(
    environment: dict[str, str], stream: str | None, told: str
) -> None:
    """The system's journal has its own clock and takes a line's priority (sd-daemon(3)); others need the time."""
    script = (
        "import logging\n"
        "from mirrord.cli.logs import to_standard_error\n"
        "to_standard_error(logging.INFO)\n"
        "logging.warning('lyon: up -> down\\n\\x1b[2J')\n"
        "logging.info('well')\n"
        "logging.debug('not told')\n"
    )

    found = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, **({} if stream is None else {"JOURNAL_STREAM": stream})},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert told in found.stderr
    assert "not told" not in found.stderr


@pytest.mark.parametrize("verb", ["config example", "status"])
def test_garbage_is_looked_for_once_a_verb_acts(verb: str, desk: ScriptedDesk, environment: dict[str, str]) -> None:
    """While modules are loaded there is none; a daemon that never did would grow."""
    desk.answers["status"] = status()
    begun = (
        "import gc, sys; from mirrord.cli import collect_nothing_yet; collect_nothing_yet(); before = gc.isenabled()"
    )
    acted = "from mirrord.cli.ending import run; code = run(sys.argv[1:]); print(before, gc.isenabled(), code)"

    ran = subprocess.run(
        [sys.executable, "-c", f"{begun}; {acted}", *verb.split()],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ran.stdout.splitlines()[-1] == "False True 0"
