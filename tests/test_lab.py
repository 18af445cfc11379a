"""The lab proves itself: what the other tests rely on is there, and breaks as it is told to."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self

import pytest
import requests

from tests.conftest import Lab
from tests.lab import handbook as handbook_files
from tests.lab.bind import Bind
from tests.lab.knot import Knot
from tests.lab.nameserver import NameServer, NoReply, zone_text
from tests.lab.nginx import Nginx
from tests.lab.ports import free_port
from tests.lab.processes import alive, halt, knock, program, send
from tests.lab.proxy import Direction, Proxy
from tests.lab.sshd import Sshd
from tests.lab.waiting import steadily, until
from tests.lab.webserver import Answer, Request, files, redirect

WWW = "www 60 A 127.0.0.1"


def sftp(host: Sshd, *commands: str, port: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the `sftp` command against a host of the lab."""
    known = host.folder / "known_hosts"
    known.write_text(f"[{host.host}]:{port or host.port} {host.host_key_line}\n")
    options = [f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "BatchMode=yes"]
    command = [program("sftp"), "-b", "-", "-P", str(port or host.port), "-i", str(host.client_key_path)]
    command += [part for option in options for part in ("-o", option)]
    destination = f"{host.user}@{f'[{host.host}]' if ':' in host.host else host.host}"
    return subprocess.run(
        [*command, "-F", "none", destination],
        input="\n".join(commands) + "\n",
        text=True,
        capture_output=True,
        timeout=20,
        check=False,
    )


def update(
    server: NameServer, *lines: str, endpoint: tuple[str, int] | None = None
) -> subprocess.CompletedProcess[str]:
    """Send an RFC 2136 update with `nsupdate`."""
    key = server.key.write_nsupdate(server.folder / "nsupdate.key")
    address, port = endpoint or (server.address, server.port)
    script = "\n".join([f"server {address} {port}", f"zone {server.zone}", *lines, "send", ""])
    return subprocess.run(
        [program("nsupdate"), "-v", "-k", str(key)],
        input=script,
        text=True,
        capture_output=True,
        timeout=20,
        check=False,
    )


MOVE = ("update delete www.example.org A", "update add www.example.org 60 A 127.0.0.9")


@pytest.mark.parametrize("chroot", [False, True], ids=["not locked in", "locked in"])
def test_an_account_takes_files_by_sftp_and_nothing_else(
    sshd: Callable[..., Sshd], tmp_path: Path, *, chroot: bool
) -> None:
    """This is what hosters give: files come in, `current` may be a link, and there is no shell."""
    host = sshd(chroot=chroot)
    (tmp_path / "page").write_text("hello")
    www = host.remote_root

    done = sftp(host, f"put {tmp_path / 'page'} {www}/page", f"ln -s page {www}/current")

    assert done.returncode == 0, done.stderr
    assert (host.root / "current").read_text() == "hello"
    if os.geteuid() == 0:
        assert (host.root / "page").owner() == "nobody"
    shell = [program("ssh"), "-F", "none", "-i", str(host.client_key_path), "-p", str(host.port), "-o", "BatchMode=yes"]
    shell += ["-o", f"UserKnownHostsFile={host.folder / 'known_hosts'}", f"{host.user}@{host.host}", "id"]
    assert "uid=" not in subprocess.run(shell, capture_output=True, text=True, input="", timeout=20, check=False).stdout


def test_an_account_locked_in_cannot_see_out(sshd: Callable[..., Sshd]) -> None:
    """A path from outside never leads out of a chrooted account: the lab's must be one."""
    host = sshd(chroot=True)

    done = sftp(host, "ls -1 /")

    assert [line for line in done.stdout.splitlines() if not line.startswith("sftp>")] == ["/www"]


def test_an_account_may_have_a_closed_umask(sshd: Callable[..., Sshd], tmp_path: Path) -> None:
    """With umask 077 what is uploaded is unreadable to the web server: hosts like that exist."""
    host = sshd(umask="077")
    (tmp_path / "page").write_text("hello")
    (tmp_path / "page").chmod(0o644)

    sftp(host, f"put {tmp_path / 'page'}", "mkdir folder")

    assert (host.root / "page").stat().st_mode & 0o777 == 0o600
    assert (host.root / "folder").stat().st_mode & 0o777 == 0o700


