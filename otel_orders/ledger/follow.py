"""Follow a file of JSON lines, as ``tail -F`` does, into the ledger: for systems that cannot speak OpenTelemetry.

How far a file was read is kept in the transaction that keeps its events, so a crash neither loses nor doubles a line.
A file is known by its beginning, not by its name: one that was rotated away, by renaming or by copying and truncating,
is read to its end before the new one, also when that happened while nobody followed, and also more than once.  A line
without its end yet is left for the next look.
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
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

import msgspec

from otel_orders.errors import EventError
from otel_orders.ledger import ingest, rotation
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


class Ending(Protocol):
    """Says when to stop: a Poller."""

    @property
    def closing(self) -> bool:
        """Whether to come to an end."""
        ...


class Position(msgspec.Struct, frozen=True):
    """How far a file was read.

    offset: in bytes.  head: digest of its first bytes, up to there.  modified: when it was last written to, unix ns, as
    far as we have seen.  skipping: inside a line that is too long, which is passed over up to its end.
    """

    offset: int = 0
    head: str = ""
    modified: int = 0
    skipping: bool = False


class Follower:
    """Follows the file *path* in a thread of its own; the file need not exist yet."""

    def __init__(self, path: str, store: Store, writer: Writer, new_reading: Callable[[], Reading]) -> None:
        self._file = FollowedFile(path, store, writer, new_reading)
        self._poller = Poller(f"the file {path}", lambda: self._file.look(self._poller))

    def close(self) -> None:
        """Stop after the piece that is being read."""
        self._poller.close()
        self._file.close()


class FollowedFile:
    """The file at *path*, whatever becomes of it, and how far it was read."""

    def __init__(self, path: str, store: Store, writer: Writer, new_reading: Callable[[], Reading]) -> None:
        self._path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link that is replaced later
        self._key = f"follow:{self._path}"
        self._writer = writer
        self._new_reading = new_reading
        kept = store.get(self._key)
        self._position = msgspec.json.decode(kept, type=Position) if kept else Position()
        self._file: BinaryIO | None = None
        self._replaced_at: float | None = None

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def look(self, ending: Ending) -> None:
        """Read what is new, unless it is *ending*."""
        if self._file is None:
            self._file = self._first()
        if self._file is None:
            return
        if not _continues(self._file, self._position):
            self._read_copy(ending)
            self._position = Position()
        self._read_lines(self._file, ending)
        if self._is_over(self._file):
            self._read_lines(self._file, ending, to_the_end=True)
            self._read_between(os.fstat(self._file.fileno()).st_mtime_ns, ending)
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
        for beside in rotation.beside(self._path):
            with suppress(OSError):
                if (file := _opened(beside)) is not None:
                    if _continues(file, self._position):
                        return file
                    file.close()
        return None

    def _read_copy(self, ending: Ending) -> None:
        """Read what a copy has that was made before the file was truncated."""
        copy = self._rotated()
        if copy is None:
            aside = "".join(f"; {one} is compressed and not read" for one in rotation.compressed(self._path))
            logger.warning("otel_orders: %s was replaced or truncated; its last lines may be lost%s", self._path, aside)
            self._read_between(self._position.modified, ending)
            return
        with closing(copy):
            self._read_lines(copy, ending, to_the_end=True)
            self._read_between(os.fstat(copy.fileno()).st_mtime_ns, ending)

    def _read_between(self, after: int, ending: Ending) -> None:
        """Read the files that were rotated *after* one that ended then (unix ns): more than one, unseen by us."""
        for path in rotation.since(self._path, after):
            file = _opened(path)
            if file is not None:
                with closing(file):
                    self._position = Position()
                    self._read_lines(file, ending, to_the_end=True)

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

    def _read_lines(self, file: BinaryIO, ending: Ending, *, to_the_end: bool = False) -> None:
        """Read whole lines from where we are; to_the_end: also a last one that nobody will finish."""
        while not ending.closing:
            file.seek(self._position.offset)
            piece = file.read(AT_ONCE)
            whole = piece.rfind(b"\n") + 1
            too_long = not whole and len(piece) == AT_ONCE
            if too_long or (to_the_end and not whole):
                whole = len(piece)
            if not whole:
                return
            self._keep(piece[:whole], _known(file, self._position.offset + whole), too_long=too_long)

    def _keep(self, piece: bytes, after: Position, *, too_long: bool) -> None:
        reading = self._new_reading()
        if self._position.skipping:
            piece = piece.partition(b"\n")[2]
        elif too_long:
            reading.refuse(EventError("too_long", f"a line has over {AT_ONCE} bytes"))
        if too_long:
            after = msgspec.structs.replace(after, skipping=True)
        else:
            ingest.lines(piece, reading)
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


def _known(file: BinaryIO, offset: int) -> Position:
    """Return the position *offset* in *file*, with what it is known again by."""
    file.seek(0)
    head = hashlib.sha256(file.read(min(offset, HEAD))).hexdigest()
    return Position(offset, head, os.fstat(file.fileno()).st_mtime_ns)


def _continues(file: BinaryIO, position: Position) -> bool:
    """Whether *file* is the one that was read up to *position*."""
    if not position.offset:
        return True
    long_enough = os.fstat(file.fileno()).st_size >= position.offset
    return long_enough and _known(file, position.offset).head == position.head
