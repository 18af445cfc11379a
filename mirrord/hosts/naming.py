"""Which names of a snapshot can an account not hold?

Pure. On most hosts a name is bytes. Some insist on UTF-8: there a publish is refused before anything is sent, with the
name, rather than half way. What else a host does to names is found when the staged tree is listed.
"""

from __future__ import annotations

from collections.abc import Iterable

from mirrord.errors import Refused
from mirrord.hosts.files import Traits
from mirrord.manifest import SnapshotId, show


def refuse_names(mirror: str, release: SnapshotId, traits: Traits, paths: Iterable[bytes]) -> None:
    """Raise Refused for the first path that the account cannot hold."""
    if traits.any_name:
        return
    for path in paths:
        try:
            path.decode()
        except UnicodeDecodeError:
            raise Refused(
                f"{mirror}: publishing {release}: the host takes only names in UTF-8, and {show(path)!r} is not one;"
                " rename it, or leave it out with `exclude`; nothing was sent"
            ) from None
