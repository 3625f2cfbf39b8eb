"""The layers of stores and of guards: every combination is one config, and each store gets what it is for."""

from __future__ import annotations

import subprocess
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import combinations
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_orders.personal_data import IDS
from tests.collector.certificates import Authority
from tests.collector.far_end import FarEnd, far_end
from tests.collector.gate import post
from tests.collector.orders import Order, request
from tests.collector.planted import traces
from tests.collector.processes import AGENT, COLLECTOR, GATEWAY, collecting, command, settings
from tests.ledger.senders import key_values
from tests.sinks.receiver import attributes, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Layers = tuple[str, ...]

OF_A_GATEWAY: list[Layers] = [
    *(("tempo",), ("jaeger",), ("elasticsearch",), ("loki",), ("remote_write",)),
    *(("pseudonyms",), ("tls",), ("tls", "mtls"), ("tokens",), ("ledger_token",)),
]
OF_AN_AGENT: list[Layers] = [
    *(
        ("redaction",),
        ("redaction", "remote_write"),
        ("gateway_token",),
        ("gateway_mtls",),
        ("ledger_token",),
        ("tokens",),
    ),
    *(("balancer", "balancer_dns"), ("balancer", "balancer_mtls", "balancer_token")),
]
TOGETHER = [
    *(((*GATEWAY, *layers)) for layers in OF_A_GATEWAY),
    *(((*AGENT, *layers)) for layers in OF_AN_AGENT),
    (*GATEWAY, *dict.fromkeys(layer for layers in OF_A_GATEWAY for layer in layers)),
    (*AGENT, "json_lines", *dict.fromkeys(layer for layers in OF_AN_AGENT for layer in layers)),
    (*(layer for layer in GATEWAY if layer != "otlp_traces"), "tempo"),
]
COUNT = "redaction.redacted.count"
CHOSEN = next(order for order in map(Order, range(1, 1000)) if order.chosen and not order.trouble)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment in which every layer finds what it needs."""
    folder = tmp_path_factory.mktemp("complete")
    authority = Authority(folder, "authority")
    issued = authority.issue("server")
    (folder / "tokens").write_text("a-token\n")
    files = {
        "TLS_CERT": issued.cert,
        "TLS_KEY": issued.key,
        "TLS_CLIENT_CA": authority.cert,
        "TOKENS": folder / "tokens",
    }
    files |= {"GATEWAY_CA": authority.cert, "CLIENT_CERT": issued.cert, "CLIENT_KEY": issued.key}
    secrets = {
        "GATEWAYS_NAME": "localhost",
        "PSEUDONYM_KEY": "k" * 32,
        "LEDGER_TOKEN": "t",
        "GATEWAY_TOKEN": "t",
        "ELASTICSEARCH_API_KEY": "k",
    }
    return {f"OTELCOL_{name}": str(value) for name, value in (files | secrets).items()}


def validated(binary: Path, configs: Layers, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(binary, configs, "validate"), env=environ, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("configs", TOGETHER, ids="+".join)
def test_each_layer_and_all_of_them_together_are_valid_and_start_without_a_complaint(
    binary: Path, tmp_path: Path, complete: dict[str, str], configs: Layers
) -> None:
    with collecting(binary, configs, tmp_path, **complete) as collector:
        assert collector.stop() == 0
    complaints = [line for line in collector.log.splitlines() if "\twarn\t" in line or "\terror\t" in line]
    assert [line for line in complaints if "grpc_log" not in line] == []  # the balancer's gateways are not there


BALANCERS_TLS = ("exporters", "load_balancing", "protocol", "otlp", "tls", "insecure")


def leaves(tree: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Return what a config sets, by its path; lists count as one value, since they replace each other."""
    if not isinstance(tree, dict) or not tree:
        return {path: tree}
    return {place: value for key, below in tree.items() for place, value in leaves(below, (*path, str(key))).items()}


LAYERS = sorted({layer for layers in (*OF_A_GATEWAY, *OF_AN_AGENT) for layer in layers} | {"known_keys"})


def test_no_two_layers_say_different_things_so_their_order_does_not_matter_and_all_subsets_are_unions() -> None:
    said = {layer: leaves(yaml.safe_load((COLLECTOR / f"{layer}.yaml").read_text())) for layer in LAYERS}
    different = {
        (one, other, place)
        for one, other in combinations(LAYERS, 2)
        for place in said[one].keys() & said[other].keys()
        if said[one][place] != said[other][place]
    }
    # The one exception comes after the layer that it is for.
    assert different == {("balancer", "balancer_mtls", BALANCERS_TLS)}


