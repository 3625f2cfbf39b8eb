"""Importing a CSV event log: a year of orders, rows by time, from the file to the commit."""

from __future__ import annotations

import random
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from otel_orders.cli.ledger import tune_garbage_collection
from otel_orders.ledger.beside import beside
from otel_orders.ledger.event_log import Columns, Mapping, import_log
from otel_orders.ledger.moments import Moments
from otel_orders.lifecycle import load_lifecycle
from tests.benchmarks.harness import Figure, benchmark
from tests.benchmarks.ledger_ingest import LIFECYCLE, NOW, OPEN

ORDERS = 20_000
YEAR = 365 * 86_400


def written(path: Path) -> int:
    """Write the log; return how many events it has."""
    rng = random.Random(7)
    rows: list[tuple[int, str, str]] = []
    for order in range(ORDERS):
        began = NOW // 10**9 - rng.randrange(YEAR)
        for step in OPEN[: rng.randrange(3, len(OPEN) + 1)]:
            began += rng.randrange(60, 86_400)
            rows.append((began, f"order-{order}", step))
    rows.sort()
    with path.open("w") as file:
        file.write("case,activity,timestamp,resource\n")
        file.writelines(
            f"{order},{step},{datetime.fromtimestamp(at, UTC).isoformat()},mes-api\n" for at, order, step in rows
        )
    return len(rows)


@benchmark("ledger/import_csv", budget=20_000)
def import_csv(name: str, budget: float) -> Figure:
    """Measure one import into a new store."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        count = written(path)
        mapping = Mapping(Columns("case", "activity", "timestamp", "resource"), Moments())
        tune_garbage_collection()
        with beside(f"sqlite:///{folder}/ledger.db", load_lifecycle(LIFECYCLE), "bench") as ledger:
            before = time.process_time()
            imported = import_log(path, mapping, ledger)
            seconds = time.process_time() - before
    if imported.results["accepted"] < count * 0.99:
        raise RuntimeError(f"the benchmark's own events were not accepted: {imported.results}, {imported.reasons}")
    rate = count / seconds
    return Figure(
        name=name,
        value=rate,
        unit=f"events/s, {count:,} events of {ORDERS:,} orders",
        budget=budget,
        holds=rate >= budget,
        counts="CPU of the process, from the CSV to the commit, synchronous=FULL",
    )
