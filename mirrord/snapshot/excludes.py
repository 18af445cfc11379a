"""Which paths of the source are left out?

Patterns as in .gitignore (gitignore(5)), over raw bytes: a name may be in any encoding and may hold a newline, which
the libraries for such patterns do not stand (they match text, and their `.` and `$` stop at a newline). The walk asks
about each folder before it looks into it, so, as with git, nothing is taken back in below a folder that is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_CLASSES = {
    b"alnum": rb"A-Za-z0-9",
    b"alpha": rb"A-Za-z",
    b"blank": rb" \t",
    b"cntrl": rb"\x00-\x1f\x7f",
    b"digit": rb"0-9",
    b"graph": rb"\x21-\x7e",
    b"lower": rb"a-z",
    b"print": rb"\x20-\x7e",
    b"punct": rb"!-/:-@\[-`{-~",
    b"space": rb" \t\n\v\f\r",
    b"upper": rb"A-Z",
    b"xdigit": rb"0-9A-Fa-f",
}
_NEVER = rb"(?!)"


@dataclass(frozen=True, slots=True)
class Rule:
    """One pattern: a regular expression over the whole path, or over the last name alone."""

    regex: bytes
    on_name: bool
    folders_only: bool
    takes_back: bool


class Excludes:
    """All patterns together; a later one overrules an earlier one."""

    def __init__(self, patterns: Iterable[str]) -> None:
        """Read the patterns; blank ones and comments mean nothing, and none is an error, as in git."""
        rules = [rule for pattern in patterns if (rule := read_rule(pattern)) is not None]
        self._file = _decider([rule for rule in rules if not rule.folders_only])
        self._folder = _decider(rules)

    def file(self, path: bytes, name: bytes) -> bool:
        """Tell whether the file at `path` (relative to the source), whose last component is `name`, is left out."""
        return self._file(path, name)

    def folder(self, path: bytes, name: bytes) -> bool:
        """Tell whether the folder at `path` is left out with all that is in it."""
        return self._folder(path, name)


def _decider(rules: list[Rule]) -> Callable[[bytes, bytes], bool]:
    """Return what tells whether (path, name) is left out, in as few matches as the rules allow."""
    if any(rule.takes_back for rule in rules):
        each = [(re.compile(rule.regex, re.DOTALL).fullmatch, rule) for rule in reversed(rules)]

        def decide(path: bytes, name: bytes) -> bool:
            for match, rule in each:
                if match(name if rule.on_name else path):
                    return not rule.takes_back
            return False

        return decide
    on_name = _any([rule.regex for rule in rules if rule.on_name])
    on_path = _any([rule.regex for rule in rules if not rule.on_name])
    if on_name is None and on_path is None:
        return _nothing
    if on_path is None:
        return lambda _, name: bool(on_name and on_name(name))
    return lambda path, name: bool((on_name and on_name(name)) or on_path(path))


def _nothing(_path: bytes, _name: bytes) -> bool:
    return False


def _any(regexes: list[bytes]) -> Callable[[bytes], re.Match[bytes] | None] | None:
    if not regexes:
        return None
    return re.compile(b"|".join(b"(?:%b)" % regex for regex in regexes), re.DOTALL).fullmatch


def read_rule(pattern: str) -> Rule | None:
    """Read one pattern of gitignore(5); None where it means nothing."""
    text = pattern.encode("utf-8", "surrogateescape")
    if text.startswith(b"#"):
        return None
    takes_back = text.startswith(b"!")
    text = _without_trailing_blanks(text.removeprefix(b"!"))
    folders_only = text.endswith(b"/")
    text = text.removesuffix(b"/")
    if not text:
        return None
    on_name = b"/" not in text
    return Rule(_regex(text.removeprefix(b"/"), on_name=on_name), on_name, folders_only, takes_back)


def _without_trailing_blanks(text: bytes) -> bytes:
    """Cut blanks off the end; one that a backslash quotes stays."""
    bare = text.rstrip(b" ")
    backslashes = len(bare) - len(bare.rstrip(b"\\"))
    return bare + b" " if backslashes % 2 and bare != text else bare


def _regex(text: bytes, *, on_name: bool) -> bytes:
    """Translate a pattern as git's wildmatch.c reads it."""
    found: list[bytes] = []
    at = 0
    while at < len(text):
        char = text[at : at + 1]
        at += 1
        if char == b"*":
            stars = at - 1
            while text[at : at + 1] == b"*":
                at += 1
            whole = not on_name and at - stars > 1 and text[stars - 1 : stars] in (b"", b"/")
            if whole and at == len(text):
                found.append(b".*")
            elif whole and text[at : at + 1] == b"/":
                found.append(b"(?:.*/)?")
                at += 1
            else:
                found.append(b"[^/]*")
        elif char == b"?":
            found.append(b"[^/]")
        elif char == b"[":
            regex, at = _set(text, at)
            found.append(regex)
        elif char == b"\\":
            if at == len(text):
                return _NEVER
            found.append(re.escape(text[at : at + 1]))
            at += 1
        else:
            found.append(re.escape(char))
    return b"".join(found)


def _set(text: bytes, at: int) -> tuple[bytes, int]:
    """Translate `[...]`, of which `at` is the first byte inside; return the regex and where the text goes on.

    One that is not closed, or names an unknown class, matches nothing.
    """
    negated = text[at : at + 1] in (b"!", b"^")
    at += negated
    members: list[bytes] = []
    first = True
    while first or text[at : at + 1] != b"]":
        first = False
        if text[at : at + 2] == b"[:" and (end := text.find(b":]", at + 2)) >= 0:
            if text[at + 2 : end] not in _CLASSES:
                return _NEVER, len(text)
            members.append(_CLASSES[text[at + 2 : end]])
            at = end + 2
            continue
        low, at = _member(text, at)
        high = low
        if text[at : at + 1] == b"-" and text[at + 1 : at + 2] not in (b"]", b""):
            high, at = _member(text, at + 1)
        if not low or not high:
            return _NEVER, len(text)
        if low <= high:
            members.append(re.escape(low) + b"-" + re.escape(high))
    inside = b"".join(members)
    if negated:
        return b"[^/%b]" % inside, at + 1
    return (b"(?!/)[%b]" % inside if inside else _NEVER), at + 1


def _member(text: bytes, at: int) -> tuple[bytes, int]:
    """Return one byte of a set, or nothing where the text ends, and where it goes on."""
    if text[at : at + 1] == b"\\":
        at += 1
    return text[at : at + 1], at + 1
