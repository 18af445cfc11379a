from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mirrord.errors import BadConfig, Braked, Damaged, JournalUnwritable, Refused
from mirrord.journal import PUBLISHING, Clock, Event, Journal
from mirrord.journal.documents import KEEP_EVENTS
from mirrord.switches import Change, Expected, Rrsets, plan_advance, plan_change
from tests.conftest import Lab
from tests.lab.disks import SmallDisk
from tests.switching import MIRRORS

PLAN = "0123456789abcdef" * 2
DAY = 86_400.0
NOON = 1_795_262_400.0


@dataclass
class Watch:
    """A machine's clocks, which tests set: the wall's, the boot's, and which boot it is."""

    wall: float = NOON
    up: float = 1000.0
    boot: str = "first"

    @property
    def clock(self) -> Clock:
        """The journal's clock, as this boot has it."""
        return Clock(lambda: self.wall, lambda: self.up, self.boot)

    def pass_by(self, seconds: float) -> None:
        """Let time pass, on both clocks."""
        self.wall += seconds
        self.up += seconds

    def restart(self) -> None:
        """Start the machine anew, in no time."""
        self.up = 10.0
        self.boot = "second"


@pytest.fixture
def watch() -> Watch:
    """A machine's clocks."""
    return Watch()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal stands."""
    return tmp_path / "journal.sqlite"


@pytest.fixture
def open_journal(path: Path, watch: Watch) -> Iterator[Callable[[], Journal]]:
    """Opens the journal, as a process does that starts."""
    opened: list[Journal] = []

    def make() -> Journal:
        opened.append(Journal(path, watch.clock))
        return opened[-1]

    yield make
    for journal in opened:
        journal.close()


@pytest.fixture
def journal(open_journal: Callable[[], Journal]) -> Journal:
    """An empty journal."""
    return open_journal()


def state(mirror: str) -> Expected:
    """Both kinds of names at a mirror, before us."""
    a = frozenset(address for address in MIRRORS[mirror] if ":" not in address)
    return Expected({"www.example.org": Rrsets(a)})


def plan(stands: Expected, target: str, nonce: str = PLAN, *, automatic: bool = False, above: int = 0) -> Change:
    """Plan a move."""
    return plan_change(
        "web",
        stands,
        target,
        MIRRORS,
        nonce=nonce,
        by="home",
        ttl=60,
        was_ttl=300,
        automatic=automatic,
        epoch_above=above,
        who="ann",
        why="the primary is down",
    )


def moved(journal: Journal, stands: Expected, target: str, nonce: str = PLAN, *, automatic: bool = False) -> Expected:
    """Move, with the journal's part of it; return what then stands."""
    change = plan(stands, target, nonce, automatic=automatic, above=journal.highest_epoch("web"))
    journal.intend(change)
    journal.settle(change, change.to, f"web: moved to {target}")
    return change.to


# -- what outlives a restart


def test_everything_is_there_after_a_restart(open_journal: Callable[[], Journal], watch: Watch) -> None:
    """Killed at any instant, on the next start the orders and what we left in the zone are as they were."""
    first = open_journal()
    first.hold("web", "maintenance", "ann", 3600)
    first.hold(PUBLISHING, "wrong content", "bob")
    first.drain("lyon", "new disks", "ann")
    first.ask("failback-1", "web", "Go back to milan?", {"since": "an hour"})
    left = moved(first, state("milan"), "lyon", automatic=True)
    open_plan = plan(left, "oslo", "f" * 32, above=first.highest_epoch("web"))
    first.intend(open_plan)
    first.remember_name_servers("web", {"ns1.example.org": ("192.0.2.1", "2001:db8::1")})
    first.seen_serving("lyon", 7, "20261121T120000Z-00000000")
    first.publish_began("lyon", "20261121T120000Z-00000000", 7)
    first.publish_ended("lyon", "published", {"files_sent": 3})
    first.keep("standing", [1, {"two": None}])
    again = open_journal()

    assert again.holds() == first.holds()
    assert set(again.holds()) == {"web", PUBLISHING}
    assert again.drained() == first.drained()
    assert again.asks()[0].question == "Go back to milan?"
    assert again.expected("web") == left
    assert [intent.change for intent in again.intents()] == [open_plan]
    assert again.highest_epoch("web") == 2
    assert again.name_servers("web") == {"ns1.example.org": ("192.0.2.1", "2001:db8::1")}
    assert again.last_seen()["lyon"].serial == 7
    assert (again.publishes()["lyon"].result, again.publishes()["lyon"].details) == ("published", {"files_sent": 3})
    assert again.kept("standing") == [1, {"two": None}]
    assert again.last_move("web") is not None


