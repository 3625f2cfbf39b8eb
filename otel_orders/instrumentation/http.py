"""What HTTP clients and servers share: the rules of OpenTelemetry's HTTP conventions, and which address is private.

Pure: knows neither httpx nor ASGI.
"""

from __future__ import annotations

import ipaddress

from opentelemetry.semconv.attributes.http_attributes import HTTP_REQUEST_METHOD, HTTP_REQUEST_METHOD_ORIGINAL

KNOWN_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def named_method(method: str) -> tuple[str, dict[str, str]]:
    """Return *method* as it stands in a span's name, and its attributes.

    A method that nobody knows is `HTTP` in the name and `_OTHER` in the attribute: a client invents such ones, and
    both must stay few.
    """
    if method in KNOWN_METHODS:
        return method, {HTTP_REQUEST_METHOD: method}
    return "HTTP", {HTTP_REQUEST_METHOD: "_OTHER", HTTP_REQUEST_METHOD_ORIGINAL: method[:64]}


def is_private(host: str) -> bool:
    """Return whether *host* is the literal of a loopback or private IP address (link-local ones are not)."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or (address.is_private and not address.is_link_local)
