"""How are files moved one by one to where readers see them, and how is that gone on with, or back from?

    .mirrord/moving.<id>.<nonce>       the note: what is moved, what goes away, from which release to which
    staging/<id>.<nonce>/<path>        what is to be moved; verified before the note is made
    .mirrord/undo.<id>.<nonce>/<path>  what was replaced or taken away, until the next release

The order is what readers need: files that others refer to first (pictures and fonts, then style sheets and scripts),
pages next, the home page last of them; then pages that are gone are taken away, then what is signed takes its place,
and at the very end go the assets that are gone. So a page never refers to an asset that is not there yet, and whoever
checks a copy sees the card of the release before until all the rest is in place.

The note says all that it takes, and every move has a source that can be moved only once. So whoever comes after a dead
holder makes the same moves, whatever of the dead one's is still on its way: nothing moves twice, nothing goes back.
What was moved is then listed; where it is not what the note says, everything goes back to what it was.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from mirrord.assets import is_page
from mirrord.errors import Full, Refused, Unavailable
from mirrord.hosts.files import (
    Attributes,
    Kind,
    Link,
    List,
    MakeFolder,
    Op,
    Outcome,
    Put,
    Read,
    Remove,
    RemoveFolder,
    Rename,
    Stat,
    Trouble,
    Walk,
)
from mirrord.hosts.layout import STAGING, by_op
from mirrord.hosts.lock import OWN
from mirrord.hosts.steps import Flight, Steps, need
from mirrord.hosts.trees import agrees
from mirrord.manifest import CARD_NAME, OWN_FOLDER, Entry, Manifest, SnapshotId, is_snapshot_id, quote, show
from mirrord.siblings import base_of

if TYPE_CHECKING:
    from mirrord.hosts.served import ServedFolder

MOVING = b"moving."
UNDO = b"undo."
Listing = Mapping[bytes, Attributes]
_LONGEST_NOTE = 1 << 28
_REFERRING = frozenset((b"css", b"js", b"mjs", b"json", b"webmanifest", b"svg", b"wasm"))
_PAGES = (2, 3)
_LAST = 4
_AT_ONCE = 256
"""Pairs of renames in one flight: between two flights the lock is kept alive."""
_HOME = frozenset((b"index.html", b"index.htm", b"index.xhtml", b"index.php", b"index.shtml"))


def rank(path: bytes) -> int:
    """Tell in which turn a file comes: what others refer to before what refers to it. Siblings come with their base."""
    if path.startswith(OWN_FOLDER + b"/"):
        return _LAST
    name = (base_of(path) or path).lower()
    if name in _HOME:
        return 3
    if is_page(path):
        return 2
    return 1 if name.rpartition(b".")[2] in _REFERRING else 0


@dataclass(frozen=True, slots=True)
class Note:
    """What is moved, from which release to which."""

    old: SnapshotId | None
    new: SnapshotId
    moved: Mapping[bytes, tuple[int, int]]
    """Path -> (size, mtime) once it is moved."""
    removed: tuple[bytes, ...]
    added: frozenset[bytes] = frozenset()
    """Those of the moved that nothing stood for before."""

    def text(self) -> bytes:
        """Write it: JSON, packed."""
        says = {
            "from": self.old,
            "to": self.new,
            "moved": {show(path): told for path, told in self.moved.items()},
            "removed": [show(path) for path in self.removed],
            "added": [show(path) for path in sorted(self.added)],
        }
        return zlib.compress(json.dumps(says).encode(), 1)

    @classmethod
    def read(cls, packed: bytes) -> Note | None:
        """Read what `text` wrote; None where it is something else."""
        try:
            says = json.loads(zlib.decompress(packed))
            moved = {_bytes(path): (int(size), int(mtime)) for path, (size, mtime) in says["moved"].items()}
            old, new = says["from"], says["to"]
            if not is_snapshot_id(new) or (old is not None and not is_snapshot_id(old)):
                return None
            removed = tuple(map(_bytes, says["removed"]))
            return cls(old, new, moved, removed, frozenset(map(_bytes, says["added"])))
        except (zlib.error, ValueError, KeyError, TypeError):
            return None


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


@dataclass
class Times:
    """What readers may have noticed, as seen from here: seconds of our monotonic clock."""

    began: float | None = None
    ended: float = 0.0
    gap: float = 0.0
    """The longest time for which one file was not there."""

    def mark(self, outcomes: Iterable[Outcome]) -> None:
        """Note that readers may have seen these."""
        for outcome in outcomes:
            self.began = outcome.at if self.began is None else min(self.began, outcome.at)
            self.ended = max(self.ended, outcome.at)

    @property
    def mixture(self) -> float:
        """Seconds between the first change and the last."""
        return max(0.0, self.ended - self.began) if self.began is not None else 0.0


@dataclass
class Moves:
    """The moves that one note tells of; `name` is the note's in `.mirrord/`."""

    layout: ServedFolder
    name: bytes
    times: Times = field(default_factory=Times)

    @property
    def path(self) -> bytes:
        """The note."""
        return OWN + b"/" + self.name

    @property
    def staged(self) -> bytes:
        """The folder that files are moved from."""
        return STAGING + b"/" + self.name.removeprefix(MOVING)

    @property
    def undo(self) -> bytes:
        """The folder that keeps what was replaced."""
        return OWN + b"/" + UNDO + self.name.removeprefix(MOVING)

    @property
    def _doing(self) -> str:
        return f"{self.layout.mirror}: moving files to where readers see them"

    # What a dead holder left.

    def settle(self) -> Steps[None]:
        """Go on to the release that the note names; where that cannot be, go back to the one before."""
        (read,) = yield Flight([Read(self.path, _LONGEST_NOTE)])
        if read.trouble is Trouble.MISSING:
            return
        note = Note.read(need(read, self._doing).value)
        if note is None:
            raise Refused(
                f"{self._doing}: {show(self.path)} cannot be read; somebody altered it: look there, and remove it"
            )
        try:
            yield from self.forward(note)
        except (Refused, Full, Incomplete):
            yield from self.back(note)
        else:
            yield from self.finish(note)

    def run(self, note: Note, listed: tuple[Listing, Listing]) -> Steps[None]:
        """Move everything, and say so in a note of its own; raises Refused or Full after going back.

        `listed` is how what is to be moved is listed, and what stands where readers look.
        """
        try:
            yield from self.forward(note, listed)
        except Full:
            yield from self.back(note)
            raise
        except (Refused, Incomplete) as e:
            yield from self.back(note)
            raise Refused(f"{e}; what had been moved was moved back") from e
        yield from self.finish(note)

    # Forward.

    def forward(self, note: Note, listed: tuple[Listing, Listing] | None = None) -> Steps[None]:
        """Make the moves that are left, in their order."""
        saved: Listing = {}
        if listed is not None:
            staged, there = dict(listed[0]), dict(listed[1])
        else:
            staged, there, saved = yield from self._look()
        if not there:  # never touch the mode of one that stands: a hoster may have set it
            made = yield Flight([Stat(self.layout.serve)])
            if made[0].trouble is Trouble.MISSING:
                (outcome,) = yield Flight([MakeFolder(self.layout.serve)], ordered=True)
                need(outcome, self._doing)
        left = [path for path in note.moved if path in staged]
        gone = [path for path in note.removed if _is_file(there.get(path))]  # a folder of that name is new, or older
        # Of what is kept only: where a file stood that becomes a folder, no folder may stand in its way.
        yield from self._make_undo((*(path for path in left if _is_file(there.get(path))), *gone))
        for turn in range(_LAST):
            yield from self._come([path for path in left if rank(path) == turn], gone, there, saved)
        yield from self._go([path for path in gone if rank(path) in _PAGES], there, count=True)
        yield from self._come(sorted((p for p in left if rank(p) == _LAST), key=_card_last), gone, there, saved)
        yield from self._verify(note)
        # What was signed of releases whose assets lingered goes after these: it is what excuses them.
        yield from self._go([path for path in gone if rank(path) not in (*_PAGES, _LAST)], there, count=False)
        yield from self._go([path for path in gone if rank(path) == _LAST], there, count=False)

    def _look(self) -> Steps[tuple[dict[bytes, Attributes], dict[bytes, Attributes], dict[bytes, Attributes]]]:
        """List what is to be moved, what stands where readers look, and what was kept of it."""
        asked = (self.staged, self.layout.serve, self.undo)
        answers = by_op((yield Flight([Walk(path) for path in asked])))
        found = [dict(answers[Walk(path)].value or {}) if answers[Walk(path)].good else {} for path in asked]
        return found[0], found[1], found[2]

    def _make_undo(self, paths: Sequence[bytes]) -> Steps[None]:
        folders = [self.undo, *(self.undo + b"/" + folder for folder in _folders(paths))]
        for outcome in (yield Flight([MakeFolder(folder, 0o700) for folder in folders], ordered=True)):
            need(outcome, self._doing)

    def _come(
        self,
        paths: Sequence[bytes],
        gone: Sequence[bytes],
        there: dict[bytes, Attributes],
        saved: Mapping[bytes, Attributes],
    ) -> Steps[None]:
        """Move files of one turn, over those that stand there; what they replace is kept."""
        if not paths:
            return
        yield from self._clear(paths, gone, there)
        folders = [folder for folder in _folders(paths) if folder not in there]
        made = [MakeFolder(self.layout.serve + b"/" + folder) for folder in folders]
        for outcome in (yield Flight(made, ordered=True)) if made else []:
            need(outcome, self._doing)
        traits = self.layout.traits
        keep = [path for path in paths if path in there and path not in saved]
        outcomes: list[Outcome] = []
        if traits.replace and traits.hard_link:
            unkept = yield from self._keep(keep)
            keep = [path for path in keep if path in unkept]
            if unkept and rank(paths[0]) == _LAST:
                unkept = frozenset(paths)  # these have an order among themselves
            moves = [Rename(self._staged(path), self._served(path), over=True) for path in paths if path not in unkept]
            outcomes += yield Flight(moves, ordered=rank(paths[0]) == _LAST)
            paths = [path for path in paths if path in unkept]
        for some in _batches(paths):
            done = yield Flight(self._pairs(some, there, frozenset(keep)), ordered=True)
            self._note_gaps(done)
            outcomes += done
        self.times.mark(outcomes)
        for outcome in outcomes:
            if outcome.trouble is not Trouble.MISSING:  # moved already, by one whose request came late
                need(outcome, self._doing)

    def _keep(self, paths: Sequence[bytes]) -> Steps[frozenset[bytes]]:
        """Keep what will be replaced by another name of it; return what has none. Raises Full before it is lost."""
        linked = yield Flight([Link(self._served(path), self._kept(path)) for path in paths])
        failed = {outcome.op.path: outcome for outcome in linked if isinstance(outcome.op, Link) and not outcome.good}
        if not failed:
            return frozenset()
        stand = yield Flight([Stat(path) for path in failed])  # a late request of a dead holder's may have made one
        for outcome in stand:
            if isinstance(outcome.op, Stat) and outcome.good:
                del failed[outcome.op.path]
        for outcome in failed.values():
            if outcome.trouble is Trouble.FULL:
                need(outcome, self._doing)
        start = len(self.undo) + 1
        return frozenset(path[start:] for path in failed)

    def _pairs(self, paths: Iterable[bytes], there: Collection[bytes], keep: Collection[bytes]) -> list[Op]:
        """Take each file away, and put the new one there at once."""
        pairs: list[Op] = []
        for path in paths:
            if path in there:
                away = Rename(self._served(path), self._kept(path)) if path in keep else Remove(self._served(path))
                pairs.append(away)
            pairs.append(Rename(self._staged(path), self._served(path)))
        return pairs

    def _note_gaps(self, outcomes: Sequence[Outcome]) -> None:
        for before, after in pairwise(outcomes):
            took_away = isinstance(before.op, Remove) or (
                isinstance(before.op, Rename) and before.op.old.startswith(self.layout.serve + b"/")
            )
            if took_away and before.good:
                self.times.gap = max(self.times.gap, after.at - before.at)

    def _clear(self, paths: Sequence[bytes], gone: Sequence[bytes], there: dict[bytes, Attributes]) -> Steps[None]:
        """Take away what stands in the way: a file where a folder is needed, or a folder where a file comes.

        Only what goes away anyhow can stand there; it goes a little early.
        """
        coming, above = set(paths), set(_folders(paths))
        way = [p for p in gone if p in there and (p in above or not coming.isdisjoint(_folders([p])))]
        if not way:
            return
        yield from self._go(way, there, count=True)
        inside = {folder for path in way for folder in _folders([path])}
        empty = sorted((f for f in inside if f in coming or not coming.isdisjoint(_folders([f]))), reverse=True)
        yield Flight([RemoveFolder(self._served(folder)) for folder in empty], ordered=True)
        for folder in empty:
            there.pop(folder, None)

    def _go(self, paths: Sequence[bytes], there: dict[bytes, Attributes], *, count: bool) -> Steps[None]:
        """Take files away from where readers look, and keep them."""
        paths = [path for path in paths if path in there]
        if not paths:
            return
        outcomes = yield Flight([Rename(self._served(path), self._kept(path)) for path in paths])
        if count:
            self.times.mark(outcomes)
        stuck = [outcome.op.old for outcome in outcomes if not outcome.good and isinstance(outcome.op, Rename)]
        # Something kept of that name stands there already, from a try before this one.
        again = (yield Flight([Remove(path) for path in stuck])) if stuck else []
        for outcome in again:
            if outcome.trouble is not Trouble.MISSING:
                need(outcome, self._doing)
        for path in paths:
            there.pop(path, None)

    def _verify(self, note: Note) -> Steps[None]:
        """See that what was moved stands where it belongs; an answer proves nothing."""
        listed = yield from self._list(self.layout.serve, note.moved)
        wrong = [path for path, told in note.moved.items() if not agrees(listed.get(path), told)]
        if wrong:
            raise Incomplete(
                f"{self._doing}: {len(wrong)} files are not there as they were sent ({quote(wrong[0])} first)"
            )

    def _list(self, top: bytes, paths: Iterable[bytes]) -> Steps[dict[bytes, Attributes]]:
        """Return how some files below `top` are listed."""
        above = sorted({path.rpartition(b"/")[0] for path in paths})
        at = {folder: List(top + b"/" + folder if folder else top) for folder in above}
        answers = by_op((yield Flight(list(at.values()))))
        return {
            (folder + b"/" if folder else b"") + name: attributes
            for folder, op in at.items()
            for name, attributes in (answers[op].value or {}).items()
            if answers[op].good
        }

    def finish(self, note: Note) -> Steps[None]:
        """Say that the release is served, then forget the note, then what the moves left empty."""
        answers = by_op((yield Flight(self.layout.look())))
        temp = OWN + b"/temp." + self.name.rpartition(b".")[2] + b".serves"
        made = yield Flight(
            [Remove(temp), put_small(temp, b""), Rename(temp, self.layout.next_note(answers, note.new))], ordered=True
        )
        need(made[1], self._doing)
        need(made[2], self._doing)
        notes = self.layout.old_notes(answers)
        for outcome in (yield Flight(notes)) if notes else []:
            if outcome.trouble is not Trouble.MISSING:
                need(outcome, self._doing)
        # A file that was a link of the one it should replace is not moved by a rename (POSIX): both names stay.
        yield from self.layout.delete(self.staged)
        needed = {*_folders(note.moved), *note.moved}  # a file may stand where a folder was: some servers remove it
        left = [self._served(folder) for folder in reversed(_folders(note.removed)) if folder not in needed]
        # Folders that have become empty go; others stay, since that fails.
        outcomes = yield Flight([*(RemoveFolder(folder) for folder in left), Remove(self.path)], ordered=True)
        if outcomes[-1].trouble is not Trouble.MISSING:
            need(outcomes[-1], self._doing)

    # Back.

    def back(self, note: Note) -> Steps[None]:
        """Put back what was replaced and taken away, take away what was added, and forget the note."""
        staged, there, saved = yield from self._look()
        # First of all the sources go: nothing that is still on its way finds them any more.
        sources = [self._staged(path) for path, told in staged.items() if told.kind is not Kind.FOLDER]
        for outcome in (yield Flight([Remove(path) for path in sources])) if sources else []:
            if outcome.trouble is not Trouble.MISSING:
                need(outcome, self._doing)
        kept = [path for path, told in saved.items() if told.kind is not Kind.FOLDER]
        added = [path for path in note.added if _is_file(there.get(path)) and path not in kept]
        blocking = [p for p in added if p in _folders(kept) or not set(kept).isdisjoint(_folders([p]))]
        yield from self._drop(blocking)
        for path in blocking:
            del there[path]
        for turn in range(_LAST + 1):
            yield from self._restore([path for path in kept if rank(path) == turn], there)
        yield from self._drop(sorted(set(added).difference(blocking), key=lambda path: -rank(path)))
        (outcome,) = yield Flight([Remove(self.path)], ordered=True)
        if outcome.trouble is not Trouble.MISSING:
            need(outcome, self._doing)

    def _restore(self, paths: Sequence[bytes], there: Mapping[bytes, Attributes]) -> Steps[None]:
        if not paths:
            return
        folders = [MakeFolder(self._served(folder)) for folder in _folders(paths) if folder not in there]
        yield Flight(folders, ordered=True)
        yield from self.layout.put_over({self._kept(path): self._served(path) for path in paths}, self._doing)

    def _drop(self, paths: Collection[bytes]) -> Steps[None]:
        if not paths:
            return
        for outcome in (yield Flight([Remove(self._served(path)) for path in paths])):
            if outcome.trouble is not Trouble.MISSING:
                need(outcome, self._doing)
        empty = [RemoveFolder(self._served(folder)) for folder in reversed(_folders(paths))]
        yield Flight(empty, ordered=True)

    def _served(self, path: bytes) -> bytes:
        return self.layout.serve + b"/" + path

    def _staged(self, path: bytes) -> bytes:
        return self.staged + b"/" + path

    def _kept(self, path: bytes) -> bytes:
        return self.undo + b"/" + path


class Incomplete(Unavailable):
    """What was moved does not stand where it was moved to."""


def _is_file(told: Attributes | None) -> bool:
    return told is not None and told.kind is not Kind.FOLDER


def _folders(paths: Iterable[bytes]) -> list[bytes]:
    """Return the folders that files stand in, parents first."""
    return Manifest(dict.fromkeys(paths, Entry(b"", 0, 0))).folders()


def _batches(paths: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest = iter(paths)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


def _card_last(path: bytes) -> tuple[bool, bytes]:
    return path.endswith(b"/" + CARD_NAME), path


def put_small(path: bytes, data: bytes) -> Put:
    """Write a small file of ours that nobody else reads; its mtime is the mirror's own."""
    opened: Callable[[], BytesIO] = lambda: BytesIO(data)  # noqa: E731 (a Put is compared by what it is)
    return Put(path, len(data), None, 0o600, opened)
