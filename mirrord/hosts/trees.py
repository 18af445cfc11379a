"""What does a whole release look like in listings, and how does what was listed differ from it?

Pure: a tree is a value made of a snapshot; listings are answers that somebody else asked for. A site may have a million
files: nothing here keeps more of one that is right than the reference that the snapshot has anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mirrord.hosts import Findings
from mirrord.hosts.files import Attributes, Kind, List, Outcome
from mirrord.manifest import OWN_FOLDER, Entry, Manifest, Signed


class Expected(Mapping[bytes, tuple[int, int]]):
    """Path -> (size, mtime) of several mappings, the first that has a path counting; none of them is copied."""

    __slots__ = ("layers",)

    def __init__(self, *layers: Mapping[bytes, Entry] | Mapping[bytes, tuple[int, int]]) -> None:
        """Stand on mappings that do not change; those of another `Expected` become ours."""
        self.layers: tuple[Mapping[bytes, Entry] | Mapping[bytes, tuple[int, int]], ...] = tuple(
            inner for layer in layers for inner in (layer.layers if isinstance(layer, Expected) else (layer,))
        )

    def __getitem__(self, path: bytes) -> tuple[int, int]:
        """Return size and mtime."""
        for layer in self.layers:
            if (told := layer.get(path)) is not None:
                return (told.size, told.mtime) if isinstance(told, Entry) else told
        raise KeyError(path)

    def __iter__(self) -> Iterator[bytes]:
        """Yield every path once."""
        for place, layer in enumerate(self.layers):
            above = self.layers[:place]
            for path in layer:
                if not any(path in other for other in above):
                    yield path

    def __contains__(self, path: object) -> bool:
        """Tell whether there is a file of this path."""
        return any(path in layer for layer in self.layers)

    def __len__(self) -> int:
        """Count the paths."""
        return sum(1 for _ in self)


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
    return tree_with(signed.manifest, own_files(signed))


def tree_with(manifest: Manifest, own: Mapping[bytes, tuple[bytes, int]]) -> Tree:
    """Return what the files of a manifest and some of our own look like."""
    return Tree(Expected(sizes_of(own), manifest.entries), tuple(folders_of(manifest)))


def sizes_of(own: Mapping[bytes, tuple[bytes, int]]) -> dict[bytes, tuple[int, int]]:
    """Return path -> (size, mtime) of files of our own."""
    return {path: (len(data), mtime) for path, (data, mtime) in own.items()}


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


@dataclass(slots=True)
class _Folder:
    """How one folder's listing differs from what should be there."""

    folders: dict[bytes, bool]
    """Path of what stands there and is a folder, or should be one -> whether it is one."""
    missing: list[bytes]
    extra: list[bytes]
    different: list[bytes]


class Comparison:
    """Compares a tree with its listings, one by one as they come, and forgets each at once."""

    def __init__(self, tree: Tree, top: bytes) -> None:
        """Listings are of the folder `top` and those of the tree below it; see `list_tree`."""
        self._tree = tree
        self._top = top
        self._wanted = frozenset(tree.folders)
        self._inside: dict[bytes, list[bytes]] = {}
        for path in tree.files:
            self._inside.setdefault(path.rpartition(b"/")[0], []).append(path)
        self._seen: dict[bytes, _Folder] = {}

    def take(self, outcome: Outcome) -> bool:
        """Compare one folder; False where the outcome is of something else."""
        folder = self._folder(outcome.op.path) if isinstance(outcome.op, List) else None
        if folder is None:
            return False
        if outcome.good:
            self._seen[folder] = self._compare(folder, outcome.value)
        return True

    def _folder(self, path: bytes) -> bytes | None:
        """Return which folder of the tree a path in the account is."""
        if path == self._top:
            return b""
        folder = path.removeprefix(self._top + b"/")
        return folder if folder != path and folder in self._wanted else None

    def _compare(self, folder: bytes, listed: Mapping[bytes, Attributes]) -> _Folder:
        found = _Folder({}, [], [], [])
        start = len(folder) + 1 if folder else 0
        files = self._inside.get(folder, ())
        for path in files:
            attributes = listed.get(path[start:])
            if attributes is None:
                found.missing.append(path)
            elif not agrees(attributes, self._tree.files[path]):
                found.different.append(path)
        others = (
            listed.keys() - {path[start:] for path in files} if len(listed) > len(files) - len(found.missing) else ()
        )
        prefix = folder + b"/" if folder else b""
        for name in others:
            path, is_folder = prefix + name, listed[name].kind is Kind.FOLDER
            if is_folder or path in self._wanted:
                found.folders[path] = is_folder
            if path not in self._wanted:
                found.extra.append(path)
        return found

    def findings(self) -> Findings:
        """Say how it all differs. What lies behind a link is not part of the tree, whatever was listed there."""
        there: dict[bytes, bool] = {}
        real: set[bytes] = set()
        missing, extra, different = list[bytes](), list[bytes](), list[bytes]()
        todo = [b""]
        while todo:
            below = todo.pop()
            folder = self._seen.get(below)
            if folder is None:
                continue
            real.add(below)
            there |= folder.folders
            missing += folder.missing
            extra += folder.extra
            different += folder.different
            todo += (path for path, is_folder in folder.folders.items() if is_folder)
        for path in self._tree.folders:
            if path not in there:
                missing.append(path)
            elif not there[path]:
                different.append(path)
        for below, files in self._inside.items():
            if below not in real:
                missing += files
        return Findings(tuple(sorted(missing)), tuple(sorted(extra)), tuple(sorted(different)))


def compare(tree: Tree, found: Mapping[bytes, Attributes]) -> Findings:
    """Say how what was found by a walk differs from what should be there."""
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
