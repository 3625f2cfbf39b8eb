"""Recording rules: what dashboards and alerts use more than once, as a lifecycle decides.

Pure: from a lifecycle to the text of a rule file.  Quantiles are not recorded, since nobody may average them: buckets
are.  Owner, status and limits of what the lifecycle names are put on the series here, once for all readers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_orders import names
from otel_orders.generate import burn, owners
from otel_orders.generate.rule import HEAD, Record, added, deduplicated, groups, one_of, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_orders.lifecycle import Lifecycle, Queue, Sla

FILE: Final = "rules/recording.yaml"

EVENTS: Final = "result:otel_orders_ledger_events:max"
"""What became of all events that were ever sent."""
USUAL_WEEKS: Final = (1, 2, 3, 4)
"""The same hour of these past weeks says what is usual; the median of them, so that one holiday changes nothing."""
FEWEST_DAYS: Final = 14
"""Days that must be known before the next 30 are foretold: two weeks show what a weekend is."""
_STATUS_GAUGES: Final = (
    names.IN_STATUS,
    names.STUCK,
    names.ON_HOLD,
    names.STUCK_AFTER,
    names.OLDEST_ENTERED,
    names.STAGE_STALLED,
    names.STAGE_BLIND,
)


def recording(lifecycle: Lifecycle) -> str:
    """Return the file of recording rules."""
    named = {
        "otel-orders-statuses": statuses(lifecycle),
        "otel-orders-flow": flow(lifecycle),
        "otel-orders-promises": promises(lifecycle),
        "otel-orders-queues": queues(lifecycle),
        "otel-orders-services": services(lifecycle),
        "otel-orders-telemetry": telemetry(),
    }
    text = groups({name: [record.rule() for record in records] for name, records in named.items()})
    return HEAD.format(command="rules", hash=lifecycle.hash) + text


def statuses(lifecycle: Lifecycle) -> Iterator[Record]:
    """Yield what the ledger says of each status, with its owner."""
    for owner, listed in owners.open_statuses(lifecycle).items():
        for metric in _STATUS_GAUGES:
            inner = f'{metric}{{status=~"{one_of(listed)}"}}'
            yield Record(f"status:{metric}:max", deduplicated(inner, "status"), {"owner": owner})
    state = f"status:{names.STAGE_STALLED}:max + 2 * status:{names.STAGE_BLIND}:max"
    yield Record("status:order_stage_state:max", state)


def flow(lifecycle: Lifecycle) -> Iterator[Record]:
    """Yield how many orders come, and how many used to come at this hour; how long they stay, as buckets."""
    initial = [status for status in lifecycle.statuses.values() if status.initial]
    reached, owner = f'{names.REACHED}{{status=~"{one_of(status.name for status in initial)}"}}', initial[0].owner
    rate = deduplicated(f"rate({reached}[5m])", "status")
    yield Record("env:orders_created:rate5m", f"sum by (env) ({rate})", {"owner": owner})
    counted = "status:orders_created:max"
    yield Record(counted, deduplicated(reached, "status"))
    # What is asked for once a day must be there also where the ledger is away at that moment.
    day = f"last_over_time({counted}[1d]) - min_over_time({counted}[1d])"
    for window, grown in (("1h", grown_in_store(counted, "", "1h")), ("1d", day)):
        yield Record(f"env:orders_created:increase{window}", f"sum by (env) ({grown})", {"owner": owner})
    yield Record("env:orders_created:increase1h_usual", _usual("env:orders_created:increase1h"))
    yield from forecast()
    inner = f"increase({names.REACHED}[1h])"
    yield Record("status:orders_reached:increase1h", deduplicated(inner, "status"))
    for metric, label in ((names.TIME_IN_STATUS, "status"), (names.MILESTONE, "milestone")):
        inner = deduplicated(f"increase({metric}_bucket[1h])", label, "partner", "le")
        yield Record(f"{label}_le:{metric}_bucket:increase1h", f"sum by (env, {label}, le) ({inner})")
        for part in ("sum", "count"):
            inner = deduplicated(f"increase({metric}_{part}[1h])", label, "partner")
            yield Record(f"{label}:{metric}_{part}:increase1h", f"sum by (env, {label}) ({inner})")


def grown_in_store(record: str, selected: str, window: str) -> str:
    """Return what a counter of the ledger's store, recorded once for all replicas, grew by in *window*.

    It never goes down, and outlives the ledger's processes. increase() by replica would see of each only the time in
    which it was there: after deployments with new addresses, a third of an hour's orders.
    """
    return f"{record}{selected} - min_over_time({record}{selected}[{window}])"


def _usual(record: str) -> str:
    weeks = [f'  label_replace({record} offset {week}w, "week", "{week}", "", "")' for week in USUAL_WEEKS]
    return "quantile by (env, owner) (0.5,\n" + "\n  or\n".join(weeks) + "\n)"


def forecast() -> Iterator[Record]:
    """Yield how many orders come in 30 days, and how many will, with the error of that.

    A straight line through the orders of each day of up to 8 weeks, so that weekdays and weekends are in it alike.  Its
    value in the middle of the next 30 days, times 30, is their sum; the error is two standard errors of that sum: those
    of 30 days around the line, and that of the line itself, which grows with the distance from what is known.
    """
    daily = "env:orders_created:increase1d"
    yield Record("env:orders_created:increase30d", f"30 * avg_over_time({daily}[30d:1d])")
    yield Record("env:orders_created_daily:count8w", f"count_over_time({daily}[8w:1d])")
    yield Record("env:orders_created_daily:slope8w", f"86400 * deriv({daily}[8w:1d])")
    yield Record("env:orders_created_daily:stdvar8w", f"stdvar_over_time({daily}[8w:1d])")
    days, slope = "env:orders_created_daily:count8w", "env:orders_created_daily:slope8w"
    enough = f"{days} >= {FEWEST_DAYS}"
    next_30 = f"clamp_min(30 * predict_linear({daily}[8w:1d], 15.5 * 86400), 0)"
    yield Record("env:orders_created_next30d:forecast", f"{next_30}\nand {enough}")
    spread = f"clamp_min(env:orders_created_daily:stdvar8w - {slope} ^ 2 * ({days} ^ 2 - 1) / 12, 0)"
    of_days = f"{spread} * {days} / ({days} - 2)"
    distance = f"(({days} - 1) / 2 + 15.5)"
    terms = f"30 + 900 / {days} + 900 * {distance} ^ 2 * 12 / ({days} * ({days} ^ 2 - 1))"
    yield Record("env:orders_created_next30d:error", f"2 * sqrt({of_days}\n* ({terms}))\nand {enough}")


def promises(lifecycle: Lifecycle) -> Iterator[Record]:
    """Yield what became of promises, by partner and in all; and what was promised."""
    for sla in lifecycle.slas.values():
        labels = _sla_labels(sla, lifecycle)
        selected = f"{{sla={quoted(sla.name)}}}"
        for metric in (names.SLA_AT_RISK, names.SLA_OVERDUE):
            yield Record(f"sla:{metric}:max", deduplicated(metric + selected, "sla"), labels)
        yield Record("sla:order_sla_objective:ratio", f"vector({sla.objective})", labels)
        yield Record("sla:order_sla_within_seconds", f"vector({sla.within.seconds:.15g})", labels)
        counted = {
            "sla_partner:order_sla_breached:max": names.SLA_BREACHED,
            "sla_partner:order_sla_met:max": names.SLA_MET,
        }
        for record, metric in counted.items():
            yield Record(record, deduplicated(metric + selected, "sla", "partner"), labels)
        for window in burn.windows(sla):
            breached, met = (grown_in_store(record, selected, window) for record in counted)
            yield Record(f"sla_partner:order_sla_breached:increase{window}", breached, labels)
            yield Record(f"sla_partner:order_sla_settled:increase{window}", f"{breached}\n+ ({met})", labels)
    for window in sorted({window for sla in lifecycle.slas.values() for window in burn.windows(sla)}):
        yield from _shares(window)


def _sla_labels(sla: Sla, lifecycle: Lifecycle) -> dict[str, str]:
    step = owners.last_step(sla, lifecycle)
    return {"owner": step.owner, "status": step.name, "sla": sla.name}


def _shares(window: str) -> Iterator[Record]:
    by = "sum by (env, sla, owner, status)"
    yield Record(f"sla:order_sla_breached:increase{window}", f"{by} (sla_partner:order_sla_breached:increase{window})")
    yield Record(
        f"sla:order_sla_breached:ratio{window}",
        f"sla:order_sla_breached:increase{window}\n/\n({by} (sla_partner:order_sla_settled:increase{window}) > 0)",
    )


def queues(lifecycle: Lifecycle) -> Iterator[Record]:
    """Yield what is known of each queue, with who must read it and the status of the orders in it."""
    for queue in lifecycle.queues.values():
        labels = {"owner": owners.of_queue(queue, lifecycle), "status": queue.status, "queue": queue.name}
        this = f"queue={quoted(queue.name)}"
        ready, unacked = (f'{names.QUEUE_MESSAGES}{{{this},state="{state}"}}' for state in ("ready", "unacked"))
        yield Record("queue:order_queue_messages_ready:max", deduplicated(ready, "queue"), labels)
        yield Record("queue:order_queue_messages_unacked:max", deduplicated(unacked, "queue"), labels)
        for metric in (names.QUEUE_CONSUMERS, names.QUEUE_OLDEST, names.QUEUE_ACTIVE):
            yield Record(f"queue:{metric}:max", deduplicated(f"{metric}{{{this}}}", "queue"), labels)
        if queue.oldest_after:
            limit = f"vector({queue.oldest_after.seconds:.15g})"
            yield Record("queue:order_queue_oldest_after_seconds", limit, labels)
        if queue.track:
            yield Record(
                "queue:order_queue_messages_gone:max", deduplicated(f"{names.MESSAGES_GONE}{{{this}}}", "queue")
            )
        consumed = f"rate({names.CONSUMED_MESSAGES}{{{from_queue(queue)}}}[5m])"
        yield Record("queue:messages_delivered:rate5m", added(consumed), labels)
        redelivered = f"rate({names.MESSAGES_REDELIVERED}{{{this}}}[5m])"
        yield Record("queue:order_messages_redelivered:rate5m", added(redelivered, "queue"), labels)


def from_queue(queue: Queue) -> str:
    """Return the matcher of *queue* as a destination; conventions write `exchange:routing key:queue`."""
    return f'messaging_destination_name=~"(.+:)?({one_of([queue.name])})"'


def services(lifecycle: Lifecycle) -> Iterator[Record]:
    """Yield rates and errors by service; the job of its scrape is its name, where a metric does not say it."""
    for owner, listed in owners.scraped_services(lifecycle).items():
        labels = {"owner": owner}
        jobs = of_jobs(listed)
        requests = f"rate({names.HTTP_SERVER_DURATION}_count{{{jobs}}}[5m])"
        yield Record("service_name_audience:http_server_requests:rate5m", _of_job(requests, "audience"), labels)
        status, failed = "http_response_status_code", 'error_type!~"cancelled|"'
        errors = " or ".join(
            f"rate({names.HTTP_SERVER_DURATION}_count{{{jobs},{those}}}[5m])"
            for those in (f'{status}=~"5.."', f'{status}="",{failed}')
        )
        yield Record("service_name_audience:http_server_errors:rate5m", _of_job(errors, "audience"), labels)
        buckets = f"rate({names.HTTP_SERVER_DURATION}_bucket{{{jobs}}}[5m])"
        level = "service_name_audience_le:http_server_request_duration_seconds_bucket:rate5m"
        yield Record(level, _of_job(buckets, "audience", "le"), labels)
        for what, metric in (("sent", names.SENT_MESSAGES), ("processed", f"{names.MESSAGING_PROCESS_DURATION}_count")):
            rate = f"rate({metric}{{{jobs}}}[5m])"
            yield Record(f"service_name_outcome:messages_{what}:rate5m", _of_job(rate, "outcome"), labels)
        own = f'{{service_name=~"{one_of(listed)}"}}'
        failures = f"rate({names.TRANSITION_FAILURES}{own}[15m])"
        yield Record("service_name:order_transition_failures:rate15m", added(failures, "service_name"), labels)
        others = deduplicated(f"{names.OTHER_LIFECYCLE}{own}", "service_name")
        yield Record(f"service_name:{names.OTHER_LIFECYCLE}:max", others, labels)
        heard = deduplicated(f"{names.SERVICE_LAST_EVENT}{own}", "service_name")
        yield Record(f"service_name:{names.SERVICE_LAST_EVENT}:max", heard, labels)


def of_jobs(listed: list[str]) -> str:
    """Return the matcher of the scrapes of services; a PodMonitor's job has its namespace before it."""
    return f'job=~"(.+/)?({one_of(listed)})"'


