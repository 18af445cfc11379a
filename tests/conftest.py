"""The lab's servers as fixtures.

`lab` makes servers for one test and stops them after it; `module_lab` does for all tests of a module. `sshd`, `nginx`,
`knot`, `bind`, `unbound`, `proxy`, `web` are the calls of `lab` under their own names. What a server said last is added
to the report of a test that failed.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.lab import handbook as handbook_files
from tests.lab import processes
from tests.lab.bind import Bind
from tests.lab.bird import Bird
from tests.lab.ca import Authority
from tests.lab.disks import SmallDisk
from tests.lab.exabgp import ExaBgp
from tests.lab.folders import new_folder, remove
from tests.lab.knot import Knot
from tests.lab.nameserver import NameServer
from tests.lab.namespaces import Wire
from tests.lab.nginx import Nginx
from tests.lab.powerdns import PowerDns
from tests.lab.processes import Server
from tests.lab.proftpd import ProFtpd
from tests.lab.proxy import Proxy
from tests.lab.pythonic import AsyncSsh, Paramiko
from tests.lab.rclone import Rclone
from tests.lab.reader import Reader
from tests.lab.sshd import Sshd
from tests.lab.unbound import Unbound
from tests.lab.webserver import Script, WebServer

Kind = TypeVar("Kind", bound=Server)


def pytest_sessionstart() -> None:
    """Take interrupts, and let what tests start take them: tests that a script runs in the background ignore them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Lab:
    """Makes servers, started unless `start=False`, and stops them in the end; keywords go to the server's class."""

    def __init__(self, ca: Authority) -> None:
        self.ca = ca
        self._stack = ExitStack()

    def folder(self, name: str) -> Path:
        """Return a new folder that servers running as other users may enter; it is removed in the end."""
        folder = new_folder(name)
        self._stack.callback(remove, folder)
        return folder

    def sshd(self, *, start: bool = True, **how: Any) -> Sshd:
        """Return an SFTP host."""
        return self._keep(Sshd(self.folder("sshd"), **how), start=start)

    def proftpd(self, *, start: bool = True, **how: Any) -> ProFtpd:
        """Return an SFTP host as many shared hosters run it."""
        return self._keep(ProFtpd(self.folder("proftpd"), **how), start=start)

    def rclone(self, *, start: bool = True, **how: Any) -> Rclone:
        """Return an SFTP host written in Go."""
        return self._keep(Rclone(self.folder("rclone"), **how), start=start)

    def asyncssh(self, *, start: bool = True, **how: Any) -> AsyncSsh:
        """Return an SFTP host that runs on asyncssh."""
        return self._keep(AsyncSsh(self.folder("asyncssh"), **how), start=start)

    def paramiko(self, *, start: bool = True, **how: Any) -> Paramiko:
        """Return an SFTP host that runs on paramiko."""
        return self._keep(Paramiko(self.folder("paramiko"), **how), start=start)

    def nginx(self, document_root: Path, *, start: bool = True, **how: Any) -> Nginx:
        """Return a web server; by HTTPS if given `certificate=lab.ca.issue(...)`."""
        return self._keep(Nginx(self.folder("nginx"), document_root, **how), start=start)

    def knot(self, zone: str = "example.org", text: str = "", *, start: bool = True, **how: Any) -> Knot:
        """Return Knot as a primary."""
        return self._keep(Knot(self.folder("knot"), zone, text, **how), start=start)

    def bind(self, zone: str = "example.org", text: str = "", *, start: bool = True, **how: Any) -> Bind:
        """Return BIND as a primary."""
        return self._keep(Bind(self.folder("bind"), zone, text, **how), start=start)

    def powerdns(self, zone: str = "example.org", text: str = "", *, start: bool = True, **how: Any) -> PowerDns:
        """Return PowerDNS as a primary."""
        return self._keep(PowerDns(self.folder("powerdns"), zone, text, **how), start=start)

    def followed(
        self,
        primary: type[NameServer],
        *followers: type[NameServer],
        zone: str = "example.org",
        text: str = "",
        **how: Any,
    ) -> tuple[NameServer, ...]:
        """Return a primary and secondaries beside it that follow it, all started: `lab.followed(Knot, Bind)`."""
        first = primary(self.folder(primary.__name__.lower()), zone, text, **how)
        where = {word: how[word] for word in ("address", "prefix") if word in how}
        rest = [kind.following(first, self.folder(kind.__name__.lower()), **where) for kind in followers]
        return tuple(self._keep(server, start=True) for server in (first, *rest))

    def following(self, kind: type[NameServer], primary: NameServer, **how: Any) -> NameServer:
        """Return a secondary of a primary that is not started yet, not started itself."""
        return self._keep(kind.following(primary, self.folder(kind.__name__.lower()), **how), start=False)

    def unbound(self, *servers: NameServer, start: bool = True, **how: Any) -> Unbound:
        """Return a resolver for the zones of the servers."""
        return self._keep(Unbound(self.folder("unbound"), servers, **how), start=start)

    def reader(self, resolver: Unbound) -> Reader:
        """Return a reader who trusts the test CA."""
        reader = Reader(resolver, self.ca.file)
        self._stack.callback(reader.close)
        return reader

    def proxy(self, host: str, port: int, **how: Any) -> Proxy:
        """Return a proxy in front of a server."""
        return self._stack.enter_context(Proxy((host, port), **how))

    def web(self, script: Script, **how: Any) -> WebServer:
        """Return a web server that says what `script` says."""
        return self._stack.enter_context(WebServer(script, **how))

    def wire(self, **how: Any) -> Wire:
        """Return two network namespaces with a wire between them."""
        return self._stack.enter_context(Wire(**how))

    def small_disk(self, kibibytes: int, name: str = "disk") -> SmallDisk:
        """Return a file system of its own that is soon full."""
        return self._stack.enter_context(SmallDisk(self.folder(name), kibibytes))

    def close(self) -> None:
        """Stop everything, last made first."""
        self._stack.close()

    def bird(self, name: str, text: str, *, start: bool = True, **how: Any) -> Bird:
        """Return a BGP speaker or router."""
        return self._keep(Bird(name, self.folder(name), text, **how), start=start)

    def exabgp(self, text: str, *, start: bool = True, **how: Any) -> ExaBgp:
        """Return a BGP speaker that is told by pipes what to say."""
        return self._keep(ExaBgp(self.folder("exabgp"), text, **how), start=start)

    def _keep(self, server: Kind, *, start: bool) -> Kind:
        self._stack.callback(server.stop)
        if start:
            server.start()
        return server


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return the certificate authority that the tests' readers trust."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def lab(ca: Authority) -> Iterator[Lab]:
    """Return a lab for one test."""
    lab = Lab(ca)
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def module_lab(ca: Authority) -> Iterator[Lab]:
    """Return a lab that the tests of one module share."""
    lab = Lab(ca)
    yield lab
    lab.close()


