"""How fast a promise may burn: what is asked for can happen, and is more than what is allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_orders.generate import burn
from otel_orders.lifecycle import Sla, parse_duration


def promise(objective: float, within: str = "5m") -> Sla:
    return Sla("p", start_status="NEW", end_status="DONE", within=parse_duration(within), objective=objective)


@given(st.floats(0.001, 0.9999))
def test_what_is_asked_for_can_happen_and_is_never_what_is_allowed(objective: float) -> None:
    fast, slow = burn.fast(promise(objective)), burn.slow(promise(objective))
    assert 1 - objective < slow.share < fast.share < 1


@pytest.mark.parametrize(
    ("objective", "fast", "slow"),
    [(0.999, (0.0144, 14.4), (0.006, 6.0)), (0.95, (0.72, 14.4), (0.3, 6.0)), (0.9, (0.82, 8.2), (0.55, 5.5))],
)
def test_the_usual_multipliers_stand_where_they_can_be_reached(
    objective: float, fast: tuple[float, float], slow: tuple[float, float]
) -> None:
    sla = promise(objective)
    assert burn.fast(sla)[2:] == fast
    assert burn.slow(sla)[2:] == slow


def test_a_long_promise_is_watched_in_long_windows() -> None:
    assert burn.windows(promise(0.9)) == ("5m", "1h", "30m", "6h")
    assert burn.windows(promise(0.9, "3w")) == ("30m", "6h", "3d")
