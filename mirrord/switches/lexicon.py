"""How are names moved at a DNS provider that has a programming interface of its own, and no DNS UPDATE?

By dns-lexicon, which knows some ninety of them, in a process of its own (`lexicon_calls`) that is killed when a call
takes longer than `timeout`. What stands is what the provider's interface lists: that is where changes are committed.
Whether readers get it is asked of the zone's name servers, as after a DNS UPDATE.

No such interface compares and sets, and one call changes one record. So a change is made in steps, each of which leaves
every name with an address, and each of which is recognised when the next start finds it:

    0  as the journal expects it, or nothing is done
    1  at every name our new TXT is put beside the old one: the claim
    2  looked again: is anything else different by now, the claim is taken back
    3  at every name the new addresses are put beside the old ones, and seen to stand there
    4  the old addresses are taken away, one by one
    5  the old TXT are taken away: done

The TXT comes first and goes last. Were addresses written first, a kill in between would leave what looks like a
stranger's work: our mark must stand beside everything half made, so that the next start (or the next try) knows what it
finds as this plan and finishes it, and another controller keeps away. Were the old TXT taken away first, addresses that
are still mixed would look done. Only records that the plan names are ever taken away, never a whole set: what somebody
else added meanwhile stays, and is told afterwards. Between a look and the write after it somebody may still come:
`best-effort`.

A set that stands keeps its TTL when a record is put beside it (no interface can change it without a gap).
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

from mirrord.errors import BadConfig, Refused, Unavailable
from mirrord.switches import Follow, Found, LexiconSettings, NameServers, Sent, SentKind
from mirrord.switches.asking import Asking, door
from mirrord.switches.change import Change, Expected, Rrsets, Seen, Zone, differences, fence_name

CALLS = Path(__file__).with_name("lexicon_calls.py")
STARTS_WITHIN = 20.0
"""Seconds that the process of its own may take to load the library."""
SHOWN_WITHIN = 6.0
"""Seconds until a record that was taken must be listed."""
AUTOMATIC = 300
"""Seconds, where a provider says that it chooses the TTL itself (Cloudflare: 1), or nothing."""
WANTED = "dns-lexicon>=3.20,<4"
"""As in pyproject.toml; mirrord runs without it."""
NO_GOOD = {
    "ddns": 'lexicon\'s ddns sends updates that name servers refuse; use provider = "rfc2136"',
    "auto": "say which provider it is, not that lexicon should guess",
}


class _Failed(Exception):
    """A call that failed; `refused`: we were not let in."""

    def __init__(self, text: str, *, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused


@dataclass(frozen=True, slots=True)
class _Listed:
    """What one look found: every name as a value, and each record as the provider spells it."""

    zone: Zone
    spelled: Mapping[tuple[str, str, Any], str]
    """(type, name, our value) -> the content to be deleted."""


class Lexicon:
    """The switch of one service at a DNS provider; `mirrord.switches.Switch` is the contract."""

    fence: Literal["atomic", "best-effort"] = "best-effort"

    def __init__(
        self,
        settings: LexiconSettings,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        resolve: Callable[[str], Collection[str]] | None = None,
    ) -> None:
        """Check the settings; starts nothing yet. Raises BadConfig."""
        self._settings = settings
        self._monotonic = monotonic
        self._name = f"{settings.provider} by lexicon"
        if fault := _fault(settings.provider):
            raise BadConfig([f"service {settings.service}: {fault}"])
        try:
            with door("a name of its DNS settings"):
                self._asking = Asking(
                    settings.zone,
                    settings.names,
                    authoritative=settings.authoritative,
                    notify=settings.notify and bool(settings.authoritative),
                    monotonic=monotonic,
                    resolve=resolve,
                )
        except Unavailable as e:
            raise BadConfig([f"service {settings.service}: {e}"]) from e
        if outside := self._asking.outside():
            text = f"service {settings.service}: {outside[0]} is not in the zone {settings.zone}"
            raise BadConfig([text])

    # -- reading

    def read(self, first: str = "") -> Zone:
        """List what stands at the provider. Raises Unavailable."""
        del first  # there is only one road
        try:
            with self._calls() as calls:
                return self._list(calls).zone
        except _Failed as e:
            raise Unavailable(f"{self._settings.service}: reading {self._settings.zone}: {e}") from e

    def name_servers(self) -> NameServers:
        """Find the zone's NS by the machine's resolver; none where `authoritative` is set. Raises Unavailable."""
        return {} if self._settings.authoritative else self._asking.name_servers_at_large()

    def nudge(self, known: NameServers) -> None:
        """Tell those who were configured; a provider's own name servers hear of it from the provider."""
        self._asking.nudge(known)

    def followers(self, change: Change, known: NameServers, executor: Executor | None = None) -> Mapping[str, Follow]:
        """Ask every authoritative server for all names; the executor's workers ask them at once."""
        return self._asking.followers(change, known, executor)

    def _list(self, calls: _Calls) -> _Listed:
        wanted = [
            (kind, fence_name(name) if kind == "TXT" else name)
            for name in self._settings.names
            for kind in ("CNAME", "A", "AAAA", "TXT")
        ]
        answers = iter(calls.ask("list", wanted=wanted)["records"])
        spelled: dict[tuple[str, str, Any], str] = {}
        names: dict[str, Found] = {}
        for name in self._settings.names:
            aliases, *sets = (next(answers) for _ in range(4))
            values: list[frozenset[Any]] = []
            for kind, records in zip(("A", "AAAA", "TXT"), sets, strict=True):
                read = {_value(kind, record["content"]): record["content"] for record in records}
                spelled |= {(kind, name, value): content for value, content in read.items()}
                values.append(frozenset(read))
            ttls = [_ttl(record["ttl"]) for records in sets[:2] for record in records]
            alias = aliases[0]["content"] if aliases else None
            names[name] = Found(Rrsets(*values), alias, max(ttls, default=0))
        return _Listed(Zone(names, server=self._name, in_steps=True), spelled)

    # -- changing

    def send(self, change: Change) -> Sent:
        """Make a change in steps, or go on with one that was begun.

        Raises MirrordError where a secret cannot be read.
        """
        doing = f"{change.service}: changing {self._settings.zone}"
        steps = _Steps(self, change)
        try:
            with self._calls() as calls:
                return steps.walk(calls)
        except _Failed as e:
            text = f"{doing}: {e}"
            if steps.written:
                return Sent(SentKind.UNKNOWN, f"{text}; what was begun is finished with the next try", self._name)
            if e.refused:
                return Sent(SentKind.REFUSED, f"{text}; nothing was changed", self._name, signed=not steps.tried)
            kind = SentKind.UNKNOWN if steps.tried else SentKind.UNSENT
            return Sent(kind, text, self._name)

    def keep(self, expected: Expected) -> None:
        """Do nothing: providers keep what they were given."""

    def prove(self) -> None:
        """Put our TXT where it stands already: whoever may not write is refused, and nothing is different afterwards.

        Raises Refused, Unavailable. A provider that looks first and writes nothing proves only that it can be read.
        """
        doing = f"{self._settings.service}: having {self._name} take what stands already"
        try:
            with self._calls() as calls:
                listed = self._list(calls)
                if not listed.zone.stands.epoch:
                    raise Unavailable(f"{doing}: nothing of ours stands there yet that could be written once more")
                for name, found in listed.zone.names.items():
                    for record in found.rrsets.fence:
                        calls.ask("create", type="TXT", name=fence_name(name), content="".join(record))
                if self._list(calls).zone.names != listed.zone.names:
                    raise Unavailable(f"{doing}: something else stands now")
        except _Failed as e:
            raise (Refused if e.refused else Unavailable)(f"{doing}: {e}") from e

    @contextlib.contextmanager
    def _calls(self) -> Iterator[_Calls]:
        settings = self._settings
        secrets = {key: secret() for key, secret in settings.secrets.items()}
        told = {
            "provider": settings.provider,
            "zone": settings.zone,
            "ttl": settings.ttl,
            "timeout": settings.timeout,
            "options": dict(settings.options),
            "secrets": secrets,
        }
        calls = _Calls(self._name, settings.timeout, self._monotonic)
        try:
            calls.start(told)
            yield calls
        finally:
            calls.close()


