"""The running pipeline, as tests talk to it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from examples.order_pipeline.scenarios.models import ring, stl

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx

    from examples.order_pipeline.scenarios.pipeline import Pipeline
    from examples.order_pipeline.scenarios.processes import Service


class Running(NamedTuple):
    """The pipeline, clients for it, and what its services recorded."""

    pipeline: Pipeline
    workers: list[Service]
    shop: httpx.Client
    b2b: httpx.Client
    channel: Any
    events_file: Path

    def events(self, order_id: str) -> list[dict[str, Any]]:
        """Return what was recorded about the order, the legacy MES included, oldest first."""
        lines = self.events_file.read_text(encoding="utf-8").splitlines()
        events = [event for event in map(json.loads, lines) if event.get("order_id") == order_id]
        return [event for event in events if "to_status" in event]

    def statuses(self, order_id: str) -> list[str]:
        """Return the statuses that the order entered, in the order in which they were written."""
        return [event["to_status"] for event in self.events(order_id) if event["event_type"] == "order.status_changed"]

    def wait_for(self, order_id: str, status: str) -> None:
        eventually(lambda: status in self.statuses(order_id))

    def create(self) -> str:
        created = self.shop.post("/orders", json={"material": "silver-925"}).raise_for_status()
        order_id: str = created.json()["order_id"]
        return order_id

    def upload(self, order_id: str, model: bytes | None = None) -> httpx.Response:
        return self.shop.put(f"/orders/{order_id}/model", content=stl(ring()) if model is None else model)

    def submit(self, order_id: str) -> httpx.Response:
        return self.shop.post(f"/orders/{order_id}/submit")

    def publish(self, routing_key: str, body: bytes) -> None:
        self.channel.basic_publish("orders", routing_key, body)


def eventually(true: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until *true*; fails after *seconds*."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
