from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context

from otel_orders import current_order
from otel_orders.context import MAX_ID, Order, bound, from_baggage, to_baggage


def test_an_order_is_current_inside_its_block_only() -> None:
    with bound(Order("A-1")):
        assert current_order() == Order("A-1")
        with bound(Order("A-2", "acme")):
            assert current_order() == Order("A-2", "acme")
        with bound(None):
            assert current_order() is None
        assert current_order() == Order("A-1")
    assert current_order() is None


def test_an_exception_does_not_leave_the_order_behind() -> None:
    with pytest.raises(ValueError, match="boom"), bound(Order("A-1")):
        raise ValueError("boom")
    assert current_order() is None


def test_a_thread_has_the_order_where_the_context_is_copied_and_only_there() -> None:
    with bound(Order("A-1")), ThreadPoolExecutor(1) as pool:
        copied = contextvars.copy_context()
        assert pool.submit(copied.run, current_order).result() == Order("A-1")
        assert pool.submit(current_order).result() is None


def test_tasks_do_not_see_each_others_orders() -> None:
    async def work(order_id: str) -> Order | None:
        with bound(Order(order_id)):
            await asyncio.sleep(0)
            return current_order()

    async def both() -> list[Order | None]:
        return list(await asyncio.gather(work("A-1"), work("A-2")))

    assert asyncio.run(both()) == [Order("A-1"), Order("A-2")]


def test_orders_are_equal_by_their_ids() -> None:
    assert len({Order("A-1"), Order("A-1"), Order("A-1", "acme")}) == 2
    assert Order("A-1") != "A-1"
    assert repr(Order("A-1", "acme")) == "Order('A-1', partner_id='acme')"


@pytest.mark.parametrize(
    ("order", "attributes"),
    [
        (Order("4711"), {"order_id": "4711", "order_bucket": 33}),
        (Order("4711", "acme"), {"order_id": "4711", "order_bucket": 33, "partner_id": "acme"}),
    ],
)
def test_what_a_span_carries_of_its_order(order: Order, attributes: dict[str, object]) -> None:
    assert order.attributes == attributes
    assert order.attributes is order.attributes


IDS = st.text(st.characters(categories=["L", "N", "P", "S"]) | st.just(" "), min_size=1, max_size=MAX_ID)


@given(IDS.filter(lambda text: text == text.strip()), st.none() | IDS.filter(lambda text: text == text.strip()))
def test_an_order_travels_as_w3c_baggage(order_id: str, partner_id: str | None) -> None:
    carrier: dict[str, str] = {}
    W3CBaggagePropagator().inject(carrier, to_baggage(Order(order_id, partner_id), Context()))
    assert from_baggage(W3CBaggagePropagator().extract(carrier, Context())) == Order(order_id, partner_id)


@pytest.mark.parametrize("order_id", [None, "", "x" * (MAX_ID + 1), 7, "1\n2", "\x1b[2J"])
def test_baggage_that_names_no_usable_order_is_no_order(order_id: object) -> None:
    assert from_baggage(baggage.set_baggage("order_id", order_id, Context())) is None


@pytest.mark.parametrize("partner_id", ["", "x" * (MAX_ID + 1), 7, "1\n2"])
def test_an_unusable_partner_does_not_cost_the_order(partner_id: object) -> None:
    context = baggage.set_baggage("order_id", "A-1", baggage.set_baggage("partner_id", partner_id, Context()))
    assert from_baggage(context) == Order("A-1")


def test_the_order_is_put_into_the_baggage_that_is_there() -> None:
    context = to_baggage(Order("A-1"), baggage.set_baggage("theirs", "kept", Context()))
    assert baggage.get_all(context) == {"theirs": "kept", "order_id": "A-1"}
