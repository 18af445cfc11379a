"""A prefix is announced by a speaker beside us: what it is told, word for word, and what of its answers is believed."""

from __future__ import annotations

import os
import select
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from mirrord.errors import Unavailable
from mirrord.journal import Journal
from mirrord.switches import (
    BgpSettings,
    Change,
    Expected,
    Following,
    Kind,
    Result,
    SentKind,
    ZoneState,
    open_switch,
    plan_change,
    transaction,
)
from mirrord.switches.announcing import Announcement
from mirrord.switches.bgp import CHANGED, open_speaker
from mirrord.switches.transaction import Looked, Patience
from tests.conftest import Lab
from tests.lab.bird import Bird

V4, V6 = "203.0.113.0/24", "2001:db8:80::/48"
MIRRORS = {
    "milan": ("198.51.100.10", "2001:db8:1::10"),
    "lyon": ("198.51.100.20 med 20 community 64501:2 64501:1:2", "2001:db8:1::20 med 20 community 64501:2 64501:1:2"),
    "oslo": ("198.51.100.10 community 64501:3", "2001:db8:1::10 community 64501:3"),
}
"""What is announced of each; oslo has milan's next hops, and a community of its own."""
ROUTES = {V4: Announcement.parse(MIRRORS["lyon"][0]), V6: Announcement.parse(MIRRORS["milan"][1])}
FENCE = "v=1 epoch=3 target=lyon plan=00112233445566778899aabbccddeeff by=home"
BIRD = f"""# Written by mirrord for the service "web-1", which replaces it whole: change nothing here.
# {FENCE}
protocol static mirrord_web_1_ipv4 {{
\tipv4;
\troute 203.0.113.0/24 blackhole {{ bgp_next_hop = 198.51.100.20; bgp_med = 20; bgp_community.add((64501,2)); \
bgp_large_community.add((64501,1,2)); }};
}}
protocol static mirrord_web_1_ipv6 {{
\tipv6;
\troute 2001:db8:80::/48 blackhole {{ bgp_next_hop = 2001:db8:1::10; }};
}}
"""
EXABGP = f"""# {FENCE}
announce route 2001:db8:80::/48 next-hop 2001:db8:1::10
announce route 203.0.113.0/24 next-hop 198.51.100.20 med 20 community [64501:2] large-community [64501:1:2]
"""


def settings(kind: str = "bird", **more: Any) -> BgpSettings:
    """Return a service's settings."""
    return BgpSettings(**{"service": "web-1", "speaker": kind, "prefixes": (V4, V6), "file": "/tmp/none", **more})


@pytest.mark.parametrize(("kind", "text"), [("bird", BIRD), ("exabgp", EXABGP)])
def test_the_file_says_all_and_is_read_back_to_the_last_byte(kind: str, text: str) -> None:
    """It outlives mirrord and the speaker; whoever looks into it finds which plan wrote it."""
    speaker = open_speaker(settings(kind))

    assert speaker.write(FENCE, ROUTES) == text
    assert speaker.parse(text) == (FENCE, ROUTES)
    for other in (text + "# mine\n", text.replace("64501", "64501:"), text.replace("  ", " ").upper(), text[:-1], ""):
        with pytest.raises(ValueError, match=r"not as mirrord wrote it|should be a community"):
            speaker.parse(other)


