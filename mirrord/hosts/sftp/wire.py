"""How do requests and replies look on the wire of SFTP version 3?

A pure codec for both directions: a client encodes requests and decodes replies, a server decodes requests
and encodes replies. It knows no file, no socket and no order of things: `flow` decides what is asked when,
`session` carries the bytes. Whatever a hostile peer sends, decoding ends in a value or in `Malformed`.

Packets are named tuples: a hundred thousand small files are four hundred thousand requests. Two of different kinds can
be equal, so it is their types that are asked.

The protocol is draft-ietf-secsh-filexfer-02 as OpenSSH speaks it (its file PROTOCOL, section 4): SYMLINK has its
two paths the other way round than the draft says, and the extensions below. Numbers are unsigned and
big-endian; names, handles and contents are any bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from enum import IntEnum, IntFlag
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from mirrord.errors import Unavailable

VERSION = 3
LONGEST_PACKET = 256 * 1024
"""Bytes of one packet without its length field; OpenSSH's SFTP_MAX_MSG_LENGTH, in both directions."""
SAFE_BLOCK = 32 * 1024
"""Bytes of content in one READ or WRITE that every server takes (draft, section 3)."""
WRITE_OVERHEAD = 1024
"""Bytes that a WRITE needs at most beside its content: header, handle (at most 256 bytes), offset, lengths."""
COPY_OVERHEAD = 1024
"""Bytes that a copy-data request takes at most."""


class Malformed(Unavailable):
    """What came is not SFTP; nothing that follows on this channel can be understood."""


class Code(IntEnum):
    """Why a request failed (draft, section 7); what servers add from later versions is kept as a number."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    NO_CONNECTION = 6
    CONNECTION_LOST = 7
    OP_UNSUPPORTED = 8
    FILE_ALREADY_EXISTS = 11
    """Of version 5; some servers send it in version 3 too, as the next two."""
    NO_SPACE = 14
    QUOTA_EXCEEDED = 15


class OpenFlags(IntFlag):
    """What a file is opened for (draft, section 6.3)."""

    READ = 0x01
    WRITE = 0x02
    APPEND = 0x04
    CREATE = 0x08
    TRUNCATE = 0x10
    EXCLUSIVE = 0x20


class Attrs(NamedTuple):
    """A file's attributes, as far as they are told; `mode` with the file type bits of stat(2) in replies."""

    size: int | None = None
    owner: tuple[int, int] | None = None
    """uid and gid."""
    mode: int | None = None
    times: tuple[int, int] | None = None
    """atime and mtime in whole Unix seconds, 32 bits."""
    extended: tuple[tuple[bytes, bytes], ...] = ()


NOTHING = Attrs()
"""No attribute is told."""


# Requests -----------------------------------------------------------------------------------------------


class Init(NamedTuple):
    """The client's first packet; it has a version in place of an id."""

    version: int = VERSION
    extensions: tuple[tuple[bytes, bytes], ...] = ()


class Open(NamedTuple):
    """Reply: Handle or Status."""

    path: bytes
    flags: int
    attrs: Attrs = NOTHING


class Close(NamedTuple):
    """Reply: Status."""

    handle: bytes


class Read(NamedTuple):
    """Reply: Data (shorter only at the end of a file) or Status, EOF past the end."""

    handle: bytes
    offset: int
    length: int


class Write(NamedTuple):
    """Reply: Status."""

    handle: bytes
    offset: int
    data: bytes


class LStat(NamedTuple):
    """Reply: Attributes or Status; links are not followed."""

    path: bytes


class FStat(NamedTuple):
    """Reply: Attributes or Status."""

    handle: bytes


class SetStat(NamedTuple):
    """Reply: Status."""

    path: bytes
    attrs: Attrs


class FSetStat(NamedTuple):
    """Reply: Status."""

    handle: bytes
    attrs: Attrs


