"""Does a mirror whose content is not ours (a CMS, say) show what its operator expects?"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message

from mirrord.health import Fault, FaultKind
from mirrord.probe.door import Door, Failed, Page, refuse_unless_served

LARGEST_PAGE = 2_000_000
"""Bytes of a page that are searched."""


@dataclass(frozen=True, slots=True)
class Marker:
    """A text that the page at `path` (with its query, as in a browser) must contain."""

    path: str
    contains: str


def search(door: Door, markers: Sequence[Marker]) -> None:
    """Ask for each page and look for its marker; the home page must be there in any case. Raises Failed."""
    for path in dict.fromkeys(["/", *(marker.path for marker in markers)]):
        page = door.ask(path, LARGEST_PAGE)
        refuse_unless_served(page, path)
        text = _text(page)
        for marker in markers:
            if marker.path == path and marker.contains not in text:
                raise Failed(Fault(FaultKind.MARKER, f'does not show "{marker.contains}" on {path}'))


def _text(page: Page) -> str:
    content_type = Message()
    content_type["Content-Type"] = page.headers.get("Content-Type", "")
    charset = content_type.get_content_charset("utf-8")
    try:
        codecs.lookup(charset)
    except LookupError:
        charset = "utf-8"
    return (page.plain(LARGEST_PAGE) or b"").decode(charset, "replace")
