"""Is a copy what its publisher signed?

Of any folder or web server, with nothing but a public key; where none is named, the configuration's own is taken. The
judgement is `mirrord.trust.copy`'s.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirrord.cli.talk import Talk
from mirrord.cli.words import many
from mirrord.config import Settings, find, load
from mirrord.control.crew import make_crew
from mirrord.control.works import STORE
from mirrord.errors import BadConfig, BadUsage, MirrordError, Unverified
from mirrord.snapshot.store import Store
from mirrord.trust.copy import Asked, CopyVerdict, Kind, verify_copy
from mirrord.trust.keys import Signers

_AT_ONCE = 8
"""Files that are fetched at once."""
_SHOWN = 20
"""Paths of a kind that are listed; --json has them all."""
_STYLES = {Kind.INTACT: "green", Kind.OUTDATED: "yellow"}


@dataclass(frozen=True, slots=True)
class _Expected:
    """Whose copy it should be."""

    signers: Signers
    identity: str | None = None
    site: str | None = None
    newest: int | None = None
    ca_file: Path | None = None


def verify(
    talk: Talk,
    where: str,
    flag: Path | None,
    *,
    key: str | None,
    signers: Path | None,
    identity: str | None,
    ca_file: Path | None,
) -> int:
    """Judge a copy, show the verdict, return the exit code. Raises BadUsage, BadConfig."""
    expected = _expected(flag, key, signers)
    asked = Asked(
        signers=expected.signers,
        identity=identity or expected.identity,
        now=time.time(),
        site=expected.site,
        newest=expected.newest,
    )
    with talk.working():
        verdict = _judge(talk, where, asked, ca_file or expected.ca_file)
    if talk.as_json:
        talk.result({"where": where, **verdict.as_json()})
    else:
        _show(talk, verdict)
    return 0 if verdict.kind in _STYLES else Unverified.exit_code


def _judge(talk: Talk, where: str, asked: Asked, ca_file: Path | None) -> CopyVerdict:
    def seen(done: int, total: int) -> None:
        event = {"event": "progress", "mirror": where, "bytes_done": 0, "bytes_total": 0}
        talk({**event, "files_done": done, "files_total": total})

    if not where.startswith(("http://", "https://")):
        folder = Path(where)
        if not folder.is_dir():
            raise BadUsage(f"{where}: is no folder, and no URL that begins with http:// or https://")
        return verify_copy(folder, asked, seen=seen)
    from mirrord.probe import fetcher

    fetch = fetcher(where, ca_file=None if ca_file is None else str(ca_file))
    return verify_copy(fetch, asked, executor=make_crew("verify", _AT_ONCE), seen=seen)


def _expected(flag: Path | None, key: str | None, signers: Path | None) -> _Expected:
    if key is not None and signers is not None:
        raise BadUsage("--key and --signers are two ways to say the same; give one of them")
    if signers is not None:
        return _Expected(Signers.parse(_read(signers), str(signers)))
    if key is not None and key.startswith(("ssh-", "ecdsa-", "sk-")):
        return _Expected(Signers.parse(key.encode(), "--key"))
    if key is not None:
        return _Expected(Signers.parse(_read(Path(key)), key))
    file = find(flag)
    if flag is None and not file.exists():
        raise BadUsage(
            'whose copy should it be? Give the publisher\'s public key: --key "ssh-ed25519 AAAA..." or --key FILE'
        )
    settings = load(file)
    try:
        believed = settings.signers()
    except BadConfig as e:
        raise BadConfig([f"{e}; or give the publisher's public key: --key"]) from None
    own = [mirror.http.ca_file for mirror in settings.mirrors if mirror.http.ca_file is not None]
    return _Expected(believed, settings.identity, settings.site.name, _newest(settings), next(iter(own), None))


def _newest(settings: Settings) -> int | None:
    """Return the serial of the newest snapshot in our own store, where there is one and we may look."""
    with suppress(MirrordError):
        cards = Store(settings.state.directory / STORE, settings.site.name).snapshots()
        return cards[-1].serial if cards else None
    return None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as e:
        raise BadConfig([f"{file}: cannot be read: {e.strerror or e}"]) from None


def _show(talk: Talk, verdict: CopyVerdict) -> None:
    talk.line(verdict.text, _STYLES.get(verdict.kind, "bold red"))
    if verdict.signed_by is not None:
        site = f' for the site "{verdict.snapshot.site}"' if verdict.snapshot is not None else ""
        talk.line(f"signed by {verdict.signed_by}{site}")
    found: Mapping[str, Any] = verdict.as_json()
    _list(talk, "altered", [f"{one['path']} {one['why']}" for one in found["altered"]])
    _list(talk, "missing", found["missing"])
    _list(talk, "does not belong there", found["extra"] or [])
    _list(talk, "nobody can tell", [f"{one['path']}: {one['why']}" for one in found["unread"]])
    for remark in verdict.remarks:
        talk({"event": "warn", "text": remark})


def _list(talk: Talk, what: str, paths: list[str]) -> None:
    for path in paths[:_SHOWN]:
        talk.line(f"  {what}: {path}")
    if len(paths) > _SHOWN:
        talk.line(f"  {what}: {many(len(paths) - _SHOWN, 'file')} more")
