"""How does a whole tree come to stand where no reader sees it, and how is a served one put right?

A tree is made of hard links into the release before, where that lists with the size and mtime that it should
have, and of files that are sent: a content that stands at several paths once, and linked to the others. What an
earlier try had finished is kept: a file's mtime is set last, so it is the file's commit mark. Nothing that has
another name elsewhere is ever written to: what is wrong is removed, or replaced by a new file.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import chain
from typing import BinaryIO

from mirrord.delta import Delta
from mirrord.errors import Damaged, Full, Unavailable
from mirrord.hosts import Content, Findings, Known, Mended, Progress, Staged
from mirrord.hosts.files import (
    Attributes,
    Kind,
    Link,
    List,
    MakeFolder,
    Op,
    Outcome,
    Patch,
    Put,
    Read,
    Remove,
    RemoveFolder,
    Rename,
    Space,
    Trouble,
    Walk,
)
from mirrord.hosts.layout import RELEASES, STAGING, TRASH, Layout, staged_id, staging_path
from mirrord.hosts.lingering import NOTHING, Laying, Lingering, sources
from mirrord.hosts.lock import OWN
from mirrord.hosts.patching import ranges_to_check, usable
from mirrord.hosts.steps import Flight, Steps, give_up, need
from mirrord.hosts.trees import (
    Comparison,
    Tree,
    agrees,
    compare,
    folders_of,
    gather,
    list_tree,
    own_files,
    tree_of,
    tree_with,
)
from mirrord.manifest import OWN_FOLDER, Entry, Manifest, Signed, SnapshotId, show, weigh
from mirrord.plan import LEAST_COPIED, Patching, Plan, Survey

_BLOCK = 4096
"""Bytes that the smallest file takes on a disk."""
_READABLE = 1 << 25
"""Bytes of the largest file that is read back as a whole."""
_ASK_AGAIN = 1 << 26
"""Bytes of files after which it is asked again how much room there is: others may write there too..."""
_UNDER_WAY = 1 << 25
"""... and how much of ours may be on its way meanwhile."""
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
    patched: int = 0
    kept: int = 0
    bytes_sent: int = 0
    failed: list[Outcome] = field(default_factory=list)
    awaited: frozenset[bytes] = frozenset()
    """Paths in the account that others are to be linked from."""
    stand: set[bytes] = field(default_factory=set)
    """Those of them that were sent whole."""
    remade: set[bytes] = field(default_factory=set)
    """Paths in the account of files that were made in another way than was meant at first."""
    whole: set[bytes] = field(default_factory=set)
    """Those of them that were sent where a link or a patch was meant."""
    to_write: int = 0
    """Bytes of files that have to come to stand, and those that do."""
    written: int = 0
    short: int | None = None
    """Bytes that were free when they were too few for what was still to come."""

    def take(self, outcome: Outcome) -> None:
        """Count one outcome of a Put, Patch or Link."""
        op = outcome.op
        if isinstance(op, Space) and not outcome.good:
            return
        if not outcome.good:
            self.failed.append(outcome)
        elif isinstance(op, Space):
            self._weigh(outcome.value)
            return
        elif isinstance(op, Put):
            self.sent += 1
            self.bytes_sent += op.size
            self.written += op.size
            if op.path in self.awaited:
                self.stand.add(op.path)
        elif isinstance(op, Patch):
            self.patched += 1
            self.bytes_sent += op.sent
            self.written += op.size
        elif isinstance(op, Link):
            self.linked += 1
            if self.linked % 256:
                return
        self.tell()

    def _weigh(self, free: int) -> None:
        """Note that there is too little room for what is still to come, and was not on its way when we asked."""
        if free + _UNDER_WAY < self.to_write - self.written:
            self.short = free

    def tell(self) -> None:
        """Say how far it is."""
        done = self.sent + self.linked + self.patched + self.kept
        self.seen(Progress(done, self.files_total, self.bytes_sent, self.bytes_total))


@dataclass(frozen=True, slots=True)
class Source:
    """Where each file of a release comes from."""

    signed: Signed
    content: Content
    own: Mapping[bytes, tuple[bytes, int]]
    manifest: Manifest
    """The site's files that have to be laid out: all, or those that do not stand where they are served."""
    lingering: Lingering = NOTHING
    """Those of earlier releases that are laid out too."""

    @classmethod
    def of(
        cls, signed: Signed, content: Content, beside: Collection[bytes] = (), lingering: Lingering = NOTHING
    ) -> Source:
        """Take the site's files from `content`, but for those `beside`, and our own from the signatures."""
        lacking = signed.manifest
        if beside:
            lacking = Manifest({path: entry for path, entry in lacking.entries.items() if path not in beside})
        return cls(signed, content, own_files(signed), lacking, lingering)

    def tree(self) -> Tree:
        """Return what is laid out, as listings show it."""
        return self.lingering.beside(tree_with(self.manifest, self.own))

    def put(self, path: bytes, at: bytes) -> Put:
        """Send the file `path` of the release to `at` in the account."""
        if (ours := self._ours(path)) is not None:
            data, mtime = ours
            return Put(at, len(data), mtime, 0o644, lambda: BytesIO(data))
        entry = self._entry(path)
        return Put(at, entry.size, entry.mtime, 0o644, self._opener(entry), entry.digest)

    def patch(self, path: bytes, at: bytes, base: bytes, delta: Delta, dice: random.Random) -> Patch:
        """Have the file `path` of the site made at `at` of the file `base`; `dice` choose what is read back."""
        entry = self._entry(path)
        checks = ranges_to_check(delta, dice)
        return Patch(at, entry.size, entry.mtime, 0o644, self._opener(entry), delta.digest, base, delta.copies, checks)

    def size(self, path: bytes) -> int:
        """Return how many bytes a file of the release has."""
        ours = self._ours(path)
        return self._entry(path).size if ours is None else len(ours[0])

    def digest(self, path: bytes) -> bytes:
        """Return the raw SHA-256 of a file of the release."""
        ours = self._ours(path)
        return self._entry(path).digest if ours is None else hashlib.sha256(ours[0]).digest()

    def part(self, path: bytes, offset: int, size: int) -> bytes:
        """Return some of a file's bytes, as we have them; raises Damaged where they are missing."""
        if (ours := self._ours(path)) is not None:
            return ours[0][offset : offset + size]
        with self.content.open(self._entry(path).digest) as file:
            file.seek(offset)
            return file.read(size)

    def is_right(self, path: bytes, data: bytes) -> bool:
        """Tell whether these are the bytes of the file `path` of the release."""
        return self.digest(path) == hashlib.sha256(data).digest()

    def _ours(self, path: bytes) -> tuple[bytes, int] | None:
        return self.own.get(path) or self.lingering.own.get(path)

    def _entry(self, path: bytes) -> Entry:
        return self.signed.manifest.entries.get(path) or self.lingering.entries[path]

    def _opener(self, entry: Entry) -> Callable[[], BinaryIO]:
        return lambda: self.content.open(entry.digest)


