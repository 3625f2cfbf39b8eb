"""One span for a batch of messages that a consumer works on together, linked to all of them.

    with batch(messages, "pricing.requests") as each:
        for message in each:          # inside, the message's own order is the current one
            ...

The messages have been taken from their queue in whatever way, and have a span each if that way is traced.  Knows
neither client: a message is what has headers, such as aio-pika's messages and pika's properties.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind

from otel_orders.instrumentation import semconv, spans
from otel_orders.instrumentation.amqp import FAULT
from otel_orders.instrumentation.headers import Arrival, arrival

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

MESSAGE_COUNT: Final = "messaging.batch.message_count"


class HasHeaders(Protocol):
    """A message, or its properties.  headers: of any type; None for none."""

    headers: Any


M = TypeVar("M", bound=HasHeaders)


@contextmanager
def batch(messages: Iterable[M], queue: str) -> Iterator[Iterator[M]]:
    """Work on *messages* of *queue* in one span; iterate over what it yields to work on each in its own order."""
    messages, now = tuple(messages), time.time_ns()
    arrived = [spans.guarded(FAULT, _arrival, message, now) for message in messages]
    span = spans.guarded(FAULT, _start, queue, arrived) or INVALID_SPAN
    opened = spans.Outbound(FAULT, span)
    each = _each(messages, arrived, span)
    with opened, closing(each):
        yield each
    opened.end()


def _arrival(message: HasHeaders, now: int) -> Arrival:
    headers = message.headers
    return arrival(headers if isinstance(headers, Mapping) else {}, now)


def _start(queue: str, arrived: list[Arrival | None]) -> Span:
    attributes = dict(semconv.destination_attributes(semconv.PROCESS, "", "", queue, None))
    attributes[MESSAGE_COUNT] = len(arrived)
    links = [Link(found.origin) for found in arrived if found is not None and found.origin.is_valid]
    context = trace.set_span_in_context(trace.get_current_span())
    name = semconv.span_name(semconv.PROCESS, "", "", queue)
    return spans.start_span(name, None, context=context, kind=SpanKind.CONSUMER, attributes=attributes, links=links)


def _each(messages: Sequence[M], arrived: list[Arrival | None], span: Span) -> Generator[M, None, None]:
    for message, found in zip(messages, arrived, strict=True):
        scope = None if found is None else spans.guarded(FAULT, found.scope, span)
        try:
            yield message
        finally:
            if scope is not None:
                spans.guarded(FAULT, scope.close)
