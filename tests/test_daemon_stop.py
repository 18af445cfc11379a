"""The daemon ends within five seconds, whatever it is at."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import time
from collections.abc import Iterator

import pytest

from tests.conftest import Lab
from tests.lab.processes import halt, send
from tests.lab.publisher import Publisher, publisher
from tests.lab.waiting import until


@pytest.fixture
def site(lab: Lab) -> Iterator[Publisher]:
    """A publisher of a small site, and a daemon that could help."""
    with publisher(lab, ("milan", "lyon")) as made:
        assert made.verb("sync")["exit"] == 0
        made.daemon.start()
        until(lambda: made.service()["protected"]["ok"], 20, "protection")
        yield made


def stopped_after(site: Publisher) -> float:
    """Stop the daemon as systemd does; return how long that took."""
    began = time.monotonic()
    site.tell(signal.SIGTERM)
    until(lambda: not site.daemon.running, 20, "the daemon to end")
    return time.monotonic() - began


def test_while_another_process_keeps_the_journal_locked(site: Publisher) -> None:
    """An operator's forgotten transaction in an SQLite shell; each write would wait for it."""
    journal = site.state / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(journal, isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")

        assert stopped_after(site) < 5


def test_while_readers_are_being_moved_and_the_name_server_is_silent(site: Publisher) -> None:
    """The plan stays open in the journal, and the next start finds out what became of it."""
    halt([site.primary.pid])
    try:
        site.hosts["milan"].kill()
        until(lambda: "is to move from milan to lyon" in site.daemon.tail(), 20, "the move to begin")

        assert stopped_after(site) < 5
    finally:
        send(signal.SIGCONT, [site.primary.pid])
    site.daemon.start()
    until(lambda: site.served_at("lyon"), 30, "readers to be moved after all")
