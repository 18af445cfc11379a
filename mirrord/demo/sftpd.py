"""How does a small host let its account's files be written over SFTP?

SSH is paramiko's; SFTP is `mirrord.hosts.sftp.wire`, the codec that the client stands on, in the other direction.
One account, one folder: no request leads out of it, by a link neither. Requests of one channel are done
strictly one after the other, as OpenSSH does them.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import io
import logging
import os
import posixpath
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_SUCCEEDED,
)

from mirrord.demo.plug import Plugged
from mirrord.hosts.sftp import wire
from mirrord.hosts.sftp.wire import Attrs, Code, Malformed, OpenFlags, Status

Gate = Callable[[wire.Request, wire.Reply | None], None]
"""Called with each request before it is done (reply None), and when it is done, before its reply; may raise `Cut`."""

WINDOW = 2 * 1024 * 1024
"""Bytes that a client may send on a channel before we say that we read them; as OpenSSH."""
MOST_NAMES = 100
"""Names in one answer to READDIR; as OpenSSH."""
MOST_HANDLES = 1000
"""Files and folders that may be open on one channel."""

_BATCH = 128 * 1024
_LONGEST_READ = wire.LONGEST_PACKET - 1024
_EXTENSIONS = (
    (b"posix-rename@openssh.com", b"1"),
    (b"hardlink@openssh.com", b"1"),
    (b"statvfs@openssh.com", b"2"),
    (b"fsync@openssh.com", b"1"),
    (b"check-file-name", b"1"),
    (b"copy-data", b"1"),
    (b"limits@openssh.com", b"1"),
)
_CODES = {
    errno.ENOENT: Code.NO_SUCH_FILE,
    errno.ENOTDIR: Code.NO_SUCH_FILE,
    errno.ELOOP: Code.NO_SUCH_FILE,
    errno.EACCES: Code.PERMISSION_DENIED,
    errno.EPERM: Code.PERMISSION_DENIED,
    errno.EROFS: Code.PERMISSION_DENIED,
    errno.ENOSYS: Code.OP_UNSUPPORTED,
    errno.EOPNOTSUPP: Code.OP_UNSUPPORTED,
}
_GOOD = Status(Code.OK, b"Success")
_END = Status(Code.EOF, b"End of file")

_LOG = f"{__name__}.paramiko"
logging.getLogger(_LOG).addHandler(logging.NullHandler())
logging.getLogger(_LOG).propagate = False  # connections that break are part of the show


class Cut(Exception):
    """Raised by a gate: the connection breaks here."""


def new_key() -> tuple[bytes, str]:
    """Make an Ed25519 key: the private half as OpenSSH writes it, the public half as `ssh-ed25519 AAAA...`."""
    private = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    key = paramiko.Ed25519Key.from_private_key(io.StringIO(private.decode()))
    return private, f"{key.get_name()} {key.get_base64()}"


class SftpHost(Plugged):
    """One account with one folder, behind a host key of its own; a context manager."""

    def __init__(
        self,
        folder: Path,
        *,
        public_key: str,
        user: str = "mirror",
        address: str = "127.0.0.1",
        port: int = 0,
        gate: Gate | None = None,
    ) -> None:
        """Serve `folder`, which exists, to whoever has the private half of `public_key` (`ssh-ed25519 AAAA...`)."""
        super().__init__(address, port)
        self.folder = folder
        self.user = user
        self.gate = gate
        private, self.host_key = new_key()
        """What clients pin: `ssh-ed25519 AAAA...`."""
        self._own_key = paramiko.Ed25519Key.from_private_key(io.StringIO(private.decode()))
        self._their_key = paramiko.PKey.from_type_string("ssh-ed25519", _blob(public_key)).asbytes()

    def serve(self, connection: socket.socket) -> None:
        """Be an SSH server on one connection."""
        transport = paramiko.Transport(connection, default_window_size=WINDOW)
        transport.set_log_channel(_LOG)
        transport.local_version = "SSH-2.0-mirrord_demo"
        transport.add_server_key(self._own_key)
        try:
            transport.start_server(event=threading.Event(), server=_Login(self))
            transport.join()
        finally:
            transport.close()

    def opens(self, user: str, key: paramiko.PKey) -> bool:
        """Tell whether this user's key is the account's."""
        return user == self.user and key.asbytes() == self._their_key

    def begin(self, channel: paramiko.Channel) -> None:
        """Speak SFTP on a channel, on a thread of its own."""
        self.thread("sftp", self._speak, channel)

    def _speak(self, channel: paramiko.Channel) -> None:
        transport = channel.get_transport()
        try:
            with contextlib.closing(Session(os.fsencode(self.folder))) as session:
                _converse(channel, session, self.gate)
        except (OSError, EOFError, Malformed, Cut, paramiko.SSHException):
            transport.close()  # what follows cannot be understood, or nobody is there to hear it
        else:
            channel.close()


def _blob(public_key: str) -> bytes:
    return base64.b64decode(public_key.split()[1])


class _Login(paramiko.ServerInterface):
    """Who may come in, and to do what."""

    def __init__(self, host: SftpHost) -> None:
        self._host = host

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002 - named by paramiko
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return AUTH_SUCCESSFUL if self._host.opens(username, key) else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002 - named by paramiko
        return OPEN_SUCCEEDED if kind == "session" else OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        if name != "sftp":
            return False
        self._host.begin(channel)
        return True


def _converse(channel: paramiko.Channel, session: Session, gate: Gate | None) -> None:
    """Answer everything that comes, until the client is done."""
    frames = wire.Frames()
    while data := channel.recv(WINDOW):
        answers = bytearray()
        for packet in frames.feed(data):
            number, reply = session.answer(packet, gate)
            answers += wire.encode(number, reply)
            if gate is not None or len(answers) >= _BATCH:
                channel.sendall(bytes(answers))
                answers.clear()
        channel.sendall(bytes(answers))


class Session:
    """SFTP on one channel: what is open, and how each request is done."""

    def __init__(self, root: bytes) -> None:
        """Let nothing out of the folder `root`."""
        self._root = os.path.realpath(root)
        self._files: dict[bytes, int] = {}
        self._folders: dict[bytes, Iterator[os.DirEntry[bytes]]] = {}
        self._count = 0

    def close(self) -> None:
        """Close what is open."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()
        self._folders.clear()

    def answer(self, packet: bytes, gate: Gate | None = None) -> tuple[int, wire.Reply]:
        """Do what one packet (without its length) asks for; return its id and the reply. Raises as the gate does."""
        try:
            number, request = wire.decode_request(packet)
        except Malformed as e:
            return wire.request_number(packet), Status(Code.BAD_MESSAGE, str(e).encode())
        if gate is not None:
            gate(request, None)
        reply = self._outcome(request)
        if gate is not None:
            gate(request, reply)
        return number, reply

    def _outcome(self, request: wire.Request) -> wire.Reply:
        """Do it, or say why not."""
        try:
            return self._do(request)
        except OSError as e:
            return Status(_CODES.get(e.errno or 0, Code.FAILURE), (e.strerror or "Failure").encode())
        except KeyError:
            return Status(Code.FAILURE, b"Invalid handle")

    def _do(self, request: wire.Request) -> wire.Reply:
        """Do it. Raises OSError, and KeyError for a handle that is not open."""
        at = self._at
        match request:
            case wire.Init():
                return wire.Version(extensions=_EXTENSIONS)
            case wire.Open(path, flags, attrs):
                return self._open(at(path, follow=True), flags, attrs)
            case wire.Close(handle):
                self._close(handle)
            case wire.Read(handle, offset, length):
                data = os.pread(self._files[handle], min(length, _LONGEST_READ), offset)
                return wire.Data(data) if data else _END
            case wire.Write(handle, offset, data):
                _write(self._files[handle], data, offset)
            case wire.LStat(path):
                return wire.Attributes(_attrs(os.lstat(at(path))))
            case wire.Stat(path):
                return wire.Attributes(_attrs(os.stat(at(path, follow=True))))  # noqa: PTH116 - of bytes
            case wire.FStat(handle):
                return wire.Attributes(_attrs(os.fstat(self._files[handle])))
            case wire.SetStat(path, attrs):
                _set(at(path, follow=True), attrs)
            case wire.FSetStat(handle, attrs):
                _set(self._files[handle], attrs)
            case wire.OpenDir(path):
                return self._open_folder(at(path, follow=True))
            case wire.ReadDir(handle):
                return self._read_folder(handle)
            case wire.Remove(path):
                os.unlink(at(path))  # noqa: PTH108 - of bytes
            case wire.MakeDir(path, attrs):
                os.mkdir(at(path), stat.S_IMODE(attrs.mode) if attrs.mode is not None else 0o777)  # noqa: PTH102
            case wire.RemoveDir(path):
                os.rmdir(at(path))  # noqa: PTH106 - of bytes
            case wire.RealPath(path):
                return _one_name(self._inside(path))
            case wire.Rename(old, new):
                _rename(at(old), at(new))
            case wire.PosixRename(old, new):
                os.replace(at(old), at(new))  # noqa: PTH105 - of bytes
            case wire.ReadLink(path):
                return _one_name(os.readlink(at(path)))  # noqa: PTH115 - of bytes
            case wire.Symlink(target, path):
                self._link(target, path)
            case wire.HardLink(existing, path):
                os.link(at(existing), at(path), follow_symlinks=False)
            case wire.StatVfs(path):
                return wire.ExtendedReply(_space(at(path, follow=True)).encode())
            case wire.FSync(handle):
                os.fsync(self._files[handle])
            case wire.CopyData():
                return self._copy(request)
            case wire.CheckFile(path, algorithms):
                if b"sha256" not in algorithms.split(b","):
                    return Status(Code.OP_UNSUPPORTED, b"Operation unsupported")
                with open(at(path, follow=True), "rb") as file:  # noqa: PTH123 - of bytes
                    digest = hashlib.file_digest(file, "sha256").digest()
                return wire.ExtendedReply(wire.Checksum(b"sha256", digest).encode())
            case wire.Limits():
                capacity = wire.Capacity(wire.LONGEST_PACKET, _LONGEST_READ, _LONGEST_READ, MOST_HANDLES)
                return wire.ExtendedReply(capacity.encode())
            case wire.Extended():
                return Status(Code.OP_UNSUPPORTED, b"Operation unsupported")
        return _GOOD

    def _inside(self, path: bytes) -> bytes:
        """Return the absolute name that a client's path means, below a root that is ours."""
        return posixpath.normpath(b"/" + path.lstrip(b"/"))

    def _at(self, path: bytes, *, follow: bool = False) -> bytes:
        """Return where a client's path lies on this machine. Raises OSError for one that leads out by a link.

        Where the request will follow a link at the path's end, that must not lead out either.
        """
        if b"\0" in path:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        inside = self._inside(path)
        where = self._root + inside.rstrip(b"/")
        led = os.path.realpath(where if follow or inside == b"/" else posixpath.dirname(where))
        if led != self._root and not led.startswith(self._root + b"/"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return where

    def _link(self, target: bytes, path: bytes) -> None:
        os.symlink(target, self._at(path))  # noqa: PTH211 - of bytes

    def _copy(self, asked: wire.CopyData) -> wire.Reply:
        """Copy a range from one file into another; EOF where there is less than was asked for."""
        source, out = self._files[asked.handle], self._files[asked.to]
        if os.path.sameopenfile(source, out):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        done = 0
        while not asked.length or done < asked.length:
            most = min(WINDOW, asked.length - done) if asked.length else WINDOW
            data = os.pread(source, most, asked.offset + done)
            if not data:
                return _END if asked.length else _GOOD
            _write(out, data, asked.to_offset + done)
            done += len(data)
        return _GOOD

    def _new_handle(self) -> bytes:
        if len(self._files) + len(self._folders) >= MOST_HANDLES:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._count += 1
        return b"%d" % self._count

    def _open(self, where: bytes, flags: int, attrs: Attrs) -> wire.Reply:
        handle = self._new_handle()
        mode = stat.S_IMODE(attrs.mode) if attrs.mode is not None else 0o666
        self._files[handle] = os.open(where, _open_flags(flags), mode)
        return wire.Handle(handle)

    def _open_folder(self, where: bytes) -> wire.Reply:
        handle = self._new_handle()
        self._folders[handle] = iter(sorted(os.scandir(where), key=lambda entry: entry.name))
        return wire.Handle(handle)

    def _read_folder(self, handle: bytes) -> wire.Reply:
        names: list[wire.Name] = []
        for entry in self._folders[handle]:
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # removed meanwhile
            names.append(wire.Name(entry.name, _long(entry.name, found), _attrs(found)))
            if len(names) == MOST_NAMES:
                break
        return wire.Names(tuple(names)) if names else _END

    def _close(self, handle: bytes) -> None:
        if self._folders.pop(handle, None) is None:
            os.close(self._files.pop(handle))


def _open_flags(flags: int) -> int:
    wanted = OpenFlags(flags & 0x3F)
    found = os.O_CLOEXEC | os.O_NONBLOCK
    if OpenFlags.WRITE in wanted:
        found |= os.O_RDWR if OpenFlags.READ in wanted else os.O_WRONLY
    for flag, meaning in (
        (OpenFlags.APPEND, os.O_APPEND),
        (OpenFlags.CREATE, os.O_CREAT),
        (OpenFlags.TRUNCATE, os.O_TRUNC),
        (OpenFlags.EXCLUSIVE, os.O_EXCL),
    ):
        found |= meaning if flag in wanted else 0
    return found


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _set(where: bytes | int, attrs: Attrs) -> None:
    """Set what is told; owners stay who they are, as for any ordinary user."""
    if attrs.size is not None:
        os.truncate(where, attrs.size)
    if attrs.mode is not None:
        os.chmod(where, stat.S_IMODE(attrs.mode))  # noqa: PTH101 - of bytes, or a descriptor
    if attrs.times is not None:
        os.utime(where, attrs.times)


def _rename(old: bytes, new: bytes) -> None:
    """Rename, but never over anything (draft-ietf-secsh-filexfer-02, 6.5)."""
    if os.path.lexists(new):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(old, new)  # noqa: PTH104 - of bytes


def _attrs(found: os.stat_result) -> Attrs:
    times = (int(found.st_atime) & 0xFFFFFFFF, int(found.st_mtime) & 0xFFFFFFFF)
    return Attrs(found.st_size, (found.st_uid, found.st_gid), found.st_mode, times)


def _long(name: bytes, found: os.stat_result) -> bytes:
    return (
        b"%s %d %d %d %d "
        % (
            stat.filemode(found.st_mode).encode(),
            found.st_nlink,
            found.st_uid,
            found.st_gid,
            found.st_size,
        )
        + name
    )


def _one_name(name: bytes) -> wire.Names:
    return wire.Names((wire.Name(name, name, wire.NOTHING),))


def _space(where: bytes) -> wire.Space:
    found = os.statvfs(where)
    return wire.Space(
        found.f_bsize,
        found.f_frsize,
        found.f_blocks,
        found.f_bfree,
        found.f_bavail,
        found.f_files,
        found.f_ffree,
        found.f_favail,
        found.f_fsid & 0xFFFFFFFFFFFFFFFF,
        found.f_flag,
        found.f_namemax,
    )
