"""Open a SQLite file as a store: to run a ledger on it, to change it beside or without one, or only to read it.

A file that is only read is not written to in any way, so it may lie on a disk that cannot be written.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from otel_orders.errors import StoreUnavailableError
from otel_orders.ledger.store.protocol import Access
from otel_orders.ledger.store.sqlite_schema import check, check_present

if TYPE_CHECKING:
    from collections.abc import Sequence

# As much of the file as SQLite maps at most: a mapped page is read without a call of the kernel, which costs where a
# million orders are open, and it is the page cache's memory, not ours.
PLACE = ("PRAGMA cache_size = -65536", "PRAGMA mmap_size = 2147418112", "PRAGMA trusted_schema = OFF")
READING = (*PLACE, "PRAGMA query_only = ON")
# Orders come in random order, so a commit costs the pages it touches: a small page is copied and checked for less.
# With pages of 1,024 bytes ingest costs half of what it does with 4,096 (README, "Measured").
WRITING = (
    "PRAGMA page_size = 1024",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    *PLACE,
    "PRAGMA wal_autocheckpoint = 64000",
    "PRAGMA secure_delete = ON",  # what was erased must not be found in the file
)
UNTOLD = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
"""Errors of which SQLite does not tell the reason."""
BUSY = 5.0
"""Seconds that a write waits for that of another process."""


def connect(path: str, access: Access) -> sqlite3.Connection:
    """Open the store in the file *path*.  Raises StoreUnavailableError, StoreVersionError, ConfigurationError."""
    try:
        if access is Access.READ:
            return _opened(to_read(Path(path)), READING, path, access)
        return _opened(path, WRITING, path, access)
    except sqlite3.OperationalError as error:
        why = _why(Path(path)) if error.sqlite_errorcode & 0xFF in UNTOLD else None
        raise StoreUnavailableError(f"the store {path} cannot be used: {why or error}") from error


def to_read(path: Path) -> str:
    """Return the URI by which SQLite only reads the file *path*, which may lie where nothing can be written.

    SQLite needs to write beside a file that has a log, even to read it.  Where it cannot, and there is no log, nobody
    has the file open: it is read as one that nobody changes.
    """
    log = path.with_name(path.name + "-wal")
    unwritable = not os.access(path.parent, os.W_OK) and not (log.exists() and log.stat().st_size)
    return f"file:{quote(str(path.absolute()))}?mode=ro{'&immutable=1' if unwritable else ''}"


def _opened(place: str, pragmas: Sequence[str], shown: str, access: Access) -> sqlite3.Connection:
    with ExitStack() as opened:
        connection = sqlite3.connect(
            place,
            timeout=BUSY,
            check_same_thread=False,
            isolation_level=None,
            cached_statements=256,
            uri=access is Access.READ,
        )
        opened.enter_context(closing(connection))
        (check if access is Access.RUN else check_present)(connection, shown)
        for pragma in pragmas:
            _insist(connection, pragma)
        opened.pop_all()
    return connection


def _why(path: Path) -> str | None:
    """Return why SQLite cannot open *path*, or None for no known reason."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    if path.is_dir():
        return "it is a folder"
    if not os.access(path.parent, os.W_OK):
        return f"the folder {path.parent} is read-only, and a log (-wal) has to be written there"
    return None


def _insist(connection: sqlite3.Connection, pragma: str) -> None:
    """Execute *pragma*, again and again while another process has the file: SQLite does not wait for WAL mode."""
    give_up = time.monotonic() + BUSY
    while True:
        try:
            connection.execute(pragma).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return
