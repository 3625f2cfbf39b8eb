"""The queries of the README's section on health name metrics that the real Collector has."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
import yaml

from tests.collector.far_end import far_end
from tests.collector.orders import request
from tests.collector.planted import span
from tests.collector.processes import COLLECTOR, GATEWAY, collecting
from tests.ledger import senders
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.collector.processes import Collector

HEALTH = (COLLECTOR / "README.md").read_text().split("\n## Health\n")[1].split("\n## ")[0]
NAMED = sorted(set(re.findall(r"otelcol_[a-z_]+", HEALTH)))
NO_QUEUE = {"sending_queue": {"queue_size": 1, "batch": {"sizer": "items", "min_size": 1, "max_size": 1}}}
PROTOBUF = {"content-type": "application/x-protobuf"}


def names(gateway: Collector) -> set[str]:
    """Return the names on its metrics page, as they are written there."""
    return set(re.findall(r"^(\w+)[{ ]", gateway.page(), re.MULTILINE))


@contextmanager
def fed(binary: Path, configs: tuple[str, ...], folder: Path, *awaited: str, **environ: str) -> Iterator[set[str]]:
    """Send a failed span and an event record, again and again, until the *awaited* metrics exist."""
    spans, records = request([span("a@b.example", 1)]), senders.logs([senders.changed("A-1")])
    with (
        collecting(binary, configs, folder, **environ) as gateway,
        httpx.Client(base_url=gateway.url, trust_env=False, headers=PROTOBUF) as client,
    ):

        def seen() -> bool:
            client.post("/v1/traces", content=spans.SerializeToString())
            client.post("/v1/logs", content=records.SerializeToString())
            return set(awaited) <= names(gateway)

        wait_for(seen)
        yield names(gateway)


@pytest.fixture(scope="module")
def existing(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names that gateways have whose stores refuse, whose queue is full, and that are short of memory."""
    folder = tmp_path_factory.mktemp("health")
    small = folder / "small.yaml"
    small.write_text(yaml.safe_dump({"exporters": {"otlp_http/problem_traces": NO_QUEUE}}))
    failed = ("otelcol_exporter_send_failed_spans", "otelcol_exporter_send_failed_log_records")
    judged = "otelcol_processor_tail_sampling_sampling_policy_evaluation_error"
    refused = ("otelcol_receiver_refused_spans", "otelcol_processor_memory_limiter_refused_log_records")
    short = {"OTELCOL_MEMORY_MIB": "8", "OTELCOL_SPIKE_MIB": "4"}
    with far_end(status=400) as store:
        stores = {"OTELCOL_TRACES": store.url, "OTELCOL_LEDGER": store.url}
        with (
            fed(binary, (*GATEWAY, "loki"), folder / "refusing", *failed, judged, **stores) as one,
            fed(binary, (*GATEWAY, str(small)), folder / "full", "otelcol_exporter_enqueue_failed_spans") as two,
            fed(binary, GATEWAY, folder / "short", *refused, **short) as three,
        ):
            return one | two | three


@pytest.mark.parametrize("name", NAMED)
def test_a_metric_that_the_readme_asks_for_exists(existing: set[str], name: str) -> None:
    assert name in existing
