"""Capacity: how many orders come and will come, and what ledger and store still can take.

Pure: from a lifecycle to a dashboard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_orders.generate import links
from otel_orders.generate.dashboards import variables
from otel_orders.generate.dashboards.board import Board, Row
from otel_orders.generate.dashboards.panels import Limits, Panel, Question, lines
from otel_orders.generate.dashboards.queries import ENV, PROMETHEUS, Query

if TYPE_CHECKING:
    from otel_orders.lifecycle import Lifecycle

_GROWTH: Final = "100"
"""How many orders more each month a plan asks for, until somebody types another number."""
_LEDGER_TAKES: Final = "10000"
"""Events a second: half of what `make bench` measured for SQLite on one core."""
_DISK: Final = "10737418240"
"""Bytes: 10 GiB."""
_MONTH: Final = f"env:orders_created:increase30d{{{ENV}}}"


def capacity(_lifecycle: Lifecycle) -> Board:
    """Return the dashboard for those who plan."""
    return Board(
        uid=links.CAPACITY,
        title="Orders: capacity",
        description="How many orders come, how many will, and whether ledger and disk hold them.",
        variables=(
            variables.data_source(PROMETHEUS),
            variables.environment(),
            variables.typed("growth", "More orders each month", _GROWTH, "What the plan asks for."),
            variables.typed("ledger_takes", "Ledger takes, events/s", _LEDGER_TAKES, "What `make bench` says for it."),
            variables.typed("disk", "Disk of the store, bytes", _DISK, "The size of the ledger's volume."),
        ),
        rows=(
            Row("Do orders come as they should?", (_this_hour(), _now())),
            Row("How many will come?", (_month(), _growth(), _forecast())),
            Row("Is there room for them?", (_ingest(), _store())),
        ),
        since="now-30d",
        refresh="5m",
    )


def _this_hour() -> Panel:
    return lines(
        Question(
            "Do as many orders come in an hour as usual?",
            "short",
            "Below half of the usual: look at the errors where orders begin, and at the way in, from outside. Usual is "
            "the median of this hour in up to 4 past weeks, and absent in the first.",
            ("OrderCreationFalling",),
        ),
        Query(f"env:orders_created:increase1h{{{ENV}}}", "this hour"),
        Query(f"env:orders_created:increase1h_usual{{{ENV}}}", "usual"),
    )


def _now() -> Panel:
    return lines(
        Question(
            "How many orders are created in a second?",
            "cps",
            "Three times as many as usual, and it goes on: a campaign, a partner's flood, or a loop. B2B partners "
            "tells which partner; queues tell whether we keep up.",
            ("OrderCreationSurging",),
        ),
        Query(f"env:orders_created:rate5m{{{ENV}}}", "now"),
        Query(f"env:orders_created:increase1h_usual{{{ENV}}} / 3600", "usual"),
    )


def _month() -> Panel:
    return lines(
        Question(
            "How many orders come in 30 days?",
            "short",
            "The trend to plan by. Where fewer than 30 days are known, their average times 30 is shown; Prometheus "
            "must keep as many days as are to be seen.",
        ),
        Query(_MONTH, "30 days", step="1h"),
    )


def _growth() -> Panel:
    return lines(
        Question(
            "How many more orders come than in the 30 days before?",
            "short",
            "Below the plan: tell who plans sales. Far above it: bring the forecast's upper bound to who runs "
            "production and to the disk below. The plan is typed at the top.",
        ),
        Query(f"{_MONTH} - {_MONTH} offset 30d", "more", step="1h"),
        Query("vector($growth)", "plan"),
    )


def _forecast() -> Panel:
    forecast, error = (f"env:orders_created_next30d:{what}{{{ENV}}}" for what in ("forecast", "error"))
    return lines(
        Question(
            "How many orders will the next 30 days bring, at least and at most?",
            "short",
            "A line through the daily orders of up to 8 weeks, with two standard errors on both sides. Plan for the "
            "upper one. Bounds that are far apart mean that days differ too much to say.",
            width=24,
        ),
        Query(f"clamp_min({forecast} - {error}, 0)", "at least", step="1h"),
        Query(f"{forecast} + {error}", "at most", step="1h"),
        Query(forecast, "forecast", step="1h"),
        styles={
            "at most": {"custom.fillBelowTo": "at least", "custom.lineWidth": 0},
            "at least": {"custom.lineWidth": 0},
        },
    )


def _ingest() -> Panel:
    return lines(
        Question(
            "Which share of what the ledger can take is used?",
            "percentunit",
            "Above 0.7 at peaks: use PostgreSQL and a second ledger beside it, or a faster disk, before senders are "
            "told to come back later. What it can take is typed at the top.",
            ("LedgerBacklog",),
        ),
        Query(f"env:otel_orders_ledger_events:rate5m{{{ENV}}} / $ledger_takes", "now"),
        Query(f"max_over_time(env:otel_orders_ledger_events:rate5m{{{ENV}}}[1d]) / $ledger_takes", "peak of the day"),
        limits=Limits(0.7, 0.9),
    )


def _store() -> Panel:
    size = f"env:otel_orders_ledger_store_bytes:max{{{ENV}}}"
    return lines(
        Question(
            "How large is the ledger's store, how large in 30 days, and does the disk hold it?",
            "bytes",
            "Where the forecast comes near the disk: a larger volume, or a shorter retention of ended orders. A full "
            "disk loses nothing, and nothing new is known until there is room.",
        ),
        Query(size, "now"),
        Query(f"clamp_min(predict_linear({size}[7d], 30 * 86400), 0)", "in 30 days", step="1h"),
        Query("vector($disk)", "disk"),
    )
