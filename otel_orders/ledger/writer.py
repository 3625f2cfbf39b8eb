"""The one thread that writes: it commits what several senders sent together, and sweeps timers between commits.

A sender is answered when its events are on disk.  What waits is bounded; beyond it senders are told to come back.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_orders.errors import OtelOrdersError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_orders.ledger.reading import Reading
    from otel_orders.ledger.store import Batch, Received, Seen

logger = logging.getLogger("otel_orders.ledger")

MAX_WAITING: Final = 100_000
"""Events that wait for the disk at most."""
AT_ONCE: Final = 4_000
"""Events in one transaction, unless one request alone has more."""
SWEEP_EVERY: Final = 1.0
"""Seconds between two sweeps, so that an order is stuck well within 5 s of its deadline."""
SWEPT_AT_ONCE: Final = 1_000


class OverloadedError(OtelOrdersError):
    """Too much waits for the disk already.  Nothing was kept; send it again later."""


class _Work(NamedTuple):
    reading: Reading
    notes: Mapping[str, str]
    done: Future[list[str]]


class Writer:
    """Takes readings from any thread and writes them in one."""

    def __init__(self, batch: Batch, on_event: Callable[[Received, str], None] | None = None) -> None:
        self._batch = batch
        self._on_event = on_event
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()
        self._closed = False
        self._swept = 0.0
        self._thread = threading.Thread(target=self._run, name="otel-orders-writer", daemon=True)
        self.swept_at = time.time()
        """When timers were last looked at, unix seconds."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many events wait for the disk."""
        return self._waiting

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def submit(self, reading: Reading, notes: Mapping[str, str] | None = None) -> Future[list[str]]:
        """Queue *reading*; the future gives the result of each event once they are on disk.

        notes: kept in the same transaction.  Raises OverloadedError.
        """
        done: Future[list[str]] = Future()
        size = len(reading.received)
        with self._lock:
            if self._closed or (self._waiting and self._waiting + size > MAX_WAITING):
                raise OverloadedError("the ledger is closing" if self._closed else f"{self._waiting} events wait")
            self._waiting += size
            self._work.put(_Work(reading, notes or {}, done))
        return done

    def close(self) -> None:
        """Write what waits, then stop."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        open_for_work = True
        while open_for_work:
            works, open_for_work = self._next()
            if works:
                self._write(works)
            self._sweep_if_time()

    def _next(self) -> tuple[list[_Work], bool]:
        """Return what waits, up to AT_ONCE events, and whether there can be more."""
        works: list[_Work] = []
        size = 0
        while size < AT_ONCE:
            try:
                wait = max(0.0, self._swept + SWEEP_EVERY - time.monotonic())
                work = self._work.get_nowait() if works else self._work.get(timeout=wait)
            except queue.Empty:
                break
            if work is None:
                return works, False
            works.append(work)
            size += len(work.reading.received)
        return works, True

    def _write(self, works: list[_Work]) -> None:
        try:
            self._answer(works, self._ingest(works))
        except StoreError as error:
            self._fail(works, error)
        except Exception as error:
            if len(works) == 1:
                logger.exception("otel_orders: a batch failed")
                self._fail(works, StoreUnavailableError(type(error).__name__))
            else:  # whatever it is, it must not cost the neighbours
                for work in works:
                    self._write([work])

    def _ingest(self, works: list[_Work]) -> list[str]:
        received: list[Received] = []
        seen: list[Seen] = []
        rejected: Counter[str] = Counter()
        notes: dict[str, str] = {}
        for work in works:
            received += work.reading.received
            seen += work.reading.seen
            rejected += work.reading.rejected
            notes.update(work.notes)
        return self._batch.ingest(received, seen=seen, rejected=rejected, notes=notes)

    def _answer(self, works: list[_Work], results: list[str]) -> None:
        start = 0
        for work in works:
            size = len(work.reading.received)
            self._forget(size)
            work.done.set_result(results[start : start + size])
            self._show(work, results[start : start + size])
            start += size

    def _show(self, work: _Work, results: list[str]) -> None:
        if self._on_event is None:
            return
        for received, result in zip(work.reading.received, results, strict=True):
            self._on_event(received, result)

    def _fail(self, works: list[_Work], error: Exception) -> None:
        for work in works:
            self._forget(len(work.reading.received))
            work.done.set_exception(error)

    def _forget(self, size: int) -> None:
        with self._lock:
            self._waiting -= size

    def _sweep_if_time(self) -> None:
        if time.monotonic() - self._swept < SWEEP_EVERY:
            return
        try:
            more = self._batch.sweep(time.time_ns(), SWEPT_AT_ONCE) == SWEPT_AT_ONCE
            self.swept_at = time.time()
        except Exception:
            more = False
            logger.exception("otel_orders: sweep failed; it is tried again")
        # Many at once are swept in turns with what senders wait for.
        self._swept = time.monotonic() - (SWEEP_EVERY if more else 0.0)
