import base64
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mirrord.errors import Unverified
from mirrord.trust import sshsig
from mirrord.trust.keys import Signers, SigningKey, load_signing_key, new_signing_key

SPACE = "snapshot@mirrord"
WHO = "www.example.org"


def keygen(*arguments: str | Path, stdin: bytes = b"", cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["ssh-keygen", *map(str, arguments)], input=stdin, cwd=cwd, capture_output=True, check=False, timeout=20
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key pair made by OpenSSH, and a list of allowed signers that names it."""
    where = tmp_path_factory.mktemp("keys")
    keygen("-t", "ed25519", "-N", "", "-C", "somebody@home", "-f", where / "key")
    (where / "allowed").write_text(f"{WHO} {(where / 'key.pub').read_text()}")
    return where


@pytest.fixture(scope="module")
def key(folder: Path) -> SigningKey:
    """The same key, loaded by us."""
    return load_signing_key((folder / "key").read_bytes(), "key")


@pytest.fixture(scope="module")
def signers(folder: Path) -> Signers:
    """The same list, read by us."""
    return Signers.parse((folder / "allowed").read_bytes(), "allowed")


@pytest.mark.parametrize("data", [b"", b"a card\n", bytes(range(256)) * 5000])
def test_we_sign_byte_for_byte_as_ssh_keygen_does(folder: Path, key: SigningKey, data: bytes) -> None:
    """So nobody can tell, nor needs to know, which program signed."""
    (folder / "data").write_bytes(data)
    (folder / "data.sig").unlink(missing_ok=True)

    keygen("-Y", "sign", "-f", folder / "key", "-n", SPACE, folder / "data")

    assert sshsig.sign(key, data, SPACE) == (folder / "data.sig").read_bytes()


def test_a_reader_verifies_ours_with_ssh_keygen_alone(folder: Path, key: SigningKey) -> None:
    """The promise to readers: no tool of ours is needed to check a copy."""
    (folder / "ours.sig").write_bytes(sshsig.sign(key, b"text", SPACE))

    arguments = ("-Y", "verify", "-f", folder / "allowed", "-I", WHO, "-n", SPACE, "-s", folder / "ours.sig")

    assert keygen(*arguments, stdin=b"text").returncode == 0
    assert keygen(*arguments, stdin=b"test").returncode != 0


@pytest.mark.parametrize("digest", ["sha512", "sha256"])
def test_what_ssh_keygen_signed_is_believed(folder: Path, key: SigningKey, signers: Signers, digest: str) -> None:
    """A maintainer may sign by hand, with either digest that OpenSSH offers."""
    sig = keygen("-Y", "sign", "-f", folder / "key", "-n", SPACE, "-O", f"hashalg={digest}", stdin=b"text").stdout

    assert sshsig.verify(signers, b"text", sig, SPACE, WHO) == key.public


def test_other_bytes_another_namespace_another_key_or_name_are_not_believed(key: SigningKey, signers: Signers) -> None:
    """Each of the four is one way to pass off something that the site never said; the message says which."""
    sig = sshsig.sign(key, b"text", SPACE)
    stranger = sshsig.sign(new_signing_key(), b"text", SPACE)

    with pytest.raises(Unverified, match="altered"):
        sshsig.verify(signers, b"test", sig, SPACE, WHO)
    with pytest.raises(Unverified, match="another purpose"):
        sshsig.verify(signers, b"text", sig, "manifest@mirrord", WHO)
    with pytest.raises(Unverified, match="none of the given keys"):
        sshsig.verify(signers, b"text", stranger, SPACE, WHO)
    with pytest.raises(Unverified, match=r"may not sign for evil\.example"):
        sshsig.verify(signers, b"text", sig, SPACE, "evil.example")


def test_a_key_alone_is_enough_for_whoever_knows_no_name(key: SigningKey) -> None:
    """`verify` needs only a public key; the identity is asked for where there is a list that names one."""
    sig = sshsig.sign(key, b"text", SPACE)

    assert sshsig.verify(Signers.of([str(key.public)]), b"text", sig, SPACE, None) == key.public


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_keys_of_other_kinds_are_refused_even_if_listed(tmp_path: Path, signers: Signers, kind: str) -> None:
    """One kind of signature, one way to check it."""
    keygen("-t", kind, "-N", "", "-f", tmp_path / "key")
    sig = keygen("-Y", "sign", "-f", tmp_path / "key", "-n", SPACE, stdin=b"text").stdout

    with pytest.raises(Unverified, match="not ssh-ed25519"):
        sshsig.verify(signers, b"text", sig, SPACE, WHO)


KEY = new_signing_key()
SIGNERS = Signers.of([KEY.public])
GOOD = sshsig.sign(KEY, b"text", SPACE)


@given(at=st.integers(0, len(GOOD) - 1), change=st.integers(1, 255))
def test_no_single_changed_byte_of_a_signature_is_let_through(at: int, change: int) -> None:
    """Every byte of it means something, or is not allowed to be otherwise."""
    bad = bytearray(GOOD)
    bad[at] ^= change

    with pytest.raises(Unverified):
        sshsig.verify(SIGNERS, b"text", bytes(bad), SPACE, None)


@given(cut=st.integers(0, len(GOOD) - 2))
def test_no_part_of_a_signature_is_a_signature(cut: int) -> None:
    """A download that breaks off is unverified, not a crash."""
    with pytest.raises(Unverified):
        sshsig.verify(SIGNERS, b"text", GOOD[:cut], SPACE, None)


def armored(blob: bytes) -> bytes:
    return b"-----BEGIN SSH SIGNATURE-----\n" + base64.b64encode(blob) + b"\n-----END SSH SIGNATURE-----\n"


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def inside(sig: bytes) -> bytes:
    return base64.b64decode(b"".join(sig.split(b"\n")[1:-2]))


@given(text=st.binary(max_size=300), blob=st.binary(max_size=300))
@example(text=GOOD + GOOD, blob=b"SSHSIG")
@example(text=b" " + GOOD, blob=b"SSHSIG\0\0\0\1" + b"\xff\xff\xff\xff")
@example(text=GOOD + b"x", blob=inside(GOOD) + b"\0")
@example(text=b"x" * 1_000_000, blob=b"SSHSIG\0\0\0\2" + inside(GOOD)[10:])
@example(text=GOOD.replace(b"\n", b"\r\n"), blob=b"SSHSIG\0\0\0\1" + string(b"") * 5)
@example(
    text=b"",
    blob=b"SSHSIG\0\0\0\1"
    + string(KEY.public.blob)
    + string(SPACE.encode())
    + string(b"")
    + string(b"sha512")
    + string(b""),
)
@example(
    text=b"",
    blob=inside(GOOD).replace(string(b"sha512"), string(b"md5")),
)
@example(
    text=b"",
    blob=inside(GOOD).replace(string(SPACE.encode()) + string(b""), string(SPACE.encode()) + string(b"x")),
)
def test_no_hostile_text_ends_otherwise_than_unverified(text: bytes, blob: bytes) -> None:
    """Signatures come from hosts that nobody controls; the parser has one way to say no."""
    for sig in (text, armored(blob)):
        with pytest.raises(Unverified):
            sshsig.verify(SIGNERS, b"text", sig, SPACE, None)


def test_the_armor_is_as_wide_as_openssh_writes_it() -> None:
    """The lines of 70 characters are part of being byte for byte the same."""
    lines = GOOD.decode().split("\n")

    assert lines[0] == "-----BEGIN SSH SIGNATURE-----"
    assert {len(line) for line in lines[1:-3]} == {70}
    assert re.fullmatch(r"-----END SSH SIGNATURE-----", lines[-2])
