"""How do the bytes get to one address, in time, whatever a URL says?

`requests` is made to dial the configured address: no DNS server is asked, and the name in the URL is what the other
side hears as Host and SNI. A timeout of `requests` starts anew with every byte; here all that happens on one line ends
at one deadline, however slowly the other side drips its handshake, headers or body.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.exceptions

from mirrord.health import Target

PORTS = {"http": 80, "https": 443}

_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h; `ssl` has no name for it

# A mirror's malformed headers would be lines in our log at every look; they are told as a fault instead.
logging.getLogger("urllib3").setLevel(logging.ERROR)


class Line:
    """What the connections of one look share: where to, until when, whom to trust, and what was learned on the way.

    Readers' requests go to the port that stands in `site`, the URL that they type; they are dialled to the target's
    port, wherever that is.
    """

    def __init__(self, target: Target, site: str, ca_file: str | None, deadline: float) -> None:
        """Begin at nothing; `deadline` is by `time.monotonic()`."""
        self.target = target
        self.deadline = deadline
        self.scheme = "https" if target.https else "http"
        parts = urlsplit(site)
        self.site_port = (parts.port if parts.scheme == self.scheme else None) or PORTS[self.scheme]
        self.stage = "connecting"
        self.check_dates = True
        """Whether certificates' dates count."""
        self.expiry: float | None = None
        """When the first of the certificates seen here ends, in Unix seconds."""
        self.authorities = ca_file or _authorities_of_this_machine()

    def left(self) -> float:
        """Return the seconds that are left. Raises TimeoutError where none are."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        return left

    def dial(self, scheme: str, port: int) -> socket.socket:
        """Connect for a URL with this scheme and port. Raises OSError."""
        self.stage = "connecting"
        if (scheme, port) == (self.scheme, self.site_port):
            port = self.target.port
        sock = self.connect(port)
        self.stage = "tls" if scheme == "https" else "answering"
        return sock

    def connect(self, port: int) -> socket.socket:
        """Connect to the target's address, whatever its name is. Raises OSError."""
        family = socket.AF_INET if self.target.family == 4 else socket.AF_INET6
        return self.connect_to(family, (self.target.address, port))

    def connect_to(self, family: int, address: tuple[Any, ...]) -> socket.socket:
        """Connect to one address, before the deadline. Raises OSError."""
        sock = _Socket(family, socket.SOCK_STREAM)
        sock.line = self
        try:
            sock.settimeout(self.left())
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(self.left())  # `ssl` takes this as the limit of a whole handshake
        except BaseException:
            sock.close()
            raise
        return sock

    def secured(self, sock: Any) -> None:
        """Take over a connection whose handshake is done."""
        assert isinstance(sock, _TlsSocket)
        sock.line = self
        self.stage = "answering"
        ends = (sock.getpeercert() or {}).get("notAfter")
        if isinstance(ends, str):
            seconds = float(ssl.cert_time_to_seconds(ends))
            self.expiry = seconds if self.expiry is None else min(seconds, self.expiry)

    def context(self) -> ssl.SSLContext:
        """Return whom to trust. Raises OSError (`ssl.SSLError` too) where our own list cannot be read."""
        found = Path(self.authorities).stat()
        return _context(self.authorities, (found.st_mtime_ns, found.st_ino, found.st_size), self.check_dates)


class _Socket(socket.socket):
    """A socket whose reads, all together, end at the line's deadline."""

    line: Line

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(self.line.left())
        return super().recv_into(*args, **kwargs)


class _TlsSocket(ssl.SSLSocket):
    """The same over TLS."""

    line: Line

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(self.line.left())
        return super().recv_into(*args, **kwargs)


class _Connection(urllib3.connection.HTTPConnection):
    """Dials the line's address."""

    def __init__(self, *args: Any, line: Line, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._line = line

    def _new_conn(self) -> socket.socket:
        return _dial(self, self._line, "http")


class _TlsConnection(urllib3.connection.HTTPSConnection):
    """Dials the line's address, and expects a certificate for the name in the URL."""

    def __init__(self, *args: Any, line: Line, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._line = line

    def _new_conn(self) -> socket.socket:
        return _dial(self, self._line, "https")

    def connect(self) -> None:
        super().connect()
        self._line.secured(self.sock)


def _dial(connection: urllib3.connection.HTTPConnection, line: Line, scheme: str) -> socket.socket:
    """Dial, and fail as urllib3 expects its connections to fail."""
    try:
        return line.dial(scheme, connection.port)
    except TimeoutError as e:
        raise urllib3.exceptions.ConnectTimeoutError(connection, "no answer") from e
    except OSError as e:
        raise urllib3.exceptions.NewConnectionError(connection, str(e)) from e


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class Adapter(requests.adapters.HTTPAdapter):
    """Gives `requests` connections of one line for any URL; what else it would do with proxies or trust is left out."""

    def __init__(self, line: Line) -> None:
        """Make ready; nothing is connected yet."""
        super().__init__(max_retries=0)
        self._line = line
        self._pools: dict[tuple[str, str, int], urllib3.HTTPConnectionPool] = {}

    def get_connection(self, url: Any, proxies: Any = None) -> Any:  # noqa: ARG002 - named by requests
        """Return the pool for a URL, as requests before 2.32 asks for it. Raises OSError as `Line.context`."""
        parts = urlsplit(str(url))
        host = parts.hostname or ""
        key = (parts.scheme, host, parts.port or PORTS[parts.scheme])
        if key not in self._pools:
            if parts.scheme == "https":
                self._pools[key] = _TlsPool(host, key[2], ssl_context=self._line.context(), line=self._line)
            else:
                self._pools[key] = _Pool(host, key[2], line=self._line)
        return self._pools[key]

    def get_connection_with_tls_context(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> Any:
        """Return the pool for a request, as requests asks for it since 2.32."""
        return self.get_connection(request.url)

    def cert_verify(self, *_: Any, **__: Any) -> None:
        """Leave it to the context: requests would add its own authorities to ours."""

    def close(self) -> None:
        """Close all connections; it can go on with fresh ones."""
        while self._pools:
            self._pools.popitem()[1].close()
        super().close()


@lru_cache(maxsize=16)
def _context(where: str, _stamp: tuple[int, int, int], check_dates: bool) -> ssl.SSLContext:
    """Read a list of authorities: 20 ms for a whole machine's, so it is kept until the file's stamp changes."""
    folder = Path(where).is_dir()
    context = ssl.create_default_context(cafile=None if folder else where, capath=where if folder else None)
    context.sslsocket_class = _TlsSocket
    context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT  # Python's default since 3.13; no browser's
    if not check_dates:
        context.verify_flags |= _NO_CHECK_TIME
    return context


def _authorities_of_this_machine() -> str:
    """Return where this machine keeps the authorities that it trusts; requests' own list where it keeps none."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile and Path(paths.cafile).is_file():
        return paths.cafile
    if paths.capath and Path(paths.capath).is_dir() and any(Path(paths.capath).iterdir()):
        return paths.capath
    return requests.utils.DEFAULT_CA_BUNDLE_PATH
