"""The runs of a milestone or an SLA over an order's visits, each with its times.  Pure.

The fold (model.py) keeps only what the next event needs; a report wants to know how long each run took.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_orders.ledger.sla import Clock
    from otel_orders.ledger.story import Visit


class Run(NamedTuple):
    """One run.  Times in unix ns; ended_at is None where it did not, or not yet.  void: it ended without a result."""

    started_at: int
    ended_at: int | None
    void: bool


def runs(clock: Clock, visits: Sequence[Visit]) -> Iterator[Run]:
    """Yield the runs of *clock* that *visits* started, in order."""
    for place, visit in enumerate(visits):
        if visit.status == clock.start_status:
            yield _run(clock, visit.entered_at, visits[place + 1 :])
            if clock.start == "first":
                return


def _run(clock: Clock, started_at: int, later: Sequence[Visit]) -> Run:
    for visit in later:
        if visit.status == clock.end_status:
            return Run(started_at, visit.entered_at, void=visit.entered_at < started_at)
        if clock.voided_by(visit.status):
            return Run(started_at, None, void=True)
    return Run(started_at, None, void=False)
