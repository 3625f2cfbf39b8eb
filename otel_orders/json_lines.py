"""The one JSON line format, for event records and ordinary log lines alike, and the file or stream that it goes to.

A line is one JSON object: ``timestamp level service env order_id partner_id status event_type error_code trace_id``
and the rest.  Knows nothing of events or of the logging libraries.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

LEADING: Final = (
    "timestamp",
    "level",
    "service",
    "env",
    "order_id",
    "partner_id",
    "status",
    "event_type",
    "error_code",
    "trace_id",
    "span_id",
)
"""The fields that come first, so that a line can be read by eye."""

REOPEN_EVERY = 1.0
"""Seconds between two looks whether the file was rotated away."""

_STREAMS: Final = {"stdout": 1, "stderr": 2}
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK

_encoder = msgspec.json.Encoder(enc_hook=str)


def encode(fields: dict[str, object]) -> bytes:
    """Return *fields* as one line, with its newline.  Values that JSON has no form for become their str()."""
    ordered = {key: fields[key] for key in LEADING if fields.get(key) is not None}
    ordered.update((key, value) for key, value in fields.items() if key not in LEADING)
    return _encoder.encode(ordered) + b"\n"


class Timestamps:
    """RFC 3339 timestamps in UTC with microseconds; the part up to the second is made once a second."""

    def __init__(self) -> None:
        self._cached = (-1, "")

    def text(self, unix_ns: int) -> str:
        """Return *unix_ns* as, for example, ``2026-11-21T07:30:00.000001Z``."""
        second, rest = divmod(unix_ns, 1_000_000_000)
        cached, prefix = self._cached
        if second != cached:
            prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
            self._cached = (second, prefix)
        return f"{prefix}{rest // 1000:06d}Z"


class LineWriter:
    """Appends whole lines to a file, or to stdout or stderr, without ever waiting for a reader.

    target: a path, "stdout" or "stderr".  Raises OSError at creation when it cannot be opened.  A file that was rotated
    away is opened anew within a second; a pipe that nobody empties costs the line, not the caller's time.
    """

    def __init__(self, target: str) -> None:
        self._path = None if target in _STREAMS else target
        self._renew_lock()
        self._torn = False
        self._fd = self._open() if self._path else _never_blocking(_STREAMS[target])
        self._owned = self._fd not in _STREAMS.values()
        self._looked = time.monotonic()

    def write(self, line: bytes) -> None:
        """Append *line*, which ends with a newline.  Raises OSError when it could not be written whole."""
        with self._lock:
            if self._path is not None and time.monotonic() - self._looked >= REOPEN_EVERY:
                self._reopen_if_rotated(self._path)
            # A line that a full disk cut short is closed first, so that it costs no neighbour.
            whole = b"\n" + line if self._torn else line
            written = os.write(self._fd, whole)
            self._torn = written < len(whole)
        if self._torn:
            raise OSError(f"only {written} of {len(whole)} bytes written")

    def close(self) -> None:
        """Close the file; the standard streams stay open."""
        with self._lock:
            if self._owned and self._fd >= 0:
                os.close(self._fd)
            self._fd = -1

    def after_fork(self) -> None:
        """In a child: forget the lock, which a thread that the child does not have may hold."""
        self._renew_lock()

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a signal handler or a finaliser may log in the middle of a write

    def _open(self) -> int:
        assert self._path is not None  # noqa: S101 - for the type checker; streams are never opened
        return os.open(self._path, _APPEND | os.O_CREAT, 0o640)

    def _reopen_if_rotated(self, path: str) -> None:
        try:
            here, there = os.fstat(self._fd), Path(path).stat()
            rotated = (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino)
        except FileNotFoundError:
            rotated = True
        if rotated:
            fresh = self._open()
            os.close(self._fd)
            self._fd = fresh
        self._looked = time.monotonic()


def _never_blocking(stream: int) -> int:
    """Return *stream*, opened a second time if a write to it could wait for a reader.

    O_NONBLOCK on the stream itself would change it for every process that holds it.  A socket cannot be opened again;
    it is taken as it is.
    """
    if stat.S_ISREG(os.fstat(stream).st_mode):
        return stream
    try:
        return os.open(f"/proc/self/fd/{stream}", _APPEND)
    except OSError:
        return stream
