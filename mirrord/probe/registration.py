"""Until when is a domain registered?

Asked of the registry by RDAP (RFC 9083), through a service that knows which registry is whose. What it says is one
date; nothing is judged here.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from typing import Any

import requests

LONGEST = 1 << 20
"""Bytes of an answer."""


def registered_until(zone: str, service: str, timeout: float = 10.0) -> float | None:
    """Return the Unix time at which the registration of a zone's domain ends; None where nobody says.

    `service` is the address of an RDAP service, such as `https://rdap.org/`. Never raises.
    """
    labels = zone.split(".")
    with requests.Session() as session:
        session.trust_env = False
        for first in range(max(len(labels) - 1, 1)):
            domain = ".".join(labels[first:])
            with suppress(requests.RequestException, ValueError, KeyError, TypeError, AttributeError):
                return _ends(session, f"{service.rstrip('/')}/domain/{domain}", timeout)
    return None


def _ends(session: requests.Session, url: str, timeout: float) -> float:
    """Return the date of the event `expiration`. Raises what a wrong answer raises."""
    with session.get(url, timeout=timeout, stream=True, headers={"Accept": "application/rdap+json"}) as answer:
        answer.raise_for_status()
        text = answer.raw.read(LONGEST + 1, decode_content=True)
    if len(text) > LONGEST:
        raise ValueError("an answer without end")
    told: Any = json.loads(text)
    (date,) = [event["eventDate"] for event in told["events"] if event["eventAction"] == "expiration"]
    return datetime.fromisoformat(date).timestamp()
