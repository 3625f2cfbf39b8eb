"""What the services of the pipeline tell about themselves, to us and to others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pika
import pytest

from examples.order_pipeline import topology
from examples.order_pipeline.messages import PricingRequested
from examples.order_pipeline.scenarios import support
from examples.order_pipeline.scenarios.models import broken_ring, stl
from examples.order_pipeline.scenarios.pipeline import LIFECYCLE, PACKAGE
from examples.order_pipeline.scenarios.processes import Services
from examples.order_pipeline.topology import DEAD_LETTER_QUEUE, MOST_RETRIES
from otel_orders import names
from otel_orders.privacy import pseudonym
from tests.examples.running import eventually
from tests.promised import found, label_names, promised, scraped
from tests.sinks.receiver import attributes, receiver

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client import Metric

    from tests.examples.running import Running

pytestmark = pytest.mark.broker

CONSUMER = {names.MESSAGE_AGE, names.CONSUMED_MESSAGES, names.MESSAGING_PROCESS_DURATION}
PRODUCER = {names.SENT_MESSAGES, names.MESSAGING_OPERATION_DURATION}
MOVER = {names.TRANSITIONS, names.TRANSITION_DURATION}
SERVER, CLIENT = {names.HTTP_SERVER_DURATION}, {names.HTTP_CLIENT_DURATION}
TELLS = {
    "shop-api": MOVER | PRODUCER | SERVER,
    "b2b-api": CONSUMER | SERVER | CLIENT,
    "crm-api": MOVER | CONSUMER | PRODUCER | SERVER,
    "mes-api": MOVER | CONSUMER | PRODUCER | SERVER | CLIENT,
    "pricing-worker": MOVER | CONSUMER | PRODUCER | CLIENT | {names.TRANSITION_FAILURES},
}
"""What each service does, and so counts."""


def page(running: Running, service: str) -> list[Metric]:
    at = running.workers[0].address() if service == "pricing-worker" else running.pipeline.addresses[service]
    return scraped(f"{at}/metrics")


@pytest.fixture(scope="module")
def told(running: Running) -> str:
    """The id of a partner's order that is closed, and that the partner was told about; another order was rejected."""
    rejected = running.create()
    running.upload(rejected, stl(broken_ring())).raise_for_status()
    running.submit(rejected).raise_for_status()
    running.wait_for(rejected, "PRICE_REJECTED")
    order_id = running.order_of_partner("acme", "told")
    running.wait_for(order_id, "CLOSED")
    eventually(lambda: bool(notices(running, "told")))
    for service in ("crm-api", "mes-api"):  # both serve people who look
        path = f"{running.pipeline.addresses[service]}/{'jobs' if service == 'mes-api' else 'orders'}/{order_id}"
        httpx.get(path, trust_env=False).raise_for_status()
    return order_id


def notices(running: Running, reference: str) -> list[dict[str, str]]:
    """The headers of the notices about the partner's order *reference*."""
    sent = {"reference": reference, "status": "SHIPPED"}
    return [notice.headers for notice in running.partner.notices if json.loads(notice.body) == sent]


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("service", TELLS)
def test_a_service_counts_what_it_does_with_the_promised_labels(running: Running, service: str) -> None:
    expected = {name: promised()[name] for name in TELLS[service]}
    eventually(lambda: label_names(page(running, service)).keys() >= expected.keys())
    labels = label_names(page(running, service))
    assert {name: labels[name] for name in expected} == expected
    assert not found(page(running, service), names.SINK_FAILURES)


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(
    ("service", "route", "audience"),
    [
        ("shop-api", "/orders", "external"),  # a customer
        ("shop-api", "/orders", "internal"),  # the B2B entry
        ("shop-api", "/orders/{order_id}/quote", "internal"),  # pricing
        ("b2b-api", "/batches", "external"),
        ("b2b-api", "/healthz", "internal"),
        ("crm-api", "/orders/{order_id}", "internal"),
    ],
)
def test_who_is_served_is_told_apart(running: Running, service: str, route: str, audience: str) -> None:
    metrics = page(running, service)
    assert found(metrics, names.HTTP_SERVER_DURATION, http_route=route, audience=audience)
    if service != "shop-api":  # which serves both on the same paths
        assert len({s.labels["audience"] for s in found(metrics, names.HTTP_SERVER_DURATION, http_route=route)}) == 1


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(
    ("service", "queue"),
    [
        ("pricing-worker", "pricing.requests"),
        ("crm-api", "crm.priced"),
        ("crm-api", "crm.shipped"),
        ("mes-api", "mes.approved"),
        ("b2b-api", "b2b.shipped"),
    ],
)
def test_messages_are_counted_by_destination_and_their_age_by_queue(running: Running, service: str, queue: str) -> None:
    metrics = page(running, service)
    assert found(metrics, names.MESSAGE_AGE, queue=queue)
    routing_key = queue.replace(".requests", "").rpartition(".")[2]
    destination = f"orders:{routing_key}:{queue}"
    (consumed,) = found(metrics, names.CONSUMED_MESSAGES, messaging_destination_name=destination)
    assert consumed.value >= 1
    assert found(metrics, names.MESSAGING_PROCESS_DURATION, messaging_destination_name=destination, outcome="ack")


