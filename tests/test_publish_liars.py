"""Publishing to a host that acknowledges what it loses or mixes up."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirrord.errors import Cancelled, Refused
from mirrord.hosts import Progress
from mirrord.hosts.files import Files
from mirrord.hosts.host import FilesHost
from mirrord.hosts.sftp.session import SftpFiles
from mirrord.publish import Published, publish
from tests.conftest import Lab
from tests.demo_hosts import account_of, host_of
from tests.grounds import account_on
from tests.lab.liar import Liar, Lie, dates_wrongly, garbles, loses, truncates, zeroes
from tests.publishing import Publisher

SITE = {b"index.html": b"<h1>one</h1>", b"a/page.html": b"<p>page</p>" * 50, b"photo.png": os.urandom(70_000)}
NEXT = {**SITE, b"index.html": b"<h1>two</h1>", b"a/new.html": b"<p>new</p>"}


class Account:
    """An account on a host that tells lies from a moment on."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.host = stack.enter_context(host_of(folder))
        self.stack = stack

    def lies(self, lie: Lie, **how: Any) -> Liar:
        """From now on the host does this to what it acknowledges."""
        liar = Liar(self.folder, lie, **how)
        self.host.gate = liar
        return liar

    def open(self) -> Files:
        """Log in."""
        files = SftpFiles.open(account_of(self.host))
        self.stack.callback(files.close)
        return files

    def publish(self, publisher: Publisher, site: dict[bytes, bytes], **terms: Any) -> Published:
        """Take and publish once."""
        return publisher.publish(self.open(), publisher.take(site), **terms)

    def served(self) -> dict[bytes, bytes]:
        """What readers get, without our own files."""
        top = (self.folder / "current").resolve()
        found = (path for path in top.rglob("*") if path.is_file())
        return {
            os.fsencode(path.relative_to(top)): path.read_bytes() for path in found if ".well-known" not in path.parts
        }


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    """An account that is honest as yet."""
    with ExitStack() as stack:
        yield Account(tmp_path / "account", stack)


@pytest.mark.parametrize(
    ("lie", "how"),
    [
        pytest.param(loses, "missing", id="loses acknowledged writes"),
        pytest.param(truncates, "not as sent, by the listing", id="truncates"),
        pytest.param(dates_wrongly, "not as sent, by the listing", id="sets another mtime"),
        pytest.param(garbles, "not as sent, though the listing says so", id="stores a wrong byte"),
        pytest.param(zeroes, "not as sent, though the listing says so", id="has zeros in place of what it lost"),
    ],
)
def test_a_host_that_lies_is_caught_before_readers_are_led_on(account: Account, lie: Lie, how: str) -> None:
    """Each lie by the step that can see it; the file is sent once more, then a person is told its name."""
    publisher = Publisher()
    account.publish(publisher, SITE)
    liar = account.lies(lie, ending=b"index.html")

    with pytest.raises(Refused) as refused:
        account.publish(publisher, NEXT)

    assert f"1 paths are {how} ('index.html' first)" in str(refused.value)
    assert liar.told == 2
    assert account.served() == SITE


@pytest.mark.parametrize("lie", [loses, truncates, dates_wrongly, garbles, zeroes])
def test_what_was_lost_once_is_sent_once_more(account: Account, lie: Lie) -> None:
    """A disk that was full for a moment, a bit that flipped on the way to it: no person need be asked."""
    publisher = Publisher()
    account.publish(publisher, SITE)
    account.lies(lie, ending=b"index.html", times=1)

    published = account.publish(publisher, NEXT)

    assert (published.result, published.verified) == ("published", "read")
    assert published.files_sent == 3  # two that changed, one of them twice
    assert account.served() == NEXT


def test_copies_of_a_wrong_file_are_not_trusted_either(account: Account) -> None:
    """Files with the same content are one file with several names on the mirror: wrong under one, wrong under all."""
    publisher = Publisher()
    account.lies(garbles, ending=b".html", times=1)
    twins = {b"a.html": b"<p>the same</p>", b"b.html": b"<p>the same</p>", b"z.png": b"\x89"}

    published = account.publish(publisher, twins)

    assert published.result == "published"
    assert account.served() == twins


