"""What HTTP clients and servers share: the rules of OpenTelemetry's HTTP conventions, and which address is private.

Pure: knows neither httpx nor ASGI.
"""

from __future__ import annotations

import ipaddress

from opentelemetry.semconv.attributes.http_attributes import HTTP_REQUEST_METHOD, HTTP_REQUEST_METHOD_ORIGINAL

KNOWN_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
PRIVATE_NETWORKS = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
"""Not what ipaddress calls private: that has link-local addresses too, where clouds answer with credentials."""


def named_method(method: str) -> tuple[str, dict[str, str]]:
    """Return *method* as it stands in a span's name, and its attributes.

    A method that nobody knows is `HTTP` in the name and `_OTHER` in the attribute: a client invents such ones, and
    both must stay few.
    """
    if method in KNOWN_METHODS:
        return method, {HTTP_REQUEST_METHOD: method}
    return "HTTP", {HTTP_REQUEST_METHOD: "_OTHER", HTTP_REQUEST_METHOD_ORIGINAL: method[:64]}


def is_private(host: str) -> bool:
    """Return whether *host* is the literal of a loopback or private IP address (RFC 1918, RFC 4193)."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or any(address in network for network in PRIVATE_NETWORKS)
