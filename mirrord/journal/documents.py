"""How are small documents kept in one file, so that a full disk or a broken one stops nothing?

This is the only import of sqlite3: WAL, one connection a thread, every write one transaction. What a document means is
`journal`'s affair. A write that fails is remembered by this process and written by the next that succeeds.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from mirrord.errors import BadConfig, Damaged, JournalUnwritable, MirrordError, Refused
from mirrord.journal.values import UNTOLD, Event, Happened

SCHEMA = 1
KEEP_DAYS = 400
"""Events older than this are dropped."""
KEEP_EVENTS = 50_000
"""So many events are kept at most."""
LONGEST_DETAILS = 65_536
"""Characters of an event's details; longer ones are left out."""
WAIT_FOR_OTHERS = 5.0
"""Seconds for which a write waits for another process's."""
WAIT_AGAIN = 0.1
"""The same after one that waited in vain: who holds the file for long must not hold up a move at every step."""

Result = TypeVar("Result")
Document = Any
"""Whatever `json` can write; None is no document."""
_Key = tuple[str, str]
_ABSENT = object()

_MADE_BY = 0x6D697272  # "mirr": SQLite's application_id
_TABLES = """
CREATE TABLE facts (kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, name));
CREATE TABLE history (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, kind TEXT NOT NULL, about TEXT NOT NULL,
    by TEXT NOT NULL, what TEXT NOT NULL, why TEXT NOT NULL, details TEXT NOT NULL
);
CREATE INDEX history_at ON history (at);
"""


