"""Tell a partner that its parcel is on its way: a webhook, on a host that is not ours.

What that host learns beside the body is decided by the environment of the service, not here: the trace, and where
OTEL_ORDERS_PSEUDONYM_HOSTS names the host, the order under a pseudonym that only we can resolve.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
import structlog

from examples.order_pipeline.retry import is_passing
from otel_orders.instrumentation.httpx import one_request

if TYPE_CHECKING:
    from examples.order_pipeline.b2b.partners import Partners
    from examples.order_pipeline.b2b.store import Received
    from examples.order_pipeline.messages import OrderShipped

TRIES = 3
TRY_AGAIN_AFTER = 0.2
"""Seconds.  A partner that is away for longer is tried again with the message: see retry.py."""

log = structlog.get_logger()


class Notices:
    """The handler of ``b2b.shipped``.  A partner is told at least once; retail orders and no webhook are no error."""

    def __init__(self, received: Received, partners: Partners, web: httpx.AsyncClient) -> None:
        self._received = received
        self._partners = partners
        self._web = web

    async def tell(self, shipped: OrderShipped) -> None:
        sent = self._received.find(shipped.order_id)
        webhook = sent and self._partners.webhook(sent.partner_id)
        if sent and webhook:
            await self._post(webhook, {"reference": sent.reference, "status": "SHIPPED"})
            log.info("partner was told", status="SHIPPED")

    async def _post(self, webhook: str, notice: dict[str, str]) -> None:
        """Send *notice*, up to TRIES times.  Raises httpx.HTTPError where the partner does not take it."""
        with one_request():  # each try has a span of its own, and says the how-manieth it is
            for tries_left in reversed(range(TRIES)):
                try:
                    (await self._web.post(webhook, json=notice)).raise_for_status()
                except httpx.HTTPError as error:
                    if not (tries_left and is_passing(error)):
                        raise
                    await asyncio.sleep(TRY_AGAIN_AFTER)
                else:
                    return
