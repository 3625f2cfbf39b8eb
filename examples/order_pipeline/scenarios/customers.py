"""Customers of the pipeline, as its services see them: HTTP requests and nothing else."""

from __future__ import annotations

import base64
from itertools import cycle
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import httpx

MATERIALS = ("silver-925", "gold-585", "gold-750", "platinum-950")
REFERENCES = tuple(f"PO-{number}" for number in range(1, 101))
_materials = cycle(MATERIALS)


def order_from_shop(shop: httpx.Client, model: bytes) -> str:
    """Order one piece as a retail customer does; return the order id."""
    created = shop.post("/orders", json={"material": next(_materials)}).raise_for_status()
    order_id: str = created.json()["order_id"]
    shop.put(f"/orders/{order_id}/model", content=model).raise_for_status()
    shop.post(f"/orders/{order_id}/submit").raise_for_status()
    return order_id


def order_batch(b2b: httpx.Client, key: str, models: list[bytes], references: Iterable[str] = REFERENCES) -> list[str]:
    """Order one piece for each model as a partner does, under its own *references*; return the order ids."""
    orders = [
        {"reference": reference, "material": next(_materials), "model": base64.b64encode(model).decode()}
        for reference, model in zip(references, models, strict=False)
    ]
    answer = b2b.post("/batches", json={"orders": orders}, headers={"X-API-Key": key}).raise_for_status()
    return [outcome["order_id"] for outcome in answer.json()]
