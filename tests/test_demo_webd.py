"""The demo's web server: what readers get of a folder, and what they do not get."""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mirrord.demo.plug import free_port, stop_all
from mirrord.demo.webd import WebHost
from tests.lab.waiting import until
from tests.probing import PAGES, Account


@pytest.fixture
def account(tmp_path: Path) -> Account:
    account = Account(tmp_path / "account")
    account.root.mkdir()
    account.publish(PAGES)
    return account


@pytest.fixture
def server(account: Account) -> Iterator[WebHost]:
    with WebHost(account.current) as server:
        yield server


def get(server: WebHost, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(server.address, server.port, timeout=5)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_mirrord_finds_nothing_wrong_with_it(account: Account, server: WebHost) -> None:
    """It is looked at by the same probe as any mirror."""
    seen = account.seen(server.port)

    assert seen.fault is None
    assert seen.right == PAGES.keys()


def test_pages_say_what_they_are(server: WebHost) -> None:
    """A browser must not guess the letters of Arabic or Chinese."""
    assert get(server, "/")[1]["Content-Type"] == "text/html; charset=utf-8"
    assert get(server, "/style.css")[1]["Content-Type"] == "text/css; charset=utf-8"
    assert get(server, "/.well-known/mirrord/snapshot.json")[1]["Content-Type"] == "application/json"


def test_a_folder_is_shown_by_its_index_at_its_own_url(server: WebHost) -> None:
    """Relative links of a page need the slash."""
    assert get(server, "/it")[0] == 301
    assert get(server, "/it")[1]["Location"] == "/it/"
    assert get(server, "/it/")[2] == PAGES[b"it/index.html"]


@pytest.mark.parametrize("path", ["/nothing.html", "/style.css/", "/it/style.css", "/%FF"])
def test_what_is_not_there_is_not_found(server: WebHost, path: str) -> None:
    """A page of words, not a broken connection."""
    assert get(server, path)[0] == 404


@pytest.mark.parametrize("path", ["/../secret", "/%2e%2e/secret", "/it/%2e%2e/%2e%2e/%2e%2e/secret", "/a%00b", "/./"])
def test_nothing_outside_is_shown(account: Account, server: WebHost, path: str) -> None:
    """Whoever tries the demo has other files."""
    (account.root / "secret").write_bytes(b"secret")

    status, _, body = get(server, path)
    assert status == 400
    assert body != b"secret"


def test_a_head_has_no_body_and_a_known_page_is_not_sent_again(server: WebHost) -> None:
    """As any web server does it."""
    status, headers, body = get(server, "/", "HEAD")

    assert (status, body) == (200, b"")
    assert headers["Content-Length"] == str(len(PAGES[b"index.html"]))
    assert get(server, "/", If_None_Match=headers["ETag"])[0] == 304


def test_what_is_no_get_is_refused(server: WebHost) -> None:
    """It only shows pages."""
    assert get(server, "/", "DELETE")[0] == 501


def test_one_connection_serves_many_pages(server: WebHost) -> None:
    """Readers' browsers keep theirs."""
    connection = http.client.HTTPConnection(server.address, server.port, timeout=5)
    bodies = []
    for path in ("/", "/nothing", "/it", "/it/", "/style.css"):
        connection.request("GET", path)
        bodies.append(connection.getresponse().read())
    connection.close()

    assert bodies[0] == PAGES[b"index.html"]
    assert bodies[-1] == PAGES[b"style.css"]


def test_a_switch_of_releases_is_seen_at_once_and_never_half(account: Account, server: WebHost) -> None:
    """Each answer is of one release, while releases change as fast as they can."""
    bodies = {b"%d" % n * 50_000 for n in range(2)}
    for serial, body in enumerate(sorted(bodies), 2):
        account.publish({b"index.html": body}, serial)
    releases = list(account.known)[1:]
    stop = threading.Event()

    def switch() -> None:
        while not stop.is_set():
            for release in releases:
                account.switch(release)

    with ThreadPoolExecutor(1) as crew:
        switching = crew.submit(switch)
        seen = {get(server, "/")[2] for _ in range(200)}
        stop.set()
        switching.result()
    assert seen == bodies


def test_unplugged_it_refuses_connections_and_breaks_those_that_are_open(server: WebHost) -> None:
    """What readers meet when a datacentre is lost."""
    port = server.port
    open_one = socket.create_connection((server.address, port), 5)
    until(lambda: len(server._open) == 1)
    server.unplug()

    with open_one:
        assert open_one.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        get(server, "/")
    server.plug()
    assert server.port == port
    assert get(server, "/")[0] == 200


def test_servers_share_a_port_at_several_addresses(account: Account) -> None:
    """Readers' URLs have one port, whichever host they are sent to."""
    addresses = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
    port = free_port(*addresses)
    servers = [WebHost(account.current, address=address, port=port).start() for address in addresses]

    assert [get(server, "/")[0] for server in servers] == [200, 200, 200]
    stop_all(servers)
    assert not any(server.running for server in servers)


def test_an_address_that_this_machine_does_not_have_is_told() -> None:
    """Other systems have one loopback address only."""
    with pytest.raises(OSError, match="assign"):
        free_port("127.0.0.1", "192.0.2.1")


def test_stopping_leaves_no_thread_or_descriptor_behind(account: Account) -> None:
    """The demo cleans up."""
    before, descriptors = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted
    with WebHost(account.current) as server:
        get(server, "/")

    until(lambda: set(threading.enumerate()) <= before)
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208 - counted
