"""What can one mirror do, and does its web server serve what we put there?

Everything is tried anew under the mirror's lock, whatever was known before, and what is found is kept. Then the web
server is asked for what stands in the account: a served release shows itself by its card, and by the time of the card
that is set over SFTP and must be seen by HTTP; an account that serves nothing yet shows two small trees for a moment.
Nothing of it stays. How things are tried is said in `mirrord.hosts.trying`, how they are shown in `exhibit`.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from mirrord.control.accounts import Notes
from mirrord.control.works import Works
from mirrord.errors import MirrordError, Unavailable
from mirrord.health import Target
from mirrord.hosts.account import Account
from mirrord.hosts.choosing import choose_layout, obstacle, what_follows
from mirrord.hosts.exhibit import Exhibit
from mirrord.hosts.files import Op, Outcome, Read, Stat, Traits
from mirrord.hosts.host import FilesHold, FilesHost
from mirrord.hosts.opening import open_host
from mirrord.hosts.remembered import TRAITS, Remembered
from mirrord.hosts.steps import Flight, Steps
from mirrord.manifest import CARD_NAME, OWN_FOLDER, show, stamp
from mirrord.probe.glimpsing import Glimpse, glimpse

YES, NO, UNPROVEN = "yes", "no", "unproven"
_CARD = OWN_FOLDER + b"/" + CARD_NAME
_PINGS = 5
_LONGEST = 65536
_ROOT = "its root must be the account's {serve!r}, and it must follow links (FollowSymLinks, no disable_symlinks)"
_OLDER = 86_400
"""Seconds by which a card's time is set back for a moment, at most."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Proof:
    """What one address of the web server showed."""

    service: str
    name: str
    address: str
    port: int
    serves: str
    """Whether it serves this very folder: yes, no or unproven."""
    follows: str
    """Whether it follows the link at each request."""
    text: str


class _Anew:
    """A memory that knows nothing of earlier tries, and passes on what comes of this one."""

    def __init__(self, notes: Notes) -> None:
        self.known: Remembered | None = None
        self._notes = notes

    def recall(self) -> Remembered | None:
        return self.known

    def remember(self, known: Remembered) -> None:
        self.known = known
        self._notes.remember(known)


def examine(works: Works, mirror: str, say: Say) -> dict[str, Any]:
    """Try everything anew, and look at the web server. Raises BadUsage, Locked, Refused, Unavailable and the like."""
    settings = works.settings
    account = works.accounts.account(settings, mirror)
    before = works.accounts.notes(mirror).recall()
    with works.locked(f"publish-{mirror}", "mirror check"):
        say(f"{mirror}: finding out what the account can do")
        known = _find_out(works, account, mirror)
        with _opened(account) as host:
            assert host.server is not None
            trip = min(host.round_trip() for _ in range(_PINGS))
            say(f"{mirror}: asking the web server")
            with _held(works, host) as hold:
                found = hold.found
                proofs = _Web(works, mirror, hold, account.serve.encode()).prove(host.traits, account.layout)
            follows = _agreed([proof.follows for proof in proofs])
            if follows is None and before is not None and before.whose == known.whose:
                follows = before.follows
            if follows is not None:
                known = replace(known, follows=follows)
                works.accounts.notes(mirror).remember(known)
            layout, why = choose_layout(host.traits, known.follows)
            cannot = found.obstacle or obstacle(host.traits)
    return {
        "mirror": mirror,
        "account": known.whose.account,
        "tried_at": stamp(datetime.fromtimestamp(known.tried_at, UTC)),
        "server": asdict(host.server) | {"extensions": list(host.server.extensions)},
        "round_trip_seconds": round(trip, 4),
        "free_bytes": found.free,
        "serving": found.current,
        "obstacle": cannot,
        "layout": {"configured": account.layout, "auto": layout, "why": why, "now": found.layout, "now_why": found.why},
        "traits": _traits(known, settings.keep(mirror)),
        "web": [asdict(proof) for proof in proofs],
    }


def _traits(known: Remembered, keep: int) -> list[dict[str, Any]]:
    return [
        {
            "trait": name,
            "works": finding.works,
            "how": finding.how.value,
            "words": finding.words,
            "follows": what_follows(name, works=finding.works, keep=keep),
        }
        for name in TRAITS
        for finding in [known.findings[name]]
    ]


# What the account can do ----------------------------------------------------------------------------------


def _find_out(works: Works, account: Account, mirror: str) -> Remembered:
    """Try everything; what the connection breaks over is left out, and the rest is tried again."""
    memory = _Anew(works.accounts.notes(mirror))
    for _ in range(len(TRAITS) + 2):
        try:
            with _opened(replace(account, memory=memory)) as host, _held(works, host):
                pass
        except Unavailable:  # also where it turned out that the server cannot do what it announces
            if memory.known is None or not (memory.known.tried_at or memory.known.risking):
                raise
        if memory.known is not None and memory.known.tried_at:
            return memory.known
    raise Unavailable(f"{mirror}: finding out what the account can do: the connection breaks again and again")


@contextlib.contextmanager
def _opened(account: Account) -> Iterator[FilesHost]:
    with contextlib.closing(open_host(account)) as host:
        assert isinstance(host, FilesHost)
        yield host


@contextlib.contextmanager
def _held(works: Works, host: FilesHost) -> Iterator[FilesHold]:
    with host.hold(works.me(), works.store.manifest, host.survey(), stop=works.stop) as hold:
        yield hold


# What the web server shows --------------------------------------------------------------------------------


