"""`make test` installs servers on a machine without starting any, and leaves the machine's policy as it was.

The real script runs as root in a mount namespace of its own, where /usr/sbin is a folder of the test's and the
package tools are fakes that write down what they saw.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.lab.processes import descendants, root_prefix, send
from tests.lab.waiting import until

SCRIPT = Path(__file__).resolve().parent.parent / "tools" / "install-servers"

# Sees what stands at policy-rc.d while packages are installed.
APT_GET = """#!/bin/sh
echo "$*" >>{here}/asked
case "$*" in *install*) ;; *) exit 0 ;; esac
/usr/sbin/policy-rc.d; echo "policy $?" >>{here}/asked
[ ! -e {here}/hang ] || sleep 60
[ ! -e {here}/fail ] || exit 100
"""
DPKG_QUERY = """#!/bin/sh
[ ! -e {here}/installed ] || echo "ii "
"""


class Machine:
    """A machine with fake package tools; `sbin` is its /usr/sbin."""

    def __init__(self, folder: Path) -> None:
        self.here = folder
        self.sbin = folder / "sbin"
        self.policy = self.sbin / "policy-rc.d"
        self.sbin.mkdir()
        for name, text in {"apt-get": APT_GET, "dpkg-query": DPKG_QUERY, "deb-systemd-helper": "#!/bin/sh\n"}.items():
            (folder / name).write_text(text.format(here=folder))
            (folder / name).chmod(0o755)

    def start(self) -> subprocess.Popen[str]:
        """Start the script."""
        inside = f'mount --bind {self.sbin} /usr/sbin && PATH={self.here}:/usr/bin:/bin exec "$0"'
        command = [*root_prefix(), "unshare", "--mount", "sh", "-c", inside, str(SCRIPT)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)

    def run(self) -> int:
        """Run the script; return its exit code."""
        running = self.start()
        running.communicate(timeout=20)
        return running.returncode

    def asked(self) -> list[str]:
        """Return how the fakes were called, and what the policy said meanwhile."""
        record = self.here / "asked"
        return record.read_text().splitlines() if record.exists() else []

    def left(self) -> list[str]:
        """Return what stands in /usr/sbin."""
        return sorted(path.name for path in self.sbin.iterdir())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine where everything is missing."""
    return Machine(tmp_path)


def test_no_service_may_start_while_packages_are_installed(machine: Machine) -> None:
    """A developer's machine must not serve DNS and SSH to the world because somebody ran the tests."""
    code = machine.run()

    assert code == 0
    assert "policy 101" in machine.asked()
    assert machine.left() == []


@pytest.mark.parametrize("how", ["done", "failed"])
def test_the_machines_own_policy_is_put_back(machine: Machine, how: str) -> None:
    """Who forbade or allowed services to start must find that word unchanged, also when installing failed."""
    machine.policy.write_text("#!/bin/sh\nexit 42\n")
    if how == "failed":
        (machine.here / "fail").touch()

    code = machine.run()

    assert code == (0 if how == "done" else 100)
    assert "policy 101" in machine.asked()
    assert machine.policy.read_text() == "#!/bin/sh\nexit 42\n"
    assert machine.left() == ["policy-rc.d"]


@pytest.mark.parametrize("before", ["", "#!/bin/sh\nexit 42\n"], ids=["no policy", "a policy"])
def test_what_a_killed_run_left_is_put_right_by_the_next(machine: Machine, before: str) -> None:
    """A policy of ours that stayed would keep every later package of the machine from starting its service."""
    if before:
        machine.policy.write_text(before)
    (machine.here / "hang").touch()
    killed = machine.start()
    until(lambda: "policy 101" in machine.asked())
    send(signal.SIGKILL, [killed.pid, *descendants(killed.pid)])
    killed.communicate(timeout=60)
    (machine.here / "hang").unlink()

    code = machine.run()

    assert code == 0
    assert machine.left() == (["policy-rc.d"] if before else [])
    assert not before or machine.policy.read_text() == before


def test_an_interrupted_run_puts_things_back_itself(machine: Machine) -> None:
    """Ctrl-C is how people stop a long installation."""
    (machine.here / "hang").touch()
    running = machine.start()
    until(lambda: "policy 101" in machine.asked())

    send(signal.SIGTERM, [running.pid, *descendants(running.pid)])
    running.communicate(timeout=60)

    assert machine.left() == []


def test_nothing_is_asked_of_apt_where_all_is_there(machine: Machine) -> None:
    """The second `make test` needs neither network nor root."""
    (machine.here / "installed").touch()

    code = machine.run()

    assert code == 0
    assert machine.asked() == []
