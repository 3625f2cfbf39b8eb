"""The metrics page: parsed as Prometheus parses it, with what is promised of zeros, edges and labels."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from otel_orders import names
from otel_orders.ledger.metrics import RESULTS
from otel_orders.ledger.service import Ledger, open_store
from tests.ledger.senders import ENV, SECOND, changed, walk
from tests.ledger.strategies import DAY, HOUR, LIFECYCLE, MINUTE
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from otel_orders.ledger.reading import Reading

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
OPEN = [name for name, status in LIFECYCLE.statuses.items() if not status.terminal]


@pytest.fixture
def ledger(store_url: str) -> Iterator[Ledger]:
    with closing(Ledger(open_store(store_url), LIFECYCLE, ENV)) as opened:
        yield opened


def keep(ledger: Ledger, *records: dict[str, Any]) -> None:
    reading: Reading = ledger.new_reading()
    for record in records:
        reading.take(record)
    ledger.writer.submit(reading).result(20)


def families(ledger: Ledger) -> list[Metric]:
    return list(text_string_to_metric_families(ledger.metrics.page().decode()))


def samples(ledger: Ledger) -> Samples:
    found = [sample for family in families(ledger) for sample in family.samples]
    read = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in found}
    assert len(read) == len(found), "a series is there twice"
    return read


def value(ledger: Ledger, name: str, **labels: str) -> float | None:
    return samples(ledger).get((name, frozenset(labels.items())))


def test_counts_of_nothing_are_0_from_the_start(ledger: Ledger) -> None:
    found = samples(ledger)
    series: list[tuple[str, dict[str, str]]] = [(names.LEDGER_EVENTS, {"result": result}) for result in RESULTS]
    series += [(names.REACHED, {"status": status}) for status in LIFECYCLE.statuses]
    series += [(name, {"status": status}) for name in (names.IN_STATUS, names.STUCK) for status in OPEN]
    series += [(name, {"sla": sla}) for name in (names.SLA_OVERDUE, names.SLA_AT_RISK) for sla in LIFECYCLE.slas]
    series += [
        (name, {"sla": sla, "partner": partner})
        for name in (names.SLA_MET, names.SLA_BREACHED)
        for sla in LIFECYCLE.slas
        for partner in ("retail", "other", "acme", "globex")
    ]
    series.append((names.CORRECTIONS, {"series": names.REACHED}))
    assert [found[name, frozenset(labels.items())] for name, labels in series] == [0.0] * len(series)


def test_the_oldest_of_nothing_is_absent_and_terminal_statuses_hold_nobody(ledger: Ledger) -> None:
    keep(ledger, changed("A-1", "CANCELLED", "INITIATED"))
    assert names.OLDEST_ENTERED not in {name for name, _ in samples(ledger)}
    assert value(ledger, names.IN_STATUS, status="CANCELLED") is None
    assert value(ledger, names.REACHED, status="CANCELLED") == 1


def test_the_oldest_is_a_timestamp_of_the_order_that_waits_longest(ledger: Ledger) -> None:
    now = time.time_ns()
    keep(ledger, *(changed(f"A-{place}", occurred_at=now - place * SECOND) for place in range(5)))
    assert value(ledger, names.OLDEST_ENTERED, status="INITIATED") == pytest.approx((now - 4 * SECOND) / 1e9)
    assert value(ledger, names.IN_STATUS, status="INITIATED") == 5


def test_limits_are_exported_in_seconds(ledger: Ledger) -> None:
    assert value(ledger, names.STUCK_AFTER, status="SUBMITTED") == 86_400
    assert value(ledger, names.STUCK_AFTER, status="CLOSED") is None


def test_histograms_are_cumulative_and_have_edges_exactly_at_the_limits(ledger: Ledger) -> None:
    start = time.time_ns() - DAY
    for place, stay in enumerate([SECOND, 5 * MINUTE, 5 * MINUTE + 1, 10 * HOUR]):
        keep(ledger, *walk(f"A-{place}", "SUBMITTED", "PRICE_CALCULATED", start=start, pause=stay))
    for name, labels in (
        (names.TIME_IN_STATUS, {"status": "SUBMITTED", "partner": "retail"}),
        (names.MILESTONE, {"milestone": "submitted_to_priced", "partner": "retail"}),
    ):
        counts = _buckets(ledger, name, labels)
        limits = {sla.within.seconds for sla in LIFECYCLE.slas.values()}
        limits |= {status.stuck_after.seconds for status in LIFECYCLE.statuses.values() if status.stuck_after}
        assert limits <= counts.keys()
        assert list(counts.values()) == sorted(counts.values())
        assert (counts[1.0], counts[300.0], counts[900.0], counts[float("inf")]) == (1, 2, 3, 4)
        assert value(ledger, f"{name}_count", **labels) == 4
        # What is over a limit by any amount counts as a millisecond over it.
        assert value(ledger, f"{name}_sum", **labels) == pytest.approx(1 + 300 + 300.001 + 36_000)


def _buckets(ledger: Ledger, name: str, labels: dict[str, str]) -> dict[float, float]:
    found: dict[float, float] = {}
    for (sample, own), count in samples(ledger).items():
        if sample == f"{name}_bucket" and labels.items() <= dict(own).items():
            found[float(dict(own)["le"])] = count
    return dict(sorted(found.items()))


def test_no_sender_can_make_up_series(ledger: Ledger) -> None:
    now = time.time_ns()
    keep(ledger, *walk("A-0", "MYSTERY", "SUBMITTED", "RIDDLE", start=now, partner_id="p", service="s"), changed("A"))
    failed = [changed("A", event_type=names.TRANSITION_FAILED, error_code=f"known{place}") for place in range(60)]
    keep(ledger, *failed)
    before = set(samples(ledger))
    assert len([name for name, _ in before if name == names.FAILED_TRANSITIONS]) == 50 + 1
    for place in range(30):
        way = (f"MYSTERY-{place}", "SUBMITTED", f"RIDDLE-{place}")
        keep(ledger, *walk(f"A-{place}", *way, start=time.time_ns(), partner_id=f"p{place}", service=f"s{place}"))
        keep(ledger, changed("", event_type=names.HEARTBEAT, service=f"s{place}", instance=f"i{place}"))
        keep(ledger, changed("A", event_type=names.TRANSITION_FAILED, error_code=f"e{place}"))
    assert set(samples(ledger)) - before == set()
    assert value(ledger, names.IN_STATUS, status="unknown") == 30


def test_an_order_on_hold_is_not_the_oldest_that_waits(ledger: Ledger) -> None:
    now = time.time_ns()
    keep(ledger, *(changed(f"A-{days}", occurred_at=now - days * DAY) for days in (1, 2, 3)))

    def oldest() -> float | None:
        return value(ledger, names.OLDEST_ENTERED, status="INITIATED")

    ledger.operators.hold("A-3", "3d", "on holiday", "anna")
    assert oldest() == pytest.approx((now - 2 * DAY) / 1e9)
    for order_id in ("A-1", "A-2"):
        ledger.operators.hold(order_id, "3d", "on holiday", "anna")
    assert oldest() is None
    ledger.operators.release("A-3", "anna")
    assert oldest() == pytest.approx((now - 3 * DAY) / 1e9)


def test_no_label_holds_an_order(ledger: Ledger) -> None:
    keep(ledger, *walk("ORDER-4711", *list(LIFECYCLE.statuses)[:10], start=time.time_ns() - HOUR, partner_id="acme"))
    assert "ORDER-4711" not in ledger.metrics.page().decode()
    labels = {label for family in families(ledger) for sample in family.samples for label in sample.labels}
    assert labels == {
        "status",
        "partner",
        "sla",
        "milestone",
        "result",
        "series",
        "service_name",
        "queue",
        "le",
        "why",
        "reason",
    }


def test_every_metric_has_help_and_a_type(ledger: Ledger) -> None:
    assert [family.name for family in families(ledger) if not family.documentation or family.type == "unknown"] == []


def test_the_last_event_of_each_service_is_exported_and_beats_count(ledger: Ledger) -> None:
    now = time.time_ns() // SECOND * SECOND

    def beat(at: int, instance: str) -> dict[str, Any]:
        return changed("", event_type=names.HEARTBEAT, instance=instance, occurred_at=at, service="mes-api")

    keep(ledger, beat(now - 2 * SECOND, "a"), beat(now - SECOND, "b"), changed("A-1", occurred_at=now - 3 * SECOND))
    keep(ledger, beat(now - 9 * SECOND, "b"), changed("A-2", service="stranger", occurred_at=now))
    services = {name: value(ledger, names.SERVICE_LAST_EVENT, service_name=name) for name in ("mes-api", "shop-api")}
    assert services == {"mes-api": now / 1e9 - 1, "shop-api": now / 1e9 - 3}
    assert value(ledger, names.SERVICE_LAST_EVENT, service_name="stranger") is None
    assert value(ledger, names.SERVICE_LAST_EVENT, service_name="other") == now / 1e9


def test_refused_events_are_counted_with_their_result(ledger: Ledger) -> None:
    keep(ledger, changed(""), changed("A-1", env="prod"), changed("A-1", occurred_at=5))
    assert value(ledger, names.LEDGER_EVENTS, result="rejected") == 2
    assert value(ledger, names.LEDGER_EVENTS, result="late") == 1


def test_its_own_state_is_exported(ledger: Ledger) -> None:
    wait_for(lambda: (value(ledger, "otel_orders_ledger_swept_timestamp_seconds") or 0) > time.time() - 5)
    assert (value(ledger, "otel_orders_ledger_store_bytes") or 0) > 0
    assert value(ledger, "otel_orders_ledger_waiting_events") == 0


def test_promises_kept_and_broken_are_counted_with_the_partner(ledger: Ledger) -> None:
    start = time.time_ns() - DAY
    keep(ledger, *walk("A-1", "SUBMITTED", "PRICE_CALCULATED", start=start, pause=MINUTE, partner_id="acme"))
    keep(ledger, *walk("A-2", "SUBMITTED", "PRICE_CALCULATED", start=start, pause=HOUR, partner_id="some-shop"))
    sla = "price_in_5_minutes"
    assert value(ledger, names.SLA_MET, sla=sla, partner="acme") == 1
    assert value(ledger, names.SLA_BREACHED, sla=sla, partner="acme") == 0
    assert value(ledger, names.SLA_BREACHED, sla=sla, partner="other") == 1
