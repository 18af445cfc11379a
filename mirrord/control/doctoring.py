"""Who is asked, so that what will break next can be told?

Every mirror is looked at and logged in to, every name server is asked, what this machine remembers is read; nothing is
changed that anybody would notice. What the facts mean is `report.forecast`'s to say.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import wait
from functools import partial
from typing import Any

from mirrord.config.model import Service
from mirrord.control import drilling
from mirrord.control.looking import Looker
from mirrord.control.works import Works
from mirrord.errors import Locked, MirrordError
from mirrord.health import Observation, Round, Standing
from mirrord.hosts.opening import open_host
from mirrord.journal import Journal
from mirrord.probe.registration import registered_until
from mirrord.report import forecast
from mirrord.report.forecast import DAY, Certificate, Finding, Stand
from mirrord.switches import Endpoint

CERTIFICATES = "certificates"
"""The journal's key for which certificates were seen where."""
_SAME = 3600.0
"""Seconds by which two looks at one certificate's end may differ."""
DNS_PORT = 53
_LETTING_GO = 3.0
"""Seconds for which an interrupt waits for those who are logged in."""

Seen = Callable[[str], None]
"""Is told who is asked next."""


def examine(works: Works, looker: Looker, seen: Seen = lambda _: None) -> list[Finding]:
    """Ask everybody; return all findings, worst first. Never raises for what others answer."""
    now = time.time()
    seen("looking at every mirror")
    looked = looker.round(Standing())
    note_certificates(works.journal, looked, now)
    found = [
        *_certificates(works, looked, now),
        forecast.clock(_clock(looked)),
        *_places(works),
        *_found_by(works),
        *_own(works, now),
    ]
    runs = {mirror.name: works.uploading.submit(_account, works, mirror.name) for mirror in works.settings.published()}
    try:
        for service in works.settings.services:
            seen(f"asking the name servers of {service.name}")
            found += _service(works, service, now)
        for name, run in runs.items():
            seen(f"logging in to {name}")
            found += run.result()
    except KeyboardInterrupt:
        # Whoever holds a mirror's lock lets it go: half a lock keeps the next publish there waiting for a minute.
        wait([run for run in runs.values() if not run.cancel()], _LETTING_GO)
        raise
    return forecast.worst_first(found)


# -- mirrors


def note_certificates(journal: Journal, looked: Round, now: float) -> None:
    """Remember which certificates were seen where, and whether another one came; `now` in Unix seconds."""
    kept: dict[str, Any] = dict(journal.kept(CERTIFICATES) or {})
    before = {where: dict(told) for where, told in kept.items()}
    for one in looked.observations:
        if one.certificate_days is None:
            continue
        ends, where = one.wall + one.certificate_days * DAY, _where(one)
        known = kept.get(where)
        if known is None:
            kept[where] = {"ends": ends, "since": now, "renewed": False}
        elif abs(known["ends"] - ends) > _SAME:
            kept[where] = {"ends": ends, "since": known["since"], "renewed": True}
    if kept != before:
        with contextlib.suppress(MirrordError):
            journal.keep(CERTIFICATES, kept)


def _where(one: Observation) -> str:
    return f"{one.target.mirror} {one.target.address} {one.target.name}"


def _certificates(works: Works, looked: Round, now: float) -> Iterator[Finding]:
    """Judge each mirror's certificates; of several addresses the worst."""
    kept: Mapping[str, Any] = works.journal.kept(CERTIFICATES) or {}
    worst: dict[tuple[str, str], Certificate] = {}
    for one in looked.observations:
        if not one.target.https:
            continue
        known = kept.get(_where(one), {"since": now, "renewed": False})
        fault = one.fault.text if one.fault is not None else ""
        days = (now - known["since"]) / DAY
        cert = Certificate(one.target.mirror, one.target.name, one.certificate_days, known["renewed"], days, fault)
        other = worst.get((cert.mirror, cert.name))
        if other is None or (cert.days is not None and (other.days is None or cert.days < other.days)):
            worst[cert.mirror, cert.name] = cert
    yield from map(forecast.certificate, worst.values())


def _clock(looked: Round) -> float | None:
    offsets = [one.date_offset for one in looked.observations if one.date_offset is not None]
    return statistics.median(offsets) if offsets else None


def _places(works: Works) -> list[Finding]:
    settings = works.settings
    stands = [Stand(mirror.name, mirror.place, mirror.addresses) for mirror in settings.mirrors]
    return forecast.together(stands, settings.controller.place)