PAIRS = [
    (*GATEWAY, *first, *(layer for layer in second if layer not in first))
    for first, second in combinations(OF_A_GATEWAY, 2)
]


@pytest.mark.parametrize("configs", PAIRS, ids="+".join)
def test_any_two_layers_of_a_gateway_are_valid_together(
    binary: Path, tmp_path: Path, complete: dict[str, str], configs: Layers
) -> None:
    found = validated(binary, configs, settings(tmp_path) | complete)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("layer", ["redaction", "otlp_traces"])
def test_a_gateway_without_redaction_or_without_a_store_does_not_start(
    binary: Path, tmp_path: Path, layer: str
) -> None:
    configs = tuple(one for one in GATEWAY if one != layer)
    assert validated(binary, configs, settings(tmp_path)).returncode != 0


def test_without_known_keys_no_text_leaves(binary: Path, tmp_path: Path) -> None:
    configs = tuple(one for one in GATEWAY if one != "known_keys")
    with far_end() as store, collecting(binary, configs, tmp_path, OTELCOL_TRACES=store.url) as gateway:
        with httpx.Client(base_url=gateway.url, trust_env=False) as client:
            post(client, "/v1/traces", traces(["harmless"]))
        wait_for(store.spans)
    assert b"harmless" not in store.raw
    assert {key for span in store.spans() for key in attributes(span)} == {"order_id", "order_bucket", COUNT} | IDS


class Stores:
    """All stores at once, and what came to each."""

    def __init__(self, tempo: FarEnd, problems: FarEnd, ordinary: FarEnd, rest: FarEnd) -> None:
        self.tempo, self.problems, self.ordinary, self.rest = tempo, problems, ordinary, rest


def failing() -> Order:
    return next(order for order in map(Order, range(0, 2000, 20)) if order.trouble == "error" and not order.chosen)


def log_lines() -> ExportLogsServiceRequest:
    made = ExportLogsServiceRequest()
    block = made.resource_logs.add()
    block.resource.attributes.extend(key_values({"service.name": "mes-api", "order_id": "A-1"}))
    records = block.scope_logs.add().log_records
    for severity, text in ((9, "packed"), (17, "the printer is on fire"), (0, "no severity")):
        record = records.add(severity_number=severity, attributes=key_values({"order_id": "A-1"}))
        record.body.string_value = text
    records.add(
        attributes=key_values({"event_type": "order.status_changed", "order_id": "A-1", "to_status": "SUBMITTED"})
    )
    return made


