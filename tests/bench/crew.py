"""mirrord as it is measured: the worker's process, told over its standard input what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.bench.contenders import Line


class Crew:
    """A worker with one site and one store; a context manager. See `tests.bench.worker`."""

    name = "mirrord"

    def __init__(self, source: Path, state: Path) -> None:
        self._source = source
        self._state = state
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start it."""
        command = [sys.executable, "-m", "tests.bench.worker", str(self._source), str(self._state)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        assert self._process is not None
        self._process.communicate('{"do": "stop"}\n')

    def take(self) -> dict[str, Any]:
        """Take a snapshot."""
        return self._do({"do": "take"})

    def publish(self, lines: Sequence[Line], roots: Sequence[str], *, profile: bool = False) -> dict[str, Any]:
        """Publish to accounts at the ends of lines, to all of them at once."""
        accounts = [
            {
                "mirror": f"bench-{number}",
                "port": line.port,
                "user": line.server.user,
                "key": str(line.server.client_key_path),
                "host_key": line.server.host_key_line,
                "root": root,
            }
            for number, (line, root) in enumerate(zip(lines, roots, strict=True))
        ]
        return self._do({"do": "publish", "accounts": accounts, "profile": profile})

    def _do(self, order: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, "the worker ended; what went wrong stands above"
        said: dict[str, Any] = json.loads(answer)
        return said
