"""Which keys sign, and whose signatures do we believe?

Ed25519 and nothing else: small, quick, deterministic, and understood by every OpenSSH since 2014. This module is the
only import of `cryptography`; what a signature looks like is said in `mirrord.trust.sshsig`. A key's secret half is
in no repr and leaves its object only as signatures.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from mirrord.errors import BadConfig, Unverified

KEY_TYPE = b"ssh-ed25519"
_PRIVATE_BEGIN = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_MAKE_ONE = 'ssh-keygen -t ed25519 -N "" -f FILE makes one'
_LONGEST_LIST = 1 << 20
"""Bytes of a list of signers; a wrong path may name a disk."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key: 32 raw bytes (RFC 8032). `str` is its OpenSSH line without a comment."""

    raw: bytes

    @property
    def blob(self) -> bytes:
        """The key as SSH writes it on the wire (RFC 8709, section 4)."""
        return _string(KEY_TYPE) + _string(self.raw)

    @property
    def fingerprint(self) -> str:
        """`SHA256:...`, as `ssh-keygen -l` shows it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    def __str__(self) -> str:
        return f"{KEY_TYPE.decode()} {base64.b64encode(self.blob).decode()}"

    @classmethod
    def from_blob(cls, blob: bytes) -> PublicKey:
        """Read what `blob` writes. Raises ValueError, in a person's words."""
        kind, rest = _take_string(blob)
        if kind != KEY_TYPE:
            raise ValueError(f"is a key of type {kind[:40].decode('ascii', 'backslashreplace')}, not ssh-ed25519")
        raw, rest = _take_string(rest)
        if len(raw) != 32 or rest:
            raise ValueError("is not a whole ssh-ed25519 key")
        return cls(raw)

    @classmethod
    def from_line(cls, line: str) -> PublicKey:
        """Read `ssh-ed25519 AAAA... [comment]`. Raises ValueError, in a person's words."""
        words = line.split()
        if len(words) < 2 or words[0] not in _KEY_TYPES:
            raise ValueError('is not a public key as "ssh-ed25519 AAAA..."')
        try:
            blob = base64.b64decode(words[1], validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("is not a whole public key: its base64 is broken") from None
        key = cls.from_blob(blob)
        if words[0].encode() != KEY_TYPE:
            raise ValueError(f"says {words[0]} and is ssh-ed25519")
        return key

    def good(self, signature: bytes, data: bytes) -> bool:
        """Tell whether these 64 bytes are this key's signature over `data`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, data)
        except (InvalidSignature, ValueError, UnsupportedAlgorithm):
            return False
        return True


_KEY_TYPES = frozenset(
    (
        "ssh-ed25519",
        "ssh-rsa",
        "ssh-dss",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    )
)


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _take_string(data: bytes) -> tuple[bytes, bytes]:
    """Return the first string (RFC 4251, section 5) and what follows it. Raises ValueError."""
    length = int.from_bytes(data[:4], "big")
    if len(data) < 4 + length:
        raise ValueError("breaks off")
    return data[4 : 4 + length], data[4 + length :]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key that signs; only its public half shows."""

    public: PublicKey
    _private: Ed25519PrivateKey = field(repr=False, compare=False)

    def sign(self, data: bytes) -> bytes:
        """Return the 64 bytes of the signature over `data`; the same data gives the same bytes (RFC 8032)."""
        return self._private.sign(data)


def new_signing_key() -> SigningKey:
    """Make a key that nobody had before."""
    return _signing(Ed25519PrivateKey.generate())


def _signing(private: Ed25519PrivateKey) -> SigningKey:
    return SigningKey(PublicKey(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)), private)


def load_signing_key(text: bytes, where: str) -> SigningKey:
    """Read an OpenSSH private key; `where` names its place in a message.

    Raises BadConfig, saying which of the usual mistakes was made; never with a byte of the key.
    """
    text = text.strip().replace(b"\r\n", b"\n") + b"\n"
    if mistake := _mistake(text):
        raise BadConfig([f"signing key {where}: {mistake}"])
    try:
        private = load_ssh_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise BadConfig([f"signing key {where}: is damaged: {_MAKE_ONE}, or bring the old one back"]) from e
    if not isinstance(private, Ed25519PrivateKey):
        raise BadConfig([f"signing key {where}: is not an Ed25519 key; {_MAKE_ONE}"])
    return _signing(private)


