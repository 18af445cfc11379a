"""Run paramiko's SFTP server on one folder until we are ended: `serve_paramiko.py ADDRESS PORT FOLDER ACCOUNT USER`.

FOLDER holds `host_key` and `authorized_keys`, ACCOUNT is what the client sees as "/". What a request does is written as
paramiko's `SFTPServerInterface` asks for it: a rename replaces nothing, and there are no hard links.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import paramiko
from paramiko import SFTPAttributes, SFTPHandle, SFTPServer, SFTPServerInterface
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED, OPEN_SUCCEEDED
from paramiko.sftp import SFTP_FAILURE, SFTP_OK


class Login(paramiko.ServerInterface):
    """Lets one user in, by key only, for SFTP only."""

    def __init__(self, user: str, key: str) -> None:
        self._opens = (user, key)

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        mine = (username, f"{key.get_name()} {key.get_base64()}") == self._opens
        return AUTH_SUCCESSFUL if mine else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED if kind == "session" else OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED


def answered(work: Callable[[], Any]) -> Any:
    """Return what `work` returns, SFTP_OK for nothing; the status for what it raises."""
    try:
        result = work()
    except OSError as e:
        return SFTPServer.convert_errno(e.errno or 0)
    return SFTP_OK if result is None else result


class Handle(SFTPHandle):
    """An open file."""

    readfile: IO[bytes]
    writefile: IO[bytes]

    def stat(self) -> SFTPAttributes | Any:
        return answered(lambda: SFTPAttributes.from_stat(os.fstat(self.readfile.fileno())))

    def chattr(self, attr: SFTPAttributes) -> Any:
        return answered(lambda: change(self.readfile.fileno(), attr))


class Folder(SFTPServerInterface):
    """The account's files."""

    root = ""

    def open(self, path: str, flags: int, attr: SFTPAttributes) -> SFTPHandle | Any:
        def work() -> SFTPHandle:
            file = os.open(self._at(path), flags, attr.st_mode if attr.st_mode is not None else 0o666)
            handle = Handle(flags)
            modes = {os.O_RDONLY: "rb", os.O_WRONLY: "wb", os.O_RDWR: "r+b"}
            handle.readfile = handle.writefile = os.fdopen(file, modes[flags & os.O_ACCMODE])
            return handle

        return answered(work)

    def list_folder(self, path: str) -> list[SFTPAttributes] | Any:
        def work() -> list[SFTPAttributes]:
            with os.scandir(self._at(path)) as entries:
                return [SFTPAttributes.from_stat(e.stat(follow_symlinks=False), e.name) for e in entries]

        return answered(work)

    def stat(self, path: str) -> SFTPAttributes | Any:
        return answered(lambda: SFTPAttributes.from_stat(Path(self._at(path)).stat()))

    def lstat(self, path: str) -> SFTPAttributes | Any:
        return answered(lambda: SFTPAttributes.from_stat(Path(self._at(path)).lstat()))

    def remove(self, path: str) -> Any:
        return answered(Path(self._at(path)).unlink)

    def rename(self, oldpath: str, newpath: str) -> Any:
        if os.path.lexists(self._at(newpath)):
            return SFTP_FAILURE
        return answered(lambda: os.rename(self._at(oldpath), self._at(newpath)))  # noqa: PTH104 - returns nothing

    def posix_rename(self, oldpath: str, newpath: str) -> Any:
        return answered(lambda: os.replace(self._at(oldpath), self._at(newpath)))  # noqa: PTH105 - returns nothing

    def mkdir(self, path: str, attr: SFTPAttributes) -> Any:
        return answered(lambda: Path(self._at(path)).mkdir(0o777 if attr.st_mode is None else attr.st_mode))

    def rmdir(self, path: str) -> Any:
        return answered(Path(self._at(path)).rmdir)

    def chattr(self, path: str, attr: SFTPAttributes) -> Any:
        return answered(lambda: change(self._at(path), attr))

    def readlink(self, path: str) -> str | Any:
        return answered(lambda: str(Path(self._at(path)).readlink()))

    def symlink(self, target_path: str, path: str) -> Any:
        return answered(lambda: os.symlink(target_path, self._at(path)))  # noqa: PTH211 - the text stays as it is

    def _at(self, path: str) -> str:
        return self.root + self.canonicalize(path).rstrip("/")


def change(where: str | int, attr: SFTPAttributes) -> None:
    """Set the attributes that were told. Raises OSError."""
    if attr.st_size is not None:
        os.truncate(where, attr.st_size)
    if attr.st_mode is not None:
        os.chmod(where, stat.S_IMODE(attr.st_mode))  # noqa: PTH101 - a path or a descriptor
    if attr.st_atime is not None and attr.st_mtime is not None:
        os.utime(where, (attr.st_atime, attr.st_mtime))


def serve(connection: socket.socket, key: paramiko.PKey, login: Login) -> None:
    """Be an SSH server on one connection."""
    transport = paramiko.Transport(connection)
    transport.add_server_key(key)
    transport.set_subsystem_handler("sftp", SFTPServer, Folder)
    transport.start_server(event=threading.Event(), server=login)


def main(address: str, port: int, folder: Path, account: str, user: str) -> None:
    """Serve for ever."""
    Folder.root = account
    key = paramiko.Ed25519Key.from_private_key_file(str(folder / "host_key"))
    opens = (folder / "authorized_keys").read_text().strip()
    with socket.create_server((address, port)) as listener:
        while True:
            connection, _ = listener.accept()
            serve(connection, key, Login(user, opens))


if __name__ == "__main__":
    where, number, files, root, login_name = sys.argv[1:]
    main(where, int(number), Path(files), root, login_name)
