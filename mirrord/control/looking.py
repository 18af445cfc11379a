"""What is to be looked at, and with what in hand?

A `Looker` turns the settings and what is held true now into one round of looks, or into the one fresh
look at a target that every move needs. How a look is made is said in `mirrord.probe`, what follows
from it in `mirrord.health`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from mirrord import probe
from mirrord.control.works import Works
from mirrord.health import Fresh, Round, Standing, Target, freshly
from mirrord.journal import Run
from mirrord.manifest import SnapshotId
from mirrord.probe.listings import Listings

if TYPE_CHECKING:
    from mirrord.probe import Look


class Looker:
    """Makes rounds of looks, with this controller's settings; from any thread."""

    def __init__(self, works: Works) -> None:
        """Start with no listing read."""
        self._works = works
        self._listings = Listings(keep=4 + len(works.settings.mirrors))
        self._dice = random.Random()  # noqa: S311 (which files are drawn must only be hard to foresee, not secret)

    def round(self, standing: Standing, mirrors: Collection[str] = ()) -> Round:
        """Look at everything (or these mirrors) once, between two looks at the references."""
        wanted = [target for target in self._works.settings.targets() if not mirrors or target.mirror in mirrors]
        return self._around(standing, wanted)

    def at(self, standing: Standing, targets: Collection[Target]) -> Round:
        """Look at these targets once, between two looks at the references."""
        return self._around(standing, targets)

    def fresh(self, standing: Standing, mirror: str, service: str) -> Fresh:
        """Look at one target now, fully, and judge it by itself."""
        settings = self._works.settings
        wanted = [target for target in settings.targets() if (target.mirror, target.service) == (mirror, service)]
        seen = self._around(standing, wanted)
        return freshly(seen, standing, mirror, service, settings.thresholds(), published=self.published())

    def published(self) -> Mapping[str, float]:
        """Return mirror -> the latest moment (monotonic) at which we changed, or were changing, what it serves."""
        now = time.monotonic()
        ages = {name: self._changed(run) for name, run in self._works.journal.publishes().items()}
        return {name: now - age for name, age in ages.items() if age is not None}

    def _changed(self, run: Run) -> float | None:
        """Return for how many seconds nothing of ours has changed what a mirror serves; None if nothing ever did.

        A publish that found nothing to do changed nothing, and one whose process was killed changes nothing any more.
        """
        if run.ended is None:
            return 0.0 if self._works.is_at_work(f"publish-{run.mirror}") else run.age
        return run.changed

    def _around(self, standing: Standing, targets: Collection[Target]) -> Round:
        settings = self._works.settings
        return probe.look_around(
            [self._look(standing, target) for target in targets],
            settings.probe.references,
            self._works.probing,
            timeout=settings.probe.timeout,
            dice=self._dice,
        )

    def _look(self, standing: Standing, target: Target) -> Look:
        return replace(
            look_at(self._works, target, self._listings),
            suspects=standing.suspects(target.mirror, target.service),
            allowed=self._allowed(target.mirror),
        )

    def _allowed(self, mirror: str) -> frozenset[SnapshotId]:
        """Return the snapshots between which we are moving the mirror just now, or did a moment ago."""
        run = self._works.journal.publishes().get(mirror)
        changed = None if run is None else self._changed(run)
        if run is None or changed is None or changed > self._works.settings.probe.settle_content:
            return frozenset()
        return frozenset(SnapshotId(found) for found in (run.id, run.instead_of) if found)


def look_at(works: Works, target: Target, listings: Listings) -> Look:
    """Make what a look at a target needs to know by the settings alone. Raises BadConfig."""
    settings = works.settings
    http = settings.mirror(target.mirror).http
    return probe.Look(
        target=target,
        url=settings.site.url,
        site=settings.site.name,
        identity=settings.identity,
        signers=settings.signers(),
        known=works.store.manifest,
        listings=listings,
        timeout=settings.probe.timeout,
        names=frozenset({settings.site.host, *(name for s in settings.services for name in s.names)}),
        ca_file=None if http.ca_file is None else str(http.ca_file),
        markers=tuple(probe.Marker(marker.path, marker.contains) for marker in http.markers),
        sample=settings.probe.sample,
    )
