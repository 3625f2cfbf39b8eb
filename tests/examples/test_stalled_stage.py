"""A stage of the running pipeline that stops: found, explained, and well again when its workers are back."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from examples.order_pipeline.scenarios.processes import Services
from examples.order_pipeline.scenarios.sidecar import start_ledger
from otel_orders import names
from tests.examples.running import eventually
from tests.promised import found, scraped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from examples.order_pipeline.scenarios.broker import Broker
    from tests.examples.running import Running

pytestmark = pytest.mark.broker

QUEUE = "pricing.requests"
FOUND_WITHIN = 60
"""Seconds: 6 s without a departure, statistics of 5 s, probes and looks of 2 s each; on a machine that is busy."""


def submit(running: Running) -> str:
    order_id = running.create()
    running.upload(order_id).raise_for_status()
    running.submit(order_id).raise_for_status()
    return order_id


@contextmanager
def ledger(running: Running, broker: Broker, folder: Path) -> Iterator[str]:
    with Services(folder, {}) as services:
        yield start_ledger(services, folder, running.events_file, broker, running.pipeline.amqp_url).address()


def stage(url: str) -> dict[str, Any]:
    stages = httpx.get(f"{url}/stages", trust_env=False).raise_for_status().json()["stages"]
    return dict(next(one for one in stages if one["status"] == "SUBMITTED"))


def test_when_the_pricing_workers_die_the_stage_is_stalled_until_they_are_back(
    running: Running, broker: Broker, tmp_path: Path
) -> None:
    if broker.management_url is None:
        pytest.skip("the broker shows no management API")
    with ledger(running, broker, tmp_path) as url:
        running.wait_for(submit(running), "PRICE_CALCULATED")
        eventually(lambda: f"queue {QUEUE} is empty, 1 consumer" in stage(url)["evidence"])
        assert stage(url)["state"] == "flowing"

        for worker in running.workers:
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait(10)
        waiting = [submit(running) for _ in range(3)]
        try:
            expected = f"queue {QUEUE} holds 3, no consumer"
            eventually(lambda: stage(url)["state"] == "stalled" and expected in stage(url)["evidence"], FOUND_WITHIN)
            assert stage(url)["evidence"].startswith("no order has left SUBMITTED for ")
            # Their heartbeats are gone too, and still it is not called blind: the broker knows.
            eventually(lambda: "pricing-worker has been quiet for " in stage(url)["evidence"], FOUND_WITHIN)
            assert stage(url)["state"] == "stalled"
            told = httpx.get(f"{url}/orders/{waiting[0]}", trust_env=False).json()
            assert told["stage"]["state"] == "stalled"
            metrics = scraped(f"{url}/metrics")
            assert [sample.value for sample in found(metrics, names.STAGE_STALLED, status="SUBMITTED")] == [1]
            (oldest,) = found(metrics, names.QUEUE_OLDEST, queue=QUEUE)
            assert oldest.labels["source"] == "ledger"
            (published,) = [event for event in told["events"] if event["event_type"] == names.MESSAGE_PUBLISHED]
            assert oldest.value == pytest.approx(published["occurred_at"] / 1e9)
        finally:
            running.workers[:] = running.pipeline.start_pricing_workers(1)
        for order_id in waiting:
            running.wait_for(order_id, "PRICE_CALCULATED")
        eventually(lambda: stage(url)["state"] == "flowing", FOUND_WITHIN)
        eventually(lambda: not found(scraped(f"{url}/metrics"), names.QUEUE_OLDEST, queue=QUEUE))
        assert [sample.value for sample in found(scraped(f"{url}/metrics"), names.MESSAGES_GONE)] == [0]