def _found_by(works: Works) -> list[Finding]:
    """Ask which name servers know the mirrors' accounts."""
    from mirrord.switches.zonecare import name_servers_of  # dnspython, only for who asks

    known = [resolver for service in works.settings.services if service.dns for resolver in service.dns.resolvers]
    ask = partial(name_servers_of, resolver=known[0] if known else None)
    hosts = {mirror.name: mirror.sftp.host for mirror in works.settings.published() if mirror.sftp is not None}
    runs = {name: works.asking.submit(ask, host) for name, host in hosts.items()}
    return forecast.name_servers_together({name: run.result() for name, run in runs.items()})


def _account(works: Works, mirror: str) -> list[Finding]:
    """Log in, take the lock and let it go again: that writes, and changes nothing."""
    free: int | None = None
    fault: str | None = None
    try:
        with contextlib.closing(open_host(works.settings.account(mirror))) as host:
            survey = host.survey()
            free = survey.free
            with contextlib.suppress(Locked), host.hold(works.me(), works.store.manifest, survey, patient=False):
                pass
    except MirrordError as e:
        fault = str(e)
    found = [forecast.credentials(mirror, "sftp", fault)]
    return [*found, forecast.disk(mirror, free, _site_size(works))] if fault is None else found


def _site_size(works: Works) -> int:
    with contextlib.suppress(MirrordError):
        newest = works.store.newest()
        return works.store.card(newest).size if newest is not None else 0
    return 0


# -- services


def _service(works: Works, service: Service, now: float) -> list[Finding]:
    last = drilling.last(works, service.name)
    found = []
    if service.dns is not None:
        days = None if last is None else (now - last["at"]) / DAY
        found.append(forecast.drill(service.name, days, ok=last is None or bool(last["ok"])))
    found.append(forecast.credentials(service.name, "switch", _proof(works, service.name)))
    return [*found, *_zone(works, service, now)]


def _proof(works: Works, service: str) -> str | None:
    try:
        works.switch(service).prove()
    except MirrordError as e:
        return str(e)
    return None


def _zone(works: Works, service: Service, now: float) -> Iterator[Finding]:
    from mirrord.switches.zonecare import look_after  # dnspython, only for who asks

    dns = service.dns
    if dns is None:
        return
    resolver = dns.resolvers[0] if dns.resolvers else None
    care = look_after(dns.zone, dns.names, list(_servers(works, service)), works.asking, resolver=resolver)
    for server in care.servers:
        if server.text:
            yield forecast.silent_server(server.server, server.text)
        if server.expire is not None:
            yield forecast.soa_expire(server.server, server.expire)
        if server.signed_until is not None:
            yield forecast.signatures(server.server, (server.signed_until - now) / DAY)
    if care.ttl is not None:
        yield forecast.address_ttl(service.name, care.ttl, service.ttl)
    yield forecast.delegation_ttl(dns.zone, care.delegation_ttl)
    mirrors = {mirror.name: mirror.addresses for mirror in works.settings.mirrors}
    yield from forecast.name_server_places(care.hosts, mirrors)
    yield from forecast.hints(care.hints, told=bool(getattr(dns, "https", False)))
    if works.settings.doctor.rdap:
        ends = registered_until(dns.zone, works.settings.doctor.rdap)
        yield forecast.registration(dns.zone, None if ends is None else (ends - now) / DAY)


def _servers(works: Works, service: Service) -> Iterable[Endpoint]:
    """Return who answers for the zone: as configured, or its NS as asked for now or remembered."""
    dns = service.dns
    assert dns is not None
    if dns.authoritative:
        return dns.authoritative
    known = dict(works.journal.name_servers(service.name))
    with contextlib.suppress(MirrordError):
        known |= works.switch(service.name).name_servers()
    found = [Endpoint(address, DNS_PORT) for addresses in known.values() for address in addresses]
    return found or dns.servers


# -- this machine


def _own(works: Works, now: float) -> Iterator[Finding]:
    free = works.free()
    yield forecast.disk("controller", free, _site_size(works))
    if works.settings.source is None:
        return
    try:
        newest = works.store.newest()
        card = works.store.card(newest) if newest is not None else None
        signed = works.store.signed_at(newest) if newest is not None else None
    except MirrordError as e:
        yield Finding("controller", "snapshot", forecast.Level.BAD, str(e), 0.0)
        return
    age = None if card is None else (now - card.created.timestamp()) / DAY
    signed_days = None if signed is None else (now - signed) / DAY
    yield forecast.snapshots(age, signed_days, works.settings.snapshot.next_expected / DAY)
