import functools
import hashlib
import json
import os
import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path

import pytest

from mirrord.errors import Cancelled, Unavailable
from mirrord.manifest import OWN_FOLDER, Entry, Manifest, Signed, Snapshot, snapshot_id
from mirrord.trust.copy import Asked, CopyVerdict, Kind, verify_copy
from mirrord.trust.keys import Signers, new_signing_key
from mirrord.trust.places import Fetch, url_path
from mirrord.trust.snapshots import sign_snapshot
from tests.conftest import Lab

WHO = "www.example.org"
KEY = new_signing_key()
SIGNERS = Signers.of([KEY.public])
CREATED = datetime(2026, 11, 21, 22, tzinfo=UTC)
NOW = CREATED.timestamp() + 3600
ASKED = Asked(SIGNERS, WHO, NOW, site="example")
FILES = {
    b"index.html": b"<h1>home</h1>",
    b"about/index.html": b"<h1>about</h1>",
    b"new\nline \xff.txt": b"odd name",
    b"caf\xc3\xa9 & co?.html": b"query",
    b"a/b/c.css": b"body{}",
    b"empty": b"",
}


def signed(files: dict[bytes, bytes], serial: int = 7) -> Signed:
    manifest = Manifest.of({p: Entry(hashlib.sha256(d).digest(), len(d), 1) for p, d in files.items()})
    card = Snapshot(
        site="example",
        serial=serial,
        id=snapshot_id(CREATED + timedelta(seconds=serial), manifest.sha256),
        created=CREATED,
        next_expected=CREATED + timedelta(days=2),
        previous=None,
        manifest_sha256=manifest.sha256,
        files=len(files),
        size=manifest.size,
    )
    return sign_snapshot(card, manifest, KEY, 1)


def served(files: dict[bytes, bytes], serial: int = 7) -> dict[bytes, bytes]:
    """Return a whole copy: path -> bytes."""
    snapshot = signed(files, serial)
    own = {**snapshot.fixed_files(), **snapshot.changing_files()}
    return {**files, **{OWN_FOLDER + b"/" + name: data for name, data in own.items()}}


