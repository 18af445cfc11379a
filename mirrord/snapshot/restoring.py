"""How is a snapshot's content laid out in a folder again?

Whole or not at all: the tree is built beside its place, every byte compared with its digest on the way, and comes to
its place by one rename. Files share their bytes with the store where the file system can, and carry their published
mtimes, so that a restored tree can be served, or become the source again.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from mirrord.errors import BadUsage, Cancelled, Damaged, Full
from mirrord.manifest import Entry, Manifest, weigh
from mirrord.snapshot import Progress, disk
from mirrord.snapshot.objects import Objects, hash_file, no_count, write_all

_OFTEN = 100


def restore(
    manifest: Manifest,
    objects: Objects,
    into: Path,
    doing: str,
    seen: Callable[[Progress], None],
    stop: threading.Event,
) -> tuple[bytes, ...]:
    """Lay a manifest's files out in `into`, an empty or a new folder; `doing` begins the sentences.

    Returns the paths whose content is damaged; where there is one, `into` is as it was. Raises BadUsage, Full,
    Cancelled, OSError.
    """
    into = into.absolute()
    _check_target(into, doing)
    free = disk.free_bytes(into.parent)
    if free is not None and free < manifest.size and not _shares(manifest, objects, into.parent):
        text = f"{doing}: {weigh(manifest.size)} are needed in {into.parent}, {weigh(free)} are free; make room there"
        raise Full(text, manifest.size, free)
    beside = into.with_name(f".{into.name}.restoring")
    disk.remove([beside])
    try:
        damaged = _lay_out(manifest, objects, beside, doing, seen, stop)
        if not damaged:
            if into.exists():
                _dress(beside, into)
            beside.rename(into)
            disk.sync_folder(into.parent)
        return damaged
    finally:
        disk.remove([beside])


def _check_target(into: Path, doing: str) -> None:
    if not into.parent.is_dir():
        raise BadUsage(f"{doing}: the folder {into.parent} is not there; make it first")
    if into.is_symlink() or (into.exists() and not into.is_dir()):
        raise BadUsage(f"{doing}: {into} is no folder; name an empty or a new one")
    if into.is_dir() and any(into.iterdir()):
        raise BadUsage(f"{doing}: {into} is not empty; name an empty or a new folder")
    if into.is_mount():
        raise BadUsage(f"{doing}: {into} is a mount point; name a new folder in it")


def _shares(manifest: Manifest, objects: Objects, folder: Path) -> bool:
    """Tell, by doing, whether files in a folder can share their bytes with the store, and so take no room."""
    largest = max(manifest.entries.values(), key=lambda entry: entry.size)
    try:
        with objects.open(largest.digest) as source, tempfile.TemporaryFile(dir=folder) as target:
            return disk.clone(source.fileno(), target.fileno())
    except Damaged:
        return False


def _dress(folder: Path, like: Path) -> None:
    """Give a folder the owner and mode of the empty one that it replaces."""
    found = like.stat()
    folder.chmod(found.st_mode & 0o7777)
    with contextlib.suppress(PermissionError):
        os.chown(folder, found.st_uid, found.st_gid)


def _lay_out(
    manifest: Manifest,
    objects: Objects,
    root: Path,
    doing: str,
    seen: Callable[[Progress], None],
    stop: threading.Event,
) -> tuple[bytes, ...]:
    """Write the whole tree; return the paths whose content is damaged."""
    root.mkdir()
    base = os.fsencode(root) + b"/"
    folders = manifest.folders()
    for folder in folders:
        os.mkdir(base + folder)  # noqa: PTH102 - bytes; Path knows only text
    damaged: list[bytes] = []
    done = 0
    syncing = disk.Syncing(root)
    try:
        for number, (path, entry) in enumerate(manifest.entries.items(), 1):
            if stop.is_set():
                raise Cancelled(f"{doing}: stopped")
            if not _write(objects, entry, base + path, stop):
                damaged.append(path)
            done += entry.size
            if number % _OFTEN == 0 or number == len(manifest.entries):
                seen(Progress(number, len(manifest.entries), done, manifest.size))
        syncing.finish([base + path for path in manifest.entries], [base, *(base + folder for folder in folders)])
    finally:
        syncing.close()
    return tuple(damaged)


def _write(objects: Objects, entry: Entry, where: bytes, stop: threading.Event) -> bool:
    """Write one file; False where our bytes are not those that were recorded."""
    try:
        source = objects.open(entry.digest)
    except Damaged:
        return False
    with source:
        into = os.open(where, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            if disk.clone(source.fileno(), into):
                digest = hash_file(into, entry.size, stop, no_count)
            else:
                digest = hash_file(source.fileno(), entry.size, stop, no_count, lambda data: write_all(into, data))
            os.utime(into, (entry.mtime, entry.mtime))
        finally:
            os.close(into)
    return digest == entry.digest
