"""Which host an account leads to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mirrord.errors import BadConfig, Unavailable
from mirrord.hosts.account import Account
from mirrord.hosts.opening import open_host
from tests.lab.ports import free_port
from tests.lab.sftp import make_key, public_line
from tests.publishing import Publisher


def test_a_folder_of_this_machine_is_a_host_without_a_login(tmp_path: Path) -> None:
    """A mounted disk, the demo, and tests need no SSH."""
    publisher = Publisher()
    host = open_host(Account("lyon", directory=tmp_path, root="www", serve="htdocs"))
    with host.hold(publisher.me(), publisher.known, host.survey()):
        pass
    host.close()

    assert (tmp_path / "www" / ".mirrord").is_dir()


def test_a_host_that_does_not_answer_is_unavailable_and_named(tmp_path: Path) -> None:
    """The mirror's name comes first: with three mirrors an address alone helps nobody."""
    key = make_key(tmp_path / "key")
    account = Account("lyon", "127.0.0.1", free_port(), "mirror", key.read_bytes, public_line(key))

    with pytest.raises(Unavailable, match=r"^lyon: "):
        open_host(account)


def test_a_layout_that_this_version_does_not_have_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    """Better than to publish in a way that the web server does not expect."""
    with pytest.raises(BadConfig, match=r'"lyon".*sideways'):
        open_host(Account("lyon", directory=tmp_path, layout="sideways"))


def test_publishing_loads_no_ssh_until_somebody_logs_in() -> None:
    """`--help` answers at once: paramiko alone takes a tenth of a second to load."""
    code = "import sys, mirrord.publish, mirrord.hosts.opening; print('paramiko' in sys.modules)"

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
