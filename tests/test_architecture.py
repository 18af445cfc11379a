"""The tree keeps to its plan: who may import whom, which library has which door, who may start threads, what is pure.

The rules are tables; the modules are read as text (`ast`), imports inside functions and for types alone included.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import mirrord

ROOT = Path(mirrord.__file__).parent

# A module imports only what stands to its left.
ORDER = (
    "errors",
    "manifest",
    "siblings",
    "assets",
    "delta",
    "plan",
    "looks",
    "health",
    "rules",
    "heirs",
    "sharing",
    "decide",
    "records",
    "trust",
    "snapshot",
    "hosts",
    "comparing",
    "publish",
    "probe",
    "switches",
    "journal",
    "report",
    "config",
    "control",
    "daemon",
    "demo",
    "cli",
    "__main__",
)

# Which modules may import a library: there its exceptions become ours. The demo stands on both sides of some wires.
DOORS = {
    "pydantic": ("config",),
    "pydantic_core": ("config",),
    "pydantic_settings": ("config",),
    "paramiko": ("hosts.sftp.session", "demo"),
    "requests": ("probe",),
    "urllib3": ("probe",),
    "dns": ("switches", "demo"),
    "lexicon": ("switches.lexicon_calls",),
    "cryptography": ("trust", "hosts.sftp.session", "demo"),
    "tenacity": ("publish",),
    "apscheduler": ("daemon",),
    "sqlite3": ("journal",),
    "typer": ("cli",),
    "click": ("cli",),
    "rich": ("cli",),
    "brotli": ("siblings",),
    "backports": ("siblings",),
    "compression": ("siblings",),  # Python's own since 3.14, which `backports` gives to those before
}

# Who may start threads; the others receive an Executor.
THREADED = ("control", "daemon", "demo")
STARTERS = {
    *("Thread", "Timer", "ThreadPoolExecutor", "ProcessPoolExecutor", "start_new_thread", "to_thread"),
    *("ThreadingMixIn", "ThreadingTCPServer", "ThreadingUnixStreamServer", "ThreadingHTTPServer"),
    *("BackgroundScheduler", "Process", "Pool"),
}

# Modules without socket, file, clock, randomness or log, and what of the standard library they may use.
PURE = (
    "errors",
    "manifest",
    "assets",
    "delta",
    "plan",
    "looks",
    "health",
    "rules",
    "heirs",
    "sharing",
    "decide",
    "records",
    "hosts.sftp.wire",
    "hosts.sftp.flow",
)
HARMLESS = {
    *("__future__", "abc", "base64", "bisect", "collections", "copy", "dataclasses", "datetime", "difflib", "enum"),
    *("fnmatch", "functools", "hashlib", "heapq", "io", "ipaddress", "itertools", "json", "math", "operator", "re"),
    *("statistics", "string", "struct", "textwrap", "types", "typing"),
}
CLOCKS_AND_FILES = {"now", "utcnow", "today", "open", "print", "input", "exec", "eval", "__import__"}


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the package: its name below `mirrord`, and its text as a tree."""

    name: str
    tree: ast.Module
    is_package: bool = False

    @property
    def part(self) -> str:
        """Return the name that the order knows."""
        return self.name.partition(".")[0]

    def within(self, *names: str) -> bool:
        """Return whether it is one of the modules, or stands inside one."""
        return any(self.name == name or self.name.startswith(f"{name}.") for name in names)


def modules() -> list[Module]:
    """Read every module of the package but its first page."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        if name:
            found.append(Module(name, ast.parse(path.read_bytes(), str(path)), is_package))
    return found


def imports(module: Module) -> Iterator[str]:
    """Return every module that is imported anywhere in the module, by its full name."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = _absolute(module, node)
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__") and node.args:
            named = node.args[0]
            yield str(named.value) if isinstance(named, ast.Constant) else "?"


