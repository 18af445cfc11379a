"""Whether a look gets to its address, in time, as a reader would, and nowhere else."""

from __future__ import annotations

import os
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mirrord.health import FaultKind, Observation
from mirrord.probe import Marker
from tests.conftest import Lab
from tests.lab.ca import Authority, Certificate
from tests.lab.ports import free_port
from tests.lab.webserver import Answer, Request, Script, files, redirect
from tests.probing import CARD, NAME, PAGES, Account


@pytest.fixture
def account(tmp_path: Path) -> Account:
    account = Account(tmp_path)
    account.publish(PAGES)
    return account


def fault(seen: Observation) -> tuple[FaultKind, str] | None:
    return None if seen.fault is None else (seen.fault.kind, seen.fault.text)


@contextmanager
def raw(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve bytes below HTTP; yield the port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):  # the reader went away
                serve(self.request)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("127.0.0.1", free_port()), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()


def dripping(text: bytes, then: bytes = b"") -> Callable[[socket.socket], None]:
    """Send `text`, then one byte of `then` every 50 ms, for ever."""
    gone = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(text)
        while not gone.wait(0.05):
            connection.sendall(then[:1])

    return serve


@pytest.mark.parametrize(
    ("text", "then"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b" ", id="body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0", id="length of a chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: ", b"x", id="header"),
        pytest.param(b"", b"H", id="status line"),
    ],
)
def test_a_dripping_answer_ends_at_the_deadline(account: Account, text: bytes, then: bytes) -> None:
    """A timeout per read would hold a worker for hours while every byte comes in time."""
    with raw(dripping(text, then)) as port:
        seen = account.seen(port, timeout=0.6)

    assert fault(seen) == (FaultKind.SLOW, "is too slow: its answers took longer than the time allowed")
    assert 0.5 < seen.ended - seen.started < 5


def test_a_dripping_tls_answer_ends_at_the_deadline(account: Account, lab: Lab) -> None:
    """The same where the bytes come through TLS."""
    page = Answer(200, b" " * 60_000).slowly(1, 0.05)
    server = lab.web(lambda _: page, certificate=lab.ca.issue(NAME))

    seen = account.seen(server.port, ca_file=str(lab.ca.file), timeout=0.6)
    assert fault(seen) == (FaultKind.SLOW, "is too slow: its answers took longer than the time allowed")
    assert 0.5 < seen.ended - seen.started < 5


@pytest.mark.parametrize("silent", [True, False], ids=["silent", "dripping"])
def test_a_slow_handshake_ends_at_the_deadline(account: Account, lab: Lab, silent: bool) -> None:
    """A handshake that never ends holds nobody either: a TLS record's header, then a byte now and then."""
    with raw(dripping(b"" if silent else b"\x16\x03\x03\x40\x00", b"" if silent else b"\x02")) as port:
        seen = account.seen(port, ca_file=str(lab.ca.file), timeout=0.6)

    assert fault(seen) == (FaultKind.SLOW, "is too slow: the TLS handshake took longer than the time allowed")
    assert 0.5 < seen.ended - seen.started < 5


def test_many_pages_that_are_each_in_time_end_at_the_deadline_together(account: Account, lab: Lab) -> None:
    """The deadline is the whole look's."""
    usual = files(account.current)
    server = lab.web(lambda r: replace(usual(r), piece=1, pause=0.012))

    seen = account.seen(server.port, timeout=0.8)
    assert seen.fault is not None
    assert seen.fault.kind is FaultKind.SLOW
    assert seen.ended - seen.started < 5


