"""What do we know of the mirrors' accounts, and where is it kept?

In the journal, under the mirror's name, so that every process of this controller goes by what one of them found out.
Where the journal cannot be written, this process remembers it as long as it runs; what cannot be read is found out
anew. What is known, and how it is found out, is said in `mirrord.hosts.remembered` and `trying`.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from mirrord.config import Settings
from mirrord.errors import MirrordError
from mirrord.hosts.account import Account
from mirrord.hosts.remembered import TRAITS, Remembered, from_json, to_json
from mirrord.journal import Journal

_log = logging.getLogger(__name__)


class Notes:
    """What is known of one mirror's account; implements `mirrord.hosts.remembered.Memory`."""

    def __init__(self, journal: Journal, mirror: str) -> None:
        """Nothing is read yet."""
        self._journal = journal
        self._mirror = mirror
        self._name = f"account {mirror}"
        self._newer: Remembered | None = None
        self._told = 0.0

    def recall(self) -> Remembered | None:
        """Return what was kept last; None for nothing, or nothing that can be read."""
        if self._newer is not None:
            return self._newer
        try:
            return from_json(self._journal.kept(self._name))
        except MirrordError as e:
            _log.warning("%s: what is known of its account cannot be read: %s", self._mirror, e)
            return None

    def remember(self, known: Remembered) -> None:
        """Keep this; never raises."""
        try:
            self._journal.keep(self._name, to_json(known))
        except MirrordError as e:
            self._newer = known
            _log.warning("%s: what is known of its account is not written down: %s", self._mirror, e)
        else:
            self._newer = None
        if known.tried_at != self._told and known.tried_at:
            self._told = known.tried_at
            lacks = [name for name in TRAITS if not known.findings[name].works]
            _log.info(
                "%s: tried what its account can do: %s", self._mirror, f"not {', '.join(lacks)}" if lacks else "all"
            )


class Accounts:
    """The accounts of a controller's mirrors, with what is known of them."""

    def __init__(self, journal: Journal) -> None:
        """Nothing is read yet."""
        self._journal = journal
        self._notes: dict[str, Notes] = {}

    def notes(self, mirror: str) -> Notes:
        """Return what is known of one mirror's account."""
        return self._notes.setdefault(mirror, Notes(self._journal, mirror))

    def account(self, settings: Settings, mirror: str) -> Account:
        """Return what it takes to log in, and what is known. Raises BadUsage."""
        return replace(settings.account(mirror), memory=self.notes(mirror))