class OpenDir(NamedTuple):
    """Reply: Handle or Status."""

    path: bytes


class ReadDir(NamedTuple):
    """Reply: Names (OpenSSH: at most 100) or Status, EOF after the last name."""

    handle: bytes


class Remove(NamedTuple):
    """Reply: Status."""

    path: bytes


class MakeDir(NamedTuple):
    """Reply: Status."""

    path: bytes
    attrs: Attrs = NOTHING


class RemoveDir(NamedTuple):
    """Reply: Status."""

    path: bytes


class RealPath(NamedTuple):
    """Reply: Names with one name, or Status."""

    path: bytes


class Stat(NamedTuple):
    """Reply: Attributes or Status; links are followed."""

    path: bytes


class Rename(NamedTuple):
    """Reply: Status; an existing target is a failure."""

    old: bytes
    new: bytes


class ReadLink(NamedTuple):
    """Reply: Names with one name, or Status."""

    path: bytes


class Symlink(NamedTuple):
    """Reply: Status. On the wire the target comes first, as in OpenSSH, against the draft's section 6.10."""

    target: bytes
    path: bytes


class PosixRename(NamedTuple):
    """Extension posix-rename@openssh.com; reply: Status; an existing file or link is replaced atomically."""

    old: bytes
    new: bytes


class HardLink(NamedTuple):
    """Extension hardlink@openssh.com; reply: Status."""

    existing: bytes
    path: bytes


class StatVfs(NamedTuple):
    """Extension statvfs@openssh.com; reply: ExtendedReply with `Space`, or Status."""

    path: bytes


class FSync(NamedTuple):
    """Extension fsync@openssh.com; reply: Status."""

    handle: bytes


class CopyData(NamedTuple):
    """Extension copy-data (OpenSSH since 9.0); reply: Status, EOF where the source ends before `length` bytes.

    Bytes of the file `handle` from `offset` on, 0 for all that follow, are written into another file from `to_offset`
    on; the two must not be the same file.
    """

    handle: bytes
    offset: int
    length: int
    to: bytes
    to_offset: int


class CheckFile(NamedTuple):
    """Extension check-file-name (draft-ietf-secsh-filexfer-extensions-00, section 3); reply: ExtendedReply or Status.

    Asks for the hash of a file from `offset` on over `length` bytes (0: to its end), by the first of the
    comma-separated `algorithms` that the server has; `block` 0 is one hash over all. `Checksum.decode` reads the reply.
    ProFTPD does it without announcing it.
    """

    path: bytes
    algorithms: bytes
    offset: int = 0
    length: int = 0
    block: int = 0


class Limits(NamedTuple):
    """Extension limits@openssh.com; reply: ExtendedReply with `Capacity`, or Status."""


class Extended(NamedTuple):
    """Any other extension; reply: ExtendedReply or Status."""

    name: bytes
    data: bytes


Request = (
    Init | Open | Close | Read | Write | LStat | FStat | SetStat | FSetStat | OpenDir | ReadDir | Remove
    | MakeDir | RemoveDir | RealPath | Stat | Rename | ReadLink | Symlink | PosixRename | HardLink | StatVfs
    | FSync | CopyData | CheckFile | Limits | Extended
)  # fmt: skip


# Replies ------------------------------------------------------------------------------------------------


class Version(NamedTuple):
    """The server's first packet; it has a version in place of an id."""

    version: int = VERSION
    extensions: tuple[tuple[bytes, bytes], ...] = ()


class Status(NamedTuple):
    """How a request ended; `message` are the server's own words, UTF-8 by promise only."""

    code: int
    message: bytes = b""
    language: bytes = b""


class Handle(NamedTuple):
    """An open file or folder; at most 256 bytes."""

    handle: bytes


class Data(NamedTuple):
    """A piece of a file."""

    data: bytes


class Name(NamedTuple):
    """One name of a listing, with the line that `ls -l` would print."""

    name: bytes
    long: bytes
    attrs: Attrs


