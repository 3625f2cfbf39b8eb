"""What a receiver did not keep is counted and said by the service that sent it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from prometheus_client import CollectorRegistry

import otel_orders
from otel_orders.sinks.refusals import Refusals
from tests.integration.processes import running
from tests.sinks.memory import Counted

if TYPE_CHECKING:
    from pathlib import Path


def answer(count: int, why: str = "") -> bytes:
    said = ExportLogsServiceResponse()
    said.partial_success.rejected_log_records = count
    said.partial_success.error_message = why
    return said.SerializeToString()


def test_a_service_in_the_wrong_environment_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    counted = Counted()
    with running(tmp_path) as ledger:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", ledger.url)
        monkeypatch.setenv("OTEL_ORDERS_ENV", "staging")
        runtime = otel_orders.configure("mes-api", registry=CollectorRegistry(), instrument=False)
        otel_orders.record("A-1", "INITIATED")
        runtime.shutdown()
    assert counted.faults()["refused"] >= 1  # the heartbeat too
    assert "the receiver refused" in caplog.text
    assert "other_env" in caplog.text


def test_reasons_are_said_once_a_minute_cut_and_masked(caplog: pytest.LogCaptureFixture) -> None:
    counted, refusals = Counted(), Refusals("refused")
    with caplog.at_level(logging.WARNING, "otel_orders"):
        refusals.look(answer(2, "no such order of bob@example.com " + "x" * 1000))
        refusals.look(answer(3))
    assert counted.faults() == {"refused": 5}
    (line,) = [record.getMessage() for record in caplog.records if "receiver refused" in record.getMessage()]
    assert "refused 2 events: no such order of [email]" in line
    assert len(line) < 400


@pytest.mark.parametrize("body", [b"", answer(0, "all is well"), answer(-1)])
def test_an_answer_that_refuses_nothing_is_no_fault(body: bytes) -> None:
    counted = Counted()
    Refusals("refused").look(body)
    assert counted.faults() == {}


def test_an_answer_that_cannot_be_read_is_a_fault_and_nothing_more() -> None:
    counted = Counted()
    Refusals("refused").look(b"<html>")
    assert counted.faults() == {"refused": 1}