@dataclass(slots=True)
class _Steps:
    """One change on its way, as drawn above."""

    _switch: Lexicon
    _change: Change
    tried: bool = False
    """A record was sent: it may have been taken, whatever was answered."""
    written: bool = False
    """A record was taken."""

    def walk(self, calls: _Calls) -> Sent:
        """Go through all steps that are left. Raises _Failed where one could not be done."""
        change, name = self._change, self._switch._name  # noqa: SLF001 - one thing in two classes
        listed = self._look(calls)
        seen = change.seen_in(listed.zone)
        if seen is Seen.APPLIED:
            return Sent(SentKind.ACCEPTED, f"{change.service}: {name} has it already", name)
        if seen not in (Seen.BEFORE, Seen.UNDERWAY):
            return Sent(SentKind.FENCED, self._elsewise(listed.zone), name)
        mine = self._put(calls, listed, ("TXT",))
        listed = self._until_shown(calls, ("TXT",))
        if change.seen_in(listed.zone) not in (Seen.UNDERWAY, Seen.APPLIED):
            self._take(calls, mine, listed)
            return Sent(SentKind.FENCED, f"{self._elsewise(listed.zone)}; our claim was taken back", name)
        self._put(calls, listed, ("A", "AAAA"))
        listed = self._until_shown(calls, ("A", "AAAA"))
        self._take(calls, self._left_over(listed, ("A", "AAAA")), listed)
        listed = self._look(calls)
        self._put(calls, listed, ("A", "AAAA"))  # a provider that took more away than it was told to
        self._take(calls, self._left_over(listed, ("TXT",)), listed)
        return Sent(SentKind.ACCEPTED, f"{change.service}: changing {self._switch._settings.zone}: accepted", name)  # noqa: SLF001 - the same

    def _look(self, calls: _Calls) -> _Listed:
        return self._switch._list(calls)  # noqa: SLF001 - the same

    def _missing(self, listed: _Listed, kinds: Collection[str]) -> list[tuple[str, str, Any]]:
        """Return what shall stand and does not."""
        return [
            (kind, name, value)
            for name, shall in self._change.to.names.items()
            for kind in kinds
            for value in sorted(_of(shall, kind) - _of(listed.zone.names[name].rrsets, kind))
        ]

    def _left_over(self, listed: _Listed, kinds: Collection[str]) -> list[tuple[str, str, Any]]:
        """Return what stands, stood before, and shall go."""
        return [
            (kind, name, value)
            for name, stood in self._change.from_.names.items()
            for kind in kinds
            for value in sorted(
                _of(stood, kind) & _of(listed.zone.names[name].rrsets, kind) - _of(self._change.to.names[name], kind)
            )
        ]

    def _put(self, calls: _Calls, listed: _Listed, kinds: Collection[str]) -> list[tuple[str, str, Any]]:
        missing = self._missing(listed, kinds)
        for kind, name, value in missing:
            self.tried = True
            owner, content = (fence_name(name), "".join(value)) if kind == "TXT" else (name, value)
            calls.ask("create", type=kind, name=owner, content=content)
            self.written = True
        return missing

    def _take(self, calls: _Calls, records: Collection[tuple[str, str, Any]], listed: _Listed) -> None:
        for kind, name, value in records:
            content = listed.spelled.get((kind, name, value))
            if content:
                self.tried = True
                owner = fence_name(name) if kind == "TXT" else name
                calls.ask("delete", type=kind, name=owner, content=content)
                self.written = True

    def _until_shown(self, calls: _Calls, kinds: Collection[str]) -> _Listed:
        """Look until all that was put there is listed; some providers take a moment. Raises _Failed."""
        deadline = time.monotonic() + SHOWN_WITHIN
        while True:
            listed = self._look(calls)
            missing = self._missing(listed, kinds)
            if not missing:
                return listed
            if time.monotonic() > deadline:
                kind, name, _ = missing[0]
                raise _Failed(f"{self._switch._name}: it took {kind} at {name} and does not list it")  # noqa: SLF001 - the same
            time.sleep(0.3)

    def _elsewise(self, zone: Zone) -> str:
        change = self._change
        return (
            f"{change.service}: moving to {change.target}: {zone.server}: the zone is not as mirrord left it: "
            f"{differences(zone, change.from_)}"
        )


