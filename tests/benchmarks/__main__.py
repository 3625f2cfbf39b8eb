"""Measure and print: ``[JSON=FILE] [ONLY=prefix] python -m tests.benchmarks``.

Ends with status 1 when a figure does not hold its budget.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

from tests.benchmarks.harness import Figure, as_json, selected, table

MODULES = (
    *("transition", "import_time", "instrumentation_amqp", "instrumentation_httpx"),
    *("ledger_ingest", "ledger_otlp", "ledger_postgres", "ledger_import", "ledger_running", "ledger_growth"),
    "collector_gateway",
)


def main() -> int:
    for module in MODULES:
        importlib.import_module(f"tests.benchmarks.{module}")
    figures: list[Figure] = []
    for found in selected(os.environ.get("ONLY", "")):
        sys.stderr.write(f"measuring {found.name} ...\n")
        figures.append(found.measure(found.name, found.budget))
    sys.stdout.write(table(figures) + "\n")
    if target := os.environ.get("JSON"):
        Path(target).write_text(json.dumps(as_json(figures), indent=2) + "\n")
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
