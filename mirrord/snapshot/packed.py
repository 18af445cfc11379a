"""Do the packed copies that lie beside the source's pages hold what these hold?

A web server with `gzip_static` sends `page.html.gz` in place of `page.html`. Where a generator is half-way, or the copy
was forgotten, readers would see an old page beside new ones, though every file is what its maintainer has. So each
copy that changed, or whose page did, is unpacked once, never further than its page is long. Which files belong
together is said in `mirrord.siblings`.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping

from mirrord.errors import Cancelled, PutOff
from mirrord.manifest import Entry, quote
from mirrord.siblings import Badly, encoding_of, groups, unpacked
from mirrord.snapshot.source import Source, unreadable

_PIECE = 1 << 20


def check(
    source: Source,
    root: bytes,
    entries: Mapping[bytes, Entry],
    before: Mapping[bytes, Entry],
    stop: threading.Event,
) -> None:
    """Raise PutOff where a packed copy does not unpack to its page; what is as it was `before` is not read again.

    `entries` are the source's files as they were read from the folder `root`. Raises Braked (unreadable), Cancelled.
    """
    wrong: list[tuple[bytes, bytes, str]] = []
    for copies in groups(entries).values():
        for copy in copies:
            page = copy[: copy.rindex(b".")]  # of `a.gz.br`, which stays with `a`, that is `a.gz`
            if _is_same(copy, entries, before) and _is_same(page, entries, before):
                continue
            if stop.is_set():
                raise Cancelled(f"source {source.path}: reading: stopped")
            if (why := _why_wrong(source, root, copy, entries[copy], entries[page])) is not None:
                wrong.append((copy, page, why))
    if wrong:
        raise _put_off(source, wrong)


def _is_same(path: bytes, entries: Mapping[bytes, Entry], before: Mapping[bytes, Entry]) -> bool:
    old = before.get(path)
    return old is not None and old.digest == entries[path].digest


def _why_wrong(source: Source, root: bytes, copy: bytes, packed: Entry, page: Entry) -> str | None:
    """Say what is wrong with one copy, as it follows its name; None where it unpacks to its page."""
    hashed, held = hashlib.sha256(), hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        with os.fdopen(os.open(root + b"/" + copy, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            while piece := file.read(_PIECE):
                hashed.update(piece)
                yield piece

    try:
        for part in unpacked(pieces(), encoding_of(copy), page.size):
            held.update(part)
    except Badly as e:
        return str(e)
    except FileNotFoundError:
        return "is gone again"
    except OSError as e:
        raise unreadable(source, copy, e) from e
    if hashed.digest() != packed.digest:
        return "changed again"
    return None if held.digest() == page.digest else "unpacks to something else"


def _put_off(source: Source, wrong: list[tuple[bytes, bytes, str]]) -> PutOff:
    copy, page, why = wrong[0]
    more = f" (and {len(wrong) - 1} more such)" if len(wrong) > 1 else ""
    return PutOff(
        f"source {source.path}: taking a snapshot: {quote(copy)} is not {quote(page)} packed: it {why}{more}; web"
        " servers send it in place of the page, so readers would see another one; the next try will do it once it is"
        " made anew;"
        ' what only looks like a packed copy belongs into source.exclude, or set source.siblings = "ignore"'
    )
