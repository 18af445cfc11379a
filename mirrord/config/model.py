"""What may stand in the configuration? One class a table, one field a key.

A field's description is what `config.example.toml` says about it in more words. Every class is frozen and
forbids unknown keys. What concerns several tables at once is in `checks`; the sentences about faults are
made in `faults`.
"""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from mirrord.config.secret import Secret
from mirrord.config.surroundings import surroundings
from mirrord.config.units import (
    Address,
    Address53,
    DnsName,
    Duration,
    HostKey,
    Listen,
    LocalPath,
    Prefix,
    Rates,
    SignerKey,
    Size,
    Text,
    Together,
    read_address,
    read_dns_name,
    read_mx,
)
from mirrord.hosts import READ_BACK
from mirrord.hosts.bandwidth import UNLIMITED
from mirrord.switches import Endpoint
from mirrord.switches.announcing import Announcement, read_community

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0

Port = Annotated[StrictInt, Field(ge=1, le=65535)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[StrictInt, Field(ge=1, le=10_000)]


class Section(BaseModel):
    """A table of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False, hide_input_in_errors=True)


class Site(Section):
    """Which site this is."""

    name: Name
    url: Text

    @field_validator("url")
    @classmethod
    def _url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f'should be what readers type, such as "https://www.example.org/", is "{url}"')
        if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
            raise ValueError(f'"{url}" is more than a site: mirrord mirrors whole host names, so the path must be "/"')
        try:
            port = parts.port
        except ValueError:
            raise ValueError(f'"{url}" has no valid port') from None
        name = read_dns_name(parts.hostname)
        return f"{parts.scheme}://{name}{'' if port is None else f':{port}'}/"

    @property
    def host(self) -> str:
        """The host name in the URL: the identity of every signature."""
        return urlsplit(self.url).hostname or ""

    @property
    def https(self) -> bool:
        """Whether readers use TLS."""
        return self.url.startswith("https:")

    @property
    def port(self) -> int:
        """The port that the URL names or means."""
        return urlsplit(self.url).port or (443 if self.https else 80)


class Controller(Section):
    """Which mirrord this is, and where it stands."""

    name: Annotated[Text, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")] = Field(
        default_factory=lambda: re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:63] or "mirrord"
    )
    place: str = ""


class Source(Section):
    """Where the canonical content is."""

    path: LocalPath
    exclude: tuple[Text, ...] = ()
    must_exist: tuple[Text, ...] = ()
    siblings: Literal["check", "ignore"] = "check"

    @field_validator("must_exist")
    @classmethod
    def _inside(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            if path.startswith("/") or ".." in path.split("/"):
                raise ValueError(f'"{path}" should be a path inside source.path, without "/" in front')
        return paths


class Snapshot(Section):
    """How often the source is looked at, and what is kept."""

    every: Annotated[Duration, Field(ge=1)] = 15 * _MINUTE
    keep: Count = 30
    max_lag: Annotated[Duration, Field(ge=1)] = _DAY
    next_expected: Annotated[Duration, Field(ge=_DAY)] = 2 * _DAY


class Publish(Section):
    """How the mirrors come to the same snapshot."""

    together: Together = "none"
    together_wait: Annotated[Duration, Field(gt=0)] = 10 * _MINUTE
    grace: Annotated[Duration, Field(ge=0, le=7 * _DAY)] = _HOUR
    read_back: Size = READ_BACK


class GuardLimits(Section):
    """How much may vanish before a person is asked."""

    removed_percent: Percent = 10.0
    removed_files: Annotated[StrictInt, Field(ge=0)] = 10


class Signing(Section):
    """What snapshots are signed with, and which further signatures count."""

    key: Secret | None = None
    accept: tuple[SignerKey, ...] = ()

    @model_validator(mode="after")
    def _something(self) -> Signing:
        if self.key is None and not self.accept:
            raise ValueError(
                'needs key = { file = "/path" }, or at least accept = ["ssh-ed25519 AAAA..."] where this machine '
                "never publishes"
            )
        return self


class State(Section):
    """Where mirrord keeps what must outlive a restart."""

    directory: LocalPath = Path("/var/lib/mirrord")

    @model_validator(mode="before")
    @classmethod
    def _place(cls, data: Any, info: ValidationInfo) -> Any:
        """Take the folder that systemd gives, else the one that `mirrord@.service` would give a site of this name."""
        if isinstance(data, dict) and "directory" not in data:
            usual = Path("/var/lib/mirrord") / ((info.context or {}).get("instance") or "")
            return data | {"directory": str(surroundings().state_directory or usual)}
        return data


class Marker(Section):
    """What a page of a mirror must contain for the mirror to be well."""

    path: str = "/"
    contains: Text

    @field_validator("path")
    @classmethod
    def _path(cls, path: str) -> str:
        if not path.startswith("/"):
            raise ValueError(f'should be the path of a page, such as "/", is "{path}"')
        return path


class Http(Section):
    """How mirrord looks at a mirror."""

    port: Port = 443
    ca_file: LocalPath | None = None
    markers: tuple[Marker, ...] = ()


class Sftp(Section):
    """The account that mirrord publishes to."""

    host: Text
    port: Port = 22
    user: Text
    key: Secret
    host_key: HostKey
    root: Text = "."
    layout: Literal["auto", "releases", "rename", "inplace"] = "auto"
    serve: Text = "current"
    keep: Count = 5
    bandwidth: Rates = UNLIMITED

    @field_validator("host")
    @classmethod
    def _host(cls, host: str) -> str:
        try:
            return read_address(host)
        except ValueError:
            try:
                return read_dns_name(host)
            except ValueError:
                raise ValueError(f'should be an address or a name, without user or port, is "{host}"') from None

    @field_validator("serve")
    @classmethod
    def _serve(cls, serve: str) -> str:
        if "/" in serve or serve in (".", "..", "releases", "staging", ".mirrord"):
            raise ValueError(f'should be one name inside root, not "releases", "staging" or ".mirrord", is "{serve}"')
        return serve


class Mirror(Section):
    """A host that can serve the site."""

    name: Name
    role: Literal["primary", "mirror"] = "mirror"
    place: str = ""
    content: Literal["snapshot", "markers"] = "markers"
    addresses: Annotated[tuple[Address, ...], Field(min_length=1)]
    http: Http = Http()
    sftp: Sftp | None = None

    @model_validator(mode="before")
    @classmethod
    def _content(cls, data: Any) -> Any:
        if isinstance(data, dict) and "content" not in data:
            return data | {"content": "snapshot" if "sftp" in data else "markers"}
        return data

    @property
    def ipv4(self) -> tuple[str, ...]:
        """Its IPv4 addresses."""
        return tuple(address for address in self.addresses if ":" not in address)

    @property
    def ipv6(self) -> tuple[str, ...]:
        """Its IPv6 addresses."""
        return tuple(address for address in self.addresses if ":" in address)


class Probe(Section):
    """How mirrors are looked at, and how many looks make a verdict."""

    every: Annotated[Duration, Field(ge=0.05)] = 30.0
    suspicious_every: Annotated[Duration, Field(ge=0.05)] | None = None
    timeout: Annotated[Duration, Field(ge=0.05)] = 10.0
    fall: Annotated[StrictInt, Field(ge=1, le=100)] = 3
    rise: Annotated[StrictInt, Field(ge=1, le=100)] = 2
    references: tuple[Address53, ...] = (
        Endpoint("9.9.9.9", 53),
        Endpoint("1.1.1.1", 53),
        Endpoint("2620:fe::fe", 53),
    )
    settle_content: Duration = 2 * _MINUTE
    refused_for: Duration = 5 * _MINUTE
    sample: Annotated[StrictInt, Field(ge=1, le=1000)] = 8


class Tsig(Section):
    """The key that signs DNS updates."""

    name: DnsName
    algorithm: Literal["hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"] = "hmac-sha256"
    secret: Secret


class Lexicon(Section):
    """How lexicon reaches a DNS provider."""

    provider: Text
    options: dict[Text, Text] = {}
    secrets: dict[Text, Secret] = {}
    timeout: Annotated[Duration, Field(ge=1)] = 20.0

    @field_validator("options")
    @classmethod
    def _options(cls, options: dict[str, str]) -> dict[str, str]:
        for key in options:
            if re.search(r"token|passw|secret|private|key", key):
                raise ValueError(f'{key} looks like a secret: it belongs in secrets, as {{ file = "/path" }}')
        return options


class Dns(Section):
    """How a service's names are moved: by DNS updates (RFC 2136), or by a DNS provider's interface."""

    provider: Literal["rfc2136", "lexicon"] = "rfc2136"
    zone: DnsName
    names: Annotated[tuple[DnsName, ...], Field(min_length=1)]
    ttl: Annotated[StrictInt, Field(ge=1, le=86400)] = 60
    servers: tuple[Address53, ...] = Field(default=(), validate_default=True)
    authoritative: tuple[Address53, ...] = ()
    notify: StrictBool = True
    resolvers: tuple[Address53, ...] = ()
    https: StrictBool = False
    mx: dict[Name, tuple[Text, ...]] = {}
    tsig: Tsig | None = Field(default=None, validate_default=True)
    lexicon: Lexicon | None = Field(default=None, validate_default=True)

    @field_validator("mx")
    @classmethod
    def _mx(cls, mx: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        return {mirror: tuple(read_mx(text) for text in texts) for mirror, texts in mx.items()}

    @field_validator("https", "mx")
    @classmethod
    def _only_by_updates(cls, value: Any, info: ValidationInfo) -> Any:
        if value and info.data.get("provider") == "lexicon":
            raise ValueError('works with provider = "rfc2136" only')
        return value

    @field_validator("servers", "tsig", "lexicon")
    @classmethod
    def _as_the_provider_wants(cls, value: Any, info: ValidationInfo) -> Any:
        provider = info.data.get("provider")
        if provider is None:
            return value
        wanted = provider == ("lexicon" if info.field_name == "lexicon" else "rfc2136")
        if wanted and not value:
            raise PydanticCustomError("missing" if value is None or value == () else "too_short", "is missing")
        if value and not wanted:
            raise ValueError(f'has no effect with provider = "{provider}"')
        return value


class Command(Section):
    """How a service's readers are moved by a program of the operator's own."""

    program: Annotated[tuple[Text, ...], Field(min_length=1)]
    names: Annotated[tuple[DnsName, ...], Field(min_length=1)]
    ttl: Annotated[StrictInt, Field(ge=0, le=86400)] = 60
    timeout: Annotated[Duration, Field(ge=0.1)] = _MINUTE
    fence: Literal["atomic", "best-effort"] = "best-effort"

    @field_validator("program")
    @classmethod
    def _program(cls, program: tuple[str, ...]) -> tuple[str, ...]:
        if not program[0].startswith("/"):
            raise ValueError(f'should begin with the whole path of a program, begins with "{program[0]}"')
        return program


class Announced(Section):
    """What is announced where one mirror serves."""

    next_hops: Annotated[tuple[Address, ...], Field(min_length=1)]
    med: Annotated[StrictInt, Field(ge=0, le=(1 << 32) - 1)] | None = None
    communities: tuple[Text, ...] = ()

    @field_validator("next_hops")
    @classmethod
    def _next_hops(cls, hops: tuple[str, ...]) -> tuple[str, ...]:
        if len({":" in hop for hop in hops}) != len(hops):
            raise ValueError("should be one next hop for each family, at most")
        return hops

    @field_validator("communities")
    @classmethod
    def _communities(cls, communities: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(read_community(text) for text in communities)

    @property
    def texts(self) -> tuple[str, ...]:
        """What is announced, as the switch writes it: one line for each next hop."""
        return tuple(Announcement.of(hop, self.med, self.communities).text for hop in self.next_hops)


class Bgp(Section):
    """How a service's readers are moved by announcing its prefixes with another next hop."""

    speaker: Literal["bird", "exabgp"]
    names: Annotated[tuple[DnsName, ...], Field(min_length=1)]
    prefixes: Annotated[tuple[Prefix, ...], Field(min_length=1)]
    addresses: tuple[Address, ...] = ()
    file: LocalPath
    socket: LocalPath = Path("/run/bird/bird.ctl")
    pipes: LocalPath = Path("/run/exabgp/exabgp")
    neighbour: tuple[Text, ...] = ()
    timeout: Annotated[Duration, Field(ge=0.1)] = 5.0
    mirrors: Annotated[dict[Name, Announced], Field(min_length=1)]

    @field_validator("neighbour")
    @classmethod
    def _neighbour(cls, program: tuple[str, ...]) -> tuple[str, ...]:
        if program and not program[0].startswith("/"):
            raise ValueError(f'should begin with the whole path of a program, begins with "{program[0]}"')
        return program

    @field_validator("file")
    @classmethod
    def _file(cls, file: Path) -> Path:
        if not re.fullmatch(r"[A-Za-z0-9/._@+-]+", str(file)):
            raise ValueError(f'should be made of a-z, 0-9 and ./_@+- only, since speakers read it, is "{file}"')
        return file

    @model_validator(mode="after")
    def _fits(self) -> Bgp:
        for number, prefix in enumerate(self.prefixes):
            if any(
                ip_network(prefix).overlaps(ip_network(other))
                for other in self.prefixes[:number]
                if _same(prefix, other)
            ):
                raise ValueError(f"prefixes: {prefix} overlaps another one")
        for address in self.addresses:
            if not any(ip_address(address) in ip_network(prefix) for prefix in self.prefixes):
                raise ValueError(f"addresses: {address} is in none of the prefixes")
        for prefix in self.prefixes:
            if not any(ip_address(address) in ip_network(prefix) for address in self.service_addresses):
                raise ValueError(f"addresses: has none in {prefix}: name one that readers use, to be fetched from")
        return self

    @property
    def service_addresses(self) -> tuple[str, ...]:
        """The addresses that readers use, whoever serves: those given, or the only one that a prefix has."""
        alone = (ip_network(prefix) for prefix in self.prefixes)
        return self.addresses or tuple(str(it.network_address) for it in alone if it.num_addresses == 1)

    @property
    def ttl(self) -> int:
        """Readers follow the routers; nobody keeps an old answer."""
        return 0

    @property
    def fence(self) -> Literal["atomic", "best-effort"]:
        """BIRD does what its file says, which is changed under a lock; anybody can tell ExaBGP something else."""
        return "atomic" if self.speaker == "bird" else "best-effort"


def _same(one: str, other: str) -> bool:
    return (":" in one) == (":" in other)


class Service(Section):
    """A name that readers use, with the order in which mirrors should serve it."""

    name: Name
    order: Annotated[tuple[Text, ...], Field(min_length=1)]
    serve: Literal["first", "all"] = "first"
    answers: Annotated[StrictInt, Field(ge=1, le=50)] = 8
    failback: Literal["manual", "auto"] = "manual"
    settle: Duration = _HOUR
    dwell: Duration = 2 * _MINUTE
    longest_dwell: Duration = _HOUR
    ack_after: Duration = 6 * _HOUR
    on_revert: Literal["ask", "reassert"] = "ask"
    drill_every: Duration = 0.0
    dns: Dns | None = None
    command: Command | None = None
    bgp: Bgp | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Service:
        given = [way for way in (self.dns, self.command, self.bgp) if way is not None]
        if len(given) != 1:
            raise ValueError(
                "should say how its readers are moved: [service.dns], [service.command] or [service.bgp], one of them"
            )
        return self

    @property
    def way(self) -> Dns | Command | Bgp:
        """How its readers are moved."""
        way = self.dns or self.command or self.bgp
        assert way is not None
        return way

    @property
    def fence(self) -> Literal["atomic", "best-effort"]:
        """Whether a change is compare-and-set, or somebody may come between our look and our change."""
        if self.dns is not None and self.dns.provider == "lexicon":
            return "best-effort"
        way = self.command or self.bgp
        return way.fence if way is not None else "atomic"

    @property
    def names(self) -> tuple[str, ...]:
        """The host names that readers use."""
        return self.way.names

    @property
    def ttl(self) -> int:
        """For how long readers may stay with what they were told, in seconds."""
        return self.way.ttl


class Control(Section):
    """Where the daemon listens for the verbs."""

    socket: LocalPath = Path("/run/mirrord/control.sock")

    @model_validator(mode="before")
    @classmethod
    def _place(cls, data: Any, info: ValidationInfo) -> Any:
        """Take the folder that systemd gives, else the one that `mirrord@.service` would give a site of this name."""
        if isinstance(data, dict) and "socket" not in data:
            instance = (info.context or {}).get("instance")
            usual = Path(f"/run/mirrord-{instance}" if instance else "/run/mirrord")
            return data | {"socket": str((surroundings().runtime_directory or usual) / "control.sock")}
        return data


class Web(Section):
    """Where the operator's page will be."""

    listen: Listen = ""


class Doctor(Section):
    """Whom `mirrord doctor` asks, besides mirrors and name servers."""

    rdap: str = "https://rdap.org/"

    @field_validator("rdap")
    @classmethod
    def _rdap(cls, rdap: str) -> str:
        if rdap and not rdap.startswith(("https://", "http://")):
            raise ValueError(
                f'should be the address of an RDAP service such as "https://rdap.org/", or "", is "{rdap}"'
            )
        return rdap


SECTIONS: dict[str, type[Section]] = {
    "site": Site,
    "controller": Controller,
    "source": Source,
    "snapshot": Snapshot,
    "publish": Publish,
    "guard": GuardLimits,
    "signing": Signing,
    "state": State,
    "probe": Probe,
    "control": Control,
    "web": Web,
    "doctor": Doctor,
}
"""The tables that stand once, by key; `mirror` and `service` stand any number of times."""
LISTS: dict[str, type[Section]] = {"mirror": Mirror, "service": Service}
