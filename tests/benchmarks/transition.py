"""`transition` against the same outputs written by hand, as a careful developer would write them.

By hand means: the OpenTelemetry API, bound prometheus_client children, structlog with msgspec's JSON, the order in a
context variable that a span processor and a structlog processor read.  Both sides use the SDK's batch processors with
exporters that drop everything, so what is compared is the work in the service.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from contextlib import ExitStack
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Status, StatusCode
from prometheus_client import CollectorRegistry, Counter, Histogram

from otel_orders import transition
from otel_orders.json_lines import LineWriter
from otel_orders.recorder import Recorder, activate
from otel_orders.sinks.json_lines import JsonLineSink
from otel_orders.sinks.logs import OtlpLogSink
from otel_orders.sinks.metrics import DURATION_BUCKETS, MetricSink
from otel_orders.sinks.traces import OrderSpanProcessor, TraceSink
from tests.benchmarks.harness import Figure, against, benchmark

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Span

RESOURCE = Resource({"service.name": "mes-api", "deployment.environment.name": "prod"})
COUNTS = "CPU of the whole process, its exporter threads included"


class DropSpans(SpanExporter):
    """Forgets all but the keys of the last span's attributes."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.seen = set(spans[-1].attributes or ())
        return SpanExportResult.SUCCESS


class DropRecords(LogRecordExporter):
    """Forgets all but the keys of the last record's attributes."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        self.seen = set(batch[-1].log_record.attributes or ())
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 0) -> bool:  # noqa: ARG002
        return True


class Outputs:
    """Where one side's outputs end."""

    def __init__(self, lines: Path) -> None:
        self.spans, self.records, self.lines = DropSpans(), DropRecords(), lines

    def fields(self) -> list[set[str]]:
        """Return the names of the fields on the last span, the last record and the first line."""
        first = self.lines.open("rb").readline() if self.lines.exists() else b"{}"
        return [self.spans.seen, self.records.seen, set(msgspec.json.decode(first)) - {"level", "event"}]


class Command:
    def __init__(self, order_id: str) -> None:
        self.order_id = order_id


def price(command: Command) -> str:
    """Do what the service is for; nearly nothing here, so that telemetry is what is measured."""
    return command.order_id


# By hand.

CURRENT: ContextVar[str | None] = ContextVar("order_id", default=None)


class StampOrder(SpanProcessor):
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002
        if (order_id := CURRENT.get()) is not None:
            span.set_attributes({"order_id": order_id, "order_bucket": bucket(order_id)})


def bucket(order_id: str) -> int:
    return int(hashlib.sha256(order_id.encode()).hexdigest()[:13], 16) % 100


def add_order(_logger: Any, _method: str, event_dict: Any) -> Any:
    if (order_id := CURRENT.get()) is not None:
        event_dict["order_id"] = order_id
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event_dict["trace_id"] = trace.format_trace_id(span.trace_id)
        event_dict["span_id"] = trace.format_span_id(span.span_id)
    return event_dict


class ByHand:
    """What a service would hold to write its telemetry itself.  log, otlp: None where that output is off."""

    def __init__(self, spans: SpanExporter, log: Any, otlp: Any) -> None:
        provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
        provider.add_span_processor(StampOrder())
        provider.add_span_processor(BatchSpanProcessor(spans))
        self.provider, self.tracer = provider, provider.get_tracer("mes")
        self.log, self.otlp = log, otlp
        labels = ["service_name", "from_status", "to_status"]
        registry = CollectorRegistry()
        self.moved = Counter("moved", "Moves.", labels, registry=registry).labels("mes-api", "SUBMITTED", "PRICED")
        self.failed = Counter("failed", "Failures.", [*labels, "error_code"], registry=registry)
        took = Histogram("took", "Seconds.", ["service_name", "to_status"], buckets=DURATION_BUCKETS, registry=registry)
        self.took = took.labels("mes-api", "PRICED")

    def price(self, command: Command) -> str:
        order_id = command.order_id
        token = CURRENT.set(order_id)
        event_id, started = os.urandom(16).hex(), time.perf_counter_ns()
        about = {"service": "mes-api", "env": "prod", "from_status": "SUBMITTED", "to_status": "PRICED"}
        about["event_id"] = event_id
        try:
            with self.tracer.start_as_current_span(
                "transition PRICED", attributes=about, record_exception=False, set_status_on_exception=False
            ) as span:
                try:
                    result = price(command)
                except BaseException as error:
                    self._failed(span, type(error).__name__, order_id, about, time.perf_counter_ns() - started)
                    raise
                self._succeeded(span, order_id, about, time.perf_counter_ns() - started)
                return result
        finally:
            CURRENT.reset(token)

    def _succeeded(self, span: Span, order_id: str, about: dict[str, str], duration: int) -> None:
        now = time.time_ns()
        span.set_attributes({"event_type": "order.status_changed", "status": "PRICED", "occurred_at": now})
        self.moved.inc()
        self.took.observe(duration / 1e9)
        fields = {**about, "status": "PRICED", "occurred_at": now, "duration": duration}
        if self.log is not None:
            self.log.info("order.status_changed", event_type="order.status_changed", **fields)
        if self.otlp is not None:
            self._emit(SeverityNumber.INFO, "order.status_changed", now, {"order_id": order_id, **fields})

    def _failed(self, span: Span, code: str, order_id: str, about: dict[str, str], duration: int) -> None:
        now = time.time_ns()
        span.set_status(Status(StatusCode.ERROR, code))
        failure = {"event_type": "order.transition_failed", "status": "SUBMITTED", "error_code": code}
        span.set_attributes({**failure, "occurred_at": now})
        self.failed.labels("mes-api", "SUBMITTED", "PRICED", code).inc()
        fields = {**about, **failure, "occurred_at": now, "duration": duration}
        if self.log is not None:
            self.log.error("order.transition_failed", **fields)
        if self.otlp is not None:
            self._emit(SeverityNumber.ERROR, "order.transition_failed", now, {"order_id": order_id, **fields})

    def _emit(self, severity: SeverityNumber, name: str, now: int, attributes: dict[str, Any]) -> None:
        attributes["event_type"] = name
        self.otlp.emit(
            LogRecord(timestamp=now, severity_number=severity, body=name, attributes=attributes, event_name=name)
        )