class Names(NamedTuple):
    """A piece of a listing, or the one answer of REALPATH and READLINK."""

    names: tuple[Name, ...]


class Attributes(NamedTuple):
    """The answer of STAT and its kin."""

    attrs: Attrs


class ExtendedReply(NamedTuple):
    """The answer of an extension: `Space.decode` and `Capacity.decode` read two of them."""

    data: bytes


Reply = Version | Status | Handle | Data | Names | Attributes | ExtendedReply


class Space(NamedTuple):
    """What statvfs@openssh.com answers: the fields of statvfs(3)."""

    bsize: int
    frsize: int
    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int
    favail: int
    fsid: int
    flag: int
    namemax: int

    def encode(self) -> bytes:
        """Return the data of the ExtendedReply."""
        return _ELEVEN.pack(*self)

    @classmethod
    def decode(cls, data: bytes) -> Space:
        """Read the data of an ExtendedReply; raises Malformed."""
        if len(data) < _ELEVEN.size:
            raise Malformed("a statvfs reply breaks off")
        return cls(*_ELEVEN.unpack_from(data))


class Capacity(NamedTuple):
    """What limits@openssh.com answers, in bytes and counts; 0 is unknown."""

    packet: int
    read: int
    write: int
    handles: int

    def encode(self) -> bytes:
        """Return the data of the ExtendedReply."""
        return _FOUR.pack(self.packet, self.read, self.write, self.handles)

    @classmethod
    def decode(cls, data: bytes) -> Capacity:
        """Read the data of an ExtendedReply; raises Malformed."""
        if len(data) < _FOUR.size:
            raise Malformed("a limits reply breaks off")
        return cls(*_FOUR.unpack_from(data))


class Checksum(NamedTuple):
    """What check-file-name answers: the algorithm that was taken, and the raw hash."""

    algorithm: bytes
    digest: bytes

    def encode(self) -> bytes:
        """Return the data of the ExtendedReply, as ProFTPD writes it."""
        return _U32.pack(len(self.algorithm)) + self.algorithm + self.digest

    @classmethod
    def decode(cls, data: bytes) -> Checksum:
        """Read the data of an ExtendedReply; raises Malformed. The draft has the words "check-file" in front."""
        algorithm, at = _decoded(_get_bytes, data, 0)
        if algorithm == b"check-file":
            algorithm, at = _decoded(_get_bytes, data, at)
        return cls(algorithm, data[at:])


# Primitives ---------------------------------------------------------------------------------------------

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_TWO = struct.Struct(">II")
_HEAD = struct.Struct(">IBI")
_FOUR = struct.Struct(">4Q")
_ELEVEN = struct.Struct(">11Q")

_HAS_SIZE = 0x01
_HAS_OWNER = 0x02
_HAS_MODE = 0x04
_HAS_TIMES = 0x08
_HAS_EXTENDED = 0x80000000
_HAS_ALL = _HAS_SIZE | _HAS_OWNER | _HAS_MODE | _HAS_TIMES
_ALL = struct.Struct(">QIIIII")


# A putter adds the pieces of a value to a packet; large contents are never copied here.


def _put_u32(pieces: list[bytes], number: int) -> None:
    pieces.append(_U32.pack(number))


def _put_u64(pieces: list[bytes], number: int) -> None:
    pieces.append(_U64.pack(number))


def _put_bytes(pieces: list[bytes], text: bytes) -> None:
    pieces.append(_U32.pack(len(text)))
    pieces.append(text)


def _put_rest(pieces: list[bytes], text: bytes) -> None:
    pieces.append(text)


def _put_pairs(pieces: list[bytes], pairs: tuple[tuple[bytes, bytes], ...]) -> None:
    for name, value in pairs:
        _put_bytes(pieces, name)
        _put_bytes(pieces, value)


