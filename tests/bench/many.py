"""A large site: so many small pages, each another, a hundred in a folder."""

from __future__ import annotations

import random
from pathlib import Path

IN_A_FOLDER = 100
FOLDERS_ABOVE = 40


def make_site(root: Path, files: int) -> Path:
    """Write `files` pages of 60 to 2,000 bytes below `root`; the same ones every time."""
    dice = random.Random(1)
    for folder in range(files // IN_A_FOLDER):
        where = root / f"section-{folder // FOLDERS_ABOVE}" / f"page-{folder}"
        where.mkdir(parents=True)
        for number in range(IN_A_FOLDER):
            (where / f"{number}.html").write_bytes(b"<p>%d %d</p>\n" % (folder, number) * dice.randint(5, 150))
    return root
