"""How does the configuration write durations, sizes, addresses, names and host keys?

Each reader takes what TOML gave and returns a plain value, or raises ValueError with a sentence that
says what was found and what is meant. `Duration`, `Size` and the rest are the same readers as pydantic
types; written out again (`config show`) they are in the file's own terms.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, ValidationInfo

from mirrord.hosts.bandwidth import DAY, Bandwidth, Window
from mirrord.switches import Endpoint

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = 36_500 * 86_400.0
"""Seconds of the longest duration: a century from now is a date that can still be written."""
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|[kK]B|MB|GB|TB|KiB|MiB|GiB|TiB)?")
_WINDOW = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\s+(.+)")
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_KEY_TYPES = frozenset(
    {
        "ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
    }
)  # fmt: skip


def read_duration(value: object) -> float:
    """Read `10s`, `15m`, `2h` or `7d` into seconds. Raises ValueError."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'should be a duration such as "10s", "15m", "2h" or "7d", is {shown(value)}')
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > LONGEST:
        raise ValueError(f"should be at most {show_duration(LONGEST)}, is {shown(value)}")
    return seconds


def show_duration(seconds: float) -> str:
    """Write seconds as the file does, in the largest unit that divides them."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.15g}{unit}"
    return f"{seconds:.15g}s"


def read_size(value: object) -> int:
    """Read `0`, `10MB` or `1GiB` into bytes. Raises ValueError."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        raise ValueError(f'should be a size such as "0", "10MB" or "1GiB", is {shown(value)}')
    return int(float(match[1]) * _BYTES[(match[2] or "B").upper()])


def show_size(count: int) -> str:
    """Write a number of bytes as the file does."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count and count % size == 0:
            return f"{count // size}{unit}"
    return str(count)


def read_together(value: object) -> str:
    """Read `all`, `none` or a number of mirrors, in quotes or not, into such a text. Raises ValueError."""
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if text in ("all", "none") or (text.isascii() and text.isdigit() and int(text) > 0):
        return text if text.isalpha() else str(int(text))
    raise ValueError(f'should be "all", "none" or a number of mirrors such as 2, is {shown(value)}')


def read_bandwidth(value: object) -> Bandwidth:
    """Read a rate in bytes a second, and windows of the day with rates of their own: `500kB, 22:00-07:00 0`.

    Raises ValueError.
    """
    if isinstance(value, Bandwidth):
        return value
    first, *rest = [part.strip() for part in value.split(",")] if isinstance(value, str) else [value]
    try:
        usual = read_size(first)
    except ValueError:
        raise ValueError(
            f'should be bytes a second such as "0", "10MB" or "500kB, 22:00-07:00 0", is {shown(value)}'
        ) from None
    bandwidth = Bandwidth(usual, tuple(_window(str(part)) for part in rest))
    for one, other in bandwidth.overlapping():
        raise ValueError(f"{_hours(one)} and {_hours(other)} overlap: it must be clear which rate counts")
    return bandwidth


def _window(text: str) -> Window:
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise ValueError(f'after the usual rate come windows of the day such as "22:00-07:00 2MB", not "{text}"')
    start, end = (60 * int(match[at]) + int(match[at + 1]) for at in (1, 3))
    if int(match[2]) > 59 or int(match[4]) > 59 or start >= DAY or end > DAY:
        raise ValueError(f'"{text}": times go from 00:00 to 24:00')
    if start == end % DAY:
        raise ValueError(f'"{text}" begins where it ends; a rate for the whole day stands alone in front')
    try:
        return Window(start, end, read_size(match[5]))
    except ValueError:
        raise ValueError(f'"{text}": "{match[5]}" is no rate such as "0", "500kB" or "10MB"') from None


def _hours(window: Window) -> str:
    return "-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in (window.start, window.end))


def show_bandwidth(bandwidth: Bandwidth) -> str:
    """Write a bandwidth as the file does."""
    windows = [f"{_hours(window)} {show_size(window.rate)}" for window in bandwidth.windows]
    return ", ".join((show_size(bandwidth.usual), *windows))


def read_prefix(value: object) -> str:
    """Read an IPv4 or IPv6 prefix into its canonical text. Raises ValueError."""
    if not isinstance(value, str) or "/" not in value:
        raise ValueError(f'should be a prefix such as "192.0.2.0/24", is {shown(value)}')
    try:
        prefix = ipaddress.ip_network(value.strip())
    except ValueError:
        raise ValueError(f'should be a prefix such as "192.0.2.0/24", without host bits, is {shown(value)}') from None
    if prefix.prefixlen == 0:
        raise ValueError(f"{value} is the whole Internet")
    return str(prefix)


def read_address(value: object) -> str:
    """Read an IPv4 or IPv6 address into its canonical text. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004 - pydantic wants a ValueError
            f'should be an address such as "192.0.2.10", is {shown(value)}'
        )
    try:
        address = ipaddress.ip_address(value.strip())
    except ValueError:
        raise ValueError(f"should be an IPv4 or IPv6 address (no name, no port), is {shown(value)}") from None
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id or address.ipv4_mapped):
        raise ValueError(f"cannot be given to readers: {value} is scoped or a mapped IPv4 address")
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"cannot be given to readers: {value} is not the address of one host")
    return str(address)


