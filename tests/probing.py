"""What the probe's tests share: a mirror's account with signed releases in it, and looks at whoever serves it."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mirrord.health import Observation, Target
from mirrord.manifest import OWN_FOLDER, Entry, Manifest, Signed, Snapshot, SnapshotId, snapshot_id
from mirrord.probe import Listings, Look, look
from mirrord.trust.keys import Signers, SigningKey, new_signing_key
from mirrord.trust.snapshots import sign_snapshot

NAME = "www.example.test"
KEY = new_signing_key()
OLD = datetime(2026, 10, 21, 6, 0, tzinfo=UTC)
CARD = "/.well-known/mirrord/snapshot.json"

PAGES = {
    b"index.html": b"<h1>Home</h1>\n",
    b"style.css": b"h1 { color: teal }\n",
    b"it/index.html": "<h1>Città</h1>\n".encode(),
    b"it/notizie.html": b"<h1>Notizie</h1>\n",
}


def signed(
    files: Mapping[bytes, bytes], serial: int = 1, *, site: str = "example", key: SigningKey = KEY, days: int = 0
) -> Signed:
    """Sign a snapshot of these files; `days` make it that much younger or older than its serial does."""
    created = OLD + timedelta(hours=serial, days=days)
    manifest = Manifest.of({p: Entry(hashlib.sha256(b).digest(), len(b), 1_700_000_000) for p, b in files.items()})
    snapshot = Snapshot(
        site=site,
        serial=serial,
        id=snapshot_id(created, manifest.sha256),
        created=created,
        next_expected=created + timedelta(days=1),
        previous=None,
        manifest_sha256=manifest.sha256,
        files=len(files),
        size=manifest.size,
    )
    return sign_snapshot(snapshot, manifest, key, int(created.timestamp()))


@dataclass
class Account:
    """The folder of a mirror's account: whole releases, and `current` that points to one of them."""

    root: Path
    known: dict[SnapshotId, Manifest] = field(default_factory=dict)
    """What a store of ours would know."""

    @property
    def current(self) -> Path:
        """Return what a web server serves."""
        return self.root / "current"

    def lay_out(self, snapshot: Signed, files: Mapping[bytes, bytes]) -> Path:
        """Write a whole release."""
        release = self.root / "releases" / snapshot.snapshot.id
        own = {OWN_FOLDER + b"/" + n: d for n, d in (snapshot.fixed_files() | snapshot.changing_files()).items()}
        for path, data in {**files, **own}.items():
            where = os.path.join(os.fsencode(release), path)  # noqa: PTH118 - names of any bytes
            os.makedirs(os.path.dirname(where), exist_ok=True)  # noqa: PTH103, PTH120
            Path(os.fsdecode(where)).write_bytes(data)
        self.known[snapshot.snapshot.id] = snapshot.manifest
        return release

    def switch(self, release: SnapshotId) -> None:
        """Serve another release, as a publish does: a new link renamed over the old one."""
        new = self.root / "current.new"
        new.symlink_to(f"releases/{release}")
        new.rename(self.current)

    def publish(self, files: Mapping[bytes, bytes], serial: int = 1, **how: Any) -> Signed:
        """Sign a snapshot, lay it out and serve it."""
        snapshot = signed(files, serial, **how)
        self.lay_out(snapshot, files)
        self.switch(snapshot.snapshot.id)
        return snapshot

    def look(
        self,
        port: int,
        *,
        https: bool | None = None,
        address: str = "127.0.0.1",
        name: str = NAME,
        cms: bool = False,
        **changes: Any,
    ) -> Look:
        """Return a look at a server of this account, by HTTP unless `https` or `ca_file` is given."""
        https = "ca_file" in changes if https is None else https
        look = Look(
            target=Target("lyon", "web", name, address, port, https, markers=cms),
            url=f"{'https' if https else 'http'}://{NAME}/",
            site="example",
            identity=NAME,
            signers=Signers.of([KEY.public]),
            known=self.known.get,
            listings=Listings(),
            timeout=5.0,
            sample=10,
        )
        return replace(look, **changes)

    def seen(self, port: int, *, seed: int = 1, **changes: Any) -> Observation:
        """Look once."""
        return look(self.look(port, **changes), random.Random(seed))
