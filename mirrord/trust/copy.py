"""Is this copy of the site what the publisher signed?

Anyone may ask it of any copy, a folder or a web server, with nothing but a public key. The answer is one of four:

    intact        every file is as it was signed
    outdated      so it is, but a newer snapshot is known, or was to be expected long ago
    altered       files have other bytes, are missing, or do not belong there
    unverifiable  nothing is said: not signed, by none of the given keys, or it cannot be read

Assets of earlier snapshots may linger beside it for a while, with their signed manifests (`mirrord.trust.previous`);
the verdict says how many.

What a copy holds is hostile until proven otherwise: every answer is bounded, paths are checked before they are used,
and what is neither file nor folder is never opened. How files are read is said in `mirrord.trust.places`.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any

from mirrord.errors import Cancelled, Unavailable, Unverified
from mirrord.manifest import (
    CARD_NAME,
    MANIFEST_NAME,
    OWN_FOLDER,
    PREVIOUS,
    SIGNATURE_SUFFIX,
    Snapshot,
    extra_files,
    quote,
    show,
    stamp,
)
from mirrord.trust import sshsig
from mirrord.trust.keys import Signers
from mirrord.trust.places import INDEX, Absent, Copy, Fetch, Folder, Odd, Web
from mirrord.trust.previous import (
    LARGEST_CARD,
    Believed,
    Earlier,
    check_earlier,
    in_previous,
    longest_manifest,
    may_linger,
    name_folder,
)
from mirrord.trust.snapshots import check_manifest, check_signed

GRACE = 86400.0
"""Seconds after `next_expected` until a copy is outdated: cards are signed at least daily, one may come late."""
LINGERS = 7200.0
"""Seconds after a snapshot was made for which files of earlier ones beside it are nothing to wonder at: the hour for
which they are kept as a rule, and one for publishing and cleaning up."""

_AT_ONCE = 32
"""So many files are under way at most, whatever the executor could do."""
_SILENCE = 10
"""After so many files in a row that could not be read, the copy cannot be read."""
_SLACK = 1 << 24


class Kind(Enum):
    """The four answers."""

    INTACT = "intact"
    OUTDATED = "outdated"
    ALTERED = "altered"
    UNVERIFIABLE = "unverifiable"


@dataclass(frozen=True, slots=True)
class Lingering:
    """How many files of an earlier snapshot a copy holds beside those of its own."""

    snapshot: Snapshot
    files: int


@dataclass(frozen=True, slots=True)
class CopyVerdict:
    """What is true of a copy, and what that rests on; paths are sorted."""

    kind: Kind
    text: str
    """The verdict and its reason, a sentence."""
    snapshot: Snapshot | None = None
    """The snapshot that the copy holds; None where nothing is validly signed."""
    signed_by: str | None = None
    """The fingerprint of the key that signed."""
    altered: Mapping[bytes, str] = field(default_factory=dict)
    """Path -> what is wrong with it."""
    missing: tuple[bytes, ...] = ()
    extra: tuple[bytes, ...] = ()
    """What does not belong there; only a folder shows it."""
    unread: Mapping[bytes, str] = field(default_factory=dict)
    """Path -> why nobody can tell."""
    checked: int = 0
    """How many files were compared with their digests."""
    skipped: int = 0
    """Files that were not looked at: not among the sample, or web servers do not hand such files out as they are."""
    extra_visible: bool = True
    lingering: tuple[Lingering, ...] = ()
    """The earlier snapshots whose manifests are there, the newest first; only a folder shows it."""
    remarks: tuple[str, ...] = ()
    """What a person may want to know beside the verdict; sentences."""

    def as_json(self) -> dict[str, Any]:
        """Return it in plain values, paths with surrogates for what is not UTF-8."""
        card = self.snapshot
        return {
            "verdict": self.kind.value,
            "text": self.text,
            "snapshot": None
            if card is None
            else {
                "site": card.site,
                "id": card.id,
                "serial": card.serial,
                "created": stamp(card.created),
                "next_expected": stamp(card.next_expected),
                "files": card.files,
                "bytes": card.size,
            },
            "signed_by": self.signed_by,
            "altered": [{"path": show(path), "why": why} for path, why in self.altered.items()],
            "missing": [show(path) for path in self.missing],
            "extra": [show(path) for path in self.extra] if self.extra_visible else None,
            "unread": [{"path": show(path), "why": why} for path, why in self.unread.items()],
            "checked": self.checked,
            "skipped": self.skipped,
            "lingering": [
                {
                    "id": one.snapshot.id,
                    "serial": one.snapshot.serial,
                    "created": stamp(one.snapshot.created),
                    "files": one.files,
                }
                for one in self.lingering
            ]
            if self.extra_visible
            else None,
            "remarks": list(self.remarks),
        }


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a copy beside its place."""

    signers: Signers
    identity: str | None
    """Who must have signed (the host name of site.url); None: any of the signers, whoever it is."""
    now: float
    """Unix seconds."""
    site: str | None = None
    """The site's name in the card; None: any."""
    newest: int | None = None
    """The highest serial that is known from elsewhere."""
    grace: float = GRACE
    sample: int | None = None
    """How many files to compare, by lot, `index.html` always among them; None: all."""
    at: datetime | None = None
    """As of when signatures must count; None: now."""
    lingers: float = LINGERS
    """Seconds after the snapshot was made from which files of earlier ones call for a remark."""


