"""Instrument httpx, sync and async: one client span for each request on the wire, redirects and retries included.

A span ends with the response's body, not with its headers, and so does the time that is counted.  Every host gets the
trace context, unless it is on the list of those that do not; baggage and the order go to internal hosts only: loopback
and private addresses, names of a single label, and those that instrument() was told.  A host on the list for pseudonyms
gets the order under a name that only we can resolve.  The application's request is never changed, so that a redirect
takes nothing of ours to another host.

Where the official instrumentor is at work too, ours is inside of it, whichever came first (patching.py), and completes
its span, which it then ends with the headers.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

import httpx
from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY, attach, get_current, set_value
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled
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
from otel_orders.instrumentation.http import DEFAULT_PORTS, named_method
from otel_orders.instrumentation.http_headers import Hosts, headers_for
from otel_orders.instrumentation.http_metrics import client_durations
from otel_orders.instrumentation.patching import Patches
from otel_orders.instrumentation.spans import Outbound, error_type, guarded, start_span
from otel_orders.settings import HttpSettings, read_http_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator

    from opentelemetry.trace import Span

    Args = tuple[Any, ...]
    Kwargs = dict[str, Any]

FAULT = "httpx"
"""The source under which faults of this module are counted."""

REDACTED = "REDACTED"
CONNECTION_RETRY = "http.connection.retry"
"""The event on a span that a connection could not be made, and is tried again."""

_OFFICIAL = "opentelemetry.instrumentation.httpx"

_patches = Patches()


class _Active:
    """What instrument() was told last."""

    hosts = Hosts()
    excluded: re.Pattern[str] | None = None


def instrument(internal_hosts: tuple[str, ...] = (), settings: HttpSettings | None = None) -> None:
    """Trace what goes through httpx's own transports.  Harmless when it is done already; the last call counts.

    internal_hosts: names of hosts that may see baggage and order ids; one that starts with a dot means all below it.
    settings: what is read from the environment by default.  Raises ConfigurationError where that cannot be read.
    """
    read = settings or read_http_settings()
    _Active.hosts = Hosts.of(read, (*internal_hosts, *read.internal_hosts))
    _Active.excluded = re.compile("|".join(read.excluded_urls)) if read.excluded_urls else None
    _patches.apply(
        (
            (httpx.Client, "send", _counting),
            (httpx.AsyncClient, "send", _counting_async),
            (httpx.HTTPTransport, "handle_request", _send),
            (httpx.AsyncHTTPTransport, "handle_async_request", _send_async),
        )
    )


def uninstrument() -> None:
    """Put httpx's own methods back."""
    _patches.restore()


class HttpxInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """What ``opentelemetry-instrument`` finds: the same as instrument() and uninstrument()."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the versions of httpx that are supported."""
        return ("httpx >= 0.27, < 1",)

    def _instrument(self, **_options: Any) -> None:
        instrument()

    def _uninstrument(self, **_options: Any) -> None:
        uninstrument()


class _Sends:
    """How often one request has been sent.  kept: whether several calls of the client are about that one request."""

    __slots__ = ("count", "kept")

    def __init__(self, *, kept: bool = False) -> None:
        self.count = 0
        self.kept = kept


_SENDS: ContextVar[_Sends | None] = ContextVar("otel_orders_sends", default=None)


@contextmanager
def one_request() -> Iterator[None]:
    """Count what is sent inside the block as one request that is sent again: for an application's own retries."""
    before = _SENDS.get()
    _SENDS.set(_Sends(kept=True))
    try:
        yield
    finally:
        _SENDS.set(before)


def public_url(url: httpx.URL) -> str:
    """Return *url* without credentials, fragment and the values of its query."""
    path, _, query = url.raw_path.decode("ascii", "replace").partition("?")
    shown = f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}{path}"
    if not query:
        return shown
    parts = (part.partition("=") for part in query.split("&"))
    return f"{shown}?" + "&".join(f"{key}={REDACTED}" if equals else REDACTED for key, equals, _ in parts)


