"""The partners' API, over real HTTP."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from examples.order_pipeline.b2b.partners import Contract, Partner, Partners
from examples.order_pipeline.b2b.store import Received, order_id_for
from examples.order_pipeline.scenarios.models import ring, stl
from examples.order_pipeline.scenarios.pipeline import PACKAGE, QUOTAS
from examples.order_pipeline.scenarios.processes import Services

if TYPE_CHECKING:
    from pathlib import Path

    from tests.examples.running import Running

MODEL = base64.b64encode(stl(ring())).decode()


def batch(*references: str, **changes: str) -> dict[str, Any]:
    return {
        "orders": [
            {"reference": reference, "material": "gold-750", "model": MODEL, **changes} for reference in references
        ]
    }


def send(running: Running, partner_id: str, orders: dict[str, Any]) -> httpx.Response:
    return running.b2b.post("/batches", json=orders, headers={"X-API-Key": running.pipeline.keys[partner_id]})


@pytest.mark.broker
def test_the_partner_is_on_every_event_of_its_order(running: Running) -> None:
    (outcome,) = send(running, "acme", batch("through")).raise_for_status().json()
    assert outcome["status"] == "SUBMITTED"
    running.wait_for(outcome["order_id"], "CLOSED")
    partners = {(event["service"], event.get("partner_id")) for event in running.events(outcome["order_id"])}
    services = ("shop-api", "pricing-worker", "crm-api", "mes-api")
    assert partners == {(service, "acme") for service in services}


@pytest.mark.broker
def test_a_batch_that_is_sent_twice_orders_nothing_twice(running: Running) -> None:
    first, again = (send(running, "acme", batch("twice-1", "twice-2")).json() for _ in range(2))
    ids = [outcome["order_id"] for outcome in first]
    assert ids == [outcome["order_id"] for outcome in again]
    for order_id in ids:
        running.wait_for(order_id, "CLOSED")
        assert running.statuses(order_id).count("INITIATED") == running.statuses(order_id).count("SUBMITTED") == 1


@pytest.mark.broker
def test_an_order_that_the_shop_refuses_harms_no_neighbour(running: Running) -> None:
    orders = batch("fine") | {}
    orders["orders"] += batch("no such metal", material="Unobtainium")["orders"]
    fine, refused = send(running, "acme", orders).raise_for_status().json()
    assert (fine["status"], fine["refused"]) == ("SUBMITTED", None)
    assert refused["status"] is None
    assert refused["refused"].startswith("422: ")


@pytest.mark.broker
@pytest.mark.parametrize("key", ["", "wrong", "x" * 32])
def test_without_a_valid_key_nothing_is_read(running: Running, key: str) -> None:
    assert running.b2b.post("/batches", content=b"?", headers={"X-API-Key": key}).status_code == 401


@pytest.mark.broker
def test_more_than_the_quota_is_refused_until_tomorrow(running: Running) -> None:
    references = [f"many-{number}" for number in range(QUOTAS["globex"] + 1)]
    answer = send(running, "globex", batch(*references))
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 86_400
    assert running.shop.get(f"/orders/{order_id_for('globex', references[0])}").status_code == 404


@pytest.mark.broker
@pytest.mark.parametrize(
    "orders",
    [
        pytest.param({"orders": []}, id="no orders"),
        pytest.param({}, id="no list"),
        pytest.param(batch(*map(str, range(101))), id="too many orders"),
        pytest.param(batch("a", model="%%%"), id="not base64"),
        pytest.param(batch(""), id="no reference"),
    ],
)
def test_a_batch_that_makes_no_sense_is_refused(running: Running, orders: dict[str, Any]) -> None:
    assert send(running, "acme", orders).status_code == 422


@pytest.mark.broker
def test_a_shop_that_does_not_answer_is_no_reason_to_lose_a_batch(tmp_path: Path, vhost_url: str) -> None:
    key = "a key that is long enough"
    partners = f'[{{"partner_id": "acme", "daily_quota": 1, "key": "{key}"}}]'
    address_file = tmp_path / "b2b.address"
    environment = {
        "AMQP_URL": vhost_url,
        "SHOP_URL": "http://127.0.0.1:1",
        "B2B_PARTNERS": partners,
        "OTEL_ORDERS_PSEUDONYM_KEY": "a key of the test's own",
    }
    with Services(tmp_path, environment) as services:
        b2b = services.start(
            "b2b", f"{PACKAGE}.b2b.app", "--address-file", address_file, "--database", tmp_path / "b2b.db"
        )
        url = f"{b2b.address()}/batches"
        answers = [httpx.post(url, json=batch("a"), headers={"X-API-Key": key}, trust_env=False) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [502, 502]  # the second costs no quota
    assert "repeat the batch" in answers[0].json()["detail"]


def test_a_key_belongs_to_one_partner() -> None:
    partners = Partners([Contract("acme", 5, "a" * 16), Contract("globex", 7, "g" * 16)])
    assert partners.find("g" * 16) == Partner("globex", 7)
    assert partners.find("a" * 15) is None


@pytest.mark.parametrize(
    "text", ['[{"partner_id": "acme", "daily_quota": 1, "key": "short"}]', '[{"partner_id": "acme"}]', "{}"]
)
def test_contracts_that_cannot_work_are_refused_at_the_start(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expected|missing"):
        Partners.from_json(text)


def test_a_quota_is_for_a_day_and_a_partner_and_counts_a_reference_once(tmp_path: Path) -> None:
    received = Received(tmp_path / "b2b.db")
    today = datetime.now(UTC).date().isoformat()
    assert received.admit("acme", ["1", "2", "2"], today, quota=2)
    assert received.admit("acme", ["1", "2"], today, quota=2)
    assert not received.admit("acme", ["2", "3"], today, quota=2)
    assert received.admit("globex", ["3"], today, quota=2)
    assert received.admit("acme", ["3"], "2099-01-01", quota=2)
    received.disconnect()
