"""Every query of every dashboard, answered by a real Prometheus that scrapes a real ledger."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest

from tests.alerts.prometheus import Prometheus, prometheus
from tests.alerts.test_in_prometheus import event
from tests.alerts.tools import REFERENCE
from tests.dashboards.boards import BOARDS, asked, panels
from tests.dashboards.test_board_queries import filled
from tests.integration.processes import running

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = "127.0.0.1:9"
HOUR = 3600.0
OPEN = [status for status in REFERENCE.statuses.values() if not status.terminal]


@pytest.fixture(scope="module")
def seen(prometheus_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Two replicas of a ledger in which orders wait, and the Prometheus that looks at both."""
    way: list[str | None] = [None, "INITIATED", "FILE_UPLOADED", "SUBMITTED", "PRICE_CALCULATED"]
    lines = [
        event(f"A-{order}", before, str(after), 2 * HOUR - 60 * (order + place))
        for order in range(4)
        for place, (before, after) in enumerate(pairwise(way))
        if place <= order
    ]
    with ExitStack() as stack:
        ledger = stack.enter_context(running(tmp_path_factory.mktemp("ledger")))
        with ledger.client() as client:
            client.post("/events", content="\n".join(lines)).raise_for_status()
        target = urlsplit(ledger.url).netloc
        targets = {"ledger": target, "the same ledger again": target}
        yield stack.enter_context(
            prometheus(prometheus_program, tmp_path_factory.mktemp("prometheus"), targets, NOBODY)
        )


@pytest.mark.parametrize("name", [name for name in BOARDS if name != "order"])
def test_prometheus_answers_every_query(name: str, seen: Prometheus) -> None:
    seen.shows("status:order_stage_state:max")
    for panel in panels(BOARDS[name]):
        for expr in asked(panel):
            try:
                seen.query(filled(expr))
            except httpx.HTTPStatusError as error:
                pytest.fail(f"{panel['title']}: {error.response.text}\n{expr}")


@pytest.mark.parametrize(
    "title",
    [
        "Does each stage flow, stand still, or can nobody tell?",
        "Where are the orders, since when, and whose move is it?",
        "How many orders wait in each status?",
    ],
)
def test_the_overview_shows_each_status_once_for_two_replicas_in_pipeline_order(title: str, seen: Prometheus) -> None:
    (panel,) = (panel for panel in panels(BOARDS["overview"]) if panel["title"] == title)
    seen.shows("status:order_stage_state:max")
    if panel["type"] == "table":
        ranks = seen.query(filled(asked(panel)[0]))
        found = [one["metric"]["status"] for one in sorted(ranks, key=lambda one: float(one["value"][1]))]
    else:
        answers = [seen.query(filled(expr)) for expr in asked(panel)]
        found = [one["metric"]["status"] for answer in answers for one in answer]
    assert found == [status.name for status in OPEN]


def test_a_column_of_the_table_says_how_long_the_oldest_order_has_waited(seen: Prometheus) -> None:
    (table,) = (panel for panel in panels(BOARDS["overview"]) if panel["title"].startswith("Where are the orders,"))
    (oldest,) = (expr for expr in asked(table) if "oldest" in expr)
    seen.shows("status:order_oldest_entered_timestamp_seconds:max")
    ages = {one["metric"]["status"]: float(one["value"][1]) for one in seen.query(filled(oldest))}
    assert set(ages) == {"INITIATED", "FILE_UPLOADED", "SUBMITTED", "PRICE_CALCULATED"}
    assert all(1.5 * HOUR < age < 2.1 * HOUR for age in ages.values())


def test_the_ledger_shows_all_that_alerts_need(seen: Prometheus) -> None:
    (panel,) = (panel for panel in panels(BOARDS["telemetry"]) if "metrics that alerts need" in panel["title"])
    (shown,) = seen.query(filled(asked(panel)[0]))
    assert panel["title"].startswith(f"How many of the {shown['value'][1]} ")
