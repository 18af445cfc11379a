"""The layout `rename`: how are readers led from one whole release to the next where there is no link to replace?

    <serve>/                the served release itself; all others stand in releases/
    .mirrord/swap.<nonce>/  for the time of a switch: `new.<id>` waits there, `old.<id>` is moved there

The switch is two renames of folders, sent in one flight: the served tree out of the way, the new one in its place.
Between them readers find nothing for a moment (never a mixture): on servers that do one request after the other about
as long as a rename takes, on others one round trip. Its length, as seen from here, is part of the result.

Both trees are moved by way of a folder that is the hold's own. Who takes the lock over renames that folder, and nothing
that a deposed holder still has on its way finds it any more; then the hole is filled, if there is one (`served`).
"""

from __future__ import annotations

from collections.abc import Collection

from mirrord.errors import Refused, Unavailable
from mirrord.hosts.files import (
    Create,
    Kind,
    List,
    MakeFolder,
    Op,
    Outcome,
    Remove,
    RemoveFolder,
    Rename,
    SetMode,
    Stat,
)
from mirrord.hosts.layout import Answers, Turn, Turned, by_op, left_path, release_path
from mirrord.hosts.lock import OWN, SWAP
from mirrord.hosts.served import ServedFolder
from mirrord.hosts.steps import Flight, Steps, give_up, need
from mirrord.manifest import CLOSED_SET, OWN_FOLDER, Signed, SnapshotId, show
from mirrord.plan import Plan


class Renaming(ServedFolder):
    """Whole trees; the served one is the served folder."""

    name = "rename"

    def beside(self, plan: Plan, signed: Signed) -> Steps[Collection[bytes]]:  # noqa: ARG002
        """A release is a tree of its own: everything is laid out."""
        yield from ()
        return ()

    def arm(self, release: SnapshotId, nonce: str) -> list[Op]:  # noqa: ARG002
        """Make the folder by way of which the trees will go."""
        return [MakeFolder(_swap(nonce), 0o700)]

    def disarm(self, nonce: str) -> list[Op]:
        """Remove it; where something stands in it, the next holder settles that."""
        return [RemoveFolder(_swap(nonce))]

    def turn(self, turn: Turn) -> Steps[Turned]:
        """Bring the staged tree near, note what is about to be served, then swap."""
        look = self.look()
        swap, doing = _swap(turn.nonce), f"{self.mirror}: switching to {turn.release}"
        notes = [Create(swap + b"/note", b"")]
        if turn.instead_of is not None:
            notes.append(Create(swap + b"/left", b""))
        outcomes = yield Flight([*look, *notes], ordered=True)
        answers = by_op(outcomes[: len(look)])
        if self.served_by(answers) == turn.release:
            yield Flight([Remove(note.path) for note in notes])
            return Turned(already=True)
        self.check_current(outcomes[: len(look)], turn.instead_of)
        for outcome in outcomes[len(look) :]:
            need(outcome, doing)
        yield from self._bring_near(turn, answers, doing)
        gap = yield from self._swap_trees(turn, doing)
        answers = yield from self.look_closer(by_op((yield Flight(look))))
        yield from self.put_away(answers, turn.release, turn.nonce)
        return Turned(gap=gap)

    def _bring_near(self, turn: Turn, answers: Answers, doing: str) -> Steps[None]:
        """Move the tree into the swap folder; only when it stands there, note that it is about to be served."""
        swap, new = _swap(turn.nonce), self.new_tree(turn.release)
        moves: list[Op] = [Rename(turn.staged or release_path(turn.release), swap + b"/" + new)]
        if turn.staged is not None:
            moves.insert(0, SetMode(turn.staged, 0o755))
        if turn.instead_of is not None:
            moves.append(Rename(swap + b"/left", left_path(turn.instead_of, turn.nonce)))
        for outcome in (yield Flight(moves, ordered=True)):
            need(outcome, doing)
        (outcome,) = yield Flight([Rename(swap + b"/note", self.next_note(answers, turn.release))], ordered=True)
        need(outcome, doing)

    def _swap_trees(self, turn: Turn, doing: str) -> Steps[float]:
        """Lead readers on; return for how long they found nothing. What goes wrong is undone at once."""
        swap, own = _swap(turn.nonce), self.serve + b"/" + OWN_FOLDER
        new = swap + b"/" + self.new_tree(turn.release)
        old = swap + b"/" + self.old_tree(turn.instead_of) if turn.instead_of is not None else None
        # An empty folder may stand where nothing is served yet; one that is not empty does not go away by this.
        away: Op = Rename(self.serve, old) if old is not None else RemoveFolder(self.serve)
        look: list[Op] = [Stat(self.serve), List(swap), List(own), *([List(old + b"/" + OWN_FOLDER)] if old else [])]
        went, came, *seen = yield Flight([away, Rename(new, self.serve), *look], ordered=True)
        answers = by_op(seen)
        if old is not None and old.rpartition(b"/")[2] in self.names(answers, swap):
            if CLOSED_SET.isdisjoint(self.names(answers, old + b"/" + OWN_FOLDER)):
                yield Flight([Rename(self.serve, new), Rename(old, self.serve)], ordered=True)
                raise self.foreign(self.obstacle("something that mirrord did not make"))
            if not answers[Stat(self.serve)].good:
                (back,) = yield Flight([Rename(old, self.serve)], ordered=True)
                need(back, f"{doing}: going back after {came.text!r}")
                give_up(came, doing)
        if self._is_served(answers, swap, turn.release, own):
            return max(0.0, came.at - went.at) if old is not None else 0.0
        raise self._why_not(went, came, answers, doing)

    def _is_served(self, answers: Answers, swap: bytes, release: SnapshotId, own: bytes) -> bool:
        """Tell whether readers see the new tree: an answer proves nothing, what stands where does."""
        stat = answers[Stat(self.serve)]
        gone = answers[List(swap)].good and self.new_tree(release) not in self.names(answers, swap)
        ours = not CLOSED_SET.isdisjoint(self.names(answers, own))
        return bool(stat.good and stat.value.kind is Kind.FOLDER and gone and ours)

    def _why_not(self, went: Outcome, came: Outcome, answers: Answers, doing: str) -> Exception:
        stat = answers[Stat(self.serve)]
        if stat.good and stat.value.kind is not Kind.FOLDER:
            return self.foreign(self.obstacle("something that mirrord did not make"))
        if isinstance(went.op, RemoveFolder) and stat.good:
            return Refused(
                f"{doing}: the folder {show(self.serve)!r} cannot be replaced: the server says {went.text!r}. If it is"
                ' not empty, adopt it first: move it away; if the hoster keeps it there, set layout = "inplace"'
            )
        if not went.good and isinstance(went.op, Rename):
            return Refused(
                f"{doing}: the folder {show(self.serve)!r} cannot be renamed: the server says {went.text!r}; if the"
                ' hoster does not allow it, set layout = "inplace"'
            )
        return Unavailable(
            f"{doing}: afterwards it did not serve it ({came.text or 'no reason given'}); the next try looks again"
        )


def _swap(nonce: str) -> bytes:
    return OWN + b"/" + SWAP + nonce.encode()
