"""What may stand in the zone, what does, and what should come to stand there? (pure)

A service's names carry A and AAAA, and beside each name `_mirrord.<name>` carries one TXT, the fence:
which plan of ours wrote the addresses. What we wrote last is `Expected`, from the journal. `compare`
holds the zone that was read against it; `plan_change` writes the next plan down as a value, with the
exact state that it replaces, so that the name server can refuse it if anybody moved the service
meanwhile. Nothing here opens a socket: `rfc2136` carries changes, `transaction` sees them through.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv6Address, ip_address
from types import MappingProxyType
from typing import Any

from mirrord.errors import Braked
from mirrord.rules import TOGETHER

Txt = tuple[str, ...]
"""One TXT record: its character-strings, one character for each byte (latin-1), so that any bytes fit."""

FENCE_LABEL = "_mirrord"
NOBODY = "-"
"""The target in the fence of addresses that belong to no single mirror."""
LONGEST_FENCE = 255
"""Bytes: the fence is one character-string (RFC 1035, section 3.3.14)."""

_WORD = r"[A-Za-z0-9._+-]{1,63}"
_FENCE = re.compile(rf"v=1 epoch=([0-9]{{1,15}}) target=({_WORD}) plan=([0-9a-f]{{32}}) by=({_WORD})")
_NOT_A_WORD = re.compile(r"[^A-Za-z0-9._+-]+")


def fence_name(name: str) -> str:
    """Return where the fence of `name` stands: a name of its own in DNS, a comment beside a prefix (in words)."""
    return f"the plan beside {name}" if "/" in name else f"{FENCE_LABEL}.{name}"


@dataclass(frozen=True, slots=True)
class Fence:
    """What our TXT says: the plan that wrote the addresses beside it."""

    epoch: int
    target: str
    plan: str
    by: str

    @property
    def text(self) -> str:
        """The TXT's one character-string."""
        return f"v=1 epoch={self.epoch} target={self.target} plan={self.plan} by={self.by}"

    @property
    def records(self) -> frozenset[Txt]:
        """The whole TXT RRset: this one record."""
        return frozenset({(self.text,)})


def parse_fence(records: Collection[Txt]) -> Fence | None:
    """Read a TXT RRset; None for whatever we did not write in exactly this form."""
    if len(records) != 1:
        return None
    (record,) = records
    if len(record) != 1 or len(record[0]) > LONGEST_FENCE:
        return None
    match = _FENCE.fullmatch(record[0])
    if match is None or (match[1] != "0" and match[1].startswith("0")):
        return None
    return Fence(int(match[1]), target=match[2], plan=match[3], by=match[4])


@dataclass(frozen=True, slots=True)
class Rrsets:
    """The exact sets at one name and at its fence; empty is absent. Addresses in canonical text."""

    a: frozenset[str] = frozenset()
    aaaa: frozenset[str] = frozenset()
    fence: frozenset[Txt] = frozenset()
    https: frozenset[str] | None = None
    """HTTPS records (RFC 9460) as text, where their address hints are kept in step; None: not looked after."""
    mx: frozenset[str] | None = None
    """MX records as text, where mail follows the readers; None as above."""

    @property
    def addresses(self) -> frozenset[str]:
        """Both families."""
        return self.a | self.aaaa

    def to_json(self) -> dict[str, Any]:
        """Return lists that `json` can write."""
        more = {"https": self.https, "mx": self.mx}
        return {
            "a": sorted(self.a),
            "aaaa": sorted(self.aaaa),
            "fence": [list(record) for record in sorted(self.fence)],
        } | {kind: sorted(records) for kind, records in more.items() if records is not None}

    def same(self, other: Rrsets) -> bool:
        """Tell whether both are the same, in the sets that both look after."""
        return (
            (self.a, self.aaaa, self.fence) == (other.a, other.aaaa, other.fence)
            and (self.https is None or other.https is None or self.https == other.https)
            and (self.mx is None or other.mx is None or self.mx == other.mx)
        )

    def filled(self, stands: Rrsets) -> Rrsets:
        """Take over from what stands the sets that were not looked after before."""
        https, mx = (stands.https if self.https is None else self.https), stands.mx if self.mx is None else self.mx
        return replace(self, https=https, mx=mx)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Rrsets:
        """Read what `to_json` wrote."""
        https, mx = (frozenset(value[kind]) if kind in value else None for kind in ("https", "mx"))
        fence = frozenset(tuple(r) for r in value["fence"])
        return cls(frozenset(value["a"]), frozenset(value["aaaa"]), fence, https, mx)


