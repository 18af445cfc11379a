"""The layout `releases`: how are readers led from one whole release to the next by a link?

    current                  -> releases/<id>, replaced by posix-rename: what readers see
    .mirrord/current.<nonce> the next `current`, for a moment
    .mirrord/left.<id>       a link as well, made when readers were led away from a release

The best there is: who follows the link once has one whole release in hand, and the link is replaced in one step.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mirrord.errors import Unavailable
from mirrord.hosts.exhibit import is_exhibit
from mirrord.hosts.files import Kind, List, Op, Outcome, ReadLink, Remove, Rename, SetMode, Stat, Symlink, Trouble
from mirrord.hosts.layout import Answers, Layout, Turn, Turned, denied, id_in, left_path, release_path
from mirrord.hosts.lock import OWN
from mirrord.hosts.steps import Flight, Steps, give_up, name_of, need
from mirrord.manifest import Signed, SnapshotId, show
from mirrord.plan import Plan, Survey


class Releases(Layout):
    """Whole trees side by side, and a link to one of them."""

    name = "releases"

    def look(self) -> list[Op]:
        """Read the link."""
        return [ReadLink(self.serve)]

    def questions(self) -> list[Op]:
        """Ask also what stands there where it is no link."""
        return [*super().questions(), Stat(self.serve)]

    def served_by(self, answers: Answers) -> SnapshotId | None:
        """Return the release that the link names."""
        return self._named(answers[ReadLink(self.serve)])

    def judge(self, answers: Answers) -> tuple[SnapshotId | None, str | None]:
        """Say which release the link names, or what stands there in place of ours."""
        link, stat = answers[ReadLink(self.serve)], answers[Stat(self.serve)]
        if link.good and is_exhibit(link.value):
            return None, None
        if link.good:
            release = self._release_of(link.value)
            return release, None if release else self.obstacle(f"a link to {show(link.value)!r}")
        if stat.good and stat.value.kind is not Kind.LINK:
            own = answers[List(OWN)].value if answers[List(OWN)].good else {}
            if stat.value.kind is Kind.FOLDER and any(name.startswith(b"serves.") for name in own):
                return None, (
                    f"mirrord serves a real folder at {show(self.serve)!r} (layouts `rename` and `inplace`): readers"
                    " would find nothing while a link takes its place. Leave the layout as it was, or take the mirror"
                    f" out of service (`mirrord drain {self.mirror}`), move the folder away and sync"
                )
            return None, self.obstacle("a real folder" if stat.value.kind is Kind.FOLDER else "a file")
        denied(link, stat, mirror=self.mirror)
        return None, None

    def half_done(self, answers: Answers) -> str | None:  # noqa: ARG002
        """Nothing: a link is replaced or not."""
        return None

    def settle(self, found: Survey, nonce: str) -> Steps[None]:  # noqa: ARG002
        """There is nothing to settle."""
        yield from ()

    def look_closer(self, answers: Answers) -> Steps[Answers]:
        """There is nothing more to know."""
        yield from ()
        return answers

    def litter(self, found: Survey) -> Sequence[bytes]:  # noqa: ARG002
        """There is nothing else."""
        return ()

    def whole(self, releases: Sequence[SnapshotId], current: SnapshotId | None) -> tuple[SnapshotId, ...]:  # noqa: ARG002
        """What stands in releases/ is whole."""
        return tuple(releases)

    def stands_at(self, release: SnapshotId, current: SnapshotId | None) -> bytes:  # noqa: ARG002
        """Every release stands in releases/, served or not."""
        return release_path(release)

    def beside(self, plan: Plan, signed: Signed) -> Steps[Collection[bytes]]:  # noqa: ARG002
        """A release is a tree of its own: everything is laid out."""
        yield from ()
        return ()

    def link_to(self, release: SnapshotId) -> bytes:
        """Write the target of `serve`: relative, since an account may be locked into a folder."""
        return b"../" * self.serve.count(b"/") + release_path(release)

    def _named(self, outcome: Outcome) -> SnapshotId | None:
        if outcome.trouble is Trouble.MISSING or (outcome.good and is_exhibit(outcome.value)):
            return None
        release = self._release_of(outcome.value) if outcome.good else None
        if release is None:
            raise self.foreign(self.obstacle("something that mirrord did not make"))
        return release

    def _release_of(self, target: bytes) -> SnapshotId | None:
        up = self.link_to(SnapshotId(""))
        return id_in(target.removeprefix(up)) if target.startswith(up) else None

    # How readers are led on.

    def _armed(self, nonce: str) -> bytes:
        """Name the next `serve` while it is nobody's yet."""
        return OWN + b"/current." + nonce.encode()

    def arm(self, release: SnapshotId, nonce: str) -> list[Op]:
        """Make the next `serve` under another name."""
        return [Remove(self._armed(nonce)), Symlink(self.link_to(release), self._armed(nonce))]

    def disarm(self, nonce: str) -> list[Op]:
        """Remove it."""
        return [Remove(self._armed(nonce))]

    def turn(self, turn: Turn) -> Steps[Turned]:
        """Bring the staged tree in, then replace the link that readers follow."""
        found = yield from self._bring_in(turn)
        if self._named(found) == turn.release:
            return Turned(already=True)
        self.check_current([found], turn.instead_of)
        if found.trouble is Trouble.MISSING and (yield from self._fire_at_nothing(turn)):
            return Turned(last=(yield Flight(turn.last, ordered=True)) if turn.last else ())
        return Turned(last=(yield from self._fire(turn)))

    def _bring_in(self, turn: Turn) -> Steps[Outcome]:
        """Make the staged tree a release, and note that readers are about to leave another; return the link's text."""
        release, instead_of = turn.release, turn.instead_of
        moves: list[Op] = []
        if turn.staged is not None:
            moves = [SetMode(turn.staged, 0o755), Rename(turn.staged, release_path(release))]
        notes: list[Op] = []
        if instead_of is not None:
            temp = OWN + b"/temp." + turn.nonce.encode() + b".left"
            notes = [Symlink(b"../" + release_path(instead_of), temp), Rename(temp, left_path(instead_of), over=True)]
        outcomes = yield Flight([ReadLink(self.serve), *moves, *notes], ordered=True)
        for outcome in outcomes[1:]:
            if outcome.trouble in (Trouble.EXISTS, Trouble.FAILED) and isinstance(outcome.op, Rename):
                raise Unavailable(
                    f"{self.mirror}: publishing {release}: renaming {name_of(outcome.op)}: the server says"
                    f" {outcome.text!r}; the next try looks again"
                )
            need(outcome, f"{self.mirror}: publishing {release}")
        return outcomes[0]

    def _fire_at_nothing(self, turn: Turn) -> Steps[bool]:
        """Put the armed link where nothing stood, without replacing what came since; tell whether that worked.

        Raises Braked where something of somebody else's stands there now.
        """
        fired: list[Op] = [Rename(self._armed(turn.nonce), self.serve), ReadLink(self.serve)]
        _, read = yield Flight(fired, ordered=True)
        return self._named(read) == turn.release

    def _fire(self, turn: Turn) -> Steps[Sequence[Outcome]]:
        """Replace `serve` by the armed link: the moment in which readers see the new release, whole.

        What it replaces was ours when it was looked at, a round trip before. A folder that came since stays; a file
        that somebody put there in that moment, having removed our link, would be replaced: no server tells them apart.
        """
        doing = f"{self.mirror}: switching to {turn.release}"
        switched, read, *rest = yield Flight(
            [Rename(self._armed(turn.nonce), self.serve, over=True), ReadLink(self.serve), *turn.last], ordered=True
        )
        if read.good and read.value == self.link_to(turn.release):
            return rest
        self._named(read)  # a real folder, say, that came meanwhile: adopt it first
        if not switched.good:
            give_up(switched, doing)
        raise Unavailable(f"{doing}: afterwards it served {show(read.value or b'nothing')}; the next try looks again")
