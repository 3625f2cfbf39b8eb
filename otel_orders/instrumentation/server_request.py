"""One request, or websocket session, that is answered: its span, its order and its count, while the application works.

Knows the ASGI events, and no framework.  asgi.py is what an application uses.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from opentelemetry import baggage, trace
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import HTTP_REQUEST_METHOD, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE
from opentelemetry.trace import SpanKind, Status, StatusCode

from otel_orders import names
from otel_orders.context import CURRENT, Order, current_order
from otel_orders.instrumentation.audience import EXTERNAL, headers_of
from otel_orders.instrumentation.headers import Arrival, arrival
from otel_orders.instrumentation.http import named_method
from otel_orders.instrumentation.http_metrics import seconds_since, server_durations
from otel_orders.instrumentation.order_source import WatchedScope
from otel_orders.instrumentation.server_answer import CLIENT_ERROR, SERVER_ERROR, Answer
from otel_orders.instrumentation.server_rules import FAULT
from otel_orders.instrumentation.server_scope import attributes_of, route_of
from otel_orders.instrumentation.server_span import LEAD, Lead, current_lead, with_baggage
from otel_orders.instrumentation.spans import OpenSpan, guarded, start_span

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from opentelemetry.trace import Span

    from otel_orders.instrumentation.audience import AsgiScope
    from otel_orders.instrumentation.server_answer import Event, Receive, Send
    from otel_orders.instrumentation.server_rules import Rules

ORDER_REF = b"x-order-ref"


class Request(OpenSpan):
    """One request from its headers to the end of its answer.  scope: what the application is called with."""

    def __init__(self, scope: AsgiScope, rules: Rules) -> None:
        self._began = time.perf_counter()
        self._rules = rules
        self._outer_scope = scope
        self._audience = rules.serves(scope)
        self._trusted = rules.trusts(scope)
        self._method, attributes = named_method(scope.get("method", "GET"))
        self._method_label = attributes[HTTP_REQUEST_METHOD]
        self._answer = Answer()
        self._inner = isinstance(scope.get(LEAD), Lead)
        self._counted = self._inner
        headers = headers_of(scope)
        arrived = self._arrived(headers)
        borrowed = self._borrowed()
        opened = borrowed or guarded(FAULT, self._opened, arrived, attributes, headers)
        span = opened or trace.get_current_span(arrived.context)  # a fault costs no handler its order
        super().__init__(FAULT, span, adopted=borrowed is not None)
        if self.adopted:
            known = {} if arrived.order is None else arrived.order.attributes
            guarded(FAULT, span.set_attributes, {names.AUDIENCE: self._audience, **known})
        context = with_baggage(baggage.get_all(arrived.context)) if self.adopted else arrived.context
        self._lead = scope.setdefault(LEAD, Lead(span, context))
        self._routed_order: Order | None = None
        self._outer_order = CURRENT.get()
        self.scope = scope if rules.source.path is None else WatchedScope(scope, self._routed)
        self._order_scope = arrived.scope(span, self._lead.inside(context))

    def _arrived(self, headers: Mapping[str, str]) -> Arrival:
        """Return what is believed of what *headers* say."""
        now = time.time_ns()
        arrived = arrival(headers, now)
        self._carried = arrived.order if self._trusted else None
        if not self._trusted:
            return Arrival(baggage.clear(arrived.context), None, arrived.origin, now).in_a_trace_of_its_own(now)
        order = self._rules.source.early(headers, arrived.order)
        return Arrival(arrived.context, order, arrived.origin, arrived.started_at, arrived.links)

    def _borrowed(self) -> Span | None:
        """Return the server span that the request has already; not that of one which this process asks itself from."""
        span = trace.get_current_span()
        at = span.get_span_context()
        unsampled = at.is_valid and not at.is_remote and not span.is_recording()  # which tells no kind
        if not unsampled and not (span.is_recording() and getattr(span, "kind", None) is SpanKind.SERVER):
            return None
        lead = current_lead()
        return span if self._inner or lead is None or lead.span.get_span_context().span_id != at.span_id else None

    def _opened(self, arrived: Arrival, attributes: dict[str, Any], headers: Mapping[str, str]) -> Span:
        known = {**attributes, names.AUDIENCE: self._audience, **attributes_of(self._outer_scope, headers)}
        options = {"context": arrived.context, "links": arrived.links, "attributes": known}
        return start_span(self._method, arrived.order, kind=SpanKind.SERVER, **options)

    def _routed(self, path_params: object) -> None:
        """Take the order from the parameters of the path, now that a route has matched."""
        order = guarded(FAULT, self._rules.source.routed, path_params, self._carried)
        if order is None or order == self._routed_order:
            return
        self._routed_order = order
        if self._trusted:
            CURRENT.set(order)
            guarded(FAULT, self.span.set_attributes, order.attributes)

    def receiving(self, receive: Receive) -> Receive:
        """Return *receive*, with an eye on whether the caller is still there."""

        async def receiving() -> Event:
            event = await receive()
            guarded(FAULT, self._answer.received, event)
            return event

        return receiving

    def sending(self, send: Send) -> Send:
        """Return *send*, with an eye on what is sent."""

        async def sending(event: Event) -> None:
            try:
                await send(guarded(FAULT, self._seen, event) or event)
            except OSError:  # how a server says that nobody listens any more (ASGI 2.4)
                self._answer.gone = True
                raise
            if guarded(FAULT, self._answer.ends_with, event):
                self.end()

        return sending

    def _seen(self, event: Event) -> Event:
        """Note what *event* tells, and return what is sent in its place."""
        if self._answer.starts_with(event):
            if self.adopted:  # whose owner ends it with the last event, before we are asked again
                guarded(FAULT, self.describe, None)
            return {**event, "headers": [*event.get("headers", ()), *self._server_timing(), *self._order_ref()]}
        if self._answer.settles_handshake(event):
            self._count(None)  # as HTTP sees it, this is the answer; how long the session lasts is on its span
        return event

    def _server_timing(self) -> list[tuple[bytes, bytes]]:
        """Return the header by which a browser's session tracking finds the trace (W3C Server Timing)."""
        span = self.span.get_span_context()
        if self._inner or not span.is_valid:
            return []
        parent = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
        return [(b"server-timing", f'traceparent;desc="{parent}"'.encode())]

    def _order_ref(self) -> list[tuple[bytes, bytes]]:
        """Return the header that names the order to the world: one that the application found or answered with."""
        key, order = self._rules.order_ref_key, self._lead.order or current_order() or self._routed_order
        if key is None or order is None or self._audience != EXTERNAL or (self._answer.status or 0) >= CLIENT_ERROR:
            return []
        return [(ORDER_REF, key.pseudonym(order.order_id).encode())]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if isinstance(error, GeneratorExit):  # whoever ran this task has dropped it
            self._answer.gone = True
        self.end_safely(error)
        guarded(FAULT, self._order_scope.close)
        if self._routed_order is not None and CURRENT.get() is self._routed_order:
            CURRENT.set(self._outer_order)

    def end(self, error: BaseException | None = None, at: int | None = None) -> None:
        """Count the request, and end the span, unless it belongs to another middleware, which then does."""
        if self._answer.status is None and isinstance(error, Exception):
            self._answer.status = SERVER_ERROR  # which the server gives where the application gave no answer
        guarded(FAULT, self._count, error, at)
        super().end(error, at)

    def _count(self, error: BaseException | None, at: int | None = None) -> None:
        if self._counted or self.over:
            return
        self._counted = True
        status = "" if self._answer.status is None else str(self._answer.status)
        route = route_of(self._outer_scope) or ""
        labels = (self._method_label, route, status, self._answer.failed(error), self._audience)
        server_durations().observe(seconds_since(self._began, at), labels)

    def describe(self, error: BaseException | None) -> None:
        """Put route and answer on the span, unless its owner has ended it."""
        if not self.span.is_recording():
            return
        route = route_of(self._outer_scope)
        known = (getattr(self.span, "attributes", None) or {}).get(HTTP_ROUTE) if self.adopted else None
        if route is not None and route != known:
            self.span.set_attribute(HTTP_ROUTE, route)
            self.span.update_name(f"{self._method} {route}")
        if self._answer.status is not None:
            self.span.set_attribute(HTTP_RESPONSE_STATUS_CODE, self._answer.status)
        if self._routed_order is not None and self._lead.order is None and (self._answer.status or 500) < CLIENT_ERROR:
            self._lead.is_about(self._routed_order)  # a caller whom we do not trust had it right
        if error is not self._lead.recorded:
            super().describe(error)
        if kind := self._answer.failed(error):
            self.span.set_attribute(ERROR_TYPE, kind)
            self.span.set_status(Status(StatusCode.ERROR))
