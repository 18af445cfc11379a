"""How does a verb get to the desk and back?

The configuration is read; the running daemon is asked if there is one, else a desk of our own. What comes back is
shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from mirrord.cli import collect_less_often
from mirrord.cli.ending import Options, guarded
from mirrord.cli.talk import Talk
from mirrord.errors import BadUsage, Cancelled, MirrordError

if TYPE_CHECKING:
    from mirrord.config import Settings

Found = dict[str, Any]


class Asking:
    """One verb at the desk."""

    def __init__(self, talk: Talk, settings: Settings) -> None:
        """Find out whether a daemon runs. Raises NoAnswer where its socket does not answer."""
        from mirrord.control import reach

        self.talk = talk
        self.settings = settings
        self._desk = reach(settings)
        collect_less_often()

    def call(self, verb: str, **arguments: Any) -> Found:
        """Have a verb done; show progress meanwhile."""
        try:
            with self.talk.working():
                return self._desk.call(verb, arguments, self.talk)
        except KeyboardInterrupt:
            if not self._desk.alone:
                raise Cancelled(
                    "interrupted; the daemon goes on with what it was asked for, `mirrord status` shows how it ends"
                ) from None
            raise Cancelled(f"{verb}: interrupted; the next try continues where this one stopped") from None

    def show(self, found: Found, screen: Callable[[Talk, Found], None]) -> None:
        """Write the result: one object, or the screen for people."""
        if self.talk.as_json:
            self.talk.result(found)
        else:
            screen(self.talk, found)


def options(context: typer.Context) -> Options:
    """Return what was said to every verb."""
    found = context.find_root().obj
    return found if isinstance(found, Options) else Options()


def at_desk(context: typer.Context, as_json: bool, act: Callable[[Asking], int]) -> int:
    """Read the configuration, go to the desk, act there; return the exit code."""

    def do(talk: Talk) -> int:
        return act(Asking(talk, settings_of(context)))

    return _guarded(context, as_json, do)


def alone(context: typer.Context, as_json: bool, act: Callable[[Talk], int]) -> int:
    """Act without a desk; return the exit code."""
    collect_less_often()
    return _guarded(context, as_json, act)


def _guarded(context: typer.Context, as_json: bool, act: Callable[[Talk], int]) -> int:
    wanted = as_json or options(context).as_json
    return guarded(lambda: act(Talk(as_json=wanted)), as_json=wanted)


def settings_of(context: typer.Context) -> Settings:
    """Read the configuration that was meant. Raises BadConfig."""
    from mirrord.config import find, load

    return load(find(options(context).file))


def duration(text: str | None, option: str) -> float | None:
    """Read an option's duration into seconds. Raises BadUsage."""
    from mirrord.config.units import read_duration

    try:
        return None if text is None else read_duration(text)
    except ValueError as e:
        raise BadUsage(f"{option}: {e}") from None


def moment(text: str | None, option: str) -> float | None:
    """Read an option's time into Unix seconds. Raises BadUsage.

    ISO 8601 in our own time where it names no other, `HH:MM` or `HH:MM:SS`, which is the last such, or `@` and Unix
    seconds. A minute, a second or a day is meant to its end: the history shows times cut, and what it shows is found.
    """
    from datetime import datetime, timedelta

    if text is None:
        return None
    now = datetime.now().astimezone()
    try:
        if text.startswith("@"):
            return datetime.fromtimestamp(float(text[1:])).astimezone().timestamp()
        if len(text) <= 8 and ":" in text:
            form = "%H:%M:%S" if text.count(":") == 2 else "%H:%M"
            today = datetime.combine(now.date(), datetime.strptime(text, form).time()).astimezone()  # noqa: DTZ007
            found = today if today <= now else today - timedelta(days=1)
        else:
            found = datetime.fromisoformat(text).astimezone()
        return found.timestamp() + _left_open(text)
    except (ValueError, OverflowError, OSError):
        raise BadUsage(f'{option}: should be a time such as "03:15" or "2026-11-22 03:15", is "{text}"') from None


def _left_open(text: str) -> float:
    """Return the seconds to the end of the day, minute or second that a time names."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return 86_399.999
    clock = re.fullmatch(r"(?:\S+[T ])?\d?\d:\d\d(:\d\d)?(?:Z|[+-]\d\d:?\d\d)?", text)
    return 0.0 if clock is None else 0.999 if clock[1] else 59.999


def agree(talk: Talk, question: str, *, yes: bool) -> None:
    """Go on only if the person says so. Raises MirrordError where they say no, BadUsage where nobody can be asked."""
    if not yes and not talk.ask(question):
        raise MirrordError("you said no; nothing was changed")
