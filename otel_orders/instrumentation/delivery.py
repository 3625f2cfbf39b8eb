"""What a delivery tells about its message: how old it is, and how often it was tried before.

Pure: knows no client.  Headers may hold anything; what is not what RabbitMQ writes there counts as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from otel_orders import names
from otel_orders.event import text_of
from otel_orders.instrumentation.headers import nanoseconds

DELIVERY_COUNT_HEADER: Final = "x-delivery-count"
"""How often a quorum queue has delivered the message before: 0 the first time."""
DEATHS_HEADER: Final = "x-death"
"""Where, why and how often the message was dead-lettered; the latest first."""

MAX_DEATHS: Final = 8
"""Most entries of a dead-letter history that a span carries."""

MAX_COUNT: Final = 2**63 - 1
"""Most that a span's attribute can count."""

SECOND: Final = 1_000_000_000


def published_at(headers: Mapping[Any, Any], timestamp: object) -> int | None:
    """Return when the message was published (unix ns): by our header, else by the AMQP *timestamp* (s); None: unknown.

    timestamp: unix seconds, or a datetime, as the client hands it out.
    """
    told = nanoseconds(headers.get(names.PUBLISHED_AT_HEADER))
    if told is not None:
        return told
    if isinstance(timestamp, datetime):
        timestamp = timestamp.timestamp()
    known = isinstance(timestamp, (int, float)) and not isinstance(timestamp, bool) and timestamp > 0
    return nanoseconds(int(timestamp * SECOND)) if known else None  # type: ignore[operator]


def history(headers: Mapping[Any, Any], queue: str, *, redelivered: bool) -> dict[str, Any]:
    """Return the attributes that say what happened to the message before; none for most messages.

    queue: where it comes from now.  The retry attempt counts how often it was in this queue before: 0 is left off.
    """
    found: dict[str, Any] = {}
    if redelivered:
        found[names.REDELIVERED] = True
    if count := _count(headers.get(DELIVERY_COUNT_HEADER)):
        found[names.DELIVERY_COUNT] = count
    deaths = [death for death in _listed(headers.get(DEATHS_HEADER)) if isinstance(death, Mapping)]
    if deaths:
        found[names.DEAD_LETTERED] = [_line(death) for death in deaths[:MAX_DEATHS]]
    died_here = sum(_count(death.get("count")) for death in deaths if death.get("queue") == queue)
    attempt = found.get(names.DELIVERY_COUNT, 0) + died_here
    if attempt or redelivered:
        found[names.RETRY_ATTEMPT] = min(attempt or 1, MAX_COUNT)
    return found


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT else 0


def _line(death: Mapping[Any, Any]) -> str:
    return text_of(f"{death.get('queue')} {death.get('reason')} x{_count(death.get('count'))}")
