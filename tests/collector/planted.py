"""Personal data and secrets, planted wherever OTLP has room for a string.  Knows no Collector."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.ledger.senders import key_values
from tests.test_privacy import LEFTOVER_WORDS, PLANTED

if TYPE_CHECKING:
    from collections.abc import Iterable

MORE = [
    "IBAN DE89 3704 0044 0532 0130 00 please",
    "to GB82WEST12345698765432",
    "iban: NL91ABNA0417164300",
    "baggage: customer_name=Anna%20Petrova,user.email=anna%40petrova.example",
    "baggage=first_name=Bartholomew",
    "https://shop.example/orders?email=zoe%2540meier.example&name=Zoe+Meier",
    "/find?customer_name=Anna+Karenina&x=1",
    "GET /reset?token=s3cr3tToken99 HTTP/1.1",
    "authorization: Digest username=Xavier99",
    "proxy-authorization=Basic eHl6enk6cXV1eA==",
    "set-cookie: sid=abcdef0123456789; Path=/",
    "x-api-key: k3yk3yk3y",
    "AKIAIOSFODNN7EXAMPLE in the clear",
    "ghp_abcdefghijklmnopqrstuvwxyz0123",
    "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\n",
    '{"customer": {"first_name": "Wolfgang", "phone": "+49 170 1234567"}}',
    '{"to": ["zoe@meier.example", "+41 44 668 18 00"]}',
    "call +41 44 668 18 00",
    "sms to %2B49301234567",
    "card 5500-0000-0000-0004 declined",
    "amex 3714 496353 98431",
    "KeyError: 'olga.ivanova@почта.рф'",
    'File "x.py", line 3\n  raise Denied("4111 1111 1111 1111")',
    "recipient=Иван Сидоров",
    "?name=%D0%98%D0%B2%D0%B0%D0%BD%20%D0%9F%D0%B5%D1%82%D1%80%D0%BE%D0%B2",
]
"""What the library's own corpus does not have."""

INNOCENT_WORDS = LEFTOVER_WORDS | {
    "shop",
    "orders",
    "find",
    "reset",
    "HTTP",
    "username",
    "clear",
    "KeyError",
    "please",
    "declined",
    "raise",
    "Denied",
    "PRIVATE",
    "BEGIN",
    "baggage",
    "email",
    "first_name",
    "customer_name",
    "last_name",
    "phone",
    "proxy",
    "authorization",
    "cookie",
    "Digest",
}
"""Words of the corpora that tell nothing."""

AROUND = [
    *(
        "{} end",
        "start {}",
        "[{}]",
        "<{}>",
        "({})",
        "x={}",
        "x: {}",
        '{{"a": {}}}',
        "'{}'",
        '"{}"',
        "{}, {}",
        "{}; next=1",
    ),
    *(
        "a/{}/b",
        "\t{}\n",
        "line\n{}\nline",
        "error while handling {} for order A-1",
        "строка {} ещё",
        "{}.",
        "{}!",
        "{}?",
    ),
    *("{}|{}", "k->{}", "\u00a0{}\u00a0"),
]
"""What may stand around personal data in a text."""

TEXTS = [text for texts in PLANTED.values() for text in texts] + MORE


def secrets(text: str) -> set[bytes]:
    """Return what of *text* must not leave, as it would stand in raw bytes; short pieces could be anybody's."""
    words = set(re.findall(r"[\w%.@+-]{5,}", text)) - INNOCENT_WORDS
    pieces = {piece for word in words for piece in re.findall(r"\w{5,}", word)} - INNOCENT_WORDS
    numbers = set(re.findall(r"\d(?:[ ().:\u00a0\u2010-]{0,2}\d){6,}", text)) - {"93.184.216.34"}
    return {piece.encode() for piece in pieces | numbers}


def _nested(text: str) -> AnyValue:
    inner = KeyValueList(values=[KeyValue(key="note", value=AnyValue(string_value=text))])
    return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=text), AnyValue(kvlist_value=inner)]))


