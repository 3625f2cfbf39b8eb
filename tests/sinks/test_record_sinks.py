from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource

from otel_orders import transition_context
from otel_orders.event import AnyEvent, Heartbeat, StatusChanged, TransitionFailed
from otel_orders.recorder import Recorder, activate
from otel_orders.sinks import exporters, logs
from otel_orders.sinks.json_lines import JsonLineSink
from otel_orders.sinks.logs import OtlpLogSink
from tests.sinks.memory import Counted, kept_spans
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk._logs import ReadableLogRecord

ABOUT: dict[str, Any] = {
    "event_id": "0" * 32,
    "service": "mes",
    "env": "test",
    "occurred_at": 1_800_000_000_000_000_000,
}
MOVED = StatusChanged(
    **ABOUT, order_id="A-1", from_status="PACKAGING", to_status="SHIPPED", duration=5, attributes={"cents": 1200}
)
FAILED = TransitionFailed(**ABOUT, order_id="A-1", from_status="PACKAGING", to_status="SHIPPED", error_code="refused")
BEAT = Heartbeat(**ABOUT, instance="host:1")


# JSON lines.


@pytest.mark.parametrize(
    ("event", "more"),
    [
        (MOVED, {"status": "SHIPPED", "event_type": "order.status_changed", "attributes": {"cents": 1200}}),
        (FAILED, {"status": "PACKAGING", "event_type": "order.transition_failed", "error_code": "refused"}),
        (BEAT, {"event_type": "service.heartbeat", "instance": "host:1"}),
    ],
)
def test_a_line_holds_the_whole_event_its_time_and_its_status(event: Any, more: dict[str, Any]) -> None:
    lines: list[bytes] = []
    JsonLineSink(lines.append).emit(event)
    (line,) = lines
    assert line.endswith(b"}\n")
    fields = json.loads(line)
    assert fields | more | ABOUT == fields
    assert fields["timestamp"] == "2027-01-15T08:00:00.000000Z"
    assert ("status" in fields) == ("status" in more)
    assert msgspec.json.decode(line, type=AnyEvent) == event


def test_a_status_with_quotes_does_not_break_the_line() -> None:
    lines: list[bytes] = []
    JsonLineSink(lines.append).emit(StatusChanged(**ABOUT, order_id="A-1", to_status='SO "CALLED"'))
    assert json.loads(lines[0])["status"] == 'SO "CALLED"'


# OTLP.


class Refusing(LogRecordExporter):
    """An endpoint that does not take what it gets."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def export(self, batch: Sequence[Any]) -> LogRecordExportResult:  # noqa: ARG002
        if self._error:
            raise self._error
        return LogRecordExportResult.FAILURE

    def shutdown(self) -> None: ...

    def force_flush(self, timeout_millis: int = 0) -> bool:  # noqa: ARG002
        return True


class Hanging(Refusing):
    """An endpoint that takes the connection and never answers, until the exporter is shut down."""

    def __init__(self) -> None:
        super().__init__()
        self.taken, self.released = threading.Event(), threading.Event()

    def export(self, batch: Sequence[Any]) -> LogRecordExportResult:
        self.taken.set()
        self.released.wait()
        return super().export(batch)

    def shutdown(self) -> None:
        self.released.set()


@pytest.fixture
def kept() -> Iterator[tuple[OtlpLogSink, InMemoryLogRecordExporter]]:
    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    sink = OtlpLogSink(exporter, Resource({"service.name": "mes"}))
    yield sink, exporter
    sink.shutdown()


def test_a_record_holds_the_whole_event(kept: tuple[OtlpLogSink, InMemoryLogRecordExporter]) -> None:
    sink, exporter = kept
    for event in (MOVED, FAILED):
        sink.emit(event)
    sink.flush()
    moved, failed = (found.log_record for found in exporter.get_finished_logs())
    assert dict(moved.attributes or {}) == {
        **ABOUT,
        "event_type": "order.status_changed",
        "order_id": "A-1",
        "from_status": "PACKAGING",
        "to_status": "SHIPPED",
        "status": "SHIPPED",
        "duration": 5,
        "cents": 1200,
    }
    assert (moved.event_name, moved.body, moved.timestamp) == (MOVED.event_type, MOVED.event_type, MOVED.occurred_at)
    assert [record.severity_number.name for record in (moved, failed) if record.severity_number] == ["INFO", "ERROR"]
    assert (failed.attributes or {})["status"] == "PACKAGING"
    assert exporter.get_finished_logs()[0].resource.attributes["service.name"] == "mes"


def test_a_record_belongs_to_the_trace_of_its_transition(kept: tuple[OtlpLogSink, InMemoryLogRecordExporter]) -> None:
    sink, exporter = kept
    before = activate(Recorder([], [sink]))
    with kept_spans() as spans, transition_context("A-1", "SHIPPED"):
        pass
    activate(before)
    sink.flush()
    context = spans.get_finished_spans()[0].context
    record = exporter.get_finished_logs()[0].log_record
    assert context is not None
    assert (record.trace_id, record.span_id) == (context.trace_id, context.span_id)
    assert not {"trace_id", "span_id"} & set(record.attributes or {})


@pytest.mark.parametrize("exporter", [Refusing(), Refusing(ConnectionError())])
def test_records_that_cannot_be_sent_are_counted_one_by_one(
    exporter: LogRecordExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "RETRY_SECONDS", 0.0)
    counted = Counted()
    sink = OtlpLogSink(exporter, Resource({}))
    for _ in range(3):
        sink.emit(MOVED)
    sink.flush()
    sink.shutdown()
    assert counted.faults() == {"otlp_logs": 3}


def test_a_dead_endpoint_costs_bounded_memory_and_every_loss_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "QUEUE", 600)
    monkeypatch.setattr(exporters, "SHUTDOWN_SECONDS", 0.1)
    counted, exporter = Counted(), Hanging()
    sink = OtlpLogSink(exporter, Resource({}))
    for _ in range(512):
        sink.emit(MOVED)
    assert exporter.taken.wait(5)
    for _ in range(2000 - 512):
        sink.emit(MOVED)
    before = time.monotonic()
    sink.shutdown()
    assert time.monotonic() - before < 2
    wait_for(lambda: counted.faults() == {"otlp_logs": 2000})  # the exporter's thread counts the batch that it held


class Away(LogRecordExporter):
    """An endpoint that answers only after *failures* tries."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.sent: list[ReadableLogRecord] = []

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        if self.failures > 0:
            self.failures -= 1
            return LogRecordExportResult.FAILURE
        self.sent += batch
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing to do."""

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        return timeout_millis > 0


def test_events_wait_while_the_ledger_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "RETRY_EVERY", 0.01)
    counted, endpoint = Counted(), Away(failures=5)
    sink = OtlpLogSink(endpoint, Resource.create({}))
    sink.emit(MOVED)
    sink.flush()
    sink.shutdown()
    assert len(endpoint.sent) == 1
    assert counted.faults() == {}


def test_a_shutdown_does_not_wait_for_a_ledger_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "RETRY_EVERY", 60.0)
    counted = Counted()
    sink = OtlpLogSink(Away(failures=1_000), Resource.create({}))
    sink.emit(MOVED)
    sink.shutdown()
    assert counted.faults() == {"otlp_logs": 1}
