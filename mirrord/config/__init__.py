"""How is a TOML file turned into settings that the rest can rely on?

Configuration is checked once, whole, and stays outside: `load` reads the file into frozen settings or answers
with every fault, and `Settings` hands the core plain values. This is the only use of pydantic.

    units.py         durations, sizes, addresses, names, keys: one text to one value
    lines.py         on which line a key stands
    secret.py        where a secret comes from; read when needed
    surroundings.py  the environment variables that have a say (environment.py reads them)
    model.py         the tables and their keys
    faults.py        a fault as a sentence in the file's own terms
    checks.py        do the tables fit together?
    settings.py      the checked whole, and the plain values that it hands out
    loading.py       which file, and what is wrong with it
"""

from mirrord.config.loading import DEFAULT_FILE, find, load, missing_secrets
from mirrord.config.secret import Secret
from mirrord.config.settings import Settings

__all__ = ["DEFAULT_FILE", "Secret", "Settings", "find", "load", "missing_secrets"]
