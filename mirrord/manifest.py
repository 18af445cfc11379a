"""What is a snapshot, as a value, and how do two of them differ?

A manifest maps every published path to its digest, size and published mtime. Its text is what GNU
`sha256sum` writes, so that a reader needs no tool of ours to check a copy. The card is
`snapshot.json`: which snapshot this is, and when the next one may be expected. `Signed` is both with
their signatures: all that a mirror is given beside the content. Nothing here opens a file, reads a
clock or knows a key: `mirrord.snapshot` reads the source, `mirrord.trust` signs and verifies.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple, NewType

from mirrord.errors import Unverified

SnapshotId = NewType("SnapshotId", str)
"""`YYYYMMDDTHHMMSSZ-<first 8 hex of the manifest's SHA-256>`; ids of one site sort as their serials."""

OWN_FOLDER = b".well-known/mirrord"
"""The folder of every mirror that mirrord owns; never part of a manifest."""
MANIFEST_NAME = b"SHA256SUMS"
CARD_NAME = b"snapshot.json"
SIGNATURE_SUFFIX = b".sig"
PREVIOUS = OWN_FOLDER + b"/previous"
"""The folder with what was signed of earlier releases whose files linger: `<id>/` with all names of CLOSED_SET."""
LONGEST_PATH = 3900
"""Bytes; a server's PATH_MAX of 4,096 less what stands before a path in the account."""
LONGEST_NAME = 255
"""Bytes of one path component (NAME_MAX of every common file system)."""
SCHEMA = 1

_RUN = (b".php", b".phtml", b".phar", b".cgi", b".fcgi", b".shtml", b".asp", b".aspx", b".jsp")
_NOT_A_NAME = frozenset((b"", b".", b".."))
_WEIGHTS = ("B", "kB", "MB", "GB", "TB")
_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_USUAL_LINE = re.compile(rb"[0-9a-f]{64}  (?!-\Z)(?:[^/.\\\r\0][^/\\\r\0]*/)*[^/.\\\r\0][^/\\\r\0]*")
"""A path that needs no escapes, of names that begin with no dot: nothing can be wrong with it but its length."""
_LINE = re.compile(rb"(\\?)([0-9a-f]{64})  (.+)", re.DOTALL)
_SPECIAL = re.compile(rb"[\\\n\r]")
_ESCAPED = re.compile(rb"\\(.?)", re.DOTALL)
_ESCAPES = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}
_UNESCAPES = {b"\\": b"\\", b"n": b"\n", b"r": b"\r"}


def is_snapshot_id(text: str) -> bool:
    """Tell whether `text` has the form of a snapshot's id."""
    return _ID.fullmatch(text) is not None


def snapshot_id(created: datetime, manifest_sha256: str) -> SnapshotId:
    """Make the id of a snapshot from its time (UTC, whole seconds) and its manifest's digest (hex)."""
    return SnapshotId(f"{created.astimezone(UTC):%Y%m%dT%H%M%SZ}-{manifest_sha256[:8]}")


def why_not_a_path(path: bytes) -> str | None:
    """Say why `path` cannot be a published path (relative, `/` between names), or None where it can."""
    if not path:
        return "is empty"
    if b"\0" in path:
        return "has a NUL byte"
    if len(path) > LONGEST_PATH:
        return f"is longer than {LONGEST_PATH} bytes"
    names = path.split(b"/")
    if not _NOT_A_NAME.isdisjoint(names):
        return "is absolute or has an empty, `.` or `..` component"
    if len(path) > LONGEST_NAME and len(max(names, key=len)) > LONGEST_NAME:
        return f"has a component longer than {LONGEST_NAME} bytes"
    if path == OWN_FOLDER or path.startswith(OWN_FOLDER + b"/"):
        return f"lies in {OWN_FOLDER.decode()}/, which mirrord writes itself"
    return None


def is_plain(path: bytes) -> bool:
    """Tell whether every web server hands this path's bytes out as they are: no dot-file, nothing that is run."""
    visible = path.removeprefix(b".well-known/")
    return not (visible.startswith(b".") or b"/." in visible or path.lower().endswith(_RUN))


def show(path: bytes) -> str:
    """Write a path for people and JSON: UTF-8, other bytes as surrogates (`json` escapes them to ASCII)."""
    return path.decode("utf-8", "surrogateescape")


def quote(path: bytes) -> str:
    """Write a path for a sentence: in quotes, on one line, and printable whatever its bytes are."""
    text = path.decode("utf-8", "backslashreplace")
    return "'" + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text) + "'"


