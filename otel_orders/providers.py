"""OpenTelemetry providers and exporters, made from settings or found and completed.

Loaded by configure() only: importing it loads the SDK and, when an exporter is made, the exporter.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import get_tracer_provider, set_tracer_provider

from otel_orders.endings import within
from otel_orders.faults import logger
from otel_orders.sinks.exporters import SHUTDOWN_SECONDS, MaskingSpanExporter, shut_down
from otel_orders.sinks.logs import OtlpLogSink, otlp_exporter
from otel_orders.sinks.traces import OrderSpanProcessor, TraceSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_orders.privacy import Masker
    from otel_orders.settings import Settings


def resource(settings: Settings) -> Resource:
    """Return the resource of this process, what OTEL_RESOURCE_ATTRIBUTES adds included."""
    return Resource.create(
        {
            "service.name": settings.service,
            "service.instance.id": settings.instance,
            "deployment.environment.name": settings.env,
        }
    )


class _Own:
    """The provider that we made, once a process: OpenTelemetry's global one cannot be replaced or taken back."""

    provider: TracerProvider | None = None


class Tracing(NamedTuple):
    """flush: sends what is queued.  undo: sends it, and takes everything back.  end: sends it, as the process ends."""

    flush: Callable[[], object]
    undo: Callable[[], object]
    end: Callable[[], object]


def trace(settings: Settings, masker: Masker) -> Tracing:
    """Make spans carry orders and leave masked.

    A provider that the application made is completed.  Without one, ours is made; OTEL_TRACES_SAMPLER is in force
    there.  Without an endpoint its spans go nowhere, but log lines and messages have their trace all the same.
    """
    found = get_tracer_provider()
    if isinstance(found, TracerProvider) and found is not _Own.provider:
        return _completed(found, masker)
    provider = _own_provider(settings)
    if settings.otlp_spans is None:
        remove = _add(provider, OrderSpanProcessor())
        return Tracing(_nothing, remove, remove)
    exporting = BatchSpanProcessor(MaskingSpanExporter(_span_exporter(settings.otlp_spans), masker))
    remove = _add(provider, OrderSpanProcessor(), exporting)

    def undo() -> None:
        shut_down(exporting, TraceSink.name)
        remove()

    return Tracing(exporting.force_flush, undo, undo)


def _own_provider(settings: Settings) -> TracerProvider:
    made = _Own.provider
    if made is None:
        made = _Own.provider = TracerProvider(resource=resource(settings), shutdown_on_exit=False)
        set_tracer_provider(made)
    elif update := getattr(made, "_update_resource", None):  # configured again, perhaps under another name
        update(resource(settings))
    return made


def _add(provider: TracerProvider, *processors: SpanProcessor) -> Callable[[], None]:
    """Add *processors* to *provider*; return what takes them away, for which the SDK has no public way."""
    for processor in processors:
        provider.add_span_processor(processor)

    def remove() -> None:
        all_of_them = provider._active_span_processor  # noqa: SLF001 - see above
        kept = tuple(one for one in all_of_them._span_processors if one not in processors)  # noqa: SLF001
        all_of_them._span_processors = kept  # noqa: SLF001

    return remove


def _completed(provider: TracerProvider, masker: Masker) -> Tracing:
    """Complete the application's *provider*.  What it has queued is sent before its exporters are as they were.

    What is still queued after that, and all that ends while the process does, leaves masked too: then they stay.
    """
    undo = _complete(provider, masker)

    def flush() -> bool:
        return within(SHUTDOWN_SECONDS, provider.force_flush, "otel-orders-flush")

    return Tracing(provider.force_flush, lambda: flush() and undo(), flush)


def _complete(provider: TracerProvider, masker: Masker) -> Callable[[], None]:
    """Complete the application's *provider*: orders on its spans, masking before its exporters; return what undoes it.

    The SDK has no public way to stand before an exporter, so where that cannot be done it is said.
    """
    with ExitStack() as undo:
        for processor in getattr(provider._active_span_processor, "_span_processors", ()):  # noqa: SLF001 - see above
            undo.callback(_mask_before(processor, masker))
        undo.callback(_add(provider, OrderSpanProcessor()))
        return undo.pop_all().close


def _mask_before(processor: SpanProcessor, masker: Masker) -> Callable[[], None]:
    for holder, name in ((getattr(processor, "_batch_processor", None), "_exporter"), (processor, "span_exporter")):
        exporter = getattr(holder, name, None)
        if isinstance(exporter, SpanExporter) and not isinstance(exporter, MaskingSpanExporter):
            setattr(holder, name, MaskingSpanExporter(exporter, masker))
            return partial(setattr, holder, name, exporter)
        if isinstance(exporter, MaskingSpanExporter):  # of an earlier configure()
            exporter.masker = masker
            return _nothing
    if type(processor).on_end is not SpanProcessor.on_end:
        logger.warning(
            "otel_orders: cannot mask the spans that %s sends; wrap its exporter in"
            " otel_orders.sinks.exporters.MaskingSpanExporter",
            type(processor).__qualname__,
        )
    return _nothing


def _nothing() -> None:
    """Undo what was not done."""


def event_sink(settings: Settings, protocol: str) -> OtlpLogSink:
    """Return the sink that sends event records to the OTLP endpoint."""
    return OtlpLogSink(otlp_exporter(protocol), resource(settings))


def _span_exporter(protocol: str) -> SpanExporter:
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc  # noqa: PLC0415

        return grpc.OTLPSpanExporter()
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as http  # noqa: PLC0415

    return http.OTLPSpanExporter()