@dataclass(frozen=True, slots=True)
class Found:
    """What a server answers at one name: the sets, a CNAME in their place, and the TTL in seconds."""

    rrsets: Rrsets = Rrsets()
    cname: str | None = None
    """The target of a CNAME at the name or at its fence; nothing can be moved there."""
    ttl: int = 0
    """The longest TTL of A, AAAA and, where it is looked after, HTTPS."""


@dataclass(frozen=True, slots=True)
class Zone:
    """A service's names as one server answered them with authority, in one state of the zone."""

    names: Mapping[str, Found]
    serial: int = 0
    server: str = ""
    """The road that answered, `address:port`."""
    may_lag: bool = False
    """Read at another road than the first: perhaps a secondary, that has not heard of the latest change."""
    passed_over: tuple[str, ...] = ()
    """Why the roads before it gave no answer."""
    in_steps: bool = False
    """Changes are made in steps there: half of one may stand, and sending it again finishes it."""

    @property
    def ttl(self) -> int:
        """The longest TTL of any of the names, in seconds: so long readers may keep what stands here."""
        return max((found.ttl for found in self.names.values()), default=0)

    @property
    def stands(self) -> Expected:
        """What stands here, as the state that a change may expect (`--adopt` takes it so)."""
        fences = [parse_fence(found.rrsets.fence) for found in self.names.values()]
        return Expected(
            {name: found.rrsets for name, found in self.names.items()},
            epoch=max((fence.epoch for fence in fences if fence is not None), default=0),
        )


