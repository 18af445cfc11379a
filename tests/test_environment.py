"""`make` builds its Python environment whole or not at all, also where there is no pip, no network or a sudden end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import Lab
from tests.lab.ports import free_port
from tests.lab.processes import alive, descendants, program
from tests.lab.waiting import until
from tests.lab.webserver import Answer
from tools import environment

# A lock that pins nothing: pip runs, needs no network, and installs nothing.
NOTHING = "# nothing\n"
SOMETHING = f"mirrord-is-not-there==1 --hash=sha256:{'0' * 64}\n"

# What this machine's pip is told otherwise must not matter.
BARE = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", "PIP_NO_INDEX": "0"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a checkout with the script and a lock that pins nothing."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "environment.py").write_bytes(Path(environment.__file__).read_bytes())
    (tmp_path / "requirements.lock").write_text(NOTHING)
    return tmp_path


def start(root: Path, more: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start building the runtime environment of a checkout."""
    command = [sys.executable, str(root / "tools" / "environment.py"), "runtime"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env={**os.environ, **BARE, **(more or {})}, stdout=pipe, stderr=pipe, text=True)


def build(root: Path, more: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Build it; return the exit code and what was said on both outputs."""
    building = start(root, more)
    out, err = building.communicate(timeout=60)
    return building.returncode, out.strip(), err.strip()


def parts(root: Path) -> list[Path]:
    """Return what stands half-built."""
    return list((root / ".make").glob("*.part"))


def test_an_environment_is_built_once_and_found_after(root: Path) -> None:
    """`make demo` is run again and again: it must not take a minute each time."""
    code, folder, said = build(root)
    again = build(root)

    assert code == 0
    assert "building the runtime environment" in said
    assert again == (0, folder, "")
    assert (root / ".make" / "runtime").resolve() == Path(folder)
    python = Path(folder) / "bin" / "python"
    where = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True)
    assert where.stdout.strip() == folder


def test_no_file_of_an_environment_names_the_place_where_it_was_built(root: Path) -> None:
    """Environments carry their own path in their scripts: one that was renamed must carry the new one."""
    _, folder, _ = build(root)

    texts = [path.read_bytes() for path in Path(folder).rglob("*") if path.is_file() and path.suffix != ".pyc"]

    assert not [text for text in texts if f"{folder}.part".encode() in text]
    assert folder.encode() in (Path(folder) / "bin" / "activate").read_bytes()


def test_another_lock_means_another_environment(root: Path) -> None:
    """Who pulls a newer mirrord runs it with what it needs, without being told to clean up."""
    _, before, _ = build(root)

    (root / "requirements.lock").write_text(NOTHING * 2)
    _, after, _ = build(root)

    assert after != before
    assert (root / ".make" / "runtime").resolve() == Path(after)


def test_a_checkout_that_moved_gets_an_environment_of_its_new_place(root: Path) -> None:
    """An environment is not movable: its scripts would run the interpreter of the old place, or nothing."""
    build(root)
    moved = root.rename(root.with_name(f"{root.name}-moved"))

    code, folder, said = build(moved)

    assert (code, Path(folder).parent) == (0, moved / ".make")
    assert "building" in said


def test_killed_half_way_the_next_run_builds_it_whole(root: Path, lab: Lab) -> None:
    """
    The interrupted pip must not go on writing where the next run builds, and the half-built folder must never
    be taken for an environment.
    """
    silent = lab.web(lambda _: Answer(silent=True))
    (root / "requirements.lock").write_text(SOMETHING)
    building = start(root, {"PIP_INDEX_URL": silent.url})
    until(lambda: silent.requests, within=30, what="pip to ask for a package")
    family = descendants(building.pid)
    left = parts(root)

    building.send_signal(signal.SIGKILL)
    building.communicate(timeout=10)

    assert len(family) == len(left) == 1
    until(lambda: not any(map(alive, family)), what="pip to end")
    (root / "requirements.lock").write_text(NOTHING)
    code, folder, _ = build(root)
    assert code == 0
    assert (Path(folder) / "bin" / "python").exists()
    assert not parts(root)


def test_two_at_once_build_it_once(root: Path) -> None:
    """`make test` and `make demo` in two terminals must not build into each other's folder."""
    both = [start(root), start(root)]
    said = [building.communicate(timeout=60) for building in both]

    assert [building.returncode for building in both] == [0, 0]
    assert said[0][0] == said[1][0] != ""
    assert "".join(err for _, err in said).count("building the runtime environment") == 1


def test_without_a_network_it_says_so_in_one_sentence_and_leaves_nothing(root: Path) -> None:
    """A traceback of pip's retries tells nobody that the cable is out."""
    (root / "requirements.lock").write_text(SOMETHING)

    code, out, err = build(root, {"PIP_INDEX_URL": f"http://127.0.0.1:{free_port()}/"})

    assert (code, out) == (1, "")
    assert err.splitlines()[1:] == [
        "make: no network: pip cannot reach the packages that mirrord needs; connect and run make again"
    ]
    assert not parts(root)
    assert not (root / ".make" / "runtime").exists()


def test_a_package_that_is_not_as_pinned_is_refused(root: Path, lab: Lab) -> None:
    """The lock's hashes are what stands between a reader of our code and somebody else's code."""
    name = "mirrord-is-not-there"
    wheel = f"{name.replace('-', '_')}-1-py3-none-any.whl"
    page = f'<a href="{wheel}">{wheel}</a>'.encode()
    index = lab.web(
        lambda r: Answer(body=b"PK", headers={}) if r.path.endswith(".whl") else Answer(body=page, headers=HTML)
    )
    (root / "requirements.lock").write_text(SOMETHING)

    code, _, err = build(root, {"PIP_INDEX_URL": index.url})

    assert code == 1
    assert "pip failed" in err
    assert "HASHES" in err.upper()
    assert "Traceback" not in err


HTML = {"Content-Type": "text/html"}


def test_a_checkout_that_cannot_be_written_is_one_sentence(root: Path) -> None:
    """A file where the folder should be stands for all that a file system can say."""
    (root / ".make").write_text("in the way")

    code, _, err = build(root)

    assert code == 1
    assert err == f"make: cannot build the environment: File exists ({root / '.make'})"


def test_a_folder_that_a_person_made_at_venv_is_left_alone(root: Path) -> None:
    """Developers have environments of their own there."""
    (root / ".venv").mkdir()
    (root / ".venv" / "mine").touch()

    environment.offer(root)

    assert (root / ".venv" / "mine").exists()


def test_editors_find_the_environment_at_venv_also_after_it_was_built_anew(root: Path) -> None:
    """`.venv` is where editors look."""
    environment.offer(root)
    environment.offer(root)

    assert (root / ".venv").readlink() == Path(".make/dev")


@pytest.fixture
def fake_debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a package as Debian's python3-pip-whl, and put an `apt-get` that hands it out on the PATH.

    While there is a file `offline` in the folder, it cannot be reached; while there is `stale`, its lists must be
    refreshed first.
    """
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: python3-pip-whl\nVersion: 1\nArchitecture: all\nMaintainer: lab\nDescription: lab\n"
    )
    wheels = tree / "usr/share/python-wheels"
    wheels.mkdir(parents=True)
    with zipfile.ZipFile(wheels / "pip-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("pip/__main__.py", "print('pip from Debian')\n")
    debian = tmp_path / "debian"
    debian.mkdir()
    package = debian / "python3-pip-whl_1_all.deb"
    subprocess.run([program("dpkg-deb"), "--build", str(tree), str(package)], check=True, capture_output=True)
    fake = debian / "apt-get"
    fake.write_text(
        f"""#!/bin/sh
cd_to=$PWD; here={debian}
echo "$*" >>$here/asked
if [ -e $here/offline ]; then echo "W: x"; echo "E: Failed to fetch x  Temporary failure resolving" >&2; exit 100; fi
case "$*" in
*update*) rm -f $here/stale ;;
*download*) [ ! -e $here/stale ] || exit 100; cp {package} "$cd_to" ;;
esac
"""
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{debian}:{os.environ['PATH']}")
    return debian


def test_without_pip_debians_own_wheel_is_fetched_without_root(fake_debian: Path, tmp_path: Path) -> None:
    """On a bare Debian there is neither pip nor `python3-venv`, and an ordinary user cannot install them."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    wheel = environment.wheel_from_debian(scratch)

    shown = subprocess.run([sys.executable, wheel / "pip"], capture_output=True, text=True, check=True)
    assert shown.stdout == "pip from Debian\n"
    assert (fake_debian / "asked").read_text() == "download --quiet python3-pip-whl\n"


