"""OTLP/gRPC in: status codes, answers and metadata as the OTLP specification has them, within the bounds of HTTP."""

from __future__ import annotations

import asyncio
import gzip
import logging
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_orders.errors import ConfigurationError
from otel_orders.event import StatusChanged
from otel_orders.ledger import writer
from otel_orders.server import bodies
from otel_orders.server.otlp_grpc import GrpcServer
from otel_orders.sinks.logs import OtlpLogSink
from tests.ledger import senders
from tests.ledger.senders import changed
from tests.server.conftest import both_served
from tests.sinks.memory import global_provider, kept_spans
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_orders.ledger.service import Ledger

LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
SPANS = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
GZIP, NONE = grpc.Compression.Gzip, grpc.Compression.NoCompression


def raw(channel: grpc.Channel, body: bytes, method: str = LOGS, **more: Any) -> bytes:
    answer: bytes = channel.unary_unary(method)(body, timeout=20, **more)
    return answer


def refused(channel: grpc.Channel, body: bytes, method: str = LOGS, **more: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as raised:
        raw(channel, body, method, **more)
    error: grpc.RpcError = raised.value
    return error


def retry_delays(error: grpc.RpcError) -> list[int]:
    """When to try again, in seconds, as the standard's status details and as the Python exporter's key have it."""
    metadata = dict(error.trailing_metadata())
    status, direct = Status.FromString(metadata["grpc-status-details-bin"]), RetryInfo()
    assert (status.code, status.message) == (error.code().value[0], error.details())
    for detail in status.details:
        assert detail.Unpack(direct)
    return [direct.retry_delay.seconds, RetryInfo.FromString(metadata["google.rpc.retryinfo-bin"]).retry_delay.seconds]


def body_of(*records: dict[str, Any]) -> bytes:
    return senders.logs(records).SerializeToString()


def status_of(ledger: Ledger, order_id: str) -> str | None:
    told = ledger.story(order_id)
    return told["status"] if told else None


@contextmanager
def held(ledger: Ledger) -> Iterator[None]:
    """Keep the store busy inside the block, as another process would."""
    with closing(sqlite3.connect(ledger._store._path, isolation_level=None)) as other:  # type: ignore[attr-defined]
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.parametrize("compression", [NONE, GZIP, grpc.Compression.Deflate])
def test_events_are_taken_and_can_be_asked_for_at_once(
    ledger: Ledger, channel: grpc.Channel, compression: grpc.Compression
) -> None:
    logs, spans = senders.logs([changed("A-1"), changed("A-2")]), senders.spans([changed("A-3")])
    if compression is grpc.Compression.Deflate:  # OTLP knows gzip only
        assert refused(channel, logs.SerializeToString(), compression=compression).code().name == "INVALID_ARGUMENT"
        return
    answer = LogsServiceStub(channel).Export(logs, compression=compression)  # type: ignore[no-untyped-call]
    assert not answer.HasField("partial_success")
    answer = TraceServiceStub(channel).Export(spans, compression=compression)  # type: ignore[no-untyped-call]
    assert not answer.HasField("partial_success")
    assert [status_of(ledger, order_id) for order_id in ("A-1", "A-2", "A-3")] == ["INITIATED"] * 3


@pytest.mark.parametrize("compression", [NONE, GZIP])
def test_real_exporters_are_understood(ledger: Ledger, endpoint: str, compression: grpc.Compression) -> None:
    with kept_spans() as spans, global_provider().get_tracer("test").start_as_current_span("a move") as span:
        span.set_attributes({"order_id": "A-1", "to_status": "INITIATED"})
    exporter = OTLPSpanExporter(endpoint=endpoint, compression=compression)
    assert exporter.export(spans.get_finished_spans()) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert status_of(ledger, "A-1") == "INITIATED"


def test_our_own_sink_delivers_over_grpc(ledger: Ledger, endpoint: str) -> None:
    sink = OtlpLogSink(OTLPLogExporter(endpoint=endpoint), Resource({"service.name": "shop-api"}))
    said = StatusChanged(
        order_id="A-1",
        to_status="INITIATED",
        service="shop-api",
        env=senders.ENV,
        event_id="ab" * 16,
        occurred_at=time.time_ns(),
    )
    sink.emit(said)
    sink.flush()
    sink.shutdown()
    assert status_of(ledger, "A-1") == "INITIATED"


def test_what_was_refused_is_said_with_counts_and_reasons_and_the_rest_is_kept(
    ledger: Ledger, channel: grpc.Channel
) -> None:
    records = [changed("before"), changed(""), changed("A-2", occurred_at=5), changed("after", env="test")]
    answer = ExportLogsServiceResponse.FromString(raw(channel, body_of(*records)))
    partial = answer.partial_success
    assert (partial.rejected_log_records, partial.error_message) == (2, "1 late, 1 no_order_id")
    assert status_of(ledger, "before") == status_of(ledger, "after") == "INITIATED"


@pytest.mark.parametrize("method", [LOGS, SPANS])
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"\xff\xff\xff", "expected OTLP protobuf"),
        (b"\x1f\x8b no gzip", "no gzip"),
        (gzip.compress(b"x" * 100)[:-9], "cut short"),
        (gzip.compress(b"\0" * (64 << 20)), "smaller batches"),
        (b"\x0a\0" * 100_001, "100000 records; send smaller batches"),
    ],
    ids=["bytes", "no gzip", "half", "bomb", "many"],
)
def test_what_cannot_be_decoded_is_refused_for_good(channel: grpc.Channel, method: str, body: bytes, says: str) -> None:
    error = refused(channel, body, method)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert says in error.details()
    assert "google.rpc.retryinfo-bin" not in dict(error.trailing_metadata())