@pytest.fixture(scope="module")
def stores(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    layers = ("tempo", "jaeger", "elasticsearch", "loki", "remote_write")
    configs = (*(layer for layer in GATEWAY if layer != "otlp_traces"), *layers)
    with ExitStack() as stack:
        found = Stores(*(stack.enter_context(far_end()) for _ in range(4)))
        environ = {
            "OTELCOL_TEMPO": found.tempo.url,
            "OTELCOL_JAEGER_PROBLEMS": found.problems.url,
            "OTELCOL_JAEGER_ORDINARY": found.ordinary.url,
            "OTELCOL_LOKI": found.rest.url,
            "OTELCOL_ELASTICSEARCH": found.rest.url,
            "OTELCOL_ELASTICSEARCH_API_KEY": "encoded==",
            "OTELCOL_REMOTE_WRITE": f"{found.rest.url}/api/v1/write",
            "OTELCOL_SCRAPE_INTERVAL": "1s",
        }
        folder = tmp_path_factory.mktemp("stores")
        gateway = stack.enter_context(collecting(binary, configs, folder, **environ))
        client = stack.enter_context(httpx.Client(base_url=gateway.url, trust_env=False, timeout=30))
        post(client, "/v1/traces", request([*CHOSEN.spans(), *failing().spans()]))
        post(client, "/v1/logs", log_lines())
        wait_for(lambda: came(found.rest, "/api/v1/write"))
        wait_for(lambda: len(found.tempo.spans()) == len(CHOSEN.ordinary_spans | failing().spans_of_problems))
        assert gateway.stop() == 0
        yield found


def came(store: FarEnd, path: str) -> list[Any]:
    return [arrival for arrival in store.arrivals if arrival.path == path]


def ids(spans: list[Any]) -> set[bytes]:
    return {span.span_id for span in spans}


def test_tempo_has_a_tenant_for_problems_and_one_for_the_rest(stores: Stores) -> None:
    assert ids(stores.tempo.spans(x_scope_orgid="problems")) == failing().spans_of_problems
    assert ids(stores.tempo.spans(x_scope_orgid="ordinary")) == CHOSEN.ordinary_spans


def test_jaeger_has_an_instance_for_problems_and_one_for_the_rest(stores: Stores) -> None:
    assert ids(stores.problems.spans()) == failing().spans_of_problems
    assert ids(stores.ordinary.spans()) == CHOSEN.ordinary_spans


def namespaces(store: FarEnd, signal: str) -> dict[str, set[Any]]:
    """Return the span ids, or the texts, by the data stream that Elasticsearch would put them into."""
    found: dict[str, set[Any]] = {}
    for arrival in came(store, f"/_otlp/v1/{signal}"):
        assert arrival.headers["authorization"] == "ApiKey encoded=="
        traced = signal == "traces"
        message: Any = (ExportTraceServiceRequest if traced else ExportLogsServiceRequest).FromString(arrival.body)
        for block in message.resource_spans if traced else message.resource_logs:
            namespace = attributes(block.resource)["data_stream.namespace"]
            for scope in block.scope_spans if traced else block.scope_logs:
                texts = (
                    [one.span_id for one in scope.spans]
                    if traced
                    else [one.body.string_value for one in scope.log_records]
                )
                found.setdefault(namespace, set()).update(texts)
    return found


def test_elasticsearch_has_data_streams_for_problems_and_others_for_the_rest(stores: Stores) -> None:
    traces = {"problems": failing().spans_of_problems, "ordinary": CHOSEN.ordinary_spans}
    assert namespaces(stores.rest, "traces") == traces
    lines = {"problems": {"the printer is on fire"}, "ordinary": {"packed", "no severity"}}
    assert namespaces(stores.rest, "logs") == lines


@pytest.mark.parametrize(
    ("tenant", "texts"), [("problems", {"the printer is on fire"}), ("ordinary", {"packed", "no severity"})]
)
def test_loki_has_a_tenant_for_errors_and_one_for_the_rest_and_no_event_records(
    stores: Stores, tenant: str, texts: set[str]
) -> None:
    arrivals = [one for one in came(stores.rest, "/otlp/v1/logs") if one.headers["x-scope-orgid"] == tenant]
    requests = [ExportLogsServiceRequest.FromString(arrival.body) for arrival in arrivals]
    blocks = [block for message in requests for block in message.resource_logs]
    records = [record for block in blocks for scope in block.scope_logs for record in scope.log_records]
    assert {record.body.string_value for record in records} == texts
    # What Loki could make a label of is in the resource; what is in the record is structured metadata.
    assert {attributes(record)["order_id"] for record in records} == {"A-1"}
    assert ["order_id" in attributes(block.resource) for block in blocks] == [False] * len(blocks)


PAGE = b"""# TYPE orders_seen counter
orders_seen{customer_email="anna.smith@example.com",path="/find?token=s3cr3tToken",queue="pricing.requests"} 7
"""


def test_a_label_that_is_personal_is_masked_and_others_stay(binary: Path, tmp_path: Path) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(PAGE)

        def log_message(self, *args: object) -> None:
            """Stay silent."""

    with far_end() as store, ThreadingHTTPServer(("127.0.0.1", 0), Page) as pages:
        thread = threading.Thread(target=pages.serve_forever, args=[0.05])
        thread.start()
        environ = {
            "OTELCOL_REMOTE_WRITE": f"{store.url}/api/v1/write",
            "OTELCOL_SCRAPE": f"[127.0.0.1:{pages.server_port}]",
            "OTELCOL_SCRAPE_INTERVAL": "1s",
        }
        with collecting(binary, (*AGENT, "redaction", "remote_write"), tmp_path, **environ):
            wait_for(lambda: b"orders_seen" in store.raw)
        pages.shutdown()
        thread.join()
    assert b"pricing.requests" in store.raw
    assert not [secret for secret in (b"anna", b"s3cr3t") if secret in store.raw]


def test_remote_write_has_the_collectors_own_metrics_under_their_own_names(stores: Stores) -> None:
    raw = b"".join(arrival.body for arrival in came(stores.rest, "/api/v1/write"))
    assert b"otelcol_receiver_accepted_spans" in raw
    assert b"promhttp_metric_handler_errors_total" in raw
    assert b"_total_total" not in raw
