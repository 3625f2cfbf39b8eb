"""Look at something again and again in a thread of its own, until closed; trouble is said once and outlived."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("otel_orders.ledger")

LOOK_EVERY: Final = 0.2
"""Seconds between two looks."""


class Poller:
    """Calls *look* every 0.2 s, or *every* so many.

    what: named in the log when it fails; the first failure of a row of them is logged.
    """

    def __init__(self, what: str, look: Callable[[], None], every: float = LOOK_EVERY) -> None:
        self._every = every
        self._what = what
        self._look = look
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
                self._look()
                failed = False
            except Exception as error:
                if not failed:
                    logger.warning("otel_orders: cannot follow %s, trying on: %s", self._what, error)
                failed = True
