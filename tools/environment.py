#!/usr/bin/env python3
"""Build the Python environment that `make` runs things in, or find it whole.

    environment.py runtime|dev

Prints the folder of a virtual environment that holds exactly what `requirements.lock` (runtime) or
`requirements-dev.lock` (dev) pins by hash; builds it first where it is not there yet.

It runs on a bare Debian: Python alone, no pip, no `python3-venv`, no root. There `python3 -m venv` stops
half way for want of pip and leaves the half behind, and the system's own packages must be left alone. So
the environment is made without pip, and pip is run from a wheel: the one that comes with Python, or Debian's
`python3-pip-whl`, fetched and unpacked (not installed) by `apt-get`, which checks its signature.

The folder's name carries a digest of all that it is made from (the lock, the interpreter, the place), so another
lock means another folder. It is built under another name and renamed when whole: killed at any instant, nothing
half-built is ever taken for an environment. Two at once: the second waits and finds it. The programs that we run hold
the lock too and die with us, so that nobody still writes where the next one builds.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {"runtime": "requirements.lock", "dev": "requirements-dev.lock"}
OLDEST = (3, 11)

# Where distributions keep pip's wheel for `ensurepip`.
WHEEL_FOLDERS = ("/usr/share/python-wheels", "/usr/share/python3-wheels")

# Settings that would make pip install elsewhere than it is told. Those that say where from and how stay.
NOT_OURS = {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV", "PIP_PYTHON"}
NOT_OURS |= {"PYTHONHOME", "PYTHONPATH", "PYTHONUSERBASE", "VIRTUAL_ENV"}

NO_NETWORK = (
    "NewConnectionError",
    "NameResolutionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ProxyError",
    "Temporary failure",
    "Could not resolve",
    "Network is unreachable",
    "Unable to connect",
    "Could not connect",
)


class Sorry(Exception):
    """What keeps us from building, as one sentence for the person at the terminal."""


def main(arguments: list[str]) -> int:
    """Print the folder of the environment that was asked for; 1 and one sentence if it cannot be had."""
    if len(arguments) != 1 or arguments[0] not in LOCKS:
        print(f"usage: environment.py {'|'.join(LOCKS)}", file=sys.stderr)
        return 2
    try:
        print(find_or_build(arguments[0], ROOT))
    except Sorry as e:
        print(f"make: {e}", file=sys.stderr)
        return 1
    except OSError as e:
        where = f" ({e.filename})" if e.filename else ""
        print(f"make: cannot build the environment: {e.strerror or e}{where}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make: interrupted; nothing half-built will be used", file=sys.stderr)
        return 130
    return 0


def find_or_build(kind: str, root: Path) -> Path:
    """Return the environment's folder, `<root>/.make/<kind>-<digest>`; `<root>/.make/<kind>` points to it.

    Raises:
        Sorry: it is not there and cannot be built.
        OSError: the file system says no.
    """
    if sys.version_info < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise Sorry(f"mirrord needs Python {wanted} or newer; this is {platform.python_version()} ({sys.executable})")
    shed = root / ".make"
    shed.mkdir(exist_ok=True)
    final = shed / f"{kind}-{digest(kind, root)}"
    with alone(shed / "lock"):
        for leftover in shed.glob("*.part"):
            shutil.rmtree(leftover)
        if not final.is_dir():
            build(kind, root, final)
        point(shed / kind, final.name)
        if kind == "dev":
            offer(root)
    return final


def digest(kind: str, root: Path) -> str:
    """Return 16 hex digits that change with all that the environment is made from."""
    made_from = [
        Path(__file__).read_bytes(),
        (root / LOCKS[kind]).read_bytes(),
        sys.version.encode(),
        os.path.realpath(base_python()).encode(),
        platform.machine().encode(),
        os.fsencode(root),
    ]
    if kind == "dev":
        made_from.append(our_own_metadata(root))
    whole = hashlib.sha256()
    for part in made_from:
        whole.update(len(part).to_bytes(8, "big") + part)
    return whole.hexdigest()[:16]


def our_own_metadata(root: Path) -> bytes:
    """Return what of `pyproject.toml` an editable installation of mirrord is made from."""
    import tomllib  # not there before 3.11; a person with an older Python gets a sentence, not a traceback

    parsed = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return json.dumps([parsed["build-system"], parsed["project"]], sort_keys=True).encode()


def base_python() -> str:
    """Return the interpreter itself, also when we run inside some virtual environment."""
    return getattr(sys, "_base_executable", None) or sys.executable


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold the lock file; wait for whoever holds it."""
    with lock.open("w") as held:
        os.set_inheritable(held.fileno(), True)  # noqa: FBT003 - its only form
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another make to finish building")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def build(kind: str, root: Path, final: Path) -> None:
    """Build the environment under another name, and rename it to `final` when it is whole."""
    say(f"building the {kind} environment from {LOCKS[kind]}: once, for about a minute")
    part = final.with_name(final.name + ".part")
    try:
        fill(kind, root, part)
        settle(part, final)
        part.rename(final)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def fill(kind: str, root: Path, part: Path) -> None:
    """Make an environment at `part` and install into it."""
    venv.EnvBuilder(with_pip=False, symlinks=True).create(part)
    python = part / "bin" / "python"
    with tempfile.TemporaryDirectory(prefix="mirrord-pip-") as scratch:
        pip = find_pip(python, Path(scratch))
        install = [*pip, "install", "--quiet", "--disable-pip-version-check", "--no-input", "--retries", "2"]
        run([*install, "--require-hashes", "--requirement", str(root / LOCKS[kind])], "pip")
        if kind == "dev":
            run([*install, "--no-build-isolation", "--no-deps", "--no-index", "--editable", str(root)], "pip")


