"""`mirrord config` says what is wrong, what is in force, and how to begin."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

from mirrord.config import load
from tests.conftest import Lab
from tests.lab.nameserver import zone_text
from tests.test_cli import Type, configured, desk, mirrord, open_desk
from tests.test_config import GOOD

__all__ = ["configured", "desk", "mirrord", "open_desk"]

EXAMPLE = Path(__file__).parent.parent / "config.example.toml"


def test_a_good_configuration_is_told_with_its_warnings(mirrord: Type, configured: Path) -> None:
    """What works and what a person should know, on standard output: it is the result."""
    typed = mirrord("config", "check")

    folder = configured.parent
    assert typed.code == 0
    assert f"warning: the signing key is not there: {folder}/signing_ed25519: no such file\n" in typed.out
    assert typed.out.endswith(f"{configured}: good, 4 warnings\n")


def test_a_source_that_is_not_there_is_told_before_anything_is_published(mirrord: Type, configured: Path) -> None:
    """A slip in its path shows here, not with the first `sync`; it may be a disk that is mounted later."""
    (configured.parent / "public").rmdir()

    assert f"warning: source.path: {configured.parent}/public is no folder" in mirrord("config", "check").out


def test_every_fault_is_told_and_scripts_get_them_one_by_one(mirrord: Type, configured: Path) -> None:
    """Exit code 78, the sentences for people, a list for scripts."""
    configured.write_text(GOOD.replace('role = "primary"', 'rule = "primary"').replace("[probe]", "[prob]"))

    typed = mirrord("config", "check", "--json")

    assert typed.code == 78
    assert [fault.removeprefix(f"{configured}:") for fault in typed.json["error"]["faults"]] == [
        '16: mirror "milan": rule: unknown key; did you mean "role"?',
        '38: prob: unknown table; did you mean "probe"?',
    ]
    assert len(typed.err.splitlines()) == 2


def test_a_check_for_scripts_is_one_object(mirrord: Type, configured: Path) -> None:
    """Warnings of the file, and secrets that cannot be had now, apart: another user may run it."""
    found = mirrord("config", "check", "--json").json

    assert (found["schema"], found["file"], found["ok"]) == (1, str(configured), True)
    assert (found["warnings"], len(found["secrets"]), found["zones"]) == ([], 4, [])


def test_keys_that_cannot_be_used_are_told_before_they_are_needed(mirrord: Type, configured: Path) -> None:
    """A key with a passphrase, or the name server's whole clause: an outage is no time to learn of it."""
    folder = configured.parent
    for name, options in (("signing_ed25519", ["-t", "ed25519", "-N", "word"]), ("sftp_ed25519", ["-t", "ed25519"])):
        subprocess.run(["ssh-keygen", "-q", "-N", "", *options, "-f", folder / name], check=True)
    (folder / "tsig").write_text("not-base64!")
    (folder / "tsig").chmod(0o600)
    authorities = folder / "ca.pem"
    authorities.write_text("nothing")
    configured.write_text(configured.read_text().replace("port = 8443", f'port = 8443\nca_file = "{authorities}"'))

    found = mirrord("config", "check", "--json").json
    [signing, tsig] = found["secrets"]
    assert signing.startswith(f"signing key file {folder}/signing_ed25519: is protected by a passphrase")
    assert tsig == "the TSIG secret of web is not base64; it is the value of `secret` in the server's own key"
    assert found["warnings"] == [f'mirror "lyon": http.ca_file: {authorities} has no certificate in PEM format']

    (folder / "sftp_ed25519").write_text("no key")
    found = mirrord("config", "check", "--json").json
    assert [text for text in found["secrets"] if text.startswith("lyon: reading the private key: it is not")]


def test_a_name_that_is_a_cname_is_refused_online(mirrord: Type, configured: Path, lab: Lab) -> None:
    """Name servers answer NOERROR to an update there and leave the name as it was."""
    knot = lab.knot(text=zone_text("example.org", ["www CNAME elsewhere.example.net."]))
    configured.write_text(configured.read_text().replace('"203.0.113.53"', f'"{knot.endpoint}"'))

    typed = mirrord("config", "check", "--online")

    assert typed.code == 78
    assert f'{configured}: service "web": www.example.org: is a CNAME for elsewhere.example.net' in typed.err
    assert mirrord("config", "check").code == 0


def test_hints_that_nobody_keeps_in_step_are_told_online(mirrord: Type, configured: Path, lab: Lab) -> None:
    """After a switch browsers would go on to the dead mirror; told to keep them, there is nothing to say."""
    records = ["www A 192.0.2.10", "www HTTPS 1 . alpn=h2 ipv4hint=192.0.2.10"]
    knot = lab.knot(text=zone_text("example.org", records))
    text = configured.read_text().replace('"203.0.113.53"', f'"{knot.endpoint}"')
    configured.write_text(text)
    left = mirrord("config", "check", "--online")
    configured.write_text(text.replace("[service.dns]\n", "[service.dns]\nhttps = true\n"))
    kept = mirrord("config", "check", "--online")

    assert (left.code, kept.code) == (0, 0)
    assert 'service "web": www.example.org has an HTTPS record with addresses of its own' in left.out
    assert "HTTPS record" not in kept.out


def test_a_name_server_that_does_not_answer_is_a_warning(mirrord: Type, configured: Path) -> None:
    """It says nothing about the file."""
    configured.write_text(configured.read_text().replace('"203.0.113.53"', '"127.0.0.1:1"'))

    typed = mirrord("config", "check", "--online")

    assert typed.code == 0
    assert "127.0.0.1:1: connection refused" in typed.out


def test_what_is_shown_is_a_configuration_again(mirrord: Type, configured: Path, tmp_path: Path) -> None:
    """Every setting in force with its default; what is printed loads and means the same."""
    typed = mirrord("config", "show")

    shown = tmp_path / "shown.toml"
    shown.write_text(typed.out)
    assert load(shown).shown() == load(configured).shown()
    assert tomllib.loads(typed.out)["probe"]["fall"] == 3
    assert mirrord("config", "show", "--json").json["settings"] == load(configured).shown()


def test_the_whole_example_is_shown_rightly_too(mirrord: Type, tmp_path: Path) -> None:
    """With every kind of table and value that there is."""
    shown = tmp_path / "shown.toml"
    shown.write_text(mirrord("config", "show", "-c", str(EXAMPLE)).out)

    assert load(shown).shown() == load(EXAMPLE).shown()


@pytest.mark.parametrize("as_json", [False, True])
def test_the_example_is_printed_as_it_is(mirrord: Type, as_json: bool) -> None:
    """`mirrord config example > mirrord.toml` is how one begins."""
    typed = mirrord("config", "example", *(["--json"] if as_json else []))

    assert (typed.json["example"] if as_json else typed.out) == EXAMPLE.read_text()
