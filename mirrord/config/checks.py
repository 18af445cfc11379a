"""Do the tables of a configuration fit together?

Each table has been checked by itself in `model`; what is asked here concerns two or more of them. A fault
makes the file unusable; a warning is told and lived with. Works on the tables that are good by themselves,
so that one bad table does not hide what is wrong between the others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from mirrord.config.faults import Fault, nearest
from mirrord.config.lines import Path as Place
from mirrord.config.model import (
    Control,
    Controller,
    Doctor,
    Mirror,
    Probe,
    Publish,
    Service,
    Signing,
    Site,
    Snapshot,
    Source,
    State,
    Web,
)
from mirrord.config.secret import Secret
from mirrord.config.units import family, show_duration
from mirrord.journal.values import PUBLISHING

_SOCKET_PATH = 107
"""Bytes of a unix socket's path (unix(7): 108 with the NUL)."""


@dataclass(slots=True)
class Draft:
    """The tables that are good by themselves; None where one is missing or faulty."""

    site: Site | None
    controller: Controller | None
    source: Source | None
    snapshot: Snapshot | None
    publish: Publish | None
    signing: Signing | None
    state: State | None
    probe: Probe | None
    control: Control | None
    web: Web | None
    doctor: Doctor | None
    mirrors: dict[int, Mirror]
    """By their place among all `[[mirror]]` tables."""
    services: dict[int, Service]
    named: list[str]
    """The names of all mirrors, faulty ones too: a faulty table is not an unknown mirror."""
    given: frozenset[str]
    """The top tables that stand in the file, faulty ones too."""
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)

    def fault(self, place: Place, text: str) -> None:
        """Note what makes the file unusable."""
        self.faults.append(Fault(place, text))

    def warn(self, place: Place, text: str) -> None:
        """Note what a person should know."""
        self.warnings.append(Fault(place, text))

    def mirror(self, name: str) -> Mirror | None:
        """Return the mirror of this name, if it is a good one."""
        return next((mirror for mirror in self.mirrors.values() if mirror.name == name), None)


def check(draft: Draft) -> None:
    """Note everything that does not fit together in `draft.faults` and `draft.warnings`."""
    for question in _QUESTIONS:
        question(draft)


def _names_stand_once(draft: Draft) -> None:
    for kind, tables in (("mirror", draft.mirrors), ("service", draft.services)):
        seen: dict[str, int] = {}
        for index, table in tables.items():
            first = seen.setdefault(table.name, index)
            if first != index:
                draft.fault((kind, index, "name"), f"stands already at {kind} number {first + 1}")
            if kind == "service" and table.name == PUBLISHING:
                text = f"`mirrord hold {PUBLISHING}` stops publishing; a service needs another name"
                draft.fault((kind, index, "name"), text)


def _one_primary(draft: Draft) -> None:
    primaries = [index for index, mirror in draft.mirrors.items() if mirror.role == "primary"]
    for index in primaries[1:]:
        first = draft.mirrors[primaries[0]].name
        draft.fault(("mirror", index, "role"), f'"{first}" is the primary already; there can be only one')
    if draft.mirrors and len(draft.mirrors) == len(draft.named) and not primaries:
        draft.warn(
            ("mirror", 0),
            'no mirror has role = "primary": give it to the one in the datacentre that usually serves',
        )


def _addresses_stand_once(draft: Draft) -> None:
    owners: dict[str, str] = {}
    for index, mirror in draft.mirrors.items():
        for number, address in enumerate(mirror.addresses):
            place = ("mirror", index, "addresses", number)
            if address not in owners:
                owners[address] = mirror.name
            elif owners[address] == mirror.name:
                draft.fault(place, f"{address} stands here twice")
            else:
                draft.fault(
                    place,
                    f'{address} is an address of "{owners[address]}" too; mirrors that share an address cannot be '
                    "told apart",
                )


def _accounts_stand_once(draft: Draft) -> None:
    owners: dict[tuple[str, int, str, str], str] = {}
    for index, mirror in draft.mirrors.items():
        if mirror.sftp is None:
            continue
        account = (mirror.sftp.host, mirror.sftp.port, mirror.sftp.user, mirror.sftp.root)
        owner = owners.setdefault(account, mirror.name)
        if owner != mirror.name:
            draft.fault(("mirror", index, "sftp"), f'is the same account and root as that of "{owner}"')


