"""Alerts on the Collector and the ledger: who watches the watchers.  Pure, and the same for every lifecycle.

The Collector's metrics are those that version 0.159 shows with our configs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_orders import names
from otel_orders.generate import links
from otel_orders.generate.grown import grown
from otel_orders.generate.owners import TELEMETRY
from otel_orders.generate.rule import Alert
from otel_orders.generate.words import COUNT, LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNALS: Final = ("spans", "log_records")
_OWNER: Final = {"owner": TELEMETRY}
NEEDED: Final = (
    *(names.IN_STATUS, names.STUCK, names.STUCK_AFTER, names.STAGE_STALLED, names.STAGE_BLIND),
    *(names.REACHED, names.LEDGER_EVENTS, names.UNREADABLE),
)
"""Series that a ledger always shows and that alerts are made of."""


def collector() -> Iterator[Alert]:
    """Yield what the Collector refuses, drops and keeps waiting."""
    yield Alert(
        name="CollectorDown",
        expr=f"absent({{{_named('otelcol_process_uptime')}}})",
        severity="critical",
        summary="No Collector is seen",
        description=(
            "Prometheus gets no metrics of any Collector. Services keep their newest 8,192 events and try for 10 "
            "minutes; what is older is lost then."
        ),
        dashboard=links.TELEMETRY,
        hold="2m",
        keep="5m",
        why="A restart takes seconds, and after 10 minutes events are lost: 2 minutes leave time to act.",
        labels=_OWNER,
    )
    yield _growing(
        "CollectorDropping",
        ("otelcol_exporter_enqueue_failed_{}", "otelcol_exporter_send_failed_{}"),
        "exporter",
        summary="The Collector loses what it has for {{ $labels.exporter }}",
        description="item(s) for {{ $labels.exporter }} were given up by the Collector in the last 10 minutes.",
        why="What is tried again is not counted here, so nothing has to be waited for but one more scrape.",
    )
    yield _growing(
        "CollectorRefusing",
        ("otelcol_receiver_refused_{}",),
        "receiver",
        summary="The Collector refuses what comes to {{ $labels.receiver }}",
        description=(
            "item(s) that came to {{ $labels.receiver }} were refused in the last 10 minutes: its memory is used up, "
            "or a queue behind it is full. Senders try again, for 10 minutes."
        ),
        why="A wave is refused for a moment and sent again; after 5 minutes senders begin to lose.",
        hold="5m",
    )
    yield Alert(
        name="CollectorQueueFilling",
        expr="exporter:otelcol_exporter_queue_used:ratio > 0.7",
        severity="warning",
        summary="The Collector's queue for {{ $labels.exporter }} is {{ $value | humanizePercentage }} full",
        description=(
            "{{ $value | humanizePercentage }} of the queue for {{ $labels.exporter }} is used, in the fullest "
            "Collector: what it sends to is away or too slow. When it is full, senders are refused."
        ),
        dashboard=links.TELEMETRY,
        hold="5m",
        keep="10m",
        why="A short absence of the other side fills and empties it again; kept, so that emptying does not flap.",
        labels=_OWNER,
    )


def _named(name: str) -> str:
    """Return the matcher of a Collector's counter: with our configs it has no suffix, with others it may have."""
    return f'__name__=~"{name}(_seconds)?(_total)?"'


def _growing(
    name: str, metrics: tuple[str, ...], by: str, *, summary: str, description: str, why: str, hold: str = "1m"
) -> Alert:
    series = [grown("", _named(metric.format(signal)), "10m") for metric in metrics for signal in _SIGNALS]
    # Metrics of different names may have the same labels, of which `or` would keep one: so each is told apart.
    told_apart = [f'label_replace(\n  {one},\n  "what", "{place}", "", "")' for place, one in enumerate(series)]
    joined = "\n  or ".join(told_apart)
    return Alert(
        name=name,
        expr=f"sum by (env, {by}) (\n  {joined}\n) > 0.5",
        severity="critical" if name == "CollectorDropping" else "warning",
        summary=summary,
        description=f"{{{{ $value | {COUNT} }}}} {description}",
        dashboard=links.TELEMETRY,
        hold=hold,
        keep="15m",
        why=f"{why} Kept for longer than the counter looks back.",
        labels=_OWNER,
    )


