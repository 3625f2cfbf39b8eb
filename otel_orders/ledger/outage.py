"""Whether the store can be written: count what fails, by reason, and say each outage once when it begins and ends.

Knows only what a writer tells it, and the time.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from otel_orders.ledger.words import span

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_orders.errors import StoreUnavailableError

logger = logging.getLogger("otel_orders.ledger")

REASONS: Final = ("full", "locked", "read_only", "gone", "unavailable", "conflict")
"""Why a write failed: the disk is full, others hold the store, it is read-only, its file was taken away; else the store
does not answer, or replicas came first again and again."""
FULL_FOR: Final = 5.0
"""Seconds without a failed write until a full disk is no more: small writes find room where large ones do not."""
SAY_EVERY: Final = 60.0
"""Seconds between two lines that an outage began."""


class Outage:
    """What is known of the store's writes.  clock: gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._until = 0.0
        self._said = -SAY_EVERY
        self.errors: Counter[str] = Counter()
        """Writes that failed, by reason."""
        self.why: str | None = None
        """Why the store cannot be written at present, None where it can."""

    def failed(self, error: StoreUnavailableError) -> None:
        """Note that a write failed."""
        self.errors[error.reason] += 1
        if error.reason == "conflict":  # others could write
            return
        now = self._clock()
        self._until = now + (FULL_FOR if error.reason == "full" else 0.0)
        if self.why is None:
            self._began = now
            if now - self._said >= SAY_EVERY:
                logger.warning("otel_orders: nothing can be kept now; senders are told to try again: %s", error)
                self._said = now
        self.why = str(error)

    def succeeded(self) -> None:
        """Note that a write succeeded."""
        if self.why is not None and self._clock() >= self._until:
            logger.warning("otel_orders: the store is written again, after %s", span(self._clock() - self._began))
            self.why = None
