"""OTLP/HTTP and JSON lines in: status codes, bodies and headers as the OTLP specification has them."""

from __future__ import annotations

import gzip
import sqlite3
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.json_format import MessageToJson, Parse
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_orders.ledger import writer
from tests.ledger import senders
from tests.ledger.senders import changed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from google.protobuf.message import Message

    from otel_orders.ledger.service import Ledger

PROTOBUF, JSON = "application/x-protobuf", "application/json"
LOGS, SPANS, LINES = "/v1/logs", "/v1/traces", "/events"
ANSWERS = {LOGS: ExportLogsServiceResponse, SPANS: ExportTraceServiceResponse}

otlp_paths = pytest.mark.parametrize("path", [LOGS, SPANS])
media_types = pytest.mark.parametrize("media_type", [PROTOBUF, JSON])


def encoded(request: Message, media_type: str) -> bytes:
    return request.SerializeToString() if media_type == PROTOBUF else MessageToJson(request).encode()


def decoded(answer: httpx.Response, message: Any) -> Any:
    """Read *answer*'s body, which is in the encoding of the request."""
    if answer.headers["content-type"] == PROTOBUF:
        message.ParseFromString(answer.content)
    else:
        assert answer.headers["content-type"] == JSON
        Parse(answer.text, message)
    return message


def send(client: httpx.Client, path: str, body: bytes, media_type: str = PROTOBUF, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, content=body, headers={"content-type": media_type} | named)


def request_of(path: str, *records: dict[str, Any]) -> Message:
    return senders.logs(records) if path == LOGS else senders.spans(records)


def story(client: httpx.Client, order_id: str) -> dict[str, Any]:
    answer = client.get(f"/orders/{order_id}")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


@contextmanager
def held(ledger: Ledger) -> Iterator[None]:
    """Keep the store busy inside the block, as another process would."""
    with closing(sqlite3.connect(ledger._store._path, isolation_level=None)) as other:  # type: ignore[attr-defined]
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@otlp_paths
@media_types
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_events_are_taken_and_can_be_asked_for_at_once(
    client: httpx.Client, path: str, media_type: str, *, packed: bool
) -> None:
    body = encoded(request_of(path, changed("A-1"), changed("A-2")), media_type)
    answer = (
        send(client, path, gzip.compress(body), media_type, content_encoding="gzip")
        if packed
        else send(client, path, body, media_type)
    )
    assert answer.status_code == 200
    assert not decoded(answer, ANSWERS[path]()).HasField("partial_success")
    assert story(client, "A-2")["status"] == "INITIATED"


@otlp_paths
@media_types
def test_what_was_refused_is_said_with_counts_and_reasons_and_the_rest_is_kept(
    client: httpx.Client, path: str, media_type: str
) -> None:
    records = [
        changed("before"),
        changed(""),
        changed("A-1", env="prod"),
        changed("A-2", occurred_at=5),
        changed("A-3", occurred_at=7),
        changed("after"),
    ]
    answer = send(client, path, encoded(request_of(path, *records), media_type), media_type)
    assert answer.status_code == 200
    partial = decoded(answer, ANSWERS[path]()).partial_success
    rejected = partial.rejected_log_records if path == LOGS else partial.rejected_spans
    assert (rejected, partial.error_message) == (4, "2 late, 1 no_order_id, 1 other_env")
    assert story(client, "before")["status"] == story(client, "after")["status"] == "INITIATED"


def test_the_span_and_the_log_record_of_one_event_count_once(client: httpx.Client) -> None:
    record = changed("A-1", event_id="ab" * 16)
    for path in (LOGS, SPANS, LOGS):
        assert send(client, path, encoded(request_of(path, record), PROTOBUF)).status_code == 200
    assert len(story(client, "A-1")["events"]) == 1
    page = client.get("/metrics").text
    assert 'otel_orders_ledger_events_total{result="accepted"} 1.0' in page
    assert 'otel_orders_ledger_events_total{result="duplicate"} 2.0' in page


