"""How are readers moved by announcing the service's prefix with another next hop?

A BGP speaker of its own, BIRD (`bird.py`) or ExaBGP (`exabgp.py`), runs on this machine and talks to the routers.
What should be announced stands in one file, with the fence as a comment. The file outlives mirrord, the speaker and the
machine, and the speaker reads it whenever it starts: the last route stays, whoever dies. A change replaces the file
by rename and has the speaker obey; a route is replaced, never withdrawn first, and nothing here can withdraw the
last one. What stands is what the running speaker shows, with the fence of the file; a "done" is not believed.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Protocol

from mirrord.errors import MirrordError, Refused, Unavailable
from mirrord.switches import BgpSettings, Follow, Following, Found, NameServers, Sent, SentKind
from mirrord.switches.announcing import Routes, fence_text, routes, rrsets
from mirrord.switches.change import Change, Expected, Seen, Zone, clean
from mirrord.switches.locking import hold

CHANGED = "the file is not as mirrord wrote it"
"""Stands in the fence's place where somebody changed the file by hand."""
_LONGEST_WORDS = 300
_LET_IN = "give the folder to mirrord's user, and name it in ReadWritePaths of its unit"


class Speaker(Protocol):
    """What talks BGP for us. Every verb may be called from any thread, and speaks to the process that runs now."""

    name: str
    obeys_its_file: bool
    """Whether nothing but its file can make it announce something else."""

    def write(self, fence: str, routes: Routes) -> str:
        """Write the file that announces exactly these routes; pure."""
        ...

    def parse(self, text: str) -> tuple[str, Routes]:
        """Read the fence and the routes of a file that `write` wrote, to the last byte; raises ValueError. Pure."""
        ...

    def check(self, file: Path) -> None:
        """Have the speaker look whether it could use `file`, using nothing. Raises Refused, Unavailable."""
        ...

    def obey(self, routes: Routes) -> None:
        """Have it announce what its file says now. Raises Refused where it goes on as before; Unavailable."""
        ...

    def shown(self, prefixes: Sequence[str]) -> dict[str, frozenset[str]]:
        """Return what it has for each prefix, in texts; empty is nothing. Raises Unavailable."""
        ...

    def tells(self, routes: Routes) -> list[str]:
        """Return the neighbours that are told of all the routes now. Raises Unavailable."""
        ...

    def prove(self) -> None:
        """Show by something harmless that it would obey, and talks to somebody. Raises Refused, Unavailable."""
        ...


