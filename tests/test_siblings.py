"""Which files are packed copies of which, and what they unpack to."""

import gzip
import os
import zlib
from collections.abc import Callable

import brotli
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from mirrord.siblings import PIECE, Badly, base_of, encoding_of, groups, unpacked

PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "deflate": zlib.compress,
    "br": lambda data: bytes(brotli.compress(data, quality=3)),
    "zstd": zstd.compress,
}


@pytest.mark.parametrize(
    ("path", "base"),
    [
        pytest.param(b"a/page.html.gz", b"a/page.html", id="gzip"),
        pytest.param(b"page.html.br", b"page.html", id="brotli"),
        pytest.param(b"page.html.zst", b"page.html", id="zstd"),
        pytest.param(b"page.html", None, id="a page"),
        pytest.param(b"a/.gz", None, id="a hidden file"),
        pytest.param(b".br", None, id="a hidden file at the top"),
        pytest.param(b"page.html.GZ", None, id="web servers tell case apart"),
    ],
)
def test_a_packed_copy_is_known_by_its_name(path: bytes, base: bytes | None) -> None:
    """Web servers append the suffix to the page's name, and nothing else."""
    assert base_of(path) == base


def test_a_page_and_its_packed_copies_are_one_group() -> None:
    """Whoever replaces files one by one renames a group in one flight; no file is in two groups."""
    paths = [b"a", b"a.gz", b"a.gz.br", b"b.br", b"b", b"b.zst", b"c.gz", b"d"]

    found = groups(paths)

    assert found == {b"a": (b"a.gz", b"a.gz.br"), b"b": (b"b.br", b"b.zst")}
    assert encoding_of(b"a.gz.br") == "br"


@pytest.mark.parametrize("encoding", PACKINGS)
@given(data=st.binary(max_size=3000), step=st.integers(1, 4000))
def test_what_was_packed_comes_out_as_it_was(encoding: str, data: bytes, step: int) -> None:
    """However the bytes arrive over the wire."""
    packed = PACKINGS[encoding](data)
    pieces = (packed[at : at + step] for at in range(0, len(packed), step))

    assert b"".join(unpacked(pieces, encoding, len(data))) == data


@pytest.mark.parametrize("encoding", PACKINGS)
def test_a_few_bytes_that_become_many_are_given_up_early(encoding: str) -> None:
    """A packed copy comes from a mirror that may be hostile: it unpacks no further than its page is long."""
    packed = PACKINGS[encoding](bytes(64 << 20))
    held: list[int] = []

    with pytest.raises(Badly, match="more than its page"):
        held.extend(map(len, unpacked([packed], encoding, 1 << 20)))

    assert max(held, default=0) <= 4 * PIECE
    assert sum(held) <= 1 << 20


@pytest.mark.parametrize("encoding", PACKINGS)
def test_what_is_cut_short_or_goes_on_is_bad(encoding: str) -> None:
    """A generator that was killed leaves half a file; brotli would be silent about it."""
    packed = PACKINGS[encoding](b"<h1>page</h1>" * 100)

    for bad in (b"", packed[:-1], packed[: len(packed) // 2], packed + b"more", b"<h1>page</h1>"):
        with pytest.raises(Badly):
            list(unpacked([bad], encoding, 1 << 20))


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_streams_one_after_the_other_are_one(encoding: str) -> None:
    """`pigz` and `pzstd` pack in several streams, and readers' programs unpack them all."""
    packed = PACKINGS[encoding](b"one ") + PACKINGS[encoding](b"two")

    assert b"".join(unpacked([packed[:5], packed[5:]], encoding, 100)) == b"one two"


def test_what_asks_for_more_memory_than_browsers_give_is_bad() -> None:
    """RFC 9659: over HTTP the window of zstd is at most 8 MiB; a copy packed with `--long=27` is none to readers."""
    packer = zstd.ZstdCompressor(
        options={zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.enable_long_distance_matching: 1}
    )
    data = os.urandom(1 << 20) * 9
    packed = packer.compress(data) + packer.flush()

    with pytest.raises(Badly, match="RFC 9659"):
        list(unpacked([packed], "zstd", len(data)))


def test_a_packing_that_nobody_knows_is_bad() -> None:
    """Whatever a server writes into Content-Encoding."""
    with pytest.raises(Badly, match="'compress'"):
        list(unpacked([b"data"], "compress", 10))
