"""What of a record is kept, what is refused and why; and that a bad record costs only itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_orders import names
from otel_orders.ledger.apply import LATE
from otel_orders.ledger.kept import CHANGED, FAILED, MESSAGE, OBSERVED, Kept, Order, pack, unpack
from otel_orders.ledger.model import folded
from otel_orders.ledger.reading import FUTURE, HORIZON, REJECTED, Reading
from tests.ledger.senders import ENV, SECOND, changed
from tests.ledger.strategies import LIFECYCLE, PLAN, START

NOW = START + HORIZON


def record(**fields: Any) -> dict[str, Any]:
    return changed("A-1", occurred_at=NOW) | fields


def read(*records: dict[str, Any]) -> Reading:
    reading = Reading(LIFECYCLE, ENV, NOW)
    for one in records:
        reading.take(one)
    return reading


def kept(**fields: Any) -> Kept:
    return read(record(**fields)).received[0].event


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"order_id": None}, "no_order_id"),
    ({"order_id": ""}, "no_order_id"),
    ({"order_id": "  "}, "no_order_id"),
    ({"order_id": "A\0B"}, "bad_type"),
    ({"order_id": "A\n"}, "bad_type"),
    ({"order_id": "\x1b[2J"}, "bad_type"),
    ({"order_id": "A\ud800"}, "bad_type"),
    ({"order_id": True}, "bad_type"),
    ({"order_id": 1.5}, "bad_type"),
    ({"order_id": ["A"]}, "bad_type"),
    ({"order_id": {"id": "A"}}, "bad_type"),
    ({"order_id": b"A"}, "bad_type"),
    ({"order_id": "x" * 257}, "too_long"),
    ({"order_id": 10**400}, "too_long"),
    ({"order_id": -(10**4000)}, "too_long"),
    ({"to_status": None}, "no_status"),
    ({"to_status": ""}, "no_status"),
    ({"to_status": {}}, "bad_type"),
    ({"from_status": 1.0}, "bad_type"),
    ({"from_status": "x" * 257}, "too_long"),
    ({"service": ["shop-api"]}, "bad_type"),
    ({"partner_id": "\udfff"}, "bad_type"),
    ({"event_id": 1.5}, "bad_type"),
    ({"error_code": ["x"]}, "bad_type"),
    ({"env": "prod"}, "other_env"),
    ({"env": ["test"]}, "other_env"),
    ({"occurred_at": None}, "bad_time"),
    ({"occurred_at": 0}, "bad_time"),
    ({"occurred_at": "1969-12-31T23:59:59.9Z"}, "bad_time"),
    ({"occurred_at": 1.7e18}, "bad_time"),
    ({"occurred_at": float("nan")}, "bad_time"),
    ({"occurred_at": True}, "bad_time"),
    ({"occurred_at": []}, "bad_time"),
    ({"occurred_at": [1]}, "bad_time"),
    ({"occurred_at": "yesterday"}, "bad_time"),
    ({"occurred_at": "2026-04-05T09:00:00"}, "bad_time"),
    ({"occurred_at": "2026-04-05"}, "bad_time"),
    ({"occurred_at": "\ud800"}, "bad_time"),
    ({"occurred_at": "٣"}, "bad_time"),
    ({"occurred_at": "9" * 300}, "bad_time"),
    ({"occurred_at": 1}, LATE),
    ({"occurred_at": -1}, "bad_time"),
    ({"occurred_at": -(10**400)}, "bad_time"),
    ({"occurred_at": "1970-01-01T00:00:00Z"}, LATE),
    ({"occurred_at": "0001-01-01T00:00:00+23:59"}, "bad_time"),
    ({"occurred_at": NOW // SECOND}, LATE),
    ({"occurred_at": NOW - HORIZON - 1}, LATE),
    ({"occurred_at": NOW + FUTURE + 1}, "future"),
    ({"occurred_at": 10**400}, "future"),
    ({"occurred_at": "9" * 200}, "future"),
    ({"occurred_at": "9999-12-31T23:59:59-23:59"}, "future"),
]


@pytest.mark.parametrize(("fields", "reason"), REFUSED, ids=lambda value: ascii(value)[:40])
def test_what_cannot_be_kept_is_refused_with_its_reason_and_costs_no_neighbour(
    fields: dict[str, Any], reason: str
) -> None:
    reading = read(record(order_id="before"), record(**fields), record(order_id="after"))
    assert [received.order_id for received in reading.received] == ["before", "after"]
    assert reading.reasons == {reason: 1}
    assert reading.rejected == {LATE if reason == LATE else REJECTED: 1}


@pytest.mark.parametrize("event_type", [None, "", "log", 5, True, [], {}, ["order.status_changed"], "a\ud800", b"x"])
def test_what_is_no_event_of_ours_is_passed_over(event_type: Any) -> None:
    reading = read(record(event_type=event_type), {})
    assert (reading.received, reading.seen, reading.rejected) == ([], [], {})


@pytest.mark.parametrize(
    ("fields", "field", "value"),
    [
        ({"order_version": 7}, "version", 7),
        ({"order_version": "7"}, "version", 7),
        ({"order_version": 7.0}, "version", 7),
        ({"order_version": -1}, "version", None),
        ({"order_version": 2**63}, "version", None),
        ({"order_version": "9" * 30}, "version", None),
        ({"order_version": float("inf")}, "version", None),
        ({"order_version": True}, "version", None),
        ({"duration": -5}, "duration", 0),
        ({"duration": 10**400}, "duration", 0),
        ({"duration": 12}, "duration", 12),
        (
            {"trace_id": "0af7651916cd43dd8448eb211c80319c"},
            "trace_id",
            bytes.fromhex("0af7651916cd43dd8448eb211c80319c"),
        ),
        ({"trace_id": b"\1" * 16}, "trace_id", b"\1" * 16),
        ({"trace_id": "x" * 32}, "trace_id", b""),
        ({"trace_id": "0a" + " " * 30}, "trace_id", b""),
        ({"trace_id": 5}, "trace_id", b""),
        ({"span_id": b"\1" * 7}, "span_id", b""),
        ({"partner_id": ""}, "partner", None),
        ({"partner_id": 42}, "partner", "42"),
        ({"from_status": ""}, "left", None),
        ({"to_status": "NOT IN THE LIFECYCLE"}, "to", "NOT IN THE LIFECYCLE"),
        ({"occurred_at": str(NOW)}, "at", NOW),
        ({"occurred_at": NOW - HORIZON}, "at", NOW - HORIZON),
        ({"occurred_at": NOW + FUTURE}, "at", NOW + FUTURE),
        ({"occurred_at": None, "timestamp": "2026-04-05T09:00:00.000001+00:00"}, "at", NOW + 1000),
        ({"occurred_at": "2026-04-05T12:00:00+03:00"}, "at", NOW),
        ({"attributes": {"a": {"nested": [1]}, "b": 2**70}}, "attributes", {"a": "{'nested': [1]}", "b": str(2**70)}),
        ({"attributes": "no map"}, "attributes", None),
        ({"price": 12.5, "attributes": {"paid": True}}, "attributes", {"price": 12.5, "paid": True}),
        ({"\ud800": "\ud800"}, "attributes", {"?": "?"}),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_odd_details_are_read_as_far_as_they_make_sense(fields: dict[str, Any], field: str, value: object) -> None:
    assert getattr(kept(**fields), field) == value


def test_a_number_is_an_order_id() -> None:
    assert read(record(order_id=4711)).received[0].order_id == "4711"


def test_attributes_are_bounded() -> None:
    event = kept(**{f"a{place}": "x" * 1000 for place in range(100)})
    assert event.attributes is not None
    assert len(event.attributes) == 32
    assert {len(value) for value in event.attributes.values()} == {256}


@given(st.datetimes(datetime(2026, 1, 10), datetime(2026, 4, 5), timezones=st.just(UTC)))  # noqa: DTZ001 - their bounds
def test_iso_times_are_read_to_the_microsecond(moment: datetime) -> None:
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    assert kept(occurred_at=moment.isoformat()).at == expected


@pytest.mark.parametrize(
    ("event_type", "kind"),
    [
        (names.STATUS_CHANGED, CHANGED),
        (names.TRANSITION_FAILED, FAILED),
        (names.OBSERVED, OBSERVED),
        (names.MESSAGE_PUBLISHED, MESSAGE),
        (names.MESSAGE_SETTLED, MESSAGE),
    ],
)
def test_each_event_type_has_its_kind(event_type: str, kind: int) -> None:
    assert kept(event_type=event_type, outcome="ack").kind == kind


def test_a_message_event_keeps_which_one_it_is_and_what_it_says() -> None:
    event = kept(event_type=names.MESSAGE_SETTLED, outcome="ack", queue="pricing.requests", message_id="m-1")
    assert event.to == "ack"
    assert event.attributes == {"event_type": names.MESSAGE_SETTLED, "outcome": "ack"} | {
        "queue": "pricing.requests",
        "message_id": "m-1",
    }


def test_a_message_event_without_an_outcome_is_refused() -> None:
    assert read(record(event_type=names.MESSAGE_SETTLED)).reasons == {"no_status": 1}


def test_events_without_an_id_get_one_from_what_they_say() -> None:
    first, again, other = kept(), kept(price=5), kept(to_status="SUBMITTED")
    assert first.id == again.id != other.id
    assert kept(event_id="ab" * 16).id == bytes.fromhex("ab" * 16)
    assert kept(event_id="mine").id == kept(event_id="mine", to_status="SUBMITTED").id


def test_an_event_without_an_env_is_taken_as_ours() -> None:
    assert kept(env=None)


def beat(**fields: Any) -> dict[str, Any]:
    return record(event_type=names.HEARTBEAT, order_id=None, **fields)


def test_the_newest_sign_of_life_of_each_instance_is_noted() -> None:
    reading = read(
        beat(instance="a", role="web", occurred_at=NOW - 1, lifecycle_hash="old"),
        beat(instance="a", role="web", lifecycle_hash="new"),
        beat(instance="a", role="web", occurred_at=NOW - 2),
        beat(instance="b"),
        record(occurred_at=NOW - 5),
    )
    assert {tuple(seen) for seen in reading.seen} == {
        ("shop-api", "a", "web", NOW, "new"),
        ("shop-api", "b", "", NOW, ""),
        ("shop-api", "", "", NOW - 5, ""),
    }
    assert len(reading.received) == 1


def test_services_that_nobody_owns_share_one_row() -> None:
    reading = read(*(beat(service=f"s{place}", instance=f"i{place}") for place in range(100)))
    assert [seen[:3] for seen in reading.seen] == [("other", "", "")]


@pytest.mark.parametrize("fields", [{"instance": []}, {"role": 1.5}, {"lifecycle_hash": {}}, {"instance": "x" * 300}])
def test_a_bad_heartbeat_is_refused(fields: dict[str, Any]) -> None:
    reading = read(beat(**fields))
    assert reading.seen == []
    assert reading.rejected == {REJECTED: 1}


TEXTS = st.text(st.characters() | st.sampled_from("\0\ud800\udfff"), max_size=300)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=20) | st.just(10**4000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from([*record(), names.FROM_STATUS, names.ORDER_VERSION, "attributes", "timestamp", "instance"])


@given(st.lists(st.dictionaries(FIELDS | TEXTS, VALUES, max_size=4), max_size=4))
def test_whatever_a_record_holds_its_neighbours_are_kept_and_all_that_is_kept_can_be_stored(
    mutations: list[dict[str, Any]],
) -> None:
    valid = [record(order_id=f"valid-{place}") for place in range(len(mutations) + 1)]
    mutated = [record() | mutation for mutation in mutations]
    reading = read(*(one for pair in zip(valid, [*mutated, {}], strict=True) for one in pair))
    assert {one[names.ORDER_ID] for one in valid} <= {received.order_id for received in reading.received}
    assert set(reading.reasons) <= {reason for _, reason in REFUSED}
    events = [received.event for received in reading.received]
    fold, _ = folded(events, NOW, PLAN)
    assert unpack(pack(Order(fold, NOW, events))).events == events
    for received in reading.received:
        received.order_id.encode()
