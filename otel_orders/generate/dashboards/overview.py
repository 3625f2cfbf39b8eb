"""The overview: whether to believe it, where orders wait, whether they come through, and whether promises are kept.

Pure: from a lifecycle to a dashboard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_orders.generate import links
from otel_orders.generate.dashboards import flow, stages, variables
from otel_orders.generate.dashboards.board import Board, Row
from otel_orders.generate.dashboards.ledger import longest_waiting, worst
from otel_orders.generate.dashboards.promises import burning, kept
from otel_orders.generate.dashboards.queries import INFINITY, PROMETHEUS
from otel_orders.generate.dashboards.stages import open_statuses

if TYPE_CHECKING:
    from otel_orders.lifecycle import Lifecycle


def overview(lifecycle: Lifecycle) -> Board:
    """Return the dashboard that is opened first."""
    rows = [
        Row("May I believe what I see?", (stages.verdicts(lifecycle), stages.freshness())),
        Row("Where are the orders?", (stages.where(lifecycle), stages.counts(lifecycle), stages.ages(lifecycle))),
        Row("Which orders need somebody?", (worst(),)),
        Row("What of $status?", (longest_waiting(), flow.spread(), flow.usual())),
        Row("Do orders come through?", (flow.funnel(lifecycle), flow.arrivals(lifecycle), *flow.milestones(lifecycle))),
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
            variables.chosen("status", "Status", [one.name for one in open_statuses(lifecycle)], everything=False),
            variables.chosen("sla", "Promise", lifecycle.slas),
        ),
        rows=tuple(rows),
    )
