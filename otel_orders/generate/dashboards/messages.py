"""Panels on messages: how old they are, what the work on them takes, and which fail.  Pure."""

from __future__ import annotations

from typing import Final

from otel_orders import names
from otel_orders.generate.dashboards.panels import Limits, Panel, Question, lines
from otel_orders.generate.dashboards.queries import ENV, OF_QUEUE, Query
from otel_orders.generate.grown import grown

_TAKEN_FROM: Final = f'messaging_destination_name=~"(.+:)?($queue)",{ENV}'


def age() -> Panel:
    """Return how old messages are when they are taken."""
    return lines(
        Question(
            "How old are messages when they are taken?",
            "s",
            "p95 far above the median: some wait behind slow ones, or came again. Both rise: consumers do not keep up.",
            ("QueueOld",),
            width=8,
        ),
        *(
            Query(
                f"histogram_quantile({share}, sum by (queue, le) (rate({names.MESSAGE_AGE}_bucket{{{OF_QUEUE}}}[5m])))",
                f"{{{{queue}}}} {called}",
            )
            for share, called in ((0.5, "median"), (0.95, "p95"))
        ),
    )


def work() -> Panel:
    """Return how long the work takes."""
    buckets = f"rate({names.MESSAGING_PROCESS_DURATION}_bucket{{{_TAKEN_FROM}}}[5m])"
    return lines(
        Question(
            "How long does the work on a message take?",
            "s",
            "Slower than usual: see the consumer's own calls and errors, on Services. The scale ends at 10 s; what "
            "takes minutes is seen on Services too, by the step.",
            ("WorkSlow", "QueueStalled"),
            width=8,
        ),
        Query(
            f"histogram_quantile(0.95, sum by (messaging_destination_name, le) ({buckets}))",
            "{{messaging_destination_name}}",
        ),
    )


def again() -> Panel:
    """Return how much of what is delivered had been delivered before."""
    came_again, delivered = (
        f"queue:{what}:rate5m{{{OF_QUEUE}}}" for what in ("order_messages_redelivered", "messages_delivered")
    )
    return lines(
        Question(
            "Which share of deliveries comes again?",
            "percentunit",
            "A peak is a restart. What stays is a message that nobody can settle: find it by its delivery count in "
            "the traces of the queue's consumer, and move it away.",
            ("RetriesGrowing",),
        ),
        Query(f"{came_again} / ({delivered} > 0)", "{{queue}}"),
        limits=Limits(0.2, 0.5),
    )


def given_up() -> Panel:
    """Return what was rejected, and what vanished."""
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
        Query(f"max by (queue) (increase({names.MESSAGES_GONE}{{{OF_QUEUE}}}[10m]))", "{{queue}} gone"),
        limits=Limits(0.5, 1),
    )


def unsent() -> Panel:
    """Return what could not be published."""
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


def early() -> Panel:
    """Return whose clocks differ."""
    early = grown(names.MESSAGES_FROM_THE_FUTURE, OF_QUEUE, "15m")
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
