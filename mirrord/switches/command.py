"""How does the operator's own program move readers?

For whatever mirrord has no switch of its own for: a provider's tool, a load balancer, a script. The program is run
without a shell, is given one JSON object on standard input, and is asked one of three things:

    show     print what stands: {"names": {NAME: {"addresses": [...], "ttl": 60, "fence": "..." or null}}}
    apply    make `plan.to` stand instead of `plan.from`; keep each name's `fence` beside its addresses, for `show`
    check    do something harmless that shows that `apply` would be allowed to; change nothing

    exit code of apply   what it means                                        what mirrord does
    0                    it was done                                          asks `show`, and believes only that
    5                    something else than `plan.from` stands; not done     says so; a person looks
    75                   could not be tried; nothing was changed              tries again later
    1                    it will not have it; nothing was changed             asks `show`, then says so
    any other, killed    nobody knows                                         the plan stays open until `show` tells

`show` and `check` are good with 0, and 75 or any other where they could not be done. What a program says on standard
error becomes part of the sentence that people read. It may be asked to apply the same plan twice. Past its time
limit it is killed, with all that it started. One that may not be killed, since it became another user (sudo), is
waited for no longer, and is not run again while it lives. What a program cannot promise is that nobody moves readers
between its own look and its own change; one that can says so in the configuration (`fence = "atomic"`).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from mirrord.errors import BadConfig, Refused, Unavailable
from mirrord.switches import CommandSettings, Follow, Following, Found, NameServers, Sent, SentKind
from mirrord.switches.change import LONGEST_FENCE, Change, Expected, Rrsets, Seen, Zone, clean, families

REFUSED, FENCED, LATER = 1, 5, 75
"""Exit codes of a program, beside 0."""
LONGEST_ANSWER = 1 << 20
"""Bytes that are read of what a program prints."""
LONGEST_TTL = (1 << 31) - 1
"""Seconds (RFC 2181, section 8)."""
KILLED_WITHIN = 1.0
"""Seconds in which a program that was killed must be gone."""
_GLANCE = 0.05
"""Seconds after which it is seen that a program ended whose output something holds open that it started."""
_LONGEST_WORDS = 300


@dataclass(frozen=True, slots=True)
class _Answer:
    """What became of one call: the exit code, None where it was killed past its time; what it printed and said."""

    code: int | None
    printed: bytes
    said: str


class Command:
    """The switch of one service that a program works; `mirrord.switches.Switch` is the contract."""

    def __init__(self, settings: CommandSettings) -> None:
        """Nothing is run yet. Raises BadConfig where the program is no program."""
        self._settings = settings
        self.fence = settings.fence
        self._undead: subprocess.Popen[bytes] | None = None
        if not os.access(settings.program[0], os.X_OK):
            raise BadConfig([f"{settings.service}: command.program: {settings.program[0]} is not there, or no program"])

    def read(self, first: str = "") -> Zone:
        """Ask the program what stands. Raises Unavailable."""
        del first  # there is only one road
        answer = self._ask("show")
        doing = f"{self._settings.service}: asking {self._name} what stands"
        if answer.code != 0:
            raise Unavailable(f"{doing}: {_words(answer)}")
        try:
            told = json.loads(answer.printed)["names"]
            names = {name: _found(told[name]) for name in self._settings.names}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise Unavailable(f"{doing}: it answered what is no answer: {type(e).__name__}: {clean(str(e))}") from e
        return Zone(names=names, server=self._name)

    def send(self, change: Change) -> Sent:
        """Have the program apply a change, once; look before, where the program cannot compare and set by itself."""
        if self.fence != "atomic":
            try:
                seen = change.seen_in(self.read())
            except Unavailable as e:
                return Sent(SentKind.UNSENT, str(e), self._name)
            if seen is Seen.APPLIED:
                return Sent(SentKind.ACCEPTED, f"{change.service}: {self._name} has it already", self._name)
            if seen is not Seen.BEFORE:
                text = f"{change.service}: moving to {change.target}: {self._name} shows something else than expected"
                return Sent(SentKind.FENCED, text, self._name)
        answer = self._ask("apply", plan=_plan(change))
        kinds = {0: SentKind.ACCEPTED, FENCED: SentKind.FENCED, LATER: SentKind.UNSENT, REFUSED: SentKind.REFUSED}
        kind = SentKind.UNKNOWN if answer.code is None else kinds.get(answer.code, SentKind.UNKNOWN)
        return Sent(kind, f"{change.service}: moving to {change.target}: {self._name}: {_words(answer)}", self._name)

    def name_servers(self) -> NameServers:
        """Nobody follows: what the program shows is what stands."""
        return {}

    def nudge(self, known: NameServers) -> None:
        """Nobody follows."""

    def followers(self, change: Change, known: NameServers, executor: Executor | None = None) -> Mapping[str, Follow]:
        """Ask the program itself whether the change stands."""
        del known, executor
        try:
            zone = self.read()
        except Unavailable as e:
            return {self._name: Follow(Following.UNREACHABLE, text=str(e))}
        stands = change.to.matches(zone)
        text = "" if stands else f"{self._name} shows something else"
        return {self._name: Follow(Following.FOLLOWS if stands else Following.OLD, text=text)}

    def keep(self, expected: Expected) -> None:
        """Do nothing: the program keeps what it was given."""

    def prove(self) -> None:
        """Have the program show, by something harmless, that it could apply a change. Raises Refused, Unavailable."""
        answer = self._ask("check")
        doing = f"{self._settings.service}: having {self._name} check itself"
        if answer.code in (None, LATER):
            raise Unavailable(f"{doing}: {_words(answer)}")
        if answer.code != 0:
            raise Refused(f"{doing}: {_words(answer)}")

    @property
    def _name(self) -> str:
        return self._settings.program[0]

    def _ask(self, what: str, **more: Any) -> _Answer:
        """Run the program once; it, and all that it started, is gone afterwards, where it lets itself be killed."""
        if self._undead is not None and self._undead.poll() is None:
            return _Answer(LATER, b"", f"process {self._undead.pid}, which could not be killed, still runs")
        asked = {"schema": 1, "ask": what, "service": self._settings.service, "names": list(self._settings.names)}
        with tempfile.TemporaryFile() as given:
            given.write(json.dumps(asked | more).encode() + b"\n")
            given.seek(0)
            try:
                process = subprocess.Popen(
                    self._settings.program,
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            except OSError as e:
                return _Answer(LATER, b"", f"it could not be started: {e.strerror or e}")
        code, printed, said = _listen(process, self._settings.timeout)
        self._undead = None if _end(process) else process
        words = said.decode("utf-8", "replace")
        if self._undead is not None:
            why = f"it runs on after {self._settings.timeout:g} s and could not be killed, perhaps as another user's"
            return _Answer(None, printed, f"{why}; {words}")
        if code is None:
            return _Answer(None, printed, f"it was killed after {self._settings.timeout:g} s; {words}")
        return _Answer(code, printed, words)


def _listen(process: subprocess.Popen[bytes], within: float) -> tuple[int | None, bytes, bytes]:
    """Take in what a program prints and says until it ends; its exit code is None where it did not in so many seconds.

    All of it is taken in and the beginnings are kept: one that asks the same question for ever fills no disk.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    deadline = time.monotonic() + within
    heard = {process.stdout: bytearray(), process.stderr: bytearray()}
    with process.stdout, process.stderr, selectors.DefaultSelector() as open_ones:
        for pipe in heard:
            open_ones.register(pipe, selectors.EVENT_READ)
        ended = False
        while open_ones.get_map() and not ended and (left := deadline - time.monotonic()) > 0:
            ended = process.poll() is not None  # then a last look, for what it left in the pipes
            for key, _ in open_ones.select(0 if ended else min(left, _GLANCE)):
                read = os.read(key.fd, 65536)
                if not read:
                    open_ones.unregister(key.fileobj)
                kept = heard[key.fileobj]  # type: ignore[index] # one of the two
                kept += read[: LONGEST_ANSWER - len(kept)]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(deadline - time.monotonic(), 0.0))
        return process.returncode, bytes(heard[process.stdout]), bytes(heard[process.stderr])


