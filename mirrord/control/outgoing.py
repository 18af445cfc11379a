"""What do the verbs do that send content out?

`sync`, `snapshot`, `snapshots` and `rollback`, with a daemon and without. A person's order is put together here from
what others can do: a snapshot is taken (`syncing`), what would happen is shown, or what was shown is kept to (`plans`),
every mirror gets it (`publishing`). The answers are worded in `showing`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

from mirrord.control import plans, showing, syncing
from mirrord.control.publishing import Publishing
from mirrord.control.server import Talk
from mirrord.control.works import Works
from mirrord.errors import BadUsage, Braked, MirrordError
from mirrord.hosts import Progress
from mirrord.journal import SNAPSHOTS
from mirrord.manifest import Manifest, Signed, stamp
from mirrord.publish import Agreed, Published
from mirrord.snapshot import Progress as Counted
from mirrord.snapshot.store import Taken


class Outgoing:
    """The verbs that send content out."""

    def __init__(
        self,
        works: Works,
        publishing: Publishing,
        *,
        note: Callable[[str, str, str], None],
        again: Callable[[], None],
    ) -> None:
        """`note` writes (kind, what, who) into the history; `again` ends a stop of publishing by itself."""
        self._works = works
        self._publishing = publishing
        self._note = note
        self._again = again
        self._offers = plans.Offers(works.directory / "plans")

    def sync(self, asked: dict[str, Any], talk: Talk, who: str) -> dict[str, Any]:
        """Take a snapshot if the source changed, publish it to all mirrors or some; a person does it."""
        if asked.get("plan"):
            return self._sync_as_shown(asked, talk, who)
        mirrors = self.publishable(asked.get("mirrors") or [])
        allow = bool(asked.get("allow_deletions"))
        if asked.get("dry_run"):
            return self._rehearse(mirrors, allow, talk)
        self._warn_of_hold(talk)
        taken = syncing.take(self._works, by_hand=True, allow_deletions=allow, seen=_seen(talk))
        self._say_taken(taken, talk, who)
        self._go_on_by_itself(who)
        return self._publish(mirrors, taken, allow, talk)

    def snapshot(self, asked: dict[str, Any], talk: Talk, who: str) -> dict[str, Any]:
        """Take a snapshot only."""
        allow = bool(asked.get("allow_deletions"))
        before = self._works.store.newest()
        if asked.get("dry_run"):
            scanned = syncing.scan(self._works, allow_deletions=allow, seen=_seen(talk))
            return {"snapshot": None, "change": showing.change(scanned.difference), "warnings": list(scanned.warnings)}
        taken = syncing.take(self._works, by_hand=True, allow_deletions=allow, seen=_seen(talk))
        self._say_taken(taken, talk, who)
        return {
            "snapshot": showing.snapshot(taken.snapshot, changed=taken.changed),
            "change": showing.change(syncing.change_since(self._works, before, taken.snapshot.id)),
            "warnings": list(taken.warnings),
        }

    def snapshots(self, asked: dict[str, Any], talk: Talk, who: str) -> dict[str, Any]:  # noqa: ARG002
        """List what the store has, oldest first."""
        served: dict[str, list[str]] = {}
        for name, last in self._works.journal.last_seen().items():
            served.setdefault(last.id, []).append(name)
        pinned = self._works.store.pinned()
        return {
            "snapshots": [
                {
                    **showing.snapshot(snapshot, changed=False),
                    "pinned": snapshot.id in pinned,
                    "served_by": sorted(served.get(snapshot.id, [])),
                }
                for snapshot in self._works.store.snapshots()
            ]
        }

    def pin(self, asked: dict[str, Any], talk: Talk, who: str) -> dict[str, Any]:  # noqa: ARG002
        """Keep a snapshot, here and on the mirrors that have it, whatever its age."""
        return self._pin(asked, who, pinned=True)

    def unpin(self, asked: dict[str, Any], talk: Talk, who: str) -> dict[str, Any]:  # noqa: ARG002
        """Keep a snapshot no longer than any other."""
        return self._pin(asked, who, pinned=False)

    def _pin(self, asked: dict[str, Any], who: str, *, pinned: bool) -> dict[str, Any]:
        store = self._works.store
        snapshot = store.named(str(asked.get("snapshot", "")))
        changed = store.pin(snapshot) if pinned else store.unpin(snapshot)
        if changed:
            self._note("pin", f"{snapshot} is {'pinned' if pinned else 'no longer pinned'}", who)
        return {"snapshot": snapshot, "pinned": pinned, "changed": changed}

    def rollback(self, asked: dict[str, Any], talk: Talk, who: str) -> dict[str, Any]:
        """Publish an earlier content as a new snapshot, and hold automatic ones until a person syncs."""
        mirrors = self.publishable(asked.get("mirrors") or [])
        allow = bool(asked.get("allow_deletions"))
        to = self._works.store.named(str(asked.get("snapshot", "")))
        if asked.get("dry_run"):
            manifest = self._works.store.load(to).manifest
            rehearsed = plans.rehearse(self._works, mirrors, manifest, None, allow_deletions=allow)
            rows = list(map(showing.rehearsed, rehearsed))
            return {"snapshot": None, "mirrors": rows, "dry_run": True, "warnings": [], "restores": to, "held": None}
        taken, held = syncing.rollback(self._works, to, who, allow_deletions=allow)
        self._again()
        self._note("rollback", f"{to} is published again as {taken.snapshot.id}", who)
        result = self._publish(mirrors, taken, allow, talk)
        return {**result, "restores": to, "held": showing.hold(held)}

    def _publish(
        self, mirrors: list[str], taken: Taken, allow: bool, talk: Talk, offer: plans.Offer | None = None
    ) -> dict[str, Any]:
        signed = self._works.store.load(taken.snapshot.id)
        seen = _seen(talk)
        gathering = self._publishing.gather(signed.snapshot.id, mirrors)
        runs: dict[str, Future[Published] | MirrordError] = {}
        for name in mirrors:
            try:
                runs[name] = self._start(name, signed, allow, seen, offer)
            except MirrordError as e:
                runs[name] = e
                self._publishing.stays_away(signed.snapshot.id, name)
        rows = []
        for name, run in runs.items():
            published = run.result() if isinstance(run, Future) else Published.failure(name, signed, run, 0.0)
            rows.append(showing.row(published))
            talk({"event": "mirror", "mirror": rows[-1]})
            for warning in published.warnings:
                talk({"event": "warn", "text": warning})
        syncing.tidy(self._works)
        return {
            "snapshot": showing.snapshot(taken.snapshot, changed=taken.changed),
            "mirrors": rows,
            "skew_seconds": None if gathering.skew is None else round(gathering.skew, 3),
            "dry_run": False,
            "warnings": list(taken.warnings),
        }

    def _start(
        self, mirror: str, signed: Signed, allow: bool, seen: syncing.Seen, offer: plans.Offer | None
    ) -> Future[Published]:
        agreed: Agreed | None = None
        if offer is not None:
            if (why := offer.left_out(mirror)) is not None:
                raise why
            agreed = functools.partial(offer.hold_to, mirror)
        # What nobody asked for must not turn a person away.
        patience = syncing.PATIENCE
        return self._publishing.start(
            mirror, signed, seen=seen, allow_deletions=allow, agreed=agreed, patience=patience
        )

    def _rehearse(self, mirrors: list[str], allow: bool, talk: Talk) -> dict[str, Any]:
        scanned = syncing.scan(self._works, allow_deletions=allow, seen=_seen(talk))
        current = self._works.store.newest()
        changed = bool(scanned.difference) or current is None
        same = None if changed or current is None else current
        rehearsed = plans.rehearse(self._works, mirrors, scanned.manifest, same, allow_deletions=allow)
        offer = self._offer(scanned.manifest, rehearsed, allow, talk)
        card = self._works.store.load(current).snapshot if same is not None and current is not None else None
        return {
            "snapshot": {
                "id": card.id if card else None,
                "serial": card.serial if card else None,
                "created": stamp(card.created) if card else None,
                "files": len(scanned.manifest.entries),
                "bytes": scanned.manifest.size,
                "changed": changed,
                "previous": current,
                "restores": None,
            },
            "change": showing.change(scanned.difference),
            "mirrors": list(map(showing.rehearsed, rehearsed)),
            "plan": None if offer is None else showing.offer(offer),
            "dry_run": True,
            "warnings": list(scanned.warnings),
        }

    def _offer(
        self, manifest: Manifest, rehearsed: Sequence[plans.Rehearsed], allow: bool, talk: Talk
    ) -> plans.Offer | None:
        """Keep what was shown, so that exactly that can be carried out; None where there is nothing to do."""
        if all(one.published.result != "planned" for one in rehearsed):
            return None
        offer = plans.Offer.of(manifest, rehearsed, allow_deletions=allow, made=time.time())
        try:
            self._offers.keep(offer)
        except MirrordError as e:  # what would happen is worth seeing all the same
            talk({"event": "warn", "text": str(e)})
            return None
        return offer

    def _sync_as_shown(self, asked: dict[str, Any], talk: Talk, who: str) -> dict[str, Any]:
        """Do exactly what a dry run showed, or nothing where the source changed since."""
        for word, option in (("mirrors", "MIRROR"), ("dry_run", "--dry-run"), ("allow_deletions", "--allow-deletions")):
            if asked.get(word):
                raise BadUsage(f"{option}: a plan says itself what is done and where; `--plan` stands alone")
        offer = self._offers.find(str(asked["plan"]))
        mirrors = self.publishable(list(offer.mirrors))
        allow, seen = offer.allow_deletions, _seen(talk)
        self._warn_of_hold(talk)
        scanned = syncing.scan(self._works, allow_deletions=allow, seen=seen)
        self._same_source(offer, scanned.manifest.sha256)
        taken = syncing.take(self._works, by_hand=True, allow_deletions=allow, seen=seen)
        self._say_taken(taken, talk, who)
        self._same_source(offer, taken.snapshot.manifest_sha256)
        self._go_on_by_itself(who)
        return {**self._publish(mirrors, taken, allow, talk, offer), "plan": showing.offer(offer)}

    def _same_source(self, offer: plans.Offer, manifest: str) -> None:
        if manifest != offer.manifest:
            shown = stamp(datetime.fromtimestamp(offer.made, UTC))
            raise Braked(
                f"{self._works.settings.site.name}: carrying out plan {offer.id}: the source changed since the plan was"
                f" shown ({shown}); nothing was sent; `mirrord sync --dry-run` shows what would happen now",
                "plan",
            )

    def _warn_of_hold(self, talk: Talk) -> None:
        if (why := syncing.why_no_publish(self._works)) is not None:
            talk({"event": "warn", "text": f"{why}; a sync by hand goes ahead all the same"})

    def publishable(self, names: list[str]) -> list[str]:
        """Return the mirrors meant, all that we publish to where none is named; raises BadUsage."""
        known = [mirror.name for mirror in self._works.settings.published()]
        for name in names:
            if self._works.settings.mirror(name).sftp is None:
                raise BadUsage(f"{name}: mirrord does not publish there: it has no [mirror.sftp]")
        if not known:
            raise BadUsage(f"{self._works.settings.file}: there is no mirror with [mirror.sftp] to publish to")
        return [name for name in known if not names or name in names]

    def _say_taken(self, taken: Taken, talk: Talk, who: str) -> None:
        for warning in taken.warnings:
            talk({"event": "warn", "text": warning})
        if taken.changed:
            self._note("snapshot", f"took {taken.snapshot.id}, serial {taken.snapshot.serial}", who)

    def _go_on_by_itself(self, who: str) -> None:
        """A person's sync is the way out of a rollback, and of a stop that an older state brought about."""
        if self._works.journal.held(SNAPSHOTS) is not None:
            self._works.jot(lambda: self._works.journal.unhold(SNAPSHOTS, who))
        self._again()


def _seen(talk: Talk) -> syncing.Seen:
    """Pass progress on to who asked, at most ten times a second and mirror."""
    last: dict[str, float] = {}

    def seen(mirror: str, done: Progress | Counted) -> None:
        now = time.monotonic()
        if now - last.get(mirror, 0.0) < 0.1 and done.files_done < done.files_total:
            return
        last[mirror] = now
        talk(
            {
                "event": "progress",
                "mirror": mirror,
                "files_done": done.files_done,
                "files_total": done.files_total,
                "bytes_done": done.bytes_done,
                "bytes_total": done.bytes_total,
            }
        )

    return seen