def test_an_empty_journal_knows_nothing(journal: Journal) -> None:
    """The first start: every question has an answer all the same."""
    assert (journal.holds(), journal.drained(), journal.asks(), journal.intents()) == ({}, {}, [], [])
    assert (journal.held("web"), journal.asked("x"), journal.intent("web"), journal.kept("x")) == (None,) * 4
    assert (journal.expected("web"), journal.past("web"), journal.highest_epoch("web")) == (None, [], 0)
    assert (journal.name_servers("web"), journal.last_seen(), journal.publishes()) == ({}, {}, {})
    assert (journal.last_move("web"), journal.history()) == (None, [])


def test_the_file_is_closed_to_others_whatever_the_umask(path: Path) -> None:
    """History tells of the publisher's affairs; the group may read it."""
    before = os.umask(0o000)
    try:
        Journal(path).close()
    finally:
        os.umask(before)

    assert path.stat().st_mode & 0o777 == 0o640


# -- orders


def test_a_hold_runs_out_and_can_be_ended(journal: Journal, watch: Watch) -> None:
    """`hold web --for 2h` ends by itself, `unhold` ends it at once; both say whether there was one."""
    journal.hold("web", "maintenance", "ann", 7200)
    watch.pass_by(7199)
    still = journal.held("web")
    watch.pass_by(2)
    over = journal.held("web")
    journal.hold("web", "again", "bob")
    watch.pass_by(400 * DAY)

    assert still is not None
    assert (still.reason, still.by, still.since, still.until) == ("maintenance", "ann", NOON, NOON + 7200)
    assert over is None
    assert journal.held("web") is not None
    assert journal.unhold("web", "bob")
    assert not journal.unhold("web", "bob")
    assert journal.holds() == {}


def test_an_ended_hold_is_ended_only_once(journal: Journal, watch: Watch) -> None:
    """A hold that ran out is no hold to be ended."""
    journal.hold("web", "maintenance", "ann", 60)
    watch.pass_by(61)

    assert not journal.unhold("web", "ann")


def test_orders_are_told_in_the_history_with_who_and_why(journal: Journal) -> None:
    """What happened, when, why, by whom."""
    journal.hold("web", "maintenance", "ann", 60)
    journal.unhold("web", "bob")
    journal.drain("lyon", "new disks", "ann")
    journal.undrain("lyon", "bob")
    journal.ask("q1", "web", "Go back?", {})
    journal.ack("q1", "ann")

    told = [(e.event.kind, e.event.about, e.event.why, e.event.by) for e in reversed(journal.history())]
    assert told == [
        ("hold", "web", "maintenance", "ann"),
        ("unhold", "web", "", "bob"),
        ("drain", "lyon", "new disks", "ann"),
        ("undrain", "lyon", "", "bob"),
        ("ask", "web", "", ""),
        ("ack", "web", "Go back?", "ann"),
    ]


def test_a_question_is_answered_once_and_lapses(journal: Journal, watch: Watch) -> None:
    """An ask has an id; put again it stays the same question; when its facts change it is dropped, answer and all."""
    first = journal.ask("q1", "web", "Go back?", {"lag": 0})
    watch.pass_by(60)
    again = journal.ask("q1", "web", "Go back?", {"lag": 0})
    answered = journal.ack("q1", "ann"), journal.ack("q1", "bob"), journal.ack("q2", "bob")
    asked = journal.asked("q1")
    still_open = journal.asks()
    journal.lapse("q1")

    assert again == first
    assert answered == (True, False, False)
    assert asked is not None
    assert asked.answered_by == "ann"
    assert still_open == []
    assert journal.asked("q1") is None
    assert not journal.ack("q1", "ann")


