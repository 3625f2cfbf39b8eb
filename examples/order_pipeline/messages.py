"""What the services say to each other through RabbitMQ: the contract that they share.  Knows no client library.

Each message goes to the exchange ``orders``; its class says with which routing key.  Trace and order travel in the
headers, put there and read by otel_orders: no field of a message is about telemetry.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, TypeVar

import msgspec

EXCHANGE = "orders"
OrderId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{1,64}$")]
M = TypeVar("M", bound="OrderMessage")


class OrderMessage(msgspec.Struct, frozen=True):
    """What all messages say: which order."""

    routing_key: ClassVar[str]

    order_id: OrderId

    def encode(self) -> bytes:
        return msgspec.json.encode(self)


class PricingRequested(OrderMessage, frozen=True):
    """The customer submitted the order.  revision: counts the models that were uploaded for it."""

    routing_key: ClassVar[str] = "pricing"

    revision: int
    material: str


class OrderPriced(OrderMessage, frozen=True):
    """The model was measured and has a price."""

    routing_key: ClassVar[str] = "priced"

    price_cents: int


class OrderApproved(OrderMessage, frozen=True):
    """The order may be made."""

    routing_key: ClassVar[str] = "approved"


class OrderShipped(OrderMessage, frozen=True):
    """The parcel left the house."""

    routing_key: ClassVar[str] = "shipped"


def decode(body: bytes, kind: type[M]) -> M:
    """Return the message in *body*.  Raises msgspec.DecodeError where it is not a *kind*."""
    return msgspec.json.decode(body, type=kind)
