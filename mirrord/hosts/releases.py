"""What stands where in an account of the layout `releases`, and how are readers led from one release to the next?

    releases/<id>/           whole trees; unchanged files are hard links of the release before
    current                  -> releases/<id>, replaced by posix-rename: what readers see
    staging/<id>.<nonce>/    trees in the making; the nonce is the hold's, so no late request of an earlier
                             connection finds its way into the tree of a later one. Other names there are not ours
    .mirrord/lock.<n>        see `lock`
    .mirrord/current.<nonce> the next `current`, for a moment; `temp.<nonce>.*` are files to be posted or mended
    .mirrord/left.<id>       a link made when readers were led away from a release: its mtime tells, by the mirror's
                             own clock, how long it must be kept for those who still read it
    .mirrord/trash/          what is being deleted

What stands in releases/ is whole, always; what stands in staging/ is nobody's but the next holder's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mirrord.errors import Braked, Conflict, Unavailable
from mirrord.hosts import Findings, Known, Pruned
from mirrord.hosts.files import (
    Attributes,
    Kind,
    List,
    MakeFolder,
    Op,
    Outcome,
    Read,
    ReadLink,
    Remove,
    RemoveFolder,
    Rename,
    SetMode,
    Space,
    Stat,
    Symlink,
    Trouble,
    Walk,
)
from mirrord.hosts.lock import OWN, is_temp, is_trial, lock_number
from mirrord.hosts.steps import Flight, Steps, give_up, name_of, need
from mirrord.manifest import (
    CARD_NAME,
    OWN_FOLDER,
    SIGNATURE_SUFFIX,
    Manifest,
    Signed,
    SnapshotId,
    is_snapshot_id,
    show,
)
from mirrord.plan import Survey

RELEASES = b"releases"
STAGING = b"staging"
TRASH = OWN + b"/trash"
CARD = OWN_FOLDER + b"/" + CARD_NAME
SERVED_LATELY = 3600 + 600
"""Seconds for which a release that readers were led away from is kept: an hour, and what a switch may take."""
_LONGEST_CARD = 65536
_LEFT = b"left."


def release_path(release: SnapshotId) -> bytes:
    """Name the folder of a whole release."""
    return RELEASES + b"/" + release.encode()


def staging_path(release: SnapshotId, nonce: str) -> bytes:
    """Name the folder in which a hold makes a release."""
    return STAGING + b"/" + release.encode() + b"." + nonce.encode()


def staged_id(name: bytes) -> SnapshotId | None:
    """Return the snapshot that a name in staging/ is of."""
    return _id(name.partition(b".")[0])


def _id(name: bytes) -> SnapshotId | None:
    text = name.decode("ascii", "replace")
    return SnapshotId(text) if is_snapshot_id(text) else None


def left_path(release: SnapshotId) -> bytes:
    """Name the link that tells when readers were led away from a release."""
    return OWN + b"/" + _LEFT + release.encode()


@dataclass(frozen=True, slots=True)
class Tree:
    """What a whole release looks like in listings: path -> (size, mtime) of files, and folders, parents first."""

    files: Mapping[bytes, tuple[int, int]]
    folders: tuple[bytes, ...]


def own_files(signed: Signed) -> dict[bytes, tuple[bytes, int]]:
    """Return path -> (bytes, mtime) of the files in `.well-known/mirrord/` that a release is staged with."""
    created = int(signed.snapshot.created.timestamp())
    files = {name: (data, created) for name, data in signed.fixed_files().items()}
    files |= {name: (data, signed.signed_at) for name, data in signed.changing_files().items()}
    return {OWN_FOLDER + b"/" + name: told for name, told in files.items()}


def folders_of(manifest: Manifest) -> list[bytes]:
    """Return all folders of a release, parents first."""
    above = [OWN_FOLDER.rpartition(b"/")[0], OWN_FOLDER]
    return sorted({*manifest.folders(), *above})


def tree_of(signed: Signed) -> Tree:
    """Return what the release of a snapshot looks like."""
    files = {path: (entry.size, entry.mtime) for path, entry in signed.manifest.entries.items()}
    files |= {path: (len(data), mtime) for path, (data, mtime) in own_files(signed).items()}
    return Tree(files, tuple(folders_of(signed.manifest)))


def list_tree(top: bytes, folders: Iterable[bytes]) -> list[List]:
    """Ask for a tree whose folders are known: all at once, however deep it is."""
    return [List(top), *(List(top + b"/" + folder) for folder in folders)]


def gather(top: bytes, outcomes: Iterable[Outcome]) -> dict[bytes, Attributes]:
    """Put the answers to `list_tree` together: path below `top` -> attributes.

    What lies behind a link is not part of the tree; a folder that was not asked for is there without its inside.
    """
    listings: dict[bytes, Mapping[bytes, Attributes]] = {
        outcome.op.path: outcome.value for outcome in outcomes if isinstance(outcome.op, List) and outcome.good
    }
    found: dict[bytes, Attributes] = {}
    todo = [b""]
    while todo:
        below = todo.pop()
        prefix = below + b"/" if below else b""
        for name, attributes in listings.get(top + b"/" + below if below else top, {}).items():
            path = prefix + name
            found[path] = attributes
            if attributes.kind is Kind.FOLDER:
                todo.append(path)
    return found


def compare(tree: Tree, found: Mapping[bytes, Attributes]) -> Findings:
    """Say how what was listed differs from what should be there."""
    missing: list[bytes] = []
    different: list[bytes] = []
    for path in tree.folders:
        if path not in found:
            missing.append(path)
        elif found[path].kind is not Kind.FOLDER:
            different.append(path)
    for path, expected in tree.files.items():
        listed = found.get(path)
        if listed is None:
            missing.append(path)
        elif not agrees(listed, expected):
            different.append(path)
    folders = frozenset(tree.folders)
    extra = [path for path in found if path not in tree.files and path not in folders]
    return Findings(tuple(sorted(missing)), tuple(sorted(extra)), tuple(sorted(different)))


def agrees(listed: Attributes | None, expected: tuple[int, int]) -> bool:
    """Tell whether a file is listed with the size and mtime that it should have: the mtime is its commit mark."""
    return listed is not None and listed.kind is Kind.FILE and (listed.size, listed.mtime) == expected


@dataclass(frozen=True, slots=True)
class Layout:
    """One mirror's account: `serve` is the name in it (may be nested) that the web server serves."""

    mirror: str
    serve: bytes

    # What is there.

    def survey(self) -> Steps[Survey]:
        """Look at all that counts, in one flight."""
        card = self.serve + b"/" + CARD
        asked: list[Op] = [
            Stat(b""),
            Stat(self.serve),
            ReadLink(self.serve),
            *(List(path) for path in (RELEASES, STAGING, OWN, TRASH)),
            *(Read(path, _LONGEST_CARD) for path in (card, card + SIGNATURE_SUFFIX)),
            *(Stat(path) for path in self._above_serve()),
            Space(b""),
        ]
        answers = {outcome.op: outcome for outcome in (yield Flight(asked))}
        listed = {path: self._listing(answers[List(path)]) for path in (RELEASES, STAGING, OWN, TRASH)}
        stand = {path for path, names in listed.items() if names is not None}
        stand |= {path for path in (b"", *self._above_serve()) if answers[Stat(path)].good}
        own = listed[OWN] or {}
        current, obstacle = self._served(answers[ReadLink(self.serve)], answers[Stat(self.serve)])
        read = [answers[Read(path, _LONGEST_CARD)] for path in (card, card + SIGNATURE_SUFFIX)]
        texts = [outcome.value if outcome.good and current is not None else None for outcome in read]
        releases = listed[RELEASES] or {}
        left = {_id(name.removeprefix(_LEFT)): a.mtime for name, a in own.items() if name.startswith(_LEFT)}
        return Survey(
            current=current,
            obstacle=obstacle,
            card=texts[0],
            card_sig=texts[1],
            releases=tuple(
                sorted(i for name, a in releases.items() if a.kind is Kind.FOLDER and (i := _id(name)) is not None)
            ),
            staging=tuple(sorted(name for name in listed[STAGING] or {} if staged_id(name) is not None)),
            trash=tuple(sorted(listed[TRASH] or {})),
            free=answers[Space(b"")].value,
            temps=tuple(sorted(name for name in own if is_temp(name) or is_trial(name))),
            locks=tuple(sorted(n for name in own if (n := lock_number(name)) is not None)),
            left={release: mtime for release, mtime in left.items() if release is not None},
            folders=frozenset(stand),
        )

    def served_by(self, outcome: Outcome) -> SnapshotId | None:
        """Return the release that the answer to `ReadLink(serve)` names; raises Braked where it is nobody's of ours."""
        if outcome.trouble is Trouble.MISSING:
            return None
        release = self._release_of(outcome.value) if outcome.good else None
        if release is None:
            raise self._foreign("something that mirrord did not make")
        return release

    def check_current(self, outcome: Outcome, expected: SnapshotId | None) -> SnapshotId | None:
        """Return what is served; raises Conflict where it is not `expected`."""
        current = self.served_by(outcome)
        if current != expected:
            raise Conflict(
                f"{self.mirror}: publishing: it serves {current or 'nothing'}, not {expected or 'nothing'} as the plan"
                " says; somebody else published there meanwhile, run it again to plan anew",
                found=current,
            )
        return current

    def _served(self, link: Outcome, stat: Outcome) -> tuple[SnapshotId | None, str | None]:
        if link.good:
            release = self._release_of(link.value)
            return release, None if release else self._obstacle(f"a link to {show(link.value)!r}")
        if stat.good and stat.value.kind is not Kind.LINK:
            return None, self._obstacle("a real folder" if stat.value.kind is Kind.FOLDER else "a file")
        if Trouble.DENIED in (link.trouble, stat.trouble):
            give_up(link, f"{self.mirror}: looking")
        return None, None

    def _release_of(self, target: bytes) -> SnapshotId | None:
        up = self.link_to(SnapshotId(""))
        return _id(target.removeprefix(up)) if target.startswith(up) else None

    def link_to(self, release: SnapshotId) -> bytes:
        """Write the target of `serve`: relative, since an account may be locked into a folder."""
        return b"../" * self.serve.count(b"/") + release_path(release)

    def _obstacle(self, what: str) -> str:
        return (
            f"{what} stands at {show(self.serve)!r}, where mirrord would put its link; adopt it first: move it away"
            " (its content comes back with the first release) or set another `serve`"
        )

    def _foreign(self, what: str) -> Braked:
        return Braked(f"{self.mirror}: publishing: {self._obstacle(what)}", brake="adopt")

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

    # How readers are led on.

    def switch_link(self, nonce: str) -> bytes:
        """Name the next `serve` while it is nobody's yet."""
        return OWN + b"/current." + nonce.encode()

    def arm(self, release: SnapshotId, nonce: str) -> list[Op]:
        """Make the next `serve`, in order; the lock has to be read after this and before `fire`."""
        return [Remove(self.switch_link(nonce)), Symlink(self.link_to(release), self.switch_link(nonce))]

    def bring_in(
        self, release: SnapshotId, staged: bytes | None, instead_of: SnapshotId | None, nonce: str
    ) -> Steps[Outcome]:
        """Make the staged tree a release, and note that readers are about to leave another; return what is served."""
        look: list[Op] = [ReadLink(self.serve)]
        moves: list[Op] = []
        if staged is not None:
            moves = [SetMode(staged, 0o755), Rename(staged, release_path(release))]
        notes: list[Op] = []
        if instead_of is not None:
            temp = OWN + b"/temp." + nonce.encode() + b".left"
            notes = [Symlink(b"../" + release_path(instead_of), temp), Rename(temp, left_path(instead_of), over=True)]
        outcomes = yield Flight([*look, *moves, *notes], ordered=True)
        for outcome in outcomes[1:]:
            if outcome.trouble in (Trouble.EXISTS, Trouble.FAILED) and isinstance(outcome.op, Rename):
                raise Unavailable(
                    f"{self.mirror}: publishing {release}: renaming {name_of(outcome.op)}: the server says"
                    f" {outcome.text!r}; the next try looks again"
                )
            need(outcome, f"{self.mirror}: publishing {release}")
        return outcomes[0]

    def fire(self, release: SnapshotId, nonce: str, last: Sequence[Op] = ()) -> Steps[list[Outcome]]:
        """Replace `serve` by the armed link: the moment in which readers see the new release, whole.

        `last` is done afterwards, in the same flight, however the switch ended; its outcomes are returned.
        """
        doing = f"{self.mirror}: switching to {release}"
        switched, read, *rest = yield Flight(
            [Rename(self.switch_link(nonce), self.serve, over=True), ReadLink(self.serve), *last], ordered=True
        )
        if read.good and read.value == self.link_to(release):
            return rest
        self.served_by(read)  # a real folder, say, that came meanwhile: adopt it first
        if not switched.good:
            give_up(switched, doing)
        raise Unavailable(f"{doing}: afterwards it served {show(read.value or b'nothing')}; the next try looks again")

    # What is dropped.

    def prunable(self, found: Survey, keep: Collection[SnapshotId], now: int) -> list[SnapshotId]:
        """Return the releases that nobody wants: not kept, not served, and not served lately.

        `now` is by the mirror's clock and never late. A note from the far future comes from a clock that was wrong.
        """
        lately = {release for release, when in found.left.items() if abs(now - when) < SERVED_LATELY}
        return [i for i in found.releases if i not in keep and i != found.current and i not in lately]

    def clean(
        self, found: Survey, drop: Sequence[SnapshotId], leave: Collection[bytes], nonce: str, known: Known
    ) -> Steps[Pruned]:
        """Drop releases, and all that broken-off tries left but the trees `leave` in staging/.

        Everything leaves its place by one rename before it is deleted, so nothing is ever half a release.
        """
        doing = f"{self.mirror}: cleaning up"
        mark = b"." + nonce.encode()
        doomed: dict[bytes, SnapshotId | None] = dict.fromkeys(found.trash)
        renames: list[Op] = []
        for release in drop:
            doomed[release.encode() + mark] = release
            renames.append(Rename(release_path(release), TRASH + b"/" + release.encode() + mark))
            renames.append(Remove(left_path(release)))
        for name in found.staging:
            if name not in leave:
                doomed[b"staged." + name + mark] = None
                renames.append(Rename(STAGING + b"/" + name, TRASH + b"/staged." + name + mark))
        stale = [release for release in found.left if release not in found.releases and release != found.current]
        renames += [Remove(left_path(release)) for release in stale]
        for name in found.temps:
            if is_trial(name):
                doomed[name + mark] = None
                renames.append(Rename(OWN + b"/" + name, TRASH + b"/" + name + mark))
            else:
                renames.append(Remove(OWN + b"/" + name))
        if not doomed and not renames:
            return Pruned()
        outcomes = yield Flight([*self.missing_folders(found, OWN, TRASH), *renames], ordered=True)
        moved = {outcome.op.old: outcome for outcome in outcomes if isinstance(outcome.op, Rename)}
        failed = {show(old): o.text for old, o in moved.items() if o.trouble not in (None, Trouble.MISSING)}
        for name, was in doomed.items():
            why = yield from self._delete(TRASH + b"/" + name, known(was) if was is not None else None)
            if why is not None:
                failed[show(TRASH + b"/" + name)] = f"{doing}: {why}"
        return Pruned(tuple(release for release in drop if moved[release_path(release)].good), failed)

    def _delete(self, top: bytes, manifest: Manifest | None) -> Steps[str | None]:
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

    # The files that change.

    def post(self, release: SnapshotId, temps: Mapping[bytes, bytes]) -> Steps[None]:
        """Rename finished files (temp -> name in `.well-known/mirrord/`) into a release."""
        folder = release_path(release) + b"/" + OWN_FOLDER
        above = folder.rpartition(b"/")[0]
        renames = [Rename(temp, folder + b"/" + name, over=True) for temp, name in temps.items()]
        for outcome in (yield Flight([MakeFolder(above), MakeFolder(folder), *renames], ordered=True)):
            need(outcome, f"{self.mirror}: posting into {release}")


def _forget(_: Outcome) -> None:
    """What could not be removed is seen when its folder does not go away."""
