"""A snapshot against the ledger: what telemetry never saw, lost or never ended, and how much of it was right."""

from __future__ import annotations

import time
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from otel_orders import names
from otel_orders.errors import ConfigurationError
from otel_orders.ledger.beside import beside
from otel_orders.ledger.kept import CHANGED, OBSERVED
from otel_orders.ledger.model import Plan, Retention
from otel_orders.ledger.moments import Moments
from otel_orders.ledger.reconcile import NAMED, Columns, Report, Times, reconcile
from otel_orders.ledger.store import Batch, Received
from otel_orders.ledger.tables import Row
from tests.ledger import audit
from tests.ledger.senders import ENV
from tests.ledger.stores import spoil
from tests.ledger.strategies import DAY, HOUR, LIFECYCLE, PLAN, event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from otel_orders.ledger.beside import Beside

COLUMNS = Columns("id", "status", "entered_at", Moments())
NOW = time.time_ns() // HOUR * HOUR


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Beside]:
    with opened(tmp_path) as found:
        yield found


@contextmanager
def opened(folder: Path) -> Iterator[Beside]:
    with beside(f"sqlite:///{folder / 'ledger.db'}", LIFECYCLE, ENV) as found:
        yield found


def told(ledger: Beside, order_id: str, *statuses: str, ended: int = NOW - HOUR, kind: int = CHANGED) -> None:
    """Let telemetry tell *order_id*'s way, an hour a step, up to *ended*."""
    steps = enumerate(reversed(statuses))
    ledger.batch.ingest(
        [
            Received(order_id, event(to, ended - place * HOUR, id=f"{order_id}{to}".encode(), kind=kind))
            for place, to in steps
        ]
    )


def row(order_id: Any, status: Any, entered_at: Any, line: int = 2) -> Row:
    return Row(line, {"id": order_id, "status": status, "entered_at": str(entered_at)})


def compared(ledger: Beside, *rows: Row, columns: Columns = COLUMNS, dry_run: bool = False, taken: int = NOW) -> Report:
    return reconcile(rows, columns, ledger, Times(taken, NOW), dry_run=dry_run)


def status_of(ledger: Beside, order_id: str) -> tuple[str | None, int]:
    order = audit.orders(ledger.store)[order_id]
    return order.fold.status, order.fold.entered_at


def test_an_order_that_telemetry_told_agrees_and_nothing_is_posted(ledger: Beside) -> None:
    told(ledger, "A-1", "INITIATED", "FILE_UPLOADED")
    report = compared(ledger, row("A-1", "FILE_UPLOADED", NOW - HOUR))
    assert (report.counts, report.posted, report.coverage) == ({"agree": 1}, 0, 100)


def test_an_order_that_telemetry_never_saw_is_silent_and_becomes_known(ledger: Beside) -> None:
    report = compared(ledger, row("A-1", "SUBMITTED", NOW - 200 * DAY))
    assert (report.counts, report.posted, report.coverage) == ({"silent": 1}, 1, 0)
    assert report.stuck == {"SUBMITTED": 1}
    assert status_of(ledger, "A-1") == ("SUBMITTED", NOW - 200 * DAY)
    ledger.batch.sweep(NOW)
    assert ledger.store.totals()[names.STUCK, "SUBMITTED"] == 1
    assert ledger.store.seen() == []


