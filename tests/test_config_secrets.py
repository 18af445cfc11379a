"""Secrets are named by their place, read when needed, and shown nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from mirrord.config import Secret, load, missing_secrets
from mirrord.config.model import Tsig
from mirrord.errors import BadConfig
from tests.test_config import GOOD

WORD = "c2VjcmV0IHdvcmQ="


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(WORD + "\n")
    file.chmod(0o600)
    return file


def sentence(secret: Secret) -> str:
    with pytest.raises(BadConfig) as caught:
        secret.read("TSIG secret of web")
    return str(caught.value)


def test_a_secret_is_read_when_it_is_needed(file: Path) -> None:
    """A key that is changed on disk counts from the next use on, without a restart."""
    secret = Secret(file=file)

    assert secret.read() == f"{WORD}\n".encode()
    file.write_text("other")
    assert secret.read_text() == "other"


def test_a_secret_never_shows(file: Path) -> None:
    """A repr ends in logs, and logs end in bug reports."""
    secret = Secret(file=file)
    secret.read()

    assert WORD not in f"{secret!r} {secret} {secret.model_dump_json()}"
    assert str(file) in str(secret)


def test_a_credential_is_found_where_systemd_put_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd.exec(5): LoadCredential puts a file of that name into $CREDENTIALS_DIRECTORY."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(file.parent))

    assert Secret(credential="secret").read_text() == WORD


def test_a_credential_without_systemd_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verbs that work alone in a shell have no credentials: the sentence must name the way out."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)

    assert sentence(Secret(credential="tsig")) == (
        'the credential "tsig" is not there: systemd gave no credentials'
        " (LoadCredential=tsig:/path in the unit; elsewhere use { file = ... })"
    )


def test_a_credential_cannot_leave_its_folder() -> None:
    """A name is a name, not a path."""
    with pytest.raises(ValueError, match='without "/"'):
        Secret(credential="../shadow")


def test_a_missing_secret_is_one_sentence(tmp_path: Path) -> None:
    """What it is and where it was looked for."""
    assert sentence(Secret(file=tmp_path / "no")) == f"the TSIG secret of web is not there: {tmp_path}/no: no such file"


def test_an_empty_secret_is_one_sentence(file: Path) -> None:
    """A disk that was full when the key was written leaves this behind."""
    file.write_text("\n")

    assert sentence(Secret(file=file)) == f"the TSIG secret of web is empty: {file}"


def test_a_folder_is_no_secret(tmp_path: Path) -> None:
    """A path that ends too early names a folder."""
    assert sentence(Secret(file=tmp_path)) == f"the TSIG secret of web cannot be read: {tmp_path}: Is a directory"


def test_a_secret_of_another_user_names_us(file: Path) -> None:
    """The daemon's user is not the one who wrote the key: whose right is missing has to be said."""
    file.chmod(0)
    if os.geteuid() != 0:
        assert "cannot be read" in sentence(Secret(file=file))
        return
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        try:
            Secret(file=file).read("key")
        except BadConfig as e:
            os._exit(0 if "user nobody has no right to; check its owner and mode" in str(e) else 3)
        os._exit(2)

    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_text_secrets_are_one_word(file: Path) -> None:
    """A TSIG secret file with the server's whole `key { ... }` clause is a common slip."""
    file.write_text('key "mirrord" { secret "abc"; };')

    with pytest.raises(BadConfig, match="should be one word and nothing else"):
        Secret(file=file).read_text("TSIG secret of web")


def test_a_secret_that_everybody_can_read_is_a_warning(tmp_path: Path) -> None:
    """It works, and is none any more; who may read it is said before somebody does."""
    config = tmp_path / "mirrord.toml"
    config.write_text(GOOD)
    for name, mode in (("tsig", 0o644), ("sftp_ed25519", 0o640), ("signing_ed25519", 0o600)):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(mode)

    [warning] = load(config).warnings

    assert warning == (
        f'{config}:48: service "web": dns.tsig.secret: the TSIG secret of web is no secret: '
        f"{tmp_path}/tsig can be read by everybody on this machine; chmod o= {tmp_path}/tsig"
    )


def test_secrets_that_cannot_be_had_now_are_listed(tmp_path: Path) -> None:
    """`config check` says so before the outage does; they are no fault of the file: another user may run it."""
    config = tmp_path / "mirrord.toml"
    config.write_text(GOOD)
    (tmp_path / "tsig").write_text("x")

    assert missing_secrets(load(config)) == [
        f"the signing key is not there: {tmp_path}/signing_ed25519: no such file",
        f"the SFTP key of milan is not there: {tmp_path}/sftp_ed25519: no such file",
        f"the SFTP key of lyon is not there: {tmp_path}/sftp_ed25519: no such file",
    ]


def test_no_fault_ever_quotes_a_secret(tmp_path: Path) -> None:
    """Who writes the secret itself into the file by mistake must not find it in the log as well."""
    config = tmp_path / "mirrord.toml"
    text = GOOD.replace('{ file = "tsig" }', f'"{WORD}"').replace('{ file = "signing_ed25519" }', f'["{WORD}"]')
    config.write_text(text.replace('{ file = "sftp_ed25519" }', f'{{ word = "{WORD}" }}'))

    with pytest.raises(BadConfig) as caught:
        load(config)

    assert len(caught.value.faults) >= 4
    assert WORD not in str(caught.value)


def test_not_even_what_pydantic_says_quotes_a_secret() -> None:
    """Its own words are shown to nobody, but a debugger's log may have them."""
    with pytest.raises(ValidationError) as caught:
        Secret.model_validate({"word": WORD})

    assert WORD not in str(caught.value)
    with pytest.raises(ValidationError) as caught:
        Tsig.model_validate({"name": "mirrord", "secret": WORD})
    assert WORD not in str(caught.value)
