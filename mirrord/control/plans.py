"""What would a publish do, so that a person can see it first and then have exactly that done?

A rehearsal looks at every mirror, and sends nothing. What it found is offered as a plan: its id is a digest of the
content that would be published and of all that would be linked, sent, patched and removed on each mirror. Offers are
kept for a while; who carries one out compares what he is about to do with what was shown, mirror by mirror. How a
plan is made is said in `mirrord.plan`; how it is carried out, in `mirrord.publish`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from mirrord.comparing import Comparer
from mirrord.control.works import Works
from mirrord.errors import BadConfig, BadUsage, Braked, Damaged, MirrordError
from mirrord.hosts import Linger
from mirrord.hosts.lingering import foretell
from mirrord.hosts.opening import open_host
from mirrord.hosts.staging import once_each
from mirrord.manifest import Manifest, Signed, Snapshot, SnapshotId, show, snapshot_id
from mirrord.plan import Compare, Plan
from mirrord.publish import Outlook, Published, look, object_to
from mirrord.snapshot import disk
from mirrord.trust.snapshots import sign_snapshot

KEPT = 20
"""Offers that are kept; the oldest go."""
_ID = re.compile(r"[0-9a-f]{12}")


# -- what would be done


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What publishing to one mirror would do; plan and outlook are None where that could not be found out."""

    published: Published
    plan: Plan | None = None
    outlook: Outlook | None = None
    sent: tuple[bytes, ...] = ()
    """Paths whose whole content travels: of what stands at several paths, one."""


def rehearse(
    works: Works, mirrors: Sequence[str], wanted: Manifest, current: SnapshotId | None, *, allow_deletions: bool
) -> list[Rehearsed]:
    """Find out what publishing `wanted` would do; `current` is its snapshot where it was taken already."""
    signed = works.store.load(current) if current is not None else _as_if_taken(works, wanted)
    compare: Compare = works.compare if current is not None else Comparer(_NotTaken(works, wanted), works.stop)
    runs = [
        works.uploading.submit(_rehearse, works, mirror, signed, compare, allow_deletions=allow_deletions)
        for mirror in mirrors
    ]
    return [run.result() for run in runs]


def _as_if_taken(works: Works, wanted: Manifest) -> Signed:
    """Return a snapshot as it would be, to the byte in its sizes; it never leaves this process."""
    now = datetime.now(UTC)
    own = [snapshot.serial for snapshot in works.store.snapshots()]
    card = Snapshot(
        site=works.settings.site.name,
        serial=1 + max(own, default=0),
        id=snapshot_id(now, wanted.sha256),
        created=now,
        next_expected=now,
        previous=works.store.newest(),
        manifest_sha256=wanted.sha256,
        files=len(wanted.entries),
        size=wanted.size,
    )
    try:
        return sign_snapshot(card, wanted, works.settings.signing_key(), 0)
    except BadConfig:
        return Signed(card, wanted, b"", card.text(), b"", 0)


class _NotTaken:
    """The contents of a snapshot that was not taken: what the store has not yet lies in the source."""

    def __init__(self, works: Works, wanted: Manifest) -> None:
        self._store = works.store.content()
        source = works.settings.source
        self._folder = os.fsencode(source.path) if source is not None else None
        self._paths = {entry.digest: path for path, entry in wanted.entries.items()}

    def open(self, digest: bytes) -> BinaryIO:
        """As `hosts.Content`; whether the bytes are still those that were seen, is for who reads them."""
        try:
            return self._store.open(digest)
        except Damaged:
            path = self._paths.get(digest)
            if path is None or self._folder is None:
                raise
            return open(self._folder + b"/" + path, "rb")  # noqa: PTH123 - of bytes


def _rehearse(works: Works, mirror: str, signed: Signed, compare: Compare, *, allow_deletions: bool) -> Rehearsed:
    settings = works.settings
    began = time.monotonic()
    card = signed.snapshot
    try:
        with contextlib.closing(open_host(works.accounts.account(settings, mirror))) as host:
            outlook = look(
                host,
                signed.manifest,
                works.store.manifest,
                signers=settings.signers(),
                identity=settings.identity,
                site=settings.site.name,
            )
            object_to(mirror, outlook, signed, settings.guard(), allow_deletions=allow_deletions)
            plan = outlook.plan(mirror, card.id, signed.manifest, compare=compare)
    except MirrordError as e:
        return Rehearsed(Published.failure(mirror, signed, e, time.monotonic() - began))
    seconds = time.monotonic() - began
    if outlook.survey.current == card.id and outlook.survey.whole:
        return Rehearsed(Published(mirror, "unchanged", card.id, card.serial, seconds=seconds), plan, outlook)
    entries = signed.manifest.entries
    sent, twins = once_each(plan.send, entries, ()) if outlook.links else (list(plan.send), {})
    own = {**signed.fixed_files(), **signed.changing_files()}
    travels = sum(entries[path].size for path in sent) + sum(p.delta.sent for p in plan.patch.values())
    linger = Linger(settings.publish.grace, works.store.earlier)
    travels += foretell(signed, plan, outlook.survey, linger, time.time(), links=outlook.links)
    published = Published(
        mirror,
        "planned",
        card.id,
        card.serial,
        files_sent=len(sent),
        files_linked=len(plan.link) + len(twins),
        files_patched=len(plan.patch),
        files_removed=len(plan.removed),
        bytes_sent=travels + sum(map(len, own.values())),
        seconds=seconds,
        layout=outlook.survey.layout,
        layout_why=outlook.survey.why,
        warnings=(outlook.survey.half,) if outlook.survey.half is not None else (),
    )
    return Rehearsed(published, plan, outlook, tuple(sent))