def lay_out(folder: Path, files: dict[bytes, bytes]) -> Path:
    for path, data in files.items():
        where = folder / os.fsdecode(path)
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(data)
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with a whole, right copy."""
    return lay_out(tmp_path / "copy", served(FILES))


def own(name: str) -> str:
    return f"{OWN_FOLDER.decode()}/{name}"


def test_a_right_copy_is_intact(copy: Path) -> None:
    """The good answer, with what it rests on: which snapshot, whose signature, how many files."""
    verdict = verify_copy(copy, ASKED)

    assert (verdict.kind, verdict.checked, verdict.skipped) == (Kind.INTACT, len(FILES), 0)
    assert verdict.snapshot is not None
    assert verdict.snapshot.serial == 7
    assert verdict.signed_by == KEY.public.fingerprint
    assert verdict.text.startswith("intact: every file is as it was signed")


def test_a_public_key_alone_is_enough(copy: Path) -> None:
    """Any reader can ask, without knowing how the site calls itself."""
    assert verify_copy(copy, Asked(SIGNERS, None, NOW)).kind is Kind.INTACT


def test_altered_missing_and_extra_files_are_each_named(copy: Path) -> None:
    """`sha256sum -c` passes with an injected page; we do not."""
    (copy / "a/b/c.css").write_bytes(b"body{background:url(//evil)}")
    (copy / "empty").unlink()
    (copy / "injected.html").write_bytes(b"x")
    (copy / own("evil.js")).write_bytes(b"x")

    verdict = verify_copy(copy, ASKED)

    assert verdict.kind is Kind.ALTERED
    assert verdict.altered == {b"a/b/c.css": "has other bytes"}
    assert verdict.missing == (b"empty",)
    assert verdict.extra == (b".well-known/mirrord/evil.js", b"injected.html")
    assert "'a/b/c.css' first" in verdict.text


def test_a_file_of_the_same_size_and_time_with_other_bytes_is_found(copy: Path) -> None:
    """Only the digest counts."""
    before = (copy / "index.html").stat()
    (copy / "index.html").write_bytes(b"<h1>hole</h1>")
    os.utime(copy / "index.html", ns=(before.st_atime_ns, before.st_mtime_ns))

    assert verify_copy(copy, ASKED).altered == {b"index.html": "has other bytes"}


@pytest.mark.parametrize("name", ["snapshot.json", "snapshot.json.sig"])
def test_a_copy_without_a_card_or_its_signature_says_nothing(copy: Path, name: str) -> None:
    """Not signed is not altered: the files may be right, and nobody can tell."""
    (copy / own(name)).unlink()

    verdict = verify_copy(copy, ASKED)

    assert verdict.kind is Kind.UNVERIFIABLE
    assert "no signed snapshot.json" in verdict.text


def test_another_key_another_name_another_site_make_it_unverifiable(copy: Path) -> None:
    """Each is a copy signed by somebody, but not for what was asked."""
    stranger = Signers.of([new_signing_key().public])
    listed = Signers.parse(f"www.example.net {KEY.public}".encode(), "allowed")

    assert "none of the given keys" in verify_copy(copy, replace(ASKED, signers=stranger)).text
    assert "may not sign for" in verify_copy(copy, replace(ASKED, signers=listed)).text
    assert "of the site" in verify_copy(copy, replace(ASKED, site="other")).text
    assert verify_copy(copy, replace(ASKED, site="other")).kind is Kind.UNVERIFIABLE


def test_a_changed_card_is_unverifiable(copy: Path) -> None:
    """Whoever forges the card has no signature for it."""
    card = copy / own("snapshot.json")
    card.write_bytes(card.read_bytes().replace(b'"serial": 7', b'"serial": 8'))

    verdict = verify_copy(copy, ASKED)

    assert verdict.kind is Kind.UNVERIFIABLE
    assert "altered" in verdict.text


def test_a_mixture_of_two_snapshots_is_altered(copy: Path) -> None:
    """Yesterday's list under today's card: both are signed, and the copy is none of the two."""
    other = signed({b"index.html": b"yesterday"}, serial=6)
    (copy / own("SHA256SUMS")).write_bytes(other.manifest.text)
    (copy / own("SHA256SUMS.sig")).write_bytes(other.manifest_sig)

    verdict = verify_copy(copy, ASKED)

    assert verdict.kind is Kind.ALTERED
    assert list(verdict.altered) == [b".well-known/mirrord/SHA256SUMS"]
    assert verdict.checked == 0


def test_a_copy_without_its_list_is_altered(copy: Path) -> None:
    """The signed card says that there is one."""
    (copy / own("SHA256SUMS")).unlink()

    verdict = verify_copy(copy, ASKED)

    assert (verdict.kind, verdict.missing) == (Kind.ALTERED, (b".well-known/mirrord/SHA256SUMS",))


def test_a_right_copy_becomes_outdated_a_day_after_the_next_was_due(copy: Path) -> None:
    """A reader wants to hear that there should be news; one late signature is no alarm."""
    due = CREATED + timedelta(days=2)

    assert verify_copy(copy, replace(ASKED, now=(due + timedelta(hours=23)).timestamp())).kind is Kind.INTACT
    late = verify_copy(copy, replace(ASKED, now=(due + timedelta(hours=25)).timestamp()))
    assert late.kind is Kind.OUTDATED
    assert "to be expected by 2026-11-23T22:00:00Z" in late.text


def test_a_right_copy_is_outdated_at_once_where_a_newer_one_is_known(copy: Path) -> None:
    """Who has seen serial 8 elsewhere need not wait for a date."""
    assert verify_copy(copy, replace(ASKED, newest=8)).kind is Kind.OUTDATED
    assert verify_copy(copy, replace(ASKED, newest=7)).kind is Kind.INTACT


def test_altered_outweighs_outdated(copy: Path) -> None:
    """An old date must not hide a changed page."""
    (copy / "index.html").write_bytes(b"x")

    assert verify_copy(copy, replace(ASKED, newest=8)).kind is Kind.ALTERED


def test_signatures_must_count_at_the_time_that_is_asked_for(copy: Path) -> None:
    """A lapsed key's old snapshots can still be looked at as of then."""
    lapsed = Signers.parse(f'{WHO} valid-before="20261122Z" {KEY.public}'.encode(), "allowed")
    later = replace(ASKED, signers=lapsed, now=NOW + 86400)

    assert verify_copy(copy, later).kind is Kind.UNVERIFIABLE
    assert verify_copy(copy, replace(later, at=CREATED)).kind is Kind.INTACT


def test_links_pipes_and_sockets_in_a_copy_are_never_opened(copy: Path, tmp_path: Path) -> None:
    """A hostile copy must neither lead out of itself nor make us wait; a link to right bytes may be led elsewhere."""
    outside = lay_out(tmp_path / "outside", {b"c.css": b"body{}", b"more": b"x"})
    (copy / "index.html").unlink()
    os.mkfifo(copy / "index.html")
    (copy / "empty").unlink()
    (copy / "empty").symlink_to("/dev/zero")
    (copy / "a/b/c.css").unlink()
    (copy / "a/b").rmdir()
    (copy / "a/b").symlink_to(outside)
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(copy / "about.sock"))

        verdict = verify_copy(copy, ASKED)

    assert verdict.kind is Kind.ALTERED
    assert verdict.altered == {
        b"index.html": "is no plain file",
        b"empty": "is a symbolic link, or lies behind one",
        b"a/b/c.css": "is a symbolic link, or lies behind one",
    }
    assert verdict.extra == (b"a/b", b"about.sock")


