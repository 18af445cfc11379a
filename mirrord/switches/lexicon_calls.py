"""What does a DNS provider's programming interface answer? (a program of its own, and the only import of lexicon)

`lexicon` starts it, and kills it when a call takes too long: the library sets no time limits, some of its providers
print, and one replaces functions of `requests` while it works. It is run by its path, imports nothing of mirrord,
reads one JSON object a line and answers each with one.

    {"provider": NAME, "zone": ..., "ttl": 60, "timeout": 20, "options": {...}, "secrets": {...}}    -> {}    first
    {"do": "list", "wanted": [[TYPE, NAME], ...]}            -> {"records": [[{"content": ..., "ttl": ...}, ...], ...]}
    {"do": "create", "type": ..., "name": ..., "content": ...}          -> {}
    {"do": "delete", "type": ..., "name": ..., "content": ...}          -> {}

An answer with `error` is a sentence in which no secret stands; `refused` tells that we were not let in.

The provider is made anew for each order: some remember the whole zone, and would write back what stood a moment ago.
It is taken from lexicon's own list, not through its `Client`: that one guesses the zone from a list of public suffixes,
which it fetches from the network first, in the middle of an outage.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from lexicon._private.discovery import find_providers, load_provider_module
from lexicon.config import ConfigResolver
from lexicon.exceptions import AuthenticationError
from lexicon.interfaces import Provider

LONGEST = 300
"""Characters of a foreign sentence."""


class Calls:
    """One provider, and what it is asked."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Take the first line."""
        self._settings = settings
        self._secrets = [secret for secret in settings["secrets"].values() if secret]
        socket.setdefaulttimeout(settings["timeout"])

    def answer(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Carry one order out; never raises."""
        try:
            return self._do(order)
        except Exception as e:  # noqa: BLE001 - ninety providers raise what they like
            name = self._settings["provider"]
            if not find_providers().get(name):  # asked only now, since it takes a while
                more = f"lexicon lacks what it needs for {name}: pip install 'dns-lexicon[{name}]'"
                return {"error": more, "refused": True}
            return {"error": self._words(e), "refused": _refused(e)}

    def _do(self, order: Mapping[str, Any]) -> dict[str, Any]:
        provider = self._provider()
        try:
            if order["do"] == "list":
                return {"records": [self._list(provider, kind, name) for kind, name in order["wanted"]]}
            act = provider.create_record if order["do"] == "create" else self._delete(provider)
            if act(order["type"], order["name"], order["content"]) is False:
                return {"error": f"it would not {order['do']} {order['type']} at {order['name']}", "refused": False}
            return {}
        finally:
            provider.cleanup()

    def _provider(self) -> Provider:
        name = self._settings["provider"]
        told = {
            "provider_name": name,
            "domain": self._settings["zone"],
            "ttl": self._settings["ttl"],
            name: {**self._settings["options"], **self._settings["secrets"]},
        }
        provider: Provider = load_provider_module(name).Provider(ConfigResolver().with_dict(told))  # type: ignore[no-untyped-call] # lexicon leaves it untyped
        provider.authenticate()
        return provider

    def _list(self, provider: Provider, kind: str, name: str) -> list[dict[str, Any]]:
        """Return what stands; filtered once more, since not every provider's filter works."""
        return [
            {"content": str(record["content"]), "ttl": record.get("ttl")}
            for record in provider.list_records(kind, name)
            if str(record["type"]).upper() == kind and self._whole(str(record["name"])) == name
        ]

    def _whole(self, name: str) -> str:
        """Return a name as providers write it, relative to the zone or not, as a whole one."""
        zone = self._settings["zone"]
        name = name.rstrip(".").lower()
        if name in ("", "@"):
            return str(zone)
        return name if name == zone or name.endswith(f".{zone}") else f"{name}.{zone}"

    @staticmethod
    def _delete(provider: Provider) -> Any:
        def delete(kind: str, name: str, content: str) -> bool:
            if not content:  # lexicon would take it for "all of them"
                raise ValueError("a record without content")
            return provider.delete_record(None, kind, name, content)

        return delete

    def _words(self, error: Exception) -> str:
        """Say what went wrong in one line, without secrets and without what follows `?` in an address."""
        text = " ".join(str(error).split())
        for secret in self._secrets:
            for spelled in (secret, quote(secret, safe=""), quote_plus(secret)):
                text = text.replace(spelled, "***")
        text = re.sub(r"(https?://[^\s?]+)\?\S*", r"\1", text)
        return f"{type(error).__name__}: {text[:LONGEST]}" if text else type(error).__name__


def _refused(error: Exception) -> bool:
    """Tell whether we were not let in."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(error, AuthenticationError) if status is None else status in (401, 403)


def main() -> None:
    """Answer orders until the input ends; whatever a provider prints goes nowhere."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        calls = Calls(json.loads(sys.stdin.readline()))
        out.write("{}\n")
        out.flush()
        for line in sys.stdin:
            out.write(json.dumps(calls.answer(json.loads(line))) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
