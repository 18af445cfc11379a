"""An operator's program moves readers: what it is asked, what its answers mean, and that nothing of it is believed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirrord.errors import BadConfig, Refused, Unavailable
from mirrord.journal import Journal
from mirrord.switches import CommandSettings, Kind, Result, SentKind, ZoneState, open_switch
from mirrord.switches.command import Command
from mirrord.switches.transaction import Patience
from tests.lab.waiting import until
from tests.switching import MIRRORS, Desk

WWW = "www.example.org"

PROGRAM = """#!{python}
import json, os, sys, time
asked = json.load(sys.stdin)
state = {state!r}
stands = json.load(open(state))
with open({calls!r}, "a") as calls:
    calls.write(json.dumps(asked) + "\\n")
{twist}
if asked["ask"] == "show":
    print(json.dumps({{"names": stands}}))
elif asked["ask"] == "apply":
    ttl = asked["plan"]["ttl"]
    stands = {{name: {{**told, "ttl": ttl}} for name, told in asked["plan"]["to"]["names"].items()}}
    with open(state + ".new", "w") as file:
        json.dump(stands, file)
    os.rename(state + ".new", state)
"""


class Machine:
    """Something outside that a program of the operator's can change, and the desk of a controller before it."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        """Let milan serve; mirrord was never there."""
        self.folder = folder
        self.journal = journal
        self.state = folder / "state.json"
        self.calls = folder / "calls"
        self.program = folder / "move"
        self.stand(*MIRRORS["milan"])
        self.write()

    def stand(self, *addresses: str, fence: str | None = None) -> None:
        """Change what stands, as anybody could."""
        self.state.write_text(json.dumps({WWW: {"addresses": addresses, "ttl": 300, "fence": fence}}))

    def stands(self) -> dict[str, Any]:
        """Return what stands."""
        found: dict[str, Any] = json.loads(self.state.read_text())[WWW]
        return found

    def write(self, twist: str = "") -> None:
        """Write the program; `twist` is done before it answers."""
        text = PROGRAM.format(python=sys.executable, state=str(self.state), calls=str(self.calls), twist=twist)
        self.program.write_text(text)
        self.program.chmod(0o755)

    def asked(self) -> list[str]:
        """Return what the program was asked, one after the other."""
        return [json.loads(line)["ask"] for line in self.calls.read_text().splitlines()]

    def switch(self, **more: Any) -> Command:
        """Return the switch."""
        switch = open_switch(CommandSettings("web", (WWW,), (str(self.program),), **{"timeout": 10.0, **more}))
        assert isinstance(switch, Command)
        return switch

    def desk(self, **more: Any) -> Desk:
        """Return a controller."""
        return Desk(self.switch(**more), self.journal, patience=Patience(commit=0.3, follow=0.3))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Something to be moved, and a program that moves it."""
    journal = Journal(tmp_path / "journal.sqlite")
    yield Machine(tmp_path, journal)
    journal.close()


def test_a_program_moves_readers_and_shows_that_it_did(machine: Machine) -> None:
    """What it shows afterwards counts, and readers know until when to wait."""
    result = machine.desk().move("lyon")

    assert (result.kind, result.text) == (Kind.DONE, "web: moved from milan to lyon (epoch 1)")
    assert machine.stands()["addresses"] == list(MIRRORS["lyon"])
    assert "target=lyon" in machine.stands()["fence"]
    assert result.committed is not None
    assert result.follow_by == result.committed + 300
    assert machine.desk().look().comparison.state is ZoneState.OURS


def test_what_a_program_is_told_is_the_whole_plan(machine: Machine) -> None:
    """It needs no look of its own: from where, to where, and by which addresses."""
    machine.desk().move("lyon", who="anna", why="by hand")

    asked = next(json.loads(line) for line in machine.calls.read_text().splitlines() if '"apply"' in line)
    plan = asked.pop("plan")
    fence = plan["to"]["names"][WWW].pop("fence")
    assert asked == {"schema": 1, "ask": "apply", "service": "web", "names": [WWW]}
    assert fence == f"v=1 epoch=1 target=lyon plan={plan.pop('id')} by=home"
    assert plan == {
        "epoch": 1,
        "from": {
            "mirror": "milan",
            "names": {WWW: {"addresses": list(MIRRORS["milan"]), "fence": None}},
        },
        "to": {"mirror": "lyon", "names": {WWW: {"addresses": list(MIRRORS["lyon"])}}},
        "ttl": 60,
        "why": "by hand",
        "who": "anna",
    }


def test_what_somebody_else_changed_is_left_alone(machine: Machine) -> None:
    """Without compare-and-set mirrord looks before it leaps."""
    desk = machine.desk()
    desk.move("lyon")
    change = desk.plan("oslo")
    machine.stand("192.0.2.77")

    result = desk.run(change)
    assert (result.kind, result.exit_code) == (Kind.UNCHANGED, 5)
    assert machine.stands()["addresses"] == ["192.0.2.77"]
    assert desk.look().comparison.state is ZoneState.FOREIGN


def test_a_program_that_compares_and_sets_itself_is_not_asked_before(machine: Machine) -> None:
    """`fence = "atomic"`: its own look is the one that counts."""
    desk = machine.desk(fence="atomic")
    desk.move("lyon")
    change = desk.plan("oslo")
    machine.calls.write_text("")
    machine.write('if asked["ask"] == "apply": sys.exit("somebody moved it" and 5)')

    result = desk.run(change)
    assert machine.asked()[0] == "apply"
    assert (result.kind, desk.switch.fence) == (Kind.UNCHANGED, "atomic")


@pytest.mark.parametrize(
    ("twist", "kind"),
    [
        pytest.param("sys.exit(1)", SentKind.REFUSED, id="will not have it"),
        pytest.param("sys.exit(5)", SentKind.FENCED, id="something else stands"),
        pytest.param("sys.exit(75)", SentKind.UNSENT, id="later"),
        pytest.param("sys.exit(42)", SentKind.UNKNOWN, id="any other code"),
        pytest.param("os.kill(os.getpid(), 9)", SentKind.UNKNOWN, id="killed"),
        pytest.param("time.sleep(60)", SentKind.UNKNOWN, id="too long"),
    ],
)
def test_every_end_of_a_program_has_its_meaning(machine: Machine, twist: str, kind: SentKind) -> None:
    """The table of exit codes is what the operator writes the program by."""
    desk = machine.desk(timeout=1.0)
    change = desk.plan("lyon")
    machine.write(f'if asked["ask"] == "apply":\n    print("no luck today", file=sys.stderr, flush=True)\n    {twist}')

    sent = machine.switch(timeout=1.0).send(change)
    assert sent.kind is kind
    assert "no luck today" in sent.text
    assert machine.stands()["addresses"] == list(MIRRORS["milan"])


def test_a_plan_whose_outcome_nobody_knows_stays_open_until_the_program_shows(machine: Machine) -> None:
    """It was killed after it had done its work: done is done, and is not done twice."""
    machine.write('if asked["ask"] == "show" and os.path.exists(state + ".broken"): sys.exit(75)')
    desk = machine.desk()
    change = desk.plan("lyon")
    (machine.folder / "state.json.broken").touch()
    machine.write('if asked["ask"] == "show": sys.exit(75)')
    atomic = machine.desk(fence="atomic")

    first = atomic.run(change)
    machine.write()
    then = atomic.resolve()
    assert first.kind is Kind.UNKNOWN
    assert isinstance(then, Result)
    assert (then.kind, then.text) == (Kind.DONE, "web: moved from milan to lyon (epoch 1)")
    assert machine.asked().count("apply") == 1


def test_a_program_that_says_done_and_did_nothing_is_not_believed(machine: Machine) -> None:
    """Exit code 0 proves nothing."""
    desk = machine.desk()
    change = desk.plan("lyon")
    machine.write('if asked["ask"] == "apply": sys.exit(0)')

    result = desk.run(change)
    assert (result.kind, result.exit_code) == (Kind.UNKNOWN, 75)


@pytest.mark.parametrize(
    "twist",
    [
        pytest.param('print("not json"); sys.exit(0)', id="no JSON"),
        pytest.param("print(json.dumps({'names': {}})); sys.exit(0)", id="a name is missing"),
        pytest.param(
            "print(json.dumps({'names': {'www.example.org': {'addresses': ['here']}}})); sys.exit(0)", id="no address"
        ),
        pytest.param(
            "print(json.dumps({'names': {'www.example.org': {'addresses': [], 'fence': 'x' * 300}}})); sys.exit(0)",
            id="a fence that is none",
        ),
        pytest.param(
            "print(json.dumps({'names': {'www.example.org': {'addresses': ['::1'], 'ttl': 1e999}}})); sys.exit(0)",
            id="a TTL without end",
        ),
        pytest.param(
            "print(json.dumps({'names': {'www.example.org': {'addresses': ['192.0.2.1'], 'ttl': -1}}})); sys.exit(0)",
            id="a TTL in the past",
        ),
        pytest.param("print('[' * 5_000_000); sys.exit(0)", id="endless"),
        pytest.param("sys.exit(3)", id="fails"),
    ],
)
def test_an_answer_that_is_none_reads_as_nothing(machine: Machine, twist: str) -> None:
    """Whatever a program prints, mirrord stays where it is and says what was wrong."""
    machine.write(twist)

    with pytest.raises(Unavailable, match=r"web: asking .*/move what stands: "):
        machine.switch().read()


def test_a_program_past_its_time_is_killed_with_all_that_it_started(machine: Machine) -> None:
    """A hung tool must not pile up processes for a month."""
    child = machine.folder / "child"
    machine.write(f'os.fork() or (open({str(child)!r}, "w").write(str(os.getpid())), time.sleep(300)); time.sleep(300)')

    with pytest.raises(Unavailable, match="killed after 1 s"):
        machine.switch(timeout=1.0).read()
    until(lambda: not _lives(int(child.read_text())), 5, "the child to be gone")


def test_a_program_that_prints_for_ever_fills_no_disk(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that asks "are you sure?" of nobody does it a million times a minute, and the journal is on that disk."""
    aside = machine.folder / "aside"
    aside.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(aside))
    machine.write("""
for number in range(600):
    print("are you sure? " * 20_000)
    print("sure? " * 20_000, file=sys.stderr)
used = sum(file.stat().st_size for file in os.scandir(state.replace("state.json", "aside")))
open(state + ".used", "w").write(str(used + sum(os.fstat(fd).st_size for fd in (1, 2))))
sys.exit(3)""")

    with pytest.raises(Unavailable, match=r"it ended with 3; sure[?] sure[?]"):
        machine.switch().read()
    assert int((machine.folder / "state.json.used").read_text()) < 1 << 20


