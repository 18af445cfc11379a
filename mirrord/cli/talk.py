"""How does a verb speak with the person who typed it?

Results go to standard output, everything else to standard error: what is being done, progress, questions. With
`--json` standard output gets one object and nothing besides. On a terminal there are colours (unless NO_COLOR is
set) and progress bars; elsewhere plain lines. A question is put on a terminal only; without one it is an error, never
a wait.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from mirrord.cli import words
from mirrord.errors import BadUsage

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.table import Table

SCHEMA = 1
_WIDE = 1_000_000
"""Columns of a screen that is none: a file or a pipe is not folded."""
_SENTENCE = 25
"""Columns that a sentence in a table has at least: the id of a snapshot in it stays whole."""
_BETWEEN = 2
"""Blanks between the columns of a table."""


class Talk:
    """One verb's voice; may be called from any thread."""

    def __init__(self, *, as_json: bool) -> None:
        """Speak on the standard streams; `as_json`: the result is one object."""
        self.as_json = as_json
        self.out = _console(sys.stdout)
        self.err = _console(sys.stderr)
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    # -- while a verb works

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Say what the desk reports meanwhile."""
        kind = event.get("event")
        if kind == "progress":
            self._advance(event)
        elif kind == "say":
            self.say(str(event["text"]))
        elif kind == "warn":
            self.warn(str(event["text"]))
        elif kind == "mirror":
            self._finish(event["mirror"])

    def say(self, text: str, style: str = "") -> None:
        """Say a sentence to the person, not to what reads the result; where that cannot be written, go on without."""
        try:
            self.err.print(words.clean(text), style=style or None, markup=False, highlight=False, soft_wrap=True)
        except BrokenPipeError:
            raise
        except OSError:
            pass  # a log file on a full disk, say: readers are moved all the same

    def warn(self, text: str) -> None:
        """Say something that should not be passed over."""
        self.say(f"warning: {text}", "yellow")

    @contextmanager
    def working(self) -> Iterator[None]:
        """Show progress bars inside, where there is a terminal to show them on."""
        if not self.err.is_terminal:
            yield
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[amount]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=self.err,
            transient=True,
        )
        try:
            with self._bars:
                yield
        finally:
            with self._lock:
                self._bars, self._tasks = None, {}

    def _advance(self, event: Mapping[str, Any]) -> None:
        with self._lock:
            if self._bars is None:
                return
            name = str(event["mirror"]) or "snapshot"
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(words.clean(name), total=None, amount="")
            unit = "bytes" if event["bytes_total"] else "files"
            self._bars.update(
                self._tasks[name],
                completed=event[f"{unit}_done"],
                total=event[f"{unit}_total"] or None,
                amount=_amount(event),
            )

    def _finish(self, row: Mapping[str, Any]) -> None:
        with self._lock:
            if self._bars is not None and row["name"] in self._tasks:
                self._bars.remove_task(self._tasks.pop(row["name"]))
        if not self.as_json and not self.err.is_terminal:
            return  # the table follows at once
        took = f" in {words.age(row['seconds'])}" if row["seconds"] >= 1 else ""
        why = f": {row['error']}" if row["error"] else ""
        self.say(f"{row['name']}: {row['result']}{took}{why}")

    # -- questions

    def ask(self, question: str) -> bool:
        """Put a question to the person; anything but yes is no. Raises BadUsage where nobody can be asked."""
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise BadUsage(f"{question} There is no terminal to answer on; --yes answers it")
        self.err.print(f"{words.clean(question)} [y/N] ", end="", markup=False, highlight=False, soft_wrap=True)
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    # -- the result

    def result(self, found: Mapping[str, Any]) -> None:
        """Write the one object of `--json`; file names that are not UTF-8 are escaped as surrogates."""
        sys.stdout.write(json.dumps({"schema": SCHEMA, **found}, indent=2) + "\n")

    def line(self, text: str = "", style: str = "") -> None:
        """Write a line of the result for people."""
        self.out.print(words.clean(text), style=style or None, markup=False, highlight=False, soft_wrap=True)

    def table(self, *columns: str) -> Table:
        """Return a plain table with these heads, to be filled with `row` and shown with `show`."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, _BETWEEN, 0, 0))
        for column in columns:
            table.add_column(column, overflow="fold", no_wrap=column not in ("", "WHY", "WHAT", "TO DO"))
        return table

    def show(self, table: Table) -> None:
        """Write a table, without blanks at the ends of lines; a narrow terminal folds them, and cuts nothing short."""
        if (least := _least_width(table)) > self.out.width:
            table.width = least
        with self.out.capture() as drawn:
            self.out.print(table, crop=False)
        for line in drawn.get().splitlines():
            self.out.file.write(line.rstrip() + "\n")


def _least_width(table: Table) -> int:
    """Return how wide a table must be so that every cell is whole; only sentences may take several lines."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, map(str, (column.header, *column.cells)))) for column in table.columns]
    kept = (
        width if column.no_wrap else min(width, _SENTENCE) for column, width in zip(table.columns, widths, strict=True)
    )
    return sum(kept) + _BETWEEN * (len(widths) - 1)


def row(table: Table, *cells: str | tuple[str, str]) -> None:
    """Add a row to a table; a cell is a text, or a text with a style."""
    from rich.text import Text

    table.add_row(
        *(Text(words.clean(cell[0]), cell[1]) if isinstance(cell, tuple) else Text(words.clean(cell)) for cell in cells)
    )


def _amount(event: Mapping[str, Any]) -> str:
    files, of_files, moved, of_bytes = (
        event[key] for key in ("files_done", "files_total", "bytes_done", "bytes_total")
    )
    text = f"{files:,}/{of_files:,} files" if of_files else words.many(files, "file")
    return f"{text}, {words.size(moved)} of {words.size(of_bytes)}" if of_bytes else text


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    class Plain(Console):
        """A console that leaves broken pipes to whoever called."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")  # a terminal in the C locale, a name that is not UTF-8
    return Plain(file=stream, width=None if stream.isatty() else _WIDE, emoji=False)
