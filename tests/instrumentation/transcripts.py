"""What an application sees of its messages, written down so that a run with us and one without can be compared.

Knows the types of both AMQP clients, but no connection.  What we add to a message (headers, and a timestamp where it
has none) is left out, and so is what no two runs have in common: generated names and addresses.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from otel_orders import names
from otel_orders.instrumentation.amqp import CARRIED
from tests.instrumentation.test_coexistence import both
from tests.instrumentation.test_http_identical import BrokenEnd, BrokenExporter, BrokenStart

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest
    from opentelemetry.sdk.trace import SpanProcessor

    from tests.instrumentation.conftest import Spans

BREAKS: dict[str, SpanProcessor | None] = {
    "nothing": None,
    "exporter": SimpleSpanProcessor(BrokenExporter()),
    "start": BrokenStart(),
    "end": BrokenEnd(),
}
OFFICIAL = {"official first": "theirs", "official last": "ours"}

HEADERS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "odd": {
        "traceparent": 7,
        "tracestate": None,
        "baggage": [1, {"order_id": None}],
        "x-delivery-count": "often",
        names.PUBLISHED_AT_HEADER: True,
        names.TRACE_STARTED_AT_HEADER: {"nested": [{"table": None}]},
        "own": {"nested": {"list": [1, "two", None, True], "none": None}},
    },
    "malformed": {"traceparent": "00-zz-1", "tracestate": "=,=", "baggage": "\u0000=;,\ufffd", "own": ""},
    "64 KB baggage": {"baggage": "order_id=" + "4" * 65_536},
}
"""Headers of messages that come from elsewhere."""

CONDITIONS = [*((broken, "ours") for broken in (*BREAKS, *OFFICIAL)), *(("nothing", headers) for headers in HEADERS)]

TOO_LONG = 140_000
"""Characters that no frame of AMQP takes: RabbitMQ closes the connection."""

FACTS = ("pika.spec", "pamqp", "aio_pika.message", "aiormq.abc", "pika.adapters.blocking_connection")
"""Modules whose plain objects are written down field by field; of any other object it is the type."""
LIVE = ("Channel", "Connection")
LOGGERS = ("pika", "aio_pika", "aiormq")

_TIMES = ("timestamp",)
_BROKERS_CHOICE = ("multiple",)
"""How many confirmations the broker puts into one."""
_GENERATED = re.compile(
    r"amq[._](?:gen-)?[\w-]{22,}|ctag\d+\.\w+|\b[0-9a-f]{32}\b|\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\b0x[0-9a-f]+"
)


def shown(seen: Any) -> Any:
    """Return *seen* as it can be compared: types count, and so do the fields of what the clients hand out."""
    if isinstance(seen, BaseException):
        return type(seen).__qualname__, shown(seen.args)
    if isinstance(seen, Mapping):
        return {key: shown(value) for key, value in seen.items() if key not in CARRIED} or None
    if isinstance(seen, (list, tuple)):
        return type(seen).__qualname__, [shown(part) for part in seen]
    if seen is None or isinstance(seen, (str, bytes, int, float, datetime)):
        return _GENERATED.sub("...", repr(seen))
    kind = type(seen)
    if not kind.__module__.startswith(FACTS) or kind.__qualname__.endswith(LIVE):
        return kind.__qualname__
    return kind.__qualname__, {name: shown(value) for name, value in _fields(seen).items()}


def _fields(seen: Any) -> dict[str, Any]:
    slots = [name for kind in type(seen).__mro__ for name in getattr(kind, "__slots__", ()) if name[:1] != "_"]
    fields = {name: getattr(seen, name, None) for name in (*slots, *getattr(seen, "__dict__", ()))}
    if fields.get("headers") is not None:
        fields["headers"] = shown(fields["headers"])
    told = {name: value for name, value in fields.items() if name[:1] != "_" and name not in _BROKERS_CHOICE}
    return {name: _own_time(value) if name in _TIMES else value for name, value in told.items()}


def _own_time(timestamp: Any) -> Any:
    """Return *timestamp* if the application gave it, which is in 2001; ours is now."""
    seconds = timestamp.timestamp() if isinstance(timestamp, datetime) else timestamp
    return timestamp if seconds is not None and seconds < 1_100_000_000 else None


class Log(list[Any]):
    """What an application saw, in order."""

    def note(self, *seen: Any) -> None:
        """Write down what was seen at once."""
        self.append([shown(part) for part in seen])

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Write down what the block raises; it ends there."""
        try:
            yield
        except BaseException as error:
            self.append(("raised", shown(error)))

    @contextmanager
    def complete(self) -> Iterator[None]:
        """Write down, after all else, what the block has logged and warned of."""
        collected = _Records()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            for name in LOGGERS:
                logging.getLogger(name).addHandler(collected)
            try:
                yield
            finally:
                for name in LOGGERS:
                    logging.getLogger(name).removeHandler(collected)
        self.append(sorted(collected.seen))
        self.append([(warning.category, shown(str(warning.message))) for warning in warned])


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen: list[tuple[str, str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "aio_pika.tools":  # what a robust channel says depends on how far it is with coming back
            self.seen.append((record.name, record.levelname, str(record.msg)[:40]))


@contextmanager
def instrumented(
    condition: str, theirs: Any, ours: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Instrument by *ours*, with something broken in it or with *theirs* at work too."""
    if condition in OFFICIAL:
        with both(theirs, ours, OFFICIAL[condition], spans):
            yield
        return
    provider = TracerProvider(shutdown_on_exit=False)
    if (processor := BREAKS[condition]) is not None:
        provider.add_span_processor(processor)
    monkeypatch.setattr("otel_orders.instrumentation.spans.tracer", provider.get_tracer("otel_orders"))
    ours.instrument()
    try:
        yield
    finally:
        ours.uninstrument()
