from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics import exposition

from otel_orders.event import Heartbeat, StatusChanged, TransitionFailed
from otel_orders.sinks import metrics
from otel_orders.sinks.metrics import MetricSink

ABOUT: dict[str, Any] = {"event_id": "0" * 32, "service": "mes", "env": "test", "occurred_at": 1, "order_id": "4711"}
MOVED = StatusChanged(**ABOUT, from_status="PACKAGING", to_status="SHIPPED", duration=2_000_000_000)
FAILED = TransitionFailed(**ABOUT, from_status="PACKAGING", to_status="SHIPPED", error_code="refused", duration=5)
TRACE = {"trace_id": "a" * 32, "span_id": "b" * 16}


def page(registry: CollectorRegistry) -> bytes:
    return bytes(exposition.generate_latest(registry))  # type: ignore[no-untyped-call]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_a_transition_is_counted_and_timed(registry: CollectorRegistry) -> None:
    MetricSink("mes", registry).emit(MOVED)
    labels = {"service_name": "mes", "from_status": "PACKAGING", "to_status": "SHIPPED"}
    assert registry.get_sample_value("order_transitions_total", labels) == 1
    timed = {"service_name": "mes", "to_status": "SHIPPED"}
    assert registry.get_sample_value("order_transition_duration_seconds_sum", timed) == 2
    assert registry.get_sample_value("order_transition_duration_seconds_bucket", timed | {"le": "5.0"}) == 1
    assert registry.get_sample_value("order_transition_duration_seconds_bucket", timed | {"le": "1.0"}) == 0


def test_a_failure_is_counted_by_its_code_and_not_as_a_transition(registry: CollectorRegistry) -> None:
    MetricSink("mes", registry).emit(FAILED)
    labels = {"service_name": "mes", "from_status": "PACKAGING", "to_status": "SHIPPED"}
    failures = "order_transition_failures_total"
    assert registry.get_sample_value(failures, labels | {"error_code": "refused"}) == 1
    assert registry.get_sample_value("order_transitions_total", labels) is None


def test_an_unknown_from_status_is_an_empty_label(registry: CollectorRegistry) -> None:
    MetricSink("mes", registry).emit(StatusChanged(**ABOUT, to_status="SHIPPED"))
    labels = {"service_name": "mes", "from_status": "", "to_status": "SHIPPED"}
    assert registry.get_sample_value("order_transitions_total", labels) == 1


def test_what_took_no_known_time_does_not_count_as_fast(registry: CollectorRegistry) -> None:
    MetricSink("mes", registry).emit(StatusChanged(**ABOUT, to_status="SHIPPED", duration=0))
    timed = {"service_name": "mes", "to_status": "SHIPPED"}
    assert registry.get_sample_value("order_transition_duration_seconds_count", timed) in (None, 0)


def test_other_events_are_not_counted(registry: CollectorRegistry) -> None:
    about = {key: value for key, value in ABOUT.items() if key != "order_id"}
    MetricSink("mes", registry).emit(Heartbeat(**about, instance="host:1"))
    assert b"SHIPPED" not in page(registry)


@pytest.mark.parametrize("event_of", [MOVED.__class__, FAILED.__class__])
def test_made_up_statuses_cannot_grow_the_series_without_bound(
    event_of: Any, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "MAX_CHILDREN", 5)
    sink = MetricSink("mes", registry)
    code = {"error_code": "x"} if event_of is TransitionFailed else {}
    for number in range(50):
        sink.emit(event_of(**ABOUT, to_status=f"MADE_UP_{number}", **code))
    name = "order_transition_failures" if code else "order_transitions"
    family = next(found for found in registry.collect() if found.name == name)
    samples = [sample for sample in family.samples if sample.name.endswith("_total")]
    assert len(samples) == 6
    assert sum(sample.value for sample in samples) == 50
    assert next(sample.value for sample in samples if sample.labels["to_status"] == "other") == 45


@pytest.mark.parametrize("event", [MOVED, FAILED])
@pytest.mark.parametrize(("ratio", "kept"), [(0.0, False), (0.33, False), (0.34, True), (1.0, True)])
def test_only_orders_whose_traces_are_kept_become_exemplars(
    event: Any, ratio: float, kept: bool, registry: CollectorRegistry
) -> None:
    sink = MetricSink("mes", registry, exemplar_ratio=ratio)
    sink.emit(type(event)(**{name: getattr(event, name) for name in event.__struct_fields__} | TRACE))
    assert (b'trace_id="aaaa' in page(registry)) == kept


def test_an_event_without_a_trace_has_no_exemplar(registry: CollectorRegistry) -> None:
    MetricSink("mes", registry, exemplar_ratio=1.0).emit(MOVED)
    assert b"trace_id" not in page(registry)


def test_the_order_is_never_a_label(registry: CollectorRegistry) -> None:
    sink = MetricSink("mes", registry)
    sink.emit(MOVED)
    sink.emit(FAILED)
    assert b"4711" not in page(registry)
