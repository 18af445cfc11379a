"""Where does a secret come from?

The configuration says only where: `{ file = "/path" }` or `{ credential = "NAME" }` (a file of that name in
`$CREDENTIALS_DIRECTORY`, systemd.exec(5), LoadCredential). The bytes are read when they are needed and
kept nowhere, so no repr, log or error can show them.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from mirrord.config.surroundings import surroundings
from mirrord.config.units import LocalPath, Text
from mirrord.errors import BadConfig

_LONGEST = 1 << 20
"""Bytes; a key or a shared secret is far smaller, and a wrong path may name a disk."""


class Secret(BaseModel):
    """The place of a secret; `read` fetches it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    file: LocalPath | None = None
    credential: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _place(cls, data: Any) -> Any:
        if isinstance(data, str):
            raise ValueError(  # noqa: TRY004 - pydantic wants a ValueError
                'should say where the secret is, { file = "/path" }, never the secret itself'
            )
        return data

    @model_validator(mode="after")
    def _one_place(self) -> Secret:
        if (self.file is None) == (self.credential is None):
            raise ValueError('should be { file = "/path" } or { credential = "NAME" }, one of the two')
        if self.credential is not None and "/" in self.credential:
            raise ValueError(f'credential should be a name without "/", is "{self.credential}"')
        return self

    def __str__(self) -> str:
        """Where it is, never what it is."""
        return f"file {self.file}" if self.file is not None else f'credential "{self.credential}"'

    def path(self) -> Path:
        """Return the file that holds it. Raises BadConfig where there is no credentials folder."""
        if self.file is not None:
            return self.file
        folder = surroundings().credentials_directory
        if folder is None or self.credential is None:
            text = (
                f'the credential "{self.credential}" is not there: systemd gave no credentials '
                f"(LoadCredential={self.credential}:/path in the unit; elsewhere use {{ file = ... }})"
            )
            raise BadConfig([text])
        return folder / self.credential

    def read(self, what: str = "secret") -> bytes:
        """Return its bytes; `what` names it in the message. Raises BadConfig where it cannot be had."""
        path = self.path()
        try:
            with path.open("rb") as file:
                found = file.read(_LONGEST + 1)
        except FileNotFoundError:
            raise BadConfig([f"the {what} is not there: {path}: no such file"]) from None
        except PermissionError:
            raise BadConfig(
                [f"the {what} cannot be read: {path}: user {_user()} has no right to; check its owner and mode"]
            ) from None
        except OSError as e:
            raise BadConfig([f"the {what} cannot be read: {path}: {e.strerror or e}"]) from None
        if not found.strip():
            raise BadConfig([f"the {what} is empty: {path}"])
        if len(found) > _LONGEST:
            raise BadConfig([f"the {what} is no secret: {path} is larger than {_LONGEST} bytes"])
        return found

    def read_text(self, what: str = "secret") -> str:
        """Return it as one line of text. Raises BadConfig where it cannot be had or is none."""
        try:
            text = self.read(what).decode("ascii").strip()
        except UnicodeDecodeError:
            raise BadConfig([f"the {what} is not text: {self.path()}"]) from None
        if len(text.split()) != 1:
            raise BadConfig([f"the {what} should be one word and nothing else: {self.path()}"])
        return text

    def loose(self) -> str | None:
        """Say how the file's mode lets others read the secret, or None; a file that is not there is not loose."""
        if self.file is None:
            return None
        try:
            mode = self.file.stat().st_mode
        except OSError:
            return None
        if mode & stat.S_IROTH:
            return f"{self.file} can be read by everybody on this machine; chmod o= {self.file}"
        return None


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
