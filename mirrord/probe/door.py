"""What comes back when a reader asks one address for a page?

A door leads to one address for one look. Redirects are followed a little way, to configured names at that same
address. What goes wrong leaves it as `Failed` with a fault; what the bytes are worth is judged by others. With
`mirrord.probe.line` this is the only use of `requests`.
"""

from __future__ import annotations

import calendar
import http.client
import http.cookiejar
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Self
from urllib.parse import quote, urljoin, urlsplit

import requests
import requests.adapters
import urllib3.exceptions

from mirrord import __version__
from mirrord.health import Fault, FaultKind
from mirrord.probe import faults
from mirrord.probe.line import PORTS, Adapter, Line

MOST_REDIRECTS = 3
"""How many redirects in a row are followed."""

_REDIRECTS = (301, 302, 303, 307, 308)
_PIECE = 1 << 16
_AGENT = f"mirrord/{__version__}"
_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError)


class Failed(Exception):
    """The look cannot go on; `fault` says why."""

    def __init__(self, fault: Fault) -> None:
        """Keep the fault."""
        super().__init__(fault.text)
        self.fault = fault


class BrokenOff(Exception):
    """A body ended before it was whole."""


@dataclass(frozen=True, slots=True)
class Page:
    """One answer to one GET, after redirects."""

    status: int
    headers: Mapping[str, str]
    """Looked up without regard to case."""
    body: bytes
    """As it came over the wire, at most as many bytes as were asked for."""
    longer: bool
    """There was more than was asked for."""
    broken: str | None
    """Why the body ended before it was whole, in a person's words."""

    def plain(self, limit: int) -> bytes | None:
        """Return the body without gzip or deflate, at most `limit` bytes; None where it is packed otherwise, or badly.

        Identity is asked for, but a server that packs whatever it sends shows its readers the right page.
        """
        encoding = self.headers.get("Content-Encoding", "").strip().lower()
        if encoding in ("", "identity"):
            return self.body
        if encoding not in ("gzip", "x-gzip", "deflate"):
            return None
        unpack = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either header, gzip's or zlib's
        try:
            return unpack.decompress(self.body, limit)
        except zlib.error:
            return None

    @property
    def refuses_us(self) -> bool:
        """Tell whether this is said to one who asks too much, and says nothing about other readers."""
        return self.status == 429 or (self.status == 503 and "Retry-After" in self.headers)


def refused_us(page: Page) -> Fault:
    """Make the fault of a page that refuses us."""
    later = page.headers.get("Retry-After")
    text = f"refuses us with {page.status}" + (f", until {faults.show(later, 40)}" if later else "")
    return Fault(FaultKind.REFUSED_US, text)


def refuse_unless_served(page: Page, where: str) -> None:
    """Raise Failed unless the page was served with 200."""
    if page.refuses_us:
        raise Failed(refused_us(page))
    if page.status != 200:
        raise Failed(Fault(FaultKind.STATUS, f"answers {page.status} for {faults.show(where)}"))


