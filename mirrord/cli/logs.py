"""Where do log lines go?

To standard error. Under systemd each carries its priority (sd-daemon(3)) and no time, for the system's journal has its
own; elsewhere the time stands first. Verbs other than `run` log errors only, unless asked for more: what they have to
say they say as a result.
"""

from __future__ import annotations

import logging
import os
import sys

from mirrord.cli.words import clean

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7))
_NOISY = ("apscheduler", "paramiko", "urllib3")


class _Lines(logging.Formatter):
    """One line a message; a traceback follows on lines of its own, each with the priority."""

    def __init__(self, *, priorities: bool) -> None:
        super().__init__("%(message)s" if priorities else "%(asctime)s %(levelname)s %(message)s")
        self._priorities = priorities

    def format(self, record: logging.LogRecord) -> str:
        text = "\n".join(clean(line) for line in super().format(record).split("\n"))
        if not self._priorities:
            return text
        number = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        return "\n".join(f"<{number}>{line}" for line in text.split("\n"))


def to_standard_error(level: int) -> None:
    """Send log lines of at least this level to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(priorities="JOURNAL_STREAM" in os.environ and not sys.stderr.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING) if level > logging.DEBUG else level)
