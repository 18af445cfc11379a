"""What does one address answer when it is asked for one file?

For whoever just put the file there, and wants to see whether readers get it. Nothing is judged here.
"""

from __future__ import annotations

import calendar
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from mirrord.health import Target
from mirrord.probe.door import Door, Failed
from mirrord.probe.line import Line

_LONGEST = 1 << 16


@dataclass(frozen=True, slots=True)
class Glimpse:
    """One answer to one GET."""

    status: int = 0
    """0 where there was no answer."""
    body: bytes = b""
    mtime: int | None = None
    """Last-Modified in Unix seconds, where it was told."""
    fault: str = ""
    """Why there was no answer, or what is wrong with its certificate, in words that follow a mirror's name."""


def glimpse(
    target: Target, url: str, path: bytes, *, timeout: float, ca_file: str | None = None, names: frozenset[str]
) -> Glimpse:
    """Ask a target for a file of the site `url`, within `timeout` seconds; redirects are followed to `names` only."""
    line = Line(target, url, ca_file, time.monotonic() + timeout)
    with Door(line, names) as door:
        try:
            page = door.get(path, _LONGEST)
        except Failed as e:
            return Glimpse(fault=e.fault.text)
        body = page.plain(_LONGEST)
        dates = door.date_fault.text if door.date_fault is not None else ""
        return Glimpse(page.status, b"" if body is None else body, _mtime(page.headers.get("Last-Modified")), dates)


def _mtime(text: str | None) -> int | None:
    try:
        return None if text is None else calendar.timegm(parsedate_to_datetime(text).utctimetuple())
    except (ValueError, TypeError, OverflowError):
        return None
