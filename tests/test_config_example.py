"""`config.example.toml` is the manual of all settings: whole, true and loadable."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

import mirrord.config
from mirrord.config import load
from mirrord.config.faults import inner_model
from mirrord.config.lines import lines_of
from mirrord.config.model import LISTS, SECTIONS

EXAMPLE = Path(__file__).parent.parent / "config.example.toml"
TEXT = EXAMPLE.read_text()
UNCOMMENTED = re.sub(r"(?m)^#(?=\[|[a-z_]+ = )", "", TEXT)
Field = tuple[str, ...]


def fields(model: type[BaseModel], prefix: Field) -> dict[Field, tuple[type[BaseModel], str]]:
    """Every key below a table, in the file's own path; a secret, a key of DNS and a marker are one value each."""
    found: dict[Field, tuple[type[BaseModel], str]] = {}
    for name, field in model.model_fields.items():
        inner = inner_model(field.annotation)
        if inner is not None and name in ("http", "sftp", "dns", "command", "bgp"):
            found |= fields(inner, (*prefix, name))
        else:
            found[*prefix, name] = (model, name)
    return found


FIELDS = {path: where for name, model in (SECTIONS | LISTS).items() for path, where in fields(model, (name,)).items()}
ROWS = UNCOMMENTED.splitlines()
LINES: dict[Field, int] = {}
"""Key path without indexes -> its first line."""
for place, line in lines_of(UNCOMMENTED).items():
    LINES.setdefault(tuple(step for step in place if isinstance(step, str)), line)


def test_the_example_loads_without_a_warning() -> None:
    """It is what people begin with; its own warnings would teach them to pass over all."""
    settings = load(EXAMPLE)

    assert settings.warnings == ()


def test_the_example_loads_with_every_setting_in_use(tmp_path: Path) -> None:
    """A setting that is commented out must be right as well: it will be used just so."""
    file = tmp_path / "mirrord.toml"
    file.write_text(UNCOMMENTED)

    settings = load(file)

    assert [mirror.name for mirror in settings.mirrors] == ["milan", "lyon", "cms"]
    assert settings.signing is not None
    assert settings.signing.accept


@pytest.mark.parametrize("path", FIELDS, ids=".".join)
def test_every_setting_stands_in_the_example(path: Field) -> None:
    """A setting that the manual does not know is known to nobody."""
    assert path in LINES


def test_the_example_names_nothing_that_is_not_there() -> None:
    """The other way round: loading would refuse it, if the loader forbids unknown keys."""
    below = {path[: len(field)] for path in LINES for field in FIELDS if path[: len(field)] == field}

    assert {path for path in LINES if not any(path[: len(f)] == f or f[: len(path)] == path for f in FIELDS)} == set()
    assert below == set(FIELDS)


@pytest.mark.parametrize("path", FIELDS, ids=".".join)
def test_every_setting_says_its_true_default(path: Field) -> None:
    """A comment that says another default than the code is worse than none."""
    model, name = FIELDS[path]
    field = model.model_fields[name]
    row = ROWS[LINES[path] - 1]
    told = re.search(r"# (required|default:? (.+))$", row)

    assert told, row
    if field.is_required():
        assert told[1] == "required", row
    elif "default:" in told[1]:
        assert field.default_factory is not None or path in WORDED, row
    else:
        told_value = tomllib.loads(f"x = {told[2]}")["x"]
        kind: Any = TypeAdapter(field.rebuild_annotation())
        assert kind.validate_python(told_value) == field.default, row


WORDED = {
    ("mirror", "content"),
    ("mirror", "http", "port"),
    ("probe", "suspicious_every"),
    ("mirror", "http", "ca_file"),
    ("signing", "key"),
    ("state", "directory"),
    ("control", "socket"),
    ("service", "dns", "servers"),
    ("service", "dns", "tsig"),
    ("service", "dns", "lexicon"),
}
"""Defaults that follow from other settings; the comment says how."""


@pytest.mark.parametrize("path", FIELDS, ids=".".join)
def test_every_setting_is_explained(path: Field) -> None:
    """Its own sentence above it; a default alone explains nothing. What says itself is listed here."""
    row = LINES[path] - 1
    above = ROWS[row - 1]

    assert above.startswith("# ") or path in SELF_EVIDENT or ROWS[row - 2].startswith("# "), ROWS[row]


SELF_EVIDENT = {
    ("mirror", "http", "port"),
    ("mirror", "sftp", "host"),
    ("mirror", "sftp", "port"),
    ("mirror", "sftp", "user"),
    ("service", "dns", "provider"),
    ("service", "dns", "zone"),
}


def test_the_package_brings_the_example_along() -> None:
    """`mirrord config example` prints this very file, wherever mirrord is installed."""
    packaged = Path(mirrord.config.__file__).parent / "example.toml"

    assert packaged.read_bytes() == EXAMPLE.read_bytes()
