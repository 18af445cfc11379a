"""The layout `inplace`: how does a release come to readers where nothing but single files can be replaced?

    <serve>/                     the release that readers see, and the only one that is kept
    staging/<id>.<nonce>/        what changed, outside of what is served; verified there
    .mirrord/moving.*, undo.*    see `moving`

Only what changed is sent, and moved file by file in the order that `moving` gives. Readers can see files of two
releases for as long as that takes: it is measured, and part of the result. Where a file can be replaced in one step and
linked, no file is ever missing; elsewhere each is missing for a moment, and the longest of these moments is part of the
result too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mirrord.hosts.files import Create, Kind, Op, Outcome, Put, Remove, Rename, Walk
from mirrord.hosts.layout import STAGING, Turn, Turned, by_op, left_path
from mirrord.hosts.lock import OWN
from mirrord.hosts.moving import MOVING, Moves, Note, put_small
from mirrord.hosts.served import ServedFolder
from mirrord.hosts.steps import Flight, Steps, need
from mirrord.hosts.trees import agrees
from mirrord.manifest import Signed, SnapshotId
from mirrord.plan import Plan


class Inplace(ServedFolder):
    """One folder, whose files are replaced one by one."""

    name = "inplace"
    in_place = True

    def whole(self, releases: Sequence[SnapshotId], current: SnapshotId | None) -> tuple[SnapshotId, ...]:  # noqa: ARG002
        """Only what is served can be served."""
        return (current,) if current is not None else ()

    def beside(self, plan: Plan, signed: Signed) -> Steps[Collection[bytes]]:
        """Return the files that stand where readers see them already, as they should be."""
        same = [path for path, old in plan.link.items() if path == old]
        if plan.base is None or not same:
            return ()
        (walked,) = yield Flight([Walk(self.serve)])
        listed = walked.value if walked.good else {}
        entries = signed.manifest.entries
        return frozenset(p for p in same if agrees(listed.get(p), (entries[p].size, entries[p].mtime)))

    def arm(self, release: SnapshotId, nonce: str) -> list[Op]:  # noqa: ARG002
        """Nothing is made before it is known what is moved."""
        return []

    def disarm(self, nonce: str) -> list[Op]:  # noqa: ARG002
        """There is nothing to take away."""
        return []

    def turn(self, turn: Turn) -> Steps[Turned]:
        """Note what is to be moved, then move it."""
        doing = f"{self.mirror}: switching to {turn.release}"
        look = self.look()
        top = turn.staged or STAGING + b"/" + turn.release.encode() + b"." + turn.nonce.encode()
        outcomes = yield Flight([*look, Walk(top), Walk(self.serve)], ordered=True)
        answers = by_op(outcomes)
        if self.served_by(answers) == turn.release:
            return Turned(already=True)
        self.check_current(outcomes[: len(look)], turn.instead_of)
        staged = need(answers[Walk(top)], doing).value
        walked = answers[Walk(self.serve)]
        there = {p for p, told in (walked.value if walked.good else {}).items() if told.kind is not Kind.FOLDER}
        if turn.instead_of is None and there:
            raise self.foreign(self.obstacle("a real folder that mirrord did not make"))
        moved = {p: (told.size, told.mtime) for p, told in staged.items() if told.kind is Kind.FILE}
        removed = tuple(sorted(there.difference(turn.tree.files)))
        note = Note(turn.instead_of, turn.release, moved, removed, frozenset(moved.keys() - there))
        moves = Moves(self, MOVING + top.removeprefix(STAGING + b"/"))
        temp = OWN + b"/temp." + turn.nonce.encode() + b".moving"
        yield from self._make(put_small(temp, note.text()), doing)
        yield from turn.sure()
        left = [Create(left_path(turn.instead_of, turn.nonce), b"")] if turn.instead_of is not None else []
        *_, outcome = yield Flight([*left, Rename(temp, moves.path)], ordered=True)
        need(outcome, doing)
        yield from moves.run(note, (staged, walked.value if walked.good else {}))
        return Turned(gap=moves.times.gap, mixture=moves.times.mixture)

    def _make(self, put: Put, doing: str) -> Steps[Outcome]:
        yield Flight([Remove(put.path)])
        (outcome,) = yield Flight([put])
        return need(outcome, doing)
