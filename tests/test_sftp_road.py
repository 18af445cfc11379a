"""What lies under SSH: a connection that gives up on a silent peer, and a limit to the bandwidth."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mirrord.hosts.bandwidth import Bandwidth
from mirrord.hosts.sftp.road import Allowance, Deadline, Road, first_to_answer


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two joined sockets with small buffers."""
    here, there = socket.socketpair()
    here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with here, there:
        yield here, there


def keep_sending(road: Road) -> None:
    """Send as the library does."""
    for _ in range(1000):
        with contextlib.suppress(TimeoutError):
            road.send(bytes(1000))


def test_a_peer_that_takes_nothing_is_given_up(ends: tuple[socket.socket, socket.socket]) -> None:
    """The library would try for ever, with its lock held."""
    road = Road(ends[0], stall=0.2)
    road.settimeout(0.05)

    with pytest.raises(OSError, match="took nothing for") as caught:
        keep_sending(road)
    assert not isinstance(caught.value, TimeoutError)  # the library takes that for "try again"
    assert road.gave_up


def test_a_peer_that_takes_little_is_not_given_up(ends: tuple[socket.socket, socket.socket]) -> None:
    """Only standing still counts."""
    road = Road(ends[0], stall=0.3)
    road.settimeout(0.02)
    began, sent = time.monotonic(), 0

    while time.monotonic() - began < 0.9:
        try:
            sent += road.send(bytes(1000))
        except TimeoutError:
            if (time.monotonic() - began) % 0.2 > 0.1:
                ends[1].recv(10_000)

    assert sent > 0


def test_what_was_read_ahead_is_handed_out_piece_by_piece(ends: tuple[socket.socket, socket.socket]) -> None:
    """One call of the system for many packets; nothing is lost between them."""
    road = Road(ends[0], stall=1.0)
    ends[1].sendall(b"0123456789")

    assert [road.recv(4), road.recv(4), road.recv(4)] == [b"0123", b"4567", b"89"]
    ends[1].close()
    assert road.recv(4) == b""


def test_closing_wakes_who_waits(ends: tuple[socket.socket, socket.socket]) -> None:
    """`abort` must not wait for a thread that waits for a peer."""
    road = Road(ends[0], stall=60.0)
    road.settimeout(None)
    ended = threading.Event()

    def wait() -> None:
        with contextlib.suppress(OSError):
            road.recv(1)
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    road.close()
    assert ended.wait(5.0)
    thread.join()


def test_the_next_address_of_a_name_is_tried() -> None:
    """The name localhost may be ::1 first, with nobody there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        road = Road.to("localhost", server.getsockname()[1], Deadline.after(5.0), stall=1.0)
        assert road.getpeername()[0] == "127.0.0.1"
        road.close()


@contextlib.contextmanager
def black_hole() -> Iterator[socket.socket]:
    """A port of 127.0.0.1 that answers nobody: its queue is full, so that it drops what comes."""
    with contextlib.ExitStack() as stack:
        hole = stack.enter_context(socket.socket())
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        stack.enter_context(socket.create_connection(hole.getsockname()))
        yield hole


def found(*addresses: tuple[str, int]) -> list[Any]:
    """As the resolver tells them."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in addresses]


def test_an_address_that_never_answers_leaves_time_for_the_next() -> None:
    """An IPv6 path that swallows everything must not keep a mirror from being reached by IPv4."""
    with black_hole() as hole, socket.create_server(("127.0.0.2", hole.getsockname()[1])) as server:
        deadline = Deadline.after(10.0)
        addresses = found(hole.getsockname(), server.getsockname())
        with first_to_answer(addresses, deadline, head_start=0.1) as sock:
            assert sock.getpeername() == server.getsockname()
            assert deadline.left > 8.0


def test_an_address_that_is_slow_may_still_be_the_first_to_answer() -> None:
    """Who waits for the second does not forget the first."""
    with black_hole() as hole, black_hole() as other:
        addresses = found(hole.getsockname(), other.getsockname())

        def make_room() -> None:
            hole.accept()[0].close()

        later = threading.Timer(0.5, make_room)  # TCP asks again after a second
        later.start()
        with first_to_answer(addresses, Deadline.after(10.0), head_start=0.1) as sock:
            assert sock.getpeername() == hole.getsockname()
        later.join()


def test_where_no_address_answers_that_is_said() -> None:
    """In the time that there is, and no more."""
    with black_hole() as hole, black_hole() as other:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="timed out"):
            first_to_answer(found(hole.getsockname(), other.getsockname()), Deadline.after(0.4), head_start=0.1)
        assert 0.3 < time.monotonic() - began < 8.0
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = server.getsockname()
    with pytest.raises(ConnectionRefusedError):
        first_to_answer(found(nobody, nobody), Deadline.after(5.0))
    with pytest.raises(ConnectionError, match="no address"):
        first_to_answer([], Deadline.after(5.0))


def test_an_allowance_lets_pass_so_much_a_second_and_no_more() -> None:
    """What was sent is paid for before more goes out."""
    allowance = Allowance(Bandwidth(100_000))
    began, passed = time.monotonic(), 0

    while passed < 60_000:
        passed += allowance.grant(5000)
        assert allowance.pause < 0.06
    took = time.monotonic() - began

    assert took > 0.25


def test_no_limit_is_no_limit() -> None:
    """0 in the configuration."""
    allowance = Allowance(Bandwidth(0))

    assert allowance.grant(10**12) == 10**12
    assert allowance.pause == 0.0
