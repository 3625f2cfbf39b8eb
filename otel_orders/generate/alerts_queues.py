"""Alerts on what lies between two steps: queues, and the work on their messages.  Pure: from a lifecycle to alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_orders import names
from otel_orders.generate import links, owners
from otel_orders.generate.absence import lacking
from otel_orders.generate.grown import grown
from otel_orders.generate.owners import TELEMETRY
from otel_orders.generate.rule import Alert, one_of, quoted
from otel_orders.generate.rules import from_queue, grown_in_store
from otel_orders.generate.words import COUNT, LENGTH, RATE, asked, either, said
from otel_orders.sinks.metrics import DURATION_BUCKETS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_orders.lifecycle import Lifecycle, Queue

_RATE = 300
"""Seconds over which the recorded rate of deliveries looks back."""
_OF_QUEUE = "{env=%q,queue=%q}"
_READY = asked(f"queue:order_queue_messages_ready:max{_OF_QUEUE}", "env", "queue", shown=COUNT)
_UNSEEN = (
    f"(\n  max_over_time(env:{names.PROBE_UP}:max[10m]) == 0\n"
    "  and on (env) sum by (env) (queue:messages_delivered:rate5m) > 0\n)"
)
"""No probe for 10 minutes, and messages in the last 5 of them: nobody looks, and the broker is there."""
_CONSUMERS = asked(f"queue:{names.QUEUE_CONSUMERS}:max{_OF_QUEUE}", "env", "queue", shown=COUNT)


def queues(lifecycle: Lifecycle) -> Iterator[Alert]:
    """Yield what stands between two steps."""
    if not lifecycle.queues:
        return
    yield Alert(
        name="QueueWithoutConsumers",
        expr=f"queue:{names.QUEUE_CONSUMERS}:max == 0",
        severity="critical",
        summary="Nobody reads {{ $labels.queue }}",
        description=(
            "{{ $labels.queue }} has no consumer; "
            f"{_READY} message(s) wait in it. Orders stay in {{{{ $labels.status }}}} until "
            "{{ $labels.owner }} reads it again."
        ),
        dashboard=links.OF_QUEUE,
        hold="2m",
        keep="20m",
        why=(
            "A rolling deployment and a reconnect take less than 2 minutes, and a probe is up to 20 s old. A consumer "
            "that crashes in a loop is there now and then; and kept for 20 minutes, it outlasts what follows from it."
        ),
    )
    for queue in lifecycle.queues.values():
        yield _missing(queue, lifecycle)
        yield _stalled(queue)
    if any(queue.oldest_after for queue in lifecycle.queues.values()):
        yield _old()
    for queue in lifecycle.queues.values():
        yield _dead_letters(queue, lifecycle)
    if any(queue.track for queue in lifecycle.queues.values()):
        yield _gone(lifecycle)
    yield _retries()
    for queue in lifecycle.queues.values():
        yield from _slow(queue, lifecycle)
        yield from _at_work(queue)


def broker() -> Iterator[Alert]:
    """Yield whether the broker, and the ledger's look at it, are there at all."""
    yield Alert(
        name="BrokerUnreachable",
        expr=f"env:{names.PROBE_UP}:max == 0\nunless on (env) {_UNSEEN}",
        severity="critical",
        summary="RabbitMQ's management API does not answer the ledger",
        description=(
            "No replica of the ledger gets an answer on all queues."
            + either(
                f"time() - max(max by (env) ({names.PROBE_SUCCEEDED}{{env=%q}}))",
                "env",
                shown=LENGTH,
                before=" The last one was ",
                after=" ago.",
            )
            + " The broker is down or not reached, or the probe's user may not look."
        ),
        dashboard=links.QUEUES,
        hold="2m",
        keep="20m",
        why=(
            "A probe waits for 10 s and there is one every 15 s, so 2 minutes are several failures in a row, and "
            "sooner than what follows from it; kept for 20, it is over later than that, and pages once. An API that "
            "is silent for 10 minutes while messages are delivered is no broker that is down: that is QueuesUnwatched."
        ),
        labels={"owner": TELEMETRY},
    )
    yield Alert(
        name="QueuesUnwatched",
        expr=f"{lacking('otel_orders_ledger_swept_timestamp_seconds', names.PROBE_UP)}\nor {_UNSEEN}",
        severity="warning",
        summary="The ledger does not see the queues of RabbitMQ",
        description=(
            "No ledger was started with --rabbitmq, or its probe gets no answer while messages are delivered: the "
            "management API is down, or the probe's user may not look. No alert on a queue can fire."
        ),
        dashboard=links.QUEUES,
        hold="15m",
        keep="5m",
        why="It is a matter of how the ledger was started, or of a password: 15 minutes outlast a deployment.",
        labels={"owner": TELEMETRY},
    )


def _labels(queue: Queue, lifecycle: Lifecycle) -> dict[str, str]:
    return {"owner": owners.of_queue(queue, lifecycle), "status": queue.status, "queue": queue.name}


