"""How do we reach an account by SSH, and what becomes of it when the line breaks?

The one door to paramiko: nobody else imports it, and its exceptions become ours here. From it we take the encryption,
the login and the channels; files, windows and waiting are our own (`flow`), because its SFTP client drops replies.

- The host's key is pinned: only its type is negotiated, and it is compared before we log in.
- One connection, several channels, each with its own server process and its own window. A host that grants fewer is
  asked for more connections once a window is what limits us, one by one, until it says no; what it refused is not
  asked for again soon (`manners`).
- Few round trips: the login is sent together with the request for the service that takes it, all channels are asked
  for at once, and SFTP's greeting travels with the request to start SFTP.
- A peer that falls silent is noticed by our own timer; paramiko's keepalive never notices. `abort` closes the
  transport: closing a channel waits for a peer that may never answer.
"""

from __future__ import annotations

import base64
import binascii
import io
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko import ssh_exception
from paramiko.auth_handler import AuthHandler
from paramiko.auth_strategy import AuthFailure
from paramiko.ber import BERException
from paramiko.buffered_pipe import PipeTimeout
from paramiko.common import cMSG_CHANNEL_OPEN, cMSG_CHANNEL_REQUEST
from paramiko.hostkeys import InvalidHostKey
from paramiko.packet import NeedRekeyException
from paramiko.pkey import UnknownKeyType

from mirrord.errors import BadConfig, Cancelled, MirrordError, Refused, Silent, Unavailable
from mirrord.hosts.account import Account
from mirrord.hosts.files import Op, Outcome, Pulse, Traits
from mirrord.hosts.remembered import Server
from mirrord.hosts.sftp import wire
from mirrord.hosts.sftp.dialogue import COPY_DATA, HARD_LINK, LIMITS, POSIX_RENAME, STATVFS, Terms
from mirrord.hosts.sftp.flow import Flow
from mirrord.hosts.sftp.manners import Manners
from mirrord.hosts.sftp.road import Allowance, Deadline, Road, here_and_now

CHANNELS = 4
"""Measured at 50 ms: one channel publishes in 6-9 s what three do in 3 s; more gain nothing."""
JOIN = 5.0
"""Seconds in which one more connection must be there, or we do without; the work waits meanwhile."""
STALL = 30.0
"""Seconds without any answer after which a connection is given up."""
KEEPALIVE = 15.0
"""Seconds of silence after which something is sent, so that no router on the way forgets us."""
LAST_WORDS = 0.5
"""Seconds: on a line that broke, paramiko closes the channels a moment before it says that the line is gone."""
KEEP_CHANNELS_APART = ("OpenSSH", "AsyncSSH", "paramiko", "rclone", "Go", "SFTPGo", "mirrord")
"""Servers that may be given several channels on one connection, as their greeting names them.

ProFTPD 1.3.8 mixes up the requests of two channels, and dies of it (proftpd#1897): one file's bytes could end in
another. Who is not known to do better gets one channel on each connection.
"""
OUR_WINDOW = 8 * 1024 * 1024
"""Bytes that a server may send on a channel before we say that we read them."""
AT_ONCE = 512 * 1024
"""Bytes of replies that are taken in before their outcomes are told: listings are many times as large once read."""
KEPT_BACK = 96 * 1024
"""Bytes that OpenSSH may have read without saying so yet: three packets of a channel."""
MOST_IN_FLIGHT = 8 * 1024 * 1024
"""Bytes under way on a channel at most: some servers open a window of 4 GiB."""
HANDLES, MOST_HANDLES = 256, 1000
"""Files open at once on a channel: where the server does not say how many it allows, and at most."""
CHUNK = 4
"""Packets sent on a lane before the next lane has its turn."""

_PACKET = 32 * 1024
_WINDOW_POLL = 0.02
_AFTER_OURS = 5.0
"""Seconds by which paramiko's own timers end later: it calls silence an error in reading the banner."""
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
_MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
_HOST_KEYS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
"""Type of a pinned key -> algorithms by which a host proves that it has it."""

