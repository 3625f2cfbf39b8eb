"""A service of our library that knows the address of its agent: its traces and events arrive where they should."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from otel_orders.event import order_bucket
from tests.collector.gate import accepted
from tests.collector.orders import RATIO
from tests.collector.processes import AGENT, GATEWAY, collecting
from tests.integration.processes import running
from tests.sinks.receiver import attributes, receiver, wait_for

if TYPE_CHECKING:
    from pathlib import Path

ORDERS = 200
BROKEN = 13
SERVICE = f"""
import otel_orders

otel_orders.configure(service="mes-api")
for number in range({ORDERS}):
    order_id = f"A-{{number}}"
    try:
        with otel_orders.transition_context(order_id, "PACKAGING", from_status="MANUFACTURING_COMPLETED"):
            if number == {BROKEN}:
                raise RuntimeError("jammed")
    except RuntimeError:
        pass
"""


def test_an_instrumented_service_needs_the_agents_address_and_no_more(binary: Path, tmp_path: Path) -> None:
    chosen = {f"A-{n}" for n in range(ORDERS) if order_bucket(f"A-{n}") < RATIO * 100}
    with (
        running(tmp_path) as ledger,
        receiver() as store,
        collecting(
            binary, GATEWAY, tmp_path / "gateway", OTELCOL_TRACES=store.url, OTELCOL_LEDGER=ledger.url
        ) as gateway,
        collecting(binary, AGENT, tmp_path / "agent", OTELCOL_GATEWAY=gateway.url, OTELCOL_LEDGER=gateway.url) as agent,
    ):
        own = {"OTEL_EXPORTER_OTLP_ENDPOINT": agent.url, "OTEL_ORDERS_ENV": "test"}
        subprocess.run([sys.executable, "-c", SERVICE], env=os.environ | own, check=True)
        wait_for(lambda: accepted(ledger) == ORDERS, seconds=60)
        wait_for(lambda: {attributes(span)["order_id"] for span in store.spans} == chosen | {f"A-{BROKEN}"}, seconds=60)
        (failed,) = [span for span in store.spans if span.status.code == span.status.STATUS_CODE_ERROR]
        assert attributes(failed)["error_code"] == "RuntimeError"
        with ledger.client() as client:
            assert client.get(f"/orders/A-{BROKEN}").json()["events"][0]["error_code"] == "RuntimeError"
