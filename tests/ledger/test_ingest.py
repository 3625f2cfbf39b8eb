"""Formats in: OTLP as protobuf and JSON, JSON lines; what cannot be decoded costs as little as possible."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from otel_orders import names
from otel_orders.errors import EventError
from otel_orders.ledger import ingest
from otel_orders.ledger.kept import CHANGED, FAILED
from otel_orders.ledger.reading import Reading
from tests.ledger import senders
from tests.ledger.senders import ENV, changed
from tests.ledger.strategies import LIFECYCLE, START

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from otel_orders.ledger.kept import Kept

TRACE, SPAN = b"\x0a" * 16, b"\x0b" * 8


def record(order_id: str = "A-1", **fields: Any) -> dict[str, Any]:
    return changed(order_id, occurred_at=START) | fields


def new_reading() -> Reading:
    return Reading(LIFECYCLE, ENV, START)


def otlp_json(request: Message) -> dict[str, Any]:
    """Return *request* in OTLP's JSON, where ids are hex (OTLP spec, JSON Protobuf encoding)."""
    tree: dict[str, Any] = MessageToDict(request)
    for block in tree.get("resourceLogs", []) + tree.get("resourceSpans", []):
        for scope in block["scopeLogs"] if "scopeLogs" in block else block["scopeSpans"]:
            for item in scope.get("logRecords", []) + scope.get("spans", []):
                item.update({"traceId": TRACE.hex(), "spanId": SPAN.hex()} if "traceId" in item else {})
    return tree


def read_logs(request: Message | bytes | Any, *, as_json: bool = False) -> Reading:
    reading = new_reading()
    if isinstance(request, bytes):
        body = request
    elif as_json:
        body = json.dumps(request if isinstance(request, dict) else otlp_json(request)).encode()
    else:
        body = request.SerializeToString()
    ingest.logs(ingest.decode_logs(body, reading, json=as_json), reading)
    return reading


def read_spans(request: Message | Any, *, as_json: bool = False) -> Reading:
    reading = new_reading()
    body = json.dumps(otlp_json(request)).encode() if as_json else request.SerializeToString()
    ingest.spans(ingest.decode_spans(body, reading, json=as_json), reading)
    return reading


def read_lines(body: bytes) -> Reading:
    reading = new_reading()
    ingest.lines(body, reading)
    return reading


def events(reading: Reading) -> list[Kept]:
    assert not reading.rejected
    return [received.event for received in reading.received]


def order_ids(reading: Reading) -> list[str]:
    return [received.order_id for received in reading.received]


both_encodings = pytest.mark.parametrize("as_json", [False, True], ids=["protobuf", "json"])


@both_encodings
def test_a_log_record_is_an_event(*, as_json: bool) -> None:
    request = senders.logs([record(price=12.5, paid=True, left=None)])
    log = request.resource_logs[0].scope_logs[0].log_records[0]
    log.trace_id, log.span_id = TRACE, SPAN
    (event,) = events(read_logs(request, as_json=as_json))
    assert (event.kind, event.at, event.to, event.service) == (CHANGED, START, "INITIATED", "shop-api")
    assert (event.trace_id, event.span_id) == (TRACE, SPAN)
    assert event.attributes is not None
    assert (event.attributes["price"], event.attributes["paid"]) == (12.5, True)


@both_encodings
def test_the_envelope_says_what_the_attributes_do_not(*, as_json: bool) -> None:
    bare = {names.ORDER_ID: "A-1", names.TO_STATUS: "INITIATED"}
    request = senders.logs([bare], service__name="mes-api", deployment__environment__name=ENV)
    log = request.resource_logs[0].scope_logs[0].log_records[0]
    log.event_name, log.time_unix_nano = names.STATUS_CHANGED, START - 5
    (event,) = events(read_logs(request, as_json=as_json))
    assert (event.kind, event.service, event.at) == (CHANGED, "mes-api", START - 5)


@pytest.mark.parametrize("name", ["deployment.environment.name", "deployment.environment"])
def test_the_env_of_the_resource_is_checked(name: str) -> None:
    request = senders.logs([record(env="")])
    request.resource_logs[0].resource.attributes.extend(senders.key_values({name: "prod"}))
    for log in request.resource_logs[0].scope_logs[0].log_records:
        del log.attributes[[pair.key for pair in log.attributes].index(names.ENV)]
    assert read_logs(request).reasons == {"other_env": 1}


