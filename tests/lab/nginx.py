"""nginx, as on a mirror: one folder, served by HTTP or HTTPS to whoever asks."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from tests.lab.ca import Certificate
from tests.lab.folders import is_root
from tests.lab.ports import free_port
from tests.lab.processes import Server, knock, program
from tests.lab.waiting import until

# What Debian's nginx runs as: not the account that files are uploaded with.
USER = "www-data"


class Nginx(Server):
    """One nginx that serves `document_root`, usually `<account root>/current`.

    Given a certificate it speaks HTTPS, else HTTP, on every address at one port. `lines` go into its server block
    (a redirect, headers, locations); `certificate` and `lines` may be changed before `reload`.
    """

    def __init__(
        self,
        folder: Path,
        document_root: Path,
        *,
        certificate: Certificate | None = None,
        addresses: Sequence[str] = ("127.0.0.1",),
        port: int | None = None,
        lines: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> None:
        super().__init__(f"nginx-{folder.name}", folder, prefix)
        self.document_root = document_root
        self.certificate = certificate
        self.addresses = tuple(addresses)
        self.port = port or free_port()
        self.lines = tuple(lines)

    @property
    def address(self) -> str:
        """Return its first address."""
        return self.addresses[0]

    @property
    def url(self) -> str:
        """Return `https://127.0.0.1:8443/` or the like, for its first address."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}/"

    def command(self) -> list[str]:
        """Run in the foreground."""
        return [
            program("nginx"),
            *("-p", str(self.folder), "-c", str(self.folder / "nginx.conf")),
            *("-e", str(self.folder / "log"), "-g", "daemon off;"),
        ]

    def prepare(self) -> None:
        """Write its configuration."""
        (self.folder / "nginx.conf").write_text(self.configuration())

    def configuration(self) -> str:
        """Return its nginx.conf."""
        tls = " ssl" if self.certificate else ""
        hosts = [f"[{address}]" if ":" in address else address for address in self.addresses]
        server = [f"listen {host}:{self.port}{tls};" for host in hosts]
        if self.certificate:
            server += [
                f"ssl_certificate {self.certificate.certificate};",
                f"ssl_certificate_key {self.certificate.key};",
            ]
        server += [f"root {self.document_root};", "index index.html;", *self.lines]
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        http = [
            "include /etc/nginx/mime.types;",
            "default_type application/octet-stream;",
            f"access_log {self.folder / 'access.log'};",
            *(f"{kind}_temp_path {self.folder / kind};" for kind in kinds),
            "sendfile on;",
            "server {",
            *("  " + line for line in server),
            "}",
        ]
        return "\n".join(
            [
                *([f"user {USER};"] if is_root() else []),
                "worker_processes 1;",
                f"pid {self.folder / 'pid'};",
                "events { worker_connections 512; }",
                "http {",
                *("  " + line for line in http),
                "}",
                "",
            ]
        )

    def ready(self) -> bool:
        """Return whether it takes connections at each address."""
        for address in self.addresses:
            knock(address, self.port, self.prefix)
        return True

    def reload(self) -> None:
        """Write its configuration anew and have it read; return when the new workers alone are left."""
        before = set(self._family()[1:])
        self.prepare()
        self.tell(signal.SIGHUP)
        until(lambda: (now := set(self._family()[1:])) and not now & before, what=f"{self.name} to reload")

    def requests(self) -> list[str]:
        """Return the lines of its access log."""
        log = self.folder / "access.log"
        return log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
