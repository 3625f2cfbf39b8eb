"""Records of the messages in tracked queues: one event when a message is published, one when it is settled.

They take the path of all events and are never sampled, so that the ledger can tell how old the oldest message is where
the broker cannot.  A message outside any order has none.  Pure but for the recorder: knows no client.
"""

from __future__ import annotations

import time
import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry import trace
from opentelemetry.context import attach, get_current

from otel_orders import recorder
from otel_orders.event import MessagePublished, MessageSettled, new_event_id, text_of
from otel_orders.instrumentation.settling import ACK, NACK, NO_ACK, REJECT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.trace import Span

    from otel_orders.context import Order
    from otel_orders.event import Event
    from otel_orders.lifecycle_model import Queue

SETTLED: Final = frozenset({ACK, NACK, REJECT, NO_ACK})
"""Outcomes after which a message is in its queue no more; one that is requeued, or never settled, is."""


class Message(Protocol):
    """What is told about a message.  queue: that it was delivered from; empty for one that is published."""

    @property
    def exchange(self) -> str: ...  # noqa: D102 - as the class says
    @property
    def routing_key(self) -> str: ...  # noqa: D102
    @property
    def queue(self) -> str: ...  # noqa: D102
    @property
    def message_id(self) -> str | None: ...  # noqa: D102


class Tracking:
    """Which queues are tracked, and what is published to them."""

    def __init__(self, queues: Sequence[Queue] = ()) -> None:
        """Track those of *queues* that say so."""
        tracked = [queue for queue in queues if queue.track]
        self.queues = frozenset(queue.name for queue in tracked)
        bindings = [(exchange, key.split("."), queue.name) for queue in tracked for exchange, key in queue.bindings]

        @lru_cache(maxsize=1024)
        def destinations(exchange: str, routing_key: str) -> tuple[str, ...]:
            if not exchange:
                return (routing_key,) if routing_key in self.queues else ()
            words = routing_key.split(".")
            reached = [queue for bound, key, queue in bindings if bound == exchange and matches(key, words)]
            return tuple(dict.fromkeys(reached))

        self._destinations = destinations

    def destinations(self, exchange: str, routing_key: str) -> tuple[str, ...]:
        """Return the tracked queues that such a message goes to; the default exchange knows queues by their names."""
        return self._destinations(exchange, routing_key) if self.queues else ()

    def message_id(self, exchange: str, routing_key: str, given: str | None) -> str | None:
        """Return the message's id: *given* by the application, else a new one where it goes to a tracked queue."""
        return given or (uuid.uuid4().hex if self.destinations(exchange, routing_key) else None)


NOTHING = Tracking()


def matches(binding: Sequence[str], key: Sequence[str]) -> bool:
    """Whether the words of a routing key match those of a binding: ``*`` is any word, ``#`` any number of them."""
    if not binding:
        return not key
    if binding[0] == "#":
        return any(matches(binding[1:], key[start:]) for start in range(len(key) + 1))
    return bool(key) and binding[0] in ("*", key[0]) and matches(binding[1:], key[1:])


def published(message: Message, queue: str, order: Order, span: Span, *, outcome: str, at: int) -> None:
    """Record that *message* was published to *queue* at *at* (unix ns), in *span*."""
    told = _told(message, queue, order, span)
    _record_inside(span, MessagePublished(occurred_at=at, outcome=outcome, **told))


def settled(message: Message, order: Order, span: Span, *, outcome: str, published_at: int | None) -> None:
    """Record that a consumer is done with *message*, which was published at *published_at* (unix ns)."""
    told = _told(message, message.queue, order, span)
    _record_inside(span, MessageSettled(occurred_at=time.time_ns(), outcome=outcome, published_at=published_at, **told))


def _told(message: Message, queue: str, order: Order, span: Span) -> dict[str, Any]:
    """Return what both events tell."""
    active, context = recorder.active(), span.get_span_context()
    return {
        "event_id": new_event_id(),
        "service": active.service,
        "env": active.env,
        "trace_id": trace.format_trace_id(context.trace_id) if context.is_valid else "",
        "span_id": trace.format_span_id(context.span_id) if context.is_valid else "",
        "queue": queue,
        "message_id": text_of(message.message_id or ""),
        "order_id": order.order_id,
        "partner_id": order.partner_id,
        "exchange": text_of(message.exchange),
        "routing_key": text_of(message.routing_key),
    }


def _record_inside(span: Span, event: Event) -> None:
    """Record *event* with *span* current: an OTLP record's trace is that of the current span."""
    before = get_current()
    attach(trace.set_span_in_context(span, before))
    try:
        recorder.active().record(event)
    finally:
        attach(before)
