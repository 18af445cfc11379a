"""Do a mirror's readers get what was just published to it?

That the account holds what was sent says nothing of the web server before it: its root, its caches, what it packs. So
after a switch one look is made as a reader's, at every address of the mirror, under the service's own names: the card,
the home page, some of the files that changed, and pages as browsers take them, packed. Caches may lag: what came from
before the switch is asked for again, for as long as a probe may take. Readers are led on already: what is seen is told,
undoes nothing, and delays no other mirror.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mirrord import probe
from mirrord.control.looking import look_at
from mirrord.control.works import Works
from mirrord.errors import MirrordError
from mirrord.health import Target
from mirrord.hosts import Step
from mirrord.journal import Event
from mirrord.manifest import Manifest, SnapshotId, is_plain, quote, show
from mirrord.probe.listings import Listings
from mirrord.publish import Published
from mirrord.siblings import base_of, groups

if TYPE_CHECKING:
    from mirrord.probe import Viewed

_log = logging.getLogger(__name__)

_PAUSE = 0.5
"""Seconds between two looks at what lags."""
_HOME = b"index.html"


@dataclass(frozen=True, slots=True)
class Choice:
    """What to ask for: files as they are, and packed copies by asking for their pages packed."""

    paths: tuple[bytes, ...]
    copies: tuple[bytes, ...]


def choose(
    new: Manifest, old: Manifest | None, sample: int, dice: random.Random, suspects: Collection[bytes] = ()
) -> Choice:
    """Choose the home page and up to `sample` files and packed copies each: suspects, then what changed, then others.

    `old` is what was served before; None: nothing is known of it.
    """
    entries = new.entries
    before = old.entries if old is not None else {}
    fresh = [path for path, entry in entries.items() if path not in before or before[path].digest != entry.digest]
    direct = {copy: base_of(copy) for copies in groups(entries).values() for copy in copies}
    files = [path for path in fresh if path not in direct]
    moved = set(fresh)
    home = (_HOME,) if _HOME in entries else ()

    def is_page(path: bytes) -> bool:
        return is_plain(path) and path != _HOME and path not in direct

    urgent = [copy for copy, base in direct.items() if copy in suspects or base in suspects]
    changed = [copy for copy, base in direct.items() if copy in moved or base in moved]
    return Choice(
        (
            *home,
            *_by_rank(([path for path in suspects if path in entries], files, list(entries)), is_page, sample, dice),
        ),
        tuple(_by_rank((urgent, changed, list(direct)), is_plain, sample, dice)),
    )


def _by_rank(
    groups: Sequence[Sequence[bytes]], fits: Callable[[bytes], bool], most: int, dice: random.Random
) -> list[bytes]:
    """Draw up to `most` paths that fit, from later groups only what earlier ones lack; few are ever looked at."""
    chosen: dict[bytes, None] = {}
    for group in groups:
        for path in dice.sample(group, min(len(group), 20 * most)):
            if len(chosen) >= most:
                break
            if fits(path):
                chosen.setdefault(path)
    return list(chosen)


class Viewer:
    """Looks at mirrors as readers do, after they were switched; from any thread."""

    def __init__(self, works: Works) -> None:
        """Start with no listing read."""
        self._works = works
        self._listings = Listings(keep=2)
        self._ready = False
        self._dice = random.Random()  # noqa: S311 (which files are drawn must only be hard to foresee, not secret)

    def get_ready(self) -> None:
        """Have a worker load what looks, while the bytes still travel; once is enough."""
        if not self._ready:
            self._ready = True
            self._works.probing.submit(lambda: probe.view)

    def view(self, published: Published, suspects: Collection[bytes] = ()) -> Published:
        """Return the result of a publish with what a reader saw after it; raises nothing.

        It takes no longer than a probe may, and no time where the web server cannot be reached.
        """
        try:
            return self._view(published, suspects)
        except Exception as e:  # noqa: BLE001 (a look that fails must not make a publish a failed one)
            if not isinstance(e, MirrordError) and not self._works.stop.is_set():
                _log.exception("%s: looking after the switch: something that nobody foresaw", published.mirror)
            return _warned(published, f"was not looked at after the switch: {str(e) or type(e).__name__}")

    def _view(self, published: Published, suspects: Collection[bytes]) -> Published:
        works = self._works
        wanted = SnapshotId(published.release)
        before = SnapshotId(published.instead_of) if published.instead_of else None
        new = works.store.manifest(wanted)
        targets = [target for target in works.settings.targets() if target.mirror == published.mirror]
        if new is None or not targets:
            return _warned(published, "was not looked at after the switch: nothing is known of where it is served")
        old = works.store.manifest(before) if before is not None else None
        choice = choose(new, old, works.settings.probe.sample, self._dice, suspects)
        views = self._until_seen(targets, wanted, before if old is not None else None, choice)
        faults = [text for target, seen in views.items() if (text := _what_lacks(target, seen, wanted, before))]
        if not faults:
            return replace(published, verified=Step.SEEN.value)
        wrong = {show(path): why for seen in views.values() for path, why in seen.wrong.items()}
        more = f" (and {len(faults) - 1} more addresses)" if len(faults) > 1 else ""
        text = f"a reader does not see all of {wanted}: {faults[0]}{more}"
        works.jot(
            lambda: works.journal.record(
                Event(
                    "view",
                    f"{published.mirror}: {text}",
                    about=published.mirror,
                    by=works.settings.controller.name,
                    details={"wrong": wrong},
                )
            )
        )
        return replace(_warned(published, text), seen_wrong=wrong)

    def _until_seen(
        self, targets: Collection[Target], wanted: SnapshotId, before: SnapshotId | None, choice: Choice
    ) -> Mapping[Target, Viewed]:
        """Look at all targets at once, and again at those that lag, until the time is up."""
        works = self._works
        deadline = time.monotonic() + works.settings.probe.timeout
        views: dict[Target, Viewed] = {}
        todo = list(targets)
        while todo:
            left = max(0.1, deadline - time.monotonic())
            asked = {target: replace(look_at(works, target, self._listings), timeout=left) for target in todo}
            looks = {
                target: works.probing.submit(probe.view, look, wanted, before, choice.paths, choice.copies)
                for target, look in asked.items()
            }
            views |= {target: look.result() for target, look in looks.items()}
            todo = [target for target in todo if _lags(views[target], wanted)]
            if not todo or time.monotonic() + _PAUSE >= deadline or works.stop.wait(_PAUSE):
                break
        return views


def _lags(seen: Viewed, wanted: SnapshotId) -> bool:
    """Tell whether a cache may be why something is not as it should be: it serves something of ours at least."""
    return seen.snapshot is not None and (seen.snapshot != wanted or bool(seen.wrong or seen.old))


def _what_lacks(target: Target, seen: Viewed, wanted: SnapshotId, before: SnapshotId | None) -> str | None:
    """Say what a reader of one address does not get as published; None where nothing is amiss."""
    where = f"{target.name} at {target.address}"
    if seen.snapshot is not None and seen.snapshot != wanted:
        return f"{where} still serves {seen.snapshot}; a cache on the way, perhaps"
    if seen.wrong:
        path, why = next(iter(sorted(seen.wrong.items())))
        more = f" (and {len(seen.wrong) - 1} more files)" if len(seen.wrong) > 1 else ""
        return f"{where}: {quote(path)} {why}{more}"
    if seen.fault is not None:
        return f"{where} {seen.fault.text}"
    if seen.old:
        return f"{where}: {quote(min(seen.old))} is still the one of {before}; a cache on the way, perhaps"
    return None


def _warned(published: Published, text: str) -> Published:
    return replace(published, warnings=(*published.warnings, f"{published.mirror}: {text}"))