class _Web:
    """One mirror's web server, asked at every address under every name while the lock on the account is ours."""

    def __init__(self, works: Works, mirror: str, hold: FilesHold, serve: bytes) -> None:
        self._works = works
        self._mirror = mirror
        self._hold = hold
        self._serve = serve
        self._root = _ROOT.format(serve=show(serve))
        self._targets = [target for target in works.settings.targets() if target.mirror == mirror]

    def prove(self, traits: Traits, layout: str) -> list[Proof]:
        """Find out by what stands in the account whether it is what readers get."""
        if self._hold.found.current is not None:
            return self._by_card()
        if self._hold.found.obstacle is not None:
            return self._unproven("what stands there is not mirrord's")
        if layout not in ("auto", "releases") or choose_layout(traits).layout != "releases":
            return self._unproven("nothing is served yet; publish, then check again")
        return self._by_exhibit()

    def _ask(self, path: bytes) -> list[Glimpse]:
        settings = self._works.settings
        http = settings.mirror(self._mirror).http
        names = frozenset({settings.site.host, *(name for service in settings.services for name in service.names)})

        def look(target: Target) -> Glimpse:
            return glimpse(
                target,
                settings.site.url,
                path,
                timeout=settings.probe.timeout,
                ca_file=None if http.ca_file is None else str(http.ca_file),
                names=names,
            )

        return list(self._works.probing.map(look, self._targets))

    def _unproven(self, why: str) -> list[Proof]:
        return [_proof(target, UNPROVEN, UNPROVEN, why) for target in self._targets]

    def _by_card(self) -> list[Proof]:
        """Compare the card as SFTP and HTTP show it; then set its time back, and see whether readers see that."""
        card = self._serve + b"/" + _CARD
        read, stat = self._hold.do(_questions([Read(card, _LONGEST), Stat(card)]))
        if not (read.good and stat.good):
            return self._unproven("the served release has no card; publish, then check again")
        before = self._ask(_CARD)
        older = stat.value.mtime - 1 - secrets.randbelow(_OLDER)
        try:
            self._hold.post({CARD_NAME: read.value}, older)
            after = self._ask(_CARD)
        except BaseException:
            with contextlib.suppress(MirrordError):
                self._hold.post({CARD_NAME: read.value}, stat.value.mtime)
            raise
        self._hold.post({CARD_NAME: read.value}, stat.value.mtime)
        found = self._hold.found
        led_here = any(release != found.current for release in found.left)
        return [
            self._judged(target, read.value, older, first, second, led_here=led_here)
            for target, first, second in zip(self._targets, before, after, strict=True)
        ]

    def _judged(
        self, target: Target, card: bytes, older: int, first: Glimpse, second: Glimpse, *, led_here: bool
    ) -> Proof:
        if wrong := _against(first, card, "another snapshot.json than stands in the account"):
            return _proof(target, NO, UNPROVEN, f"{wrong}; {self._root}")
        if second.mtime is None:
            text = "serves the same snapshot.json, but sends no Last-Modified by which to tell that it is this folder's"
            return _proof(target, UNPROVEN, UNPROVEN, text)
        if second.mtime != older or second.body != card:
            text = (
                "serves the same snapshot.json, but from elsewhere or from a cache: a change made by SFTP is not seen"
            )
            return _proof(target, NO, UNPROVEN, f"{text}; {self._root}")
        if led_here and self._hold.found.layout == "releases":
            return _proof(
                target, YES, YES, f"serves {self._hold.found.current}, to which it was led from another release"
            )
        text = f"serves {self._hold.found.current}"
        if self._hold.found.layout == "releases":
            text += "; whether it follows the link at each request shows at the next publish"
        return _proof(target, YES, UNPROVEN, text)

    def _by_exhibit(self) -> list[Proof]:
        """Show two small trees, one after the other, where nothing is served yet."""
        exhibit = Exhibit(self._mirror, self._serve, secrets.token_hex(6))
        try:
            if why := self._hold.do(exhibit.put_up()):
                return self._unproven(why)
            first = self._ask(exhibit.name)
            self._hold.do(exhibit.swap())
            second = self._ask(exhibit.name)
        except BaseException:
            with contextlib.suppress(MirrordError):
                self._hold.do(exhibit.take_down(), stoppable=False)
            raise
        self._hold.do(exhibit.take_down(), stoppable=False)
        proofs = []
        for target, one, other in zip(self._targets, first, second, strict=True):
            if wrong := _against(one, exhibit.content("a"), "something else than was put there"):
                proofs.append(_proof(target, NO, UNPROVEN, f"{wrong}; {self._root}"))
            elif wrong := _against(other, exhibit.content("b"), "what the link led to before; is there a cache?"):
                proofs.append(_proof(target, YES, NO, f"serves this folder, but when the link is replaced, {wrong}"))
            else:
                proofs.append(_proof(target, YES, YES, "serves this folder, and follows the link at each request"))
        return proofs


def _against(seen: Glimpse, content: bytes, otherwise: str) -> str:
    """Say why an answer is not what was expected; an empty text where it is."""
    if seen.fault:
        return seen.fault
    if seen.status != 200:
        return f"answers {seen.status}"
    return "" if seen.body == content else f"gives {otherwise}"


def _questions(ops: list[Op]) -> Steps[list[Outcome]]:
    return (yield Flight(ops, ordered=True))


def _proof(target: Target, serves: str, follows: str, text: str) -> Proof:
    return Proof(target.service, target.name, target.address, target.port, serves, follows, text)


def _agreed(words: list[str]) -> bool | None:
    """Return what all addresses show together: False where one does not, None where nobody knows."""
    return False if NO in words else True if YES in words else None