def test_a_message_over_the_size_of_grpc_is_refused_before_it_is_read(channel: grpc.Channel) -> None:
    error = refused(channel, b"\x0a" * (bodies.MAX_MESSAGE + 1))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in error.details()
    assert raw(channel, b"") == b""


def test_a_small_message_may_grow_to_the_largest_body(ledger: Ledger, channel: grpc.Channel) -> None:
    body = body_of(changed("A-1", note="x" * (15 << 20)))
    assert bodies.MAX_MESSAGE < len(body) < bodies.MAX_BODY
    assert raw(channel, body, compression=GZIP) == b""
    assert status_of(ledger, "A-1") == "INITIATED"


def test_a_call_without_a_message_and_an_unknown_service_are_errors_of_the_sender(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        channel.stream_unary(LOGS)(iter(()), timeout=20)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    metrics = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
    assert refused(channel, b"", metrics).code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ((), grpc.StatusCode.UNAUTHENTICATED),
        ((("authorization", "Bearer other"),), grpc.StatusCode.UNAUTHENTICATED),
        ((("authorization", "Basic secret"),), grpc.StatusCode.UNAUTHENTICATED),
        ((("authorization", "Bearer secret"),), grpc.StatusCode.OK),
    ],
)
def test_a_token_is_asked_for_in_the_metadata(
    ledger: Ledger, metadata: tuple[tuple[str, str], ...], code: grpc.StatusCode
) -> None:
    with (
        both_served(ledger, "secret") as (_, server),
        grpc.insecure_channel(server.endpoint.removeprefix("http://")) as channel,
    ):
        if code is grpc.StatusCode.OK:
            raw(channel, body_of(changed("A-1")), metadata=metadata)
        else:
            assert refused(channel, body_of(changed("A-1")), metadata=metadata).code() is code
    assert (status_of(ledger, "A-1") is not None) == (code is grpc.StatusCode.OK)


def test_senders_are_told_to_come_back_when_too_much_waits(
    ledger: Ledger, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_WAITING", 1)
    with held(ledger):
        reading = ledger.new_reading()
        reading.take(changed("B-1"))
        waiting = ledger.writer.submit(reading)
        error = refused(channel, body_of(changed("A-1")))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert retry_delays(error) == [1, 1]
    waiting.result(20)
    raw(channel, body_of(changed("A-1")))


def test_senders_are_told_to_come_back_when_the_store_does_not_answer(ledger: Ledger, channel: grpc.Channel) -> None:
    ledger._store._writer.execute("PRAGMA busy_timeout = 10")  # type: ignore[attr-defined]
    with held(ledger):
        error = refused(channel, body_of(changed("A-1")))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert retry_delays(error) == [1, 1]
    raw(channel, body_of(changed("A-1")))
    assert status_of(ledger, "A-1") == "INITIATED"


def test_a_message_that_does_not_come_is_not_waited_for(channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "READ_SECONDS", 0.2)
    never = threading.Event()
    with pytest.raises(grpc.RpcError) as raised:
        channel.stream_unary(LOGS)((b"" for _ in iter(never.wait, True)), timeout=20)
    never.set()
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert retry_delays(raised.value) == [1, 1]


def test_messages_and_bodies_share_one_bound(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_HELD", bodies.MAX_MESSAGE + 1000)
    never = threading.Event()
    with (
        both_served(ledger) as (client, server),
        grpc.insecure_channel(server.endpoint.removeprefix("http://")) as channel,
    ):
        reading = channel.stream_unary(LOGS).future((b"" for _ in iter(never.wait, True)), timeout=20)
        wait_for(lambda: client.post("/events", content=b" " * 1001).status_code == 429)
        error = refused(channel, b"")
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert retry_delays(error) == [1, 1]
        reading.cancel()
        never.set()
        wait_for(lambda: client.post("/events", content=b" " * 1001).status_code == 200)
        raw(channel, body_of(changed("A-1")))


def test_many_small_messages_at_once_wait_for_each_other(
    ledger: Ledger, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "MAX_HELD", bodies.MAX_MESSAGE + 1000)
    monkeypatch.setattr(bodies, "ROOM_SECONDS", 20)  # a slow machine may take more than a second for all of them
    export = channel.unary_unary(LOGS)
    sent = [export.future(body_of(changed(f"A-{place}")), timeout=20) for place in range(50)]
    assert [one.result() for one in sent] == [b""] * 50
    assert status_of(ledger, "A-49")


def test_an_address_that_is_taken_is_a_mistake_with_its_way_out(ledger: Ledger, endpoint: str) -> None:
    port = int(endpoint.rpartition(":")[2])
    another = GrpcServer(ledger, bodies.Intake(), ("127.0.0.1", port))
    with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port} for gRPC; try --grpc-port 0"):
        asyncio.run(another.start())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.sampled_from([LOGS, SPANS]), st.sampled_from([NONE, GZIP]))
def test_arbitrary_bytes_never_break_anything(
    channel: grpc.Channel, caplog: pytest.LogCaptureFixture, body: bytes, method: str, compression: grpc.Compression
) -> None:
    try:
        raw(channel, body, method, compression=compression)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT  # noqa: PT017 - or there is none
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_sink_that_speaks_to_a_ledger_which_is_down_fails_and_does_not_hang() -> None:
    exporter = OTLPLogExporter(endpoint="http://127.0.0.1:1", timeout=1)
    assert exporter.export([]) is LogRecordExportResult.FAILURE
    exporter.shutdown()
