"""What a gateway still does when it is full, when it is stopped, and when a trace store is away."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import httpx

from tests.collector.gate import gate, post
from tests.collector.orders import Order, request
from tests.collector.processes import AGENT, BALANCER, COLLECTOR, GATEWAY, collecting
from tests.sinks.receiver import receiver, wait_for

ORDERS = [Order(number) for number in range(200)]
ALL = [span for order in ORDERS for span in order.spans()]
FAILED = {span.span_id for span in ALL if span.status.code == span.status.STATUS_CODE_ERROR} | {
    span.span_id for span in ALL if any(pair.key == "error_code" for pair in span.attributes)
}
KEPT = {span for order in ORDERS for span in order.ordinary_spans | order.spans_of_problems} - {
    order.late.span_id for order in ORDERS
}


def test_an_error_is_kept_while_the_tail_sampler_is_full(binary: Path, tmp_path: Path) -> None:
    full = {"OTELCOL_TRACES_KEPT": "1", "OTELCOL_DECISION_WAIT": "10m"}
    with receiver() as store, collecting(binary, GATEWAY, tmp_path, OTELCOL_TRACES=store.url, **full) as gateway:
        with httpx.Client(base_url=gateway.url, trust_env=False, timeout=1) as client, suppress(httpx.TimeoutException):
            client.post(
                "/v1/traces",
                content=request(ALL).SerializeToString(),
                headers={"content-type": "application/x-protobuf"},
            )
        wait_for(lambda: {span.span_id for span in store.spans} == FAILED)


def test_what_waits_for_its_judgement_is_judged_when_the_gateway_is_stopped(binary: Path, tmp_path: Path) -> None:
    with (
        receiver() as store,
        collecting(binary, GATEWAY, tmp_path, OTELCOL_TRACES=store.url, OTELCOL_DECISION_WAIT="10m") as gateway,
        httpx.Client(base_url=gateway.url, trust_env=False, timeout=30) as client,
    ):
        post(client, "/v1/traces", request(ALL))
        assert gateway.stop() == 0
        gateway.restart()  # it sends what it had judged and could not send any more
        wait_for(lambda: {span.span_id for span in store.spans} == KEPT)


def test_kept_traces_outlive_a_store_that_is_away_and_a_killed_gateway(binary: Path, tmp_path: Path) -> None:
    with (
        receiver() as store,
        gate(store.url) as way,
        collecting(binary, GATEWAY, tmp_path, OTELCOL_TRACES=way.url, OTELCOL_DECISION_WAIT="1s") as gateway,
        httpx.Client(base_url=gateway.url, trust_env=False, timeout=30) as client,
    ):
        way.close()
        post(client, "/v1/traces", request(ALL))
        queued = "otelcol_exporter_queue_size"
        wait_for(lambda: gateway.metric(queued, exporter="otlp_http/ordinary_traces") > 0, seconds=60)
        wait_for(lambda: gateway.metric("otelcol_processor_tail_sampling_sampling_traces_on_memory") == 0)
        gateway.kill()
        way.open()
        gateway.restart()
        wait_for(lambda: {span.span_id for span in store.spans} >= KEPT, seconds=60)


def test_a_gateway_that_is_away_costs_the_other_ones_traces_nothing(binary: Path, tmp_path: Path) -> None:
    with (
        receiver() as store,
        collecting(binary, GATEWAY, tmp_path / "one", OTELCOL_TRACES=store.url) as one,
        collecting(binary, GATEWAY, tmp_path / "two", OTELCOL_TRACES=store.url) as two,
        collecting(binary, BALANCER, tmp_path, OTELCOL_GATEWAYS=f"[{one.grpc}, {two.grpc}]") as balancer,
        httpx.Client(base_url=balancer.url, trust_env=False, timeout=30) as client,
    ):
        two.kill()
        for place in range(0, len(ALL), 450):
            post(client, "/v1/traces", request(ALL[place : place + 450]))
        wait_for(lambda: balancer.metric("otelcol_loadbalancer_backend_outcome_total", success="true") > 0)
        wait_for(lambda: len(store.spans) > len(KEPT) // 5, seconds=60)
        two.restart()
        wait_for(lambda: {span.span_id for span in store.spans} >= KEPT, seconds=60)
        assert {span.span_id for span in store.spans} == KEPT
        assert len(store.spans) == len(KEPT)


def test_an_agents_queue_outlives_its_change_to_a_balancer_when_its_file_is_renamed_as_the_readme_says(
    binary: Path, tmp_path: Path
) -> None:
    with (
        collecting(binary, AGENT, tmp_path / "agent") as agent,
        httpx.Client(base_url=agent.url, trust_env=False, timeout=30) as client,
    ):
        post(client, "/v1/traces", request(ALL))
        assert agent.stop() == 0
    _, move, files = (COLLECTOR / "README.md").read_text().rpartition("    mv ")
    old, new = (move + files).split("\n")[0].replace("$OTELCOL_STATE", str(tmp_path / "agent/state")).split()[1:]
    Path(old).rename(new)
    with (
        receiver() as store,
        collecting(binary, GATEWAY, tmp_path / "gateway", OTELCOL_TRACES=store.url) as gateway,
        collecting(binary, BALANCER, tmp_path / "agent", OTELCOL_GATEWAYS=f"[{gateway.grpc}]"),
    ):
        wait_for(lambda: {span.span_id for span in store.spans} == KEPT, seconds=60)
