import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.errors import BadConfig, Unverified
from mirrord.trust import sshsig
from mirrord.trust.keys import PublicKey, Signers, load_signing_key, matches, new_signing_key

SPACE = "snapshot@mirrord"
WHO = "www.example.org"
KEY = new_signing_key()
LINE = str(KEY.public)


def keygen(*arguments: str | Path) -> bytes:
    command = ["ssh-keygen", *map(str, arguments)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=20).stdout


def make(folder: Path, *arguments: str) -> Path:
    keygen("-q", *arguments, "-f", folder / "key")
    return folder / "key"


def believed(signers: Signers, sig: bytes, identity: str) -> bool:
    try:
        sshsig.verify(signers, b"text", sig, SPACE, identity)
    except Unverified:
        return False
    return True


def test_a_key_made_by_ssh_keygen_is_loaded(tmp_path: Path) -> None:
    """The README's one command makes it; its public half is the line that readers get."""
    file = make(tmp_path, "-t", "ed25519", "-N", "")

    key = load_signing_key(file.read_bytes(), str(file))

    assert str(key.public) == " ".join((tmp_path / "key.pub").read_text().split()[:2])
    assert key.public.fingerprint in keygen("-l", "-f", file).decode()


def test_line_ends_and_blanks_around_a_key_do_no_harm(tmp_path: Path) -> None:
    """Keys travel through mail, clipboards and Windows."""
    text = make(tmp_path, "-t", "ed25519", "-N", "").read_bytes()

    key = load_signing_key(b"\n" + text.replace(b"\n", b"\r\n").rstrip(), "key")

    assert key == load_signing_key(text, "key")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param(("-t", "ed25519", "-N", "secret"), "passphrase", id="encrypted"),
        pytest.param(("-t", "rsa", "-N", ""), "ssh-rsa, not Ed25519", id="RSA"),
        pytest.param(("-t", "ecdsa", "-N", ""), "not Ed25519", id="ECDSA"),
        pytest.param(("-t", "rsa", "-m", "PEM", "-N", ""), "another format", id="PEM"),
        pytest.param(("-t", "rsa", "-m", "PKCS8", "-N", ""), "another format", id="PKCS8"),
    ],
)
def test_an_unsuitable_key_is_named_as_what_it_is(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    """One clear sentence with the way out, when two tired people set this up."""
    file = make(tmp_path, *arguments)

    with pytest.raises(BadConfig, match=sentence) as caught:
        load_signing_key(file.read_bytes(), "/etc/mirrord/key")
    assert str(caught.value).startswith("signing key /etc/mirrord/key: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param(LINE.encode(), "public half", id="public key"),
        pytest.param(b"---- BEGIN SSH2 PUBLIC KEY ----\n", "public key", id="public, SSH2"),
        pytest.param(b"-----BEGIN PUBLIC KEY-----\n", "public key", id="public, PEM"),
        pytest.param(b"PuTTY-User-Key-File-3: ssh-ed25519\n", "PuTTY", id="PuTTY"),
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"\n \n", "empty", id="blank"),
        pytest.param(b"hello", "not a private key", id="anything"),
        pytest.param(b"\xff\xfe\0", "not a private key", id="bytes"),
        pytest.param(b"-----BEGIN OPENSSH PRIVATE KEY-----\n", "damaged", id="first line only"),
        pytest.param(
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaA==\n-----END OPENSSH PRIVATE KEY-----",
            "damaged",
            id="cut",
        ),
    ],
)
def test_what_is_no_private_key_is_named_as_what_it_is(text: bytes, sentence: str) -> None:
    """The usual mistakes each get their own words."""
    with pytest.raises(BadConfig, match=sentence):
        load_signing_key(text, "key")


def test_a_damaged_key_is_one_sentence_without_a_byte_of_it(tmp_path: Path) -> None:
    """Whatever byte of it is broken: BadConfig, and no secret in the message."""
    text = make(tmp_path, "-t", "ed25519", "-N", "").read_bytes()
    lines = text.decode().split("\n")[1:-2]
    said: list[str] = []

    for at in range(40, len(text) - 40):
        bad = text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :]
        try:
            load_signing_key(bad, "key")
        except BadConfig as e:
            said.append(str(e))

    assert len(said) > 200  # its comment and padding may change unseen
    assert not any(line in sentence for line in lines for sentence in said)


