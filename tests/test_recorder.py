from __future__ import annotations

import logging
from typing import Any

import pytest

from otel_orders import faults, names
from otel_orders.event import Event, Heartbeat
from otel_orders.faults import count_failure
from otel_orders.privacy import Masker
from otel_orders.recorder import Recorder, activate, active
from tests.sinks.memory import Counted

BEAT = Heartbeat(event_id="0" * 32, service="mes", env="test", occurred_at=1, instance="host:1")


class Kept:
    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name = name
        self.events: list[Event] = []
        self._error = error

    def emit(self, event: Event) -> None:
        if self._error is not None:
            raise self._error
        self.events.append(event)


@pytest.fixture(autouse=True)
def _nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "_said", {})


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_sink_that_fails_costs_only_its_own_projection(broken: int) -> None:
    counted = Counted()
    sinks = [Kept(f"sink{index}", OSError("disk") if index == broken else None) for index in range(3)]
    Recorder(sinks[:2], sinks[2:]).record(BEAT)
    assert [len(sink.events) for sink in sinks] == [int(index != broken) for index in range(3)]
    assert counted.faults() == {f"sink{broken}": 1}


def test_what_the_ledger_gets_on_another_way_is_projected_only() -> None:
    projection, record = Kept("metrics"), Kept("json_lines")
    Recorder([projection], [record]).project(BEAT)
    assert (projection.events, record.events) == ([BEAT], [])


def test_before_configure_events_are_dropped_in_silence() -> None:
    counted = Counted()
    before = activate(None)
    active().record(BEAT)
    assert activate(before) is not before
    assert counted.faults() == {}


def test_attributes_are_masked() -> None:
    assert Recorder(masker=Masker()).masked({"email": "a@b.com", "cents": 5}) == {"email": "[email]", "cents": 5}


def test_attributes_that_cannot_be_masked_are_left_out() -> None:
    counted = Counted()
    attributes: Any = 7
    assert Recorder(masker=Masker()).masked(attributes) == {}
    assert counted.faults().keys() <= {"masking"}


def test_a_fault_is_logged_once_a_minute_for_each_source_and_without_its_text(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("otel_orders.faults.time.monotonic", lambda: now)
    for seconds in (0.0, 59.0, 61.0):
        now = 1000.0 + seconds
        count_failure("traces", ValueError("Ivan Petrov"))
        count_failure("metrics", ValueError("Ivan Petrov"))
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 4
    assert all("failed with ValueError" in record.getMessage() for record in caplog.records)
    assert names.SINK_FAILURES in caplog.text
    assert "Ivan" not in caplog.text


def test_a_broken_logging_setup_does_not_reach_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise RuntimeError(record.name)

    handler = Broken()
    faults.logger.addHandler(handler)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    counted = Counted()
    try:
        count_failure("traces", ValueError())
    finally:
        faults.logger.removeHandler(handler)
    assert counted.faults() == {"traces": 1}


def test_several_lost_records_are_counted_at_once() -> None:
    counted = Counted()
    count_failure("otlp_logs", ConnectionError(), 512)
    assert counted.faults() == {"otlp_logs": 512}
