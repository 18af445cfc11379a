"""On which line of a TOML text does each key stand?

`tomllib` gives values without places. This reads the same text once more, only for places; it expects
that `tomllib` has accepted the text, so it checks nothing and understands no value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Path = tuple[str | int, ...]
"""Keys and indexes from the top: `("mirror", 1, "sftp", "port")`."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_STRINGS = {
    '"""': re.compile(r'"""(?:\\.|[^\\])*?"{3,5}', re.DOTALL),
    "'''": re.compile(r"'''.*?'{3,5}", re.DOTALL),
    '"': re.compile(r'"(?:\\.|[^"\\])*"'),
    "'": re.compile(r"'[^']*'"),
}
_PLAIN_VALUE = re.compile(r"[^,\]}#\n]+")


def lines_of(text: str) -> Mapping[Path, int]:
    """Return the line (from 1) of each key, table, list element and key of an inline table."""
    reader = _Reader(text)
    reader.document()
    return reader.lines


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self._tables: dict[Path, int] = {}
        """How many `[[...]]` of each path came so far."""

    def document(self) -> None:
        table: Path = ()
        while not self._over(_BLANK):
            line = self._line()
            if self._next("[["):
                parent = self._inside(self._key()[:-1])
                path = (*parent, self._name)
                table = (*path, self._tables.get(path, 0))
                self._tables[path] = self._tables.get(path, 0) + 1
                self.lines.setdefault(path, line)
                self.lines[table] = line
                self._next("]]")
            elif self._next("["):
                table = self._inside(self._key())
                self.lines.setdefault(table, line)
                self._next("]")
            else:
                self._pair(table)

    def _inside(self, names: list[str]) -> Path:
        path: Path = ()
        for name in names:
            path = (*path, name)
            if path in self._tables:
                path = (*path, self._tables[path] - 1)
        return path

    def _pair(self, table: Path) -> None:
        line = self._line()
        path = table
        for name in self._key():
            path = (*path, name)
            self.lines.setdefault(path, line)
        self._next("=")
        self._value(path)

    def _key(self) -> list[str]:
        names: list[str] = []
        while True:
            self._over(_SPACE)
            quote = self.text[self.at : self.at + 1]
            match = (_STRINGS[quote] if quote in ("'", '"') else _BARE_KEY).match(self.text, self.at)
            if match is None:  # not a key: tomllib would have refused the text
                self.at += 1
                return names or [""]
            self.at = match.end()
            self._name = match[0][1:-1] if quote in ("'", '"') else match[0]
            names.append(self._name)
            if not self._next("."):
                return names

    def _value(self, path: Path) -> None:
        self._over(_SPACE)
        if self._next("["):
            index = 0
            while not self._over(_BLANK) and not self._next("]"):
                self.lines[(*path, index)] = self._line()
                self._value((*path, index))
                index += 1
                self._over(_BLANK)
                self._next(",")
            return
        if self._next("{"):
            while not self._over(_BLANK) and not self._next("}"):
                self._pair(path)
                self._over(_BLANK)
                self._next(",")
            return
        for quote, string in _STRINGS.items():
            if self.text.startswith(quote, self.at) and (match := string.match(self.text, self.at)):
                self.at = match.end()
                return
        match = _PLAIN_VALUE.match(self.text, self.at)
        self.at = match.end() if match else self.at + 1

    def _line(self) -> int:
        return self.text.count("\n", 0, self.at) + 1

    def _next(self, what: str) -> bool:
        """Pass over `what`, with spaces before it, if it comes next."""
        match = _SPACE.match(self.text, self.at)
        start = match.end() if match else self.at
        if not self.text.startswith(what, start):
            return False
        self.at = start + len(what)
        return True

    def _over(self, what: re.Pattern[str]) -> bool:
        """Pass over `what`; tell whether the text ends there."""
        match = what.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return self.at >= len(self.text)