def test_a_host_may_refuse_requests(sshd: Callable[..., Sshd], tmp_path: Path) -> None:
    """Hosts without hard links are met: the lab can be one."""
    host = sshd(denied=["hardlink"])
    (tmp_path / "page").write_text("hello")

    done = sftp(host, f"put {tmp_path / 'page'}", "ln page other")

    assert done.returncode != 0
    assert [path.name for path in host.root.iterdir()] == ["page"]


def test_another_key_is_not_let_in(sshd: Callable[..., Sshd]) -> None:
    """Otherwise no test of a wrong key would mean anything."""
    host, other = sshd(), sshd()
    host.client_key_path = other.client_key_path

    done = sftp(host, "ls")

    assert "Permission denied" in done.stderr


def test_a_killed_host_ends_its_sessions_too(sshd: Callable[..., Sshd]) -> None:
    """Sessions outlive their sshd, and would go on taking files on a host that is said to be dead."""
    host = sshd()
    with socket.create_connection((host.host, host.port)) as connection:
        connection.recv(100)
        until(lambda: host.sessions == 1)
        family = host._family()

        host.kill()

        assert not any(map(alive, family))
        assert connection.recv(10_000) is not None
        assert connection.recv(1) == b""


def test_a_paused_server_answers_when_it_is_resumed(sshd: Callable[..., Sshd]) -> None:
    """A host that hangs is not a host that is gone."""
    host = sshd()

    host.pause()

    with socket.create_connection((host.host, host.port)) as connection:
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(3)
        host.resume()
        connection.settimeout(5)
        assert connection.recv(3) == b"SSH"


def test_a_halted_process_does_nothing_more_at_all() -> None:
    """Go's servers answer by many threads: one that runs when SIGSTOP comes may go on for a moment."""
    several = (
        "import os, threading\n"
        "def write():\n"
        "    while True: os.write(1, b'x')\n"
        "for _ in range(8): threading.Thread(target=write).start()\n"
    )
    with subprocess.Popen([sys.executable, "-c", several], stdout=subprocess.PIPE) as busy:
        assert busy.stdout is not None
        out = busy.stdout.fileno()
        os.set_blocking(out, False)
        try:
            for _ in range(30):
                until(lambda: taken(out) > 0)
                halt([busy.pid])
                taken(out)
                steadily(lambda: taken(out) == 0, 0.02, "silence")
                send(signal.SIGCONT, [busy.pid])
        finally:
            busy.kill()


def taken(pipe: int) -> int:
    """Read what is in a pipe now, and return how many bytes that was."""
    size = 0
    with contextlib.suppress(BlockingIOError):
        while part := os.read(pipe, 65536):
            size += len(part)
    return size


def site(folder: Path, text: str = "hello") -> Path:
    """Make a site of one page."""
    (folder / "current").mkdir(parents=True)
    (folder / "current" / "index.html").write_text(text)
    return folder / "current"


def test_a_mirror_is_read_by_https_under_the_services_name(lab: Lab, nginx: Callable[..., Nginx]) -> None:
    """The certificate is for the name, the connection goes to the address: as with readers."""
    mirror = nginx(site(lab.folder("site")), certificate=lab.ca.issue(["www.example.org", "127.0.0.1"]))

    answer = requests.get(mirror.url, verify=str(lab.ca.file), timeout=5)

    assert answer.text == "hello"
    until(lambda: len(mirror.requests()) == 1)


def test_mirrors_may_share_a_port_on_different_addresses(lab: Lab, nginx: Callable[..., Nginx]) -> None:
    """A service's mirrors differ by address alone: a DNS answer carries no port."""
    port = free_port()
    for number in (1, 2):
        nginx(site(lab.folder("site"), f"mirror {number}"), addresses=[f"127.0.0.{number}"], port=port)

    answers = [requests.get(f"http://127.0.0.{number}:{port}/", timeout=5).text for number in (1, 2)]

    assert answers == ["mirror 1", "mirror 2"]