# -- clocks


def test_a_clock_set_a_day_forward_ends_no_hold_and_no_dwell(journal: Journal, watch: Watch) -> None:
    """Intervals are the boot's, not the wall's."""
    journal.hold("web", "maintenance", "ann", 7200)
    moved(journal, state("milan"), "lyon", automatic=True)
    watch.pass_by(30)
    watch.wall += DAY

    held, last = journal.held("web"), journal.last_move("web")
    assert held is not None
    assert held.until == watch.wall + 7170
    assert last is not None
    assert last.age == 30


def test_a_clock_set_back_makes_nothing_endless(journal: Journal, watch: Watch) -> None:
    """The dwell goes on counting, and is never negative."""
    moved(journal, state("milan"), "lyon", automatic=True)
    watch.wall -= DAY
    watch.pass_by(120)

    last = journal.last_move("web")
    assert last is not None
    assert last.age == 120


@pytest.mark.parametrize(
    ("passed", "first", "later"),
    [
        pytest.param(300.0, 300.0, 360.0, id="the clock went on"),
        pytest.param(-DAY, 0.0, 60.0, id="the clock was set back: as if it were now"),
    ],
)
def test_across_a_restart_of_the_machine_the_wall_clock_counts_clamped(
    open_journal: Callable[[], Journal], watch: Watch, passed: float, first: float, later: float
) -> None:
    """Then, within that run of ours, the boot's clock again: a step does not matter any more."""
    moved(open_journal(), state("milan"), "lyon", automatic=True)
    watch.wall += passed
    watch.restart()
    journal = open_journal()
    at_first = journal.last_move("web")
    watch.pass_by(60)
    watch.wall += 7 * DAY

    then = journal.last_move("web")
    assert at_first is not None
    assert then is not None
    assert (at_first.age, then.age) == (first, later)


def test_automatic_moves_are_remembered_the_latest_first(open_journal: Callable[[], Journal], watch: Watch) -> None:
    """Damping rests on them, also after a restart; a file of an earlier version has only the last one."""
    journal, stands = open_journal(), state("milan")
    for number, target in enumerate(("lyon", "milan", "lyon")):
        stands = moved(journal, stands, target, str(number) * 32, automatic=True)
        watch.pass_by(100)

    moves = open_journal().automatic_moves("web")
    assert [(move.age, move.target) for move in moves] == [(100, "lyon"), (200, "milan"), (300, "lyon")]


def test_a_restart_of_mirrord_alone_keeps_the_boots_clock(open_journal: Callable[[], Journal], watch: Watch) -> None:
    """The machine was not restarted, and its wall clock was set meanwhile."""
    moved(open_journal(), state("milan"), "lyon", automatic=True)
    watch.pass_by(45)
    watch.wall -= DAY

    last = open_journal().last_move("web")
    assert last is not None
    assert last.age == 45


def test_the_real_clocks_are_the_machines(path: Path) -> None:
    """Without clocks of its own the journal takes the machine's."""
    journal = Journal(path)
    journal.publish_began("lyon", "id", 1)

    assert 0 <= journal.publishes()["lyon"].age < 60
    journal.close()


# -- zones and plans


def test_only_one_plan_of_a_service_is_open(journal: Journal) -> None:
    """Another one must wait until the outcome of the first is known; the same one may be written down again."""
    first = plan(state("milan"), "lyon")
    journal.intend(first)
    journal.intend(first)

    with pytest.raises(Braked, match=r"plan 1 \(lyon\) is not known yet") as caught:
        journal.intend(plan(state("milan"), "oslo", "f" * 32))
    assert caught.value.brake == "open-plan"
    assert [intent.change for intent in journal.intents()] == [first]


def test_only_one_plan_of_a_service_is_open_whatever_the_process(path: Path, journal: Journal) -> None:
    """A verb that works alone beside the daemon meets the same brake."""
    journal.intend(plan(state("milan"), "lyon"))
    other = Journal(path)

    with pytest.raises(Braked):
        other.intend(plan(state("milan"), "oslo", "f" * 32))
    other.close()


