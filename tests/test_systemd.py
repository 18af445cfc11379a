"""The units are hardened, clean, and meet the configuration's defaults."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from configparser import RawConfigParser
from pathlib import Path

import pytest

from mirrord.config import DEFAULT_FILE, Settings
from tests.test_config import without

UNITS = Path(__file__).parent.parent / "systemd"
ONE, SEVERAL = UNITS / "mirrord.service", UNITS / "mirrord@.service"
BOTH = pytest.mark.parametrize("unit", [ONE, SEVERAL], ids=lambda unit: unit.name)

LEFT_OPEN = {
    "IPAddressDeny",  # it looks at the whole internet
    "PrivateNetwork",  # the same
    "RestrictAddressFamilies_AF_INET_INET6",  # the same
    "RestrictAddressFamilies_AF_UNIX",  # the control socket
    "PrivateUsers",  # the history says which user gave an order
    "ProtectProc",  # whether a lock's holder still lives is read there
    "ProcSubset",  # the boot id is read there
    "RootDirectoryOrRootImage",  # Python and the source lie in the system
    "DeviceAllow",  # ProtectClock adds the clock, to be read only
    "UMask",  # the group may read, as the socket's
}
"""What stays open, and why."""


def settings(unit: Path) -> dict[str, str]:
    """The unit's [Service], last word of repeated keys; comments do not count."""
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's keys have capitals
    parser.read(unit)
    return dict(parser["Service"])


@BOTH
def test_a_unit_is_exposed_no_more_than_it_must_be(unit: Path) -> None:
    """Keys for every host lie with this process: a fault in it must not become one of the machine."""
    found = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=False,
    )

    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", found.stdout)
    assert level, found.stderr
    assert float(level[1]) <= 2.0
    assert found.returncode == 0


@BOTH
def test_what_stays_open_stays_open_for_a_reason(unit: Path) -> None:
    """Each of the rest is named above; whatever else opens by a slip is found here."""
    found = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--json=short", unit],
        capture_output=True,
        text=True,
        check=True,
    )

    checks = json.loads(found.stdout)
    assert {check["json_field"] for check in checks if float(check["exposure"] or 0) > 0} == LEFT_OPEN


@BOTH
def test_systemd_finds_nothing_to_complain_about(unit: Path, tmp_path: Path) -> None:
    """A misspelt directive is only a warning in a log, and the hardening is gone."""
    there = unit.read_text().replace("/usr/local/bin/mirrord", sys.executable)
    installed = tmp_path / unit.name.replace("@", "@blog")
    installed.write_text(there)

    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", installed],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (found.returncode, found.stderr) == (0, "")


def test_both_units_differ_only_in_their_instance() -> None:
    """What is mended in one must be mended in the other."""

    def directives(unit: Path) -> list[str]:
        text = unit.read_text()
        return [line for line in text[text.index("[Unit]") :].splitlines() if not line.startswith("#")]

    several = [
        line.replace("/etc/mirrord/%i.toml", "/etc/mirrord/mirrord.toml")
        .replace("mirrord/%i", "mirrord")
        .replace("mirrord-%i", "mirrord")
        .replace(" (%i)", "")
        for line in directives(SEVERAL)
    ]

    assert several == directives(ONE)


@pytest.mark.parametrize(
    ("unit", "instance"), [(ONE, None), (SEVERAL, "blog")], ids=["one site", "one of several sites"]
)
def test_verbs_find_what_the_unit_gives_the_daemon(
    unit: Path, instance: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verb typed in a shell has no STATE_DIRECTORY: the defaults must lead to the daemon's folders."""
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    given = {key: value.replace("%i", instance or "") for key, value in settings(unit).items()}
    context = {"folder": DEFAULT_FILE.parent, "instance": instance}

    found = Settings.model_validate(tomllib.loads(without("state")), context=context)

    assert found.state.directory == Path("/var/lib") / given["StateDirectory"]
    assert found.control.socket == Path("/run") / given["RuntimeDirectory"] / "control.sock"
    assert f" -c /etc/mirrord/{instance or 'mirrord'}.toml run" in given["ExecStart"]


@BOTH
def test_a_bad_configuration_is_not_tried_again_and_again(unit: Path) -> None:
    """Exit code 78 waits for a person; everything else is tried again, for ever."""
    service = settings(unit)

    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("always", "78")
    assert "StartLimitIntervalSec=0" in unit.read_text()


@BOTH
def test_systemd_is_told_how_we_are(unit: Path) -> None:
    """Ready when it is, reloaded by HUP, watched."""
    service = settings(unit)

    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    assert service["ExecReload"].endswith("kill -HUP $MAINPID")
    assert int(service["WatchdogSec"]) > 0
    assert int(service["TimeoutStopSec"]) > 5


def test_the_user_is_made_by_sysusers(tmp_path: Path) -> None:
    """The unit's user and the socket's group come from one line."""
    (tmp_path / "etc").mkdir()
    line = ["systemd-sysusers", f"--root={tmp_path}", str(UNITS / "mirrord.sysusers.conf")]
    subprocess.run(line, check=True, capture_output=True)

    user, group = settings(ONE)["User"], settings(ONE)["Group"]
    assert re.search(
        rf"^{user}:x:\d+:\d+:mirrord:/var/lib/mirrord:", (tmp_path / "etc/passwd").read_text(), re.MULTILINE
    )
    assert re.search(rf"^{group}:", (tmp_path / "etc/group").read_text(), re.MULTILINE)
