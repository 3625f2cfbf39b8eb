"""How often one request has been sent: over again after a redirect or a challenge, by a transport or an application.

Knows httpx's clients; neither spans nor headers.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx


class Sends:
    """The requests that one call of a client has sent.  kept: whether several calls are about one request."""

    __slots__ = ("_again", "_redirected", "_requests", "kept")

    def __init__(self, *, kept: bool = False) -> None:
        self.kept = kept
        self._requests: list[httpx.Request] = []
        self._again = 0
        self._redirected = False

    def resent(self, request: httpx.Request) -> int:
        """Note that *request* is sent now; return how often it was before.

        What an authentication asks for in between, a token for instance, is another request.
        """
        known = any(request is earlier for earlier in self._requests)
        again = known or self._redirected or (self.kept and bool(self._requests))
        self._redirected = False
        if not known:
            self._requests.append(request)
        if again:
            self._again += 1
        return self._again if again else 0

    def answered(self, response: httpx.Response) -> None:
        """Note whether *response* sends the client elsewhere."""
        self._redirected = response.has_redirect_location


SENDS: ContextVar[Sends | None] = ContextVar("otel_orders_sends", default=None)


@contextmanager
def one_request() -> Iterator[None]:
    """Count what is sent inside the block as one request that is sent again: for an application's own retries."""
    before = SENDS.get()
    SENDS.set(Sends(kept=True))
    try:
        yield
    finally:
        SENDS.set(before)


def counting(wrapped: Any, _client: httpx.Client, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Wrap Client.send."""
    before = SENDS.get()
    if before is not None and before.kept:
        return wrapped(*args, **kwargs)
    SENDS.set(Sends())
    try:
        return wrapped(*args, **kwargs)
    finally:
        SENDS.set(before)


async def counting_async(
    wrapped: Any, _client: httpx.AsyncClient, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Wrap AsyncClient.send."""
    before = SENDS.get()
    if before is not None and before.kept:
        return await wrapped(*args, **kwargs)
    SENDS.set(Sends())
    try:
        return await wrapped(*args, **kwargs)
    finally:
        SENDS.set(before)
