"""Decide what of a received record may be kept.  Pure but for the clock it is given: knows no transport, no store.

A record that cannot be kept costs only itself: it is counted with its reason, and its neighbours are read on.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from otel_orders import names
from otel_orders.errors import EventError
from otel_orders.event import MAX_STRING, OWN_FIELDS, bounded
from otel_orders.ledger.apply import LATE
from otel_orders.ledger.courtesy import lookups
from otel_orders.ledger.kept import CHANGED, FAILED, MESSAGE, OBSERVED, Kept, key
from otel_orders.ledger.model import KEPT, Retention
from otel_orders.ledger.store import Received, Seen
from otel_orders.privacy import Masker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_orders.lifecycle import Lifecycle

SECOND: Final = 1_000_000_000
HORIZON: Final = KEPT.orders
"""Events older than this are refused as late, where nothing else is set."""
FUTURE: Final = 600 * SECOND
"""Events further ahead than this are refused: no clock is that wrong and still worth believing."""

LONGEST_NUMBER: Final = 10**64
"""A number from here on is no id; Python would also refuse to write out the longest ones."""

REJECTED: Final = "rejected"

KINDS: Final = {
    names.STATUS_CHANGED: CHANGED,
    names.TRANSITION_FAILED: FAILED,
    names.OBSERVED: OBSERVED,
    names.MESSAGE_PUBLISHED: MESSAGE,
    names.MESSAGE_SETTLED: MESSAGE,
}
_OF_A_MESSAGE: Final = (names.QUEUE, names.MESSAGE_ID, names.EXCHANGE, names.ROUTING_KEY)
"""Fields that say which message it is: masked, two might look the same."""
_PLACED: Final = OWN_FIELDS | {"timestamp", "level"}
"""Fields that have a place of their own in what is kept, or are left out; all others are attributes."""

_CONTROL: Final = re.compile("[\\x00-\\x1f\\x7f]")
"""What no order is called: not every store keeps NUL, and the others steer terminals or break lines."""
_masker = Masker()
"""For senders that cannot mask: what they send must not lie on a disk and stand on a page as it is."""


class Reading:
    """What was read of one request, or of a piece of a file.

    received: to be kept.  rejected: how many were refused, by result.  reasons: why, with counts, for the sender.
    passed_over: records that are no events of ours, such as log lines.  retention: how old an event may be.
    """

    def __init__(self, lifecycle: Lifecycle, env: str, now: int, retention: Retention = KEPT) -> None:
        self._services = lifecycle.services
        self._retention = retention
        self._env = env
        self._now = now
        self._seen: dict[tuple[str, str, str], Seen] = {}
        self.received: list[Received] = []
        self.rejected: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.passed_over = 0

    @property
    def seen(self) -> list[Seen]:
        """The signs of life in it."""
        return list(self._seen.values())

    def take(self, record: Mapping[str, Any]) -> None:
        """Read *record*, flat and named as names.py has it; one that is no event of ours is passed over."""
        lookups.give_way()
        event_type = record.get(names.EVENT_TYPE)
        if not isinstance(event_type, str) or (event_type not in KINDS and event_type != names.HEARTBEAT):
            self.passed_over += 1
            return
        try:
            self._take(record, event_type)
        except EventError as error:
            self.refuse(error)

    def refuse(self, error: EventError, count: int = 1) -> None:
        """Count *count* records that cannot be kept."""
        self.rejected[LATE if error.reason == LATE else REJECTED] += count
        self.reasons[error.reason] += count

    def _take(self, record: Mapping[str, Any], event_type: str) -> None:
        env = record.get(names.ENV)
        if env and env != self._env:
            raise EventError("other_env", f"this ledger serves {self._env!r}")
        at = self._checked_time(record)
        service = text(record, names.SERVICE)
        self._note(service, record, at)
        if event_type == names.HEARTBEAT:
            return
        order_id = text(record, names.ORDER_ID)
        if not order_id.strip():
            raise EventError("no_order_id", "an order event names its order")
        if not order_id.isprintable() and _CONTROL.search(order_id):
            raise EventError("bad_type", "order_id has a control character")
        self.received.append(Received(order_id, _kept(record, event_type, order_id, at, service)))

    def _checked_time(self, record: Mapping[str, Any]) -> int:
        at = unix_ns(record.get(names.OCCURRED_AT) or record.get("timestamp"))
        if at < 0:
            raise EventError("bad_time", "occurred_at is before 1970")
        failed = record[names.EVENT_TYPE] == names.TRANSITION_FAILED
        # What it belongs to may have been removed, and must not come back to life.
        if at < self._now - (self._retention.errors if failed else self._retention.orders):
            raise EventError(LATE, "older than the ledger keeps orders")
        if at > self._now + FUTURE:
            raise EventError("future", "its clock is ahead")
        return at

    def _note(self, service: str, record: Mapping[str, Any], at: int) -> None:
        """Note a sign of life; services that no owner has share one row, so that a sender cannot fill the table."""
        owned = service in self._services
        beat = record[names.EVENT_TYPE] == names.HEARTBEAT
        instance, role = (text(record, "instance"), text(record, "role")) if beat and owned else ("", "")
        place = (service if owned else "other", instance, role)
        known = self._seen.get(place)
        if known is None or known.at < at:
            self._seen[place] = Seen(*place, at, text(record, "lifecycle_hash") if beat else "")


def _kept(record: Mapping[str, Any], event_type: str, order_id: str, at: int, service: str) -> Kept:
    kind = KINDS[event_type]
    to_status = text(record, "outcome" if kind == MESSAGE else names.TO_STATUS)
    if not to_status:
        raise EventError("no_status", "a status event names to_status, a message event its outcome")
    return Kept(
        id=_identity(record, event_type, order_id, to_status, at),
        kind=kind,
        at=at,
        to=to_status,
        left=text(record, names.FROM_STATUS) or None,
        service=service,
        partner=text(record, names.PARTNER_ID) or None,
        trace_id=_bytes(record.get(names.TRACE_ID), 16),
        span_id=_bytes(record.get(names.SPAN_ID), 8),
        duration=_whole(record.get(names.DURATION)) or 0,
        version=_whole(record.get(names.ORDER_VERSION)),
        error_code=text(record, names.ERROR_CODE),
        attributes=_attributes(record, event_type if kind == MESSAGE else None),
    )


def _identity(record: Mapping[str, Any], event_type: str, order_id: str, to_status: str, at: int) -> bytes:
    """Return the event's id; a sender that gives none gets one from the content, so that a line read twice is one."""
    given = text(record, names.EVENT_ID)
    return key(given or f"{event_type}\n{order_id}\n{to_status}\n{at}")


