"""How does a snapshot's content come back as a folder?

From the store on this machine, every byte checked, whole or not at all; no daemon is needed, and none is disturbed.
"""

from __future__ import annotations

from pathlib import Path

import typer

from mirrord.cli.asking import settings_of
from mirrord.cli.talk import Talk
from mirrord.cli.words import many, size
from mirrord.control.works import STORE
from mirrord.snapshot import Progress
from mirrord.snapshot.store import Store


def restore_snapshot(talk: Talk, context: typer.Context, name: str, directory: Path) -> int:
    """Write a snapshot's files into a new or empty folder. Raises BadUsage, Damaged, Full, Refused."""
    settings = settings_of(context)
    store = Store(settings.state.directory / STORE, settings.site.name)
    snapshot = store.named(name)

    def seen(done: Progress) -> None:
        talk(
            {
                "event": "progress",
                "mirror": "",
                "files_done": done.files_done,
                "files_total": done.files_total,
                "bytes_done": done.bytes_done,
                "bytes_total": done.bytes_total,
            }
        )

    with talk.working():
        store.restore(snapshot, directory, seen=seen)
    card = store.load(snapshot).snapshot
    if talk.as_json:
        talk.result(
            {
                "snapshot": card.id,
                "serial": card.serial,
                "directory": str(directory.absolute()),
                "files": card.files,
                "bytes": card.size,
            }
        )
    else:
        talk.line(f"{directory}: {many(card.files, 'file')}, {size(card.size)}, as in {card.id}, serial {card.serial}")
    return 0
