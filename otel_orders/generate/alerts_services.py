"""Alerts on services: errors, messages they cannot send or settle, and what they no longer tell.

Pure: from a lifecycle to alerts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from otel_orders import names
from otel_orders.generate import links, owners
from otel_orders.generate.absence import LATELY, gone
from otel_orders.generate.grown import grown
from otel_orders.generate.owners import TELEMETRY
from otel_orders.generate.rule import Alert, Severity, quoted
from otel_orders.generate.rules import EVENTS, grown_in_store, of_jobs
from otel_orders.generate.words import RATE, SHARE, asked, said

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_orders.lifecycle import Lifecycle

_JOB = '"service_name", "$1", "job", "(?:.+/)?(.+)"'


class _Audience(NamedTuple):
    name: str
    share: float
    severity: Severity


_AUDIENCES: Final = (_Audience("external", 0.01, "critical"), _Audience("internal", 0.05, "warning"))
"""A caller outside sees each failure; services of our own try again."""


def errors() -> Iterator[Alert]:
    """Yield which services fail."""
    for audience in _AUDIENCES:
        yield _server_errors(audience)
    failures = "service_name:order_transition_failures:rate15m"
    yield Alert(
        name="ServiceErrorsGrowing",
        expr=f"{failures} > 0.011\nunless {failures} < 3 * avg_over_time({failures}[1d] offset 30m)",
        severity="warning",
        summary="{{ $labels.service_name }} fails to move orders on 3 times as often as yesterday",
        description=(
            f"{{{{ $value | {RATE} }}}} transitions a second fail in {{{{ $labels.service_name }}}}"
            '{{ with printf "topk(1, sum by (to_status, error_code) (rate('
            + names.TRANSITION_FAILURES
            + '{service_name=%q}[15m])) > 0)" $labels.service_name | query }}, most of them on the way to '
            '{{ . | first | label "to_status" }} with {{ . | first | label "error_code" }}{{ end }}; the average of '
            "the day before was a third of that, or less."
        ),
        dashboard=links.OF_SERVICE,
        hold="5m",
        keep="15m",
        why=(
            "At least 10 failures in 15 minutes, and 5 minutes more: a retry that works is no news. Kept for as long "
            "as the rate looks back."
        ),
    )


def _server_errors(audience: _Audience) -> Alert:
    this = f'{{audience="{audience.name}"}}'
    failed = f"service_name_audience:http_server_errors:rate5m{this}"
    return Alert(
        name="ServerErrors",
        expr=(
            f"{failed} / service_name_audience:http_server_requests:rate5m{this} > {audience.share}\n"
            f"and {failed} > 0.01"
        ),
        severity=audience.severity,
        summary=(f"{{{{ $labels.service_name }}}} fails on {{{{ $value | {SHARE} }}}} of {audience.name} requests"),
        description=(
            f"{{{{ $value | {SHARE} }}}} of the {audience.name} requests to {{{{ $labels.service_name }}}} failed in "
            f"the last 5 minutes ({audience.share:.0%} may), of "
            + asked(
                "service_name_audience:http_server_requests:rate5m{env=%q,service_name=%q,audience=%q}",
                *("env", "service_name", "audience"),
                shown=RATE,
            )
            + " requests a second."
        ),
        dashboard=links.OF_SERVICE,
        hold="3m",
        keep="10m",
        why=(
            "A deployment that drops a few requests is over in 3 minutes, and fewer than 3 errors in 5 minutes are no "
            "share of anything. Kept for 10 minutes, so that errors in waves are one page."
        ),
    )


def messages(lifecycle: Lifecycle) -> Iterator[Alert]:
    """Yield who cannot send its messages, or settle those it gets."""
    for owner, listed in owners.scraped_services(lifecycle).items():
        selector = f'{of_jobs(listed)},outcome=~"returned|nacked|error"'
        count = grown(names.SENT_MESSAGES, selector, "10m")
        yield Alert(
            name="PublishErrors",
            expr=f"sum by (env, service_name, outcome) (label_replace(\n  {count},\n  {_JOB}\n)) > 0.5",
            severity="critical",
            summary="{{ $labels.service_name }} cannot send messages: {{ $labels.outcome }}",
            description=(
                '{{ $value | printf "%.0f" }} message(s) of {{ $labels.service_name }} were {{ $labels.outcome }} in '
                "the last 10 minutes. Unless it sends them again, their orders stay where they are."
            ),
            dashboard=links.OF_SERVICE,
            hold="5m",
            keep="5m",
            why=(
                "Each one may be a lost order, so the first one counts, for as long as the counter looks back; 5 "
                "minutes leave the first word to BrokerUnreachable, and to QueueMissing."
            ),
            labels={"owner": owner},
        )
    by = "sum by (env, owner, service_name)"
    bad = f'{by} (service_name_outcome:messages_processed:rate5m{{outcome=~"nack|reject|requeue"}})'
    yield Alert(
        name="ConsumeErrors",
        expr=f"{bad}\n/ {by} (service_name_outcome:messages_processed:rate5m) > 0.1\nand {bad} > 0.02",
        severity="warning",
        summary=f"{{{{ $labels.service_name }}}} fails on {{{{ $value | {SHARE} }}}} of its messages",
        description=(
            f"{{{{ $labels.service_name }}}} rejected or put back {{{{ $value | {SHARE} }}}} of the messages that it "
            "worked on in the last 5 minutes; 10% is where it stops being single orders."
        ),
        dashboard=links.OF_SERVICE,
        hold="5m",
        keep="10m",
        why="A dependency that is away for a moment costs retries and no orders; after 5 minutes it is not a moment.",
    )


def silences(lifecycle: Lifecycle) -> Iterator[Alert]:
    """Yield which services tell nothing, not all, or something that cannot be right."""
    for owner, listed in owners.scraped_services(lifecycle).items():
        for service in listed:
            yield Alert(
                name="ServiceNotScraped",
                expr=_unanswered(service),
                severity="warning",
                summary=f"Prometheus gets no metrics of {said(service)}",
                description=(
                    f"No instance of {said(service)} answers Prometheus, or none is configured with this name as its "
                    "job: alerts on its errors cannot fire."
                ),
                dashboard=links.of_service(service),
                hold="5m",
                keep="5m",
                why="Longer than a deployment. It only warns: whether orders move is known from heartbeats and events.",
                labels={"owner": owner, "service_name": service},
            )
        selector = of_jobs(listed)
        yield Alert(
            name="TelemetryLost",
            expr=(
                "sum by (env, service_name, sink) (label_replace(\n  "
                f"{grown(names.SINK_FAILURES, selector, '10m')},\n  {_JOB}\n)) > 0.5"
            ),
            severity="warning",
            summary="{{ $labels.service_name }} loses telemetry: {{ $labels.sink }}",
            description=(
                '{{ $value | printf "%.0f" }} fault(s) of {{ $labels.sink }} in {{ $labels.service_name }} in the last '
                "10 minutes: events, spans or log lines are missing. Orders themselves are not harmed."
            ),
            dashboard=links.OF_SERVICE,
            hold="5m",
            keep="15m",
            why="What is sent again is no loss and not counted; 5 minutes tell a fault from the end of a process.",
            labels={"owner": owner},
        )


def _unanswered(service: str) -> str:
    up = f"up{{{of_jobs([service])}}}"
    return gone(f"{up} == 1", f"max_over_time({up}[{LATELY}]) == 1")


def disagreements(lifecycle: Lifecycle) -> Iterator[Alert]:
    """Yield whose clock or lifecycle is another one."""
    backwards = grown_in_store(EVENTS, '{result="negative_duration"}', "15m")
    yield Alert(
        name="ClocksDiffer",
        expr=f"max by (env) ({backwards}) > 2.5",
        severity="warning",
        summary="Events say that orders left before they came",
        description=(
            '{{ $value | printf "%.0f" }} events of the last 15 minutes have a time before that of the event they '
            "follow: the clock of a service is wrong, and so are the ages and times in status that are shown."
        ),
        dashboard=links.TELEMETRY,
        hold="5m",
        keep="30m",
        why="One or two such events are a race between two services; a clock that is wrong makes them all the time.",
        labels={"owner": TELEMETRY},
    )
    for queue in lifecycle.queues.values():
        this = f"queue={quoted(queue.name)}"
        yield Alert(
            name="MessagesFromTheFuture",
            expr=f"sum by (env, queue) (\n  {grown(names.MESSAGES_FROM_THE_FUTURE, this, '15m')}\n) > 2.5",
            severity="warning",
            summary=f"Messages of {said(queue.name)} arrive before they were sent",
            description=(
                f'{{{{ $value | printf "%.0f" }}}} messages of {said(queue.name)} arrived before they were published, '
                f"in the last 15 minutes: the clock of {said(queue.consumer)} is behind, or a publisher's is ahead."
            ),
            dashboard=links.of_queue(queue.name),
            hold="5m",
            keep="30m",
            why="As ClocksDiffer: a few are a matter of milliseconds, many of a clock that nobody sets.",
            labels={"owner": owners.of_queue(queue, lifecycle), "queue": queue.name},
        )
    yield Alert(
        name="LifecycleDiffers",
        expr=f"service_name:{names.OTHER_LIFECYCLE}:max > 0",
        severity="warning",
        summary="{{ $labels.service_name }} runs another lifecycle than the ledger",
        description=(
            "{{ $value }} instance(s) of {{ $labels.service_name }} run another version of lifecycle.yaml than the "
            "ledger: their statuses may be unknown, and their limits others than those that are shown."
        ),
        dashboard=links.OF_SERVICE,
        hold="30m",
        keep="5m",
        why="A rollout has both versions for a while; half an hour is more than that.",
    )