@pytest.fixture
def unplugged() -> Iterator[int]:
    """Return a port at which nobody answers a SYN: a listener whose queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for each in waiting:
            each.close()


def test_a_dead_host_is_unreachable_at_the_deadline(account: Account, unplugged: int) -> None:
    """What a lost datacentre looks like: nothing comes back at all."""
    seen = account.seen(unplugged, timeout=0.5)

    assert fault(seen) == (FaultKind.UNREACHABLE, "cannot be reached: no answer in the time allowed")
    assert seen.ended - seen.started < 5


def test_a_closed_port_is_unreachable_at_once(account: Account) -> None:
    """The host is there, its web server is not."""
    seen = account.seen(free_port())

    assert fault(seen) == (FaultKind.UNREACHABLE, "cannot be reached: connection refused")


def test_a_server_that_hangs_up_is_unreachable(account: Account) -> None:
    """A balancer without a backend accepts and closes."""
    with raw(socket.socket.close) as port:
        seen = account.seen(port)

    assert fault(seen) == (FaultKind.UNREACHABLE, "closed the connection before it answered")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        b"HTTP/1.1 301 Moved\r\nLocation: http://[\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nLocation: http://\xff\xfe:99999999/\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: \xff=\x00; Expires=never\r\nDate: \xff\r\nAge: x\r\n\r\n[1]",
        b"HTTP/1.1 " + b"9" * 4000 + b" OK\r\n\r\n",
        bytes(range(256)),
    ],
    ids=lambda nonsense: nonsense[-30:].decode("latin-1").encode("unicode_escape").decode(),
)
def test_nonsense_is_a_fault_and_never_an_exception(account: Account, nonsense: bytes) -> None:
    """Whatever a hostile host sends, the round goes on, and the fault is one printable line."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(nonsense)

    with raw(serve) as port:
        seen = account.seen(port)

    assert seen.fault is not None
    assert seen.fault.kind in (FaultKind.STATUS, FaultKind.CONTENT, FaultKind.REDIRECT, FaultKind.UNREACHABLE)
    assert seen.fault.text.isprintable()
    assert len(seen.fault.text) < 400


def test_a_connection_that_the_server_closed_meanwhile_is_opened_again(account: Account) -> None:
    """A server that ends a kept connection between two requests (a reload, an idle timeout) is not down."""
    usual = files(account.current)

    def one_answer_only(connection: socket.socket) -> None:
        answer = usual(Request("GET", connection.recv(65536).split()[1].decode(), {}, ""))
        connection.sendall(replace(answer, headers={"Connection": "keep-alive"}).head() + answer.body)
        connection.recv(65536)  # the second request gets no answer

    with raw(one_answer_only) as port:
        seen = account.seen(port)

    assert seen.fault is None
    assert seen.right == PAGES.keys()