def test_a_log_record_without_its_own_time_has_that_of_its_observation() -> None:
    fields = record()
    del fields[names.OCCURRED_AT]
    request = senders.logs([fields])
    request.resource_logs[0].scope_logs[0].log_records[0].observed_time_unix_nano = START - 7
    assert events(read_logs(request))[0].at == START - 7


@both_encodings
def test_the_span_and_the_log_record_of_one_event_are_one(*, as_json: bool) -> None:
    fields = record(event_id="ab" * 16)
    (log,) = events(read_logs(senders.logs([fields]), as_json=as_json))
    ids = {"trace_id": TRACE, "span_id": SPAN}
    (span,) = events(read_spans(senders.spans([fields], **ids), as_json=as_json))
    assert log.id == span.id
    assert (span.trace_id, span.span_id) == (TRACE, SPAN)


@pytest.mark.parametrize(
    ("code", "extra", "kind"), [(0, {}, CHANGED), (2, {}, FAILED), (0, {"error_code": "x"}, FAILED)]
)
def test_a_span_with_to_status_is_an_event_also_from_those_who_do_not_know_us(
    code: int, extra: dict[str, str], kind: int
) -> None:
    fields = {names.ORDER_ID: "A-1", names.TO_STATUS: "INITIATED", **extra}
    request = senders.spans(
        [fields], trace_id=TRACE, span_id=SPAN, start_time_unix_nano=START - 50, end_time_unix_nano=START
    )
    request.resource_spans[0].scope_spans[0].spans[0].status.code = code  # type: ignore[assignment]
    (event,) = events(read_spans(request))
    (again,) = events(read_spans(request))
    assert (event.kind, event.at, event.duration, event.id) == (kind, START, 50, again.id)


def test_a_span_that_ends_before_it_starts_took_no_time() -> None:
    request = senders.spans([record()], start_time_unix_nano=START + 9, end_time_unix_nano=START)
    assert events(read_spans(request))[0].duration == 0


def test_ordinary_logs_and_spans_are_passed_over() -> None:
    ordinary = {"http.route": "/orders", names.ORDER_ID: "A-1"}
    for reading in (read_logs(senders.logs([ordinary, {}])), read_spans(senders.spans([ordinary, {}]))):
        assert (reading.received, reading.seen, reading.rejected) == ([], [], {})


def test_lists_maps_bytes_and_nothing_as_attribute_values_are_read() -> None:
    request = senders.logs([record(raw=b"\xff")])
    pairs = request.resource_logs[0].scope_logs[0].log_records[0].attributes
    pairs.add(key="list").value.array_value.values.add(int_value=1)
    pairs.add(key="map").value.kvlist_value.values.add(key="inner").value.string_value = "x"
    pairs.add(key="nothing")
    (event,) = events(read_logs(request))
    assert event.attributes == {"raw": "b'\\xff'", "list": "[1]", "map": "{'inner': 'x'}", "nothing": "None"}


def test_a_list_as_order_id_is_refused() -> None:
    request = senders.logs([record(), record("B-2")])
    pair = next(p for p in request.resource_logs[0].scope_logs[0].log_records[0].attributes if p.key == names.ORDER_ID)
    pair.value.array_value.values.add(string_value="A-1")
    reading = read_logs(request)
    assert order_ids(reading) == ["B-2"]
    assert reading.reasons == {"bad_type": 1}


@pytest.mark.parametrize("body", [b"\xff\xff\xff\xff", b"no protobuf", b"\x0a\xff\x01"])
def test_a_body_that_is_no_protobuf_is_undecodable(body: bytes) -> None:
    with pytest.raises(EventError, match="undecodable: expected OTLP protobuf"):
        read_logs(body)


def test_a_truncated_protobuf_body_is_undecodable() -> None:
    whole = senders.logs([record()]).SerializeToString()
    for end in range(1, len(whole)):
        with pytest.raises(EventError, match="undecodable"):
            read_logs(whole[:end])


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"7", b'"x"', b"{", b"\xff", b"[" * 100_000, b'{"a":"\\ud800"}', b'{"a":1e999}']
)
def test_a_body_that_is_no_json_object_is_undecodable(body: bytes) -> None:
    with pytest.raises(EventError, match="undecodable: expected OTLP JSON"):
        read_logs(body, as_json=True)


BAD_RECORDS: list[Any] = [
    None,
    5,
    "x",
    [],
    True,
    {"attributes": 5},
    {"attributes": [{"value": {"intValue": "x"}}]},
    {"timeUnixNano": -1},
]


