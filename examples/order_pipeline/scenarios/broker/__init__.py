"""A RabbitMQ for the demo and the tests: one that runs, or one that we start and take away again.

    with broker() as rabbitmq:
        connect(rabbitmq.amqp_url)

``python -m examples.order_pipeline.scenarios.broker`` runs one in the foreground.  Knows nothing of orders.
"""

from examples.order_pipeline.scenarios.broker.choice import broker
from examples.order_pipeline.scenarios.broker.found import Broker, BrokerUnavailable

__all__ = ["Broker", "BrokerUnavailable", "broker"]
