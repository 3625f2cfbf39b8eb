"""One order's story: its visits, what is promised, and in words what is odd."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given

from otel_orders import names
from otel_orders.ledger.apply import empty_order, sweep, take
from otel_orders.ledger.kept import FAILED, MESSAGE, OBSERVED, Kept, Order
from otel_orders.ledger.story import story, visits
from otel_orders.ledger.totals import Delta
from tests.ledger.strategies import DAY, HOUR, MINUTE, PLAN, SECOND, START, event, histories, path


def order_of(*events: Kept, now: int | None = None) -> Order:
    order = empty_order()
    take(order, list(events), PLAN, Delta(()))
    if now is not None:
        sweep(order, now, PLAN, Delta(()))
    return order


def told(*events: Kept, now: int = START + HOUR) -> dict[str, Any]:
    return story("A-1", order_of(*events), PLAN, now)


def test_an_order_that_went_as_it_should_has_visits_and_nothing_odd() -> None:
    found = told(*path("INITIATED", "FILE_UPLOADED", "SUBMITTED", partner="acme"))
    assert (found["order_id"], found["partner_id"], found["status"], found["owner"]) == (
        "A-1",
        "acme",
        "SUBMITTED",
        "mes",
    )
    assert found["visits"] == [
        {"status": "INITIATED", "entered_at": START, "left_at": START + MINUTE, "proved": True},
        {"status": "FILE_UPLOADED", "entered_at": START + MINUTE, "left_at": START + 2 * MINUTE, "proved": True},
        {"status": "SUBMITTED", "entered_at": START + 2 * MINUTE, "left_at": None, "proved": True},
    ]
    assert (found["since"], found["seconds_in_status"]) == (START + 2 * MINUTE, 58 * 60)
    assert found["oddities"] == []


def test_an_order_of_a_clock_that_is_ahead_has_not_waited_yet() -> None:
    assert told(*path("INITIATED"), now=START - 8 * MINUTE)["seconds_in_status"] == 0


@pytest.mark.parametrize(
    ("events", "says"),
    [
        (
            [event("SUBMITTED"), event("MANUFACTURING_STARTED", START + MINUTE, "SUBMITTED")],
            "skipped move from SUBMITTED to MANUFACTURING_STARTED, reported by shop-api",
        ),
        (
            [event("SHIPPED"), event("SUBMITTED", START + MINUTE, "SHIPPED")],
            "illegal move from SHIPPED to SUBMITTED, reported by shop-api",
        ),
        (
            [event("INITIATED"), event("SUBMITTED", START + MINUTE, "FILE_UPLOADED")],
            "shop-api moved it from FILE_UPLOADED when it was in INITIATED: an event is missing",
        ),
        (
            [event("SUBMITTED", START, "FILE_UPLOADED")],
            "shop-api moved it from FILE_UPLOADED when it had no history: an event is missing",
        ),
        (
            [event("FILE_UPLOADED"), event("SUBMITTED", START - 2 * SECOND, "FILE_UPLOADED", service="mes-api")],
            (
                "mes-api left FILE_UPLOADED 2.000 s before it was entered: the clocks of two services differ,"
                " or a message was sent before the block that entered it had ended"
            ),
        ),
        (
            [event("INITIATED"), event("MYSTERY", START + MINUTE, "INITIATED")],
            "shop-api reported MYSTERY, which the lifecycle does not have",
        ),
        ([event("MYSTERY")], "shop-api reported MYSTERY, which the lifecycle does not have"),
    ],
    ids=["skipped", "illegal", "missing", "missing at first", "clock", "unknown", "unknown at first"],
)
def test_what_is_odd_is_said_in_words(events: list[Kept], says: str) -> None:
    assert told(*events)["oddities"] == [says]


def test_counted_values_that_a_late_event_corrected_are_said() -> None:
    submitted, priced = path("SUBMITTED", "PRICE_CALCULATED", pause=4 * MINUTE)
    order = order_of(submitted, now=START + HOUR)  # the breach is counted
    take(order, [priced], PLAN, Delta(()))
    assert story("A-1", order, PLAN, START + HOUR)["oddities"] == [
        "late events proved values wrong that were counted before: 1"
    ]


@pytest.mark.parametrize(("passed", "stuck"), [(DAY - 1, False), (DAY, True), (9 * DAY, True)])
def test_an_order_is_stuck_from_its_limit_on(passed: int, *, stuck: bool) -> None:
    found = told(event("INITIATED"), now=START + passed)
    assert (found["stuck_at"], found["stuck"]) == (START + DAY, stuck)


def test_an_order_that_has_ended_is_never_stuck() -> None:
    found = told(*path("INITIATED", "CANCELLED"), now=START + 99 * DAY)
    assert (found["ended"], found["stuck"], found["stuck_at"], found["seconds_in_status"]) == (True, False, None, None)
    assert found["promises"] == []


def test_promises_that_run_have_their_deadlines() -> None:
    promises = {promise["sla"]: promise for promise in told(event("SUBMITTED"))["promises"]}
    assert promises["price_in_5_minutes"] == {
        "sla": "price_in_5_minutes",
        "started_at": START,
        "deadline": START + 5 * MINUTE,
        "overdue": True,
    }
    assert promises["manufacturing_within_24_hours"]["overdue"] is False


def test_failures_and_messages_are_told_between_the_moves_and_move_nothing() -> None:
    steps = path("INITIATED", "FILE_UPLOADED")
    failed = event("FILE_UPLOADED", START + 5, "INITIATED", kind=FAILED, error_code="Timeout", trace_id=b"\1" * 16)
    about = {"event_type": names.MESSAGE_SETTLED, "queue": "pricing.requests"}
    message = event("ack", START + 7, kind=MESSAGE, attributes=about)
    found = told(*steps, message, failed)
    assert [one["event_type"] for one in found["events"]] == [
        names.STATUS_CHANGED,
        names.TRANSITION_FAILED,
        names.MESSAGE_SETTLED,
        names.STATUS_CHANGED,
    ]
    assert (found["events"][1]["error_code"], found["events"][1]["trace_id"]) == ("Timeout", "01" * 16)
    assert (found["events"][2]["outcome"], found["events"][2]["attributes"]) == ("ack", {"queue": "pricing.requests"})
    assert len(found["visits"]) == 2


def test_an_order_of_which_only_a_failure_is_known_is_nowhere() -> None:
    found = told(event("SUBMITTED", kind=FAILED, error_code="x"))
    assert (found["status"], found["owner"], found["since"], found["visits"], found["stuck"]) == (
        None,
        None,
        None,
        [],
        False,
    )


def test_a_snapshot_that_agrees_cuts_no_visit() -> None:
    found = visits(order_of(event("INITIATED"), event("INITIATED", START + MINUTE, kind=OBSERVED)), PLAN)
    assert [(visit.status, visit.entered_at) for visit in found] == [("INITIATED", START)]


def test_a_visit_behind_a_gap_is_marked_as_not_proved() -> None:
    found = visits(order_of(event("INITIATED"), event("SUBMITTED", START + MINUTE, "FILE_UPLOADED")), PLAN)
    assert [visit.proved for visit in found] == [False, True]


@given(histories(max_size=12))
def test_any_history_can_be_told_and_ends_where_the_order_is(events: list[Kept]) -> None:
    order = order_of(*events)
    found = story("A-1", order, PLAN, START + HOUR)
    assert msgspec.json.decode(msgspec.json.encode(found)) == found
    assert len(found["events"]) == len(order.events)
    stays = found["visits"]
    assert [stay["left_at"] for stay in stays[:-1]] == [stay["entered_at"] for stay in stays[1:]]
    if stays:
        assert (stays[-1]["status"], stays[-1]["entered_at"]) == (found["status"], found["since"])
