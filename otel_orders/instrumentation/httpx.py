"""Instrument httpx, sync and async: one client span for each request on the wire, redirects and retries included.

A span ends with the response's body, not with its headers.  Every host gets the trace context; baggage and the order
go to internal hosts only: loopback and private addresses, names of a single label, and those that instrument() was
told.  The application's request is never changed, so that a redirect takes nothing of ours to another host.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import httpx
from opentelemetry.context import get_current
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import HTTP_RESPONSE_STATUS_CODE
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.semconv.attributes.url_attributes import URL_FULL
from opentelemetry.trace import SpanKind, Status, StatusCode

from otel_orders import names
from otel_orders.context import current_order
from otel_orders.instrumentation.headers import BAGGAGE, TRACEPARENT, outgoing, outgoing_trace, started_at
from otel_orders.instrumentation.http import DEFAULT_PORTS, is_private, named_method
from otel_orders.instrumentation.patching import Patches
from otel_orders.instrumentation.spans import Outbound, guarded, start_span

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    Args = tuple[Any, ...]
    Kwargs = dict[str, Any]

FAULT = "httpx"
"""The source under which faults of this module are counted."""

REDACTED = "REDACTED"

_patches = Patches()


class _Active:
    """What instrument() was told last."""

    internal_hosts: tuple[str, ...] = ()


def instrument(internal_hosts: tuple[str, ...] = ()) -> None:
    """Trace what goes through httpx's own transports.  Harmless when it is done already; the last call counts.

    internal_hosts: names of hosts that may see baggage and order ids; one that starts with a dot means all below it.
    """
    _Active.internal_hosts = internal_hosts
    _patches.apply(
        (
            (httpx.HTTPTransport, "handle_request", _send),
            (httpx.AsyncHTTPTransport, "handle_async_request", _send_async),
        )
    )


def uninstrument() -> None:
    """Put httpx's own methods back."""
    _patches.restore()


@lru_cache(maxsize=1024)
def is_internal(host: str, internal_hosts: tuple[str, ...]) -> bool:
    """Return whether *host* may see baggage and order ids.

    A name of one label must start with a letter: `134744072` is one, and yet it is the address 8.8.8.8.
    """
    name = host.lower().rstrip(".")
    if is_private(name) or ("." not in name and name[:1].isalpha()):
        return True
    known = [known.lower() for known in internal_hosts]
    return name in known or any(name.endswith(suffix) for suffix in known if suffix.startswith("."))


def public_url(url: httpx.URL) -> str:
    """Return *url* without credentials, fragment and the values of its query."""
    shown = url.copy_with(username="", password="", query=None, fragment=None)
    if not url.query:
        return str(shown)
    parts = (part.partition("=") for part in url.query.decode("ascii", "replace").split("&"))
    return f"{shown}?" + "&".join(f"{key}={REDACTED}" if equals else REDACTED for key, equals, _ in parts)


class _Call(Outbound):
    """One request on the wire, from its headers to the end of the response's body."""

    def __init__(self, request: httpx.Request) -> None:
        name, attributes = named_method(request.method)
        attributes |= _location(request.url)
        super().__init__(FAULT, start_span(name, current_order(), kind=SpanKind.CLIENT, attributes=attributes))
        self.request = httpx.Request(
            request.method,
            request.url,
            headers=[*request.headers.raw, *self._headers(request)],
            stream=request.stream,
            extensions=request.extensions,
        )

    def _headers(self, request: httpx.Request) -> list[tuple[bytes, bytes]]:
        """Return what is added to the request's own headers, none of which is replaced."""
        if is_internal(request.url.host, _Active.internal_hosts):
            carried = outgoing(self.span, get_current())
            carried[names.TRACE_STARTED_AT_HEADER] = str(started_at(self.span))
        else:
            carried = outgoing_trace(self.span)
        if TRACEPARENT in request.headers:  # the application's own trace context; half of ours would spoil it
            carried = {key: value for key, value in carried.items() if key == BAGGAGE}
        return [(key.encode(), value.encode()) for key, value in carried.items() if key not in request.headers]

    def answered(self, response: httpx.Response) -> None:
        """Note *response*; its body ends the span."""
        self.span.set_attribute(HTTP_RESPONSE_STATUS_CODE, response.status_code)
        if response.status_code >= httpx.codes.BAD_REQUEST:
            self.span.set_attribute(ERROR_TYPE, str(response.status_code))
            self.span.set_status(Status(StatusCode.ERROR))
        stream = response.stream
        if isinstance(stream, httpx.SyncByteStream):
            response.stream = _Body(stream, self)
        elif isinstance(stream, httpx.AsyncByteStream):
            response.stream = _AsyncBody(stream, self)


def _location(url: httpx.URL) -> dict[str, Any]:
    found = {
        SERVER_ADDRESS: url.host,
        SERVER_PORT: url.port or DEFAULT_PORTS.get(url.scheme),
        URL_FULL: public_url(url),
    }
    return {name: value for name, value in found.items() if value is not None}


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


def _send(wrapped: Any, _transport: httpx.HTTPTransport, args: Args, kwargs: Kwargs) -> Any:
    call = guarded(FAULT, _Call, *args, **kwargs) if _traced() else None
    if call is None:
        return wrapped(*args, **kwargs)
    with call:
        response = wrapped(call.request)
    guarded(FAULT, call.answered, response)
    return response


async def _send_async(wrapped: Any, _transport: httpx.AsyncHTTPTransport, args: Args, kwargs: Kwargs) -> Any:
    call = guarded(FAULT, _Call, *args, **kwargs) if _traced() else None
    if call is None:
        return await wrapped(*args, **kwargs)
    with call:
        response = await wrapped(call.request)
    guarded(FAULT, call.answered, response)
    return response


def _traced() -> bool:
    return _patches.active and is_http_instrumentation_enabled()