def weigh(count: float) -> str:
    """Write an amount of bytes for people: `98.3 MB`, in powers of ten as disks are sold."""
    unit = 0
    while count >= 999.5 and unit < len(_WEIGHTS) - 1:
        count /= 1000
        unit += 1
    return f"{count:.0f} {_WEIGHTS[unit]}" if unit == 0 or count >= 100 else f"{count:.1f} {_WEIGHTS[unit]}"


class Entry(NamedTuple):
    """One published file: raw SHA-256 (32 bytes), size in bytes, published mtime in whole Unix seconds."""

    digest: bytes
    size: int
    mtime: int


@dataclass(frozen=True)
class Manifest:
    """A snapshot's files: path (raw bytes, relative) to entry, in bytewise order of the paths."""

    entries: Mapping[bytes, Entry]

    @classmethod
    def of(cls, entries: Mapping[bytes, Entry]) -> Manifest:
        """Make a manifest from entries in any order."""
        return cls(dict(sorted(entries.items())))

    @cached_property
    def text(self) -> bytes:
        """The manifest as GNU `sha256sum` writes it (coreutils manual, "md5sum invocation": the escapes)."""
        return b"".join(_line(path, entry.digest) for path, entry in self.entries.items())

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the text, hex."""
        return hashlib.sha256(self.text).hexdigest()

    @cached_property
    def size(self) -> int:
        """The sum of all files' sizes, in bytes."""
        return sum(entry.size for entry in self.entries.values())

    def folders(self) -> list[bytes]:
        """Return every folder that the files need, parents before children, without the root."""
        found: set[bytes] = set()
        for path in self.entries:
            while (cut := path.rfind(b"/")) > 0:
                path = path[:cut]
                if path in found:
                    break
                found.add(path)
        return sorted(found)


def _line(path: bytes, digest: bytes) -> bytes:
    if path == b"-":
        return digest.hex().encode() + b"  ./-\n"
    if _SPECIAL.search(path) is None:
        return b"%b  %b\n" % (digest.hex().encode(), path)
    escaped = _SPECIAL.sub(lambda special: _ESCAPES[special[0]], path)
    return b"\\%b  %b\n" % (digest.hex().encode(), escaped)


def parse_manifest(text: bytes) -> dict[bytes, bytes]:
    """Read a manifest's text into path -> raw digest.

    Takes only what `Manifest.text` writes: sorted, no path twice, no path that leaves its root, each line
    escaped as GNU escapes it, a newline at the end. Raises Unverified, naming the line.
    """
    found: dict[bytes, bytes] = {}
    if text and not text.endswith(b"\n"):
        raise Unverified("the manifest breaks off in the middle of a line")
    before = b""
    usual, longest = _USUAL_LINE.fullmatch, 66 + LONGEST_NAME
    for number, line in enumerate(text.split(b"\n")[:-1], 1):
        if len(line) <= longest and usual(line) is not None and (path := line[66:]) > before:
            found[path] = bytes.fromhex(line[:64].decode())
            before = path
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise Unverified(f"the manifest's line {number} is not a digest and a path")
        escape, digest, path = match[1], bytes.fromhex(match[2].decode()), match[3]
        if escape:
            path = _ESCAPED.sub(lambda pair: _UNESCAPES.get(pair[1], b""), path)
        elif path == b"./-":
            path = b"-"
        if why := why_not_a_path(path):
            raise Unverified(f"the manifest's line {number}: the path {why}")
        if _line(path, digest) != line + b"\n":
            raise Unverified(f"the manifest's line {number} is not escaped as sha256sum does it")
        if path <= before:
            raise Unverified(f"the manifest's line {number} is out of order or stands twice")
        before = path
        found[path] = digest
    return found


@dataclass(frozen=True, slots=True)
class Difference:
    """What changes from one manifest to another; each a tuple of paths in order."""

    added: tuple[bytes, ...]
    changed: tuple[bytes, ...]
    removed: tuple[bytes, ...]
    emptied: tuple[bytes, ...]
    """Changed from some bytes to none; these stand in `changed` too."""

    def __bool__(self) -> bool:
        """Tell whether anything differs."""
        return bool(self.added or self.changed or self.removed)


