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


Identity = tuple[int, int]
"""Device and number of a file."""


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
        self.poller = Poller(f"the file {path}", lambda: self._file.look(self.poller))

    def close(self) -> None:
        """Stop after the piece that is being read."""
        self.poller.close()
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
        self._done: set[Identity | None] = set()
        """Rotated files that were read to their end, as long as there may be others of their time."""

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def look(self, ending: Ending) -> bool:
        """Read what is new, unless it is *ending*; return whether nothing is left: neither there nor in newer files."""
        if self._file is None:
            self._file = self._first()
        if self._file is not None and not _continues(self._file, self._position):
            self._move_on(self._file, *self._read_copy(ending))
        if self._file is None:
            return True
        self._read_lines(self._file, ending)
        if not self._is_over(self._file):
            return self._replaced_at is None
        self._read_lines(self._file, ending, to_the_end=True)
        here = os.fstat(self._file.fileno())
        self._move_on(self._file, here.st_mtime_ns, _identity(here))
        return self._file is None

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

    def _read_copy(self, ending: Ending) -> tuple[int, Identity | None]:
        """Read what a copy has that was made before the file was truncated; return when it ended, and which it was."""
        copy = self._rotated()
        if copy is None:
            aside = "".join(f"; {one} is compressed and not read" for one in rotation.compressed(self._path))
            logger.warning("otel_orders: %s was replaced or truncated; its last lines may be lost%s", self._path, aside)
            return self._position.modified, None
        with closing(copy):
            self._read_lines(copy, ending, to_the_end=True)
            there = os.fstat(copy.fileno())
            return there.st_mtime_ns, _identity(there)

    def _move_on(self, file: BinaryIO, ended: int, done: Identity | None) -> None:
        """Go from *file* to the first that was rotated away after one that *ended* then, else to the one at the path.

        There is such a one where files were rotated more than once between two looks.  ended: unix ns.
        """
        self._done.add(done)
        rotated = (one for one in rotation.since(self._path, ended) if _identity(one.stat()) not in self._done)
        following = next(rotated, self._path)
        if following == self._path:
            self._done.clear()
        self._file, self._position, self._replaced_at = None, Position(), None
        file.close()
        self._file = _opened(following)

    def _is_over(self, file: BinaryIO) -> bool:
        """Whether another file has been at the path for long enough that nobody writes to *file* any more."""
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        here = os.fstat(file.fileno())
        if _identity(here) == _identity(there):
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
            after = _after(file, self._position, piece[:whole])
            if not whole or after is None:
                return
            self._keep(piece[:whole], after, too_long=too_long)

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


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


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


def _after(file: BinaryIO, before: Position, piece: bytes) -> Position | None:
    """Return the position behind *piece*, which was read at *before*; None where *file* is another one by now.

    Only so is it certain that the piece is not of what was written after the file was truncated.
    """
    file.seek(0)
    head = file.read(min(before.offset + len(piece), HEAD))
    same = not before.offset or _digest(head[: before.offset]) == before.head
    if not same or head[before.offset :] != piece[: max(0, HEAD - before.offset)]:
        return None
    return Position(before.offset + len(piece), _digest(head), os.fstat(file.fileno()).st_mtime_ns)


def _continues(file: BinaryIO, position: Position) -> bool:
    """Whether *file* is the one that was read up to *position*."""
    if not position.offset:
        return True
    file.seek(0)
    head = file.read(min(position.offset, HEAD))
    return os.fstat(file.fileno()).st_size >= position.offset and _digest(head) == position.head


def _digest(head: bytes) -> str:
    return hashlib.sha256(head).hexdigest()
