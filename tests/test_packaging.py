"""What is installed from a built package is what stands in the tree."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import mirrord
from mirrord.switches.lexicon import WANTED

PACKAGE = Path(mirrord.__file__).parent
TOP = PACKAGE.parent


def build(kind: str, tree: Path, into: Path) -> Path:
    """Build a package of the tree with the build backend itself, without network."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(into)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    (built,) = into.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def shipped() -> dict[str, bytes]:
    """Return every file of the package in the tree, by its name in a wheel; links stand for what they point to."""
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(TOP)): path.read_bytes() for path in files}


def test_a_wheel_built_from_the_source_package_carries_every_file_of_the_tree(tmp_path: Path) -> None:
    """`mirrord config example` and `mirrord demo` read files of the package, also where there is no checkout."""
    source, unpacked = build("sdist", TOP, tmp_path / "sdist"), tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "-xzf", source, "-C", unpacked], check=True)
    (tree,) = unpacked.iterdir()

    with zipfile.ZipFile(build("wheel", tree, tmp_path / "wheel")) as wheel:
        carried = {name: wheel.read(name) for name in wheel.namelist() if name.startswith("mirrord/")}

    assert carried == shipped()
    assert carried["mirrord/config/example.toml"] == (TOP / "config.example.toml").read_bytes()


def test_what_a_person_is_told_to_install_is_what_the_package_asks_for() -> None:
    """Neither in the sentence nor in the document stands a package that only has our name."""
    asked = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    assert asked == {"lexicon": [WANTED]}
    assert f"pip install '{WANTED}'" in (TOP / "docs" / "switching.md").read_text()
