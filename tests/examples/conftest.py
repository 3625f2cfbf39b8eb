"""The services of the reference pipeline, running as in production: processes, HTTP and a real RabbitMQ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pika
import pytest

from examples.order_pipeline.scenarios.corner import own_corner
from examples.order_pipeline.scenarios.partner_server import partner_server
from examples.order_pipeline.scenarios.pipeline import LIFECYCLE, Pipeline
from examples.order_pipeline.scenarios.processes import Services
from tests.examples.running import Running
from tests.sinks.receiver import receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from examples.order_pipeline.scenarios.broker import Broker


@pytest.fixture(scope="session")
def running(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("pipeline")
    events_file = folder / "events.jsonl"
    with own_corner(broker) as amqp_url, receiver() as received, partner_server() as partner:
        settings = {
            "OTEL_ORDERS_LIFECYCLE": str(LIFECYCLE),
            "OTEL_ORDERS_JSON_LINES": str(events_file),
            "OTEL_ORDERS_HEARTBEAT": "2s",
            "OTEL_EXPORTER_OTLP_ENDPOINT": received.url,
            "MES_CASTING_SECONDS": "0",
            "RETRY_AFTER_SECONDS": "0.1",
        }
        with Services(folder, settings) as services:
            pipeline = Pipeline(services, folder, amqp_url, partner.url)
            workers = pipeline.start_pricing_workers(1)
            parameters = pika.URLParameters(amqp_url)
            parameters.heartbeat = 0  # nobody answers for this connection between two tests
            with (
                pipeline.customer() as shop,
                pipeline.client("b2b-api") as b2b,
                pika.BlockingConnection(parameters) as connection,
            ):
                channel = connection.channel()
                channel.confirm_delivery()
                yield Running(pipeline, workers, shop, b2b, partner, channel, events_file, received)