def test_a_mirror_serves_ipv6_too(lab: Lab, nginx: Callable[..., Nginx]) -> None:
    """Families fail one by one: the lab needs both."""
    mirror = nginx(site(lab.folder("site")), addresses=["127.0.0.1", "::1"])

    assert requests.get(f"http://[::1]:{mirror.port}/", timeout=5).text == "hello"


def test_a_reloaded_mirror_has_its_new_lines(lab: Lab, nginx: Callable[..., Nginx]) -> None:
    """Misbehaviour begins while the mirror runs."""
    mirror = nginx(site(lab.folder("site")))

    mirror.lines = ("return 503;",)
    mirror.reload()

    until(lambda: requests.get(mirror.url, timeout=5).status_code == 503)


@pytest.mark.parametrize("fault", ["expired", "for another name", "of another authority"])
def test_a_bad_certificate_is_refused(lab: Lab, nginx: Callable[..., Nginx], tmp_path: Path, fault: str) -> None:
    """A certificate that the lab calls bad must be bad to others than mirrord."""
    if fault == "expired":
        certificate = lab.ca.expired("127.0.0.1")
    elif fault == "for another name":
        certificate = lab.ca.issue("other.example.org")
    else:
        certificate = type(lab.ca)(tmp_path).issue("127.0.0.1")
    mirror = nginx(site(lab.folder("site")), certificate=certificate)

    with pytest.raises(requests.exceptions.SSLError):
        requests.get(mirror.url, verify=str(lab.ca.file), timeout=5)


@pytest.mark.parametrize("second", [Knot, Bind])
@pytest.mark.parametrize("first", [Knot, Bind])
def test_a_signed_update_reaches_the_secondary_by_notify(
    lab: Lab, first: type[NameServer], second: type[NameServer]
) -> None:
    """Readers ask any of a zone's servers: one that does not follow gives them the dead address."""
    primary, secondary = lab.followed(first, second, text=zone_text("example.org", [WWW]))

    done = update(primary, *MOVE)

    assert done.returncode == 0, done.stderr
    assert primary.query("www.example.org", "A") == {"127.0.0.9"}
    until(lambda: secondary.holds("www.example.org", "A", "127.0.0.9"))
    assert secondary.serial() == primary.serial() > 1


@pytest.mark.parametrize("kind", [Knot, Bind])
def test_an_update_without_the_key_is_refused(lab: Lab, kind: type[NameServer]) -> None:
    """Otherwise no test of a wrong key would mean anything."""
    (primary,) = lab.followed(kind, text=zone_text("example.org", [WWW]))
    (other,) = lab.followed(kind)

    done = update(other, *MOVE, endpoint=(primary.address, primary.port))

    assert done.returncode != 0
    assert primary.query("www.example.org", "A") == {"127.0.0.1"}


@pytest.mark.parametrize("kind", [Knot, Bind])
def test_a_restarted_primary_keeps_updates_unless_its_old_zone_is_put_back(lab: Lab, kind: type[NameServer]) -> None:
    """A name server restored from a backup forgets where readers were sent."""
    (primary,) = lab.followed(kind, text=zone_text("example.org", [WWW]))
    update(primary, *MOVE)

    primary.kill()
    primary.start()
    kept = primary.query("www.example.org", "A")
    primary.restart_with_old_zone()

    assert kept == {"127.0.0.9"}
    assert primary.query("www.example.org", "A") == {"127.0.0.1"}


def test_a_secondary_may_forward_updates(lab: Lab) -> None:
    """A hidden primary is reached through its secondaries."""
    primary = lab.bind(text=zone_text("example.org", [WWW]), start=False)
    secondary = lab.following(Bind, primary, forwards=True)
    primary.start()
    secondary.start()

    done = update(secondary, *MOVE)

    assert done.returncode == 0, done.stderr
    assert primary.query("www.example.org", "A") == {"127.0.0.9"}


