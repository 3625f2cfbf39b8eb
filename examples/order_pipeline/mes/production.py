"""What the MES does with an approved order: make it, have it packed, ship it.

Packing is done at the old terminal, which speaks no OpenTelemetry: it writes PACKAGING itself, into its own file.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

import otel_orders
from examples.order_pipeline.messages import OrderApproved, OrderShipped

if TYPE_CHECKING:
    import httpx

    from examples.order_pipeline.mes.store import Jobs
    from examples.order_pipeline.messaging import Broker


log = structlog.get_logger()


class Production:
    """The handler of ``mes.approved``.  A message that comes twice goes through the same steps and changes nothing.

    casting: how long a piece takes, in seconds.
    """

    def __init__(self, jobs: Jobs, broker: Broker, packaging_terminal: httpx.AsyncClient, casting: float) -> None:
        self._jobs = jobs
        self._broker = broker
        self._packaging_terminal = packaging_terminal
        self._casting = casting

    async def make(self, approved: OrderApproved) -> None:
        await self._manufacture(approved.order_id)
        packed = await self._packaging_terminal.post("/packaging", json={"order_id": approved.order_id})
        packed.raise_for_status()
        await self._ship(approved.order_id)
        log.info("shipped")

    async def _manufacture(self, order_id: str) -> None:
        with otel_orders.transition_context(
            order_id, "MANUFACTURING_STARTED", from_status="MANUFACTURING_APPROVED"
        ) as move:
            if not self._jobs.start(order_id):
                move.skip()
        with otel_orders.transition_context(
            order_id, "MANUFACTURING_COMPLETED", from_status="MANUFACTURING_STARTED"
        ) as move:
            await asyncio.sleep(self._casting)
            if not self._jobs.complete(order_id):
                move.skip()

    async def _ship(self, order_id: str) -> None:
        with otel_orders.transition_context(order_id, "SHIPPED", from_status="PACKAGING") as move:
            if not self._jobs.ship(order_id):
                move.skip()
        await self._broker.publish(OrderShipped(order_id))
