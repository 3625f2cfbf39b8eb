"""Who is served: callers of our own, or the world.  Told from the ASGI scope alone; knows no framework.

    OrderMiddleware(app)                                          # by_client: by the address of the caller
    OrderMiddleware(app, audience=by_path("/public/", "/b2b/"))   # these are for the world
    OrderMiddleware(app, audience=by_host("api.shop.example"))    # so is what comes in by this name
    OrderMiddleware(app, audience=by_header("x-from-edge", "1"))  # and what our edge marks

What only a header says, anybody can say: it makes a caller external, never a trusted one (see OrderMiddleware).
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

from otel_orders.errors import ConfigurationError
from otel_orders.instrumentation.http import is_private

AsgiScope = MutableMapping[str, Any]
Audience = Callable[[AsgiScope], str]

INTERNAL: Final = "internal"
EXTERNAL: Final = "external"


def headers_of(scope: AsgiScope) -> dict[str, str]:
    """Return the request's headers by lower-case name; several of one name as one list (RFC 9110, section 5.3)."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope.get("headers", ()):
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def comes_from_inside(scope: AsgiScope) -> bool:
    """Return whether the caller, and every proxy that says it forwarded the request, has a private address."""
    client = scope.get("client")
    headers = headers_of(scope)
    if not client or "forwarded" in headers:
        return False
    forwarded_for = headers.get("x-forwarded-for", "")
    return all(is_private(address.strip()) for address in (client[0], *filter(None, forwarded_for.split(","))))


def by_client(scope: AsgiScope) -> str:
    """Return the audience by the caller's address: internal where it is a private one all the way."""
    return INTERNAL if comes_from_inside(scope) else EXTERNAL


def by_path(*external: str) -> Audience:
    """Return what calls external what is asked for at or below the paths *external*.

    Raises ConfigurationError for one that does not start with a slash: it would match nothing.
    """
    if wrong := [path for path in external if not path.startswith("/")]:
        raise ConfigurationError(f"by_path({', '.join(map(repr, wrong))}): expected paths that start with a slash")
    below = tuple(path.rstrip("/") + "/" for path in external)

    def audience(scope: AsgiScope) -> str:
        return EXTERNAL if f"{scope.get('path', '')}/".startswith(below) else INTERNAL

    return audience


def by_host(*external: str) -> Audience:
    """Return what calls external what comes in under one of the host names *external*; `.name` means all below it."""
    known = tuple(name.lower() for name in external)
    below = tuple(name for name in known if name.startswith("."))

    def audience(scope: AsgiScope) -> str:
        name = _host(headers_of(scope).get("host", ""))
        return EXTERNAL if name in known or name.endswith(below) else INTERNAL

    return audience


def by_header(name: str, *external: str) -> Audience:
    """Return what calls external the requests whose header *name* has one of the values *external*."""
    known = name.lower()

    def audience(scope: AsgiScope) -> str:
        return EXTERNAL if headers_of(scope).get(known) in external else INTERNAL

    return audience


def _host(authority: str) -> str:
    """Return the host name in *authority*; one that makes no sense is no name."""
    try:
        return (urlsplit(f"//{authority}").hostname or "").rstrip(".")
    except ValueError:
        return ""