def test_what_a_snapshot_told_is_not_counted_as_telemetrys_and_not_told_again(ledger: Beside) -> None:
    told(ledger, "A-2", "INITIATED")
    rows = [row("A-1", "SUBMITTED", NOW - DAY), row("A-2", "FILE_UPLOADED", NOW - HOUR // 2)]
    compared(ledger, *rows)
    again = compared(ledger, *rows)
    assert (again.counts, again.posted, again.coverage) == ({"silent": 1, "lost": 1}, 0, 0)


def test_an_order_with_another_status_was_lost_on_its_way_and_moves(ledger: Beside) -> None:
    told(ledger, "A-1", "INITIATED", "FILE_UPLOADED")
    report = compared(ledger, row("A-1", "SUBMITTED", NOW - HOUR // 2))
    assert (report.counts, report.posted) == ({"lost": 1}, 1)
    assert status_of(ledger, "A-1") == ("SUBMITTED", NOW - HOUR // 2)
    assert [(one.ledger, one.source) for one in report.examples["lost"]] == [("FILE_UPLOADED", "SUBMITTED")]
    events = {order_id: order.events for order_id, order in audit.orders(ledger.store).items()}
    assert events["A-1"][-1].kind == OBSERVED
    audit.check(ledger.store, events, PLAN)


def test_a_source_whose_times_are_before_the_ledgers_is_believed_as_of_the_snapshot(ledger: Beside) -> None:
    told(ledger, "A-1", "INITIATED", ended=NOW - HOUR)
    compared(ledger, row("A-1", "SUBMITTED", NOW - 3 * HOUR), taken=NOW - 1)
    assert status_of(ledger, "A-1") == ("SUBMITTED", NOW - 1)


def test_an_order_that_may_have_gone_back_since_the_snapshot_is_never_moved(ledger: Beside) -> None:
    told(ledger, "A-1", "PRICE_REJECTED", "FILE_UPLOADED", ended=NOW - HOUR)
    report = compared(ledger, row("A-1", "SUBMITTED", NOW - 3 * HOUR))
    assert (report.counts, report.posted) == ({"ahead": 1}, 0)


def test_an_order_that_went_on_after_the_snapshot_is_ahead_and_stays_there(ledger: Beside) -> None:
    told(ledger, "A-1", "INITIATED", "FILE_UPLOADED", "SUBMITTED")
    told(ledger, "A-2", "SUBMITTED", "FILE_UPLOADED", ended=NOW)  # back again, after the snapshot
    rows = [row("A-1", "FILE_UPLOADED", NOW - 2 * HOUR), row("A-2", "SUBMITTED", NOW - HOUR)]
    report = compared(ledger, *rows, taken=NOW - 1)
    assert (report.counts, report.posted, report.coverage) == ({"ahead": 2}, 0, 100)
    assert status_of(ledger, "A-1")[0] == "SUBMITTED"


def test_an_open_order_that_the_source_no_longer_has_is_gone_unless_it_is_newer(ledger: Beside) -> None:
    told(ledger, "open", "INITIATED")
    told(ledger, "newer", "INITIATED", ended=NOW)
    told(ledger, "ended", "INITIATED", "CANCELLED")
    told(ledger, "A-1", "INITIATED")
    report = compared(ledger, row("A-1", "INITIATED", NOW - HOUR), taken=NOW - 1)
    assert (report.counts, report.posted, report.coverage) == ({"agree": 1, "gone": 1}, 0, 50)
    assert [one.order_id for one in report.examples["gone"]] == ["open"]


def test_a_dry_run_tells_the_same_and_changes_nothing(ledger: Beside) -> None:
    told(ledger, "A-1", "INITIATED")
    before = ledger.store.totals()
    report = compared(ledger, row("A-1", "SUBMITTED", NOW), row("A-2", "SUBMITTED", NOW), dry_run=True)
    assert (report.counts, report.posted) == ({"lost": 1, "silent": 1}, 2)
    assert ledger.store.totals() == before


def test_bad_rows_cost_only_themselves_and_are_named_by_line(ledger: Beside) -> None:
    rows = [
        row("A-1", "SUBMITTED", NOW, 2),
        Row(3, None),
        row("", "SUBMITTED", NOW, 4),
        row("A-2", "", NOW, 5),
        row("A-3", "SUBMITTED", "soon", 6),
        row("A-\x1b", "SUBMITTED", NOW, 7),
        row("A-4", "SUBMITTED", NOW + DAY, 8),
        row("A-1", "SUBMITTED", NOW, 9),
        row("A-\udcff", "SUBMITTED", NOW, 10),
        row("A-5", "SUBMITTED", NOW, 11),
    ]
    report = compared(ledger, *rows)
    assert [line for line, _ in report.bad] == [3, 4, 5, 6, 7, 8, 9, 10]
    reasons = {"undecodable": 1, "no_order_id": 1, "no_status": 1, "bad_time": 1, "bad_type": 2, "future": 1}
    assert report.reasons == reasons | {"listed_twice": 1}
    assert set(audit.orders(ledger.store)) == {"A-1", "A-5"}


def test_statuses_are_mapped_left_out_or_named_where_the_lifecycle_has_them_not(ledger: Beside) -> None:
    columns = Columns("id", "status", "entered_at", Moments(), {"neu": "INITIATED", "Archiv": None})
    rows = [row("A-1", "neu", NOW), row("A-2", "Archiv", NOW), row("A-3", "Prüfung", NOW)]
    report = compared(ledger, *rows, columns=columns)
    assert report.counts == {"silent": 2}
    assert report.unknown == {"Prüfung": 1}
    assert status_of(ledger, "A-1")[0] == "INITIATED"


@pytest.mark.parametrize("kept", [7 * DAY, 90 * DAY])
def test_who_has_waited_for_longer_than_ended_orders_are_kept_is_found_and_stays(ledger: Beside, kept: int) -> None:
    short = ledger._replace(plan=Plan(LIFECYCLE, Retention(kept, kept)))
    short = short._replace(batch=Batch(short.store, short.plan))
    report = compared(short, row("A-1", "SUBMITTED", NOW - 365 * DAY))
    assert (report.counts, report.posted, report.stuck) == ({"silent": 1}, 1, {"SUBMITTED": 1})
    for later in (NOW, NOW + 365 * DAY):
        short.batch.sweep(later)
        assert status_of(ledger, "A-1") == ("SUBMITTED", NOW - 365 * DAY)


def test_what_ended_longer_ago_than_orders_are_kept_says_nothing_and_is_not_told(ledger: Beside) -> None:
    told(ledger, "A-2", "INITIATED")
    rows = [row("A-1", "CANCELLED", NOW - 365 * DAY), row("A-2", "INITIATED", NOW - HOUR)]
    report = compared(ledger, *rows, row("A-3", "CANCELLED", NOW - 80 * DAY))
    assert (report.counts, report.removed, report.posted) == ({"agree": 1, "silent": 1}, 1, 1)
    assert set(audit.orders(ledger.store)) == {"A-2", "A-3"}


def test_a_row_of_the_ledger_that_cannot_be_read_is_named_and_costs_only_itself(ledger: Beside) -> None:
    for order_id in ("A-1", "A-2", "A-3"):
        told(ledger, order_id, "INITIATED")
    spoil(ledger.store, "A-2", b"\xff")
    report = compared(ledger, *(row(order_id, "INITIATED", NOW - HOUR) for order_id in ("A-1", "A-2", "A-3")))
    assert (report.counts, report.unreadable, report.posted) == ({"agree": 2}, ["A-2"], 0)


def test_a_time_before_1970_is_refused(ledger: Beside) -> None:
    report = compared(ledger, row("A-1", "INITIATED", "1969-12-31T00:00:00Z"))
    assert (report.bad, report.counts) == ([(2, "bad_time")], {})
    assert audit.orders(ledger.store) == {}


def test_each_night_the_same_ended_orders_count_once_and_leave_the_coverage_alone(ledger: Beside) -> None:
    """Told by telemetry and removed, told by a snapshot, imported: none of them is counted again."""
    short = Plan(LIFECYCLE, Retention(DAY, DAY))
    ledger = ledger._replace(plan=short, batch=Batch(ledger.store, short))
    told(ledger, "removed", "INITIATED", "CANCELLED", ended=NOW - 3 * DAY)
    told(ledger, "open", "INITIATED")
    ledger.batch.sweep(NOW)
    assert set(audit.orders(ledger.store)) == {"open"}
    rows = [row("removed", "CANCELLED", NOW - 3 * DAY), row("old", "CANCELLED", NOW - 200 * DAY)]
    rows += [row("recent", "CANCELLED", NOW - DAY // 2), row("open", "INITIATED", NOW - HOUR)]
    first = compared(ledger, *rows)
    assert (first.counts, first.removed, first.posted) == ({"agree": 1, "silent": 1}, 2, 1)
    counted = ledger.store.totals()
    for later in (HOUR, DAY, 40 * DAY):
        ledger.batch.sweep(NOW + later)
        again = reconcile(rows, COLUMNS, ledger, Times(NOW + later, NOW + later))
        assert again.posted == 0
        assert ledger.store.totals()[names.REACHED, "CANCELLED"] == counted[names.REACHED, "CANCELLED"] == 2
    assert (again.counts, again.removed, again.coverage) == ({"agree": 1}, 3, 100)


def test_an_order_that_was_removed_under_a_shorter_retention_is_not_told_again(ledger: Beside) -> None:
    short = Plan(LIFECYCLE, Retention(DAY, DAY))
    told(ledger, "A-1", "INITIATED", "CANCELLED", ended=NOW - 3 * DAY)
    before = Batch(ledger.store, short)
    before.rebase()
    before.sweep(NOW)
    ledger.batch.rebase()
    report = compared(ledger, row("A-1", "CANCELLED", NOW - 3 * DAY))
    assert (report.counts, report.removed, report.posted) == ({}, 1, 0)


def test_an_old_end_that_telemetry_lost_is_told_all_the_same(ledger: Beside) -> None:
    told(ledger, "A-1", "INITIATED", ended=NOW - 200 * DAY)
    report = compared(ledger, row("A-1", "CANCELLED", NOW - 190 * DAY))
    assert (report.counts, report.removed, report.posted) == ({"lost": 1}, 0, 1)
    ledger.batch.sweep(time.time_ns())
    again = compared(ledger, row("A-1", "CANCELLED", NOW - 190 * DAY))
    assert (again.counts, again.removed, again.posted) == ({}, 1, 0)
    assert status_of(ledger, "A-1") == ("CANCELLED", NOW - 190 * DAY)


@pytest.mark.parametrize(("taken", "says"), [(NOW + HOUR, "in 1 h from now"), (NOW - 91 * DAY, "91 d ago")])
def test_a_snapshot_of_a_time_that_cannot_be_is_refused_whole(ledger: Beside, taken: int, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        compared(ledger, row("A-1", "SUBMITTED", NOW - HOUR), taken=taken)
    assert audit.orders(ledger.store) == {}


def test_no_orders_at_all_have_no_coverage(ledger: Beside) -> None:
    assert compared(ledger).coverage is None


def test_the_orders_of_each_kind_that_are_named_are_few(ledger: Beside) -> None:
    report = compared(ledger, *(row(f"A-{place}", "SUBMITTED", NOW) for place in range(3 * NAMED)))
    assert report.counts == {"silent": 3 * NAMED}
    assert len(report.examples["silent"]) == NAMED
    assert len(audit.orders(ledger.store)) == 3 * NAMED


@pytest.mark.slow
def test_a_snapshot_of_any_size_takes_little_memory(tmp_path: Path) -> None:
    def rows() -> Iterable[Row]:
        return (row(f"order-{place:020}", "SUBMITTED", NOW) for place in range(60_000))

    with opened(tmp_path) as ledger:
        tracemalloc.start()
        try:
            report = reconcile(rows(), COLUMNS, ledger, Times(NOW, NOW), dry_run=True)
            assert tracemalloc.get_traced_memory()[1] < 4_000_000
        finally:
            tracemalloc.stop()
    assert report.counts == {"silent": 60_000}
