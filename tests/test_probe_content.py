"""Whether what a mirror serves is told apart from what it should serve: against scripted servers."""

from __future__ import annotations

import gzip
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirrord.errors import Damaged
from mirrord.health import FaultKind
from mirrord.manifest import Manifest, SnapshotId
from mirrord.probe import Listings, look
from mirrord.trust.keys import new_signing_key
from mirrord.trust.snapshots import sign_card
from tests.conftest import Lab
from tests.lab.webserver import Answer, Request, Script, WebServer, files, redirect
from tests.probing import CARD, KEY, NAME, PAGES, Account, signed


@pytest.fixture
def account(tmp_path: Path) -> Account:
    account = Account(tmp_path)
    account.publish(PAGES)
    return account


def instead(account: Account, answers: Mapping[str, Answer]) -> Script:
    """Serve the account, but for some paths."""
    usual = files(account.current)
    return lambda request: answers.get(request.path) or usual(request)


def asked(server: WebServer) -> list[str]:
    return [request.path for request in server.requests]


def test_a_faithful_mirror_is_right_in_every_file_that_was_asked_for(account: Account, lab: Lab) -> None:
    """The common case: card, home page and sample agree, and the observation says which snapshot it was."""
    server = lab.web(files(account.current))

    seen = account.seen(server.port)
    assert seen.fault is None
    assert seen.snapshot is not None
    assert seen.snapshot.serial == 1
    assert seen.right == PAGES.keys()
    assert not seen.wrong
    assert not seen.settling


def test_index_pages_are_asked_for_as_readers_ask(account: Account, lab: Lab) -> None:
    """A server that redirects or hides `index.html` is right as long as the folder's URL shows the page."""
    usual = files(account.current)
    server = lab.web(lambda r: Answer(404) if r.path.endswith("index.html") else usual(r))

    seen = account.seen(server.port)
    assert seen.right == PAGES.keys()
    assert {"/", "/it/", "/it/notizie.html"} <= set(asked(server))


def test_requests_are_plain_gets_past_every_cache(account: Account, lab: Lab) -> None:
    """HEAD proves no bytes, a packed answer has another digest, and a cache would show yesterday."""
    server = lab.web(files(account.current))

    account.seen(server.port)
    assert {r.method for r in server.requests} == {"GET"}
    assert {r.headers["accept-encoding"] for r in server.requests} == {"identity"}
    assert {r.headers["cache-control"] for r in server.requests} == {"no-cache"}
    assert {r.headers["host"] for r in server.requests} == {NAME}


def test_the_card_is_read_before_and_after(account: Account, lab: Lab) -> None:
    """Only between two equal cards is it known which release a file was of."""
    server = lab.web(files(account.current))

    account.seen(server.port)
    assert [path == CARD for path in asked(server)] == [True, *[False] * (len(server.requests) - 2), True]


def test_an_altered_page_is_wrong_and_the_others_are_right(account: Account, lab: Lab) -> None:
    """Content is judged file by file."""
    server = lab.web(instead(account, {"/it/notizie.html": Answer(200, b"pills\n")}))

    seen = account.seen(server.port)
    assert seen.wrong == {b"it/notizie.html": "has other bytes"}
    assert seen.right == PAGES.keys() - seen.wrong.keys()
    assert seen.fault is None


def test_a_suspect_among_many_pages_is_asked_for_every_time(tmp_path: Path, lab: Lab) -> None:
    """One altered page of ten thousand must be convicted: lots would meet it once a year."""
    account = Account(tmp_path)
    pages = {b"%04d.html" % n: b"%d\n" % n for n in range(2000)}
    account.publish(pages)
    server = lab.web(instead(account, {"/1234.html": Answer(200, b"pills\n")}))

    rounds = [account.seen(server.port, seed=n, suspects=frozenset([b"1234.html"]), sample=2) for n in range(5)]
    assert [dict(seen.wrong) for seen in rounds] == [{b"1234.html": "has other bytes"}] * 5
    assert len({path for seen in rounds for path in seen.right}) > 5, "the lots fall differently each time"


