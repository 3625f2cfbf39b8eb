"""More than a gateway was sized for: its memory stays within what it was given, and nothing refused is lost."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

import httpx

from tests.collector.gate import post
from tests.collector.orders import Order, in_groups, request
from tests.collector.processes import GATEWAY, collecting
from tests.sinks.receiver import receiver, wait_for

if TYPE_CHECKING:
    from pathlib import Path

MEGABYTE = 1 << 20
MEMORY = 192
"""MiB that the gateway is given.  At 5 s of waiting, the README's table has it take a third of what comes here."""
SENDERS = 4
ORDERS = 24_000


class Flood:
    """Senders that send as fast as they are answered, and again what was refused."""

    def __init__(self, url: str) -> None:
        self.refused = self.most = 0
        self._url = url
        self._threads = [threading.Thread(target=self._send, args=[place]) for place in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def _send(self, place: int) -> None:
        orders = [Order(number) for number in range(place, ORDERS, SENDERS)]
        with httpx.Client(base_url=self._url, trust_env=False, timeout=30) as client:
            for group in in_groups(orders, 100):
                self.refused += post(client, "/v1/traces", request(span for order in group for span in order.spans()))

    def over(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)


def test_a_flood_is_refused_within_bounded_memory_and_what_was_refused_comes_again(
    binary: Path, tmp_path: Path
) -> None:
    limits = {
        "OTELCOL_MEMORY_MIB": str(MEMORY),
        "OTELCOL_SPIKE_MIB": "48",
        "GOMEMLIMIT": f"{MEMORY}MiB",
        "OTELCOL_TRACES_KEPT": "1000000",
        "OTELCOL_DECISION_WAIT": "5s",
    }
    with receiver() as store, collecting(binary, GATEWAY, tmp_path, OTELCOL_TRACES=store.url, **limits) as gateway:
        flood = Flood(gateway.url)
        wait_for(flood.over, seconds=90)
        orders = [Order(number) for number in range(ORDERS)]
        expected = Counter({span for order in orders for span in order.spans_of_problems | order.ordinary_spans})
        late = {order.late.span_id for order in orders if order.trouble == "late"}
        wait_for(lambda: len(store.spans) >= len(expected) - len(late), seconds=60)
        peak = gateway.memory("VmHWM")
        assert flood.refused > 0
        found = Counter(span.span_id for span in store.spans)
        assert expected.keys() - late <= found.keys()
        assert peak < MEMORY * MEGABYTE
