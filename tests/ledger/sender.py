"""A process that keeps the batches it reads: ``python -m tests.ledger.sender STORE``.

One JSON line in is a batch, a list of [order_id, event]; one line out says that it is on disk, and that timers were
looked at up to its newest event.
"""

from __future__ import annotations

import sys

import msgspec

from otel_orders.ledger.kept import Kept
from otel_orders.ledger.store import Batch, Received
from otel_orders.ledger.store.sqlite import SqliteStore
from tests.ledger.strategies import PLAN

decode = msgspec.json.Decoder(list[tuple[str, Kept]]).decode


def main(path: str) -> None:
    batch = Batch(SqliteStore(path), PLAN)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin.buffer:
        received = [Received(*one) for one in decode(line)]
        batch.ingest(received)
        batch.sweep(max(one.event.at for one in received))
        sys.stdout.write("kept\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
