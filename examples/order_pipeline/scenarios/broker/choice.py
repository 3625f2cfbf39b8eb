"""Which RabbitMQ we use: the first that there is, in one fixed order."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from examples.order_pipeline.scenarios.broker import apt, docker, node
from examples.order_pipeline.scenarios.broker.found import Broker, BrokerUnavailable, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

CHOICES = """\
No RabbitMQ, and no way to start one.  Any one of these will do:
  - set AMQP_URL to a broker that runs (amqp://user:password@host:port/vhost)
  - start a broker at amqp://guest:guest@localhost:5672/
  - install RabbitMQ, so that rabbitmq-server is on the PATH (apt-get install rabbitmq-server)
  - run this as root, or with sudo that asks for no password, where there is apt-get
  - start a Docker engine with docker compose"""


@contextmanager
def broker(*, private: bool = False, statistics_every: float = 1.0) -> Iterator[Broker]:
    """Give a RabbitMQ that answers; one that was started for this ends with the block, even when we are killed.

    private: start one in any case, for whoever stops it in between or counts what is in it.
    statistics_every: seconds between two counts of what is in its queues, where it is an installed one that we start.

    Raises BrokerUnavailable.
    """
    found = None if private else running()
    if found:
        yield found
        return
    with _started(statistics_every) as own:
        yield own


def _started(statistics_every: float) -> AbstractContextManager[Broker]:
    server = node.server_script() or apt.installed()
    if server:
        return node.started(server, statistics_every=statistics_every)
    if docker.engine_answers():
        return docker.started()
    raise BrokerUnavailable(CHOICES)