class Documents:
    """The file: documents by kind and name, and the history beside them. Any thread, any process."""

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        """Open the file, or make it (mode 0640) in a folder that is there; `now` is Unix seconds, to date events.

        Raises Damaged for a file that is no journal or has broken pages, BadConfig for a newer mirrord's, Refused
        where the file may not be opened. On a full disk it opens all the same.
        """
        self._path = path
        self._now = now
        self._lock = threading.RLock()
        self._local = threading.local()
        self._connections: dict[threading.Thread, sqlite3.Connection] = {}
        self._closed = False
        self._prepared = False
        self._in_vain = False
        self._unwritten: dict[_Key, Document] = {}
        self._unrecorded: deque[tuple[float, Event]] = deque(maxlen=1000)
        self._remembered: dict[_Key, Document] = {}
        self._open()

    def close(self) -> None:
        """Close every thread's connection; the journal cannot be used afterwards."""
        with self._lock:
            self._closed = True
            for connection in self._connections.values():
                connection.close()
            self._connections.clear()

    def history(
        self,
        limit: int,
        since: float | None,
        before: int | None,
        kinds: Collection[str],
        about: str,
        until: float | None,
    ) -> list[Happened]:
        """Return the newest events first: at most `limit`, between two moments (Unix seconds), numbered below `before`.

        Without `kinds`, those that are kept for machines (`UNTOLD`) are left out.

        Events that could not be written yet are not among them.
        """
        wanted = ["1"]
        values: list[Any] = []
        asked = (("at >= ?", since), ("at <= ?", until), ("number < ?", before), ("about = ?", about or None))
        for condition, value in asked:
            if value is not None:
                wanted.append(condition)
                values.append(value)
        wanted.append(f"kind {'IN' if kinds else 'NOT IN'} ({', '.join('?' * len(kinds or UNTOLD))})")
        values += kinds or UNTOLD
        query = (
            "SELECT number, at, kind, what, why, by, about, details FROM history "  # noqa: S608 - only ? goes in
            f"WHERE {' AND '.join(wanted)} ORDER BY number DESC LIMIT ?"
        )
        rows = self._rows(query, [*values, limit])
        return [
            Happened(number, at, Event(kind, what, why, by, about_, json.loads(details)))
            for number, at, kind, what, why, by, about_, details in rows
        ]

    def get(self, kind: str, name: str) -> Document:
        """Return a document: as it could not be written, as the file has it, or as it was read last; None for none."""
        unwritten = self._unwritten.get((kind, name), _ABSENT)
        if unwritten is not _ABSENT:
            return unwritten
        rows = self._rows("SELECT value FROM facts WHERE kind = ? AND name = ?", (kind, name), None)
        if rows is None:
            return self._remembered.get((kind, name))
        document = json.loads(rows[0][0]) if rows else None
        self._remembered[kind, name] = document
        return document

    def all(self, kind: str) -> dict[str, Document]:
        """Return the documents of a kind, by name."""
        rows = self._rows("SELECT name, value FROM facts WHERE kind = ? ORDER BY name", (kind,), None)
        if rows is not None:
            gone = {key: None for key in list(self._remembered) if key[0] == kind}
            self._remembered |= gone | {(kind, name): json.loads(value) for name, value in rows}
        found = {key: document for key, document in list(self._remembered.items()) if key[0] == kind}
        found |= {key: document for key, document in list(self._unwritten.items()) if key[0] == kind}
        return {name: document for (_, name), document in sorted(found.items()) if document is not None}

    def change(self, doing: str, work: Callable[[Draft], Result]) -> Result:
        """Let `work` read and write documents in one transaction; a disk that is full gets it remembered."""
        with self._lock:
            try:
                connection = self._connection()
                wait = WAIT_AGAIN if self._in_vain else WAIT_FOR_OTHERS
                connection.execute(f"PRAGMA busy_timeout = {wait * 1000:.0f}")
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as e:
                self._in_vain = _code(e) == sqlite3.SQLITE_BUSY
                raise self._remember(doing, work, e) from e
            self._in_vain = False
            try:
                draft = Draft(self.get)
                result = work(draft)
                self._write(connection, draft)
                connection.execute("COMMIT")
            except sqlite3.Error as e:
                _roll_back(connection)
                raise self._remember(doing, work, e) from e
            except BaseException:
                _roll_back(connection)
                raise
            self._remembered |= self._unwritten | draft.documents
            self._unwritten.clear()
            self._unrecorded.clear()
            return result

    def _write(self, connection: sqlite3.Connection, draft: Draft) -> None:
        """Write what could not be written earlier, then the draft, and drop history that grew too long."""
        for (kind, name), document in (self._unwritten | draft.documents).items():
            if document is None:
                connection.execute("DELETE FROM facts WHERE kind = ? AND name = ?", (kind, name))
            else:
                value = json.dumps(document, separators=(",", ":"))
                connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", (kind, name, value))
        now = self._now()
        for at, event in [*self._unrecorded, *((now, event) for event in draft.events)]:
            details = json.dumps(dict(event.details))
            if len(details) > LONGEST_DETAILS:
                details = json.dumps({"left_out": len(details)})
            row = (at, *map(_storable, (event.kind, event.about, event.by, event.what, event.why)), details)
            number = connection.execute(
                "INSERT INTO history (at, kind, about, by, what, why, details) VALUES (?, ?, ?, ?, ?, ?, ?)", row
            ).lastrowid
            if number is not None and number % 100 == 0:
                oldest = (now - KEEP_DAYS * 86_400, number - KEEP_EVENTS)
                connection.execute("DELETE FROM history WHERE at < ? OR number <= ?", oldest)

    def _remember(self, doing: str, work: Callable[[Draft], object], error: sqlite3.Error) -> MirrordError:
        """Do the work on what this process remembers; return the error that says that it was not written."""
        draft = Draft(self.get)
        work(draft)
        self._unwritten |= draft.documents
        now = self._now()
        self._unrecorded.extend((now, event) for event in draft.events)
        free = _free(self._path)
        return JournalUnwritable(
            f"{self._path}: {doing}: {_reason(error)}; it is remembered until mirrord ends: mend this before", free=free
        )

    # -- the file

    def _rows(self, query: str, values: Sequence[Any], otherwise: Any = ()) -> Any:
        """Return the rows that a query finds; `otherwise` where the file cannot be read."""
        try:
            return self._connection().execute(query, values).fetchall()
        except sqlite3.Error:
            return otherwise

    def _connection(self) -> sqlite3.Connection:
        """Return this thread's connection."""
        if self._closed:
            raise sqlite3.ProgrammingError("the journal is closed")
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            self._local.connection = connection
            with self._lock:
                for thread in [thread for thread in self._connections if not thread.is_alive()]:
                    self._connections.pop(thread).close()
                self._connections[threading.current_thread()] = connection
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=WAIT_FOR_OTHERS, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_size_limit = 4194304")
            if not self._prepared:
                self._prepare(connection)
                self._prepared = True
        except BaseException:
            connection.close()
            raise
        return connection

    def _open(self) -> None:
        """Make the file, or see that it can be used, and read it once."""
        try:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o640))
                self._path.chmod(0o640)
        except OSError as e:
            raise Refused(f"{self._path}: making the journal: {e.strerror}; see to the state folder") from e
        query = "SELECT kind, name, value FROM facts"
        try:
            rows = self._connection().execute(query).fetchall()
        except sqlite3.Error as e:
            if _code(e) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise self._damaged() from e
            rows = self._read_alone(query, e)
        self._remembered = {(kind, name): json.loads(value) for kind, name, value in rows}

    def _read_alone(self, query: str, error: sqlite3.Error) -> list[Any]:
        """Read the file where the usual way is barred.

        A full disk has no room for the index that processes share: alone, SQLite does without. Where we may only read
        and nobody has it open, it is read as it stands. Raises Refused where it may not be read.
        """
        if _code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            uri, alone = f"file:{quote(str(self._path))}", "PRAGMA locking_mode = EXCLUSIVE"
        else:
            uri, alone = f"file:{quote(str(self._path))}?immutable=1", "PRAGMA query_only = TRUE"
        try:
            with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
                connection.execute(alone)
                return connection.execute(query).fetchall()
        except sqlite3.Error as e:
            if _code(e) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise self._damaged() from e
            if _code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                return []
            raise Refused(f"{self._path}: opening the journal: {_reason(error)}; see to its owner and mode") from e

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the tables in a new file; see that an old one is ours, not too new, and whole."""
        if _is_empty(connection):
            connection.execute("BEGIN IMMEDIATE")
            if _is_empty(connection):
                for statement in _TABLES.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {_MADE_BY}")
                connection.execute(f"PRAGMA user_version = {SCHEMA}")
            connection.execute("COMMIT")
        doing = f"{self._path}: opening the journal"
        if _pragma(connection, "application_id") != _MADE_BY:
            raise Damaged(f"{doing}: it is a database of another program; move it away")
        version = _pragma(connection, "user_version")
        if version > SCHEMA:
            newer = f"a newer mirrord wrote it (schema {version}, this one reads {SCHEMA}); install that version again"
            raise BadConfig([f"{doing}: {newer}"])
        if _pragma(connection, "quick_check(1)") != "ok":
            raise self._damaged()

    def _damaged(self) -> Damaged:
        return Damaged(
            f"{self._path}: opening the journal: it is damaged; move it away (holds, drains and history are lost with "
            f"it), then take over what stands in each zone: `mirrord switch SERVICE --adopt`"
        )


class Draft:
    """Documents and events of one transaction; what it reads is what it wrote, or what stands."""

    def __init__(self, stands: Callable[[str, str], Document]) -> None:
        self._stands = stands
        self.documents: dict[_Key, Document] = {}
        self.events: list[Event] = []

    def get(self, kind: str, name: str) -> Document:
        """Return a document, None where there is none."""
        key = (kind, name)
        return self.documents[key] if key in self.documents else self._stands(kind, name)

    def put(self, kind: str, name: str, document: Document) -> None:
        """Write a document that `json` can write."""
        self.documents[kind, name] = document

    def drop(self, kind: str, name: str) -> None:
        """Drop a document, where there is one."""
        self.documents[kind, name] = None

    def tell(self, event: Event) -> None:
        """Write into the history."""
        self.events.append(event)


def _storable(text: str) -> str:
    r"""Write what stands for bytes that are no UTF-8 (in file names) as `\udcff`; SQLite's text has no room for it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is None


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _roll_back(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code, 0 where Python itself raised the error."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _reason(error: sqlite3.Error) -> str:
    """Say in words why SQLite could not."""
    reasons = {
        sqlite3.SQLITE_FULL: "the disk is full",
        sqlite3.SQLITE_IOERR: "the disk cannot be read or written",
        sqlite3.SQLITE_READONLY: "we may only read it",
        sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
        sqlite3.SQLITE_BUSY: f"another process has held it for {WAIT_FOR_OTHERS:.0f} s",
        sqlite3.SQLITE_CORRUPT: "it is damaged",
        sqlite3.SQLITE_NOTADB: "it is damaged",
    }
    return reasons.get(_code(error), str(error))


def _free(path: Path) -> int | None:
    """Return how many bytes are free on the disk of a path, None where that cannot be told."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize
