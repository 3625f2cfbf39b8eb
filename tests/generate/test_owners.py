"""Whose move it is: the last step of a promise, and all those on the way to it."""

from __future__ import annotations

import pytest

from otel_orders.generate.owners import last_step, on_the_way
from tests.alerts.tools import REFERENCE

WAYS = {
    "price_in_5_minutes": ("SUBMITTED", {"mes": ["SUBMITTED"]}),
    "manufacturing_within_24_hours": (
        "MANUFACTURING_APPROVED",
        {"mes": ["SUBMITTED", "MANUFACTURING_APPROVED"], "crm": ["PRICE_CALCULATED"]},
    ),
    # A rejected price voids the two above; here the clock goes on, and the order round again.
    "shipped_in_3_weeks": (
        "PACKAGING",
        {
            "shop": ["INITIATED", "FILE_UPLOADED", "PRICE_REJECTED"],
            "mes": ["SUBMITTED", "MANUFACTURING_APPROVED", "MANUFACTURING_STARTED", "PACKAGING"],
            "crm": ["PRICE_CALCULATED"],
            "legacy-mes": ["MANUFACTURING_COMPLETED"],
        },
    ),
    "approved_in_a_working_day": ("PRICE_CALCULATED", {"crm": ["PRICE_CALCULATED"]}),
}


@pytest.mark.parametrize("name", REFERENCE.slas)
def test_a_promise_is_kept_by_who_moves_the_order_last_and_held_up_by_all_on_the_way(name: str) -> None:
    sla = REFERENCE.slas[name]
    step, way = WAYS[name]
    assert last_step(sla, REFERENCE).name == step
    assert on_the_way(sla, REFERENCE) == way
