"""Which files of earlier releases linger beside a new one, where do they come from, and how do they go?

    <release>/<path>                               an asset of an earlier release that this one does not have
    <release>/.well-known/mirrord/previous/<id>/   what was signed of the release <id> whose assets linger: by it anyone
                                                   tells them from files that do not belong there

They are part of the tree that is staged, so that readers get them with the switch. The releases are those that readers
were led away from within the time of grace, by the mirror's own clock. When that is over the files go first, and only
then what excuses them, by one rename: at no moment an extra file stands there without its excuse. What cannot be had
any more is left out: a lingering file is a kindness, and no publish fails for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mirrord.assets import is_page, lingering
from mirrord.hosts import Linger
from mirrord.hosts.files import Attributes, Kind, Link, Op, Outcome, Put, Remove, RemoveFolder, Rename, Trouble
from mirrord.hosts.steps import Flight, Steps, need
from mirrord.hosts.trees import Expected, Tree, agrees, own_files, sizes_of, tree_of
from mirrord.manifest import MANIFEST_NAME, OWN_FOLDER, PREVIOUS, SIGNATURE_SUFFIX, Entry, Manifest, Signed, SnapshotId
from mirrord.plan import Plan, Survey


@dataclass(frozen=True)
class Lingering:
    """The files that linger beside the files of one release."""

    entries: Mapping[bytes, Entry]
    """Path -> what it was in the earlier release."""
    owners: Mapping[bytes, SnapshotId]
    """Path -> the earlier release."""
    own: Mapping[bytes, tuple[bytes, int]]
    """Path -> (bytes, mtime) of what was signed of the earlier releases."""

    @property
    def folders(self) -> list[bytes]:
        """All folders that these files need, parents before children."""
        return Manifest({path: Entry(b"", 0, 0) for path in (*self.entries, *self.own)}).folders()

    def beside(self, tree: Tree) -> Tree:
        """Return what a release looks like with these."""
        files = Expected(tree.files, sizes_of(self.own), self.entries)
        return Tree(files, tuple(sorted({*tree.folders, *self.folders})))

    def excuse(self, tree: Tree, stands: Mapping[bytes, Attributes]) -> tuple[Tree, dict[bytes, Attributes]]:
        """Return what must stand in a served release, and what stands there without the files that may linger."""
        right = {path for path, entry in self.entries.items() if agrees(stands.get(path), (entry.size, entry.mtime))}
        mine = Lingering({path: self.entries[path] for path in right}, self.owners, self.own)
        must = Lingering({}, self.owners, self.own).beside(tree)
        folders = tuple(sorted({*must.folders, *mine.folders}))
        return Tree(must.files, folders), {path: told for path, told in stands.items() if path not in right}

    def lacking(self, stands: Mapping[bytes, Attributes]) -> Lingering:
        """Return the same less what stands already as it should be."""
        entries = {path: e for path, e in self.entries.items() if not agrees(stands.get(path), (e.size, e.mtime))}
        own = {path: (d, t) for path, (d, t) in self.own.items() if not agrees(stands.get(path), (len(d), t))}
        return Lingering(entries, self.owners, own)

    def without(self, paths: Collection[bytes]) -> Lingering:
        """Return the same less some files; what was signed stays."""
        entries = {path: entry for path, entry in self.entries.items() if path not in paths}
        return Lingering(entries, self.owners, self.own)


NOTHING = Lingering({}, {}, {})


def beside(signed: Signed, earlier: Iterable[Signed]) -> Lingering:
    """Return what of earlier releases may linger beside a snapshot; releases that are not earlier do not count."""
    card = signed.snapshot
    older = [one for one in earlier if one.snapshot.serial < card.serial and one.snapshot.site == card.site]
    older.sort(key=lambda one: one.snapshot.serial, reverse=True)
    found = lingering(signed.manifest.entries, [(one.snapshot.id, one.manifest.entries) for one in older])
    owners = {path: owner for path, (owner, _) in found.items()}
    own: dict[bytes, tuple[bytes, int]] = {}
    for one in older:
        if one.snapshot.id in owners.values():
            own |= signed_files(one)
    return Lingering({path: entry for path, (_, entry) in found.items()}, owners, own)


def signed_files(earlier: Signed) -> dict[bytes, tuple[bytes, int]]:
    """Return path -> (bytes, mtime) of what of an earlier release lies in `previous/`."""
    folder = folder_of(earlier.snapshot.id)
    return {folder + path.removeprefix(OWN_FOLDER): told for path, told in own_files(earlier).items()}


def folder_of(release: SnapshotId) -> bytes:
    """Name the folder in a release where the signed files of an earlier one lie."""
    return PREVIOUS + b"/" + release.encode()


def left_lately(left: Mapping[SnapshotId, int], now: float, grace: float) -> frozenset[SnapshotId]:
    """Return the releases that readers were led away from within the time of grace; both clocks are the mirror's.

    A note from the far future comes from a clock that was wrong.
    """
    return frozenset(release for release, when in left.items() if abs(now - when) < grace)


def left_with(plan: Plan, left: Mapping[SnapshotId, int], now: float, grace: float) -> set[SnapshotId]:
    """Return the releases of which something may linger beside the plan's target; both clocks are the mirror's.

    Where nothing but pages of the release before is gone, it is not among them: what was signed of it need not be read.
    """
    if grace <= 0:
        return set()
    releases = set(left_lately(left, now, grace)) - {plan.instead_of}
    if plan.instead_of is not None and (plan.base != plan.instead_of or not all(map(is_page, plan.removed))):
        releases.add(plan.instead_of)
    return releases


_SKEW = 60.0
"""Seconds by which a mirror's clock may be ahead of ours before we ask it for its time."""


