"""What is wrong with the configuration, what is in force, and how does one begin?"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from mirrord.cli.talk import Talk
from mirrord.cli.words import many
from mirrord.config import Settings, find, load, missing_secrets
from mirrord.errors import BadConfig, MirrordError, Unavailable
from mirrord.switches import DnsSettings, open_switch


def check_file(talk: Talk, flag: Path | None, *, online: bool) -> int:
    """Say everything that is wrong, and what a person should know. Raises BadConfig."""
    settings = load(find(flag))
    missing = missing_secrets(settings)
    secrets = [*missing, *(text for text in _unfit(settings) if text not in missing)]
    warnings = [*settings.warnings, *_no_source(settings), *_no_authorities(settings)]
    zones = _ask_zones(settings) if online else []
    if talk.as_json:
        talk.result(
            {
                "file": str(settings.file),
                "ok": True,
                "warnings": warnings,
                "secrets": secrets,
                "zones": zones,
            }
        )
        return 0
    for text in (*warnings, *secrets, *zones):
        talk.line(f"warning: {text}", "yellow")
    count = len(warnings) + len(secrets) + len(zones)
    talk.line(f"{settings.file}: good, {many(count, 'warning')}", "green" if not count else "")
    return 0


def _no_source(settings: Settings) -> Iterator[str]:
    """Say that the source is not there; it may be a disk that is mounted later."""
    if settings.source is not None and not settings.source.path.is_dir():
        yield f"source.path: {settings.source.path} is no folder; while it is not there nothing is published"


def _no_authorities(settings: Settings) -> Iterator[str]:
    """Say which file of authorities has none: every look would find every certificate invalid."""
    for mirror in settings.mirrors:
        file = mirror.http.ca_file
        if settings.site.https and file is not None and file.is_file():
            try:
                ssl.create_default_context(cafile=file)
            except ssl.SSLError:
                yield f'mirror "{mirror.name}": http.ca_file: {file} has no certificate in PEM format'
            except OSError as e:
                yield f'mirror "{mirror.name}": http.ca_file: {file} cannot be read: {e.strerror or e}'


def _unfit(settings: Settings) -> Iterator[str]:
    """Say of each secret that is there why it cannot be used, before it is needed at night; asks nobody."""
    from mirrord.hosts.sftp.session import private_key

    tries: list[Callable[[], object]] = []
    if settings.signing is not None and settings.signing.key is not None:
        tries.append(settings.signing_key)
    tries += [
        partial(private_key, settings.account(mirror.name)) for mirror in settings.mirrors if mirror.sftp is not None
    ]
    for service in settings.services:
        way = settings.switch(service.name)
        if isinstance(way, DnsSettings):
            tries.append(partial(_try_tsig, way))
    for attempt in tries:
        try:
            attempt()
        except BadConfig as e:
            yield from e.faults
        except MirrordError as e:
            yield str(e)


def _try_tsig(settings: DnsSettings) -> None:
    try:
        settings.tsig.octets()
    except ValueError as e:
        raise BadConfig([f"the TSIG secret of {settings.service} {e}"]) from None


def _ask_zones(settings: Settings) -> list[str]:
    """Read every service's names; return what could not be asked, and hints that nobody keeps in step.

    Raises BadConfig where a name is a CNAME.
    """
    silent: list[str] = []
    faults: list[str] = []
    for service in settings.services:
        asked = settings.switch(service.name)
        try:
            zone = open_switch(replace(asked, https=True) if isinstance(asked, DnsSettings) else asked).read()
        except Unavailable as e:
            silent.append(str(e))
            continue
        faults += [
            f'{settings.file}: service "{service.name}": {name}: is a CNAME for {found.cname}, where nothing '
            "can be moved; give the name its own A and AAAA"
            for name, found in zone.names.items()
            if found.cname is not None
        ]
        if service.dns is not None and not service.dns.https:
            silent += [
                f'service "{service.name}": {name} has an HTTPS record with addresses of its own, which would go on '
                "leading readers to the mirror of today; take the hints out, or say dns.https = true"
                for name, found in zone.names.items()
                if any("hint=" in text for text in found.rrsets.https or ())
            ]
    if faults:
        raise BadConfig(faults)
    return silent


def show_file(talk: Talk, flag: Path | None) -> int:
    """Print every setting in force."""
    settings = load(find(flag))
    if talk.as_json:
        talk.result({"file": str(settings.file), "settings": settings.shown()})
    else:
        talk.line(f"# {settings.file}, with every default")
        for line in toml(settings.shown()):
            talk.line(line)
    return 0


def show_example(talk: Talk) -> int:
    """Print the example with every setting explained."""
    text = files("mirrord.config").joinpath("example.toml").read_text(encoding="utf-8")
    if talk.as_json:
        talk.result({"example": text})
    else:
        for line in text.splitlines():
            talk.line(line)
    return 0


def toml(tables: Mapping[str, Any]) -> Iterator[str]:
    """Write settings as TOML: `[table]`, `[[table]]`, and the tables inside these; what lies deeper is inline."""
    for name, found in tables.items():
        for table in found if isinstance(found, list) else [found]:
            yield ""
            yield f"[[{name}]]" if isinstance(found, list) else f"[{name}]"
            inner = {
                key: value
                for key, value in table.items()
                if isinstance(value, dict) and key in ("http", "sftp", "dns", "command", "bgp")
            }
            yield from (f"{key} = {_value(value)}" for key, value in table.items() if key not in inner)
            for key, value in inner.items():
                yield f"[{name}.{key}]"
                yield from (f"{below} = {_value(it)}" for below, it in value.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False)
