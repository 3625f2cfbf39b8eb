"""One span for each message where the official instrumentors are at work too, whichever came first.

Where theirs encloses the call or the callback, ours is inside (patching.py) and completes their span, so that their
hooks and metrics stay.  Where theirs would span the wrong thing (the moment in which a message is put into a loop's
buffer), ours takes its place.  Knows the official instrumentors only by their names: they are imported only if they
are installed.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import ModuleType

    from opentelemetry.trace import Span, SpanKind

_OFFICIAL = "opentelemetry.instrumentation."


def official(client: str, module: str) -> ModuleType | None:
    """Return *module* of the official instrumentation of *client*; None where it is not installed."""
    name = _OFFICIAL + client
    return import_module(f"{name}.{module}") if find_spec(name) else None


def official_span(client: str, kind: SpanKind) -> Span | None:
    """Return the current span if the official instrumentation of *client* made it, and it is of *kind*; else None."""
    if _OFFICIAL + client not in sys.modules:
        return None
    span: Any = trace.get_current_span()
    scope = getattr(span, "instrumentation_scope", None)
    theirs = scope is not None and scope.name.startswith(_OFFICIAL + client) and span.kind is kind
    return span if theirs and span.is_recording() else None  # an ended one may have been left behind


def injected_unsampled(client: str, traceparent: str | None) -> bool:
    """Return whether the official instrumentation of *client* wrote *traceparent* for a span that is not sampled.

    Such a span does not tell who made it.
    """
    span = trace.get_current_span()
    if traceparent is None or span.is_recording() or _OFFICIAL + client not in sys.modules:
        return False
    at = span.get_span_context()
    return at.is_valid and f"{at.trace_id:032x}-{at.span_id:016x}" in traceparent


def silenced() -> AbstractContextManager[None]:
    """Keep other instrumentation from a span of its own inside the block."""
    return suppress_instrumentation()
