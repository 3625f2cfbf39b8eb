"""One httpx request on the wire: its span, its count, and what is sent in its place.

Who is told what is in http_headers.py, what is wrapped in httpx.py.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import httpx
from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY, attach, get_current, set_value
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_REQUEST_RESEND_COUNT,
    HTTP_RESPONSE_STATUS_CODE,
)
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.semconv.attributes.url_attributes import URL_FULL
from opentelemetry.trace import SpanKind, Status, StatusCode

from otel_orders.context import current_order
from otel_orders.instrumentation.coexistence import injected_unsampled, official_span
from otel_orders.instrumentation.headers import TRACEPARENT
from otel_orders.instrumentation.http import DEFAULT_PORTS, named_method
from otel_orders.instrumentation.http_headers import headers_for
from otel_orders.instrumentation.http_metrics import client_durations, seconds_since
from otel_orders.instrumentation.httpx_body import ending
from otel_orders.instrumentation.httpx_sends import SENDS
from otel_orders.instrumentation.spans import Outbound, end_dropped, end_later, error_type, guarded, start_span

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Span

    from otel_orders.instrumentation.http_headers import Hosts

FAULT = "httpx"
"""The source under which faults of the instrumentation of httpx are counted."""

REDACTED = "REDACTED"
CONNECTION_RETRY = "http.connection.retry"
"""The event on a span that a connection could not be made, and is tried again."""


def public_url(url: httpx.URL) -> str:
    """Return *url* without credentials, fragment and the values of its query."""
    path, _, query = url.raw_path.decode("ascii", "replace").partition("?")
    shown = f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}{path}"
    if not query:
        return shown
    parts = (part.partition("=") for part in query.split("&"))
    return f"{shown}?" + "&".join(f"{key}={REDACTED}" if equals else REDACTED for key, equals, _ in parts)


class Call(Outbound):
    """One request on the wire, from its headers to the end of the response's body.  request: what is to be sent."""

    def __init__(self, request: httpx.Request, transport: Any, hosts: Hosts) -> None:
        self._began = time.perf_counter()
        url = request.url
        name, attributes = named_method(request.method)
        self._method = attributes[HTTP_REQUEST_METHOD]
        self._host, self._port = url.host, url.port or DEFAULT_PORTS.get(url.scheme)
        self._status = ""
        self._sends = SENDS.get()
        theirs = official_span("httpx", SpanKind.CLIENT)
        super().__init__(FAULT, theirs or self._opened(name, url, attributes), adopted=theirs is not None)
        self.request = request
        guarded(FAULT, self._prepare, transport, hosts)

    def _prepare(self, transport: Any, hosts: Hosts) -> None:
        """Have the request carry the trace.  A fault in here, such as a propagator's, costs that and not the span."""
        request = self.request
        self._complete(request)
        renewed = self.adopted or injected_unsampled("httpx", request.headers.get(TRACEPARENT))
        self.request = with_headers(request, headers_for(request, self.span, hosts, transport, renewed=renewed))
        if getattr(getattr(transport, "_pool", None), "_retries", 0):
            self.request.extensions = _with_trace(request.extensions, self.span, transport)

    def _opened(self, name: str, url: httpx.URL, attributes: dict[str, Any]) -> Span:
        if self._host:
            attributes[SERVER_ADDRESS] = self._host
        if self._port is not None:
            attributes[SERVER_PORT] = self._port
        attributes[URL_FULL] = public_url(url)
        return start_span(name, current_order(), kind=SpanKind.CLIENT, attributes=attributes)

    def _complete(self, request: httpx.Request) -> None:
        """Add what only we know: the order, on a span of others, and how often the request was sent before."""
        if self.adopted and (order := current_order()) is not None:
            self.span.set_attributes(order.attributes)
        if self._sends is not None and (resent := self._sends.resent(request)):
            self.span.set_attribute(HTTP_REQUEST_RESEND_COUNT, resent)

    def __enter__(self) -> Self:
        """Make the span current, and keep an instrumentor below us from opening another one."""
        self._before = get_current()
        self._inside = set_value(
            _SUPPRESS_HTTP_INSTRUMENTATION_KEY, True, trace.set_span_in_context(self.span, self._before)
        )
        attach(self._inside)
        return self

    def answered(self, response: httpx.Response) -> None:
        """Note *response*; its body ends the span."""
        _open.add(self)
        ending(response, self)
        self._status = str(response.status_code)
        if self._sends is not None:
            self._sends.answered(response)
        self.span.set_attribute(HTTP_RESPONSE_STATUS_CODE, response.status_code)
        if response.status_code >= httpx.codes.BAD_REQUEST:
            self.span.set_attribute(ERROR_TYPE, self._status)
            self.span.set_status(Status(StatusCode.ERROR))

    def end(self, error: BaseException | None = None, at: int | None = None) -> None:
        """Count the request, and end the span, unless it belongs to the official instrumentor, which then does."""
        _open.discard(self)
        if not self.over:
            guarded(FAULT, self._count, error, at)
        super().end(error, at)

    def let_go(self) -> None:
        """Have it ended later, as of now."""
        if not self.over:
            end_later(self, time.time_ns())

    def _count(self, error: BaseException | None, at: int | None) -> None:
        failed = "" if error is None or isinstance(error, GeneratorExit) else error_type(error)
        if not failed and self._status >= str(httpx.codes.BAD_REQUEST.value):
            failed = self._status
        port = "" if self._port is None else str(self._port)
        labels = (self._method, self._host, port, self._status, failed)
        client_durations().observe(seconds_since(self._began, at), labels)


_open: set[Call] = set()
"""Answered, and neither read nor closed yet."""


def end_open() -> None:
    """End what is open: nobody will be there any more when it is read or closed.  Never raises."""
    end_dropped()
    while _open:
        with suppress(KeyError):  # another thread was faster
            _open.pop().end()


def with_headers(request: httpx.Request, headers: list[tuple[bytes, bytes]]) -> httpx.Request:
    """Return *request* with other headers; the body, and what else it is, is shared."""
    sent = request.__class__.__new__(request.__class__)
    vars(sent).update(vars(request))
    sent.headers = httpx.Headers(headers)
    return sent


def _with_trace(extensions: Any, span: Span, transport: Any) -> dict[str, Any]:
    """Return *extensions* with an eye on httpcore's trace, where the retries of a connection can be seen."""
    theirs: Callable[[str, Any], Any] | None = extensions.get("trace")

    def note(event: str) -> None:
        if event == "connection.retry.started":
            guarded(FAULT, span.add_event, CONNECTION_RETRY)

    def observed(event: str, about: Any) -> None:
        note(event)
        if theirs is not None:
            theirs(event, about)

    async def observed_async(event: str, about: Any) -> None:
        note(event)
        if theirs is not None:
            await theirs(event, about)

    is_async = isinstance(transport, httpx.AsyncHTTPTransport)
    return {**extensions, "trace": observed_async if is_async else observed}
