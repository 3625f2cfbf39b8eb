"""`opentelemetry-instrument uvicorn ...`: all the entry points at once, as they are installed, in a real process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

APPLICATION = """
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from otel_orders.context import current_order
from otel_orders.instrumentation.asgi import OrderMiddleware

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
trace.set_tracer_provider(provider)
app = FastAPI()
app.add_middleware(OrderMiddleware)


@app.get("/orders/{order_id}")
async def order(order_id: str):
    found = current_order()
    return found and found.order_id
"""
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLER = {"traceparent": PARENT, "baggage": "order_id=4711"}


@pytest.mark.slow
@pytest.mark.parametrize("trusted", [True, False])
def test_a_request_has_one_server_span_by_our_rules(tmp_path: Path, *, trusted: bool) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment |= {
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tool = str(Path(sys.executable).with_name("opentelemetry-instrument"))
    served = ["uvicorn", "application:app", "--log-level", "critical", "--port", str(port)]
    command = [tool, sys.executable, "-m", *served]
    headers = CALLER if trusted else CALLER | {"x-forwarded-for": "8.8.8.8"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as server:
        told = _asked(f"http://127.0.0.1:{port}/orders/4711", headers)
        server.send_signal(signal.SIGINT)
        said, _ = server.communicate(timeout=30)
    assert told == ("4711" if trusted else None)
    (span,) = [span for span in _spans(said) if span["kind"] == "SpanKind.SERVER"]
    assert span["parent_id"] == (f"0x{PARENT[36:52]}" if trusted else None)
    assert [link["context"]["trace_id"] for link in span["links"]] == ([] if trusted else [f"0x{PARENT[3:35]}"])
    assert (span["attributes"].get("order_id") == "4711") is trusted


def _spans(said: str) -> Iterator[dict[str, Any]]:
    """Yield what ConsoleSpanExporter wrote, one JSON object after the other."""
    while said := said.strip():
        span, end = json.JSONDecoder().raw_decode(said)
        yield span
        said = said[end:]


def _asked(url: str, headers: dict[str, str]) -> object:
    """Return the answer, once the server is up."""
    deadline = time.monotonic() + 30
    with httpx.Client(trust_env=False) as client:
        while True:
            try:
                return client.get(url, headers=headers).raise_for_status().json()
            except httpx.ConnectError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
