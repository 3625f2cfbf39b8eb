"""How a request, or the request for a websocket, is answered: told by the ASGI events that come and go.

Pure: knows neither spans nor metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_orders.instrumentation.spans import error_type

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from otel_orders.instrumentation.audience import AsgiScope

    Event = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Event]]
    Send = Callable[[Event], Awaitable[None]]
    App = Callable[[AsgiScope, Receive, Send], Awaitable[None]]

CLIENT_ERROR = 400
SERVER_ERROR = 500
SWITCHING_PROTOCOLS = 101
FORBIDDEN = 403
"""How a server answers a websocket that is closed before it is accepted."""

CANCELLED = "cancelled"

_STARTS = ("http.response.start", "websocket.http.response.start")


class Answer:
    """What is known of an answer by now.  gone: whether the caller left before it had all of it."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.gone = False
        self._trailers = False

    def received(self, event: Event) -> None:
        """Note what the caller says; a websocket's session may end at any time, its handshake may not."""
        kind = event["type"]
        if kind == "http.disconnect" or (kind == "websocket.disconnect" and self.status is None):
            self.gone = True

    def starts_with(self, event: Event) -> bool:
        """Note the status; return whether *event* starts an answer, to which headers can be added."""
        if event["type"] not in _STARTS:
            return False
        self.status = event["status"]
        self._trailers = bool(event.get("trailers"))
        return True

    def settles_handshake(self, event: Event) -> bool:
        """Note the status; return whether *event* accepts or refuses a websocket."""
        kind = event["type"]
        if kind not in ("websocket.accept", "websocket.close") or self.status is not None:
            return False
        self.status = SWITCHING_PROTOCOLS if kind == "websocket.accept" else FORBIDDEN
        return True

    def ends_with(self, event: Event) -> bool:
        """Return whether *event* is the last of an answer over HTTP."""
        if self._trailers:
            return event["type"] == "http.response.trailers" and not event.get("more_trailers")
        kind = event["type"]
        return kind == "http.response.pathsend" or (kind == "http.response.body" and not event.get("more_body"))

    def failed(self, error: BaseException | None) -> str:
        """Return what went wrong, or ""; a caller that left before the end of the answer cancelled it."""
        if self.gone:
            return CANCELLED
        if error is not None:
            return error_type(error)
        return str(self.status) if self.status is not None and self.status >= SERVER_ERROR else ""