def test_lists_of_packages_that_are_missing_are_fetched_into_a_folder_of_our_own(
    fake_debian: Path, tmp_path: Path
) -> None:
    """Images of Debian come without lists, and the system's belong to root."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (fake_debian / "stale").touch()

    wheel = environment.wheel_from_debian(scratch)

    assert wheel.is_file()
    refreshed = (fake_debian / "asked").read_text().splitlines()[1]
    assert f"Dir::State::Lists={scratch}/lists" in refreshed
    assert refreshed.endswith("update")


def test_without_pip_and_without_a_network_it_says_so(fake_debian: Path, tmp_path: Path) -> None:
    """The first thing that fails on a bare machine without a network is this."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (fake_debian / "offline").touch()

    with pytest.raises(environment.Sorry, match="no network: apt-get cannot reach"):
        environment.wheel_from_debian(scratch)


def test_a_system_without_pip_and_without_apt_gets_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other distributions name their packages otherwise: say what is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(environment.Sorry, match="neither ensurepip nor pip; install its venv module"):
        environment.wheel_from_debian(tmp_path)


def test_the_locks_pin_all_that_the_project_asks_for_by_hash() -> None:
    """A dependency that was added without `make lock` would be missing where it matters: in `make demo`."""
    top = Path(environment.__file__).parent.parent
    for name in ("requirements.lock", "requirements-dev.lock"):
        pinned = (top / name).read_text()
        entries = [
            entry for entry in pinned.replace("\\\n", " ").splitlines() if entry and not entry.startswith((" ", "#"))
        ]
        assert all("==" in entry and "--hash=sha256:" in entry for entry in entries), name
        locked = {entry.partition("==")[0] for entry in entries}
        assert {wanted.partition(">")[0] for wanted in _wanted(top)} <= locked, name


def _wanted(top: Path) -> list[str]:
    """Return what the project depends on, as pyproject.toml writes it."""
    _, project = json.loads(environment.our_own_metadata(top))
    wanted = project["dependencies"]
    assert isinstance(wanted, list)
    return wanted