def test_an_acquitted_suspect_is_right(account: Account, lab: Lab) -> None:
    """What was mended must be seen to be mended."""
    server = lab.web(files(account.current))

    seen = account.seen(server.port, suspects=frozenset([b"it/notizie.html"]), sample=0)
    assert seen.right == {b"index.html", b"it/notizie.html"}


def test_a_suspect_that_the_site_gave_up_is_dropped(account: Account, lab: Lab) -> None:
    """A page that is no longer part of the site cannot be wrong for ever."""
    server = lab.web(files(account.current))

    seen = account.seen(server.port, suspects=frozenset([b"gone.html"]))
    assert seen.dropped == {b"gone.html"}
    assert "/gone.html" not in asked(server)


def test_assets_that_linger_are_neither_asked_for_nor_held_against_a_mirror(account: Account, lab: Lab) -> None:
    """A look is about what is signed for today; what stands beside it for open pages says nothing about that."""
    account.publish({path: data for path, data in PAGES.items() if path != b"style.css"}, 2)
    (account.current / "style.css").write_bytes(b"of yesterday, and altered")
    previous = account.current / ".well-known/mirrord/previous/20261021T070000Z-00000000"
    previous.mkdir(parents=True)
    (previous / "SHA256SUMS").write_bytes(b"nonsense")
    server = lab.web(files(account.current))

    seen = account.seen(server.port, suspects=frozenset([b"style.css"]))
    assert seen.fault is None
    assert seen.right == PAGES.keys() - {b"style.css"}
    assert not seen.wrong
    assert seen.dropped == {b"style.css"}
    assert not [path for path in asked(server) if "style.css" in path or "previous" in path]


def test_a_swapped_tree_is_not_asked_for_file_by_file_to_the_end(tmp_path: Path, lab: Lab) -> None:
    """When all is wrong, sixteen proofs do; a thousand suspects would take the whole deadline."""
    account = Account(tmp_path)
    pages = {b"%04d.html" % n: b"%d\n" % n for n in range(100)}
    account.publish(pages)
    usual = files(account.current)
    server = lab.web(lambda r: usual(r) if r.path.startswith("/.well-known") else Answer(200, b"parked\n"))

    seen = account.seen(server.port, suspects=frozenset(pages))
    assert len(seen.wrong) == 16


def test_success_everywhere_with_the_tree_gone_is_unsigned(account: Account, lab: Lab) -> None:
    """A status code proves nothing: parking pages and emptied hosts answer 200."""
    server = lab.web(lambda _: Answer(200, b"<h1>Welcome to nginx!</h1>"))

    seen = account.seen(server.port)
    assert seen.fault is not None
    assert seen.fault.kind is FaultKind.CONTENT
    assert seen.snapshot is None


def test_an_empty_mirror_is_unsigned(account: Account, lab: Lab) -> None:
    """The commonest way in which content is bad; the sentence names the file."""
    server = lab.web(lambda _: Answer(404))

    seen = account.seen(server.port)
    assert seen.fault is not None
    assert seen.fault.kind is FaultKind.CONTENT
    assert seen.fault.text == f"serves nothing that is signed: {CARD} is missing (404)"


def test_a_web_server_that_hides_dot_folders_is_told_what_to_change(account: Account, lab: Lab) -> None:
    """Many hosts refuse all paths with a dot in front; their operator cannot guess why the mirror is down."""
    server = lab.web(lambda r: Answer(403) if "/." in r.path else Answer(200, b"<h1>Home</h1>\n"))

    seen = account.seen(server.port)
    assert seen.fault is not None
    assert seen.fault.kind is FaultKind.STATUS
    assert "let its web server serve /.well-known/" in seen.fault.text


