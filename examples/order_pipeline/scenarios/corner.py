"""A corner of a RabbitMQ that may be somebody else's: nothing of theirs is touched, nothing of ours stays."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import httpx

from examples.order_pipeline import topology
from examples.order_pipeline.scenarios.broker import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from examples.order_pipeline.scenarios.broker import Broker


def own_corner(broker: Broker) -> AbstractContextManager[str]:
    """Give, for the block, the AMQP URL of a place where no queue is anybody else's.

    That is a virtual host of our own; where the broker has no management API to make one, the one that AMQP_URL names.
    Raises BrokerUnavailable where neither can be had.
    """
    if broker.management_url is not None:
        return _own_virtual_host(broker.amqp_url, broker.management_url)
    return _empty_virtual_host(broker.amqp_url)


@contextmanager
def _own_virtual_host(amqp_url: str, management_url: str) -> Iterator[str]:
    at = urlsplit(amqp_url)
    name = f"otel-orders-{uuid.uuid4().hex}"
    user = (unquote(at.username or "guest"), unquote(at.password or "guest"))
    with httpx.Client(base_url=f"{management_url}/api/vhosts/", auth=user, trust_env=False) as virtual_hosts:
        if virtual_hosts.put(name).is_error:
            raise BrokerUnavailable(f"the user of AMQP_URL may not make a virtual host at {management_url}")
        try:
            yield at._replace(path=f"/{name}").geturl()
        finally:
            virtual_hosts.delete(name)


@contextmanager
def _empty_virtual_host(amqp_url: str) -> Iterator[str]:
    if taken := topology.existing_queues(amqp_url):
        raise BrokerUnavailable(
            f"the virtual host that AMQP_URL names has the queues {', '.join(taken)} already, and they may be in use:"
            " name another virtual host, or switch on rabbitmq_management so that we can make one"
        )
    try:
        yield amqp_url
    finally:
        topology.remove(amqp_url)
