"""How does any reader get a copy's files over HTTP, to check them?

For `mirrord.trust.copy`, which judges. Here DNS says where the copy is, and a proxy of the environment is used, as a
reader's browser would. A server that drips is given up: each piece of a file has its time.
"""

from __future__ import annotations

import queue
import socket
import time
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import requests.utils

from mirrord.errors import BadUsage, Unavailable
from mirrord.health import Target
from mirrord.probe.door import BrokenOff, Door, Failed
from mirrord.probe.line import PORTS, Line
from mirrord.trust.places import Fetch, url_path

PATIENCE = 30.0
"""Seconds for an answer to begin, and for each further piece of it."""

_PIECE = 1 << 16
_NOT_THERE = (401, 403, 404, 410)
_PACKED = (b".gz", b".tgz", b".svgz")


def fetcher(url: str, *, ca_file: str | None = None, patience: float = PATIENCE) -> Fetch:
    """Return what fetches files of the copy at a URL, from any number of threads. Raises BadUsage for a bad URL.

    `ca_file` is a PEM file of the authorities to trust in place of this machine's own. Redirects are followed on the
    URL's own host only: a copy elsewhere is another copy.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as e:
        raise BadUsage(f"{url}: is no URL: {e}") from e
    if parts.scheme not in PORTS or not parts.hostname:
        raise BadUsage(f"{url}: is no URL that begins with http:// or https:// and names a host")
    target = Target("", "", parts.hostname, "", port or PORTS[parts.scheme], https=parts.scheme == "https")
    prefix = parts.path.rstrip("/") + "/"
    proxies = requests.utils.get_environ_proxies(url)
    idle: queue.SimpleQueue[Door] = queue.SimpleQueue()

    def take() -> Door:
        try:
            return idle.get_nowait()
        except queue.Empty:
            return Door(_NamedLine(target, url, ca_file, 0.0), frozenset(), proxies)

    def fetch(path: bytes, limit: int) -> Iterator[bytes]:
        door = take()
        try:
            yield from _pieces(door, prefix + url_path(path), limit, patience, packed=path.endswith(_PACKED))
        except Failed as e:
            raise Unavailable(e.fault.text) from e
        except BrokenOff as e:
            raise Unavailable("breaks off before its end") from e
        finally:
            idle.put(door)

    return fetch


class _NamedLine(Line):
    """Leads wherever DNS says that the target's name is."""

    def connect(self, port: int) -> socket.socket:
        """Connect to the first address that answers. Raises OSError."""
        error: OSError | None = None
        for family, _, _, _, address in socket.getaddrinfo(self.target.name, port, type=socket.SOCK_STREAM):
            try:
                return self.connect_to(family, address)
            except OSError as e:
                error = error or e
        raise error or OSError("it has no address")


def _pieces(door: Door, where: str, limit: int, patience: float, *, packed: bool) -> Iterator[bytes]:
    """Yield the bytes of one file. Raises FileNotFoundError, Unavailable, Failed, BrokenOff."""
    door.line.deadline = time.monotonic() + patience
    response = door.open(where)
    try:
        if door.date_fault is not None:
            raise Failed(door.date_fault)
        if response.status_code in _NOT_THERE:
            raise FileNotFoundError(where)
        if response.status_code != 200:
            raise Unavailable(f"is answered with {response.status_code}")
        unpack = None if packed else _unpacker(response.headers.get("Content-Encoding", "").strip().lower())
        while limit > 0:
            door.line.deadline = time.monotonic() + patience
            piece = door.piece(response, _PIECE)
            for part in [piece] if unpack is None else _unpacked(piece, unpack):
                yield part[:limit]
                limit -= len(part)
                if limit <= 0:
                    return
            if not piece:
                return
    finally:
        response.close()


def _unpacker(encoding: str) -> Any:
    """Return what undoes a packing that nobody asked for, None where there is none. Raises Unavailable."""
    if encoding in ("", "identity"):
        return None
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise Unavailable("is packed in a way that nobody asked for")
    return zlib.decompressobj(zlib.MAX_WBITS | 32)  # either header, gzip's or zlib's


def _unpacked(piece: bytes, unpack: Any) -> Iterator[bytes]:
    """Unpack a piece (empty: the end) in parts that are never much larger. Raises Unavailable."""
    try:
        while piece:
            yield unpack.decompress(piece, _PIECE)
            piece = unpack.unconsumed_tail
            if not piece:
                return
        yield unpack.flush(_PIECE)
    except zlib.error as e:
        raise Unavailable("is packed badly") from e
