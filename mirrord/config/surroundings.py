"""What does the process's environment tell? All that mirrord reads from it stands here."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Surroundings(BaseSettings):
    """The environment variables that have a say; systemd sets the folders (systemd.exec(5))."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore")

    config: Path | None = Field(default=None, validation_alias="MIRRORD_CONFIG")
    state_directory: Path | None = Field(default=None, validation_alias="STATE_DIRECTORY")
    runtime_directory: Path | None = Field(default=None, validation_alias="RUNTIME_DIRECTORY")
    credentials_directory: Path | None = Field(default=None, validation_alias="CREDENTIALS_DIRECTORY")