def test_a_dead_name_server_is_no_reply_and_not_an_empty_answer(lab: Lab) -> None:
    """A test that takes silence for an empty zone would pass for the wrong reason."""
    server = lab.knot()
    server.kill()

    with pytest.raises(NoReply):
        server.query("www.example.org", "A")


def test_the_resolver_caches_for_as_long_as_it_is_told(lab: Lab) -> None:
    """Readers follow when the old answer's time to live is over, not before: the lab must show that."""
    text = zone_text("example.org", [WWW, "brief 1 A 127.0.0.1"])
    (primary,) = lab.followed(Knot, text=text)
    resolver = lab.unbound(primary)
    asked = [resolver.query(f"{name}.example.org", "A") for name in ("www", "brief")]

    update(primary, *MOVE, "update delete brief.example.org A", "update add brief.example.org 1 A 127.0.0.9")

    assert asked == [{"127.0.0.1"}, {"127.0.0.1"}]
    until(lambda: resolver.query("brief.example.org", "A") == {"127.0.0.9"})
    assert resolver.query("www.example.org", "A") == {"127.0.0.1"}
    resolver.flush()
    assert resolver.query("www.example.org", "A") == {"127.0.0.9"}


def test_the_resolver_asks_the_secondary_when_the_primary_is_dead(lab: Lab) -> None:
    """A name server lost with the datacentre must not take the readers' answers with it."""
    primary, secondary = lab.followed(Knot, Bind, text=zone_text("example.org", [WWW]))
    resolver = lab.unbound(primary, secondary)

    primary.kill()

    until(lambda: resolver.query("www.example.org", "A") == {"127.0.0.1"}, within=30)


def test_a_reader_reads_by_name(lab: Lab) -> None:
    """The whole way of a reader, from the name to the page, in one call."""
    mirror = lab.nginx(site(lab.folder("site")), certificate=lab.ca.issue("www.example.org"))
    resolver = lab.unbound(lab.knot(text=zone_text("example.org", [WWW])))

    page = lab.reader(resolver).get(f"https://www.example.org:{mirror.port}/index.html")

    assert page == b"hello"


class Echo:
    """A server that sends back what it gets; for the proxy."""

    def __init__(self) -> None:
        self.got = bytearray()
        self._listener = socket.create_server(("127.0.0.1", free_port()))
        self.target = ("127.0.0.1", int(self._listener.getsockname()[1]))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    while data := connection.recv(65536):
                        self.got += data
                        connection.sendall(data)
                except OSError:
                    continue

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def test_the_proxy_takes_its_time(proxy: Callable[..., Proxy]) -> None:
    """A round trip through it lasts as long as it says, also for much data in flight."""
    with Echo() as echo:
        slow = proxy(*echo.target, round_trip=0.2)
        with socket.create_connection((slow.host, slow.port)) as connection:
            connection.sendall(b"x" * 1000)
            connection.settimeout(0.15)

            with pytest.raises(TimeoutError):
                connection.recv(1)
            connection.settimeout(5)
            assert connection.recv(1) == b"x"


@pytest.mark.parametrize("direction", ["up", "down"])
def test_the_proxy_cuts_after_exactly_so_many_bytes(proxy: Callable[..., Proxy], direction: Direction) -> None:
    """Every point of a publish is a point at which the line may be cut; the next connection works."""
    with Echo() as echo:
        line = proxy(*echo.target)
        line.cut_after(70_001, direction)
        received = bytearray()

        with socket.create_connection((line.host, line.port)) as connection:
            sender = threading.Thread(target=_send_all, args=(connection, b"x" * 200_000))
            sender.start()
            try:
                while data := connection.recv(65536):
                    received += data
            except ConnectionResetError:
                pass
            sender.join()

        if direction == "up":
            until(lambda: len(echo.got) == 70_001)
        else:
            assert len(received) == 70_001
        assert line.passed(direction) == 70_001
        with socket.create_connection((line.host, line.port)) as again:
            again.sendall(b"still here")
            assert again.recv(100) == b"still here"


