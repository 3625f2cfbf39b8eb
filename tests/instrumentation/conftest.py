"""Spans in memory, without a global provider; and after each test, proof that nothing leaked and nothing failed."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from opentelemetry.context import get_current
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_orders.context import current_order
from otel_orders.faults import failures
from otel_orders.instrumentation import spans as instrumentation_spans
from otel_orders.sinks.traces import OrderSpanProcessor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Tracer


class Spans:
    """What was traced: the finished spans by name, and a tracer as an application has one."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(OrderSpanProcessor())
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer: Tracer = self.provider.get_tracer("application")

    @property
    def finished(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def forget(self) -> None:
        """Forget what was traced so far."""
        self._exporter.clear()

    def of(self, start: str, at_least: int = 0) -> list[ReadableSpan]:
        """Return the finished spans whose name starts with *start*, by their end; wait until there are *at_least*."""
        deadline = time.monotonic() + 20
        while len(found := [span for span in self.finished if span.name.startswith(start)]) < at_least:
            assert time.monotonic() < deadline, f"{len(found)} of {at_least} spans {start!r}"
            time.sleep(0.01)
        return found

    def one(self, start: str) -> ReadableSpan:
        """Return the only finished span whose name starts with *start*; a server may end it after it has answered."""
        (span,) = self.of(start, at_least=1)
        return span


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    traced = Spans()
    monkeypatch.setattr(instrumentation_spans, "tracer", traced.provider.get_tracer("otel_orders"))
    yield traced
    traced.provider.shutdown()


class Faults:
    """The faults of the toolkit since the test began, by source.  A test that provokes some says so in *expected*."""

    def __init__(self) -> None:
        self._before = self._counted()
        self.expected: set[str] = set()

    @property
    def counted(self) -> set[str]:
        return {source for source, count in self._counted().items() if count > self._before.get(source, 0)}

    def _counted(self) -> dict[str, float]:
        samples = (sample for metric in failures().collect() for sample in metric.samples)
        return {sample.labels["sink"]: sample.value for sample in samples if sample.name.endswith("_total")}


@pytest.fixture(autouse=True)
def faults() -> Iterator[Faults]:
    seen = Faults()
    yield seen
    assert seen.counted == seen.expected


@pytest.fixture(autouse=True)
def _nothing_leaks() -> Iterator[None]:
    before = get_current()
    yield
    assert current_order() is None
    assert get_current() == before


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    """``serve(app)``: the base URL at which a real server answers with *app*."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(_served(app))


@contextmanager
def _served(app: Any) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)
