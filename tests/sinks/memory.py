"""Spans kept in memory.  OpenTelemetry's global provider is set once a process, so all tests share one."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from otel_orders import names
from otel_orders.faults import failures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import SpanProcessor


def global_provider() -> TracerProvider:
    """Return the process's provider, made if there is none."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider(shutdown_on_exit=False)
        trace.set_tracer_provider(provider)
    return provider


@contextmanager
def added(*processors: SpanProcessor) -> Iterator[None]:
    """Add *processors* to the global provider, inside the block."""
    provider = global_provider()
    for processor in processors:
        provider.add_span_processor(processor)
    try:
        yield
    finally:
        all_of_them = provider._active_span_processor
        all_of_them._span_processors = tuple(one for one in all_of_them._span_processors if one not in processors)


@contextmanager
def kept_spans() -> Iterator[InMemorySpanExporter]:
    """Keep the spans that end inside the block."""
    exporter = InMemorySpanExporter()
    with added(SimpleSpanProcessor(exporter)):
        yield exporter


class Counted:
    """The faults that were counted since this was made."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(failures())
        self._before = self._all()

    def _all(self) -> dict[str, float]:
        samples = next(iter(self._registry.collect())).samples
        return {found.labels["sink"]: found.value for found in samples if found.name == names.SINK_FAILURES}

    def faults(self) -> dict[str, int]:
        """Return the number of faults by source, without the sources that had none."""
        since = {sink: int(count - self._before.get(sink, 0)) for sink, count in self._all().items()}
        return {sink: count for sink, count in since.items() if count}
