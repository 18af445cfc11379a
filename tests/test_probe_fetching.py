"""How a copy's files are fetched for whoever checks it, and what a copy on the web is found to be."""

from __future__ import annotations

import gzip
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from mirrord.errors import BadUsage, MirrordError, Unavailable
from mirrord.probe import fetcher
from mirrord.trust.copy import Asked, Kind, verify_copy
from mirrord.trust.keys import Signers
from mirrord.trust.places import Fetch
from tests.conftest import Lab
from tests.lab.ports import free_port
from tests.lab.waiting import until
from tests.lab.webserver import Answer, Request, files, redirect
from tests.probing import KEY, NAME, PAGES, Account


@pytest.fixture
def account(lab: Lab) -> Account:
    account = Account(lab.folder("account"))
    account.publish(PAGES)
    return account


def whole(fetch: Fetch, path: bytes, limit: int = 1_000_000) -> bytes:
    return b"".join(fetch(path, limit))


def asked(account: Account) -> Asked:
    (manifest,) = account.known
    moment = time.mktime(time.strptime(manifest[:8], "%Y%m%d"))
    return Asked(Signers.of([KEY.public]), NAME, moment)


def test_a_copy_on_nginx_is_intact_for_any_reader(account: Account, lab: Lab) -> None:
    """The whole way of `mirrord verify https://...`: by name, by TLS, several files at once."""
    server = lab.nginx(account.current, certificate=lab.ca.issue("localhost"))
    fetch = fetcher(f"https://localhost:{server.port}/", ca_file=str(lab.ca.file))
    with ThreadPoolExecutor(4) as crew:
        verdict = verify_copy(fetch, asked(account), executor=crew)

    assert verdict.kind is Kind.INTACT, verdict.text
    assert verdict.checked == len(PAGES)


def test_a_copy_in_a_folder_of_a_server_is_found_there(account: Account, lab: Lab) -> None:
    """Whoever carries a copy may put it beside other things."""
    server = lab.nginx(account.root)

    verdict = verify_copy(fetcher(f"http://127.0.0.1:{server.port}/current"), asked(account))
    assert verdict.kind is Kind.INTACT, verdict.text


def test_an_altered_copy_is_told(account: Account, lab: Lab) -> None:
    """And which page it is."""
    (account.current / "it" / "notizie.html").write_bytes(b"pills\n")
    server = lab.nginx(account.current)

    verdict = verify_copy(fetcher(server.url), asked(account), dice=random.Random(1))
    assert verdict.kind is Kind.ALTERED
    assert list(verdict.altered) == [b"it/notizie.html"]


def test_connections_are_kept_from_file_to_file(account: Account, lab: Lab) -> None:
    """Ten thousand files must not take ten thousand handshakes."""
    server = lab.nginx(account.current, start=False)
    firsts = server.folder / "firsts.log"
    first = ('set $first "";', "if ($connection_requests = 1) { set $first 1; }")
    server.lines = (*first, f"access_log {server.folder / 'access.log'};", f"access_log {firsts} combined if=$first;")
    server.start()
    fetch = fetcher(server.url)

    assert [whole(fetch, b"style.css") for _ in range(20)] == [PAGES[b"style.css"]] * 20
    until(lambda: len(server.requests()) == 20)
    assert len(firsts.read_text().splitlines()) == 1


def test_at_most_so_many_bytes_are_read(account: Account, lab: Lab) -> None:
    """A file without end is no reason to read without end."""
    server = lab.web(lambda _: Answer(200, b"x" * 5_000_000))

    assert len(whole(fetcher(server.url), b"page", 100_000)) == 100_000


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_a_server_does_not_show_is_not_there(lab: Lab, status: int) -> None:
    """Readers cannot have it, whatever the reason."""
    server = lab.web(lambda _: Answer(status))

    with pytest.raises(FileNotFoundError):
        whole(fetcher(server.url), b"page")


@pytest.mark.parametrize("status", [204, 206, 429, 500, 503])
def test_what_a_server_could_not_say_is_unavailable(lab: Lab, status: int) -> None:
    """That nobody can tell is another answer than that it is missing."""
    server = lab.web(lambda _: Answer(status))

    with pytest.raises(Unavailable, match=f"is answered with {status}"):
        whole(fetcher(server.url), b"page")