@dataclass(frozen=True, slots=True)
class Expected:
    """A state of a service's names that we wrote or saw: all of its sets, and its epoch (0: not ours)."""

    names: Mapping[str, Rrsets]
    epoch: int = 0

    def matches(self, zone: Zone) -> bool:
        """Tell whether every name that both speak of stands exactly so."""
        common = [name for name in zone.names if name in self.names]
        return bool(common) and all(
            zone.names[name].cname is None and zone.names[name].rrsets.same(self.names[name]) for name in common
        )

    def to_json(self) -> dict[str, Any]:
        """Return a value that `json` can write."""
        return {
            "epoch": self.epoch,
            "names": {name: rrsets.to_json() for name, rrsets in self.names.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Expected:
        """Read what `to_json` wrote."""
        return cls({name: Rrsets.from_json(rrsets) for name, rrsets in value["names"].items()}, value["epoch"])


@dataclass(frozen=True, slots=True)
class Change:
    """One plan: the exact state that it replaces, and the exact state that it makes. It can be stored."""

    service: str
    plan: str
    """The nonce, 32 hex digits: the plan's name, in the journal and in the zone."""
    epoch: int
    target: str
    by: str
    """The controller that planned it."""
    from_: Expected
    to: Expected
    """The same names as in `from_`."""
    ttl: int
    """Seconds, of what is written."""
    was_ttl: int
    """Seconds, of what was served before: so long readers may keep it, or what they were told earlier still."""
    source: str | None = None
    """The mirror that served before, None where the addresses were no single mirror's."""
    automatic: bool = False
    """Decided by mirrord itself; the dwell runs from the last such move."""
    who: str = ""
    """The person who asked for it, or the controller."""
    why: str = ""

    @property
    def moves(self) -> bool:
        """Tell whether any address changes; if not, only the fence advances."""
        return any(self.from_.names[name].addresses != to.addresses for name, to in self.to.names.items())

    @property
    def by_hand(self) -> bool:
        """Tell whether a person wanted it, not the controller."""
        return word(self.who) != self.by

    def seen_in(self, zone: Zone) -> Seen:
        """Tell what a zone, read after the change was sent, says of it."""
        if self.to.matches(zone):
            return Seen.APPLIED
        if self.from_.matches(zone):
            return Seen.BEFORE
        if zone.in_steps and self._begun_in(zone):
            return Seen.UNDERWAY
        fences = [parse_fence({record}) for found in zone.names.values() for record in found.rrsets.fence]
        if any(fence is not None and fence.plan == self.plan for fence in fences):
            return Seen.ALTERED
        return Seen.OTHER

    def _begun_in(self, zone: Zone) -> bool:
        """Tell whether a zone has nothing but what the plan replaces or makes, and our new TXT somewhere."""
        for name, found in zone.names.items():
            stood, shall = self.from_.names.get(name), self.to.names.get(name)
            if found.cname is not None or stood is None or shall is None:
                return False
            stands = found.rrsets
            known = (stood.addresses | shall.addresses, stood.fence | shall.fence)
            if not (stands.addresses <= known[0] and stands.fence <= known[1]):
                return False
        return any(
            self.to.names[name].fence - self.from_.names[name].fence <= found.rrsets.fence
            for name, found in zone.names.items()
        )

    def to_json(self) -> dict[str, Any]:
        """Return a value that `json` can write."""
        return {
            "service": self.service,
            "plan": self.plan,
            "epoch": self.epoch,
            "target": self.target,
            "by": self.by,
            "from": self.from_.to_json(),
            "to": self.to.to_json(),
            "ttl": self.ttl,
            "was_ttl": self.was_ttl,
            "source": self.source,
            "automatic": self.automatic,
            "who": self.who,
            "why": self.why,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Change:
        """Read what `to_json` wrote."""
        return cls(
            service=value["service"],
            plan=value["plan"],
            epoch=value["epoch"],
            target=value["target"],
            by=value["by"],
            from_=Expected.from_json(value["from"]),
            to=Expected.from_json(value["to"]),
            ttl=value["ttl"],
            was_ttl=value["was_ttl"],
            source=value["source"],
            automatic=value["automatic"],
            who=value["who"],
            why=value["why"],
        )


class Seen(Enum):
    """What the zone says of a change that was sent."""

    APPLIED = "applied"
    """Exactly what the plan makes, its nonce with it."""
    BEFORE = "before"
    """Exactly what stood before: not applied yet, or never."""
    UNDERWAY = "underway"
    """Some of its steps were done, and nobody else was there: sending it again finishes it."""
    ALTERED = "altered"
    """Its nonce, and beside it something else than it makes: applied in part, or changed by somebody since."""
    OTHER = "other"
    """None of these: somebody else was there."""


class ZoneState(Enum):
    """The zone held against the journal."""

    NEW = "new"
    """Nothing of ours yet, and the addresses are exactly one mirror's: adopted by itself."""
    OURS = "ours"
    REVERTED = "reverted"
    """An older state of ours, exactly: a name server restarted from its zone file does this. Ask."""
    FOREIGN = "foreign"
    """Anything else. Nothing moves until `switch SERVICE [MIRROR] --adopt`."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The zone's state with its sentence, the mirror that serves, and what a plan may start from."""

    state: ZoneState
    text: str
    serving: str | None
    """The one mirror whose addresses all names answer, None where there is none such."""
    stands: Expected | None = None
    """What a plan may replace without `--adopt`: where the zone is `new` or `ours`, else None."""


Mirrors = Mapping[str, Collection[str]]
"""Each mirror's configured addresses, both families, in any spelling."""


def compare(
    zone: Zone,
    expected: Expected | None,
    mirrors: Mirrors,
    *,
    past: Sequence[Expected] = (),
    by: str = "",
    shared: bool = False,
) -> Comparison:
    """Hold the zone against what the journal expects (None: the journal is empty).

    `past` are the states that we wrote or replaced earlier, and those that plans would have made which were given up;
    `by` is our controller's name. A later epoch than expected is ours where `past` has it (a plan that took
    effect after we gave it up), or where it is signed `by` us and consistent (a move that the journal could
    not write down: then the TXT is the record). `shared` is as in `served_by`.
    """
    serving = served_by(zone, mirrors, shared=shared)
    for name, found in zone.names.items():
        if found.cname is not None:
            text = f"{name}: a CNAME for {clean(found.cname)} stands there; nothing can be moved at a CNAME"
            return Comparison(ZoneState.FOREIGN, text, None)
    known = {
        name: expected.names[name].filled(found.rrsets)
        for name, found in zone.names.items()
        if expected and name in expected.names
    }
    if expected is None or not known:
        return _compare_new(zone, zone.names, mirrors, serving if shared else None)
    if expected.matches(zone):
        added = {name: found for name, found in zone.names.items() if name not in known}
        if added:
            same = {serving: union(serving, mirrors)} if serving else {}
            return _compare_new(zone, added, same, serving)
        text = f"as we left it at epoch {expected.epoch}"
        if serving is None:  # a mirror got another address in the configuration, or is no longer there
            text += f", but {_answers(zone.names)}"
        return Comparison(ZoneState.OURS, text, serving, Expected(known, expected.epoch))
    for earlier in sorted(past, key=lambda state: state.epoch, reverse=True):
        if set(zone.names) <= set(earlier.names) and earlier.matches(zone):
            if earlier.epoch > expected.epoch:
                text = f"plan {earlier.epoch} took effect late, after it had been given up"
                return Comparison(ZoneState.OURS, text, serving, zone.stands)
            was = f"what we left at epoch {earlier.epoch}" if earlier.epoch else "what stood there before us"
            text = f"back to {was}, where epoch {expected.epoch} is expected; {_REVERTED}"
            return Comparison(ZoneState.REVERTED, _read_where(zone, text), serving)
    fence = _common_fence(zone)
    meant = word(serving) if serving else None
    if fence and by and fence.by == word(by) and fence.epoch > expected.epoch and fence.target == meant:
        text = f"epoch {fence.epoch} is ours by its TXT, though the journal knows only epoch {expected.epoch}"
        return Comparison(ZoneState.OURS, text, serving, zone.stands)
    return Comparison(ZoneState.FOREIGN, _read_where(zone, differences(zone, expected)), serving)


_REVERTED = "a name server that restarted from an old zone file does this"


def _compare_new(zone: Zone, names: Mapping[str, Found], mirrors: Mirrors, serving: str | None) -> Comparison:
    """Judge names of which the journal knows nothing; `serving` are mirrors that share readers, if any do."""
    for name, found in names.items():
        if found.rrsets.fence:
            text = f"{fence_name(name)}: {_describe(found.rrsets.fence)}, and our journal knows nothing of it"
            return Comparison(ZoneState.FOREIGN, _read_where(zone, text), serving or served_by(zone, mirrors))
    whole = {serving: union(serving, mirrors)} if serving else {}
    for mirror, addresses in {**mirrors, **whole}.items():
        a, aaaa = families(addresses)
        if all(found.rrsets.same(at_name(name, a, aaaa)) for name, found in names.items()):
            text = f"{', '.join(names)}: never moved by us; answers {mirror}'s addresses"
            return Comparison(ZoneState.NEW, text, mirror, zone.stands)
    return Comparison(ZoneState.FOREIGN, _read_where(zone, _answers(names)), serving or served_by(zone, mirrors))


def _answers(names: Mapping[str, Found]) -> str:
    stands = "; ".join(f"{name} answers {_list(found.rrsets.addresses)}" for name, found in names.items())
    return f"{stands}: not exactly one mirror's addresses"


def _common_fence(zone: Zone) -> Fence | None:
    """Return the fence that stands at every name alike, if there is one such."""
    fences = {found.rrsets.fence for found in zone.names.values()}
    return parse_fence(next(iter(fences))) if len(fences) == 1 else None


def differences(zone: Zone, expected: Expected) -> str:
    """Say where the zone differs from what is expected."""
    said = []
    for name, found in zone.names.items():
        want = expected.names.get(name)
        if want is None:
            continue
        for kind, have, wanted in (
            ("A", found.rrsets.a, want.a),
            ("AAAA", found.rrsets.aaaa, want.aaaa),
        ):
            if have != wanted:
                what = "next hop" if "/" in name else kind
                said.append(f"{name}: {what} is {_list(have)} where we left {_list(wanted)}")
        for kind, more, other in (("HTTPS", found.rrsets.https, want.https), ("MX", found.rrsets.mx, want.mx)):
            if more is not None and other is not None and more != other:
                said.append(f"{name}: {kind} is {clean(_list(more))} where we left {clean(_list(other))}")
        if found.rrsets.fence != want.fence:
            have_text, want_text = _describe(found.rrsets.fence), _describe(want.fence)
            said.append(f"{fence_name(name)}: {have_text} where we left {want_text}")
    return "; ".join(said) or "differs from what we left"


def _list(addresses: Iterable[str]) -> str:
    return ", ".join(sorted(addresses)) or "nothing"


def _describe(records: Collection[Txt]) -> str:
    """Describe a TXT RRset, which anybody may have written, in a few printable words."""
    if not records:
        return "no TXT"
    fence = parse_fence(records)
    if fence is not None:
        return f"epoch {fence.epoch} for {fence.target} by {fence.by}"
    first = clean("".join(min(records)))
    return f"TXT {first}" if len(records) == 1 else f"{len(records)} TXT records, the first {first}"


def _read_where(zone: Zone, text: str) -> str:
    if not zone.may_lag:
        return text
    return f"{text} (read at {zone.server}, which may lag behind the first of `servers`)"


def clean(text: str, longest: int = 60) -> str:
    """Quote a foreign text for people: printable ASCII only, cut."""
    quoted = ascii(text)
    return quoted if len(quoted) <= longest else quoted[: longest - 4] + "...'"


def families(addresses: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Split addresses into IPv4 and IPv6, each in canonical text. Raises ValueError for other text.

    What follows an address after a space (`10.0.0.3 med 10`, as a prefix has it) stays as it is.
    """
    v4, v6 = set[str](), set[str]()
    for text in addresses:
        address, space, more = text.partition(" ")
        parsed = ip_address(address)
        (v6 if isinstance(parsed, IPv6Address) else v4).add(f"{parsed}{space}{more}")
    return frozenset(v4), frozenset(v6)


def at_name(name: str, a: frozenset[str], aaaa: frozenset[str]) -> Rrsets:
    """Return what stands at a name where a mirror has these; a prefix (`192.0.2.0/24`) takes its own family only."""
    if "/" not in name:
        return Rrsets(a, aaaa)
    return Rrsets(aaaa=aaaa) if ":" in name else Rrsets(a)


def union(mirrors_named: str, mirrors: Mirrors) -> frozenset[str]:
    """Return the addresses of one mirror, or of all that share readers (`milan+lyon`)."""
    return frozenset().union(*(mirrors.get(mirror, ()) for mirror in mirrors_named.split(TOGETHER)))


def served_by(state: Zone | Expected, mirrors: Mirrors, *, shared: bool = False) -> str | None:
    """Return the mirror whose addresses every name answers (some of them are enough), or None.

    `shared`: also several mirrors, joined by `+` in the order of `mirrors`, if nobody else's address is answered.
    """
    if isinstance(state, Zone):
        if any(found.cname is not None for found in state.names.values()):
            return None
        state = state.stands
    for mirror, addresses in mirrors.items():
        own = frozenset().union(*families(addresses))
        stand = [rrsets.addresses for rrsets in state.names.values()]
        if stand and all(addresses and addresses <= own for addresses in stand):
            return mirror
    return _shared_by(state, mirrors) if shared else None


def _shared_by(state: Expected, mirrors: Mirrors) -> str | None:
    owns = {mirror: frozenset().union(*families(addresses)) for mirror, addresses in mirrors.items()}
    stand = [rrsets.addresses for rrsets in state.names.values()]
    here = [mirror for mirror, own in owns.items() if stand and all(own & addresses for addresses in stand)]
    known = frozenset().union(*(owns[mirror] for mirror in here))
    return TOGETHER.join(here) if here and all(addresses <= known for addresses in stand) else None


def plan_change(
    service: str,
    expected: Expected,
    target: str,
    mirrors: Mirrors,
    *,
    nonce: str,
    by: str,
    ttl: int,
    was_ttl: int,
    leave_out: Collection[str] = (),
    epoch_above: int = 0,
    automatic: bool = False,
    who: str = "",
    why: str = "",
    shared: bool = False,
    mx: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Change:
    """Plan to make all names of `expected` answer the target's addresses; with `shared` it may be `milan+lyon`.

    `leave_out` are bad addresses of the target: they are left out where others of their family stay;
    if no IPv6 stays, AAAA goes, and if no IPv4 stays, A keeps them all. `was_ttl` is the TTL served now
    (`Zone.ttl`). Where they are looked after, the address hints of HTTPS records become the target's, and with a
    move to another mirror MX become what `mx` has for it. The epoch is one above `expected.epoch` and
    `epoch_above` (the highest ever planned).
    Raises Braked "empty-answer" where a name would be left without an address or without its A, and
    "not-configured" where the target is no mirror of `mirrors`.
    """
    named = target.split(TOGETHER) if shared else [target]
    if not all(mirror in mirrors for mirror in named):
        raise Braked(
            f"{service}: planning a move: {clean(target)} is no configured mirror; nothing was changed",
            "not-configured",
        )
    a, aaaa = families(union(target, mirrors))
    bad = frozenset().union(*families(leave_out))
    a, aaaa = (a - bad) or a, (aaaa - bad) or (aaaa if not a else frozenset())
    for name, stands in expected.names.items():
        shall = at_name(name, a, aaaa)
        if not shall.addresses or (stands.a and not shall.a):
            raise Braked(
                f"{service}: planning a move to {target}: {name} would be left without "
                f"{'an address' if not shall.addresses else 'an IPv4 address'}; give {target} one in `addresses`",
                "empty-answer",
            )
    fence = Fence(max(expected.epoch, epoch_above) + 1, word(target), nonce, word(by))
    source = served_by(expected, mirrors, shared=shared)
    mail = frozenset(record for mirror in named for record in mx.get(mirror, ()))
    to = {
        name: replace(
            at_name(name, a, aaaa),
            fence=fence.records,
            https=None if stands.https is None else frozenset(hinted(text, a, aaaa) for text in stands.https),
            mx=mail if stands.mx is not None and mail and source != target else stands.mx,
        )
        for name, stands in expected.names.items()
    }
    return Change(
        service=service,
        plan=nonce,
        epoch=fence.epoch,
        target=target,
        by=fence.by,
        from_=expected,
        to=Expected(to, fence.epoch),
        ttl=ttl,
        was_ttl=was_ttl,
        source=source,
        automatic=automatic,
        who=who or by,
        why=why,
    )


def plan_advance(given_up: Change, *, nonce: str, by: str) -> Change:
    """Plan to advance the epoch with unchanged addresses, so that `given_up` can never apply any more.

    Both plans replace the same state: only one of them can ever apply.
    """
    fence = Fence(given_up.epoch + 1, word(given_up.source or NOBODY), nonce, word(by))
    names = {name: replace(stands, fence=fence.records) for name, stands in given_up.from_.names.items()}
    return Change(
        service=given_up.service,
        plan=nonce,
        epoch=fence.epoch,
        target=fence.target,
        by=fence.by,
        from_=given_up.from_,
        to=Expected(names, fence.epoch),
        ttl=given_up.ttl,
        was_ttl=given_up.was_ttl,
        source=given_up.source,
        who=by,
        why=f"gives plan {given_up.epoch} up, whose outcome is unknown",
    )


_PARAMETER = re.compile(r'[^\s"]+(?:"(?:[^"\\]|\\.)*")?')
"""A word of an HTTPS record's text, a quoted value being part of it (RFC 9460, 2.1)."""


def hinted(record: str, a: frozenset[str], aaaa: frozenset[str]) -> str:
    """Return an HTTPS record's text with the address hints that it has (RFC 9460, 7.3) led to these addresses.

    A hint goes where there is no address of its family; none is added.
    """
    hints = {"ipv4hint": a, "ipv6hint": aaaa}
    words = []
    for parameter in _PARAMETER.findall(record):
        key, _, value = parameter.partition("=")
        if key == "mandatory":  # must not name what is gone
            kept = [name for name in value.strip('"').split(",") if hints.get(name, True)]
            words += [f'mandatory="{",".join(kept)}"'] if kept else []
        elif key not in hints:
            words.append(parameter)
        elif addresses := hints[key]:
            words.append(f'{key}="{",".join(sorted(addresses))}"')
    return " ".join(words)


def word(text: str) -> str:
    """Make a controller's name fit into the fence."""
    return _NOT_A_WORD.sub("-", text)[:63] or "-"
