"""More than a gateway was sized for: its memory stays within what it was given, and nothing refused is lost."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import httpx

from tests.collector.gate import post
from tests.collector.orders import TRACES, Order, in_groups, request
from tests.collector.processes import GATEWAY, Collector, collecting
from tests.sinks.receiver import receiver, wait_for

if TYPE_CHECKING:
    from pathlib import Path

MEGABYTE = 1 << 20
GIVEN = 200
"""MiB of memory that the gateway may have."""
SIZED = 3_000
"""Spans a second that it takes in so much memory, with traces that wait 5 s: the README's table."""
LIMITS = {
    "OTELCOL_MEMORY_MIB": str(GIVEN * 8 // 10),
    "OTELCOL_SPIKE_MIB": str(GIVEN * 2 // 10),
    "GOMEMLIMIT": f"{GIVEN * 8 // 10}MiB",
    "OTELCOL_TRACES_KEPT": "1000000",
    "OTELCOL_DECISION_WAIT": "5s",
}
SENDERS = 4
ORDERS = [Order(number) for number in range(15_000)]
SPANS = 3 * len(TRACES)
"""Of each order."""


class Flood:
    """Senders that send as fast as they are answered, and again what was refused."""

    def __init__(self, gateway: Collector) -> None:
        self.refused = self.offered = self.peak = 0
        self.began = time.monotonic()
        self._gateway = gateway
        self._threads = [threading.Thread(target=self._send, args=[place]) for place in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def _send(self, place: int) -> None:
        with httpx.Client(base_url=self._gateway.url, trust_env=False, timeout=30) as client:
            for group in in_groups(ORDERS[place::SENDERS], 100):
                refused = post(client, "/v1/traces", request(span for order in group for span in order.spans()))
                self.refused += refused
                self.offered += (1 + refused) * len(group) * SPANS

    def over(self) -> bool:
        """Look at the gateway's memory, and say whether all senders are done."""
        self.peak = max(self.peak, self._gateway.memory("RssAnon"))
        return not any(thread.is_alive() for thread in self._threads)


def test_a_flood_is_refused_within_bounded_memory_and_what_was_refused_comes_again(
    binary: Path, tmp_path: Path
) -> None:
    with receiver() as store, collecting(binary, GATEWAY, tmp_path, OTELCOL_TRACES=store.url, **LIMITS) as gateway:
        flood = Flood(gateway)
        wait_for(flood.over, seconds=120)
        rate = flood.offered / (time.monotonic() - flood.began)
        sys.stdout.write(f"{rate:,.0f} spans/s, {flood.refused} refused: at most {flood.peak / MEGABYTE:.0f} MiB\n")
        late = {order.late.span_id for order in ORDERS}
        expected = {span for order in ORDERS for span in order.spans_of_problems | order.ordinary_spans} - late
        wait_for(lambda: len(store.spans) >= len(expected), seconds=60)
        assert Counter(span.span_id for span in store.spans).keys() == expected
        assert flood.refused > 0
        assert rate > 3 * SIZED
        assert flood.peak < GIVEN * MEGABYTE
