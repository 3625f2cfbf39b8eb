"""Batches: one span with a link to every message, and each message in its own order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pika
import pytest
from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.trace import StatusCode

from otel_orders.context import Order, bound, current_order
from otel_orders.instrumentation import pika as instrumentation
from otel_orders.instrumentation.batches import batch
from otel_orders.instrumentation.spans import end_dropped

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.instrumentation.conftest import Faults, Spans

ORDERS = [Order("1"), Order("2", "acme"), None]


@pytest.mark.broker
def test_a_batch_links_all_its_messages_and_each_restores_its_own_order(amqp_url: str, spans: Spans) -> None:
    instrumentation.instrument()
    seen: list[Order | None] = []
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel: Any = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        for order in ORDERS:
            with bound(order):
                channel.basic_publish("", queue, b"payload")
        collected = []
        for _, properties, _ in channel.consume(queue, auto_ack=True):
            collected.append(properties)
            if len(collected) == len(ORDERS):
                break
        channel.cancel()
        before = get_current()
        with batch(collected, "pricing.requests") as each:
            for properties in each:
                assert properties in collected
                seen.append(current_order())
                spans.tracer.start_span("work").end()
        assert get_current() is before
    instrumentation.uninstrument()

    together = spans.one("process pricing.requests")
    assert seen == ORDERS
    assert (together.attributes or {})["messaging.batch.message_count"] == 3
    assert [link.context.span_id for link in together.links] == [s.context.span_id for s in spans.of("send")]
    assert [work.parent for work in spans.of("work")] == [together.context] * 3


class Headed:
    def __init__(self, headers: Any) -> None:
        self.headers = headers


@pytest.mark.parametrize("headers", [None, 7, {}, {"traceparent": 7, "baggage": "x" * 65_536}])
def test_headers_of_any_kind_are_no_obstacle(spans: Spans, headers: Any) -> None:
    with batch([Headed(headers)], "q") as each:
        assert [current_order() for _ in each] == [None]
    assert spans.one("process").links == ()


def test_messages_of_a_generator_are_worked_on_too() -> None:
    with batch((Headed({"baggage": f"order_id={number}"}) for number in (1, 2)), "q") as each:
        assert [current_order() for _ in each] == [Order("1"), Order("2")]


def test_an_error_is_on_the_span_and_a_loop_that_is_left_leaves_nothing_behind(spans: Spans) -> None:
    before = get_current()

    def work() -> None:
        with batch([Headed({"baggage": "order_id=1"}), Headed(None)], "q") as each:
            for _ in each:
                raise KeyError

    with pytest.raises(KeyError):
        work()
    assert current_order() is None
    assert get_current() is before
    assert spans.one("process").status.status_code is StatusCode.ERROR


def test_a_fault_of_ours_costs_only_the_span(monkeypatch: pytest.MonkeyPatch, faults: Faults) -> None:
    monkeypatch.setattr("otel_orders.instrumentation.spans.tracer", None)
    with batch([Headed({"baggage": "order_id=1"})], "q") as each:
        assert [current_order() for _ in each] == [Order("1")]
        assert not trace.get_current_span().is_recording()
    faults.expected = {"amqp"}


def test_a_batch_whose_coroutine_is_closed_ends_later(spans: Spans) -> None:
    def work() -> Generator[None, None, None]:
        with batch([pika.BasicProperties()], "pricing.requests"):
            yield

    closed = work()
    next(closed)
    closed.close()
    assert not spans.finished
    end_dropped()
    assert spans.one("process").status.status_code is StatusCode.UNSET
