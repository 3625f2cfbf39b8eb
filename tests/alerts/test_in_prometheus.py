"""From a real ledger through a real Prometheus and a real Alertmanager to a page."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import pytest

from otel_orders.generate.alerts_ledger import needed
from tests.alerts.prometheus import Prometheus, prometheus
from tests.alerts.running import Alertmanager, alerting
from tests.alerts.tools import ALERTS, REFERENCE
from tests.integration.processes import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.processes import Running

DAYS_AGO = 2 * 86_400 - 1_800
TOKEN = "a token of operators"  # noqa: S105 - of a ledger that ends with its test


class Seen(NamedTuple):
    prometheus: Prometheus
    alertmanager: Alertmanager
    ledger: Running


def event(order_id: str, from_status: str | None, to_status: str, ago: float) -> str:
    """One line: what happened so many seconds ago."""
    moved = {"event_type": "order.status_changed", "order_id": order_id, "to_status": to_status, "env": "test"}
    known = {"from_status": from_status} if from_status else {}
    return json.dumps(moved | known | {"service": "shop-api", "occurred_at": int((time.time() - ago) * 1e9)})


@pytest.fixture(scope="module")
def seen(
    prometheus_program: str, alertmanager_program: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Seen]:
    """Two replicas of a ledger in which one order is stuck, and who looks at it."""
    lines = [event("A-1", None, "INITIATED", DAYS_AGO), event("A-1", "INITIATED", "FILE_UPLOADED", DAYS_AGO - 9)]
    lines.append(event("A-1", "FILE_UPLOADED", "SUBMITTED", DAYS_AGO - 20))
    with ExitStack() as stack:
        environ = {"OTEL_ORDERS_LEDGER_OPERATOR_TOKEN": TOKEN}
        ledger = stack.enter_context(running(tmp_path_factory.mktemp("ledger"), environ=environ))
        with ledger.client() as client:
            client.post("/events", content="\n".join(lines)).raise_for_status()
        folder = tmp_path_factory.mktemp("alertmanager")
        alerts = stack.enter_context(alerting(alertmanager_program, ALERTS / "alertmanager.yaml", folder))
        target = urlsplit(ledger.url).netloc
        targets = {"ledger": target, "the same ledger again": target}
        at = urlsplit(alerts.url).netloc
        yield Seen(
            stack.enter_context(prometheus(prometheus_program, tmp_path_factory.mktemp("prometheus"), targets, at)),
            alerts,
            ledger,
        )


def test_prometheus_evaluates_every_rule_without_an_error(seen: Seen) -> None:
    seen.prometheus.shows("status:orders_in_status:max")
    wrong = {rule["name"]: rule["lastError"] for rule in seen.prometheus.rules() if rule["health"] != "ok"}
    assert wrong == {}


def test_what_the_ledger_always_shows_is_recorded_once_for_two_replicas(seen: Seen) -> None:
    waiting = [status for status in REFERENCE.statuses.values() if not status.terminal]
    seen.prometheus.shows('status:orders_stuck:max{status="SUBMITTED"} == 1')
    found = seen.prometheus.shows("status:orders_stuck:max")
    assert {(one["metric"]["status"], one["metric"]["owner"], one["value"][1]) for one in found} == {
        (status.name, status.owner, "1" if status.name == "SUBMITTED" else "0") for status in waiting
    }
    assert len(found) == len(waiting)
    seen.prometheus.shows('count(orders_stuck{status="SUBMITTED"}) == 2')
    for metric in needed(REFERENCE):
        assert seen.prometheus.shows(metric), metric


def test_a_stuck_order_becomes_one_page_with_its_numbers(seen: Seen) -> None:
    (told,) = seen.alertmanager.notified("mes-page", status="SUBMITTED")
    (alert,) = told["alerts"]
    assert alert["labels"] == {
        "alertname": "OrderStuck",
        "owner": "mes",
        "severity": "critical",
        "status": "SUBMITTED",
    }
    assert alert["annotations"]["summary"] == "1 order(s) stuck in SUBMITTED"
    assert (
        "longer than 1d 0h 0m 0s; 1 wait there in all. The oldest has waited for 1d 23h"
        in (alert["annotations"]["description"])
    )


def test_what_is_not_there_is_told_and_what_is_there_is_not(seen: Seen) -> None:
    seen.prometheus.shows('ALERTS{alertname="OrderStuck"}')
    found = {one["metric"]["alertname"] for one in seen.prometheus.shows("ALERTS") if one["metric"]}
    assert {"CollectorDown", "QueuesUnwatched", "ServiceNotScraped", "OrderStuck"} <= found
    # Before the first scrape there was no ledger, and nothing here waits.
    for_nothing = "LedgerDown|LedgerMetricsAbsent|LedgerLagging|OrderCreationFalling|StageBlind|StageStalled"
    seen.prometheus.shows(f'absent(ALERTS{{alertname=~"{for_nothing}"}})')


def test_an_order_that_is_put_on_hold_pages_no_more_and_is_seen_to_be_held(seen: Seen) -> None:
    seen.prometheus.shows('ALERTS{alertname="OrderStuck"}')
    wanted = {"until": "3d", "why": "a part is missing", "by": "anna"}
    with seen.ledger.client() as client:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        client.put("/orders/A-1/hold", json=wanted, headers=headers).raise_for_status()
    seen.prometheus.shows('absent(ALERTS{alertname="OrderStuck"})')
    assert seen.prometheus.shows('status:orders_on_hold:max{status="SUBMITTED"} == 1')
    assert seen.prometheus.query('status:orders_in_status:max{status="SUBMITTED"} == 1')
