"""What an account can do is found by doing: honest servers, lying ones, and those that break the connection over it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from mirrord.demo.sftpd import Cut, SftpHost, new_key
from mirrord.errors import Refused, Unavailable
from mirrord.hosts.account import Account
from mirrord.hosts.directory import DirectoryFiles
from mirrord.hosts.files import (
    Create,
    Files,
    Hash,
    Link,
    Op,
    Outcome,
    Patch,
    Pulse,
    Put,
    Read,
    ReadLink,
    Remove,
    Rename,
    Space,
    Symlink,
    Traits,
    Trouble,
)
from mirrord.hosts.host import FilesHold, FilesHost
from mirrord.hosts.lock import this_process
from mirrord.hosts.memory import Cut as Broken
from mirrord.hosts.memory import Disk, MemoryFiles
from mirrord.hosts.opening import open_host
from mirrord.hosts.remembered import TRAITS, How, Remembered, Whose, from_json, recall, to_json
from mirrord.hosts.sftp import wire
from mirrord.hosts.steps import Flight, Steps
from mirrord.hosts.trying import Trial
from tests.conftest import Lab
from tests.grounds import LACKS, SERVERS, account_on
from tests.publishing import host_on, litter

ALL = Traits(ordered=True, symlink=True, hard_link=True, replace=True, space=True, copy_data=True, hashes=("sha256",))
WHOSE = Whose("mirror@lyon:22/.", "ssh-ed25519 AAAA", "SSH-2.0-any", ("posix-rename@openssh.com",))


class Notebook:
    """A memory, and everything that was ever written into it."""

    def __init__(self, known: Remembered | None = None) -> None:
        self.known = known
        self.risks: list[frozenset[str]] = []

    def recall(self) -> Remembered | None:
        """Return what was noted last."""
        return self.known

    def remember(self, known: Remembered) -> None:
        """Note it."""
        self.known = known
        if known.risking:
            self.risks.append(known.risking)


Answer = Callable[[Any, Files], Outcome | None]


class Lying:
    """An honest account of which one answer is another: `lie` returns it, or None where it tells the truth."""

    def __init__(self, honest: Files, lie: Answer) -> None:
        self.traits = honest.traits
        self._honest = honest
        self._lie = lie

    def carry_out(self, ops: Iterable[Op], pulse: Pulse | None = None) -> Iterator[Outcome]:  # noqa: ARG002
        """Do, or lie."""
        for op in ops:
            lie = self._lie(op, self._honest)
            yield from [lie] if lie is not None else self._honest.carry_out([op])

    def in_order(self, ops: Sequence[Op]) -> list[Outcome]:
        """Do one after the other, or lie."""
        return list(self.carry_out(ops))

    def bytes_moved(self) -> tuple[int, int]:
        """Return what the honest one says."""
        return self._honest.bytes_moved()

    def abort(self) -> None:
        """Break off."""
        self._honest.abort()

    def close(self) -> None:
        """Let go."""
        self._honest.close()


def carry(files: Files, steps: Steps[Any]) -> Any:
    """Do what steps ask for; return what they return."""
    answer: list[Outcome] | None = None
    while True:
        try:
            step = steps.send(answer) if answer is not None else next(steps)
        except StopIteration as done:
            return done.value
        assert isinstance(step, Flight)
        answer = files.in_order(list(step.ops)) if step.ordered else list(files.carry_out(step.ops))


def trial(memory: Notebook, said: Traits = ALL) -> Trial:
    return Trial("lyon", said, recall(memory, WHOSE), memory.remember, lambda: 1_700_000_000.0)


def find_out(files: Files) -> Remembered:
    memory = Notebook()
    carry(files, trial(memory).run("nonce"))
    assert memory.known is not None
    return memory.known


def one(files: Files, op: Op) -> Outcome:
    (outcome,) = files.carry_out([op])
    return outcome


@pytest.mark.parametrize("where", ["memory", "directory"])
def test_what_an_honest_account_can_do_is_found_to_work_and_nothing_is_left(where: str, tmp_path: Path) -> None:
    """A trial that finds fault with an honest account costs a publisher the better layout."""
    disk = Disk(room=1_000_000)
    files = MemoryFiles(disk, traits=ALL) if where == "memory" else DirectoryFiles(tmp_path)

    known = find_out(files)
    assert {name: found.words for name, found in known.findings.items()} == dict.fromkeys(TRAITS, "")
    assert {found.how for found in known.findings.values()} == {How.TRIED}
    assert known.traits(ALL) == ALL
    assert not disk.tree(b".mirrord")
    assert not list(tmp_path.glob(".mirrord/*"))


def only(kind: type[Any], lie: Callable[[Any, Files], Outcome | None], *endings: bytes) -> Answer:
    """Lie about one kind of operation, of paths that end so."""

    def answer(op: Any, honest: Files) -> Outcome | None:
        path = bytes(getattr(op, "new", b"") or getattr(op, "path", b""))
        return lie(op, honest) if isinstance(op, kind) and path.endswith(endings or (b"",)) else None

    return answer


def nothing(op: Op, honest: Files) -> Outcome:
    return Outcome(op)


def links_what_it_leads_to(op: Rename, honest: Files) -> Outcome:
    """As ProFTPD 1.3.8 does it."""
    folder = op.new.rpartition(b"/")[0]
    told = [one(honest, ReadLink(path)).value for path in (op.old, op.new)]
    old, new = (folder + b"/" + text.rpartition(b"/")[2] for text in told)
    return Outcome(op, trouble=one(honest, Rename(old, new, over=True)).trouble)


def writes_over(op: Create, honest: Files) -> Outcome:
    one(honest, Remove(op.path))
    return Outcome(op, trouble=one(honest, op).trouble)


def renamed(op: Put, honest: Files, name: bytes) -> Outcome:
    path = op.path.rpartition(b"/")[0] + b"/" + name
    return Outcome(op, trouble=one(honest, replace(op, path=path)).trouble)


def wrong_bytes(op: Patch, honest: Files) -> Outcome:
    data = bytes(op.size)
    return Outcome(op, trouble=one(honest, Put(op.path, op.size, 1, 0o644, lambda: BytesIO(data))).trouble)


LIES = [
    pytest.param("symlink", only(Symlink, nothing, b"/link"), id="a link that is not made"),
    pytest.param(
        "symlink", only(ReadLink, lambda op, _: Outcome(op, b"/one"), b"/link"), id="a link with another text"
    ),
    pytest.param("replace", only(Rename, nothing, b"over-2"), id="a file that is not replaced"),
    pytest.param(
        "replace",
        only(Rename, lambda op, h: Outcome(op, value=one(h, Remove(op.new)).value), b"over-2"),
        id="a file that vanishes",
    ),
    pytest.param("replace_link", only(Rename, nothing, b"link-2"), id="a link that is not replaced"),
    pytest.param("replace_link", only(Rename, links_what_it_leads_to, b"link-2"), id="what the link leads to"),
    pytest.param("rename_folder", only(Rename, nothing, b"folder-2"), id="a folder that stays"),
    pytest.param("hard_link", only(Link, nothing), id="a hard link that is not made"),
    pytest.param(
        "hard_link",
        only(Link, lambda op, h: Outcome(op, value=one(h, Symlink(b"hard-1", op.path)).value)),
        id="a hard link that is soft",
    ),
    pytest.param("exclusive", only(Create, writes_over, b"only"), id="a file that is written over"),
    pytest.param(
        "mtime",
        only(Put, lambda op, h: Outcome(op, trouble=one(h, replace(op, mtime=None)).trouble), b"dated-1"),
        id="its own clock",
    ),
    pytest.param(
        "any_name", only(Put, lambda op, h: renamed(op, h, b"\xef\xbf\xbd"), b"\xff\xfe"), id="replaced bytes"
    ),
    pytest.param("any_name", only(Put, lambda op, h: renamed(op, h, b"e\xcc\x81"), b"\xc3\xa9"), id="one normal form"),
    pytest.param("space", only(Space, lambda op, _: Outcome(op, trouble=Trouble.FAILED)), id="no statvfs"),
    pytest.param("copy_data", only(Patch, wrong_bytes), id="a copy with other bytes"),
    pytest.param("copy_data", only(Patch, nothing), id="a copy that is not made"),
    pytest.param("hashes", only(Hash, lambda op, _: Outcome(op, hashlib.sha256(b"").digest())), id="another hash"),
]


@pytest.mark.parametrize(("trait", "lie"), LIES)
def test_a_server_that_says_done_and_does_otherwise_is_found_out(trait: str, lie: Answer) -> None:
    """Win32-OpenSSH and SFTPGo announce what they cannot do; a publish that believed them would break the site."""
    files = Lying(MemoryFiles(Disk(room=1_000_000), traits=ALL), lie)

    found = find_out(files).findings
    assert {name for name in TRAITS if not found[name].works} == {trait}
    assert found[trait].how is How.TRIED
    assert found[trait].words


def test_a_trial_takes_a_dozen_round_trips() -> None:
    """It happens in the first publish: half a second on a line of 50 ms, and never again."""
    files = MemoryFiles(Disk(room=1_000_000), traits=ALL)
    find_out(files)

    assert files.flights <= 15


@pytest.mark.parametrize("after", [False, True])
def test_a_trial_that_broke_off_leaves_nothing_to_the_next_publish(after: bool) -> None:
    """Killed anywhere: the next holder sweeps up, and the trial is made again."""
    requests = MemoryFiles(Disk(room=1_000_000), traits=ALL)
    find_out(requests)
    for at in range(4, requests.requests, 6):
        disk, memory = Disk(room=1_000_000), Notebook()
        files = MemoryFiles(disk, traits=ALL, cut=Broken(at, after=after))
        broken = FilesHost(files, "lyon", trial=trial(memory))
        with suppress(Unavailable), broken.hold(this_process("home"), lambda _: None, broken.survey()):
            pass

        host = host_on(MemoryFiles(disk, traits=ALL))
        with host.hold(this_process("home"), lambda _: None, host.survey()) as hold:
            hold.prune(frozenset())
        assert litter(disk) == [], at


def test_the_first_hold_finds_out_and_later_ones_ask_nothing() -> None:
    """What is remembered costs nothing: a publish makes the requests that it made before anybody tried."""
    disk, memory = Disk(room=1_000_000), Notebook()
    first = FilesHost(MemoryFiles(disk, traits=ALL), "lyon", trial=trial(memory))
    with first.hold(this_process("home"), lambda _: None, first.survey()):
        pass

    assert memory.known is not None
    assert memory.known.tried_at == 1_700_000_000.0
    assert memory.known.risking == frozenset()


def test_a_host_that_was_opened_for_more_than_works_is_opened_anew() -> None:
    """Its layout was chosen by what the server announces: nothing may be published on that."""
    memory = Notebook()
    files = Lying(MemoryFiles(Disk(room=1_000_000), traits=ALL), only(Link, nothing))
    host = FilesHost(files, "lyon", trial=trial(memory))

    with (
        pytest.raises(Unavailable, match=r"^lyon: .*announces \(hard_link\); the next try"),
        host.hold(this_process("home"), lambda _: None, host.survey()),
    ):
        pass
    assert memory.known is not None
    assert memory.known.traits(ALL) == replace(ALL, hard_link=False)


# What is remembered ---------------------------------------------------------------------------------------


def test_what_is_known_survives_being_written_down() -> None:
    """The next process reads it from the state folder."""
    known = find_out(MemoryFiles(Disk(room=1_000_000), traits=ALL))
    known = replace(known, guilty=frozenset({"hashes"}), suspects=frozenset({"space"}), follows=True)

    assert from_json(to_json(known)) == known


@pytest.mark.parametrize(
    "kept",
    [None, "text", [], {}, {"account": "a"}, {"findings": 3}],
    ids=["nothing", "a text", "a list", "an empty object", "a part", "another kind"],
)
def test_what_cannot_be_read_is_nothing(kept: Any) -> None:
    """A corrupt state is found out anew, and keeps nobody from publishing."""
    assert from_json(kept) is None


@pytest.mark.parametrize("wrong", ["findings", "tried_at", "risking", "follows"])
def test_a_note_that_was_garbled_in_one_place_is_nothing(wrong: str) -> None:
    """Half a note is no note."""
    kept = to_json(find_out(MemoryFiles(Disk(room=1_000_000), traits=ALL)))

    assert from_json({**kept, wrong: {"symlink": 7} if wrong == "findings" else object()}) is None


@pytest.mark.parametrize(
    "changed", [{"account": "other@lyon:22/."}, {"host_key": "other"}, {"banner": "SSH-2.0-new"}, {"extensions": ()}]
)
def test_another_account_key_server_or_list_of_extensions_is_tried_anew(changed: dict[str, Any]) -> None:
    """After an update or a move the server is another one, whatever it could before."""
    known = find_out(MemoryFiles(Disk(room=1_000_000), traits=ALL))

    assert recall(Notebook(known), WHOSE) == known
    assert recall(Notebook(known), replace(WHOSE, **changed)) == Remembered(replace(WHOSE, **changed))


# Servers that break the connection ------------------------------------------------------------------------


def test_what_breaks_the_connection_is_tried_alone_and_then_never_again() -> None:
    """A server that dies at one question must not keep a mirror from ever being published to."""
    disk, memory = Disk(room=1_000_000), Notebook()
    tries = 0
    while memory.known is None or not memory.known.tried_at:
        tries += 1
        files = MemoryFiles(disk, traits=ALL, cut=Broken(lambda op: isinstance(op, Hash)))
        with suppress(Unavailable):
            carry(files, trial(memory).run(f"n{tries}"))
        assert tries < 5

    found = memory.known.findings
    assert tries == 3
    assert frozenset({"hashes"}) in memory.risks
    assert {name for name in TRAITS if not found[name].works} == {"hashes"}
    assert found["hashes"].how is How.LEFT_OUT


@pytest.fixture
def key() -> tuple[bytes, str]:
    return new_key()


def account_at(host: SftpHost, private: bytes, memory: Notebook) -> Account:
    return Account("lyon", host.address, host.port, host.user, lambda: private, host.host_key, memory=memory)


def hold_once(account: Account) -> None:
    """Hold as a publish does."""
    with closing(open_host(account)) as host, host.hold(this_process("home"), lambda _: None, host.survey()):
        pass


def test_a_server_that_hangs_up_at_a_question_is_published_to_all_the_same(
    tmp_path: Path, key: tuple[bytes, str]
) -> None:
    """Over a real connection, with what is remembered from try to try."""

    def gate(request: wire.Request, reply: wire.Reply | None) -> None:
        if isinstance(request, wire.CheckFile) and reply is None:
            raise Cut

    private, public = key
    memory = Notebook()
    with SftpHost(tmp_path, public_key=public, gate=gate) as server:
        account = account_at(server, private, memory)
        for _ in range(5):
            with suppress(Unavailable):
                hold_once(account)
        hold_once(account)

    assert memory.known is not None
    assert memory.known.findings["hashes"].how is How.LEFT_OUT
    assert all(memory.known.findings[name].works for name in TRAITS if name != "hashes")


def test_a_server_that_announces_what_it_undoes_is_found_out(tmp_path: Path, key: tuple[bytes, str]) -> None:
    """It says yes to a hard link and to a rename over another file, and neither is there afterwards."""

    def gate(request: wire.Request, reply: wire.Reply | None) -> None:
        if reply is not None and isinstance(request, wire.HardLink):
            (tmp_path / request.path.decode()).unlink()
        if reply is not None and isinstance(request, wire.PosixRename):
            (tmp_path / request.new.decode()).rename(tmp_path / request.old.decode())

    private, public = key
    memory = Notebook()
    with SftpHost(tmp_path, public_key=public, gate=gate) as server, suppress(Unavailable):
        hold_once(account_at(server, private, memory))

    assert memory.known is not None
    assert {name for name in TRAITS if not memory.known.findings[name].works} == {
        "hard_link",
        "replace",
        "replace_link",
    }


def test_a_second_publish_makes_no_more_requests_than_one_that_knows_nothing(
    tmp_path: Path, key: tuple[bytes, str]
) -> None:
    """
    Finding out is paid for once; the round trips of later publishes are counted elsewhere, and stay. For the last CLOSE
    nobody waits: it may be lost with the connection.
    """
    asked: list[type[Any]] = []
    private, public = key
    memory = Notebook()

    def note(request: wire.Request, reply: wire.Reply | None) -> None:
        if reply is None and not isinstance(request, wire.Close):
            asked.append(type(request))

    with SftpHost(tmp_path, public_key=public, gate=note) as server:
        account = account_at(server, private, memory)
        hold_once(account)
        tried, asked[:] = len(asked), []
        hold_once(account)
        second, asked[:] = sorted(kind.__name__ for kind in asked), []
        hold_once(replace(account, memory=None))
        without = sorted(kind.__name__ for kind in asked)

    assert second == without
    assert tried > len(second)


# Real servers ---------------------------------------------------------------------------------------------


def in_one_flight(ops: list[Op]) -> Steps[list[Outcome]]:
    return (yield Flight(ops, ordered=True))


@pytest.mark.parametrize("kind", list(SERVERS))
def test_each_server_is_found_to_do_what_it_does(kind: str, module_lab: Lab) -> None:
    """The table of the contract's grounds was made by hand; finding out must come to the same."""
    server = SERVERS[kind](module_lab)
    memory = Notebook()
    account = replace(account_on(server), memory=memory)
    for _ in range(3):
        with suppress(Unavailable):
            hold_once(account)

    assert memory.known is not None
    found = memory.known.findings
    lacks = {name for name in LACKS.get(kind, frozenset()) if name in TRAITS}
    if kind == "paramiko":
        lacks -= {"replace", "replace_link"}  # it does what it does not announce
    assert {name for name in TRAITS if not found[name].works} - {"hashes"} == lacks
    assert found["hashes"].works is (kind == "proftpd")
    one, two = b".mirrord/temp.one", b".mirrord/temp.two"
    with (
        closing(open_host(account)) as host,
        host.hold(this_process("home"), lambda _: None, host.survey()) as hold,
    ):
        assert isinstance(hold, FilesHold)
        asked: list[Op] = [Create(one, b"1"), Create(two, b"2"), Rename(one, two, over=True), Remove(one), Remove(two)]
        assert hold.do(in_one_flight(asked))[2].good is found["replace"].works
    assert not [path for path in (server.root / ".mirrord").rglob("*") if path.name != "trash"]


