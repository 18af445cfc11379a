"""What every `Files` promises, asked of the demo's SFTP host: each test of that suite, over our own codec both ways."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mirrord.demo.sftpd import SftpHost
from tests import test_hosts_files
from tests.demo_hosts import demo_ground, host_of
from tests.grounds import Ground
from tests.test_hosts_files import files

__all__ = ["files"]

globals().update({name: test for name, test in vars(test_hosts_files).items() if name.startswith("test_")})


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpHost]:
    """Return a host that the tests share."""
    with host_of(tmp_path_factory.mktemp("account")) as host:
        yield host


@pytest.fixture
def here(host: SftpHost) -> Iterator[Ground]:
    """Return an account whose root does not exist yet."""
    yield from demo_ground(host)