class _Session(requests.Session):
    """A session without redirects: requests would read the body of each, however long, to tell where it leads."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002 - named by requests
        return None


class Door:
    """The way to one target over one line; one thread at a time. Close it.

    Redirects are followed to `names`, and the target's own, only. Where `proxies` are given (as `requests` has them),
    they do the dialling.
    """

    def __init__(self, line: Line, names: frozenset[str], proxies: dict[str, str] | None = None) -> None:
        """Make ready; nothing is sent yet."""
        self.evidence: dict[str, str] = {}
        self.date_offset: float | None = None
        self.date_fault: Fault | None = None
        """Set where a certificate's dates, and nothing else about it, are wrong; the look goes on regardless."""
        self.line = line
        self._names = frozenset(name.lower().rstrip(".") for name in names | {line.target.name})
        self._root = f"{line.scheme}://{_authority(line.scheme, line.target.name, line.site_port)}/"
        self._kept = False
        """Whether a connection may be left from an earlier request."""
        self._session = _Session()
        self._session.trust_env = False  # no proxy but those given, no .netrc
        self._session.headers.clear()
        self._session.headers.update({"User-Agent": _AGENT, "Accept": "*/*", "Cache-Control": "no-cache"})
        self._session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self._session.proxies = proxies or {}
        self._session.verify = line.authorities
        self._adapter = requests.adapters.HTTPAdapter() if proxies else Adapter(line)
        self._session.mount("http://", self._adapter)
        self._session.mount("https://", self._adapter)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    @property
    def certificate_days(self) -> float | None:
        """Days until the first certificate seen ends, by our clock; None where there was none."""
        return None if self.line.expiry is None else (self.line.expiry - time.time()) / 86400

    def get(self, path: bytes, limit: int, accept: str = "identity") -> Page:
        """GET a file of the site by its path (raw bytes, relative); else as `ask`."""
        return self.ask("/" + quote(path, safe="/"), limit, accept)

    def ask(self, where: str, limit: int, accept: str = "identity") -> Page:
        """GET a path with its query, as it stands in a browser's line of address; at most `limit` bytes of it.

        `accept` says which packing we take (Accept-Encoding). Raises Failed, at the latest at the deadline.
        """
        with self.open(where, accept) as response:
            return self._read(response, limit)

    def open(self, where: str, accept: str = "identity") -> requests.Response:
        """GET as `ask` does, and leave the body to be read. Raises Failed."""
        url = self._root + _as_on_the_wire(where).removeprefix("/")
        for _ in range(MOST_REDIRECTS + 1):
            response = self._send(url, accept)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or location is None:
                return response
            with response:
                self._read(response, _PIECE)
            url = self._follow(url, location)
        text = f"redirects more than {MOST_REDIRECTS} times, at last to {faults.show(url)}"
        raise Failed(Fault(FaultKind.REDIRECT, text))

    def _send(self, url: str, accept: str) -> requests.Response:
        """Send one GET and read the head of its answer.

        Once more where only a certificate's dates are at fault, without regard to them; and where a connection was kept
        from an earlier request and had been closed (RFC 9110, 9.2.2: a GET may be repeated).
        """
        while True:
            try:
                if url.startswith("https:"):
                    self.line.context()
            except OSError as e:
                raise Failed(faults.unreadable_authorities(e, self.line)) from e
            try:
                response = self._session.get(
                    url,
                    headers={"Accept-Encoding": accept},
                    stream=True,
                    allow_redirects=False,
                    timeout=self.line.left(),
                )
            except _ERRORS as e:
                if self.line.check_dates and (dates := faults.only_the_dates(e, self.line)):
                    self.date_fault = dates
                    self.line.check_dates = False
                elif self._kept and faults.closed(e):
                    self._kept = False
                else:
                    raise Failed(faults.fault(e, self.line)) from e
                self._adapter.close()
            else:
                self._kept = True
                self._note(response.headers)
                return response

    def _read(self, response: requests.Response, limit: int) -> Page:
        body = bytearray()
        broken = None
        try:
            while len(body) <= limit and (piece := self.piece(response, limit + 1 - len(body))):
                body += piece
        except BrokenOff:
            broken = "breaks off before its end"
        longer = len(body) > limit
        if longer or broken:
            response.close()  # what is left on the line is no part of the next answer
        return Page(response.status_code, response.headers, bytes(body[:limit]), longer, broken)

    def piece(self, response: requests.Response, most: int) -> bytes:
        """Read a piece of a body, empty at its end. Raises BrokenOff, and Failed at the deadline."""
        try:
            # Not stream(): it reads the lines between chunks without a bound.
            return bytes(response.raw.read(min(_PIECE, most)))
        except _ERRORS as e:
            if faults.too_late(e):
                raise Failed(faults.late(self.line)) from e
            raise BrokenOff from e

    def _follow(self, url: str, location: str) -> str:
        """Return the URL to ask next. Raises Failed where readers would be led away."""
        away = Failed(Fault(FaultKind.REDIRECT, f"redirects to {faults.show(location)}"))
        try:
            parts = urlsplit(urljoin(url, location.strip()))
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            raise away from None
        if parts.scheme not in PORTS or host not in self._names:
            raise away
        if url.startswith("https:") and parts.scheme != "https":
            raise away  # whoever came by TLS is led out of it
        port = port or PORTS[parts.scheme]
        query = f"?{parts.query}" if parts.query else ""
        return f"{parts.scheme}://{_authority(parts.scheme, host, port)}{_as_on_the_wire((parts.path or '/') + query)}"

    def _note(self, headers: Mapping[str, str]) -> None:
        """Keep what caches on the way say of themselves, and by how much the server's clock differs from ours."""
        for name in ("Age", "Via"):
            if name in headers:
                self.evidence.setdefault(name, faults.show(headers[name], 100))
        if self.date_offset is None and "Date" in headers:
            try:
                date = calendar.timegm(parsedate_to_datetime(headers["Date"]).utctimetuple())
                age = int(headers.get("Age", "0"))  # a cache keeps the Date of the first answer (RFC 9111, 5.1)
            except (ValueError, TypeError, OverflowError):
                return
            self.date_offset = date + age - time.time()


def _as_on_the_wire(where: str) -> str:
    """Encode what may not stand in a request line, and leave what is encoded already."""
    return quote(where, safe="/?%:@!$&'()*+,;=~")


def _authority(scheme: str, name: str, port: int) -> str:
    host = f"[{name}]" if ":" in name else name
    return host if port == PORTS[scheme] else f"{host}:{port}"
