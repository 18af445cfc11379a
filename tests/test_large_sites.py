"""A site of a hundred thousand pages: nothing may grow faster than the number of its files."""

from __future__ import annotations

import os

import pytest

from mirrord.hosts.files import Op, Put
from mirrord.hosts.memory import Cut, Disk, Killed, MemoryFiles
from tests.conftest import Lab
from tests.grounds import account_on
from tests.large_site import published_by_a_process
from tests.publishing import Publisher, whole

MANY, FEW = 100_000, 10_000
MOST_RESIDENT = 150_000_000
"""Bytes."""


def test_a_hundred_thousand_files_are_published_in_bounded_memory_and_time(lab: Lab) -> None:
    """
    What is kept of a file is little more than the snapshot has anyway, and ten times as many files take ten times
    as long, or a little more: else a large site is never through.
    """
    sshd = lab.sshd()
    few = published_by_a_process(account_on(sshd, "few"), FEW)
    many = published_by_a_process(account_on(sshd, "many"), MANY)

    assert sum(len(names) for _, _, names in os.walk(sshd.root / "many" / "current" / "section-24")) == 4000
    assert many.resident <= MOST_RESIDENT
    assert many.cpu / MANY <= 1.5 * few.cpu / FEW


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_what_stands_after_a_cut_is_found_by_folders_not_file_by_file(share: float) -> None:
    """A first publish of days that breaks off nightly must not spend its mornings asking for each file it had sent."""
    site = {b"%d/%d.html" % (n // 100, n): b"%d" % n for n in range(2000)}
    disk, publisher = Disk(), Publisher()
    signed = publisher.take(site)
    sent = 0

    def cut(op: Op) -> bool:
        nonlocal sent
        sent += isinstance(op, Put)
        return sent > share * len(site)

    with pytest.raises(Killed):
        publisher.publish(MemoryFiles(disk, cut=Cut(cut, killed=True)), signed)
    stand = sum(path.endswith(b".html") for path in disk.tree(b"staging"))
    files = MemoryFiles(disk)
    publisher.publish(files, signed)

    left = sum(isinstance(op, Put) and op.path.endswith(b".html") for op in files.done)
    others = [op for op in files.done if not isinstance(op, Put)]
    folders = len(site) // 100
    assert left <= len(site) - stand + 1
    assert len(others) - len([op for op in others if type(op).__name__ == "ReadPart"]) < 5 * folders + left + 60
    assert whole(disk, signed, publisher.content)
