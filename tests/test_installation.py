"""The README's own words, carried out on a fresh machine with a real systemd."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.folders import new_folder, remove
from tests.lab.machine import run_on_a_machine

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ("README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "requirements.lock", "config.example.toml")

# A host as docs/hosts.md describes it, on loopback, and the configuration of whoever just followed the README.
HOST = r"""
useradd --system --no-create-home --shell /usr/sbin/nologin -p '*' mirror
install -d /srv/mirror && install -d -o mirror /srv/mirror/www
install -d /run/sshd /srv/example/public
echo '<h1>Home</h1>' >/srv/example/public/index.html
ssh-keygen -q -t ed25519 -N '' -f /root/host_key
{
    echo 'Port 2222
ListenAddress 127.0.0.1
HostKey /root/host_key
AuthorizedKeysFile /root/authorized_keys
StrictModes no
UsePAM no
Subsystem sftp internal-sftp'
    cat /out/match
} >/root/sshd_config
cp /etc/mirrord/sftp_ed25519.pub /root/authorized_keys
chmod 755 /root && chmod 644 /root/authorized_keys
/usr/sbin/sshd -f /root/sshd_config -E /out/sshd.log
cat >/etc/mirrord/mirrord.toml <<TOML
[site]
name = "example"
url = "http://www.example.org/"
[source]
path = "/srv/example/public"
[signing]
key = { file = "/etc/mirrord/signing_ed25519" }
[probe]
every = "1s"
references = []
[[mirror]]
name = "milan"
role = "primary"
place = "dc-milan"
addresses = ["127.0.0.1"]
[mirror.sftp]
host = "127.0.0.1"
port = 2222
user = "mirror"
key = { file = "/etc/mirrord/sftp_ed25519" }
host_key = "$(cut -d' ' -f1,2 /root/host_key.pub)"
root = "www"
TOML
"""

# What an operator sees and does afterwards.
AFTER = r"""
systemctl is-active mirrord
test -e /srv/mirror/www/current/index.html
pid=$(systemctl show -p MainPID --value mirrord)
test "$(stat -c '%a %U %G' /run/mirrord/control.sock)" = "660 mirrord mirrord"
test "$(stat -c %U /var/lib/mirrord/journal.sqlite)" = mirrord
mirrord status
mirrord hold publishing --reason 'a test' --json | grep -q '"by": "root"'
systemctl reload mirrord
systemctl is-active mirrord
kill -KILL "$pid"
for _ in $(seq 200); do
    new=$(systemctl show -p MainPID --value mirrord)
    [ "$new" != "$pid" ] && [ "$new" != 0 ] && systemctl is-active -q mirrord && break
    sleep 0.1
done
mirrord status | grep 'a test'
began=$(date +%s)
systemctl stop mirrord
test $(($(date +%s) - began)) -lt 5
test "$(systemctl show -p Result --value mirrord)" = success
mirrord status | grep 'no daemon'
runuser -u mirror -- env HOME=/nowhere mirrord demo
echo ALL WELL
"""


@pytest.fixture
def out() -> Iterator[Path]:
    """A folder with what the README is read beside: a clone of the project, and its dependencies (no network there)."""
    folder = new_folder("machine")
    clone = folder / "mirrord"
    clone.mkdir()
    for name in SHIPPED:
        shutil.copy(ROOT / name, clone / name)
    for name in ("mirrord", "systemd", "docs"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(wheels(), folder / "wheels")
    yield folder
    remove(folder)


def wheels() -> Path:
    """Return a folder with all that pip needs, fetched once for each lock."""
    target = ROOT / ".make" / "wheels"
    lock = (ROOT / "requirements.lock").read_text()
    if not (target / "lock").exists() or (target / "lock").read_text() != lock:
        shutil.rmtree(target, ignore_errors=True)
        with tempfile.TemporaryDirectory() as folder:  # with the Python that the machine will use
            subprocess.run(["/usr/bin/python3", "-m", "venv", folder], check=True)
            pip = [f"{folder}/bin/pip", "download", "--quiet", "--only-binary", ":all:", "-d", str(target)]
            subprocess.run([*pip, "--require-hashes", "-r", str(ROOT / "requirements.lock")], check=True)
            subprocess.run([*pip, "hatchling"], check=True)
        (target / "lock").write_text(lock)
    return target


def commands(page: str, heading: str) -> str:
    """Return the shell commands below a heading, up to the next of its rank."""
    text = (ROOT / page).read_text()
    section = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return "".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))


@pytest.mark.timeout(280)
def test_whoever_follows_the_readme_has_a_service_that_runs_reloads_restarts_and_stops(out: Path) -> None:
    """An installation that only its author can carry out is none."""
    match = re.search(r"```\n# /etc/ssh/.*?\n(.*?)```", (ROOT / "docs/hosts.md").read_text(), re.DOTALL)
    assert match is not None
    (out / "match").write_text(match[1])
    install = commands("README.md", "Install")
    before, tee, after = install.partition("mirrord config example | sudo tee /etc/mirrord/mirrord.toml\n")
    assert tee
    offline = "export PIP_NO_INDEX=1 PIP_FIND_LINKS=/out/wheels PIP_DISABLE_PIP_VERSION_CHECK=1\n"
    offline += "echo 'Defaults env_keep += \"PIP_NO_INDEX PIP_FIND_LINKS\"' >/etc/sudoers.d/pip\n"

    status, said = run_on_a_machine(
        f"set -eux\ncd /out/mirrord\n{offline}{before}{tee}{HOST}{after}{AFTER}", out, within=250
    )
    assert status == 0, said[-5000:]
    assert "ALL WELL" in said
