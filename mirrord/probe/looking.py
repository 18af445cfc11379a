"""What does one look at one mirror take, and what comes of it?"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

from mirrord.health import Fault, Observation, Target
from mirrord.manifest import SnapshotId
from mirrord.probe.content import Findings, examine
from mirrord.probe.door import Door, Failed
from mirrord.probe.line import Line
from mirrord.probe.listings import Known, Listings
from mirrord.probe.markers import Marker, search
from mirrord.trust.keys import Signers


@dataclass(frozen=True, slots=True)
class Look:
    """Everything that one look needs to know beforehand."""

    target: Target
    url: str
    """What readers type (`site.url`)."""
    site: str
    """The site that a card must be for (`site.name`)."""
    identity: str
    """Who must have signed: the host name of `site.url`."""
    signers: Signers
    known: Known
    """Looks our own manifests up; whatever it does not know is fetched from the mirror and verified."""
    listings: Listings = field(repr=False)
    """Shared by all looks at a site."""
    timeout: float = 10.0
    """Seconds for the whole look."""
    names: frozenset[str] = frozenset()
    """The configured names: redirects to others are not followed."""
    ca_file: str | None = None
    """PEM file of the authorities to trust; None for this machine's own."""
    markers: tuple[Marker, ...] = ()
    """What pages of a `markers` mirror must contain."""
    suspects: frozenset[bytes] = frozenset()
    """Files once seen wrong, to be asked for again."""
    sample: int = 4
    """How many files are drawn by lot."""
    allowed: frozenset[SnapshotId] = frozenset()
    """Snapshots between which the mirror is just being moved: a file of any of them is settling, not wrong."""


def look(asked: Look, dice: random.Random) -> Observation:
    """Look at one mirror under one name at one address; whatever the mirror does, this returns by the deadline."""
    started, wall = time.monotonic(), time.time()
    fault: Fault | None = None
    found = Findings()
    line = Line(asked.target, asked.url, asked.ca_file, started + asked.timeout)
    with Door(line, asked.names) as door:
        try:
            if asked.target.markers:
                search(door, asked.markers)
            else:
                examine(door, asked, dice, found)
        except Failed as e:
            fault = e.fault
        return Observation(
            target=asked.target,
            started=started,
            ended=time.monotonic(),
            wall=wall,
            fault=fault or found.redirect or door.date_fault,
            snapshot=found.snapshot,
            right=frozenset(found.right),
            wrong=dict(found.wrong),
            settling=frozenset(found.settling),
            dropped=frozenset(found.dropped),
            certificate_days=door.certificate_days,
            date_offset=door.date_offset,
            evidence=dict(door.evidence),
        )
