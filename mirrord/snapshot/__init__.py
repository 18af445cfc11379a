"""How does the folder that maintainers work in become a numbered, signed snapshot that nothing can alter?

    excludes.py  pure  which paths are left out, as .gitignore says it
    source.py    one walk over the source: what is there now, by device, inode, size and times
    seen.py      what the walk before found, so that only what changed is read again
    disk.py      whole or not at all: locks, atomic writes, syncing, cloning; the disk's errors become ours
    objects.py   every content once, by its digest
    numbering.py pure  which serial, id and published times follow those of the snapshot before
    taking.py    the source read in full, and twice the same
    packed.py    do packed copies (`page.html.gz`) hold what their pages hold?
    shelf.py     a snapshot's folder, and whether it still is what it was
    restoring.py a snapshot laid out in a folder again
    store.py     the verbs: take, roll back, sign again, sweep, restore, scrub

Nothing here knows a mirror: `mirrord.publish` carries a snapshot out to one, `mirrord.trust` signs it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a work with many files is; counts of files and payload bytes."""

    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