@dataclass(slots=True)
class _Calls:
    """The process of its own, while it is needed."""

    _name: str
    _timeout: float
    _monotonic: Callable[[], float]
    _child: subprocess.Popen[bytes] | None = None
    _left: bytes = field(default=b"", repr=False)

    def start(self, told: Mapping[str, Any]) -> None:
        """Start it, and wait until it listens. Raises _Failed."""
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-P", str(CALLS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as e:
            raise _Failed(f"{self._name}: it could not be started: {e.strerror or e}") from e
        self._write(told)
        self._line(STARTS_WITHIN)

    def ask(self, what: str, **more: Any) -> dict[str, Any]:
        """Have one order carried out. Raises _Failed."""
        self._write({"do": what, **more})
        line = self._line(self._timeout)
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError as e:
            raise _Failed(f"{self._name}: it answered what is no answer") from e
        if "error" in answer:
            raise _Failed(f"{self._name}: {answer['error']}", refused=bool(answer.get("refused")))
        return answer

    def close(self) -> None:
        """End it, whatever it does."""
        if self._child is None:
            return
        self._child.kill()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._child.wait()

    def _write(self, line: Mapping[str, Any]) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(line).encode() + b"\n")
        except OSError as e:
            raise _Failed(f"{self._name}: it ended with {self._child.poll()}; is dns-lexicon whole?") from e

    def _line(self, within: float) -> bytes:
        """Return its next line, `within` seconds. Raises _Failed."""
        deadline = self._monotonic() + within
        assert self._child is not None
        assert self._child.stdout is not None
        while b"\n" not in self._left:
            remaining = deadline - self._monotonic()
            if remaining <= 0 or not select.select([self._child.stdout], [], [], remaining)[0]:
                raise _Failed(f"{self._name}: no answer within {within:g} s")
            read = os.read(self._child.stdout.fileno(), 65536)
            if not read:
                raise _Failed(f"{self._name}: it ended with {self._child.wait()}; is dns-lexicon whole?")
            self._left += read
        line, _, self._left = self._left.partition(b"\n")
        return line


