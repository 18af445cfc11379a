"""How are the environment variables read that have a say? Asked by `surroundings`, where one is set."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Environment(BaseSettings):
    """The environment variables that have a say; systemd sets the folders (systemd.exec(5))."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore", case_sensitive=True)

    config: Path | None = Field(default=None, validation_alias="MIRRORD_CONFIG")
    state_directory: Path | None = Field(default=None, validation_alias="STATE_DIRECTORY")
    runtime_directory: Path | None = Field(default=None, validation_alias="RUNTIME_DIRECTORY")
    credentials_directory: Path | None = Field(default=None, validation_alias="CREDENTIALS_DIRECTORY")
