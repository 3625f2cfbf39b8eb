"""What `import otel_orders` costs over importing the OpenTelemetry API, each in a fresh interpreter."""

from __future__ import annotations

import statistics
import subprocess
import sys

from tests.benchmarks.harness import Figure, benchmark

API = "import opentelemetry.trace, opentelemetry.context, opentelemetry.baggage, opentelemetry.propagate"
ROUNDS = 11

_TIMED = "import time; before = time.process_time(); {}; print(time.process_time() - before)"


@benchmark("import", budget=150)
def import_otel_orders(name: str, budget: float) -> Figure:
    pairs = [(_milliseconds(f"{API}; import otel_orders"), _milliseconds(API)) for _ in range(ROUNDS)]
    extra = statistics.median(ours - api for ours, api in pairs)
    return Figure(
        name=name,
        value=extra,
        unit="ms over the OpenTelemetry API",
        peer=statistics.median(api for _, api in pairs),
        budget=budget,
        holds=extra <= budget,
        counts="CPU of a fresh interpreter, files cached",
    )


def _milliseconds(statement: str) -> float:
    ran = subprocess.run([sys.executable, "-c", _TIMED.format(statement)], check=True, capture_output=True, text=True)
    return float(ran.stdout) * 1000
