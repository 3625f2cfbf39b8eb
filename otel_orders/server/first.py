"""Serve whoever looks something up before what comes in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_orders.ledger.courtesy import lookups

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PATIENT: Final = frozenset({"/metrics", "/report", "/audit"})
"""Paths that nobody sits and waits for, or that take a look at everything."""


class LookupsFirst:
    """Notes requests that only look, for as long as they last."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through."""
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"] not in PATIENT:
            with lookups:
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)
