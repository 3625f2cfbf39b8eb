"""The current order: bound once, seen by everything inside (spans, log lines, messages, requests).

Holds it in a context variable, and knows how it travels as W3C baggage.  It is put into baggage only at the edges,
by the instrumentation that sends a message or a request: nothing leaks to a host that was not chosen.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeGuard
from urllib.parse import quote_plus

from opentelemetry import baggage

from otel_orders import names
from otel_orders.event import order_bucket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.context import Context

MAX_ID = 128
"""Longest order or partner id that is taken from outside, in characters."""


class Order:
    """The order that the current code works for."""

    __slots__ = ("_attributes", "_baggage", "order_id", "partner_id")

    def __init__(self, order_id: str, partner_id: str | None = None) -> None:
        self.order_id = order_id
        self.partner_id = partner_id
        self._attributes: dict[str, str | int] | None = None
        self._baggage: str | None = None

    def __repr__(self) -> str:
        return f"Order({self.order_id!r}, partner_id={self.partner_id!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Order):
            return NotImplemented
        return (self.order_id, self.partner_id) == (other.order_id, other.partner_id)

    def __hash__(self) -> int:
        return hash((self.order_id, self.partner_id))

    @property
    def attributes(self) -> dict[str, str | int]:
        """What every span inside the order carries; made once."""
        if self._attributes is None:
            found: dict[str, str | int] = {
                names.ORDER_ID: self.order_id,
                names.ORDER_BUCKET: order_bucket(self.order_id),
            }
            if self.partner_id is not None:
                found[names.PARTNER_ID] = self.partner_id
            self._attributes = found
        return self._attributes

    @property
    def baggage(self) -> str:
        """The order as a W3C baggage header, its values encoded as OpenTelemetry's propagator does; made once."""
        if self._baggage is None:
            partner = "" if self.partner_id is None else f",{names.PARTNER_ID}={quote_plus(self.partner_id)}"
            self._baggage = f"{names.ORDER_ID}={quote_plus(self.order_id)}{partner}"
        return self._baggage


def usable(told: object) -> TypeGuard[str]:
    """Return whether *told*, from outside, is an order or partner id: bounded, and nothing that could forge a line."""
    return isinstance(told, str) and 0 < len(told) <= MAX_ID and told.isprintable()


class NoOrder:
    """Stands where code works for no order, and is told apart from every other such place."""

    __slots__ = ()


CURRENT: ContextVar[Order | NoOrder | None] = ContextVar("otel_orders_current", default=None)
"""Set and reset with its own tokens where a ``with bound(...)`` block cannot stand; read through current_order()."""


def current_order() -> Order | None:
    """Return the order that the calling code works for, or None."""
    order = CURRENT.get()
    return order if isinstance(order, Order) else None


@contextmanager
def bound(order: Order | None) -> Iterator[None]:
    """Make *order* the current one inside the block; None means: inside it, there is no order."""
    token = CURRENT.set(order)
    try:
        yield
    finally:
        CURRENT.reset(token)


def to_baggage(order: Order, context: Context | None = None) -> Context:
    """Return *context* (the current one by default) with *order* in its baggage, ready to be injected."""
    context = baggage.set_baggage(names.ORDER_ID, order.order_id, context)
    if order.partner_id is not None:
        context = baggage.set_baggage(names.PARTNER_ID, order.partner_id, context)
    return context


def from_baggage(context: Context) -> Order | None:
    """Return the order that *context*'s baggage names, or None where it names none or an unusable one."""
    order_id = baggage.get_baggage(names.ORDER_ID, context)
    partner_id = baggage.get_baggage(names.PARTNER_ID, context)
    return Order(order_id, partner_id if usable(partner_id) else None) if usable(order_id) else None
