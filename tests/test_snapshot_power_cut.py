"""What is left of the store when the power goes: on a real ext4 that is shut down without writing anything more."""

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrord.errors import MirrordError
from mirrord.manifest import SnapshotId
from mirrord.snapshot.store import Store
from tests.conftest import Lab
from tests.lab.processes import as_root
from tests.snapshotting import Ground, tree

SHUTDOWN = (
    "import fcntl, os, struct, sys\n"
    "held = os.open(sys.argv[1], os.O_RDONLY)\n"
    "fcntl.ioctl(held, 0x8004587d, struct.pack('I', 2))\n"  # EXT4_IOC_SHUTDOWN, without flushing its log
)


class Disk:
    """A small ext4 in a file, mounted at `folder`."""

    def __init__(self, folder: Path, image: Path) -> None:
        self.folder = folder
        self._image = image
        with image.open("wb") as file:
            file.truncate(64 << 20)
        owner = f"root_owner={os.getuid()}:{os.getgid()}"
        as_root(["mkfs.ext4", "-q", "-F", "-E", owner, str(image)])
        self.mount()

    def mount(self) -> None:
        """Mount it, as after a start: the log is played back."""
        as_root(["mount", "-o", "loop", str(self._image), str(self.folder)])

    def unmount(self) -> None:
        """Unmount it."""
        as_root(["umount", str(self.folder)])

    def cut(self) -> None:
        """Cut the power: what was not synced is gone."""
        as_root([sys.executable, "-c", SHUTDOWN, str(self.folder)])

    def restart(self) -> None:
        """Start again after a cut, as another machine would with this disk.

        Of a copy: a mount namespace that another test made meanwhile may hold the old device open, and two mounts of
        one disk would spoil it.
        """
        self.unmount()
        again = self._image.with_name(f"{self._image.name}.again")
        shutil.copyfile(self._image, again)
        self._image = again
        self.mount()


@pytest.fixture
def disk(lab: Lab) -> Iterator[Disk]:
    """A disk whose power can be cut."""
    folder = lab.folder("power")
    disk = Disk(folder, lab.folder("image") / "ext4")
    yield disk
    disk.unmount()


@pytest.fixture
def ground(tmp_path: Path, disk: Disk) -> Ground:
    """A source elsewhere, and a store on that disk with one snapshot."""
    ground = Ground.at(tmp_path)
    ground.store = Store(disk.folder / "store", "example")
    ground.write({"index.html": b"home", "same": b"same"})
    ground.take()
    return ground


@pytest.mark.parametrize("files", [10, 200])
def test_a_snapshot_that_was_taken_outlives_a_power_cut(ground: Ground, disk: Disk, files: int) -> None:
    """Few files are synced one by one, many at once: either way the take returns when all are on the disk."""
    ground.write({f"{number % 7}/{number}": b"%d" % number * 500 for number in range(files)})
    taken = ground.take()

    disk.cut()
    disk.restart()

    assert ground.store.newest() == taken.snapshot.id
    assert ground.store.scrub().damaged == {}
    assert ground.content(taken) == tree(ground.site)


class CutAt(threading.Event):
    """Cuts the power when it is asked for the n-th time, and goes on asking nothing."""

    def __init__(self, disk: Disk, after: int) -> None:
        super().__init__()
        self._disk = disk
        self._left = after

    def is_set(self) -> bool:
        """Be asked: once a walk, once for each file, and last just before the snapshot's folder is written."""
        self._left -= 1
        if self._left == 0:
            self._disk.cut()
        return False


@pytest.mark.parametrize("after", [2, 60, 102, 104], ids=["first file", "middle", "last file", "before the commit"])
def test_a_power_cut_in_the_middle_of_a_take_costs_that_take_alone(ground: Ground, disk: Disk, after: int) -> None:
    """What was there stays whole, and the next take does it all, with nothing left over."""
    first = ground.store.newest()
    ground.write({f"{number}": b"%d" % number * 500 for number in range(99)})
    ground.write({"index.html": b"news", "same": b"same"})
    stop = CutAt(disk, after)

    with pytest.raises(MirrordError):
        ground.take(stop=stop)
    disk.restart()

    assert ground.store.newest() == first
    assert ground.content_of(SnapshotId(first or "")) == {b"index.html": b"home", b"same": b"same"}
    assert ground.content(ground.take()) == tree(ground.site)
    assert ground.store.scrub().damaged == {}
    assert ground.kept() == ground.needed()
    assert ground.litter() == []


def test_a_card_that_was_signed_again_outlives_a_power_cut(ground: Ground, disk: Disk) -> None:
    """Mirrors may have the newer one already: the older must not come back."""
    only = SnapshotId(ground.store.newest() or "")
    again = ground.store.sign_again(only, ground.key, ground.now + 3600, 86400)

    disk.cut()
    disk.restart()

    assert ground.store.load(only) == again
