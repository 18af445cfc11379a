"""How does a whole tree come to stand where no reader sees it, and how is a served one put right?

A tree is made of hard links into the release before, where that lists with the size and mtime that it should
have, and of files that are sent: a content that stands at several paths once, and linked to the others. What an
earlier try had finished is kept: a file's mtime is set last, so it is the file's commit mark. Nothing that has
another name elsewhere is ever written to: what is wrong is removed, or replaced by a new file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO

from mirrord.errors import Damaged, Full
from mirrord.hosts import Content, Findings, Known, Mended, Progress, Staged
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
    Rename,
    Space,
    Trouble,
    Walk,
)
from mirrord.hosts.layout import RELEASES, STAGING, TRASH, Layout, staged_id, staging_path
from mirrord.hosts.lock import OWN
from mirrord.hosts.steps import Flight, Steps, give_up, need
from mirrord.hosts.trees import Tree, agrees, compare, folders_of, gather, list_tree, own_files, tree_of
from mirrord.manifest import OWN_FOLDER, Entry, Manifest, Signed, SnapshotId, show
from mirrord.plan import Plan, Survey

_BLOCK = 4096
"""Bytes that the smallest file takes on a disk."""
_READABLE = 1 << 25
"""Bytes of the largest file that is read back as a whole."""
_SLACK = 1 << 20
"""Bytes; a disk with less than what is missing and this is called full."""


@dataclass
class Tally:
    """What was done so far, and who is told; the only thing here that changes."""

    files_total: int
    bytes_total: int
    seen: Callable[[Progress], None]
    sent: int = 0
    linked: int = 0
    kept: int = 0
    bytes_sent: int = 0
    failed: list[Outcome] = field(default_factory=list)
    stand: set[bytes] = field(default_factory=set)
    """Paths in the account that were sent whole."""

    def take(self, outcome: Outcome) -> None:
        """Count one outcome of a Put or Link."""
        op = outcome.op
        if not outcome.good:
            self.failed.append(outcome)
        elif isinstance(op, Put):
            self.sent += 1
            self.bytes_sent += op.size
            self.stand.add(op.path)
        elif isinstance(op, Link):
            self.linked += 1
            if self.linked % 256:
                return
        self.tell()

    def tell(self) -> None:
        """Say how far it is."""
        done = self.sent + self.linked + self.kept
        self.seen(Progress(done, self.files_total, self.bytes_sent, self.bytes_total))


@dataclass(frozen=True, slots=True)
class Source:
    """Where each file of a release comes from."""

    signed: Signed
    content: Content
    own: Mapping[bytes, tuple[bytes, int]]
    manifest: Manifest
    """The site's files that have to be laid out: all, or those that do not stand where they are served."""

    @classmethod
    def of(cls, signed: Signed, content: Content, beside: Collection[bytes] = ()) -> Source:
        """Take the site's files from `content`, but for those `beside`, and our own from the signatures."""
        lacking = {path: entry for path, entry in signed.manifest.entries.items() if path not in beside}
        return cls(signed, content, own_files(signed), Manifest(lacking) if beside else signed.manifest)

    def tree(self) -> Tree:
        """Return what is laid out, as listings show it."""
        files = {path: (entry.size, entry.mtime) for path, entry in self.manifest.entries.items()}
        files |= {path: (len(data), mtime) for path, (data, mtime) in self.own.items()}
        return Tree(files, tuple(folders_of(self.manifest)))

    def put(self, path: bytes, at: bytes) -> Put:
        """Send the file `path` of the release to `at` in the account."""
        if path in self.own:
            data, mtime = self.own[path]
            return Put(at, len(data), mtime, 0o644, lambda: BytesIO(data))
        entry = self.signed.manifest.entries[path]
        return Put(at, entry.size, entry.mtime, 0o644, self._opener(entry), entry.digest)

    def size(self, path: bytes) -> int:
        """Return how many bytes a file of the release has."""
        return len(self.own[path][0]) if path in self.own else self.signed.manifest.entries[path].size

    def digest(self, path: bytes) -> bytes:
        """Return the raw SHA-256 of a file of the release."""
        if path in self.own:
            return hashlib.sha256(self.own[path][0]).digest()
        return self.signed.manifest.entries[path].digest

    def part(self, path: bytes, offset: int, size: int) -> bytes:
        """Return some of a file's bytes, as we have them; raises Damaged where they are missing."""
        if path in self.own:
            return self.own[path][0][offset : offset + size]
        with self.content.open(self.signed.manifest.entries[path].digest) as file:
            file.seek(offset)
            return file.read(size)

    def is_right(self, path: bytes, data: bytes) -> bool:
        """Tell whether these are the bytes of the file `path` of the release."""
        return self.digest(path) == hashlib.sha256(data).digest()

    def _opener(self, entry: Entry) -> Callable[[], BinaryIO]:
        return lambda: self.content.open(entry.digest)


