from __future__ import annotations

import hashlib
import math
from enum import Enum
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_orders.event import (
    MAX_ATTRIBUTES,
    MAX_STRING,
    OWN_FIELDS,
    AnyEvent,
    Event,
    Heartbeat,
    OrderObserved,
    StatusChanged,
    TransitionFailed,
    bounded,
    new_event_id,
    order_bucket,
    text_of,
    versioned_event_id,
)

ABOUT: dict[str, Any] = {"event_id": "0" * 32, "service": "mes", "env": "test", "occurred_at": 1}
MOVED: dict[str, Any] = ABOUT | {"order_id": "A-1", "to_status": "SHIPPED", "from_status": "PACKAGING"}


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


class Colour(str, Enum):  # noqa: UP042 - the form that many applications have
    RED = "red"


@pytest.mark.parametrize("kind", get_args(AnyEvent), ids=lambda kind: kind.__name__)
def test_every_event_is_immutable_and_survives_json_by_its_tag(kind: type[Event]) -> None:
    required: dict[str, Any] = {found.name: "x" for found in msgspec.structs.fields(kind) if found.required}
    event = kind(**required | ABOUT)
    line = msgspec.json.encode(event)
    assert msgspec.json.decode(line)["event_type"] == kind.event_type
    assert msgspec.json.decode(line, type=AnyEvent) == event
    with pytest.raises(AttributeError):
        event.service = "other"  # type: ignore[misc]


def test_what_is_not_known_is_not_written() -> None:
    event = Heartbeat(**ABOUT, instance="host:1")
    assert msgspec.to_builtins(event) == {**ABOUT, "event_type": "service.heartbeat", "instance": "host:1"}


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (StatusChanged(**MOVED), "SHIPPED"),
        (OrderObserved(**MOVED), "SHIPPED"),
        (TransitionFailed(**MOVED, error_code="x"), "PACKAGING"),
        (TransitionFailed(**MOVED | {"from_status": None}, error_code="x"), None),
    ],
)
def test_the_status_is_where_the_order_is_after_the_event(event: StatusChanged, status: str | None) -> None:
    assert event.status == status


def test_event_ids_are_32_hex_digits_and_differ() -> None:
    ids = {new_event_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(found) == 32 and int(found, 16) >= 0 for found in ids)


def test_the_id_of_a_versioned_change_depends_on_order_version_and_status_only() -> None:
    first = versioned_event_id("A-1", 3, "SHIPPED")
    assert first == versioned_event_id("A-1", 3, "SHIPPED") == hashlib.sha256(b"A-1\n3\nSHIPPED").hexdigest()[:32]
    others = {versioned_event_id(*key) for key in (("A-2", 3, "SHIPPED"), ("A-1", 4, "SHIPPED"), ("A-1", 3, "CLOSED"))}
    assert len(others | {first}) == 4


def test_the_bucket_is_what_a_collector_computes_from_sha256() -> None:
    assert order_bucket("4711") == int(hashlib.sha256(b"4711").hexdigest()[:13], 16) % 100


@given(st.text())
def test_every_order_id_has_a_bucket_of_0_to_99(order_id: str) -> None:
    assert 0 <= order_bucket(order_id) < 100


@given(
    st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.binary()))
)
def test_whatever_an_application_sets_comes_out_bounded_and_can_be_written(attributes: dict[str, object]) -> None:
    kept = bounded(attributes)
    assert len(kept) <= MAX_ATTRIBUTES
    assert all(len(key) <= MAX_STRING for key in kept)
    assert all(len(found) <= MAX_STRING for found in kept.values() if isinstance(found, str))
    assert all(math.isfinite(found) for found in kept.values() if isinstance(found, float))
    assert all(-(2**63) <= found < 2**63 for found in kept.values() if isinstance(found, int))
    assert msgspec.json.decode(msgspec.json.encode(kept)) == kept


def test_numbers_and_booleans_stay_what_they_are() -> None:
    assert bounded({"cents": 1200, "share": 0.5, "rush": True}) == {"cents": 1200, "share": 0.5, "rush": True}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (2**63, str(2**63)),
        (math.nan, "nan"),
        (Colour.RED, "red"),
        (Unprintable(), "<Unprintable>"),
        ("x" * 300, "x" * 256),
        ("\ud800", "?"),
    ],
)
def test_odd_values_cost_only_themselves(given: object, kept: str) -> None:
    assert bounded({"before": 1, "odd": given, "after": 2}) == {"before": 1, "odd": kept, "after": 2}


@pytest.mark.parametrize("name", sorted(OWN_FIELDS))
def test_an_attribute_cannot_pass_for_a_field_of_the_event(name: str) -> None:
    assert bounded({name: "forged", "cents": 5}) == {"cents": 5}


@given(st.text())
def test_text_can_always_be_encoded(text: str) -> None:
    assert len(text_of(text).encode().decode()) <= MAX_STRING
    if text.isascii() and len(text) <= MAX_STRING:
        assert text_of(text) == text
