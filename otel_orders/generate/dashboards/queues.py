"""The queues: how old, how full, read by whom, and what becomes of their messages.

Pure: from a lifecycle to a dashboard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_orders import names
from otel_orders.generate import links
from otel_orders.generate.dashboards import messages, variables
from otel_orders.generate.dashboards.board import Board, Row
from otel_orders.generate.dashboards.panels import Limits, Panel, Question, bars, lines, numbers
from otel_orders.generate.dashboards.queries import ENV, OF_QUEUE, PROMETHEUS, Query

if TYPE_CHECKING:
    from otel_orders.lifecycle import Lifecycle

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
            Row("Is it the queue?", (_oldest(), _waiting(), _consumers(), _active(), _broker())),
            Row("Does it move?", (_delivered(), messages.age(), messages.work())),
            Row("Do messages fail?", (messages.again(), messages.given_up(), messages.unsent(), messages.early())),
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
        Query(f"time() - max by (queue, source) ({names.QUEUE_OLDEST}{{{OF_QUEUE}}})", "{{queue}} ({{source}})"),
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
        Query(f"queue:order_queue_messages_ready:max{{{OF_QUEUE}}}", "{{queue}} ready"),
        Query(f"queue:order_queue_messages_unacked:max{{{OF_QUEUE}}}", "{{queue}} unacked"),
    )


def _consumers() -> Panel:
    return bars(
        Question(
            "Who reads each queue?",
            "short",
            "0: its consumer is down, or has lost its connection: restart it, and read its log. No bar at all: the "
            "queue does not exist, so what is published for it is lost.",
            ("QueueWithoutConsumers", "QueueMissing"),
            width=10,
            height=6,
        ),
        Query(f"queue:{names.QUEUE_CONSUMERS}:max{{{OF_QUEUE}}}", "{{queue}}"),
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
            width=4,
            height=6,
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
            width=8,
        ),
        Query(f"queue:messages_delivered:rate5m{{{OF_QUEUE}}}", "{{queue}}"),
    )


def _active() -> Panel:
    return bars(
        Question(
            "How long ago did anything come to each queue, or leave it?",
            "s",
            "Long ago and messages wait: it stands still. Long ago and it is empty: nobody sends, so look at the step "
            "before it.",
            ("QueueStalled",),
            width=10,
            height=6,
        ),
        Query(f"time() - queue:{names.QUEUE_ACTIVE}:max{{{OF_QUEUE}}}", "{{queue}}"),
    )
