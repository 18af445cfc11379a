"""What is announced for a prefix, and how is it written down? (pure)

A service that is moved by BGP has prefixes in place of names, and a prefix has one announcement in place of
addresses: the next hop of the mirror that serves, and the MED and communities that go with it. As a text it stands
where an address would stand (`10.0.0.3 med 10 community 65000:1`), so that plans, the journal and the fence treat
both alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from mirrord.switches.change import Expected, Rrsets

_TEXT = re.compile(r"(\S+)(?: med ([0-9]{1,10}))?(?: community ([0-9: ]+))?")
_COMMUNITY = re.compile(r"[0-9]{1,10}(?::[0-9]{1,10}){1,2}")

Routes = Mapping[str, "Announcement"]
"""Prefix -> what is announced for it."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a router is told of one prefix."""

    next_hop: str
    med: int | None = None
    communities: tuple[str, ...] = ()
    """`65000:1` (RFC 1997) and `65000:1:2` (RFC 8092), sorted."""

    @classmethod
    def of(cls, next_hop: str, med: int | None = None, communities: Iterable[str] = ()) -> Announcement:
        """Make one in canonical form. Raises ValueError for what is no address or community."""
        return cls(
            str(ip_address(next_hop)), med, tuple(sorted({read_community(text) for text in communities}, key=_by))
        )

    @classmethod
    def parse(cls, text: str) -> Announcement:
        """Read what `text` wrote. Raises ValueError."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f'"{text}" is no announcement')
        return cls.of(match[1], None if match[2] is None else int(match[2]), (match[3] or "").split())

    @property
    def text(self) -> str:
        """One line, which `parse` reads."""
        med = "" if self.med is None else f" med {self.med}"
        return self.next_hop + med + (f" community {' '.join(self.communities)}" if self.communities else "")

    @property
    def standard(self) -> tuple[str, ...]:
        """The communities of two parts (RFC 1997)."""
        return tuple(text for text in self.communities if text.count(":") == 1)

    @property
    def large(self) -> tuple[str, ...]:
        """The communities of three parts (RFC 8092)."""
        return tuple(text for text in self.communities if text.count(":") == 2)


def read_community(text: str) -> str:
    """Return a community in canonical text. Raises ValueError."""
    parts = [int(part) for part in text.split(":")] if _COMMUNITY.fullmatch(text) else []
    if not parts or any(part >= (1 << 16 if len(parts) == 2 else 1 << 32) for part in parts):
        raise ValueError(f'should be a community such as "65000:1" or "65000:1:2", is "{text}"')
    return ":".join(map(str, parts))


def _by(community: str) -> tuple[int, ...]:
    parts = [int(part) for part in community.split(":")]
    return (len(parts), *parts)


def rrsets(prefix: str, announced: Iterable[str], fence: str | None) -> Rrsets:
    """Put what is announced for a prefix, in texts, where a name's addresses stand."""
    texts = frozenset(announced)
    record = frozenset({(fence,)}) if fence else frozenset()
    return Rrsets(aaaa=texts, fence=record) if ":" in prefix else Rrsets(a=texts, fence=record)


def routes(state: Expected) -> Routes | None:
    """Return what a state announces; None where a prefix has not exactly one announcement."""
    found: dict[str, Announcement] = {}
    for prefix, stands in state.names.items():
        if len(stands.addresses) != 1:
            return None
        (text,) = stands.addresses
        try:
            found[prefix] = Announcement.parse(text)
        except ValueError:
            return None
    return found


def fence_text(state: Expected) -> str | None:
    """Return the one fence that stands beside every prefix; None where there is none such."""
    fences = {record for stands in state.names.values() for record in stands.fence}
    return "".join(min(fences)) if len(fences) == 1 else None