MANNERS = Manners()

_BEHIND: tuple[tuple[bytes, Callable[[Traits], bool]], ...] = (
    (POSIX_RENAME, lambda traits: traits.replace),
    (HARD_LINK, lambda traits: traits.hard_link),
    (STATVFS, lambda traits: traits.space),
    (COPY_DATA, lambda traits: traits.copy_data),
)
"""The extensions behind traits."""

LOG = logging.getLogger(__name__)
_PARAMIKO_LOG = f"{__name__}.paramiko"


def _demote(record: logging.LogRecord) -> bool:
    """Let paramiko speak to those only who debug, and of every packet not even to them.

    What matters of it becomes an error of ours.
    """
    chatter = record.levelno <= logging.DEBUG
    record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    return LOG.isEnabledFor(logging.DEBUG) and not chatter


logging.getLogger(_PARAMIKO_LOG).addFilter(_demote)

MEANINGS: dict[type[BaseException], type[MirrordError]] = {
    ssh_exception.AuthenticationException: Refused,
    ssh_exception.PasswordRequiredException: Refused,
    ssh_exception.BadAuthenticationType: Refused,
    ssh_exception.PartialAuthentication: Refused,
    ssh_exception.UnableToAuthenticate: Refused,
    AuthFailure: Refused,
    ssh_exception.BadHostKeyException: Refused,
    ssh_exception.IncompatiblePeer: Refused,
    UnknownKeyType: Refused,
    InvalidHostKey: Refused,
    BERException: Refused,  # a private key in an old format, garbled
    ssh_exception.ChannelException: Unavailable,
    ssh_exception.MessageOrderError: Unavailable,
    ssh_exception.ProxyCommandFailure: Unavailable,
    ssh_exception.CouldNotCanonicalize: Unavailable,
    ssh_exception.ConfigParseError: Unavailable,
    paramiko.SFTPError: Unavailable,
    ssh_exception.SSHException: Unavailable,
    ssh_exception.NoValidConnectionsError: Unavailable,
    PipeTimeout: Unavailable,
    NeedRekeyException: Unavailable,
    EOFError: Unavailable,
    OSError: Unavailable,
}
"""What each exception of paramiko, and of what lies below it, means to us."""
_FOREIGN = tuple(MEANINGS)
_BROKEN: tuple[type[BaseException], ...] = (*_FOREIGN, Unavailable)
_NO_KEY: tuple[type[BaseException], ...] = (*_FOREIGN, ValueError, TypeError, IndexError, UnsupportedAlgorithm)


def translate(error: BaseException, where: str) -> MirrordError:
    """Return our error for one of `MEANINGS`; `where` is "who: doing what"."""
    meaning = next(MEANINGS[kind] for kind in type(error).__mro__ if kind in MEANINGS)
    if isinstance(error, EOFError):
        return meaning(f"{where}: the other side closed the connection")
    if isinstance(error, OSError) and error.strerror:
        return meaning(f"{where}: {error.strerror}")
    return meaning(f"{where}: {str(error) or type(error).__name__}")


_Asked = tuple[paramiko.Channel, threading.Event]
"""A channel, and what is set when the server has said whether we get it."""


class _Login(AuthHandler):
    """Sends the login together with the request for the service that takes it (RFC 4252, section 5; RFC 4253, 10)."""

    def _request_auth(self) -> None:
        plain = cast("Any", super())
        plain._request_auth()  # noqa: SLF001 - our own parent's
        accepted = paramiko.Message()
        accepted.add_string("ssh-userauth")
        accepted.rewind()
        plain._parse_service_accept(accepted)  # noqa: SLF001 - our own parent's

    def _parse_service_accept(self, m: paramiko.Message) -> None:
        """Nothing is left to do: the login is on its way."""


