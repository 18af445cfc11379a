"""What of a changed file does a mirror have already that holds the version before?

Both versions lie in our own store, so no mirror is asked. `mirrord.delta` compares; here they are opened, checked
against their digests (what we compare with must be what the mirror was sent), and each pair is compared once, for
however many mirrors. That the base lies on the mirror, and what is made of it, is others' affair.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import BinaryIO

from mirrord.delta import Delta, find_copies, gaps
from mirrord.errors import Cancelled, Damaged
from mirrord.hosts import Content
from mirrord.manifest import Entry

LEAST_FILE = 64 * 1024
"""Bytes; a smaller file is sent as fast as it is patched."""
WORTH = 0.7
"""A file of which more than this share has to be sent is sent whole."""
_REMEMBERED, _REMEMBERED_COPIES = 10_000, 50_000
_BLOCK = 1 << 20

_Pair = tuple[bytes, bytes]


class Comparer:
    """Compares versions of files; from any thread."""

    def __init__(self, content: Content, stop: threading.Event | None = None) -> None:
        """`content` opens both versions by their digests. Once `stop` is set, comparing raises Cancelled."""
        self._content = content
        self._stop = stop
        self._lock = threading.Lock()
        self._at_work: dict[_Pair, threading.Lock] = {}
        self._found: OrderedDict[_Pair, Delta | None] = OrderedDict()
        self._copies = 0

    def __call__(self, old: Entry, new: Entry) -> Delta | None:
        """Return how `new` is made of `old`; None where it is better sent whole, or one of them is not to be had."""
        if min(old.size, new.size) < LEAST_FILE:
            return None
        pair = old.digest, new.digest
        with self._lock:
            if pair in self._found:
                return self._found[pair]
            at_work = self._at_work.setdefault(pair, threading.Lock())
        with at_work:
            with self._lock:
                if pair in self._found:
                    return self._found[pair]
            delta = self._compare(old, new)
            with self._lock:
                self._remember(pair, delta)
                self._at_work.pop(pair, None)
            return delta

    def _compare(self, old: Entry, new: Entry) -> Delta | None:
        try:
            with self._content.open(old.digest) as before, self._content.open(new.digest) as after:
                if not (self._holds(before, old) and self._holds(after, new)):
                    return None
                copies = find_copies(_Whole(before, old.size), _Whole(after, new.size), self._go_on)
                sent = hashlib.sha256()
                for at, size in gaps(copies, new.size):
                    after.seek(at)
                    for part in range(0, size, _BLOCK):
                        sent.update(after.read(min(_BLOCK, size - part)))
        except (Damaged, OSError):
            return None  # sending it whole tells what is wrong
        delta = Delta(new.size, copies, sent.digest())
        return delta if delta.sent <= WORTH * delta.size else None

    def _holds(self, file: BinaryIO, entry: Entry) -> bool:
        digest = hashlib.sha256()
        while data := file.read(_BLOCK):
            self._go_on()
            digest.update(data)
        return digest.digest() == entry.digest and file.tell() == entry.size

    def _go_on(self) -> None:
        if self._stop is not None and self._stop.is_set():
            raise Cancelled("comparing files: told to stop")

    def _remember(self, pair: _Pair, delta: Delta | None) -> None:
        self._found[pair] = delta
        self._copies += len(delta.copies) if delta is not None else 0
        while len(self._found) > _REMEMBERED or self._copies > _REMEMBERED_COPIES:
            _, dropped = self._found.popitem(last=False)
            self._copies -= len(dropped.copies) if dropped is not None else 0


class _Whole:
    """A file that is cut like bytes; never more of it is in memory than is asked for."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self._size)
        if stop <= start:
            return b""
        self._file.seek(start)
        data = self._file.read(stop - start)
        if len(data) != stop - start:
            raise Damaged("our copy has become shorter")
        return data