def _send_all(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except OSError:
        return


def test_a_stalled_proxy_loses_nothing(proxy: Callable[..., Proxy]) -> None:
    """A stalled line keeps the connection open and silent; when it goes on, all arrives."""
    with Echo() as echo:
        line = proxy(*echo.target)
        with socket.create_connection((line.host, line.port)) as connection:
            line.stall("down")
            connection.sendall(b"hello")
            until(lambda: echo.got == b"hello")
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                connection.recv(5)

            line.resume()

            connection.settimeout(5)
            assert connection.recv(5) == b"hello"


def test_a_proxy_that_is_down_refuses_until_it_is_up(proxy: Callable[..., Proxy]) -> None:
    """A dead host refuses, and is back on the same port."""
    with Echo() as echo:
        line = proxy(*echo.target)
        with socket.create_connection((line.host, line.port)) as standing:
            line.down()

            with pytest.raises(ConnectionResetError):
                standing.recv(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((line.host, line.port))
        line.up()
        with socket.create_connection((line.host, line.port)) as again:
            again.sendall(b"back")
            assert again.recv(4) == b"back"


def test_sftp_works_through_the_proxy(sshd: Callable[..., Sshd], proxy: Callable[..., Proxy], tmp_path: Path) -> None:
    """The proxy carries a real protocol of many small messages unharmed."""
    host = sshd()
    line = proxy(host.host, host.port, round_trip=0.01)
    (tmp_path / "page").write_bytes(os.urandom(3_000_000))

    done = sftp(host, f"put {tmp_path / 'page'}", port=line.port)

    assert done.returncode == 0, done.stderr
    assert (host.root / "page").read_bytes() == (tmp_path / "page").read_bytes()


def test_a_name_servers_answer_can_be_lost_on_the_way(lab: Lab) -> None:
    """Applied, but the answer never came: the case that a switch must get right."""
    server = lab.knot(text=zone_text("example.org", [WWW]))
    line = lab.proxy(server.address, server.port, udp=True)
    line.stall("down")

    sending = threading.Thread(target=lambda: update(server, *MOVE, endpoint=(line.host, line.port)))
    sending.start()

    until(lambda: server.query("www.example.org", "A") == {"127.0.0.9"})
    line.resume()
    sending.join()


def test_a_web_server_says_what_it_is_told(lab: Lab) -> None:
    """Hostile mirrors are scripts: another status, a redirect, a wrong date, a page of a real folder."""
    folder = site(lab.folder("site"))

    def script(request: Request) -> Answer:
        if request.path == "/away":
            return redirect("https://www.example.org/")
        if request.path == "/yesterday":
            return Answer(200, b"", {"Date": "Fri, 20 Nov 2026 00:00:00 GMT"})
        return files(folder)(request)

    server = lab.web(script, certificate=lab.ca.issue("127.0.0.1"))
    ask = partial(requests.get, verify=str(lab.ca.file), timeout=5, allow_redirects=False)

    away, yesterday, page, nothing = (ask(server.url + path) for path in ("away", "yesterday", "", "gone"))

    assert (away.status_code, away.headers["Location"]) == (301, "https://www.example.org/")
    assert yesterday.headers["Date"] == "Fri, 20 Nov 2026 00:00:00 GMT"
    assert (page.text, nothing.status_code) == ("hello", 404)
    assert [request.path for request in server.requests] == ["/away", "/yesterday", "/", "/gone"]


def test_a_web_server_may_drip_or_say_nothing(lab: Lab) -> None:
    """Timeouts of each read never notice a body that drips; and silence must be bearable too."""
    answers = {"/drip": Answer(200, b"x" * 100).slowly(1, 0.01), "/mute": Answer(silent=True)}
    server = lab.web(lambda request: answers[request.path])

    dripped = requests.get(server.url + "drip", timeout=2)

    assert dripped.elapsed.total_seconds() < 0.5
    assert len(dripped.content) == 100
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(server.url + "mute", timeout=0.3)


def test_a_web_server_may_cut_a_body(lab: Lab) -> None:
    """A body that ends before its length is no body."""
    server = lab.web(lambda _: Answer(200, b"x" * 1000, cut_after=10))

    with pytest.raises(requests.exceptions.RequestException):
        _ = requests.get(server.url, timeout=5).content


def test_a_wire_can_be_unplugged_and_a_family_lost(lab: Lab) -> None:
    """Whoever loses the network must notice that it is its own: for that it has to be lost."""
    wire = lab.wire()
    there = wire.there
    server = lab.knot(text=zone_text("example.org", [WWW]), address=there.address, prefix=there.prefix)
    mirror = lab.nginx(site(lab.folder("site")), addresses=[there.address, there.address6], prefix=there.prefix)
    host = lab.sshd(address=there.address, prefix=there.prefix)

    def reached(address: str) -> bool:
        try:
            return knock(address, mirror.port, wire.here.prefix) == b""
        except OSError:
            return False

    at_first = reached(there.address), reached(there.address6)
    wire.silence(4)
    silenced = reached(there.address), reached(there.address6)
    wire.heal(4)
    healed = reached(there.address)
    wire.unplug()
    unplugged = reached(there.address), reached(there.address6)
    wire.plug()

    assert at_first == (True, True)
    assert silenced == (False, True)
    assert healed
    assert unplugged == (False, False)
    assert reached(there.address)
    assert reached(there.address6)
    assert server.query("www.example.org", "A") == {"127.0.0.1"}
    assert knock(host.host, host.port, wire.here.prefix, greeting=4) == b"SSH-"


def test_a_small_disk_fills_up_and_has_room_again(lab: Lab) -> None:
    """A full disk is met for real, with the system's own error."""
    disk = lab.small_disk(256)

    disk.fill()

    with pytest.raises(OSError, match="No space left"):
        (disk.folder / "more").write_bytes(b"x" * 10_000)
    disk.free()
    assert (disk.folder / "more").write_bytes(b"x" * 10_000) == 10_000


def test_free_ports_differ(tmp_path: Path) -> None:
    """Tests run side by side: a number is given to one of them only."""
    ports = [free_port() for _ in range(200)]

    other = "from tests.lab.ports import free_port; print(*(free_port() for _ in range(200)))"
    python = [shutil.which("python3") or "python3", "-c", other]
    theirs = subprocess.run(python, capture_output=True, text=True, check=True).stdout.split()

    assert len({*map(str, ports), *theirs}) == 400


def test_waiting_ends_as_soon_as_the_condition_holds_and_says_what_was_missing() -> None:
    """A wait that times out must say for what: it is the first line that a person reads."""
    answers = iter([False, False, True])

    assert until(lambda: next(answers))
    with pytest.raises(TimeoutError, match=r"waited 0.05 s for the moon"):
        until(lambda: False, within=0.05, what="the moon")
    with pytest.raises(AssertionError, match="did not last: the peace"):
        steadily(lambda: next(iter([False])), during=0.05, what="the peace")


def test_the_real_site_is_there() -> None:
    """The end-to-end test and the benchmark publish it."""
    found = [path for path in handbook_files.package_root().rglob("*") if path.is_file()]

    assert len(found) > 7_000
    assert (handbook_files.site_root() / "en-US" / "index.html").is_file()


def test_a_server_that_cannot_start_says_why(lab: Lab) -> None:
    """A failed fixture shows the server's own words, not a timeout."""
    mirror = lab.nginx(site(lab.folder("site")), lines=["nonsense;"], start=False)

    with pytest.raises(AssertionError, match="unknown directive"):
        mirror.start()


def test_the_test_ca_is_trusted_by_the_standard_library(lab: Lab) -> None:
    """Strict checkers (Python 3.13) want key identifiers and usages: the certificates have them."""
    mirror = lab.nginx(site(lab.folder("site")), certificate=lab.ca.issue("www.example.org"))
    context = ssl.create_default_context(cafile=lab.ca.file)
    context.verify_flags |= ssl.VERIFY_X509_STRICT

    with (
        socket.create_connection((mirror.address, mirror.port)) as plain,
        context.wrap_socket(plain, server_hostname="www.example.org") as secure,
    ):
        assert secure.version() in ("TLSv1.2", "TLSv1.3")
