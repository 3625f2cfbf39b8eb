"""What the demo does to the pipeline: 18 orders, and three kinds of trouble on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from examples.order_pipeline.scenarios import customers, models, trouble
from examples.order_pipeline.scenarios.verdict import Sent

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.order_pipeline.scenarios.pipeline import Pipeline

RETAIL_ORDERS = 9
BATCH = 3
FINE_RING = (500, 600)
"""A model of 600,000 triangles, which take seconds to measure."""


def play(say: Callable[[str], object], pipeline: Pipeline, amqp_url: str) -> Sent:
    """Send the orders; *say* what is done.  Starts the pricing workers, once the lost message is gone."""
    ring = models.stl(models.ring())
    with pipeline.customer() as shop, pipeline.client("b2b-api") as b2b:
        lost = customers.order_from_shop(shop, ring)
        trouble.lose_message(amqp_url, "pricing.requests", lost)
        say(f"  the message of order {lost} was taken from its queue and dropped")
        workers = pipeline.start_pricing_workers(2)
        slow = customers.order_from_shop(shop, models.stl(models.ring(*FINE_RING)))
        say(f"  the model of order {slow} has 600,000 triangles")
        rejected = customers.order_from_shop(shop, models.stl(models.broken_ring()))
        say(f"  the model of order {rejected} has a hole")
        retail = [customers.order_from_shop(shop, ring) for _ in range(RETAIL_ORDERS)]
        partner_of = {
            order_id: partner_id
            for partner_id, key in pipeline.keys.items()
            for order_id in customers.order_batch(b2b, key, [ring] * BATCH)
        }
        say(f"  {len(retail)} more orders through the shop, {len(partner_of)} through the B2B entry")
    pipeline.addresses |= {worker.name: worker.address() for worker in workers}
    return Sent([slow, *retail, *partner_of], partner_of, slow, rejected, lost)
