"""What a task has taken and is not done with, without a broker."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from otel_orders.instrumentation.aio_pika_steps import MAX_STEPS, Steps
from otel_orders.instrumentation.amqp import Message, Tracing
from otel_orders.instrumentation.processing import Processing
from otel_orders.instrumentation.settling import ACK, Settlement, Waiting

if TYPE_CHECKING:
    from tests.instrumentation.conftest import Spans

pytestmark = pytest.mark.anyio


class Taken:
    """A message."""


def got(number: int, waiting: Waiting | None = None) -> Processing:
    message = Message("", "q", {}, queue="q", delivery_tag=number)
    return Processing(message, Tracing(), waiting=waiting, got=True)


async def test_the_first_of_too_many_is_taken_to_be_done(spans: Spans) -> None:
    steps = Steps()
    for number in range(MAX_STEPS + 5):
        steps.begin(number, Taken(), got(number))
    assert len(spans.of("process")) == 5
    for number in range(MAX_STEPS + 5):
        steps.end(number)
    assert len(spans.of("process")) == MAX_STEPS + 5


async def test_a_message_is_forgotten_once_it_is_settled(spans: Spans) -> None:
    steps, waiting, message = Steps(), Waiting(), Taken()
    steps.begin("queue", message, got(1, waiting))
    waiting.settle(Settlement(ACK, 1))
    held = weakref.ref(message)
    del message
    gc.collect()
    assert held() is None
    assert spans.one("process")


async def test_an_error_keeps_none_of_its_frames_while_the_message_waits(spans: Spans) -> None:
    steps, waiting = Steps(), Waiting()

    def fail() -> None:
        in_this_frame = Taken()
        held.append(weakref.ref(in_this_frame))
        raise RuntimeError

    held: list[weakref.ref[Taken]] = []
    steps.begin("queue", Taken(), got(1, waiting))
    try:
        fail()
    except RuntimeError as error:
        steps.end("queue", error)
    gc.collect()
    assert held[0]() is None
    assert spans.one("process")
    waiting.close()
