"""What an application decided about the requests that it answers: who is served, who is believed, what is told.

Knows the ASGI scope; see OrderMiddleware in asgi.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from otel_orders.instrumentation.audience import EXTERNAL
from otel_orders.instrumentation.spans import guarded

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_orders.instrumentation.audience import AsgiScope
    from otel_orders.instrumentation.order_source import OrderSource
    from otel_orders.privacy import PseudonymKey

FAULT = "asgi"
"""The source under which faults of the ASGI middleware are counted."""


class Rules(msgspec.Struct, frozen=True):
    """What OrderMiddleware was told.  order_ref_key: None where no answer names its order."""

    audience: Callable[[AsgiScope], str]
    trusted: Callable[[AsgiScope], bool]
    source: OrderSource
    order_ref_key: PseudonymKey | None

    def serves(self, scope: AsgiScope) -> str:
        """Return the audience of *scope*; who cannot be judged is the world."""
        return str(guarded(FAULT, self.audience, scope) or EXTERNAL)

    def trusts(self, scope: AsgiScope) -> bool:
        """Return whether the caller is believed; who cannot be judged is not."""
        return bool(guarded(FAULT, self.trusted, scope))