def test_a_settled_plan_leaves_what_stands_and_remembers_what_stood(journal: Journal) -> None:
    """The next plan expects what this one made; a zone that goes back is recognised."""
    change = plan(state("milan"), "lyon")
    journal.intend(change)
    journal.settle(change, change.to, "web: moved from milan to lyon")

    assert journal.intent("web") is None
    assert journal.expected("web") == change.to
    assert journal.past("web") == [state("milan"), change.to]
    (told,) = journal.history()
    assert (told.event.kind, told.event.what) == ("switch", "web: moved from milan to lyon")
    assert (told.event.why, told.event.by) == ("the primary is down", "ann")
    assert told.event.details == json.loads(json.dumps(change.to_json()))


def test_a_refused_plan_changes_no_expectation_but_is_remembered(journal: Journal) -> None:
    """Should it take effect after all, its nonce is known; its epoch is used up."""
    left = moved(journal, state("milan"), "lyon")
    change = plan(left, "oslo", "f" * 32)
    journal.intend(change)
    journal.settle(change, None, "web: refused")

    assert journal.expected("web") == left
    assert change.to in journal.past("web")
    assert journal.highest_epoch("web") == 2
    assert journal.history(kinds=["no switch"])[0].event.what == "web: refused"


def test_readers_are_waited_for_as_long_as_they_were_told(journal: Journal, watch: Watch) -> None:
    """From the moment of the change, on the clock that nobody sets."""
    before = journal.readers_follow_in("web")
    moved(journal, state("milan"), "lyon")
    watch.pass_by(100.0)
    watch.wall += DAY

    assert (before, journal.readers_follow_in("web")) == (None, 200.0)


def test_the_same_failure_is_told_once_a_day_and_whenever_a_person_met_it(journal: Journal, watch: Watch) -> None:
    """With each look of a month-long outage the same move fails: the history is for what happened besides."""
    left = moved(journal, state("milan"), "lyon")

    def fail(text: str, who: str = "") -> int:
        change = replace(plan(left, "oslo", f"{len(journal.past('web')):032x}"), who=who or "home")
        journal.intend(change)
        journal.settle(change, None, text)
        return len(journal.history(kinds=["no switch"]))

    counts = [fail("web: no road"), fail("web: no road"), fail("web: refused"), fail("web: refused", "anna")]
    watch.pass_by(DAY)
    assert [*counts, fail("web: refused")] == [1, 1, 2, 3, 4]


def test_what_a_refused_adoption_wanted_to_replace_is_none_of_our_states(journal: Journal) -> None:
    """A human's state that we could not take over stays foreign: it must not look like a state of ours that is back."""
    moved(journal, state("milan"), "lyon")
    adoption = plan(state("oslo"), "milan", "f" * 32)
    journal.intend(adoption)
    journal.settle(adoption, None, "web: nothing was sent")

    assert state("oslo") not in journal.past("web")


def test_giving_up_is_written_beside_the_open_plan(journal: Journal) -> None:
    """Killed in the middle of giving up, the next start goes on with the same two plans."""
    change = plan(state("milan"), "lyon")
    journal.intend(change)
    advance = plan_advance(change, nonce="f" * 32, by="home")
    journal.give_up(change, advance)

    intent = journal.intent("web")
    assert intent is not None
    assert (intent.change, intent.advance) == (change, advance)
    assert journal.highest_epoch("web") == advance.epoch


def test_only_moves_are_dated_and_only_automatic_ones_start_the_dwell(journal: Journal, watch: Watch) -> None:
    """A move by hand is no reason to keep the daemon from the next one; an adoption is no move at all."""
    adoption = plan(state("lyon"), "lyon")
    journal.intend(adoption)
    journal.settle(adoption, adoption.to, "taken over")
    none_yet = journal.last_move("web")
    left = moved(journal, adoption.to, "milan", "a" * 32, automatic=True)
    watch.pass_by(10)
    moved(journal, left, "oslo", "b" * 32)

    (automatic,), last = journal.automatic_moves("web"), journal.last_move("web")
    assert none_yet is None
    assert last is not None
    assert (automatic.age, automatic.source, automatic.target) == (10, "lyon", "milan")
    assert (last.age, last.source, last.target) == (0, "milan", "oslo")