def may_be_over(names: Iterable[bytes], left: Mapping[SnapshotId, int], wall: float, grace: float) -> bool:
    """Tell whether something in `previous/` may have had its time, judged by our own clock (Unix seconds).

    A mirror's clock can only be read by writing there, so this is a hint to take the lock and ask it.
    """
    fresh = {release.encode() for release, when in left.items() if -_SKEW <= wall - when < grace}
    return any(name not in fresh for name in names)


# How they come into a tree.


def places_in(removed: Iterable[bytes], before: Lingering) -> list[bytes]:
    """Return the folders of a base release in which files may stand that will linger, to be listed ahead.

    `removed` are its paths that the next release does not have, `before` is what lingers beside it.
    """
    gone = [path for path in removed if not is_page(path)]
    if not gone and not before.entries:
        return []
    return Manifest(dict.fromkeys((*gone, *before.entries, *before.own, PREVIOUS), Entry(b"", 0, 0))).folders()


def sources(
    wanted: Lingering, base: SnapshotId | None, top: bytes, listed: Mapping[bytes, Attributes]
) -> dict[bytes, bytes]:
    """Return path -> path in the account to link it from: what stands in the base with the size and mtime it had.

    The base's own manifest is what will be signed of it; its card is replaced as long as it is served, so never linked.
    """
    links = {
        path: top + b"/" + path
        for path, entry in wanted.entries.items()
        if agrees(listed.get(path), (entry.size, entry.mtime))
    }
    fixed = frozenset(OWN_FOLDER + b"/" + MANIFEST_NAME + ending for ending in (b"", SIGNATURE_SUFFIX))
    for path, (data, mtime) in wanted.own.items():
        old = OWN_FOLDER + path.removeprefix(folder_of(base)) if base is not None else path
        existing = old if old in fixed else path
        if agrees(listed.get(existing), (len(data), mtime)):
            links[path] = top + b"/" + existing
    return links


