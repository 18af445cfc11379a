"""What does a reader see who comes to a mirror now?

`look` is one observation: one mirror under one name at one address, within one deadline. `look_around` is one
round: everything at once, between two looks at the references. Both return facts; what follows from them is
judged by `mirrord.health`.

    line.py      the bytes get to one address and end in time
    faults.py    what a failed request means, in plain words
    door.py      a page as a reader gets it; with line.py the only use of `requests`
    listings.py  which files a snapshot has, remembered from look to look
    content.py   is what a mirror serves what its signature promises?
    markers.py   does a mirror that is not ours show what it should?
    viewing.py   what does a reader get of what was just published?
    looking.py   one observation, from its parameters
    rounds.py    everything at once, on a crew of workers
    fetching.py  a copy's files for `mirrord.trust`, as any reader may fetch them
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirrord.probe.fetching import fetcher
    from mirrord.probe.listings import Listings
    from mirrord.probe.looking import Look, look
    from mirrord.probe.markers import Marker
    from mirrord.probe.rounds import look_around
    from mirrord.probe.viewing import Viewed, view

__all__ = ["Listings", "Look", "Marker", "Viewed", "fetcher", "look", "look_around", "view"]


def __getattr__(name: str) -> Any:
    """Load everything when the first of its names is asked for: who looks at nothing need not load `requests`."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mirrord.probe.fetching import fetcher
    from mirrord.probe.listings import Listings
    from mirrord.probe.looking import Look, look
    from mirrord.probe.markers import Marker
    from mirrord.probe.rounds import look_around
    from mirrord.probe.viewing import Viewed, view

    found = (Listings, Look, Marker, Viewed, fetcher, look, look_around, view)
    globals().update(zip(__all__, found, strict=True))
    return globals()[name]