class Bgp:
    """The switch of one service whose prefixes are announced; `mirrord.switches.Switch` is the contract."""

    def __init__(self, settings: BgpSettings) -> None:
        """Nothing is opened yet."""
        self._settings = settings
        self._file = Path(settings.file)
        self._speaker = open_speaker(settings)
        self.fence = settings.fence

    def read(self, first: str = "") -> Zone:
        """Ask the speaker what it announces. Raises Unavailable."""
        del first  # there is only one road
        doing = f"{self._settings.service}: asking {self._speaker.name} what it announces"
        try:
            shown = self._speaker.shown(self._settings.prefixes)
        except Unavailable as e:
            raise Unavailable(f"{doing}: {e}") from e
        text = self._text(doing)
        fence, written = None, frozenset[str]()
        if text is not None:
            try:
                fence, meant = self._speaker.parse(text)
                written = frozenset(meant)
            except ValueError:
                fence, written = CHANGED, frozenset(self._settings.prefixes)
        found = {
            prefix: Found(rrsets(prefix, shown[prefix], fence if prefix in written else None))
            for prefix in self._settings.prefixes
        }
        # The file first, then the speaker: in between there is a step, which sending again finishes.
        return Zone(names=found, server=self._speaker.name, in_steps=True)

    def send(self, change: Change) -> Sent:
        """Replace the file, and have the speaker obey, if exactly what the change replaces stands."""
        doing, name = f"{change.service}: moving to {change.target}", self._speaker.name
        try:
            with self._locked(doing):
                return self._send(change, doing)
        except Unavailable as e:
            return Sent(SentKind.UNSENT, f"{e}; nothing was changed", name)
        except Refused as e:
            return Sent(SentKind.REFUSED, f"{e}; nothing was changed", name, signed=True)

    def _send(self, change: Change, doing: str) -> Sent:
        name = self._speaker.name
        meant, fence = routes(change.to), fence_text(change.to)
        if meant is None or fence is None or set(meant) != set(self._settings.prefixes):
            raise Refused(f"{doing}: the plan does not say for each prefix what is to be announced")
        text = self._speaker.write(fence, meant)
        before = self._text(doing)
        seen = change.seen_in(self.read())
        if seen is Seen.APPLIED:
            return Sent(SentKind.ACCEPTED, f"{doing}: {name} announces it already", name)
        if seen is not Seen.BEFORE and before != text:
            return Sent(SentKind.FENCED, f"{doing}: {name} announces something else than expected", name)
        try:
            with _beside(self._file, text) as new:
                self._speaker.check(new)
                new.replace(self._file)
            _sync_folder(self._file.parent)
        except OSError as e:
            raise Refused(f"{doing}: writing {self._file}: {e.strerror or e}") from e
        except Refused as e:
            raise Refused(f"{doing}: {name}: {e}") from e
        except Unavailable as e:
            raise Unavailable(f"{doing}: {name}: {e}") from e
        try:
            self._speaker.obey(meant)
        except Refused as e:
            self._put_back(before, routes(change.from_))
            return Sent(SentKind.REFUSED, f"{doing}: {name}: {e}; {self._file} is as it was", name)
        except Unavailable as e:
            return Sent(SentKind.UNKNOWN, f"{doing}: {name}: {e}; {self._file} has it", name)
        return Sent(SentKind.ACCEPTED, f"{doing}: {name} was told", name)

    def _put_back(self, text: str | None, before: Routes | None) -> None:
        """Have all as it was before a change that the speaker refused: its next start must not stumble over it."""
        with contextlib.suppress(OSError):
            with _beside(self._file, text or "") as old:
                old.replace(self._file)
            _sync_folder(self._file.parent)
        if before is not None and not self._speaker.obeys_its_file:
            with contextlib.suppress(MirrordError):  # what it took of the change before it refused
                self._speaker.obey(before)

    def keep(self, expected: Expected) -> None:
        """Give again what we left where the speaker or its file lost it; never raises.

        Somebody else's announcement, and a file that somebody changed, are left alone.
        """
        doing = f"{self._settings.service}: giving the announcement again"
        meant, fence = routes(expected), fence_text(expected)
        if meant is None or fence is None or set(meant) != set(self._settings.prefixes):
            return
        text = self._speaker.write(fence, meant)
        with contextlib.suppress(MirrordError, OSError):
            shown = self._speaker.shown(self._settings.prefixes)
            stands = self._text(doing)
            as_meant = {prefix: shown[prefix] == frozenset({meant[prefix].text}) for prefix in meant}
            if stands == text and all(as_meant.values()):
                return
            lost = all(as_meant[prefix] or not shown[prefix] for prefix in meant)
            if stands not in (None, text) or not (lost or (stands == text and self._speaker.obeys_its_file)):
                return
            with self._locked(doing):
                if self._text(doing) != stands:
                    return
                if stands is None:
                    with _beside(self._file, text) as new:
                        new.replace(self._file)
                    _sync_folder(self._file.parent)
                self._speaker.obey(meant)

    def name_servers(self) -> NameServers:
        """Nobody is remembered: the speaker knows its neighbours."""
        return {}

    def nudge(self, known: NameServers) -> None:
        """Nobody needs to be told: BGP tells at once."""

    def followers(self, change: Change, known: NameServers, executor: Executor | None = None) -> Mapping[str, Follow]:
        """Ask the speaker whether it tells its neighbours, and a neighbour, where one can be asked, what it has."""
        del known, executor
        found = {self._speaker.name: self._told(change)}
        if self._settings.neighbour:
            found["neighbour"] = self._neighbour(change)
        return found

    def _told(self, change: Change) -> Follow:
        name, meant = self._speaker.name, routes(change.to)
        try:
            shown = self._speaker.shown(self._settings.prefixes)
            stands = meant is not None and all(shown[prefix] == frozenset({it.text}) for prefix, it in meant.items())
            told = self._speaker.tells(meant) if stands and meant is not None else []
        except Unavailable as e:
            return Follow(Following.UNREACHABLE, text=f"{name}: {e}")
        if not stands:
            return Follow(Following.OLD, text=f"{name} announces something else")
        text = "" if told else f"{name} has it, but no neighbour is told of it: look at its sessions and their export"
        return Follow(Following.FOLLOWS if told else Following.OLD, text=text)

    def _neighbour(self, change: Change) -> Follow:
        """Run the operator's command for each prefix: what it prints must name the new next hop."""
        program, meant = self._settings.neighbour, routes(change.to) or {}
        for prefix, announced in meant.items():
            try:
                asked = subprocess.run(
                    [*program, prefix],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=self._settings.timeout,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as e:
                return Follow(Following.UNREACHABLE, text=f"the neighbour: {program[0]}: {clean(str(e), 200)}")
            said = asked.stdout.decode("utf-8", "replace")
            if asked.returncode != 0:
                words = clean(said[:_LONGEST_WORDS].strip(), 200)
                text = f"the neighbour: {program[0]} ended with {asked.returncode}: {words}"
                return Follow(Following.UNREACHABLE, text=text)
            if announced.next_hop not in re.split(r"[^0-9A-Fa-f:.]+", said):
                text = f"the neighbour does not send {prefix} to {announced.next_hop}"
                return Follow(Following.OLD, text=text)
        return Follow(Following.FOLLOWS)

    def prove(self) -> None:
        """Have the speaker show that it would obey, and that the file may be replaced. Raises Refused, Unavailable."""
        doing, folder = f"{self._settings.service}: proving that {self._speaker.name} would obey", self._file.parent
        if not os.access(folder, os.W_OK | os.X_OK):
            raise Refused(f"{doing}: {folder}: nothing may be written there; {_LET_IN}")
        try:
            self._speaker.prove()
        except Refused as e:
            raise Refused(f"{doing}: {e}") from e
        except Unavailable as e:
            raise Unavailable(f"{doing}: {e}") from e

    def _text(self, doing: str) -> str | None:
        """Return the file's text, None where there is none, or an empty one. Raises Unavailable."""
        try:
            return self._file.read_text(encoding="utf-8", errors="replace") or None
        except FileNotFoundError:
            return None
        except OSError as e:
            raise Unavailable(f"{doing}: reading {self._file}: {e.strerror or e}") from e

    @contextlib.contextmanager
    def _locked(self, doing: str) -> Iterator[None]:
        """Let nobody else of mirrord change the file meanwhile. Raises Unavailable, Refused."""
        path = self._file.with_name(f".{self._file.name}.lock")
        try:
            lock = path.open("a")
        except OSError as e:
            raise Refused(f"{doing}: locking {path}: {e.strerror or e}; {_LET_IN}") from e
        with lock:
            hold(lock.fileno(), self._settings.timeout, f"{doing}: another mirrord changes {self._file}")
            yield


def open_speaker(settings: BgpSettings) -> Speaker:
    """Return what talks BGP for a service; nothing is opened yet."""
    if settings.speaker == "exabgp":
        from mirrord.switches.exabgp import ExaBgp

        return ExaBgp(settings.service, settings.pipes, settings.timeout)
    from mirrord.switches.bird import Bird

    return Bird(settings.service, settings.socket, settings.timeout)


@contextlib.contextmanager
def _beside(file: Path, text: str) -> Iterator[Path]:
    """Write a text beside a file, to the disk, where no `include "*.conf"` finds it; gone afterwards unless renamed.

    Raises OSError.
    """
    new = file.with_name(f".{file.name}.new")
    try:
        with new.open("w", encoding="utf-8") as out:
            os.fchmod(out.fileno(), 0o644)  # the speaker is another user; nothing in it is secret
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        yield new
    finally:
        new.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """See that a rename is on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
