"""What can an account do? It is tried, in a folder of its own, and looked at afterwards.

What a server announces counts for nothing, nor does that it says "done": a file that was to be replaced is read, a
link that was to be replaced is read, a hard link must outlive its first name. All of it happens below
`.mirrord/try.<nonce>/`, under the mirror's lock; what a broken-off try leaves is cleaned up by the next publish.

Before anything is tried over which a server may break the connection, that is remembered: what breaks it by itself is
left out from then on. Known servers are asked many things at once, so that it costs a dozen round trips, once.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from io import BytesIO

from mirrord.delta import Copy
from mirrord.errors import Refused
from mirrord.hosts.files import (
    Attributes,
    Create,
    Hash,
    Kind,
    Link,
    MakeFolder,
    Op,
    Outcome,
    Patch,
    Put,
    Read,
    ReadLink,
    Remove,
    RemoveFolder,
    Rename,
    Space,
    Symlink,
    Traits,
    Trouble,
    Walk,
)
from mirrord.hosts.lock import OWN, TRIAL
from mirrord.hosts.remembered import TRAITS, Finding, How, Remembered, announced
from mirrord.hosts.steps import Flight, Steps, need
from mirrord.manifest import show

_FAR = 1_234_567_890
"""The mtime that is set: a second of a day long gone."""
_COMPOSED, _DECOMPOSED, _NO_TEXT = "\u00e9".encode(), "e\u0301".encode(), b"\xff\xfe"
_NAMED = {
    _COMPOSED: "a name with a composed letter",
    _DECOMPOSED: "the same name with the letter decomposed",
    _NO_TEXT: "a name that is no UTF-8",
}
_BASE, _NEW = bytes(range(256)) * 16, b"what is new"
_PATCHED = _BASE[1000:2500] + _NEW + _BASE[:300]
_LONGEST = 8192

Answers = Mapping[Op, Outcome]


class Trial:
    """Finds out what one account can do, and has it remembered."""

    def __init__(
        self,
        mirror: str,
        said: Traits,
        known: Remembered,
        remember: Callable[[Remembered], None],
        clock: Callable[[], float],
        dare: Callable[..., None] | None = None,
    ) -> None:
        """`said` is what the server announces, `known` what earlier tries left; `clock` gives Unix seconds.

        `dare(all_of_them=...)` has questions sent that the server does not announce, or no more.
        """
        self.known = known
        self._doing = f"{mirror}: finding out what the account can do"
        self._said = said
        self._remember = remember
        self._clock = clock
        self._dare = dare
        self._answers: dict[Op, Outcome] = {}

    def run(self, nonce: str) -> Steps[Traits]:
        """Try everything; the result is remembered, and returned."""
        top = OWN + b"/" + TRIAL + nonce.encode()
        place = _Place(top)
        yield from self._prepare(place)
        yield from self._risk(place.plain())
        odd: dict[str, Sequence[Op]] = {"any_name": [place.odd_name]}
        self._ask_more(all_of_them=True)
        if self._said.ordered:  # OpenSSH, which breaks over nothing: one flight less
            yield from self._risk({**place.special(), **odd})
        else:
            yield from self._risk(place.special())
            yield from self._risk(odd)
        self._ask_more(all_of_them=False)
        yield from self._ask((Remove(place.at(b"hard-1")),))
        yield from self._ask(place.looks())
        need(self._answers[Walk(top)], self._doing)
        seen = _Seen(place, self._answers)
        self.known = replace(
            self.known, tried_at=self._clock(), findings=self._judge(seen), risking=frozenset(), suspects=frozenset()
        )
        yield from _clean(top, seen.walked)
        self._remember(self.known)
        return self.known.traits(self._said)

    def broken_off(self) -> None:
        """Note that what is being tried just now was not to blame: we broke it off ourselves."""
        if self.known.risking:
            self.known = replace(self.known, risking=frozenset())
            self._remember(self.known)

    # The steps.

    def _prepare(self, place: _Place) -> Steps[None]:
        for outcome in (yield Flight(place.folders, ordered=True)):
            need(outcome, self._doing)
        yield from self._ask((*place.needed, *place.names, place.dated))
        for op in place.needed:
            self._see_made(self._answers[op])

    def _see_made(self, outcome: Outcome) -> None:
        """Raise where a file cannot be made. Our lock was: what is denied here is what a lock can do without."""
        if outcome.trouble in (Trouble.DENIED, Trouble.UNSUPPORTED):
            raise Refused(
                f"{self._doing}: its server lets files be made, and neither their mode nor their time be set (it says"
                f" {outcome.text!r}); nothing can be published without; allow both (ProFTPD: no <Limit SITE_CHMOD>)"
            )
        need(outcome, self._doing)

    def _ask_more(self, *, all_of_them: bool) -> None:
        if self._dare is not None:
            self._dare(all_of_them=all_of_them)

    def _ask(self, ops: Iterable[Op]) -> Steps[None]:
        for outcome in (yield Flight(tuple(ops))):
            self._answers[outcome.op] = outcome

    def _risk(self, steps: Mapping[str, Sequence[Op]]) -> Steps[None]:
        """Do what may break the connection: together what is above suspicion, by itself what is not."""
        innocent = [step for step in steps if step not in self.known.suspects | self.known.guilty]
        suspects = [step for step in steps if step in self.known.suspects - self.known.guilty]
        for group in (innocent, *([step] for step in suspects)):
            if group:
                self._note(group)
                yield from self._ask(op for step in group for op in steps[step])
        self._note(())

    def _note(self, steps: Collection[str]) -> None:
        self.known = replace(self.known, risking=frozenset(steps))
        self._remember(self.known)

    def _judge(self, seen: _Seen) -> dict[str, Finding]:
        """Say what was found out of each trait."""
        findings = announced(self._said)
        for name in TRAITS:
            cause = next((step for step in (name, *_NEEDS.get(name, ())) if step in self.known.guilty), None)
            if cause is not None:
                what = "" if cause == name else f" ({cause})"
                findings[name] = Finding(
                    works=False, how=How.LEFT_OUT, words=f"the connection broke when it was tried{what}"
                )
                continue
            words = seen.against(name)
            findings[name] = Finding(not words, How.TRIED, words)
        return findings


_NEEDS = {"replace_link": ("symlink", "replace")}
"""What a trait is tried by."""


class _Place:
    """The folder in which everything is tried: what is made there, and what is done."""

    def __init__(self, top: bytes) -> None:
        self.top = top
        self.first, self.second = top + b" first\n", top + b" second\n"
        # Were the two paths of a symlink taken the other way round, this text would lead nowhere.
        self.text = b"../" + top.rpartition(b"/")[2] + b"/"
        self.folders: list[Op] = [MakeFolder(OWN, 0o700), MakeFolder(top, 0o700), MakeFolder(self.at(b"folder-1"))]
        self.needed: list[Op] = [
            *(self.put(name, self.first) for name in (b"one", b"three", b"over-1", b"folder-1/file", b"hard-1")),
            *(self.put(name, self.second) for name in (b"two", b"over-2")),
            self.put(b"base", _BASE),
            Create(self.at(b"only"), self.first),
        ]
        self.names: list[Op] = [self.put(_COMPOSED, self.first), self.put(_DECOMPOSED, self.second)]
        self.odd_name = self.put(_NO_TEXT, self.first)
        self.dated = self.put(b"dated-1", self.first, _FAR)
        self.renamed = Rename(self.at(b"dated-1"), self.at(b"dated-2"))
        self.again = Create(self.at(b"only"), self.second)
        self.link = Symlink(self.text + b"one", self.at(b"link"))
        self.links: list[Op] = [
            self.link,
            Symlink(self.text + b"three", self.at(b"link-1")),
            Symlink(self.text + b"two", self.at(b"link-2")),
        ]
        self.over = Rename(self.at(b"over-1"), self.at(b"over-2"), over=True)
        self.over_link = Rename(self.at(b"link-1"), self.at(b"link-2"), over=True)
        self.folder = Rename(self.at(b"folder-1"), self.at(b"folder-2"))
        self.hard = Link(self.at(b"hard-1"), self.at(b"hard-2"))
        self.space = Space(top)
        self.hash = Hash(self.at(b"base"))
        self.patch = Patch(
            path=self.at(b"patched"),
            size=len(_PATCHED),
            mtime=_FAR,
            mode=0o644,
            open=lambda: BytesIO(_PATCHED),
            digest=hashlib.sha256(_NEW).digest(),
            base=self.at(b"base"),
            copies=(Copy(1000, 0, 1500), Copy(0, 1500 + len(_NEW), 300)),
        )

    def at(self, name: bytes) -> bytes:
        """Return where something is tried."""
        return self.top + b"/" + name

    def put(self, name: bytes, data: bytes, mtime: int | None = None) -> Put:
        """Make a file."""
        return Put(self.at(name), len(data), mtime, 0o644, lambda: BytesIO(data))

    def plain(self) -> dict[str, list[Op]]:
        """What every server should have heard of, though it may not do it."""
        return {
            "symlink": self.links,
            "rename_folder": [self.folder],
            "mtime": [self.renamed],
            "exclusive": [self.again],
        }

    def special(self) -> dict[str, list[Op]]:
        """What only some servers have heard of."""
        return {
            "replace": [self.over, self.over_link],
            "hard_link": [self.hard],
            "space": [self.space],
            "copy_data": [self.patch],
            "hashes": [self.hash],
        }

    def looks(self) -> list[Op]:
        """See what came of it."""
        names = (
            b"link",
            b"over-2",
            b"two",
            b"three",
            b"folder-2/file",
            b"hard-2",
            b"only",
            b"patched",
            _COMPOSED,
            _DECOMPOSED,
        )
        reads = [Read(self.at(name), _LONGEST) for name in (*names, _NO_TEXT)]
        return [Walk(self.top), *(ReadLink(self.at(name)) for name in (b"link", b"link-2")), *reads]


class _Seen:
    """What was answered and what stands there: does a thing work?"""

    def __init__(self, place: _Place, answers: Answers) -> None:
        self._place = place
        self._answers = answers
        self.walked: Mapping[bytes, Attributes] = answers[Walk(place.top)].value

    def against(self, trait: str) -> str:
        """Say why a trait counts as not working; an empty text where it works."""
        return str(getattr(self, f"_{trait}")())

    def _symlink(self) -> str:
        return (
            self._refused(self._place.link)
            or self._is(b"link", Kind.LINK)
            or self._leads(b"link", self._place.text + b"one")
            or self._holds(b"link", self._place.first)
        )

    def _replace(self) -> str:
        return self._refused(self._place.over) or self._gone(b"over-1") or self._holds(b"over-2", self._place.first)

    def _replace_link(self) -> str:
        return (
            self._refused(self._place.over_link)
            # ProFTPD renames what the one link leads to over what the other leads to.
            or self._holds(b"two", self._place.second)
            or self._holds(b"three", self._place.first)
            or self._gone(b"link-1")
            or self._is(b"link-2", Kind.LINK)
            or self._leads(b"link-2", self._place.text + b"three")
        )

    def _rename_folder(self) -> str:
        return (
            self._refused(self._place.folder)
            or self._gone(b"folder-1")
            or self._holds(b"folder-2/file", self._place.first)
        )

    def _hard_link(self) -> str:
        return (
            self._refused(self._place.hard)
            or self._is(b"hard-2", Kind.FILE)
            or self._holds(b"hard-2", self._place.first)
        )

    def _exclusive(self) -> str:
        taken = "a second file was made where one stood" if self._answers[self._place.again].good else ""
        return taken or self._holds(b"only", self._place.first)

    def _mtime(self) -> str:
        if against := self._refused(self._place.dated):
            return against
        listed = self.walked.get(b"dated-1" if self._refused(self._place.renamed) else b"dated-2")
        if listed is None:
            return "it says done, and nothing is there"
        return "" if listed.mtime == _FAR else f"set to {_FAR}, it is listed as {listed.mtime}"

    def _any_name(self) -> str:
        first, second = self._place.first, self._place.second
        for op, content in zip((*self._place.names, self._place.odd_name), (first, second, first), strict=True):
            assert isinstance(op, Put)
            name = op.path.removeprefix(self._place.top + b"/")
            if against := self._refused(op) or self._is(name, Kind.FILE) or self._holds(name, content):
                return f"{_NAMED[name]}: {against}"
        return ""

    def _space(self) -> str:
        return self._refused(self._place.space)

    def _copy_data(self) -> str:
        return self._refused(self._place.patch) or self._holds(b"patched", _PATCHED)

    def _hashes(self) -> str:
        if against := self._refused(self._place.hash):
            return against
        right = self._answers[self._place.hash].value == hashlib.sha256(_BASE).digest()
        return "" if right else "it says done, and the hash is not that of the file"

    # One thing after the other.

    def _refused(self, op: Op) -> str:
        outcome = self._answers[op]
        return "" if outcome.good else outcome.text or str(outcome.trouble.value if outcome.trouble else "no reason")

    def _is(self, name: bytes, kind: Kind) -> str:
        found = self.walked.get(name)
        if found is None:
            return "it says done, and nothing is there"
        return "" if found.kind is kind else f"it says done, and made a {found.kind.value}"

    def _gone(self, name: bytes) -> str:
        return "it says done, and the old name is still there" if name in self.walked else ""

    def _leads(self, name: bytes, text: bytes) -> str:
        told = self._answers[ReadLink(self._place.at(name))]
        if not told.good:
            return f"its text cannot be read: {told.text}"
        # Some say where a link leads to, and not its text.
        same = posixpath.normpath(self._place.at(told.value)) == posixpath.normpath(self._place.at(text))
        if told.value == text or (same and not told.value.startswith(b"/")):
            return ""
        return f"it says done, and the link leads to {show(told.value)!r}"

    def _holds(self, name: bytes, content: bytes) -> str:
        read = self._answers[Read(self._place.at(name), _LONGEST)]
        if not read.good:
            return f"it says done, and what should be there cannot be read: {read.text}"
        return "" if read.value == content else "it says done, and something else is there"


def _clean(top: bytes, walked: Mapping[bytes, Attributes]) -> Steps[None]:
    """Remove all that was found; what does not go away is cleaned up by the next publish."""
    inside = sorted(walked, reverse=True)
    files: list[Op] = [Remove(top + b"/" + path) for path in inside if walked[path].kind is not Kind.FOLDER]
    folders: list[Op] = [RemoveFolder(top + b"/" + path) for path in inside if walked[path].kind is Kind.FOLDER]
    yield Flight([*files, *folders, RemoveFolder(top)], ordered=True)