def test_a_partner_is_not_believed_whose_order_and_trace_it_is(running: Running, told: str) -> None:
    traceparent = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    headers = {"X-API-Key": running.pipeline.keys["acme"], "traceparent": traceparent, "baggage": "order_id=forged"}
    running.b2b.get(f"/orders/{told}", headers=headers).raise_for_status()
    traced_by = traceparent[3:35]

    def linked() -> list[str]:
        return [link.trace_id.hex() for span in running.spans("GET /orders/{order_id}") for link in span.links]

    eventually(lambda: linked() == [traced_by])
    assert not [span for span in running.received.spans if span.trace_id.hex() == traced_by]
    assert not [span for span in running.received.spans if attributes(span).get("order_id") == "forged"]


def test_support_finds_the_order_that_a_partner_names_by_its_reference(
    running: Running, told: str, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path / 'ledger.db'}"
    reference = support.order_ref(running.b2b, running.pipeline.keys["acme"], told)
    arguments = ("--lifecycle", LIFECYCLE, "--store", store, "--port", "0", "--follow", running.events_file)
    with Services(tmp_path, {}) as services:
        ledger = services.start(
            "ledger", "otel_orders.cli", "ledger", *arguments, "--url-file", tmp_path / "ledger.address"
        )
        url = f"{ledger.address()}/orders/{told}"
        eventually(lambda: httpx.get(url, trust_env=False).is_success)
        assert support.resolve(reference, store, running.pipeline.pseudonym_key) == told
        assert support.resolve(reference, store, "not the key that it was made with") == ""


def test_an_order_of_somebody_else_has_no_reference(running: Running, told: str) -> None:
    answer = running.b2b.get(f"/orders/{told}", headers={"X-API-Key": running.pipeline.keys["globex"]})
    assert (answer.status_code, answer.headers.get("X-Order-Ref")) == (404, None)
    public = running.shop.get(f"/orders/{told}")
    assert (public.status_code, public.headers.get("X-Order-Ref")) == (200, None)  # the shop gives none out


def test_a_partners_host_learns_a_pseudonym_and_nothing_else_of_the_order(running: Running, told: str) -> None:
    (headers,) = notices(running, "told")
    assert headers["baggage"] == f"order_id={pseudonym(told, running.pipeline.pseudonym_key.encode())}"
    assert headers["traceparent"]
    assert told not in str(headers)
    assert "otel-orders-trace-started-at" not in headers


def test_each_try_to_tell_a_partner_says_the_how_manieth_it_is(running: Running) -> None:
    running.partner.refusals = [503, 500]
    order_id = running.order_of_partner("acme", "told at last")
    eventually(lambda: len(notices(running, "told at last")) == 3)
    eventually(lambda: len(running.spans("POST", order_id=order_id, url__full=running.partner.url)) == 3)
    tries = [attributes(span) for span in running.spans("POST", order_id=order_id, url__full=running.partner.url)]
    assert [try_.get("http.request.resend_count") for try_ in tries] == [None, 1, 2]
    assert [try_["http.response.status_code"] for try_ in tries] == [503, 500, 204]


def test_a_partner_that_is_away_for_longer_is_told_when_the_message_comes_again(running: Running) -> None:
    running.partner.refusals = [503] * 3
    order_id = running.order_of_partner("acme", "told much later")
    name = "process orders:shipped:b2b.shipped"
    eventually(lambda: len(running.spans(name, order_id=order_id)) == 2)
    deliveries = [attributes(span) for span in running.spans(name, order_id=order_id)]
    assert [delivery.get(names.RETRY_ATTEMPT) for delivery in deliveries] == [None, 1]
    assert [delivery[names.OUTCOME] for delivery in deliveries] == ["requeue", "ack"]
    (redelivered,) = found(page(running, "b2b-api"), names.MESSAGES_REDELIVERED, queue="b2b.shipped")
    assert (redelivered.value, set(redelivered.labels)) == (1, promised()[names.MESSAGES_REDELIVERED])


def test_a_message_that_fails_again_and_again_goes_to_the_dead_letters(vhost_url: str, tmp_path: Path) -> None:
    topology.declare(vhost_url)
    environment = {"AMQP_URL": vhost_url, "SHOP_URL": "http://127.0.0.1:1", "RETRY_AFTER_SECONDS": "0.01"}
    files = ("--database", tmp_path / "pricing.db", "--address-file", tmp_path / "worker.address")
    with receiver() as received, pika.BlockingConnection(pika.URLParameters(vhost_url)) as connection:
        environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": received.url, "OTEL_EXPORTER_PROMETHEUS_PORT": "0"}
        environment["OTEL_ORDERS_JSON_LINES"] = str(tmp_path / "events.jsonl")
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(
            "orders", "pricing", PricingRequested("unlucky", 1, "silver-925").encode(), mandatory=True
        )
        with Services(tmp_path, environment) as services:
            worker = services.start("worker", f"{PACKAGE}.pricing.worker", *files)
            eventually(lambda: channel.queue_declare(DEAD_LETTER_QUEUE, passive=True).method.message_count == 1)
            metrics = scraped(f"{worker.address()}/metrics")
    worked = [attributes(span) for span in received.spans if span.name.startswith("process ")]
    assert [at.get(names.RETRY_ATTEMPT) for at in worked] == [None, *range(1, MOST_RETRIES + 1)]
    (redelivered,) = found(metrics, names.MESSAGES_REDELIVERED, queue="pricing.requests")
    assert redelivered.value == MOST_RETRIES
    _, properties, _ = _dead_letter(vhost_url)
    assert [(death["queue"], death["reason"]) for death in properties.headers["x-death"]] == [
        ("pricing.requests", "delivery_limit")
    ]


def _dead_letter(amqp_url: str) -> tuple[object, pika.BasicProperties, bytes]:
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        letter: tuple[object, pika.BasicProperties, bytes] = connection.channel().basic_get(DEAD_LETTER_QUEUE)
    return letter