def made(module: Module) -> Iterator[str]:
    """Return the last part of the name of everything that the module calls, inherits from, or imports by itself."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            yield _name(node.func)
        elif isinstance(node, ast.ClassDef):
            yield from map(_name, node.bases)
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)


def against_the_order(module: Module) -> list[str]:
    """Return the imports that point to the right."""
    if module.part not in ORDER:
        return [f"{module.name} has no place in the order"]
    mine = ORDER.index(module.part)
    wrong = []
    for imported in imports(module):
        package, _, rest = imported.partition(".")
        part = rest.partition(".")[0]
        if package != "mirrord" or part in ("", "__version__"):
            continue
        if part not in ORDER:
            wrong.append(f"{module.name} imports {imported}, which has no place in the order")
        elif ORDER.index(part) > mine:
            wrong.append(f"{module.name} imports {imported}, which stands to its right")
    return wrong


def through_walls(module: Module) -> list[str]:
    """Return the libraries that the module imports though it is not their door."""
    wrong = []
    for imported in imports(module):
        library = imported.partition(".")[0]
        if library in DOORS:
            if not module.within(*DOORS[library]):
                wrong.append(
                    f"{module.name} imports {imported}; the doors of {library} are {', '.join(DOORS[library])}"
                )
        elif library != "mirrord" and library not in sys.stdlib_module_names:
            wrong.append(f"{module.name} imports {imported}; no door is known for it")
    return wrong


def threads(module: Module) -> list[str]:
    """Return what the module uses to start threads though it may not."""
    if module.within(*THREADED):
        return []
    return [
        f"{module.name} uses {name}; threads are started in {', '.join(THREADED)}"
        for name in made(module)
        if name in STARTERS
    ]


def impurities(module: Module) -> list[str]:
    """Return what a pure module should not touch."""
    if module.name not in PURE:
        return []
    libraries = {imported.partition(".")[0] for imported in imports(module)} - {"mirrord"}
    touched = [f"{module.name} imports {library}" for library in sorted(libraries - HARMLESS)]
    called = {_name(node.func) for node in ast.walk(module.tree) if isinstance(node, ast.Call)}
    return touched + [f"{module.name} calls {name}" for name in sorted(called & CLOCKS_AND_FILES)]


@pytest.mark.parametrize("rule", [against_the_order, through_walls, threads, impurities])
def test_every_module_keeps_to_its_place(rule: object) -> None:
    """
    Who opens the modules in order meets nothing before it is explained; every library's exceptions are met in one
    place; what decides about a failover can be tested without time or network.
    """
    assert callable(rule)

    broken = [sentence for module in modules() for sentence in rule(module)]

    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [
        pytest.param(against_the_order, "plan", "from mirrord.health import Health", id="import to the right"),
        pytest.param(
            against_the_order, "plan", "def late():\n    import mirrord.health", id="late import to the right"
        ),
        pytest.param(against_the_order, "plan", "from mirrord import health", id="import from the package"),
        pytest.param(against_the_order, "hosts.sftp.wire", "from ... import daemon", id="relative import"),
        pytest.param(against_the_order, "plan", "from .health import Health", id="relative import of a neighbour"),
        pytest.param(against_the_order, "helpers", "", id="module without a place"),
        pytest.param(against_the_order, "plan", "import_module('mirrord.health')", id="import by name"),
        pytest.param(through_walls, "publish", "import paramiko.message", id="library without its door"),
        pytest.param(through_walls, "hosts.sftp.flow", "from paramiko import Channel", id="beside the door"),
        pytest.param(through_walls, "cli", "def verb():\n    from pydantic import BaseModel", id="late and beside"),
        pytest.param(through_walls, "cli", "import attrs", id="library that no table knows"),
        pytest.param(threads, "probe", "import threading\nthreading.Thread(target=print).start()", id="thread"),
        pytest.param(threads, "probe", "import threading\nclass Prober(threading.Thread): ...", id="kind of thread"),
        pytest.param(threads, "publish", "from concurrent.futures import ThreadPoolExecutor as Crew", id="executor"),
        pytest.param(impurities, "health", "import time", id="clock"),
        pytest.param(impurities, "decide", "from datetime import datetime\ndatetime.now()", id="clock by another name"),
        pytest.param(impurities, "plan", "import logging", id="log"),
        pytest.param(impurities, "manifest", "open('/etc/passwd')", id="file"),
    ],
)
def test_a_broken_rule_is_seen(rule: object, name: str, text: str) -> None:
    """A rule that sees nothing would be kept by every tree."""
    assert callable(rule)

    assert len(rule(Module(name, ast.parse(text)))) == 1


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [
        pytest.param(
            against_the_order, "health", "from mirrord.plan import Plan\nfrom mirrord import __version__", id="left"
        ),
        pytest.param(
            against_the_order, "hosts.files", "from mirrord.hosts.account import Account", id="within its part"
        ),
        pytest.param(through_walls, "hosts.sftp.session", "import paramiko", id="the door itself"),
        pytest.param(
            through_walls, "config.model", "import json\nfrom pydantic import BaseModel", id="inside the door"
        ),
        pytest.param(
            threads, "publish", "from concurrent.futures import Executor\nimport threading\nthreading.Lock()", id="lock"
        ),
        pytest.param(threads, "journal", "import threading\nowners: dict[threading.Thread, int] = {}", id="annotation"),
        pytest.param(threads, "control.crew", "from concurrent.futures import ThreadPoolExecutor", id="crew"),
        pytest.param(impurities, "journal", "import time", id="edge"),
        pytest.param(
            impurities, "manifest", "from datetime import UTC, datetime\ndatetime.fromtimestamp(0, UTC)", id="date"
        ),
    ],
)
def test_a_kept_rule_says_nothing(rule: object, name: str, text: str) -> None:
    """A rule that cries over what is right would be switched off by the next who meets it."""
    assert callable(rule)

    assert rule(Module(name, ast.parse(text))) == []


def test_the_first_page_tells_the_order_that_is_kept_and_imports_nothing() -> None:
    """Who reads `mirrord/__init__.py` must be able to rely on it."""
    page = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    told = re.findall(r"\w+", (ast.get_docstring(page) or "").rpartition("to its left:")[2])

    assert told == [name for name in ORDER if name in told]
    assert set(ORDER) - set(told) <= {"looks", "rules", "__main__"}
    assert not [node for node in ast.walk(page) if isinstance(node, ast.Import | ast.ImportFrom)]


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    """Return the full name of what a `from` imports from."""
    if not node.level:
        return node.module or ""
    here = ["mirrord", *module.name.split(".")]
    package = here if module.is_package else here[:-1]
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *((node.module,) if node.module else ())])


def _name(node: ast.expr) -> str:
    """Return the last part of a dotted name."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