def test_a_move_by_a_person_is_told_from_those_of_the_controller(open_journal: Callable[[], Journal]) -> None:
    """What a person chose is not undone by itself, after a restart neither."""
    journal = open_journal()
    ours = plan(state("lyon"), "milan", "a" * 32)
    by_itself = None
    for change in (replace(ours, who=ours.by), replace(plan(ours.to, "oslo", "b" * 32, above=1), who="anna")):
        by_itself = journal.last_move("web")
        journal.intend(change)
        journal.settle(change, change.to, "web: moved")
    journal.close()
    by_anna = open_journal().last_move("web")

    assert by_itself is not None
    assert by_anna is not None
    assert (by_itself.by_hand, by_anna.by_hand) == (False, True)


def test_so_many_states_are_remembered_and_no_more(journal: Journal) -> None:
    """A zone that goes back goes back to something recent; the file does not grow for ever."""
    stands = state("milan")
    for number in range(60):
        stands = moved(journal, stands, "lyon" if number % 2 else "oslo", f"{number:032x}")

    past = journal.past("web")
    assert len(past) == 20
    assert past[-1] == stands


def test_taking_over_expects_what_stands(journal: Journal) -> None:
    """A later state of ours that only the zone knew."""
    stands = plan(state("milan"), "lyon", above=8).to
    moved(journal, state("milan"), "oslo")
    journal.take("web", stands, "is ours by its TXT")

    assert journal.expected("web") == stands
    assert journal.highest_epoch("web") == 9


# -- history


def test_history_is_read_newest_first_within_limits(journal: Journal, watch: Watch) -> None:
    """`history` pages through it, by kind, by service, by time."""
    for number in range(10):
        journal.record(Event("verdict" if number % 2 else "move", f"number {number}", about=f"m{number % 3}"))
        watch.pass_by(60)

    whats = [happened.event.what for happened in journal.history(3)]
    assert whats == ["number 9", "number 8", "number 7"]
    assert [h.event.what for h in journal.history(2, before=journal.history(3)[-1].number)] == ["number 6", "number 5"]
    assert len(journal.history(kinds=["move"])) == 5
    assert len(journal.history(kinds=["move", "verdict"], about="m0")) == 4
    assert len(journal.history(since=NOON + 8 * 60)) == 2
    assert journal.history(0) == []


def test_an_event_is_read_as_it_was_written(journal: Journal) -> None:
    """Any text, also names of files that are no UTF-8, and details as a value."""
    event = Event("publish", "caf\u00e9 \udcff \x00", "why", "ann", "lyon", {"files": [1, 2], "name": "\udcfe"})
    journal.record(event)

    assert journal.history()[0].event == replace(event, what="caf\u00e9 \\udcff \x00")


def test_history_does_not_grow_without_bound(path: Path, watch: Watch, open_journal: Callable[[], Journal]) -> None:
    """By count and by age; a daemon runs for years."""
    journal = open_journal()
    journal.record(Event("old", "of last year"))
    watch.pass_by(401 * DAY)
    with sqlite3.connect(path) as beside:
        row = (watch.wall, "x", "", "", "x", "", "{}")
        beside.executemany(
            "INSERT INTO history (at, kind, about, by, what, why, details) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [row] * (KEEP_EVENTS + 500),
        )
    beside.close()
    for _ in range(100):
        journal.record(Event("new", "of today"))

    assert journal.history(kinds=["old"]) == []
    with sqlite3.connect(path) as beside:
        (count,) = beside.execute("SELECT count(*) FROM history").fetchone()
    beside.close()
    assert count <= KEEP_EVENTS + 100


def test_details_that_are_too_long_are_left_out(journal: Journal) -> None:
    """A list of a hundred thousand paths is no history."""
    journal.record(Event("publish", "much", details={"paths": ["x" * 100] * 1000}))

    assert set(journal.history()[0].event.details) == {"left_out"}