class _Transport(paramiko.Transport):
    """A transport that asks for several channels at once; paramiko's own call waits for each."""

    _channels: Any
    _next_channel: Callable[[], int]
    _send_user_message: Callable[[paramiko.Message], None]

    def log_in(self, user: str, key: paramiko.PKey) -> threading.Event:
        """Ask for the login; the event is set when the answer is there."""
        answered = threading.Event()
        self.auth_handler = _Login(self)
        self.auth_handler.auth_publickey(user, key, answered)
        return answered

    def ask_for_channels(self, count: int) -> list[_Asked]:
        """Ask for sessions; each event is set when the answer is there (`has` tells which)."""
        asked = []
        for _ in range(count):
            with self.lock:
                number = self._next_channel()
                channel = cast("Any", paramiko.Channel(number))
                self._channels.put(number, channel)
                self.channel_events[number] = answered = threading.Event()
                self.channels_seen[number] = True
                channel._set_transport(self)  # noqa: SLF001 - as Transport.open_channel does
                channel._set_window(OUR_WINDOW, _PACKET)  # noqa: SLF001 - the same
            m = paramiko.Message()
            m.add_byte(cMSG_CHANNEL_OPEN)
            m.add_string("session")
            m.add_int(number)
            m.add_int(OUR_WINDOW)
            m.add_int(_PACKET)
            self._send_user_message(m)
            asked.append((channel, answered))
        return asked

    def has(self, channel: paramiko.Channel) -> bool:
        """Tell whether the server granted the channel."""
        return self._channels.get(channel.chanid) is not None and bool(channel.active)

    def ask_for_sftp(self, channel: paramiko.Channel) -> threading.Event:
        """Ask for SFTP on a channel; the event is set when the answer is there, or the channel was closed."""
        m = paramiko.Message()
        m.add_byte(cMSG_CHANNEL_REQUEST)
        m.add_int(channel.remote_chanid)
        m.add_string("subsystem")
        m.add_boolean(b=True)
        m.add_string("sftp")
        self._send_user_message(m)
        return channel.event


class _Bell:
    """Rings when any channel has something new; stands where paramiko expects an event for one channel."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ring, unless it rings already: who hears it clears it first and looks then."""
        if not self._event.is_set():
            self._event.set()

    def clear(self) -> None:
        """Keep ringing: another channel may have something."""

    def wait(self, seconds: float) -> None:
        """Wait until it rings."""
        self._event.wait(seconds)
        self._event.clear()


class _FewerChannels(Exception):
    """The server dropped us when we asked for several channels."""


class _Line:
    """One connection, and the channels on it that speak SFTP."""

    def __init__(self, road: Road) -> None:
        self.road = road
        self.transport: _Transport | None = None
        self.channels: list[paramiko.Channel] = []

    @property
    def alive(self) -> bool:
        """Tell whether it stands."""
        return self.transport is not None and self.transport.is_active()

    def close(self) -> None:
        """Let go; never blocks on a stalled peer."""
        self.road.close()
        if self.transport is not None:
            self.transport.close()
            # Else a handshake that failed leaves the thread of its timer behind.
            self.transport.packetizer.complete_handshake()


