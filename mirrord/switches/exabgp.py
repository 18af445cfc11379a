r"""How does ExaBGP announce a service's prefixes, and how is it asked what it does?

ExaBGP takes commands over two named pipes, one to it and one back. What it should announce stands in a file of ours, as
the very lines that it is told, so that a process of its own configuration (`cat`) gives them to it whenever it starts:

    # v=1 epoch=3 target=lyon plan=... by=home
    announce route 192.0.2.80/32 next-hop 10.0.0.3 med 10 community [65000:1]

It answers each command with `done` or `error`; `done` says that it was understood, no more, and 4.x has no answer at
all for some that it does not understand. So every answer is awaited, one command at a time, with nobody else of
mirrord at the pipes; what counts is what `show adj-rib out` shows afterwards, and who was told. Read with ExaBGP 4.2.21
and 5.0.15.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mirrord.errors import Refused, Unavailable
from mirrord.switches.announcing import Announcement, Routes
from mirrord.switches.change import clean
from mirrord.switches.locking import hold

_LONGEST_ANSWER = 4 << 20
_FENCE = re.compile(r"# (v=1 [ -~]+)")
_ANNOUNCE = re.compile(r"announce route (\S+) (.+)")
_SHOWN = re.compile(r"neighbor (\S+) .*\bipv[46] unicast (\S+) (next-hop .+)")
_ATTRIBUTES = re.compile(r"(next-hop|med|community|large-community) (?:\[ ?([^\]]*?) ?\]|(\S+))")


class ExaBgp:
    """ExaBGP as a speaker; `mirrord.switches.bgp.Speaker` is the contract."""

    name = "ExaBGP"
    obeys_its_file = False

    def __init__(self, service: str, pipes: str, timeout: float) -> None:
        """`pipes` is the pipes' path without `.in` and `.out`; nothing is opened yet."""
        self._service = service
        self._pipes = pipes
        self._timeout = timeout

    def write(self, fence: str, routes: Routes) -> str:
        """Write the lines that ExaBGP is given when it starts. The same routes always give the same text."""
        lines = [f"# {fence}", *(_command(prefix, routes[prefix]) for prefix in sorted(routes))]
        return "\n".join(lines) + "\n"

    def parse(self, text: str) -> tuple[str, Routes]:
        """Read a file that `write` wrote, to the last byte. Raises ValueError."""
        fences = [match[1] for line in text.splitlines() if (match := _FENCE.fullmatch(line))]
        commands = [match for line in text.splitlines() if (match := _ANNOUNCE.fullmatch(line))]
        found = {match[1]: _announcement(match[2]) for match in commands}
        if len(fences) != 1 or not found or self.write(fences[0], found) != text:
            raise ValueError("it is not as mirrord wrote it")
        return fences[0], found

    def check(self, file: Path) -> None:
        """See that somebody listens: ExaBGP has no way to try a command. Raises Unavailable."""
        del file
        with self._talk():
            return

    def obey(self, routes: Routes) -> None:
        """Tell ExaBGP the routes; each takes the place of what it announced. Raises Refused, Unavailable."""
        with self._talk() as talk:
            for prefix in sorted(routes):
                talk.ask(_command(prefix, routes[prefix]))

    def shown(self, prefixes: Sequence[str]) -> dict[str, frozenset[str]]:
        """Return what ExaBGP means to announce for each prefix, to any neighbour, as texts. Raises Unavailable."""
        found: dict[str, set[str]] = {prefix: set() for prefix in prefixes}
        for _, prefix, text in self._announced():
            if prefix in found:
                found[prefix].add(text)
        return {prefix: frozenset(texts) for prefix, texts in found.items()}

    def tells(self, routes: Routes) -> list[str]:
        """Return the neighbours that are told now; none where a route reaches no neighbour. Raises Unavailable."""
        meant = {(prefix, announced.text) for prefix, announced in routes.items()}
        up = self._established()
        told = [(who, (prefix, text)) for who, prefix, text in self._announced() if who in up]
        reached = {what for _, what in told if what in meant}
        return sorted({who for who, what in told if what in meant}) if reached == meant else []

    def prove(self) -> None:
        """Show that ExaBGP listens to us, and talks to somebody. Raises Unavailable."""
        if not self._established():
            raise Unavailable("none of its BGP sessions is established")

    def _announced(self) -> list[tuple[str, str, str]]:
        """Return neighbour, prefix and announcement of all that ExaBGP means to announce. Raises Unavailable."""
        with self._talk() as talk:
            lines = talk.ask("show adj-rib out extensive")
        matches = [match for line in lines if (match := _SHOWN.fullmatch(line.strip()))]
        return [(match[1], match[2], _announcement(match[3]).text) for match in matches]

    def _established(self) -> set[str]:
        """Return the neighbours to which a session stands. Raises Unavailable."""
        with self._talk() as talk:
            lines = talk.ask("show neighbor summary")
        return {row[0] for line in lines if len(row := line.split()) > 2 and "established" in row[1:]}

    @contextlib.contextmanager
    def _talk(self) -> Iterator[_Talk]:
        """Open both pipes, alone; raises Unavailable where nobody listens."""
        deadline = time.monotonic() + self._timeout
        with contextlib.ExitStack() as closing:
            try:
                # Opened for both, so that whoever answers always finds a reader, and so do those who answered late.
                back = _open(f"{self._pipes}.out", os.O_RDWR, closing)
                hold(back, self._timeout, f"somebody else of mirrord is at {self._pipes}.out")
                to = _open(f"{self._pipes}.in", os.O_WRONLY, closing)
                talk = _Talk(to, back, deadline)
                talk.begin()
                yield talk
            except TimeoutError:
                raise Unavailable(f"no answer at {self._pipes}.out within {self._timeout:g} s") from None
            except (OSError, ValueError) as e:
                nobody = isinstance(e, OSError) and e.errno == errno.ENXIO
                why = "it does not run" if nobody else getattr(e, "strerror", None) or clean(str(e))
                raise Unavailable(f"talking to it at {self._pipes}.in: {why}") from e


