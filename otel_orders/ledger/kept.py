"""What the store keeps of one order, packed: its events, what they fold into, and what was counted wrongly.

The row layout is the one thing that is hard to change later.  Structs are arrays on disk: a field may be added at the
end with a default, and none may be removed or moved.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import msgspec

from otel_orders import names

CHANGED, FAILED, OBSERVED, MESSAGE = range(4)
"""Kinds of events."""

LATEST = 2**62
"""Unix ns that no event reaches."""
Moment = Annotated[int, msgspec.Meta(ge=0, lt=LATEST)]
"""Unix ns; a row that says otherwise has rotted."""

Fact = tuple[str | int, ...]
"""Something that was counted once: a metric's name, its labels and, for a histogram, the value in ms."""


# gc=False below: none of these can be part of a cycle, and a batch has tens of thousands of them.


class Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One event, as it is kept.

    id: 16 bytes.  at: occurred_at, unix ns.  left: from_status, None where the sender did not know it.  duration: ns.
    trace_id, span_id: raw bytes, empty without a trace.  version: order_version.
    """

    id: bytes
    kind: int
    at: Moment
    to: str
    left: str | None
    service: str
    partner: str | None = None
    trace_id: bytes = b""
    span_id: bytes = b""
    duration: int = 0
    version: int | None = None
    error_code: str = ""
    attributes: dict[str, Any] | None = None


class OpenClock(msgspec.Struct, array_like=True, gc=False):
    """A milestone or SLA that has started and not ended.

    place: in the plan's clocks.  partner: the label at its start.  started_at, deadline, at_risk: unix ns; the last two
    are 0 for a milestone.  counted: its breach is in the totals.
    """

    place: int
    partner: str
    started_at: int
    deadline: int = 0
    at_risk: int = 0
    counted: bool = False


class Fold(msgspec.Struct, array_like=True, gc=False):
    """What an order's events fold into, as far as the next event needs it.  Valid for one lifecycle only.

    status: None before the first event.  entered_at: unix ns.  newest_at: the latest time that any event counts as.
    gap_at: the latest time of an event that did not chain or came out of turn, -1 for none.  version: the highest seen,
    -1 for none.  reached: ranks of the statuses entered.  clocks: those that run.  ran: places of the clocks that
    start only once and have.
    """

    status: str | None = None
    entered_at: int = 0
    newest_at: int = -1
    gap_at: int = -1
    version: int = -1
    partner: str | None = None
    reached: list[int] = []
    clocks: list[OpenClock] = []
    ran: list[int] = []


class Hold(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A person's note that an order may wait.  until: unix ns.  by: who said so.  at: when, unix ns."""

    until: int
    why: str
    by: str = ""
    at: int = 0


class Order(msgspec.Struct, array_like=True, gc=False):
    """One row: everything about one order.

    swept_at: up to when its timers have been looked at, unix ns.  events: in order of arrival.  debt: facts that were
    counted and that later events have disproved; counters never go down, so each is owed to the next equal fact.
    hold: what people said about it, None for nothing.  imported_at: when something was last imported of it, unix ns, 0
    for never.
    """

    fold: Fold
    swept_at: int = 0
    events: list[Kept] = []
    debt: list[Fact] = []
    hold: Hold | None = None
    imported_at: Moment = 0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Order)


def pack(order: Order) -> bytes:
    """Return *order* as the bytes of its row."""
    return _encoder.encode(order)


def unpack(row: bytes) -> Order:
    """Return the order that pack() made *row* of."""
    return _decoder.decode(row)


def readable(row: bytes) -> Order | None:
    """Return the order that pack() made *row* of, None where the row has rotted so that nobody can read it."""
    try:
        order = _decoder.decode(row)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return order if not order.debt or all(map(_is_fact, order.debt)) else None


def held_until(row: bytes) -> int:
    """Return until when the order in *row* is, or was, on hold (unix ns); 0 for never, or where it has rotted."""
    order = readable(row)
    return order.hold.until if order and order.hold else 0


def _is_fact(owed: Fact) -> bool:
    """Whether *owed* can have been counted: text, and for a histogram a value in ms."""
    has_value = bool(owed) and owed[0] in {names.TIME_IN_STATUS, names.MILESTONE}
    labels = owed[:-1] if has_value else owed
    return all(isinstance(label, str) for label in labels) and (not has_value or isinstance(owed[-1], int))


def key(event_id: str) -> bytes:
    """Return the 16 bytes under which *event_id* is kept: itself if it is 32 hex digits, else its digest."""
    if len(event_id) == 32:  # noqa: PLR2004 - 16 bytes in hex
        try:
            return bytes.fromhex(event_id)
        except ValueError:
            pass
    return hashlib.blake2b(event_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
