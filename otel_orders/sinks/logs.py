"""Project events onto OTLP log records, which are never sampled.

The only module that touches ``opentelemetry._logs``, which is private API.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LogRecordLimits, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_orders import names
from otel_orders.event import StatusEvent, TransitionFailed
from otel_orders.faults import count_failure
from otel_orders.sinks.exporters import Sending, shut_down
from otel_orders.sinks.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.resources import Resource

    from otel_orders.event import Event

QUEUE = 8192
"""Event records that wait for the exporter at most; beyond it the oldest is lost, and counted."""

RETRY_SECONDS = 600.0
"""How long one batch is sent again and again."""
RETRY_EVERY = 1.0
"""Seconds between two tries, on top of the exporter's own retries."""

REFUSED = "refused"
"""The source under which events are counted that the receiver got and did not keep."""
CREDENTIALS = {
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_LOGS_CREDENTIAL_PROVIDER",
}
"""Variables that name a session for the exporter; ours would take its place."""

_SCOPE = InstrumentationScope("otel_orders")
_WENT_WELL, _FAILED = SeverityNumber.INFO, SeverityNumber.ERROR


class OtlpLogSink:
    """Hands each event to an exporter as a log record, in batches, from a thread of its own."""

    name = "otlp_logs"

    def __init__(self, exporter: LogRecordExporter, resource: Resource) -> None:
        self._resource = resource
        self._limits = LogRecordLimits()
        self._exporter = CountingExporter(exporter)
        self._processor = BatchLogRecordProcessor(self._exporter, max_queue_size=QUEUE)
        self._waiting = self._processor._batch_processor._queue  # noqa: SLF001 - what it drops, it only logs

    def emit(self, event: Event) -> None:
        """Queue *event* for the exporter; its trace is the current one, since it is recorded inside its span."""
        fields: dict[str, Any] = msgspec.to_builtins(event)
        fields.pop(names.TRACE_ID, None)
        fields.pop(names.SPAN_ID, None)
        if isinstance(event, StatusEvent) and (status := event.status) is not None:
            fields[names.STATUS] = status
        if attributes := fields.pop("attributes", None):
            fields.update(attributes)
        record = LogRecord(
            timestamp=event.occurred_at,
            severity_number=_FAILED if isinstance(event, TransitionFailed) else _WENT_WELL,
            body=event.event_type,
            attributes=fields,
            event_name=event.event_type,
        )
        if len(self._waiting) >= QUEUE:  # the queue drops its oldest
            count_failure(self.name, OverflowError())
        self._processor.on_emit(ReadWriteLogRecord(record, self._resource, _SCOPE, self._limits))

    def flush(self) -> None:
        """Send what is queued, waiting for it."""
        self._processor.force_flush()

    def shutdown(self) -> None:
        """Send what can be sent in SHUTDOWN_SECONDS, count the rest as lost, and stop."""
        self._exporter.give_up()
        shut_down(self._processor, self.name)


class CountingExporter(LogRecordExporter):
    """Sends again what *exporter* could not send, for RETRY_SECONDS or until shutdown, and counts what is lost.

    An event is worth more than a span: while the ledger is away, events wait here and in the queue before it.
    """

    def __init__(self, exporter: LogRecordExporter) -> None:
        self.sending = Sending(OtlpLogSink.name)
        self._exporter = exporter
        self._ending = threading.Event()

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Export *batch*."""
        return self.sending.through(self._persistently, batch) or LogRecordExportResult.FAILURE

    def _persistently(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        give_up_at = time.monotonic() + RETRY_SECONDS
        while True:
            result = self._exporter.export(batch)
            if result is LogRecordExportResult.SUCCESS or time.monotonic() > give_up_at:
                return result
            if self._ending.wait(RETRY_EVERY):
                return result

    def give_up(self) -> None:
        """Retry no more."""
        self._ending.set()

    def shutdown(self) -> None:
        """Shut the wrapped exporter down."""
        self._ending.set()
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        """Flush the wrapped exporter."""
        return self._exporter.force_flush(timeout_millis)


def otlp_exporter(protocol: str) -> LogRecordExporter:
    """Return the exporter that the standard OTEL_EXPORTER_OTLP_ variables describe; *protocol* as in Settings."""
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import _log_exporter as over_grpc  # noqa: PLC0415

        return over_grpc.OTLPLogExporter()
    import requests  # noqa: PLC0415 - the HTTP exporter's own client
    from opentelemetry.exporter.otlp.proto.http import _log_exporter as over_http  # noqa: PLC0415

    session = requests.Session()
    session.hooks["response"].append(Refusals(REFUSED).hook)
    return over_http.OTLPLogExporter(session=None if CREDENTIALS & os.environ.keys() else session)
