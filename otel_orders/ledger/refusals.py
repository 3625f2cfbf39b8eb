"""Say in the log what was refused and why: at once, then at most once a minute."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Final

logger = logging.getLogger("otel_orders.ledger")

SAY_EVERY: Final = 60.0
"""Seconds between two lines."""


class Refusals:
    """Adds up reasons until it is time to say them."""

    def __init__(self) -> None:
        self._reasons: Counter[str] = Counter()
        self._said = -SAY_EVERY

    def note(self, reasons: Counter[str]) -> None:
        """Add *reasons*, with counts."""
        self._reasons += reasons
        now = time.monotonic()
        if self._reasons and now - self._said >= SAY_EVERY:
            counts = ", ".join(f"{count} {reason}" for reason, count in sorted(self._reasons.items()))
            logger.warning("otel_orders: refused: %s (said once a minute; senders were told too)", counts)
            self._reasons.clear()
            self._said = now
