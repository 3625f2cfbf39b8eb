"""OpenTelemetry's messaging conventions, as of 1.44, for RabbitMQ: what spans and destinations are called.

Pure: knows no client.  https://opentelemetry.io/docs/specs/semconv/messaging/rabbitmq/ is the text that it follows.
OTEL_SEMCONV_STABILITY_OPT_IN=messaging/dup adds the attributes of 1.11, which the official instrumentors still write.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Any, Final

SYSTEM: Final = "messaging.system"
OPERATION_NAME: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
ANONYMOUS: Final = "messaging.destination.anonymous"
ROUTING_KEY: Final = "messaging.rabbitmq.destination.routing_key"
DELIVERY_TAG: Final = "messaging.rabbitmq.message.delivery_tag"
MESSAGE_ID: Final = "messaging.message.id"
CONVERSATION_ID: Final = "messaging.message.conversation_id"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

RABBITMQ: Final = "rabbitmq"
SEND: Final = "send"
PROCESS: Final = "process"

OPT_IN: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"

Server = tuple[str, int]
"""Host and port of the broker, as the application named it."""

_ANONYMOUS = re.compile(r"amq(?:\.gen-|\.ctag|_(?:0x)?[0-9a-f]{8}|\.rabbitmq\.reply-to)")
"""How names begin that the broker, or aio-pika, made up: a new one at each start."""


def wants_old_names() -> bool:
    """Return whether the environment asks for the old attributes beside those of today (`messaging/dup`)."""
    return "messaging/dup" in (part.strip() for part in os.environ.get(OPT_IN, "").split(","))


@lru_cache(maxsize=1024)
def destination(exchange: str, routing_key: str, queue: str = "") -> str:
    """Return `{exchange}:{routing_key}:{queue}` without what is empty or said twice; `amq.default` for nothing."""
    parts = (exchange, routing_key, "" if queue == routing_key else queue)
    return ":".join(filter(None, parts)) or "amq.default"


def is_anonymous(name: str) -> bool:
    """Return whether nobody chose the *name* of a queue: it says nothing, and there is no end of such names."""
    return _ANONYMOUS.match(name) is not None


@lru_cache(maxsize=1024)
def chosen_destination(exchange: str, routing_key: str, queue: str = "") -> str:
    """Return the destination without names that nobody chose, empty if nothing is left: fit for a span's name."""
    chosen = ["" if is_anonymous(part) else part for part in (exchange, routing_key, queue)]
    return destination(*chosen) if any(chosen) or not (routing_key or queue) else ""


@lru_cache(maxsize=1024)
def span_name(operation: str, exchange: str, routing_key: str, queue: str = "") -> str:
    """Return `{operation} {destination}`; of an anonymous queue, only what somebody chose."""
    return f"{operation} {chosen_destination(exchange, routing_key, queue)}".rstrip()


@lru_cache(maxsize=1024)
def destination_attributes(
    operation: str, exchange: str, routing_key: str, queue: str, server: Server | None
) -> dict[str, Any]:
    """Return what the spans of one operation on one destination share.  Not to be changed: it is kept."""
    found: dict[str, Any] = {
        SYSTEM: RABBITMQ,
        OPERATION_NAME: operation,
        OPERATION_TYPE: operation,
        DESTINATION: destination(exchange, routing_key, queue),
    }
    if routing_key:
        found[ROUTING_KEY] = routing_key
    if is_anonymous(queue or routing_key):
        found[ANONYMOUS] = True
    if server is not None:
        found[SERVER_ADDRESS], found[SERVER_PORT] = server
    return found


@lru_cache(maxsize=1024)
def old_attributes(operation: str, exchange: str, routing_key: str, server: Server | None) -> dict[str, Any]:
    """Return what the official instrumentors write about the same, by the conventions of 1.11."""
    found: dict[str, Any] = {"messaging.destination": exchange or routing_key}
    if operation == SEND:
        found["messaging.temp_destination"] = True
    else:
        found["messaging.operation"] = "receive"
    if server is not None:
        found["net.peer.name"], found["net.peer.port"] = server
    return found