def test_what_an_earlier_try_sent_is_read_back_too(account: Account) -> None:
    """It was broken off before anybody looked, and what it sent is kept: acknowledged, and stored wrongly."""
    publisher = Publisher()
    signed = publisher.take(SITE)
    liar = account.lies(garbles, ending=b"index.html", times=1)
    stop = threading.Event()

    def stop_in_the_end(done: Progress) -> None:
        if done.files_done == done.files_total:
            stop.set()

    with pytest.raises(Cancelled):
        publisher.publish(account.open(), signed, seen=stop_in_the_end, stop=stop)
    published = publisher.publish(account.open(), signed)

    assert (published.result, published.files_sent, liar.told) == ("published", 1, 2)
    assert account.served() == SITE


def test_without_reading_back_a_wrong_byte_stays_unseen_and_the_result_says_how_far_it_was_looked(
    account: Account,
) -> None:
    """Honest limits: the step that was reached is part of the result, so nobody takes "listed" for more."""
    publisher = Publisher()
    account.lies(garbles, ending=b"index.html")

    published = account.publish(publisher, SITE, read_back=0)

    assert (published.verified, published.files_read_back) == ("listed", 0)
    assert account.served() != SITE


def test_how_much_was_read_back_is_told(account: Account) -> None:
    """Of a usual change everything, our own files too; what was linked was looked at when it was sent."""
    publisher = Publisher()
    account.publish(publisher, SITE)

    published = account.publish(publisher, NEXT)

    own = 4
    assert (published.verified, published.files_sent, published.files_read_back) == ("read", 2, 2 + own)
    assert published.bytes_read_back > len(NEXT[b"index.html"]) + len(NEXT[b"a/new.html"])


def test_a_page_edited_in_place_is_found_when_readers_saw_it_wrong(account: Account) -> None:
    """The host rewrites a page under the same size and mtime: a probe names no file, and mending reads them all."""
    publisher = Publisher()
    signed = publisher.take(SITE)
    publisher.publish(account.open(), signed)
    garbles((account.folder / "current" / "a/page.html").resolve())

    published = publisher.publish(account.open(), signed, mend=True)

    assert (published.result, published.files_sent) == ("published", 1)
    assert account.served() == SITE


def test_what_was_mended_is_read_back_as_well(account: Account) -> None:
    """A disk that dies under one block: what is sent again is stored as wrongly, and a person has to be told."""
    publisher = Publisher()
    signed = publisher.take(SITE)
    publisher.publish(account.open(), signed)
    (account.folder / "current" / "a/page.html").unlink()

    honest = publisher.publish(account.open(), signed, mend=True)
    (account.folder / "current" / "a/page.html").unlink()
    account.lies(garbles, ending=b".0")  # what is mended is sent under such a name first

    assert (honest.result, honest.verified, honest.files_read_back) == ("published", "read", 1)
    with pytest.raises(Refused, match="after mending, 1 paths are not as sent, though the listing says so"):
        publisher.publish(account.open(), signed, mend=True)


def test_a_server_that_hashes_tells_of_a_wrong_byte_without_sending_it_back(lab: Lab) -> None:
    """ProFTPD reads what it has and says its SHA-256: everything that was sent is proven for a few bytes a file."""
    proftpd = lab.proftpd()
    publisher = Publisher()
    signed = publisher.take({**SITE, b"empty": b""})

    def open_host() -> FilesHost:
        files = SftpFiles.open(account_on(proftpd, "www"))
        files.believe(replace(files.traits, hashes=("sha256",)))
        return FilesHost(files, "lyon")

    def tamper(done: Progress) -> None:
        if done.files_done == done.files_total:
            for page in (proftpd.root / "www" / "staging").glob("*/index.html"):
                zeroes(page)

    with closing(open_host()) as host, pytest.raises(Refused, match=r"not as sent, though .* \('index.html' first\)"):
        publish(host, publisher.task(signed, read_back=0, seen=tamper))
    with closing(open_host()) as host:
        published = publish(host, publisher.task(signed, read_back=0))

    own = 4
    assert (published.verified, published.files_hashed, published.files_read_back) == ("hashed", len(SITE) + own, 0)
