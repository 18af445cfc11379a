"""Which requests carry out one operation, and what do the replies mean?

Pure, but for the content that a Put opens and reads. Each operation of `mirrord.hosts.files` is a conversation: a
generator that yields what it asks and is resumed with the replies, until it returns the outcome. When the requests go
out, and beside which others, is `flow`'s affair.

A conversation yields

    a tuple of requests   sent together; resumed with all their replies, in order
    `Last`                the same; nothing that it may still ask matters to who comes after it
    a single request      sent; resumed at once, with [the first bad reply to single requests] or []
    ()                    resumed when every single request was answered, likewise
    a number              resumed when that many bytes may be sent

A file is good only after each of its WRITEs was answered well; only then are its mode and mtime set: the mtime is the
mark by which a later try knows a whole file. What was only read is closed by a single request that nobody waits for.
"""

from __future__ import annotations

import hashlib
import posixpath
import stat
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from mirrord.delta import gaps
from mirrord.errors import Damaged
from mirrord.hosts import files
from mirrord.hosts.files import Attributes, Kind, Op, Outcome, Trouble
from mirrord.hosts.sftp import wire
from mirrord.hosts.sftp.wire import Attrs, Code, Malformed, OpenFlags, Reply, Request, Status

LARGEST_BLOCK = 128 * 1024
"""Bytes of content in one request, where the server takes as much."""
FIRST_WAVE, LONGEST_WAVE = 5, 16
"""Requests of one listing that are sent together at first, and at most; OpenSSH tells 100 names in each answer."""
MOST_NAMES = 5_000_000
"""Names in one folder; a listing without end is a hostile one."""
LARGEST_COPY = 8 * 1024 * 1024
"""Bytes that a server is asked to copy at once: nothing else is answered on the channel meanwhile."""
POSIX_RENAME, HARD_LINK, STATVFS, COPY_DATA, LIMITS = (
    b"posix-rename@openssh.com",
    b"hardlink@openssh.com",
    b"statvfs@openssh.com",
    b"copy-data",
    b"limits@openssh.com",
)

_NEW_FILE = int(OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.EXCLUSIVE)
_OK = int(Code.OK)
_TROUBLES: dict[int, Trouble] = {
    Code.NO_SUCH_FILE: Trouble.MISSING,
    Code.PERMISSION_DENIED: Trouble.DENIED,
    Code.OP_UNSUPPORTED: Trouble.UNSUPPORTED,
    Code.FILE_ALREADY_EXISTS: Trouble.EXISTS,
    Code.NO_SPACE: Trouble.FULL,
    Code.QUOTA_EXCEEDED: Trouble.FULL,
}
_NO_ROOM = ("no space left", "disk full", "quota")
"""How servers put it that have no code for it (strerror of ENOSPC and EDQUOT)."""
_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.FOLDER, stat.S_IFLNK: Kind.LINK}


@dataclass(frozen=True, slots=True)
class Terms:
    """What one channel and its server allow, in bytes and counts."""

    in_flight: int = 1024 * 1024
    """Bytes of requests that may be unanswered: no more than the server takes without reading them."""
    replies: int = 1024 * 1024
    """Bytes of replies that may be expected before more is begun."""
    block: int = wire.SAFE_BLOCK
    """Bytes of content in one READ or WRITE."""
    handles: int = 256
    """Files and folders open at once."""
    extensions: frozenset[bytes] = frozenset()
    ordered: bool = False
    """The server does one request after the other, as they came."""
    root: bytes = b""
    """What paths are relative to: absolute, or relative to the login folder, which empty stands for."""

    def at(self, path: bytes) -> bytes:
        """Return the server's name for a path below the root; b"" is the root itself."""
        root = self.root.rstrip(b"/")
        if not path:
            return root or self.root[:1] or b"."
        return path if self.root in (b"", b".") else root + b"/" + path


class Last(tuple[Request, ...]):
    """The last flight of a conversation that another one may wait for."""

    __slots__ = ()


Talk = Generator[tuple[Request, ...] | Request | int, list[Reply], Outcome]


