"""What do we know of an account, and how do we come to know it?

A server announces what it can, and that is no proof: some announce what they cannot do, some can do what they do not
announce. So it is tried once (`trying`), and kept as a value until the account, its host's key, the server or what it
announces is another. While something is being tried, that is kept too: where the connection breaks over it, the next
connection knows what not to try again. Who keeps it, and where, is the controller's affair.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Protocol

from mirrord.hosts.files import Traits

TRAITS = (
    "symlink",
    "replace_link",
    "replace",
    "rename_folder",
    "hard_link",
    "exclusive",
    "mtime",
    "any_name",
    "space",
    "copy_data",
    "hashes",
)
"""The traits that are found out by doing, by their names in `Traits`."""
SHA256 = "sha256"


class How(Enum):
    """How it came to be known whether something works."""

    TRIED = "tried"
    """It was done, and looked at afterwards."""
    SAID = "said"
    """The server announces it, or does not; nobody tried."""
    LEFT_OUT = "left out"
    """The connection broke when it was tried; it counts as not working."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether one thing works."""

    works: bool
    how: How
    words: str = ""
    """What the server said, or what was seen, where it does not work."""


@dataclass(frozen=True, slots=True)
class Server:
    """Who answers at an account, as far as a login shows."""

    banner: str = ""
    """What it calls itself: `SSH-2.0-OpenSSH_9.2p1 Debian-2`."""
    extensions: tuple[str, ...] = ()
    """What it announces, sorted."""
    cipher: str = ""
    mac: str = ""
    """The ciphers' names; no MAC of its own where the cipher has one."""
    channels: int = 1
    """Channels that it granted."""
    block: int = 0
    """Bytes in one READ or WRITE."""
    handles: int = 0
    """Files open at once on a channel, at most."""
    told: bool = False
    """Whether the last two are what the server says; else they are where we begin."""


@dataclass(frozen=True, slots=True)
class Whose:
    """What was asked and what answered: what is known of one is not known of another."""

    account: str
    """Host, port, user and root."""
    host_key: str
    banner: str
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is known of one account."""

    whose: Whose
    tried_at: float = 0.0
    """Unix seconds; 0.0 where it was not tried to the end yet."""
    findings: Mapping[str, Finding] = field(default_factory=dict)
    """By the names in `TRAITS`."""
    risking: frozenset[str] = frozenset()
    """What is being tried just now, together."""
    suspects: frozenset[str] = frozenset()
    """The connection broke over one of these: each is tried by itself."""
    guilty: frozenset[str] = frozenset()
    """The connection broke over each of these: they are not tried again."""
    follows: bool | None = None
    """Whether the web server was seen to follow the link; None where nobody looked."""

    def after_a_break(self) -> Remembered:
        """Return what is known when a connection ended while something was being tried."""
        if len(self.risking) == 1:
            return replace(
                self, risking=frozenset(), guilty=self.guilty | self.risking, suspects=self.suspects - self.risking
            )
        return replace(self, risking=frozenset(), suspects=self.suspects | self.risking)

    def traits(self, said: Traits) -> Traits:
        """Return what the account can do; `said` is what the server announces."""
        found: dict[str, Any] = {name: finding.works for name, finding in self.findings.items()}
        if "hashes" in found:
            found["hashes"] = (SHA256,) if found["hashes"] else ()
        return replace(said, **found)


class Memory(Protocol):
    """Keeps what is known of one mirror's account; one thread at a time."""

    def recall(self) -> Remembered | None:
        """Return what was kept last; None for nothing, or nothing that can be read."""
        ...

    def remember(self, known: Remembered) -> None:
        """Keep this, before whatever follows is done; never raises."""
        ...


def recall(memory: Memory, whose: Whose) -> Remembered:
    """Return what is known of this account; nothing where what was kept is of another, or there is none."""
    known = memory.recall()
    if known is None or known.whose != whose:
        return Remembered(whose)
    return known.after_a_break() if known.risking else known


def announced(said: Traits, names: Collection[str] = TRAITS) -> dict[str, Finding]:
    """Return findings of which nothing was tried."""
    return {name: Finding(bool(getattr(said, name)), How.SAID) for name in names}


# As JSON ------------------------------------------------------------------------------------------------


def to_json(known: Remembered) -> dict[str, Any]:
    """Return it as plain values."""
    return {
        "account": known.whose.account,
        "host_key": known.whose.host_key,
        "server": known.whose.banner,
        "extensions": list(known.whose.extensions),
        "tried_at": known.tried_at,
        "findings": {
            name: {"works": finding.works, "how": finding.how.value, "words": finding.words}
            for name, finding in known.findings.items()
        },
        "risking": sorted(known.risking),
        "suspects": sorted(known.suspects),
        "guilty": sorted(known.guilty),
        "follows": known.follows,
    }


def from_json(kept: Any) -> Remembered | None:
    """Read it; None where it is not what `to_json` wrote: then it is found out anew."""
    try:
        whose = Whose(
            str(kept["account"]), str(kept["host_key"]), str(kept["server"]), tuple(map(str, kept["extensions"]))
        )
        findings = {
            str(name): Finding(_flag(found["works"]), How(found["how"]), str(found["words"]))
            for name, found in kept["findings"].items()
        }
        risking, suspects, guilty = (frozenset(map(str, kept[name])) for name in ("risking", "suspects", "guilty"))
        follows = None if kept["follows"] is None else _flag(kept["follows"])
        tried_at = float(kept["tried_at"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if tried_at and set(findings) != set(TRAITS):
        return None
    return Remembered(whose, tried_at, findings, risking, suspects, guilty, follows)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value
