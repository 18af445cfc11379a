"""Whether everything is looked at at once, and nobody waits for anybody."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mirrord.errors import Cancelled
from mirrord.health import FaultKind, Reference, Round
from mirrord.manifest import Manifest, SnapshotId
from mirrord.probe import Look, look_around
from tests.conftest import Lab
from tests.lab.ports import free_port
from tests.lab.webserver import Answer, files
from tests.probing import PAGES, Account


@dataclass(frozen=True)
class Place:
    """A reference as the configuration has it."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@pytest.fixture
def account(tmp_path: Path) -> Account:
    account = Account(tmp_path)
    account.publish(PAGES)
    return account


@pytest.fixture
def crew() -> Iterator[Executor]:
    with ThreadPoolExecutor(60) as crew:
        yield crew


def around(looks: list[Look], references: list[Place], crew: Executor, **how: Any) -> Round:
    return look_around(looks, references, crew, dice=random.Random(1), **{"timeout": 1.0, **how})


def dead_port(stack: ExitStack) -> int:
    """Return a port at which nobody answers a SYN: a listener whose queue is full."""
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    for _ in range(3):
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(listener.getsockname())
    port: int = listener.getsockname()[1]
    return port


def listening(stack: ExitStack, address: str = "127.0.0.1") -> Place:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = stack.enter_context(socket.socket(family))
    server.bind((address, 0))
    server.listen(64)
    return Place(address, server.getsockname()[1])


def test_fifty_mirrors_with_twenty_dead_are_judged_within_the_deadline(
    account: Account, lab: Lab, crew: Executor
) -> None:
    """Dead mirrors must not add up: detection time is a promise."""
    server = lab.web(files(account.current))
    silent = lab.web(lambda _: Answer(silent=True))
    with ExitStack() as stack:
        dead = [account.look(dead_port(stack), timeout=3.0) for _ in range(15)]
        hung = [account.look(silent.port, timeout=3.0) for _ in range(5)]
        alive = [account.look(server.port, timeout=3.0) for _ in range(30)]
        seen = around([*dead[:8], *alive, *hung, *dead[8:]], [listening(stack)], crew)

    assert seen.ended - seen.started < 3.0 + 4
    assert len(seen.observations) == 50
    kinds = [None if each.fault is None else each.fault.kind for each in seen.observations]
    assert kinds == [FaultKind.UNREACHABLE] * 8 + [None] * 30 + [FaultKind.SLOW] * 5 + [FaultKind.UNREACHABLE] * 7


def test_observations_come_in_the_order_of_the_looks(account: Account, lab: Lab, crew: Executor) -> None:
    """Whoever reads a round finds what was asked for, also on a crew of one."""
    server = lab.web(files(account.current))
    looks = [account.look(server.port) for _ in range(6)]
    looks = [replace(each, target=replace(each.target, mirror=f"m{n}")) for n, each in enumerate(looks)]
    with ThreadPoolExecutor(1) as one:
        seen = around(looks, [], one)

    assert [each.target.mirror for each in seen.observations] == [f"m{n}" for n in range(6)]
    assert all(each.fault is None for each in seen.observations)


def test_references_are_tried_before_and_after(account: Account, lab: Lab, crew: Executor) -> None:
    """Only what stands between two answers of a reference can be held against a mirror."""
    with ExitStack() as stack:
        good, good6, closed = listening(stack), listening(stack, "::1"), Place("127.0.0.1", free_port())
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        lost = Place("127.0.0.1", listener.getsockname()[1])
        server = lab.web(files(account.current))

        def losing(_: SnapshotId) -> Manifest | None:
            listener.close()
            return None

        seen = around([account.look(server.port, known=losing)], [good, good6, closed, lost], crew)

    assert seen.before == (
        Reference(str(good), 4, reachable=True),
        Reference(str(good6), 6, reachable=True),
        Reference(str(closed), 4, reachable=False),
        Reference(str(lost), 4, reachable=True),
    )
    after = [each.address for each in seen.after if each.reachable]
    assert after == [str(good), str(good6)]
    assert str(good6).startswith("[::1]:")


def test_a_lost_network_shows_in_the_references_after_the_round(account: Account, crew: Executor) -> None:
    """The cable is pulled in mid-round: the failures of that round are void, and it shows."""
    with ExitStack() as stack:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        place = Place("127.0.0.1", listener.getsockname()[1])
        closing = threading.Timer(0.2, listener.close)
        closing.start()
        seen = around([account.look(dead_port(stack), timeout=0.5)], [place], crew)
        closing.join()

    assert [each.reachable for each in (*seen.before, *seen.after)] == [True, False]