def _structlog(path: Path, stack: ExitStack) -> Any:
    encoder = msgspec.json.Encoder()
    return structlog.wrap_logger(
        structlog.BytesLogger(stack.enter_context(path.open("ab"))),
        processors=[
            add_order,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=lambda fields, **_options: encoder.encode(fields)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        context_class=dict,
        cache_logger_on_first_use=True,
    ).bind()


def _by_hand(outputs: Outputs, stack: ExitStack, *, lines: bool, otlp: bool) -> Callable[[Command], str]:
    logger = None
    if otlp:
        provider = LoggerProvider(RESOURCE, shutdown_on_exit=False)
        provider.add_log_record_processor(BatchLogRecordProcessor(outputs.records, max_queue_size=8192))
        stack.callback(provider.shutdown)
        logger = provider.get_logger("mes")
    found = ByHand(outputs.spans, _structlog(outputs.lines, stack) if lines else None, logger)
    stack.callback(found.provider.shutdown)
    return found.price


# With otel_orders.


def _decorated(outputs: Outputs, stack: ExitStack, *, lines: bool, otlp: bool) -> Callable[[Command], str]:
    _trace_with_otel_orders(outputs.spans, stack)
    records: list[Any] = []
    if lines:
        writer = LineWriter(str(outputs.lines))
        stack.callback(writer.close)
        records.append(JsonLineSink(writer.write))
    if otlp:
        sink = OtlpLogSink(outputs.records, RESOURCE)
        stack.callback(sink.shutdown)
        records.append(sink)
    metrics = MetricSink("mes-api", CollectorRegistry())
    stack.callback(activate, activate(Recorder([TraceSink(), metrics], records, service="mes-api", env="prod")))
    return transition("PRICED", from_status="SUBMITTED", order_id="command.order_id")(price)


def _trace_with_otel_orders(spans: SpanExporter, stack: ExitStack) -> None:
    """Send spans to *spans*, unmasked (an exporter's thread does that).  The global provider can only be made once."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
        provider.add_span_processor(OrderSpanProcessor())
        trace.set_tracer_provider(provider)
    batches = BatchSpanProcessor(spans)
    provider.add_span_processor(batches)
    stack.callback(_remove, provider, batches)


def _remove(provider: TracerProvider, batches: SpanProcessor) -> None:
    batches.shutdown()
    processors = provider._active_span_processor
    processors._span_processors = tuple(one for one in processors._span_processors if one is not batches)


def _repeated(call: Callable[[Command], object]) -> Callable[[int], None]:
    def run(number: int) -> None:
        for index in range(number):
            call(Command(f"A-{index}"))

    return run


def _measure(name: str, budget: float, *, lines: bool, otlp: bool) -> Figure:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours, theirs = Outputs(folder / "ours.jsonl"), Outputs(folder / "hand.jsonl")
        decorated = _decorated(ours, stack, lines=lines, otlp=otlp)
        by_hand = _by_hand(theirs, stack, lines=lines, otlp=otlp)
        mine, peer, ratio, spread = against(_repeated(decorated), _repeated(by_hand))
        if ours.fields() != theirs.fields():
            raise AssertionError(f"not the same outputs: {ours.fields()} and {theirs.fields()}")
    return Figure(
        name=name,
        value=mine * 1e6,
        unit="us/transition",
        peer=peer * 1e6,
        ratio=ratio,
        budget=budget,
        holds=ratio <= budget,
        counts=COUNTS,
        spread=spread,
    )


@benchmark("transition", budget=1.10)
def all_outputs(name: str, budget: float) -> Figure:
    return _measure(name, budget, lines=True, otlp=True)


@benchmark("transition/json_lines", budget=1.10)
def json_lines(name: str, budget: float) -> Figure:
    return _measure(name, budget, lines=True, otlp=False)


@benchmark("transition/otlp", budget=1.10)
def otlp(name: str, budget: float) -> Figure:
    return _measure(name, budget, lines=False, otlp=True)