def test_the_secret_half_is_in_no_repr() -> None:
    """What is logged by mistake is the public half only."""
    assert repr(KEY) == f"SigningKey(public={KEY.public!r})"


def test_a_list_for_ssh_keygen_is_read(tmp_path: Path) -> None:
    """Readers may keep one list for git, ssh-keygen and us."""
    text = (
        "# who signs\n"
        "\n"
        f"{WHO},*.example.net {LINE} the site\n"
        f'"{WHO}" namespaces="snapshot@*,git",valid-after="20200101Z",VALID-BEFORE="20991231235959Z" {LINE}\n'
        "other@example.org ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ== old\n"
    )

    plain, narrow = Signers.parse(text.encode(), "allowed").entries

    assert (plain.key, plain.principals, plain.namespaces) == (KEY.public, f"{WHO},*.example.net", None)
    assert (narrow.principals, narrow.namespaces) == (WHO, "snapshot@*,git")
    assert narrow.valid_after == datetime(2020, 1, 1, tzinfo=UTC)
    assert narrow.valid_before == datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)


def test_a_bare_public_key_is_a_list_of_one() -> None:
    """What a publisher prints on paper is one line; `verify --key` takes the file as it is."""
    assert Signers.parse(f"{LINE} somebody@home\r\n".encode(), "key.pub") == Signers.of([LINE])


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        pytest.param(f"{WHO} cert-authority {LINE}", "cert-authority is not supported", id="CA"),
        pytest.param(f"{WHO} frob {LINE}", "unknown option: frob", id="unknown option"),
        pytest.param(f'{WHO} valid-after="soon" {LINE}', "not YYYYMMDD", id="no date"),
        pytest.param(f'{WHO} valid-after="20261399Z" {LINE}', "not a time", id="no such date"),
        pytest.param(f'{WHO} valid-after="20270101",valid-before="20260101" {LINE}', "not after", id="never"),
        pytest.param(f'{WHO} namespaces="a",namespaces="b" {LINE}', "once", id="twice"),
        pytest.param(f"{WHO} namespaces {LINE}", "once", id="no value"),
        pytest.param(f'{WHO} namespaces="a {LINE}', "is not", id="open quote"),
        pytest.param(f"{WHO}", "is not", id="no key"),
        pytest.param(f"{WHO} ssh-ed25519", "not a public key", id="no blob"),
        pytest.param(f"{WHO} ssh-ed25519 AAAA!", "base64", id="broken base64"),
        pytest.param(f"{WHO} {LINE[:-8]}", "breaks off", id="cut"),
        pytest.param('" ', "is not", id="a quote"),
        pytest.param(LINE[:40], "b", id="a cut key"),
    ],
)
def test_a_faulty_line_is_named_with_its_number(line: str, sentence: str) -> None:
    """A list that is half understood would refuse, or believe, the wrong keys in silence."""
    with pytest.raises(BadConfig, match=sentence) as caught:
        Signers.parse(f"{WHO} {LINE}\n{line}\n".encode(), "allowed")

    assert caught.value.faults[0].startswith("allowed:2: ")


@pytest.mark.parametrize("text", [b"", b"# nothing\n", b"me ssh-rsa AAAAB3NzaC1yc2E= old\n"])
def test_a_list_without_an_ed25519_key_is_refused(text: bytes) -> None:
    """With it every copy would be unverifiable, for a reason that lies here and not with the copy."""
    with pytest.raises(BadConfig, match="key"):
        Signers.parse(text, "allowed")


def test_a_private_key_given_as_a_signer_is_refused_by_name(tmp_path: Path) -> None:
    """Who hands the private file to `verify` should hear about it at once."""
    file = make(tmp_path, "-t", "ed25519", "-N", "")

    with pytest.raises(BadConfig, match="private key"):
        Signers.parse(file.read_bytes(), "key")


@given(
    text=st.binary(max_size=200), words=st.lists(st.sampled_from([WHO, LINE, '"', ",", "=", 'x="', "\\", "namespaces"]))
)
def test_no_list_at_all_makes_reading_it_fail_otherwise(text: bytes, words: list[str]) -> None:
    """Lists are downloaded, too."""
    for candidate in (text, " ".join(words).encode()):
        try:
            Signers.parse(candidate, "allowed")
        except BadConfig:
            continue


