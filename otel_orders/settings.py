"""The environment, read once into one frozen struct.

Standard OpenTelemetry variables keep their meaning; ours start with OTEL_ORDERS_.  A wrong value is one
ConfigurationError that names the variable, what it held (never a secret) and what was expected.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote

import msgspec

from otel_orders.errors import ConfigurationError
from otel_orders.notation import Duration, parse_duration
from otel_orders.privacy import PseudonymKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

SECOND = 1_000_000_000
MAX_PORT = 65535
PSEUDONYM_KEY = "OTEL_ORDERS_PSEUDONYM_KEY"

_NO_HOST = re.compile(r"[\s:/@*?#%\[\]]")
"""What is in a URL, an authority or a pattern, and in no name."""


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment says about HTTP.  Hosts are names, or suffixes that start with a dot.

    internal_hosts: those that may see baggage and order ids.  no_trace_hosts: those that are told nothing at all, the
    trace included.  pseudonym_hosts: those that see the order as pseudonym, made with pseudonym_key, which is the
    environment's own: staging's pseudonyms stand for nothing in production.
    excluded_urls: regular expressions; a request whose URL has a match gets no span.
    """

    internal_hosts: tuple[str, ...] = ()
    no_trace_hosts: tuple[str, ...] = ()
    pseudonym_hosts: tuple[str, ...] = ()
    pseudonym_key: PseudonymKey | None = None
    excluded_urls: tuple[str, ...] = ()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment says.

    service, env: the names on every event.  instance, role: of this process, for heartbeats.
    lifecycle: path of lifecycle.yaml, or None.
    json_lines: where event records go as JSON lines: a path, "stdout", "stderr" or "none"; None: configure() chooses.
    otlp_spans, otlp_events: the protocol to send spans and event records with, "grpc" or "http/protobuf"; None where
    no endpoint is configured for them, or OTEL_TRACES_EXPORTER or OTEL_LOGS_EXPORTER is "none".
    heartbeat: time between two heartbeats; 0 sends none.
    trace_young_for: how long after its start a trace is continued over a queue rather than linked.
    internal_hosts: hosts, or suffixes that start with a dot, that may see baggage and order ids.
    mask_keys, plain_keys: keys added to, and taken from, those whose values are masked.
    metrics_port: port of the /metrics page of a service without one of its own, None for none.
    """

    service: str
    env: str = "dev"
    instance: str = ""
    role: str = ""
    lifecycle: str | None = None
    json_lines: str | None = None
    otlp_spans: str | None = None
    otlp_events: str | None = None
    heartbeat: Duration = Duration(15 * SECOND)
    trace_young_for: Duration = Duration(20 * SECOND)
    internal_hosts: tuple[str, ...] = ()
    mask_keys: tuple[str, ...] = ()
    plain_keys: tuple[str, ...] = ()
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    disabled: bool = False


def read_settings(service: str | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings that *environ* (the process's own by default) holds; *service* wins over its name there.

    Raises ConfigurationError where a variable cannot be read or no service name is to be found.
    """
    env = os.environ if environ is None else environ
    resource = _resource_attributes(env)
    name = service or env.get("OTEL_SERVICE_NAME") or resource.get("service.name")
    if not name:
        raise ConfigurationError("no service name: call configure(service=...) or set OTEL_SERVICE_NAME")
    return Settings(
        service=name,
        env=env.get("OTEL_ORDERS_ENV") or resource.get("deployment.environment.name") or "dev",
        instance=resource.get("service.instance.id") or f"{socket.gethostname()}:{os.getpid()}",
        role=env.get("OTEL_ORDERS_ROLE", ""),
        lifecycle=env.get("OTEL_ORDERS_LIFECYCLE") or None,
        json_lines=env.get("OTEL_ORDERS_JSON_LINES") or None,
        otlp_spans=_otlp(env, "TRACES"),
        otlp_events=_otlp(env, "LOGS"),
        heartbeat=_read(env, "OTEL_ORDERS_HEARTBEAT", Duration(15 * SECOND), _duration_or_off),
        trace_young_for=_read(env, "OTEL_ORDERS_TRACE_YOUNG_FOR", Duration(20 * SECOND), parse_duration),
        internal_hosts=read_http_settings(env).internal_hosts,
        mask_keys=_words(env, "OTEL_ORDERS_MASK_KEYS"),
        plain_keys=_words(env, "OTEL_ORDERS_PLAIN_KEYS"),
        metrics_host=env.get("OTEL_EXPORTER_PROMETHEUS_HOST") or "127.0.0.1",
        metrics_port=_read(env, "OTEL_EXPORTER_PROMETHEUS_PORT", None, _port),
        disabled=env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true",
    )


