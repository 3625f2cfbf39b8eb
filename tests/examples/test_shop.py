"""The shop's API, over real HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from examples.order_pipeline.scenarios.models import broken_ring, stl
from examples.order_pipeline.shop.app import MAX_MODEL_BYTES

if TYPE_CHECKING:
    from tests.examples.running import Running

pytestmark = pytest.mark.broker

TO_PRICE = ["INITIATED", "FILE_UPLOADED", "SUBMITTED", "PRICE_CALCULATED"]
THROUGH_ALL_SYSTEMS = [
    *TO_PRICE,
    "MANUFACTURING_APPROVED",
    "MANUFACTURING_STARTED",
    "MANUFACTURING_COMPLETED",
    "SHIPPED",
    "CLOSED",
]


def test_an_order_goes_through_all_systems(running: Running) -> None:
    order_id = running.create()
    running.upload(order_id).raise_for_status()
    running.submit(order_id).raise_for_status()
    running.wait_for(order_id, "CLOSED")
    assert running.statuses(order_id) == THROUGH_ALL_SYSTEMS
    assert order_id in running.pipeline.journal.read_text()
    assert running.shop.get(f"/orders/{order_id}").json()["price_cents"] > 2500


def test_a_rejected_model_can_be_mended(running: Running) -> None:
    order_id = running.create()
    running.upload(order_id, stl(broken_ring())).raise_for_status()
    running.submit(order_id).raise_for_status()
    running.wait_for(order_id, "PRICE_REJECTED")
    failed = [event for event in running.events(order_id) if event["event_type"] == "order.transition_failed"]
    assert [(event["to_status"], event["error_code"]) for event in failed] == [("PRICE_CALCULATED", "not_watertight")]

    running.upload(order_id).raise_for_status()
    running.submit(order_id).raise_for_status()
    running.wait_for(order_id, "CLOSED")
    assert running.statuses(order_id)[3:6] == ["PRICE_REJECTED", "FILE_UPLOADED", "SUBMITTED"]
    mended = running.events(order_id)[5]
    assert (mended["from_status"], mended["to_status"]) == ("PRICE_REJECTED", "FILE_UPLOADED")


def test_the_shop_shows_why_a_model_was_rejected(running: Running) -> None:
    order_id = running.create()
    running.upload(order_id, b"not a mesh").raise_for_status()
    running.submit(order_id).raise_for_status()
    running.wait_for(order_id, "PRICE_REJECTED")
    order = running.shop.get(f"/orders/{order_id}").json()
    assert order["rejection"] == "a binary STL has at least 84 bytes, this has 10"


def test_a_better_file_for_the_same_step_is_no_transition(running: Running) -> None:
    order_id = running.create()
    assert [running.upload(order_id).json()["revision"] for _ in range(3)] == [1, 2, 3]
    assert running.statuses(order_id) == ["INITIATED", "FILE_UPLOADED"]


def test_an_order_can_be_cancelled_before_it_is_submitted(running: Running) -> None:
    order_id = running.create()
    running.shop.post(f"/orders/{order_id}/cancel").raise_for_status()
    assert running.statuses(order_id) == ["INITIATED", "CANCELLED"]
    assert running.upload(order_id).status_code == 409


def test_an_order_that_rabbitmq_did_not_take_can_be_submitted_again(running: Running) -> None:
    order_id = running.create()
    running.upload(order_id).raise_for_status()
    running.channel.queue_unbind("pricing.requests", "orders", "pricing")
    try:
        refused = running.submit(order_id)
    finally:
        running.channel.queue_bind("pricing.requests", "orders", "pricing")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    running.submit(order_id).raise_for_status()
    running.wait_for(order_id, "PRICE_CALCULATED")
    assert running.statuses(order_id)[:4] == TO_PRICE


@pytest.mark.parametrize(
    "order",
    [
        pytest.param({}, id="no material"),
        pytest.param({"material": "Gold; DROP TABLE"}, id="a material that is none"),
        pytest.param({"material": "gold-585", "order_id": "a/b"}, id="an id that would be a path"),
        pytest.param({"material": "gold-585", "partner_id": "x" * 65}, id="a partner id that is too long"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(running: Running, order: dict[str, str]) -> None:
    assert running.shop.post("/orders", json=order).status_code == 422


def test_an_id_names_one_order(running: Running) -> None:
    order_id = running.create()
    same = {"material": "silver-925", "order_id": order_id}
    assert running.shop.post("/orders", json=same).json()["order_id"] == order_id
    assert running.shop.post("/orders", json={**same, "material": "gold-585"}).status_code == 409
    assert running.statuses(order_id) == ["INITIATED"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/model"), ("PUT", "/model"), ("POST", "/submit"), ("POST", "/cancel"), ("PUT", "/quote")],
)
def test_an_unknown_order_is_not_found(running: Running, method: str, path: str) -> None:
    answer = running.shop.request(method, f"/orders/nobody{path}", json={"revision": 1, "price_cents": 1})
    assert (answer.status_code, answer.json()) == (404, {"detail": "there is no such order"})


def test_an_order_without_a_model_can_neither_be_fetched_nor_submitted(running: Running) -> None:
    order_id = running.create()
    assert running.shop.get(f"/orders/{order_id}/model").status_code == 404
    assert running.submit(order_id).status_code == 409


@pytest.mark.parametrize(
    ("size", "status"),
    [
        pytest.param(0, 422, id="empty"),
        pytest.param(MAX_MODEL_BYTES, 200, id="as large as can be"),
        pytest.param(MAX_MODEL_BYTES + 1, 413, id="a byte too large"),
    ],
)
def test_the_size_of_a_model_is_limited(running: Running, size: int, status: int) -> None:
    order_id = running.create()
    assert running.upload(order_id, bytes(size)).status_code == status
    assert ("FILE_UPLOADED" in running.statuses(order_id)) == (status == 200)


@pytest.mark.parametrize("quote", [{}, {"price_cents": 5, "rejection": "no"}, {"price_cents": 0}])
def test_a_quote_is_either_a_price_or_a_rejection(running: Running, quote: dict[str, object]) -> None:
    answer = running.shop.put(f"/orders/{running.create()}/quote", json={"revision": 1, **quote})
    assert answer.status_code == 422
