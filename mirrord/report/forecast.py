"""What will break next, in days?

From facts that others found out (`control.doctoring`): what a month without the primary would do to the zone, whose
certificate ends when and was never renewed, what stands together and would fall together, what has not been tried for
long. Each finding has its days, worst first; what is broken already has none left. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address, ip_network
from typing import Any

DAY = 86_400.0
A_MONTH_AND_A_THIRD = 41.0
"""Days: the publisher of our story was without its datacentre for a month; EXPIRE below that falls silent first."""


class Level(Enum):
    """How much a finding matters."""

    BAD = "bad"
    """It is broken, or will be within days."""
    WARN = "warn"
    """It breaks under an outage as long as those that happened."""
    GOOD = "good"
    UNKNOWN = "unknown"
    """It could not be found out."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    about: str
    """A mirror, a service, a name server, or `controller`."""
    what: str
    """What was looked at, for machines: `soa-expire`, `certificate`..."""
    level: Level
    text: str
    days: float | None = None
    """How long it still holds; None where it has no end. 0 or less: not any more."""
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a value that `json` can write."""
        return {
            "about": self.about,
            "what": self.what,
            "level": self.level.value,
            "days": None if self.days is None else round(self.days, 1),
            "text": self.text,
            "advice": self.advice,
        }


_ORDER = (Level.BAD, Level.WARN, Level.UNKNOWN, Level.GOOD)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings, each once (services may share a zone): by level, then by the days that are left."""
    return sorted(
        dict.fromkeys(findings),
        key=lambda f: (_ORDER.index(f.level), float("inf") if f.days is None else f.days, f.about, f.what),
    )


def _ends(about: str, what: str, days: float, text: str, *, bad: float, warn: float, advice: str) -> Finding:
    """Judge something that ends after so many days."""
    level = Level.BAD if days < bad else Level.WARN if days < warn else Level.GOOD
    return Finding(about, what, level, text, days, advice if level is not Level.GOOD else "")


def days_text(days: float) -> str:
    """Say so many days: `in 12 days`, `3 days ago`, `today`."""
    if abs(days) < 1:
        return "today" if days >= 0 else "since today"
    return f"in {days:.0f} days" if days > 0 else f"{-days:.0f} days ago"


# -- the zone


def soa_expire(server: str, expire: int) -> Finding:
    """Judge for how long a secondary answers without its primary."""
    days = expire / DAY
    text = f"{server} stops answering {days:.0f} days after it lost the zone's primary (SOA EXPIRE)"
    return _ends(server, "soa-expire", days, text, bad=7, warn=A_MONTH_AND_A_THIRD,
                 advice=f"set the SOA's EXPIRE to more than {A_MONTH_AND_A_THIRD:.0f} days (3600000 s)")  # fmt: skip


def signatures(server: str, days: float) -> Finding:
    """Judge for how long DNSSEC signatures hold if nobody signs anew."""
    text = f"{server}: the zone's first signature ends {days_text(days)}; nobody signs anew while the signer is gone"
    return _ends(server, "rrsig", days, text, bad=3, warn=A_MONTH_AND_A_THIRD,
                 advice="sign for longer, or have another machine that can sign")  # fmt: skip


def address_ttl(service: str, served: int, configured: int) -> Finding:
    """Judge for how long readers stay at a dead mirror."""
    if served > 600:
        text = f"the addresses of {service} are served with a TTL of {served} s: so long readers stay at a dead mirror"
        return Finding(service, "ttl", Level.WARN, text, advice="lower it before you need it; 60 s is well")
    if served != configured and served:
        text = f"the addresses of {service} are served with a TTL of {served} s, {configured} s is configured"
        return Finding(service, "ttl", Level.WARN, text, advice="the next switch writes the configured one")
    return Finding(service, "ttl", Level.GOOD, f"the addresses of {service} are served with a TTL of {served} s")


def delegation_ttl(zone: str, ttl: int | None) -> Finding:
    """Say how long a change of name servers takes."""
    if ttl is None:
        return Finding(zone, "delegation", Level.UNKNOWN, f"{zone}: its delegation could not be asked for")
    hours = ttl / 3600
    level = Level.WARN if ttl > 2 * DAY else Level.GOOD
    advice = "know a name server that you could add now" if level is Level.WARN else ""
    text = f"{zone}: a change of its name servers takes up to {hours:.0f} h (TTL of the delegation)"
    return Finding(zone, "delegation", level, text, advice=advice)


