"""What a report of business figures says.  Only types: figures.py fills them, pages and commands show them."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FORMULA: Final = tuple("=+-@\t\r")
"""How a cell begins that spreadsheets would calculate."""


class Selection(msgspec.Struct, frozen=True):
    """Which orders count: those whose first event is from *since* on and before *until* (unix ns), of one partner.

    status: the only one to be told about; all orders count for it.  None for no bound.
    """

    since: int | None = None
    until: int | None = None
    partner: str | None = None
    status: str | None = None


class Times(msgspec.Struct, frozen=True):
    """How long something takes, in seconds, by Kaplan-Meier (survival.py), which counts those that still wait."""

    finished: int
    waiting: int
    average: float | None
    average_is_at_least: bool
    p50: float | None
    p95: float | None


class Reached(msgspec.Struct, frozen=True):
    """How many of the orders ever entered a status.  share: of all orders."""

    status: str
    orders: int
    share: float


class Stay(msgspec.Struct, frozen=True):
    """Time in one status.  unproved: stays whose end is not known, since an event is missing; they are left out."""

    status: str
    unproved: int
    times: Times


class Span(msgspec.Struct, frozen=True):
    """A milestone or an SLA.  void: runs that ended without a result (cancelled, say); they are left out."""

    name: str
    from_status: str
    to_status: str
    void: int
    times: Times


class Promise(msgspec.Struct, frozen=True):
    """An SLA and a partner.  share: of promises kept among those that are decided; None before the first."""

    sla: str
    partner: str
    met: int
    breached: int
    overdue: int
    at_risk: int
    share: float | None
    objective: float


class Failure(msgspec.Struct, frozen=True):
    """Transitions that were tried and failed."""

    to_status: str
    error_code: str
    count: int
    orders: int


class Report(msgspec.Struct, frozen=True):
    """Business figures at one moment.

    at: unix ns.  waiting: orders that have not ended; stuck and on_hold are among them, and stuck_share is stuck of
    waiting, None where none waits.  unreadable: orders whose rows have rotted; they count nowhere.
    """

    at: int
    selection: Selection
    orders: int
    waiting: int
    stuck: int
    on_hold: int
    stuck_share: float | None
    reached: list[Reached]
    spans: list[Span]
    promises: list[Promise]
    failures: list[Failure]
    stays: list[Stay]
    unreadable: int


def rows(report: Report) -> Iterator[str]:
    """Yield *report* as lines of CSV, one figure each: table, name, partner, figure, value."""
    yield _line("table", "name", "partner", "figure", "value")
    for figure in ("orders", "waiting", "stuck", "on_hold", "stuck_share", "unreadable"):
        yield _line("orders", "", "", figure, getattr(report, figure))
    for step in report.reached:
        yield from _figures("reached", step.status, "", {"orders": step.orders, "share": step.share})
    for stay in report.stays:
        yield from _figures("stays", stay.status, "", {"unproved": stay.unproved, **_seconds(stay.times)})
    for span in report.spans:
        yield from _figures("spans", span.name, "", {"void": span.void, **_seconds(span.times)})
    for promise in report.promises:
        kept = msgspec.structs.asdict(promise)
        yield from _figures("promises", kept.pop("sla"), kept.pop("partner"), kept)
    for failure in report.failures:
        told = {"count": failure.count, "orders": failure.orders}
        yield from _figures("failures", f"{failure.to_status} {failure.error_code}", "", told)


def _figures(table: str, name: str, partner: str, figures: Mapping[str, object]) -> Iterator[str]:
    return (_line(table, name, partner, figure, value) for figure, value in figures.items())


def _seconds(times: Times) -> dict[str, object]:
    told = msgspec.structs.asdict(times)
    return {f"{name}_seconds" if name in {"average", "p50", "p95"} else name: value for name, value in told.items()}


def _line(*values: object) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow("" if value is None else safe(value) for value in values)
    return text.getvalue()


def safe(value: object) -> object:
    """Return *value* so that a spreadsheet takes text that a sender chose for text, and not for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
