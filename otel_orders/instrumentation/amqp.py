"""What both AMQP clients share: what is told about a message, how it is sent, and whose trace its consumer is in.

Pure: knows no client and no connection, never reads a payload, never changes what the application handed over.  Rules
are those of OpenTelemetry's messaging conventions (docs/messaging/rabbitmq.md).  What becomes of a message that was
delivered is in processing.py.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec
from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode

from otel_orders import names
from otel_orders.instrumentation import semconv, spans, tracking
from otel_orders.instrumentation.frames import FRAME_MAX, FrameFullError, leaves_room
from otel_orders.instrumentation.headers import (
    BAGGAGE,
    TRACEPARENT,
    TRACESTATE,
    arrival,
    lineage,
    outgoing,
    started_at,
    with_baggage_of,
)
from otel_orders.instrumentation.semconv import SEND, Server
from otel_orders.instrumentation.spans import Outbound, error_type

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from prometheus_client import CollectorRegistry

    from otel_orders.instrumentation.messaging_metrics import MessagingMetrics, Place
    from otel_orders.instrumentation.settling import Settled, Waiting
    from otel_orders.instrumentation.tracking import Tracking

FAULT = "amqp"
"""The source under which faults of the AMQP instrumentation are counted."""

CONFIRMED: Final = "confirmed"
RETURNED: Final = "returned"
NACKED: Final = "nacked"
ERROR: Final = "error"
UNCONFIRMED: Final = "unconfirmed"

_METRICS = "otel_orders.instrumentation.messaging_metrics"

CARRIED = (TRACEPARENT, TRACESTATE, BAGGAGE, names.TRACE_STARTED_AT_HEADER, names.PUBLISHED_AT_HEADER)


class Propagation(msgspec.Struct, frozen=True):
    """When a consumer's span belongs to the producer's trace.

    young_for: in ns; a trace that began longer ago is not continued but linked.  long_queues: queues in which messages
    wait for so long that their consumers always start a trace of their own.
    """

    young_for: int = 20_000_000_000
    long_queues: frozenset[str] = frozenset()

    def continues(self, queue: str, started_at: int, now: int) -> bool:
        """Return whether a consumer of *queue* continues a trace that began at *started_at* (both times: unix ns)."""
        return queue not in self.long_queues and now - started_at < self.young_for


DEFAULT = Propagation()


class Tracing(msgspec.Struct, frozen=True):
    """How messages are traced.  metrics: None counts nothing.  old_names: see semconv.py.  tracking: of queues."""

    propagation: Propagation = DEFAULT
    metrics: MessagingMetrics | None = None
    old_names: bool = False
    tracking: Tracking = tracking.NOTHING


TRACING = Tracing()


def tracing(propagation: Propagation, registry: CollectorRegistry | None, tracked: Tracking, user: str) -> Tracing:
    """Return how *user* (a client's name) traces, with its metrics in *registry* and the environment's names.

    Raises ValueError where *registry* holds other metrics of the same names.
    """
    if registry is None:
        return Tracing(propagation, None, semconv.wants_old_names(), tracked)
    from otel_orders.instrumentation.messaging_metrics import borrow  # noqa: PLC0415 - loads prometheus_client

    return Tracing(propagation, borrow(registry, user), semconv.wants_old_names(), tracked)


def stop_counting(user: str) -> None:
    """*user* is uninstrumented: take metrics that nobody needs any more out of their registry."""
    if _METRICS in sys.modules:
        sys.modules[_METRICS].give_back(user)


class Message(msgspec.Struct, frozen=True, gc=False):
    """What is told about one message, by whichever client.

    queue, and what follows server: only of one that was delivered.  timestamp: as AMQP has it, in unix seconds.
    """

    exchange: str
    routing_key: str
    headers: Any
    queue: str = ""
    message_id: str | None = None
    conversation_id: str | None = None
    server: Server | None = None
    timestamp: Any = None
    delivery_tag: int = 0
    redelivered: bool = False
    no_ack: bool = False

    def place(self) -> Place:
        """Return what the metrics of this message are told apart by."""
        return (self.exchange, self.routing_key, self.queue, self.server)

    def attributes(self, operation: str, *, old_names: bool = False) -> dict[str, Any]:
        """Return the attributes of the span of *operation*, `send` or `process`."""
        found = dict(semconv.destination_attributes(operation, *self.place()))
        if self.message_id:
            found[semconv.MESSAGE_ID] = self.message_id
        if self.conversation_id:
            found[semconv.CONVERSATION_ID] = self.conversation_id
        if self.delivery_tag:
            found[semconv.DELIVERY_TAG] = self.delivery_tag
        if old_names:
            found |= semconv.old_attributes(operation, self.exchange, self.routing_key, self.server)
        return found


class Sending(Outbound):
    """The publishing of one message: its span is current inside the block.  headers: what the message is to carry.

    outcome: set by the client inside the block.  refusals: exception types, and the outcomes that they mean.
    frame_max: the connection's largest frame, in bytes; one that a message's own headers nearly fill takes no more.
    """

    def __init__(
        self,
        message: Message,
        tracing: Tracing = TRACING,
        *,
        refusals: Mapping[Any, str] | None = None,
        adopted: Span | None = None,
        frame_max: int = FRAME_MAX,
    ) -> None:
        self._message, self._metrics, self._refusals = message, tracing.metrics, refusals or {}
        self._began = time.perf_counter()
        self._seconds: float | None = None
        self.outcome = UNCONFIRMED
        self._awaited = False
        self._before = get_current()
        headers = {} if message.headers is None else {**message.headers}  # no mapping: the client's own error
        custom = _custom_context(headers) if TRACEPARENT in headers and adopted is None else None
        super().__init__(FAULT, adopted or self._start(custom, tracing), adopted=adopted is not None)
        if adopted is not None:
            adopted.set_attributes(message.attributes(SEND))
        self.headers: dict[Any, Any] = headers
        self._published_at = time.time_ns()
        self._crammed = bool(headers) and not leaves_room(headers, frame_max)
        spans.guarded(FAULT, self._carry, custom)  # a propagator's fault costs the trace in the headers, not the span
        self._queues = tracing.tracking.destinations(message.exchange, message.routing_key)

    def _start(self, custom: SpanContext | None, tracing: Tracing) -> Span:
        message = self._message
        attributes = message.attributes(SEND, old_names=tracing.old_names)
        attributes[names.OUTCOME] = UNCONFIRMED  # for good, where nothing is confirmed: to add it later costs more
        return spans.tracer.start_span(
            semconv.span_name(SEND, message.exchange, message.routing_key),
            self._before,
            kind=SpanKind.PRODUCER if custom is None else SpanKind.CLIENT,
            attributes=attributes,
            links=() if custom is None else (Link(custom),),
        )

    def _carry(self, custom: SpanContext | None) -> None:
        """Put trace, order and times into the headers.

        A trace context that the application put there itself, such as that of the transaction whose outbox is being
        sent, stays as it is (messaging-spans.md, "Producer spans").  When a trace began is told only where it did not
        begin with this message.
        """
        if self._crammed:
            raise FrameFullError
        context = self._before
        if BAGGAGE in self.headers:
            context = with_baggage_of(self.headers, context)
        carried: dict[str, Any] = outgoing(self.span, context)
        if custom is not None:
            carried = {name: value for name, value in carried.items() if name not in (TRACEPARENT, TRACESTATE)}
        now = self._published_at
        dated = self.headers.setdefault(names.PUBLISHED_AT_HEADER, now) is now
        if not (dated and custom is None and getattr(self.span, "parent", self) is None):
            sent_in = self.span.get_span_context()
            if sent_in.is_valid and (custom is None or custom.trace_id == sent_in.trace_id):
                carried[names.TRACE_STARTED_AT_HEADER] = started_at(self.span, self._before)
        self.headers.update(carried)

    @property
    def message_id(self) -> str | None:
        """The id that the message is to carry."""
        return self._message.message_id

    @property
    def timestamp(self) -> int | None:
        """Now, as AMQP's own timestamp has it (unix s), for a message that has none: RabbitMQ's own tools read it."""
        return None if self._crammed else int(time.time())

    def await_outcome(self, unconfirmed: Waiting, number: int, told: Settled | None = None) -> bool:
        """End not with the block, but with the confirmation of the channel's message *number*.

        told: is told the outcome in place of this.  Returns False where too many wait already.
        """
        self._awaited = unconfirmed.add(number, told or self)
        return self._awaited

    def settle(self, outcome: str) -> None:
        """End with the *outcome* that the broker told later; what came back is confirmed all the same."""
        if self.outcome != RETURNED:
            self.outcome = outcome
        self.end()

    def describe(self, error: BaseException | None) -> None:
        """Put the outcome on the span and into the metrics."""
        super().describe(error)
        if error is not None:
            self.outcome = self._refusals.get(type(error), ERROR)
        lost = self.outcome in (RETURNED, NACKED)
        failure = error_type(error) if error is not None else self.outcome if lost else ""
        if self.span.is_recording():
            if self.outcome != UNCONFIRMED or self.adopted:
                self.span.set_attribute(names.OUTCOME, self.outcome)
            if lost and error is None:
                self.span.set_attribute(ERROR_TYPE, failure)
                self.span.set_status(Status(StatusCode.ERROR))
        if self._metrics is not None:
            seconds = time.perf_counter() - self._began if self._seconds is None else self._seconds
            self._metrics.sent(self._message.place(), seconds, self.outcome, failure)
        self._record()

    def _record(self) -> None:
        """Record that the message came to the tracked queues that it came to, about the order that it carries."""
        order = arrival(self.headers, 0).order if self._queues else None
        if order is not None:
            for queue in self._queues:
                tracking.published(self._message, queue, order, self.span, outcome=self.outcome, at=self._published_at)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if isinstance(error, GeneratorExit):
            self._seconds = time.perf_counter() - self._began
        super().__exit__(kind, error, tb)
        if error is None and not self._awaited:
            self.end()


def _custom_context(headers: dict[Any, Any]) -> SpanContext | None:
    """Return the trace context that the application put into *headers*, None where it put none.

    The current span's own is no such thing, nor what was copied from the message at work: they are taken out.
    """
    found = arrival(headers, 0).origin
    known = lineage()
    copied = known is not None and found.span_id == known.origin.span_id
    if found.is_valid and not copied and found.span_id != trace.get_current_span().get_span_context().span_id:
        return found
    for name in CARRIED if copied else (TRACEPARENT, TRACESTATE):
        headers.pop(name, None)
    return None