def _mistake(text: bytes) -> str | None:
    """Say what the text is where it is not a plain OpenSSH private key."""
    first = text.split(b"\n", 1)[0].strip()
    if not first:
        return f"is empty; {_MAKE_ONE}"
    if first.split(b" ", 1)[0].decode("ascii", "replace") in _KEY_TYPES:
        return "is the public half; name the file without .pub"
    if first.startswith(b"---- BEGIN SSH2 PUBLIC KEY") or b"PUBLIC KEY-----" in first:
        return "is a public key; the private one is wanted"
    if first.startswith(b"PuTTY-User-Key-File"):
        return "is a PuTTY key; export it with PuTTYgen, Conversions, Export OpenSSH key"
    if first != _PRIVATE_BEGIN:
        what = "is a private key in another format" if b"PRIVATE KEY-----" in first else "is not a private key"
        return f"{what}; an OpenSSH Ed25519 key is wanted: {_MAKE_ONE}"
    try:
        body = base64.b64decode(b"".join(text.split(b"\n")[1:-2]), validate=True)
        magic, _, rest = body.partition(b"\0")
        cipher, rest = _take_string(rest)
        _, rest = _take_string(rest)
        _, rest = _take_string(rest)
        kind, _ = _take_string(_take_string(rest[4:])[0])
    except (binascii.Error, ValueError):
        return "is damaged; bring an undamaged copy back"
    if magic != b"openssh-key-v1":
        return "is damaged; bring an undamaged copy back"
    if cipher != b"none":
        return (
            "is protected by a passphrase, and nobody is there to type it; remove it (ssh-keygen -p -N '' -f FILE)"
            " and protect the file instead, or use a systemd credential"
        )
    if kind != KEY_TYPE:
        return f"is a key of type {kind[:40].decode('ascii', 'backslashreplace')}, not Ed25519; {_MAKE_ONE}"
    return None


@dataclass(frozen=True, slots=True)
class Signer:
    """One key that is believed: for which identities, in which namespaces, from when until when (patterns as in ssh).

    `principals` and `namespaces` are pattern lists of ssh_config(5); None is any namespace.
    """

    key: PublicKey
    principals: str = "*"
    namespaces: str | None = None
    valid_after: datetime | None = None
    valid_before: datetime | None = None

    def objection(self, identity: str | None, namespace: str, at: datetime) -> str | None:
        """Say why this key's signature does not count, or None; an identity of None is anybody's."""
        if identity is not None and not matches(identity, self.principals):
            return f"it may not sign for {identity}"
        if self.namespaces is not None and not matches(namespace, self.namespaces):
            return f"it may not sign in the namespace {namespace}"
        if self.valid_after is not None and at < self.valid_after:
            return f"it counts only from {self.valid_after:%Y-%m-%d %H:%M} UTC"
        if self.valid_before is not None and at > self.valid_before:
            return f"it counted only until {self.valid_before:%Y-%m-%d %H:%M} UTC"
        return None


