"""The gateway's config on the real Collector: spans a second of its CPU, and memory while traces wait to be judged.

The load are orders of three traces of three spans, from a sender that keeps a pace, or sends as fast as it is answered;
the trace store takes everything at once and counts it.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

import httpx

from tests.benchmarks.harness import Figure, benchmark
from tests.collector.gate import post
from tests.collector.orders import Order, request
from tests.collector.processes import COLLECTOR, GATEWAY, Collector, collecting
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

SPANS = 9
"""Of each order."""
GROUP = 100
"""Orders in one request."""
MEGABYTE = 1 << 20
WAITING = "otelcol_processor_tail_sampling_sampling_traces_on_memory"


class Load(NamedTuple):
    """What a run cost.  seconds: of sending.  cpu: seconds.  memory: at most, bytes.  refused: requests."""

    spans: int
    seconds: float
    cpu: float
    memory: int
    refused: int


def run(rate: float | None, wait: int, seconds: float, **environ: str) -> Load:
    """Send *rate* spans a second (None: as fast as they are taken) for *seconds*, judged after *wait* seconds."""
    binary = Path(subprocess.run([COLLECTOR / "build"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
    with (
        tempfile.TemporaryDirectory() as folder,
        _store() as url,
        collecting(
            binary, GATEWAY, Path(folder), OTELCOL_TRACES=url, OTELCOL_DECISION_WAIT=f"{wait}s", **environ
        ) as collector,
    ):
        return _sent(collector, rate, seconds)


def _sent(collector: Collector, rate: float | None, seconds: float) -> Load:
    began, before, refused = time.monotonic(), collector.cpu(), 0
    with httpx.Client(base_url=collector.url, trust_env=False, timeout=30) as client:
        for group in count():
            if time.monotonic() - began >= seconds:
                break
            orders = (Order(number) for number in range(group * GROUP, (group + 1) * GROUP))
            refused += post(client, "/v1/traces", request(span for order in orders for span in order.spans()))
            if rate is not None:
                time.sleep(max(0.0, began + (group + 1) * GROUP * SPANS / rate - time.monotonic()))
    took = time.monotonic() - began
    wait_for(lambda: collector.metric(WAITING) == 0, seconds=120)
    return Load(group * GROUP * SPANS, took, collector.cpu() - before, collector.memory("VmHWM"), refused)


@contextmanager
def _store() -> Iterator[str]:
    """Be a trace store that looks at nothing, so that the cores are the Collector's."""

    class Endpoint(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@benchmark("collector/spans_per_core", budget=10_000)
def spans_per_core(name: str, budget: float) -> Figure:
    """Measure how many spans a second one core takes through the whole gateway: judged, and the kept ones exported."""
    load = run(None, wait=2, seconds=20)
    value = load.spans / load.cpu
    return Figure(
        name=name,
        value=value,
        unit="spans/s",
        budget=budget,
        holds=value >= budget,
        counts=f"CPU of the Collector, {load.spans / load.seconds:,.0f} spans/s sent by one sender",
    )


@benchmark("collector/rss", budget=512)
def rss(name: str, budget: float) -> Figure:
    """Measure the most memory at 1,000 spans/s, with traces that wait 10 s."""
    load = run(1_000, wait=10, seconds=30)
    value = load.memory / MEGABYTE
    return Figure(
        name=name,
        value=value,
        unit="MiB",
        budget=budget,
        holds=value <= budget,
        counts="resident memory of the Collector, at most, at 1,000 spans/s that wait 10 s",
    )