def bytes_to_send(wanted: Lingering, base: Signed | None, before: Lingering, *, links: bool, in_place: bool) -> int:
    """Foretell how much travels for these if the mirror holds the release `base`, and `before` beside it, as it should.

    `links`: it makes hard links. `in_place`: what stands there is not laid out.
    """
    if base is None or not wanted.own:
        links = in_place = False
    stands: dict[bytes, Attributes] = {}
    if base is not None and (links or in_place):
        files = before.beside(tree_of(base)).files
        stands = {path: Attributes(Kind.FILE, size, mtime, 0o644) for path, (size, mtime) in files.items()}
    laid = wanted.lacking(stands) if in_place else wanted
    there = sources(laid, base.snapshot.id, b"", stands) if base is not None and links else {}
    sizes = {path: entry.size for path, entry in laid.entries.items()}
    sizes |= {path: len(data) for path, (data, _) in laid.own.items()}
    return sum(size for path, size in sizes.items() if path not in there)


def foretell(signed: Signed, plan: Plan, found: Survey, linger: Linger, wall: float, *, links: bool) -> int:
    """Return how many bytes will travel for what lingers beside a snapshot; `wall` is our own time, Unix seconds."""
    wanted = beside(signed, linger.know(left_with(plan, found.left, wall, linger.grace)))
    base = linger.earlier(plan.base) if plan.base is not None and wanted.own else None
    releases = {release.encode(): release for release in found.left}
    there = linger.know(releases[name] for name in found.previous if name in releases)
    before = beside(base, there) if base is not None else NOTHING
    return bytes_to_send(wanted, base, before, links=links, in_place=found.layout == "inplace")


@dataclass
class Laying:
    """How lingering files come into a tree in the making; it changes as answers come in.

    `put` sends a file to a place in the account. `links`: path -> path in the account to link it from; what has none,
    or cannot be linked, is sent, if there is `room` for it (bytes; None: nobody knows).
    """

    wanted: Lingering
    top: bytes
    put: Callable[[bytes, bytes], Put]
    links: Mapping[bytes, bytes]
    room: int | None
    failed: list[Outcome] = field(default_factory=list)
    stand: set[bytes] = field(default_factory=set)
    """Paths that were sent whole."""
    bytes_sent: int = 0
    left_out: set[bytes] = field(default_factory=set)

    def ops(self) -> Iterator[Op]:
        """Lay all of it out."""
        travel = {path: entry.size for path, entry in self.wanted.entries.items() if path not in self.links}
        if self.room is not None and sum(travel.values()) > self.room:
            self.left_out.update(travel)
        for path in (*self.wanted.own, *self.wanted.entries):
            at = self.top + b"/" + path
            if path in self.links:
                yield Link(self.links[path], at)
            elif path not in self.left_out:
                yield self.put(path, at)

    def is_mine(self, outcome: Outcome) -> bool:
        """Tell whether this is the outcome of laying one of these files."""
        path = self._path(outcome)
        return path in self.wanted.entries or path in self.wanted.own

    def take(self, outcome: Outcome) -> None:
        """Note one outcome."""
        if not outcome.good:
            self.failed.append(outcome)
        elif isinstance(outcome.op, Put):
            self.stand.add(self._path(outcome))
            self.bytes_sent += outcome.op.size

    def again(self, doing: str) -> Steps[None]:
        """Send what could not be linked; leave out what cannot be sent either."""
        if not self.failed and not self.left_out:
            return
        unlinked = [self._path(outcome) for outcome in self.failed if isinstance(outcome.op, Link)]
        unsent = [outcome for outcome in self.failed if not isinstance(outcome.op, Link)]
        self.failed = []
        yield Flight([self.put(path, self.top + b"/" + path) for path in unlinked], each=self.take)
        for outcome in (*unsent, *self.failed):
            if self._path(outcome) in self.wanted.own:
                need(outcome, doing)
            self.left_out.add(self._path(outcome))
        if not self.left_out:
            return
        for outcome in (yield Flight([Remove(self.top + b"/" + path) for path in sorted(self.left_out)])):
            if outcome.trouble is not Trouble.MISSING:
                need(outcome, doing)
        empty = sorted({*self.wanted.folders} - {*self.wanted.without(self.left_out).folders}, reverse=True)
        yield Flight([RemoveFolder(self.top + b"/" + folder) for folder in empty], ordered=True)

    def _path(self, outcome: Outcome) -> bytes:
        return outcome.op.path[len(self.top) + 1 :] if isinstance(outcome.op, Link | Put) else b""