def _of_job(inner: str, *labels: str) -> str:
    return added(f'label_replace({inner}, "service_name", "$1", "job", "(?:.+/)?(.+)")', "service_name", *labels)


def telemetry() -> Iterator[Record]:
    """Yield how the ledger, its probe and the Collector do."""
    for metric in (names.PROBE_UP, names.PROBE_SUCCEEDED, "otel_orders_ledger_swept_timestamp_seconds"):
        yield Record(f"env:{metric}:max", deduplicated(metric))
    yield Record(EVENTS, deduplicated(names.LEDGER_EVENTS, "result"))
    yield Record(f"env:{names.UNREADABLE}:max", deduplicated(names.UNREADABLE))
    events = deduplicated(f"rate({names.LEDGER_EVENTS}[5m])", "result")
    yield Record("env:otel_orders_ledger_events:rate5m", f"sum by (env) ({events})")
    yield Record("env:otel_orders_ledger_store_bytes:max", deduplicated("otel_orders_ledger_store_bytes"))
    used = deduplicated("otelcol_exporter_queue_size / (otelcol_exporter_queue_capacity > 0)", "exporter")
    yield Record("exporter:otelcol_exporter_queue_used:ratio", used)
    yield Record("env:otelcol_collectors:count", f"count by (env) ({COLLECTORS})")


def of_collector(name: str) -> str:
    """Return the matcher of a Collector's metric: with our configs it has no suffix, with others it may have."""
    return f'__name__=~"{name}(_seconds|_bytes)?(_total)?"'


COLLECTORS: Final = f"{{{of_collector('otelcol_process_uptime')}}}"
"""A series for each Collector."""
