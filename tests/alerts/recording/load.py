"""Customers and partners who order at a steady pace of the hurried clock, whatever answers they get."""

from __future__ import annotations

import itertools
import random
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

import httpx

from examples.order_pipeline.scenarios import customers, models

if TYPE_CHECKING:
    from types import TracebackType

    from examples.order_pipeline.scenarios.hurried import Clock
    from examples.order_pipeline.scenarios.pipeline import Pipeline

RETAIL_EVERY: Final = 40.0
BATCH_EVERY: Final = 300.0
BATCH: Final = 3
"""Orders in a partner's batch."""


class Load:
    """Orders inside the block.  A request that fails is what its customer sees, and no reason to stop."""

    def __init__(self, pipeline: Pipeline, clock: Clock) -> None:
        self._pipeline, self._clock = pipeline, clock
        self._ended = threading.Event()
        self._ring = models.stl(models.ring(12, 6))
        self._broken = models.stl(models.broken_ring())
        self._numbers = itertools.count(1)
        self._threads = [threading.Thread(target=self._retail), threading.Thread(target=self._partners)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def batch(self, partner_id: str, size: int) -> None:
        """Send one batch of *size* orders of a partner."""
        with suppress(httpx.HTTPError), self._pipeline.client("b2b-api") as b2b:
            references = [f"PO-{next(self._numbers)}" for _ in range(size)]
            customers.order_batch(b2b, self._pipeline.keys[partner_id], [self._ring] * size, references)

    def order(self, model: bytes) -> str | None:
        """Order one piece as a retail customer; return its id, None where the shop refused it."""
        with suppress(httpx.HTTPError), self._pipeline.customer() as shop:
            return customers.order_from_shop(shop, model)
        return None

    def _retail(self) -> None:
        for number in itertools.count(1):
            self.order(self._broken if number % 20 == 0 else self._ring)
            if self._waited(RETAIL_EVERY):
                return

    def _partners(self) -> None:
        for partner_id in itertools.cycle(("acme", "globex")):
            self.batch(partner_id, BATCH)
            if self._waited(BATCH_EVERY):
                return

    def _waited(self, seconds: float) -> bool:
        return self._ended.wait(seconds * random.uniform(0.8, 1.2) / self._clock.speed)
