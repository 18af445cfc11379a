"""What can go wrong, sorted by what the caller does next.

    MirrordError            exit code   who acts, and how
    ├── BadUsage                  2     the person typed something that cannot be meant
    ├── BadConfig                78     the configuration file has to be mended
    ├── Unavailable              75     nobody: state unknown, the same call is repeated later
    │   ├── PutOff               75     nobody: nothing was done, the next regular try does it
    │   └── Silent               75     nobody: not a word came in all the time that there was; asking at once is no use
    ├── Refused                   1     a person: a key, a login, a right is wrong on the other side
    ├── Full                      1     a person: the disk named has no room
    │   └── JournalUnwritable     1     a person: the journal's disk; callers go on with what is remembered
    ├── Damaged                   1     a person: bytes that we hold are not the bytes that we recorded
    ├── Unverified                4     the reader: a copy is not what its signature promises
    ├── Braked                    5     a person: a brake of ours holds, it names how it is lifted
    │   └── Conflict              5     a person: somebody else changed what we were about to change
    ├── Locked                   10     nobody: another mirrord is at it, it names who and since when
    ├── NoAnswer                 11     a person: a daemon's socket is there and does not answer
    └── Cancelled               130     nobody: we were told to stop

Each message reads *who: doing what: what went wrong; what to do about it*. Exceptions of other
libraries are translated where the library is called and never come this far.
"""

from __future__ import annotations

from typing import ClassVar


class MirrordError(Exception):
    """Something went wrong; the message is one clear sentence for a person."""

    exit_code: ClassVar[int] = 1


class BadUsage(MirrordError):
    """The command line asks for something that cannot be done."""

    exit_code = 2


class BadConfig(MirrordError):
    """The configuration cannot be used; `faults` has every fault, in the file's own terms."""

    exit_code = 78

    def __init__(self, faults: list[str]) -> None:
        """Keep every fault; the message is all of them, a line each."""
        super().__init__("\n".join(faults))
        self.faults = faults


class Unavailable(MirrordError):
    """The other side cannot be reached or broke off; its state is unknown; repeating continues."""

    exit_code = 75


class PutOff(Unavailable):
    """Nothing was done now, on purpose; the next regular try will do it."""


class Silent(Unavailable):
    """The other side said nothing at all, in all the time that it had; another try would take as long."""


class Refused(MirrordError):
    """The other side refused us: a key, a login or a right; a person must act."""


class Full(MirrordError):
    """A disk has no room: `needed` and `free` in bytes, None where the server does not say."""

    def __init__(self, message: str, needed: int | None = None, free: int | None = None) -> None:
        """Keep the figures beside the sentence."""
        super().__init__(message)
        self.needed = needed
        self.free = free


class JournalUnwritable(Full):
    """The journal cannot be written; what should have been is remembered by this process as long as it runs."""


class Damaged(MirrordError):
    """Bytes that we hold are not the bytes that we recorded; `paths` names the files."""

    def __init__(self, message: str, paths: tuple[bytes, ...] = ()) -> None:
        """Keep the paths beside the sentence."""
        super().__init__(message)
        self.paths = paths


class Unverified(MirrordError):
    """A signature or a digest does not hold."""

    exit_code = 4


class Braked(MirrordError):
    """A brake holds; `brake` is its name and the message says how it is lifted, if it can be."""

    exit_code = 5

    def __init__(self, message: str, brake: str, serves: tuple[int, str] | None = None) -> None:
        """Keep the brake's name beside the sentence, and what a mirror serves that we do not know: serial and id."""
        super().__init__(message)
        self.brake = brake
        self.serves = serves


class Conflict(Braked):
    """Somebody else changed what we were about to change; `found` is what stands there."""

    def __init__(self, message: str, found: str | None = None) -> None:
        """Keep what was found beside the sentence."""
        super().__init__(message, brake="conflict")
        self.found = found


class Locked(MirrordError):
    """Another mirrord holds the lock: `holder` in a person's words, `since` in seconds of Unix time."""

    exit_code = 10

    def __init__(self, message: str, holder: str = "", since: float | None = None) -> None:
        """Keep the holder beside the sentence."""
        super().__init__(message)
        self.holder = holder
        self.since = since


class NoAnswer(MirrordError):
    """A daemon's socket is there and nobody answers on it."""

    exit_code = 11


class Cancelled(MirrordError):
    """We were told to stop, and did."""

    exit_code = 130