def test_what_a_program_left_running_is_not_waited_for(machine: Machine) -> None:
    """It put something into the background, which holds its output open: the answer counts as soon as it ended."""
    machine.write("os.fork() or time.sleep(300)")
    began = time.monotonic()

    machine.switch(timeout=60.0).read()
    assert time.monotonic() - began < 30


AS_NOBODY = """
import os, sys
from mirrord.errors import Unavailable
from mirrord.switches import CommandSettings, command, open_switch
os.setgroups([]), os.setresgid(65534, 65534, 65534), os.setresuid(65534, 65534, 65534)
hang = "import os, time; os.setuid(0); open(os.sys.argv[1], 'w').write(str(os.getpid())); time.sleep(300)"
switch = open_switch(CommandSettings("web", ("www.example.org",), (sys.argv[1], "-c", hang, sys.argv[2]), timeout=2.0))
for _ in range(2):
    try:
        switch.read()
    except Unavailable as e:
        print(e)
"""


def test_a_program_that_became_another_user_is_told_and_not_run_beside_itself() -> None:
    """`sudo` is how such programs get at what they move; mirrord may not kill it, and must not wait for it for ever."""
    folder = Path(tempfile.mkdtemp(prefix="became", dir="/var/tmp"))
    folder.chmod(0o755)
    became, pid = folder / "became", folder / "pid"
    shutil.copy(Path("/usr/bin/python3").resolve(), became)
    became.chmod(0o4755)
    try:
        command = [sys.executable, "-c", AS_NOBODY, str(became), str(pid)]
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        hung = int(pid.read_text())
        os.kill(hung, signal.SIGKILL)
    finally:
        shutil.rmtree(folder)

    first, second = told.stdout.splitlines()
    assert "it runs on after 2 s and could not be killed" in first
    assert f"process {hung}, which could not be killed, still runs" in second


def test_a_program_shows_by_something_harmless_that_it_may_act(machine: Machine) -> None:
    """Credentials rot unseen; `check` is for that, and for nothing else."""
    machine.switch().prove()
    assert machine.asked() == ["check"]

    machine.write('sys.exit("the token has expired")')
    with pytest.raises(Refused, match="the token has expired"):
        machine.switch().prove()
    machine.write("sys.exit(75)")
    with pytest.raises(Unavailable, match="ended with 75"):
        machine.switch().prove()


def test_a_program_that_is_none_is_told_at_once(tmp_path: Path) -> None:
    """Not in the night of the outage."""
    script = tmp_path / "move"
    script.write_text("#!/bin/sh\n")
    script.chmod(stat.S_IRUSR)

    for program in (tmp_path / "gone", tmp_path):
        with pytest.raises(BadConfig, match=r"web: command\.program"):
            open_switch(CommandSettings("web", (WWW,), (str(program / ("x" if program == tmp_path else "")),)))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def test_the_program_of_the_document_does_what_the_document_says(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes one begins with a copy of it."""
    page = (Path(__file__).parent.parent / "docs" / "switching.md").read_text()
    machine.program.write_text(page.partition("```python\n")[2].partition("```")[0])
    monkeypatch.setenv("STATE", str(machine.state))
    desk = machine.desk(fence="atomic")
    desk.switch.prove()

    moved, late = desk.move("lyon"), desk.plan("oslo")
    machine.stand("192.0.2.77")
    fenced = desk.run(late)
    assert (moved.kind, fenced.kind) == (Kind.DONE, Kind.UNCHANGED)
    assert machine.stands()["addresses"] == ["192.0.2.77"]
