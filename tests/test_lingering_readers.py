"""A reader with an open page, on real servers: SFTP takes the releases, nginx serves them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from mirrord.hosts import Linger
from mirrord.manifest import Signed
from mirrord.publish import Published
from mirrord.trust.copy import Asked, Kind, verify_copy
from tests.conftest import Lab
from tests.grounds import Ground, ground
from tests.lab.nginx import Nginx
from tests.lab.sftp import SftpServer
from tests.publishing import IDENTITY, Publisher

STYLE = re.compile(r'href="([^"]+[.]css)"')
ONE = {
    b"index.html": b'<link rel="stylesheet" href="css/site.1.css"><a href="news.html">news</a>',
    b"news.html": b"old news",
    b"css/site.1.css": b"body{color:red}",
    b"logo.svg": b"<svg/>",
}
TWO = {
    b"index.html": b'<link rel="stylesheet" href="css/site.2.css">',
    b"css/site.2.css": b"body{}",
    b"logo.svg": b"<svg/>",
}


@pytest.fixture(scope="module")
def servers() -> dict[str, SftpServer]:
    """Keep the servers that the tests share."""
    return {}


@pytest.fixture(
    params=[("sshd", "releases"), ("sshd", "rename"), ("sshd", "inplace"), ("proftpd", "rename")], ids="-".join
)
def here(
    request: pytest.FixtureRequest, module_lab: Lab, servers: dict[str, SftpServer], tmp_path: Path
) -> Iterator[Ground]:
    """Return an account without anything in it."""
    kind, layout = request.param
    yield from ground(kind, module_lab, servers, tmp_path, layout)


def publish(here: Ground, publisher: Publisher, signed: Signed) -> Published:
    """Publish on a fresh connection, with the usual grace."""
    linger = Linger(3600.0, publisher.taken.get)
    files = here.connect()
    return publisher.publish(files, signed, layout=here.layout, linger=linger, allow_deletions=True)


class Browser:
    """Fetches a page, and what it refers to when it likes."""

    def __init__(self, server: Nginx) -> None:
        self.url = server.url

    def get(self, path: str) -> str | int:
        """Return what is there, or the status."""
        try:
            with urlopen(self.url + path, timeout=10) as answer:  # noqa: S310 (our own server)
                text: str = answer.read().decode()
                return text
        except HTTPError as e:
            return e.code


def test_an_open_page_finds_its_style_sheet_for_an_hour(here: Ground, lab: Lab, tmp_path: Path) -> None:
    """
    The page was fetched before the switch, its style sheet is fetched after it, as slow readers do; a page that was
    withdrawn is gone at once, and after the hour all is. Who checks the copy meanwhile needs no tool of ours.
    """
    publisher = Publisher()
    one, two = publisher.take(ONE), publisher.take(TWO)
    publish(here, publisher, one)
    assert here.root is not None
    top = here.root / "current"
    here.root.parent.chmod(0o755)  # the account's umask keeps the web server out of what stands above
    browser = Browser(lab.nginx(top))
    page = browser.get("")
    assert isinstance(page, str)
    (style,) = STYLE.findall(page)

    publish(here, publisher, two)

    assert browser.get(style) == "body{color:red}"
    assert browser.get("news.html") == 404
    assert browser.get("css/site.2.css") == "body{}"
    asked = Asked(publisher.signers, IDENTITY, publisher.clock.timestamp())
    verdict = verify_copy(top, asked)
    assert verdict.kind is Kind.INTACT, verdict.text
    assert [(found.snapshot.serial, found.files) for found in verdict.lingering] == [(1, 1)]
    assert openssh_believes(top / ".well-known/mirrord/previous" / one.snapshot.id, publisher, tmp_path)

    here.an_hour_passes()
    publish(here, publisher, two)

    assert browser.get(style) == 404
    assert browser.get("css/site.2.css") == "body{}"
    assert sorted(path.name for path in (top / ".well-known/mirrord").iterdir()) == [
        "SHA256SUMS",
        "SHA256SUMS.sig",
        "snapshot.json",
        "snapshot.json.sig",
    ]
    assert here.litter() == []


def openssh_believes(folder: Path, publisher: Publisher, scratch: Path) -> bool:
    """Check both texts as any reader can."""
    allowed = scratch / "allowed"
    allowed.write_text(f"{IDENTITY} {publisher.key.public}\n")
    command = ["ssh-keygen", "-Y", "verify", "-f", str(allowed), "-I", IDENTITY]
    for text, namespace in (("SHA256SUMS", "manifest@mirrord"), ("snapshot.json", "snapshot@mirrord")):
        done = subprocess.run(
            [*command, "-n", namespace, "-s", str(folder / f"{text}.sig")],
            input=(folder / text).read_bytes(),
            capture_output=True,
            check=False,
        )
        if done.returncode:
            return False
    return True
