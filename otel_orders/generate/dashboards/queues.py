"""The queues: how old, how full, read by whom, and what becomes of their messages.

Pure: from a lifecycle to a dashboard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_orders import names
from otel_orders.generate import links
from otel_orders.generate.dashboards import variables
from otel_orders.generate.dashboards.board import Board, Row
from otel_orders.generate.dashboards.panels import Limits, Panel, Question, bars, lines, numbers
from otel_orders.generate.dashboards.queries import ENV, PROMETHEUS, Query
from otel_orders.generate.grown import grown

if TYPE_CHECKING:
    from otel_orders.lifecycle import Lifecycle

_QUEUE: Final = f'queue=~"$queue",{ENV}'
_TAKEN_FROM: Final = f'messaging_destination_name=~"(.+:)?($queue)",{ENV}'
"""Conventions write `exchange:routing key:queue`."""


def queues(lifecycle: Lifecycle) -> Board:
    """Return the dashboard of the queues between two steps."""
    return Board(
        uid=links.QUEUES,
        title="Orders: queues",
        description="Whether messages wait, who reads them, and which were given up, for each queue of the lifecycle.",
        variables=(
            variables.data_source(PROMETHEUS),
            variables.environment(),
            variables.chosen("queue", "Queue", lifecycle.queues),
        ),
        rows=(
            Row("Is it the queue?", (_oldest(), _waiting(), _consumers(), _broker())),
            Row("Does it move?", (_delivered(), _active(), _age(), _work())),
            Row("Do messages fail?", (_again(), _given_up(), _unsent(), _early())),
        ),
    )


def _oldest() -> Panel:
    return lines(
        Question(
            "How long has the oldest message of each queue waited, and how is that known?",
            "s",
            "Above its limit: see whether anybody reads the queue, and what the work on a message takes. In brackets, "
            "where the age is known from: the queue's head, the ledger's records, or the last delivery, which tells "
            "the least.",
            ("QueueOld",),
        ),
        Query(f"time() - max by (queue, source) ({names.QUEUE_OLDEST}{{{_QUEUE}}})", "{{queue}} ({{source}})"),
        Query('max by (queue) (queue:order_queue_oldest_after_seconds{queue=~"$queue"})', "{{queue}}: limit"),
    )


def _waiting() -> Panel:
    return lines(
        Question(
            "How many messages wait, and how many are being worked on?",
            "short",
            "Ready ones that only grow: too few consumers, or slow ones. Many unacked and none ready: consumers took "
            "them and are stuck in their work.",
            ("QueueStalled",),
        ),
        Query(f"queue:order_queue_messages_ready:max{{{_QUEUE}}}", "{{queue}} ready"),
        Query(f"queue:order_queue_messages_unacked:max{{{_QUEUE}}}", "{{queue}} unacked"),
    )


def _consumers() -> Panel:
    return bars(
        Question(
            "Who reads each queue?",
            "short",
            "0: its consumer is down, or has lost its connection: restart it, and read its log. No bar at all: the "
            "queue does not exist, so what is published for it is lost.",
            ("QueueWithoutConsumers", "QueueMissing"),
        ),
        Query(f"queue:{names.QUEUE_CONSUMERS}:max{{{_QUEUE}}}", "{{queue}}"),
        limits=Limits(1, 0.5),
    )


def _broker() -> Panel:
    return numbers(
        Question(
            "Does the ledger still see the broker?",
            "short",
            "If not, everything above is old: RabbitMQ is down, is not reached, or refuses the probe's user. Nothing "
            "at all: no ledger was started with --rabbitmq.",
            ("BrokerUnreachable", "QueuesUnwatched"),
        ),
        Query(f"env:{names.PROBE_UP}:max{{{ENV}}}", "management API"),
        named=((0, "does not answer", "red"), (1, "answers", "green")),
    )


def _delivered() -> Panel:
    return lines(
        Question(
            "How many messages are taken from each queue?",
            "mps",
            "At 0 while messages wait, consumers are connected and take nothing: look at what they work on, and at "
            "their prefetch limit.",
            ("QueueStalled",),
        ),
        Query(f"queue:messages_delivered:rate5m{{{_QUEUE}}}", "{{queue}}"),
    )


def _active() -> Panel:
    return bars(
        Question(
            "How long ago did anything come to each queue, or leave it?",
            "s",
            "Long ago and messages wait: it stands still. Long ago and it is empty: nobody sends, so look at the step "
            "before it.",
            ("QueueStalled",),
        ),
        Query(f"time() - queue:{names.QUEUE_ACTIVE}:max{{{_QUEUE}}}", "{{queue}}"),
    )


def _age() -> Panel:
    return lines(
        Question(
            "How old are messages when they are taken?",
            "s",
            "p95 far above the median: some wait behind slow ones, or came again. Both rise: consumers do not keep up.",
            ("QueueOld",),
        ),
        *(
            Query(
                f"histogram_quantile({share}, sum by (queue, le) (rate({names.MESSAGE_AGE}_bucket{{{_QUEUE}}}[5m])))",
                f"{{{{queue}}}} {called}",
            )
            for share, called in ((0.5, "median"), (0.95, "p95"))
        ),
    )


def _work() -> Panel:
    buckets = f"rate({names.MESSAGING_PROCESS_DURATION}_bucket{{{_TAKEN_FROM}}}[5m])"
    return lines(
        Question(
            "How long does the work on a message take?",
            "s",
            "Slower than usual: see the consumer's own calls and errors, on Services. The scale ends at 10 s; what "
            "takes minutes is seen on Services too, by the step.",
            ("WorkSlow", "QueueStalled"),
        ),
        Query(f"histogram_quantile(0.95, sum by (messaging_destination_name, le) ({buckets}))", "p95"),
    )


def _again() -> Panel:
    again, all_ = (f"queue:{what}:rate5m{{{_QUEUE}}}" for what in ("order_messages_redelivered", "messages_delivered"))
    return lines(
        Question(
            "Which share of deliveries comes again?",
            "percentunit",
            "A peak is a restart. What stays is a message that nobody can settle: find it by its delivery count in "
            "the traces of the queue's consumer, and move it away.",
            ("RetriesGrowing",),
        ),
        Query(f"{again} / ({all_} > 0)", "{{queue}}"),
        limits=Limits(0.2, 0.5),
    )


def _given_up() -> Panel:
    given_up = grown(f"{names.MESSAGING_PROCESS_DURATION}_count", f'{_TAKEN_FROM},outcome=~"reject|nack"', "10m")
    return lines(
        Question(
            "Which messages were given up in the last 10 minutes?",
            "short",
            "Each one is an order that nobody moves on by itself: open the dead-letter queue, mend the cause, and "
            "send it again. Gone: it left the queue and no record says who took it.",
            ("DeadLetters", "MessagesGone"),
        ),
        Query(f"sum by (messaging_destination_name, outcome) (\n  {given_up}\n)"),
        Query(f"max by (queue) (increase({names.MESSAGES_GONE}{{{_QUEUE}}}[10m]))", "{{queue}} gone"),
        limits=Limits(0.5, 1),
    )


def _unsent() -> Panel:
    failed = grown(names.SENT_MESSAGES, f'outcome=~"returned|nacked|error",{ENV}', "10m")
    return lines(
        Question(
            "Which messages could not be sent in the last 10 minutes?",
            "short",
            "Returned: no queue is bound, see QueueMissing. Nacked: the broker refuses, its disk or memory is full. "
            "Error: no connection. Unless the service sends again, the order stays where it is.",
            ("PublishErrors",),
        ),
        Query(f"sum by (messaging_destination_name, outcome) (\n  {failed}\n)"),
        limits=Limits(0.5, 1),
    )


def _early() -> Panel:
    early = grown(names.MESSAGES_FROM_THE_FUTURE, _QUEUE, "15m")
    return lines(
        Question(
            "Do messages arrive before they were sent?",
            "short",
            "Then clocks differ, and ages shown here are wrong: compare the clocks of the publisher's and the "
            "consumer's machines (timedatectl).",
            ("MessagesFromTheFuture",),
        ),
        Query(f"sum by (queue) (\n  {early}\n)", "{{queue}}"),
        limits=Limits(0.5, 3),
    )
