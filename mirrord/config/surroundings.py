"""What does the process's environment tell? All that mirrord reads from it is named here.

Where none of it is set, as for most verbs that a person types, the library that reads it is not loaded: that costs a
verb a tenth of its start.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

VARIABLES = ("MIRRORD_CONFIG", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "CREDENTIALS_DIRECTORY")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the variables said; None where one is not set, or empty."""

    config: Path | None = None
    state_directory: Path | None = None
    runtime_directory: Path | None = None
    credentials_directory: Path | None = None


def surroundings() -> Surroundings:
    """Read the variables as they are now."""
    if not any(map(os.environ.get, VARIABLES)):
        return Surroundings()
    from mirrord.config.environment import Environment

    said = Environment()
    return Surroundings(said.config, said.state_directory, said.runtime_directory, said.credentials_directory)