def find_pip(python: Path, scratch: Path) -> list[str]:
    """Return the command that runs some pip for the environment of `python`, which has none itself."""
    wheel = wheel_on_disk() or None
    if wheel is None and "--python" in output([sys.executable, "-m", "pip", "--help"]):
        return [sys.executable, "-m", "pip", "--python", str(python)]
    return [str(python), str((wheel or wheel_from_debian(scratch)) / "pip")]


def wheel_on_disk() -> Path | None:
    """Return pip's wheel where Python or the distribution keeps one."""
    folders = [Path(folder) for folder in WHEEL_FOLDERS]
    try:
        import ensurepip
    except ImportError:
        pass
    else:
        folders.insert(0, Path(ensurepip.__file__).parent / "_bundled")
    found = [wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))]
    return found[0] if found else None


def wheel_from_debian(scratch: Path) -> Path:
    """Fetch Debian's package of pip's wheel as an ordinary user, and unpack it in `scratch`."""
    by_hand = "install it by hand: sudo apt-get install python3-venv"
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Sorry("this Python has neither ensurepip nor pip; install its venv module, then run make again")
    fetch = ["apt-get", "download", "--quiet", "python3-pip-whl"]
    if subprocess.run(fetch, cwd=scratch, capture_output=True, check=False).returncode != 0:
        # The lists of packages are missing or old, and are root's: keep some of our own for a moment.
        for folder in ("lists/partial", "archives/partial"):
            (scratch / folder).mkdir(parents=True)
        own = ["-o", f"Dir::State::Lists={scratch}/lists", "-o", f"Dir::Cache={scratch}"]
        own += ["-o", f"Dir::Cache::Archives={scratch}/archives"]
        run(["apt-get", *own, "--quiet", "--error-on=any", "update"], "apt-get", by_hand)
        run(["apt-get", *own, *fetch[1:]], "apt-get", by_hand, folder=scratch)
    for package in scratch.glob("python3-pip-whl_*.deb"):
        run(["dpkg-deb", "--extract", str(package), str(scratch / "unpacked")], "dpkg-deb", by_hand)
    for wheel in scratch.glob("unpacked/usr/share/python-wheels/pip-*.whl"):
        return wheel
    raise Sorry(f"Debian's python3-pip-whl holds no wheel of pip; {by_hand}")


def settle(part: Path, final: Path) -> None:
    """Make what was written for `part` right for `final`: an environment's scripts carry its path."""
    for file in [part / "pyvenv.cfg", *(part / "bin").iterdir()]:
        if file.is_symlink() or not file.is_file():
            continue
        text = file.read_bytes()
        if bytes(part) in text and b"\0" not in text:  # programs in machine code carry no path of ours
            file.write_bytes(text.replace(bytes(part), bytes(final)))


def offer(root: Path) -> None:
    """Point `.venv`, where editors look, to the environment for development; one that a person made is left alone."""
    if not (root / ".venv").exists() or (root / ".venv").is_symlink():
        point(root / ".venv", ".make/dev")


def point(link: Path, target: str) -> None:
    """Make `link` a symbolic link to `target`, in one step."""
    if link.is_symlink() and link.readlink() == Path(target):
        return
    fresh = link.with_name(f"{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


def run(command: list[str], who: str, otherwise: str = "", folder: Path | None = None) -> None:
    """Run a program of the system's; if it fails, say why in one sentence."""
    env = {name: value for name, value in os.environ.items() if name not in NOT_OURS} | {"LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        close_fds=False,  # they hold our lock as long as they live
        preexec_fn=die_with_us,
    )
    if done.returncode == 0:
        return
    said = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
    if any(sign in line for line in said for sign in NO_NETWORK):
        raise Sorry(f"no network: {who} cannot reach the packages that mirrord needs; connect and run make again")
    faults = [line for line in said if line.upper().startswith(("ERROR", "E:"))] or said or ["no reason given"]
    raise Sorry(f"{who} failed: {faults[-1]}" + (f"; {otherwise}" if otherwise else ""))


def die_with_us() -> None:
    """Have the kernel end this process when the one that started it ends, prctl(2)."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def output(command: list[str]) -> str:
    """Return what a program prints; nothing if it fails."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )
    return done.stdout if done.returncode == 0 else ""


def say(sentence: str) -> None:
    """Tell the person who waits."""
    print(f"make: {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
