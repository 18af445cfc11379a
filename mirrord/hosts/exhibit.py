"""Does the web server serve this very folder, and follow the link at each request?

Where nothing is served yet, two small trees are made beside the releases, and the link that readers follow leads to
the one, then to the other: whoever asks the web server meanwhile sees what it does with it. Then all of it goes away
again. What a killed process leaves counts as nothing: the next publish puts its own link in the place, and sweeps up
the rest with the folders in which something was tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from mirrord.hosts.files import (
    Kind,
    MakeFolder,
    Op,
    Put,
    ReadLink,
    Remove,
    RemoveFolder,
    Rename,
    Stat,
    Symlink,
    Trouble,
)
from mirrord.hosts.lock import OWN, TRIAL
from mirrord.hosts.steps import Flight, Steps, need

_PREFIX = b"mirrord-"


def exhibits_of(trial: bytes) -> bytes:
    """Return the folder, beside `.mirrord/`, of what was shown under a trial's name."""
    return _PREFIX + trial


def is_exhibit(target: bytes) -> bool:
    """Tell whether the text of a link leads to what was shown for a moment."""
    way = target.split(b"/")
    return any(part.startswith(_PREFIX + TRIAL) for part in way) and all(
        part == b".." or part.startswith(_PREFIX + TRIAL) or part in (b"a", b"b") for part in way
    )


@dataclass(frozen=True, slots=True)
class Exhibit:
    """Two trees with one file each, of the same name: their bytes tell which one a reader gets."""

    mirror: str
    serve: bytes
    nonce: str

    @property
    def name(self) -> bytes:
        """Name the file, below what is served."""
        return _PREFIX + self.nonce.encode() + b".txt"

    def content(self, tree: str) -> bytes:
        """Return what the file says in the tree `a` or `b`."""
        return b"mirrord looks whether this is served: %s %s\n" % (self.nonce.encode(), tree.encode())

    def put_up(self) -> Steps[str]:
        """Show the tree `a`; returns why not where something stands there already, an empty text otherwise."""
        doing = self._doing
        stat, link = yield Flight((Stat(self.serve), ReadLink(self.serve)), ordered=True)
        left = link.good and is_exhibit(link.value)
        if stat.trouble is not Trouble.MISSING and not left:
            return f"{'a folder' if stat.good and stat.value.kind is Kind.FOLDER else 'something'} stands there"
        above = self.serve.split(b"/")[:-1]
        folders: list[Op] = [MakeFolder(OWN + b"/" + self._trial, 0o700)]
        folders += [MakeFolder(b"/".join(above[: depth + 1])) for depth in range(len(above))]
        folders += [MakeFolder(path) for path in (self._top, self._top + b"/a", self._top + b"/b")]
        for outcome in (yield Flight(folders, ordered=True)):
            need(outcome, doing)
        for outcome in (yield Flight([self._put("a"), self._put("b")])):
            need(outcome, doing)
        remove = [Remove(self.serve)] if left else []
        *_, made = yield Flight([*remove, Symlink(self._to("a"), self.serve)], ordered=True)
        need(made, doing)
        return ""

    def swap(self) -> Steps[None]:
        """Show the tree `b` in place of `a`, as a publish does it."""
        temp = OWN + b"/" + self._trial + b"/link"
        for outcome in (
            yield Flight([Symlink(self._to("b"), temp), Rename(temp, self.serve, over=True)], ordered=True)
        ):
            need(outcome, self._doing)

    def take_down(self) -> Steps[None]:
        """Take everything away, of whatever `put_up` and `swap` made; never what is not ours."""
        (link,) = yield Flight((ReadLink(self.serve),))
        ours: list[Op] = [Remove(self.serve)] if link.good and link.value in (self._to("a"), self._to("b")) else []
        files = [self._top + b"/" + tree + b"/" + self.name for tree in (b"a", b"b")]
        folders = [self._top + b"/a", self._top + b"/b", self._top, OWN + b"/" + self._trial]
        trial = OWN + b"/" + self._trial + b"/link"
        yield Flight([*ours, *map(Remove, (*files, trial)), *map(RemoveFolder, folders)], ordered=True)

    @property
    def _doing(self) -> str:
        return f"{self.mirror}: showing something to the web server"

    @property
    def _trial(self) -> bytes:
        return TRIAL + self.nonce.encode()

    @property
    def _top(self) -> bytes:
        return exhibits_of(self._trial)

    def _to(self, tree: str) -> bytes:
        return b"../" * self.serve.count(b"/") + self._top + b"/" + tree.encode()

    def _put(self, tree: str) -> Put:
        data = self.content(tree)
        path = self._top + b"/" + tree.encode() + b"/" + self.name
        return Put(path, len(data), None, 0o644, lambda: BytesIO(data))