def ledger() -> Iterator[Alert]:
    """Yield what goes wrong in the ledger, on which all other alerts on orders stand."""
    swept = "otel_orders_ledger_swept_timestamp_seconds"
    yield Alert(
        name="LedgerDown",
        expr=f"absent({swept})",
        severity="critical",
        summary="No ledger is seen: nobody knows where orders are",
        description=(
            "Prometheus gets no metrics of any replica of the ledger. No alert on orders, stages, promises or queues "
            "can fire. Services and the Collector keep their events meanwhile."
        ),
        dashboard=links.TELEMETRY,
        hold="2m",
        keep="5m",
        why="A restart takes seconds; 2 minutes bridge two scrapes and a deployment.",
        labels=_OWNER,
    )
    yield Alert(
        name="LedgerMetricsAbsent",
        expr="(\n  "
        + "\n  or ".join(f'label_replace(absent({one}), "metric", "{one}", "", "")' for one in NEEDED)
        + f"\n)\nand on () (count({swept}) > 0)",
        severity="warning",
        summary="The ledger does not show {{ $labels.metric }}",
        description=(
            "A ledger is there, and {{ $labels.metric }} is not among its metrics: alerts made of it cannot fire. Its "
            "version is another one than that of these rules, or Prometheus drops the metric."
        ),
        dashboard=links.TELEMETRY,
        hold="10m",
        keep="5m",
        why="It is a matter of versions and of configuration, and outlasts any deployment.",
        labels=_OWNER,
    )
    yield Alert(
        name="LedgerLagging",
        expr=f"time() - env:{swept}:max > 60",
        severity="critical",
        summary="The ledger has not looked at its timers for {{ $value | humanizeDuration }}",
        description=(
            f"No replica has looked for stuck orders and broken promises for {{{{ $value | {LENGTH} }}}} (5 s are "
            "usual): the store is too slow, locked or full, and what is shown is old."
        ),
        dashboard=links.TELEMETRY,
        hold="1m",
        keep="5m",
        why="A minute is twelve times the usual pause, and another one bridges a scrape.",
        labels=_OWNER,
    )
    yield Alert(
        name="LedgerBacklog",
        expr="max by (env) (min_over_time(otel_orders_ledger_waiting_events[5m])) > 1000",
        severity="warning",
        summary="{{ $value | humanize }} events wait for the ledger's disk",
        description=(
            f"For 5 minutes at least {{{{ $value | {COUNT} }}}} events have waited to be stored: more come than the "
            "disk takes. Nothing is lost; senders are told to come back later."
        ),
        dashboard=links.TELEMETRY,
        hold="5m",
        keep="10m",
        why="A wave after an outage is worked off; a backlog that never empties for 10 minutes grows.",
        labels=_OWNER,
    )
    yield Alert(
        name="LedgerRefusing",
        expr=(
            "max by (env, result) (\n"
            f'  increase({names.LEDGER_EVENTS}{{result=~"rejected|late|unknown_status"}}[15m])\n) > 2.5'
        ),
        severity="warning",
        summary="The ledger does not accept events: {{ $labels.result }}",
        description=(
            '{{ $value | printf "%.0f" }} event(s) of the last 15 minutes were {{ $labels.result }}: their orders look '
            "as if they stood still. The ledger's log says the reasons once a minute."
        ),
        dashboard=links.TELEMETRY,
        hold="5m",
        keep="15m",
        why="A single one may be a test by hand; kept for as long as the counter looks back.",
        labels=_OWNER,
    )
    yield Alert(
        name="LedgerDamaged",
        expr=f"max by (env) (increase({names.UNREADABLE}[6h])) > 0.5",
        severity="critical",
        summary="Rows of the ledger's store have rotted",
        description=(
            '{{ $value | printf "%.0f" }} order(s) can no longer be read from the store in the last 6 hours: they can '
            "neither be found stuck nor be looked up."
        ),
        dashboard=links.TELEMETRY,
        hold="0s",
        keep="1h",
        why="A row does not rot by accident once: the disk or what was done to the file is at fault.",
        labels=_OWNER,
    )