class _Call(Outbound):
    """One request on the wire, from its headers to the end of the response's body."""

    def __init__(self, request: httpx.Request, transport: Any) -> None:
        self._began = time.perf_counter()
        outer = trace.get_current_span()
        self._borrowed = _is_official(outer)
        url = request.url
        name, attributes = named_method(request.method)
        self._method = attributes[HTTP_REQUEST_METHOD]
        self._host, self._port = url.host, url.port or DEFAULT_PORTS.get(url.scheme)
        self._status = ""
        super().__init__(FAULT, outer if self._borrowed else self._opened(name, url, attributes))
        self._complete()
        self.request = _with_headers(request, headers_for(request, self.span, _Active.hosts, renewed=self._borrowed))
        if getattr(getattr(transport, "_pool", None), "_retries", 0):
            self.request.extensions = _with_trace(request.extensions, self.span, transport)

    def _opened(self, name: str, url: httpx.URL, attributes: dict[str, Any]) -> Span:
        if self._host:
            attributes[SERVER_ADDRESS] = self._host
        if self._port is not None:
            attributes[SERVER_PORT] = self._port
        attributes[URL_FULL] = public_url(url)
        return start_span(name, current_order(), kind=SpanKind.CLIENT, attributes=attributes)

    def _complete(self) -> None:
        """Add what only we know: the order, on a span of others, and how often the request was sent before."""
        if self._borrowed and (order := current_order()) is not None:
            self.span.set_attributes(order.attributes)
        sends = _SENDS.get()
        if sends is not None:
            if sends.count:
                self.span.set_attribute(HTTP_REQUEST_RESEND_COUNT, sends.count)
            sends.count += 1

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
        self._status = str(response.status_code)
        self.span.set_attribute(HTTP_RESPONSE_STATUS_CODE, response.status_code)
        if response.status_code >= httpx.codes.BAD_REQUEST:
            self.span.set_attribute(ERROR_TYPE, self._status)
            self.span.set_status(Status(StatusCode.ERROR))
        stream = response.stream
        if isinstance(stream, httpx.SyncByteStream):
            response.stream = _Body(stream, self)
        elif isinstance(stream, httpx.AsyncByteStream):
            response.stream = _AsyncBody(stream, self)

    def end(self, error: BaseException | None = None, at: int | None = None) -> None:
        """Count the request, and end the span, unless it belongs to the official instrumentor, which then does."""
        if self.ended:
            return
        guarded(FAULT, self._count, error)
        if self._borrowed:
            self.ended = True
        else:
            super().end(error, at)

    def _count(self, error: BaseException | None) -> None:
        failed = "" if error is None or isinstance(error, GeneratorExit) else error_type(error)
        if not failed and self._status >= str(httpx.codes.BAD_REQUEST.value):
            failed = self._status
        port = "" if self._port is None else str(self._port)
        client_durations().observe(
            time.perf_counter() - self._began, (self._method, self._host, port, self._status, failed)
        )


def _is_official(span: Span) -> bool:
    scope = getattr(span, "instrumentation_scope", None)
    return scope is not None and scope.name == _OFFICIAL and span.is_recording()


def _with_headers(request: httpx.Request, headers: list[tuple[bytes, bytes]]) -> httpx.Request:
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


class _Body(httpx.SyncByteStream):
    """A response's body, whose end is the end of the call."""

    def __init__(self, stream: httpx.SyncByteStream, call: _Call) -> None:
        self._stream = stream
        self._call = call

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except BaseException as error:
            self._call.end(error)
            raise
        self._call.end()

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._call.end()


class _AsyncBody(httpx.AsyncByteStream):
    """A response's body, whose end is the end of the call."""

    def __init__(self, stream: httpx.AsyncByteStream, call: _Call) -> None:
        self._stream = stream
        self._call = call

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except BaseException as error:
            self._call.end(error)
            raise
        self._call.end()

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._call.end()


def _counting(wrapped: Any, _client: httpx.Client, args: Args, kwargs: Kwargs) -> Any:
    before = _SENDS.get()
    if before is not None and before.kept:
        return wrapped(*args, **kwargs)
    _SENDS.set(_Sends())
    try:
        return wrapped(*args, **kwargs)
    finally:
        _SENDS.set(before)


async def _counting_async(wrapped: Any, _client: httpx.AsyncClient, args: Args, kwargs: Kwargs) -> Any:
    before = _SENDS.get()
    if before is not None and before.kept:
        return await wrapped(*args, **kwargs)
    _SENDS.set(_Sends())
    try:
        return await wrapped(*args, **kwargs)
    finally:
        _SENDS.set(before)


def _send(wrapped: Any, transport: httpx.HTTPTransport, args: Args, kwargs: Kwargs) -> Any:
    call = _started(transport, args, kwargs)
    if not isinstance(call, _Call):
        return wrapped(*args, **kwargs) if call is None else wrapped(call)
    with call:
        response = wrapped(call.request)
    guarded(FAULT, call.answered, response)
    return response


async def _send_async(wrapped: Any, transport: httpx.AsyncHTTPTransport, args: Args, kwargs: Kwargs) -> Any:
    call = _started(transport, args, kwargs)
    if not isinstance(call, _Call):
        return await (wrapped(*args, **kwargs) if call is None else wrapped(call))
    with call:
        response = await wrapped(call.request)
    guarded(FAULT, call.answered, response)
    return response


def _started(transport: Any, args: Args, kwargs: Kwargs) -> _Call | httpx.Request | None:
    """Return the call that begins, the request to send without a span of its own, or None where all is left alone."""
    if not (_patches.active and is_http_instrumentation_enabled()):
        return None
    return guarded(FAULT, _begun, transport, *args, **kwargs)


def _begun(transport: Any, request: httpx.Request) -> _Call | httpx.Request:
    if _Active.excluded is None or not _Active.excluded.search(str(request.url)):
        return _Call(request, transport)
    return _with_headers(request, headers_for(request, trace.get_current_span(), _Active.hosts, renewed=False))