def test_a_redirect_on_the_same_host_is_followed_and_another_is_not(lab: Lab) -> None:
    """A copy elsewhere is another copy: it has to be asked for by its own name."""

    def answer(request: Request) -> Answer:
        if request.path == "/moved":
            return redirect("/here")
        return redirect("https://elsewhere.example/") if request.path == "/away" else Answer(200, b"here")

    server = lab.web(answer)

    assert whole(fetcher(server.url), b"moved") == b"here"
    with pytest.raises(Unavailable, match=r"redirects to https://elsewhere\.example/"):
        whole(fetcher(server.url), b"away")


@pytest.mark.parametrize("where", ["before", "within"])
def test_a_server_that_drips_is_given_up(lab: Lab, where: str) -> None:
    """A hostile copy must not keep a reader for ever."""
    page = Answer(silent=True) if where == "before" else Answer(200, b"x" * 1000).slowly(1, 0.05)
    server = lab.web(lambda _: page)
    began = time.monotonic()

    with pytest.raises(Unavailable, match="is too slow"):
        whole(fetcher(server.url, patience=0.5), b"page")
    assert time.monotonic() - began < 10


def test_a_long_file_has_time_as_long_as_it_comes(lab: Lab) -> None:
    """A film over a thin line is no drip."""
    server = lab.web(lambda _: Answer(200, b"x" * 500_000).slowly(65_536, 0.15))

    assert len(whole(fetcher(server.url, patience=0.5), b"film")) == 500_000


def test_a_file_that_breaks_off_is_unavailable(lab: Lab) -> None:
    """Half a file has other bytes, and nobody altered it."""
    server = lab.web(lambda _: Answer(200, b"x" * 100, cut_after=50))

    with pytest.raises(Unavailable, match="breaks off before its end"):
        whole(fetcher(server.url), b"page")


@pytest.mark.parametrize("limit", [10, 300_000, 10_000_000])
def test_what_is_packed_unasked_is_unpacked_within_the_limit(lab: Lab, limit: int) -> None:
    """Browsers do it; and a few packed bytes may stand for gigabytes."""
    body = random.Random(1).randbytes(100_000) + b"x" * 400_000
    server = lab.web(lambda _: Answer(200, gzip.compress(body), {"Content-Encoding": "gzip"}))

    assert whole(fetcher(server.url), b"page", limit) == body[:limit]


def test_a_packed_file_is_left_as_it_is(lab: Lab) -> None:
    """Servers label `notes.gz` as packed: its bytes are those on the wire."""
    packed = gzip.compress(b"notes\n")
    server = lab.web(lambda _: Answer(200, packed, {"Content-Encoding": "gzip"}))

    assert whole(fetcher(server.url), b"notes.gz") == packed


@pytest.mark.parametrize(("encoding", "text"), [("br", "nobody asked for"), ("gzip", "packed badly")])
def test_what_cannot_be_unpacked_is_unavailable(lab: Lab, encoding: str, text: str) -> None:
    """It may be right; nobody can tell."""
    server = lab.web(lambda _: Answer(200, b"nonsense", {"Content-Encoding": encoding}))

    with pytest.raises(Unavailable, match=text):
        whole(fetcher(server.url), b"page")


def test_an_expired_certificate_is_not_overlooked(account: Account, lab: Lab) -> None:
    """The probe goes on in such a case, since its own clock may be wrong; a reader's browser does not."""
    server = lab.web(files(account.current), certificate=lab.ca.expired("localhost"))
    fetch = fetcher(f"https://localhost:{server.port}/", ca_file=str(lab.ca.file))

    for _ in range(2):
        with pytest.raises(Unavailable, match="its certificate for localhost has expired"):
            whole(fetch, b"style.css")


def test_a_proxy_of_the_environment_is_used(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a company's wall there is no other way, and whoever checks a copy is a reader."""
    proxy = lab.web(lambda r: replace(Answer(200, r.path.encode())))
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)

    assert whole(fetcher("http://copy.example/"), b"a page") == b"http://copy.example/a%20page"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://127.0.0.1:{port}/", "cannot be reached: connection refused"),
        ("http://nowhere.invalid/", "cannot be reached"),
    ],
)
def test_a_host_that_is_not_there_is_unavailable(url: str, text: str) -> None:
    """In words that follow a file's name."""
    with pytest.raises(Unavailable, match=text):
        whole(fetcher(url.format(port=free_port())), b"page")


@pytest.mark.parametrize("url", ["ftp://example.org/", "example.org", "http://", "http://[", "http://a:b/", "/srv/www"])
def test_a_bad_url_is_told(url: str) -> None:
    """One sentence, and the exit code for what was typed wrongly."""
    with pytest.raises(BadUsage, match="is no URL") as caught:
        fetcher(url)
    assert isinstance(caught.value, MirrordError)
