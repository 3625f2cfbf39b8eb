"""What dashboards ask the ledger itself: a real one answers, and the rows are what the columns say."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from jsonata import Jsonata

from tests.dashboards.boards import BOARDS, panels
from tests.dashboards.told import INFINITY, told
from tests.integration.processes import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

ORDER = "A 1/2"
TRACE = "0af7651916cd43dd8448eb211c80319c"
WAY = ("INITIATED", "FILE_UPLOADED", "SUBMITTED")
TOLD = {
    panel["title"]: target
    for board in BOARDS.values()
    for panel in panels(board)
    for target in panel["targets"]
    if target["datasource"]["type"] == INFINITY
}


def lines() -> Iterator[str]:
    """An order of a partner that waits in SUBMITTED after a step that failed there, and another that waits too."""
    now = time.time_ns()
    for place, (before, after) in enumerate(pairwise((None, *WAY))):
        what = {"from_status": before} if before else {}
        at = now - (10 - place) * 10**9
        for order in (ORDER, "B-2"):
            yield event("order.status_changed", order, at, **what, to_status=after, partner_id="acme", trace_id=TRACE)
    failed = {"from_status": "SUBMITTED", "to_status": "PRICE_CALCULATED", "error_code": "no_model"}
    yield event("order.transition_failed", ORDER, now, **failed, duration=5_000_000)


def event(kind: str, order_id: str, at: int, **fields: object) -> str:
    """One line of JSON; at: unix ns."""
    return json.dumps(
        {"event_type": kind, "order_id": order_id, "occurred_at": at, "env": "test", "service": "shop-api", **fields}
    )


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with running(tmp_path_factory.mktemp("ledger")) as started, started.client() as client:
        client.post("/events", content="\n".join(lines())).raise_for_status()
        yield client


def rows(title: str, ledger: httpx.Client) -> list[dict[str, Any]]:
    return told(TOLD[title], ledger, {"order_id": ORDER, "status": "SUBMITTED"})


@pytest.mark.parametrize("title", TOLD)
def test_every_row_has_only_columns_of_the_type_that_is_told(title: str, ledger: httpx.Client) -> None:
    kinds = {column["text"]: column["type"] for column in TOLD[title]["columns"]}
    for row in rows(title, ledger):
        for heading, value in row.items():
            if value is None:
                continue
            if kinds[heading] == "timestamp_epoch":
                assert abs(value / 1000 - time.time()) < 2 * 86_400
            else:
                assert isinstance(value, str if kinds[heading] == "string" else (int, float))


def test_the_orders_that_wait_longest_are_listed_oldest_first(ledger: httpx.Client) -> None:
    found = rows("Which 20 orders have waited longest in $status?", ledger)
    assert {row["Order"] for row in found} == {ORDER, "B-2"}
    assert [row["Since"] for row in found] == sorted(row["Since"] for row in found)


def test_the_worst_orders_are_listed_with_whose_move_it_is(ledger: httpx.Client) -> None:
    found = rows("Which 20 orders are furthest over their limit, or nearest to it?", ledger)
    assert [(row["Order"], row["Status"], row["Whose move"]) for row in found] == [
        (ORDER, "SUBMITTED", "mes"),
        ("B-2", "SUBMITTED", "mes"),
    ]
    assert all(0 <= row["Limit used"] < 0.01 for row in found)


def test_one_order_is_told_where_it_is_and_whose_move_it_is(ledger: httpx.Client) -> None:
    (row,) = rows("Where is the order, and whose move is it?", ledger)
    assert row.items() >= {"Status": "SUBMITTED", "Whose move": "mes", "Stuck": "no", "Partner": "acme"}.items()
    assert row["Stuck from"] - row["Since"] == pytest.approx(86_400_000)


def test_its_stays_and_events_are_told_in_their_order(ledger: httpx.Client) -> None:
    stays = rows("Which statuses did the order pass, and how long did it stay in each?", ledger)
    assert [row["Status"] for row in stays] == [*WAY]
    events = rows("What happened to the order, one event after another?", ledger)
    assert [row["To"] for row in events] == [*WAY, "PRICE_CALCULATED"]
    assert (events[-1]["Error"], events[-1]["Took"]) == ("no_model", 5)
    assert events[0]["Trace"] == TRACE


def test_a_history_as_it_should_be_has_nothing_odd(ledger: httpx.Client) -> None:
    assert rows("Is anything odd about its history?", ledger) == []
    assert Jsonata(TOLD["Is anything odd about its history?"]["root_selector"]).evaluate({"oddities": ["a", "b"]}) == [
        {"What": "a"},
        {"What": "b"},
    ]
