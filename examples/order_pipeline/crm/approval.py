"""What the CRM does when a message comes: approve what has a price, close what was shipped.

The order is bound already when a handler runs, and what it publishes carries the order on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

import otel_orders
from examples.order_pipeline.messages import OrderApproved, OrderPriced, OrderShipped

if TYPE_CHECKING:
    from examples.order_pipeline.crm.store import Orders
    from examples.order_pipeline.messaging import Broker


log = structlog.get_logger()


class Approval:
    """The handlers of the CRM's two queues.  A message that comes twice is recorded once."""

    def __init__(self, orders: Orders, broker: Broker) -> None:
        self._orders = orders
        self._broker = broker

    async def approve(self, priced: OrderPriced) -> None:
        with otel_orders.transition_context(
            priced.order_id, "MANUFACTURING_APPROVED", from_status="PRICE_CALCULATED"
        ) as move:
            move.set(price_cents=priced.price_cents)
            if not self._orders.approve(priced.order_id, priced.price_cents):
                move.skip()
        await self._broker.publish(OrderApproved(priced.order_id))
        log.info("approved", price_cents=priced.price_cents)

    async def close(self, shipped: OrderShipped) -> None:
        if self._orders.find(shipped.order_id) is None:
            raise LookupError("an order was shipped that was never approved")
        with otel_orders.transition_context(shipped.order_id, "CLOSED", from_status="SHIPPED") as move:
            if not self._orders.close(shipped.order_id):
                move.skip()
