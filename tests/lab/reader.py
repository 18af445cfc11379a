"""A reader: asks the resolver for a name, takes what address it gets, and reads the page by HTTPS."""

from __future__ import annotations

import http.client
import socket
import ssl
import urllib.parse
from pathlib import Path

from tests.lab.unbound import Unbound


class Reader:
    """Reads URLs as a browser does, but with our resolver and our certificate authority."""

    def __init__(self, resolver: Unbound, ca_file: Path, timeout: float = 5.0) -> None:
        self._resolver = resolver
        self._context = ssl.create_default_context(cafile=ca_file)
        self._timeout = timeout

    def get(self, url: str) -> bytes:
        """Return the body of a 200 answer.

        Raises:
            OSError: the name has no address, nobody answers there, the certificate is wrong, or the status is another.
        """
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
        addresses = sorted(self._resolver.query(host, "A"))
        if not addresses:
            raise OSError(f"{host} has no address")
        with socket.create_connection((addresses[0], parts.port or 443), self._timeout) as plain:
            connection = http.client.HTTPSConnection(host, parts.port or 443, context=self._context)
            with self._context.wrap_socket(plain, server_hostname=host) as secure:
                connection.sock = secure
                connection.request("GET", parts.path or "/", headers={"Connection": "close"})
                try:
                    answer = connection.getresponse()
                    body = answer.read()
                except http.client.HTTPException as e:
                    raise OSError(f"{url}: {str(e) or type(e).__name__}") from e
        if answer.status != 200:
            raise OSError(f"{url}: status {answer.status}")
        return body
