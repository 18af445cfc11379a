"""Move a service by lexicon, in a process that somebody kills: JOURNAL URL TOKEN PORT TARGET."""

from __future__ import annotations

import sys
from pathlib import Path

from mirrord.journal import Journal
from mirrord.switches import Endpoint, LexiconSettings, open_switch
from tests.switching import Desk

WWW = "www.example.org"


def lexicon(url: str, token: str, *followers: Endpoint, timeout: float = 20.0) -> LexiconSettings:
    """Return a service's settings at PowerDNS' interface."""
    return LexiconSettings(
        service="web",
        zone="example.org",
        names=(WWW,),
        ttl=60,
        provider="powerdns",
        options={"pdns_server": url},
        secrets={"auth_token": lambda: token},
        authoritative=followers,
        timeout=timeout,
    )


if __name__ == "__main__":
    path, url, token, port, target = sys.argv[1:]
    controller = Desk(open_switch(lexicon(url, token, Endpoint("127.0.0.1", int(port)))), Journal(Path(path)))
    controller.move(target)
