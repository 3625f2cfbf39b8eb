"""One request, or websocket session, that is answered: its span, its order and its count, while the application works.

Knows the ASGI events, and of frameworks only where they note the route.  asgi.py is what an application uses.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import msgspec
from opentelemetry import baggage, trace
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import HTTP_REQUEST_METHOD, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE
from opentelemetry.semconv.attributes.network_attributes import NETWORK_PROTOCOL_VERSION
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.semconv.attributes.url_attributes import URL_PATH, URL_SCHEME
from opentelemetry.trace import SpanKind, Status, StatusCode

from otel_orders.context import CURRENT, Order, current_order
from otel_orders.instrumentation.audience import EXTERNAL, headers_of
from otel_orders.instrumentation.headers import Arrival, arrival
from otel_orders.instrumentation.http import DEFAULT_PORTS, named_method
from otel_orders.instrumentation.http_metrics import server_durations
from otel_orders.instrumentation.order_source import OrderSource, WatchedScope
from otel_orders.instrumentation.spans import OpenSpan, error_type, guarded, start_span

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from otel_orders.instrumentation.audience import AsgiScope
    from otel_orders.privacy import PseudonymKey

    Event = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Event]]
    Send = Callable[[Event], Awaitable[None]]
    App = Callable[[AsgiScope, Receive, Send], Awaitable[None]]

FAULT = "asgi"
"""The source under which faults of this module are counted."""

ORDER_REF = b"x-order-ref"

SERVER_ERROR = 500
CLIENT_ERROR = 400
SWITCHING_PROTOCOLS = 101
FORBIDDEN = 403
"""How a server answers a websocket that is closed before it is accepted."""
CANCELLED = "cancelled"


class Rules(msgspec.Struct, frozen=True):
    """What an application decided.  See OrderMiddleware; order_ref_key: None where no answer names its order."""

    audience: Callable[[AsgiScope], str]
    trusted: Callable[[AsgiScope], bool]
    source: OrderSource
    order_ref_key: PseudonymKey | None


class Request(OpenSpan):
    """One request from its headers to the end of its answer.  scope: what the application is called with."""

    def __init__(self, scope: AsgiScope, rules: Rules) -> None:
        self._began = time.perf_counter()
        self._rules = rules
        self._outer_scope = scope
        self._audience = str(guarded(FAULT, rules.audience, scope) or EXTERNAL)
        self._trusted = bool(guarded(FAULT, rules.trusted, scope))
        self._method, attributes = named_method(scope.get("method", "GET"))
        self._method_label = attributes[HTTP_REQUEST_METHOD]
        self._status: int | None = None
        self._trailers = self._counted = self._gone = False
        headers = headers_of(scope)
        arrived = self._arrived(headers)
        super().__init__(FAULT, self._span(arrived, attributes | _attributes(scope, headers)))
        self._routed_order: Order | None = None
        self._outer_order = CURRENT.get()
        self.scope = scope if rules.source.path is None else WatchedScope(scope, self._routed)
        self._order_scope = arrived.scope(self.span, _in_context_of(arrived) if self._borrowed else None)

    def _arrived(self, headers: dict[str, str]) -> Arrival:
        """Return what is believed of what *headers* say."""
        now = time.time_ns()
        arrived = arrival(headers, now)
        self._carried = arrived.order if self._trusted else None
        if not self._trusted:
            return Arrival(baggage.clear(arrived.context), None, arrived.origin, now).in_a_trace_of_its_own(now)
        order = self._rules.source.early(headers, arrived.order)
        return Arrival(arrived.context, order, arrived.origin, arrived.started_at, arrived.links)

    def _span(self, arrived: Arrival, attributes: dict[str, Any]) -> Span:
        """Return the server span that a framework opened for the request, with the order on it, or else a new one."""
        outer = trace.get_current_span()
        self._borrowed = outer.is_recording() and getattr(outer, "kind", None) is SpanKind.SERVER
        if self._borrowed:
            if arrived.order is not None:
                outer.set_attributes(arrived.order.attributes)
            return outer
        options = {"context": arrived.context, "links": arrived.links, "attributes": attributes}
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
            if event["type"] == "http.disconnect":
                self._gone = True
            return event

        return receiving

    def sending(self, send: Send) -> Send:
        """Return *send*, with an eye on what is sent."""

        async def sending(event: Event) -> None:
            try:
                await send(guarded(FAULT, self._seen, event) or event)
            except OSError:  # how a server says that nobody listens any more (ASGI 2.4)
                self._gone = True
                raise
            if guarded(FAULT, self._is_last, event):
                self.end()

        return sending

    def _seen(self, event: Event) -> Event:
        """Note what *event* tells, and return what is sent in its place."""
        kind = event["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            self._status = event["status"]
            self._trailers = bool(event.get("trailers"))
            event = {**event, "headers": [*event.get("headers", ()), *self._server_timing(), *self._order_ref()]}
        elif kind in ("websocket.accept", "websocket.close") and self._status is None:
            self._status = SWITCHING_PROTOCOLS if kind == "websocket.accept" else FORBIDDEN
            self._count(None)  # as HTTP sees it, this is the answer; how long the session lasts is on its span
        return event

    def _server_timing(self) -> list[tuple[bytes, bytes]]:
        """Return the header by which a browser's session tracking finds the trace (W3C Server Timing)."""
        span = self.span.get_span_context()
        if not span.is_valid:
            return []
        parent = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
        return [(b"server-timing", f'traceparent;desc="{parent}"'.encode())]

    def _order_ref(self) -> list[tuple[bytes, bytes]]:
        """Return the header that names the order to the world: one that the application found or answered with."""
        key, order = self._rules.order_ref_key, current_order() or self._routed_order
        if key is None or order is None or self._audience != EXTERNAL or (self._status or 0) >= CLIENT_ERROR:
            return []
        return [(ORDER_REF, key.pseudonym(order.order_id).encode())]

    def _is_last(self, event: Event) -> bool:
        if self._trailers:
            return event["type"] == "http.response.trailers" and not event.get("more_trailers")
        return event["type"] == "http.response.body" and not event.get("more_body")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.end(error)
        guarded(FAULT, self._order_scope.close)
        if self._routed_order is not None and CURRENT.get() is self._routed_order:
            CURRENT.set(self._outer_order)

    def end(self, error: BaseException | None = None, at: int | None = None) -> None:
        """Count the request, and end the span, unless it belongs to the framework, which then does."""
        if self._status is None and isinstance(error, Exception):
            self._status = SERVER_ERROR  # which the server gives where the application gave no answer (ASGI, HTTP)
        guarded(FAULT, self._count, error)
        if not self._borrowed:
            super().end(error, at)

    def _count(self, error: BaseException | None) -> None:
        if self._counted:
            return
        self._counted = True
        status = "" if self._status is None else str(self._status)
        route = _route(self._outer_scope) or ""
        labels = (self._method_label, route, status, self._error_type(error), self._audience)
        server_durations().observe(time.perf_counter() - self._began, labels)

    def _error_type(self, error: BaseException | None) -> str:
        """Return what went wrong; a caller that left before the end of the answer cancelled it."""
        if self._gone:
            return CANCELLED
        if error is not None:
            return error_type(error)
        return str(self._status) if self._status is not None and self._status >= SERVER_ERROR else ""

    def describe(self, error: BaseException | None) -> None:
        """Put route and answer on the span."""
        if (route := _route(self._outer_scope)) is not None:
            self.span.set_attribute(HTTP_ROUTE, route)
            self.span.update_name(f"{self._method} {route}")
        if self._status is not None:
            self.span.set_attribute(HTTP_RESPONSE_STATUS_CODE, self._status)
        super().describe(error)
        if kind := self._error_type(error):
            self.span.set_attribute(ERROR_TYPE, kind)
            self.span.set_status(Status(StatusCode.ERROR))


