"""A report's figures, on orders whose figures can be worked out by hand."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from otel_orders.ledger.figures import Figures, report
from otel_orders.ledger.kept import FAILED, Fold, Hold, Order
from otel_orders.ledger.report import Report, Selection, rows
from otel_orders.ledger.store import Batch, Received
from tests.ledger.stores import spoil
from tests.ledger.strategies import DAY, HOUR, MINUTE, PLAN, START, event, path

if TYPE_CHECKING:
    from otel_orders.ledger.kept import Kept
    from otel_orders.ledger.store.sqlite import SqliteStore

WAY = (
    *("INITIATED", "FILE_UPLOADED", "SUBMITTED", "PRICE_CALCULATED", "MANUFACTURING_APPROVED"),
    *("MANUFACTURING_STARTED", "MANUFACTURING_COMPLETED", "PACKAGING", "SHIPPED", "CLOSED"),
)
NOW = START + 30 * DAY


def figures(*histories: list[Kept], now: int = NOW, hold: Hold | None = None, **chosen: Any) -> Report:
    found = Figures(PLAN, Selection(**chosen), now)
    for events in histories:
        found.add(Order(Fold(partner=next((one.partner for one in events if one.partner), None)), 0, events, [], hold))
    return found.report()


def stay(found: Report, status: str) -> Any:
    return next(one for one in found.stays if one.status == status)


def span(found: Report, name: str) -> Any:
    return next(one for one in found.spans if one.name == name)


def test_the_share_of_stuck_orders_is_of_those_that_wait() -> None:
    stuck, fresh = path("INITIATED", "FILE_UPLOADED"), path("INITIATED", start=NOW - HOUR)
    found = figures(stuck, fresh, path(*WAY), path("INITIATED", "CANCELLED"))
    assert (found.orders, found.waiting, found.stuck, found.stuck_share) == (4, 2, 1, 0.5)
    assert figures(path(*WAY)).stuck_share is None


def test_an_order_on_hold_waits_and_is_not_stuck() -> None:
    found = figures(path("INITIATED"), hold=Hold(NOW + 1, "whatever"))
    assert (found.waiting, found.stuck, found.on_hold) == (1, 0, 1)
    found = figures(path("INITIATED"), hold=Hold(NOW, "whatever"))
    assert (found.waiting, found.stuck, found.on_hold) == (1, 1, 0)


def test_the_funnel_is_how_many_orders_ever_came_how_far() -> None:
    found = figures(*[path(*WAY[:length]) for length in (1, 2, 3, 10)], path("INITIATED", "CANCELLED"))
    by_status = {step.status: (step.orders, step.share) for step in found.reached}
    assert by_status["INITIATED"] == (5, 1.0)
    assert by_status["FILE_UPLOADED"] == (3, 0.6)
    assert by_status["SUBMITTED"] == (2, 0.4)
    assert by_status["CLOSED"] == (1, 0.2)
    assert by_status["CANCELLED"] == (1, 0.2)


def test_who_loops_is_counted_once_in_the_funnel_and_each_time_in_a_status() -> None:
    loop = path("INITIATED", "FILE_UPLOADED", "SUBMITTED", "PRICE_REJECTED", "FILE_UPLOADED", "SUBMITTED")
    found = figures(loop)
    assert {step.status: step.orders for step in found.reached}["SUBMITTED"] == 1
    assert (stay(found, "FILE_UPLOADED").times.finished, stay(found, "SUBMITTED").times.waiting) == (2, 1)


def test_the_way_from_first_click_to_shipping_has_its_average_and_95_percent() -> None:
    ways = [path(*WAY, pause=hours * HOUR) for hours in range(1, 21)]
    times = span(figures(*ways), "initiated_to_shipped").times
    assert (times.finished, times.waiting, times.average_is_at_least) == (20, 0, False)
    assert times.average == pytest.approx(8 * 3600 * 10.5)
    assert (times.p50, times.p95) == (8 * 3600 * 10, 8 * 3600 * 19)


def test_orders_that_still_wait_are_in_the_average_and_the_quantiles() -> None:
    quick = [path("SUBMITTED", "PRICE_CALCULATED", pause=MINUTE) for _ in range(9)]
    times = stay(figures(*quick, path("SUBMITTED")), "SUBMITTED").times
    assert (times.finished, times.waiting) == (9, 1)
    assert times.average == pytest.approx(0.9 * 60 + 0.1 * 30 * 86_400)
    assert times.average_is_at_least
    assert (times.p50, times.p95) == (60.0, None)


def test_a_stay_whose_end_is_not_known_is_left_out_and_counted_as_such() -> None:
    first, _, third = path("SUBMITTED", "PRICE_CALCULATED", "MANUFACTURING_APPROVED")
    found = figures([first, third])
    assert (stay(found, "SUBMITTED").unproved, stay(found, "SUBMITTED").times.finished) == (1, 0)


def test_promises_are_told_by_partner() -> None:
    name = "price_in_5_minutes"
    late = path("SUBMITTED", "PRICE_CALCULATED", pause=HOUR, partner="acme")
    good = path("SUBMITTED", "PRICE_CALCULATED", partner="acme")
    nobody = path("SUBMITTED", "PRICE_CALCULATED", partner="small-shop")
    overdue = path("SUBMITTED", start=NOW - 6 * MINUTE, partner="acme")
    at_risk = path("SUBMITTED", start=NOW - 4 * MINUTE, partner="globex")
    fine = path("SUBMITTED", start=NOW - MINUTE, partner="globex")
    found = figures(late, good, good, nobody, overdue, at_risk, fine)
    by_partner = {one.partner: one for one in found.promises if one.sla == name}
    acme, globex, other = by_partner["acme"], by_partner["globex"], by_partner["other"]
    assert (acme.met, acme.breached, acme.overdue, acme.at_risk) == (2, 1, 1, 0)
    assert acme.share == pytest.approx(2 / 3)
    assert acme.objective == 0.9
    assert (globex.met, globex.breached, globex.overdue, globex.at_risk, globex.share) == (0, 0, 0, 1, None)
    assert (other.met, other.share) == (1, 1.0)


def test_a_breach_is_in_the_report_when_grace_is_over_whether_or_not_it_was_swept() -> None:
    submitted = path("SUBMITTED")
    for minutes, breached in ((6, 0), (7, 1)):
        found = figures(submitted, now=START + minutes * MINUTE)
        one = next(one for one in found.promises if one.sla == "price_in_5_minutes")
        assert (one.breached, one.overdue) == (breached, 1)


def test_failures_are_told_by_what_was_not_entered_and_why() -> None:
    def failed(minute: int, to: str, code: str) -> Kept:
        return event(to, START + minute * MINUTE, kind=FAILED, error_code=code)

    first = [*path("SUBMITTED"), failed(1, "PRICE_CALCULATED", "NoMesh"), failed(2, "PRICE_CALCULATED", "NoMesh")]
    second = [*path("SUBMITTED"), failed(1, "PRICE_CALCULATED", "NoMesh"), failed(2, "PACKAGING", "")]
    told = [msgspec.structs.astuple(one) for one in figures(first, second).failures]
    assert told == [("PRICE_CALCULATED", "NoMesh", 3, 2), ("PACKAGING", "unknown", 1, 1)]


def test_orders_are_chosen_by_when_they_began_and_by_partner() -> None:
    early, late = path("INITIATED", partner="acme"), path("INITIATED", start=START + DAY, partner="globex")
    assert figures(early, late, since=START + 1).orders == 1
    assert figures(early, late, until=START + DAY).orders == 1
    assert figures(early, late, since=START, until=START + DAY + 1).orders == 2
    assert figures(early, late, partner="acme").orders == 1
    assert figures(early, late, partner="nobody").orders == 0


def test_one_status_can_be_told_of_alone() -> None:
    failed = event("SUBMITTED", START, kind=FAILED, error_code="E")
    found = figures(path("INITIATED"), [*path("SUBMITTED"), failed], status="SUBMITTED")
    assert [step.status for step in found.reached] == [one.status for one in found.stays] == ["SUBMITTED"]
    assert (found.orders, found.waiting, found.stuck) == (2, 1, 1)
    assert {one.from_status for one in found.spans} | {one.to_status for one in found.spans} >= {"SUBMITTED"}
    assert len(found.failures) == 1


def test_a_row_that_cannot_be_read_counts_nowhere_and_is_said(store: SqliteStore) -> None:
    Batch(store, PLAN).ingest([Received(order_id, one) for order_id in ("1", "2") for one in path("INITIATED")])
    spoil(store, "1", b"\xff")
    found = report(store, PLAN, Selection(), NOW)
    assert (found.orders, found.unreadable) == (1, 1)


def test_a_report_is_the_same_whatever_came_late_or_twice(store: SqliteStore) -> None:
    """What counters can only correct is exact in a report."""
    batch, events = Batch(store, PLAN), path(*WAY[:4], pause=HOUR)
    for one in (events[2], events[0], events[3], events[0]):
        batch.ingest([Received("1", one)])
        batch.sweep(NOW)
    batch.ingest([Received("1", events[1])])
    assert report(store, PLAN, Selection(), NOW) == figures(events)


def test_it_is_csv_with_a_figure_a_line_and_no_formula() -> None:
    failed = event("SUBMITTED", START, kind=FAILED, error_code='=HYPERLINK("x")')
    lines = list(csv.reader(rows(figures(path(*WAY), [*path("SUBMITTED"), failed]))))
    assert lines[0] == ["table", "name", "partner", "figure", "value"]
    found = {tuple(line[:4]): line[4] for line in lines[1:]}
    assert found["orders", "", "", "orders"] == "2"
    assert found["stays", "SUBMITTED", "", "p50_seconds"] == "60.0"
    assert found["promises", "price_in_5_minutes", "retail", "met"] == "1"
    assert {len(line) for line in lines} == {5}
    assert not [cell for line in lines for cell in line if cell.startswith("=")]