def _put_attrs(pieces: list[bytes], attrs: Attrs) -> None:
    flags, place = 0, len(pieces)
    pieces.append(b"")
    if attrs.size is not None:
        flags |= _HAS_SIZE
        pieces.append(_U64.pack(attrs.size))
    if attrs.owner is not None:
        flags |= _HAS_OWNER
        pieces.append(_TWO.pack(*attrs.owner))
    if attrs.mode is not None:
        flags |= _HAS_MODE
        pieces.append(_U32.pack(attrs.mode))
    if attrs.times is not None:
        flags |= _HAS_TIMES
        pieces.append(_TWO.pack(*attrs.times))
    if attrs.extended:
        flags |= _HAS_EXTENDED
        pieces.append(_U32.pack(len(attrs.extended)))
        _put_pairs(pieces, attrs.extended)
    pieces[place] = _U32.pack(flags)


def _put_names(pieces: list[bytes], names: tuple[Name, ...]) -> None:
    pieces.append(_U32.pack(len(names)))
    for name in names:
        _put_bytes(pieces, name.name)
        _put_bytes(pieces, name.long)
        _put_attrs(pieces, name.attrs)


# A getter takes a packet and where to read in it; it returns what stood there and where to go on. What
# lies past the end shows as `struct.error` or is measured by `_get_bytes`; `_decode` makes it Malformed.


def _get_u32(packet: bytes, at: int) -> tuple[int, int]:
    return _U32.unpack_from(packet, at)[0], at + 4


def _get_u64(packet: bytes, at: int) -> tuple[int, int]:
    return _U64.unpack_from(packet, at)[0], at + 8


def _get_bytes(packet: bytes, at: int) -> tuple[bytes, int]:
    start = at + 4
    end = start + _U32.unpack_from(packet, at)[0]
    if end > len(packet):
        raise Malformed("a packet breaks off")
    return packet[start:end], end


def _get_message(packet: bytes, at: int) -> tuple[bytes, int]:
    # Servers from before the draft's version 3 leave a status's two texts out.
    return _get_bytes(packet, at) if at < len(packet) else (b"", at)


def _get_rest(packet: bytes, at: int) -> tuple[bytes, int]:
    return packet[at:], len(packet)


def _get_pairs(packet: bytes, at: int) -> tuple[tuple[tuple[bytes, bytes], ...], int]:
    pairs = []
    while at < len(packet):
        name, at = _get_bytes(packet, at)
        value, at = _get_bytes(packet, at)
        pairs.append((name, value))
    return tuple(pairs), at


def _get_attrs(packet: bytes, at: int) -> tuple[Attrs, int]:
    flags, at = _get_u32(packet, at)
    if flags == _HAS_ALL:  # as servers tell of every file that they list
        told, uid, gid, permissions, atime, changed = _ALL.unpack_from(packet, at)
        return Attrs(told, (uid, gid), permissions, (atime, changed)), at + _ALL.size
    size = owner = mode = times = None
    extended: list[tuple[bytes, bytes]] = []
    if flags & _HAS_SIZE:
        size, at = _get_u64(packet, at)
    if flags & _HAS_OWNER:
        owner = (_get_u32(packet, at)[0], _get_u32(packet, at + 4)[0])
        at += 8
    if flags & _HAS_MODE:
        mode, at = _get_u32(packet, at)
    if flags & _HAS_TIMES:
        times = (_get_u32(packet, at)[0], _get_u32(packet, at + 4)[0])
        at += 8
    if flags & _HAS_EXTENDED:
        count, at = _get_u32(packet, at)
        for _ in range(count):  # each pair takes bytes: a lying count ends at the packet's end
            name, at = _get_bytes(packet, at)
            value, at = _get_bytes(packet, at)
            extended.append((name, value))
    return Attrs(size, owner, mode, times, tuple(extended)), at