def talk(op: Op, terms: Terms) -> Talk:
    """Begin the conversation that carries out `op`; a Walk's first is about its top folder only."""
    at = terms.at
    match op:
        case files.Put():
            return _put(op, terms)
        case files.Patch():
            return _patch(op, terms)
        case files.Link(existing, path):
            return _offered(op, HARD_LINK, wire.HardLink(at(existing), at(path)), terms)
        case files.Create():
            return _create(op, terms)
        case files.Rewrite():
            return _rewrite(op, terms)
        case files.MakeFolder():
            return _make_folder(op, terms)
        case files.SetMode(path, mode):
            return _simple(op, wire.SetStat(at(path), Attrs(mode=mode)))
        case files.Symlink(target, path):
            return _simple(op, wire.Symlink(target, at(path)))
        case files.Rename(old, new, over=True):
            return _offered(op, POSIX_RENAME, wire.PosixRename(at(old), at(new)), terms)
        case files.Rename(old, new):
            return _simple(op, wire.Rename(at(old), at(new)))
        case files.Remove(path):
            return _simple(op, wire.Remove(at(path)))
        case files.RemoveFolder(path):
            return _simple(op, wire.RemoveDir(at(path)))
        case files.ReadLink():
            return _read_link(op, terms)
        case files.Stat():
            return _stat(op, terms)
        case files.List(path) | files.Walk(path):
            return listing(op, path, terms)
        case files.Read():
            return _read(op, terms)
        case files.ReadPart():
            return _read_part(op, terms)
        case files.Hash():
            return _hash(op, terms)
        case files.Space():
            return _space(op, terms)


# Writing ------------------------------------------------------------------------------------------------


def _put(op: files.Put, terms: Terms) -> Talk:
    """Write a new file; its last flight commits it."""
    (reply,) = yield (wire.Open(terms.at(op.path), _NEW_FILE, Attrs(mode=op.mode)),)
    if not isinstance(reply, wire.Handle):
        return failed(op, reply)
    handle, block = reply.handle, min(terms.block, LARGEST_BLOCK)
    try:
        problem = yield from _send(op, handle, block) if op.size > block else _send_at_once(op, handle)
    except (Damaged, OSError) as e:
        yield wire.Close(handle)
        return Outcome(op, trouble=Trouble.DAMAGED, text=str(e))
    if problem or (problem := (yield ())):
        yield wire.Close(handle)
        # OpenSSH has no other word for a full disk: the file was ours to make, and then took no more.
        return _called_full(failed(op, problem[0]))
    times = None if op.mtime is None else (op.mtime, op.mtime)
    commit = wire.FSetStat(handle, Attrs(mode=op.mode, times=times))
    return _all_good(op, (yield Last((commit, wire.Close(handle)))))


def _send_at_once(op: files.Put, handle: bytes) -> Generator[tuple[Request, ...] | int, list[Reply], Sequence[Reply]]:
    """Send a content of one block, once it is known to be right; return the bad reply. Raises Damaged, OSError."""
    yield op.size + wire.WRITE_OVERHEAD
    with op.open() as content:
        data = content.read(op.size + 1)
        while len(data) < op.size and (more := content.read(op.size + 1 - len(data))):
            data += more
    if len(data) != op.size:
        raise Damaged(f"our copy has {'more than ' if len(data) > op.size else ''}{len(data)} of {op.size} bytes")
    if op.digest is not None and hashlib.sha256(data).digest() != op.digest:
        raise Damaged("our copy's bytes are not those that were recorded")
    if not data:
        return ()
    replies = yield (wire.Write(handle, 0, data),)
    return () if is_good(replies[0]) else replies


def _send(op: files.Put, handle: bytes, block: int) -> Generator[Request | int, list[Reply], list[Reply]]:
    """Send the content, no faster than there is room; return the first bad reply so far. Raises Damaged, OSError."""
    yield min(op.size, block) + wire.WRITE_OVERHEAD
    sha = hashlib.sha256() if op.digest is not None else None
    sent = 0
    with op.open() as content:
        while sent < op.size:
            data = content.read(min(block, op.size - sent))
            if not data:
                raise Damaged(f"our copy ends after {sent} of {op.size} bytes")
            if sha is not None:
                sha.update(data)
            if problem := (yield wire.Write(handle, sent, data)):
                return problem
            sent += len(data)
            if sent < op.size:
                yield min(op.size - sent, block) + wire.WRITE_OVERHEAD
        if content.read(1):
            raise Damaged(f"our copy is longer than {op.size} bytes")
    if sha is not None and sha.digest() != op.digest:
        raise Damaged("our copy's bytes are not those that were recorded")
    return []