def test_the_folder_itself_may_be_a_link(copy: Path, tmp_path: Path) -> None:
    """`current` is one, on every mirror."""
    (tmp_path / "current").symlink_to(copy)

    assert verify_copy(tmp_path / "current", ASKED).kind is Kind.INTACT


@pytest.mark.parametrize("where", ["nowhere", "file"])
def test_a_folder_that_cannot_be_read_is_unverifiable(tmp_path: Path, where: str) -> None:
    """A mistyped path is no alarm about the site."""
    (tmp_path / "file").write_bytes(b"")

    verdict = verify_copy(tmp_path / where, ASKED)

    assert verdict.kind is Kind.UNVERIFIABLE
    assert "cannot be read" in verdict.text


def test_a_sample_says_that_it_is_one(copy: Path) -> None:
    """Ten files of a hundred thousand are quickly compared; the verdict must not claim more."""
    (copy / "index.html").write_bytes(b"x")

    verdict = verify_copy(copy, replace(ASKED, sample=2), dice=random.Random(1))

    assert (verdict.checked, verdict.skipped) == (2, len(FILES) - 2)
    assert verdict.altered == {b"index.html": "has other bytes"}  # the home page is always among them
    assert "4 files not looked at" in verdict.text


def test_every_file_is_drawn_sooner_or_later(copy: Path) -> None:
    """A sample that never drew some file would be a place to hide."""
    (copy / "a/b/c.css").write_bytes(b"x")

    kinds = {verify_copy(copy, replace(ASKED, sample=2), dice=random.Random(n)).kind for n in range(30)}

    assert kinds == {Kind.ALTERED, Kind.INTACT}


def test_stopping_ends_it_at_once(copy: Path) -> None:
    """A person presses Ctrl-C in the middle of a hundred thousand files."""
    stop = threading.Event()

    with pytest.raises(Cancelled):
        verify_copy(copy, ASKED, seen=lambda _done, _of: stop.set(), stop=stop)


def test_the_verdict_is_plain_json_with_every_path(copy: Path) -> None:
    """Machines read it, too; a path that is not UTF-8 comes back from it byte for byte."""
    (copy / os.fsdecode(b"new\nline \xff.txt")).write_bytes(b"x")

    said = json.loads(json.dumps(verify_copy(copy, ASKED).as_json()))

    assert said["verdict"] == "altered"
    assert said["snapshot"]["serial"] == 7
    assert said["altered"][0]["path"].encode("utf-8", "surrogateescape") == b"new\nline \xff.txt"


# -- over HTTP


class Site:
    """A copy as a web server gives it: a dictionary that tests alter, and a record of what was asked for."""

    def __init__(self, files: dict[bytes, bytes]) -> None:
        self.files = files
        self.asked: list[bytes] = []
        self.trouble: dict[bytes, str] = {}

    def __call__(self, path: bytes, limit: int) -> Iterator[bytes]:
        """Be a `Fetch`."""
        self.asked.append(path)
        if path in self.trouble:
            raise Unavailable(self.trouble[path])
        index = path + b"index.html" if not path or path.endswith(b"/") else path
        if index not in self.files:
            raise FileNotFoundError
        yield self.files[index][:limit]


def look(fetch: Fetch, asked: Asked = ASKED, workers: int = 4) -> CopyVerdict:
    with ThreadPoolExecutor(workers) as executor:
        return verify_copy(fetch, asked, executor=executor)


def test_a_right_copy_on_the_web_is_intact_and_says_what_cannot_be_seen() -> None:
    """Extra files do not show over HTTP; the verdict says so rather than keep silent."""
    verdict = look(Site(served(FILES)))

    assert (verdict.kind, verdict.checked) == (Kind.INTACT, len(FILES))
    assert "files that do not belong there cannot be seen over HTTP" in verdict.text
    assert verdict.as_json()["extra"] is None


def test_altered_and_missing_files_on_the_web_are_named() -> None:
    """All of them, not only the first."""
    site = Site(served(FILES))
    site.files[b"a/b/c.css"] = b"x"
    del site.files[b"empty"]

    verdict = look(site)

    assert verdict.kind is Kind.ALTERED
    assert (dict(verdict.altered), verdict.missing) == ({b"a/b/c.css": "has other bytes"}, (b"empty",))


