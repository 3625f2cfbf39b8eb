"""Only type-checks: decorated functions keep their signatures, blocks give what they say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, assert_type

import otel_orders
from otel_orders.context import Order
from otel_orders.event import Event
from otel_orders.testing import captured_events


class Command:
    order_id: str


@otel_orders.transition("SHIPPED", from_status="PACKAGING", order_id="cmd.order_id")
def plain(cmd: Command, *, copies: int = 1) -> str:
    return cmd.order_id * copies


@otel_orders.transition("SHIPPED", order_id=lambda cmd: cmd.order_id, partner_id="cmd.partner")
async def coroutine(cmd: Command) -> int:
    return len(cmd.order_id)


@otel_orders.order_context("order_id")
def generator(order_id: str) -> Generator[int, str, bool]:
    got = yield 1
    return got == order_id


@otel_orders.order_context("order_id", partner_id="partner_id")
async def async_generator(order_id: str, partner_id: str | None) -> AsyncIterator[str]:
    yield f"{order_id} {partner_id}"


class Service:
    @otel_orders.transition("SHIPPED", order_id="order_id")
    def method(self, order_id: str) -> bytes:
        return order_id.encode()

    @classmethod
    @otel_orders.order_context("order_id")
    def of_class(cls, order_id: str) -> str:
        return order_id


async def a_coroutine_is_awaited(cmd: Command) -> None:
    assert_type(await coroutine(cmd), int)


def decorated_functions_keep_their_types(service: Service, cmd: Command) -> None:
    assert_type(plain(cmd, copies=2), str)
    as_callable: Callable[[Command], Coroutine[Any, Any, int]] = coroutine
    del as_callable
    assert_type(generator("A-1"), Generator[int, str, bool])
    assert_type(async_generator("A-1", None), AsyncIterator[str])
    assert_type(service.method("A-1"), bytes)
    assert_type(Service.of_class("A-1"), str)


def wrong_calls_are_found(cmd: Command) -> None:
    plain(cmd, copies="two")  # type: ignore[arg-type]
    plain()  # type: ignore[call-arg]
    otel_orders.transition("SHIPPED")  # type: ignore[call-arg]
    otel_orders.transition("SHIPPED", order_id=7)  # type: ignore[arg-type]


async def blocks_give_what_they_say(order_id: int) -> None:
    with otel_orders.transition_context(order_id, "SHIPPED") as move:
        assert_type(move, otel_orders.Move)
        move.from_status, move.version = "PACKAGING", 3
        assert_type(move.version, int)
    async with otel_orders.transition_context(order_id, "SHIPPED") as later:
        assert_type(later, otel_orders.Move)
    with otel_orders.order_context(order_id, partner_id="acme") as bound:
        assert_type(bound, otel_orders.order_context)
        assert_type(otel_orders.current_order(), Order | None)


def the_rest() -> None:
    assert_type(otel_orders.configure("mes"), otel_orders.Runtime)
    with captured_events() as found:
        assert_type(found, list[Event])
