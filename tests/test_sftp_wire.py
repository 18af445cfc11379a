"""What stands on the wire of SFTP version 3, in both directions."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.hosts.sftp import wire
from mirrord.hosts.sftp.wire import Attrs, Malformed, Name, Reply, Request

WORDS = st.binary(max_size=40)
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
PAIRS = st.lists(st.tuples(WORDS, WORDS), max_size=3).map(tuple)
ATTRS = st.builds(
    Attrs,
    size=st.none() | U64,
    owner=st.none() | st.tuples(U32, U32),
    mode=st.none() | U32,
    times=st.none() | st.tuples(U32, U32),
    extended=PAIRS,
)
KNOWN = frozenset(
    {
        b"posix-rename@openssh.com",
        b"hardlink@openssh.com",
        b"statvfs@openssh.com",
        b"fsync@openssh.com",
        b"copy-data",
        b"check-file-name",
        b"limits@openssh.com",
    }
)
REQUESTS: st.SearchStrategy[Request] = st.one_of(
    st.builds(wire.Open, WORDS, U32, ATTRS),
    st.builds(wire.Close, WORDS),
    st.builds(wire.Read, WORDS, U64, U32),
    st.builds(wire.Write, WORDS, U64, WORDS),
    st.builds(wire.LStat, WORDS),
    st.builds(wire.FStat, WORDS),
    st.builds(wire.SetStat, WORDS, ATTRS),
    st.builds(wire.FSetStat, WORDS, ATTRS),
    st.builds(wire.OpenDir, WORDS),
    st.builds(wire.ReadDir, WORDS),
    st.builds(wire.Remove, WORDS),
    st.builds(wire.MakeDir, WORDS, ATTRS),
    st.builds(wire.RemoveDir, WORDS),
    st.builds(wire.RealPath, WORDS),
    st.builds(wire.Stat, WORDS),
    st.builds(wire.Rename, WORDS, WORDS),
    st.builds(wire.ReadLink, WORDS),
    st.builds(wire.Symlink, WORDS, WORDS),
    st.builds(wire.PosixRename, WORDS, WORDS),
    st.builds(wire.HardLink, WORDS, WORDS),
    st.builds(wire.StatVfs, WORDS),
    st.builds(wire.FSync, WORDS),
    st.builds(wire.CopyData, WORDS, U64, U64, WORDS, U64),
    st.builds(wire.CheckFile, WORDS, WORDS, U64, U64, st.integers(0, 2**32 - 1)),
    st.builds(wire.Limits),
    st.builds(wire.Extended, WORDS.filter(lambda name: name not in KNOWN), WORDS),
)
NAMES = st.lists(st.builds(Name, WORDS, WORDS, ATTRS), max_size=4).map(tuple)
REPLIES: st.SearchStrategy[Reply] = st.one_of(
    st.builds(wire.Status, U32, WORDS, WORDS),
    st.builds(wire.Handle, WORDS),
    st.builds(wire.Data, WORDS),
    st.builds(wire.Names, NAMES),
    st.builds(wire.Attributes, ATTRS),
    st.builds(wire.ExtendedReply, WORDS),
)


def cut(stream: bytes) -> bytes:
    """Return the one packet of a stream."""
    (packet,) = wire.Frames().feed(stream)
    return packet


@given(U32, REQUESTS)
def test_a_server_reads_what_a_client_wrote(number: int, request: Request) -> None:
    """Client and demo server share the codec; what one means the other must understand, for any bytes."""
    read = wire.decode_request(cut(wire.encode(number, request)))
    assert (read, type(read[1])) == ((number, request), type(request))


@given(U32, REQUESTS)
def test_a_packet_in_pieces_is_the_same_packet(number: int, request: Request) -> None:
    """What is asked of every file is written out by hand, for speed: the tables say whether it is right."""
    assert b"".join(wire.encode_in_pieces(number, request)) == wire.encode(number, request)


@given(U32, REPLIES)
def test_a_client_reads_what_a_server_wrote(number: int, reply: Reply) -> None:
    """The same the other way."""
    read = wire.decode_reply(cut(wire.encode(number, reply)))
    assert (read, type(read[1])) == ((number, reply), type(reply))


@given(U32, PAIRS)
def test_the_greetings_carry_a_version_in_place_of_an_id(
    version: int, extensions: tuple[tuple[bytes, bytes], ...]
) -> None:
    """INIT and VERSION are the two packets of another form (draft, section 4)."""
    init, answer = wire.Init(version, extensions), wire.Version(version, extensions)

    assert wire.decode_request(cut(wire.encode(7, init))) == (0, init)
    assert wire.decode_reply(cut(wire.encode(7, answer))) == (0, answer)


@given(st.lists(REQUESTS, max_size=6), st.lists(st.integers(0, 60), max_size=12))
def test_packets_are_found_however_the_stream_is_cut(requests: list[Request], pieces: list[int]) -> None:
    """A channel delivers bytes, not packets."""
    stream = b"".join(wire.encode(n, request) for n, request in enumerate(requests))
    frames, found = wire.Frames(), []

    for size in [*pieces, len(stream)]:
        found += [wire.decode_request(packet) for packet in frames.feed(stream[:size])]
        stream = stream[size:]
    assert found == list(enumerate(requests))


@given(st.binary(max_size=200))
def test_garbage_is_malformed_and_nothing_else(garbage: bytes) -> None:
    """A hostile or broken host must end in one clean error, never in a traceback of ours."""
    for packet in (garbage, bytes([garbage[0] % 21 if garbage else 3]) + garbage, bytes([101]) + garbage):
        for decode in (wire.decode_request, wire.decode_reply):
            with contextlib.suppress(Malformed):
                decode(packet)
    assert wire.request_number(garbage) >= 0


@given(st.integers(100, 106) | st.just(201), st.binary(min_size=4, max_size=120))
def test_garbage_of_a_known_type_is_malformed_and_nothing_else(kind: int, garbage: bytes) -> None:
    """The same, aimed at the fields."""
    with contextlib.suppress(Malformed):
        wire.decode_reply(bytes([kind]) + garbage)


@given(REQUESTS | REPLIES, st.data())
def test_a_packet_that_breaks_off_is_malformed_or_shorter(packet: Request | Reply, data: st.DataObject) -> None:
    """Every length inside a packet is checked against the packet's own."""
    whole = cut(wire.encode(1, packet))
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]
    decode = wire.decode_reply if whole[0] in range(101, 106) or whole[0] == 201 else wire.decode_request

    try:
        _, found = decode(part)
    except Malformed:
        return
    # A status may leave its texts out, the data of an extension has no length of its own.
    assert isinstance(found, wire.Status | wire.Extended | wire.ExtendedReply)