def test_a_page_is_judged_as_readers_get_it() -> None:
    """Readers ask for `about/`; what stands at `about/index.html` comforts nobody."""

    class Parked(Site):
        def __call__(self, path: bytes, limit: int) -> Iterator[bytes]:
            if path == b"about/":
                return iter([b"This domain is for sale"])
            return super().__call__(path, limit)

    verdict = look(Parked(served(FILES)))

    assert verdict.altered == {b"about/index.html": "has other bytes, as readers get it at '/about/'"}


def test_a_host_that_knows_no_index_pages_may_still_hold_an_intact_copy() -> None:
    """Some stores of files answer 404 at `about/`: links break there, but nothing was altered."""

    class Plain(Site):
        def __call__(self, path: bytes, limit: int) -> Iterator[bytes]:
            if path == b"" or path.endswith(b"/"):
                raise FileNotFoundError
            return super().__call__(path, limit)

    assert look(Plain(served(FILES))).kind is Kind.INTACT


def test_what_servers_run_or_hide_is_not_asked_for() -> None:
    """A `.htaccess` that is refused, and a script that is run, are no sign of alteration."""
    site = Site(served({**FILES, b".htaccess": b"x", b"a/.git/config": b"x", b"run.php": b"<?php"}))
    del site.files[b".htaccess"]

    verdict = look(site)

    assert (verdict.kind, verdict.skipped) == (Kind.INTACT, 3)
    assert not {b".htaccess", b"a/.git/config", b"run.php"} & set(site.asked)


def test_files_that_cannot_be_read_make_the_rest_no_proof() -> None:
    """Five of six right, one unanswered: nobody can say that it is intact."""
    site = Site(served(FILES))
    site.trouble[b"empty"] = "connection reset"

    verdict = look(site)

    assert verdict.kind is Kind.UNVERIFIABLE
    assert verdict.unread == {b"empty": "connection reset"}


def test_a_silent_server_is_given_up_after_some_files() -> None:
    """Ten thousand times a timeout of ten seconds would be a day."""
    files = {b"%05d" % number: b"x" for number in range(5000)}
    site = Site(served(files))
    site.trouble = dict.fromkeys(files, "no answer")

    verdict = look(site)

    assert verdict.kind is Kind.UNVERIFIABLE
    assert len(verdict.unread) == 5000
    assert len(site.asked) < 100


def test_a_server_that_sends_without_end_is_cut_off() -> None:
    """Every answer is bounded by what was signed, and all together too."""

    class Endless(Site):
        sent = 0

        def __call__(self, path: bytes, limit: int) -> Iterator[bytes]:
            if path.startswith(OWN_FOLDER):
                yield from super().__call__(path, limit)
                return
            for _ in range(10_000):
                self.sent += 1 << 16
                yield b"\0" * (1 << 16)

    site = Endless(served({**FILES, **{b"%d" % number: b"\0" * (1 << 20) for number in range(40)}}))

    verdict = look(site, workers=1)

    assert verdict.kind is Kind.ALTERED
    assert len(verdict.altered) == len(FILES) + 40
    assert site.sent < 3 * 40 * (1 << 20)


@pytest.mark.parametrize("name", ["snapshot.json", "snapshot.json.sig", "SHA256SUMS", "SHA256SUMS.sig"])
def test_endless_files_of_ours_are_bounded_too(name: str) -> None:
    """Before anything is believed there is nothing signed that bounds it."""
    site = Site(served(FILES))
    site.files[OWN_FOLDER + b"/" + name.encode()] = b" " * (1 << 24)

    assert look(site).kind is not Kind.INTACT


def test_a_mirror_that_is_led_to_another_snapshot_meanwhile_is_looked_at_again() -> None:
    """A publish in the middle of a look is no alteration."""
    old, new = served(FILES), served({path: data + b"!" for path, data in FILES.items()}, serial=8)

    class Switched(Site):
        def __call__(self, path: bytes, limit: int) -> Iterator[bytes]:
            if len(self.asked) == 6:
                self.files = new
            return super().__call__(path, limit)

    verdict = look(Switched(old))

    assert verdict.kind is Kind.INTACT
    assert verdict.snapshot is not None
    assert verdict.snapshot.serial == 8


def test_any_name_can_be_asked_of_a_real_web_server(lab: Lab) -> None:
    """Blanks, question marks, newlines and bytes that are no UTF-8 pass through a URL and a real server unharmed."""
    nginx = lab.nginx(lay_out(lab.folder("copy"), served(FILES)))

    verdict = look(functools.partial(get, nginx.port))

    assert verdict.altered == {}
    assert (verdict.kind, verdict.checked) == (Kind.INTACT, len(FILES))


def get(port: int, path: bytes, limit: int) -> Iterator[bytes]:
    """Be a small honest `Fetch`."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/" + url_path(path))
        answer = connection.getresponse()
        if answer.status == 404:
            raise FileNotFoundError
        yield answer.read(limit)
    finally:
        connection.close()