def family(address: str) -> int:
    """Return 4 or 6."""
    return 6 if ":" in address else 4


def read_endpoint(value: object, default_port: int | None = 53) -> Endpoint:
    """Read `192.0.2.1:53`, `[2001:db8::1]:53` or a bare address into an Endpoint. Raises ValueError."""
    if isinstance(value, Endpoint):
        return value
    example = 'should be an address and a port such as "192.0.2.1:53" or "[2001:db8::1]:53"'
    if not isinstance(value, str):
        raise ValueError(f"{example}, is {shown(value)}")  # noqa: TRY004 - pydantic wants a ValueError
    text = value.strip()
    match = re.fullmatch(r"\[([^\]]*)\](?::(\d{1,5}))?", text)
    if match is None and text.count(":") <= 1:
        match = re.fullmatch(r"([^:\[\]]*)(?::(\d{1,5}))?", text)
    host, port = (match[1], match[2]) if match else (text, None)
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:
        raise ValueError(f"{example}, is {shown(value)} (names are not looked up: DNS may be what is broken)") from None
    number = int(port) if port else default_port
    if number is None or not 1 <= number <= 65535:
        raise ValueError(f"{example}, is {shown(value)}")
    return Endpoint(address, number)


def read_listen(value: object) -> str:
    """Read `127.0.0.1:8420`, or the empty text for "off". Raises ValueError."""
    return "" if value == "" else str(read_endpoint(value, default_port=None))


def read_dns_name(value: object) -> str:
    """Read a DNS name into lower case without the final dot. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004 - pydantic wants a ValueError
            f'should be a DNS name such as "www.example.org", is {shown(value)}'
        )
    name = value.strip().lower().removesuffix(".")
    if not name.isascii():
        raise ValueError(f'should be a DNS name in ASCII form ("xn--..."), is {shown(value)}')
    if len(name) > 240 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError(f'should be a DNS name such as "www.example.org", is {shown(value)}')
    return name


def read_mx(value: str) -> str:
    """Read an MX record such as "10 mail.example.org" as name servers write it. Raises ValueError."""
    preference, _, host = value.partition(" ")
    if not preference.isdecimal() or int(preference) > 65535 or not host:
        raise ValueError(f'should be an MX record such as "10 mail.example.org", is {shown(value)}')
    return f"{int(preference)} {read_dns_name(host)}."


def read_public_key(value: object, types: frozenset[str] = _KEY_TYPES) -> str:
    """Read a public key line (`ssh-ed25519 AAAA... comment`, a leading host name is passed over) into `type base64`.

    Raises ValueError. The format is RFC 4253 section 6.6: the blob begins with the type's name.
    """
    words = value.split() if isinstance(value, str) else []
    if len(words) >= 3 and words[0] not in types and words[1] in types:
        words = words[1:]
    wanted = " or ".join(sorted(types)) if len(types) < 3 else "ssh-ed25519"
    if len(words) < 2:
        raise ValueError(f'should be a public key line such as "{wanted} AAAA...", is {shown(value)}')
    if words[0] not in types:
        raise ValueError(f"has the key type {words[0]!r}; known here: {', '.join(sorted(types))}")
    try:
        blob = base64.b64decode(words[1], validate=True)
    except binascii.Error:
        raise ValueError("is not a whole public key line: its second word is not base64") from None
    name = words[0].encode()
    if not blob.startswith(len(name).to_bytes(4, "big") + name) or len(blob) < len(name) + 36:
        raise ValueError(f"is not a whole public key line: its second word is not a key of type {words[0]}")
    return f"{words[0]} {words[1]}"


def shown(value: object) -> str:
    """Show a value of the file in a message, shortly."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}..."'
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return str(value)


def _here(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder")
    path = path.expanduser()
    return path if folder is None else Path(folder, path)


def _text(value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise ValueError("is empty")
    return value


def _public_key(value: object) -> str:
    return read_public_key(value)


def _signer(value: object) -> str:
    return read_public_key(value, frozenset({"ssh-ed25519"}))


def _endpoint(value: object) -> Endpoint:
    return read_endpoint(value)


Duration = Annotated[float, BeforeValidator(read_duration), PlainSerializer(show_duration, return_type=str)]
Size = Annotated[int, BeforeValidator(read_size), PlainSerializer(show_size, return_type=str)]
Rates = Annotated[Bandwidth, BeforeValidator(read_bandwidth), PlainSerializer(show_bandwidth, return_type=str)]
Together = Annotated[str, BeforeValidator(read_together)]
Address = Annotated[str, BeforeValidator(read_address)]
Prefix = Annotated[str, BeforeValidator(read_prefix)]
Address53 = Annotated[Endpoint, BeforeValidator(_endpoint), PlainSerializer(str, return_type=str)]
Listen = Annotated[str, BeforeValidator(read_listen)]
DnsName = Annotated[str, BeforeValidator(read_dns_name)]
HostKey = Annotated[str, BeforeValidator(_public_key)]
SignerKey = Annotated[str, BeforeValidator(_signer)]
Text = Annotated[str, BeforeValidator(_text)]
LocalPath = Annotated[Path, BeforeValidator(_text), AfterValidator(_here)]
"""A path on this machine; a relative one starts at the configuration's folder."""
