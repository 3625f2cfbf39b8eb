"""How times are said."""

from __future__ import annotations

import pytest

from otel_orders.ledger.words import span


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, ""),
        (-499.0, "0 s"),
        (0, "0 s"),
        (0.00025, "250 µs"),
        (0.25, "250 ms"),
        (12.0, "12 s"),
        (310.0, "5 min 10 s"),
        (3 * 86_400 + 4 * 3_600, "3 d 4 h"),
    ],
)
def test_a_time_is_said_in_its_two_largest_units_and_is_never_negative(seconds: float | None, said: str) -> None:
    assert span(seconds) == said