@otlp_paths
@pytest.mark.parametrize(
    ("body", "media_type", "headers", "status", "says"),
    [
        (b"\xff\xff\xff", PROTOBUF, {}, 400, "expected OTLP protobuf"),
        (b"\x0a\x7f", PROTOBUF, {}, 400, "expected OTLP protobuf"),
        (b"no json", JSON, {}, 400, "expected OTLP JSON"),
        (b"[]", JSON, {}, 400, "an object"),
        (b"", JSON, {}, 400, "expected OTLP JSON"),
        (b"", "text/plain", {}, 415, "expected content-type"),
        (b"", "", {}, 415, "expected content-type"),
        (b"", PROTOBUF, {"content_encoding": "br"}, 415, "gzip"),
        (b"no gzip", PROTOBUF, {"content_encoding": "gzip"}, 400, "no gzip"),
        (gzip.compress(b"x" * 100, mtime=0)[:-9], PROTOBUF, {"content_encoding": "gzip"}, 400, "cut short"),
        (gzip.compress(b"x", mtime=0)[:-5] + b"12345", PROTOBUF, {"content_encoding": "gzip"}, 400, "no gzip"),
        (gzip.compress(b"", mtime=0) + b"junk", PROTOBUF, {"content_encoding": "gzip"}, 400, "no gzip"),
        (b"x" * ((16 << 20) + 1), PROTOBUF, {}, 413, "smaller batches"),
        (gzip.compress(b"\0" * (64 << 20), mtime=0), PROTOBUF, {"content_encoding": "gzip"}, 413, "smaller batches"),
        (b"\x0a\0" * 100_001, PROTOBUF, {}, 413, "100000 records; send smaller batches"),
        (b'{"x": [1%s]}' % (b",1" * 1_000_000), JSON, {}, 413, "1000000 values; send smaller batches"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_decoded_is_refused_with_a_status_message(  # noqa: PLR0917 - each is a column above
    client: httpx.Client, path: str, body: bytes, media_type: str, headers: dict[str, str], status: int, says: str
) -> None:
    answer = send(client, path, body, media_type, **headers)
    assert answer.status_code == status
    why = decoded(answer, Status())
    assert why.code == 3
    assert says in why.message


def test_more_lines_than_bytes_can_mean_are_refused_before_they_are_read(client: httpx.Client) -> None:
    answer = client.post(LINES, content=b"1\n" * 100_001)
    assert (answer.status_code, "send smaller batches" in answer.json()["error"]) == (413, True)


def test_a_body_of_exactly_the_largest_size_is_taken(client: httpx.Client) -> None:
    line = senders.lines([changed("A-1")])
    body = line + b" " * ((16 << 20) - len(line))
    assert client.post(LINES, content=gzip.compress(body), headers={"content-encoding": "gzip"}).json()["received"] == 1


def test_a_gzip_body_of_several_members_is_read_whole(client: httpx.Client) -> None:
    body = b"".join(gzip.compress(senders.lines([changed(order_id)])) for order_id in ("A-1", "A-2"))
    answer = client.post(LINES, content=body, headers={"content-encoding": "gzip"})
    assert answer.json()["received"] == 2


def test_an_empty_request_is_fine(client: httpx.Client) -> None:
    assert send(client, LOGS, b"").status_code == 200
    assert send(client, LOGS, b"{}", JSON).text == "{}"
    assert client.post(LINES, content=b"").json() == {"received": 0, "results": {}, "rejected": {}, "passed_over": 0}


def test_json_lines_are_taken_and_each_result_is_said(client: httpx.Client) -> None:
    record = changed("A-1")
    body = senders.lines([record, record, changed("A-2", "MYSTERY"), changed(None)]) + b"junk\n"
    answer = client.post(LINES, content=body)
    assert answer.status_code == 200
    assert answer.json() == {
        "received": 5,
        "results": {"accepted": 1, "duplicate": 1, "unknown_status": 1},
        "rejected": {"no_order_id": 1, "undecodable": 1},
        "passed_over": 0,
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"event_type": "order.foo", "order_id": "A-1"}, "unknown_event_type"),
        ({"event_type": "status_changed", "order_id": "A-1", "to_status": "SUBMITTED"}, "unknown_event_type"),
        ({"event_typ": "order.status_changed", "order_id": "A-1", "to_status": "SUBMITTED"}, "no_event_type"),
        ({"event_type": ["order.status_changed"], "to_status": "SUBMITTED"}, "unknown_event_type"),
    ],
)
def test_a_line_that_does_not_say_which_event_it_is_is_refused_and_not_lost_unsaid(
    client: httpx.Client, line: dict[str, Any], reason: str
) -> None:
    answer = client.post(LINES, content=senders.lines([line]))
    assert (answer.status_code, answer.json()["rejected"]) == (422, {reason: 1})


def test_log_lines_among_events_are_passed_over_and_counted(client: httpx.Client) -> None:
    log_lines = [{"level": "info", "event": "moved", "to_status": "SUBMITTED"}, {"event_type": "user.login"}]
    answer = client.post(LINES, content=senders.lines([*log_lines, changed("A-1")]))
    assert (answer.status_code, answer.json()["passed_over"], answer.json()["rejected"]) == (200, 2, {})


def test_a_web_page_cannot_send_events_through_its_visitors_browser(client: httpx.Client) -> None:
    answer = client.post(
        LINES, content=senders.lines([changed("A-1")]), headers={"origin": "https://elsewhere.example"}
    )
    assert answer.status_code == 403
    assert client.get("/orders/A-1").status_code == 404