@pytest.fixture
def sshd(lab: Lab) -> Callable[..., Sshd]:
    """Return what makes SFTP hosts."""
    return lab.sshd


@pytest.fixture
def nginx(lab: Lab) -> Callable[..., Nginx]:
    """Return what makes web servers."""
    return lab.nginx


@pytest.fixture
def knot(lab: Lab) -> Callable[..., Knot]:
    """Return what makes Knot primaries."""
    return lab.knot


@pytest.fixture
def bind(lab: Lab) -> Callable[..., Bind]:
    """Return what makes BIND primaries."""
    return lab.bind


@pytest.fixture
def unbound(lab: Lab) -> Callable[..., Unbound]:
    """Return what makes resolvers."""
    return lab.unbound


@pytest.fixture
def proxy(lab: Lab) -> Callable[..., Proxy]:
    """Return what makes proxies."""
    return lab.proxy


@pytest.fixture
def web(lab: Lab) -> Callable[..., WebServer]:
    """Return what makes scripted web servers."""
    return lab.web


@pytest.fixture(scope="session")
def handbook() -> Path:
    """Return a real site of 8,000 files, to be read only: a folder for each language, `en-US/index.html` among them."""
    return handbook_files.site_root()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failed test's report what the servers said last."""
    report = yield
    if report.failed:
        for server in processes.started:
            if server.log.exists():
                report.sections.append((f"{server.name}", server.tail()))
    elif report.when == "teardown":
        processes.started[:] = [server for server in processes.started if server.running]
    return report