def _get_names(packet: bytes, at: int) -> tuple[tuple[Name, ...], int]:
    count, at = _get_u32(packet, at)
    names = []
    for _ in range(count):
        name, at = _get_bytes(packet, at)
        long, at = _get_bytes(packet, at)
        attrs, at = _get_attrs(packet, at)
        names.append(Name(name, long, attrs))
    return tuple(names), at


# The tables ---------------------------------------------------------------------------------------------

_Put = Callable[[list[bytes], Any], None]
_Get = Callable[[bytes, int], tuple[Any, int]]
_NUMBER32 = (_put_u32, _get_u32)
_NUMBER64 = (_put_u64, _get_u64)
_BYTES = (_put_bytes, _get_bytes)
_MESSAGE = (_put_bytes, _get_message)
_REST = (_put_rest, _get_rest)
_PAIRS = (_put_pairs, _get_pairs)
_ATTRS = (_put_attrs, _get_attrs)
_NAMES = (_put_names, _get_names)

_EXTENDED = 200
_A_STATUS, _A_HANDLE = 101, 102
_LEAST_REPLY = 9
"""Bytes of type, id, and a code or length."""


class _Form:
    """How one kind of packet is laid out: its number, its fields in their order on the wire."""

    __slots__ = ("gets", "kind", "number", "prefix", "puts")

    def __init__(
        self, kind: type[Any], number: int, *codecs: tuple[_Put, _Get], extension: bytes | None = None
    ) -> None:
        assert len(kind._fields) == len(codecs), kind
        self.kind = kind
        self.number = number
        self.prefix: list[bytes] = []
        if extension is not None:
            _put_bytes(self.prefix, extension)
        self.puts = tuple(put for put, _ in codecs)
        self.gets = tuple(get for _, get in codecs)

    def pieces(self, number: int, packet: Any) -> list[bytes]:
        """Return the whole packet, its length in front, in pieces."""
        pieces = [b"", *self.prefix]
        for put, value in zip(self.puts, packet, strict=True):
            put(pieces, value)
        pieces[0] = _HEAD.pack(5 + sum(map(len, pieces)), self.number, number)
        return pieces

    def decode(self, packet: bytes, at: int) -> Any:
        """Read the fields that begin at `at`; bytes after the last one are passed over."""
        values = []
        for get in self.gets:
            value, at = get(packet, at)
            values.append(value)
        return self.kind(*values)


_REQUEST_FORMS = (
    _Form(Open, 3, _BYTES, _NUMBER32, _ATTRS),
    _Form(Close, 4, _BYTES),
    _Form(Read, 5, _BYTES, _NUMBER64, _NUMBER32),
    _Form(Write, 6, _BYTES, _NUMBER64, _BYTES),
    _Form(LStat, 7, _BYTES),
    _Form(FStat, 8, _BYTES),
    _Form(SetStat, 9, _BYTES, _ATTRS),
    _Form(FSetStat, 10, _BYTES, _ATTRS),
    _Form(OpenDir, 11, _BYTES),
    _Form(ReadDir, 12, _BYTES),
    _Form(Remove, 13, _BYTES),
    _Form(MakeDir, 14, _BYTES, _ATTRS),
    _Form(RemoveDir, 15, _BYTES),
    _Form(RealPath, 16, _BYTES),
    _Form(Stat, 17, _BYTES),
    _Form(Rename, 18, _BYTES, _BYTES),
    _Form(ReadLink, 19, _BYTES),
    _Form(Symlink, 20, _BYTES, _BYTES),
    _Form(Extended, _EXTENDED, _BYTES, _REST),
)
_EXTENSION_FORMS = {
    b"posix-rename@openssh.com": _Form(PosixRename, _EXTENDED, _BYTES, _BYTES, extension=b"posix-rename@openssh.com"),
    b"hardlink@openssh.com": _Form(HardLink, _EXTENDED, _BYTES, _BYTES, extension=b"hardlink@openssh.com"),
    b"statvfs@openssh.com": _Form(StatVfs, _EXTENDED, _BYTES, extension=b"statvfs@openssh.com"),
    b"fsync@openssh.com": _Form(FSync, _EXTENDED, _BYTES, extension=b"fsync@openssh.com"),
    b"copy-data": _Form(CopyData, _EXTENDED, _BYTES, _NUMBER64, _NUMBER64, _BYTES, _NUMBER64, extension=b"copy-data"),
    b"check-file-name": _Form(
        CheckFile, _EXTENDED, _BYTES, _BYTES, _NUMBER64, _NUMBER64, _NUMBER32, extension=b"check-file-name"
    ),
    b"limits@openssh.com": _Form(Limits, _EXTENDED, extension=b"limits@openssh.com"),
}
_REPLY_FORMS = (
    _Form(Status, 101, _NUMBER32, _MESSAGE, _MESSAGE),
    _Form(Handle, 102, _BYTES),
    _Form(Data, 103, _BYTES),
    _Form(Names, 104, _NAMES),
    _Form(Attributes, 105, _ATTRS),
    _Form(ExtendedReply, 201, _REST),
)
_GREETINGS = (_Form(Init, 1, _NUMBER32, _PAIRS), _Form(Version, 2, _NUMBER32, _PAIRS))

