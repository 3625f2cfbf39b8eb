"""Headers that nearly fill a frame are left alone; all others have room for ours."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.data import encode_table

from otel_orders.instrumentation.frames import ROOM, leaves_room

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.text(max_size=50),
    st.binary(max_size=50),
    st.just(Decimal("12.5")),
    st.just(datetime(2026, 1, 1, tzinfo=UTC)),
)
FIELDS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=20), FIELDS, max_size=10), st.integers(0, 2_000))
def test_what_has_room_really_fits(headers: dict[str, Any], spare: int) -> None:
    written = encode_table([], headers)
    assert not leaves_room(headers, written + ROOM - 1 - spare)


@pytest.mark.parametrize("headers", [{}, {"own": 1}, {"own": "x" * 1_000}, {"own": {"deep": [b"x" * 1_000]}}])
def test_ordinary_headers_leave_room_in_the_smallest_frame(headers: dict[str, Any]) -> None:
    assert leaves_room(headers, 4_096)


def test_a_connection_without_a_largest_frame_has_room_for_all() -> None:
    assert leaves_room({"own": "x" * 1_000_000}, 0)
