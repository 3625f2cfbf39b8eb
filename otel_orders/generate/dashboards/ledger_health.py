"""Panels on the ledger itself: whether it is up to date, and whether what it knows is complete and right.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_orders import names
from otel_orders.generate.alerts_ledger import needed
from otel_orders.generate.alerts_telemetry import WATCHDOG
from otel_orders.generate.dashboards.panels import Limits, Panel, Question, bars, lines, numbers
from otel_orders.generate.dashboards.queries import ENV, Query

if TYPE_CHECKING:
    from otel_orders.lifecycle import Lifecycle


def up_to_date() -> tuple[Panel, ...]:
    """Return whether it does its work in time."""
    return _swept(), _waiting(), _followed(), _store_errors()


def complete(lifecycle: Lifecycle) -> tuple[Panel, ...]:
    """Return what it refused, had to correct, does not show, and cannot read; and whether alerts can tell."""
    return _events(), _corrections(), _shown(lifecycle), _rotted(), _evaluated()


def _swept() -> Panel:
    return lines(
        Question(
            "How long ago did the ledger look for stuck orders and broken promises?",
            "s",
            "5 s are usual. More: its store is slow, locked or full; read its log and /readyz. Nothing: no ledger is "
            "scraped, and no alert on orders can fire.",
            ("LedgerLagging", "LedgerDown"),
            width=6,
        ),
        Query(f"time() - env:otel_orders_ledger_swept_timestamp_seconds:max{{{ENV}}}", "last look"),
        limits=Limits(30, 60),
    )


def _waiting() -> Panel:
    return lines(
        Question(
            "How many events wait for the ledger's disk?",
            "short",
            "A wave after an outage is worked off. One that never empties: more comes than the disk takes, see "
            "Capacity. Nothing is lost; senders come back later.",
            ("LedgerBacklog",),
            width=6,
        ),
        Query(f"max by (env) (otel_orders_ledger_waiting_events{{{ENV}}})", "waiting"),
        limits=Limits(500, 1000),
    )


def _followed() -> Panel:
    return bars(
        Question(
            "How long ago was each followed file or table read to its end?",
            "s",
            "Growing: the file cannot be opened, the database is away, or the store takes nothing. The ledger's log "
            "says which. Nothing: it follows no source.",
            ("LedgerSourceUnread",),
            width=6,
        ),
        Query(f"time() - max by (source) ({names.FOLLOWED_READ}{{{ENV}}})", "{{source}}"),
        limits=Limits(60, 300),
    )


def _store_errors() -> Panel:
    return lines(
        Question(
            "Which writes to the store failed in 10 minutes?",
            "short",
            "Full: make room on its disk. Gone: somebody moved the file, put it back. Unavailable: the database is "
            "away. Senders keep what was not stored.",
            ("LedgerStoreFailing", "LedgerLagging"),
            width=6,
        ),
        Query(f"sum by (reason) (increase({names.STORE_ERRORS}{{{ENV}}}[10m]))", "{{reason}}"),
        limits=Limits(0.5, 10),
    )


def _events() -> Panel:
    return lines(
        Question(
            "What became of the events of the last 15 minutes?",
            "short",
            "Rejected, late or unknown_status: their orders look as if they stood still; the ledger's log has the "
            "reasons. Negative_duration: clocks differ. Duplicates do no harm.",
            ("LedgerRefusing", "ClocksDiffer"),
        ),
        Query(f"max by (result) (increase({names.LEDGER_EVENTS}{{{ENV}}}[15m]))", "{{result}}"),
    )


def _corrections() -> Panel:
    return lines(
        Question(
            "Which counted values did late events prove wrong, in an hour?",
            "short",
            "Many: events come late or in the wrong order; see queue and losses of the Collector below. Reports made "
            "from the store are exact all the same.",
            ("ClocksDiffer",),
        ),
        Query(f"max by (series) (increase({names.CORRECTIONS}{{{ENV}}}[1h]))", "{{series}}"),
    )


def _shown(lifecycle: Lifecycle) -> Panel:
    wanted = needed(lifecycle)
    listed = "|".join(wanted)
    return numbers(
        Question(
            f"How many of the {len(wanted)} metrics that alerts need does the ledger show?",
            "short",
            "Fewer: its version is another one than that of the rules, or Prometheus drops some by relabelling. "
            "LedgerMetricsAbsent names those that are missing.",
            ("LedgerMetricsAbsent", "LedgerDown"),
            width=8,
            height=4,
        ),
        Query(f'count(count by (__name__) ({{__name__=~"{listed}"}}))', "shown"),
        limits=Limits(len(wanted), len(wanted) - 0.5),
    )


def _rotted() -> Panel:
    return numbers(
        Question(
            "How many orders can the ledger no longer read from its store?",
            "short",
            "Any at all: stop, run `otel-orders ledger check`, look at the disk, and restore a backup; such orders can "
            "neither be found stuck nor looked up.",
            ("LedgerDamaged",),
            width=8,
            height=4,
        ),
        Query(f"max by (env) ({names.UNREADABLE}{{{ENV}}})", "unreadable"),
        limits=Limits(0.5, 1),
    )


def _evaluated() -> Panel:
    return numbers(
        Question(
            "Does Prometheus evaluate our rules?",
            "short",
            "No: it has not loaded them (rule_files), or cannot; see its page of rules. That notifications also arrive "
            "is what a dead man's switch outside must tell, which this alert keeps quiet.",
            (WATCHDOG,),
            width=8,
            height=4,
        ),
        Query(f'count(ALERTS{{alertname="{WATCHDOG}",alertstate="firing"}}) > bool 0 or vector(0)', "rules"),
        named=((0, "no", "red"), (1, "yes", "green")),
    )
