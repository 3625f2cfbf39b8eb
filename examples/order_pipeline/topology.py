"""The exchanges, queues and bindings on RabbitMQ, derived from the ``queues`` of lifecycle.yaml.

Every service declares all of them when it starts: declaring twice changes nothing, so no service waits for another.
Knows nothing of what the messages say.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pika
import pika.exceptions

from otel_orders.lifecycle import load_lifecycle

if TYPE_CHECKING:
    from pika.adapters.blocking_connection import BlockingChannel

    from otel_orders.lifecycle import Lifecycle

DEAD_LETTER_EXCHANGE = "orders.dead"
DEAD_LETTER_QUEUE = "orders.dead-letters"
MOST_RETRIES = 20
"""How often a message comes back before the broker takes it for one that can never succeed."""
QUEUE_ARGUMENTS = {
    "x-queue-type": "quorum",  # counts deliveries: the retry attempt is on the consumer's span, whoever failed before
    "x-delivery-limit": MOST_RETRIES,
    "x-dead-letter-exchange": DEAD_LETTER_EXCHANGE,
}
OWN_LIFECYCLE = Path(__file__).with_name("lifecycle.yaml")


def declare(amqp_url: str) -> None:
    """Declare the topology on the broker at *amqp_url*."""
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        _declare_dead_letters(channel)
        for queue in _lifecycle().queues.values():
            channel.queue_declare(queue.name, durable=True, arguments=QUEUE_ARGUMENTS)
            for exchange, routing_key in queue.bindings:
                channel.exchange_declare(exchange, "direct", durable=True)
                channel.queue_bind(queue.name, exchange, routing_key)


def existing_queues(amqp_url: str) -> list[str]:
    """Return those queues of the topology that are on the broker already."""
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        return [name for name in (*_lifecycle().queues, DEAD_LETTER_QUEUE) if _exists(connection, name)]


def remove(amqp_url: str) -> None:
    """Delete the topology, with all messages in it."""
    queues = _lifecycle().queues
    exchanges = {exchange for queue in queues.values() for exchange, _ in queue.bindings}
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        for name in (*queues, DEAD_LETTER_QUEUE):
            channel.queue_delete(name)
        for name in (*exchanges, DEAD_LETTER_EXCHANGE):
            channel.exchange_delete(name)


def _lifecycle() -> Lifecycle:
    return load_lifecycle(os.environ.get("OTEL_ORDERS_LIFECYCLE") or OWN_LIFECYCLE)


def _exists(connection: pika.BlockingConnection, queue: str) -> bool:
    try:
        connection.channel().queue_declare(queue, passive=True)
    except pika.exceptions.ChannelClosedByBroker:  # the broker's way to say no
        return False
    return True


def _declare_dead_letters(channel: BlockingChannel) -> None:
    """Messages that can never succeed wait here for a person; their x-death header says where they died."""
    channel.exchange_declare(DEAD_LETTER_EXCHANGE, "fanout", durable=True)
    channel.queue_declare(DEAD_LETTER_QUEUE, durable=True)
    channel.queue_bind(DEAD_LETTER_QUEUE, DEAD_LETTER_EXCHANGE)
