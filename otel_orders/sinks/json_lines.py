"""Project events onto JSON lines, which are never sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from otel_orders.event import StatusEvent
from otel_orders.json_lines import Timestamps

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_orders.event import Event


class JsonLineSink:
    """Writes each event as one JSON line through *write*, which takes the line with its newline."""

    name = "json_lines"

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._encoder = msgspec.json.Encoder()
        self._timestamps = Timestamps()

    def emit(self, event: Event) -> None:
        """Write *event*; raises OSError when the line could not be written."""
        head = f'{{"timestamp":"{self._timestamps.text(event.occurred_at)}",'
        if isinstance(event, StatusEvent) and (status := event.status) is not None:
            head += f'"status":{self._encoder.encode(status).decode()},'
        self._write(head.encode() + self._encoder.encode(event)[1:] + b"\n")
