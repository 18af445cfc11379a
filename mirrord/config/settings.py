"""Which plain values does the configuration hand to everyone else?

`Settings` is the checked file. Nobody but the shell and the verbs sees it: the core gets the values that its
own modules define, made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, model_validator

from mirrord.config.model import (
    Control,
    Controller,
    GuardLimits,
    Mirror,
    Probe,
    Section,
    Service,
    Signing,
    Site,
    Snapshot,
    Source,
    State,
    Web,
)
from mirrord.errors import BadConfig, BadUsage
from mirrord.plan import Guard


class Settings(Section):
    """The whole configuration, checked; see `load`."""

    site: Site
    controller: Controller = Field(default_factory=Controller)
    source: Source | None = None
    snapshot: Snapshot = Snapshot()
    guard_limits: GuardLimits = Field(default=GuardLimits(), alias="guard")
    signing: Signing | None = None
    state: State = Field(default_factory=State)
    mirrors: tuple[Mirror, ...] = Field(alias="mirror", min_length=1)
    probe: Probe = Probe()
    services: tuple[Service, ...] = Field(default=(), alias="service")
    control: Control = Field(default_factory=Control)
    web: Web = Web()

    _file: Path = PrivateAttr(default=Path("mirrord.toml"))
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="before")
    @classmethod
    def _ports(cls, data: Any) -> Any:
        """Fill in `http.port` from site.url; `load` has found both well formed."""
        site = Site.model_validate(data["site"])
        mirrors = [
            {**mirror, "http": {"port": site.port, **mirror.get("http", {})}} for mirror in data.get("mirror", [])
        ]
        return {**data, "mirror": mirrors}

    @property
    def file(self) -> Path:
        """The file that was read."""
        return self._file

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know, a sentence each."""
        return self._warnings

    @property
    def identity(self) -> str:
        """Who signs: the host name of site.url."""
        return self.site.host

    @property
    def primary(self) -> Mirror | None:
        """The mirror in the primary datacentre."""
        return next((mirror for mirror in self.mirrors if mirror.role == "primary"), None)

    def mirror(self, name: str) -> Mirror:
        """Return a mirror by name. Raises BadUsage."""
        found = next((mirror for mirror in self.mirrors if mirror.name == name), None)
        if found is None:
            known = ", ".join(mirror.name for mirror in self.mirrors)
            raise BadUsage(f'there is no mirror "{name}" in {self.file}; there are: {known}')
        return found

    def service(self, name: str) -> Service:
        """Return a service by name. Raises BadUsage."""
        found = next((service for service in self.services if service.name == name), None)
        if found is None:
            known = ", ".join(service.name for service in self.services) or "none"
            raise BadUsage(f'there is no service "{name}" in {self.file}; there are: {known}')
        return found

    def published(self) -> tuple[Mirror, ...]:
        """Return the mirrors that mirrord publishes to."""
        return tuple(mirror for mirror in self.mirrors if mirror.sftp is not None)

    def guard(self) -> Guard:
        """Return how much may vanish before a person is asked."""
        return Guard(self.guard_limits.removed_percent, self.guard_limits.removed_files)

    def shown(self) -> Mapping[str, Any]:
        """Return every setting in force, in the file's own terms; secrets only by where they are."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def no_source(file: Path) -> BadConfig:
    """Say that there is nothing to take snapshots of."""
    return BadConfig([f"{file}: there is no [source]: this machine has nothing to take snapshots of"])
