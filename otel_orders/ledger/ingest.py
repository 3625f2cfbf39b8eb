"""Read what senders send (OTLP logs and spans, as protobuf or JSON; newline-delimited JSON) into flat records.

Knows formats and nothing of HTTP: a body that cannot be decoded at all is an EventError, everything less costs only
the record that is wrong, also where nobody foresaw how: who sends it would else send it, and all behind it, for ever.
"""

from __future__ import annotations

import base64
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_orders import names
from otel_orders.errors import EventError
from otel_orders.ledger.apply import BROKEN
from otel_orders.ledger.bulk import check_message, check_tree, records_below
from otel_orders.ledger.reading import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from otel_orders.ledger.reading import Reading

R = TypeVar("R", bound=Message)
T = TypeVar("T")

logger = logging.getLogger("otel_orders.ledger")

MAX_LINE = 1_000_000
"""Longest line of JSON that is read, in bytes."""
BOM = b"\xef\xbb\xbf"
"""What some systems begin a file of UTF-8 with."""
STATUS_ERROR = 2
"""STATUS_CODE_ERROR of OTLP's trace.proto."""

EVENT_TYPES = frozenset({*KINDS, names.HEARTBEAT})
OURS = ("order.", "service.")
"""How the names of event types begin."""

_IDS = frozenset({"traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"})
_SCALARS = ("string_value", "int_value", "bool_value", "double_value", "bytes_value")


def logs(request: ExportLogsServiceRequest, reading: Reading) -> None:
    """Read all log records of *request*."""
    for resource_logs in request.resource_logs:
        resource = _resource(resource_logs.resource.attributes)
        for scope_logs in resource_logs.scope_logs:
            _take_each(scope_logs.log_records, partial(_from_log, resource), reading)


def _take_each(records: Iterable[T], flat: Callable[[T], dict[str, Any]], reading: Reading) -> None:
    """Take each of *records* as *flat* has it."""
    for record in records:
        try:
            reading.take(flat(record))
        except EventError as error:
            reading.refuse(error)
        except Exception:
            logger.exception("otel_orders: a record failed; its neighbours are read on")
            reading.refuse(EventError(BROKEN, "nobody foresaw it; the ledger's log has more"))


def _from_log(resource: dict[str, Any], record: LogRecord) -> dict[str, Any]:
    flat = _flat(record.attributes, resource)
    if names.EVENT_TYPE not in flat and record.event_name:
        flat[names.EVENT_TYPE] = record.event_name
    if names.OCCURRED_AT not in flat:
        flat[names.OCCURRED_AT] = record.time_unix_nano or record.observed_time_unix_nano
    if record.trace_id:
        flat[names.TRACE_ID], flat[names.SPAN_ID] = record.trace_id, record.span_id
    return flat


