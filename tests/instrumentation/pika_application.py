"""An application on pika's BlockingConnection, for the behaviours in test_pika_identical*.py, and its transcript."""

from __future__ import annotations

import contextvars
import functools
from typing import TYPE_CHECKING, Any

import pika
from opentelemetry.instrumentation.pika import PikaInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_orders.context import Order, bound
from otel_orders.instrumentation import pika as instrumentation
from tests.instrumentation.transcripts import HEADERS, TOO_LONG, Log, instrumented

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from pika.adapters.blocking_connection import BlockingChannel

    from tests.instrumentation.conftest import Spans

    Behaviour = Callable[["App"], None]


class App:
    """An application with a channel and a queue.  headers: of its messages, by name; "ours": it sends them itself."""

    def __init__(self, connection: pika.BlockingConnection, headers: str, log: Log) -> None:
        self.connection, self.log, self._headers = connection, log, headers
        self.channel = connection.channel()
        self.queue: str = self.channel.queue_declare("", exclusive=True).method.queue

    def send(self, *bodies: bytes, **properties: Any) -> None:
        """Put messages into the queue, as the application sends them or as somebody else does."""
        for body in bodies:
            if self._headers == "ours":
                self.channel.basic_publish("", self.queue, body, pika.BasicProperties(**properties))
            else:
                own = pika.BasicProperties(headers=HEADERS[self._headers], **properties)
                with suppress_instrumentation():
                    self.channel.basic_publish("", self.queue, body, own)

    def take(self, *, on: BlockingChannel | None = None, auto_ack: bool = False) -> Any:
        return (on or self.channel).basic_get(self.queue, auto_ack)

    def consume(self, *callbacks: Callable[..., Any], **options: Any) -> list[str]:
        return [self.channel.basic_consume(self.queue, callback, **options) for callback in callbacks]

    def left(self) -> None:
        """Close the channel, and write down what is in the queue then: what was not settled, or was requeued."""
        if self.channel.is_open:
            self.channel.close()
        other = self.connection.channel()
        while (delivery := self.take(on=other, auto_ack=True))[0] is not None:
            self.log.note("left", delivery[2], delivery[0].redelivered, delivery[0].message_count)


def transcript(behaviour: Behaviour, url: str, headers: str) -> Log:
    """Return all that an application sees."""
    log = Log()
    with log.complete():
        connection = pika.BlockingConnection(pika.URLParameters(url))
        app = App(connection, headers, log)
        with log.attempt():
            behaviour(app)
        if connection.is_open:
            with log.attempt():
                connection.close()
    return log


bare_transcript = functools.cache(transcript)
"""Call it only while nothing is instrumented."""


def without_and_with_us(  # noqa: PLR0917 - what its tests are given
    behaviour: Behaviour, condition: str, headers: str, url: str, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Any], list[Any]]:
    """Return what *behaviour* sees without us, and with us while something is broken or the official one is there."""
    bare = bare_transcript(behaviour, url, headers)
    with instrumented(condition, PikaInstrumentor(), instrumentation, spans, monkeypatch), bound(Order("4" * TOO_LONG)):
        ours = contextvars.copy_context().run(transcript, behaviour, url, headers)
    return list(bare), list(ours)