@dataclass(frozen=True, slots=True)
class Signers:
    """Whose signatures are believed; a plain value without secrets."""

    entries: tuple[Signer, ...] = ()

    @classmethod
    def of(cls, keys: Iterable[PublicKey | str]) -> Signers:
        """Believe these keys (or their OpenSSH lines) for any identity. Raises ValueError for a bad line."""
        return cls(tuple(Signer(key if isinstance(key, PublicKey) else PublicKey.from_line(key)) for key in keys))

    @classmethod
    def parse(cls, text: bytes, where: str) -> Signers:
        """Read public keys (`ssh-ed25519 AAAA...`), or a list as `ssh-keygen -Y verify -f` takes it (ALLOWED SIGNERS).

        Keys of other types are passed over: such lists name people with many keys. Raises BadConfig with every
        faulty line, and where no Ed25519 key is left.
        """
        if text.lstrip().startswith(_PRIVATE_BEGIN):
            raise BadConfig(
                [f"{where}: is a private key; the public half is wanted, and nobody else may have this one"]
            )
        if len(text) > _LONGEST_LIST:
            raise BadConfig([f"{where}: is no list of signers: it is larger than {_LONGEST_LIST} bytes"])
        entries: list[Signer] = []
        faults: list[str] = []
        others = 0
        for number, line in enumerate(text.decode("utf-8", "replace").split("\n"), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            try:
                signer = _signer(line)
            except ValueError as e:
                faults.append(f"{where}:{number}: {e}")
                continue
            if signer is None:
                others += 1
            else:
                entries.append(signer)
        if not faults and not entries:
            faults.append(
                f"{where}: has no Ed25519 key, only others; snapshots are signed with Ed25519"
                if others
                else f'{where}: has no key; a line is "ssh-ed25519 AAAA..."'
            )
        if faults:
            raise BadConfig(faults)
        return cls(tuple(entries))

    def check(self, key: PublicKey, identity: str | None, namespace: str, at: datetime) -> None:
        """Raise Unverified, with the reason, where a signature of this key is not believed."""
        reason: str | None = "it is none of the given keys"
        for signer in self.entries:
            if signer.key == key:
                reason = signer.objection(identity, namespace, at)
                if reason is None:
                    return
        raise Unverified(f"signed with the key {key.fingerprint}, and {reason}")


_WORD = re.compile(r'"([^"]*)"|([^\s"]+)')
_OPTION = re.compile(r'([A-Za-z-]+)(?:="((?:[^"\\]|\\.)*)")?(,|$)')


def _signer(line: str) -> Signer | None:
    """Read one line; None is a key of another type. Raises ValueError."""
    if line.split(None, 1)[0] in _KEY_TYPES:
        return Signer(PublicKey.from_line(line)) if _ours(line) else None
    word = _WORD.match(line)
    if word is None:
        raise ValueError('is not "principals [options] ssh-ed25519 AAAA..."')
    principals = word[1] if word[1] is not None else word[2]
    rest = line[word.end() :].strip()
    options = ""
    if rest.split(None, 1)[:1] and rest.split(None, 1)[0] not in _KEY_TYPES:
        options, rest = _cut_options(rest)
    if not principals or rest.split(None, 1)[:1] == [] or rest.split(None, 1)[0] not in _KEY_TYPES:
        raise ValueError('is not "principals [options] ssh-ed25519 AAAA..."')
    said = _read_options(options)
    return Signer(PublicKey.from_line(rest), principals, **said) if _ours(rest) else None


def _ours(line: str) -> bool:
    return line.split(None, 1)[0].encode() == KEY_TYPE


def _cut_options(rest: str) -> tuple[str, str]:
    """Cut at the first blank outside quotes."""
    quoted = False
    for at, char in enumerate(rest):
        if char == '"' and rest[at - 1 : at] != "\\":
            quoted = not quoted
        elif char.isspace() and not quoted:
            return rest[:at], rest[at:].strip()
    return rest, ""


def _read_options(text: str) -> dict[str, Any]:
    said: dict[str, Any] = {}
    at = 0
    while at < len(text):
        option = _OPTION.match(text, at)
        if option is None:
            raise ValueError(f"has options that cannot be read: {text}")
        at = option.end()
        name, value = option[1].lower(), option[2]
        if name == "cert-authority":
            raise ValueError("cert-authority is not supported; name the signing keys themselves")
        if name not in ("namespaces", "valid-after", "valid-before"):
            raise ValueError(f"has an unknown option: {option[1]}")
        field_name = name.replace("-", "_")
        if value is None or field_name in said:
            raise ValueError(f'{name}="..." is wanted once')
        said[field_name] = value.replace('\\"', '"') if name == "namespaces" else _moment(name, value)
    after, before = said.get("valid_after"), said.get("valid_before")
    if after is not None and before is not None and before <= after:
        raise ValueError("valid-before is not after valid-after")
    return said


_MOMENTS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


def _moment(name: str, text: str) -> datetime:
    """Read `YYYYMMDD[HHMM[SS]][Z]`; without Z it is this machine's time, as ssh-keygen has it."""
    digits = text.removesuffix("Z").removesuffix("z")
    form = _MOMENTS.get(len(digits))
    if form is None or not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{name} is not YYYYMMDD[HHMM[SS]][Z]: {text}")
    try:
        plain = datetime.strptime(digits, form)  # noqa: DTZ007 - its zone is given in the next line
        return plain.replace(tzinfo=UTC) if digits != text else plain.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{name} is not a time: {text}") from None


def matches(text: str, patterns: str) -> bool:
    """Match against a pattern list of ssh_config(5): `*`, `?`, commas, and `!` for what must not match."""
    found = False
    for pattern in patterns.split(","):
        wanted = pattern.removeprefix("!")
        rule = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in wanted)
        if re.fullmatch(rule, text, re.DOTALL):
            if pattern.startswith("!"):
                return False
            found = True
    return found
