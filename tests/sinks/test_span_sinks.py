from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceState

from otel_orders import order_context
from otel_orders.event import Heartbeat
from otel_orders.privacy import Masker
from otel_orders.sinks.exporters import MaskingSpanExporter, masked
from otel_orders.sinks.traces import OrderSpanProcessor, TraceSink
from tests.sinks.memory import Counted

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(OrderSpanProcessor())
    provider.add_span_processor(SimpleSpanProcessor(MaskingSpanExporter(exporter, Masker())))
    return provider


def test_every_span_inside_an_order_carries_it_whoever_starts_it(
    provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    tracer = provider.get_tracer("third.party")
    with order_context("4711", partner_id="acme"):
        tracer.start_span("inside").end()
        tracer.start_span("about another", attributes={"order_id": "B-2"}).end()
    tracer.start_span("outside").end()
    assert [dict(span.attributes or {}) for span in exporter.get_finished_spans()] == [
        {"order_id": "4711", "order_bucket": 33, "partner_id": "acme"},
        {"order_id": "B-2"},
        {},
    ]


def test_personal_data_leaves_with_no_part_of_a_span(provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    mail = "a@b.com"
    another = SpanContext(1, 2, is_remote=True, trace_state=TraceState([("vendor", mail)]))
    span = provider.get_tracer("theirs").start_span(f"GET /{mail}", links=[Link(another, {"to": mail})])
    span.set_attributes({"customer_name": "Ivan Petrov", "note": f"to {mail}", "order_id": "79161234567"})
    span.add_event(f"mailed {mail}", {"email": mail})
    span.record_exception(ValueError(mail))
    span.set_status(Status(StatusCode.ERROR, f"no such {mail}"))
    span.end()
    (kept,) = exporter.get_finished_spans()
    assert mail not in kept.to_json()
    assert "Ivan" not in kept.to_json()
    assert (kept.attributes or {})["order_id"] == "79161234567"
    assert [event.name for event in kept.events] == ["mailed [email]", "exception"]
    assert kept.status.status_code is StatusCode.ERROR


def test_what_identifies_a_span_is_not_changed(provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    tracer = provider.get_tracer("theirs", "1.0")
    with tracer.start_as_current_span("outer") as outer:
        inner: Any = tracer.start_span("inner", attributes={"email": "a@b.com"})
        inner.end()
    kept = exporter.get_finished_spans()[0]
    for name in ("context", "parent", "resource", "kind", "start_time", "end_time", "instrumentation_scope", "name"):
        assert getattr(kept, name) == getattr(inner, name)
    assert kept.parent == outer.get_span_context()


class Odd(SpanExporter):
    def __init__(self, result: SpanExportResult | Exception) -> None:
        self._result = result

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


@pytest.mark.parametrize("result", [SpanExportResult.FAILURE, ConnectionError("refused")])
def test_spans_that_cannot_be_sent_are_counted(result: Any) -> None:
    counted = Counted()
    exporter = MaskingSpanExporter(Odd(result), Masker())
    assert exporter.export([ReadableSpan("one"), ReadableSpan("two")]) is SpanExportResult.FAILURE
    assert counted.faults() == {"traces": 2}


def test_a_span_that_cannot_be_masked_is_not_sent_and_costs_no_neighbour(exporter: InMemorySpanExporter) -> None:
    counted = Counted()
    broken: Any = ReadableSpan("broken", events=[7])  # type: ignore[list-item]
    MaskingSpanExporter(exporter, Masker()).export([ReadableSpan("one"), broken, ReadableSpan("two")])
    assert [span.name for span in exporter.get_finished_spans()] == ["one", "two"]
    assert counted.faults() == {"masking": 1}


def test_masking_makes_a_copy() -> None:
    span = ReadableSpan("a@b.com", attributes={"email": "a@b.com"})
    assert masked(span, Masker()).name == "[email]"
    assert span.name == "a@b.com"


def test_the_exporter_is_flushed_and_shut_down_through_the_masking(exporter: InMemorySpanExporter) -> None:
    masking = MaskingSpanExporter(exporter, Masker())
    assert masking.force_flush()
    masking.shutdown()
    assert exporter.export([]) is SpanExportResult.FAILURE


def test_only_status_events_describe_a_span() -> None:
    beat = Heartbeat(event_id="0" * 32, service="mes", env="test", occurred_at=1, instance="host:1")
    TraceSink().emit(beat)