class Site:
    """A file, a speaker, and the desk of a controller before them."""

    def __init__(self, folder: Path, journal: Journal, **how: Any) -> None:
        self.file = folder / "web-1.conf"
        self.journal = journal
        self.switch = open_switch(settings(file=str(self.file), **how))

    def look(self) -> Looked:
        """Read what stands and hold it against the journal."""
        return transaction.look(self.switch, self.journal, "web-1", MIRRORS, by="home")

    def plan(self, target: str, stands: Expected | None = None) -> Change:
        """Plan a move from what stands."""
        stands = stands or self.look().zone.stands
        above = self.journal.highest_epoch("web-1")
        nonce = transaction.new_nonce()
        return plan_change(
            "web-1", stands, target, MIRRORS, nonce=nonce, by="home", ttl=0, was_ttl=0, epoch_above=above
        )

    def run(self, change: Change) -> Result:
        """Carry a plan out."""
        return transaction.run(self.switch, self.journal, change, patience=Patience(commit=1.0, follow=0.1))

    def move(self, target: str) -> Result:
        """Move readers, whoever has them."""
        return self.run(self.plan(target))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal."""
    journal = Journal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


@pytest.fixture
def bird(lab: Lab, tmp_path: Path) -> Bird:
    """BIRD that includes the file, and has no neighbour."""
    (tmp_path / "web-1.conf").touch()
    return lab.bird("bird", f'router id 198.51.100.5;\nprotocol device {{}}\ninclude "{tmp_path}/web-1.conf";\n')


@pytest.fixture
def site(tmp_path: Path, journal: Journal, bird: Bird) -> Site:
    """Nothing is announced yet."""
    return Site(tmp_path, journal, socket=str(bird.control), timeout=3.0)


def test_bird_announces_what_it_is_told_and_shows_whose_it_is(site: Site) -> None:
    """Mirrors are told apart by next hop, MED or community; a move goes from any to any."""
    assert site.look().comparison.state is ZoneState.FOREIGN  # nothing stands: a person begins, with --adopt

    for target in ("milan", "lyon", "oslo"):
        result = site.move(target)
        looked = site.look()
        assert (result.kind, looked.comparison.state) == (Kind.PARTIAL, ZoneState.OURS), result.text
        assert looked.comparison.serving == target
        assert "BIRD has it, but no neighbour is told of it" in result.text
    assert stat.S_IMODE(site.file.stat().st_mode) == 0o644
    assert sorted(path.name for path in site.file.parent.glob("*web*")) == [".web-1.conf.lock", "web-1.conf"]


def test_what_a_person_wrote_into_the_file_is_left_alone(site: Site, bird: Bird) -> None:
    """It is theirs until they say otherwise."""
    site.move("milan")
    site.file.write_text(site.file.read_text() + "# mine\n")
    bird.ask("configure")

    looked = site.look()
    expected = site.journal.expected("web-1")
    assert looked.comparison.state is ZoneState.FOREIGN
    assert CHANGED in looked.comparison.text
    assert expected is not None
    site.switch.keep(expected)
    assert site.file.read_text().endswith("# mine\n")
    assert site.run(site.plan("lyon", expected)).kind is Kind.UNCHANGED
    assert site.run(site.plan("lyon", looked.zone.stands)).kind is Kind.PARTIAL
    assert site.look().comparison.serving == "lyon"


def test_of_two_controllers_who_expect_the_same_one_moves(site: Site) -> None:
    """The file is compared and replaced under one lock."""
    site.move("milan")
    first, second = site.plan("lyon"), site.plan("oslo")

    assert site.switch.send(first).kind is SentKind.ACCEPTED
    assert site.switch.send(second).kind is SentKind.FENCED
    assert site.switch.send(first).kind is SentKind.ACCEPTED


def test_a_fault_in_birds_own_configuration_is_told_and_changes_nothing(site: Site, bird: Bird) -> None:
    """Someone edits it meanwhile: the file that stands must stay the one that BIRD can start with."""
    site.move("milan")
    before = site.file.read_text()
    (bird.folder / "bird.conf").write_text("router nonsense;\n")

    result = site.move("lyon")
    assert (result.kind, result.exit_code) == (Kind.UNCHANGED, 5)
    assert "its own configuration has a fault: " in result.text
    assert "bird.conf:1" in result.text
    assert site.file.read_text() == before
    assert site.look().comparison.state is ZoneState.OURS


def test_a_bird_that_refuses_after_all_finds_its_file_as_it_was(site: Site, bird: Bird) -> None:
    """Only both together are bad: a name that its own configuration has too. Its next start must not stumble."""
    text = bird.text.replace("include", "protocol static mirrord_web_1_ipv4 { ipv4; }\ninclude")
    (bird.folder / "bird.conf").write_text(text)

    result = site.move("milan")
    assert (result.kind, result.exit_code) == (Kind.UNCHANGED, 5), result.text
    assert site.file.read_text() == ""


def test_a_bird_that_is_gone_is_moved_by_nobody(site: Site, bird: Bird) -> None:
    """What is announced is not known then, and nothing was sent."""
    site.move("milan")
    change = site.plan("lyon")
    bird.kill()

    with pytest.raises(Unavailable, match=r"web-1: asking BIRD what it announces: talking to it at .*bird\.ctl"):
        site.switch.read()
    with pytest.raises(Unavailable, match="proving that BIRD would obey"):
        site.switch.prove()
    result = site.run(change)
    assert (result.kind, result.exit_code) == (Kind.UNCHANGED, 75)


def test_killed_before_bird_was_told_it_is_told_afterwards(site: Site) -> None:
    """Between the rename and the word to BIRD: the file has the plan, BIRD has not heard of it."""
    site.move("milan")
    change = site.plan("lyon")
    site.journal.intend(change)
    speaker = open_speaker(settings())
    meant = {name: Announcement.parse(min(stands.addresses)) for name, stands in change.to.names.items()}
    site.file.write_text(speaker.write("".join(min(change.to.names[V4].fence)), meant))

    resolved = transaction.resolve(site.switch, site.journal, "web-1", by="home", patience=Patience(0.1, 0.1))
    assert resolved is not None
    assert resolved.text.startswith("web-1: moved from milan to lyon")
    assert site.journal.expected("web-1") == change.to
    assert (site.look().comparison.state, site.look().comparison.serving) == (ZoneState.OURS, "lyon")


@pytest.mark.parametrize(
    ("answer", "following"),
    [
        ('print("* via 198.51.100.20 on eth0, via 2001:db8:1::20 on eth0")', Following.FOLLOWS),
        ('print("* via 198.51.100.2 on eth0")', Following.OLD),
        ('sys.exit("no such router")', Following.UNREACHABLE),
        ("import time; time.sleep(60)", Following.UNREACHABLE),
    ],
)
def test_a_neighbour_is_believed_by_the_next_hop_that_it_names(
    site: Site, tmp_path: Path, answer: str, following: Following
) -> None:
    """The router's word is worth more than the speaker's; a whole address counts, not its beginning."""
    site.move("lyon")
    change = site.journal.expected("web-1")
    assert change is not None
    script = tmp_path / "ask"
    script.write_text(f"import sys\nassert sys.argv[1] in {(V4, V6)!r}\n{answer}\n")
    asked = Site(tmp_path, site.journal, neighbour=(sys.executable, str(script)), timeout=1.0)

    followers = asked.switch.followers(asked.plan("lyon", change), {})
    assert followers["neighbour"].following is following


class Pipes:
    """ExaBGP's two pipes, and a thread that answers as `answer` says; a context manager."""

    def __init__(self, folder: Path, answer: Callable[[str], str]) -> None:
        self.path = folder / "exabgp"
        self.answer = answer
        self.heard: list[str] = []
        for end in (".in", ".out"):
            os.mkfifo(f"{self.path}{end}", 0o600)

    def __enter__(self) -> Self:
        """Listen."""
        self._end = threading.Event()
        self._in = os.open(f"{self.path}.in", os.O_RDWR | os.O_NONBLOCK)
        self._out = os.open(f"{self.path}.out", os.O_RDWR)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Listen no more."""
        self._end.set()
        self._thread.join(10)
        os.close(self._in)
        os.close(self._out)

    def _serve(self) -> None:
        while not self._end.is_set():
            if select.select([self._in], [], [], 0.05)[0]:
                for line in os.read(self._in, 65536).decode().splitlines():
                    self.heard.append(line)
                    os.write(self._out, self.answer(line).encode())


SHOWN = "neighbor 192.0.2.1 local-ip 192.0.2.2 family-allowed in-open ipv{} unicast {} {}\n"


class Obedient:
    """What an ExaBGP with one established session answers; `stands` is what it announces."""

    def __init__(self) -> None:
        self.stands: dict[str, str] = {}
        self.twist: dict[str, str] = {}

    def __call__(self, line: str) -> str:
        """Answer one command."""
        for begin, said in self.twist.items():
            if line.startswith(begin):
                return said
        if line == "version":
            return "exabgp 4.2.21\ndone\n"
        if line.startswith("announce route "):
            prefix, _, attributes = line.removeprefix("announce route ").partition(" ")
            self.stands[prefix] = attributes
            return "done\n"
        if line == "show adj-rib out extensive":
            shown = (SHOWN.format(6 if ":" in prefix else 4, prefix, text) for prefix, text in self.stands.items())
            return "".join(shown) + "done\n"
        return "Peer AS up/down state | #sent #recvd\n192.0.2.1 64500 0:00:09 established 1 1\ndone\n"


@pytest.fixture
def exabgp(tmp_path: Path) -> Iterator[Pipes]:
    """Pipes at which an ExaBGP listens."""
    with Pipes(tmp_path, Obedient()) as pipes:
        yield pipes


@pytest.fixture
def piped(tmp_path: Path, journal: Journal, exabgp: Pipes) -> Site:
    """A service whose speaker is ExaBGP; nothing is announced yet."""
    return Site(tmp_path, journal, kind="exabgp", pipes=str(exabgp.path), timeout=2.0)


def test_exabgp_is_told_line_by_line_and_believed_by_what_it_shows(piped: Site, exabgp: Pipes) -> None:
    """`done` is no proof: it means to announce it, and a session stands."""
    result = piped.move("lyon")

    assert (result.kind, piped.switch.fence) == (Kind.DONE, "best-effort"), result.text
    assert [line for line in exabgp.heard if line.startswith("announce")] == [
        f"announce route {prefix} next-hop {hop} med 20 community [64501:2] large-community [64501:1:2]"
        for prefix, hop in ((V6, "2001:db8:1::20"), (V4, "198.51.100.20"))
    ]
    assert piped.look().comparison.serving == "lyon"
    piped.switch.prove()


@pytest.mark.parametrize(
    ("twist", "kind", "text"),
    [
        pytest.param("done\n", Kind.UNKNOWN, "half of it stands", id="says done and does nothing"),
        pytest.param("error\n", Kind.UNCHANGED, "does not understand", id="says error"),
        pytest.param("", Kind.UNKNOWN, "no answer at", id="says nothing, as 4.x does"),
    ],
)
def test_no_done_of_exabgp_is_believed_by_itself(piped: Site, exabgp: Pipes, twist: str, kind: Kind, text: str) -> None:
    """It says so of nonsense and with no session, and may say nothing at all: then nobody knows yet."""
    assert isinstance(exabgp.answer, Obedient)
    piped.move("milan")
    exabgp.answer.twist = {"announce": twist}

    result = piped.move("lyon")
    assert (result.kind, text in result.text) == (kind, True), result.text
    assert piped.look().comparison.serving == "milan"

    exabgp.answer.twist = {}
    if kind is Kind.UNKNOWN:
        later = transaction.resolve(piped.switch, piped.journal, "web-1", by="home")
        assert later is not None
        assert (later.kind, piped.look().comparison.serving) == (Kind.DONE, "lyon")


def test_a_change_that_exabgp_takes_half_of_is_taken_back(piped: Site, exabgp: Pipes) -> None:
    """One family at lyon and the other at milan is what nobody planned."""
    assert isinstance(exabgp.answer, Obedient)
    piped.move("milan")
    before = piped.file.read_text(), dict(exabgp.answer.stands)
    exabgp.answer.twist = {f"announce route {V4} next-hop 198.51.100.20": "error\n"}

    assert piped.move("lyon").kind is Kind.UNCHANGED
    assert (piped.file.read_text(), exabgp.answer.stands) == before


def test_an_answer_that_came_too_late_is_not_taken_for_the_next(piped: Site, exabgp: Pipes) -> None:
    """Pipes keep what nobody read."""
    os.write(os.open(f"{exabgp.path}.out", os.O_RDWR), b"neighbor late\ndone\nerror\n")

    assert piped.move("milan").kind is Kind.DONE


def test_an_exabgp_that_started_anew_is_told_again_and_another_driver_is_left_alone(piped: Site, exabgp: Pipes) -> None:
    """What is announced is intent, kept in the journal; what somebody else announces is no restart."""
    assert isinstance(exabgp.answer, Obedient)
    piped.move("lyon")
    meant = dict(exabgp.answer.stands)
    expected = piped.journal.expected("web-1")
    assert expected is not None
    exabgp.answer.stands.clear()
    piped.file.unlink()

    piped.switch.keep(expected)
    assert exabgp.answer.stands == meant
    assert piped.look().comparison.state is ZoneState.OURS

    exabgp.answer.stands[V4] = "next-hop 198.51.100.66"
    piped.switch.keep(expected)
    assert exabgp.answer.stands[V4] == "next-hop 198.51.100.66"
    assert piped.look().comparison.state is ZoneState.FOREIGN


def test_pipes_at_which_nobody_listens_say_so(tmp_path: Path, journal: Journal) -> None:
    """Not after a time limit, and without leaving a word in them for later."""
    with Pipes(tmp_path, Obedient()) as pipes:
        path = pipes.path

    site = Site(tmp_path, journal, kind="exabgp", pipes=str(path), timeout=5.0)
    with pytest.raises(Unavailable, match="it does not run"):
        site.switch.read()
