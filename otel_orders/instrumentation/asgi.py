"""ASGI middleware: a server span and a count for each request, inside the order that the caller works for.

    app.add_middleware(OrderMiddleware)        # Starlette, FastAPI
    app = OrderMiddleware(app)                 # anything else that speaks ASGI

What a caller says about itself is believed only where the caller is trusted: else its baggage is dropped and its trace
only linked.  Where another middleware opens a server span for the request, there is still one (server_span.py).  Knows
no framework.

Each answer names its trace in ``Server-Timing: traceparent``, where a browser's session tracking reads it.  A page of
another origin sees it only if the application allows that, with ``Timing-Allow-Origin`` (for the browser's performance
entries) and ``Access-Control-Expose-Headers: Server-Timing`` (for fetch): whom to allow is not ours to decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled

from otel_orders.context import Order, usable
from otel_orders.errors import ConfigurationError
from otel_orders.event import text_of
from otel_orders.instrumentation.audience import INTERNAL, by_client, comes_from_inside
from otel_orders.instrumentation.order_source import OrderSource
from otel_orders.instrumentation.server_request import Request
from otel_orders.instrumentation.server_rules import FAULT, Rules
from otel_orders.instrumentation.server_span import current_lead, steer
from otel_orders.instrumentation.spans import guarded
from otel_orders.settings import PSEUDONYM_KEY, read_http_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_orders.instrumentation.audience import AsgiScope, Audience
    from otel_orders.instrumentation.server_answer import App, Receive, Send


def about_order(order_id: object, partner_id: object = None) -> None:
    """Say which order the current request is about, once the application knows: a new one, or one that it looked up.

    order_id, partner_id: anything whose str() names them.  The order is then on the server span, and named to an
    external caller by X-Order-Ref (see OrderMiddleware's order_ref).  Without an effect outside of requests.  For the
    code's own spans and log lines, bind it with order_context().
    """
    guarded(FAULT, _name, order_id, partner_id)


def _name(order_id: object, partner_id: object) -> None:
    text = text_of(order_id)
    if (lead := current_lead()) is not None and usable(text):
        lead.is_about(Order(text, None if partner_id is None else text_of(partner_id)))


class OrderMiddleware:
    """Wraps an ASGI application.

    audience: tells from the ASGI scope who is served, "internal" or "external": a label of the metric (audience.py).
    trusted: tells whether the caller's order, baggage and trace are believed; by default where the audience is internal
    and the caller, and every proxy before it, has a private address.  order_id: where a trusted caller says which order
    it is about: "baggage", "header:NAME", "path:PARAMETER", or several of them.  order_ref: whether a successful answer
    to an external caller names the order by its pseudonym, in the header X-Order-Ref.

    Raises ConfigurationError for an order_id that cannot be read, and for order_ref without a key in
    OTEL_ORDERS_PSEUDONYM_KEY.
    """

    def __init__(
        self,
        app: App,
        *,
        audience: Audience = by_client,
        trusted: Callable[[AsgiScope], bool] | None = None,
        order_id: str | tuple[str, ...] = "baggage",
        order_ref: bool = False,
    ) -> None:
        self.app = app
        source = OrderSource.parse(*((order_id,) if isinstance(order_id, str) else order_id))
        key = read_http_settings().pseudonym_key if order_ref else None
        if order_ref and key is None:
            raise ConfigurationError(f"order_ref=True needs a key: set {PSEUDONYM_KEY}")
        self.rules = Rules(audience, trusted or _is_inside(audience), source, key)
        guarded(FAULT, steer)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what is none."""
        if scope["type"] == "lifespan":
            guarded(FAULT, steer)  # once more: all that the application uses is imported by now
        traced = scope["type"] in ("http", "websocket") and is_http_instrumentation_enabled()
        request = guarded(FAULT, Request, scope, self.rules) if traced else None
        if request is None:
            await self.app(scope, receive, send)
            return
        with request:
            await self.app(request.scope, request.receiving(receive), request.sending(send))


def _is_inside(audience: Audience) -> Callable[[AsgiScope], bool]:
    """Return what trusts a caller: an audience that is told by a header is no proof of where it comes from."""

    def trusted(scope: AsgiScope) -> bool:
        return comes_from_inside(scope) and audience(scope) == INTERNAL

    return trusted
