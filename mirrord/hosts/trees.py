"""What does a whole release look like in listings, and how does what was listed differ from it?

Pure: a tree is a value made of a snapshot; listings are answers that somebody else asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mirrord.hosts import Findings
from mirrord.hosts.files import Attributes, Kind, List, Outcome
from mirrord.manifest import OWN_FOLDER, Manifest, Signed


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