CASES = [
    pytest.param(f"{WHO} {LINE}", WHO, id="plain"),
    pytest.param(f"*.example.org {LINE}", WHO, id="star"),
    pytest.param(f"ww?.example.org {LINE}", WHO, id="question mark"),
    pytest.param(f"*,!{WHO} {LINE}", WHO, id="negated"),
    pytest.param(f"!{WHO},* {LINE}", WHO, id="negated first"),
    pytest.param(f"WWW.example.org {LINE}", WHO, id="capitals"),
    pytest.param(f"other.example.org,{WHO} {LINE}", WHO, id="second name"),
    pytest.param(f'{WHO} namespaces="{SPACE}" {LINE}', WHO, id="namespace"),
    pytest.param(f'{WHO} namespaces="git,*@mirrord" {LINE}', WHO, id="namespace pattern"),
    pytest.param(f'{WHO} namespaces="git" {LINE}', WHO, id="another namespace"),
    pytest.param(f'{WHO} valid-after="20200101Z" {LINE}', WHO, id="valid"),
    pytest.param(f'{WHO} valid-after="209901010000Z" {LINE}', WHO, id="not yet valid"),
    pytest.param(f'{WHO} valid-before="20200101000000" {LINE}', WHO, id="no longer valid"),
    pytest.param(f'{WHO} valid-before="20200101" {LINE}\n{WHO} {LINE}', WHO, id="listed again"),
    pytest.param(f'"{WHO}" {LINE}', WHO, id="quoted"),
    pytest.param(f"nobody.example {LINE}", WHO, id="another name"),
]


@pytest.mark.parametrize(("allowed", "identity"), CASES)
def test_we_believe_whom_ssh_keygen_believes(tmp_path: Path, allowed: str, identity: str) -> None:
    """A reader with ssh-keygen and a reader with mirrord must come to the same verdict from the same list."""
    (tmp_path / "allowed").write_text(allowed + "\n")
    (tmp_path / "sig").write_bytes(sshsig.sign(KEY, b"text", SPACE))
    command = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", identity, "-n", SPACE, "-s", "sig"]
    theirs = subprocess.run(command, cwd=tmp_path, input=b"text", capture_output=True, check=False).returncode == 0

    assert believed(Signers.parse(allowed.encode(), "allowed"), (tmp_path / "sig").read_bytes(), identity) is theirs


def test_an_old_snapshot_is_verified_as_of_its_own_time() -> None:
    """After a change of keys, what the old one signed in its time is still the site's word."""
    signers = Signers.parse(f'{WHO} valid-before="20250101Z" {LINE}'.encode(), "allowed")
    sig = sshsig.sign(KEY, b"text", SPACE)

    with pytest.raises(Unverified, match="counted only until 2025-01-01"):
        sshsig.verify(signers, b"text", sig, SPACE, WHO, datetime(2026, 1, 1, tzinfo=UTC))
    assert sshsig.verify(signers, b"text", sig, SPACE, WHO, datetime(2024, 1, 1, tzinfo=UTC)) == KEY.public


def test_times_without_a_zone_are_this_machines_own() -> None:
    """As ssh-keygen has it; a list that is one zone off would lapse hours too early or late."""
    signers = Signers.parse(f'{WHO} valid-after="20260701120000" {LINE}'.encode(), "allowed")
    local = datetime(2026, 7, 1, 12, 0, 0).astimezone(UTC)

    assert signers.entries[0].valid_after == local


def test_pattern_lists_are_not_regular_expressions() -> None:
    """A dot is a dot."""
    assert matches("a.b", "a.b")
    assert not matches("axb", "a.b")
    assert not matches("a", "")


@given(raw=st.binary(min_size=32, max_size=32))
def test_a_public_keys_line_is_read_back(raw: bytes) -> None:
    """The line is how keys travel, in configurations and on paper."""
    key = PublicKey(raw)

    assert PublicKey.from_line(f"{key} comment") == key
    assert not key.good(os.urandom(64), b"data")
