"""What does a signature over a file look like?

OpenSSH's SSHSIG (PROTOCOL.sshsig in its source), byte for byte as `ssh-keygen -Y sign` writes it with an Ed25519 key:
the armor, the blob in it, and what is really signed, which is a digest of the file together with a namespace. The
namespace keeps a signature from being passed off as one over another kind of text. The parser takes what OpenSSH
writes and nothing else; whatever a hostile mirror sends ends in Unverified. Whose key counts is said by
`mirrord.trust.keys`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from mirrord.errors import Unverified
from mirrord.trust.keys import KEY_TYPE, PublicKey, Signers, SigningKey

LONGEST = 4096
"""Bytes of an armored signature that are looked at; an Ed25519 one has about 300."""

_MAGIC = b"SSHSIG"
_VERSION = 1
_HASHES = {b"sha512": hashlib.sha512, b"sha256": hashlib.sha256}
_HASH = b"sha512"
_WIDTH = 70
_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"
_ARMOR = re.compile(_BEGIN + rb"\n((?:[A-Za-z0-9+/=]+\n)+)" + _END + rb"\n?")


@dataclass(frozen=True, slots=True)
class Signature:
    """What stands in an armored signature; nothing of it is believed yet."""

    key: PublicKey
    namespace: bytes
    hash_name: bytes
    signature: bytes


def sign(key: SigningKey, data: bytes, namespace: str) -> bytes:
    """Return the armored signature over `data`; the same key, data and namespace give the same bytes."""
    space = namespace.encode()
    signature = _string(KEY_TYPE) + _string(key.sign(_signed(space, _HASH, data)))
    blob = b"".join(
        (
            _MAGIC,
            _VERSION.to_bytes(4, "big"),
            _string(key.public.blob),
            _string(space),
            _string(b""),
            _string(_HASH),
            _string(signature),
        )
    )
    text = base64.b64encode(blob)
    lines = [text[at : at + _WIDTH] for at in range(0, len(text), _WIDTH)]
    return b"\n".join((_BEGIN, *lines, _END, b""))


def verify(
    signers: Signers,
    data: bytes,
    sig: bytes,
    namespace: str,
    identity: str | None,
    at: datetime | None = None,
) -> PublicKey:
    """Check that one of `signers` signed `data` for `identity`, and return the key.

    An identity of None is any; `at` is the moment at which the key must have counted (default: now, as
    `ssh-keygen -Y verify` has it). Raises Unverified, whatever is wrong.
    """
    found = parse(sig)
    if found.namespace != namespace.encode():
        other = found.namespace[:60].decode("utf-8", "backslashreplace")
        raise Unverified(f"the signature is for another purpose: its namespace is {other!r}, not {namespace!r}")
    signers.check(found.key, identity, namespace, at or datetime.now(UTC))
    if not found.key.good(found.signature, _signed(found.namespace, found.hash_name, data)):
        raise Unverified(f"the signature by {found.key.fingerprint} is not over these bytes: they were altered")
    return found.key


def check_whole(data: bytes, sig: bytes, namespace: str) -> None:
    """Check that a signature is over these bytes, whoever signed: that neither has rotted. Raises Unverified."""
    verify(Signers.of([parse(sig).key]), data, sig, namespace, None)


def parse(sig: bytes) -> Signature:
    """Read an armored signature, strictly. Raises Unverified."""
    if len(sig) > LONGEST:
        raise Unverified(f"not a signature: longer than {LONGEST} bytes")
    armor = _ARMOR.fullmatch(sig)
    if armor is None:
        raise Unverified("not a signature: -----BEGIN SSH SIGNATURE----- or its end is missing")
    try:
        blob = base64.b64decode(armor[1].replace(b"\n", b""), validate=True)
    except (binascii.Error, ValueError):
        raise Unverified("not a signature: its base64 is broken") from None
    if blob[:6] != _MAGIC:
        raise Unverified("not a signature: its text does not begin with SSHSIG")
    if (version := int.from_bytes(blob[6:10], "big")) != _VERSION or len(blob) < 10:
        raise Unverified(f"not a signature that can be read: its version is {version}, not {_VERSION}")
    return _read(blob[10:])


def _read(blob: bytes) -> Signature:
    (public, namespace, reserved, hash_name, signature), rest = _strings(blob, 5)
    if rest or reserved:
        raise Unverified("not a signature that can be read: there is more in it than should be")
    if hash_name not in _HASHES:
        raise Unverified(f"the signature uses the unknown digest {hash_name[:40].decode('ascii', 'backslashreplace')}")
    try:
        key = PublicKey.from_blob(public)
    except ValueError as e:
        raise Unverified(f"the key in the signature {e}") from None
    (kind, raw), rest = _strings(signature, 2)
    if kind != KEY_TYPE or len(raw) != 64 or rest:
        raise Unverified("not a signature that can be read: it is not a whole Ed25519 one")
    return Signature(key, namespace, hash_name, raw)


def _strings(data: bytes, count: int) -> tuple[list[bytes], bytes]:
    """Return the next strings (RFC 4251, section 5) and what follows them. Raises Unverified."""
    found: list[bytes] = []
    for _ in range(count):
        end = 4 + int.from_bytes(data[:4], "big")
        if len(data) < end:
            raise Unverified("not a signature: it breaks off")
        found.append(data[4:end])
        data = data[end:]
    return found, data


def _signed(namespace: bytes, hash_name: bytes, data: bytes) -> bytes:
    """What the key signs: PROTOCOL.sshsig, section 3."""
    digest = _HASHES[hash_name](data).digest()
    return _MAGIC + b"".join(_string(part) for part in (namespace, b"", hash_name, digest))


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
