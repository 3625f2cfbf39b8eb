"""Follow a file of JSON lines, as ``tail -F`` does, into the ledger: for systems that cannot speak OpenTelemetry.

How far a file was read is kept in the transaction that keeps its events, so a crash neither loses nor doubles a line.
A file is known by its beginning, not by its name: one that was rotated away, by renaming or by copying and truncating,
is read to its end before the new one, also when that happened while nobody followed.  A line without its end yet is
left for the next look.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec

from otel_orders.ledger import ingest
from otel_orders.ledger.polling import Poller

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_orders.ledger.reading import Reading
    from otel_orders.ledger.store import Store
    from otel_orders.ledger.writer import Writer

logger = logging.getLogger("otel_orders.ledger")

AT_ONCE: Final = 1 << 20
"""Bytes that are read in one piece."""
HEAD: Final = 1024
"""Bytes at the beginning by which a file is known again."""
LINGER: Final = 3.0
"""Seconds that a renamed file is still read: its writers may need a moment to open the new one (ours, a second)."""


class Position(msgspec.Struct, frozen=True):
    """How far a file was read.  offset: in bytes.  head: digest of its first bytes, up to there."""

    offset: int = 0
    head: str = ""


class Follower:
    """Follows the file *path* in a thread of its own; the file need not exist yet."""

    def __init__(self, path: str, store: Store, writer: Writer, new_reading: Callable[[], Reading]) -> None:
        self._path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link that is replaced later
        self._key = f"follow:{self._path}"
        self._writer = writer
        self._new_reading = new_reading
        kept = store.get(self._key)
        self._position = msgspec.json.decode(kept, type=Position) if kept else Position()
        self._file: BinaryIO | None = None
        self._replaced_at: float | None = None
        self._poller = Poller(f"the file {path}", self._look)

    def close(self) -> None:
        """Stop after the piece that is being read."""
        self._poller.close()
        if self._file is not None:
            self._file.close()

    def _look(self) -> None:
        if self._file is None:
            self._file = self._first()
        if self._file is None:
            return
        if not _continues(self._file, self._position):
            self._read_copy()
            self._position = Position()
        self._read_lines(self._file)
        if self._is_over(self._file):
            self._read_lines(self._file, to_the_end=True)
            self._file.close()
            self._file, self._position, self._replaced_at = None, Position(), None

    def _first(self) -> BinaryIO | None:
        """Open the file that was being read, wherever it is now, else the one at the path."""
        file = _opened(self._path)
        if file is None or _continues(file, self._position):
            return file
        before = self._rotated()
        if before is None:
            return file  # it starts anew
        file.close()
        return before

    def _rotated(self) -> BinaryIO | None:
        """Open the file beside the path that goes on where we stopped: ``orders.jsonl.1``, ``orders-2026.jsonl``."""
        stem = self._path.name.partition(".")[0]
        for beside in sorted(self._path.parent.glob(f"{_literal(stem)}*")):
            with suppress(OSError):
                if beside != self._path and (file := _opened(beside)) is not None:
                    if _continues(file, self._position):
                        return file
                    file.close()
        return None

    def _read_copy(self) -> None:
        """Read what a copy has that was made before the file was truncated."""
        copy = self._rotated()
        if copy is None:
            logger.warning("otel_orders: %s was replaced or truncated; its last lines may be lost", self._path)
            return
        with closing(copy):
            self._read_lines(copy, to_the_end=True)

    def _is_over(self, file: BinaryIO) -> bool:
        """Whether another file has been at the path for long enough that nobody writes to *file* any more."""
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        here = os.fstat(file.fileno())
        if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
            self._replaced_at = None
            return False
        if self._replaced_at is None:
            self._replaced_at = time.monotonic()
        return time.monotonic() - self._replaced_at >= LINGER

    def _read_lines(self, file: BinaryIO, *, to_the_end: bool = False) -> None:
        """Read whole lines from where we are; to_the_end: also a last one that nobody will finish."""
        while not self._poller.closing:
            file.seek(self._position.offset)
            piece = file.read(AT_ONCE)
            whole = piece.rfind(b"\n") + 1
            if not whole and (to_the_end or len(piece) == AT_ONCE):
                whole = len(piece)  # a line longer than a piece is refused in parts, rather than read for ever
            if not whole:
                return
            self._keep(piece[:whole], Position(*_known(file, self._position.offset + whole)))

    def _keep(self, lines: bytes, after: Position) -> None:
        reading = self._new_reading()
        ingest.lines(lines, reading)
        self._writer.submit(reading, {self._key: msgspec.json.encode(after).decode()}).result()
        self._position = after


def _opened(path: Path) -> BinaryIO | None:
    """Open *path*, None where there is nothing.  Raises OSError for what cannot be read again, such as a pipe."""
    try:
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - closed by who asked
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "expected a regular file")
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe without a writer would hold us here


def _known(file: BinaryIO, offset: int) -> tuple[int, str]:
    """Return *offset* and the digest by which *file*, read up to there, is known again."""
    file.seek(0)
    return offset, hashlib.sha256(file.read(min(offset, HEAD))).hexdigest()


def _continues(file: BinaryIO, position: Position) -> bool:
    """Whether *file* is the one that was read up to *position*."""
    if not position.offset:
        return True
    long_enough = os.fstat(file.fileno()).st_size >= position.offset
    return long_enough and _known(file, position.offset)[1] == position.head


def _literal(name: str) -> str:
    """Return *name* so that glob() takes it as it is."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
