"""Publishing without links to a real OpenSSH account, under the eyes of somebody who reads it by HTTP all the time."""

from __future__ import annotations

import http.client
import threading
import time
from contextlib import closing
from functools import partial
from itertools import count

import pytest

from mirrord.hosts.sftp.session import SftpFiles
from mirrord.publish import Published
from tests.conftest import Lab
from tests.grounds import account_on
from tests.lab.nginx import Nginx
from tests.lab.sshd import EXTENSIONS, Sshd
from tests.lab.waiting import until
from tests.publishing import Publisher

ROUNDS = 12
_numbers = count(1)


class Reader(threading.Thread):
    """Reads the home page and what it needs, over and over."""

    def __init__(self, web: Nginx) -> None:
        super().__init__(name="reader")
        self.web = web
        self.enough = threading.Event()
        self.wrong: list[str] = []
        self.seen: list[int] = []
        self.holes: list[float] = []
        self.began = 0.0

    def run(self) -> None:
        """Read until it is enough; a fault is kept for the test."""
        try:
            with closing(http.client.HTTPConnection(self.web.address, self.web.port, timeout=10)) as self.line:
                while not self.enough.is_set():
                    self.read()
        except Exception as e:  # noqa: BLE001 (the test that waits must see it)
            self.wrong.append(f"{type(e).__name__}: {e}")

    def read(self) -> None:
        """Read a page and its style sheet, and the picture that this names."""
        page = self.get("/")
        if page is None:
            self.began = self.began or time.monotonic()
            return
        if self.began:
            self.holes.append(time.monotonic() - self.began)
            self.began = 0.0
        number = int(page.split()[0])
        if self.seen and number < self.seen[-1]:
            self.wrong.append(f"went back from {self.seen[-1]} to {number}")
        self.seen.append(number)
        sheet = self.get(f"/style-{number}.css")
        picture = self.get(f"/img/{number}.png")
        if None in (sheet, picture) and self.get("/") == page:
            self.wrong.append(f"page {number} needs what is not there")

    def has_seen(self, number: int) -> bool:
        """Whether this round's page was read, or something is wrong."""
        return bool(self.wrong) or number in self.seen[-1:]

    def get(self, path: str) -> bytes | None:
        """Return a body, None where there is nothing."""
        self.line.request("GET", path)
        answer = self.line.getresponse()
        body = answer.read()
        return body if answer.status == http.client.OK else None

    def close(self) -> None:
        """End it."""
        self.enough.set()
        if self.is_alive():
            self.join()


def site(number: int) -> dict[bytes, bytes]:
    """Every round has a page, and files of its own that it needs."""
    more = {b"page-%d.html" % n: b"%d page" % number for n in range(20)}
    return {b"index.html": b"%d" % number, b"style-%d.css" % number: b"c", b"img/%d.png" % number: b"p", **more}


@pytest.fixture(scope="module")
def sshd(module_lab: Lab) -> Sshd:
    """Return an account whose server has no extensions: no hard links, nothing is replaced in one step."""
    return module_lab.sshd(umask="022", denied=EXTENSIONS)


@pytest.fixture(scope="module")
def rich(module_lab: Lab) -> Sshd:
    """Return an account whose server can do everything."""
    return module_lab.sshd(umask="022")


def watched(lab: Lab, sshd: Sshd, layout: str) -> tuple[Reader, list[Published]]:
    """Publish round after round under the eyes of a reader."""
    publisher, name = Publisher(), f"watched-{next(_numbers)}"
    web = lab.nginx(sshd.root / name / "current")
    reader, results = Reader(web), []
    with closing(reader), closing(SftpFiles.open(account_on(sshd, name))) as files:
        for number in range(1, ROUNDS + 1):
            signed = publisher.take(site(number))
            results.append(publisher.publish(files, signed, layout=layout, keep=2, allow_deletions=True))
            if number == 1:
                reader.start()
            until(partial(reader.has_seen, number), what="the reader to see it")
    return reader, results


def test_between_two_folders_readers_find_nothing_for_about_no_time(lab: Lab, rich: Sshd) -> None:
    """The two renames travel together: what lies between them is the server's, not the line's."""
    reader, results = watched(lab, rich, "rename")

    assert reader.wrong == []
    assert set(reader.seen) == set(range(1, ROUNDS + 1))
    assert all(0 < result.gap_seconds < 1 for result in results[1:])
    assert sum(reader.holes) < 1
    assert {result.mixture_seconds for result in results} == {0.0}


def test_a_page_whose_files_are_replaced_one_by_one_never_needs_what_is_not_there(lab: Lab, rich: Sshd) -> None:
    """Where files are replaced in one step, no reader ever finds nothing."""
    reader, results = watched(lab, rich, "inplace")

    assert reader.wrong == []
    assert reader.holes == []
    assert all(result.mixture_seconds > 0 for result in results)
    assert {result.gap_seconds for result in results} == {0.0}


def test_on_a_server_without_any_extension_a_file_is_missing_for_a_moment(lab: Lab, sshd: Sshd) -> None:
    """Away, and the new one in its place: both travel together, and the moment between them is measured."""
    reader, results = watched(lab, sshd, "inplace")

    assert reader.wrong == []
    assert sum(reader.holes) < 1
    assert all(0 < result.gap_seconds < 1 for result in results[1:])


def test_a_server_that_keeps_no_order_takes_a_round_trip_between_the_two_renames(lab: Lab) -> None:
    """The second rename may only be sent when the first was answered; the result says how long that took."""
    publisher, proftpd = Publisher(), lab.proftpd()
    line = lab.proxy(proftpd.host, proftpd.port, round_trip=0.05)
    with closing(SftpFiles.open(account_on(proftpd, "slow", port=line.port))) as files:
        first, second = (publisher.publish(files, publisher.take(site(n)), layout="rename") for n in (1, 2))

    assert first.gap_seconds == 0.0, "readers had nothing before"
    assert 0.04 < second.gap_seconds < 2