class SftpFiles:
    """An account's files over SFTP; `mirrord.hosts.files.Files` is the contract."""

    traits: Traits
    """What the server announces, until somebody knows better."""

    def __init__(
        self,
        account: Account,
        *,
        stall: float = STALL,
        keepalive: float = KEEPALIVE,
        local: Callable[[], datetime] = here_and_now,
    ) -> None:
        """Make what `open` fills; use `open`."""
        self._who = account.mirror
        self._account = account
        self._stall = stall
        self._keepalive = keepalive
        self._doing = "working over SFTP"
        self._bell = _Bell()
        self._lines: list[_Line] = []
        self._channels: list[paramiko.Channel] = []  # of all lines, as the lanes of the flow
        self._wanted = 1  # channels in all
        self._keys: tuple[tuple[str, bytes], paramiko.PKey] | None = None
        self._server = Server()
        self._terms = Terms()  # of every channel, but for its window
        self._flow = Flow(())
        self._waited = 0.0
        self._cancelled = False
        self._unusable = ""
        self._allowance = Allowance(account.bandwidth, local)
        self._bound_for = 0  # the rate for which the flow was told how much may be under way

    @classmethod
    def open(
        cls,
        account: Account,
        *,
        timeout: float = 30.0,
        channels: int = CHANNELS,
        stall: float = STALL,
        keepalive: float = KEEPALIVE,
        local: Callable[[], datetime] = here_and_now,
    ) -> SftpFiles:
        """Log in, within `timeout` seconds. `local` tells the time of day for a limit that depends on it.

        Raises Unavailable, Silent where not a word came in that time, Refused, BadConfig.
        """
        keys = _pinned_key(account), private_key(account)
        deadline = Deadline.after(timeout)
        whose = _whose(account)
        count = min(channels, MANNERS.of(whose).channels)
        while True:
            files = cls(account, stall=stall, keepalive=keepalive, local=local)
            files._keys, files._wanted = keys, channels
            try:
                files._agree(files._connect(deadline, count))
            except _FewerChannels:
                files.close()
                count //= 2
                MANNERS.granted(whose, channels=count)
            except BaseException:
                files.close()
                raise
            else:
                return files

    # Logging in

    def _connect(self, deadline: Deadline, channels: int) -> Sequence[wire.Reply]:
        """Log in once more; return what the server answered to the greeting."""
        account = self._account
        assert self._keys is not None
        pinned, key = self._keys
        try:
            self._doing = f"connecting to {account.host} port {account.port}"
            line = _Line(Road.to(account.host, account.port, deadline, self._stall))
            self._lines.append(line)
            transport = self._shake_hands(line, pinned, deadline)
            self._doing = f"logging in as {account.user}"
            asked = self._log_in(transport, key, deadline, channels)
            self._doing = "starting SFTP"
            answers = self._start_sftp(line, transport, asked, deadline)
        except _FOREIGN as e:
            raise self._unless_silent(self._ours(e), deadline) from e
        except wire.Malformed as e:
            raise Unavailable(f"{self._where}: {e}") from e
        except Unavailable as e:
            raise self._unless_silent(e, deadline) from e.__cause__
        self._doing = "working over SFTP"
        if len(line.channels) < channels:
            MANNERS.granted(_whose(account), channels=len(line.channels))
        return answers

    def _shake_hands(self, line: _Line, pinned: tuple[str, bytes], deadline: Deadline) -> _Transport:
        """Agree on keys with the host that has the pinned one."""
        line.transport = transport = _Transport(cast("Any", line.road), default_window_size=OUR_WINDOW)
        transport.set_log_channel(_PARAMIKO_LOG)
        options = transport.get_security_options()
        options.ciphers = _CIPHERS
        options.digests = _MACS
        options.kex = tuple(kex for kex in options.kex if not kex.endswith("sha1"))
        options.key_types = _HOST_KEYS[pinned[0]]
        transport.banner_timeout = transport.handshake_timeout = deadline.left + _AFTER_OURS
        agreed = threading.Event()
        transport.start_client(event=agreed)
        other = f"its key is not the pinned one ({pinned[0]}); if it was re-installed, update host_key"
        try:
            self._await(agreed, transport, deadline)
        except ssh_exception.IncompatiblePeer as e:
            if "host key" in str(e):
                raise Refused(f"{self._where}: {other}") from e
            raise
        if transport.get_remote_server_key().asbytes() != pinned[1]:
            raise Refused(f"{self._where}: {other}")
        transport.set_keepalive(cast("int", self._keepalive))
        # paramiko would stop the timer of the handshake after every single packet.
        packetizer = cast("Any", transport.packetizer)
        packetizer.complete_handshake()
        packetizer.complete_handshake = _nothing
        return transport

    def _log_in(self, transport: _Transport, key: paramiko.PKey, deadline: Deadline, channels: int) -> list[_Asked]:
        """Log in and ask for channels."""
        answered = transport.log_in(self._account.user, key)
        channels = channels if _keeps_channels_apart(transport) else 1
        # OpenSSH reads on where the login ended; others may not like to be asked before.
        asked = transport.ask_for_channels(channels) if _is_openssh(transport) else []
        self._await(answered, transport, deadline)
        if not transport.is_authenticated():
            raise Refused(
                f"{self._where}: the host does not take our key; add this line to the account's authorized_keys:"
                f" {key.get_name()} {key.get_base64()}"
            )
        return asked or transport.ask_for_channels(channels)

    def _start_sftp(
        self, line: _Line, transport: _Transport, asked: list[_Asked], deadline: Deadline
    ) -> Sequence[wire.Reply]:
        """Start SFTP on as many channels as we get, and greet; return what the first answered."""
        ordered = _is_openssh(transport)
        greeting = wire.encode(0, wire.Init())
        if ordered:  # it says what it can anyway; to others an unknown request may be a shock
            greeting += wire.encode(0, wire.Limits())
        try:
            started = []
            for channel, answered in asked:
                self._await(answered, transport, deadline)
                if transport.has(channel):
                    started.append((channel, transport.ask_for_sftp(channel)))
            if not started:
                raise Refused(f"{self._where}: the host grants no session; does the account allow SFTP?")
            for channel, answered in started:
                self._await(answered, transport, deadline)
                if not _is_over(channel):
                    channel.in_buffer.set_event(cast("Any", self._bell))
                    _say(channel, greeting, deadline)  # only now the server takes anything: its window was 0 before
                    line.channels.append(channel)
            answers = self._greet(line.channels, transport, 2 if ordered else 1, deadline)
        except _BROKEN as e:
            if len(asked) > 1 and not deadline.over and not self._cancelled:
                raise _FewerChannels from e
            raise
        line.channels = [channel for channel, answer in zip(line.channels, answers, strict=True) if answer]
        first = next((answer for answer in answers if answer), None)
        if first is None:
            transport.join(LAST_WORDS)
            if not transport.is_active():
                raise _why_it_ended(transport)
            raise Refused(f"{self._where}: the account has no SFTP")
        if not ordered and not self._channels and LIMITS in _extensions(first[0]):
            _say(line.channels[0], wire.encode(0, wire.Limits()), deadline)
            (told,) = self._greet(line.channels[:1], transport, 1, deadline)
            first = [*first, *(told or ())]
        return first

    def _greet(
        self, channels: Sequence[paramiko.Channel], transport: _Transport, expected: int, deadline: Deadline
    ) -> list[list[wire.Reply] | None]:
        """Wait for what each channel answers to the greeting; None for one that closed before it had answered."""
        frames = [wire.Frames() for _ in channels]
        answers: list[list[wire.Reply] | None] = [[] for _ in channels]
        while True:
            for place, channel in enumerate(channels):
                answer, over = answers[place], _is_over(channel)
                if channel.recv_ready():
                    for packet in frames[place].feed(channel.recv(OUR_WINDOW)):
                        if answer is not None:
                            answer.append(wire.decode_reply(packet)[1])
                elif answer is not None and len(answer) < expected and over:
                    answers[place] = None
            if all(answer is None or len(answer) >= expected for answer in answers):
                break
            self._check(transport, deadline)
            self._bell.wait(deadline.left)
        return answers

    def _agree(self, answers: Sequence[wire.Reply]) -> None:
        """Learn from the first channel's answers what the server can."""
        version = answers[0]
        if not isinstance(version, wire.Version) or version.version < wire.VERSION:
            raise Refused(f"{self._where}: the host speaks no SFTP version 3")
        (line,) = self._lines
        transport = line.transport
        assert transport is not None
        ordered, extensions = _is_openssh(transport), _extensions(version)
        block, handles = wire.SAFE_BLOCK, HANDLES
        limits = answers[1] if len(answers) > 1 else None
        if LIMITS in extensions and isinstance(limits, wire.ExtendedReply):
            capacity = wire.Capacity.decode(limits.data)
            block = max(block, min(capacity.read or block, capacity.write or block))
            handles = min(capacity.handles or handles, MOST_HANDLES)
        self._server = Server(
            banner=transport.remote_version,
            extensions=tuple(sorted(name.decode("utf-8", "replace") for name in extensions)),
            cipher=transport.local_cipher,
            mac="" if "gcm" in transport.local_cipher else transport.local_mac or "",
            channels=len(line.channels),
            block=block,
            handles=handles,
            told=isinstance(limits, wire.ExtendedReply),
        )
        self.traits = Traits(
            ordered=ordered,
            symlink=True,
            hard_link=HARD_LINK in extensions,
            replace=POSIX_RENAME in extensions,
            replace_link=POSIX_RENAME in extensions,
            space=STATVFS in extensions,
            copy_data=COPY_DATA in extensions,
        )
        if limit := self._account.bandwidth.least:
            block = min(block, max(_PACKET, 2 * limit // len(line.channels)))
        self._terms = Terms(
            replies=OUR_WINDOW // 2,
            block=block,
            handles=handles,
            extensions=extensions,
            ordered=ordered,
            root=os.fsencode(self._account.root),
        )
        self._take_up(line)

    @property
    def server(self) -> Server:
        """Who answers, as far as the login shows."""
        return replace(self._server, channels=len(self._channels))

    def believe(self, traits: Traits) -> None:
        """Go by what was found out of the account, whatever the server announces."""
        self.traits = traits
        self._ask_for(name for name, works in _BEHIND if works(traits))

    def dare(self, *, all_of_them: bool) -> None:
        """Ask also for what the server does not announce, from now on or no more."""
        self._ask_for(name for name, works in _BEHIND if all_of_them or works(self.traits))

    def _ask_for(self, names: Iterable[bytes]) -> None:
        announced = frozenset(name.encode() for name in self._server.extensions)
        self._terms = replace(self._terms, extensions=announced.union(names))
        for lane in self._flow.lanes:
            lane.terms = replace(lane.terms, extensions=self._terms.extensions)

    def _take_up(self, line: _Line) -> None:
        """Work on the channels of a line as well."""
        for channel in line.channels:
            window = min(channel.out_window_size, MOST_IN_FLIGHT)
            in_flight = max(window - KEPT_BACK, window // 2)
            self._flow.add(replace(self._terms, in_flight=in_flight, block=min(self._terms.block, in_flight)))
            self._channels.append(channel)

    def _widen(self) -> None:
        """Open one more connection, where a host grants fewer channels than we want and does not say no."""
        short = self._wanted - len(self._channels)
        whose = _whose(self._account)
        may = MANNERS.of(whose)
        if short <= 0 or self._account.bandwidth.least or len(self._lines) >= may.connections:
            self._wanted = 0  # ask no more
            return
        doing, lines = self._doing, len(self._lines)
        try:
            self._connect(Deadline.after(JOIN), min(short, may.channels))
        except Cancelled:
            raise
        except (MirrordError, _FewerChannels) as e:
            LOG.debug("%s: one more connection: %s", self._who, e)
            self._wanted, self._doing = 0, doing
            MANNERS.granted(whose, connections=lines)
            for line in self._lines[lines:]:
                line.close()
            del self._lines[lines:]
        else:
            self._take_up(self._lines[-1])

    def _await(self, event: threading.Event, transport: _Transport, deadline: Deadline) -> None:
        """Wait for what paramiko's thread is to tell us. Raises its exception where it ended instead."""
        event.wait(deadline.left)
        self._check(transport, deadline)

    def _check(self, transport: _Transport, deadline: Deadline) -> None:
        if self._cancelled:
            raise Cancelled(f"{self._where}: told to stop")
        if not transport.is_active():
            raise _why_it_ended(transport)
        if deadline.over:
            raise Unavailable(f"{self._where}: no answer in time")

    # Working

    def carry_out(self, ops: Iterable[Op], pulse: Pulse | None = None) -> Iterator[Outcome]:
        """Do all, in any order, many at once; yield every outcome."""
        flow, source = self._flow, iter(ops)
        next_pulse = time.monotonic() + pulse.every if pulse else float("inf")
        self._begin()
        try:
            held = next(source, None)
            while held is not None or flow.busy or flow.outcomes:
                now = time.monotonic()
                if pulse is not None and now >= next_pulse:
                    flow.slip_in(pulse.make(), now)
                    next_pulse = now + pulse.every
                while held is not None and flow.offer(held, now):
                    held = next(source, None)
                if held is not None and self._wanted > len(self._channels) and flow.crowded:
                    self._widen()
                # What is closed by nobody who waits for it still holds a handle, and there may be one only.
                if flow.busy or (held is not None and flow.unanswered):
                    self._exchange(now if flow.outcomes else next_pulse)
                while flow.outcomes:
                    yield flow.outcomes.popleft()
        except BaseException:
            self._unusable = self._unusable or "an earlier piece of work was broken off"
            raise

    def in_order(self, ops: Sequence[Op]) -> list[Outcome]:
        """Do one after the other, in one flight where the server keeps order; later ones are tried in any case."""
        self._begin()
        try:
            outcomes = self._flow.in_order(ops, time.monotonic())
            while self._flow.busy:
                self._exchange(float("inf"))
        except BaseException:
            self._unusable = self._unusable or "an earlier piece of work was broken off"
            raise
        return [outcome for outcome in outcomes if outcome is not None]

    def bytes_moved(self) -> tuple[int, int]:
        """Return payload bytes sent and received so far."""
        lanes = self._flow.lanes
        return sum(lane.payload_sent for lane in lanes), sum(lane.payload_received for lane in lanes)

    def abort(self) -> None:
        """Break off, from any thread, at once."""
        self._cancelled = True
        self.close()

    def close(self) -> None:
        """Let go of the connection; never blocks on a stalled peer."""
        self._unusable = self._unusable or "the connection was closed"
        for line in self._lines:
            line.close()
        self._bell.set()

    @property
    def _where(self) -> str:
        return f"{self._who}: {self._doing}"

    def _begin(self) -> None:
        if self._cancelled:
            raise Cancelled(f"{self._where}: told to stop")
        if self._unusable:
            raise Unavailable(f"{self._where}: {self._unusable}")
        self._waited = 0.0

    def _exchange(self, until: float) -> None:
        """Send and receive what can be; where there is nothing, wait for the server, or `until` (monotonic time)."""
        try:
            moved = self._send()
            moved = self._receive() or moved
            if not moved:
                self._wait(until)
        except _FOREIGN as e:
            raise self._ours(e) from e
        except wire.Malformed as e:
            raise Unavailable(f"{self._where}: {e}") from e

    def _send(self) -> bool:
        moved = False
        if self._allowance.least != self._bound_for:
            self._bound_for = self._allowance.least
            most = max(_PACKET, 2 * self._bound_for // len(self._channels)) if self._bound_for else None
            self._flow.bound(most)
        for lane, channel in zip(self._flow.lanes, self._channels, strict=True):
            for _ in range(CHUNK):
                size = min(lane.unsent, channel.out_window_size, channel.out_max_packet_size - 64)
                size = self._allowance.grant(size)
                if size <= 0:
                    break
                channel.send(lane.take(size))
                moved = True
        return moved

    def _receive(self) -> bool:
        moved = False
        for place, channel in enumerate(self._channels):
            over = _is_over(channel)
            if channel.recv_ready():
                self._flow.feed(place, channel.recv(AT_ONCE), time.monotonic())
                moved = True
            elif over:
                raise _why_it_ended(channel.get_transport())
        if moved:
            self._waited = 0.0
        return moved

    def _wait(self, until: float) -> None:
        """Wait for the server. Raises Unavailable where it has been silent for too long."""
        if self._cancelled:
            raise Cancelled(f"{self._where}: told to stop")
        began = time.monotonic()
        limits = [until - began, self._stall - self._waited]
        unsent = any(lane.unsent for lane in self._flow.lanes)
        pause = self._allowance.pause if unsent else 0.0
        if pause:
            limits.append(pause)
        elif unsent:
            limits.append(_WINDOW_POLL)  # nothing rings when a window opens
        self._bell.wait(max(0.0, min(limits)))
        if self._flow.unanswered and not pause:
            self._waited += time.monotonic() - began
        if self._waited >= self._stall:
            raise Unavailable(f"{self._where}: no answer for {self._stall:g} s")

    def _ours(self, error: BaseException) -> MirrordError:
        """Translate; after `abort` whatever broke broke because of it."""
        if self._cancelled:
            return Cancelled(f"{self._where}: told to stop")
        lost = [place for place, line in enumerate(self._lines) if not line.alive]
        if lost and 0 not in lost:  # it took back what it had granted
            MANNERS.granted(_whose(self._account), connections=lost[0])
        if any(line.road.gave_up for line in self._lines):
            return Unavailable(f"{self._where}: it took nothing for {self._stall:g} s")
        return translate(error, self._where)

    def _unless_silent(self, error: MirrordError, deadline: Deadline) -> MirrordError:
        """Call it Silent where the time is up and not a byte came."""
        silent = deadline.over and not any(line.road.heard for line in self._lines)
        return Silent(str(error)) if silent and type(error) is Unavailable else error


def _nothing() -> None:
    """Do nothing."""


def _why_it_ended(transport: paramiko.Transport) -> BaseException:
    """Return what ended paramiko's thread, as one of `MEANINGS`.

    It keeps whatever came over it. Of bytes that were altered on their way that is any exception of any library: the
    cipher's, or in the handshake, where nothing is authentic yet, those of whoever reads numbers, names and keys.
    """
    error = transport.get_exception() or EOFError()
    if isinstance(error, _FOREIGN):
        return error
    garbled = ssh_exception.SSHException(f"what came was altered on its way ({str(error) or type(error).__name__})")
    garbled.__cause__ = error
    return garbled


def _is_openssh(transport: paramiko.Transport) -> bool:
    """Tell whether the server is one that is known to keep strict order."""
    return "OpenSSH" in transport.remote_version


def _whose(account: Account) -> tuple[str, int, str]:
    """Name the account whose manners are learnt."""
    return account.host, account.port, account.user


def _extensions(version: wire.Reply) -> frozenset[bytes]:
    return frozenset(name for name, _ in version.extensions) if isinstance(version, wire.Version) else frozenset()


def _say(channel: paramiko.Channel, words: bytes, deadline: Deadline) -> None:
    channel.settimeout(deadline.left)
    channel.sendall(words)
    channel.settimeout(0.0)


def _keeps_channels_apart(transport: paramiko.Transport) -> bool:
    program = transport.remote_version.removeprefix("SSH-2.0-")
    return program.startswith(KEEP_CHANNELS_APART)


def _is_over(channel: paramiko.Channel) -> bool:
    return bool(channel.closed or channel.eof_received)


def _pinned_key(account: Account) -> tuple[str, bytes]:
    """Return type and bytes of the pinned host key. Raises BadConfig."""
    words = account.host_key.split()
    try:
        kind, key = words[0], base64.b64decode(words[1], validate=True)
    except (IndexError, binascii.Error, ValueError):
        kind, key = "", b""
    if kind not in _HOST_KEYS or not key:
        known = ", ".join(_HOST_KEYS)
        raise BadConfig(
            [f"{account.mirror}: host_key is no public key as in known_hosts: TYPE BASE64, with a TYPE of {known}"]
        )
    return kind, key


def private_key(account: Account) -> paramiko.PKey:
    """Fetch and read the private key. Raises Refused, and BadConfig where it cannot be fetched."""
    text = account.key().decode("utf-8", "replace")
    where = f"{account.mirror}: reading the private key"
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key(io.StringIO(text))
        except ssh_exception.PasswordRequiredException as e:
            raise Refused(
                f"{where}: it is encrypted and nobody is there to decrypt it; make one without a passphrase"
                " (ssh-keygen -t ed25519 -N '') that may do nothing but SFTP"
            ) from e
        except _NO_KEY:
            continue  # another kind, or no key at all: nothing of what the library says may show the key
    raise Refused(f"{where}: it is not a private key of type Ed25519, ECDSA or RSA in OpenSSH's or PEM format")
