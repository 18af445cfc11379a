r"""How does BIRD announce a service's prefixes, and how is it asked what it does?

BIRD's own configuration includes one file of ours, in which each family has a static protocol:

    # Written by mirrord for the service "web", which replaces it whole: change nothing here.
    # v=1 epoch=3 target=lyon plan=... by=home
    protocol static mirrord_web_ipv4 {
        ipv4;
        route 192.0.2.80/32 blackhole { bgp_next_hop = 10.0.0.3; };
    }

The route is a blackhole since BIRD itself sends nobody anywhere; who is told of it goes to `bgp_next_hop`. BIRD is
spoken to over its control socket, in the words that `birdc` uses: each line of an answer begins with a code of four
digits, of which those from 8000 on are errors (BIRD's `doc/reply_codes`). Read with BIRD 2.0.12.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

from mirrord.errors import Refused, Unavailable
from mirrord.switches.announcing import Announcement, Routes
from mirrord.switches.change import clean

_GREETING, _ERRORS, _NO_SUCH_NETWORK = 1, 8000, 8001
_LONGEST_ANSWER = 1 << 20
_FENCE = re.compile(r"# (v=1 [ -~]+)")
_PROTOCOL = re.compile(r"protocol static (\w+) \{")
_ROUTE = re.compile(r"\troute (\S+) blackhole \{ (.+) \};")
_SET = re.compile(r"bgp_(\w+?)(?: = |\.add\()(?:\(([0-9,]+)\)|(\S+?))\)?;")
_SHOWN = re.compile(r"BGP\.(\w+): (.+)")


class Bird:
    """BIRD as a speaker; `mirrord.switches.bgp.Speaker` is the contract."""

    name = "BIRD"
    obeys_its_file = True

    def __init__(self, service: str, path: str, timeout: float) -> None:
        """`path` is the control socket; nothing is opened yet."""
        self._service = service
        self._socket = path
        self._timeout = timeout

    def write(self, fence: str, routes: Routes) -> str:
        """Write the included file. The same routes always give the same text."""
        lines = [
            f'# Written by mirrord for the service "{self._service}", which replaces it whole: change nothing here.',
            f"# {fence}",
        ]
        for family in ("ipv4", "ipv6"):
            found = sorted(prefix for prefix in routes if (":" in prefix) == (family == "ipv6"))
            if found:
                lines += [f"protocol static {self._protocol(family)} {{", f"\t{family};"]
                lines += [f"\troute {prefix} blackhole {{ {_attributes(routes[prefix])} }};" for prefix in found]
                lines += ["}"]
        return "\n".join(lines) + "\n"

    def parse(self, text: str) -> tuple[str, Routes]:
        """Read a file that `write` wrote, to the last byte. Raises ValueError."""
        fences = [match[1] for line in text.splitlines() if (match := _FENCE.fullmatch(line))]
        found = {match[1]: _announcement(match[2]) for line in text.splitlines() if (match := _ROUTE.fullmatch(line))}
        if len(fences) != 1 or not found or self.write(fences[0], found) != text:
            raise ValueError("it is not as mirrord wrote it")
        return fences[0], found

    def check(self, file: Path) -> None:
        """Have BIRD read its own configuration, then `file` by itself, and use neither. Raises Refused, Unavailable."""
        with self._talk() as talk:
            for command, what in (
                ("configure check", "its own configuration"),
                (f'configure check "{file}"', "our file"),
            ):
                code, lines = talk.ask(command)
                if code >= _ERRORS:
                    raise Refused(f"{what} has a fault: {_words(lines)}")

    def obey(self, routes: Routes) -> None:
        """Have BIRD use the file that stands. Raises Refused where it goes on as before, Unavailable."""
        del routes  # BIRD reads them itself
        with self._talk() as talk:
            code, lines = talk.ask("configure")
        if code >= _ERRORS:
            raise Refused(f"configure: {_words(lines)}")

    def shown(self, prefixes: Sequence[str]) -> dict[str, frozenset[str]]:
        """Return what the running BIRD has for each prefix from us, as texts. Raises Unavailable."""
        with self._talk() as talk:
            ours = {row[0] for row in self._protocols(talk)}
            found: dict[str, frozenset[str]] = {}
            for prefix in prefixes:
                protocol = self._protocol("ipv6" if ":" in prefix else "ipv4")
                lines: Sequence[str] = ()
                if protocol in ours:
                    code, lines = talk.ask(f"show route {prefix} all protocol {protocol}")
                    if code >= _ERRORS and code != _NO_SUCH_NETWORK:
                        raise Unavailable(f"show route: {_words(lines)}")
                found[prefix] = frozenset(_shown(lines))
            return found

    def tells(self, routes: Routes) -> list[str]:
        """Return the neighbours that are told now; none where a route reaches no neighbour. Raises Unavailable."""
        told: dict[str, list[str]] = {}
        with self._talk() as talk:
            sessions = [name for name, kind, *rest in self._protocols(talk) if kind == "BGP" and "Established" in rest]
            for prefix, announced in routes.items():
                for name in sessions:
                    code, lines = talk.ask(f"show route {prefix} all export {name}")
                    if code < _ERRORS and announced.text in _shown(lines):
                        told.setdefault(prefix, []).append(name)
        everyone = {name for names in told.values() for name in names}
        return sorted(everyone) if set(told) == set(routes) else []

    def prove(self) -> None:
        """Show that BIRD listens to us and would read its configuration again. Raises Refused, Unavailable."""
        with self._talk() as talk:
            code, lines = talk.ask("configure check")
            if code >= _ERRORS:
                raise Refused(f"its own configuration has a fault: {_words(lines)}")
            if not any(kind == "BGP" and "Established" in rest for _, kind, *rest in self._protocols(talk)):
                raise Unavailable("none of its BGP sessions is established")

    def _protocols(self, talk: _Talk) -> list[list[str]]:
        """Return the rows of `show protocols`: name, kind, table, state, since, info."""
        code, lines = talk.ask("show protocols")
        if code >= _ERRORS:
            raise Unavailable(f"show protocols: {_words(lines)}")
        return [row for line in lines if len(row := line.split()) >= 4]

    def _protocol(self, family: str) -> str:
        return f"mirrord_{self._service.replace('-', '_')}_{family}"

    @contextlib.contextmanager
    def _talk(self) -> Iterator[_Talk]:
        deadline = time.monotonic() + self._timeout
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            try:
                link.settimeout(self._timeout)
                link.connect(self._socket)
                talk = _Talk(link, deadline)
                code, _ = talk.answer()
                if code != _GREETING:
                    raise Unavailable(f"what listens at {self._socket} is no BIRD")
                yield talk
            except TimeoutError:
                raise Unavailable(f"no answer at {self._socket} within {self._timeout:g} s") from None
            except (OSError, ValueError) as e:
                why = getattr(e, "strerror", None) or clean(str(e)) or type(e).__name__
                raise Unavailable(f"talking to it at {self._socket}: {why}") from e


class _Talk:
    """One conversation, which must end by its deadline."""

    def __init__(self, link: socket.socket, deadline: float) -> None:
        self._link = link
        self._deadline = deadline
        self._read = b""

    def ask(self, command: str) -> tuple[int, list[str]]:
        """Say one command; return the code that its answer ends with, and the answer's lines."""
        self._wait()
        self._link.sendall(command.encode() + b"\n")
        return self.answer()

    def answer(self) -> tuple[int, list[str]]:
        """Read one answer: `1007-` begins a line with more to come, `0000 ` the last, a space one with the code before.

        Raises OSError, ValueError.
        """
        lines: list[str] = []
        taken = 0
        while True:
            line = self._line()
            taken += len(line)
            if taken > _LONGEST_ANSWER:
                raise ValueError("its answer has no end")
            if line[:4].isdigit():
                lines.append(line[5:])
                if line[4:5] != "-":
                    return int(line[:4]), lines
            else:
                lines.append(line.strip("+ "))

    def _line(self) -> str:
        while b"\n" not in self._read:
            self._wait()
            more = self._link.recv(65536)
            if not more:
                raise ConnectionResetError("it hung up")
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return line.decode("ascii", "replace")

    def _wait(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._link.settimeout(left)


def _words(lines: Sequence[str]) -> str:
    return clean(lines[-1] if lines else "no words", 200)


def _attributes(announced: Announcement) -> str:
    parts = [f"bgp_next_hop = {announced.next_hop};"]
    parts += [] if announced.med is None else [f"bgp_med = {announced.med};"]
    for kind, communities in (("community", announced.standard), ("large_community", announced.large)):
        parts += [f"bgp_{kind}.add(({text.replace(':', ',')}));" for text in communities]
    return " ".join(parts)


def _announcement(attributes: str) -> Announcement:
    """Read what `_attributes` wrote. Raises ValueError."""
    hop, med, communities = "", None, []
    for what, tuple_, value in _SET.findall(attributes):
        if what == "next_hop":
            hop = value
        elif what == "med":
            med = int(value)
        else:
            communities.append(tuple_.replace(",", ":"))
    return Announcement.of(hop, med, communities)


def _shown(lines: Sequence[str]) -> list[str]:
    """Read the routes of `show route all`, as texts; a route without a next hop of its own is none of ours."""
    found: list[str] = []
    hop, med, communities = "", None, list[str]()

    def take() -> None:
        if hop:
            found.append(Announcement.of(hop.split()[0], med, communities).text)

    for line in lines:
        if "Type:" in line:
            take()
            hop, med, communities = "", None, []
        elif match := _SHOWN.fullmatch(line.strip()):
            what, value = match[1], match[2]
            if what == "next_hop":
                hop = str(ip_address(value.split()[0]))
            elif what == "med":
                med = int(value)
            elif what in ("community", "large_community"):
                communities += [
                    text.replace(" ", "").replace(",", ":") for text in re.findall(r"\(([0-9, ]+)\)", value)
                ]
    take()
    return found