@pytest.mark.parametrize(
    ("how", "text"),
    [
        pytest.param({"key": new_signing_key()}, "signed with the key", id="another key"),
        pytest.param({"site": "other"}, "of the site 'other'", id="another site"),
    ],
)
def test_content_signed_by_or_for_somebody_else_is_bad(
    tmp_path: Path, lab: Lab, how: dict[str, Any], text: str
) -> None:
    """A whole and consistent tree is worth nothing if it is not ours."""
    account = Account(tmp_path)
    account.publish(PAGES, **how)
    server = lab.web(files(account.current))

    seen = account.seen(server.port)
    assert seen.fault is not None
    assert seen.fault.kind is FaultKind.CONTENT
    assert text in seen.fault.text


def test_yesterdays_content_is_right_by_its_own_card(account: Account, lab: Lab) -> None:
    """How old is too old is judged elsewhere; the probe says which snapshot it is, and that it is whole."""
    old = account.known.copy()
    account.publish({**PAGES, b"index.html": b"news\n"}, serial=2)
    account.switch(next(iter(old)))
    server = lab.web(files(account.current))

    seen = account.seen(server.port)
    assert seen.fault is None
    assert seen.snapshot is not None
    assert seen.snapshot.serial == 1
    assert seen.right == PAGES.keys()


def test_a_mixture_of_two_releases_is_wrong_in_the_files_that_differ(account: Account, lab: Lab) -> None:
    """Today's card over yesterday's pages must not pass."""
    newer = {**PAGES, b"it/notizie.html": b"<h1>Ultime</h1>\n"}
    account.publish(newer, serial=2)
    server = lab.web(instead(account, {"/it/notizie.html": Answer(200, PAGES[b"it/notizie.html"])}))

    seen = account.seen(server.port)
    assert seen.wrong == {b"it/notizie.html": "has other bytes"}


def test_just_after_a_publish_old_and_new_files_are_settling(account: Account, lab: Lab) -> None:
    """A host that replaces file by file shows both for a while; that is our own doing, and no failure."""
    old = next(iter(account.known))
    newer = {**PAGES, b"it/notizie.html": b"<h1>Ultime</h1>\n", b"new.html": b"new\n"}
    new = account.publish(newer, serial=2).snapshot.id
    server = lab.web(
        instead(account, {"/it/notizie.html": Answer(200, PAGES[b"it/notizie.html"]), "/new.html": Answer(404)})
    )

    seen = account.seen(server.port, allowed=frozenset([old, new]))
    assert seen.settling == {b"it/notizie.html", b"new.html"}
    assert not seen.wrong
    assert seen.right == PAGES.keys() - {b"it/notizie.html"}


def test_settling_excuses_nothing_that_is_of_neither_release(account: Account, lab: Lab) -> None:
    """The two minutes after a publish are no free pass for an alteration."""
    old = next(iter(account.known))
    new = account.publish({**PAGES, b"it/notizie.html": b"<h1>Ultime</h1>\n"}, serial=2).snapshot.id
    server = lab.web(instead(account, {"/it/notizie.html": Answer(200, b"pills\n"), "/style.css": Answer(404)}))

    seen = account.seen(server.port, allowed=frozenset([old, new]))
    assert seen.wrong == {b"it/notizie.html": "has other bytes", b"style.css": "is missing (404)"}


def test_a_switch_in_mid_look_starts_once_more(account: Account, lab: Lab) -> None:
    """The pages of the new release are not held against the card of the old one."""
    newer = {path: data + b"<!-- 2 -->" for path, data in PAGES.items()}
    snapshot = signed(newer, 2)
    account.lay_out(snapshot, newer)
    usual = files(account.current)

    def switching(request: Request) -> Answer:
        if request.path == "/":
            server.script = usual
            account.switch(snapshot.snapshot.id)
        return usual(request)

    server = lab.web(switching)

    seen = account.seen(server.port)
    assert seen.fault is None
    assert seen.snapshot is not None
    assert seen.snapshot.serial == 2
    assert seen.right == PAGES.keys()
    assert not seen.wrong


