"""Trouble on purpose: what goes wrong in a pipeline, done from outside, so that no service has code for it."""

from __future__ import annotations

import json

import pika


def lose_message(amqp_url: str, queue: str, order_id: str) -> None:
    """Take the message of *order_id* off *queue* and forget it, as a forgotten debugging consumer would.

    Raises LookupError where the next message of the queue is not this one.
    """
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        delivery, _, body = connection.channel().basic_get(queue, auto_ack=True)
        if delivery is None or json.loads(body)["order_id"] != order_id:
            raise LookupError(f"the next message is not the one of {order_id}")


def steal_message(amqp_url: str, queue: str, seconds: float = 60) -> str:
    """Consume beside the real consumers until one message has come, settle it and go; return its order id.

    seconds: how long to wait for it.  Raises LookupError where none comes.
    """
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=1)
        for delivery, _, body in channel.consume(queue, inactivity_timeout=seconds):
            if delivery is None:
                break
            channel.basic_ack(delivery.delivery_tag)
            channel.cancel()
            return str(json.loads(body)["order_id"])
    raise LookupError(f"no message came to {queue} within {seconds:.0f} s")
