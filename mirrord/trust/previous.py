"""Which files of earlier releases may stand beside a snapshot, by what is signed?

Where a release replaced others a moment ago, the assets that it does not have linger beside it, and what was signed of
those releases lies in `.well-known/mirrord/previous/<id>/`. Whoever verifies a copy accepts exactly these files: signed
by the same publisher for the same site, of a lower serial than the one served, and no page (`mirrord.assets`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mirrord.assets import lingering
from mirrord.errors import Unverified
from mirrord.manifest import (
    CARD_NAME,
    CLOSED_SET,
    LONGEST_PATH,
    MANIFEST_NAME,
    PREVIOUS,
    SIGNATURE_SUFFIX,
    Snapshot,
    quote,
)
from mirrord.trust import sshsig
from mirrord.trust.keys import Signers
from mirrord.trust.snapshots import check_manifest, check_signed

LARGEST_CARD = 1 << 16
LARGEST_MANIFEST = 1 << 28


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier snapshot and its files, path -> raw digest; both validly signed."""

    snapshot: Snapshot
    files: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Believed:
    """Who must have signed, and as of when (None: now)."""

    signers: Signers
    identity: str | None
    at: datetime | None = None


def longest_manifest(snapshot: Snapshot) -> int:
    """Return how many bytes a snapshot's manifest has at most."""
    return min(LARGEST_MANIFEST, snapshot.files * (2 * LONGEST_PATH + 100))


def in_previous(paths: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    """Return folder in `previous/` -> names in it, for those of the paths that stand in such a folder."""
    found: dict[bytes, list[bytes]] = {}
    for path in paths:
        folder, _, name = path.removeprefix(PREVIOUS + b"/").partition(b"/")
        if path.startswith(PREVIOUS + b"/") and name:
            found.setdefault(folder, []).append(name)
    return found


def check_earlier(
    folder: bytes,
    names: Iterable[bytes],
    read: Callable[[bytes, int], bytes],
    served: Snapshot,
    believed: Believed,
) -> Earlier:
    """Return what stands in a folder of `previous/`, once everything in it is as it must be beside the snapshot served.

    `names` are those of all files in it; `read` gives a path's bytes, at most as many as said. Raises Unverified, and
    what `read` raises.
    """
    if frozenset(names) != CLOSED_SET:
        listed = ", ".join(sorted(name.decode() for name in CLOSED_SET))
        raise Unverified(f"it must have exactly the files {listed}")
    where = PREVIOUS + b"/" + folder + b"/"

    def both(name: bytes, limit: int) -> tuple[bytes, bytes]:
        return read(where + name, limit), read(where + name + SIGNATURE_SUFFIX, sshsig.LONGEST)

    signers, identity, at = believed.signers, believed.identity, believed.at
    snapshot = check_signed(*both(CARD_NAME, LARGEST_CARD), signers, identity, served.site, at)
    if snapshot.id.encode() != folder:
        raise Unverified(f"its card is of {snapshot.id}")
    if snapshot.serial >= served.serial:
        raise Unverified(f"its serial {snapshot.serial} is not below {served.serial}, which is served")
    files = check_manifest(*both(MANIFEST_NAME, longest_manifest(snapshot)), snapshot, signers, identity, at)
    return Earlier(snapshot, files)


def name_folder(folder: bytes) -> str:
    """Write a folder in `previous/` for a sentence."""
    return quote(PREVIOUS + b"/" + folder)


def may_linger(files: Mapping[bytes, bytes], earlier: Sequence[Earlier]) -> dict[bytes, tuple[Earlier, bytes]]:
    """Return which files of earlier snapshots may stand beside `files`: path -> (whose it is, raw digest)."""
    newest_first = sorted(earlier, key=lambda one: one.snapshot.serial, reverse=True)
    return lingering(files, [(one, one.files) for one in newest_first])
