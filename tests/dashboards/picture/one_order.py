"""The life of an order that was sent back, came again, and has been stuck since its message was lost."""

from __future__ import annotations

import json
import time
from hashlib import sha256
from itertools import pairwise

ORDER = "p-4711"
TOLD_OF = "An order as a real ledger tells it, of events that were made up."
HOUR = 3600
WAY = (
    ("", 52 * HOUR),
    ("INITIATED", 51.5 * HOUR),
    ("FILE_UPLOADED", 51 * HOUR),
    ("SUBMITTED", 50 * HOUR),
    ("PRICE_REJECTED", 30 * HOUR),
    ("FILE_UPLOADED", 29 * HOUR),
    ("SUBMITTED", 0),
)
"""Each status, and how many seconds ago it was left for the next."""
SERVICES = {"PRICE_REJECTED": "pricing-worker"}


def events() -> str:
    """All events, as lines of JSON."""
    moves = [
        _event("order.status_changed", ago, from_status=left, to_status=now, service=SERVICES.get(now, "shop-api"))
        for (left, ago), (now, _) in pairwise(WAY)
    ]
    step = {"from_status": "SUBMITTED", "to_status": "PRICE_CALCULATED", "service": "pricing-worker"}
    why = {"error_code": "mesh_has_a_hole", "duration": 4_200_000_000}
    return "\n".join([*moves, _event("order.transition_failed", 50.1 * HOUR, **step, **why)])


def _event(kind: str, ago: float, **fields: object) -> str:
    known = {name: value for name, value in fields.items() if value}
    at = {"occurred_at": time.time_ns() - int(ago * 10**9), "trace_id": sha256(str(ago).encode()).hexdigest()[:32]}
    return json.dumps({"event_type": kind, "order_id": ORDER, "partner_id": "acme", "env": "test"} | known | at)
