"""What does a failed request mean, in the words of somebody who has to mend it?

`requests` wraps what urllib3 wraps of what `ssl`, `http.client` and the kernel say; here it is unwrapped. Each
sentence follows a mirror's name.
"""

from __future__ import annotations

import errno
import http.client
import os
import ssl
from collections.abc import Iterator
from typing import Any

import urllib3.exceptions

from mirrord.health import Fault, FaultKind
from mirrord.probe.line import Line

# X509_V_ERR_* of OpenSSL's x509_vfy.h
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21)
_WRONG_NAME = (62, 64)

_LATE = (TimeoutError, urllib3.exceptions.ReadTimeoutError)
_CLOSED = (
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
    http.client.RemoteDisconnected,
    ssl.SSLEOFError,
)


def causes(error: BaseException) -> list[BaseException]:
    """Return an exception and all that led to it, outermost first; urllib3 hides them in several places."""
    return list(_walk(error))


def _walk(error: BaseException) -> Iterator[BaseException]:
    queue: list[Any] = [error]
    seen: set[int] = set()
    while queue:
        cause = queue.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            queue += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]


def too_late(error: BaseException) -> bool:
    """Tell whether it was time that ran out."""
    return any(isinstance(cause, _LATE) for cause in causes(error))


def closed(error: BaseException) -> bool:
    """Tell whether the other side closed the connection."""
    return any(isinstance(cause, _CLOSED) for cause in causes(error))


def only_the_dates(error: BaseException, line: Line) -> Fault | None:
    """Return the fault of a certificate whose dates are wrong, or None where it is another (or none)."""
    for cause in causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in (_NOT_YET_VALID, _EXPIRED):
            what = "has expired" if cause.verify_code == _EXPIRED else "is not valid yet"
            return Fault(FaultKind.CLOCK, f"its certificate for {line.target.name} {what}; renew it there")
    return None


def fault(error: BaseException, line: Line) -> Fault:
    """Say why a request came to nothing."""
    led_here = list(reversed(causes(error)))  # what happened first says most
    for cause in led_here:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Fault(FaultKind.TLS, _distrust(cause, line))
    if too_late(error):
        return late(line)
    for cause in led_here:
        if isinstance(cause, _CLOSED):
            what = "the TLS handshake was done" if line.stage == "tls" else "it answered"
            return Fault(FaultKind.UNREACHABLE, f"closed the connection before {what}")
        if isinstance(cause, ssl.SSLError):
            return Fault(FaultKind.TLS, f"cannot be talked to by TLS: {reason(cause)}")
        if isinstance(cause, OSError) and cause.errno:
            return Fault(FaultKind.UNREACHABLE, f"cannot be reached: {reason(cause)}")
        if isinstance(cause, http.client.HTTPException):
            return Fault(FaultKind.STATUS, f"does not answer in HTTP: {reason(cause)}")
    return Fault(FaultKind.STATUS, f"does not answer in HTTP: {reason(error)}")


def late(line: Line) -> Fault:
    """Say what time ran out on."""
    match line.stage:
        case "connecting":
            return Fault(FaultKind.UNREACHABLE, "cannot be reached: no answer in the time allowed")
        case "tls":
            return Fault(FaultKind.SLOW, "is too slow: the TLS handshake took longer than the time allowed")
        case _:
            return Fault(FaultKind.SLOW, "is too slow: its answers took longer than the time allowed")


def unreadable_authorities(error: OSError, line: Line) -> Fault:
    """Say that we, not the mirror, lack what is needed."""
    text = f"cannot be checked: the list of authorities {line.authorities}: {reason(error)}; mend ca_file"
    return Fault(FaultKind.TLS, text)


def _distrust(error: ssl.SSLCertVerificationError, line: Line) -> str:
    name = line.target.name
    if error.verify_code in _WRONG_NAME:
        return f"its certificate is not valid for the name {name}; one that has this name is needed there"
    if error.verify_code in _UNKNOWN_AUTHORITY:
        return (
            f"its certificate for {name} comes from no authority that we trust ({error.verify_message});"
            " intermediate certificates must be sent along; set ca_file for an authority of your own"
        )
    return f"its certificate for {name} is not valid: {error.verify_message}"


def reason(error: BaseException) -> str:
    """Say in a few plain words what an exception says."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    if isinstance(error, OSError) and error.errno in errno.errorcode:
        return os.strerror(error.errno or 0).lower()
    return show(str(error)) or type(error).__name__


def show(text: str, limit: int = 200) -> str:
    """Make a stranger's text fit for a message: one line, printable, not long."""
    plain = "".join(char if char.isprintable() else "�" for char in text[:limit])
    return plain if len(text) <= limit else f"{plain}..."