def test_two_switches_in_one_look_are_settling_and_not_bad(account: Account, lab: Lab) -> None:
    """Which release a file was of cannot be told then: the next look will."""
    releases = []
    for serial in (2, 3):
        newer = {path: data + b"<!-- %d -->" % serial for path, data in PAGES.items()}
        snapshot = signed(newer, serial)
        account.lay_out(snapshot, newer)
        releases.append(snapshot.snapshot.id)
    usual = files(account.current)

    def switching(request: Request) -> Answer:
        if request.path == "/" and releases:
            account.switch(releases.pop(0))
        return usual(request)

    server = lab.web(switching)

    seen = account.seen(server.port)
    assert seen.fault is None
    assert not seen.wrong
    assert seen.settling == PAGES.keys()


def test_going_back_to_an_older_card_in_mid_look_excuses_nothing(account: Account, lab: Lab) -> None:
    """We only ever move forward; a host that shuffles old cards to look busy gains nothing by it."""
    cards = [next(iter(account.known))]
    for serial in (2, 3):
        newer = {path: data + b"<!-- %d -->" % serial for path, data in PAGES.items()}
        cards.append(account.publish(newer, serial).snapshot.id)
    usual = files(account.current)

    def shuffling(request: Request) -> Answer:
        if request.path == "/":
            account.switch(cards.pop())
        return usual(request) if request.path.startswith("/.well-known") else Answer(200, b"pills\n")

    account.publish(PAGES, serial=9)
    server = lab.web(shuffling)

    seen = account.seen(server.port)
    assert set(seen.wrong) == PAGES.keys()


def test_a_card_signed_anew_in_mid_look_changes_nothing(account: Account, lab: Lab) -> None:
    """The daily signing is no new release: one pass does."""
    again = account.publish(PAGES).snapshot
    renewed = replace(again, next_expected=again.next_expected.replace(year=2027))
    usual = files(account.current)

    def posting(request: Request) -> Answer:
        if request.path == "/":
            release = account.root / "releases" / again.id / ".well-known/mirrord"
            card, sig = sign_card(renewed, KEY)
            (release / "snapshot.json").write_bytes(card)
            (release / "snapshot.json.sig").write_bytes(sig)
        return usual(request)

    server = lab.web(posting)

    seen = account.seen(server.port)
    assert seen.right == PAGES.keys()
    assert asked(server).count("/") == 1


def test_card_and_signature_of_two_releases_are_read_again(account: Account, lab: Lab) -> None:
    """Two files cannot be read in one instant; a switch between them is no forgery."""
    newer = signed(PAGES, 2)
    account.lay_out(newer, PAGES)
    usual = files(account.current)

    def switching(request: Request) -> Answer:
        answer = usual(request)
        if request.path == CARD:
            account.switch(newer.snapshot.id)
        return answer

    server = lab.web(switching)

    seen = account.seen(server.port)
    assert seen.fault is None
    assert seen.snapshot == newer.snapshot


def test_nothing_is_held_against_a_file_when_the_look_was_cut_short(account: Account, lab: Lab) -> None:
    """Without the second card nobody knows of which release the file was."""
    newer = {path: data + b"<!-- 2 -->" for path, data in PAGES.items()}
    snapshot = signed(newer, 2)
    account.lay_out(snapshot, newer)
    usual = files(account.current)

    def dying(request: Request) -> Answer:
        if request.path == "/":
            account.switch(snapshot.snapshot.id)
        if any(r.path == "/" for r in server.requests) and request.path == CARD:
            return Answer(silent=True)
        return usual(request)

    server = lab.web(dying)

    seen = account.seen(server.port, timeout=2.0)
    assert seen.fault is not None
    assert seen.fault.kind is FaultKind.SLOW
    assert not seen.wrong


def test_without_a_store_the_mirrors_own_manifest_is_verified_and_kept(account: Account, lab: Lab) -> None:
    """A bare controller judges content too, and fetches the list of ten thousand files once, not every 30 s."""
    server = lab.web(files(account.current))
    listings = Listings()
    bare = replace(account.look(server.port), known=lambda _: None, listings=listings)

    first, second = look(bare, random.Random(1)), look(bare, random.Random(2))
    assert first.right == second.right == PAGES.keys()
    assert asked(server).count("/.well-known/mirrord/SHA256SUMS") == 1


