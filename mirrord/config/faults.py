"""How is a fault told in the file's own terms?

`mirrord.toml:41: mirror "lyon": sftp.prot: unknown key; did you mean "port"?`: the file, the line, the
table by its name, the key, what is wrong, what to do. pydantic's findings are put into these words here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from mirrord.config.lines import Path as Place
from mirrord.config.model import LISTS, SECTIONS
from mirrord.config.units import show_duration, shown

_KINDS = {
    "string_type": "should be a text in quotes",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "bool_type": "should be true or false",
    "tuple_type": "should be a list in [ ]",
    "dict_type": "should be a table",
    "list_type": "should be a list in [ ]",
    "model_type": "should be a table",
    "path_type": "should be a path in quotes",
}
_LIMITS = {"greater_than_equal": ("at least", "ge"), "less_than_equal": ("at most", "le")}


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong at a place of the file (or only worth a warning)."""

    place: Place
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """The file as it was read: where its keys stand, and what they hold."""

    file: Path
    lines: Mapping[Place, int]
    data: Mapping[str, Any]

    def line(self, place: Place) -> int:
        """Return the line of a place, or of the nearest table around it; 0 where nothing of it is there."""
        while place:
            if place in self.lines:
                return self.lines[place]
            place = place[:-1]
        return 0

    def tell(self, faults: Iterable[Fault]) -> list[str]:
        """Write faults as sentences, in the order of their lines, none twice."""
        told: dict[str, None] = {}
        for fault in sorted(faults, key=lambda fault: self.line(fault.place)):
            line = self.line(fault.place)
            where = self.name(fault.place)
            at = f"{self.file}:{line}" if line else f"{self.file}"
            told[f"{at}: {where}: {fault.text}" if where else f"{at}: {fault.text}"] = None
        return list(told)

    def name(self, place: Place) -> str:
        """Name a place as a person would: `mirror "lyon": sftp.port`, `probe.references: entry 2`."""
        rest = place
        words = []
        if len(place) > 1 and place[0] in LISTS and isinstance(place[1], int):
            words.append(f"{place[0]} {self._called(place[0], place[1])}")
            rest = place[2:]
        dotted = ""
        for step in rest:
            if isinstance(step, int):
                words += [dotted] if dotted else []
                words.append(f"entry {step + 1}")
                dotted = ""
            else:
                dotted = f"{dotted}.{step}" if dotted else step
        return ": ".join([*words, dotted] if dotted else words)

    def _called(self, kind: object, index: int) -> str:
        try:
            name = self.data[str(kind)][index]["name"]
        except (KeyError, IndexError, TypeError):
            name = None
        return f'"{name}"' if isinstance(name, str) and name else f"number {index + 1}"


def from_pydantic(error: ValidationError, prefix: Place, model: type[BaseModel]) -> list[Fault]:
    """Put a model's findings into our words; `prefix` is where the model's table stands."""
    return [
        Fault((*prefix, *detail["loc"]), _text(detail["type"], detail, model))
        for detail in error.errors(include_url=False)
        if not (detail["type"] == "too_short" and detail["input"])  # a faulty entry is not a missing one
    ]


def _text(kind: str, detail: Any, model: type[BaseModel]) -> str:
    found = detail.get("input")
    context = detail.get("ctx") or {}
    if kind == "extra_forbidden":
        return unknown(str(detail["loc"][-1]), _known(model, detail["loc"][:-1]))
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(context["error"])
    if kind in _KINDS:
        return f"{_KINDS[kind]}, is {shown(found)}"
    if kind in _LIMITS:
        word, key = _LIMITS[kind]
        is_duration = isinstance(found, str) and isinstance(context[key], float)
        limit = show_duration(context[key]) if is_duration else f"{context[key]:g}"
        return f"should be {word} {limit}, is {shown(found)}"
    if kind == "too_short":
        return "is empty"
    if kind == "literal_error":
        wanted = [word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]
        return f"should be {_or(wanted)}, is {shown(found)}{_nearest(found, wanted)}"
    if kind == "string_pattern_mismatch":
        return f"should be made of a-z, 0-9 and -, at most 63 of them, is {shown(found)}"
    return f"{detail['msg']}, is {shown(found)}"


def unknown(key: str, known: Iterable[str]) -> str:
    """Say that a key is unknown, and what may have been meant: a near key here, the same key elsewhere."""
    known = sorted(known)
    if near := _nearest(key, known):
        return f"unknown key{near}"
    if homes := [where for where, names in _all_keys() if key in names]:
        return f"unknown key here; it belongs in {' or '.join(homes)}"
    return f"unknown key; known here: {', '.join(known)}"


def unknown_table(key: str) -> str:
    """Say that a table at the top is unknown, and what may have been meant."""
    known = [*SECTIONS, *LISTS]
    if near := _nearest(key, known):
        return f"unknown table{near}"
    if homes := [where for where, names in _all_keys() if key in names]:
        return f"unknown key outside of any table; it belongs in {' or '.join(homes)}"
    return f"unknown table; known are: {', '.join(known)}"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean "X"?` for the nearest known word, or nothing."""
    return _nearest(word, list(known))


def _nearest(word: object, known: list[str]) -> str:
    slips = {other: _slips(str(word), other) for other in known}
    near = min(slips, key=lambda other: slips[other], default="")
    return f'; did you mean "{near}"?' if near and slips[near] <= max(1, min(len(str(word)), len(near)) // 3) else ""


def _slips(a: str, b: str) -> int:
    """Count the slips between two words: a letter more, less, other, or two swapped (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i in range(1, len(a) + 1):
        before, last, row = row, before, [i]
        for j in range(1, len(b) + 1):
            steps = [before[j] + 1, row[j - 1] + 1, before[j - 1] + (a[i - 1] != b[j - 1])]
            if last and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                steps.append(last[j - 2] + 1)
            row.append(min(steps))
    return row[-1]


def _or(words: list[str]) -> str:
    quoted = [f'"{word}"' for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def inner_model(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside a field's annotation (`Http`, `Sftp | None`, `tuple[Marker, ...]`), or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := inner_model(part))), None)


def _known(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    for step in place:
        if isinstance(step, str) and step in model.model_fields:
            model = inner_model(model.model_fields[step].annotation) or model
    return list(model.model_fields)


def _all_keys() -> Iterable[tuple[str, list[str]]]:
    for name, model in SECTIONS.items():
        yield f"[{name}]", list(model.model_fields)
    for name, model in LISTS.items():
        yield f"[[{name}]]", list(model.model_fields)
        for key, field in model.model_fields.items():
            if inner := inner_model(field.annotation):
                yield f"[{name}.{key}]", list(inner.model_fields)