def spans(request: ExportTraceServiceRequest, reading: Reading) -> None:
    """Read all spans of *request*: one with to_status is an event, the same as the log record with its event_id."""
    for resource_spans in request.resource_spans:
        resource = _resource(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            moves = (span for span in scope_spans.spans if any(pair.key == names.TO_STATUS for pair in span.attributes))
            _take_each(moves, partial(_from_span, resource), reading)


def _from_span(resource: dict[str, Any], span: Span) -> dict[str, Any]:
    flat = _flat(span.attributes, resource)
    failed = span.status.code == STATUS_ERROR or names.ERROR_CODE in flat
    flat.setdefault(names.EVENT_TYPE, names.TRANSITION_FAILED if failed else names.STATUS_CHANGED)
    flat.setdefault(names.OCCURRED_AT, span.end_time_unix_nano)
    flat.setdefault(names.EVENT_ID, span.trace_id.hex() + span.span_id.hex())
    flat.setdefault(names.DURATION, max(0, span.end_time_unix_nano - span.start_time_unix_nano))
    flat[names.TRACE_ID], flat[names.SPAN_ID] = span.trace_id, span.span_id
    return flat


def _resource(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    found = {pair.key: value_of(pair.value) for pair in attributes}
    env = found.get("deployment.environment.name") or found.get("deployment.environment")
    fields = {names.SERVICE: found.get("service.name"), names.ENV: env}
    return {name: value for name, value in fields.items() if value is not None}


def _flat(attributes: Iterable[KeyValue], resource: dict[str, Any]) -> dict[str, Any]:
    return resource | {pair.key: pair.value.string_value or value_of(pair.value) for pair in attributes}


def value_of(value: AnyValue) -> Any:
    """Return a plain value, a list or a dict."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: value_of(pair.value) for pair in value.kvlist_value.values}
    return getattr(value, kind) if kind in _SCALARS else None


def decode_logs(body: bytes, reading: Reading, *, json: bool) -> ExportLogsServiceRequest:
    """Decode an OTLP logs request.  Raises EventError where nothing can be decoded, or there is too much of it."""
    path = ("resourceLogs", "scopeLogs", "logRecords")
    return _decoded(ExportLogsServiceRequest(), body, path, reading, json=json)


def decode_spans(body: bytes, reading: Reading, *, json: bool) -> ExportTraceServiceRequest:
    """Decode an OTLP trace request.  Raises EventError where nothing can be decoded, or there is too much of it."""
    path = ("resourceSpans", "scopeSpans", "spans")
    return _decoded(ExportTraceServiceRequest(), body, path, reading, json=json)


def _decoded(request: R, body: bytes, path: tuple[str, ...], reading: Reading, *, json: bool) -> R:
    if json:
        tree = _json_object(body)
        check_tree(tree, path)
        _fill(request, tree, path, reading)
    else:
        _parse(request, body)
        check_message(request, [_snake(name) for name in path])
    return request


def _parse(request: Message, body: bytes) -> None:
    try:
        request.ParseFromString(body)
    except DecodeError:
        raise EventError("undecodable", "expected OTLP protobuf") from None


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise EventError("undecodable", "expected OTLP JSON") from None
    if not isinstance(decoded, dict):
        raise EventError("undecodable", "expected OTLP JSON, an object")
    return decoded


def _fill(message: Any, tree: dict[str, Any], path: tuple[str, ...], reading: Reading) -> None:
    """Put *tree* into *message*, list by list along *path*; an item that does not fit costs only itself."""
    name, *rest = path
    items = tree.pop(name, None) or []
    for item in items if isinstance(items, list) else [items]:
        below: dict[str, Any] = {}
        try:
            below = {rest[0]: item.pop(rest[0], None)} if rest else {}
            part = ParseDict(_with_base64_ids(item), _element(message, name), ignore_unknown_fields=True)
        except (ParseError, ValueError, TypeError, AttributeError, RecursionError):
            reading.refuse(EventError("undecodable", f"no OTLP JSON in {name}"), max(1, records_below(below, rest)))
            continue
        if rest:
            _fill(part, below, tuple(rest), reading)
        getattr(message, _snake(name)).append(part)


def _element(message: Any, name: str) -> Message:
    """Return a new, empty element of the list *name* of *message*."""
    return getattr(type(message)(), _snake(name)).add()  # type: ignore[no-any-return]


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _with_base64_ids(tree: Any) -> Any:
    """Return OTLP JSON with its hex ids as base64, which protobuf's own JSON mapping has (OTLP spec, JSON encoding)."""
    if isinstance(tree, list):
        return [_with_base64_ids(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    return {name: _base64_id(item) if name in _IDS else _with_base64_ids(item) for name, item in tree.items()}


def _base64_id(item: Any) -> str:
    """Return a hex id in base64; one that is no hex is left out, since the event is worth more than its trace."""
    try:
        return base64.b64encode(bytes.fromhex(item)).decode()
    except (ValueError, TypeError):
        return ""


def lines(body: bytes, reading: Reading) -> None:
    """Read newline-delimited JSON; a line that is no JSON object is refused and costs no neighbour."""
    _take_each(_lines(body), _from_line, reading)


def _from_line(line: bytes) -> dict[str, Any]:
    record = _decode_line(line)
    _check_meant(record)
    return record


def _check_meant(record: dict[str, Any]) -> None:
    """Raise EventError for a line that is meant as an event and does not say which, rather than pass it over unsaid.

    Log lines may stand among events; what names an order's new status, and no level, is none.
    """
    event_type = record.get(names.EVENT_TYPE)
    named = event_type if isinstance(event_type, str) else ""
    if named in EVENT_TYPES or "level" in record:
        return
    if named.startswith(OURS) or names.TO_STATUS in record:
        reason = "no_event_type" if event_type is None else "unknown_event_type"
        raise EventError(reason, f"expected one of {', '.join(sorted(EVENT_TYPES))}")


def _lines(body: bytes) -> Iterator[bytes]:
    lines = body.removeprefix(BOM).split(b"\n")
    return (stripped for line in lines if (stripped := line.strip()))


def _decode_line(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise EventError("too_long", f"a line has over {MAX_LINE} bytes")
    try:
        record = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise EventError("undecodable", "a line is no JSON") from None
    if not isinstance(record, dict):
        raise EventError("undecodable", "a line is no JSON object")
    return record