def _content_fits(draft: Draft) -> None:
    for index, mirror in draft.mirrors.items():
        place: Place = ("mirror", index)
        if mirror.content == "markers" and mirror.sftp is not None:
            draft.fault(
                (*place, "content"),
                'is "markers", so mirrord does not publish there, yet [mirror.sftp] says how to; leave one of them out',
            )
        if mirror.content == "snapshot" and mirror.http.markers:
            draft.warn(
                (*place, "http", "markers"),
                'have no effect: they are for content = "markers"; a snapshot is checked file by file',
            )
        if mirror.content == "snapshot" and mirror.sftp is None:
            draft.warn(
                (*place, "content"),
                'is "snapshot" without [mirror.sftp]: its content is verified, but somebody else must publish it',
            )
        if mirror.content == "markers" and mirror.sftp is None and not mirror.http.markers:
            draft.warn(
                place,
                'has no http.markers: any page with status 200 at "/" counts as well; name a text that must be on it',
            )


def _publishing_is_whole(draft: Draft) -> None:
    published = [index for index, mirror in draft.mirrors.items() if mirror.sftp is not None]
    if published and "source" not in draft.given:
        draft.fault(("mirror", published[0], "sftp"), "says where to publish, but there is no [source]")
    snapshots = [index for index, mirror in draft.mirrors.items() if mirror.content == "snapshot"]
    if snapshots and "signing" not in draft.given:
        draft.fault(
            ("mirror", snapshots[0]),
            'is a "snapshot" mirror, but there is no [signing] that says whose signature counts',
        )
    if published and draft.signing is not None and draft.signing.key is None:
        draft.warn(("signing",), "has no key: this machine can check and switch mirrors, not publish to them")
    if draft.source is not None and draft.state is not None:
        inner, outer = draft.state.directory, draft.source.path
        if inner.is_relative_to(outer):
            draft.fault(
                ("state", "directory"),
                f"{inner} lies inside source.path, so mirrord's own state would be published",
            )
        if outer.is_relative_to(inner) and outer != inner:
            draft.fault(("source", "path"), f"{outer} lies inside state.directory, which is mirrord's own")


def _enough_can_go_together(draft: Draft) -> None:
    published = sum(mirror.sftp is not None for mirror in draft.mirrors.values())
    wanted = draft.publish.together if draft.publish is not None else "none"
    if wanted.isdigit() and int(wanted) > published and len(draft.mirrors) == len(draft.named):
        draft.fault(
            ("publish", "together"),
            f'is {wanted}, but mirrord publishes to {published} mirrors only; "all" means all of them',
        )


def _orders_are_known(draft: Draft) -> None:
    for index, service in draft.services.items():
        seen: set[str] = set()
        for number, name in enumerate(service.order):
            place = ("service", index, "order", number)
            if name not in draft.named:
                draft.fault(place, f'there is no mirror "{name}"{nearest(name, draft.named)}')
            if name in seen:
                draft.fault(place, f'"{name}" stands here twice')
            seen.add(name)
        mail = service.dns.mx if service.dns is not None else {}
        for name in [*mail.keys() - set(service.order), *(set(service.order) - mail.keys() if mail else ())]:
            text = "has no MX: its readers' mail would stay" if name in service.order else "is not in the order"
            draft.fault(("service", index, "dns", "mx"), f'"{name}" {text}')
        if len(service.order) == 1:
            draft.warn(
                ("service", index, "order"),
                f'has one mirror: if "{service.order[0]}" fails there is nowhere to go',
            )
        places = {mirror.place for name in service.order if (mirror := draft.mirror(name))}
        if len(service.order) > 1 and len(places) == 1 and "" not in places:
            draft.warn(
                ("service", index, "order"),
                f'all its mirrors stand in "{places.pop()}" and fail together: there would be nowhere to go',
            )
        if service.dwell > service.longest_dwell:
            text = f"has no effect: the dwell begins with {show_duration(service.dwell)}"
            draft.warn(("service", index, "longest_dwell"), text)
        first = draft.mirror(service.order[0])
        if service.failback == "auto" and first is not None and first.content == "markers":
            draft.warn(
                ("service", index, "failback"),
                f'is "auto", but "{first.name}" is a "markers" mirror: nobody can prove that it has caught up, '
                "so going back there is always by hand",
            )


def _orders_are_complete(draft: Draft) -> None:
    used = {name for service in draft.services.values() for name in service.order}
    for index, mirror in draft.mirrors.items():
        if draft.services and mirror.name not in used:
            draft.warn(("mirror", index), "stands in no service's order: it will never be given readers")
    if "service" not in draft.given:
        draft.warn((), "there is no [[service]]: mirrord publishes and looks, and moves nobody")


