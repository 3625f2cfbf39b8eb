"""Application code at work on a message: its span, the order and trace that are current, and how it all ended.

A consumer's span is a child of the producer's while their trace is young, and otherwise linked to it.  Pure: knows no
client and settles nothing.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanKind

from otel_orders import names
from otel_orders.instrumentation import semconv, tracking
from otel_orders.instrumentation.amqp import FAULT, Message, Tracing
from otel_orders.instrumentation.delivery import DEATHS_HEADER, DELIVERY_COUNT_HEADER, history, published_at
from otel_orders.instrumentation.headers import arrival
from otel_orders.instrumentation.semconv import PROCESS
from otel_orders.instrumentation.settling import NO_ACK, UNSETTLED, Waiting
from otel_orders.instrumentation.spans import OpenSpan, end_later, error_type, guarded, start_span

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Processing(OpenSpan):
    """Application code at work on one message: inside it, the message's order and the span are current.

    A callback runs in the block.  What is handed out step by step, by an iterator or a get, is in process until
    leave(): when the next step is asked for, or when the application lets go of the message.  The span ends there,
    and is kept back until the message is settled, so that it tells how.
    """

    def __init__(
        self,
        message: Message,
        tracing: Tracing,
        *,
        ambient: bool = False,
        waiting: Waiting | None = None,
        adopted: Span | None = None,
        got: bool = False,
    ) -> None:
        """Begin.  ambient: whether the current span is the application's own, and so worth a link.

        waiting: what will tell how the message is settled.  adopted: the span that another instrumentation made.
        got: whether nothing but the settlement tells when the work is done.
        """
        self._got = got
        now = time.time_ns()
        self._began = time.perf_counter()
        self._message, self._metrics = message, tracing.metrics
        self._error: BaseException | None = None
        self._left_at: int | None = None
        self.when_left: Callable[[], object] | None = None
        headers = message.headers
        if type(headers) is not dict and not isinstance(headers, Mapping):  # the first is much faster
            headers = {}
        published = published_at(headers, message.timestamp)
        age = None if published is None else now - published
        arrived = arrival(headers, now)
        if not tracing.propagation.continues(message.queue, arrived.started_at, now):
            arrived = arrived.in_a_trace_of_its_own(now)
        attributes = message.attributes(PROCESS, old_names=tracing.old_names and adopted is None)
        if message.redelivered or DEATHS_HEADER in headers or headers.get(DELIVERY_COUNT_HEADER):
            attributes.update(history(headers, message.queue, redelivered=message.redelivered))
        if age is not None and age >= 0:
            attributes[names.MESSAGE_AGE_SECONDS] = age / 1e9
        if adopted is None:
            span = start_span(
                semconv.span_name(PROCESS, message.exchange, message.routing_key, message.queue),
                arrived.order,
                context=arrived.context,
                kind=SpanKind.CONSUMER,
                attributes=attributes,
                links=(*arrived.links, *_surroundings()) if ambient else arrived.links,
            )
        else:
            span = adopted
            span.set_attributes(attributes if arrived.order is None else attributes | arrived.order.attributes)
        super().__init__(FAULT, span, adopted=adopted is not None)
        self.outcome = NO_ACK if message.no_ack else UNSETTLED
        self._settled = message.no_ack or waiting is None or not waiting.add(message.delivery_tag, self)
        self._scope = arrived.scope(span)
        tracked = message.queue in tracing.tracking.queues
        self._order = arrived.order if tracked else None
        self._published_at = published
        if self._metrics is not None:  # whose fault must cost neither the order nor the span
            guarded(FAULT, self._metrics.delivered, message.place(), age, redelivered=message.redelivered)
        if message.no_ack:
            self._record(NO_ACK)

    def blame(self, error: BaseException) -> None:
        """Remember *error* as the reason why the message is about to be settled."""
        if not isinstance(error, GeneratorExit):
            self._error = error

    def settle(self, outcome: str) -> None:
        """Take the *outcome*: the first counts.  Ends the span if the work is done."""
        if self._settled:
            return
        self.outcome, self._settled = outcome, True
        self._record(outcome)
        if self._got and self._scope.is_current():
            self.leave()
        elif self._left_at is not None:
            self.end(self._error, at=self._left_at)

    def _record(self, outcome: str) -> None:
        """Record that the message is in its queue no more, where it is a tracked one.  Never raises."""
        if self._order is not None and outcome in tracking.SETTLED:
            at = self._published_at
            guarded(FAULT, tracking.settled, self._message, self._order, self.span, outcome=outcome, published_at=at)

    def leave(self, error: BaseException | None = None) -> None:
        """End the work, because of *error* if there is one, and put back what was current.  Never raises."""
        if isinstance(error, GeneratorExit):  # a loop that was left, or found by the garbage collector: no failure
            self._drop()
            return
        guarded(FAULT, self._scope.close)
        left_at = self._leave()
        failure, self._error = error or self._error, None  # whose traceback would keep its frames alive
        if self._settled or failure is not None:
            self.end(failure, at=left_at)

    def _leave(self) -> int:
        """Note that the work is done; returns when it was (unix ns)."""
        if self._left_at is None:
            self._left_at, self._seconds = time.time_ns(), time.perf_counter() - self._began
            if (when_left := self.when_left) is not None:
                self.when_left = None  # which may know of more than this message
                when_left()
        return self._left_at

    def _drop(self) -> None:
        """End the work, and do no more than a finalizer may: the span ends later."""
        guarded(FAULT, self._scope.close)
        left_at = self._leave()
        if self._settled:
            end_later(self, left_at)

    def describe(self, error: BaseException | None) -> None:
        """Put on the span, and into the metrics, how the work and the message ended."""
        super().describe(error)
        if self.span.is_recording():
            self.span.set_attribute(names.OUTCOME, self.outcome)
        if self._metrics is not None:
            failure = "" if error is None else error_type(error)
            self._metrics.processed(self._message.place(), self._seconds, self.outcome, failure)

    def until_dropped(self, *parts: object) -> None:
        """Leave also when the application holds none of *parts* (of the message) any more."""
        held = len(parts)

        def dropped() -> None:
            nonlocal held
            held -= 1
            if not held and self._left_at is None:
                self._drop()

        for part in parts:
            weakref.finalize(part, dropped).atexit = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.leave(error)


def _surroundings() -> tuple[Link, ...]:
    """Return the link to the span, of the application's own, that asks for a message; none where there is none."""
    outside = trace.get_current_span().get_span_context()
    return (Link(outside),) if outside.is_valid else ()
