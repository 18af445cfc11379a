"""What do all layouts have in common, and what does each decide for itself?

Every layout stands on the same ground in a mirror's account:

    releases/<id>/           whole trees that are not served, or not by this name
    staging/<id>.<nonce>/    trees in the making; the nonce is the hold's, so no late request of an earlier
                             connection finds its way into the tree of a later one. Other names there are not ours
    .mirrord/lock.<n>        see `lock`
    .mirrord/temp.<nonce>.*  files to be posted or mended, for a moment
    .mirrord/left.<id>       notes that readers were led away from a release: their mtime tells, by the mirror's own
                             clock, how long it must be kept for those who still read it
    .mirrord/trash/          what is being deleted

What stands in releases/ is whole, always; what stands in staging/ is nobody's but the next holder's.

What stands where the web server looks, how anybody tells which release it is, how readers are led to the next one,
and what is left to settle where that was broken off: that is each layout's own affair (`releases`, `renaming`,
`inplace`). Which one an account has is decided in `host`, from what stands there and what `choosing` says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mirrord.errors import Braked, Conflict
from mirrord.hosts import Known, Pruned
from mirrord.hosts.exhibit import exhibits_of
from mirrord.hosts.files import (
    Attributes,
    Kind,
    List,
    MakeFolder,
    Op,
    Outcome,
    Read,
    Remove,
    RemoveFolder,
    Rename,
    Space,
    Stat,
    Traits,
    Trouble,
    Walk,
)
from mirrord.hosts.lock import OWN, is_temp, is_trial, lock_number
from mirrord.hosts.steps import Flight, Steps, give_up, need
from mirrord.hosts.trees import Tree, folders_of, gather, list_tree
from mirrord.manifest import (
    CARD_NAME,
    OWN_FOLDER,
    PREVIOUS,
    SIGNATURE_SUFFIX,
    Manifest,
    Signed,
    SnapshotId,
    is_snapshot_id,
    show,
)
from mirrord.plan import Plan, Survey

RELEASES = b"releases"
STAGING = b"staging"
TRASH = OWN + b"/trash"
CARD = OWN_FOLDER + b"/" + CARD_NAME
SERVED_LATELY = 3600 + 600
"""Seconds for which a release that readers were led away from is kept: an hour, and what a switch may take."""
_LONGEST_CARD = 65536
_LEFT = b"left."

Answers = Mapping[Op, Outcome]
"""What was asked -> what was answered."""


def release_path(release: SnapshotId) -> bytes:
    """Name the folder of a whole release."""
    return RELEASES + b"/" + release.encode()


def staging_path(release: SnapshotId, nonce: str) -> bytes:
    """Name the folder in which a hold makes a release."""
    return STAGING + b"/" + release.encode() + b"." + nonce.encode()


def staged_id(name: bytes) -> SnapshotId | None:
    """Return the snapshot that a name in staging/ is of."""
    return id_in(name.partition(b".")[0])


def id_in(name: bytes) -> SnapshotId | None:
    """Return a snapshot's id, None where the text is none."""
    text = name.decode("ascii", "replace")
    return SnapshotId(text) if is_snapshot_id(text) else None


def left_path(release: SnapshotId, nonce: str = "") -> bytes:
    """Name the note that tells when readers were led away from a release; any number of them may stand."""
    return OWN + b"/" + _LEFT + release.encode() + (b"." + nonce.encode() if nonce else b"")


def _left_notes(own: Mapping[bytes, Attributes]) -> dict[SnapshotId, int]:
    """Return when readers were last led away from each release."""
    left: dict[SnapshotId, int] = {}
    for name, attributes in own.items():
        release = id_in(name.removeprefix(_LEFT).partition(b".")[0]) if name.startswith(_LEFT) else None
        if release is not None:
            left[release] = max(attributes.mtime, left.get(release, 0))
    return left


@dataclass(frozen=True, slots=True)
class Turn:
    """What is to happen when readers are led on."""

    release: SnapshotId
    staged: bytes | None
    """Where the inspected tree stands in staging/; None where it is a release already."""
    instead_of: SnapshotId | None
    nonce: str
    tree: Tree
    """What is to stand where readers look, in the end."""
    sure: Callable[[], Steps[None]]
    """Asks whether the lock is still ours."""
    last: Sequence[Op] = ()
    """To be done after the switch, in the same flight where the layout has such a flight; never before it."""


@dataclass(frozen=True, slots=True)
class Turned:
    """How readers were led on."""

    already: bool = False
    """The release was served; nothing was done."""
    last: Sequence[Outcome] = ()
    """What became of `Turn.last`; empty where it was left to the caller."""
    gap: float = 0.0
    """Seconds for which readers were given nothing, as seen from here; the longest for any one file."""
    mixture: float = 0.0
    """Seconds in which they could see files of two releases, as seen from here."""


