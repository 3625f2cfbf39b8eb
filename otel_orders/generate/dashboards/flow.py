"""Panels on how orders come through: how long they stay, how far they come, and how long their ways take.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_orders import names
from otel_orders.generate.dashboards.panels import Panel, Question, bars, heat, lines
from otel_orders.generate.dashboards.queries import ENV, Query
from otel_orders.generate.dashboards.stages import each_status
from otel_orders.generate.rule import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_orders.lifecycle import Lifecycle


def spread() -> Panel:
    """Return how long orders stayed in the chosen status, by how many."""
    return heat(
        Question(
            "How long did orders stay in $status?",
            "s",
            "Each column is an hour of departures. A second band high up is a kind of order that goes another way; "
            "everything moving up is a stage that became slower.",
            width=8,
            height=10,
        ),
        Query(f"sum by (le) ({_stays('status_le', '_bucket')})", "{{le}}", step="1h"),
    )


def _stays(level: str, part: str) -> str:
    return f'{level}:{names.TIME_IN_STATUS}{part}:increase1h{{status="$status",{ENV}}}'


def usual() -> Panel:
    """Return the average and the p95 of these stays."""
    counted = f"sum ({_stays('status', '_sum')}) / (sum ({_stays('status', '_count')}) > 0)"
    return lines(
        Question(
            "What is usual in $status, and what is slow?",
            "s",
            "An average far below p95 is a few orders that wait, not a slow stage. p95 is of the buckets of all "
            "replicas and partners together, never an average of others.",
            ("OrderStuck",),
            width=8,
            height=10,
        ),
        Query(counted, "average", step="5m"),
        Query(f"histogram_quantile(0.95, sum by (le) ({_stays('status_le', '_bucket')}))", "p95", step="5m"),
        Query(f'max (status:{names.STUCK_AFTER}:max{{status="$status",{ENV}}})', "stuck after"),
        logarithmic=True,
    )


def funnel(lifecycle: Lifecycle) -> Panel:
    """Return how many orders came as far as each step."""
    way = list(_way(lifecycle))
    reached = f"{names.REACHED}{{status=%s,{ENV}}}"
    return bars(
        Question(
            f"How many orders came as far as each step, from {way[0]} to {way[-1]}?",
            "short",
            "These are entries in the time that is shown, not the same orders followed: a step far below the one "
            "before it is where orders gather, or end otherwise. Its owner and queue tell which.",
            height=10,
        ),
        *(Query(f"sum (max by (env, status) (increase({reached % quoted(name)}[$__range])))", name) for name in way),
    )


def arrivals(lifecycle: Lifecycle) -> Panel:
    """Return how many orders enter each status."""
    return lines(
        Question(
            "How many orders come into each status in an hour?",
            "short",
            "Where one line falls and the one before it does not, orders stay between the two: look at that stage "
            "above. All of them fall: see Capacity, whether fewer are created.",
            ("StageStalled",),
            height=10,
        ),
        *each_status("status:orders_reached:increase1h%s", lifecycle.statuses.values()),
    )


def milestones(lifecycle: Lifecycle) -> Iterator[Panel]:
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
            "One that becomes slower while its statuses do not: orders go round again, as those do that are sent "
            "back. p95 is what one of twenty customers sees.",
            ("PromiseBurnsSlowly",),
            width=24,
        ),
        Query(average, "{{milestone}} average", step="5m"),
        Query(f"histogram_quantile(0.95, {buckets})", "{{milestone}} p95", step="5m"),
    )


def _way(lifecycle: Lifecycle) -> Iterator[str]:
    """Yield the ordinary way of an order, its end included: the first `next` of each status is where most go."""
    name, passed = next(one.name for one in lifecycle.statuses.values() if one.initial), set()
    while name not in passed:
        yield name
        passed.add(name)
        if ahead := lifecycle.statuses[name].next:
            name = ahead[0]
