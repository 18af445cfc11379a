"""Which plain values does the configuration hand to everyone else?

`Settings` is the checked file. Nobody but the shell and the verbs sees it: the core gets the values that its
own modules define, made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, model_validator

from mirrord.config.model import (
    Bgp,
    Command,
    Control,
    Controller,
    Doctor,
    GuardLimits,
    Mirror,
    Probe,
    Publish,
    Section,
    Service,
    Sftp,
    Signing,
    Site,
    Snapshot,
    Source,
    State,
    Web,
)
from mirrord.decide import Policy
from mirrord.errors import BadConfig, BadUsage
from mirrord.health import Target, Thresholds
from mirrord.hosts.account import Account
from mirrord.plan import Guard
from mirrord.publish import Together
from mirrord.snapshot.source import Source as SourceFolder
from mirrord.switches import BgpSettings, CommandSettings, DnsSettings, LexiconSettings, SwitchSettings, Tsig
from mirrord.trust.keys import Signers, SigningKey, load_signing_key


class Settings(Section):
    """The whole configuration, checked; see `load`."""

    site: Site
    controller: Controller = Field(default_factory=Controller)
    source: Source | None = None
    snapshot: Snapshot = Snapshot()
    publish: Publish = Publish()
    guard_limits: GuardLimits = Field(default=GuardLimits(), alias="guard")
    signing: Signing | None = None
    state: State = Field(default_factory=State)
    mirrors: tuple[Mirror, ...] = Field(alias="mirror", min_length=1)
    probe: Probe = Probe()
    services: tuple[Service, ...] = Field(default=(), alias="service")
    control: Control = Field(default_factory=Control)
    web: Web = Web()
    doctor: Doctor = Doctor()

    _file: Path = PrivateAttr(default=Path("mirrord.toml"))
    _signers: Signers | None = PrivateAttr(default=None)
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="before")
    @classmethod
    def _ports(cls, data: Any) -> Any:
        """Fill in `http.port` from site.url; `load` has found both well formed. Tables left out get their defaults."""
        site = Site.model_validate(data["site"])
        mirrors = [
            {**mirror, "http": {"port": site.port, **mirror.get("http", {})}} for mirror in data.get("mirror", [])
        ]
        return {"state": {}, "control": {}, **data, "mirror": mirrors}

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

    def together(self) -> Together:
        """Return which mirrors wait for each other before readers are led over."""
        said = self.publish.together
        needed = {"none": 0, "all": None}[said] if said.isalpha() else int(said)
        return Together(needed, self.publish.together_wait)

    def guard(self) -> Guard:
        """Return how much may vanish before a person is asked."""
        return Guard(self.guard_limits.removed_percent, self.guard_limits.removed_files)

    def source_value(self) -> SourceFolder:
        """Return where the content is kept. Raises BadConfig."""
        if self.source is None:
            raise BadConfig([f"{self.file}: there is no [source]: this machine has nothing to take snapshots of"])
        folder = self.source
        return SourceFolder(folder.path, folder.exclude, folder.must_exist, folder.siblings == "check")

    def thresholds(self) -> Thresholds:
        """Return when single looks become a judgement."""
        return Thresholds(
            fall=self.probe.fall,
            rise=self.probe.rise,
            every=self.probe.every,
            hurried=self.probe.every / 2 if self.probe.suspicious_every is None else self.probe.suspicious_every,
            timeout=self.probe.timeout,
            max_lag=self.snapshot.max_lag,
            settle_content=self.probe.settle_content,
            refused_for=self.probe.refused_for,
            references=bool(self.probe.references),
        )

    def policy(self, service: str) -> Policy:
        """Return how a service wants to be served. Raises BadUsage."""
        wanted = self.service(service)
        mirrors = [self.mirror(name) for name in wanted.order]
        return Policy(
            service=wanted.name,
            order=wanted.order,
            serve=wanted.serve,
            answers=wanted.answers,
            failback=wanted.failback,
            settle=wanted.settle,
            dwell=wanted.dwell,
            longest_dwell=wanted.longest_dwell,
            ack_after=wanted.ack_after,
            on_revert=wanted.on_revert,
            markers=frozenset(mirror.name for mirror in mirrors if mirror.content == "markers"),
            places={mirror.name: mirror.place for mirror in mirrors if mirror.place},
            addresses={mirror.name: self._stands_for(wanted, mirror) for mirror in mirrors},
        )

    def _stands_for(self, service: Service, mirror: Mirror) -> tuple[str, ...]:
        """Return what stands where a mirror serves: its addresses, or what is announced of it."""
        return mirror.addresses if service.bgp is None else service.bgp.mirrors[mirror.name].texts

    def through(self, service: str, mirror: str) -> tuple[Target, ...]:
        """Return how a service is looked at through its announced addresses while a mirror serves; none without BGP."""
        bgp = self.service(service).bgp
        return tuple(
            replace(target, address=address)
            for target in self.targets()
            if (target.mirror, target.service) == (mirror, service)
            and target.address == self.mirror(mirror).addresses[0]
            for address in (bgp.service_addresses if bgp is not None else ())
        )

    def targets(self) -> tuple[Target, ...]:
        """Return everything that one round looks at: each mirror, under each name of its services, at each address.

        A mirror that stands in no service's order is looked at under the site's own name, for the service "".
        """
        return tuple(
            Target(
                mirror=mirror.name,
                service=service,
                name=name,
                address=address,
                port=mirror.http.port,
                https=self.site.https,
                markers=mirror.content == "markers",
            )
            for mirror in self.mirrors
            for service, name in self._names(mirror.name)
            for address in mirror.addresses
        )

    def _names(self, mirror: str) -> list[tuple[str, str]]:
        """Return (service, host name) of what a mirror should serve."""
        served = [
            (service.name, name) for service in self.services if mirror in service.order for name in service.names
        ]
        return served or [("", self.site.host)]

    def switch(self, service: str) -> SwitchSettings:
        """Return how a service's readers are moved; a secret is read when it is used. Raises BadUsage."""
        way = self.service(service).way
        if isinstance(way, Command):
            return CommandSettings(service, way.names, way.program, way.timeout, way.fence)
        if isinstance(way, Bgp):
            return BgpSettings(
                service=service,
                speaker=way.speaker,
                prefixes=way.prefixes,
                file=str(way.file),
                socket=str(way.socket),
                pipes=str(way.pipes),
                neighbour=way.neighbour,
                timeout=way.timeout,
            )
        if way.lexicon is not None:
            secrets = {
                key: partial(secret.read_text, f"{key} of {service}") for key, secret in way.lexicon.secrets.items()
            }
            return LexiconSettings(
                service=service,
                zone=way.zone,
                names=way.names,
                ttl=way.ttl,
                provider=way.lexicon.provider,
                options=way.lexicon.options,
                secrets=secrets,
                authoritative=way.authoritative,
                timeout=way.lexicon.timeout,
                notify=way.notify,
            )
        assert way.tsig is not None  # the file was checked
        secret, what = way.tsig.secret, f"TSIG secret of {service}"
        return DnsSettings(
            service=service,
            zone=way.zone,
            names=way.names,
            ttl=way.ttl,
            servers=way.servers,
            tsig=Tsig(way.tsig.name, way.tsig.algorithm, lambda: secret.read_text(what)),
            authoritative=way.authoritative,
            notify=way.notify,
            https=way.https,
            mx=way.mx,
        )

    def mx(self, service: str) -> Mapping[str, tuple[str, ...]]:
        """Return each mirror's MX records, where mail follows the readers. Raises BadUsage."""
        dns = self.service(service).dns
        return dns.mx if dns is not None else {}

    def references(self) -> tuple[str, ...]:
        """Return what answers unless our own network is gone, as `address:port`."""
        return tuple(str(reference) for reference in self.probe.references)

    def account(self, mirror: str) -> Account:
        """Return what it takes to log in to a mirror; its key is read then. Raises BadUsage."""
        sftp = self._sftp(mirror)
        key, what = sftp.key, f"SFTP key of {mirror}"
        return Account(
            mirror=mirror,
            host=sftp.host,
            port=sftp.port,
            user=sftp.user,
            key=lambda: key.read(what),
            host_key=sftp.host_key,
            root=sftp.root,
            layout=sftp.layout,
            serve=sftp.serve,
            bandwidth=sftp.bandwidth,
        )

    def keep(self, mirror: str) -> int:
        """Return how many releases are kept on a mirror. Raises BadUsage."""
        return self._sftp(mirror).keep

    def _sftp(self, name: str) -> Sftp:
        sftp = self.mirror(name).sftp
        if sftp is None:
            raise BadUsage(f"{name}: publishing there: {self.file} has no [mirror.sftp] for it")
        return sftp

    def signing_key_is_here(self) -> bool:
        """Tell whether this machine could sign now."""
        try:
            self.signing_key()
        except BadConfig:
            return False
        return True

    def signing_key(self) -> SigningKey:
        """Read the key that signs snapshots. Raises BadConfig."""
        if self.signing is None or self.signing.key is None:
            raise BadConfig([f"{self.file}: there is no signing.key: this machine cannot sign snapshots"])
        secret = self.signing.key
        return load_signing_key(secret.read("signing key"), str(secret))

    def signers(self) -> Signers:
        """Return whose signatures count: our own key, and those of `signing.accept`. Raises BadConfig."""
        if self._signers is None:
            keys: list[str] = list(self.signing.accept) if self.signing is not None else []
            if self.signing is not None and self.signing.key is not None:
                # Without it every mirror would look altered: better no judgement than that one.
                keys.append(str(self.signing_key().public))
            self._signers = Signers.of(keys)
        return self._signers

    def shown(self) -> Mapping[str, Any]:
        """Return every setting in force, in the file's own terms; secrets only by where they are."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
