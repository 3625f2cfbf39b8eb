"""What one request may hold is counted before anything is done for each part of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_orders.errors import EventError
from otel_orders.ledger import bulk, ingest
from otel_orders.ledger.bulk import MAX_RECORDS, MAX_VALUES, check_lines
from otel_orders.ledger.reading import Reading
from tests.ledger.senders import ENV
from tests.ledger.strategies import LIFECYCLE

if TYPE_CHECKING:
    from google.protobuf.message import Message


def reading() -> Reading:
    return Reading(LIFECYCLE, ENV, time.time_ns())


def request(resources: int = 1, scopes: int = 1, records: int = 1, attributes: int = 0, told: int = 0) -> Message:
    """Return a request with so many of each, all in the first of those above them."""
    made = ExportLogsServiceRequest()
    for _ in range(resources):
        made.resource_logs.add()
    for _ in range(scopes):
        made.resource_logs[0].scope_logs.add()
    for _ in range(records):
        made.resource_logs[0].scope_logs[0].log_records.add()
    for _ in range(attributes):
        made.resource_logs[0].scope_logs[0].log_records[0].attributes.add()
    for _ in range(told):
        made.resource_logs[0].resource.attributes.add()
    return made


@pytest.mark.parametrize(
    ("limit", "part"),
    [
        (MAX_RECORDS, "resources"),
        (MAX_RECORDS, "scopes"),
        (MAX_RECORDS, "records"),
        (MAX_VALUES, "attributes"),
        (MAX_VALUES, "told"),
    ],
)
def test_more_than_so_many_of_anything_in_protobuf_is_too_many(limit: int, part: str) -> None:
    ingest.decode_logs(request(**{part: limit}).SerializeToString(), reading(), json=False)
    with pytest.raises(EventError, match=f"may have {limit} .*; send smaller batches") as raised:
        ingest.decode_logs(request(**{part: limit + 1}).SerializeToString(), reading(), json=False)
    assert raised.value.reason == bulk.TOO_MANY


@pytest.mark.parametrize(
    ("body", "most"),
    [
        (b'{"resourceLogs": [%s]}', MAX_RECORDS),
        (b'{"resourceLogs": [{"scopeLogs": [%s]}]}', MAX_RECORDS),
        (b'{"resourceLogs": [{"scopeLogs": [{"logRecords": [%s]}]}]}', MAX_RECORDS),
        (b'{"resourceLogs": [{"scopeLogs": [{"logRecords": [{"attributes": [%s]}]}]}]}', MAX_VALUES),
        (b'{"anything": [[[%s]]]}', MAX_VALUES),
    ],
)
@pytest.mark.parametrize("part", [b"{}", b"1", b"[]"])
def test_more_than_so_many_of_anything_in_json_is_too_many(body: bytes, most: int, part: bytes) -> None:
    with pytest.raises(EventError, match=f"may have {most} .*; send smaller batches") as raised:
        ingest.decode_logs(body % b",".join([part] * (most + 1)), reading(), json=True)
    assert raised.value.reason == bulk.TOO_MANY


def test_names_of_an_object_count_too() -> None:
    fields = b",".join(b'"%d":1' % place for place in range(MAX_VALUES + 1))
    with pytest.raises(EventError, match="send smaller batches"):
        ingest.decode_spans(b"{%s}" % fields, reading(), json=True)


def test_lines_count_also_where_they_are_empty() -> None:
    check_lines(b"\n" * MAX_RECORDS)
    with pytest.raises(EventError, match="send smaller batches"):
        check_lines(b"\n" * (MAX_RECORDS + 1))