def _attributes(text: str) -> list[KeyValue]:
    """Return attributes with known keys, with unknown ones, with keys that give it away, and nested."""
    header = AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=text)]))
    return [
        *key_values({"error.message": text, "url.full": f"https://api.example.com/x?q={quote(text)}", "note": text}),
        *key_values(
            {"url.path": f"/x?{text}", "user_agent.original": f"bot {text}", "url.query": text, "baggage": text}
        ),
        *key_values({"customer_name": text, "enduser.id": text, f"key {text}": "x", "http.target": f"/x?y={text}"}),
        *key_values({key: f"{key} {text}" for key in ("error_code", "queue", "logger", "outcome", "level")}),
        *key_values(dict.fromkeys(("message_id", "instance", "role"), f"not an id: {text}")),
        KeyValue(key="http.request.header.authorization", value=header),
        KeyValue(key="exception.message", value=_nested(text)),
        KeyValue(key="message_age_seconds", value=AnyValue(double_value=0.4111111111111111)),
    ]


def span(text: str, number: int) -> Span:
    """Return a span of a trace of its own, an error, that has *text* in all of its strings."""
    now = time.time_ns()
    made = Span(
        trace_id=number.to_bytes(16, "big"),
        span_id=number.to_bytes(8, "big"),
        name=f"GET {text}",
        trace_state=f"vendor={text}",
        start_time_unix_nano=now,
        end_time_unix_nano=now + 1,
        attributes=[*_attributes(text), *key_values({"order_id": f"order-{number}"})],
        status=Status(code=Status.STATUS_CODE_ERROR, message=f"ValueError: {text}"),
    )
    event = made.events.add(name=f"exception {text}", time_unix_nano=now)
    event.attributes.extend(key_values({"exception.stacktrace": f"Traceback:\n  {text}\n", "note": text}))
    event.attributes.extend(_attributes(text))
    return made


def traces(texts: Iterable[str]) -> ExportTraceServiceRequest:
    """Return a span for each of *texts*, each with a resource and a scope that hold it as well."""
    request = ExportTraceServiceRequest()
    for number, text in enumerate(texts, 1):
        block = request.resource_spans.add()
        block.resource.attributes.extend([*key_values({"host.name": text, "owner": text}), *_attributes(text)])
        block.schema_url = f"https://schemas.example/?{text}"
        scope = block.scope_spans.add(spans=[span(text, number)], schema_url=text)
        scope.scope.name = scope.scope.version = f"lib {text}"
        scope.scope.attributes.extend(_attributes(text))
    return request


def lines(texts: Iterable[str]) -> ExportLogsServiceRequest:
    """Return log records whose bodies are *texts*: plain, nested, and as bytes."""
    request = ExportLogsServiceRequest()
    for text in texts:
        block = request.resource_logs.add()
        block.resource.attributes.extend([*key_values({"host.name": text}), *_attributes(text)])
        block.schema_url = text
        scope = block.scope_logs.add(schema_url=text)
        fields = KeyValueList(values=_attributes(text))
        bodies = [AnyValue(string_value=text), AnyValue(kvlist_value=fields), _nested(text)]
        for body in [*bodies, AnyValue(bytes_value=text.encode())]:
            scope.log_records.add(body=body, severity_text=text, event_name=text, attributes=_attributes(text))
    return request


def in_context(texts: Iterable[str]) -> ExportLogsServiceRequest:
    """Return log records that have *texts* in the middle of others."""
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for text in texts:
        for around in AROUND:
            records.add(body=AnyValue(string_value=around.format(text, text)))
    return request


def events(texts: Iterable[str]) -> ExportLogsServiceRequest:
    """Return event records that have *texts* among their own fields."""
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for number, text in enumerate(texts):
        fields: dict[str, Any] = {"event_type": "order.status_changed", "order_id": f"8916123{number:04}"}
        fields |= {"to_status": "SUBMITTED", "service": "shop-api", "env": "test", "occurred_at": time.time_ns()}
        fields |= {"error_code": text, "queue": text, "message_id": f"to {text}" if number else "5105105105105100"}
        fields |= {"event_id": f"{number:032x}", "price": 4200, "weight": 0.4111111111111111, "note": text}
        records.add(body=AnyValue(string_value="order.status_changed"), attributes=key_values(fields))
    return request
