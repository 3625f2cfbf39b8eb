"""What travels in headers, of messages and of requests alike: the trace, when it began, baggage, and the order.

The order travels as baggage, but only on the wire: what comes in is taken out of the baggage and bound, so that no
other instrumentation passes it on to a host that nobody chose.  Knows no client, reads headers of any type.
"""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

import msgspec
from opentelemetry import baggage, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, create_key, get_current
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import (
    INVALID_SPAN,
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    TraceFlags,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_orders import names
from otel_orders.context import Order, current_order, from_baggage, to_baggage, usable
from otel_orders.instrumentation.spans import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.propagators.textmap import TextMapPropagator

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
BAGGAGE: Final = "baggage"

MAX_TIME: Final = 2**63 - 1
"""Latest time in a header, in unix ns: AMQP's integers are signed and have 64 bits."""

MAX_HEADER = 8192
"""Longest header that is read, in characters: as long as W3C Baggage allows (section 3.3.2)."""

_LINEAGE = create_key("otel-orders-lineage")


class _HeaderGetter(Getter["Mapping[str, object]"]):
    """Reads headers of any type; what cannot be a W3C header reads as absent."""

    def get(self, carrier: Mapping[str, object], key: str) -> list[str] | None:
        value = carrier.get(key)
        if isinstance(value, (bytes, bytearray)):
            value = value.decode("latin-1")
        if not isinstance(value, str) or len(value) > MAX_HEADER:
            return None
        if not value.isascii():  # baggage entries like that are dropped one by one, but no lone surrogate may get there
            value = value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        return [value]

    def keys(self, carrier: Mapping[str, object]) -> list[str]:
        return [key for key in carrier if isinstance(key, str)]


_GETTER = _HeaderGetter()


@lru_cache(maxsize=8)
def _with_baggage(configured: TextMapPropagator) -> TextMapPropagator:
    """Return *configured* (OTEL_PROPAGATORS), completed with baggage: without it no order would ever arrive."""
    if BAGGAGE in configured.fields:
        return configured
    return CompositePropagator([configured, W3CBaggagePropagator()])


_TRACE_CONTEXT = TraceContextTextMapPropagator()

_PLAIN_TRACEPARENT = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")

_OUR_BAGGAGE = re.compile(r"(?:order_id=([\w.%+~-]{1,400})(?:,partner_id=([\w.%+~-]{1,400}))?)?", re.ASCII)
"""The baggage that most messages carry: ours alone, or none.  It is read without the machinery for any other."""


@lru_cache(maxsize=8)
def _is_standard(configured: TextMapPropagator) -> bool:
    """Return whether *configured* is W3C's trace context and baggage, as OpenTelemetry's default is."""
    parts = getattr(configured, "_propagators", ())
    return type(configured) is CompositePropagator and [*map(type, parts)] == [
        TraceContextTextMapPropagator,
        W3CBaggagePropagator,
    ]


class Lineage(msgspec.Struct, frozen=True):
    """What is known about the trace that the current code works in.

    started_at: unix time in ns.  origin: the span context that the current message or request brought.
    """

    trace_id: int
    started_at: int
    origin: SpanContext


class Arrival(msgspec.Struct, frozen=True):
    """What the headers of a message or a request tell about where it comes from.

    context: what the receiver's span starts in; the order is not in its baggage.  origin: the sender's span, invalid
    where none is known.  started_at: of the receiver's trace, unix ns.  links: to the sender's, if that is another.
    """

    context: Context
    order: Order | None
    origin: SpanContext
    started_at: int
    links: tuple[Link, ...] = ()

    def in_a_trace_of_its_own(self, now: int) -> Arrival:
        """Return the same, in a trace that starts *now* (unix ns) and is linked to the sender's."""
        context = trace.set_span_in_context(INVALID_SPAN, self.context)
        return Arrival(context, self.order, self.origin, now, (Link(self.origin),) if self.origin.is_valid else ())

    def scope(self, span: Span, context: Context | None = None) -> Scope:
        """Make *span* and the order current, in *context* (the arrival's own by default)."""
        known = Lineage(span.get_span_context().trace_id, self.started_at, self.origin)
        inside = trace.set_span_in_context(span, context or self.context)
        return Scope(inside, self.order, {_LINEAGE: known})


def arrival(headers: Mapping[str, object], now: int) -> Arrival:
    """Return what *headers* tell, at the time *now* (unix ns); a trace of unknown age counts as new."""
    configured = propagate.get_global_textmap()
    ours = _OUR_BAGGAGE.fullmatch(text) if type(text := headers.get(BAGGAGE, "")) is str else None
    if ours is not None and _is_standard(configured):
        context, origin = _trace_context(headers)
        order = None if ours.lastindex is None else _order(*ours.groups())
    else:
        context = _with_baggage(configured).extract(headers, Context(), _GETTER)
        order = from_baggage(context)
        for name in (names.ORDER_ID, names.PARTNER_ID):
            if baggage.get_baggage(name, context) is not None:
                context = baggage.remove_baggage(name, context)
        origin = trace.get_current_span(context).get_span_context()
    started = nanoseconds(headers.get(names.TRACE_STARTED_AT_HEADER, headers.get(names.PUBLISHED_AT_HEADER)))
    return Arrival(context, order, origin, started if started is not None and origin.is_valid else now)


def _trace_context(headers: Mapping[str, object]) -> tuple[Context, SpanContext]:
    """Return a context with the sender's span, and that span, as W3C's propagator reads it.

    Without tracestate, that is one step.
    """
    told = headers.get(TRACEPARENT)
    plain = _PLAIN_TRACEPARENT.fullmatch(told) if type(told) is str and TRACESTATE not in headers else None
    if plain is None:
        context = _TRACE_CONTEXT.extract(headers, Context(), _GETTER)
        return context, trace.get_current_span(context).get_span_context()
    trace_id, span_id, flags = plain.groups()
    sender = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    if not sender.is_valid:
        return Context(), INVALID_SPAN_CONTEXT
    return trace.set_span_in_context(NonRecordingSpan(sender), Context()), sender


def _order(order_id: str, partner_id: str | None) -> Order | None:
    """Return the order that our own baggage header names, whose values are still encoded."""
    order_id, partner_id = unquote_plus(order_id), partner_id and unquote_plus(partner_id)
    return Order(order_id, partner_id if usable(partner_id) else None) if usable(order_id) else None


def nanoseconds(value: object) -> int | None:
    """Return the unix time (ns) that a header's *value* means; None where it means none."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str) and len(value) <= len(str(MAX_TIME)) and value.isdecimal():
        value = int(value)
    return int(value) if isinstance(value, int) and value is not True and 0 < value <= MAX_TIME else None


def lineage(context: Context | None = None) -> Lineage | None:
    """Return the lineage of the trace in *context* (the current one by default); None where none of ours started it."""
    found = (get_current() if context is None else context).get(_LINEAGE)
    return found if isinstance(found, Lineage) else None


def started_at(span: Span, context: Context | None = None) -> int:
    """Return when the trace of *span* began (unix ns), as far as known.

    context: in which the span was started; the current one by default.
    """
    trace_id = span.get_span_context().trace_id
    known = lineage(context)
    if known is not None and known.trace_id == trace_id:
        return known.started_at
    for candidate in (trace.get_current_span(context), span):
        start = getattr(candidate, "start_time", None)
        if isinstance(start, int) and candidate.get_span_context().trace_id == trace_id:
            return start
    return time.time_ns()


def with_baggage_of(headers: Mapping[str, object], context: Context) -> Context:
    """Return *context* with the baggage of *headers* added."""
    return W3CBaggagePropagator().extract(headers, context, _GETTER)


def outgoing(span: Span, context: Context) -> dict[str, str]:
    """Return the headers that carry *span*, the baggage of *context* and the current order."""
    configured = propagate.get_global_textmap()
    if _is_standard(configured) and not baggage.get_all(context):
        return _outgoing_alone(span.get_span_context(), _current_order())
    context = trace.set_span_in_context(span, context)
    order = _current_order()
    if order is not None:
        context = to_baggage(order, baggage.remove_baggage(names.PARTNER_ID, context))
    carrier: dict[str, str] = {}
    _with_baggage(configured).inject(carrier, context)
    return carrier


def _current_order() -> Order | None:
    """Return the current order, as far as receivers read it; a header that fits no AMQP frame costs the connection."""
    order = current_order()
    if order is None or not usable(order.order_id):
        return None
    return order if order.partner_id is None or usable(order.partner_id) else Order(order.order_id)


def _outgoing_alone(span: SpanContext, order: Order | None) -> dict[str, str]:
    """Return what the standard propagators write where the order is the only baggage."""
    carrier: dict[str, str] = {}
    if span.is_valid:
        carrier[TRACEPARENT] = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
        if span.trace_state:
            carrier[TRACESTATE] = span.trace_state.to_header()
    if order is not None:
        carrier[BAGGAGE] = order.baggage
    return carrier


def outgoing_trace(span: Span) -> dict[str, str]:
    """Return the headers that carry *span* and nothing else, for a host that may not know more."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier
