"""The records of the messages in tracked queues: by both clients, through a real broker."""

from __future__ import annotations

from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import aio_pika
import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_orders import instrumentation, names
from otel_orders.context import Order, bound
from otel_orders.event import MessagePublished, MessageSettled
from otel_orders.instrumentation.tracking import Tracking, matches
from otel_orders.lifecycle_model import Queue
from otel_orders.recorder import Recorder, activate
from otel_orders.testing import captured_events
from tests.instrumentation.test_message_outcomes import CLIENTS, OUTCOMES, through

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.instrumentation.conftest import Faults, Spans

broker = pytest.mark.broker
ORDER = Order("4711", "acme")


def tracked(name: str, *bindings: tuple[str, str], track: bool = True) -> Queue:
    return Queue(name=name, status="SUBMITTED", consumer="pricing-worker", bindings=bindings, track=track)


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with captured_events("shop-api", "test") as captured:
        yield captured
    instrumentation.uninstrument_all()


def declared(client: str, url: str, **options: Any) -> tuple[Any, str]:
    """Return a client and a tracked queue that it has declared."""
    messages = through(client, url, **options)
    queue = messages.declare()
    instrumentation.instrument_all(queues=[tracked(queue, ("orders", "pricing"))])
    return messages, queue


def publish(messages: Any, queue: str) -> None:
    """Publish a message of the order: the client's loop, if it has one, has a context of its own."""
    messages.publish(queue, headers={"baggage": ORDER.baggage})


def kinds(events: list[Any]) -> list[tuple[str, str]]:
    return [(event.event_type, event.outcome) for event in events]


@broker
@CLIENTS
def test_a_message_is_recorded_when_it_is_published_and_when_it_is_settled(
    client: str, amqp_url: str, events: list[Any], spans: Spans
) -> None:
    messages, queue = declared(client, amqp_url)
    publish(messages, queue)
    messages.consume(queue)
    messages.close()

    published, settled = events
    assert isinstance(published, MessagePublished)
    assert isinstance(settled, MessageSettled)
    assert (published.outcome, settled.outcome) == ("confirmed", "ack")
    assert published.message_id == settled.message_id != ""
    for event, span in ((published, spans.one("send")), (settled, spans.one("process"))):
        assert (event.order_id, event.partner_id, event.service) == ("4711", "acme", "shop-api")
        assert (event.queue, event.exchange, event.routing_key) == (queue, "", queue)
        assert (event.trace_id, event.span_id) == (
            f"{span.context.trace_id:032x}",
            f"{span.context.span_id:016x}",
        )
    assert settled.published_at == published.occurred_at <= settled.occurred_at
    assert published.event_id != settled.event_id


@broker
@CLIENTS
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_message_that_comes_again_is_not_settled(
    client: str, outcome: str, amqp_url: str, events: list[Any], spans: Spans
) -> None:
    messages, queue = declared(client, amqp_url)
    publish(messages, queue)
    messages.consume(queue, outcome)
    messages.close()
    settled = [] if outcome in ("requeue", "unsettled") else [(names.MESSAGE_SETTLED, outcome)]
    assert kinds(events) == [(names.MESSAGE_PUBLISHED, "confirmed"), *settled]
    assert len(spans.of("process")) == 1


@broker
@CLIENTS
def test_one_that_was_requeued_is_settled_once_in_the_end(client: str, amqp_url: str, events: list[Any]) -> None:
    messages, queue = declared(client, amqp_url)
    publish(messages, queue)
    for outcome in ("requeue", "requeue", "ack"):
        messages.consume(queue, outcome)
    messages.close()
    assert kinds(events) == [(names.MESSAGE_PUBLISHED, "confirmed"), (names.MESSAGE_SETTLED, "ack")]


@broker
@CLIENTS
def test_a_dead_letter_leaves_the_queue_that_it_died_in_and_keeps_its_id(
    client: str, amqp_url: str, events: list[Any]
) -> None:
    messages = through(client, amqp_url)
    dead = messages.declare()
    dying = messages.declare(**{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    instrumentation.instrument_all(queues=[tracked(dying), tracked(dead)])
    publish(messages, dying)
    messages.consume(dying, "reject")
    messages.consume(dead, "ack")
    messages.close()
    assert [(event.queue, event.outcome) for event in events] == [
        (dying, "confirmed"),
        (dying, "reject"),
        (dead, "ack"),
    ]
    assert len({event.message_id for event in events}) == 1


@broker
@CLIENTS
@pytest.mark.parametrize("outcome", ["unconfirmed", "error"])
def test_a_publishing_that_is_not_confirmed_says_so(
    client: str, outcome: str, amqp_url: str, events: list[Any]
) -> None:
    messages, queue = declared(client, amqp_url, confirms=outcome == "error")
    if outcome == "error":
        messages.connection.close() if client == "pika" else messages.loop.run(messages.channel.close())
    with suppress(pika.exceptions.AMQPError, aio_pika.exceptions.AMQPError, RuntimeError):
        publish(messages, queue)
    if outcome != "error" or client != "pika":
        messages.close()
    assert kinds(events) == [(names.MESSAGE_PUBLISHED, outcome)]


@broker
@CLIENTS
def test_neither_other_queues_nor_messages_outside_an_order_are_recorded(
    client: str, amqp_url: str, events: list[Any]
) -> None:
    messages, queue = declared(client, amqp_url)
    other = messages.declare()
    messages.publish(queue)
    publish(messages, other)
    messages.consume(queue)
    messages.consume(other)
    messages.close()
    assert events == []


@broker
def test_an_id_of_the_applications_is_kept_and_its_objects_are_not_changed(amqp_url: str, events: list[Any]) -> None:
    messages, queue = declared("pika", amqp_url)
    own, none = pika.BasicProperties(message_id="m-1"), pika.BasicProperties()
    with bound(ORDER):
        for properties in (own, none):
            messages.channel.basic_publish("", queue, b"", properties)
    _, first, _ = messages.channel.basic_get(queue, auto_ack=True)
    _, second, _ = messages.channel.basic_get(queue, auto_ack=True)
    messages.close()
    assert (first.message_id, own.message_id, none.message_id, none.headers) == ("m-1", "m-1", None, None)
    assert [event.message_id for event in events] == ["m-1", second.message_id, "m-1", second.message_id]


@broker
def test_the_same_of_aio_pikas(amqp_url: str, events: list[Any]) -> None:
    messages, queue = declared("aio_pika", amqp_url)
    own, none = aio_pika.Message(b"", message_id="m-1"), aio_pika.Message(b"")
    with bound(ORDER):
        for message in (own, none):
            sending = messages.channel.default_exchange.publish(message, queue)
            messages.loop.run(sending, context=copy_context())
    messages.close()
    assert (own.message_id, none.message_id, none.headers) == ("m-1", None, {})
    assert events[0].message_id == "m-1"
    assert len(events[1].message_id) == 32


@broker
@CLIENTS
def test_a_message_without_an_id_goes_out_without_one_where_nothing_is_tracked(
    client: str, amqp_url: str, spans: Spans
) -> None:
    messages = through(client, amqp_url)
    queue = messages.declare()
    instrumentation.instrument_all(queues=[tracked(queue, track=False)])
    messages.publish(queue)
    instrumentation.uninstrument_all()
    messages.close()
    assert "messaging.message.id" not in (spans.one("send").attributes or {})


@broker
@CLIENTS
def test_a_recorder_that_fails_breaks_nothing(client: str, amqp_url: str, faults: Faults) -> None:
    class Broken:
        name = "broken"

        def emit(self, _event: object) -> None:
            raise OSError

    messages, queue = declared(client, amqp_url)
    before = activate(Recorder([], [Broken()]))
    publish(messages, queue)
    messages.consume(queue)
    messages.close()
    activate(before)
    instrumentation.uninstrument_all()
    faults.expected = {"broken"}


def test_bindings_lead_to_every_queue_that_is_bound_once() -> None:
    tracking = Tracking(
        [
            tracked("crm.shipped", ("orders", "shipped"), ("orders", "ship*")),
            tracked("b2b.shipped", ("orders", "shipped")),
            tracked("audit", ("orders", "#")),
            tracked("parts", ("parts", "*.ordered"), ("parts", "*.*")),
            tracked("not", ("orders", "shipped"), track=False),
        ]
    )
    assert tracking.destinations("orders", "shipped") == ("crm.shipped", "b2b.shipped", "audit")
    assert tracking.destinations("orders", "other") == ("audit",)
    assert tracking.destinations("parts", "gold.ordered") == ("parts",)
    assert tracking.destinations("", "audit") == ("audit",)
    assert tracking.destinations("", "not") == tracking.destinations("nowhere", "shipped") == ()


@pytest.mark.parametrize(
    ("binding", "key", "is_match"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("#.c", "a.b.c", True),
        ("#.c", "a.b.d", False),
        ("", "", True),
    ],
)
def test_binding_keys_match_as_those_of_a_topic_exchange(binding: str, key: str, *, is_match: bool) -> None:
    assert matches(binding.split("."), key.split(".")) is is_match


@given(st.lists(st.sampled_from("ab"), max_size=6))
def test_a_binding_without_wildcards_matches_itself_only(words: list[str]) -> None:
    assert matches(words, words)
    assert not matches(words, [*words, "c"])