def _families_fit(draft: Draft) -> None:
    for index, service in draft.services.items():
        mirrors = [mirror for name in service.order if (mirror := draft.mirror(name))]
        with_v4 = [mirror.name for mirror in mirrors if mirror.ipv4]
        with_v6 = [mirror.name for mirror in mirrors if mirror.ipv6]
        place = ("service", index, "order")
        for mirror in mirrors:
            if with_v4 and not mirror.ipv4:
                draft.fault(
                    place,
                    f'"{mirror.name}" has no IPv4 address and "{with_v4[0]}" has: readers could not follow, '
                    "and mirrord never leaves a name without IPv4",
                )
            if with_v6 and not mirror.ipv6:
                draft.warn(
                    place,
                    f'"{mirror.name}" has no IPv6 address and "{with_v6[0]}" has: readers with only IPv6 are lost '
                    f"while {mirror.name} serves",
                )
    if draft.probe is None or not draft.probe.references:
        return
    judged = {family(reference.address) for reference in draft.probe.references}
    if 4 not in judged and any(mirror.ipv4 for mirror in draft.mirrors.values()):
        draft.fault(
            ("probe", "references"),
            "has no IPv4 address, so no mirror could ever be found down by IPv4",
        )
    if 6 not in judged and any(mirror.ipv6 for mirror in draft.mirrors.values()):
        draft.warn(("probe", "references"), "has no IPv6 address, so the mirrors' IPv6 addresses are never judged")


def _names_fit_zones(draft: Draft) -> None:
    owners: dict[str, str] = {}
    for index, service in draft.services.items():
        way = "dns" if service.dns is not None else "command" if service.command is not None else "bgp"
        for number, name in enumerate(service.names):
            place = ("service", index, way, "names", number)
            zone = service.dns.zone if service.dns is not None else name
            if name != zone and not name.endswith(f".{zone}"):
                draft.fault(place, f"{name} is not in the zone {zone}")
            if name in owners:
                other = f'in service "{owners[name]}"' if owners[name] != service.name else "here"
                draft.fault(place, f"{name} stands {other} already; one name can be moved by one service only")
            owners.setdefault(name, service.name)
        ttl = service.ttl
        if ttl < 30 and service.dns is not None:
            draft.warn(("service", index, "dns", "ttl"), f"{ttl} s gains little below 30 s: resolvers lengthen it")
        if ttl > 600:
            draft.warn(
                ("service", index, way, "ttl"),
                f"readers stay at a dead mirror for up to {show_duration(ttl)}",
            )
    if draft.site is not None and draft.services and draft.site.host not in owners:
        draft.warn(("site", "url"), f"{draft.site.host} is in no service's names: its readers are not moved")


def _announcements_fit(draft: Draft) -> None:
    """What is announced must tell the mirrors of a service apart, and must lead somewhere."""
    owners: dict[str, str] = {}
    for index, service in draft.services.items():
        bgp, place = service.bgp, ("service", index, "bgp")
        if bgp is None:
            continue
        if service.serve == "all":
            draft.fault(("service", index, "serve"), 'is "all", but a prefix is announced for one mirror at a time')
        if service.drill_every:
            draft.fault(("service", index, "drill_every"), "has no effect: only names in DNS can be rehearsed")
        networks = [ip_network(prefix) for prefix in bgp.prefixes]
        for network in networks:
            owner = owners.setdefault(str(network), service.name)
            if owner != service.name:
                draft.fault((*place, "prefixes"), f'{network} is announced by service "{owner}" already')
        told: dict[frozenset[str], str] = {}
        for name, announced in bgp.mirrors.items():
            at = (*place, "mirrors", name)
            if name not in service.order:
                draft.fault(at, f"does not stand in the service's order{nearest(name, service.order)}")
            for prefix in bgp.prefixes:
                if not any((":" in hop) == (":" in prefix) for hop in announced.next_hops):
                    draft.fault((*at, "next_hops"), f"has none for {prefix}: readers of that prefix would go nowhere")
            for hop in announced.next_hops:
                if any(ip_address(hop) in network for network in networks):
                    draft.fault((*at, "next_hops"), f"{hop} is in the prefix that leads to it: packets would go round")
            same = told.setdefault(frozenset(announced.texts), name)
            if same != name:
                draft.fault(at, f'announces the same as "{same}": the two could not be told apart')
        for name in service.order:
            if name not in bgp.mirrors and name in draft.named:
                draft.fault((*place, "mirrors"), f'does not say what is announced where "{name}" serves')
            mirror = draft.mirror(name)
            for address in mirror.addresses if mirror is not None else ():
                if any(ip_address(address) in network for network in networks):
                    draft.fault(
                        (*place, "prefixes"),
                        f'"{name}" has {address} in `addresses`, which leads to whoever serves: give the mirror one of '
                        "its own, by which it can be looked at",
                    )
            if draft.controller is not None and mirror is not None and mirror.place == draft.controller.place != "":
                draft.warn(
                    (*place, "speaker"),
                    f'stands with mirrord in "{mirror.place}", the place of "{name}": where that fails, the route '
                    "goes with it, and nobody is left who could announce another",
                )


