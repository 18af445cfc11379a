"""What must outlive a restart, and what happened when?

values.py     what the journal's verbs take and return
documents.py  the file: documents and history in SQLite; the only import of sqlite3
book.py       the verbs: orders, zones and open plans, moves, publishes
"""

from mirrord.journal.book import Clock, Journal
from mirrord.journal.values import (
    PUBLISHING,
    SNAPSHOTS,
    Asked,
    Drained,
    Event,
    Happened,
    Held,
    LastMove,
    LastSeen,
    Run,
)

__all__ = [
    "PUBLISHING",
    "SNAPSHOTS",
    "Asked",
    "Clock",
    "Drained",
    "Event",
    "Happened",
    "Held",
    "Journal",
    "LastMove",
    "LastSeen",
    "Run",
]