def test_a_mirror_that_serves_the_same_is_not_written_in_every_round(
    path: Path, journal: Journal, watch: Watch
) -> None:
    """A round every 30 s on ten mirrors must not wear the disk; a new snapshot is written at once."""
    dated = []
    for _ in range(4):
        journal.seen_serving("lyon", 7, "seven")
        dated.append(journal.last_seen()["lyon"].at - NOON)
        watch.pass_by(20)
    journal.seen_serving("lyon", 8, "eight")

    assert dated == [0, 0, 0, 60]
    assert (journal.last_seen()["lyon"].serial, journal.last_seen()["lyon"].at) == (8, NOON + 80)


# -- many at once


def test_many_threads_and_processes_write_at_once(path: Path, journal: Journal) -> None:
    """The daemon's crews and a verb beside it: nobody loses an event, nobody is told that it is locked."""
    code = (
        "import sys; from pathlib import Path; from mirrord.journal import Journal\n"
        "j = Journal(Path(sys.argv[1]))\n"
        "for n in range(50): j.ask(f'{sys.argv[2]}-{n}', 'web', 'process', {})\n"
        "j.close()"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in ("one", "two")]

    def write() -> None:
        for number in range(50):
            journal.ask(f"{threading.get_ident()}-{number}", "web", "thread", {})

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert [child.wait(60) for child in children] == [0, 0]
    told = [happened.event.what for happened in journal.history(1000)]
    assert (told.count("thread"), told.count("process"), len(journal.asks())) == (200, 100, 300)


def test_connections_of_threads_that_ended_are_closed(path: Path, journal: Journal) -> None:
    """Crews come and go: the daemon must not run out of files."""
    for _ in range(50):
        thread = threading.Thread(target=lambda: journal.record(Event("thread", "x")))
        thread.start()
        thread.join(10)

    open_files = [os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()]
    assert open_files.count(str(path)) <= 3


# -- a disk that is full


@pytest.fixture
def disk(lab: Lab) -> SmallDisk:
    """A disk of 2 MiB."""
    return lab.small_disk(2048)


def test_on_a_full_disk_the_new_value_is_remembered_and_written_later(disk: SmallDisk) -> None:
    """Holds and dwell stay as they were last known; what is ordered meanwhile holds; with room again it is written."""
    path = disk.folder / "journal.sqlite"
    journal = Journal(path)
    journal.hold("web", "maintenance", "ann")
    disk.fill()
    refused = 0
    for order in (
        lambda: journal.hold(PUBLISHING, "the disk", "ann"),
        lambda: journal.unhold("web", "ann"),
        lambda: journal.record(Event("alarm", "the disk is full")),
        lambda: journal.intend(plan(state("milan"), "lyon")),
    ):
        with pytest.raises(JournalUnwritable, match="the disk is full") as caught:
            order()
        assert caught.value.free is not None
        refused += 1
    meanwhile = set(journal.holds()), journal.intent("web") is not None, journal.writable()
    with pytest.raises(Braked):
        journal.intend(plan(state("milan"), "oslo", "f" * 32))
    disk.free()
    written = journal.writable()
    again = Journal(path)

    assert refused == 4
    assert meanwhile == ({PUBLISHING}, True, False)
    assert written
    assert set(again.holds()) == {PUBLISHING}
    assert again.intent("web") is not None
    assert "the disk is full" in [happened.event.what for happened in again.history(kinds=["alarm"])]
    journal.close()
    again.close()


