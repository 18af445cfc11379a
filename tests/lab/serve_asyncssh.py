"""Run asyncssh's SFTP server until we are ended: `serve_asyncssh.py ADDRESS PORT FOLDER ACCOUNT USER [chroot]`.

FOLDER holds `host_key` and `authorized_keys`, ACCOUNT is where the client's relative paths begin; with the last word it
is what the client sees as "/", too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

import asyncssh


class OneUser(asyncssh.SSHServer):
    """Lets one user in, by key only."""

    user = ""

    def begin_auth(self, username: str) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Nobody else has an account; the keys of this one are in `authorized_keys`."""
        return False

    def password_auth_supported(self) -> bool:
        return False


async def main(address: str, port: int, folder: str, user: str, chroot: bytes | None) -> None:
    """Serve for ever."""

    def sftp(channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
        return asyncssh.SFTPServer(channel, chroot=chroot)

    OneUser.user = user
    server = await asyncssh.listen(
        address,
        port,
        server_factory=OneUser,
        server_host_keys=[f"{folder}/host_key"],
        authorized_client_keys=f"{folder}/authorized_keys",
        sftp_factory=sftp,
        sftp_version=3,
        allow_scp=False,
    )
    await server.wait_closed()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    where, number, files, root, login, *locked_in = sys.argv[1:]
    os.chdir(root)
    asyncio.run(main(where, int(number), files, login, os.fsencode(root) if locked_in else None))
