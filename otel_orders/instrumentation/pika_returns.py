"""Which of the messages that wait for their confirmation came back, because no queue takes them.

The broker returns the message itself and no number, so it is known by what it carries.  Knows no channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_orders import names
from otel_orders.instrumentation.amqp import RETURNED, Sending
from otel_orders.instrumentation.headers import TRACEPARENT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from otel_orders.instrumentation.settling import Waiting

    Twins = dict[Sending, None]
    """Sendings that carry the same: the application may send one again with headers of its own."""


class Returns:
    """The mandatory messages of a channel that wait for their confirmation."""

    def __init__(self) -> None:
        self._by_carried: dict[tuple[str, str], Twins] = {}

    def expect(self, sending: Sending, unconfirmed: Waiting, number: int) -> None:
        """Have *sending* wait for its confirmation as the channel's message *number*, and perhaps come back before."""
        carried = _carried(sending.headers)
        if sending.await_outcome(unconfirmed, number, _Expected(sending, carried, self._by_carried)):
            self._by_carried.setdefault(carried, {})[sending] = None

    def note(self, headers: Mapping[Any, Any]) -> None:
        """Note that the message with *headers* came back; its confirmation follows."""
        for sending in self._by_carried.pop(_carried(headers), ()):
            sending.outcome = RETURNED


class _Expected(NamedTuple):
    """One of them: forgotten with its confirmation."""

    sending: Sending
    carried: tuple[str, str]
    by_carried: dict[tuple[str, str], Twins]

    def settle(self, outcome: str) -> None:
        twins = self.by_carried.get(self.carried, {})
        twins.pop(self.sending, None)
        if not twins:
            self.by_carried.pop(self.carried, None)
        self.sending.settle(outcome)


def _carried(headers: Mapping[Any, Any]) -> tuple[str, str]:
    return str(headers.get(TRACEPARENT)), str(headers.get(names.PUBLISHED_AT_HEADER))
