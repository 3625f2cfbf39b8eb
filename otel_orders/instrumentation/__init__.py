"""Spans, trace context and the current order for the clients and servers that a service already uses.

One module a client; ``amqp.py`` and ``http.py`` hold, without any client, what two of them share.  A client is only
imported when it is installed and its instrumentation is switched on.  The ASGI middleware is added by hand, see
``asgi.py``.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from otel_orders.instrumentation.amqp import DEFAULT, Propagation
from otel_orders.instrumentation.spans import guarded
from otel_orders.instrumentation.tracking import Tracking

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import CollectorRegistry

    from otel_orders.lifecycle_model import Queue

_CLIENTS = ("pika", "aio_pika", "httpx")


def instrument_all(
    *,
    young_for: int = DEFAULT.young_for,
    long_queues: frozenset[str] = DEFAULT.long_queues,
    internal_hosts: tuple[str, ...] = (),
    registry: CollectorRegistry | None = None,
    queues: Iterable[Queue] = (),
) -> None:
    """Instrument every supported client that is installed.  Harmless when they are already; the last call counts.

    young_for: for how long after its start a trace is continued over a queue, in ns.  long_queues: queues whose
    consumers always start a linked trace of their own.  internal_hosts: further hosts, or suffixes that start with a
    dot, that may be told which order a request is about.  registry: for the metrics of messages, None for none.
    queues: of the lifecycle; messages of the tracked ones are recorded.  A client that cannot be instrumented is
    counted as a fault and works on untraced.
    """
    propagation, tracked = Propagation(young_for, long_queues), Tracking(tuple(queues))
    for client in filter(find_spec, _CLIENTS):
        options = (internal_hosts,) if client == "httpx" else (propagation, registry, tracked)
        guarded(client, _instrument, client, *options)


def _instrument(client: str, *options: object) -> None:
    import_module(f"{__name__}.{client}").instrument(*options)


def uninstrument_all() -> None:
    """Put back every original that instrument_all() replaced."""
    for client in filter(find_spec, _CLIENTS):
        guarded(client, _uninstrument, client)


def _uninstrument(client: str) -> None:
    import_module(f"{__name__}.{client}").uninstrument()
