"""Instrument httpx, sync and async: one client span for each request on the wire, redirects and retries included.

A span ends with the response's body, not with its headers, and so does the time that is counted.  Every host gets the
trace context, unless it is on the list of those that do not; baggage and the order go to internal hosts only: loopback
and private addresses, names of a single label, and those that instrument() was told.  A host on the list for pseudonyms
gets the order under a name that only we can resolve.  A proxy that can read a request is one more host that is told,
and the one that may know least decides.  The application's request is never changed, so that a redirect takes nothing
of ours to another host.

What is traced is what httpx's own transports send.  A transport of an application's own, or of a library, is traced
where it sends through one of them, each time that it does; ASGITransport, WSGITransport and MockTransport send nothing.

Where the official instrumentor is at work too, ours is inside of it, whichever came first (patching.py), and completes
its span, which it then ends with the headers.
"""

from __future__ import annotations

import atexit
import re
from typing import TYPE_CHECKING, Any

import httpx
from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled

from otel_orders.instrumentation.http_headers import Hosts, headers_for
from otel_orders.instrumentation.httpx_call import FAULT, Call, end_open, public_url, with_headers
from otel_orders.instrumentation.httpx_sends import counting, counting_async, one_request
from otel_orders.instrumentation.patching import Patches
from otel_orders.instrumentation.spans import guarded
from otel_orders.settings import HttpSettings, checked_hosts, read_http_settings

if TYPE_CHECKING:
    from collections.abc import Collection

    Args = tuple[Any, ...]
    Kwargs = dict[str, Any]

__all__ = ["HttpxInstrumentor", "instrument", "one_request", "public_url", "uninstrument"]

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
    internal = checked_hosts("internal_hosts", internal_hosts) + read.internal_hosts
    _Active.hosts = Hosts.of(read, internal)
    _Active.excluded = re.compile("|".join(read.excluded_urls)) if read.excluded_urls else None
    atexit.unregister(end_open)
    atexit.register(end_open)
    _patches.apply(
        (
            (httpx.Client, "send", counting),
            (httpx.AsyncClient, "send", counting_async),
            (httpx.HTTPTransport, "handle_request", _send),
            (httpx.AsyncHTTPTransport, "handle_async_request", _send_async),
        )
    )


def uninstrument() -> None:
    """Put httpx's own methods back, and end what nobody has read or closed."""
    _patches.restore()
    atexit.unregister(end_open)
    end_open()


class HttpxInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """What ``opentelemetry-instrument`` finds: the same as instrument() and uninstrument()."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the versions of httpx that are supported."""
        return ("httpx >= 0.27, < 1",)

    def _instrument(self, **_options: Any) -> None:
        instrument()

    def _uninstrument(self, **_options: Any) -> None:
        uninstrument()


def _send(wrapped: Any, transport: httpx.HTTPTransport, args: Args, kwargs: Kwargs) -> Any:
    call = _started(transport, args, kwargs)
    if not isinstance(call, Call):
        return wrapped(*args, **kwargs) if call is None else wrapped(call)
    with call:
        response = wrapped(call.request)
    guarded(FAULT, call.answered, response)
    return response


async def _send_async(wrapped: Any, transport: httpx.AsyncHTTPTransport, args: Args, kwargs: Kwargs) -> Any:
    call = _started(transport, args, kwargs)
    if not isinstance(call, Call):
        return await (wrapped(*args, **kwargs) if call is None else wrapped(call))
    with call:
        response = await wrapped(call.request)
    guarded(FAULT, call.answered, response)
    return response


def _started(transport: Any, args: Args, kwargs: Kwargs) -> Call | httpx.Request | None:
    """Return the call that begins, the request to send without a span of its own, or None where all is left alone."""
    if not (_patches.active and is_http_instrumentation_enabled()):
        return None
    return guarded(FAULT, _begun, transport, *args, **kwargs)


def _begun(transport: Any, request: httpx.Request) -> Call | httpx.Request:
    if _Active.excluded is None or not _Active.excluded.search(str(request.url)):
        return Call(request, transport, _Active.hosts)
    span = trace.get_current_span()
    return with_headers(request, headers_for(request, span, _Active.hosts, transport, renewed=False))
