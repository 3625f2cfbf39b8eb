"""Project events onto Prometheus metrics.

These counters are operational and die with their process; the ledger's are the authoritative ones.  order_id is never
a label, and a status that the application makes up cannot grow the number of series without bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

from otel_orders import names
from otel_orders.event import StatusChanged, StatusEvent, TransitionFailed, order_bucket

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from otel_orders.event import Event

DURATION_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0)
MAX_CHILDREN = 1000
"""Most series of one metric; further label sets are counted as `other`."""
OTHER = "other"


class MetricSink:
    """Counts transitions, their failures and how long their work took.

    exemplar_ratio: share of orders (0 to 1) whose traces are kept; only these become exemplars, so that every exemplar
    leads to a trace.
    """

    name = "metrics"

    def __init__(self, service: str, registry: CollectorRegistry | None, exemplar_ratio: float = 0.0) -> None:
        self._service = service
        self._kept_below = exemplar_ratio * 100
        self._moved = Counter(
            names.TRANSITIONS,
            "Status transitions of orders.",
            ["service_name", "from_status", "to_status"],
            registry=registry,
        )
        self._failed = Counter(
            names.TRANSITION_FAILURES,
            "Status transitions that were tried and failed.",
            ["service_name", "from_status", "to_status", "error_code"],
            registry=registry,
        )
        self._duration = Histogram(
            names.TRANSITION_DURATION,
            "Time that the work of a transition took.",
            ["service_name", "to_status"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self._children: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._failure_children: dict[tuple[str, str, str], Counter] = {}

    @property
    def collectors(self) -> tuple[Counter, Counter, Histogram]:
        """The three metrics, for whoever registers and unregisters them."""
        return self._moved, self._failed, self._duration

    def emit(self, event: Event) -> None:
        """Count *event*."""
        if isinstance(event, StatusChanged):
            moved, duration = self._bound(event)
            exemplar = self._exemplar(event)
            moved.inc(1, exemplar)
            if event.duration:  # 0: nobody knows how long it took
                duration.observe(event.duration / 1e9, exemplar)
        elif isinstance(event, TransitionFailed):
            self._bound_failure(event).inc(1, self._exemplar(event))

    def _exemplar(self, event: StatusEvent) -> dict[str, str] | None:
        if not event.trace_id or order_bucket(event.order_id) >= self._kept_below:
            return None
        return {"trace_id": event.trace_id, "span_id": event.span_id}

    def _bound(self, event: StatusEvent) -> tuple[Counter, Histogram]:
        key = (event.from_status or "", event.to_status)
        if (bound := self._children.get(key)) is None:
            if len(self._children) >= MAX_CHILDREN:
                key = (OTHER, OTHER)
            bound = (self._moved.labels(self._service, *key), self._duration.labels(self._service, key[1]))
            self._children[key] = bound
        return bound

    def _bound_failure(self, event: TransitionFailed) -> Counter:
        key = (event.from_status or "", event.to_status, event.error_code)
        if (bound := self._failure_children.get(key)) is None:
            if len(self._failure_children) >= MAX_CHILDREN:
                key = (OTHER, OTHER, OTHER)
            bound = self._failure_children[key] = self._failed.labels(self._service, *key)
        return bound