def test_a_damaged_store_does_not_stop_the_looking(account: Account, lab: Lab) -> None:
    """Content goes out and attention comes back independently of each other."""

    def damaged(_: SnapshotId) -> Manifest | None:
        raise Damaged("the store: reading a manifest: it is damaged")

    server = lab.web(files(account.current))

    seen = account.seen(server.port, known=damaged)
    assert seen.right == PAGES.keys()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"0" * 64 + b"  index.html\n", id="another list"),
        pytest.param(b"", id="empty"),
    ],
)
def test_a_manifest_that_does_not_belong_to_the_card_is_bad(account: Account, lab: Lab, text: bytes) -> None:
    """Else a host could sign nothing and list what it likes."""
    server = lab.web(instead(account, {"/.well-known/mirrord/SHA256SUMS": Answer(200, text)}))

    seen = account.seen(server.port, known=lambda _: None)
    assert seen.fault is not None
    assert seen.fault.kind is FaultKind.CONTENT
    assert "SHA256SUMS is not" in seen.fault.text


def test_a_manifest_of_the_next_release_is_no_fault(account: Account, lab: Lab) -> None:
    """A switch may come between the card and the list as well."""
    newer = {path: data + b"<!-- 2 -->" for path, data in PAGES.items()}
    snapshot = signed(newer, 2)
    account.lay_out(snapshot, newer)
    usual = files(account.current)

    def switching(request: Request) -> Answer:
        if request.path.endswith("SHA256SUMS"):
            account.switch(snapshot.snapshot.id)
        return usual(request)

    server = lab.web(switching)

    seen = account.seen(server.port, known=lambda _: None)
    assert seen.fault is None
    assert seen.right == PAGES.keys()


def test_our_own_manifest_counts_only_for_the_card_that_names_it(account: Account, lab: Lab) -> None:
    """A restored store may know another content under the same id; what was signed and served decides."""
    (snapshot,) = account.known
    wrong = {snapshot: signed({b"index.html": b"other\n"}).manifest}
    server = lab.web(files(account.current))

    seen = account.seen(server.port, known=wrong.get)
    assert seen.right == PAGES.keys()


@pytest.mark.parametrize("from_store", [True, False])
def test_files_that_servers_hide_or_run_are_not_sampled(tmp_path: Path, lab: Lab, from_store: bool) -> None:
    """A web server is right to refuse `.htaccess` and to run `x.php`: no page of a reader is at fault."""
    odd = {b".htaccess": b"Deny\n", b"a/.git/config": b"x\n", b"a/x.php": b"<?php\n", b"s.SHTML": b"x\n"}
    account = Account(tmp_path)
    account.publish({**PAGES, **odd})
    server = lab.web(files(account.current))

    seen = account.seen(server.port, known=account.known.get if from_store else lambda _: None, sample=100)
    assert seen.right == PAGES.keys()


@pytest.mark.parametrize("from_store", [True, False])
def test_files_over_a_megabyte_are_not_sampled(tmp_path: Path, lab: Lab, from_store: bool) -> None:
    """A probe is no download: with our own sizes they are never asked for, without them they are left half-way."""
    account = Account(tmp_path)
    account.publish({**PAGES, b"film.bin": b"x" * 1_100_000})
    server = lab.web(files(account.current))
    known = account.known.get if from_store else lambda _: None

    seen = account.seen(server.port, known=known, sample=100)
    assert seen.right == PAGES.keys()
    assert not seen.wrong
    assert ("/film.bin" in asked(server)) is not from_store


def test_a_body_without_end_is_read_to_its_bound_only(account: Account, lab: Lab) -> None:
    """A hostile host must not fill our memory, and a longer page is another page."""
    endless = Answer(200, b"<h1>Home</h1>\n" + b"\0" * 50_000_000)
    server = lab.web(lambda r: endless if r.path == "/" else files(account.current)(r))

    seen = account.seen(server.port)
    assert seen.wrong == {b"index.html": "has other bytes"}
    assert seen.ended - seen.started < 8


