"""A network between two loopback ports: it takes time, and can be cut, stalled, slowed, garbled and healed.

Runs in a thread of the test's process; or, where its work would disturb what is measured, as a process of its own:

    python -m tests.lab.proxy LISTEN_PORT TARGET_PORT ROUND_TRIP_MS [TARGET_ADDRESS]
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Literal, Self, TypeVar, cast

from tests.lab.ports import free_port

Direction = Literal["up", "down"]  # up is towards the server
Fault = Literal["cut", "end", "stall", "drip", "garble"]
"""What happens to a line after so many bytes:

    cut     every connection is reset; the receiver of those bytes gets them all
    end     every connection is ended as both sides end one that they need no more
    stall   nothing passes any more, in neither direction, until `resume`
    drip    what follows passes a few bytes at a time, a while
    garble  one bit of the next byte is another
"""

Result = TypeVar("Result")

CHUNK = 1 << 18
DRIP, DRIPPING, BETWEEN = 16, 2048, 0.001  # bytes at once, bytes in all, seconds between
ON_THE_WAY = 64 << 20  # bytes under way in one direction of one connection; a stalled reader is felt past that


class _Lane:
    """One direction: what has passed, whether anything passes, and when something happens to it."""

    def __init__(self) -> None:
        self.passed = 0
        self.fault: Fault = "cut"
        self.fault_at: int | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.dripping = 0

    def grant(self, size: int) -> int:
        """Return how many of `size` bytes may pass before that, and count them."""
        granted = size if self.fault_at is None else max(0, min(size, self.fault_at - self.passed))
        self.passed += granted
        return granted

    def due(self, left: int) -> Fault | None:
        """Return what happens now, once, `left` bytes being there to happen to."""
        if self.fault_at is None or self.passed < self.fault_at or (self.fault == "garble" and not left):
            return None
        self.fault_at = None
        return self.fault


class Proxy:
    """A TCP proxy to `target`; a context manager.

    host, port: where it listens. round_trip: seconds, half of it in each direction; bandwidth is not capped.
    With `udp` it also carries datagrams on the same port number (for name servers), with the same delay and stalls.
    """

    def __init__(
        self,
        target: tuple[str, int],
        *,
        round_trip: float = 0.0,
        host: str = "127.0.0.1",
        port: int | None = None,
        udp: bool = False,
    ) -> None:
        self.target = target
        self.round_trip = round_trip
        self.host = host
        self.port = port or free_port()
        self._udp = udp
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        self._listener: socket.socket | None = None
        self._relay: asyncio.DatagramTransport | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lanes: dict[Direction, _Lane] = {}
        self._accepted = 0

    @property
    def endpoint(self) -> str:
        """Return `127.0.0.1:1234`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def start(self) -> Self:
        """Listen."""
        self._thread.start()

        async def make_lanes() -> None:
            self._lanes = {"up": _Lane(), "down": _Lane()}

        self._do(make_lanes)
        self.up()
        return self

    def stop(self) -> None:
        """Cut everything and end the thread."""
        self.down()

        async def drain() -> None:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for _ in range(3):  # what was cancelled and aborted ends in the rounds after
                await asyncio.sleep(0)

        self._do(drain)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
        self._loop.close()

    def down(self) -> None:
        """Cut every connection, and refuse new ones, until `up`."""

        async def close() -> None:
            if self._listener is not None:
                self._loop.remove_reader(self._listener)
                self._listener.close()
                self._listener = None
            if self._relay is not None:
                self._relay.abort()
                self._relay = None
            self._cut_all()

        self._do(close)

    def up(self) -> None:
        """Take connections again; what was to happen does not."""

        async def listen() -> None:
            for lane in self._lanes.values():
                lane.fault_at = None
                lane.dripping = 0
                lane.open.set()
            if self._listener is None:
                family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
                self._listener = socket.create_server((self.host, self.port), family=family, backlog=256)
                self._listener.setblocking(False)
                self._loop.add_reader(self._listener, self._accept)
            if self._udp and self._relay is None:
                self._relay, _ = await self._loop.create_datagram_endpoint(
                    lambda: _Relay(self), local_addr=(self.host, self.port)
                )

        self._do(listen)

    def cut(self) -> None:
        """Reset every connection that stands; new ones are taken."""

        async def cut() -> None:
            self._cut_all()

        self._do(cut)

    def cut_after(self, count: int, direction: Direction = "up") -> None:
        """Let exactly `count` more bytes pass in a direction, over all connections, then cut them all, once.

        The receiver of those bytes gets them all. New connections are taken, and work.
        """
        self.harm(count, direction, "cut")

    def harm(self, count: int, direction: Direction, fault: Fault) -> None:
        """Let something happen, once, when exactly `count` more bytes have passed in a direction."""

        async def set_fault() -> None:
            lane = self._lanes[direction]
            lane.fault, lane.fault_at = fault, lane.passed + count

        self._do(set_fault)

    def stall(self, *directions: Direction) -> None:
        """Let nothing pass (in the given directions) and keep the connections open, until `resume`."""

        async def close_lanes() -> None:
            for direction in directions or ("up", "down"):
                self._lanes[direction].open.clear()

        self._do(close_lanes)

    def resume(self) -> None:
        """Let pass again what was stalled: nothing was lost."""

        async def open_lanes() -> None:
            for lane in self._lanes.values():
                lane.open.set()

        self._do(open_lanes)

    def passed(self, direction: Direction) -> int:
        """Return how many bytes have passed in a direction, over all connections so far."""
        return self._lanes[direction].passed

    @property
    def harmed(self) -> bool:
        """Tell whether all that was to happen has happened."""
        return all(lane.fault_at is None for lane in self._lanes.values())

    @property
    def connections(self) -> int:
        """Return how many connections stand."""
        return len(self._connections)

    @property
    def accepted(self) -> int:
        """Return how many connections were made through it so far."""
        return self._accepted

    def __enter__(self) -> Self:
        """Listen, where it does not yet."""
        return self if self._thread.is_alive() else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut everything."""
        self.stop()

    def _do(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Run a coroutine in the proxy's thread and wait for it."""

        async def run() -> Result:
            return await work()

        future: Future[Result] = asyncio.run_coroutine_threadsafe(run(), self._loop)
        return future.result(10.0)

    def _cut_all(self) -> None:
        for connection in list(self._connections):
            connection.reset()

    def _end_all(self) -> None:
        for connection in list(self._connections):
            connection.close()

    def _accept(self) -> None:
        """Take a connection; it is known, and can be cut, from here on."""
        assert self._listener is not None
        try:
            near = self._listener.accept()[0]
        except OSError:
            return
        near.setblocking(False)
        connection = _Connection(near)
        self._connections.add(connection)
        self._accepted += 1
        self._keep(self._loop.create_task(self._serve(connection)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: _Connection) -> None:
        """Carry one connection until either side ends it."""
        try:
            near_reader, near_writer = await connection.wrap()
            far_reader, far_writer = await connection.connect(self.target)
            await asyncio.gather(self._pump("up", near_reader, far_writer), self._pump("down", far_reader, near_writer))
        except OSError:
            connection.reset()  # cut meanwhile, or nobody at home: to the client a reset as well
        finally:
            self._connections.discard(connection)
            connection.close()

    async def _pump(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction: read at once, hand on half a round trip later."""
        lane = self._lanes[direction]
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        room = _Room(ON_THE_WAY)

        async def receive() -> None:
            while True:
                try:
                    data = await reader.read(CHUNK)
                except OSError:
                    data = b""
                await room.take(len(data))
                due.put_nowait((self._loop.time() + self.round_trip / 2, data))
                if not data:
                    return

        receiving = asyncio.create_task(receive())
        try:
            while True:
                at, data = await due.get()
                if (left := at - self._loop.time()) > 0:
                    await asyncio.sleep(left)
                await lane.open.wait()
                if not data:
                    if writer.can_write_eof():
                        writer.write_eof()
                    return
                if not await self._carry(lane, data, writer):
                    return
                room.give(len(data))
        except OSError:
            pass
        finally:
            receiving.cancel()

    async def _carry(self, lane: _Lane, data: bytes, writer: asyncio.StreamWriter) -> bool:
        """Hand on what was read, as the lane lets it; tell whether the connection goes on."""
        granted = lane.grant(len(data))
        await self._hand_on(lane, data[:granted], writer)
        rest = data[granted:]
        fault = lane.due(len(rest))
        if fault == "cut":
            writer.close()  # what was granted still goes out: a closed writer is not reset
            self._cut_all()
            return False
        if fault == "end":
            self._end_all()
            return False
        if fault == "stall":
            for each in self._lanes.values():
                each.open.clear()
            await lane.open.wait()
        elif fault == "drip":
            lane.dripping = DRIPPING
        elif fault == "garble":
            rest = _garbled(rest)
        lane.passed += len(rest)
        await self._hand_on(lane, rest, writer)
        return True

    async def _hand_on(self, lane: _Lane, data: bytes, writer: asyncio.StreamWriter) -> None:
        while lane.dripping > 0 and data:
            writer.write(data[:DRIP])
            await asyncio.sleep(BETWEEN)
            lane.dripping -= DRIP
            data = data[DRIP:]
        writer.write(data)
        await writer.drain()


def _garbled(data: bytes) -> bytes:
    return bytes([data[0] ^ 0x10]) + data[1:]


class _Connection:
    """Both ends of one connection, from when it was taken."""

    def __init__(self, near: socket.socket) -> None:
        self._near = near
        self._writers: list[asyncio.StreamWriter] = []
        self._cut = False

    async def wrap(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return self._made(*await asyncio.open_connection(sock=self._near, limit=1 << 22))

    async def connect(self, target: tuple[str, int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return self._made(*await asyncio.open_connection(*target, limit=1 << 22))

    def reset(self) -> None:
        """End it as a dead network does: with a reset, not an end of file."""
        self._cut = True
        for writer in self._writers:
            if not writer.is_closing():
                with contextlib.suppress(OSError):
                    raw = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

    def close(self) -> None:
        if not self._writers:
            self._near.close()
        for writer in self._writers:
            writer.close()

    def _made(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._writers.append(writer)
        if self._cut:
            self.reset()
            raise ConnectionResetError
        return reader, writer


class _Room:
    """Bytes that may still be taken in."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._freed = asyncio.Event()

    async def take(self, size: int) -> None:
        while self._left < 0:
            self._freed.clear()
            await self._freed.wait()
        self._left -= size

    def give(self, size: int) -> None:
        self._left += size
        self._freed.set()


class _Relay(asyncio.DatagramProtocol):
    """Datagrams from clients: each client gets a socket of its own towards the server."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._back: asyncio.DatagramTransport | None = None
        self._forth: dict[tuple[str, int], asyncio.DatagramTransport] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._back = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._proxy._keep(asyncio.get_running_loop().create_task(self._forward(data, addr)))

    def connection_lost(self, _exc: Exception | None) -> None:
        for transport in self._forth.values():
            transport.abort()
        self._forth.clear()

    async def _forward(self, data: bytes, client: tuple[str, int]) -> None:
        if not await self._passes("up", len(data)):
            return
        if client not in self._forth:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Answers(self, client), remote_addr=self._proxy.target
            )
            self._forth[client] = transport
        self._forth[client].sendto(data)

    async def answer(self, data: bytes, client: tuple[str, int]) -> None:
        """Bring an answer back."""
        if await self._passes("down", len(data)) and self._back is not None and not self._back.is_closing():
            self._back.sendto(data, client)

    async def _passes(self, direction: Direction, size: int) -> bool:
        """Take the time that the way takes; datagrams that meet a stall are lost."""
        await asyncio.sleep(self._proxy.round_trip / 2)
        lane = self._proxy._lanes[direction]
        lane.passed += size if lane.open.is_set() else 0
        return lane.open.is_set()


class _Answers(asyncio.DatagramProtocol):
    """Datagrams from the server to one client."""

    def __init__(self, relay: _Relay, client: tuple[str, int]) -> None:
        self._relay = relay
        self._client = client

    def datagram_received(self, data: bytes, _addr: tuple[str, int]) -> None:
        self._relay._proxy._keep(asyncio.get_running_loop().create_task(self._relay.answer(data, self._client)))


def main(arguments: list[str]) -> int:
    """Run as a process until it is ended."""
    if len(arguments) not in (3, 4):
        print(__doc__, file=sys.stderr)
        return 2
    listen, target, milliseconds = int(arguments[0]), int(arguments[1]), float(arguments[2])
    address = arguments[3] if len(arguments) == 4 else "127.0.0.1"
    with Proxy((address, target), round_trip=milliseconds / 1000, port=listen):
        print(f"{milliseconds:g} ms between port {listen} and {address}:{target}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