def _patch(op: files.Patch, terms: Terms) -> Talk:
    """Write a new file with the server's own bytes and ours, and read some back; its last flight commits it."""
    if COPY_DATA not in terms.extensions:
        return _not_offered(op, COPY_DATA)
    opens = (
        wire.Open(terms.at(op.base), int(OpenFlags.READ)),
        wire.Open(terms.at(op.path), _NEW_FILE | int(OpenFlags.READ), Attrs(mode=op.mode)),
    )
    if terms.ordered:
        replies = yield opens
    else:  # one that has no second handle to give must not have made the file already
        replies = yield opens[:1]
        if isinstance(replies[0], wire.Handle):
            replies += yield opens[1:]
    handles = [reply.handle for reply in replies if isinstance(reply, wire.Handle)]
    problem: Sequence[Reply] = [reply for reply in replies if not isinstance(reply, wire.Handle)]
    wrong = ""
    try:
        if not problem:
            with op.open() as content:
                problem = yield from _fill(op, content, handles[0], handles[1], min(terms.block, LARGEST_BLOCK))
                if not terms.ordered and not problem:
                    problem = yield ()
                if not problem and op.check:
                    read = yield tuple(wire.Read(handles[1], at, size) for at, size in op.check)
                    wrong = _differs(op, content, read)
                problem = problem or (yield ())
    except (Damaged, OSError) as e:
        for handle in handles:
            yield wire.Close(handle)
        return Outcome(op, trouble=Trouble.DAMAGED, text=str(e))
    if problem or wrong:
        for handle in handles:
            yield wire.Close(handle)
        return failed(op, problem[0]) if problem else Outcome(op, trouble=Trouble.FAILED, text=wrong)
    base, new = handles
    commit = wire.FSetStat(new, Attrs(mode=op.mode, times=(op.mtime, op.mtime)))
    return _all_good(op, (yield Last((commit, wire.Close(new), wire.Close(base)))))


def _fill(
    op: files.Patch, content: BinaryIO, base: bytes, new: bytes, block: int
) -> Generator[Request | int, list[Reply], list[Reply]]:
    """Have the server's bytes copied and send ours; return the first bad reply so far. Raises Damaged, OSError."""
    sha = hashlib.sha256()
    for copy in op.copies:
        for at in range(0, copy.size, LARGEST_COPY):
            request = wire.CopyData(base, copy.old + at, min(LARGEST_COPY, copy.size - at), new, copy.new + at)
            yield wire.COPY_OVERHEAD + burden(request)
            if problem := (yield request):
                return problem
    for start, size in gaps(op.copies, op.size):
        content.seek(start)
        for at in range(start, start + size, block):
            length = min(block, start + size - at)
            yield length + wire.WRITE_OVERHEAD
            if len(data := content.read(length)) < length:
                raise Damaged(f"our copy ends before {op.size} bytes")
            sha.update(data)
            if problem := (yield wire.Write(new, at, data)):
                return problem
    if sha.digest() != op.digest:
        raise Damaged("our copy's bytes are not those that were recorded")
    return []


def _differs(op: files.Patch, content: BinaryIO, replies: Sequence[Reply]) -> str:
    """Say whether what was read back is not what we have there."""
    for (at, size), reply in zip(op.check, replies, strict=True):
        content.seek(at)
        if not isinstance(reply, wire.Data) or reply.data != content.read(size):
            return f"what was copied is not what we had written, at byte {at}"
    return ""


def burden(request: Request) -> int:
    """Return how many bytes of other requests keep a server as busy as this one, beyond its own.

    What is queued must stay within seconds, for a heartbeat that comes after it.
    """
    return request.length // 32 if isinstance(request, wire.CopyData) else 0


