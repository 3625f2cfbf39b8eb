"""otel_orders shows where every order is, and why it is stuck.

configure() switches it on; transition, transition_context, record and order_context say what happens to orders.
"""

from otel_orders.context import current_order
from otel_orders.outbox import SCHEMA as OUTBOX_SCHEMA
from otel_orders.runtime import Runtime, configure, shutdown
from otel_orders.transition import Move, order_context, record, transition, transition_context

__all__ = [  # noqa: RUF022 - as sorted() sorts
    "Move",
    "OUTBOX_SCHEMA",
    "Runtime",
    "configure",
    "current_order",
    "order_context",
    "record",
    "shutdown",
    "transition",
    "transition_context",
]
