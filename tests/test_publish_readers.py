"""Publishing over and over under the eyes of readers who never stop reading."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from pathlib import Path

from mirrord.hosts.directory import DirectoryFiles
from mirrord.hosts.memory import Disk, MemoryFiles
from tests.publishing import Publisher, releases

PAGES = [b"index.html", b"about/us.html", b"about/them.html", b"img/photo.png", b"last.html"]


class Reader(threading.Thread):
    """Reads every page of whatever `current` leads to, over and over; keeps what it found wrong."""

    def __init__(self, root: Path) -> None:
        super().__init__(name="reader")
        self.root = root
        self.wrong: list[str] = []
        self.walks = 0
        self.seen: set[int] = set()
        self.enough = threading.Event()

    def run(self) -> None:
        """Walk until it is enough."""
        latest = 0
        while not self.enough.wait(0.005):  # a pause in which the publisher gets on
            try:
                latest = self.walk(latest)
            except OSError as e:
                self.wrong.append(f"a page was not there: {e}")

    def close(self) -> None:
        """End it."""
        self.enough.set()
        if self.is_alive():
            self.join()

    def walk(self, latest: int) -> int:
        """Read one release as a whole, and single pages as web servers do; return the newest number seen."""
        one = int((self.root / "current" / "index.html").read_bytes().split()[0])
        top = os.open(self.root / "current", os.O_RDONLY | os.O_DIRECTORY)
        try:
            pages = {path: self.page(path, top) for path in PAGES}
        finally:
            os.close(top)
        two = int((self.root / "current" / "last.html").read_bytes().split()[0])
        numbers = {int(page.split()[0]) for page in pages.values()}
        if len(numbers) != 1 or any(page != body(number) for page in pages.values() for number in numbers):
            self.wrong.append(f"a mixture of {sorted(numbers)}")
        if not latest <= one <= max(numbers) <= two:
            self.wrong.append(f"went back: {latest}, {one}, {sorted(numbers)}, {two}")
        self.seen |= numbers
        self.walks += 1
        return two

    @staticmethod
    def page(path: bytes, top: int) -> bytes:
        """Read a page within an opened release."""
        file = os.open(path, os.O_RDONLY, dir_fd=top)
        try:
            return os.read(file, 1 << 20)
        finally:
            os.close(file)


def body(number: int) -> bytes:
    """Write what every page of a round says; later rounds are longer or shorter than earlier ones."""
    return b"%d " % number + b"." * (number * 7919 % 300)


def test_a_thousand_publishes_are_never_seen_as_a_mixture() -> None:
    """
    Whoever looks between any two requests of a thousand publishes sees one whole release, and never an older one
    than before.
    """
    publisher = Publisher()
    time = 1_700_000_000.0
    latest = 0

    def look(number: int) -> None:
        nonlocal latest
        if not latest and disk.find(b"current") is None:
            return  # nothing was ever published
        pages = [disk.read(b"current/" + path) for path in PAGES]
        shown = int((pages[0] or b"-1").split()[0])
        assert pages == [body(shown)] * len(PAGES)
        assert shown >= latest
        latest = shown

    disk = Disk(clock=lambda: time, tick=look)
    for number in range(1, 1001):
        signed = publisher.take({path: body(number) for path in PAGES})
        publisher.publish(MemoryFiles(disk), signed, keep=2, allow_deletions=True)
        time += 900

    assert latest == 1000
    assert len(releases(disk)) < 10, "and old ones went"


def test_readers_of_a_real_folder_who_never_stop_see_no_mixture(tmp_path: Path) -> None:
    """
    Whoever follows `current` once has one whole release in hand, however often it is replaced meanwhile; and whoever
    follows it for every page never comes back to an older one.
    """
    publisher = Publisher()
    reader = Reader(tmp_path)
    with closing(reader):
        for number in range(1, 101):
            signed = publisher.take({path: body(number) for path in PAGES})
            publisher.publish(DirectoryFiles(tmp_path), signed, keep=2, allow_deletions=True)
            if number == 1:
                reader.start()

    assert reader.wrong == []
    assert len(reader.seen) > 20, "it read while releases came and went"
