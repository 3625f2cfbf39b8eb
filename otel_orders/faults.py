"""The one place where a fault of the toolkit ends: counted, and logged at most once a minute for each source.

Knows nothing of events and sinks.
"""

from __future__ import annotations

import logging
import time
from functools import cache
from typing import TYPE_CHECKING

from otel_orders import names

if TYPE_CHECKING:
    from prometheus_client import Counter

logger = logging.getLogger("otel_orders")

LOG_EVERY = 60.0
"""Seconds between two log lines about faults of the same source."""

_said: dict[str, float] = {}
"""When each source's fault was last logged, on the monotonic clock."""


@cache
def failures() -> Counter:
    """Return the counter of faults; configure() registers it."""
    from prometheus_client import Counter  # noqa: PLC0415 - importing otel_orders must not load it

    return Counter(
        names.SINK_FAILURES, "Faults inside the toolkit that the application did not see.", ["sink"], registry=None
    )


def count_failure(source: str, error: BaseException, count: int = 1) -> None:
    """Count *count* faults of *source* (a sink, a client's instrumentation).  Never raises.

    The error's own text is not logged: it may hold what a customer wrote.
    """
    try:
        failures().labels(source).inc(count)
        now = time.monotonic()
        if now - _said.get(source, -LOG_EVERY) >= LOG_EVERY:
            _said[source] = now  # before it is logged: a fault of the log's own handler comes back here
            logger.warning(
                "otel_orders: %s failed with %s; the application goes on. Counted in %s{sink=%r}, said once a minute",
                source,
                type(error).__name__,
                names.SINK_FAILURES,
                source,
            )
    except Exception:  # noqa: S110 - a broken logging setup must not reach the application either
        pass
