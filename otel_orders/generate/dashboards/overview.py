"""The overview: whether to believe it, where orders wait, whether they come through, and whether promises are kept.

Pure: from a lifecycle to a dashboard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_orders import names
from otel_orders.generate import links
from otel_orders.generate.dashboards import variables
from otel_orders.generate.dashboards.board import Board, Row
from otel_orders.generate.dashboards.ledger import longest_waiting
from otel_orders.generate.dashboards.panels import Limits, Panel, Question, bars, heat, lines, states
from otel_orders.generate.dashboards.promises import burning, kept
from otel_orders.generate.dashboards.queries import ENV, INFINITY, PROMETHEUS, Query
from otel_orders.generate.dashboards.tables import RANK, Column, Link, table
from otel_orders.generate.rule import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_orders.lifecycle import Lifecycle, Status

STATES: Final = ((0, "flowing", "green"), (1, "stalled", "red"), (2, "blind", "purple"))


def overview(lifecycle: Lifecycle) -> Board:
    """Return the dashboard that is opened first."""
    rows = [
        Row("May I believe what I see?", (_stages(lifecycle), _freshness())),
        Row("Where are the orders?", (_where(lifecycle), _counts(lifecycle), _ages(lifecycle))),
        Row("What of $status?", (longest_waiting(), _heat(), _usual())),
        Row("Do orders come through?", (_funnel(lifecycle), _arrivals(lifecycle), *_milestones(lifecycle))),
    ]
    if lifecycle.slas:
        rows.append(Row("Are promises kept?", (kept(), burning())))
    return Board(
        uid=links.OVERVIEW,
        title="Orders: overview",
        description="Where orders wait, since when, whose move it is, and whether promises are kept.",
        variables=(
            variables.data_source(PROMETHEUS),
            variables.data_source(INFINITY),
            variables.environment(),
            variables.chosen("status", "Status", [one.name for one in _open(lifecycle)], everything=False),
            variables.chosen("sla", "Promise", lifecycle.slas),
        ),
        rows=tuple(rows),
    )


def _open(lifecycle: Lifecycle) -> Iterator[Status]:
    return (status for status in lifecycle.statuses.values() if not status.terminal)


def _each(lifecycle: Lifecycle, expr: str) -> list[Query]:
    """Return a query for each status, so that they stand in pipeline order; `%s` in *expr* is the selector."""
    return [Query(expr % f"{{status={quoted(one.name)},{ENV}}}", one.name) for one in _open(lifecycle)]


def _stages(lifecycle: Lifecycle) -> Panel:
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
        *_each(lifecycle, "status:order_stage_state:max%s"),
        named=STATES,
    )


def _freshness() -> Panel:
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


def _where(lifecycle: Lifecycle) -> Panel:
    ranks = [
        f"max by (status, owner) (0 * status:{names.IN_STATUS}:max{{status={quoted(one.name)},{ENV}}} + {one.rank})"
        for one in _open(lifecycle)
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
        links=[Link("Status", "Its oldest orders", f"/d/{links.OVERVIEW}?var-status=${{__value.raw}}")],
    )


def _counts(lifecycle: Lifecycle) -> Panel:
    return lines(
        Question(
            "How many orders wait in each status?",
            "short",
            "A band that grows is a stage that takes more than it passes on: look at its queue and its services.",
            ("StageStalled",),
        ),
        *_each(lifecycle, f"status:{names.IN_STATUS}:max%s"),
        stacked=True,
    )


def _ages(lifecycle: Lifecycle) -> Panel:
    return lines(
        Question(
            "How long has the oldest order of each status waited?",
            "s",
            "A line that rises as fast as time is one order that nobody moves: choose its status and open the order.",
            ("OrderStuck",),
        ),
        *_each(lifecycle, f"time() - status:{names.OLDEST_ENTERED}:max%s"),
    )


def _heat() -> Panel:
    return heat(
        Question(
            "How long did orders stay in $status?",
            "s",
            "Each column is an hour of departures. A second band high up is a kind of order that goes another way; "
            "everything moving up is a stage that became slower.",
        ),
        Query(f"sum by (le) ({_stays('status_le', '_bucket')})", "{{le}}", step="1h"),
    )


def _stays(level: str, part: str) -> str:
    return f'{level}:{names.TIME_IN_STATUS}{part}:increase1h{{status="$status",{ENV}}}'


def _usual() -> Panel:
    counted = f"sum ({_stays('status', '_sum')}) / (sum ({_stays('status', '_count')}) > 0)"
    return lines(
        Question(
            "What is usual in $status, and what is slow?",
            "s",
            "An average far below p95 is a few orders that wait, not a slow stage. p95 is of the buckets of all "
            "replicas and partners together, never an average of others.",
            ("OrderStuck",),
            width=12,
        ),
        Query(counted, "average", step="5m"),
        Query(f"histogram_quantile(0.95, sum by (le) ({_stays('status_le', '_bucket')}))", "p95", step="5m"),
        Query(f'max (status:{names.STUCK_AFTER}:max{{status="$status",{ENV}}})', "stuck after"),
    )


def _funnel(lifecycle: Lifecycle) -> Panel:
    way = list(_way(lifecycle))
    reached = f"{names.REACHED}{{status=%s,{ENV}}}"
    return bars(
        Question(
            f"How many orders came as far as each step, from {way[0]} to {way[-1]}?",
            "short",
            "These are entries in the time that is shown, not the same orders followed: a step far below the one "
            "before it is where orders gather, or are cancelled. Its owner and queue tell which.",
            height=10,
        ),
        *(Query(f"sum (max by (env, status) (increase({reached % quoted(name)}[$__range])))", name) for name in way),
    )


def _arrivals(lifecycle: Lifecycle) -> Panel:
    return lines(
        Question(
            "How many orders come into each status in an hour?",
            "short",
            "Where one line falls and the one before it does not, orders stay between the two: look at that stage "
            "above. All of them fall: see Capacity, whether fewer are created.",
            ("StageStalled",),
            height=10,
        ),
        *_each(lifecycle, "status:orders_reached:increase1h%s"),
    )


def _milestones(lifecycle: Lifecycle) -> Iterator[Panel]:
    """Yield the panel of milestones, where a lifecycle has some."""
    if not lifecycle.milestones:
        return
    average = (
        f"milestone:{names.MILESTONE}_sum:increase1h{{{ENV}}} / (milestone:{names.MILESTONE}_count:increase1h > 0)"
    )
    buckets = f"sum by (milestone, le) (milestone_le:{names.MILESTONE}_bucket:increase1h{{{ENV}}})"
    yield lines(
        Question(
            "How long do orders take from milestone to milestone?",
            "s",
            "One that becomes slower while its statuses do not: orders go round again, as rejected ones do. p95 is "
            "what one of twenty customers sees.",
            ("PromiseBurnsSlowly",),
            width=24,
        ),
        Query(average, "{{milestone}} average", step="5m"),
        Query(f"histogram_quantile(0.95, {buckets})", "{{milestone}} p95", step="5m"),
    )


def _way(lifecycle: Lifecycle) -> Iterator[str]:
    """Yield the ordinary way of an order up to its end: the first `next` of each status is where most go."""
    name, passed = next(one.name for one in lifecycle.statuses.values() if one.initial), set()
    while name not in passed and not lifecycle.statuses[name].terminal:
        yield name
        passed.add(name)
        name = lifecycle.statuses[name].next[0]
