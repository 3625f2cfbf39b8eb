"""What an ASGI scope tells about a request, by OpenTelemetry's HTTP conventions.

Pure; knows of frameworks only where they note the route that matched.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opentelemetry.semconv.attributes.network_attributes import NETWORK_PROTOCOL_VERSION
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.semconv.attributes.url_attributes import URL_PATH, URL_SCHEME

from otel_orders.instrumentation.http import DEFAULT_PORTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_orders.instrumentation.audience import AsgiScope


def attributes_of(scope: AsgiScope, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the attributes that a request has from its start; of its query, none."""
    scheme = scope.get("scheme", "http")
    address, port = scope.get("server") or (None, None)
    with suppress(KeyError, ValueError):  # without a Host header, or with one that makes no sense
        authority = urlsplit(f"//{headers['host']}")
        address, port = authority.hostname, authority.port or DEFAULT_PORTS.get(scheme)
    found = {
        URL_SCHEME: scheme,
        URL_PATH: scope.get("path"),
        SERVER_ADDRESS: address,
        SERVER_PORT: port,
        NETWORK_PROTOCOL_VERSION: scope.get("http_version"),
    }
    return {name: value for name, value in found.items() if value is not None}


def route_of(scope: AsgiScope) -> str | None:
    """Return the path template that Starlette or FastAPI matched, None where none did.

    FastAPI's route inside an included router does not know that router's prefix; what it notes in the scope does.
    """
    noted = scope.get("fastapi")
    chosen = (noted.get("effective_route_context") if isinstance(noted, dict) else None) or scope.get("route")
    path = "" if hasattr(chosen, "routes") else getattr(chosen, "path_format", None)  # a mount's is in root_path
    return scope.get("root_path", "").rstrip("/") + path or "/" if isinstance(path, str) else None