def verify_copy(
    where: Path | Fetch,
    asked: Asked,
    *,
    executor: Executor | None = None,
    dice: random.Random | None = None,
    seen: Callable[[int, int], None] = lambda _done, _of: None,
    stop: threading.Event | None = None,
) -> CopyVerdict:
    """Judge a copy: a folder, or a web server through a `Fetch`.

    Files are compared on the `executor`, where one is given; `dice` draws the sample; `seen` is told (files done, of
    how many). Raises Cancelled, nothing else: whatever is wrong with the copy is its verdict.
    """
    look = _Look(asked, executor, dice or random.Random(), seen, stop or threading.Event())  # noqa: S311 - no secret
    if isinstance(where, Path):
        return look.judge(Folder(where))
    verdict, card = look.judge_with_card(Web(where))
    if verdict.kind is Kind.ALTERED and card is not None and look.card(Web(where)) != card:
        return look.judge(Web(where))  # it was led to another snapshot while we looked
    return verdict


class _Purse:
    """How many bytes a copy may still make us read: a hostile one must not keep us for ever."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._lock = threading.Lock()

    def spend(self, size: int) -> None:
        """Raise Odd where nothing is left."""
        with self._lock:
            self._left -= size
            if self._left < 0:
                raise Odd("is not looked at: by then the copy had sent far more than the snapshot holds")


@dataclass(slots=True)
class _Found:
    """What was found so far."""

    altered: dict[bytes, str] = field(default_factory=dict)
    missing: list[bytes] = field(default_factory=list)
    unread: dict[bytes, str] = field(default_factory=dict)
    right: int = 0
    extra: list[bytes] = field(default_factory=list)
    lingering: list[Lingering] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


class _Look:
    """One judgement under way."""

    def __init__(
        self,
        asked: Asked,
        executor: Executor | None,
        dice: random.Random,
        seen: Callable[[int, int], None],
        stop: threading.Event,
    ) -> None:
        self._asked = asked
        self._executor = executor
        self._dice = dice
        self._seen = seen
        self._stop = stop

    def card(self, copy: Copy) -> bytes | None:
        """Return the card's text as it stands; None where it cannot be had."""
        try:
            return self._own(copy, CARD_NAME, LARGEST_CARD)
        except (Absent, Odd, Unavailable):
            return None

    def judge(self, copy: Copy) -> CopyVerdict:
        """Judge a copy."""
        return self.judge_with_card(copy)[0]

    def judge_with_card(self, copy: Copy) -> tuple[CopyVerdict, bytes | None]:
        """Judge a copy; return the text of its card too."""
        asked = self._asked
        at = asked.at or datetime.fromtimestamp(asked.now, UTC)
        text: bytes | None = None
        try:
            text = self._own(copy, CARD_NAME, LARGEST_CARD)
            sig = self._own(copy, CARD_NAME + SIGNATURE_SUFFIX, sshsig.LONGEST)
            snapshot = check_signed(text, sig, asked.signers, asked.identity, asked.site, at)
            signed_by = sshsig.parse(sig).key.fingerprint
        except Absent:
            return self._nothing("it has no signed snapshot.json in .well-known/mirrord/"), text
        except (Odd, Unverified, Unavailable) as e:
            return self._nothing(f"snapshot.json: {e}"), text
        try:
            listed = self._own(copy, MANIFEST_NAME, longest_manifest(snapshot))
            sig = self._own(copy, MANIFEST_NAME + SIGNATURE_SUFFIX, sshsig.LONGEST)
            files = check_manifest(listed, sig, snapshot, asked.signers, asked.identity, at)
        except Unavailable as e:
            return self._nothing(f"SHA256SUMS: {e}", snapshot, signed_by), text
        except (Absent, Odd, Unverified) as e:
            return self._without_manifest(copy, snapshot, signed_by, e), text
        return self._compare(copy, snapshot, signed_by, files), text

    def _own(self, copy: Copy, name: bytes, limit: int) -> bytes:
        """Read a file of ours whole. Raises Absent, Odd, Unavailable."""
        return self._whole(copy, OWN_FOLDER + b"/" + name, limit)

    def _whole(self, copy: Copy, path: bytes, limit: int) -> bytes:
        found = b"".join(copy.read(path, limit + 1))
        if len(found) > limit:
            raise Odd(f"has more than {limit} bytes")
        return found

    def _nothing(self, why: str, snapshot: Snapshot | None = None, signed_by: str | None = None) -> CopyVerdict:
        return CopyVerdict(Kind.UNVERIFIABLE, f"unverifiable: {why}", snapshot, signed_by)

    def _without_manifest(self, copy: Copy, snapshot: Snapshot, signed_by: str, error: Exception) -> CopyVerdict:
        """Judge a copy whose list of files is not the one that its card names."""
        path = OWN_FOLDER + b"/" + MANIFEST_NAME
        absent = isinstance(error, Absent)
        why = "SHA256SUMS or its signature is missing" if absent else str(error)
        return CopyVerdict(
            Kind.ALTERED,
            f"altered: {why}; so no file can be compared",
            snapshot,
            signed_by,
            altered={} if absent else {path: why},
            missing=(path,) if absent else (),
            skipped=snapshot.files,
            extra_visible=copy.extra_visible,
        )

    def _compare(self, copy: Copy, snapshot: Snapshot, signed_by: str, files: Mapping[bytes, bytes]) -> CopyVerdict:
        chosen = self._choose([path for path in files if copy.shows(path)])
        purse = _Purse(2 * snapshot.size + _SLACK)
        found = _Found()
        self._compare_all(chosen, lambda path: self._wrong(copy, path, files[path], snapshot.size, purse), found)
        try:
            self._compare_extra(copy, snapshot, files, found)
        except Unavailable as e:
            found.unread[b""] = str(e)
        return self._verdict(copy, snapshot, signed_by, found, skipped=len(files) - len(chosen))

    def _compare_extra(self, copy: Copy, snapshot: Snapshot, files: Mapping[bytes, bytes], found: _Found) -> None:
        """Tell files of earlier snapshots, which may linger, from those that do not belong. Raises Unavailable."""
        extra = extra_files(copy.everything(), files)
        earlier = self._earlier(copy, snapshot, extra, found)
        signed = {PREVIOUS + b"/" + one.snapshot.id.encode() + b"/" for one in earlier}
        allowed = may_linger(files, earlier)
        purse = _Purse(2 * sum(one.snapshot.size for one in earlier) + _SLACK)
        found.extra = [p for p in extra if p not in allowed and p[: p.rfind(b"/") + 1] not in signed]
        counts = {one.snapshot.id: 0 for one in earlier}

        def wrong(path: bytes) -> str | None:
            one, digest = allowed[path]
            return self._wrong(copy, path, digest, one.snapshot.size, purse)

        for path, outcome in self._each([path for path in extra if path in allowed], wrong):
            if outcome is None:
                counts[allowed[path][0].snapshot.id] += 1
            elif isinstance(outcome, Unavailable):
                found.unread[path] = str(outcome)
            elif not isinstance(outcome, Absent):  # gone since we listed: its time was over
                found.extra.append(path)
        found.extra.sort()
        found.lingering = [Lingering(one.snapshot, counts[one.snapshot.id]) for one in earlier]

    def _earlier(self, copy: Copy, snapshot: Snapshot, extra: list[bytes], found: _Found) -> list[Earlier]:
        """Return the earlier snapshots of which the copy holds what was signed, newest first. Raises Unavailable."""
        asked = self._asked
        believed = Believed(asked.signers, asked.identity, asked.at or datetime.fromtimestamp(asked.now, UTC))
        earlier: list[Earlier] = []
        for folder, names in in_previous(extra).items():
            try:
                earlier.append(check_earlier(folder, names, lambda p, n: self._whole(copy, p, n), snapshot, believed))
            except Absent:
                continue  # it was there when we listed, and is gone: so are its files
            except (Odd, Unverified) as e:
                found.remarks.append(f"{name_folder(folder)} excuses no file: {e}")
        return sorted(earlier, key=lambda one: one.snapshot.serial, reverse=True)

    def _choose(self, paths: list[bytes]) -> list[bytes]:
        sample = self._asked.sample
        if sample is None or sample >= len(paths):
            return paths
        musts = [path for path in paths if path == INDEX]
        others = [path for path in paths if path != INDEX]
        return musts + self._dice.sample(others, max(0, sample - len(musts)))

    def _wrong(self, copy: Copy, path: bytes, digest: bytes, size: int, purse: _Purse) -> str | None:
        """Compare one file; return what is wrong, or None. Raises Absent, Odd, Unavailable, Cancelled."""
        for way in copy.ways(path):
            hashed = hashlib.sha256()
            try:
                for piece in copy.read(way, size + 1):
                    if self._stop.is_set():
                        raise Cancelled("verifying a copy: stopped")
                    purse.spend(len(piece))
                    hashed.update(piece)
            except Absent:
                continue
            if hashed.digest() == digest:
                return None
            return "has other bytes" if way == path else f"has other bytes, as readers get it at {quote(b'/' + way)}"
        raise Absent

    def _compare_all(self, paths: list[bytes], wrong: Callable[[bytes], str | None], found: _Found) -> None:
        silent = 0
        for done, (path, outcome) in enumerate(self._each(paths, wrong), 1):
            silent = silent + 1 if isinstance(outcome, Unavailable) else 0
            if isinstance(outcome, Unavailable):
                found.unread[path] = str(outcome)
            elif isinstance(outcome, Absent):
                found.missing.append(path)
            elif outcome is None:
                found.right += 1
            else:
                found.altered[path] = str(outcome)
            self._seen(done, len(paths))
            if silent >= _SILENCE:
                found.unread.update(dict.fromkeys(paths[done:], "was not asked for: no answer came to the ones before"))
                return

    def _each(
        self, paths: list[bytes], wrong: Callable[[bytes], str | None]
    ) -> Iterator[tuple[bytes, str | Exception | None]]:
        """Yield what is wrong with each path, in order; several are under way at once where there is an executor."""

        def outcome(path: bytes) -> str | Exception | None:
            if self._stop.is_set():
                raise Cancelled("verifying a copy: stopped")
            try:
                return wrong(path)
            except (Absent, Odd, Unavailable) as e:
                return e

        if self._executor is None:
            for path in paths:
                yield path, outcome(path)
            return
        under_way: deque[tuple[bytes, Future[str | Exception | None]]] = deque()
        left = iter(paths)
        try:
            while True:
                for coming in islice(left, _AT_ONCE - len(under_way)):
                    under_way.append((coming, self._executor.submit(outcome, coming)))
                if not under_way:
                    return
                asked, future = under_way.popleft()
                yield asked, future.result()
        finally:
            for _, future in under_way:
                future.cancel()

    def _verdict(self, copy: Copy, snapshot: Snapshot, signed_by: str, found: _Found, skipped: int) -> CopyVerdict:
        kind, why = self._kind(snapshot, found, skipped)
        checked = found.right + len(found.altered) + len(found.missing)
        which = f"snapshot {snapshot.serial} of {stamp(snapshot.created)}"
        blind = [] if copy.extra_visible else ["files that do not belong there cannot be seen over HTTP"]
        if skipped:
            blind.insert(0, f"{_files(skipped)} not looked at")
        if found.lingering:
            blind.append(_count(found.lingering))
        text = f"{kind.value}: {why} ({'; '.join([which, f'{checked} of {snapshot.files} files compared', *blind])})"
        return CopyVerdict(
            kind,
            text,
            snapshot,
            signed_by,
            altered=dict(sorted(found.altered.items())),
            missing=tuple(sorted(found.missing)),
            extra=tuple(found.extra),
            unread=dict(sorted(found.unread.items())),
            checked=checked,
            skipped=skipped,
            extra_visible=copy.extra_visible,
            lingering=tuple(found.lingering),
            remarks=(*found.remarks, *self._remarks(snapshot, found.lingering)),
        )

    def _remarks(self, snapshot: Snapshot, lingering: Sequence[Lingering]) -> Iterator[str]:
        hours = (self._asked.now - snapshot.created.timestamp()) / 3600
        if any(one.files for one in lingering) and hours > self._asked.lingers / 3600:
            yield (
                f"files of earlier snapshots are there {hours:.0f} hours after snapshot {snapshot.serial} was made; as"
                " a rule they are kept for an hour after readers were led on to it"
            )

    def _kind(self, snapshot: Snapshot, found: _Found, skipped: int) -> tuple[Kind, str]:
        extra = found.extra
        strange = "that does not belong there" if len(extra) == 1 else "that do not belong there"
        counts = {"altered": len(found.altered), "missing": len(found.missing), strange: len(extra)}
        if any(counts.values()):
            said = ", ".join(f"{_files(count)} {what}" for what, count in counts.items() if count)
            first = next(iter([*found.altered, *found.missing, *extra]))
            return Kind.ALTERED, f"{said}, {quote(first)} first"
        if found.unread:
            path, why = next(iter(found.unread.items()))
            what = f"{_files(len(found.unread))} cannot be read, {quote(path)} first: {why}" if path else why
            return Kind.UNVERIFIABLE, what
        newest = self._asked.newest
        right = f"{'what was looked at' if skipped else 'every file'} is as it was signed"
        if newest is not None and snapshot.serial < newest:
            return Kind.OUTDATED, f"{right}, but snapshot {newest} is known"
        if self._asked.now > snapshot.next_expected.timestamp() + self._asked.grace:
            expected = stamp(snapshot.next_expected)
            return (
                Kind.OUTDATED,
                f"{right}, but a newer snapshot was to be expected by {expected}",
            )
        return Kind.INTACT, right


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _count(lingering: Sequence[Lingering]) -> str:
    """Say how many files of which earlier snapshots linger."""
    said = " and ".join(f"{one.files} of snapshot {one.snapshot.serial}" for one in lingering)
    return f"files of earlier snapshots that linger beside it: {said}"
