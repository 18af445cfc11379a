"""Which release stands in a real folder that readers see, and what did a dead holder leave in the middle?

Where the web server serves a real folder, nothing about the folder says whether mirrord made it, or what it holds: a
card in it could be anybody's copy. So notes say it, and what stands elsewhere:

    <serve>/                    the release that readers see, a real folder
    .mirrord/serves.<n>.<id>    a note, made before readers are led to a release; later notes have greater numbers
    .mirrord/swap.<nonce>/      of the layout `rename`: `new.<id>`, a whole tree that is about to be served, and
                                `old.<id>`, one that was served just now
    .mirrord/moving.<id>.<nonce>, .mirrord/undo.<id>.<nonce>/    of the layout `inplace`, see there

The served release is the one of the latest note whose tree stands nowhere else. So a note may be made before the
switch and the one before it removed after: at every instant between them it is clear what readers see. A note is
removed before a tree of its release is.

Both layouts with a real folder keep the same notes, and each settles what the other left: on one account they can take
turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mirrord.hosts.files import (
    Attributes,
    Create,
    Kind,
    List,
    MakeFolder,
    Op,
    Outcome,
    Remove,
    RemoveFolder,
    Rename,
    Stat,
    Trouble,
)
from mirrord.hosts.layout import (
    RELEASES,
    TRASH,
    Answers,
    Layout,
    by_op,
    denied,
    id_in,
    release_path,
)
from mirrord.hosts.lock import OWN, SWAP
from mirrord.hosts.moving import MOVING, UNDO, Moves
from mirrord.hosts.steps import Flight, Steps, give_up, need
from mirrord.manifest import CLOSED_SET, OWN_FOLDER, SnapshotId, show
from mirrord.plan import Survey

_NOTE = b"serves."
_OLD, _NEW = b"old.", b"new."


def note_of(name: bytes) -> tuple[int, SnapshotId] | None:
    """Read a note's name; None for any other name in `.mirrord/`."""
    if not name.startswith(_NOTE):
        return None
    number, _, text = name.removeprefix(_NOTE).partition(b".")
    release = id_in(text)
    return (int(number), release) if number.isdigit() and len(number) < 16 and release is not None else None


