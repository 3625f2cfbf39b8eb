"""What an application would write itself around its publishing and its handling, in place of our instrumentation.

The peers of instrumentation_amqp.py.  Each is one that a reviewer would let pass: metrics with their labels, spans that
carry the conventions' attributes, headers by OpenTelemetry's propagators.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry import baggage, propagate
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry, Counter, Histogram

from otel_orders import names
from otel_orders.context import Order, bound, from_baggage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import Tracer


class ByHand(Protocol):
    """The application's own code, at its two places."""

    def sending(self, queue: str, headers: dict[str, Any]) -> AbstractContextManager[None]:
        """Stand around the publishing of a message with *headers*, to which something may be added."""

    def processing(self, queue: str, headers: Any) -> AbstractContextManager[None]:
        """Stand around the handling of a message that came with *headers*."""


class Nothing:
    """No telemetry at all."""

    def sending(self, _queue: str, _headers: dict[str, Any]) -> AbstractContextManager[None]:
        return nullcontext()

    def processing(self, _queue: str, _headers: Any) -> AbstractContextManager[None]:
        return nullcontext()


class MetricsByHand:
    """The metrics that ours writes."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        common = ["system", "operation", "destination", "host", "port", "error", "outcome"]
        self._labels = ("rabbitmq", "send", "orders", "localhost", "5672", "", "confirmed")
        self._sent = Counter("sent", "Sent.", common, registry=registry)
        self._send_time = Histogram("send", "Time to send.", common[:-1], registry=registry)
        self._consumed = Counter("consumed", "Consumed.", common[:-1], registry=registry)
        self._process_time = Histogram("process", "Time to process.", common, registry=registry)
        self._age = Histogram("age", "Age.", ["queue"], registry=registry)

    @contextmanager
    def sending(self, _queue: str, _headers: dict[str, Any]) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._sent.labels(*self._labels).inc()
        self._send_time.labels(*self._labels[:-1]).observe(time.perf_counter() - began)

    @contextmanager
    def processing(self, _queue: str, _headers: Any) -> Iterator[None]:
        began = time.perf_counter()
        self._consumed.labels(*self._labels[:-1]).inc()
        self._age.labels("orders").observe(time.time() - 1)
        yield
        self._process_time.labels(*self._labels).observe(time.perf_counter() - began)


class SpansByHand:
    """The spans, headers and the order that ours writes and restores."""

    def __init__(self, tracer: Tracer, order: Order) -> None:
        self._tracer = tracer
        self._order = order

    @contextmanager
    def sending(self, queue: str, headers: dict[str, Any]) -> Iterator[None]:
        attributes = _attributes("send", queue)
        with self._tracer.start_as_current_span(f"send {queue}", kind=SpanKind.PRODUCER, attributes=attributes) as span:
            context = baggage.set_baggage(names.ORDER_ID, self._order.order_id)
            propagate.inject(headers, baggage.set_baggage(names.PARTNER_ID, self._order.partner_id, context))
            headers[names.PUBLISHED_AT_HEADER] = time.time_ns()
            yield
            span.set_attribute(names.OUTCOME, "unconfirmed")

    @contextmanager
    def processing(self, queue: str, headers: Any) -> Iterator[None]:
        context = propagate.extract(headers)
        attributes = _attributes("process", queue)
        attributes["messaging.rabbitmq.message.delivery_tag"] = 1
        attributes[names.MESSAGE_AGE_SECONDS] = (time.time_ns() - headers[names.PUBLISHED_AT_HEADER]) / 1e9
        with (
            self._tracer.start_as_current_span(
                f"process {queue}", context, kind=SpanKind.CONSUMER, attributes=attributes
            ) as span,
            bound(from_baggage(context)),
        ):
            yield
            span.set_attribute(names.OUTCOME, "ack")


def _attributes(operation: str, queue: str) -> dict[str, Any]:
    return {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": queue,
        "messaging.rabbitmq.destination.routing_key": queue,
        "server.address": "localhost",
        "server.port": 5672,
    }