def read_http_settings(environ: Mapping[str, str] | None = None) -> HttpSettings:
    """Return what *environ* (the process's own by default) says about HTTP.  Raises ConfigurationError."""
    env = os.environ if environ is None else environ
    keys = [key.encode("utf-8", "surrogateescape") for key in _words(env, PSEUDONYM_KEY)]
    found = HttpSettings(
        internal_hosts=_hosts(env, "OTEL_ORDERS_INTERNAL_HOSTS"),
        no_trace_hosts=_hosts(env, "OTEL_ORDERS_NO_TRACE_HOSTS"),
        pseudonym_hosts=_hosts(env, "OTEL_ORDERS_PSEUDONYM_HOSTS"),
        pseudonym_key=PseudonymKey(*keys) if keys else None,
        excluded_urls=_expressions(env, "OTEL_PYTHON_HTTPX_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS"),
    )
    if found.pseudonym_hosts and found.pseudonym_key is None:
        raise ConfigurationError(f"OTEL_ORDERS_PSEUDONYM_HOSTS needs a key: set {PSEUDONYM_KEY}")
    return found


def checked_hosts(where: str, hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Return *hosts*, names or suffixes of *where*; raise ConfigurationError for one that no host could match."""
    for host in hosts:
        if _NO_HOST.search(host) and not _is_address(host):
            raise ConfigurationError(
                f"{where}: {host!r} is no host: expected a name, an address, or a suffix that starts with a dot,"
                " without scheme, port and path"
            )
    return hosts


def _hosts(env: Mapping[str, str], variable: str) -> tuple[str, ...]:
    return checked_hosts(variable, _words(env, variable))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _expressions(env: Mapping[str, str], own: str, general: str) -> tuple[str, ...]:
    """Return the regular expressions in the variable *own*, or else in *general*."""
    variable = own if own in env else general
    expressions = _words(env, variable)
    for expression in expressions:
        try:
            re.compile(expression)
        except re.error as error:
            raise ConfigurationError(f"{variable}: {expression!r} is no regular expression: {error}") from None
    return expressions


def _read(env: Mapping[str, str], variable: str, default: T, parse: Callable[[str], T]) -> T:
    text = env.get(variable, "").strip()
    if not text:
        return default
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigurationError(f"{variable}={text!r}: {error}") from None


def _words(env: Mapping[str, str], variable: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in env.get(variable, "").split(",") if word.strip())


def _duration_or_off(text: str) -> Duration:
    return Duration(0) if text == "0" else parse_duration(text)


def _otlp(env: Mapping[str, str], signal: str) -> str | None:
    """Return the protocol that *signal* is sent with, None where it is not sent; its own variables win."""
    own = "OTEL_EXPORTER_OTLP_{}".format
    general = _read(env, own("PROTOCOL"), "http/protobuf", _protocol)
    protocol = _read(env, own(f"{signal}_PROTOCOL"), general, _protocol)
    endpoint = env.get(own(f"{signal}_ENDPOINT")) or env.get(own("ENDPOINT"))
    if not endpoint or env.get(f"OTEL_{signal}_EXPORTER", "").strip().lower() == "none":
        return None
    if protocol == "http/protobuf" and not endpoint.startswith(("http://", "https://")):
        variable = own(f"{signal}_ENDPOINT") if env.get(own(f"{signal}_ENDPOINT")) else own("ENDPOINT")
        raise ConfigurationError(f"{variable}: expected a URL that starts with http:// or https://")
    return protocol


def _protocol(text: str) -> str:
    if text not in ("grpc", "http/protobuf"):
        raise ValueError("expected grpc or http/protobuf")
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_PORT:
        raise ValueError("expected a port number, 0 to 65535")
    return int(text)


def _resource_attributes(env: Mapping[str, str]) -> dict[str, str]:
    """Return OTEL_RESOURCE_ATTRIBUTES (Resource SDK, "key=value" pairs, percent-encoded) as a dict."""
    pairs = (pair.partition("=") for pair in env.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",") if "=" in pair)
    return {key.strip(): unquote(value.strip()) for key, _, value in pairs}
