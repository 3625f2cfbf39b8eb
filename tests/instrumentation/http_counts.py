"""What the HTTP histograms counted since a test began."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_orders.instrumentation.http_metrics import Durations

Labels = tuple[str, ...]


class Counts:
    """The requests counted by one histogram, from nothing."""

    def __init__(self, made: Callable[[], Durations], labels: tuple[str, ...]) -> None:
        self._made = made
        self._labels = labels

    @property
    def all(self) -> dict[Labels, int]:
        """Return how many requests there were of each label set."""
        return {labels: int(value) for labels, value in self._values("_count").items()}

    @property
    def seconds(self) -> dict[Labels, float]:
        """Return how long the requests of each label set took together."""
        return self._values("_sum")

    def wait_for(self, number: int) -> dict[Labels, int]:
        """Return the counts once there are *number* requests: a server may count after it has answered."""
        deadline = time.monotonic() + 20
        while sum((found := self.all).values()) < number:
            assert time.monotonic() < deadline, f"{found} instead of {number} requests"
            time.sleep(0.01)
        return found

    def _values(self, suffix: str) -> dict[Labels, float]:
        samples = (sample for metric in self._made().histogram.collect() for sample in metric.samples)
        return {
            tuple(sample.labels[label] for label in self._labels): sample.value
            for sample in samples
            if sample.name.endswith(suffix)
        }