def _in_context_of(arrived: Arrival) -> Context:
    """Return the current context, which a framework made for the request, with no baggage but what has *arrived*."""
    context = baggage.clear()
    for name, value in baggage.get_all(arrived.context).items():
        context = baggage.set_baggage(name, value, context)
    return context


def _attributes(scope: AsgiScope, headers: dict[str, str]) -> dict[str, Any]:
    """Return the attributes that a request has from its start; of its query, none."""
    scheme = scope.get("scheme", "http")
    address, port = scope.get("server") or (None, None)
    with suppress(KeyError, ValueError):  # without a Host header, or with one that makes no sense
        authority = urlsplit(f"//{headers['host']}")
        address, port = authority.hostname, authority.port or DEFAULT_PORTS.get(scheme)
    found = {
        URL_SCHEME: scheme,
        URL_PATH: scope.get("path"),
        SERVER_ADDRESS: address,
        SERVER_PORT: port,
        NETWORK_PROTOCOL_VERSION: scope.get("http_version"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _route(scope: AsgiScope) -> str | None:
    """Return the path template that Starlette or FastAPI matched, None where none did.

    FastAPI's route inside an included router does not know that router's prefix; what it notes in the scope does.
    """
    noted = scope.get("fastapi")
    chosen = (noted.get("effective_route_context") if isinstance(noted, dict) else None) or scope.get("route")
    path = "" if hasattr(chosen, "routes") else getattr(chosen, "path_format", None)  # a mount's is in root_path
    return scope.get("root_path", "").rstrip("/") + path or "/" if isinstance(path, str) else None
