"""Ask for a bearer token (RFC 6750), compared in constant time."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = frozenset({"/healthz", "/readyz"})
"""Paths that need no token: they say nothing about orders."""


def allowed(authorization: bytes, *tokens: str) -> bool:
    """Whether *authorization*, the header's value, holds one of *tokens*."""
    scheme, _, given = authorization.partition(b" ")
    found = [hmac.compare_digest(given.strip(), token.encode()) for token in tokens]
    return scheme.lower() == b"bearer" and any(found)


def bears(scope: Scope, *tokens: str) -> bool:
    """Whether the request of *scope* brings one of *tokens*."""
    return allowed(dict(scope["headers"]).get(b"authorization", b""), *tokens)


class BearerToken:
    """Lets only requests with one of some tokens through to the application."""

    def __init__(self, app: ASGIApp, *tokens: str) -> None:
        self._app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer 401."""
        if scope["type"] == "http" and scope["path"] not in OPEN and not bears(scope, *self._tokens):
            answer = JSONResponse({"error": "a bearer token is needed"}, 401, {"WWW-Authenticate": "Bearer"})
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)
