"""Say in the log what was refused and why: within a second, then at most once a minute."""

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

    def say_if_time(self) -> None:
        """Say what has not been said, unless something was less than a minute ago."""
        if time.monotonic() - self._said >= SAY_EVERY:
            self.say()

    def say(self) -> None:
        """Say what has not been said."""
        if not self._reasons:
            return
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(self._reasons.items()))
        logger.warning("otel_orders: refused: %s (said once a minute; senders were told too)", counts)
        self._reasons.clear()
        self._said = time.monotonic()
