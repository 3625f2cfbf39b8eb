"""What both AMQP clients share: how a message is named, what its headers carry, and whose trace its consumer is in.

Pure: knows no client and no connection, never reads a payload, never changes what the application handed over.  Rules
are those of OpenTelemetry's messaging conventions (docs/messaging/rabbitmq.md); a consumer's span is a child of the
producer's while their trace is young, and otherwise linked to it.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.trace import Link, SpanContext, SpanKind

from otel_orders import names
from otel_orders.context import current_order
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
from otel_orders.instrumentation.spans import OpenSpan, Outbound, guarded, start_span

if TYPE_CHECKING:
    from types import TracebackType

FAULT = "amqp"
"""The source under which faults of the AMQP instrumentation are counted."""

SYSTEM: Final = "messaging.system"
OPERATION_NAME: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
ROUTING_KEY: Final = "messaging.rabbitmq.destination.routing_key"
MESSAGE_ID: Final = "messaging.message.id"
CONVERSATION_ID: Final = "messaging.message.conversation_id"
BODY_SIZE: Final = "messaging.message.body.size"

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


class Message(msgspec.Struct, frozen=True):
    """What is told about one message, by whichever client.  queue: empty for a producer.  body_size: in bytes."""

    exchange: str
    routing_key: str
    headers: Any
    queue: str = ""
    message_id: str | None = None
    conversation_id: str | None = None
    body_size: int | None = None

    def attributes(self, operation: str) -> dict[str, Any]:
        """Return the attributes of the span of *operation*, `send` or `process`."""
        found = {
            SYSTEM: "rabbitmq",
            DESTINATION: destination(self.exchange, self.routing_key, self.queue),
            ROUTING_KEY: self.routing_key,
            OPERATION_NAME: operation,
            OPERATION_TYPE: operation,
            MESSAGE_ID: self.message_id,
            CONVERSATION_ID: self.conversation_id,
            BODY_SIZE: self.body_size,
        }
        return {name: value for name, value in found.items() if value is not None and value != ""}


@lru_cache(maxsize=1024)
def destination(exchange: str, routing_key: str, queue: str = "") -> str:
    """Return `{exchange}:{routing_key}:{queue}` without what is empty or said twice; `amq.default` for nothing."""
    parts = (exchange, routing_key, "" if queue == routing_key else queue)
    return ":".join(filter(None, parts)) or "amq.default"


def size_of(body: object) -> int | None:
    """Return the size of *body* in bytes, None where only encoding it would tell."""
    return len(body) if isinstance(body, (bytes, bytearray)) else None


class Sending(Outbound):
    """The publishing of one message: its span is current inside the block.  headers: what the message is to carry."""

    def __init__(self, message: Message) -> None:
        headers = {} if message.headers is None else dict(message.headers)
        custom = _custom_context(headers)
        name = f"send {destination(message.exchange, message.routing_key)}"
        kind = SpanKind.PRODUCER if custom is None else SpanKind.CLIENT
        links = () if custom is None else (Link(custom),)
        attributes = message.attributes("send")
        super().__init__(FAULT, start_span(name, current_order(), kind=kind, attributes=attributes, links=links))
        self.headers: dict[Any, Any] = headers
        self._carry(custom)

    def _carry(self, custom: SpanContext | None) -> None:
        """Put trace, order and times into the headers.

        A trace context that the application put there itself, such as that of the transaction whose outbox is being
        sent, stays as it is (messaging-spans.md, "Producer spans").
        """
        context = get_current()
        if BAGGAGE in self.headers:
            context = with_baggage_of(self.headers, context)
        carried: dict[str, Any] = outgoing(self.span, context)
        sent_in = self.span.get_span_context()
        if sent_in.is_valid and (custom is None or custom.trace_id == sent_in.trace_id):
            carried[names.TRACE_STARTED_AT_HEADER] = started_at(self.span)
        if custom is not None:
            carried = {name: value for name, value in carried.items() if name not in (TRACEPARENT, TRACESTATE)}
        self.headers.update(carried)
        self.headers.setdefault(names.PUBLISHED_AT_HEADER, time.time_ns())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        super().__exit__(kind, error, tb)
        self.end()


def _custom_context(headers: dict[Any, Any]) -> SpanContext | None:
    """Return the trace context that the application put into *headers*, None where it put none.

    The current span's own is no such thing, nor what was copied from the message at work: they are taken out.
    """
    if TRACEPARENT not in headers:
        return None
    found = arrival(headers, 0).origin
    known = lineage()
    copied = known is not None and found.span_id == known.origin.span_id
    if found.is_valid and not copied and found.span_id != trace.get_current_span().get_span_context().span_id:
        return found
    for name in CARRIED if copied else (TRACEPARENT, TRACESTATE):
        headers.pop(name, None)
    return None


class Processing(OpenSpan):
    """Application code at work on one message: inside it, the message's order and the span are current.

    A callback runs in the block.  What is handed out step by step, by an iterator or a get, is in process until
    leave(): when the next step is asked for, or when the application lets go of the message.
    """

    def __init__(self, message: Message, propagation: Propagation, *, ambient: bool = False) -> None:
        """Begin.  ambient: whether the current span is the application's own, and so worth a link."""
        end_dropped()
        now = time.time_ns()
        arrived = arrival(message.headers if isinstance(message.headers, Mapping) else {}, now)
        if not propagation.continues(message.queue, arrived.started_at, now):
            arrived = arrived.in_a_trace_of_its_own(now)
        outside = trace.get_current_span().get_span_context()
        span = start_span(
            f"process {destination(message.exchange, message.routing_key, message.queue)}",
            arrived.order,
            context=arrived.context,
            kind=SpanKind.CONSUMER,
            attributes=message.attributes("process"),
            links=(*arrived.links, Link(outside)) if ambient and outside.is_valid else arrived.links,
        )
        super().__init__(FAULT, span)
        self._scope = arrived.scope(span)

    def leave(self, error: BaseException | None = None) -> None:
        """End, because of *error* if there is one, and put back what was current in the calling task.  Never raises."""
        self.end(error)
        guarded(FAULT, self._scope.close)

    def until_dropped(self, *parts: object) -> None:
        """Leave also when the application holds none of *parts* (of the message) any more.

        The span itself is ended by end_dropped().
        """
        held = len(parts)

        def dropped() -> None:
            nonlocal held
            held -= 1
            if not held and not self.ended:
                self._scope.close()
                _dropped.append((self, time.time_ns()))

        for part in parts:
            weakref.finalize(part, dropped).atexit = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.leave(error)


_dropped: deque[tuple[Processing, int]] = deque()
"""What the application let go of and no one has ended yet, and when that was (unix ns)."""


def end_dropped() -> None:
    """End the processing of messages that the application has let go of.  Never raises.

    A finalizer must not do it itself: it may run in the middle of a span processor that holds its lock.
    """
    while _dropped:
        with suppress(IndexError):  # another thread was faster
            processing, dropped_at = _dropped.popleft()
            processing.end(at=dropped_at)