def _fault(provider: str) -> str:
    """Say why a provider cannot be used; empty where it can."""
    if importlib.util.find_spec("lexicon") is None:
        return f"lexicon is not installed: {sys.prefix}/bin/pip install '{WANTED}'"
    if provider in NO_GOOD:
        return NO_GOOD[provider]
    if not provider.isidentifier() or importlib.util.find_spec(f"lexicon._private.providers.{provider}") is None:
        return f'lexicon knows no provider "{provider}"; `lexicon --help` lists them'
    return ""


def _of(rrsets: Rrsets, kind: str) -> frozenset[Any]:
    return {"A": rrsets.a, "AAAA": rrsets.aaaa, "TXT": rrsets.fence}[kind]


def _value(kind: str, content: str) -> Any:
    """Read a record's content as providers write it. Raises _Failed."""
    if kind == "TXT":
        text = content.strip()
        if text.startswith('"') and text.endswith('"') and len(text) > 1:
            text = text[1:-1].replace('" "', "").replace('\\"', '"')
        return (text,)
    try:
        return str(ip_address(content.strip()))
    except ValueError as e:
        raise _Failed(f"it lists {kind} {content!r:.60}, which is no address") from e


def _ttl(told: Any) -> int:
    try:
        ttl = int(told)
    except (TypeError, ValueError):
        return AUTOMATIC
    return ttl if ttl > 1 else AUTOMATIC