def difference(old: Manifest, new: Manifest) -> Difference:
    """Return what changes from `old` to `new`, by path and digest."""
    was, becomes = old.entries, new.entries
    changed = tuple(p for p, e in becomes.items() if p in was and was[p].digest != e.digest)
    return Difference(
        added=tuple(p for p in becomes if p not in was),
        changed=changed,
        removed=tuple(p for p in was if p not in becomes),
        emptied=tuple(p for p in changed if becomes[p].size == 0 < was[p].size),
    )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot's card, as `snapshot.json` has it; times are UTC in whole seconds."""

    site: str
    serial: int
    id: SnapshotId
    created: datetime
    next_expected: datetime
    previous: SnapshotId | None
    manifest_sha256: str
    files: int
    size: int
    """The sum of all files' sizes in bytes; `bytes` in the JSON."""
    restores: SnapshotId | None = None
    """The earlier snapshot whose content this one brings back, where it is a rollback."""

    def text(self) -> bytes:
        """Write the card: JSON, sorted keys, one line, newline at the end."""
        card: dict[str, Any] = {
            "schema": SCHEMA,
            "site": self.site,
            "serial": self.serial,
            "id": self.id,
            "created": stamp(self.created),
            "next_expected": stamp(self.next_expected),
            "previous": self.previous,
            "manifest_sha256": self.manifest_sha256,
            "files": self.files,
            "bytes": self.size,
        }
        if self.restores is not None:
            card["restores"] = self.restores
        return json.dumps(card, sort_keys=True).encode() + b"\n"

    def expecting(self, next_expected: datetime) -> Snapshot:
        """Return the same snapshot with another date for the next one."""
        return replace(self, next_expected=next_expected)


def parse_snapshot(text: bytes) -> Snapshot:
    """Read a card; unknown keys are passed over (a newer mirrord may add some). Raises Unverified."""
    try:
        card = json.loads(text)
        if card["schema"] != SCHEMA:
            raise Unverified(f"snapshot.json has schema {card['schema']!r}; this mirrord reads {SCHEMA}")
        snapshot = Snapshot(
            site=_text(card["site"]),
            serial=_count(card["serial"]),
            id=_id(card["id"]),
            created=unstamp(card["created"]),
            next_expected=unstamp(card["next_expected"]),
            previous=None if card["previous"] is None else _id(card["previous"]),
            manifest_sha256=_digest(card["manifest_sha256"]),
            files=_count(card["files"]),
            size=_count(card["bytes"]),
            restores=None if card.get("restores") is None else _id(card["restores"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise Unverified(f"snapshot.json cannot be read: {type(e).__name__}: {e}") from e
    if snapshot.id.split("-")[1] != snapshot.manifest_sha256[:8]:
        raise Unverified("snapshot.json: the id does not belong to the manifest's digest")
    return snapshot


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("expected a string")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("expected a whole number, zero or more")
    return value


def _digest(value: object) -> str:
    text = _text(value)
    if _DIGEST.fullmatch(text) is None:
        raise ValueError("not a SHA-256 digest in hex")
    return text


def _id(value: object) -> SnapshotId:
    text = _text(value)
    if not is_snapshot_id(text):
        raise ValueError("not a snapshot id")
    return SnapshotId(text)


def stamp(moment: datetime) -> str:
    """Write a moment as `2026-11-21T22:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def unstamp(text: object) -> datetime:
    """Read what `stamp` wrote; raises ValueError or TypeError."""
    moment = datetime.strptime(_text(text), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    if stamp(moment) != text:
        raise ValueError(f"{text!r} is not a time as 2026-11-21T22:00:00Z")
    return moment


@dataclass(frozen=True)
class Signed:
    """A snapshot with its signatures: all that a mirror is given beside the content.

    The signatures are armored SSHSIG texts over `manifest.text` and `card`. `card` is the very text
    that was signed. `signed_at` (Unix seconds) is the published mtime of the card: it grows with each
    signing, so that new bytes never carry an old ETag.
    """

    snapshot: Snapshot
    manifest: Manifest
    manifest_sig: bytes
    card: bytes
    card_sig: bytes
    signed_at: int

    def fixed_files(self) -> dict[bytes, bytes]:
        """Return name -> bytes of the files in `.well-known/mirrord/` that never change in a release."""
        return {MANIFEST_NAME: self.manifest.text, MANIFEST_NAME + SIGNATURE_SUFFIX: self.manifest_sig}

    def changing_files(self) -> dict[bytes, bytes]:
        """Return name -> bytes of the files in `.well-known/mirrord/` that are posted anew."""
        return {CARD_NAME: self.card, CARD_NAME + SIGNATURE_SUFFIX: self.card_sig}


CLOSED_SET = frozenset(name + suffix for name in (MANIFEST_NAME, CARD_NAME) for suffix in (b"", SIGNATURE_SUFFIX))
"""The only names of files that may stand in `.well-known/mirrord/`; any other is an extra file."""


def extra_files(found: Iterable[bytes], manifest: Mapping[bytes, object]) -> list[bytes]:
    """Return the paths of a served tree that neither the manifest nor the closed set explains, sorted."""
    own = {OWN_FOLDER + b"/" + name for name in CLOSED_SET}
    return sorted(path for path in found if path not in manifest and path not in own)