def test_no_name_server_is_asked_and_no_proxy_used(
    account: Account, lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An environment made for browsers must not make the proxy's health look like the mirror's."""
    proxy = lab.web(lambda _: Answer(502))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, proxy.url)
    (tmp_path / "netrc").write_text(f"machine {NAME} login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    server = lab.web(files(account.current), certificate=lab.ca.issue(NAME))

    seen = account.seen(server.port, ca_file=str(lab.ca.file))  # the name exists in no DNS
    assert seen.fault is None
    assert not proxy.requests
    assert not any("authorization" in request.headers for request in server.requests)


@pytest.mark.parametrize("https", [False, True])
def test_ipv6_is_an_address_like_any_other(account: Account, lab: Lab, https: bool) -> None:
    """Half of the readers come by IPv6."""
    certificate = lab.ca.issue(NAME) if https else None
    server = lab.web(files(account.current), address="::1", certificate=certificate)

    seen = account.seen(server.port, address="::1", https=https, ca_file=str(lab.ca.file))
    assert seen.fault is None
    assert seen.target.family == 6
    assert seen.right == PAGES.keys()


@pytest.mark.parametrize(
    ("url", "host"),
    [("http://www.example.test/", NAME), ("http://www.example.test:8080/", f"{NAME}:8080")],
)
def test_the_host_header_is_what_readers_send(account: Account, lab: Lab, url: str, host: str) -> None:
    """Whichever port we dial: behind it stands a server that knows readers' URLs."""
    server = lab.web(files(account.current))

    seen = account.seen(server.port, url=url)
    assert seen.fault is None
    assert {request.headers["host"] for request in server.requests} == {host}


# TLS


def test_a_valid_certificate_is_no_news_but_its_days(account: Account, lab: Lab) -> None:
    """Days are what warns in time."""
    server = lab.web(files(account.current), certificate=lab.ca.issue(NAME, days=10))

    seen = account.seen(server.port, ca_file=str(lab.ca.file))
    assert seen.fault is None
    assert seen.certificate_days is not None
    assert 9.9 < seen.certificate_days <= 10


def test_there_are_no_certificate_days_without_tls(account: Account, lab: Lab) -> None:
    """A site by plain HTTP has no certificate to renew."""
    server = lab.web(files(account.current))

    assert account.seen(server.port).certificate_days is None


def another_authority(ca: Authority, folder: Path) -> Certificate:
    return Authority(folder / "other", "another CA").issue(NAME)


@pytest.mark.parametrize(
    ("issue", "text"),
    [
        pytest.param(lambda ca, _: ca.issue("other.example"), f"is not valid for the name {NAME}", id="wrong name"),
        pytest.param(another_authority, "comes from no authority that we trust", id="unknown authority"),
        pytest.param(
            lambda ca, _: ca.expired("other.example"), f"is not valid for the name {NAME}", id="wrong name and expired"
        ),
    ],
)
def test_a_certificate_that_readers_browsers_refuse_is_a_fault(
    account: Account, lab: Lab, tmp_path: Path, issue: Callable[[Authority, Path], Certificate], text: str
) -> None:
    """A mirror with a certificate of another name is as good as gone, and its page is not looked at."""
    server = lab.web(files(account.current), certificate=issue(lab.ca, tmp_path))

    seen = account.seen(server.port, ca_file=str(lab.ca.file))
    assert seen.fault is not None
    assert seen.fault.kind is FaultKind.TLS
    assert text in seen.fault.text
    assert not server.requests


def test_the_right_certificate_is_chosen_by_name(account: Account, lab: Lab) -> None:
    """One address serves many names: the name goes out as SNI."""
    heard: list[str | None] = []
    right, wrong = lab.ca.issue(NAME), lab.ca.issue("other.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(wrong.certificate, wrong.key)
    chosen = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    chosen.load_cert_chain(right.certificate, right.key)

    def choose(spoken: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        heard.append(name)
        if name == NAME:
            spoken.context = chosen

    context.sni_callback = choose
    usual = files(account.current)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as spoken:
            answer = usual(Request("GET", spoken.recv(65536).split()[1].decode(), {}, ""))
            spoken.sendall(answer.head() + answer.body)

    with raw(serve) as port:
        seen = account.seen(port, ca_file=str(lab.ca.file))

    assert seen.fault is None
    assert set(heard) == {NAME}


@pytest.mark.parametrize(
    ("issue", "text"),
    [
        (lambda ca: ca.expired(NAME), f"its certificate for {NAME} has expired; renew it there"),
        (
            lambda ca: ca.issue(NAME, since=timedelta(days=-2)),
            f"its certificate for {NAME} is not valid yet; renew it there",
        ),
    ],
    ids=["expired", "not yet valid"],
)
def test_wrong_dates_alone_are_a_fault_of_their_own_and_the_look_goes_on(
    account: Account, lab: Lab, issue: Callable[[Authority], Certificate], text: str
) -> None:
    """When it is our clock that is wrong, this fault is void, and then the rest must have been looked at."""
    server = lab.web(files(account.current), certificate=issue(lab.ca))

    seen = account.seen(server.port, ca_file=str(lab.ca.file))
    assert fault(seen) == (FaultKind.CLOCK, text)
    assert seen.right == PAGES.keys()
    assert seen.date_offset is not None
    assert seen.certificate_days is not None


def test_bad_content_is_told_before_wrong_dates(account: Account, lab: Lab) -> None:
    """A void fault must not hide another one."""
    server = lab.web(lambda _: Answer(404), certificate=lab.ca.expired(NAME))

    seen = account.seen(server.port, ca_file=str(lab.ca.file))
    assert seen.fault is not None
    assert seen.fault.kind is FaultKind.CONTENT


def test_wrong_dates_are_forgiven_to_one_look_only(account: Account, lab: Lab) -> None:
    """The context without dates is not the one that the next look gets."""
    server = lab.web(files(account.current), certificate=lab.ca.expired(NAME))
    account.seen(server.port, ca_file=str(lab.ca.file))

    seen = account.seen(server.port, ca_file=str(lab.ca.file))
    assert seen.fault is not None
    assert seen.fault.kind is FaultKind.CLOCK


def test_a_new_list_of_authorities_is_read_when_the_file_changes(account: Account, lab: Lab, tmp_path: Path) -> None:
    """A daemon runs for months; its administrator replaces the file."""
    other = Authority(tmp_path / "other", "another CA")
    listed = tmp_path / "list.pem"
    listed.write_bytes(other.file.read_bytes())
    server = lab.web(files(account.current), certificate=lab.ca.issue(NAME))
    before = account.seen(server.port, ca_file=str(listed))
    listed.write_bytes(other.file.read_bytes() + lab.ca.file.read_bytes())

    after = account.seen(server.port, ca_file=str(listed))
    assert before.fault is not None
    assert after.fault is None


@pytest.mark.parametrize("content", [None, b"no certificates\n"], ids=["missing", "not a list"])
def test_an_unreadable_list_of_authorities_is_told_as_ours(
    account: Account, lab: Lab, tmp_path: Path, content: bytes | None
) -> None:
    """Nobody should search the mirror for a mistake in our own configuration."""
    listed = tmp_path / "list.pem"
    if content is not None:
        listed.write_bytes(content)
    server = lab.web(files(account.current), certificate=lab.ca.issue(NAME))

    seen = account.seen(server.port, ca_file=str(listed))
    assert seen.fault is not None
    assert seen.fault.kind is FaultKind.TLS
    assert f"the list of authorities {listed}" in seen.fault.text
    assert "mend ca_file" in seen.fault.text


def test_no_list_of_authorities_is_needed_without_tls(account: Account, lab: Lab) -> None:
    """A site by plain HTTP may be looked at from a machine that trusts nobody."""
    server = lab.web(files(account.current))

    assert account.seen(server.port, https=False, ca_file="/nonexistent").fault is None


def test_without_a_list_this_machines_own_decides(account: Account, lab: Lab) -> None:
    """A certificate of our test CA is a stranger's to everybody else."""
    server = lab.web(files(account.current), certificate=lab.ca.issue(NAME))

    seen = account.seen(server.port, https=True)
    assert seen.fault is not None
    assert seen.fault.kind is FaultKind.TLS
    assert "comes from no authority that we trust" in seen.fault.text


def test_plain_http_where_tls_belongs_is_told(account: Account, lab: Lab) -> None:
    """A web server that lost its TLS configuration."""

    def plain(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(Answer(400, b"The plain HTTP request was sent to HTTPS port\n").head())

    with raw(plain) as port:
        seen = account.seen(port, ca_file=str(lab.ca.file))

    assert fault(seen) == (FaultKind.TLS, "cannot be talked to by TLS: wrong version number")


# Redirects


@pytest.mark.parametrize(
    "location",
    [
        "https://canonical.example/",
        f"https://{NAME}.evil.example/",
        "ftp://www.example.test/",
        "//other.example/",
        "javascript:alert(1)",
        "http://[",
        "http://www.example.test:port/",
        "http://127.0.0.1/",
    ],
)
def test_a_mirror_that_sends_readers_elsewhere_is_told_where(account: Account, lab: Lab, location: str) -> None:
    """A mirror that redirects to the canonical name serves nobody once that name is gone."""
    server = lab.web(lambda _: redirect(location))

    seen = account.seen(server.port)
    assert fault(seen) == (FaultKind.REDIRECT, f"redirects to {location}")


def test_a_redirect_to_a_configured_name_is_followed_at_the_same_address(account: Account, lab: Lab) -> None:
    """`example.test` sends readers to `www.example.test`: both are ours, and both must be served from here."""
    usual = files(account.current)
    server = lab.web(lambda r: redirect(f"http://{NAME}{r.path}") if r.headers["host"] == "example.test" else usual(r))

    seen = account.seen(server.port, name="example.test", names=frozenset([NAME, "example.test"]))
    assert seen.fault is None
    assert seen.right == PAGES.keys()


def test_a_configured_name_in_capitals_and_with_a_dot_is_the_same_name(account: Account, lab: Lab) -> None:
    """Names are compared as DNS does."""
    usual = files(account.current)
    server = lab.web(lambda r: redirect("http://WWW.Example.test./") if r.path == "/moved" else usual(r))

    seen = account.seen(server.port, names=frozenset(["WWW.example.TEST"]))
    assert seen.fault is None


def test_three_redirects_are_followed_and_a_fourth_is_not(account: Account, lab: Lab) -> None:
    """Browsers give up as well, later; a circle must end."""
    usual = files(account.current)

    def hops(count: int) -> Script:
        def answer(request: Request) -> Answer:
            path, _, number = request.path.partition("?")
            left = int(number or count)
            return redirect(f"{path}?{left - 1}") if left else usual(replace(request, path=path))

        return answer

    three, four = lab.web(hops(3)), lab.web(hops(4))

    assert account.seen(three.port).fault is None
    assert fault(account.seen(four.port)) == (
        FaultKind.REDIRECT,
        f"redirects more than 3 times, at last to http://{NAME}{CARD}?0",
    )


def test_http_may_send_readers_to_https_at_the_same_address(account: Account, lab: Lab) -> None:
    """The usual upgrade; the certificate is looked at there."""
    secure = lab.web(files(account.current), certificate=lab.ca.issue(NAME, days=10))
    plain = lab.web(lambda r: redirect(f"https://{NAME}:{secure.port}{r.path}"))

    seen = account.seen(plain.port, ca_file=str(lab.ca.file), https=False)
    assert seen.fault is None
    assert seen.right == PAGES.keys()
    assert seen.certificate_days is not None


def test_https_must_not_send_readers_to_http(account: Account, lab: Lab) -> None:
    """They would lose the proof of whom they talk to."""
    server = lab.web(lambda _: redirect(f"http://{NAME}/"), certificate=lab.ca.issue(NAME))

    seen = account.seen(server.port, ca_file=str(lab.ca.file))
    assert fault(seen) == (FaultKind.REDIRECT, f"redirects to http://{NAME}/")


def test_a_server_that_names_its_own_port_is_followed_there(account: Account, lab: Lab) -> None:
    """A redirect of nginx for `/it` leads to `http://name:8080/it/` when it listens on 8080, whatever readers dial."""
    usual = files(account.current)
    server = lab.web(lambda r: usual(r) if "?" in r.path else redirect(f"http://{NAME}:{server.port}{r.path}?again"))

    assert account.seen(server.port).fault is None


def test_the_body_of_a_redirect_is_not_read_without_end(account: Account) -> None:
    """Where it leads stands in its head."""
    usual = files(account.current)

    def serve(connection: socket.socket) -> None:
        path = connection.recv(65536).split()[1].decode()
        if "?" in path:
            answer = usual(Request("GET", path, {}, ""))
            connection.sendall(answer.head() + answer.body)
            return
        connection.sendall(replace(redirect(f"{path}?here"), headers={"Content-Length": "9999999999"}).head()[:-2])
        connection.sendall(f"Location: {path}?here\r\n\r\n".encode() + b"\0" * 100_000)
        connection.recv(1)  # until the reader leaves

    with raw(serve) as port:
        seen = account.seen(port)

    assert seen.fault is None
    assert seen.right == PAGES.keys()


# A mirror whose content is not ours


def test_a_cms_is_well_when_its_markers_show(lab: Lab, tmp_path: Path) -> None:
    """Nothing more can be asked of a system that signs nothing."""
    pages = {"/": "<h1>Città</h1>", "/?feed=rss": "<rss>"}
    server = lab.web(lambda r: Answer(200, pages[r.path].encode()) if r.path in pages else Answer(404))
    markers = (Marker("/", "Città"), Marker("/?feed=rss", "<rss"))

    seen = Account(tmp_path).seen(server.port, cms=True, markers=markers)
    assert seen.fault is None
    assert seen.snapshot is None
    assert [r.path for r in server.requests] == ["/", "/?feed=rss"]


def test_a_cms_without_its_marker_is_told_which(lab: Lab, tmp_path: Path) -> None:
    """`Error establishing a database connection` comes with 200 from some."""
    server = lab.web(lambda _: Answer(200, b"Error establishing a database connection"))

    seen = Account(tmp_path).seen(server.port, cms=True, markers=(Marker("/", "Example"),))
    assert fault(seen) == (FaultKind.MARKER, 'does not show "Example" on /')


def test_a_marker_is_found_in_the_pages_own_encoding(lab: Lab, tmp_path: Path) -> None:
    """Old systems write ISO 8859-1, and say so."""
    page = Answer(200, "Città".encode("latin-1"), {"Content-Type": "text/html; charset=ISO-8859-1"})
    odd = replace(page, body="Città".encode(), headers={"Content-Type": "text/html; charset=klingon"})
    servers = lab.web(lambda _: page), lab.web(lambda _: odd)

    for server in servers:
        seen = Account(tmp_path).seen(server.port, cms=True, markers=(Marker("/", "Città"),))
        assert seen.fault is None


def test_a_cms_without_markers_must_at_least_answer(lab: Lab, tmp_path: Path) -> None:
    """Reachability, TLS and status are judged in any case."""
    server = lab.web(lambda _: Answer(500))

    seen = Account(tmp_path).seen(server.port, cms=True)
    assert fault(seen) == (FaultKind.STATUS, "answers 500 for /")


def test_looks_leave_no_connection_open(account: Account, lab: Lab) -> None:
    """A daemon that looks every 30 s for a year has no descriptor to lose."""
    server = lab.web(files(account.current), certificate=lab.ca.issue(NAME))
    account.seen(server.port, ca_file=str(lab.ca.file))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not read

    for _ in range(5):
        account.seen(server.port, ca_file=str(lab.ca.file), timeout=3.0)
        account.seen(server.port)
    assert len(os.listdir("/proc/self/fd")) <= before + 2  # noqa: PTH208 - the server may be closing its last ones