def test_a_dead_reference_beside_a_living_one_costs_no_time(account: Account, lab: Lab, crew: Executor) -> None:
    """One that answers is enough; the look before a move is not to wait for the other."""
    server = lab.web(files(account.current))
    with ExitStack() as stack:
        dead, alive = Place("127.0.0.1", dead_port(stack)), listening(stack)
        seen = around([account.look(server.port)], [dead, alive], crew, timeout=8.0)

    assert seen.ended - seen.started < 6
    assert seen.before == seen.after == (Reference(str(alive), 4, reachable=True),)


def test_references_that_are_all_dead_are_waited_for(account: Account, lab: Lab, crew: Executor) -> None:
    """A family is given up only after its references had their time, and then it shows."""
    server = lab.web(files(account.current))
    with ExitStack() as stack:
        dead = Place("127.0.0.1", dead_port(stack))
        seen = around([account.look(server.port)], [dead], crew, timeout=0.4)

    assert seen.before == seen.after == (Reference(str(dead), 4, reachable=False),)
    assert 0.4 < seen.ended - seen.started < 8


def test_a_look_that_never_returns_is_given_up(account: Account, lab: Lab, crew: Executor) -> None:
    """Stuck in a disk or a library, where no deadline reaches: the others' verdicts do not wait for it."""
    server = lab.web(files(account.current))
    released = threading.Event()

    def stuck(_: SnapshotId) -> Manifest | None:
        released.wait(30)
        return None

    looks = [account.look(server.port, known=stuck, timeout=2.0), account.look(server.port, timeout=2.0)]
    seen = around(looks, [], crew, grace=0.2)
    released.set()

    assert seen.ended - seen.started < 10
    first, second = seen.observations
    assert first.fault is not None
    assert first.fault.kind is FaultKind.SLOW
    assert "was given up" in first.fault.text
    assert second.fault is None


def test_what_no_worker_took_up_is_missing_and_not_down(account: Account, lab: Lab) -> None:
    """A crew that is stuck is our trouble: unknown is not down."""
    server = lab.web(files(account.current))
    released = threading.Event()

    def stuck(_: SnapshotId) -> Manifest | None:
        released.wait(30)
        return None

    looks = [account.look(server.port, known=stuck, timeout=1.0), account.look(server.port, timeout=1.0)]
    with ThreadPoolExecutor(1) as one:
        seen = around(looks, [], one, grace=0.1)
        released.set()

    assert [each.fault is not None for each in seen.observations] == [True]


def test_looks_that_wait_for_a_worker_have_their_whole_time(account: Account, lab: Lab) -> None:
    """With few workers a round is longer, and no mirror pays for another's slowness."""
    server = lab.web(files(account.current))
    silent = lab.web(lambda _: Answer(silent=True))
    looks = [account.look(silent.port, timeout=1.0) for _ in range(3)] + [account.look(server.port, timeout=1.0)]
    with ThreadPoolExecutor(1) as one:
        seen = around(looks, [], one, grace=0.5)

    assert [each.fault is None for each in seen.observations] == [False, False, False, True]
    assert time.monotonic() - seen.started < 12


def test_a_fault_of_our_own_does_not_end_the_round(
    account: Account, lab: Lab, crew: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong in one look is told of that mirror, and logged to be mended."""

    def faulty(_: SnapshotId) -> Manifest | None:
        raise KeyError("a mistake")

    server = lab.web(files(account.current))
    seen = around([account.look(server.port, known=faulty), account.look(server.port)], [], crew)

    first, second = seen.observations
    assert first.fault is not None
    assert first.fault.text == "cannot be looked at, by a fault of mirrord: KeyError('a mistake')"
    assert second.fault is None
    assert "Traceback" in caplog.text


def test_a_crew_that_was_sent_home_cancels_the_round(account: Account) -> None:
    """The daemon stops while a round is about to begin."""
    crew = ThreadPoolExecutor(1)
    crew.shutdown()

    with pytest.raises(Cancelled):
        around([account.look(1)], [Place("127.0.0.1", 1)], crew)


def test_a_round_of_nothing_is_empty(crew: Executor) -> None:
    """A configuration without mirrors, or all of them drained."""
    seen = around([], [], crew)

    assert not seen.observations
    assert seen.before == seen.after == ()
