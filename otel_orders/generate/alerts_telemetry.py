"""Alerts on the Collector, and the one that always fires.  Pure, and the same for every lifecycle.

The Collector's metrics are those that version 0.159 shows with our configs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_orders import names
from otel_orders.generate import links
from otel_orders.generate.absence import gone_series
from otel_orders.generate.grown import grown
from otel_orders.generate.owners import TELEMETRY
from otel_orders.generate.rule import Alert
from otel_orders.generate.rules import COLLECTORS, of_collector
from otel_orders.generate.words import COUNT, asked

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNALS: Final = ("spans", "log_records")
_OWNER: Final = {"owner": TELEMETRY}
_ANYWHERE: Final = '{env=""}'
"""Collectors of all environments."""
WATCHDOG: Final = "Watchdog"


def watchdog() -> Iterator[Alert]:
    """Yield what always fires, so that whoever hears nothing any more knows that nothing can be heard."""
    yield Alert(
        name=WATCHDOG,
        expr="vector(1)",
        severity="info",
        summary="Alerts can reach people",
        description=(
            "This always fires, and is no problem: a dead man's switch outside expects it every few minutes, and calls "
            "somebody when Prometheus, its rules or Alertmanager no longer send it."
        ),
        dashboard=links.TELEMETRY,
        hold="0s",
        keep="0s",
        why="It never ends, so there is nothing to wait for and nothing to hold.",
        labels=_OWNER,
    )


def collector() -> Iterator[Alert]:
    """Yield what the Collector refuses, drops and keeps waiting."""
    yield Alert(
        name="CollectorDown",
        expr=_none_left(gone_series(COLLECTORS)),
        severity="critical",
        summary="No Collector is seen",
        description=(
            "Prometheus gets no metrics of any Collector. Services keep their newest 8,192 events and try for 10 "
            "minutes; what is older is lost then."
        ),
        dashboard=links.TELEMETRY,
        hold="2m",
        keep="20m",
        why=(
            "A restart takes seconds, and after 10 minutes events are lost: 2 minutes leave time to act. Kept for 20 "
            "minutes, it outlasts the stages that were blind meanwhile."
        ),
        labels=_OWNER,
    )
    yield _missing()
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


def _none_left(gone: str) -> str:
    """Return *gone*, with a label where it has no environment and no Collector is left in any.

    It is then the one of all environments; else it is missing in its own place, as while scrapes get their `env`.
    """
    none = f"absent({COLLECTORS})"
    told_apart = f'label_replace(\n  ({gone})\n  and on () {none},\n  "left", "none", "env", ""\n)'
    return f"{told_apart}\nor\n({gone})\nunless on () {none}"


def _missing() -> Alert:
    now = "env:otelcol_collectors:count{}"
    before = f"floor(quantile_over_time(0.5, {now}[1h]))"
    fewer = f"{now} < {before}"
    blind = f"status:{names.STAGE_BLIND}:max"
    return Alert(
        name="CollectorMissing",
        expr=(
            f"{fewer.replace('{}', '')}\n"
            f"and on (env) max by (env) ({blind}) == 1\n"
            f"or {fewer.replace('{}', _ANYWHERE)}\n"
            f"and on () max({blind}) == 1"
        ),
        severity="critical",
        summary="A Collector is missing, and stages are blind",
        description=(
            "{{ $value }} of "
            + asked(before.replace("{}", "{env=%q}"), "env", shown=COUNT)
            + " Collectors are left, and services are no longer heard: those that sent to the missing one keep their "
            "newest 8,192 events and try for 10 minutes; what is older is lost then."
        ),
        dashboard=links.TELEMETRY,
        hold="1m",
        keep="20m",
        why=(
            "Services that are not heard have been silent for their quiet_after already. The "
            "median of an hour says how many there were: one more while they are replaced is none that is missing, and "
            "one that was taken away on purpose is missed for half an hour, by a stage that is blind. Kept for 20 "
            "minutes, it outlasts the stages that were blind meanwhile."
        ),
        labels=_OWNER,
    )


def _growing(
    name: str, metrics: tuple[str, ...], by: str, *, summary: str, description: str, why: str, hold: str = "1m"
) -> Alert:
    series = [grown("", of_collector(metric.format(signal)), "10m") for metric in metrics for signal in _SIGNALS]
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
