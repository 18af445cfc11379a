"""The road from a typed verb to the running daemon."""

from __future__ import annotations

import getpass
import socket
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mirrord.control.client import Client, is_there
from mirrord.control.server import ControlServer, Talk
from mirrord.errors import Conflict, Locked, NoAnswer, Refused


def desk(verb: str, arguments: Mapping[str, Any], talk: Talk, who: str) -> dict[str, Any]:
    """Do what the tests below ask for."""
    if verb == "locked":
        raise Locked("lyon: publishing: locked", holder="other", since=12.5)
    if verb == "conflict":
        raise Conflict("www: somebody else moved it", found="192.0.2.1")
    if verb == "broken":
        raise RuntimeError("nobody foresaw this")
    talk({"event": "say", "text": "working"})
    return {"verb": verb, "arguments": dict(arguments), "who": who}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlServer]:
    """A desk behind a socket."""
    server = ControlServer(tmp_path / "run" / "control.sock", desk)
    server.start()
    yield server
    server.stop()


def ignore(message: dict[str, Any]) -> None:
    """Listen to nothing."""


def test_a_verb_reaches_the_desk_with_its_arguments_and_its_asker(server: ControlServer) -> None:
    """The journal says who did it: the name comes from the kernel, not from the client."""
    said: list[dict[str, Any]] = []

    result = Client(server.path).call("hold", {"service": "web"}, said.append)

    assert result == {"verb": "hold", "arguments": {"service": "web"}, "who": getpass.getuser()}
    assert said == [{"event": "say", "text": "working"}]


def test_what_is_no_socket_is_left_alone_and_named(tmp_path: Path) -> None:
    """A folder, or a file of somebody's, is in the way: "address already in use" would not lead there."""
    file = tmp_path / "notes"
    file.write_text("mine")

    for path in (tmp_path, file):
        with pytest.raises(Refused, match=f"{path}: listening for verbs: something that is no socket stands there"):
            ControlServer(path, desk)
    assert file.read_text() == "mine"


def test_the_socket_is_for_owner_and_group_only(server: ControlServer) -> None:
    """Who may connect may move readers."""
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o660


def test_an_error_arrives_as_what_it_was(server: ControlServer) -> None:
    """Exit codes and figures are the same with a daemon and without."""
    with pytest.raises(Locked) as locked:
        Client(server.path).call("locked", {}, ignore)
    with pytest.raises(Conflict) as conflict:
        Client(server.path).call("conflict", {}, ignore)

    assert (str(locked.value), locked.value.holder, locked.value.since) == ("lyon: publishing: locked", "other", 12.5)
    assert (conflict.value.exit_code, conflict.value.brake, conflict.value.found) == (5, "conflict", "192.0.2.1")


def test_a_fault_that_nobody_foresaw_ends_the_verb_and_not_the_daemon(server: ControlServer) -> None:
    """One bad verb must not take the probes with it."""
    with pytest.raises(Exception, match="nobody foresaw this"):
        Client(server.path).call("broken", {}, ignore)

    assert Client(server.path).call("status", {}, ignore)["verb"] == "status"


def test_no_socket_and_a_dead_daemons_socket_mean_that_there_is_no_daemon(tmp_path: Path) -> None:
    """After a SIGKILL the socket file stays behind; verbs then work alone, and a new daemon starts."""
    path = tmp_path / "control.sock"
    assert not is_there(path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    assert not is_there(path)
    server = ControlServer(path, desk)
    server.start()
    assert is_there(path)
    server.stop()
    assert not path.exists()


def test_a_daemon_that_takes_the_connection_and_says_nothing_is_an_error_of_its_own(tmp_path: Path) -> None:
    """A second mirrord beside a hung one could only do harm: exit 11, nothing is done alone."""
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(path))
        hung.listen(8)

        assert is_there(path)
        with pytest.raises(NoAnswer, match="does not answer"):
            Client(path, patience=0.2).call("status", {}, ignore)


def test_a_client_that_is_stopped_holds_up_nobody_at_work(tmp_path: Path) -> None:
    """Ctrl-Z on a `mirrord sync` must not stop the uploads: progress that nobody reads is dropped."""
    done = threading.Event()

    def talkative(verb: str, arguments: Mapping[str, Any], talk: Talk, who: str) -> dict[str, Any]:
        for number in range(20_000):
            talk({"event": "progress", "mirror": "lyon", "files_done": number})
        done.set()
        return {}

    server = ControlServer(tmp_path / "control.sock", talkative)
    server.start()
    try:
        with socket.socket(socket.AF_UNIX) as stopped:
            stopped.connect(str(server.path))
            stopped.sendall(b"POST /v1/sync HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")

            assert done.wait(10)
    finally:
        server.stop()


def test_lines_of_many_workers_stay_whole(tmp_path: Path) -> None:
    """Every mirror's worker tells of its progress over one socket."""

    def many(verb: str, arguments: Mapping[str, Any], talk: Talk, who: str) -> dict[str, Any]:
        def tell(name: str) -> None:
            for _ in range(200):
                talk({"event": "say", "text": name * 5000})

        workers = [threading.Thread(target=tell, args=(name,)) for name in "abcd"]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return {}

    server = ControlServer(tmp_path / "control.sock", many)
    server.start()
    said: list[dict[str, Any]] = []
    try:
        Client(server.path).call("sync", {}, said.append)
    finally:
        server.stop()

    assert len(said) == 800
