"""Alerts on the ledger, on which all other alerts on orders stand.  Pure: from a lifecycle to alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_orders import names
from otel_orders.generate import links
from otel_orders.generate.absence import gone_series, lacking
from otel_orders.generate.owners import TELEMETRY
from otel_orders.generate.rule import Alert
from otel_orders.generate.rules import EVENTS, grown_in_store
from otel_orders.generate.words import COUNT, LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_orders.lifecycle import Lifecycle

_OWNER: Final = {"owner": TELEMETRY}
_SWEPT: Final = "otel_orders_ledger_swept_timestamp_seconds"


def needed(lifecycle: Lifecycle) -> list[str]:
    """Return the metrics that a ledger of this lifecycle always shows and that alerts are made of."""
    waiting = [status for status in lifecycle.statuses.values() if not status.terminal]
    of_waiting = [names.IN_STATUS, names.STUCK, names.STAGE_STALLED, names.STAGE_BLIND] if waiting else []
    limits = [names.STUCK_AFTER] if any(status.stuck_after for status in waiting) else []
    return [*of_waiting, *limits, names.REACHED, names.LEDGER_EVENTS, names.UNREADABLE]


def ledger(lifecycle: Lifecycle) -> Iterator[Alert]:
    """Yield what goes wrong in the ledger, on which all other alerts on orders stand."""
    shown = needed(lifecycle)
    yield Alert(
        name="LedgerDown",
        expr=gone_series(_SWEPT),
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
        expr="\nor ".join(f'label_replace(\n  {lacking(_SWEPT, one)},\n  "metric", "{one}", "", "")' for one in shown),
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
        expr=f"time() - env:{_SWEPT}:max > 60",
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
        expr=grown_in_store(EVENTS, '{result=~"rejected|late|unknown_status"}', "15m") + " > 2.5",
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
        expr=f"{grown_in_store(f'env:{names.UNREADABLE}:max', '', '6h')} > 0.5",
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


def store() -> Iterator[Alert]:
    """Yield whether the ledger can still keep what it is told, and still reads what it follows."""
    yield Alert(
        name="LedgerStoreFailing",
        expr=f'sum by (env, reason) (increase({names.STORE_ERRORS}{{reason!="conflict"}}[2m])) > 0.5',
        severity="critical",
        summary="The ledger cannot write to its store: {{ $labels.reason }}",
        description=(
            '{{ $value | printf "%.0f" }} write(s) to the store failed in the last 2 minutes ({{ $labels.reason }}). '
            "Senders get 503 and send again: services for 10 minutes, the Collector for as long as it has room. "
            "What is shown of orders is as old as the first failure."
        ),
        dashboard=links.TELEMETRY,
        hold="3m",
        keep="5m",
        why=(
            "It looks back for 2 minutes, so 3 say that it goes on: a backup may lock a store for seconds. Services "
            "lose events after 10 minutes, which leaves time to act. Conflicts of replicas are tried again anyway."
        ),
        labels=_OWNER,
    )
    read = f"max by (env, source) ({names.FOLLOWED_READ})"
    yield Alert(
        name="LedgerSourceUnread",
        expr=f"time() - {read} > 300",
        severity="critical",
        summary="The ledger has not read {{ $labels.source }} for {{ $value | humanizeDuration }}",
        description=(
            f"{{{{ $labels.source }}}} was last read to its end {{{{ $value | {LENGTH} }}}} ago (every second is "
            "usual). Nothing is lost, as it waits there; but what its systems have done since is not known, and their "
            "stages look as if they stood still."
        ),
        dashboard=links.TELEMETRY,
        hold="1m",
        keep="5m",
        why="What a night wrote is read in minutes after a start; a minute more than 5 bridges a scrape.",
        labels=_OWNER,
    )