def test_a_card_without_end_is_bad(account: Account, lab: Lab) -> None:
    """The same for what is parsed."""
    server = lab.web(instead(account, {CARD: Answer(200, b" " * 50_000_000)}))

    seen = account.seen(server.port)
    assert seen.fault is not None
    assert seen.fault.kind is FaultKind.CONTENT
    assert "has more than 65536 bytes" in seen.fault.text


def test_a_manifest_without_end_is_bad(account: Account, lab: Lab) -> None:
    """The signed card says how many files there are, and so how long their list can be."""
    server = lab.web(instead(account, {"/.well-known/mirrord/SHA256SUMS": Answer(200, b"0" * 1_000_000)}))

    seen = account.seen(server.port, known=lambda _: None)
    assert seen.fault is not None
    assert seen.fault.kind is FaultKind.CONTENT
    assert "has more than 31600 bytes" in seen.fault.text


def test_a_page_that_breaks_off_is_wrong(account: Account, lab: Lab) -> None:
    """A truncated file under a right Content-Length is what a full disk of a proxy cache looks like."""
    page = Answer(200, PAGES[b"it/notizie.html"], cut_after=5)
    server = lab.web(instead(account, {"/it/notizie.html": page}))

    seen = account.seen(server.port)
    assert seen.wrong == {b"it/notizie.html": "breaks off before its end"}


def test_a_server_that_packs_everything_unasked_shows_readers_the_right_page(account: Account, lab: Lab) -> None:
    """Readers' browsers unpack it; what they see is what counts."""
    usual = files(account.current)

    def packing(request: Request) -> Answer:
        answer = usual(request)
        return replace(answer, body=gzip.compress(answer.body), headers=answer.headers | {"Content-Encoding": "gzip"})

    server = lab.web(packing)

    seen = account.seen(server.port)
    assert seen.fault is None
    assert seen.right == PAGES.keys()


def test_a_packed_bomb_is_not_unpacked(account: Account, lab: Lab) -> None:
    """50 MB of zeros are 50 kB on the wire."""
    bomb = Answer(200, gzip.compress(b"\0" * 50_000_000), {"Content-Encoding": "gzip"})
    server = lab.web(lambda r: bomb if r.path == "/" else files(account.current)(r))

    seen = account.seen(server.port)
    assert seen.wrong == {b"index.html": "has other bytes"}


def test_archives_that_servers_label_as_packed_are_right_as_they_are(tmp_path: Path, lab: Lab) -> None:
    """Apache calls `x.gz` an encoding of `x`: the bytes on the wire are the file's."""
    account = Account(tmp_path)
    account.publish({**PAGES, b"notes.gz": gzip.compress(b"notes\n")})
    usual = files(account.current)

    def labelling(request: Request) -> Answer:
        answer = usual(request)
        return replace(answer, headers={"Content-Encoding": "gzip"}) if request.path.endswith(".gz") else answer

    server = lab.web(labelling)

    seen = account.seen(server.port)
    assert b"notes.gz" in seen.right


@pytest.mark.parametrize(
    "refusal", [Answer(429), Answer(503, headers={"Retry-After": "120"})], ids=["429", "503 with Retry-After"]
)
@pytest.mark.parametrize("where", [CARD, "/", "/it/notizie.html"])
def test_being_asked_to_come_back_later_is_a_refusal_to_us(
    account: Account, lab: Lab, refusal: Answer, where: str
) -> None:
    """It says that we ask too much, nothing about other readers; and it is said again if we go on."""
    usual = files(account.current)
    server = lab.web(lambda r: refusal if r.path == where else usual(r))

    seen = account.seen(server.port)
    assert seen.fault is not None
    assert seen.fault.kind is FaultKind.REFUSED_US
    assert asked(server)[-1] == where
    assert not seen.wrong


