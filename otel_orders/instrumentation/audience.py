"""Who is served: callers of our own, or the world.  Told from the ASGI scope alone; knows no framework.

    OrderMiddleware(app)                                          # by_client: by the address of the caller
    OrderMiddleware(app, audience=by_path("/public/", "/b2b/"))   # these are for the world
    OrderMiddleware(app, audience=by_host("api.shop.example"))    # so is what comes in by this name
    OrderMiddleware(app, audience=by_header("x-from-edge", "1"))  # and what our edge marks

What only a header says, anybody can say: it makes a caller external, never a trusted one (see OrderMiddleware).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

from otel_orders.errors import ConfigurationError
from otel_orders.instrumentation.http import is_private, spelled
from otel_orders.settings import checked_hosts

AsgiScope = MutableMapping[str, Any]
Audience = Callable[[AsgiScope], str]

INTERNAL: Final = "internal"
EXTERNAL: Final = "external"

CALLER_HEADERS: Final = frozenset(
    {
        "cf-connecting-ip",
        "cf-connecting-ipv6",
        "fastly-client-ip",
        "fly-client-ip",
        "true-client-ip",
        "x-azure-clientip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-envoy-external-address",
        "x-forwarded-for",
        "x-original-forwarded-for",
        "x-real-ip",
    }
)
"""In which proxies name the caller, or themselves, by address."""

PROXY_HEADERS: Final = frozenset({"forwarded", "via", "x-forwarded"})
"""By which a proxy shows itself without an address that could be judged."""

MAX_FORWARDED: Final = 32
"""How many addresses are looked at; a request that names more has come no way of ours."""

_HEADERS: Final = "otel_orders.headers"
"""Under which the scope has its headers as they came and as they were read."""


def headers_of(scope: AsgiScope) -> Mapping[str, str]:
    """Return the request's headers by lower-case name; several of one name as one list (RFC 9110, section 5.3).

    They are read once for each request, however many ask.
    """
    raw = list(scope.get("headers", ()))
    known = scope.get(_HEADERS)
    if known is None or known[0] != raw:  # which a middleware in between may have changed
        known = scope[_HEADERS] = (raw, _read(raw))
    headers: Mapping[str, str] = known[1]
    return headers


def _read(raw: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str]:
    values: dict[str, list[str]] = {}
    for name, value in raw:
        values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return {name: ",".join(several) for name, several in values.items()}


def comes_from_inside(scope: AsgiScope) -> bool:
    """Return whether the caller, and every address that a proxy says it forwarded the request for, is private."""
    client, headers = scope.get("client"), headers_of(scope)
    if not client or not PROXY_HEADERS.isdisjoint(headers):
        return False
    forwarded = ",".join(headers[name] for name in CALLER_HEADERS.intersection(headers))
    if forwarded.count(",") >= MAX_FORWARDED:
        return False
    return all(is_private(address.strip()) for address in (client[0], *filter(None, forwarded.split(","))))


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
    """Return what calls external what comes in under one of the host names *external*; `.name` means all below it.

    Raises ConfigurationError for what is no name, such as one with a port.
    """
    known = tuple(map(spelled, checked_hosts("by_host", external)))
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
        return spelled(urlsplit(f"//{authority}").hostname or "")
    except ValueError:
        return ""
