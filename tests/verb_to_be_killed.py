"""Run one verb of a store again and again, each time killed at another step: a script for `test_snapshot_killed`.

`verb_to_be_killed.py FOLDER VERB` copies `FOLDER/base` to `FOLDER/1`, `FOLDER/2` and so on; in the n-th, the verb is
killed with SIGKILL just before its n-th step on the disk (an open, rename, mkdir, unlink, listing or lock in that
folder). It ends with the n that the verb did not reach any more, and prints it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from mirrord.errors import MirrordError
from mirrord.manifest import SnapshotId
from mirrord.trust.keys import SigningKey, new_signing_key
from tests.snapshotting import DAY, NOW, Ground

STEPS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.listdir", "os.scandir", "fcntl.flock")


def run(folder: Path, verb: str, key: SigningKey) -> None:
    """Do it once."""
    ground = Ground.on(folder, key)
    ground.now = NOW + DAY
    ids = [card.id for card in ground.store.snapshots()]
    if verb == "take":
        ground.take()
    elif verb == "sweep":
        ground.store.sweep(1, frozenset())
    elif verb == "rollback":
        ground.store.rollback(ids[0], key, ground.guard, now_wall=ground.now, next_expected_in=DAY)
    elif verb == "sign":
        ground.store.sign_again(SnapshotId(ids[-1]), key, ground.now, DAY)
    elif verb == "restore":
        ground.store.restore(ids[-1], folder / "restored")


def die_at(step: int, folder: Path) -> None:
    """Count the steps in this folder, and die at one."""
    place, left = str(folder), step

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event not in STEPS:
            return
        where = arguments[0]
        text = os.fsdecode(where) if isinstance(where, str | bytes | os.PathLike) else place
        if text.startswith(place):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def main() -> None:
    """Kill it at every step."""
    folder, verb = Path(sys.argv[1]), sys.argv[2]
    key = new_signing_key()
    step = 0
    while True:
        step += 1
        here = folder / str(step)
        shutil.copytree(folder / "base", here, symlinks=True)
        child = os.fork()
        if child == 0:
            die_at(step, here)
            try:
                run(here, verb, key)
            except MirrordError as e:
                print(e, file=sys.stderr)
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            print(step, os.waitstatus_to_exitcode(status))
            return


if __name__ == "__main__":
    main()
