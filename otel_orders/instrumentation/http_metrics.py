"""How long HTTP requests took: Prometheus histograms with the names and buckets of OpenTelemetry's HTTP conventions.

The number of series is bounded, whatever clients and hosts come up with.  Knows neither httpx nor ASGI; whoever serves
metrics registers collectors().
"""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import Histogram

from otel_orders import names
from otel_orders.sinks.metrics import MAX_CHILDREN, OTHER

if TYPE_CHECKING:
    from collections.abc import Sequence

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""In seconds, as the conventions advise."""

SERVER_LABELS = ("http_request_method", "http_route", "http_response_status_code", "error_type", names.AUDIENCE)
CLIENT_LABELS = ("http_request_method", "server_address", "server_port", "http_response_status_code", "error_type")


class Durations:
    """A histogram of seconds.  Label sets beyond the first 1,000 are counted as `other`."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self.histogram = Histogram(name, documentation, labels, buckets=BUCKETS, registry=None)
        self._other = (OTHER,) * len(labels)
        self._children: dict[tuple[str, ...], Histogram] = {}

    def observe(self, seconds: float, labels: tuple[str, ...]) -> None:
        """Count one request of *seconds*; a label that does not apply is empty."""
        child = self._children.get(labels)
        if child is None:
            if len(self._children) >= MAX_CHILDREN:
                labels = self._other
            child = self._children[labels] = self.histogram.labels(*labels)
        child.observe(seconds)


def seconds_since(began: float, at: int | None) -> float:
    """Return the seconds from *began* (of time.perf_counter()) to *at* (unix ns), to now where that is None."""
    late = 0.0 if at is None else (time.time_ns() - at) / 1e9
    return max(0.0, time.perf_counter() - began - late)


@cache
def server_durations() -> Durations:
    """Return the histogram of the requests that this process answers."""
    return Durations(names.HTTP_SERVER_DURATION, "Time from an HTTP request to the end of its answer.", SERVER_LABELS)


@cache
def client_durations() -> Durations:
    """Return the histogram of the requests that this process sends."""
    return Durations(names.HTTP_CLIENT_DURATION, "Time from an HTTP request to the end of its answer.", CLIENT_LABELS)


def collectors() -> tuple[Histogram, Histogram]:
    """Return both histograms, for whoever registers and unregisters them."""
    return server_durations().histogram, client_durations().histogram
