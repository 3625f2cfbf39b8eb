"""A pricing worker: takes an order from ``pricing.requests``, measures its model, says what it costs.

All of the instrumentation is ``configure``, the decorator on ``calculate`` and ``record`` where a model is rejected:
the order is bound by the message, and travels on with the request for the model and with the message to the CRM.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import httpx
import pika
import pika.exceptions
import structlog

import otel_orders
from examples.order_pipeline import serving, topology
from examples.order_pipeline.messages import EXCHANGE, OrderPriced, PricingRequested, decode
from examples.order_pipeline.pricing.mesh import MeshError, measure
from examples.order_pipeline.pricing.price import UnknownMaterialError, price_cents
from examples.order_pipeline.pricing.store import Quote, Quotes
from examples.order_pipeline.retry import RETRY_AFTER, is_passing

if TYPE_CHECKING:
    from pika.adapters.blocking_connection import BlockingChannel
    from pika.spec import Basic, BasicProperties

QUEUE = "pricing.requests"
HEARTBEAT = int(os.environ.get("AMQP_HEARTBEAT_SECONDS", "600"))
"""Seconds, 0 for none.  While a large model is measured nobody answers the broker, which must not take us for dead."""
LOOK_EVERY = 0.5
"""Seconds between two looks whether to stop."""
PERSISTENT = pika.BasicProperties(content_type="application/json", delivery_mode=2)

log = structlog.get_logger()


@otel_orders.transition("PRICE_CALCULATED", from_status="SUBMITTED", order_id="request.order_id")
def calculate(request: PricingRequested, stl: bytes, quotes: Quotes) -> Quote:
    """Make and keep the quote for a model.  Raises MeshError or UnknownMaterialError where there can be none."""
    price = price_cents(measure(stl), request.material)
    return quotes.keep(Quote(request.order_id, request.revision, price_cents=price))


class Worker:
    """Takes one message at a time.  A message that comes twice is priced and recorded once."""

    def __init__(self, quotes: Quotes, shop: httpx.Client) -> None:
        self._quotes = quotes
        self._shop = shop
        self._stopping = False

    def stop(self, _signal: int, _frame: object) -> None:
        """Stop after the message at hand."""
        self._stopping = True

    def run(self, amqp_url: str) -> None:
        """Consume until stop(); a lost connection is made again."""
        while not self._stopping:
            try:
                self._consume(amqp_url)
            except pika.exceptions.AMQPError as error:
                log.warning("no connection to the broker", error=type(error).__name__)
                time.sleep(RETRY_AFTER)

    def _consume(self, amqp_url: str) -> None:
        parameters = pika.URLParameters(amqp_url)
        parameters.heartbeat = HEARTBEAT
        with pika.BlockingConnection(parameters) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_qos(prefetch_count=1)
            channel.basic_consume(QUEUE, self._on_message)
            while not self._stopping:
                connection.process_data_events(time_limit=LOOK_EVERY)

    def _on_message(
        self, channel: BlockingChannel, delivery: Basic.Deliver, _properties: BasicProperties, body: bytes
    ) -> None:
        try:
            self._price(decode(body, PricingRequested), channel)
        except Exception as error:
            again = is_passing(error)
            log.exception("message failed", again=again)
            channel.connection.sleep(RETRY_AFTER if again else 0)
            channel.basic_reject(delivery.delivery_tag, requeue=again)
        else:
            channel.basic_ack(delivery.delivery_tag)

    def _price(self, request: PricingRequested, channel: BlockingChannel) -> None:
        """Say what the order costs: to the shop, and to the CRM if it can be made."""
        quote = self._quotes.find(request.order_id, request.revision) or self._quote(request)
        answer = {"revision": quote.revision, "price_cents": quote.price_cents, "rejection": quote.rejection}
        self._shop.put(f"/orders/{request.order_id}/quote", json=answer).raise_for_status()
        if quote.price_cents is not None:
            priced = OrderPriced(request.order_id, quote.price_cents)
            channel.basic_publish(EXCHANGE, priced.routing_key, priced.encode(), PERSISTENT, mandatory=True)
        log.info("answered", **answer)

    def _quote(self, request: PricingRequested) -> Quote:
        model = self._shop.get(f"/orders/{request.order_id}/model").raise_for_status()
        try:
            return calculate(request, model.content, self._quotes)
        except (MeshError, UnknownMaterialError) as error:
            quote = self._quotes.keep(Quote(request.order_id, request.revision, rejection=str(error)))
            otel_orders.record(request.order_id, "PRICE_REJECTED", from_status="SUBMITTED", reason=error.error_code)
            return quote


def main() -> None:
    options = serving.options("pricing")
    runtime = otel_orders.configure(service="pricing-worker")
    amqp_url, shop_url = serving.setting("AMQP_URL"), serving.setting("SHOP_URL")
    quotes = Quotes(options.database)
    topology.declare(amqp_url)
    if runtime.metrics_address is not None:
        host, port = runtime.metrics_address
        serving.announce(f"http://{host}:{port}", options.address_file)
    with httpx.Client(base_url=shop_url, timeout=30) as shop:
        worker = Worker(quotes, shop)
        signal.signal(signal.SIGTERM, worker.stop)
        signal.signal(signal.SIGINT, worker.stop)
        worker.run(amqp_url)
    quotes.disconnect()
    runtime.shutdown()


if __name__ == "__main__":
    main()
