"""Histories of orders as they really come: out of order, twice, with gaps, wrong clocks and impossible moves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from otel_orders.ledger.kept import CHANGED, FAILED, MESSAGE, OBSERVED, Kept, key
from otel_orders.ledger.model import NEVER, Plan, Retention
from otel_orders.lifecycle import load_lifecycle, parse_lifecycle

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND = 1_000_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
START = 1_767_603_600 * SECOND
"""2026-01-05 09:00 UTC, a Monday."""

LIFECYCLE = load_lifecycle(Path(__file__).parents[2] / "examples/order_pipeline/lifecycle.yaml")
PLAN = Plan(LIFECYCLE, Retention(orders=NEVER, errors=NEVER))
"""It keeps orders for ever: what is removed has tests of its own."""

PAUSES = (0, 1, SECOND, 4 * SECOND, 10 * SECOND, 10 * SECOND + 1, 11 * SECOND, MINUTE, 5 * MINUTE, HOUR, DAY, 9 * DAY)
SKEWS = (*[0] * 6, -1, 3 * SECOND, -4 * SECOND, -9 * SECOND, -30 * SECOND, -2 * HOUR)
WHAT = (*["move"] * 8, "leap", "nameless", "again", "observed", "failed", "message", "self")
OTHER_STATUSES = ("MYSTERY", "ANOTHER")
PARTNERS = (None, None, "acme", "globex", "some-shop")


def event(to: str, at: int = START, left: str | None = None, **fields: Any) -> Kept:
    """Return a status change that differs from others in what a test says about it; its id follows from that."""
    said = f"{to} {at} {left} {sorted(fields.items())}"
    kept: dict[str, Any] = {"id": key(said), "kind": CHANGED, "service": "shop-api", **fields}
    return Kept(at=at, to=to, left=left, **kept)


def path(*statuses: str, start: int = START, pause: int = MINUTE, **fields: Any) -> list[Kept]:
    """Return an order's way through *statuses*, a *pause* (ns) apart."""
    before: tuple[str | None, ...] = (None, *statuses[:-1])
    steps = enumerate(zip(before, statuses, strict=True))
    return [event(to, start + place * pause, left, id=place.to_bytes(16), **fields) for place, (left, to) in steps]


@st.composite
def histories(
    draw: Callable[..., Any],
    max_size: int = 12,
    *,
    pauses: tuple[int, ...] = PAUSES,
    skews: tuple[int, ...] = SKEWS,
    what: tuple[str, ...] = WHAT,
) -> list[Kept]:
    """Draw one order's events, in the order that they really happened; *what* may happen next."""
    events: list[Kept] = []
    status: str | None = None
    at = START
    with_versions = draw(st.sampled_from(("none", "none", "some", "all")))
    for place in range(draw(st.integers(1, max_size))):
        at += draw(st.sampled_from(pauses))
        kind, left, to = draw(_moves(status, what))
        versioned = with_versions == "all" or (with_versions == "some" and draw(st.booleans()))
        events.append(
            Kept(
                id=bytes([draw(st.integers(0, 3))]) * 15 + bytes([place]),
                kind=kind,
                at=at + draw(st.sampled_from(skews)),
                to=to,
                left=left,
                service=draw(st.sampled_from(("shop-api", "mes-api"))),
                partner=draw(st.sampled_from(PARTNERS)),
                version=place if versioned else None,
            )
        )
        if kind in (CHANGED, OBSERVED):
            status = to
    return events


@st.composite
def tangles(draw: Callable[..., Any]) -> list[Kept]:
    """Draw moves between few statuses within seconds: many ways for the clocks of services to have swapped them."""
    statuses = st.sampled_from(("INITIATED", "FILE_UPLOADED", "SUBMITTED", "PRICE_CALCULATED"))
    return [
        event(
            draw(statuses),
            START + draw(st.integers(0, 15)) * SECOND,
            draw(st.one_of(st.none(), statuses)) if place else None,
            id=place.to_bytes(16),
            version=draw(st.one_of(st.none(), st.integers(0, 3))),
        )
        for place in range(draw(st.integers(1, 7)))
    ]


@st.composite
def _moves(draw: Callable[..., Any], status: str | None, choice: tuple[str, ...]) -> tuple[int, str | None, str]:
    """Draw what happens to an order in *status*: its kind, from_status and to_status."""
    known = LIFECYCLE.status(status or "")
    legal = known.next if known and known.next else ("INITIATED", "SUBMITTED")
    here = status or "INITIATED"
    anywhere = (*LIFECYCLE.statuses, *OTHER_STATUSES)
    somewhere, elsewhere, ahead = (draw(st.sampled_from(some)) for some in ((status, *anywhere), anywhere, legal))
    choices: dict[str, tuple[int, str | None, str]] = {
        "move": (CHANGED, status, ahead),
        "leap": (CHANGED, somewhere, elsewhere),
        "nameless": (CHANGED, None, ahead),
        "self": (CHANGED, status, here),
        "again": (CHANGED, elsewhere, here),
        "observed": (OBSERVED, None, draw(st.sampled_from((ahead, here)))),
        "failed": (FAILED, status, ahead),
        "message": (MESSAGE, None, "confirmed"),
    }
    return choices[draw(st.sampled_from(choice))]


@st.composite
def arrivals(draw: Callable[..., Any], max_size: int = 12) -> tuple[list[Kept], list[list[Kept]]]:
    """Draw one order's events, and the batches in which they come: in any order, some twice."""
    events = draw(histories(max_size))
    lost = draw(st.sets(st.sampled_from(events), max_size=2)) if len(events) > 2 else set()
    events = [one for one in events if one not in lost]
    again = draw(st.lists(st.sampled_from(events), max_size=4))
    return events, draw(batches(draw(st.permutations([*events, *again]))))


@st.composite
def batches(draw: Callable[..., Any], came: list[Any]) -> list[list[Any]]:
    """Draw a way to cut *came* into batches."""
    cuts = sorted(draw(st.sets(st.integers(0, len(came)), max_size=6)))
    ends = [*cuts, len(came)]
    return [came[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]


BEFORE = """
version: 1
statuses:
  INITIATED: {owner: us, initial: true, next: [FILE_UPLOADED, LOST]}
  FILE_UPLOADED: {owner: us, next: [SUBMITTED]}
  SUBMITTED: {owner: us, next: [LOST, CLOSED], stuck_after: 1d}
  LOST: {owner: us, next: [CLOSED]}
  CLOSED: {owner: us, terminal: true}
owners: {us: {services: [shop-api]}}
slas:
  uploaded: {from: INITIATED, to: FILE_UPLOADED, within: 1m, objective: 0.9}
"""
AFTER = """
version: 1
statuses:
  SUBMITTED: {owner: us, next: [PRICED, CLOSED], stuck_after: 1h}
  PRICED: {owner: us, next: [CLOSED]}
  FILE_UPLOADED: {owner: us, next: [SUBMITTED]}
  INITIATED: {owner: us, initial: true, next: [FILE_UPLOADED]}
  CLOSED: {owner: us, terminal: true}
owners: {us: {services: [shop-api]}}
slas:
  closed: {from: SUBMITTED, to: CLOSED, within: 2h, objective: 0.9}
  uploaded: {from: INITIATED, to: FILE_UPLOADED, within: 1m, objective: 0.9}
"""


def plan_of(text: str) -> Plan:
    return Plan(parse_lifecycle(text))