class _Talk:
    """One conversation, which must end by its deadline."""

    def __init__(self, to: int, back: int, deadline: float) -> None:
        self._to = to
        self._back = back
        self._deadline = deadline
        self._read = b""

    def begin(self) -> None:
        """Ask for the version, and pass over whatever was answered to earlier questions."""
        os.write(self._to, b"version\n")
        while not self._line().startswith("exabgp "):
            pass
        self._line()

    def ask(self, command: str) -> list[str]:
        """Say one command; return the lines before `done`. Raises Refused for `error`; OSError."""
        os.write(self._to, command.encode() + b"\n")  # shorter than PIPE_BUF: whole, or not at all
        lines: list[str] = []
        while (line := self._line()) != "done":
            if line == "error":
                raise Refused(f"it does not understand: {clean(command, 200)}")
            lines.append(line)
        return lines

    def _line(self) -> str:
        while b"\n" not in self._read:
            left = self._deadline - time.monotonic()
            if left <= 0 or not select.select([self._back], [], [], left)[0]:
                raise TimeoutError
            self._read += os.read(self._back, 65536)
            if len(self._read) > _LONGEST_ANSWER:
                raise ValueError("its answer has no end")
        line, _, self._read = self._read.partition(b"\n")
        return line.decode("ascii", "replace").strip()


def _open(path: str, how: int, closing: contextlib.ExitStack) -> int:
    """Open a pipe; raises OSError, ValueError where it is none."""
    descriptor = os.open(path, how | os.O_NONBLOCK | os.O_CLOEXEC)
    closing.callback(os.close, descriptor)
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        raise ValueError(f"{path} is no pipe: make it with mkfifo, before ExaBGP starts")
    return descriptor


def _command(prefix: str, announced: Announcement) -> str:
    parts = [f"announce route {prefix} next-hop {announced.next_hop}"]
    parts += [] if announced.med is None else [f"med {announced.med}"]
    parts += [f"community [{' '.join(announced.standard)}]"] if announced.standard else []
    parts += [f"large-community [{' '.join(announced.large)}]"] if announced.large else []
    return " ".join(parts)


def _announcement(attributes: str) -> Announcement:
    """Read a route's attributes, ours or as ExaBGP shows them. Raises ValueError."""
    found = {what: (several or one) for what, several, one in _ATTRIBUTES.findall(attributes)}
    communities = f"{found.get('community', '')} {found.get('large-community', '')}".split()
    return Announcement.of(found["next-hop"], int(found["med"]) if "med" in found else None, communities)
