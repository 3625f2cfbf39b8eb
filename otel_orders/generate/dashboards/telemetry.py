"""The Collector and the ledger: who watches the watchers.  Pure, and the same for every lifecycle.

The Collector's metrics are those that version 0.159 shows with our configs; with others, counters end in `_total`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_orders.generate import links
from otel_orders.generate.dashboards import collector_health, ledger_health, variables
from otel_orders.generate.dashboards.board import Board, Row
from otel_orders.generate.dashboards.queries import PROMETHEUS

if TYPE_CHECKING:
    from otel_orders.lifecycle import Lifecycle


def telemetry(lifecycle: Lifecycle) -> Board:
    """Return the dashboard for those who run ledger and Collector."""
    return Board(
        uid=links.TELEMETRY,
        title="Orders: Collector and ledger",
        description="Whether what all other dashboards and alerts stand on is there, complete and in time.",
        variables=(variables.data_source(PROMETHEUS), variables.environment()),
        rows=(
            Row("Is the ledger up to date?", ledger_health.up_to_date()),
            Row("Is what it knows complete and right?", ledger_health.complete(lifecycle)),
            Row("Does the Collector pass everything on?", collector_health.passing()),
            Row("What does it keep, and at what cost?", collector_health.cost()),
        ),
    )