@pytest.mark.parametrize("killed", [True, False], ids=["killed before", "ended before"])
def test_on_a_full_disk_the_journal_opens_and_answers(disk: SmallDisk, killed: bool) -> None:
    """The daemon restarts in the middle of the outage: it knows what was held, and works on."""
    path = disk.folder / "journal.sqlite"
    code = (
        "import os, sys; from pathlib import Path; from mirrord.journal import Journal\n"
        "j = Journal(Path(sys.argv[1])); j.hold('web', 'maintenance', 'ann')\n"
        + ("os._exit(0)" if killed else "j.close()")
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    disk.fill()
    journal = Journal(path)
    with pytest.raises(JournalUnwritable):
        journal.drain("lyon", "x", "ann")
    on_full = set(journal.holds()), set(journal.drained())
    disk.free()
    written = journal.writable()

    assert on_full == ({"web"}, {"lyon"})
    assert written
    journal.close()
    again = Journal(path)
    assert (set(again.holds()), set(again.drained())) == ({"web"}, {"lyon"})
    again.close()


def test_on_a_disk_that_was_always_full_there_is_a_journal_in_memory(disk: SmallDisk) -> None:
    """A new controller on a full laptop can still move readers."""
    disk.fill()
    journal = Journal(disk.folder / "journal.sqlite")
    change = plan(state("milan"), "lyon")
    with pytest.raises(JournalUnwritable):
        journal.intend(change)
    with pytest.raises(JournalUnwritable):
        journal.settle(change, change.to, "moved")

    assert journal.expected("web") == change.to
    assert journal.intent("web") is None
    journal.close()


# -- a file that is none


def test_a_damaged_journal_is_one_clear_sentence(path: Path, journal: Journal) -> None:
    """Broken pages are found when it is opened, not in an outage; the way on is named."""
    for number in range(200):
        journal.record(Event("x", "y" * 200, details={"n": number}))
    journal.close()
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 20_000)

    with pytest.raises(Damaged, match="it is damaged; move it away") as caught:
        Journal(path)
    assert str(caught.value).startswith(f"{path}: opening the journal: ")
    assert "--adopt" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"no database at all" * 100, "it is damaged", id="rubbish"),
        pytest.param(b"SQLite format 3\0" + b"\xff" * 200, "it is damaged", id="a broken head"),
    ],
)
def test_a_file_that_is_no_journal_is_one_clear_sentence(path: Path, content: bytes, says: str) -> None:
    """Whatever stands there is not overwritten."""
    path.write_bytes(content)

    with pytest.raises(Damaged, match=says):
        Journal(path)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    """A slip in `[state] directory`."""
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()

    with pytest.raises(Damaged, match="another program"):
        Journal(path)


def test_a_newer_mirrords_journal_is_not_touched(path: Path, journal: Journal) -> None:
    """After a downgrade: say which version is wanted, and stop."""
    journal.close()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 7")
    newer.close()

    with pytest.raises(BadConfig, match="schema 7, this one reads 1"):
        Journal(path)


def test_a_folder_that_is_not_there_is_one_clear_sentence(tmp_path: Path) -> None:
    """The state folder is made by systemd or by the operator."""
    with pytest.raises(Refused, match="No such file or directory; see to the state folder"):
        Journal(tmp_path / "gone" / "journal.sqlite")


def test_a_journal_that_we_may_only_read_answers(lab: Lab) -> None:
    """An operator of the group asks for the status while no daemon runs."""
    folder = lab.folder("journal")
    path = folder / "journal.sqlite"
    journal = Journal(path)
    journal.hold("web", "maintenance", "ann")
    journal.close()
    path.chmod(0o644)
    code = (
        "import os, sys\n"
        "from pathlib import Path; from mirrord.journal import Journal; from mirrord.errors import JournalUnwritable\n"
        "Journal(Path(sys.argv[1])).close()  # loads all that nobody may not\n"
        "os.getuid() or os.setresuid(65534, 65534, 65534)\n"
        "j = Journal(Path(sys.argv[1])); print(*j.holds())\n"
        "try: j.drain('lyon', 'x', 'nobody')\n"
        "except JournalUnwritable as e: print(e)\n"
    )
    if os.getuid() != 0:
        path.chmod(0o444)
        folder.chmod(0o555)

    said = subprocess.run([sys.executable, "-c", code, str(path)], check=False, capture_output=True, text=True)
    assert said.stdout.splitlines()[:1] == ["web"], said.stderr
    assert "we may only read it" in said.stdout


def test_a_closed_journal_writes_nothing_more(journal: Journal) -> None:
    """Threads that are still at work when the daemon ends are told so, in our words."""
    journal.close()

    with pytest.raises(JournalUnwritable, match="the journal is closed"):
        journal.record(Event("late", "x"))
