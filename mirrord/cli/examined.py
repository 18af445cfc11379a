"""What does a person see of a mirror that was tried?

What the server is, what the account can do and what follows from it, which layout suits it, and what its web server
showed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mirrord.cli import outcome
from mirrord.cli.talk import Talk, row
from mirrord.cli.words import many, size

Found = Mapping[str, Any]

_TRAITS = {
    "symlink": "links",
    "replace_link": "replacing a link",
    "replace": "replacing a file",
    "rename_folder": "renaming a folder",
    "hard_link": "hard links",
    "exclusive": "new files only",
    "mtime": "file times",
    "any_name": "any names",
    "space": "free space",
    "copy_data": "copying parts",
    "hashes": "own hashes",
}
_STYLES = {"yes": "green", "no": "bold red", "unproven": "yellow"}
_HOW = {"said": " (not tried)", "left out": " (left out)"}


def mirror(talk: Talk, found: Found) -> None:
    """What one mirror can do."""
    server, layout = found["server"], found["layout"]
    talk.line(f"{found['mirror']}: {found['account']}", "bold")
    secret = ", ".join(word for word in (server["cipher"], server["mac"]) if word)
    talk.line(f"{server['banner']}; {secret}; {many(server['channels'], 'channel')}")
    limits = "as the server says" if server["told"] else "to begin with, as the server does not say"
    talk.line(f"{size(server['block'])} in one request, {many(server['handles'], 'file')} open on a channel, {limits}")
    free = size(found["free_bytes"]) + " free" if found["free_bytes"] is not None else "nobody says how much is free"
    talk.line(f"round trip {1000 * found['round_trip_seconds']:.1f} ms; {free}")
    if found["obstacle"]:
        talk.line(found["obstacle"], "bold red")
    talk.line()
    table = talk.table("CAN IT", "FOUND", "WHAT")
    for trait in found["traits"]:
        word = "yes" if trait["works"] else "no"
        why = f" ({trait['words']})" if trait["words"] else ""
        row(
            table,
            _TRAITS.get(trait["trait"], trait["trait"]),
            (word + _HOW.get(trait["how"], ""), "green" if trait["works"] else "yellow"),
            trait["follows"] + why,
        )
    talk.show(table)
    talk.line()
    talk.line(f'layout "auto" is {layout["auto"]}: {layout["why"]}')
    if layout["now"] != layout["auto"]:
        talk.line(f"the mirror has layout {layout['now']}: {layout['now_why']}", "yellow")
    for proof in found["web"]:
        where = f"{proof['name']} at {proof['address']} port {proof['port']}"
        talk.line(f"{where}: {proof['text']}", _STYLES[proof["serves"]])


def exit_code(found: Found) -> int:
    """Return 0 where nothing stands in the way, 3 where some addresses serve something else, 1 where all do."""
    if found["obstacle"]:
        return outcome.FAILED
    return outcome.counted(proof["serves"] != "no" for proof in found["web"])