def _controller_stands_apart(draft: Draft) -> None:
    if draft.controller is None:
        return
    place = draft.controller.place
    if not place:
        draft.warn(("controller",), "has no place: say where this machine stands, which should be where no mirror does")
        return
    together = sorted(
        (mirror for mirror in draft.mirrors.values() if mirror.place == place),
        key=lambda mirror: mirror.role != "primary",
    )
    if not together:
        return
    text = (
        f'"{place}" is the place of "{together[0].name}" too: both fail together, and a fault of our own network '
        "looks like a fault of the mirror"
    )
    if draft.probe is not None and not draft.probe.references:
        draft.fault(("controller", "place"), f"{text}; with references = [] nobody could tell the two apart")
    else:
        draft.warn(("controller", "place"), text)


def _looking_fits(draft: Draft) -> None:
    site = draft.site
    for index, mirror in draft.mirrors.items():
        http = mirror.http
        if site is not None and not site.https and http.ca_file is not None:
            draft.warn(("mirror", index, "http", "ca_file"), "has no effect: site.url is http, without TLS")
        if site is not None and site.https and http.port == 80:
            draft.warn(("mirror", index, "http", "port"), "is 80, but site.url is https: TLS is expected there")
        if http.ca_file is not None and not http.ca_file.is_file():
            draft.warn(
                ("mirror", index, "http", "ca_file"),
                f"{http.ca_file} {'is no file' if http.ca_file.exists() else 'is not there'}",
            )
    if draft.probe is not None and draft.probe.timeout > draft.probe.every:
        draft.warn(
            ("probe", "timeout"),
            f"{show_duration(draft.probe.timeout)} is longer than probe.every = "
            f'"{show_duration(draft.probe.every)}": one slow mirror stretches every round',
        )
    hurried = draft.probe.suspicious_every if draft.probe is not None else None
    if draft.probe is not None and hurried is not None and hurried > draft.probe.every:
        text = f'has no effect: probe.every = "{show_duration(draft.probe.every)}" is sooner'
        draft.warn(("probe", "suspicious_every"), text)
    if draft.probe is not None and not draft.probe.references:
        draft.warn(
            ("probe", "references"),
            "is empty: when this machine's own network fails, every mirror looks down",
        )
    if draft.snapshot is not None and draft.snapshot.max_lag <= draft.snapshot.every:
        draft.warn(("snapshot", "max_lag"), "is no longer than snapshot.every: a mirror has no time to follow")


def _socket_fits(draft: Draft) -> None:
    if draft.control is not None and len(os.fsencode(draft.control.socket)) > _SOCKET_PATH:
        draft.fault(
            ("control", "socket"), f"is longer than the {_SOCKET_PATH} bytes that a unix socket's path may have"
        )
    if draft.web is not None and draft.web.listen:
        draft.warn(("web", "listen"), "is kept for later: this version has no operator's page yet")


def _secrets_are_kept(draft: Draft) -> None:
    for place, what, secret in secrets(draft):
        if loose := secret.loose():
            draft.warn(place, f"the {what} is no secret: {loose}")


def secrets(draft: Draft) -> Iterator[tuple[Place, str, Secret]]:
    """Yield every secret that the tables name: its place, what it is, where it is."""
    if draft.signing is not None and draft.signing.key is not None:
        yield ("signing", "key"), "signing key", draft.signing.key
    for index, mirror in draft.mirrors.items():
        if mirror.sftp is not None:
            yield ("mirror", index, "sftp", "key"), f"SFTP key of {mirror.name}", mirror.sftp.key
    for index, service in draft.services.items():
        if service.dns is not None and service.dns.tsig is not None:
            secret = service.dns.tsig.secret
            yield ("service", index, "dns", "tsig", "secret"), f"TSIG secret of {service.name}", secret
        if service.dns is not None and service.dns.lexicon is not None:
            for key, secret in service.dns.lexicon.secrets.items():
                yield ("service", index, "dns", "lexicon", "secrets", key), f"{key} of {service.name}", secret


_QUESTIONS: tuple[Callable[[Draft], None], ...] = (
    _names_stand_once,
    _one_primary,
    _addresses_stand_once,
    _accounts_stand_once,
    _content_fits,
    _publishing_is_whole,
    _enough_can_go_together,
    _orders_are_known,
    _orders_are_complete,
    _families_fit,
    _names_fit_zones,
    _announcements_fit,
    _controller_stands_apart,
    _looking_fits,
    _socket_fits,
    _secrets_are_kept,
)
