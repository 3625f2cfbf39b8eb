"""What a broker is to us, and whether one answers.  Must not know how one is started."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pika

if TYPE_CHECKING:
    from collections.abc import Callable

LOCAL_URL = "amqp://guest:guest@localhost:5672/"
"""Where a RabbitMQ with its own defaults listens."""


class BrokerUnavailable(Exception):  # noqa: N818 - it is what the sentence says: no broker, here is why
    """No RabbitMQ answers and none can be started.  The message says what was tried and what to do."""


@dataclass(frozen=True)
class Broker:
    """A RabbitMQ that answers.

    amqp_url: for any client, with user and password.  management_url: base of the web page and the HTTP API, which
    take the same user; prometheus_url: the page to scrape; both None where the broker does not show them.
    rabbitmqctl: the command that controls it, empty for a broker that somebody else runs.
    """

    amqp_url: str = field(repr=False)  # holds a password
    management_url: str | None = None
    prometheus_url: str | None = None
    rabbitmqctl: tuple[str, ...] = field(default=(), repr=False)

    @property
    def started_by_us(self) -> bool:
        """True for a broker that ends with us, so that stopping it in between harms nobody."""
        return bool(self.rabbitmqctl)

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl (``stop_app`` and ``start_app`` take the broker away and bring it back); return its output.

        Raises BrokerUnavailable where the broker is not ours, or where rabbitmqctl fails.
        """
        if not self.started_by_us:
            raise BrokerUnavailable("this broker was running before us: it is not ours to control")
        command = [*self.rabbitmqctl, *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if result.returncode:
            raise BrokerUnavailable(f"rabbitmqctl {' '.join(arguments)} failed:\n{result.stdout}{result.stderr}")
        return result.stdout


def running() -> Broker | None:
    """Return the broker that AMQP_URL names, else the one at RabbitMQ's default address, else None.

    Raises BrokerUnavailable where AMQP_URL is set and nothing answers there: whoever set it meant that one.
    """
    url = os.environ.get("AMQP_URL")
    refusal = why_not(url or LOCAL_URL)
    if refusal is None:
        return _with_pages(url or LOCAL_URL)
    if url:
        raise BrokerUnavailable(f"AMQP_URL is set, but {refusal}; start that broker, or unset AMQP_URL")
    return None


def why_not(url: str, seconds: float = 3) -> str | None:
    """Open and close an AMQP connection to *url*; return None, or why there was none (without the password)."""
    try:
        parameters = pika.URLParameters(url)
    except ValueError:  # its text may hold a piece of the password
        return "it is not an AMQP URL (expected amqp://user:password@host:port/vhost)"
    parameters.socket_timeout = parameters.stack_timeout = seconds
    parameters.connection_attempts = 1
    try:
        pika.BlockingConnection(parameters).close()
    except Exception as error:  # whatever a stranger at that port makes the client raise
        return f"no AMQP connection to {parameters.host}:{parameters.port}: {error!r}"
    return None


def wait_for(url: str, *, seconds: float, running: Callable[[], bool]) -> None:
    """Return when an AMQP connection to *url* works.

    seconds: how long to try.  running: False once there is nothing left to wait for.
    Raises BrokerUnavailable.
    """
    deadline = time.monotonic() + seconds
    while refusal := why_not(url):
        if not running():
            raise BrokerUnavailable("RabbitMQ ended while it was starting")
        if time.monotonic() > deadline:
            raise BrokerUnavailable(f"RabbitMQ was not ready after {seconds:.0f} s: {refusal}")
        time.sleep(0.1)


def _with_pages(amqp_url: str) -> Broker:
    """Return the broker at *amqp_url* with those of its web pages that answer at their default ports."""
    at = urlsplit(amqp_url)
    user = (at.username or "guest", at.password or "guest")
    management = f"http://{at.hostname or 'localhost'}:15672"
    metrics = f"http://{at.hostname or 'localhost'}:15692/metrics"
    return Broker(
        amqp_url,
        management if _answers(f"{management}/api/whoami", user) else None,
        metrics if _answers(metrics, user) else None,
    )


def _answers(url: str, user: tuple[str, str]) -> bool:
    try:
        return httpx.get(url, auth=user, timeout=1, trust_env=False).is_success
    except httpx.HTTPError:
        return False