def _missing(queue: Queue, lifecycle: Lifecycle) -> Alert:
    known = f"queue:{names.QUEUE_CONSUMERS}:max{{queue={quoted(queue.name)}}}"
    return Alert(
        name="QueueMissing",
        expr=(
            f"env:{names.PROBE_UP}:max == 1\n"
            f"and on (env) time() - max by (env) ({names.PROBE_SUCCEEDED}) < 120\n"
            f"unless on (env) {known}"
        ),
        severity="critical",
        summary=f"There is no queue {said(queue.name)}",
        description=(
            f"RabbitMQ answers, and knows no queue {said(queue.name)}: what is published for it is lost or returned, "
            f"and orders stay in {queue.status}."
        ),
        dashboard=links.of_queue(queue.name),
        hold="2m",
        keep="20m",
        why=(
            "Services declare their queues when they start; 2 minutes are enough for that, and for several probes. A "
            "probe that hangs says nothing of queues, so its last word must be recent."
        ),
        labels=_labels(queue, lifecycle),
    )


def _stalled(queue: Queue) -> Alert:
    this = f"{{queue={quoted(queue.name)}}}"
    return Alert(
        name="QueueStalled",
        expr=(
            f"queue:order_queue_messages_ready:max{this} > 0\n"
            f"and queue:{names.QUEUE_CONSUMERS}:max{this} > 0\n"
            f"unless on (env, queue) (queue:messages_delivered:rate5m{this} > 0)\n"
            f"unless on (env, queue) (\n"
            f"  time() - queue:{names.QUEUE_ACTIVE}:max{this} < 300\n"
            f"  unless on (env, queue) queue:messages_delivered:rate5m{this}\n)"
        ),
        severity="critical",
        summary="Consumers of {{ $labels.queue }} take nothing from it",
        description=(
            f"{{{{ $value }}}} message(s) wait in {{{{ $labels.queue }}}}, {_CONSUMERS} consumer(s) read it, and none "
            "was delivered. Orders stay in {{ $labels.status }}."
        ),
        dashboard=links.OF_QUEUE,
        hold=str(queue.oldest_after or "10m"),
        keep="5m",
        why=(
            "As long as the lifecycle's oldest_after (10 minutes without one): work on one message may take that long. "
            "Where consumers are not instrumented, the queue's own last activity says whether anything moves."
        ),
        labels={"queue": queue.name},
    )


def _old() -> Alert:
    limit = asked("queue:order_queue_oldest_after_seconds{queue=%q}", "queue", shown=LENGTH)
    oldest = f"queue:{names.QUEUE_OLDEST}:max"
    return Alert(
        name="QueueOld",
        expr=(
            f"time() - {oldest}\n> on (queue) group_left () queue:order_queue_oldest_after_seconds\n"
            f"unless on (env, queue) queue:order_queue_messages_ready:max == 0\n"
            f"unless on (env, queue) time() - {oldest} < 0.95 * (time() - 300 - {oldest} offset 5m)"
        ),
        severity="critical",
        summary="A message has waited in {{ $labels.queue }} for {{ $value | humanizeDuration }}",
        description=(
            f"The oldest message of {{{{ $labels.queue }}}} was published {{{{ $value | {LENGTH} }}}} ago; "
            f"{limit} are allowed. {_READY} message(s) are ready, {_CONSUMERS} consumer(s) read it."
        ),
        dashboard=links.OF_QUEUE,
        hold="3m",
        keep="5m",
        why=(
            "The limit is the lifecycle's oldest_after; 3 minutes leave the first word to what holds messages up. A "
            "backlog that gets younger by a twentieth in 5 minutes is being worked off, and calls nobody again. What "
            "consumers have in hand does not wait: WorkSlow and RetriesGrowing are about that."
        ),
    )


def _dead_letters(queue: Queue, lifecycle: Lifecycle) -> Alert:
    selector = from_queue(queue) + ',outcome=~"reject|nack"'
    count = grown(f"{names.MESSAGING_PROCESS_DURATION}_count", selector, "10m")
    return Alert(
        name="DeadLetters",
        expr=f"sum by (env) (\n  {count}\n) > 0.5",
        severity="critical",
        summary=f"Messages of {said(queue.name)} were given up",
        description=(
            f'{{{{ $value | printf "%.0f" }}}} message(s) of {said(queue.name)} were rejected by '
            f"{said(queue.consumer)} in the last 10 minutes and will not come again: their orders stay in "
            f"{queue.status} until somebody acts."
        ),
        dashboard=links.of_queue(queue.name),
        hold="0s",
        keep="30m",
        why=(
            "Each one is an order that nobody will move on by itself, so the first one counts; kept for half an hour, "
            "since they come one by one."
        ),
        labels=_labels(queue, lifecycle),
    )