def _create(op: files.Create, terms: Terms) -> Talk:
    """Write a small file; where its mode is not ours to set (ProFTPD: Limit SITE_CHMOD), it stays as it is.

    With a mode in the OPEN such a server says no, and has made the file.
    """
    (reply,) = yield (wire.Open(terms.at(op.path), _NEW_FILE, Attrs()),)
    if not isinstance(reply, wire.Handle):
        return failed(op, reply)
    mode, stat = wire.FSetStat(reply.handle, Attrs(mode=op.mode)), wire.FStat(reply.handle)
    written = _writes(reply.handle, op.data, terms)
    *done, _, told, closed = yield Last((*written, mode, stat, wire.Close(reply.handle)))
    outcome = _all_good(op, (*done, closed))
    if outcome.good and isinstance(told, wire.Attributes):
        return Outcome(op, _attributes(told.attrs))
    return outcome


def _rewrite(op: files.Rewrite, terms: Terms) -> Talk:
    (reply,) = yield (wire.Open(terms.at(op.path), int(OpenFlags.WRITE)),)
    if not isinstance(reply, wire.Handle):
        return failed(op, reply)
    return _all_good(op, (yield Last((*_writes(reply.handle, op.data, terms), wire.Close(reply.handle)))))


def _writes(handle: bytes, data: bytes, terms: Terms) -> Iterator[wire.Write]:
    for at in range(0, len(data), terms.block):
        yield wire.Write(handle, at, data[at : at + terms.block])


def _make_folder(op: files.MakeFolder, terms: Terms) -> Talk:
    """Make a folder, for the root those above it too, and set its mode whatever the server's umask takes from it."""
    path = terms.at(op.path)
    above = [path[:end] for end in range(1, len(path)) if path[end : end + 1] == b"/"] if not op.path else []
    makes = [wire.MakeDir(folder, Attrs(mode=0o755)) for folder in above]
    make, look = wire.MakeDir(path, Attrs(mode=op.mode)), wire.LStat(path)
    if terms.ordered:
        # The dot: if a file stands there, its mode is left alone. Others read it as the file itself.
        *_, made, mended, found = yield Last((*makes, make, wire.SetStat(path + b"/.", Attrs(mode=op.mode)), look))
    else:
        for above_it in makes:
            yield (above_it,)
        (made,) = yield (make,)
        (found,) = yield (look,)
        mended = made
        if _is_folder(found) and _differ(found, op.mode):
            (mended,) = yield (wire.SetStat(path, Attrs(mode=op.mode)),)
            (found,) = yield (look,)
    if not isinstance(found, wire.Attributes) or found.attrs.mode is None:
        if is_good(made):
            return failed(op, found)
        # As with files: nothing stands there and nobody forbids it, and it gives no reason.
        nothing_stands = isinstance(found, Status) and found.code == Code.NO_SUCH_FILE
        return _called_full(failed(op, made)) if nothing_stands else failed(op, made)
    if not _is_folder(found):
        return failed(op, made)
    # These nine bits count: a group that the folder above hands down is the hoster's affair, and a mode that is right
    # need not be ours to set.
    if not _differ(found, op.mode):
        return Outcome(op)
    if not is_good(mended):
        return failed(op, mended)
    if op.mode & 0o777 & ~found.attrs.mode:
        stays = f"its mode stays {found.attrs.mode & 0o777:o} although the server says that it is now {op.mode:o}"
        return Outcome(op, trouble=Trouble.FAILED, text=stays)
    return Outcome(op)  # a server without modes of its own: nobody is kept out


def _is_folder(found: Reply) -> bool:
    return isinstance(found, wire.Attributes) and _kind(found.attrs.mode or 0) is Kind.FOLDER


def _differ(found: Reply, mode: int) -> bool:
    return not isinstance(found, wire.Attributes) or bool(((found.attrs.mode or 0) ^ mode) & 0o777)


def _simple(op: Op, request: Request) -> Talk:
    return _all_good(op, (yield Last((request,))))


def _offered(op: Op, extension: bytes, request: Request, terms: Terms) -> Talk:
    if extension not in terms.extensions:
        return _not_offered(op, extension)
    return _all_good(op, (yield Last((request,))))


def _not_offered(op: Op, extension: bytes) -> Outcome:
    return Outcome(op, trouble=Trouble.UNSUPPORTED, text=f"the server does not offer {extension.decode()}")


# Reading ------------------------------------------------------------------------------------------------


