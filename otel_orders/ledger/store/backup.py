"""Copy a SQLite store while it is written to, and bring a copy back.  Knows files, not what is in them.

The copy is made by SQLite's own backup in one step: in WAL mode that is one moment of the store, and keeps no writer
waiting (in several steps it would start anew after each commit of another process, for ever under load).
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from otel_orders.errors import ConfigurationError, StoreUnavailableError
from otel_orders.ledger.store.sqlite_file import to_read
from otel_orders.ledger.store.sqlite_schema import check

if TYPE_CHECKING:
    from pathlib import Path

BUSY = 30.0
"""Seconds to wait for a file that another process has locked."""


def copy(source: Path, target: Path) -> int:
    """Copy the store *source* to *target*, whole or not at all, and return its size in bytes once it is on disk.

    The copy is read again before it counts.  Raises ConfigurationError where *target* is there already or *source* is
    not, StoreVersionError and StoreUnavailableError where it cannot be a store's copy.
    """
    for path in (target, *(target.with_name(target.name + suffix) for suffix in ("-wal", "-shm"))):
        if path.exists():
            raise ConfigurationError(f"{path} is there already: move it away first")
    if not source.is_file():
        raise ConfigurationError(f"{source}: there is no such file")
    unfinished = target.with_name(target.name + ".part")
    try:
        _discard(unfinished)  # of one that was killed
        _copy(source, unfinished)
        _sync(unfinished)
        unfinished.replace(target)
        _sync(target.parent)
        return target.stat().st_size
    except OSError as error:
        raise ConfigurationError(f"{target}: {error.strerror}") from None
    finally:
        _discard(unfinished)


def _discard(unfinished: Path) -> None:
    """Remove what was copied so far, and what SQLite had put beside it."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(to_read(source), timeout=BUSY, uri=True)) as reader,
            closing(sqlite3.connect(target, timeout=BUSY)) as writer,
        ):
            reader.backup(writer, pages=-1)
            # One file, complete by itself: whoever opens it as a store makes it WAL again.
            writer.execute("PRAGMA journal_mode = DELETE").fetchall()
            _check(writer, source)
    except sqlite3.Error as error:
        raise StoreUnavailableError(f"{source} cannot be copied to {target}: {error}") from error


def _check(copied: sqlite3.Connection, source: Path) -> None:
    if not check(copied, str(source)):
        raise ConfigurationError(f"{source} is no ledger's store: it is empty")
    found = copied.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreUnavailableError(f"{source} is damaged: {found}")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
