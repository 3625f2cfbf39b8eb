"""Who may change something by HTTP, what the answers are, and how it is shown."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from otel_orders import names
from otel_orders.ledger.service import Ledger, open_store
from tests.ledger import senders
from tests.ledger.senders import ENV, SECOND, changed
from tests.ledger.stores import ROTTEN, spoil
from tests.ledger.strategies import DAY, HOUR, LIFECYCLE
from tests.server.conftest import served
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

READS, CHANGES = "of support", "of an operator"
OPERATOR = {"authorization": f"Bearer {CHANGES}"}
HOLD = {"until": "3d", "why": "on <holiday>", "by": "anna"}
OLD = 2 * DAY


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    """A client that may do all, of a ledger with tokens; order A-1 has been stuck for a day."""
    with (
        closing(Ledger(open_store(f"sqlite:///{tmp_path / 'ledger.db'}"), LIFECYCLE, ENV)) as ledger,
        served(ledger, READS, CHANGES) as asking,
    ):
        asking.headers.update(OPERATOR)
        send(asking, changed("A-1", occurred_at=time.time_ns() - OLD))
        wait_for(lambda: asking.get("/statuses").json()["statuses"][0]["stuck"] == 1)
        yield asking


def send(client: httpx.Client, *records: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = client.post("/events", content=senders.lines(records)).json()
    return answer


def first(client: httpx.Client) -> dict[str, Any]:
    stage: dict[str, Any] = client.get("/statuses").json()["statuses"][0]
    return stage


def page(client: httpx.Client, path: str) -> str:
    return client.get(path, headers={"accept": "text/html"}).text


REQUESTS: list[tuple[str, str, Any]] = [
    ("PUT", "/orders/A-1/hold", HOLD),
    ("DELETE", "/orders/A-1/hold?by=anna", None),
    ("PUT", "/holds?order_id=A-1", HOLD),
    ("DELETE", "/holds?order_id=A-1&by=anna", None),
    ("POST", "/erasures", {"order_id": "A-1", "by": "anna"}),
    ("POST", "/erasures", {"partner_id": "acme", "by": "anna"}),
    ("GET", "/audit", None),
]


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
def test_support_can_look_and_change_nothing(client: httpx.Client, method: str, path: str, body: Any) -> None:
    before = client.get("/orders/A-1").json()["events"]
    support = {"authorization": f"Bearer {READS}"}
    assert client.get("/orders/A-1", headers=support).is_success
    assert client.request(method, path, json=body, headers=support).status_code == 403
    assert client.request(method, path, json=body, headers={"authorization": "Bearer x"}).status_code == 401
    assert client.get("/orders/A-1").json()["events"] == before
    assert client.get("/orders/A-1").json()["hold"] is None


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
def test_without_an_operator_token_nobody_changes_anything(ledger: Ledger, method: str, path: str, body: Any) -> None:
    for token in (None, READS):
        with served(ledger, token) as client:
            answer = client.request(method, path, json=body, headers={"authorization": f"Bearer {READS}"})
            assert answer.status_code == 403
            assert "OTEL_ORDERS_LEDGER_OPERATOR_TOKEN" in answer.json()["error"]


def test_an_operator_token_is_enough_where_reading_needs_none(ledger: Ledger) -> None:
    with served(ledger, None, CHANGES) as client:
        send(client, changed("A-1"))
        assert client.put("/orders/A-1/hold", json=HOLD).status_code == 403
        assert client.put("/orders/A-1/hold", json=HOLD, headers=OPERATOR).is_success


def test_a_held_order_is_shown_as_such_everywhere_and_not_as_stuck(client: httpx.Client) -> None:
    answer = client.put("/orders/A-1/hold", json=HOLD)
    assert answer.is_success
    told = client.get("/orders/A-1").json()
    assert (told["stuck"], told["hold"]["why"], told["hold"]["by"]) == (False, "on <holiday>", "anna")
    assert answer.json()["hold"]["until"] == told["hold"]["until"]
    assert (first(client)["stuck"], first(client)["on_hold"], first(client)["orders"]) == (0, 1, 1)
    listed = client.get("/statuses/INITIATED/orders").json()["orders"]
    assert (listed[0]["order_id"], listed[0]["hold"]) == ("A-1", told["hold"])
    assert client.get("/orders").json() == {"orders": []}
    for path in ("/orders/A-1", "/statuses/INITIATED/orders"):
        assert "on &lt;holiday&gt;" in page(client, path)
        assert "anna" in page(client, path)
    assert "On hold</th>" in page(client, "/")
    assert f'{names.ON_HOLD}{{status="INITIATED"}} 1.0' in client.get("/metrics").text

    assert client.delete("/orders/A-1/hold?by=berta").status_code == 204
    assert (first(client)["stuck"], first(client)["on_hold"]) == (1, 0)
    assert client.get("/orders/A-1").json()["hold"] is None
    assert client.get("/orders").json()["orders"][0]["order_id"] == "A-1"


@pytest.mark.parametrize("order_id", [".", "..", "a/b", "/", "x/hold", "a?b#c", "100%", "заказ"])
def test_any_order_can_be_put_on_hold_and_taken_off_it(client: httpx.Client, order_id: str) -> None:
    send(client, changed(order_id))
    named = {"order_id": order_id}
    assert client.put("/holds", params=named, json=HOLD).is_success
    assert client.get("/find", params=named, follow_redirects=True).json()["hold"]["why"] == HOLD["why"]
    assert client.delete("/holds", params=named | {"by": "anna"}).status_code == 204
    assert first(client)["on_hold"] == 0


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_hold_names_its_order(client: httpx.Client, method: str) -> None:
    answer = client.request(method, "/holds?by=anna", json=HOLD)
    assert (answer.status_code, answer.json()) == (400, {"error": "order_id: expected the id of an order"})


def test_a_hold_that_ends_pages_again_within_5_seconds(client: httpx.Client) -> None:
    ends = client.put("/orders/A-1/hold", json=HOLD | {"until": "1s"}).json()["hold"]["until"]
    wait_for(lambda: first(client)["stuck"] == 1)
    assert 0 <= time.time_ns() - ends < 5 * SECOND
    assert client.get("/orders/A-1").json()["hold"]["lasts"] is False
    assert "Was on hold until" in page(client, "/orders/A-1")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (HOLD | {"until": "soon"}, 409, "until: expected 2026-12-24"),
        (HOLD | {"why": ""}, 409, "why: expected"),
        ({"until": "3d", "by": "anna"}, 400, "text fields until, why, by"),
        (HOLD | {"until": 3}, 400, "text fields"),
        (HOLD | {"more": "x"}, 400, "text fields"),
        ([HOLD], 400, "a JSON object"),
        (HOLD | {"why": "x" * 20_000}, 413, "16384 bytes"),
    ],
)
def test_what_is_wrong_with_a_hold_is_said(client: httpx.Client, body: Any, status: int, says: str) -> None:
    answer = client.put("/orders/A-1/hold", json=body)
    assert (answer.status_code, says in answer.json()["error"]) == (status, True)
    assert client.get("/audit").json() == {"entries": []}


def test_an_order_that_is_not_there_is_not_found(client: httpx.Client) -> None:
    assert client.put("/orders/nobody/hold", json=HOLD).status_code == 404
    assert client.delete("/orders/nobody/hold?by=anna").status_code == 404
    assert client.post("/erasures", json={"order_id": "nobody", "by": "anna"}).status_code == 404
    assert client.delete("/orders/A-1/hold?by=anna").status_code == 409


@pytest.mark.parametrize("order_id", ["a/b", "hold", "x/hold", "/hold", "a?b", "ä"])
def test_any_order_can_be_held_and_erased(client: httpx.Client, order_id: str) -> None:
    send(client, changed(order_id), changed("x"))
    path = f"/orders/{quote(order_id, safe='')}"
    assert client.put(f"{path}/hold", json=HOLD).is_success
    assert client.get(path).json()["hold"]["by"] == "anna"
    assert client.get("/orders/x").json()["hold"] is None
    assert client.post("/erasures", json={"order_id": order_id, "by": "anna"}).json() == {"erased": 1}
    assert client.get(path).status_code == 404
    assert client.get("/orders/x").is_success


@pytest.mark.parametrize("rotten", [b"\xff", ROTTEN])
def test_an_order_whose_row_has_rotted_is_said_to_be_unreadable_and_can_be_erased(
    client: httpx.Client, tmp_path: Path, caplog: pytest.LogCaptureFixture, rotten: bytes
) -> None:
    send(client, changed("B-1"))
    with closing(open_store(f"sqlite:///{tmp_path / 'ledger.db'}")) as store:
        spoil(store, "B-1", rotten)
    answer = client.get("/orders/B-1")
    assert (answer.status_code, answer.json()["error"].partition(";")[0]) == (500, "this order's row cannot be read")
    assert "What the ledger keeps of order B-1" in page(client, "/orders/B-1")
    assert client.get("/orders/A-1").is_success
    assert caplog.text == ""  # no traceback
    assert send(client, changed("B-1", "FILE_UPLOADED"))["rejected"] == {"unreadable_order": 1}
    wait_for(lambda: f"{names.UNREADABLE} 1.0" in client.get("/metrics").text)
    assert client.post("/erasures", json={"order_id": "B-1", "by": "anna"}).json() == {"erased": 1}
    assert client.get("/orders/B-1").status_code == 404


def test_what_comes_of_an_erased_order_is_refused_and_the_sender_is_told(client: httpx.Client) -> None:
    send(client, changed("A-2", partner_id="acme"), changed("A-3", partner_id="acme"))
    assert client.post("/erasures", json={"partner_id": "acme", "by": "anna"}).json() == {"erased": 2}
    told = send(client, changed("A-2", "FILE_UPLOADED", "INITIATED"), changed("A-4"))
    assert (told["results"], told["rejected"]) == ({"accepted": 1}, {"erased": 1})
    assert f'{names.LEDGER_EVENTS}{{result="erased"}} 1.0' in client.get("/metrics").text
    assert f'{names.REMOVED}{{why="erased"}} 2.0' in client.get("/metrics").text


def test_the_audit_is_for_operators_and_can_be_asked_about_one_order(client: httpx.Client) -> None:
    before = time.time_ns()
    client.put("/orders/A-1/hold", json=HOLD)
    client.post("/erasures", json={"order_id": "A-1", "by": "berta"})
    found = client.get("/audit?order_id=A-1").json()["entries"]
    assert [(entry["what"], entry["by"]) for entry in found] == [("hold", "anna"), ("erase", "berta")]
    assert before <= found[0]["at"] < before + HOUR
    assert client.get("/audit?order_id=A-2").json()["entries"] == []
    assert "A-1" not in client.get("/audit").text
