"""What can be asked of a served ledger, and by whom."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from otel_orders import names
from otel_orders.errors import ConfigurationError
from otel_orders.ledger.courtesy import Lookups, lookups
from otel_orders.server.serve import bound, is_loopback, listen, url_of
from tests.ledger import senders
from tests.ledger.senders import SECOND, changed, walk
from tests.ledger.strategies import LIFECYCLE
from tests.server.conftest import served
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from otel_orders.ledger.service import Ledger

TOKEN = "s3cret-tökén"  # noqa: S105 - of a test


def post(client: httpx.Client, *records: dict[str, Any], **headers: str) -> httpx.Response:
    return client.post("/events", content=senders.lines(records), headers=headers)


ODD_IDS = [
    "4711",
    "a/b",
    "/a//b/",
    "..",
    "a b",
    " a ",
    "a%2Fb",
    "100%",
    "a?b=c&d#e",
    "заказ-№1",
    "注文",
    "😀",
    "a\u00a0b",
    "a+b",
    "a;b",
    '"><script>alert(1)</script>',
    "x" * 256,
]


@pytest.mark.parametrize("order_id", ODD_IDS, ids=ascii)
def test_any_order_id_can_be_asked_for(client: httpx.Client, order_id: str) -> None:
    assert post(client, changed(order_id)).json()["results"] == {"accepted": 1}
    # httpx resolves dots in paths even if they are encoded; others do not.
    path = quote(order_id, safe="") if order_id != ".." else "%2E%2E"
    answer = client.send(_request(client, f"/orders/{path}"))
    assert answer.status_code == 200
    assert answer.json()["order_id"] == order_id
    page = client.send(_request(client, f"/orders/{path}", accept="text/html"))
    assert page.status_code == 200
    assert "<script" not in page.text


@pytest.mark.parametrize("order_id", [".", ".."])
def test_an_order_that_browsers_take_out_of_a_path_is_found(client: httpx.Client, order_id: str) -> None:
    post(client, changed(order_id))
    listed = client.get("/statuses/INITIATED/orders", headers={"accept": "text/html"}).text
    link = f"/find?order_id={order_id}"
    assert f'href="{link}"' in listed
    assert client.get(link).json()["order_id"] == order_id
    assert f"Order {order_id}" in client.get(link, headers={"accept": "text/html"}).text


def _request(client: httpx.Client, raw_path: str, **headers: str) -> httpx.Request:
    return client.build_request("GET", "/", headers=headers, extensions={"target": raw_path.encode()})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1, max_size=30))
def test_any_text_is_an_order_id_that_can_be_asked_for_or_is_refused(client: httpx.Client, order_id: str) -> None:
    results = post(client, changed(order_id)).json()
    answer = client.send(_request(client, f"/orders/{quote(order_id, safe='')}"))
    if results["rejected"]:
        assert not order_id.strip() or any(letter < " " or letter == "\x7f" for letter in order_id)
    else:
        assert answer.json()["order_id"] == order_id


@pytest.mark.parametrize("error_code", ["", "PriceError"])
@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"event_type": names.TRANSITION_FAILED, "to_status": "SUBMITTED"}, "failed to enter SUBMITTED"),
        ({"event_type": names.STATUS_CHANGED, "to_status": "SUBMITTED"}, "<b>SUBMITTED</b>"),
        ({"event_type": names.MESSAGE_SETTLED, "outcome": "reject"}, "order.message_settled: reject"),
    ],
)
def test_the_page_tells_an_event_of_any_kind_with_its_error_or_without(
    client: httpx.Client, fields: dict[str, str], says: str, error_code: str
) -> None:
    told = post(client, changed("A-1") | fields | {"error_code": error_code})
    assert told.json()["results"].keys() <= {"accepted", "skipped"}
    page = client.get("/orders/A-1", headers={"accept": "text/html"})
    assert (page.status_code, says in page.text) == (200, True)
    assert ("failed to enter" in page.text) == (fields["event_type"] == names.TRANSITION_FAILED)


def test_an_order_that_is_not_known_is_said_so(client: httpx.Client) -> None:
    answer = client.get("/orders/nobody")
    assert answer.status_code == 404
    assert answer.json() == {"error": "no event of this order has reached this ledger (env test)"}
    page = client.get("/orders/<b>nobody", headers={"accept": "text/html"})
    assert page.status_code == 404
    assert "&lt;b&gt;nobody" in page.text


def test_the_orders_that_wait_longest_come_first(client: httpx.Client) -> None:
    now = time.time_ns()
    post(client, *(changed(f"A-{place}", occurred_at=now - place * SECOND) for place in range(5)))
    answer = client.get("/statuses/INITIATED/orders", params={"limit": 2})
    assert [order["order_id"] for order in answer.json()["orders"]] == ["A-4", "A-3"]
    assert client.get("/statuses/SUBMITTED/orders").json() == {"orders": []}


def test_the_worst_orders_are_those_that_used_most_of_their_limit_wherever_they_wait(client: httpx.Client) -> None:
    def at(hours_ago: int) -> int:
        return time.time_ns() - hours_ago * 3600 * SECOND

    # A day and a day may pass in INITIATED and SUBMITTED, two days in PRICE_CALCULATED; SHIPPED has a week.
    since = {"INITIATED": 20, "SUBMITTED": 30, "PRICE_CALCULATED": 42, "SHIPPED": 60, "CLOSED": 900}
    post(client, *(changed(f"in {name}", name, occurred_at=at(hours)) for name, hours in since.items()))
    post(client, changed("younger", occurred_at=at(19)))
    answer = client.get("/orders", params={"limit": 4}).json()["orders"]
    assert [order["order_id"] for order in answer] == ["in SUBMITTED", "in PRICE_CALCULATED", "in INITIATED", "younger"]
    assert (answer[0]["status"], answer[0]["owner"], answer[0]["stuck_after"]) == ("SUBMITTED", "mes", 86_400)
    assert answer[0]["used"] == pytest.approx(1.25, abs=0.01)
    page = client.get("/orders", headers={"accept": "text/html"}).text
    assert page.index("in%20SUBMITTED") < page.index("in%20INITIATED") < page.index("in%20SHIPPED")
    assert "in%20CLOSED" not in page


@pytest.mark.parametrize("path", ["/orders", "/statuses/INITIATED/orders"])
@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "1.5", "٣", "9" * 5000, "01"])
def test_a_limit_out_of_bounds_is_refused(client: httpx.Client, path: str, limit: str) -> None:
    answer = client.get(path, params={"limit": limit})
    assert answer.status_code == 400
    assert answer.json() == {"error": "limit: expected 1 to 1000"}


def test_a_status_that_is_not_in_the_lifecycle_is_said_so(client: httpx.Client) -> None:
    answer = client.get("/statuses/MYSTERY/orders")
    assert answer.status_code == 404
    assert "INITIATED, FILE_UPLOADED" in answer.json()["error"]


def test_the_board_counts_who_waits_where(client: httpx.Client) -> None:
    post(client, changed("A-1"), changed("A-2"))
    first = client.get("/statuses").json()["statuses"][0]
    assert (first["status"], first["orders"], first["reached"]) == ("INITIATED", 2, 2)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/logs", 405),
        ("DELETE", "/orders/A-1", 405),
        ("POST", "/orders/A-1", 405),
        ("PUT", "/events", 405),
        ("POST", "/v1/metrics", 404),
        ("GET", "/../../etc/passwd", 404),
    ],
)
def test_what_is_not_served_is_refused_in_json(client: httpx.Client, method: str, path: str, status: int) -> None:
    request = client.build_request(method, "/", extensions={"target": path.encode()})
    answer = client.send(request)
    assert answer.status_code == status
    assert "error" in answer.json()


def test_it_says_that_it_lives_and_is_ready(ledger: Ledger, client: httpx.Client) -> None:
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/readyz").text == "ready\n"
    ledger.writer.close()
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200


def test_a_ledger_that_cannot_write_is_not_ready_and_counts_it(ledger: Ledger, client: httpx.Client) -> None:
    store = Path(ledger._store._path)  # type: ignore[attr-defined]
    store.rename(f"{store}.old")
    assert post(client, changed("A-1")).status_code == 503
    answer = client.get("/readyz")
    assert (answer.status_code, "moved or deleted" in answer.json()["error"]) == (503, True)
    counted = [line for line in client.get("/metrics").text.splitlines() if 'reason="gone"' in line]
    assert float(counted[0].split()[1]) >= 1
    assert client.get("/healthz").is_success
    Path(f"{store}.old").rename(store)


ASKED = [
    "/",
    "/statuses",
    "/orders",
    "/orders/A-1",
    "/statuses/INITIATED/orders",
    "/metrics",
    "/find?order_id=A-1",
    "/nowhere",
]


@pytest.mark.parametrize(
    "given_token", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"]
)
def test_without_the_token_nothing_about_orders_is_said_or_taken(ledger: Ledger, given_token: str | None) -> None:
    headers = {} if given_token is None else {b"authorization": given_token.encode()}
    with served(ledger, TOKEN) as client:
        answers = [client.get(path, headers=headers) for path in ASKED]
        answers += [client.post(path, content=b"", headers=headers) for path in ("/events", "/v1/logs", "/v1/traces")]
        assert [answer.status_code for answer in answers] == [401] * len(answers)
        assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_with_the_token_all_is_open(ledger: Ledger, scheme: str) -> None:
    headers = {b"authorization": f"{scheme} {TOKEN}".encode()}
    with served(ledger, TOKEN) as client:
        taken = client.post("/events", content=senders.lines([changed("A-1")]), headers=headers)
        assert taken.json()["received"] == 1
        assert client.get("/orders/A-1", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *((host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")),
        *((host, False) for host in ("0.0.0.0", "::", "", "10.0.0.1", "127.0.0.1.example")),  # noqa: S104
    ],
)
def test_it_knows_which_addresses_only_this_machine_reaches(host: str, *, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_scrapes_and_stories_are_answered_while_events_come(client: httpx.Client) -> None:
    statuses = list(LIFECYCLE.statuses)[:3]
    now = time.time_ns() - 60 * SECOND

    def send() -> None:
        with httpx.Client(base_url=client.base_url, trust_env=False) as own:
            for batch in range(20):
                records = [one for place in range(50) for one in walk(f"A-{batch}-{place}", *statuses, start=now)]
                post(own, *records).raise_for_status()

    senders_ = [threading.Thread(target=send) for _ in range(2)]  # both send the same events
    for sender in senders_:
        sender.start()
    reached = [0.0]
    while any(sender.is_alive() for sender in senders_):
        reached.append(_sample(client, "orders_reached_total", status=statuses[0]))
        assert client.get("/orders/A-0-0").status_code in (200, 404)
    for sender in senders_:
        sender.join()
    assert reached == sorted(reached)
    assert _sample(client, "orders_reached_total", status=statuses[0]) == 1000
    assert _sample(client, "otel_orders_ledger_events_total", result="accepted") == 3000
    assert _sample(client, "otel_orders_ledger_events_total", result="duplicate") == 3000


def _sample(client: httpx.Client, name: str, **labels: str) -> float:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    raise AssertionError(f"no {name} {json.dumps(labels)}")


@pytest.mark.parametrize(
    ("asked", "leads_to"),
    [
        ("A-1", "/orders/A-1"),
        (" a/b? ", "/orders/a%2Fb%3F"),
        ("//evil.example", "/orders/%2F%2Fevil.example"),
        ("a\r\nset-cookie: x", "/orders/a%0D%0Aset-cookie%3A%20x"),
        ("", "/"),
    ],
)
def test_the_search_field_leads_to_the_order_and_nowhere_else(client: httpx.Client, asked: str, leads_to: str) -> None:
    answer = client.get("/find", params={"order_id": asked})
    assert (answer.status_code, answer.headers["location"]) == (303, leads_to)


@pytest.mark.parametrize(
    "path", ["/", "/orders", "/statuses", "/statuses/INITIATED/orders", "/orders/<i>x", "/orders/nobody"]
)
def test_pages_run_and_load_nothing_and_escape_what_came_from_outside(client: httpx.Client, path: str) -> None:
    post(client, changed("<i>x", service="<i>s", partner_id="<i>p", note="<i>n", error_code="<i>e"))
    answer = client.get(path, headers={"accept": "text/html"})
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<i>" not in answer.text
    assert "<script" not in answer.text


def test_a_store_that_cannot_be_read_is_said_so_and_asked_again(ledger: Ledger, client: httpx.Client) -> None:
    post(client, changed("A-1"))
    with closing(sqlite3.connect(ledger._store._path, isolation_level=None)) as other:  # type: ignore[attr-defined]
        other.execute("ALTER TABLE orders RENAME TO elsewhere")
        answer = client.get("/orders/A-1")
        other.execute("ALTER TABLE elsewhere RENAME TO orders")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert client.get("/orders/A-1").status_code == 200


def test_of_two_who_have_bound_one_address_only_the_first_can_listen() -> None:
    with bound("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with bound("127.0.0.1", port) as second:
            listen(first)
            with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
                listen(second)


def test_urls_of_ipv6_have_brackets() -> None:
    try:
        with bound("::1", 0) as listener:
            assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"
    except ConfigurationError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("method", "path", "first"),
    [
        ("GET", "/orders/4711", True),
        ("GET", "/stages", True),
        ("GET", "/orders/none", True),
        ("GET", "/metrics", False),
        ("GET", "/report", False),
        ("POST", "/events", False),
    ],
)
def test_who_looks_something_up_comes_before_what_comes_in(
    method: str, path: str, first: bool, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(client, changed("4711", "INITIATED"))
    counted: list[int] = []
    original = Lookups.__enter__

    def noted(lookups: Lookups) -> None:
        original(lookups)
        counted.append(lookups._under_way)

    monkeypatch.setattr(Lookups, "__enter__", noted)
    client.request(method, path)
    assert counted == ([1] if first else [])
    wait_for(lambda: lookups._under_way == 0)  # its end comes after the answer