@pytest.mark.parametrize("size", [0, 4, wire.LONGEST_PACKET + 1, 2**32 - 1])
def test_a_length_that_no_packet_has_is_malformed_at_once(size: int) -> None:
    """Else a host could make us wait for, or hold, four gigabytes; a login shell's greeting reads as such a length."""
    with pytest.raises(Malformed, match=str(size)):
        list(wire.Frames().feed(struct.pack(">I", size)))


def test_a_lying_count_costs_no_more_than_the_packet() -> None:
    """A listing that claims four billion names ends where its bytes end."""
    with pytest.raises(Malformed):
        wire.decode_reply(struct.pack(">BII", 104, 1, 2**32 - 1))
    with pytest.raises(Malformed):
        wire.decode_reply(struct.pack(">BIII", 105, 1, 0x80000000, 2**32 - 1))


@pytest.mark.parametrize(
    ("request_", "packet"),
    [
        pytest.param(
            wire.Symlink(b"target", b"link"),
            b"\0\0\0\x17\x14\0\0\0\x05\0\0\0\x06target\0\0\0\x04link",
            id="the target first, as OpenSSH has it, not as the draft says",
        ),
        pytest.param(
            wire.PosixRename(b"a", b"b"),
            b"\0\0\0\x2b\xc8\0\0\0\x05\0\0\0\x18posix-rename@openssh.com\0\0\0\x01a\0\0\0\x01b",
            id="an extension by its name",
        ),
        pytest.param(
            wire.Open(b"f", 0x1A, Attrs(mode=0o644)),
            b"\0\0\0\x16\x03\0\0\0\x05\0\0\0\x01f\0\0\0\x1a\0\0\0\x04\0\0\x01\xa4",
            id="only the attributes that are told",
        ),
        pytest.param(
            wire.FSetStat(b"h", Attrs(mode=0o600, times=(1, 2))),
            b"\0\0\0\x1a\x0a\0\0\0\x05\0\0\0\x01h\0\0\0\x0c\0\0\x01\x80\0\0\0\x01\0\0\0\x02",
            id="mode before times",
        ),
    ],
)
def test_requests_stand_on_the_wire_as_openssh_reads_them(request_: Request, packet: bytes) -> None:
    """Round trips prove only that we agree with ourselves."""
    assert wire.encode(5, request_) == packet


def test_a_status_without_its_texts_is_read() -> None:
    """Some servers still send statuses as before version 3."""
    assert wire.decode_reply(struct.pack(">BII", 101, 9, 4)) == (9, wire.Status(4))


@given(st.lists(U64, min_size=11, max_size=11))
def test_free_space_and_limits_survive_the_wire(numbers: list[int]) -> None:
    """Both are extensions' replies, whose data has a form of its own."""
    space, capacity = wire.Space(*numbers), wire.Capacity(*numbers[:4])

    assert wire.Space.decode(space.encode()) == space
    assert wire.Capacity.decode(capacity.encode()) == capacity
    with pytest.raises(Malformed):
        wire.Space.decode(space.encode()[:-1])
    with pytest.raises(Malformed):
        wire.Capacity.decode(capacity.encode()[:-1])


def test_an_unknown_request_can_be_refused_by_its_number() -> None:
    """A server must answer what it does not know; a client that waits for the answer would hang."""
    packet = struct.pack(">BI", 99, 1234)

    with pytest.raises(Malformed):
        wire.decode_request(packet)
    assert wire.request_number(packet) == 1234


def test_a_checksum_is_read_as_the_draft_has_it_and_as_proftpd_says_it() -> None:
    """The draft puts the words "check-file" in front of the algorithm, ProFTPD leaves them out."""
    plain = wire.Checksum(b"sha256", bytes(range(32))).encode()
    drafted = b"\0\0\0\x0acheck-file" + plain

    assert wire.Checksum.decode(plain) == wire.Checksum.decode(drafted) == wire.Checksum(b"sha256", bytes(range(32)))
    with pytest.raises(wire.Malformed):
        wire.Checksum.decode(b"\0\0\0\x09sha256")
