"""Business figures by HTTP: JSON, CSV, a page, and what may be asked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from otel_orders.server import reports
from tests.ledger import senders
from tests.ledger.senders import changed, walk
from tests.ledger.strategies import DAY, HOUR

if TYPE_CHECKING:
    import httpx

PAGE = {"accept": "text/html"}


@pytest.fixture
def client(client: httpx.Client) -> httpx.Client:
    start = time.time_ns() - 2 * DAY
    records = walk("A-1", "INITIATED", "FILE_UPLOADED", "SUBMITTED", start=start, pause=HOUR, partner_id="acme")
    failed = changed("A-1", "PRICE_CALCULATED", event_type="order.transition_failed", error_code="<script>NoMesh")
    client.post("/events", content=senders.lines([*records, failed, changed("A-2")])).raise_for_status()
    return client


def test_figures_are_json_for_programs(client: httpx.Client) -> None:
    told = client.get("/report").json()
    assert (told["orders"], told["waiting"], told["stuck"], told["stuck_share"]) == (2, 2, 1, 0.5)
    submitted = next(stay for stay in told["stays"] if stay["status"] == "SUBMITTED")
    assert (submitted["times"]["finished"], submitted["times"]["waiting"]) == (0, 1)
    assert told["reached"][0] == {"status": "INITIATED", "orders": 2, "share": 1.0}


def test_figures_are_a_page_for_browsers_where_no_script_runs(client: httpx.Client) -> None:
    answer = client.get("/report?since=3d&partner=acme", headers=PAGE)
    assert "1 orders, 1 wait" in answer.text
    assert "<script" not in answer.text
    assert "&lt;script&gt;NoMesh" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert 'href="/report"' in client.get("/", headers=PAGE).text


def test_figures_are_csv_for_spreadsheets(client: httpx.Client) -> None:
    answer = client.get("/report?format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.text.splitlines()[:2] == ["table,name,partner,figure,value", "orders,,,orders,2"]


@pytest.mark.parametrize(
    ("query", "orders"),
    [
        ("since=1d", 1),
        ("until=1d", 1),
        ("since=3d&until=1d", 1),
        ("partner=acme", 1),
        ("partner=", 2),
        ("status=SUBMITTED", 2),
        ("since=2020-01-01T00:00%2B01:00", 2),
    ],
)
def test_orders_are_chosen_by_query(client: httpx.Client, query: str, orders: int) -> None:
    assert client.get(f"/report?{query}").json()["orders"] == orders


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("since=soon", 400, "since: expected 2026-12-24"),
        ("until=2026-01-01T00:00", 400, "no offset"),
        ("status=NONE", 404, "no such status"),
        ("format=xml", 400, "format: expected csv"),
        ("from=3d", 400, "from: expected one of"),
    ],
)
def test_what_is_wrong_is_said(client: httpx.Client, query: str, status: int, says: str) -> None:
    answer = client.get(f"/report?{query}")
    assert (answer.status_code, says in answer.json()["error"]) == (status, True)


def test_one_report_is_made_at_a_time(client: httpx.Client) -> None:
    with reports._turn:
        answer = client.get("/report")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        told: dict[str, Any] = client.get("/statuses").json()
        assert told["statuses"]
    assert client.get("/report").is_success
