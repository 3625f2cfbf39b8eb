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
from otel_orders.ledger.apply import BROKEN
from otel_orders.ledger.outage import Outage
from otel_orders.ledger.reading import REJECTED
from otel_orders.ledger.refusals import Refusals

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

    @property
    def size(self) -> int:
        """What it counts for among what waits: also a request without events costs something."""
        return max(1, len(self.reading.received))


class Writer:
    """Takes readings from any thread and writes them in one."""

    def __init__(self, batch: Batch, on_event: Callable[[Received, str], None] | None = None) -> None:
        self._batch = batch
        self._on_event = on_event
        self._refusals = Refusals()
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()
        self._closed = False
        self._swept = 0.0
        self._sweep_failed = False
        self.outage = Outage()
        """How the store's writes do."""
        self._thread = threading.Thread(target=self._run, name="otel-orders-writer", daemon=True)
        self.swept_at = time.time()
        """When timers were last looked at, unix seconds."""
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many events wait for the disk; a request without any counts as one."""
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
        work = _Work(reading, notes or {}, done)
        with self._lock:
            if self._closed or (self._waiting and self._waiting + work.size > MAX_WAITING):
                raise OverloadedError("the ledger is closing" if self._closed else f"{self._waiting} events wait")
            self._waiting += work.size
            self._work.put(work)
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
        self._refusals.say()

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
            if work.done.set_running_or_notify_cancel():
                works.append(work)
                size += work.size
            else:  # its sender has gone without an answer
                self._forget(work)
        return works, True

    def _write(self, works: list[_Work]) -> None:
        try:
            results = self._ingest(works)
        except StoreError as error:
            self._failed(error)
            self._fail(works, error)
        except Exception:  # whatever it is, it must not cost the neighbours
            logger.exception("otel_orders: a batch failed; its events are tried apart")
            for work in works:
                self._write_apart(work)
        else:
            self.outage.succeeded()
            self._answer(works, results)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, StoreUnavailableError):
            self.outage.failed(error)

    def _write_apart(self, work: _Work) -> None:
        """Write what can be written of *work*; results of its events that cannot are BROKEN."""
        try:
            results = self._in_halves(work.reading.received)
            rejected = work.reading.rejected + Counter({REJECTED: results.count(BROKEN)})
            self._batch.ingest([], rejected=rejected, notes=work.notes)
            self._note_alive(work.reading.seen)
        except StoreError as error:
            self._failed(error)
            self._fail([work], error)
        except Exception as error:
            self._fail([work], StoreUnavailableError(type(error).__name__))
        else:
            self._answer([work], results)

    def _note_alive(self, seen: list[Seen]) -> None:
        try:
            self._batch.ingest([], seen=seen)
        except StoreError:
            raise
        except Exception:  # signs of life come again, and must not hold up the events that are behind them
            logger.exception("otel_orders: signs of life could not be noted")

    def _in_halves(self, received: list[Received]) -> list[str]:
        try:
            return self._batch.ingest(received)
        except StoreError:
            raise
        except Exception:
            if len(received) == 1:
                return [BROKEN]
            middle = len(received) // 2
            return self._in_halves(received[:middle]) + self._in_halves(received[middle:])

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
            own = results[start : start + len(work.reading.received)]
            self._forget(work)
            work.done.set_result(own)
            self._refusals.note(work.reading.reasons)
            self._show(work, own)
            start += len(own)

    def _show(self, work: _Work, results: list[str]) -> None:
        if self._on_event is None:
            return
        try:
            for received, result in zip(work.reading.received, results, strict=True):
                self._on_event(received, result)
        except Exception as error:  # a closed terminal must not stop the ledger
            logger.warning("otel_orders: events are not shown any more: %s", error)
            self._on_event = None

    def _fail(self, works: list[_Work], error: Exception) -> None:
        for work in works:
            self._forget(work)
            work.done.set_exception(error)

    def _forget(self, work: _Work) -> None:
        with self._lock:
            self._waiting -= work.size

    def _sweep_if_time(self) -> None:
        if time.monotonic() - self._swept < SWEEP_EVERY:
            return
        self._refusals.say_if_time()
        try:
            more = self._sweep()
            self._sweep_failed = False
        except StoreUnavailableError as error:
            more = False
            self.outage.failed(error)
        except Exception as error:
            more = False
            if not self._sweep_failed:  # said once in a row of failures, or a full disk would fill the log
                unforeseen = not isinstance(error, StoreError)
                message = "otel_orders: sweep failed, it is tried again every second: %s"
                logger.warning(message, error, exc_info=unforeseen)
            self._sweep_failed = True
        # Many at once are swept in turns with what senders wait for.
        self._swept = time.monotonic() - (SWEEP_EVERY if more else 0.0)

    def _sweep(self) -> bool:
        """Look at timers, unless another replica does; return whether more are due."""
        if self.outage.why is not None:
            self._batch.write_something()
            self.outage.succeeded()
        elsewhere = self._batch.swept_elsewhere()
        if elsewhere is not None:
            self.swept_at = elsewhere / 1e9
            return False
        more = self._batch.sweep(time.time_ns(), SWEPT_AT_ONCE) == SWEPT_AT_ONCE
        self.swept_at = time.time()
        return more
