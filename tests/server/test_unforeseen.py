"""What nobody foresaw costs no event that is sent again, and no record holds up those behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_orders.ledger import ingest
from otel_orders.ledger.reading import Reading
from tests.ledger import senders
from tests.ledger.senders import changed
from tests.server.conftest import both_served
from tests.sinks.memory import global_provider, kept_spans

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    import httpx

    from otel_orders.ledger.service import Ledger
    from otel_orders.server.otlp_grpc import GrpcServer

LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
PROTOBUF = {"content-type": "application/x-protobuf"}
BODY = senders.logs([changed("A-1")]).SerializeToString()


@pytest.fixture
def both(ledger: Ledger) -> Iterator[tuple[httpx.Client, GrpcServer]]:
    with both_served(ledger) as found:
        yield found


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each record of the order ``bad`` be one that the code fails on."""
    take = Reading._take

    def fails(reading: Reading, record: dict[str, Any], event_type: str) -> None:
        if record["order_id"] == "bad":
            raise ZeroDivisionError
        take(reading, record, event_type)

    monkeypatch.setattr(Reading, "_take", fails)


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/v1/logs", senders.logs, "rejected_log_records"),
        ("/v1/traces", senders.spans, "rejected_spans"),
        ("/events", senders.lines, None),
    ],
)
def test_a_record_that_always_fails_is_refused_alone(
    path: str, body: Any, says: str | None, client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    made = body([changed("A-1"), changed("bad"), changed("A-2")])
    answer = client.post(path, content=made if says is None else made.SerializeToString(), headers=PROTOBUF)
    assert answer.status_code == 200
    assert client.get("/orders/A-1").status_code == client.get("/orders/A-2").status_code == 200
    if says is None:
        assert answer.json()["rejected"] == {"internal_error": 1}
    else:
        assert b"1 internal_error" in answer.content
    assert "ZeroDivisionError" in caplog.text


def failing_once(monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> list[str]:
    """Let the next request fail after it was decoded; the list says what was tried."""
    submit, tried = ledger.writer.submit, list[str]()

    def submitted(*asked: Any) -> Future[list[str]]:
        tried.append("failed" if not tried else "kept")
        if len(tried) == 1:
            raise RuntimeError("can't start new thread")
        return submit(*asked)

    monkeypatch.setattr(ledger.writer, "submit", submitted)
    return tried


@pytest.mark.parametrize("path", ["/v1/logs", "/events"])
def test_what_fails_otherwise_is_to_be_sent_again(
    path: str, ledger: Ledger, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_once(monkeypatch, ledger)
    body = BODY if path == "/v1/logs" else senders.lines([changed("A-1")])
    answer = client.post(path, content=body, headers=PROTOBUF)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert client.post(path, content=body, headers=PROTOBUF).status_code == 200


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_real_exporter_sends_again_what_failed_unforeseen(
    protocol: str, ledger: Ledger, both: tuple[httpx.Client, GrpcServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, beside = both
    with kept_spans() as spans, global_provider().get_tracer("test").start_as_current_span("a move") as span:
        span.set_attributes({"order_id": "A-1", "to_status": "INITIATED"})
    tried = failing_once(monkeypatch, ledger)
    http = protocol == "http"
    exporter = HttpExporter(f"{client.base_url}/v1/traces") if http else GrpcExporter(beside.endpoint)
    assert exporter.export(spans.get_finished_spans()) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert tried == ["failed", "kept"]
    assert client.get("/orders/A-1").json()["status"] == "INITIATED"


@pytest.mark.parametrize(("fault", "status"), [(ZeroDivisionError, 400), (MemoryError, 503)])
def test_bytes_that_fail_to_be_decoded_are_not_sent_again_but_for_want_of_memory(
    fault: type[Exception],
    status: int,
    both: tuple[httpx.Client, GrpcServer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(*_: object) -> None:
        raise fault

    client, beside = both
    monkeypatch.setattr(ingest, "check_message", fails)
    assert client.post("/v1/logs", content=BODY, headers=PROTOBUF).status_code == status
    with grpc.insecure_channel(beside.endpoint.removeprefix("http://")) as channel, pytest.raises(grpc.RpcError) as got:
        channel.unary_unary(LOGS)(BODY, timeout=20)
    expected = grpc.StatusCode.INVALID_ARGUMENT if status == 400 else grpc.StatusCode.UNAVAILABLE
    assert got.value.code() is expected
    assert fault.__name__ in caplog.text