class ServedFolder(Layout):
    """What the layouts have in common whose readers see a real folder."""

    # What is there.

    def look(self) -> list[Op]:
        """Ask what stands where readers look, what the notes say, and what stands elsewhere."""
        return [Stat(self.serve), List(self.serve + b"/" + OWN_FOLDER), List(OWN), List(RELEASES)]

    def look_closer(self, answers: Answers) -> Steps[Answers]:
        """Look into what broken-off switches left, and into a folder of which no note says that it is ours.

        What is ours is not listed: a site may have any number of files.
        """
        swaps = [name for name in self.names(answers, OWN) if name.startswith(SWAP)]
        if swaps:
            answers = {**answers, **by_op((yield Flight([List(OWN + b"/" + name) for name in swaps])))}
        stat = answers[Stat(self.serve)]
        if (
            stat.good
            and stat.value.kind is Kind.FOLDER
            and self._current(answers) is None
            and not self._moving(answers)
        ):
            answers = {**answers, **by_op((yield Flight([List(self.serve)])))}
        return answers

    def served_by(self, answers: Answers) -> SnapshotId | None:
        """Return the release that readers see; raises Braked where it is nobody's of ours."""
        current, obstacle = self.judge(answers)
        if obstacle is not None:
            raise self.foreign(obstacle)
        return current

    def judge(self, answers: Answers) -> tuple[SnapshotId | None, str | None]:
        """Say which release readers see, or what stands there in place of it."""
        stat = answers[Stat(self.serve)]
        denied(stat, answers[List(OWN)], mirror=self.mirror)
        if not stat.good:
            return None, None
        if stat.value.kind is Kind.LINK:
            return None, (
                f"a link stands at {show(self.serve)!r}: the account is laid out as `releases`, and readers follow that"
                f' link. Leave layout = "releases", or take the mirror out of service (`mirrord drain {self.mirror}`),'
                " remove the link there and sync"
            )
        if stat.value.kind is not Kind.FOLDER:
            return None, self.obstacle("a file")
        current = self._current(answers)
        if current is not None or self._moving(answers):
            return current, None
        listed = answers.get(List(self.serve))
        if listed is None or (listed.good and not listed.value):  # not listed: it was empty when it was looked into
            return None, None
        return None, self.obstacle("a real folder that mirrord did not make")

    def _current(self, answers: Answers) -> SnapshotId | None:
        """Return the release of the latest note whose tree stands nowhere else, if what is served is a tree of ours."""
        if CLOSED_SET.isdisjoint(self.names(answers, self.serve + b"/" + OWN_FOLDER)):
            return None
        elsewhere = {id_in(name) for name in self.names(answers, RELEASES)}
        for trees in self._swaps(answers).values():
            elsewhere.update(release for release in trees.values())
        latest = sorted(self._notes(answers).values(), reverse=True)
        return next((release for _, release in latest if release not in elsewhere), None)

    def _notes(self, answers: Answers) -> dict[bytes, tuple[int, SnapshotId]]:
        """Return the notes: name -> (number, release)."""
        return {name: note for name in self.names(answers, OWN) if (note := note_of(name)) is not None}

    def next_note(self, answers: Answers, release: SnapshotId) -> bytes:
        """Name the note that comes after all that stand."""
        number = 1 + max((number for number, _ in self._notes(answers).values()), default=0)
        return OWN + b"/" + _NOTE + b"%d." % number + release.encode()

    def old_notes(self, answers: Answers, but: SnapshotId | None = None) -> list[Op]:
        """Remove the notes that stand; the latest of the release `but` stays."""
        notes = self._notes(answers)
        latest = max(((note, name) for name, note in notes.items() if note[1] == but), default=(None, b""))[1]
        return [Remove(OWN + b"/" + name) for name in sorted(notes) if name != latest]

    def _moving(self, answers: Answers) -> list[bytes]:
        return sorted(name for name in self.names(answers, OWN) if name.startswith(MOVING))

    def _swaps(self, answers: Answers) -> dict[bytes, dict[bytes, SnapshotId]]:
        """Return what stands in the swap folders that were looked into: folder -> name in it -> release."""
        found: dict[bytes, dict[bytes, SnapshotId]] = {}
        for name in self.names(answers, OWN):
            if name.startswith(SWAP) and List(OWN + b"/" + name) in answers:
                inside = self.names(answers, OWN + b"/" + name)
                told = {each: id_in(each.removeprefix(_OLD).removeprefix(_NEW)) for each in inside}
                found[OWN + b"/" + name] = {each: release for each, release in told.items() if release is not None}
        return found

    @staticmethod
    def names(answers: Answers, folder: bytes) -> Mapping[bytes, Attributes]:
        """Return what was listed in a folder; nothing where it cannot be listed."""
        outcome = answers.get(List(folder))
        return outcome.value if outcome is not None and outcome.good else {}

    @staticmethod
    def old_tree(release: SnapshotId) -> bytes:
        """Name a tree in a swap folder that was served just now."""
        return _OLD + release.encode()

    @staticmethod
    def new_tree(release: SnapshotId) -> bytes:
        """Name a tree in a swap folder that is about to be served."""
        return _NEW + release.encode()

    def half_done(self, answers: Answers) -> str | None:
        """Say what was left in the middle."""
        moving = self._moving(answers)
        if moving:
            return (
                f"files of {show(moving[0].removeprefix(MOVING).partition(b'.')[0])} are being moved to where it serves"
            )
        trees = [name for inside in self._swaps(answers).values() for name in inside]
        if trees and not answers[Stat(self.serve)].good:
            return f"a switch was broken off in its middle ({', '.join(sorted(map(show, trees)))}): it serves nothing"
        if any(name.startswith(SWAP) for name in self.names(answers, OWN)):
            return "what a broken-off switch left has to be put away"
        current = self._current(answers)
        if self.old_notes(answers, but=current) if current is not None else False:
            return "notes of an earlier switch have to be put away"
        return None

    def whole(self, releases: Sequence[SnapshotId], current: SnapshotId | None) -> tuple[SnapshotId, ...]:
        """What stands in releases/ is whole, and what is served."""
        return tuple(sorted({*releases, *([current] if current is not None else [])}))

    def stands_at(self, release: SnapshotId, current: SnapshotId | None) -> bytes:
        """The served release stands where readers look, all others in releases/."""
        return self.serve if release == current else release_path(release)

    def litter(self, found: Survey) -> Sequence[bytes]:
        """What would bring back a release that is not the one before the served one."""
        ours = [name for name in found.own if name.startswith(UNDO)]
        return sorted(n for n in ours if id_in(n.removeprefix(UNDO).partition(b".")[0]) != found.current)

    # What was left in the middle.

    def settle(self, found: Survey, nonce: str) -> Steps[None]:  # noqa: ARG002 (what counts is looked at again)
        """Finish or undo what a dead holder left: readers get something whole again before all else."""
        answers = yield from self._look_again()
        for name in self._moving(answers):
            yield from Moves(self, name).settle()
        if self._moving(answers):
            answers = yield from self._look_again()
        swaps = self._swaps(answers)
        if swaps and not answers[Stat(self.serve)].good:
            yield from self._fill_the_hole(swaps, answers)
            answers = yield from self._look_again()
        current = self.served_by(answers)
        yield from self.put_away(answers, current, nonce)

    def _look_again(self) -> Steps[Answers]:
        return (yield from self.look_closer(by_op((yield Flight(self.look())))))

    def _fill_the_hole(self, swaps: Mapping[bytes, Mapping[bytes, SnapshotId]], answers: Answers) -> Steps[None]:
        """Serve what was about to be served, else what was served: both are whole."""
        doing = f"{self.mirror}: finishing a broken-off switch"
        trees = {folder + b"/" + name: release for folder, inside in swaps.items() for name, release in inside.items()}
        noted = {release for _, release in self._notes(answers).values()}
        last: Outcome | None = None
        for tree in sorted(trees, key=lambda path: (not path.rpartition(b"/")[2].startswith(_NEW), path)):
            if trees[tree] not in noted:  # a first release: its tree was there, and its note not yet
                need((yield Flight([Create(self.next_note(answers, trees[tree]), b"")]))[0], doing)
            (last,) = yield Flight([Rename(tree, self.serve)], ordered=True)
            if last.good:
                return
        if last is not None:
            give_up(last, doing)

    def put_away(self, answers: Answers, current: SnapshotId | None, nonce: str) -> Steps[None]:
        """Remove notes of what is not served, bring the trees of a switch to releases/, and remove its folder."""
        doing = f"{self.mirror}: putting away what a switch left"
        for outcome in (yield Flight(self.old_notes(answers, but=current))):
            if outcome.trouble is not Trouble.MISSING:
                need(outcome, doing)
        standing = self.names(answers, RELEASES)
        for folder, trees in self._swaps(answers).items():
            moves: list[Op] = []
            for name, release in trees.items():
                doomed = TRASH + b"/" + name + b"." + nonce.encode()
                moves.append(
                    Rename(folder + b"/" + name, doomed if release.encode() in standing else release_path(release))
                )
            inside = self.names(answers, folder)
            if any(isinstance(op, Rename) and op.new.startswith(TRASH) for op in moves):
                moves.insert(0, MakeFolder(TRASH, 0o700))
            rest = [Remove(folder + b"/" + name) for name in inside if name not in trees]
            for outcome in (yield Flight([*moves, *rest, RemoveFolder(folder)], ordered=True)):
                if isinstance(outcome.op, Rename):
                    need(outcome, doing)