def _read_link(op: files.ReadLink, terms: Terms) -> Talk:
    """Read a link; one that some servers tell as an absolute path (ProFTPD does) is told as we wrote it."""
    (reply,) = yield Last((wire.ReadLink(terms.at(op.path)),))
    if not isinstance(reply, wire.Names) or len(reply.names) != 1:
        return failed(op, reply)
    text = reply.names[0].name
    if terms.ordered or not text.startswith(b"/"):
        return Outcome(op, text)
    above = op.path.rpartition(b"/")[0]
    roots = yield tuple(wire.RealPath(terms.at(path)) for path in (b"", above))
    root, folder = (real.names[0].name if isinstance(real, wire.Names) and real.names else b"" for real in roots)
    if root and folder and text.startswith(root.rstrip(b"/") + b"/"):
        text = posixpath.relpath(text, folder)
    return Outcome(op, text)


def _stat(op: files.Stat, terms: Terms) -> Talk:
    (reply,) = yield Last((wire.LStat(terms.at(op.path)),))
    if isinstance(reply, wire.Attributes):
        return Outcome(op, _attributes(reply.attrs))
    return failed(op, reply)


def _space(op: files.Space, terms: Terms) -> Talk:
    if STATVFS not in terms.extensions:
        return _not_offered(op, STATVFS)
    (reply,) = yield Last((wire.StatVfs(terms.at(op.path)),))
    if not isinstance(reply, wire.ExtendedReply):
        return failed(op, reply)
    space = wire.Space.decode(reply.data)
    if space.files and not space.favail:
        return Outcome(op, 0)  # no room for one more name, however many bytes
    return Outcome(op, space.bavail * (space.frsize or space.bsize))


def _hash(op: files.Hash, terms: Terms) -> Talk:
    """Ask whether it is announced or not: ProFTPD announces it in later versions of the protocol only."""
    (reply,) = yield Last((wire.CheckFile(terms.at(op.path), b"sha256"),))
    if not isinstance(reply, wire.ExtendedReply):
        return failed(op, reply)
    told = wire.Checksum.decode(reply.data)
    if told.algorithm != b"sha256" or len(told.digest) != hashlib.sha256().digest_size:
        return Outcome(op, trouble=Trouble.FAILED, text="the server answered with another hash")
    return Outcome(op, told.digest)