@dataclass(frozen=True, slots=True)
class Staging:
    """One hold's work on one release that is to come.

    `base` are answers to a listing of the plan's base, asked while the lock was taken; None: not asked yet. `again`
    is set when this hold staged the release before and found it wrong; the bytes of `distrusted` were so, whatever is
    listed. `sure` asks whether the lock is still ours. `trashed` collects names in the trash that are to be deleted in the end.
    """

    layout: Layout
    plan: Plan
    source: Source
    found: Survey
    known: Known
    nonce: str
    links: bool
    base: Sequence[Outcome] | None
    again: bool
    distrusted: frozenset[bytes]
    sure: Callable[[], Steps[None]]
    trashed: list[bytes]

    @property
    def top(self) -> bytes:
        """The folder in which the tree is made."""
        return staging_path(self.plan.target, self.nonce)

    def run(self, seen: Callable[[Progress], None]) -> Steps[Staged]:
        """Make the tree, or find that it stands."""
        if self.plan.target in self.found.releases and not self.again:
            if self.plan.target == self.found.current or (yield from self._stands()):
                return Staged(self.plan.target, 0, 0, 0, 0, stood=True)
            yield from self._discard_release()
        kept = yield from self._make_room_to_work()
        entries = self.source.manifest.entries
        links = (yield from self._links(kept)) if self.links else {}
        lacking = [path for path in entries if path not in kept and path not in links]
        send, twins = once_each(lacking, entries, kept) if self.links else (lacking, {})
        own = self.source.own
        size = sum(entries[path].size for path in send) + sum(len(data) for data, _ in own.values())
        self._ask_for_room(send)
        tally = Tally(len(entries) + len(own), size, seen, kept=len(kept))
        twins = {self.top + b"/" + path: self.top + b"/" + first for path, first in twins.items()}
        tally.stand.update(self.top + b"/" + path for path in kept)
        yield Flight(self._ops(links, (*send, *own), twins, tally.stand), each=tally.take)
        if tally.failed:
            yield from self._try_once_more(tally)
        if twins:
            yield Flight([Link(first, path) for path, first in twins.items()], each=tally.take)
        if tally.failed:
            yield from self._try_once_more(tally)
        tally.tell()
        start = len(self.top) + 1
        unproven = frozenset(path[start:] for path in tally.stand).difference(kept if self.again else ())
        sent = tally.sent - len(own)
        return Staged(self.plan.target, sent, tally.linked, tally.kept, tally.bytes_sent, unproven=unproven)

    # A release that stands already.

    def _stands(self) -> Steps[bool]:
        """Tell whether the release is there and whole; its changing files may be of another day."""
        top, tree = self._place(self.plan.target), tree_of(self.source.signed)
        wrong = compare(tree, gather(top, (yield Flight(list_tree(top, tree.folders)))))
        changing = {OWN_FOLDER + b"/" + name for name in self.source.signed.changing_files()}
        return not wrong.extra and changing.issuperset((*wrong.missing, *wrong.different))

    def _discard_release(self) -> Steps[None]:
        """Take a release that the host altered, and nobody reads, out of the way."""
        yield from self.sure()
        self.layout.check_current((yield Flight(self.layout.look())), self.plan.instead_of)
        folders = self.layout.missing_folders(self.found, OWN, TRASH)
        away = Rename(self._place(self.plan.target), self._trash(self.plan.target.encode()))
        outcomes = yield Flight([*folders, away], ordered=True)
        need(outcomes[-1], self._doing)

    # Folders, and what an earlier try left.

    def _make_room_to_work(self) -> Steps[frozenset[bytes]]:
        """Make all folders and arm the switch; return the files that are finished already."""
        leftover = self._leftover()
        if leftover is None:
            yield from self._checked(RELEASES, then=self._skeleton())
            return frozenset()
        yield from self.sure()
        if not self.layout.traits.rename_folder:
            return (yield from self._salvage(*leftover))
        name, manifest = leftover
        # Renamed first: what its maker's lost connection may still have on its way does not find it any more.
        mine = staging_path(staged_id(name) or self.plan.target, self.nonce)
        rename = [Rename(STAGING + b"/" + name, mine)] if STAGING + b"/" + name != mine else []
        outcomes = yield from self._checked(RELEASES, TRASH, then=rename)
        if rename and not outcomes[-1].good:
            mine = self.top
        kept = yield from self._sift(mine, manifest)
        # It gets its new name only now that nothing else is in it: broken off before, it is known for what it is.
        move = [Rename(mine, self.top)] if mine != self.top else []
        outcomes = yield Flight([*move, *self._skeleton()], ordered=True)
        if move and not outcomes[0].good:
            kept = frozenset()
        self._need(outcomes[len(move) :])
        return kept

    def _salvage(self, name: bytes, manifest: Manifest) -> Steps[frozenset[bytes]]:
        """Take what is finished out of another try's tree, file by file: folders cannot be renamed here."""
        old = STAGING + b"/" + name
        yield from self._checked(RELEASES, TRASH, then=self._skeleton())
        kept = yield from self._sift(old, manifest)
        if old == self.top:
            return kept
        moved = yield Flight([Rename(old + b"/" + path, self.top + b"/" + path) for path in sorted(kept)])
        start = len(old) + 1
        return frozenset(outcome.op.old[start:] for outcome in moved if outcome.good and isinstance(outcome.op, Rename))

    def _checked(self, *folders: bytes, then: Sequence[Op]) -> Steps[list[Outcome]]:
        """See that the mirror serves what the plan says, make our folders, and do what comes `then`, in one flight.

        A single rename there may fail: its outcome is the caller's affair, and the last.
        """
        look = self.layout.look()
        make = self.layout.missing_folders(self.found, OWN, STAGING, *folders)
        outcomes = yield Flight([*look, *make, *then], ordered=True)
        self.layout.check_current(outcomes[: len(look)], self.plan.instead_of)
        done = outcomes[len(look) :]
        self._need(outcome for outcome in done if not isinstance(outcome.op, Rename))
        return outcomes

    def _need(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            if not isinstance(outcome.op, Remove):
                need(outcome, self._doing)

    def _place(self, release: SnapshotId) -> bytes:
        """Name the folder where a whole release stands."""
        return self.layout.stands_at(release, self.found.current)

    def _leftover(self) -> tuple[bytes, Manifest] | None:
        """Choose what to resume: our own snapshot's tree if there is one, else the latest whose files we know."""
        if self.again:
            return self.top.removeprefix(STAGING + b"/"), self.source.manifest
        names = sorted(self.found.staging, key=lambda name: (staged_id(name) == self.plan.target, name), reverse=True)
        for name in names:
            release = staged_id(name)
            if release == self.plan.target:
                return name, self.source.signed.manifest
            if release is not None and (manifest := self.known(release)) is not None:
                return name, manifest
        return None

    def _skeleton(self) -> list[Op]:
        folders = [MakeFolder(self.top + b"/" + path, 0o755) for path in folders_of(self.source.manifest)]
        arm = self.layout.arm(self.plan.target, self.nonce)
        return [*arm, MakeFolder(self.top, 0o700), *folders]

    def _sift(self, top: bytes, manifest: Manifest) -> Steps[frozenset[bytes]]:
        """Leave in a tree only what the release wants, finished; return its files."""
        wanted = self.source.manifest
        folders = frozenset(folders_of(wanted))
        outcomes = yield Flight(list_tree(top, sorted(folders.union(folders_of(manifest)))))
        listed = gather(top, outcomes)
        kept: set[bytes] = set()
        drop: list[Op] = []
        gone: set[bytes] = set()
        doubted = {self.source.digest(path) for path in self.distrusted}
        for path, attributes in sorted(listed.items()):
            if path.rpartition(b"/")[0] in gone:
                gone.add(path)
                continue
            entry = wanted.entries.get(path)
            had = manifest.entries.get(path)
            if attributes.kind is Kind.FOLDER:
                if path not in folders:
                    gone.add(path)
                    drop.append(Rename(top + b"/" + path, self._trash(b"sifted.%d" % len(drop))))
            elif (
                entry
                and had
                and had.digest == entry.digest
                and entry.digest not in doubted  # a file with the same content may be another name of it
                and agrees(attributes, (entry.size, entry.mtime))
            ):
                kept.add(path)
            else:
                drop.append(Remove(top + b"/" + path))
        for outcome in (yield Flight(drop)) if drop else []:
            if outcome.trouble is not Trouble.MISSING:
                need(outcome, self._doing)
        return frozenset(kept)

    def _trash(self, name: bytes) -> bytes:
        name += b"." + self.nonce.encode()
        self.trashed.append(name)
        return TRASH + b"/" + name

    # Files.

    def _links(self, kept: Collection[bytes]) -> Steps[dict[bytes, bytes]]:
        """Return path -> path in the account to link it from, where the base is what it should be."""
        base = self.plan.base
        if base is None or not self.plan.link:
            return {}
        top = self._place(base)
        answers = self.base
        if answers is None:
            answers = yield Flight(list_base(self.plan, top))
        listed = gather(top, answers)
        entries = self.source.manifest.entries
        return {
            path: top + b"/" + old
            for path, old in self.plan.link.items()
            if path in entries
            and path not in kept
            and agrees(listed.get(old), (entries[path].size, entries[path].mtime))
        }

    def _ops(
        self, links: Mapping[bytes, bytes], send: Sequence[bytes], twins: dict[bytes, bytes], stand: Collection[bytes]
    ) -> Iterator[Op]:
        """Send and link; of the twins those whose first stands by then, and these are taken out of `twins`."""
        for path in send:
            yield self.source.put(path, self.top + b"/" + path)
        for path, existing in links.items():
            yield Link(existing, self.top + b"/" + path)
        for path, first in list(twins.items()):
            if first in stand:
                del twins[path]
                yield Link(first, path)

    def _ask_for_room(self, send: Sequence[bytes]) -> None:
        entries = self.source.manifest.entries
        sizes = [entries[path].size for path in send] + [len(data) for data, _ in self.source.own.values()]
        needed = sum(-(-size // _BLOCK) * _BLOCK for size in sizes) + _BLOCK * len(folders_of(self.source.manifest))
        if self.found.free is not None and needed > self.found.free:
            raise self._full(needed, self.found.free)

    def _full(self, needed: int, free: int) -> Full:
        return Full(
            f"{self._doing}: its disk is full: {needed} bytes are needed and {free} are free; make room there, or"
            " keep fewer releases (mirror.sftp.keep)",
            needed=needed,
            free=free,
        )

    def _try_once_more(self, tally: Tally) -> Steps[None]:
        """Send what could not be linked (EMLINK, say), and what something stood in the way of; then give up."""
        failed, tally.failed = tally.failed, []
        self._complain_of_damage(failed)
        puts = [outcome for outcome in failed if isinstance(outcome.op, Put)]
        if puts:
            yield from self._is_it_full(puts)
            yield Flight([Remove(outcome.op.path) for outcome in failed if isinstance(outcome.op, Put)])
        start = len(self.top) + 1
        again = [outcome.op.path[start:] for outcome in failed if isinstance(outcome.op, Put | Link)]
        yield Flight([self.source.put(path, self.top + b"/" + path) for path in again], each=tally.take)
        if tally.failed:
            self._complain_of_damage(tally.failed)
            yield from self._is_it_full(tally.failed)
            give_up(tally.failed[0], self._doing)

    def _complain_of_damage(self, failed: Sequence[Outcome]) -> None:
        start = len(self.top) + 1
        paths = tuple(
            outcome.op.path[start:]
            for outcome in failed
            if outcome.trouble is Trouble.DAMAGED and isinstance(outcome.op, Put)
        )
        if paths:
            raise Damaged(
                f"{self._doing}: the stored copy of {show(paths[0])!r} (and {len(paths) - 1} more) is damaged;"
                " nothing was published, take the snapshot again",
                paths,
            )

    def _is_it_full(self, failed: Sequence[Outcome]) -> Steps[None]:
        """A full disk has no name of its own in SFTP: ask for the room, then say what it was."""
        if any(outcome.trouble is Trouble.MISSING for outcome in failed):
            return
        (space,) = yield Flight((Space(b""),))
        needed = sum(outcome.op.size for outcome in failed if isinstance(outcome.op, Put))
        if space.good and space.value < needed + _SLACK:
            raise self._full(needed, space.value)

    @property
    def _doing(self) -> str:
        return f"{self.layout.mirror}: publishing {self.plan.target}"


def once_each(
    lacking: Sequence[bytes], entries: Mapping[bytes, Entry], kept: Collection[bytes]
) -> tuple[list[bytes], dict[bytes, bytes]]:
    """Return what to send, and path -> the path in the same tree that it can be linked from: sent too, or kept.

    Linked is what has the same bytes and the same mtime. What others wait for comes first.
    """
    firsts = {entries[path]: path for path in kept}
    twins: dict[bytes, bytes] = {}
    for path in lacking:
        first = firsts.setdefault(entries[path], path)
        if first != path:
            twins[path] = first
    awaited = frozenset(twins.values())
    return sorted((path for path in lacking if path not in twins), key=lambda path: path not in awaited), twins


def list_base(plan: Plan, top: bytes) -> list[List]:
    """Ask for the folders of a plan's base, which stands at `top`, from which something is to be linked."""
    if plan.base is None or not plan.link:
        return []
    above = Manifest(dict.fromkeys(plan.link.values(), Entry(b"", 0, 0))).folders()
    return list_tree(top, above)


@dataclass(frozen=True, slots=True)
class Mending:
    """One hold's work on the release that readers see just now, and that is not what it should be."""

    layout: Layout
    source: Source
    found: Survey
    nonce: str
    sure: Callable[[], Steps[None]]
    trashed: list[bytes]

    def run(self, suspects: Collection[bytes], seen: Callable[[Progress], None]) -> Steps[Mended]:
        """Replace what is wrong file by file, each by a rename; drop what is extra."""
        release = self.source.signed.snapshot.id
        top = self.layout.stands_at(release, release)
        tree = tree_of(self.source.signed)
        (walked,) = yield Flight((Walk(top),))
        listed: Mapping[bytes, Attributes] = need(walked, self._doing).value
        wrong = self._wrong(tree, listed, suspects)
        if not wrong:
            wrong = yield from self._read_back(top, tree)
        if not wrong:
            return Mended(wrong, 0, 0)
        rewrite = [path for path in (*wrong.missing, *wrong.different) if path in tree.files]
        temps = {OWN + b"/temp." + self.nonce.encode() + b".%d" % n: path for n, path in enumerate(rewrite)}
        tally = Tally(len(rewrite), sum(tree.files[path][0] for path in rewrite), seen)
        puts = [self.source.put(path, temp) for temp, path in temps.items()]
        yield Flight([*self.layout.missing_folders(self.found, OWN, TRASH)], ordered=True)
        yield Flight(puts, each=tally.take)
        for outcome in tally.failed:
            need(outcome, self._doing)
        yield from self.sure()
        for outcome in (yield Flight(self._clear(top, tree, wrong, listed), ordered=True)):
            need(outcome, self._doing)
        yield from self.layout.put_over({temp: top + b"/" + path for temp, path in temps.items()}, self._doing)
        return Mended(wrong, tally.sent, tally.bytes_sent)

    def _wrong(self, tree: Tree, listed: Mapping[bytes, Attributes], suspects: Collection[bytes]) -> Findings:
        """Say what is wrong: by the listing, by what a web server may not read, and by what readers saw."""
        wrong = compare(tree, listed)
        unreadable = {path for path in tree.files if path in listed and listed[path].mode & 0o444 != 0o444}
        doubtful = unreadable.union(suspects).intersection(tree.files).difference(wrong.missing)
        return Findings(wrong.missing, wrong.extra, tuple(sorted(doubtful.union(wrong.different))))

    def _read_back(self, top: bytes, tree: Tree) -> Steps[Findings]:
        """Read what lists well: readers saw something wrong, and bytes can be altered under the same size and mtime.

        Files too large to be read are taken for wrong where nothing else is.
        """
        different: list[bytes] = []
        start = len(top) + 1

        def judge(outcome: Outcome) -> None:
            path = outcome.op.path[start:] if isinstance(outcome.op, Read) else b""
            if not outcome.good or not self.source.is_right(path, outcome.value):
                different.append(path)

        small = [path for path, (size, _) in tree.files.items() if size <= _READABLE]
        yield Flight((Read(top + b"/" + path, tree.files[path][0]) for path in small), each=judge)
        large = [path for path, (size, _) in tree.files.items() if size > _READABLE]
        return Findings(different=tuple(sorted(different or large)))

    def _clear(self, top: bytes, tree: Tree, wrong: Findings, listed: Mapping[bytes, Attributes]) -> list[Op]:
        """Take away what no rename will replace, parents before what is in them; then make the folders."""
        away: list[Op] = []
        gone: set[bytes] = set()
        for path in sorted({*wrong.extra, *wrong.different}):
            folder = listed[path].kind is Kind.FOLDER
            if path.rpartition(b"/")[0] in gone:
                gone.add(path)
            elif folder:
                gone.add(path)
                name = b"mended.%d." % len(away) + self.nonce.encode()
                self.trashed.append(name)
                away.append(Rename(top + b"/" + path, TRASH + b"/" + name))
            elif path not in tree.files:
                away.append(Remove(top + b"/" + path))
        return [*away, *(MakeFolder(top + b"/" + path) for path in tree.folders)]

    @property
    def _doing(self) -> str:
        return f"{self.layout.mirror}: mending {self.source.signed.snapshot.id}"
