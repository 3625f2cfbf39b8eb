"""Panels on where orders wait: how each stage does, how many are in it, and since when.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_orders import names
from otel_orders.generate import links
from otel_orders.generate.dashboards.panels import Limits, Panel, Question, bars, lines, states
from otel_orders.generate.dashboards.queries import ENV, Query
from otel_orders.generate.dashboards.tables import RANK, Column, Link, table
from otel_orders.generate.rule import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_orders.lifecycle import Lifecycle, Status

STATES: Final = ((0, "flowing", "green"), (1, "stalled", "red"), (2, "blind", "purple"))


def verdicts(lifecycle: Lifecycle) -> Panel:
    """Return how each stage did over time."""
    return states(
        Question(
            "Does each stage flow, stand still, or can nobody tell?",
            "short",
            "Blind: the owner's services are not heard, so look at them and at the Collector first. Stalled: orders "
            "wait and none leaves, so ask the stage's owner. Only where it flows is a stuck order that order's own.",
            ("StageBlind", "StageStalled"),
            width=16,
            height=10,
        ),
        *each_status("status:order_stage_state:max%s", open_statuses(lifecycle)),
        named=STATES,
    )


def freshness() -> Panel:
    """Return how old what is shown may be."""
    return bars(
        Question(
            "How old is what I see here?",
            "s",
            "Above a minute, what is shown below is old. The ledger's timers: see Collector and ledger. A service: it "
            "is down, or its telemetry does not arrive.",
            ("LedgerLagging", "LedgerDown", "StageBlind"),
            width=8,
            height=10,
        ),
        Query(f"time() - env:otel_orders_ledger_swept_timestamp_seconds:max{{{ENV}}}", "the ledger's timers"),
        Query(f"time() - env:{names.PROBE_SUCCEEDED}:max{{{ENV}}}", "its look at the queues"),
        Query(f"time() - service_name:{names.SERVICE_LAST_EVENT}:max{{{ENV}}}", "{{service_name}}"),
        limits=Limits(60, 120),
    )


def where(lifecycle: Lifecycle) -> Panel:
    """Return the table of all statuses, in pipeline order."""
    ranks = [
        f"max by (status, owner) (0 * status:{names.IN_STATUS}:max{{status={quoted(one.name)},{ENV}}} + {one.rank})"
        for one in open_statuses(lifecycle)
    ]
    by = "by (status, owner)"
    return table(
        Question(
            "Where are the orders, since when, and whose move is it?",
            "short",
            "Begin with stuck orders and the stage's state. Click a status to see its oldest orders below; its owner "
            "is who must move them on.",
            ("OrderStuck", "StageStalled", "StageBlind"),
            width=24,
            height=12,
        ),
        {"status": "Status", "owner": "Whose move"},
        [
            Column(RANK, "\nor\n".join(ranks), "short"),
            Column("Stage", f"max {by} (status:order_stage_state:max{{{ENV}}})", "short", named=STATES),
            Column("Orders", f"sum {by} (status:{names.IN_STATUS}:max{{{ENV}}})", "short"),
            Column("On hold", f"sum {by} (status:{names.ON_HOLD}:max{{{ENV}}})", "short"),
            Column("Oldest", f"time() - min {by} (status:{names.OLDEST_ENTERED}:max{{{ENV}}})", "s"),
            Column("Stuck after", f"max {by} (status:{names.STUCK_AFTER}:max{{{ENV}}})", "s"),
            Column("Stuck", f"sum {by} (status:{names.STUCK}:max{{{ENV}}})", "short", Limits(0.5, 1)),
        ],
        sort=RANK,
        links=[Link("Status", "Its oldest orders", f"/d/{links.OVERVIEW}?var-status=${{__value.raw:percentencode}}")],
    )


def counts(lifecycle: Lifecycle) -> Panel:
    """Return how many orders wait, over time."""
    return lines(
        Question(
            "How many orders wait in each status?",
            "short",
            "A band that grows is a stage that takes more than it passes on: look at its queue and its services.",
            ("StageStalled",),
        ),
        *each_status(f"status:{names.IN_STATUS}:max%s", open_statuses(lifecycle)),
        stacked=True,
    )


def ages(lifecycle: Lifecycle) -> Panel:
    """Return how long the oldest orders have waited, over time."""
    return lines(
        Question(
            "How long has the oldest order of each status waited?",
            "s",
            "A line that rises as fast as time is one order that nobody moves: choose its status and open the order.",
            ("OrderStuck",),
        ),
        *each_status(f"time() - status:{names.OLDEST_ENTERED}:max%s", open_statuses(lifecycle)),
    )


def open_statuses(lifecycle: Lifecycle) -> Iterator[Status]:
    """Return the statuses in which orders wait, in pipeline order."""
    return (status for status in lifecycle.statuses.values() if not status.terminal)


def each_status(expr: str, statuses: Iterable[Status]) -> list[Query]:
    """Return a query for each of *statuses*, so that they stand in their order; `%s` in *expr* is the selector."""
    return [Query(expr % f"{{status={quoted(one.name)},{ENV}}}", one.name) for one in statuses]
