"""Spans, trace context and the current order for the clients and servers that a service already uses.

One module a client; ``amqp.py`` and ``http.py`` hold, without any client, what two of them share.  A client is only
imported when it is installed and its instrumentation is switched on.  The ASGI middleware is added by hand, see
``asgi.py``.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

_CLIENTS = ("pika", "aio_pika", "httpx")


def instrument_all(
    *,
    young_for: int = 20_000_000_000,
    long_queues: frozenset[str] = frozenset(),
    internal_hosts: tuple[str, ...] = (),
) -> None:
    """Instrument every supported client that is installed.  Harmless when they are already; the last call counts.

    young_for: for how long after its start a trace is continued over a queue, in ns.  long_queues: queues whose
    consumers always start a linked trace of their own.  internal_hosts: further hosts, or suffixes that start with a
    dot, that may be told which order a request is about.
    """
    amqp = import_module(f"{__name__}.amqp")
    options = dict.fromkeys(("pika", "aio_pika"), amqp.Propagation(young_for, long_queues)) | {"httpx": internal_hosts}
    for client in filter(find_spec, _CLIENTS):
        import_module(f"{__name__}.{client}").instrument(options[client])


def uninstrument_all() -> None:
    """Put back every original that instrument_all() replaced."""
    for client in filter(find_spec, _CLIENTS):
        import_module(f"{__name__}.{client}").uninstrument()
