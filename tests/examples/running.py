"""The running pipeline, as tests talk to it."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from examples.order_pipeline.scenarios.models import ring, stl
from tests.sinks.receiver import attributes as told

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx

    from examples.order_pipeline.scenarios.partner_server import PartnerServer
    from examples.order_pipeline.scenarios.pipeline import Pipeline
    from examples.order_pipeline.scenarios.processes import Service
    from tests.sinks.receiver import Received


class Running(NamedTuple):
    """The pipeline, clients for it, and what its services recorded.  received: the spans that they sent."""

    pipeline: Pipeline
    workers: list[Service]
    shop: httpx.Client
    b2b: httpx.Client
    partner: PartnerServer
    channel: Any
    events_file: Path
    received: Received

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

    def spans(self, name: str, **attributes: object) -> list[Any]:
        """Return the spans of that name that have *attributes*, in which two underscores stand for a dot."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}.items()
        return [span for span in self.received.spans if span.name == name and wanted <= told(span).items()]

    def order_of_partner(self, partner_id: str, reference: str) -> str:
        """Order as a partner; return the order id."""
        ring_model = base64.b64encode(stl(ring())).decode()
        order = {"reference": reference, "material": "gold-750", "model": ring_model}
        key = {"X-API-Key": self.pipeline.keys[partner_id]}
        (outcome,) = self.b2b.post("/batches", json={"orders": [order]}, headers=key).raise_for_status().json()
        order_id: str = outcome["order_id"]
        return order_id

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


def eventually(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until *true*; fails after *seconds*."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
