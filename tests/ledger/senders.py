"""What senders send: records as JSON lines have them, and the same as OTLP requests."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_orders import names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ENV = "test"
SECOND = 1_000_000_000


def changed(order_id: Any, to: Any = "INITIATED", left: Any = None, **fields: Any) -> dict[str, Any]:
    """Return a status change, just now; *fields* are added, or take others' places."""
    record = {
        names.EVENT_TYPE: names.STATUS_CHANGED,
        names.ORDER_ID: order_id,
        names.TO_STATUS: to,
        names.SERVICE: "shop-api",
        names.ENV: ENV,
        names.OCCURRED_AT: time.time_ns(),
    }
    if left is not None:
        record[names.FROM_STATUS] = left
    return record | fields


def walk(order_id: str, *statuses: str, start: int, pause: int = SECOND, **fields: Any) -> list[dict[str, Any]]:
    """Return an order's way through *statuses*, a *pause* (ns) apart; event ids follow from it."""
    before = (None, *statuses[:-1])
    return [
        changed(order_id, to, left, occurred_at=start + place * pause, event_id=f"{order_id}/{place}", **fields)
        for place, (left, to) in enumerate(zip(before, statuses, strict=True))
    ]


def lines(records: Iterable[Mapping[str, Any]]) -> bytes:
    """Return *records* as newline-delimited JSON."""
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def any_value(value: Any) -> AnyValue:
    """Return *value* as OTLP has it."""
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(bytes_value=value) if isinstance(value, bytes) else AnyValue(string_value=str(value))


def key_values(fields: Mapping[str, Any]) -> list[KeyValue]:
    """Return *fields* as OTLP attributes."""
    return [KeyValue(key=name, value=any_value(value)) for name, value in fields.items()]


def logs(records: Iterable[Mapping[str, Any]], **resource: Any) -> ExportLogsServiceRequest:
    """Return *records* as log records of one resource; in its names, ``__`` stands for a dot."""
    request = ExportLogsServiceRequest()
    block = request.resource_logs.add()
    block.resource.attributes.extend(key_values({name.replace("__", "."): value for name, value in resource.items()}))
    scope = block.scope_logs.add()
    for record in records:
        scope.log_records.add(attributes=key_values(record))
    return request


def spans(records: Iterable[Mapping[str, Any]], **fields: Any) -> ExportTraceServiceRequest:
    """Return *records* as spans; *fields* are those of every span itself."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for record in records:
        scope.spans.add(attributes=key_values(record), **fields)
    return request
