"""Print events on a terminal as they come."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from otel_orders.ledger.apply import ACCEPTED, DUPLICATE
from otel_orders.ledger.kept import CHANGED, FAILED

if TYPE_CHECKING:
    from otel_orders.ledger.store import Received


class EventPrinter:
    """Prints one line an event; duplicates are left out."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)

    def show(self, received: Received, result: str) -> None:
        """Print *received* and, unless it was simply accepted, its result.  Raises OSError when nobody reads."""
        if result == DUPLICATE:
            return
        event = received.event
        when = datetime.fromtimestamp(event.at / 1e9).astimezone().strftime("%H:%M:%S.%f")[:-3]
        style = {CHANGED: "green", FAILED: "red"}.get(event.kind, "cyan")
        line = Text.assemble(
            (when, "dim"),
            f"  {_visible(received.order_id)}  ",
            (_visible(f"{event.left or '?'} → {event.to}"), style),
            f"  {_visible(event.service)}",
            (f"  {_visible(event.error_code)}" if event.error_code else "", "bold red"),
            (f"  {event.trace_id.hex()}" if event.trace_id else "", "dim"),
            (f"  [{result}]" if result != ACCEPTED else "", "yellow"),
        )
        try:
            self._console.print(line, soft_wrap=True)
        except SystemExit:  # how rich would end the thread that writes
            raise BrokenPipeError("the terminal is gone") from None


def _visible(text: str) -> str:
    """Return *text* without what a sender could steer a terminal with."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)
