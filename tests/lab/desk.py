"""A desk behind a real socket that answers as it was told to, for the command line's tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mirrord.control.server import ControlServer, Talk

Found = dict[str, Any]
Answer = Found | Exception | Callable[[Found], Found]
"""A result, an error to raise, or what makes a result from the arguments."""


class ScriptedDesk:
    """Answers verbs from a script, remembers what was asked, and says `meanwhile` before each answer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[tuple[str, Found]] = []
        self.meanwhile: list[Found] = []
        self.answers: dict[str, Answer] = {}
        self.go_on = threading.Event()
        """Answers wait for it."""
        self.go_on.set()
        self._server = ControlServer(path, self._call)
        self._server.start()

    def _call(self, verb: str, arguments: Mapping[str, Any], talk: Talk, who: str) -> Found:  # noqa: ARG002
        self.asked.append((verb, dict(arguments)))
        for event in self.meanwhile:
            talk(event)
        self.go_on.wait(30)
        answer = self.answers[verb]
        if isinstance(answer, Exception):
            raise answer
        return answer(dict(arguments)) if callable(answer) else answer

    def tidy(self) -> None:
        """Forget what was asked, and the script."""
        self.asked.clear()
        self.meanwhile.clear()
        self.answers.clear()
        self.go_on.set()

    def stop(self) -> None:
        """Stop listening."""
        self.go_on.set()
        self._server.stop()
