"""What stands between the SDK's batch processors and an exporter: masking, and counting what is lost.

Knows nothing of events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, Status

from otel_orders.faults import count_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.sdk.trace import Event as SpanEvent

    from otel_orders.privacy import Masker

T = TypeVar("T")
R = TypeVar("R")

FAULT = "traces"
"""The source under which lost spans are counted."""

SHUTDOWN_SECONDS = 2.5
"""Longest time that the shutdown of one batch processor takes."""


class Sending:
    """Counts what an exporter loses: what it cannot send, and what it still holds when it is given up."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._held = 0

    def through(self, export: Callable[[Sequence[T]], R], batch: Sequence[T]) -> R | None:
        """Export *batch*; return the result, None where *export* raised."""
        self._held, result = len(batch), None
        error: Exception = ConnectionError()
        try:
            result = export(batch)
        except Exception as caught:
            error = caught
        if getattr(result, "name", None) != "SUCCESS" and (lost := self.give_up()):
            count_failure(self._source, error, lost)
        self._held = 0
        return result

    def give_up(self) -> int:
        """Return how many are held, for the caller to count."""
        held, self._held = self._held, 0
        return held


class MaskingSpanExporter(SpanExporter):
    """Masks personal data in attributes, events, links and status of spans, then hands them to *exporter*.

    Works in the exporter's thread, so the application does not wait for it.  What *exporter* could not send is counted.
    """

    def __init__(self, exporter: SpanExporter, masker: Masker) -> None:
        self.exporter = exporter
        self.sending = Sending(FAULT)
        self.masker = masker

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export masked copies of *spans*."""
        kept = [copy for span in spans if (copy := self._copy(span)) is not None]
        return self.sending.through(self.exporter.export, kept) or SpanExportResult.FAILURE

    def _copy(self, span: ReadableSpan) -> ReadableSpan | None:
        try:
            return masked(span, self.masker)
        except Exception as error:  # what cannot be masked is not sent, and costs no neighbour
            count_failure("masking", error)
            return None

    def shutdown(self) -> None:
        """Shut the wrapped exporter down."""
        self.exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the wrapped exporter."""
        return self.exporter.force_flush(timeout_millis)


def masked(span: ReadableSpan, masker: Masker) -> ReadableSpan:
    """Return a copy of *span* without personal data."""
    status = span.status
    if status.description:
        status = Status(status.status_code, masker.mask_text(status.description))
    return ReadableSpan(
        name=masker.mask_text(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_masked_attributes(span.attributes, masker),
        events=tuple(_masked_event(event, masker) for event in span.events),
        links=tuple(_masked_link(link, masker) for link in span.links),
        kind=span.kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _masked_attributes(attributes: Mapping[str, Any] | None, masker: Masker) -> dict[str, Any]:
    return masker.mask_mapping(attributes) if attributes else {}


def _masked_link(link: Link, masker: Masker) -> Link:
    """Return *link* masked and without the other one's trace state: nobody after us can look at it."""
    other = link.context
    context = SpanContext(other.trace_id, other.span_id, other.is_remote, other.trace_flags)
    return Link(context, _masked_attributes(link.attributes, masker))


def _masked_event(event: SpanEvent, masker: Masker) -> SpanEvent:
    return type(event)(masker.mask_text(event.name), _masked_attributes(event.attributes, masker), event.timestamp)


def shut_down(processor: Any, source: str) -> None:
    """Shut one of the SDK's batch processors down within SHUTDOWN_SECONDS, and count what was not sent by then.

    Their own shutdown() waits 30 s for an endpoint that does not answer; the part that they share takes a limit.
    """
    batches = processor._batch_processor  # noqa: SLF001 - the SDK has no public way
    batches.shutdown(timeout_millis=int(SHUTDOWN_SECONDS * 1000))
    if lost := len(batches._queue) + batches._exporter.sending.give_up():  # noqa: SLF001
        count_failure(source, TimeoutError(), lost)