def _attributes(record: Mapping[str, Any], event_type: str | None) -> dict[str, Any] | None:
    """Return what has no place of its own.  event_type: of a message event, kept with what names the message."""
    if event_type is None and record.keys() <= _PLACED:
        return None
    nested = record.get("attributes")
    found = {name: value for name, value in record.items() if name not in _PLACED and name != "attributes"}
    if isinstance(nested, dict):
        found.update((str(name), value) for name, value in nested.items())
    identity: dict[str, Any] = {}
    if event_type:
        identity = {name: given for name in _OF_A_MESSAGE if (given := text(record, name))}
        identity |= {names.EVENT_TYPE: event_type}
        found = {name: value for name, value in found.items() if name not in _OF_A_MESSAGE}
        if (published_at := _whole(found.pop(names.PUBLISHED_AT, None))) is not None:
            identity[names.PUBLISHED_AT] = published_at
    kept: dict[str, Any] = dict(bounded(_masker.mask_mapping(found)))
    return (kept | identity) or None


def text(record: Mapping[str, Any], field: str) -> str:
    """Return *field* as text, "" where there is none.  Raises EventError where it is no text or number, or too long."""
    value = record.get(field)
    if value is None:
        return ""
    if type(value) is str:
        if len(value) > MAX_STRING:
            raise EventError("too_long", f"{field} has over {MAX_STRING} characters")
        if not value.isascii():
            _check_encodable(field, value)
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= LONGEST_NUMBER:
            raise EventError("too_long", f"{field} has over 64 digits")
        return str(value)
    raise EventError("bad_type", f"{field} is no text")


def _check_encodable(field: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise EventError("bad_type", f"{field} is no valid Unicode") from None


def unix_ns(value: object) -> int:
    """Return *value* (unix ns as a whole number or its digits, or ISO 8601 with an offset) as unix ns.

    Raises EventError where it is none of these.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= MAX_STRING:
        if value.isdecimal() and value.isascii():
            return int(value)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise EventError("bad_time", "occurred_at is neither unix ns nor ISO 8601") from None
        if moment.tzinfo is None:
            raise EventError("bad_time", "occurred_at has no offset from UTC")
        return int(moment.replace(microsecond=0).timestamp()) * SECOND + moment.microsecond * 1000
    raise EventError("bad_time", "no occurred_at")


def _whole(value: object) -> int | None:
    """Return *value* as a whole number of at most 63 bits, None where it is none."""
    if value is None:
        return None
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:  # noqa: PLR2004 - 63 bits
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return value
    return None


def _bytes(value: object, length: int) -> bytes:
    """Return a trace or span id, raw or in hex, as bytes; empty where it is none."""
    if isinstance(value, bytes):
        return value if len(value) == length else b""
    if isinstance(value, str) and len(value) == 2 * length:
        try:
            raw = bytes.fromhex(value)
        except ValueError:
            return b""
        return raw if len(raw) == length else b""  # fromhex() passes over spaces
    return b""
