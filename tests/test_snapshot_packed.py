"""Packed copies beside pages, when a snapshot is taken."""

import gzip
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import brotli
import pytest
from backports import zstd

from mirrord.errors import PutOff
from tests.snapshotting import NOW, Ground, rest

PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "br": lambda data: bytes(brotli.compress(data)),
    "zst": zstd.compress,
}


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    """An empty source and an empty store."""
    return Ground.at(tmp_path)


def packed(name: str, data: bytes) -> dict[str, bytes]:
    """A page and all its packed copies."""
    return {name: data, **{f"{name}.{suffix}": pack(data) for suffix, pack in PACK.items()}}


def test_pages_with_their_packed_copies_are_taken(ground: Ground) -> None:
    """The usual case: a generator that packs what it makes; a copy without its page is a download."""
    ground.write({**packed("index.html", b"home"), **packed("a/b.css", b"body{}" * 9), "tar.gz": b"no", "x.br": b"no"})

    assert ground.take().changed


@pytest.mark.parametrize("suffix", PACK)
def test_a_packed_copy_of_an_older_page_puts_the_snapshot_off(ground: Ground, suffix: str) -> None:
    """Readers who take packed pages, which is most, would see the old page beside new ones."""
    ground.write(packed("index.html", b"home"))
    before = ground.take()
    ground.write({**packed("index.html", b"new home"), f"index.html.{suffix}": PACK[suffix](b"home")})

    with pytest.raises(PutOff) as put_off:
        ground.take()

    assert f"'index.html.{suffix}' is not 'index.html' packed" in str(put_off.value)
    assert "exclude" in str(put_off.value)
    assert 'siblings = "ignore"' in str(put_off.value)
    assert ground.store.newest() == before.snapshot.id
    assert ground.litter() == []


def test_once_the_generator_is_done_the_snapshot_is_taken(ground: Ground) -> None:
    """Half-way is the usual reason: the next regular try finds it whole."""
    ground.write({"index.html": b"new home", "index.html.gz": gzip.compress(b"home")[:-4]})
    with pytest.raises(PutOff, match="is cut short"):
        ground.take()
    ground.write({"index.html.gz": gzip.compress(b"new home")})

    assert ground.take().changed


def test_a_page_that_changed_alone_is_noticed(ground: Ground) -> None:
    """The copy is as it was, and wrong all the same: somebody edited the page by hand."""
    ground.write(packed("index.html", b"home"))
    ground.take()
    rest()
    ground.write({"index.html": b"edit"})

    with pytest.raises(PutOff, match="and 2 more such"):
        ground.take()


def test_what_only_looks_like_a_packed_copy_can_be_let_be(ground: Ground) -> None:
    """A download next to another of the same name: the operator says so once."""
    ground.write({"data.csv": b"today", "data.csv.gz": gzip.compress(b"yesterday")})
    ground.source = replace(ground.source, check_siblings=False)

    assert ground.take().changed


def test_copies_that_did_not_change_are_not_unpacked_again(ground: Ground) -> None:
    """A site of 100,000 pages is looked at every few minutes; only what changed may cost."""
    ground.source = replace(ground.source, check_siblings=False)
    ground.write({"old.csv": b"today", "old.csv.gz": b"of another day", "index.html": b"home"})
    ground.take()
    ground.source = replace(ground.source, check_siblings=True)
    ground.write({"index.html": b"new home"})

    assert ground.take().changed


def test_a_rehearsal_says_it_too(ground: Ground) -> None:
    """`sync --dry-run` must not promise what `sync` will not do."""
    ground.write({"a": b"new", "a.gz": gzip.compress(b"old")})

    with pytest.raises(PutOff):
        ground.store.scan(ground.source, ground.guard, now_wall=NOW)


def test_a_packed_copy_without_end_is_given_up(ground: Ground) -> None:
    """A bomb in the source costs no more than its page is long."""
    ground.write({"a": b"tiny", "a.gz": gzip.compress(bytes(256 << 20), compresslevel=1)})
    began = os.times()

    with pytest.raises(PutOff, match="more than its page"):
        ground.take()

    assert os.times().user - began.user < 0.5