@pytest.mark.parametrize("bad", BAD_RECORDS, ids=str)
def test_a_json_record_that_does_not_fit_costs_no_neighbour(bad: object) -> None:
    tree = otlp_json(senders.logs([record("before"), record("after")]))
    tree["resourceLogs"][0]["scopeLogs"][0]["logRecords"].insert(1, bad)
    reading = read_logs(tree, as_json=True)
    assert order_ids(reading) == ["before", "after"]
    assert reading.rejected.total() <= 1


@pytest.mark.parametrize("level", ["resourceLogs", "scopeLogs"])
def test_a_bad_block_costs_only_its_own_records_and_each_is_counted(level: str) -> None:
    tree = otlp_json(senders.logs([record("lost"), record("lost, too")]))
    good = otlp_json(senders.logs([record("kept")]))["resourceLogs"][0]
    bad = tree["resourceLogs"][0]
    if level == "resourceLogs":
        bad["resource"] = {"attributes": "none"}
        tree["resourceLogs"].append(good)
    else:
        bad["scopeLogs"][0]["scope"] = 7
        bad["scopeLogs"].append(good["scopeLogs"][0])
    reading = read_logs(tree, as_json=True)
    assert order_ids(reading) == ["kept"]
    assert reading.reasons == {"undecodable": 2}


def test_unknown_json_fields_are_ignored() -> None:
    tree = otlp_json(senders.logs([record()])) | {"later": [1]}
    tree["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["alsoLater"] = {}
    assert order_ids(read_logs(tree, as_json=True)) == ["A-1"]


@pytest.mark.parametrize("trace_id", ["no hex", 5, None, [], "abc"], ids=str)
def test_an_event_is_worth_more_than_its_broken_trace_id(trace_id: object) -> None:
    tree = otlp_json(senders.logs([record()]))
    tree["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["traceId"] = trace_id
    assert events(read_logs(tree, as_json=True))[0].trace_id == b""


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
OTLP_NAMES = [
    "attributes",
    "traceId",
    "timeUnixNano",
    "key",
    "value",
    "intValue",
    "eventName",
    "body",
    "resource",
    "scope",
]


@given(st.lists(JSON_VALUES | st.dictionaries(st.sampled_from(OTLP_NAMES), JSON_VALUES), max_size=4))
def test_arbitrary_json_where_records_belong_costs_no_neighbour(junk: list[Any]) -> None:
    tree = otlp_json(senders.logs([record("before"), record("after")]))
    tree["resourceLogs"][0]["scopeLogs"][0]["logRecords"][1:1] = junk
    tree["resourceLogs"][0]["scopeLogs"][1:1] = junk
    tree["resourceLogs"] += junk
    assert order_ids(read_logs(tree, as_json=True)) == ["before", "after"]


def read_if_decodable(body: bytes, *, as_json: bool) -> None:
    for decode, read in ((ingest.decode_logs, ingest.logs), (ingest.decode_spans, ingest.spans)):
        reading = new_reading()
        with suppress(EventError):  # and nothing else
            read(decode(body, reading, json=as_json), reading)  # type: ignore[arg-type]


@given(st.dictionaries(st.sampled_from(["resourceLogs", "resourceSpans"]), JSON_VALUES) | JSON_VALUES)
def test_arbitrary_json_is_read_or_undecodable(tree: object) -> None:
    read_if_decodable(json.dumps(tree).encode(), as_json=True)


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda inner: b"\x0a" + bytes([len(inner)]) + inner))
def test_arbitrary_bytes_are_read_or_undecodable(body: bytes) -> None:
    read_if_decodable(body, as_json=True)
    read_if_decodable(body, as_json=False)
    read_lines(body)


def test_lines_are_read_whatever_ends_them() -> None:
    body = senders.lines([record("a"), record("b")]).replace(b"\n", b"\r\n") + b"\n  \n" + senders.lines([record("c")])
    assert order_ids(read_lines(body.rstrip())) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"no json", "undecodable"),
        (b"[]", "undecodable"),
        (b"null", "undecodable"),
        (b"\xff\xfe", "undecodable"),
        (b"{" * 50_000, "undecodable"),
        (b"[" * 50_000, "undecodable"),
        (b"\0", "undecodable"),
        (b'{"a":"' + b"x" * ingest.MAX_LINE + b'"}', "too_long"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_bad_line_costs_only_itself(line: bytes, reason: str) -> None:
    reading = read_lines(senders.lines([record("a")]) + line + b"\n" + senders.lines([record("b")]))
    assert order_ids(reading) == ["a", "b"]
    assert reading.reasons == {reason: 1}