def _end(process: subprocess.Popen[bytes]) -> bool:
    """Kill a program with all that it started; False where it does not die."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(KILLED_WITHIN)
    except subprocess.TimeoutExpired:
        return False
    return True


def _words(answer: _Answer) -> str:
    """Say how a call ended, with the first printable words of what the program said."""
    said = " ".join("".join(c if c.isprintable() else " " for c in answer.said).split())[:_LONGEST_WORDS].strip("; ")
    ended = "" if answer.code is None else f"it ended with {answer.code}"
    return "; ".join(part for part in (ended, said) if part)


def _found(told: Any) -> Found:
    """Read what stands at one name. Raises ValueError, KeyError, TypeError."""
    a, aaaa = families(str(ip_address(address)) for address in told["addresses"])
    fence = told.get("fence")
    if fence is not None and (not isinstance(fence, str) or len(fence) > LONGEST_FENCE):
        raise ValueError("a fence that is none")
    ttl = told.get("ttl", 0)
    if not 0 <= ttl <= LONGEST_TTL:
        raise ValueError("a TTL that is none")
    return Found(Rrsets(a, aaaa, frozenset({(fence,)}) if fence else frozenset()), ttl=int(ttl))


def _plan(change: Change) -> dict[str, Any]:
    return {
        "id": change.plan,
        "epoch": change.epoch,
        "from": {"mirror": change.source, "names": _names(change.from_)},
        "to": {"mirror": change.target, "names": _names(change.to)},
        "ttl": change.ttl,
        "why": change.why,
        "who": change.who,
    }


def _names(state: Expected) -> dict[str, Any]:
    return {
        name: {
            "addresses": [*sorted(rrsets.a), *sorted(rrsets.aaaa)],
            "fence": "".join(min(rrsets.fence)) if rrsets.fence else None,
        }
        for name, rrsets in state.names.items()
    }
