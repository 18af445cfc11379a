"""How does a verb end?

Whatever happens becomes one sentence (or one JSON object with `error`) and an exit code; never a traceback for what a
person, a network or a disk did. A reader that went away (`| head`) ends it quietly; where the result cannot be written,
as on a full disk, that is said.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TextIO

import typer

from mirrord.errors import BadConfig, BadUsage, Cancelled, MirrordError

_PIPE = 128 + signal.SIGPIPE
_UsageError: type[Exception] = typer.BadParameter.__bases__[
    0
]  # public in no version of typer under a name that they share

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What is said to every verb."""

    file: Path | None = None
    as_json: bool = False


def run(typed: list[str] | None = None) -> int:
    """Do what the arguments say; return the exit code."""
    from mirrord.cli.app import app

    arguments = sys.argv[1:] if typed is None else typed
    as_json = "--json" in arguments

    def parse() -> int:
        try:
            file, rest = configuration_of(arguments)
            before = Options(file, as_json)
            code = app(rest or ["--help"], prog_name="mirrord", standalone_mode=False, obj=before)
        except _UsageError as e:
            raise BadUsage(_usage(e)) from None
        except typer.Abort:
            raise Cancelled("interrupted") from None
        return (code if isinstance(code, int) else 0) if rest else BadUsage.exit_code

    return guarded(parse, as_json=as_json)


def configuration_of(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """Return the file of `-c FILE`, and the arguments without it; -c, -v may stand before the verb or after it.

    Typer would have to load pydantic for a path, and `--help` answers without. Raises BadUsage.
    """
    file: Path | None = None
    front: list[str] = []
    rest: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word == "--":
            rest += [word, *left]
            break
        if word in ("-c", "--config"):
            if not left:
                raise BadUsage(f"{word} needs a file; see: mirrord --help")
            file = Path(left.pop(0))
        elif word.startswith("--config="):
            file = Path(word.removeprefix("--config="))
        elif word in ("-v", "--verbose"):
            front.append(word)
        else:
            rest.append(word)
    return file, [*front, *rest]


def _usage(error: BaseException) -> str:
    """Say what was wrong with the command line, and where its help is."""
    message = str(getattr(error, "format_message", lambda: error)()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{message}; see: {context.command_path if context is not None else 'mirrord'} --help"


def guarded(act: Callable[[], int], *, as_json: bool) -> int:
    """Act, and turn whatever is raised into its sentence and its exit code."""
    try:
        code = act()
        sys.stdout.flush()
    except BrokenPipeError:
        return _quiet()
    except MirrordError as e:
        return _say(e, as_json=as_json)
    except KeyboardInterrupt:
        return _say(Cancelled("interrupted"), as_json=as_json)
    except Exception as e:  # noqa: BLE001 - the last resort, for what nobody foresaw
        if why := _cannot_take(sys.stdout):
            return _say(MirrordError(f"the result cannot be written to standard output: {why}"), as_json=False)
        _log.info("where it happened", exc_info=e)
        what = "a fault of mirrord itself, please report it (-v shows where it happened)"
        return _say(MirrordError(f"{what}: {type(e).__name__}: {e}"), as_json=as_json)
    return code


def _say(error: MirrordError, *, as_json: bool) -> int:
    from mirrord.cli.words import clean

    try:
        if as_json:
            from mirrord.control.server import describe

            _cannot_take(sys.stdout, json.dumps({"schema": 1, "error": describe(error)}, indent=2) + "\n")
        who = "" if isinstance(error, BadConfig) else "mirrord: "  # its lines begin with the file's name
        _cannot_take(sys.stderr, "".join(f"{who}{clean(line)}\n" for line in str(error).splitlines()))
    except BrokenPipeError:
        return _quiet()
    return error.exit_code


def _cannot_take(stream: TextIO, text: str = "") -> str | None:
    """Write; say why it, or what was written before, cannot be had, and lead the stream nowhere. None: it can.

    Raises BrokenPipeError.
    """
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as e:
        _lead_nowhere(stream)
        return e.strerror or str(e)
    return None


def _quiet() -> int:
    """Nobody reads any more: let nothing complain about it, not even the interpreter's last flush."""
    _lead_nowhere(sys.stdout)
    return _PIPE


def _lead_nowhere(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):
        os.dup2(nowhere, stream.fileno())


def open_what_is_closed() -> None:
    """Have three standard streams, also where whoever started us closed some (`>&-`).

    A file or a connection that is opened later would get the number of one, and what is said be written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            stream = os.fdopen(number, "w" if number else "r", encoding="utf-8")
            setattr(sys, name, stream)


def leave(code: int) -> NoReturn:
    """End the process; workers that still wait for a resolver or a silent peer are not waited for."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _lead_nowhere(stream)  # or the interpreter would complain, and end with another code
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)
