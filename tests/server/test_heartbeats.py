"""Heartbeats from configure() to the board, over OTLP as all events go."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

import otel_orders
from otel_orders.ledger.passing import BEAT
from otel_orders.lifecycle import load_lifecycle
from tests.ledger.senders import ENV
from tests.ledger.strategies import LIFECYCLE
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from otel_orders.ledger.service import Ledger

OTHER = """
version: 1
statuses:
  INITIATED: {owner: us, initial: true, next: [CLOSED]}
  CLOSED: {owner: us, terminal: true}
owners: {us: {services: [pricing-worker]}}
"""


@pytest.mark.parametrize("same", [True, False])
def test_instance_role_and_lifecycle_of_a_service_arrive(
    ledger: Ledger, client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, same: bool
) -> None:
    (tmp_path / "other.yaml").write_text(OTHER)
    running = LIFECYCLE if same else load_lifecycle(tmp_path / "other.yaml")
    for name, value in {
        "OTEL_EXPORTER_OTLP_ENDPOINT": str(client.base_url),
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_ORDERS_ENV": ENV,
        "OTEL_ORDERS_ROLE": "batch",
        "OTEL_ORDERS_HEARTBEAT": "50ms",
        "OTEL_BLRP_SCHEDULE_DELAY": "50",
    }.items():
        monkeypatch.setenv(name, value)
    runtime = otel_orders.configure(
        "pricing-worker", lifecycle=running, registry=CollectorRegistry(), log_lines=False, instrument=False
    )
    try:
        wait_for(ledger._store.seen)
    finally:
        runtime.shutdown()
    (seen,) = ledger._store.seen()
    assert (seen.service, seen.role, seen.lifecycle_hash) == ("pricing-worker", "batch", running.hash)
    assert seen.instance.endswith(f":{os.getpid()}")
    assert list(ledger._store.moments()) == [(BEAT, "pricing-worker", "batch")]
    others = client.get("/stages").json()["other_lifecycles"]
    assert [other["service"] for other in others] == ([] if same else ["pricing-worker"])