@pytest.mark.parametrize("path", [LOGS, SPANS, LINES])
def test_senders_are_told_to_come_back_when_too_much_waits(
    ledger: Ledger, client: httpx.Client, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_WAITING", 3)
    with held(ledger):
        waiting = ledger.writer.submit(_reading(ledger, *(changed(f"B-{place}") for place in range(3))))
        body = senders.lines([changed("A-1")]) if path == LINES else encoded(request_of(path, changed("A-1")), PROTOBUF)
        answer = send(client, path, body)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    if path != LINES:
        assert decoded(answer, Status()).code == 8
    waiting.result(20)
    assert send(client, path, body).status_code == 200


@pytest.mark.parametrize("path", [LOGS, LINES])
def test_senders_are_told_to_come_back_when_the_store_does_not_answer(
    ledger: Ledger, client: httpx.Client, path: str
) -> None:
    ledger._store._writer.execute("PRAGMA busy_timeout = 10")  # type: ignore[attr-defined]
    body = senders.lines([changed("A-1")]) if path == LINES else encoded(request_of(path, changed("A-1")), PROTOBUF)
    with held(ledger):
        answer = send(client, path, body)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    if path != LINES:
        assert decoded(answer, Status()).code == 14
    assert send(client, path, body).status_code == 200
    assert story(client, "A-1")["status"] == "INITIATED"


def test_a_damaged_row_is_refused_and_its_neighbours_are_kept(ledger: Ledger, client: httpx.Client) -> None:
    client.post(LINES, content=senders.lines([changed("bad")]))
    with closing(sqlite3.connect(ledger._store._path, isolation_level=None)) as other:  # type: ignore[attr-defined]
        other.execute("UPDATE orders SET state = x'ff'")
    answer = send(client, LOGS, encoded(request_of(LOGS, changed("A-1"), changed("bad"), changed("A-2")), PROTOBUF))
    partial = decoded(answer, ExportLogsServiceResponse()).partial_success
    assert (partial.rejected_log_records, partial.error_message) == (1, "1 unreadable_order")
    assert story(client, "A-2")["status"] == "INITIATED"


def test_an_order_that_is_full_says_so(ledger: Ledger, client: httpx.Client) -> None:
    body = senders.lines(changed("A-1", event_id=str(place)) for place in range(1003))
    answer = client.post(LINES, content=body).json()
    assert answer["rejected"] == {"order_full": 3}
    assert answer["received"] == 1003
    assert 'events_total{result="rejected"} 3.0' in ledger.metrics.page().decode()


def test_a_large_body_does_not_keep_others_waiting(client: httpx.Client) -> None:
    """As many bad records as there may be take a second to refuse; meanwhile the ledger answers."""
    records = b",".join([b"1"] * 100_000)
    body = b'{"resourceLogs": [{"scopeLogs": [{"logRecords": [%s]}]}]}' % records
    refused: list[str] = []
    sender = threading.Thread(target=lambda: refused.append(send(client, LOGS, body, JSON).text))
    sender.start()
    answered = 0
    while sender.is_alive():
        assert client.get("/healthz").elapsed.total_seconds() < 1
        answered += 1
    sender.join()
    assert "100000 undecodable" in refused[0]
    assert answered > 3


RECORDS = st.dictionaries(
    st.sampled_from([*changed(""), "attributes"]) | st.text(max_size=5),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.lists(st.integers(), max_size=2),
    max_size=4,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(RECORDS, max_size=5), st.sampled_from([LOGS, SPANS, LINES]), st.sampled_from([PROTOBUF, JSON]))
def test_mutated_records_never_cost_their_neighbours(
    client: httpx.Client, mutations: list[dict[str, Any]], path: str, media_type: str
) -> None:
    mutated = [changed("mutated") | mutation for mutation in mutations]
    neighbours = [changed("first"), *mutated, changed("last")]
    if path == LINES:
        body = senders.lines(neighbours)
    else:
        small = [
            {key: str(value) if isinstance(value, int) and abs(value) >= 2**63 else value for key, value in one.items()}
            for one in neighbours
        ]
        body = encoded(request_of(path, *small), media_type)
    before = {order_id: _count(client, order_id) for order_id in ("first", "last")}
    assert send(client, path, body, media_type).status_code == 200
    for order_id, events in before.items():
        assert _count(client, order_id) == min(1000, events + 1)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([LOGS, SPANS, LINES]),
    st.binary(max_size=60) | st.from_regex(rb'\{"resource(Logs|Spans)":[\[\]{}0-9",]{0,20}\}?', fullmatch=True),
    st.sampled_from([PROTOBUF, JSON, "text/plain", "x" * 50]),
    st.sampled_from(["identity", "gzip", "br"]),
)
def test_arbitrary_bytes_never_break_anything(
    client: httpx.Client, path: str, body: bytes, media_type: str, encoding: str
) -> None:
    assert send(client, path, body, media_type, content_encoding=encoding).status_code in (200, 400, 415, 422)


def _reading(ledger: Ledger, *records: dict[str, Any]) -> Any:
    reading = ledger.new_reading()
    for record in records:
        reading.take(record)
    return reading


def _count(client: httpx.Client, order_id: str) -> int:
    answer = client.get(f"/orders/{order_id}")
    return len(answer.json()["events"]) if answer.status_code == 200 else 0