class Layout(ABC):
    """One mirror's account: `serve` is the name in it (may be nested) that the web server serves.

    Verbs that return `Steps` ask for work and do none. Any subset of one unordered flight must be a state that a crash
    may leave, and so must the beginning of every ordered one, with any of its operations refused.
    """

    name: ClassVar[str]
    in_place: ClassVar[bool] = False
    """Whether files are replaced one by one where readers see them, so that what stays there is not laid out."""

    def __init__(self, mirror: str, serve: bytes, traits: Traits) -> None:
        """`mirror` is its name, for messages."""
        self.mirror = mirror
        self.serve = serve
        self.traits = traits

    # What each layout decides.

    @abstractmethod
    def look(self) -> list[Op]:
        """Ask which release is served: short, since it is asked again just before anything changes."""

    @abstractmethod
    def served_by(self, answers: Answers) -> SnapshotId | None:
        """Tell it from the answers to `look`; raises Braked where what is served is nobody's of ours."""

    @abstractmethod
    def judge(self, answers: Answers) -> tuple[SnapshotId | None, str | None]:
        """Tell from the answers to `look` what is served, or else why nothing can be (an obstacle, for people)."""

    @abstractmethod
    def half_done(self, answers: Answers) -> str | None:
        """Say what a dead holder left in the middle, for people: `settle` is wanted. None where all is well."""

    @abstractmethod
    def settle(self, found: Survey, nonce: str) -> Steps[None]:
        """Finish or undo what `half_done` found, under the lock."""

    @abstractmethod
    def whole(self, releases: Sequence[SnapshotId], current: SnapshotId | None) -> tuple[SnapshotId, ...]:
        """Return the releases that stand whole, oldest first, of those in releases/ and the one that is served."""

    @abstractmethod
    def stands_at(self, release: SnapshotId, current: SnapshotId | None) -> bytes:
        """Name the folder in which a whole release stands while `current` is served."""

    @abstractmethod
    def beside(self, plan: Plan, signed: Signed) -> Steps[Collection[bytes]]:
        """Return the files that stand already where readers will find them, and need not be laid out."""

    @abstractmethod
    def arm(self, release: SnapshotId, nonce: str) -> list[Op]:
        """Make what the switch needs, in order; the lock has to be read after this and before `turn`."""

    @abstractmethod
    def disarm(self, nonce: str) -> list[Op]:
        """Take away what `arm` made and no switch used."""

    @abstractmethod
    def turn(self, turn: Turn) -> Steps[Turned]:
        """Lead readers on. Raises Conflict where another release is served than the turn says."""

    @abstractmethod
    def litter(self, found: Survey) -> Sequence[bytes]:
        """Name what else in `.mirrord/` nobody needs any more, `found.current` being served."""

    # What is there.

    def questions(self) -> list[Op]:
        """Ask for all that counts, in one flight."""
        card = self.serve + b"/" + CARD
        asked: list[Op] = [
            Stat(b""),
            *(List(path) for path in (RELEASES, STAGING, OWN, TRASH, self._previous())),
            *(Read(path, _LONGEST_CARD) for path in (card, card + SIGNATURE_SUFFIX)),
            *(Stat(path) for path in self._above_serve()),
            Space(b""),
        ]
        return list(dict.fromkeys((*asked, *self.look())))

    def survey(self, answers: Answers | None = None) -> Steps[Survey]:
        """Look at all that counts; `answers` are those to `questions`, where they were asked already."""
        if answers is None:
            answers = by_op((yield Flight(self.questions())))
        card = self.serve + b"/" + CARD
        listed = {path: self._listing(answers[List(path)]) for path in (RELEASES, STAGING, OWN, TRASH)}
        stand = {path for path, names in listed.items() if names is not None}
        stand |= {path for path in (b"", *self._above_serve()) if answers[Stat(path)].good}
        own = listed[OWN] or {}
        answers = yield from self.look_closer(answers)
        current, obstacle = self.judge(answers)
        read = [answers[Read(path, _LONGEST_CARD)] for path in (card, card + SIGNATURE_SUFFIX)]
        texts = [outcome.value if outcome.good and current is not None else None for outcome in read]
        releases = listed[RELEASES] or {}
        return Survey(
            current=current,
            obstacle=obstacle,
            card=texts[0],
            card_sig=texts[1],
            releases=self.whole(
                sorted(i for name, a in releases.items() if a.kind is Kind.FOLDER and (i := id_in(name)) is not None),
                current,
            ),
            staging=tuple(sorted(name for name in listed[STAGING] or {} if staged_id(name) is not None)),
            trash=tuple(sorted(listed[TRASH] or {})),
            free=answers[Space(b"")].value,
            temps=tuple(sorted(name for name in own if is_temp(name) or is_trial(name))),
            locks=tuple(sorted(n for name in own if (n := lock_number(name)) is not None)),
            left=_left_notes(own),
            folders=frozenset(stand),
            half=self.half_done(answers) if obstacle is None else None,
            previous=tuple(sorted(answers[List(self._previous())].value or {})) if current is not None else (),
            own=frozenset(own),
            layout=self.name,
        )

    def _previous(self) -> bytes:
        return self.serve + b"/" + PREVIOUS

    @abstractmethod
    def look_closer(self, answers: Answers) -> Steps[Answers]:
        """Ask for more where the answers to `questions` show that something was left in the middle."""

    def check_current(self, outcomes: Iterable[Outcome], expected: SnapshotId | None) -> SnapshotId | None:
        """Return what the answers to `look` say is served; raises Conflict where it is not `expected`."""
        current = self.served_by(by_op(outcomes))
        if current != expected:
            raise Conflict(
                f"{self.mirror}: publishing: it serves {current or 'nothing'}, not {expected or 'nothing'} as the plan"
                " says; somebody else published there meanwhile, run it again to plan anew",
                found=current,
            )
        return current

    def obstacle(self, what: str) -> str:
        """Say that something foreign stands where mirrord would serve from."""
        return (
            f"{what} stands at {show(self.serve)!r}, where mirrord would put its own; adopt it first: move it away"
            " (its content comes back with the first release) or set another `serve`"
        )

    def foreign(self, why: str) -> Braked:
        """Refuse to touch it."""
        return Braked(f"{self.mirror}: publishing: {why}", brake="adopt")

    def _above_serve(self) -> list[bytes]:
        names = self.serve.split(b"/")
        return [b"/".join(names[:depth]) for depth in range(1, len(names))]

    def _listing(self, outcome: Outcome) -> Mapping[bytes, Attributes] | None:
        if outcome.trouble is Trouble.MISSING:
            return None
        found: Mapping[bytes, Attributes] = need(outcome, f"{self.mirror}: looking").value
        return found

    def missing_folders(self, found: Survey, *needed: bytes) -> list[MakeFolder]:
        """Make those of our folders that do not stand: never touch the mode of one that is not ours alone."""
        modes = {STAGING: 0o700, OWN: 0o700, TRASH: 0o700}
        wanted = [b"", *self._above_serve(), *needed]
        return [MakeFolder(path, modes.get(path, 0o755)) for path in wanted if path not in found.folders]

    # The files that change, and those that are mended.

    def put_over(self, moves: Mapping[bytes, bytes], doing: str) -> Steps[None]:
        """Rename finished files (temporary name -> path) over those that stand there, or stand not."""
        if self.traits.replace:
            flight = Flight([Rename(temp, path, over=True) for temp, path in moves.items()])
        else:
            pairs: list[Op] = []
            for temp, path in moves.items():
                pairs += [Remove(path), Rename(temp, path)]
            flight = Flight(pairs, ordered=True)
        for outcome in (yield flight):
            if not isinstance(outcome.op, Remove):
                need(outcome, doing)

    def post(self, current: SnapshotId, temps: Mapping[bytes, bytes]) -> Steps[None]:
        """Rename finished files (temporary name -> name in `.well-known/mirrord/`) into what is served."""
        doing = f"{self.mirror}: posting into {current}"
        folder = self.stands_at(current, current) + b"/" + OWN_FOLDER
        moves = {temp: folder + b"/" + name for temp, name in temps.items()}
        folders = [MakeFolder(folder.rpartition(b"/")[0]), MakeFolder(folder)]
        if self.traits.replace:
            renames = [Rename(temp, path, over=True) for temp, path in moves.items()]
            for outcome in (yield Flight([*folders, *renames], ordered=True)):
                need(outcome, doing)
            return
        for outcome in (yield Flight(folders, ordered=True)):
            need(outcome, doing)
        yield from self.put_over(moves, doing)

    # What is dropped.

    def prunable(self, found: Survey, keep: Collection[SnapshotId], now: int) -> list[SnapshotId]:
        """Return the releases that nobody wants: not kept, not served, and not served lately.

        `now` is by the mirror's clock and never late. A note from the far future comes from a clock that was wrong.
        """
        lately = {release for release, when in found.left.items() if abs(now - when) < SERVED_LATELY}
        return [i for i in found.releases if i not in keep and i != found.current and i not in lately]

    def clean(
        self,
        found: Survey,
        drop: Sequence[SnapshotId],
        leave: Collection[bytes],
        nonce: str,
        known: Known,
        noted: Collection[SnapshotId] = (),
    ) -> Steps[Pruned]:
        """Drop releases, and all that broken-off tries left but the trees `leave` in staging/.

        When readers were led away from the releases `noted` is still asked for, whether they stand or not.

        Everything leaves its place by one rename before it is deleted, so nothing is ever half a release. Where folders
        cannot be renamed there are no releases, and what is left is deleted where it stands.
        """
        doing = f"{self.mirror}: cleaning up"
        mark = b"." + nonce.encode()
        away: dict[bytes, bytes] = {}
        for release in drop:
            away[release_path(release)] = release.encode() + mark
        away |= {STAGING + b"/" + name: b"staged." + name + mark for name in found.staging if name not in leave}
        trials = [name for name in found.temps if is_trial(name)]
        away |= {exhibits_of(name): exhibits_of(name) + mark for name in trials}
        away |= {OWN + b"/" + name: name + mark for name in (*trials, *self.litter(found))}
        stale = [release for release in found.left if release not in found.releases and release != found.current]
        over = {*drop, *stale}.difference(noted)
        notes = [name for name in found.own if name.startswith(_LEFT) and _left_of(name) in over]
        removals: list[Op] = [Remove(OWN + b"/" + name) for name in (*notes, *found.temps) if not is_trial(name)]
        if not away and not found.trash and not removals:
            return Pruned()
        renames = [Rename(old, TRASH + b"/" + new) for old, new in away.items()] if self.traits.rename_folder else []
        folders = self.missing_folders(found, OWN, TRASH)
        outcomes = yield Flight([*folders, *renames, *removals], ordered=True)
        moved = {outcome.op.old: outcome for outcome in outcomes if isinstance(outcome.op, Rename)}
        failed = {show(old): o.text for old, o in moved.items() if o.trouble not in (None, Trouble.MISSING)}
        doomed: dict[bytes, SnapshotId | None] = {TRASH + b"/" + name: None for name in found.trash}
        for old, new in away.items():
            doomed[TRASH + b"/" + new if old in moved else old] = id_in(old.rpartition(b"/")[2])
        for path, was in doomed.items():
            why = yield from self.delete(path, known(was) if was is not None else None)
            if why is not None:
                failed[show(path)] = f"{doing}: {why}"
        return Pruned(tuple(release for release in drop if moved[release_path(release)].good), failed)

    def delete(self, top: bytes, manifest: Manifest | None = None) -> Steps[str | None]:
        """Delete a tree; say why where it does not go away.

        Everything is listed before it is removed: what lies behind a link that somebody put there is not ours. The
        folders of a known release are listed at once, others level by level.
        """
        if manifest is not None:
            outcomes = yield Flight(list_tree(top, folders_of(manifest)))
            if any(outcome.op == List(top) and outcome.trouble is Trouble.MISSING for outcome in outcomes):
                return None
            left = yield from self._delete_listed(top, gather(top, outcomes))
            if left.good:
                return None
        answers = {type(outcome.op): outcome for outcome in (yield Flight((Stat(top), Walk(top))))}
        stat, walked = answers[Stat], answers[Walk]
        if stat.trouble is Trouble.MISSING:
            return None
        if stat.good and stat.value.kind is not Kind.FOLDER:
            (left,) = yield Flight((Remove(top),))
        else:
            left = yield from self._delete_listed(top, walked.value or {})
        return None if left.good else left.text or "it does not go away"

    def _delete_listed(self, top: bytes, found: Mapping[bytes, Attributes]) -> Steps[Outcome]:
        inside = sorted(found, reverse=True)
        files = [top + b"/" + path for path in inside if found[path].kind is not Kind.FOLDER]
        folders = [top + b"/" + path for path in inside if found[path].kind is Kind.FOLDER]
        if files:
            yield Flight((Remove(path) for path in files), each=_forget)
        outcomes = yield Flight([RemoveFolder(path) for path in (*folders, top)], ordered=True)
        return outcomes[-1]


def by_op(outcomes: Iterable[Outcome]) -> Answers:
    """Look answers up by what was asked."""
    return {outcome.op: outcome for outcome in outcomes}


def denied(*outcomes: Outcome, mirror: str) -> None:
    """Raise Refused where we may not even look."""
    for outcome in outcomes:
        if outcome.trouble is Trouble.DENIED:
            give_up(outcome, f"{mirror}: looking")


def _left_of(name: bytes) -> SnapshotId | None:
    return id_in(name.removeprefix(_LEFT).partition(b".")[0])


def _forget(_: Outcome) -> None:
    """What could not be removed is seen when its folder does not go away."""