_BY_KIND: dict[type[Any], _Form] = {
    form.kind: form for form in (*_REQUEST_FORMS, *_EXTENSION_FORMS.values(), *_REPLY_FORMS)
}
_REQUESTS = {form.number: form for form in _REQUEST_FORMS}
_REPLIES = {form.number: form for form in _REPLY_FORMS}


# The codec ----------------------------------------------------------------------------------------------


def encode(number: int, packet: Request | Reply) -> bytes:
    """Return the bytes of one packet, its length in front; `number` is the id that ties reply to request.

    INIT and VERSION carry no id: `number` is passed over for them.
    """
    if isinstance(packet, Init | Version):
        pairs: list[bytes] = []
        _put_pairs(pairs, packet.extensions)
        kind = 1 if isinstance(packet, Init) else 2
        return _HEAD.pack(5 + sum(map(len, pairs)), kind, packet.version) + b"".join(pairs)
    return b"".join(_BY_KIND[type(packet)].pieces(number, packet))


def encode_in_pieces(number: int, packet: Request) -> list[bytes]:
    """Return the bytes of one packet in pieces to be sent one after the other: contents are not copied."""
    kind = type(packet)
    if (quick := _QUICK.get(kind)) is not None:
        return quick(number, packet)
    return [b"".join(_BY_KIND[kind].pieces(number, packet))]


# Of each file these are asked: what the tables do in a loop is written out here.

_HEAD_AND_LENGTH = struct.Struct(">IBII")
_WHERE_AND_LENGTH = struct.Struct(">QI")
_FOUR_U32 = struct.Struct(">4I")


def _quick_open(number: int, packet: Open) -> list[bytes]:
    path, flags, attrs = packet
    rest, size = _told(attrs), len(path)
    return [b"%b%b%b%b" % (_HEAD_AND_LENGTH.pack(13 + size + len(rest), 3, number, size), path, _U32.pack(flags), rest)]


@lru_cache(64)
def _told(attrs: Attrs) -> bytes:
    """Write attributes; every new file is opened with the same ones."""
    pieces: list[bytes] = []
    _put_attrs(pieces, attrs)
    return b"".join(pieces)


def _quick_write(number: int, packet: Write) -> list[bytes]:
    handle, offset, data = packet
    size, content = len(handle), len(data)
    head = _HEAD_AND_LENGTH.pack(21 + size + content, 6, number, size)
    return [b"%b%b%b" % (head, handle, _WHERE_AND_LENGTH.pack(offset, content)), data]