@dataclass(frozen=True, slots=True)
class Staging:
    """One hold's work on one release that is to come.

    `base` are answers to a listing of the plan's base, asked while the lock was taken; None: not asked yet. `again`
    is set when this hold staged the release before and found it wrong; the bytes of `distrusted` were so, whatever is
    listed, and those of `doubted` are so in the base. `sure` asks whether the lock is still ours. `trashed` collects
    names in the trash that are to be deleted in the end.
    """

    layout: Layout
    plan: Plan
    source: Source
    found: Survey
    known: Known
    nonce: str
    links: bool
    copies: bool
    dice: random.Random
    base: Sequence[Outcome] | None
    again: bool
    distrusted: frozenset[bytes]
    doubted: frozenset[bytes]
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
        listed = yield from self._listed()
        links = self._links(kept, listed)
        patches = self._patches(kept, listed)
        lacking = [path for path in entries if path not in kept and path not in links and path not in patches]
        send, twins = once_each(lacking, entries, kept) if self.links else (lacking, {})
        own = self.source.own
        size = sum(entries[path].size for path in send) + sum(len(data) for data, _ in own.values())
        size += sum(patching.delta.sent for patching in patches.values())
        room = yield from self._ask_for_room((*send, *patches))
        twins = {self.top + b"/" + path: self.top + b"/" + first for path, first in twins.items()}
        tally = Tally(len(entries) + len(own), size, seen, kept=len(kept), awaited=frozenset(twins.values()))
        start = len(self.top) + 1
        tally.to_write = sum(entries[path].size for path in (*send, *patches))
        tally.stand.update(first for first in tally.awaited if first[start:] in kept)
        laying = self._laying(listed if self.links else {}, room)
        ops = chain(self._patch(patches), self._ops(links, (*send, *own), twins, tally.stand), laying.ops())
        yield Flight(
            _asking_for_room(ops, tally),
            each=lambda outcome: (laying if laying.is_mine(outcome) else tally).take(outcome),
        )
        if tally.short is not None and not tally.failed:
            raise self._full(tally.to_write - tally.written, tally.short)
        if tally.failed:
            yield from self._try_once_more(tally)
        yield from laying.again(self._doing)
        if twins:
            yield Flight([Link(first, path) for path, first in twins.items()], each=tally.take)
        if tally.failed:
            yield from self._try_once_more(tally)
        tally.tell()
        remade = (path[start:] for path in tally.remade)
        instead = {*self._sent_instead(lacking, kept, listed), *(path[start:] for path in tally.whole)}
        unproven = frozenset(chain(send, own, remade, () if self.again else kept, laying.stand))
        return Staged(
            self.plan.target,
            tally.sent - len(own),
            tally.linked,
            tally.kept,
            tally.bytes_sent + laying.bytes_sent,
            unproven=unproven,
            left_out=frozenset(laying.left_out),
            files_patched=tally.patched,
            whole=frozenset() if self.again else frozenset(instead),
        )

    def _sent_instead(
        self, lacking: Iterable[bytes], kept: Collection[bytes], listed: Mapping[bytes, Attributes]
    ) -> Iterator[bytes]:
        """Name what was to be linked or patched and was sent whole: now, or by an earlier try whose file is kept."""
        made = {*self._links((), listed), *self._patches((), listed)} if kept else frozenset[bytes]()
        for path in (*lacking, *(path for path in kept if path not in made)):
            if path in self.plan.link or path in self.plan.patch:
                yield path

    # A release that stands already.

    def _stands(self) -> Steps[bool]:
        """Tell whether the release is there and whole; its changing files may be of another day."""
        top, tree = self._place(self.plan.target), self.source.lingering.beside(tree_of(self.source.signed))
        comparison = Comparison(tree, top)
        yield Flight(list_tree(top, tree.folders), each=comparison.take)
        wrong = comparison.findings()
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
        needed = sorted({*folders_of(self.source.manifest), *self.source.lingering.folders})
        folders = [MakeFolder(self.top + b"/" + path, 0o755) for path in needed]
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
        away: list[bytes] = []
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
                    away.append(top + b"/" + path)
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
        if self.layout.traits.rename_folder:
            drop += [Rename(path, self._trash(b"sifted.%d" % number)) for number, path in enumerate(away)]
        for outcome in (yield Flight(drop)) if drop else []:
            if outcome.trouble is not Trouble.MISSING:
                need(outcome, self._doing)
        if not self.layout.traits.rename_folder:
            for path in away:
                if (why := (yield from self.layout.delete(path))) is not None:
                    raise Unavailable(f"{self._doing}: {show(path)} of an earlier try does not go away: {why}")
        return frozenset(kept)

    def _trash(self, name: bytes) -> bytes:
        name += b"." + self.nonce.encode()
        self.trashed.append(name)
        return TRASH + b"/" + name

    # Files.

    def _listed(self) -> Steps[dict[bytes, Attributes]]:
        """Return what was listed of the base, where something may be linked from it."""
        if self.plan.base is None or not (self.links or self.copies):
            return {}
        top = self._place(self.plan.base)
        answers = self.base
        if answers is None:
            asked = list_base(self.plan, top, self.source.lingering.folders)
            answers = (yield Flight(asked)) if asked else []
        return gather(top, answers)

    def _laying(self, listed: Mapping[bytes, Attributes], room: int | None) -> Laying:
        """Say how the files that linger come into the tree."""
        lingering, base = self.source.lingering, self.plan.base
        top = self._place(base) if base is not None else b""
        links = sources(lingering, base, top, {path: a for path, a in listed.items() if path not in self.doubted})
        return Laying(lingering, self.top, self.source.put, links, room)

    def _links(self, kept: Collection[bytes], listed: Mapping[bytes, Attributes]) -> dict[bytes, bytes]:
        """Return path -> path in the account to link it from, where the base is what it should be."""
        if self.plan.base is None or not self.links:
            return {}
        top = self._place(self.plan.base)
        entries = self.source.manifest.entries
        return {
            path: top + b"/" + old
            for path, old in self.plan.link.items()
            if path in entries
            and path not in kept
            and agrees(listed.get(old), (entries[path].size, entries[path].mtime))
        }

    def _patches(self, kept: Collection[bytes], listed: Mapping[bytes, Attributes]) -> dict[bytes, Patching]:
        """Return what is patched."""
        if not self.copies:
            return {}
        lacking = {path for path in self.source.manifest.entries if path not in kept}
        return usable(self.plan, listed, lacking)

    def _patch(self, patches: Mapping[bytes, Patching]) -> Iterator[Op]:
        for path, patching in patches.items():
            base = self._place(self.plan.base or self.plan.target) + b"/" + patching.base
            yield self.source.patch(path, self.top + b"/" + path, base, patching.delta, self.dice)

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

    def _ask_for_room(self, send: Sequence[bytes]) -> Steps[int | None]:
        """Return how many bytes are left for what would be good to have. Raises Full."""
        entries = self.source.manifest.entries
        sizes = [entries[path].size for path in send] + [len(data) for data, _ in self.source.own.values()]
        needed = sum(-(-size // _BLOCK) * _BLOCK for size in sizes) + _BLOCK * len(folders_of(self.source.manifest))
        free = self.found.free
        if free is not None and needed > free:
            (space,) = yield Flight((Space(b""),))  # what was left half done was removed meanwhile
            free = space.value if space.good else free
            if needed > free:
                raise self._full(needed, free)
        return None if free is None else free - needed

    def _full(self, needed: int, free: int) -> Full:
        return Full(
            f"{self._doing}: its disk is full: {weigh(needed)} are needed and {weigh(free)} are free; make room there,"
            " or keep fewer releases (mirror.sftp.keep)",
            needed=needed,
            free=free,
        )

    def _try_once_more(self, tally: Tally) -> Steps[None]:
        """Make what failed in another way, or once more where something stood in the way of it; then give up.

        What cannot be linked (EMLINK, say) is copied where the mirror does that; that, and what cannot be patched, is
        sent in the end.
        """
        failed, tally.failed = tally.failed, []
        self._complain_of_damage(failed)
        tally.remade.update(outcome.op.path for outcome in failed if isinstance(outcome.op, Put | Patch | Link))
        yield from self._clear(failed)
        yield Flight(self._others(failed, tally), each=tally.take)
        patches = [outcome for outcome in tally.failed if isinstance(outcome.op, Patch)]
        if patches:
            tally.failed = [outcome for outcome in tally.failed if not isinstance(outcome.op, Patch)]
            yield from self._clear(patches)
            yield Flight(self._others(patches, tally), each=tally.take)
        if tally.failed:
            self._complain_of_damage(tally.failed)
            yield from self._is_it_full(tally.failed, again=True)
            give_up(tally.failed[0], self._doing)

    def _others(self, failed: Sequence[Outcome], tally: Tally) -> list[Op]:
        """Return how else files are made, and note which are sent whole now."""
        others = [self._instead(outcome.op) for outcome in failed]
        meant = zip((outcome.op for outcome in failed), others, strict=True)
        tally.whole.update(new.path for old, new in meant if isinstance(old, Link | Patch) and isinstance(new, Put))
        return others

    def _instead(self, op: Op) -> Op:
        """Return how else a file is made."""
        assert isinstance(op, Put | Patch | Link)
        path = op.path[len(self.top) + 1 :]
        if isinstance(op, Link) and self.copies and self.source.size(path) >= LEAST_COPIED:
            return self.source.patch(path, op.path, op.existing, Delta.of_same(self.source.size(path)), self.dice)
        return self.source.put(path, op.path)

    def _clear(self, failed: Sequence[Outcome]) -> Steps[None]:
        """Remove what may be left of files that could not be written. Raises Full where that is why.

        What stands where a link should be made goes too: it may be another name of a file elsewhere, and not every
        server refuses to write into what is there.
        """
        # First: a disk on which there is no room for a lock would keep the next one out.
        yield Flight([Remove(outcome.op.path) for outcome in failed if isinstance(outcome.op, Put | Patch | Link)])
        written = [outcome for outcome in failed if isinstance(outcome.op, Put | Patch)]
        if written:
            yield from self._is_it_full(written)

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

    def _is_it_full(self, failed: Sequence[Outcome], *, again: bool = False) -> Steps[None]:
        """A full disk has no name of its own in SFTP: ask for the room, then say what it was.

        A quota does not show there, and some servers do not tell: a write that fails `again` is taken for that.
        """
        if any(outcome.trouble is Trouble.MISSING for outcome in failed):
            return
        (space,) = yield Flight((Space(b""),))
        needed = sum(outcome.op.size for outcome in failed if isinstance(outcome.op, Put | Patch))
        if space.good and space.value < needed + _SLACK:
            raise self._full(needed, space.value)
        full = next((outcome for outcome in failed if outcome.trouble is Trouble.FULL), None)
        if again and full is not None:
            told = f"it says that {weigh(space.value)} are free" if space.good else "it does not tell how much is free"
            raise Full(
                f"{self._doing}: its disk or the account's quota is full, most likely: it says {full.text!r} to a write"
                f" ({told}); make room there, or keep fewer releases (mirror.sftp.keep)",
                needed=needed,
                free=space.value,
            )

    @property
    def _doing(self) -> str:
        return f"{self.layout.mirror}: publishing {self.plan.target}"


def _asking_for_room(ops: Iterable[Op], tally: Tally) -> Iterator[Op]:
    """Ask now and then how much room there is; where it is too little, send no more."""
    asked = 0
    for op in ops:
        if tally.short is not None:
            return
        yield op
        asked += op.size if isinstance(op, Put | Patch) else 0
        if asked >= _ASK_AGAIN:
            asked = 0
            yield Space(b"")


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


def list_base(plan: Plan, top: bytes, more: Collection[bytes] = ()) -> list[List]:
    """Ask for the folders of a plan's base, which stands at `top`, from which something is linked or patched.

    `more` are folders in which files stand that will linger.
    """
    used = {*plan.link.values(), *(patching.base for patching in plan.patch.values())}
    if plan.base is None or not (used or more):
        return []
    above = Manifest(dict.fromkeys(used, Entry(b"", 0, 0))).folders()
    return list_tree(top, sorted({*above, *more}))


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
        (walked,) = yield Flight((Walk(top),))
        stands: Mapping[bytes, Attributes] = need(walked, self._doing).value
        tree, listed = self.source.lingering.excuse(tree_of(self.source.signed), stands)
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
        return Mended(wrong, tally.sent, tally.bytes_sent, tuple(rewrite))

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
                if not self.layout.traits.rename_folder:
                    inside = sorted((other for other in listed if other.startswith(path + b"/")), reverse=True)
                    for other in (*inside, path):
                        gone.add(other)
                        kind = RemoveFolder if listed[other].kind is Kind.FOLDER else Remove
                        away.append(kind(top + b"/" + other))
                    continue
                name = b"mended.%d." % len(away) + self.nonce.encode()
                self.trashed.append(name)
                away.append(Rename(top + b"/" + path, TRASH + b"/" + name))
            elif path not in tree.files:
                away.append(Remove(top + b"/" + path))
        return [*away, *(MakeFolder(top + b"/" + path) for path in tree.folders)]

    @property
    def _doing(self) -> str:
        return f"{self.layout.mirror}: mending {self.source.signed.snapshot.id}"
