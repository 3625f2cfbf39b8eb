"""ASGI middleware: a server span for each request, inside the order that the caller works for.

    app.add_middleware(OrderMiddleware)        # Starlette, FastAPI
    app = OrderMiddleware(app)                 # anything else that speaks ASGI

What a caller says about itself is believed only where the caller is trusted: else its baggage is dropped and its trace
only linked.  Where a framework has opened a server span for the request already, that one is used.  Knows no framework.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from opentelemetry import baggage, trace
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE
from opentelemetry.semconv.attributes.network_attributes import NETWORK_PROTOCOL_VERSION
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.semconv.attributes.url_attributes import URL_PATH, URL_SCHEME
from opentelemetry.trace import SpanKind, Status, StatusCode

from otel_orders.instrumentation.headers import Arrival, arrival
from otel_orders.instrumentation.http import DEFAULT_PORTS, is_private, named_method
from otel_orders.instrumentation.spans import OpenSpan, guarded, start_span

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    AsgiScope = MutableMapping[str, Any]
    Event = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Event]]
    Send = Callable[[Event], Awaitable[None]]
    App = Callable[[AsgiScope, Receive, Send], Awaitable[None]]

FAULT = "asgi"
"""The source under which faults of this module are counted."""

SERVER_ERROR = 500
SWITCHING_PROTOCOLS = 101
FORBIDDEN = 403
"""How a server answers a websocket that is closed before it is accepted."""


def comes_from_inside(scope: AsgiScope) -> bool:
    """Return whether the caller, and every proxy that says it forwarded the request, has a private address."""
    client = scope.get("client")
    headers = _headers(scope)
    if not client or "forwarded" in headers:
        return False
    forwarded_for = headers.get("x-forwarded-for", "")
    return all(is_private(address.strip()) for address in (client[0], *filter(None, forwarded_for.split(","))))


class OrderMiddleware:
    """Wraps an ASGI application.

    trusted: tells from the ASGI scope whether the caller's order, baggage and trace are believed.
    """

    def __init__(self, app: App, *, trusted: Callable[[AsgiScope], bool] = comes_from_inside) -> None:
        self._app = app
        self._trusted = trusted

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what is none."""
        traced = scope["type"] in ("http", "websocket") and is_http_instrumentation_enabled()
        request = guarded(FAULT, self._request, scope) if traced else None
        if request is None:
            await self._app(scope, receive, send)
            return
        with request:
            await self._app(scope, receive, request.observed(send))

    def _request(self, scope: AsgiScope) -> _Request:
        return _Request(scope, trusted=bool(guarded(FAULT, self._trusted, scope)))


class _Request(OpenSpan):
    """One request or websocket session: its span, and the order that is current while the application answers."""

    def __init__(self, scope: AsgiScope, *, trusted: bool) -> None:
        headers = _headers(scope)
        now = time.time_ns()
        arrived = arrival(headers, now)
        if not trusted:
            arrived = Arrival(baggage.clear(arrived.context), None, arrived.origin, now).in_a_trace_of_its_own(now)
        self._scope = scope
        self._method, attributes = named_method(scope.get("method", "GET"))
        self._status: int | None = None
        self._trailers = False
        outer = trace.get_current_span()
        self._borrowed = outer.is_recording() and getattr(outer, "kind", None) is SpanKind.SERVER
        span = outer if self._borrowed else self._opened(arrived, attributes | _attributes(scope, headers))
        super().__init__(FAULT, span)
        if self._borrowed and arrived.order is not None:
            span.set_attributes(arrived.order.attributes)
        self._order_scope = arrived.scope(span, _in_context_of(arrived) if self._borrowed else None)

    def _opened(self, arrived: Arrival, attributes: dict[str, Any]) -> Span:
        options = {"context": arrived.context, "links": arrived.links, "attributes": attributes}
        return start_span(self._method, arrived.order, kind=SpanKind.SERVER, **options)

    def observed(self, send: Send) -> Send:
        """Return *send*, with an eye on what is sent."""

        async def observed(event: Event) -> None:
            await send(guarded(FAULT, self._seen, event) or event)
            if self._is_last(event):
                self.end()

        return observed

    def _seen(self, event: Event) -> Event:
        """Note what *event* tells, and return what is sent in its place."""
        if event["type"] == "websocket.accept":
            self._status = SWITCHING_PROTOCOLS
        if event["type"] == "websocket.close" and self._status is None:
            self._status = FORBIDDEN
        if event["type"] not in ("http.response.start", "websocket.http.response.start"):
            return event
        self._status = event["status"]
        self._trailers = bool(event.get("trailers"))
        return {**event, "headers": [*event.get("headers", ()), *self._server_timing()]}

    def _server_timing(self) -> list[tuple[bytes, bytes]]:
        """Return the header by which a browser's session tracking finds the trace (W3C Server Timing)."""
        span = self.span.get_span_context()
        if not span.is_valid:
            return []
        parent = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
        return [(b"server-timing", f'traceparent;desc="{parent}"'.encode())]

    def _is_last(self, event: Event) -> bool:
        if self._trailers:
            return event["type"] == "http.response.trailers" and not event.get("more_trailers")
        return event["type"] == "http.response.body" and not event.get("more_body")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.end(error)
        guarded(FAULT, self._order_scope.close)

    def end(self, error: BaseException | None = None, at: int | None = None) -> None:
        """End the span, unless it belongs to the framework, which then does."""
        if not self._borrowed:
            super().end(error, at)

    def describe(self, error: BaseException | None) -> None:
        """Put route and answer on the span.  An error before any answer is a 500: the server gives it (ASGI, HTTP)."""
        if (route := _route(self._scope)) is not None:
            self.span.set_attribute(HTTP_ROUTE, route)
            self.span.update_name(f"{self._method} {route}")
        status = SERVER_ERROR if self._status is None and isinstance(error, Exception) else self._status
        if status is not None:
            self.span.set_attribute(HTTP_RESPONSE_STATUS_CODE, status)
        if error is None and status is not None and status >= SERVER_ERROR:
            self.span.set_attribute(ERROR_TYPE, str(status))
            self.span.set_status(Status(StatusCode.ERROR))
        super().describe(error)


def _in_context_of(arrived: Arrival) -> Context:
    """Return the current context, which a framework made for the request, with no baggage but what has *arrived*."""
    context = baggage.clear()
    for name, value in baggage.get_all(arrived.context).items():
        context = baggage.set_baggage(name, value, context)
    return context


def _headers(scope: AsgiScope) -> dict[str, str]:
    """Return the request's headers by lower-case name; several of one name as one list (RFC 9110, section 5.3)."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope.get("headers", ()):
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


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
