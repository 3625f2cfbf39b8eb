from __future__ import annotations

import os
import socket

import pytest

from otel_orders.errors import ConfigurationError
from otel_orders.settings import Settings, read_settings

SECOND = 1_000_000_000
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


def test_an_empty_environment_gives_the_defaults() -> None:
    assert read_settings("mes-api", {}) == Settings(
        service="mes-api", instance=f"{socket.gethostname()}:{os.getpid()}", env="dev"
    )


def test_every_variable_is_read() -> None:
    settings = read_settings(
        None,
        {
            "OTEL_SERVICE_NAME": "mes-api",
            "OTEL_ORDERS_ENV": "prod",
            "OTEL_ORDERS_ROLE": "worker",
            "OTEL_ORDERS_LIFECYCLE": "/etc/lifecycle.yaml",
            "OTEL_ORDERS_JSON_LINES": "/var/log/orders.jsonl",
            "OTEL_ORDERS_HEARTBEAT": "5s",
            "OTEL_ORDERS_TRACE_YOUNG_FOR": "1m",
            "OTEL_ORDERS_INTERNAL_HOSTS": "crm, .svc.local",
            "OTEL_ORDERS_MASK_KEYS": "engraving",
            "OTEL_ORDERS_PLAIN_KEYS": "city,",
            "OTEL_EXPORTER_PROMETHEUS_HOST": "0.0.0.0",  # noqa: S104 - read, not listened on
            "OTEL_EXPORTER_PROMETHEUS_PORT": "9464",
            "OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=mes%2D1,team=gold",
            "OTEL_SDK_DISABLED": "True",
            **ENDPOINT,
        },
    )
    assert settings == Settings(
        service="mes-api",
        env="prod",
        instance="mes-1",
        role="worker",
        lifecycle="/etc/lifecycle.yaml",
        json_lines="/var/log/orders.jsonl",
        otlp_spans="http/protobuf",
        otlp_events="http/protobuf",
        heartbeat=settings.heartbeat,
        trace_young_for=settings.trace_young_for,
        internal_hosts=("crm", ".svc.local"),
        mask_keys=("engraving",),
        plain_keys=("city",),
        metrics_host="0.0.0.0",  # noqa: S104
        metrics_port=9464,
        disabled=True,
    )
    assert (int(settings.heartbeat), int(settings.trace_young_for)) == (5 * SECOND, 60 * SECOND)


@pytest.mark.parametrize(
    ("argument", "environ", "service"),
    [
        ("code", {"OTEL_SERVICE_NAME": "variable"}, "code"),
        (None, {"OTEL_SERVICE_NAME": "variable", "OTEL_RESOURCE_ATTRIBUTES": "service.name=resource"}, "variable"),
        (None, {"OTEL_RESOURCE_ATTRIBUTES": "service.name=resource"}, "resource"),
    ],
)
def test_the_service_name_comes_from_the_code_then_the_environment(
    argument: str | None, environ: dict[str, str], service: str
) -> None:
    assert read_settings(argument, environ).service == service


@pytest.mark.parametrize(
    ("environ", "env"),
    [
        ({"OTEL_ORDERS_ENV": "prod", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=stage"}, "prod"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=stage"}, "stage"),
    ],
)
def test_the_environment_name_comes_from_our_variable_then_the_standard_one(environ: dict[str, str], env: str) -> None:
    assert read_settings("mes", environ).env == env


def test_without_any_service_name_it_says_how_to_give_one() -> None:
    with pytest.raises(ConfigurationError, match=r"configure\(service=...\).*OTEL_SERVICE_NAME"):
        read_settings(None, {})


@pytest.mark.parametrize(
    ("environ", "spans", "events"),
    [
        ({}, None, None),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://tempo:4318/v1/traces"}, "http/protobuf", None),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://ledger:4318/v1/logs"}, None, "http/protobuf"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc", "grpc"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc"}, "http/protobuf", "grpc"),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, None, "http/protobuf"),
        (ENDPOINT | {"OTEL_LOGS_EXPORTER": "none"}, "http/protobuf", None),
    ],
)
def test_each_signal_is_sent_where_its_own_variables_say(
    environ: dict[str, str], spans: str | None, events: str | None
) -> None:
    settings = read_settings("mes", environ)
    assert (settings.otlp_spans, settings.otlp_events) == (spans, events)


def test_a_list_of_hosts_takes_names_suffixes_and_addresses() -> None:
    listed = "mes, .bücher.example,10.0.0.1,::1,[fd00::1]"
    assert read_settings("mes", {"OTEL_ORDERS_INTERNAL_HOSTS": listed}).internal_hosts[1:] == (
        ".bücher.example",
        "10.0.0.1",
        "::1",
        "[fd00::1]",
    )


def test_a_heartbeat_of_zero_sends_none() -> None:
    assert int(read_settings("mes", {"OTEL_ORDERS_HEARTBEAT": "0"}).heartbeat) == 0


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("OTEL_ORDERS_HEARTBEAT", "soon", "duration such as"),
        ("OTEL_ORDERS_TRACE_YOUNG_FOR", "20", "duration such as"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "grpc or http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "carrier pigeon", "grpc or http/protobuf"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "65536", "port number, 0 to 65535"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "-1", "port number, 0 to 65535"),
        ("OTEL_ORDERS_INTERNAL_HOSTS", "mes.example:8443", "without scheme, port and path"),
        ("OTEL_ORDERS_INTERNAL_HOSTS", "[::1]:8443", "without scheme, port and path"),
        ("OTEL_ORDERS_NO_TRACE_HOSTS", "https://bank.example", "without scheme, port and path"),
        ("OTEL_ORDERS_PSEUDONYM_HOSTS", "*.partner.example", "a suffix that starts with a dot"),
    ],
)
def test_a_wrong_value_names_its_variable_what_it_held_and_what_was_expected(
    variable: str, text: str, expected: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_settings("mes", {variable: text})
    assert variable in str(caught.value)
    assert text in str(caught.value)
    assert expected in str(caught.value)
