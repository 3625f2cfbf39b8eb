"""Which host is told what: the headers that go out with an HTTP request, by the lists of hosts.

Reads an httpx request, sends nothing.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import msgspec
from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, get_current

from otel_orders import names
from otel_orders.context import current_order
from otel_orders.instrumentation.headers import (
    BAGGAGE,
    MAX_HEADER,
    TRACEPARENT,
    TRACESTATE,
    outgoing,
    outgoing_trace,
    started_at,
)
from otel_orders.instrumentation.http import is_private, spelled

if TYPE_CHECKING:
    import httpx
    from opentelemetry.trace import Span

    from otel_orders.privacy import PseudonymKey
    from otel_orders.settings import HttpSettings

NOTHING, TRACE, PSEUDONYM, ALL = range(4)
"""What a host is told; each more than the one before."""

_SINGLE_LABEL = re.compile(r"[a-z][a-z0-9_-]*")
"""Must start with a letter: `134744072` is the address 8.8.8.8.  With a dot at its end, it is a name of the world."""


class Hosts(msgspec.Struct, frozen=True):
    """The lists of hosts: names, or suffixes that start with a dot.  See HttpSettings."""

    internal: tuple[str, ...] = ()
    untraced: tuple[str, ...] = ()
    pseudonymous: tuple[str, ...] = ()
    key: PseudonymKey | None = None

    @classmethod
    def of(cls, settings: HttpSettings, internal: tuple[str, ...]) -> Self:
        """Return the lists of *settings*, with *internal* as the internal ones."""
        return cls(internal, settings.no_trace_hosts, settings.pseudonym_hosts, settings.pseudonym_key)


@lru_cache(maxsize=1024)
def is_internal(host: str, internal_hosts: tuple[str, ...]) -> bool:
    """Return whether *host*, as it is on the wire, may see baggage and order ids."""
    return is_private(host) or bool(_SINGLE_LABEL.fullmatch(host.lower())) or _is_listed(host, internal_hosts)


@lru_cache(maxsize=1024)
def told(host: str, hosts: Hosts) -> int:
    """Return what *host*, as it is on the wire, is told.  Who is on a list of those who get less gets less."""
    if _is_listed(host, hosts.untraced):
        return NOTHING
    if hosts.key is not None and _is_listed(host, hosts.pseudonymous):
        return PSEUDONYM
    return ALL if is_internal(host, hosts.internal) else TRACE


def _is_listed(host: str, hosts: tuple[str, ...]) -> bool:
    name, known = spelled(host), [*map(spelled, hosts)]
    return name in known or any(name.endswith(suffix) for suffix in known if suffix.startswith("."))


def readers(url: httpx.URL, transport: Any) -> tuple[str, ...]:
    """Return the hosts that can read a request to *url*: its own and, where nothing is encrypted, the proxy."""
    proxy = getattr(getattr(transport, "_pool", None), "_proxy_url", None) if url.scheme == "http" else None
    return tuple(host.decode("ascii") for host in (url.raw_host, *(() if proxy is None else (proxy.host,))))


def headers_for(
    request: httpx.Request, span: Span, hosts: Hosts, transport: Any, *, renewed: bool
) -> list[tuple[bytes, bytes]]:
    """Return the headers that *request* is sent with: its own, none replaced, and what its readers are told.

    transport: that sends it.  renewed: whether another instrumentor has added its own already, to any host, so that
    they are put right.
    """
    share = min(told(host, hosts) for host in readers(request.url, transport))
    carried = _carried(share, span, hosts)
    own = request.headers.raw
    present = {name.lower() for name, _ in own}
    if renewed:
        dropped = _dropped(share)
        own = [(name, value) for name, value in own if name.lower() not in dropped]
        present -= dropped
    if TRACEPARENT.encode() in present:  # the application's own trace context; half of ours would spoil it
        kept = (BAGGAGE, names.TRACE_STARTED_AT_HEADER) if renewed else (BAGGAGE,)
        carried = {name: value for name, value in carried.items() if name in kept}
    added = [(name.encode(), value.encode()) for name, value in carried.items()]
    return own + [header for header in added if header[0] not in present]


def _dropped(share: int) -> set[bytes]:
    """Return the headers of another instrumentor that this host may not have as they are."""
    theirs = {BAGGAGE.encode()} if baggage.get_all() else set()  # without any, the header is the application's own
    return theirs | {TRACEPARENT.encode(), TRACESTATE.encode()} if share == NOTHING else theirs


def _carried(share: int, span: Span, hosts: Hosts) -> dict[str, str]:
    if share == NOTHING:
        return {}
    if share == ALL:
        fitting = {name: value for name, value in outgoing(span, get_current()).items() if len(value) <= MAX_HEADER}
        return {**fitting, names.TRACE_STARTED_AT_HEADER: str(started_at(span))}  # a longer one costs the request: 431
    carried = outgoing_trace(span)
    order = current_order()
    if share == PSEUDONYM and hosts.key is not None and order is not None:
        alone = baggage.set_baggage(names.ORDER_ID, hosts.key.pseudonym(order.order_id), Context())
        W3CBaggagePropagator().inject(carried, alone)
    return carried
