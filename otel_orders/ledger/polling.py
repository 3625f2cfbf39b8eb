"""Look at something again and again in a thread of its own, until closed; trouble is said once and outlived."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("otel_orders.ledger")

LOOK_EVERY: Final = 0.2
"""Seconds between two looks."""


class Poller:
    """Calls *look* every 0.2 s, or *every* so many.

    what: named in the log when it fails; the first failure of a row of them is logged.  look: returns False where it
    has left something for the next look.
    """

    def __init__(self, what: str, look: Callable[[], object], every: float = LOOK_EVERY) -> None:
        self._every = every
        self._look = look
        self.what = what
        self.caught_up_at = time.time()
        """When a look last left nothing, unix seconds; at first, when it began."""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otel-orders-poller", daemon=True)
        self._thread.start()

    @property
    def closing(self) -> bool:
        """Whether *look* should come to its end."""
        return self._stopped.is_set()

    def close(self) -> None:
        """Stop after the look that is being taken."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        failed = False
        while not self._stopped.wait(self._every):
            try:
                began = time.time()
                if self._look() is not False:
                    self.caught_up_at = began
                failed = False
            except Exception as error:
                if not failed:
                    logger.warning("otel_orders: cannot follow %s, trying on: %s", self.what, error)
                failed = True