# How they go.


@dataclass(frozen=True, slots=True)
class Over:
    """What of a served release had its time."""

    files: tuple[bytes, ...]
    """Paths whose files go, first."""
    previous: tuple[bytes, ...]
    """Names in `previous/` that go once these are gone."""
    folders: tuple[bytes, ...]
    """Folders that may be empty then, children before parents."""


def over(
    signed: Signed,
    names: Iterable[bytes],
    stay: Collection[SnapshotId],
    earlier: Sequence[Signed],
    stands: Iterable[bytes] | None = None,
) -> Over:
    """Say what goes from a served release where these `names` lie in `previous/`, and only releases in `stay` may.

    `earlier` is what we know of the releases in `names`. Where that is not all of them, the paths of all files that
    stand in the release are asked for, and whatever nothing explains goes.
    """
    staying = frozenset(release.encode() for release in stay)
    there = beside(signed, earlier)
    kept = beside(signed, [one for one in earlier if one.snapshot.id in stay])
    files = [path for path, owner in there.owners.items() if owner not in stay]
    if stands is not None:
        known = (signed.manifest.entries, kept.entries)
        strange = [path for path in stands if not any(path in paths for paths in known)]
        files = [path for path in strange if not path.startswith(OWN_FOLDER + b"/")]
    gone = tuple(sorted(name for name in names if name not in staying))
    needed = {*signed.manifest.folders(), *kept.folders, OWN_FOLDER, OWN_FOLDER.rpartition(b"/")[0]}
    folders = {*Manifest(dict.fromkeys(files, Entry(b"", 0, 0))).folders(), PREVIOUS} - needed
    return Over(tuple(files), gone, tuple(sorted(folders, reverse=True)))


def take_away(
    gone: Over,
    top: bytes,
    trash: Callable[[bytes], bytes],
    folders: Sequence[Op],
    delete: Callable[[bytes], Steps[str | None]] | None,
) -> Steps[tuple[bytes, ...]]:
    """Take from the served release at `top` what had its time; return the paths that do not go away.

    `trash` names a place for a folder that is to be deleted; `folders` makes what it needs. Where folders cannot be
    renamed there, `delete` deletes one where it stands.
    """
    stuck: list[bytes] = []

    def see(outcome: Outcome) -> None:
        if outcome.trouble not in (None, Trouble.MISSING) and isinstance(outcome.op, Remove):
            stuck.append(outcome.op.path[len(top) + 1 :])

    if gone.files:
        yield Flight((Remove(top + b"/" + path) for path in gone.files), each=see)
    if stuck:
        return tuple(sorted(stuck))  # what excuses them has to stay
    previous = [top + b"/" + PREVIOUS + b"/" + name for name in gone.previous]
    empty = [RemoveFolder(top + b"/" + folder) for folder in gone.folders]
    if delete is not None:
        for path in previous:
            why = yield from delete(path)
            stuck += [path[len(top) + 1 :]] if why is not None else []
        yield Flight(empty, ordered=True)
        return tuple(stuck)
    away = [Rename(path, trash(b"previous.%d" % number)) for number, path in enumerate(previous)]
    outcomes = yield Flight([*folders, *away, *empty], ordered=True)
    kept = [outcome for outcome in outcomes if outcome.trouble not in (None, Trouble.MISSING)]
    return tuple(outcome.op.old[len(top) + 1 :] for outcome in kept if isinstance(outcome.op, Rename))
