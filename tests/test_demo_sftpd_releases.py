"""What every host of the layout `releases` promises, asked of the demo's SFTP host: each test of that suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mirrord.demo.sftpd import SftpHost
from tests import test_host_contract
from tests.demo_hosts import demo_ground, host_of
from tests.grounds import Ground
from tests.test_host_contract import publisher

__all__ = ["publisher"]

globals().update({name: test for name, test in vars(test_host_contract).items() if name.startswith("test_")})


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpHost]:
    """Return a host that the tests share."""
    with host_of(tmp_path_factory.mktemp("account")) as host:
        yield host


@pytest.fixture
def here(host: SftpHost) -> Iterator[Ground]:
    """Return an account without anything in it."""
    yield from demo_ground(host)
