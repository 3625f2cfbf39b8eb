"""What HTTP clients and servers share: the rules of OpenTelemetry's HTTP conventions, how a host is spelled, and which
address is private.

Pure: knows neither httpx nor ASGI.
"""

from __future__ import annotations

import ipaddress
from contextlib import suppress

from opentelemetry.semconv.attributes.http_attributes import HTTP_REQUEST_METHOD, HTTP_REQUEST_METHOD_ORIGINAL

KNOWN_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
PRIVATE_NETWORKS = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
"""Not what ipaddress calls private: that has link-local addresses too, where clouds answer with credentials."""

CLOUD_NETWORKS = tuple(map(ipaddress.ip_network, ("fd00:ec2::/32", "fd20:ce::/32")))
"""Inside fc00::/7, and yet the cloud's own: AWS and Google answer there with credentials as well."""


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
    if any(address in network for network in CLOUD_NETWORKS):
        return False
    return address.is_loopback or any(address in network for network in PRIVATE_NETWORKS)


def spelled(host: str) -> str:
    """Return *host* in the one spelling by which hosts are compared: that of the wire, in lower case.

    Names are IDNA-encoded and have no dot of the root, addresses are in their shortest form.  The dot that a suffix
    starts with stays.
    """
    plain = host.lower().rstrip(".")
    with suppress(ValueError):
        return str(ipaddress.ip_address(plain.strip("[]")))
    name = plain.lstrip(".")
    if not name.isascii():
        import idna  # noqa: PLC0415 - its tables are large, and such names are few

        with suppress(idna.IDNAError):  # it is on no wire, and equals itself only
            return plain[: len(plain) - len(name)] + idna.encode(name).decode("ascii")
    return plain