def _quick_fsetstat(number: int, packet: FSetStat) -> list[bytes]:
    handle, (length, owner, mode, times, extended) = packet
    if mode is None or times is None or length is not None or owner is not None or extended:
        return _BY_KIND[FSetStat].pieces(number, packet)
    size = len(handle)
    head = _HEAD_AND_LENGTH.pack(25 + size, 10, number, size)
    return [b"%b%b%b" % (head, handle, _FOUR_U32.pack(_HAS_MODE | _HAS_TIMES, mode, *times))]


def _quick_close(number: int, packet: Close) -> list[bytes]:
    (handle,) = packet
    size = len(handle)
    return [_HEAD_AND_LENGTH.pack(9 + size, 4, number, size) + handle]


_QUICK: dict[type[Any], Callable[[int, Any], list[bytes]]] = {
    Open: _quick_open,
    Write: _quick_write,
    FSetStat: _quick_fsetstat,
    Close: _quick_close,
}


def decode_request(packet: bytes) -> tuple[int, Request]:
    """Read a packet (without its length) as a server does; returns id (0 for INIT) and request. Raises Malformed."""
    number, form, at = _open_packet(packet, _REQUESTS, _GREETINGS[0])
    if form.number == _EXTENDED:
        name, after = _decoded(_get_bytes, packet, at)
        if (known := _EXTENSION_FORMS.get(name)) is not None:
            return number, _decoded(known.decode, packet, after)
    return number, _decoded(form.decode, packet, at)


def decode_reply(packet: bytes) -> tuple[int, Reply]:
    """Read a packet (without its length) as a client does; returns id (0 for VERSION) and reply. Raises Malformed."""
    if len(packet) >= _LEAST_REPLY:
        kind = packet[0]
        if kind == _A_STATUS:
            return _U32.unpack_from(packet, 1)[0], _status(packet[5:])
        if kind == _A_HANDLE:
            number, size = _TWO.unpack_from(packet, 1)
            if size <= len(packet) - _LEAST_REPLY:
                return number, Handle(packet[_LEAST_REPLY : _LEAST_REPLY + size])
    number, form, at = _open_packet(packet, _REPLIES, _GREETINGS[1])
    return number, _decoded(form.decode, packet, at)


def request_number(packet: bytes) -> int:
    """Return the id of a request that `decode_request` does not understand, to refuse it; 0 without one."""
    return int(_U32.unpack_from(packet, 1)[0]) if len(packet) >= _HEAD.size - 4 else 0


@lru_cache(64)
def _status(body: bytes) -> Status:
    """Read what follows the id; a server says "Success" a hundred thousand times in the same words."""
    status: Status = _decoded(_REPLIES[_A_STATUS].decode, body, 0)
    return status


_T = TypeVar("_T")


def _open_packet(packet: bytes, forms: dict[int, _Form], greeting: _Form) -> tuple[int, _Form, int]:
    if len(packet) < _HEAD.size - 4:
        raise Malformed("a packet is too short to be one")
    kind = packet[0]
    if kind == greeting.number:
        return 0, greeting, 1
    form = forms.get(kind)
    if form is None:
        raise Malformed(f"a packet is of an unknown type, {kind}")
    return _U32.unpack_from(packet, 1)[0], form, 5


def _decoded(read: Callable[[bytes, int], _T], packet: bytes, at: int) -> _T:
    try:
        return read(packet, at)
    except struct.error as e:
        raise Malformed("a packet breaks off") from e


class Frames:
    """Cuts a stream of bytes into packets."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield every packet that is whole now, without its length; drain it. Raises Malformed for a lying length."""
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        try:
            while end - at >= 4:
                size = _U32.unpack_from(data, at)[0]
                if not 5 <= size <= LONGEST_PACKET:
                    raise Malformed(f"a packet claims {size} bytes; is this SFTP?")
                if end - at < 4 + size:
                    return
                start = at + 4
                at = start + size
                yield data[start:at]
        finally:
            self._rest = data[at:]