def silent_server(server: str, text: str) -> Finding:
    """Say that a name server gives no answer now."""
    return Finding(server, "name-server", Level.BAD, text, 0.0, "readers who ask it get nothing: look at it")


def name_server_places(hosts: Mapping[str, Sequence[str]], mirrors: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Judge where the name servers stand: in a mirror's network they go with it, and all in one network go together."""
    found = []
    for host, addresses in sorted(hosts.items()):
        near = sorted(mirror for mirror, own in mirrors.items() if _neighbours(addresses, own))
        if near:
            text = f"{host} stands in the network of {' and '.join(near)}: it may go down with it"
            found.append(
                Finding(host, "name-server-place", Level.WARN, text, advice="have a name server elsewhere as well")
            )
    networks = {_network(address) for addresses in hosts.values() for address in addresses}
    if hosts and len(hosts) > 1 and len({n for n in networks if n.version == 4} or networks) == 1:
        text = f"all name servers ({', '.join(sorted(hosts))}) stand in one network"
        found.append(Finding("name servers", "name-server-place", Level.WARN, text, advice="add one at another hoster"))
    if len(hosts) == 1:
        text = f"{next(iter(hosts))} is the zone's only name server"
        found.append(Finding("name servers", "name-server-place", Level.BAD, text, 0.0, "add a second one elsewhere"))
    return found


def hints(names: Sequence[str], told: bool) -> list[Finding]:
    """Judge HTTPS records whose address hints a switch would leave behind."""
    if told or not names:
        return []
    text = f"{', '.join(names)}: its HTTPS record has address hints, which a switch leaves as they are"
    return [Finding(names[0], "https-hints", Level.WARN, text, advice="take the hints out, or have mirrord keep them")]


# -- mirrors


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is known of one mirror's certificate under one name."""

    mirror: str
    name: str
    days: float | None
    """Until it ends; None where there was none to be seen."""
    renewed: bool
    """Whether another one was seen there before."""
    seen_for: float
    """Days since it was first looked at."""
    fault: str = ""


def certificate(cert: Certificate) -> Finding:
    """Judge one certificate: when it ends, and whether anybody ever renewed one there."""
    about, where = cert.mirror, f"{cert.mirror}, as {cert.name}"
    if cert.days is None:
        text = f"{where}: no certificate could be seen: {cert.fault or 'no answer'}"
        return Finding(about, "certificate", Level.BAD, text, 0.0, "look at the web server")
    end = f"{where}: its certificate ends {days_text(cert.days)}"
    if not cert.renewed and cert.days < 30 and cert.seen_for >= 1:
        text = f"{end}, and mirrord never saw one renewed there"
        advice = "renew it there by DNS-01; HTTP-01 asks whoever serves the name now"
        return Finding(about, "certificate", Level.BAD if cert.days < 14 else Level.WARN, text, cert.days, advice)
    never = "" if cert.renewed else "; none was seen renewed yet"
    return _ends(about, "certificate", cert.days, end + never, bad=14, warn=21, advice="see why it is not renewed")


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a mirror stands."""

    name: str
    place: str
    addresses: tuple[str, ...]


def together(mirrors: Sequence[Stand], controller_place: str) -> list[Finding]:
    """Judge what would fall together: mirrors of one place or network, and the controller beside one."""
    found = []
    for number, one in enumerate(mirrors):
        for other in mirrors[number + 1 :]:
            if one.place and one.place == other.place:
                text = f"{one.name} and {other.name} stand in one place, {one.place}"
            elif _neighbours(one.addresses, other.addresses):
                text = f"{one.name} and {other.name} have addresses in one network"
            else:
                continue
            advice = "they fall together: have a mirror elsewhere"
            found.append(Finding(one.name, "together", Level.WARN, text, advice=advice))
    beside = [mirror.name for mirror in mirrors if controller_place and mirror.place == controller_place]
    if beside:
        text = f"this controller stands where {' and '.join(beside)} does, in {controller_place}"
        advice = "it goes down with it, and moves nobody then"
        found.append(Finding("controller", "controller-place", Level.WARN, text, advice=advice))
    elif not controller_place:
        text = "where this controller stands is not said ([controller] place)"
        found.append(Finding("controller", "controller-place", Level.UNKNOWN, text))
    else:
        text = f"this controller stands apart, in {controller_place}"
        found.append(Finding("controller", "controller-place", Level.GOOD, text))
    return found


def name_servers_together(mirrors: Mapping[str, frozenset[str]]) -> list[Finding]:
    """Judge mirrors whose accounts are found by name, through the same name servers and no others."""
    groups: dict[frozenset[str], list[str]] = {}
    for mirror, servers in mirrors.items():
        if servers:
            groups.setdefault(servers, []).append(mirror)
    return [
        Finding(
            names[0],
            "together",
            Level.WARN,
            f"the accounts of {' and '.join(names)} are found by the same name servers, {', '.join(sorted(servers))}",
            advice="nobody can be published to while these are gone: write an address into mirror.sftp.host",
        )
        for servers, names in groups.items()
        if len(names) > 1
    ]


def _network(address: str) -> Any:
    length = 24 if ip_address(address).version == 4 else 48
    return ip_network(f"{address}/{length}", strict=False)


def _neighbours(some: Iterable[str], others: Iterable[str]) -> bool:
    return bool({_network(address) for address in some} & {_network(address) for address in others})


# -- credentials, clocks, disks, habits


def credentials(about: str, what: str, fault: str | None) -> Finding:
    """Judge whether a harmless write was let in."""
    if fault is None:
        return Finding(about, what, Level.GOOD, f"{about}: its credentials were let in just now, by a harmless write")
    advice = "nothing could be published or moved with them now"
    return Finding(about, what, Level.BAD, fault, 0.0, advice)


def clock(seconds: float | None) -> Finding:
    """Judge by how much our clock differs from the mirrors'."""
    if seconds is None:
        return Finding("controller", "clock", Level.UNKNOWN, "no mirror told the time")
    text = f"our clock differs from the mirrors' by {abs(seconds):.0f} s"
    level = Level.BAD if abs(seconds) > 300 else Level.WARN if abs(seconds) > 30 else Level.GOOD
    advice = "set it right: certificates and signed updates depend on it" if level is not Level.GOOD else ""
    return Finding("controller", "clock", level, text, 0.0 if level is Level.BAD else None, advice)


def disk(about: str, free: int | None, need: int) -> Finding:
    """Judge whether there is room for a whole new copy of the site, in bytes."""
    if free is None:
        return Finding(about, "disk", Level.UNKNOWN, f"{about}: the server does not say how much room there is")
    text = f"{about}: {_size(free)} are free, a whole copy of the site takes {_size(need)}"
    if free < 1_000_000:  # not even what is to be remembered of a move
        return Finding(about, "disk", Level.BAD, text, 0.0, "make room: the disk is full")
    if free < need:
        return Finding(about, "disk", Level.WARN, text, advice="make room, or keep fewer releases (mirror.sftp.keep)")
    return Finding(about, "disk", Level.GOOD, text)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def snapshots(newest_days: float | None, signed_days: float | None, expected_days: float) -> Finding:
    """Judge the store: how old the newest snapshot's signature is, against what readers were told to expect."""
    if newest_days is None:
        return Finding("controller", "snapshot", Level.BAD, "there is no snapshot on this machine", 0.0,
                       "`mirrord snapshot` takes one")  # fmt: skip
    left = expected_days - (signed_days if signed_days is not None else newest_days)
    text = f"the newest snapshot is {newest_days:.0f} days old; it is overdue for readers {days_text(left)}"
    return _ends("controller", "snapshot", left, text, bad=0, warn=0.5, advice="does the daemon run? `mirrord status`")


def drill(service: str, days: float | None, ok: bool) -> Finding:
    """Judge when a failover was rehearsed last."""
    advice = f"`mirrord drill {service}`"
    if days is None:
        return Finding(service, "drill", Level.WARN, f"{service}: a failover was never rehearsed", advice=advice)
    if not ok:
        text = f"{service}: the last rehearsal, {days:.0f} days ago, failed"
        return Finding(service, "drill", Level.BAD, text, 0.0, advice)
    text = f"{service}: a failover was rehearsed {days:.0f} days ago"
    return _ends(service, "drill", 90 - days, text, bad=-275, warn=0, advice=advice)


def registration(zone: str, days: float | None) -> Finding:
    """Judge when the domain's registration ends, where the registry says."""
    if days is None:
        text = f"{zone}: when its registration ends could not be found out"
        advice = "look at the registrar; have it renewed by itself, and for years"
        return Finding(zone, "registration", Level.UNKNOWN, text, advice=advice)
    text = f"{zone}: its registration ends {days_text(days)}"
    return _ends(zone, "registration", days, text, bad=14, warn=60, advice="renew it, for years")