@pytest.mark.parametrize("kind", ["proftpd", "sshd"])
def test_a_server_that_lets_no_mode_be_set_is_named_at_once_and_nothing_is_left(kind: str, lab: Lab) -> None:
    """
    ProFTPD's sample configuration bars it. The lock that it makes and says no to must not be watched for a minute,
    again and again, as if it were somebody else's.
    """
    barred = ["<Limit SITE_CHMOD>", "DenyAll", "</Limit>"]
    denied = ["setstat", "fsetstat", "lsetstat"]
    server = lab.proftpd(umask="022", settings=barred) if kind == "proftpd" else lab.sshd(umask="022", denied=denied)
    account = replace(account_on(server), memory=Notebook())

    for _ in range(2):
        with pytest.raises(Refused, match="lets files be made, and neither their mode nor their time be set"):
            hold_once(account)
    assert not list((server.root / ".mirrord").rglob("lock.*"))


def test_a_link_is_read_by_what_it_leads_to() -> None:
    """Some servers tell where a link leads instead of its text."""
    lie = only(ReadLink, lambda op, h: Outcome(op, one(h, op).value.rpartition(b"/")[2]))

    assert find_out(Lying(MemoryFiles(Disk(room=1_000_000), traits=ALL), lie)).findings["symlink"].works


def test_bytes_are_compared_not_words() -> None:
    """A file that reads well and holds something else has not been linked."""
    lie = only(Read, lambda op, _: Outcome(op, b"something else"), b"hard-2")

    assert not find_out(Lying(MemoryFiles(Disk(room=1_000_000), traits=ALL), lie)).findings["hard_link"].works


def test_the_time_of_a_file_is_judged_also_where_nothing_can_be_renamed() -> None:
    """One thing that does not work must not make another look broken."""
    lie = only(Rename, lambda op, _: Outcome(op, trouble=Trouble.DENIED), b"dated-2", b"folder-2")
    found = find_out(Lying(MemoryFiles(Disk(room=1_000_000), traits=ALL), lie)).findings

    assert {name for name in TRAITS if not found[name].works} == {"rename_folder"}
