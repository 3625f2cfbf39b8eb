from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc_spans
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.http import trace_exporter as http_spans
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogExporter

from otel_orders import providers
from otel_orders.settings import read_settings
from otel_orders.sinks.logs import otlp_exporter

if TYPE_CHECKING:
    from collections.abc import Callable


def test_the_resource_says_which_service_instance_and_environment_it_is() -> None:
    settings = read_settings(
        "mes", {"OTEL_ORDERS_ENV": "prod", "OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=mes-1"}
    )
    attributes = providers.resource(settings).attributes
    assert {key: attributes[key] for key in ("service.name", "service.instance.id", "deployment.environment.name")} == {
        "service.name": "mes",
        "service.instance.id": "mes-1",
        "deployment.environment.name": "prod",
    }


def test_the_resource_keeps_what_the_standard_variable_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=gold,service.name=theirs")
    attributes = providers.resource(read_settings("mes")).attributes
    assert (attributes["team"], attributes["service.name"]) == ("gold", "mes")


@pytest.mark.parametrize(
    ("make", "protocol", "kind"),
    [
        (otlp_exporter, "grpc", GrpcLogExporter),
        (otlp_exporter, "http/protobuf", HttpLogExporter),
        (providers._span_exporter, "grpc", grpc_spans.OTLPSpanExporter),
        (providers._span_exporter, "http/protobuf", http_spans.OTLPSpanExporter),
    ],
)
def test_the_protocol_chooses_the_exporter(
    make: Callable[[str], Any], protocol: str, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    exporter = make(protocol)
    assert type(exporter) is kind
    exporter.shutdown()