def _gone(lifecycle: Lifecycle) -> Alert:
    by_owner = {owners.of_queue(queue, lifecycle) for queue in lifecycle.queues.values() if queue.track}
    return Alert(
        name="MessagesGone",
        expr=f"{grown_in_store('queue:order_queue_messages_gone:max', '', '10m')} > 0.5",
        severity="critical",
        summary="Messages left {{ $labels.queue }} without having been settled",
        description=(
            '{{ $value | printf "%.0f" }} message(s) left {{ $labels.queue }} in the last 10 minutes without a record '
            "of who took them: dead-lettered by the broker's delivery limit, expired, purged, or their record is lost."
        ),
        dashboard=links.OF_QUEUE,
        hold="3m",
        keep="5m",
        why=(
            "The ledger has looked twice before it says so, and each one may be a lost order; 3 minutes leave the "
            "first word to QueueWithoutConsumers, as a consumer that dies takes the record of its last message along. "
            "Over within 20 minutes, while CollectorDown is still kept: records that it lost are no lost messages."
        ),
        labels={"owner": min(by_owner) if len(by_owner) == 1 else TELEMETRY},
    )


def _retries() -> Alert:
    again = "queue:order_messages_redelivered:rate5m"
    return Alert(
        name="RetriesGrowing",
        expr=(
            f"{again} > 0.02\n"
            f"and {again} > 0.2 * queue:messages_delivered:rate5m\n"
            f"unless {again} < 2 * ({again} offset 1d)"
        ),
        severity="warning",
        summary="Messages of {{ $labels.queue }} come again and again",
        description=(
            f"{{{{ $value | {RATE} }}}} messages a second are redelivered from {{{{ $labels.queue }}}}, of "
            + asked(f"queue:messages_delivered:rate5m{_OF_QUEUE}", "env", "queue", shown=RATE)
            + " delivered, at least twice as many as yesterday at this time: a message that nobody can settle, or a "
            "consumer that dies of it."
        ),
        dashboard=links.OF_QUEUE,
        hold="5m",
        keep="10m",
        why=(
            "A restart of consumers redelivers what they held, once; after 5 minutes it is a loop. The rate is of 5 "
            "minutes, so it comes down slowly; 10 more minutes keep one incident one."
        ),
    )


def _slow(queue: Queue, lifecycle: Lifecycle) -> Iterator[Alert]:
    """Yield that the work on a queue's messages takes longer than a message may wait; edges of buckets are exact."""
    limits = [edge for edge in DURATION_BUCKETS if queue.oldest_after and edge >= queue.oldest_after.seconds]
    if not limits:
        return
    moved = f'to_status=~"{one_of(lifecycle.statuses[queue.status].next)}"'
    work, edge = names.TRANSITION_DURATION, min(limits)
    here = f"service_name={quoted(queue.consumer)},{moved}"
    within = f'{here},le="{edge}"'
    yield Alert(
        name="WorkSlow",
        expr=(
            f"sum by (env, to_status) (\n  {grown(f'{work}_count', here, '15m')}\n)\n"
            f"- sum by (env, to_status) (\n  {grown(f'{work}_bucket', within, '15m')}\n)\n> 0.5"
        ),
        severity="critical",
        summary=f"{said(queue.consumer)} works for over {edge / 60:g} minutes on an order",
        description=(
            f'{{{{ $value | printf "%.0f" }}}} order(s) took {said(queue.consumer)} over {edge / 60:g} minutes of '
            f"work to become {{{{ $labels.to_status }}}}, in the last 15 minutes. Meanwhile {said(queue.name)} waits."
        ),
        dashboard=links.of_service(queue.consumer),
        hold="0s",
        keep="15m",
        why="The work is over when it is counted, and has taken long enough; kept until the next one would be counted.",
        labels=_labels(queue, lifecycle) | {"service_name": queue.consumer},
    )


def _at_work(queue: Queue) -> Iterator[Alert]:
    """Yield that consumers work on what they hold, and have taken nothing else, for as long as a message may wait.

    Without it the first word would be QueueOld's, which is what follows: work is counted when it is over.
    """
    limit = int(queue.oldest_after.seconds) if queue.oldest_after else 0
    if limit <= _RATE:
        return
    this = f"{{queue={quoted(queue.name)}}}"
    yield Alert(
        name="WorkSlow",
        expr=(
            f"min_over_time(queue:order_queue_messages_unacked:max{this}[{limit}s]) > 0\n"
            f"and queue:{names.QUEUE_CONSUMERS}:max{this} > 0\n"
            f"and on (env, queue) max_over_time(queue:messages_delivered:rate5m{this}[{limit - _RATE}s]) == 0"
        ),
        severity="critical",
        summary=f"{said(queue.consumer)} works for over {limit / 60:g} minutes on what it holds",
        description=(
            f"{said(queue.consumer)} has had the same {{{{ $value }}}} message(s) of {said(queue.name)} in hand for "
            f"over {limit / 60:g} minutes and taken no other; {_READY} wait. It works on them, or hangs."
        ),
        dashboard=links.of_service(queue.consumer),
        hold="0s",
        keep="15m",
        why="The limit is the lifecycle's oldest_after, and the wait; kept until the next one would be counted.",
        labels={"service_name": queue.consumer, "queue": queue.name},
    )
