"""Whether what failed should be tried again, or can never succeed.  How often a message is tried: see topology.py."""

from __future__ import annotations

import os

import httpx
import pika.exceptions

RETRY_AFTER = float(os.environ.get("RETRY_AFTER_SECONDS", "1"))
"""Seconds before a message goes back to its queue because somebody else failed."""


class BrokerUnavailableError(Exception):
    """RabbitMQ did not take a message, or could not route it."""


PASSING = (httpx.TransportError, BrokerUnavailableError, pika.exceptions.AMQPError)


def is_passing(error: Exception) -> bool:
    """Return whether *error* is the fault of a server or the broker, so that the same message may succeed later."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.is_server_error
    return isinstance(error, PASSING)