def _read(op: files.Read, terms: Terms) -> Talk:
    """Read a file: what the first READ brings, then what FSTAT says is left, until nothing more comes."""
    (reply,) = yield (wire.Open(terms.at(op.path), int(OpenFlags.READ)),)
    if not isinstance(reply, wire.Handle):
        return failed(op, reply)
    handle, block, value = reply.handle, min(terms.block, LARGEST_BLOCK, op.limit + 1), bytearray()
    first, about = yield (wire.Read(handle, 0, block), wire.FStat(handle))
    size = about.attrs.size if isinstance(about, wire.Attributes) else None
    pieces = [first]
    while True:
        before = len(value)
        problem, shortest = _join(value, pieces, block)
        at = len(value)
        if problem is not None or at == before or at > op.limit or (size is not None and not at < size <= op.limit):
            break
        block = shortest or block
        left = (op.limit + 1 if size is None else size) - at
        wave = min(LONGEST_WAVE, -(-left // block))
        pieces = yield tuple(wire.Read(handle, at + n * block, block) for n in range(wave))
    yield wire.Close(handle)
    if problem is not None:
        return failed(op, problem)
    if max(len(value), size or 0) > op.limit:
        return Outcome(op, trouble=Trouble.FAILED, text=f"it is longer than {op.limit} bytes")
    return Outcome(op, bytes(value))


def _read_part(op: files.ReadPart, terms: Terms) -> Talk:
    """Read a run of bytes; nobody is asked how long the file is."""
    (reply,) = yield (wire.Open(terms.at(op.path), int(OpenFlags.READ)),)
    if not isinstance(reply, wire.Handle):
        return failed(op, reply)
    handle, block, value = reply.handle, min(terms.block, LARGEST_BLOCK), bytearray()
    problem: Reply | None = None
    while problem is None and len(value) < op.size:
        before = len(value)
        starts = range(before, min(op.size, before + LONGEST_WAVE * block), block)
        wave = tuple(wire.Read(handle, op.offset + at, min(block, op.size - at)) for at in starts)
        problem, shortest = _join(value, (yield wave), block)
        block = min(block, shortest or block)
        if len(value) == before:
            break
    yield wire.Close(handle)
    return failed(op, problem) if problem is not None else Outcome(op, bytes(value[: op.size]))


def _join(value: bytearray, pieces: Sequence[Reply], block: int) -> tuple[Reply | None, int]:
    """Add the pieces that follow each other without a gap.

    Returns a reply that is neither a piece nor the end of the file, and the length of a piece that came short.
    """
    for piece in pieces:
        if isinstance(piece, Status) and piece.code == Code.EOF:
            break
        if not isinstance(piece, wire.Data):
            return piece, 0
        value += piece.data
        if len(piece.data) < block:
            return None, len(piece.data)
    return None, 0


def listing(op: files.List | files.Walk, path: bytes, terms: Terms) -> Talk:
    """List one folder: name to `Attributes`. READDIRs are sent on speculation, the more the longer it proves."""
    (reply,) = yield (wire.OpenDir(terms.at(path)),)
    if not isinstance(reply, wire.Handle):
        return failed(op, reply)
    handle, found, untold = reply.handle, dict[bytes, Attributes](), list[bytes]()
    wave, end, why = FIRST_WAVE, None, ""
    while end is None and not why:
        before = len(found) + len(untold)
        for reply in (yield (wire.ReadDir(handle),) * wave):
            if not isinstance(reply, wire.Names):
                end = end or reply
                continue
            why = why or _note(reply, found, untold)
        wave = min(2 * wave, LONGEST_WAVE)
        if len(found) + len(untold) == before or before > MOST_NAMES:
            why = why or ("" if end else "its listing has no end")
    yield wire.Close(handle)
    if why:
        return Outcome(op, trouble=Trouble.FAILED, text=why)
    if not (isinstance(end, Status) and end.code == Code.EOF):
        return failed(op, end or Status(Code.FAILURE))
    if untold:  # a server that lists names without their attributes
        prefix = path + b"/" if path else b""
        replies = yield tuple(wire.LStat(terms.at(prefix + name)) for name in untold)
        for name, reply in zip(untold, replies, strict=True):
            if not isinstance(reply, wire.Attributes):
                return failed(op, reply)
            found[name] = _attributes(reply.attrs)
    return Outcome(op, found)


def _note(names: wire.Names, found: dict[bytes, Attributes], untold: list[bytes]) -> str:
    """Add names to what was found; say what makes them impossible."""
    for name in names.names:
        if name.name in (b".", b".."):
            continue
        if not name.name or b"/" in name.name or b"\0" in name.name:
            return f"its listing holds an impossible name, {name.name!r}"
        if name.attrs.mode is None:
            untold.append(name.name)
        else:
            found[name.name] = _attributes(name.attrs)
    return ""


# What replies mean --------------------------------------------------------------------------------------


def failed(op: Op, reply: Reply) -> Outcome:
    """Return the outcome of an operation that a status ended. Raises Malformed for a reply that makes no sense here."""
    if not isinstance(reply, Status) or reply.code == Code.OK:
        raise Malformed(f"the server answered {type(op).__name__} with {type(reply).__name__}")
    words = reply.message.decode("utf-8", "replace").strip()
    trouble = _TROUBLES.get(reply.code, Trouble.FAILED)
    if trouble is Trouble.FAILED and any(told in words.lower() for told in _NO_ROOM):
        trouble = Trouble.FULL
    return Outcome(op, trouble=trouble, text=words or f"status {reply.code}")


def _called_full(refused: Outcome) -> Outcome:
    """Take a failure without a reason for a full disk, or a quota: it is mostly that."""
    return replace(refused, trouble=Trouble.FULL) if refused.trouble is Trouble.FAILED else refused


def is_good(reply: Reply) -> bool:
    """Tell whether a request was done."""
    return type(reply) is Status and reply[0] == _OK


def _all_good(op: Op, replies: Sequence[Reply]) -> Outcome:
    for reply in replies:
        if not is_good(reply):
            return failed(op, reply)
    return Outcome(op)


def _kind(mode: int) -> Kind:
    return _KINDS.get(stat.S_IFMT(mode), Kind.OTHER)


def _attributes(attrs: Attrs) -> Attributes:
    mode = attrs.mode or 0
    mtime = attrs.times[1] if attrs.times is not None else 0
    return Attributes(_kind(mode), attrs.size or 0, mtime, stat.S_IMODE(mode))
