"""A reader: asks the resolver for a name, takes what address it gets, and reads the page by HTTPS."""

from __future__ import annotations

import http.client
import socket
import ssl
import urllib.parse
from pathlib import Path

from tests.lab.unbound import Unbound


class Reader:
    """Reads URLs as a browser does, but with our resolver and our certificate authority.

    The resolver is asked for every page; the connection is kept as long as the answer stays the same.
    """

    def __init__(self, resolver: Unbound, ca_file: Path, timeout: float = 5.0) -> None:
        self._resolver = resolver
        self._context = ssl.create_default_context(cafile=ca_file)
        self._timeout = timeout
        self._kept: dict[tuple[str, str, int], http.client.HTTPSConnection] = {}

    def get(self, url: str) -> bytes:
        """Return the body of a 200 answer.

        Raises:
            OSError: the name has no address, nobody answers there, the certificate is wrong, or the status is another.
        """
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
        addresses = sorted(self._resolver.query(host, "A"))
        if not addresses:
            raise OSError(f"{host} has no address")
        where = (host, addresses[0], port)
        try:
            kept = self._kept.pop(where, None)
            if kept is not None:
                try:
                    return self._read(kept, where, parts.path)
                except (OSError, http.client.HTTPException):
                    kept.close()  # the server let go of it meanwhile
            return self._read(self._connect(where), where, parts.path)
        except http.client.HTTPException as e:
            raise OSError(f"{url}: {str(e) or type(e).__name__}") from e

    def close(self) -> None:
        """Let go of all connections."""
        for connection in self._kept.values():
            connection.close()
        self._kept.clear()

    def _connect(self, where: tuple[str, str, int]) -> http.client.HTTPSConnection:
        host, address, port = where
        connection = http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._context)
        plain = socket.create_connection((address, port), self._timeout)
        try:
            connection.sock = self._context.wrap_socket(plain, server_hostname=host)
        except OSError:
            plain.close()
            raise
        return connection

    def _read(self, connection: http.client.HTTPSConnection, where: tuple[str, str, int], path: str) -> bytes:
        try:
            connection.request("GET", path or "/")
            answer = connection.getresponse()
            body = answer.read()
        except BaseException:
            connection.close()
            raise
        if answer.status != http.client.OK:
            connection.close()
            raise OSError(f"{where[0]} at {where[1]}: {path}: status {answer.status}")
        self._kept[where] = connection
        return body