# -- what was shown


def fingerprint(plan: Plan) -> str:
    """Return a digest of all that a plan does on a mirror, whatever the snapshot will be called."""
    digest = hashlib.sha256()
    for record in _records(plan):
        digest.update(b"\0".join(record) + b"\0\0")  # no path has a NUL, and none is empty
    return digest.hexdigest()


def _records(plan: Plan) -> Iterator[tuple[bytes, ...]]:
    yield b"mirror", plan.mirror.encode(), str(plan.instead_of).encode(), str(plan.base).encode()
    for path in sorted(plan.link):
        yield b"link", path, plan.link[path]
    for path in sorted(plan.send):
        yield b"send", path
    for path in sorted(plan.patch):
        patching = plan.patch[path]
        copies = b",".join(b"%d %d %d" % (copy.old, copy.new, copy.size) for copy in patching.delta.copies)
        yield b"patch", path, patching.base, patching.delta.digest.hex().encode(), copies
    for path in sorted(plan.removed):
        yield b"removed", path


@dataclass(frozen=True, slots=True)
class Share:
    """What one mirror has of an offer."""

    result: str
    """As in the dry run: `planned`, `unchanged`, `failed` or `refused`."""
    why: str | None
    """Why it could not be planned for."""
    instead_of: str | None
    fingerprint: str | None


@dataclass(frozen=True, slots=True)
class Offer:
    """A plan for some mirrors, as a person saw it."""

    id: str
    made: float
    """Unix seconds."""
    manifest: str
    """SHA-256 of the content's manifest, in hex."""
    allow_deletions: bool
    """It was shown with the brakes on removal lifted."""
    mirrors: Mapping[str, Share]

    @classmethod
    def of(cls, manifest: Manifest, rehearsed: Sequence[Rehearsed], *, allow_deletions: bool, made: float) -> Offer:
        """Make the offer of a rehearsal."""
        mirrors = {one.published.mirror: _share(one) for one in rehearsed}
        sum_up = {name: (share.result, share.fingerprint) for name, share in mirrors.items()}
        said = json.dumps([manifest.sha256, allow_deletions, sum_up], sort_keys=True)
        name = hashlib.sha256(said.encode()).hexdigest()[:12]
        return cls(name, made, manifest.sha256, allow_deletions, mirrors)

    def hold_to(self, mirror: str, plan: Plan, whole: frozenset[bytes] = frozenset()) -> None:
        """Raise Braked where this is not what was shown for a mirror; `whole`: what was sent and not shown as sent."""
        share = self.mirrors[mirror]
        doing = f"{mirror}: carrying out plan {self.id}"
        again = "nothing was sent there; `mirrord sync --dry-run` shows what would happen now"
        if plan.instead_of != share.instead_of:
            served, was = plan.instead_of or "nothing", share.instead_of or "nothing"
            raise Braked(f"{doing}: it serves {served} now, and served {was} when the plan was shown; {again}", "plan")
        if share.fingerprint != fingerprint(plan):
            what = "what it takes to publish there is not what was shown: it has other releases, or can do other things"
            raise Braked(f"{doing}: {what}; {again}", "plan")
        if whole:
            raise Braked(
                f"{doing}: {len(whole)} files ({show(min(whole))!r} first) had to be sent whole and were shown as"
                " linked or patched: what they were to be made of is not as it was published; readers were left where"
                " they were; look who alters files there, then `mirrord sync` goes on",
                "plan",
            )

    def left_out(self, mirror: str) -> Braked | None:
        """Return why nothing is done on a mirror, where nothing could be planned for it."""
        share = self.mirrors[mirror]
        if share.result in ("planned", "unchanged"):
            return None
        return Braked(f"{mirror}: carrying out plan {self.id}: it has nothing for this mirror: {share.why}", "plan")


def _share(one: Rehearsed) -> Share:
    published, plan = one.published, one.plan
    if plan is None:
        return Share(published.result, published.error, None, None)
    planned = published.result == "planned"
    return Share(published.result, None, plan.instead_of, fingerprint(plan) if planned else None)


class Offers:
    """The last offers, each a file; any process of this machine."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made when something is kept."""
        self._folder = folder

    def keep(self, offer: Offer) -> None:
        """Keep an offer, and drop the oldest beyond `KEPT`. Raises Full, Refused, MirrordError."""
        with disk.door("plans", f"keeping plan {offer.id}", self._folder.parent):
            self._folder.mkdir(mode=0o750, exist_ok=True)
            text = json.dumps(asdict(offer)).encode("utf-8", "surrogateescape")
            disk.replace(self._folder / f"{offer.id}.json", text, sync=False)
            kept = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
            for old in kept[:-KEPT]:
                old.unlink(missing_ok=True)

    def find(self, name: str) -> Offer:
        """Return an offer; raises BadUsage where there is none of this id (any more)."""
        path = self._folder / f"{name if _ID.fullmatch(name) else 'none'}.json"
        try:
            said = json.loads(path.read_bytes())
            mirrors = {mirror: Share(**share) for mirror, share in said.pop("mirrors").items()}
            return Offer(**said, mirrors=mirrors)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            raise BadUsage(
                f"there is no plan {name!r}: the last {KEPT} are kept; `mirrord sync --dry-run` makes one"
            ) from None
