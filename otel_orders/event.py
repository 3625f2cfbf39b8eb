"""What can be known about an order, as one immutable record.

Spans, metrics and log lines are projections of these.  The tag of the union is ``event_type``, so a JSON line says
what it is without a wrapper:

    StatusEvent     StatusChanged | TransitionFailed | OrderObserved
    MessageEvent    MessagePublished | MessageSettled
    Heartbeat

Knows nothing of sinks, clients or the ledger.
"""

from __future__ import annotations

import hashlib
import math
import os
from enum import Enum
from functools import lru_cache
from typing import ClassVar

import msgspec

from otel_orders import names

Attribute = str | int | float | bool

MAX_ATTRIBUTES = 32
MAX_STRING = 256
"""Longest string kept in an event, in characters; longer ones are cut."""
_INT64 = 2**63

OWN_FIELDS = frozenset(
    {names.ORDER_ID, names.PARTNER_ID, names.FROM_STATUS, names.TO_STATUS, names.STATUS, names.SERVICE, names.ENV}
    | {names.EVENT_TYPE, names.ERROR_CODE, names.TRACE_ID, names.SPAN_ID, names.EVENT_ID, names.OCCURRED_AT}
    | {names.DURATION, names.ORDER_VERSION, names.ORDER_BUCKET}
)
"""What an attribute cannot be called: on a span and in an OTLP record it stands beside these."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field=names.EVENT_TYPE):
    """What all events share.

    event_id: 32 hex digits.  occurred_at: unix time in ns.  trace_id (32 hex), span_id (16 hex): empty without a trace.
    """

    event_type: ClassVar[str]

    event_id: str
    service: str
    env: str
    occurred_at: int
    trace_id: str = ""
    span_id: str = ""
    attributes: dict[str, Attribute] = {}


class StatusEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Something happened to the status of an order.

    from_status: None where the sender does not know it.  duration: of the work, in ns on the monotonic clock.
    order_version: grows with each change of the order, where the application keeps one.
    """

    order_id: str
    to_status: str
    from_status: str | None = None
    partner_id: str | None = None
    duration: int = 0
    order_version: int | None = None

    @property
    def status(self) -> str | None:
        """Where the order is after the event."""
        return self.to_status


class StatusChanged(StatusEvent, frozen=True, kw_only=True, omit_defaults=True, tag=names.STATUS_CHANGED):
    """The order entered to_status."""

    event_type: ClassVar[str] = names.STATUS_CHANGED


class TransitionFailed(StatusEvent, frozen=True, kw_only=True, omit_defaults=True, tag=names.TRANSITION_FAILED):
    """The order should have entered to_status and did not; it stays where it was."""

    event_type: ClassVar[str] = names.TRANSITION_FAILED

    error_code: str

    @property
    def status(self) -> str | None:
        """Where the order still is; None where the sender does not know it."""
        return self.from_status


class OrderObserved(StatusEvent, frozen=True, kw_only=True, omit_defaults=True, tag=names.OBSERVED):
    """A snapshot of the application's own data says that the order is in to_status since occurred_at."""

    event_type: ClassVar[str] = names.OBSERVED


class MessageEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """Something happened to a message.

    message_id: unique in its queue, empty where the message has none.  order_id: None for a message outside any order.
    exchange, routing_key: where it was published to.
    """

    queue: str
    message_id: str
    order_id: str | None = None
    partner_id: str | None = None
    exchange: str = ""
    routing_key: str = ""


class MessagePublished(MessageEvent, frozen=True, kw_only=True, omit_defaults=True, tag=names.MESSAGE_PUBLISHED):
    """A message was handed to the broker.  outcome: confirmed, returned, nacked, error or unconfirmed."""

    event_type: ClassVar[str] = names.MESSAGE_PUBLISHED

    outcome: str


class MessageSettled(MessageEvent, frozen=True, kw_only=True, omit_defaults=True, tag=names.MESSAGE_SETTLED):
    """A consumer is done with a message.  outcome: ack, nack, reject or no-ack.

    published_at: when the message was published, unix ns; None where it does not say.
    """

    event_type: ClassVar[str] = names.MESSAGE_SETTLED

    outcome: str
    published_at: int | None = None


class Heartbeat(Event, frozen=True, kw_only=True, omit_defaults=True, tag=names.HEARTBEAT):
    """A service instance is alive.  lifecycle_hash: of the lifecycle file that it runs with, empty without one."""

    event_type: ClassVar[str] = names.HEARTBEAT

    instance: str
    role: str = ""
    lifecycle_hash: str = ""


AnyEvent = StatusChanged | TransitionFailed | OrderObserved | MessagePublished | MessageSettled | Heartbeat


def new_event_id() -> str:
    """Return a random event id, 32 hex digits."""
    return os.urandom(16).hex()


def versioned_event_id(order_id: str, version: int, to_status: str) -> str:
    """Return the event id of the change that made *version* of an order: the same however often it is sent."""
    return hashlib.sha256(f"{order_id}\n{version}\n{to_status}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


@lru_cache(1024)  # one transition asks twice: for its span, and whether its trace is kept
def order_bucket(order_id: str) -> int:
    """Return 0 to 99, the same for all traces of one order, so that they are kept or dropped together.

    The first 13 hex digits of SHA-256 modulo 100: 52 bits, which a Collector's signed 64-bit integers hold.
    """
    return int(hashlib.sha256(order_id.encode("utf-8", "surrogatepass")).hexdigest()[:13], 16) % 100


def text_of(value: object) -> str:
    """Return *value* (an Enum's value, else its str) as an event keeps text: cut, and of characters that UTF-8 has."""
    text = value if type(value) is str else str(value.value if isinstance(value, Enum) else value)
    if len(text) > MAX_STRING:
        text = text[:MAX_STRING]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def bounded(attributes: dict[str, object]) -> dict[str, Attribute]:
    """Return *attributes* as an event keeps them: at most 32, plain values, strings of at most 256 characters.

    Those that are called like a field of the event are left out.
    """
    kept: dict[str, Attribute] = {}
    for key, value in attributes.items():
        if len(kept) == MAX_ATTRIBUTES:
            break
        if key not in OWN_FIELDS:
            kept[text_of(key)] = _attribute(value)
    return kept


def _attribute(value: object) -> Attribute:
    """Return *value* so that every output can write it: OTLP has 64-bit integers, JSON no NaN."""
    if isinstance(value, bool) or (isinstance(value, int) and -_INT64 <= value < _INT64):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    try:
        return text_of(value)
    except Exception:  # an object that cannot say what it is costs its own value only
        return f"<{type(value).__name__}>"
