"""What is counted about messages: OpenTelemetry's messaging metrics for Prometheus, and the age of what arrives.

Label names are those of the conventions with underscores; a destination that nobody chose a name for is
`(anonymous)`, and beyond 1,000 series of a metric further destinations are `other`.  order_id is never a label.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import Counter, Histogram

from otel_orders import names
from otel_orders.instrumentation.semconv import RABBITMQ, SEND, Server, chosen_destination, is_anonymous

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""messaging-metrics.md, "Metric: messaging.client.operation.duration"."""
AGE_BUCKETS = (0.01, 0.1, 1, 5, 20, 60, 300, 600, 1800, 3600, 14400, 86400, 604800)
MAX_CHILDREN: Final = 1000
OTHER: Final = "other"
NOBODYS: Final = "(anonymous)"

SECOND: Final = 1_000_000_000

_OPERATION = (
    "messaging_system",
    "messaging_operation_name",
    "messaging_destination_name",
    "server_address",
    "server_port",
    "error_type",
)

Place = tuple[str, str, str, Server | None]
"""Exchange, routing key, queue and server."""


class _Series:
    """One metric's children, by what they are told apart by; most are found in one look."""

    def __init__(self, metric: Counter | Histogram, labels: Callable[..., tuple[str, ...]]) -> None:
        self.metric = metric
        self._labels = labels
        self._children: dict[Any, Any] = {}

    def of(self, *key: Any) -> Any:
        """Return the child for *key*."""
        child = self._children.get(key)
        return self._new(key) if child is None else child

    def _new(self, key: tuple[Any, ...]) -> Any:
        if len(self._children) < MAX_CHILDREN:
            self._children[key] = child = self.metric.labels(*self._labels(*key))
            return child
        return self.metric.labels(*(OTHER for _ in self._labels(*key)))


class MessagingMetrics:
    """Counts and times, for all AMQP clients of a process.  registry: where they are registered."""

    def __init__(self, registry: CollectorRegistry) -> None:
        histogram = partial(Histogram, registry=None)
        counter = partial(Counter, registry=None)
        self._sent = _Series(
            counter(names.SENT_MESSAGES, "Messages that were handed to the broker.", [*_OPERATION, names.OUTCOME]),
            _operation,
        )
        self._consumed = _Series(
            counter(names.CONSUMED_MESSAGES, "Messages that were delivered to the application.", _OPERATION), _operation
        )
        self._send_time = _Series(
            histogram(
                names.MESSAGING_OPERATION_DURATION,
                "Time that sending a message took.",
                _OPERATION,
                buckets=DURATION_BUCKETS,
            ),
            _operation,
        )
        self._process_time = _Series(
            histogram(
                names.MESSAGING_PROCESS_DURATION,
                "Time that the application worked on a message, by how it was settled.",
                [*_OPERATION, names.OUTCOME],
                buckets=DURATION_BUCKETS,
            ),
            _operation,
        )
        self._age = _Series(
            histogram(
                names.MESSAGE_AGE,
                "Time from a message's publishing to its delivery.",
                ["queue"],
                buckets=AGE_BUCKETS,
            ),
            _queue,
        )
        self._from_future = _Series(
            counter(
                names.MESSAGES_FROM_THE_FUTURE,
                "Messages delivered before they were published: clocks differ.",
                ["queue"],
            ),
            _queue,
        )
        self._redelivered = _Series(
            counter(names.MESSAGES_REDELIVERED, "Messages that were delivered before.", ["queue"]), _queue
        )
        self._registered: list[tuple[CollectorRegistry, Counter | Histogram]] = []
        try:
            self._register(registry)
        except ValueError:  # all or none: a second try must not find the first one's
            self.unregister()
            raise

    def _register(self, registry: CollectorRegistry) -> None:
        for series in vars(self).copy().values():
            if isinstance(series, _Series):
                registry.register(series.metric)
                self._registered.append((registry, series.metric))

    def unregister(self) -> None:
        """Take the metrics out of their registry."""
        while self._registered:
            registry, metric = self._registered.pop()
            registry.unregister(metric)

    def sent(self, place: Place, seconds: float, outcome: str, error_type: str) -> None:
        """Count a message that was published, in *seconds*."""
        self._sent.of(SEND, place, error_type, outcome).inc()
        self._send_time.of(SEND, place, error_type).observe(seconds)

    def delivered(self, place: Place, age: int | None, *, redelivered: bool) -> None:
        """Count a message that arrived; *age* in ns, None where nobody knows it, negative where clocks differ."""
        self._consumed.of("receive", place, "").inc()
        queue = place[2]
        if age is not None:
            if age >= 0:
                self._age.of(queue).observe(age / SECOND)
            else:
                self._from_future.of(queue).inc()
        if redelivered:
            self._redelivered.of(queue).inc()

    def processed(self, place: Place, seconds: float, outcome: str, error_type: str) -> None:
        """Count the *seconds* of work on a message, and how it was settled."""
        self._process_time.of("process", place, error_type, outcome).observe(seconds)


def _operation(operation: str, place: Place, error_type: str, *outcome: str) -> tuple[str, ...]:
    exchange, routing_key, queue, server = place
    host, port = ("", "") if server is None else (server[0], str(server[1]))
    target = chosen_destination(exchange, routing_key, queue) or NOBODYS
    return (RABBITMQ, operation, target, host, port, error_type, *outcome)


def _queue(queue: str) -> tuple[str]:
    return (NOBODYS if is_anonymous(queue) else queue,)


_shared: dict[CollectorRegistry, tuple[MessagingMetrics, set[str]]] = {}
_lock = threading.Lock()


def borrow(registry: CollectorRegistry, user: str) -> MessagingMetrics:
    """Return the one MessagingMetrics of *registry*, made for the first *user*.

    Raises ValueError where the registry holds another metric of the same name.
    """
    with _lock:
        if registry not in _shared:
            _shared[registry] = MessagingMetrics(registry), set()
        metrics, users = _shared[registry]
        users.add(user)
        return metrics


def give_back(user: str) -> None:
    """*user* counts no more; metrics that nobody uses leave their registry."""
    with _lock:
        for registry, (metrics, users) in tuple(_shared.items()):
            users.discard(user)
            if not users:
                metrics.unregister()
                del _shared[registry]
