"""A partner asks support about an order by the reference that it saw, and support finds the order."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx


def order_ref(b2b: httpx.Client, key: str, order_id: str) -> str:
    """Return by what name the B2B entry calls the order when its partner, who has the API *key*, looks at it."""
    answer = b2b.get(f"/orders/{order_id}", headers={"X-API-Key": key}).raise_for_status()
    reference: str = answer.headers.get("X-Order-Ref", "")
    return reference


def resolve(reference: str, store: str, pseudonym_key: str) -> str:
    """Return the order id that ``otel-orders resolve`` finds in the ledger's *store*, empty if it finds none."""
    command = [sys.executable, "-m", "otel_orders.cli", "resolve", reference, "--ledger-store", store]
    environment = {**os.environ, "OTEL_ORDERS_PSEUDONYM_KEY": pseudonym_key}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
