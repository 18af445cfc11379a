"""Which file is the configuration, and what is wrong with it?

A bad file is answered with every fault at once: each table is checked by itself, then what is good of them is
checked together.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mirrord.config.checks import Draft, check, secrets
from mirrord.config.faults import Fault, Page, from_pydantic, unknown_table
from mirrord.config.lines import lines_of
from mirrord.config.model import LISTS, SECTIONS
from mirrord.config.settings import Settings
from mirrord.config.surroundings import surroundings
from mirrord.errors import BadConfig

DEFAULT_FILE = Path("/etc/mirrord/mirrord.toml")
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_NEEDS_QUOTES = re.compile(r"^\s*[\w.-]+\s*=\s*[\w./:@-]+\s*(?:#.*)?$")
_HEAD = re.compile(r"\s*\[.*\]")


def find(flag: Path | None) -> Path:
    """Return the configuration's path: the flag, else `$MIRRORD_CONFIG`, else /etc/mirrord/mirrord.toml."""
    return flag or surroundings().config or DEFAULT_FILE


def load(file: Path) -> Settings:
    """Read and check a configuration. Raises BadConfig with every fault."""
    text = _read(file)
    data = _parse(file, text)
    page = Page(file, lines_of(text), data)
    context = _context(file)
    draft = _draft(data, context)
    check(draft)
    if draft.faults:
        raise BadConfig(page.tell(draft.faults))
    settings = Settings.model_validate(data, context=context)
    settings._file = file  # noqa: SLF001 - the one place that makes Settings
    settings._warnings = tuple(page.tell(draft.warnings))  # noqa: SLF001 - the same
    return settings


def missing_secrets(settings: Settings) -> list[str]:
    """Try to read every secret; return a sentence for each that cannot be had by this user, now."""
    sentences = []
    draft = _draft(_parse(settings.file, _read(settings.file)), _context(settings.file))
    for _place, what, secret in secrets(draft):
        try:
            secret.read(what)
        except BadConfig as e:
            sentences += e.faults
    return sentences


def instance_of(file: Path) -> str | None:
    """Return the site's instance of `mirrord@.service` where the file is one's: /etc/mirrord/NAME.toml."""
    own = file.absolute().parent == DEFAULT_FILE.parent and file.suffix == ".toml" and file.name != DEFAULT_FILE.name
    return file.stem if own else None


def _context(file: Path) -> dict[str, Any]:
    return {"folder": file.absolute().parent, "instance": instance_of(file)}


def _read(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")  # some editors put a mark in front
    except FileNotFoundError:
        advice = "name the configuration with -c FILE or MIRRORD_CONFIG, or begin with"
        raise BadConfig([f"{file}: no such file; {advice}: mirrord config example > {file}"]) from None
    except UnicodeDecodeError as e:
        line = e.object.count(b"\n", 0, e.start) + 1
        raise BadConfig([f"{file}:{line}: is not UTF-8 text"]) from None
    except OSError as e:
        raise BadConfig([f"{file}: cannot be read: {e.strerror or e}"]) from None


def _parse(file: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        said = str(e)
        match = _PLACE.search(said)
        rows = text.splitlines()
        line = int(match[1]) if match and match[1] else max(len(rows), 1)
        row = rows[line - 1] if line <= len(rows) else ""
        what = said[: match.start()] if match else said
        raise BadConfig([f"{file}:{line}: is not TOML: {_plainly(what, row)}"]) from None


def _plainly(said: str, row: str) -> str:
    """Put what tomllib says of a line into words of the file's own."""
    head = _HEAD.match(row)
    if head and said.startswith("Cannot declare"):
        return f"{head[0].strip()} stands twice; each mirror and each service begins with a [[mirror]] or [[service]]"
    if head and said == "Cannot overwrite a value":
        return f"{head[0].strip()} stands above already as something else: [[mirror]] and [[service]] have two brackets"
    if said == "Cannot overwrite a value":
        return f"{row.partition('=')[0].strip()} stands twice"
    return said + ('; put the value in quotes: key = "value"' if _NEEDS_QUOTES.match(row) else "")


def _draft(data: Mapping[str, Any], context: Mapping[str, Any]) -> Draft:
    faults: list[Fault] = []
    once: dict[str, Any] = {}
    for name, model in SECTIONS.items():
        table = data.get(name, {})
        if isinstance(table, list):
            faults.append(Fault((name,), f"stands once: write [{name}], with one bracket"))
        elif name in data or name not in ("site", "source", "signing"):
            once[name] = _table(table, (name,), model, context, faults)
    if "site" not in data:
        faults.append(Fault((), "[site] is missing: it says which site this is"))
    many: dict[str, dict[int, Any]] = {name: {} for name in LISTS}
    for name, model in LISTS.items():
        tables = data.get(name, [])
        if not isinstance(tables, list):
            faults.append(Fault((name,), f"stands once for each {name}: write [[{name}]], with two brackets"))
            continue
        for index, table in enumerate(tables):
            found = _table(table, (name, index), model, context, faults)
            if found is not None:
                many[name][index] = found
    if not data.get("mirror"):
        faults.append(Fault((), "there is no [[mirror]]: at least one is needed"))
    strangers = data.keys() - SECTIONS.keys() - LISTS.keys()
    faults.extend(Fault((key,), unknown_table(key)) for key in strangers)
    return Draft(
        site=once.get("site"),
        controller=once.get("controller"),
        source=once.get("source"),
        snapshot=once.get("snapshot"),
        publish=once.get("publish"),
        signing=once.get("signing"),
        state=once.get("state"),
        probe=once.get("probe"),
        control=once.get("control"),
        web=once.get("web"),
        doctor=once.get("doctor"),
        mirrors=many["mirror"],
        services=many["service"],
        named=_names(data.get("mirror", [])),
        given=frozenset(data),
        faults=faults,
    )


def _table(
    table: Any, place: tuple[str | int, ...], model: type[BaseModel], context: Mapping[str, Any], faults: list[Fault]
) -> BaseModel | None:
    try:
        return model.model_validate(table, context=dict(context))
    except ValidationError as e:
        faults.extend(from_pydantic(e, place, model))
        return None


def _names(tables: Any) -> list[str]:
    if not isinstance(tables, list):
        return []
    return [name for table in tables if isinstance(table, dict) and isinstance(name := table.get("name"), str)]
