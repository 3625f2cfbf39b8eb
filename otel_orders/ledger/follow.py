"""Follow a file of JSON lines, as ``tail -F`` does, into the ledger: for systems that cannot speak OpenTelemetry.

How far a file was read is kept in the transaction that keeps its events, so a crash neither loses nor doubles a line.
Rotation and truncation start the new file from its beginning; a line without its end yet is left for the next look.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec

from otel_orders.errors import OtelOrdersError
from otel_orders.ledger import ingest

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_orders.ledger.reading import Reading
    from otel_orders.ledger.store import Store
    from otel_orders.ledger.writer import Writer

logger = logging.getLogger("otel_orders.ledger")

LOOK_EVERY: Final = 0.2
"""Seconds between two looks at the file."""
AT_ONCE: Final = 1 << 20
"""Bytes that are read in one piece."""


class Position(msgspec.Struct, frozen=True):
    """How far a file was read.  inode: of that file; offset: in bytes."""

    inode: int = 0
    offset: int = 0


class Follower:
    """Follows the file *path* in a thread of its own; the file need not exist yet."""

    def __init__(self, path: str, store: Store, writer: Writer, new_reading: Callable[[], Reading]) -> None:
        self._path = path
        self._key = f"follow:{os.path.abspath(path)}"  # noqa: PTH100 - a key, not a file access
        self._writer = writer
        self._new_reading = new_reading
        kept = store.get(self._key)
        self._position = msgspec.json.decode(kept, type=Position) if kept else Position()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otel-orders-follower", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the piece that is being read."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        failed = False
        while not self._stopped.wait(LOOK_EVERY):
            try:
                self._read_new_lines()
                failed = False
            except (OSError, OtelOrdersError) as error:
                if not failed:
                    logger.warning("otel_orders: cannot follow %s, trying on: %s", self._path, error)
                failed = True
            except Exception:
                logger.exception("otel_orders: following %s failed, trying on", self._path)

    def _read_new_lines(self) -> None:
        try:
            file = open(self._path, "rb")  # noqa: PTH123, SIM115 - closed below
        except FileNotFoundError:
            return
        with file:
            self._start_anew_if_replaced(file)
            while not self._stopped.is_set() and self._read_piece(file):
                pass

    def _start_anew_if_replaced(self, file: BinaryIO) -> None:
        status = os.fstat(file.fileno())
        if status.st_ino != self._position.inode or status.st_size < self._position.offset:
            self._position = Position(status.st_ino, 0)

    def _read_piece(self, file: BinaryIO) -> bool:
        """Read one piece, up to the end of its last whole line; return whether there may be more."""
        file.seek(self._position.offset)
        piece = file.read(AT_ONCE)
        whole = piece.rfind(b"\n") + 1
        if not whole:
            if len(piece) < AT_ONCE:
                return False
            whole = len(piece)  # a line longer than a piece is refused in parts, rather than read for ever
        after = Position(self._position.inode, self._position.offset + whole)
        reading = self._new_reading()
        ingest.lines(piece[:whole], reading)
        self._writer.submit(reading, {self._key: msgspec.json.encode(after).decode()}).result()
        self._position = after
        return True