@pytest.mark.parametrize("status", [500, 502, 503, 204, 206])
def test_any_other_status_than_200_is_a_fault(account: Account, lab: Lab, status: int) -> None:
    """503 without Retry-After is an outage like any other."""
    server = lab.web(lambda _: Answer(status))

    seen = account.seen(server.port)
    assert seen.fault is not None
    assert seen.fault.kind is FaultKind.STATUS
    assert str(status) in seen.fault.text


def test_an_error_for_one_page_is_that_pages_fault(account: Account, lab: Lab) -> None:
    """A broken rule for one folder is found as an altered page is."""
    server = lab.web(instead(account, {"/it/notizie.html": Answer(500)}))

    seen = account.seen(server.port)
    assert seen.wrong == {b"it/notizie.html": "is answered with 500"}


def test_one_page_that_leads_elsewhere_is_wrong_and_a_fault(account: Account, lab: Lab) -> None:
    """Readers of that page are led away; it becomes a suspect too, so that lots cannot miss it next time."""
    server = lab.web(instead(account, {"/it/notizie.html": redirect("https://casino.example/")}))

    seen = account.seen(server.port)
    assert seen.fault is not None
    assert seen.fault.kind is FaultKind.REDIRECT
    assert seen.wrong == {b"it/notizie.html": "redirects to https://casino.example/"}
    assert seen.right == PAGES.keys() - seen.wrong.keys()


def test_what_caches_say_of_themselves_is_kept(account: Account, lab: Lab) -> None:
    """An hour-old copy at a cache explains what nobody would understand otherwise."""
    usual = files(account.current)

    def cached(request: Request) -> Answer:
        answer = usual(request)
        return replace(answer, headers=answer.headers | {"Age": "3600", "Via": "1.1 varnish\x07"})

    server = lab.web(cached)

    seen = account.seen(server.port)
    assert seen.evidence == {"Age": "3600", "Via": "1.1 varnish�"}


@pytest.mark.parametrize(
    ("make", "offset"),
    [
        pytest.param({"Date": "Sat, 21 Nov 2026 00:00:00 GMT"}, 1795219200.0, id="as it says"),
        pytest.param({"Date": "Sat, 21 Nov 2026 00:00:00 GMT", "Age": "60"}, 1795219260.0, id="from a cache"),
        pytest.param({"Date": "yesterday"}, None, id="no date"),
        pytest.param({"Date": "Sat, 21 Nov 99999 00:00:00 GMT"}, None, id="no year"),
    ],
)
def test_the_servers_clock_is_noted(account: Account, lab: Lab, make: dict[str, str], offset: float | None) -> None:
    """When many mirrors' clocks agree against ours, ours is wrong, and certificates' dates prove nothing."""
    usual = files(account.current)
    server = lab.web(lambda r: replace(usual(r), headers=make))

    seen = account.seen(server.port)
    if offset is None:
        assert seen.date_offset is None
    else:
        assert seen.date_offset is not None
        assert abs(seen.date_offset + seen.wall - offset) < 5


def test_names_of_any_bytes_are_asked_for_as_they_are(tmp_path: Path, lab: Lab) -> None:
    """Spaces, percent signs, question marks, line ends and bytes that are no UTF-8 are names like others."""
    odd = [
        b"a b.html",
        b"50%.html",
        b"why?.html",
        b"#1.html",
        b"two\nlines.html",
        b"\xff\xfe.html",
        b"%2e.html",
        b"a\\b",
    ]
    account = Account(tmp_path)
    account.publish({b"index.html": b"home\n", **{name: name for name in odd}})
    server = lab.web(files(account.current))

    seen = account.seen(server.port, sample=100)
    assert seen.right == {b"index.html", *odd}


def test_a_site_without_a_home_page_is_sampled_all_the_same(tmp_path: Path, lab: Lab) -> None:
    """Not every mirror is a site with an index: a package archive has none."""
    account = Account(tmp_path)
    account.publish({b"a.txt": b"a\n", b"b.txt": b"b\n"})
    server = lab.web(files(account.current))

    seen = account.seen(server.port)
    assert seen.right == {b"a.txt", b"b.txt"}
    assert seen.fault is None
